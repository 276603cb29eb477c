use jiff::SignedDuration;
use proptest::prelude::*;

use super::{
    eyes::{self, Amount},
    leak::Series,
    *,
};
use crate::testing::{at, wall};

const MIB: u64 = 1 << 20;

fn seen(name: &str) -> Seen {
    Seen {
        key: ServiceKey::new("photos", name),
        id: format!("id-{name}"),
        name: format!("photos-{name}-1"),
        runs: true,
        started_at: wall(-100),
        expendable: true,
        stop_timeout: SignedDuration::from_secs(10),
        held: None,
    }
}

/// Everything may be done, and has to be.
fn critical(resource: Resource) -> Situation {
    Situation {
        resource,
        level: Level::Critical,
        available: 10 * MIB,
        left: None,
        may_prune: true,
        may_stop: true,
        ballast: 100 * MIB,
        last_prune: None,
        containers: vec![seen("worker"), seen("index")],
        docker_up: true,
        journal_writable: true,
        silenced: false,
        held: None,
        under_way: BTreeSet::new(),
        stable_for: SignedDuration::from_secs(60),
        start_after: SignedDuration::from_mins(10),
    }
}

fn opened(situation: &Situation) -> Case {
    open("pi", situation, ("HostDiskNearlyFull", at(0).wall), &at(0)).case
}

/// After a step on paper; the intent of an act counts as under way.
fn after(case: &Case, step: &Step, situation: &mut Situation, now: &Now) -> Case {
    let case = apply(case, step, situation, now).unwrap().case;
    situation.under_way =
        case.attempts.iter().filter(|it| it.attempt.outcome.is_none()).map(|it| it.attempt.id).collect();
    case
}

fn ended_well(case: &Case, situation: &mut Situation, now: &Now) -> Case {
    let attempt = case.attempts.iter().rev().find(|it| it.attempt.outcome.is_none()).unwrap().attempt.id;
    let step = Step::Judge { attempt, outcome: AttemptOutcome::Helped, detail: "done".into() };
    after(case, &step, situation, now)
}

fn stop(name: &str) -> Step {
    Step::Act(Remedy::Stop { container_id: format!("id-{name}") })
}

#[test]
fn what_costs_least_comes_first() {
    let mut disk = critical(Resource::Disk);
    let case = opened(&disk);
    assert_eq!((case.incident.mode, case.incident.state), (Mode::Heal, IncidentState::Suspect));
    assert_eq!(next(&case, &disk, &at(0)), Step::Act(Remedy::Ballast));
    let case = after(&case, &Step::Act(Remedy::Ballast), &mut disk, &at(0));
    assert_eq!(case.incident.state, IncidentState::Relieving);
    assert_eq!(next(&case, &disk, &at(0)), Step::Wait { why: Some(Refusal::Verifying) });
    let case = ended_well(&case, &mut disk, &at(1));
    disk.ballast = 0;
    // The effect shows after a moment.
    assert_eq!(next(&case, &disk, &at(2)), Step::Wait { why: Some(Refusal::Verifying) });
    assert_eq!(next(&case, &disk, &at(4)), Step::Act(Remedy::Prune));
    let case = after(&case, &Step::Act(Remedy::Prune), &mut disk, &at(4));
    disk.last_prune = Some(at(4));
    // A prune may take minutes, in which a runaway writer would fill the disk.
    assert_eq!(next(&case, &disk, &at(8)), Step::Wait { why: Some(Refusal::Verifying) });
    assert_eq!(next(&case, &disk, &at(9)), stop("worker"));
    let case = after(&case, &stop("worker"), &mut disk, &at(9));
    assert_eq!(case.memory.relief.stopped["id-worker"].run, wall(-100));
    assert_eq!(next(&case, &disk, &at(10)), Step::Wait { why: Some(Refusal::Verifying) });

    let memory = critical(Resource::Memory);
    assert_eq!(next(&opened(&memory), &memory, &at(0)), stop("worker"));
}

