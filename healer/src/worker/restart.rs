//! One restart, from the fresh look over the intent to Docker's answer. What takes long runs beside the loop.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use jiff::SignedDuration;
use nexus_docker::{Container, Docker, DockerError, Snapshot, Status, StopCause};
use nexus_model::{AttemptOutcome, Cause, Confidence, Incident, Refusal, ServiceKey};
use tokio::task::JoinHandle;

use super::{AFTER_EXAMINATION, Worker};
use crate::{
    act::{self, Answer, Deed},
    alertmanager::{Alertmanager, Labels},
    case::Case,
    decide::{self, Decision},
    dependencies, diagnosis,
    evidence::{self, Gathered, chain},
    facts::ContainerFacts,
    findings::{self, Surroundings},
    journal::Change,
    sight, transition,
};

/// How long after Docker's answer the watcher may take to show the new run: it inspects one container.
const WATCHER_CATCHES_UP: Duration = Duration::from_secs(5);

/// When to read the log again of a service that says it is starting.
const READ_AGAIN: SignedDuration = SignedDuration::from_secs(15);

/// For a look at something that the service needs, beside the evidence that is taken of the service itself.
pub(super) const LOOK_AT_NEEDED: Duration = Duration::from_secs(1);

/// What runs beside the loop, for which service.
pub(super) struct Busy {
    pub(super) key: ServiceKey,
    /// Docker has been asked; otherwise it is only being looked at.
    pub(super) acting: bool,
    pub(super) task: JoinHandle<Finished>,
}

/// A fresh look at a container that is to be restarted.
pub(super) struct Examined {
    container: Arc<Container>,
    /// The containers of what it needs, those that could be looked at in time.
    needed: Vec<Arc<Container>>,
    network_gone: bool,
    gathered: Gathered,
    silenced: bool,
}

/// What came back from beside the loop.
pub(super) enum Finished {
    Examined { container_id: String, found: Result<Box<Examined>, DockerError> },
    Acted { answer: Answer },
}

impl Worker {
    /// Looks at the container afresh and takes evidence, beside the loop.
    pub(super) fn examine(&mut self, key: &ServiceKey, container_id: String) {
        if self.busy.is_some() {
            return;
        }
        if let Some(until) = self.hold.get(key) {
            if self.clock.now().until(until) > SignedDuration::ZERO {
                self.due.insert(key.clone(), until.clone());
                return;
            }
            self.hold.remove(key);
        }
        let docker = Arc::clone(&self.parts.docker);
        let places = self.parts.places.clone();
        let snapshot = self.parts.watcher.snapshot();
        let image_change = self.images.change_of(key).cloned();
        let last_oom_seconds = self.ooms.last(&container_id, &self.clock.now()).map(|ago| ago.as_secs_f64().round());
        // Asked each time, also when an alert has only just come past the silences: it has another name than the one that the
        // owner may have silenced.
        let incident = self.cases.get(key).map(|case| case.incident.clone());
        let silence = self.parts.alertmanager.clone().zip(incident);
        let needed = dependencies::containers_needed(key, &snapshot);
        let now = self.clock.now();
        let facts = self.facts(key, &snapshot);
        let seen = facts.container(&container_id);
        let needs_its_log = seen.is_some_and(|seen| decide::its_log_decides(seen, &facts.healing, &now));
        let ended_by_docker = seen.is_some_and(ContainerFacts::was_ended_by_docker);
        let task = tokio::spawn(async move {
            let look = async {
                let container = docker.inspect(&container_id).await?;
                let silenced = async {
                    match &silence {
                        Some((alertmanager, incident)) => is_silenced(alertmanager, incident, &container).await,
                        None => false,
                    }
                };
                let dependencies = findings::dependencies(&container, &snapshot);
                drop(snapshot);
                let around = Surroundings { dependencies, image_change, last_oom_seconds, ended_by_docker };
                let (gathered, silenced, needed, network_gone) = tokio::join!(
                    evidence::gather(&docker, &container, &places, around, needs_its_log),
                    silenced,
                    look_at_needed(&docker, &needed),
                    is_network_gone(&docker, &container),
                );
                // Reading the log takes a while, in which somebody may have stopped it: the last look comes after.
                let container = Arc::new(docker.inspect(&container_id).await?);
                Ok(Box::new(Examined { container, needed, network_gone, gathered, silenced }))
            };
            let found = look.await;
            Finished::Examined { container_id, found }
        });
        self.busy = Some(Busy { key: key.clone(), acting: false, task });
    }

