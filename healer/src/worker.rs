//! The loop: something happens → facts → decide → journal → act → verify → journal.
//!
//! One task does it all, one thing after the other, and is the only one that changes incidents. What is in memory is what
//! is on the disk: a change is made durable first. What takes long (evidence, Docker's restart) runs beside the loop,
//! once at a time for the whole host, and comes back as one more thing that happened.

mod asked;
mod labels;
mod leaks;
mod networks;
mod probes;
mod restart;
mod see;
mod show;
mod trouble;
mod unscraped;
mod unseen;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use jiff::SignedDuration;
use nexus_docker::{Docker, Snapshot, Watcher};
use nexus_model::{Attempt, IncidentState, Mode, Now, Refusal, ServiceKey, api::HealingOnHold};
use tokio::sync::{Notify, mpsc, watch};

use self::{
    networks::Owners,
    probes::Asking,
    restart::{Busy, finished},
    unscraped::Unscraped,
};
use crate::{
    alertmanager::Alertmanager,
    alone::Sights,
    asks::Ask,
    budget::{self, Restarts},
    case::{Case, Try},
    clock::{self, Clock},
    decide::{self, Admission, Decision},
    dependencies::{self, World},
    durable::Durable,
    evidence::{Places, chain},
    facts::{self, Facts, HostFacts, Stops},
    hold::{Hold, Illnesses},
    images::Images,
    journal::{Change, Journal, JournalError, Memo, Prompt, Waiting},
    metrics::Metrics,
    modes::Switches,
    notify::Told,
    ooms::Ooms,
    pauses::Pauses,
    policy::Policy,
    prompts::{self, DEPENDENCY_RESTARTED, Taken},
    relief::{self, task::Shown},
    shadow::{self, Ledger},
    sight::Sight,
    stops,
    transition::{self, Changed},
};

/// Looked at again even when nothing happens: clocks jump, and events get lost.
const HEARTBEAT: Duration = Duration::from_secs(30);
/// After the journal or Docker did not do as asked.
const AFTER_TROUBLE: Duration = Duration::from_secs(5);
/// Between two examinations of a service when the first has led to nothing: the watcher needs a moment to see the same.
const AFTER_EXAMINATION: SignedDuration = SignedDuration::from_secs(2);
/// Only so many incidents are forgotten at once: often enough for more than a host can open. Writes nothing when there is none.
const PRUNE_EVERY: SignedDuration = SignedDuration::from_mins(5);
/// Decisions about one incident in one go. The longest chain there is has five; more would be two that undo each other.
const MAX_DECISIONS: u32 = 16;

/// What the API shows of the worker.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Outlook {
    pub states: BTreeMap<ServiceKey, IncidentState>,
    /// Restarts within a day, by container.
    pub today: BTreeMap<String, u32>,
    pub hold: Option<HealingOnHold>,
}

/// What the worker needs.
pub struct Parts {
    pub host: String,
    pub stack: String,
    pub places: Places,
    pub docker: Arc<Docker>,
    pub watcher: Watcher,
    /// Asked for silences before a restart, and for prompts as soon as something is seen to be ill.
    pub alertmanager: Option<Alertmanager>,
    pub journal: Journal,
    pub policy: watch::Receiver<Arc<Policy>>,
    pub metrics: Arc<Metrics>,
    pub prompts: Arc<Notify>,
    pub switches: watch::Receiver<Arc<Switches>>,
    pub pauses: watch::Receiver<Arc<Pauses>>,
    pub outlook: watch::Sender<Arc<Outlook>>,
    pub told: watch::Sender<Told>,
    pub sights: watch::Sender<Sights>,
    /// Takes the alerts about the machine itself.
    pub host_prompts: mpsc::Sender<Waiting>,
    /// What the machine is short of, and whose memory runs out.
    pub relief: watch::Receiver<Arc<Shown>>,
    /// The last scrape of Prometheus, and whether the healer before this one has noted that it had lost it.
    pub scraped: watch::Receiver<Now>,
    pub was_unscraped: bool,
    /// Whether rows are copied to Postgres; only then is forgetting them made to wait for it.
    pub copies_wanted: bool,
    /// Where ports that the host publishes are asked.
    pub probe_host: Option<String>,
    /// The healer before this one has noted that it watched Docker until it went.
    pub docker_was_lost: bool,
}

