//! When disk or memory of the machine is about to run out: what to give up, in which order, and what to take back afterwards.
//!
//! An incident of the project [`PROJECT`], which no Compose project can be called, and of the service `disk` or `memory`. This
//! file is pure: [`next`] says what comes next from plain data, [`apply`] what that changes on paper. [`eyes`] reads the
//! machine, [`ballast`] is the file that is given back first, [`task`] the loop that carries it out, [`leak`] tells a leak from
//! a load, [`tell`] makes alerts of it. Nothing here removes a container or a volume; what the policy does not allow is
//! only written down.

pub mod ballast;
pub mod eyes;
pub mod leak;
pub mod metrics;
pub mod task;
pub mod tell;

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::SIGNAL_WORKS_WITHIN;
use nexus_model::{Attempt, AttemptOutcome, IncidentState, Mode, Now, Outcome, Refusal, ServiceKey};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    case::{self, Case, Try, TryMemory},
    transition::Changed,
};

/// The project of incidents that are the machine's.
pub const PROJECT: &str = "_host";

/// How long the effect of an act takes to show: a file that is deleted, a process that ends.
const SETTLES: SignedDuration = SignedDuration::from_secs(3);
/// With less time than this left nothing waits for the effect of what came before.
const HURRY: SignedDuration = SignedDuration::from_secs(20);
/// How long other remedies wait for a prune. It may take Docker minutes, in which a runaway writer goes on.
const PRUNE_PATIENCE: SignedDuration = SignedDuration::from_secs(5);
/// What there was to prune has been pruned; what comes since comes slowly.
const PRUNE_EVERY: SignedDuration = SignedDuration::from_hours(1);
/// After the last remedy, before a person is told that there is none left.
const GIVE_UP_AFTER: SignedDuration = SignedDuration::from_secs(30);
/// Acts within one incident. More would be a machine that swings to and fro, which only a person can calm.
const MOST_ACTS: usize = 40;
/// The wait before what was stopped is started again doubles each time that it had to be stopped again, up to this.
const LONGEST_WAIT: SignedDuration = SignedDuration::from_hours(6);
/// Beyond the stop time-out, before a stop without a trace counts as one that nobody carried out.
const ACT_MARGIN: SignedDuration = SignedDuration::from_secs(20);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Disk,
    Memory,
}

impl Resource {
    pub const ALL: [Resource; 2] = [Resource::Disk, Resource::Memory];

    /// The service of its incidents.
    pub fn as_str(self) -> &'static str {
        match self {
            Resource::Disk => "disk",
            Resource::Memory => "memory",
        }
    }

    pub fn key(self) -> ServiceKey {
        ServiceKey::new(PROJECT, self.as_str())
    }

    pub fn of(key: &ServiceKey) -> Option<Resource> {
        Resource::ALL.into_iter().find(|resource| resource.key() == *key)
    }
}

/// How much there is left, as [`eyes`] judges it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Level {
    /// About to run out: seconds count.
    Critical,
    /// Little; what costs nobody anything may be given up.
    Tight,
    Room,
    /// Enough to take back what was given up.
    Plenty,
}

/// What can be done.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    Ballast,
    Prune,
    Stop { container_id: String },
    Start { container_id: String },
}

impl Remedy {
    /// The action of the attempt.
    pub fn action(&self) -> &'static str {
        match self {
            Remedy::Ballast => "ballast",
            Remedy::Prune => "prune",
            Remedy::Stop { .. } => "stop",
            Remedy::Start { .. } => "start",
        }
    }

    fn container_id(&self) -> &str {
        match self {
            Remedy::Ballast | Remedy::Prune => "",
            Remedy::Stop { container_id } | Remedy::Start { container_id } => container_id,
        }
    }
}

