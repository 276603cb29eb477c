//! The running healer and a policy that changes under it.

use std::time::{Duration, Instant};

use nexus_model::{IncidentState, Mode, Refusal};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Healer, POLICY},
};

/// "In force in seconds", on a busy machine.
const SOON: Duration = Duration::from_secs(20);

async fn mode_becomes(healer: &Healer, service: &str, mode: Mode) {
    let began = Instant::now();
    eventually(&format!("{service} in mode {mode}"), async || {
        let list = healer.services().await;
        list.services.iter().any(|it| it.service == service && it.mode == mode).then_some(())
    })
    .await;
    assert!(began.elapsed() < SOON, "{mode} took {:?}", began.elapsed());
}

#[tokio::test]
async fn a_changed_policy_is_in_force_in_seconds_and_a_broken_one_changes_nothing() {
    let engine = Engine::start();
    // It falls ill again after each restart: the incident lasts, and its budget is being spent.
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    engine.set("c2", Fake::service("blog", "app").without_label("nexus.heal"));
    let healer = Healer::started(&engine).await;
    healer.sees("app", "running", "healthy").await;
    mode_becomes(&healer, "app", Mode::Shadow).await;
    healer.alert("shop", "web").await;
    let before = healer.incident("web", "giving up", |detail| detail.incident.state == IncidentState::GaveUp).await;
    assert_eq!((before.incident.attempts, engine.restarts("c1")), (3, 3));
    assert_eq!(healer.metric("nexus_healer_policy_last_reload_successful").await, Some(1.0));
    let loaded = healer.metric("nexus_healer_policy_loaded_timestamp_seconds").await.unwrap();
    assert!(loaded > 1_600_000_000.0);

    healer.policy(&format!("{POLICY}default: heal\n"));
    mode_becomes(&healer, "app", Mode::Heal).await;
    // What was open stays so, and what was spent stays spent.
    let after = healer.incident("web", "the incident", |_| true).await;
    assert_eq!((after.incident.id, after.incident.state), (before.incident.id, IncidentState::GaveUp));
    assert_eq!(engine.restarts("c1"), 3);

    healer.policy("default: off\nhealing:\n  attemps: 1\n");
    eventually("the broken policy in the metric", async || {
        (healer.metric("nexus_healer_policy_last_reload_successful").await == Some(0.0)).then_some(())
    })
    .await;
    let (_, status) = healer.api("GET", "/api/v1/status", "").await;
    assert!(status.contains("line 3: healing.attemps: there is no such key; attempts is meant"), "{status}");
    healer.says("the one of before stays in force").await;
    mode_becomes(&healer, "app", Mode::Heal).await;

    // As an editor does it: another file in the place of the old one.
    let mended = healer.folder.path().join("healer.yml.new");
    std::fs::write(&mended, format!("{POLICY}default: off\n")).unwrap();
    std::fs::rename(&mended, healer.folder.path().join("healer.yml")).unwrap();
    mode_becomes(&healer, "app", Mode::Off).await;
    assert_eq!(healer.metric("nexus_healer_policy_last_reload_successful").await, Some(1.0));
    assert!(healer.metric("nexus_healer_policy_loaded_timestamp_seconds").await.unwrap() >= loaded);
    let (_, status) = healer.api("GET", "/api/v1/status", "").await;
    assert!(status.contains(r#""policy":{"state":"up"}"#), "{status}");
}

#[tokio::test]
async fn a_start_that_finds_a_broken_policy_goes_on_with_the_one_of_before_and_says_so() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("blog", "app").without_label("nexus.heal"));
    let mut healer = Healer::new(&engine);
    healer.policy(&format!("{POLICY}default: off\n"));
    healer.start().await;
    mode_becomes(&healer, "app", Mode::Off).await;
    healer.policy(&format!("{POLICY}default: heal\n"));
    mode_becomes(&healer, "app", Mode::Heal).await;
    let loaded = healer.metric("nexus_healer_policy_loaded_timestamp_seconds").await;
    // The owner slips, and the machine boots before they see it. With the file gone, or never to be read, it is the same.
    for broken in [Some("default: maybe\n"), None] {
        let file = healer.folder.path().join("healer.yml");
        match broken {
            Some(text) => healer.policy(text),
            None => std::fs::remove_file(file).unwrap(),
        }
        healer.stop();
        healer.start().await;
        mode_becomes(&healer, "app", Mode::Heal).await;
        assert_eq!(healer.metric("nexus_healer_policy_last_reload_successful").await, Some(0.0));
        assert_eq!(healer.metric("nexus_healer_policy_loaded_timestamp_seconds").await, loaded);
        let (_, status) = healer.api("GET", "/api/v1/status", "").await;
        let expected = if broken.is_some() { "healer.yml, line 1: default" } else { "No such file" };
        assert!(status.contains(expected), "{status}");
        healer.says("the one that was in force last").await;
    }
    // It heals.
    engine.set("c1", Fake::service("blog", "app").without_label("nexus.heal").ill());
    healer.sees("app", "running", "unhealthy").await;
    healer.alert("blog", "app").await;
    healer.incident("app", "the end of the incident", |it| it.incident.state == IncidentState::Closed).await;
    assert_eq!(engine.restarts("c1"), 1);
    // And the mended file is taken up as ever.
    healer.policy(&format!("{POLICY}default: shadow\n"));
    mode_becomes(&healer, "app", Mode::Shadow).await;
    assert_eq!(healer.metric("nexus_healer_policy_last_reload_successful").await, Some(1.0));
}

