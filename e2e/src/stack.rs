//! One stack for all cases: compose.yml as it is, under another name, on free ports, with folders and secrets of its own.

use std::collections::BTreeMap;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::AtomicU32;

use anyhow::{Context, Result, bail};
use bollard::Docker;
use nexus_model::api::{IncidentDetail, IncidentList, ServiceList};
use nexus_model::{Incident, labels};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::process::Command;
use tokio::sync::RwLock;

use crate::command::{Finished, clean, docker, finish, run};
use crate::docker::{Container, of_service, with_labels};
use crate::telegram::Telegram;
use crate::wait::{eventually, seconds};

pub const NAME: &str = "nexus-e2e";
pub const HOST: &str = "e2e-host";
/// A static busybox and nothing else, for the containers that are broken.
pub const TEST_IMAGE: &str = "nexus-test/busybox:1";
const CHAT_ID: i64 = -1_001_234_567_890;
/// All but the one-shot.
const LASTING: [&str; 7] = ["docker-proxy", "exporter", "healer", "reporter", "prometheus", "alertmanager", "postgres"];

/// The shipped policy with small numbers, so that a whole incident fits into seconds. Between the third failure and giving up
/// lies more than Alertmanager's group_wait, so that the two are two messages, as with the shipped numbers.
pub const POLICY: &str = "\
default: shadow
healing:
  attempts: 5
  told_after: 3
  base_delay: 2s
  max_delay: 1m
  stable_for: 4s
  well_after_giving_up: 1h
  verify_margin: 5s
  start_patience: 2s
  stop_timeout: 2s
  hold_when_ill: 1000
  restarts_per_10_minutes: 1000
";

/// The running stack.
pub struct Stack {
    pub name: &'static str,
    pub docker: Docker,
    pub telegram: Telegram,
    /// Held for reading by cases that need the healer without a break, for writing by the one that kills it.
    pub healer_stays: RwLock<()>,
    /// The same of Postgres.
    pub postgres_stays: RwLock<()>,
    /// Which time the cases run; 0 but in a soak test. Part of the names of projects, so that no round sees the one before.
    pub round: AtomicU32,
    root: PathBuf,
    folder: tempfile::TempDir,
    program: PathBuf,
    http: reqwest::Client,
    ports: BTreeMap<&'static str, u16>,
    api_token: OnceLock<String>,
    /// Held as long as the stack may exist.
    _alone: std::fs::File,
}

