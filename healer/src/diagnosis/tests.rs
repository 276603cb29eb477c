use nexus_docker::{Container, StopCause};
use proptest::prelude::*;

use super::*;
use crate::{
    cgroup::Usage,
    decide::admit,
    facts::{ContainerFacts, Facts},
    findings::{Check, Host, ProbeRun},
    images::ImageChange,
    testing::{at, container, exited, key, permitted, seen, wall},
    transition,
};

fn diagnosed(findings: &Findings) -> (Cause, Confidence) {
    let diagnosis = diagnose(findings, at(0).wall);
    (diagnosis.cause, diagnosis.confidence)
}

fn check(findings: &Findings, cause: Cause, confidence: Confidence) {
    assert_eq!(diagnosed(findings), (cause, confidence), "{findings:#?}");
}

fn ended_with(code: i64) -> Findings {
    Findings::of(&exited(code))
}

fn said(code: i64, log: &[&str]) -> Findings {
    Findings { log: log.iter().map(|line| format!("2027-01-15T08:00:00Z {line}")).collect(), ..ended_with(code) }
}

fn unhealthy() -> Findings {
    Findings::of(&container())
}

fn cut_off(cpus: Option<f64>) -> Findings {
    let probe = ProbeRun { start: wall(-20), end: wall(-18), exit_code: -1, output: Vec::new() };
    Findings { probes: vec![probe], usage: Usage { cpus, ..Usage::default() }, ..unhealthy() }
}

#[test]
fn facts_of_docker_are_certain() {
    for (code, cause) in [(0, Cause::Ended), (130, Cause::Terminated), (143, Cause::Terminated)] {
        check(&ended_with(code), cause, Confidence::Certain);
    }
    // How it ended, and it may have said why.
    for code in [132, 133, 134, 135, 136, 139] {
        check(&ended_with(code), Cause::Crashed, Confidence::Likely);
    }
    let limited = Container { oom_killed: true, memory_limit_bytes: Some(64 << 20), ..exited(137) };
    check(&Findings::of(&limited), Cause::OutOfMemory, Confidence::Certain);
    let told = diagnose(&Findings::of(&limited), at(0).wall);
    assert_eq!(told.summary, "it ran out of memory: its limit is 64 MiB");
    check(&Findings::of(&Container { exit_code: 1, ..limited }), Cause::OutOfMemory, Confidence::Likely);
    check(&ended_with(137), Cause::Killed, Confidence::Likely);
    check(&ended_with(1), Cause::Unknown, Confidence::None);
}

#[test]
fn what_docker_ended_on_its_return_did_not_end_by_itself() {
    for code in [0, 1, 137, 143] {
        check(&Findings { ended_by_docker: true, ..ended_with(code) }, Cause::Terminated, Confidence::Certain);
    }
    let told = diagnose(&Findings { ended_by_docker: true, ..ended_with(0) }, at(0).wall);
    assert_eq!(told.summary, "Docker was down, and ended it on its return");
    assert!(told.recommendation.starts_with("Nothing in the service: see why Docker ended"), "{}", told.recommendation);
    assert!(told.recommendation.len() < LONGEST_RECOMMENDATION, "cut off: {}", told.recommendation);
    // It is told already when the incident is opened.
    let ended = ContainerFacts { stop: StopCause::Engine, ..seen(exited(0)) };
    let found = admit(&Facts { containers: vec![ended], ..permitted() }, None).unwrap();
    let opened = transition::open("pi", &key(), ("A", at(0).wall), found, Default::default(), &at(0)).case;
    assert_eq!(opened.incident.diagnosis.unwrap().summary, told.summary);
    // Started again and well since, who ended the run before says nothing.
    check(&Findings { ended_by_docker: true, ..unhealthy() }, Cause::Unknown, Confidence::None);
}

