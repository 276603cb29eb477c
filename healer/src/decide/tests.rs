//! Each guard from facts in which everything speaks for a restart, changing one of them.

mod a_start;
mod acting;
mod admission;
mod an_attempt;
mod another_trouble;
mod diagnosed;
mod paused;
mod replicas;
mod shadow;
mod waiting_for_others;

use nexus_docker::{Health, RestartPolicy, Status, StopCause};
use nexus_model::labels;

use super::*;
use crate::{
    case::Try,
    dependencies::Needed,
    policy::Policy,
    probe::Probe,
    testing::{at, attempt, case, container, exited, key, permitted, seen, wall},
    transition,
};

fn decide(case: &Case, facts: &Facts, policy: &Policy, now: &Now) -> Decision {
    super::decide(case, &Facts { healing: policy.healing.clone(), ..facts.clone() }, now)
}

fn wait(why: Refusal) -> Decision {
    Decision::Wait { why, until: None }
}

fn restart(id: &str) -> Decision {
    Decision::Restart { container_id: id.into() }
}

/// One container that is changed in one respect.
fn one(change: impl FnOnce(&mut Container)) -> Facts {
    let mut container = container();
    change(&mut container);
    Facts { containers: vec![seen(container)], ..permitted() }
}

fn well() -> Facts {
    one(|it| it.health = Health::Healthy)
}

fn stopped(code: i64, stop: StopCause) -> Facts {
    Facts { containers: vec![ContainerFacts { stop, ..seen(exited(code)) }], ..permitted() }
}

fn moded(mode: Mode) -> Facts {
    let mut facts = permitted();
    facts.mode.mode = mode;
    facts
}
