//! Services that are only watched: what would have been done for them, and what shows whether it would have helped. Pure.
//!
//! A would-be restart is written down under the delays and budgets that a restart has. Whether it would have helped nobody
//! can know, unless the same container is restarted after it all the same: by a person, by Docker's own policy, or by the
//! healer at its owner's word. Such a restart is judged as one of the healer's own is, by [`verify::judge_counted`] and the stabilising
//! window, and its verdict is the would-be restart's. Whatever else makes the service well (it recovered by itself, it was
//! created anew, the machine was booted) says nothing. `nexus_model::shadow` counts the lines that are written here.

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use nexus_docker::Container;
use nexus_model::{
    Attempt, AttemptOutcome, Incident, Now,
    shadow::{RESTARTED_ELSEWHERE, WOULD_HAVE_HELPED, WOULD_NOT_BE_KNOWN, WOULD_NOT_HAVE_HELPED},
};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    budget::{self, BUDGET_WINDOW, DAY},
    case::{Case, Memory, Try, TryMemory},
    facts::{ContainerFacts, Facts},
    policy::Healing,
    transition::Changed,
    verify::{self, Verdict},
};

/// What an incident remembers of its would-be restarts.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Watched {
    /// The would-be restarts as healing would have made them: after one that would have helped, none would have followed.
    pub made: Vec<WouldBe>,
    /// How many of them have their verdict, or will never have one.
    pub judged: usize,
    /// By container id: the runs that would have been ended by a restart, until it is known what came of another.
    pub runs: BTreeMap<String, Run>,
    /// A restart that was not the healer's and has to prove itself.
    pub elsewhere: Option<Elsewhere>,
    /// What would have been spent on each container in the hour before the incident.
    pub carried: BTreeMap<String, u32>,
    /// The budget would have been spent.
    pub would_have_given_up: bool,
    /// Number of the last attempt of the healer's own before the would-be restart.
    pub attempts_before: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct WouldBe {
    pub container_id: String,
    pub at: Now,
}

/// A run of a container.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub started_at: Option<Timestamp>,
    /// Docker's count of restarts by its own policy.
    pub restart_count: i64,
    pub boot_id: String,
}

/// A restart that was not the healer's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Elsewhere {
    pub container_id: String,
    pub before: Option<Timestamp>,
    pub run: Run,
    pub seen: Now,
    /// By when it must be well, as after a restart of the healer's own.
    pub deadline: Now,
    pub well_since: Option<Now>,
}

impl Run {
    fn of(container: &Container, now: &Now) -> Self {
        let Container { started_at, restart_count, .. } = *container;
        Self { started_at, restart_count, boot_id: now.boot_id.clone() }
    }
}

impl Memory {
    /// Takes note of a would-be restart. `container` is `None` where it has gone in this very moment.
    pub fn note_would_be(
        &mut self,
        container_id: &str,
        container: Option<&Container>,
        attempts: u32,
        healing: &Healing,
        now: &Now,
    ) {
        let spent = self.would_be_spent_on(container_id);
        let watched = &mut self.shadow;
        watched.made.push(WouldBe { container_id: container_id.to_owned(), at: now.clone() });
        watched.attempts_before = attempts;
        watched.would_have_given_up |= spent >= healing.attempts;
        if let Some(container) = container
            && watched.elsewhere.is_none()
        {
            watched.runs.insert(container_id.to_owned(), Run::of(container, now));
        }
    }

    /// Would-be restarts that would count against the budget of a container.
    pub fn would_be_spent_on(&self, container_id: &str) -> u32 {
        let of = |counts: &BTreeMap<String, u32>| counts.get(container_id).copied().unwrap_or_default();
        // Before each container had a count of its own they were counted for all.
        let of_all = self.would_be.saturating_sub(self.would_be_on.values().sum());
        of_all.saturating_add(of(&self.would_be_on)).saturating_add(of(&self.shadow.carried))
    }
}

/// Whether no more restarts would be made of a container.
pub fn is_spent(case: &Case, facts: &Facts, container_id: &str) -> bool {
    case.memory.would_be_spent_on(container_id) >= facts.healing.attempts || facts.day_is_spent(container_id)
}

