//! The end of a service's log: bounded in lines, bytes and time, and redacted like everything that others have written.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use nexus_docker::Container;
use nexus_model::control::{ContainerLog, ServiceLogs};
use serde::Deserialize;

use super::{container_view, known_snapshot, service::found};
use crate::{
    evidence::chain,
    facts::{self, Stops},
    redact,
    server::{App, Problem},
};

/// Lines of each container without a word on it, and at most.
const LINES: u32 = 100;
const LINES_LIMIT: u32 = 1000;
/// Bytes of each container. Docker's answer takes up to twice as much while it is read.
const BYTES: usize = 128 * 1024;
/// Docker cuts nothing below this length, so that what is left of the bound may have been one more line.
const LONGEST_LINE: usize = 8 * 1024;
/// Containers of one service: it is the owner who asks, and they may ask for one by name.
const CONTAINERS: usize = 8;
/// For all of it.
const DEADLINE: Duration = Duration::from_secs(5);
/// Answers that are read at once: the healer is a small program, and logs are large.
pub const AT_ONCE: usize = 2;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogQuery {
    tail: Option<u32>,
    /// A moment (RFC 3339) or how long ago (`10m`).
    since: Option<String>,
    /// Name of one of its containers.
    container: Option<String>,
}

pub async fn logs(
    State(app): State<App>,
    Path((project, service)): Path<(String, String)>,
    query: Result<Query<LogQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(LogQuery { tail, since, container }) = query.map_err(|error| wrong(error.body_text()))?;
    let tail = tail.unwrap_or(LINES);
    if !(1..=LINES_LIMIT).contains(&tail) {
        return Err(wrong(format!("tail must be 1 to {LINES_LIMIT}")));
    }
    let since = since.map(|text| moment(&text, Timestamp::now()).ok_or_else(|| not_a_moment(&text))).transpose()?;
    let snapshot = known_snapshot(&app)?;
    let key = found(&app, &snapshot, &project, &service)?;
    let mut wanted = facts::containers_of(&snapshot, &key, &Stops::new(), Timestamp::now());
    if let Some(name) = &container {
        let names: Vec<String> = wanted.iter().map(|seen| seen.container.name.clone()).collect();
        wanted.retain(|seen| seen.container.name == *name);
        if wanted.is_empty() {
            let why = format!("{key} has no container {name}; it has {}", names.join(", "));
            return Err(Problem(StatusCode::NOT_FOUND, why));
        }
    }
    let until = tokio::time::Instant::now() + DEADLINE;
    let Ok(Ok(_permit)) = tokio::time::timeout_at(until, app.reading_logs.acquire()).await else {
        let why = "other logs are being read: try again in a moment".to_owned();
        return Err(Problem(StatusCode::SERVICE_UNAVAILABLE, why));
    };
    let mut containers = Vec::new();
    // One after the other, so that one answer is in memory at a time.
    for seen in wanted.iter().take(CONTAINERS) {
        let read = tokio::time::timeout_at(until, app.docker.logs_tail(&seen.container.id, tail, BYTES)).await;
        let read = match read {
            Ok(Ok(lines)) => Ok(lines),
            Ok(Err(error)) => Err(redact::line(&chain(&error))),
            Err(_) => Err(format!("the log did not come within {} s", DEADLINE.as_secs())),
        };
        containers.push(shown(&seen.container, read, tail, since));
    }
    Ok(Json(ServiceLogs { project, service, containers }).into_response())
}

fn wrong(why: String) -> Problem {
    Problem(StatusCode::BAD_REQUEST, why)
}

pub(super) fn not_a_moment(text: &str) -> Problem {
    let text = redact::cut(&text.escape_debug().to_string(), 80);
    wrong(format!(
        "since is a moment such as 2026-01-02T03:04:05Z, or how long ago, such as 10m; \"{text}\" is neither"
    ))
}

