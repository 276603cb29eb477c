//! Thousands of seeded runs of the decisions with the real journal, in virtual time: Docker that errs, hangs and lies, a
//! Postgres that comes and goes, a disk that fills, clocks that jump, people who meddle, and a healer that is killed at any
//! boundary of a commit and opens the journal anew. Whatever happens, in the end Postgres has every incident once, with its
//! last revision; no budget is overrun; and Docker is asked once for each intent, for one container at a time.
//!
//! Only `synchronous` is off here: nobody cuts the power (that is `tests/power_cut.rs`), and thousands of runs would wait for
//! the disk. `NEXUS_SIMULATION_SEED` plays one run again, `NEXUS_SIMULATION_RUNS` says how many there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Health, Snapshot, Status, StopCause, Watched};
use nexus_model::{
    Attempt, AttemptOutcome, Evidence, EvidenceKind, Incident, IncidentEvent, Now, Outcome, Refusal, ServiceKey, labels,
};
use serde::de::DeserializeOwned;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::{Change, Prompt, Store, Table, write};
use crate::{
    budget::{self, BUDGET_WINDOW, Restarts},
    case::Case,
    decide::{Decision, admit, decide},
    dependencies,
    facts::{self, Facts, HostFacts, Stopper, Stops},
    modes::Switches,
    policy::Policy,
    testing::{at, container, permitted},
    transition::{self, Changed},
};

/// Enough for what comes in thousands to meet everything with everything, and done within a minute on a slow machine.
const RUNS: u64 = 2_000;
const SERVICES: usize = 3;
/// As the policy has it by default.
const MOST: usize = 6;
const STOP_TIMEOUT: SignedDuration = SignedDuration::from_secs(10);
/// In the order in which they are copied; few rows at a time, so that a batch has boundaries.
const TABLES: [Table; 4] = [Table::Incidents, Table::Attempts, Table::Evidence, Table::Events];
const BATCH: u32 = 5;

/// Where random choices come from: SplitMix64, since it needs nothing but its seed.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^ (word >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }

    fn in_a_hundred(&mut self, chance: u64) -> bool {
        self.below(100) < chance
    }

    fn unit(&mut self) -> f64 {
        self.below(1_000_000) as f64 / 1_000_000.0
    }
}

/// The healer was killed: what it was doing ends here.
#[derive(Debug)]
struct Killed;

/// How Docker takes a restart.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Manner {
    /// It is done, and the answer arrives.
    Done,
    /// It is done, and the answer gets lost on the way.
    Mute,
    /// Nobody has heard of it.
    Ignored,
    /// Docker says that it did it, and did nothing.
    Lie,
    /// Docker says no, before it stops the container or after.
    Refused { stops: bool },
}

/// A container as it is, and as the healer's watcher saw it last.
struct Fake {
    container: Container,
    stop: StopCause,
    been_healthy: bool,
    watched: Watched,
    /// A restart from now on makes it well.
    mends: bool,
    /// A person stopped it while an intent of the healer's stood: then the recorded intent wins.
    ambiguous: bool,
}

/// A restart that Docker has heard of.
struct Call {
    service: usize,
    manner: Manner,
    done_at: Now,
}

/// Postgres, with the rules of the statements of the copier and of the schema.
#[derive(Default)]
struct Postgres {
    away: bool,
    incidents: BTreeMap<Uuid, Incident>,
    attempts: BTreeMap<Uuid, Attempt>,
    evidence: BTreeMap<Uuid, Evidence>,
    events: BTreeMap<Uuid, IncidentEvent>,
}

fn parsed<T: DeserializeOwned>(row: &str) -> T {
    serde_json::from_str(row).unwrap()
}

impl Postgres {
    fn insert(&mut self, table: Table, row: &str) {
        match table {
            Table::Incidents => {
                let row: Incident = parsed(row);
                if self.incidents.get(&row.id).is_none_or(|known| known.revision < row.revision) {
                    self.incidents.insert(row.id, row);
                }
            }
            Table::Attempts => {
                let row: Attempt = parsed(row);
                assert!(self.incidents.contains_key(&row.incident_id), "an attempt before its incident");
                let other =
                    self.attempts.values().find(|it| (it.incident_id, it.number) == (row.incident_id, row.number));
                assert!(other.is_none_or(|other| other.id == row.id), "two attempts of one number");
                if self.attempts.get(&row.id).is_none_or(|known| known.revision < row.revision) {
                    self.attempts.insert(row.id, row);
                }
            }
            Table::Evidence => {
                let row: Evidence = parsed(row);
                assert!(self.incidents.contains_key(&row.incident_id), "evidence before its incident");
                assert!(row.attempt_id.is_none_or(|id| self.attempts.contains_key(&id)), "evidence before its attempt");
                self.evidence.entry(row.id).or_insert(row);
            }
            Table::Events => {
                let row: IncidentEvent = parsed(row);
                assert!(self.incidents.contains_key(&row.incident_id), "an event before its incident");
                self.events.entry(row.id).or_insert(row);
            }
        }
    }
}

/// When the healer is to be killed: after so many more boundaries, of which each commit has one before and one after.
type Fuse = Option<u32>;

