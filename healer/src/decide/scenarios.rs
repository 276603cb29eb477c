//! A hundred failures of services that need each other, each from a seed, played twice in virtual time: against the
//! decisions of the healer, and against a poller that every five seconds restarts whatever Docker calls unhealthy.
//!
//! What a service needs it feels: while something below it does not work, neither does it, and its health check says so
//! sooner or later than that of the root. Some find their way back by themselves, some only by a restart. The table that
//! comes of it is in docs/healing.md.

mod healer;
mod table;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Health, Healthcheck, Probe, RestartPolicy, Snapshot, Status, StopCause, Watched};
use nexus_model::{IncidentState, Mode, Now, ServiceKey, api::ModeSource, labels};

use super::{Decision, admit, decide};
use crate::{
    budget::Restarts,
    case::Case,
    dependencies::{self, World},
    facts::{self, Facts, HostFacts, Stops},
    hold::{self, Hold, Illnesses},
    modes::Effective,
    policy::Policy,
    testing::{at, container},
    transition,
};

const FAILURES: [Failure; 8] = [
    Failure::DeadDatabase,
    Failure::HungProxy,
    Failure::FullDisk,
    Failure::OomChain,
    Failure::FlappingDependency,
    Failure::SlowStart,
    Failure::WalReplay,
    Failure::NetworkLoss,
];
const SCENARIOS: usize = 100;
const HOST_TROUBLES: usize = 20;
/// When the failure strikes, and when the scenario is over at the latest.
const STRIKES_AT: i64 = 60;
const ENDS_AT: i64 = 60 + 30 * 60;
const POLLER_EVERY: i64 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Failure {
    /// The database ends, or hangs with its port open.
    DeadDatabase,
    /// Everything asks the outside through a proxy that answers nothing any more.
    HungProxy,
    /// The database can't write until somebody makes room; no restart helps.
    FullDisk,
    /// The cache is killed for memory, and again a while after each restart, some times over.
    OomChain,
    /// The database does not answer for some seconds, comes back by itself, and so on.
    FlappingDependency,
    /// A service was started, and takes longer than its health check allows for.
    SlowStart,
    /// The database was killed with the power, and reads its journal for minutes. Its log says so.
    WalReplay,
    /// A gateway in whose network others live loses its connection until it is restarted.
    NetworkLoss,
    /// The disk, or whatever all of them stand on: everything fails, and works again when that does. Has a table of its own.
    HostTrouble,
}

impl Failure {
    fn as_str(self) -> &'static str {
        match self {
            Failure::DeadDatabase => "dead database",
            Failure::HungProxy => "hung proxy",
            Failure::FullDisk => "full disk",
            Failure::OomChain => "OOM chain",
            Failure::FlappingDependency => "flapping dependency",
            Failure::SlowStart => "slow start",
            Failure::WalReplay => "WAL replay",
            Failure::NetworkLoss => "network loss",
            Failure::HostTrouble => "host trouble",
        }
    }
}

/// splitmix64: a seed is all that a scenario is.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn between(&mut self, least: i64, most: i64) -> i64 {
        least + (self.next() % (most - least + 1) as u64) as i64
    }

    fn chance(&mut self, percent: i64) -> bool {
        self.between(1, 100) <= percent
    }
}

/// What is the matter with a service itself.
#[derive(Clone, Debug, PartialEq)]
enum Trouble {
    None,
    /// Until it is restarted.
    Hangs,
    /// Until this moment, whatever is done.
    Until(i64),
    /// A restart helps, and it is back after so many seconds, so many times.
    ComesBack {
        after: i64,
        times: u32,
    },
    /// Comes and goes by itself: works so long, does not so long, until a moment.
    Flaps {
        works: i64,
        fails: i64,
        until: i64,
    },
}

