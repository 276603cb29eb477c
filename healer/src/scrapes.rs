//! Whether Prometheus still comes for the healer's metrics. Pure.
//!
//! With Prometheus all rules are gone, and nobody else notices: the alert for a part that does not answer is a rule itself. It
//! asks the healer every fifteen seconds, so the healer knows, and says so like everything that it tells.

use std::collections::BTreeMap;

use jiff::{SignedDuration, tz::TimeZone};
use nexus_model::Now;

use crate::tell::{self, Alert};

/// Twenty scrapes. After a power cut Prometheus reads for a minute or two what it had not put away yet.
pub const PATIENCE: SignedDuration = SignedDuration::from_mins(5);
pub const PROMETHEUS_DOWN: &str = "PrometheusDown";

/// By what it says of itself. A health check or a person with curl comes for the metrics as well.
pub fn is_prometheus(user_agent: &str) -> bool {
    user_agent.starts_with("Prometheus/")
}

/// Whether it has been away for too long. `last` is its last scrape, or the start of a healer that has seen none.
pub fn is_lost(last: &Now, now: &Now) -> bool {
    now.since(last) >= PATIENCE
}

/// The last scrape as far as a healer knows at its start: what the one before it has noted of a Prometheus that it had lost. After a
/// boot nobody has come yet.
pub fn known_at_start(noted: Option<Now>, now: &Now) -> Now {
    noted.filter(|noted| noted.boot_id == now.boot_id).unwrap_or_else(|| now.clone())
}

/// What there is to tell.
pub fn alert(last: &Now, now: &Now, host: &str, zone: &TimeZone) -> Option<Alert> {
    if !is_lost(last, now) {
        return None;
    }
    let labels = BTreeMap::from([
        ("alertname", PROMETHEUS_DOWN.to_owned()),
        // As with any part that does not answer (TargetDown): what else happens tonight is told to nobody.
        ("severity", "critical".to_owned()),
        ("host", host.to_owned()),
    ]);
    let description = "It has not come for the healer's metrics for 5 minutes, so no rule sees the machine or its services. Healing \
        goes on by what Docker says.";
    let annotations = BTreeMap::from([
        ("summary", "Prometheus is away".to_owned()),
        ("description", description.to_owned()),
        ("action", "./nexus logs prometheus, then ./nexus up".to_owned()),
        ("runbook_url", format!("docs/runbooks/{PROMETHEUS_DOWN}.md")),
        ("dashboard_url", "/d/nexus-itself".to_owned()),
        ("since", tell::moment(last.wall, zone)),
    ]);
    Some(Alert { labels, annotations, since: last.wall })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::at;

    #[test]
    fn it_is_told_after_five_minutes_without_a_scrape() {
        let told = |last: i64, now: i64| alert(&at(last), &at(now), "pi", &TimeZone::UTC);
        assert_eq!(told(0, 299), None);
        let alert = told(0, 300).unwrap();
        assert_eq!((alert.labels["alertname"].as_str(), alert.since), ("PrometheusDown", at(0).wall));
        assert!(alert.annotations["description"].len() <= 200, "cut on a phone");
        assert_eq!(told(299, 300), None);
    }

    #[test]
    fn a_clock_that_is_set_forward_is_no_silence() {
        let later = Now { wall: at(9000).wall, ..at(15) };
        assert!(!is_lost(&at(0), &later));
    }

    #[test]
    fn only_prometheus_counts() {
        for (agent, expected) in [
            ("Prometheus/2.53.3", true),
            ("Prometheus/2.42.0+ds", true),
            ("Prometheus/3.5.0", true),
            ("curl/8.14.1", false),
            ("nexus-cli", false),
            ("my Prometheus/2", false),
            ("", false),
        ] {
            assert_eq!(is_prometheus(agent), expected, "{agent}");
        }
    }

    #[test]
    fn a_restart_of_the_healer_ends_nothing_and_a_boot_begins_anew() {
        let now = at(1000);
        assert_eq!(known_at_start(Some(at(10)), &now), at(10));
        assert_eq!(known_at_start(Some(Now { boot_id: "before".into(), ..at(10) }), &now), now);
        assert_eq!(known_at_start(None, &now), now);
    }
}
