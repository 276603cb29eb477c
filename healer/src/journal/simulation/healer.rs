//! The healer within the simulated world: what its loop does, with the functions of the worker, between boundaries at which it
//! may be killed.

use super::*;

impl World {
    /// The process dies at once; Docker goes on with what it has heard, and the journal stays as it is.
    pub(super) fn kill(&mut self, why: &str) {
        self.tell(format_args!("the healer is killed {why}"));
        self.revive();
    }

    /// A new healer on the files that the old one has left.
    pub(super) fn revive(&mut self) {
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
    pub(super) fn boundary(&mut self) -> Result<(), Killed> {
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
    pub(super) fn commit(&mut self, changes: Vec<Change>) -> Result<bool, Killed> {
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
    pub(super) fn sync(&mut self) {
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

    pub(super) fn snapshot(&self) -> Snapshot {
        let watched = self.fakes.iter().map(|fake| (fake.watched.container.id.clone(), fake.watched.clone()));
        Snapshot { up: self.docker_up, containers: watched.collect(), ..Snapshot::default() }
    }

    pub(super) fn facts(&self, it: usize) -> Facts {
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
        let containers = facts::containers_of(snapshot, &key, &self.stops, self.now.wall);
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
    pub(super) fn live(&mut self) {
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
        let changes = stops::news(&self.snapshot(), &self.stops, self.now.wall);
        if !changes.is_empty() && self.commit(changes.clone())? {
            stops::note(&mut self.stops, changes);
        }
        Ok(())
    }

    fn look_into_prompts(&mut self) -> Result<(), Killed> {
        for waiting in self.store.prompts().unwrap() {
            let it: usize = waiting.prompt.service[1..].parse().unwrap();
            let snapshot = self.snapshot();
            let would_be = shadow::Ledger::default();
            let (cases, restarts) = (&self.cases, &self.restarts);
            let known = prompts::Known { host: "pi", snapshot: &snapshot, cases, restarts, would_be: &would_be };
            let taken = prompts::take(&waiting.prompt, &known, || self.facts(it), &self.now);
            let done = vec![Change::PromptDone(waiting)];
            _ = match taken {
                Taken::Opens(changed) | Taken::Notes(changed) => self.make(it, changed, done)?,
                Taken::Nothing | Taken::Refused(_) => self.commit(done)?,
            };
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

    pub(super) fn carry_out(&mut self, it: usize, decision: &Decision, facts: &Facts) -> Result<bool, Killed> {
        let random = self.dice.unit();
        let Some(case) = self.cases.get(&key(it)) else { return Ok(false) };
        let Some(changed) = transition::apply(case, decision, facts, &facts.healing, &self.now, random) else {
            return Ok(false);
        };
        let made = self.make(it, changed, Vec::new())?;
        Ok(made && !decision.waits())
    }

    /// What was changed is on the disk before it is true.
    fn make(&mut self, it: usize, changed: Changed, with: Vec<Change>) -> Result<bool, Killed> {
        let (case, changes) = durable::changes(changed, with);
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
        // Who stopped it so soon after a restart that Docker refused may not have been told yet.
        let not_told = snapshot.containers[container_id].stop == StopCause::Unknown;
        let ours = case.stopped_by_us(&fake.container, fake.stop)
            || not_told && case.stopped_by_us(&fake.container, StopCause::Unknown);
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
}
