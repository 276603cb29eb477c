//! What Docker, the journal and the owner say about a service at this moment, as plain data for decisions.

use std::{collections::BTreeMap, sync::Arc};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Health, SIGNAL_WORKS_WITHIN, Snapshot, Status, StopCause, Watched};
use nexus_model::{Mode, Now, Refusal, ServiceKey, labels};
use serde::{Deserialize, Serialize};

use crate::{
    case::Case,
    dependencies::{self, DeadNetwork, Needed},
    modes::{self, Effective, Switches},
    policy::{Healing, Policy, Worn},
    probe::Probe,
};

/// Everything that a decision about one service rests on.
#[derive(Clone, Debug)]
pub struct Facts {
    pub docker_up: bool,
    /// It belongs to the stack that the healer is part of.
    pub own_stack: bool,
    pub mode: Effective,
    /// How hard to try, as policy and labels say it for this service.
    pub healing: Healing,
    /// By name.
    pub containers: Vec<ContainerFacts>,
    /// The end of the maintenance that holds at this moment.
    pub maintenance_until: Option<Now>,
    pub host: HostFacts,
    /// Restarts of its containers within the last day that count; those without any are left out.
    pub spent_today: BTreeMap<String, u32>,
    /// A restart that this very process asked for has not come back yet.
    pub act_under_way: bool,
    pub journal_writable: bool,
    /// What it needs and is not well, the root of the trouble first.
    pub needed: Vec<Needed>,
    /// Its log says that it is starting or recovering, as far as that was read: only before a restart is it.
    pub says_it_is_starting: bool,
    /// The container in whose network it lives does not exist any more, as far as Docker was asked: before a restart, and when the
    /// watcher does not show it.
    pub network_gone: bool,
    /// Until when its owner wants nothing to be restarted.
    pub paused_until: Option<Now>,
    /// A silence covers its alerts, as far as Alertmanager was asked: only before a restart is.
    pub silenced: bool,
    /// The policy allows that what does not run is started instead of restarted.
    pub may_start: bool,
}

#[derive(Clone, Debug)]
pub struct ContainerFacts {
    pub container: Arc<Container>,
    /// Who ended it; while it runs, whether somebody has sent it a signal that ends it.
    pub stop: StopCause,
    /// It was seen healthy since it was started.
    pub has_been_healthy: bool,
    /// It was left behind in the network of another container, which has another now.
    pub dead_network: Option<DeadNetwork>,
    /// The container whose network it lives in does not exist any more: no restart of it succeeds.
    pub network_gone: bool,
    /// What its probe says, where it has one and runs.
    pub probe: Option<Probe>,
    /// It was created long ago and never started, and may be: see [`is_left_unstarted`].
    pub left_unstarted: bool,
    /// The same, but it may not be started by us, or something stands in the way.
    pub never_started: bool,
    /// Others wait for it to have done its work, of which no health check tells anything. Looked for only where that calls it unhealthy.
    pub is_a_job: bool,
    /// This run of it was ended by us, since disk or memory of the machine was short: it is started again when there is room.
    pub stopped_for_room: bool,
}

impl ContainerFacts {
    /// What the watcher knows of a container, with what the journal remembers filled in where the watcher has a gap. Whatever else is
    /// to be known of it is for others to fill in.
    pub fn of(watched: &Watched, snapshot: &Snapshot, stops: &Stops) -> Self {
        let container = &watched.container;
        let is_needed_once = || container.key().is_some_and(|key| dependencies::is_needed_once(&key, snapshot));
        Self {
            container: Arc::clone(container),
            stop: stop_of(watched, stops),
            has_been_healthy: watched.has_been_healthy,
            dead_network: None,
            network_gone: false,
            probe: None,
            left_unstarted: false,
            never_started: false,
            is_a_job: container.health == Health::Unhealthy && is_needed_once(),
            stopped_for_room: false,
        }
    }

    /// It ran on while Docker was down, and Docker ended it on its return.
    pub fn was_ended_by_docker(&self) -> bool {
        self.stop == StopCause::Engine && matches!(self.container.status, Status::Exited | Status::Dead)
    }
}

