//! Each guard from facts in which everything speaks for a restart, changing one of them.

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

mod admission {
    use super::*;

    fn check(facts: Facts, expected: Result<&str, Refusal>) {
        let found = admit(&facts, None).map(|admission| admission.problem);
        assert_eq!(found, expected.map(str::to_owned), "{facts:?}");
    }

    #[test]
    fn each_guard_has_its_refusal() {
        check(permitted(), Ok("unhealthy: 3 failed probes in a row"));
        check(stopped(1, StopCause::Itself), Ok("exited with code 1"));
        check(stopped(0, StopCause::Engine), Ok("docker was down, and ended it on its return: exited with code 0"));
        check(moded(Mode::Shadow), Ok("unhealthy: 3 failed probes in a row"));
        check(moded(Mode::Off), Err(Refusal::OptedOut));
        check(Facts { docker_up: false, ..permitted() }, Err(Refusal::DockerUnavailable));
        check(Facts { own_stack: true, ..permitted() }, Err(Refusal::OwnStack));
        check(Facts { containers: Vec::new(), ..permitted() }, Err(Refusal::Gone));
        check(well(), Err(Refusal::AlreadyWell));
        check(one(|it| it.health = Health::None), Err(Refusal::AlreadyWell));
        check(one(|it| it.health = Health::Starting), Err(Refusal::Starting));
        check(one(|it| it.status = Status::Created), Err(Refusal::Starting));
        check(one(|it| it.status = Status::Paused), Err(Refusal::Paused));
        check(one(|it| it.status = Status::Restarting), Err(Refusal::DockerRestarting));
        check(one(|it| it.status = Status::Removing), Err(Refusal::Gone));
        check(one(|it| _ = it.labels.insert(labels::COMPOSE_ONEOFF.into(), "True".into())), Err(Refusal::OneOff));
        check(stopped(137, StopCause::Requested { at: at(0).wall }), Err(Refusal::StoppedByHuman));
        check(stopped(137, StopCause::Unknown), Err(Refusal::StoppedByUnknown));
        check(
            one(|it| *it = Container { restart_policy: RestartPolicy::No, ..exited(0) }),
            Err(Refusal::NotExpectedToRun),
        );
    }

    #[test]
    fn an_alert_about_what_docker_calls_well_is_right_or_wrong_by_the_probe() {
        let probed = |probe: Probe| {
            let mut facts = one(|it| it.health = Health::None);
            facts.containers[0].probe = Some(probe);
            facts
        };
        let failed = |was_well| Probe::Failed { why: "no answer at port 80 within 3 s".into(), was_well };
        check(probed(Probe::Well), Err(Refusal::AlreadyWell));
        check(probed(Probe::Unknown { why: "away".into() }), Err(Refusal::AlreadyWell));
        check(probed(failed(true)), Ok("its probe failed: no answer at port 80 within 3 s"));
        // It runs for longer than any start takes; a younger one may still be starting.
        let healing = Policy::default();
        assert_eq!(decide(&case(), &probed(failed(false)), &healing, &at(100)), restart("c1"));
        let starting = Decision::Wait { why: Refusal::Starting, until: Some(at(80)) };
        assert_eq!(decide(&case(), &probed(failed(false)), &healing, &at(0)), starting);
        assert_eq!(decide(&case(), &probed(failed(true)), &healing, &at(0)), restart("c1"));
        // An open incident waits for the answer, and is over when that is good.
        assert_eq!(decide(&case(), &probed(Probe::Asking), &healing, &at(0)), wait(Refusal::Starting));
        assert_eq!(decide(&case(), &probed(Probe::Well), &healing, &at(0)), Decision::Stabilise);
    }

    #[test]
    fn host_limits_and_a_broken_journal_delay_the_act_but_not_the_incident() {
        let mut facts = permitted();
        facts.host.restart_under_way = true;
        facts.host.recent_restarts = 1000;
        facts.journal_writable = false;
        assert!(admit(&facts, None).is_ok());
    }

    #[test]
    fn one_ill_replica_is_enough_and_one_stopped_replica_is_none() {
        let replica = |id: &str, health| {
            let mut container = container();
            (container.id, container.name, container.health) = (id.into(), format!("shop-web-{id}"), health);
            seen(container)
        };
        let stopped = ContainerFacts { stop: StopCause::Requested { at: at(0).wall }, ..seen(exited(0)) };
        let mixed = vec![replica("1", Health::Healthy), replica("2", Health::Unhealthy), stopped.clone()];
        assert_eq!(admit(&Facts { containers: mixed, ..permitted() }, None).unwrap().ill, ["2"]);
        let well = vec![replica("1", Health::Healthy), stopped];
        assert_eq!(admit(&Facts { containers: well, ..permitted() }, None).unwrap_err(), Refusal::AlreadyWell);
    }
}

mod acting {
    use super::*;

    fn check(case: &Case, facts: &Facts, seconds: i64, expected: Decision) {
        assert_eq!(decide(case, facts, &Policy::default(), &at(seconds)), expected, "{facts:?}");
    }