    pub(super) async fn take_up(&mut self, (key, finished): (ServiceKey, Option<Finished>)) {
        self.busy = None;
        let snapshot = self.parts.watcher.snapshot();
        match finished {
            Some(Finished::Examined { container_id, found: Ok(examined) }) => {
                self.act(&key, &container_id, *examined, &snapshot).await;
            }
            Some(Finished::Examined { found: Err(error), .. }) => {
                tracing::warn!(
                    host = self.parts.host, project = key.project, service = key.service,
                    reason = %chain(&error), "the container can't be examined"
                );
                // The watcher finds out what it means.
                self.hold_off(&key);
            }
            Some(Finished::Acted { answer }) => self.answered(&key, answer, &snapshot).await,
            // The task panicked. What came of the restart is told by the container's start time.
            None => {
                tracing::error!(
                    host = self.parts.host,
                    project = key.project,
                    service = key.service,
                    "a task broke down"
                );
                self.hold_off(&key);
            }
        }
    }

    /// The last look before the act. Only when the fresh facts say the same is the intent written and Docker asked.
    async fn act(&mut self, key: &ServiceKey, container_id: &str, examined: Examined, snapshot: &Snapshot) {
        let Examined { container, mut needed, network_gone, gathered, silenced } = examined;
        let Some(case) = self.cases.get(key) else { return };
        let now = self.clock.now();
        let fresh: BTreeSet<String> = needed.iter().map(|container| container.id.clone()).collect();
        needed.push(Arc::clone(&container));
        let mut facts = self.facts_with(key, &with_fresh(snapshot, needed), &fresh);
        // What the watcher has heard meanwhile counts as well: it knows who stopped a container, and inspect does not.
        if !is_restart_of(&decide::decide(case, &self.facts(key, snapshot), &now), container_id) {
            self.hold_off(key);
            return;
        }
        if let Some(seen) = facts.containers.iter_mut().find(|seen| seen.container.id == container_id) {
            refresh(seen, &container);
        }
        facts.silenced = silenced;
        facts.network_gone |= network_gone;
        let diagnosis = diagnosis::diagnose(&gathered.findings, now.wall);
        facts.says_it_is_starting = diagnosis.cause == Cause::SlowStart && diagnosis.confidence >= Confidence::Likely;
        // What can't be read may say it: a disk that is busy with a recovery is slow to give the log.
        facts.says_it_is_starting |= gathered.log_is_unread;
        let decision = decide::decide(case, &facts, &now);
        if !is_restart_of(&decision, container_id) {
            tracing::debug!(
                host = self.parts.host, project = key.project, service = key.service, reason = ?decision,
                "decided otherwise on a second look"
            );
            match &decision {
                Decision::Wait {
                    why: Refusal::Silenced | Refusal::DependencyDoubtful | Refusal::NetworkGone,
                    until: Some(until),
                } => {
                    self.hold.insert(key.clone(), until.clone());
                    self.carry_out(key, &decision, &facts, &now).await;
                }
                // Only its log says it, which is not read all the time.
                Decision::Wait { why: Refusal::Starting, .. } => {
                    self.hold.insert(key.clone(), now.after(READ_AGAIN));
                    self.carry_out(key, &decision, &facts, &now).await;
                }
                // Asked for once; the watcher would not know it.
                Decision::GiveUp { .. } => _ = self.carry_out(key, &decision, &facts, &now).await,
                _ => self.hold_off(key),
            }
            return;
        }
        // Whether the restart was carried out is told by the watcher's next start time: it has to know this one first.
        let known = snapshot.containers.get(container_id).map(|watched| watched.container.started_at);
        if known != Some(container.started_at) {
            self.hold_off(key);
            return;
        }
        let deed = if facts.is_to_be_started(&container) { Deed::Start } else { Deed::Restart };
        let stop_timeout = match deed {
            Deed::Restart => act::stop_timeout(&container, &facts.healing),
            Deed::Start => SignedDuration::ZERO,
        };
        let known = transition::look_anew(case, container_id, &facts, &now);
        let mut changed = transition::intend(deed, &known.case, &container, stop_timeout, &now);
        changed.events.splice(0..0, known.events);
        changed.case.memory.last_words = gathered.last_words.clone();
        let network_began_at = dependencies::network_parent(&container)
            .and_then(|parent| snapshot.containers.get(parent))
            .and_then(|parent| parent.container.started_at);
        if let Some(open) = changed.case.open_attempt_mut() {
            open.memory.network_began_at = network_began_at;
        }
        changed.diagnosed(diagnosis, &now);
        let incident = changed.case.incident.id;
        let Some(attempt) = changed.case.open_attempt().map(|attempt| attempt.attempt.clone()) else { return };
        let evidence = gathered.rows(incident, attempt.id, &now).into_iter().map(Change::Evidence).collect();
        if !self.make(key, changed, evidence).await {
            self.hold_off(key);
            return;
        }
        crate::fault::point("intent-written");
        self.restarts.note(container_id, &now);
        if let Some(log) = gathered.late_log {
            let journal = self.parts.journal.clone();
            tokio::spawn(async move {
                let row = evidence::late(log, incident, attempt.id).await;
                if let Err(error) = journal.commit(vec![Change::Evidence(row)]).await {
                    tracing::warn!(%incident, reason = %chain(&error), "a log that came late can't be kept");
                }
            });
        }
        tracing::info!(
            host = self.parts.host, project = key.project, service = key.service, %incident, attempt = attempt.number,
            "{}", match deed { Deed::Restart => "restarting", Deed::Start => "starting" }
        );
        let docker = Arc::clone(&self.parts.docker);
        let id = container_id.to_owned();
        let mut snapshots = self.parts.watcher.subscribe();
        let task = tokio::spawn(async move {
            let answer = match deed {
                Deed::Restart => act::restart(&docker, &id, stop_timeout).await,
                Deed::Start => act::start(&docker, &id).await,
            };
            crate::fault::point("docker-answered");
            if answer == Answer::Done {
                // The watcher hears of the start at about the same moment. Until it has looked, its word is from before the
                // restart, and after a long stop that would be taken for one that nobody carried out.
                let caught_up = snapshots.wait_for(|seen| has_started_anew(seen, &container));
                // Whatever it shows by then is what is decided on.
                _ = tokio::time::timeout(WATCHER_CATCHES_UP, caught_up).await;
            }
            Finished::Acted { answer }
        });
        self.busy = Some(Busy { key: key.clone(), acting: true, task });
    }

