//! What a person must know while Alertmanager is away, told to Telegram by the healer itself: what is to be told and how, pure.
//! [`task`] sends it.
//!
//! It is worked out anew each time from what is true, what was told and whether Alertmanager answers, so there is no queue that could
//! grow: what could not be sent is tried again while it is true, all of it in one message, and what ended before is not told. Only
//! what is critical is told so; a warning can wait until Alertmanager is back.
//!
//! Who tells the beginning tells the end. What was told directly carries the label `told` in Alertmanager for as long as
//! Alertmanager itself would not repeat it ([`REPEAT`]), which its routes send to nobody: so its return brings no second
//! message of the same, while what depends on the alert (inhibition, dashboards) sees it.

pub mod task;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use nexus_model::plain::{plain, plain_lines};
use nexus_telegram::{escape, shorten};
use serde::{Deserialize, Serialize};

use crate::tell::{self, Alert};

/// So long Alertmanager must have been silent. It starts within seconds, on a busy Pi within a minute.
pub const PATIENCE: SignedDuration = SignedDuration::from_secs(60);
/// After that, that it is away is told itself: nothing that Prometheus sees reaches anybody.
const AWAY_TOLD: SignedDuration = SignedDuration::from_mins(5);
/// As in the rules of these names.
const JOURNAL_TOLD: SignedDuration = SignedDuration::from_mins(1);
const DOCKER_TOLD: SignedDuration = SignedDuration::from_mins(2);
/// `repeat_interval` of alertmanager.yml: what was told so long ago is told again.
pub const REPEAT: SignedDuration = SignedDuration::from_hours(24);
/// Messages an hour, should something come and go without end. Twenty are a bad night; more would be ignored anyway.
pub const MOST_AN_HOUR: usize = 20;
/// What is remembered of what was told; a host has fewer services.
const MOST_REMEMBERED: usize = 500;
/// Besides the first, these get a line each. With two UTF-16 units a character and all the rest it is still within Telegram's 4096.
const MOST_LINES: usize = 6;
/// Of an incident's id.
const INCIDENT_LENGTH: usize = 36;
/// Label of what was told directly.
pub const TOLD: &str = "told";
pub const ALERTMANAGER_DOWN: &str = "AlertmanagerDown";

pub type Labels = BTreeMap<String, String>;

/// Labels of alerts that Alertmanager has told: see [`crate::notify`].
pub type Taken = BTreeSet<BTreeMap<&'static str, String>>;

/// What a moment looks like.
pub struct Moment<'a> {
    pub now: Timestamp,
    pub host: &'a str,
    /// Since when Alertmanager has not answered.
    pub away_since: Option<Timestamp>,
    /// Since when the journal can't be written.
    pub journal_since: Option<Timestamp>,
    /// Since when Docker has not answered.
    pub docker_since: Option<Timestamp>,
    /// The healer's own alerts that are true.
    pub alerts: &'a [Alert],
    /// Those that Alertmanager has had long enough to tell, before it went away.
    pub taken: &'a Taken,
    /// Long enough after the start that what is true has been seen.
    pub is_settled: bool,
}

/// One that was told, and is true as far as is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub labels: Labels,
    pub summary: String,
    pub at: Timestamp,
}

/// What was told directly, over restarts of the healer.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    pub told: Vec<Told>,
    /// When messages were sent, of the last hour.
    pub sent: Vec<Timestamp>,
}

/// What is to be sent now.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct News {
    pub begun: Vec<Alert>,
    pub ended: Vec<Told>,
}

impl Memory {
    /// What there is to tell at a moment. `silenced` is asked for each.
    pub fn news(&self, moment: &Moment<'_>, silenced: impl Fn(&Alert) -> bool) -> News {
        let hour_ago = moment.now.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        if self.sent.iter().filter(|at| **at > hour_ago).count() >= MOST_AN_HOUR {
            return News::default();
        }
        let is_away = moment.away_since.is_some_and(|since| moment.now.duration_since(since) >= PATIENCE);
        let all = alerts(moment, Since::Due);
        // What was told and holds has not ended, though a healer that was started anew has not seen it for long.
        let holding = alerts(moment, Since::Ever);
        let is_true = |told: &&Told| holding.iter().any(|alert| owned(alert) == told.labels);
        let ended = self.told.iter().filter(|told| moment.is_settled && !is_true(told)).cloned().collect();
        let is_told =
            |alert: &Alert| self.told.iter().any(|told| told.labels == owned(alert) && is_fresh(told, moment.now));
        let begun = if is_away {
            let is_known = |alert: &Alert| is_told(alert) || moment.taken.contains(&alert.labels);
            let is_muted = |alert: &Alert| is_covered(alert, &all) || tell::is_known(alert, moment.alerts);
            let new = all.iter().filter(|alert| !is_known(alert) && !is_muted(alert) && !silenced(alert));
            new.cloned().collect()
        } else {
            Vec::new()
        };
        News { begun, ended }
    }

