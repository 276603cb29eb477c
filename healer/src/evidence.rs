//! What is kept of an illness before a restart wipes it out: state, probes, log, and how the host was doing.
//!
//! Everything together has a deadline and every piece a size: evidence must not hold up the cure. A log that takes longer is
//! read on beside the restart, which does not wipe it out, and is kept when it comes. What could not be had is said in its
//! place. Environment values and arguments are never asked for; text of others goes through
//! [`crate::redact`].

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use nexus_docker::{Container, Docker, Health, Status};
use nexus_model::{Evidence, EvidenceKind, Now};
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;
use uuid::Uuid;

use crate::{
    cgroup,
    findings::{self, Findings, Host, ProbeRun, Surroundings},
    redact,
};

/// How long the restart waits for the log, the only piece that Docker has to be asked for once more. It takes Docker a few
/// milliseconds, unless the disk is busy.
const LOG_PATIENCE: Duration = Duration::from_millis(100);
/// After that it is not waited for at all.
const LOG_DEADLINE: Duration = Duration::from_secs(2);
const LOG_LINES: u32 = 100;
/// Bytes of log kept, before and after redaction.
const LOG_BYTES: usize = 16 * 1024;
/// Bytes of the one line that goes into messages.
const LAST_WORDS: usize = 300;
/// How long the CPU time of a container is watched whose health check times out: the shortest that tells busy from idle, since
/// the cure waits for it. Docker takes about as long to give the log, and both are done at once.
const CPU_WATCHED: Duration = Duration::from_millis(50);

/// Where the healer looks beside Docker.
#[derive(Clone, Debug)]
pub struct Places {
    /// The host's /proc.
    pub procfs: PathBuf,
    /// The host's /sys/fs/cgroup.
    pub cgroupfs: PathBuf,
    /// A folder on the file system that Docker keeps its containers on.
    pub disk: PathBuf,
}

/// The pieces, the line that says most, and all of it as a diagnosis takes it.
#[derive(Debug)]
pub struct Gathered {
    pub pieces: Vec<(EvidenceKind, Value)>,
    /// Empty when neither log nor probe said anything.
    pub last_words: String,
    pub findings: Findings,
    /// Docker has not given the log in time.
    pub log_is_unread: bool,
    /// The log, when it is not among the pieces because it is still being read.
    pub late_log: Option<JoinHandle<Log>>,
}

/// The redacted lines, or why there are none.
pub type Log = Result<Vec<String>, String>;

/// Takes evidence of a container that was just inspected. `needs_its_log`: what it says decides whether it is restarted at all,
/// so that it is worth more than haste.
pub async fn gather(
    docker: &Arc<Docker>,
    container: &Container,
    places: &Places,
    around: Surroundings,
    needs_its_log: bool,
) -> Gathered {
    let mut reading = tokio::spawn(read_log(Arc::clone(docker), container.id.clone()));
    let patience = if needs_its_log { LOG_DEADLINE } else { LOG_PATIENCE };
    let (log, usage) = tokio::join!(tokio::time::timeout(patience, &mut reading), usage(container, &places.cgroupfs));
    let (log, late_log) = match log {
        Ok(log) => (Some(log.unwrap_or_else(|_| Err("reading the log broke down".to_owned()))), None),
        Err(_) => (None, Some(reading)),
    };
    let lines = log.as_ref().and_then(|log| log.as_deref().ok());
    let log_is_unread = lines.is_none();
    let lines = lines.unwrap_or_default();
    let probes = findings::probes(container);
    let last_words = last_words(container, lines, &probes);
    let (vitals, host) = vitals(places);
    let vitals_of_container = json!({
        "usage": usage, "dependencies": around.dependencies, "image_change": around.image_change,
        "last_oom_seconds": around.last_oom_seconds, "ended_by_docker": around.ended_by_docker,
    });
    let findings = Findings {
        probes,
        log: lines.to_vec(),
        usage,
        host,
        dependencies: around.dependencies,
        image_change: around.image_change,
        last_oom_seconds: around.last_oom_seconds,
        ended_by_docker: around.ended_by_docker,
        ..Findings::of(container)
    };
    let mut pieces = vec![(EvidenceKind::Inspect, inspected(container))];
    if container.healthcheck.is_some() {
        pieces.push((EvidenceKind::HealthLog, json!({ "probes": findings.probes })));
    }
    pieces.extend(log.map(|log| (EvidenceKind::Logs, logged(log))));
    pieces.push((EvidenceKind::HostVitals, vitals));
    pieces.push((EvidenceKind::ContainerVitals, vitals_of_container));
    Gathered { pieces, last_words, findings, log_is_unread, late_log }
}

