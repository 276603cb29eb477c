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
