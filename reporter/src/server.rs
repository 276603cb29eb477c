//! The reporter's HTTP: the page for people, and the API for programs.
//!
//! | Route | Token | Answers |
//! |---|---|---|
//! | `GET /` | password | 200, how everything is, as a page; query `project` · 404 there is no such project |
//! | `GET /incidents` | password | 200, the newest incidents · 502 the healer can't be asked |
//! | `GET /incidents/{id}` | password | 200, the whole story of one · 404 · 502 |
//! | `GET /services/{project}/{service}` | password | 200, one service with its charts and incidents · 404 lists what exists · 502 |
//! | `GET /style.css`, `GET /icon.svg` | password | 200 |
//! | `GET /api/v1/openapi.json` | none | 200, the routes below as OpenAPI 3.1 |
//! | `GET /api/v1/status` | read | 200, the report that `nexus status --json` prints; query `project`, `since` · 400 · 404 |
//! | `GET /api/v1/charts` | read | 200, the series of the page; query `span` (day or week), `project` with `service` · 400 · 502 |
//! | `GET /api/v1/incidents` | read | as the healer answers it, or its copy in Postgres with a `note`; query `project`, `service`, `state`, `limit` · 400 · 502 |
//! | `GET /api/v1/incidents/{id}` | read | likewise · 400 · 404 · 502 |
//! | `GET /api/v1/services` | read | as the healer answers it · 502 |
//! | `GET /api/v1/services/{project}/{service}` | read | as the healer answers it · 502 |
//! | `GET /api/v1/services/{project}/{service}/history` | read | 200, how it did; query `from`, `to`, `step` (minutes) · 400 · 404 lists what exists · 502 |
//! | `GET /api/v1/baseline` | read | 200, what is usual; query `host`, `days` (7 to 366) · 400 · 404 lists the hosts · 502 |
//! | `GET /api/v1/capacity` | read | 200, what there is room for; query `host`, `machine` · 400 · 404 lists the hosts · 502 |
//! | `GET /api/v1/history` | read | 200, series; query `figures`, `host`, `mountpoint` or `project` and `service`, `from`, `to`, `resolution` (raw or hourly) or `step` (minutes) · 400 · 404 lists what exists · 502 |
//! | `GET /api/v1/query` | read | 200, what one SELECT gives; query `sql` · 400 what Postgres says of it · 429 · 502 |
//! | `GET /api/v1/schema` | read | 200, what can be asked about; query `table` · 400 lists the tables · 429 · 502 |
//! | `GET /api/v1/history/now` | read | 200, what `nexus status` compares with · 502 |
//! | `POST /api/v1/notify` | act | 200, the message is on its way · 400 · 409 Telegram is off · 502 nobody takes it |
//!
//! The password is that of the web configuration (`--web.config.file`), which stands in front of it all but `/api/` and what the
//! stack asks ([`crate::operations`]); without one there is none, and only the address that it listens on protects the page. The
//! token `act` is good for everything, `read` for `GET` alone. What is not a success carries `{"error": …}` in the API, and a page
//! with a sentence for people. No page changes anything, and none loads anything from elsewhere.

use std::{ops::Deref, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::DefaultBodyLimit,
    http::{HeaderValue, header},
    response::Response,
    routing::{MethodRouter, get, post},
};
use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use nexus_web::Tokens;

use crate::{
    api,
    cache::Cache,
    capacity::{self, Outlook},
    charts::{self, Span},
    database::Database,
    errors::chain,
    history::prometheus::Prometheus,
    incidents::{Filter, Told},
    notify::{INPUT_LIMIT, Notifier},
    page, recall,
    render::html::Drawn,
    report::facts::{Answer, Facts, History, INCIDENTS_ASKED},
    sources::{self, Sources, http::Part},
    sql::Reader,
};

/// What the handlers share.
#[derive(Clone)]
pub struct App(pub Arc<AppParts>);

