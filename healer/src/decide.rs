//! What to do about a service: pure functions of plain data. No clock, no I/O, no randomness, no waiting.
//!
//! [`admit`] says whether an alert becomes an incident, [`decide`] what comes next for an open one. Both look at what
//! Docker says now; an alert is only the prompt to look. Every "no" has a name, [`Refusal`]. What a decision changes in
//! the incident is in [`crate::transition`].

mod waits;

use std::{collections::BTreeMap, sync::Arc};

use jiff::SignedDuration;
use nexus_docker::{Container, Status};
use nexus_model::{AttemptOutcome, IncidentState, Mode, Now, Outcome, Refusal, ServiceKey};

use crate::{
    backoff, by_hand,
    case::{Case, Try},
    dependencies::Follows,
    facts::{self, Condition, ContainerFacts, Facts, condition},
    policy::Healing,
    shadow,
    verify::{self, Verdict},
};

pub use waits::its_log_decides;
use waits::{comes_first, wait_for_others, wait_for_the_start, wait_for_the_stop};

/// Granted to Docker beyond the stop time-out before an intent without a trace counts as interrupted: SIGKILL and the
/// start take seconds on a busy SD card, and a second restart on top of one under way is what must not happen.
const RESTART_MARGIN: SignedDuration = SignedDuration::from_secs(20);

/// When to look again while the journal can't be written.
pub(crate) const JOURNAL_RETRY: SignedDuration = SignedDuration::from_secs(5);

/// When to ask again whether a silence still stands.
const SILENCE_RETRY: SignedDuration = SignedDuration::from_mins(1);

/// How long a stop that somebody asked for must last before it ends an incident: `docker restart` passes through one.
const STOP_LASTS: SignedDuration = SignedDuration::from_secs(15);

/// What to do next about an open incident.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Nothing, and why; to be looked at again when something changes, at the latest at `until`.
    Wait {
        why: Refusal,
        until: Option<Now>,
    },
    /// It waits for another service, the root of the trouble as far as it is known.
    Block {
        by: ServiceKey,
        why: Refusal,
        detail: String,
    },
    /// There is nothing more to wait for.
    Unblock,
    /// Restart this container: evidence first, then the intent on disk, then the act.
    Restart {
        container_id: String,
    },
    /// What its owner asked for is not done any more.
    Lapse {
        detail: String,
    },
    /// In shadow mode: write down that this container would have been restarted.
    WouldRestart {
        container_id: String,
        why: Refusal,
    },
    /// The owner has changed the mode.
    Follow {
        mode: Mode,
    },
    /// Docker has started the container anew since the intent: from now on it is judged.
    Verify {
        started_at: Option<jiff::Timestamp>,
        deadline: Now,
    },
    /// The service is well: it must stay so for a while.
    Stabilise,
    /// It was well and is not any more.
    Relapse,
    AttemptEnded {
        outcome: AttemptOutcome,
        detail: String,
    },
    GiveUp {
        /// Where that is not the budget.
        since: Option<String>,
    },
    /// The same, since a day allows for no more restarts: of which containers there were how many.
    GiveUpForTheDay {
        spent: BTreeMap<String, u32>,
    },
    Close {
        outcome: Outcome,
        detail: String,
    },
}

impl Decision {
    /// Whether there is nothing to do about the incident until something happens or time has passed.
    pub fn waits(&self) -> bool {
        matches!(self, Decision::Wait { .. } | Decision::Block { .. })
    }
}

/// What an incident begins with.
#[derive(Clone, Debug)]
pub struct Admission {
    /// The container that it is opened for: the first ill one.
    pub container: Arc<Container>,
    /// Ids of all ill ones.
    pub ill: Vec<String>,
    /// What is the matter, for people.
    pub problem: String,
    pub mode: Mode,
    pub follows: Option<Follows>,
    /// The first ill one ran on while Docker was down, and Docker ended it on its return.
    pub ended_by_docker: bool,
}