/// A container as far as this is concerned.
#[derive(Clone, Debug, PartialEq)]
pub struct Seen {
    pub key: ServiceKey,
    pub id: String,
    pub name: String,
    pub runs: bool,
    pub started_at: Option<Timestamp>,
    /// It may be stopped: the policy calls it expendable, nothing that is not expendable needs it, and no restart of it is
    /// under way.
    pub expendable: bool,
    /// How long it gets to stop.
    pub stop_timeout: SignedDuration,
    /// What keeps hands off it: a pause of it or its project, or its maintenance.
    pub held: Option<Refusal>,
}

/// What decisions rest on.
#[derive(Clone, Debug, PartialEq)]
pub struct Situation {
    pub resource: Resource,
    pub level: Level,
    /// Of the resource, in bytes.
    pub available: u64,
    /// When it will have run out at the pace of the last half minute; `None`: not soon.
    pub left: Option<SignedDuration>,
    pub may_prune: bool,
    pub may_stop: bool,
    /// Size of the ballast that is there.
    pub ballast: u64,
    pub last_prune: Option<Now>,
    /// What would help most first.
    pub containers: Vec<Seen>,
    pub docker_up: bool,
    pub journal_writable: bool,
    pub silenced: bool,
    /// What holds everything back, stops and starts alike: a pause of everything, or a maintenance window of the machine.
    pub held: Option<Refusal>,
    /// Attempts that this process is carrying out.
    pub under_way: BTreeSet<Uuid>,
    /// How long it must not be short before the incident is closed, and what was stopped is started again.
    pub stable_for: SignedDuration,
    pub start_after: SignedDuration,
}

impl Situation {
    fn container(&self, id: &str) -> Option<&Seen> {
        self.containers.iter().find(|seen| seen.id == id)
    }
}

/// A container that we stopped and mean to start again.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stopped {
    pub key: ServiceKey,
    pub name: String,
    /// The run that was ended; another one is somebody else's.
    pub run: Option<Timestamp>,
}

/// What the healer remembers of such an incident.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Memory {
    /// By container id, from the intent on.
    pub stopped: BTreeMap<String, Stopped>,
    /// How often each was stopped.
    pub times: BTreeMap<String, u32>,
    /// Since when it has not been short, and since when there has been plenty.
    pub calm_since: Option<Now>,
    pub plenty_since: Option<Now>,
    /// When the last act was over.
    pub acted: Option<Now>,
    /// What would have been done were it allowed, each told once.
    pub would: BTreeSet<Remedy>,
    pub gave_up_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Step {
    /// Nothing, and why.
    Wait {
        why: Option<Refusal>,
    },
    /// Intent first, then the act.
    Act(Remedy),
    /// Not allowed: only written down.
    Would(Remedy),
    /// What came of an attempt.
    Judge {
        attempt: Uuid,
        outcome: AttemptOutcome,
        detail: String,
    },
    /// It is not ours to start any more.
    Forget {
        container_id: String,
        why: &'static str,
    },
    Calm,
    Plenty(bool),
    Relapse,
    GiveUp,
    Close,
}

/// What comes next for an open incident. To be asked again after each step but [`Step::Wait`].
pub fn next(case: &Case, situation: &Situation, now: &Now) -> Step {
    let memory = &case.memory.relief;
    let open = || case.attempts.iter().filter(|attempt| attempt.attempt.outcome.is_none());
    if let Some(judged) = open().find_map(|attempt| judge(attempt, situation, now)) {
        return judged;
    }
    let is_open = |id: &str| open().any(|attempt| attempt.attempt.container_id == id);
    if situation.docker_up
        && let Some((container_id, why)) = memory
            .stopped
            .iter()
            .filter(|(id, _)| !is_open(id))
            .find_map(|(id, stopped)| Some((id.clone(), not_ours(case, stopped, situation.container(id), now)?)))
    {
        return Step::Forget { container_id, why };
    }
    if situation.level <= Level::Tight { pressing(case, situation, now) } else { at_ease(case, situation, now) }
}

