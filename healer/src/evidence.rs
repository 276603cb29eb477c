//! What is kept of an illness before a restart wipes it out: state, probes, log, and how the host was doing.
//!
//! Everything together has a deadline and every piece a size: evidence must not hold up the cure. A log that takes longer is
//! read on beside the restart, which does not wipe it out, and is kept when it comes. What could not be had is said in its
//! place. Environment values and arguments are never asked for; text of others goes through
//! [`crate::redact`].

use std::{path::Path, sync::Arc, time::Duration};

use nexus_docker::{Container, Docker, Health};
use nexus_model::{Evidence, EvidenceKind, Now};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::redact;

/// How long the restart waits for the log, the only piece that Docker has to be asked for once more. It takes Docker a few
/// milliseconds, unless the disk is busy.
const LOG_PATIENCE: Duration = Duration::from_millis(100);
/// After that it is not waited for at all.
const LOG_DEADLINE: Duration = Duration::from_secs(2);
const LOG_LINES: u32 = 100;
/// Bytes of log kept, before and after redaction.
const LOG_BYTES: usize = 16 * 1024;
/// Lines kept of the output of one probe.
const PROBE_LINES: usize = 10;
/// Bytes of the one line that goes into messages.
const LAST_WORDS: usize = 300;

/// The pieces, and the line that says most.
#[derive(Debug)]
pub struct Gathered {
    pub pieces: Vec<(EvidenceKind, Value)>,
    /// Empty when neither log nor probe said anything.
    pub last_words: String,
    /// The log, when it is not among the pieces because it is still being read.
    pub late_log: Option<JoinHandle<Log>>,
}

/// The redacted lines, or why there are none.
pub type Log = Result<Vec<String>, String>;

/// Takes evidence of a container that was just inspected. `procfs` is where the host's /proc is.
pub async fn gather(docker: &Arc<Docker>, container: &Container, procfs: &Path) -> Gathered {
    let mut reading = tokio::spawn(read_log(Arc::clone(docker), container.id.clone()));
    let (log, late_log) = match tokio::time::timeout(LOG_PATIENCE, &mut reading).await {
        Ok(log) => (Some(log.unwrap_or_else(|_| Err("reading the log broke down".to_owned()))), None),
        Err(_) => (None, Some(reading)),
    };
    let probes = probes(container);
    let lines = log.as_ref().and_then(|log| log.as_deref().ok());
    let last_words = last_words(container, lines.unwrap_or_default(), &probes);
    let mut pieces = vec![(EvidenceKind::Inspect, inspected(container))];
    if container.healthcheck.is_some() {
        pieces.push((EvidenceKind::HealthLog, json!({ "probes": probes })));
    }
    pieces.extend(log.map(|log| (EvidenceKind::Logs, logged(log))));
    pieces.push((EvidenceKind::HostVitals, vitals(procfs)));
    Gathered { pieces, last_words, late_log }
}

async fn read_log(docker: Arc<Docker>, container_id: String) -> Log {
    match tokio::time::timeout(LOG_DEADLINE, docker.logs_tail(&container_id, LOG_LINES, LOG_BYTES)).await {
        Ok(Ok(lines)) => Ok(bounded(redact::lines(lines.iter().map(String::as_str)))),
        Ok(Err(error)) => Err(redact::line(&chain(&error))),
        Err(_) => Err(format!("the log did not come within {} s", LOG_DEADLINE.as_secs())),
    }
}

fn logged(log: Log) -> Value {
    match log {
        Ok(lines) => json!({ "lines": lines }),
        Err(reason) => json!({ "error": reason }),
    }
}

/// The log that came after the restart was asked for, as a row of the attempt.
pub async fn late(log: JoinHandle<Log>, incident: Uuid, attempt: Uuid) -> Evidence {
    let log = log.await.unwrap_or_else(|_| Err("reading the log broke down".to_owned()));
    Evidence {
        id: Uuid::now_v7(),
        incident_id: incident,
        attempt_id: Some(attempt),
        kind: EvidenceKind::Logs,
        taken_at: jiff::Timestamp::now(),
        body: logged(log),
    }
}