/// What is to be written down about would-be restarts, given what is seen now. `None`: nothing. To be asked before each
/// decision about the incident: the one that closes it comes at the very moment at which a restart has proved itself.
pub fn note(case: &Case, facts: &Facts, now: &Now) -> Option<Changed> {
    if case.memory.shadow.runs.is_empty() || !facts.docker_up || case.open_attempt().is_some() {
        return None;
    }
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    changed.note_restarts(facts, now);
    (changed.case != *case).then(|| changed.revised())
}

impl Changed {
    fn note_restarts(&mut self, facts: &Facts, now: &Now) {
        let watched = &self.case.memory.shadow;
        let ours = self.case.attempts.iter().rfind(|attempt| attempt.attempt.number > watched.attempts_before);
        match ours.map(|ours| (ours.attempt.number, ours.attempt.outcome)) {
            Some((number, Some(AttemptOutcome::Helped))) => {
                return self.verdict(true, &format!("attempt {number} did"), now);
            }
            Some((number, Some(AttemptOutcome::DidNotHelp | AttemptOutcome::Failed))) => {
                return self.verdict(false, &format!("attempt {number} did not"), now);
            }
            Some((number, Some(AttemptOutcome::Interrupted))) => {
                return self.never_known(&format!("attempt {number} was interrupted"), now);
            }
            Some((_, None)) | None => (),
        }
        // A boot is more than a restart.
        if watched.runs.values().any(|run| run.boot_id != now.boot_id) {
            return self.never_known("the machine was booted", now);
        }
        if let Some(elsewhere) = watched.elsewhere.clone() {
            return self.judge(elsewhere, facts, now);
        }
        let again = watched.runs.iter().find_map(|(id, run)| {
            let seen = facts.container(id)?;
            let started_at = seen.container.started_at;
            (started_at.is_some() && started_at != run.started_at).then(|| (run.clone(), seen.clone()))
        });
        let Some((run, seen)) = again else { return };
        // Docker starts what a boot has ended, and what has never run was not restarted. A clock that was set since then takes a run of
        // this boot for an earlier one, too: better a verdict that is missing than one that is made up.
        let booted = now.wall.saturating_sub(now.boottime).unwrap_or(Timestamp::MIN);
        if run.started_at.is_none_or(|started_at| started_at < booted) {
            return self.never_known("it had not run since the machine was booted", now);
        }
        // It was well before somebody restarted it: that shows nothing.
        if self.case.memory.well_since.is_some() {
            return self.never_known("it was well before it was started anew", now);
        }
        self.restarted(&run, &seen, facts, now);
    }

    fn restarted(&mut self, before: &Run, seen: &ContainerFacts, facts: &Facts, now: &Now) {
        let container = &*seen.container;
        let by = match container.restart_count > before.restart_count {
            true => "by docker's restart policy",
            false => "not by the healer",
        };
        self.case.memory.shadow.elsewhere = Some(Elsewhere {
            container_id: container.id.clone(),
            before: before.started_at,
            run: Run::of(container, now),
            seen: now.clone(),
            deadline: now.after(verify::allowance(container, &facts.healing)),
            well_since: None,
        });
        self.tell(now, RESTARTED_ELSEWHERE, format!("{} was started anew, {by}", container.name));
    }

    fn judge(&mut self, elsewhere: Elsewhere, facts: &Facts, now: &Now) {
        let seen = facts.container(&elsewhere.container_id);
        if let Some(seen) = seen
            && seen.container.started_at != elsewhere.run.started_at
            && seen.container.restart_count <= elsewhere.run.restart_count
        {
            // Somebody has restarted it once more: that is no failure of the first.
            return self.restarted(&elsewhere.run, seen, facts, now);
        }
        match verify::judge_counted(&elsewhere.as_attempt(), elsewhere.run.restart_count, seen, &facts.healing, now) {
            // One that is stopped for good ends the incident.
            Verdict::Pending { .. } | Verdict::Stopped(_) => (),
            Verdict::Gone => self.never_known("the container is gone", now),
            Verdict::DidNotHelp(why) => self.verdict(false, &format!("another did not: {why}"), now),
            Verdict::Well => match &elsewhere.well_since {
                None => {
                    self.case.memory.shadow.elsewhere = Some(Elsewhere { well_since: Some(now.clone()), ..elsewhere });
                }
                Some(well_since) if now.since(well_since) >= facts.healing.stable_for => {
                    self.verdict(true, "another did: well for the whole stabilising window", now);
                }
                Some(_) => (),
            },
        }
    }

