//! What is to be done for a service of a Compose project: which file is written, with which files Compose is called, and what
//! speaks against it. Pure: facts in, plan or reason out.
//!
//! Compose reads `compose.override.yml` by itself only beside a compose.yml that it found itself. There Nexus writes it, unless
//! there is one. Everywhere else it writes `compose.nexus.yml`, which has to be named with `-f`, and says so. Where COMPOSE_FILE says
//! what is read, it has to name the file first.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::overrides::{Services, content, merged};
use nexus_reporter::report::recommend::shell;

/// Compose's own names for the first file, and for those that it reads after it, the first that there is.
const FIRST: [&str; 4] = ["compose.yaml", "compose.yml", "docker-compose.yml", "docker-compose.yaml"];
pub const SECOND: [&str; 4] =
    ["compose.override.yml", "compose.override.yaml", "docker-compose.override.yml", "docker-compose.override.yaml"];
/// Where a file of the owner's is in the way.
pub const OWN: &str = "compose.nexus.yml";

/// A project as its containers and its files tell.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub project: String,
    pub working_dir: PathBuf,
    /// As it was started, in their order.
    pub files: Vec<PathBuf>,
    pub env_files: Vec<PathBuf>,
    /// Those of them that are not there, or are no files.
    pub missing: Vec<PathBuf>,
    /// What there is of [`SECOND`] and [`OWN`] in the folder, with its text; a link has none, since it is the owner's.
    pub found: BTreeMap<PathBuf, String>,
    /// What says which files Compose reads, so that it looks for none itself.
    pub named: Option<Named>,
    /// The services in question.
    pub services: BTreeMap<String, Service>,
    /// How its owner calls docker.
    pub docker: &'static str,
    /// What Compose would do now without any change of ours; `Err` tells what.
    pub as_it_runs: Option<Result<(), String>>,
}

/// A COMPOSE_FILE, and where it is set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    pub value: String,
    pub place: NamedIn,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NamedIn {
    /// Exported where `nexus` was called. It wins over any .env.
    Shell,
    Env(PathBuf),
}

impl Named {
    /// Whether it names a file, by its path or from the folder of the project.
    pub fn names(&self, working_dir: &Path, file: &Path) -> bool {
        self.value.split(':').any(|name| working_dir.join(name.strip_prefix("./").unwrap_or(name)) == file)
    }

    /// Why nothing is written that Compose would not read, and the line that mends it.
    fn refusal(&self, file: &Path) -> String {
        let line = format!("COMPOSE_FILE={}", shell(&format!("{}:{}", self.value, file.display())));
        let (set, mend) = match &self.place {
            NamedIn::Shell => ("your shell".to_owned(), format!("export it there like this: export {line}")),
            NamedIn::Env(path) => {
                (path.display().to_string(), format!("put this line there in place of the other: {line}"))
            }
        };
        format!(
            "COMPOSE_FILE in {set} says which files Compose reads, and {} is not among them, so that your next docker compose up would \
             take the change back: {mend} – and then apply again, which makes that file",
            file.display()
        )
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Service {
    pub containers: Vec<Container>,
    /// Containers that live in the network, the processes or the memory of one of them.
    pub sharers: Vec<String>,
    pub resolved: Resolved,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub name: String,
    /// `None`: well. Else what is wrong with it.
    pub ill: Option<String>,
    /// What it wrote outside its volumes, which a new container does not have.
    pub written: Option<u64>,
}

/// What the owner's files say of a service, in bytes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resolved {
    pub limit_in_deploy: bool,
    pub swap_limit: Option<i64>,
    pub reservation: Option<i64>,
}

/// What is kept of it: enough to take it back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    pub project: String,
    pub working_dir: PathBuf,
    pub env_files: Vec<PathBuf>,
    /// Without ours.
    pub files: Vec<PathBuf>,
    pub file: PathBuf,
    /// Whether Compose reads it without being told.
    pub automatic: bool,
    pub services: Services,
}

impl Done {
    /// The files with ours.
    pub fn files_with(&self) -> Vec<PathBuf> {
        let mut files = self.files.clone();
        files.push(self.file.clone());
        files
    }