impl Gathered {
    /// As rows of an attempt.
    pub fn rows(&self, incident: Uuid, attempt: Uuid, now: &Now) -> Vec<Evidence> {
        let row = |(kind, body): &(EvidenceKind, Value)| Evidence {
            id: Uuid::now_v7(),
            incident_id: incident,
            attempt_id: Some(attempt),
            kind: *kind,
            taken_at: now.wall,
            body: body.clone(),
        };
        self.pieces.iter().map(row).collect()
    }
}

fn inspected(container: &Container) -> Value {
    json!({
        "container": container.name,
        "id": container.id,
        "image": container.image,
        "image_id": container.image_id,
        "state": container.status.as_str(),
        "health": container.health.as_str(),
        "failing_streak": container.failing_streak,
        "exit_code": container.exit_code,
        "oom_killed": container.oom_killed,
        "error": redact::line(&container.error),
        "restart_count": container.restart_count,
        "restart_policy": container.restart_policy.as_str(),
        "created_at": container.created_at,
        "started_at": container.started_at,
        "finished_at": container.finished_at,
        "memory_limit_bytes": container.memory_limit_bytes,
        "network_mode": container.network_mode,
        "log_driver": container.log_driver,
        "healthcheck": container.healthcheck.map(|check| json!({
            "interval_seconds": check.interval.as_secs_f64(),
            "timeout_seconds": check.timeout.as_secs_f64(),
            "start_period_seconds": check.start_period.as_secs_f64(),
            "retries": check.retries,
        })),
    })
}

fn probes(container: &Container) -> Vec<Value> {
    let told = |probe: &nexus_docker::Probe| {
        // Redacted whole: what a line means may be said by the lines before it.
        let mut lines = redact::lines(probe.output.lines().filter(|line| !line.trim().is_empty()));
        // The end of an output says what went wrong.
        lines.drain(..lines.len().saturating_sub(PROBE_LINES));
        json!({
            "start": probe.start,
            "end": probe.end,
            "exit_code": probe.exit_code,
            "output": lines,
        })
    };
    container.probes.iter().map(told).collect()
}

/// The newest lines that fit.
fn bounded(mut lines: Vec<String>) -> Vec<String> {
    let mut room = LOG_BYTES;
    let mut kept = 0;
    for line in lines.iter().rev() {
        if line.len() > room {
            break;
        }
        room -= line.len();
        kept += 1;
    }
    lines.drain(..lines.len() - kept);
    lines
}

/// What a message shows: the failed probe of an unhealthy container, otherwise the end of the log.
fn last_words(container: &Container, log: &[String], probes: &[Value]) -> String {
    let probe = probes.last().and_then(|probe| probe["output"].as_array()?.last()?.as_str());
    let logged = log.iter().rev().map(|line| without_timestamp(line)).find(|line| !line.trim().is_empty());
    let words = if container.health == Health::Unhealthy { probe.or(logged) } else { logged.or(probe) };
    redact::cut(words.unwrap_or_default().trim(), LAST_WORDS)
}

/// Docker puts the time in front of each line.
fn without_timestamp(line: &str) -> &str {
    match line.split_once(' ') {
        Some((first, rest)) if first.parse::<jiff::Timestamp>().is_ok() => rest,
        _ => line,
    }
}

/// Memory, load and pressure of the host, as far as the kernel tells.
fn vitals(procfs: &Path) -> Value {
    json!({
        "memory_kib": file(procfs, "meminfo", meminfo),
        "load": file(procfs, "loadavg", loadavg),
        "pressure": {
            "cpu": file(procfs, "pressure/cpu", pressure),
            "memory": file(procfs, "pressure/memory", pressure),
            "io": file(procfs, "pressure/io", pressure),
        },
    })
}

fn file(procfs: &Path, name: &str, parse: impl Fn(&str) -> Option<Value>) -> Value {
    match std::fs::read_to_string(procfs.join(name)) {
        Ok(text) => parse(&text).unwrap_or_else(|| json!({ "error": "not understood" })),
        Err(error) => json!({ "error": error.to_string() }),
    }
}

