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
    check(one(|it| *it = Container { restart_policy: RestartPolicy::No, ..exited(0) }), Err(Refusal::NotExpectedToRun));
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
