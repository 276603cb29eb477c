//! `docker`: the engine itself, whether it answers, what it is, and what its events come to. All of it is what the watcher
//! knows; nothing is asked for here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use nexus_docker::{Snapshot, Status};

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some(
    "always 1. While Docker does not answer `docker_up` is 0, `docker_info` and `docker_containers` are absent, and the age \
     of the list grows.",
);

#[derive(Clone, Debug)]
pub struct Engine {
    pub snapshot: Arc<Snapshot>,
    /// Since the list of containers was last compared with what is known; `None` until Docker has answered once.
    pub list_age: Option<Duration>,
}

pub type Found = Engine;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let snapshot = Arc::clone(&access.docker.snapshot);
    let list_age = snapshot.listed_at.map(|at| at.elapsed());
    Ok(Engine { snapshot, list_age })
}

const UP: Family =
    gauge("docker_up", "Whether the Docker Engine answers.", &[], "event stream and list of the Engine API");
const INFO: Family = gauge(
    "docker_info",
    "The Docker Engine, value is always 1.",
    &["version", "api_version", "storage_driver", "cgroup_version", "cgroup_driver"],
    "GET /version, /info",
);
const CONTAINERS: Family = gauge(
    "docker_containers",
    "Containers of this stack by the state that Docker gives them.",
    &["state"],
    "inspect: State.Status",
);
const LIST_AGE: Family = gauge(
    "docker_list_age_seconds",
    "Time since Docker last listed its containers, which it is asked to every minute.",
    &[],
    "GET /containers/json",
);
const EVENTS: Family = counter(
    "docker_events_total",
    "Events of this stack's containers since the exporter started; probes of health checks are not asked for.",
    &["action"],
    "GET /events",
);
const RECONNECTS: Family = counter(
    "docker_event_stream_reconnects_total",
    "How often the stream of events was opened again after it had ended.",
    &[],
    "GET /events",
);
pub const FAMILIES: &[Family] = &[UP, INFO, CONTAINERS, LIST_AGE, EVENTS, RECONNECTS];

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, source }
}

const fn counter(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> Family {
    Family { name, kind: Kind::Counter, help, labels, source }
}

pub fn write(engine: &Engine, out: &mut Exposition) {
    let snapshot = &engine.snapshot;
    out.family(&UP).single(snapshot.up);
    if snapshot.up {
        if let Some(info) = &snapshot.engine {
            let labels = [
                ("version", info.version.as_str()),
                ("api_version", &info.api_version),
                ("storage_driver", &info.storage_driver),
                ("cgroup_version", &info.cgroup_version),
                ("cgroup_driver", &info.cgroup_driver),
            ];
            out.family(&INFO).sample(&labels, 1u64);
        }
        let mut counts: BTreeMap<Status, u64> = Status::ALL.map(|status| (status, 0)).into();
        for watched in snapshot.containers.values() {
            *counts.entry(watched.container.status).or_default() += 1;
        }
        let mut family = out.family(&CONTAINERS);
        for (status, count) in counts {
            family.sample(&[("state", status.as_str())], count);
        }
    }
    if let Some(age) = engine.list_age {
        out.family(&LIST_AGE).single(age.as_secs_f64());
    }
    let mut family = out.family(&EVENTS);
    for (action, count) in snapshot.events.iter() {
        family.sample(&[("action", action)], count);
    }
    out.family(&RECONNECTS).single(snapshot.reconnects);
}
