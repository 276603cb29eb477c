//! Handlers of the API: what people and agents ask the healer. Routes and status codes are in [`crate::server`].

pub mod acknowledge;
pub mod journal;
pub mod logs;
pub mod openapi;
pub mod pauses;
pub mod plan;
pub mod service;
pub mod shadow;

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    body::Bytes,
    extract::{
        Path, Query, State,
        rejection::{BytesRejection, QueryRejection},
    },
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::Timestamp;
use nexus_docker::{Container, Snapshot};
use nexus_model::{
    Refusal, ServiceKey,
    api::{ContainerView, HealSwitch, HealerStatus, IncidentList, PartStatus, ServiceList, ServiceView, Today},
    control::NOTE_LIMIT,
};
use serde::{Deserialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    evidence::chain,
    facts::{self, ContainerFacts, Stops},
    journal::{Change, Filter, JournalError, MAX_LISTED},
    modes::Switches,
    policy::Policy,
    server::{App, Problem},
    stuck,
    worker::Outlook,
};

/// How long the answer to a switch waits for the journal.
const SWITCH_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IncidentQuery {
    project: Option<String>,
    service: Option<String>,
    state: Option<String>,
    limit: Option<u32>,
}

pub async fn incidents(
    State(app): State<App>,
    query: Result<Query<IncidentQuery>, QueryRejection>,
) -> Result<Response, Problem> {
    let Query(query) = query.map_err(|error| Problem(StatusCode::BAD_REQUEST, error.body_text()))?;
    let state = query.state.map(|name| name.parse().map_err(|_| unknown_state(&name))).transpose()?;
    if query.limit.is_some_and(|limit| limit == 0 || limit > MAX_LISTED) {
        return Err(Problem(StatusCode::BAD_REQUEST, format!("limit must be 1 to {MAX_LISTED}")));
    }
    let filter = Filter { project: query.project, service: query.service, state, limit: query.limit };
    let incidents = app.journal.read(move |store| store.incidents(&filter)).await.map_err(unreadable)?;
    Ok(Json(IncidentList { incidents }).into_response())
}

fn unknown_state(name: &str) -> Problem {
    let known: Vec<&str> = nexus_model::IncidentState::ALL.iter().map(|state| state.as_str()).collect();
    Problem(
        StatusCode::BAD_REQUEST,
        format!("no state is called {}; there are {}", name.escape_debug(), known.join(", ")),
    )
}

pub async fn incident(State(app): State<App>, Path(id): Path<String>) -> Result<Response, Problem> {
    let id = incident_id(&id)?;
    match app.journal.read(move |store| store.incident(id)).await.map_err(unreadable)? {
        Some(detail) => Ok(Json(detail).into_response()),
        None => Err(Problem(StatusCode::NOT_FOUND, format!("there is no incident {id}"))),
    }
}

pub async fn services(State(app): State<App>) -> Result<Response, Problem> {
    let snapshot = known_snapshot(&app)?;
    let services = views(&app, &snapshot, &app.switches.borrow(), |_| true);
    Ok(Json(ServiceList { services }).into_response())
}

pub async fn heal(State(app): State<App>, given: Result<Bytes, BytesRejection>) -> Result<Response, Problem> {
    let HealSwitch { project, service, mode } = body(given)?
        .ok_or_else(|| Problem(StatusCode::BAD_REQUEST, "the body must say which project and which mode".to_owned()))?;
    if project.is_empty() || service.as_deref() == Some("") {
        return Err(Problem(StatusCode::BAD_REQUEST, "project and service must not be empty".to_owned()));
    }
    if project == app.stack && mode.is_some() {
        let why = format!("{project} is Nexus itself: Docker's restart policy looks after it");
        return Err(Problem(StatusCode::BAD_REQUEST, why));
    }
    let snapshot = known_snapshot(&app)?;
    let matches = |key: &ServiceKey| key.project == project && service.as_ref().is_none_or(|it| *it == key.service);
    let one_at_a_time = Arc::clone(&app.switching).lock_owned().await;
    let mut switches = Switches::clone(&app.switches.borrow());
    // A switch can be taken back after its service is gone.
    let stale = mode.is_none()
        && match &service {
            Some(service) => switches.services.contains_key(&ServiceKey::new(&project, service)),
            None => switches.projects.contains_key(&project),
        };
    if !stale && !keys(&snapshot).iter().any(&matches) {
        return Err(Problem(StatusCode::NOT_FOUND, nothing_matches(&app, &project, service.as_deref(), &snapshot)));
    }
    let at = Timestamp::now();
    let change = Change::Switch { project: project.clone(), service: service.clone(), mode, at };
    switches.set(&project, service.as_deref(), mode);
    let switches = Arc::new(switches);
    let (journal, held, switched) = (app.journal.clone(), app.switches.clone(), Arc::clone(&switches));
    in_force(async move {
        let _one_at_a_time = one_at_a_time;
        journal.commit(vec![change]).await.map(|()| _ = held.send_replace(switched))
    })
    .await?;
    let word = mode.map_or("what label and policy say", nexus_model::Mode::as_str);
    tracing::info!(
        host = app.host,
        project,
        service = service.as_deref().unwrap_or("*"),
        "healing was switched to {word}"
    );
    let services = views(&app, &snapshot, &switches, matches);
    Ok(Json(ServiceList { services }).into_response())
}