pub struct AppParts {
    pub sources: Sources,
    /// `None` without an Alertmanager to send through.
    pub notifier: Option<Notifier>,
    /// Where the history is; `None` where none is kept.
    pub database: Option<Database>,
    /// Asks it as the role that may only read; `None` without its password.
    pub reader: Option<Reader>,
    /// For the last hour of a series; `None` where its address can't be one.
    pub prometheus: Option<Prometheus>,
    pub history: Cache<Option<Answer<History>>>,
    pub outlooks: Cache<Answer<Vec<Outlook>>>,
    pub facts: Cache<Facts>,
    pub day: Cache<Drawn>,
    pub week: Cache<Drawn>,
}

/// Facts are gathered anew after so long: several readers at once cost what one does.
const FACTS_AGE: SignedDuration = SignedDuration::from_secs(5);
/// What is usual at an hour changes with the hour; it is read from thirteen weeks.
const HISTORY_AGE: SignedDuration = SignedDuration::from_secs(300);
/// The outlooks rest on a year of days, and a day more changes little. They are made anew in the background, so that nobody waits
/// for a year to be gone through; who comes before the first are made does.
const OUTLOOKS_AGE: SignedDuration = SignedDuration::from_secs(3 * 3600);
const OUTLOOKS_EVERY: Duration = Duration::from_secs(3600);
const OUTLOOKS_RETRY: Duration = Duration::from_secs(60);
/// A report does not wait longer for Postgres; connecting and reading together take a fraction of a second.
const HISTORY_WITHIN: Duration = Duration::from_secs(5);
/// A chart of a day has a point for every ten minutes.
const CHARTS_AGE: SignedDuration = SignedDuration::from_secs(60);

impl Deref for App {
    type Target = AppParts;

    fn deref(&self) -> &AppParts {
        &self.0
    }
}

impl App {
    pub fn new(
        sources: Sources,
        notifier: Option<Notifier>,
        database: Option<Database>,
        reader: Option<Reader>,
    ) -> App {
        let prometheus = Prometheus::new(&sources.prometheus.base).ok();
        let (facts, day, week) = (Cache::new(FACTS_AGE), Cache::new(CHARTS_AGE), Cache::new(CHARTS_AGE));
        let (history, outlooks) = (Cache::new(HISTORY_AGE), Cache::new(OUTLOOKS_AGE));
        App(Arc::new(AppParts { sources, notifier, database, reader, prometheus, history, outlooks, facts, day, week }))
    }

    pub fn healer(&self) -> Result<&Part, String> {
        self.sources.healer.as_ref().map_err(Clone::clone)
    }

    pub async fn facts(&self, now: Timestamp) -> Arc<Facts> {
        let gather = async || {
            let (mut facts, history) = tokio::join!(sources::gather(&self.sources, now), self.history(now));
            facts.history = Option::clone(&history);
            if let (Err(why), None) = (&facts.healer, &facts.incidents) {
                let newest = Filter { limit: INCIDENTS_ASKED, ..Filter::default() };
                // Why there is no copy either the report needs not say: the healer is missed in any case.
                if let Ok(Told { told, note }) = self.copied(&format!("the healer {why}"), &newest).await {
                    (facts.incidents, facts.incidents_note) = (Some(told.incidents), note);
                }
            }
            facts
        };
        self.facts.get(now, gather).await
    }

    /// What the history says of this hour; `None` where none is kept.
    pub async fn history(&self, now: Timestamp) -> Arc<Option<Answer<History>>> {
        let ask = async || {
            let database = self.database.as_ref()?;
            let read = async {
                let client = database.connect().await.map_err(|error| chain(&error))?;
                let host = &self.sources.host;
                let history = recall::history(&client, host, now, &TimeZone::system()).await;
                let mut history = history.map_err(|error| chain(&error))?;
                let outlooks = async || capacity::outlooks(&client, host, now).await.map_err(|error| chain(&error));
                let outlooks = self.outlooks.get_while(now, outlooks, Result::is_ok).await;
                history.outlooks = Answer::clone(&outlooks)?;
                Ok(history)
            };
            let read = tokio::time::timeout(HISTORY_WITHIN, read).await;
            Some(read.unwrap_or_else(|_| Err(format!("postgres did not answer within {} s", HISTORY_WITHIN.as_secs()))))
        };
        // What failed may be well a moment later.
        self.history.get_while(now, ask, |answer| !matches!(answer, Some(Err(_)))).await
    }

