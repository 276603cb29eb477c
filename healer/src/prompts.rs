//! What an alert that waits in the journal leads to: an incident, a line in one that is open, or a named refusal. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use nexus_docker::Snapshot;
use nexus_model::{Mode, Now, Refusal, ServiceKey};

use crate::{
    budget::Restarts,
    case::Case,
    decide::{self, Admission},
    dependencies,
    facts::Facts,
    journal::Prompt,
    shadow,
    transition::{self, Changed},
};

/// A repeated alert for an open incident is written down at most this often.
pub const ALERT_NOTED: SignedDuration = SignedDuration::from_mins(1);

/// What prompts a look at a service that asks to be restarted with another.
pub const DEPENDENCY_RESTARTED: &str = "DependencyRestarted";

/// What is known when it is taken up.
pub struct Known<'a> {
    pub host: &'a str,
    pub snapshot: &'a Snapshot,
    pub cases: &'a BTreeMap<ServiceKey, Case>,
    pub restarts: &'a Restarts,
    /// The same of those that would have been made.
    pub would_be: &'a shadow::Ledger,
}

#[derive(Debug)]
pub enum Taken {
    Opens(Changed),
    /// It belongs to an incident that is open.
    Notes(Changed),
    /// The same, and too soon after the last one to be written down.
    Nothing,
    Refused(Refusal),
}

/// `facts` are gathered where they are needed.
pub fn take(prompt: &Prompt, known: &Known<'_>, facts: impl FnOnce() -> Facts, now: &Now) -> Taken {
    let key = ServiceKey::new(&prompt.project, &prompt.service);
    let is_follower = prompt.alert == DEPENDENCY_RESTARTED;
    let follows = if is_follower { dependencies::to_follow(&key, known.snapshot, known.cases) } else { None };
    let Some(case) = known.cases.get(&key) else {
        let facts = facts();
        return match decide::admit(&facts, follows) {
            Ok(found) => Taken::Opens(open(known, &key, (&prompt.alert, prompt.received_at), found, &facts, now)),
            Err(why) => Taken::Refused(why),
        };
    };
    let since = prompt.received_at.duration_since(case.incident.last_alert_at);
    if let Some(follows) = follows.filter(|_| case.incident.mode == Mode::Heal) {
        Taken::Notes(transition::follows(case, follows, prompt.received_at))
    } else if since.abs() >= ALERT_NOTED {
        Taken::Notes(transition::alerted(case, prompt.received_at))
    } else {
        Taken::Nothing
    }
}

/// Opens an incident, with what was spent on the service's containers shortly before.
pub fn open(
    known: &Known<'_>,
    key: &ServiceKey,
    alert: (&str, Timestamp),
    found: Admission,
    facts: &Facts,
    now: &Now,
) -> Changed {
    let ids = || facts.containers.iter().map(|seen| seen.container.id.as_str());
    let mut changed = transition::open(known.host, key, alert, found, known.restarts.spent(ids(), now), now);
    if changed.case.incident.mode == Mode::Shadow {
        changed.case.memory.shadow.carried = known.would_be.spent(ids(), now);
    }
    changed
}
