//! Ten thousand alerts whose every label and annotation is hostile, rendered by the real Alertmanager with the shipped template and
//! sent to a Telegram that refuses what the real one would: not one may be refused, cut by Alertmanager, or lost.

use std::collections::BTreeSet;
use std::time::Instant;

use anyhow::{Result, bail, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::random::Random;
use super::{Server, Telling};
use crate::telegram::Message;
use crate::wait::{eventually, seconds};

const ALERTS: usize = 10_000;
/// Of them, messages that somebody sends; each is one of its own.
const SENT: usize = 500;
/// The most alerts of one message.
const LARGEST: u64 = 50;
/// Groups whose every text is longer than a message can be, and how many alerts such a one has at most.
const LONG_PERCENT: u64 = 6;
const LONG_SIZE: usize = 12;
/// One post; Alertmanager's own limit is far above.
const BATCH: usize = 500;
/// Each of the three rounds of messages takes seconds on an idle machine.
const ROUND_LIMIT: u64 = 150;
/// Where Alertmanager begins to cut, which breaks what is inside a tag.
const CUT: usize = 4096;
/// One line says it: its mark, project and service (40 each), and what is the matter (100).
const FIRST_LINE: usize = 2 + 40 + 1 + 40 + 2 + 100;

/// What texts are made of: HTML, entities, quotes, template syntax, control and direction characters, wide and combining ones.
const PIECES: &[&str] = &[
    "a",
    "word ",
    "ä",
    "<",
    ">",
    "&",
    "\"",
    "'",
    "+",
    "`",
    "<b>",
    "</b>",
    "</pre>",
    "<a href=\"http://x\">",
    "<script>",
    "<!--",
    "&lt;",
    "&amp;amp;",
    "&#0;",
    "&#x110000;",
    "&nbsp;",
    "{{ . }}",
    "{{ template \"nexus.telegram\" . }}",
    "}}",
    "\n",
    "\r\n",
    "\t",
    "\u{0}",
    "\u{7}",
    "\u{1b}[31m",
    "\u{85}",
    "\u{ad}",
    "\u{200b}",
    "\u{200d}",
    "\u{202e}",
    "\u{2066}",
    "\u{feff}",
    "\u{fffd}",
    "\u{301}",
    "🔥",
    "👩\u{200d}👩\u{200d}👧",
    "שלום",
    "مرحبا",
    "漢字",
    "\\",
    "\\n",
    "%s",
    "$1",
    "${1}",
    "*",
    "_",
    "[x](y)",
    "https://e.x/?a=b&c=\"d\" ",
    "javascript:alert(1)",
    "0",
    " ",
    "\u{a0}",
    "\u{2028}",
];
const ANNOTATIONS: &[&str] =
    &["summary", "description", "cause", "tried", "evidence", "action", "runbook_url", "since", "incident", "anything"];
const NAMES: &[&str] = &[
    "HealingFailed",
    "HealerGaveUp",
    "ContainerDown",
    "ContainerOomKilled",
    "DiskCritical",
    "Hostile",
    "HostReliefFailed",
];

pub async fn ten_thousand_random_alerts() -> Result<()> {
    let seed = Random::seed("NEXUS_MESSAGES_SEED");
    eprintln!("random alerts: seed {seed} (NEXUS_MESSAGES_SEED)");
    let done = play(seed).await;
    done.map_err(|error| error.context(format!("with NEXUS_MESSAGES_SEED={seed}")))
}

async fn play(seed: u64) -> Result<()> {
    let telling = Telling::prepare(&[
        ("NEXUS_BASE_URL", "http://raspberrypi.local:3000"),
        ("NEXUS_PAGE_URL", "https://raspberrypi.local:10192"),
    ])
    .await?;
    let alertmanager = telling.alertmanager(&at_once(&telling.alertmanager_yml()?)).await?;
    let groups = groups(&mut Random::new(seed));
    let sum: usize = groups.iter().map(|group| group.alerts.len()).sum();
    ensure!(sum == ALERTS, "{sum} alerts were made");
    let began = Instant::now();

    // All fire; then a part of each group ends; then the rest. What somebody sends does not tell that it ends.
    let everyone: BTreeSet<&str> = groups.iter().map(|group| group.mark.as_str()).collect();
    let parted: BTreeSet<&str> =
        groups.iter().filter(|group| group.ends_in_part()).map(|group| group.mark.as_str()).collect();
    let alarms: BTreeSet<&str> = groups.iter().filter(|group| !group.sent).map(|group| group.mark.as_str()).collect();
    post(&telling, &alertmanager, groups.iter().flat_map(|group| group.posted(false, false))).await?;
    reach(&telling, &alertmanager, "every group is told of", &everyone, |_| true).await?;
    post(
        &telling,
        &alertmanager,
        groups.iter().filter(|group| group.ends_in_part()).flat_map(|group| group.posted(true, false)),
    )
    .await?;
    reach(&telling, &alertmanager, "what ends in part is told of", &parted, |message| {
        message.html.contains("<b>No longer")
    })
    .await?;
    post(&telling, &alertmanager, groups.iter().filter(|group| !group.sent).flat_map(|group| group.posted(true, true)))
        .await?;
    reach(&telling, &alertmanager, "every end is told", &alarms, |message| message.text.starts_with('✅')).await?;

    let messages = telling.telegram.messages("");
    let longest = |length: fn(&Message) -> usize| messages.iter().map(length).max().unwrap_or_default();
    let written = longest(|message| message.html.chars().count());
    let parsed = longest(|message| message.text.encode_utf16().count());
    ensure!(written <= CUT, "Alertmanager cuts at {CUT} characters, and one message had {written}");
    for message in &messages {
        let first = message.text.lines().next().unwrap_or_default();
        ensure!(!first.trim().is_empty() && first.chars().count() <= FIRST_LINE, "a first line is {first:?}");
    }
    eprintln!(
        "random alerts: {ALERTS} alerts in {} groups, {} messages in {} s, none refused; the longest has {written} characters as \
         written, {parsed} after parsing",
        groups.len(),
        messages.len(),
        began.elapsed().as_secs()
    );
    Ok(())
}

/// The shipped configuration without its patience.
fn at_once(yaml: &str) -> String {
    let line = |line: &str| {
        let indent = &line[..line.len() - line.trim_start().len()];
        match line.trim_start().split_once(':') {
            Some(("group_wait", _)) => format!("{indent}group_wait: 1s\n"),
            Some(("group_interval", _)) => format!("{indent}group_interval: 1s\n"),
            _ => format!("{line}\n"),
        }
    };
    yaml.lines().map(line).collect()
}

async fn post(telling: &Telling, alertmanager: &Server, alerts: impl Iterator<Item = Value>) -> Result<()> {
    let alerts: Vec<Value> = alerts.collect();
    for batch in alerts.chunks(BATCH) {
        telling.post(alertmanager, batch).await?;
    }
    Ok(())
}

/// Waits until each group has a message of the kind. Fails at once when one is refused.
async fn reach(
    telling: &Telling,
    alertmanager: &Server,
    what: &str,
    marks: &BTreeSet<&str>,
    kind: impl Fn(&Message) -> bool,
) -> Result<()> {
    let missing = || -> Vec<String> {
        let messages = telling.telegram.messages("");
        let told: BTreeSet<&str> = messages.iter().filter(|message| kind(message)).filter_map(mark).collect();
        marks.difference(&told).map(|mark| (*mark).to_owned()).collect()
    };
    let reached = eventually(what, seconds(ROUND_LIMIT), async || {
        let refused = telling.telegram.refused();
        Ok((!refused.is_empty() || missing().is_empty()).then_some(()))
    })
    .await;
    telling.nothing_refused()?;
    if let Err(error) = reached {
        let missing = missing();
        bail!(
            "{error:#}: {} of {} are missing, such as {:?}; {}",
            missing.len(),
            marks.len(),
            missing.first(),
            alertmanager.said().await
        );
    }
    Ok(())
}

/// The mark of the group that a message is about.
fn mark(message: &Message) -> Option<&str> {
    let at = message.text.find("g0")?;
    message.text.get(at..at + MARK_LENGTH)
}

const MARK_LENGTH: usize = 7;

struct Group {
    /// Begins the name of the host, which is in each message.
    mark: String,
    alerts: Vec<Alert>,
    sent: bool,
}

struct Alert {
    labels: Value,
    annotations: Value,
    ends_first: bool,
}

impl Group {
    fn ends_in_part(&self) -> bool {
        !self.sent
            && self.alerts.iter().any(|alert| alert.ends_first)
            && self.alerts.iter().any(|alert| !alert.ends_first)
    }

    /// As Alertmanager takes them. `over`: only those that end now, the first of them or the rest.
    fn posted(&self, over: bool, rest: bool) -> impl Iterator<Item = Value> {
        let now = Timestamp::now();
        let (start, end) =
            if over { (now - SignedDuration::from_hours(30), now) } else { (now, now + SignedDuration::from_hours(1)) };
        let wanted = move |alert: &&Alert| !over || rest || alert.ends_first;
        self.alerts.iter().filter(wanted).map(move |alert| {
            json!({"labels": alert.labels, "annotations": alert.annotations, "startsAt": start, "endsAt": end})
        })
    }
}

fn groups(random: &mut Random) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut left = ALERTS - SENT;
    while left > 0 {
        let size = match random.below(10) {
            0..=3 => 1,
            4..=6 => 2 + random.below(4),
            _ => 6 + random.below(LARGEST - 5),
        };
        let size = (size as usize).min(left);
        left -= size;
        groups.push(group(random, groups.len(), size, false));
    }
    for _ in 0..SENT {
        groups.push(group(random, groups.len(), 1, true));
    }
    groups
}

