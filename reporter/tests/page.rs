//! Page and API over real sockets, in front of a stack that is made up. Each answer of the API is held against its document.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::sync::LazyLock;

use reqwest::{Client, Method, StatusCode};
use serde_json::{Value, json};

#[path = "../../lib/web/testing/contract.rs"]
mod contract;
#[path = "page/standin.rs"]
mod standin;

use standin::{ACT, INCIDENT, READ, Seen, app, app_of, router, serve};

static CONTRACT: LazyLock<contract::Contract> =
    LazyLock::new(|| contract::Contract::new(include_str!("../src/api/openapi.json")));

struct Site {
    base: String,
    client: Client,
    seen: Seen,
}

impl Site {
    async fn start() -> Site {
        let seen = Seen::default();
        let app = app(&seen).await;
        Site::of(app, seen).await
    }

    /// One whose parts are all away.
    async fn alone() -> Site {
        Site::of(app_of("http://127.0.0.1:1"), Seen::default()).await
    }

    async fn of(app: nexus_reporter::server::App, seen: Seen) -> Site {
        let base = format!("http://{}", serve(router(app)).await);
        Site { base, client: Client::builder().no_proxy().build().unwrap(), seen }
    }

    async fn page(&self, path: &str) -> (StatusCode, String) {
        let answer = self.client.get(format!("{}{path}", self.base)).send().await.unwrap();
        let headers = answer.headers().clone();
        let status = answer.status();
        let body = answer.text().await.unwrap();
        if status != StatusCode::NOT_FOUND {
            let policy = headers["content-security-policy"].to_str().unwrap();
            assert!(
                policy.starts_with("default-src 'none'; style-src 'self'") && !policy.contains("unsafe"),
                "{policy}"
            );
            assert_eq!(headers["x-content-type-options"], "nosniff");
            assert_eq!(headers["x-frame-options"], "DENY");
        }
        (status, body)
    }

