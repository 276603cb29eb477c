//! The running healer against a fake engine: what it does about what it sees.

use std::time::Duration;

use nexus_model::{AttemptOutcome, Cause, Confidence, EvidenceKind, IncidentState, Mode, Outcome, Refusal};
use serde_json::Value;

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Alertmanager, Healer, firing, payload},
};

fn closed(detail: &nexus_model::api::IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

#[tokio::test]
async fn an_unhealthy_service_is_restarted_once_and_its_story_is_kept_without_secrets() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!((detail.incident.attempts, detail.incident.failed_attempts), (1, 0));
    assert_eq!(detail.attempts[0].outcome, Some(AttemptOutcome::Helped));
    assert!(detail.attempts[0].started_at_after > detail.attempts[0].started_at_before);
    assert_eq!(engine.restarts("c1"), 1);

    let kinds: Vec<EvidenceKind> = detail.evidence.iter().map(|piece| piece.kind).collect();
    // On a busy machine the log is the last to come.
    assert_eq!(kinds.len(), EvidenceKind::ALL.len());
    assert!(EvidenceKind::ALL.iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    let evidence = serde_json::to_string(&detail.evidence).unwrap();
    assert!(!evidence.contains("hunter2") && !evidence.contains("abcdef"), "{evidence}");
    assert!(evidence.contains("login with password=***"));
    let events: Vec<&str> = detail.events.iter().map(|event| event.kind.as_str()).collect();
    assert_eq!(events, ["opened", "intent", "restarted", "verified", "helped", "closed"]);

    // The same alert again, now that all is well: nothing.
    healer.alert("shop", "web").await;
    healer.refused("already_well").await;
    assert_eq!(engine.restarts("c1"), 1);
    assert_eq!(healer.incidents().await.incidents.len(), 1);
    assert_eq!(healer.metric("nexus_healer_restarts_total{outcome=\"helped\"}").await, Some(1.0));
    assert_eq!(healer.metric("nexus_healer_incidents_total{outcome=\"recovered\"}").await, Some(1.0));
}

#[tokio::test]
async fn a_service_that_exits_is_brought_back() {
    let engine = Engine::start();
    let log = vec!["listen tcp 0.0.0.0:80: bind: address already in use".to_owned()];
    engine.set("c1", Fake { health: None, log, ..Fake::service("shop", "web") });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "none").await;
    engine.exit("c1", 1);
    healer.sees("web", "exited", "none").await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(detail.incident.problem, "exited with code 1");
    assert_eq!(engine.restarts("c1"), 1);
    let diagnosis = detail.incident.diagnosis.unwrap();
    assert_eq!((diagnosis.cause, diagnosis.confidence), (Cause::PortTaken, Confidence::Likely));
    assert!(diagnosis.because[0].ends_with("bind: address already in use"), "{diagnosis:?}");
    assert!(detail.events.iter().any(|event| event.kind == "diagnosed"));
}

#[tokio::test]
async fn a_service_that_is_only_watched_has_a_cause_as_far_as_docker_tells() {
    let engine = Engine::start();
    engine.set("c1", Fake { health: None, ..Fake::service("shop", "web") }.label("nexus.heal", "shadow"));
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "none").await;
    engine.exit("c1", 139);
    healer.sees("web", "exited", "none").await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the incident", |detail| detail.incident.mode == Mode::Shadow).await;
    assert_eq!(detail.incident.diagnosis.unwrap().cause, Cause::Crashed);
    assert_eq!(engine.restarts("c1"), 0);
}

#[tokio::test]
async fn a_dependency_that_is_down_is_the_cause_of_a_probe_that_fails() {
    let engine = Engine::start();
    engine.set(
        "c1",
        Fake::service("shop", "web").ill().label("com.docker.compose.depends_on", "db:service_started:false"),
    );
    engine.set("c2", Fake { status: "exited", exit_code: 1, health: None, ..Fake::service("shop", "db") });
    let healer = Healer::started(&engine).await;
    healer.sees("db", "exited", "none").await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "waiting", |it| it.incident.state == IncidentState::Blocked).await;
    let diagnosis = detail.incident.diagnosis.unwrap();
    assert_eq!((diagnosis.cause, diagnosis.confidence), (Cause::DependencyDown, Confidence::Likely));
    assert_eq!(diagnosis.summary, "it needs shop/db, which is not well");
    assert_eq!(diagnosis.because, ["it waits for shop/db: stopped"]);
}