/// What came of an act whose outcome is not known. The facts tell, so that the answer is the same for an act that the healer
/// did not live to see the end of.
fn judge(attempt: &Try, situation: &Situation, now: &Now) -> Option<Step> {
    let Attempt { id, action, container_id, started_at_before, .. } = &attempt.attempt;
    if situation.under_way.contains(id) {
        return None;
    }
    let judged = |outcome, detail: &str| Some(Step::Judge { attempt: *id, outcome, detail: detail.to_owned() });
    let lost = "nobody can say what came of it: docker gave no answer, or the healer was started anew meanwhile";
    let patience = attempt.memory.stop_timeout.saturating_add(ACT_MARGIN);
    let over = now.since(&attempt.memory.intended) >= patience;
    match action.as_str() {
        "stop" | "start" => {
            if !situation.docker_up {
                return None;
            }
            let Some(seen) = situation.container(container_id) else {
                return judged(AttemptOutcome::Interrupted, "the container is gone");
            };
            let wanted = (action == "start") == seen.runs;
            let same_run = seen.started_at == *started_at_before;
            match (wanted, same_run) {
                // A stop leaves the start time, a start changes it.
                (true, true) if action == "stop" => {
                    judged(AttemptOutcome::Helped, &freed(attempt, situation.available, situation.resource))
                }
                (true, false) if action == "start" => judged(AttemptOutcome::Helped, "it runs again"),
                (false, false) if action == "start" => judged(AttemptOutcome::DidNotHelp, "it has ended again at once"),
                _ if over => judged(AttemptOutcome::Interrupted, lost),
                _ => None,
            }
        }
        "ballast" if situation.ballast == 0 => {
            judged(AttemptOutcome::Helped, &freed(attempt, situation.available, situation.resource))
        }
        _ => judged(AttemptOutcome::Interrupted, lost),
    }
}

/// What there was before an act and is now.
fn freed(attempt: &Try, now: u64, resource: Resource) -> String {
    match attempt.memory.available_before {
        Some(before) => {
            let gained = now.saturating_sub(before);
            format!("{} more than before: {} of {} are free", bytes(gained), bytes(now), resource.as_str())
        }
        None => format!("{} of {} are free", bytes(now), resource.as_str()),
    }
}

/// Why a container that we stopped is not ours to start any more. A person's word counts more than our plan.
///
/// Docker may say no to a stop, or nothing at all, and the container end by it all the same, minutes later.
fn not_ours(case: &Case, stopped: &Stopped, seen: Option<&Seen>, now: &Now) -> Option<&'static str> {
    let Some(seen) = seen else { return Some("is gone or was created anew") };
    if seen.started_at != stopped.run {
        return Some(match seen.runs {
            true => "was started by somebody else",
            false => "was started and stopped by somebody else",
        });
    }
    let of_this_run = |attempt: &&Try| attempt.attempt.started_at_before == stopped.run;
    let last = case.attempts_on(&seen.id).filter(of_this_run).rfind(|attempt| attempt.attempt.action == "stop")?;
    if last.attempt.outcome == Some(AttemptOutcome::Helped) {
        // A run that has ended does not go on.
        return seen.runs.then_some("was started by somebody else");
    }
    let is_over = now.since(last.memory.finished.as_ref()?) >= SIGNAL_WORKS_WITHIN;
    (seen.runs && is_over).then_some("has outlived its stop")
}

fn pressing(case: &Case, situation: &Situation, now: &Now) -> Step {
    let memory = &case.memory.relief;
    if memory.calm_since.is_some() {
        return Step::Relapse;
    }
    let offers = offers(situation);
    let mut refused = None;
    for (remedy, allowed) in &offers {
        if !allowed {
            if !memory.would.contains(remedy) {
                return Step::Would(remedy.clone());
            }
            refused = Some(Refusal::RemedyNotAllowed);
        }
    }
    let next = offers.into_iter().find(|(_, allowed)| *allowed);
    let Some((remedy, _)) = next.filter(|_| case.attempts.len() < MOST_ACTS) else {
        return nothing_left(case, situation, refused, now);
    };
    gate(case, situation, remedy, now)
}

