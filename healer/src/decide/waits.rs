//! What a restart waits for, though its service is ill: a cause is healed before its symptoms, and what is on its way is let be. Pure.

use jiff::SignedDuration;
use nexus_docker::{Status, StopCause};
use nexus_model::{Now, Refusal};

use super::{Decision, RESTART_MARGIN, Service};
use crate::{
    act,
    case::Case,
    dependencies::Needed,
    facts::{ContainerFacts, Facts},
    policy::Healing,
    tell::word as shell_word,
    verify,
};

/// When to look again at a service whose last probe failed, though it is still called healthy.
const DOUBT_RETRY: SignedDuration = SignedDuration::from_secs(2);

/// When to look again whether a network is really gone for good.
const NETWORK_RETRY: SignedDuration = SignedDuration::from_secs(15);

/// How much longer a start may take while the log says that it goes on: a database reads its journal, a program migrates.
const PATIENCE_WITH_WORDS: i32 = 5;

/// Within which a service follows by itself once what it needs is well again: a probe of its own must have passed.
const FOLLOWS_WITHIN: (SignedDuration, SignedDuration) = (SignedDuration::from_secs(2), SignedDuration::from_mins(1));

/// For so long at least a signal that ends a process may be at work in one that runs on: `docker stop -t` grants what it likes, and
/// its events do not say what. A container that has survived for longer is restarted as any other that is ill.
const STOP_TAKES: SignedDuration = SignedDuration::from_mins(1);

/// What comes before any attempt, whichever container it would be made on: the owner's word, what the service needs, its network.
pub(super) fn comes_first(
    case: &Case,
    facts: &Facts,
    service: &Service<'_>,
    healing: &Healing,
    now: &Now,
) -> Option<Decision> {
    if let Some(until) = &facts.maintenance_until {
        return Some(Decision::Wait { why: Refusal::MaintenanceWindow, until: Some(until.clone()) });
    }
    if let Some(wait) = wait_for_others(case, facts, service, now) {
        return Some(wait);
    }
    if let Some(until) = &facts.paused_until {
        return Some(Decision::Wait { why: Refusal::HealingPaused, until: Some(until.clone()) });
    }
    if !facts.network_gone {
        return None;
    }
    // `docker compose up` takes the old one away first, and creates what lives in it anew when the new one is well.
    let gone_for = case.memory.network_gone.as_ref().map_or(SignedDuration::ZERO, |since| now.since(since));
    Some(if gone_for < healing.start_patience {
        Decision::Wait { why: Refusal::NetworkGone, until: Some(now.after(NETWORK_RETRY)) }
    } else {
        Decision::GiveUp { since: Some(network_gone(case)) }
    })
}

/// Why only a person can help a service whose network is gone, and how.
fn network_gone(case: &Case) -> String {
    let key = case.key();
    let command = format!("docker compose -p {} up -d {}", shell_word(&key.project), shell_word(&key.service));
    format!("it lives in the network of a container that is gone, and must be created anew: {command}")
}

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
    verify::may_be_starting_until(seen, patience, None, now).is_some()
}

/// A container that has not been healthy since it was started may be on its way: a restart would begin it all over again.
pub(super) fn wait_for_the_start(
    case: &Case,
    facts: &Facts,
    id: &str,
    healing: &Healing,
    now: &Now,
) -> Option<Decision> {
    let patience = match facts.says_it_is_starting {
        true => healing.start_patience.saturating_mul(PATIENCE_WITH_WORDS),
        false => healing.start_patience,
    };
    let seen = facts.container(id)?;
    let until = verify::may_be_starting_until(seen, patience, case.starting_since(&seen.container), now)?;
    Some(Decision::Wait { why: Refusal::Starting, until: Some(until) })
}

