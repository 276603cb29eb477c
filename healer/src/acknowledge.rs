//! What changes when somebody says that they know of an incident that failed or was given up. Pure.

use nexus_model::{IncidentState, Now, control::Acknowledge};

use crate::{case::Case, transition::Changed};

/// Ends the messages. What was given up stays so, until the service is well, was recreated, or `retry` asks for another
/// go with a fresh budget. `Err`: why there is nothing to acknowledge, for people.
pub fn acknowledge(case: &Case, wanted: &Acknowledge, now: &Now) -> Result<Changed, String> {
    let gave_up = case.incident.state == IncidentState::GaveUp;
    if !gave_up && case.memory.failing_since.is_none() {
        let state = case.incident.state;
        return Err(format!(
            "there is nothing to acknowledge: its state is {state}, and nobody is told of it. An incident can be acknowledged \
             once attempts have failed or it was given up"
        ));
    }
    let mut changed = Changed { case: case.clone(), events: Vec::new() };
    let note = wanted.note.as_deref().map_or_else(String::new, |note| format!(": {note}"));
    if wanted.retry {
        try_again(&mut changed.case);
        changed.tell(now, "acknowledged", format!("acknowledged, and tried again with a fresh budget{note}"));
    } else if case.incident.acknowledged_at.is_none() || wanted.note.is_some() {
        changed.case.incident.acknowledged_at.get_or_insert(now.wall);
        let stays = if gave_up { "acknowledged: it is left alone" } else { "acknowledged: nobody is told any more" };
        changed.tell(now, "acknowledged", format!("{stays}{note}"));
    }
    Ok(changed.revised())
}

fn try_again(case: &mut Case) {
    let memory = &mut case.memory;
    memory.budget_from = case.attempts.last().map_or(0, |last| last.attempt.number);
    memory.forgiven = true;
    memory.carried.clear();
    memory.day_spent.clear();
    (memory.gave_up_at, memory.gave_up_since, memory.failing_since) = (None, None, None);
    (memory.network_gone, memory.doubted) = (None, None);
    let incident = &mut case.incident;
    incident.acknowledged_at = None;
    if incident.state == IncidentState::GaveUp {
        incident.refusal = None;
        incident.next_attempt_at = None;
        incident.state = if case.attempts.is_empty() { IncidentState::Suspect } else { IncidentState::Backoff };
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;
    use nexus_model::{AttemptOutcome, Refusal};

    use super::*;
    use crate::{
        budget,
        decide::{Decision, decide},
        facts::Facts,
        tell,
        testing::{at, attempt, case, permitted},
        transition,
    };

    /// All six attempts spent, the last one at 600 s.
    fn gave_up() -> Case {
        let mut case = case();
        for number in 1..=6 {
            let mut failed = attempt(number, "c1", at(i64::from(number) * 100));
            failed.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
            failed.memory.retry = Some(at(5000));
            case.attempts.push(failed);
        }
        (case.incident.attempts, case.incident.failed_attempts) = (6, 6);
        case.memory.failing_since = Some(at(300).wall);
        let decision = decide(&case, &permitted(), &at(700));
        assert_eq!(decision, Decision::GiveUp { since: None });
        apply(&case, &decision, 700)
    }

    fn apply(case: &Case, decision: &Decision, seconds: i64) -> Case {
        let facts = permitted();
        transition::apply(case, decision, &facts, &facts.healing, &at(seconds), 0.5).unwrap().case
    }

    fn ack(case: &Case, retry: bool, note: Option<&str>) -> Changed {
        acknowledge(case, &Acknowledge { retry, note: note.map(str::to_owned) }, &at(800)).unwrap()
    }

    fn is_held_back(case: &Case) -> bool {
        let told: Vec<_> =
            [tell::alert(case, &TimeZone::UTC), tell::acknowledged(case)].into_iter().flatten().collect();
        told.len() == 2 && tell::is_known(&told[0], &told)
    }

    #[test]
    fn nobody_is_told_any_more_and_it_is_left_alone() {
        let case = gave_up();
        assert!(tell::alert(&case, &TimeZone::UTC).is_some());
        let changed = ack(&case, false, Some("waiting for a new disk"));
        assert_eq!(changed.events[0].detail, "acknowledged: it is left alone: waiting for a new disk");
        let case = changed.case;
        assert_eq!((case.incident.state, case.incident.acknowledged_at), (IncidentState::GaveUp, Some(at(800).wall)));
        assert!(is_held_back(&case));
        // Not even another replica, which would have a budget of its own, is restarted.
        let replica = nexus_docker::Container { id: "c2".into(), ..crate::testing::container() };
        let two = Facts { containers: vec![crate::testing::seen(replica)], ..permitted() };
        let mut known = case.clone();
        known.memory.containers.insert("c2".into());
        assert_eq!(decide(&known, &two, &at(9000)), Decision::Wait { why: Refusal::BudgetSpent, until: None });
        // Once more says nothing new, and keeps the moment.
        let again = ack(&case, false, None);
        assert!(again.events.is_empty() && again.case.incident.acknowledged_at == Some(at(800).wall));
    }

    #[test]
    fn a_retry_has_a_fresh_budget_and_goes_at_once() {
        let case = ack(&gave_up(), true, None).case;
        assert_eq!((case.incident.state, case.spent_on("c1")), (IncidentState::Backoff, 0));
        assert_eq!(decide(&case, &permitted(), &at(801)), Decision::Restart { container_id: "c1".into() });
        assert_eq!(tell::alert(&case, &TimeZone::UTC), None);
        assert!(tell::acknowledged(&case).is_some(), "nor is that it is ill, which its owner knows");
        // What it spends then is not carried into another incident, as after giving up.
        assert!(budget::begins_anew(&case.incident, &case.memory));
        // The budget ends again: six more, no seventh.
        let mut spent = case;
        for number in 7..=12 {
            let mut failed = attempt(number, "c1", at(900));
            failed.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
            spent.attempts.push(failed);
        }
        let decision = decide(&spent, &permitted(), &at(9000));
        assert_eq!(decision, Decision::GiveUp { since: None });
        let again = apply(&spent, &decision, 9000);
        assert!(tell::alert(&again, &TimeZone::UTC).is_some() && tell::acknowledged(&again).is_none());
    }

    #[test]
    fn what_only_fails_goes_on_and_giving_up_is_told_again() {
        let mut case = case();
        case.incident.state = IncidentState::Backoff;
        case.memory.failing_since = Some(at(300).wall);
        assert!(tell::alert(&case, &TimeZone::UTC).is_some());
        let case = ack(&case, false, None).case;
        assert!(is_held_back(&case));
        assert_eq!(decide(&case, &permitted(), &at(801)), Decision::Restart { container_id: "c1".into() });
        let given_up = apply(&case, &Decision::GiveUp { since: None }, 900);
        assert!(tell::alert(&given_up, &TimeZone::UTC).is_some() && tell::acknowledged(&given_up).is_none());
    }

    #[test]
    fn what_nobody_is_told_of_can_not_be_acknowledged() {
        let error = acknowledge(&case(), &Acknowledge::default(), &at(1)).unwrap_err();
        assert!(error.contains("its state is suspect"), "{error}");
    }
}
