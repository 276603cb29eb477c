//! The worker's eye on the host as a whole: whether healing is on hold.

use std::collections::{BTreeMap, BTreeSet};

use nexus_docker::Snapshot;
use nexus_model::Now;

use super::Worker;
use crate::{
    dependencies::World,
    evidence::chain,
    facts,
    hold::{self, Hold},
    journal::{Change, Memo, memo_body},
};

impl Worker {
    /// Looks whether many services have fallen ill together, and whether that has passed. What follows from it is durable
    /// before it is true, like everything else.
    pub(super) async fn watch_the_host(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            // What was true stays so.
            return;
        }
        let now = self.clock.now();
        let fresh = BTreeSet::new();
        let world = World {
            snapshot,
            stops: &self.stops,
            cases: &self.cases,
            probes: &BTreeMap::new(),
            fresh: &fresh,
            now: now.wall,
        };
        let policy = self.policy();
        let seen = {
            let switches = self.parts.switches.borrow();
            hold::look(&world, &self.illnesses, &self.parts.stack, |key, containers| {
                facts::mode_of(key, containers, &switches, &policy).mode
            })
        };
        self.illnesses.follow(&seen, &now);
        let before = self.host_hold.as_ref();
        let next = hold::next(before, &mut self.illnesses, &world, &self.parts.stack, &policy.healing, &now);
        if next == self.host_hold {
            return;
        }
        let body = match next.as_ref().map(memo_body).transpose() {
            Ok(body) => body,
            Err(error) => {
                tracing::error!(reason = %chain(&error), "a hold can't be noted");
                return;
            }
        };
        if !self.commit(vec![Change::Memo { memo: Memo::Hold, body }]).await {
            return;
        }
        let before = std::mem::replace(&mut self.host_hold, next);
        self.told_of_hold(before.as_ref(), &now);
        self.show();
    }

    fn told_of_hold(&self, before: Option<&Hold>, now: &Now) {
        let host = &self.parts.host;
        let holds = |hold: Option<&Hold>| hold.is_some_and(|hold| hold.over.is_none());
        match (holds(before), &self.host_hold) {
            (false, Some(hold)) if hold.over.is_none() => {
                let (count, roots) = (hold.services.len(), hold.roots);
                tracing::warn!(host, "{count} services fell ill together, {roots} for themselves: healing is on hold");
            }
            (true, Some(hold)) if hold.over.is_some() => {
                let (ill, count) = (hold::still_ill(hold, &self.illnesses), hold.services.len());
                let lasted = now.since(&hold.since).as_secs();
                tracing::info!(host, "healing goes on after {lasted} s: {ill} of {count} services are still ill");
            }
            _ => (),
        }
    }
}