/// In the order of what costs least, with whether it is allowed.
fn offers(situation: &Situation) -> Vec<(Remedy, bool)> {
    let mut offers = Vec::new();
    if situation.resource == Resource::Disk {
        if situation.level == Level::Critical && situation.ballast > 0 {
            offers.push((Remedy::Ballast, true));
        }
        offers.push((Remedy::Prune, situation.may_prune));
    }
    // For disk only when nothing else is left; what ends gives its memory back at once, and its disk never.
    if situation.level == Level::Critical || situation.resource == Resource::Memory {
        let expendable = situation.containers.iter().filter(|seen| seen.expendable && seen.runs);
        offers.extend(expendable.map(|seen| (Remedy::Stop { container_id: seen.id.clone() }, situation.may_stop)));
    }
    offers
}

/// Whether a remedy that is due can be applied now, or the one after it.
fn gate(case: &Case, situation: &Situation, first: Remedy, now: &Now) -> Step {
    let wait = |why| Step::Wait { why: Some(why) };
    if let Some(why) = situation.held {
        return wait(why);
    }
    if situation.silenced {
        return wait(Refusal::Silenced);
    }
    if !situation.journal_writable {
        return wait(Refusal::JournalUnavailable);
    }
    let mut open = case.attempts.iter().filter(|attempt| attempt.attempt.outcome.is_none());
    let pruning = open.clone().find(|attempt| attempt.attempt.action == "prune");
    if open.any(|attempt| attempt.attempt.action != "prune") {
        return wait(Refusal::Verifying);
    }
    let hurry = situation.left.is_some_and(|left| left <= HURRY);
    let settled = |settles| hurry || case.memory.relief.acted.as_ref().is_none_or(|acted| now.since(acted) >= settles);
    let remedies = std::iter::once(first)
        .chain(offers(situation).into_iter().filter(|(_, allowed)| *allowed).map(|(remedy, _)| remedy));
    for remedy in remedies {
        match &remedy {
            Remedy::Ballast => return Step::Act(remedy),
            _ if !situation.docker_up => return wait(Refusal::DockerUnavailable),
            Remedy::Prune => {
                let pruned = situation.last_prune.as_ref().is_some_and(|last| now.since(last) < PRUNE_EVERY);
                if pruning.is_none() && !pruned {
                    return if settled(SETTLES) { Step::Act(remedy) } else { wait(Refusal::Verifying) };
                }
                if !hurry && pruning.is_some_and(|pruning| now.since(&pruning.memory.intended) < PRUNE_PATIENCE) {
                    return wait(Refusal::Verifying);
                }
            }
            Remedy::Stop { .. } | Remedy::Start { .. } => {
                return if settled(SETTLES) { Step::Act(remedy) } else { wait(Refusal::Verifying) };
            }
        }
    }
    if pruning.is_some() {
        return wait(Refusal::Verifying);
    }
    nothing_left(case, situation, None, now)
}

/// It is short, and there is nothing to do about it.
fn nothing_left(case: &Case, situation: &Situation, refused: Option<Refusal>, now: &Now) -> Step {
    let memory = &case.memory.relief;
    let quiet = match &memory.acted {
        Some(acted) => now.since(acted) >= GIVE_UP_AFTER,
        // The clock may have been set back since.
        None => now.wall.duration_since(case.incident.opened_at).abs() >= GIVE_UP_AFTER,
    };
    let is_over = case.attempts.iter().all(|attempt| attempt.attempt.outcome.is_some());
    if case.incident.mode == Mode::Heal
        && situation.level == Level::Critical
        && quiet
        && is_over
        && memory.gave_up_at.is_none()
    {
        return Step::GiveUp;
    }
    Step::Wait { why: refused.or_else(|| is_over.then_some(Refusal::BudgetSpent)) }
}

