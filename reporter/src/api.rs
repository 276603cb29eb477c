//! Handlers of the API. Routes and status codes are in [`crate::server`].

pub mod history;
pub mod incidents;
pub mod openapi;
pub mod query;
pub mod series;

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
use jiff::{SignedDuration, Timestamp};
use nexus_model::{
    api::{ApiError, ServiceList},
    control::ServiceDetail,
};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use uuid::Uuid;

use crate::{
    charts::{self, Span},
    notify::{Delivery, Message, MessageWanted, NotifyError},
    report::{Question, Report, Unit, judge},
    server::App,
    sources::http::segment,
};

/// What was healed in this time is told, unless the question names another.
const HEALED_SINCE: SignedDuration = SignedDuration::from_hours(24);

/// An answer that is not a success: the status and a sentence.
#[derive(Debug)]
pub struct Problem(pub StatusCode, pub String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(ApiError { error: self.1, reason: None })).into_response()
    }
}

fn bad(error: impl std::fmt::Display) -> Problem {
    Problem(StatusCode::BAD_REQUEST, error.to_string())
}

/// The query, with a sentence for what is wrong in it.
fn asked<T>(query: Result<Query<T>, QueryRejection>) -> Result<T, Problem> {
    query.map(|Query(query)| query).map_err(|error| Problem(StatusCode::BAD_REQUEST, error.body_text()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusQuery {
    project: Option<String>,
    since: Option<Timestamp>,
}

pub async fn status(
    State(app): State<App>,
    query: Result<Query<StatusQuery>, QueryRejection>,
) -> Result<Json<Report>, Problem> {
    let StatusQuery { project, since } = asked(query)?;
    let now = Timestamp::now();
    let since = since.or_else(|| now.checked_sub(HEALED_SINCE).ok()).unwrap_or(Timestamp::UNIX_EPOCH);
    let facts = app.facts(now).await;
    let report = judge(&facts, &Question { since, project });
    report.map(Json).map_err(|unknown| Problem(StatusCode::NOT_FOUND, unknown.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChartsQuery {
    span: Option<String>,
    project: Option<String>,
    service: Option<String>,
}

/// `GET /api/v1/charts`.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChartList {
    /// `day` or `week`.
    pub span: String,
    pub series: Vec<ChartSeries>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChartSeries {
    pub name: String,
    pub unit: Unit,
    /// Each with the seconds since 1970 and the value, null where it was not measured.
    pub points: Vec<ChartPoint>,
}

#[derive(Debug, Serialize, JsonSchema)]
#[schemars(deny_unknown_fields)]
pub struct ChartPoint {
    pub at: i64,
    pub value: Option<f64>,
}

pub async fn charts(
    State(app): State<App>,
    query: Result<Query<ChartsQuery>, QueryRejection>,
) -> Result<Json<ChartList>, Problem> {
    let ChartsQuery { span, project, service } = asked(query)?;
    let (span, name) = match span.as_deref() {
        None | Some("day") => (Span::Day, "day"),
        Some("week") => (Span::Week, "week"),
        Some(_) => return Err(bad("span must be day or week")),
    };
    let now = Timestamp::now();
    let drawn = match (project, service) {
        (None, None) => app.charts(span, now).await,
        (Some(project), Some(service)) => {
            let (prometheus, host) = (&app.sources.prometheus, &app.sources.host);
            charts::service(prometheus, host, &project, &service, span, now).await.into()
        }
        _ => return Err(bad("project and service belong together: give both, or none for the machine")),
    };
    let drawn = drawn.as_ref().as_ref().map_err(|why| Problem(StatusCode::BAD_GATEWAY, why.clone()))?;
    let finite = |value: Option<f64>| value.filter(|value| value.is_finite());
    let series = drawn.iter().map(|series| ChartSeries {
        name: series.name.clone(),
        unit: series.unit,
        points: series.points.iter().map(|(at, value)| ChartPoint { at: *at, value: finite(*value) }).collect(),
    });
    Ok(Json(ChartList { span: name.to_owned(), series: series.collect() }))
}

pub async fn services(State(app): State<App>) -> Result<Json<ServiceList>, Problem> {
    app.ask_healer("/api/v1/services", &[]).await
}

pub async fn service(
    State(app): State<App>,
    Path((project, service)): Path<(String, String)>,
) -> Result<Json<ServiceDetail>, Problem> {
    app.ask_healer(&format!("/api/v1/services/{}/{}", segment(&project), segment(&service)), &[]).await
}

pub async fn notify(State(app): State<App>, given: Result<Bytes, BytesRejection>) -> Result<Json<Delivery>, Problem> {
    let bytes = given.map_err(|error| Problem(error.status(), error.body_text()))?;
    let wanted: MessageWanted =
        serde_json::from_slice(&bytes).map_err(|error| bad(format!("the body is not understood: {error}")))?;
    let message = Message::new(wanted).map_err(bad)?;
    let gone = |why: String| Problem(StatusCode::BAD_GATEWAY, why);
    let notifier =
        app.notifier.as_ref().ok_or_else(|| gone("no --alertmanager.url: nothing can be sent".to_owned()))?;
    match notifier.deliver(&message, Uuid::now_v7(), Timestamp::now()).await {
        Ok(delivery) => Ok(Json(delivery)),
        Err(error @ NotifyError::Off) => Err(Problem(StatusCode::CONFLICT, error.to_string())),
        Err(error) => Err(gone(crate::errors::chain(&error))),
    }
}

impl App {
    /// The healer's answer as it is. What it says of a request is told with its status, whatever else is wrong with it as ours.
    async fn ask_healer<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<Json<T>, Problem> {
        let healer = self.healer().map_err(|why| Problem(StatusCode::BAD_GATEWAY, why))?;
        healer.get(path, query).await.map(Json).map_err(|error| {
            let status = match error.status() {
                Some(400) => StatusCode::BAD_REQUEST,
                Some(404) => StatusCode::NOT_FOUND,
                _ => StatusCode::BAD_GATEWAY,
            };
            Problem(status, error.to_string())
        })
    }
}
