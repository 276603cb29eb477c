//! What Alertmanager posts: wire types, and the handler that makes prompts of it.
//!
//! An alert is a prompt to look, so of each only a few labels are read. The answer comes after the prompts are in the
//! journal and before anything is looked into. Fields that are not known are ignored: newer Alertmanagers add some.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use axum::{
    body::Bytes,
    extract::State,
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use nexus_model::{Refusal, labels::is_name};
use serde::{
    Deserialize, Deserializer,
    de::{self, SeqAccess, Visitor},
};

use crate::{
    journal::{Change, JournalError, Prompt},
    relief::{self, Resource},
    server::{App, Problem},
};

/// Alertmanager's payload is some hundred bytes an alert; this is more than all containers of a host can make.
pub const MAX_BODY: usize = 4 * 1024 * 1024;
/// Alerts taken from one post. Alertmanager sends the healer one at a time; a host has some hundreds of containers.
pub const MAX_ALERTS: usize = 10_000;
/// Self-tests taken from one post.
const MAX_SELFTESTS: usize = 10;

/// Version 4 of the payload.
#[derive(Debug, Deserialize)]
struct Payload {
    #[serde(deserialize_with = "not_too_many")]
    alerts: Vec<Alert>,
    #[serde(default, rename = "truncatedAlerts")]
    truncated_alerts: u64,
}

#[derive(Debug, Deserialize)]
struct Alert {
    status: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
}

/// Reads a list of alerts up to the first that is one too many.
fn not_too_many<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Alert>, D::Error> {
    struct Alerts;

    impl<'de> Visitor<'de> for Alerts {
        type Value = Vec<Alert>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of alerts")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Vec<Alert>, A::Error> {
            let mut alerts = Vec::new();
            while let Some(alert) = sequence.next_element()? {
                if alerts.len() == MAX_ALERTS {
                    return Err(de::Error::custom(format_args!("more than {MAX_ALERTS} alerts in one post")));
                }
                alerts.push(alert);
            }
            Ok(alerts)
        }
    }
    deserializer.deserialize_seq(Alerts)
}

