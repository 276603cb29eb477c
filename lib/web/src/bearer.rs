//! `Authorization: Bearer TOKEN` (RFC 6750).

use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::secret::Secret;

/// Lets a request to any route of `router` pass only with the token; others get 401 before anything of them is read.
pub fn require_bearer(router: Router, token: Secret) -> Router {
    router.layer(middleware::from_fn_with_state(token, check))
}

async fn check(State(token): State<Secret>, request: Request, next: Next) -> Response {
    let given = bearer_of(request.headers());
    if given.is_some_and(|given| token.matches(given)) {
        return next.run(request).await;
    }
    let challenge = [(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))];
    (StatusCode::UNAUTHORIZED, challenge, "a valid bearer token is required\n").into_response()
}

/// The token that a request brings, for who tells several apart.
pub fn bearer_of(headers: &HeaderMap) -> Option<&[u8]> {
    headers.get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(bearer)
}

fn bearer(header: &[u8]) -> Option<&[u8]> {
    let (scheme, token) = header.split_at_checked(7)?;
    scheme.eq_ignore_ascii_case(b"Bearer ").then(|| token.trim_ascii())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::routing::get;
    use proptest::prelude::*;
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn only_the_right_token_passes() {
        let app = require_bearer(Router::new().route("/", get(|| async { "in" })), Secret::from("abc".to_owned()));
        let check = async |header: Option<&str>, expected: StatusCode| {
            let mut request = Request::builder().uri("/");
            if let Some(header) = header {
                request = request.header(header::AUTHORIZATION, header);
            }
            let response = app.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
            assert_eq!(response.status(), expected, "{header:?}");
            assert_eq!(response.headers().contains_key(header::WWW_AUTHENTICATE), expected != StatusCode::OK);
        };
        check(Some("Bearer abc"), StatusCode::OK).await;
        check(Some("bearer abc"), StatusCode::OK).await;
        check(None, StatusCode::UNAUTHORIZED).await;
        check(Some("Bearer abcd"), StatusCode::UNAUTHORIZED).await;
        check(Some("Bearer ab"), StatusCode::UNAUTHORIZED).await;
        check(Some("Bearer "), StatusCode::UNAUTHORIZED).await;
        check(Some("Basic abc"), StatusCode::UNAUTHORIZED).await;
        check(Some("abc"), StatusCode::UNAUTHORIZED).await;
    }

    proptest! {
        #[test]
        fn never_panics_and_takes_the_token_whole(header in proptest::collection::vec(any::<u8>(), 0..40), token in "[!-~]{1,40}") {
            if let Some(found) = bearer(&header) {
                prop_assert!(header.len() >= 7 && header[7..].trim_ascii() == found);
            }
            let right = format!("bEaReR {token} ");
            prop_assert_eq!(bearer(right.as_bytes()), Some(token.as_bytes()));
            let without_space = format!("Bearer{token}");
            prop_assert_eq!(bearer(without_space.as_bytes()), None);
        }
    }
}
