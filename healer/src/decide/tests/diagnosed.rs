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
