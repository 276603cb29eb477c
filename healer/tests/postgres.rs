//! The copy in Postgres, against a real one. Needs NEXUS_TEST_DATABASE_URL with the URL of a superuser; without it the
//! cases are reported as ignored, with the reason in their names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use nexus_model::{IncidentState, Outcome, api::IncidentDetail};
use support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::Healer,
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_postgres::{Client, Config, NoTls};

const VARIABLE: &str = "NEXUS_TEST_DATABASE_URL";

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let url = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
    let mut trials = Vec::new();
    macro_rules! case {
        ($name:ident) => {
            let known = url.clone();
            let name = stringify!($name);
            let name = if url.is_some() { name.to_owned() } else { format!("{name} (set {VARIABLE})") };
            let run = move || {
                let url = known.unwrap_or_default();
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on($name(&url));
                Ok(())
            };
            trials.push(Trial::test(name, run).with_ignored_flag(url.is_none()));
        };
    }
    case!(every_row_arrives_once_and_says_what_the_journal_says);
    case!(what_happens_while_postgres_is_away_arrives_when_it_is_back);
    case!(postgres_may_be_away_from_the_start_and_the_schema_come_late);
    case!(killed_in_the_middle_of_a_copy_it_leaves_every_row_once);
    case!(a_row_that_postgres_never_takes_does_not_hold_up_the_others);
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// A database of its own for each case, and a way to it that can be cut.
struct Database {
    name: String,
    admin: Client,
    client: Client,
    wire: Wire,
    config: Config,
}

impl Database {
    async fn create(url: &str) -> Self {
        let config: Config = url.parse().unwrap();
        let admin = connect(&config).await;
        let name = format!("nexus_test_{}", uuid::Uuid::now_v7().simple());
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        for role in ["nexus_healer", "nexus_grafana", "nexus_reporter", "nexus_reader"] {
            // Roles belong to the whole server, and cases run at once.
            let create = format!(
                "DO $$ BEGIN CREATE ROLE {role} LOGIN PASSWORD 'test-secret';
                 EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            );
            admin.batch_execute(&create).await.unwrap();
        }
        let mut own = config.clone();
        own.dbname(&name);
        let client = connect(&own).await;
        let wire = Wire::start(&config).await;
        Self { name, admin, client, wire, config }
    }

    async fn migrate(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        for file in files {
            self.client.batch_execute(&std::fs::read_to_string(file).unwrap()).await.unwrap();
        }
    }

    /// As a healer is told of it: by the wire, as its own role, with the password in a file.
    async fn healer(&self, engine: &Engine) -> Healer {
        let mut healer = Healer::new(engine);
        std::fs::write(healer.folder.path().join("password"), "test-secret\n").unwrap();
        // The test server may know the role with another password.
        _ = self.admin.batch_execute("ALTER ROLE nexus_healer PASSWORD 'test-secret'").await;
        healer.database = Some(format!("postgres://nexus_healer@{}/{}", self.wire.address, self.name));
        healer.start().await;
        healer
    }

    async fn count(&self, table: &str) -> i64 {
        self.client.query_one(&format!("SELECT count(*) FROM {table}"), &[]).await.unwrap().get(0)
    }

    /// Waits until the incident of a service is there as it stands in the journal, and compares everything.
    async fn agrees(&self, detail: &IncidentDetail) {
        let incident = &detail.incident;
        eventually("the last revision in postgres", async || {
            let query = "SELECT revision FROM incidents WHERE id = $1";
            let row = self.client.query_opt(query, &[&incident.id]).await.unwrap()?;
            (row.get::<_, i64>(0) == incident.revision).then_some(())
        })
        .await;
        eventually("all rows in postgres", async || {
            let expected = [
                ("attempts", detail.attempts.len()),
                ("evidence", detail.evidence.len()),
                ("incident_events", detail.events.len()),
            ];
            for (table, expected) in expected {
                let query = format!("SELECT count(*), count(DISTINCT id) FROM {table} WHERE incident_id = $1");
                let row = self.client.query_one(&query, &[&incident.id]).await.unwrap();
                let (rows, distinct): (i64, i64) = (row.get(0), row.get(1));
                assert_eq!(rows, distinct);
                if rows != expected as i64 {
                    return None;
                }
            }
            Some(())
        })
        .await;
        let query = "SELECT state, outcome, problem, attempts, opened_at, closed_at FROM incidents WHERE id = $1";
        let row = self.client.query_one(query, &[&incident.id]).await.unwrap();
        assert_eq!(row.get::<_, &str>(0), incident.state.as_str());
        assert_eq!(row.get::<_, Option<&str>>(1), incident.outcome.map(Outcome::as_str));
        assert_eq!(row.get::<_, &str>(2), incident.problem);
        assert_eq!(row.get::<_, i32>(3), incident.attempts as i32);
        let micros = |at: jiff::Timestamp| at.as_microsecond();
        assert!((micros(row.get(4)) - micros(incident.opened_at)).abs() <= 1);
        assert_eq!(row.get::<_, Option<jiff::Timestamp>>(5).is_some(), incident.closed_at.is_some());
        let query = "SELECT diagnosis, cause, confidence FROM incidents WHERE id = $1";
        let row = self.client.query_one(query, &[&incident.id]).await.unwrap();
        let diagnosis = incident.diagnosis.as_ref();
        assert_eq!(row.get::<_, Option<serde_json::Value>>(0), diagnosis.map(|it| serde_json::to_value(it).unwrap()));
        assert_eq!(row.get::<_, Option<&str>>(1), diagnosis.map(|it| it.cause.as_str()));
        assert_eq!(row.get::<_, Option<&str>>(2), diagnosis.map(|it| it.confidence.as_str()));
        for attempt in &detail.attempts {
            let query = "SELECT outcome, revision FROM attempts WHERE id = $1";
            let row = self.client.query_one(query, &[&attempt.id]).await.unwrap();
            assert_eq!(row.get::<_, Option<&str>>(0), attempt.outcome.map(nexus_model::AttemptOutcome::as_str));
            assert_eq!(row.get::<_, i64>(1), attempt.revision);
        }
    }

