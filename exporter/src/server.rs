//! The HTTP server.
//!
//! | route | answer |
//! |---|---|
//! | `GET /metrics` | the exposition; `collect[]=NAME`, repeated, picks collectors, `exclude[]=NAME` leaves some out. 400 for both together and for a name that there is not, 503 when collecting takes too long or too many ask at once. `--web.telemetry-path` moves it |
//! | `GET /healthz` | 200 while it serves |
//! | `GET /` | a page with the version and links to both, unless the metrics are there |
//!
//! Other paths 404, other methods 405. With `--web.config.file` all but `/healthz` is behind what that file asks for (401
//! without a right password, 429 beyond its rate limit); without it nothing is, for loopback and the compose network.

use std::sync::Arc;

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};
use tokio::sync::Semaphore;

use crate::collect::{Collector, Selection};
use crate::config::HEALTH_PATH;
use crate::negotiate::negotiate;
use crate::scrape::Scraper;

#[derive(Clone, Debug)]
struct App {
    scraper: Scraper,
    enabled: Selection,
    /// One for each scrape that may be under way.
    places: Arc<Semaphore>,
    max_requests: u16,
}

/// `enabled` are the collectors that may be asked for, and that answer when none is named. The metrics are at
/// `telemetry_path`, for `max_requests` at once (0: any number).
pub fn app(scraper: Scraper, enabled: Selection, telemetry_path: &str, max_requests: u16) -> Router {
    let places = if max_requests == 0 { Semaphore::MAX_PERMITS } else { max_requests.into() };
    let app = App { scraper, enabled, places: Arc::new(Semaphore::new(places)), max_requests };
    let router = Router::new().route(telemetry_path, get(metrics)).route(HEALTH_PATH, get(|| async { "ok\n" }));
    let router = if telemetry_path == "/" {
        router
    } else {
        let page = landing(telemetry_path);
        router.route("/", get(|| async { Html(page) }))
    };
    router.with_state(app)
}