/// Whether an alert about a service is the beginning of an incident.
///
/// `follows` is what it was restarted for that the service needs, where it asks to be restarted with it.
pub fn admit(facts: &Facts, follows: Option<Follows>) -> Result<Admission, Refusal> {
    if !facts.docker_up {
        return Err(Refusal::DockerUnavailable);
    }
    if facts.own_stack {
        return Err(Refusal::OwnStack);
    }
    if facts.containers.is_empty() {
        return Err(Refusal::Gone);
    }
    if facts.mode.mode == Mode::Off {
        return Err(Refusal::OptedOut);
    }
    let service = Service::of(facts, None);
    let Some((first, problem)) = service.ill.first() else {
        let why_not = service.why_not();
        return match (follows, why_not) {
            (Some(follows), Refusal::AlreadyWell) => follow(facts, follows),
            _ => Err(why_not),
        };
    };
    Ok(Admission {
        container: Arc::clone(&first.container),
        ill: service.ill.iter().map(|(seen, _)| seen.container.id.clone()).collect(),
        problem: problem.clone(),
        mode: facts.mode.mode,
        follows: None,
        ended_by_docker: first.was_ended_by_docker(),
    })
}

/// All of it is well, and it asks to be restarted all the same.
fn follow(facts: &Facts, follows: Follows) -> Result<Admission, Refusal> {
    if facts.mode.mode != Mode::Heal {
        return Err(Refusal::ShadowMode);
    }
    let began_before = |seen: &&ContainerFacts| {
        seen.container.status == Status::Running
            && seen.container.started_at.is_some_and(|started_at| started_at < follows.restarted_at)
    };
    let before: Vec<&ContainerFacts> = facts.containers.iter().filter(began_before).collect();
    let Some(first) = before.first() else { return Err(Refusal::AlreadyWell) };
    Ok(Admission {
        container: Arc::clone(&first.container),
        ill: before.iter().map(|seen| seen.container.id.clone()).collect(),
        problem: format!("{} was restarted, and it asks to be restarted with it", follows.service),
        mode: facts.mode.mode,
        follows: Some(follows),
        ended_by_docker: false,
    })
}

/// What comes next for an open incident. To be asked again after each decision but [`Decision::Wait`].
pub fn decide(case: &Case, facts: &Facts, now: &Now) -> Decision {
    if !facts.docker_up {
        return Decision::Wait { why: Refusal::DockerUnavailable, until: None };
    }
    let healing = &facts.healing;
    let service = Service::of(facts, Some(case));
    if let Some(attempt) = case.open_attempt() {
        return if case.is_restarting() {
            restarting(attempt, facts, healing, now)
        } else {
            under_judgement(case, attempt, facts, &service, healing, now)
        };
    }
    if let Some(decision) = by_hand::next(case, facts, now) {
        return decision;
    }
    if facts.mode.mode == Mode::Off || facts.own_stack {
        // It was healed by hand meanwhile: that is how it ended.
        if service.is_well() && helped(case) {
            return close(Outcome::Recovered, "well since the restart");
        }
        return close(Outcome::SwitchedOff, "healing is switched off for it");
    }
    if !case.memory.containers.iter().any(|id| facts.container(id).is_some()) {
        return close(Outcome::Gone, "its container is gone or was recreated");
    }
    if case.incident.mode != facts.mode.mode {
        return Decision::Follow { mode: facts.mode.mode };
    }
    if !service.ill.is_empty() {
        if case.memory.well_since.is_some() {
            return Decision::Relapse;
        }
        return match facts.mode.mode {
            Mode::Heal => heal(case, facts, &service, healing, now),
            Mode::Shadow | Mode::Off => watch(case, facts, &service, healing, now),
        };
    }
    if service.is_well() {
        return well(case, healing, now);
    }
    match service.why_not() {
        Refusal::StoppedByHuman => stopped_by_human(facts, now),
        Refusal::Paused => close(Outcome::StoppedByHuman, "somebody paused it"),
        Refusal::NotExpectedToRun => {
            let runs = facts.containers.iter().any(|seen| seen.container.status == Status::Running);
            let detail = match runs {
                true => "it has a work to do that others wait for: no restart comes in between",
                false => "it has ended and is not expected to run any more",
            };
            close(Outcome::RecoveredByItself, detail)
        }
        _ if case.memory.well_since.is_some() && !service.only_gains() => Decision::Relapse,
        why => Decision::Wait { why, until: None },
    }
}