impl Stack {
    /// Prepares everything without starting anything, so that [`Stack::teardown`] can always follow.
    pub async fn prepare() -> Result<Stack> {
        // Both are installed once a process; a second time is no error worth telling.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let alone = be_alone()?;
        let root = std::env::var_os("NEXUS_E2E_ROOT")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from)
            .canonicalize()
            .context("cannot find the checkout: NEXUS_E2E_ROOT must name it")?;
        let program = std::env::var_os("NEXUS_E2E_PROGRAM").map_or_else(|| root.join("bin/nexus"), PathBuf::from);
        if !program.is_file() {
            bail!("{} is missing: run ./nexus up, or ./nexus test e2e", program.display());
        }
        let docker = Docker::connect_with_unix_defaults().context("cannot talk to Docker")?;
        docker.ping().await.context("Docker does not answer")?;
        let random = uuid::Uuid::now_v7().simple().to_string();
        let token = format!("{}:{}", 7_000_000_001_u64, &random[12..]);
        let telegram = Telegram::start(&token, CHAT_ID).await?;
        let folder = tempfile::Builder::new()
            .prefix("nexus-e2e.")
            .disable_cleanup(keep())
            .tempdir()
            .context("cannot make a temporary folder")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            // A server may close after a refusal, and a healer may have died since: no connection is used twice.
            .pool_max_idle_per_host(0)
            .timeout(seconds(20))
            .build()
            .context("cannot set up the HTTP client")?;
        let stack = Stack {
            name: NAME,
            docker,
            telegram,
            healer_stays: RwLock::new(()),
            postgres_stays: RwLock::new(()),
            round: AtomicU32::new(0),
            root,
            folder,
            program,
            http,
            ports: free_ports()?,
            api_token: OnceLock::new(),
            _alone: alone,
        };
        stack.configure(&token).await?;
        Ok(stack)
    }

    /// What `./nexus up` does with `init`, `config check` and `config render`.
    async fn configure(&self, telegram_token: &str) -> Result<()> {
        let path = |name: &str| self.folder().join(name).display().to_string();
        std::fs::create_dir(self.folder().join("policy")).context("cannot make the folder of the policy")?;
        std::fs::write(self.folder().join("policy/healer.yml"), POLICY).context("cannot write the policy")?;
        std::fs::create_dir(self.folder().join("secrets")).context("cannot make the folder of the secrets")?;
        std::fs::write(self.folder().join("secrets/telegram_bot_token"), telegram_token)
            .context("cannot write the token")?;
        let mut settings = vec![
            ("NEXUS_STACK", NAME.to_owned()),
            ("NEXUS_HOST", HOST.to_owned()),
            ("NEXUS_SECRETS_DIR", path("secrets")),
            ("NEXUS_RENDERED_DIR", path("rendered")),
            ("NEXUS_POLICY_DIR", path("policy")),
            ("NEXUS_STATE_DIR", path("state")),
            ("NEXUS_TELEGRAM_CHAT_ID", CHAT_ID.to_string()),
            ("NEXUS_TELEGRAM_API_URL", format!("http://host.docker.internal:{}", self.telegram.address.port())),
            ("NEXUS_BASE_URL", "http://pi.example:3000".to_owned()),
            ("NEXUS_LOG", "debug".to_owned()),
        ];
        for (key, image) in images()? {
            settings.push((key, image));
        }
        settings.extend(self.ports.iter().map(|(key, port)| (*key, port.to_string())));
        let mut arguments = vec!["init".to_owned()];
        for (key, value) in settings {
            arguments.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        run(self.nexus_command(&arguments)).await?;
        run(self.nexus_command(&["config", "check"])).await?;
        run(self.nexus_command(&["config", "render"])).await.map(drop)
    }

    /// Starts everything and waits until it is healthy and the schema is in place.
    pub async fn start(&self) -> Result<()> {
        // What a run that was killed has left behind.
        self.remove_everything().await?;
        test_image().await?;
        self.compose(&["up", "--detach"]).await?;
        let mut wait = vec!["up", "--detach", "--no-recreate", "--wait", "--wait-timeout", "120"];
        wait.extend(LASTING);
        self.compose(&wait).await?;
        eventually("the schema is in place", seconds(60), async || {
            let migrate = self.container("migrate").await?;
            Ok((migrate.status == "exited" && migrate.exit_code == 0).then_some(()))
        })
        .await
    }

    /// Removes the stack with its volumes and every container of a case.
    pub async fn remove_everything(&self) -> Result<()> {
        let own = with_labels(&self.docker, vec![format!("{}={NAME}", labels::STACK)]).await?;
        if !own.is_empty() {
            let mut arguments = vec!["rm", "--force", "--volumes"];
            arguments.extend(own.iter().map(String::as_str));
            docker(arguments).await?;
        }
        self.compose(&["down", "--volumes", "--remove-orphans", "--timeout", "5"]).await.map(drop)
    }

    /// For an end without the usual clean-up: what a case may be starting at this moment goes as well.
    pub async fn abandon(&self) {
        for _ in 0..2 {
            if let Err(error) = self.remove_everything().await {
                eprintln!("{error:#}");
            }
        }
        let _ = std::fs::remove_dir_all(self.folder());
    }

    /// Saves what every service has said, for a look at a failure. Returns the folder.
    pub async fn save_logs(&self) -> Result<PathBuf> {
        let folder = std::env::temp_dir().join(format!("nexus-e2e-logs.{}", std::process::id()));
        std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        for service in LASTING.into_iter().chain(["migrate"]) {
            let said = self.compose(&["logs", "--no-color", "--no-log-prefix", service]).await;
            let said = said.unwrap_or_else(|error| format!("{error:#}"));
            std::fs::write(folder.join(format!("{service}.log")), said).context("cannot save the logs")?;
        }
        let messages: Vec<String> =
            self.telegram.messages("").into_iter().map(|m| format!("{} {}\n\n", m.at, m.html)).collect();
        std::fs::write(folder.join("telegram.txt"), messages.concat()).context("cannot save the messages")?;
        if let Ok(incidents) = self.api::<Value>("/api/v1/incidents?limit=1000").await {
            std::fs::write(folder.join("incidents.json"), format!("{incidents:#}"))
                .context("cannot save the incidents")?;
        }
        Ok(folder)
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    /// A folder for files that containers or Compose read.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub fn url(&self, port: &str) -> String {
        format!("http://127.0.0.1:{}", self.ports.get(port).copied().unwrap_or_default())
    }

    /// The image of a part, as the stack uses it.
    pub fn image(&self, key: &str) -> Result<String> {
        let all = images()?;
        let found = all.into_iter().find_map(|(name, image)| (name == key).then_some(image));
        found.with_context(|| format!("there is no image {key}"))
    }

    /// `docker compose` on the stack itself.
    pub async fn compose(&self, arguments: &[&str]) -> Result<String> {
        let mut command = clean("docker");
        command.args(["compose", "--progress", "quiet", "--project-directory"]).arg(&self.root);
        command.arg("--file").arg(self.root.join("compose.yml"));
        command.arg("--env-file").arg(self.folder().join(".env")).args(arguments);
        run(command).await
    }

    /// A container of the stack.
    pub async fn container(&self, service: &str) -> Result<Container> {
        of_service(&self.docker, NAME, service).await
    }

    pub fn nexus_command<S: AsRef<std::ffi::OsStr>>(&self, arguments: &[S]) -> Command {
        let mut command = clean(&self.program);
        command.arg("--directory").arg(&self.root).arg("--env-file").arg(self.folder().join(".env")).args(arguments);
        command
    }

    /// The command line, as the owner uses it on this stack.
    pub async fn nexus(&self, arguments: &[&str]) -> Result<Finished> {
        finish(self.nexus_command(arguments)).await
    }

    pub fn secret(&self, file: &str) -> Result<String> {
        let path = self.folder().join("secrets").join(file);
        Ok(std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?.trim().to_owned())
    }

    fn api_token(&self) -> Result<&str> {
        if self.api_token.get().is_none() {
            let _ = self.api_token.set(self.secret("cli/healer_api_token")?);
        }
        self.api_token.get().map(String::as_str).context("there is no API token")
    }

    /// GET of the healer's API.
    pub async fn api<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        let url = format!("{}{path}", self.url("NEXUS_HEALER_PORT"));
        let answer =
            self.http.get(&url).bearer_auth(self.api_token()?).send().await.context("the healer does not answer")?;
        let status = answer.status();
        let body = answer.text().await.context("the healer's answer breaks off")?;
        if !status.is_success() {
            bail!("{path} answers {status}: {body}");
        }
        serde_json::from_str(&body).with_context(|| format!("cannot understand {path}: {body}"))
    }

    /// Newest first.
    pub async fn incidents(&self, project: &str) -> Result<Vec<Incident>> {
        let found: IncidentList = self.api(&format!("/api/v1/incidents?project={project}&limit=100")).await?;
        Ok(found.incidents)
    }

    pub async fn incident(&self, id: uuid::Uuid) -> Result<IncidentDetail> {
        self.api(&format!("/api/v1/incidents/{id}")).await
    }

    pub async fn services(&self) -> Result<ServiceList> {
        self.api("/api/v1/services").await
    }

    /// POST to the healer's webhook; the status code.
    pub async fn webhook(&self, token: Option<&str>, body: impl Into<reqwest::Body>) -> Result<u16> {
        let mut request = self.http.post(format!("{}/webhook", self.url("NEXUS_HEALER_PORT"))).body(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        request = request.header("content-type", "application/json");
        Ok(request.send().await.context("the healer does not answer")?.status().as_u16())
    }

    pub async fn text(&self, port: &str, path: &str, accept: &str) -> Result<String> {
        let request = self.http.get(format!("{}{path}", self.url(port))).header("accept", accept);
        let answer = request.send().await.with_context(|| format!("{port} does not answer"))?;
        answer.error_for_status().context("not a success")?.text().await.context("the answer breaks off")
    }

    /// Sum of the healer's samples whose name and labels begin so.
    pub async fn healer_metric(&self, beginning: &str) -> Result<f64> {
        let text = self.text("NEXUS_HEALER_PORT", "/metrics", "text/plain").await?;
        let values = text.lines().filter(|line| line.starts_with(beginning));
        Ok(values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum())
    }

    /// Tells Alertmanager that a rule fires for a container: the healer looks at it within moments.
    pub async fn prompt(&self, alert: &str, container: &Container, service: Option<(&str, &str)>) -> Result<()> {
        let mut labels = json!({"alertname": alert, "heal": "restart", "severity": "none", "host": HOST, "name": container.name,
            // Alertmanager passes an alert that it knows on only once a minute.
            "prompt": uuid::Uuid::now_v7().to_string()});
        if let Some((project, service)) = service {
            labels["project"] = json!(project);
            labels["service"] = json!(service);
        }
        let url = format!("{}/api/v2/alerts", self.url("NEXUS_ALERTMANAGER_PORT"));
        let alerts = json!([{"labels": labels, "annotations": {"summary": "a test says so"}}]);
        let answer = self.http.post(url).json(&alerts).send().await.context("Alertmanager does not answer")?;
        answer.error_for_status().context("Alertmanager refuses the alert").map(drop)
    }

    /// An instant query; each sample's labels and value.
    pub async fn query(&self, expression: &str) -> Result<Vec<Sample>> {
        self.query_of(&self.url("NEXUS_PROMETHEUS_PORT"), expression).await
    }

    /// The same of another Prometheus, by its address.
    pub async fn query_of(&self, prometheus: &str, expression: &str) -> Result<Vec<Sample>> {
        #[derive(Deserialize)]
        struct Answer {
            status: String,
            #[serde(default)]
            error: String,
            data: Option<Data>,
        }
        #[derive(Deserialize)]
        struct Data {
            result: Value,
        }
        let mut url = url::Url::parse(&format!("{prometheus}/api/v1/query"))?;
        url.query_pairs_mut().append_pair("query", expression);
        let answer: Answer = self
            .http
            .get(url.as_str())
            .send()
            .await
            .context("Prometheus does not answer")?
            .json()
            .await
            .context("not JSON")?;
        match answer.data {
            Some(data) if answer.status == "success" => {
                // A scalar or string result holds no series; it counts as none.
                Ok(serde_json::from_value(data.result).unwrap_or_default())
            }
            _ => bail!("Prometheus refuses {expression}: {}", answer.error),
        }
    }

    /// `/api/v1/…` of Prometheus.
    pub async fn prometheus<T: DeserializeOwned>(&self, path: &str) -> Result<T> {
        #[derive(Deserialize)]
        struct Answer<T> {
            data: T,
        }
        let text = self.text("NEXUS_PROMETHEUS_PORT", path, "application/json").await?;
        let answer: Answer<T> = serde_json::from_str(&text).with_context(|| format!("cannot understand {path}"))?;
        Ok(answer.data)
    }

    /// Runs SQL in the stack's Postgres; one line a row, columns separated by `|`.
    pub async fn sql(&self, user: &str, statement: &str) -> Result<Vec<String>> {
        let container = self.container("postgres").await?;
        let out = docker([
            "exec",
            &container.id,
            "psql",
            "--no-psqlrc",
            "--tuples-only",
            "--no-align",
            "--quiet",
            "--set=ON_ERROR_STOP=1",
            "--username",
            user,
            "--dbname=nexus",
            "--command",
            statement,
        ])
        .await?;
        Ok(out.lines().map(str::to_owned).collect())
    }

    /// The only row of the only column of a query.
    pub async fn sql_value(&self, statement: &str) -> Result<String> {
        let rows = self.sql("postgres", statement).await?;
        match rows.as_slice() {
            [row] => Ok(row.clone()),
            rows => bail!("{statement} gives {} rows", rows.len()),
        }
    }
}

