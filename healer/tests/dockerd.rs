//! A real Docker daemon that ends, or is cut off, while a restart of ours is under way: the incident ends right, once, and
//! the container is started once for it; once more where the daemon has ended the new run on its return.
//!
//! Each case has a daemon of its own beside the host's ([`support::real::Daemon`]), and a container that writes down each of its
//! starts and stops to a file, so that what happened does not rest on anybody's events. It takes two seconds to stop, and that is when
//! the daemon goes.
//!
//! It needs root and the programs of Docker, and runs when NEXUS_REAL_ENGINE is set (`./nexus test soak`); otherwise its cases
//! are reported as ignored, with the reason in their names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{Arc, Mutex},
};

use libtest_mimic::{Arguments, Trial};
use nexus_model::{AttemptOutcome, Cause, Confidence, IncidentState, Outcome, api::IncidentDetail};
use serde_json::json;
use support::{
    eventually,
    healer::{Alertmanager, Healer},
    real::{self, Daemon},
};
use tokio::{
    net::{UnixListener, UnixStream},
    task::JoinHandle,
};

/// Ill as long as /state/ill exists; its start takes that away.
const PROGRAM: &str = "rm -f /state/ill; echo started >> /state/story; \
     trap 'echo stopping >> /state/story; sleep 2; echo ended >> /state/story; exit 0' TERM; while :; do sleep 0.1; done";

/// What happens to the daemon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Blow {
    Killed,
    /// The same in the moment before it has written down that the container was started.
    KilledUnwritten,
    /// As when Docker is upgraded: it stops its containers first.
    Stopped,
    /// It goes on, and the connection to it is cut.
    CutOff,
}

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let hindrance = hindrance().err();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar");
    if hindrance.is_none() && !arguments.list {
        real::docker(&["save", "--output", image.to_str().unwrap(), &real::image().unwrap()]).unwrap();
    }
    let mut trials = Vec::new();
    macro_rules! case {
        ($name:ident) => {
            let name = stringify!($name);
            let name = hindrance.as_ref().map_or_else(|| name.to_owned(), |reason| format!("{name} ({reason})"));
            let image = image.clone();
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on($name(&image));
                Ok(())
            };
            trials.push(Trial::test(name, run).with_ignored_flag(hindrance.is_some()));
        };
    }
    case!(a_daemon_that_is_killed_while_it_stops_the_container);
    case!(a_daemon_that_is_killed_when_the_container_has_stopped);
    case!(a_daemon_that_is_killed_when_the_container_has_started);
    case!(a_daemon_that_is_killed_before_it_has_written_down_the_start);
    case!(a_daemon_that_is_restarted_in_order_while_it_stops_the_container);
    case!(a_daemon_that_is_killed_while_the_service_is_well);
    case!(a_connection_that_is_cut_while_the_container_stops);
    libtest_mimic::run(&arguments, trials).exit_code()
}

async fn a_daemon_that_is_killed_while_it_stops_the_container(image: &Path) {
    struck(image, Blow::Killed, ("stopping", 1)).await;
}

async fn a_daemon_that_is_killed_when_the_container_has_stopped(image: &Path) {
    struck(image, Blow::Killed, ("ended", 1)).await;
}

async fn a_daemon_that_is_killed_when_the_container_has_started(image: &Path) {
    struck(image, Blow::Killed, ("started", 2)).await;
}

/// Docker knows nothing of the run that goes on, calls the container ended, and can't start it: a person is told how.
async fn a_daemon_that_is_killed_before_it_has_written_down_the_start(image: &Path) {
    struck(image, Blow::KilledUnwritten, ("ended", 1)).await;
}

async fn a_daemon_that_is_restarted_in_order_while_it_stops_the_container(image: &Path) {
    struck(image, Blow::Stopped, ("stopping", 1)).await;
}

/// On its return the daemon ends what it finds running, and leaves it down.
async fn a_daemon_that_is_killed_while_the_service_is_well(image: &Path) {
    let Shop { healer, _alertmanager, relay: _relay, mut daemon, state: _state, story, id } = Shop::open(image).await;
    daemon.kill();
    eventually("the healer knows that docker is away", async || {
        (healer.metric("nexus_healer_docker_up").await == Some(0.0)).then_some(())
    })
    .await;
    daemon.come_back().await;
    let is_closed = |detail: &IncidentDetail| detail.incident.state == IncidentState::Closed;
    let detail = healer.incident("web", "the end of the incident", is_closed).await;
    let attempts: Vec<_> = detail.attempts.iter().map(|attempt| attempt.outcome).collect();
    eprintln!("killed while it is well: {:?}; attempts {attempts:?}", story.all());
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!((attempts, story.count("started")), (vec![Some(AttemptOutcome::Helped)], 2));
    let state = daemon.docker(&["inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", &id]).unwrap();
    assert_eq!(state, "running healthy");
    // What a person stops after that stays stopped.
    daemon.docker(&["stop", &id]).unwrap();
    healer.sees_ended("web").await;
    healer.alert("shop", "web").await;
    healer.refused("stopped_by_human").await;
    assert_eq!(story.count("started"), 2);
}

