//! Keeps the state of all containers from one list and the event stream, inspecting only what changed.
//!
//! The list is taken again every minute: it costs the daemon a few milliseconds, proves that it still answers, and
//! mends whatever an event that was lost would have said.
//!
//! Docker sends no event for a probe of a health check that leaves the health as it is, so the failing streak and the
//! last probe go stale. Who shows them asks for fresh ones ([`WatchOptions`]): running containers with a health check are
//! then inspected anew after each list, one after another and each only while no event waits. That costs the daemon 0.3 to
//! 0.6 ms of CPU a container and minute (measured with 100 of them, on an amd64 virtual machine), and what it tells is up
//! to a minute old.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use futures_util::{FutureExt, StreamExt};
use jiff::{SignedDuration, Timestamp};
use nexus_model::labels::DEFAULT_STACK;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::client::{Docker, DockerError, EngineInfo, Event, Listed};
use crate::container::{Container, Health, Status};
use crate::events::EventCounts;
use crate::history::{EndedBy, History};
use crate::track::{Action, StopCause, Track};

/// Pause before connecting again: doubled from the first to the last while the engine stays away.
const RECONNECT_FIRST: Duration = Duration::from_millis(200);
const RECONNECT_LAST: Duration = Duration::from_secs(5);

/// How long after connecting an event may be one that was seen before the cut. Later ones are all new, whatever their time:
/// the engine's clock may have been set back.
const REPLAY_LASTS: Duration = Duration::from_secs(5);

/// An engine tells of a signal after it has sent it, and of that to others maybe first.
const TOLD_WITHIN: SignedDuration = SignedDuration::from_secs(10);

/// Docker tells events out of order by milliseconds.
const CLOCK_STEP_NANOS: i64 = 1_000_000_000;

/// Events taken at once before what they touched is inspected: bounds the delay of the first in a storm.
const EVENTS_AT_ONCE: usize = 256;

/// All containers of this stack at one moment. Containers of other stacks are not in it.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Whether the engine answers. When not, the rest is what was known last.
    pub up: bool,
    /// Why it does not.
    pub error: Option<String>,
    /// `None` until the engine has answered once.
    pub engine: Option<EngineInfo>,
    /// By container id.
    pub containers: BTreeMap<String, Watched>,
    /// Events of this stack's containers since watching began.
    pub events: EventCounts,
    /// How often the event stream was opened again after it had ended.
    pub reconnects: u64,
    /// When the list was last compared with what is known. Moves without `changed()`.
    pub listed_at: Option<Instant>,
}

/// What a watcher does beyond following the events.
#[derive(Clone, Copy, Debug)]
pub struct WatchOptions {
    /// How often the list is compared with what is known.
    pub list_every: Duration,
    /// Whether failing streaks and last probes are to be no older than the list.
    pub fresh_probes: bool,
    pub earlier: Earlier,
}

/// Who has watched an engine that went away and came back before this watcher began. What it ended on its return it may have been asked
/// to stop just before it went, and then it is that somebody's stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Earlier {
    /// It does not matter: nobody acts on what is told.
    NotAsked,
    /// Nobody, as far as is known.
    Nobody,
    /// Somebody who watched until the engine went, knows what it had been asked for until then, and ended at that time.
    UntilItWent(Timestamp),
}

impl Default for WatchOptions {
    fn default() -> Self {
        WatchOptions { list_every: Duration::from_secs(60), fresh_probes: false, earlier: Earlier::NotAsked }
    }
}

#[derive(Clone, Debug)]
pub struct Watched {
    pub container: Arc<Container>,
    /// Says something only while the container does not run.
    pub stop: StopCause,
    /// It was seen healthy in this run.
    pub has_been_healthy: bool,
    /// Docker's `oom` events for it since watching began.
    pub oom_events: u64,
}

/// The task that watches; it ends when the last `Watcher` is dropped.
#[derive(Clone, Debug)]
pub struct Watcher {
    snapshots: watch::Receiver<Arc<Snapshot>>,
    events_seen: Arc<AtomicU64>,
    has_lost_it: Arc<AtomicBool>,
    _task: Arc<AbortOnDrop>,
}

