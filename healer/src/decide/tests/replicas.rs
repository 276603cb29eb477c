//! What the incident of one replica has to do with the others.

use super::*;

fn replica(id: &str, change: impl FnOnce(&mut Container)) -> ContainerFacts {
    let mut container = Container { id: id.into(), name: format!("shop-web-{id}"), ..container() };
    (container.health, container.failing_streak) = (Health::Healthy, 0);
    change(&mut container);
    seen(container)
}

/// The incident was about `c1`, which is well.
fn beside(other: ContainerFacts) -> Facts {
    Facts { containers: vec![replica("c1", |_| ()), other], ..permitted() }
}

fn ended(id: &str, stop: StopCause) -> ContainerFacts {
    ContainerFacts { stop, ..replica(id, |it| (it.status, it.exit_code) = (Status::Exited, 1)) }
}

/// Well since 0 s.
fn proving_itself() -> Case {
    let mut case = case();
    case.memory.well_since = Some(at(0));
    case
}

fn closes() -> Decision {
    close(Outcome::RecoveredByItself, "it became well without a restart of ours")
}

#[test]
fn what_an_incident_is_not_about_keeps_it_open_only_while_it_may_change() {
    let created = || replica("c2", |it| (it.status, it.health) = (Status::Created, Health::None));
    let never_started = || ContainerFacts { never_started: true, ..created() };
    let check = |other: ContainerFacts, expected: Decision| {
        let facts = beside(other);
        assert_eq!(decide(&proving_itself(), &facts, &Policy::default(), &at(60)), expected, "{facts:?}");
    };
    check(replica("c2", |_| ()), closes());
    check(never_started(), closes());
    check(ended("c2", StopCause::Unknown), closes());
    check(ended("c2", StopCause::Requested { at: at(0).wall }), closes());
    // `docker compose up --scale web=2`: no relapse, and waited for.
    check(created(), wait(Refusal::Starting));
    check(replica("c2", |it| it.health = Health::Starting), wait(Refusal::Starting));
    // What may fall ill, or has.
    check(ended("c2", StopCause::Itself), Decision::Relapse);
    check(replica("c2", |it| it.status = Status::Restarting), Decision::Relapse);
    // What it is about, whoever came beside it.
    let about_both = || {
        let mut case = proving_itself();
        case.memory.containers.insert("c2".into());
        case
    };
    let relapses = |other: ContainerFacts| {
        let facts = beside(other);
        assert_eq!(decide(&about_both(), &facts, &Policy::default(), &at(60)), Decision::Relapse, "{facts:?}");
    };
    relapses(ended("c2", StopCause::Unknown));
    relapses(replica("c2", |it| it.health = Health::Starting));
    let mut facts = beside(created());
    facts.containers[0] = ended("c1", StopCause::Unknown);
    assert_eq!(decide(&proving_itself(), &facts, &Policy::default(), &at(60)), Decision::Relapse);
}

#[test]
fn a_service_of_which_nothing_was_started_says_so() {
    let alone = |never_started| {
        let created = replica("c1", |it| (it.status, it.health) = (Status::Created, Health::None));
        Facts { containers: vec![ContainerFacts { never_started, ..created }], ..permitted() }
    };
    assert_eq!(admit(&alone(false), None).unwrap_err(), Refusal::Starting);
    assert_eq!(admit(&alone(true), None).unwrap_err(), Refusal::NeverStarted);
    // What a person has stopped beside it ends the incident as ever.
    let mut facts = alone(true);
    facts.containers.push(ended("c2", StopCause::Requested { at: at(0).wall }));
    assert_eq!(why_not(&facts, None), Refusal::StoppedByHuman);
}

#[test]
fn each_ill_replica_would_be_restarted_with_a_budget_of_its_own() {
    let ill = |id: &str| replica(id, |it| (it.health, it.failing_streak) = (Health::Unhealthy, 3));
    let mut facts = beside(ill("c2"));
    (facts.containers[0], facts.mode.mode) = (ill("c1"), Mode::Shadow);
    facts.healing.attempts = 2;
    let mut case = case();
    (case.incident.mode, case.incident.state) = (Mode::Shadow, IncidentState::Watching);
    let (mut chosen, mut told) = (Vec::new(), Vec::new());
    for turn in 0..10 {
        let now = at(turn * 1_000);
        let decision = super::super::decide(&case, &facts, &now);
        let Decision::WouldRestart { container_id, .. } = &decision else { break };
        chosen.push(container_id.clone());
        let changed = transition::apply(&case, &decision, &facts, &facts.healing, &now, 0.5).unwrap();
        told.extend(changed.events.into_iter().filter(|event| event.kind == "would_give_up").map(|_| turn));
        case = changed.case;
    }
    assert_eq!(chosen, ["c1", "c2", "c1", "c2"]);
    assert_eq!(told, [3], "with the last of both");
    let spent = |id: &str| case.memory.would_be_spent_on(id);
    assert_eq!((spent("c1"), spent("c2"), spent("c3")), (2, 2, 0));
}
