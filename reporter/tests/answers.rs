//! What is answered from a real Postgres: questions in SQL, series, the history of a service, what is usual, and the incidents
//! while the healer is away. Needs NEXUS_TEST_DATABASE_URL with the URL of a superuser; without it the cases are reported as
//! ignored, with the reason in their names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use libtest_mimic::{Arguments, Trial};
use nexus_reporter::{
    database::Database as Own,
    recall,
    report::facts::Vital,
    server::{self, App},
    sources::{
        HistorySource, Sources,
        http::{HEALER, Part},
    },
    sql::{Bounds, Reader, SqlError},
};
use nexus_web::{Limits, Secret, Tokens};
use serde_json::{Value, json};

#[path = "../../lib/web/testing/contract.rs"]
mod contract;
mod support;

use support::{
    database::{Database, VARIABLE},
    prometheus::{Fake, Mood, value},
};

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
    case!(a_question_only_reads);
    case!(a_question_costs_no_more_than_it_may);
    case!(what_can_be_asked_about_is_told);
    case!(the_last_hour_of_a_series_is_prometheus_s);
    case!(a_service_has_a_history_with_its_incidents);
    case!(while_the_healer_is_away_its_copy_tells);
    case!(what_is_usual_is_recalled);
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn password() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "test-secret\n").unwrap();
    file
}

fn reader(database: &Database, password: &tempfile::NamedTempFile, bounds: Bounds) -> Reader {
    Reader::new(Own::reader(&database.url(), password.path().to_owned(), bounds.time).unwrap(), bounds)
}

/// A reporter whose parts are all away but Postgres, and Prometheus where one is given.
struct Site {
    base: String,
    client: reqwest::Client,
    contract: contract::Contract,
    _password: tempfile::NamedTempFile,
}

