//! What the stack asks the reporter about itself; open to all, since it tells nothing of the machine.
//!
//! | Route | Answers |
//! |---|---|
//! | `GET /healthz` | 200 while the process serves |
//! | `GET /readyz` | 200: an absent database or Prometheus is what a report then tells, not a reason to be taken for ill |
//! | `GET /metrics` | 200, OpenMetrics |

use std::sync::Arc;

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text, metrics::info::Info, registry::Registry};

const OPENMETRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The registry of all the reporter's metrics.
pub fn registry() -> Registry {
    let mut registry = Registry::default();
    let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
    registry.register("nexus_reporter_build", "The reporter's version", version);
    registry
}

pub fn router(registry: Arc<Registry>) -> Router {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
        .route("/readyz", get(async || "ok\n"))
        .route("/metrics", get(metrics))
        .with_state(registry)
}

async fn metrics(State(registry): State<Arc<Registry>>) -> Response {
    let mut body = String::new();
    match text::encode(&mut body, &registry) {
        Ok(()) => ([(header::CONTENT_TYPE, OPENMETRICS)], body).into_response(),
        Err(std::fmt::Error) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::{Body, to_bytes};
    use axum::http::Request;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn it_tells_about_itself() {
        for (path, expected) in
            [("/healthz", "ok"), ("/readyz", "ok"), ("/metrics", "nexus_reporter_build_info{version=\"")]
        {
            let router = router(Arc::new(registry()));
            let answer = router.oneshot(Request::get(path).body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(answer.status(), 200, "{path}");
            let body = to_bytes(answer.into_body(), 65_536).await.unwrap();
            assert!(String::from_utf8_lossy(&body).contains(expected), "{path}");
        }
    }
}
