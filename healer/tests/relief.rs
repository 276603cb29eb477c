//! The running healer on a machine that runs out of memory, and containers that do: a fake engine, and files that say what
//! the kernel would.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{path::PathBuf, time::Duration};

use nexus_model::{AttemptOutcome, EvidenceKind, IncidentState, Mode, Outcome, Refusal, api::IncidentDetail};
use serde_json::json;

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Alertmanager, Healer, POLICY, payload},
};

const MIB: u64 = 1 << 20;

/// A healer on a machine whose memory this test decides.
struct Machine {
    healer: Healer,
    folder: tempfile::TempDir,
}

impl Machine {
    async fn start(engine: &Engine, policy: &str, alertmanager: Option<&Alertmanager>) -> Self {
        let mut machine = Self { healer: Healer::new(engine), folder: tempfile::tempdir().unwrap() };
        machine.memory(80, None);
        machine.healer.policy(&format!("{POLICY}{policy}"));
        if let Some(alertmanager) = alertmanager {
            machine.healer.tells(alertmanager);
        }
        machine.restart().await;
        machine
    }

    async fn restart(&mut self) {
        let mut command = self.healer.command();
        command.arg("--path.procfs").arg(self.folder.path()).arg("--path.cgroupfs").arg(self.cgroups());
        self.healer.start_as(command).await;
    }

    fn cgroups(&self) -> PathBuf {
        self.folder.path().join("cgroup")
    }

    /// How many percent are available, and how long everybody waits for it where the kernel tells.
    fn memory(&self, percent: u64, stalled: Option<&str>) {
        let text = format!("MemTotal: 4000000 kB\nMemFree: 1000 kB\nMemAvailable: {} kB\n", percent * 40_000);
        replace(&self.folder.path().join("meminfo"), &text);
        if let Some(stalled) = stalled {
            std::fs::create_dir_all(self.folder.path().join("pressure")).unwrap();
            let line = |kind| format!("{kind} avg10={stalled} avg60=0.00 avg300=0.00 total=0\n");
            replace(&self.folder.path().join("pressure/memory"), &(line("some") + &line("full")));
        }
    }

    async fn host(&self, what: &str, wanted: impl Fn(&IncidentDetail) -> bool) -> IncidentDetail {
        self.healer.incident("memory", what, wanted).await
    }
}

/// At once, so that nobody reads half of it.
fn replace(path: &std::path::Path, text: &str) {
    let new = path.with_extension("new");
    std::fs::write(&new, text).unwrap();
    std::fs::rename(new, path).unwrap();
}

fn two(engine: &Engine) {
    engine.set("c1", Fake::service("photos", "worker").label("nexus.expendable", "true"));
    engine.set("c2", Fake::service("photos", "web"));
}

fn of_host(alert: &str, heal: &str) -> serde_json::Value {
    payload(&[json!({ "status": "firing", "labels": { "alertname": alert, "heal": heal, "host": "pi" } })])
}

const ALLOWED: &str = "remedies: {stop_expendables: true}\n";

fn kinds(detail: &IncidentDetail) -> Vec<&str> {
    detail.events.iter().map(|event| event.kind.as_str()).collect()
}