/// Makes a change durable and true in a task of its own: whoever asked may go, and what is on the disk must be what is in force.
async fn in_force(made: impl Future<Output = Result<(), JournalError>> + Send + 'static) -> Result<(), Problem> {
    let made = tokio::time::timeout(SWITCH_TIMEOUT, tokio::spawn(made)).await;
    let refused = |why: String| Problem(StatusCode::SERVICE_UNAVAILABLE, why);
    match made {
        Ok(Ok(made)) => made.map_err(|error| refused(chain(&error))),
        Ok(Err(_)) => Err(refused("the task that switches broke down".to_owned())),
        Err(_) => Err(refused("the journal is slow; the switch takes effect when it is written".to_owned())),
    }
}

/// The JSON of a request; `None` when there is no body.
fn body<T: DeserializeOwned>(given: Result<Bytes, BytesRejection>) -> Result<Option<T>, Problem> {
    let bytes = given.map_err(|error| Problem(error.status(), error.body_text()))?;
    if bytes.iter().all(u8::is_ascii_whitespace) {
        return Ok(None);
    }
    let wrong = |error| Problem(StatusCode::BAD_REQUEST, format!("the body is not understood: {error}"));
    serde_json::from_slice(&bytes).map(Some).map_err(wrong)
}

fn incident_id(text: &str) -> Result<Uuid, Problem> {
    text.parse().map_err(|_| Problem(StatusCode::BAD_REQUEST, "an incident's id is a UUID".to_owned()))
}

/// What somebody writes beside an act: bounded, on one line, and free of what steers a terminal or is a secret.
fn note(name: &str, given: Option<String>) -> Result<Option<String>, Problem> {
    let Some(text) = given else { return Ok(None) };
    if text.chars().count() > NOTE_LIMIT {
        return Err(Problem(StatusCode::BAD_REQUEST, format!("{name} must have {NOTE_LIMIT} characters at most")));
    }
    let text = crate::redact::line(text.trim());
    Ok((!text.is_empty()).then_some(text))
}

fn busy(error: crate::asks::Busy) -> Problem {
    Problem(StatusCode::SERVICE_UNAVAILABLE, error.to_string())
}

fn not_durable() -> Problem {
    let why = "the journal can't be written, and without it nothing is done".to_owned();
    Problem(StatusCode::SERVICE_UNAVAILABLE, why)
}

pub(crate) fn nothing_matches(app: &App, project: &str, service: Option<&str>, snapshot: &Snapshot) -> String {
    let keys: Vec<ServiceKey> = keys(snapshot).into_iter().filter(|key| key.project != app.stack).collect();
    let in_project: Vec<&str> =
        keys.iter().filter(|key| key.project == project).map(|key| key.service.as_str()).collect();
    match service {
        Some(service) if !in_project.is_empty() => {
            format!("project {project} has no service {service}; it has {}", in_project.join(", "))
        }
        _ => {
            let mut projects: Vec<&str> = keys.iter().map(|key| key.project.as_str()).collect();
            projects.dedup();
            match &projects[..] {
                [] => format!("there is no project {project}, nor any other with containers here"),
                some => format!("there is no project {project}; there are {}", some.join(", ")),
            }
        }
    }
}

pub async fn selftest(State(app): State<App>, Path(nonce): Path<String>) -> Result<Response, Problem> {
    match app.journal.read(move |store| store.selftest(&nonce)).await.map_err(unreadable)? {
        Some(found) => Ok(Json(found).into_response()),
        None => Err(Problem(StatusCode::NOT_FOUND, "no such self-test has come in".to_owned())),
    }
}