    #[test]
    fn each_guard_has_its_refusal() {
        let case = case();
        check(&case, &permitted(), 1, restart("c1"));
        check(&case, &stopped(1, StopCause::Itself), 1, restart("c1"));
        check(&case, &Facts { docker_up: false, ..permitted() }, 1, wait(Refusal::DockerUnavailable));
        check(
            &case,
            &Facts { journal_writable: false, ..permitted() },
            1,
            Decision::Wait { why: Refusal::JournalUnavailable, until: Some(at(6)) },
        );
        check(
            &case,
            &Facts { silenced: true, ..permitted() },
            1,
            Decision::Wait { why: Refusal::Silenced, until: Some(at(61)) },
        );
        let maintenance = Facts { maintenance_until: Some(at(600)), ..permitted() };
        check(&case, &maintenance, 1, Decision::Wait { why: Refusal::MaintenanceWindow, until: Some(at(600)) });
        check(
            &case,
            &Facts { paused_until: Some(at(60)), ..permitted() },
            1,
            Decision::Wait { why: Refusal::HealingPaused, until: Some(at(60)) },
        );
        check(&case, &one(|it| it.health = Health::Starting), 1, wait(Refusal::Starting));
        check(&case, &one(|it| it.status = Status::Restarting), 1, wait(Refusal::DockerRestarting));
        check(&case, &stopped(1, StopCause::Unknown), 1, wait(Refusal::StoppedByUnknown));
        let mut busy = permitted();
        busy.host.restart_under_way = true;
        check(&case, &busy, 1, wait(Refusal::HostLimit));
        let mut spent = permitted();
        (spent.host.recent_restarts, spent.host.room_at) = (10, Some(at(99)));
        check(&case, &spent, 1, Decision::Wait { why: Refusal::HostLimit, until: Some(at(99)) });
        spent.host.recent_restarts = 9;
        check(&case, &spent, 1, restart("c1"));
    }

    #[test]
    fn the_owners_hand_ends_an_incident() {
        let case = case();
        let outcome = |facts: &Facts| match decide(&case, facts, &Policy::default(), &at(60)) {
            Decision::Close { outcome, .. } => Some(outcome),
            _ => None,
        };
        assert_eq!(outcome(&moded(Mode::Off)), Some(Outcome::SwitchedOff));
        assert_eq!(outcome(&Facts { own_stack: true, ..permitted() }), Some(Outcome::SwitchedOff));
        assert_eq!(outcome(&one(|it| it.status = Status::Paused)), Some(Outcome::StoppedByHuman));
        assert_eq!(outcome(&stopped(0, StopCause::Requested { at: at(0).wall })), Some(Outcome::StoppedByHuman));
        assert_eq!(outcome(&Facts { containers: Vec::new(), ..permitted() }), Some(Outcome::Gone));
        // Recreated: ill again, but another container and so another incident.
        assert_eq!(outcome(&one(|it| it.id = "c2".into())), Some(Outcome::Gone));
        let done = one(|it| *it = Container { restart_policy: RestartPolicy::No, ..exited(0) });
        assert_eq!(outcome(&done), Some(Outcome::RecoveredByItself));
        check(&case, &moded(Mode::Shadow), 1, Decision::Follow { mode: Mode::Shadow });
    }

    #[test]
    fn a_stop_that_may_be_half_of_a_restart_ends_nothing() {
        let case = case();
        // It ended at -5 s.
        let mut facts = stopped(0, StopCause::Requested { at: at(-5).wall });
        let waits = Decision::Wait { why: Refusal::StoppedByHuman, until: Some(at(10)) };
        check(&case, &facts, 1, waits.clone());
        check(&case, &facts, 9, waits);
        let closes = close(Outcome::StoppedByHuman, "somebody stopped it");
        check(&case, &facts, 10, closes.clone());
        // The clock was set back since, by an hour: it holds up nothing.
        let mut set_back = at(9);
        set_back.wall = at(-3_591).wall;
        assert_eq!(decide(&case, &facts, &Policy::default(), &set_back), closes);
        facts.containers[0].container = Container { finished_at: None, ..exited(0) }.into();
        check(&case, &facts, 1, closes);
    }

    #[test]
    fn a_failed_attempt_cools_down_by_the_boot_clock() {
        let mut case = case();
        let mut failed = attempt(1, "c1", at(0));
        failed.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
        failed.memory.retry = Some(at(20));
        case.attempts.push(failed);
        check(&case, &permitted(), 15, Decision::Wait { why: Refusal::CoolingDown, until: Some(at(20)) });
        check(&case, &permitted(), 20, restart("c1"));
        // The wall clock steps back by an hour: what counts is the boot clock.
        let mut stepped = at(20);
        stepped.wall = at(-3600).wall;
        assert_eq!(decide(&case, &permitted(), &Policy::default(), &stepped), restart("c1"));
        // A reboot with a clock far in the past: after the longest delay within this boot it goes on all the same.
        let rebooted = |seconds: i64| Now {
            wall: at(-1_000_000 + seconds).wall,
            boottime: SignedDuration::from_secs(seconds),
            boot_id: "another".into(),
        };
        let longest = Healing::default().max_delay;
        let first = decide(&case, &permitted(), &Policy::default(), &rebooted(10));
        assert_eq!(first, Decision::Wait { why: Refusal::CoolingDown, until: Some(rebooted(longest.as_secs())) });
        assert_eq!(decide(&case, &permitted(), &Policy::default(), &rebooted(longest.as_secs())), restart("c1"));
    }

    #[test]
    fn a_spent_budget_is_given_up_once_and_each_replica_has_its_own() {
        let mut case = case();
        for number in 1..=6 {
            let mut failed = attempt(number, "c1", at(0));
            failed.attempt.outcome = Some(AttemptOutcome::Interrupted);
            failed.memory.retry = Some(at(1));
            case.attempts.push(failed);
        }
        check(&case, &permitted(), 100, Decision::GiveUp { since: None });
        let mut replica = container();
        (replica.id, replica.name) = ("c2".into(), "shop-web-2".into());
        let two = Facts { containers: vec![seen(container()), seen(replica)], ..permitted() };
        check(&case, &two, 100, restart("c2"));
        case.incident.state = IncidentState::GaveUp;
        check(&case, &permitted(), 100, wait(Refusal::BudgetSpent));
    }

