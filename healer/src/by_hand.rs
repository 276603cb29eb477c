//! "Heal now": the owner's explicit word for one attempt on each container that needs it. Pure.
//!
//! It overrules what otherwise holds the healer back: delay, budget, brake, pause, silence, mode and the care for databases. It
//! overrules nothing that keeps an attempt honest: evidence and intent come first, one restart at a time, the stack itself is never
//! touched, and whether it helped is judged as always.

use std::collections::BTreeSet;

use jiff::SignedDuration;
use nexus_docker::Status;
use nexus_model::{Now, Refusal};
use serde::{Deserialize, Serialize};

use crate::{
    case::Case,
    decide::{self, Admission, Decision},
    dependencies::Needed,
    facts::{Condition, ContainerFacts, Facts, condition},
};

/// The name under which it stands in an incident that begins with it.
pub const ALERT: &str = "HealNow";

/// Within which it must have begun. A word that could not be followed at once must not restart something hours later.
const LASTS: SignedDuration = SignedDuration::from_mins(10);

/// What was asked for and is not done yet; kept with the incident.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ByHand {
    pub asked: Now,
    pub force: bool,
    /// Ids of the containers that are still to be restarted.
    pub containers: BTreeSet<String>,
}

/// Why the owner's word is not followed.
#[derive(Clone, Debug, PartialEq)]
pub struct Denied {
    pub why: Refusal,
    /// For people.
    pub sentence: String,
}

/// Whether an attempt may be made, and on which containers: as an incident would begin with them.
pub fn grant(facts: &Facts, case: Option<&Case>, force: bool) -> Result<Admission, Denied> {
    let denied = |why: Refusal, sentence: &str| Err(Denied { why, sentence: sentence.to_owned() });
    if !facts.docker_up {
        return denied(Refusal::DockerUnavailable, "docker does not answer, so nothing can be restarted");
    }
    if facts.own_stack {
        return denied(Refusal::OwnStack, "it is part of Nexus itself: Docker's restart policy looks after it");
    }
    if facts.containers.is_empty() {
        return denied(Refusal::Gone, "it has no container any more");
    }
    if facts.act_under_way || case.is_some_and(|case| case.open_attempt().is_some()) {
        return denied(Refusal::Verifying, "a restart of it is under way or being judged: wait for its outcome");
    }
    let conditions = facts.containers.iter().map(|seen| (seen, condition(seen, case)));
    let ill: Vec<(&ContainerFacts, String)> = conditions
        .filter_map(|(seen, condition)| match condition {
            Condition::Ill(problem) => Some((seen, problem)),
            _ => None,
        })
        .collect();
    if !force {
        if ill.is_empty() {
            let why = decide::why_not(facts, case);
            let never_started =
                |seen: &ContainerFacts| seen.container.status == Status::Created && seen.container.started_at.is_none();
            let words = match why {
                Refusal::Starting if facts.containers.iter().any(never_started) => "it was created and not started yet",
                why => why.words(),
            };
            let sentence = format!("there is nothing to heal: {words}; --force restarts it all the same");
            return Err(Denied { why, sentence });
        }
        if let Some(Needed { key, problem, why, .. }) = known_obstacle(facts) {
            let sentence = format!("it needs {key}, which is not well ({problem}): heal {key} first, or add --force");
            return Err(Denied { why: *why, sentence });
        }
    }
    let (chosen, problem): (Vec<&ContainerFacts>, String) = match ill.first() {
        Some((_, problem)) => (ill.iter().map(|(seen, _)| *seen).collect(), problem.clone()),
        None => {
            let all = facts.containers.iter().filter(|seen| !seen.container.is_one_off() && can_restart(seen));
            (all.collect(), "restarted by hand although it was not ill".to_owned())
        }
    };
    match chosen.first() {
        Some(first) => Ok(Admission {
            container: first.container.clone(),
            ill: chosen.iter().map(|seen| seen.container.id.clone()).collect(),
            problem,
            mode: facts.mode.mode,
            follows: None,
            ended_by_docker: first.was_ended_by_docker(),
        }),
        None => {
            let why = decide::why_not(facts, case);
            Err(Denied { why, sentence: format!("nothing of it can be restarted now: {}", why.words()) })
        }
    }
}

