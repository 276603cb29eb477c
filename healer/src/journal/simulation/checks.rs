//! What must hold in the end, and the runs.

use super::*;

impl World {
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
