//! What the API tells of the past: series of a machine, a file system or a service, and the history of one service.

use axum::{
    Json,
    extract::{Path, Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use jiff::Timestamp;
use serde::Deserialize;

use super::{Problem, asked, bad};
use crate::{
    errors::chain,
    history::{
        columns,
        read::{self, ReadError},
        series::{self, FIGURES_LIMIT, HistorySeries, POINTS_LIMIT},
        service::{self, ServiceHistory, ServiceHistoryError},
        steps::{self, Range},
        subject::{self, Of, SubjectError},
    },
    server::App,
    usage::UsageError,
};

/// Points of each figure when nobody asks for a step: a chart has no more room.
const USUAL_POINTS: u32 = 300;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SeriesQuery {
    /// One or several, with commas between.
    figures: Option<String>,
    host: Option<String>,
    mountpoint: Option<String>,
    project: Option<String>,
    service: Option<String>,
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    resolution: Option<String>,
    step: Option<u32>,
}

impl SeriesQuery {
    fn of(&self) -> Result<Of, Problem> {
        match (&self.mountpoint, &self.project, &self.service) {
            (None, None, None) => Ok(Of::Host),
            (Some(mountpoint), None, None) => Ok(Of::Mount(mountpoint.clone())),
            // A container outside Compose has no project.
            (None, project, Some(service)) => {
                Ok(Of::Service { project: project.clone().unwrap_or_default(), service: service.clone() })
            }
            _ => Err(bad(
                "give mountpoint for a file system, project and service for a service, or none for the machine",
            )),
        }
    }

    /// The step that a resolution stands for.
    fn step(&self) -> Result<Option<u32>, Problem> {
        match (self.resolution.as_deref(), self.step) {
            (Some("raw"), None) => Ok(Some(5)),
            (Some("hourly"), None) => Ok(Some(60)),
            (Some(_), Some(_)) => Err(bad("resolution and step say the same thing: give one of them")),
            (Some(_), None) => Err(bad("resolution must be raw (five minutes) or hourly")),
            (None, step) => Ok(step),
        }
    }
}

pub async fn series(
    State(app): State<App>,
    query: Result<Query<SeriesQuery>, QueryRejection>,
) -> Result<Json<HistorySeries>, Problem> {
    let query = asked(query)?;
    let (of, step) = (query.of()?, query.step()?);
    let range = Range::asked(query.from, query.to, Timestamp::now()).map_err(bad)?;
    let table = match of {
        Of::Host => &columns::HOSTS,
        Of::Mount(_) => &columns::MOUNTS,
        Of::Service { .. } => &columns::SERVICES,
    };
    let names = query.figures.as_deref().unwrap_or_default();
    let names: Vec<&str> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    if names.is_empty() || names.len() > FIGURES_LIMIT {
        let known: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
        return Err(bad(format!("figures must name 1 to {FIGURES_LIMIT} of {}", known.join(", "))));
    }
    for name in &names {
        read::metric(table, name).map_err(bad)?;
    }
    let client = app.client().await?;
    let host = query.host.unwrap_or_else(|| app.sources.host.clone());
    let who = subject::find(&client, &host, of).await.map_err(nobody)?;
    let detail_since = read::detail_since(&client).await.map_err(unread)?;
    let most = POINTS_LIMIT / u32::try_from(names.len()).unwrap_or(u32::MAX);
    let step = steps::step(step, range, detail_since, USUAL_POINTS, most).map_err(bad)?;
    let range = range.whole(step);
    let columns = series::columns(&who, &names, step).map_err(unread)?;
    let found = series::find(&client, app.prometheus.as_ref(), &who, &columns, range, step).await.map_err(unread)?;
    let (mut mountpoint, mut project, mut service) = (None, None, None);
    match who.of {
        Of::Host => (),
        Of::Mount(at) => mountpoint = Some(at),
        Of::Service { project: of, service: name } => (project, service) = (Some(of), Some(name)),
    }
    let series = columns.iter().zip(&found.points).map(|(column, points)| series::figure(column, points, step));
    Ok(Json(HistorySeries {
        host,
        mountpoint,
        project,
        service,
        from: range.from,
        to: range.to,
        step_minutes: step,
        series: series.collect(),
        lately_from: found.lately_from,
        lately_missing: found.lately_missing,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ServiceHistoryQuery {
    from: Option<Timestamp>,
    to: Option<Timestamp>,
    step: Option<u32>,
}

pub async fn of_service(
    State(app): State<App>,
    Path((project, service)): Path<(String, String)>,
    query: Result<Query<ServiceHistoryQuery>, QueryRejection>,
) -> Result<Json<ServiceHistory>, Problem> {
    let ServiceHistoryQuery { from, to, step } = asked(query)?;
    let range = Range::asked(from, to, Timestamp::now()).map_err(bad)?;
    let client = app.client().await?;
    let of = Of::Service { project, service };
    let who = subject::find(&client, &app.sources.host, of).await.map_err(nobody)?;
    let read = service::read(&client, app.prometheus.as_ref(), &who, range, step).await;
    read.map(Json).map_err(|error| match error {
        ServiceHistoryError::Wrong(why) => bad(why),
        ServiceHistoryError::Read(error) => unread(error),
    })
}

fn nobody(error: SubjectError) -> Problem {
    match error {
        SubjectError::Unknown(why) => Problem(StatusCode::NOT_FOUND, why),
        SubjectError::Host(error @ UsageError::UnknownHost { .. }) => Problem(StatusCode::NOT_FOUND, error.to_string()),
        error => Problem(StatusCode::BAD_GATEWAY, chain(&error)),
    }
}

fn unread(error: ReadError) -> Problem {
    match error {
        ReadError::Postgres(_) => Problem(StatusCode::BAD_GATEWAY, chain(&error)),
        error => bad(error),
    }
}
