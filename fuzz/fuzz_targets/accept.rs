//! What a client may say to the server: the first line of the input is the query of `/metrics`, the second the Accept header.

#![no_main]

use std::path::PathBuf;
use std::sync::OnceLock;

use axum::Router;
use axum::body::Body;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderValue, Request, StatusCode, Uri};
use libfuzzer_sys::{Corpus, fuzz_target};
use nexus_exporter::collect::{Calls, Collector, DockerState, Roots, Selection};
use nexus_exporter::gather::Gatherer;
use nexus_exporter::negotiate::negotiate;
use nexus_exporter::scrape::Scraper;
use nexus_exporter::server;
use nexus_exporter::settings::Settings;
use tokio::runtime::Runtime;
use tower::ServiceExt as _;

/// The real server over collectors that find nothing.
fn server() -> &'static (Runtime, Router) {
    static SERVER: OnceLock<(Runtime, Router)> = OnceLock::new();
    SERVER.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        let nowhere = || PathBuf::from("/nonexistent");
        let roots = Roots { procfs: nowhere(), sysfs: nowhere(), rootfs: nowhere(), udev_data: nowhere() };
        let gatherer = Gatherer::new(roots, Settings::defaults(), Calls::REAL, Box::new(DockerState::default));
        let (scraper, _) = Scraper::start(gatherer, None).expect("the thread starts");
        // Few, so that a scrape of all of them is quick; one is switched off.
        let enabled = [Collector::Loadavg, Collector::Time, Collector::Entropy];
        let enabled = enabled.into_iter().fold(Selection::NONE, Selection::with);
        (runtime, server::app(scraper, enabled, "/metrics", 0))
    })
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some(cut) = input.iter().position(|byte| *byte == b'\n') else { return Corpus::Reject };
    let (query, accept) = (&input[..cut], &input[cut + 1..]);
    let target = [b"/metrics?", query].concat();
    let (Ok(uri), Ok(header)) = (Uri::try_from(target.as_slice()), HeaderValue::from_bytes(accept)) else {
        return Corpus::Reject;
    };
    let format = negotiate(header.to_str().unwrap_or_default());
    let mut request = Request::new(Body::empty());
    *request.uri_mut() = uri;
    request.headers_mut().insert(ACCEPT, header);
    let (runtime, app) = server();
    let answer = runtime.block_on(app.clone().oneshot(request)).expect("a router never fails");
    match answer.status() {
        StatusCode::OK => {
            let given = answer.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            assert_eq!(given, Some(format.content_type()));
        }
        status => assert_eq!(status, StatusCode::BAD_REQUEST),
    }
    Corpus::Keep
});
