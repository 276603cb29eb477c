//! What people are told of it, as alerts: pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use nexus_model::{AttemptOutcome, IncidentState, Mode, ServiceKey};

use crate::{case::Case, tell::Alert};

/// Something was stopped for the machine, and is not started again yet.
pub const STOPPED: &str = "HostReliefStopped";
/// Nothing is left that could be given up.
pub const FAILED: &str = "HostReliefFailed";
/// The memory of a container is about to reach its limit.
pub const RUNS_OUT: &str = "ContainerMemoryRunsOut";

/// What there is to tell about an incident of the machine.
pub fn alert(case: &Case) -> Option<Alert> {
    let incident = &case.incident;
    if incident.mode != Mode::Heal || !case.is_open() {
        return None;
    }
    let what = &incident.service;
    // One that Docker could not stop runs on, as far as is known.
    let is_stopped = |id: &str| {
        let last = case.attempts_on(id).rfind(|attempt| attempt.attempt.action == "stop");
        !matches!(
            last.and_then(|last| last.attempt.outcome),
            Some(AttemptOutcome::Failed | AttemptOutcome::Interrupted)
        )
    };
    let stopped = case.memory.relief.stopped.iter().filter(|(id, _)| is_stopped(id));
    let stopped: Vec<String> = stopped.map(|(_, stopped)| stopped.key.to_string()).collect();
    let story = format!("./nexus incidents {}", incident.id);
    let (name, severity, since, summary, description, action) = if incident.state == IncidentState::GaveUp {
        (
            FAILED,
            "critical",
            case.memory.relief.gave_up_at.unwrap_or(incident.opened_at),
            format!("The {what} is running out, and the healer has nothing left to give up"),
            format!("There was {}. {}", incident.problem, tried(case)),
            if what == "disk" {
                format!("Find what grows: du -xh -d1 /, docker system df\n{story}")
            } else {
                format!("See what uses it: docker stats --no-stream (or ps aux --sort=-rss | head)\n{story}")
            },
        )
    } else if !stopped.is_empty() {
        (
            STOPPED,
            "warning",
            incident.opened_at,
            format!("Stopped for want of {what}: {}", stopped.join(", ")),
            format!("There was {}. They are started again when there has been room for a while.", incident.problem),
            story,
        )
    } else {
        return None;
    };
    let labels = BTreeMap::from([
        ("alertname", name.to_owned()),
        ("severity", severity.to_owned()),
        ("host", incident.host.clone()),
        ("resource", what.clone()),
    ]);
    let annotations = BTreeMap::from([
        ("summary", summary),
        ("description", description),
        ("action", action),
        ("incident", incident.id.to_string()),
        ("runbook_url", format!("docs/runbooks/{name}.md")),
        ("dashboard_url", "/d/nexus-pi".to_owned()),
    ]);
    Some(Alert { labels, annotations, since })
}

fn tried(case: &Case) -> String {
    let acts: Vec<String> = case
        .attempts
        .iter()
        .map(|it| format!("{}: {}", it.attempt.action, it.attempt.detail.as_deref().unwrap_or("under way")))
        .collect();
    if acts.is_empty() { "Nothing could be done.".to_owned() } else { format!("Done so far: {}.", acts.join("; ")) }
}

/// A container whose memory is about to reach its limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Running {
    pub key: ServiceKey,
    pub name: String,
    pub run: Option<Timestamp>,
    pub limit: u64,
    pub pace: u64,
    pub left: SignedDuration,
    pub since: Timestamp,
    /// So soon that it is restarted, where that is allowed.
    pub act: bool,
}

impl Running {
    /// For people.
    pub fn problem(&self) -> String {
        let (limit, pace) = (super::bytes(self.limit), super::bytes(self.pace));
        format!(
            "its memory grows by {pace} a second and reaches its limit of {limit} in {} s",
            self.left.as_secs().max(0)
        )
    }
}

/// The words do not change while it lasts, since each change is posted again.
pub fn runs_out(running: &Running, host: &str) -> Alert {
    let Running { key, name, limit, since, .. } = running;
    let labels = BTreeMap::from([
        ("alertname", RUNS_OUT.to_owned()),
        ("severity", "critical".to_owned()),
        ("host", host.to_owned()),
        ("project", key.project.clone()),
        ("service", key.service.clone()),
        ("name", name.clone()),
    ]);
    let (project, service) = (crate::tell::word(&key.project), crate::tell::word(&key.service));
    let limit = super::bytes(*limit);
    let annotations = BTreeMap::from([
        ("summary", format!("{name} is about to run out of memory")),
        (
            "description",
            format!("It grows steadily and reaches its limit of {limit} within two minutes; then the kernel kills it."),
        ),
        (
            "action",
            format!("docker compose -p {project} restart {service}\nThen find the leak, or raise its mem_limit."),
        ),
        ("runbook_url", format!("docs/runbooks/{RUNS_OUT}.md")),
        ("dashboard_url", "/d/nexus-containers".to_owned()),
    ]);
    Alert { labels, annotations, since: *since }
}
