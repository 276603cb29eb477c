//! Pauses: set, taken back, listed.

use std::sync::Arc;

use axum::{
    Json,
    body::Bytes,
    extract::{
        Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use nexus_model::control::{PAUSE_SECONDS, PAUSE_SECONDS_LIMIT, PauseList, PauseWanted};
use serde::Deserialize;

use super::{body, in_force, keys, known_snapshot, note, nothing_matches};
use crate::{
    journal::Change,
    pauses::{Covers, Held, MOST, Pauses},
    server::{App, Problem},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PauseQuery {
    project: Option<String>,
    service: Option<String>,
}

pub async fn list(State(app): State<App>) -> Response {
    answer(&app)
}

fn answer(app: &App) -> Response {
    let pauses = app.pauses.borrow().holding(&app.clock.now());
    Json(PauseList { pauses }).into_response()
}

pub async fn set(State(app): State<App>, given: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let PauseWanted { project, service, for_seconds, reason } = body(given)?.unwrap_or_default();
    let covers = covers(project, service)?;
    let seconds = for_seconds.unwrap_or(PAUSE_SECONDS);
    if !(1..=PAUSE_SECONDS_LIMIT).contains(&seconds) {
        let days = PAUSE_SECONDS_LIMIT / 86_400;
        let why = format!(
            "for_seconds must be 1 to {PAUSE_SECONDS_LIMIT}: a pause ends by itself, after {days} days at most"
        );
        return Err(Problem(StatusCode::BAD_REQUEST, why));
    }
    let reason = note("reason", reason)?;
    if let Some(project) = &covers.project {
        if *project == app.stack {
            let why = format!("{project} is Nexus itself, which the healer never restarts");
            return Err(Problem(StatusCode::BAD_REQUEST, why));
        }
        let snapshot = known_snapshot(&app)?;
        let known = keys(&snapshot);
        if !known.iter().any(|key| covers.covers(key)) {
            let why = nothing_matches(&app, project, covers.service.as_deref(), &snapshot);
            return Err(Problem(StatusCode::NOT_FOUND, why));
        }
    }
    let target = target(&covers);
    let set = move |pauses: &mut Pauses, now: nexus_model::Now| {
        if pauses.0.len() >= MOST && !pauses.0.contains_key(&covers) {
            return Err(Problem(StatusCode::CONFLICT, format!("{MOST} pauses are set already: take some back first")));
        }
        let held = Held { since: now, seconds, reason };
        pauses.0.insert(covers.clone(), held.clone());
        Ok(Change::Pause { covers, held })
    };
    change(&app, set).await?;
    tracing::info!(host = app.host, "healing is paused for {seconds} s: {target}");
    Ok(answer(&app))
}

pub async fn lift(
    State(app): State<App>,
    query: Result<Query<PauseQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(PauseQuery { project, service }) =
        query.map_err(|error| Problem(StatusCode::BAD_REQUEST, error.body_text()))?;
    let covers = covers(project, service)?;
    let target = target(&covers);
    let wanted = target.clone();
    let lift = move |pauses: &mut Pauses, now: nexus_model::Now| {
        if pauses.0.remove(&covers).is_some() {
            return Ok(Change::EndPause { covers });
        }
        let others: Vec<String> = pauses.holding(&now).iter().map(|pause| pause.target()).collect();
        let others = match &others[..] {
            [] => "nothing is paused".to_owned(),
            some => format!("paused are {}", some.join(", ")),
        };
        Err(Problem(StatusCode::NOT_FOUND, format!("there is no pause of {wanted}: {others}")))
    };
    change(&app, lift).await?;
    tracing::info!(host = app.host, "the pause was taken back: {target}");
    Ok(answer(&app))
}

fn covers(project: Option<String>, service: Option<String>) -> Result<Covers, Problem> {
    let wrong = |why: &str| Err(Problem(StatusCode::BAD_REQUEST, why.to_owned()));
    match (&project, &service) {
        (None, Some(_)) => wrong("a service needs its project"),
        (Some(project), _) if project.is_empty() => wrong("project must not be empty; leave it out to mean everything"),
        (_, Some(service)) if service.is_empty() => {
            wrong("service must not be empty; leave it out to mean the project")
        }
        _ => Ok(Covers { project, service }),
    }
}

fn target(covers: &Covers) -> String {
    match (&covers.project, &covers.service) {
        (Some(project), Some(service)) => format!("{project}/{service}"),
        (Some(project), None) => project.clone(),
        (None, _) => "everything".to_owned(),
    }
}

/// Makes one change durable, then true, and forgets what is over on the way.
async fn change(
    app: &App,
    make: impl FnOnce(&mut Pauses, nexus_model::Now) -> Result<Change, Problem>,
) -> Result<(), Problem> {
    let one_at_a_time = Arc::clone(&app.switching).lock_owned().await;
    let mut pauses = Pauses::clone(&app.pauses.borrow());
    let now = app.clock.now();
    let mut changes = Vec::new();
    for covers in pauses.over_with(&now) {
        pauses.0.remove(&covers);
        changes.push(Change::EndPause { covers });
    }
    changes.push(make(&mut pauses, now)?);
    let (journal, held) = (app.journal.clone(), app.pauses.clone());
    in_force(async move {
        let _one_at_a_time = one_at_a_time;
        journal.commit(changes).await.map(|()| _ = held.send_replace(Arc::new(pauses)))
    })
    .await
}
