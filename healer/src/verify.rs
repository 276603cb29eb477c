//! Whether a restart helped. Judged by the container's start time and Docker's word on its health, never by an alert
//! that went away.

use jiff::SignedDuration;
use nexus_docker::{Container, Health, Status, StopCause};
use nexus_model::Now;

use crate::{
    case::Try,
    facts::{self, ContainerFacts},
    policy::Healing,
};

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Too early to say; at the latest at this moment it is not.
    Pending {
        until: Option<Now>,
    },
    /// Running since our restart, and healthy where it has a health check.
    Well,
    DidNotHelp(String),
    /// Somebody stopped or paused it, or restarted the machine: no verdict on the restart.
    Stopped(String),
    Gone,
}

/// Time that a container may take to become well after it was started. Docker counts failed probes from the end of the start
/// period on. One that began before may run into its time-out first, and so may each that counts, an interval apart.
pub fn allowance(container: &Container, healing: &Healing) -> SignedDuration {
    let checks = container.healthcheck.map_or(SignedDuration::ZERO, |check| {
        let round = check.interval.saturating_add(check.timeout);
        let rounds = round.saturating_mul(i32::try_from(check.retries).unwrap_or(i32::MAX));
        check.start_period.saturating_add(check.timeout).saturating_add(rounds)
    });
    checks.saturating_add(healing.verify_margin)
}

/// By when a container that runs and has not been healthy yet may be called ill. `None`: now.
pub fn may_be_starting_until(seen: &ContainerFacts, patience: SignedDuration, now: &Now) -> Option<Now> {
    let container = &*seen.container;
    if container.status != Status::Running || container.health != Health::Unhealthy || seen.has_been_healthy {
        return None;
    }
    // A start in the future was told by a clock that has been set back since.
    let age = now.wall.duration_since(container.started_at?).max(SignedDuration::ZERO);
    (age < patience).then(|| now.after(patience - age))
}