    #[test]
    fn what_was_spent_shortly_before_the_incident_counts() {
        let mut case = case();
        case.memory.carried = [("c1".to_owned(), 5), ("c2".to_owned(), 6)].into();
        check(&case, &permitted(), 1, restart("c1"));
        case.memory.carried = [("c1".to_owned(), 6)].into();
        check(&case, &permitted(), 1, Decision::GiveUp { since: None });
        let gave_up =
            transition::apply(&case, &Decision::GiveUp { since: None }, &permitted(), &Healing::default(), &at(1), 0.0);
        let told = &gave_up.unwrap().events[0].detail;
        assert_eq!(told, "6 restarts within an hour did not help for long: a person is needed");
    }

    #[test]
    fn a_spent_day_is_given_up_and_stays_so_as_the_day_moves_on() {
        let mut case = case();
        let spent = |count: u32| Facts { spent_today: [("c1".to_owned(), count)].into(), ..permitted() };
        check(&case, &spent(19), 1, restart("c1"));
        let given_up = Decision::GiveUpForTheDay { spent: [("c1".to_owned(), 20)].into() };
        check(&case, &spent(20), 1, given_up.clone());
        let mut replica = container();
        (replica.id, replica.name) = ("c2".into(), "shop-web-2".into());
        check(&case, &Facts { containers: vec![seen(container()), seen(replica)], ..spent(20) }, 1, restart("c2"));
        let applied = |case: &Case, decision: &Decision, seconds: i64| {
            transition::apply(case, decision, &spent(20), &Healing::default(), &at(seconds), 0.0).unwrap().case
        };
        let gave_up = applied(&case, &given_up, 1);
        assert_eq!(
            (gave_up.incident.state, gave_up.incident.refusal),
            (IncidentState::GaveUp, Some(Refusal::DayBudgetSpent))
        );
        check(&gave_up, &spent(20), 100, wait(Refusal::DayBudgetSpent));
        check(&gave_up, &spent(19), 100, wait(Refusal::DayBudgetSpent));
        // The owner switches it: what counts is counted anew.
        case = applied(&gave_up, &Decision::Follow { mode: Mode::Heal }, 200);
        check(&case, &spent(19), 201, restart("c1"));
    }

    #[test]
    fn on_hold_nothing_is_restarted_or_said_to_have_been() {
        let held = || {
            let mut facts = permitted();
            facts.host.hold_until = Some(at(500));
            facts
        };
        let on_hold = Decision::Wait { why: Refusal::HostHold, until: Some(at(500)) };
        check(&case(), &held(), 1, on_hold.clone());
        let mut watched = case();
        (watched.incident.mode, watched.incident.state) = (Mode::Shadow, IncidentState::Watching);
        let mut facts = held();
        facts.mode.mode = Mode::Shadow;
        check(&watched, &facts, 1, on_hold);
    }

    #[test]
    fn a_restart_that_helped_is_followed_by_a_pause_as_well() {
        let mut case = case();
        case.incident.state = IncidentState::Stabilising;
        let mut helped = attempt(1, "c1", at(0));
        helped.attempt.outcome = Some(AttemptOutcome::Helped);
        case.attempts.extend([helped, attempt(2, "c1", at(100))]);
        let ended = ended(AttemptOutcome::Helped, "well again; another replica is not");
        let healing = Healing::default();
        let case = transition::apply(&case, &ended, &permitted(), &healing, &at(110), 1.0).unwrap().case;
        // The second on this container, so twice the first delay.
        check(&case, &permitted(), 129, Decision::Wait { why: Refusal::CoolingDown, until: Some(at(130)) });
        check(&case, &permitted(), 130, restart("c1"));
    }

    #[test]
    fn well_is_well_only_after_a_while() {
        let mut case = case();
        check(&case, &well(), 1, Decision::Stabilise);
        case.memory.well_since = Some(at(1));
        case.incident.state = IncidentState::Stabilising;
        check(&case, &well(), 60, Decision::Wait { why: Refusal::AlreadyWell, until: Some(at(61)) });
        let Decision::Close { outcome: Outcome::RecoveredByItself, .. } =
            decide(&case, &well(), &Policy::default(), &at(61))
        else {
            panic!("closes")
        };
        check(&case, &permitted(), 30, Decision::Relapse);
        check(&case, &one(|it| it.health = Health::Starting), 30, Decision::Relapse);
        case.incident.state = IncidentState::GaveUp;
        check(&case, &well(), 61, Decision::Wait { why: Refusal::AlreadyWell, until: Some(at(601)) });
    }
}

mod another_trouble {
    use super::*;

    fn relapsed(case: &Case, facts: &Facts) -> transition::Changed {
        transition::apply(case, &Decision::Relapse, facts, &Healing::default(), &at(30), 0.5).unwrap()
    }

    /// Opened for what docker ended, and well since.
    fn stabilising() -> Case {
        let engine = stopped(0, StopCause::Engine);
        let mut case = transition::open(
            "pi",
            &key(),
            ("A", at(0).wall),
            admit(&engine, None).unwrap(),
            Default::default(),
            &at(0),
        )
        .case;
        assert!(case.incident.diagnosis.is_some());
        (case.incident.state, case.memory.well_since) = (IncidentState::Stabilising, Some(at(10)));
        case
    }