#[derive(Debug)]
pub(crate) struct AbortOnDrop(pub JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl Watcher {
    /// Watches the containers of `stack`. Must be called within a tokio runtime; never fails, since an engine that is
    /// away now may come.
    pub fn spawn(docker: Arc<Docker>, stack: String) -> Watcher {
        Watcher::spawn_with(docker, stack, WatchOptions::default())
    }

    pub fn spawn_with(docker: Arc<Docker>, stack: String, options: WatchOptions) -> Watcher {
        let (sender, snapshots) = watch::channel(Arc::new(Snapshot::default()));
        let events_seen = Arc::new(AtomicU64::new(0));
        let state = State::new(docker, stack, options, sender);
        let has_lost_it = Arc::clone(&state.has_lost_it);
        let task = tokio::spawn(state.run(Arc::clone(&events_seen)));
        Watcher { snapshots, events_seen, has_lost_it, _task: Arc::new(AbortOnDrop(task)) }
    }

    /// What is known now.
    pub fn snapshot(&self) -> Arc<Snapshot> {
        self.snapshots.borrow().clone()
    }

    /// A receiver whose `changed()` fires on each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<Snapshot>> {
        self.snapshots.clone()
    }

    /// Events taken from the engine so far.
    pub fn events_seen(&self) -> u64 {
        self.events_seen.load(Ordering::Relaxed)
    }

    /// Whether it has watched the engine until the engine, or the way to it, went away, and has not found it again. Moves with the
    /// connection itself: an engine that goes is told in the snapshot only when the next connection has failed.
    pub fn has_lost_it(&self) -> bool {
        self.has_lost_it.load(Ordering::Relaxed)
    }
}

struct State {
    docker: Arc<Docker>,
    stack: String,
    options: WatchOptions,
    containers: BTreeMap<String, Arc<Container>>,
    /// What the events said, by container; also of one that is not inspected yet, since a new container may end before.
    tracks: BTreeMap<String, Track>,
    /// When the last run began in which a container was seen healthy.
    healthy_runs: BTreeMap<String, Option<Timestamp>>,
    /// Containers of which something was told that no inspect has shown yet.
    stale: BTreeSet<String>,
    /// Containers whose probes are to be looked at again.
    probes_due: VecDeque<String>,
    /// Something changed among those that were looked at since the last snapshot.
    probes_changed: bool,
    engine: Option<EngineInfo>,
    last_event_nanos: i64,
    /// That time is of an event, not of the beginning.
    has_seen_events: bool,
    events: EventCounts,
    /// Event streams that were opened.
    connections: u64,
    listed_at: Option<Instant>,
    has_lost_it: Arc<AtomicBool>,
    sender: watch::Sender<Arc<Snapshot>>,
}

impl State {
    fn new(docker: Arc<Docker>, stack: String, options: WatchOptions, sender: watch::Sender<Arc<Snapshot>>) -> State {
        State {
            docker,
            stack,
            options,
            containers: BTreeMap::new(),
            tracks: BTreeMap::new(),
            healthy_runs: BTreeMap::new(),
            stale: BTreeSet::new(),
            probes_due: VecDeque::new(),
            probes_changed: false,
            engine: None,
            last_event_nanos: 0,
            has_seen_events: false,
            events: EventCounts::default(),
            connections: 0,
            listed_at: None,
            has_lost_it: Arc::default(),
            sender,
        }
    }

    async fn run(mut self, events_seen: Arc<AtomicU64>) {
        let mut pause = RECONNECT_FIRST;
        loop {
            let mut was_up = false;
            let error = self.watch(&events_seen, &mut was_up).await;
            if was_up {
                self.has_lost_it.store(true, Ordering::Relaxed);
                pause = RECONNECT_FIRST;
            }
            let reason = match error {
                Ok(()) => "docker closed the event stream".to_owned(),
                Err(error) => chain(&error),
            };
            // A stream that was cut (proxies do that) is no outage: told only when the next connection fails.
            if !was_up {
                if self.sender.borrow().error.as_deref() != Some(&reason) {
                    tracing::warn!(reason, "docker can't be watched");
                }
                self.publish(Some(reason));
            } else {
                tracing::debug!(reason, "docker's events end, connecting again");
            }
            self.docker.forget_version().await;
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(RECONNECT_LAST);
        }
    }

