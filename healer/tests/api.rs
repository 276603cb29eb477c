//! What people and agents ask the running healer, and what it does at their word. Every answer is held against the OpenAPI
//! document by `crate::support::contract`.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use nexus_model::{
    AttemptOutcome, Incident, IncidentState, Mode, Outcome, Refusal,
    api::{ApiError, HealerStatus, IncidentDetail},
    control::{HealNowAccepted, PauseList, Plan, PlanList, ServiceDetail, ServiceLogs, Step},
    shadow::ShadowReport,
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{API_TOKEN, Alertmanager, Healer, READ_TOKEN, WEBHOOK_TOKEN},
};

const WEB: &str = "/api/v1/services/shop/web";

async fn get<T: DeserializeOwned>(healer: &Healer, path: &str) -> T {
    let (status, body) = healer.api("GET", path, "").await;
    assert_eq!(status, 200, "{path}: {body}");
    serde_json::from_str(&body).unwrap()
}

async fn act<T: DeserializeOwned>(healer: &Healer, method: &str, path: &str, body: Value, expected: u16) -> T {
    let (status, answer) = healer.api(method, path, &body.to_string()).await;
    assert_eq!(status, expected, "{method} {path} {body}: {answer}");
    serde_json::from_str(&answer).unwrap()
}

/// The request is refused with this status, and with a sentence that holds all of these.
async fn refused(healer: &Healer, method: &str, path: &str, body: &str, status: u16, says: &[&str]) {
    let (found, answer) = healer.api(method, path, body).await;
    assert_eq!(found, status, "{method} {path} {body}: {answer}");
    let error: ApiError = serde_json::from_str(&answer).unwrap();
    for part in says {
        assert!(error.error.contains(part), "{method} {path} {body}: {:?} lacks {part:?}", error.error);
    }
    assert!(!error.error.contains('\n'), "{:?}", error.error);
}

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

fn gave_up(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::GaveUp
}

fn events(detail: &IncidentDetail) -> Vec<&str> {
    detail.events.iter().map(|event| event.kind.as_str()).collect()
}

/// Every attempt fails until somebody mends it.
fn hopeless() -> Fake {
    Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() }
}

#[tokio::test]
async fn the_reading_token_reads_and_the_other_one_acts() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill().label("nexus.heal", "shadow"));
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let id = healer.incident("web", "the incident", |_| true).await.incident.id;
    let (ack, incident) = (format!("/api/v1/incidents/{id}/ack"), format!("/api/v1/incidents/{id}"));
    let (logs, heal) = (format!("{WEB}/logs"), format!("{WEB}/heal"));
    let reads = ["/api/v1/incidents", &incident, "/api/v1/services", WEB, &logs, "/api/v1/pauses", "/api/v1/plan"];
    for path in reads.into_iter().chain(["/api/v1/status"]) {
        for (token, expected) in [(READ_TOKEN, 200), (API_TOKEN, 200), (WEBHOOK_TOKEN, 401)] {
            let (status, answer) = healer.request("GET", path, Some(token), "").await;
            assert_eq!(status, expected, "{path} with {token}: {answer}");
        }
    }
    let acts = [("POST", ack.as_str()), ("POST", &heal), ("PUT", "/api/v1/heal"), ("PUT", "/api/v1/pauses")];
    for (method, path) in acts.into_iter().chain([("DELETE", "/api/v1/pauses")]) {
        let (status, answer) = healer.request(method, path, Some(READ_TOKEN), "{}").await;
        assert_eq!(status, 403, "{method} {path}: {answer}");
        assert!(answer.contains("this token may only read"), "{answer}");
        assert_eq!(healer.request(method, path, None, "{}").await.0, 401, "{method} {path}");
    }
    assert_eq!(get::<PauseList>(&healer, "/api/v1/pauses").await.pauses, []);
    assert_eq!(engine.restarts("c1"), 0);
    // Neither is good for the webhook.
    for token in [READ_TOKEN, API_TOKEN] {
        assert_eq!(healer.request("POST", "/webhook", Some(token), "{}").await.0, 401);
    }
    assert!(!healer.log().contains(READ_TOKEN) && !healer.log().contains(API_TOKEN));
}

