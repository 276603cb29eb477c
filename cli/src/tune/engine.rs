//! Docker and Compose as tuning asks them: each call a list of words, never a line for a shell, and each with a time limit.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::compose::{
    Container, Facts, Named, NamedIn, OWN, Resolved, SECOND, Service, called_with, compose_file, stays,
};
use super::inspected::Inspected;
use crate::files::read_text;
use crate::home::TEXT_LIMIT;

/// Docker on a Pi whose card is busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Stopping takes what the service asks for, ten seconds by default.
pub const LONG_PATIENCE: Duration = Duration::from_secs(300);

const FILES: &str = "com.docker.compose.project.config_files";
const FOLDER: &str = "com.docker.compose.project.working_dir";
const ENV_FILES: &str = "com.docker.compose.project.environment_file";

/// What a program said and how it ended.
#[derive(Debug)]
pub struct Said {
    pub ok: bool,
    pub out: Vec<u8>,
    pub err: String,
}

impl Said {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// The last line of what went wrong.
    pub fn last(&self) -> String {
        let text = self.text();
        let lines = || self.err.trim().lines().chain(text.trim().lines());
        let permission = self.err.contains("permission denied") && self.err.contains("docker.sock");
        let last =
            self.err.trim().lines().last().or_else(|| lines().last()).unwrap_or("it said nothing").trim().to_owned();
        if permission { format!("{last}: use sudo, or join the group docker") } else { last }
    }
}

/// Runs a program to its end. `Err` when it could not be run or took too long.
pub async fn finish(mut command: Command, input: Option<&[u8]>, patience: Duration) -> Result<Said> {
    let program = command.as_std().get_program().to_string_lossy().into_owned();
    // A group of its own: Ctrl-C shall reach this program, which then takes back what it has begun.
    command.process_group(0).kill_on_drop(true);
    command.stdin(if input.is_some() { Stdio::piped() } else { Stdio::null() });
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().with_context(|| format!("cannot run {program}"))?;
    let stdin = child.stdin.take();
    let feed = async {
        if let (Some(mut stdin), Some(input)) = (stdin, input) {
            // Who ends before all is read says why on stderr.
            let _ = stdin.write_all(input).await;
        }
    };
    let both = async { tokio::join!(feed, child.wait_with_output()).1 };
    let ended = tokio::time::timeout(patience, both).await;
    let output = ended.with_context(|| format!("{program} took longer than {} s", patience.as_secs()))?;
    let output = output.with_context(|| format!("cannot run {program}"))?;
    let err = String::from_utf8_lossy(&output.stderr).into_owned();
    Ok(Said { ok: output.status.success(), out: output.stdout, err })
}

pub async fn docker<S: AsRef<str>>(words: &[S], input: Option<&[u8]>, patience: Duration) -> Result<Said> {
    let mut command = Command::new("docker");
    command.args(words.iter().map(AsRef::as_ref));
    finish(command, input, patience).await
}

/// A success, or an error with the last line that was said.
pub async fn docker_well<S: AsRef<str>>(words: &[S], input: Option<&[u8]>, patience: Duration) -> Result<Said> {
    let said = docker(words, input, patience).await?;
    if !said.ok {
        let verb = words.first().map_or("", AsRef::as_ref);
        bail!("docker {verb} failed: {}", said.last());
    }
    Ok(said)
}

/// All containers, running or not.
pub async fn containers() -> Result<Vec<Inspected>> {
    let said = docker_well(&["ps", "--all", "--quiet", "--no-trunc"], None, PATIENCE).await?;
    let ids = said.text();
    let ids: Vec<&str> = ids.split_whitespace().collect();
    inspect(&ids, false).await
}

async fn inspect(ids: &[&str], with_size: bool) -> Result<Vec<Inspected>> {
    if ids.is_empty() {
        return Ok(Vec::new());
    }
    let mut words = vec!["container", "inspect"];
    words.extend(with_size.then_some("--size"));
    words.extend(ids);
    let said = docker(&words, None, PATIENCE).await?;
    // One that went away between the two calls is an error of the whole, and the others are told all the same.
    serde_json::from_slice(&said.out).with_context(|| format!("docker inspect failed: {}", said.last()))
}

