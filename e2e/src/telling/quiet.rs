//! Quiet hours and the backup's window, in an Alertmanager whose clock is within them.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use serde_json::{Value, json};

use super::{Server, Telling};
use crate::wait::{eventually, seconds, stays};

/// How many times as fast the night is played.
const FASTER: f64 = 30.0;
/// `group_interval` of a service's alerts, a minute as shipped, so many times as fast.
const TURN: Duration = seconds(2);
/// The same of the longest, five minutes, and what a busy machine adds.
const AFTER: SignedDuration = SignedDuration::from_secs(10 + 20);
/// Tries until a night has been long enough.
const NIGHTS: usize = 3;
/// Rendered first, then replaced by a night that begins soon.
const ANY_WINDOW: &str = "22:00-07:00";
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
    let fast = |yaml: &str| super::scale::faster(yaml, FASTER);
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
    // Each of the others has had its turn.
    eventually("the others are held back", seconds(LIMIT), async || {
        Ok((held_back(&telling, &night).await? >= 3.0).then_some(()))
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

/// How often Alertmanager has held something back since it is quiet.
async fn held_back(telling: &Telling, alertmanager: &Server) -> Result<f64> {
    let text = telling.http.get(format!("{}/metrics", alertmanager.url)).send().await?.text().await?;
    let held = |line: &&str| {
        line.starts_with("alertmanager_notifications_suppressed_total") && line.contains("mute_time_interval")
    };
    Ok(text.lines().filter(held).filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
}

/// A night of a minute, by the real clock: what begins in it is told when it is over, within `group_interval`, five minutes as shipped.
/// What was told in the evening and ends in it is never told as ended: Alertmanager takes what is held back for done with, and
/// forgets what has ended (docs/telegram.md says so). Nor is it told anew when it comes again, before `repeat_interval`.
pub async fn what_ends_at_night_is_not_told() -> Result<()> {
    let telling = Telling::prepare(&[("NEXUS_QUIET_HOURS", ANY_WINDOW), ("NEXUS_TIMEZONE", "UTC")]).await?;
    let shipped = super::scale::faster(&telling.alertmanager_yml()?, FASTER);
    let alertmanager = telling.alertmanager(&shipped).await?;
    let mut late = None;
    for number in 0..NIGHTS {
        let told = |host: &str| telling.telegram.messages(&format!("it is {host}-{number}"));
        let one = |host: &str| alert("ContainerUnhealthy", "warning", &format!("{host}-{number}"));
        let (begin, end) = next_minute(Timestamp::now());
        let clock = |at: Timestamp| at.to_zoned(TimeZone::UTC).strftime("%H:%M").to_string();
        let window = format!("{}-{}", clock(begin), clock(end));
        let night = shipped.replace(&window_yaml(ANY_WINDOW), &window_yaml(&window));
        ensure!(night != shipped, "the window is not where it is looked for: {shipped}");
        telling.reconfigure(&alertmanager, &night).await?;

        telling.post(&alertmanager, &[one("evening")]).await?;
        let in_time = eventually("the evening's is told", seconds(120), async || {
            Ok((Timestamp::now() >= begin || !told("evening").is_empty()).then_some(Timestamp::now() < begin))
        });
        if !in_time.await? {
            late = Some("the evening's was not told before the night");
            continue;
        }
        tokio::time::sleep(begin.duration_since(Timestamp::now()).try_into().unwrap_or_default()).await;
        let before = held_back(&telling, &alertmanager).await?;
        eventually("the evening's is held back", seconds(LIMIT), async || {
            Ok((held_back(&telling, &alertmanager).await? > before).then_some(()))
        })
        .await?;
        let mut over = one("evening");
        over["endsAt"] = json!(Timestamp::now());
        telling.post(&alertmanager, &[over]).await?;
        // A group without alerts has no turns.
        eventually("its end is done with", seconds(LIMIT), async || {
            let before = held_back(&telling, &alertmanager).await?;
            tokio::time::sleep(3 * TURN).await;
            Ok((held_back(&telling, &alertmanager).await? == before).then_some(()))
        })
        .await?;
        let before = held_back(&telling, &alertmanager).await?;
        telling.post(&alertmanager, &[one("night")]).await?;
        eventually("the night's is held back", seconds(LIMIT), async || {
            Ok((Timestamp::now() >= end || held_back(&telling, &alertmanager).await? > before).then_some(()))
        })
        .await?;
        if Timestamp::now() >= end {
            late = Some("the night was over too soon");
            continue;
        }
        let morning =
            eventually("the night's is told", seconds(60 + LIMIT), async || Ok(told("night").into_iter().next()));
        let waited = morning.await?.at.duration_since(end);
        ensure!(!waited.is_negative() && waited <= AFTER, "told {waited:#} after the night");
        telling.post(&alertmanager, &[one("evening")]).await?;
        stays("messages of the evening's", 5 * TURN, &1, async || Ok(told("evening").len())).await?;
        return telling.nothing_refused();
    }
    bail!("in {NIGHTS} nights the machine was too slow, the last time since {}", late.unwrap_or_default())
}

/// A minute that begins soon, though not at once, and its end.
fn next_minute(now: Timestamp) -> (Timestamp, Timestamp) {
    let soon = now.as_second() + 15;
    let begin = now + SignedDuration::from_secs((soon + 59).div_euclid(60) * 60 - now.as_second());
    let begin = begin - SignedDuration::from_nanos(i64::from(now.subsec_nanosecond()));
    (begin, begin + SignedDuration::from_mins(1))
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
    fn a_night_begins_with_a_whole_minute() {
        let check = |now: &str, begin: &str, end: &str| {
            let (found, over) = next_minute(now.parse().unwrap());
            assert_eq!((found.to_string().as_str(), over.to_string().as_str()), (begin, end));
        };
        check("2026-03-02T12:00:00.5Z", "2026-03-02T12:01:00Z", "2026-03-02T12:02:00Z");
        check("2026-03-02T12:00:45Z", "2026-03-02T12:01:00Z", "2026-03-02T12:02:00Z");
        check("2026-03-02T12:00:46.9Z", "2026-03-02T12:02:00Z", "2026-03-02T12:03:00Z");
        check("2026-03-02T23:59:50Z", "2026-03-03T00:01:00Z", "2026-03-03T00:02:00Z");
    }

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
