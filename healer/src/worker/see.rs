//! What the worker sees ill by itself, before anybody tells it.

use std::sync::Arc;

use nexus_docker::Snapshot;
use nexus_model::ServiceKey;

use super::Worker;
use crate::sight::{self, MOST};

impl Worker {
    /// Looks at what Docker says now, and asks to be prompted for what is ill. Only by a snapshot that the decision will see as
    /// well: the prompt can't be back before the facts.
    pub(super) fn see(&mut self, snapshot: &Snapshot) {
        // While Docker does not answer, what was true stays so; the prompts wait, too.
        if self.parts.alertmanager.is_none() || !snapshot.up {
            return;
        }
        let found = {
            let switches = self.parts.switches.borrow();
            sight::look(snapshot, &self.stops, &switches, &self.policy(), &self.parts.stack)
        };
        let now = self.clock.now().wall;
        let (sights, left_out) = sight::follow(&self.sights, &found, |key| self.cases.contains_key(key), now);
        if (left_out > 0) != self.too_much_to_see {
            self.too_much_to_see = left_out > 0;
            if self.too_much_to_see {
                tracing::warn!("more than {MOST} containers are ill at once: the alert rules prompt for the rest");
            }
        }
        if sights == self.sights {
            return;
        }
        self.sights = sights;
        self.parts.metrics.seen_ill.set(self.sights.len() as i64);
        self.tell();
        self.show_sights();
    }

    /// A prompt about a service has come in: none needs to be waited for any more.
    pub(super) fn prompted(&mut self, key: &ServiceKey) {
        let mut changed = false;
        for sight in self.sights.iter_mut().filter(|sight| sight.key == *key) {
            changed |= !std::mem::replace(&mut sight.prompted, true);
        }
        if changed {
            self.show_sights();
        }
    }

    /// The incident of a service has ended: what is still ill of it needs a prompt of its own.
    pub(super) fn unprompted(&mut self, key: &ServiceKey) {
        let mut changed = false;
        for sight in self.sights.iter_mut().filter(|sight| sight.key == *key) {
            changed |= std::mem::take(&mut sight.prompted);
        }
        if changed {
            self.show_sights();
        }
    }

    fn show_sights(&self) {
        self.parts.sights.send_replace(Arc::new(self.sights.clone()));
    }
}