impl Site {
    async fn start(database: &Database, prometheus: &str) -> Site {
        _ = rustls::crypto::ring::default_provider().install_default();
        let password = password();
        let part = |name, base: &str| Part::new(name, base.to_owned(), Vec::new()).unwrap();
        const AWAY: &str = "http://127.0.0.1:1";
        let sources = Sources {
            host: "pi".into(),
            stack: "nexus".into(),
            healer: Ok(part(HEALER, AWAY)),
            exporter: part("the exporter", AWAY),
            prometheus: part("Prometheus", prometheus),
            alertmanager: part("Alertmanager", AWAY),
            grafana: None,
            reporter: None,
            history: HistorySource::None,
            procfs: "/proc".into(),
        };
        let own = Own::new(&database.url(), Some(password.path().to_owned())).unwrap();
        let reader = reader(database, &password, Bounds::default());
        let app = App::new(sources, None, Some(own), Some(reader));
        let secret = |text: &str| Secret::from(text.to_owned());
        let router = server::router(app, Tokens { act: secret("act"), read: Some(secret("read")) });
        let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(nexus_web::serve(listener, router, Limits::default(), std::future::pending()));
        let contract = contract::Contract::new(include_str!("../src/api/openapi.json"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Site { base, client, contract, _password: password }
    }

    /// The status and the answer, held against the document.
    async fn get(&self, path: &str, query: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}{path}", self.base);
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let answer = self.client.get(url).bearer_auth("read").send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = answer.text().await.unwrap();
        self.contract.check_answer("GET", path, status, &kind, &body);
        (status, serde_json::from_str(&body).unwrap())
    }

    async fn good(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let (status, body) = self.get(path, query).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn bad(&self, path: &str, query: &[(&str, &str)], expected: u16, says: &str) {
        let (status, body) = self.get(path, query).await;
        let said = body["error"].as_str().unwrap_or_default();
        assert!(status == expected && said.contains(says), "{path} {query:?}: {status} {body} lacks {says:?}");
    }
}

const SMALL: Bounds = Bounds { time: Duration::from_millis(1500), rows: 10, bytes: 4096, row_bytes: 1024 };

async fn a_question_only_reads(url: &str) {
    let database = Database::create(url).await;
    database
        .client
        .batch_execute("INSERT INTO history.hosts (name, first_seen_at, last_seen_at) VALUES ('pi', now(), now())")
        .await
        .unwrap();
    let password = password();
    let reader = reader(&database, &password, SMALL);
    let asked = reader
        .ask("SELECT name, current_user::text AS who, current_setting('transaction_read_only') AS only, NULL::int AS no FROM history.hosts; -- ok")
        .await
        .unwrap_err();
    // A comment after the semicolon is a second statement that is empty; without the semicolon it is a comment.
    assert!(matches!(asked, SqlError::Wrong(_)));
    let asked = reader
        .ask("SELECT name, current_user::text AS who, current_setting('transaction_read_only') AS only, NULL::int AS no FROM history.hosts -- ok")
        .await
        .unwrap();
    assert_eq!(asked.rows, [vec![json!("pi"), json!("nexus_reader"), json!("on"), Value::Null]]);
    assert_eq!(asked.columns.iter().map(|it| it.kind.as_str()).collect::<Vec<_>>(), ["text", "text", "text", "int4"]);
    assert!(asked.complete && asked.note.is_none());
    for (sql, says) in [
        ("DELETE FROM incidents", "one SELECT"),
        ("WITH gone AS (DELETE FROM incidents RETURNING *) SELECT * FROM gone", ""),
        ("SELECT 1 AS n; DROP TABLE incidents", "multiple commands"),
        ("SELECT 1) AS q; DELETE FROM incidents; --", "syntax error"),
        ("SELECT 1) AS q LIMIT 1) AS l UNION ALL SELECT 1, (SELECT 'x' FROM (SELECT 1", "syntax error"),
        ("SELECT 1 AS n /*", "unterminated /* comment"),
        ("SELECT 'x", "unterminated quoted string"),
        ("SELECT * INTO copied FROM incidents", ""),
        ("SELECT * FROM incidents FOR UPDATE", ""),
        ("COPY incidents TO PROGRAM 'id'", "one SELECT"),
        ("SET ROLE nexus_healer", "one SELECT"),
        ("SHOW all", "one SELECT"),
        ("SELECT set_config('role', 'nexus_healer', false) AS it", "permission denied"),
        ("SELECT set_config('transaction_read_only', 'off', true) AS it", "must be set before any query"),
        ("SELECT pg_read_file('/etc/passwd') AS it", "permission denied"),
        ("SELECT pg_ls_dir('/') AS it", "permission denied"),
        ("SELECT lo_create(0) AS it", "permission denied"),
        ("SELECT lo_from_bytea(0, 'x') AS it", "permission denied"),
        ("SELECT lo_import('/etc/passwd') AS it", "permission denied"),
        ("SELECT pg_logical_emit_message(false, 'a', 'b')::text AS it", "permission denied"),
        ("SELECT history.make_partitions(now(), now()) AS it", "permission denied"),
        ("SELECT nextval('history.hosts_id_seq') AS it", "permission denied"),
        ("SELECT pg_reload_conf() AS it", "permission denied"),
        ("SELECT rolpassword FROM pg_authid", "permission denied"),
        ("SELECT query_to_xml('DELETE FROM incidents', true, false, '')::text AS it", ""),
        ("SELECT $1::int AS n", "no parameters"),
        ("SELECT 1 AS n, 2 AS n", "two columns are called \"n\""),
        ("SELECT nothing FROM incidents", "does not exist"),
        ("SELECT", "must give columns"),
    ] {
        match reader.ask(sql).await {
            Err(SqlError::Wrong(said)) => assert!(said.contains(says), "{sql}: {said}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let left = "SELECT (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM incidents)
                       + (SELECT count(*) FROM pg_class WHERE relname = 'copied')";
    assert_eq!(database.number(left).await, 0);
    database.drop().await;
}

async fn a_question_costs_no_more_than_it_may(url: &str) {
    let database = Database::create(url).await;
    let password = password();
    let reader = reader(&database, &password, SMALL);
    let begun = Instant::now();
    for sql in [
        "SELECT pg_sleep(60)::text AS it",
        "SELECT count(*) FROM generate_series(1, 100000000000)",
        // Its own time can't be lengthened from within.
        "SELECT set_config('statement_timeout', '0', false) AS a, pg_sleep(60)::text AS b",
    ] {
        let said = reader.ask(sql).await.unwrap_err().to_string();
        assert!(said.contains("took too long"), "{sql}: {said}");
    }
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    let many = reader
        .ask("WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT n FROM endless")
        .await
        .unwrap();
    assert_eq!((many.rows.len(), many.complete), (10, false));
    assert!(many.note.unwrap().contains("only the first 10 rows"));
    let whole = reader.ask("SELECT n FROM generate_series(1, 10) AS n").await.unwrap();
    assert_eq!((whole.rows.len(), whole.complete), (10, true));
    let long = reader.ask("SELECT repeat('x', 100000) AS it").await.unwrap_err().to_string();
    assert!(long.contains("row 1 has 10") && long.contains("1024 are the most"), "{long}");
    let wide = reader.ask("SELECT n, repeat('x', 1000) AS it FROM generate_series(1, 9) AS n").await.unwrap();
    assert_eq!((wide.rows.len(), wide.complete), (4, false));
    assert!(wide.note.unwrap().contains("only the first 4096 bytes"));
    // What goes wrong in a later row is told as well.
    let late = reader.ask("SELECT 1 / (3 - n) AS it FROM generate_series(1, 5) AS n").await.unwrap_err().to_string();
    assert!(late.contains("division by zero"), "{late}");
    // Two at a time.
    let sleep = "SELECT pg_sleep(0.3)::text AS it";
    let (one, two, three) = tokio::join!(reader.ask(sleep), reader.ask(sleep), reader.ask(sleep));
    assert!(one.is_ok() && two.is_ok() && matches!(three, Err(SqlError::Busy)), "{one:?} {two:?} {three:?}");
    assert!(reader.ask(sleep).await.is_ok());
    // Postgres away is nobody's mistake.
    database.wire.cut(true);
    let away = reader.ask("SELECT 1 AS n").await.unwrap_err();
    assert!(!matches!(away, SqlError::Wrong(_) | SqlError::Busy), "{away:?}");
    database.drop().await;
}

async fn what_can_be_asked_about_is_told(url: &str) {
    let database = Database::create(url).await;
    let site = Site::start(&database, "http://127.0.0.1:1").await;
    let schema = site.good("/api/v1/schema", &[]).await;
    let tables = schema["tables"].as_array().unwrap();
    let named = |name: &str| tables.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    for name in ["incidents", "attempts", "evidence", "incident_events", "history.host_hours", "history.service_usage"]
    {
        assert!(named(name)["says"].as_str().is_some_and(|says| says.len() > 20), "{name} says nothing");
    }
    assert_eq!(named("history.host_usage")["kind"], "view");
    assert_eq!(tables.iter().filter(|table| table["name"].as_str().unwrap().contains("refinery")).count(), 0);
    // An agent gets it whole.
    assert!(schema.to_string().len() < 40_000, "{}", schema.to_string().len());
    let one = site.good("/api/v1/schema", &[("table", "incidents")]).await;
    assert_eq!(one["tables"].as_array().unwrap().len(), 1);
    for column in one["tables"][0]["columns"].as_array().unwrap() {
        assert!(column["says"].is_string(), "{column}");
    }
    site.bad("/api/v1/schema", &[("table", "pg_authid")], 400, "there are attempts, evidence").await;
    let asked = site.good("/api/v1/query", &[("sql", "SELECT count(*) AS n FROM incidents")]).await;
    assert_eq!((&asked["rows"], &asked["columns"][0]["type"]), (&json!([[0]]), &json!("int8")));
    site.bad("/api/v1/query", &[("sql", "SELECT n FROM incidents")], 400, "column \"n\" does not exist").await;
    site.bad("/api/v1/query", &[], 400, "sql").await;
    database.drop().await;
}

/// The beginning of this hour, and what is so many hours before it.
fn hour(back: i64) -> Timestamp {
    let hour = Timestamp::now().as_second().div_euclid(3600) * 3600;
    Timestamp::from_second(hour - back * 3600).unwrap()
}

/// Three days of `pi` up to an hour ago: hours until the day before, samples since. Web of shop takes half a processor in the hours
/// and a quarter in the samples.
async fn three_days(database: &Database) {
    let (first, rolled, through) = (hour(72), hour(24), hour(1));
    database.client.execute("SELECT history.make_partitions($1, $2)", &[&first, &hour(-1)]).await.unwrap();
    let subjects = "
        INSERT INTO history.hosts (name, first_seen_at, last_seen_at) VALUES ('pi', now(), now());
        INSERT INTO history.services (host_id, project, service, first_seen_at, last_seen_at)
            VALUES (1, 'shop', 'web', now(), now()), (1, 'shop', 'db', now(), now());
        INSERT INTO history.mounts (host_id, mountpoint, device, fstype, first_seen_at, last_seen_at)
            VALUES (1, '/', '/dev/mmcblk0p2', 'ext4', now(), now());";
    database.client.batch_execute(subjects).await.unwrap();
    for (sql, from, to) in [
        (
            "INSERT INTO history.host_hours (host_id, hour, samples, cpu_count, cpu_busy_ratio_min, cpu_busy_ratio_avg, cpu_busy_ratio_max,
                 cpu_busy_ratio_p95, memory_total_bytes, memory_used_bytes_avg, load5_avg)
             SELECT 1, hour, 12, 4, 0.1, 0.2, 0.9, 0.4, 4000000000, 1000000000, 0.8
             FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') hour",
            first,
            rolled,
        ),
        (
            "INSERT INTO history.service_hours (service_id, hour, samples, replicas, up_ratio_avg, cpu_cores_avg, cpu_cores_max, memory_bytes_avg,
                 memory_bytes_p95, memory_bytes_max, memory_peak_bytes_max, restarts, oom_kills)
             SELECT 1, hour, 12, 2, 1, 0.5, 0.7, 100000000, 120000000, 140000000, 150000000, 1, 0
             FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') hour",
            first,
            rolled,
        ),
        (
            "INSERT INTO history.host_samples (host_id, at, cpu_count, cpu_busy_ratio) SELECT 1, at, 4, 0.25
             FROM generate_series($1::timestamptz + interval '5 minutes', $2::timestamptz, '5 minutes') at",
            rolled,
            through,
        ),
        (
            "INSERT INTO history.service_samples (service_id, at, up_ratio, cpu_cores, memory_bytes, memory_peak_bytes, memory_limit_bytes, restarts, oom_kills)
             SELECT 1, at, 1, 0.25, 90000000, 95000000, 256000000, 0, 0
             FROM generate_series($1::timestamptz + interval '5 minutes', $2::timestamptz, '5 minutes') at",
            rolled,
            through,
        ),
        (
            "INSERT INTO history.progress (task, through) VALUES ('roll_up', $1), ('collect', $2)",
            rolled,
            through,
        ),
    ] {
        database.client.execute(sql, &[&from, &to]).await.unwrap();
    }
}

fn values(series: &Value, name: &str) -> Vec<(Timestamp, f64)> {
    let of = series["series"].as_array().unwrap().iter().find(|it| it["figure"] == name).unwrap();
    let point = |point: &Value| (point["at"].as_str().unwrap().parse().unwrap(), point["value"].as_f64().unwrap());
    of["points"].as_array().unwrap().iter().map(point).collect()
}

async fn the_last_hour_of_a_series_is_prometheus_s(url: &str) {
    let database = Database::create(url).await;
    three_days(&database).await;
    let prometheus = Fake::start().await;
    let site = Site::start(&database, &prometheus.url).await;
    let path = "/api/v1/history";
    // The window that Prometheus is asked for begins where Postgres ends.
    prometheus.mood(Mood::Well { since: 0 });
    let from = hour(3).to_string();
    let raw = site.good(path, &[("figures", "cpu_busy_ratio"), ("from", &from), ("resolution", "raw")]).await;
    assert_eq!((&raw["step_minutes"], &raw["lately_missing"]), (&json!(5), &Value::Null));
    let lately_from: Timestamp = raw["lately_from"].as_str().unwrap().parse().unwrap();
    assert_eq!(lately_from, hour(1) + SignedDuration::from_mins(5));
    let points = values(&raw, "cpu_busy_ratio");
    // A step is stamped with its beginning.
    assert_eq!(points[0], (hour(3), 0.25));
    assert!(points.windows(2).all(|pair| pair[1].0.duration_since(pair[0].0) == SignedDuration::from_mins(5)));
    assert!(points.len() >= 36 - 1, "{}", points.len());
    let (stored, lately): (Vec<_>, Vec<_>) = points.iter().partition(|(at, _)| *at < hour(1));
    assert!(stored.len() == 24 && stored.iter().all(|(_, value)| *value == 0.25));
    for (at, found) in lately {
        assert!((found - value(at.as_second() + 300)).abs() < 1e-3, "{at}");
    }
    // Hours: rolled up ones, those that are made of samples, and the one that Prometheus knows.
    let from = hour(72).to_string();
    let figures = [("figures", "cpu_busy_ratio,load5"), ("from", &*from), ("resolution", "hourly")];
    let hourly = site.good(path, &figures).await;
    let points = values(&hourly, "cpu_busy_ratio");
    assert_eq!(
        (points[0], points[47], points[48], points[70]),
        ((hour(72), 0.2), (hour(25), 0.2), (hour(24), 0.25), (hour(2), 0.25),)
    );
    let mean = (1..=12).map(|step| value(hour(1).as_second() + step * 300)).sum::<f64>() / 12.0;
    assert!(points[71].0 == hour(1) && (points[71].1 - mean).abs() < 1e-3, "{:?} is not {mean}", points[71]);
    let first = &hourly["series"][0]["points"][0];
    assert_eq!((&first["min"], &first["max"], &first["p95"]), (&json!(0.1), &json!(0.9), &json!(0.4)));
    // Steps of a day, as far as they reach; and a file system, of which nothing is known but what Prometheus says.
    let days = site.good(path, &[("figures", "cpu_busy_ratio"), ("from", &from), ("step", "1440")]).await;
    assert!((3..=5).contains(&values(&days, "cpu_busy_ratio").len()), "{days}");
    let disk =
        site.good(path, &[("figures", "used_bytes,size_bytes"), ("mountpoint", "/"), ("resolution", "raw")]).await;
    assert!(!values(&disk, "used_bytes").is_empty() && disk["mountpoint"] == "/");
    // Without Prometheus what is stored is told, and what is missing.
    prometheus.mood(Mood::Away);
    let stored = site.good(path, &[("figures", "cpu_busy_ratio"), ("from", &from), ("resolution", "hourly")]).await;
    assert_eq!(values(&stored, "cpu_busy_ratio").len(), 71);
    assert!(stored["lately_missing"].as_str().unwrap().contains("503") && stored["lately_from"].is_null());
    database.drop().await;
}

async fn a_service_has_a_history_with_its_incidents(url: &str) {
    let database = Database::create(url).await;
    three_days(&database).await;
    incidents(&database).await;
    let prometheus = Fake::start().await;
    let site = Site::start(&database, &prometheus.url).await;
    let path = "/api/v1/services/shop/web/history";
    prometheus.mood(Mood::Away);
    let (from, to) = (hour(48).to_string(), hour(12).to_string());
    let history = site.good(path, &[("from", &from), ("to", &to), ("step", "60")]).await;
    let points = history["points"].as_array().unwrap();
    assert_eq!(points.len(), 36);
    let one = |point: &Value| {
        let number = |name: &str| point[name].as_f64();
        (number("cpu_cores"), number("memory_peak_bytes"), number("restarts"), number("memory_limit_bytes"))
    };
    assert_eq!(one(&points[0]), (Some(0.5), Some(150e6), Some(1.0), None));
    assert_eq!(one(&points[35]), (Some(0.25), Some(95e6), Some(0.0), Some(256e6)));
    assert_eq!((&history["restarts"], &history["healthy"]), (&json!(24), &Value::Null));
    // It ends before what Prometheus would have to tell.
    assert_eq!((&history["lately_from"], &history["lately_missing"]), (&Value::Null, &Value::Null));
    let ids: Vec<&str> = history["incidents"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap()).collect();
    assert_eq!(ids, [CLOSED]);
    assert_eq!(history["incidents"][0]["outcome"], "recovered");
    // By itself it takes a step of which there are about a hundred, and says when Prometheus is away.
    let history = site.good(path, &[]).await;
    assert_eq!(history["step_minutes"], 15);
    assert!(history["lately_missing"].as_str().unwrap().contains("503"), "{}", history["lately_missing"]);
    assert_eq!(history["incidents"][0]["id"], OPEN);
    assert!(history.to_string().len() < 40_000, "{}", history.to_string().len());
    prometheus.mood(Mood::Well { since: 0 });
    let history = site.good(path, &[]).await;
    assert!(history["lately_missing"].is_null() && history["lately_from"].is_string());
    // What is not there is told with what is.
    site.bad("/api/v1/services/shop/api/history", &[], 404, "there are db, web").await;
    site.bad("/api/v1/services/blog/api/history", &[], 404, "there are shop").await;
    site.bad(path, &[("from", &to), ("to", &from)], 400, "from must be before to").await;
    site.bad(path, &[("from", "yesterday")], 400, "").await;
    site.bad(path, &[("step", "7")], 400, "a multiple of 5").await;
    site.bad(path, &[("from", &from), ("step", "5")], 400, "of so long ago only hours are kept").await;
    let series = "/api/v1/history";
    site.bad(series, &[], 400, "figures must name 1 to 10 of memory_total_bytes").await;
    site.bad(series, &[("figures", "x")], 400, "there is no figure \"x\"").await;
    site.bad(series, &[("figures", "used_bytes"), ("mountpoint", "/mnt")], 404, "there are /").await;
    site.bad(series, &[("figures", "load1"), ("step", "60")], 400, "not kept by the hour").await;
    site.bad(series, &[("figures", "cpu_cores"), ("service", "web")], 404, "no project \"\"").await;
    site.bad(series, &[("figures", "load1"), ("host", "pj")], 404, "it knows pi").await;
    site.bad(series, &[("figures", "load1"), ("project", "shop")], 400, "project and service for a service").await;
    site.bad(series, &[("figures", "load1"), ("step", "5"), ("resolution", "raw")], 400, "give one of them").await;
    database.drop().await;
}

const OPEN: &str = "0195b0c4-6a1c-7d2e-9f00-1c2d3e4f5a6b";
const CLOSED: &str = "0195b0a1-6a1c-7d2e-9f00-1c2d3e4f5a6b";

/// Two of shop/web, one of them closed, and one of another machine.
async fn incidents(database: &Database) {
    let sql = format!(
        "INSERT INTO incidents (id, host, project, service, container_name, image, alert, mode, state, outcome, problem, refusal, diagnosis,
             opened_at, last_alert_at, closed_at, attempts, failed_attempts, revision)
         VALUES
         ('{OPEN}', 'pi', 'shop', 'web', 'shop-web-1', 'web:1', 'ContainerDown', 'heal', 'gave_up', NULL, 'exited with code 1', 'budget_spent',
             '{{\"cause\": \"crashed\", \"confidence\": \"likely\", \"summary\": \"it crashes\", \"because\": [\"its log says so\"], \"recommendation\": \"look\", \"at\": \"2026-01-01T00:00:00Z\"}}',
             now() - interval '2 hours', now(), NULL, 6, 6, 9),
         ('{CLOSED}', 'pi', 'shop', 'web', 'shop-web-1', 'web:1', 'ContainerDown', 'heal', 'closed', 'recovered', 'unhealthy', NULL, NULL,
             now() - interval '30 hours', now(), now() - interval '29 hours', 1, 0, 3),
         ('0195b085-6a1c-7d2e-9f00-1c2d3e4f5a6b', 'pi2', 'shop', 'web', 'shop-web-1', 'web:1', 'ContainerDown', 'heal', 'gave_up', NULL, 'x', NULL, NULL,
             now(), now(), NULL, 0, 0, 1);
         INSERT INTO attempts (id, incident_id, number, action, container_id, intended_at, outcome, detail, revision)
             VALUES ('0195b0c4-6a1c-7d2e-9f00-000000000001', '{OPEN}', 1, 'restart', 'c', now(), 'did_not_help', 'no', 1);
         INSERT INTO evidence (id, incident_id, attempt_id, kind, taken_at, body)
             VALUES ('0195b0c4-6a1c-7d2e-9f00-000000000002', '{OPEN}', NULL, 'logs', now(), '{{\"lines\": [\"a\"]}}');
         INSERT INTO incident_events (id, incident_id, at, kind, detail)
             VALUES ('0195b0c4-6a1c-7d2e-9f00-000000000003', '{OPEN}', now(), 'opened', 'it was down')"
    );
    database.client.batch_execute(&sql).await.unwrap();
}

async fn while_the_healer_is_away_its_copy_tells(url: &str) {
    let database = Database::create(url).await;
    incidents(&database).await;
    let site = Site::start(&database, "http://127.0.0.1:1").await;
    let list = site.good("/api/v1/incidents", &[]).await;
    let note = list["note"].as_str().unwrap();
    assert!(
        note.starts_with(
            "the healer does not answer at http://127.0.0.1:1; this is its copy in Postgres, last written "
        ),
        "{note}"
    );
    let ids = |list: &Value| -> Vec<String> {
        list["incidents"].as_array().unwrap().iter().map(|it| it["id"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(ids(&list), [OPEN, CLOSED]);
    assert_eq!(list["incidents"][0]["diagnosis"]["cause"], "crashed");
    assert_eq!(ids(&site.good("/api/v1/incidents", &[("state", "closed"), ("project", "shop")]).await), [CLOSED]);
    assert_eq!(ids(&site.good("/api/v1/incidents", &[("limit", "1")]).await), [OPEN]);
    assert_eq!(ids(&site.good("/api/v1/incidents", &[("service", "x' OR true --")]).await).len(), 0);
    site.bad("/api/v1/incidents", &[("state", "nonsense")], 400, "there are suspect").await;
    let detail = site.good(&format!("/api/v1/incidents/{OPEN}"), &[]).await;
    assert_eq!(
        (&detail["attempts"][0]["outcome"], &detail["evidence"][0]["kind"]),
        (&json!("did_not_help"), &json!("logs"))
    );
    assert_eq!((&detail["events"][0]["kind"], detail["note"].is_string()), (&json!("opened"), true));
    let nobody = "0195b0c4-0000-7d2e-9f00-1c2d3e4f5a6b";
    site.bad(&format!("/api/v1/incidents/{nobody}"), &[], 404, "there is no incident").await;
    // The report knows what the healer gave up, and from where it knows.
    let report = site.good("/api/v1/status", &[]).await;
    let reasons = report["reasons"].to_string();
    assert!(reasons.contains("shop/web"), "{reasons}");
    let missing = report["missing"].to_string();
    assert!(missing.contains("incidents of this moment") && missing.contains("its copy in Postgres"), "{missing}");
    // So do the pages.
    for path in ["/incidents".to_owned(), format!("/incidents/{OPEN}")] {
        let page = site.client.get(format!("{}{path}", site.base)).send().await.unwrap().text().await.unwrap();
        assert!(page.contains("this is its copy in Postgres") && page.contains("exited with code 1"), "{page}");
    }
    database.wire.cut(true);
    site.bad("/api/v1/incidents", &[], 502, "and its copy can't be read").await;
    database.drop().await;
}

async fn what_is_usual_is_recalled(url: &str) {
    let database = Database::create(url).await;
    let now = Timestamp::now();
    // Nobody knows the host yet.
    let client = &database.client;
    assert_eq!(recall::history(client, "pi", now, &TimeZone::UTC).await.unwrap().from, None);
    three_days(&database).await;
    let history = recall::history(client, "pi", now, &TimeZone::UTC).await.unwrap();
    // Three days are not enough to call anything usual; memory is told with the time it rests on.
    assert_eq!((history.from, history.usual.len()), (Some(hour(72)), 0));
    let memory = &history.memory[0];
    assert_eq!((memory.project.as_str(), memory.service.as_str(), memory.days), ("shop", "web", 2.0));
    // Of one of the two replicas.
    assert_eq!((memory.p99, memory.max), (60e6, 70e6));
    assert_eq!(history.memory.len(), 1);

    // Five weeks more of the same make it usual, in the units of a report.
    let weeks = "
        INSERT INTO history.host_hours (host_id, hour, samples, cpu_count, cpu_busy_ratio_avg, memory_total_bytes, memory_used_bytes_avg, load5_avg)
        SELECT 1, hour, 12, 4, 0.2, 4000000000, 1000000000, 0.8
        FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') hour";
    let (from, to) = (hour(24 * 38), hour(72));
    client.execute("SELECT history.make_partitions($1, $2)", &[&from, &to]).await.unwrap();
    client.execute(weeks, &[&from, &to]).await.unwrap();
    let history = recall::history(client, "pi", now, &TimeZone::UTC).await.unwrap();
    let median = |vital| history.usual.get(&vital).map(|usual| usual.median);
    assert!(median(Vital::Cpu).is_some_and(|cpu| (cpu - 0.2).abs() < 0.06), "{:?}", history.usual);
    assert!(median(Vital::Memory).is_some_and(|memory| (memory - 1e9).abs() < 1e6), "{:?}", history.usual);
    assert!(median(Vital::Load).is_some_and(|load| (load - 0.8).abs() < 0.001), "{:?}", history.usual);
    assert_eq!(median(Vital::Temperature), None);
    database.drop().await;
}
