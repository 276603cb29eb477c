//! Handlers of the pages. Routes and status codes are in [`crate::server`].

use axum::{
    extract::{Path, Query, State},
    http::{StatusCode, Uri, header},
    response::{Html, IntoResponse, Response},
};
use jiff::{SignedDuration, Timestamp};
use nexus_model::{api::IncidentList, control::ServiceDetail};
use serde::Deserialize;
use uuid::Uuid;

use crate::{
    api::Problem,
    charts::{self, Span},
    incidents::{Filter, Told},
    render::html,
    report::{Question, judge},
    runbooks,
    server::App,
    sources::http::{HttpError, segment},
};

/// Incidents on one page.
const INCIDENTS: usize = 100;
/// On a service's page.
const LAST_INCIDENTS: &str = "10";
/// What was healed in this time stands on the first page.
const HEALED_SINCE: SignedDuration = SignedDuration::from_hours(24);

/// A page that could not be made: the status, what a reader is told, and why.
pub struct Trouble {
    host: String,
    status: StatusCode,
    why: String,
}

impl IntoResponse for Trouble {
    fn into_response(self) -> Response {
        let title = match self.status {
            StatusCode::NOT_FOUND => "There is no such thing",
            StatusCode::BAD_REQUEST => "That is not understood",
            _ => "That can't be said just now",
        };
        (self.status, Html(html::problem(&self.host, title, &self.why))).into_response()
    }
}

impl App {
    fn trouble(&self, status: StatusCode, why: impl Into<String>) -> Trouble {
        Trouble { host: self.sources.host.clone(), status, why: why.into() }
    }

    fn of(&self, Problem(status, why): Problem) -> Trouble {
        self.trouble(status, why)
    }

    /// What the healer says is not there is not there; all else is its trouble.
    fn of_healer(&self, error: HttpError) -> Trouble {
        let status = match error.status() {
            Some(404) => StatusCode::NOT_FOUND,
            _ => StatusCode::BAD_GATEWAY,
        };
        self.trouble(status, error.to_string())
    }

    async fn ask<T: serde::de::DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, Trouble> {
        let healer = self.healer().map_err(|why| self.trouble(StatusCode::BAD_GATEWAY, why))?;
        healer.get(path, query).await.map_err(|error| self.of_healer(error))
    }
}

#[derive(Deserialize)]
pub struct Asked {
    project: Option<String>,
}

pub async fn status(State(app): State<App>, Query(asked): Query<Asked>) -> Result<Html<String>, Trouble> {
    let now = Timestamp::now();
    let (facts, day, week) = tokio::join!(app.facts(now), app.charts(Span::Day, now), app.charts(Span::Week, now));
    let since = now.checked_sub(HEALED_SINCE).unwrap_or(Timestamp::UNIX_EPOCH);
    let report = judge(&facts, &Question { since, project: asked.project })
        .map_err(|unknown| app.trouble(StatusCode::NOT_FOUND, unknown.to_string()))?;
    Ok(Html(html::status(&report, &day, &week)))
}

pub async fn incidents(State(app): State<App>) -> Result<Html<String>, Trouble> {
    // One more than are shown tells whether there are more.
    let limit = INCIDENTS as u32 + 1;
    let told = app.incidents(&Filter { limit, ..Filter::default() }).await.map_err(|problem| app.of(problem))?;
    let Told { told: mut list, note } = told;
    let complete = list.incidents.len() <= INCIDENTS;
    list.incidents.truncate(INCIDENTS);
    Ok(Html(html::incidents(&app.sources.host, &list.incidents, complete, note.as_deref(), Timestamp::now())))
}

pub async fn incident(State(app): State<App>, Path(id): Path<String>) -> Result<Html<String>, Trouble> {
    let id: Uuid = id.parse().map_err(|_| app.trouble(StatusCode::NOT_FOUND, "No incident has such an id."))?;
    let Told { told, note } = app.incident(id).await.map_err(|problem| app.of(problem))?;
    Ok(Html(html::incident(&app.sources.host, &told, note.as_deref(), Timestamp::now())))
}

pub async fn service(
    State(app): State<App>,
    Path((project, service)): Path<(String, String)>,
) -> Result<Html<String>, Trouble> {
    let now = Timestamp::now();
    let path = format!("/api/v1/services/{}/{}", segment(&project), segment(&service));
    let detail: ServiceDetail = app.ask(&path, &[]).await?;
    let query = [("project", &*project), ("service", &*service), ("limit", LAST_INCIDENTS)];
    let (drawn, last) = tokio::join!(
        charts::service(&app.sources.prometheus, &app.sources.host, &project, &service, Span::Day, now),
        app.ask::<IncidentList>("/api/v1/incidents", &query),
    );
    Ok(Html(html::service(&app.sources.host, &detail, &drawn, &last?.incidents, now)))
}

pub async fn runbook(State(app): State<App>, Path(name): Path<String>) -> Result<Html<String>, Trouble> {
    let page = runbooks::html(&name).map(|body| html::runbook(&app.sources.host, &name, body));
    page.map(Html).ok_or_else(|| app.trouble(StatusCode::NOT_FOUND, "No alert of this version is called so."))
}

pub async fn style() -> Response {
    fixed("text/css; charset=utf-8", html::STYLE)
}

pub async fn icon() -> Response {
    fixed("image/svg+xml", html::ICON)
}

/// The same until the next version.
fn fixed(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "max-age=300")], text).into_response()
}

/// Any other address.
pub async fn nothing(app: App, uri: Uri) -> Response {
    const WHY: &str = "no such route: the reporter may be of another version, run ./nexus up";
    if uri.path().starts_with("/api/") {
        return crate::api::Problem(StatusCode::NOT_FOUND, WHY.to_owned()).into_response();
    }
    app.trouble(StatusCode::NOT_FOUND, "There is no page at this address.").into_response()
}