    #[test]
    fn takes_the_place_of_the_one_before_and_of_its_cause() {
        let changed = relapsed(&stabilising(), &permitted());
        let incident = &changed.case.incident;
        assert_eq!(incident.problem, "unhealthy: 3 failed probes in a row");
        assert_eq!(incident.diagnosis, None);
        let story: Vec<(&str, &str)> = changed.events.iter().map(|it| (it.kind.as_str(), it.detail.as_str())).collect();
        let anew = "unhealthy: 3 failed probes in a row; before: docker was down, and ended it on its return: exited with code 0";
        assert_eq!(story, [("relapse", "it did not stay well"), ("another_problem", anew)]);
        // What Docker says of the new one is a cause at once.
        let killed = relapsed(&case_of_well(), &one_killed());
        assert_eq!(killed.case.incident.problem, "exited with code 137 (killed for memory)");
        assert_eq!(killed.case.incident.diagnosis.unwrap().cause, nexus_model::Cause::OutOfMemory);
    }

    fn case_of_well() -> Case {
        let mut case = case();
        (case.incident.state, case.memory.well_since) = (IncidentState::Stabilising, Some(at(10)));
        case
    }

    fn one_killed() -> Facts {
        let mut facts = stopped(137, StopCause::Itself);
        let container = Arc::make_mut(&mut facts.containers[0].container);
        (container.oom_killed, container.memory_limit_bytes) = (true, Some(64 << 20));
        facts
    }

    #[test]
    fn is_none_while_it_can_not_be_judged_and_is_told_with_the_next_restart_then() {
        let case = stabilising();
        let starting = relapsed(&case, &one(|it| it.health = Health::Starting)).case;
        assert_eq!(starting.incident.problem, case.incident.problem);
        let told = transition::look_anew(&starting, "c1", &permitted(), &at(60));
        assert_eq!(told.case.incident.problem, "unhealthy: 3 failed probes in a row");
        // What is forced while it is well has no new trouble.
        assert_eq!(transition::look_anew(&starting, "c1", &well(), &at(60)).case, starting);
    }

    #[test]
    fn is_neither_another_figure_nor_what_a_restart_of_ours_left() {
        let mut case = case();
        let facts = one(|it| it.failing_streak = 9);
        assert_eq!(transition::look_anew(&case, "c1", &facts, &at(60)).case, case);
        let mut failed = attempt(1, "c1", at(0));
        (failed.attempt.outcome, failed.memory.left_stopped) = (Some(AttemptOutcome::Failed), true);
        failed.attempt.started_at_before = wall(-100);
        case.attempts.push(failed);
        let left = stopped(137, StopCause::Itself);
        assert_eq!(left.containers[0].container.started_at, wall(-100));
        assert_eq!(transition::look_anew(&case, "c1", &left, &at(60)).case, case);
    }
}

mod an_attempt {
    use super::*;

    fn restarting() -> Case {
        let mut case = case();
        case.incident.state = IncidentState::Restarting;
        case.attempts.push(attempt(1, "c1", at(0)));
        case
    }

    fn verifying() -> Case {
        let mut case = restarting();
        case.incident.state = IncidentState::Verifying;
        let open: &mut Try = case.open_attempt_mut().unwrap();
        open.attempt.started_at_after = wall(3);
        open.memory.deadline = Some(at(60));
        case
    }

    /// The container after a restart that brought it up at 3 s.
    fn anew(health: Health) -> Facts {
        one(|it| (it.started_at, it.health) = (wall(3), health))
    }

    fn outcome(case: &Case, facts: &Facts, seconds: i64) -> Option<AttemptOutcome> {
        match decide(case, facts, &Policy::default(), &at(seconds)) {
            Decision::AttemptEnded { outcome, .. } => Some(outcome),
            _ => None,
        }
    }

    #[test]
    fn a_call_under_way_is_waited_for() {
        let busy = Facts { act_under_way: true, ..permitted() };
        assert_eq!(decide(&restarting(), &busy, &Policy::default(), &at(500)), wait(Refusal::Verifying));
    }

    #[test]
    fn an_intent_without_a_trace_is_given_time_and_then_counts_as_interrupted() {
        // Stop time-out of 10 s and the margin: Docker may still be at it.
        let decision = decide(&restarting(), &permitted(), &Policy::default(), &at(5));
        assert_eq!(decision, Decision::Wait { why: Refusal::Verifying, until: Some(at(30)) });
        assert_eq!(outcome(&restarting(), &permitted(), 30), Some(AttemptOutcome::Interrupted));
        // Left stopped in between: the same, and then it is ours to start.
        let left = stopped(137, StopCause::Requested { at: at(1).wall });
        assert_eq!(outcome(&restarting(), &left, 30), Some(AttemptOutcome::Interrupted));
        let mut interrupted = restarting();
        interrupted.incident.state = IncidentState::Backoff;
        interrupted.attempts[0].attempt.outcome = Some(AttemptOutcome::Interrupted);
        interrupted.attempts[0].memory.retry = Some(at(40));
        interrupted.attempts[0].memory.left_stopped = true;
        assert_eq!(decide(&interrupted, &left, &Policy::default(), &at(40)), restart("c1"));
    }

    #[test]
    fn a_new_start_time_proves_the_restart_whoever_lived_to_see_it() {
        for facts in [anew(Health::Starting), anew(Health::Healthy), anew(Health::Unhealthy)] {
            let decision = decide(&restarting(), &facts, &Policy::default(), &at(500));
            // 10 s start period, 2 s time-out, 3 × (5 s + 2 s), 15 s margin.
            assert_eq!(decision, Decision::Verify { started_at: wall(3), deadline: at(548) });
        }
    }