#[test]
fn each_guard_holds_it_back() {
    let check = |change: fn(&mut Situation), expected: Step| {
        let mut disk = critical(Resource::Disk);
        disk.ballast = 0;
        let case = opened(&disk);
        change(&mut disk);
        assert_eq!(next(&case, &disk, &at(0)), expected);
    };
    let wait = |why| Step::Wait { why: Some(why) };
    check(|_| (), Step::Act(Remedy::Prune));
    check(|disk| disk.silenced = true, wait(Refusal::Silenced));
    check(|disk| disk.journal_writable = false, wait(Refusal::JournalUnavailable));
    check(|disk| disk.docker_up = false, wait(Refusal::DockerUnavailable));
    check(|disk| disk.may_prune = false, Step::Would(Remedy::Prune));
    check(|disk| disk.may_stop = false, Step::Would(Remedy::Stop { container_id: "id-worker".into() }));
    check(|disk| disk.last_prune = Some(at(-10)), stop("worker"));
    check(|disk| disk.last_prune = Some(at(-3600)), Step::Act(Remedy::Prune));
    // What is only tight costs nobody a service.
    check(|disk| (disk.level, disk.last_prune) = (Level::Tight, Some(at(-10))), wait(Refusal::BudgetSpent));
    check(|disk| disk.level = Level::Room, Step::Calm);
    // What is not expendable, or does not run, is left alone.
    check(
        |disk| {
            disk.last_prune = Some(at(-10));
            disk.containers[0].expendable = false;
        },
        stop("index"),
    );
    check(
        |disk| {
            disk.last_prune = Some(at(-10));
            disk.containers[0].runs = false;
        },
        stop("index"),
    );
    // The ballast needs no Docker.
    check(|disk| (disk.docker_up, disk.ballast) = (false, 1), Step::Act(Remedy::Ballast));
}

#[test]
fn what_is_not_allowed_is_written_down_once() {
    let mut disk = critical(Resource::Disk);
    (disk.may_prune, disk.may_stop, disk.ballast) = (false, false, 0);
    let mut case = opened(&disk);
    assert_eq!((case.incident.mode, case.incident.state), (Mode::Shadow, IncidentState::Watching));
    let mut told = Vec::new();
    loop {
        let step = next(&case, &disk, &at(100));
        if let Step::Wait { why } = step {
            assert_eq!(why, Some(Refusal::RemedyNotAllowed));
            break;
        }
        let changed = apply(&case, &step, &disk, &at(100)).unwrap();
        told.extend(changed.events.into_iter().map(|event| event.detail));
        case = changed.case;
    }
    assert_eq!(
        told,
        [
            "would have pruned dangling images and the build cache (remedies.prune)",
            "would have stopped photos/worker (remedies.stop_expendables)",
            "would have stopped photos/index (remedies.stop_expendables)",
        ]
    );
    assert!(case.attempts.is_empty() && tell::alert(&case).is_none());
}

#[test]
fn when_nothing_is_left_a_person_is_told() {
    let mut memory = critical(Resource::Memory);
    memory.containers.clear();
    let case = opened(&memory);
    assert_eq!(next(&case, &memory, &at(29)), Step::Wait { why: Some(Refusal::BudgetSpent) });
    assert_eq!(next(&case, &memory, &at(30)), Step::GiveUp);
    let case = after(&case, &Step::GiveUp, &mut memory, &at(30));
    let told = tell::alert(&case).unwrap();
    assert_eq!((told.labels["alertname"].as_str(), told.labels["resource"].as_str()), (tell::FAILED, "memory"));
    assert_eq!(next(&case, &memory, &at(31)), Step::Wait { why: Some(Refusal::BudgetSpent) });
    // There is something to give up again.
    memory.containers = vec![seen("worker")];
    assert_eq!(next(&case, &memory, &at(32)), stop("worker"));
    assert_eq!(after(&case, &stop("worker"), &mut memory, &at(32)).incident.state, IncidentState::Relieving);
}