#[tokio::test]
async fn what_fails_every_time_is_told_then_given_up_and_forgiven_when_well() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.alert("shop", "web").await;
    let gave_up = |detail: &nexus_model::api::IncidentDetail| detail.incident.state == IncidentState::GaveUp;
    let detail = healer.incident("web", "giving up", gave_up).await;
    assert_eq!((detail.incident.attempts, detail.incident.failed_attempts), (3, 3));
    assert_eq!(detail.incident.refusal, Some(Refusal::BudgetSpent));
    let began: Vec<_> = detail.attempts.iter().map(|attempt| attempt.intended_at).collect();
    // Equal jitter of 1 s, then of 2 s: at least half of each.
    assert!(began[1].duration_since(began[0]).as_millis() >= 500);
    assert!(began[2].duration_since(began[1]).as_millis() >= 1000);
    assert_eq!(healer.metric("nexus_healer_gave_up{project=\"shop\",service=\"web\"}").await, Some(1.0));

    let told = eventually("the message of giving up", async || alertmanager.told("HealerGaveUp").pop()).await;
    assert_eq!(told["annotations"]["evidence"], "GET /?token=*** 500");
    let failing = alertmanager.told("HealingFailed");
    assert!(!failing.is_empty(), "told after the second failed attempt");
    eventually("the end of HealingFailed", async || {
        let last = alertmanager.told("HealingFailed").pop()?;
        let (starts, ends): (jiff::Timestamp, jiff::Timestamp) =
            (last["startsAt"].as_str()?.parse().ok()?, last["endsAt"].as_str()?.parse().ok()?);
        (ends.duration_since(starts).as_secs() < 200).then_some(())
    })
    .await;

    // Further alerts change nothing.
    healer.alert("shop", "web").await;
    assert_eq!(engine.restarts("c1"), 3);

    // Somebody mends it.
    engine.change("c1", |it| it.health = Some("healthy"));
    let detail = healer.incident("web", "forgiveness", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::RecoveredByItself));
    eventually("the end of HealerGaveUp", async || {
        let last = alertmanager.told("HealerGaveUp").pop()?;
        let (now, ends) = (jiff::Timestamp::now(), last["endsAt"].as_str()?.parse::<jiff::Timestamp>().ok()?);
        (ends <= now).then_some(())
    })
    .await;
    assert_eq!(engine.restarts("c1"), 3);
}

#[tokio::test]
async fn a_refused_restart_is_a_failed_attempt_without_secrets_in_its_reason() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::Refuses, ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "a failed attempt", |it| it.incident.failed_attempts >= 1).await;
    let failed = &detail.attempts[0];
    assert_eq!(failed.outcome, Some(AttemptOutcome::Failed));
    let reason = failed.detail.as_ref().unwrap();
    assert!(reason.contains("port 80 is taken, token=***"), "{reason}");
    // Left stopped by our own restart, it is ours to start.
    engine.change("c1", |it| it.temper = Temper::Mends);
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
}

#[tokio::test]
async fn a_relapse_in_the_stabilising_window_is_the_same_incident() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::new(&engine);
    // The relapse has to come within it, however slow this test is.
    healer.policy(&crate::support::healer::POLICY.replace("stable_for: 1s", "stable_for: 8s"));
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.incident("web", "stabilising", |it| it.incident.state == IncidentState::Stabilising).await;
    engine.change("c1", |it| it.health = Some("unhealthy"));
    let detail = healer.incident("web", "the end of the incident", closed).await;
    let outcomes: Vec<_> = detail.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Some(AttemptOutcome::DidNotHelp), Some(AttemptOutcome::Helped)]);
    assert_eq!(healer.incidents().await.incidents.len(), 1);
}

