//! The loop of the machine's own incidents: read → judge → decide → journal → act → judge.
//!
//! It runs beside the worker and shares nothing with it but the journal and what each shows the other: two incidents at
//! most, of `disk` and of `memory`, are its own, and no other task changes them. It looks by itself every other second, since an
//! alert comes too late here; an alert only makes it take what is merely tight as a reason to begin.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Docker, Snapshot, Status, Watcher};
use nexus_model::{Attempt, AttemptOutcome, Evidence, EvidenceKind, IncidentState, Now, Refusal, ServiceKey};
use nexus_policy::{Policy, Terms, Worn};
use serde_json::json;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use uuid::Uuid;

use super::{
    Level, Remedy, Resource, Seen, Situation, Step,
    ballast::{self, Wanted},
    eyes::{self, Amount},
    leak::Series,
    tell::{self, Running},
};
use crate::{
    act::{self, Answer},
    alertmanager::{Alertmanager, Labels},
    case::Case,
    cgroup::{self, Load},
    clock::Clock,
    dependencies,
    durable::Durable,
    evidence::{Places, chain},
    journal::{Change, Journal, JournalError, Waiting},
    metrics::Metrics,
    pauses::Pauses,
    prompts::ALERT_NOTED,
    tell::Alert,
    transition::{self, Changed},
    worker::Outlook,
};

/// Between two looks, and between two while an incident is open or may soon be.
const EVERY: Duration = Duration::from_secs(2);
const EVERY_IN_TROUBLE: Duration = Duration::from_millis(500);
/// Steps about one incident in one go; the longest chain there is has four.
const MOST_STEPS: u32 = 16;
/// A ballast that could not be made is not tried again before.
const BALLAST_AGAIN: SignedDuration = SignedDuration::from_mins(10);

/// People are told of a container this long before its memory reaches its limit, and it is restarted this long before, where
/// that is allowed. A restart takes ten seconds where the program does not obey.
const TOLD_BEFORE: SignedDuration = SignedDuration::from_secs(90);
const RESTARTED_BEFORE: SignedDuration = SignedDuration::from_secs(45);
/// With less than this share used, in percent, it is loading rather than leaking.
const TOLD_FROM: u64 = 33;
const RESTARTED_FROM: u64 = 50;
/// How long it is told on after the last time that it looked so: a pace that is taken from half a minute wavers.
const TOLD_ON: SignedDuration = SignedDuration::from_mins(2);

/// The name of what made it look when no alert did.
const OWN_EYES: &str = "HealerSawShortage";

/// What the worker and people see of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Shown {
    pub alerts: Vec<Alert>,
    /// Containers whose memory is about to reach its limit, by id.
    pub running_out: BTreeMap<String, Running>,
    /// By container id: the runs that were ended, or are about to be, and are to be started again.
    pub stopped: BTreeMap<String, Option<Timestamp>>,
    /// Docker is being asked to stop or start something: a restart would come in between.
    pub acting: bool,
}

pub struct Parts {
    pub host: String,
    pub stack: String,
    pub places: Places,
    pub journal_path: PathBuf,
    pub docker: Arc<Docker>,
    pub watcher: Watcher,
    pub alertmanager: Option<Alertmanager>,
    pub journal: Journal,
    pub policy: watch::Receiver<Arc<Policy>>,
    pub pauses: watch::Receiver<Arc<Pauses>>,
    pub metrics: Arc<Metrics>,
    /// Alerts about the machine, as the worker finds them in the journal.
    pub prompts: mpsc::Receiver<Waiting>,
    pub outlook: watch::Receiver<Arc<Outlook>>,
    pub shown: watch::Sender<Arc<Shown>>,
}

/// What came of an act.
struct Done {
    resource: Resource,
    attempt: Uuid,
    action: &'static str,
    answer: Answer,
    /// What Docker says that it deleted.
    deleted: u64,
}

