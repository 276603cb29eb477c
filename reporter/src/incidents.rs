//! The incidents while the healer can't be asked: its copy in Postgres. The healer's journal is the original and knows more by
//! seconds; what is told from the copy says so.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nexus_model::{
    Attempt, Evidence, Incident, IncidentEvent, IncidentState,
    api::{IncidentDetail, IncidentList, ServiceView},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio_postgres::{Client, types::ToSql};
use uuid::Uuid;

use crate::report::UnknownProject;

/// Incidents of one answer without a limit, and at most: as the healer has it.
pub const LISTED: u32 = 100;
pub const MOST_LISTED: u32 = 1000;
/// Of each kind of what belongs to one incident. The healer keeps far fewer.
const MOST_PIECES: i64 = 1000;

/// What the healer answers, or what its copy says instead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Told<T> {
    #[serde(flatten)]
    pub told: T,
    /// For people: that it is the copy, of when, and why. Not there when the healer itself answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
}

impl<T> Told<T> {
    pub fn by_the_healer(told: T) -> Told<T> {
        Told { told, note: None }
    }

    /// `why` the healer did not answer, and when its last row was written.
    pub fn by_the_copy(told: T, why: &str, written: Option<Timestamp>) -> Told<T> {
        let written = written.map_or_else(String::new, |at| format!(", last written {at:.0}"));
        Told { told, note: Some(format!("{why}; this is its copy in Postgres{written}")) }
    }
}

/// Which incidents are wanted.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub project: Option<String>,
    pub service: Option<String>,
    pub state: Option<IncidentState>,
    pub limit: u32,
}

impl Filter {
    /// Fails for what the healer would not take either.
    pub fn asked(
        project: Option<String>,
        service: Option<String>,
        state: Option<&str>,
        limit: Option<u32>,
    ) -> Result<Filter, String> {
        let limit = limit.unwrap_or(LISTED);
        if !(1..=MOST_LISTED).contains(&limit) {
            return Err(format!("limit must be 1 to {MOST_LISTED}"));
        }
        let state = state.map(|name| {
            name.parse().map_err(|_| {
                let known: Vec<&str> = IncidentState::ALL.iter().map(|state| state.as_str()).collect();
                format!("no state is called {}; there are {}", name.escape_debug(), known.join(", "))
            })
        });
        Ok(Filter { project, service, state: state.transpose()?, limit })
    }
}

/// No service that is known now is called as was asked, so that "no incidents" would be taken for good news.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Unknown {
    #[error(transparent)]
    Project(UnknownProject),
    #[error("project {project} has no service {service}; it has {}", .known.join(", "))]
    OfProject { project: String, service: String, known: Vec<String> },
    #[error("there is no service {service}; there are {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
    Service { service: String, known: Vec<String> },
}

