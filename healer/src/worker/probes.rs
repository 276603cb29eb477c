//! Asking the containers that something hangs on, beside the loop: those of open incidents and of what these need, and those
//! that an alert is about. Nobody else is asked on a timer, but for what lives in the host's network and has never answered: once it is
//! ill, nobody can tell whether it refuses a connection or can't be reached from here.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Health, Snapshot, Status};
use nexus_model::{IncidentState, Now, ServiceKey};
use tokio::task::JoinSet;

use super::Worker;
use crate::{
    dependencies,
    evidence::chain,
    facts,
    journal::{Change, Memo, memo_body},
    policy::{Policy, ProbeTarget},
    probe::{self, Answer, Networks, Probe, Probes, Purpose},
};

/// Probes at once. Each has a connection and takes three seconds at most.
const AT_ONCE: usize = 8;

/// What came of one, and of which run of which container.
pub(super) struct Probed {
    id: String,
    run: Option<Timestamp>,
    answer: Answer,
}

/// What is known, and what is being asked.
#[derive(Default)]
pub(super) struct Asking {
    known: Probes,
    tasks: JoinSet<Probed>,
    under_way: BTreeSet<String>,
    /// Services whose alerts wait for an answer.
    prompted: BTreeSet<ServiceKey>,
    due: Option<Now>,
    /// Who has been reached, as the journal has it.
    written: BTreeSet<String>,
}

impl Asking {
    /// Goes on with what an earlier process has reached.
    pub(super) fn resume(reached: BTreeSet<String>) -> Self {
        Self { known: Probes::resume(reached.clone()), written: reached, ..Self::default() }
    }

    /// The next answer; never where nothing is asked.
    pub(super) async fn next(&mut self) -> Option<Probed> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(probed)) => return Some(probed),
                // One that broke down is asked again.
                Some(Err(error)) => {
                    tracing::error!(reason = %error, "a probe broke down");
                    self.under_way.clear();
                }
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn take_up(&mut self, Probed { id, run, answer }: Probed, now: &Now) {
        tracing::debug!(container = id, answer = ?answer, "probed");
        self.under_way.remove(&id);
        self.known.answered(&id, run, answer, now);
    }

    /// When somebody is to be asked again.
    pub(super) fn due(&self) -> Option<&Now> {
        self.due.as_ref()
    }

    /// What is known of the runs in a snapshot.
    pub(super) fn facts(&self, snapshot: &Snapshot) -> BTreeMap<String, Probe> {
        let known = self.known.ids().filter_map(|id| Some((id, &snapshot.containers.get(id)?.container)));
        let runs = known.filter(|(_, container)| container.status == Status::Running);
        runs.map(|(id, container)| (id.clone(), self.known.fact(id, container.started_at))).collect()
    }
}

impl Worker {
    /// What the probe of a container says, where it has one and runs.
    pub(super) fn probe_of(&self, container: &Container, policy: &Policy) -> Option<Probe> {
        self.target_of(container, policy)?;
        Some(self.probes.known.fact(&container.id, container.started_at))
    }

    fn target_of(&self, container: &Container, policy: &Policy) -> Option<ProbeTarget> {
        let key = container.key().filter(|key| key.project != self.parts.stack)?;
        if container.status != Status::Running || container.is_one_off() {
            return None;
        }
        policy.probe(&key, &container.labels)
    }

    /// Whether an alert about a service waits for the probes of what Docker calls well.
    pub(super) fn probes_are_wanted_first(&mut self, key: &ServiceKey, snapshot: &Snapshot) -> bool {
        let policy = self.policy();
        let containers = facts::containers_of(snapshot, key, &self.stops, self.clock.now().wall);
        let containers = containers.iter().map(|seen| &*seen.container).filter(|container| {
            matches!(container.health, Health::None | Health::Healthy) && self.target_of(container, &policy).is_some()
        });
        let containers: Vec<&Container> = containers.collect();
        // What was said before the alert is no answer to it.
        if !containers.is_empty() && self.probes.prompted.insert(key.clone()) {
            let now = self.clock.now();
            containers.iter().for_each(|container| self.probes.known.outdate(&container.id, &now));
        }
        let is_open = containers.iter().any(|container| {
            let fact = self.probes.known.fact(&container.id, container.started_at);
            matches!(fact, Probe::Asking | Probe::Doubtful { .. })
        });
        if !is_open {
            self.probes.prompted.remove(key);
        }
        is_open
    }

