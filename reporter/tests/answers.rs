//! What is answered from a real Postgres: series, the history of a service, what is usual, what there is room for, and the incidents
//! while the healer is away. Needs NEXUS_TEST_DATABASE_URL with the URL of a superuser; without it the cases are reported as
//! ignored, with the reason in their names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::sync::OnceLock;

use axum::{Json, Router, routing::get};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use nexus_reporter::{recall, report::facts::Vital};
use serde_json::{Value, json};
use support::{
    database::{Database, cases},
    prometheus::{Fake, Mood, value},
    site::Site,
};

cases! {
    the_last_hour_of_a_series_is_prometheus_s,
    a_service_has_a_history_with_its_incidents,
    while_the_healer_is_away_its_copy_tells,
    what_no_longer_runs_is_told_from_the_copy,
    a_healer_that_hangs_does_not_keep_its_copy_from_being_told,
    what_is_usual_is_recalled,
    a_comparison_knows_the_machine,
}

/// The beginning of the hour in which this began, and what is so many hours before it.
fn hour(back: i64) -> Timestamp {
    static BEGAN: OnceLock<Timestamp> = OnceLock::new();
    let hour = BEGAN.get_or_init(Timestamp::now).as_second().div_euclid(3600) * 3600;
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
                 cpu_busy_ratio_p95, memory_total_bytes, memory_used_bytes_avg, memory_used_bytes_p95, load5_avg)
             SELECT 1, hour, 12, 4, 0.1, 0.2, 0.9, 0.4, 4000000000, 1000000000, 1200000000, 0.8
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
    // One that does not know of them, since they are long over.
    let forgetful = Fake::start().await;
    let after = Site::with_healer(&database, "http://127.0.0.1:1", &forgetful.url).await;
    let detail = after.good(&format!("/api/v1/incidents/{CLOSED}"), &[]).await;
    assert_eq!(detail["incident"]["problem"], "unhealthy");
    assert!(detail["note"].as_str().unwrap().starts_with("the healer has forgotten it; this is its copy"), "{detail}");
    after.bad(&format!("/api/v1/incidents/{nobody}"), &[], 404, "404").await;
    database.wire.cut(true);
    site.bad("/api/v1/incidents", &[], 502, "and its copy can't be read").await;
    after.bad(&format!("/api/v1/incidents/{CLOSED}"), &[], 404, "404").await;
    database.drop().await;
}

/// A healer where nothing runs, and nothing is remembered.
async fn idle_healer() -> String {
    let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    let router = Router::new()
        .route("/api/v1/incidents", get(async || Json(json!({"incidents": []}))))
        .route("/api/v1/services", get(async || Json(json!({"services": []}))));
    tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
    base
}

async fn what_no_longer_runs_is_told_from_the_copy(url: &str) {
    let database = Database::create(url).await;
    incidents(&database).await;
    let site = Site::with_healer(&database, "http://127.0.0.1:1", &idle_healer().await).await;
    let list = async |query: &[(&str, &str)]| {
        let found = site.good("/api/v1/incidents", query).await;
        (found["incidents"].as_array().unwrap().len(), found["note"].as_str().map(str::to_owned))
    };
    // Without a name it is what the healer says.
    assert_eq!(list(&[]).await, (0, None));
    let (count, note) = list(&[("project", "shop")]).await;
    assert!(
        count == 2 && note.as_ref().unwrap().starts_with("the healer has forgotten it; this is its copy"),
        "{note:?}"
    );
    assert_eq!(list(&[("service", "web"), ("state", "closed")]).await.0, 1);
    let (count, note) = list(&[("project", "shop"), ("state", "blocked")]).await;
    assert!(count == 0 && note.is_some(), "it was never blocked");
    site.bad("/api/v1/incidents", &[("project", "shpo")], 404, "there is no project shpo; there are none").await;
    site.bad("/api/v1/incidents", &[("project", "shop"), ("service", "x")], 404, "there is no project shop").await;
    database.drop().await;
}

async fn a_healer_that_hangs_does_not_keep_its_copy_from_being_told(url: &str) {
    let database = Database::create(url).await;
    incidents(&database).await;
    // The kernel takes the connections, and nobody ever answers.
    let hanging = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let healer = format!("http://{}", hanging.local_addr().unwrap());
    let site = Site::with_healer(&database, "http://127.0.0.1:1", &healer).await;
    let detail = format!("/api/v1/incidents/{OPEN}");
    let (list, one) = tokio::join!(site.good("/api/v1/incidents", &[]), site.good(&detail, &[]));
    for answer in [list, one] {
        let note = answer["note"].as_str().unwrap();
        assert!(note.starts_with(&format!("the healer hangs at {healer}; this is its copy")), "{note}");
    }
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
    // Of one of the two replicas; the most is that of all scrapes.
    assert_eq!((memory.p99, memory.max), (60e6, 75e6));
    let older = "UPDATE history.service_hours SET memory_peak_bytes_max = NULL";
    client.batch_execute(older).await.unwrap();
    let without = recall::history(client, "pi", now, &TimeZone::UTC).await.unwrap();
    assert_eq!(without.memory[0].max, 70e6);
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

async fn a_comparison_knows_the_machine(url: &str) {
    let database = Database::create(url).await;
    three_days(&database).await;
    let board = json!({"metric": {"host": "pi", "model": "Raspberry Pi 5 Model B Rev 1.0"}, "value": [1, "1"]});
    let says = json!({"status": "success", "data": {"resultType": "vector", "result": [board]}}).to_string();
    let router = Router::new().route("/api/v1/query", get(async move || says));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let prometheus = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
    let path = "/api/v1/capacity";
    let site = Site::start(&database, &prometheus).await;
    let found = site.good(path, &[]).await;
    assert_eq!((&found["speed"], &found["speed_assumed"]), (&json!(1.85), &json!(false)));
    // 1.6 processors of a Pi 5 are more of a Pi 4.
    let cpu = |found: &Value, place: usize| found["carries"][place]["rooms"][0]["used"].as_f64().unwrap();
    let one = site.good(path, &[("machine", "pi4-4gb")]).await;
    assert_eq!(one["carries"].as_array().unwrap().len(), 2);
    assert!((cpu(&one, 1) / cpu(&one, 0) - 1.85).abs() < 1e-6, "{one}");
    site.bad(path, &[("machine", "pi9")], 400, "choose one of pi3b-plus").await;
    site.bad(path, &[("host", "pj")], 404, "it knows pi").await;
    // Without Prometheus it is a guess that says so.
    let alone = Site::start(&database, "http://127.0.0.1:1").await;
    assert_eq!(alone.good(path, &[]).await["speed_assumed"], true);
    // What a report compares with is as documented, too.
    let now = alone.good("/api/v1/history/now", &[]).await;
    assert_eq!((&now["memory"][0]["service"], now["outlooks"].as_array().unwrap().len()), (&json!("web"), 2));
    database.drop().await;
}
