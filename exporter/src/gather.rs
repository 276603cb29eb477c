//! Asks the collectors one after the other: reads of /sys at the same time hurt the kernel more than they help.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::collect::filesystem::{Ask, Mounts};
use crate::collect::{
    CollectError, Collector, Reader, Roots, Selection, container, cpu, diskstats, loadavg, meminfo, netdev, pressure,
    stat, thermal_zone, uname,
};
use crate::snapshot::{Outcome, Snapshot};

/// What Docker's containers are at the moment; never waits for the daemon.
pub type DockerView = Box<dyn Fn() -> Arc<nexus_docker::Snapshot> + Send>;

/// The collectors with what they keep between scrapes.
pub struct Gatherer {
    roots: Roots,
    docker: DockerView,
    reader: Reader,
    cpu: cpu::Kept,
    mounts: Mounts,
    containers: container::Kept,
    /// Collectors whose fault has been told, so that it is told once.
    faulty: Selection,
}

impl Gatherer {
    pub fn new(roots: Roots, ask: Ask, mount_timeout: Duration, docker: DockerView) -> Self {
        Gatherer {
            roots,
            docker,
            reader: Reader::default(),
            cpu: cpu::Kept::default(),
            mounts: Mounts::new(ask, mount_timeout),
            containers: container::Kept::default(),
            faulty: Selection::NONE,
        }
    }

    pub fn gather(&mut self, wanted: Selection, now: Timestamp) -> Snapshot {
        let mut asked = Asked { wanted, outcomes: Vec::new() };
        let Gatherer { roots, reader, .. } = self;
        let mut snapshot = Snapshot {
            cpu: asked.ask(Collector::Cpu, || cpu::read(roots, reader, &mut self.cpu)),
            loadavg: asked.ask(Collector::Loadavg, || loadavg::read(roots, reader)),
            meminfo: asked.ask(Collector::Meminfo, || meminfo::read(roots, reader)),
            filesystem: asked.ask(Collector::Filesystem, || self.mounts.read(roots, reader)),
            diskstats: asked.ask(Collector::Diskstats, || diskstats::read(roots, reader)),
            netdev: asked.ask(Collector::Netdev, || netdev::read(roots, reader)),
            pressure: asked.ask(Collector::Pressure, || pressure::read(roots, reader)),
            thermal_zone: asked.ask(Collector::ThermalZone, || thermal_zone::read(roots, reader)),
            stat: asked.ask(Collector::Stat, || stat::read(roots, reader)),
            uname: asked.ask(Collector::Uname, || uname::read(roots, reader)),
            time: asked.ask(Collector::Time, || Ok(now)),
            container: asked.ask(Collector::Container, || self.containers.read(&(self.docker)(), roots, reader, now)),
            outcomes: Vec::new(),
        };
        snapshot.outcomes = asked.outcomes;
        // A reading that is not complete is served, and told.
        if let Some(fault) = snapshot.container.as_ref().and_then(container::Containers::fault) {
            let mut outcomes = snapshot.outcomes.iter_mut();
            if let Some(outcome) = outcomes.find(|outcome| outcome.collector == Collector::Container) {
                outcome.fault = Some(CollectError::Failed { what: fault });
            }
        }
        self.tell(&snapshot);
        snapshot
    }

    /// Logs a fault when it begins and when it ends, not at each scrape.
    fn tell(&mut self, snapshot: &Snapshot) {
        for Outcome { collector, fault, .. } in &snapshot.outcomes {
            let known = self.faulty.contains(*collector);
            match fault {
                None if known => {
                    self.faulty = self.faulty.without(*collector);
                    tracing::info!(collector = collector.name(), "collector works again");
                }
                Some(fault) if !known => {
                    self.faulty = self.faulty.with(*collector);
                    let reason = chain(fault);
                    match fault {
                        CollectError::Absent { .. } => {
                            tracing::info!(collector = collector.name(), reason, "nothing to collect");
                        }
                        _ => tracing::warn!(collector = collector.name(), reason, "collector failed"),
                    }
                }
                _ => (),
            }
        }
    }
}

struct Asked {
    wanted: Selection,
    outcomes: Vec<Outcome>,
}

impl Asked {
    fn ask<T>(&mut self, collector: Collector, read: impl FnOnce() -> Result<T, CollectError>) -> Option<T> {
        if !self.wanted.contains(collector) {
            return None;
        }
        let begin = Instant::now();
        let (found, fault) = match read() {
            Ok(found) => (Some(found), None),
            Err(fault) => (None, Some(fault)),
        };
        self.outcomes.push(Outcome { collector, took: begin.elapsed(), fault });
        found
    }
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