#[tokio::test]
async fn after_a_stable_time_the_delay_of_before_is_forgotten() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::new(&engine);
    // Longer than a test waits, be it halved.
    healer.policy(
        &crate::support::healer::POLICY.replace("base_delay: 1s\n  max_delay: 2s", "base_delay: 1h\n  max_delay: 1h"),
    );
    healer.start().await;
    for number in 1..=2 {
        healer.sees("web", "running", "unhealthy").await;
        healer.alert("shop", "web").await;
        eventually("the restart", async || (engine.restarts("c1") == number).then_some(())).await;
        let detail = healer.incident("web", "the end of the incident", closed).await;
        assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::Recovered), 1));
        engine.change("c1", |it| it.health = Some("unhealthy"));
    }
}

#[tokio::test]
async fn a_slow_start_is_waited_for_and_then_judged() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::Dawdles, ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "a failed attempt", |it| it.incident.failed_attempts >= 1).await;
    assert_eq!(detail.attempts[0].detail.as_deref(), Some("it did not become healthy in time"));
    // While Docker calls it starting nothing more is done.
    let detail = healer.incident("web", "waiting", |it| it.incident.refusal == Some(Refusal::Starting)).await;
    assert_eq!(detail.incident.attempts, 1);
    engine.change("c1", |it| it.health = Some("healthy"));
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::RecoveredByItself));
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn nothing_happens_to_what_is_none_of_our_business() {
    let engine = Engine::start();
    let web = || Fake::service("shop", "web").ill();
    engine.set("off", Fake { name: "off".into(), ..Fake::service("shop", "off").ill() }.label("nexus.heal", "false"));
    engine.set("paused", Fake { status: "paused", ..Fake::service("shop", "paused").ill() });
    engine.set("oneoff", Fake::service("shop", "oneoff").ill().label("com.docker.compose.oneoff", "True"));
    engine.set("own", Fake::service("nexus", "prometheus").ill());
    engine.set("other", Fake::service("shop", "other").ill().label("nexus.stack", "elsewhere"));
    engine.set("restarting", Fake { status: "restarting", ..Fake::service("shop", "restarting").ill() });
    engine.set("starting", Fake { health: Some("starting"), ..Fake::service("shop", "starting") });
    engine.set("stopped", Fake { health: None, ..Fake::service("shop", "stopped") });
    engine.set("found", Fake { status: "exited", health: None, ..Fake::service("shop", "found") });
    engine.set("done", Fake { health: None, restart_policy: "no", ..Fake::service("shop", "done") });
    engine.set("foreign", web().without_label("com.docker.compose.service"));
    let healer = Healer::started(&engine).await;
    healer.sees("done", "running", "none").await;
    engine.exit("done", 0);
    engine.stop("stopped");
    healer.sees("stopped", "exited", "none").await;
    healer.sees("done", "exited", "none").await;

    let mut elsewhere = firing("shop", "starting");
    elsewhere["labels"]["host"] = "another-pi".into();
    let services = ["off", "paused", "oneoff", "other", "restarting", "starting", "stopped", "found", "done"];
    let mut alerts: Vec<Value> = services.iter().map(|service| firing("shop", service)).collect();
    alerts.extend([firing("nexus", "prometheus"), firing("", "web"), elsewhere]);
    assert_eq!(healer.post(&payload(&alerts)).await.0, 200);
    for reason in [
        "opted_out",
        "paused",
        "one_off",
        "own_stack",
        "gone",
        "docker_restarting",
        "starting",
        "stopped_by_human",
        "stopped_by_unknown",
        "not_expected_to_run",
        "not_compose",
    ] {
        healer.refused(reason).await;
    }
    assert_eq!(healer.incidents().await.incidents, []);
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn shadow_writes_down_what_it_would_have_done_and_touches_nothing() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill().without_label("nexus.heal"));
    let database = Fake { image: "postgres:17".into(), ..Fake::service("shop", "db").ill() };
    engine.set("c2", database.without_label("nexus.heal"));
    let mut healer = Healer::new(&engine);
    healer.policy(&format!(
        "projects: {{shop: {{services: {{web: {{mode: shadow}}}}, mode: heal}}}}\n{}",
        crate::support::healer::POLICY
    ));
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.alert("shop", "db").await;
    let would = |kind: &str, detail: &nexus_model::api::IncidentDetail| {
        detail.events.iter().filter(|event| event.kind == kind).count()
    };
    let detail = healer.incident("web", "three would-be restarts", |it| would("would_give_up", it) == 1).await;
    assert_eq!(would("would_restart", &detail), 3);
    assert_eq!((detail.incident.mode, detail.incident.state), (Mode::Shadow, IncidentState::Watching));
    assert_eq!(detail.incident.attempts, 0);
    let detail = healer.incident("db", "the database", |it| would("would_restart", it) >= 1).await;
    assert_eq!(detail.incident.refusal, Some(Refusal::ProtectedImage));
    assert!(detail.events.iter().any(|event| event.detail.contains("nexus heal on shop/db")), "{:?}", detail.events);

    engine.change("c1", |it| it.health = Some("healthy"));
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::RecoveredByItself));
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn switches_work_at_once_outlive_the_healer_and_name_what_exists() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill().without_label("nexus.heal"));
    engine.set("own", Fake::service("nexus", "prometheus"));
    let mut healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    healer.incident("web", "a shadow incident", |it| it.incident.state == IncidentState::Watching).await;

    for (body, status, says) in [
        (r#"{"project":"shp","mode":"heal"}"#, 404, "there is no project shp; there are shop"),
        (r#"{"project":"shop","service":"wbe","mode":"heal"}"#, 404, "project shop has no service wbe; it has web"),
        (r#"{"project":"nexus","mode":"heal"}"#, 400, "nexus is Nexus itself"),
        (r#"{"project":"","mode":"heal"}"#, 400, "must not be empty"),
        (r#"{"project":"shop","mode":"maybe"}"#, 400, "maybe"),
        (r#"{"project":"shop","mode":"heal","force":true}"#, 400, "force"),
        ("nonsense", 400, "error"),
    ] {
        let (found, answer) = healer.api("PUT", "/api/v1/heal", body).await;
        assert_eq!(found, status, "{body}: {answer}");
        assert!(answer.contains(says), "{answer}");
    }
    // The incident that is open follows.
    let (status, answer) =
        healer.api("PUT", "/api/v1/heal", r#"{"project":"shop","service":"web","mode":"heal"}"#).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains(r#""mode_source":"service_switch""#), "{answer}");
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.mode, detail.incident.outcome), (Mode::Heal, Some(Outcome::Recovered)));
    assert_eq!(engine.restarts("c1"), 1);

    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    assert_eq!(healer.services().await.services[0].mode, Mode::Heal);
    let (_, answer) = healer.api("PUT", "/api/v1/heal", r#"{"project":"shop","service":"web","mode":null}"#).await;
    assert!(answer.contains(r#""mode":"shadow","mode_source":"policy_default""#), "{answer}");

    // Off in the middle of an incident ends it.
    engine.change("c1", |it| it.health = Some("unhealthy"));
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    healer.incident("web", "a shadow incident", |it| it.incident.state == IncidentState::Watching).await;
    healer.api("PUT", "/api/v1/heal", r#"{"project":"shop","mode":"off"}"#).await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::SwitchedOff));
}

#[tokio::test]
async fn a_recreated_container_ends_the_incident_and_begins_with_a_fresh_budget() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "giving up", |it| it.incident.state == IncidentState::GaveUp).await;
    engine.set("c2", Fake::service("shop", "web").ill());
    engine.remove("c1");
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Gone));
    healer.alert("shop", "web").await;
    let recovered = |it: &nexus_model::api::IncidentDetail| it.incident.outcome == Some(Outcome::Recovered);
    healer.incident("web", "the next incident", recovered).await;
    assert_eq!((engine.restarts("c1"), engine.restarts("c2")), (3, 1));
}

#[tokio::test]
async fn a_humans_stop_in_the_middle_ends_the_incident() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::Dawdles, ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::new(&engine);
    // The stop has to come before the verdict, however slow this test is.
    healer.policy(&crate::support::healer::POLICY.replace("verify_margin: 1s", "verify_margin: 60s"));
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.incident("web", "verifying", |it| it.incident.state == IncidentState::Verifying).await;
    engine.stop("c1");
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::StoppedByHuman));
    assert_eq!(detail.attempts[0].outcome, Some(AttemptOutcome::Interrupted));
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn each_ill_replica_is_restarted_one_after_the_other() {
    let engine = Engine::start();
    for number in 1..=3 {
        let name = format!("shop-web-{number}");
        engine.set(&format!("c{number}"), Fake { name, ..Fake::service("shop", "web").ill() });
    }
    engine.change("c2", |it| it.health = Some("healthy"));
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    let restarted: Vec<String> = engine.all_restarts().into_iter().map(|(id, _)| id).collect();
    assert_eq!(restarted, ["c1", "c3"]);
}

#[tokio::test]
async fn a_job_that_others_wait_for_is_not_restarted_in_its_work() {
    let engine = Engine::start();
    // It has the image of the app, with a health check that asks a port on which it never listens.
    engine.set("migrate", Fake { restart_policy: "no", ..Fake::service("shop", "migrate").ill() });
    let depends_on = "migrate:service_completed_successfully:false";
    let waits = Fake { status: "created", health: None, ..Fake::service("shop", "app") };
    engine.set("app", waits.label("com.docker.compose.depends_on", depends_on));
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "migrate").await;
    healer.refused("not_expected_to_run").await;
    assert_eq!(healer.incidents().await.incidents, []);
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn a_storm_is_met_one_restart_at_a_time_and_stops_at_the_brake() {
    let engine = Engine::start();
    let services: Vec<String> = (0..8).map(|number| format!("s{number}")).collect();
    for service in &services {
        engine.set(service, Fake { stops_in: Duration::from_millis(50), ..Fake::service("shop", service).ill() });
    }
    let mut healer = Healer::new(&engine);
    healer
        .policy(&crate::support::healer::POLICY.replace("restarts_per_10_minutes: 1000", "restarts_per_10_minutes: 5"));
    healer.start().await;
    let alerts: Vec<Value> = services.iter().map(|service| firing("shop", service)).collect();
    healer.post(&payload(&alerts)).await;
    eventually("five services recovered, three held back", async || {
        let list = healer.incidents().await.incidents;
        let held = list.iter().filter(|it| it.refusal == Some(Refusal::HostLimit)).count();
        let recovered = list.iter().filter(|it| it.outcome == Some(Outcome::Recovered)).count();
        (held == 3 && recovered == 5).then_some(())
    })
    .await;
    assert_eq!(engine.all_restarts().len(), 5);
    assert_eq!(engine.most_restarts_at_once(), 1);

    // The brake is in the journal: a new start does not let go of it.
    healer.kill();
    healer.start().await;
    healer.post(&payload(&alerts)).await;
    healer.incident("s7", "held back", |it| it.incident.refusal == Some(Refusal::HostLimit)).await;
    assert_eq!(engine.all_restarts().len(), 5);
}

#[tokio::test]
async fn a_silence_holds_back_the_next_attempt() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    engine.set("c2", Fake { temper: Temper::StaysIll, ..Fake::service("other", "web2").ill() });
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.alert("other", "web2").await;
    healer.incident("web", "the first attempt", |it| it.incident.attempts == 1).await;
    alertmanager.silence(Some("shop"));
    let held = healer.incident("web", "held back", |it| it.incident.refusal == Some(Refusal::Silenced)).await;
    assert_eq!(held.incident.attempts, 1);
    healer.incident("web2", "giving up", |it| it.incident.state == IncidentState::GaveUp).await;
    assert_eq!((engine.restarts("c1"), engine.restarts("c2")), (1, 3));
}

#[tokio::test]
async fn a_silence_holds_back_what_was_only_watched_so_far() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill().without_label("nexus.heal"));
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.alert("shop", "web").await;
    let watched = healer.incident("web", "watching", |it| it.incident.state == IncidentState::Watching).await;
    alertmanager.silence(Some("shop"));
    // Long after its alert.
    eventually("ten seconds later", async || {
        let age = jiff::Timestamp::now().duration_since(watched.incident.opened_at);
        (age.as_secs() >= 10).then_some(())
    })
    .await;
    healer.api("PUT", "/api/v1/heal", r#"{"project":"shop","service":"web","mode":"heal"}"#).await;
    let held = healer.incident("web", "held back", |it| it.incident.refusal == Some(Refusal::Silenced)).await;
    assert_eq!((held.incident.mode, held.incident.attempts), (Mode::Heal, 0));
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn a_container_that_takes_longer_to_stop_than_it_says_is_judged_by_its_new_run() {
    let engine = Engine::start();
    // Longer than its stop time-out of 1 s and what is granted beyond it. The answer comes before the new run can be seen.
    let (stops_in, inspected_in) = (Duration::from_secs(22), Duration::from_millis(200));
    engine.set("c1", Fake { stops_in, inspected_in, ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    let outcomes: Vec<_> = detail.attempts.iter().map(|attempt| attempt.outcome).collect();
    assert_eq!(outcomes, [Some(AttemptOutcome::Helped)], "{:?}", detail.events);
}

#[tokio::test]
async fn what_a_person_is_stopping_is_not_restarted_while_it_takes_its_time() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "healthy").await;
    engine.begin_to_stop("c1");
    engine.change("c1", |it| it.health = Some("unhealthy"));
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let held = healer.incident("web", "held back", |it| it.incident.refusal == Some(Refusal::StoppedByHuman)).await;
    assert_eq!((held.incident.state, held.incident.attempts), (IncidentState::Suspect, 0));
    engine.end_of_stop("c1");
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::StoppedByHuman), 0));
    assert_eq!((engine.container("c1").status, engine.all_restarts()), ("exited", Vec::new()));
}