/// Somebody has asked it to stop, or to restart, and it has not ended yet: a restart of ours would bring it up again when it has.
pub(super) fn wait_for_the_stop(
    case: &Case,
    facts: &Facts,
    id: &str,
    healing: &Healing,
    now: &Now,
) -> Option<Decision> {
    let seen = facts.container(id)?;
    let StopCause::Requested { at } = seen.stop else { return None };
    // Docker stops first and refuses then: that signal was ours.
    let is_ours = case.attempts_on(id).any(|attempt| attempt.memory.was_under_way(at));
    if seen.container.status != Status::Running || is_ours {
        return None;
    }
    let granted = act::stop_timeout(&seen.container, healing).saturating_add(RESTART_MARGIN).max(STOP_TAKES);
    // A signal in the future was told by a clock that has been set back since.
    let passed = now.wall.duration_since(at).abs();
    (passed < granted)
        .then(|| Decision::Wait { why: Refusal::StoppedByHuman, until: Some(now.after(granted - passed)) })
}

#[cfg(test)]
mod tests {
    use nexus_docker::Container;
    use nexus_model::{AttemptOutcome, IncidentState, Mode, ServiceKey};

    use super::*;
    use crate::{
        decide::{Decision::Restart, decide},
        testing::{at, attempt, case, container, permitted, seen, wall},
        transition,
    };

    fn restart() -> Decision {
        Restart { container_id: "c1".into() }
    }

    /// Running and unhealthy, with a signal that ends it sent so many seconds after the beginning.
    fn asked_to_stop(seconds: i64) -> Facts {
        let mut facts = permitted();
        facts.containers[0].stop = StopCause::Requested { at: at(seconds).wall };
        facts
    }

    fn waits(seconds: i64) -> Decision {
        Decision::Wait { why: Refusal::StoppedByHuman, until: Some(at(seconds)) }
    }

    #[test]
    fn what_somebody_is_stopping_is_not_restarted() {
        assert_eq!(decide(&case(), &asked_to_stop(0), &at(2)), waits(60));
        assert_eq!(decide(&case(), &asked_to_stop(0), &at(59)), waits(60));
        // It has survived the signal.
        assert_eq!(decide(&case(), &asked_to_stop(0), &at(60)), restart());
        // Its own stop time-out is granted, and a margin.
        let mut slow = asked_to_stop(0);
        slow.healing.stop_timeout = SignedDuration::from_mins(2);
        assert_eq!(decide(&case(), &slow, &at(60)), waits(140));
        // Nor is it said that it would have been.
        let mut watched = case();
        watched.incident.mode = Mode::Shadow;
        let mut facts = asked_to_stop(0);
        facts.mode.mode = Mode::Shadow;
        assert_eq!(decide(&watched, &facts, &at(2)), waits(60));
    }

    #[test]
    fn a_signal_of_a_restart_of_ours_that_docker_refused_is_nobodys_stop() {
        let mut case = case();
        let mut refused = attempt(1, "c1", at(0));
        refused.attempt.outcome = Some(AttemptOutcome::Failed);
        refused.attempt.finished_at = wall(3);
        refused.memory.finished = Some(at(3));
        refused.memory.retry = Some(at(10));
        case.attempts.push(refused);
        assert_eq!(decide(&case, &asked_to_stop(1), &at(20)), restart());
        assert_eq!(decide(&case, &asked_to_stop(15), &at(20)), waits(75));
    }