/// What is known of a container from look to look.
#[derive(Default)]
struct Watched {
    run: Option<Timestamp>,
    held: Series,
    load: Load,
    /// Bytes a second to disks, since the look before.
    writes: u64,
    looked: Option<SignedDuration>,
    told: Option<(Running, SignedDuration)>,
}

pub struct Relief {
    parts: Parts,
    durable: Durable,
    clock: Clock,
    cases: BTreeMap<Resource, Case>,
    levels: BTreeMap<Resource, Level>,
    used: BTreeMap<Resource, Series>,
    containers: BTreeMap<String, Watched>,
    last_prune: Option<Now>,
    ballast: PathBuf,
    ballast_failed: Option<Now>,
    acts: JoinSet<Done>,
    under_way: BTreeMap<Uuid, &'static str>,
    /// There is little of something.
    near: bool,
}

impl Relief {
    /// Takes up what the journal holds.
    pub async fn resume(parts: Parts) -> Result<Self, JournalError> {
        let read = parts.journal.read(|store| Ok((store.open_cases()?, store.last_attempt("prune")?)));
        let (cases, last_prune) = read.await?;
        let cases = cases.into_iter().filter_map(|case| Some((Resource::of(&case.key())?, case)));
        let ballast = ballast::path(&parts.journal_path);
        let relief = Self {
            durable: Durable::new(parts.journal.clone(), Arc::clone(&parts.metrics)),
            clock: Clock::new(),
            cases: cases.collect(),
            levels: BTreeMap::new(),
            used: BTreeMap::new(),
            containers: BTreeMap::new(),
            last_prune,
            ballast,
            ballast_failed: None,
            acts: JoinSet::new(),
            under_way: BTreeMap::new(),
            near: false,
            parts,
        };
        for (resource, case) in &relief.cases {
            relief.parts.metrics.relief.open(*resource, true);
            tracing::info!(
                host = case.incident.host, project = case.incident.project, service = case.incident.service,
                incident = %case.incident.id, "incident taken up again, {}", case.incident.state
            );
        }
        // Before anybody decides about what was stopped by the process before.
        relief.show();
        Ok(relief)
    }