    /// It was sent.
    pub fn told(&mut self, news: &News, now: Timestamp) {
        self.told
            .retain(|told| !news.ended.contains(told) && !news.begun.iter().any(|alert| owned(alert) == told.labels));
        let begun = news.begun.iter().map(|alert| Told { labels: owned(alert), summary: title(alert), at: now });
        self.told.extend(begun);
        let too_many = self.told.len().saturating_sub(MOST_REMEMBERED);
        self.told.drain(..too_many);
        let hour_ago = now.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN);
        self.sent.retain(|at| *at > hour_ago);
        self.sent.push(now);
    }

    /// Whether Alertmanager need not tell it.
    pub fn marks(&self, alert: &Alert, now: Timestamp) -> bool {
        self.told.iter().any(|told| told.labels == owned(alert) && is_fresh(told, now))
    }
}

fn is_fresh(told: &Told, now: Timestamp) -> bool {
    now.duration_since(told.at) < REPEAT
}

fn owned(alert: &Alert) -> Labels {
    alert.labels.iter().map(|(label, value)| ((*label).to_owned(), value.clone())).collect()
}

/// How long something must have held.
#[derive(Clone, Copy, PartialEq)]
enum Since {
    /// As long as a rule would wait before it told.
    Due,
    /// However short.
    Ever,
}

/// All that a person must know: the healer's own alerts, and what rules would say if they were heard.
fn alerts(moment: &Moment<'_>, since: Since) -> Vec<Alert> {
    let is_critical = |alert: &&Alert| alert.labels.get("severity").is_some_and(|severity| severity == "critical");
    let own = moment.alerts.iter().filter(is_critical).cloned();
    let lasting = |began: Option<Timestamp>, least: SignedDuration| {
        began.filter(|began| since == Since::Ever || moment.now.duration_since(*began) >= least)
    };
    let of_host = |name: &str, since: Timestamp, summary: String, description: &str, action: &str| Alert {
        labels: BTreeMap::from([
            ("alertname", name.to_owned()),
            ("severity", "critical".to_owned()),
            ("host", moment.host.to_owned()),
        ]),
        annotations: BTreeMap::from([
            ("summary", summary),
            ("description", description.to_owned()),
            ("action", action.to_owned()),
            ("runbook_url", format!("docs/runbooks/{name}.md")),
            ("dashboard_url", "/d/nexus-itself".to_owned()),
        ]),
        since,
    };
    let away = lasting(moment.away_since, AWAY_TOLD).map(|since| {
        let summary = "Alertmanager does not answer".to_owned();
        let description = "What Prometheus sees of machine and services is not told until it is back. Healing goes on, and its \
            failures are told like this.";
        of_host(ALERTMANAGER_DOWN, since, summary, description, "./nexus status, then ./nexus up")
    });
    let journal = lasting(moment.journal_since, JOURNAL_TOLD).map(|since| {
        let summary = "Nexus cannot heal, its journal cannot be written".to_owned();
        let description =
            "The healer writes down what it will do before it does it. It cannot write now, so it restarts nothing.";
        let action = "Look for a full or read-only disk: df -h, then ./nexus logs healer";
        of_host("JournalUnwritable", since, summary, description, action)
    });
    let docker = lasting(moment.docker_since, DOCKER_TOLD).map(|since| {
        let description = "Neither the state of containers is known nor can anything be restarted.";
        let action = "sudo docker ps: if it answers, ./nexus up (Nexus' own way to Docker is broken), else sudo systemctl restart docker";
        of_host("DockerDown", since, "Docker does not answer".to_owned(), description, action)
    });
    journal.into_iter().chain(docker).chain(own).chain(away).collect()
}

/// As the inhibition of alertmanager.yml: one cause makes one message.
fn is_covered(alert: &Alert, all: &[Alert]) -> bool {
    let name = |alert: &Alert| alert.labels.get("alertname").cloned().unwrap_or_default();
    let of_service = |alert: &Alert| (alert.labels.get("project").cloned(), alert.labels.get("service").cloned());
    let is_there = |wanted: &str| all.iter().any(|other| name(other) == wanted);
    match name(alert).as_str() {
        "HealingFailed" | "HealerGaveUp" if is_there("HealingOnHold") => true,
        "HealingFailed" => {
            all.iter().any(|other| name(other) == "HealerGaveUp" && of_service(other) == of_service(alert))
        }
        _ => false,
    }
}

/// Addresses for the links, empty where there are none.
#[derive(Clone, Debug, Default)]
pub struct Links {
    /// Of Grafana.
    pub base: String,
    /// Of the reporter's pages.
    pub page: String,
}