    /// One connection: subscribe, list, then follow the events. Returns when the stream ends or a call fails.
    async fn watch(&mut self, events_seen: &AtomicU64, was_up: &mut bool) -> Result<(), DockerError> {
        let engine = self.docker.engine().await?;
        if self.last_event_nanos == 0 {
            self.last_event_nanos = nanoseconds_now();
        }
        // The replay may repeat what was seen before the cut. Beyond it nothing is dropped: two events of one moment may
        // come out of order.
        let seen_until = self.last_event_nanos;
        let mut stream = pin!(self.docker.events(seen_until).await?);
        let connected = tokio::time::Instant::now();
        let keeps_them = engine.live_restore;
        self.engine = Some(engine);
        if !keeps_them {
            // Before the list is looked at, so that nothing is taken for the act of somebody.
            match self.docker.history(nanoseconds_now()).await {
                Ok(history) => self.look_back(&history),
                Err(error @ DockerError::Unreachable { .. }) => return Err(error),
                // It says less of what happened before, and all of what happens.
                Err(error) => tracing::warn!(reason = chain(&error), "what docker remembers can't be read"),
            }
        }
        self.resync().await?;
        self.connections += 1;
        let returned = !self.sender.borrow().up;
        self.has_lost_it.store(false, Ordering::Relaxed);
        self.publish(None);
        *was_up = true;
        if returned {
            tracing::info!("watching docker: {} containers", self.containers.len());
        }

        let interval = self.options.list_every;
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + interval, interval);
        self.probes_due.clear();
        loop {
            tokio::select! {
                biased;
                _ = ticks.tick() => {
                    if self.resync().await? {
                        self.publish(None);
                    } else {
                        self.note_the_list();
                    }
                    if self.options.fresh_probes {
                        self.probes_due = self.probed().collect();
                    }
                    // Counted from now on: containers that can't be inspected may have taken longer than that.
                    ticks.reset();
                }
                event = stream.next() => {
                    let Some(event) = event else { return Ok(()) };
                    let seen_until = if connected.elapsed() < REPLAY_LASTS { seen_until } else { i64::MIN };
                    // What is not inspected because a call fails stays stale, and the list looks at it again.
                    let mut touched = BTreeSet::new();
                    touched.extend(self.take(event?, seen_until));
                    let mut taken = 1;
                    while taken < EVENTS_AT_ONCE
                        && let Some(Some(event)) = stream.next().now_or_never()
                    {
                        touched.extend(self.take(event?, seen_until));
                        taken += 1;
                    }
                    events_seen.fetch_add(taken as u64, Ordering::Relaxed);
                    for id in touched {
                        self.inspect(&id).await?;
                    }
                    self.publish(None);
                }
                () = std::future::ready(()), if !self.probes_due.is_empty() => self.look_at_probes().await?,
            }
        }
    }

    /// Notes what the engine has ended itself on its return.
    fn look_back(&mut self, history: &History) {
        let last_seen = self.has_seen_events.then_some(self.last_event_nanos);
        let stop_signal = |id: &str| self.containers.get(id).and_then(|known| known.stop_signal.as_deref());
        let mut ended = history.ended(last_seen, stop_signal);
        // An earlier watcher that this very engine ended with the others on its return has not watched another one meanwhile.
        let has_been_watched = match self.options.earlier {
            Earlier::NotAsked => true,
            Earlier::Nobody => false,
            Earlier::UntilItWent(ended_at) => history.containers.first().is_some_and(|event| {
                i128::from(event.at_nanos) <= (ended_at.saturating_add(TOLD_WITHIN).unwrap_or(ended_at)).as_nanosecond()
            }),
        };
        if self.connections == 0 && !has_been_watched {
            ended.values_mut().for_each(|by| *by = EndedBy::Unclear);
        }
        let unclear = ended.iter().filter(|(_, by)| **by == EndedBy::Unclear).map(|(id, _)| *id);
        let name = |id| self.containers.get(id).map_or(id, |known| known.name.as_str());
        let unclear: Vec<&str> = unclear.map(name).collect();
        // Nothing has a name yet at the first connection; what is found stopped then is its user's to tell.
        if !unclear.is_empty() && self.connections > 0 {
            tracing::warn!(
                containers = unclear.join(", "),
                "they were ended while docker was not watched, and it can't be told by whom: they are left as they are"
            );
        }
        for (id, by) in ended {
            // What was paused is not meant to run: whoever paused it is asked.
            let is_paused = self.containers.get(id).is_some_and(|known| known.status == Status::Paused);
            let by = if is_paused { EndedBy::Unclear } else { by };
            self.tracks.entry(id.to_owned()).or_insert_with(Track::new).ended_by(by);
            // The list may call it what it was called before: its run may be another.
            self.stale.insert(id.to_owned());
        }
    }

    /// Notes what an event says; gives the container if it is to be inspected.
    fn take(&mut self, event: Event, seen_until: i64) -> Option<String> {
        if event.at_nanos <= seen_until || event.stack.as_deref().unwrap_or(DEFAULT_STACK) != self.stack {
            return None;
        }
        self.events.count(&event.action);
        // Events of one moment may come out of order; a time that is much earlier is a clock that was set back.
        if event.at_nanos > self.last_event_nanos
            || event.at_nanos < self.last_event_nanos.saturating_sub(CLOCK_STEP_NANOS)
        {
            (self.last_event_nanos, self.has_seen_events) = (event.at_nanos, true);
        }
        let at = Timestamp::from_nanosecond(i128::from(event.at_nanos)).unwrap_or(Timestamp::UNIX_EPOCH);
        let stop_signal = self.containers.get(&event.id).and_then(|known| known.stop_signal.as_deref());
        let action = Action::parse(&event.action, event.signal.as_deref(), stop_signal);
        if action == Action::Destroy {
            self.containers.remove(&event.id);
            self.tracks.remove(&event.id);
            self.stale.remove(&event.id);
            None
        } else {
            self.tracks.entry(event.id.clone()).or_insert_with(Track::new).apply(action, at);
            self.stale.insert(event.id.clone());
            Some(event.id)
        }
    }

    /// Containers whose probes go on without a word from Docker. Those that can't be inspected are tried at the list.
    fn probed(&self) -> impl Iterator<Item = String> {
        let is_probed = |known: &&Arc<Container>| {
            known.status == Status::Running && known.health != Health::None && !self.stale.contains(&known.id)
        };
        self.containers.values().filter(is_probed).map(|known| known.id.clone())
    }

    /// Inspects the next container that is due.
    async fn look_at_probes(&mut self) -> Result<(), DockerError> {
        if let Some(id) = self.probes_due.pop_front()
            && let Some(before) = self.containers.get(&id).cloned()
        {
            self.inspect(&id).await?;
            self.probes_changed |= self.containers.get(&id) != Some(&before);
        }
        if self.probes_due.is_empty() && self.probes_changed {
            self.publish(None);
        }
        Ok(())
    }

    /// Compares with the list; says whether anything changed.
    async fn resync(&mut self) -> Result<bool, DockerError> {
        let listed = self.docker.list_summaries().await?;
        self.listed_at = Some(Instant::now());
        let listed: BTreeMap<&str, &Listed> = listed
            .iter()
            .filter(|listed| listed.stack.as_deref().unwrap_or(DEFAULT_STACK) == self.stack)
            .map(|listed| (listed.id.as_str(), listed))
            .collect();
        let before = self.containers.len();
        self.containers.retain(|id, _| listed.contains_key(id.as_str()));
        self.tracks.retain(|id, _| listed.contains_key(id.as_str()));
        self.stale.retain(|id| listed.contains_key(id.as_str()));
        let mut changed = self.containers.len() != before;
        for (id, listed) in listed {
            if !self.stale.contains(id) && self.containers.get(id).is_some_and(|known| agrees(listed, known)) {
                continue;
            }
            let was_running = self.containers.get(id).is_some_and(|known| runs(known.status));
            // The look that an event had asked for failed: the end that it told is the one that is seen now.
            let was_told = self.stale.contains(id);
            self.inspect(id).await?;
            // It stopped without an event that we saw; a replay that still comes corrects this.
            if was_running
                && !was_told
                && let Some(known) = self.containers.get(id)
                && matches!(known.status, Status::Exited | Status::Dead)
                && self.stop_of(known) == StopCause::Itself
                && let Some(track) = self.tracks.get_mut(id)
            {
                track.missed_the_end();
            }
            changed = true;
        }
        Ok(changed)
    }

    /// Reads a container anew.
    async fn inspect(&mut self, id: &str) -> Result<(), DockerError> {
        self.stale.insert(id.to_owned());
        let answer = self.docker.inspect(id).await;
        if matches!(answer, Ok(_) | Err(DockerError::NotFound { .. })) {
            self.stale.remove(id);
        }
        match answer {
            Ok(container) if container.stack() != self.stack => {
                self.containers.remove(id);
            }
            Ok(container) => {
                if container.status == Status::Running && container.health == Health::Healthy {
                    self.healthy_runs.insert(id.to_owned(), container.started_at);
                }
                self.containers.insert(id.to_owned(), Arc::new(container));
            }
            Err(DockerError::NotFound { .. }) => {
                self.containers.remove(id);
            }
            // One container that can't be inspected must not blind us to the others: what was known of it stays, and
            // the next event or list tries again.
            Err(error @ (DockerError::TimedOut { .. } | DockerError::Failed { .. } | DockerError::Refused { .. })) => {
                tracing::warn!(reason = chain(&error), "container can't be inspected");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn stop_of(&self, container: &Container) -> StopCause {
        let told = |track: &Track| track.stop_of_run(container.started_at, container.finished_at);
        self.tracks.get(&container.id).map_or(StopCause::Unknown, told)
    }

    /// For those who look at the snapshot; nobody is woken.
    fn note_the_list(&self) {
        self.sender.send_if_modified(|snapshot| {
            Arc::make_mut(snapshot).listed_at = self.listed_at;
            false
        });
    }

    fn publish(&mut self, error: Option<String>) {
        self.probes_changed = false;
        self.healthy_runs.retain(|id, _| self.containers.contains_key(id));
        let watched = |container: &Arc<Container>| Watched {
            container: Arc::clone(container),
            stop: self.stop_of(container),
            has_been_healthy: self.healthy_runs.get(&container.id) == Some(&container.started_at),
            oom_events: self.tracks.get(&container.id).map_or(0, |track| track.oom_events),
        };
        self.sender.send_replace(Arc::new(Snapshot {
            up: error.is_none(),
            error,
            engine: self.engine.clone(),
            containers: self.containers.iter().map(|(id, known)| (id.clone(), watched(known))).collect(),
            events: self.events,
            reconnects: self.connections.saturating_sub(1),
            listed_at: self.listed_at,
        }));
    }
}

fn runs(status: Status) -> bool {
    matches!(status, Status::Running | Status::Paused | Status::Restarting)
}

/// Whether the list says the same of a container as is known of it.
fn agrees(listed: &Listed, known: &Container) -> bool {
    let health = if listed.status.ends_with("(healthy)") {
        Health::Healthy
    } else if listed.status.ends_with("(unhealthy)") {
        Health::Unhealthy
    } else if listed.status.ends_with("(health: starting)") {
        Health::Starting
    } else {
        Health::None
    };
    // A container that does not run shows no health in the list, but keeps its last in inspect.
    listed.state == known.status.as_str() && (known.status != Status::Running || health == known.health)
}

fn nanoseconds_now() -> i64 {
    i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX)
}

/// An error with all its causes on one line.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.ends_with(&cause_text) {
            text.push_str(": ");
            text.push_str(&cause_text);
        }
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn state() -> State {
        let docker = Arc::new(Docker::connect(Path::new("/nonexistent/docker.sock"), Duration::from_secs(1)));
        let (sender, _) = watch::channel(Arc::default());
        State::new(docker, DEFAULT_STACK.to_owned(), WatchOptions::default(), sender)
    }

    fn event(action: &str, at_nanos: i64) -> Event {
        Event { id: "a".to_owned(), action: action.to_owned(), signal: None, stack: None, at_nanos }
    }

    #[test]
    fn times_at_the_ends_of_what_a_number_holds_are_taken() {
        let mut state = state();
        let late = i64::MIN + 2;
        // One nanosecond before another is out of order, and no clock that was set back.
        for (at_nanos, last) in [(i64::MAX, i64::MAX), (late, late), (late - 1, late), (0, 0)] {
            assert_eq!(state.take(event("die", at_nanos), i64::MIN).as_deref(), Some("a"), "{at_nanos}");
            assert_eq!(state.last_event_nanos, last);
        }
        assert_eq!(state.take(event("destroy", 1), i64::MIN), None);
        assert!(state.tracks.is_empty() && state.stale.is_empty());
    }

    fn events() -> impl Strategy<Value = Event> {
        let action = prop_oneof![
            prop::sample::select(&crate::events::EVENTS[..]).prop_map(str::to_owned),
            "health_status: [a-z]{0,9}",
            any::<String>(),
        ];
        let stack = prop_oneof![Just(None), Just(Some(DEFAULT_STACK.to_owned())), any::<Option<String>>()];
        ("[a-c]", action, prop::option::of("[0-9]{0,3}"), stack, any::<i64>())
            .prop_map(|(id, action, signal, stack, at_nanos)| Event { id, action, signal, stack, at_nanos })
    }

    proptest! {
        #[test]
        fn whatever_is_told_is_counted_once_and_never_panics(told in prop::collection::vec(events(), 0..20), seen_until in any::<i64>()) {
            let mut state = state();
            let ours = |event: &&Event| event.at_nanos > seen_until && event.stack.as_deref().unwrap_or(DEFAULT_STACK) == DEFAULT_STACK;
            let expected = told.iter().filter(ours).count() as u64;
            for event in told {
                let (id, is_end) = (event.id.clone(), event.action == "destroy");
                let touched = state.take(event, seen_until);
                prop_assert!(touched.is_none_or(|touched| touched == id && !is_end));
            }
            state.publish(None);
            let snapshot = state.sender.borrow().clone();
            prop_assert_eq!(snapshot.events.iter().map(|(_, count)| count).sum::<u64>(), expected);
            prop_assert!(state.stale.iter().all(|id| state.tracks.contains_key(id)), "what is looked at again is known");
        }
    }
}
