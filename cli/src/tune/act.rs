//! Changing a Compose project: its file, then its containers; and back when that does not work.

use std::future::Future;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result, bail};
use tokio::signal::unix::{SignalKind, signal};

use super::compose::{self, Done, NamedIn, Plan, Undo};
use super::engine::{Caller, containers, named_files, of_service, project, wait_until_well};
use super::overrides::{Services, Settings};
use crate::files::{Access, read_text, write_atomically};
use crate::home::TEXT_LIMIT;
use crate::secrets::is_root;

const MIB: u64 = 1_048_576;

/// Ends with an error when Ctrl-C is pressed, the terminal goes away (a lost SSH session) or somebody ends it, so that what was begun is
/// taken back. From then on none of them ends it: taking back goes to its end.
pub async fn interruptible<T>(work: impl Future<Output = Result<T>>) -> Result<T> {
    let listen = |kind| signal(kind).context("cannot listen for signals");
    let (mut interrupt, mut hangup, mut terminate) =
        (listen(SignalKind::interrupt())?, listen(SignalKind::hangup())?, listen(SignalKind::terminate())?);
    tokio::select! {
        done = work => done,
        _ = interrupt.recv() => bail!("interrupted"),
        _ = hangup.recv() => bail!("its terminal went away"),
        _ = terminate.recv() => bail!("it was told to end"),
    }
}

/// How it is after something failed; without one of these on an error, something is still to be taken back.
#[derive(Debug)]
enum AsBefore {
    TakenBack,
    Untouched,
}

impl std::fmt::Display for AsBefore {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            AsBefore::TakenBack => "it did not work and was taken back, all is as before",
            AsBefore::Untouched => "nothing was changed",
        })
    }
}

impl std::error::Error for AsBefore {}

pub fn is_as_before(error: &anyhow::Error) -> bool {
    error.is::<AsBefore>()
}

/// What went wrong before anything was touched.
pub fn untouched(error: anyhow::Error) -> anyhow::Error {
    error.context(AsBefore::Untouched)
}

/// What went wrong, and whether it was taken back.
pub async fn taken_back(error: anyhow::Error, back: impl Future<Output = Result<()>>) -> anyhow::Error {
    match back.await {
        Ok(()) => error.context(AsBefore::TakenBack),
        Err(second) => error.context(format!(
            "it did not work, and taking it back failed as well ({second:#}): ./nexus tune undo tries again"
        )),
    }
}

/// Who gets a file beside another: root leaves it to the owner of that one.
fn access_beside(file: &Path) -> Access {
    let owner = is_root().then(|| std::fs::metadata(file).ok()).flatten().map(|it| (it.uid(), it.gid()));
    Access { mode: 0o644, owner }
}

fn put(file: &Path, beside: Option<&Path>, text: Option<&str>) -> Result<()> {
    match text {
        Some(text) => write_atomically(file, text.as_bytes(), access_beside(beside.unwrap_or(file))),
        None => match std::fs::remove_file(file) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("cannot remove {}", file.display()))
            }
            _ => Ok(()),
        },
    }
}

/// Calls Compose for the project, with our file or without.
async fn recreate(done: &Done, with_ours: bool) -> Result<()> {
    let files = if with_ours { done.files_with() } else { done.files.clone() };
    let caller =
        Caller { project: &done.project, working_dir: &done.working_dir, env_files: &done.env_files, files: &files };
    caller.well(&["config", "--quiet"], super::engine::LONG_PATIENCE).await?;
    let services = done.service_names();
    caller.up(&services).await?;
    wait_until_well(&done.project, &services).await
}

pub async fn apply(plan: &Plan) -> Result<()> {
    let done = &plan.done;
    let beside = done.files.first().map(std::path::PathBuf::as_path);
    let work = async {
        put(&done.file, beside, Some(&plan.after))?;
        recreate(done, true).await?;
        in_effect(&done.project, &done.services).await
    };
    match interruptible(work).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let back = async {
                put(&done.file, beside, plan.before.as_deref())?;
                recreate(done, plan.before.is_some()).await
            };
            Err(taken_back(error, back).await)
        }
    }
}

/// Whether Docker says of each container what was asked for.
async fn in_effect(project: &str, services: &Services) -> Result<()> {
    let all = containers().await?;
    for (service, Settings { memory_limit_mib, restart, log, .. }) in services {
        for container in of_service(&all, project, service) {
            let host = &container.host_config;
            if memory_limit_mib.is_some_and(|mib| host.memory != mib * MIB) {
                bail!("{} did not get the limit: does the kernel limit memory? ./nexus status says", container.name());
            }
            if restart.as_ref().is_some_and(|policy| *policy != host.restart_policy.name) {
                bail!("{} did not get the restart policy", container.name());
            }
            let options = host.log_config.config.clone().unwrap_or_default();
            if log.as_ref().is_some_and(|log| options.get("max-size") != Some(&log.max_size)) {
                bail!("{} did not get the log options", container.name());
            }
        }
    }
    Ok(())
}

/// What else is to be known for taking one back.
pub struct Undoing<'a> {
    /// What is applied, with the one in question and without.
    pub standing: &'a [&'a Done],
    pub rest: &'a [&'a Done],
    /// The files that Nexus has ever written for the project.
    pub ours: &'a [&'a Path],
    /// Nexus was ended in the middle: its containers may be anything.
    pub interrupted: bool,
}

