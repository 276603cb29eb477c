//! Records what the healer finds out about a container that is ill at this moment, as a case for the labelled set in
//! `healer/tests/diagnosis`. The evidence is taken as it is before a restart; nothing is changed.
//!
//! ```text
//! cargo run -p nexus-healer --example record_diagnosis -- CONTAINER EXPECTED rules|held_out 'how it was broken' [BEFORE]
//! ```
//!
//! What Docker answered to the start goes into the environment as NEXUS_START_ERROR: not all of it is in its word on the
//! container. BEFORE is a container of the same service with the image that it had before. The case goes to standard output, what the
//! rules make of it to standard error.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "it is a program for the terminal")]

use std::{sync::Arc, time::Duration};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nexus_docker::{Docker, Watcher};
use nexus_healer::{
    diagnosis,
    evidence::{self, Places},
    findings::{self, Surroundings},
    images::ImageChange,
    redact,
};
use nexus_model::Cause;
use serde_json::json;

/// Its containers are looked after by no healer.
const STACK: &str = "nexus-diagnosis";
const DEADLINE: Duration = Duration::from_secs(20);

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (container, expected, set, about, before) = match arguments.as_slice() {
        [container, expected, set, about] => (container, expected, set, about, None),
        [container, expected, set, about, before] => (container, expected, set, about, Some(before)),
        _ => bail!("give CONTAINER EXPECTED rules|held_out 'how it was broken' [BEFORE]"),
    };
    let expected: Cause = expected.parse().ok().with_context(|| format!("there is no cause {expected}"))?;
    if !matches!(set.as_str(), "rules" | "held_out") {
        bail!("the set is rules or held_out, not {set}");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(record(container, expected, set, about, before.map(String::as_str)))
}

async fn record(name: &str, expected: Cause, set: &str, about: &str, before: Option<&str>) -> Result<()> {
    let socket = std::env::var("NEXUS_DOCKER_SOCKET").unwrap_or_else(|_| "/var/run/docker.sock".to_owned());
    let docker = Arc::new(Docker::connect(socket.as_ref(), DEADLINE));
    let container = docker.inspect(name).await?;
    let watcher = Watcher::spawn(Arc::clone(&docker), STACK.to_owned());
    let mut snapshots = watcher.subscribe();
    let snapshot = tokio::time::timeout(DEADLINE, snapshots.wait_for(|snapshot| snapshot.up)).await??.clone();
    let image_change = match before {
        Some(before) => {
            let before = docker.inspect(before).await?;
            let at = container.created_at.context("the container was made at no known time")?;
            Some(ImageChange { image_before: before.image, image_id_before: before.image_id, at })
        }
        None => None,
    };
    let around = Surroundings {
        dependencies: findings::dependencies(&container, &snapshot),
        image_change,
        last_oom_seconds: None,
        ended_by_docker: false,
    };
    let places = Places { procfs: "/proc".into(), cgroupfs: "/sys/fs/cgroup".into(), disk: "/".into() };
    let mut findings = evidence::gather(&docker, &container, &places, around, true).await.findings;
    let now = Timestamp::now();
    findings.taken_at = Some(now);
    if findings.error.is_empty() {
        findings.error = std::env::var("NEXUS_START_ERROR").map(|error| redact::line(&error)).unwrap_or_default();
    }
    let diagnosis = diagnosis::diagnose(&findings, now);
    let case = json!({
        "about": about, "recorded": true, "set": set, "expected": expected, "findings": findings,
    });
    println!("{}", serde_json::to_string_pretty(&case)?);
    let right = if diagnosis.cause == expected { "right" } else { "WRONG" };
    eprintln!("{right}: expected {expected}; {}", diagnosis::in_short(&diagnosis));
    Ok(())
}
