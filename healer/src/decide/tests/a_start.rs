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
    let impatient =
        Policy { healing: Healing { start_patience: SignedDuration::ZERO, ..Healing::default() }, ..Policy::default() };
    assert_eq!(decide(&case(), &starting(true), &impatient, &at(1)), restart("c1"));
}