/// The intent is on disk. Whether it was carried out is told by the container's start time alone, so that the answer is
/// the same for a restart that came back, for one whose answer was lost, and for one that the healer did not live to see.
fn restarting(attempt: &Try, facts: &Facts, healing: &Healing, now: &Now) -> Decision {
    if facts.act_under_way {
        return Decision::Wait { why: Refusal::Verifying, until: None };
    }
    let Some(seen) = facts.container(&attempt.attempt.container_id) else {
        return ended(AttemptOutcome::Interrupted, "the container is gone");
    };
    if seen.container.started_at != attempt.attempt.started_at_before {
        return Decision::Verify {
            started_at: seen.container.started_at,
            deadline: now.after(verify::allowance(&seen.container, healing)),
        };
    }
    let granted = attempt.memory.stop_timeout.saturating_add(RESTART_MARGIN);
    let passed = now.since(&attempt.memory.intended);
    if passed < granted {
        return Decision::Wait { why: Refusal::Verifying, until: Some(now.after(granted - passed)) };
    }
    ended(AttemptOutcome::Interrupted, "nobody can say what came of the restart: the container has not started anew")
}

/// A restart that Docker has carried out is being judged.
fn under_judgement(
    case: &Case,
    attempt: &Try,
    facts: &Facts,
    service: &Service<'_>,
    healing: &Healing,
    now: &Now,
) -> Decision {
    match verify::judge(attempt, facts.container(&attempt.attempt.container_id), healing, now) {
        Verdict::Pending { until } => Decision::Wait { why: Refusal::Verifying, until },
        Verdict::DidNotHelp(why) => ended(AttemptOutcome::DidNotHelp, &why),
        Verdict::Stopped(why) => ended(AttemptOutcome::Interrupted, &why),
        Verdict::Gone => ended(AttemptOutcome::Interrupted, "the container is gone"),
        Verdict::Well => {
            let Some(well_since) = &case.memory.well_since else { return Decision::Stabilise };
            if !service.ill.is_empty() {
                // Another replica is ill: it need not wait until this one has proved itself.
                return ended(AttemptOutcome::Helped, "well again; another replica is not");
            }
            let left = healing.stable_for - now.since(well_since);
            if left > SignedDuration::ZERO {
                return Decision::Wait { why: Refusal::Verifying, until: Some(now.after(left)) };
            }
            ended(AttemptOutcome::Helped, "well for the whole stabilising window")
        }
    }
}

/// Something is ill, and may be healed.
fn heal(case: &Case, facts: &Facts, service: &Service<'_>, healing: &Healing, now: &Now) -> Decision {
    let gave_up = case.incident.state == IncidentState::GaveUp;
    if gave_up && case.memory.gave_up_since.is_some() {
        return Decision::Wait { why: Refusal::NetworkGone, until: None };
    }
    if gave_up && case.incident.acknowledged_at.is_some() {
        return Decision::Wait { why: Refusal::BudgetSpent, until: None };
    }
    // What was given up says so, whatever else would hold it back.
    if !gave_up && let Some(first) = comes_first(case, facts, service, healing, now) {
        return first;
    }
    let mut next: Option<(SignedDuration, &str)> = None;
    let mut day_spent = BTreeMap::new();
    for (seen, _) in &service.ill {
        let id = seen.container.id.as_str();
        if case.spent_on(id) >= healing.attempts {
            continue;
        }
        // What was given up stays so: as the day moves on it would be tried, and told, once more for each restart that falls out.
        if facts.day_is_spent(id) || case.memory.day_spent.contains_key(id) {
            day_spent.insert(id.to_owned(), facts.spent_today.get(id).copied().unwrap_or_default());
            continue;
        }
        let retry = case.counted_on(id).next_back().and_then(|attempt| attempt.memory.retry.as_ref());
        // What it failed on was something else, if it had to wait for another service since.
        let retry = retry.filter(|_| case.memory.unblocked.is_none());
        let left = retry.map_or(SignedDuration::ZERO, |retry| now.until_at_most(retry, healing.max_delay));
        if next.is_none_or(|(least, _)| left < least) {
            next = Some((left, id));
        }
    }
    let Some((left, id)) = next else {
        // What was to be restarted with another, and is well: there is nothing that a person would have to mend.
        let looks_well =
            |seen: &ContainerFacts| facts::looks_well(seen) && facts::runs_out(&seen.container, Some(case)).is_none();
        if service.ill.iter().all(|(seen, _)| looks_well(seen)) {
            return close(
                Outcome::RecoveredByItself,
                "it is well, and was restarted too often to be restarted once more",
            );
        }
        return match (gave_up, day_spent.is_empty()) {
            (true, true) => Decision::Wait { why: Refusal::BudgetSpent, until: None },
            (true, false) => Decision::Wait { why: Refusal::DayBudgetSpent, until: None },
            (false, true) => Decision::GiveUp { since: None },
            (false, false) => Decision::GiveUpForTheDay { spent: day_spent },
        };
    };
    // Another container than those that were given up, or a larger budget: it is tried as anything else is.
    if gave_up && let Some(first) = comes_first(case, facts, service, healing, now) {
        return first;
    }
    if left > SignedDuration::ZERO {
        return Decision::Wait { why: Refusal::CoolingDown, until: Some(now.after(left)) };
    }
    let underway = wait_for_the_stop(case, facts, id, healing, now);
    if let Some(wait) = underway.or_else(|| wait_for_the_start(case, facts, id, healing, now)) {
        return wait;
    }
    if let Some(until) = &facts.host.hold_until {
        return Decision::Wait { why: Refusal::HostHold, until: Some(until.clone()) };
    }
    if facts.host.restart_under_way {
        return Decision::Wait { why: Refusal::HostLimit, until: None };
    }
    if facts.host.recent_restarts >= healing.restarts_per_10_minutes {
        return Decision::Wait { why: Refusal::HostLimit, until: facts.host.room_at.clone() };
    }
    if facts.silenced {
        return Decision::Wait { why: Refusal::Silenced, until: Some(now.after(SILENCE_RETRY)) };
    }
    if !facts.journal_writable {
        return Decision::Wait { why: Refusal::JournalUnavailable, until: Some(now.after(JOURNAL_RETRY)) };
    }
    Decision::Restart { container_id: id.to_owned() }
}