/// One sample of an instant vector.
#[derive(Clone, Debug, Deserialize)]
pub struct Sample {
    pub metric: BTreeMap<String, String>,
    value: (f64, String),
}

impl Sample {
    pub fn value(&self) -> f64 {
        self.value.1.parse().unwrap_or(f64::NAN)
    }
}

/// There can be only one stack of this name: a second test waits for the first.
fn be_alone() -> Result<std::fs::File> {
    let path = std::env::temp_dir().join("nexus-e2e.lock");
    let file = std::fs::File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
    if file.try_lock().is_err() {
        eprintln!("waiting for another end-to-end test to end");
        file.lock().with_context(|| format!("cannot lock {}", path.display()))?;
    }
    Ok(file)
}

/// Whether the stack stays when the test is over, for a look.
pub fn keep() -> bool {
    std::env::var_os("NEXUS_E2E_KEEP").is_some()
}

fn free_ports() -> Result<BTreeMap<&'static str, u16>> {
    let keys = [
        "NEXUS_EXPORTER_PORT",
        "NEXUS_HEALER_PORT",
        "NEXUS_REPORTER_PORT",
        "NEXUS_PROMETHEUS_PORT",
        "NEXUS_ALERTMANAGER_PORT",
        "NEXUS_GRAFANA_PORT",
    ];
    // All held at once, so that no two are the same.
    let listeners: Vec<TcpListener> =
        keys.iter().map(|_| TcpListener::bind("127.0.0.1:0")).collect::<Result<_, _>>().context("no free port")?;
    keys.iter()
        .zip(&listeners)
        .map(|(key, listener)| Ok((*key, listener.local_addr().context("a port without a number")?.port())))
        .collect()
}

