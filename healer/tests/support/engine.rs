//! A Docker engine that answers as engines of API 1.41 do, restarts what it is told to, and misbehaves on demand.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::{UnixListener, UnixStream},
    sync::broadcast,
};

/// The only prune of images that the proxy lets through.
const DANGLING: &str = "filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D";

/// How a container takes a restart.
#[derive(Clone, Debug, PartialEq)]
pub enum Temper {
    /// It is healthy afterwards.
    Mends,
    /// It is unhealthy again at once.
    StaysIll,
    /// It exits again at once.
    Exits(i64),
    /// It stays in its start phase.
    Dawdles,
    /// The engine answers 500 and leaves it stopped.
    Refuses,
    /// The engine drops the call and does nothing.
    Ignores,
    /// The engine restarts it, and never answers.
    Mute,
    /// The engine says that it was done, and does nothing.
    Lies,
}

#[derive(Clone, Debug)]
pub struct Fake {
    pub name: String,
    pub status: &'static str,
    pub health: Option<&'static str>,
    pub exit_code: i64,
    pub labels: BTreeMap<String, String>,
    pub image: String,
    pub restart_policy: &'static str,
    pub temper: Temper,
    /// How long it takes to stop.
    pub stops_in: Duration,
    pub started_at: Timestamp,
    /// Failed probes since the last good one, while it is still called healthy.
    pub failing_streak: u64,
    pub network_mode: String,
    pub log: Vec<String>,
    /// How long the engine takes to give it.
    pub logged_in: Duration,
    /// How long the engine takes for an inspect.
    pub inspected_in: Duration,
    /// Answers no inspect.
    pub hangs: bool,
    /// The engine removes it when it ends.
    pub auto_remove: bool,
    /// Its limit of memory in bytes; 0: none.
    pub memory: u64,
    /// The host's port that its port 8080 is published on.
    pub published: Option<u16>,
    /// How often Docker's own policy has restarted it since it was started last.
    pub restart_count: u64,
    pub created_at: Timestamp,
}

impl Fake {
    pub fn service(project: &str, service: &str) -> Self {
        let labels = [
            ("com.docker.compose.project", project),
            ("com.docker.compose.service", service),
            ("com.docker.compose.oneoff", "False"),
            ("nexus.heal", "true"),
        ];
        Self {
            name: format!("{project}-{service}-1"),
            status: "running",
            health: Some("healthy"),
            exit_code: 0,
            labels: labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
            image: "shop/web:1".to_owned(),
            restart_policy: "unless-stopped",
            temper: Temper::Mends,
            stops_in: Duration::ZERO,
            started_at: Timestamp::now(),
            failing_streak: 0,
            network_mode: format!("{project}_default"),
            log: vec!["listening".to_owned(), "login with password=hunter2 failed".to_owned()],
            logged_in: Duration::ZERO,
            inspected_in: Duration::ZERO,
            hangs: false,
            auto_remove: false,
            memory: 0,
            published: None,
            restart_count: 0,
            created_at: Timestamp::now(),
        }
    }

    pub fn ill(self) -> Self {
        Self { health: Some("unhealthy"), ..self }
    }

    pub fn label(mut self, name: &str, value: &str) -> Self {
        self.labels.insert(name.to_owned(), value.to_owned());
        self
    }

    pub fn without_label(mut self, name: &str) -> Self {
        self.labels.remove(name);
        self
    }

    fn inspected(&self, id: &str) -> Value {
        let running = self.status == "running";
        let mut state = json!({
            "Status": self.status, "Running": running, "Paused": self.status == "paused", "Restarting": false,
            "OOMKilled": false, "Dead": false, "Pid": if running { 4711 } else { 0 }, "ExitCode": self.exit_code,
            "Error": "", "StartedAt": if self.status == "created" { json!("0001-01-01T00:00:00Z") } else { json!(self.started_at) },
            "FinishedAt": if running || self.status == "created" { json!("0001-01-01T00:00:00Z") } else { json!(Timestamp::now()) },
        });
        if let Some(health) = self.health {
            let streak = if health == "unhealthy" { 3 } else { self.failing_streak };
            // What is healthy has always been probed just now.
            let (probed, exit_code) = if health == "healthy" { (Timestamp::now(), 0) } else { (self.started_at, 1) };
            state["Health"] = json!({ "Status": health, "FailingStreak": streak, "Log": [
                { "Start": probed, "End": probed, "ExitCode": exit_code, "Output": "GET /?token=abcdef 500\n" },
            ]});
        }
        json!({
            "Id": id, "Name": format!("/{}", self.name), "Created": self.created_at, "Image": "sha256:aa",
            "RestartCount": self.restart_count,
            "NetworkSettings": { "Ports": {
                "8080/tcp": self.published.map(|port| json!([{ "HostIp": "0.0.0.0", "HostPort": port.to_string() }])),
            }},
            "Path": "sh", "Args": ["--password", "hunter2"], "State": state,
            "HostConfig": {
                "NetworkMode": self.network_mode, "RestartPolicy": { "Name": self.restart_policy, "MaximumRetryCount": 0 },
                "Memory": self.memory, "CgroupParent": "", "AutoRemove": self.auto_remove, "LogConfig": { "Type": "json-file" },
            },
            "Config": {
                "Image": self.image, "Env": ["PASSWORD=hunter2"], "Labels": self.labels, "StopTimeout": 1,
                "Healthcheck": self.health.map(|_| json!({ "Test": ["CMD", "x"], "Interval": 500_000_000, "Retries": 1,
                    "Timeout": 500_000_000 })),
            },
        })
    }
}

