//! The watcher, and the tasks that ask in the background, against a fake engine on a unix socket that answers with what
//! real engines answered, and misbehaves on demand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{
    DiskReport, DiskSchedule, DiskWatcher, Docker, Earlier, Health, ImageWatcher, Snapshot, Status, StopCause, Usage,
    WatchOptions, Watcher,
};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::broadcast;

const PATIENCE: Duration = Duration::from_secs(20);

/// What the fake engine knows: a container's state by id.
#[derive(Clone)]
struct Fake {
    status: &'static str,
    health: &'static str,
    stack: Option<&'static str>,
    /// Answers inspect never.
    hangs: bool,
    failing_streak: u32,
    image: &'static str,
}

impl Fake {
    fn running(health: &'static str) -> Fake {
        Fake { status: "running", health, stack: None, hangs: false, failing_streak: 3, image: "sha256:aa" }
    }

    fn labels(&self) -> String {
        let stack = self.stack.map(|stack| format!(r#","nexus.stack":"{stack}""#)).unwrap_or_default();
        format!(r#"{{"com.docker.compose.project":"shop","com.docker.compose.service":"web"{stack}}}"#)
    }
}

struct Engine {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    containers: Arc<Mutex<BTreeMap<&'static str, Fake>>>,
    /// Events told so far, for those who subscribe later and ask for them.
    told: Arc<Mutex<Vec<(i128, String)>>>,
    /// It has been up for so long that it has forgotten its first events.
    is_old: Arc<Mutex<bool>>,
    /// Events to send; an empty string closes the streams.
    events: broadcast::Sender<String>,
    inspects: Arc<Mutex<u32>>,
    others: Arc<Others>,
}

/// What is asked for besides containers and events.
#[derive(Default)]
struct Others {
    /// Status and body, by path; `None`: never answered.
    answers: Mutex<BTreeMap<&'static str, Option<(u16, String)>>>,
    /// Paths with their queries, as they were asked for.
    asked: Mutex<Vec<String>>,
    under_way: Mutex<u32>,
    most_at_once: Mutex<u32>,
}

impl Engine {
    fn start() -> Engine {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let engine = Engine {
            _folder: folder,
            socket,
            containers: Arc::default(),
            told: Arc::default(),
            is_old: Arc::new(Mutex::new(true)),
            events: broadcast::channel(64).0,
            inspects: Arc::default(),
            others: Arc::default(),
        };
        let others = Arc::clone(&engine.others);
        let (containers, events, inspects) =
            (Arc::clone(&engine.containers), engine.events.clone(), Arc::clone(&engine.inspects));
        let (told, is_old) = (Arc::clone(&engine.told), Arc::clone(&engine.is_old));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = (Arc::clone(&told), Arc::clone(&is_old));
                let (others, inspects) = (Arc::clone(&others), Arc::clone(&inspects));
                tokio::spawn(answer(stream, Arc::clone(&containers), told, events.clone(), inspects, others));
            }
        });
        engine
    }

    fn set(&self, id: &'static str, fake: Fake) {
        self.containers.lock().unwrap().insert(id, fake);
    }

    /// From now on `path` is answered so.
    fn answers(&self, path: &'static str, answer: Option<(u16, &str)>) {
        let answer = answer.map(|(status, body)| (status, body.to_owned()));
        self.others.answers.lock().unwrap().insert(path, answer);
    }

    fn asked(&self, path: &str) -> Vec<String> {
        self.others.asked.lock().unwrap().iter().filter(|asked| asked.contains(path)).cloned().collect()
    }

    fn event(&self, id: &str, action: &str, attributes: &str) {
        let nanos = jiff::Timestamp::now().as_nanosecond();
        let event = format!(
            r#"{{"Type":"container","Action":"{action}","Actor":{{"ID":"{id}","Attributes":{{{attributes}}}}},"timeNano":{nanos}}}"#
        );
        let mut told = self.told.lock().unwrap();
        told.push((nanos, event.clone() + "\n"));
        _ = self.events.send(event + "\n");
    }