pub struct Worker {
    parts: Parts,
    durable: Durable,
    clock: Clock,
    cases: BTreeMap<ServiceKey, Case>,
    stops: Stops,
    /// As far back as budgets and brake look.
    restarts: Restarts,
    /// The same of those that would have been made.
    would_be: Ledger,
    /// The one thing that runs beside the loop.
    busy: Option<Busy>,
    /// When to look at an incident again if nothing happens.
    due: BTreeMap<ServiceKey, Now>,
    /// Alerts wait in the journal that could not be looked into.
    prompts_wait: bool,
    pruned: Option<Now>,
    trouble: bool,
    /// After an examination that led to nothing: no other one of the service before.
    hold: BTreeMap<ServiceKey, Now>,
    images: Images,
    ooms: Ooms,
    /// What is ill at this moment, by our own eyes.
    sights: Vec<Sight>,
    /// What is ill of the whole host, and whether healing is on hold for it.
    illnesses: Illnesses,
    host_hold: Option<Hold>,
    /// More was ill than alerts are posted for: told once.
    too_much_to_see: bool,
    wrong_labels: labels::WrongLabels,
    probes: Asking,
    owners: Owners,
    /// That note is in the journal.
    docker_was_lost: bool,
    unscraped: Unscraped,
    /// Those that stopped while nobody watched have been named.
    has_named_unknown: bool,
}

impl Worker {
    /// Takes up what the journal holds.
    pub async fn resume(parts: Parts) -> Result<Self, JournalError> {
        let clock = Clock::new();
        // More than the brake lets through in a day, which is 144 times its own window.
        let limit = parts.policy.borrow().healing.restarts_per_10_minutes.saturating_add(1).saturating_mul(144);
        let limit = limit.min(budget::MOST_KEPT as u32);
        let now = clock.now();
        let (cases, stops, restarts, would_be, (host_hold, reached)) = parts
            .journal
            .read(move |store| {
                let restarts = store.recent_restarts(limit, &now)?;
                let would_be = store.would_be_restarts(&now)?;
                let memos = (store.memo(Memo::Hold)?, store.memo(Memo::Reached)?);
                Ok((store.open_cases()?, store.stops()?, restarts, would_be, memos))
            })
            .await?;
        // Those of the machine itself are another's to go on with.
        let cases: Vec<Case> = cases.into_iter().filter(|case| case.incident.project != relief::PROJECT).collect();
        for case in &cases {
            tracing::info!(
                host = case.incident.host, project = case.incident.project, service = case.incident.service,
                incident = %case.incident.id, "incident taken up again, {}", case.incident.state
            );
        }
        let worker = Self {
            clock,
            durable: Durable::new(parts.journal.clone(), Arc::clone(&parts.metrics)),
            cases: cases.into_iter().map(|case| (case.key(), case)).collect(),
            stops,
            restarts: Restarts::new(restarts),
            would_be,
            busy: None,
            due: BTreeMap::new(),
            prompts_wait: true,
            pruned: None,
            trouble: false,
            hold: BTreeMap::new(),
            images: Images::default(),
            ooms: Ooms::default(),
            sights: Vec::new(),
            illnesses: Illnesses::default(),
            host_hold,
            too_much_to_see: false,
            wrong_labels: labels::WrongLabels::new(),
            probes: Asking::resume(reached.unwrap_or_default()),
            owners: Owners::default(),
            docker_was_lost: parts.docker_was_lost,
            unscraped: Unscraped { is_lost: false, is_noted: parts.was_unscraped },
            has_named_unknown: false,
            parts,
        };
        worker.show();
        Ok(worker)
    }

