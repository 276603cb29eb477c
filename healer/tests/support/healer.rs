//! The healer as a child process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::PathBuf,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::State,
    http::StatusCode,
    routing::{get, post},
};
use nexus_model::api::{IncidentDetail, IncidentList, ServiceList};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{PATIENCE, contract, engine::Engine, eventually};

pub const WEBHOOK_TOKEN: &str = "webhook-secret";
pub const API_TOKEN: &str = "api-secret";
pub const READ_TOKEN: &str = "read-secret";

/// Fast enough for a test, and the budget small.
pub const POLICY: &str = "healing:\n  attempts: 3\n  told_after: 2\n  base_delay: 1s\n  max_delay: 2s\n  stable_for: 1s\n  \
                          verify_margin: 1s\n  start_patience: 0s\n  well_after_giving_up: 1s\n  stop_timeout: 1s\n  \
                          restarts_per_10_minutes: 1000\n";

/// A folder with everything that a healer needs, and the healer while it runs.
pub struct Healer {
    pub folder: tempfile::TempDir,
    /// In the folder, unless the test wants it on another disk.
    pub journal: PathBuf,
    socket: PathBuf,
    alertmanager: Option<String>,
    /// URL of the database, the password for it in the file `password`.
    pub database: Option<String>,
    running: Option<Running>,
}

struct Running {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<String>>,
}

impl Healer {
    /// Prepared, not started.
    pub fn new(engine: &Engine) -> Self {
        Self::within(engine, &std::env::temp_dir())
    }

    /// The same with all its files below a folder.
    pub fn within(engine: &Engine, folder: &std::path::Path) -> Self {
        Self::at(engine.socket(), folder)
    }

    /// The same with any engine.
    pub fn at(socket: PathBuf, folder: &std::path::Path) -> Self {
        let folder = tempfile::tempdir_in(folder).unwrap();
        std::fs::write(folder.path().join("webhook"), WEBHOOK_TOKEN).unwrap();
        std::fs::write(folder.path().join("api"), API_TOKEN).unwrap();
        std::fs::write(folder.path().join("api_read"), READ_TOKEN).unwrap();
        std::fs::write(folder.path().join("healer.yml"), POLICY).unwrap();
        let journal = folder.path().join("journal.db");
        Self { folder, journal, socket, alertmanager: None, database: None, running: None }
    }

    pub async fn started(engine: &Engine) -> Self {
        let mut healer = Self::new(engine);
        healer.start().await;
        healer
    }

    pub fn policy(&self, text: &str) {
        std::fs::write(self.folder.path().join("healer.yml"), text).unwrap();
    }

    pub fn tells(&mut self, alertmanager: &Alertmanager) {
        self.alertmanager = Some(alertmanager.url.clone());
    }

    /// The command line as it is started, to be changed by tests of mistakes.
    pub fn command(&self) -> Command {
        let file = |name: &str| self.folder.path().join(name);
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexus-healer"));
        command
            .env_clear()
            .args(["--host.name", "pi"])
            .env("NEXUS_HEALER_LISTEN", "127.0.0.1:0")
            .env("NEXUS_LOG", "debug")
            .arg("--webhook.token-file")
            .arg(file("webhook"))
            .arg("--api.token-file")
            .arg(file("api"))
            .arg("--api.read-token-file")
            .arg(file("api_read"))
            .arg("--policy.file")
            .arg(file("healer.yml"))
            .arg("--journal.path")
            .arg(&self.journal)
            .arg("--docker.socket")
            .arg(&self.socket)
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        if let Some(url) = &self.alertmanager {
            command.args(["--alertmanager.url", url]);
        }
        if let Some(url) = &self.database {
            command.args(["--database.url", url]).arg("--database.password-file").arg(file("password"));
        }
        command
    }

    pub async fn start(&mut self) {
        let command = self.command();
        self.start_as(command).await;
    }

    pub async fn start_as(&mut self, mut command: Command) {
        command.env("NEXUS_HEALER_LISTEN", "127.0.0.1:0").stderr(Stdio::piped()).stdout(Stdio::null());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let writing = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = writing.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        let address = eventually("the address of the healer", async || {
            let log = log.lock().unwrap();
            // One that is killed at a point may be so right after its start.
            if let Some(code) = child.try_wait().unwrap().and_then(|status| status.code()) {
                panic!("the healer has ended with exit code {code}:\n{log}");
            }
            let address = log.split(" started on ").nth(1)?;
            address.split_whitespace().next()?.parse().ok()
        });
        let address = address.await;
        self.running = Some(Running { child, address, log });
    }

