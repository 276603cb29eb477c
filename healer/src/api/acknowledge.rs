//! Somebody knows of an incident that failed or was given up.

use axum::{
    Json,
    body::Bytes,
    extract::{Path, State, rejection::BytesRejection},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use nexus_model::control::Acknowledge;

use super::{body, busy, incident_id, not_durable, note, unreadable};
use crate::{
    asks::{Ask, No},
    relief,
    server::{App, Problem},
};

pub async fn acknowledge(
    State(app): State<App>,
    Path(id): Path<String>,
    given: Result<Bytes, BytesRejection>,
) -> Result<Response, Problem> {
    let id = incident_id(&id)?;
    let Acknowledge { retry, note: given } = body(given)?.unwrap_or_default();
    let wanted = Acknowledge { retry, note: note("note", given)? };
    match app.asks.ask(|answer| Ask::Acknowledge { id, wanted, answer }).await.map_err(busy)? {
        Ok(incident) => Ok(Json(incident).into_response()),
        Err(No::NotOpen) => match app.journal.read(move |store| store.incident(id)).await.map_err(unreadable)? {
            Some(detail) if detail.incident.state.is_open() && detail.incident.project == relief::PROJECT => {
                let why = format!(
                    "incident {id} is the machine's own, and can't be acknowledged: silence its alert in Alertmanager \
                     until it is over"
                );
                Err(Problem(StatusCode::CONFLICT, why))
            }
            Some(_) => Err(Problem(StatusCode::CONFLICT, format!("incident {id} is closed: nobody is told of it"))),
            None => Err(Problem(StatusCode::NOT_FOUND, format!("there is no incident {id}"))),
        },
        Err(No::Unfit(why)) => Err(Problem(StatusCode::CONFLICT, why)),
        Err(_) => Err(not_durable()),
    }
}
