//! A reporter's page and API in front of a real Postgres, whose answers are held against their document.

use nexus_reporter::{
    database::Database as Own,
    server::{self, App},
    sources::{
        HistorySource, Sources,
        http::{HEALER, Part},
    },
    sql::{Bounds, Reader},
};
use nexus_web::{Limits, Secret, Tokens};
use serde_json::Value;

use super::database::Database;

#[allow(clippy::panic, reason = "a test whose answer breaks the contract has failed")]
#[path = "../../../lib/web/testing/contract.rs"]
mod contract;

pub fn password() -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "test-secret\n").unwrap();
    file
}

pub fn reader(database: &Database, password: &tempfile::NamedTempFile, bounds: Bounds) -> Reader {
    Reader::new(Own::reader(&database.url(), password.path().to_owned(), bounds.time).unwrap(), bounds)
}

/// Where nobody listens.
const AWAY: &str = "http://127.0.0.1:1";

/// A reporter whose parts are all away but Postgres, and Prometheus where one is given.
pub struct Site {
    pub base: String,
    pub client: reqwest::Client,
    contract: contract::Contract,
    _password: tempfile::NamedTempFile,
}

impl Site {
    pub async fn start(database: &Database, prometheus: &str) -> Site {
        Site::with_healer(database, prometheus, AWAY).await
    }

    pub async fn with_healer(database: &Database, prometheus: &str, healer: &str) -> Site {
        _ = rustls::crypto::ring::default_provider().install_default();
        let password = password();
        let part = |name, base: &str| Part::new(name, base.to_owned(), Vec::new()).unwrap();
        let sources = Sources {
            host: "pi".into(),
            stack: "nexus".into(),
            healer: Ok(part(HEALER, healer)),
            exporter: part("the exporter", AWAY),
            prometheus: part("Prometheus", prometheus),
            alertmanager: part("Alertmanager", AWAY),
            grafana: None,
            reporter: None,
            history: HistorySource::None,
            procfs: "/proc".into(),
            docker_wants_sudo: false,
            docker_socket: None,
        };
        let own = Own::new(&database.url(), Some(password.path().to_owned())).unwrap();
        let reader = reader(database, &password, Bounds::default());
        let app = App::new(sources, None, Some(own), Some(reader));
        let secret = |text: &str| Secret::from(text.to_owned());
        let router = server::router(app, Tokens { act: secret("act"), read: Some(secret("read")) });
        let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(nexus_web::serve(listener, router, Limits::default(), std::future::pending()));
        let contract = contract::Contract::new(include_str!("../../src/api/openapi.json"));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Site { base, client, contract, _password: password }
    }

    /// The status and the answer, held against the document.
    pub async fn get(&self, path: &str, query: &[(&str, &str)]) -> (u16, Value) {
        let url = format!("{}{path}", self.base);
        let url = reqwest::Url::parse_with_params(&url, query).unwrap();
        let answer = self.client.get(url).bearer_auth("read").send().await.unwrap();
        let status = answer.status().as_u16();
        let kind = answer.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
        let body = answer.text().await.unwrap();
        self.contract.check_answer("GET", path, status, &kind, &body);
        (status, serde_json::from_str(&body).unwrap())
    }

    pub async fn good(&self, path: &str, query: &[(&str, &str)]) -> Value {
        let (status, body) = self.get(path, query).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    pub async fn bad(&self, path: &str, query: &[(&str, &str)], expected: u16, says: &str) {
        let (status, body) = self.get(path, query).await;
        let said = body["error"].as_str().unwrap_or_default();
        assert!(status == expected && said.contains(says), "{path} {query:?}: {status} {body} lacks {says:?}");
    }
}
