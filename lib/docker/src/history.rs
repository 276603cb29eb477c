//! What an engine remembers of the time before a connection, and which runs it has ended itself when it came back.
//!
//! An engine that was killed finds its containers running when it is back. Unless it runs with live-restore, it stops them
//! before it answers anybody, tells of that as of any other stop (kill, die, stop), and for those that are to run `unless-stopped`
//! it believes from then on that somebody asked for it (seen with Docker 20.10). The proof that nobody did:
//!
//! - It keeps its events in memory, so those of before are gone with it, and a run that an earlier engine has started has no
//!   start among them.
//! - They are all there as long as they are fewer than it keeps.
//! - So a container whose first event is a signal, and that was not started since, was ended on the engine's return: whoever else
//!   asks for a stop asks for that of a run which this engine has started.

use std::collections::BTreeMap;

use crate::client::Event;
use crate::track::Action;

/// How many events an engine keeps, of all kinds (`eventsLimit` in moby's daemon/events).
const KEPT: usize = 256;

/// What an engine remembers.
#[derive(Debug, Default)]
pub(crate) struct History {
    /// Of containers, oldest first.
    pub containers: Vec<Event>,
    /// Of anything.
    pub events: usize,
    /// It has read its settings anew: it may have had live-restore when it came back, and not have it any more.
    pub is_reconfigured: bool,
}

/// Who ended a run that an engine has not started itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EndedBy {
    /// The engine, on its return.
    Engine,
    /// It, or somebody who asked: what would tell is forgotten.
    Unclear,
}

impl History {
    /// The containers whose last run was not started by this engine, as far as it remembers, and was ended by a signal of it.
    ///
    /// `last_seen` is the time of the last event that was taken from an engine before: one that remembers it is still the same,
    /// and its word on what happened meanwhile is good. `stop_signal` is the one that a container names as its own: other signals
    /// ask a process for something else, as SIGHUP to read its settings again, and end nothing.
    pub fn ended<'c>(
        &self,
        last_seen: Option<i64>,
        stop_signal: impl Fn(&str) -> Option<&'c str>,
    ) -> BTreeMap<&str, EndedBy> {
        let is_whole = self.events < KEPT;
        let is_same = last_seen.is_some_and(|at| self.containers.iter().any(|event| event.at_nanos == at));
        if self.is_reconfigured || is_same && !is_whole {
            return BTreeMap::new();
        }
        let by = if is_whole { EndedBy::Engine } else { EndedBy::Unclear };
        // Without a word of before there was no connection that can have been lost.
        if by == EndedBy::Unclear && last_seen.is_none() {
            return BTreeMap::new();
        }
        let mut ended = BTreeMap::new();
        for event in &self.containers {
            match Action::parse(&event.action, event.signal.as_deref(), stop_signal(&event.id)) {
                Action::Kill { ends: true } => _ = ended.entry(event.id.as_str()).or_insert(Some(by)),
                Action::Start => _ = ended.insert(event.id.as_str(), None),
                Action::Die | Action::Stop => _ = ended.entry(event.id.as_str()).or_insert(None),
                Action::Kill { ends: false } | Action::Oom | Action::Destroy | Action::Other => (),
            }
        }
        ended.into_iter().filter_map(|(id, by)| Some((id, by?))).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn history(told: &[&str], others: usize) -> History {
        let event = |(at, word): (usize, &&str)| {
            let (id, action) = word.split_once(' ').unwrap_or((word, ""));
            Event { id: id.into(), action: action.into(), signal: None, stack: None, at_nanos: at as i64 + 100 }
        };
        History {
            containers: told.iter().enumerate().map(event).collect(),
            events: told.len() + others,
            is_reconfigured: false,
        }
    }

    #[test]
    fn a_run_that_it_has_not_started_and_ends_with_a_signal_was_ended_by_the_engine() {
        let check = |told: &[&str], expected: &[&str]| {
            let history = history(told, 0);
            let ended = history.ended(None, |_| None);
            assert!(ended.values().all(|by| *by == EndedBy::Engine));
            assert_eq!(ended.into_keys().collect::<Vec<_>>(), expected, "{told:?}");
        };
        check(&[], &[]);
        check(&["a kill", "a die", "a stop"], &["a"]);
        check(&["a kill", "b kill", "b die", "a kill", "a die", "a stop", "b stop"], &["a", "b"]);
        // It brings back those that are always to run.
        check(&["a kill", "a die", "a stop", "a start"], &[]);
        // And a person stops one of them.
        check(&["a kill", "a die", "a stop", "a start", "a kill", "a die", "a stop"], &[]);
        check(&["a start", "a kill", "a die", "a stop"], &[]);
        // Created and never started; ended by itself while the engine was away.
        check(&["a create", "a die"], &[]);
        check(&["a die", "a stop"], &[]);
        check(&["a oom", "a die"], &[]);
        check(&["a rename", "a kill"], &["a"]);
    }

    #[test]
    fn what_was_forgotten_proves_nothing() {
        let stop = ["a kill", "a die", "a stop"];
        let check = |others: usize, last_seen: Option<i64>, expected: Option<EndedBy>| {
            assert_eq!(
                history(&stop, others).ended(last_seen, |_| None).remove("a"),
                expected,
                "{others} {last_seen:?}"
            );
        };
        check(KEPT - 4, None, Some(EndedBy::Engine));
        check(KEPT - 4, Some(7), Some(EndedBy::Engine));
        check(KEPT - 3, None, None);
        // It remembers what was seen last, so it is the same: somebody asked for the stop.
        check(KEPT - 3, Some(100), None);
        check(KEPT - 3, Some(7), Some(EndedBy::Unclear));
        let reconfigured = History { is_reconfigured: true, ..history(&stop, 1) };
        assert!(reconfigured.ended(Some(7), |_| None).is_empty());
    }

    #[test]
    fn a_signal_that_ends_nothing_is_no_end() {
        let check = |signal: &str, own: Option<&str>, expected: Option<EndedBy>| {
            let mut told = history(&["a kill", "b start"], KEPT);
            told.containers[0].signal = Some(signal.to_owned());
            assert_eq!(told.ended(Some(7), |_| own).remove("a"), expected, "{signal} {own:?}");
        };
        check("1", None, None);
        check("10", Some("SIGQUIT"), None);
        check("1", Some("SIGHUP"), Some(EndedBy::Unclear));
        check("15", None, Some(EndedBy::Unclear));
        check("9", Some("SIGHUP"), Some(EndedBy::Unclear));
    }
}