/// The brakes of the whole host.
#[derive(Clone, Debug, PartialEq)]
pub struct HostFacts {
    /// Another service is being restarted right now.
    pub restart_under_way: bool,
    /// Restarts within the last ten minutes, and when the oldest of them falls out.
    pub recent_restarts: u32,
    pub room_at: Option<Now>,
    /// Many services have failed together: nothing is restarted until then.
    pub hold_until: Option<Now>,
}

/// What a stop takes beyond its time-out.
const STOP_MARGIN: SignedDuration = SignedDuration::from_mins(1);

/// How one container is doing, as far as healing is concerned.
#[derive(Clone, Debug, PartialEq)]
pub enum Condition {
    Well,
    /// With the finding, for people.
    Ill(String),
    /// It was started and can't be judged yet.
    Settling,
    /// It is not to be touched, and says nothing about the service.
    Aside(Refusal),
}

/// Who stopped a run of a container, kept in the journal: after a gap in Docker's events nobody else could say.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stopper {
    Itself,
    Requested,
    /// The engine, on its return from an end of its own.
    Engine,
}

/// By container id: the run, known by its start, and who ended it.
pub type Stops = BTreeMap<String, (Option<Timestamp>, Stopper)>;

impl Facts {
    pub fn container(&self, id: &str) -> Option<&ContainerFacts> {
        self.containers.iter().find(|seen| seen.container.id == id)
    }

    /// Whether the remedy for a container is to start it: there is nothing to stop.
    pub fn is_to_be_started(&self, container: &Container) -> bool {
        self.may_start && matches!(container.status, Status::Created | Status::Exited | Status::Dead)
    }

    /// Whether a day allows for no more restarts of a container.
    pub fn day_is_spent(&self, id: &str) -> bool {
        self.spent_today.get(id).is_some_and(|spent| *spent >= self.healing.attempts_per_day)
    }
}

/// The containers of a service in a snapshot.
pub fn containers_of(snapshot: &Snapshot, key: &ServiceKey, stops: &Stops, now: Timestamp) -> Vec<ContainerFacts> {
    let mut found: Vec<ContainerFacts> = snapshot
        .containers
        .values()
        .filter(|watched| watched.container.project() == key.project && watched.container.service() == key.service)
        .map(|watched| ContainerFacts {
            dead_network: dependencies::left_in_dead_network(&watched.container, snapshot, now),
            ..ContainerFacts::of(watched, snapshot, stops)
        })
        .collect();
    found.sort_by(|a, b| a.container.name.cmp(&b.container.name));
    found
}

/// Whether a container was created and not started for longer than Compose takes: `patience` is how long that is given.
pub fn was_never_started(container: &Container, patience: SignedDuration, now: Timestamp) -> bool {
    let patience = patience.max(dependencies::SETTLES);
    container.status == Status::Created
        && container.started_at.is_none()
        && container.created_at.is_some_and(|created_at| now.duration_since(created_at) >= patience)
}

/// Whether a container was created and left so, with nothing in the way of its start: Compose begins with the first one that
/// others need, waits until it is well, and leaves the rest as they are when it does not become so, or when its user gives up.
pub fn is_left_unstarted(container: &Container, snapshot: &Snapshot, patience: SignedDuration, now: Timestamp) -> bool {
    was_never_started(container, patience, now)
        && !container.is_one_off()
        && container.expected_to_run()
        && !takes_the_place_of_another(container, snapshot, now)
        // What has to have done its work before has done it.
        && dependencies::needed_once(container).iter().all(|needed| {
            let of_it = snapshot.containers.values().map(|watched| &*watched.container);
            let mut of_it = of_it.filter(|it| it.key().as_ref() == Some(needed)).peekable();
            of_it.peek().is_some() && of_it.all(|it| it.status == Status::Exited && it.exit_code == 0)
        })
}

/// Whether another container of its service still runs, in whose place it was created: Compose creates the new one first, then stops the
/// old one, which may take as long as its owner grants it, and starts the new one when the old one is gone. Two at once would be two
/// databases on one volume.
fn takes_the_place_of_another(container: &Container, snapshot: &Snapshot, now: Timestamp) -> bool {
    let number = |it: &Container| it.labels.get(labels::COMPOSE_NUMBER).cloned();
    snapshot.containers.values().any(|watched| {
        let other = &watched.container;
        if other.id == container.id || other.key() != container.key() || other.status != Status::Running {
            return false;
        }
        let granted = SignedDuration::try_from(other.stop_timeout.unwrap_or_default()).unwrap_or(SignedDuration::MAX);
        let takes = granted.saturating_add(STOP_MARGIN).max(SIGNAL_WORKS_WITHIN);
        let is_stopping =
            || matches!(watched.stop, StopCause::Requested { at } if now.duration_since(at).abs() <= takes);
        (number(container).is_some() && number(container) == number(other)) || is_stopping()
    })
}

