use jiff::SignedDuration;
use nexus_docker::{Health, Status, StopCause};
use nexus_model::{IncidentState, Mode, Outcome, shadow::WOULD_RESTART};

use super::*;
use crate::{
    decide::{self, Decision},
    testing::{at, attempt, case, container, exited, permitted, seen, wall},
    transition,
};

/// A service that is only watched, as it is seen from turn to turn.
struct Play {
    case: Case,
    facts: Facts,
    told: Vec<(String, String)>,
}

impl Play {
    fn new() -> Self {
        let mut case = case();
        (case.incident.mode, case.incident.state) = (Mode::Shadow, IncidentState::Watching);
        let mut facts = permitted();
        facts.mode.mode = Mode::Shadow;
        Self { case, facts, told: Vec::new() }
    }

    fn show(&mut self, change: impl FnOnce(&mut Container)) {
        let mut container = Container::clone(&self.facts.containers[0].container);
        change(&mut container);
        self.facts.containers[0].container = container.into();
    }

    /// The worker's turn: notes and decisions until there is nothing but to wait.
    fn turn_at(&mut self, now: &Now) {
        for _ in 0..16 {
            if !self.case.is_open() {
                return;
            }
            let changed = note(&self.case, &self.facts, now).or_else(|| {
                let decision = decide::decide(&self.case, &self.facts, now);
                assert!(!matches!(decision, Decision::Restart { .. }), "{decision:?}");
                transition::apply(&self.case, &decision, &self.facts, &self.facts.healing, now, 0.5)
            });
            let Some(changed) = changed else { return };
            self.told.extend(changed.events.into_iter().map(|event| (event.kind, event.detail)));
            self.case = changed.case;
        }
        panic!("it goes round in circles: {:?}", self.told);
    }

    fn turn(&mut self, seconds: i64) {
        self.turn_at(&at(seconds));
    }

    /// Without the obstacles.
    fn kinds(&self) -> Vec<&str> {
        self.told.iter().map(|(kind, _)| kind.as_str()).filter(|kind| *kind != "refused").collect()
    }

    /// What whoever reads the lines counts: would-be restarts, and how many of them would have helped, would not, and are not known.
    fn counted(&self) -> (u32, u32, u32, u32) {
        let incident = Incident { mode: Mode::Shadow, ..self.case.incident.clone() };
        let event = |(kind, detail): &(String, String)| nexus_model::IncidentEvent {
            id: Uuid::nil(),
            incident_id: incident.id,
            at: incident.opened_at,
            kind: kind.clone(),
            detail: detail.clone(),
        };
        let events = self.told.iter().map(event).collect();
        let story = nexus_model::shadow::Story { incident: incident.clone(), events };
        let (since, until) = (incident.opened_at - jiff::SignedDuration::from_hours(1), at(100_000).wall);
        let records = nexus_model::shadow::records([&story], since, until);
        let record = &records[0];
        (record.would_be_restarts, record.would_have_helped, record.would_not_have_helped, record.not_known)
    }

    fn detail(&self, kind: &str) -> &str {
        &self.told.iter().rfind(|(told, _)| told == kind).unwrap().1
    }

    fn restarted(&mut self, seconds: i64, health: Health) {
        self.show(|it| (it.started_at, it.status, it.health) = (wall(seconds), Status::Running, health));
    }
}

#[test]
fn a_restart_by_somebody_else_that_proves_itself_would_have_helped() {
    let mut play = Play::new();
    play.turn(0);
    // The next would be due by now.
    play.turn(1_000);
    assert_eq!(play.kinds(), [WOULD_RESTART, WOULD_RESTART]);
    play.restarted(1_100, Health::Starting);
    play.turn(1_101);
    play.show(|it| it.health = Health::Healthy);
    play.turn(1_110);
    play.turn(1_169);
    assert_eq!(play.kinds()[2..], [RESTARTED_ELSEWHERE, "verified"]);
    play.turn(1_170);
    assert_eq!(play.kinds()[4..], [WOULD_HAVE_HELPED, "closed"]);
    assert_eq!(play.detail(RESTARTED_ELSEWHERE), "shop-web-1 was started anew, not by the healer");
    assert_eq!(play.case.incident.outcome, Some(Outcome::RecoveredByItself));
    // The second would not have been made.
    assert_eq!(play.case.memory.shadow.made.len(), 1);
    assert_eq!(play.case.memory.shadow.made[0].at, at(0));
}