#[test]
fn what_was_stopped_is_started_again_after_a_while_of_plenty() {
    let mut memory = critical(Resource::Memory);
    let mut case = after(&opened(&memory), &stop("worker"), &mut memory, &at(0));
    memory.containers[0].runs = false;
    memory.under_way.clear();
    // Its start time is from before, and it does not run: it was stopped, whoever lived to see it.
    let step = next(&case, &memory, &at(1));
    assert!(matches!(&step, Step::Judge { outcome: AttemptOutcome::Helped, .. }), "{step:?}");
    case = after(&case, &step, &mut memory, &at(1));
    let told = tell::alert(&case).unwrap();
    assert_eq!(told.labels["alertname"], tell::STOPPED);
    assert!(told.annotations["summary"].contains("photos/worker"));
    memory.level = Level::Plenty;
    for expected in [Step::Calm, Step::Plenty(true)] {
        assert_eq!(next(&case, &memory, &at(10)), expected);
        case = after(&case, &expected, &mut memory, &at(10));
    }
    let start = Step::Act(Remedy::Start { container_id: "id-worker".into() });
    assert_eq!(next(&case, &memory, &at(609)), Step::Wait { why: Some(Refusal::CoolingDown) });
    assert_eq!(next(&case, &memory, &at(610)), start);
    // Less room in between: the time begins anew.
    memory.level = Level::Room;
    assert_eq!(next(&case, &memory, &at(610)), Step::Plenty(false));
    memory.level = Level::Plenty;
    // The second time it takes twice as long.
    case.memory.relief.times.insert("id-worker".into(), 2);
    assert_eq!(next(&case, &memory, &at(1209)), Step::Wait { why: Some(Refusal::CoolingDown) });
    assert_eq!(next(&case, &memory, &at(1210)), start);
    case = after(&case, &start, &mut memory, &at(1210));
    (memory.containers[0].runs, memory.containers[0].started_at) = (true, wall(1211));
    memory.under_way.clear();
    let step = next(&case, &memory, &at(1212));
    assert!(matches!(&step, Step::Judge { outcome: AttemptOutcome::Helped, .. }), "{step:?}");
    case = after(&case, &step, &mut memory, &at(1212));
    assert!(case.memory.relief.stopped.is_empty());
    assert_eq!(next(&case, &memory, &at(1300)), Step::Close);
    case = after(&case, &Step::Close, &mut memory, &at(1300));
    assert_eq!(case.incident.outcome, Some(Outcome::Recovered));
}

#[test]
fn a_persons_word_counts_more_than_our_plan() {
    let check = |change: fn(&mut Situation), expected: &str| {
        let mut memory = critical(Resource::Memory);
        let case = after(&opened(&memory), &stop("worker"), &mut memory, &at(0));
        memory.containers[0].runs = false;
        let case = ended_well(&case, &mut memory, &at(1));
        change(&mut memory);
        match next(&case, &memory, &at(2)) {
            Step::Forget { container_id, why } => assert_eq!((container_id.as_str(), why), ("id-worker", expected)),
            step => panic!("{step:?}"),
        }
    };
    check(|memory| _ = memory.containers.remove(0), "is gone or was created anew");
    check(|memory| memory.containers[0].runs = true, "was started by somebody else");
    check(|memory| memory.containers[0].started_at = wall(1), "was started and stopped by somebody else");
}

#[test]
fn an_intent_that_nobody_carried_out_ends_without_a_claim() {
    let mut memory = critical(Resource::Memory);
    let case = after(&opened(&memory), &stop("worker"), &mut memory, &at(0));
    // The healer died, and Docker may still be at it.
    memory.under_way.clear();
    assert_eq!(next(&case, &memory, &at(29)), Step::Wait { why: Some(Refusal::Verifying) });
    let step = next(&case, &memory, &at(30));
    assert!(matches!(&step, Step::Judge { outcome: AttemptOutcome::Interrupted, .. }), "{step:?}");
    let case = after(&case, &step, &mut memory, &at(30));
    assert_eq!(next(&case, &memory, &at(33)), stop("worker"), "it is tried again");
    memory.level = Level::Plenty;
    // Nor does it hold up the end for longer than a signal works.
    let over = 30 + SIGNAL_WORKS_WITHIN.as_secs();
    let forgets = Step::Forget { container_id: "id-worker".into(), why: "has outlived its stop" };
    assert_eq!(next(&case, &memory, &at(over - 1)), Step::Calm);
    assert_eq!(next(&case, &memory, &at(over)), forgets);
}