#[tokio::test]
async fn the_reading_token_can_be_left_out_and_a_wrong_one_is_told() {
    let engine = Engine::start();
    let mut healer = Healer::new(&engine);
    // Without the flag there is none, and the other one is good for everything.
    let mut without = std::process::Command::new(env!("CARGO_BIN_EXE_nexus-healer"));
    let command = healer.command();
    let arguments: Vec<_> = command.get_args().collect();
    let flag = arguments.iter().position(|argument| *argument == "--api.read-token-file").unwrap();
    without.env_clear().args(&arguments[..flag]).args(&arguments[flag + 2..]);
    healer.start_as(without).await;
    assert_eq!(healer.request("GET", "/api/v1/status", Some(READ_TOKEN), "").await.0, 401);
    assert_eq!(healer.request("GET", "/api/v1/status", Some(API_TOKEN), "").await.0, 200);
    healer.stop();
    let check = |content: Option<&str>, says: &str| {
        let file = healer.folder.path().join("api_read");
        match content {
            Some(content) => std::fs::write(&file, content).unwrap(),
            None => std::fs::remove_file(&file).unwrap(),
        }
        let output = healer.command().output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(says) && !said.contains(API_TOKEN), "{said}");
    };
    check(Some(API_TOKEN), "--api.read-token-file holds the same token as --api.token-file");
    check(Some(""), "api_read is empty");
    check(None, "can't read the secret file");
}

#[tokio::test]
async fn a_service_is_told_with_the_reason_for_its_state() {
    let engine = Engine::start();
    let needs = ("com.docker.compose.depends_on", "db:service_started:false");
    engine.set("c1", Fake::service("shop", "web").ill().label(needs.0, needs.1));
    engine.set("c2", Fake { status: "exited", exit_code: 1, health: None, ..Fake::service("shop", "db") });
    let healer = Healer::started(&engine).await;
    healer.sees("db", "exited", "none").await;
    healer.alert("shop", "web").await;
    healer.incident("web", "waiting", |it| it.incident.state == IncidentState::Blocked).await;
    let detail: ServiceDetail = get(&healer, WEB).await;
    assert_eq!(detail.service.containers[0].name, "shop-web-1");
    let incident = detail.incident.unwrap();
    assert_eq!((incident.state, incident.refusal), (IncidentState::Blocked, Some(Refusal::DependencyDown)));
    let root = &detail.waits_for[0];
    assert_eq!((root.service.as_str(), root.problem.as_str(), root.reason), ("db", "stopped", Refusal::DependencyDown));
    assert_eq!((detail.plan.step, detail.plan.reason), (Step::Block, Some(Refusal::DependencyDown)));
    assert!(detail.plan.text.contains("shop/db"), "{:?}", detail.plan);
    assert_eq!((detail.budgets[0].spent, detail.budgets[0].of), (0, 3));
    assert_eq!((detail.pause, detail.last), (None, None));

    // It comes back: the last incident is told, and that there is nothing to do.
    engine.change("c2", |it| (it.status, it.exit_code) = ("running", 0));
    engine.change("c1", |it| it.health = Some("healthy"));
    healer.incident("web", "its end", closed).await;
    let detail: ServiceDetail = get(&healer, WEB).await;
    assert_eq!(detail.incident, None);
    assert_eq!(detail.last.unwrap().outcome, Some(Outcome::RecoveredByItself));
    assert_eq!((detail.plan.step, detail.plan.reason), (Step::Nothing, Some(Refusal::AlreadyWell)));

    refused(&healer, "GET", "/api/v1/services/shop/wbe", "", 404, &["project shop has no service wbe", "db, web"])
        .await;
    refused(&healer, "GET", "/api/v1/services/photos/web", "", 404, &["there is no project photos; there are shop"])
        .await;
}