pub fn stop_of(watched: &Watched, stops: &Stops) -> StopCause {
    let container = &watched.container;
    match (watched.stop, stops.get(&container.id)) {
        // What the events of before have said wins over what the engine told of its return.
        (StopCause::Unknown | StopCause::Engine, Some((run, stopper))) if *run == container.started_at => match stopper
        {
            Stopper::Engine => StopCause::Engine,
            Stopper::Itself => StopCause::Itself,
            Stopper::Requested => StopCause::Requested { at: container.finished_at.unwrap_or(Timestamp::UNIX_EPOCH) },
        },
        // The end alone was told, without the signal that somebody had sent before.
        (StopCause::Itself, Some((run, Stopper::Requested))) if *run == container.started_at => {
            StopCause::Requested { at: container.finished_at.unwrap_or(Timestamp::UNIX_EPOCH) }
        }
        (stop, _) => stop,
    }
}

pub fn mode_of(key: &ServiceKey, containers: &[ContainerFacts], switches: &Switches, policy: &Policy) -> Effective {
    modes::effective(key, worn(containers), switches, policy)
}

/// What the containers of a service wear, for the policy.
pub fn worn(containers: &[ContainerFacts]) -> impl Iterator<Item = Worn<'_>> + Clone {
    containers.iter().map(|seen| Worn { image: &seen.container.image, labels: &seen.container.labels })
}

/// How a container is doing. With a case, its own recorded intents are taken into account: they win over what the
/// events seem to say.
pub fn condition(seen: &ContainerFacts, case: Option<&Case>) -> Condition {
    let container = &*seen.container;
    if container.is_one_off() {
        return Condition::Aside(Refusal::OneOff);
    }
    match container.status {
        Status::Running => match container.health {
            Health::Healthy | Health::None if seen.network_gone => {
                Condition::Ill("its network is dead: the container whose network it shares is gone".to_owned())
            }
            Health::Healthy | Health::None => match (dead_network(seen, case), follows(container, case)) {
                (Some(DeadNetwork { owner, .. }), _) => {
                    Condition::Ill(format!("its network is dead: {owner}, which it shares, was started anew"))
                }
                (None, Some(service)) => Condition::Ill(format!("to be restarted with {service}, which was restarted")),
                (None, None) => match runs_out(container, case) {
                    Some(problem) => Condition::Ill(problem.to_owned()),
                    None => by_probe(seen.probe.as_ref(), case),
                },
            },
            Health::Starting => Condition::Settling,
            Health::Unhealthy if seen.is_a_job => Condition::Aside(Refusal::NotExpectedToRun),
            Health::Unhealthy => Condition::Ill(problem(container)),
        },
        Status::Created if seen.left_unstarted => Condition::Ill(problem(container)),
        Status::Created if seen.never_started => Condition::Aside(Refusal::NeverStarted),
        // Compose creates all containers of a project before it starts the first.
        Status::Created => Condition::Settling,
        Status::Paused => Condition::Aside(Refusal::Paused),
        Status::Restarting => Condition::Aside(Refusal::DockerRestarting),
        Status::Removing => Condition::Aside(Refusal::Gone),
        Status::Exited | Status::Dead if seen.stopped_for_room => Condition::Aside(Refusal::StoppedForRoom),
        Status::Exited | Status::Dead => {
            let ours = case.is_some_and(|case| case.stopped_by_us(container, seen.stop));
            // Stopped by a restart of ours that never started it again: our duty, whatever the events say.
            if ours {
                return Condition::Ill(problem(container));
            }
            // A container that was restarted in this incident is expected to stay up, unless it has done its work.
            let attempted = case.is_some_and(|case| case.attempts_on(&container.id).next().is_some());
            let expected = container.expected_to_run() || (attempted && container.exit_code != 0);
            if !expected {
                return Condition::Aside(Refusal::NotExpectedToRun);
            }
            match seen.stop {
                StopCause::Itself => Condition::Ill(problem(container)),
                StopCause::Engine => Condition::Ill(format!("docker {ENDED_IT}: {}", problem(container))),
                StopCause::Requested { .. } => Condition::Aside(Refusal::StoppedByHuman),
                StopCause::Unknown => Condition::Aside(Refusal::StoppedByUnknown),
            }
        }
    }
}