/// It is not short.
fn at_ease(case: &Case, situation: &Situation, now: &Now) -> Step {
    let memory = &case.memory.relief;
    let Some(calm_since) = &memory.calm_since else { return Step::Calm };
    let is_plenty = situation.level == Level::Plenty;
    if is_plenty != memory.plenty_since.is_some() {
        return Step::Plenty(is_plenty);
    }
    if case.attempts.iter().any(|attempt| attempt.attempt.outcome.is_none()) {
        return Step::Wait { why: Some(Refusal::Verifying) };
    }
    if memory.stopped.is_empty() {
        let over = now.since(calm_since) >= situation.stable_for;
        return if over { Step::Close } else { Step::Wait { why: Some(Refusal::Verifying) } };
    }
    let Some(plenty_since) = &memory.plenty_since else { return Step::Wait { why: Some(Refusal::CoolingDown) } };
    // The one that was stopped least often is the least suspect.
    let times = |id: &String| memory.times.get(id).copied().unwrap_or(1).max(1);
    // Its owner is at work on it: it is started when that is over, and others are meanwhile.
    let held = |id: &String| situation.container(id).and_then(|seen| seen.held);
    // It may end yet by a stop that Docker could not tell the end of.
    let runs = |id: &String| situation.container(id).is_some_and(|seen| seen.runs);
    let may_start = |id: &&String| held(id).is_none() && !runs(id);
    let Some(id) = memory.stopped.keys().filter(may_start).min_by_key(|id| times(id)) else {
        return Step::Wait { why: memory.stopped.keys().find_map(held).or(Some(Refusal::Verifying)) };
    };
    let wait =
        situation.start_after.saturating_mul(1 << (times(id) - 1).min(20)).min(LONGEST_WAIT.max(situation.start_after));
    // One at a time, and each must prove that there is still plenty.
    let last = memory.acted.as_ref().is_none_or(|acted| now.since(acted) >= situation.stable_for);
    if now.since(plenty_since) < wait || !last {
        return Step::Wait { why: Some(Refusal::CoolingDown) };
    }
    if let Some(why) = situation.held {
        return Step::Wait { why: Some(why) };
    }
    if !situation.docker_up {
        return Step::Wait { why: Some(Refusal::DockerUnavailable) };
    }
    if !situation.journal_writable {
        return Step::Wait { why: Some(Refusal::JournalUnavailable) };
    }
    Step::Act(Remedy::Start { container_id: id.clone() })
}

/// Opens an incident.
pub fn open(host: &str, situation: &Situation, alert: (&str, Timestamp), now: &Now) -> Changed {
    let allowed = offers_of_policy(situation);
    let mode = if allowed { Mode::Heal } else { Mode::Shadow };
    let what = situation.resource.as_str();
    let soon = match situation.left {
        Some(left) => format!(", none in {} s at this pace", left.as_secs()),
        None => String::new(),
    };
    let problem = format!("{} of {what} left{soon}", bytes(situation.available));
    let incident = case::opened(host, &situation.resource.key(), alert, mode, problem, now);
    let case = Case { incident, attempts: Vec::new(), memory: case::Memory::default() };
    let mut changed = Changed { case, events: Vec::new() };
    let detail = format!("{}: looked at because of {}", changed.case.incident.problem, alert.0);
    changed.tell(now, "opened", detail);
    changed.revised()
}

/// Whether anything at all may be done, or it is only watched.
fn offers_of_policy(situation: &Situation) -> bool {
    match situation.resource {
        Resource::Disk => situation.may_prune || situation.may_stop || situation.ballast > 0,
        Resource::Memory => situation.may_stop,
    }
}

