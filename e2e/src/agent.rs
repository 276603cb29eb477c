//! A client of the Model Context Protocol that is not ours: the Python SDK's, in an environment of its own.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::Value;

use crate::command::{clean, run};
use crate::stack::Stack;

/// The release that was tried.
const PACKAGE: &str = "mcp==2.3.0";

/// What the client was told.
#[derive(Debug, Deserialize)]
pub struct Told {
    pub server: String,
    pub tools: Vec<String>,
    pub answers: Vec<Answer>,
}

#[derive(Debug, Deserialize)]
pub struct Answer {
    pub error: bool,
    pub texts: Vec<String>,
}

/// The Python that has the client, or why it can't be had. Installs it once, below the user's cache.
pub fn python() -> Result<PathBuf, String> {
    static PYTHON: LazyLock<Result<PathBuf, String>> = LazyLock::new(install);
    PYTHON.clone()
}

fn install() -> Result<PathBuf, String> {
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from);
    let cache = cache.or_else(|| std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache")));
    let folder = cache.ok_or("there is no HOME")?.join("nexus/mcp-client");
    let python = folder.join("bin/python");
    let has_it = |python: &Path| said(Command::new(python).args(["-c", "import mcp"])).is_ok();
    if !has_it(&python) {
        said(Command::new("python3").args(["-m", "venv", "--clear"]).arg(&folder))?;
        said(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--timeout", "20", PACKAGE]))?;
    }
    Ok(python)
}

fn said(command: &mut Command) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            Err(format!("{program}: {}", said.trim().lines().last().unwrap_or("failed without a word")))
        }
        Err(error) => Err(format!("{program} can't be run: {error}")),
    }
}

/// Starts `nexus mcp` with `options`, and calls the tools one after the other.
pub async fn ask(stack: &Stack, options: &[&str], calls: &[(&str, Value)]) -> Result<Told> {
    let mut command = clean(python().map_err(anyhow::Error::msg)?);
    command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("agents/client.py"));
    command.arg(serde_json::to_string(calls).context("cannot write the calls")?);
    let mut arguments = vec!["mcp"];
    arguments.extend(options);
    let nexus = stack.nexus_command(&arguments);
    command.arg(nexus.as_std().get_program()).args(nexus.as_std().get_args());
    let told = run(command).await?;
    serde_json::from_str(&told).with_context(|| format!("the client says {told:?}"))
}