struct World {
    dice: Dice,
    story: String,
    now: Now,
    fakes: Vec<Fake>,
    created: u32,
    docker_up: bool,
    /// It does what it is asked for and says so.
    docker_is_honest: bool,
    watcher_lags: bool,
    disk_full: bool,
    postgres: Postgres,
    policy: Policy,
    folder: PathBuf,
    files: u32,
    fuse: Fuse,
    /// Boundaries that were passed, and how often the healer was killed at one.
    boundaries: u32,
    deaths: u32,
    // The healer: what it holds in memory, and its journal.
    store: Store,
    cases: BTreeMap<ServiceKey, Case>,
    stops: Stops,
    restarts: Restarts,
    /// It waits for Docker's answer about this service.
    waits_for: Option<usize>,
    // What is known to be on the disk, for comparison.
    on_disk: BTreeMap<ServiceKey, Case>,
    prompts_on_disk: BTreeSet<String>,
    // What Docker was asked for.
    call: Option<Call>,
    asked: BTreeMap<Uuid, u32>,
    opened: BTreeSet<Uuid>,
    charged: Vec<(Now, String)>,
}

fn key(it: usize) -> ServiceKey {
    ServiceKey::new("shop", format!("s{it}"))
}

fn open(path: &Path) -> Store {
    let store = Store::open(path).unwrap();
    store.connection.pragma_update(None, "synchronous", "OFF").unwrap();
    store
}

impl World {
    fn new(seed: u64, folder: &Path) -> Self {
        let fake = |it: usize| {
            let mut container = Container {
                id: format!("c{it}-0"),
                name: format!("shop-s{it}-1"),
                health: Health::Healthy,
                started_at: Some(at(-1_000).wall),
                ..container()
            };
            container.labels.insert(labels::COMPOSE_SERVICE.into(), format!("s{it}"));
            if it == 2 {
                container.labels.insert(labels::DEPENDS_ON.into(), "s0:service_healthy:false".into());
            }
            let watched = Watched {
                container: container.clone().into(),
                stop: StopCause::Unknown,
                has_been_healthy: true,
                oom_events: 0,
            };
            Fake { container, stop: StopCause::Unknown, been_healthy: true, watched, mends: true, ambiguous: false }
        };
        let mut world = Self {
            dice: Dice(seed),
            story: String::new(),
            now: at(0),
            fakes: (0..SERVICES).map(fake).collect(),
            created: 0,
            docker_up: true,
            docker_is_honest: false,
            watcher_lags: false,
            disk_full: false,
            postgres: Postgres::default(),
            policy: Policy::default(),
            folder: folder.to_owned(),
            files: 0,
            fuse: None,
            boundaries: 0,
            deaths: 0,
            store: open(&folder.join("journal-0.db")),
            cases: BTreeMap::new(),
            stops: Stops::new(),
            restarts: Restarts::default(),
            waits_for: None,
            on_disk: BTreeMap::new(),
            prompts_on_disk: BTreeSet::new(),
            call: None,
            asked: BTreeMap::new(),
            opened: BTreeSet::new(),
            charged: Vec::new(),
        };
        // Start times are told apart by the nanosecond, as Docker's are.
        world.now.wall += SignedDuration::from_nanos(world.dice.below(1_000_000_000) as i64);
        world
    }

    fn tell(&mut self, line: std::fmt::Arguments<'_>) {
        _ = writeln!(self.story, "{} {line}", self.now.wall);
    }

    // ---- what happens around the healer

    fn random_step(&mut self) {
        let it = self.dice.below(SERVICES as u64) as usize;
        match self.dice.below(100) {
            0..=17 => {
                let seconds = 1 + self.dice.below(600) as i64;
                self.tell(format_args!("{seconds} s pass"));
                self.pass(SignedDuration::from_secs(seconds));
            }
            18..=31 => {
                self.set_health(it, Health::Unhealthy);
                self.prompt(it);
            }
            32..=35 => self.set_health(it, Health::Healthy),
            36..=41 => {
                self.end(it, StopCause::Itself);
                self.prompt(it);
            }
            42..=44 => self.end(it, StopCause::Requested { at: self.now.wall }),
            45..=47 => self.human_starts(it),
            48..=49 => self.recreate(it),
            50..=54 => self.fakes[it].mends = self.dice.in_a_hundred(60),
            55..=56 => {
                let mode = ["true", "true", "shadow", "false"][self.dice.below(4) as usize];
                self.tell(format_args!("s{it} gets the label {mode}"));
                self.fakes[it].container.labels.insert(labels::HEAL.into(), mode.into());
            }
            57..=68 => self.prompt(it),
            69..=73 => self.docker(false),
            74..=78 => {
                let returns = !self.docker_up;
                self.docker(true);
                // One that was killed ends on its return what it finds running.
                if returns && self.dice.in_a_hundred(30) {
                    for it in 0..self.fakes.len() {
                        self.end(it, StopCause::Engine);
                        self.prompt(it);
                    }
                }
            }
            79..=80 => self.watcher_lags = !self.watcher_lags,
            81..=83 => self.disk(!self.disk_full),
            84..=88 => {
                self.postgres.away = !self.postgres.away;
                let away = self.postgres.away;
                self.tell(format_args!("postgres away: {away}"));
            }
            89..=90 => {
                let minutes = self.dice.below(180) as i64 - 90;
                self.tell(format_args!("the clock is set by {minutes} min"));
                self.now.wall += SignedDuration::from_mins(minutes);
            }
            91 => self.reboot(),
            92..=95 => self.kill("out of the blue"),
            _ => self.fuse = Some(self.dice.below(12) as u32),
        }
        self.live();
    }

