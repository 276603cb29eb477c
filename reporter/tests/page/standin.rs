//! A whole stack that is made up: a healer, a Prometheus, an Alertmanager and an exporter behind one address, and the reporter's
//! page and API in front of them. What it tells is the same each time, but for the clock.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::{HeaderMap, StatusCode},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use jiff::{SignedDuration, Timestamp};
use nexus_reporter::{
    notify::{Bot, Notifier, Telegram},
    server::{self, App},
    sources::{
        HistorySource, Sources,
        http::{HEALER, Part},
    },
};
use nexus_web::{Limits, Secret, Tokens};
use serde_json::{Value, json};

pub const INCIDENT: &str = "0195b0c4-6a1c-7d2e-9f00-1c2d3e4f5a6b";
pub const ACT: &str = "may-act";
pub const READ: &str = "may-read";

/// What the parts were sent: what Alertmanager got, and the queries of Prometheus.
#[derive(Clone, Default)]
pub struct Seen {
    pub alerts: Arc<Mutex<Vec<Value>>>,
    pub queries: Arc<Mutex<Vec<String>>>,
}

/// Starts the parts, and gives the app in front of them.
pub async fn app(seen: &Seen) -> App {
    let base = serve(parts(seen.clone())).await;
    app_of(&format!("http://{base}"))
}

/// An app whose parts are all at one address, be there somebody or not.
pub fn app_of(base: &str) -> App {
    _ = rustls::crypto::ring::default_provider().install_default();
    let part = |name| Part::new(name, base.to_owned(), Vec::new()).unwrap();
    let sources = Sources {
        host: "raspberrypi".into(),
        stack: "nexus".into(),
        healer: Ok(part(HEALER)),
        exporter: part("the exporter"),
        prometheus: part("Prometheus"),
        alertmanager: part("Alertmanager"),
        grafana: None,
        reporter: None,
        history: HistorySource::None,
        procfs: "/proc".into(),
        docker_wants_sudo: false,
        docker_socket: None,
    };
    let telegram = Telegram::On(Bot::new("http://127.0.0.1:1", "1:a", "-100"));
    let notifier = Notifier::new(base.parse().unwrap(), "raspberrypi".into(), telegram, None).unwrap();
    App::new(sources, Some(notifier), None, None)
}

pub fn tokens() -> Tokens {
    let secret = |text: &str| Secret::from(text.to_owned());
    Tokens { act: secret(ACT), read: Some(secret(READ)) }
}

pub fn router(app: App) -> Router {
    server::router(app, tokens())
}

pub async fn serve(router: Router) -> SocketAddr {
    let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(nexus_web::serve(listener, router, Limits::default(), std::future::pending()));
    address
}

fn parts(seen: Seen) -> Router {
    Router::new()
        .route("/api/v1/status", get(async || Json(healer_status())))
        .route("/api/v1/shadow", get(async || Json(shadow())))
        .route("/api/v1/services", get(async || Json(json!({"services": services()}))))
        .route("/api/v1/services/{project}/{service}", get(service))
        .route("/api/v1/incidents", get(incidents))
        .route("/api/v1/incidents/{id}", get(incident))
        .route("/metrics", get(async || exposition()))
        .route("/api/v1/query", get(async || Json(instant())))
        .route("/api/v1/query_range", get(range))
        .route("/api/v2/alerts", post(take).get(async || Json(alerts())))
        .with_state(seen)
}

fn ago(minutes: i64) -> Timestamp {
    Timestamp::now() - SignedDuration::from_mins(minutes)
}

fn healer_status() -> Value {
    let up = json!({"state": "up"});
    let pause =
        json!({"project": "wiki", "service": null, "since": ago(20), "until": ago(-40), "reason": "moving its disk"});
    json!({"version": "0.1.0", "host": "raspberrypi", "stack": "nexus", "now": Timestamp::now(), "docker": up, "postgres": up,
        "alertmanager": up, "policy": up, "journal_pending_rows": 0, "open_incidents": 1, "gave_up_incidents": 1, "pauses": [pause]})
}

/// Of the one that is only watched.
fn shadow() -> Value {
    let record = json!({"project": "photos", "service": "db", "incidents": 3, "well_before": 1, "would_be_restarts": 2, "would_have_helped": 2,
        "would_not_have_helped": 0, "not_known": 0, "ill_seconds": 5400,
        "sentence": "would have restarted photos/db 2 times in the last 7 days; 2 of these would have helped"});
    json!({"since": ago(7 * 24 * 60), "until": ago(0), "services": [record], "truncated": false})
}

