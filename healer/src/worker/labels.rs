//! Labels on containers that can't be understood: told once each, and counted while they are there.

use std::collections::BTreeSet;

use nexus_docker::Snapshot;
use nexus_policy::labels::{self, WrongLabel};

use super::Worker;

/// The name of a container and what is wrong with a label of it.
pub(super) type WrongLabels = BTreeSet<(String, WrongLabel)>;

impl Worker {
    pub(super) fn look_at_labels(&mut self, snapshot: &Snapshot) {
        // What was known last stays so.
        if !snapshot.up {
            return;
        }
        let found = wrong_labels(snapshot);
        for (container, wrong) in found.difference(&self.wrong_labels) {
            tracing::warn!(
                host = self.parts.host,
                reason = wrong.message,
                "the label {} of the container {} is left out",
                wrong.name.escape_debug(),
                container.escape_debug()
            );
        }
        if found.len() != self.wrong_labels.len() {
            self.parts.metrics.wrong_labels.set(found.len() as i64);
        }
        self.wrong_labels = found;
    }
}

/// Of services only: nothing else is looked after.
fn wrong_labels(snapshot: &Snapshot) -> WrongLabels {
    let containers = snapshot.containers.values().map(|watched| &*watched.container);
    let of_services = containers.filter(|container| container.key().is_some());
    let wrong = |container: &nexus_docker::Container| {
        let name = container.name.clone();
        labels::read(&container.labels).wrong.into_iter().map(move |wrong| (name.clone(), wrong)).collect::<Vec<_>>()
    };
    of_services.flat_map(wrong).collect()
}