    fn set_health(&mut self, it: usize, health: Health) {
        let fake = &mut self.fakes[it];
        if fake.container.status == Status::Running {
            fake.container.health = health;
            fake.been_healthy |= health == Health::Healthy;
            self.tell(format_args!("s{it} is {}", health.as_str()));
        }
    }

    fn end(&mut self, it: usize, stop: StopCause) {
        if self.fakes[it].container.status != Status::Running {
            return;
        }
        // Who was not there when it happened does not know.
        let stop = if self.docker_up { stop } else { StopCause::Unknown };
        let ambiguous = self.on_disk.get(&key(it)).is_some_and(Case::is_restarting);
        let now = self.now.wall;
        let fake = &mut self.fakes[it];
        (fake.container.status, fake.container.exit_code, fake.stop) = (Status::Exited, 1, stop);
        fake.container.finished_at = Some(now);
        fake.ambiguous = ambiguous;
        self.tell(format_args!("s{it} ends: {stop:?}"));
    }

    fn start(&mut self, it: usize, health: Health) {
        let nanos = 1 + self.dice.below(1_000_000) as i64;
        let started_at = self.now.wall + SignedDuration::from_nanos(nanos);
        let fake = &mut self.fakes[it];
        assert_ne!(fake.container.started_at, Some(started_at));
        (fake.container.status, fake.container.health, fake.stop) = (Status::Running, health, StopCause::Unknown);
        fake.container.started_at = Some(started_at);
        fake.been_healthy = health == Health::Healthy;
        self.tell(format_args!("s{it} starts, {}", health.as_str()));
    }

    fn human_starts(&mut self, it: usize) {
        // Docker does one thing at a time to a container.
        let is_busy = self.call.as_ref().is_some_and(|call| call.service == it);
        if self.docker_up && !is_busy && self.fakes[it].container.status != Status::Running {
            self.start(it, Health::Healthy);
        }
    }

    fn recreate(&mut self, it: usize) {
        if !self.docker_up {
            return;
        }
        self.created += 1;
        // The old one is taken away, and with it whatever Docker was doing to it.
        if self.call.as_ref().is_some_and(|call| call.service == it) {
            self.call = None;
            self.waits_for = None;
        }
        self.fakes[it].container.id = format!("c{it}-{}", self.created);
        self.tell(format_args!("s{it} is created anew"));
        self.start(it, Health::Healthy);
    }

    /// Docker goes, and with it what it was about to do; what it has stopped by then stays down.
    fn docker(&mut self, up: bool) {
        self.tell(format_args!("docker up: {up}"));
        self.docker_up = up;
        if !up {
            self.call = None;
            self.waits_for = None;
        }
    }

    fn disk(&mut self, full: bool) {
        self.tell(format_args!("disk full: {full}"));
        self.disk_full = full;
        self.store.connection.pragma_update(None, "query_only", full).unwrap();
    }

    fn reboot(&mut self) {
        let minutes = self.dice.below(180) as i64 - 90;
        self.tell(format_args!("the machine boots, with a clock that is {minutes} min off"));
        self.now.wall += SignedDuration::from_mins(minutes);
        self.now.boottime = SignedDuration::from_secs(20);
        self.now.boot_id.push('+');
        self.call = None;
        for it in 0..SERVICES {
            if self.fakes[it].container.status == Status::Running {
                let health = self.fakes[it].container.health;
                self.start(it, health);
            }
        }
        self.kill("by the boot");
    }

    /// Lets time pass, from one moment at which something is due to the next.
    fn pass(&mut self, duration: SignedDuration) {
        let end = self.now.after(duration);
        for _ in 0..10_000 {
            self.live();
            let left = self.now.until(&end);
            if left == SignedDuration::ZERO {
                return;
            }
            let due: Vec<Now> = (0..SERVICES).filter_map(|it| self.due(it)).collect();
            let call = self.call.as_ref().map(|call| call.done_at.clone());
            let next = due.iter().chain(&call).map(|due| self.now.until(due));
            let next = next.filter(|next| *next > SignedDuration::ZERO).min().unwrap_or(left);
            self.now = self.now.after(next.min(left));
            self.docker_works();
        }
        panic!("time stands still");
    }

    fn due(&self, it: usize) -> Option<Now> {
        match decide(self.cases.get(&key(it))?, &self.facts(it), &self.now) {
            Decision::Wait { until, .. } => until,
            _ => None,
        }
    }