fn meminfo(text: &str) -> Option<Value> {
    const WANTED: [&str; 7] = ["MemTotal", "MemFree", "MemAvailable", "Cached", "Dirty", "SwapTotal", "SwapFree"];
    let mut found = Map::new();
    for line in text.lines() {
        let Some((name, value)) = line.split_once(':') else { continue };
        if WANTED.contains(&name) {
            let kib: u64 = value.split_whitespace().next()?.parse().ok()?;
            found.insert(name.to_owned(), kib.into());
        }
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

fn loadavg(text: &str) -> Option<Value> {
    let mut words = text.split_whitespace();
    let mut next = || words.next()?.parse::<f64>().ok();
    Some(json!([next()?, next()?, next()?]))
}

/// `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`: the shares of time in percent.
fn pressure(text: &str) -> Option<Value> {
    let mut found = Map::new();
    for line in text.lines() {
        let (kind, rest) = line.split_once(' ')?;
        let mut averages = Map::new();
        for (name, value) in rest.split_whitespace().filter_map(|word| word.split_once('=')) {
            if name.starts_with("avg") {
                averages.insert(name.to_owned(), value.parse::<f64>().ok()?.into());
            }
        }
        found.insert(kind.to_owned(), averages.into());
    }
    (!found.is_empty()).then_some(Value::Object(found))
}

/// An error with its causes on one line.
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use nexus_docker::Probe;

    use super::*;
    use crate::testing::{container, exited};

    #[test]
    fn the_state_is_kept_without_labels_environment_and_arguments() {
        let body = inspected(&exited(137));
        assert_eq!(body["exit_code"], 137);
        assert_eq!(body["state"], "exited");
        let keys: Vec<&String> = body.as_object().unwrap().keys().collect();
        for forbidden in ["labels", "env", "args", "cmd", "mounts"] {
            assert!(!keys.iter().any(|key| key.eq_ignore_ascii_case(forbidden)), "{forbidden}");
        }
    }

    #[test]
    fn probes_are_redacted_and_bounded() {
        let mut container = container();
        let output = format!("{}GET /?token=abcdef failed\n\n", "noise\n".repeat(50));
        container.probes = vec![Probe { start: None, end: None, exit_code: 1, output }];
        let probes = probes(&container);
        let lines = probes[0]["output"].as_array().unwrap();
        assert_eq!(lines.len(), PROBE_LINES);
        assert_eq!(lines.last().unwrap(), "GET /?token=*** failed");
        assert_eq!(
            last_words(&container, &["2026-01-02T03:04:05Z from the log".into()], &probes),
            "GET /?token=*** failed"
        );
        assert_eq!(
            last_words(&exited(1), &["2026-01-02T03:04:05Z from the log".into(), " ".into()], &probes),
            "from the log"
        );
        assert_eq!(last_words(&exited(1), &[], &[]), "");
    }

    #[test]
    fn of_a_long_log_the_end_is_kept() {
        let lines: Vec<String> = (0..100).map(|number| format!("{number} {}", "x".repeat(900))).collect();
        let kept = bounded(lines);
        assert!(kept.len() > 10 && kept.iter().map(String::len).sum::<usize>() <= LOG_BYTES);
        assert!(kept.last().unwrap().starts_with("99 "));
    }

    #[test]
    fn vitals_are_read_and_what_is_missing_is_said() {
        let root = tempfile::tempdir().unwrap();
        let proc = root.path();
        std::fs::create_dir(proc.join("pressure")).unwrap();
        std::fs::write(proc.join("meminfo"), "MemTotal:   3884372 kB\nMemAvailable:  1000 kB\nHugePages_Total: 0\n")
            .unwrap();
        std::fs::write(proc.join("loadavg"), "0.52 1.5 2 1/180 99\n").unwrap();
        std::fs::write(
            proc.join("pressure/memory"),
            "some avg10=1.50 avg60=0.00 avg300=0.00 total=9\nfull avg10=0.10 avg60=0.00 avg300=0.00 total=3\n",
        )
        .unwrap();
        std::fs::write(proc.join("pressure/io"), "nonsense").unwrap();
        let vitals = vitals(proc);
        assert_eq!(vitals["memory_kib"]["MemTotal"], 3884372);
        assert_eq!(vitals["load"], json!([0.52, 1.5, 2.0]));
        assert_eq!(vitals["pressure"]["memory"]["full"]["avg10"], 0.1);
        assert_eq!(vitals["pressure"]["io"]["error"], "not understood");
        assert!(vitals["pressure"]["cpu"]["error"].as_str().unwrap().contains("No such file"));
    }
}
