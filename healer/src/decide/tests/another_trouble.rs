use super::*;

fn relapsed(case: &Case, facts: &Facts) -> transition::Changed {
    transition::apply(case, &Decision::Relapse, facts, &Healing::default(), &at(30), 0.5).unwrap()
}

/// Opened for what docker ended, and well since.
fn stabilising() -> Case {
    let engine = stopped(0, StopCause::Engine);
    let mut case =
        transition::open("pi", &key(), ("A", at(0).wall), admit(&engine, None).unwrap(), Default::default(), &at(0))
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
    let anew =
        "unhealthy: 3 failed probes in a row; before: docker was down, and ended it on its return: exited with code 0";
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
