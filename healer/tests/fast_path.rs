//! The running healer against a fake engine and a fake Alertmanager: how it comes by its prompts.

use std::time::Duration;

use nexus_model::{IncidentState, Outcome, api::IncidentDetail};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Alertmanager, Healer},
};

/// How long Alertmanager has to bring a prompt.
const PATIENCE: i64 = 10;

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

async fn own_prompts(healer: &Healer, cause: &str) -> Option<f64> {
    healer.metric(&format!("nexus_healer_own_prompts_total{{cause=\"{cause}\"}}")).await
}

/// Waits until the last post about an alert says that it is over.
async fn over(alertmanager: &Alertmanager, name: &str) {
    eventually(&format!("the end of {name}"), async || {
        let last = alertmanager.told(name).pop()?;
        let ends_at: jiff::Timestamp = last["endsAt"].as_str()?.parse().ok()?;
        (ends_at <= jiff::Timestamp::now()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_docker_says_comes_back_as_a_prompt_and_is_healed_without_a_rule() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    engine.set("c2", Fake { health: None, ..Fake::service("shop", "job") });
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    alertmanager.prompts(&healer);
    healer.sees("web", "running", "healthy").await;
    healer.sees("job", "running", "none").await;
    assert_eq!(healer.metric("nexus_healer_seen_ill").await, Some(0.0));

    engine.change("c1", |it| it.health = Some("unhealthy"));
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!((detail.incident.alert.as_str(), detail.attempts.len()), ("HealerSawUnhealthy", 1));
    assert!(detail.events[0].detail.ends_with("when HealerSawUnhealthy came in"), "{:?}", detail.events[0]);
    assert!(!detail.evidence.is_empty());
    let told = alertmanager.told("HealerSawUnhealthy").remove(0);
    let labels = serde_json::json!({
        "alertname": "HealerSawUnhealthy", "heal": "restart", "severity": "none", "host": "pi", "project": "shop",
        "service": "web", "name": "shop-web-1",
    });
    assert_eq!(told["labels"], labels);
    over(&alertmanager, "HealerSawUnhealthy").await;

    engine.exit("c2", 1);
    let detail = healer.incident("job", "the end of the incident", closed).await;
    assert_eq!((detail.incident.alert.as_str(), detail.attempts.len()), ("HealerSawDown", 1));
    over(&alertmanager, "HealerSawDown").await;

    assert_eq!((engine.restarts("c1"), engine.restarts("c2")), (1, 1));
    assert_eq!(healer.metric("nexus_healer_seen_ill").await, Some(0.0));
    assert_eq!(own_prompts(&healer, "unreachable").await, Some(0.0));
    assert_eq!(own_prompts(&healer, "not_passed_on").await, Some(0.0));
}

#[tokio::test]
async fn the_rule_alone_heals_and_then_nobody_is_waited_for() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::StaysIll, ..Fake::service("shop", "web").ill() });
    // Takes the healer's alerts and brings none of them.
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    eventually("the healer's own alert", async || alertmanager.told("HealerSawUnhealthy").pop()).await;
    healer.alert("shop", "web").await;
    let gave_up = |it: &IncidentDetail| it.incident.state == IncidentState::GaveUp;
    let detail = healer.incident("web", "giving up", gave_up).await;
    assert_eq!((detail.incident.alert.as_str(), detail.attempts.len()), ("ContainerUnhealthy", 3));
    eventually("more than the healer's patience", async || {
        let age = jiff::Timestamp::now().duration_since(detail.incident.opened_at);
        (age.as_secs() > PATIENCE + 1).then_some(())
    })
    .await;
    assert_eq!(own_prompts(&healer, "not_passed_on").await, Some(0.0));
    assert_eq!(healer.incidents().await.incidents.len(), 1);
    // It is ill all the time, and so the alert stands.
    assert_eq!(healer.metric("nexus_healer_seen_ill").await, Some(1.0));
}

#[tokio::test]
async fn both_ways_at_once_and_repeated_make_one_incident() {
    let engine = Engine::start();
    let stops_in = Duration::from_millis(300);
    engine.set("c1", Fake { stops_in, ..Fake::service("shop", "web") });
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    alertmanager.prompts(&healer);
    healer.sees("web", "running", "healthy").await;
    engine.change("c1", |it| it.health = Some("unhealthy"));
    healer.sees("web", "running", "unhealthy").await;
    for _ in 0..20 {
        healer.alert("shop", "web").await;
    }
    healer.incident("web", "the end of the incident", closed).await;
    healer.alert("shop", "web").await;
    healer.refused("already_well").await;
    assert_eq!((healer.incidents().await.incidents.len(), engine.restarts("c1")), (1, 1));
}

