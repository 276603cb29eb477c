//! The running healer against a fake engine and real servers: services that are asked whether they work, and what was never started.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::sync::{
    Arc,
    atomic::{AtomicU16, AtomicU32, Ordering::SeqCst},
};

use nexus_model::{IncidentState, Outcome, Refusal, api::IncidentDetail};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpListener,
};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Healer, POLICY},
};

/// A program that answers each request with the status of the moment.
struct Program {
    port: u16,
    status: Arc<AtomicU16>,
    asked: Arc<AtomicU32>,
}

impl Program {
    async fn start(status: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let program = Self { port, status: Arc::new(AtomicU16::new(status)), asked: Arc::default() };
        let (status, asked) = (Arc::clone(&program.status), Arc::clone(&program.asked));
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                asked.fetch_add(1, SeqCst);
                let answer = format!("HTTP/1.1 {} x\r\nContent-Length: 0\r\n\r\n", status.load(SeqCst));
                tokio::spawn(async move {
                    _ = stream.read(&mut [0; 512]).await;
                    _ = stream.write_all(answer.as_bytes()).await;
                });
            }
        });
        program
    }

    /// A container in which it runs, without a health check.
    fn container(&self, service: &str) -> Fake {
        let fake = Fake::service("shop", service).label("nexus.probe", "http://:8080/healthz");
        Fake { health: None, published: Some(self.port), ..fake }
    }
}

async fn started(engine: &Engine, policy: &str) -> Healer {
    let mut healer = Healer::new(engine);
    healer.policy(policy);
    let mut command = healer.command();
    command.args(["--probe.host", "127.0.0.1"]);
    healer.start_as(command).await;
    healer
}

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

#[tokio::test]
async fn an_alert_is_right_or_wrong_by_the_probe_and_so_is_the_restart() {
    let engine = Engine::start();
    let program = Program::start(200).await;
    engine.set("web", program.container("web"));
    let healer = started(&engine, POLICY).await;
    healer.sees("web", "running", "none").await;
    // Nobody asks without a reason.
    assert_eq!(program.asked.load(SeqCst), 0);
    healer.alert("shop", "web").await;
    healer.refused("already_well").await;
    assert!(healer.incidents().await.incidents.is_empty());
    assert_eq!(program.asked.load(SeqCst), 1);

    program.status.store(500, SeqCst);
    // An alert that comes within a second of an answer is one with it.
    eventually("an incident", async || {
        healer.alert("shop", "web").await;
        (!healer.incidents().await.incidents.is_empty()).then_some(())
    })
    .await;
    let failed = "its probe failed: port 8080 answers /healthz with 500, not 200-399";
    let detail = healer.incident("web", "a restart that did not help", |it| it.incident.failed_attempts == 1).await;
    assert_eq!(detail.incident.problem, failed);
    assert_eq!(detail.attempts[0].detail.as_deref(), Some(failed));
    program.status.store(204, SeqCst);
    let detail = healer.incident("web", "its end", closed).await;
    let asked = program.asked.load(SeqCst);
    assert!(matches!(detail.incident.outcome, Some(Outcome::Recovered | Outcome::RecoveredByItself)), "{detail:?}");
    // Nothing hangs on it any more: one that was under way may still have come.
    healer.sees("web", "running", "none").await;
    assert!(program.asked.load(SeqCst) <= asked + 1);
}

#[tokio::test]
async fn what_only_its_probe_calls_ill_is_given_up_too() {
    let engine = Engine::start();
    let program = Program::start(500).await;
    engine.set("web", program.container("web"));
    let healer = started(&engine, POLICY).await;
    healer.sees("web", "running", "none").await;
    healer.alert("shop", "web").await;
    let gave_up = |it: &IncidentDetail| it.incident.state == IncidentState::GaveUp;
    let detail = healer.incident("web", "giving up", gave_up).await;
    assert!(detail.attempts.len() > 1, "{detail:?}");
}

#[tokio::test]
async fn what_cannot_be_reached_is_unknown_and_no_illness() {
    let engine = Engine::start();
    let program = Program::start(500).await;
    engine.set("web", Fake { published: None, ..program.container("web") });
    engine.set(
        "db",
        Fake { published: None, temper: Temper::Mends, health: Some("healthy"), ..program.container("db") }.ill(),
    );
    let healer = started(&engine, POLICY).await;
    healer.sees("web", "running", "none").await;
    healer.alert("shop", "web").await;
    healer.refused("already_well").await;
    assert_eq!(engine.restarts("web"), 0);
    // Its own health check has said so; afterwards that alone is what counts, and it is told why.
    healer.alert("shop", "db").await;
    let detail = healer.incident("db", "its end", closed).await;
    assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::Recovered), 1));
    let verified = detail.events.iter().find(|event| event.kind == "verified").unwrap();
    assert!(verified.detail.contains("its probe says nothing: its port 8080 is not published"), "{verified:?}");
    assert_eq!(program.asked.load(SeqCst), 0);
}

#[tokio::test]
async fn the_probe_of_what_it_needs_names_the_root() {
    let engine = Engine::start();
    let program = Program::start(503).await;
    engine.set("db", program.container("db"));
    engine.set(
        "web",
        Fake::service("shop", "web").label("com.docker.compose.depends_on", "db:service_started:false").ill(),
    );
    // Older than what has only just been started.
    engine.quietly("db", |it| it.started_at -= std::time::Duration::from_secs(3600));
    let healer = started(&engine, POLICY).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("db", "a restart", |it| it.incident.attempts == 1).await;
    assert_eq!(detail.incident.alert, "ProbeFailed");
    program.status.store(200, SeqCst);
    healer.incident("db", "its end", closed).await;
    healer.incident("web", "its end", closed).await;
    assert_eq!(engine.all_restarts()[0].0, "db");
}