#[test]
fn a_restart_by_dockers_policy_that_holds_would_have_helped() {
    let mut play = Play::new();
    play.turn(0);
    play.restarted(10, Health::Healthy);
    play.show(|it| it.restart_count = 1);
    play.turn(11);
    assert!(play.detail(RESTARTED_ELSEWHERE).ends_with("by docker's restart policy"));
    play.turn(71);
    assert_eq!(play.kinds().last(), Some(&"closed"));
    assert!(play.kinds().contains(&WOULD_HAVE_HELPED), "{:?}", play.told);
}

#[test]
fn a_restart_by_somebody_else_that_does_not_hold_would_not_have_helped() {
    let check = |what: &str, course: &dyn Fn(&mut Play), why: &str| {
        let mut play = Play::new();
        play.turn(0);
        course(&mut play);
        assert_eq!(play.kinds().iter().filter(|kind| **kind == WOULD_NOT_HAVE_HELPED).count(), 1, "{what}");
        assert!(!play.kinds().contains(&WOULD_HAVE_HELPED), "{what}");
        assert_eq!(play.detail(WOULD_NOT_HAVE_HELPED), format!("a restart would not have helped: {why}"), "{what}");
        assert!(play.case.memory.shadow.runs.is_empty() && play.case.memory.shadow.judged == 1, "{what}");
    };
    check(
        "it is unhealthy again",
        &|play| {
            play.restarted(10, Health::Unhealthy);
            play.turn(11);
        },
        "another did not: unhealthy: 3 failed probes in a row",
    );
    check(
        "it was well, and not for long",
        &|play| {
            play.restarted(10, Health::Healthy);
            play.turn(11);
            play.show(|it| it.health = Health::Unhealthy);
            play.turn(40);
        },
        "another did not: unhealthy: 3 failed probes in a row",
    );
    check(
        "it never gets through its start",
        &|play| {
            play.restarted(10, Health::Starting);
            play.turn(11);
            play.turn(80);
        },
        "another did not: it did not become healthy in time",
    );
    check(
        "it ends again",
        &|play| {
            play.facts.containers = vec![seen(Container { started_at: wall(10), ..exited(1) })];
            play.turn(11);
        },
        "another did not: exited with code 1",
    );
    check(
        "docker's policy restarts it over and over",
        &|play| {
            play.restarted(10, Health::Starting);
            play.show(|it| it.restart_count = 1);
            play.turn(11);
            assert!(play.detail(RESTARTED_ELSEWHERE).ends_with("by docker's restart policy"));
            play.restarted(13, Health::Starting);
            play.show(|it| it.restart_count = 2);
            play.turn(14);
        },
        &format!(
            "another did not: it was started once more at {}, so it did not stay up; docker's restart policy has started it once since",
            at(13).wall.strftime("%H:%M:%S")
        ),
    );
}

#[test]
fn what_shows_nothing_is_told_as_nothing() {
    let check = |what: &str, course: &dyn Fn(&mut Play)| {
        let mut play = Play::new();
        play.turn(0);
        course(&mut play);
        let is_verdict = |kind: &&str| [WOULD_HAVE_HELPED, WOULD_NOT_HAVE_HELPED].contains(kind);
        assert!(!play.kinds().iter().any(is_verdict), "{what}: {:?}", play.told);
        assert_eq!(play.counted(), (1, 0, 0, 1), "{what}");
        assert_eq!(play.case.memory.shadow.made.len(), 1, "{what}");
    };
    check("it recovers by itself", &|play| {
        play.show(|it| it.health = Health::Healthy);
        play.turn(5);
        play.turn(65);
        assert_eq!(play.case.incident.outcome, Some(Outcome::RecoveredByItself));
    });
    check("it was well when somebody restarted it", &|play| {
        play.show(|it| it.health = Health::Healthy);
        play.turn(5);
        play.restarted(10, Health::Healthy);
        play.turn(11);
        play.turn(90);
        assert!(!play.case.is_open());
    });
    check("it is created anew", &|play| {
        play.show(|it| (it.id, it.started_at, it.health) = ("c2".into(), wall(10), Health::Healthy));
        play.turn(11);
        assert_eq!(play.case.incident.outcome, Some(Outcome::Gone));
    });
    check("the machine was booted", &|play| {
        play.restarted(200, Health::Healthy);
        let booted = |seconds| Now { boot_id: "another".into(), ..at(seconds) };
        play.turn_at(&booted(201));
        play.turn_at(&booted(300));
        assert!(!play.case.is_open());
    });
    check("somebody stops it for good", &|play| {
        play.facts.containers = vec![ContainerFacts {
            stop: StopCause::Requested { at: at(5).wall },
            ..seen(Container { finished_at: wall(5), ..exited(0) })
        }];
        play.turn(6);
        play.turn(30);
        assert_eq!(play.case.incident.outcome, Some(Outcome::StoppedByHuman));
    });
}