#[tokio::test]
async fn with_alertmanager_out_of_reach_the_healer_prompts_itself_after_ten_seconds_and_says_so() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    engine.set("off", Fake { name: "off".into(), ..Fake::service("shop", "off").ill() }.label("nexus.heal", "false"));
    engine.set("own", Fake::service("nexus", "prometheus").ill());
    engine.set("watched", Fake::service("blog", "web2").ill().without_label("nexus.heal"));
    let alertmanager = Alertmanager::start().await;
    alertmanager.leave();
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    engine.change("c1", |it| it.health = Some("unhealthy"));
    let fell_ill = jiff::Timestamp::now();
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    let waited = detail.incident.opened_at.duration_since(fell_ill).as_millis();
    assert!(waited >= i128::from(PATIENCE) * 1000 - 50, "after {waited} ms");
    assert_eq!((detail.incident.alert.as_str(), detail.attempts.len()), ("HealerAlone", 1));
    let said = "alertmanager brought no alert within 10 s: looked at without one";
    assert!(detail.events[0].detail.ends_with(said), "{:?}", detail.events[0]);
    healer.says("the healer takes its own alert as the prompt").await;
    // Also what is only watched is looked at; what is switched off, and Nexus itself, is not.
    healer.incident("web2", "watching", |it| it.incident.state == IncidentState::Watching).await;
    assert_eq!(own_prompts(&healer, "unreachable").await, Some(2.0));
    assert_eq!(healer.incidents().await.incidents.len(), 2);
    assert_eq!(engine.all_restarts().len(), 1);
}

#[tokio::test]
async fn what_alertmanager_takes_and_does_not_bring_is_healed_as_well() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.alert.as_str(), engine.restarts("c1")), ("HealerAlone", 1));
    assert_eq!(own_prompts(&healer, "not_passed_on").await, Some(1.0));
    assert_eq!(own_prompts(&healer, "unreachable").await, Some(0.0));
}

#[tokio::test]
async fn a_silence_stands_also_when_alertmanager_has_gone() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    engine.set("c2", Fake::service("other", "web2"));
    let alertmanager = Alertmanager::start().await;
    alertmanager.silence(Some("shop"));
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.sees("web2", "running", "healthy").await;
    healer.says("alertmanager answers").await;
    alertmanager.leave();
    engine.change("c1", |it| it.health = Some("unhealthy"));
    engine.change("c2", |it| it.health = Some("unhealthy"));
    healer.incident("web2", "the end of the incident", closed).await;
    healer.refused("silenced").await;
    assert_eq!((engine.restarts("c1"), engine.restarts("c2")), (0, 1));
    assert_eq!(healer.incidents().await.incidents.len(), 1);
}

#[tokio::test]
async fn a_silence_of_the_rules_alert_holds_back_the_healers_own() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let alertmanager = Alertmanager::start().await;
    // As the page of the alert in Alertmanager fills it in.
    alertmanager.silence_by(Some(("alertname", "ContainerUnhealthy")));
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    alertmanager.prompts(&healer);
    healer.sees("web", "running", "healthy").await;
    engine.change("c1", |it| it.health = Some("unhealthy"));
    let silenced = Some(nexus_model::Refusal::Silenced);
    let decided = |it: &IncidentDetail| it.incident.refusal == silenced || it.incident.attempts > 0;
    let held = healer.incident("web", "held back", decided).await;
    assert_eq!((held.incident.alert.as_str(), held.incident.attempts), ("HealerSawUnhealthy", 0));
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn a_replica_that_is_ill_on_when_an_incident_ends_is_prompted_for_anew() {
    let engine = Engine::start();
    let replica = |number| Fake { name: format!("shop-web-{number}"), ..Fake::service("shop", "web") };
    engine.set("c1", replica(1).ill().label("nexus.heal", "shadow"));
    engine.set("c2", replica(2).label("nexus.heal", "shadow"));
    let alertmanager = Alertmanager::start().await;
    alertmanager.leave();
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    let first = healer.incident("web", "watching", |it| it.incident.state == IncidentState::Watching).await;
    engine.change("c2", |it| it.health = Some("unhealthy"));
    healer.sees("web", "running", "unhealthy").await;
    eventually("both are seen", async || healer.metric("nexus_healer_seen_ill").await.filter(|seen| *seen == 2.0))
        .await;
    // What the incident was about is created anew, and is well.
    engine.remove("c1");
    engine.set("c3", replica(1).label("nexus.heal", "shadow"));
    let second = healer.incident("web", "another incident", |it| it.incident.id != first.incident.id).await;
    assert_eq!(
        (second.incident.alert.as_str(), second.incident.container_name.as_str()),
        ("HealerAlone", "shop-web-2")
    );
}