struct Service {
    name: &'static str,
    needs: Vec<&'static str>,
    /// It lives in the network of this one.
    network_of: Option<&'static str>,
    /// Finds its way back once what it needs works again.
    reconnects: bool,
    /// It lost its way, and only a restart helps.
    lost: bool,
    trouble: Trouble,
    running: bool,
    oom_killed: bool,
    exit_code: i64,
    started_at: i64,
    /// Seconds from the start until it works, at this start.
    takes: i64,
    usually_takes: i64,
    says_it_is_starting: bool,
    // Docker's view of it.
    interval: i64,
    retries: u32,
    start_period: i64,
    phase: i64,
    health: Health,
    streak: u64,
    /// When, and whether it was good; the last five.
    probes: Vec<(i64, bool)>,
    has_been_healthy: bool,
    restarting_until: Option<i64>,
}

/// What came of one play.
#[derive(Clone, Debug, Default)]
struct Played {
    /// In order: when, who.
    restarts: Vec<(i64, &'static str)>,
    /// Whether the first was of what was at fault at that moment, with nothing below it failing.
    first_is_right: Option<bool>,
    /// Restarts of what was starting, recovering or well.
    harmful: usize,
    /// Restarts of what only suffered from something else, which was still down or had just come back.
    useless: usize,
    all_well_at: Option<i64>,
    /// Restarts while the trouble lasted that only time mends.
    in_trouble: usize,
}

impl Played {
    /// The first restart was of the root; or there was none, and none was needed.
    fn is_right(&self) -> bool {
        self.first_is_right.unwrap_or(self.all_well_at.is_some())
    }
}

struct Scenario {
    failure: Failure,
    /// Docker's restart policy starts what has ended; otherwise nobody does but a healer, as after a crash of the daemon.
    docker_restarts: bool,
    services: Vec<Service>,
    seconds: i64,
}

fn service(random: &mut Random, name: &'static str, needs: &[&'static str]) -> Service {
    let interval = random.between(5, 30);
    let usually_takes = random.between(1, 15);
    Service {
        name,
        needs: needs.to_vec(),
        network_of: None,
        reconnects: random.chance(70),
        lost: false,
        trouble: Trouble::None,
        running: true,
        oom_killed: false,
        exit_code: 0,
        started_at: -1000,
        takes: usually_takes,
        usually_takes,
        says_it_is_starting: false,
        interval,
        retries: random.between(2, 4) as u32,
        start_period: usually_takes + random.between(0, 20),
        phase: random.between(0, 29),
        health: Health::Healthy,
        streak: 0,
        probes: Vec::new(),
        has_been_healthy: true,
        restarting_until: None,
    }
}

