//! An incident as the healer carries it: the row that people see, and beside it what only the healer needs to go on.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, StopCause};
use nexus_model::{Attempt, AttemptOutcome, Incident, IncidentState, Mode, Now, ServiceKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{by_hand::ByHand, dependencies::Follows, relief, shadow};

/// An open incident with its attempts. What is in memory is what is on disk: a changed copy is made durable first and
/// takes the place of the old one then.
#[derive(Clone, Debug, PartialEq)]
pub struct Case {
    pub incident: Incident,
    /// Oldest first.
    pub attempts: Vec<Try>,
    pub memory: Memory,
}

/// The row of an incident that begins now, in which nothing has been done yet. `alert` is what made the healer look, with the time
/// of it.
pub fn opened(
    host: &str,
    key: &ServiceKey,
    (alert, alert_at): (&str, Timestamp),
    mode: Mode,
    problem: String,
    now: &Now,
) -> Incident {
    Incident {
        id: Uuid::now_v7(),
        host: host.to_owned(),
        project: key.project.clone(),
        service: key.service.clone(),
        container_name: String::new(),
        image: String::new(),
        alert: alert.to_owned(),
        mode,
        state: if mode == Mode::Heal { IncidentState::Suspect } else { IncidentState::Watching },
        outcome: None,
        problem,
        refusal: None,
        diagnosis: None,
        opened_at: now.wall,
        last_alert_at: alert_at,
        closed_at: None,
        attempts: 0,
        failed_attempts: 0,
        next_attempt_at: None,
        acknowledged_at: None,
        revision: 0,
        recorded_at: None,
    }
}

/// What the healer remembers of an incident beyond its row.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// Ids of the containers that it is about: those found ill when it was opened, and those restarted since. When none
    /// of them exists any more, neither does the incident.
    pub containers: BTreeSet<String>,
    /// What was spent on each container shortly before the incident was opened: it counts against its budget.
    pub carried: BTreeMap<String, u32>,
    /// Since when the service has been well without a break.
    pub well_since: Option<Now>,
    /// The service that it waits for.
    pub blocked_by: Option<ServiceKey>,
    /// Since when it waits for that one, and since when the owner is told that nobody does anything about it.
    pub blocked_since: Option<Now>,
    pub waits_told: Option<Timestamp>,
    /// Since when a restart waits only because a last probe of what it needs has failed.
    pub doubted: Option<Now>,
    /// By container id: a run that is given time to start, and since when.
    pub starting: BTreeMap<String, Start>,
    /// Since when the container is gone in whose network it lives.
    pub network_gone: Option<Now>,
    /// When it had nothing more to wait for; forgotten with the next restart.
    pub unblocked: Option<Now>,
    /// It is to be restarted since a service that it needs was.
    pub follows: Option<Follows>,
    /// Why it was given up, where that is not its budget.
    pub gave_up_since: Option<String>,
    /// It was given up since a day allows for no more restarts of these containers: so many there were within one.
    pub day_spent: BTreeMap<String, u32>,
    /// What its owner asked for and is not done yet.
    pub by_hand: Option<ByHand>,
    /// Number of the last attempt before its owner gave it a fresh budget; it and those before it count no more.
    pub budget_from: u32,
    /// Its owner gave it a fresh budget: what it spends is not carried into another incident.
    pub forgiven: bool,
    /// In shadow mode: restarts that would have been made, and when the next would be.
    pub would_be: u32,
    /// How many of them of each container: each replica has a budget of its own.
    pub would_be_on: BTreeMap<String, u32>,
    pub would_be_due: Option<Now>,
    /// And what is known of whether they would have helped.
    pub shadow: shadow::Watched,
    /// The last line of log or probe that says something, redacted: shown in messages.
    pub last_words: String,
    /// Since when the owner is being told about failing, and about giving up.
    pub failing_since: Option<Timestamp>,
    pub gave_up_at: Option<Timestamp>,
    /// Events written so far; the story is bounded.
    pub events: u32,
    /// Of an incident of the machine itself: what was given up for it.
    pub relief: relief::Memory,
    /// Its memory is about to reach its limit.
    pub runs_out: Option<RunsOut>,
}

/// A run of a container whose memory is about to reach its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunsOut {
    pub container_id: String,
    pub run: Option<Timestamp>,
    /// For people.
    pub problem: String,
}

/// A run that has not been well yet, and the moment from which on it is known to have lasted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Start {
    pub run: Option<Timestamp>,
    pub since: Now,
}

/// An attempt and what the healer remembers of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Try {
    pub attempt: Attempt,
    pub memory: TryMemory,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TryMemory {
    /// When the intent was written, to measure from whatever the wall clock does.
    pub intended: Now,
    /// How long the container was given to stop.
    pub stop_timeout: SignedDuration,
    /// By when it must be well, set when it is known to have started anew.
    pub deadline: Option<Now>,
    /// When the container was started in whose network it lives.
    #[serde(default)]
    pub network_began_at: Option<Timestamp>,
    /// When the next attempt on the same container is due, set when this one has failed.
    pub retry: Option<Now>,
    /// It ended with the container stopped and not started anew: then it is ours to start, whatever the events say of
    /// who stopped it.
    #[serde(default)]
    pub left_stopped: bool,
    /// When its outcome was known, to measure from whatever the wall clock does.
    #[serde(default)]
    pub finished: Option<Now>,
    /// Of an act for the machine: what was available before.
    #[serde(default)]
    pub available_before: Option<u64>,
}