/// What an alert is to us.
#[derive(Debug, PartialEq)]
enum Heard {
    Look {
        project: String,
        service: String,
        alert: String,
    },
    SelfTest {
        nonce: String,
    },
    /// For a container that Docker Compose did not create, or for what can't be one of its names.
    NotCompose,
    /// With the reason.
    Nothing(&'static str),
}

fn hear(alert: Alert, host: &str) -> Heard {
    let Alert { status, mut labels } = alert;
    if status != "firing" {
        // "Resolved" is not "recovered": Docker says when it is.
        return Heard::Nothing("not firing");
    }
    let mut take = |name: &str| labels.remove(name).unwrap_or_default();
    let (name, heal) = (take("alertname"), take("heal"));
    match heal.as_str() {
        "test" => {
            let nonce = take("nonce");
            if is_name(&nonce) { Heard::SelfTest { nonce } } else { Heard::Nothing("self-test without a nonce") }
        }
        "restart" => {
            let (at, project, service) = (take("host"), take("project"), take("service"));
            if !at.is_empty() && at != host {
                return Heard::Nothing("another host");
            }
            // Compose allows no such project; whoever sends it means something else.
            if !is_name(&project) || !is_name(&service) || !is_name(&name) || project == relief::PROJECT {
                return Heard::NotCompose;
            }
            Heard::Look { project, service, alert: name }
        }
        // About the machine itself: what its disk or memory is short of.
        "prune" | "relieve" => {
            let at = take("host");
            if !at.is_empty() && at != host {
                return Heard::Nothing("another host");
            }
            if !is_name(&name) {
                return Heard::Nothing("an alert without a name that can be kept");
            }
            let resource = if heal == "prune" { Resource::Disk } else { Resource::Memory };
            let key = resource.key();
            Heard::Look { project: key.project, service: key.service, alert: name }
        }
        _ => Heard::Nothing("not for the healer"),
    }
}

pub async fn receive(State(app): State<App>, body: Bytes) -> Response {
    let payload: Payload = match serde_json::from_slice(&body) {
        Ok(payload) => payload,
        Err(error) => {
            return Problem(StatusCode::BAD_REQUEST, format!("not a payload of Alertmanager: {error}")).into_response();
        }
    };
    let received_at = Timestamp::now();
    if payload.truncated_alerts > 0 {
        tracing::warn!(
            "alertmanager left out {} alerts: group them by ['...'] on the healer's route, and set no max_alerts",
            payload.truncated_alerts
        );
    }
    let (changes, heard, not_compose) = changes(payload, &app.host, received_at);
    for _ in 0..not_compose {
        app.metrics.refused(Refusal::NotCompose);
    }
    if changes.is_empty() {
        return (StatusCode::OK, format!("{heard}\n")).into_response();
    }
    match app.journal.commit_or_refuse(changes).await {
        Ok(()) => {
            crate::fault::point("prompt-kept");
            app.prompts.notify_one();
            (StatusCode::OK, format!("{heard}\n")).into_response()
        }
        Err(error) => {
            tracing::error!(reason = %crate::evidence::chain(&error), "an alert can't be kept; alertmanager will send it again");
            let reason = match error {
                JournalError::Full => "too much waits to be written",
                _ => "the journal can't be written",
            };
            Problem(StatusCode::SERVICE_UNAVAILABLE, reason.to_owned()).into_response()
        }
    }
}

/// The changes for the journal, one a service however often it is named, a line on what was heard, and how many alerts were
/// about no Compose service.
fn changes(payload: Payload, host: &str, received_at: Timestamp) -> (Vec<Change>, String, u32) {
    let total = payload.alerts.len();
    let mut looks = BTreeMap::new();
    let mut nonces = BTreeSet::new();
    let mut ignored = 0_usize;
    let mut not_compose = 0;
    for alert in payload.alerts {
        match hear(alert, host) {
            Heard::Look { project, service, alert } => _ = looks.insert((project, service), alert),
            Heard::SelfTest { nonce } if nonces.len() < MAX_SELFTESTS => _ = nonces.insert(nonce),
            Heard::SelfTest { .. } => ignored += 1,
            Heard::NotCompose => {
                not_compose += 1;
                ignored += 1;
            }
            Heard::Nothing(reason) => {
                tracing::debug!(reason, "alert ignored");
                ignored += 1;
            }
        }
    }
    let heard = format!("{total} alerts: {} services to look at, {ignored} ignored", looks.len());
    let looks = looks
        .into_iter()
        .map(|((project, service), alert)| Change::Prompt(Prompt { project, service, alert, received_at }));
    let tests = nonces.into_iter().map(|nonce| Change::SelfTest { nonce, at: received_at });
    (looks.chain(tests).collect(), heard, not_compose)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn alert(labels: &[(&str, &str)]) -> Alert {
        let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        Alert { status: "firing".into(), labels }
    }

    const RESTART: [(&str, &str); 5] = [
        ("alertname", "ContainerUnhealthy"),
        ("heal", "restart"),
        ("host", "pi"),
        ("project", "shop"),
        ("service", "web"),
    ];

    fn changed(name: &'static str, value: &'static str) -> Alert {
        let mut alert = alert(&RESTART);
        alert.labels.insert(name.into(), value.into());
        alert
    }

    #[test]
    fn an_alert_is_a_prompt_or_nothing() {
        let look = || Heard::Look { project: "shop".into(), service: "web".into(), alert: "ContainerUnhealthy".into() };
        assert_eq!(hear(alert(&RESTART), "pi"), look());
        assert_eq!(hear(alert(&RESTART), "pi2"), Heard::Nothing("another host"));
        assert_eq!(hear(changed("host", ""), "pi2"), look());
        assert_eq!(hear(changed("heal", ""), "pi"), Heard::Nothing("not for the healer"));
        assert_eq!(hear(changed("project", ""), "pi"), Heard::NotCompose);
        assert_eq!(hear(changed("service", "a\nb"), "pi"), Heard::NotCompose);
        assert_eq!(hear(Alert { status: "resolved".into(), ..alert(&RESTART) }, "pi"), Heard::Nothing("not firing"));
        let of_host = |heal, host| alert(&[("alertname", "HostDiskNearlyFull"), ("heal", heal), ("host", host)]);
        let disk = Heard::Look { project: "_host".into(), service: "disk".into(), alert: "HostDiskNearlyFull".into() };
        assert_eq!(hear(of_host("prune", "pi"), "pi"), disk);
        assert!(matches!(hear(of_host("relieve", ""), "pi"), Heard::Look { service, .. } if service == "memory"));
        assert_eq!(hear(of_host("prune", "pi2"), "pi"), Heard::Nothing("another host"));
        let unnamed = Heard::Nothing("an alert without a name that can be kept");
        for name in ["", "x\ny", &"x".repeat(201)] {
            let nameless = alert(&[("alertname", name), ("heal", "prune")]);
            assert_eq!(hear(nameless, "pi"), unnamed);
        }
        // Nobody can pass a service off as the machine.
        assert_eq!(hear(changed("project", "_host"), "pi"), Heard::NotCompose);
        let test = alert(&[("alertname", "NexusSelfTest"), ("heal", "test"), ("nonce", "abc")]);
        assert_eq!(hear(test, "pi"), Heard::SelfTest { nonce: "abc".into() });
        assert_eq!(hear(alert(&[("heal", "test")]), "pi"), Heard::Nothing("self-test without a nonce"));
        let mut long = alert(&RESTART);
        long.labels.insert("service".into(), "x".repeat(201));
        assert_eq!(hear(long, "pi"), Heard::NotCompose);
    }

    #[test]
    fn a_service_named_often_is_one_prompt() {
        let alerts = (0..1000).map(|_| alert(&RESTART)).collect();
        let (changes, heard, _) = changes(Payload { alerts, truncated_alerts: 0 }, "pi", Timestamp::UNIX_EPOCH);
        assert_eq!(changes.len(), 1);
        assert_eq!(heard, "1000 alerts: 1 services to look at, 0 ignored");
    }

    /// Each set of labels is a group of its own, and a group has one alert for each set of labels.
    #[test]
    fn alertmanager_is_told_to_send_one_alert_at_a_time_so_that_none_is_left_out() {
        let template = include_str!("../../alertmanager/alertmanager.yml.tmpl");
        let (routes, receivers) = template.split_once("\nreceivers:").unwrap();
        let to_healer: Vec<&str> =
            routes.split("\n    - ").filter(|route| route.starts_with("receiver: healer\n")).collect();
        assert_eq!(to_healer.len(), 1);
        assert!(to_healer[0].contains("\n      group_by: [\"...\"]\n"), "{}", to_healer[0]);
        let healer = receivers.split("\n  - ").find(|receiver| receiver.starts_with("name: healer\n")).unwrap();
        assert!(healer.contains("webhook_configs") && !healer.contains("max_alerts"), "{healer}");
    }

    #[test]
    fn more_alerts_than_a_host_can_make_are_not_read() {
        let body = |count: usize| {
            let alerts = vec![r#"{"status":"firing","labels":{"heal":"restart","x":"y"}}"#; count].join(",");
            format!(r#"{{"version":"4","alerts":[{alerts}]}}"#)
        };
        let read = |count| serde_json::from_str::<Payload>(&body(count)).map(|payload| payload.alerts.len());
        assert_eq!(read(MAX_ALERTS).unwrap(), MAX_ALERTS);
        assert!(body(MAX_ALERTS + 1).len() < MAX_BODY, "the body's limit does not come first");
        let error = read(MAX_ALERTS + 1).unwrap_err().to_string();
        assert!(error.contains("more than 10000 alerts"), "{error}");
    }

    #[test]
    fn a_recorded_payload_is_understood() {
        let payload: Payload = serde_json::from_str(include_str!("../tests/data/alertmanager-0.28.json")).unwrap();
        let (changes, _, _) = changes(payload, "pi", Timestamp::UNIX_EPOCH);
        assert!(matches!(&changes[..], [Change::Prompt(Prompt { project, service, alert, .. })]
            if project == "shop" && service == "web" && alert == "ContainerUnhealthy"));
    }
}