/// As Telegram takes it (parse_mode HTML), in the words of alertmanager/templates/telegram.tmpl.
pub fn html(news: &News, host: &str, links: &Links, zone: &TimeZone) -> String {
    let line = |text: &str, limit: usize| escape(&shorten(&one_line(text), limit));
    let mut text = String::new();
    let rank = |alert: &&Alert| match alert.labels.get("alertname").map(String::as_str) {
        Some("HealerGaveUp") => 2,
        Some("HealingFailed") => 1,
        _ => 0,
    };
    // The first of the gravest.
    let main = news.begun.iter().rev().max_by_key(rank);
    if let Some(main) = main {
        let said = |key: &str| main.annotations.get(key).map(String::as_str).filter(|text| !text.is_empty());
        let summary = line(said("summary").unwrap_or(&main.labels["alertname"]), 100);
        let service = service(main);
        text.push_str(&format!("🔴 <b>{}: {summary}</b>\n", line(service.as_deref().unwrap_or(host), 81)));
        if service.is_some() {
            text.push_str(&format!("on {}, ", line(host, 40)));
        }
        text.push_str(&format!("since {}", line(said("since").unwrap_or(&tell::moment(main.since, zone)), 40)));
        if let Some(description) = said("description") {
            text.push_str(&format!("\n\n{}", line(description, 200)));
        }
        for (key, title, limit) in [("cause", "Cause", 180), ("tried", "Tried", 100)] {
            if let Some(words) = said(key) {
                text.push_str(&format!("\n\n<b>{title}:</b> {}", line(words, limit)));
            }
        }
        if let Some(evidence) = said("evidence") {
            text.push_str(&format!("\n\n<b>Seen:</b>\n<pre>{}</pre>", escape(&end_of(&plain_lines(evidence), 200))));
        }
        if let Some(action) = said("action") {
            let action = escape(&shorten(plain_lines(action).trim(), 200));
            text.push_str(&format!("\n\n<b>What to do:</b>\n<pre>{action}</pre>"));
        }
        let others: Vec<&Alert> = news.begun.iter().filter(|alert| *alert != main).collect();
        list(&mut text, "Also", &others.iter().map(|alert| title(alert)).collect::<Vec<_>>());
    } else {
        text.push_str(&format!("✅ <b>{}</b>", line(host, 40)));
    }
    list(&mut text, "No longer", &news.ended.iter().map(|told| told.summary.clone()).collect::<Vec<_>>());
    if !news.begun.is_empty() {
        text.push_str("\n\n<i>Sent by the healer itself: Alertmanager does not answer.</i>");
    }
    let mut all = Vec::new();
    let of_main = |key: &str| main.and_then(|main| main.annotations.get(key)).map(String::as_str);
    if !links.page.is_empty() {
        let id = news.begun.iter().find_map(|alert| alert.annotations.get("incident"));
        let id = id.filter(|id| {
            id.len() <= INCIDENT_LENGTH && id.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
        });
        all.push(match id {
            Some(id) => format!("<a href=\"{}/incidents/{id}\">Incident</a>", links.page),
            None => format!("<a href=\"{}/\">Status</a>", links.page),
        });
        if let Some(name) = of_main("runbook_url").and_then(runbook) {
            all.push(format!("<a href=\"{}/runbooks/{name}\">Help</a>", links.page));
        }
    }
    if !links.base.is_empty() {
        let path = of_main("dashboard_url").filter(|path| is_dashboard(path)).unwrap_or("/d/nexus-overview");
        all.push(format!("<a href=\"{}{path}\">Dashboard</a>", links.base));
    }
    if !all.is_empty() {
        text.push_str(&format!("\n{}", all.join(" · ")));
    }
    text
}

/// One that is not told in full, with the service that it is about.
fn title(alert: &Alert) -> String {
    let summary = alert.annotations.get("summary").unwrap_or(&alert.labels["alertname"]);
    service(alert).map_or_else(|| summary.clone(), |service| format!("{service}: {summary}"))
}

fn service(alert: &Alert) -> Option<String> {
    let part = |label: &str| alert.labels.get(label).map(|text| shorten(&one_line(text), 40));
    Some(format!("{}/{}", part("project")?, part("service")?))
}

/// The name of its page.
fn runbook(url: &str) -> Option<&str> {
    let name = url.strip_prefix("docs/runbooks/")?.strip_suffix(".md")?;
    (name.len() <= 40 && name.bytes().all(|byte| byte.is_ascii_alphabetic())).then_some(name)
}

fn is_dashboard(path: &str) -> bool {
    let name = path.strip_prefix("/d/nexus-");
    name.is_some_and(|name| name.len() <= 12 && name.bytes().all(|byte| byte.is_ascii_lowercase()))
}

/// A heading and a line each, so many at most.
fn list(text: &mut String, heading: &str, all: &[String]) {
    if all.is_empty() {
        return;
    }
    text.push_str(&format!("\n\n<b>{heading}:</b>"));
    for one in all.iter().take(MOST_LINES) {
        text.push_str(&format!("\n• {}", escape(&shorten(&one_line(one), 100))));
    }
    let more = all.len().saturating_sub(MOST_LINES);
    if more > 0 {
        text.push_str(&format!("\n• and {more} more: ./nexus status"));
    }
}

fn one_line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    plain(&text)
}

/// The end of a log matters more than its beginning.
fn end_of(text: &str, limit: usize) -> String {
    let text = text.trim();
    let count = text.chars().count();
    if count <= limit {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(count - limit + 1)).collect()
}

#[cfg(test)]
mod tests;