/// Something is ill, and is only watched: the same schedule as healing, on paper.
fn watch(case: &Case, facts: &Facts, service: &Service<'_>, healing: &Healing, now: &Now) -> Decision {
    let why = facts.mode.protected.unwrap_or(Refusal::ShadowMode);
    // Healing would wait, so this does.
    if let Some(until) = &facts.maintenance_until {
        return Decision::Wait { why: Refusal::MaintenanceWindow, until: Some(until.clone()) };
    }
    // One after the other, as long as its budget lasts.
    let ids = service.ill.iter().map(|(seen, _)| &seen.container.id);
    let ids = ids.filter(|id| !shadow::is_spent(case, facts, id));
    let Some(id) = ids.min_by_key(|id| case.memory.would_be_spent_on(id)) else {
        return Decision::Wait { why, until: None };
    };
    if let Some(wait) = wait_for_others(case, facts, service, now) {
        return wait;
    }
    if let Some(until) = &facts.paused_until {
        return Decision::Wait { why: Refusal::HealingPaused, until: Some(until.clone()) };
    }
    // No restart would have helped.
    if facts.network_gone {
        return Decision::Wait { why: Refusal::NetworkGone, until: None };
    }
    // The longest that can have been set: see `would_be_delay`.
    let longest = healing.max_delay.saturating_add(SignedDuration::from_hours(1));
    let left = case.memory.would_be_due.as_ref().map_or(SignedDuration::ZERO, |due| now.until_at_most(due, longest));
    if left > SignedDuration::ZERO {
        return Decision::Wait { why, until: Some(now.after(left)) };
    }
    if let Some(until) = &facts.host.hold_until {
        return Decision::Wait { why: Refusal::HostHold, until: Some(until.clone()) };
    }
    wait_for_the_stop(case, facts, id, healing, now)
        .or_else(|| wait_for_the_start(case, facts, id, healing, now))
        .unwrap_or_else(|| Decision::WouldRestart { container_id: id.clone(), why })
}

/// Somebody stopped it, and what still stands still is meant to.
fn stopped_by_human(facts: &Facts, now: &Now) -> Decision {
    let ended = facts.containers.iter().filter_map(|seen| seen.container.finished_at).max();
    // An end in the future was told by a clock that has been set back since: it says nothing, and must hold up nothing.
    let lasted = ended.map(|ended| now.wall.duration_since(ended)).filter(|lasted| !lasted.is_negative());
    match lasted.filter(|lasted| *lasted < STOP_LASTS) {
        Some(lasted) => Decision::Wait { why: Refusal::StoppedByHuman, until: Some(now.after(STOP_LASTS - lasted)) },
        None => close(Outcome::StoppedByHuman, "somebody stopped it"),
    }
}