    /// Runs until `stop`. A restart that Docker was asked for is not waited for: the intent is in the journal, and the
    /// next start finds out what came of it.
    pub async fn run(mut self, mut asks: mpsc::Receiver<Ask>, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut snapshots = self.parts.watcher.subscribe();
        let mut switches = self.parts.switches.clone();
        let mut policy = self.parts.policy.clone();
        let mut pauses = self.parts.pauses.clone();
        let mut relief = self.parts.relief.clone();
        let prompts = Arc::clone(&self.parts.prompts);
        loop {
            self.look().await;
            let pause = self.pause();
            tokio::select! {
                biased;
                () = &mut stop => break,
                finished = finished(&mut self.busy) => self.take_up(finished).await,
                Some(probed) = self.probes.next() => self.probes.take_up(probed, &self.clock.now()),
                Some(asked) = self.owners.next() => self.owners.take_up(asked, &self.clock.now()),
                () = prompts.notified() => self.prompts_wait = true,
                // The senders live as long as the process; if one is gone the heartbeat still turns the loop.
                Ok(()) = snapshots.changed() => (),
                Ok(()) = switches.changed() => (),
                Ok(()) = policy.changed() => (),
                Ok(()) = pauses.changed() => (),
                Some(ask) = asks.recv() => self.answer(ask).await,
                Ok(()) = relief.changed() => self.tell(),
                () = tokio::time::sleep(pause) => (),
            }
        }
        if let Some(busy) = self.busy.take() {
            busy.task.abort();
        }
    }

    /// Everything there is to look at. Cheap: plain data and no I/O, unless something changes.
    async fn look(&mut self) {
        self.trouble = false;
        let now = self.clock.now();
        let snapshot = self.parts.watcher.snapshot();
        // Also where nobody scrapes: who tells a person directly goes by it.
        self.parts.metrics.docker_up.set(snapshot.up.into());
        self.images.note(&snapshot);
        self.ooms.note(&snapshot, &now);
        self.look_for_scrapes().await;
        self.look_at_labels(&snapshot);
        // First, so that Alertmanager is under way while the rest is done.
        self.see(&snapshot);
        self.remember_stops(&snapshot).await;
        self.watch_the_host(&snapshot).await;
        if self.prompts_wait {
            self.look_into_prompts(&snapshot).await;
        }
        self.look_for_dead_networks(&snapshot).await;
        self.look_for_leaks(&snapshot).await;
        self.look_for_unseen(&snapshot).await;
        // Right after the start Docker has not been asked yet, which is no word on anything: it would be told as an obstacle.
        let has_been_asked = snapshot.up || snapshot.error.is_some();
        let keys: Vec<ServiceKey> = self.cases.keys().filter(|_| has_been_asked).cloned().collect();
        for key in keys {
            self.step(&key, &snapshot).await;
        }
        self.ask_probes(&snapshot);
        self.remember_reached().await;
        if self.pruned.as_ref().is_none_or(|last| now.since(last) >= PRUNE_EVERY) {
            let prune = Change::Prune { now: now.wall, copies_wanted: self.parts.copies_wanted };
            if self.commit(vec![prune]).await {
                self.pruned = Some(now);
                // A day moves on though nothing happens.
                self.show();
            }
        }
    }

    /// Until when nothing needs to be looked at.
    fn pause(&self) -> Duration {
        // What is due may be what could not be done: trying again at once would hammer a full disk.
        if self.trouble {
            return AFTER_TROUBLE;
        }
        let now = self.clock.now();
        let next = self.due.values().chain(self.probes.due()).map(|due| now.until(due)).min();
        // A moment more than what is left, so that it is not a nanosecond too early.
        let next = next.and_then(|left| Duration::try_from(left).ok()).map(|left| left + Duration::from_millis(1));
        next.map_or(HEARTBEAT, |left| left.min(HEARTBEAT))
    }

