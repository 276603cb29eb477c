//! Whether a restart helped. Judged by the container's start time and Docker's word on its health, never by an alert
//! that went away.

use jiff::SignedDuration;
use nexus_docker::{Container, Health, Status, StopCause};
use nexus_model::Now;

use crate::{
    case::Try,
    facts::{self, ContainerFacts},
    policy::Healing,
    probe::Probe,
};

/// When to look again for the answer of a probe that is under way.
const ANSWERS_WITHIN: SignedDuration = SignedDuration::from_secs(5);

#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Too early to say; at the latest at this moment it is not.
    Pending {
        until: Option<Now>,
    },
    /// Running since our restart, and healthy where it has a health check.
    Well,
    DidNotHelp(String),
    /// Somebody stopped, paused or restarted it, or restarted the machine: no verdict on the restart.
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
///
/// `since` is a moment from which on the run is known to have lasted: it counts where the wall clock was set back since the start.
pub fn may_be_starting_until(
    seen: &ContainerFacts,
    patience: SignedDuration,
    since: Option<&Now>,
    now: &Now,
) -> Option<Now> {
    let container = &*seen.container;
    let has_never_been_well = match container.health {
        Health::Unhealthy => !seen.has_been_healthy,
        _ => matches!(seen.probe, Some(Probe::Failed { was_well: false, .. })),
    };
    if container.status != Status::Running || !has_never_been_well {
        return None;
    }
    let age = now.wall.duration_since(container.started_at?);
    let age = if age.is_negative() {
        // A start in the future was told by a clock that has been set back since.
        since.map_or(SignedDuration::ZERO, |since| now.since(since))
    } else {
        // What runs was started within this boot, wherever the wall clock stood then: that it is set right makes no start older.
        age.min(now.boottime)
    };
    (age < patience).then(|| now.after(patience - age))
}

/// `attempt` is one whose container is known to have started anew. Docker counts from nought again when it is asked to start or
/// restart one: whatever it counts since is its own work.
pub fn judge(attempt: &Try, seen: Option<&ContainerFacts>, healing: &Healing, now: &Now) -> Verdict {
    judge_counted(attempt, 0, seen, healing, now)
}