impl Scenario {
    fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let failure = FAILURES[(seed % FAILURES.len() as u64) as usize];
        let mut services = vec![
            service(&mut random, "db", &[]),
            service(&mut random, "cache", &[]),
            service(&mut random, "proxy", &[]),
            service(&mut random, "api", &["db", "cache"]),
            service(&mut random, "worker", &["db"]),
            service(&mut random, "web", &["api", "proxy"]),
            service(&mut random, "mail", &["proxy"]),
            service(&mut random, "gateway", &[]),
            service(&mut random, "torrent", &["gateway"]),
            service(&mut random, "indexer", &["torrent"]),
        ];
        services.iter_mut().find(|one| one.name == "torrent").unwrap().network_of = Some("gateway");
        // Some have no need that anybody knows of, so that they fall ill for nothing that the others do.
        services.push(service(&mut random, "wiki", &[]));
        let docker_restarts = random.chance(50);
        Self { failure, docker_restarts, services, seconds: 0 }
    }

    fn index(&self, name: &str) -> usize {
        self.services.iter().position(|one| one.name == name).unwrap()
    }

    fn strike(&mut self, random: &mut Random) {
        let now = self.seconds;
        let (at, trouble) = match self.failure {
            Failure::DeadDatabase => (self.index("db"), Trouble::Hangs),
            Failure::HungProxy => (self.index("proxy"), Trouble::Hangs),
            Failure::FullDisk => (self.index("db"), Trouble::Until(now + random.between(120, 600))),
            Failure::OomChain => {
                let (after, times) = (random.between(90, 240), random.between(1, 3) as u32);
                (self.index("cache"), Trouble::ComesBack { after, times })
            }
            Failure::FlappingDependency => {
                let (works, fails) = (random.between(30, 120), random.between(20, 60));
                (self.index("db"), Trouble::Flaps { works, fails, until: now + 600 })
            }
            Failure::NetworkLoss => (self.index("gateway"), Trouble::Hangs),
            Failure::HostTrouble => {
                let (lasts, ends) = (random.between(60, 480), random.chance(50));
                for one in &mut self.services {
                    one.trouble = Trouble::Until(now + lasts);
                    // Killed all at once, or hanging.
                    (one.running, one.exit_code) = if ends { (false, 137) } else { (true, 0) };
                }
                return;
            }
            Failure::SlowStart => {
                let at = self.index(["api", "cache", "wiki", "web"][random.between(0, 3) as usize]);
                // Started by its owner just now.
                self.start(at);
                self.services[at].takes = random.between(30, 170);
                return;
            }
            Failure::WalReplay => {
                let at = self.index("db");
                self.start(at);
                self.services[at].takes = random.between(60, 600);
                self.services[at].says_it_is_starting = true;
                return;
            }
        };
        let ends =
            matches!(self.failure, Failure::OomChain) || (self.failure == Failure::DeadDatabase && random.chance(50));
        let one = &mut self.services[at];
        one.trouble = trouble;
        if ends {
            (one.running, one.exit_code, one.oom_killed) = (false, 137, self.failure == Failure::OomChain);
        }
    }

    fn start(&mut self, at: usize) {
        let now = self.seconds;
        let one = &mut self.services[at];
        one.trouble = match one.trouble {
            Trouble::Hangs => Trouble::None,
            Trouble::ComesBack { times: 0, .. } => Trouble::None,
            ref other => other.clone(),
        };
        (one.running, one.lost, one.oom_killed, one.exit_code) = (true, false, false, 0);
        (one.started_at, one.takes) = (now, one.usually_takes);
        (one.health, one.streak, one.has_been_healthy) = (Health::Starting, 0, false);
        one.probes.clear();
    }

    fn is_troubled(&self, one: &Service) -> bool {
        let now = self.seconds;
        match one.trouble {
            Trouble::None => false,
            Trouble::Hangs => true,
            Trouble::Until(end) => now < end,
            // Between two ends it works.
            Trouble::ComesBack { .. } => !one.running,
            Trouble::Flaps { works, fails, until } => now < until && (now - STRIKES_AT) % (works + fails) < fails,
        }
    }

    fn is_starting(&self, one: &Service) -> bool {
        one.running && self.seconds - one.started_at < one.takes
    }

    /// Works by itself, whatever it needs.
    fn is_sound(&self, one: &Service) -> bool {
        let dead_network = one.network_of.is_some_and(|parent| {
            let parent = &self.services[self.index(parent)];
            parent.started_at > one.started_at
        });
        one.running
            && one.restarting_until.is_none()
            && !one.lost
            && !dead_network
            && !self.is_starting(one)
            && !self.is_troubled(one)
    }

    fn works(&self, at: usize) -> bool {
        let one = &self.services[at];
        self.is_sound(one) && one.needs.iter().all(|name| self.works(self.index(name)))
    }

    /// One second goes by.
    fn tick(&mut self) {
        self.seconds += 1;
        let now = self.seconds;
        for at in 0..self.services.len() {
            if self.services[at].restarting_until == Some(now) {
                self.services[at].restarting_until = None;
                self.start(at);
            }
            let one = &self.services[at];
            if self.docker_restarts && !one.running && one.restarting_until.is_none() {
                self.start(at);
            }
            let one = &mut self.services[at];
            if let Trouble::ComesBack { after, times } = one.trouble
                && one.running
                && now - one.started_at >= after
                && one.started_at > STRIKES_AT
                && times > 0
            {
                one.trouble = Trouble::ComesBack { after, times: times - 1 };
                (one.running, one.exit_code, one.oom_killed) = (false, 137, true);
            }
        }
        for at in 0..self.services.len() {
            let needs_fail = self.services[at].needs.iter().any(|name| !self.works(self.index(name)));
            let works = self.works(at);
            let starting = self.is_starting(&self.services[at]);
            let one = &mut self.services[at];
            if !one.running || one.restarting_until.is_some() {
                continue;
            }
            // Who does not reconnect is lost from then on.
            one.lost |= needs_fail && !one.reconnects && !starting;
            if (now + one.phase) % one.interval != 0 {
                continue;
            }
            one.probes.push((now, works));
            if one.probes.len() > 5 {
                one.probes.remove(0);
            }
            if works {
                (one.health, one.streak, one.has_been_healthy) = (Health::Healthy, 0, true);
            } else if now - one.started_at >= one.start_period {
                one.streak += 1;
                if one.streak >= u64::from(one.retries) {
                    one.health = Health::Unhealthy;
                }
            }
        }
    }

    /// Nothing is to come any more by itself.
    fn is_quiet(&self) -> bool {
        self.services.iter().all(|one| match one.trouble {
            Trouble::None => true,
            Trouble::Hangs => false,
            Trouble::Until(end) | Trouble::Flaps { until: end, .. } => self.seconds >= end,
            Trouble::ComesBack { times, .. } => times == 0,
        })
    }

    fn all_work(&self) -> bool {
        (0..self.services.len()).all(|at| self.works(at) && self.services[at].health == Health::Healthy)
    }

    /// Somebody restarts it; what that means at this moment is noted.
    fn restart(&mut self, at: usize, stops_in: i64, played: &mut Played) {
        let one = &self.services[at];
        let begins_anew = self.is_starting(one);
        let well = self.works(at) && one.health == Health::Healthy;
        let needs_fail = one.needs.iter().any(|name| !self.works(self.index(name)));
        let is_root = !needs_fail && !begins_anew && !self.is_sound(one);
        played.first_is_right.get_or_insert(is_root);
        if begins_anew || well {
            played.harmful += 1;
        } else if !is_root {
            played.useless += 1;
        }
        played.restarts.push((self.seconds, one.name));
        played.in_trouble += usize::from(matches!(one.trouble, Trouble::Until(end) if self.seconds < end));
        let now = self.seconds;
        let one = &mut self.services[at];
        one.running = false;
        one.restarting_until = Some(now + 1 + stops_in);
    }

    fn snapshot(&self) -> Snapshot {
        let containers = self.services.iter().map(|one| (one.name.to_owned(), self.watched(one))).collect();
        Snapshot { up: true, containers, ..Snapshot::default() }
    }

    fn watched(&self, one: &Service) -> Watched {
        let mut container = Container {
            id: one.name.to_owned(),
            name: format!("shop-{}-1", one.name),
            status: if one.running || one.restarting_until.is_some() { Status::Running } else { Status::Exited },
            health: one.health,
            failing_streak: one.streak,
            probes: one.probes.iter().map(|&(when, good)| probe(when, good)).collect(),
            exit_code: one.exit_code,
            oom_killed: one.oom_killed,
            started_at: Some(moment(one.started_at)),
            finished_at: Some(moment(self.seconds)),
            restart_policy: RestartPolicy::UnlessStopped,
            network_mode: one.network_of.map_or("shop_default".to_owned(), |parent| format!("container:{parent}")),
            healthcheck: Some(Healthcheck {
                interval: SignedDuration::from_secs(one.interval),
                timeout: SignedDuration::from_secs(2),
                start_period: SignedDuration::from_secs(one.start_period),
                retries: one.retries,
            }),
            ..container()
        };
        container.labels.insert(labels::COMPOSE_SERVICE.into(), one.name.into());
        let needs: Vec<String> = one.needs.iter().map(|name| format!("{name}:service_started:false")).collect();
        container.labels.insert(labels::COMPOSE_DEPENDS_ON.into(), needs.join(","));
        let stop = StopCause::Itself;
        Watched { container: container.into(), stop, has_been_healthy: one.has_been_healthy, oom_events: 0 }
    }
}

fn probe(when: i64, good: bool) -> Probe {
    let at = Some(moment(when));
    Probe { start: at, end: at, exit_code: i64::from(!good), output: String::new() }
}

fn moment(seconds: i64) -> Timestamp {
    at(seconds).wall
}

fn key(name: &str) -> ServiceKey {
    ServiceKey::new("shop", name)
}