#[test]
fn dockers_own_words_on_a_failed_start_are_certain() {
    let check_error = |error: &str, cause: Cause| {
        let confidence = if cause == Cause::Unknown { Confidence::None } else { Confidence::Certain };
        check(&Findings { error: error.into(), ..ended_with(255) }, cause, confidence);
    };
    check_error("Bind for 0.0.0.0:80 failed: port is already allocated", Cause::PortTaken);
    check_error("cannot join network of a non running container: 3ab", Cause::NetworkMissing);
    check_error(
        "error gathering device information while adding custom device \"/dev/ttyUSB0\": no such file or directory",
        Cause::DeviceMissing,
    );
    check_error("exec: \"/x\": permission denied: unknown", Cause::CommandNotExecutable);
    check_error("error mounting \"/a\" to rootfs: permission denied", Cause::MountFailed);
    check_error("Cannot restart container 3ab: id already in use", Cause::LostRun);
    check_error("container create failed: container with given ID already exists: unknown", Cause::LostRun);
    check_error("failed to create task for container: task 3ab: already exists", Cause::LostRun);
    check_error("cannot stop container: permission denied", Cause::Unknown);
    check_error("something new", Cause::Unknown);
    let taken = Findings { error: "Bind for 0.0.0.0:80 failed: port is already allocated".into(), ..ended_with(0) };
    let summary = diagnose(&taken, at(0).wall).summary;
    assert_eq!(summary, "Docker could not start it: its port is taken by another process (0.0.0.0:80)");
    let container_id = "3ab".repeat(21) + "c";
    let lost = Findings { error: "id already in use".into(), container_id: container_id.clone(), ..ended_with(143) };
    assert_eq!(
        diagnose(&lost, at(0).wall).recommendation,
        format!(
            "End that run, which Docker can't, or boot the machine: sudo ctr -n moby tasks kill -s SIGKILL {container_id} && \
             docker start 3ab3ab3ab3ab"
        )
    );
    // It has started since.
    check(&Findings { error: "port is already allocated".into(), ..unhealthy() }, Cause::Unknown, Confidence::None);
}

#[test]
fn what_a_program_says_is_likely_at_most() {
    check(&said(1, &["bind: Address already in use"]), Cause::PortTaken, Confidence::Likely);
    check(&said(1, &["INFO address already in use, as expected"]), Cause::Unknown, Confidence::None);
    check(&said(1, &["connection refused, retry 1", "connected to db", "bye"]), Cause::Unknown, Confidence::None);
    check(&said(1, &["connection refused", "permission denied"]), Cause::PermissionDenied, Confidence::Guess);
    // Of the run before.
    let earlier = Findings { log: vec!["2020-01-01T00:00:00Z address already in use".into()], ..ended_with(1) };
    check(&earlier, Cause::Unknown, Confidence::None);
    check(&said(127, &["sh: foo: not found"]), Cause::CommandNotFound, Confidence::Likely);
    check(&said(127, &["error while loading shared libraries: libx.so"]), Cause::FileMissing, Confidence::Likely);
    check(&said(134, &["FATAL ERROR: JavaScript heap out of memory"]), Cause::OutOfMemory, Confidence::Likely);
    check(
        &said(1, &["Traceback (most recent call last):", "KeyError: 'x'"]),
        Cause::ApplicationError,
        Confidence::Likely,
    );
}

#[test]
fn a_probe_that_times_out_is_told_apart_by_the_cpu() {
    check(&cut_off(Some(1.0)), Cause::Busy, Confidence::Likely);
    check(&cut_off(Some(0.01)), Cause::Hangs, Confidence::Likely);
    check(&cut_off(None), Cause::Hangs, Confidence::Guess);
    let limited = Findings { cpu_limit: Some(0.25), ..cut_off(Some(0.24)) };
    check(&limited, Cause::Busy, Confidence::Likely);
    let mut quick = cut_off(Some(1.0));
    quick.probes[0].end = wall(-20);
    check(&quick, Cause::Unknown, Confidence::None);
}

#[test]
fn a_probe_that_cannot_be_run_is_told_by_its_exit_code() {
    let probe = |exit_code, words: &str| ProbeRun { exit_code, output: vec![words.to_owned()], ..ProbeRun::default() };
    let with = |probes: &[ProbeRun]| Findings { probes: probes.to_vec(), ..unhealthy() };
    check(&with(&[probe(127, "x"), probe(127, "x")]), Cause::ProbeBroken, Confidence::Certain);
    check(&with(&[probe(127, "x")]), Cause::ProbeBroken, Confidence::Likely);
    check(&with(&[probe(127, "x"), probe(1, "x")]), Cause::Unknown, Confidence::None);
    check(&with(&[probe(22, "The requested URL returned error: 500")]), Cause::AnswersWithError, Confidence::Likely);
    check(&with(&[probe(1, "connection refused")]), Cause::NotListening, Confidence::Likely);
}