#[test]
fn a_stop_that_docker_answers_late_is_ours_as_long_as_it_may_work() {
    for outcome in [AttemptOutcome::Failed, AttemptOutcome::Interrupted] {
        let mut memory = critical(Resource::Memory);
        let case = after(&opened(&memory), &stop("worker"), &mut memory, &at(0));
        let attempt = case.attempts[0].attempt.id;
        let step = Step::Judge { attempt, outcome, detail: "did not receive an exit event".into() };
        let mut case = after(&case, &step, &mut memory, &at(20));
        memory.level = Level::Plenty;
        for step in [Step::Calm, Step::Plenty(true)] {
            assert_eq!(next(&case, &memory, &at(30)), step);
            case = after(&case, &step, &mut memory, &at(30));
        }
        // It still runs, so there is nothing to start and nothing is over.
        assert_eq!(next(&case, &memory, &at(619)), Step::Wait { why: Some(Refusal::Verifying) });
        memory.containers[0].runs = false;
        assert_eq!(next(&case, &memory, &at(619)), Step::Wait { why: Some(Refusal::CoolingDown) });
        let start = Step::Act(Remedy::Start { container_id: "id-worker".into() });
        assert_eq!(next(&case, &memory, &at(630)), start);
        // Its owner was faster.
        (memory.containers[0].runs, memory.containers[0].started_at) = (true, wall(600));
        let forgets = Step::Forget { container_id: "id-worker".into(), why: "was started by somebody else" };
        assert_eq!(next(&case, &memory, &at(630)), forgets);
    }
}

#[test]
fn a_stop_does_not_take_longer_than_there_is_time() {
    let mut memory = critical(Resource::Memory);
    memory.left = Some(SignedDuration::from_secs(12));
    let case = after(&opened(&memory), &stop("worker"), &mut memory, &at(0));
    assert_eq!(case.attempts[0].memory.stop_timeout, SignedDuration::from_secs(4));
    assert_eq!(in_time(SignedDuration::from_secs(10), None), SignedDuration::from_secs(10));
    assert_eq!(in_time(SignedDuration::from_secs(10), Some(SignedDuration::ZERO)), SignedDuration::from_secs(1));
}

#[test]
fn in_a_hurry_nothing_waits_for_the_effect_of_what_came_before() {
    let mut disk = critical(Resource::Disk);
    disk.left = Some(SignedDuration::from_secs(5));
    let case = after(&opened(&disk), &Step::Act(Remedy::Ballast), &mut disk, &at(0));
    let case = ended_well(&case, &mut disk, &at(0));
    disk.ballast = 0;
    assert_eq!(next(&case, &disk, &at(0)), Step::Act(Remedy::Prune));
    let case = after(&case, &Step::Act(Remedy::Prune), &mut disk, &at(0));
    disk.last_prune = Some(at(0));
    assert_eq!(next(&case, &disk, &at(0)), stop("worker"));
    // One at a time all the same.
    let case = after(&case, &stop("worker"), &mut disk, &at(0));
    assert_eq!(next(&case, &disk, &at(1)), Step::Wait { why: Some(Refusal::Verifying) });
}

#[test]
fn keys_are_the_machines_own() {
    for resource in Resource::ALL {
        assert_eq!(Resource::of(&resource.key()), Some(resource));
    }
    assert_eq!(Resource::of(&ServiceKey::new("photos", "disk")), None);
    assert_eq!(bytes(3 << 30), "3.0 GiB");
    assert_eq!(bytes(1536 * MIB), "1.5 GiB");
    assert_eq!(bytes(1023), "1023 B");
}

/// A machine with containers that use up its disk or memory, in virtual time, and what may go wrong with it.
#[derive(Clone, Debug)]
struct Fate {
    resource: Resource,
    may_prune: bool,
    may_stop: bool,
    ballast: u64,
    prunable: u64,
    /// MiB a second of each container, and whether it is expendable.
    containers: Vec<(u64, bool)>,
    /// After this many seconds everybody stops using more, and half is freed.
    trouble: i64,
    /// What Docker does with each call, one after the other: carries it out, refuses, or hangs.
    temper: Vec<u8>,
    /// Moments at which the healer is started anew.
    crashes: Vec<i64>,
    /// Moments at which somebody starts what does not run.
    humans: Vec<i64>,
}

