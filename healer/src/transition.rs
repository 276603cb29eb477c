//! What a decision changes in an incident. Pure but for the ids of new events; the worker makes the result durable
//! before it becomes true.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_docker::{Container, Status};
use nexus_model::{
    Attempt, AttemptOutcome, Cause, Diagnosis, Incident, IncidentEvent, IncidentState, Mode, Now, Outcome, Refusal,
    ServiceKey, shadow::WOULD_RESTART,
};
use uuid::Uuid;

use crate::{
    act::Deed,
    alone, backoff,
    by_hand::ByHand,
    case::{self, Case, Memory, Start, Try, TryMemory},
    decide::{Admission, Decision, would_be_delay},
    dependencies::Follows,
    diagnosis,
    facts::{self, Condition, ContainerFacts, Facts},
    findings::Findings,
    policy::Healing,
    probe::Probe,
    shadow,
};

/// Lines in the story of one incident. A service that flaps for weeks after giving up must not fill the journal.
const MAX_EVENTS: u32 = 500;

/// How long a service waits for one that is only watched before its owner is told.
const WAITS_LONG: jiff::SignedDuration = jiff::SignedDuration::from_mins(10);

/// A changed incident and the lines that its story gains.
#[derive(Clone, Debug)]
pub struct Changed {
    pub case: Case,
    pub events: Vec<IncidentEvent>,
}

/// Opens an incident. `carried` is what was spent on the service's containers shortly before.
pub fn open(
    host: &str,
    key: &ServiceKey,
    alert: (&str, Timestamp),
    found: Admission,
    carried: BTreeMap<String, u32>,
    now: &Now,
) -> Changed {
    let incident = Incident {
        container_name: found.container.name.clone(),
        image: found.container.image.clone(),
        ..case::opened(host, key, alert, found.mode, found.problem, now)
    };
    let (alert, _) = alert;
    let memory =
        Memory { containers: found.ill.into_iter().collect(), carried, follows: found.follows, ..Memory::default() };
    let mut changed = Changed { case: Case { incident, attempts: Vec::new(), memory }, events: Vec::new() };
    let (name, problem) = (&found.container.name, &changed.case.incident.problem);
    let detail = if alert == alone::ALERT {
        let patience = alone::PATIENCE.as_secs();
        format!("{name}: {problem}; alertmanager brought no alert within {patience} s: looked at without one")
    } else {
        format!("{name}: {problem}; looked at when {alert} came in")
    };
    changed.tell(now, "opened", detail);
    // What can be told without the log, so that one that is only watched has a cause as well.
    let findings = Findings { ended_by_docker: found.ended_by_docker, ..Findings::of(&found.container) };
    let diagnosis = diagnosis::diagnose(&findings, now.wall);
    if diagnosis.cause != Cause::Unknown {
        changed.diagnosed(diagnosis, now);
    }
    changed.revised()
}

/// Another alert for an open incident.
pub fn alerted(case: &Case, at: Timestamp) -> Changed {
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    changed.case.incident.last_alert_at = at;
    changed.revised()
}

/// Something that it needs was restarted while it was in trouble itself, and it asks to be restarted with that.
pub fn follows(case: &Case, follows: Follows, at: Timestamp) -> Changed {
    let mut changed = alerted(case, at);
    changed.case.memory.follows = Some(follows);
    changed
}

/// Its owner wants one attempt on each of these containers, whatever else holds the healer back.
pub fn heal_now(case: &Case, containers: &[String], force: bool, now: &Now) -> Changed {
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    let memory = &mut changed.case.memory;
    let ids = containers.iter().cloned();
    memory.containers.extend(ids.clone());
    memory.by_hand = Some(ByHand { asked: now.clone(), force, containers: ids.collect() });
    let forced = if force { ", whatever speaks against it" } else { "" };
    changed.tell(now, "heal_now", format!("its owner asks for an attempt{forced}"));
    changed.revised()
}

/// Takes note of another trouble than the one that the incident tells of, before something is done about it.
pub fn look_anew(case: &Case, container_id: &str, facts: &Facts, now: &Now) -> Changed {
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    changed.fell_ill_anew(container_id, facts, now);
    changed
}

