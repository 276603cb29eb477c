//! The running healer is killed, hindered and stopped: nothing is forgotten and nothing is done twice.

use std::time::{Duration, Instant};

use nexus_model::{AttemptOutcome, IncidentState, Outcome, api::IncidentDetail};
use serde_json::Value;

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Healer, POLICY, firing, payload},
};

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

fn restarting(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Restarting
}

#[tokio::test]
async fn killed_while_docker_restarts_it_neither_forgets_nor_restarts_twice() {
    let engine = Engine::start();
    engine.set("c1", Fake { stops_in: Duration::from_secs(2), ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "restarting", restarting).await;
    // The intent is on disk a moment before Docker hears of it.
    eventually("the restart", async || (engine.restarts("c1") == 1).then_some(())).await;
    healer.kill();
    healer.start().await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(detail.attempts.len(), 1);
    assert_eq!(detail.attempts[0].outcome, Some(AttemptOutcome::Helped));
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn killed_before_docker_heard_of_it_the_intent_counts_and_the_next_attempt_helps() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::Ignores, ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "restarting", restarting).await;
    // The intent is on disk a moment before Docker hears of it.
    eventually("the restart", async || (engine.restarts("c1") == 1).then_some(())).await;
    healer.kill();
    engine.change("c1", |it| it.temper = Temper::Mends);
    healer.start().await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    let outcomes: Vec<_> = detail.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Some(AttemptOutcome::Interrupted), Some(AttemptOutcome::Helped)]);
    // The stop time-out of 1 s and the margin are given to Docker before anything else is done.
    let waited = detail.attempts[1].intended_at.duration_since(detail.attempts[0].intended_at);
    assert!(waited.as_secs() >= 21, "{waited:?}");
}

#[tokio::test]
async fn killed_in_the_backoff_it_keeps_the_delay_and_the_budget() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::new(&engine);
    healer.policy(&POLICY.replace("base_delay: 1s", "base_delay: 4s").replace("max_delay: 2s", "max_delay: 4s"));
    healer.start().await;
    healer.alert("shop", "web").await;
    for number in 1..=2 {
        let failed = |it: &IncidentDetail| it.incident.failed_attempts == number;
        let before = healer.incident("web", "a failed attempt", failed).await;
        healer.kill();
        healer.start().await;
        let after = healer.incident("web", "the same incident", |_| true).await;
        assert_eq!(after.incident.next_attempt_at, before.incident.next_attempt_at);
    }
    let gave_up = |it: &IncidentDetail| it.incident.state == IncidentState::GaveUp;
    let detail = healer.incident("web", "giving up", gave_up).await;
    for pair in detail.attempts.windows(2) {
        assert!(pair[1].intended_at.duration_since(pair[0].intended_at).as_secs() >= 2);
    }
    assert_eq!(engine.restarts("c1"), 3);
    healer.kill();
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.incident("web", "still given up", gave_up).await;
    assert_eq!(engine.restarts("c1"), 3);
}

#[tokio::test]
async fn a_lost_answer_is_no_reason_to_restart_again() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::Mute, ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    eventually("the restart", async || (engine.restarts("c1") == 1).then_some(())).await;
    healer.kill();
    healer.start().await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn an_alert_that_was_answered_is_looked_into_after_a_crash() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    // Docker hangs: the alert is taken at once, and waits.
    engine.hang(true);
    eventually("docker is down", async || healer.metric("nexus_healer_docker_up").await.filter(|up| *up == 0.0)).await;
    let began = Instant::now();
    healer.alert("shop", "web").await;
    // Not for as long as Docker is waited for, which is 10 s; the rest is how busy this machine is.
    assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    healer.kill();
    engine.hang(false);
    healer.start().await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
}

#[tokio::test]
async fn who_stopped_what_is_remembered() {
    let engine = Engine::start();
    for service in ["by-human", "by-itself"] {
        engine.set(service, Fake { health: None, ..Fake::service("shop", service) });
    }
    let mut healer = Healer::started(&engine).await;
    healer.sees("by-human", "running", "none").await;
    engine.stop("by-human");
    engine.exit("by-itself", 1);
    // Seen, and written down: one commit for each look.
    eventually("both are seen to be stopped", async || {
        let list = healer.services().await.services;
        let stopped = |it: &nexus_model::api::ServiceView| it.containers.iter().all(|it| it.state == "exited");
        (list.len() == 2 && list.iter().all(stopped)).then_some(())
    })
    .await;
    let (_, log) = healer.stop();
    assert!(log.contains("stopped"));
    healer.start().await;
    healer.sees("by-human", "exited", "none").await;
    let alerts: Vec<Value> = ["by-human", "by-itself"].map(|service| firing("shop", service)).into();
    healer.post(&payload(&alerts)).await;
    healer.refused("stopped_by_human").await;
    let detail = healer.incident("by-itself", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!((engine.restarts("by-human"), engine.restarts("by-itself")), (0, 1));
}

#[tokio::test]
async fn a_container_that_can_not_be_inspected_holds_up_nobody_else() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "bad").ill());
    engine.set("c2", Fake::service("shop", "web").ill());
    let healer = Healer::started(&engine).await;
    healer.sees("bad", "running", "unhealthy").await;
    engine.change("c1", |it| it.hangs = true);
    healer.alert("shop", "bad").await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(engine.restarts("c1"), 0);
}

