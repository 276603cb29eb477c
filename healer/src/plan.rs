//! "What would you do now?": the decisions that the worker would make, on a copy that nobody keeps. Pure.
//!
//! It is what the worker would do with what is known at this moment. What it looks at only right before a restart (the log of one
//! that may be starting, silences, a last probe of what it needs) may still hold it back then.

use std::collections::BTreeMap;

use nexus_model::{
    Mode, Refusal, ServiceKey,
    control::{Plan, Step},
};

use crate::{
    act::Deed,
    case::Case,
    decide::{self, Decision},
    facts::Facts,
    stuck, transition,
};
use nexus_model::Now;

/// Decisions that follow on each other at once; the worker has the same bound.
const MOST: u32 = 16;

/// What would be done about a service. `carried` is what was spent on its containers before, should an incident be opened.
pub fn plan(key: &ServiceKey, case: Option<&Case>, facts: &Facts, carried: BTreeMap<String, u32>, now: &Now) -> Plan {
    let mut plan = Plan {
        project: key.project.clone(),
        service: key.service.clone(),
        step: Step::Nothing,
        reason: None,
        until: None,
        container: None,
        text: String::new(),
        incident: case.map(|case| case.incident.state),
    };
    let (mut case, mut words) = match case {
        Some(case) => (case.clone(), String::new()),
        None => match decide::admit(facts, None) {
            Ok(found) => {
                let words = format!("open an incident ({}), then ", found.problem);
                (transition::open("", key, ("", now.wall), found, carried, now).case, words)
            }
            Err(why) => {
                plan.reason = Some(why);
                plan.text = format!("nothing: {}", stuck::words(why, &facts.containers, now.wall));
                if why == Refusal::StoppedByUnknown {
                    plan.text.push_str(
                        ", and it can't be told by whom: it stays so until you start it (docker compose up -d)",
                    );
                }
                return plan;
            }
        },
    };
    for _ in 0..MOST {
        let decision = decide::decide(&case, facts, now);
        let said = match &decision {
            Decision::Wait { why, until } => {
                plan.step = Step::Wait;
                plan.reason = Some(*why);
                plan.until = until.as_ref().map(|until| until.wall);
                Some(waits(*why, facts, now))
            }
            Decision::Block { by, why, detail } => {
                plan.step = Step::Block;
                plan.reason = Some(*why);
                Some(format!("wait until {by} is well ({detail})"))
            }
            Decision::Restart { container_id } => {
                let name = name(facts, container_id);
                let number = case.attempts.last().map_or(0, |last| last.attempt.number) + 1;
                let (spent, of) = (case.spent_on(container_id) + 1, facts.healing.attempts);
                plan.step = Step::Restart;
                plan.container = Some(name.clone());
                let starts = facts.container(container_id).is_some_and(|seen| facts.is_to_be_started(&seen.container));
                let deed = if starts { Deed::Start } else { Deed::Restart }.as_str();
                Some(match case.memory.by_hand {
                    Some(_) => format!("{deed} {name}, as its owner asks (attempt {number})"),
                    None => format!("{deed} {name} (attempt {number}; {spent} of {of} of its budget)"),
                })
            }
            Decision::WouldRestart { container_id, why } => {
                let name = name(facts, container_id);
                plan.step = Step::WouldRestart;
                plan.reason = Some(*why);
                plan.container = Some(name.clone());
                Some(format!("write down that {name} would have been restarted: {}", why.words()))
            }
            Decision::GiveUp { since } => {
                plan.step = Step::GiveUp;
                plan.reason = Some(if since.is_some() { Refusal::NetworkGone } else { Refusal::BudgetSpent });
                Some("give up and tell its owner".to_owned())
            }
            Decision::GiveUpForTheDay { .. } => {
                plan.step = Step::GiveUp;
                plan.reason = Some(Refusal::DayBudgetSpent);
                Some("give up and tell its owner".to_owned())
            }
            Decision::Close { detail, .. } => {
                plan.step = Step::Close;
                Some(format!("close the incident: {detail}"))
            }
            Decision::Unblock
            | Decision::Lapse { .. }
            | Decision::Follow { mode: Mode::Heal | Mode::Shadow | Mode::Off }
            | Decision::Verify { .. }
            | Decision::Stabilise
            | Decision::Relapse
            | Decision::AttemptEnded { .. } => None,
        };
        if let Some(said) = said {
            words.push_str(&said);
            plan.text = words;
            return plan;
        }
        // The middle of the jitter: a plan is no promise to the second.
        match transition::apply(&case, &decision, facts, &facts.healing, now, 0.5) {
            Some(changed) => case = changed.case,
            None => break,
        }
    }
    plan.text = "nothing that can be told: its decisions go round in circles".to_owned();
    plan
}

