//! `container`: what Docker says of each container of this stack, and what it uses by the kernel's count.
//!
//! State comes from `nexus_docker`'s watcher and costs no call to the daemon here; usage comes from cgroup files. When
//! Docker does not answer, its state families are absent, while usage is still read for the containers known last.
//!
//! A container on the host's network, or in the network of another container, has no interfaces of its own: its
//! `container_network_*` are absent, since the same traffic is counted for the host, or for the other container.

mod log;
mod needs;
mod oom;
mod state;
mod usage;
mod write;

use std::collections::{BTreeMap, HashMap};
use std::path::Path;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Status, StopCause, Watched};

use super::netdev::{self, Interface};
use super::{Access, CollectError, DockerState, KeptFile, Reader, Roots, diskstats};
use crate::cgroup::{Files, Hierarchy, Prior, Usage, Wanted};
use crate::exposition::Labels;
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
    /// Whether a limit of swap is one of swap alone, as in version 2, or of memory and swap together.
    pub limits_swap_alone: bool,
    /// Sorted by Docker's id.
    pub containers: Vec<Reading>,
    pub devices: Arc<DeviceNames>,
    pub now: Timestamp,
    /// Running containers whose group could not be found. One that ended between Docker's last word and now is none.
    pub lost: Vec<String>,
}

/// Kernel names of block devices, by (major, minor).
type DeviceNames = HashMap<(u32, u32), String>;

/// One container.
#[derive(Clone, Debug)]
pub struct Reading {
    pub labels: Arc<Labels>,
    pub container: Arc<Container>,
    pub stop: StopCause,
    /// When its image was made.
    pub image_created: Option<Timestamp>,
    pub log_bytes: Option<u64>,
    /// `None` when it does not run, or its group is gone or could not be found.
    pub usage: Option<Usage>,
    /// Processes and threads it may have; 0: any number.
    pub threads_limit: Option<u64>,
    /// Processes killed for memory, counted across restarts; `None` when the kernel does not count.
    pub oom_events: Option<u64>,
    /// Without loopback. `None` when it has no network of its own.
    pub interfaces: Option<Vec<Interface>>,
}

/// What is kept between scrapes.
#[derive(Debug, Default)]
pub struct Kept {
    /// `None` until one is found, and when a container's group was not.
    hierarchy: Option<Hierarchy>,
    /// By container id.
    known: BTreeMap<String, Known>,
    devices: Devices,
}

#[derive(Debug, Default)]
struct Known {
    /// What Docker said last: as long as it is this, the labels are right.
    container: Option<Arc<Container>>,
    labels: Arc<Labels>,
    run: Option<Run>,
    oom: OomCounter,
    log: LogFile,
    log_bytes: Option<u64>,
}

/// One run of a container: a restart makes a new group. Dropped with the files it keeps open in the first scrape after its
/// end, since the open /proc/PID/net/dev keeps its network alive.
#[derive(Debug)]
struct Run {
    pid: u32,
    /// cAdvisor's id.
    path: String,
    files: Files,
    /// What was read in the last scrape, and when all of it was.
    prior: Option<(Timestamp, Prior)>,
    /// Scrapes since then.
    idle_scrapes: u32,
    threads_limit: Option<u64>,
    /// `None` when it has no network of its own.
    interfaces: Option<KeptFile>,
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
        if self.hierarchy.is_none() {
            self.hierarchy = Hierarchy::find(roots, reader);
        }
        let hierarchy = self.hierarchy.as_ref();
        let memory_cgroup_enabled = hierarchy.map(Hierarchy::memory_enabled);
        let limits_swap_alone = hierarchy.is_some_and(Hierarchy::limits_swap_alone);
        let mut lost = Vec::new();
        let mut containers = Vec::with_capacity(docker.containers.len());
        for (id, watched) in &docker.containers {
            if !self.known.contains_key(id) {
                self.known.insert(id.clone(), Known::default());
            }
            let Some(known) = self.known.get_mut(id) else { continue };
            let Watched { container, stop, oom_events, .. } = watched;
            known.follow(container, hierarchy, roots, reader);
            let usage = known.run.as_mut().and_then(|run| run.usage(container, reader, now));
            if usage.is_none() {
                known.end_run();
                if container.pid != 0 && roots.proc(&container.pid.to_string()).exists() {
                    lost.push(container.name.clone());
                }
            }
            let run = known.run.as_mut();
            let (threads_limit, interfaces) =
                run.map_or((None, None), |run| (run.threads_limit, run.interfaces(reader)));
            let kills = usage.as_ref().and_then(|usage| usage.work.memory.oom_kills);
            let oom_events = (memory_cgroup_enabled == Some(true))
                .then(|| known.oom.count(container.started_at, kills, *oom_events));
            containers.push(Reading {
                labels: known.labels(container),
                container: Arc::clone(container),
                stop: *stop,
                image_created: images.get(&container.image_id).copied().flatten(),
                log_bytes: known.log_bytes(container, engine_root, &roots.rootfs),
                usage,
                threads_limit,
                oom_events,
                interfaces,
            });
        }
        if self.known.len() > docker.containers.len() {
            self.known.retain(|id, _| docker.containers.contains_key(id));
        }
        if !lost.is_empty() {
            self.hierarchy = None;
        }
        Containers {
            docker_up: docker.up,
            memory_cgroup_enabled,
            limits_swap_alone,
            devices: self.devices.names(&containers, roots, reader, now),
            containers,
            now,
            lost,
        }
    }
}