/// What comes next while something that was asked for is not done. `None`: nothing was.
pub fn next(case: &Case, facts: &Facts, now: &Now) -> Option<Decision> {
    let by_hand = case.memory.by_hand.as_ref()?;
    let lapse = |detail: &str| Some(Decision::Lapse { detail: detail.to_owned() });
    let left = LASTS - now.since(&by_hand.asked);
    if left <= SignedDuration::ZERO {
        return lapse("it could not be done in time, and is not done any more");
    }
    let wait = |why: Refusal| Some(Decision::Wait { why, until: Some(now.after(left)) });
    if facts.own_stack {
        return lapse("it is part of Nexus itself");
    }
    let Some(seen) = facts.containers.iter().find(|seen| by_hand.containers.contains(&seen.container.id)) else {
        return lapse("its container is gone or was recreated");
    };
    if !by_hand.force && condition(seen, Some(case)) == Condition::Well {
        return lapse("it is well without it");
    }
    if let Some(needed) = known_obstacle(facts).filter(|_| !by_hand.force) {
        return wait(needed.why);
    }
    if !can_restart(seen) {
        return wait(decide::why_not(facts, Some(case)));
    }
    if facts.host.restart_under_way {
        return wait(Refusal::HostLimit);
    }
    if !facts.journal_writable {
        return Some(Decision::Wait {
            why: Refusal::JournalUnavailable,
            until: Some(now.after(decide::JOURNAL_RETRY)),
        });
    }
    Some(Decision::Restart { container_id: seen.container.id.clone() })
}

/// Something that it needs and that is known not to be well; what is only doubted does not stand against the owner's word.
fn known_obstacle(facts: &Facts) -> Option<&Needed> {
    facts.needed.iter().find(|needed| needed.why != Refusal::DependencyDoubtful)
}

/// What Docker would refuse, or what is being dealt with by somebody else.
fn can_restart(seen: &ContainerFacts) -> bool {
    !matches!(seen.container.status, Status::Paused | Status::Restarting | Status::Removing)
}

#[cfg(test)]
mod tests {
    use nexus_docker::{Health, StopCause};
    use nexus_model::Mode;

    use super::*;
    use crate::{
        decide::decide,
        testing::{at, attempt, case, container, exited, key, permitted, seen},
        transition,
    };

    fn well() -> Facts {
        let mut container = container();
        container.health = Health::Healthy;
        Facts { containers: vec![seen(container)], ..permitted() }
    }

    fn needing() -> Facts {
        let needed = Needed {
            is_only_watched: false,
            key: nexus_model::ServiceKey::new("shop", "db"),
            problem: "stopped".into(),
            why: Refusal::DependencyDown,
            settles_within: SignedDuration::ZERO,
        };
        Facts { needed: vec![needed], ..permitted() }
    }

    fn asked(force: bool, facts: &Facts) -> Case {
        let found = grant(facts, None, force).unwrap();
        let opened = transition::open("pi", &key(), (ALERT, at(0).wall), found.clone(), Default::default(), &at(0));
        transition::heal_now(&opened.case, &found.ill, force, &at(0)).case
    }

    #[test]
    fn each_denial_has_its_reason_and_force_overrules_some() {
        let check = |facts: &Facts, case: Option<&Case>, expected: Option<Refusal>, forced: Option<Refusal>| {
            for (force, expected) in [(false, expected), (true, forced)] {
                let found = grant(facts, case, force).err().map(|denied| denied.why);
                assert_eq!(found, expected, "force {force}: {facts:?}");
            }
        };
        check(&permitted(), None, None, None);
        let never = |facts: Facts, why| check(&facts, None, Some(why), Some(why));
        never(Facts { docker_up: false, ..permitted() }, Refusal::DockerUnavailable);
        never(Facts { own_stack: true, ..permitted() }, Refusal::OwnStack);
        never(Facts { containers: Vec::new(), ..permitted() }, Refusal::Gone);
        never(Facts { act_under_way: true, ..permitted() }, Refusal::Verifying);
        let mut judged = case();
        judged.attempts.push(attempt(1, "c1", at(0)));
        check(&permitted(), Some(&judged), Some(Refusal::Verifying), Some(Refusal::Verifying));
        check(&well(), None, Some(Refusal::AlreadyWell), None);
        check(&needing(), None, Some(Refusal::DependencyDown), None);
        let mut stopped = seen(exited(0));
        stopped.stop = StopCause::Requested { at: at(0).wall };
        let stopped = Facts { containers: vec![stopped], ..permitted() };
        check(&stopped, None, Some(Refusal::StoppedByHuman), None);
        let mut paused = container();
        paused.status = Status::Paused;
        never(Facts { containers: vec![seen(paused)], ..permitted() }, Refusal::Paused);
        // What holds the healer back on its own does not hold back its owner.
        for mode in [Mode::Shadow, Mode::Off] {
            let mut facts = permitted();
            facts.mode.mode = mode;
            facts.mode.protected = (mode == Mode::Shadow).then_some(Refusal::ProtectedImage);
            check(&facts, None, None, None);
        }
    }

