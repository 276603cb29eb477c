//! The running healer against a fake engine: many services that fail together.

use nexus_model::{IncidentState, Outcome, Refusal, api::HealerStatus};

use crate::support::{
    engine::{Engine, Fake},
    eventually,
    healer::{Alertmanager, Healer},
};

const SERVICES: [&str; 6] = ["a", "b", "c", "d", "e", "f"];

#[tokio::test]
async fn what_fails_together_is_told_once_and_left_alone_until_it_has_passed() {
    let engine = Engine::start();
    for service in SERVICES {
        engine.set(service, Fake::service("shop", service));
    }
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.sees("f", "running", "healthy").await;
    for service in SERVICES {
        engine.change(service, |it| it.health = Some("unhealthy"));
    }
    let on_hold = async |healer: &Healer, expected: f64| {
        eventually("the hold", async || {
            healer.metric("nexus_healer_on_hold").await.filter(|value| *value == expected).map(|_| ())
        })
        .await;
    };
    on_hold(&healer, 1.0).await;
    let (_, body) = healer.api("GET", "/api/v1/status", "").await;
    let hold = serde_json::from_str::<HealerStatus>(&body).unwrap().hold.unwrap();
    assert!(hold.services.len() >= 5 && hold.reason.ends_with(" services fell ill together"), "{hold:?}");
    assert_eq!(hold.until.duration_since(hold.since).as_mins(), 10, "{hold:?}");
    for service in SERVICES {
        healer.alert("shop", service).await;
    }
    for service in SERVICES {
        healer.incident(service, "held", |detail| detail.incident.refusal == Some(Refusal::HostHold)).await;
    }
    let told = eventually("one message", async || {
        let told = alertmanager.told("HealingOnHold");
        told.last().filter(|last| last["annotations"]["summary"].as_str().unwrap().starts_with("6 services")).cloned()
    });
    let told = told.await;
    assert!(told["annotations"]["description"].as_str().unwrap().starts_with("shop/a, shop/b, shop/c, "), "{told}");
    assert!(alertmanager.told("HealingFailed").is_empty() && alertmanager.told("HealerGaveUp").is_empty());

    // The trouble kills the healer as well. It goes on where it was, and looks at them all again.
    healer.kill();
    healer.start().await;
    on_hold(&healer, 1.0).await;
    healer.sees("f", "running", "unhealthy").await;
    healer.alert("shop", "a").await;
    healer.incident("a", "held", |detail| detail.incident.refusal == Some(Refusal::HostHold)).await;
    assert!(engine.all_restarts().is_empty());

    // It passes, and two do not find their way back.
    for service in &SERVICES[2..] {
        engine.change(service, |it| it.health = Some("healthy"));
    }
    // While those two are healed nobody is told of each of them.
    for service in &SERVICES[..2] {
        eventually("what holds it back", async || {
            let all = alertmanager.told("HealingAfterHold");
            all.into_iter()
                .find(|alert| alert["labels"]["service"] == **service && alert["labels"]["severity"] == "none")
        })
        .await;
    }
    for service in &SERVICES[..2] {
        let detail = healer.incident(service, "its end", |it| it.incident.state == IncidentState::Closed).await;
        assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::Recovered), 1));
    }
    on_hold(&healer, 0.0).await;
    let (_, body) = healer.api("GET", "/api/v1/status", "").await;
    assert_eq!(serde_json::from_str::<HealerStatus>(&body).unwrap().hold, None);
    let mut restarted: Vec<String> = engine.all_restarts().into_iter().map(|(id, _)| id).collect();
    restarted.sort();
    assert_eq!(restarted, ["a", "b"]);
    eventually("the end of the message", async || {
        let last = alertmanager.told("HealingOnHold").pop()?;
        let ends_at: jiff::Timestamp = last["endsAt"].as_str()?.parse().ok()?;
        (ends_at <= jiff::Timestamp::now()).then_some(())
    })
    .await;
}
