use nexus_docker::RestartPolicy;

use super::*;
use crate::testing::{at, case, container, exited, seen, wall};

fn with(mut container: Container, change: impl FnOnce(&mut Container)) -> Container {
    change(&mut container);
    container
}

#[test]
fn each_state_has_its_condition() {
    let check = |container: Container, stop: StopCause, expected: Condition| {
        let seen = ContainerFacts { stop, ..seen(container) };
        assert_eq!(condition(&seen, None), expected, "{seen:?}");
    };
    let itself = StopCause::Itself;
    let requested = StopCause::Requested { at: at(0).wall };
    let ill = |text: &str| Condition::Ill(text.to_owned());
    check(container(), itself, ill("unhealthy: 3 failed probes in a row"));
    // The cause of a stop says nothing about one that runs.
    check(container(), requested, ill("unhealthy: 3 failed probes in a row"));
    check(with(container(), |it| it.health = Health::Healthy), itself, Condition::Well);
    check(with(container(), |it| it.health = Health::None), itself, Condition::Well);
    check(with(container(), |it| it.health = Health::Starting), itself, Condition::Settling);
    check(with(container(), |it| it.status = Status::Created), itself, Condition::Settling);
    check(with(container(), |it| it.status = Status::Paused), itself, Condition::Aside(Refusal::Paused));
    check(with(container(), |it| it.status = Status::Restarting), itself, Condition::Aside(Refusal::DockerRestarting));
    check(with(container(), |it| it.status = Status::Removing), itself, Condition::Aside(Refusal::Gone));
    check(exited(1), itself, ill("exited with code 1"));
    check(exited(0), itself, ill("exited with code 0"));
    check(exited(139), itself, ill("exited with code 139 (segmentation fault)"));
    check(with(exited(137), |it| it.oom_killed = true), itself, ill("exited with code 137 (killed for memory)"));
    check(exited(1), requested, Condition::Aside(Refusal::StoppedByHuman));
    check(exited(1), StopCause::Unknown, Condition::Aside(Refusal::StoppedByUnknown));
    check(exited(0), StopCause::Engine, ill("docker was down, and ended it on its return: exited with code 0"));
    check(
        with(exited(0), |it| it.restart_policy = RestartPolicy::No),
        StopCause::Engine,
        Condition::Aside(Refusal::NotExpectedToRun),
    );
    check(
        with(exited(1), |it| it.restart_policy = RestartPolicy::No),
        itself,
        Condition::Aside(Refusal::NotExpectedToRun),
    );
    check(
        with(exited(0), |it| it.restart_policy = RestartPolicy::OnFailure { maximum_retries: 3 }),
        itself,
        Condition::Aside(Refusal::NotExpectedToRun),
    );
    check(
        with(container(), |it| _ = it.labels.insert(labels::COMPOSE_ONEOFF.into(), "True".into())),
        itself,
        Condition::Aside(Refusal::OneOff),
    );
}

#[test]
fn what_has_a_work_to_do_that_others_wait_for_is_not_ill_before_it_has_ended() {
    let check = |job: Container, depends_on: &str, expected: Condition| {
        let mut app = Container { id: "app".into(), health: Health::Healthy, ..container() };
        app.labels.insert(labels::COMPOSE_SERVICE.into(), "app".into());
        app.labels.insert(labels::COMPOSE_DEPENDS_ON.into(), depends_on.into());
        let watched = |container: Container| Watched {
            container: container.into(),
            stop: StopCause::Itself,
            has_been_healthy: false,
            oom_events: 0,
        };
        let containers = [job, app].map(|container| (container.id.clone(), watched(container))).into();
        let snapshot = Snapshot { containers, ..Snapshot::default() };
        let seen = containers_of(&snapshot, &crate::testing::key(), &Stops::new(), at(0).wall).remove(0);
        assert_eq!(condition(&seen, None), expected, "{depends_on} {seen:?}");
    };
    let once = "web:service_completed_successfully:false";
    let job = || with(container(), |it| it.restart_policy = RestartPolicy::No);
    let ill = |text: &str| Condition::Ill(text.to_owned());
    check(job(), once, Condition::Aside(Refusal::NotExpectedToRun));
    check(container(), once, Condition::Aside(Refusal::NotExpectedToRun));
    check(job(), "web:service_healthy:false", ill("unhealthy: 3 failed probes in a row"));
    check(job(), "", ill("unhealthy: 3 failed probes in a row"));
    check(with(job(), |it| it.health = Health::Healthy), once, Condition::Well);
    // Its end is judged as any other.
    let fails = RestartPolicy::OnFailure { maximum_retries: 3 };
    check(with(exited(1), |it| it.restart_policy = fails), once, ill("exited with code 1"));
}