/// A moment, or the one so long ago.
pub(super) fn moment(text: &str, now: Timestamp) -> Option<Timestamp> {
    text.parse::<Timestamp>().ok().or_else(|| {
        let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u16>().ok());
        let ago = days.map(|days| SignedDuration::from_hours(24 * i64::from(days))).or_else(|| text.parse().ok())?;
        now.checked_sub(ago.abs()).ok()
    })
}

fn shown(
    container: &Container,
    read: Result<Vec<String>, String>,
    tail: u32,
    since: Option<Timestamp>,
) -> ContainerLog {
    let view = container_view(container);
    let raw = match read {
        Ok(raw) => raw,
        Err(error) => return ContainerLog { container: view, lines: Vec::new(), truncated: false, error: Some(error) },
    };
    let bytes: usize = raw.iter().map(|line| line.len() + 1).sum();
    let at_its_bound = raw.len() >= tail as usize || bytes + LONGEST_LINE >= BYTES;
    let is_wanted = |line: &str| since.is_none_or(|since| time_of(line).is_none_or(|time| time >= since));
    // Were the first line too old, nothing of what was asked for could have been left out before it.
    let truncated = at_its_bound && raw.first().is_some_and(|line| is_wanted(line));
    // All of it is redacted together, and only then cut at a moment: a key that begins before that is known as one.
    let lines = redact::lines(raw.iter().map(String::as_str)).into_iter().filter(|line| is_wanted(line)).collect();
    ContainerLog { container: view, lines, truncated, error: None }
}

/// Docker puts the time in front of each line.
fn time_of(line: &str) -> Option<Timestamp> {
    line.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::container;

    #[test]
    fn a_moment_is_a_time_or_how_long_ago() {
        let now: Timestamp = "2026-01-02T03:04:05Z".parse().unwrap();
        let check = |text: &str, expected: Option<&str>| {
            assert_eq!(moment(text, now), expected.map(|text| text.parse().unwrap()), "{text}");
        };
        check("2026-01-01T00:00:00Z", Some("2026-01-01T00:00:00Z"));
        check("10m", Some("2026-01-02T02:54:05Z"));
        check("1h 30m", Some("2026-01-02T01:34:05Z"));
        check("", None);
        check("yesterday", None);
        check("9999999999999h", None);
    }

    #[test]
    fn lines_are_redacted_and_cut_at_the_moment() {
        let raw = |lines: &[&str]| Ok(lines.iter().map(|line| (*line).to_owned()).collect());
        let since: Option<Timestamp> = Some("2026-01-02T03:00:00Z".parse().unwrap());
        let all = ["2026-01-02T02:59:59Z old", "2026-01-02T03:00:00Z password=hunter2", "2026-01-02T03:00:01Z new"];
        let log = shown(&container(), raw(&all), 3, since);
        assert_eq!(log.lines, ["2026-01-02T03:00:00Z password=***", "2026-01-02T03:00:01Z new"]);
        // The first line is older than what was asked for, so nothing is missing.
        assert!(!log.truncated);
        assert!(shown(&container(), raw(&all[1..]), 2, since).truncated);
        assert!(!shown(&container(), raw(&all[1..]), 3, since).truncated);
        assert!(shown(&container(), raw(&all), 3, None).truncated);
        let long = "x".repeat(BYTES - 100);
        assert!(shown(&container(), raw(&[&long]), 1000, None).truncated);
        // A key that began before the moment does not show its end.
        let key = ["2026-01-02T02:59:59Z -----BEGIN PRIVATE KEY-----", "2026-01-02T03:00:00Z MIIshort"];
        let log = shown(&container(), raw(&key), 100, since);
        assert!(log.lines.iter().all(|line| !line.contains("MIIshort")), "{log:?}");
        let failed = shown(&container(), Err("docker is away".to_owned()), 100, None);
        assert_eq!((failed.lines.len(), failed.error.as_deref()), (0, Some("docker is away")));
    }
}