    #[test]
    fn it_is_judged_and_must_stay_well() {
        let policy = Policy::default();
        let case = verifying();
        assert_eq!(
            decide(&case, &anew(Health::Starting), &policy, &at(10)),
            Decision::Wait { why: Refusal::Verifying, until: Some(at(60)) }
        );
        assert_eq!(outcome(&case, &anew(Health::Starting), 60), Some(AttemptOutcome::DidNotHelp));
        assert_eq!(outcome(&case, &anew(Health::Unhealthy), 10), Some(AttemptOutcome::DidNotHelp));
        assert_eq!(decide(&case, &anew(Health::Healthy), &policy, &at(10)), Decision::Stabilise);
        let mut stabilising = verifying();
        stabilising.incident.state = IncidentState::Stabilising;
        stabilising.memory.well_since = Some(at(10));
        assert_eq!(
            decide(&stabilising, &anew(Health::Healthy), &policy, &at(69)),
            Decision::Wait { why: Refusal::Verifying, until: Some(at(70)) }
        );
        assert_eq!(outcome(&stabilising, &anew(Health::Healthy), 70), Some(AttemptOutcome::Helped));
        assert_eq!(outcome(&stabilising, &anew(Health::Unhealthy), 30), Some(AttemptOutcome::DidNotHelp));
        // Docker calls it well, and has had to start it again by itself.
        let mut again = anew(Health::Healthy);
        std::sync::Arc::make_mut(&mut again.containers[0].container).restart_count = 1;
        assert_eq!(outcome(&stabilising, &again, 30), Some(AttemptOutcome::DidNotHelp));
        let mut probed = anew(Health::Healthy);
        probed.containers[0].probe = Some(Probe::Failed { why: "no".into(), was_well: true });
        assert_eq!(outcome(&stabilising, &probed, 30), Some(AttemptOutcome::DidNotHelp));
        probed.containers[0].probe = Some(Probe::Doubtful { why: "no".into() });
        assert_eq!(outcome(&stabilising, &probed, 30), None);
        stabilising.attempts[0].attempt.outcome = Some(AttemptOutcome::Helped);
        assert!(matches!(
            decide(&stabilising, &anew(Health::Healthy), &policy, &at(70)),
            Decision::Close { outcome: Outcome::Recovered, .. }
        ));
    }

    #[test]
    fn a_hand_from_outside_ends_it_without_a_verdict() {
        let paused = one(|it| (it.started_at, it.status) = (wall(3), Status::Paused));
        assert_eq!(outcome(&verifying(), &paused, 10), Some(AttemptOutcome::Interrupted));
        let gone = Facts { containers: Vec::new(), ..permitted() };
        assert_eq!(outcome(&verifying(), &gone, 10), Some(AttemptOutcome::Interrupted));
        assert_eq!(outcome(&restarting(), &gone, 10), Some(AttemptOutcome::Interrupted));
    }

    #[test]
    fn the_next_replica_need_not_wait_for_the_stabilising_window() {
        let mut ill = container();
        (ill.id, ill.name) = ("c2".into(), "shop-web-2".into());
        let mut facts = anew(Health::Healthy);
        facts.containers.push(seen(ill));
        assert_eq!(decide(&verifying(), &facts, &Policy::default(), &at(10)), Decision::Stabilise);
        let mut stabilising = verifying();
        stabilising.incident.state = IncidentState::Stabilising;
        stabilising.memory.well_since = Some(at(10));
        assert_eq!(outcome(&stabilising, &facts, 10), Some(AttemptOutcome::Helped));
        // The story says so, and not that the first did not stay well.
        let mut case = stabilising;
        let mut told = Vec::new();
        loop {
            let decision = decide(&case, &facts, &Policy::default(), &at(10));
            let changed = transition::apply(&case, &decision, &facts, &facts.healing, &at(10), 0.5);
            let Some(changed) = changed else { break };
            told.extend(changed.events.into_iter().map(|event| event.detail));
            case = changed.case;
        }
        assert_eq!(told, ["attempt 1 helped: well again; another replica is not", "another replica is not well"]);
    }
}

mod waiting_for_others {
    use super::*;

    fn needing(why: Refusal) -> Facts {
        let db = Needed {
            is_only_watched: false,
            key: ServiceKey::new("shop", "db"),
            problem: "exited with code 1".into(),
            why,
            settles_within: SignedDuration::from_secs(60),
        };
        Facts { needed: vec![db], ..permitted() }
    }

    fn block(why: Refusal) -> Decision {
        Decision::Block {
            by: ServiceKey::new("shop", "db"),
            why,
            detail: "waits for shop/db: exited with code 1".into(),
        }
    }

    fn applied(case: &Case, decision: &Decision, seconds: i64) -> Case {
        let changed = transition::apply(case, decision, &permitted(), &Healing::default(), &at(seconds), 0.5);
        changed.expect("a change").case
    }

    fn decided(case: &Case, facts: &Facts, seconds: i64) -> Decision {
        decide(case, facts, &Policy::default(), &at(seconds))
    }

    #[test]
    fn waiting_long_for_what_is_only_watched_is_told_once() {
        let mut facts = needing(Refusal::DependencyDown);
        facts.needed[0].is_only_watched = true;
        let blocked = block(Refusal::DependencyDown);
        let apply = |case: &Case, facts: &Facts, seconds: i64| {
            transition::apply(case, &blocked, facts, &Healing::default(), &at(seconds), 0.5)
        };
        let waits = apply(&case(), &facts, 0).unwrap().case;
        assert!(apply(&waits, &facts, 599).is_none());
        let told = apply(&waits, &facts, 600).unwrap();
        assert_eq!((told.case.memory.waits_told, told.events.len()), (Some(at(600).wall), 1));
        assert!(apply(&told.case, &facts, 5_000).is_none(), "once");
        // Somebody does something about it, or it is well again: nothing to tell any more.
        let healed = apply(&told.case, &needing(Refusal::DependencyDown), 700).unwrap().case;
        assert_eq!(healed.memory.waits_told, None);
        assert_eq!(applied(&told.case, &Decision::Unblock, 700).memory.waits_told, None);
        // In shadow mode nobody waits for Nexus.
        let mut watched = waits;
        watched.incident.mode = Mode::Shadow;
        assert!(apply(&watched, &facts, 600).is_none());
    }