async fn metrics(State(app): State<App>, Query(query): Query<Vec<(String, String)>>, headers: HeaderMap) -> Response {
    let wanted = match selection(&query, app.enabled) {
        Ok(wanted) => wanted,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
    };
    let Ok(_place) = app.places.try_acquire() else {
        let why = format!("{} scrapes are under way already, try again later\n", app.max_requests);
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let accept: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let format = negotiate(&accept.join(","));
    match app.scraper.scrape(wanted, format).await {
        Ok(body) => ([(CONTENT_TYPE, format.content_type()), (VARY, "Accept")], body).into_response(),
        Err(error) => {
            tracing::warn!(reason = %error, "scrape not answered");
            (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response()
        }
    }
}

/// The collectors named by `collect[]`, all that are enabled but those named by `exclude[]`, or all that are enabled.
/// Other parameters are ignored, as in node_exporter.
fn selection(query: &[(String, String)], enabled: Selection) -> Result<Selection, String> {
    let named =
        |wanted: &'static str| query.iter().filter(move |(key, _)| key == wanted).map(|(_, name)| name.as_str());
    let find = |name: &str| {
        Collector::ALL.iter().copied().find(|collector| collector.name() == name).ok_or_else(|| {
            let names: Vec<&str> = enabled.iter().map(Collector::name).collect();
            format!("missing collector: {name:?}; there are {}\n", names.join(", "))
        })
    };
    match (named("collect[]").next().is_some(), named("exclude[]").next().is_some()) {
        (true, true) => Err("collect[] and exclude[] can't be combined\n".to_owned()),
        (true, false) => named("collect[]").try_fold(Selection::NONE, |wanted, name| match find(name)? {
            collector if enabled.contains(collector) => Ok(wanted.with(collector)),
            _ => Err(format!("disabled collector: {name:?}\n")),
        }),
        // One that is disabled is left out already: the same scrape configuration serves hosts that differ.
        (false, _) => named("exclude[]").try_fold(enabled, |wanted, name| Ok(wanted.without(find(name)?))),
    }
}

/// No script and no style, so that any Content-Security-Policy lets it pass.
fn landing(telemetry_path: &str) -> String {
    format!(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Nexus exporter</title></head>\n\
         <body><h1>Nexus exporter</h1><p>Version {}. Vitals of this host and of its containers, for Prometheus.</p>\n\
         <ul><li><a href=\"{telemetry_path}\">Metrics</a></li><li><a href=\"{HEALTH_PATH}\">Health</a></li></ul>\
         </body></html>\n",
        env!("CARGO_PKG_VERSION")
    )
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;
    use crate::collect::{Calls, DockerState, Roots};
    use crate::config::Config;
    use crate::gather::Gatherer;
    use crate::settings::Settings;

    /// The router panics on two routes that are the same to it, and on what it takes for a pattern.
    #[test]
    fn each_path_that_the_flag_takes_makes_a_server() {
        let nowhere = PathBuf::new;
        let roots = Roots { procfs: nowhere(), sysfs: nowhere(), rootfs: nowhere(), udev_data: nowhere() };
        let gatherer = Gatherer::new(roots, Settings::defaults(), Calls::REAL, Box::new(DockerState::default));
        let (scraper, _) = Scraper::start(gatherer, None).unwrap();
        proptest!(|(path in "/{1,2}[a-z.~/:*{}-]{0,12}|/[ -~]{0,12}")| {
            if let Ok(config) = Config::parse(["nexus-exporter", &format!("--web.telemetry-path={path}")]) {
                prop_assert_eq!(&config.telemetry_path, &path);
                _ = app(scraper.clone(), Selection::NONE, &path, 0);
            }
        });
    }

    proptest! {
        #[test]
        fn queries_never_panic_and_name_what_is_enabled(
            pairs in proptest::collection::vec(("(collect|exclude)\\[\\]|.{0,9}", "cpu|time|gpu|netdev|.{0,9}"), 0..6)
        ) {
            let enabled = Selection::NONE.with(Collector::Cpu).with(Collector::Time);
            match selection(&pairs, enabled) {
                Ok(picked) => prop_assert!(picked.iter().all(|collector| enabled.contains(collector))),
                // It is answered as a line of text.
                Err(why) => prop_assert_eq!(why.find('\n'), Some(why.len() - 1)),
            }
        }
    }

    #[test]
    fn collect_selects_and_refuses_what_there_is_not() {
        let enabled = Selection::all().without(Collector::Netdev);
        let pick = |names: &[&str]| {
            let query: Vec<_> = names.iter().map(|name| ("collect[]".to_owned(), (*name).to_owned())).collect();
            selection(&query, enabled)
        };
        assert_eq!(pick(&[]), Ok(enabled));
        assert_eq!(pick(&["cpu", "time", "cpu"]), Ok(Selection::NONE.with(Collector::Cpu).with(Collector::Time)));
        assert_eq!(pick(&["netdev"]), Err("disabled collector: \"netdev\"\n".to_owned()));
        let refused = pick(&["cpu", "gpu"]).unwrap_err();
        assert!(refused.starts_with("missing collector: \"gpu\"; there are cpu, loadavg, "), "{refused}");
        assert_eq!(selection(&[("other".to_owned(), "x".to_owned())], enabled), Ok(enabled));
    }

    #[test]
    fn exclude_leaves_out_and_is_not_combined() {
        let enabled = Selection::NONE.with(Collector::Cpu).with(Collector::Time);
        let pick = |pairs: &[(&str, &str)]| {
            let query: Vec<_> = pairs.iter().map(|(key, name)| ((*key).to_owned(), (*name).to_owned())).collect();
            selection(&query, enabled)
        };
        let exclude = "exclude[]";
        assert_eq!(pick(&[(exclude, "time")]), Ok(Selection::NONE.with(Collector::Cpu)));
        assert_eq!(pick(&[(exclude, "time"), (exclude, "netdev")]), Ok(Selection::NONE.with(Collector::Cpu)));
        // Of nothing nothing is collected, not everything.
        assert_eq!(pick(&[(exclude, "time"), (exclude, "cpu")]), Ok(Selection::NONE));
        assert!(pick(&[(exclude, "gpu")]).unwrap_err().starts_with("missing collector: \"gpu\""));
        let both = pick(&[(exclude, "time"), ("collect[]", "cpu")]);
        assert_eq!(both, Err("collect[] and exclude[] can't be combined\n".to_owned()));
    }
}