/// The running containers of a service.
pub fn of_service<'a>(all: &'a [Inspected], project: &str, service: &str) -> Vec<&'a Inspected> {
    all.iter().filter(|it| it.is_of(project, service)).collect()
}

/// A Compose project with the files by which it is called.
#[derive(Clone, Debug)]
pub struct Caller<'a> {
    pub project: &'a str,
    pub working_dir: &'a Path,
    pub env_files: &'a [PathBuf],
    pub files: &'a [PathBuf],
}

impl Caller<'_> {
    pub async fn call(&self, before: &[&str], words: &[&str], patience: Duration) -> Result<Said> {
        let mut command = Command::new("docker");
        command.arg("compose").args(["--progress", "plain", "--ansi", "never"]).args(before);
        command.arg("--project-name").arg(self.project).arg("--project-directory").arg(self.working_dir);
        for file in self.env_files {
            command.arg("--env-file").arg(file);
        }
        for file in self.files {
            command.arg("--file").arg(file);
        }
        command.args(words);
        // As if its owner had called it there: ${PWD} is a favourite in compose files, and what is set for this program is not for it.
        command.current_dir(self.working_dir).env("PWD", self.working_dir);
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("COMPOSE_") || text.starts_with("NEXUS_") {
                command.env_remove(&name);
            }
        }
        finish(command, None, patience).await
    }

    pub async fn well(&self, words: &[&str], patience: Duration) -> Result<Said> {
        let said = self.call(&[], words, patience).await?;
        if !said.ok {
            bail!("docker compose {} failed: {}", words.first().unwrap_or(&""), said.last());
        }
        Ok(said)
    }

    /// Recreates what has changed of these services, and nothing else; nothing is built or pulled for it.
    pub async fn up(&self, services: &[&str]) -> Result<()> {
        let words = [&["up", "--detach", "--no-deps", "--no-build", "--pull", "never", "--"], services].concat();
        self.well(&words, LONG_PATIENCE).await.map(drop)
    }

    /// What [`Caller::up`] would do: all is to stay as it is.
    pub async fn stays(&self, services: &[&str], containers: &[&str]) -> Result<Result<(), String>> {
        let words = [&["up", "--detach", "--no-deps", "--no-build", "--pull", "never", "--"], services].concat();
        let said = self.call(&["--dry-run"], &words, PATIENCE).await?;
        if !said.ok {
            return Ok(Err(said.last()));
        }
        Ok(stays(&format!("{}\n{}", said.text(), said.err), containers))
    }

    /// What the files say of services, with everything put in. It holds secrets, so nothing of it is told.
    async fn resolved(&self) -> Result<Value> {
        let said = self.well(&["config", "--format", "json", "--no-path-resolution"], PATIENCE).await?;
        serde_json::from_slice(&said.out).context("docker compose config is no JSON")
    }
}

