//! The healer's HTTP. It serves no pages.
//!
//! | Route | Token | Answers |
//! |---|---|---|
//! | `POST /webhook` | webhook | 200 when it is in the journal · 400 malformed · 401 · 405 · 413 above 4 MiB · 503 the journal can't keep it |
//! | `GET /healthz` | none | 200 while the process serves |
//! | `GET /readyz` | none | 200 · 503 when the journal can't be written or its disk hangs |
//! | `GET /metrics` | none | 200, OpenMetrics; that Prometheus comes for it is noticed, see [`crate::scrapes`] |
//! | `GET /api/v1/openapi.json` | none | 200, this table and all types as OpenAPI 3.1: the same for every installation |
//! | `GET /api/v1/incidents` | read | 200, newest first; query `project`, `service`, `state`, `limit` (≤ 1000) · 400 |
//! | `GET /api/v1/incidents/{id}` | read | 200 with attempts, evidence and events · 400 · 404 |
//! | `POST /api/v1/incidents/{id}/ack` | act | 200 with the incident · 400 · 404 · 409 nobody is told of it · 503 |
//! | `GET /api/v1/services` | read | 200, what Docker shows now · 503 while Docker has not answered |
//! | `GET /api/v1/services/{project}/{service}` | read | 200, how it is and why · 404 lists what exists · 503 |
//! | `GET /api/v1/services/{project}/{service}/logs` | read | 200; query `tail` (≤ 1000), `since`, `container` · 400 · 404 · 503 |
//! | `POST /api/v1/services/{project}/{service}/heal` | act | 202 with the incident · 400 · 404 · 409 with the reason · 503 |
//! | `PUT /api/v1/heal` | act | 200 with the affected services · 400 · 404 lists what exists · 503 |
//! | `GET /api/v1/pauses` | read | 200, those that hold |
//! | `PUT /api/v1/pauses` | act | 200 with all that hold · 400 · 404 lists what exists · 409 too many · 503 |
//! | `DELETE /api/v1/pauses` | act | 200 with those left; query `project`, `service` · 400 · 404 lists what is paused · 503 |
//! | `POST /api/v1/journal/copy` | act | 200, the journal in a file of SQLite, for a backup · 503 |
//! | `GET /api/v1/plan` | read | 200, what it would do now; query `project`, `service` · 400 · 404 · 503 |
//! | `GET /api/v1/policy/explain` | read | 200, what holds for a service; query `project`, `service` · 400 · 404 lists what exists · 503 |
//! | `GET /api/v1/shadow` | read | 200, what healing would have done for what is only watched; query `since`, `project`, `service` · 400 |
//! | `GET /api/v1/selftest/{nonce}` | read | 200 · 404 not received (yet) |
//! | `GET /api/v1/status` | read | 200, the healer about itself |
//!
//! The token `act` is good for everything, `read` for `GET` alone: with it the others answer 403. API answers are the types of
//! `nexus_model::api` and `nexus_model::control`; what is not a success carries `{"error": …}`, but for 401, 405 and the 503
//! of a request that took too long, which are answered before a handler has its say.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, Request, State},
    http::{HeaderMap, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::{MethodRouter, get, post, put},
};
use nexus_docker::{Docker, Watcher};
use nexus_model::{
    Now, ServiceKey,
    api::{ApiError, PartStatus},
};
use nexus_web::{Secret, Tokens, require_bearer, require_scope};
use tokio::sync::{Mutex, Notify, Semaphore, watch};

use crate::{
    api,
    asks::Asks,
    clock::Clock,
    explain,
    journal::{Journal, JournalError},
    metrics::Metrics,
    modes::Switches,
    pauses::Pauses,
    policy::Policy,
    scrapes, webhook,
    worker::Outlook,
};

/// What the handlers share.
#[derive(Clone)]
pub struct App(pub Arc<AppParts>);

pub struct AppParts {
    pub host: String,
    pub stack: String,
    pub journal: Journal,
    pub watcher: Watcher,
    pub policy: watch::Receiver<Arc<Policy>>,
    /// Whether it is the one in the file.
    pub policy_status: watch::Receiver<PartStatus>,
    pub metrics: Arc<Metrics>,
    /// When Prometheus came last.
    pub scraped: watch::Sender<Now>,
    /// Tells the worker that prompts wait in the journal.
    pub prompts: Arc<Notify>,
    pub switches: watch::Sender<Arc<Switches>>,
    pub pauses: watch::Sender<Arc<Pauses>>,
    /// One change of switches or pauses at a time, so that memory and journal agree.
    pub switching: Arc<Mutex<()>>,
    /// To ask the worker.
    pub asks: Asks,
    pub clock: Clock,
    /// Asked for logs, and for nothing else from here.
    pub docker: Arc<Docker>,
    pub reading_logs: Arc<Semaphore>,
    /// The worker's open incidents.
    pub outlook: watch::Receiver<Arc<Outlook>>,
    pub postgres: watch::Receiver<PartStatus>,
    pub alertmanager: watch::Receiver<PartStatus>,
}

