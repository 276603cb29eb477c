//! The decisions in a world of virtual time: services that fall ill, mend, need each other, are slow to start and to stop, are
//! stopped by people, paused, silenced, in maintenance and recreated, a healer that is killed, a disk that fills, a Docker that
//! goes away, clocks that jump. Whatever the order, the promises hold.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Health, Snapshot, Status, StopCause, Watched};
use nexus_model::{IncidentState, api::ModeSource, labels};
use proptest::prelude::*;

use super::*;
use crate::{
    budget::{self, BUDGET_WINDOW, DAY, Restarts},
    dependencies::{self, Needed},
    facts::{HostFacts, Stops},
    hold::{self, Hold, Illnesses},
    modes::Effective,
    policy::Policy,
    testing::{at, container, seen},
    transition::{self, Changed},
};

const SERVICES: usize = 3;
const MOST: u32 = 6;
/// Within reach of a play.
const MOST_A_DAY: u32 = 9;
/// All of them.
const HOLD_WHEN_ILL: u32 = 3;
/// How long Docker takes for a restart: longer than the shortest backoff, shorter than what an intent is granted.
const RESTART_TAKES: SignedDuration = SignedDuration::from_secs(15);

#[derive(Clone, Debug)]
enum Step {
    Pass(u16),
    FallIll(usize),
    Mend(usize),
    Exit(usize),
    HumanStops(usize),
    /// `docker stop` of one that takes so many seconds to end.
    HumanStopsSlowly(usize, u8),
    HumanStarts(usize),
    Pause(usize),
    Recreate(usize),
    /// Whether a restart from now on makes it well.
    Temper(usize, bool),
    Mode(usize, Mode),
    /// Its owner wants nothing restarted for so many seconds.
    Hold(usize, u16),
    /// The same of all, by a window of the policy.
    Maintenance(u16),
    Silence(usize, bool),
    /// Whether the second service needs the first.
    Needs(bool),
    Alert(usize),
    /// kill -9; whether Docker had heard of a restart under way.
    Crash(bool),
    Docker(bool),
    Disk(bool),
    /// NTP steps the wall clock by so many minutes.
    WallJump(i16),
    Reboot(i16),
}

fn step() -> impl Strategy<Value = Step> {
    let service = || 0..SERVICES;
    let mode = prop_oneof![8 => Just(Mode::Heal), 1 => Just(Mode::Shadow), 1 => Just(Mode::Off)];
    prop_oneof![
        6 => (1..900_u16).prop_map(Step::Pass),
        4 => service().prop_map(Step::FallIll),
        1 => service().prop_map(Step::Mend),
        2 => service().prop_map(Step::Exit),
        1 => service().prop_map(Step::HumanStops),
        2 => (service(), 1..55_u8).prop_map(|(service, seconds)| Step::HumanStopsSlowly(service, seconds)),
        1 => service().prop_map(Step::HumanStarts),
        1 => service().prop_map(Step::Pause),
        1 => service().prop_map(Step::Recreate),
        2 => (service(), any::<bool>()).prop_map(|(service, mends)| Step::Temper(service, mends)),
        1 => (service(), mode).prop_map(|(service, mode)| Step::Mode(service, mode)),
        1 => (service(), 1..3_600_u16).prop_map(|(service, seconds)| Step::Hold(service, seconds)),
        1 => (1..3_600_u16).prop_map(Step::Maintenance),
        1 => (service(), any::<bool>()).prop_map(|(service, silenced)| Step::Silence(service, silenced)),
        1 => any::<bool>().prop_map(Step::Needs),
        6 => service().prop_map(Step::Alert),
        2 => any::<bool>().prop_map(Step::Crash),
        1 => any::<bool>().prop_map(Step::Docker),
        1 => any::<bool>().prop_map(Step::Disk),
        1 => (-90..90_i16).prop_map(Step::WallJump),
        1 => (-90..90_i16).prop_map(Step::Reboot),
    ]
}

struct Fake {
    container: Container,
    stop: StopCause,
    mends: bool,
    mode: Mode,
    /// A human stopped it while an intent of ours stood: then the recorded intent wins.
    ambiguous: bool,
    has_been_healthy: bool,
    /// When its run began, and how often the wall clock had been set by then.
    began: (Now, u32),
    /// While a human's stop is under way: when it was asked for, how often the wall clock had been set by then, and when it ends.
    stopping: Option<(Now, u32, Now)>,
    held: Option<Span>,
    silenced: bool,
}