#[tokio::test]
async fn what_docker_restarts_again_and_again_is_told_with_how_often_and_that_healing_leaves_it_to_docker() {
    let engine = Engine::start();
    let (status, exit_code, restart_count, health) = ("restarting", 78, 22, None);
    engine.set("c1", Fake { status, exit_code, restart_count, health, ..Fake::service("shop", "web") });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "restarting", "none").await;
    let detail: ServiceDetail = get(&healer, WEB).await;
    let stuck = detail.service.stuck.unwrap();
    assert!(stuck.starts_with("Docker restarts it again and again: 22 times, last with exit code 78 ("), "{stuck}");
    assert_eq!((detail.plan.step, detail.plan.reason), (Step::Nothing, Some(Refusal::DockerRestarting)));
    let left = "healing does not act on what Docker's own restart policy restarts";
    assert!(detail.plan.text.ends_with(left), "{:?}", detail.plan);
    engine.change("c1", |it| (it.status, it.restart_count) = ("running", 0));
    healer.sees("web", "running", "none").await;
    let detail: ServiceDetail = get(&healer, WEB).await;
    assert_eq!((detail.service.stuck, detail.plan.reason), (None, Some(Refusal::AlreadyWell)));
}

#[tokio::test]
async fn a_service_that_is_restarted_again_and_again_is_shown_as_such_over_a_kill() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let mut healer = Healer::started(&engine).await;
    for round in 1..=3 {
        engine.change("c1", |it| it.health = Some("unhealthy"));
        healer.sees("web", "running", "unhealthy").await;
        healer.alert("shop", "web").await;
        eventually("the restart among those of the day", async || {
            let today = healer.services().await.services[0].today?;
            (today.restarts == round).then(|| assert_eq!((today.of, today.flaps()), (20, round == 3)))
        })
        .await;
        eventually("its end", async || {
            let list = healer.incidents().await;
            list.incidents.iter().all(|incident| !incident.state.is_open()).then_some(())
        })
        .await;
    }
    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    eventually("what the journal remembers", async || {
        healer.services().await.services[0].today.filter(|today| today.restarts == 3)
    })
    .await;
}

#[tokio::test]
async fn logs_are_bounded_redacted_and_named() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let mut second = Fake { log: vec!["second".to_owned()], ..Fake::service("shop", "web") };
    second.name = "shop-web-2".to_owned();
    engine.set("c2", second);
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "healthy").await;
    let path = format!("{WEB}/logs");
    let logs: ServiceLogs = get(&healer, &path).await;
    assert_eq!((logs.project.as_str(), logs.service.as_str()), ("shop", "web"));
    let names: Vec<&str> = logs.containers.iter().map(|log| log.container.name.as_str()).collect();
    assert_eq!(names, ["shop-web-1", "shop-web-2"]);
    let lines = &logs.containers[0].lines;
    assert!(lines[1].ends_with("login with password=*** failed") && !logs.containers[0].truncated, "{lines:?}");
    let one: ServiceLogs = get(&healer, &format!("{path}?tail=1&container=shop-web-1")).await;
    assert_eq!((one.containers.len(), one.containers[0].lines.len()), (1, 1));
    assert!(one.containers[0].truncated);
    // The engine's lines are all of this moment.
    let none: ServiceLogs = get(&healer, &format!("{path}?since=2100-01-01T00:00:00Z")).await;
    assert!(none.containers.iter().all(|log| log.lines.is_empty() && !log.truncated), "{none:?}");
    let some: ServiceLogs = get(&healer, &format!("{path}?since=10m")).await;
    assert_eq!(some.containers[0].lines.len(), 2);

    for (query, says) in [
        ("tail=0", "tail must be 1 to 1000"),
        ("tail=1001", "tail must be 1 to 1000"),
        ("tail=x", "tail"),
        ("since=yesterday", "\"yesterday\" is neither"),
        ("follow=1", "follow"),
    ] {
        refused(&healer, "GET", &format!("{path}?{query}"), "", 400, &[says]).await;
    }
    refused(&healer, "GET", &format!("{path}?container=x"), "", 404, &["no container x", "shop-web-1, shop-web-2"])
        .await;
    refused(&healer, "GET", "/api/v1/services/shop/db/logs", "", 404, &["it has web"]).await;

    // One that does not come is said to be missing, in time.
    engine.change("c2", |it| it.logged_in = std::time::Duration::from_secs(60));
    let late: ServiceLogs = get(&healer, &path).await;
    assert_eq!(late.containers[0].lines.len(), 2);
    assert_eq!(late.containers[1].error.as_deref(), Some("the log did not come within 5 s"));
}

