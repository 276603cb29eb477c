//! The watcher against a fake engine on a unix socket that answers with what real engines answered, and misbehaves on
//! demand.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_docker::{Docker, Health, Snapshot, Status, StopCause, Watcher};
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
}

impl Fake {
    fn running(health: &'static str) -> Fake {
        Fake { status: "running", health, stack: None, hangs: false }
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
    /// Events to send; an empty string closes the streams.
    events: broadcast::Sender<String>,
    inspects: Arc<Mutex<u32>>,
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
            events: broadcast::channel(64).0,
            inspects: Arc::default(),
        };
        let (containers, events, inspects) =
            (Arc::clone(&engine.containers), engine.events.clone(), Arc::clone(&engine.inspects));
        let told = Arc::clone(&engine.told);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let told = Arc::clone(&told);
                let answer = answer(stream, Arc::clone(&containers), told, events.clone(), Arc::clone(&inspects));
                tokio::spawn(answer);
            }
        });
        engine
    }

    fn set(&self, id: &'static str, fake: Fake) {
        self.containers.lock().unwrap().insert(id, fake);
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
        Watcher::spawn(Arc::new(Docker::connect(&self.socket, timeout)), "nexus".to_owned())
    }
}

async fn answer(
    mut stream: UnixStream,
    containers: Arc<Mutex<BTreeMap<&'static str, Fake>>>,
    told: Arc<Mutex<Vec<(i128, String)>>>,
    events: broadcast::Sender<String>,
    inspects: Arc<Mutex<u32>>,
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
    let (status, body) = if path.starts_with("/version") || path.starts_with("/v1.") && path.contains("/version") {
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
        let health = if health == "none" {
            String::new()
        } else {
            format!(r#","Health":{{"Status":"{health}","FailingStreak":3}}"#)
        };
        let body = format!(
            r#"{{"Id":"{id}","Name":"/shop-web-1","State":{{"Status":"{status}"{health}}},"Config":{{"Labels":{labels}}}}}"#
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
async fn one_container_that_hangs_does_not_hide_the_others() {
    let engine = Engine::start();
    engine.set("a", Fake { hangs: true, ..Fake::running("healthy") });
    engine.set("b", Fake::running("healthy"));
    let watcher = engine.watch(Duration::from_secs(1));
    let snapshot = until(&watcher, "b is listed", |snapshot| snapshot.up).await;
    assert_eq!(snapshot.containers.keys().collect::<Vec<_>>(), ["b"]);
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