/// A time with an end.
struct Span {
    until: Now,
    length: SignedDuration,
}

impl Span {
    fn of(seconds: u16, now: &Now) -> Self {
        let length = SignedDuration::from_secs(seconds.into());
        Self { until: now.after(length), length }
    }

    /// Its end, while it lasts.
    fn end(&self, now: &Now) -> Option<Now> {
        let left = now.until_at_most(&self.until, self.length);
        (left > SignedDuration::ZERO).then(|| now.after(left))
    }
}

/// What the healer has asked Docker for.
struct Call {
    service: usize,
    done_at: Now,
    /// The healer that asked still lives and waits for the answer.
    waited_for: bool,
}

struct World {
    now: Now,
    fakes: Vec<Fake>,
    created: u32,
    docker_up: bool,
    disk_ok: bool,
    maintenance: Option<Span>,
    needs: bool,
    /// How often the wall clock was set.
    jumps: u32,
    policy: Policy,
    // What is on the disk; the healer keeps nothing else, but for the call that it waits for.
    cases: BTreeMap<usize, Case>,
    prompts: [bool; SERVICES],
    budget: Restarts,
    /// All restarts, and those among them that count against the budget of a container.
    restarts: usize,
    charged: Vec<(Now, String)>,
    /// The same for the budget of a day.
    charged_today: Vec<(Now, String)>,
    call: Option<Call>,
    /// What is ill, which a healer that is killed forgets, and the hold, which it does not.
    illnesses: Illnesses,
    hold: Option<Hold>,
    randomness: u32,
}

impl World {
    fn new(policy: Policy) -> Self {
        let fake = |index: usize| Fake {
            container: Container {
                id: format!("c{index}-0"),
                name: format!("shop-s{index}-1"),
                health: Health::Healthy,
                started_at: Some(at(-100).wall),
                labels: [(labels::COMPOSE_PROJECT, "shop"), (labels::COMPOSE_SERVICE, &*format!("s{index}"))]
                    .map(|(name, value)| (name.to_owned(), value.to_owned()))
                    .into(),
                ..container()
            },
            stop: StopCause::Unknown,
            mends: true,
            mode: Mode::Heal,
            ambiguous: false,
            has_been_healthy: true,
            began: (at(-100), 0),
            stopping: None,
            held: None,
            silenced: false,
        };
        Self {
            now: at(0),
            fakes: (0..SERVICES).map(fake).collect(),
            created: 0,
            docker_up: true,
            disk_ok: true,
            maintenance: None,
            needs: false,
            jumps: 0,
            policy,
            cases: BTreeMap::new(),
            prompts: [false; SERVICES],
            budget: Restarts::default(),
            restarts: 0,
            charged: Vec::new(),
            charged_today: Vec::new(),
            call: None,
            illnesses: Illnesses::default(),
            hold: None,
            randomness: 1,
        }
    }

    /// Start times are told apart by Docker's clock, which is the wall clock; two starts are never at the same moment.
    fn fresh_start(&mut self) -> Option<Timestamp> {
        self.randomness = self.randomness.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        Some(self.now.wall + SignedDuration::from_nanos(i64::from(self.randomness)))
    }

    fn random(&mut self) -> f64 {
        self.randomness = self.randomness.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        f64::from(self.randomness) / f64::from(u32::MAX)
    }

