//! What is ill and no rule sees: found by a probe that was asked for another's sake, or created and never started.

use std::collections::BTreeSet;

use nexus_docker::{Snapshot, Status};
use nexus_model::ServiceKey;

use super::Worker;
use crate::{decide, probe::Probe};

/// What prompts a look at one whose probe fails, and that something else needs.
const PROBE_FAILED: &str = "ProbeFailed";
/// What prompts a look at one that was created and never started.
const NEVER_STARTED: &str = "NeverStarted";

impl Worker {
    /// Opens their incidents.
    pub(super) async fn look_for_unseen(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            return;
        }
        let probes = self.probes.facts(snapshot);
        let failed = |id: &String| matches!(probes.get(id), Some(Probe::Failed { .. }));
        let may_start = self.policy().remedies.start;
        let found: BTreeSet<(ServiceKey, &'static str)> = snapshot
            .containers
            .iter()
            .filter_map(|(id, watched)| {
                let alert = match watched.container.status {
                    Status::Running if failed(id) => PROBE_FAILED,
                    Status::Created if may_start => NEVER_STARTED,
                    _ => return None,
                };
                Some((watched.container.key()?, alert))
            })
            .collect();
        for (key, alert) in found {
            if self.cases.contains_key(&key) {
                continue;
            }
            let facts = self.facts(&key, snapshot);
            if let Ok(found) = decide::admit(&facts, None) {
                self.open_seen(&key, alert, found, &facts, snapshot).await;
            }
        }
    }
}