    async fn answered(&mut self, key: &ServiceKey, answer: Answer, snapshot: &Snapshot) {
        match answer {
            Answer::Done => (),
            Answer::Refused(reason) => {
                let detail = crate::redact::line(&reason);
                let refused = Decision::AttemptEnded { outcome: AttemptOutcome::Failed, detail };
                let facts = self.facts(key, snapshot);
                let now = self.clock.now();
                self.carry_out(key, &refused, &facts, &now).await;
            }
            Answer::Lost(reason) => {
                let case = self.cases.get(key);
                let incident = case.map(|case| tracing::field::display(case.incident.id));
                let attempt = case.and_then(Case::open_attempt).map(|open| open.attempt.number);
                tracing::warn!(
                    host = self.parts.host,
                    project = key.project,
                    service = key.service,
                    incident,
                    attempt,
                    reason,
                    "docker's answer is lost; its start time will tell"
                );
            }
        }
    }

    fn hold_off(&mut self, key: &ServiceKey) {
        self.hold.insert(key.clone(), self.clock.now().after(AFTER_EXAMINATION));
    }
}

/// Waits for what runs beside the loop; for ever when nothing does.
pub(super) async fn finished(busy: &mut Option<Busy>) -> (ServiceKey, Option<Finished>) {
    match busy {
        Some(busy) => {
            let outcome = (&mut busy.task).await;
            (busy.key.clone(), outcome.ok())
        }
        None => std::future::pending().await,
    }
}

