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