/// What a step changes on paper. `None`: nothing. For [`Step::Act`] this is the intent.
pub fn apply(case: &Case, step: &Step, situation: &Situation, now: &Now) -> Option<Changed> {
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    let name = |id: &str| situation.container(id).map_or_else(|| id.to_owned(), |seen| seen.key.to_string());
    match step {
        Step::Wait { why } => {
            if changed.case.incident.refusal == *why {
                return None;
            }
            changed.case.incident.refusal = *why;
        }
        Step::Act(remedy) => intend(&mut changed, remedy, situation, now),
        Step::Would(remedy) => {
            changed.case.memory.relief.would.insert(remedy.clone());
            changed.case.incident.refusal = Some(Refusal::RemedyNotAllowed);
            let what = match remedy {
                Remedy::Ballast => "given the ballast back".to_owned(),
                Remedy::Prune => "pruned dangling images and the build cache (remedies.prune)".to_owned(),
                Remedy::Stop { container_id } => {
                    format!("stopped {} (remedies.stop_expendables)", name(container_id))
                }
                Remedy::Start { container_id } => format!("started {}", name(container_id)),
            };
            changed.tell(now, "would", format!("would have {what}"));
        }
        Step::Judge { attempt, outcome, detail } => ended(&mut changed, *attempt, *outcome, detail, now),
        Step::Forget { container_id, why } => {
            let stopped = changed.case.memory.relief.stopped.remove(container_id);
            let name = stopped.map_or_else(|| container_id.clone(), |stopped| stopped.name);
            changed.tell(now, "left", format!("{name} {why}: it is not ours to start any more"));
        }
        Step::Calm => {
            changed.case.memory.relief.calm_since = Some(now.clone());
            changed.case.memory.relief.gave_up_at = None;
            if changed.case.incident.mode == Mode::Heal {
                changed.case.incident.state = IncidentState::Stabilising;
            }
            changed.case.incident.refusal = Some(Refusal::Verifying);
            let detail = format!("{} of {} left", bytes(situation.available), situation.resource.as_str());
            changed.tell(now, "eased", detail);
        }
        Step::Plenty(is_plenty) => {
            changed.case.memory.relief.plenty_since = is_plenty.then(|| now.clone());
        }
        Step::Relapse => {
            let relief = &mut changed.case.memory.relief;
            (relief.calm_since, relief.plenty_since) = (None, None);
            changed.case.incident.refusal = None;
            if changed.case.incident.mode == Mode::Heal {
                changed.case.incident.state = IncidentState::Suspect;
            }
            let detail = format!("short again: {} of {} left", bytes(situation.available), situation.resource.as_str());
            changed.tell(now, "relapse", detail);
        }
        Step::GiveUp => {
            changed.case.memory.relief.gave_up_at = Some(now.wall);
            changed.case.incident.state = IncidentState::GaveUp;
            changed.case.incident.refusal = Some(Refusal::BudgetSpent);
            changed.tell(now, "gave_up", "nothing is left that the healer may give up: a person is needed".to_owned());
        }
        Step::Close => {
            let helped = case.attempts.iter().any(|it| it.attempt.outcome == Some(AttemptOutcome::Helped));
            let outcome = if helped { Outcome::Recovered } else { Outcome::RecoveredByItself };
            let incident = &mut changed.case.incident;
            incident.state = IncidentState::Closed;
            incident.outcome = Some(outcome);
            incident.closed_at = Some(now.wall);
            incident.refusal = None;
            let detail = format!("{outcome}: {} of {} left", bytes(situation.available), situation.resource.as_str());
            changed.tell(now, "closed", detail);
        }
    }
    Some(changed.revised())
}