/// Project, service, image, health, mode, MiB in use, limit in MiB, CPUs.
type Service = (&'static str, &'static str, &'static str, &'static str, &'static str, f64, f64, f64);

const SERVICES: [Service; 6] = [
    ("home", "adguard", "adguard/adguardhome:v0.107", "healthy", "heal", 62.0, 256.0, 0.02),
    ("home", "mosquitto", "eclipse-mosquitto:2", "healthy", "heal", 6.0, 64.0, 0.01),
    ("photos", "db", "postgres:17", "healthy", "shadow", 118.0, 384.0, 0.06),
    ("photos", "import", "photos/import:3", "unhealthy", "heal", 204.0, 256.0, 0.41),
    ("photos", "web", "photos/web:3", "healthy", "heal", 151.0, 512.0, 0.12),
    ("wiki", "app", "wiki/app:2", "none", "off", 310.0, 0.0, 0.03),
];

fn view(of: &Service) -> Value {
    let (project, service, image, health, mode, ..) = of;
    let source = if *mode == "off" { "project_switch" } else { "label" };
    let incident = if *service == "import" { json!("gave_up") } else { Value::Null };
    json!({"project": project, "service": service, "mode": mode, "mode_source": source, "refusal": null, "incident": incident,
        "containers": [{"name": format!("{project}-{service}-1"), "image": image, "state": "running", "health": health,
            "started_at": ago(700), "restart_count": 0}]})
}

fn services() -> Vec<Value> {
    SERVICES.iter().map(view).collect()
}

async fn service(Path((project, service)): Path<(String, String)>) -> Response {
    let Some(found) = SERVICES.iter().find(|it| it.0 == project && it.1 == service) else {
        let error = format!("project {project} has no service {service}; it has db, import, web");
        return (StatusCode::NOT_FOUND, Json(json!({"error": error}))).into_response();
    };
    let is_ill = service == "import";
    let incident = if is_ill { one(0) } else { Value::Null };
    let (reason, text) = if is_ill {
        ("budget_spent", "leave it alone until you acknowledge it")
    } else {
        ("already_well", "nothing: it is well")
    };
    let plan = json!({"project": project, "service": service, "step": "nothing", "reason": reason, "until": null, "container": null,
        "text": text, "incident": if is_ill { json!("gave_up") } else { Value::Null }});
    Json(
        json!({"service": view(found), "incident": incident, "waits_for": [], "plan": plan, "pause": null, "last": null,
        "budgets": [{"container": format!("{project}-{service}-1"), "spent": if is_ill { 6 } else { 0 }, "of": 6}]}),
    )
    .into_response()
}

/// The incidents, newest first.
fn one(number: usize) -> Value {
    let (id, service, state, outcome, opened, closed, attempts, problem) = [
        (INCIDENT, "import", "gave_up", Value::Null, 55, None, 6, "unhealthy: GET /health answers 500"),
        (
            "0195b0a1-6a1c-7d2e-9f00-1c2d3e4f5a6b",
            "web",
            "closed",
            json!("recovered"),
            320,
            Some(318),
            1,
            "exited with code 137",
        ),
        (
            "0195b085-6a1c-7d2e-9f00-1c2d3e4f5a6b",
            "db",
            "closed",
            json!("recovered_by_itself"),
            2900,
            Some(2896),
            0,
            "unhealthy: no answer in 5 s",
        ),
    ][number]
        .clone();
    let diagnosis = json!({"cause": "answers_with_error", "confidence": "likely", "summary": "its disk quota of 20 GB at the storage provider is used up.",
        "because": ["its log says: 507 Insufficient Storage, 14 times", "it falls ill again within 40 s of each restart"],
        "recommendation": "Free space there, or raise the quota.", "at": ago(50)});
    json!({"id": id, "host": "raspberrypi", "project": "photos", "service": service, "container_name": format!("photos-{service}-1"),
        "image": format!("photos/{service}:3"), "alert": "HealerSawUnhealthy", "mode": if service == "db" { "shadow" } else { "heal" },
        "state": state, "outcome": outcome, "problem": problem, "refusal": if number == 0 { json!("budget_spent") } else { Value::Null },
        "diagnosis": if number == 0 { diagnosis } else { Value::Null }, "opened_at": ago(opened), "last_alert_at": ago(opened),
        "closed_at": closed.map(ago), "attempts": attempts, "failed_attempts": if number == 0 { attempts } else { 0 },
        "next_attempt_at": null, "acknowledged_at": null, "revision": 9, "recorded_at": ago(1)})
}

async fn incidents(Query(query): Query<std::collections::BTreeMap<String, String>>) -> Response {
    if query.get("state").is_some_and(|state| state == "nonsense") {
        return (StatusCode::BAD_REQUEST, Json(json!({"error": "no state is called nonsense"}))).into_response();
    }
    let wanted = |incident: &Value| {
        ["project", "service", "state"]
            .iter()
            .all(|name| query.get(*name).is_none_or(|value| incident[*name] == **value))
    };
    let mut all: Vec<Value> = (0..3).map(one).filter(wanted).collect();
    // It runs no longer.
    if query.get("project").is_some_and(|project| project == "former") && !query.contains_key("state") {
        all.push(one(1));
    }
    Json(json!({"incidents": all})).into_response()
}

async fn incident(Path(id): Path<String>) -> Response {
    if id != INCIDENT {
        return (StatusCode::NOT_FOUND, Json(json!({"error": format!("there is no incident {id}")}))).into_response();
    }
    let uuid = |number: u32| format!("0195b0c4-6a1c-7d2e-9f00-{number:012x}");
    let attempts: Vec<Value> = (1..=3)
        .map(|number: u32| {
            let at = ago(55 - i64::from(number) * 6);
            json!({"id": uuid(number), "incident_id": id, "number": number, "action": "restart", "container_id": "7b2d", "started_at_before": null,
                "started_at_after": at, "intended_at": at, "finished_at": at + SignedDuration::from_secs(41), "outcome": "did_not_help",
                "detail": "it was healthy for 22 s, then unhealthy again", "revision": 1})
        })
        .collect();
    let event = |number: u32, minutes: i64, kind: &str, detail: &str| json!({"id": uuid(100 + number), "incident_id": id, "at": ago(minutes), "kind": kind, "detail": detail});
    let log = [
        "INFO  import 412 files from /inbox",
        "WARN  upload of IMG_2041.jpg failed: 507 Insufficient Storage",
        "ERROR giving up on this batch, retry in 30 s",
    ];
    Json(json!({"incident": one(0), "attempts": attempts,
        "events": [
            event(1, 55, "opened", "HealerSawUnhealthy: unhealthy: GET /health answers 500"),
            event(2, 49, "restarted", "photos-import-1 was restarted"),
            event(3, 48, "attempt_failed", "it was healthy for 22 s, then unhealthy again"),
            event(4, 12, "gave_up", "all attempts are spent"),
        ],
        "evidence": [
            {"id": uuid(201), "incident_id": id, "attempt_id": uuid(1), "kind": "logs", "taken_at": ago(49), "body": {"lines": log}},
            {"id": uuid(202), "incident_id": id, "attempt_id": uuid(1), "kind": "inspect", "taken_at": ago(49),
             "body": {"state": "running", "health": "unhealthy", "restart_count": 0, "oom_killed": false, "memory_limit": 268_435_456}},
        ]}))
    .into_response()
}

/// What the exporter says, as far as a report reads it.
fn exposition() -> String {
    const MIB: f64 = 1_048_576.0;
    let mut text = String::from(
        "node_load1 0.62\nnode_load5 0.48\nnode_memory_MemTotal_bytes 3.98e+09\nnode_memory_MemAvailable_bytes 2.31e+09\n\
         node_memory_SwapTotal_bytes 0\nnode_memory_SwapFree_bytes 0\nnode_thermal_zone_temp{zone=\"0\",type=\"cpu-thermal\"} 52.1\n\
         node_filesystem_size_bytes{device=\"/dev/mmcblk0p2\",fstype=\"ext4\",mountpoint=\"/\"} 6.2e+10\n\
         node_filesystem_free_bytes{device=\"/dev/mmcblk0p2\",fstype=\"ext4\",mountpoint=\"/\"} 2.0e+10\n\
         node_filesystem_avail_bytes{device=\"/dev/mmcblk0p2\",fstype=\"ext4\",mountpoint=\"/\"} 1.7e+10\n\
         node_filesystem_readonly{device=\"/dev/mmcblk0p2\",fstype=\"ext4\",mountpoint=\"/\"} 0\nnexus_memory_cgroup_enabled 1\n",
    );
    for cpu in 0..4 {
        text.push_str(&format!("node_cpu_seconds_total{{cpu=\"{cpu}\",mode=\"idle\"}} 1000\n"));
    }
    for (project, service, image, health, _, used, limit, _) in SERVICES {
        let labels =
            format!("name=\"{project}-{service}-1\",image=\"{image}\",project=\"{project}\",service=\"{service}\"");
        for (name, value) in [
            ("container_memory_rss", used * MIB),
            ("container_memory_working_set_bytes", used * MIB * 1.1),
            ("container_spec_memory_limit_bytes", limit * MIB),
            ("docker_container_log_bytes", 2.0 * MIB),
        ] {
            text.push_str(&format!("{name}{{id=\"/x\",{labels}}} {value}\n"));
        }
        text.push_str(&format!("docker_container_state{{id=\"/x\",{labels},state=\"running\"}} 1\n"));
        text.push_str(&format!("docker_container_health{{id=\"/x\",{labels},health=\"{health}\"}} 1\n"));
    }
    text
}

/// What is computed of this moment.
fn instant() -> Value {
    let one = |what: &str, value: f64| json!({"metric": {"what": what}, "value": [1, value.to_string()]});
    let mut result = vec![
        one("cpu", 0.17),
        one("pressure_memory", 0.0),
        one("pressure_io", 0.012),
        one("received", 81_000.0),
        one("sent", 22_000.0),
    ];
    result.extend(SERVICES.iter().map(|(project, service, .., cpu)| {
        json!({"metric": {"what": "service_cpu", "project": project, "service": service}, "value": [1, cpu.to_string()]})
    }));
    json!({"status": "success", "data": {"resultType": "vector", "result": result}})
}

/// A day's ups and downs, the same each time, with a gap while the machine was off.
async fn range(
    State(seen): State<Seen>,
    Query(query): Query<std::collections::BTreeMap<String, String>>,
) -> Json<Value> {
    let number = |name: &str| query[name].parse::<i64>().unwrap();
    let (start, end, step) = (number("start"), number("end"), number("step"));
    let asked = query["query"].clone();
    seen.queries.lock().unwrap().push(asked.clone());
    let matrix = |result: Value| Json(json!({"status": "success", "data": {"resultType": "matrix", "result": result}}));
    if asked.contains("label_replace") {
        return matrix(json!([]));
    }
    let (middle, swing) = match &asked {
        it if it.contains("thermal") => (51.0, 6.0),
        it if it.contains("working_set") => (1.6e8, 2.0e7),
        it if it.contains("MemAvailable") => (0.42, 0.05),
        it if it.contains("filesystem") => (0.71, 0.01),
        _ => (0.2, 0.14),
    };
    let points = (start..=end).step_by(step as usize).enumerate().filter(|(number, _)| !(60..66).contains(number));
    let values: Vec<Value> = points
        .map(|(number, at)| {
            let number = number as f64;
            let value = middle + swing * ((number / 11.0).sin() + 0.4 * (number * 1.7).sin()) / 1.4;
            json!([at, value.to_string()])
        })
        .collect();
    let metric = if asked.contains("filesystem") { json!({"mountpoint": "/"}) } else { json!({}) };
    matrix(json!([{"metric": metric, "values": values}]))
}

fn alerts() -> Value {
    json!([{"labels": {"alertname": "HealerGaveUp", "severity": "critical", "project": "photos", "service": "import", "host": "raspberrypi"},
        "annotations": {"summary": "Nexus gave up healing this service"}, "startsAt": ago(12), "endsAt": ago(-5), "updatedAt": ago(0),
        "fingerprint": "a", "receivers": [{"name": "people"}], "status": {"state": "active", "silencedBy": [], "inhibitedBy": []}}])
}

async fn take(State(seen): State<Seen>, _: HeaderMap, Json(body): Json<Value>) -> StatusCode {
    seen.alerts.lock().unwrap().push(body);
    StatusCode::OK
}