#[tokio::test]
async fn sighup_reads_the_policy_at_once_and_ends_nothing() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("blog", "app").without_label("nexus.heal"));
    let healer = Healer::started(&engine).await;
    healer.sees("app", "running", "healthy").await;
    healer.hangup();
    healer.says("it has not changed").await;
    healer.policy(&format!("{POLICY}default: heal\n"));
    healer.hangup();
    mode_becomes(&healer, "app", Mode::Heal).await;
}

#[tokio::test]
async fn labels_and_the_service_in_the_file_have_terms_of_their_own() {
    let engine = Engine::start();
    engine.set(
        "c1",
        Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() }.label("nexus.attempts", "1"),
    );
    engine.set("c2", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "api").ill() });
    let mut healer = Healer::new(&engine);
    healer
        .policy(&format!("{POLICY}projects:\n  shop:\n    services:\n      api:\n        healing: {{attempts: 2}}\n"));
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.alert("shop", "api").await;
    let gave_up = |detail: &nexus_model::api::IncidentDetail| detail.incident.state == IncidentState::GaveUp;
    healer.incident("web", "giving up", gave_up).await;
    healer.incident("api", "giving up", gave_up).await;
    assert_eq!((engine.restarts("c1"), engine.restarts("c2")), (1, 2));
}

#[tokio::test]
async fn a_wrong_label_is_left_out_told_once_and_counted_and_the_service_is_healed_all_the_same() {
    let engine = Engine::start();
    engine.set(
        "c1",
        Fake::service("shop", "web").ill().label("nexus.attempts", "many\u{1b}[2J").label("nexus.nonsense", "1"),
    );
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "the end", |detail| detail.incident.state == IncidentState::Closed).await;
    assert_eq!(engine.restarts("c1"), 1);
    assert_eq!(healer.metric("nexus_healer_wrong_labels").await, Some(2.0));
    let log = healer.log();
    assert_eq!(log.matches("the label nexus.attempts of the container shop-web-1 is left out").count(), 1, "{log}");
    assert!(!log.contains('\u{1b}'), "{log}");
    engine.change("c1", |fake| _ = fake.labels.remove("nexus.nonsense"));
    eventually("the count of one", async || {
        (healer.metric("nexus_healer_wrong_labels").await == Some(1.0)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_policy_is_explained_as_it_is_in_force() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").label("nexus.attempts", "5").label("nexus.expendable", "perhaps"));
    engine.set("c2", Fake::service("shop", "api"));
    let mut healer = Healer::new(&engine);
    healer.policy("default: shadow\nhealing:\n  attempts: 4\n  stop_timeout: 3s\n");
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    healer.sees("api", "running", "healthy").await;
    let explain = async |query: &str| healer.api("GET", &format!("/api/v1/policy/explain?{query}"), "").await;
    let values = async |service: &str| {
        let (status, body) = explain(&format!("project=shop&service={service}")).await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str::<nexus_model::api::PolicyExplanation>(&body).unwrap()
    };
    let said = |explained: &nexus_model::api::PolicyExplanation, key: &str| {
        let value = explained.values.iter().find(|value| value.key == key).unwrap();
        format!("{} by {}", value.value, value.source)
    };
    let web = values("web").await;
    assert_eq!(said(&web, "mode"), "heal by label nexus.heal");
    assert_eq!(said(&web, "attempts"), "5 by label nexus.attempts");
    assert_eq!(said(&web, "stable_for"), "1m by default");
    // The engine's containers say so themselves.
    assert_eq!(said(&web, "stop_timeout"), "1s by container (stop_grace_period)");
    assert_eq!(web.wrong_labels.len(), 1);
    assert_eq!(said(&values("api").await, "attempts"), "4 by healer.yml line 3");

    let (status, body) = explain("project=shop&service=db").await;
    assert_eq!(status, 404);
    assert!(body.contains("project shop has no service db; it has api, web"), "{body}");
    assert_eq!(explain("project=nexus&service=healer").await.0, 400);
    assert_eq!(explain("project=shop").await.0, 400);
    assert_eq!(explain("project=shop&service=web&x=1").await.0, 400);
    assert_eq!(healer.request("GET", "/api/v1/policy/explain?project=shop&service=web", None, "").await.0, 401);
}

#[tokio::test]
async fn healing_waits_while_a_maintenance_window_holds_and_until_the_policy_ends_it() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::new(&engine);
    healer.policy(&format!("{POLICY}timezone: UTC\nmaintenance: daily 00:00-24:00\n"));
    healer.start().await;
    healer.alert("shop", "web").await;
    let waits =
        healer.incident("web", "waiting", |detail| detail.incident.refusal == Some(Refusal::MaintenanceWindow)).await;
    assert_eq!((waits.incident.mode, waits.incident.attempts), (Mode::Heal, 0));
    healer.policy(POLICY);
    let closed = healer.incident("web", "the end", |detail| detail.incident.state == IncidentState::Closed).await;
    assert_eq!((closed.incident.id, engine.restarts("c1")), (waits.incident.id, 1));
}

#[tokio::test]
async fn a_protected_service_is_only_watched_whatever_its_label_says() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::new(&engine);
    healer.policy(&format!("{POLICY}protected:\n  services: [shop/web]\n"));
    healer.start().await;
    healer.alert("shop", "web").await;
    let watched = healer
        .incident("web", "watching", |detail| detail.events.iter().any(|event| event.kind == "would_restart"))
        .await;
    assert_eq!(watched.incident.refusal, Some(Refusal::ProtectedService));
    assert_eq!(engine.restarts("c1"), 0);
    let (status, answer) =
        healer.api("PUT", "/api/v1/heal", r#"{"project":"shop","service":"web","mode":"heal"}"#).await;
    assert_eq!(status, 200, "{answer}");
    assert!(answer.contains("protected_service"), "{answer}");
}