#[test]
fn a_dependency_that_is_down_is_named() {
    let down = Dependency { service: "db".into(), state: "exited".into(), ..Dependency::default() };
    let well = Dependency { state: "running".into(), ..down.clone() };
    let with =
        |dependency: &Dependency, findings: Findings| Findings { dependencies: vec![dependency.clone()], ..findings };
    check(&with(&down, unhealthy()), Cause::DependencyDown, Confidence::Likely);
    check(&with(&well, unhealthy()), Cause::Unknown, Confidence::None);
    check(&with(&down, ended_with(1)), Cause::DependencyDown, Confidence::Guess);
    let unresolved = with(&down, said(1, &["lookup db: no such host"]));
    check(&unresolved, Cause::DependencyDown, Confidence::Likely);
    assert!(diagnose(&unresolved, at(0).wall).summary.contains("can't reach db"));
    check(&with(&well, said(1, &["lookup db: no such host"])), Cause::NameNotResolved, Confidence::Likely);
}

#[test]
fn a_new_image_is_blamed_when_nothing_better_is_known() {
    let change =
        ImageChange { image_before: "shop/web:1".into(), image_id_before: "sha256:00".into(), at: at(-600).wall };
    let loops = Findings { image_change: Some(change), restart_count: 4, ..ended_with(1) };
    check(&loops, Cause::NewImage, Confidence::Likely);
    check(&Findings { restart_count: 0, ..loops.clone() }, Cause::NewImage, Confidence::Guess);
    check(&Findings { image_id: "sha256:00".into(), ..loops.clone() }, Cause::Unknown, Confidence::None);
    check(&Findings { finished_at: wall(200_000), ..loops.clone() }, Cause::Unknown, Confidence::None);
    check(&Findings { log: vec!["address already in use".into()], ..loops }, Cause::PortTaken, Confidence::Likely);
}

#[test]
fn the_machine_is_blamed_only_when_it_is_in_distress() {
    let host = Host {
        memory_total_bytes: Some(4 << 30),
        memory_available_bytes: Some(100 << 20),
        memory_pressure: Some(0.0),
        oom_kills: Some(1),
        ..Host::default()
    };
    let killed = Findings { host, ..ended_with(137) };
    check(&killed, Cause::HostOutOfMemory, Confidence::Likely);
    let mut calm = killed.clone();
    calm.host.memory_available_bytes = Some(3 << 30);
    check(&calm, Cause::Killed, Confidence::Likely);
    let mut first = killed;
    first.host.oom_kills = Some(0);
    check(&first, Cause::Killed, Confidence::Likely);
}

#[test]
fn a_kill_of_long_ago_is_no_cause_of_today() {
    let ill = Findings { state: "running".into(), health: "unhealthy".into(), ..Findings::default() };
    let killed = |last_oom_seconds| {
        let usage = Usage { oom_kills: Some(3), ..Usage::default() };
        diagnose(&Findings { usage, last_oom_seconds, ..ill.clone() }, at(0).wall).cause
    };
    assert_eq!(killed(Some(30.0)), Cause::OutOfMemory);
    assert_eq!(killed(None), Cause::OutOfMemory);
    assert_eq!(killed(Some(700.0)), Cause::Unknown);
}

#[test]
fn the_surer_diagnosis_is_kept_and_of_equals_the_later() {
    let certain = diagnose(&ended_with(0), at(0).wall);
    let likely = diagnose(&ended_with(134), at(1).wall);
    let later = diagnose(&ended_with(127), at(2).wall);
    assert_eq!(surer(Some(&certain), likely.clone()), certain);
    assert_eq!(surer(Some(&likely), certain.clone()), certain);
    assert_eq!(surer(Some(&likely), later.clone()), later);
    assert_eq!(surer(None, later.clone()), later);
}