/// How long after a would-be restart the next one would follow: the time to find that it did not help, and the delay.
pub fn would_be_delay(container: &Container, healing: &Healing, would_be: u32) -> SignedDuration {
    verify::allowance(container, healing)
        .min(SignedDuration::from_hours(1))
        .saturating_add(backoff::undisturbed(healing, would_be))
}

/// All of it is well.
fn well(case: &Case, healing: &Healing, now: &Now) -> Decision {
    let Some(well_since) = &case.memory.well_since else { return Decision::Stabilise };
    let window = match case.incident.state {
        IncidentState::GaveUp => healing.well_after_giving_up,
        _ => healing.stable_for,
    };
    let left = window - now.since(well_since);
    if left > SignedDuration::ZERO {
        return Decision::Wait { why: Refusal::AlreadyWell, until: Some(now.after(left)) };
    }
    if helped(case) && case.incident.state != IncidentState::GaveUp {
        close(Outcome::Recovered, "well since the restart")
    } else {
        close(Outcome::RecoveredByItself, "it became well without a restart of ours")
    }
}

fn helped(case: &Case) -> bool {
    case.attempts.last().is_some_and(|last| last.attempt.outcome == Some(AttemptOutcome::Helped))
}

/// Why there is nothing to heal, of a service that is not ill.
pub fn why_not(facts: &Facts, case: Option<&Case>) -> Refusal {
    Service::of(facts, case).why_not()
}

fn ended(outcome: AttemptOutcome, detail: &str) -> Decision {
    Decision::AttemptEnded { outcome, detail: detail.to_owned() }
}

fn close(outcome: Outcome, detail: &str) -> Decision {
    Decision::Close { outcome, detail: detail.to_owned() }
}

/// The containers of a service by how they are doing.
struct Service<'a> {
    ill: Vec<(&'a ContainerFacts, String)>,
    well: usize,
    settling: usize,
    /// How many of those belong to the incident, if there is one.
    settling_again: usize,
    aside: Vec<Refusal>,
    /// One that is aside makes it unwell all the same.
    is_disturbed: bool,
}

impl<'a> Service<'a> {
    fn of(facts: &'a Facts, case: Option<&Case>) -> Self {
        let mut service = Service {
            ill: Vec::new(),
            well: 0,
            settling: 0,
            settling_again: 0,
            aside: Vec::new(),
            is_disturbed: false,
        };
        for seen in &facts.containers {
            let is_of_it = case.is_none_or(|case| case.memory.containers.contains(&seen.container.id));
            match condition(seen, case) {
                Condition::Ill(problem) => service.ill.push((seen, problem)),
                Condition::Well => service.well += 1,
                Condition::Settling => {
                    service.settling += 1;
                    service.settling_again += usize::from(is_of_it);
                }
                Condition::Aside(why) => {
                    // What an incident is not about, and nobody knows of who stopped it, must not keep it open for ever.
                    service.is_disturbed |= match why {
                        Refusal::DockerRestarting => true,
                        Refusal::StoppedByUnknown => is_of_it,
                        _ => false,
                    };
                    service.aside.push(why);
                }
            }
        }
        service
    }

    /// One replica that somebody stopped, or that was never started, does not make the others ill; one that Docker is restarting does.
    fn is_well(&self) -> bool {
        self.ill.is_empty() && self.settling == 0 && self.well > 0 && !self.is_disturbed
    }

    /// What is not well yet are replicas that came after the incident had begun: they are waited for, and it stays well.
    fn only_gains(&self) -> bool {
        self.ill.is_empty() && self.well > 0 && self.settling > 0 && self.settling_again == 0 && !self.is_disturbed
    }

    /// Why there is nothing to heal although it is not all well; the reason that is most worth knowing.
    fn why_not(&self) -> Refusal {
        const ORDER: [Refusal; 9] = [
            Refusal::DockerRestarting,
            Refusal::StoppedByUnknown,
            Refusal::StoppedForRoom,
            Refusal::Paused,
            Refusal::StoppedByHuman,
            Refusal::NotExpectedToRun,
            Refusal::NeverStarted,
            Refusal::OneOff,
            Refusal::Gone,
        ];
        if self.settling > 0 {
            return Refusal::Starting;
        }
        if self.is_well() {
            return Refusal::AlreadyWell;
        }
        ORDER.into_iter().find(|why| self.aside.contains(why)).unwrap_or(Refusal::Gone)
    }
}

#[cfg(test)]
mod scenarios;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