#[test]
fn the_first_start_after_a_boot_shows_nothing() {
    // The machine was booted at -1000 s.
    let counted = |started_at| {
        let mut play = Play::new();
        play.facts.containers = vec![seen(Container { started_at, finished_at: wall(-990), ..exited(255) })];
        play.turn(0);
        play.turn(15);
        play.restarted(20, Health::Healthy);
        play.turn(21);
        play.turn(90);
        assert!(!play.case.is_open());
        play.counted()
    };
    assert_eq!(counted(wall(-5_000)), (1, 0, 0, 1));
    assert_eq!(counted(None), (1, 0, 0, 1));
    assert_eq!(counted(wall(-995)), (1, 1, 0, 0));
}

#[test]
fn what_a_boot_has_cut_off_is_not_given_the_verdict_of_what_came_after() {
    let mut play = Play::new();
    play.turn(0);
    play.turn(1_000);
    assert_eq!(play.case.memory.shadow.made.len(), 2);
    let booted = |seconds| Now { boot_id: "another".into(), ..at(seconds) };
    play.restarted(2_000, Health::Unhealthy);
    play.turn_at(&booted(2_001));
    assert_eq!(
        play.detail(WOULD_NOT_BE_KNOWN),
        "whether a restart would have helped will not be known: the machine was booted"
    );
    play.turn_at(&booted(4_000));
    assert!(play.case.memory.shadow.made.len() > 3);
    play.restarted(4_010, Health::Healthy);
    play.turn_at(&booted(4_011));
    play.turn_at(&booted(4_100));
    // The healer's own count, which budgets rest on, and that of its lines.
    assert_eq!(play.case.memory.shadow.made.len(), 3);
    assert_eq!(play.counted(), (3, 1, 0, 2));
}

#[test]
fn who_restarts_it_twice_is_judged_by_the_last() {
    let mut play = Play::new();
    play.turn(0);
    play.restarted(10, Health::Starting);
    play.turn(11);
    play.restarted(20, Health::Healthy);
    play.turn(21);
    play.turn(81);
    let kinds = play.kinds();
    assert_eq!(
        kinds,
        [WOULD_RESTART, RESTARTED_ELSEWHERE, RESTARTED_ELSEWHERE, "verified", WOULD_HAVE_HELPED, "closed"]
    );
}

#[test]
fn an_attempt_at_its_owners_word_is_a_verdict_too_and_those_before_are_none() {
    let check = |number: u32, outcome: AttemptOutcome, told: Option<&str>| {
        let mut play = Play::new();
        play.case.attempts.push(attempt(1, "c1", at(-50)));
        play.case.attempts[0].attempt.outcome = Some(AttemptOutcome::Helped);
        play.turn(0);
        play.case.attempts.push(attempt(number, "c1", at(5)));
        play.case.attempts[1].attempt.outcome = Some(outcome);
        play.case.attempts[1].attempt.started_at_after = wall(6);
        play.restarted(6, Health::Healthy);
        let changed = note(&play.case, &play.facts, &at(70));
        let kinds: Vec<String> = changed.iter().flat_map(|it| &it.events).map(|event| event.kind.clone()).collect();
        assert_eq!(kinds.first().map(String::as_str), told, "{outcome}");
        assert!(changed.unwrap().case.memory.shadow.runs.is_empty());
    };
    check(2, AttemptOutcome::Helped, Some(WOULD_HAVE_HELPED));
    check(2, AttemptOutcome::DidNotHelp, Some(WOULD_NOT_HAVE_HELPED));
    check(2, AttemptOutcome::Failed, Some(WOULD_NOT_HAVE_HELPED));
    check(2, AttemptOutcome::Interrupted, Some(WOULD_NOT_BE_KNOWN));
}

