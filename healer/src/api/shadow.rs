//! The shadow record: what healing would have done for services that are only watched.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use nexus_model::{
    ServiceKey,
    shadow::{self, LONGEST_WINDOW, ShadowReport, WINDOW},
};
use serde::Deserialize;

use super::{
    keys, known_snapshot,
    logs::{moment, not_a_moment},
    nothing_matches, unreadable,
};
use crate::{
    journal::{Filter, MAX_LISTED},
    server::{App, Problem},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ShadowQuery {
    project: Option<String>,
    service: Option<String>,
    /// A moment (RFC 3339) or how long ago (`7d`).
    since: Option<String>,
}

pub async fn record(
    State(app): State<App>,
    query: Result<Query<ShadowQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(ShadowQuery { project, service, since }) =
        query.map_err(|error| Problem(StatusCode::BAD_REQUEST, error.body_text()))?;
    if project.is_none() && service.is_some() {
        return Err(Problem(StatusCode::BAD_REQUEST, "a service needs its project".to_owned()));
    }
    let until = Timestamp::now();
    let since = match since {
        Some(text) => moment(&text, until).ok_or_else(|| not_a_moment(&text))?,
        None => until.checked_sub(WINDOW).unwrap_or(Timestamp::MIN),
    };
    if since > until || until.duration_since(since) > LONGEST_WINDOW {
        let days = LONGEST_WINDOW.as_hours() / 24;
        return Err(Problem(StatusCode::BAD_REQUEST, format!("since must lie within the last {days} days")));
    }
    let filter = Filter { project, service, ..Filter::default() };
    let asked = filter.clone();
    let stories = app.journal.read(move |store| store.stories(since, &asked)).await.map_err(unreadable)?;
    if stories.is_empty() {
        exists(&app, &filter)?;
    }
    let truncated = stories.len() >= MAX_LISTED as usize;
    Ok(Json(ShadowReport { since, until, services: shadow::records(&stories, since, until), truncated })
        .into_response())
}

/// A mistyped name is told, and not taken for a service that was never ill. While Docker has not answered, no name is known.
fn exists(app: &App, filter: &Filter) -> Result<(), Problem> {
    let (Some(project), Ok(snapshot)) = (&filter.project, known_snapshot(app)) else {
        return Ok(());
    };
    let is_it = |key: &ServiceKey| {
        key.project == *project && filter.service.as_ref().is_none_or(|service| key.service == *service)
    };
    if keys(&snapshot).iter().any(is_it) {
        return Ok(());
    }
    Err(Problem(StatusCode::NOT_FOUND, nothing_matches(app, project, filter.service.as_deref(), &snapshot)))
}