impl TryMemory {
    /// Of an intent that is written now.
    pub fn of(now: &Now, stop_timeout: SignedDuration) -> Self {
        Self {
            intended: now.clone(),
            stop_timeout,
            deadline: None,
            network_began_at: None,
            retry: None,
            left_stopped: false,
            finished: None,
            available_before: None,
        }
    }

    /// Whether it was under way at a moment that was told by the wall clock as it stood at the intent.
    pub fn was_under_way(&self, at: Timestamp) -> bool {
        let ended = self.finished.as_ref().map(|finished| self.intended.after(finished.since(&self.intended)).wall);
        ended.is_some_and(|ended| (self.intended.wall..=ended).contains(&at))
    }
}

impl Case {
    pub fn key(&self) -> ServiceKey {
        ServiceKey::new(&self.incident.project, &self.incident.service)
    }

    /// The attempt whose outcome is not known yet. There is never more than one.
    pub fn open_attempt(&self) -> Option<&Try> {
        self.attempts.iter().rev().find(|attempt| attempt.attempt.outcome.is_none())
    }

    pub fn open_attempt_mut(&mut self) -> Option<&mut Try> {
        self.attempts.iter_mut().rev().find(|attempt| attempt.attempt.outcome.is_none())
    }

    /// Attempts on one container.
    pub fn attempts_on<'a>(&'a self, container_id: &'a str) -> impl DoubleEndedIterator<Item = &'a Try> {
        self.attempts.iter().filter(move |attempt| attempt.attempt.container_id == container_id)
    }

    /// Attempts on one container since its budget began, oldest first.
    pub fn counted_on<'a>(&'a self, container_id: &'a str) -> impl DoubleEndedIterator<Item = &'a Try> {
        self.attempts_on(container_id).filter(|attempt| attempt.attempt.number > self.memory.budget_from)
    }

    /// Restarts that count against the budget of one container. Each replica has a budget of its own.
    pub fn spent_on(&self, container_id: &str) -> u32 {
        let carried = self.memory.carried.get(container_id).copied().unwrap_or_default();
        carried.saturating_add(self.counted_on(container_id).count() as u32)
    }

    /// Restarts from before the incident that count against its budgets.
    pub fn carried(&self) -> u32 {
        self.memory.carried.values().sum()
    }

    /// Attempts on one container that did not help, as far as is known.
    pub fn fruitless_on(&self, container_id: &str) -> u32 {
        let fruitless =
            |attempt: &&Try| attempt.attempt.outcome.is_some_and(|outcome| outcome != AttemptOutcome::Helped);
        self.counted_on(container_id).filter(fruitless).count() as u32
    }

    /// Whether the run of a container that began at `started_at` was stopped by a restart of ours that has not started it
    /// again. A restart that was asked for and left no trace while the container ran on has no claim on it.
    /// Nor has one that Docker refused, on a stop that was asked for after the refusal; where it is not known yet who asked, or nobody
    /// did, on an end that came later than a stop of ours could still take.
    pub fn stopped_by_us(&self, container: &Container, stop: StopCause) -> bool {
        let of_this_run = |attempt: &&Try| attempt.attempt.started_at_before == container.started_at;
        self.attempts_on(&container.id).filter(of_this_run).any(|attempt| {
            let (stopped_at, allowance) = match stop {
                StopCause::Requested { at } => (Some(at), SignedDuration::ZERO),
                StopCause::Unknown | StopCause::Itself => (container.finished_at, attempt.memory.stop_timeout),
                StopCause::Engine => (None, SignedDuration::ZERO),
            };
            let stopped_later = match (stopped_at, attempt.attempt.finished_at) {
                // The clock may have been set back in between: then the stop of our own restart is told by the old one.
                (Some(at), Some(finished_at)) => {
                    at.duration_since(finished_at) > allowance && !attempt.memory.was_under_way(at)
                }
                _ => false,
            };
            attempt.attempt.outcome.is_none() || (attempt.memory.left_stopped && !stopped_later)
        })
    }

    /// Since when a run of a container has been given time to start, as far as it was.
    pub fn starting_since(&self, container: &Container) -> Option<&Now> {
        let start = self.memory.starting.get(&container.id)?;
        (start.run == container.started_at).then_some(&start.since)
    }

    pub fn is_open(&self) -> bool {
        self.incident.state.is_open()
    }

    /// Whether the healer has something under way that must not be mistaken for a free hand.
    pub fn is_restarting(&self) -> bool {
        self.incident.state == IncidentState::Restarting
    }
}
