//! `container`: what Docker says of each container of this stack, and what it uses by the kernel's count.
//!
//! State comes from `nexus_docker`'s watcher and costs no call to the daemon here; usage comes from cgroup files. When
//! Docker does not answer, its state families are absent, while usage is still read for the containers known last.
//!
//! A container on the host's network, or in the network of another container, has no interfaces of its own: its
//! `container_network_*` are absent, since the same traffic is counted for the host, or for the other container.

mod log;
mod oom;
mod state;
mod usage;
mod write;

use std::collections::HashMap;
use std::sync::Arc;

use jiff::Timestamp;
use nexus_docker::{Container, Status, StopCause, Watched};

use super::netdev::{self, Interface};
use super::{Access, CollectError, DockerState, Reader, Roots, diskstats};
use crate::cgroup::{Hierarchy, Place, Usage, Wanted};
use log::LogFile;
use oom::OomCounter;
pub use write::{FAMILIES, write};

pub const ABSENCE: Option<&str> = Some(
    "success is 0 when the control group of a running container can't be found. While Docker does \
    not answer, `docker_container_*` are absent, and `container_*` go on for the containers known last.",
);

#[derive(Clone, Debug)]
pub struct Containers {
    pub docker_up: bool,
    /// `None` where there are no cgroup files to tell it by.
    pub memory_cgroup_enabled: Option<bool>,
    /// Sorted by Docker's id.
    pub containers: Vec<Reading>,
    /// Kernel names of block devices, by (major, minor).
    pub devices: HashMap<(u32, u32), String>,
    pub now: Timestamp,
    /// Running containers whose group could not be found. One that ended between Docker's last word and now is none.
    pub lost: Vec<String>,
}

/// One container.
#[derive(Clone, Debug)]
pub struct Reading {
    /// cAdvisor's id: the cgroup path, or what it would be under the cgroupfs driver when there is none.
    pub id: String,
    pub container: Arc<Container>,
    pub stop: StopCause,
    /// When its image was made.
    pub image_created: Option<Timestamp>,
    pub log_bytes: Option<u64>,
    /// `None` when it does not run, or its group is gone or could not be found.
    pub usage: Option<Usage>,
    /// Processes killed for memory, counted across restarts; `None` when the kernel does not count.
    pub oom_events: Option<u64>,
    /// Without loopback. `None` when it has no network of its own.
    pub interfaces: Option<Vec<Interface>>,
}

/// What is kept between scrapes, by container id.
#[derive(Debug, Default)]
pub struct Kept {
    known: HashMap<String, Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// With the process id that it was found for: a restart makes a new group.
    place: Option<(u32, Place)>,
    oom: OomCounter,
    log: LogFile,
}

pub type Found = Containers;

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, docker, now, .. } = access;
    Ok(kept.read(docker, roots, reader, *now))
}

impl Kept {
    fn read(&mut self, docker: &DockerState, roots: &Roots, reader: &mut Reader, now: Timestamp) -> Containers {
        let DockerState { snapshot: docker, images, .. } = docker;
        let engine_root = docker.engine.as_ref().map(|engine| engine.root_dir.as_path());
        let hierarchy = Hierarchy::find(roots, reader);
        let memory_cgroup_enabled = hierarchy.as_ref().map(Hierarchy::memory_enabled);
        self.known.retain(|id, _| docker.containers.contains_key(id));
        let mut lost = Vec::new();
        let mut containers = Vec::with_capacity(docker.containers.len());
        for (id, watched) in &docker.containers {
            let known = self.known.entry(id.clone()).or_default();
            let Watched { container, stop, oom_events } = watched;
            let place = hierarchy.as_ref().and_then(|hierarchy| known.place(hierarchy, container, roots, reader));
            let path = place.map_or_else(|| format!("/docker/{id}"), |place| place.path.clone());
            let usage = hierarchy.as_ref().zip(place).map(|(hierarchy, place)| hierarchy.usage(place, reader));
            // A group that is gone by now answers nothing at all.
            let usage = usage.filter(|usage| *usage != Usage::default());
            if usage.is_none() {
                known.place = None;
                if container.pid != 0 && roots.proc(&container.pid.to_string()).exists() {
                    lost.push(container.name.clone());
                }
            }
            let interfaces = usage.is_some().then(|| interfaces(container, roots, reader)).flatten();
            let kills = usage.as_ref().and_then(|usage| usage.memory.oom_kills);
            let oom_events = (memory_cgroup_enabled == Some(true))
                .then(|| known.oom.count(container.started_at, kills, *oom_events));
            let image_created = images.get(&container.image_id).copied().flatten();
            let log_bytes = known.log.bytes(container, engine_root, &roots.rootfs);
            let (container, stop) = (Arc::clone(container), *stop);
            let id = path;
            containers.push(Reading { id, container, stop, image_created, log_bytes, usage, oom_events, interfaces });
        }
        let devices = reader.text(&roots.proc("diskstats")).map(diskstats::names).unwrap_or_default();
        Containers { docker_up: docker.up, memory_cgroup_enabled, containers, devices, now, lost }
    }
}

impl Known {
    /// Where the container's group is, looked for once in a run as long as it is there. `None` when it does not run.
    fn place(
        &mut self,
        hierarchy: &Hierarchy,
        container: &Container,
        roots: &Roots,
        reader: &mut Reader,
    ) -> Option<&Place> {
        if container.pid == 0 {
            self.place = None;
        } else if self.place.as_ref().is_none_or(|(pid, _)| *pid != container.pid) {
            let wanted = Wanted { id: &container.id, pid: container.pid, parent: &container.cgroup_parent };
            self.place = hierarchy.locate(wanted, roots, reader).map(|place| (container.pid, place));
        }
        self.place.as_ref().map(|(_, place)| place)
    }
}

impl Containers {
    /// Why this reading is not a full success, if it is not. That Docker does not answer is what `docker_up` says, and
    /// one cause shall raise one alert.
    pub fn fault(&self) -> Option<String> {
        (!self.lost.is_empty()).then(|| format!("no control group found for {}", self.lost.join(", ")))
    }
}

fn interfaces(container: &Container, roots: &Roots, reader: &mut Reader) -> Option<Vec<Interface>> {
    if container.network_mode == "host" || container.network_mode.starts_with("container:") {
        return None;
    }
    let text = reader.text(&roots.proc(&format!("{}/net/dev", container.pid))).ok()?;
    let mut interfaces = netdev::parse(text);
    // cAdvisor's rule: loopback says nothing, and the rest are of containers inside the container.
    interfaces.retain(|interface| !["lo", "veth", "docker"].iter().any(|prefix| interface.name.starts_with(prefix)));
    Some(interfaces)
}

/// Whether there is a run whose figures mean something.
fn runs(container: &Container) -> bool {
    matches!(container.status, Status::Running | Status::Paused)
}
