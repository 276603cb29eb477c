//! What people are being told, from Alertmanager.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::http::{HttpError, Part};
use crate::report::facts::Alert;

pub async fn ask(part: &Part) -> Result<Vec<Alert>, HttpError> {
    let all = part.get::<Vec<Told>>("/api/v2/alerts", &[]).await?;
    Ok(all.into_iter().filter_map(Told::for_people).collect())
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Told {
    labels: BTreeMap<String, String>,
    annotations: BTreeMap<String, String>,
    starts_at: Timestamp,
    status: Status,
}

/// An alert may also be held back by another one: that is no silence, and what it tells is true.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    silenced_by: Vec<String>,
}

impl Told {
    /// `None` for the prompts of the healer and for what has no severity.
    fn for_people(mut self) -> Option<Alert> {
        let mut label = |name: &str| self.labels.remove(name).unwrap_or_default();
        let (severity, heal) = (label("severity"), label("heal"));
        (heal.is_empty() && ["warning", "critical"].contains(&severity.as_str())).then(|| Alert {
            name: label("alertname"),
            severity,
            project: label("project"),
            service: label("service"),
            summary: self.annotations.remove("summary").unwrap_or_default(),
            since: self.starts_at,
            silenced: !self.status.silenced_by.is_empty(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_alerts_for_people_count() {
        let check = |labels: &str, counts: bool| {
            let json = format!(
                r#"{{"labels":{{{labels}}},"annotations":{{}},"startsAt":"2026-01-01T00:00:00.000Z","status":{{"state":"active","inhibitedBy":[],"silencedBy":[]}}}}"#
            );
            let alert: Told = serde_json::from_str(&json).unwrap();
            assert_eq!(alert.for_people().is_some(), counts, "{labels}");
        };
        check(r#""alertname":"A","severity":"critical""#, true);
        check(r#""alertname":"A","severity":"critical","heal":"restart""#, false);
        check(r#""alertname":"Watchdog","severity":"none""#, false);
    }

    #[test]
    fn what_another_alert_holds_back_is_not_silenced() {
        let check = |status: &str, silenced: bool| {
            let json = format!(
                r#"{{"labels":{{"severity":"critical"}},"annotations":{{}},"startsAt":"2026-01-01T00:00:00.000Z","status":{status}}}"#
            );
            let alert: Told = serde_json::from_str(&json).unwrap();
            assert_eq!(alert.for_people().map(|alert| alert.silenced), Some(silenced), "{status}");
        };
        check(r#"{"state":"suppressed","inhibitedBy":["a"],"silencedBy":[]}"#, false);
        check(r#"{"state":"suppressed","inhibitedBy":[],"silencedBy":["b"]}"#, true);
    }
}