    #[test]
    fn one_attempt_is_made_whatever_holds_the_healer_back_itself() {
        let check = |change: &dyn Fn(&mut Facts, &mut Case)| {
            let (mut facts, mut case) = (permitted(), asked(false, &permitted()));
            change(&mut facts, &mut case);
            let restart = Decision::Restart { container_id: "c1".into() };
            assert_eq!(decide(&case, &facts, &at(1)), restart, "{facts:?}");
            // The word is used up by the intent.
            let intended = transition::intend(
                crate::act::Deed::Restart,
                &case,
                &container(),
                SignedDuration::from_secs(10),
                &at(1),
            );
            assert_eq!(intended.case.memory.by_hand, None);
            assert!(intended.events[0].detail.ends_with("by hand"), "{:?}", intended.events);
        };
        check(&|_, _| ());
        check(&|facts, _| facts.silenced = true);
        check(&|facts, _| facts.paused_until = Some(at(900)));
        check(&|facts, _| facts.host.recent_restarts = 1000);
        check(&|facts, _| facts.mode.mode = Mode::Shadow);
        check(&|facts, _| facts.mode.mode = Mode::Off);
        check(&|_, case| {
            case.incident.state = nexus_model::IncidentState::GaveUp;
            case.memory.carried.insert("c1".into(), 99);
        });
    }

    #[test]
    fn what_keeps_an_attempt_honest_is_waited_for_and_not_for_ever() {
        let case = asked(false, &permitted());
        let check = |facts: Facts, seconds: i64, why: Refusal| {
            let found = decide(&case, &facts, &at(seconds));
            assert!(matches!(&found, Decision::Wait { why: found, until: Some(_) } if *found == why), "{found:?}");
        };
        let mut busy = permitted();
        busy.host.restart_under_way = true;
        check(busy.clone(), 1, Refusal::HostLimit);
        check(Facts { journal_writable: false, ..permitted() }, 1, Refusal::JournalUnavailable);
        check(needing(), 1, Refusal::DependencyDown);
        assert!(matches!(decide(&case, &busy, &at(600)), Decision::Lapse { .. }));
        assert!(matches!(decide(&case, &well(), &at(1)), Decision::Lapse { .. }));
        let gone =
            Facts { containers: vec![seen(nexus_docker::Container { id: "c9".into(), ..container() })], ..permitted() };
        let lapsed = decide(&case, &gone, &at(1));
        let after = transition::apply(&case, &lapsed, &gone, &gone.healing, &at(1), 0.5).unwrap();
        assert_eq!((after.case.memory.by_hand, after.events[0].kind.as_str()), (None, "heal_now_over"));
    }

    #[test]
    fn forced_it_restarts_what_is_well_and_what_somebody_stopped() {
        let case = asked(true, &well());
        assert_eq!(decide(&case, &well(), &at(1)), Decision::Restart { container_id: "c1".into() });
        assert_eq!(case.incident.problem, "restarted by hand although it was not ill");
    }

    #[test]
    fn what_was_created_and_never_started_is_not_called_starting_for_ever() {
        let mut created = container();
        (created.status, created.health, created.started_at) = (Status::Created, Health::None, None);
        let denied = grant(&Facts { containers: vec![seen(created)], ..permitted() }, None, false).unwrap_err();
        assert_eq!(denied.why, Refusal::Starting);
        assert!(denied.sentence.contains("it was created and not started yet"), "{}", denied.sentence);
    }

    #[test]
    fn each_ill_replica_has_its_attempt() {
        let replica = |id: &str| seen(nexus_docker::Container { id: id.into(), ..container() });
        let facts = Facts { containers: vec![replica("c1"), replica("c2")], ..permitted() };
        let case = asked(false, &facts);
        let first =
            transition::intend(crate::act::Deed::Restart, &case, &container(), SignedDuration::from_secs(10), &at(1))
                .case;
        assert_eq!(first.memory.by_hand.unwrap().containers, ["c2".to_owned()].into());
    }

    #[test]
    fn an_attempt_by_hand_that_did_not_help_leaves_a_watched_service_watched() {
        let mut facts = permitted();
        facts.mode.mode = Mode::Shadow;
        let case = asked(false, &facts);
        let intended =
            transition::intend(crate::act::Deed::Restart, &case, &container(), SignedDuration::from_secs(10), &at(1))
                .case;
        let ended =
            Decision::AttemptEnded { outcome: nexus_model::AttemptOutcome::DidNotHelp, detail: "unhealthy".into() };
        let after = transition::apply(&intended, &ended, &facts, &facts.healing, &at(9), 0.5).unwrap().case;
        assert_eq!(after.incident.state, nexus_model::IncidentState::Watching);
        assert_eq!(after.incident.next_attempt_at, None);
    }
}