#[test]
fn what_docker_calls_well_is_so_by_its_probe() {
    let check = |probe: Probe, with_case: bool, expected: Condition| {
        for health in [Health::None, Health::Healthy] {
            let seen =
                ContainerFacts { probe: Some(probe.clone()), ..seen(with(container(), |it| it.health = health)) };
            let case = with_case.then(case);
            assert_eq!(condition(&seen, case.as_ref()), expected, "{seen:?}");
        }
    };
    let failed = || Probe::Failed { why: "port 80 answers / with 500".into(), was_well: true };
    let ill = || Condition::Ill("its probe failed: port 80 answers / with 500".into());
    for with_case in [false, true] {
        check(Probe::Well, with_case, Condition::Well);
        check(Probe::Unknown { why: "away".into() }, with_case, Condition::Well);
        check(failed(), with_case, ill());
    }
    for not_known in [Probe::Asking, Probe::Doubtful { why: "slow".into() }] {
        check(not_known.clone(), false, Condition::Well);
        check(not_known, true, Condition::Settling);
    }
    // Docker's word that it is ill needs no probe.
    let unhealthy = ContainerFacts { probe: Some(Probe::Well), ..seen(container()) };
    assert!(matches!(condition(&unhealthy, None), Condition::Ill(_)));
}

#[test]
fn what_was_created_long_ago_and_never_started_may_be_started() {
    let created = || {
        with(container(), |it| {
            (it.status, it.health, it.started_at, it.created_at) = (Status::Created, Health::None, None, wall(-200));
            it.labels.insert(
                labels::COMPOSE_DEPENDS_ON.into(),
                "job:service_completed_successfully:false,db:service_started:false".into(),
            );
        })
    };
    let job = || {
        with(exited(0), |it| {
            it.id = "job".into();
            it.labels.insert(labels::COMPOSE_SERVICE.into(), "job".into());
        })
    };
    let check = |change: &dyn Fn(&mut Container, &mut Option<Container>), expected: bool| {
        let (mut container, mut job) = (created(), Some(job()));
        change(&mut container, &mut job);
        let watched = job.map(|job| Watched {
            container: job.into(),
            stop: StopCause::Itself,
            has_been_healthy: false,
            oom_events: 0,
        });
        let snapshot = Snapshot {
            containers: watched.into_iter().map(|watched| ("job".to_owned(), watched)).collect(),
            ..Snapshot::default()
        };
        let patience = SignedDuration::from_secs(180);
        let left = is_left_unstarted(&container, &snapshot, patience, at(0).wall);
        assert_eq!(left, expected, "{container:?}");
    };
    check(&|_, _| (), true);
    check(&|it, _| it.created_at = wall(-179), false);
    check(&|it, _| it.created_at = None, false);
    check(&|it, _| it.status = Status::Exited, false);
    check(&|it, _| it.started_at = wall(-100), false);
    check(&|it, _| it.restart_policy = RestartPolicy::No, false);
    check(&|it, _| _ = it.labels.insert(labels::EXPECTED.into(), "false".into()), false);
    check(&|it, _| _ = it.labels.insert(labels::COMPOSE_ONEOFF.into(), "True".into()), false);
    // What has to have done its work has not, or is gone.
    check(&|_, job| job.as_mut().unwrap().exit_code = 1, false);
    check(&|_, job| job.as_mut().unwrap().status = Status::Running, false);
    check(&|_, job| *job = None, false);
    let left = ContainerFacts { left_unstarted: true, ..seen(created()) };
    assert_eq!(condition(&left, None), Condition::Ill("created, and never started".into()));
}

