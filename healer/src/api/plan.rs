//! "What would you do now?" Nothing is done or written for an answer.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use nexus_model::{ServiceKey, control::PlanList};
use serde::Deserialize;

use super::{busy, keys, known_snapshot, nothing_matches};
use crate::{
    asks::Ask,
    server::{App, Problem},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanQuery {
    project: Option<String>,
    service: Option<String>,
}

pub async fn plan(
    State(app): State<App>,
    query: Result<Query<PlanQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(PlanQuery { project, service }) =
        query.map_err(|error| Problem(StatusCode::BAD_REQUEST, error.body_text()))?;
    if project.is_none() && service.is_some() {
        return Err(Problem(StatusCode::BAD_REQUEST, "a service needs its project".to_owned()));
    }
    let snapshot = known_snapshot(&app)?;
    let wanted = |key: &ServiceKey| {
        project.as_ref().is_none_or(|project| *project == key.project)
            && service.as_ref().is_none_or(|service| *service == key.service)
    };
    let keys: Vec<ServiceKey> = keys(&snapshot).into_iter().filter(wanted).collect();
    if let (true, Some(project)) = (keys.is_empty(), &project) {
        return Err(Problem(StatusCode::NOT_FOUND, nothing_matches(&app, project, service.as_deref(), &snapshot)));
    }
    let plans = app.asks.ask(|answer| Ask::Plans { keys, answer }).await.map_err(busy)?;
    Ok(Json(PlanList { plans }).into_response())
}
