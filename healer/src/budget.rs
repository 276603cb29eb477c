//! What was restarted lately: the budget of each container, and the brake of the whole host. Pure.
//!
//! A budget for each incident alone would be none for a service that falls ill again a while after each restart: every time
//! it would be another incident. So the restarts of the last hour are carried into a new one.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::SignedDuration;
use nexus_model::{Incident, Now, Outcome};

use crate::case::Memory;

/// How long a restart counts against the budget of its container.
pub const BUDGET_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// The window of the brake for the whole host.
pub const HOST_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// A restart that was intended, whatever came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    pub intended: Now,
    pub container_id: String,
    /// It counts for the brake alone: see [`begins_anew`].
    pub forgiven: bool,
}

/// The restarts of the last [`BUDGET_WINDOW`], oldest first.
#[derive(Clone, Debug, Default)]
pub struct Restarts(VecDeque<Restart>);

impl Restarts {
    pub fn new(oldest_first: Vec<Restart>) -> Self {
        Self(oldest_first.into())
    }

    pub fn note(&mut self, container_id: &str, now: &Now) {
        while self.0.front().is_some_and(|oldest| now.since(&oldest.intended) >= BUDGET_WINDOW) {
            self.0.pop_front();
        }
        self.0.push_back(Restart { intended: now.clone(), container_id: container_id.to_owned(), forgiven: false });
    }

    pub fn forgive(&mut self, containers: &BTreeSet<String>) {
        for restart in &mut self.0 {
            restart.forgiven |= containers.contains(&restart.container_id);
        }
    }

    /// What each of the containers has spent; those that have spent nothing are left out.
    pub fn spent<'a>(&self, containers: impl Iterator<Item = &'a str>, now: &Now) -> BTreeMap<String, u32> {
        let spent_on = |id: &str| {
            let counts = |restart: &&Restart| {
                restart.container_id == id && !restart.forgiven && now.since(&restart.intended) < BUDGET_WINDOW
            };
            self.0.iter().filter(counts).count() as u32
        };
        containers.map(|id| (id.to_owned(), spent_on(id))).filter(|(_, spent)| *spent > 0).collect()
    }

    /// Restarts on the whole host within the window of the brake, and when the oldest of them falls out.
    pub fn on_host(&self, now: &Now) -> (u32, Option<Now>) {
        let recent = || self.0.iter().map(|restart| &restart.intended).filter(|then| now.since(then) < HOST_WINDOW);
        (recent().count() as u32, recent().next().map(|oldest| now.after(HOST_WINDOW - now.since(oldest))))
    }
}

/// Whether its containers begin anew after a closed incident: the owner has had a hand in it, or the healer had given up and
/// they were well long enough to be forgiven.
pub fn begins_anew(incident: &Incident, memory: &Memory) -> bool {
    memory.gave_up_at.is_some()
        || memory.forgiven
        || matches!(incident.outcome, Some(Outcome::StoppedByHuman | Outcome::SwitchedOff))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, case};

    fn spent(restarts: &Restarts, seconds: i64) -> Vec<(String, u32)> {
        restarts.spent(["c1", "c2"].into_iter(), &at(seconds)).into_iter().collect()
    }

    #[test]
    fn a_restart_counts_for_an_hour_and_for_ten_minutes_on_the_host() {
        let mut restarts = Restarts::default();
        assert_eq!(restarts.on_host(&at(0)), (0, None));
        restarts.note("c1", &at(0));
        restarts.note("c1", &at(60));
        restarts.note("c2", &at(120));
        assert_eq!(spent(&restarts, 200), [("c1".into(), 2), ("c2".into(), 1)]);
        assert_eq!(restarts.on_host(&at(599)), (3, Some(at(600))));
        assert_eq!(restarts.on_host(&at(600)), (2, Some(at(660))));
        assert_eq!(spent(&restarts, 3_600), [("c1".into(), 1), ("c2".into(), 1)]);
        assert_eq!(spent(&restarts, 3_720), []);
        restarts.note("c1", &at(3_660));
        assert_eq!(restarts.0.len(), 2, "what is older than an hour is forgotten");
    }

    #[test]
    fn what_is_forgiven_still_counts_on_the_host() {
        let mut restarts = Restarts::default();
        restarts.note("c1", &at(0));
        restarts.note("c2", &at(1));
        restarts.forgive(&["c1".to_owned()].into());
        assert_eq!(spent(&restarts, 2), [("c2".into(), 1)]);
        assert_eq!(restarts.on_host(&at(2)).0, 2);
        restarts.note("c1", &at(3));
        assert_eq!(spent(&restarts, 4), [("c1".into(), 1), ("c2".into(), 1)]);
    }

    #[test]
    fn the_owners_hand_and_being_well_after_giving_up_forgive() {
        let closed = |outcome, gave_up| {
            let mut case = case();
            case.incident.outcome = Some(outcome);
            case.memory.gave_up_at = gave_up;
            begins_anew(&case.incident, &case.memory)
        };
        assert!(!closed(Outcome::Recovered, None));
        assert!(!closed(Outcome::RecoveredByItself, None));
        assert!(closed(Outcome::StoppedByHuman, None));
        assert!(closed(Outcome::SwitchedOff, None));
        assert!(closed(Outcome::RecoveredByItself, Some(at(0).wall)));
    }
}
