//! What the worker shows of its work: metrics, API, the owner's alerts and the log.

use std::sync::Arc;

use nexus_model::{Refusal, ServiceKey};

use super::{Outlook, Worker};
use crate::{decide::Decision, hold, scrapes, sight, tell};

impl Worker {
    /// Shows the open incidents to metrics, API and the owner.
    pub(super) fn show(&self) {
        self.parts.metrics.show_open(self.cases.values());
        let on_hold = self.host_hold.as_ref().is_some_and(|hold| hold.over.is_none());
        self.parts.metrics.on_hold.set(i64::from(on_hold));
        let states = self.cases.iter().map(|(key, case)| (key.clone(), case.incident.state)).collect();
        let now = self.clock.now();
        let hold =
            self.host_hold.as_ref().and_then(|hold| hold::shown(hold, hold::common_cause(hold, &self.cases), &now));
        let today = self.restarts.all_today(&now).into_iter().map(|(id, restarts)| (id.to_owned(), restarts)).collect();
        self.parts.outlook.send_replace(Arc::new(Outlook { states, today, hold }));
        self.tell();
    }

    /// Says which alerts of the healer's own are true: for people, and for itself to be prompted.
    pub(super) fn tell(&self) {
        let zone = self.parts.policy.borrow().zone();
        let now = self.clock.now();
        let for_people = self.cases.values().filter_map(|case| tell::alert(case, &zone));
        let prompts = self.sights.iter().map(|sight| sight::alert(sight, &self.parts.host));
        let on_hold = self
            .host_hold
            .as_ref()
            .and_then(|hold| hold::alert(hold, hold::common_cause(hold, &self.cases), &self.parts.host, &zone));
        let scraped = self.parts.scraped.borrow().clone();
        let unscraped =
            self.unscraped.is_lost.then(|| scrapes::alert(&scraped, &now, &self.parts.host, &zone)).flatten();
        let of_the_machine = self.parts.relief.borrow().alerts.clone();
        let after_hold = self.host_hold.iter().flat_map(|hold| hold::after(hold, &self.cases, &self.parts.host, &now));
        let told: Vec<tell::Alert> = for_people
            .chain(self.cases.values().filter_map(tell::acknowledged))
            .chain(self.cases.values().filter_map(|case| tell::waits(case, &zone)))
            .chain(on_hold)
            .chain(after_hold)
            .chain(prompts)
            .chain(of_the_machine)
            .chain(unscraped)
            .collect();
        self.parts.metrics.show_alerts(&told);
        self.parts.told.send_if_modified(|before| {
            let changed = **before != told;
            if changed {
                *before = Arc::new(told);
            }
            changed
        });
    }

    pub(super) fn log_refusal(&self, key: &ServiceKey, why: Refusal) {
        let (host, project, service) = (&self.parts.host, &key.project, &key.service);
        if matches!(why, Refusal::AlreadyWell | Refusal::Gone) {
            tracing::debug!(host, project, service, reason = %why, "no incident");
        } else {
            tracing::info!(host, project, service, reason = %why, "no incident");
        }
    }

    pub(super) fn log(&self, key: &ServiceKey, incident: uuid::Uuid, decision: &Decision) {
        let (host, project, service) = (&self.parts.host, &key.project, &key.service);
        // Of the attempt that the decision is about; a closed incident is not among the cases any more.
        let attempt = self.cases.get(key).and_then(|case| case.attempts.last()).map(|last| last.attempt.number);
        match decision {
            Decision::Wait { why, .. } => {
                tracing::debug!(host, project, service, %incident, reason = %why, "waiting");
            }
            Decision::Block { detail, .. } => {
                tracing::info!(host, project, service, %incident, reason = detail, "waits for another service");
            }
            Decision::Unblock => tracing::info!(host, project, service, %incident, "what it needs is well"),
            Decision::Restart { .. } => (),
            Decision::Lapse { detail } => {
                tracing::info!(host, project, service, %incident, reason = detail, "the attempt asked for is not made");
            }
            Decision::WouldRestart { container_id, why } => {
                tracing::info!(host, project, service, %incident, reason = %why, "would have restarted {container_id}");
            }
            Decision::Follow { mode } => tracing::info!(host, project, service, %incident, "the mode is {mode} now"),
            Decision::Verify { .. } => tracing::info!(host, project, service, %incident, attempt, "restarted"),
            Decision::Stabilise => tracing::info!(host, project, service, %incident, attempt, "well, must stay so"),
            Decision::Relapse => tracing::info!(host, project, service, %incident, attempt, "did not stay well"),
            Decision::AttemptEnded { outcome, detail } => {
                tracing::info!(host, project, service, %incident, attempt, reason = detail, "attempt ended: {outcome}");
            }
            Decision::GiveUp { since } => {
                tracing::warn!(host, project, service, %incident, reason = since, "gave up: a person is needed");
            }
            Decision::GiveUpForTheDay { .. } => {
                let reason = Refusal::DayBudgetSpent;
                tracing::warn!(host, project, service, %incident, %reason, "gave up: a person is needed");
            }
            Decision::Close { outcome, detail } => {
                tracing::info!(host, project, service, %incident, reason = detail, "incident closed: {outcome}");
            }
        }
    }
}