#[tokio::test]
async fn an_expendable_is_stopped_for_memory_and_started_again_by_a_healer_that_was_killed_meanwhile() {
    let engine = Engine::start();
    two(&engine);
    let alertmanager = Alertmanager::start().await;
    let mut machine = Machine::start(&engine, ALLOWED, Some(&alertmanager)).await;
    machine.healer.sees("worker", "running", "healthy").await;
    machine.memory(4, None);
    let stopped = |detail: &IncidentDetail| {
        detail.attempts.first().is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::Helped))
    };
    let detail = machine.host("the worker stopped", stopped).await;
    assert_eq!(engine.container("c1").status, "exited");
    let incident = &detail.incident;
    assert_eq!(
        (incident.project.as_str(), incident.mode, incident.alert.as_str()),
        ("_host", Mode::Heal, "HealerSawShortage")
    );
    assert_eq!(detail.attempts[0].action, "stop");
    let evidence = &detail.evidence[0];
    assert_eq!((evidence.kind, evidence.attempt_id), (EvidenceKind::HostVitals, Some(detail.attempts[0].id)));
    assert_eq!(evidence.body["available_bytes"], 160_000 * 1024);
    eventually("people are told what was stopped", async || {
        let told = alertmanager.told("HostReliefStopped").pop()?;
        told["annotations"]["summary"].as_str()?.contains("photos/worker").then_some(())
    })
    .await;
    // It gives up: nothing else is expendable. What is not expendable runs on.
    assert_eq!(engine.container("c2").status, "running");

    machine.healer.kill();
    machine.memory(60, None);
    machine.restart().await;
    let detail = machine.host("an incident that is over", |detail| !detail.incident.state.is_open()).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    let actions: Vec<&str> = detail.attempts.iter().map(|attempt| attempt.action.as_str()).collect();
    assert_eq!(actions, ["stop", "start"]);
    assert_eq!(engine.container("c1").status, "running");
    assert_eq!(engine.others().into_iter().map(|(what, _)| what).collect::<Vec<_>>(), ["stop", "start"]);
    // A stop that the healer asked for is nobody's illness, and its start none either.
    assert_eq!(engine.restarts("c1"), 0);
    assert_eq!(machine.healer.incidents().await.incidents.len(), 1);
    let acts = machine.healer.metric("nexus_healer_relief_acts_total{action=\"start\",outcome=\"helped\"}").await;
    assert_eq!(acts, Some(1.0));
}

#[tokio::test]
async fn what_is_stopped_for_memory_is_nobodys_stop_and_its_incident_waits_for_the_start() {
    let engine = Engine::start();
    two(&engine);
    engine.change("c1", |it| (it.temper, it.health) = (Temper::StaysIll, Some("unhealthy")));
    let mut machine = Machine::start(&engine, ALLOWED, None).await;
    machine.healer.sees("worker", "running", "unhealthy").await;
    machine.healer.alert("photos", "worker").await;
    machine.healer.incident("worker", "giving up", |it| it.incident.state == IncidentState::GaveUp).await;
    machine.memory(4, None);
    let waits = |it: &IncidentDetail| it.incident.refusal == Some(Refusal::StoppedForRoom);
    let held = machine.healer.incident("worker", "waiting for room", waits).await;
    assert_eq!((held.incident.state, held.incident.outcome), (IncidentState::GaveUp, None));
    // So it is for the next process.
    machine.healer.kill();
    engine.change("c1", |it| it.temper = Temper::Mends);
    machine.restart().await;
    machine.healer.sees_ended("worker").await;
    machine.memory(60, None);
    let over = |it: &IncidentDetail| !it.incident.state.is_open();
    let detail = machine.healer.incident("worker", "the end of its incident", over).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::RecoveredByItself));
    assert_eq!((engine.container("c1").status, engine.restarts("c1")), ("running", 3));
}

#[tokio::test]
async fn what_somebody_starts_meanwhile_is_theirs() {
    let engine = Engine::start();
    two(&engine);
    let machine = Machine::start(&engine, ALLOWED, None).await;
    machine.healer.sees("worker", "running", "healthy").await;
    machine.memory(4, None);
    machine.host("the worker stopped", |detail| kinds(detail).contains(&"relieved")).await;
    machine.memory(60, None);
    // Faster than any wait that is left: the next look is half a second away, and the start one second of plenty.
    engine.change("c1", |fake| (fake.status, fake.started_at) = ("running", jiff::Timestamp::now()));
    let detail = machine.host("an incident that is over", |detail| !detail.incident.state.is_open()).await;
    assert!(kinds(&detail).contains(&"left"), "{:?}", kinds(&detail));
    assert_eq!(engine.others().len(), 1);
}