/// Writes the intent to do something to a container.
pub fn intend(
    deed: Deed,
    case: &Case,
    container: &Container,
    stop_timeout: jiff::SignedDuration,
    now: &Now,
) -> Changed {
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    let case = &mut changed.case;
    let number = case.attempts.last().map_or(0, |last| last.attempt.number) + 1;
    case.attempts.push(Try {
        attempt: Attempt {
            id: Uuid::now_v7(),
            incident_id: case.incident.id,
            number,
            action: deed.as_str().to_owned(),
            container_id: container.id.clone(),
            started_at_before: container.started_at,
            started_at_after: None,
            intended_at: now.wall,
            finished_at: None,
            outcome: None,
            detail: None,
            revision: 1,
        },
        memory: TryMemory::of(now, stop_timeout),
    });
    case.memory.containers.insert(container.id.clone());
    let mut by_hand = "";
    if let Some(asked) = &mut case.memory.by_hand {
        if asked.containers.remove(&container.id) {
            by_hand = ", by hand";
        }
        if asked.containers.is_empty() {
            case.memory.by_hand = None;
        }
    }
    (case.memory.unblocked, case.memory.doubted) = (None, None);
    case.memory.starting.clear();
    case.incident.attempts = case.attempts.len() as u32;
    case.incident.state = IncidentState::Restarting;
    // What every further prompt is answered with, written here so that it costs no commit of its own.
    case.incident.refusal = Some(Refusal::Verifying);
    case.incident.next_attempt_at = None;
    changed.tell(now, "intent", format!("attempt {number}: {} {}{by_hand}", deed.as_str(), container.name));
    changed.revised()
}

/// Carries out a decision on paper. `None`: nothing changes. `random` in 0.0..=1.0 is for the jitter of the backoff.
pub fn apply(
    case: &Case,
    decision: &Decision,
    facts: &Facts,
    healing: &Healing,
    now: &Now,
    random: f64,
) -> Option<Changed> {
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    match decision {
        // The worker carries it out by `intend`, once the evidence is taken.
        Decision::Restart { .. } => return None,
        Decision::Wait { why, until } => changed.wait(*why, until.as_ref(), facts, now),
        Decision::Block { by, why, detail } => {
            changed.block(by, *why, detail, now);
            let nobody_acts = facts.needed.iter().any(|needed| needed.key == *by && needed.is_only_watched);
            changed.waits_long(by, nobody_acts, now);
        }
        Decision::Unblock => changed.unblock(now),
        Decision::Lapse { detail } => {
            changed.case.memory.by_hand = None;
            changed.tell(now, "heal_now_over", format!("the attempt that was asked for is not made: {detail}"));
        }
        Decision::WouldRestart { container_id, why } => {
            changed.fell_ill_anew(container_id, facts, now);
            changed.would_restart(container_id, *why, facts, healing, now);
        }
        Decision::Follow { mode } => changed.follow(*mode, now),
        Decision::Verify { started_at, deadline } => changed.verify(*started_at, deadline, now),
        Decision::Stabilise => changed.stabilise(facts, now),
        Decision::Relapse => changed.relapse(facts, now),
        Decision::AttemptEnded { outcome, detail } => {
            changed.attempt_ended(*outcome, detail, facts, healing, now, random);
        }
        Decision::GiveUp { since } => changed.give_up(since.as_deref(), now),
        Decision::GiveUpForTheDay { spent } => changed.give_up_for_the_day(spent, now),
        Decision::Close { outcome, detail } => changed.close(*outcome, detail, now),
    }
    if changed.case == *case && changed.events.is_empty() { None } else { Some(changed.revised()) }
}

/// What a problem is about, without its figures: "unhealthy" of "unhealthy: 3 failed probes in a row".
fn kind(problem: &str) -> &str {
    problem.split_once(':').map_or(problem, |(kind, _)| kind)
}

impl Changed {
    /// Takes note of what is behind it. Another cause, or a surer one, is worth a line.
    pub fn diagnosed(&mut self, found: Diagnosis, now: &Now) {
        let before = self.case.incident.diagnosis.as_ref();
        let known = before.map(|before| (before.cause, before.confidence));
        let kept = diagnosis::surer(before, found);
        if kept.cause != Cause::Unknown && known != Some((kept.cause, kept.confidence)) {
            self.tell(now, "diagnosed", diagnosis::in_short(&kept));
        }
        self.case.incident.diagnosis = Some(kept);
    }