#[derive(Default)]
struct Known {
    containers: BTreeMap<String, Fake>,
    /// Ids in the order in which restarts were begun.
    restarts: Vec<(String, Timestamp)>,
    /// Stops, starts and prunes in the order in which they came: what, and of which container.
    others: Vec<(&'static str, String)>,
    /// Bytes that the next prune of images frees.
    dangling: u64,
    under_way: u32,
    most_at_once: u32,
    /// Answers nothing at all.
    hung: bool,
    /// Answers to calls whose path ends so, instead of doing anything.
    answers: BTreeMap<String, (u16, String)>,
    /// What runs while the engine does: its listener, its connections, and what it is at work on.
    running: Vec<tokio::task::AbortHandle>,
}

#[derive(Clone)]
pub struct Engine {
    folder: Arc<tempfile::TempDir>,
    known: Arc<Mutex<Known>>,
    told: Arc<Mutex<Vec<(i128, String)>>>,
    /// It has been up for so long that it has forgotten its first events.
    is_old: Arc<Mutex<bool>>,
    events: broadcast::Sender<String>,
}

impl Engine {
    pub fn start() -> Self {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let is_old = Arc::new(Mutex::new(true));
        let events = broadcast::channel(256).0;
        let engine = Self { folder, known: Arc::default(), told: Arc::default(), is_old, events };
        engine.come_back();
        engine
    }

    /// The daemon ends: its socket is gone, what it was at work on is left as it is, and what it remembers goes with it.
    pub fn leave(&self) {
        self.told.lock().unwrap().clear();
        *self.is_old.lock().unwrap() = false;
        let mut known = self.known.lock().unwrap();
        known.running.drain(..).for_each(|task| task.abort());
        known.under_way = 0;
        std::fs::remove_file(self.socket()).unwrap();
    }