    /// Whether something that a service needs has yet to be asked before it is restarted.
    pub(super) fn probes_are_open(&self, key: &ServiceKey, snapshot: &Snapshot) -> bool {
        let policy = self.policy();
        let is_open = |id: &String| {
            let container = snapshot.containers.get(id).map(|watched| &watched.container);
            container.is_some_and(|container| self.probe_of(container, &policy) == Some(Probe::Asking))
        };
        dependencies::containers_needed(key, snapshot).iter().any(is_open)
    }

    /// Begins what is due, and forgets what nothing hangs on any more.
    pub(super) fn ask_probes(&mut self, snapshot: &Snapshot) {
        self.probes.due = None;
        if !snapshot.up {
            return;
        }
        let policy = self.policy();
        // An open incident asks for itself; its end ends the asking.
        let cases = &self.cases;
        self.probes.prompted.retain(|key| !cases.contains_key(key));
        // What was given up on is still asked, which is how it is found to be well again.
        let open = self.cases.iter().filter(|(_, case)| case.incident.state != IncidentState::Closed);
        let services: BTreeSet<&ServiceKey> = open.map(|(key, _)| key).chain(&self.probes.prompted).collect();
        let mut targets: BTreeMap<String, (Arc<Container>, ProbeTarget, Purpose)> = BTreeMap::new();
        for (id, watched) in &snapshot.containers {
            let container = &watched.container;
            if container.network_mode == "host"
                && !self.probes.known.reached().contains(id)
                && let Some(target) = self.target_of(container, &policy)
            {
                targets.insert(id.clone(), (Arc::clone(container), target, Purpose::Reach));
            }
        }
        for key in services {
            let needed = dependencies::all_needs(key, snapshot);
            let is_meant =
                |container: &Container| container.key().is_some_and(|other| other == *key || needed.contains(&other));
            for (id, watched) in &snapshot.containers {
                if is_meant(&watched.container)
                    && let Some(target) = self.target_of(&watched.container, &policy)
                {
                    targets.insert(id.clone(), (Arc::clone(&watched.container), target, Purpose::Trouble));
                }
            }
        }
        let now = self.clock.now();
        let exists = |id: &str| snapshot.containers.contains_key(id);
        self.probes.known.forget(&targets.keys().cloned().collect(), exists, &now);
        if targets.is_empty() {
            return;
        }
        let networks = std::fs::read_to_string("/proc/self/net/route").unwrap_or_default();
        let networks = Networks::parse(&networks);
        let host = networks.host(self.parts.probe_host.as_deref());
        let mut next: Option<SignedDuration> = None;
        for (id, (container, target, purpose)) in targets {
            let run = container.started_at;
            let left = self.probes.known.want(&id, run, purpose, &now);
            if self.probes.under_way.contains(&id) {
                continue;
            }
            if left > SignedDuration::ZERO {
                next = Some(next.map_or(left, |next| next.min(left)));
                continue;
            }
            if self.probes.tasks.len() >= AT_ONCE {
                // The next answer makes room.
                continue;
            }
            let way = probe::way(target.port, &container, snapshot, &networks);
            let host = host.clone();
            self.probes.under_way.insert(id.clone());
            self.probes.tasks.spawn(async move {
                let answer = match way {
                    Ok(way) => probe::ask(&target, &way, host.as_deref()).await,
                    Err(why) => Answer::Unknown(why),
                };
                Probed { id, run, answer }
            });
        }
        self.probes.due = next.map(|left| now.after(left));
    }

    /// Writes down who has been reached, so that the next process knows it too.
    pub(super) async fn remember_reached(&mut self) {
        if *self.probes.known.reached() == self.probes.written {
            return;
        }
        let reached = self.probes.known.reached().clone();
        let memo = match memo_body(&reached) {
            Ok(body) => Change::Memo { memo: Memo::Reached, body: Some(body) },
            Err(error) => {
                tracing::error!(reason = %chain(&error), "who has been reached can't be written down");
                return;
            }
        };
        if self.commit(vec![memo]).await {
            self.probes.written = reached;
        }
    }
}