    fn wait(&mut self, why: Refusal, until: Option<&Now>, facts: &Facts, now: &Now) {
        let incident = &mut self.case.incident;
        // What is due again by a changed clock is not worth a write of its own: only the wall time of a retry is shown.
        if incident.state == IncidentState::Suspect && why == Refusal::CoolingDown {
            incident.state = IncidentState::Backoff;
        }
        if why == Refusal::DependencyDoubtful && self.case.memory.doubted.is_none() {
            self.case.memory.doubted = Some(now.clone());
        }
        // Nothing of it is tried any more, so it waits for nobody.
        if matches!(why, Refusal::BudgetSpent | Refusal::DayBudgetSpent) && self.case.memory.blocked_by.is_some() {
            self.forget_block();
        }
        if why == Refusal::Starting {
            self.note_starts(facts, now);
        }
        if why == Refusal::NetworkGone && self.case.memory.network_gone.is_none() {
            self.case.memory.network_gone = Some(now.clone());
        }
        let incident = &mut self.case.incident;
        if incident.refusal == Some(why) {
            return;
        }
        incident.refusal = Some(why);
        if why == Refusal::CoolingDown && incident.next_attempt_at.is_none() {
            incident.next_attempt_at = until.map(|until| until.wall);
        }
        // The course of things needs no line; an obstacle does.
        if !matches!(
            why,
            Refusal::CoolingDown
                | Refusal::Verifying
                | Refusal::AlreadyWell
                | Refusal::ShadowMode
                | Refusal::ProtectedImage
                | Refusal::ProtectedService
                | Refusal::BudgetSpent
                | Refusal::DayBudgetSpent
        ) {
            self.tell(now, "refused", format!("not now: {why}"));
        }
    }

    /// Notes since when each run is waited for: once for each of them, so that a wait costs no write of its own.
    fn note_starts(&mut self, facts: &Facts, now: &Now) {
        for container in facts.containers.iter().map(|seen| &seen.container) {
            if container.status == Status::Running && self.case.starting_since(container).is_none() {
                let start = Start { run: container.started_at, since: now.clone() };
                self.case.memory.starting.insert(container.id.clone(), start);
            }
        }
    }

    fn block(&mut self, by: &ServiceKey, why: Refusal, detail: &str, now: &Now) {
        let incident = &mut self.case.incident;
        let told = self.case.memory.blocked_by.as_ref() == Some(by) && incident.refusal == Some(why);
        if told {
            return;
        }
        if matches!(incident.state, IncidentState::Suspect | IncidentState::Backoff) {
            incident.state = IncidentState::Blocked;
        }
        incident.refusal = Some(why);
        incident.next_attempt_at = None;
        if self.case.memory.blocked_by.as_ref() != Some(by) {
            (self.case.memory.blocked_since, self.case.memory.waits_told) = (None, None);
        }
        self.case.memory.blocked_by = Some(by.clone());
        (self.case.memory.unblocked, self.case.memory.doubted) = (None, None);
        self.tell(now, "blocked", detail.to_owned());
        if why == Refusal::DependencyDown {
            self.diagnosed(diagnosis::of_need(by, detail, now.wall), now);
        }
    }

    /// It waits for one that Nexus only watches, and has for long: then nobody but the owner will end it.
    fn waits_long(&mut self, by: &ServiceKey, nobody_acts: bool, now: &Now) {
        let memory = &mut self.case.memory;
        let since = memory.blocked_since.get_or_insert_with(|| now.clone());
        let is_long = now.since(since) >= WAITS_LONG;
        if !nobody_acts {
            memory.waits_told = None;
        } else if is_long && memory.waits_told.is_none() && self.case.incident.mode == Mode::Heal {
            memory.waits_told = Some(now.wall);
            self.tell(now, "told", format!("waits for {by}, which is only watched: the owner is told"));
        }
    }

    fn unblock(&mut self, now: &Now) {
        self.forget_block();
        self.case.incident.refusal = None;
        self.case.memory.unblocked = Some(now.clone());
        self.tell(now, "unblocked", "what it needs is well".to_owned());
    }

    /// It waits for nobody, whatever comes next.
    fn forget_block(&mut self) {
        self.case.memory.blocked_by = None;
        (self.case.memory.blocked_since, self.case.memory.waits_told) = (None, None);
        (self.case.memory.unblocked, self.case.memory.doubted, self.case.memory.network_gone) = (None, None, None);
        let attempted = !self.case.attempts.is_empty();
        let incident = &mut self.case.incident;
        if incident.state == IncidentState::Blocked {
            incident.state = if attempted { IncidentState::Backoff } else { IncidentState::Suspect };
        }
    }