/// What the kernel counts for it; for one whose health check times out, also whether it is busy.
async fn usage(container: &Container, cgroupfs: &Path) -> cgroup::Usage {
    let before = cgroup::read(cgroupfs, container);
    let began = Instant::now();
    let is_running = container.status == Status::Running && container.health == Health::Unhealthy;
    // Docker writes -1 for a probe that it ended itself.
    let times_out = container.probes.last().is_some_and(|probe| probe.exit_code == -1);
    let Some(spent) = before.cpu_nanos.filter(|_| is_running && times_out) else { return before };
    tokio::time::sleep(CPU_WATCHED).await;
    let mut after = cgroup::read(cgroupfs, container);
    let passed = began.elapsed().as_nanos() as f64;
    after.cpus = after.cpu_nanos.map(|now| now.saturating_sub(spent) as f64 / passed);
    // Two places are what so short a look can tell.
    after.cpus = after.cpus.map(|cpus| (cpus * 100.0).round() / 100.0);
    after
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
fn last_words(container: &Container, log: &[String], probes: &[ProbeRun]) -> String {
    let probe = probes.last().and_then(|probe| probe.output.last()).map(String::as_str);
    let logged = log.iter().rev().map(|line| without_timestamp(line)).find(|line| !line.trim().is_empty());
    let words = if container.health == Health::Unhealthy { probe.or(logged) } else { logged.or(probe) };
    redact::cut(words.unwrap_or_default().trim(), LAST_WORDS)
}

/// Docker puts the time in front of each line.
pub(crate) fn without_timestamp(line: &str) -> &str {
    match line.split_once(' ') {
        Some((first, rest)) if first.parse::<jiff::Timestamp>().is_ok() => rest,
        _ => line,
    }
}

/// Memory, load, pressure and disk of the host, as far as the kernel tells: to be kept, and to be reasoned with.
fn vitals(places: &Places) -> (Value, Host) {
    let procfs = places.procfs.as_path();
    let memory = file(procfs, "meminfo", meminfo);
    let pressure_of_memory = file(procfs, "pressure/memory", pressure);
    let oom_kills = file(procfs, "vmstat", oom_kills);
    let disk = rustix::fs::statvfs(&places.disk);
    let bytes = |name: &str| memory[name].as_u64().map(|kib| kib.saturating_mul(1024));
    let mut host = Host {
        memory_total_bytes: bytes("MemTotal"),
        memory_available_bytes: bytes("MemAvailable"),
        memory_pressure: pressure_of_memory["some"]["avg60"].as_f64(),
        oom_kills: oom_kills.as_u64(),
        ..Host::default()
    };
    let disk = match disk {
        Ok(disk) => {
            host.disk_total_bytes = Some(disk.f_blocks.saturating_mul(disk.f_frsize));
            host.disk_available_bytes = Some(disk.f_bavail.saturating_mul(disk.f_frsize));
            // Some file systems have as many as there is room for, and say 0.
            let counted = disk.f_files > 0;
            host.disk_inodes = counted.then_some(disk.f_files);
            host.disk_inodes_available = counted.then_some(disk.f_favail);
            json!({
                "total_bytes": host.disk_total_bytes,
                "available_bytes": host.disk_available_bytes,
                "inodes": host.disk_inodes,
                "inodes_available": host.disk_inodes_available,
            })
        }
        Err(error) => json!({ "error": error.to_string() }),
    };
    let vitals = json!({
        "memory_kib": memory,
        "load": file(procfs, "loadavg", loadavg),
        "pressure": {
            "cpu": file(procfs, "pressure/cpu", pressure),
            "memory": pressure_of_memory,
            "io": file(procfs, "pressure/io", pressure),
        },
        "oom_kills": oom_kills,
        "disk": disk,
    });
    (vitals, host)
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

/// Processes killed for want of memory since boot.
fn oom_kills(text: &str) -> Option<Value> {
    let counted = text.lines().find_map(|line| line.strip_prefix("oom_kill "))?;
    counted.trim().parse::<u64>().ok().map(Value::from)
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
        let probes = findings::probes(&container);
        let lines = &probes[0].output;
        assert_eq!(lines.len(), findings::PROBE_LINES);
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
        std::fs::write(proc.join("vmstat"), "nr_free_pages 7\noom_kill 2\n").unwrap();
        let places = Places { procfs: proc.into(), cgroupfs: proc.into(), disk: proc.into() };
        let (vitals, host) = vitals(&places);
        assert_eq!((host.memory_total_bytes, host.memory_pressure), (Some(3884372 * 1024), Some(0.0)));
        assert_eq!((host.oom_kills, vitals["oom_kills"].as_u64()), (Some(2), Some(2)));
        assert!(host.disk_available_bytes.unwrap() <= host.disk_total_bytes.unwrap());
        assert_eq!(vitals["disk"]["total_bytes"].as_u64(), host.disk_total_bytes);
        assert_eq!(vitals["memory_kib"]["MemTotal"], 3884372);
        assert_eq!(vitals["load"], json!([0.52, 1.5, 2.0]));
        assert_eq!(vitals["pressure"]["memory"]["full"]["avg10"], 0.1);
        assert_eq!(vitals["pressure"]["io"]["error"], "not understood");
        assert!(vitals["pressure"]["cpu"]["error"].as_str().unwrap().contains("No such file"));
    }
}
