//! The `docker` program, for the demo and the benchmarks. What `nexus tune` asks of Docker is in `tune/engine.rs`. How the owner
//! calls it is in `docker/owner.rs`.

mod owner;

use std::collections::HashMap;
use std::process::{Output, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nexus_model::labels;
use serde::Deserialize;
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, Command};

pub use owner::{socket_here, wants_sudo, word};

/// A Compose project whose file comes from this program.
pub struct Project {
    pub name: String,
    pub file: &'static str,
    pub variables: Vec<(&'static str, String)>,
}

impl Project {
    pub async fn compose(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("docker");
        command.args(["compose", "--project-name", &self.name, "--file", "-", "--progress", "quiet"]);
        command.args(arguments).envs(self.variables.iter().map(|(key, value)| (*key, value.as_str())));
        run(command, Some(self.file), &format!("docker compose {}", arguments.join(" "))).await
    }
}

/// Runs `docker` and returns its output.
pub async fn docker(arguments: &[&str]) -> Result<String> {
    let mut command = Command::new("docker");
    command.args(arguments);
    run(command, None, &format!("docker {}", arguments.join(" "))).await
}

async fn run(mut command: Command, input: Option<&str>, what: &str) -> Result<String> {
    // A group of its own: Ctrl-C shall end this program, which then cleans up with further calls.
    command.process_group(0).kill_on_drop(true);
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().context("cannot run docker: is it installed? run ./nexus up")?;
    if let Some(mut stdin) = child.stdin.take() {
        // A program that ends before it has read everything says why on stderr.
        let _ = stdin.write_all(input.unwrap_or_default().as_bytes()).await;
    }
    let Output { status, stdout, stderr } =
        child.wait_with_output().await.with_context(|| format!("cannot run {what}"))?;
    if !status.success() {
        let said = String::from_utf8_lossy(&stderr);
        let last = said.trim().lines().last().unwrap_or("without a word");
        let mend = if said.contains("permission denied") { ": use sudo, or join the group docker" } else { "" };
        bail!("{what} failed: {last}{mend}");
    }
    Ok(String::from_utf8_lossy(&stdout).into_owned())
}

/// One event of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Event {
    pub at: Timestamp,
    /// `health_status: unhealthy`, `restart`, `die`, …
    pub action: String,
    /// Compose's name of what it happened to.
    pub service: String,
}

/// Collects the events of containers from now on, until dropped.
pub struct Events {
    seen: Arc<Mutex<Vec<Event>>>,
    _child: Child,
}

impl Events {
    /// Of one container.
    pub fn follow(container: &str) -> Result<Events> {
        Events::matching(&format!("container={container}"))
    }

    /// Of all containers of a Compose project.
    pub fn of_project(project: &str) -> Result<Events> {
        Events::matching(&format!("label={}={project}", labels::COMPOSE_PROJECT))
    }

    fn matching(filter: &str) -> Result<Events> {
        let mut command = Command::new("docker");
        command.args(["events", "--format", "{{json .}}", "--filter", "type=container", "--filter", filter]);
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut child = command.spawn().context("cannot run docker events")?;
        let seen = Arc::new(Mutex::new(Vec::new()));
        if let Some(stdout) = child.stdout.take() {
            let seen = Arc::clone(&seen);
            tokio::spawn(async move {
                let mut lines = BufReader::new(stdout).lines();
                while let Ok(Some(line)) = lines.next_line().await {
                    if let (Some(event), Ok(mut seen)) = (parse(&line), seen.lock()) {
                        seen.push(event);
                    }
                }
            });
        }
        Ok(Events { seen, _child: child })
    }

    pub fn so_far(&self) -> Vec<Event> {
        self.seen.lock().map(|seen| seen.clone()).unwrap_or_default()
    }
}

fn parse(line: &str) -> Option<Event> {
    #[derive(Deserialize)]
    struct Wire {
        #[serde(rename = "Action")]
        action: String,
        #[serde(rename = "timeNano")]
        time_nano: i64,
        #[serde(rename = "Actor")]
        actor: Actor,
    }
    #[derive(Deserialize)]
    struct Actor {
        #[serde(rename = "Attributes", default)]
        attributes: HashMap<String, String>,
    }
    let mut wire: Wire = serde_json::from_str(line).ok()?;
    let service = wire.actor.attributes.remove(labels::COMPOSE_SERVICE).unwrap_or_default();
    Some(Event { at: Timestamp::from_nanosecond(wire.time_nano.into()).ok()?, action: wire.action, service })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read() {
        let line = r#"{"status":"health_status: unhealthy","id":"ab","Type":"container","Action":"health_status: unhealthy",
            "Actor":{"ID":"ab","Attributes":{"com.docker.compose.service":"web","image":"x"}},"scope":"local","time":1700000000,"timeNano":1700000000250000000}"#;
        let event = parse(line).unwrap();
        assert_eq!((event.action.as_str(), event.service.as_str()), ("health_status: unhealthy", "web"));
        assert_eq!(event.at.as_millisecond(), 1_700_000_000_250);
        assert_eq!(parse("nonsense"), None);
    }
}
