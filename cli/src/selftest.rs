//! `nexus selftest`: an alert that must go all the way through Alertmanager to the healer, and a healer that copies to
//! Postgres.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use jiff::{SignedDuration, Timestamp};
use nexus_model::api::{HealerStatus, PartStatus, SelfTest};
use serde::Deserialize;
use serde_json::json;
use uuid::Uuid;

use crate::home::Home;
use crate::http::{HttpError, Part};

/// Short enough to seem at once, long enough not to be a burden.
const POLL: Duration = Duration::from_millis(100);

/// Returns how long the alert took.
pub async fn selftest(home: &Home, timeout: Duration) -> Result<Duration> {
    let alertmanager = Part::alertmanager(home)?;
    let healer = Part::healer_to_read(home)?;
    let started = Instant::now();
    let deadline = started + timeout;
    let nonce = Uuid::now_v7().to_string();

    // Both may still be starting.
    let denied_before = wait(deadline, || denied(&healer)).await?;
    let alert = json!([{
        "labels": {"alertname": "NexusSelfTest", "heal": "test", "severity": "none", "nonce": nonce},
        "annotations": {"summary": "A test of the way to the healer; nothing is wrong."},
        "endsAt": Timestamp::now().saturating_add(SignedDuration::from_secs(120))?.to_string(),
    }]);
    wait(deadline, || alertmanager.post("/api/v2/alerts", &alert)).await?;
    let sent = Instant::now();

    loop {
        match healer.get::<SelfTest>(&format!("/api/v1/selftest/{nonce}"), &[]).await {
            Ok(_) => return Ok(sent.elapsed()),
            Err(error) if error.status() == Some(404) || Instant::now() < deadline => {}
            Err(error) => return Err(error.into()),
        }
        if Instant::now() >= deadline {
            let hop = lost_at(&alertmanager, &healer, &nonce, denied_before).await;
            anyhow::bail!("the self-test alert did not reach the healer within {} s: {hop}", timeout.as_secs());
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Waits until the healer copies to Postgres. On a first start it has tried before the database had its role, and tries again
/// only after a pause that grows; who asks meanwhile would be told that something is wrong.
async fn copying(home: &Home, deadline: Instant) -> Result<()> {
    let healer = Part::healer_to_read(home)?;
    loop {
        let status = wait(deadline, || healer.get::<HealerStatus>("/api/v1/status", &[])).await?;
        match not_copying(&status.postgres) {
            None => return Ok(()),
            Some(reason) if Instant::now() >= deadline => anyhow::bail!(
                "the healer does not reach Postgres: {reason}; incidents are kept in its journal meanwhile (see `./nexus logs healer postgres`)"
            ),
            Some(_) => tokio::time::sleep(POLL).await,
        }
    }
}

/// Why nothing is copied; `None` when it is, or is not meant to be.
fn not_copying(postgres: &PartStatus) -> Option<&str> {
    (!matches!(postgres.state.as_str(), "up" | "off")).then(|| postgres.reason.as_deref().unwrap_or("no reason given"))
}

/// Tries until it works or the deadline is over; then the last error counts. What will not change by waiting is not
/// waited for.
async fn wait<T, F: Future<Output = Result<T, HttpError>>>(deadline: Instant, ask: impl Fn() -> F) -> Result<T> {
    loop {
        match ask().await {
            Ok(answer) => return Ok(answer),
            Err(error) if error.status().is_some_and(|status| status < 500) => return Err(error.into()),
            Err(error) if Instant::now() >= deadline => return Err(error.into()),
            Err(_) => tokio::time::sleep(POLL).await,
        }
    }
}

#[derive(Deserialize)]
struct Alert {
    receivers: Vec<Receiver>,
    status: AlertStatus,
}

#[derive(Deserialize)]
struct Receiver {
    name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertStatus {
    silenced_by: Vec<String>,
}

/// Names the hop, as far as the two ends can tell.
async fn lost_at(alertmanager: &Part, healer: &Part, nonce: &str, denied_before: u64) -> String {
    let filter = format!("nonce=\"{nonce}\"");
    let found = alertmanager.get::<Vec<Alert>>("/api/v2/alerts", &[("filter", filter.as_str())]).await;
    let alert = match found.as_deref() {
        Err(error) => return error.to_string(),
        Ok([]) => {
            return "Alertmanager took it and has it no more: is another Alertmanager at this address?".to_owned();
        }
        Ok([alert, ..]) => alert,
    };
    if !alert.receivers.iter().any(|receiver| receiver.name == "healer") {
        return "Alertmanager has no route for it to the receiver `healer`: run ./nexus up, which renders its configuration"
            .to_owned();
    }
    if !alert.status.silenced_by.is_empty() {
        return "a silence in Alertmanager covers it: silences of everything stop healing too".to_owned();
    }
    match denied(healer).await {
        Err(error) => error.to_string(),
        Ok(now) if now > denied_before => {
            "the healer refused Alertmanager's token: the files alertmanager/healer_webhook_token and healer/webhook_token \
             differ, or the two were not started anew since; run ./nexus up"
                .to_owned()
        }
        Ok(_) => "Alertmanager has it and did not get it to the healer: see `./nexus logs alertmanager healer`".to_owned(),
    }
}

/// How many webhook calls the healer has turned away for their token.
async fn denied(healer: &Part) -> Result<u64, HttpError> {
    Ok(count_denied(&healer.text("/metrics").await?))
}

fn count_denied(metrics: &str) -> u64 {
    metrics
        .lines()
        .filter(|line| line.starts_with("nexus_healer_webhook_requests_total{") && line.contains("code=\"401\""))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
        .map(|value| value as u64)
        .sum()
}

/// `nexus selftest` as a whole; returns the line to print.
pub async fn run(home: &Home, timeout: Duration) -> Result<String> {
    let deadline = Instant::now() + timeout;
    let took = selftest(home, timeout).await.context("the loop is not closed")?;
    copying(home, deadline).await?;
    Ok(format!("the self-test alert went through Alertmanager to the healer in {} ms\n", took.as_millis()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn denied_calls_are_counted() {
        let metrics = "# TYPE nexus_healer_webhook_requests_total counter\n\
                       nexus_healer_webhook_requests_total{code=\"200\"} 7\n\
                       nexus_healer_webhook_requests_total{code=\"401\"} 3\n";
        assert_eq!(count_denied(metrics), 3);
        assert_eq!(count_denied(""), 0);
    }

    #[test]
    fn a_copier_that_is_off_is_not_waited_for() {
        let part =
            |state: &str, reason: Option<&str>| PartStatus { state: state.into(), reason: reason.map(Into::into) };
        assert_eq!(not_copying(&part("up", None)), None);
        assert_eq!(not_copying(&part("off", None)), None);
        assert_eq!(not_copying(&part("down", Some("refuses"))), Some("refuses"));
        assert_eq!(not_copying(&part("down", None)), Some("no reason given"));
    }

    #[test]
    fn alertmanagers_answer_is_understood() {
        let answer = r#"[{"annotations":{},"endsAt":"2026-01-01T00:00:00.000Z","fingerprint":"a","receivers":[{"name":"healer"}],
            "startsAt":"2026-01-01T00:00:00.000Z","status":{"inhibitedBy":[],"silencedBy":[],"state":"active"},
            "updatedAt":"2026-01-01T00:00:00.000Z","labels":{"alertname":"NexusSelfTest"}}]"#;
        let alerts: Vec<Alert> = serde_json::from_str(answer).unwrap();
        assert_eq!(alerts[0].receivers[0].name, "healer");
    }
}