/// What is to be known of some services of a project before anything is planned. `ours`: what Nexus has ever written for it.
pub async fn project(project: &str, services: &BTreeSet<&str>, ours: &[&Path]) -> Result<Facts> {
    let all = containers().await?;
    let mut facts = Facts { project: project.to_owned(), docker: crate::docker::word(), ..Facts::default() };
    let mut names: Vec<&str> = Vec::new();
    let mut labelled: Vec<&Inspected> = Vec::new();
    for name in services {
        let found = of_service(&all, project, name);
        let ids: Vec<&str> = found.iter().map(|it| it.id.as_str()).collect();
        let sized = inspect(&ids, true).await?;
        let mut service = Service::default();
        for it in &found {
            let size = sized.iter().find(|sized| sized.id == it.id).and_then(|it| it.size_rw);
            service.containers.push(Container {
                name: it.name().to_owned(),
                ill: it.ill(),
                written: size.filter(|size| *size > 0),
            });
            names.push(it.name());
            labelled.push(it);
        }
        service.sharers = sharers(&all, &found);
        facts.services.insert((*name).to_owned(), service);
    }
    let Some(first) = labelled.first() else { return Ok(facts) };
    let paths = |it: &Inspected, label: &str| -> Vec<PathBuf> {
        it.label(label).split(',').filter(|path| !path.is_empty()).map(PathBuf::from).collect()
    };
    if labelled.iter().any(|it| [FOLDER, ENV_FILES].iter().any(|label| it.label(label) != first.label(label))) {
        bail!("its services were started from different folders or .env files: start them together first");
    }
    let labels: Vec<Vec<PathBuf>> = labelled.iter().map(|it| paths(it, FILES)).collect();
    facts.files = called_with(&labels, ours, Path::is_file).map_err(|why| anyhow::anyhow!(why))?;
    facts.env_files = paths(first, ENV_FILES);
    facts.working_dir = first.label(FOLDER).into();
    let is_file = |path: &&PathBuf| path.is_absolute() && path.is_file();
    facts.missing = facts.files.iter().chain(&facts.env_files).filter(|path| !is_file(path)).cloned().collect();
    if !(facts.working_dir.is_absolute() && facts.working_dir.is_dir()) {
        facts.missing.push(facts.working_dir.clone());
    }
    let Some(folder) = facts.files.first().and_then(|first| first.parent()) else { return Ok(facts) };
    if !facts.missing.is_empty() {
        return Ok(facts);
    }
    for name in SECOND.iter().chain([&OWN]) {
        let path = folder.join(name);
        if path.is_symlink() {
            facts.found.insert(path, String::new());
        } else if let Some(text) = read_text(&path, TEXT_LIMIT)? {
            facts.found.insert(path, text);
        }
    }
    let named = named_files(&facts.working_dir, &facts.env_files, std::env::var("COMPOSE_FILE").ok())?;
    // A shell's may be meant for another project.
    let is_of_it = |it: &Named| {
        matches!(it.place, NamedIn::Env(_)) || facts.files.iter().any(|file| it.names(&facts.working_dir, file))
    };
    facts.named = named.into_iter().find(is_of_it);
    let caller = Caller { project, working_dir: &facts.working_dir, env_files: &facts.env_files, files: &facts.files };
    let resolved = caller.resolved().await?;
    for (name, service) in &mut facts.services {
        let said = &resolved["services"][name.as_str()];
        let sharers = sharing_services(&resolved, name);
        service.sharers.extend(sharers);
        service.resolved = resolved_of(said);
    }
    let services: Vec<&str> = services.iter().copied().collect();
    facts.as_it_runs = Some(caller.stays(&services, &names).await?);
    Ok(facts)
}

/// What says which files Compose reads: the shell, whose word is the first, and the project's .env files.
pub fn named_files(working_dir: &Path, env_files: &[PathBuf], shell: Option<String>) -> Result<Vec<Named>> {
    let mut all: Vec<PathBuf> = [working_dir.join(".env")].into_iter().chain(env_files.iter().cloned()).collect();
    all.dedup();
    let shell = shell.filter(|value| !value.is_empty());
    let mut found: Vec<Named> = shell.map(|value| Named { value, place: NamedIn::Shell }).into_iter().collect();
    for path in all {
        if let Some(value) = read_text(&path, TEXT_LIMIT)?.as_deref().and_then(compose_file) {
            found.push(Named { value: value.to_owned(), place: NamedIn::Env(path) });
        }
    }
    Ok(found)
}

/// Names of containers that live in what is another's.
fn sharers(all: &[Inspected], of: &[&Inspected]) -> Vec<String> {
    let shares = |it: &&Inspected| {
        it.lives_in().any(|shared| of.iter().any(|owner| owner.id == shared || owner.name() == shared))
    };
    all.iter().filter(shares).map(|it| it.name().to_owned()).collect()
}

/// Services that would, even if they do not run.
fn sharing_services(resolved: &Value, name: &str) -> Vec<String> {
    let wanted = format!("service:{name}");
    let shares = |service: &Value| ["network_mode", "ipc", "pid"].iter().any(|key| service[key] == wanted.as_str());
    let services = resolved["services"].as_object().into_iter().flatten();
    services.filter(|(_, service)| shares(service)).map(|(name, _)| name.clone()).collect()
}