/// How one that Docker calls well is doing by its probe, if it has one.
fn by_probe(probe: Option<&Probe>, case: Option<&Case>) -> Condition {
    match probe {
        Some(Probe::Failed { why, .. }) => Condition::Ill(format!("its probe failed: {why}")),
        // Asked for an incident, its answer is waited for; without one Docker's word stands.
        Some(Probe::Asking | Probe::Doubtful { .. }) if case.is_some() => Condition::Settling,
        // What can't be reached may be well or ill.
        _ => Condition::Well,
    }
}

/// The dead network of a container, unless it has joined the living one by a restart of ours: the starts of the two are told by
/// the wall clock, which may have been set back in between.
fn dead_network<'s>(seen: &'s ContainerFacts, case: Option<&Case>) -> Option<&'s DeadNetwork> {
    let dead = seen.dead_network.as_ref()?;
    let has_joined = case.is_some_and(|case| {
        case.attempts_on(&seen.container.id).any(|attempt| {
            attempt.attempt.started_at_after == seen.container.started_at
                && attempt.memory.network_began_at == dead.began_at
        })
    });
    (!has_joined).then_some(dead)
}

/// Whether Docker and its probe, if it has one, call it well, whatever else speaks for a restart.
pub fn looks_well(seen: &ContainerFacts) -> bool {
    let container = &*seen.container;
    container.status == Status::Running
        && matches!(container.health, Health::Healthy | Health::None)
        && seen.dead_network.is_none()
        && !seen.network_gone
        && !matches!(seen.probe, Some(Probe::Failed { .. }))
}

/// The service that a container is to be restarted with, if it was not since.
fn follows<'c>(container: &Container, case: Option<&'c Case>) -> Option<&'c ServiceKey> {
    let case = case.filter(|case| case.incident.mode == Mode::Heal)?;
    let follows = case.memory.follows.as_ref()?;
    // Two starts are told by the wall clock, which may have been set back in between; our own restart is the better proof.
    let has_followed =
        case.attempts_on(&container.id).any(|attempt| attempt.attempt.started_at_after == container.started_at);
    let began_before = container.started_at.is_some_and(|started_at| started_at < follows.restarted_at);
    (began_before && !has_followed).then_some(&follows.service)
}

/// What is the matter with a run whose memory is about to reach its limit.
pub fn runs_out<'c>(container: &Container, case: Option<&'c Case>) -> Option<&'c str> {
    let runs_out = case?.memory.runs_out.as_ref()?;
    let is_it = runs_out.container_id == container.id && runs_out.run == container.started_at;
    is_it.then_some(runs_out.problem.as_str())
}

/// What an engine did that was killed, for people.
pub const ENDED_IT: &str = "was down, and ended it on its return";

/// What is the matter with a container, for people.
pub fn problem(container: &Container) -> String {
    match container.status {
        Status::Created => "created, and never started".to_owned(),
        Status::Exited | Status::Dead => {
            format!("exited with code {}{}", container.exit_code, meaning_of_exit(container))
        }
        _ if container.health == Health::Unhealthy => match container.failing_streak {
            0 => "unhealthy".to_owned(),
            1 => "unhealthy: 1 failed probe".to_owned(),
            streak => format!("unhealthy: {streak} failed probes in a row"),
        },
        status => format!("{}, health {}", status.as_str(), container.health.as_str()),
    }
}

/// What the end of a run means, in parentheses; empty where its exit code says nothing.
pub fn meaning_of_exit(container: &Container) -> &'static str {
    match container.exit_code {
        _ if container.oom_killed => " (killed for memory)",
        125 => " (docker could not run it)",
        126 => " (its command can't be executed)",
        127 => " (its command was not found)",
        134 => " (aborted)",
        137 => " (killed)",
        139 => " (segmentation fault)",
        143 => " (terminated)",
        _ => "",
    }
}

#[cfg(test)]
mod tests;