    /// Runs until `stop`. What Docker was asked for is not waited for: the intent is in the journal.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        loop {
            self.look().await;
            let pause = if self.cases.is_empty() && !self.near { EVERY } else { EVERY_IN_TROUBLE };
            tokio::select! {
                biased;
                () = &mut stop => break,
                Some(done) = self.acts.join_next(), if !self.acts.is_empty() => match done {
                    Ok(done) => self.take_up(done).await,
                    // What came of it is told by the facts.
                    Err(error) => {
                        tracing::error!(reason = %error, "a task broke down");
                        self.under_way.clear();
                    }
                },
                Some(prompt) = self.parts.prompts.recv() => self.prompted(prompt).await,
                () = tokio::time::sleep(pause) => (),
            }
        }
    }

    async fn look(&mut self) {
        let now = self.clock.now();
        let snapshot = self.parts.watcher.snapshot();
        let policy = Arc::clone(&self.parts.policy.borrow());
        self.watch_containers(&snapshot, &now);
        self.near = false;
        for resource in Resource::ALL {
            let Some(amount) = self.measure(resource) else { continue };
            self.near |= eyes::is_near(resource, &amount);
            let situation = self.situation(resource, &amount, &snapshot, &policy);
            if !self.cases.contains_key(&resource) {
                if situation.level != Level::Critical || situation.silenced {
                    continue;
                }
                self.open(&situation, (OWN_EYES, now.wall), Vec::new(), &now).await;
            }
            self.step(resource, &snapshot, &policy).await;
        }
        if !self.cases.contains_key(&Resource::Disk) {
            self.keep_ballast(policy.remedies.ballast, &now).await;
        }
        self.show();
    }

    /// How much there is now, noted for the pace.
    fn measure(&mut self, resource: Resource) -> Option<Amount> {
        let amount = match resource {
            Resource::Disk => eyes::disk(self.ballast.parent()?)?,
            Resource::Memory => eyes::memory(&self.parts.places.procfs)?,
        };
        let at = self.clock.now().boottime;
        self.used.entry(resource).or_default().note(at, amount.total.saturating_sub(amount.available));
        Some(amount)
    }

    fn situation(&mut self, resource: Resource, amount: &Amount, snapshot: &Snapshot, policy: &Policy) -> Situation {
        let series = self.used.entry(resource).or_default();
        let before = self.levels.get(&resource).copied().unwrap_or(Level::Plenty);
        let (level, left) = match resource {
            Resource::Disk => eyes::disk_level(amount, series, before),
            Resource::Memory => eyes::memory_level(amount, series, before),
        };
        self.levels.insert(resource, level);
        let containers = self.seen(resource, snapshot, policy);
        Situation {
            resource,
            level,
            available: amount.available,
            left,
            may_prune: policy.remedies.prune,
            may_stop: policy.remedies.stop_expendables,
            ballast: ballast::size(&self.ballast),
            last_prune: self.last_prune.clone(),
            containers,
            docker_up: snapshot.up,
            journal_writable: self.parts.journal.is_writable(),
            silenced: self.is_silenced(resource),
            held: self.held(&resource.key(), policy.terms(&resource.key(), []), policy),
            under_way: self.under_way.keys().copied().collect(),
            stable_for: policy.healing.stable_for,
            start_after: policy.healing.well_after_giving_up,
        }
    }

    /// The containers that may be stopped, and those that wait to be started; what helps most first.
    fn seen(&self, resource: Resource, snapshot: &Snapshot, policy: &Policy) -> Vec<Seen> {
        let mut services: BTreeMap<ServiceKey, Vec<&Container>> = BTreeMap::new();
        for watched in snapshot.containers.values() {
            if let Some(key) = watched.container.key()
                && key.project != self.parts.stack
                && !watched.container.is_one_off()
            {
                services.entry(key).or_default().push(&watched.container);
            }
        }
        let expendable: BTreeSet<&ServiceKey> = services
            .iter()
            .filter(|(key, all)| policy.is_expendable(key, all.iter().map(|container| &container.labels)))
            .map(|(key, _)| key)
            .collect();
        // What something needs that is to run on is not expendable after all.
        let runs = |container: &&Container| container.status == Status::Running;
        let lasting = services.iter().filter(|(key, all)| !expendable.contains(key) && all.iter().any(runs));
        let needed: BTreeSet<ServiceKey> =
            lasting.flat_map(|(key, _)| dependencies::all_needs(key, snapshot)).collect();
        let stopped = self.cases.values().flat_map(|case| case.memory.relief.stopped.keys());
        let stopped: BTreeSet<&String> = stopped.collect();
        let outlook = self.parts.outlook.borrow();
        let mut seen = Vec::new();
        for (key, all) in &services {
            let restarting = outlook.states.get(key) == Some(&IncidentState::Restarting);
            let may = expendable.contains(key) && !needed.contains(key) && !restarting;
            if !may && !all.iter().any(|container| stopped.contains(&container.id)) {
                continue;
            }
            let worn = all.iter().map(|it| Worn { image: &it.image, labels: &it.labels });
            let terms = policy.terms(key, worn);
            let healing = terms.healing.clone();
            // Its owner is at work on it.
            let kept_off = self.held(key, terms, policy);
            let may = may && kept_off.is_none();
            for container in all.iter().filter(|container| may || stopped.contains(&container.id)) {
                let watched = self.containers.get(&container.id);
                let held = watched.and_then(|watched| watched.load.held_bytes).unwrap_or_default();
                let writes = watched.map_or(0, |watched| watched.writes);
                let rank = if resource == Resource::Disk { (writes, held) } else { (held, writes) };
                seen.push((
                    rank,
                    Seen {
                        key: key.clone(),
                        id: container.id.clone(),
                        name: container.name.clone(),
                        runs: matches!(container.status, Status::Running | Status::Restarting | Status::Paused),
                        started_at: container.started_at,
                        expendable: may && container.status != Status::Paused,
                        stop_timeout: act::stop_timeout(container, &healing),
                        held: kept_off,
                    },
                ));
            }
        }
        seen.sort_by(|(a, one), (b, other)| b.cmp(a).then_with(|| one.name.cmp(&other.name)));
        seen.into_iter().map(|(_, seen)| seen).collect()
    }

    /// Memory and writes of the containers, and which of them are about to reach their limit.
    fn watch_containers(&mut self, snapshot: &Snapshot, now: &Now) {
        self.containers.retain(|id, _| snapshot.containers.contains_key(id));
        for (id, seen) in &snapshot.containers {
            let container = &seen.container;
            let Some(key) = container.key().filter(|_| container.status == Status::Running) else {
                self.containers.remove(id);
                continue;
            };
            let watched = self.containers.entry(id.clone()).or_default();
            if watched.run != container.started_at {
                *watched = Watched { run: container.started_at, ..Watched::default() };
            }
            let load = cgroup::load(&self.parts.places.cgroupfs, container);
            if let Some(looked) = watched.looked
                && let (Some(before), Some(after)) = (watched.load.written_bytes, load.written_bytes)
            {
                let passed = (now.boottime - looked).as_secs_f64().max(0.1);
                watched.writes = (after.saturating_sub(before) as f64 / passed) as u64;
            }
            (watched.load, watched.looked) = (load, Some(now.boottime));
            let (Some(held), Some(limit)) = (load.held_bytes, container.memory_limit_bytes) else { continue };
            watched.held.note(now.boottime, held);
            let percent = held.saturating_mul(100) / limit.max(1);
            let soon = watched.held.left(limit).filter(|left| *left <= TOLD_BEFORE && percent >= TOLD_FROM);
            match soon {
                Some(left) => {
                    let since = watched.told.as_ref().map_or(now.wall, |(told, _)| told.since);
                    let running = Running {
                        key,
                        name: container.name.clone(),
                        run: container.started_at,
                        limit,
                        pace: watched.held.pace().unwrap_or_default() as u64,
                        left,
                        since,
                        act: left <= RESTARTED_BEFORE && percent >= RESTARTED_FROM,
                    };
                    if watched.told.is_none() {
                        tracing::warn!(
                            host = self.parts.host,
                            project = running.key.project,
                            service = running.key.service,
                            reason = running.problem(),
                            "a container runs out of memory"
                        );
                    }
                    watched.told = Some((running, now.boottime));
                }
                None => {
                    if let Some((running, last)) = &mut watched.told {
                        running.act = false;
                        if now.boottime - *last >= TOLD_ON {
                            watched.told = None;
                        }
                    }
                }
            }
        }
    }

    /// What keeps the healer's hands off the machine, or off a service: a pause that covers it, or its maintenance.
    fn held(&self, key: &ServiceKey, terms: Terms, policy: &Policy) -> Option<Refusal> {
        let now = self.clock.now();
        if self.parts.pauses.borrow().over(key, &now).is_some() {
            return Some(Refusal::HealingPaused);
        }
        policy.maintenance_until(&terms.windows, now.wall).map(|_| Refusal::MaintenanceWindow)
    }

    /// By what Alertmanager told last: there is no time to ask.
    fn is_silenced(&self, resource: Resource) -> bool {
        let Some(alertmanager) = &self.parts.alertmanager else { return false };
        let (heal, names) = match resource {
            Resource::Disk => ("prune", ["HostDiskNearlyFull", OWN_EYES]),
            Resource::Memory => ("relieve", ["HostMemoryShort", OWN_EYES]),
        };
        names.into_iter().any(|name| {
            alertmanager.is_silenced(&Labels::from([
                ("alertname", name),
                ("heal", heal),
                ("severity", "none"),
                ("host", self.parts.host.as_str()),
            ]))
        })
    }

    /// An alert about the machine: here what is only tight is a reason as well.
    async fn prompted(&mut self, waiting: Waiting) {
        let now = self.clock.now();
        let key = ServiceKey::new(&waiting.prompt.project, &waiting.prompt.service);
        let done = Change::PromptDone(waiting.clone());
        let Some((resource, amount)) = Resource::of(&key).and_then(|it| Some((it, self.measure(it)?))) else {
            self.durable.commit(vec![done]).await;
            return;
        };
        let (alert, at) = (waiting.prompt.alert.as_str(), waiting.prompt.received_at);
        if let Some(case) = self.cases.get(&resource) {
            let noted = at.duration_since(case.incident.last_alert_at).abs() >= ALERT_NOTED;
            if noted {
                let changed = transition::alerted(case, at);
                self.make(resource, changed, vec![done]).await;
            } else {
                self.durable.commit(vec![done]).await;
            }
            return;
        }
        let snapshot = self.parts.watcher.snapshot();
        let policy = Arc::clone(&self.parts.policy.borrow());
        let situation = self.situation(resource, &amount, &snapshot, &policy);
        if situation.level > Level::Tight {
            self.parts.metrics.refused(Refusal::AlreadyWell);
            self.durable.commit(vec![done]).await;
            return;
        }
        if self.open(&situation, (alert, at), vec![done], &now).await {
            self.step(resource, &snapshot, &policy).await;
        }
    }

    async fn open(&mut self, situation: &Situation, alert: (&str, Timestamp), with: Vec<Change>, now: &Now) -> bool {
        let changed = super::open(&self.parts.host, situation, alert, now);
        let incident = changed.case.incident.clone();
        let made = self.make(situation.resource, changed, with).await;
        if made {
            tracing::warn!(
                host = incident.host, project = incident.project, service = incident.service, incident = %incident.id,
                reason = incident.problem, "incident opened in mode {}", incident.mode
            );
        }
        made
    }

    /// Decides about an incident until there is nothing to do but wait.
    async fn step(&mut self, resource: Resource, snapshot: &Snapshot, policy: &Policy) {
        for _ in 0..MOST_STEPS {
            let now = self.clock.now();
            let Some(amount) = self.measure(resource) else { return };
            let situation = self.situation(resource, &amount, snapshot, policy);
            let Some(case) = self.cases.get(&resource) else { return };
            let step = super::next(case, &situation, &now);
            let Some(changed) = super::apply(case, &step, &situation, &now) else { return };
            let (incident, key) = (case.incident.id, case.key());
            let wanted = if let Step::Act(remedy) = &step { Some(remedy.clone()) } else { None };
            let attempt = changed.case.attempts.last().cloned();
            let mut with = Vec::new();
            if let (Some(_), Some(attempt)) = (&wanted, &attempt) {
                with.push(Change::Evidence(self.evidence(incident, attempt.attempt.id, &amount, &situation, &now)));
            }
            if !self.make(resource, changed, with).await {
                return;
            }
            let (host, project, service) = (&self.parts.host, &key.project, &key.service);
            match (&step, wanted, attempt) {
                (_, Some(remedy), Some(attempt)) => {
                    tracing::warn!(
                        host, project, service, %incident, attempt = attempt.attempt.number, reason = ?remedy,
                        "acting for want of {service}"
                    );
                    let stop_timeout = attempt.memory.stop_timeout;
                    self.act(resource, attempt.attempt.id, remedy, stop_timeout, &now);
                }
                (Step::Wait { why }, ..) => {
                    tracing::debug!(host, project, service, %incident, reason = ?why, "waiting");
                    return;
                }
                (step, ..) => tracing::info!(host, project, service, %incident, reason = ?step, "decided"),
            }
        }
    }

    /// How the machine was before an act.
    fn evidence(&self, incident: Uuid, attempt: Uuid, amount: &Amount, situation: &Situation, now: &Now) -> Evidence {
        const MOST: usize = 10;
        let snapshot = self.parts.watcher.snapshot();
        let mut users: Vec<_> = self
            .containers
            .iter()
            .filter_map(|(id, watched)| Some((snapshot.containers.get(id)?.container.name.clone(), watched)))
            .collect();
        users.sort_by_key(|(_, watched)| match situation.resource {
            Resource::Disk => std::cmp::Reverse(watched.writes),
            Resource::Memory => std::cmp::Reverse(watched.load.held_bytes.unwrap_or_default()),
        });
        let users = users.iter().take(MOST).map(|(name, watched)| {
            json!({
                "container": name,
                "memory_bytes": watched.load.held_bytes,
                "written_bytes_per_second": watched.writes,
            })
        });
        Evidence {
            id: Uuid::now_v7(),
            incident_id: incident,
            attempt_id: Some(attempt),
            kind: EvidenceKind::HostVitals,
            taken_at: now.wall,
            body: json!({
                "resource": situation.resource,
                "available_bytes": amount.available,
                "total_bytes": amount.total,
                "stalled_percent": amount.stalled,
                "gone_in_seconds": situation.left.map(|left| left.as_secs()),
                "ballast_bytes": situation.ballast,
                "users": users.collect::<Vec<_>>(),
            }),
        }
    }

    /// Begins what the intent says.
    fn act(&mut self, resource: Resource, attempt: Uuid, remedy: Remedy, stop_timeout: SignedDuration, now: &Now) {
        let docker = Arc::clone(&self.parts.docker);
        let action = remedy.action();
        self.under_way.insert(attempt, action);
        let done = move |answer, deleted| Done { resource, attempt, action, answer, deleted };
        match remedy {
            Remedy::Ballast => {
                let path = self.ballast.clone();
                self.acts.spawn_blocking(move || match ballast::remove(&path) {
                    Ok(()) => done(Answer::Done, 0),
                    Err(error) => done(Answer::Refused(chain(&error)), 0),
                });
            }
            Remedy::Prune => {
                self.last_prune = Some(now.clone());
                self.acts.spawn(async move {
                    let (answer, deleted) = act::prune(&docker).await;
                    done(answer, deleted)
                });
            }
            Remedy::Stop { container_id } => {
                self.acts.spawn(async move { done(act::stop(&docker, &container_id, stop_timeout).await, 0) });
            }
            Remedy::Start { container_id } => {
                self.acts.spawn(async move { done(act::start(&docker, &container_id).await, 0) });
            }
        }
        self.show();
    }

    /// An act is over. Whether a container was stopped or started is told by Docker's facts, not by its answer.
    async fn take_up(&mut self, done: Done) {
        self.under_way.remove(&done.attempt);
        let Done { resource, attempt, action, answer, deleted } = done;
        let Some(amount) = self.measure(resource) else { return };
        let Some(case) = self.cases.get(&resource) else { return };
        let Some(intent) = case.attempts.iter().find(|it| it.attempt.id == attempt) else { return };
        let measured = super::freed(intent, amount.available, resource);
        let (outcome, detail) = match (action, answer) {
            (_, Answer::Refused(reason)) => (AttemptOutcome::Failed, crate::redact::line(&reason)),
            ("stop" | "start", _) => return,
            (_, Answer::Lost(reason)) => (AttemptOutcome::Interrupted, crate::redact::line(&reason)),
            ("prune", Answer::Done) => {
                let helped = if deleted > 0 { AttemptOutcome::Helped } else { AttemptOutcome::DidNotHelp };
                (helped, format!("docker deleted {}; {measured}", super::bytes(deleted)))
            }
            (_, Answer::Done) => (AttemptOutcome::Helped, measured),
        };
        let now = self.clock.now();
        let snapshot = self.parts.watcher.snapshot();
        let policy = Arc::clone(&self.parts.policy.borrow());
        let situation = self.situation(resource, &amount, &snapshot, &policy);
        let step = Step::Judge { attempt, outcome, detail };
        if let Some(case) = self.cases.get(&resource)
            && let Some(changed) = super::apply(case, &step, &situation, &now)
        {
            self.make(resource, changed, Vec::new()).await;
        }
    }

    /// Makes, removes or leaves the ballast. It is part of no incident: there is no trouble.
    async fn keep_ballast(&mut self, policy: u64, now: &Now) {
        if self.ballast_failed.as_ref().is_some_and(|failed| now.since(failed) < BALLAST_AGAIN) {
            return;
        }
        let Some(disk) = self.ballast.parent().and_then(eyes::disk) else { return };
        let size = ballast::size(&self.ballast);
        let wanted = ballast::wanted(size, policy, disk.available, eyes::plenty_of_disk(disk.total));
        let path = self.ballast.clone();
        let work = match wanted {
            Wanted::Nothing => return,
            Wanted::Remove => tokio::task::spawn_blocking(move || ballast::remove(&path)),
            Wanted::Make => tokio::task::spawn_blocking(move || ballast::make(&path, policy)),
        };
        let outcome = work.await.unwrap_or_else(|error| Err(std::io::Error::other(error)));
        match outcome {
            Ok(()) => {
                let (file, size) = (self.ballast.display(), super::bytes(ballast::size(&self.ballast)));
                tracing::info!(host = self.parts.host, "the ballast {file} has {size} now");
                self.ballast_failed = None;
            }
            Err(error) => {
                let file = self.ballast.display();
                tracing::warn!(host = self.parts.host, reason = %chain(&error), "the ballast {file} can't be kept");
                self.ballast_failed = Some(now.clone());
            }
        }
    }

    /// Makes a changed incident durable, then true.
    async fn make(&mut self, resource: Resource, changed: Changed, with: Vec<Change>) -> bool {
        let metrics = &self.parts.metrics;
        let ended = |attempt: &Attempt, outcome| metrics.relief.ended(&attempt.action, outcome);
        let Some(case) = self.durable.make(self.cases.get(&resource), changed, with, ended).await else { return false };
        metrics.relief.open(resource, case.is_open());
        if case.is_open() {
            self.cases.insert(resource, case);
        } else {
            self.cases.remove(&resource);
        }
        self.show();
        true
    }

    fn show(&self) {
        let running_out: BTreeMap<String, Running> = self
            .containers
            .iter()
            .filter_map(|(id, watched)| Some((id.clone(), watched.told.as_ref()?.0.clone())))
            .collect();
        let metrics = &self.parts.metrics.relief;
        metrics.running_out.set(running_out.len() as i64);
        metrics.ballast.set(i64::try_from(ballast::size(&self.ballast)).unwrap_or(i64::MAX));
        let stopped: usize = self.cases.values().map(|case| case.memory.relief.stopped.len()).sum();
        metrics.stopped.set(stopped as i64);
        // A leak that is healed is told by what healing says; told all the same, since the leak is still there.
        let host = &self.parts.host;
        let leaks = running_out.values().map(|running| tell::runs_out(running, host));
        let alerts = self.cases.values().filter_map(tell::alert).chain(leaks).collect();
        let acting = self.under_way.values().any(|action| matches!(*action, "stop" | "start"));
        let stopped = self.cases.values().flat_map(|case| &case.memory.relief.stopped);
        let stopped = stopped.map(|(id, stopped)| (id.clone(), stopped.run)).collect();
        let shown = Shown { alerts, running_out, stopped, acting };
        self.parts.shown.send_if_modified(|before| {
            let changed = **before != shown;
            if changed {
                *before = Arc::new(shown);
            }
            changed
        });
    }
}