fn resolved_of(service: &Value) -> Resolved {
    // Compose writes sizes as strings of bytes.
    let number = |value: &Value| value.as_i64().or_else(|| value.as_str()?.parse().ok());
    Resolved {
        limit_in_deploy: !service["deploy"]["resources"]["limits"]["memory"].is_null(),
        swap_limit: number(&service["memswap_limit"]),
        reservation: number(&service["mem_reservation"])
            .or_else(|| number(&service["deploy"]["resources"]["reservations"]["memory"])),
    }
}

/// Waits until all containers of the services are well, those without a health check for a little while.
pub async fn wait_until_well(project: &str, services: &[&str]) -> Result<()> {
    const LEAST: Duration = Duration::from_secs(60);
    const MOST: Duration = Duration::from_secs(600);
    const STEADY: Duration = Duration::from_secs(4);
    const POLL: Duration = Duration::from_millis(300);
    let began = std::time::Instant::now();
    loop {
        let all = containers().await?;
        let found: Vec<&Inspected> = services.iter().flat_map(|service| of_service(&all, project, service)).collect();
        if let Some(lost) = found.iter().find_map(|it| it.lost()) {
            bail!("{lost}");
        }
        let now = Timestamp::now();
        let well =
            |it: &&Inspected| it.ill().is_none() && (it.is_probed() || it.up_for(now).is_some_and(|up| up >= STEADY));
        let each_has_one = services.iter().all(|service| found.iter().any(|it| it.is_of(project, service)));
        if each_has_one && found.iter().all(well) {
            return Ok(());
        }
        let patience = found.iter().map(|it| it.patience()).max().unwrap_or_default().clamp(LEAST, MOST);
        if began.elapsed() > patience {
            let ill = found.iter().find_map(|it| Some(format!("{} is {}", it.name(), it.ill()?)));
            bail!(
                "not well after {} s: {}",
                patience.as_secs(),
                ill.unwrap_or_else(|| "no container of it runs".into())
            );
        }
        tokio::time::sleep(POLL).await;
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::inspected::tests::inspected;
    use super::*;

    #[test]
    fn what_names_the_files_is_found_with_the_shell_first() {
        let folder = tempfile::tempdir().unwrap();
        let (env, other) = (folder.path().join(".env"), folder.path().join("prod.env"));
        std::fs::write(&env, "A=1\nCOMPOSE_FILE=a.yml\n").unwrap();
        std::fs::write(&other, "A=1\n").unwrap();
        let named = |value: &str, place| Named { value: value.into(), place };
        let found = |shell: Option<&str>| {
            named_files(folder.path(), &[env.clone(), other.clone()], shell.map(str::to_owned)).unwrap()
        };
        let of_env = named("a.yml", NamedIn::Env(env.clone()));
        let alone = vec![of_env.clone()];
        assert_eq!((found(None), found(Some(""))), (alone.clone(), alone));
        assert_eq!(found(Some("b.yml")), [named("b.yml", NamedIn::Shell), of_env]);
    }

    #[test]
    fn who_lives_in_anothers_network_is_found() {
        let vpn = inspected("p-vpn-1", json!({}));
        let by_id = inspected("p-web-1", json!({"HostConfig": {"NetworkMode": "container:id-of-p-vpn-1"}}));
        let by_name = inspected("other", json!({"HostConfig": {"PidMode": "container:p-vpn-1"}}));
        let all = [vpn.clone(), by_id, by_name, inspected("p-db-1", json!({}))];
        assert_eq!(sharers(&all, &[&vpn]), ["p-web-1", "other"]);
        let resolved = json!({"services": {"vpn": {}, "web": {"network_mode": "service:vpn"}, "db": {"network_mode": "service:vpnx"}}});
        assert_eq!(sharing_services(&resolved, "vpn"), ["web"]);
    }

    #[test]
    fn what_the_files_say_is_read() {
        let of = |value: Value| resolved_of(&value);
        assert_eq!(of(json!({"mem_limit": "268435456"})), Resolved::default());
        assert_eq!(of(Value::Null), Resolved::default());
        let said = of(
            json!({"memswap_limit": "-1", "mem_reservation": 5, "deploy": {"resources": {"limits": {"memory": "9"}}}}),
        );
        assert_eq!(said, Resolved { limit_in_deploy: true, swap_limit: Some(-1), reservation: Some(5) });
    }
}
