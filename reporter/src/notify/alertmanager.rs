//! A message as an alert of its own.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::Message;

/// The route and the template in alertmanager/ go by it.
const NAME: &str = "NexusMessage";
/// So long Alertmanager may try, while Telegram is away. Less than its `repeat_interval`, or it would be told twice.
const LIFE: SignedDuration = SignedDuration::from_hours(1);
/// For one post. It is a neighbour and answers in milliseconds; on a Pi under load in a second or two.
const DEADLINE: Duration = Duration::from_secs(5);
/// Before the second and last try, after an answer that may pass.
const PAUSE: Duration = Duration::from_millis(500);

#[derive(Debug, thiserror::Error)]
pub enum AlertmanagerError {
    #[error("alertmanager does not answer at {base}")]
    Unreachable { base: String },
    #[error("alertmanager at {base} took longer than {} s to answer", DEADLINE.as_secs())]
    TimedOut { base: String },
    #[error("alertmanager at {base} answers {status}")]
    Refused { base: String, status: StatusCode },
}

/// The body of the post. `from` is when it may be told, which is now but in quiet hours.
pub fn alert(message: &Message, host: &str, id: Uuid, now: Timestamp, from: Timestamp) -> Value {
    let mut labels = json!({
        "alertname": NAME,
        "severity": "none",
        "level": message.severity.as_str(),
        "host": host,
        "message": id,
    });
    if let Some(project) = &message.project {
        labels["project"] = json!(project);
    }
    json!([{
        "labels": labels,
        "annotations": {"summary": message.title, "description": message.text},
        "startsAt": now,
        "endsAt": from.checked_add(LIFE).unwrap_or(Timestamp::MAX),
    }])
}

/// `POST /api/v2/alerts`. A second time when it is not known whether the first one was taken: it is the same alert.
pub async fn post(client: &Client, base: &Url, alert: &Value) -> Result<(), AlertmanagerError> {
    match once(client, base, alert).await {
        Err(AlertmanagerError::TimedOut { .. }) => once(client, base, alert).await,
        Err(AlertmanagerError::Refused { status, .. }) if status.is_server_error() => {
            tokio::time::sleep(PAUSE).await;
            once(client, base, alert).await
        }
        done => done,
    }
}

async fn once(client: &Client, base: &Url, alert: &Value) -> Result<(), AlertmanagerError> {
    let shown = base.as_str().trim_end_matches('/').to_owned();
    let url = format!("{shown}/api/v2/alerts");
    match client.post(url).timeout(DEADLINE).json(alert).send().await {
        Ok(answer) if answer.status().is_success() => Ok(()),
        Ok(answer) => Err(AlertmanagerError::Refused { base: shown, status: answer.status() }),
        Err(error) if error.is_timeout() && !error.is_connect() => Err(AlertmanagerError::TimedOut { base: shown }),
        Err(_) => Err(AlertmanagerError::Unreachable { base: shown }),
    }
}