    pub fn service_names(&self) -> Vec<&str> {
        self.services.keys().map(String::as_str).collect()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub done: Done,
    pub before: Option<String>,
    pub after: String,
    /// What its owner ought to know first.
    pub notes: Vec<String>,
}

/// With which files the project is called. `labels`: those that each container was started with; `ours`: what Nexus has ever written
/// for it, which may have come or gone since some of them were started. `Err` when they differ otherwise.
pub fn called_with(
    labels: &[Vec<PathBuf>],
    ours: &[&Path],
    exists: impl Fn(&Path) -> bool,
) -> Result<Vec<PathBuf>, String> {
    let without = |label: &Vec<PathBuf>| -> Vec<PathBuf> {
        label.iter().filter(|path| !ours.contains(&path.as_path())).cloned().collect()
    };
    let mut files = labels.first().map(without).unwrap_or_default();
    if labels.iter().any(|label| without(label) != files) {
        return Err("its services were started with different compose files: start them together first".into());
    }
    let by_itself = |path: &Path| path.file_name().is_some_and(|name| SECOND.iter().any(|second| name == *second));
    let named = |path: &Path| labels.iter().any(|label| label.iter().any(|file| file == path));
    let mut there: Vec<&Path> =
        ours.iter().copied().filter(|path| exists(path) && (by_itself(path) || named(path))).collect();
    // The one that is named with -f comes after what Compose reads itself.
    there.sort_by_key(|path| (!by_itself(path), *path));
    there.dedup();
    files.extend(there.into_iter().map(Path::to_owned));
    Ok(files)
}

/// What the file holds when it is as Nexus left it.
fn expected<'a>(file: &Path, standing: impl IntoIterator<Item = &'a Done>) -> Option<String> {
    let of_file = standing.into_iter().filter(|done| done.file == file);
    content(&merged(of_file.map(|done| &done.services)))
}

/// `standing`: what is applied, the earliest first.
pub fn plan(facts: &Facts, wanted: &Services, standing: &[&Done]) -> Result<Plan, String> {
    let mut services = wanted.clone();
    let Some(first) = facts.files.first() else {
        return Err("its containers do not tell which compose files they come from".into());
    };
    if let Some(missing) = facts.missing.first() {
        return Err(format!("{} is not there any more, so Compose can't be asked to recreate it", missing.display()));
    }
    for (name, settings) in &mut services {
        let service = facts.services.get(name).filter(|service| !service.containers.is_empty());
        let Some(service) = service else { return Err(format!("{name} has no container now")) };
        if let Some((ill, why)) = service.containers.iter().find_map(|it| Some((&it.name, it.ill.as_ref()?))) {
            return Err(format!("{ill} is not well ({why}): see to that first, ./nexus why tells more"));
        }
        if let Some(sharer) = service.sharers.first() {
            return Err(format!(
                "{sharer} lives in the network or processes of {name} and would be cut off when that is recreated: all of them have \
                 to be started anew together"
            ));
        }
        if let Some(mib) = settings.memory_limit_mib {
            let bytes = i64::try_from(mib.saturating_mul(1_048_576)).unwrap_or(i64::MAX);
            if service.resolved.swap_limit.is_some_and(|swap| swap > 0 && swap < bytes) {
                return Err(format!("{name} has a memswap_limit below that: change both in your compose file"));
            }
            if service.resolved.reservation.is_some_and(|reservation| reservation > bytes) {
                return Err(format!("{name} has memory reserved above that: change both in your compose file"));
            }
            settings.limit_in_deploy = service.resolved.limit_in_deploy;
        }
    }
    match &facts.as_it_runs {
        Some(Ok(())) => {}
        Some(Err(other)) => {
            return Err(format!(
                "its files, its .env or its image are no longer what it was started with, so that more would change ({other}): run \
                 {} compose up -d there first",
                facts.docker
            ));
        }
        None => return Err("what Compose would do could not be asked".into()),
    }
    let (file, automatic) = place(facts, first, standing)?;
    if let Some(named) = facts.named.as_ref().filter(|_| !automatic) {
        return Err(named.refusal(&file));
    }
    let files: Vec<PathBuf> = facts.files.iter().filter(|path| **path != file).cloned().collect();
    let before = facts.found.get(&file).cloned();
    let done = Done {
        project: facts.project.clone(),
        working_dir: facts.working_dir.clone(),
        env_files: facts.env_files.clone(),
        files,
        file,
        automatic,
        services,
    };
    let of_file = standing.iter().copied().filter(|it| it.file == done.file).chain([&done]);
    let after = content(&merged(of_file.map(|it| &it.services))).unwrap_or_default();
    if before.as_deref() == Some(after.as_str()) {
        return Err("it is so already".into());
    }
    let notes = notes(facts, &done);
    Ok(Plan { done, before, after, notes })
}