    /// Another daemon takes its place.
    pub fn come_back(&self) {
        let listener = UnixListener::bind(self.socket()).unwrap();
        let serving = self.clone();
        let accepting = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                serving.runs(tokio::spawn(serving.clone().answer(stream)).abort_handle());
            }
        });
        self.runs(accepting.abort_handle());
    }

    fn runs(&self, task: tokio::task::AbortHandle) {
        let running = &mut self.known.lock().unwrap().running;
        running.retain(|task| !task.is_finished());
        running.push(task);
    }

    /// From now on calls whose path ends so get this answer, and nothing is done; or it does as always.
    pub fn answers(&self, end: &str, answer: Option<(u16, &str)>) {
        let answers = &mut self.known.lock().unwrap().answers;
        match answer {
            Some((status, message)) => _ = answers.insert(end.to_owned(), (status, message.to_owned())),
            None => _ = answers.remove(end),
        }
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// Creates or changes a container, and says so.
    pub fn set(&self, id: &str, fake: Fake) {
        let attributes = attributes(&fake);
        self.known.lock().unwrap().containers.insert(id.to_owned(), fake);
        self.event(id, "update", attributes);
    }

    pub fn change(&self, id: &str, change: impl FnOnce(&mut Fake)) {
        let mut fake = self.container(id);
        change(&mut fake);
        self.set(id, fake);
    }

    /// Changes a container in a way of which no event tells.
    pub fn quietly(&self, id: &str, change: impl FnOnce(&mut Fake)) {
        change(self.known.lock().unwrap().containers.get_mut(id).unwrap());
    }

    pub fn container(&self, id: &str) -> Fake {
        self.known.lock().unwrap().containers[id].clone()
    }

    pub fn remove(&self, id: &str) {
        let fake = self.known.lock().unwrap().containers.remove(id).unwrap();
        self.event(id, "destroy", attributes(&fake));
    }

    /// The process ends by itself.
    pub fn exit(&self, id: &str, code: i64) {
        let attributes = self.stop_at(id, code);
        self.event(id, "die", attributes);
        if self.container(id).auto_remove {
            self.remove(id);
        }
    }

    /// `docker stop`, by a person.
    pub fn stop(&self, id: &str) {
        let attributes = self.stop_at(id, 137);
        let mut with_signal = attributes.clone();
        with_signal["signal"] = json!("15");
        self.event(id, "kill", with_signal);
        self.event(id, "die", attributes.clone());
        self.event(id, "stop", attributes);
    }

    /// The first half of a `docker stop` by a person: the signal, of which it has not ended yet.
    pub fn begin_to_stop(&self, id: &str) {
        let mut with_signal = attributes(&self.container(id));
        with_signal["signal"] = json!("15");
        self.event(id, "kill", with_signal);
    }

    /// And the second: it has ended.
    pub fn end_of_stop(&self, id: &str) {
        let attributes = self.stop_at(id, 137);
        self.event(id, "die", attributes.clone());
        self.event(id, "stop", attributes);
    }

    /// `docker restart`, by a person: with the same events as any other.
    pub async fn restart_by_a_person(&self, id: &str) {
        let fake = {
            let mut known = self.known.lock().unwrap();
            known.under_way += 1;
            known.containers[id].clone()
        };
        _ = self.carry_out(id, fake).await;
    }

    fn stop_at(&self, id: &str, code: i64) -> Value {
        let mut known = self.known.lock().unwrap();
        let fake = known.containers.get_mut(id).unwrap();
        (fake.status, fake.exit_code, fake.health) = ("exited", code, fake.health.map(|_| "unhealthy"));
        attributes(fake)
    }

    pub fn hang(&self, hung: bool) {
        self.known.lock().unwrap().hung = hung;
        if hung {
            // An empty line closes the streams.
            _ = self.events.send(String::new());
        }
    }

    /// How often each container was restarted.
    pub fn restarts(&self, id: &str) -> usize {
        self.known.lock().unwrap().restarts.iter().filter(|(restarted, _)| restarted == id).count()
    }

    pub fn all_restarts(&self) -> Vec<(String, Timestamp)> {
        self.known.lock().unwrap().restarts.clone()
    }

    pub fn most_restarts_at_once(&self) -> u32 {
        self.known.lock().unwrap().most_at_once
    }

    fn event(&self, id: &str, action: &str, attributes: Value) {
        let mut told = self.told.lock().unwrap();
        let nanos = Timestamp::now().as_nanosecond();
        let event = json!({
            "Type": "container", "Action": action, "Actor": { "ID": id, "Attributes": attributes }, "timeNano": nanos as i64,
        });
        let line = format!("{event}\n");
        told.push((nanos, line.clone()));
        _ = self.events.send(line);
    }

    async fn answer(self, mut stream: UnixStream) {
        let mut lines = BufReader::new(&mut stream).lines();
        let Ok(Some(request)) = lines.next_line().await else { return };
        while let Ok(Some(line)) = lines.next_line().await {
            if line.is_empty() {
                break;
            }
        }
        if self.known.lock().unwrap().hung {
            _ = stream.read(&mut [0; 64]).await;
            return;
        }
        let mut words = request.split_whitespace();
        let (method, target) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
        let path = target.strip_prefix("/v1.41").unwrap_or(target);
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        let of_its_own = {
            let known = self.known.lock().unwrap();
            known.answers.iter().find(|(end, _)| path.ends_with(end.as_str())).map(|(_, answer)| answer.clone())
        };
        if let Some((status, message)) = of_its_own {
            return send(stream, status, &json!({ "message": message })).await;
        }
        let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
        let (status, body) = match (method, &parts[..]) {
            ("GET", ["version"] | [_, "version"]) => {
                (200, json!({ "Version": "20.10.24", "ApiVersion": "1.41", "MinAPIVersion": "1.12" }))
            }
            ("GET", ["info"]) => (200, json!({ "CgroupDriver": "cgroupfs", "CgroupVersion": "1" })),
            ("GET", ["events"]) => return self.stream_events(stream, query).await,
            ("GET", ["containers", "json"]) => (200, self.list()),
            ("GET", ["containers", id, "json"]) => {
                let found = self.known.lock().unwrap().containers.get(*id).cloned();
                match found {
                    Some(fake) if fake.hangs => {
                        _ = stream.read(&mut [0; 64]).await;
                        return;
                    }
                    Some(fake) => {
                        tokio::time::sleep(fake.inspected_in).await;
                        (200, fake.inspected(id))
                    }
                    None => missing(id),
                }
            }
            ("GET", ["containers", id, "logs"]) => {
                let found = self.known.lock().unwrap().containers.get(*id).cloned();
                match found {
                    Some(fake) => {
                        tokio::time::sleep(fake.logged_in).await;
                        return send_log(stream, &fake.log).await;
                    }
                    None => missing(id),
                }
            }
            ("POST", ["containers", id, "stop"]) => self.stop_for(id).await,
            ("POST", ["containers", id, "start"]) => self.start_for(id),
            ("POST", ["images", "prune"]) if query == DANGLING => {
                let mut known = self.known.lock().unwrap();
                known.others.push(("prune images", String::new()));
                (200, json!({ "ImagesDeleted": null, "SpaceReclaimed": std::mem::take(&mut known.dangling) }))
            }
            ("POST", ["build", "prune"]) if query.is_empty() => {
                self.known.lock().unwrap().others.push(("prune cache", String::new()));
                (200, json!({ "CachesDeleted": null, "SpaceReclaimed": 0 }))
            }
            ("POST", ["containers", id, "restart"]) => match self.restart(id).await {
                Some(answer) => answer,
                None => {
                    _ = stream.read(&mut [0; 64]).await;
                    return;
                }
            },
            _ => (403, json!({ "message": format!("the proxy lets {method} {path} not through") })),
        };
        send(stream, status, &body).await;
    }

    /// What the healer has stopped, started and pruned so far.
    pub fn others(&self) -> Vec<(&'static str, String)> {
        self.known.lock().unwrap().others.clone()
    }

    /// From now on there are dangling images of this size.
    pub fn dangling(&self, bytes: u64) {
        self.known.lock().unwrap().dangling = bytes;
    }

    async fn stop_for(&self, id: &str) -> (u16, Value) {
        let fake = {
            let mut known = self.known.lock().unwrap();
            known.others.push(("stop", id.to_owned()));
            match known.containers.get(id).cloned() {
                Some(fake) => fake,
                None => return missing(id),
            }
        };
        match (fake.temper, fake.status) {
            (Temper::Refuses, _) => {
                // It has sent the signals by then.
                self.begin_to_stop(id);
                (500, json!({ "message": "cannot stop it: did not receive an exit event" }))
            }
            (_, "running") => {
                // Like the engine, goes on when the caller has gone.
                let (engine, name) = (self.clone(), id.to_owned());
                let work = tokio::spawn(async move {
                    tokio::time::sleep(fake.stops_in).await;
                    engine.stop(&name);
                });
                work.await.unwrap();
                (204, Value::Null)
            }
            _ => (304, Value::Null),
        }
    }

    fn start_for(&self, id: &str) -> (u16, Value) {
        let attributes = {
            let mut known = self.known.lock().unwrap();
            known.others.push(("start", id.to_owned()));
            let Some(fake) = known.containers.get_mut(id) else { return missing(id) };
            if fake.temper == Temper::Refuses {
                return (500, json!({ "message": "driver failed: port 80 is taken, token=abcdef" }));
            }
            if fake.status == "running" {
                return (304, Value::Null);
            }
            (fake.status, fake.exit_code, fake.failing_streak) = ("running", 0, 0);
            fake.started_at = Timestamp::now();
            fake.health = fake.health.map(|_| if fake.temper == Temper::StaysIll { "unhealthy" } else { "healthy" });
            attributes(fake)
        };
        self.event(id, "start", attributes);
        (204, Value::Null)
    }

    fn list(&self) -> Value {
        let known = self.known.lock().unwrap();
        let row = |(id, fake): (&String, &Fake)| {
            let health = fake.health.map(|word| format!(" ({word})")).unwrap_or_default();
            let status = if fake.status == "running" { format!("Up 5 minutes{health}") } else { "Exited".to_owned() };
            json!({ "Id": id, "State": fake.status, "Status": status, "Labels": fake.labels })
        };
        known.containers.iter().map(row).collect()
    }

    async fn stream_events(&self, mut stream: UnixStream, query: &str) {
        let since = query.split('&').find_map(|word| word.strip_prefix("since=")).unwrap_or_default();
        let since: i128 = since.replace('.', "").parse().unwrap_or(0);
        if query.contains("until=") {
            let forgotten = if *self.is_old.lock().unwrap() { 256 } else { 0 };
            let other = "{\"Type\":\"network\",\"Action\":\"connect\",\"timeNano\":1}\n".repeat(forgotten);
            let told: String = self.told.lock().unwrap().iter().map(|(_, event)| event.as_str()).collect();
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\n\r\n".to_owned();
            _ = stream.write_all((head + &other + &told).as_bytes()).await;
            return;
        }
        let (mut subscription, missed) = {
            let told = self.told.lock().unwrap();
            let missed: String = told.iter().filter(|(at, _)| *at > since).map(|(_, event)| event.as_str()).collect();
            (self.events.subscribe(), missed)
        };
        let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n".to_owned();
        _ = stream.write_all((head + &missed).as_bytes()).await;
        while let Ok(event) = subscription.recv().await {
            if event.is_empty() || stream.write_all(event.as_bytes()).await.is_err() {
                return;
            }
        }
    }

    /// `None`: no answer ever.
    async fn restart(&self, id: &str) -> Option<(u16, Value)> {
        let fake = {
            let mut known = self.known.lock().unwrap();
            let Some(fake) = known.containers.get(id).cloned() else { return Some(missing(id)) };
            if fake.temper == Temper::Ignores {
                known.restarts.push((id.to_owned(), Timestamp::now()));
                return None;
            }
            if fake.temper == Temper::Lies {
                known.restarts.push((id.to_owned(), Timestamp::now()));
                return Some((204, Value::Null));
            }
            known.restarts.push((id.to_owned(), Timestamp::now()));
            known.under_way += 1;
            known.most_at_once = known.most_at_once.max(known.under_way);
            fake
        };
        // Like the engine, goes on when the caller has gone.
        let engine = self.clone();
        let name = id.to_owned();
        let work = tokio::spawn(async move { engine.carry_out(&name, fake).await });
        self.runs(work.abort_handle());
        // Unless the daemon itself ends.
        work.await.unwrap_or(None)
    }

    async fn carry_out(&self, id: &str, fake: Fake) -> Option<(u16, Value)> {
        let was_running = fake.status == "running";
        if was_running {
            let mut with_signal = attributes(&fake);
            with_signal["signal"] = json!("15");
            self.event(id, "kill", with_signal);
        }
        tokio::time::sleep(fake.stops_in).await;
        if was_running {
            let attributes = self.stop_at(id, 137);
            self.event(id, "die", attributes.clone());
            self.event(id, "stop", attributes);
        }
        if fake.temper == Temper::Refuses {
            self.known.lock().unwrap().under_way -= 1;
            return Some((500, json!({ "message": "driver failed: port 80 is taken, token=abcdef" })));
        }
        let attributes = {
            let mut known = self.known.lock().unwrap();
            let fake = known.containers.get_mut(id).unwrap();
            fake.started_at = Timestamp::now();
            (fake.status, fake.exit_code, fake.failing_streak) = ("running", 0, 0);
            let health = match fake.temper {
                Temper::Mends | Temper::Mute => "healthy",
                Temper::StaysIll => "unhealthy",
                _ => "starting",
            };
            fake.health = fake.health.map(|_| health);
            attributes(fake)
        };
        self.event(id, "start", attributes.clone());
        self.event(id, "restart", attributes);
        if let Temper::Exits(code) = fake.temper {
            self.exit(id, code);
        }
        self.known.lock().unwrap().under_way -= 1;
        (fake.temper != Temper::Mute).then_some((204, Value::Null))
    }
}

fn attributes(fake: &Fake) -> Value {
    let mut attributes = json!(fake.labels);
    attributes["name"] = json!(fake.name);
    attributes
}

fn missing(id: &str) -> (u16, Value) {
    (404, json!({ "message": format!("No such container: {id}") }))
}

async fn send(mut stream: UnixStream, status: u16, body: &Value) {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
    _ = stream.write_all((head + &body).as_bytes()).await;
}

/// In the frames of a container without a terminal: stream, three zeros, length, text.
async fn send_log(mut stream: UnixStream, lines: &[String]) {
    let mut body = Vec::new();
    for line in lines {
        let text = format!("{} {line}\n", Timestamp::now());
        body.extend([1, 0, 0, 0]);
        body.extend((text.len() as u32).to_be_bytes());
        body.extend(text.as_bytes());
    }
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: application/vnd.docker.raw-stream\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    _ = stream.write_all(head.as_bytes()).await;
    _ = stream.write_all(&body).await;
}