    /// Carries out the restart that is due.
    fn docker_works(&mut self) {
        let is_due = |call: &Call| self.now.until(&call.done_at) == SignedDuration::ZERO;
        if !self.call.as_ref().is_some_and(is_due) {
            return;
        }
        let Some(Call { service: it, manner, .. }) = self.call.take() else { return };
        self.tell(format_args!("docker is done with s{it}: {manner:?}"));
        if matches!(manner, Manner::Done | Manner::Mute) {
            let health = if self.fakes[it].mends { Health::Healthy } else { Health::Unhealthy };
            self.start(it, health);
        }
        if self.waits_for == Some(it) {
            self.waits_for = None;
            if matches!(manner, Manner::Refused { .. }) {
                let refused =
                    Decision::AttemptEnded { outcome: AttemptOutcome::Failed, detail: "docker refused".to_owned() };
                self.sync();
                let facts = self.facts(it);
                if let Err(Killed) = self.carry_out(it, &refused, &facts) {
                    self.revive();
                }
            }
        }
    }

    fn prompt(&mut self, it: usize) {
        self.tell(format_args!("an alert for s{it}"));
        while let Err(Killed) = self.take(it) {
            // Not answered: Alertmanager sends it again.
            self.revive();
        }
    }

    /// The webhook: answered with 200, or with 503 by one whose disk is full.
    fn take(&mut self, it: usize) -> Result<bool, Killed> {
        let ServiceKey { project, service } = key(it);
        let prompt = Prompt { project, service, alert: "ContainerUnhealthy".into(), received_at: self.now.wall };
        self.commit(vec![Change::Prompt(prompt)])
    }

    // ---- the healer

    /// The process dies at once; Docker goes on with what it has heard, and the journal stays as it is.
    fn kill(&mut self, why: &str) {
        self.tell(format_args!("the healer is killed {why}"));
        self.revive();
    }

    /// A new healer on the files that the old one has left.
    fn revive(&mut self) {
        self.deaths += 1;
        self.fuse = None;
        self.waits_for = None;
        let old = self.folder.join(format!("journal-{}.db", self.files));
        self.files += 1;
        let new = self.folder.join(format!("journal-{}.db", self.files));
        for end in ["", "-wal"] {
            let from = PathBuf::from(format!("{}{end}", old.display()));
            if from.exists() {
                std::fs::copy(from, format!("{}{end}", new.display())).unwrap();
            }
        }
        // The old one is closed after the copy was made, so that nothing is folded in as in an orderly end.
        self.store = open(&new);
        for end in ["", "-wal", "-shm"] {
            _ = std::fs::remove_file(format!("{}{end}", old.display()));
        }
        if self.disk_full {
            self.store.connection.pragma_update(None, "query_only", true).unwrap();
        }
        // As the worker resumes.
        self.cases = self.store.open_cases().unwrap().into_iter().map(|case| (case.key(), case)).collect();
        self.stops = self.store.stops().unwrap();
        self.restarts = Restarts::new(self.store.recent_restarts(66, &self.now).unwrap());
        assert_eq!(self.cases, self.on_disk, "what was committed, and nothing else");
        let prompts: BTreeSet<String> =
            self.store.prompts().unwrap().into_iter().map(|waiting| waiting.prompt.service).collect();
        assert_eq!(prompts, self.prompts_on_disk, "what was answered with 200, and nothing else");
        // A new watcher lists, and knows of no stop who asked for it.
        self.watcher_lags = false;
        for fake in &mut self.fakes {
            fake.stop = StopCause::Unknown;
            fake.been_healthy = fake.container.health == Health::Healthy;
            fake.watched.stop = StopCause::Unknown;
        }
    }

    /// A point at which the healer may be killed.
    fn boundary(&mut self) -> Result<(), Killed> {
        self.boundaries += 1;
        match &mut self.fuse {
            Some(0) => {
                self.fuse = None;
                self.tell(format_args!("the healer is killed at a boundary"));
                Err(Killed)
            }
            Some(left) => {
                *left -= 1;
                Ok(())
            }
            None => Ok(()),
        }
    }

    /// Says whether the changes are on the disk.
    fn commit(&mut self, changes: Vec<Change>) -> Result<bool, Killed> {
        self.boundary()?;
        let (done, _answer) = oneshot::channel();
        let written = write(&self.store, vec![(changes.clone(), done)]);
        assert_eq!(written.damage, None);
        let well = written.answers[0].0.is_ok();
        assert_eq!(well, !self.disk_full, "{:?}", written.answers[0].0);
        if well {
            for change in changes {
                match change {
                    Change::Case(case) => {
                        self.opened.insert(case.incident.id);
                        if case.is_open() {
                            self.on_disk.insert(case.key(), *case);
                        } else {
                            self.on_disk.remove(&case.key());
                        }
                    }
                    Change::Prompt(prompt) => _ = self.prompts_on_disk.insert(prompt.service),
                    Change::PromptDone(waiting) => _ = self.prompts_on_disk.remove(&waiting.prompt.service),
                    _ => (),
                }
            }
        }
        self.boundary()?;
        Ok(well)
    }

    /// The healer's watcher hears of what has happened.
    fn sync(&mut self) {
        if self.docker_up && !self.watcher_lags {
            for fake in &mut self.fakes {
                fake.watched = Watched {
                    container: fake.container.clone().into(),
                    stop: fake.stop,
                    has_been_healthy: fake.been_healthy,
                    oom_events: 0,
                };
            }
        }
    }

