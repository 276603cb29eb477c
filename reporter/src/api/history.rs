//! What the API tells of the history: what is usual, and what there is room for.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
};
use jiff::{Timestamp, tz::TimeZone};
use serde::Deserialize;
use tokio_postgres::Client;

use super::{Problem, asked, bad};
use crate::{
    baseline::{self, Baseline, DAYS, USUAL_DAYS},
    capacity::{self, Capacity, machines, model},
    errors::chain,
    report::facts::History,
    server::App,
    usage::UsageError,
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BaselineQuery {
    host: Option<String>,
    days: Option<u32>,
}

pub async fn baseline(
    State(app): State<App>,
    query: Result<Query<BaselineQuery>, QueryRejection>,
) -> Result<Json<Baseline>, Problem> {
    let BaselineQuery { host, days } = asked(query)?;
    let days = days.unwrap_or(USUAL_DAYS);
    if !DAYS.contains(&days) {
        return Err(bad(format!("days must be {} to {}", DAYS.start(), DAYS.end())));
    }
    let host = host.unwrap_or_else(|| app.sources.host.clone());
    let read = baseline::read_days(&app.client().await?, &host, Timestamp::now(), &TimeZone::system(), days).await;
    read.map(Json).map_err(problem)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CapacityQuery {
    host: Option<String>,
    machine: Option<String>,
}

pub async fn capacity(
    State(app): State<App>,
    query: Result<Query<CapacityQuery>, QueryRejection>,
) -> Result<Json<Capacity>, Problem> {
    let CapacityQuery { host, machine } = asked(query)?;
    let machine = machine.as_deref().map(machines::find).transpose().map_err(bad)?;
    let host = host.unwrap_or_else(|| app.sources.host.clone());
    let client = app.client().await?;
    let read = capacity::read(&client, &host, Timestamp::now());
    let (capacity, model) = tokio::join!(read, model::ask(&app.sources.prometheus, &host));
    let mut capacity = capacity.map_err(problem)?;
    if let Some(model) = model {
        capacity = capacity.on(&model);
    }
    if let Some(machine) = machine {
        capacity = capacity.for_machine(&machine);
    }
    Ok(Json(capacity))
}

/// What `nexus status` compares with.
pub async fn now(State(app): State<App>) -> Result<Json<History>, Problem> {
    match app.history(Timestamp::now()).await.as_ref() {
        Some(Ok(history)) => Ok(Json(history.clone())),
        Some(Err(why)) => Err(Problem(StatusCode::BAD_GATEWAY, why.clone())),
        None => Err(none()),
    }
}

impl App {
    pub(super) async fn client(&self) -> Result<Client, Problem> {
        let connected = self.database.as_ref().ok_or_else(none)?.connect().await;
        connected.map_err(|error| Problem(StatusCode::BAD_GATEWAY, chain(&error)))
    }
}

fn none() -> Problem {
    Problem(StatusCode::BAD_GATEWAY, "no --database.url: there is no history".to_owned())
}

fn problem(error: UsageError) -> Problem {
    let status = match error {
        UsageError::UnknownHost { .. } => StatusCode::NOT_FOUND,
        UsageError::Database { .. } => StatusCode::BAD_GATEWAY,
    };
    Problem(status, chain(&error))
}
