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
    Decision::Block { by: ServiceKey::new("shop", "db"), why, detail: "waits for shop/db: exited with code 1".into() }
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
    let intended =
        transition::intend(crate::act::Deed::Restart, &unblocked, &container(), SignedDuration::from_secs(1), &at(17))
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
    let follows = |seconds| Follows { service: db.clone(), restarted_at: at(seconds).wall, chain: vec![db.clone()] };
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