    fn snapshot(&self) -> Snapshot {
        let watched = self.fakes.iter().map(|fake| (fake.watched.container.id.clone(), fake.watched.clone()));
        Snapshot { up: self.docker_up, containers: watched.collect(), ..Snapshot::default() }
    }

    fn facts(&self, it: usize) -> Facts {
        self.facts_from(it, &self.snapshot(), &BTreeSet::new())
    }

    /// As the worker gathers them.
    fn facts_from(&self, it: usize, snapshot: &Snapshot, fresh: &BTreeSet<String>) -> Facts {
        let key = key(it);
        let switches = Switches::default();
        let world = dependencies::World {
            snapshot,
            stops: &self.stops,
            cases: &self.cases,
            probes: &BTreeMap::new(),
            fresh,
            now: self.now.wall,
        };
        let mode = |key: &ServiceKey, containers: &[facts::ContainerFacts]| {
            facts::mode_of(key, containers, &switches, &self.policy)
        };
        let needed = dependencies::not_well(&key, &world, |key, containers| mode(key, containers).mode);
        let containers = facts::containers_of(snapshot, &key, &self.stops);
        let (recent_restarts, room_at) = self.restarts.on_host(&self.now);
        let spent_today =
            self.restarts.spent_today(containers.iter().map(|seen| seen.container.id.as_str()), &self.now);
        let others_restart = self.cases.iter().any(|(other, case)| *other != key && case.is_restarting());
        Facts {
            healing: self.policy.terms(&key, facts::worn(&containers)).healing,
            spent_today,
            docker_up: self.docker_up,
            mode: mode(&key, &containers),
            containers,
            host: HostFacts { restart_under_way: others_restart, recent_restarts, room_at, hold_until: None },
            act_under_way: self.waits_for == Some(it),
            journal_writable: !self.disk_full,
            needed,
            ..permitted()
        }
    }

    /// The worker's loop and the copier, until there is nothing to do; killed, it comes up again.
    fn live(&mut self) {
        for _ in 0..100 {
            let lived = self.look().and_then(|()| self.copy());
            match lived {
                Ok(()) => return,
                Err(Killed) => self.revive(),
            }
        }
        panic!("the healer does not come to rest");
    }

    fn look(&mut self) -> Result<(), Killed> {
        self.sync();
        if self.docker_up {
            self.remember_stops()?;
            self.look_into_prompts()?;
        }
        for it in 0..SERVICES {
            self.step(it)?;
        }
        Ok(())
    }

    fn remember_stops(&mut self) -> Result<(), Killed> {
        let snapshot = self.snapshot();
        let mut changes = Vec::new();
        for (id, watched) in &snapshot.containers {
            let stopper = match watched.stop {
                StopCause::Itself => Stopper::Itself,
                StopCause::Requested { .. } => Stopper::Requested,
                StopCause::Engine => Stopper::Engine,
                StopCause::Unknown => continue,
            };
            let run = (watched.container.started_at, stopper);
            if watched.container.status == Status::Exited && self.stops.get(id) != Some(&run) {
                changes.push((id.clone(), run));
            }
        }
        let change = |(id, (started_at, stopper)): &(String, (Option<Timestamp>, Stopper))| Change::Stop {
            container_id: id.clone(),
            started_at: *started_at,
            stopper: *stopper,
        };
        if !changes.is_empty() && self.commit(changes.iter().map(change).collect())? {
            self.stops.extend(changes);
        }
        Ok(())
    }

    fn look_into_prompts(&mut self) -> Result<(), Killed> {
        for waiting in self.store.prompts().unwrap() {
            let it: usize = waiting.prompt.service[1..].parse().unwrap();
            let done = Change::PromptDone(waiting.clone());
            if let Some(case) = self.cases.get(&key(it)) {
                let changed = transition::alerted(case, waiting.prompt.received_at);
                self.make(it, changed, vec![done])?;
                continue;
            }
            match admit(&self.facts(it), None) {
                Ok(found) => {
                    let carried = self.restarts.spent(found.ill.iter().map(String::as_str), &self.now);
                    let alert = (waiting.prompt.alert.as_str(), waiting.prompt.received_at);
                    let opened = transition::open("pi", &key(it), alert, found, carried, &self.now);
                    self.make(it, opened, vec![done])?;
                }
                Err(_) => _ = self.commit(vec![done])?,
            }
        }
        Ok(())
    }

    fn step(&mut self, it: usize) -> Result<(), Killed> {
        for _ in 0..16 {
            let Some(case) = self.cases.get(&key(it)) else { return Ok(()) };
            let facts = self.facts(it);
            let decision = decide(case, &facts, &self.now);
            if let Decision::Restart { container_id } = decision {
                return self.restart(it, &container_id);
            }
            if !self.carry_out(it, &decision, &facts)? {
                return Ok(());
            }
        }
        panic!("decisions go round in circles: {:?}", self.cases[&key(it)]);
    }

