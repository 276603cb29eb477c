//! Asks the collectors one after the other: reads of /sys at the same time hurt the kernel more than they help.
//!
//! They are read on a thread that may hang in place of the scrape. A collector whose read does not return in time fails, and
//! is not asked again until that read returns; the others are served.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use crate::collect::{Access, Calls, CollectError, Collector, Found, Kept, Reader, Roots, Selection};
use crate::guard::{Guard, Limits};
use crate::process;
use crate::settings::Settings;
use crate::snapshot::{Outcome, Snapshot};

/// What Docker's containers are at the moment; never waits for the daemon.
pub type DockerView = Box<dyn Fn() -> Arc<nexus_docker::Snapshot> + Send>;

/// For one collector, and for all of a scrape together: Prometheus gives up after ten seconds by default.
const LIMITS: Limits = Limits { each: Duration::from_secs(4), all: Duration::from_secs(8) };

/// The collectors with what they keep between scrapes.
pub struct Gatherer {
    docker: DockerView,
    guard: Guard<Moment, Collector, Read>,
    /// Looks at the exporter itself.
    process: Option<process::Watch>,
    /// Collectors whose fault has been told, so that it is told once.
    faulty: Selection,
}

/// What all collectors of one scrape share.
#[derive(Clone)]
struct Moment {
    now: Timestamp,
    docker: Arc<nexus_docker::Snapshot>,
}

struct Read {
    took: Duration,
    found: Result<Found, CollectError>,
}

impl Gatherer {
    pub fn new(roots: Roots, settings: Settings, calls: Calls, docker: DockerView) -> Self {
        let kept = Kept::default();
        let process = settings.exporter_metrics.then(process::Watch::default);
        let read = move |moment: &Moment, collector: &Collector, reader: &mut Reader| {
            let begin = Instant::now();
            let (docker, now) = (&moment.docker, moment.now);
            let mut access = Access { roots: &roots, settings: &settings, calls, docker, now, reader };
            let found = collector.read(&mut access, &kept);
            Read { took: begin.elapsed(), found }
        };
        Gatherer { docker, guard: Guard::new("read", read), process, faulty: Selection::NONE }
    }

    pub fn gather(&mut self, wanted: Selection, now: Timestamp) -> Snapshot {
        let wanted: Vec<Collector> = wanted.iter().collect();
        let docker =
            if wanted.iter().any(|collector| collector.is_of_cadvisor()) { (self.docker)() } else { Arc::default() };
        let mut snapshot = Snapshot {
            outcomes: Vec::with_capacity(wanted.len()),
            found: Vec::with_capacity(wanted.len()),
            process: None,
            web_config_ok: None,
        };
        let answers = self.guard.read(&wanted, &Moment { now, docker }, LIMITS);
        for (collector, answer) in wanted.into_iter().zip(answers) {
            let (took, fault) = match answer {
                Ok(Read { took, found: Ok(found) }) => {
                    // A reading that is not complete is served, and told.
                    let fault = found.fault().map(|what| CollectError::Failed { what });
                    snapshot.found.push(found);
                    (took, fault)
                }
                Ok(Read { took, found: Err(fault) }) => (took, Some(fault)),
                Err(refused) => (Duration::ZERO, Some(CollectError::Failed { what: refused.to_string() })),
            };
            snapshot.outcomes.push(Outcome { collector, took, fault });
        }
        snapshot.process = self.process.as_mut().map(process::Watch::look);
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

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}
