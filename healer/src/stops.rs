//! Who stopped what, written down as long as the watcher knows it: after a gap in Docker's events nobody else does. Pure.

use nexus_docker::{Snapshot, Status, StopCause};

use crate::{
    facts::{Stopper, Stops},
    journal::Change,
};

/// What is not written down yet, and what may be forgotten.
pub fn news(snapshot: &Snapshot, known: &Stops) -> Vec<Change> {
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
        if container.status == Status::Running && noted == Some(Stopper::Requested) {
            changes.push(Change::ForgetStop { container_id: id.clone() });
        }
        if !matches!(container.status, Status::Exited | Status::Dead) {
            continue;
        }
        let stopper = match watched.stop {
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