    fn carry_out(&mut self, it: usize, decision: &Decision, facts: &Facts) -> Result<bool, Killed> {
        let random = self.dice.unit();
        let Some(case) = self.cases.get(&key(it)) else { return Ok(false) };
        let Some(changed) = transition::apply(case, decision, facts, &facts.healing, &self.now, random) else {
            return Ok(false);
        };
        let made = self.make(it, changed, Vec::new())?;
        Ok(made && !matches!(decision, Decision::Wait { .. } | Decision::Block { .. }))
    }

    /// What was changed is on the disk before it is true.
    fn make(&mut self, it: usize, changed: Changed, mut with: Vec<Change>) -> Result<bool, Killed> {
        let Changed { case, events } = changed;
        let mut changes = vec![Change::Case(Box::new(case.clone()))];
        changes.extend(events.into_iter().map(Change::Event));
        changes.append(&mut with);
        if !self.commit(changes)? {
            return Ok(false);
        }
        if case.is_open() {
            self.cases.insert(key(it), case);
            return Ok(true);
        }
        assert!(case.attempts.iter().all(|attempt| attempt.attempt.outcome.is_some()), "closed with an open attempt");
        self.restarts.close(&case.incident, &case.memory);
        if budget::begins_anew(&case.incident, &case.memory) {
            self.charged.retain(|(_, id)| !case.memory.containers.contains(id));
        }
        self.cases.remove(&key(it));
        Ok(true)
    }

    /// The last look, the intent, and the act, with everything that must hold at this moment.
    fn restart(&mut self, it: usize, container_id: &str) -> Result<(), Killed> {
        if self.waits_for.is_some() {
            return Ok(());
        }
        // The last look asks Docker itself, whatever the watcher has missed.
        let mut snapshot = self.snapshot();
        for fake in &self.fakes {
            if let Some(watched) = snapshot.containers.get_mut(&fake.container.id) {
                let stop =
                    if watched.container.status == fake.container.status { watched.stop } else { StopCause::Unknown };
                let container = fake.container.clone().into();
                *watched = Watched { container, stop, has_been_healthy: fake.been_healthy, oom_events: 0 };
            }
        }
        let fresh = self.fakes.iter().map(|fake| fake.container.id.clone()).collect();
        let facts = self.facts_from(it, &snapshot, &fresh);
        let case = &self.cases[&key(it)];
        let sure =
            matches!(decide(case, &facts, &self.now), Decision::Restart { container_id: id } if id == container_id);
        // One that was created anew since is not found by its id; one that was started anew the watcher has to see first.
        let fake = &self.fakes[it];
        if !sure || fake.container.id != container_id || fake.container.started_at != fake.watched.container.started_at
        {
            return Ok(());
        }

        assert_eq!(fake.container.labels[labels::HEAL], "true", "switched off or to shadow");
        assert!(self.docker_up && !self.disk_full);
        let down = fake.container.status == Status::Exited;
        let unhealthy = fake.container.status == Status::Running && fake.container.health == Health::Unhealthy;
        assert!(unhealthy || down, "it is not ill: {:?}", fake.container.status);
        let by_human = matches!(fake.stop, StopCause::Requested { .. });
        let ours = case.stopped_by_us(container_id, fake.container.started_at, fake.stop);
        assert!(!(down && by_human) || fake.ambiguous || ours, "a human stopped it");
        assert!(case.attempts_on(container_id).count() < MOST, "over the budget of an incident");
        // Before a boot the clock may have stood anywhere.
        let lately = |(then, id): &&(Now, String)| {
            id == container_id && then.boot_id == self.now.boot_id && self.now.since(then) < BUDGET_WINDOW
        };
        assert!(self.charged.iter().filter(lately).count() < MOST, "over the budget of an hour");
        assert!(facts.host.recent_restarts < facts.healing.restarts_per_10_minutes, "over the brake of the host");
        assert!(self.call.is_none(), "docker is at work on a restart");
        if let Some(last) = case.attempts_on(container_id).next_back()
            && last.memory.intended.boot_id == self.now.boot_id
            && case.memory.unblocked.is_none()
        {
            let least = facts.healing.base_delay / 2;
            assert!(self.now.since(&last.memory.intended) >= least, "without a delay");
        }

        let changed = transition::intend(crate::act::Deed::Restart, case, &fake.container, STOP_TIMEOUT, &self.now);
        let attempt = changed.case.open_attempt().unwrap().attempt.clone();
        let evidence = Evidence {
            id: Uuid::now_v7(),
            incident_id: attempt.incident_id,
            attempt_id: Some(attempt.id),
            kind: EvidenceKind::ALL[0],
            taken_at: self.now.wall,
            body: serde_json::json!({ "taken": true }),
        };
        let charged = (self.now.clone(), container_id.to_owned());
        match self.make(it, changed, vec![Change::Evidence(evidence)]) {
            Ok(true) => (),
            Ok(false) => return Ok(()),
            Err(Killed) => {
                // Killed after the commit the intent counts, though nobody has heard of it.
                if self
                    .on_disk
                    .get(&key(it))
                    .is_some_and(|case| case.attempts.iter().any(|it| it.attempt.id == attempt.id))
                {
                    self.charged.push(charged);
                }
                return Err(Killed);
            }
        }
        self.restarts.note(container_id, &self.now);
        self.charged.push(charged);
        self.ask_docker(it, attempt.id);
        // Docker has heard, and the healer may not live to see what comes of it.
        self.boundary()
    }

