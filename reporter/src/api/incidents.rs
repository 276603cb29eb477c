//! The incidents: as the healer tells them, and while it can't be asked as its copy in Postgres says. The healer forgets what is long
//! over, and its copy does not: so one of last year still has its page.

use std::time::Duration;

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use nexus_model::api::{IncidentDetail, IncidentList, ServiceList};
use serde::{Deserialize, de::DeserializeOwned};
use tokio_postgres::Client;
use uuid::Uuid;

use super::{Problem, asked, bad};
use crate::{
    errors::chain,
    incidents::{self, CopyError, Filter, Told, Unknown},
    server::App,
    sources::short,
};

/// Whoever waits for the healer in vain does not wait as long for its copy. Together they are less than any part of the stack is waited
/// for, so that who asks for the copy hears of it.
const COPY_WITHIN: Duration = Duration::from_secs(5);
/// Where there is a copy to tell instead, a healer that hangs is not waited for as where it alone knows.
const HEALER_WITHIN: Duration = Duration::from_secs(3);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentsQuery {
    project: Option<String>,
    service: Option<String>,
    state: Option<String>,
    limit: Option<u32>,
}

pub async fn list(
    State(app): State<App>,
    query: Result<Query<IncidentsQuery>, QueryRejection>,
) -> Result<Json<Told<IncidentList>>, Problem> {
    let IncidentsQuery { project, service, state, limit } = asked(query)?;
    let filter = Filter::asked(project, service, state.as_deref(), limit).map_err(bad)?;
    app.incidents(&filter).await.map(Json)
}

pub async fn one(State(app): State<App>, Path(id): Path<String>) -> Result<Json<Told<IncidentDetail>>, Problem> {
    let id: Uuid = id.parse().map_err(|_| bad("an incident's id is a UUID"))?;
    app.incident(id).await.map(Json)
}

impl App {
    pub async fn incidents(&self, filter: &Filter) -> Result<Told<IncidentList>, Problem> {
        let list = match self.listed(filter).await? {
            Ok(list) => list,
            Err(why) => return self.copied(&why, filter).await,
        };
        match self.unknown(filter, &list).await {
            Some(unknown) => self.on_record(filter, unknown).await,
            None => Ok(Told::by_the_healer(list)),
        }
    }

    async fn listed(&self, filter: &Filter) -> Result<Result<IncidentList, String>, Problem> {
        let limit = filter.limit.to_string();
        let mut query = vec![("limit", limit.as_str())];
        query.extend(filter.project.as_deref().map(|project| ("project", project)));
        query.extend(filter.service.as_deref().map(|service| ("service", service)));
        query.extend(filter.state.map(|state| ("state", state.as_str())));
        self.of_the_healer("/api/v1/incidents", &query).await
    }

    /// Where there are none: whether nothing that runs is called as was asked. Where nobody can say what runs, the names are taken as
    /// given.
    async fn unknown(&self, filter: &Filter, list: &IncidentList) -> Option<Unknown> {
        let (project, service) = (filter.project.as_deref(), filter.service.as_deref());
        if !list.incidents.is_empty() || project.or(service).is_none() {
            return None;
        }
        let services = self.of_the_healer::<ServiceList>("/api/v1/services", &[]).await.ok()?.ok()?;
        incidents::unknown(&services.services, project, service)
    }

    /// What no longer runs may be known by its incidents: by those in any state, and by those that only the copy has still.
    async fn on_record(&self, filter: &Filter, unknown: Unknown) -> Result<Told<IncidentList>, Problem> {
        let has_some = |list: &IncidentList| !list.incidents.is_empty();
        let none = || IncidentList { incidents: Vec::new() };
        let in_any_state = Filter { state: None, limit: 1, ..filter.clone() };
        if let Ok(Ok(list)) = self.listed(&in_any_state).await
            && has_some(&list)
        {
            return Ok(Told::by_the_healer(none()));
        }
        let why = "the healer has forgotten it";
        if let Ok(told) = self.copied(why, filter).await
            && has_some(&told.told)
        {
            return Ok(told);
        }
        match self.copied(why, &in_any_state).await {
            Ok(told) if has_some(&told.told) => Ok(Told { told: none(), ..told }),
            _ => Err(Problem(StatusCode::NOT_FOUND, unknown.to_string())),
        }
    }