    #[test]
    fn it_waits_for_what_it_needs() {
        for why in [Refusal::DependencyDown, Refusal::DependencyStarting] {
            assert_eq!(decided(&case(), &needing(why), 1), block(why));
        }
        let doubt = Decision::Wait { why: Refusal::DependencyDoubtful, until: Some(at(3)) };
        assert_eq!(decided(&case(), &needing(Refusal::DependencyDoubtful), 1), doubt);
        // What is down is worth more than what is doubted, and a doubt does not last.
        let mut both = needing(Refusal::DependencyDoubtful);
        both.needed.extend(needing(Refusal::DependencyDown).needed);
        assert_eq!(decided(&case(), &both, 1), block(Refusal::DependencyDown));
        let doubting = applied(&case(), &doubt, 1);
        assert!(matches!(decided(&doubting, &needing(Refusal::DependencyDoubtful), 60), Decision::Wait { .. }));
        assert_eq!(decided(&doubting, &needing(Refusal::DependencyDoubtful), 61), restart("c1"));
        let blocked = applied(&case(), &block(Refusal::DependencyDown), 1);
        assert_eq!(blocked.incident.state, IncidentState::Blocked);
        assert_eq!(blocked.incident.refusal, Some(Refusal::DependencyDown));
        // Told once.
        let again = block(Refusal::DependencyDown);
        assert!(transition::apply(&blocked, &again, &permitted(), &Healing::default(), &at(2), 0.5).is_none());
    }

    #[test]
    fn it_neither_spends_its_budget_nor_gives_up_meanwhile() {
        let mut case = case();
        for number in 1..=6 {
            let mut failed = attempt(number, "c1", at(0));
            failed.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
            case.attempts.push(failed);
        }
        assert_eq!(decided(&case, &needing(Refusal::DependencyDown), 100), block(Refusal::DependencyDown));
        case.incident.state = IncidentState::GaveUp;
        assert_eq!(decided(&case, &needing(Refusal::DependencyDown), 100), wait(Refusal::BudgetSpent));
    }

    #[test]
    fn it_is_woken_early_and_given_time_to_follow_by_itself() {
        let mut case = case();
        let mut failed = attempt(1, "c1", at(0));
        failed.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
        failed.memory.retry = Some(at(500));
        case.attempts.push(failed);
        let blocked = applied(&case, &block(Refusal::DependencyDown), 1);
        assert_eq!(decided(&blocked, &permitted(), 10), Decision::Unblock);
        let unblocked = applied(&blocked, &Decision::Unblock, 10);
        assert_eq!(unblocked.incident.state, IncidentState::Backoff);
        // One probe: an interval of 5 s and a time-out of 2 s.
        let follows = Decision::Wait { why: Refusal::DependencyRecovered, until: Some(at(17)) };
        assert_eq!(decided(&unblocked, &permitted(), 10), follows);
        assert_eq!(decided(&unblocked, &well(), 12), Decision::Stabilise);
        // Long before its backoff is over.
        assert_eq!(decided(&unblocked, &permitted(), 17), restart("c1"));
        // What has ended does not come back by itself.
        assert_eq!(decided(&unblocked, &stopped(1, StopCause::Itself), 10), restart("c1"));
        // The next failure is its own.
        let intended = transition::intend(
            crate::act::Deed::Restart,
            &unblocked,
            &container(),
            SignedDuration::from_secs(1),
            &at(17),
        )
        .case;
        assert_eq!(intended.memory.unblocked, None);
        // It fell ill again while it was granted time.
        assert_eq!(decided(&unblocked, &needing(Refusal::DependencyDown), 12), block(Refusal::DependencyDown));
    }

    #[test]
    fn it_is_well_again_before_what_it_needs() {
        let blocked = applied(&case(), &block(Refusal::DependencyDown), 1);
        let facts = Facts { containers: well().containers, ..needing(Refusal::DependencyDown) };
        assert_eq!(decided(&blocked, &facts, 5), Decision::Stabilise);
        let stable = applied(&blocked, &Decision::Stabilise, 5);
        assert_eq!((stable.incident.state, stable.memory.blocked_by), (IncidentState::Stabilising, None));
    }

    #[test]
    fn nothing_is_written_down_as_one_that_would_have_helped() {
        let mut case = case();
        (case.incident.mode, case.incident.state) = (Mode::Shadow, IncidentState::Watching);
        let facts = Facts { mode: moded(Mode::Shadow).mode, ..needing(Refusal::DependencyDown) };
        assert_eq!(decided(&case, &facts, 1), block(Refusal::DependencyDown));
        let blocked = applied(&case, &block(Refusal::DependencyDown), 1);
        assert_eq!(blocked.incident.state, IncidentState::Watching);
    }