    fn ask_docker(&mut self, it: usize, attempt: Uuid) {
        *self.asked.entry(attempt).or_default() += 1;
        let manner = match self.dice.below(100) {
            _ if self.docker_is_honest => Manner::Done,
            0..=59 => Manner::Done,
            60..=69 => Manner::Mute,
            70..=79 => Manner::Ignored,
            80..=86 => Manner::Lie,
            _ => Manner::Refused { stops: self.dice.in_a_hundred(50) },
        };
        // At most what an intent is granted: the stop time-out and a margin.
        let takes = SignedDuration::from_secs(self.dice.below(25) as i64);
        self.tell(format_args!("the healer asks for a restart of s{it}: {manner:?}, {takes:?}"));
        if manner == Manner::Ignored {
            return;
        }
        let stops = matches!(manner, Manner::Done | Manner::Mute | Manner::Refused { stops: true });
        let now = self.now.wall;
        let fake = &mut self.fakes[it];
        if stops && fake.container.status == Status::Running {
            // What Docker tells of it looks like a stop by a person.
            (fake.container.status, fake.container.exit_code) = (Status::Exited, 137);
            (fake.container.finished_at, fake.stop) = (Some(now), StopCause::Requested { at: now });
        }
        fake.ambiguous = true;
        self.call = Some(Call { service: it, manner, done_at: self.now.after(takes) });
        self.waits_for = (manner != Manner::Mute).then_some(it);
    }

    /// As the copier does it, beside the worker.
    fn copy(&mut self) -> Result<(), Killed> {
        for table in TABLES {
            loop {
                if self.postgres.away || self.disk_full {
                    return Ok(());
                }
                let rows = self.store.pending(table, BATCH).unwrap();
                if rows.is_empty() {
                    break;
                }
                for row in &rows {
                    self.postgres.insert(table, &row.row);
                }
                if self.dice.in_a_hundred(3) {
                    // The answer is lost and Postgres away: all of it is sent again.
                    self.postgres.away = true;
                    self.tell(format_args!("postgres goes in the middle of a copy"));
                    return Ok(());
                }
                // Meanwhile the worker goes on: a row that was read may have a newer revision when it is marked.
                if self.dice.in_a_hundred(20) {
                    let it = self.dice.below(SERVICES as u64) as usize;
                    self.tell(format_args!("an alert for s{it} in the middle of a copy"));
                    self.take(it)?;
                    self.look()?;
                }
                let rows = rows.into_iter().map(|row| (row.id, row.revision)).collect();
                self.commit(vec![Change::Copied { table, rows, at: self.now.wall }])?;
            }
        }
        if self.store.pending_count().unwrap() == 0 {
            for case in self.cases.values() {
                let copied = self.postgres.incidents.get(&case.incident.id).map(|copied| copied.revision);
                assert_eq!(
                    copied,
                    Some(case.incident.revision),
                    "nothing waits, and postgres has not the last revision"
                );
            }
        }
        Ok(())
    }

    // ---- the end

    /// Everything comes back and is well: then every incident comes to an end, and Postgres has all of it.
    fn come_to_an_end(&mut self) {
        self.fuse = None;
        self.watcher_lags = false;
        self.postgres.away = false;
        self.docker(true);
        self.docker_is_honest = true;
        self.disk(false);
        // What Docker is at work on comes to its end.
        self.pass(SignedDuration::from_mins(1));
        for it in 0..SERVICES {
            self.fakes[it].mends = true;
            self.human_starts(it);
            self.set_health(it, Health::Healthy);
        }
        for _ in 0..3 {
            self.pass(SignedDuration::from_hours(1));
        }
        while self.store.pending_count().unwrap() > 0 {
            self.postgres.away = false;
            self.live();
        }
        assert_eq!(self.cases, BTreeMap::new(), "open in the end");
        assert_eq!(self.store.prompts().unwrap(), [], "not looked into in the end");
        self.compare();
        // And deciding again after success does nothing.
        let asked = self.asked.len();
        for it in 0..SERVICES {
            self.prompt(it);
        }
        self.pass(SignedDuration::from_mins(10));
        for it in 0..SERVICES {
            let refused = admit(&self.facts(it), None).map(drop);
            assert!(matches!(refused, Err(Refusal::AlreadyWell | Refusal::OptedOut)), "{refused:?}");
        }
        assert_eq!(self.asked.len(), asked);
    }

