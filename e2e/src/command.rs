//! Running programs.

use std::ffi::OsStr;
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use tokio::process::Command;

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Finished {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// A command without the settings of this process: a stray NEXUS_* or COMPOSE_* would win over the stack's own `.env`.
pub fn clean(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("NEXUS_") || text.starts_with("COMPOSE_") {
            command.env_remove(&name);
        }
    }
    // A group of its own: on Ctrl-C the teardown still needs its children.
    command.process_group(0).stdin(Stdio::null()).kill_on_drop(true);
    command
}

/// Runs to the end, however it ends.
pub async fn finish(mut command: Command) -> Result<Finished> {
    let shown = show(&command);
    let output = command.output().await.with_context(|| format!("cannot run {shown}"))?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Finished { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) })
}

/// Runs, and returns stdout; anything but success is an error with the last lines of what it said.
pub async fn run(command: Command) -> Result<String> {
    let shown = show(&command);
    let finished = finish(command).await?;
    if finished.code != Some(0) {
        let said = format!("{}{}", finished.stdout, finished.stderr);
        let lines: Vec<&str> = said.trim().lines().collect();
        bail!("{shown} ended with {:?}: {}", finished.code, lines[lines.len().saturating_sub(12)..].join("\n"));
    }
    Ok(finished.stdout)
}

/// `docker ARGUMENTS…`
pub async fn docker<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<String> {
    let mut command = clean("docker");
    command.args(arguments);
    run(command).await
}

fn show(command: &Command) -> String {
    let command = command.as_std();
    let words = std::iter::once(command.get_program()).chain(command.get_args());
    words.map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}
