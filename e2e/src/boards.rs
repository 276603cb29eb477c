//! Raspberry Pis that nobody needs to own: what the exporter says of the fixture trees of a Pi 4 and a Pi 5, scraped by a Prometheus of its
//! own that has the stack's rules.
//!
//! It is not the stack's, so that no alert about a made-up board prompts the healer or becomes a message.
//!
//! | route | answer |
//! |---|---|
//! | `GET /<tree>` | the tree's golden scrape, its counters growing |
//! | anything else | 404 |

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use anyhow::{Context, Result};
use axum::Router;
use axum::extract::{Path, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde_json::json;

use crate::command::docker;
use crate::stack::{Stack, image};
use crate::wait::{eventually, seconds};

const TREES: [&str; 2] = ["pi4", "pi5"];
/// After so long a counter has doubled.
const DOUBLED_AFTER_SECONDS: f64 = 600.0;

/// The running Prometheus.
pub struct Boards {
    container: String,
    /// Where it answers, on this host.
    pub url: String,
}

struct Scrapes {
    texts: BTreeMap<&'static str, String>,
    started: Instant,
}

impl Boards {
    /// Starts it and waits until it has scraped each tree twice and evaluated the rules, so that there are rates.
    pub async fn start(stack: &Stack) -> Result<Boards> {
        let port = serve(stack.root().join("exporter/fixtures")).await?;
        let folder = stack.folder().join("boards");
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        let configuration = folder.join("prometheus.yml");
        std::fs::write(&configuration, configured(port).to_string())
            .with_context(|| format!("cannot write {}", configuration.display()))?;
        let mount = |from: PathBuf, to: &str| format!("--volume={}:/etc/prometheus/{to}:ro", from.display());
        let mut arguments: Vec<String> = ["run", "--detach", "--rm", "--add-host=host.docker.internal:host-gateway"]
            .into_iter()
            .chain(["--publish=127.0.0.1::9090", "--user=65534:65534", "--read-only", "--memory=288m"])
            .chain(["--tmpfs=/prometheus:uid=65534"])
            .map(str::to_owned)
            .collect();
        arguments.extend([
            format!("--label={}={}", nexus_model::labels::STACK, stack.name),
            mount(configuration, "prometheus.yml"),
            mount(stack.root().join("prometheus/rules"), "rules"),
            image("NEXUS_IMAGE_PROMETHEUS")?,
            "--config.file=/etc/prometheus/prometheus.yml".to_owned(),
            "--storage.tsdb.path=/prometheus".to_owned(),
        ]);
        let started = docker(arguments).await.context("cannot start the Prometheus of the boards")?;
        let container = started.trim().to_owned();
        let address = docker(["port", &container, "9090/tcp"]).await?;
        let boards = Boards { container, url: format!("http://{}", address.lines().next().unwrap_or_default()) };
        for rated in ["rate(node_disk_written_bytes_total[1m])", "host:rpi_undervoltage:max1m"] {
            eventually(format!("the boards answer {rated}"), seconds(90), async || {
                // It refuses connections while it starts.
                let hosts = stack.query_of(&boards.url, &format!("count by (host) ({rated})")).await?;
                Ok((hosts.len() == TREES.len()).then_some(()))
            })
            .await?;
        }
        Ok(boards)
    }

    pub async fn stop(self) -> Result<()> {
        docker(["rm", "--force", "--volumes", &self.container]).await.map(drop)
    }
}

/// JSON, which YAML is a superset of.
fn configured(port: u16) -> serde_json::Value {
    let job = |tree: &str| {
        json!({"job_name": tree, "metrics_path": format!("/{tree}"), "honor_labels": true,
            "static_configs": [{"targets": [format!("host.docker.internal:{port}")], "labels": {"host": tree}}]})
    };
    json!({"global": {"scrape_interval": "5s", "evaluation_interval": "5s"}, "rule_files": ["rules/*.yml"],
        "scrape_configs": TREES.map(job)})
}

/// On every address, so that containers reach it through the bridge; it ends with the test.
async fn serve(fixtures: PathBuf) -> Result<u16> {
    let mut texts = BTreeMap::new();
    for tree in TREES {
        let file = fixtures.join(format!("{tree}.prom"));
        texts.insert(tree, std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    let scrapes = Arc::new(Scrapes { texts, started: Instant::now() });
    let listener = tokio::net::TcpListener::bind(("0.0.0.0", 0)).await.context("cannot listen for scrapes")?;
    let port = listener.local_addr().context("cannot tell the address of the scrapes")?.port();
    let router = Router::new().route("/{tree}", get(answer)).with_state(scrapes);
    tokio::spawn(async move {
        let _ = axum::serve(listener, router).await;
    });
    Ok(port)
}

async fn answer(State(scrapes): State<Arc<Scrapes>>, Path(tree): Path<String>) -> Response {
    match scrapes.texts.get(tree.as_str()) {
        Some(text) => {
            let body = grown(text, 1.0 + scrapes.started.elapsed().as_secs_f64() / DOUBLED_AFTER_SECONDS);
            ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], body).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

/// The scrape with its counters `factor` times as high; everything else stays as it is.
fn grown(text: &str, factor: f64) -> String {
    let counters: BTreeSet<&str> =
        text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.strip_suffix(" counter")).collect();
    let mut out = String::with_capacity(text.len() + text.len() / 8);
    for line in text.lines() {
        let name = line.split(['{', ' ']).next().unwrap_or_default();
        match line.rsplit_once(' ') {
            Some((series, value)) if counters.contains(name) => {
                let value = value.parse().unwrap_or(f64::NAN) * factor;
                out.push_str(&format!("{series} {value}\n"));
            }
            _ => {
                out.push_str(line);
                out.push('\n');
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::grown;

    #[test]
    fn counters_grow_and_nothing_else() {
        let text = "# HELP a_total It.\n# TYPE a_total counter\na_total{of=\"x y\"} 4\n# TYPE a gauge\na 4\nb 4\n";
        let expected = "# HELP a_total It.\n# TYPE a_total counter\na_total{of=\"x y\"} 6\n# TYPE a gauge\na 4\nb 4\n";
        assert_eq!(grown(text, 1.5), expected);
    }
}
