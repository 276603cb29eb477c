//! What Docker tells of one container, taken down while it happens. Asking afterwards is no use: an engine keeps the last 256 events
//! of everything, and the probes of a few containers fill that within seconds.

use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout};

use crate::command::clean;
use crate::wait::seconds;

/// How long after the present an event may still be on its way.
const STRAGGLERS: Duration = seconds(5);

#[derive(Debug)]
pub struct Events {
    lines: Lines<BufReader<ChildStdout>>,
    told: Vec<(Timestamp, String)>,
    _docker: Child,
}

impl Events {
    /// From now on.
    pub fn of(container: &str) -> Result<Events> {
        let mut docker = clean("docker");
        let (since, filter) = (Timestamp::now().to_string(), format!("container={container}"));
        docker.args(["events", "--since", &since, "--filter", &filter, "--format", "{{.TimeNano}} {{.Action}}"]);
        let mut docker = docker.stdout(Stdio::piped()).spawn().context("cannot follow Docker's events")?;
        let stdout = docker.stdout.take().context("docker events has no output")?;
        Ok(Events { lines: BufReader::new(stdout).lines(), told: Vec::new(), _docker: docker })
    }

    /// When it was told of `action` for the first time, waiting for it for a moment.
    pub async fn first(&mut self, action: &str) -> Result<Timestamp> {
        loop {
            if let Some((at, _)) = self.told.iter().find(|(_, told)| told == action) {
                return Ok(*at);
            }
            if !self.read().await? {
                bail!("Docker told of no {action}: {:?}", self.told);
            }
        }
    }

    /// How often it was told of `action`.
    pub async fn count(&mut self, action: &str) -> Result<usize> {
        while self.read().await? {}
        Ok(self.told.iter().filter(|(_, told)| told == action).count())
    }

    /// One more event, of those until now and a moment longer. What runs in the container says too much, and is left out.
    async fn read(&mut self) -> Result<bool> {
        let until = Timestamp::now();
        loop {
            let Ok(line) = tokio::time::timeout(STRAGGLERS, self.lines.next_line()).await else { return Ok(false) };
            let line = line.context("cannot read Docker's events")?.context("Docker's events ended")?;
            let (nanoseconds, action) = line.split_once(' ').context("an event without an action")?;
            let at = Timestamp::from_nanosecond(nanoseconds.parse()?)?;
            if !action.starts_with("exec_") {
                self.told.push((at, action.to_owned()));
                return Ok(true);
            }
            if at > until {
                return Ok(false);
            }
        }
    }
}