/// What a service needs, seen at this moment: Docker's events tell only when a container is called unhealthy at last, and its
/// last probe may have failed long before. What can't be looked at in time stays as the watcher saw it.
async fn look_at_needed(docker: &Docker, ids: &[String]) -> Vec<Arc<Container>> {
    let each = ids.iter().map(|id| tokio::time::timeout(LOOK_AT_NEEDED, docker.inspect(id)));
    let seen = futures_util::future::join_all(each).await;
    seen.into_iter().filter_map(|seen| seen.ok()?.ok()).map(Arc::new).collect()
}

/// Whether it lives in the network of a container that does not exist any more. When Docker can't say, its answer to the
/// restart will.
async fn is_network_gone(docker: &Docker, container: &Container) -> bool {
    match dependencies::network_parent(container) {
        Some(parent) => {
            let seen = tokio::time::timeout(LOOK_AT_NEEDED, docker.inspect(parent)).await;
            matches!(seen, Ok(Err(DockerError::NotFound { .. })))
        }
        None => false,
    }
}

/// The watcher's view with some containers as they were seen since.
fn with_fresh(snapshot: &Snapshot, fresh: Vec<Arc<Container>>) -> Snapshot {
    let mut seen = snapshot.clone();
    for container in fresh {
        if let Some(watched) = seen.containers.get_mut(&container.id) {
            // Who stopped it is for the watcher to say.
            if container.status == watched.container.status {
                watched.container = container;
            }
        }
    }
    seen
}

/// Whether a silence covers the alert that the incident began with, the rule's, or the healer's own. When Alertmanager
/// can't say, those count that it told last, until their end; otherwise none does: the death of the messenger must not end
/// healing.
async fn is_silenced(alertmanager: &Alertmanager, incident: &Incident, container: &Container) -> bool {
    if let Err(error) = alertmanager.read_silences().await {
        tracing::debug!(reason = %chain(&error), "alertmanager can't be asked for silences");
    }
    let kind = sight::Kind::of(container);
    [incident.alert.as_str(), kind.rule(), kind.alert()].into_iter().any(|alert| {
        alertmanager.is_silenced(&Labels::from([
            ("alertname", alert),
            ("heal", "restart"),
            ("severity", "none"),
            ("host", incident.host.as_str()),
            ("project", incident.project.as_str()),
            ("service", incident.service.as_str()),
            ("name", container.name.as_str()),
        ]))
    })
}

/// Whether the watcher shows another run of a container than this one, or that it is gone.
fn has_started_anew(snapshot: &Snapshot, before: &Container) -> bool {
    let seen = snapshot.containers.get(&before.id);
    seen.is_none_or(|watched| watched.container.started_at != before.started_at)
}

fn is_restart_of(decision: &Decision, container_id: &str) -> bool {
    matches!(decision, Decision::Restart { container_id: other } if other == container_id)
}

/// Takes a fresh look in place of the watcher's. When it has stopped since, who did it is not known yet.
fn refresh(seen: &mut ContainerFacts, fresh: &Arc<Container>) {
    let stopped = |container: &Container| matches!(container.status, Status::Exited | Status::Dead);
    if stopped(fresh) && !(stopped(&seen.container) && seen.container.started_at == fresh.started_at) {
        seen.stop = StopCause::Unknown;
    }
    seen.container = Arc::clone(fresh);
}