fn fates() -> impl Strategy<Value = Fate> {
    let resource = prop_oneof![Just(Resource::Disk), Just(Resource::Memory)];
    let containers = prop::collection::vec((0_u64..8, any::<bool>()), 1..6);
    let moments = || prop::collection::vec(0_i64..900, 0..4);
    let temper = prop::collection::vec(0_u8..6, 1..8);
    let switches = (any::<bool>(), any::<bool>(), 0_u64..200, 0_u64..400);
    (resource, switches, containers, 30_i64..600, temper, moments(), moments()).prop_map(
        |(resource, (may_prune, may_stop, ballast, prunable), containers, trouble, temper, crashes, humans)| Fate {
            resource,
            may_prune,
            may_stop,
            ballast: if resource == Resource::Disk { ballast * MIB } else { 0 },
            prunable: prunable * MIB,
            containers,
            trouble,
            temper,
            crashes,
            humans,
        },
    )
}

struct Machine {
    fate: Fate,
    used: u64,
    held: Vec<u64>,
    ballast: u64,
    prunable: u64,
    containers: Vec<Seen>,
    /// Stopped by us and by nobody else touched since.
    ours: BTreeSet<String>,
    calls: usize,
    acts: Vec<(Uuid, Remedy, i64)>,
}

const TOTAL: u64 = 4096 * MIB;

impl Machine {
    fn new(fate: Fate) -> Self {
        let containers = fate
            .containers
            .iter()
            .enumerate()
            .map(|(number, (_, expendable))| Seen { expendable: *expendable, ..seen(&format!("s{number}")) });
        Self {
            used: 3000 * MIB,
            held: vec![0; fate.containers.len()],
            ballast: fate.ballast,
            prunable: fate.prunable,
            containers: containers.collect(),
            ours: BTreeSet::new(),
            calls: 0,
            acts: Vec::new(),
            fate,
        }
    }

    fn available(&self) -> u64 {
        let held: u64 = self.held.iter().sum();
        TOTAL.saturating_sub(self.used + held + self.ballast + self.prunable)
    }

    fn second(&mut self, now: i64) {
        if now < self.fate.trouble {
            for number in 0..self.containers.len() {
                if self.containers[number].runs {
                    let room = self.available();
                    self.held[number] += (self.fate.containers[number].0 * MIB).min(room);
                }
            }
        } else {
            self.held.iter_mut().for_each(|held| *held /= 2);
            self.used = self.used.min(1500 * MIB);
        }
        if self.fate.humans.contains(&now) {
            for container in self.containers.iter_mut().filter(|container| !container.runs) {
                (container.runs, container.started_at) = (true, wall(now));
                self.ours.remove(&container.id);
            }
        }
    }

    /// What Docker makes of a call. `None`: no answer.
    fn carry_out(&mut self, remedy: &Remedy, now: i64) -> Option<AttemptOutcome> {
        let temper = self.fate.temper[self.calls % self.fate.temper.len()];
        self.calls += 1;
        match (remedy, temper) {
            (Remedy::Ballast, _) => {
                self.ballast = 0;
                return Some(AttemptOutcome::Helped);
            }
            (_, 0) => return Some(AttemptOutcome::Failed),
            (_, 1) => return None,
            (Remedy::Prune, _) => {
                self.prunable = 0;
                return Some(AttemptOutcome::Helped);
            }
            (Remedy::Stop { container_id }, _) => {
                let number = self.containers.iter().position(|it| it.id == *container_id).unwrap();
                assert!(self.containers[number].expendable, "not expendable");
                self.containers[number].runs = false;
                if self.fate.resource == Resource::Memory {
                    self.held[number] = 0;
                }
                self.ours.insert(container_id.clone());
            }
            (Remedy::Start { container_id }, _) => {
                let container = self.containers.iter_mut().find(|it| it.id == *container_id).unwrap();
                assert!(self.ours.remove(container_id), "not ours to start");
                (container.runs, container.started_at) = (true, wall(now));
            }
        }
        None
    }
}

