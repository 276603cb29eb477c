//! What the whole set of rules costs on a host with twenty services, by Prometheus' own word.

use std::fmt::Write as _;

use anyhow::{Context, Result, ensure};
use axum::Router;
use axum::extract::Path as UrlPath;
use axum::routing::get;
use jiff::Timestamp;
use serde_json::Value;

use super::script::{Container, State};
use super::{Server, Telling};
use crate::wait::{eventually, seconds};

const HOST: &str = "cost";
/// A busy Pi.
const SERVICES: [&str; 20] = [
    "web", "api", "db", "cache", "worker", "queue", "mail", "search", "auth", "files", "photos", "music", "feeds",
    "wiki", "git", "ci", "vault", "dns", "proxy", "backup",
];
/// It is looked at for so long, after as long to warm up. The longest interval of a group is 15 s.
const WATCHED: u64 = 120;
/// Of one core's time. What is measured is a hundredth of that; a Pi 4 is several times slower and shared machines are loaded.
const MOST: f64 = 0.05;

pub async fn all_rules_cost_little() -> Result<()> {
    let telling = Telling::prepare(&[("NEXUS_HOST", HOST)]).await?;
    let port = host().await?;
    let folder = telling.readable("cost")?;
    let rules = telling.readable("cost/rules")?;
    for entry in std::fs::read_dir(telling.root.join("prometheus/rules")).context("cannot list the rules")? {
        let path = entry.context("cannot list the rules")?.path();
        std::fs::copy(&path, rules.join(path.file_name().unwrap_or_default())).context("cannot copy a rule file")?;
    }
    // As prometheus/prometheus.yml has it.
    let mut text =
        "global:\n  scrape_interval: 15s\n  evaluation_interval: 15s\nrule_files: [rules/*.yml]\nscrape_configs:\n"
            .to_owned();
    for job in ["node", "cadvisor", "nexus", "reporter"] {
        let _ = writeln!(
            text,
            "  - job_name: {job}\n    metrics_path: /{job}\n    static_configs:\n      - {{targets: [\"127.0.0.1:{port}\"], labels: {{host: {HOST}, \
             instance: {HOST}}}}}"
        );
    }
    std::fs::write(folder.join("prometheus.yml"), text).context("cannot write prometheus.yml")?;
    let prometheus = telling.prometheus(&folder, &[]).await?;

    let began = std::time::Instant::now();
    let elapsed = |least: u64| began.elapsed() >= seconds(least);
    eventually("the rules have run for a while", seconds(2 * WATCHED), async || Ok(elapsed(WATCHED).then_some(())))
        .await?;
    let before = look(&telling, &prometheus).await?;
    eventually("and for as long again", seconds(2 * WATCHED), async || Ok(elapsed(2 * WATCHED).then_some(()))).await?;
    let after = look(&telling, &prometheus).await?;

    let spent = |look: &Look| look.of("prometheus_rule_group_duration_seconds_sum");
    let share = (spent(&after) - spent(&before)) / WATCHED as f64;
    eprintln!("| Group | Rules | Every | An evaluation takes |\n|---|---|---|---|");
    for group in groups(&telling, &prometheus).await? {
        ensure!(group.seconds > 0.0, "{} was not evaluated", group.name);
        eprintln!("| {} | {} | {} s | {:.1} ms |", group.name, group.rules, group.interval, group.seconds * 1e3);
    }
    let cpu = (after.of("process_cpu_seconds_total") - before.of("process_cpu_seconds_total")) / WATCHED as f64;
    eprintln!(
        "all of them together take {:.2} % of one core; Prometheus with scrapes and rules {:.1} %, {:.0} MB resident, {:.0} series",
        share * 100.0,
        cpu * 100.0,
        after.of("process_resident_memory_bytes") / 1e6,
        after.of("prometheus_tsdb_head_series")
    );
    ensure!(share < MOST, "the rules take {:.1} % of one core", share * 100.0);
    Ok(())
}

async fn host() -> Result<u16> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("no free port")?;
    let port = listener.local_addr().context("a port without a number")?.port();
    let began = std::time::Instant::now();
    let answer = move |UrlPath(job): UrlPath<String>| async move {
        let mut state = State::well();
        state.containers.extend(SERVICES.map(|service| Container::new("home", service, "healthy")));
        let now = Timestamp::now().as_millisecond() as f64 / 1e3;
        state.exposition(&job, now, began.elapsed().as_secs_f64())
    };
    let router = Router::new().route("/{job}", get(answer));
    tokio::spawn(async move {
        // It ends with the test.
        let _ = axum::serve(listener, router).await;
    });
    Ok(port)
}

struct Look(String);

impl Look {
    fn of(&self, metric: &str) -> f64 {
        let line = self.0.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok()).unwrap_or_default()
    }
}

async fn look(telling: &Telling, prometheus: &Server) -> Result<Look> {
    Ok(Look(telling.http.get(format!("{}/metrics", prometheus.url)).send().await?.text().await?))
}

struct Group {
    name: String,
    rules: usize,
    interval: f64,
    /// Of its last evaluation.
    seconds: f64,
}

async fn groups(telling: &Telling, prometheus: &Server) -> Result<Vec<Group>> {
    let answer: Value = telling.http.get(format!("{}/api/v1/rules", prometheus.url)).send().await?.json().await?;
    let all = answer["data"]["groups"].as_array().context("there are no groups of rules")?;
    let mut groups = Vec::new();
    for group in all {
        let rules = group["rules"].as_array().context("a group without rules")?;
        for rule in rules {
            ensure!(rule["health"] == "ok", "{} is not well: {}", rule["name"], rule["lastError"]);
        }
        groups.push(Group {
            name: group["name"].as_str().unwrap_or_default().to_owned(),
            rules: rules.len(),
            interval: group["interval"].as_f64().unwrap_or(15.0),
            seconds: group["evaluationTime"].as_f64().unwrap_or_default(),
        });
    }
    Ok(groups)
}
