//! Who plays: the healer with its decisions, or the poller.

use super::*;

/// The worker's loop around the decisions, as in [`crate::worker`].
struct Healer {
    policy: Policy,
    cases: BTreeMap<ServiceKey, Case>,
    budget: Restarts,
    held: BTreeMap<ServiceKey, Now>,
    illnesses: Illnesses,
    hold: Option<Hold>,
}

impl Healer {
    fn facts(&self, key: &ServiceKey, scenario: &Scenario, snapshot: &Snapshot, is_fresh: bool) -> Facts {
        let stops = Stops::new();
        let fresh: BTreeSet<String> =
            if is_fresh { snapshot.containers.keys().cloned().collect() } else { BTreeSet::new() };
        let world = World {
            snapshot,
            stops: &stops,
            cases: &self.cases,
            probes: &BTreeMap::new(),
            fresh: &fresh,
            now: at(scenario.seconds).wall,
        };
        let now = at(scenario.seconds);
        let (recent_restarts, room_at) = self.budget.on_host(&now);
        let busy = |one: &Service| one.restarting_until.is_some();
        let own = scenario.index(&key.service);
        let asks_for_care = self.hold.as_ref().is_some_and(|hold| hold.asks_for_care(&now));
        let is_judged = |case: &Case| case.incident.state == IncidentState::Verifying;
        Facts {
            healing: self.policy.healing.clone(),
            docker_up: true,
            own_stack: false,
            mode: Effective { mode: Mode::Heal, source: ModeSource::Label, protected: None },
            maintenance_until: None,
            containers: facts::containers_of(snapshot, key, &stops, now.wall),
            host: HostFacts {
                restart_under_way: scenario.services.iter().any(|one| one.name != key.service && busy(one))
                    || self.cases.iter().any(|(other, case)| other != key && asks_for_care && is_judged(case)),
                recent_restarts,
                room_at,
                hold_until: self.hold.as_ref().and_then(|hold| hold.until(&now)),
            },
            spent_today: self.budget.spent_today([key.service.as_str()].into_iter(), &now),
            act_under_way: busy(&scenario.services[own]),
            journal_writable: true,
            needed: dependencies::not_well(key, &world, |_, _| Mode::Heal),
            says_it_is_starting: is_fresh && scenario.services[own].says_it_is_starting,
            network_gone: false,
            silenced: false,
            may_start: false,
            paused_until: None,
        }
    }

    fn look(&mut self, scenario: &mut Scenario, played: &mut Played, random: &mut Random) {
        let now = at(scenario.seconds);
        let snapshot = scenario.snapshot();
        self.watch_the_host(&snapshot, &now);
        for name in scenario.services.iter().map(|one| one.name).collect::<Vec<_>>() {
            let key = key(name);
            let watched = &snapshot.containers[name];
            let told = watched.container.health == Health::Unhealthy || watched.container.status == Status::Exited;
            let dead = dependencies::left_in_dead_network(&watched.container, &snapshot, now.wall).is_some();
            if (told || dead) && !self.cases.contains_key(&key) {
                let facts = self.facts(&key, scenario, &snapshot, false);
                if let Ok(found) = admit(&facts, None) {
                    let carried = self.budget.spent([name].into_iter(), &now);
                    let opened = transition::open("pi", &key, ("A", now.wall), found, carried, &now);
                    self.cases.insert(key, opened.case);
                }
            }
        }
        for key in self.cases.keys().cloned().collect::<Vec<_>>() {
            self.step(&key, scenario, &snapshot, played, random);
        }
    }

    fn watch_the_host(&mut self, snapshot: &Snapshot, now: &Now) {
        let (stops, fresh) = (Stops::new(), BTreeSet::new());
        let world = World {
            snapshot,
            stops: &stops,
            cases: &self.cases,
            probes: &BTreeMap::new(),
            fresh: &fresh,
            now: now.wall,
        };
        let seen = hold::look(&world, &self.illnesses, "nexus", |_, _| Mode::Heal);
        self.illnesses.follow(&seen, now);
        let healing = &self.policy.healing;
        self.hold = hold::next(self.hold.as_ref(), &mut self.illnesses, &world, "nexus", healing, now);
    }

    fn step(
        &mut self,
        key: &ServiceKey,
        scenario: &mut Scenario,
        snapshot: &Snapshot,
        played: &mut Played,
        random: &mut Random,
    ) {
        let now = at(scenario.seconds);
        let healing = self.policy.healing.clone();
        for _ in 0..16 {
            let Some(case) = self.cases.get(key).cloned() else { return };
            let mut facts = self.facts(key, scenario, snapshot, false);
            let mut decision = decide(&case, &facts, &now);
            if let Decision::Restart { container_id } = &decision {
                let id = container_id.clone();
                if self.held.get(key).is_some_and(|until| now.until(until) > SignedDuration::ZERO) {
                    return;
                }
                // The last look before the act.
                facts = self.facts(key, scenario, snapshot, true);
                decision = decide(&case, &facts, &now);
                if matches!(decision, Decision::Restart { .. }) {
                    let at = scenario.index(&key.service);
                    let container = &snapshot.containers[&id].container;
                    let intended =
                        transition::intend(crate::act::Deed::Restart, &case, container, healing.stop_timeout, &now);
                    self.cases.insert(key.clone(), intended.case);
                    self.budget.note(&id, &now);
                    scenario.restart(at, random.between(0, 5), played);
                    return;
                }
                if let Decision::Wait { until: Some(until), .. } = &decision {
                    self.held.insert(key.clone(), until.clone());
                }
            }
            let ends = decision.waits();
            let Some(changed) = transition::apply(&case, &decision, &facts, &healing, &now, 0.5) else { return };
            if changed.case.is_open() {
                self.cases.insert(key.clone(), changed.case);
            } else {
                self.budget.close(&changed.case.incident, &changed.case.memory);
                self.cases.remove(key);
            }
            if ends {
                return;
            }
        }
        panic!("decisions go round in circles");
    }
}

pub(super) fn play(seed: u64, healed: bool) -> (Failure, Played) {
    play_out(Scenario::new(seed), seed, healed)
}

pub(super) fn play_out(mut scenario: Scenario, seed: u64, healed: bool) -> (Failure, Played) {
    let mut random = Random(seed ^ 0xfeed);
    let mut healer = Healer {
        policy: Policy::default(),
        cases: BTreeMap::new(),
        budget: Restarts::default(),
        held: BTreeMap::new(),
        illnesses: Illnesses::default(),
        hold: None,
    };
    let mut played = Played::default();
    while scenario.seconds < ENDS_AT {
        scenario.tick();
        if scenario.seconds == STRIKES_AT {
            scenario.strike(&mut random);
        }
        // The jitter of stopping must not change what happens to the world.
        let mut stops = Random(seed ^ scenario.seconds as u64);
        if healed {
            healer.look(&mut scenario, &mut played, &mut stops);
        } else if scenario.seconds % POLLER_EVERY == 0 {
            for at in 0..scenario.services.len() {
                // What has ended it leaves to Docker's restart policy.
                if scenario.services[at].running && scenario.services[at].health == Health::Unhealthy {
                    scenario.restart(at, stops.between(0, 5), &mut played);
                }
            }
        }
        let over = scenario.seconds > STRIKES_AT && scenario.all_work();
        if over && played.all_well_at.is_none() {
            played.all_well_at = Some(scenario.seconds - STRIKES_AT);
        } else if !over {
            played.all_well_at = None;
        }
        if over && scenario.is_quiet() && healer.cases.is_empty() {
            break;
        }
    }
    (scenario.failure, played)
}