/// `attempt` is one whose container is known to have started anew.
pub fn judge(attempt: &Try, seen: Option<&ContainerFacts>, healing: &Healing, now: &Now) -> Verdict {
    let Some(seen) = seen else { return Verdict::Gone };
    let container = &*seen.container;
    let deadline = attempt.memory.deadline.as_ref();
    let late = deadline.is_some_and(|deadline| now.until(deadline) == SignedDuration::ZERO);
    if container.started_at == attempt.attempt.started_at_before {
        // The watcher has not caught up with the restart yet.
        return if late {
            Verdict::DidNotHelp("docker still shows the run from before the restart".into())
        } else {
            Verdict::Pending { until: deadline.cloned() }
        };
    }
    if container.started_at != attempt.attempt.started_at_after && attempt.memory.intended.boot_id != now.boot_id {
        return Verdict::Stopped("the machine was restarted meanwhile".into());
    }
    if container.started_at != attempt.attempt.started_at_after {
        let again = container.started_at.map_or_else(String::new, |at| format!(" at {}", at.strftime("%H:%M:%S")));
        return Verdict::DidNotHelp(format!("it was started once more{again}, so it did not stay up"));
    }
    match container.status {
        Status::Running => match container.health {
            Health::None | Health::Healthy => Verdict::Well,
            Health::Unhealthy => match may_be_starting_until(seen, healing.start_patience, now) {
                Some(until) => Verdict::Pending { until: Some(until) },
                None => Verdict::DidNotHelp(facts::problem(container)),
            },
            Health::Starting if late => Verdict::DidNotHelp("it did not become healthy in time".into()),
            Health::Starting => Verdict::Pending { until: deadline.cloned() },
        },
        Status::Created => Verdict::Pending { until: deadline.cloned() },
        Status::Paused => Verdict::Stopped("somebody paused it".into()),
        Status::Removing => Verdict::Gone,
        Status::Restarting => Verdict::DidNotHelp(format!(
            "it exited with code {} and docker's restart policy is at work",
            container.exit_code
        )),
        Status::Exited | Status::Dead => match seen.stop {
            StopCause::Requested { .. } => Verdict::Stopped("somebody stopped it".into()),
            StopCause::Itself | StopCause::Unknown => Verdict::DidNotHelp(facts::problem(container)),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_not_been_healthy_since_its_start_may_still_be_starting() {
        let check = |change: &dyn Fn(&mut ContainerFacts), seconds: i64, expected: Option<i64>| {
            let mut seen = ContainerFacts { has_been_healthy: false, ..seen(container()) };
            change(&mut seen);
            let until = may_be_starting_until(&seen, SignedDuration::from_secs(180), &at(seconds));
            assert_eq!(until, expected.map(at), "{seen:?}");
        };
        // Started at -100 s.
        check(&|_| (), 0, Some(80));
        check(&|_| (), 79, Some(80));
        check(&|_| (), 80, None);
        check(&|seen| seen.has_been_healthy = true, 0, None);
        check(&|seen| seen.container = exited(1).into(), 0, None);
        check(&|seen| seen.container = Container { health: Health::Healthy, ..container() }.into(), 0, None);
        check(&|seen| seen.container = Container { started_at: None, ..container() }.into(), 0, None);
        // The clock was set back by an hour: not for longer than from now on.
        check(&|seen| seen.container = Container { started_at: wall(3_600), ..container() }.into(), 0, Some(180));
        let mut young = seen(Container { started_at: wall(3), ..container() });
        young.has_been_healthy = false;
        let pending = Verdict::Pending { until: Some(at(183)) };
        assert_eq!(judge(&restarted(), Some(&young), &Healing::default(), &at(70)), pending);
        let late = judge(&restarted(), Some(&young), &Healing::default(), &at(183));
        assert_eq!(late, Verdict::DidNotHelp("unhealthy: 3 failed probes in a row".into()));
    }
    use crate::testing::{at, attempt, container, exited, seen, wall};

    /// A restart intended at 0 s that brought the container up at 3 s and gives it until 60 s.
    fn restarted() -> Try {
        let mut attempt = attempt(1, "c1", at(0));
        attempt.attempt.started_at_after = wall(3);
        attempt.memory.deadline = Some(at(60));
        attempt
    }

    fn check(change: impl FnOnce(&mut Container), seconds: i64, expected: Verdict) {
        let mut container = Container { started_at: wall(3), health: Health::Healthy, ..container() };
        change(&mut container);
        assert_eq!(judge(&restarted(), Some(&seen(container)), &Healing::default(), &at(seconds)), expected);
    }

    #[test]
    fn each_state_has_its_verdict() {
        let pending = || Verdict::Pending { until: Some(at(60)) };
        let failed = |text: &str| Verdict::DidNotHelp(text.into());
        check(|_| (), 5, Verdict::Well);
        check(|it| it.health = Health::None, 5, Verdict::Well);
        check(|it| it.health = Health::Starting, 5, pending());
        check(|it| it.health = Health::Starting, 60, failed("it did not become healthy in time"));
        check(|it| it.health = Health::Unhealthy, 5, failed("unhealthy: 3 failed probes in a row"));
        check(|it| it.started_at = wall(-100), 5, pending());
        check(|it| it.started_at = wall(-100), 61, failed("docker still shows the run from before the restart"));
        check(|it| it.status = Status::Paused, 5, Verdict::Stopped("somebody paused it".into()));
        check(|it| it.status = Status::Removing, 5, Verdict::Gone);
        let exits = |it: &mut Container| *it = Container { started_at: wall(3), ..exited(127) };
        check(exits, 5, failed("exited with code 127 (its command was not found)"));
        check(
            |it| it.status = Status::Restarting,
            5,
            failed("it exited with code 0 and docker's restart policy is at work"),
        );
        assert_eq!(judge(&restarted(), None, &Healing::default(), &at(5)), Verdict::Gone);
    }

    #[test]
    fn a_second_start_is_no_success() {
        let mut container = Container { started_at: wall(9), health: Health::Healthy, ..container() };
        container.failing_streak = 0;
        let verdict = judge(&restarted(), Some(&seen(container)), &Healing::default(), &at(20));
        assert!(matches!(verdict, Verdict::DidNotHelp(why) if why.contains("once more")));
    }

    #[test]
    fn a_restart_of_the_machine_is_no_verdict() {
        let container = Container { started_at: wall(900), health: Health::Healthy, ..container() };
        let rebooted = Now { boot_id: "another".into(), ..at(1000) };
        let verdict = judge(&restarted(), Some(&seen(container)), &Healing::default(), &rebooted);
        assert_eq!(verdict, Verdict::Stopped("the machine was restarted meanwhile".into()));
    }

    #[test]
    fn a_stop_after_our_restart_is_somebody_elses() {
        let container = Container { started_at: wall(3), ..exited(0) };
        let stopped = ContainerFacts {
            container: container.into(),
            stop: StopCause::Requested { at: at(9).wall },
            has_been_healthy: true,
            dead_network: None,
        };
        assert_eq!(
            judge(&restarted(), Some(&stopped), &Healing::default(), &at(10)),
            Verdict::Stopped("somebody stopped it".into())
        );
    }

    #[test]
    fn the_allowance_covers_the_health_check() {
        let healing = Healing::default();
        assert_eq!(allowance(&container(), &healing).as_secs(), 10 + 2 + 3 * (5 + 2) + 15);
        assert_eq!(allowance(&Container { healthcheck: None, ..container() }, &healing).as_secs(), 15);
    }
}
