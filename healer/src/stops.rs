//! Who stopped what, written down as long as the watcher knows it: after a gap in Docker's events nobody else does. Pure.

use jiff::Timestamp;
use nexus_docker::{SIGNAL_WORKS_WITHIN, Snapshot, Status, StopCause};

use crate::{
    facts::{Stopper, Stops, stop_of},
    journal::Change,
};

/// What is not written down yet, and what may be forgotten.
pub fn news(snapshot: &Snapshot, known: &Stops, now: Timestamp) -> Vec<Change> {
    let mut changes = Vec::new();
    for (id, watched) in &snapshot.containers {
        let container = &watched.container;
        if container.key().is_none() {
            continue;
        }
        let noted = known.get(id).filter(|(run, _)| *run == container.started_at).map(|(_, stopper)| *stopper);
        // What somebody paused stays so, also when an engine that was killed ends it on its return.
        if container.status == Status::Paused && noted.is_none() {
            let stopper = Stopper::Requested;
            changes.push(Change::Stop { container_id: id.clone(), started_at: container.started_at, stopper });
        }
        if container.status == Status::Running {
            // A stop that is under way: an engine that is killed over it does not remember who asked. What has survived the signal
            // for so long goes on.
            let is_asked_to_stop = matches!(watched.stop, StopCause::Requested { at }
                if now.duration_since(at).abs() <= SIGNAL_WORKS_WITHIN);
            match (is_asked_to_stop, noted) {
                (true, Some(Stopper::Requested)) => (),
                (true, _) => changes.push(Change::Stop {
                    container_id: id.clone(),
                    started_at: container.started_at,
                    stopper: Stopper::Requested,
                }),
                (false, Some(Stopper::Requested)) => changes.push(Change::ForgetStop { container_id: id.clone() }),
                (false, _) => (),
            }
        }
        if !matches!(container.status, Status::Exited | Status::Dead) {
            continue;
        }
        let stopper = match watched.stop {
            // Its end alone was told, without the signal that it came from.
            StopCause::Itself if noted == Some(Stopper::Requested) => continue,
            StopCause::Itself => Stopper::Itself,
            StopCause::Requested { .. } => Stopper::Requested,
            // What is known of the run already was said by its events.
            StopCause::Engine if known.get(id).is_some_and(|(run, _)| *run == container.started_at) => continue,
            StopCause::Engine => Stopper::Engine,
            StopCause::Unknown => continue,
        };
        if known.get(id) != Some(&(container.started_at, stopper)) {
            changes.push(Change::Stop { container_id: id.clone(), started_at: container.started_at, stopper });
        }
    }
    let gone = known.keys().filter(|id| !snapshot.containers.contains_key(*id));
    changes.extend(gone.map(|id| Change::ForgetStop { container_id: id.clone() }));
    changes
}

/// Names of the containers that are expected to run, and have stopped while nobody watched.
pub fn of_unknown(snapshot: &Snapshot, known: &Stops) -> Vec<String> {
    let all = snapshot.containers.values().filter(|watched| {
        let container = &watched.container;
        container.key().is_some()
            && !container.is_one_off()
            && container.expected_to_run()
            && matches!(container.status, Status::Exited | Status::Dead)
            && stop_of(watched, known) == StopCause::Unknown
    });
    all.map(|watched| watched.container.name.clone()).collect()
}

/// What was written down is true.
pub fn note(known: &mut Stops, changes: Vec<Change>) {
    for change in changes {
        match change {
            Change::Stop { container_id, started_at, stopper } => {
                known.insert(container_id, (started_at, stopper));
            }
            Change::ForgetStop { container_id } => _ = known.remove(&container_id),
            _ => (),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use jiff::SignedDuration;
    use nexus_docker::{Container, RestartPolicy, Watched};

    use super::*;
    use crate::testing::{at, container, exited};

    fn snapshot(container: Container, stop: StopCause) -> Snapshot {
        let id = container.id.clone();
        let watched = Watched { container: container.into(), stop, has_been_healthy: true, oom_events: 0 };
        Snapshot { up: true, containers: BTreeMap::from([(id, watched)]), ..Snapshot::default() }
    }

    /// Looks, and notes what is new.
    fn look(known: &mut Stops, container: Container, stop: StopCause, second: i64) -> StopCause {
        let snapshot = snapshot(container, stop);
        let now = at(second).wall;
        let changes = news(&snapshot, known, now);
        note(known, changes);
        let again = news(&snapshot, known, now);
        assert!(again.is_empty(), "what is noted is no news: {again:?}");
        snapshot.containers.values().map(|watched| stop_of(watched, known)).next().unwrap()
    }

    #[test]
    fn a_stop_that_is_under_way_is_remembered_whatever_becomes_of_the_engine() {
        let stopped = || Container { started_at: container().started_at, ..exited(143) };
        let asked = StopCause::Requested { at: at(0).wall };
        // The engine is killed over it, and so is the healer: both know nothing of it afterwards.
        for after in [StopCause::Engine, StopCause::Unknown, StopCause::Itself] {
            let mut known = Stops::new();
            look(&mut known, container(), asked, 1);
            let found = look(&mut known, stopped(), after, 5);
            assert!(matches!(found, StopCause::Requested { .. }), "{after:?}: {found:?}");
        }
        // Nobody had asked.
        for after in [StopCause::Engine, StopCause::Itself] {
            let mut known = Stops::new();
            look(&mut known, container(), StopCause::Unknown, 1);
            assert_eq!(look(&mut known, stopped(), after, 5), after);
        }
    }

    #[test]
    fn those_that_nobody_knows_of_are_named() {
        let check = |container: Container, stop: StopCause, known: &Stops, named: bool| {
            let name = container.name.clone();
            let expected = if named { vec![name] } else { Vec::new() };
            assert_eq!(of_unknown(&snapshot(container, stop), known), expected, "{stop:?}");
        };
        let none = Stops::new();
        check(exited(1), StopCause::Unknown, &none, true);
        check(exited(1), StopCause::Itself, &none, false);
        check(exited(1), StopCause::Requested { at: at(0).wall }, &none, false);
        check(container(), StopCause::Unknown, &none, false);
        check(Container { restart_policy: RestartPolicy::No, ..exited(1) }, StopCause::Unknown, &none, false);
        let stopped = exited(1);
        let known = Stops::from([(stopped.id.clone(), (stopped.started_at, Stopper::Requested))]);
        check(stopped, StopCause::Unknown, &known, false);
    }

    #[test]
    fn what_has_survived_the_signal_or_was_started_since_is_free_again() {
        let asked = StopCause::Requested { at: at(0).wall };
        let mut known = Stops::new();
        look(&mut known, container(), asked, 1);
        let later = SIGNAL_WORKS_WITHIN.as_secs() + 1;
        look(&mut known, container(), asked, later);
        assert!(known.is_empty());
        let stopped = Container { started_at: container().started_at, ..exited(1) };
        assert_eq!(look(&mut known, stopped, StopCause::Itself, later + 60), StopCause::Itself);

        let mut known = Stops::new();
        look(&mut known, container(), asked, 1);
        let started_at = container().started_at.map(|at| at + SignedDuration::from_secs(60));
        let again = || Container { started_at, ..container() };
        look(&mut known, again(), StopCause::Unknown, 61);
        let stopped = Container { started_at, ..exited(1) };
        assert_eq!(look(&mut known, stopped, StopCause::Itself, 70), StopCause::Itself);
    }
}