    fn verdict(&mut self, helped: bool, detail: &str, now: &Now) {
        let watched = &mut self.case.memory.shadow;
        if helped {
            // Those after the first would not have been made.
            watched.made.truncate(watched.judged + 1);
            // And the last one that the budget allows for would have been enough.
            watched.would_have_given_up = false;
        }
        self.forget();
        let (kind, word) = if helped { (WOULD_HAVE_HELPED, "") } else { (WOULD_NOT_HAVE_HELPED, "not ") };
        self.tell(now, kind, format!("a restart would {word}have helped: {detail}"));
    }

    /// What was due so far gets no verdict: told, since whoever counts the lines must not give it that of a later one.
    fn never_known(&mut self, why: &str, now: &Now) {
        self.forget();
        self.tell(now, WOULD_NOT_BE_KNOWN, format!("whether a restart would have helped will not be known: {why}"));
    }

    /// What was due so far has its verdict, or gets none.
    fn forget(&mut self) {
        let watched = &mut self.case.memory.shadow;
        watched.judged = watched.made.len();
        watched.runs.clear();
        watched.elsewhere = None;
    }
}

impl Elsewhere {
    /// As if it were one of the healer's own.
    fn as_attempt(&self) -> Try {
        let memory = TryMemory {
            deadline: Some(self.deadline.clone()),
            ..TryMemory::of(&self.seen, jiff::SignedDuration::ZERO)
        };
        let attempt = Attempt {
            id: Uuid::nil(),
            incident_id: Uuid::nil(),
            number: 0,
            action: "restart".to_owned(),
            container_id: self.container_id.clone(),
            started_at_before: self.before,
            started_at_after: self.run.started_at,
            intended_at: self.seen.wall,
            finished_at: None,
            outcome: None,
            detail: None,
            revision: 0,
        };
        Try { attempt, memory }
    }
}

/// The would-be restarts of the incidents that were closed within a day, oldest first: what the budgets of an hour and of a
/// day would have lost to them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ledger(VecDeque<Entry>);

#[derive(Clone, Debug, PartialEq)]
struct Entry {
    would_be: WouldBe,
    /// It would not count against the budget of an hour any more, see [`budget::begins_anew`].
    is_forgiven: bool,
}

impl Ledger {
    /// Takes in a closed incident.
    pub fn close(&mut self, incident: &Incident, memory: &Memory, now: &Now) {
        let is_over = |oldest: &Entry| now.since(&oldest.would_be.at) >= DAY;
        while self.0.len() >= budget::MOST_KEPT || self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        // With its owner's hand in it the day begins anew as well.
        if budget::is_by_owner(incident) || memory.forgiven {
            self.0.retain(|entry| !memory.containers.contains(&entry.would_be.container_id));
            return;
        }
        let made = memory.shadow.made.iter().cloned();
        self.0.extend(made.map(|would_be| Entry { would_be, is_forgiven: false }));
        if memory.shadow.would_have_given_up {
            let of_it = |entry: &&mut Entry| memory.containers.contains(&entry.would_be.container_id);
            self.0.iter_mut().filter(of_it).for_each(|entry| entry.is_forgiven = true);
        }
    }

    /// What would have been spent on each container in the last hour; those without any are left out.
    pub fn spent<'a>(&self, containers: impl Iterator<Item = &'a str>, now: &Now) -> BTreeMap<String, u32> {
        let counts = |entry: &Entry| !entry.is_forgiven && now.since(&entry.would_be.at) < BUDGET_WINDOW;
        let spent = |id: &str| self.0.iter().filter(|it| it.would_be.container_id == id && counts(it)).count() as u32;
        containers.map(|id| (id.to_owned(), spent(id))).filter(|(_, spent)| *spent > 0).collect()
    }

    /// Adds what would have been spent on each container within a day, in closed incidents and in the open one.
    pub fn add_today<'a>(
        &self,
        spent: &mut BTreeMap<String, u32>,
        containers: impl Iterator<Item = &'a str>,
        open: Option<&Case>,
        now: &Now,
    ) {
        let of_open = || open.into_iter().flat_map(|case| &case.memory.shadow.made);
        for id in containers {
            let all = self.0.iter().map(|entry| &entry.would_be).chain(of_open());
            let today = all.filter(|it| it.container_id == id && now.since(&it.at) < DAY).count() as u32;
            if today > 0 {
                *spent.entry(id.to_owned()).or_default() += today;
            }
        }
    }
}

#[cfg(test)]
mod tests;
