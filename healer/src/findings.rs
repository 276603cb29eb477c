//! What a diagnosis rests on, as plain data: taken by [`crate::evidence`] before a restart, or read from a recorded case.
//!
//! All text in it has been redacted and bounded.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_docker::{Container, Health, Snapshot, Status};
use nexus_model::ServiceKey;
use serde::{Deserialize, Serialize};

use crate::{cgroup::Usage, dependencies, images::ImageChange, redact};

/// Lines kept of the output of one probe.
pub const PROBE_LINES: usize = 10;
/// Dependencies that are looked at. More in one label are nonsense.
const MOST_DEPENDENCIES: usize = 32;
/// The state of a service that has no container.
const ABSENT: &str = "absent";
/// Bytes of a name that somebody else has chosen.
const LONGEST_NAME: usize = 100;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Findings {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub taken_at: Option<Timestamp>,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub container_id: String,
    pub image: String,
    pub image_id: String,
    /// Docker's words for state and health.
    pub state: String,
    pub health: String,
    pub exit_code: i64,
    pub oom_killed: bool,
    /// Docker's own error on the last start.
    pub error: String,
    pub restart_count: i64,
    pub created_at: Option<Timestamp>,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    pub memory_limit_bytes: Option<u64>,
    /// Processors that it may use at most.
    pub cpu_limit: Option<f64>,
    pub network_mode: String,
    pub healthcheck: Option<Check>,
    /// Oldest first.
    pub probes: Vec<ProbeRun>,
    /// The last lines, oldest first, each with Docker's time in front.
    pub log: Vec<String>,
    pub usage: Usage,
    pub host: Host,
    pub dependencies: Vec<Dependency>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub image_change: Option<ImageChange>,
    /// How long ago the last kill for want of memory was in it, at least, as far as anybody watched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_oom_seconds: Option<f64>,
    /// It ran on while Docker was down, and Docker ended it on its return.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub ended_by_docker: bool,
}

/// The health check's settings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Check {
    pub interval_seconds: f64,
    pub timeout_seconds: f64,
    pub start_period_seconds: f64,
    pub retries: u32,
}

/// One run of the health check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProbeRun {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub exit_code: i64,
    /// The last lines of its output.
    pub output: Vec<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Host {
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    /// Share of the last minute in which something waited for memory, in percent.
    pub memory_pressure: Option<f64>,
    /// Processes that the kernel killed for want of memory since boot, on the whole machine.
    pub oom_kills: Option<u64>,
    /// Of the file system that Docker keeps containers on.
    pub disk_total_bytes: Option<u64>,
    pub disk_available_bytes: Option<u64>,
    pub disk_inodes: Option<u64>,
    pub disk_inodes_available: Option<u64>,
}

/// A service that the ill one needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Dependency {
    /// With its project in front, where that is another.
    pub service: String,
    /// Docker's words for the best of its containers; `absent` when there is none.
    pub state: String,
    pub health: String,
    /// It is only run once before the others, and must have ended well.
    pub once: bool,
    pub exit_code: i64,
}

/// What is known of an ill container beside itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Surroundings {
    pub dependencies: Vec<Dependency>,
    pub image_change: Option<ImageChange>,
    pub last_oom_seconds: Option<f64>,
    pub ended_by_docker: bool,
}

impl Dependency {
    pub fn is_down(&self) -> bool {
        if self.once {
            // One that was removed after its work says nothing.
            return self.state == Status::Exited.as_str() && self.exit_code != 0;
        }
        // One that there is not may be optional; who can't do without it says so in its log.
        if self.state == ABSENT {
            return false;
        }
        self.state != Status::Running.as_str() || self.health == Health::Unhealthy.as_str()
    }
}

impl Findings {
    /// What Docker's word on the container alone says: no log, no kernel, nothing of its neighbours.
    pub fn of(container: &Container) -> Self {
        let cpu_limit = container.cpu_quota_micros.map(|quota| {
            let period = container.cpu_period_micros.filter(|period| *period > 0).unwrap_or(100_000);
            quota as f64 / period as f64
        });
        Self {
            image: name(&container.image),
            container_id: container.id.clone(),
            image_id: container.image_id.clone(),
            state: container.status.as_str().to_owned(),
            health: container.health.as_str().to_owned(),
            exit_code: container.exit_code,
            oom_killed: container.oom_killed,
            error: redact::line(&container.error),
            restart_count: container.restart_count,
            created_at: container.created_at,
            started_at: container.started_at,
            finished_at: container.finished_at,
            memory_limit_bytes: container.memory_limit_bytes,
            cpu_limit,
            network_mode: name(&container.network_mode),
            healthcheck: container.healthcheck.map(|check| Check {
                interval_seconds: check.interval.as_secs_f64(),
                timeout_seconds: check.timeout.as_secs_f64(),
                start_period_seconds: check.start_period.as_secs_f64(),
                retries: check.retries,
            }),
            probes: probes(container),
            ..Self::default()
        }
    }

    pub fn has_ended(&self) -> bool {
        self.state == Status::Exited.as_str() || self.state == Status::Dead.as_str()
    }

