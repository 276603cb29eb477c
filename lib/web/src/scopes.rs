//! Who may do what over an API: one token reads, the other one acts as well.
//!
//! What a request needs is told by its method: `GET` and `HEAD` read, everything else acts. So no route can be forgotten.

use axum::{
    Json, Router,
    extract::{Request, State},
    middleware::{self, Next},
    response::{IntoResponse, Response},
};
use http::{Method, StatusCode, header};
use serde::Serialize;

use crate::{bearer::bearer_of, secret::Secret};

/// The tokens of an API.
#[derive(Clone, Debug)]
pub struct Tokens {
    /// For everything.
    pub act: Secret,
    /// For reading only. Without one there is no such token, and nothing else changes.
    pub read: Option<Secret>,
}

/// What a token is good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Scope {
    Read,
    Act,
}

impl Tokens {
    /// Compares with both in any case: the time that it takes does not tell which one a guess came near to.
    fn scope(&self, given: &[u8]) -> Option<Scope> {
        let acts = self.act.matches(given);
        let reads = self.read.as_ref().is_some_and(|read| read.matches(given));
        if acts { Some(Scope::Act) } else { reads.then_some(Scope::Read) }
    }
}

/// As every API answers what is not a success.
#[derive(Serialize)]
struct Refusal {
    error: &'static str,
}

/// Lets a request to any route of `router` pass only with a token that is good for it: 401 without any, 403 with the one that
/// only reads and with `only_reads` for a sentence, before anything of the request is read.
pub fn require_scope(router: Router, tokens: Tokens, only_reads: &'static str) -> Router {
    router.layer(middleware::from_fn_with_state((tokens, only_reads), check))
}

async fn check(State((tokens, only_reads)): State<(Tokens, &'static str)>, request: Request, next: Next) -> Response {
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    match bearer_of(request.headers()).and_then(|given| tokens.scope(given)) {
        Some(Scope::Act) => next.run(request).await,
        Some(Scope::Read) if reads => next.run(request).await,
        Some(Scope::Read) => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer error=\"insufficient_scope\", scope=\"act\"")];
            (StatusCode::FORBIDDEN, challenge, Json(Refusal { error: only_reads })).into_response()
        }
        None => {
            let challenge = [(header::WWW_AUTHENTICATE, "Bearer")];
            (StatusCode::UNAUTHORIZED, challenge, "a valid bearer token is required\n").into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::{body::Body, routing::get};
    use tower::ServiceExt;

    use super::*;

    #[tokio::test]
    async fn one_token_reads_and_the_other_does_everything() {
        let secret = |text: &str| Secret::from(text.to_owned());
        let both = Tokens { act: secret("act"), read: Some(secret("read")) };
        let check = async |tokens: &Tokens, method: &str, token: Option<&str>, expected: StatusCode| {
            let router = Router::new().route("/", get(|| async { "in" }).put(|| async { "in" }));
            let mut request = Request::builder().method(method).uri("/");
            if let Some(token) = token {
                request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
            }
            let request = request.body(Body::empty()).unwrap();
            let answer = require_scope(router, tokens.clone(), "only reads").oneshot(request).await.unwrap();
            assert_eq!(answer.status(), expected, "{method} {token:?}");
            let challenged = answer.headers().contains_key(header::WWW_AUTHENTICATE);
            assert_eq!(challenged, expected != StatusCode::OK, "{method} {token:?}");
        };
        for (method, with_read) in [("GET", StatusCode::OK), ("HEAD", StatusCode::OK), ("PUT", StatusCode::FORBIDDEN)] {
            check(&both, method, Some("act"), StatusCode::OK).await;
            check(&both, method, Some("read"), with_read).await;
            check(&both, method, Some("rea"), StatusCode::UNAUTHORIZED).await;
            check(&both, method, Some(""), StatusCode::UNAUTHORIZED).await;
            check(&both, method, None, StatusCode::UNAUTHORIZED).await;
            // Without a reading token nothing takes its place.
            let one = Tokens { read: None, ..both.clone() };
            check(&one, method, Some("act"), StatusCode::OK).await;
            check(&one, method, Some("read"), StatusCode::UNAUTHORIZED).await;
        }
        // A method that no route knows acts, as far as anybody can tell.
        check(&both, "DELETE", Some("read"), StatusCode::FORBIDDEN).await;
    }
}