#[tokio::test]
async fn it_stops_in_order_and_says_so() {
    let engine = Engine::start();
    engine.set("c1", Fake { stops_in: Duration::from_secs(2), ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "restarting", restarting).await;
    let address = healer.address();
    let began = Instant::now();
    let (status, log) = healer.stop();
    assert!(status.success(), "{status}");
    // Docker's restart is not waited for; the next start finds out.
    assert!(began.elapsed() < Duration::from_secs(2), "{:?}", began.elapsed());
    assert!(std::net::TcpStream::connect(address).is_err());
    let order: Vec<&str> =
        log.lines().filter_map(|line| line.rsplit("INFO ").next()).filter(|line| line.starts_with("stop")).collect();
    assert_eq!(order, ["stopping", "stopped"]);
    // The log of the journal is folded in: the one file is all of it.
    let journal = healer.folder.path().join("journal.db");
    let wal = std::fs::metadata(healer.folder.path().join("journal.db-wal")).map_or(0, |file| file.len());
    assert!(journal.exists() && wal == 0, "{wal} bytes were left in the log");
    healer.start().await;
    healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn a_second_healer_on_the_same_journal_is_refused_with_a_clear_line() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    let second = healer.command().output().unwrap();
    let said = String::from_utf8_lossy(&second.stderr);
    assert_eq!(second.status.code(), Some(1), "{said}");
    assert!(said.contains("journal.db is in use: another healer is running on it; stop it first"), "{said}");
    assert_eq!(healer.request("GET", "/readyz", None, "").await.0, 200);
}

#[tokio::test]
async fn without_a_writable_journal_nothing_is_taken_and_nothing_is_done() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::new(&engine);
    // Filling a file system needs root; a limit on the size of files does the same to SQLite. The signal that comes
    // with it is ignored by the shell, which a process inherits.
    let command = healer.command();
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; exec \"$@\"", "bash"]).arg(command.get_program()).args(command.get_args());
    healer.start_as(limited).await;
    healer.sees("web", "running", "unhealthy").await;
    // An incident is open when the disk fills: its restart has to wait as well.
    engine.change("c1", |it| it.stops_in = Duration::from_millis(500));
    healer.limit_files(Some(0));
    let began = Instant::now();
    let (status, answer) = healer.post(&payload(&[firing("shop", "web")])).await;
    assert_eq!(status, 503, "{answer}");
    assert!(answer.contains("the journal can't be written"), "{answer}");
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(healer.request("GET", "/readyz", None, "").await.0, 503);
    assert_eq!(healer.metric("nexus_healer_journal_writable").await, Some(0.0));
    let (status, answer) = healer.api("PUT", "/api/v1/heal", r#"{"project":"shop","mode":"off"}"#).await;
    assert_eq!(status, 503, "{answer}");
    assert_eq!(engine.all_restarts(), []);

    // Alertmanager sends it again, and by then there is room.
    healer.limit_files(None);
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(healer.request("GET", "/readyz", None, "").await.0, 200);
}

#[tokio::test]
async fn a_disk_that_fills_between_the_alert_and_the_act_holds_the_act_back() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::new(&engine);
    let command = healer.command();
    let mut limited = std::process::Command::new("bash");
    limited.args(["-c", "trap '' XFSZ; exec \"$@\"", "bash"]).arg(command.get_program()).args(command.get_args());
    healer.start_as(limited).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "the first failed attempt", |it| it.incident.failed_attempts == 1).await;
    healer.limit_files(Some(0));
    let refused = "nexus_healer_refusals_total{reason=\"journal_unavailable\"}";
    eventually("an act that is held back", async || healer.metric(refused).await.filter(|count| *count >= 1.0)).await;
    let before = engine.restarts("c1");
    assert!(before <= 2, "{before}");
    engine.change("c1", |it| it.temper = Temper::Mends);
    healer.limit_files(None);
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    // Every restart has its intent.
    assert_eq!(engine.restarts("c1"), detail.attempts.len());
}