    pub fn is_unhealthy(&self) -> bool {
        self.state == Status::Running.as_str() && self.health == Health::Unhealthy.as_str()
    }
}

/// The last probes, their output redacted and bounded.
pub fn probes(container: &Container) -> Vec<ProbeRun> {
    let told = |probe: &nexus_docker::Probe| {
        // Redacted whole: what a line means may be said by the lines before it.
        let mut lines = redact::lines(probe.output.lines().filter(|line| !line.trim().is_empty()));
        // The end of an output says what went wrong.
        lines.drain(..lines.len().saturating_sub(PROBE_LINES));
        ProbeRun { start: probe.start, end: probe.end, exit_code: probe.exit_code, output: lines }
    };
    container.probes.iter().map(told).collect()
}

/// What a container needs, by its labels and its network, and how that is doing.
pub fn dependencies(container: &Container, snapshot: &Snapshot) -> Vec<Dependency> {
    let needed = dependencies::needs(container, snapshot).into_keys().map(|key| (key, false));
    let once = dependencies::needed_once(container).into_iter().map(|key| (key, true));
    let all: BTreeMap<ServiceKey, bool> = needed.chain(once).collect();
    let others =
        all.into_iter().filter(|(key, _)| (&*key.project, &*key.service) != (container.project(), container.service()));
    others.take(MOST_DEPENDENCIES).map(|(key, once)| dependency(&key, once, container.project(), snapshot)).collect()
}

fn dependency(key: &ServiceKey, once: bool, own_project: &str, snapshot: &Snapshot) -> Dependency {
    let ServiceKey { project, service } = key;
    let absent = Dependency {
        service: if project == own_project { name(service) } else { name(&key.to_string()) },
        state: ABSENT.to_owned(),
        health: Health::None.as_str().to_owned(),
        once,
        exit_code: 0,
    };
    let replicas = snapshot.containers.values().map(|watched| &*watched.container);
    let replicas = replicas.filter(|it| it.project() == project && it.service() == service && !it.is_one_off());
    let told = |it: &Container| Dependency {
        state: it.status.as_str().to_owned(),
        health: it.health.as_str().to_owned(),
        exit_code: it.exit_code,
        ..absent.clone()
    };
    // One replica that is well is enough.
    replicas.map(told).min_by_key(Dependency::is_down).unwrap_or(absent)
}

fn name(text: &str) -> String {
    redact::cut(&redact::line(text), LONGEST_NAME)
}

#[cfg(test)]
mod tests {
    use nexus_docker::{StopCause, Watched};
    use nexus_model::labels;

    use super::*;
    use crate::testing::{container, exited};

    #[test]
    fn dependencies_are_those_of_the_label_in_their_best_state() {
        let of = |id: &str, service: &str, container: Container| {
            let mut container = Container { id: id.into(), ..container };
            container.labels.insert(labels::COMPOSE_SERVICE.into(), service.into());
            (
                container.id.clone(),
                Watched {
                    container: container.into(),
                    stop: StopCause::Unknown,
                    has_been_healthy: false,
                    oom_events: 0,
                },
            )
        };
        let mut stranger = exited(1);
        stranger.labels.insert(labels::COMPOSE_PROJECT.into(), "other".into());
        let well = Container { health: Health::Healthy, ..container() };
        let snapshot = Snapshot {
            up: true,
            containers: [
                of("1", "db", exited(1)),
                of("2", "db", well.clone()),
                of("3", "cache", container()),
                of("4", "migrate", exited(0)),
                of("5", "seed", exited(3)),
                of("6", "queue", Container { ..stranger }),
            ]
            .into(),
            ..Snapshot::default()
        };
        let mut ill = container();
        let label = "db:service_healthy:true,cache:service_started:false,migrate:service_completed_successfully:false,\
                     seed:service_completed_successfully:false,queue,, db:service_healthy:true";
        ill.labels.insert(labels::COMPOSE_DEPENDS_ON.into(), label.into());
        let found = dependencies(&ill, &snapshot);
        let down: Vec<(&str, bool)> = found.iter().map(|it| (it.service.as_str(), it.is_down())).collect();
        assert_eq!(down, [("cache", true), ("db", false), ("migrate", false), ("queue", false), ("seed", true)]);
        assert_eq!(found[3].state, "absent");
        ill.labels.insert(labels::COMPOSE_DEPENDS_ON.into(), "x,".repeat(100_000));
        assert_eq!(dependencies(&ill, &snapshot).len(), 1);
        assert_eq!(dependencies(&container(), &snapshot), []);
        // What Compose does not know, and the network that it lives in.
        let mut ill = Container { network_mode: "container:1".into(), ..container() };
        ill.labels.insert(labels::DEPENDS_ON.into(), "other/queue, cache".into());
        let found: Vec<(String, bool)> =
            dependencies(&ill, &snapshot).into_iter().map(|it| (it.service.clone(), it.is_down())).collect();
        let expected = [("other/queue", true), ("cache", true), ("db", false)];
        assert_eq!(found, expected.map(|(service, is_down)| (service.to_owned(), is_down)));
    }
}
