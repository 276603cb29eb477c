//! The parts of this stack by its settings: where each is, and the token that it wants.

use std::ops::Deref;
use std::path::Path;

use anyhow::Result;
use nexus_reporter::sources::http::{self, HEALER};
pub use nexus_reporter::sources::http::{HttpError, segment};

use crate::files::read_text;
use crate::home::Home;

/// One part of the stack, to be asked.
#[derive(Clone)]
pub struct Part(http::Part);

impl Deref for Part {
    type Target = http::Part;

    fn deref(&self) -> &http::Part {
        &self.0
    }
}

impl Part {
    fn new(name: &'static str, base: String, token: Option<String>) -> Result<Part> {
        Ok(Part(http::Part::new(name, base, token)?))
    }

    /// The healer with the token of its API. Fails when the token can't be read.
    pub fn healer(home: &Home) -> Result<Part> {
        Part::healer_with(home, &home.secrets().join("cli/healer_api_token"))
    }

    /// The healer with the token in `file`.
    pub fn healer_with(home: &Home, file: &Path) -> Result<Part> {
        let token = match read_text(file, 4096) {
            Ok(Some(token)) if !token.trim().is_empty() => token.trim().to_owned(),
            Ok(_) => anyhow::bail!("{} is missing or empty: run ./nexus up", home.show(file)),
            Err(error) => {
                return Err(
                    error.context("the healer's API token belongs to who ran ./nexus up: use that user, or sudo")
                );
            }
        };
        Part::new(HEALER, home.url("NEXUS_HEALER_PORT"), Some(token))
    }

    pub fn alertmanager(home: &Home) -> Result<Part> {
        Part::new("Alertmanager", home.url("NEXUS_ALERTMANAGER_PORT"), None)
    }

    pub fn prometheus(home: &Home) -> Result<Part> {
        Part::new("Prometheus", home.url("NEXUS_PROMETHEUS_PORT"), None)
    }

    pub fn exporter(home: &Home) -> Result<Part> {
        Part::new("the exporter", home.url("NEXUS_EXPORTER_PORT"), None)
    }

    pub fn grafana(home: &Home) -> Result<Part> {
        Part::new("Grafana", home.url("NEXUS_GRAFANA_PORT"), None)
    }

    /// For those who ask several parts at once.
    pub fn into_inner(self) -> http::Part {
        self.0
    }
}
