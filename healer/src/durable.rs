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
pub struct Durable {
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

impl Durable {
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

#[cfg(test)]
mod tests {
    use std::{cell::RefCell, path::Path};

    use nexus_model::{AttemptOutcome, Outcome};

    use super::*;
    use crate::{
        metrics::Parts,
        testing::{at, attempt, case},
    };

    fn opened(file: &Path) -> (Durable, crate::journal::JournalThread) {
        let (journal, thread) = Journal::open(file).unwrap();
        (Durable::new(journal, Arc::new(Metrics::new(Parts { postgres: false, alertmanager: false }))), thread)
    }

    #[tokio::test]
    async fn each_end_of_an_attempt_is_told_once_and_nothing_that_was_not_written() {
        let folder = tempfile::tempdir().unwrap();
        let (durable, thread) = opened(&folder.path().join("journal.db"));
        let told = RefCell::new(Vec::new());
        let ended = |attempt: &Attempt, outcome| told.borrow_mut().push((attempt.number, outcome));
        let mut changed = Changed { case: case(), events: Vec::new() };
        changed.case.attempts = vec![attempt(1, "c1", at(0)), attempt(2, "c1", at(60))];
        changed.case.attempts[0].attempt.outcome = Some(AttemptOutcome::DidNotHelp);
        changed.case.attempts[1].attempt.outcome = None;
        let first = durable.make(None, changed.clone(), Vec::new(), ended).await.unwrap();
        assert_eq!(told.take(), [(1, AttemptOutcome::DidNotHelp)]);
        changed.case.attempts[1].attempt.outcome = Some(AttemptOutcome::Helped);
        changed.case.incident.outcome = Some(Outcome::Recovered);
        changed.case.incident.refusal = Some(Refusal::CoolingDown);
        let second = durable.make(Some(&first), changed.clone(), Vec::new(), ended).await.unwrap();
        assert_eq!(told.take(), [(2, AttemptOutcome::Helped)]);
        durable.make(Some(&second), changed.clone(), Vec::new(), ended).await.unwrap();
        assert_eq!(told.take(), []);

        // Nobody is told of what is on no disk.
        thread.close().await;
        assert_eq!(durable.make(Some(&first), changed, Vec::new(), ended).await, None);
        assert_eq!(told.take(), []);
        let metrics = durable.metrics.encode().unwrap();
        for line in [
            "nexus_healer_refusals_total{reason=\"cooling_down\"} 1",
            "nexus_healer_refusals_total{reason=\"journal_unavailable\"} 1",
        ] {
            assert!(metrics.contains(line), "{metrics}");
        }
    }
}