    fn take(&mut self, step: &Step) {
        match *step {
            Step::Pass(seconds) => self.pass(SignedDuration::from_secs(seconds.into())),
            Step::FallIll(it) => self.set_health(it, Health::Unhealthy),
            Step::Mend(it) => self.set_health(it, Health::Healthy),
            Step::Exit(it) => self.end(it, StopCause::Itself),
            Step::HumanStops(it) => self.end(it, StopCause::Requested { at: self.now.wall }),
            Step::HumanStopsSlowly(it, seconds) => {
                let restarting = self.cases.get(&it).is_some_and(Case::is_restarting);
                if self.fakes[it].container.status == Status::Running && !self.is_busy(it) {
                    let fake = &mut self.fakes[it];
                    fake.stop = StopCause::Requested { at: self.now.wall };
                    fake.ambiguous = restarting;
                    let ends = self.now.after(SignedDuration::from_secs(seconds.into()));
                    fake.stopping = Some((self.now.clone(), self.jumps, ends));
                }
            }
            Step::HumanStarts(it) => {
                if self.fakes[it].container.status != Status::Running && !self.is_busy(it) {
                    self.start(it, Health::Healthy);
                }
            }
            Step::Pause(it) => {
                if self.fakes[it].container.status == Status::Running && self.fakes[it].stopping.is_none() {
                    self.fakes[it].container.status = Status::Paused;
                }
            }
            Step::Recreate(it) => {
                self.created += 1;
                // The old container is removed, and with it whatever Docker was doing to it.
                self.call = self.call.take().filter(|call| call.service != it);
                self.fakes[it].container.id = format!("c{it}-{}", self.created);
                self.start(it, Health::Healthy);
            }
            Step::Temper(it, mends) => self.fakes[it].mends = mends,
            Step::Mode(it, mode) => self.fakes[it].mode = mode,
            Step::Hold(it, seconds) => self.fakes[it].held = Some(Span::of(seconds, &self.now)),
            Step::Maintenance(seconds) => self.maintenance = Some(Span::of(seconds, &self.now)),
            Step::Silence(it, silenced) => self.fakes[it].silenced = silenced,
            Step::Needs(needs) => self.needs = needs,
            // Without room on the disk the webhook answers 503 and Alertmanager keeps the alert.
            Step::Alert(it) => self.prompts[it] |= self.disk_ok,
            Step::Crash(docker_heard) => {
                self.illnesses = Illnesses::default();
                if let Some(call) = &mut self.call {
                    call.waited_for = false;
                    if !docker_heard {
                        self.call = None;
                    }
                }
            }
            Step::Docker(up) => self.docker_up = up,
            Step::Disk(ok) => self.disk_ok = ok,
            Step::WallJump(minutes) => {
                self.jumps += 1;
                self.now.wall += SignedDuration::from_mins(minutes.into());
            }
            Step::Reboot(minutes) => {
                self.jumps += 1;
                self.now.wall += SignedDuration::from_mins(minutes.into());
                self.now.boottime = SignedDuration::from_secs(20);
                self.now.boot_id.push('+');
                self.illnesses = Illnesses::default();
                // Docker comes back with the boot, and starts what was running.
                self.call = None;
                for it in 0..SERVICES {
                    if self.fakes[it].container.status == Status::Running {
                        let health = self.fakes[it].container.health;
                        self.start(it, health);
                    }
                }
            }
        }
        self.settle();
    }

    /// Docker does one thing at a time to a container.
    fn is_busy(&self, it: usize) -> bool {
        self.fakes[it].stopping.is_some() || self.call.as_ref().is_some_and(|call| call.service == it)
    }

    fn set_health(&mut self, it: usize, health: Health) {
        if self.fakes[it].container.status == Status::Running {
            self.fakes[it].container.health = health;
            self.fakes[it].has_been_healthy |= health == Health::Healthy;
        }
    }

    fn end(&mut self, it: usize, stop: StopCause) {
        if self.fakes[it].container.status == Status::Running {
            let restarting = self.cases.get(&it).is_some_and(Case::is_restarting);
            let fake = &mut self.fakes[it];
            // Whatever it ends of, the signal was told before.
            let stop = match &fake.stopping {
                Some((asked, ..)) => StopCause::Requested { at: asked.wall },
                None => stop,
            };
            (fake.container.status, fake.container.exit_code, fake.stop) = (Status::Exited, 1, stop);
            fake.container.finished_at = Some(self.now.wall);
            fake.ambiguous = restarting || (fake.ambiguous && fake.stopping.is_some());
            fake.stopping = None;
        }
    }

    fn start(&mut self, it: usize, health: Health) {
        let started_at = self.fresh_start();
        let fake = &mut self.fakes[it];
        (fake.container.status, fake.container.health, fake.stop) = (Status::Running, health, StopCause::Unknown);
        fake.container.started_at = started_at;
        fake.has_been_healthy = health == Health::Healthy;
        (fake.began, fake.stopping) = ((self.now.clone(), self.jumps), None);
    }