fn play(fate: Fate) -> Result<(), TestCaseError> {
    let mut machine = Machine::new(fate.clone());
    let mut series = Series::default();
    let mut level = Level::Plenty;
    let mut case: Option<Case> = None;
    let mut last_prune = None;
    let mut under_way: BTreeMap<Uuid, i64> = BTreeMap::new();
    // Long enough for the longest wait before a start, also when starts fail.
    let end = fate.trouble + 400_000;
    let mut time = 0;
    while time < end {
        machine.second(time);
        if fate.crashes.contains(&time) {
            under_way.clear();
        }
        let now = at(time);
        let used = TOTAL - machine.available();
        series.note(now.boottime, used);
        let amount = Amount { available: machine.available(), total: TOTAL, stalled: None };
        let (judged, left) = match fate.resource {
            Resource::Disk => eyes::disk_level(&amount, &series, level),
            Resource::Memory => eyes::memory_level(&amount, &series, level),
        };
        level = judged;
        // A call that hangs is given up by its deadline.
        under_way.retain(|_, until| *until > time);
        let situation = |machine: &Machine, under_way: &BTreeMap<Uuid, i64>, last_prune: &Option<Now>| Situation {
            resource: fate.resource,
            level,
            available: machine.available(),
            left,
            may_prune: fate.may_prune,
            may_stop: fate.may_stop,
            ballast: machine.ballast,
            last_prune: last_prune.clone(),
            containers: machine.containers.clone(),
            docker_up: true,
            journal_writable: true,
            silenced: false,
            held: None,
            under_way: under_way.keys().copied().collect(),
            stable_for: SignedDuration::from_secs(60),
            start_after: SignedDuration::from_mins(10),
        };
        if case.is_none() && level == Level::Critical {
            case = Some(open("pi", &situation(&machine, &under_way, &last_prune), ("X", now.wall), &now).case);
        }
        let mut steps = 0;
        while let Some(current) = &case {
            let facts = situation(&machine, &under_way, &last_prune);
            let step = next(current, &facts, &now);
            let Some(changed) = apply(current, &step, &facts, &now) else { break };
            steps += 1;
            prop_assert!(steps <= 16, "decisions go round in circles: {step:?}");
            let changed = changed.case;
            let open = |wanted: fn(&str) -> bool| {
                let all = changed.attempts.iter().filter(|it| it.attempt.outcome.is_none());
                all.filter(|it| wanted(&it.attempt.action)).count()
            };
            prop_assert!(open(|action| action != "prune") <= 1 && open(|action| action == "prune") <= 1);
            if let Step::Act(remedy) = &step {
                match remedy {
                    Remedy::Prune => {
                        prop_assert!(fate.may_prune);
                        let often = last_prune.as_ref().is_some_and(|last| now.since(last) < PRUNE_EVERY);
                        prop_assert!(!often, "pruned again");
                        last_prune = Some(now.clone());
                    }
                    Remedy::Stop { .. } => prop_assert!(fate.may_stop),
                    Remedy::Ballast => prop_assert!(machine.ballast > 0),
                    Remedy::Start { .. } => (),
                }
                let stops = changed.attempts.iter().filter(|it| it.attempt.action != "start").count();
                prop_assert!(stops <= MOST_ACTS);
                let attempt = changed.attempts.last().unwrap().attempt.id;
                machine.acts.push((attempt, remedy.clone(), time));
                under_way.insert(attempt, time + 30);
            }
            case = changed.is_open().then_some(changed);
            if matches!(step, Step::Wait { .. }) {
                break;
            }
        }
        for (attempt, remedy, _) in std::mem::take(&mut machine.acts) {
            let outcome = machine.carry_out(&remedy, time);
            let is_told = under_way.contains_key(&attempt);
            match (outcome, &case) {
                (Some(outcome), Some(current)) if is_told => {
                    under_way.remove(&attempt);
                    let facts = situation(&machine, &under_way, &last_prune);
                    let step = Step::Judge { attempt, outcome, detail: "answered".into() };
                    case = Some(apply(current, &step, &facts, &now).unwrap().case);
                }
                // Docker's facts will tell.
                _ => _ = under_way.remove(&attempt),
            }
        }
        // Nothing happens for hours: the steps may grow.
        time += if time < fate.trouble + 1000 { 1 } else { 30 };
        if case.is_none() && time > fate.trouble + 1000 {
            break;
        }
    }
    prop_assert!(case.is_none(), "never closed: {:?}", case.map(|case| (case.incident, case.memory.relief)));
    let left = machine.containers.iter().filter(|it| !it.runs).map(|it| &it.id).collect::<Vec<_>>();
    prop_assert!(left.is_empty(), "left stopped: {left:?}");
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]
    #[test]
    fn nothing_is_done_that_is_not_allowed_and_everything_is_taken_back(fate in fates()) {
        play(fate)?;
    }
}