    #[test]
    fn without_its_network_a_person_is_needed_and_told_the_command() {
        let gone = Facts { network_gone: true, ..permitted() };
        // It may be `docker compose up` at its work.
        let waits = Decision::Wait { why: Refusal::NetworkGone, until: Some(at(16)) };
        assert_eq!(decided(&case(), &gone, 1), waits);
        let waiting = applied(&case(), &waits, 1);
        assert!(matches!(decided(&waiting, &gone, 180), Decision::Wait { .. }));
        let Decision::GiveUp { since: Some(reason) } = decided(&waiting, &gone, 181) else { panic!("gives up") };
        assert!(reason.ends_with("docker compose -p shop up -d web"), "{reason}");
        let gave_up = applied(&case(), &Decision::GiveUp { since: Some(reason.clone()) }, 1);
        assert_eq!(gave_up.incident.refusal, Some(Refusal::NetworkGone));
        // Also when nobody asks Docker for the network any more.
        assert_eq!(decided(&gave_up, &permitted(), 500), wait(Refusal::NetworkGone));
        let told = crate::tell::alert(&gave_up, &jiff::tz::TimeZone::UTC).unwrap();
        assert!(told.annotations["description"].contains(&reason), "{told:?}");
        let recreated = one(|it| it.id = "c9".into());
        assert!(matches!(decided(&gave_up, &recreated, 500), Decision::Close { outcome: Outcome::Gone, .. }));
    }

    fn dead_network(began: i64) -> crate::dependencies::DeadNetwork {
        crate::dependencies::DeadNetwork { owner: "shop-vpn-1".into(), began_at: wall(began) }
    }

    #[test]
    fn our_own_restart_is_the_better_proof_when_the_clock_was_set_back() {
        // Both were started before this container by the wall clock, which is an hour behind what it was then.
        let mut case = case();
        let mut joined = attempt(1, "c1", at(-100));
        joined.attempt.started_at_after = wall(-100);
        joined.attempt.outcome = Some(AttemptOutcome::Helped);
        joined.memory.network_began_at = wall(3_500);
        case.attempts.push(joined);
        case.memory.follows =
            Some(Follows { service: ServiceKey::new("shop", "vpn"), restarted_at: at(3_500).wall, chain: Vec::new() });
        let mut facts = well();
        facts.containers[0].dead_network = Some(dead_network(3_500));
        assert_eq!(decided(&case, &facts, 1), Decision::Stabilise);
        // It was started once more since.
        facts.containers[0].dead_network = Some(dead_network(3_600));
        assert_eq!(decided(&case, &facts, 100), restart("c1"));
    }

    #[test]
    fn what_is_well_and_was_restarted_too_often_to_follow_is_let_go() {
        let mut case = case();
        case.memory.carried = [("c1".to_owned(), 6)].into();
        case.memory.follows =
            Some(Follows { service: ServiceKey::new("shop", "db"), restarted_at: at(-50).wall, chain: Vec::new() });
        let Decision::Close { outcome: Outcome::RecoveredByItself, .. } = decided(&case, &well(), 1) else {
            panic!("closes")
        };
        assert_eq!(decided(&case, &permitted(), 1), Decision::GiveUp { since: None });
    }

    #[test]
    fn a_dead_network_is_an_illness_whatever_its_health() {
        let mut facts = well();
        facts.containers[0].dead_network = Some(dead_network(-50));
        assert!(admit(&facts, None).unwrap().problem.contains("shop-vpn-1"));
        assert_eq!(decided(&case(), &facts, 1), restart("c1"));
    }

    #[test]
    fn it_is_restarted_with_what_it_needs_where_it_asks_for_it() {
        let db = ServiceKey::new("shop", "db");
        let follows =
            |seconds| Follows { service: db.clone(), restarted_at: at(seconds).wall, chain: vec![db.clone()] };
        let admission = admit(&well(), Some(follows(-50))).unwrap();
        assert_eq!(admission.problem, "shop/db was restarted, and it asks to be restarted with it");
        // It was started later anyway.
        assert_eq!(admit(&well(), Some(follows(-150))).unwrap_err(), Refusal::AlreadyWell);
        let shadow = Facts { mode: moded(Mode::Shadow).mode, ..well() };
        assert_eq!(admit(&shadow, Some(follows(-50))).unwrap_err(), Refusal::ShadowMode);
        assert_eq!(admit(&one(|it| it.health = Health::Starting), Some(follows(-50))).unwrap_err(), Refusal::Starting);
        let opened =
            transition::open("pi", &ServiceKey::new("shop", "web"), ("A", at(0).wall), admission, [].into(), &at(0));
        assert_eq!(decided(&opened.case, &well(), 1), restart("c1"));
        // Restarted, it is as well as it looks.
        let anew = one(|it| (it.health, it.started_at) = (Health::Healthy, wall(3)));
        assert_eq!(decided(&opened.case, &anew, 4), Decision::Stabilise);
        let mut switched = opened.case;
        switched.incident.mode = Mode::Shadow;
        assert_eq!(decided(&switched, &shadow, 1), Decision::Stabilise);
    }
}

mod a_start {
    use super::*;

    #[test]
    fn it_is_not_interrupted_and_for_longer_while_its_log_says_so() {
        let starting = |says_it_is_starting| {
            let mut facts = Facts { says_it_is_starting, ..permitted() };
            facts.containers[0].has_been_healthy = false;
            facts
        };
        let policy = Policy::default();
        let until = |seconds| Decision::Wait { why: Refusal::Starting, until: Some(at(seconds)) };
        // Started at -100 s.
        assert_eq!(decide(&case(), &starting(false), &policy, &at(1)), until(80));
        assert_eq!(decide(&case(), &starting(false), &policy, &at(80)), restart("c1"));
        assert_eq!(decide(&case(), &starting(true), &policy, &at(80)), until(800));
        assert_eq!(decide(&case(), &starting(true), &policy, &at(800)), restart("c1"));
        let mut shadow = case();
        shadow.incident.mode = Mode::Shadow;
        let facts = Facts { mode: moded(Mode::Shadow).mode, ..starting(false) };
        assert_eq!(decide(&shadow, &facts, &policy, &at(1)), until(80));
        let impatient = Policy {
            healing: Healing { start_patience: SignedDuration::ZERO, ..Healing::default() },
            ..Policy::default()
        };
        assert_eq!(decide(&case(), &starting(true), &impatient, &at(1)), restart("c1"));
    }
}