    /// Lets time pass, from one moment at which something is due to the next.
    fn pass(&mut self, duration: SignedDuration) {
        let end = self.now.after(duration);
        for _ in 0..10_000 {
            self.settle();
            let left = self.now.until(&end);
            if left == SignedDuration::ZERO {
                return;
            }
            let due = self.cases.keys().filter_map(|&it| self.due(it)).map(|due| self.now.until(&due));
            let call = self.call.as_ref().map(|call| self.now.until(&call.done_at));
            let ends = self.fakes.iter().filter_map(|fake| fake.stopping.as_ref());
            let ends = ends.map(|(.., ends)| self.now.until(ends));
            let next = due.chain(call).chain(ends).filter(|next| *next > SignedDuration::ZERO).min().unwrap_or(left);
            self.now = self.now.after(next.min(left));
            if self.call.as_ref().is_some_and(|call| self.now.until(&call.done_at) == SignedDuration::ZERO) {
                self.docker_carries_out();
            }
            for it in 0..SERVICES {
                let ends = self.fakes[it].stopping.as_ref().map(|(.., ends)| ends);
                if ends.is_some_and(|ends| self.now.until(ends) == SignedDuration::ZERO) {
                    self.end(it, StopCause::Itself);
                }
            }
        }
        panic!("time stands still");
    }

    fn due(&self, it: usize) -> Option<Now> {
        match decide(self.cases.get(&it)?, &self.facts(it), &self.now) {
            Decision::Wait { until, .. } => until,
            _ => None,
        }
    }

    fn docker_carries_out(&mut self) {
        let Some(call) = self.call.take() else { return };
        let mends = self.fakes[call.service].mends;
        self.start(call.service, if mends { Health::Healthy } else { Health::Unhealthy });
    }

    fn facts(&self, it: usize) -> Facts {
        let fake = &self.fakes[it];
        let (recent_restarts, room_at) = self.budget.on_host(&self.now);
        let asks_for_care = self.hold.as_ref().is_some_and(|hold| hold.asks_for_care(&self.now));
        let occupies =
            |case: &Case| case.is_restarting() || (asks_for_care && case.incident.state == IncidentState::Verifying);
        let restarting = self.cases.iter().any(|(&other, case)| other != it && occupies(case));
        Facts {
            healing: self.policy.healing.clone(),
            docker_up: self.docker_up,
            own_stack: false,
            mode: Effective { mode: fake.mode, source: ModeSource::Label, protected: None },
            maintenance_until: self.maintenance.as_ref().and_then(|span| span.end(&self.now)),
            containers: vec![ContainerFacts {
                stop: fake.stop,
                has_been_healthy: fake.has_been_healthy,
                ..seen(fake.container.clone())
            }],
            host: HostFacts {
                restart_under_way: restarting,
                recent_restarts,
                room_at,
                hold_until: self.hold.as_ref().and_then(|hold| hold.until(&self.now)),
            },
            spent_today: self.budget.spent_today([fake.container.id.as_str()].into_iter(), &self.now),
            act_under_way: self.call.as_ref().is_some_and(|call| call.service == it && call.waited_for),
            journal_writable: self.disk_ok,
            silenced: fake.silenced,
            may_start: false,
            paused_until: fake.held.as_ref().and_then(|span| span.end(&self.now)),
            needed: self.needed(it),
            says_it_is_starting: false,
            network_gone: false,
        }
    }

    /// What a service needs and is not well.
    fn needed(&self, it: usize) -> Vec<Needed> {
        let first = &self.fakes[0].container;
        let is_well = first.status == Status::Running && first.health == Health::Healthy;
        let needed = Needed {
            key: ServiceKey::new("shop", "s0"),
            problem: "ill".into(),
            why: Refusal::DependencyDown,
            settles_within: SignedDuration::ZERO,
            is_only_watched: false,
        };
        if self.needs && it == 1 && !is_well { vec![needed] } else { Vec::new() }
    }