    fn would_restart(&mut self, container_id: &str, why: Refusal, facts: &Facts, healing: &Healing, now: &Now) {
        let memory = &mut self.case.memory;
        memory.would_be += 1;
        let number = memory.would_be;
        let of_it = memory.would_be_on.entry(container_id.to_owned()).or_default();
        *of_it += 1;
        let of_it = *of_it;
        let container = facts.container(container_id).map(|seen| &seen.container);
        memory.would_be_due = container.map(|container| now.after(would_be_delay(container, healing, of_it)));
        memory.containers.insert(container_id.to_owned());
        let attempts = self.case.attempts.last().map_or(0, |last| last.attempt.number);
        memory.note_would_be(container_id, container.map(|container| &**container), attempts, healing, now);
        self.case.incident.state = IncidentState::Watching;
        self.case.incident.refusal = Some(why);
        let name = container.map_or(container_id, |container| container.name.as_str()).to_owned();
        let key = self.case.key();
        let starts = container.is_some_and(|container| facts.is_to_be_started(container));
        let deed = if starts { "started" } else { "restarted" };
        let mut detail = format!("would have {deed} {name} (attempt {number})");
        if why == Refusal::ProtectedImage {
            detail.push_str(&format!(
                "; an image like this is only healed when the service is named itself: nexus heal on {key}"
            ));
        }
        self.tell(now, WOULD_RESTART, detail);
        let is_ill = |seen: &&ContainerFacts| matches!(facts::condition(seen, Some(&self.case)), Condition::Ill(_));
        let mut others = facts.containers.iter().filter(|seen| seen.container.id != container_id).filter(is_ill);
        if self.case.memory.would_be_spent_on(container_id) == healing.attempts
            && others.all(|seen| shadow::is_spent(&self.case, facts, &seen.container.id))
        {
            self.tell(now, "would_give_up", format!("would have given up after {number} attempts"));
        }
    }

    fn follow(&mut self, mode: Mode, now: &Now) {
        let incident = &mut self.case.incident;
        incident.mode = mode;
        incident.refusal = None;
        incident.next_attempt_at = None;
        incident.state = match (mode, self.case.attempts.is_empty()) {
            (Mode::Heal, true) => IncidentState::Suspect,
            (Mode::Heal, false) => IncidentState::Backoff,
            (Mode::Shadow | Mode::Off, _) => IncidentState::Watching,
        };
        self.forget_block();
        self.case.memory.well_since = None;
        self.case.memory.would_be = 0;
        self.case.memory.would_be_on.clear();
        self.case.memory.would_be_due = None;
        self.case.memory.failing_since = None;
        self.case.memory.gave_up_at = None;
        self.case.memory.day_spent.clear();
        self.case.incident.acknowledged_at = None;
        self.tell(now, "mode", format!("the mode is {mode} now"));
    }

    fn verify(&mut self, started_at: Option<Timestamp>, deadline: &Now, now: &Now) {
        self.case.incident.state = IncidentState::Verifying;
        self.case.incident.refusal = Some(Refusal::Verifying);
        if let Some(attempt) = self.case.open_attempt_mut() {
            attempt.attempt.started_at_after = started_at;
            attempt.memory.deadline = Some(deadline.clone());
            attempt.attempt.revision += 1;
        }
        self.tell(now, "restarted", "docker has started the container anew".to_owned());
    }

    fn stabilise(&mut self, facts: &Facts, now: &Now) {
        let judged = self.case.open_attempt().is_some();
        self.forget_block();
        self.case.memory.starting.clear();
        let incident = &mut self.case.incident;
        // In shadow mode and after giving up the state says more than that it is well at the moment.
        if !matches!(incident.state, IncidentState::Watching | IncidentState::GaveUp) {
            incident.state = IncidentState::Stabilising;
        }
        incident.refusal = Some(if judged { Refusal::Verifying } else { Refusal::AlreadyWell });
        incident.next_attempt_at = None;
        self.case.memory.well_since = Some(now.clone());
        let unknown = facts.containers.iter().find_map(|seen| match &seen.probe {
            Some(Probe::Unknown { why }) => Some(format!(" (its probe says nothing: {why})")),
            _ => None,
        });
        let detail = format!("well{}; it must stay so for a while", unknown.unwrap_or_default());
        self.tell(now, "verified", detail);
    }

