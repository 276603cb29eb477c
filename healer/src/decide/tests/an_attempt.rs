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