#[tokio::test]
async fn what_docker_restarted_itself_was_not_helped() {
    let engine = Engine::start();
    engine.set("web", Fake::service("shop", "web").ill());
    let healer = Healer::started(&engine).await;
    // The first run is over before anybody looks: the second one is what the watcher sees.
    engine.change("web", |it| it.restart_count = 1);
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "a verdict", |it| it.incident.failed_attempts == 1).await;
    let why = detail.attempts[0].detail.clone().unwrap_or_default();
    assert!(why.contains("docker's restart policy has started it once since"), "{why}");
    engine.change("web", |it| it.restart_count = 0);
    healer.incident("web", "its end", closed).await;
}

fn never_started(service: &str, seconds_ago: u64) -> Fake {
    let created_at = jiff::Timestamp::now() - std::time::Duration::from_secs(seconds_ago);
    Fake { status: "created", health: None, created_at, ..Fake::service("shop", service) }
}

#[tokio::test]
async fn what_was_created_and_never_started_is_started_where_that_is_allowed() {
    let engine = Engine::start();
    engine.set("web", never_started("web", 3600));
    engine.set("once", Fake { restart_policy: "no", ..never_started("once", 3600) });
    engine.set(
        "late",
        never_started("late", 3600).label("com.docker.compose.depends_on", "job:service_completed_successfully:false"),
    );
    engine.set("job", Fake { status: "exited", exit_code: 1, restart_policy: "no", ..Fake::service("shop", "job") });
    engine.set("down", Fake::service("shop", "down"));
    engine.set("stopped", Fake::service("shop", "stopped"));
    let healer = started(&engine, &format!("{POLICY}remedies:\n  start: true\n")).await;
    let detail = healer.incident("web", "its end", closed).await;
    assert_eq!((detail.incident.alert.as_str(), detail.attempts[0].action.as_str()), ("NeverStarted", "start"));
    assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::Recovered), 1));
    assert_eq!(engine.others(), [("start", "web".to_owned())]);
    // One that has ended by itself is started as well, and what somebody stopped is not.
    healer.sees("down", "running", "healthy").await;
    engine.stop("stopped");
    engine.exit("down", 1);
    healer.sees("down", "exited", "unhealthy").await;
    healer.sees("stopped", "exited", "unhealthy").await;
    healer.alert("shop", "down").await;
    healer.alert("shop", "stopped").await;
    healer.incident("down", "its end", closed).await;
    healer.refused("stopped_by_human").await;
    let started: Vec<String> = engine.others().into_iter().map(|(_, id)| id).collect();
    assert_eq!(started, ["web", "down"]);
    assert!(engine.all_restarts().is_empty());
    // What its start waits for has done its work now.
    engine.change("job", |it| it.exit_code = 0);
    healer.incident("late", "its end", closed).await;
    assert!(engine.others().contains(&("start", "late".to_owned())));
}

#[tokio::test]
async fn what_was_never_started_is_left_alone_where_nothing_is_said() {
    let engine = Engine::start();
    engine.set("web", never_started("web", 3600));
    engine.set("db", Fake::service("shop", "db"));
    let healer = started(&engine, POLICY).await;
    healer.sees("db", "running", "healthy").await;
    healer.alert("shop", "web").await;
    healer.refused(Refusal::NeverStarted.as_str()).await;
    engine.exit("db", 1);
    healer.sees("db", "exited", "unhealthy").await;
    healer.alert("shop", "db").await;
    let detail = healer.incident("db", "its end", closed).await;
    assert_eq!(detail.attempts[0].action, "restart");
    assert!(engine.others().is_empty());
    eventually("nothing of web", async || {
        healer.incidents().await.incidents.iter().all(|it| it.service == "db").then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_replaces_one_that_is_still_stopping_is_not_started_beside_it() {
    let engine = Engine::start();
    // `docker compose up -d` has created the new one, and the old one takes its time to end.
    engine.set("old", Fake::service("shop", "db"));
    let number = |fake: Fake| fake.label("com.docker.compose.container-number", "1");
    engine.set("former", number(Fake { name: "shop-cache-1".into(), ..Fake::service("shop", "cache") }));
    let healer = started(&engine, &format!("{POLICY}remedies:\n  start: true\n")).await;
    healer.sees("db", "running", "healthy").await;
    engine.begin_to_stop("old");
    engine.set("new", Fake { name: "0ld_shop-db-1".into(), ..never_started("db", 3600) });
    // This one was given up by its user before the old one was stopped.
    engine.set("next", number(Fake { name: "f0rmer_shop-cache-1".into(), ..never_started("cache", 3600) }));
    engine.set("web", never_started("web", 3600));
    healer.incident("web", "its end", closed).await;
    assert_eq!(engine.others(), [("start", "web".to_owned())]);
    // The old one has ended, and who was about to start the new one has gone.
    engine.end_of_stop("old");
    healer.incident("db", "its end", closed).await;
    assert_eq!(engine.others().last(), Some(&("start", "new".to_owned())));
    assert_eq!(engine.others().len(), 2);
}