    fn compare(&self) {
        let known: BTreeSet<Uuid> = self.postgres.incidents.keys().copied().collect();
        assert_eq!(known, self.opened, "every incident once in postgres, and no other");
        let (mut attempts, mut evidence, mut events) = (0, 0, 0);
        for (id, copied) in &self.postgres.incidents {
            let detail = self.store.incident(*id).unwrap().unwrap();
            let original = Incident { recorded_at: None, ..detail.incident };
            assert_eq!(*copied, original, "the last revision");
            assert!(matches!(copied.outcome, Some(outcome) if Outcome::ALL.contains(&outcome)));
            for attempt in &detail.attempts {
                assert_eq!(self.postgres.attempts.get(&attempt.id), Some(attempt));
                assert!(attempt.outcome.is_some(), "an attempt without an outcome");
                // Never asked: killed between the intent and the act.
                assert!(self.asked.get(&attempt.id).copied().unwrap_or_default() <= 1, "asked twice for one intent");
            }
            for container in detail.attempts.iter().map(|attempt| &attempt.container_id).collect::<BTreeSet<_>>() {
                let spent = detail.attempts.iter().filter(|attempt| attempt.container_id == *container).count();
                assert!(spent <= MOST, "{spent} attempts on one container in one incident");
            }
            assert_eq!(copied.attempts as usize, detail.attempts.len());
            assert!(detail.evidence.iter().all(|it| self.postgres.evidence.get(&it.id) == Some(it)));
            assert!(detail.events.iter().all(|it| self.postgres.events.get(&it.id) == Some(it)));
            assert_eq!(detail.evidence.len(), detail.attempts.len(), "evidence of each attempt");
            assert_eq!(detail.events.iter().filter(|event| event.kind == "opened").count(), 1);
            assert_eq!(detail.events.iter().filter(|event| event.kind == "closed").count(), 1);
            attempts += detail.attempts.len();
            evidence += detail.evidence.len();
            events += detail.events.len();
        }
        assert_eq!(self.postgres.attempts.len(), attempts);
        assert_eq!(self.postgres.evidence.len(), evidence);
        assert_eq!(self.postgres.events.len(), events);
        assert!(self.asked.keys().all(|id| self.postgres.attempts.contains_key(id)), "an act without an intent");
    }
}

/// In memory where that is possible.
fn scratch() -> tempfile::TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() { tempfile::tempdir_in(memory).unwrap() } else { tempfile::tempdir().unwrap() }
}

/// What a number of runs has met, to see that they meet anything.
#[derive(Default)]
struct Met {
    incidents: usize,
    restarts: usize,
    deaths: u32,
    boundaries: u32,
}

/// One run. A failure tells its seed and its story.
fn run(seed: u64, met: &mut Met) {
    let folder = scratch();
    let mut world = World::new(seed, folder.path());
    let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        let steps = 10 + world.dice.below(40);
        for _ in 0..steps {
            world.random_step();
        }
        world.come_to_an_end();
    }));
    if let Err(reason) = played {
        eprintln!("NEXUS_SIMULATION_SEED={seed}\n{}", world.story);
        std::panic::resume_unwind(reason);
    }
    met.incidents += world.opened.len();
    met.restarts += world.asked.len();
    met.deaths += world.deaths;
    met.boundaries += world.boundaries;
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

#[test]
fn thousands_of_seeded_faults_lose_nothing_and_do_nothing_twice() {
    let mut met = Met::default();
    if let Some(seed) = number_from("NEXUS_SIMULATION_SEED") {
        return run(seed, &mut met);
    }
    let runs = number_from("NEXUS_SIMULATION_RUNS").unwrap_or(RUNS);
    let first = getrandom::u64().unwrap() >> 1;
    eprintln!("{runs} runs from seed {first} on (NEXUS_SIMULATION_SEED plays one of them)");
    let halves = [first..first + runs / 2, first + runs / 2..first + runs];
    let halves: Vec<Met> = std::thread::scope(|scope| {
        let threads = halves.map(|seeds| {
            scope.spawn(move || {
                let mut met = Met::default();
                seeds.for_each(|seed| run(seed, &mut met));
                met
            })
        });
        threads.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    let sum = |part: fn(&Met) -> u64| halves.iter().map(part).sum::<u64>();
    let (incidents, restarts) = (sum(|met| met.incidents as u64), sum(|met| met.restarts as u64));
    let (deaths, boundaries) = (sum(|met| met.deaths.into()), sum(|met| met.boundaries.into()));
    eprintln!("{incidents} incidents, {restarts} restarts, {deaths} times killed, {boundaries} boundaries");
    assert!(incidents >= runs && restarts >= runs && deaths >= runs, "they meet too little");
}

/// The story of an ordinary incident that ends well after a failed attempt, with the healer killed at one boundary. Gives the
/// boundaries at which it could have been.
fn ordinary(fuse: Fuse) -> (World, u32) {
    let folder = scratch();
    let mut world = World::new(7, folder.path());
    world.fuse = fuse;
    world.fakes[0].mends = false;
    world.set_health(0, Health::Unhealthy);
    world.prompt(0);
    world.pass(SignedDuration::from_mins(3));
    world.fakes[0].mends = true;
    world.pass(SignedDuration::from_mins(30));
    let boundaries = world.boundaries;
    world.come_to_an_end();
    (world, boundaries)
}

#[test]
fn killed_at_each_boundary_of_an_incident_it_ends_as_if_nothing_had_happened() {
    let (undisturbed, boundaries) = ordinary(None);
    assert!(boundaries > 20 && undisturbed.deaths == 0, "{boundaries}");
    for fuse in 0..boundaries {
        let (world, _) = ordinary(Some(fuse));
        assert_eq!((world.opened.len(), world.deaths), (1, 1), "killed at boundary {fuse}");
    }
}