#[test]
fn what_takes_the_place_of_one_that_runs_is_not_left() {
    let numbered = |it: &mut Container, number: &str| {
        _ = it.labels.insert(labels::COMPOSE_NUMBER.into(), number.into());
    };
    let check = |change: &dyn Fn(&mut Container, &mut Watched), expected: bool| {
        let mut new = with(container(), |it| {
            (it.id, it.status, it.health) = ("new".into(), Status::Created, Health::None);
            (it.started_at, it.created_at) = (None, wall(-700));
        });
        let mut old =
            Watched { container: container().into(), stop: StopCause::Unknown, has_been_healthy: true, oom_events: 0 };
        change(&mut new, &mut old);
        let snapshot = Snapshot { containers: [("c1".to_owned(), old)].into(), ..Snapshot::default() };
        let patience = SignedDuration::from_secs(180);
        assert_eq!(is_left_unstarted(&new, &snapshot, patience, at(0).wall), expected, "{snapshot:?}");
    };
    let asked = |seconds| StopCause::Requested { at: at(seconds).wall };
    // Another replica.
    check(&|_, _| (), true);
    check(&|_, old| old.stop = asked(-600), false);
    // It has survived a signal of long ago.
    check(&|_, old| old.stop = asked(-601), true);
    let slow = || with(container(), |it| it.stop_timeout = Some(std::time::Duration::from_secs(900)));
    check(&|_, old| (old.stop, old.container) = (asked(-960), slow().into()), false);
    check(&|_, old| (old.stop, old.container) = (asked(-60), exited(0).into()), true);
    // Created in its place, and whoever did that has not come to stop it yet.
    let same = |new: &mut Container, old: &mut Watched| {
        numbered(new, "1");
        old.container = with(container(), |it| numbered(it, "1")).into();
    };
    check(&same, false);
    let another = |new: &mut Container, old: &mut Watched| {
        same(new, old);
        numbered(new, "2");
    };
    check(&another, true);
    let ended = |new: &mut Container, old: &mut Watched| {
        same(new, old);
        old.container = with(exited(0), |it| numbered(it, "1")).into();
    };
    check(&ended, true);
}

#[test]
fn what_was_stopped_for_room_is_aside_until_it_is_started_again() {
    let stop = StopCause::Requested { at: at(1).wall };
    let stopped = ContainerFacts { stop, stopped_for_room: true, ..seen(exited(137)) };
    assert_eq!(condition(&stopped, None), Condition::Aside(Refusal::StoppedForRoom));
    // Whatever was left of a restart of that run, and whoever is told to have ended it.
    let mut case = case();
    case.attempts.push(crate::testing::attempt(1, "c1", at(0)));
    for stop in [stop, StopCause::Itself, StopCause::Unknown] {
        let stopped = ContainerFacts { stop, ..stopped.clone() };
        assert_eq!(condition(&stopped, Some(&case)), Condition::Aside(Refusal::StoppedForRoom));
    }
    let runs = ContainerFacts { stopped_for_room: true, ..seen(container()) };
    assert!(matches!(condition(&runs, None), Condition::Ill(_)), "the stop is still to come");
}