#[test]
fn a_pause_of_everything_and_a_maintenance_window_hold_it_all_back() {
    for why in [Refusal::HealingPaused, Refusal::MaintenanceWindow] {
        let wait = Step::Wait { why: Some(why) };
        let mut disk = Situation { held: Some(why), ..critical(Resource::Disk) };
        let case = opened(&disk);
        assert_eq!(next(&case, &disk, &at(0)), wait, "not even the ballast");
        let held = apply(&case, &wait, &disk, &at(0)).unwrap().case;
        assert_eq!(held.incident.refusal, Some(why));
        assert!(apply(&held, &wait, &disk, &at(1)).is_none(), "told once");
        disk.held = None;
        assert_eq!(next(&held, &disk, &at(2)), Step::Act(Remedy::Ballast));
        // What was stopped before stays so until it is over.
        let mut memory = critical(Resource::Memory);
        let case = after(&opened(&memory), &stop("worker"), &mut memory, &at(0));
        let case = ended_well(&case, &mut memory, &at(1));
        memory.containers[0].runs = false;
        memory.level = Level::Plenty;
        let case = after(&case, &Step::Calm, &mut memory, &at(2));
        let case = after(&case, &Step::Plenty(true), &mut memory, &at(2));
        let start = Step::Act(Remedy::Start { container_id: "id-worker".into() });
        assert_eq!(next(&case, &memory, &at(700)), start);
        memory.held = Some(why);
        assert_eq!(next(&case, &memory, &at(700)), wait);
    }
}

#[test]
fn what_its_owner_has_paused_is_not_started_before_that_is_over_and_others_are() {
    let mut memory = critical(Resource::Memory);
    let mut case = opened(&memory);
    for (place, name) in ["worker", "index"].into_iter().enumerate() {
        case = after(&case, &stop(name), &mut memory, &at(0));
        memory.containers[place].runs = false;
        case = ended_well(&case, &mut memory, &at(1));
    }
    memory.level = Level::Plenty;
    for expected in [Step::Calm, Step::Plenty(true)] {
        assert_eq!(next(&case, &memory, &at(10)), expected);
        case = after(&case, &expected, &mut memory, &at(10));
    }
    let start = |name: &str| Step::Act(Remedy::Start { container_id: format!("id-{name}") });
    for (held, expected) in [
        ([Some(Refusal::HealingPaused), None], start("index")),
        ([None, Some(Refusal::MaintenanceWindow)], start("worker")),
        ([Some(Refusal::HealingPaused); 2], Step::Wait { why: Some(Refusal::HealingPaused) }),
        ([None, None], start("index")),
    ] {
        (memory.containers[0].held, memory.containers[1].held) = held.into();
        assert_eq!(next(&case, &memory, &at(700)), expected, "{held:?}");
    }
}

#[test]
fn it_gives_up_although_the_clock_was_set_back() {
    let mut memory = critical(Resource::Memory);
    memory.containers.clear();
    let case = opened(&memory);
    assert_eq!(next(&case, &memory, &at(29)), Step::Wait { why: Some(Refusal::BudgetSpent) });
    assert_eq!(next(&case, &memory, &Now { wall: at(-3_600).wall, ..at(60) }), Step::GiveUp);
}