#[tokio::test]
async fn heal_now_makes_one_attempt_although_the_healer_has_given_up() {
    let engine = Engine::start();
    engine.set("c1", hopeless());
    let mut healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let before = healer.incident("web", "giving up", gave_up).await;
    assert_eq!(engine.restarts("c1"), 3);
    // A silence, a pause and a spent budget hold back the healer, not its owner.
    act::<PauseList>(&healer, "PUT", "/api/v1/pauses", json!({}), 200).await;
    // The body may be left out.
    let (status, answer) = healer.api("POST", &format!("{WEB}/heal"), "").await;
    assert_eq!(status, 202, "{answer}");
    let accepted: HealNowAccepted = serde_json::from_str(&answer).unwrap();
    assert_eq!((accepted.incident, accepted.attempts_before), (before.incident.id, 3));
    assert_eq!(accepted.containers, ["shop-web-1"]);
    let paused = |it: &IncidentDetail| it.incident.refusal == Some(Refusal::HealingPaused);
    healer.incident("web", "the pause after it", |it| paused(it) && it.attempts.len() == 4).await;
    assert_eq!(healer.api("DELETE", "/api/v1/pauses", "").await.0, 200);
    let failed = healer.incident("web", "giving up again", gave_up).await;
    assert_eq!(engine.restarts("c1"), 4);
    assert!(failed.evidence.iter().any(|piece| piece.attempt_id == Some(failed.attempts[3].id)), "evidence first");
    let intent = failed.events.iter().rfind(|event| event.kind == "intent").unwrap();
    assert_eq!(intent.detail, "attempt 4: restart shop-web-1, by hand");
    assert!(events(&failed).contains(&"heal_now"));

    // Now it helps, and a restart of the healer in between loses nothing.
    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "unhealthy").await;
    engine.quietly("c1", |it| it.temper = Temper::Mends);
    let _: HealNowAccepted = act(&healer, "POST", &format!("{WEB}/heal"), json!({}), 202).await;
    let mended = healer.incident("web", "its end", closed).await;
    assert_eq!(mended.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(mended.attempts.last().unwrap().outcome, Some(AttemptOutcome::Helped));
    assert_eq!(engine.restarts("c1"), 5);
}

#[tokio::test]
async fn heal_now_heals_what_is_only_watched_or_off_and_leaves_the_mode() {
    for (mode, end) in [("shadow", Outcome::Recovered), ("false", Outcome::Recovered)] {
        let engine = Engine::start();
        // A database that nobody has named, too.
        let fake = Fake { image: "postgres:17".to_owned(), ..Fake::service("shop", "web").ill() };
        engine.set("c1", fake.label("nexus.heal", mode));
        let healer = Healer::started(&engine).await;
        healer.sees("web", "running", "unhealthy").await;
        let accepted: HealNowAccepted = act(&healer, "POST", &format!("{WEB}/heal"), json!({}), 202).await;
        let detail = healer.incident("web", "its end", closed).await;
        assert_eq!((detail.incident.id, detail.incident.outcome), (accepted.incident, Some(end)), "{detail:?}");
        assert_eq!((detail.incident.alert.as_str(), detail.attempts.len()), ("HealNow", 1));
        assert_ne!(detail.incident.mode, Mode::Heal);
        let expected = ["opened", "heal_now", "intent", "restarted", "verified", "helped", "closed"];
        assert_eq!(events(&detail), expected);
        assert_eq!(engine.restarts("c1"), 1);
    }
}