/// The images to test.
fn images() -> Result<Vec<(&'static str, String)>> {
    let keys = [
        "NEXUS_IMAGE_NEXUS",
        "NEXUS_IMAGE_HAPROXY",
        "NEXUS_IMAGE_PROMETHEUS",
        "NEXUS_IMAGE_ALERTMANAGER",
        "NEXUS_IMAGE_POSTGRES",
    ];
    keys.into_iter().map(|key| Ok((key, image(key)?))).collect()
}

/// The image to test, as `./nexus test e2e` names it; by hand, the one that `./nexus up` has made on this machine.
pub fn image(key: &str) -> Result<String> {
    let env_of_owner =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../.env")).unwrap_or_default();
    let set = std::env::var(key).ok().filter(|image| !image.is_empty());
    let known = env_of_owner.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')).map(str::to_owned);
    let image = set.or(known).filter(|image| !image.is_empty());
    image.with_context(|| format!("{key} is not set: run ./nexus test e2e, which sets it"))
}

/// Builds the image of the test containers, unless it is there.
async fn test_image() -> Result<()> {
    let rest = "FROM scratch\nCOPY --from=packages /bin/busybox /bin/busybox\n\
        RUN [\"/bin/busybox\", \"--install\", \"-s\", \"/bin\"]\n";
    debian_image(TEST_IMAGE, "busybox-static", rest).await
}

