//! Whether the script of the incidents was played at all: by what Prometheus has seen of it, not by what was told.
//!
//! Few messages are what the test wants, and what comes out when nothing happens: so it must be shown that it did.

use std::collections::BTreeMap;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use serde_json::Value;

use super::incidents::{END, Incident, LEAD, SCRAPE, state_at};
use super::{Server, Telling};
use crate::wait::{eventually, seconds};

/// How much of the script came to pass.
pub struct Played {
    /// The longest time, of the script's, for which the machine stood still.
    pub stalled: f64,
    /// What should have happened and was not seen.
    pub missing: Vec<String>,
}

impl Played {
    pub fn whole(&self) -> Result<()> {
        ensure!(self.missing.is_empty(), "the script was not played as it is written: {}", self.missing.join("; "));
        Ok(())
    }
}

/// How often Prometheus has looked at a host, and how often it was away.
#[derive(Clone, Copy, Debug)]
pub struct Looks {
    sum: f64,
    away: f64,
}

/// As often as a scrape is due ([`SCRAPE`]), with a third for a machine that is busy and for the one that is restarted meanwhile.
const LOOKS_LEAST: f64 = (LEAD + END) / SCRAPE * 2.0 / 3.0;

/// What was not seen of an incident. Pure.
pub fn lack(incident: &Incident, looks: Looks) -> Option<String> {
    let is_ever_off = (0..END as u32).any(|second| state_at(incident, f64::from(second)).off);
    let Looks { sum, away } = looks;
    if sum < LOOKS_LEAST {
        Some(format!("{}: {sum} looks at it, where there should be {LOOKS_LEAST:.0} and more", incident.title))
    } else if is_ever_off && away == 0.0 {
        Some(format!("{}: it was never away in {sum} looks", incident.title))
    } else {
        None
    }
}

pub async fn looks(telling: &Telling, prometheus: &Server, host: &str, factor: f64) -> Result<Looks> {
    let milliseconds = |seconds: f64| format!("{}ms", (seconds * 1e3 / factor).round() as u64);
    let (range, step) = (milliseconds(LEAD + END), milliseconds(SCRAPE));
    let up = format!("up{{host=\"{host}\",job=\"node\"}}");
    Ok(Looks {
        sum: value(telling, prometheus, &format!("count_over_time({up}[{range}])")).await?,
        away: value(telling, prometheus, &format!("count_over_time(({up} == 0)[{range}:{step}])")).await?,
    })
}

/// Of one series; 0 where there is none.
async fn value(telling: &Telling, prometheus: &Server, expression: &str) -> Result<f64> {
    let mut url = url::Url::parse(&format!("{}/api/v1/query", prometheus.url))?;
    url.query_pairs_mut().append_pair("query", expression);
    let answer: Value = telling.http.get(url.as_str()).send().await?.json().await?;
    ensure!(answer["status"] == "success", "Prometheus refuses {expression}: {answer}");
    let value = answer["data"]["result"][0]["value"][1].as_str().unwrap_or("0");
    value.parse().with_context(|| format!("{expression} is {value}"))
}

pub async fn metrics(telling: &Telling, prometheus: &Server) -> Result<String> {
    Ok(telling.http.get(format!("{}/metrics", prometheus.url)).send().await?.text().await?)
}

/// When its process was started, in unixtime.
pub async fn started_at(telling: &Telling, prometheus: &Server) -> Result<f64> {
    // One that was restarted may need a moment until it answers.
    let text =
        eventually("Prometheus answers", seconds(60), async || metrics(telling, prometheus).await.map(Some)).await?;
    let mut values = text.lines().filter_map(|line| line.strip_prefix("process_start_time_seconds "));
    values.next().and_then(|value| value.parse().ok()).context("Prometheus does not say when it was started")
}

/// For how many real seconds a look at the rules is overdue; of those that never were looked at, since the script `ran`.
pub fn late(metrics: &str, ran: f64) -> Result<f64> {
    // The value for each group, by its labels.
    let of_groups = |name: &str| -> BTreeMap<String, f64> {
        let lines = metrics.lines().filter_map(|line| line.strip_prefix(name)?.rsplit_once(' '));
        lines.filter_map(|(group, value)| Some((group.to_owned(), value.parse().ok()?))).collect()
    };
    let looks = of_groups("prometheus_rule_group_last_evaluation_timestamp_seconds{");
    let intervals = of_groups("prometheus_rule_group_interval_seconds{");
    ensure!(!looks.is_empty(), "Prometheus has no rules");
    let now = Timestamp::now().as_millisecond() as f64 / 1e3;
    // A group that was not looked at yet has a time long ago, or before this era.
    let due = looks.iter().map(|(group, at)| at + intervals.get(group).copied().unwrap_or_default());
    let oldest = due.fold(f64::INFINITY, f64::min);
    Ok((now - oldest).clamp(0.0, ran))
}

#[cfg(test)]
mod tests {
    use super::super::incidents::INCIDENTS;
    use super::*;

    #[test]
    fn what_was_not_played_is_told() {
        let of = |host: &str, sum: f64, away: f64| {
            let incident = INCIDENTS.iter().find(|incident| incident.host == host).unwrap();
            lack(incident, Looks { sum, away })
        };
        let all = (LEAD + END) / SCRAPE;
        assert_eq!((of("pi-oom", all, 0.0), of("pi-reboot", all, 3.0)), (None, None));
        // A busy machine misses some, and takes a slow answer for none.
        assert_eq!((of("pi-oom", 0.7 * all, 0.0), of("pi-oom", all, 1.0)), (None, None));
        for (host, sum, away) in
            [("pi-oom", 0.0, 0.0), ("pi-oom", 0.5 * all, 0.0), ("pi-reboot", 0.0, 0.0), ("pi-reboot", all, 0.0)]
        {
            assert!(of(host, sum, away).is_some(), "{host} {sum} {away}");
        }
        let played =
            |missing: &[&str]| Played { stalled: 0.0, missing: missing.iter().map(|it| (*it).into()).collect() };
        assert!(played(&[]).whole().is_ok() && played(&["x"]).whole().is_err());
    }

    #[test]
    fn rules_that_were_never_looked_at_are_late() {
        let now = Timestamp::now().as_second() as f64;
        let told = |name: &str, group: &str, value: f64| {
            format!("prometheus_rule_group_{name}_seconds{{rule_group=\"{group}\"}} {value:e}\n")
        };
        let looked = |group: &str, at: f64| told("last_evaluation_timestamp", group, at);
        assert!(late(&(looked("a", now) + &looked("b", now - 3.0)), 100.0).unwrap() >= 3.0);
        assert!(late(&(looked("a", now) + &looked("b", now - 3.0)), 100.0).unwrap() < 60.0);
        // One that is looked at less often is late later.
        let seldom = told("interval", "a", 1.0) + &told("interval", "b", 60.0);
        assert!(late(&(looked("a", now) + &looked("b", now - 30.0) + &seldom), 100.0).unwrap() < 20.0);
        assert!(late(&(looked("a", now - 30.0) + &looked("b", now) + &seldom), 100.0).unwrap() >= 29.0);
        // As Prometheus says it of a time that is none.
        for never in [0.0, -6.21355968e+10] {
            assert_eq!(late(&(looked("a", now) + &looked("b", never) + &seldom), 100.0).unwrap(), 100.0);
        }
        assert!(late("up 1\n", 100.0).is_err());
    }
}
