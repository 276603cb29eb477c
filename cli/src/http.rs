//! The parts of this stack by its settings: where each is, and the token that it wants.

use std::ops::Deref;
use std::path::Path;

use anyhow::Result;
use nexus_reporter::sources::http::{self, HEALER};
pub use nexus_reporter::sources::http::{HttpError, segment};

use crate::files::read_text;
use crate::home::Home;

/// The healer's two tokens, below the secrets.
const ACTS: &str = "cli/healer_api_token";
const READS: &str = "cli/healer_api_read_token";

fn token(home: &Home, file: &Path) -> Result<String> {
    match read_text(file, 4096) {
        Ok(Some(token)) if !token.trim().is_empty() => Ok(token.trim().to_owned()),
        Ok(_) => anyhow::bail!("{} is missing or empty: run ./nexus up", home.show(file)),
        Err(error) => {
            Err(error.context("the healer's API token belongs to who ran ./nexus up: use that user, or sudo"))
        }
    }
}

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
    fn new(name: &'static str, base: String, tokens: Vec<String>) -> Result<Part> {
        Ok(Part(http::Part::new(name, base, tokens)?))
    }

    /// The healer with the token that acts. Fails when the token can't be read.
    pub fn healer(home: &Home) -> Result<Part> {
        Part::healer_with(home, &home.secrets().join(ACTS))
    }

    /// The healer for who only looks: with the token that reads. The one that acts takes its place where there is none, or
    /// where the healer does not know it.
    pub fn healer_to_read(home: &Home) -> Result<Part> {
        let known = |file| token(home, &home.secrets().join(file));
        let tokens = match (known(READS), known(ACTS)) {
            (Ok(reads), acts) => [Some(reads), acts.ok()].into_iter().flatten().collect(),
            (Err(_), acts) => vec![acts?],
        };
        Part::new(HEALER, home.url("NEXUS_HEALER_PORT"), tokens)
    }

    /// The healer with the token in a file, and no other: for who must not be able to act, whatever happens.
    pub fn healer_with(home: &Home, file: &Path) -> Result<Part> {
        Part::new(HEALER, home.url("NEXUS_HEALER_PORT"), vec![token(home, file)?])
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
    use std::io::{Read, Write};

    use nexus_model::api::ApiError;

    use super::*;

    /// A healer that knows some tokens, and what it is asked with.
    fn knowing(known: &'static [&'static str], requests: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serve = move |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let given =
                request.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
            let answer = match known.contains(&given) {
                true => "HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"error\":\"yes\"}",
                false => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).unwrap();
            given.to_owned()
        };
        (base, std::thread::spawn(move || (0..requests).map(serve).collect()))
    }

    #[test]
    fn who_looks_shows_the_token_that_reads_and_the_other_one_only_where_need_be() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("compose.yml"), "").unwrap();
        let secrets = folder.path().join("secrets/cli");
        std::fs::create_dir_all(&secrets).unwrap();
        let home = Home::open(Some(folder.path()), None).unwrap();
        assert!(format!("{:#}", Part::healer_to_read(&home).err().unwrap()).contains("run ./nexus up"));
        std::fs::write(secrets.join("healer_api_token"), "act\n").unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let check = |known: &'static [&'static str], shown: &[&str]| {
            let (base, healer) = knowing(known, shown.len());
            let mut part = Part::healer_to_read(&home).unwrap().into_inner();
            part.base = base;
            assert_eq!(runtime.block_on(part.get::<ApiError>("/x", &[])).unwrap().error, "yes");
            assert_eq!(healer.join().unwrap(), shown);
        };
        check(&["act"], &["act"]);
        std::fs::write(secrets.join("healer_api_read_token"), "read\n").unwrap();
        check(&["act", "read"], &["read"]);
        check(&["act"], &["read", "act"]);
        // Who acts never shows it, and who may only read needs no other.
        let (base, healer) = knowing(&["act"], 1);
        let mut acts = Part::healer(&home).unwrap().into_inner();
        acts.base = base;
        runtime.block_on(acts.ok("/x")).unwrap();
        assert_eq!(healer.join().unwrap(), ["act"]);
        std::fs::remove_file(secrets.join("healer_api_token")).unwrap();
        check(&["read"], &["read"]);
        assert!(Part::healer(&home).is_err());
    }
}