    #[test]
    fn what_was_given_up_is_tried_as_anything_else_is_where_there_is_something_to_try() {
        let mut case = case();
        case.incident.state = IncidentState::GaveUp;
        case.memory.carried.insert("c1".into(), 6);
        let replica = Container { id: "c2".into(), name: "shop-web-2".into(), ..container() };
        let two = Facts { containers: vec![seen(container()), seen(replica)], ..permitted() };
        let check = |facts: Facts, expected: Decision| assert_eq!(decide(&case, &facts, &at(1)), expected, "{facts:?}");
        let until = |why| Decision::Wait { why, until: Some(at(600)) };
        let paused = |facts| Facts { paused_until: Some(at(600)), ..facts };
        check(two.clone(), Restart { container_id: "c2".into() });
        check(paused(two.clone()), until(Refusal::HealingPaused));
        check(Facts { maintenance_until: Some(at(600)), ..two.clone() }, until(Refusal::MaintenanceWindow));
        let needed = Needed {
            key: ServiceKey::new("shop", "db"),
            why: Refusal::DependencyDown,
            problem: "stopped".into(),
            settles_within: SignedDuration::ZERO,
            is_only_watched: false,
        };
        let blocked =
            Decision::Block { by: needed.key.clone(), why: needed.why, detail: "waits for shop/db: stopped".into() };
        check(Facts { needed: vec![needed], ..two.clone() }, blocked);
        let gone = Decision::Wait { why: Refusal::NetworkGone, until: Some(at(16)) };
        check(Facts { network_gone: true, ..two.clone() }, gone);
        // With nothing to try it says that it was given up, and waits for nobody.
        let spent = Decision::Wait { why: Refusal::BudgetSpent, until: None };
        check(paused(permitted()), spent.clone());
        let mut blocked = case.clone();
        blocked.memory.blocked_by = Some(ServiceKey::new("shop", "db"));
        let changed = transition::apply(&blocked, &spent, &permitted(), &permitted().healing, &at(1), 0.5);
        assert_eq!(changed.map(|changed| changed.case.memory.blocked_by), Some(None));
        // A larger budget does not come into force before the pause is over.
        let larger = Facts { healing: Healing { attempts: 10, ..Healing::default() }, ..permitted() };
        check(larger.clone(), restart());
        check(paused(larger), until(Refusal::HealingPaused));
    }

    /// Unhealthy, and not seen well since it was started.
    fn young(started: i64) -> Facts {
        let mut facts = permitted();
        let young = Container { started_at: wall(started), ..container() };
        facts.containers = vec![ContainerFacts { has_been_healthy: false, ..seen(young) }];
        facts
    }

    fn starting(seconds: i64) -> Decision {
        Decision::Wait { why: Refusal::Starting, until: Some(at(seconds)) }
    }

    #[test]
    fn a_clock_that_is_set_forward_after_a_boot_makes_no_start_old() {
        // Booted 70 s ago with a clock 8 h behind, started 60 s ago by that clock, and the clock was set right since.
        let now = Now { boottime: SignedDuration::from_secs(70), ..at(8 * 3_600 + 60) };
        let until = now.after(SignedDuration::from_secs(110));
        let waits = Decision::Wait { why: Refusal::Starting, until: Some(until) };
        assert_eq!(decide(&case(), &young(0), &now), waits);
        let later = Now { boottime: SignedDuration::from_secs(180), ..now };
        assert_eq!(decide(&case(), &young(0), &later), restart());
    }

    #[test]
    fn a_clock_that_is_set_back_makes_no_start_last_for_ever() {
        let facts = young(3_600);
        let first = decide(&case(), &facts, &at(0));
        assert_eq!(first, starting(180));
        let next = |case: &Case, decision: &Decision, facts: &Facts, seconds| {
            transition::apply(case, decision, facts, &facts.healing, &at(seconds), 0.5).map(|changed| changed.case)
        };
        let case = next(&case(), &first, &facts, 0).expect("a change");
        assert_eq!(decide(&case, &facts, &at(100)), starting(180));
        assert_eq!(next(&case, &starting(180), &facts, 100), None, "a wait costs no write of its own");
        assert_eq!(decide(&case, &facts, &at(180)), restart());
        // Another run has its own time.
        let again = young(3_700);
        assert_eq!(decide(&case, &again, &at(100)), starting(280));
        let case = next(&case, &starting(280), &again, 100).expect("a change");
        assert_eq!(decide(&case, &again, &at(279)), starting(280));
        assert_eq!(decide(&case, &again, &at(280)), restart());
    }
}