#[test]
fn a_recorded_intent_wins_over_the_guess_that_a_human_stopped_it() {
    let mut case = case();
    let requested = StopCause::Requested { at: at(1).wall };
    let stopped = ContainerFacts { stop: requested, ..seen(exited(0)) };
    assert_eq!(condition(&stopped, Some(&case)), Condition::Aside(Refusal::StoppedByHuman));
    case.attempts.push(crate::testing::attempt(1, "c1", at(0)));
    assert!(matches!(condition(&stopped, Some(&case)), Condition::Ill(_)));
    // Ended without a trace while it ran on: a stop after that is somebody else's.
    case.attempts[0].attempt.outcome = Some(nexus_model::AttemptOutcome::Interrupted);
    assert_eq!(condition(&stopped, Some(&case)), Condition::Aside(Refusal::StoppedByHuman));
    // Ended with it stopped: ours to start.
    case.attempts[0].memory.left_stopped = true;
    assert!(matches!(condition(&stopped, Some(&case)), Condition::Ill(_)));
    // It ran on after docker refused the restart, and was stopped later: not ours.
    case.attempts[0].attempt.finished_at = Some(at(0).wall);
    assert_eq!(condition(&stopped, Some(&case)), Condition::Aside(Refusal::StoppedByHuman));
    case.attempts[0].attempt.finished_at = Some(at(2).wall);
    assert!(matches!(condition(&stopped, Some(&case)), Condition::Ill(_)));
    // Who stopped it is not told yet: our own stop may still have been at work, but not for ever.
    let told_late = |finished_at| {
        let ended = with(exited(0), |it| it.finished_at = finished_at);
        ContainerFacts { stop: StopCause::Unknown, container: ended.into(), ..stopped.clone() }
    };
    let stop_timeout = case.attempts[0].memory.stop_timeout.as_secs();
    assert!(matches!(condition(&told_late(wall(2 + stop_timeout)), Some(&case)), Condition::Ill(_)));
    assert_eq!(condition(&told_late(wall(3 + stop_timeout)), Some(&case)), Condition::Aside(Refusal::StoppedByUnknown));
    // Nor is an end of its own after that: a job has done its work by itself.
    let ended_later = |seconds| {
        let policy = RestartPolicy::OnFailure { maximum_retries: 0 };
        let ended = with(exited(0), |it| (it.restart_policy, it.finished_at) = (policy, wall(seconds)));
        ContainerFacts { stop: StopCause::Itself, container: ended.into(), ..stopped.clone() }
    };
    assert!(matches!(condition(&ended_later(2 + stop_timeout), Some(&case)), Condition::Ill(_)));
    assert_eq!(condition(&ended_later(3 + stop_timeout), Some(&case)), Condition::Aside(Refusal::NotExpectedToRun));
    // The clock was set back by an hour while it was under way: the stop is still that of our restart, but for one that
    // came after it by the new clock.
    case.attempts[0].attempt.finished_at = Some(at(2 - 3_600).wall);
    case.attempts[0].memory.finished = Some(nexus_model::Now { wall: at(2 - 3_600).wall, ..at(2) });
    assert!(matches!(condition(&stopped, Some(&case)), Condition::Ill(_)));
    let by_human = ContainerFacts { stop: StopCause::Requested { at: at(-600).wall }, ..stopped.clone() };
    assert_eq!(condition(&by_human, Some(&case)), Condition::Aside(Refusal::StoppedByHuman));
    // Once it has started anew, a later stop is somebody else's again.
    let later = with(exited(0), |it| it.started_at = wall(5));
    let stopped = ContainerFacts { stop: requested, ..seen(later) };
    assert_eq!(condition(&stopped, Some(&case)), Condition::Aside(Refusal::StoppedByHuman));
}

#[test]
fn the_journal_remembers_who_stopped_a_run_when_the_watcher_does_not_know() {
    let watched = |stop| Watched { container: exited(1).into(), stop, has_been_healthy: false, oom_events: 0 };
    let mut stops = Stops::new();
    assert_eq!(stop_of(&watched(StopCause::Unknown), &stops), StopCause::Unknown);
    stops.insert("c1".into(), (wall(-100), Stopper::Itself));
    assert_eq!(stop_of(&watched(StopCause::Unknown), &stops), StopCause::Itself);
    stops.insert("c1".into(), (wall(-100), Stopper::Requested));
    assert!(matches!(stop_of(&watched(StopCause::Unknown), &stops), StopCause::Requested { .. }));
    // Its end alone was told to a process that has not heard of the signal.
    assert!(matches!(stop_of(&watched(StopCause::Itself), &stops), StopCause::Requested { .. }));
    // Another run of the same container.
    stops.insert("c1".into(), (wall(-300), Stopper::Requested));
    assert_eq!(stop_of(&watched(StopCause::Unknown), &stops), StopCause::Unknown);
}

#[test]
fn a_service_is_its_containers_and_no_others() {
    let mut snapshot = Snapshot::default();
    for (id, name, service) in [("b", "shop-web-2", "web"), ("a", "shop-web-1", "web"), ("c", "shop-db-1", "db")] {
        let mut container = container();
        (container.id, container.name) = (id.into(), name.into());
        container.labels.insert(labels::COMPOSE_SERVICE.into(), service.into());
        let watched =
            Watched { container: container.into(), stop: StopCause::Itself, has_been_healthy: false, oom_events: 0 };
        snapshot.containers.insert(id.into(), watched);
    }
    let found = containers_of(&snapshot, &crate::testing::key(), &Stops::new(), at(0).wall);
    let names: Vec<&str> = found.iter().map(|seen| seen.container.name.as_str()).collect();
    assert_eq!(names, ["shop-web-1", "shop-web-2"]);
    assert_eq!(seen(container()).container.id, "c1");
}