    /// It ends, and what it remembers with it.
    async fn leaves(&self, watcher: &Watcher) {
        self.answers("/info", Some((503, "{}")));
        self.cut_streams().await;
        until(watcher, "the engine is away", |snapshot| !snapshot.up).await;
        *self.is_old.lock().unwrap() = false;
        self.told.lock().unwrap().clear();
    }

    /// Another takes its place.
    fn comes_back(&self) {
        self.others.answers.lock().unwrap().remove("/info");
    }

    /// Ends the event streams, once there is one.
    async fn cut_streams(&self) {
        let subscribed = async {
            while self.events.receiver_count() == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(PATIENCE, subscribed).await.unwrap();
        _ = self.events.send(String::new());
    }

    fn watch(&self, timeout: Duration) -> Watcher {
        Watcher::spawn(Arc::new(self.docker(timeout)), "nexus".to_owned())
    }

    fn docker(&self, timeout: Duration) -> Docker {
        Docker::connect(&self.socket, timeout)
    }

    fn watch_disk(&self, watcher: &Watcher, timeout: Duration) -> DiskWatcher {
        let schedule = DiskSchedule { first_after: Duration::ZERO, interval: Duration::from_millis(5), timeout };
        DiskWatcher::spawn(Arc::new(self.docker(Duration::from_secs(5))), watcher.subscribe(), schedule)
    }
}

/// Times and lines of events.
type Told = Arc<Mutex<Vec<(i128, String)>>>;

async fn answer(
    mut stream: UnixStream,
    containers: Arc<Mutex<BTreeMap<&'static str, Fake>>>,
    (told, is_old): (Told, Arc<Mutex<bool>>),
    events: broadcast::Sender<String>,
    inspects: Arc<Mutex<u32>>,
    others: Arc<Others>,
) {
    let mut lines = BufReader::new(&mut stream).lines();
    let Ok(Some(request)) = lines.next_line().await else { return };
    while let Ok(Some(line)) = lines.next_line().await {
        if line.is_empty() {
            break;
        }
    }
    let path = request.split_whitespace().nth(1).unwrap_or_default().trim_start_matches("/v1.41");
    let known = containers.lock().unwrap().clone();
    let other = others.answers.lock().unwrap().get(path.split('?').next().unwrap_or_default()).cloned();
    if other.is_some() {
        others.asked.lock().unwrap().push(request.split_whitespace().nth(1).unwrap_or_default().to_owned());
    }
    let (status, body) = if let Some(answer) = other {
        let now = {
            let mut under_way = others.under_way.lock().unwrap();
            *under_way += 1;
            *under_way
        };
        let most = (*others.most_at_once.lock().unwrap()).max(now);
        *others.most_at_once.lock().unwrap() = most;
        if answer.is_none() {
            _ = stream.read(&mut [0]).await;
        }
        *others.under_way.lock().unwrap() -= 1;
        let Some(answer) = answer else { return };
        answer
    } else if path.starts_with("/version") || path.starts_with("/v1.") && path.contains("/version") {
        (200, r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#.to_owned())
    } else if path.starts_with("/info") {
        (200, r#"{"CgroupDriver":"cgroupfs","CgroupVersion":"1"}"#.to_owned())
    } else if path.starts_with("/containers/json") {
        let row = |(id, fake): (&&str, &Fake)| {
            let status =
                if fake.status == "running" { format!("Up 5 minutes ({})", fake.health) } else { String::new() };
            let (state, labels) = (fake.status, fake.labels());
            format!(r#"{{"Id":"{id}","State":"{state}","Status":"{status}","Labels":{labels}}}"#)
        };
        (200, format!("[{}]", known.iter().map(row).collect::<Vec<_>>().join(",")))
    } else if path.starts_with("/events") {
        let since = path.split("since=").nth(1).unwrap_or_default();
        let since: i128 = since.split('&').next().unwrap_or_default().replace('.', "").parse().unwrap_or(0);
        if path.contains("until=") {
            let forgotten = if *is_old.lock().unwrap() { 256 } else { 0 };
            let other = "{\"Type\":\"network\",\"Action\":\"connect\",\"timeNano\":1}\n".repeat(forgotten);
            let told: String = told.lock().unwrap().iter().map(|(_, event)| event.as_str()).collect();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".to_owned();
            _ = stream.write_all((head + &other + &told).as_bytes()).await;
            return;
        }
        let (mut subscription, missed) = {
            let told = told.lock().unwrap();
            let missed: String = told.iter().filter(|(at, _)| *at > since).map(|(_, event)| event.as_str()).collect();
            (events.subscribe(), missed)
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_owned();
        _ = stream.write_all((head + &missed).as_bytes()).await;
        while let Ok(event) = subscription.recv().await {
            if event.is_empty() || stream.write_all(event.as_bytes()).await.is_err() {
                return;
            }
        }
        return;
    } else if let Some(fake) = path.strip_prefix("/containers/").and_then(|rest| known.get(rest.split('/').next()?)) {
        *inspects.lock().unwrap() += 1;
        if fake.hangs {
            _ = stream.read(&mut [0]).await;
            return;
        }
        let id = path.split('/').nth(2).unwrap_or_default();
        let (status, health, labels) = (fake.status, fake.health, fake.labels());
        let (streak, image) = (fake.failing_streak, fake.image);
        let health = if health == "none" {
            String::new()
        } else {
            format!(r#","Health":{{"Status":"{health}","FailingStreak":{streak}}}"#)
        };
        let body = format!(
            r#"{{"Id":"{id}","Name":"/shop-web-1","Image":"{image}","State":{{"Status":"{status}"{health}}},"Config":{{"Labels":{labels}}}}}"#
        );
        (200, body)
    } else {
        (404, r#"{"message":"no such container"}"#.to_owned())
    };
    let head =
        format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", body.len());
    _ = stream.write_all((head + &body).as_bytes()).await;
}

/// Waits until what is known satisfies `wanted`.
async fn until(watcher: &Watcher, what: &str, wanted: impl Fn(&Snapshot) -> bool) -> Arc<Snapshot> {
    let mut snapshots = watcher.subscribe();
    let found = tokio::time::timeout(PATIENCE, snapshots.wait_for(|snapshot| wanted(snapshot))).await;
    match found {
        Ok(Ok(snapshot)) => Arc::clone(&snapshot),
        _ => panic!("never saw: {what}; last: {:?}", watcher.snapshot()),
    }
}

#[tokio::test]
async fn it_lists_then_follows_events_and_inspects_only_what_changed() {
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    engine.set("b", Fake::running("none"));
    engine.set("other", Fake { stack: Some("elsewhere"), ..Fake::running("healthy") });
    engine.set("old", Fake { status: "exited", ..Fake::running("none") });
    let watcher = engine.watch(Duration::from_secs(5));
    let first = until(&watcher, "the list", |snapshot| snapshot.up).await;
    assert_eq!(first.containers.keys().collect::<Vec<_>>(), ["a", "b", "old"]);
    assert_eq!(first.containers["old"].stop, StopCause::Unknown);
    assert_eq!(first.engine.as_ref().map(|engine| engine.cgroup_driver.as_str()), Some("cgroupfs"));
    let inspected = *engine.inspects.lock().unwrap();
    assert_eq!(inspected, 3, "one inspect a container, none of another stack");

    engine.set("a", Fake::running("unhealthy"));
    engine.event("a", "health_status: unhealthy", "");
    let ill =
        until(&watcher, "a is ill", |snapshot| snapshot.containers["a"].container.health == Health::Unhealthy).await;
    assert_eq!(ill.containers["a"].container.failing_streak, 3);
    assert_eq!(*engine.inspects.lock().unwrap(), inspected + 1);

    engine.set("b", Fake { status: "exited", ..Fake::running("none") });
    engine.event("b", "kill", r#""signal":"15""#);
    engine.event("b", "die", r#""exitCode":"143""#);
    let stopped =
        until(&watcher, "b is stopped", |snapshot| snapshot.containers["b"].container.status == Status::Exited).await;
    assert!(matches!(stopped.containers["b"].stop, StopCause::Requested { .. }));

    engine.containers.lock().unwrap().remove("a");
    engine.event("a", "destroy", "");
    until(&watcher, "a is gone", |snapshot| !snapshot.containers.contains_key("a")).await;
    assert!(watcher.events_seen() >= 4);
}

#[tokio::test]
async fn a_cut_stream_is_resumed_and_what_stopped_meanwhile_is_nobodys() {
    let engine = Engine::start();
    engine.set("a", Fake::running("none"));
    let watcher = engine.watch(Duration::from_secs(5));
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    engine.set("a", Fake { status: "exited", ..Fake::running("none") });
    engine.cut_streams().await;
    let after =
        until(&watcher, "a is stopped", |snapshot| snapshot.containers["a"].container.status == Status::Exited).await;
    assert_eq!(after.containers["a"].stop, StopCause::Unknown);
}

#[tokio::test]
async fn what_an_engine_ends_on_its_return_nobody_has_asked_for() {
    let engine = Engine::start();
    for id in ["a", "b", "c", "d"] {
        engine.set(id, Fake::running("none"));
    }
    engine.set("p", Fake { status: "paused", ..Fake::running("none") });
    let watcher = engine.watch(Duration::from_secs(5));
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    // A person stops one, and it takes its time.
    engine.event("b", "kill", r#""signal":"15""#);
    until(&watcher, "the signal", |snapshot| matches!(snapshot.containers["b"].stop, StopCause::Requested { .. }))
        .await;

    assert!(!watcher.has_lost_it());
    engine.leaves(&watcher).await;
    assert!(watcher.has_lost_it());
    let stop = |id: &'static str| {
        engine.set(id, Fake { status: "exited", ..Fake::running("none") });
        engine.event(id, "kill", r#""signal":"15""#);
        engine.event(id, "die", r#""exitCode":"0""#);
        engine.event(id, "stop", "");
    };
    for id in ["a", "b", "c", "d", "p"] {
        stop(id);
    }
    // The engine brings two back, and a person stops one of them at once.
    engine.event("c", "start", "");
    engine.event("d", "start", "");
    engine.set("c", Fake::running("none"));
    stop("d");
    engine.comes_back();
    let is_over = |snapshot: &Snapshot| {
        snapshot.reconnects == 1 && matches!(snapshot.containers["d"].stop, StopCause::Requested { .. })
    };
    let after = until(&watcher, "its return", is_over).await;
    assert!(!watcher.has_lost_it());
    let stop_of = |snapshot: &Snapshot, id: &str| snapshot.containers[id].stop;
    assert_eq!(stop_of(&after, "a"), StopCause::Engine);
    assert!(matches!(stop_of(&after, "b"), StopCause::Requested { .. }));
    assert_eq!(after.containers["c"].container.status, Status::Running);
    assert_eq!(stop_of(&after, "p"), StopCause::Unknown);

    // Who begins to watch later finds it out as well, as long as the engine remembers.
    let late = engine.watch(Duration::from_secs(5));
    let found = until(&late, "the list", |snapshot| snapshot.up).await;
    assert_eq!((stop_of(&found, "a"), stop_of(&found, "d")), (StopCause::Engine, StopCause::Unknown));
    // Who acts on it has to know what the engine of before was asked for: by one who watched it until it went, and whom this one ended.
    let now = Timestamp::now();
    let long_ago = now - SignedDuration::from_hours(1);
    for (earlier, expected) in [
        (Earlier::Nobody, StopCause::Unknown),
        (Earlier::UntilItWent(long_ago), StopCause::Unknown),
        (Earlier::UntilItWent(now), StopCause::Engine),
    ] {
        let docker = Arc::new(Docker::connect(&engine.socket, Duration::from_secs(5)));
        let options = WatchOptions { earlier, ..WatchOptions::default() };
        let watcher = Watcher::spawn_with(docker, "nexus".to_owned(), options);
        let found = until(&watcher, "the list", |snapshot| snapshot.up).await;
        assert_eq!(stop_of(&found, "a"), expected, "{earlier:?}");
    }
    *engine.is_old.lock().unwrap() = true;
    let later = engine.watch(Duration::from_secs(5));
    let found = until(&later, "the list", |snapshot| snapshot.up).await;
    assert_eq!(stop_of(&found, "a"), StopCause::Unknown);

    // One that is started and stopped once more was stopped by somebody.
    engine.event("a", "start", "");
    engine.event("a", "kill", r#""signal":"15""#);
    until(&watcher, "the stop", |snapshot| matches!(snapshot.containers["a"].stop, StopCause::Requested { .. })).await;
}

#[tokio::test]
async fn one_that_remembers_what_was_seen_is_the_same_and_its_word_is_good() {
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    let watcher = engine.watch(Duration::from_secs(5));
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    engine.event("a", "health_status: healthy", "");
    until(&watcher, "an event", |_| watcher.events_seen() == 1).await;
    engine.cut_streams().await;
    engine.set("a", Fake { status: "exited", ..Fake::running("none") });
    engine.event("a", "kill", r#""signal":"15""#);
    engine.event("a", "die", r#""exitCode":"0""#);
    until(&watcher, "the stop", |snapshot| matches!(snapshot.containers["a"].stop, StopCause::Requested { .. })).await;
    // Another one that has forgotten where it began does not say who asked.
    engine.set("b", Fake::running("none"));
    engine.event("b", "create", "");
    until(&watcher, "the other", |snapshot| snapshot.containers.contains_key("b")).await;
    let events = watcher.events_seen();
    engine.leaves(&watcher).await;
    *engine.is_old.lock().unwrap() = true;
    engine.set("b", Fake { status: "exited", ..Fake::running("none") });
    engine.event("b", "kill", r#""signal":"15""#);
    engine.event("b", "die", r#""exitCode":"0""#);
    engine.comes_back();
    let replayed = |snapshot: &Snapshot| snapshot.up && watcher.events_seen() >= events + 2;
    let after = until(&watcher, "the events", replayed).await;
    assert_eq!(after.containers["b"].container.status, Status::Exited);
    assert_eq!(after.containers["b"].stop, StopCause::Unknown);
}

#[tokio::test]
async fn one_container_that_hangs_does_not_hide_the_others() {
    let engine = Engine::start();
    engine.set("a", Fake { hangs: true, ..Fake::running("healthy") });
    engine.set("b", Fake::running("healthy"));
    let watcher = engine.watch(Duration::from_secs(1));
    let snapshot = until(&watcher, "b is listed", |snapshot| snapshot.up).await;
    assert_eq!(snapshot.containers.keys().collect::<Vec<_>>(), ["b"]);
}

#[tokio::test]
async fn an_end_that_was_told_is_known_though_the_look_at_it_failed() {
    let engine = Engine::start();
    engine.set("a", Fake::running("none"));
    engine.set("b", Fake::running("none"));
    let options = WatchOptions { list_every: Duration::from_millis(50), ..WatchOptions::default() };
    let docker = Arc::new(engine.docker(Duration::from_secs(1)));
    let watcher = Watcher::spawn_with(docker, "nexus".to_owned(), options);
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    // One is not shown within the time, the other is refused.
    engine.set("a", Fake { hangs: true, status: "exited", ..Fake::running("none") });
    engine.set("b", Fake { status: "exited", ..Fake::running("none") });
    engine.answers("/containers/b/json", Some((403, "{}")));
    for id in ["a", "b"] {
        engine.event(id, "die", r#""exitCode":"1""#);
    }
    let told = |snapshot: &Snapshot| snapshot.events.iter().map(|(_, count)| count).sum::<u64>();
    let before = until(&watcher, "both ends are told", |snapshot| told(snapshot) == 2).await;
    assert!(before.containers.values().all(|watched| watched.container.status == Status::Running));
    engine.set("a", Fake { status: "exited", ..Fake::running("none") });
    engine.others.answers.lock().unwrap().clear();
    let after = until(&watcher, "both are stopped", |snapshot| {
        snapshot.containers.values().all(|watched| watched.container.status == Status::Exited)
    })
    .await;
    for id in ["a", "b"] {
        assert_eq!(after.containers[id].stop, StopCause::Itself, "{id}");
    }
}

#[tokio::test]
async fn an_engine_that_is_away_is_said_and_found_when_it_comes() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let watcher = Watcher::spawn(Arc::new(Docker::connect(&socket, Duration::from_secs(1))), "nexus".to_owned());
    let away = until(&watcher, "it is away", |snapshot| snapshot.error.is_some()).await;
    assert!(!away.up);
    assert!(away.error.as_ref().is_some_and(|error| error.starts_with("docker does not answer on")));
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    std::os::unix::fs::symlink(Path::new(&engine.socket), &socket).unwrap();
    until(&watcher, "it is back", |snapshot| snapshot.up && snapshot.containers.contains_key("a")).await;
}

#[tokio::test]
async fn refusals_of_the_proxy_and_missing_containers_have_their_own_errors() {
    let engine = Engine::start();
    let docker = Docker::connect(&engine.socket, Duration::from_secs(5));
    let error = docker.inspect("nothing").await.unwrap_err();
    assert_eq!(error.to_string(), "docker knows no container nothing");
    let error = docker.restart("nothing", Duration::from_secs(1)).await.unwrap_err();
    assert_eq!(error.to_string(), "docker knows no container nothing");
}

#[tokio::test]
async fn events_reconnects_and_the_list_are_counted() {
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    let watcher = engine.watch(Duration::from_secs(5));
    let first = until(&watcher, "the list", |snapshot| snapshot.up).await;
    assert_eq!(first.reconnects, 0);
    assert!(first.listed_at.is_some());
    let count = |snapshot: &Snapshot, action: &str| snapshot.events.iter().find(|(name, _)| *name == action).unwrap().1;
    engine.event("a", "health_status: healthy", "");
    engine.event("a", "oom", "");
    engine.event("a", "made up by a newer engine", "");
    engine.event("elsewhere", "die", r#""nexus.stack":"elsewhere""#);
    let told = until(&watcher, "three events", |snapshot| count(snapshot, "other") == 1).await;
    assert_eq!((count(&told, "health_status"), count(&told, "oom"), count(&told, "die")), (1, 1, 0));
    engine.cut_streams().await;
    let after = until(&watcher, "another stream", |snapshot| snapshot.reconnects == 1).await;
    assert_eq!(count(&after, "oom"), 1, "a replay counts nothing twice");
    assert!(after.listed_at > first.listed_at);
}

#[tokio::test]
async fn probes_without_an_event_are_seen_at_the_list_by_who_asks_for_them() {
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    engine.set("b", Fake::running("none"));
    engine.set("c", Fake { status: "exited", ..Fake::running("unhealthy") });
    let options = WatchOptions { list_every: Duration::from_millis(20), fresh_probes: true, ..WatchOptions::default() };
    let docker = Arc::new(engine.docker(Duration::from_secs(5)));
    let watcher = Watcher::spawn_with(docker, "nexus".to_owned(), options);
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    let before = *engine.inspects.lock().unwrap();
    let listed_at = watcher.snapshot().listed_at;
    engine.set("a", Fake { failing_streak: 1, ..Fake::running("healthy") });
    let streak = |snapshot: &Snapshot, id: &str| snapshot.containers[id].container.failing_streak;
    until(&watcher, "the streak", |snapshot| streak(snapshot, "a") == 1).await;
    // Nobody is woken for a list that says nothing new, but its time moves.
    tokio::time::timeout(PATIENCE, async {
        while watcher.snapshot().listed_at == listed_at {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .unwrap();
    // Once more after each list, and the others never.
    let watched = Watcher::spawn(Arc::new(engine.docker(Duration::from_secs(5))), "nexus".to_owned());
    until(&watched, "the list", |snapshot| snapshot.up).await;
    drop(watcher);
    tokio::time::sleep(Duration::from_millis(50)).await;
    let after = *engine.inspects.lock().unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(after > before);
    assert_eq!(*engine.inspects.lock().unwrap(), after, "who does not ask for fresh probes inspects what changed");
}

#[tokio::test]
async fn a_probe_that_hangs_holds_up_no_event() {
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    engine.set("b", Fake::running("healthy"));
    let options = WatchOptions { list_every: Duration::from_millis(50), fresh_probes: true, ..WatchOptions::default() };
    let docker = Arc::new(engine.docker(Duration::from_secs(1)));
    let watcher = Watcher::spawn_with(docker, "nexus".to_owned(), options);
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    engine.set("a", Fake { hangs: true, ..Fake::running("healthy") });
    engine.set("b", Fake { failing_streak: 7, ..Fake::running("healthy") });
    until(&watcher, "the probes of b", |snapshot| snapshot.containers["b"].container.failing_streak == 7).await;
    engine.event("b", "oom", "");
    let after = until(&watcher, "an event of b", |snapshot| snapshot.containers["b"].oom_events == 1).await;
    assert!(after.up && after.containers.contains_key("a"), "what was known of it stays");
}

#[tokio::test]
async fn an_engine_that_hangs_is_down_until_it_answers_again() {
    let engine = Engine::start();
    engine.set("a", Fake::running("healthy"));
    let options = WatchOptions { list_every: Duration::from_millis(20), fresh_probes: true, ..WatchOptions::default() };
    let docker = Arc::new(engine.docker(Duration::from_secs(1)));
    let watcher = Watcher::spawn_with(docker, "nexus".to_owned(), options);
    until(&watcher, "the list", |snapshot| snapshot.up).await;
    engine.answers("/containers/json", None);
    let down = until(&watcher, "it is down", |snapshot| !snapshot.up).await;
    assert_eq!(down.error.as_deref(), Some("docker did not list its containers within 1 s"));
    assert!(down.containers.contains_key("a") && down.listed_at.is_some());
    engine.others.answers.lock().unwrap().clear();
    let back = until(&watcher, "it is back", |snapshot| snapshot.up).await;
    assert!(back.listed_at > down.listed_at);
}

const LEGACY: &str = r#"{"LayersSize":1000,"Images":[{"Id":"sha256:aa","Containers":1,"Size":600,"SharedSize":100}],
    "Containers":[{"State":"exited","SizeRw":30}],"Volumes":null,"BuildCache":null,"BuilderSize":0}"#;

/// Waits until the report satisfies `wanted`.
async fn until_report(disk: &DiskWatcher, what: &str, wanted: impl Fn(&DiskReport) -> bool) -> Arc<DiskReport> {
    let mut reports = disk.subscribe();
    match tokio::time::timeout(PATIENCE, reports.wait_for(|report| wanted(report))).await {
        Ok(Ok(report)) => Arc::clone(&report),
        _ => panic!("never saw: {what}; last: {:?}", disk.report()),
    }
}

#[tokio::test]
async fn disk_usage_is_asked_for_again_and_again_and_never_twice_at_once() {
    let engine = Engine::start();
    engine.answers("/system/df", Some((200, LEGACY)));
    let watcher = engine.watch(Duration::from_secs(5));
    let disk = engine.watch_disk(&watcher, Duration::from_secs(5));
    let report = until_report(&disk, "the first walk", |report| report.last.is_some()).await;
    let usage = report.last.unwrap().usage;
    assert_eq!(usage.images, Some(Usage { total_bytes: 1000, reclaimable_bytes: 500, count: 1, active: 1 }));
    assert_eq!(usage.volumes, Some(Usage::default()));
    engine.answers("/system/df", Some((200, r#"{"ImageUsage":{"TotalSize":7}}"#)));
    let total = |report: &DiskReport| report.last.and_then(|walk| walk.usage.images).map(|usage| usage.total_bytes);
    until_report(&disk, "a later walk", |report| total(report) == Some(7)).await;
    drop(disk);
    assert_eq!(*engine.others.most_at_once.lock().unwrap(), 1);
    let asked = engine.asked("/system/df");
    assert!(asked.iter().all(|target| target == "/v1.41/system/df?verbose=false"), "{asked:?}");
}

#[tokio::test]
async fn a_refused_or_endless_disk_usage_is_told_and_what_was_known_stays() {
    let engine = Engine::start();
    engine.answers("/system/df", Some((200, LEGACY)));
    let watcher = engine.watch(Duration::from_secs(5));
    let disk = engine.watch_disk(&watcher, Duration::from_millis(200));
    until_report(&disk, "the first walk", |report| report.last.is_some()).await;
    let told = |words: &'static str| {
        move |report: &DiskReport| {
            report.last.is_some() && report.error.as_ref().is_some_and(|error| error.contains(words))
        }
    };
    // The socket proxy's own page.
    engine
        .answers("/system/df", Some((403, "<html><body><h1>403 Forbidden</h1>\nRequest forbidden.\n</body></html>\n")));
    until_report(&disk, "the refusal", told("docker refused to tell its disk usage")).await;
    // Two at once are refused by engines before 23.0.
    engine.answers("/system/df", Some((500, r#"{"message":"a disk usage operation is already running"}"#)));
    until_report(&disk, "the other's walk", told("already running (status 500)")).await;
    engine.answers("/system/df", None);
    until_report(&disk, "the time-out", told("docker did not tell its disk usage within 0 s")).await;
    engine.answers("/system/df", Some((200, "[]")));
    until_report(&disk, "nonsense", told("docker failed to tell its disk usage")).await;
    let endless = format!("[\"{}\"]", "x".repeat(9 << 20));
    engine.answers("/system/df", Some((200, &endless)));
    until_report(&disk, "what is too large", told("larger than 8 MiB")).await;
    engine.answers("/system/df", Some((200, LEGACY)));
    until_report(&disk, "recovery", |report| report.error.is_none()).await;
    assert!(watcher.snapshot().up, "containers are watched all the while");
}

#[tokio::test]
async fn a_failing_disk_usage_is_asked_for_less_and_less() {
    let engine = Engine::start();
    engine.answers("/system/df", Some((403, "no")));
    let watcher = engine.watch(Duration::from_secs(5));
    let schedule = DiskSchedule {
        first_after: Duration::ZERO,
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(5),
    };
    let docker = Arc::new(engine.docker(Duration::from_secs(5)));
    let disk = DiskWatcher::spawn(docker, watcher.subscribe(), schedule);
    until_report(&disk, "the refusal", |report| report.error.is_some()).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(engine.asked("/system/df").len(), 1);
}

#[tokio::test]
async fn nobody_asks_an_engine_that_is_away() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let docker = Arc::new(Docker::connect(&socket, Duration::from_secs(1)));
    let watcher = Watcher::spawn(Arc::clone(&docker), "nexus".to_owned());
    let schedule = DiskSchedule {
        first_after: Duration::ZERO,
        interval: Duration::from_secs(3600),
        timeout: Duration::from_secs(5),
    };
    let disk = DiskWatcher::spawn(docker, watcher.subscribe(), schedule);
    until(&watcher, "it is away", |snapshot| snapshot.error.is_some()).await;
    let engine = Engine::start();
    engine.answers("/system/df", Some((200, LEGACY)));
    assert!(disk.report().error.is_none(), "one fault is told once");
    std::os::unix::fs::symlink(&engine.socket, &socket).unwrap();
    until_report(&disk, "a walk as soon as it is back", |report| report.last.is_some()).await;
}

#[tokio::test]
async fn images_are_listed_once_and_again_for_one_that_is_new() {
    let engine = Engine::start();
    engine.answers(
        "/images/json",
        Some((200, r#"[{"Id":"sha256:aa","Created":1700000000,"Labels":null},{"Id":"sha256:bb","Created":0}]"#)),
    );
    engine.set("a", Fake::running("none"));
    let watcher = engine.watch(Duration::from_secs(5));
    let images = ImageWatcher::spawn(Arc::new(engine.docker(Duration::from_secs(5))), watcher.subscribe());
    let mut times = images.subscribe();
    let mut until = async |what: &str, id: &str, expected: Option<i64>| {
        let is = |at: Option<i64>| at.map(|second| jiff::Timestamp::from_second(second).unwrap());
        let found = times.wait_for(|times| times.get(id) == Some(&is(expected)));
        assert!(matches!(tokio::time::timeout(PATIENCE, found).await, Ok(Ok(_))), "never saw: {what}");
    };
    until("the image of a", "sha256:aa", Some(1_700_000_000)).await;
    engine.set("b", Fake { image: "sha256:bb", ..Fake::running("none") });
    engine.event("b", "create", "");
    until("an image without a date", "sha256:bb", None).await;
    // Neither what is known nor what is not listed is a reason to ask again.
    engine.set("c", Fake { image: "sha256:aa", ..Fake::running("none") });
    engine.event("c", "create", "");
    self::until(&watcher, "c", |snapshot| snapshot.containers.contains_key("c")).await;
    assert_eq!(engine.asked("/images/json"), ["/v1.41/images/json", "/v1.41/images/json"]);
}