    fn watch_the_host(&mut self) {
        if !self.docker_up {
            return;
        }
        let watched = |fake: &Fake| Watched {
            container: fake.container.clone().into(),
            stop: fake.stop,
            has_been_healthy: fake.has_been_healthy,
            oom_events: 0,
        };
        let all = self.fakes.iter().map(|fake| (fake.container.id.clone(), watched(fake)));
        let snapshot = Snapshot { up: true, containers: all.collect(), ..Snapshot::default() };
        let (stops, fresh) = (Stops::new(), BTreeSet::new());
        let cases = self.cases.values().map(|case| (case.key(), case.clone())).collect();
        let world = dependencies::World {
            probes: &BTreeMap::new(),
            snapshot: &snapshot,
            stops: &stops,
            cases: &cases,
            fresh: &fresh,
            now: self.now.wall,
        };
        let seen = hold::look(&world, &self.illnesses, "nexus", |_, _| Mode::Heal);
        self.illnesses.follow(&seen, &self.now);
        let healing = &self.policy.healing;
        let next = hold::next(self.hold.as_ref(), &mut self.illnesses, &world, "nexus", healing, &self.now);
        if self.disk_ok {
            self.hold = next;
        }
    }

    /// The worker's loop, once everything has been decided.
    fn settle(&mut self) {
        self.watch_the_host();
        for it in 0..SERVICES {
            if self.prompts[it] && !self.cases.contains_key(&it) {
                match admit(&self.facts(it), None) {
                    Ok(found) => {
                        let key = nexus_model::ServiceKey::new("shop", format!("s{it}"));
                        let id = self.fakes[it].container.id.clone();
                        let carried = self.budget.spent([id.as_str()].into_iter(), &self.now);
                        let opened = transition::open("pi", &key, ("A", self.now.wall), found, carried, &self.now);
                        self.commit(it, opened);
                    }
                    // Kept until Docker answers.
                    Err(Refusal::DockerUnavailable) => continue,
                    Err(_) => (),
                }
            }
            if self.docker_up && self.disk_ok {
                self.prompts[it] = false;
            }
            for round in 0.. {
                assert!(round < 16, "decisions go round in circles: {:?}", self.cases[&it]);
                let Some(case) = self.cases.get(&it).cloned() else { break };
                let facts = self.facts(it);
                let decision = decide(&case, &facts, &self.now);
                if let Decision::Restart { container_id } = &decision {
                    self.restart(it, &case, container_id, &facts);
                    break;
                }
                let random = self.random();
                let healing = self.policy.healing.clone();
                let changed = transition::apply(&case, &decision, &facts, &healing, &self.now, random);
                let waits = matches!(decision, Decision::Wait { .. });
                if !changed.is_some_and(|changed| self.commit(it, changed)) || waits {
                    break;
                }
            }
        }
        self.check();
    }

    fn commit(&mut self, it: usize, changed: Changed) -> bool {
        if !self.disk_ok {
            return false;
        }
        if changed.case.is_open() {
            self.cases.insert(it, changed.case);
        } else {
            let attempts = &changed.case.attempts;
            assert!(attempts.iter().all(|attempt| attempt.attempt.outcome.is_some()), "closed with an open attempt");
            if matches!(changed.case.incident.outcome, Some(Outcome::Recovered | Outcome::RecoveredByItself))
                && let Some(since) = &changed.case.memory.well_since
                && since.boot_id == self.now.boot_id
            {
                let stable_for = self.policy.healing.stable_for;
                assert!(self.now.since(since) >= stable_for, "closed before it had been well for long enough");
            }
            let Case { incident, memory, .. } = &changed.case;
            self.budget.close(incident, memory);
            let stays = |(_, id): &(Now, String)| !memory.containers.contains(id);
            if budget::begins_anew(incident, memory) {
                self.charged.retain(stays);
            }
            if matches!(incident.outcome, Some(Outcome::StoppedByHuman | Outcome::SwitchedOff)) {
                self.charged_today.retain(stays);
            }
            self.cases.remove(&it);
        }
        true
    }