fn intend(changed: &mut Changed, remedy: &Remedy, situation: &Situation, now: &Now) {
    let seen = situation.container(remedy.container_id());
    let number = changed.case.attempts.last().map_or(0, |last| last.attempt.number) + 1;
    let stop_timeout = seen.map_or(SignedDuration::ZERO, |seen| in_time(seen.stop_timeout, situation.left));
    changed.case.attempts.push(Try {
        attempt: Attempt {
            id: Uuid::now_v7(),
            incident_id: changed.case.incident.id,
            number,
            action: remedy.action().to_owned(),
            container_id: remedy.container_id().to_owned(),
            started_at_before: seen.and_then(|seen| seen.started_at),
            started_at_after: None,
            intended_at: now.wall,
            finished_at: None,
            outcome: None,
            detail: None,
            revision: 1,
        },
        memory: TryMemory { available_before: Some(situation.available), ..TryMemory::of(now, stop_timeout) },
    });
    let incident = &mut changed.case.incident;
    incident.attempts = number;
    incident.refusal = None;
    let key = seen.map(|seen| seen.key.to_string()).unwrap_or_default();
    let detail = match remedy {
        Remedy::Ballast => format!("giving back {} of ballast", bytes(situation.ballast)),
        Remedy::Prune => "pruning dangling images and the build cache".to_owned(),
        Remedy::Stop { .. } => format!("stopping {key}, which is expendable"),
        Remedy::Start { .. } => format!("starting {key} again"),
    };
    if !matches!(remedy, Remedy::Start { .. }) {
        changed.case.incident.state = IncidentState::Relieving;
        changed.case.memory.relief.gave_up_at = None;
    }
    if let (Remedy::Stop { container_id }, Some(seen)) = (remedy, seen) {
        let stopped = Stopped { key: seen.key.clone(), name: seen.name.clone(), run: seen.started_at };
        let relief = &mut changed.case.memory.relief;
        relief.stopped.insert(container_id.clone(), stopped);
        *relief.times.entry(container_id.clone()).or_default() += 1;
    }
    changed.tell(now, "intent", detail);
}

/// Not so long that the end comes first.
fn in_time(stop_timeout: SignedDuration, left: Option<SignedDuration>) -> SignedDuration {
    let third = left.map(|left| SignedDuration::from_secs((left.as_secs() / 3).max(1)));
    third.map_or(stop_timeout, |third| stop_timeout.min(third))
}

fn ended(changed: &mut Changed, id: Uuid, outcome: AttemptOutcome, detail: &str, now: &Now) {
    let Some(open) = changed.case.attempts.iter_mut().find(|it| it.attempt.id == id) else { return };
    open.attempt.outcome = Some(outcome);
    open.attempt.finished_at = Some(now.wall);
    open.memory.finished = Some(now.clone());
    open.attempt.detail = Some(detail.to_owned());
    open.attempt.revision += 1;
    let (action, container_id) = (open.attempt.action.clone(), open.attempt.container_id.clone());
    let relief = &mut changed.case.memory.relief;
    relief.acted = Some(now.clone());
    let helped = outcome == AttemptOutcome::Helped;
    match action.as_str() {
        // One that has ended again by itself is ill, and no concern of ours here.
        "start" if helped || outcome == AttemptOutcome::DidNotHelp => _ = relief.stopped.remove(&container_id),
        // It waits as long as after another stop before it is tried again.
        "start" => *relief.times.entry(container_id).or_default() += 1,
        _ => (),
    }
    if !helped && outcome != AttemptOutcome::Interrupted {
        changed.case.incident.failed_attempts += 1;
    }
    if changed.case.incident.state == IncidentState::Relieving {
        changed.case.incident.state = IncidentState::Suspect;
    }
    changed.tell(now, if helped { "relieved" } else { "attempt_failed" }, format!("{action}: {outcome}: {detail}"));
}

/// For people.
pub fn bytes(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    match UNITS.into_iter().find(|(_, size)| bytes >= *size) {
        Some((unit, size)) => format!("{:.1} {unit}", bytes as f64 / size as f64),
        None => format!("{bytes} B"),
    }
}

#[cfg(test)]
mod tests;
