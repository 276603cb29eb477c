//! When the kernel last killed something in a container for want of memory: pure.
//!
//! The kernel only counts kills, for as long as a container runs. One of a week ago says nothing of an illness of today, so it
//! is remembered when Docker told of the last. What was before the healer began to watch is at least as old as that.

use std::collections::BTreeMap;

use jiff::SignedDuration;
use nexus_docker::Snapshot;
use nexus_model::Now;

/// What was told so far.
#[derive(Clone, Debug, Default)]
pub struct Ooms {
    watched_since: Option<Now>,
    /// By container id: how many kills, and when the last of them was.
    seen: BTreeMap<String, (u64, Now)>,
}

impl Ooms {
    pub fn note(&mut self, snapshot: &Snapshot, now: &Now) {
        if !snapshot.up {
            return;
        }
        self.watched_since.get_or_insert_with(|| now.clone());
        self.seen.retain(|id, _| snapshot.containers.contains_key(id));
        for (id, watched) in snapshot.containers.iter().filter(|(_, watched)| watched.oom_events > 0) {
            match self.seen.get_mut(id) {
                Some(seen) if seen.0 == watched.oom_events => (),
                Some(seen) => *seen = (watched.oom_events, now.clone()),
                None => _ = self.seen.insert(id.clone(), (watched.oom_events, now.clone())),
            }
        }
    }

    /// How long ago the last kill in a container was, at least. `None`: not known at all.
    pub fn last(&self, container_id: &str, now: &Now) -> Option<SignedDuration> {
        let last = self.seen.get(container_id).map(|(_, last)| last).or(self.watched_since.as_ref())?;
        Some(now.since(last))
    }
}

#[cfg(test)]
mod tests {
    use nexus_docker::{StopCause, Watched};

    use super::*;
    use crate::testing::{at, container};

    #[test]
    fn a_kill_is_as_old_as_what_was_told_of_it_and_no_younger_than_the_watch() {
        let seen = |oom_events: u64| {
            let watched =
                Watched { container: container().into(), stop: StopCause::Unknown, has_been_healthy: true, oom_events };
            Snapshot { up: true, containers: [("c1".to_owned(), watched)].into(), ..Snapshot::default() }
        };
        let mut ooms = Ooms::default();
        let last = |ooms: &Ooms, seconds: i64| ooms.last("c1", &at(seconds)).map(|ago| ago.as_secs());
        ooms.note(&Snapshot::default(), &at(0));
        assert_eq!(last(&ooms, 0), None, "docker has not answered yet");
        ooms.note(&seen(0), &at(5));
        assert_eq!(last(&ooms, 65), Some(60), "before the watch, if at all");
        ooms.note(&seen(1), &at(100));
        ooms.note(&seen(1), &at(200));
        assert_eq!(last(&ooms, 200), Some(100));
        ooms.note(&seen(2), &at(300));
        assert_eq!(last(&ooms, 310), Some(10));
        ooms.note(&Snapshot { up: true, ..Snapshot::default() }, &at(400));
        assert!(ooms.seen.is_empty(), "a container that is gone is forgotten");
    }
}