async fn a_connection_that_is_cut_while_the_container_stops(image: &Path) {
    struck(image, Blow::CutOff, ("stopping", 1)).await;
}

/// Why it can't be tried here.
fn hindrance() -> Result<(), String> {
    real::hindrance()?;
    real::program("dockerd", &["--version"])?;
    real::program("containerd", &["--version"]).map(drop)
}

/// A healer and a service that is well, with a daemon of their own.
struct Shop {
    healer: Healer,
    _alertmanager: Alertmanager,
    relay: Relay,
    daemon: Daemon,
    state: tempfile::TempDir,
    story: Story,
    id: String,
}

impl Shop {
    async fn open(image: &Path) -> Self {
        let daemon = Daemon::start(image).await;
        let state = tempfile::tempdir().unwrap();
        let story = Story(state.path().join("story"));
        let label = |name: &str, value: &str| format!("--label={name}={value}");
        let id = daemon.docker(&[
            "run",
            "--detach",
            "--name=shop-web-1",
            "--network=none",
            "--restart=unless-stopped",
            "--stop-timeout=5",
            "--health-cmd=test ! -e /state/ill",
            "--health-interval=1s",
            "--health-retries=2",
            &format!("--volume={}:/state", state.path().display()),
            &label("com.docker.compose.project", "shop"),
            &label("com.docker.compose.service", "web"),
            &label(nexus_model::labels::HEAL, "true"),
            "--entrypoint=sh",
            &real::image().unwrap(),
            "-c",
            PROGRAM,
        ]);
        let id = id.unwrap();
        let relay = Relay::start(daemon.socket(), state.path().join("relay.sock"));
        let mut healer = Healer::at(relay.at.clone(), &std::env::temp_dir());
        let alertmanager = Alertmanager::start().await;
        healer.tells(&alertmanager);
        healer.start().await;
        alertmanager.prompts(&healer);
        healer.sees("web", "running", "healthy").await;
        Self { healer, _alertmanager: alertmanager, relay, daemon, state, story, id }
    }
}

