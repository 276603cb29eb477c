//! What a person is told, tried without the rest of the stack: the shipped rules and routes in a Prometheus and an Alertmanager
//! of the test's own, which send to the strict Telegram of [`crate::telegram`].
//!
//! Both run in the stack's images on the host's network, with configurations that the command line renders; only durations are
//! changed ([`scale`]), so that hours fit into a test.

pub mod cost;
pub mod incidents;
pub mod messages;
pub mod played;
pub mod quiet;
pub mod random;
pub mod scale;
pub mod script;

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde_json::Value;

use crate::command::{clean, docker, run};
use crate::stack::image;
use crate::telegram::Telegram;
use crate::wait::{eventually, seconds};

pub const CHAT_ID: i64 = -1_001_234_567_890;
const TOKEN: &str = "7000000001:AAbbCCddEEffGGhhIIjjKKllMMnnOOppQQ";
/// What a Pi's Docker under load needs until a container answers.
const START_LIMIT: u64 = 60;

/// A folder with rendered configurations, and where their messages go.
pub struct Telling {
    pub telegram: Telegram,
    pub root: PathBuf,
    pub http: reqwest::Client,
    folder: tempfile::TempDir,
}

impl Telling {
    /// Renders what `./nexus up` would with these settings of `.env`.
    pub async fn prepare(settings: &[(&str, &str)]) -> Result<Telling> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = std::env::var_os("NEXUS_E2E_ROOT")
            .map_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join(".."), PathBuf::from)
            .canonicalize()
            .context("cannot find the checkout: NEXUS_E2E_ROOT must name it")?;
        let program = std::env::var_os("NEXUS_E2E_PROGRAM").map_or_else(|| root.join("bin/nexus"), PathBuf::from);
        if !program.is_file() {
            bail!("{} is missing: run ./nexus up, or ./nexus test e2e", program.display());
        }
        let telegram = Telegram::start(TOKEN, CHAT_ID).await?;
        let folder =
            tempfile::Builder::new().prefix("nexus-telling.").tempdir().context("cannot make a temporary folder")?;
        let http = reqwest::Client::builder()
            .no_proxy()
            .timeout(seconds(30))
            .build()
            .context("cannot set up the HTTP client")?;
        let path = |name: &str| folder.path().join(name).display().to_string();
        for name in ["secrets", "policy"] {
            std::fs::create_dir(folder.path().join(name)).with_context(|| format!("cannot make the folder {name}"))?;
        }
        std::fs::write(folder.path().join("secrets/telegram_bot_token"), TOKEN).context("cannot write the token")?;
        std::fs::write(folder.path().join("policy/healer.yml"), "default: shadow\n")
            .context("cannot write a policy")?;
        let own = [
            ("NEXUS_SECRETS_DIR", path("secrets")),
            ("NEXUS_RENDERED_DIR", path("rendered")),
            ("NEXUS_POLICY_DIR", path("policy")),
            ("NEXUS_TELEGRAM_CHAT_ID", CHAT_ID.to_string()),
            ("NEXUS_TELEGRAM_API_URL", format!("http://127.0.0.1:{}", telegram.address.port())),
        ];
        let mut init = vec!["init".to_owned()];
        for (key, value) in own.iter().map(|(key, value)| (*key, value.as_str())).chain(settings.iter().copied()) {
            init.extend(["--set".to_owned(), format!("{key}={value}")]);
        }
        for arguments in [init, vec!["config".to_owned(), "render".to_owned()]] {
            let mut command = clean(&program);
            command.arg("--directory").arg(&root).arg("--env-file").arg(folder.path().join(".env")).args(arguments);
            run(command).await?;
        }
        Ok(Telling { telegram, root, http, folder })
    }

    /// The rendered configuration of Alertmanager.
    pub fn alertmanager_yml(&self) -> Result<String> {
        let path = self.folder.path().join("rendered/alertmanager/alertmanager.yml");
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }

    /// An Alertmanager with this configuration, and the shipped templates. It ends with what is returned.
    pub async fn alertmanager(&self, configuration: &str) -> Result<Server> {
        let folder = self.readable("alertmanager")?;
        let templates = self.readable("alertmanager/templates")?;
        let shipped = self.root.join("alertmanager/templates/telegram.tmpl");
        std::fs::copy(&shipped, templates.join("telegram.tmpl")).context("cannot copy the template")?;
        std::fs::write(folder.join("alertmanager.yml"), configuration).context("cannot write alertmanager.yml")?;
        let secrets = self.readable("alertmanager-secrets")?;
        for file in ["telegram_bot_token", "healer_webhook_token"] {
            std::fs::write(secrets.join(file), TOKEN).with_context(|| format!("cannot write {file}"))?;
        }
        let port = free_port()?;
        let mounts =
            [format!("{}:/etc/alertmanager:ro", folder.display()), format!("{}:/run/secrets:ro", secrets.display())];
        let arguments = [
            "--config.file=/etc/alertmanager/alertmanager.yml".to_owned(),
            "--storage.path=/tmp/alertmanager".to_owned(),
            "--cluster.listen-address=".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        self.start("alertmanager", &image("NEXUS_IMAGE_ALERTMANAGER")?, port, &mounts, &arguments).await
    }

    /// Gives one that runs another configuration.
    pub async fn reconfigure(&self, alertmanager: &Server, configuration: &str) -> Result<()> {
        let path = self.folder.path().join("alertmanager/alertmanager.yml");
        std::fs::write(&path, configuration).with_context(|| format!("cannot write {}", path.display()))?;
        let answer = self.http.post(format!("{}/-/reload", alertmanager.url)).send().await?;
        if !answer.status().is_success() {
            bail!("Alertmanager does not take it: {}", answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    /// A Prometheus with what lies in a folder of [`Telling::readable`].
    pub async fn prometheus(&self, folder: &Path, more: &[String]) -> Result<Server> {
        let port = free_port()?;
        let mounts = [format!("{}:/etc/prometheus:ro", folder.display())];
        let mut arguments = vec![
            "--config.file=/etc/prometheus/prometheus.yml".to_owned(),
            // A volume: what is in memory does not outlast a restart.
            "--storage.tsdb.path=/prometheus".to_owned(),
            format!("--web.listen-address=127.0.0.1:{port}"),
        ];
        arguments.extend(more.iter().cloned());
        self.start("prometheus", &image("NEXUS_IMAGE_PROMETHEUS")?, port, &mounts, &arguments).await
    }

    /// A folder below this one's that the user of a container can read.
    pub fn readable(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(&path)
            .and_then(|()| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("cannot make {}", path.display()))?;
        Ok(path)
    }

    async fn start(
        &self,
        what: &str,
        image: &str,
        port: u16,
        mounts: &[String],
        arguments: &[String],
    ) -> Result<Server> {
        let name = format!("nexus-telling-{what}-{}", uuid::Uuid::now_v7().simple());
        let mut command = vec![
            "run",
            "--detach",
            "--name",
            &name,
            "--network",
            "host",
            "--user",
            "65534:65534",
            "--read-only",
            "--tmpfs",
            "/tmp:mode=1777",
            "--env",
            "TZ=UTC",
            "--cap-drop",
            "ALL",
        ];
        for mount in mounts {
            command.extend(["--volume", mount]);
        }
        command.push(image);
        command.extend(arguments.iter().map(String::as_str));
        let server = Server { name: name.clone(), url: format!("http://127.0.0.1:{port}") };
        docker(command).await?;
        let ready = format!("{}/-/ready", server.url);
        let answers = eventually(format!("{what} answers"), seconds(START_LIMIT), async || {
            Ok(self.http.get(&ready).send().await?.status().is_success().then_some(()))
        });
        match answers.await {
            Ok(()) => Ok(server),
            Err(error) => Err(error.context(server.said().await)),
        }
    }

    /// `POST /api/v2/alerts`.
    pub async fn post(&self, alertmanager: &Server, alerts: &[Value]) -> Result<()> {
        let answer = self.http.post(format!("{}/api/v2/alerts", alertmanager.url)).json(&alerts).send().await;
        let answer = answer.context("Alertmanager does not answer")?;
        if !answer.status().is_success() {
            bail!("Alertmanager refuses alerts: {}", answer.text().await.unwrap_or_default());
        }
        Ok(())
    }

    /// Nothing that was sent may be refused: a refused message is a lost alert.
    pub fn nothing_refused(&self) -> Result<()> {
        let refused = self.telegram.refused();
        if let Some(first) = refused.first() {
            bail!("Telegram refused {} messages, the first: {first}", refused.len());
        }
        Ok(())
    }
}

/// A program in a container that ends with this value.
pub struct Server {
    name: String,
    pub url: String,
}

impl Server {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The end of its log, for a look at a failure.
    pub async fn said(&self) -> String {
        let mut command = clean("docker");
        command.args(["logs", "--tail", "30", &self.name]);
        match crate::command::finish(command).await {
            Ok(finished) => format!("{}{}", finished.stdout, finished.stderr),
            Err(error) => format!("{error:#}"),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // There is nobody to tell; the name says whose it was.
        let _ = std::process::Command::new("docker")
            .args(["rm", "--force", "--volumes", &self.name])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status();
    }
}

pub fn free_port() -> Result<u16> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port")?;
    Ok(listener.local_addr().context("a port without a number")?.port())
}