/// Why it waits, as a sentence.
fn waits(why: Refusal, facts: &Facts, now: &Now) -> String {
    let words = stuck::words(why, &facts.containers, now.wall);
    match why {
        Refusal::AlreadyWell if words == why.words() => "wait: it is well, and has to stay so for a while".to_owned(),
        Refusal::BudgetSpent | Refusal::DayBudgetSpent => format!("do nothing more by itself: {words}"),
        _ => match words.strip_prefix("waiting ") {
            Some(rest) => format!("wait {rest}"),
            None => format!("wait: {words}"),
        },
    }
}

fn name(facts: &Facts, container_id: &str) -> String {
    facts.container(container_id).map_or(container_id, |seen| seen.container.name.as_str()).to_owned()
}

#[cfg(test)]
mod tests {
    use nexus_docker::{Container, Health, Status, StopCause};
    use nexus_model::{AttemptOutcome, IncidentState};

    use super::*;
    use crate::{
        facts::ContainerFacts,
        testing::{at, attempt, case, container, exited, key, permitted, seen},
    };

    fn told(case: Option<&Case>, facts: &Facts, seconds: i64) -> Plan {
        plan(&key(), case, facts, BTreeMap::new(), &at(seconds))
    }

    #[test]
    fn each_step_is_told_with_its_reason() {
        let check =
            |case: Option<&Case>, change: &dyn Fn(&mut Facts), step: Step, reason: Option<Refusal>, words: &str| {
                let mut facts = permitted();
                change(&mut facts);
                let found = told(case, &facts, 1);
                assert_eq!((found.step, found.reason), (step, reason), "{found:?}");
                assert!(found.text.contains(words), "{found:?} lacks {words:?}");
            };
        let well = |facts: &mut Facts| {
            let mut container = container();
            container.health = Health::Healthy;
            facts.containers = vec![seen(container)];
        };
        let (opened, none) = (case(), None);
        let unknown = |facts: &mut Facts| {
            facts.containers = vec![ContainerFacts { stop: StopCause::Unknown, ..seen(exited(1)) }];
        };
        check(none, &unknown, Step::Nothing, Some(Refusal::StoppedByUnknown), "until you start it");
        check(
            none,
            &|_| (),
            Step::Restart,
            None,
            "open an incident (unhealthy: 3 failed probes in a row), then restart",
        );
        check(Some(&opened), &|_| (), Step::Restart, None, "restart shop-web-1 (attempt 1; 1 of 6 of its budget)");
        check(none, &well, Step::Nothing, Some(Refusal::AlreadyWell), "nothing: it is well");
        check(Some(&opened), &well, Step::Wait, Some(Refusal::AlreadyWell), "wait: it is well, and has to stay so");
        let mut given_up = case();
        given_up.incident.state = IncidentState::GaveUp;
        given_up.memory.carried.insert("c1".into(), 6);
        let told = "do nothing more by itself: all attempts are spent";
        check(Some(&given_up), &|_| (), Step::Wait, Some(Refusal::BudgetSpent), told);
        let loops = |facts: &mut Facts| {
            let (status, restart_count) = (Status::Restarting, 22);
            facts.containers = vec![seen(Container { status, restart_count, ..exited(3) })];
        };
        let told = "22 times, last with exit code 3; its log says why; healing does not act on what Docker's own";
        check(none, &loops, Step::Nothing, Some(Refusal::DockerRestarting), told);
        check(Some(&opened), &loops, Step::Wait, Some(Refusal::DockerRestarting), told);
        let shadow = |facts: &mut Facts| facts.mode.mode = Mode::Shadow;
        check(none, &shadow, Step::WouldRestart, Some(Refusal::ShadowMode), "would have been restarted");
        // The incident was opened in another mode: the change is one more step on the way.
        check(Some(&opened), &shadow, Step::WouldRestart, Some(Refusal::ShadowMode), "shop-web-1");
        let paused = |facts: &mut Facts| facts.paused_until = Some(at(60));
        check(none, &paused, Step::Wait, Some(Refusal::HealingPaused), "healing is paused");
        check(Some(&opened), &|facts| facts.mode.mode = Mode::Off, Step::Close, None, "switched off");
        let mut spent = case();
        spent.memory.carried.insert("c1".into(), 6);
        check(Some(&spent), &|_| (), Step::GiveUp, Some(Refusal::BudgetSpent), "give up");
        let mut by_hand = transition::heal_now(&spent, &["c1".to_owned()], false, &at(0)).case;
        check(Some(&by_hand), &|_| (), Step::Restart, None, "as its owner asks");
        by_hand.memory.by_hand = None;
        check(Some(&by_hand), &|_| (), Step::GiveUp, Some(Refusal::BudgetSpent), "give up");
    }

    #[test]
    fn a_delay_is_told_with_its_end() {
        let mut case = case();
        let mut failed = attempt(1, "c1", at(0));
        failed.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
        failed.memory.retry = Some(at(40));
        case.attempts.push(failed);
        let found = told(Some(&case), &permitted(), 10);
        assert_eq!((found.reason, found.until), (Some(Refusal::CoolingDown), Some(at(40).wall)));
        assert_eq!(found.text, "wait before the next attempt");
    }
}