/// The file to write, and whether Compose reads it by itself.
fn place(facts: &Facts, first: &Path, standing: &[&Done]) -> Result<(PathBuf, bool), String> {
    let folder = first.parent().unwrap_or(Path::new("/"));
    let named = |path: &Path, names: &[&str]| {
        path.parent() == Some(folder)
            && path.file_name().and_then(|name| name.to_str()).is_some_and(|name| names.contains(&name))
    };
    let is_named = |path: &Path| facts.named.as_ref().is_some_and(|named| named.names(&facts.working_dir, path));
    let found_by_itself = facts.named.is_none()
        && folder == facts.working_dir
        && named(first, &FIRST)
        && facts.files.iter().skip(1).all(|path| named(path, &SECOND));
    let seconds: Vec<&PathBuf> = facts.found.keys().filter(|path| named(path, &SECOND)).collect();
    let ours = |path: &Path| {
        let expected = expected(path, standing.iter().copied());
        expected.is_some() && facts.found.get(path) == expected.as_ref()
    };
    match seconds.as_slice() {
        [] if found_by_itself => {
            let old = first.file_name().is_some_and(|name| name.to_string_lossy().starts_with("docker-"));
            return Ok((folder.join(if old { SECOND[2] } else { SECOND[0] }), true));
        }
        [one] if (found_by_itself || is_named(one)) && ours(one) => return Ok(((*one).clone(), true)),
        _ => {}
    }
    let own = folder.join(OWN);
    if facts.found.contains_key(&own) && !ours(&own) {
        return Err(format!("{} is not as Nexus left it: it is yours now, so add the lines yourself", own.display()));
    }
    let automatic = is_named(&own);
    Ok((own, automatic))
}

fn notes(facts: &Facts, done: &Done) -> Vec<String> {
    let mut notes = vec![format!("recreates {}: away for some seconds", done.service_names().join(", "))];
    let lost: u64 = facts.services.values().flat_map(|service| &service.containers).filter_map(|it| it.written).sum();
    if lost > 0 {
        let lost = nexus_reporter::report::format::bytes(lost as f64);
        notes.push(format!(
            "what it wrote outside its volumes ({lost}) is gone then, as with each docker compose up that recreates it"
        ));
    }
    if !done.automatic {
        let files: Vec<String> = done.files_with().iter().map(|path| path.display().to_string()).collect();
        notes.push(format!(
            "Compose does not read {} by itself: put this line into {}, or the next docker compose up takes the change back: {}",
            done.file.display(),
            done.working_dir.join(".env").display(),
            format_args!("COMPOSE_FILE={}", shell(&files.join(":")))
        ));
    }
    notes
}

/// What an .env says for COMPOSE_FILE, which Compose reads there too.
pub fn compose_file(env: &str) -> Option<&str> {
    env.lines().filter_map(value_of_compose_file).next_back().filter(|value| !value.is_empty())
}

fn value_of_compose_file(line: &str) -> Option<&str> {
    let line = line.trim_start();
    let (name, value) = line.strip_prefix("export ").unwrap_or(line).split_once('=')?;
    (name.trim() == "COMPOSE_FILE").then(|| value.trim().trim_matches(['"', '\'']))
}

/// How something is taken back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    /// The file gets this text; `None` removes it.
    Write(Option<String>),
    /// The owner has removed it already.
    Gone,
    /// The owner has changed it: it stays.
    Changed,
}

/// `standing`: what is applied, the one in question among it; `rest`: without it. `now`: what the file holds.
pub fn undo(file: &Path, standing: &[&Done], rest: &[&Done], now: Option<&str>) -> Undo {
    match now {
        None => Undo::Gone,
        // Interrupted before it was written.
        Some(now) if expected(file, rest.iter().copied()).as_deref() == Some(now) => Undo::Write(Some(now.to_owned())),
        Some(now) if expected(file, standing.iter().copied()).as_deref() == Some(now) => {
            Undo::Write(expected(file, rest.iter().copied()))
        }
        Some(_) => Undo::Changed,
    }
}

/// What Compose says in a dry run: all of the containers are to stay as they are. `Err` tells what it would do.
pub fn stays(said: &str, containers: &[&str]) -> Result<(), String> {
    let mut running = Vec::new();
    for line in said.lines().map(str::trim) {
        let Some(step) = line.strip_prefix("DRY-RUN MODE -") else { continue };
        let words: Vec<&str> = step.split_whitespace().collect();
        match words.as_slice() {
            ["Container", name, "Running"] => running.push(*name),
            _ => return Err(words.join(" ")),
        }
    }
    match containers.iter().find(|name| !running.contains(name)) {
        Some(missing) => Err(format!("{missing} is none of its containers")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
