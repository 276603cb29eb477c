//! What was restarted lately: the budget of each container, and the brake of the whole host. Pure.
//!
//! A budget for each incident alone would be none for a service that falls ill again a while after each restart: every time
//! it would be another incident. So the restarts of the last hour are carried into a new one. And one that falls ill every
//! quarter of an hour would be restarted for ever: a day has a budget of its own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::SignedDuration;
use nexus_model::{Incident, Now, Outcome};

use crate::case::Memory;

/// How long a restart counts against the budget of its container.
pub const BUDGET_WINDOW: SignedDuration = SignedDuration::from_hours(1);
/// How long a restart counts against the day of its container.
pub const DAY: SignedDuration = SignedDuration::from_hours(24);
/// The largest budget of a day. More in it would be no budget: one in seven minutes, all day.
pub const MOST_A_DAY: u32 = 200;
/// Restarts that are remembered: more than ten times what the brake lets through in a day as it is shipped, some MiB at most.
pub const MOST_KEPT: usize = 20_000;
/// The window of the brake for the whole host.
pub const HOST_WINDOW: SignedDuration = SignedDuration::from_mins(10);

/// A restart that was intended, whatever came of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Restart {
    pub intended: Now,
    pub container_id: String,
    /// It does not count against the budget of an hour any more: see [`begins_anew`].
    pub forgiven: bool,
    /// Nor against that of the day: see [`is_by_owner`].
    pub forgiven_for_the_day: bool,
}

impl Restart {
    pub fn new(container_id: &str, intended: Now) -> Self {
        Self { intended, container_id: container_id.to_owned(), forgiven: false, forgiven_for_the_day: false }
    }

    /// It is forgiven if it was before the end of a closed incident after which its container begins anew.
    pub fn close(&mut self, incident: &Incident, memory: &Memory) {
        if memory.containers.contains(&self.container_id) {
            self.forgiven |= begins_anew(incident, memory);
            self.forgiven_for_the_day |= memory.forgiven || is_by_owner(incident);
        }
    }

    /// It counts for the brake alone.
    pub fn forgive(&mut self) {
        (self.forgiven, self.forgiven_for_the_day) = (true, true);
    }
}

/// The restarts of the last [`DAY`], oldest first.
#[derive(Clone, Debug, Default)]
pub struct Restarts(VecDeque<Restart>);

impl Restarts {
    pub fn new(oldest_first: Vec<Restart>) -> Self {
        Self(oldest_first.into())
    }

    pub fn note(&mut self, container_id: &str, now: &Now) {
        let is_over = |oldest: &Restart| now.since(&oldest.intended) >= DAY;
        while self.0.len() >= MOST_KEPT || self.0.front().is_some_and(is_over) {
            self.0.pop_front();
        }
        self.0.push_back(Restart::new(container_id, now.clone()));
    }

    /// Its containers begin anew after a closed incident, if it is one after which they do.
    pub fn close(&mut self, incident: &Incident, memory: &Memory) {
        for restart in &mut self.0 {
            restart.close(incident, memory);
        }
    }

    /// Their owner gives these containers a fresh budget.
    pub fn forgive(&mut self, containers: &BTreeSet<String>) {
        for restart in self.0.iter_mut().filter(|restart| containers.contains(&restart.container_id)) {
            restart.forgive();
        }
    }

    /// What each of the containers has spent; those that have spent nothing are left out.
    pub fn spent<'a>(&self, containers: impl Iterator<Item = &'a str>, now: &Now) -> BTreeMap<String, u32> {
        self.count(containers, |restart| !restart.forgiven && now.since(&restart.intended) < BUDGET_WINDOW)
    }

    /// The same for the last 24 hours.
    pub fn spent_today<'a>(&self, containers: impl Iterator<Item = &'a str>, now: &Now) -> BTreeMap<String, u32> {
        self.count(containers, |restart| !restart.forgiven_for_the_day && now.since(&restart.intended) < DAY)
    }

    /// The same of every container that was restarted in them.
    pub fn all_today(&self, now: &Now) -> BTreeMap<&str, u32> {
        let mut spent = BTreeMap::new();
        let counts = |restart: &&Restart| !restart.forgiven_for_the_day && now.since(&restart.intended) < DAY;
        for restart in self.0.iter().filter(counts) {
            *spent.entry(restart.container_id.as_str()).or_default() += 1;
        }
        spent
    }

    fn count<'a>(
        &self,
        containers: impl Iterator<Item = &'a str>,
        counts: impl Fn(&Restart) -> bool,
    ) -> BTreeMap<String, u32> {
        let spent_on =
            |id: &str| self.0.iter().filter(|restart| restart.container_id == id && counts(restart)).count() as u32;
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
    memory.gave_up_at.is_some() || memory.forgiven || is_by_owner(incident)
}

/// Whether an incident ended by the owner's hand. Only then does the day of its containers begin anew: what is well for ten
/// minutes after each time that the healer gave up would be restarted all day long otherwise.
pub fn is_by_owner(incident: &Incident) -> bool {
    matches!(incident.outcome, Some(Outcome::StoppedByHuman | Outcome::SwitchedOff))
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
        let today = |restarts: &Restarts, seconds: i64| restarts.spent_today(["c1"].into_iter(), &at(seconds));
        assert_eq!(today(&restarts, 86_399), [("c1".to_owned(), 2)].into());
        assert_eq!(today(&restarts, 86_400), [("c1".to_owned(), 1)].into());
        assert_eq!(restarts.all_today(&at(86_400)), [("c1", 1), ("c2", 1)].into());
        restarts.note("c1", &at(86_460));
        assert_eq!(restarts.0.len(), 2, "what is older than a day is forgotten");
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut restarts = Restarts::default();
        for seconds in 0..MOST_KEPT as i64 + 5 {
            restarts.note(if seconds < 5 { "c1" } else { "c2" }, &at(seconds));
        }
        assert_eq!(restarts.0.len(), MOST_KEPT);
        let ids = ["c1", "c2"].into_iter();
        let spent = restarts.spent_today(ids, &at(MOST_KEPT as i64));
        assert_eq!(spent, [("c2".to_owned(), MOST_KEPT as u32)].into(), "the oldest go first");
    }

    #[test]
    fn what_is_forgiven_still_counts_on_the_host() {
        let mut restarts = Restarts::default();
        restarts.note("c1", &at(0));
        restarts.note("c2", &at(1));
        let mut closed = case();
        closed.incident.outcome = Some(Outcome::RecoveredByItself);
        restarts.close(&closed.incident, &closed.memory);
        assert_eq!(spent(&restarts, 2), [("c1".into(), 1), ("c2".into(), 1)], "it was not given up");
        closed.memory.gave_up_at = Some(at(1).wall);
        restarts.close(&closed.incident, &closed.memory);
        assert_eq!(spent(&restarts, 2), [("c2".into(), 1)]);
        let today = |restarts: &Restarts| restarts.spent_today(["c1", "c2"].into_iter(), &at(2));
        assert_eq!(today(&restarts).len(), 2, "for the day only the owner's hand counts");
        closed.incident.outcome = Some(Outcome::SwitchedOff);
        restarts.close(&closed.incident, &closed.memory);
        assert_eq!(today(&restarts), [("c2".to_owned(), 1)].into());
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