    /// What is the matter now is another trouble than the one that the incident tells of: from now on it tells of this one, and the
    /// cause of the old one is none of it. The story keeps both.
    fn fell_ill_anew(&mut self, container_id: &str, facts: &Facts, now: &Now) {
        let Some(seen) = facts.container(container_id).filter(|seen| !facts::looks_well(seen)) else { return };
        let container = &seen.container;
        // That it stands still after a restart of ours is no trouble of its own.
        if self.case.stopped_by_us(container, seen.stop) {
            return;
        }
        let Condition::Ill(problem) = facts::condition(seen, Some(&self.case)) else { return };
        let incident = &mut self.case.incident;
        // Of several containers it tells of one.
        if container.name != incident.container_name || kind(&problem) == kind(&incident.problem) {
            return;
        }
        let before = std::mem::replace(&mut incident.problem, problem.clone());
        incident.diagnosis = None;
        self.tell(now, "another_problem", format!("{problem}; before: {before}"));
        let findings = Findings { ended_by_docker: seen.was_ended_by_docker(), ..Findings::of(container) };
        let diagnosis = diagnosis::diagnose(&findings, now.wall);
        if diagnosis.cause != Cause::Unknown {
            self.diagnosed(diagnosis, now);
        }
    }

    fn relapse(&mut self, facts: &Facts, now: &Now) {
        let incident = &mut self.case.incident;
        if incident.state == IncidentState::Stabilising {
            incident.state =
                if self.case.attempts.is_empty() { IncidentState::Suspect } else { IncidentState::Backoff };
        }
        incident.refusal = None;
        self.case.memory.well_since = None;
        // The last one that was restarted is well, so it is another that keeps the incident open.
        let is_another = self.case.attempts.last().is_some_and(|last| {
            let restarted = facts.container(&last.attempt.container_id);
            last.attempt.outcome == Some(AttemptOutcome::Helped)
                && restarted.is_some_and(|seen| facts::condition(seen, Some(&self.case)) == Condition::Well)
        });
        let detail = if facts.containers.iter().any(|seen| seen.stopped_for_room) {
            "it was stopped for want of memory or disk"
        } else if is_another {
            "another replica is not well"
        } else {
            "it did not stay well"
        };
        self.tell(now, "relapse", detail.to_owned());
        let name = &self.case.incident.container_name;
        if let Some(seen) = facts.containers.iter().find(|seen| seen.container.name == *name) {
            self.fell_ill_anew(&seen.container.id, facts, now);
        }
    }

    fn attempt_ended(
        &mut self,
        outcome: AttemptOutcome,
        detail: &str,
        facts: &Facts,
        healing: &Healing,
        now: &Now,
        random: f64,
    ) {
        let Some(open) = self.case.open_attempt_mut() else { return };
        open.memory.left_stopped = match outcome {
            // Docker stops first and fails then; the watcher may not have seen it yet.
            AttemptOutcome::Failed => true,
            _ => facts.container(&open.attempt.container_id).is_some_and(|seen| {
                let container = &seen.container;
                matches!(container.status, Status::Exited | Status::Dead)
                    && container.started_at == open.attempt.started_at_before
            }),
        };
        open.attempt.outcome = Some(outcome);
        open.attempt.finished_at = Some(now.wall);
        open.memory.finished = Some(now.clone());
        open.attempt.detail = Some(detail.to_owned());
        open.attempt.revision += 1;
        let (number, container_id) = (open.attempt.number, open.attempt.container_id.clone());
        let helped = outcome == AttemptOutcome::Helped;
        self.case.incident.refusal = (!helped).then_some(Refusal::CoolingDown);
        // Also one that helped is followed by a pause: while one replica is well another may keep the incident open, and the
        // first fall ill again in it.
        let so_many = if helped {
            self.case.attempts_on(&container_id).count() as u32
        } else {
            self.case.fruitless_on(&container_id)
        };
        if outcome == AttemptOutcome::Failed {
            self.refused(detail, &container_id, facts, now);
        }
        let retry = now.after(backoff::delay(healing, so_many, random));
        if let Some(last) = self.case.attempts.iter_mut().rev().find(|attempt| attempt.attempt.number == number) {
            last.memory.retry = Some(retry.clone());
        }
        if helped {
            // Stays in the stabilising window: the service as a whole says what comes next.
            self.tell(now, "helped", format!("attempt {number} helped: {detail}"));
            return;
        }
        let spent = self.case.spent_on(&container_id) >= healing.attempts || facts.day_is_spent(&container_id);
        let incident = &mut self.case.incident;
        incident.state = IncidentState::Backoff;
        if matches!(outcome, AttemptOutcome::DidNotHelp | AttemptOutcome::Failed) {
            incident.failed_attempts += 1;
        }
        incident.next_attempt_at = (!spent).then_some(retry.wall);
        // Where only its owner's word has brought it about, none follows by itself.
        if incident.mode != Mode::Heal {
            (incident.state, incident.next_attempt_at) = (IncidentState::Watching, None);
        }
        self.case.memory.well_since = None;
        self.tell(now, "attempt_failed", format!("attempt {number}: {outcome}: {detail}"));
        if self.case.incident.failed_attempts >= healing.told_after && self.case.memory.failing_since.is_none() {
            self.case.memory.failing_since = Some(now.wall);
            let failed = self.case.incident.failed_attempts;
            self.tell(now, "told", format!("{failed} attempts have failed: the owner is told"));
        }
    }