pub async fn status(State(app): State<App>) -> Result<Response, Problem> {
    let snapshot = app.watcher.snapshot();
    let pending = app.journal.read(|store| store.pending_count()).await.map_err(unreadable)?;
    let outlook = app.outlook.borrow().clone();
    let gave_up = outlook.states.values().filter(|state| **state == nexus_model::IncidentState::GaveUp).count();
    Ok(Json(HealerStatus {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        host: app.host.clone(),
        stack: app.stack.clone(),
        now: Timestamp::now(),
        docker: PartStatus {
            state: if snapshot.up { "up" } else { "down" }.to_owned(),
            reason: snapshot.error.clone(),
        },
        postgres: app.postgres.borrow().clone(),
        alertmanager: app.alertmanager.borrow().clone(),
        policy: Some(app.policy_status.borrow().clone()),
        journal_pending_rows: pending,
        open_incidents: outlook.states.len() as u32,
        gave_up_incidents: gave_up as u32,
        pauses: app.pauses.borrow().holding(&app.clock.now()),
        hold: outlook.hold.clone(),
    })
    .into_response())
}

/// What Docker shows, once it has answered at all; what was known last while it does not.
pub(crate) fn known_snapshot(app: &App) -> Result<std::sync::Arc<Snapshot>, Problem> {
    let snapshot = app.watcher.snapshot();
    if snapshot.up || snapshot.engine.is_some() {
        return Ok(snapshot);
    }
    let reason = snapshot.error.as_deref().unwrap_or("it has not answered yet");
    Err(Problem(StatusCode::SERVICE_UNAVAILABLE, format!("docker can't be asked: {reason}")))
}

fn keys(snapshot: &Snapshot) -> Vec<ServiceKey> {
    let mut keys: Vec<ServiceKey> =
        snapshot.containers.values().filter_map(|watched| watched.container.key()).collect();
    keys.sort();
    keys.dedup();
    keys
}

fn views(
    app: &App,
    snapshot: &Snapshot,
    switches: &Switches,
    wanted: impl Fn(&ServiceKey) -> bool,
) -> Vec<ServiceView> {
    let mut services: BTreeMap<ServiceKey, Vec<ContainerFacts>> = BTreeMap::new();
    for key in keys(snapshot).into_iter().filter(|key| wanted(key)) {
        let containers = facts::containers_of(snapshot, &key, &Stops::new(), Timestamp::now());
        services.insert(key, containers);
    }
    let outlook = app.outlook.borrow().clone();
    let policy = Arc::clone(&app.policy.borrow());
    let (pauses, now) = (Arc::clone(&app.pauses.borrow()), app.clock.now());
    let view = |(key, containers): (ServiceKey, Vec<ContainerFacts>)| {
        let mode = facts::mode_of(&key, &containers, switches, &policy);
        let refusal = if app.is_own(&key) {
            Some(Refusal::OwnStack)
        } else if containers.iter().all(|seen| seen.container.is_one_off()) {
            Some(Refusal::OneOff)
        } else {
            mode.protected
        };
        ServiceView {
            mode: mode.mode,
            mode_source: mode.source,
            refusal,
            incident: outlook.states.get(&key).copied(),
            paused_until: pauses.over(&key, &now).map(|(pause, _)| pause.until),
            today: today(&outlook, &policy, &key, &containers),
            stuck: stuck::of(&containers, now.wall),
            project: key.project,
            service: key.service,
            containers: containers.iter().map(|seen| container_view(&seen.container)).collect(),
        }
    };
    services.into_iter().map(view).collect()
}

/// Of the container that was restarted most often within a day.
fn today(outlook: &Outlook, policy: &Policy, key: &ServiceKey, containers: &[ContainerFacts]) -> Option<Today> {
    let restarts = containers.iter().filter_map(|seen| outlook.today.get(&seen.container.id)).max()?;
    let of = policy.terms(key, facts::worn(containers)).healing.attempts_per_day;
    Some(Today { restarts: *restarts, of })
}

fn container_view(container: &Container) -> ContainerView {
    ContainerView {
        name: container.name.clone(),
        image: container.image.clone(),
        state: container.status.as_str().to_owned(),
        health: container.health.as_str().to_owned(),
        started_at: container.started_at,
        restart_count: container.restart_count,
    }
}

fn unreadable(error: JournalError) -> Problem {
    tracing::error!(reason = %chain(&error), "answering the API");
    Problem(StatusCode::SERVICE_UNAVAILABLE, chain(&error))
}
