//! The HTTP server.
//!
//! | route | answer |
//! |---|---|
//! | `GET /metrics` | the exposition; `collect[]=NAME`, repeated, picks collectors. 400 for a name that there is not, 503 when collecting takes too long |
//! | `GET /healthz` | 200 while it serves |
//! | `GET /` | a page with a link to the metrics |
//!
//! No authentication: nothing listens beyond loopback or the compose network. Other paths 404, other methods 405.

use axum::Router;
use axum::extract::{Query, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::get;
use http::header::{ACCEPT, CONTENT_TYPE, VARY};
use http::{HeaderMap, StatusCode};

use crate::collect::{Collector, Selection};
use crate::negotiate::negotiate;
use crate::scrape::Scraper;

#[derive(Clone, Debug)]
struct App {
    scraper: Scraper,
    enabled: Selection,
}

/// `enabled` are the collectors that may be asked for, and that answer when none is named.
pub fn app(scraper: Scraper, enabled: Selection) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/healthz", get(|| async { "ok\n" }))
        .route("/", get(landing))
        .with_state(App { scraper, enabled })
}

async fn metrics(State(app): State<App>, Query(query): Query<Vec<(String, String)>>, headers: HeaderMap) -> Response {
    let wanted = match selection(&query, app.enabled) {
        Ok(wanted) => wanted,
        Err(why) => return (StatusCode::BAD_REQUEST, why).into_response(),
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

/// The collectors named by `collect[]`, or all that are enabled. Other parameters are ignored, as in node_exporter.
fn selection(query: &[(String, String)], enabled: Selection) -> Result<Selection, String> {
    let mut wanted = Selection::NONE;
    for (_, name) in query.iter().filter(|(key, _)| key == "collect[]") {
        let found = Collector::ALL.iter().copied().find(|collector| collector.name() == name);
        match found {
            Some(collector) if enabled.contains(collector) => wanted = wanted.with(collector),
            Some(_) => return Err(format!("disabled collector: {name:?}\n")),
            None => {
                let names: Vec<&str> = enabled.iter().map(Collector::name).collect();
                return Err(format!("missing collector: {name:?}; there are {}\n", names.join(", ")));
            }
        }
    }
    Ok(if wanted == Selection::NONE { enabled } else { wanted })
}

async fn landing() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>Nexus exporter</title></head>\n\
         <body><h1>Nexus exporter</h1><p><a href=\"/metrics\">Metrics</a> of this host and its containers, \
         for Prometheus.</p></body></html>\n",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

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
}