#[tokio::test]
async fn heal_now_is_refused_with_the_reason_unless_it_is_forced() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    engine.set("c2", Fake::service("shop", "app").ill().label("nexus.depends_on", "db"));
    engine.set("c3", Fake { status: "exited", exit_code: 1, health: None, ..Fake::service("shop", "db") });
    engine.set("c4", Fake::service("nexus", "prometheus").ill());
    let healer = Healer::started(&engine).await;
    healer.sees("prometheus", "running", "unhealthy").await;
    let check = async |service: &str, body: &str, status: u16, why: Refusal, says: &str| {
        let path = format!("/api/v1/services/{service}/heal");
        let (found, answer) = healer.api("POST", &path, body).await;
        assert_eq!(found, status, "{path} {body}: {answer}");
        let error: ApiError = serde_json::from_str(&answer).unwrap();
        assert!(error.reason == Some(why) && error.error.contains(says), "{path} {body}: {error:?}");
    };
    check("shop/web", "{}", 409, Refusal::AlreadyWell, "force restarts it all the same").await;
    check("shop/app", "{}", 409, Refusal::DependencyDown, "it needs shop/db, which is not well (stopped)").await;
    for body in ["{}", r#"{"force":true}"#] {
        check("nexus/prometheus", body, 409, Refusal::OwnStack, "part of Nexus itself").await;
    }
    let heal = format!("{WEB}/heal");
    refused(&healer, "POST", "/api/v1/services/shop/x/heal", "{}", 404, &["it has app, db, web"]).await;
    refused(&healer, "POST", &heal, "{", 400, &["the body is not understood"]).await;
    refused(&healer, "POST", &heal, r#"{"froce":true}"#, 400, &["froce"]).await;
    refused(&healer, "POST", &heal, &"x".repeat(20_000), 413, &["length limit"]).await;
    assert_eq!(healer.incidents().await.incidents, []);

    let _: HealNowAccepted = act(&healer, "POST", &heal, json!({ "force": true }), 202).await;
    let detail = healer.incident("web", "its end", closed).await;
    assert_eq!((detail.incident.outcome, engine.restarts("c1")), (Some(Outcome::Recovered), 1));
    let _: HealNowAccepted =
        act(&healer, "POST", "/api/v1/services/shop/app/heal", json!({ "force": true }), 202).await;
    healer.incident("app", "its end", closed).await;
    assert_eq!((engine.restarts("c2"), engine.restarts("c3"), engine.restarts("c4")), (1, 0, 0));
}

#[tokio::test]
async fn heal_now_waits_its_turn_and_survives_a_kill() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill().label("nexus.heal", "shadow"));
    let slow = Fake { stops_in: std::time::Duration::from_secs(3), ..Fake::service("shop", "app").ill() };
    engine.set("c2", slow);
    let mut healer = Healer::started(&engine).await;
    healer.sees("app", "running", "unhealthy").await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "app").await;
    healer.incident("app", "its restart", |it| it.incident.state == IncidentState::Restarting).await;
    let accepted: HealNowAccepted = act(&healer, "POST", &format!("{WEB}/heal"), json!({}), 202).await;
    assert_eq!(engine.restarts("c1"), 0, "one at a time");
    healer.kill();
    healer.start().await;
    let detail = healer.incident("web", "its end", closed).await;
    assert_eq!((detail.incident.id, detail.attempts.len()), (accepted.incident, 1));
    assert_eq!((engine.restarts("c1"), engine.most_restarts_at_once()), (1, 1));
}

