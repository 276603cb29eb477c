//! Quiet hours and the backup's window, in an Alertmanager whose clock is within them.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::Telling;
use crate::wait::{eventually, seconds};

/// One way, from the post to the message.
const LIMIT: u64 = 60;

/// From a quarter of an hour ago to an hour ahead.
fn around(now: Timestamp) -> String {
    let time =
        |minutes: i64| (now + SignedDuration::from_mins(minutes)).to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
    format!("{}-{}", time(-15), time(60))
}

fn alert(name: &str, severity: &str, host: &str) -> Value {
    let now = Timestamp::now();
    json!({
        "labels": {"alertname": name, "severity": severity, "host": host, "project": "shop", "service": host},
        "annotations": {"summary": format!("it is {host}")},
        "startsAt": now,
        "endsAt": now + SignedDuration::from_hours(1),
    })
}

fn sent(level: &str, host: &str) -> Value {
    let mut alert = alert("NexusMessage", "none", host);
    alert["labels"]["level"] = json!(level);
    alert["labels"]["message"] = json!(host);
    alert
}

/// What is critical comes at once, what can wait comes when the quiet is over: a reload of the settings ends it here.
pub async fn at_night_only_what_is_critical_is_told() -> Result<()> {
    let window = around(Timestamp::now());
    let telling = Telling::prepare(&[
        ("NEXUS_QUIET_HOURS", window.as_str()),
        ("NEXUS_BACKUP_WINDOW", window.as_str()),
        ("NEXUS_TIMEZONE", "UTC"),
    ])
    .await?;
    let fast = |yaml: &str| super::scale::faster(yaml, 30.0);
    let alerts = [
        alert("ContainerDown", "critical", "grave"),
        alert("ContainerUnhealthy", "warning", "warned"),
        alert("IoStalled", "warning", "laden"),
        sent("info", "chatty"),
        sent("critical", "urgent"),
    ];
    let night = telling.alertmanager(&fast(&telling.alertmanager_yml()?)).await?;
    telling.post(&night, &alerts).await?;
    let told = |host: &str| !telling.telegram.messages(&format!("it is {host}")).is_empty();
    eventually(
        "what is critical is told",
        seconds(LIMIT),
        async || Ok((told("grave") && told("urgent")).then_some(())),
    )
    .await?;
    // Each of the others has had its turn: Alertmanager counts what it holds back.
    eventually("the others are held back", seconds(LIMIT), async || {
        let text = telling.http.get(format!("{}/metrics", night.url)).send().await?.text().await?;
        let held = |line: &&str| {
            line.starts_with("alertmanager_notifications_suppressed_total") && line.contains("mute_time_interval")
        };
        let count: f64 =
            text.lines().filter(held).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum();
        Ok((count >= 3.0).then_some(()))
    })
    .await?;
    for host in ["warned", "laden", "chatty"] {
        ensure!(!told(host), "{host} was told at night");
    }
    drop(night);

    // The next morning: the same, with the quiet elsewhere in the day.
    let elsewhere = around(Timestamp::now() + SignedDuration::from_hours(12));
    let morning = telling.alertmanager_yml()?.replace(&window_yaml(&window), &window_yaml(&elsewhere));
    ensure!(!morning.contains(window.split('-').next().unwrap_or_default()), "the windows are still there: {morning}");
    let morning = telling.alertmanager(&fast(&morning)).await?;
    telling.post(&morning, &alerts[1..4]).await?;
    eventually("what waited is told", seconds(LIMIT), async || {
        Ok(["warned", "laden", "chatty"].into_iter().all(told).then_some(()))
    })
    .await?;
    telling.nothing_refused()
}

/// As the command line renders it.
fn window_yaml(window: &str) -> String {
    let (from, to) = window.split_once('-').unwrap_or_default();
    let (first, then) = match to {
        "00:00" => ("24:00", (from, "24:00")),
        _ if from < to => (to, (from, to)),
        _ => ("24:00", ("00:00", to)),
    };
    format!(
        "times: [{{start_time: \"{from}\", end_time: \"{first}\"}}, {{start_time: \"{}\", end_time: \"{}\"}}]",
        then.0, then.1
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_found_at_any_time_of_the_day() {
        let check = |now: &str, window: &str, expected: &str| {
            let found = around(now.parse().unwrap());
            assert_eq!((found.as_str(), window_yaml(&found).as_str()), (window, expected));
        };
        let times = |one: (&str, &str), two: (&str, &str)| {
            let range = |(from, to)| format!("{{start_time: \"{from}\", end_time: \"{to}\"}}");
            format!("times: [{}, {}]", range(one), range(two))
        };
        let two = |range| times(range, range);
        check("2026-03-02T12:00:00Z", "11:45-13:00", &two(("11:45", "13:00")));
        check("2026-03-02T23:00:00Z", "22:45-00:00", &two(("22:45", "24:00")));
        check("2026-03-02T23:30:00Z", "23:15-00:30", &times(("23:15", "24:00"), ("00:00", "00:30")));
        check("2026-03-02T00:15:00Z", "00:00-01:15", &two(("00:00", "01:15")));
    }
}