mod shadow {
    use super::*;

    fn shadow() -> Case {
        let mut case = case();
        case.incident.mode = Mode::Shadow;
        case.incident.state = IncidentState::Watching;
        case
    }

    #[test]
    fn what_would_be_done_is_written_down_on_the_schedule_of_healing() {
        let mut case = shadow();
        let policy = Policy::default();
        let facts = moded(Mode::Shadow);
        let would = |why| Decision::WouldRestart { container_id: "c1".into(), why };
        assert_eq!(decide(&case, &facts, &policy, &at(1)), would(Refusal::ShadowMode));
        let mut protected = facts.clone();
        protected.mode.protected = Some(Refusal::ProtectedImage);
        assert_eq!(decide(&case, &protected, &policy, &at(1)), would(Refusal::ProtectedImage));
        protected.mode.protected = Some(Refusal::ProtectedService);
        assert_eq!(decide(&case, &protected, &policy, &at(1)), would(Refusal::ProtectedService));
        let maintenance = Facts { maintenance_until: Some(at(600)), ..facts.clone() };
        assert_eq!(
            decide(&case, &maintenance, &policy, &at(1)),
            Decision::Wait { why: Refusal::MaintenanceWindow, until: Some(at(600)) }
        );
        (case.memory.would_be, case.memory.would_be_due) = (1, Some(at(50)));
        assert_eq!(
            decide(&case, &facts, &policy, &at(49)),
            Decision::Wait { why: Refusal::ShadowMode, until: Some(at(50)) }
        );
        assert_eq!(decide(&case, &facts, &policy, &at(50)), would(Refusal::ShadowMode));
        case.memory.would_be = 6;
        assert_eq!(decide(&case, &facts, &policy, &at(50)), wait(Refusal::ShadowMode));
        assert_eq!(would_be_delay(&container(), &policy.healing, 2).as_secs(), 48 + 20);
    }

    #[test]
    fn it_closes_when_well_and_follows_the_owner() {
        let mut case = shadow();
        let policy = Policy::default();
        let mut facts = well();
        facts.mode.mode = Mode::Shadow;
        assert_eq!(decide(&case, &facts, &policy, &at(1)), Decision::Stabilise);
        case.memory.well_since = Some(at(1));
        assert!(matches!(
            decide(&case, &facts, &policy, &at(61)),
            Decision::Close { outcome: Outcome::RecoveredByItself, .. }
        ));
        assert_eq!(decide(&case, &permitted(), &policy, &at(61)), Decision::Follow { mode: Mode::Heal });
    }
}

mod diagnosed {
    use nexus_model::{Cause, Confidence};

    use super::*;

    #[test]
    fn dockers_answer_to_a_restart_says_why_it_refused() {
        let mut case = case();
        case.incident.state = IncidentState::Restarting;
        case.attempts.push(attempt(1, "c1", at(0)));
        let refused = |detail: &str| {
            let ended = Decision::AttemptEnded { outcome: AttemptOutcome::Failed, detail: detail.into() };
            let healing = Healing::default();
            transition::apply(&case, &ended, &permitted(), &healing, &at(1), 0.5).unwrap().case.incident.diagnosis
        };
        let told = refused(
            "docker refused to restart container c1: driver failed: Bind for 0.0.0.0:80 failed: port is already allocated (status 500)",
        );
        let told = told.unwrap();
        assert_eq!((told.cause, told.confidence), (Cause::PortTaken, Confidence::Certain));
        assert!(told.summary.contains("0.0.0.0:80"), "{}", told.summary);
        assert_eq!(refused("docker failed to restart container c1"), None);
    }
}

mod paused {
    use super::*;

    fn paused(facts: Facts) -> Facts {
        Facts { paused_until: Some(at(600)), ..facts }
    }

    #[test]
    fn a_pause_holds_up_the_next_attempt_and_nothing_else() {
        let policy = Policy::default();
        let wait_for_its_end = Decision::Wait { why: Refusal::HealingPaused, until: Some(at(600)) };
        assert_eq!(decide(&case(), &paused(permitted()), &policy, &at(1)), wait_for_its_end);
        // Whatever delay or budget would say.
        let mut spent = case();
        spent.memory.carried.insert("c1".into(), 99);
        assert_eq!(decide(&spent, &paused(permitted()), &policy, &at(1)), wait_for_its_end);
        // What runs is judged.
        let mut judged = case();
        judged.attempts.push(attempt(1, "c1", at(0)));
        judged.incident.state = IncidentState::Restarting;
        let anew = one(|it| (it.started_at, it.health) = (wall(3), Health::Starting));
        assert!(matches!(decide(&judged, &paused(anew), &policy, &at(4)), Decision::Verify { .. }));
        // What is only watched is watched, and what is well is well.
        let shadow = decide(&case(), &paused(moded(Mode::Shadow)), &policy, &at(1));
        assert_eq!(shadow, Decision::Follow { mode: Mode::Shadow });
        assert_eq!(decide(&case(), &paused(well()), &policy, &at(1)), Decision::Stabilise);
        let mut gave_up = case();
        gave_up.incident.state = IncidentState::GaveUp;
        gave_up.memory.carried.insert("c1".into(), 99);
        assert_eq!(decide(&gave_up, &paused(permitted()), &policy, &at(1)), wait(Refusal::BudgetSpent));
    }
}