    /// Makes the outlooks anew once an hour, for as long as the program runs.
    pub async fn keep_outlooks(self) {
        let Some(database) = &self.database else { return };
        let ask = async |now| {
            let client = database.connect().await.map_err(|error| chain(&error))?;
            capacity::outlooks(&client, &self.sources.host, now).await.map_err(|error| chain(&error))
        };
        loop {
            let now = Timestamp::now();
            let renewed = self.outlooks.renew(now, ask(now), Result::is_ok).await;
            tokio::time::sleep(if renewed { OUTLOOKS_EVERY } else { OUTLOOKS_RETRY }).await;
        }
    }

    pub async fn charts(&self, span: Span, now: Timestamp) -> Arc<Drawn> {
        let cache = match span {
            Span::Day => &self.day,
            Span::Week => &self.week,
        };
        cache.get(now, || charts::machine(&self.sources.prometheus, &self.sources.host, span, now)).await
    }
}

/// Paths for which the web configuration asks no password: they have tokens of their own, or tell nothing of the machine.
pub const OPEN: &[&str] = &["/healthz", "/readyz", "/metrics", "/api/*"];

pub fn router(app: App, tokens: Tokens) -> Router {
    let with = |router: Router<App>, (path, routes): (&str, MethodRouter<App>)| router.route(path, routes);
    let pages = page_routes().into_iter().fold(Router::new(), with);
    let pages = pages.layer(axum::middleware::map_response(strict)).with_state(app.clone());
    let api = api_routes().into_iter().fold(Router::new(), with);
    // A message as JSON, in which each byte of its text may be written as six.
    let api = api.layer(DefaultBodyLimit::max(6 * INPUT_LIMIT + 4096)).with_state(app.clone());
    let open = open_routes().into_iter().fold(Router::new(), with).with_state(app.clone());
    let api = nexus_web::require_scope(api, tokens, ONLY_READS);
    pages.merge(api).merge(open).fallback(move |uri| async move { strict(page::nothing(app, uri).await).await })
}

const ONLY_READS: &str = "this token may only read: acting takes the API token (secrets/cli/reporter_api_token)";

fn page_routes() -> [(&'static str, MethodRouter<App>); 7] {
    [
        ("/", get(page::status)),
        ("/incidents", get(page::incidents)),
        ("/incidents/{id}", get(page::incident)),
        ("/services/{project}/{service}", get(page::service)),
        ("/runbooks/{name}", get(page::runbook)),
        ("/style.css", get(page::style)),
        ("/icon.svg", get(page::icon)),
    ]
}

/// The routes that want a token.
pub fn api_routes() -> [(&'static str, MethodRouter<App>); 14] {
    [
        ("/api/v1/status", get(api::status)),
        ("/api/v1/charts", get(api::charts)),
        ("/api/v1/incidents", get(api::incidents::list)),
        ("/api/v1/incidents/{id}", get(api::incidents::one)),
        ("/api/v1/services", get(api::services)),
        ("/api/v1/services/{project}/{service}", get(api::service)),
        ("/api/v1/services/{project}/{service}/history", get(api::series::of_service)),
        ("/api/v1/baseline", get(api::history::baseline)),
        ("/api/v1/capacity", get(api::history::capacity)),
        ("/api/v1/history", get(api::series::series)),
        (sources::HISTORY_PATH, get(api::history::now)),
        ("/api/v1/query", get(api::query::query)),
        ("/api/v1/schema", get(api::query::schema)),
        ("/api/v1/notify", post(api::notify)),
    ]
}

/// Those of the API that want none.
pub fn open_routes() -> [(&'static str, MethodRouter<App>); 1] {
    [("/api/v1/openapi.json", get(api::openapi::document))]
}

/// What a browser may do with a page: show it with its own style, and nothing else. No script runs, whatever somebody gets into it.
async fn strict(mut answer: Response) -> Response {
    const HEADERS: [(header::HeaderName, &str); 5] = [
        (
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        ),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "no-referrer"),
        // Evidence is nobody else's, and a page of yesterday says what is not true.
        (header::CACHE_CONTROL, "no-store"),
    ];
    for (name, value) in HEADERS {
        answer.headers_mut().entry(name).or_insert(HeaderValue::from_static(value));
    }
    answer
}
