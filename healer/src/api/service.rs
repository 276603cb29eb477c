//! One service: how it is and why, and the owner's word to heal it now.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use nexus_docker::Snapshot;
use nexus_model::{
    IncidentState, Mode, Refusal, ServiceKey,
    api::ApiError,
    control::{HealNow, ServiceDetail},
    shadow::{self, ShadowRecord, WINDOW},
};

use super::{body, busy, keys, known_snapshot, not_durable, nothing_matches, unreadable, views};
use crate::{
    asks::{Ask, No},
    by_hand::Denied,
    journal::Filter,
    server::{App, Problem},
};

/// The service of the path, if Docker shows it.
pub(super) fn found(app: &App, snapshot: &Snapshot, project: &str, service: &str) -> Result<ServiceKey, Problem> {
    let key = ServiceKey::new(project, service);
    if keys(snapshot).contains(&key) {
        return Ok(key);
    }
    Err(Problem(StatusCode::NOT_FOUND, nothing_matches(app, project, Some(service), snapshot)))
}

pub async fn detail(
    State(app): State<App>,
    Path((project, service)): Path<(String, String)>,
) -> Result<Response, Problem> {
    let snapshot = known_snapshot(&app)?;
    let key = found(&app, &snapshot, &project, &service)?;
    let view = views(&app, &snapshot, &app.switches.borrow(), |other| *other == key).pop();
    let Some(view) = view else {
        return Err(Problem(StatusCode::NOT_FOUND, nothing_matches(&app, &project, Some(&service), &snapshot)));
    };
    let asked = key.clone();
    let seen = app.asks.ask(|answer| Ask::Service { key: asked, answer }).await.map_err(busy)?;
    let filter =
        Filter { project: Some(project), service: Some(service), state: Some(IncidentState::Closed), limit: Some(1) };
    let last = app.journal.read(move |store| store.incidents(&filter)).await.map_err(unreadable)?.pop();
    let pause = app.pauses.borrow().over(&key, &app.clock.now()).map(|(pause, _)| pause);
    let shadow = if view.mode == Mode::Shadow { this_week(&app, &key).await? } else { None };
    Ok(Json(ServiceDetail {
        service: view,
        incident: seen.incident,
        waits_for: seen.waits_for,
        budgets: seen.budgets,
        plan: seen.plan,
        pause,
        last,
        shadow,
    })
    .into_response())
}

/// What healing would have done for a service this week.
async fn this_week(app: &App, key: &ServiceKey) -> Result<Option<ShadowRecord>, Problem> {
    let until = Timestamp::now();
    let since = until.checked_sub(WINDOW).unwrap_or(Timestamp::MIN);
    let filter = Filter { project: Some(key.project.clone()), service: Some(key.service.clone()), ..Filter::default() };
    let stories = app.journal.read(move |store| store.stories(since, &filter)).await.map_err(unreadable)?;
    Ok(shadow::records(&stories, since, until).pop())
}

pub async fn heal_now(
    State(app): State<App>,
    Path((project, service)): Path<(String, String)>,
    given: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let HealNow { force } = body(given)?.unwrap_or_default();
    let snapshot = known_snapshot(&app)?;
    let key = found(&app, &snapshot, &project, &service)?;
    match app.asks.ask(|answer| Ask::HealNow { key, force, answer }).await.map_err(busy)? {
        Ok(accepted) => Ok((StatusCode::ACCEPTED, Json(accepted)).into_response()),
        Err(No::Denied(Denied { why, sentence })) => {
            let status = match why {
                Refusal::DockerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
                Refusal::Gone => StatusCode::NOT_FOUND,
                _ => StatusCode::CONFLICT,
            };
            Ok((status, Json(ApiError { error: sentence, reason: Some(why) })).into_response())
        }
        Err(_) => Err(not_durable()),
    }
}
