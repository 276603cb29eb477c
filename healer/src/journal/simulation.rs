//! Thousands of seeded runs of the decisions with the real journal, in virtual time: Docker that errs, hangs and lies, a
//! Postgres that comes and goes, a disk that fills, clocks that jump, people who meddle, and a healer that is killed at any
//! boundary of a commit and opens the journal anew. Whatever happens, in the end Postgres has every incident once, with its
//! last revision; no budget is overrun; and Docker is asked once for each intent, for one container at a time.
//!
//! Only `synchronous` is off here: nobody cuts the power (that is `tests/power_cut.rs`), and thousands of runs would wait for
//! the disk. `NEXUS_SIMULATION_SEED` plays one run again, `NEXUS_SIMULATION_RUNS` says how many there are.

mod checks;
mod healer;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    path::{Path, PathBuf},
};

use jiff::SignedDuration;
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
    dependencies, durable,
    facts::{self, Facts, HostFacts, Stops},
    modes::Switches,
    policy::Policy,
    prompts::{self, Taken},
    shadow, stops,
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
}
