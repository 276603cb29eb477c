//! The shadow record: what healing would have done for services that are only watched.

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use nexus_model::shadow::{self, LONGEST_WINDOW, ShadowReport, WINDOW};
use serde::Deserialize;

use super::{
    logs::{moment, not_a_moment},
    unreadable,
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
    let stories = app.journal.read(move |store| store.stories(since, &filter)).await.map_err(unreadable)?;
    let truncated = stories.len() >= MAX_LISTED as usize;
    Ok(Json(ShadowReport { since, until, services: shadow::records(&stories, since, until), truncated })
        .into_response())
}