    async fn api(&self, method: Method, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let mut request = self.client.request(method.clone(), format!("{}{path}", self.base)).body(body.to_owned());
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = answer.text().await.unwrap();
        CONTRACT.check_answer(method.as_str(), path, status, &kind, &body);
        (status, body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.api(Method::GET, path, Some(READ), "").await;
        assert_eq!(status, 200, "{path}: {body}");
        serde_json::from_str(&body).unwrap()
    }
}

#[tokio::test]
async fn the_pages_tell_what_the_parts_know() {
    let site = Site::start().await;
    for (path, words) in [
        (
            "/",
            vec![
                "You are needed",
                "photos/import",
                "Temperature",
                "52 °C",
                "HealerGaveUp",
                "Recommended",
                "/services/photos/web",
                "Held back",
                "moving its disk",
                "What healing would have done",
                "would have restarted photos/db 2 times",
            ],
        ),
        ("/?project=home", vec!["adguard"]),
        ("/incidents", vec!["exited with code 137", "recovered", "gave up"]),
        (
            &format!("/incidents/{INCIDENT}"),
            vec!["disk quota", "507 Insufficient Storage", "did not help", "all attempts are spent"],
        ),
        ("/services/photos/import", vec!["given up", "Memory", "6 of 6 restarts", "./nexus why photos/import"]),
    ] {
        let (status, page) = site.page(path).await;
        assert_eq!(status, StatusCode::OK, "{path}: {page}");
        for word in words {
            assert!(page.contains(word), "{path}: {word:?} is missing in {page}");
        }
    }
    let (_, one) = site.page("/?project=home").await;
    assert!(!one.contains("photos-web"), "{one}");
    let style = site.client.get(format!("{}/style.css", site.base)).send().await.unwrap();
    assert_eq!(style.headers()["content-type"], "text/css; charset=utf-8");
}

#[tokio::test]
async fn what_is_not_there_is_said_on_a_page() {
    let site = Site::start().await;
    for (path, expected, word) in [
        ("/?project=nowhere", StatusCode::NOT_FOUND, "there is no project nowhere; there are home, photos, wiki"),
        ("/incidents/latest", StatusCode::NOT_FOUND, "No incident has such an id."),
        ("/incidents/0195b0c4-6a1c-7d2e-9f00-000000000000", StatusCode::NOT_FOUND, "there is no incident"),
        ("/services/photos/%3Cb%3E", StatusCode::NOT_FOUND, "has no service &lt;b&gt;; it has db, import, web"),
        ("/services/photos", StatusCode::NOT_FOUND, "There is no page at this address."),
    ] {
        let (status, page) = site.page(path).await;
        assert_eq!((status, page.contains(word)), (expected, true), "{path}: {page}");
    }
    let alone = Site::alone().await;
    let (status, page) = alone.page("/").await;
    assert_eq!(status, StatusCode::OK, "with every part away there still is a page");
    for word in [
        "You are needed",
        "healer",
        "No charts: Prometheus does not answer",
        "Unknown: the part that knows does not answer.",
    ] {
        assert!(page.contains(word), "{word:?} is missing in {page}");
    }
    let (status, page) = alone.page("/incidents").await;
    assert_eq!((status, page.contains("the healer does not answer")), (StatusCode::BAD_GATEWAY, true), "{page}");
}

#[tokio::test]
async fn the_api_answers_as_its_document_says() {
    let site = Site::start().await;
    let report = site.get("/api/v1/status").await;
    assert_eq!((&report["verdict"], &report["host"]), (&json!("critical"), &json!("raspberrypi")));
    assert_eq!(site.get("/api/v1/status?project=home&since=2026-01-01T00:00:00Z").await["project"], "home");
    let charts = site.get("/api/v1/charts?span=week").await;
    assert_eq!((charts["series"].as_array().unwrap().len(), &charts["series"][0]["unit"]), (4, &json!("ratio")));
    assert!(charts["series"][0]["points"].as_array().unwrap().iter().any(|point| point["value"].is_null()), "a gap");
    let one = site.get("/api/v1/charts?project=photos&service=web%22%7D").await;
    assert_eq!(one["series"][1]["unit"], "bytes");
    assert!(
        site.seen.queries.lock().unwrap().iter().any(|query| query.contains(r#"service="web\"}""#)),
        "names stay names"
    );
    assert_eq!(site.get("/api/v1/incidents?service=web&limit=5").await["incidents"].as_array().unwrap().len(), 1);
    // None is good news of what there is.
    for of in ["project=home", "project=home&service=adguard", "project=photos&state=blocked", "service=adguard"] {
        assert_eq!(site.get(&format!("/api/v1/incidents?{of}")).await, json!({"incidents": []}), "{of}");
    }
    // What runs no longer is known by its incidents.
    assert_eq!(site.get("/api/v1/incidents?project=former&state=blocked").await, json!({"incidents": []}));
    assert_eq!(site.get(&format!("/api/v1/incidents/{INCIDENT}")).await["attempts"].as_array().unwrap().len(), 3);
    assert_eq!(site.get("/api/v1/services").await["services"].as_array().unwrap().len(), 6);
    assert_eq!(site.get("/api/v1/services/photos/import").await["plan"]["reason"], "budget_spent");
    let (status, document) = site.api(Method::GET, "/api/v1/openapi.json", None, "").await;
    assert_eq!((status, document.as_str()), (200, include_str!("../src/api/openapi.json")));
}

#[tokio::test]
async fn the_api_says_what_is_wrong() {
    let site = Site::start().await;
    let check = async |site: &Site, path: &str, expected: u16, word: &str| {
        let (status, body) = site.api(Method::GET, path, Some(READ), "").await;
        assert_eq!((status, body.contains(word)), (expected, true), "{path}: {body}");
    };
    check(&site, "/api/v1/status?project=nowhere", 404, "there are home, photos, wiki").await;
    check(&site, "/api/v1/status?since=yesterday", 400, "since").await;
    check(&site, "/api/v1/status?projct=x", 400, "projct").await;
    check(&site, "/api/v1/charts?span=year", 400, "span must be day or week").await;
    check(&site, "/api/v1/charts?project=x", 400, "belong together").await;
    check(&site, "/api/v1/incidents?state=nonsense", 400, "no state is called nonsense").await;
    check(&site, "/api/v1/incidents/latest", 400, "a UUID").await;
    check(&site, "/api/v1/incidents?project=typo", 404, "there is no project typo; there are home, photos, wiki").await;
    check(&site, "/api/v1/incidents?project=typo&state=gave_up", 404, "there is no project typo").await;
    check(&site, "/api/v1/incidents?project=home&service=web2", 404, "has no service web2; it has adguard, mosquitto")
        .await;
    check(&site, "/api/v1/incidents?service=web2", 404, "there is no service web2; there are adguard, app, db").await;
    check(&site, "/api/v1/services/photos/x", 404, "it has db, import, web").await;
    check(&site, "/api/v1/nothing", 404, "no such route").await;
    let alone = Site::alone().await;
    check(&alone, "/api/v1/services", 502, "the healer does not answer").await;
    check(&alone, "/api/v1/charts", 502, "Prometheus does not answer").await;
    let report = alone.get("/api/v1/status").await;
    assert_eq!((&report["verdict"], &report["services"]), (&json!("critical"), &Value::Null));

    for (token, expected) in [(None, 401), (Some("guess"), 401), (Some(ACT), 200)] {
        assert_eq!(site.api(Method::GET, "/api/v1/services", token, "").await.0, expected);
    }
}

#[tokio::test]
async fn a_message_wants_the_act_token_and_is_bounded() {
    let site = Site::start().await;
    let send = async |token: &str, body: String| site.api(Method::POST, "/api/v1/notify", Some(token), &body).await;
    let message = json!({"title": "Done", "text": "all", "severity": "warning", "project": "photos"}).to_string();
    let (status, body) = send(READ, message.clone()).await;
    assert_eq!((status, body.contains("may only read")), (403, true), "{body}");
    for (body, word) in [
        ("nonsense".to_owned(), "not understood"),
        (json!({"title": ""}).to_string(), "the title is empty"),
        (json!({"title": "x", "severity": "fatal"}).to_string(), "fatal"),
        (json!({"titel": "x"}).to_string(), "titel"),
        (json!({"title": "x", "project": "a b"}).to_string(), "the project must have"),
        (json!({"title": "x", "text": "x".repeat(70_000)}).to_string(), "65536 at most are read"),
    ] {
        let (status, said) = send(ACT, body).await;
        assert_eq!((status, said.contains(word)), (400, true), "{said}");
    }
    assert_eq!(send(ACT, "x".repeat(1_000_000)).await.0, 413);
    assert!(site.seen.alerts.lock().unwrap().is_empty());
    let (status, body) = send(ACT, message).await;
    let delivery: Value = serde_json::from_str(&body).unwrap();
    assert_eq!((status, &delivery["way"], &delivery["cut"]), (200, &json!("alertmanager"), &json!(false)));
    let alerts = site.seen.alerts.lock().unwrap().clone();
    assert_eq!((alerts.len(), &alerts[0][0]["labels"]["project"]), (1, &json!("photos")));
    // Nobody takes it: Alertmanager is away, and so is Telegram's stand-in.
    let alone = Site::alone().await;
    let body = json!({"title": "x"}).to_string();
    let (status, said) = alone.api(Method::POST, "/api/v1/notify", Some(ACT), &body).await;
    assert_eq!((status, said.contains("was not delivered: alertmanager does not answer")), (502, true), "{said}");
}
