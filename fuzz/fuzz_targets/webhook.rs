//! What is posted to the healer, through its real routes and into a real journal. The input: whether it brings the token (one
//! byte), the body. What is kept must be what a second reading of the body finds in it, and nothing else.

#![no_main]

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::header::AUTHORIZATION;
use http::{HeaderValue, Method, Request, StatusCode};
use libfuzzer_sys::{Corpus, fuzz_target};
use nexus_docker::{Docker, Watcher};
use nexus_fuzz::scratch;
use nexus_healer::clock::Clock;
use nexus_healer::journal::{Change, Journal};
use nexus_healer::metrics::{Metrics, Parts};
use nexus_healer::modes::Switches;
use nexus_healer::pauses::Pauses;
use nexus_healer::policy::Policy;
use nexus_healer::server::{self, App, AppParts};
use nexus_healer::webhook::MAX_ALERTS;
use nexus_healer::worker::Outlook;
use nexus_model::api::PartStatus;
use nexus_model::labels::is_name;
use nexus_web::{Secret, Tokens};
use serde_json::Value;
use tokio::runtime::Runtime;
use tokio::sync::{Mutex, Notify, Semaphore, watch};
use tower::ServiceExt as _;

const HOST: &str = "pi";
const TOKEN: &str = "a-token-of-sixteen-bytes-or-more";

struct Healer {
    runtime: Runtime,
    router: Router,
    journal: Journal,
}

fn healer() -> &'static Healer {
    static HEALER: OnceLock<Healer> = OnceLock::new();
    HEALER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let (router, journal) = runtime.block_on(async { app() });
        Healer { runtime, router, journal }
    })
}

/// All that stands behind the webhook is its journal: Docker is away, and no worker takes up what is kept.
fn app() -> (Router, Journal) {
    let folder = scratch().keep();
    let secret = || Secret::from(TOKEN.to_owned());
    let (journal, thread) = Journal::open(&folder.join("journal.db")).expect("the journal can be made");
    std::mem::forget(thread);
    let part = || watch::channel(PartStatus { state: "off".to_owned(), reason: None }).1;
    let docker = Arc::new(Docker::connect(&folder.join("docker.sock"), Duration::from_secs(1)));
    let app = App(Arc::new(AppParts {
        host: HOST.to_owned(),
        stack: "nexus".to_owned(),
        journal: journal.clone(),
        watcher: Watcher::spawn(Arc::clone(&docker), "nexus".to_owned()),
        policy: watch::channel(Arc::new(Policy::default())).1,
        policy_status: part(),
        metrics: Arc::new(Metrics::new(Parts { postgres: false, alertmanager: false })),
        prompts: Arc::new(Notify::new()),
        switches: watch::Sender::new(Arc::new(Switches::default())),
        pauses: watch::Sender::new(Arc::new(Pauses::default())),
        switching: Arc::new(Mutex::new(())),
        asks: nexus_healer::asks::channel().0,
        clock: Clock::new(),
        docker,
        reading_logs: Arc::new(Semaphore::new(1)),
        outlook: watch::channel(Arc::new(Outlook::default())).1,
        postgres: part(),
        alertmanager: part(),
        scraped: watch::Sender::new(Clock::new().now()),
    }));
    (server::router(app, secret(), Tokens { act: secret(), read: None }), journal)
}

type Named = BTreeSet<(String, String)>;

/// The services that a body names, read in another way; `None` where that can't read it.
fn named(body: &[u8]) -> Option<Named> {
    let payload: Value = serde_json::from_slice(body).ok()?;
    let mut named = Named::new();
    for alert in payload["alerts"].as_array()? {
        let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
        let is_ours = ["", HOST].contains(&label("host").as_str()) && is_name(&label("alertname"));
        if alert["status"] != "firing" || !is_ours {
            continue;
        }
        match label("heal").as_str() {
            "restart" if label("project") != "_host" => _ = named.insert((label("project"), label("service"))),
            "prune" => _ = named.insert(("_host".to_owned(), "disk".to_owned())),
            "relieve" => _ = named.insert(("_host".to_owned(), "memory".to_owned())),
            _ => (),
        }
    }
    named.retain(|(project, service)| is_name(project) && is_name(service));
    Some(named)
}

fuzz_target!(init: healer(), |input: &[u8]| -> Corpus {
    let Some((mode, body)) = input.split_first() else { return Corpus::Reject };
    whatever_is_posted_is_refused_or_kept_as_it_says(body, mode & 7 != 0);
    Corpus::Keep
});

fn whatever_is_posted_is_refused_or_kept_as_it_says(body: &[u8], brings_token: bool) {
    let Healer { runtime, router, journal } = healer();
    let mut request = Request::new(Body::from(body.to_owned()));
    *request.method_mut() = Method::POST;
    *request.uri_mut() = server::WEBHOOK.parse().expect("a path");
    if brings_token {
        let bearer = HeaderValue::from_str(&format!("Bearer {TOKEN}")).expect("a header");
        request.headers_mut().insert(AUTHORIZATION, bearer);
    }
    let (status, kept) = runtime.block_on(async {
        let answer = router.clone().oneshot(request).await.expect("a router never fails");
        let kept = journal.read(|store| store.prompts()).await.expect("the journal can be read");
        // The next one finds it empty.
        if !kept.is_empty() {
            let done = kept.iter().cloned().map(Change::PromptDone).collect();
            journal.commit(done).await.expect("the journal can be written");
        }
        (answer.status(), kept)
    });
    let kept: Named = kept
        .into_iter()
        .map(|waiting| {
            assert!(is_name(&waiting.prompt.alert), "{:?}", waiting.prompt.alert);
            (waiting.prompt.project, waiting.prompt.service)
        })
        .collect();
    assert!(kept.len() <= MAX_ALERTS);
    match status {
        StatusCode::OK => assert_eq!(Some(&kept), named(body).as_ref().or(Some(&kept))),
        status => {
            assert_eq!(status, if brings_token { StatusCode::BAD_REQUEST } else { StatusCode::UNAUTHORIZED });
            assert_eq!(kept, Named::new());
        }
    }
}
