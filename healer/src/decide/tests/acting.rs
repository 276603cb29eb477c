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
