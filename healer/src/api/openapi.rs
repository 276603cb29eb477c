//! The API's description for programs, OpenAPI 3.1. Written by hand and embedded; tests hold it against the router, the types
//! and every answer that a test of the running healer gets.

use axum::{
    http::header,
    response::{IntoResponse, Response},
};

pub const DOCUMENT: &str = include_str!("openapi.json");

pub async fn document() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], DOCUMENT).into_response()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use axum::{
        Router,
        body::Body,
        http::{Request, StatusCode},
        routing::{MethodRouter, post},
    };
    use nexus_model::{
        AttemptOutcome, Cause, Confidence, EvidenceKind, IncidentState, Mode, Outcome, Refusal, control,
    };
    use serde_json::Value;
    use tower::ServiceExt;

    use super::*;
    use crate::server::{self, App};

    fn document() -> Value {
        serde_json::from_str(DOCUMENT).unwrap()
    }

    const METHODS: [&str; 8] = ["get", "put", "post", "delete", "patch", "options", "head", "trace"];

    /// `GET /path` of each operation that the document has.
    fn documented() -> BTreeSet<String> {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let operations = |(path, item): (&String, &Value)| -> Vec<String> {
            item.as_object().unwrap().keys().map(|method| format!("{method} {path}")).collect()
        };
        paths.iter().flat_map(operations).collect()
    }

    #[tokio::test]
    async fn every_route_is_in_the_document_and_the_other_way_round() {
        let mut routes: Vec<(&str, MethodRouter<App>)> = server::api_routes().into();
        routes.extend(server::open_routes());
        routes.push((server::WEBHOOK, post(|| async { "" })));
        let mut served = BTreeSet::new();
        for (path, handlers) in routes {
            // Handlers need an app; whether there is one for a method shows without running it.
            let app = server::tests::app_without_journal();
            let router = Router::new().route(path, handlers).with_state(app);
            let uri = path.replace(['{', '}'], "");
            // HEAD comes with each GET.
            for method in METHODS.iter().filter(|method| **method != "head") {
                let request =
                    Request::builder().method(method.to_uppercase().as_str()).uri(&uri).body(Body::empty()).unwrap();
                if router.clone().oneshot(request).await.unwrap().status() != StatusCode::METHOD_NOT_ALLOWED {
                    served.insert(format!("{method} {path}"));
                }
            }
        }
        assert_eq!(served, documented());
    }

    fn references<'d>(value: &'d Value, found: &mut Vec<&'d str>) {
        match value {
            Value::Object(fields) => {
                found.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|value| references(value, found)),
            _ => (),
        }
    }

    #[test]
    fn it_is_whole_in_itself() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let mut found = Vec::new();
        references(&document, &mut found);
        let used: BTreeSet<&str> = found.into_iter().collect();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let there: BTreeSet<String> = schemas.keys().map(|name| format!("#/components/schemas/{name}")).collect();
        assert_eq!(used, there.iter().map(String::as_str).collect(), "each schema is there and used");
        let mut ids = BTreeSet::new();
        for (path, item) in document["paths"].as_object().unwrap() {
            for (method, operation) in item.as_object().unwrap() {
                let at = format!("{method} {path}");
                assert!(METHODS.contains(&method.as_str()), "{at}");
                assert!(ids.insert(operation["operationId"].as_str().unwrap().to_owned()), "{at}");
                assert!(operation["summary"].is_string(), "{at}");
                let parameters = operation["parameters"].as_array().cloned().unwrap_or_default();
                let in_path: BTreeSet<&str> = parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "path")
                    .map(|parameter| parameter["name"].as_str().unwrap())
                    .collect();
                let named = path.split(['{', '}']).skip(1).step_by(2).collect();
                assert_eq!(in_path, named, "{at}");
                let schemes: Vec<&str> = operation["security"]
                    .as_array()
                    .unwrap()
                    .iter()
                    .flat_map(|scheme| scheme.as_object().unwrap().keys().map(String::as_str))
                    .collect();
                let is_api = server::api_routes().iter().any(|(route, _)| route == path);
                let expected: &[&str] = match method.as_str() {
                    "get" if is_api => &["read", "act"],
                    _ if is_api => &["act"],
                    "post" => &["webhook"],
                    _ => &[],
                };
                assert_eq!(schemes, expected, "{at}");
                for status in [("401", !schemes.is_empty()), ("403", schemes == ["act"])] {
                    assert_eq!(operation["responses"].get(status.0).is_some(), status.1, "{at} {}", status.0);
                }
            }
        }
    }

    #[test]
    fn its_words_are_those_of_the_types() {
        let document = document();
        let check = |schema: &str, words: Vec<String>| {
            assert_eq!(document["components"]["schemas"][schema]["enum"], Value::from(words), "{schema}");
        };
        fn words<T: serde::Serialize>(all: &[T]) -> Vec<String> {
            let word = |value: &T| serde_json::to_value(value).unwrap().as_str().unwrap().to_owned();
            all.iter().map(word).collect()
        }
        check("Refusal", words(&Refusal::ALL));
        check("IncidentState", words(&IncidentState::ALL));
        check("Outcome", words(&Outcome::ALL));
        check("AttemptOutcome", words(&AttemptOutcome::ALL));
        check("EvidenceKind", words(&EvidenceKind::ALL));
        check("Cause", words(&Cause::ALL));
        check("Step", words(&control::Step::ALL));
        check("Mode", words(&[Mode::Heal, Mode::Shadow, Mode::Off]));
        check("Confidence", words(&[Confidence::None, Confidence::Guess, Confidence::Likely, Confidence::Certain]));
    }

    #[test]
    fn its_bounds_are_those_of_the_code() {
        let document = document();
        let pause = &document["components"]["schemas"]["PauseWanted"]["properties"];
        assert_eq!(pause["for_seconds"]["anyOf"][0]["maximum"], control::PAUSE_SECONDS_LIMIT);
        assert_eq!(pause["reason"]["anyOf"][0]["maxLength"], control::NOTE_LIMIT);
        let note = &document["components"]["schemas"]["Acknowledge"]["properties"]["note"];
        assert_eq!(note["anyOf"][0]["maxLength"], control::NOTE_LIMIT);
        let limit = &document["paths"]["/api/v1/incidents"]["get"]["parameters"][3];
        assert_eq!(
            (&limit["name"], &limit["schema"]["maximum"]),
            (&"limit".into(), &crate::journal::MAX_LISTED.into())
        );
    }
}
