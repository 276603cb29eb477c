//! Compose projects that the cases break.

use std::path::PathBuf;
use std::sync::atomic::Ordering;

use anyhow::{Context, Result};
use serde_json::{Map, Value, json};

use crate::command::docker;
use crate::docker::{Container, of_service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

/// Does nothing until told to: `/tmp/exit` holds the exit code to end with. Stops at once on SIGTERM.
const OBEDIENT: &str = "trap 'echo stopping; exit 0' TERM; echo started; \
     while :; do if [ -e /tmp/exit ]; then code=$(cat /tmp/exit); echo exiting with $code; exit $code; fi; sleep 0.5; done";
/// The same, but deaf for SIGTERM: Docker has to wait for the whole grace period.
const STUBBORN: &str = "trap '' TERM; echo started; while :; do sleep 0.5; done";
/// Ill as long as `/tmp/ill` exists, which a restart removes, since /tmp is a tmpfs.
const ILL_WHEN_TOLD: &str = "test ! -e /tmp/ill || { echo it was told to be ill; exit 1; }";
const ALWAYS_ILL: &str = "echo never well; exit 1";

/// One service of a test project.
#[derive(Clone, Debug)]
pub struct Service {
    name: &'static str,
    fields: Map<String, Value>,
    labels: Map<String, Value>,
}

impl Service {
    /// Runs, is healthy until told otherwise, and says nothing about healing.
    pub fn new(name: &'static str) -> Service {
        let service = Service { name, fields: Map::new(), labels: Map::new() };
        service
            .field("entrypoint", json!(["sh", "-c", OBEDIENT.replace('$', "$$")]))
            .field("network_mode", json!("none"))
            .field("tmpfs", json!(["/tmp:size=64k"]))
            .field("restart", json!("unless-stopped"))
            .field("stop_grace_period", json!("2s"))
            .health(ILL_WHEN_TOLD)
    }

    pub fn field(mut self, name: &str, value: Value) -> Service {
        self.fields.insert(name.to_owned(), value);
        self
    }

    pub fn label(mut self, name: &str, value: &str) -> Service {
        self.labels.insert(name.to_owned(), json!(value));
        self
    }

    /// The owner's word: `true`, `false` or `shadow`.
    pub fn heal(self, word: &str) -> Service {
        self.label(nexus_model::labels::HEAL, word)
    }

    pub fn always_ill(self) -> Service {
        self.health(ALWAYS_ILL)
    }

    pub fn without_health(mut self) -> Service {
        self.fields.remove("healthcheck");
        self
    }

    pub fn stubborn(self, grace_seconds: u32) -> Service {
        self.field("entrypoint", json!(["sh", "-c", STUBBORN]))
            .field("stop_grace_period", json!(format!("{grace_seconds}s")))
    }

    fn health(self, test: &str) -> Service {
        let test = json!(["CMD", "sh", "-c", test.replace('$', "$$")]);
        self.field("healthcheck", json!({"test": test, "interval": "1s", "timeout": "5s", "retries": 2}))
    }

    fn compose(&self, stack: &Stack) -> Value {
        let mut fields = self.fields.clone();
        let mut labels = self.labels.clone();
        labels.insert(nexus_model::labels::STACK.into(), json!(stack.name));
        fields.insert("image".into(), json!(crate::stack::TEST_IMAGE));
        fields.insert("labels".into(), Value::Object(labels));
        Value::Object(fields)
    }
}

/// A running test project. The stack's teardown removes what is left of it.
pub struct Project<'a> {
    pub name: String,
    stack: &'a Stack,
    file: PathBuf,
}

impl<'a> Project<'a> {
    /// Starts the services and waits until each is running and, if it will ever be, healthy.
    pub async fn up(stack: &'a Stack, case: &str, services: &[Service]) -> Result<Project<'a>> {
        let name = match stack.round.load(Ordering::Relaxed) {
            0 => format!("{}-{case}", stack.name),
            round => format!("{}-{case}-{round}", stack.name),
        };
        let file = stack.folder().join(format!("{name}.json"));
        let described: Map<String, Value> =
            services.iter().map(|service| (service.name.to_owned(), service.compose(stack))).collect();
        std::fs::write(&file, json!({"name": name, "services": described}).to_string())
            .with_context(|| format!("cannot write {}", file.display()))?;
        let project = Project { name, stack, file };
        project.compose(&["up", "--detach"]).await?;
        for service in services {
            let ever_well =
                service.fields.get("healthcheck").is_some_and(|check| !check.to_string().contains(ALWAYS_ILL));
            eventually(format!("{}/{} runs", project.name, service.name), seconds(60), async || {
                let container = project.container(service.name).await?;
                Ok((container.status == "running" && (!ever_well || container.health == "healthy")).then_some(()))
            })
            .await?;
        }
        Ok(project)
    }

    pub async fn compose(&self, arguments: &[&str]) -> Result<String> {
        let file = self.file.to_string_lossy();
        let mut all = vec!["compose", "--progress", "quiet", "--project-name", &self.name, "--file", &file];
        all.extend(arguments);
        docker(all).await
    }

    pub async fn container(&self, service: &str) -> Result<Container> {
        of_service(&self.stack.docker, &self.name, service).await
    }

    pub async fn exec(&self, service: &str, script: &str) -> Result<String> {
        let container = self.container(service).await?;
        docker(["exec", &container.id, "sh", "-c", script]).await
    }

    /// Makes the service's health check fail until the container is started anew.
    pub async fn make_ill(&self, service: &str) -> Result<()> {
        self.exec(service, "touch /tmp/ill").await.map(drop)
    }

    /// Waits until the container has been started anew, and returns it.
    pub async fn restarted(&self, service: &str, before: &Container) -> Result<Container> {
        eventually(format!("{}/{service} is restarted", self.name), seconds(90), async || {
            let now = self.container(service).await?;
            Ok((now.started_at != before.started_at && now.status == "running").then_some(now))
        })
        .await
    }

    pub async fn down(self) -> Result<()> {
        self.compose(&["down", "--timeout", "1"]).await.map(drop)
    }
}