/// What is asked about and not among the services that are known. Pure.
pub fn unknown(services: &[ServiceView], project: Option<&str>, service: Option<&str>) -> Option<Unknown> {
    // The machine itself is asked about by an empty name.
    let given = |name: Option<&'_ str>| name.filter(|name| !name.is_empty()).map(str::to_owned);
    let names = |name: fn(&ServiceView) -> &String, of: Option<&str>| -> Vec<String> {
        let all: BTreeSet<&String> =
            services.iter().filter(|it| of.is_none_or(|project| it.project == project)).map(name).collect();
        all.into_iter().cloned().collect()
    };
    let (project, service) = (given(project), given(service));
    if let Some(asked) = &project {
        let known = names(|it| &it.project, None);
        if !known.contains(asked) {
            return Some(Unknown::Project(UnknownProject { asked: asked.clone(), known }));
        }
    }
    let service = service?;
    let known = names(|it| &it.service, project.as_deref());
    match project {
        _ if known.contains(&service) => None,
        Some(project) => Some(Unknown::OfProject { project, service, known }),
        None => Some(Unknown::Service { service, known }),
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CopyError {
    #[error("reading the incidents in postgres")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("an incident in postgres is not understood: another version of Nexus wrote it")]
    Row(#[from] serde_json::Error),
}

/// Rows are the JSON of the model's types: the columns are called as their fields.
const LIST: &str = "
SELECT to_jsonb(i)::text FROM incidents i
WHERE host = $1 AND ($2::text IS NULL OR project = $2) AND ($3::text IS NULL OR service = $3)
  AND ($4::text IS NULL OR state = $4)
ORDER BY opened_at DESC, id DESC LIMIT $5";

const ONE: &str = "SELECT to_jsonb(i)::text FROM incidents i WHERE id = $1::text::uuid AND $2::bigint > 0";
const ATTEMPTS: &str =
    "SELECT to_jsonb(a)::text FROM attempts a WHERE incident_id = $1::text::uuid ORDER BY number LIMIT $2";
const EVIDENCE: &str =
    "SELECT to_jsonb(e)::text FROM evidence e WHERE incident_id = $1::text::uuid ORDER BY taken_at, id LIMIT $2";
const EVENTS: &str =
    "SELECT to_jsonb(e)::text FROM incident_events e WHERE incident_id = $1::text::uuid ORDER BY at, id LIMIT $2";

/// The incidents of a host, newest first.
pub async fn list(client: &Client, host: &str, filter: &Filter) -> Result<IncidentList, CopyError> {
    let Filter { project, service, state, limit } = filter;
    let (state, limit) = (state.map(IncidentState::as_str), i64::from(*limit));
    Ok(IncidentList { incidents: rows(client, LIST, &[&host, project, service, &state, &limit]).await? })
}

/// One incident with all that belongs to it; `None` when there is none of this id.
pub async fn detail(client: &Client, id: Uuid) -> Result<Option<IncidentDetail>, CopyError> {
    let id = id.to_string();
    let of: [&(dyn ToSql + Sync); 2] = [&id, &MOST_PIECES];
    let Some(incident) = rows::<Incident>(client, ONE, &of).await?.pop() else { return Ok(None) };
    Ok(Some(IncidentDetail {
        incident,
        attempts: rows::<Attempt>(client, ATTEMPTS, &of).await?,
        evidence: rows::<Evidence>(client, EVIDENCE, &of).await?,
        events: rows::<IncidentEvent>(client, EVENTS, &of).await?,
    }))
}

/// When the last row was copied.
pub async fn written(client: &Client, host: &str) -> Result<Option<Timestamp>, CopyError> {
    Ok(client.query_one("SELECT max(recorded_at) FROM incidents WHERE host = $1", &[&host]).await?.try_get(0)?)
}

async fn rows<T: DeserializeOwned>(
    client: &Client,
    sql: &str,
    parameters: &[&(dyn ToSql + Sync)],
) -> Result<Vec<T>, CopyError> {
    let rows = client.query(sql, parameters).await?;
    let row = |row: &tokio_postgres::Row| {
        let text: &str = row.try_get(0)?;
        Ok(serde_json::from_str(text)?)
    };
    rows.iter().map(row).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::view;

    #[test]
    fn what_is_asked_for_is_checked_as_the_healer_does() {
        let filter = Filter::asked(None, Some("web".into()), Some("gave_up"), None).unwrap();
        assert_eq!((filter.state, filter.limit), (Some(IncidentState::GaveUp), 100));
        let wrong = |state, limit| Filter::asked(None, None, state, limit).unwrap_err();
        assert!(wrong(Some("x\u{1b}"), None).starts_with("no state is called x\\u{1b}; there are suspect"));
        assert!(wrong(None, Some(0)).contains("1 to 1000") && wrong(None, Some(1001)).contains("1 to 1000"));
    }

    #[test]
    fn a_name_that_nothing_has_is_told_with_those_that_there_are() {
        let run = [view("photos", "web"), view("photos", "db"), view("blog", "web")];
        let check = |project: Option<&str>, service: Option<&str>, told: Option<&str>| {
            let found = unknown(&run, project, service).map(|unknown| unknown.to_string());
            assert_eq!(found.as_deref(), told, "{project:?} {service:?}");
        };
        check(None, None, None);
        check(Some(""), None, None);
        check(Some("photos"), None, None);
        check(Some("photos"), Some("db"), None);
        check(None, Some("db"), None);
        check(Some("typo"), None, Some("there is no project typo; there are blog, photos"));
        check(Some("typo"), Some("web"), Some("there is no project typo; there are blog, photos"));
        check(Some("blog"), Some("db"), Some("project blog has no service db; it has web"));
        check(None, Some("wbe"), Some("there is no service wbe; there are db, web"));
        let none = unknown(&[], Some("photos"), None).map(|unknown| unknown.to_string());
        assert_eq!(none.as_deref(), Some("there is no project photos; there are none"));
    }

    #[test]
    fn the_copy_says_that_it_is_one() {
        let list = || IncidentList { incidents: Vec::new() };
        let json = serde_json::to_value(Told::by_the_healer(list())).unwrap();
        assert_eq!(json, serde_json::json!({"incidents": []}));
        let at = "2026-03-01T12:00:00.5Z".parse().ok();
        let copy = Told::by_the_copy(list(), "the healer does not answer", at);
        assert_eq!(
            copy.note.as_deref(),
            Some("the healer does not answer; this is its copy in Postgres, last written 2026-03-01T12:00:00Z")
        );
        let again: Told<IncidentList> = serde_json::from_value(serde_json::to_value(&copy).unwrap()).unwrap();
        assert_eq!(again, copy);
    }
}