#[tokio::test]
async fn what_is_acknowledged_is_told_no_more_and_left_alone_until_a_retry() {
    let engine = Engine::start();
    engine.set("c1", hopeless());
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "giving up", gave_up).await;
    eventually("the message", async || alertmanager.told("HealerGaveUp").pop()).await;
    let ack = format!("/api/v1/incidents/{}/ack", detail.incident.id);
    let long = json!({ "note": "x".repeat(501) }).to_string();
    refused(&healer, "POST", &ack, &long, 400, &["note must have 500 characters at most"]).await;
    let note = "waiting for a disk\u{1b}[2J, password=hunter2";
    let incident: Incident = act(&healer, "POST", &ack, json!({ "note": note }), 200).await;
    assert!(incident.state == IncidentState::GaveUp && incident.acknowledged_at.is_some());
    // What holds the messages back, also those of the rules about the service, stands as long as the incident; what it holds back is true
    // and does not end: that would be told as good news.
    let is_over = |alert: &serde_json::Value| {
        let ends: jiff::Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
        ends <= jiff::Timestamp::now()
    };
    let held_back =
        eventually("the end of the messages", async || alertmanager.told("ServiceAcknowledged").pop()).await;
    assert!(!is_over(&held_back) && held_back["labels"]["severity"] == "none", "{held_back}");
    for label in ["host", "project", "service"] {
        assert_eq!(held_back["labels"][label], alertmanager.told("HealerGaveUp")[0]["labels"][label]);
    }
    assert!(!alertmanager.told("HealerGaveUp").iter().any(is_over));
    assert_eq!(healer.metric("nexus_healer_gave_up{").await, None, "the rule that backs it up ends as well");
    assert_eq!(healer.metric("nexus_healer_alerts{alertname=\"HealerGaveUp\"").await, None);

    // Neither an alert nor a restart of the healer wakes it.
    healer.alert("shop", "web").await;
    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let told: ServiceDetail = get(&healer, WEB).await;
    assert!(told.incident.unwrap().acknowledged_at == incident.acknowledged_at && engine.restarts("c1") == 3);
    let story = healer.incident("web", "the story", gave_up).await;
    let line = story.events.iter().find(|event| event.kind == "acknowledged").unwrap();
    assert_eq!(line.detail, "acknowledged: it is left alone: waiting for a disk, password=***");

    engine.quietly("c1", |it| it.temper = Temper::Mends);
    let again: Incident = act(&healer, "POST", &ack, json!({ "retry": true }), 200).await;
    assert_eq!((again.state, again.acknowledged_at), (IncidentState::Backoff, None));
    let mended = healer.incident("web", "its end", closed).await;
    assert_eq!((mended.incident.outcome, engine.restarts("c1")), (Some(Outcome::Recovered), 4));
    // While it was tried again nobody was told what everybody knew.
    eventually("the end of it all", async || alertmanager.told("ServiceAcknowledged").pop().filter(&is_over)).await;
    assert!(alertmanager.told("HealerGaveUp").pop().is_some_and(|last| is_over(&last)));
    assert_eq!(alertmanager.told("ServiceAcknowledged").iter().filter(|alert| is_over(alert)).count(), 1);
    refused(&healer, "POST", &ack, "", 409, &["is closed"]).await;
    refused(&healer, "POST", "/api/v1/incidents/x/ack", "", 400, &["UUID"]).await;
    let unknown = format!("/api/v1/incidents/{}/ack", uuid::Uuid::nil());
    refused(&healer, "POST", &unknown, "", 404, &["there is no incident"]).await;
}