    /// Docker has said no, and its answer may say why: not all of it is in its word on the container.
    fn refused(&mut self, answer: &str, container_id: &str, facts: &Facts, now: &Now) {
        let container = facts.container(container_id).map(|seen| &*seen.container);
        let findings = container.map(Findings::of).unwrap_or_default();
        // Whatever the watcher has seen so far: it does not run.
        let state = Status::Exited.as_str().to_owned();
        let diagnosis =
            diagnosis::diagnose_refusal(&Findings { state, error: answer.to_owned(), ..findings }, now.wall);
        if let Some(diagnosis) = diagnosis {
            self.diagnosed(diagnosis, now);
        }
    }

    fn give_up(&mut self, since: Option<&str>, now: &Now) {
        let incident = &mut self.case.incident;
        incident.state = IncidentState::GaveUp;
        incident.refusal = Some(if since.is_some() { Refusal::NetworkGone } else { Refusal::BudgetSpent });
        incident.next_attempt_at = None;
        // Who knows that it fails does not know yet that nothing more is tried.
        incident.acknowledged_at = None;
        let attempts = incident.attempts;
        self.case.memory.gave_up_at = Some(now.wall);
        self.case.memory.gave_up_since = since.map(str::to_owned);
        let detail = match self.case.carried() {
            _ if since.is_some() => since.unwrap_or_default().to_owned(),
            0 => format!("{attempts} attempts did not help: a person is needed"),
            carried => {
                format!("{} restarts within an hour did not help for long: a person is needed", attempts + carried)
            }
        };
        self.tell(now, "gave_up", detail);
    }

    fn give_up_for_the_day(&mut self, spent: &BTreeMap<String, u32>, now: &Now) {
        let incident = &mut self.case.incident;
        incident.state = IncidentState::GaveUp;
        incident.refusal = Some(Refusal::DayBudgetSpent);
        incident.next_attempt_at = None;
        self.case.memory.gave_up_at = Some(now.wall);
        self.case.memory.gave_up_since = None;
        self.case.memory.day_spent = spent.clone();
        let most = spent.values().max().copied().unwrap_or_default();
        self.tell(now, "gave_up", format!("{most} restarts within a day did not help for long: a person is needed"));
    }

    fn close(&mut self, outcome: Outcome, detail: &str, now: &Now) {
        if let Some(open) = self.case.open_attempt_mut() {
            open.attempt.outcome = Some(AttemptOutcome::Interrupted);
            open.attempt.finished_at = Some(now.wall);
            open.attempt.detail = Some(format!("the incident ended before it could be judged: {detail}"));
            open.attempt.revision += 1;
        }
        let incident = &mut self.case.incident;
        incident.state = IncidentState::Closed;
        incident.outcome = Some(outcome);
        incident.closed_at = Some(now.wall);
        incident.refusal = None;
        incident.next_attempt_at = None;
        self.tell(now, "closed", format!("{outcome}: {detail}"));
    }

    pub fn tell(&mut self, now: &Now, kind: &str, detail: String) {
        let memory = &mut self.case.memory;
        // The end is always told.
        if memory.events >= MAX_EVENTS && kind != "closed" {
            return;
        }
        memory.events += 1;
        let detail = if memory.events == MAX_EVENTS {
            format!("{detail} (the story is long; only its end follows)")
        } else {
            detail
        };
        self.events.push(IncidentEvent {
            id: Uuid::now_v7(),
            incident_id: self.case.incident.id,
            at: now.wall,
            kind: kind.to_owned(),
            detail,
        });
    }

    pub fn revised(mut self) -> Self {
        self.case.incident.revision += 1;
        self.case.incident.recorded_at = None;
        self
    }
}