    /// The act itself, with everything that must hold at this moment.
    fn restart(&mut self, it: usize, case: &Case, container_id: &str, facts: &Facts) {
        let fake = &self.fakes[it];
        assert_eq!(fake.container.id, container_id);
        assert_eq!(fake.mode, Mode::Heal, "switched off or to shadow");
        assert!(self.docker_up && self.disk_ok);
        if let Some(hold) = &self.hold {
            assert!(hold.over.is_some(), "healing is on hold");
            let others = self.cases.iter().filter(|(other, _)| **other != it);
            let judged = others.filter(|(_, case)| case.incident.state == IncidentState::Verifying).count();
            assert!(!hold.asks_for_care(&self.now) || judged == 0, "the one before has not proved itself");
        }
        let unhealthy = fake.container.status == Status::Running && fake.container.health == Health::Unhealthy;
        let down = fake.container.status == Status::Exited;
        assert!(unhealthy || down, "it is not ill: {:?}", fake.container.status);
        let by_human = matches!(fake.stop, StopCause::Requested { .. });
        assert!(!(down && by_human) || fake.ambiguous, "a human stopped it");
        assert!(fake.held.as_ref().and_then(|span| span.end(&self.now)).is_none(), "its owner has paused healing");
        assert!(self.maintenance.as_ref().and_then(|span| span.end(&self.now)).is_none(), "in maintenance");
        assert!(!fake.silenced, "silenced");
        assert!(self.needed(it).is_empty(), "what it needs is not well");
        // What Docker tells by the wall clock says nothing for certain once that was set.
        if let Some((asked, jumps, _)) = &fake.stopping {
            assert!(fake.ambiguous || *jumps != self.jumps, "a human is stopping it since {asked:?}");
        }
        let (began, jumps) = &fake.began;
        let is_young = self.now.since(began) < self.policy.healing.start_patience;
        assert!(!unhealthy || fake.has_been_healthy || !is_young || *jumps != self.jumps, "it is starting");
        assert!(case.attempts_on(container_id).count() < MOST as usize, "over budget");
        // Before a reboot the clock may have stood anywhere.
        let within = |charged: &[(Now, String)], window: SignedDuration| {
            let lately = |(then, id): &&(Now, String)| {
                id == container_id && then.boot_id == self.now.boot_id && self.now.since(then) < window
            };
            charged.iter().filter(lately).count()
        };
        assert!(within(&self.charged, BUDGET_WINDOW) < MOST as usize, "over the budget of an hour");
        assert!(within(&self.charged_today, DAY) < MOST_A_DAY as usize, "over the budget of a day");
        assert!(self.call.is_none() || !self.call.as_ref().is_some_and(|call| call.waited_for), "two at once");
        // A call of a healer that was killed may still be under way; then no other one may be made on its container.
        let lost = self.call.as_ref().filter(|call| call.service == it);
        assert!(lost.is_none(), "twice for one intent");
        if let Some(last) = case.attempts_on(container_id).next_back()
            && last.memory.intended.boot_id == self.now.boot_id
        {
            let least = self.policy.healing.base_delay / 2;
            assert!(self.now.since(&last.memory.intended) >= least, "without backoff");
        }
        let recent = facts.host.recent_restarts;
        assert!(recent < self.policy.healing.restarts_per_10_minutes, "over the brake of the host");
        let changed = transition::intend(
            crate::act::Deed::Restart,
            case,
            &fake.container,
            SignedDuration::from_secs(1),
            &self.now,
        );
        if self.commit(it, changed) {
            self.budget.note(container_id, &self.now);
            self.restarts += 1;
            self.charged.push((self.now.clone(), container_id.to_owned()));
            self.charged_today.push((self.now.clone(), container_id.to_owned()));
            let done_at = self.now.after(RESTART_TAKES);
            self.call = Some(Call { service: it, done_at, waited_for: true });
        }
    }

    fn check(&self) {
        let restarting = self.cases.values().filter(|case| case.is_restarting()).count();
        assert!(restarting <= 1, "{restarting} restarts at once");
        for case in self.cases.values() {
            assert!(case.attempts.iter().filter(|attempt| attempt.attempt.outcome.is_none()).count() <= 1);
            for attempt in &case.attempts {
                assert!(case.attempts_on(&attempt.attempt.container_id).count() <= MOST as usize, "over budget");
            }
            assert_eq!(case.incident.attempts as usize, case.attempts.len());
            assert!(case.incident.failed_attempts <= case.incident.attempts);
            assert!((case.incident.state == IncidentState::Closed) == case.incident.outcome.is_some());
        }
    }

    fn hours(&mut self, hours: u16) {
        for _ in 0..hours {
            self.take(&Step::Pass(3_600));
        }
    }
}

fn policy() -> Policy {
    let healing = Healing { attempts_per_day: MOST_A_DAY, hold_when_ill: HOLD_WHEN_ILL, ..Healing::default() };
    Policy { healing, ..Policy::default() }
}

mod promises;