    async fn drop(self, mut healer: Healer) {
        _ = healer.stop();
        let Self { name, admin, client, .. } = self;
        drop(client);
        admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
        let _ = self.config;
    }
}

async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A wire to Postgres that can be cut: then nobody gets through, and who was through is thrown out.
struct Wire {
    address: SocketAddr,
    cut: watch::Sender<bool>,
    passed: Arc<AtomicBool>,
}

impl Wire {
    async fn start(config: &Config) -> Self {
        let host = config.get_hosts().iter().find_map(|host| match host {
            tokio_postgres::config::Host::Tcp(name) => Some(name.clone()),
            tokio_postgres::config::Host::Unix(_) => None,
        });
        let host = host.unwrap();
        let to = format!("{host}:{}", config.get_ports().first().copied().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, state) = watch::channel(false);
        let passed = Arc::new(AtomicBool::new(false));
        let passing = Arc::clone(&passed);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, mut state, passing) = (to.clone(), state.clone(), Arc::clone(&passing));
                tokio::spawn(async move {
                    if *state.borrow() {
                        return;
                    }
                    let mut far = TcpStream::connect(to).await.unwrap();
                    passing.store(true, Ordering::Relaxed);
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => (),
                        _ = state.wait_for(|cut| *cut) => (),
                    }
                });
            }
        });
        Self { address, cut, passed }
    }

    fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

async fn every_row_arrives_once_and_says_what_the_journal_says(url: &str) {
    let database = Database::create(url).await;
    database.migrate().await;
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let log = vec!["ERROR could not connect to db: connection refused".to_owned()];
    engine.set("c2", Fake { temper: Temper::StaysIll, log, ..Fake::service("shop", "bad").ill() });
    let mut healer = database.healer(&engine).await;
    healer.alert("shop", "web").await;
    healer.alert("shop", "bad").await;
    let web = healer.incident("web", "the end of the incident", closed).await;
    database.agrees(&web).await;
    let gave_up = |it: &IncidentDetail| it.incident.state == IncidentState::GaveUp;
    let bad = healer.incident("bad", "giving up", gave_up).await;
    assert_eq!(bad.incident.diagnosis.as_ref().map(|it| it.cause), Some(nexus_model::Cause::DependencyDown));
    database.agrees(&bad).await;
    eventually("nothing waits", async || {
        healer.metric("nexus_healer_journal_pending_rows").await.filter(|rows| *rows == 0.0)
    })
    .await;
    assert_eq!(healer.metric("nexus_healer_postgres_up").await, Some(1.0));
    let shown = healer.incident("web", "when it was recorded", |it| it.incident.recorded_at.is_some()).await;
    assert_eq!(shown.attempts, web.attempts);
    // Started again, it copies nothing twice.
    let before = (database.count("incident_events").await, database.count("evidence").await);
    healer.kill();
    healer.start().await;
    healer.incident("bad", "still there", gave_up).await;
    assert_eq!((database.count("incident_events").await, database.count("evidence").await), before);
    // Reading is all that Grafana may do, and nobody's password is in a row.
    let grants = "SELECT has_table_privilege('nexus_grafana', 'evidence', 'SELECT'), \
                  has_table_privilege('nexus_grafana', 'evidence', 'INSERT'), \
                  (SELECT count(*) FROM evidence WHERE body::text LIKE '%hunter2%')";
    let row = database.client.query_one(grants, &[]).await.unwrap();
    assert_eq!((row.get::<_, bool>(0), row.get::<_, bool>(1), row.get::<_, i64>(2)), (true, false, 0));
    database.drop(healer).await;
}