#[tokio::test]
async fn a_pause_holds_up_healing_over_a_kill_and_ends_by_itself_or_by_hand() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    let wanted = json!({ "project": "shop", "for_seconds": 3600, "reason": "moving, token=abcdef" });
    let list: PauseList = act(&healer, "PUT", "/api/v1/pauses", wanted, 200).await;
    assert_eq!((list.pauses.len(), list.pauses[0].target().as_str()), (1, "shop"));
    assert_eq!(list.pauses[0].reason.as_deref(), Some("moving, token=***"));
    let lasts = list.pauses[0].until.duration_since(list.pauses[0].since).as_secs();
    // Each is rounded to the second.
    assert!((3599..=3601).contains(&lasts), "{list:?}");
    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let waits = |it: &IncidentDetail| it.incident.refusal == Some(Refusal::HealingPaused);
    let detail = healer.incident("web", "the pause in the incident", waits).await;
    let held_up = detail.events.iter().any(|event| event.detail == "not now: healing_paused");
    assert!(held_up && engine.restarts("c1") == 0, "{detail:?}");
    assert_eq!(healer.metric("nexus_healer_paused{project=\"shop\",service=\"\"}").await, Some(1.0));
    assert_eq!(get::<HealerStatus>(&healer, "/api/v1/status").await.pauses, list.pauses);
    assert!(healer.services().await.services[0].paused_until.is_some());
    let why: ServiceDetail = get(&healer, WEB).await;
    assert_eq!((why.pause.unwrap().target().as_str(), why.plan.step), ("shop", Step::Wait));
    assert!(why.plan.until.is_some());

    let there = &["there is no pause of everything", "paused are shop"];
    refused(&healer, "DELETE", "/api/v1/pauses", "", 404, there).await;
    // A shorter one of the service itself does not shorten it; the end of both does.
    let short = json!({ "project": "shop", "service": "web", "for_seconds": 2 });
    let two: PauseList = act(&healer, "PUT", "/api/v1/pauses", short, 200).await;
    assert_eq!(two.pauses.len(), 2);
    let (status, _) = healer.api("DELETE", "/api/v1/pauses?project=shop", "").await;
    assert_eq!((status, engine.restarts("c1")), (200, 0), "the other one still holds");
    let detail = healer.incident("web", "its end", closed).await;
    assert_eq!((detail.incident.outcome, engine.restarts("c1")), (Some(Outcome::Recovered), 1));
    assert_eq!(get::<PauseList>(&healer, "/api/v1/pauses").await.pauses, []);
    assert_eq!(healer.metric("nexus_healer_paused{").await, None);
    refused(&healer, "DELETE", "/api/v1/pauses?project=shop", "", 404, &["nothing is paused"]).await;

    for (body, status, says) in [
        (r#"{"for_seconds":0}"#, 400, "1 to 2592000"),
        (r#"{"for_seconds":2592001}"#, 400, "after 30 days at most"),
        (r#"{"service":"web"}"#, 400, "a service needs its project"),
        (r#"{"project":""}"#, 400, "must not be empty"),
        (r#"{"project":"nexus"}"#, 400, "Nexus itself"),
        (r#"{"project":"photos"}"#, 404, "there are shop"),
        (r#"{"project":"shop","service":"x"}"#, 404, "it has web"),
        (r#"{"forever":true}"#, 400, "forever"),
    ] {
        refused(&healer, "PUT", "/api/v1/pauses", body, status, &[says]).await;
    }
    refused(&healer, "DELETE", "/api/v1/pauses?service=web", "", 400, &["a service needs its project"]).await;
    refused(&healer, "DELETE", "/api/v1/pauses?all=1", "", 400, &["all"]).await;
}

#[tokio::test]
async fn a_restart_that_runs_is_judged_though_healing_is_paused_meanwhile() {
    let engine = Engine::start();
    engine.set("c1", Fake { stops_in: std::time::Duration::from_secs(1), ..hopeless() });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    healer.incident("web", "its restart", |it| it.incident.state == IncidentState::Restarting).await;
    act::<PauseList>(&healer, "PUT", "/api/v1/pauses", json!({}), 200).await;
    let waits = |it: &IncidentDetail| it.incident.refusal == Some(Refusal::HealingPaused);
    let detail = healer.incident("web", "the pause after the verdict", waits).await;
    assert_eq!(detail.attempts[0].outcome, Some(AttemptOutcome::DidNotHelp));
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn the_shadow_record_of_a_name_that_is_unknown_is_an_error_and_of_a_well_service_empty() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "healthy").await;
    for known in ["", "?project=shop", "?project=shop&service=web"] {
        let record: ShadowReport = get(&healer, &format!("/api/v1/shadow{known}")).await;
        assert!(record.services.is_empty(), "{record:?}");
    }
    refused(&healer, "GET", "/api/v1/shadow?project=shpo", "", 404, &["there is no project shpo"]).await;
    refused(&healer, "GET", "/api/v1/shadow?project=shop&service=wbe", "", 404, &["it has web"]).await;
}

#[tokio::test]
async fn the_plan_is_told_and_nothing_comes_of_it() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    engine.set("c2", Fake::service("shop", "db"));
    engine.set("c3", Fake::service("blog", "app").ill().label("nexus.heal", "shadow"));
    engine.set("c4", Fake::service("nexus", "healer"));
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    healer.sees("app", "running", "unhealthy").await;
    let rows = healer.metric("nexus_healer_journal_pending_rows").await;
    let told = |plans: &[Plan]| -> Vec<(String, Step, Option<Refusal>)> {
        plans.iter().map(|plan| (plan.service.clone(), plan.step, plan.reason)).collect()
    };
    let all: PlanList = get(&healer, "/api/v1/plan").await;
    let expected = [
        ("app".to_owned(), Step::WouldRestart, Some(Refusal::ShadowMode)),
        ("healer".to_owned(), Step::Nothing, Some(Refusal::OwnStack)),
        ("db".to_owned(), Step::Nothing, Some(Refusal::AlreadyWell)),
        ("web".to_owned(), Step::Restart, None),
    ];
    assert_eq!(told(&all.plans), expected);
    assert_eq!(all.plans[3].container.as_deref(), Some("shop-web-1"));
    let one: PlanList = get(&healer, "/api/v1/plan?project=shop&service=web").await;
    assert_eq!(told(&one.plans), expected[3..]);
    assert_eq!(get::<PlanList>(&healer, "/api/v1/plan?project=shop").await.plans.len(), 2);
    refused(&healer, "GET", "/api/v1/plan?project=photos", "", 404, &["there are blog, shop"]).await;
    refused(&healer, "GET", "/api/v1/plan?project=shop&service=x", "", 404, &["it has db, web"]).await;
    refused(&healer, "GET", "/api/v1/plan?service=web", "", 400, &["a service needs its project"]).await;
    refused(&healer, "GET", "/api/v1/plan?sevice=web", "", 400, &["sevice"]).await;

    // Nothing was written, opened, or asked of Docker.
    assert_eq!(healer.incidents().await.incidents, []);
    assert_eq!(healer.metric("nexus_healer_journal_pending_rows").await, rows);
    assert_eq!(engine.all_restarts(), []);
    // And it is what is done then.
    healer.alert("shop", "web").await;
    healer.incident("web", "its end", closed).await;
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn the_document_is_served_to_anybody_and_is_the_one_that_the_answers_are_held_against() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    let (status, body) = healer.request("GET", "/api/v1/openapi.json", None, "").await;
    assert_eq!((status, body.as_str()), (200, include_str!("../src/api/openapi.json")));
    // The checker lets pass what is right and nothing else.
    let schema = json!({ "$ref": "#/components/schemas/Budget" });
    let check = |value: Value, expected: Option<&str>| {
        let found = crate::support::contract::validate(&value, &schema, "it").err();
        assert_eq!(found.as_deref().map(|found| found.contains(expected.unwrap_or("nothing"))), expected.map(|_| true));
    };
    check(json!({ "container": "c", "spent": 0, "of": 6 }), None);
    check(json!({ "container": "c", "spent": 0 }), Some("of is missing"));
    check(json!({ "container": "c", "spent": 0, "of": 6, "more": 1 }), Some("it.more is not documented"));
    check(json!({ "container": "c", "spent": -1, "of": 6 }), Some("it.spent: -1 is not"));
    check(json!({ "container": null, "spent": 0, "of": 6 }), Some("it.container: null is no \"string\""));
    let refusal = json!({ "$ref": "#/components/schemas/Refusal" });
    assert!(crate::support::contract::validate(&json!("already_wel"), &refusal, "it").is_err());
    assert!(crate::support::contract::validate(&json!("x"), &json!({ "pattern": "x" }), "it").is_err());
    // HTTP's own refusals are documented as well.
    assert_eq!(healer.api("PATCH", "/api/v1/pauses", "").await.0, 405);
    assert_eq!(healer.api("GET", "/api/v1/nothing", "").await.0, 404);
}
