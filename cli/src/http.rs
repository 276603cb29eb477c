//! The parts of this stack by its settings: where each is, and the token that it wants.

use std::ops::Deref;

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

/// The healer's two tokens, below the secrets.
const ACTS: &str = "cli/healer_api_token";
const READS: &str = "cli/healer_api_read_token";

fn token(home: &Home, file: &str) -> Result<String> {
    let file = home.secrets().join(file);
    match read_text(&file, 4096) {
        Ok(Some(token)) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        Ok(_) => anyhow::bail!("{} is missing or empty: run ./nexus up", home.show(&file)),
        Err(error) => {
            Err(error.context("the healer's API token belongs to who ran ./nexus up: use that user, or sudo"))
        }
    }
}

/// For who only looks: the token that reads. The one that acts takes its place where there is none, or where the healer does
/// not know it.
fn tokens_to_read(home: &Home) -> Result<Vec<String>> {
    Ok(match (token(home, READS), token(home, ACTS)) {
        (Ok(reads), acts) => [Some(reads), acts.ok()].into_iter().flatten().collect(),
        (Err(_), acts) => vec![acts?],
    })
}

impl Part {
    fn new(name: &'static str, base: String, tokens: Vec<String>) -> Result<Part> {
        Ok(Part(http::Part::new(name, base, tokens)?))
    }

    /// The healer with the token that acts. Fails when the token can't be read.
    pub fn healer(home: &Home) -> Result<Part> {
        Part::new(HEALER, home.url("NEXUS_HEALER_PORT"), vec![token(home, ACTS)?])
    }

    /// The healer for who only looks.
    pub fn healer_to_read(home: &Home) -> Result<Part> {
        Part::new(HEALER, home.url("NEXUS_HEALER_PORT"), tokens_to_read(home)?)
    }

    pub fn alertmanager(home: &Home) -> Result<Part> {
        Part::new("Alertmanager", home.url("NEXUS_ALERTMANAGER_PORT"), Vec::new())
    }

    pub fn prometheus(home: &Home) -> Result<Part> {
        Part::new("Prometheus", home.url("NEXUS_PROMETHEUS_PORT"), Vec::new())
    }

    pub fn exporter(home: &Home) -> Result<Part> {
        Part::new("the exporter", home.url("NEXUS_EXPORTER_PORT"), Vec::new())
    }

    pub fn reporter(home: &Home) -> Result<Part> {
        Part::new("the reporter", home.url("NEXUS_REPORTER_PORT"), Vec::new())
    }

    pub fn grafana(home: &Home) -> Result<Part> {
        Part::new("Grafana", home.url("NEXUS_GRAFANA_PORT"), Vec::new())
    }

    /// For those who ask several parts at once.
    pub fn into_inner(self) -> http::Part {
        self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_looks_shows_the_token_that_reads_and_the_other_one_only_where_need_be() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compose.yml"), "").unwrap();
        let secrets = folder.path().join("secrets/cli");
        std::fs::create_dir_all(&secrets).unwrap();
        let home = Home::open(Some(folder.path()), None).unwrap();
        assert!(format!("{:#}", tokens_to_read(&home).unwrap_err()).contains("run ./nexus up"));
        std::fs::write(secrets.join("healer_api_token"), "act\n").unwrap();
        assert_eq!(tokens_to_read(&home).unwrap(), ["act"]);
        std::fs::write(secrets.join("healer_api_read_token"), "read\n").unwrap();
        assert_eq!(tokens_to_read(&home).unwrap(), ["read", "act"]);
        // Who acts never shows it, and who may only read needs no other.
        assert_eq!(token(&home, ACTS).unwrap(), "act");
        std::fs::remove_file(secrets.join("healer_api_token")).unwrap();
        assert_eq!(tokens_to_read(&home).unwrap(), ["read"]);
        assert!(token(&home, ACTS).is_err());
    }
}