#[tokio::test]
async fn a_service_that_falls_ill_again_after_each_restart_is_given_up() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::started(&engine).await;
    for number in 1..=3 {
        healer.alert("shop", "web").await;
        eventually("the restart", async || (engine.restarts("c1") == number).then_some(())).await;
        healer.incident("web", "the end of the incident", closed).await;
        engine.change("c1", |it| it.health = Some("unhealthy"));
        healer.sees("web", "running", "unhealthy").await;
    }
    // What was spent is in the journal.
    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let gave_up = healer.incident("web", "giving up", |it| it.incident.state == IncidentState::GaveUp).await;
    assert_eq!(gave_up.incident.attempts, 0);
    assert!(gave_up.events.iter().any(|event| event.detail.starts_with("3 restarts within an hour")));
    assert_eq!(engine.restarts("c1"), 3);
}

#[tokio::test]
async fn a_log_that_takes_long_does_not_hold_up_the_restart_and_is_kept_when_it_comes() {
    let engine = Engine::start();
    engine.set("slow", Fake { logged_in: Duration::from_millis(1_500), ..Fake::service("shop", "slow").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "slow").await;
    let all = |it: &nexus_model::api::IncidentDetail| it.evidence.len() == EvidenceKind::ALL.len();
    let detail = healer.incident("slow", "the whole evidence", all).await;
    let (at, attempt) = (detail.attempts[0].intended_at, &detail.attempts[0]);
    let held_up = at.duration_since(detail.incident.opened_at).as_millis();
    assert!(held_up < 1_000, "{held_up} ms from the alert to the intent");
    for piece in &detail.evidence {
        let late = piece.kind == EvidenceKind::Logs;
        assert_eq!((piece.taken_at > at, piece.attempt_id), (late, Some(attempt.id)), "{piece:?}");
    }
    let log = detail.evidence.iter().find(|piece| piece.kind == EvidenceKind::Logs).unwrap();
    let text = log.body.to_string();
    assert!(text.contains("login with password=***") && !text.contains("hunter2"), "{text}");

    // One that never comes says so.
    engine.set("hung", Fake { logged_in: Duration::from_secs(60), ..Fake::service("shop", "hung").ill() });
    healer.sees("hung", "running", "unhealthy").await;
    healer.alert("shop", "hung").await;
    let detail = healer.incident("hung", "the whole evidence", all).await;
    let log = detail.evidence.iter().find(|piece| piece.kind == EvidenceKind::Logs).unwrap();
    assert_eq!(log.body["error"], "the log did not come within 2 s");
}

#[tokio::test]
async fn a_replica_that_was_never_started_keeps_no_incident_open() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    // `up --scale web=2`, and the port is taken.
    let created_at = jiff::Timestamp::now() - Duration::from_secs(3_600);
    let second = Fake { status: "created", health: None, created_at, ..Fake::service("shop", "web") };
    engine.set("c2", Fake { name: "shop-web-2".into(), ..second });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::Recovered), 1));
    assert!(detail.events.iter().all(|event| event.kind != "relapse"), "{:?}", detail.events);
    // Alone it is what keeps a service from being well.
    engine.remove("c1");
    healer.alert("shop", "web").await;
    healer.refused("never_started").await;
}