    /// What the copy says, for who knows already why the healer does not.
    pub async fn copied(&self, why: &str, filter: &Filter) -> Result<Told<IncidentList>, Problem> {
        let host = &self.sources.host;
        let read = async |client: &Client| {
            let list = incidents::list(client, host, filter).await?;
            Ok((list, incidents::written(client, host).await?))
        };
        let (list, written) = self.of_the_copy(why, read).await?;
        Ok(Told::by_the_copy(list, why, written))
    }

    pub async fn incident(&self, id: Uuid) -> Result<Told<IncidentDetail>, Problem> {
        let (why, unknown) = match self.of_the_healer(&format!("/api/v1/incidents/{id}"), &[]).await {
            Ok(Ok(detail)) => return Ok(Told::by_the_healer(detail)),
            Ok(Err(why)) => (why, None),
            Err(problem) if problem.0 == StatusCode::NOT_FOUND => {
                ("the healer has forgotten it".to_owned(), Some(problem))
            }
            Err(problem) => return Err(problem),
        };
        let host = &self.sources.host;
        let read =
            async |client: &Client| Ok((incidents::detail(client, id).await?, incidents::written(client, host).await?));
        let missing = || Problem(StatusCode::NOT_FOUND, format!("there is no incident {id} in Postgres, and {why}"));
        match (self.of_the_copy(&why, read).await, unknown) {
            (Ok((Some(detail), written)), _) => Ok(Told::by_the_copy(detail, &why, written)),
            // In the healer's own words.
            (_, Some(unknown)) => Err(unknown),
            (Ok((None, _)), None) => Err(missing()),
            (Err(problem), None) => Err(problem),
        }
    }

    /// The healer's answer; inside, why there is none. What it says of the request itself is a problem of who asks.
    async fn of_the_healer<T: DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, &str)],
    ) -> Result<Result<T, String>, Problem> {
        let healer = match self.healer() {
            Ok(healer) => healer,
            Err(why) => return Ok(Err(format!("the healer can't be asked: {why}"))),
        };
        let asked = healer.get(path, query);
        let answer = match &self.database {
            None => asked.await,
            Some(_) => match tokio::time::timeout(HEALER_WITHIN, asked).await {
                Ok(answer) => answer,
                Err(_) => return Ok(Err(format!("the healer hangs at {}", healer.base))),
            },
        };
        match answer {
            Ok(answer) => Ok(Ok(answer)),
            Err(error) => match error.status() {
                Some(400) => Err(bad(error)),
                Some(404) => Err(Problem(StatusCode::NOT_FOUND, error.to_string())),
                _ => Ok(Err(format!("the healer {}", short(error).trim_start_matches("the healer ")))),
            },
        }
    }

    async fn of_the_copy<T>(
        &self,
        why: &str,
        read: impl AsyncFnOnce(&Client) -> Result<T, CopyError>,
    ) -> Result<T, Problem> {
        let gone = |and: &str| Problem(StatusCode::BAD_GATEWAY, format!("{why}, and its copy {and}"));
        let Some(database) = &self.database else { return Err(gone("is not there: no --database.url")) };
        let reading = async {
            let client =
                database.connect().await.map_err(|error| gone(&format!("can't be read: {}", chain(&error))))?;
            read(&client).await.map_err(|error| gone(&format!("can't be read: {}", chain(&error))))
        };
        let late = || gone(&format!("was not read within {} s", COPY_WITHIN.as_secs()));
        tokio::time::timeout(COPY_WITHIN, reading).await.unwrap_or_else(|_| Err(late()))
    }
}