/// Takes one back. Tells what its owner has to know beyond "undone".
pub async fn undo(done: &Done, how: &Undoing<'_>) -> Result<Option<String>> {
    let told = back(done, how).await?;
    let sentences: Vec<String> = told.into_iter().chain(still_named(done)).collect();
    Ok((!sentences.is_empty()).then(|| sentences.join(". ")))
}

/// An .env that names a file which is gone, so that Compose would refuse the whole project.
fn still_named(done: &Done) -> Option<String> {
    if done.file.exists() {
        return None;
    }
    let all = named_files(&done.working_dir, &done.env_files, std::env::var("COMPOSE_FILE").ok()).unwrap_or_default();
    let named = all.iter().find(|named| named.names(&done.working_dir, &done.file))?;
    let place = match &named.place {
        NamedIn::Shell => "your shell".to_owned(),
        NamedIn::Env(path) => path.display().to_string(),
    };
    Some(format!(
        "Take {} out of COMPOSE_FILE in {place} now: it is gone, and docker compose does nothing there as long as it is named",
        done.file.display()
    ))
}

async fn back(done: &Done, how: &Undoing<'_>) -> Result<Option<String>> {
    let now = read_text(&done.file, TEXT_LIMIT)?;
    let services = done.service_names();
    let docker = crate::docker::word();
    let after = match compose::undo(&done.file, how.standing, how.rest, now.as_deref()) {
        Undo::Write(after) => after,
        Undo::Gone => {
            return Ok(Some(format!(
                "{} was gone already; what still runs with it loses it at the next {docker} compose up -d in {}",
                done.file.display(),
                done.working_dir.display()
            )));
        }
        Undo::Changed => bail!(
            "{} was changed since Nexus wrote it, so it stays as it is: take out of it what you don't want for {}, then run \
             {docker} compose up -d in {}",
            done.file.display(),
            services.join(", "),
            done.working_dir.display()
        ),
    };
    let found = project(&done.project, &services.iter().copied().collect(), how.ours).await;
    let beside = done.files.first().map(std::path::PathBuf::as_path);
    let why_not = match &found {
        Ok(facts) if facts.services.values().all(|service| service.containers.is_empty()) => {
            put(&done.file, beside, after.as_deref())?;
            return Ok(Some("it has no containers now, so only the file was changed".into()));
        }
        Ok(facts) => match (&facts.missing.first(), &facts.as_it_runs) {
            (Some(missing), _) => Some(format!("{} is not there any more", missing.display())),
            (None, Some(Ok(()))) => None,
            // They were as the files say when it began.
            (None, Some(Err(_))) if how.interrupted => None,
            (None, Some(Err(other))) => Some(format!("its files have changed since it was started ({other})")),
            (None, None) => Some("what Compose would do could not be asked".into()),
        },
        Err(error) => Some(format!("{error:#}")),
    };
    if let Some(why_not) = why_not {
        put(&done.file, beside, after.as_deref())?;
        return Ok(Some(format!(
            "only {} was changed, the containers were not: {why_not}. Run {docker} compose up -d in {} when it suits you",
            done.file.display(),
            done.working_dir.display()
        )));
    }
    // Its files as they are called now, which may be more than then.
    let files = found.map(|facts| facts.files).unwrap_or_default();
    let files = files.into_iter().filter(|file| *file != done.file).collect();
    let called = Done { files, ..done.clone() };
    let work = async {
        put(&done.file, beside, after.as_deref())?;
        recreate(&called, after.is_some()).await
    };
    match interruptible(work).await {
        Ok(()) => Ok(None),
        Err(error) => {
            let back = async {
                put(&done.file, beside, now.as_deref())?;
                recreate(&called, true).await
            };
            Err(taken_back(error, back).await)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_failed_tells_whether_all_is_as_before() {
        let failed = || anyhow::anyhow!("it broke");
        let back = taken_back(failed(), async { Ok(()) }).await;
        assert!(is_as_before(&back) && format!("{back:#}").ends_with("as before: it broke"), "{back:#}");
        assert!(is_as_before(&untouched(failed())) && !is_as_before(&failed()));
        let left = taken_back(failed(), async { bail!("that too") }).await;
        assert!(!is_as_before(&left) && format!("{left:#}").contains("(that too)"), "{left:#}");
    }

    #[test]
    fn an_env_that_still_names_what_is_gone_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let (env, file) = (folder.path().join(".env"), folder.path().join("compose.nexus.yml"));
        let done = Done {
            project: "p".into(),
            working_dir: folder.path().into(),
            env_files: vec![env.clone()],
            files: vec![folder.path().join("prod.yml")],
            file: file.clone(),
            automatic: false,
            services: Services::new(),
        };
        assert_eq!(still_named(&done), None);
        std::fs::write(&env, "COMPOSE_FILE=prod.yml:compose.nexus.yml\n").unwrap();
        assert!(still_named(&done).is_some_and(|told| told.contains(".env now")));
        std::fs::write(&file, "services: {}\n").unwrap();
        assert_eq!(still_named(&done), None);
    }

    #[test]
    fn a_file_comes_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let (beside, file) = (folder.path().join("compose.yml"), folder.path().join("compose.override.yml"));
        std::fs::write(&beside, "services: {}\n").unwrap();
        put(&file, Some(&beside), Some("x")).unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o644);
        put(&file, Some(&beside), None).unwrap();
        // Gone twice is gone.
        put(&file, Some(&beside), None).unwrap();
        assert!(!file.exists());
    }
}