/// As [`judge`], of a run that began when Docker had counted so many restarts.
pub fn judge_counted(
    attempt: &Try,
    counted: i64,
    seen: Option<&ContainerFacts>,
    healing: &Healing,
    now: &Now,
) -> Verdict {
    let Some(seen) = seen else { return Verdict::Gone };
    let container = &*seen.container;
    let deadline = attempt.memory.deadline.as_ref();
    let late = deadline.is_some_and(|deadline| now.until(deadline) == SignedDuration::ZERO);
    // Docker had started it by then.
    let began = attempt.memory.intended.after(attempt.memory.stop_timeout);
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
    // The run that is judged may be the second already, where the first was over before anybody looked.
    let by_docker = match u64::try_from(container.restart_count.saturating_sub(counted)) {
        Ok(0) | Err(_) => String::new(),
        Ok(1) => "; docker's restart policy has started it once since".to_owned(),
        Ok(times) => format!("; docker's restart policy has started it {times} times since"),
    };
    if container.started_at != attempt.attempt.started_at_after {
        let again = container.started_at.map_or_else(String::new, |at| format!(" at {}", at.strftime("%H:%M:%S")));
        // Docker's own policy counts what it starts. Somebody else's start says nothing about ours.
        if by_docker.is_empty() {
            return Verdict::Stopped(format!("it was started anew{again}, and not by docker's restart policy"));
        }
        return Verdict::DidNotHelp(format!("it was started once more{again}, so it did not stay up{by_docker}"));
    }
    if !by_docker.is_empty() && container.status == Status::Running {
        return Verdict::DidNotHelp(format!(
            "it did not stay up: its last exit code is {}{by_docker}",
            container.exit_code
        ));
    }
    match container.status {
        Status::Running => match container.health {
            Health::None | Health::Healthy => by_probe(seen, deadline.filter(|_| !late), healing, &began, now),
            Health::Unhealthy => match may_be_starting_until(seen, healing.start_patience, Some(&began), now) {
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
        Status::Exited | Status::Dead if seen.stopped_for_room => {
            Verdict::Stopped("Nexus stopped it for want of memory or disk".into())
        }
        Status::Exited | Status::Dead => match seen.stop {
            StopCause::Requested { .. } => Verdict::Stopped("somebody stopped it".into()),
            // It says nothing about whether the restart has helped.
            StopCause::Engine => Verdict::Stopped(format!("docker {}", facts::ENDED_IT)),
            StopCause::Itself | StopCause::Unknown => Verdict::DidNotHelp(facts::problem(container)),
        },
    }
}

/// Of a run that Docker calls well: it is so when its probe says the same, where it has one that reaches it.
fn by_probe(seen: &ContainerFacts, deadline: Option<&Now>, healing: &Healing, began: &Now, now: &Now) -> Verdict {
    let soon = || Some(deadline.cloned().unwrap_or_else(|| now.after(ANSWERS_WITHIN)));
    match &seen.probe {
        None | Some(Probe::Well | Probe::Unknown { .. }) => Verdict::Well,
        Some(Probe::Asking | Probe::Doubtful { .. }) => Verdict::Pending { until: soon() },
        Some(Probe::Failed { why, was_well }) => {
            let patience = may_be_starting_until(seen, healing.start_patience, Some(began), now);
            match deadline.cloned().filter(|_| !was_well).or(patience) {
                Some(until) => Verdict::Pending { until: Some(until) },
                None => Verdict::DidNotHelp(format!("its probe failed: {why}")),
            }
        }
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
            let until = may_be_starting_until(&seen, SignedDuration::from_secs(180), None, &at(seconds));
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
        // Set back while it is judged: from the moment on by which Docker had started it, 10 s after the intent.
        let judged = |seconds: i64| {
            let back = Now { wall: at(seconds - 3_600).wall, ..at(seconds) };
            judge(&restarted(), Some(&young), &Healing::default(), &back)
        };
        assert!(matches!(judged(189), Verdict::Pending { until: Some(until) } if until.boottime == at(190).boottime));
        assert_eq!(judged(190), Verdict::DidNotHelp("unhealthy: 3 failed probes in a row".into()));
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
        // Nor a failure: somebody has restarted it.
        let why = "it was started anew at 08:00:09, and not by docker's restart policy";
        assert_eq!(verdict, Verdict::Stopped(why.into()));
    }

    #[test]
    fn what_docker_has_restarted_itself_was_not_helped_even_while_it_runs() {
        let failed = |text: &str| Verdict::DidNotHelp(text.into());
        let counted = |count| move |it: &mut Container| (it.restart_count, it.exit_code) = (count, 3);
        check(counted(0), 5, Verdict::Well);
        check(
            counted(1),
            5,
            failed("it did not stay up: its last exit code is 3; docker's restart policy has started it once since"),
        );
        check(
            |it| (it.started_at, it.restart_count) = (wall(9), 2),
            20,
            failed(
                "it was started once more at 08:00:09, so it did not stay up; docker's restart policy has started it 2 times \
                 since",
            ),
        );
        // Between two runs of its own it says what it says without the count.
        check(
            |it| (it.status, it.restart_count) = (Status::Restarting, 2),
            5,
            failed("it exited with code 0 and docker's restart policy is at work"),
        );
    }

    #[test]
    fn a_probe_has_to_succeed_in_time() {
        let healing = Healing { start_patience: SignedDuration::ZERO, ..Healing::default() };
        let check = |probe: Option<Probe>, health: Health, seconds: i64, expected: Verdict| {
            let container = Container { started_at: wall(3), health, ..container() };
            let seen = ContainerFacts { probe: probe.clone(), ..seen(container) };
            assert_eq!(judge(&restarted(), Some(&seen), &healing, &at(seconds)), expected, "{probe:?} at {seconds}");
        };
        let failed = |was_well| Some(Probe::Failed { why: "port 80 answers / with 500".into(), was_well });
        let did_not_help = || Verdict::DidNotHelp("its probe failed: port 80 answers / with 500".into());
        let pending = |seconds| Verdict::Pending { until: Some(at(seconds)) };
        for health in [Health::None, Health::Healthy] {
            check(None, health, 5, Verdict::Well);
            check(Some(Probe::Well), health, 5, Verdict::Well);
            check(Some(Probe::Well), health, 70, Verdict::Well);
            // What can't be reached says nothing, so Docker's word stands.
            check(Some(Probe::Unknown { why: "away".into() }), health, 5, Verdict::Well);
            check(Some(Probe::Asking), health, 5, pending(60));
            check(Some(Probe::Asking), health, 70, pending(75));
            check(Some(Probe::Doubtful { why: "slow".into() }), health, 5, pending(60));
            check(failed(false), health, 5, pending(60));
            check(failed(false), health, 60, did_not_help());
            // It was well already: it did not stay so.
            check(failed(true), health, 5, did_not_help());
        }
        // Docker's own word comes first.
        check(Some(Probe::Well), Health::Starting, 5, pending(60));
        let unhealthy = Verdict::DidNotHelp("unhealthy: 3 failed probes in a row".into());
        check(Some(Probe::Well), Health::Unhealthy, 5, unhealthy);
    }

    #[test]
    fn a_probe_that_has_never_succeeded_has_the_patience_of_a_start() {
        let container = Container { started_at: wall(3), health: Health::None, ..container() };
        let failed = Some(Probe::Failed { why: "no".into(), was_well: false });
        let seen = ContainerFacts { probe: failed, ..seen(container) };
        let judged = |seconds| judge(&restarted(), Some(&seen), &Healing::default(), &at(seconds));
        assert_eq!(judged(59), Verdict::Pending { until: Some(at(60)) });
        assert_eq!(judged(61), Verdict::Pending { until: Some(at(183)) });
        assert_eq!(judged(183), Verdict::DidNotHelp("its probe failed: no".into()));
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
        let stopped = ContainerFacts { stop: StopCause::Requested { at: at(9).wall }, ..seen(container) };
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