impl Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl App {
    pub fn is_own(&self, key: &ServiceKey) -> bool {
        key.project == self.stack
    }
}

pub fn router(app: App, webhook_token: Secret, tokens: Tokens) -> Router {
    let webhook = Router::new()
        .route(WEBHOOK, post(webhook::receive))
        .layer(DefaultBodyLimit::max(webhook::MAX_BODY))
        .layer(middleware::from_fn(announced))
        .with_state(app.clone());
    let counted =
        require_bearer(webhook, webhook_token).layer(middleware::from_fn_with_state(Arc::clone(&app.metrics), count));
    let with = |router: Router<App>, (path, routes): (&str, MethodRouter<App>)| router.route(path, routes);
    let api = api_routes().into_iter().fold(Router::new(), with);
    let api = api.layer(DefaultBodyLimit::max(16 * 1024)).with_state(app.clone());
    let open = open_routes().into_iter().fold(Router::new(), with).with_state(app);
    counted
        .merge(require_scope(api, tokens, ONLY_READS))
        .merge(open)
        .fallback(|| async { Problem(StatusCode::NOT_FOUND, NO_SUCH_ROUTE.to_owned()) })
}

/// The route of Alertmanager, with a token of its own.
pub const WEBHOOK: &str = "/webhook";

/// The routes that want a token of the API.
pub fn api_routes() -> [(&'static str, MethodRouter<App>); 15] {
    [
        ("/api/v1/incidents", get(api::incidents)),
        ("/api/v1/incidents/{id}", get(api::incident)),
        ("/api/v1/incidents/{id}/ack", post(api::acknowledge::acknowledge)),
        ("/api/v1/services", get(api::services)),
        ("/api/v1/services/{project}/{service}", get(api::service::detail)),
        ("/api/v1/services/{project}/{service}/logs", get(api::logs::logs)),
        ("/api/v1/services/{project}/{service}/heal", post(api::service::heal_now)),
        ("/api/v1/heal", put(api::heal)),
        ("/api/v1/pauses", get(api::pauses::list).put(api::pauses::set).delete(api::pauses::lift)),
        ("/api/v1/journal/copy", post(api::journal::copy)),
        ("/api/v1/plan", get(api::plan::plan)),
        ("/api/v1/policy/explain", get(explain::policy)),
        ("/api/v1/shadow", get(api::shadow::record)),
        ("/api/v1/selftest/{nonce}", get(api::selftest)),
        ("/api/v1/status", get(api::status)),
    ]
}

/// The routes that want none.
pub fn open_routes() -> [(&'static str, MethodRouter<App>); 4] {
    [
        ("/healthz", get(|| async { "ok\n" })),
        ("/readyz", get(readyz)),
        ("/metrics", get(metrics)),
        ("/api/v1/openapi.json", get(api::openapi::document)),
    ]
}

const ONLY_READS: &str = "this token may only read: acting takes the API token (secrets/cli/healer_api_token)";

/// The command line shows it as it is; this repository's own asks for what its healer has.
const NO_SUCH_ROUTE: &str = "no such route: the healer may be of another version, run ./nexus up";

/// An answer that is not a success: the status and a sentence.
#[derive(Debug)]
pub struct Problem(pub StatusCode, pub String);

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.0, Json(ApiError { error: self.1, reason: None })).into_response()
    }
}

/// Turns away a body whose announced length is too large, without waiting for it.
async fn announced(request: Request, next: Next) -> Response {
    let length = request.headers().get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    if length.is_some_and(|length: u64| length > webhook::MAX_BODY as u64) {
        return Problem(StatusCode::PAYLOAD_TOO_LARGE, format!("at most {} bytes", webhook::MAX_BODY)).into_response();
    }
    next.run(request).await
}

async fn count(State(metrics): State<Arc<Metrics>>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    metrics.webhook_answered(response.status().as_u16());
    response
}