/// Makes the container ill, strikes when its story has so many lines of a word, and sees how it ends.
async fn struck(image: &Path, blow: Blow, (word, lines): (&str, usize)) {
    let Shop { healer, _alertmanager, relay, mut daemon, state, story, id } = Shop::open(image).await;
    let before = daemon.remembered(&id);
    std::fs::write(state.path().join("ill"), "").unwrap();
    eventually("the moment to strike", async || (story.count(word) >= lines).then_some(())).await;
    match blow {
        Blow::Killed => daemon.kill(),
        Blow::KilledUnwritten => {
            // Nobody hears of the start.
            relay.cut(true);
            eventually("the start", async || (story.count("started") >= 2).then_some(())).await;
            daemon.kill();
            // As it was between the stop and the start.
            let ended = json!({ "Running": false, "Pid": 0, "StartedAt": before["State"]["StartedAt"] });
            daemon.remember(&id, &ended);
        }
        Blow::Stopped => daemon.stop(),
        Blow::CutOff => relay.cut(true),
    }
    eventually("the healer knows that docker is away", async || {
        (healer.metric("nexus_healer_docker_up").await == Some(0.0)).then_some(())
    })
    .await;
    // A stop that was under way comes to its end all the same.
    eventually("the container has stopped", async || (story.count("ended") >= 1).then_some(())).await;
    let starts_before = story.count("started");
    match blow {
        Blow::Killed | Blow::Stopped => daemon.come_back().await,
        Blow::KilledUnwritten => {
            daemon.come_back().await;
            relay.cut(false);
        }
        Blow::CutOff => relay.cut(false),
    }

    let is_over =
        |detail: &IncidentDetail| matches!(detail.incident.state, IncidentState::Closed | IncidentState::GaveUp);
    let detail = healer.incident("web", "the end of the incident", is_over).await;
    let attempts: Vec<_> = detail.attempts.iter().map(|attempt| attempt.outcome).collect();
    let starts = story.count("started");
    eprintln!("{blow:?} at {word} {lines}: {starts_before} starts, then {starts}; attempts {attempts:?}");
    for attempt in &detail.attempts {
        eprintln!("  attempt {}: {}", attempt.number, attempt.detail.as_deref().unwrap_or_default());
    }
    let state = daemon.docker(&["inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", &id]).unwrap();
    if starts_before == 2 && detail.incident.state == IncidentState::GaveUp {
        // Docker has not written down that it has started it: it knows nothing of the run that goes on, calls the container ended,
        // and can't start it. A person is needed, and told.
        assert_eq!(starts, 2, "{:?}", story.all());
        assert_eq!(attempts[0], Some(AttemptOutcome::Interrupted));
        assert!(attempts[1..].iter().all(|outcome| *outcome == Some(AttemptOutcome::Failed)), "{detail:?}");
        assert!(daemon.docker(&["start", &id]).is_err(), "docker could start it: {state}");
        // And with what a person is told it comes back.
        let diagnosis = detail.incident.diagnosis.as_ref().unwrap();
        assert_eq!((diagnosis.cause, diagnosis.confidence), (Cause::LostRun, Confidence::Certain));
        let (_, commands) = diagnosis.recommendation.split_once("sudo ").unwrap();
        let commands = commands
            .replace("ctr ", &format!("ctr --address {} ", daemon.containerd().display()))
            .replace("docker ", &format!("docker --host unix://{} ", daemon.socket().display()));
        eventually("the commands that the diagnosis gives", async || real::program("sh", &["-c", &commands]).ok())
            .await;
        let is_well = |detail: &IncidentDetail| detail.incident.outcome == Some(Outcome::RecoveredByItself);
        healer.incident("web", "a service that is well again", is_well).await;
        assert_eq!(story.count("started"), 3);
    } else {
        assert_ne!(blow, Blow::KilledUnwritten, "{detail:?}");
        assert_eq!(state, "running healthy");
        assert!(matches!(detail.incident.outcome, Some(Outcome::Recovered | Outcome::RecoveredByItself)), "{detail:?}");
        // One start for the illness: Docker's own policy, or a second attempt once nothing can come of the first any more. What
        // a daemon finds running when it is back, it ends, and starts once more by itself or leaves to the healer.
        let own = usize::from(starts_before == 2 && blow != Blow::CutOff);
        assert!((2..=2 + own).contains(&starts), "{:?}", story.all());
        assert!(attempts.len() <= 2, "{detail:?}");
        // A daemon that is on its way out may refuse the restart, and carry it out by its own policy when it is back.
        let has_helped = attempts.contains(&Some(AttemptOutcome::Helped));
        assert_eq!(detail.incident.outcome == Some(Outcome::Recovered), has_helped, "{detail:?}");
    }
    assert_eq!(healer.incidents().await.incidents.len(), 1);
}

/// What the container has written down.
struct Story(PathBuf);

impl Story {
    fn all(&self) -> Vec<String> {
        let text = std::fs::read_to_string(&self.0).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn count(&self, word: &str) -> usize {
        self.all().iter().filter(|line| *line == word).count()
    }
}

/// Stands between the healer and the daemon, as the proxy of the stack does.
struct Relay {
    at: PathBuf,
    state: Arc<Mutex<Connections>>,
    listening: JoinHandle<()>,
}

#[derive(Default)]
struct Connections {
    is_cut: bool,
    open: Vec<JoinHandle<()>>,
}

impl Relay {
    fn start(to: PathBuf, at: PathBuf) -> Self {
        let listener = UnixListener::bind(&at).unwrap();
        let state = Arc::new(Mutex::new(Connections::default()));
        let shared = Arc::clone(&state);
        let listening = tokio::spawn(async move {
            while let Ok((mut here, _)) = listener.accept().await {
                let to = to.clone();
                let mut connections = shared.lock().unwrap();
                if !connections.is_cut {
                    connections.open.push(tokio::spawn(async move {
                        if let Ok(mut there) = UnixStream::connect(to).await {
                            // Whoever of the two goes first ends it.
                            _ = tokio::io::copy_bidirectional(&mut here, &mut there).await;
                        }
                    }));
                }
            }
        });
        Self { at, state, listening }
    }

    /// Ends all connections and takes no new ones, or takes them again.
    fn cut(&self, is_cut: bool) {
        let mut connections = self.state.lock().unwrap();
        connections.is_cut = is_cut;
        if is_cut {
            connections.open.drain(..).for_each(|open| open.abort());
        }
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.listening.abort();
    }
}
