//! What the tools are asked for, checked before anything is asked: the schemas that an agent sees are made from here.

use jiff::{SignedDuration, Timestamp};
use nexus_model::{IncidentState, control::PAUSE_SECONDS_LIMIT};
use schemars::JsonSchema;
use serde::Deserialize;
use uuid::Uuid;

/// Incidents in one list.
const INCIDENTS_LIMIT: u32 = 100;
const INCIDENTS: u32 = 20;
/// Lines of log in one answer.
const LINES_LIMIT: u32 = 500;
const LINES: u32 = 100;
/// Of a PromQL expression, in bytes.
const QUERY_LIMIT: usize = 4096;
/// Points of each series in a range.
const POINTS_LIMIT: i64 = 500;
/// Prometheus keeps no more.
const RANGE_LIMIT: SignedDuration = SignedDuration::from_hours(15 * 24);

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentsWanted {
    /// Only those of this Compose project.
    #[serde(default)]
    pub project: Option<String>,
    /// Only those of this service; a project must be given with it.
    #[serde(default)]
    pub service: Option<String>,
    /// Only those in this state: suspect, watching, blocked, backoff, restarting, verifying, stabilising, gave_up or closed.
    #[serde(default)]
    pub state: Option<String>,
    /// At most so many, the newest first: 1 to 100, 20 without it.
    #[serde(default)]
    pub limit: Option<u32>,
}