    /// With settings of its environment: for the points at which it is to die, see `healer/src/fault.rs`.
    pub async fn start_with(&mut self, settings: &[(&str, &str)]) {
        let mut command = self.command();
        command.envs(settings.iter().copied());
        self.start_as(command).await;
    }

    /// Waits until it has been killed, by itself, at the point it was started for.
    pub async fn dies(&mut self) {
        use std::os::unix::process::ExitStatusExt;
        let running = self.running.as_mut().unwrap();
        let status = eventually("the end of the healer", async || running.child.try_wait().unwrap()).await;
        assert_eq!(status.signal(), Some(9), "{status}");
        self.running = None;
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let mut running = self.running.take().unwrap();
        running.child.kill().unwrap();
        running.child.wait().unwrap();
    }

    /// SIGTERM, as Docker sends it. Gives the exit status and the log.
    pub fn stop(&mut self) -> (ExitStatus, String) {
        let mut running = self.running.take().unwrap();
        let id = rustix::process::Pid::from_child(&running.child);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        let began = Instant::now();
        loop {
            if let Some(status) = running.child.try_wait().unwrap() {
                std::thread::sleep(Duration::from_millis(50));
                let log = running.log.lock().unwrap().clone();
                return (status, log);
            }
            assert!(began.elapsed() < PATIENCE, "the healer does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// SIGHUP, as `docker kill -s HUP` sends it.
    pub fn hangup(&self) {
        let id = rustix::process::Pid::from_child(&self.running.as_ref().unwrap().child);
        rustix::process::kill_process(id, rustix::process::Signal::HUP).unwrap();
    }

    /// The file system as the running healer sees it.
    pub fn root(&self) -> PathBuf {
        format!("/proc/{}/root", self.running.as_ref().unwrap().child.id()).into()
    }

    pub fn address(&self) -> SocketAddr {
        self.running.as_ref().unwrap().address
    }

    pub fn log(&self) -> String {
        self.running.as_ref().unwrap().log.lock().unwrap().clone()
    }

    /// Waits for words in its log: they come by a pipe, after what they are about can be seen already.
    pub async fn says(&self, words: &str) {
        eventually(words, async || self.log().contains(words).then_some(())).await;
    }

    /// Resident memory in KiB: (private, shared with files).
    pub fn resident(&self) -> (u64, u64) {
        let pid = self.running.as_ref().unwrap().child.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let kib = |name: &str| -> u64 {
            let line = status.lines().find(|line| line.starts_with(name)).unwrap();
            line.split_whitespace().nth(1).unwrap().parse().unwrap()
        };
        (kib("RssAnon"), kib("RssFile"))
    }

    /// From now on no file of it can grow beyond this many bytes. Lifting the limit needs the hard one to be left alone.
    pub fn limit_files(&self, bytes: Option<u64>) {
        use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
        let pid = Pid::from_child(&self.running.as_ref().unwrap().child);
        let maximum = getrlimit(Resource::Fsize).maximum;
        prlimit(Some(pid), Resource::Fsize, Rlimit { current: bytes, maximum }).unwrap();
    }

    /// Sends bytes as they are, gives the answer as text.
    pub async fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address()).await.unwrap();
        // The server may answer and close before it has read everything.
        _ = stream.write_all(request).await;
        let mut answer = Vec::new();
        _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub async fn request(&self, method: &str, path: &str, token: Option<&str>, body: &str) -> (u16, String) {
        let token = token.map(|token| format!("Authorization: Bearer {token}\r\n")).unwrap_or_default();
        let request = format!(
            "{method} {path} HTTP/1.1\r\nHost: x\r\n{token}Content-Type: application/json\r\nContent-Length: {}\r\n\
             Connection: close\r\n\r\n{body}",
            body.len()
        );
        let answer = self.raw(request.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").unwrap_or((&answer, ""));
        let status = head.split_whitespace().nth(1).and_then(|word| word.parse().ok());
        let status = status.unwrap_or_else(|| panic!("no answer: {answer:?}"));
        let kind = head.lines().find_map(|line| {
            let (name, value) = line.split_once(':')?;
            name.eq_ignore_ascii_case("content-type").then(|| value.trim())
        });
        contract::check_answer(method, path, status, kind.unwrap_or_default(), body);
        (status, body.to_owned())
    }

    pub async fn post(&self, body: &Value) -> (u16, String) {
        self.request("POST", "/webhook", Some(WEBHOOK_TOKEN), &body.to_string()).await
    }

    /// An alert for a service, as the rules make it.
    pub async fn alert(&self, project: &str, service: &str) {
        let (status, answer) = self.post(&payload(&[firing(project, service)])).await;
        assert_eq!(status, 200, "{answer}");
    }

    pub async fn api(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        self.request(method, path, Some(API_TOKEN), body).await
    }

    pub async fn incidents(&self) -> IncidentList {
        let (status, body) = self.api("GET", "/api/v1/incidents", "").await;
        assert_eq!(status, 200, "{body}");
        serde_json::from_str(&body).unwrap()
    }

    pub async fn services(&self) -> ServiceList {
        let (_, body) = self.api("GET", "/api/v1/services", "").await;
        serde_json::from_str(&body).unwrap_or(ServiceList { services: Vec::new() })
    }

    /// The newest incident of a service once it satisfies `wanted`.
    pub async fn incident(
        &self,
        service: &str,
        what: &str,
        wanted: impl Fn(&IncidentDetail) -> bool,
    ) -> IncidentDetail {
        let detail = eventually(what, async || {
            let list = self.incidents().await;
            let incident = list.incidents.into_iter().find(|incident| incident.service == service)?;
            let (_, body) = self.api("GET", &format!("/api/v1/incidents/{}", incident.id), "").await;
            let detail: IncidentDetail = serde_json::from_str(&body).unwrap();
            wanted(&detail).then_some(detail)
        });
        match tokio::time::timeout(2 * PATIENCE, detail).await {
            Ok(detail) => detail,
            Err(_) => panic!("never came: {what}\n{}", self.log()),
        }
    }

    /// Waits until Docker has shown a service to the healer.
    pub async fn sees(&self, service: &str, state: &str, health: &str) {
        self.sees_one(service, state, |it| it == health).await;
    }

    /// The same of one that has ended, whatever Docker has left of its health.
    pub async fn sees_ended(&self, service: &str) {
        self.sees_one(service, "exited", |_| true).await;
    }

    async fn sees_one(&self, service: &str, state: &str, health: impl Fn(&str) -> bool) {
        eventually(&format!("{service} {state} in the services"), async || {
            let list = self.services().await;
            let found = list.services.into_iter().find(|view| view.service == service)?;
            found.containers.iter().any(|it| it.state == state && health(&it.health)).then_some(())
        })
        .await;
    }

    /// The value of a metric, by the beginning of its line.
    pub async fn metric(&self, name: &str) -> Option<f64> {
        let (_, body) = self.request("GET", "/metrics", None, "").await;
        let line = body.lines().find(|line| line.starts_with(name))?;
        line.rsplit(' ').next()?.parse().ok()
    }

    /// Waits until an alert was looked into and refused for this reason.
    pub async fn refused(&self, reason: &str) {
        let name = format!("nexus_healer_refusals_total{{reason=\"{reason}\"}}");
        eventually(&format!("a refusal because of {reason}"), async || {
            self.metric(&name).await.filter(|count| *count >= 1.0)
        })
        .await;
    }
}

impl Drop for Healer {
    fn drop(&mut self) {
        if let Some(mut running) = self.running.take() {
            if std::thread::panicking() {
                eprintln!("log of the healer:\n{}", running.log.lock().unwrap());
            }
            _ = running.child.kill();
            _ = running.child.wait();
        }
    }
}

pub fn firing(project: &str, service: &str) -> Value {
    json!({
        "status": "firing",
        "labels": {
            "alertname": "ContainerUnhealthy", "heal": "restart", "severity": "none", "host": "pi",
            "project": project, "service": service, "name": format!("{project}-{service}-1"),
        },
        "annotations": {}, "startsAt": "2026-01-02T03:04:05Z", "endsAt": "0001-01-01T00:00:00Z",
        "generatorURL": "", "fingerprint": "9a3f1d2c4b5e6f70",
    })
}

pub fn payload(alerts: &[Value]) -> Value {
    json!({
        "version": "4", "groupKey": "{}:{}", "truncatedAlerts": 0, "status": "firing", "receiver": "healer",
        "groupLabels": {}, "commonLabels": {}, "commonAnnotations": {}, "externalURL": "", "alerts": alerts,
    })
}

/// Takes what the healer posts, and does with it what Alertmanager would.
pub struct Alertmanager {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    posts: Vec<Value>,
    silences: Vec<Value>,
    /// The webhook that prompts are passed on to.
    webhook: Option<SocketAddr>,
    /// Alerts that were passed on and are still firing.
    firing: Vec<Value>,
    away: bool,
}

impl Alertmanager {
    pub async fn start() -> Self {
        type Shared = State<Arc<Mutex<Inner>>>;
        async fn take(State(inner): Shared, Json(body): Json<Vec<Value>>) -> StatusCode {
            let (webhook, new) = {
                let mut inner = inner.lock().unwrap();
                if inner.away {
                    return StatusCode::SERVICE_UNAVAILABLE;
                }
                inner.posts.extend(body.iter().cloned());
                let is_over = |alert: &Value| {
                    let ends_at: jiff::Timestamp = alert["endsAt"].as_str().unwrap().parse().unwrap();
                    ends_at <= jiff::Timestamp::now()
                };
                let mut new = Vec::new();
                for alert in body.into_iter().filter(|alert| alert["labels"]["heal"] == "restart") {
                    inner.firing.retain(|labels| !is_over(&alert) || *labels != alert["labels"]);
                    if !is_over(&alert) && !inner.firing.contains(&alert["labels"]) {
                        inner.firing.push(alert["labels"].clone());
                        new.push(json!({ "status": "firing", "labels": alert["labels"] }));
                    }
                }
                (inner.webhook, new)
            };
            if let Some(address) = webhook {
                for alert in new {
                    tokio::spawn(async move {
                        let body = payload(&[alert]).to_string();
                        let request = format!(
                            "POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WEBHOOK_TOKEN}\r\n\
                             Content-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                            body.len()
                        );
                        let mut stream = TcpStream::connect(address).await.unwrap();
                        stream.write_all(request.as_bytes()).await.unwrap();
                        _ = stream.read_to_end(&mut Vec::new()).await;
                    });
                }
            }
            StatusCode::OK
        }
        async fn show(State(inner): Shared) -> Result<Json<Value>, StatusCode> {
            let inner = inner.lock().unwrap();
            if inner.away { Err(StatusCode::SERVICE_UNAVAILABLE) } else { Ok(Json(json!(inner.silences))) }
        }
        let inner = Arc::default();
        let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let app = Router::new()
            .route("/api/v2/alerts", post(take))
            .route("/api/v2/silences", get(show))
            .with_state(Arc::clone(&inner));
        tokio::spawn(nexus_web::serve(listener, app, nexus_web::Limits::default(), std::future::pending()));
        Self { url, inner }
    }

    /// From now on it passes on to this healer what it is to be prompted for.
    pub fn prompts(&self, healer: &Healer) {
        self.inner.lock().unwrap().webhook = Some(healer.address());
    }

    /// Answers nothing but 503, as a proxy in front of one that is away.
    pub fn leave(&self) {
        self.inner.lock().unwrap().away = true;
    }

    /// Silences a project, or lifts it.
    pub fn silence(&self, project: Option<&str>) {
        self.silence_by(project.map(|project| ("project", project)));
    }

    /// Silences all alerts with a label, or lifts it.
    pub fn silence_by(&self, label: Option<(&str, &str)>) {
        let silence = |(name, value)| {
            let matcher = json!({ "name": name, "value": value, "isRegex": false, "isEqual": true });
            json!({ "id": "1", "status": { "state": "active" }, "matchers": [matcher] })
        };
        self.inner.lock().unwrap().silences = label.map(silence).into_iter().collect();
    }

    /// The alerts of one name in the order in which they were posted.
    pub fn told(&self, name: &str) -> Vec<Value> {
        let inner = self.inner.lock().unwrap();
        inner.posts.iter().filter(|alert| alert["labels"]["alertname"] == name).cloned().collect()
    }
}