async fn readyz(State(app): State<App>) -> Response {
    let unready = |why: String| (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")).into_response();
    match tokio::time::timeout(JOURNAL_TIMEOUT, app.journal.probe()).await {
        Ok(Ok(())) => "ready\n".into_response(),
        Ok(Err(error)) => unready(crate::evidence::chain(&error)),
        Err(_) => unready(format!("the journal does not answer within {} s", JOURNAL_TIMEOUT.as_secs())),
    }
}

/// How long a scrape and the health check wait for the journal: well below the time-outs of Prometheus and Docker.
const JOURNAL_TIMEOUT: Duration = Duration::from_secs(2);

async fn metrics(State(app): State<App>, headers: HeaderMap) -> Response {
    let agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    if scrapes::is_prometheus(agent) {
        app.scraped.send_replace(app.clock.now());
    }
    app.metrics.show_paused(&app.pauses.borrow().holding(&app.clock.now()));
    app.metrics.docker_up.set(app.watcher.snapshot().up.into());
    // A disk that hangs must not hide that it does: what does not answer can't be written either.
    let pending = tokio::time::timeout(JOURNAL_TIMEOUT, app.journal.read(|store| store.pending_count())).await;
    match pending.unwrap_or(Err(JournalError::Full)) {
        Ok(pending) => {
            app.metrics.journal_writable.set(app.journal.is_writable().into());
            app.metrics.pending_rows.set(i64::try_from(pending).unwrap_or(i64::MAX));
        }
        Err(error) => {
            app.metrics.journal_writable.set(0);
            tracing::warn!(reason = %crate::evidence::chain(&error), "counting what waits to be copied");
        }
    }
    match app.metrics.encode() {
        Ok(text) => {
            const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, OPENMETRICS)], text).into_response()
        }
        Err(error) => Problem(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::metrics::Parts;

    /// One whose journal is closed: every handler has an answer, and none of them is about what is in it.
    pub(crate) fn app_without_journal() -> App {
        let folder = tempfile::tempdir().unwrap();
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        drop(thread);
        app(&journal)
    }

    fn app(journal: &Journal) -> App {
        let part = PartStatus { state: "off".to_owned(), reason: None };
        let docker = Arc::new(Docker::connect(std::path::Path::new("/nowhere/docker.sock"), Duration::from_secs(1)));
        App(Arc::new(AppParts {
            host: "pi".to_owned(),
            stack: "nexus".to_owned(),
            journal: journal.clone(),
            watcher: Watcher::spawn(Arc::clone(&docker), "nexus".to_owned()),
            policy: watch::channel(Arc::new(Policy::default())).1,
            policy_status: watch::channel(part.clone()).1,
            metrics: Arc::new(Metrics::new(Parts { postgres: false, alertmanager: false })),
            scraped: watch::Sender::new(Clock::new().now()),
            prompts: Arc::new(Notify::new()),
            switches: watch::Sender::new(Arc::new(Switches::default())),
            pauses: watch::Sender::new(Arc::new(Pauses::default())),
            switching: Arc::new(Mutex::new(())),
            asks: crate::asks::channel().0,
            clock: Clock::new(),
            docker,
            reading_logs: Arc::new(Semaphore::new(1)),
            outlook: watch::Sender::new(Arc::new(Outlook::default())).subscribe(),
            postgres: watch::Sender::new(part.clone()).subscribe(),
            alertmanager: watch::Sender::new(part).subscribe(),
        }))
    }

    #[tokio::test]
    async fn a_scrape_of_prometheus_is_noticed_and_nobody_elses() {
        let app = app_without_journal();
        let long_ago = Now { boottime: jiff::SignedDuration::ZERO, ..app.clock.now() };
        for (agent, expected) in [(None, false), (Some("curl/8.14.1"), false), (Some("Prometheus/2.53.3"), true)] {
            app.scraped.send_replace(long_ago.clone());
            let agent = agent.map(|agent| (header::USER_AGENT, axum::http::HeaderValue::from_static(agent)));
            metrics(State(app.clone()), agent.into_iter().collect()).await;
            assert_eq!(*app.scraped.borrow() != long_ago, expected);
        }
    }

    #[tokio::test]
    async fn a_disk_that_hangs_is_not_ready_and_not_writable() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        let app = app(&journal);
        assert_eq!(readyz(State(app.clone())).await.status(), StatusCode::OK);
        metrics(State(app.clone()), HeaderMap::new()).await;
        assert_eq!(app.metrics.journal_writable.get(), 1);

        // The thread is held up, as in a write that does not come back.
        let (release, held) = std::sync::mpsc::channel::<()>();
        let holding = journal.clone();
        let hold = tokio::spawn(async move {
            let until_released = move |_: &crate::journal::Store| {
                _ = held.recv();
                Ok(())
            };
            holding.read(until_released).await
        });
        tokio::task::yield_now().await;
        assert_eq!(readyz(State(app.clone())).await.status(), StatusCode::SERVICE_UNAVAILABLE);
        metrics(State(app.clone()), HeaderMap::new()).await;
        assert_eq!(app.metrics.journal_writable.get(), 0);

        release.send(()).unwrap();
        hold.await.unwrap().unwrap();
        assert_eq!(readyz(State(app.clone())).await.status(), StatusCode::OK);
        metrics(State(app), HeaderMap::new()).await;
        thread.close().await;
    }
}
