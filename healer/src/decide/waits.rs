//! What a restart waits for, though its service is ill: a cause is healed before its symptoms, and what is on its way is let be. Pure.

use jiff::SignedDuration;
use nexus_docker::Status;
use nexus_model::{Now, Refusal};

use super::{Decision, Service};
use crate::{
    case::Case,
    dependencies::Needed,
    facts::{ContainerFacts, Facts},
    policy::Healing,
    verify,
};

/// When to look again at a service whose last probe failed, though it is still called healthy.
const DOUBT_RETRY: SignedDuration = SignedDuration::from_secs(2);

/// How much longer a start may take while the log says that it goes on: a database reads its journal, a program migrates.
const PATIENCE_WITH_WORDS: i32 = 5;

/// Within which a service follows by itself once what it needs is well again: a probe of its own must have passed.
const FOLLOWS_WITHIN: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(2), SignedDuration::from_mins(1));

/// What to do before a restart makes sense: a cause is healed before its symptoms. `None`: nothing.
pub(super) fn wait_for_others(case: &Case, facts: &Facts, service: &Service<'_>, now: &Now) -> Option<Decision> {
    let is_doubtful = |needed: &&Needed| needed.why == Refusal::DependencyDoubtful;
    if let Some(Needed { key, problem, why, .. }) = facts.needed.iter().find(|needed| !is_doubtful(needed)) {
        return Some(Decision::Block { by: key.clone(), why: *why, detail: format!("waits for {key}: {problem}") });
    }
    // What is only doubted is known at the last look before a restart and at no other time.
    let doubted_for = case.memory.doubted.as_ref().map_or(SignedDuration::ZERO, |since| now.since(since));
    // A probe that fails now and then must not hold up others for ever.
    let still = |needed: &Needed| is_doubtful(&needed) && doubted_for < needed.settles_within;
    if facts.needed.iter().any(still) {
        return Some(Decision::Wait { why: Refusal::DependencyDoubtful, until: Some(now.after(DOUBT_RETRY)) });
    }
    if case.memory.blocked_by.is_some() {
        return Some(Decision::Unblock);
    }
    let unblocked = case.memory.unblocked.as_ref()?;
    // Most programs find their way back by themselves. One that has ended does not.
    let runs = |seen: &&(&ContainerFacts, String)| seen.0.container.status == Status::Running;
    let check = service.ill.iter().find(runs)?.0.container.healthcheck?;
    let (least, most) = FOLLOWS_WITHIN;
    let granted = check.interval.saturating_add(check.timeout).clamp(least, most);
    let left = granted - now.since(unblocked);
    (left > SignedDuration::ZERO)
        .then(|| Decision::Wait { why: Refusal::DependencyRecovered, until: Some(now.after(left)) })
}

/// Whether what a container says in its log can hold a restart back.
pub fn its_log_decides(seen: &ContainerFacts, healing: &Healing, now: &Now) -> bool {
    let patience = healing.start_patience.saturating_mul(PATIENCE_WITH_WORDS);
    verify::may_be_starting_until(seen, patience, now).is_some()
}

/// A container that has not been healthy since it was started may be on its way: a restart would begin it all over again.
pub(super) fn wait_for_the_start(facts: &Facts, id: &str, healing: &Healing, now: &Now) -> Option<Decision> {
    let patience = match facts.says_it_is_starting {
        true => healing.start_patience.saturating_mul(PATIENCE_WITH_WORDS),
        false => healing.start_patience,
    };
    let until = verify::may_be_starting_until(facts.container(id)?, patience, now)?;
    Some(Decision::Wait { why: Refusal::Starting, until: Some(until) })
}
