//! What the worker is asked through the API: what it would do, and what its owner wants done.

use nexus_docker::Snapshot;
use nexus_model::{
    Incident, ServiceKey,
    control::{Acknowledge, Budget, HealNowAccepted, Obstacle, Plan},
};
use uuid::Uuid;

use super::Worker;
use crate::{
    acknowledge,
    asks::{Ask, No, Seen},
    by_hand,
    dependencies::Needed,
    plan, transition,
};

impl Worker {
    /// Answers one question. Whoever asked may have gone: what was done stands nevertheless.
    pub(super) async fn answer(&mut self, ask: Ask) {
        let snapshot = self.parts.watcher.snapshot();
        match ask {
            Ask::Service { key, answer } => _ = answer.send(self.seen(&key, &snapshot)),
            Ask::Plans { keys, answer } => {
                let plans = keys.iter().map(|key| self.plan(key, &snapshot)).collect();
                _ = answer.send(plans);
            }
            Ask::HealNow { key, force, answer } => _ = answer.send(self.heal_now(&key, force, &snapshot).await),
            Ask::Acknowledge { id, wanted, answer } => _ = answer.send(self.acknowledge(id, &wanted).await),
        }
    }

    fn plan(&self, key: &ServiceKey, snapshot: &Snapshot) -> Plan {
        let facts = self.facts(key, snapshot);
        let now = self.clock.now();
        let carried = self.restarts.spent(facts.containers.iter().map(|seen| seen.container.id.as_str()), &now);
        plan::plan(key, self.cases.get(key), &facts, carried, &now)
    }

    fn seen(&self, key: &ServiceKey, snapshot: &Snapshot) -> Seen {
        let facts = self.facts(key, snapshot);
        let case = self.cases.get(key);
        let now = self.clock.now();
        let ids = facts.containers.iter().map(|seen| seen.container.id.as_str());
        let before = self.restarts.spent(ids, &now);
        let budget = |seen: &crate::facts::ContainerFacts| {
            let id = &seen.container.id;
            let spent = match case {
                Some(case) => case.spent_on(id),
                None => before.get(id).copied().unwrap_or_default(),
            };
            Budget { container: seen.container.name.clone(), spent, of: facts.healing.attempts }
        };
        let obstacle = |needed: &Needed| Obstacle {
            project: needed.key.project.clone(),
            service: needed.key.service.clone(),
            problem: needed.problem.clone(),
            reason: needed.why,
        };
        Seen {
            incident: case.map(|case| case.incident.clone()),
            waits_for: facts.needed.iter().map(obstacle).collect(),
            budgets: facts.containers.iter().map(budget).collect(),
            plan: self.plan(key, snapshot),
        }
    }

    /// Writes down that its owner asks for an attempt; it is made like any other, by the next turn of the loop.
    async fn heal_now(&mut self, key: &ServiceKey, force: bool, snapshot: &Snapshot) -> Result<HealNowAccepted, No> {
        let facts = self.facts(key, snapshot);
        let found = by_hand::grant(&facts, self.cases.get(key), force).map_err(No::Denied)?;
        if !facts.journal_writable {
            return Err(No::Journal);
        }
        let now = self.clock.now();
        let (ids, name_of) = (found.ill.clone(), |id: &String| {
            facts.container(id).map_or_else(|| id.clone(), |seen| seen.container.name.clone())
        });
        let changed = match self.cases.get(key) {
            Some(case) => transition::heal_now(case, &ids, force, &now),
            None => {
                let spent = self.restarts.spent(facts.containers.iter().map(|seen| seen.container.id.as_str()), &now);
                let alert = (by_hand::ALERT, now.wall);
                let opened = transition::open(&self.parts.host, key, alert, found, spent, &now);
                let asked = transition::heal_now(&opened.case, &ids, force, &now);
                transition::Changed { events: [opened.events, asked.events].concat(), ..asked }
            }
        };
        let accepted = HealNowAccepted {
            incident: changed.case.incident.id,
            containers: ids.iter().map(name_of).collect(),
            attempts_before: changed.case.incident.attempts,
        };
        if !self.make(key, changed, Vec::new()).await {
            return Err(No::Journal);
        }
        // What it waited for was for the healer's own decisions.
        self.hold.remove(key);
        tracing::info!(
            host = self.parts.host, project = key.project, service = key.service, incident = %accepted.incident,
            "its owner asks for an attempt"
        );
        Ok(accepted)
    }

    async fn acknowledge(&mut self, id: Uuid, wanted: &Acknowledge) -> Result<Incident, No> {
        let Some((key, case)) = self.cases.iter().find(|(_, case)| case.incident.id == id) else {
            return Err(No::NotOpen);
        };
        let key = key.clone();
        let changed = acknowledge::acknowledge(case, wanted, &self.clock.now()).map_err(No::Unfit)?;
        let incident = changed.case.incident.clone();
        let containers = changed.case.memory.containers.clone();
        if !self.make(&key, changed, Vec::new()).await {
            return Err(No::Journal);
        }
        if wanted.retry {
            self.restarts.forgive(&containers);
            self.hold.remove(&key);
        }
        tracing::info!(
            host = self.parts.host, project = key.project, service = key.service, incident = %id,
            "acknowledged{}", if wanted.retry { ", to be tried again" } else { "" }
        );
        Ok(incident)
    }
}