impl Known {
    /// Finds the container's group, once in a run as long as it is there. None is there when it does not run.
    fn follow(
        &mut self,
        container: &Arc<Container>,
        hierarchy: Option<&Hierarchy>,
        roots: &Roots,
        reader: &mut Reader,
    ) {
        let has_changed = self.container.as_ref().is_none_or(|known| !Arc::ptr_eq(known, container));
        match &mut self.run {
            Some(run) if run.pid == container.pid => {
                if has_changed {
                    run.threads_limit = run.files.threads_limit(reader);
                    run.prior = None;
                }
            }
            _ if container.pid == 0 => self.end_run(),
            _ => {
                self.run = hierarchy.and_then(|hierarchy| Run::begin(container, hierarchy, roots, reader));
                self.container = None;
            }
        }
        if has_changed {
            // Makes the labels anew.
            self.container = None;
        }
    }

    fn end_run(&mut self) {
        if self.run.take().is_some() {
            // The label `id` changes.
            self.container = None;
        }
    }

    /// A container that does nothing writes no log; what it wrote before, Docker has put down by the next scrape.
    fn log_bytes(&mut self, container: &Container, engine_root: Option<&Path>, rootfs: &Path) -> Option<u64> {
        if self.run.as_ref().is_none_or(|run| run.idle_scrapes < 2) {
            self.log_bytes = self.log.bytes(container, engine_root, rootfs);
        }
        self.log_bytes
    }

    fn labels(&mut self, container: &Arc<Container>) -> Arc<Labels> {
        if self.container.is_none() {
            let id = self.run.as_ref().map_or_else(|| format!("/docker/{}", container.id), |run| run.path.clone());
            self.labels = Arc::new(Labels::new(&[
                ("id", &id),
                ("name", &container.name),
                ("image", &container.image),
                ("project", container.project()),
                ("service", container.service()),
            ]));
            self.container = Some(Arc::clone(container));
        }
        Arc::clone(&self.labels)
    }
}

impl Run {
    fn begin(container: &Container, hierarchy: &Hierarchy, roots: &Roots, reader: &mut Reader) -> Option<Run> {
        let wanted = Wanted { id: &container.id, pid: container.pid, parent: &container.cgroup_parent };
        let place = hierarchy.locate(wanted, roots, reader)?;
        let files = hierarchy.files(&place, reader);
        let has_network = container.network_mode != "host" && !container.network_mode.starts_with("container:");
        let interfaces = || KeptFile::of_short_lines(roots.proc(&format!("{}/net/dev", container.pid)));
        Some(Run {
            pid: container.pid,
            threads_limit: files.threads_limit(reader),
            path: place.path,
            files,
            prior: None,
            idle_scrapes: 0,
            interfaces: has_network.then(interfaces),
        })
    }

    /// `None` when the group is gone by now: then nothing in it answers.
    fn usage(&mut self, container: &Container, reader: &mut Reader, now: Timestamp) -> Option<Usage> {
        let has_quota = container.cpu_quota_micros.is_some();
        let prior = self.prior.filter(|(at, _)| is_fresh(*at, now));
        let before = prior.as_ref().map(|(_, prior)| prior);
        let usage = self.files.usage(before, has_quota, reader);
        let after = Prior::after(before, &usage);
        (self.prior, self.idle_scrapes) = match prior {
            Some((at, before)) if before.work == after.work => (Some((at, after)), self.idle_scrapes + 1),
            _ => (Some((now, after)), 0),
        };
        (usage != Usage::default()).then_some(usage)
    }

    fn interfaces(&mut self, reader: &mut Reader) -> Option<Vec<Interface>> {
        let mut interfaces = netdev::parse(self.interfaces.as_mut()?.bytes(reader).ok()?);
        // cAdvisor's rule: loopback says nothing, and the rest are of containers inside the container.
        interfaces.retain(|interface| {
            !["lo", "veth", "docker", "nerdctl"].iter().any(|prefix| interface.name.starts_with(prefix))
        });
        Some(interfaces)
    }
}

/// Whether what was read at `at` may stand where it is likely, but not certain, to be so still.
fn is_fresh(at: Timestamp, now: Timestamp) -> bool {
    now.duration_since(at).abs() < SignedDuration::from_secs(60)
}

/// The names as they were read last: a disk that was unplugged may leave its number to another.
#[derive(Debug, Default)]
struct Devices {
    names: Arc<DeviceNames>,
    read_at: Option<Timestamp>,
}

impl Devices {
    /// The names of the devices that `containers` used, as far as the kernel has them.
    fn names(
        &mut self,
        containers: &[Reading],
        roots: &Roots,
        reader: &mut Reader,
        now: Timestamp,
    ) -> Arc<DeviceNames> {
        let mut used = containers.iter().filter_map(|one| one.usage.as_ref()).flat_map(|usage| &usage.io);
        let is_fresh = self.read_at.is_some_and(|at| is_fresh(at, now));
        if used.any(|io| !is_fresh || !self.names.contains_key(&(io.major, io.minor))) {
            self.names = Arc::new(reader.text(&roots.proc("diskstats")).map(diskstats::names).unwrap_or_default());
            self.read_at = Some(now);
        }
        Arc::clone(&self.names)
    }
}

impl Containers {
    /// Why this reading is not a full success, if it is not. That Docker does not answer is what `docker_up` says, and
    /// one cause shall raise one alert.
    pub fn fault(&self) -> Option<String> {
        (!self.lost.is_empty()).then(|| format!("no control group found for {}", self.lost.join(", ")))
    }
}

/// Whether there is a run whose figures mean something.
fn runs(container: &Container) -> bool {
    matches!(container.status, Status::Running | Status::Paused)
}
