//! `nexus status`: one screen that answers "how is it?", the verdict first. What is asked, judged and shown is in the library
//! `nexus-reporter`; here is where the parts of this stack are, and when the owner looked last.

use std::path::PathBuf;

use anyhow::{Context, Result};
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use nexus_reporter::report::{Question, Report, judge};
use nexus_reporter::sources::{HistorySource, Sources, gather};

use crate::docker;
use crate::failure::mistake;
use crate::home::Home;
use crate::http::Part;
use crate::names;

/// When nobody has looked yet.
const FIRST_LOOK: SignedDuration = SignedDuration::from_hours(24);

/// How the report is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Screen,
    Json,
    Markdown,
}

/// Since when to tell what was healed: `2h`, `3d`, a day, or a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Since {
    Ago(SignedDuration),
    At(Timestamp),
    /// The beginning of that day here.
    Day(Date),
}

impl std::str::FromStr for Since {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        const YEAR_SECONDS: i64 = 366 * 86_400;
        let units = [('m', 60), ('h', 3600), ('d', 86_400)];
        let seconds = units.iter().find_map(|(unit, factor)| {
            let number: i64 = text.strip_suffix(*unit)?.parse().ok()?;
            number.checked_mul(*factor)
        });
        if let Some(seconds) = seconds.filter(|seconds| (1..=YEAR_SECONDS).contains(seconds)) {
            return Ok(Since::Ago(SignedDuration::from_secs(seconds)));
        }
        if let Ok(at) = text.parse::<Timestamp>() {
            return Ok(Since::At(at));
        }
        let day = text.parse::<Date>().map(Since::Day);
        day.map_err(|_| {
            "must be a time such as 30m, 2h or 3d, a day such as 2026-11-20, or 2026-11-20T08:00:00Z".into()
        })
    }
}

impl Since {
    fn before(self, now: Timestamp) -> Result<Timestamp> {
        match self {
            Since::Ago(passed) => Ok(now.checked_sub(passed).unwrap_or(Timestamp::MIN)),
            Since::At(at) => Ok(at),
            Since::Day(day) => {
                let begins = day.to_zoned(TimeZone::system()).context("this day has no beginning here")?;
                Ok(begins.timestamp())
            }
        }
    }
}

/// Asks all parts and judges. Fails only on a mistake in what is asked, such as a project that there is none of.
pub async fn report(home: &Home, since: Option<Since>, project: Option<String>, now: Timestamp) -> Result<Report> {
    let since = match since {
        Some(since) => since.before(now)?,
        None => last_look(home).filter(|at| *at < now).unwrap_or(now - FIRST_LOOK),
    };
    let facts = gather(&sources(home)?, now).await;
    judge(&facts, &Question { since, project }).map_err(|unknown| {
        let near = names::or_nearest(&unknown.asked, unknown.known.iter().map(String::as_str));
        mistake(format!("{unknown}{near}"))
    })
}

pub fn sources(home: &Home) -> Result<Sources> {
    let grafana = home.get("COMPOSE_PROFILES") == "grafana";
    Ok(Sources {
        host: home.get("NEXUS_HOST").to_owned(),
        stack: home.get("NEXUS_STACK").to_owned(),
        healer: Part::healer_to_read(home).map(Part::into_inner).map_err(|error| format!("{error:#}")),
        exporter: Part::exporter(home)?.into_inner(),
        prometheus: Part::prometheus(home)?.into_inner(),
        alertmanager: Part::alertmanager(home)?.into_inner(),
        grafana: if grafana { Some(Part::grafana(home)?.into_inner()) } else { None },
        reporter: Some(Part::reporter(home)?.into_inner()),
        history: HistorySource::Service(Part::reporter(home)?.into_inner()),
        procfs: PathBuf::from("/proc"),
        docker_wants_sudo: docker::wants_sudo(),
        docker_socket: docker::socket_here(),
    })
}

/// Only a person at a terminal looks: a script, an agent or `watch` that asks does not change what is new to its owner, and who
/// names a time does not either.
pub fn is_a_look(format: Format, since: Option<Since>, terminal: bool) -> bool {
    format == Format::Screen && since.is_none() && terminal
}

/// Where the time of the last look is kept: a file for each stack in the owner's folder for state (XDG Base Directory
/// Specification). `None` without a home.
fn state_file(stack: &str, state_home: Option<PathBuf>, home: Option<PathBuf>) -> Option<PathBuf> {
    // A relative path must be ignored.
    let state = state_home.filter(|path| path.is_absolute()).or_else(|| Some(home?.join(".local/state")))?;
    // Compose takes no other names; a setting may hold anything.
    let name: String = stack.chars().filter(|c| c.is_ascii_alphanumeric() || "-_".contains(*c)).collect();
    Some(state.join("nexus").join(format!("last-look-{name}")))
}

fn state_file_of(home: &Home) -> Option<PathBuf> {
    let path = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
    state_file(home.get("NEXUS_STACK"), path("XDG_STATE_HOME"), path("HOME"))
}

/// A file that is missing or damaged is as good as no look.
fn last_look(home: &Home) -> Option<Timestamp> {
    let text = crate::files::read_text(&state_file_of(home)?, 100).ok()??;
    text.trim().parse().ok()
}

/// Keeps the time of this look.
pub fn remember_look(home: &Home, now: Timestamp) -> Result<()> {
    let Some(file) = state_file_of(home) else { return Ok(()) };
    let keep = || {
        if let Some(folder) = file.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::write(&file, format!("{now}\n"))
    };
    keep().with_context(|| format!("cannot keep the time of this look in {}", file.display()))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn since_is_a_length_a_day_or_a_moment() {
        let check = |text: &str, expected: Option<Since>| assert_eq!(text.parse::<Since>().ok(), expected, "{text}");
        check("30m", Some(Since::Ago(SignedDuration::from_mins(30))));
        check("3d", Some(Since::Ago(SignedDuration::from_hours(72))));
        check("2026-11-20", Some(Since::Day(Date::constant(2026, 11, 20))));
        check("1970-01-01T00:00:10Z", Some(Since::At(Timestamp::from_second(10).unwrap())));
        for wrong in ["", "0h", "-1h", "h", "3w", "yesterday", "367d", "9223372036854775807d", "2026-13-01"] {
            check(wrong, None);
        }
        let now = Timestamp::from_second(100_000).unwrap();
        assert_eq!("1h".parse::<Since>().unwrap().before(now).unwrap(), now - SignedDuration::from_hours(1));
    }

    #[test]
    fn only_a_person_at_a_terminal_looks() {
        assert!(is_a_look(Format::Screen, None, true));
        assert!(!is_a_look(Format::Screen, None, false));
        assert!(!is_a_look(Format::Json, None, true));
        assert!(!is_a_look(Format::Markdown, None, true));
        assert!(!is_a_look(Format::Screen, Some(Since::At(Timestamp::UNIX_EPOCH)), true));
    }

    #[test]
    fn the_last_look_is_kept_where_the_owner_keeps_state() {
        let file = |stack: &str, state: Option<&str>, home: Option<&str>| {
            state_file(stack, state.map(PathBuf::from), home.map(PathBuf::from))
        };
        let at = |path: &str| Some(Path::new(path).to_owned());
        assert_eq!(file("nexus", Some("/s"), Some("/h")), at("/s/nexus/last-look-nexus"));
        assert_eq!(file("nexus", Some("relative"), Some("/h")), at("/h/.local/state/nexus/last-look-nexus"));
        assert_eq!(file("../x/y", None, Some("/h")), at("/h/.local/state/nexus/last-look-xy"));
        assert_eq!(file("nexus", None, None), None);
    }
}