async fn what_happens_while_postgres_is_away_arrives_when_it_is_back(url: &str) {
    let database = Database::create(url).await;
    database.migrate().await;
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    let mut healer = database.healer(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "the first attempt", |it| it.incident.attempts >= 1).await;
    eventually("a first copy", async || (database.count("incidents").await == 1).then_some(())).await;
    database.wire.cut(true);
    engine.change("c1", |it| it.temper = Temper::Mends);
    let detail = healer.incident("web", "the end of the incident without postgres", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    eventually("postgres is known to be away", async || {
        healer.metric("nexus_healer_postgres_up").await.filter(|up| *up == 0.0)
    })
    .await;
    assert!(healer.metric("nexus_healer_journal_pending_rows").await.unwrap() > 0.0);
    let (_, status) = healer.api("GET", "/api/v1/status", "").await;
    assert!(status.contains("\"postgres\":{\"state\":\"down\",\"reason\":"), "{status}");
    // Away over a restart of the healer.
    healer.kill();
    healer.start().await;
    database.wire.cut(false);
    database.agrees(&detail).await;
    database.drop(healer).await;
}

async fn postgres_may_be_away_from_the_start_and_the_schema_come_late(url: &str) {
    let database = Database::create(url).await;
    database.wire.cut(true);
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let healer = database.healer(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert!(!database.wire.passed.load(Ordering::Relaxed));
    database.wire.cut(false);
    // It answers, but has no tables: that is its state, not the fault of a row.
    eventually("the missing tables are said", async || {
        let (_, status) = healer.api("GET", "/api/v1/status", "").await;
        status.contains("does not exist").then_some(())
    })
    .await;
    database.migrate().await;
    database.agrees(&detail).await;
    database.drop(healer).await;
}

async fn killed_in_the_middle_of_a_copy_it_leaves_every_row_once(url: &str) {
    let database = Database::create(url).await;
    database.migrate().await;
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = database.healer(&engine).await;
    healer.kill();
    // Before Postgres has the rows, and when it has them and nobody has written that down: of the first table and of later ones.
    for fault in ["copy-begun", "copy-not-marked", "copy-not-marked:2", "copy-not-marked:3", "copy-not-marked:4"] {
        engine.change("c1", |it| it.health = Some("unhealthy"));
        healer.start_with(&[("NEXUS_FAULT", fault)]).await;
        // It may be dead before it has answered; then Alertmanager sends it again to the next.
        _ = tokio::time::timeout(Duration::from_secs(5), post(&healer)).await;
        healer.dies().await;
    }
    healer.start().await;
    engine.change("c1", |it| it.health = Some("unhealthy"));
    healer.alert("shop", "web").await;
    eventually("all is over and copied", async || {
        let over = healer.metric("nexus_healer_open_incidents").await == Some(0.0);
        let copied = healer.metric("nexus_healer_journal_pending_rows").await == Some(0.0);
        (over && copied && !healer.incidents().await.incidents.is_empty()).then_some(())
    })
    .await;
    let all = healer.incidents().await.incidents;
    assert_eq!(database.count("incidents").await, all.len() as i64);
    for incident in all {
        let (_, body) = healer.api("GET", &format!("/api/v1/incidents/{}", incident.id), "").await;
        database.agrees(&serde_json::from_str(&body).unwrap()).await;
    }
    database.drop(healer).await;
}

/// An alert, whatever becomes of it.
async fn post(healer: &Healer) {
    let body = support::healer::payload(&[support::healer::firing("shop", "web")]).to_string();
    let request = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        support::healer::WEBHOOK_TOKEN,
        body.len()
    );
    if let Ok(mut stream) = TcpStream::connect(healer.address()).await {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        _ = stream.write_all(request.as_bytes()).await;
        _ = stream.read_to_end(&mut Vec::new()).await;
    }
}

async fn a_row_that_postgres_never_takes_does_not_hold_up_the_others(url: &str) {
    let database = Database::create(url).await;
    database.migrate().await;
    database.client.batch_execute("ALTER TABLE incident_events ADD CHECK (kind <> 'verified')").await.unwrap();
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let healer = database.healer(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    eventually("all other events", async || {
        (database.count("incident_events").await == detail.events.len() as i64 - 1).then_some(())
    })
    .await;
    assert_eq!(healer.metric("nexus_healer_postgres_refused_rows_total").await, Some(1.0));
    eventually("nothing waits", async || {
        healer.metric("nexus_healer_journal_pending_rows").await.filter(|rows| *rows == 0.0)
    })
    .await;
    tokio::time::timeout(Duration::from_secs(30), database.drop(healer)).await.unwrap();
}