#[tokio::test]
async fn without_a_word_of_the_policy_it_is_only_written_down() {
    let engine = Engine::start();
    two(&engine);
    let alertmanager = Alertmanager::start().await;
    let machine = Machine::start(&engine, "", Some(&alertmanager)).await;
    machine.healer.sees("worker", "running", "healthy").await;
    machine.memory(4, None);
    let detail = machine.host("what would be done", |detail| kinds(detail).contains(&"would")).await;
    assert_eq!((detail.incident.mode, detail.incident.state), (Mode::Shadow, IncidentState::Watching));
    let would = detail.events.iter().find(|event| event.kind == "would").unwrap();
    assert_eq!(would.detail, "would have stopped photos/worker (remedies.stop_expendables)");
    // It is open, and nobody's to acknowledge.
    let ack = format!("/api/v1/incidents/{}/ack", detail.incident.id);
    let (status, answer) = machine.healer.api("POST", &ack, "").await;
    assert!(status == 409 && answer.contains("the machine's own"), "{status}: {answer}");
    machine.memory(60, None);
    let detail = machine.host("an incident that is over", |detail| !detail.incident.state.is_open()).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::RecoveredByItself));
    assert!(engine.others().is_empty() && detail.attempts.is_empty());
    assert!(alertmanager.told("HostReliefStopped").is_empty() && alertmanager.told("HostReliefFailed").is_empty());
}

#[tokio::test]
async fn a_silence_holds_it_back() {
    let engine = Engine::start();
    two(&engine);
    let alertmanager = Alertmanager::start().await;
    alertmanager.silence_by(Some(("alertname", "HostMemoryShort")));
    let machine = Machine::start(&engine, ALLOWED, Some(&alertmanager)).await;
    machine.healer.sees("worker", "running", "healthy").await;
    eventually("alertmanager known", async || {
        machine.healer.metric("nexus_healer_alertmanager_up").await.filter(|up| *up == 1.0)
    })
    .await;
    machine.memory(4, None);
    let (status, _) = machine.healer.post(&of_host("HostMemoryShort", "relieve")).await;
    assert_eq!(status, 200);
    let detail = machine.host("an incident", |detail| detail.incident.refusal == Some(Refusal::Silenced)).await;
    assert!(detail.attempts.is_empty() && engine.others().is_empty());
}

#[tokio::test]
async fn an_alert_makes_it_look_at_what_is_only_tight_and_is_no_verdict() {
    let engine = Engine::start();
    two(&engine);
    let machine = Machine::start(&engine, ALLOWED, None).await;
    machine.healer.sees("worker", "running", "healthy").await;
    // There is plenty, whatever the alert says.
    assert_eq!(machine.healer.post(&of_host("HostMemoryShort", "relieve")).await.0, 200);
    machine.healer.refused("already_well").await;
    // Tight is no reason by itself.
    machine.memory(9, None);
    let (status, _) = machine.healer.post(&of_host("HostMemoryShort", "relieve")).await;
    assert_eq!(status, 200);
    let detail = machine.host("the worker stopped", |detail| kinds(detail).contains(&"relieved")).await;
    assert_eq!(detail.incident.alert, "HostMemoryShort");
    assert_eq!(engine.others(), [("stop", "c1".to_owned())]);
}

#[tokio::test]
async fn pressure_counts_where_the_kernel_tells_and_a_docker_that_refuses_is_told() {
    let engine = Engine::start();
    engine.set(
        "c1",
        Fake { temper: Temper::Refuses, ..Fake::service("photos", "worker") }.label("nexus.expendable", "1"),
    );
    let machine = Machine::start(&engine, ALLOWED, None).await;
    machine.healer.sees("worker", "running", "healthy").await;
    machine.memory(12, Some("35.00"));
    let failed = |detail: &IncidentDetail| {
        detail.attempts.first().is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::Failed))
    };
    let detail = machine.host("a stop that docker refused", failed).await;
    assert!(detail.attempts[0].detail.as_ref().unwrap().contains("cannot stop it"));
}

/// What the kernel would say of a container, in either version of control groups.
fn leak(machine: &Machine, version: u32, id: &str, bytes: u64) {
    let (folder, usage, cached) = match version {
        1 => (format!("memory/docker/{id}"), "memory.usage_in_bytes", "total_inactive_file"),
        _ => (format!("system.slice/docker-{id}.scope"), "memory.current", "inactive_file"),
    };
    let folder = machine.cgroups().join(folder);
    std::fs::create_dir_all(&folder).unwrap();
    if version == 2 {
        std::fs::write(machine.cgroups().join("cgroup.controllers"), "memory\n").unwrap();
    }
    replace(&folder.join("memory.stat"), &format!("{cached} 1000000\n"));
    replace(&folder.join(usage), &format!("{}\n", bytes + 1_000_000));
}