    /// Alerts that wait in the journal: each opens an incident, belongs to an open one, or is refused.
    async fn look_into_prompts(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            // They keep.
            return;
        }
        let waiting = match self.parts.journal.read(|store| store.prompts()).await {
            Ok(waiting) => waiting,
            Err(error) => {
                tracing::error!(reason = %chain(&error), "reading the alerts that wait");
                self.trouble = true;
                return;
            }
        };
        self.prompts_wait = false;
        let mut refused = Vec::new();
        for prompt in waiting {
            let key = ServiceKey::new(&prompt.prompt.project, &prompt.prompt.service);
            if key.project == relief::PROJECT {
                // One that finds no room waits in the journal on.
                self.prompts_wait |= self.parts.host_prompts.try_send(prompt).is_err();
                continue;
            }
            self.prompted(&key);
            // An alert about one that Docker calls well is right or wrong by its probe.
            if !self.cases.contains_key(&key) && self.probes_are_wanted_first(&key, snapshot) {
                self.prompts_wait = true;
                continue;
            }
            let taken = {
                let now = self.clock.now();
                prompts::take(&prompt.prompt, &self.known(snapshot), || self.facts(&key, snapshot), &now)
            };
            let done = Change::PromptDone(prompt);
            match taken {
                Taken::Opens(changed) => {
                    if !self.open(&key, changed, vec![done]).await {
                        self.prompts_wait = true;
                    }
                }
                Taken::Notes(changed) => self.prompts_wait |= !self.make(&key, changed, vec![done]).await,
                Taken::Nothing => refused.push(done),
                Taken::Refused(why) => {
                    self.parts.metrics.refused(why);
                    self.log_refusal(&key, why);
                    refused.push(done);
                }
            }
        }
        if !refused.is_empty() && !self.commit(refused).await {
            self.prompts_wait = true;
        }
    }

    fn known<'a>(&'a self, snapshot: &'a Snapshot) -> prompts::Known<'a> {
        let (host, cases, restarts, would_be) = (&self.parts.host, &self.cases, &self.restarts, &self.would_be);
        prompts::Known { host, snapshot, cases, restarts, would_be }
    }

    /// Opens an incident of what no alert has come for: the healer has seen it itself.
    async fn open_seen(&mut self, key: &ServiceKey, alert: &str, found: Admission, facts: &Facts, snapshot: &Snapshot) {
        let now = self.clock.now();
        let changed = prompts::open(&self.known(snapshot), key, (alert, now.wall), found, facts, &now);
        self.open(key, changed, Vec::new()).await;
    }

    /// Opens an incident, and says whether that could be made durable.
    async fn open(&mut self, key: &ServiceKey, changed: Changed, with: Vec<Change>) -> bool {
        let incident = changed.case.incident.clone();
        let made = self.make(key, changed, with).await;
        if made {
            tracing::info!(
                host = incident.host, project = key.project, service = key.service, incident = %incident.id,
                reason = incident.problem, "incident opened in mode {}", incident.mode
            );
        }
        made
    }

    /// Decides about an incident until there is nothing to do but wait.
    async fn step(&mut self, key: &ServiceKey, snapshot: &Snapshot) {
        for _ in 0..MAX_DECISIONS {
            let Some(case) = self.cases.get(key) else { return };
            let facts = self.facts(key, snapshot);
            let now = self.clock.now();
            if let Some(changed) = shadow::note(case, &facts, &now) {
                if !self.make(key, changed, Vec::new()).await {
                    return;
                }
                continue;
            }
            let decision = decide::decide(case, &facts, &now);
            if let Decision::Restart { container_id } = decision {
                self.due.remove(key);
                if self.probes_are_open(key, snapshot) {
                    return;
                }
                self.examine(key, container_id);
                return;
            }
            if !self.carry_out(key, &decision, &facts, &now).await {
                return;
            }
        }
        if let Some(case) = self.cases.get(key) {
            tracing::error!(
                host = self.parts.host, project = key.project, service = key.service, incident = %case.incident.id,
                "decisions go round in circles"
            );
        }
        self.due.insert(key.clone(), self.clock.now().after(SignedDuration::from_secs(5)));
    }

    /// Carries out a decision on paper. Says whether there may be more to decide.
    async fn carry_out(&mut self, key: &ServiceKey, decision: &Decision, facts: &Facts, now: &Now) -> bool {
        let Some(case) = self.cases.get(key) else { return false };
        let healing = &facts.healing;
        if let Decision::Block { why: Refusal::DependencyStarting, .. } = decision {
            // No event tells that it has run for long enough.
            self.due.insert(key.clone(), now.after(dependencies::SETTLES));
        }
        if let Decision::Wait { until, .. } = decision {
            match until {
                Some(until) => _ = self.due.insert(key.clone(), until.clone()),
                None => _ = self.due.remove(key),
            }
        }
        match transition::apply(case, decision, facts, healing, now, clock::random()) {
            Some(changed) => {
                let incident = case.incident.id;
                let prompts = self.prompts_of_followers(key, decision);
                if !prompts.is_empty() {
                    self.parts.prompts.notify_one();
                }
                let made = self.make(key, changed, prompts).await;
                if made {
                    self.log(key, incident, decision);
                }
                made && !decision.waits()
            }
            None => false,
        }
    }

    /// Those who ask to be restarted with a service that a restart has just made well.
    fn prompts_of_followers(&self, key: &ServiceKey, decision: &Decision) -> Vec<Change> {
        let Some(case) = self.cases.get(key) else { return Vec::new() };
        let snapshot = self.parts.watcher.snapshot();
        // Also when it took longer than it was given: the run that is well now is one that a restart of ours began.
        let is_ours = |attempt: &Try| {
            let seen = snapshot.containers.get(&attempt.attempt.container_id);
            seen.is_some_and(|watched| {
                let started_at = watched.container.started_at;
                started_at.is_some() && started_at == attempt.attempt.started_at_after
            })
        };
        let restarted = case.open_attempt().is_some() || case.attempts.iter().any(is_ours);
        if !restarted || *decision != Decision::Stabilise {
            return Vec::new();
        }
        let received_at = self.clock.now().wall;
        let prompt = |key: ServiceKey| {
            let (project, service, alert) = (key.project, key.service, DEPENDENCY_RESTARTED.to_owned());
            Change::Prompt(Prompt { project, service, alert, received_at })
        };
        dependencies::followers(key, &snapshot).into_iter().map(prompt).collect()
    }

    /// The policy of this moment.
    fn policy(&self) -> Arc<Policy> {
        Arc::clone(&self.parts.policy.borrow())
    }

    fn facts(&self, key: &ServiceKey, snapshot: &Snapshot) -> Facts {
        self.facts_with(key, snapshot, &BTreeSet::new())
    }

    /// `fresh` are ids of containers that were inspected just now.
    fn facts_with(&self, key: &ServiceKey, snapshot: &Snapshot, fresh: &BTreeSet<String>) -> Facts {
        let now = self.clock.now().wall;
        let probes = self.probes.facts(snapshot);
        let world = World { snapshot, stops: &self.stops, cases: &self.cases, fresh, probes: &probes, now };
        let policy = self.policy();
        let needed = dependencies::not_well(key, &world, |other, containers| {
            let switches = self.parts.switches.borrow();
            facts::mode_of(other, containers, &switches, &policy).mode
        });
        let mut containers = facts::containers_of(snapshot, key, &self.stops, now);
        let mode = facts::mode_of(key, &containers, &self.parts.switches.borrow(), &policy);
        let now = self.clock.now();
        let terms = policy.terms(key, facts::worn(&containers));
        let relief = self.parts.relief.borrow().clone();
        for seen in &mut containers {
            seen.stopped_for_room = relief.stopped.get(&seen.container.id) == Some(&seen.container.started_at);
            seen.probe = self.probe_of(&seen.container, &policy);
            seen.network_gone = self.owners.are_gone_for(&seen.container);
            seen.left_unstarted = policy.remedies.start
                && facts::is_left_unstarted(&seen.container, snapshot, terms.healing.start_patience, now.wall);
            seen.never_started = !seen.left_unstarted
                && facts::was_never_started(&seen.container, terms.healing.start_patience, now.wall);
        }
        let network_gone = containers.iter().any(|seen| seen.network_gone);
        let maintenance_until =
            policy.maintenance_until(&terms.windows, now.wall).map(|end| now.after(end.duration_since(now.wall)));
        let (recent_restarts, room_at) = self.restarts.on_host(&now);
        let ids = || containers.iter().map(|seen| seen.container.id.as_str());
        let mut spent_today = self.restarts.spent_today(ids(), &now);
        if mode.mode == Mode::Shadow {
            self.would_be.add_today(&mut spent_today, ids(), self.cases.get(key), &now);
        }
        let asks_for_care = self.host_hold.as_ref().is_some_and(|hold| hold.asks_for_care(&now));
        let occupies =
            |case: &Case| case.is_restarting() || (asks_for_care && case.incident.state == IncidentState::Verifying);
        let others_restart = self.cases.iter().any(|(other, case)| other != key && occupies(case));
        Facts {
            docker_up: snapshot.up,
            own_stack: key.project == self.parts.stack,
            mode,
            healing: terms.healing,
            containers,
            maintenance_until,
            host: HostFacts {
                restart_under_way: others_restart
                    || self.parts.relief.borrow().acting
                    || self.busy.as_ref().is_some_and(|busy| busy.acting && busy.key != *key),
                recent_restarts,
                room_at,
                hold_until: self.host_hold.as_ref().and_then(|hold| hold.until(&now)),
            },
            spent_today,
            act_under_way: self.busy.as_ref().is_some_and(|busy| busy.acting && busy.key == *key),
            journal_writable: self.parts.journal.is_writable(),
            needed,
            says_it_is_starting: false,
            network_gone,
            paused_until: self.parts.pauses.borrow().over(key, &now).map(|(_, until)| until),
            silenced: false,
            may_start: policy.remedies.start,
        }
    }

    /// Writes down who stopped what, as long as the watcher knows it: after a gap nobody else does.
    async fn remember_stops(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            return;
        }
        let changes = stops::news(snapshot, &self.stops, self.clock.now().wall);
        if !changes.is_empty() {
            if !self.commit(changes.clone()).await {
                return;
            }
            stops::note(&mut self.stops, changes);
        }
        // Its word has been taken, and Docker is watched again: what comes is another's to note.
        if self.docker_was_lost {
            self.docker_was_lost = !self.commit(vec![Change::Memo { memo: Memo::DockerLost, body: None }]).await;
        }
        if !self.has_named_unknown {
            self.has_named_unknown = true;
            let names = stops::of_unknown(snapshot, &self.stops);
            if !names.is_empty() {
                tracing::warn!(
                    containers = names.join(", "),
                    "they stopped while nobody watched, and it can't be told by whom: they are left as they are"
                );
            }
        }
    }

    /// Makes a changed incident durable, then true. Says whether that went well.
    async fn make(&mut self, key: &ServiceKey, changed: Changed, with: Vec<Change>) -> bool {
        let metrics = &self.parts.metrics;
        let ended = |_: &Attempt, outcome| metrics.restart_ended(outcome);
        let Some(case) = self.durable.make(self.cases.get(key), changed, with, ended).await else {
            self.trouble = true;
            return false;
        };
        if case.is_open() {
            self.cases.insert(key.clone(), case);
        } else {
            self.restarts.close(&case.incident, &case.memory);
            self.would_be.close(&case.incident, &case.memory, &self.clock.now());
            self.cases.remove(key);
            self.due.remove(key);
            self.hold.remove(key);
            self.unprompted(key);
        }
        self.show();
        true
    }

    async fn commit(&mut self, changes: Vec<Change>) -> bool {
        let made = self.durable.commit(changes).await;
        self.trouble |= !made;
        made
    }
}