/// Builds an image from a package of Debian, unless it is there. The base with the package is called `packages` in what follows.
pub async fn debian_image(tag: &str, package: &str, rest: &str) -> Result<()> {
    if docker(["image", "inspect", tag]).await.is_ok() {
        return Ok(());
    }
    let base = std::env::var("NEXUS_E2E_BASE_IMAGE").unwrap_or_else(|_| "nexus/debian:trixie".to_owned());
    let context = tempfile::tempdir().context("cannot make a temporary folder")?;
    let recipe = format!(
        "ARG BASE\nFROM ${{BASE}} AS packages\n\
         RUN apt-get update && apt-get install -y --no-install-recommends {package} && rm -rf /var/lib/apt/lists/*\n{rest}"
    );
    std::fs::write(context.path().join("Dockerfile"), recipe).context("cannot write the Dockerfile")?;
    let mut command = clean("docker");
    command.args(["build", "--quiet", "--tag", tag, "--build-arg", &format!("BASE={base}")]);
    for name in ["http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY"] {
        if let Ok(value) = std::env::var(name) {
            command.args(["--build-arg", &format!("{name}={value}")]);
        }
    }
    command.arg(context.path());
    run(command).await.map(drop).with_context(|| format!("cannot build the image {tag} for the tests"))
}