fn group(random: &mut Random, number: usize, size: usize, sent: bool) -> Group {
    let mark = format!("g0{number:05}");
    // A small part goes to the limits in everything: rendering those takes the most time by far.
    let is_long = size <= LONG_SIZE && random.chance(LONG_PERCENT);
    let text = |random: &mut Random| text(random, is_long);
    let host = format!("{mark}{}", text(random));
    // One that nothing inhibits: each alert of the group is told.
    let name = if size > 1 { "Hostile" } else { random.one_of(NAMES) };
    let (project, service) = if random.chance(70) { (text(random), text(random)) } else { Default::default() };
    let several_services = random.chance(50);
    let alerts = (0..size)
        .map(|n| {
            let service = if several_services && !project.is_empty() { text(random) } else { service.clone() };
            let mut labels = json!({"alertname": name, "host": host, "n": n.to_string(),
                "severity": random.one_of(&["critical", "warning"])});
            if sent {
                labels["alertname"] = json!("NexusMessage");
                labels["severity"] = json!("none");
                labels["level"] = json!(random.one_of(&["critical", "warning", "info", "<b>"]));
                labels["message"] = json!(number.to_string());
            }
            for (label, value) in [("project", &project), ("service", &service)] {
                // Alertmanager takes no label without a value.
                if !value.is_empty() {
                    labels[label] = json!(value);
                }
            }
            for label in ["name", "mountpoint", "type"] {
                let value = text(random);
                if random.chance(40) && !value.is_empty() {
                    labels[label] = json!(value);
                }
            }
            let mut annotations = json!({});
            for annotation in ANNOTATIONS {
                if random.chance(70) {
                    annotations[*annotation] = json!(text(random));
                }
            }
            Alert { labels, annotations, ends_first: random.chance(40) }
        })
        .collect();
    Group { mark, alerts, sent }
}

/// From nothing to some lines, or longer than any message; sometimes one piece alone, again and again.
fn text(random: &mut Random, is_long: bool) -> String {
    let pieces = match random.below(10) {
        0 => 0,
        _ if is_long => 100 + random.below(1500),
        1..=7 => 1 + random.below(8),
        _ => 1 + random.below(60),
    };
    let only = random.chance(10).then(|| random.one_of(PIECES));
    (0..pieces).map(|_| only.unwrap_or_else(|| random.one_of(PIECES))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_makes_the_same_alerts() {
        let of = |seed| {
            let groups = groups(&mut Random::new(seed));
            (
                groups.len(),
                groups.iter().map(|group| group.alerts.len()).sum::<usize>(),
                groups[7].alerts[0].annotations.clone(),
            )
        };
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
        assert_eq!(of(3).1, ALERTS);
    }
}