impl IncidentsWanted {
    /// The query of the healer's API.
    pub fn query(&self) -> Result<Vec<(&'static str, String)>, String> {
        if self.service.is_some() && self.project.is_none() {
            return Err("service needs a project: give both, or the project alone".to_owned());
        }
        let limit = bounded("limit", self.limit, INCIDENTS, INCIDENTS_LIMIT)?;
        let mut query = vec![("limit", limit.to_string())];
        query.extend(self.project.clone().map(|project| ("project", project)));
        query.extend(self.service.clone().map(|service| ("service", service)));
        if let Some(name) = &self.state {
            let known: Vec<&str> = IncidentState::ALL.iter().map(|state| state.as_str()).collect();
            if !known.contains(&name.as_str()) {
                return Err(format!("no state is called {}; there are {}", name.escape_debug(), known.join(", ")));
            }
            query.push(("state", name.clone()));
        }
        Ok(query)
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentWanted {
    /// The incident's id, a UUID, as the tool `incidents` gives it.
    pub id: String,
}

pub fn incident_id(text: &str) -> Result<Uuid, String> {
    text.trim()
        .parse()
        .map_err(|_| format!("{} is no id of an incident: the tool `incidents` gives them", text.escape_debug()))
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ProjectWanted {
    /// Only this Compose project; without it all.
    #[serde(default)]
    pub project: Option<String>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DaysWanted {
    /// Of how many days: 7 to 366, 91 without it.
    #[serde(default)]
    pub days: Option<u32>,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CapacityWanted {
    /// Another machine of the history than this one.
    #[serde(default)]
    pub host: Option<String>,
    /// Compare with this machine alone, such as pi5-8gb or n100-16gb.
    #[serde(default)]
    pub machine: Option<String>,
}

impl CapacityWanted {
    pub fn query(self) -> Vec<(&'static str, String)> {
        let given = [("host", self.host), ("machine", self.machine)];
        given.into_iter().filter_map(|(name, value)| Some((name, value?))).collect()
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceHistoryWanted {
    /// The Compose project; not needed where only one service is called so.
    #[serde(default)]
    pub project: Option<String>,
    /// The service within it, as the tool `services` lists it.
    pub service: String,
    /// Beginning, RFC 3339 with an offset, such as 2026-03-01T00:00:00Z; a day before the end without it.
    #[serde(default)]
    pub from: Option<String>,
    /// End, likewise; now without it.
    #[serde(default)]
    pub to: Option<String>,
    /// Minutes of a step, such as 5, 60 or 1440; without it one of which there are about a hundred.
    #[serde(default)]
    pub step: Option<u32>,
}

impl ServiceHistoryWanted {
    pub fn query(&self) -> Result<Vec<(&'static str, String)>, String> {
        let mut query = Vec::new();
        for (name, given) in [("from", &self.from), ("to", &self.to)] {
            if let Some(text) = given {
                query.push((name, time(name, text)?.to_string()));
            }
        }
        query.extend(self.step.map(|step| ("step", step.to_string())));
        Ok(query)
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SqlWanted {
    /// One SELECT (or WITH, VALUES, TABLE), at most 4096 bytes.
    pub sql: String,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SchemaWanted {
    /// This table or view alone, such as history.service_usage_hourly, with what each column holds.
    #[serde(default)]
    pub table: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ServiceWanted {
    /// The Compose project; not needed where only one service is called so.
    #[serde(default)]
    pub project: Option<String>,
    /// The service within it, as the tool `services` lists it.
    pub service: String,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogsWanted {
    /// The Compose project; not needed where only one service is called so.
    #[serde(default)]
    pub project: Option<String>,
    /// The service within it.
    pub service: String,
    /// How many lines from the end of each container's log: 1 to 500, 100 without it.
    #[serde(default)]
    pub lines: Option<u32>,
    /// Only lines since then: RFC 3339 with an offset, such as 2026-03-01T12:00:00Z.
    #[serde(default)]
    pub since: Option<String>,
    /// Only of this container of the service.
    #[serde(default)]
    pub container: Option<String>,
}

impl LogsWanted {
    pub fn query(&self) -> Result<Vec<(&'static str, String)>, String> {
        let lines = bounded("lines", self.lines, LINES, LINES_LIMIT)?;
        let mut query = vec![("tail", lines.to_string())];
        if let Some(since) = &self.since {
            query.push(("since", time("since", since)?.to_string()));
        }
        query.extend(self.container.clone().map(|container| ("container", container)));
        Ok(query)
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QueryWanted {
    /// A PromQL expression, 4096 bytes at most.
    pub query: String,
    /// For a value at one moment: RFC 3339; now without it. Not together with start, end and step.
    #[serde(default)]
    pub time: Option<String>,
    /// For a range: its start, RFC 3339.
    #[serde(default)]
    pub start: Option<String>,
    /// Its end, RFC 3339; now without it.
    #[serde(default)]
    pub end: Option<String>,
    /// Seconds between two points; without it so many that there are 100 points. 500 points at most.
    #[serde(default)]
    pub step: Option<u32>,
}

/// Path and query of Prometheus's API.
#[derive(Debug, PartialEq, Eq)]
pub struct PromQuery {
    pub path: &'static str,
    pub query: Vec<(&'static str, String)>,
}

impl QueryWanted {
    pub fn checked(&self, now: Timestamp) -> Result<PromQuery, String> {
        let text = self.query.trim();
        if text.is_empty() || text.len() > QUERY_LIMIT {
            return Err(format!("query must be a PromQL expression of 1 to {QUERY_LIMIT} bytes"));
        }
        let mut query = vec![("query", text.to_owned()), ("timeout", "8s".to_owned())];
        let Some(start) = &self.start else {
            if self.end.is_some() || self.step.is_some() {
                return Err("end and step belong to a range: give its start too, or leave them out".to_owned());
            }
            if let Some(at) = &self.time {
                query.push(("time", time("time", at)?.to_string()));
            }
            return Ok(PromQuery { path: "/api/v1/query", query });
        };
        if self.time.is_some() {
            return Err("time is for one moment and start for a range: give one of them".to_owned());
        }
        let start = time("start", start)?;
        let end = self.end.as_deref().map_or(Ok(now), |end| time("end", end))?;
        let length = end.duration_since(start);
        if !length.is_positive() || length > RANGE_LIMIT {
            return Err("start must be before end, and 15 days at most: Prometheus keeps no more".to_owned());
        }
        let step = self.step.map_or_else(|| (length.as_secs() / 100).max(1), i64::from);
        if step == 0 || length.as_secs() / step > POINTS_LIMIT {
            let least = length.as_secs() / POINTS_LIMIT + 1;
            return Err(format!("step must be {least} or more: a range has {POINTS_LIMIT} points at most"));
        }
        query.extend([("start", start.to_string()), ("end", end.to_string()), ("step", step.to_string())]);
        Ok(PromQuery { path: "/api/v1/query_range", query })
    }
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HealNowWanted {
    /// The Compose project; not needed where only one service is called so.
    #[serde(default)]
    pub project: Option<String>,
    /// The service within it.
    pub service: String,
    /// Also when it is well or was stopped by somebody, or what it needs is not well. Only when the owner asked for exactly this.
    #[serde(default)]
    pub force: bool,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PauseWanted {
    /// The Compose project; without one everything is paused.
    #[serde(default)]
    pub project: Option<String>,
    /// The service within it; without one the whole project.
    #[serde(default)]
    pub service: Option<String>,
    /// How long: 1 to 43200 (30 days), 60 without it.
    #[serde(default)]
    pub minutes: Option<u32>,
    /// What for: shown to who asks why nothing is healed.
    #[serde(default)]
    pub reason: Option<String>,
}

impl PauseWanted {
    pub fn checked(self) -> Result<nexus_model::control::PauseWanted, String> {
        if self.service.is_some() && self.project.is_none() {
            return Err("service needs a project: give both, or the project alone".to_owned());
        }
        let most = u32::try_from(PAUSE_SECONDS_LIMIT / 60).unwrap_or(u32::MAX);
        let minutes = bounded("minutes", self.minutes, 60, most)?;
        Ok(nexus_model::control::PauseWanted {
            project: self.project,
            service: self.service,
            for_seconds: Some(u64::from(minutes) * 60),
            reason: self.reason,
        })
    }
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResumeWanted {
    /// The Compose project that was paused; without one the pause of everything.
    #[serde(default)]
    pub project: Option<String>,
    /// The service that was paused.
    #[serde(default)]
    pub service: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AcknowledgeWanted {
    /// The incident's id.
    pub id: String,
    /// Have it tried again with a fresh budget.
    #[serde(default)]
    pub retry: bool,
    /// Kept in the story of the incident.
    #[serde(default)]
    pub note: Option<String>,
}

fn bounded(name: &str, given: Option<u32>, without: u32, most: u32) -> Result<u32, String> {
    match given.unwrap_or(without) {
        number if (1..=most).contains(&number) => Ok(number),
        _ => Err(format!("{name} must be 1 to {most}")),
    }
}

fn time(name: &str, text: &str) -> Result<Timestamp, String> {
    text.trim().parse().map_err(|_| format!("{name} must be RFC 3339 with an offset, such as 2026-03-01T12:00:00Z"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-03-02T00:00:00Z".parse().unwrap()
    }

    fn wrong<T: std::fmt::Debug>(given: Result<T, String>, part: &str) {
        let said = given.unwrap_err();
        assert!(said.contains(part), "{said:?} lacks {part:?}");
    }

    #[test]
    fn lists_are_bounded_and_states_known() {
        assert_eq!(IncidentsWanted::default().query().unwrap(), [("limit", "20".to_owned())]);
        for limit in [0, 101] {
            wrong(IncidentsWanted { limit: Some(limit), ..Default::default() }.query(), "limit must be 1 to 100");
        }
        wrong(IncidentsWanted { state: Some("open\u{1b}".into()), ..Default::default() }.query(), "gave_up");
        wrong(IncidentsWanted { service: Some("x".into()), ..Default::default() }.query(), "needs a project");
        let logs = |lines, since: Option<&str>| LogsWanted {
            project: Some("p".into()),
            service: "s".into(),
            lines,
            since: since.map(str::to_owned),
            container: None,
        };
        assert_eq!(logs(None, None).query().unwrap(), [("tail", "100".to_owned())]);
        wrong(logs(Some(501), None).query(), "lines must be 1 to 500");
        wrong(logs(None, Some("yesterday")).query(), "since must be RFC 3339");
        wrong(incident_id("latest"), "no id of an incident");
    }

    #[test]
    fn times_of_a_history_are_checked_and_sent_in_one_form() {
        let wanted = |from: Option<&str>, step| ServiceHistoryWanted {
            project: Some("p".into()),
            service: "s".into(),
            from: from.map(str::to_owned),
            to: None,
            step,
        };
        let query = wanted(Some("2026-03-01T12:00:00+01:00"), Some(60)).query().unwrap();
        assert_eq!(query, [("from", "2026-03-01T11:00:00Z".to_owned()), ("step", "60".to_owned())]);
        wrong(wanted(Some("yesterday"), None).query(), "from must be RFC 3339");
        let machine = CapacityWanted { host: None, machine: Some("pi5-8gb".into()) };
        assert_eq!(machine.query(), [("machine", "pi5-8gb".to_owned())]);
    }

    #[test]
    fn queries_are_of_a_moment_or_of_a_range_with_few_points() {
        let check = |time: &str, start: &str, end: &str, step: Option<u32>| {
            let given = |text: &str| (!text.is_empty()).then(|| text.to_owned());
            QueryWanted { query: " up ".into(), time: given(time), start: given(start), end: given(end), step }
                .checked(now())
        };
        let (path, expected) = ("/api/v1/query", ("query", "up".to_owned()));
        let instant = check("", "", "", None).unwrap();
        assert_eq!((instant.path, &instant.query[0], instant.query.len()), (path, &expected, 2));
        assert_eq!(check("2026-03-01T12:00:00+01:00", "", "", None).unwrap().query[2].1, "2026-03-01T11:00:00Z");
        let range = check("", "2026-03-01T00:00:00Z", "", None).unwrap();
        assert_eq!((range.path, range.query[4].1.as_str()), ("/api/v1/query_range", "864"));
        wrong(check("", "", "2026-03-01T00:00:00Z", None), "give its start too");
        wrong(check("2026-03-01T00:00:00Z", "2026-03-01T00:00:00Z", "", None), "give one of them");
        wrong(check("", "2026-03-03T00:00:00Z", "", None), "before end");
        wrong(check("", "2026-01-01T00:00:00Z", "", None), "15 days at most");
        wrong(check("", "2026-03-01T00:00:00Z", "", Some(1)), "step must be 173 or more");
        wrong(check("", "2026-03-01T00:00:00Z", "", Some(0)), "step must be 173 or more");
        wrong(QueryWanted { query: "x".repeat(4097), ..Default::default() }.checked(now()), "4096 bytes");
        wrong(QueryWanted { query: "  ".into(), ..Default::default() }.checked(now()), "4096 bytes");
    }

    #[test]
    fn pauses_have_an_end() {
        let wanted = PauseWanted::default().checked().unwrap();
        assert_eq!((wanted.for_seconds, wanted.project), (Some(3600), None));
        wrong(PauseWanted { minutes: Some(43_201), ..Default::default() }.checked(), "minutes must be 1 to 43200");
        wrong(PauseWanted { service: Some("x".into()), ..Default::default() }.checked(), "needs a project");
    }
}