/// Lines that could mislead, and some that can't.
fn words() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("FATAL: Address already in use".to_owned()),
        Just("out of memory: killed".to_owned()),
        Just("level=error msg=\"connection refused\"".to_owned()),
        Just("2027-01-15T07:59:00Z redo starts at 0/1".to_owned()),
        Just("HTTP/1.1 500".to_owned()),
        Just("OCI runtime exec failed: executable file not found".to_owned()),
        Just("listening on :80".to_owned()),
        ".{0,80}",
        "\\PC{900,1000}",
    ]
}

fn any_findings() -> impl Strategy<Value = Findings> {
    let state =
        prop_oneof![Just("running"), Just("exited"), Just("dead"), Just("restarting"), Just("created"), Just("x")];
    let health = prop_oneof![Just("unhealthy"), Just("none"), Just("healthy"), Just("")];
    let code = prop_oneof![-2i64..=3, 120i64..=145, any::<i64>()];
    let probe = (prop_oneof![-1i64..=2, 126i64..=127], prop::collection::vec(words(), 0..3), 0i64..10).prop_map(
        |(exit_code, output, lasted)| ProbeRun { start: wall(-20), end: wall(-20 + lasted), exit_code, output },
    );
    let flags = (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<u64>(), -1.0f64..9.0);
    let texts = (words(), prop::collection::vec(words(), 0..60), prop::collection::vec(probe, 0..5));
    (state, health, code, flags, texts).prop_map(|(state, health, exit_code, flags, (error, log, probes))| {
        let (oom_killed, has_error, dependent, changed, number, cpus) = flags;
        let change =
            ImageChange { image_before: error.clone(), image_id_before: "sha256:00".into(), at: at(-600).wall };
        Findings {
            state: state.into(),
            health: health.into(),
            exit_code,
            oom_killed,
            error: if has_error { error.clone() } else { String::new() },
            memory_limit_bytes: changed.then_some(number),
            healthcheck: Some(Check { timeout_seconds: 2.0, ..Check::default() }),
            probes,
            log,
            usage: Usage {
                cpus: Some(cpus),
                memory_peak_bytes: Some(number),
                oom_kills: Some(number % 2),
                ..Usage::default()
            },
            dependencies: if dependent {
                vec![Dependency { service: error, state: "exited".into(), ..Dependency::default() }]
            } else {
                Vec::new()
            },
            image_change: changed.then_some(change),
            ..ended_with(exit_code)
        }
    })
}

proptest! {
    #[test]
    fn any_findings_give_a_bounded_answer_and_always_the_same(findings in any_findings()) {
        let diagnosis = diagnose(&findings, at(0).wall);
        prop_assert_eq!(&diagnosis, &diagnose(&findings, at(0).wall));
        prop_assert!(diagnosis.summary.len() <= LONGEST_SUMMARY && !diagnosis.summary.is_empty());
        prop_assert!(diagnosis.because.len() <= MOST_FACTS);
        prop_assert!(diagnosis.because.iter().all(|fact| fact.len() <= LONGEST_FACT));
        prop_assert!(diagnosis.recommendation.len() <= LONGEST_RECOMMENDATION && !diagnosis.recommendation.ends_with('…'));
        prop_assert_eq!(diagnosis.cause == Cause::Unknown, diagnosis.confidence == Confidence::None);
    }

    #[test]
    fn no_words_of_a_program_make_anything_certain(findings in any_findings(), noise in prop::collection::vec(words(), 0..60)) {
        let (cause, confidence) = diagnosed(&Findings { log: noise.clone(), ..findings.clone() });
        if confidence == Confidence::Certain {
            // Then it was certain without them, and the same.
            let mut silent = Findings { log: Vec::new(), ..findings.clone() };
            silent.probes.iter_mut().for_each(|probe| probe.output.clear());
            prop_assert_eq!(diagnosed(&silent), (cause, confidence));
        }
        // And what was certain stays so, whatever is said beside it.
        if diagnosed(&findings).1 == Confidence::Certain {
            prop_assert_eq!(diagnosed(&Findings { log: noise, ..findings.clone() }), diagnosed(&findings));
        }
    }
}
