//! How the two loops change incidents: on the disk first, then in memory. What can't be written is not made.

use std::sync::Arc;

use nexus_model::{Attempt, AttemptOutcome, Refusal};

use crate::{
    case::Case,
    evidence::chain,
    journal::{Change, Journal},
    metrics::Metrics,
    transition::Changed,
};

#[derive(Clone)]
pub struct Ledger {
    journal: Journal,
    metrics: Arc<Metrics>,
}

/// What is written of a changed incident. The incident first: what belongs to it refers to it.
pub fn changes(changed: Changed, with: Vec<Change>) -> (Case, Vec<Change>) {
    let Changed { case, events } = changed;
    let mut changes = vec![Change::Case(Box::new(case.clone()))];
    changes.extend(events.into_iter().map(Change::Event));
    changes.extend(with);
    (case, changes)
}

impl Ledger {
    pub fn new(journal: Journal, metrics: Arc<Metrics>) -> Self {
        Self { journal, metrics }
    }

    /// Says whether the changes are durable.
    pub async fn commit(&self, changes: Vec<Change>) -> bool {
        match self.journal.commit(changes).await {
            Ok(()) => true,
            Err(error) => {
                // Told once by the journal itself; here only what depends on it.
                tracing::debug!(reason = %chain(&error), "a change could not be made durable and is not made");
                self.metrics.refused(Refusal::JournalUnavailable);
                false
            }
        }
    }

    /// Makes a changed incident durable with what belongs to it, all or none, and counts what has become of it; gives it once
    /// it is true. `before` is what it was, and `ended` is told of each attempt that has come to its end.
    pub async fn make(
        &self,
        before: Option<&Case>,
        changed: Changed,
        with: Vec<Change>,
        ended: impl Fn(&Attempt, AttemptOutcome),
    ) -> Option<Case> {
        let (case, changes) = changes(changed, with);
        if !self.commit(changes).await {
            return None;
        }
        if let Some(outcome) = case.incident.outcome {
            self.metrics.incident_closed(outcome);
        }
        for (attempt, outcome) in newly_ended(before, &case) {
            ended(attempt, outcome);
        }
        if let Some(why) = case.incident.refusal
            && before.and_then(|case| case.incident.refusal) != Some(why)
        {
            self.metrics.refused(why);
        }
        Some(case)
    }
}

/// The attempts that have an outcome now and had none before.
fn newly_ended<'c>(
    before: Option<&'c Case>,
    after: &'c Case,
) -> impl Iterator<Item = (&'c Attempt, AttemptOutcome)> + use<'c> {
    let had_ended = move |number: u32| {
        let mut known = before.into_iter().flat_map(|case| &case.attempts);
        known.any(|it| it.attempt.number == number && it.attempt.outcome.is_some())
    };
    let attempts = after.attempts.iter().map(|it| &it.attempt);
    attempts.filter_map(move |it| it.outcome.filter(|_| !had_ended(it.number)).map(|outcome| (it, outcome)))
}
