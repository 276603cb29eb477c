//! `GET /api/v1/policy/explain?project=&service=`: what holds for a service, and who says so.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Query, State, rejection::QueryRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use nexus_model::{ServiceKey, api::PolicyExplanation};
use nexus_policy::{Term, explain};
use serde::Deserialize;

use crate::{
    api,
    facts::{self, ContainerFacts, Stops},
    server::{App, Problem},
};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    project: String,
    service: String,
}

pub async fn policy(State(app): State<App>, query: Result<Query<Asked>, QueryRejection>) -> Result<Response, Problem> {
    let Query(Asked { project, service }) =
        query.map_err(|error| Problem(StatusCode::BAD_REQUEST, error.body_text()))?;
    let snapshot = api::known_snapshot(&app)?;
    let key = ServiceKey::new(project, service);
    if app.is_own(&key) {
        let why = format!("{} is Nexus itself: Docker's restart policy looks after it", key.project);
        return Err(Problem(StatusCode::BAD_REQUEST, why));
    }
    let containers = facts::containers_of(&snapshot, &key, &Stops::new(), Timestamp::now());
    if containers.is_empty() {
        let why = api::nothing_matches(&app, &key.project, Some(&key.service), &snapshot);
        return Err(Problem(StatusCode::NOT_FOUND, why));
    }
    let policy = Arc::clone(&app.policy.borrow());
    let switches = Arc::clone(&app.switches.borrow());
    let worn = facts::worn(&containers);
    let mut explained = explain::service(&policy, &key, worn, &switches, Timestamp::now());
    let wins = policy.terms(&key, facts::worn(&containers)).healing.stop_timeout_wins;
    if !wins {
        its_own_stop_timeout(&mut explained, &containers);
    }
    explained.policy = Some(app.policy_status.borrow().clone());
    Ok(Json(explained).into_response())
}

/// What a container says of its stop time-out counts, where the policy says nothing for this very service.
fn its_own_stop_timeout(explained: &mut PolicyExplanation, containers: &[ContainerFacts]) {
    let own = containers.iter().filter_map(|seen| SignedDuration::try_from(seen.container.stop_timeout?).ok()).max();
    let value = explained.values.iter_mut().find(|value| value.key == Term::StopTimeout.name());
    if let (Some(own), Some(value)) = (own, value) {
        value.value = format!("{own:#}");
        value.source = "container (stop_grace_period)".to_owned();
        value.means = Term::StopTimeout.in_words(nexus_policy::Amount::Time(own));
    }
}
