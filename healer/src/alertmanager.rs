//! Alertmanager's API v2, as far as the healer uses it: posting its own alerts, and asking for silences.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use regex::bytes::RegexBuilder;
use reqwest::{Client, Response, Url};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::watch;

/// For one post: what was seen ill since waits for it.
const POST_DEADLINE: Duration = Duration::from_secs(5);
/// For a question on whose answer a restart waits: without it the restart goes on.
const ASK_DEADLINE: Duration = Duration::from_secs(2);

#[derive(Debug, thiserror::Error)]
pub enum AlertmanagerError {
    #[error("the address of alertmanager, {url}, is wrong: write it as http://alertmanager:9093")]
    Url { url: String },
    #[error("preparing to talk to alertmanager")]
    Client(#[source] reqwest::Error),
    #[error("alertmanager does not answer")]
    Unreachable(#[source] reqwest::Error),
    #[error("alertmanager refused with status {status}: {body}")]
    Refused { status: u16, body: String },
}

/// Cheap to clone; connections are kept, and all clones know the same silences.
#[derive(Clone, Debug)]
pub struct Alertmanager {
    client: Client,
    alerts: Url,
    silences: Url,
    /// As Alertmanager told them last: they stand, until their end, also when it can't be asked.
    known: Arc<watch::Sender<Vec<Silence>>>,
}

/// An alert's labels.
pub type Labels<'a> = BTreeMap<&'a str, &'a str>;

/// One of `GET /api/v2/silences`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Silence {
    status: Status,
    starts_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    matchers: Vec<Matcher>,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
struct Status {
    /// `active`, `pending` or `expired`.
    state: String,
}

#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
struct Matcher {
    name: String,
    value: String,
    is_regex: bool,
    /// Left out by Alertmanagers before 0.22.
    #[serde(default = "yes")]
    is_equal: bool,
}

fn yes() -> bool {
    true
}

impl Silence {
    fn covers(&self, labels: &Labels<'_>, now: Timestamp) -> bool {
        self.stands(now) && self.matchers.iter().all(|matcher| matcher.matches(labels))
    }

    /// It may have been read a while ago.
    fn stands(&self, now: Timestamp) -> bool {
        let begun = match self.status.state.as_str() {
            "active" => true,
            "pending" => self.starts_at.is_some_and(|starts_at| starts_at <= now),
            _ => false,
        };
        begun && self.ends_at.is_none_or(|ends_at| now < ends_at)
    }
}

impl Matcher {
    fn matches(&self, labels: &Labels<'_>) -> bool {
        // A label that an alert lacks counts as empty.
        let label = labels.get(self.name.as_str()).copied().unwrap_or_default();
        let same = if self.is_regex { self.whole(label) } else { self.value == label };
        same == self.is_equal
    }

    /// As Alertmanager does it: the whole label, and Go's classes such as `\d` mean ASCII.
    fn whole(&self, label: &str) -> bool {
        let pattern = format!("^(?s:{})$", self.value);
        let compiled = RegexBuilder::new(&pattern).unicode(false).build();
        // One that we can't read is taken to match: somebody does not want something, and waiting harms less than acting.
        compiled.map_or(self.is_equal, |compiled| compiled.is_match(label.as_bytes()))
    }
}

impl Alertmanager {
    pub fn new(url: &str) -> Result<Self, AlertmanagerError> {
        let wrong = || AlertmanagerError::Url { url: url.to_owned() };
        let base = base(url)?;
        let client = Client::builder()
            // It is a neighbour in the compose network; a proxy for the world must not come in between.
            .no_proxy()
            .build()
            .map_err(AlertmanagerError::Client)?;
        Ok(Self {
            client,
            alerts: base.join("api/v2/alerts").map_err(|_| wrong())?,
            silences: base.join("api/v2/silences").map_err(|_| wrong())?,
            known: Arc::new(watch::Sender::new(Vec::new())),
        })
    }

    /// Whether an address can be one of Alertmanager's.
    pub fn check(url: &str) -> Result<(), AlertmanagerError> {
        base(url).map(|_| ())
    }

    /// `POST /api/v2/alerts`.
    pub async fn post(&self, alerts: &[Value]) -> Result<(), AlertmanagerError> {
        taken(self.client.post(self.alerts.clone()).timeout(POST_DEADLINE).json(alerts).send().await).await?;
        Ok(())
    }

    /// `GET /api/v2/silences`: reads them anew. When that fails, those that were known stay known.
    pub async fn read_silences(&self) -> Result<(), AlertmanagerError> {
        let answer = taken(self.client.get(self.silences.clone()).timeout(ASK_DEADLINE).send().await).await?;
        self.known.send_replace(answer.json().await.map_err(unreachable)?);
        Ok(())
    }

    /// Takes silences that were told before the healer was started as known.
    pub fn remember(&self, silences: Vec<Silence>) {
        self.known.send_replace(silences);
    }

    /// Changes whenever silences were read.
    pub fn changes(&self) -> watch::Receiver<Vec<Silence>> {
        self.known.subscribe()
    }

    /// Those that are not over, so many at most.
    pub fn standing(&self, most: usize) -> Vec<Silence> {
        let now = Timestamp::now();
        let is_over = |silence: &&Silence| {
            silence.status.state == "expired" || silence.ends_at.is_some_and(|ends_at| ends_at <= now)
        };
        self.known.borrow().iter().filter(|silence| !is_over(silence)).take(most).cloned().collect()
    }

    /// Whether a silence covers an alert with these labels, be it firing at this moment or not, by what was read last.
    pub fn is_silenced(&self, labels: &Labels<'_>) -> bool {
        let now = Timestamp::now();
        self.known.borrow().iter().any(|silence| silence.covers(labels, now))
    }
}

fn base(url: &str) -> Result<Url, AlertmanagerError> {
    let wrong = || AlertmanagerError::Url { url: url.to_owned() };
    let base: Url = format!("{}/", url.trim_end_matches('/')).parse().map_err(|_| wrong())?;
    if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() {
        return Err(wrong());
    }
    Ok(base)
}

/// The URL may hold a password, so it is never shown.
fn unreachable(error: reqwest::Error) -> AlertmanagerError {
    AlertmanagerError::Unreachable(error.without_url())
}

async fn taken(answer: Result<Response, reqwest::Error>) -> Result<Response, AlertmanagerError> {
    let answer = answer.map_err(unreachable)?;
    let status = answer.status();
    if status.is_success() {
        return Ok(answer);
    }
    let body = answer.text().await.unwrap_or_default();
    Err(AlertmanagerError::Refused { status: status.as_u16(), body: crate::redact::cut(body.trim(), 300) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_checked_before_anything_is_asked() {
        for url in ["alertmanager:9093", "", "ftp://x", "http://"] {
            assert!(matches!(Alertmanager::check(url), Err(AlertmanagerError::Url { .. })), "{url}");
        }
        assert!(Alertmanager::check("http://alertmanager:9093/under/a/path/").is_ok());
    }

    #[test]
    fn a_silence_covers_what_all_its_matchers_match() {
        let labels = Labels::from([("project", "shop"), ("service", "web1"), ("heal", "restart")]);
        let check = |matchers: &str, covers: bool| {
            let json = format!(r#"{{"id":"x","status":{{"state":"active"}},"matchers":[{matchers}]}}"#);
            let silence: Silence = serde_json::from_str(&json).unwrap();
            assert_eq!(silence.covers(&labels, Timestamp::UNIX_EPOCH), covers, "{matchers}");
        };
        let one = |name: &str, value: &str, is_regex: bool, is_equal: bool| {
            format!(r#"{{"name":"{name}","value":"{value}","isRegex":{is_regex},"isEqual":{is_equal}}}"#)
        };
        check(&one("project", "shop", false, true), true);
        check(&one("project", "sho", false, true), false);
        check(&one("project", "sho", true, true), false);
        check(&one("project", "sho.|x", true, true), true);
        check(&one("service", r"web\\d+", true, true), true);
        check(&one("service", "(?i)WEB.", true, true), true);
        check(&one("service", "web.", true, false), false);
        check(&one("project", "other", false, false), true);
        // How the runbooks mute only the messages: the prompt has a label `heal`, the people's alerts have none.
        check(&[one("project", "shop", false, true), one("heal", "", false, true)].join(","), false);
        check(&one("heal", "restart", false, true), true);
        check(&one("project", "(", true, true), true);
        check(&one("project", "(", true, false), true);
        check(r#"{"name":"project","value":"shop","isRegex":false}"#, true);
    }

    #[test]
    fn a_silence_that_was_read_a_while_ago_stands_until_its_end() {
        let check = |state: &str, stands: [bool; 3]| {
            let json = format!(
                r#"{{"id":"x","status":{{"state":"{state}"}},"matchers":[],
                    "startsAt":"1970-01-01T00:01:00Z","endsAt":"1970-01-01T00:02:00.000Z"}}"#
            );
            let silence: Silence = serde_json::from_str(&json).unwrap();
            let at = |second| silence.covers(&Labels::new(), Timestamp::from_second(second).unwrap());
            assert_eq!([at(59), at(60), at(120)], stands, "{state}");
        };
        // Alertmanager's clock may be ahead of ours: what it calls active is.
        check("active", [true, true, false]);
        check("pending", [false, true, false]);
        check("expired", [false, false, false]);
    }
}