#[test]
fn a_second_note_of_the_same_changes_nothing() {
    let mut play = Play::new();
    play.turn(0);
    assert_eq!(note(&play.case, &play.facts, &at(1)).map(|it| it.events), None);
    play.restarted(10, Health::Starting);
    play.turn(11);
    assert_eq!(note(&play.case, &play.facts, &at(12)).map(|it| it.events), None);
    play.facts.docker_up = false;
    play.restarted(20, Health::Healthy);
    assert_eq!(note(&play.case, &play.facts, &at(21)).map(|it| it.events), None);
}

#[test]
fn would_be_restarts_have_the_budgets_of_real_ones() {
    let mut play = Play::new();
    play.case.memory.shadow.carried.insert("c1".into(), 4);
    for turn in 0..100 {
        play.turn(turn * 1_000);
    }
    assert_eq!(play.kinds(), [WOULD_RESTART, WOULD_RESTART, "would_give_up"]);
    assert!(play.case.memory.shadow.would_have_given_up);

    // The last one that the budget allows for helps.
    let mut play = Play::new();
    play.case.memory.shadow.carried.insert("c1".into(), 5);
    play.turn(0);
    assert!(play.case.memory.shadow.would_have_given_up);
    play.restarted(10, Health::Healthy);
    play.turn(11);
    play.turn(71);
    assert!(!play.case.is_open() && !play.case.memory.shadow.would_have_given_up, "{:?}", play.told);

    let mut play = Play::new();
    play.facts.spent_today.insert("c1".into(), play.facts.healing.attempts_per_day);
    play.turn(0);
    assert_eq!(play.kinds(), [""; 0]);

    let mut play = Play::new();
    play.facts.paused_until = Some(at(60));
    play.turn(0);
    assert!(!play.kinds().contains(&WOULD_RESTART));
    play.facts.paused_until = None;
    play.turn(60);
    assert!(play.kinds().contains(&WOULD_RESTART));
}

#[test]
fn the_ledger_counts_an_hour_and_a_day_and_forgives_as_budgets_do() {
    let closed = |outcome: Outcome, made: &[i64], gave_up: bool| {
        let mut case = case();
        case.incident.outcome = Some(outcome);
        case.memory.containers.insert("c1".into());
        let made = made.iter().map(|seconds| WouldBe { container_id: "c1".into(), at: at(*seconds) });
        case.memory.shadow = Watched { made: made.collect(), would_have_given_up: gave_up, ..Watched::default() };
        case
    };
    let ids = || ["c1", "c2"].into_iter();
    let mut ledger = Ledger::default();
    let take = |ledger: &mut Ledger, outcome, made: &[i64], gave_up, now: i64| {
        let case = closed(outcome, made, gave_up);
        ledger.close(&case.incident, &case.memory, &at(now));
    };
    let today = |ledger: &Ledger, open: Option<&Case>, seconds: i64| {
        let mut spent = BTreeMap::from([("c1".to_owned(), 1)]);
        ledger.add_today(&mut spent, ids(), open, &at(seconds));
        spent.into_iter().collect::<Vec<_>>()
    };
    let c1 = |count: u32| vec![("c1".to_owned(), count)];
    take(&mut ledger, Outcome::RecoveredByItself, &[0, 60], false, 100);
    assert_eq!(ledger.spent(ids(), &at(200)), c1(2).into_iter().collect());
    assert_eq!(ledger.spent(ids(), &at(3_600)), c1(1).into_iter().collect());
    assert_eq!(today(&ledger, None, 3_600), c1(3));
    let open = closed(Outcome::Gone, &[300], false);
    assert_eq!(today(&ledger, Some(&open), 3_600), c1(4));
    // What would have been given up and is well again begins anew for the hour, and not for the day.
    take(&mut ledger, Outcome::RecoveredByItself, &[400], true, 500);
    assert_eq!(ledger.spent(ids(), &at(500)), BTreeMap::new());
    assert_eq!(today(&ledger, None, 500), c1(4));
    assert_eq!(today(&ledger, None, 24 * 3_600 + 60), c1(2));
    // With its owner's hand in it both do.
    take(&mut ledger, Outcome::StoppedByHuman, &[600], false, 700);
    assert_eq!(today(&ledger, None, 700), c1(1));
    assert_eq!(SignedDuration::from_hours(24), DAY);
}

#[test]
fn a_memory_from_before_is_read() {
    let old: Memory = serde_json::from_str(r#"{"would_be":2}"#).unwrap();
    assert_eq!((old.would_be, old.shadow), (2, Watched::default()));
    assert_eq!(container().restart_count, 0);
}