/// A leak of 2 MB/s in a container of 160 MB, from 60 MB on: the kernel would kill it after 50 seconds.
async fn a_leak_is_told_and_restarted(version: u32, heal: &str) -> (Engine, Machine, Alertmanager, Duration) {
    let engine = Engine::start();
    let web = Fake { memory: 160_000_000, ..Fake::service("photos", "web") };
    engine.set("c1", web.label("nexus.heal", heal));
    let alertmanager = Alertmanager::start().await;
    let machine = Machine::start(&engine, "", Some(&alertmanager)).await;
    machine.healer.sees("web", "running", "healthy").await;
    let began = std::time::Instant::now();
    let mut told = None;
    while began.elapsed() < Duration::from_secs(45) && engine.restarts("c1") == 0 {
        let used = 60_000_000 + began.elapsed().as_millis() as u64 * 2_000;
        leak(&machine, version, "c1", used);
        if told.is_none() && !alertmanager.told("ContainerMemoryRunsOut").is_empty() {
            told = Some(Duration::from_secs(50).saturating_sub(began.elapsed()));
            if heal == "shadow" {
                break;
            }
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    // A restart says as much as an alert.
    let acted = (engine.restarts("c1") > 0).then(|| Duration::from_secs(50).saturating_sub(began.elapsed()));
    (engine, machine, alertmanager, told.or(acted).unwrap_or_default())
}

#[tokio::test]
async fn a_leak_is_restarted_30_s_before_the_kernel_kills() {
    let (engine, machine, _alertmanager, left) = a_leak_is_told_and_restarted(2, "true").await;
    assert!(left >= Duration::from_secs(30), "told or restarted {left:?} before the end");
    assert_eq!(engine.restarts("c1"), 1);
    let helped = |detail: &IncidentDetail| {
        leak(&machine, 2, "c1", 20 * MIB);
        detail.incident.outcome == Some(Outcome::Recovered)
    };
    let detail = machine.healer.incident("web", "a restart that helped", helped).await;
    assert_eq!(detail.incident.alert, "ContainerMemoryRunsOut");
    assert!(detail.incident.problem.contains("reaches its limit of 152.6 MiB"), "{}", detail.incident.problem);
    assert_eq!(detail.attempts.len(), 1);
}

#[tokio::test]
async fn a_leak_is_told_with_control_groups_of_version_1_and_left_alone_where_healing_is_off() {
    let (engine, machine, alertmanager, left) = a_leak_is_told_and_restarted(1, "shadow").await;
    assert!(left >= Duration::from_secs(30), "told {left:?} before the end");
    let told = alertmanager.told("ContainerMemoryRunsOut").pop().unwrap();
    assert_eq!((&told["labels"]["service"], &told["labels"]["severity"]), (&json!("web"), &json!("critical")));
    assert_eq!(engine.restarts("c1"), 0);
    assert_eq!(machine.healer.metric("nexus_healer_memory_running_out_containers").await, Some(1.0));
    // What the dashboards count as needing somebody.
    let alert = "nexus_healer_alerts{alertname=\"ContainerMemoryRunsOut\",severity=\"critical\",project=\"photos\",\
        service=\"web\",name=\"photos-web-1\",resource=\"\"}";
    assert_eq!(machine.healer.metric(alert).await, Some(1.0));
}

#[tokio::test]
async fn one_that_ends_late_after_docker_has_given_up_its_stop_is_started_again() {
    let engine = Engine::start();
    two(&engine);
    engine.change("c1", |it| it.temper = Temper::Refuses);
    let machine = Machine::start(&engine, ALLOWED, None).await;
    machine.healer.sees("worker", "running", "healthy").await;
    machine.memory(4, None);
    let failed = |detail: &IncidentDetail| {
        detail.attempts.first().is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::Failed))
    };
    machine.host("a stop that failed", failed).await;
    machine.memory(60, None);
    machine.host("room", |detail| kinds(detail).contains(&"eased")).await;
    engine.end_of_stop("c1");
    machine.healer.sees_ended("worker").await;
    engine.change("c1", |it| it.temper = Temper::Mends);
    let detail = machine.host("an incident that is over", |detail| !detail.incident.state.is_open()).await;
    assert_eq!(detail.attempts.last().map(|attempt| attempt.action.as_str()), Some("start"), "{detail:?}");
    assert_eq!(engine.container("c1").status, "running");
}
