//! Asking and setting PostgreSQL and Redis by the programs in their own containers. Neither gets a password from here: where one is
//! wanted, that is its owner's to do.

use anyhow::{Context, Result, bail};

use super::act::{interruptible, taken_back, untouched};
use super::engine::{LONG_PATIENCE, Said, docker, docker_well, wait_until_well};
use super::ledger::{PostgresDone, RedisDone};
use super::postgres::{self, Blocks};
use super::redis;
use std::cell::Cell;
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(30);
/// What PostgreSQL gets to write all its buffers before Docker kills it.
const STOP_SECONDS: &str = "120";

/// psql in a container, by its own socket.
pub struct Psql<'a> {
    container: &'a str,
    /// `None`: as whom the container runs.
    user: Option<&'static str>,
    role: String,
}

impl<'a> Psql<'a> {
    pub async fn open(container: &'a str) -> Result<Psql<'a>> {
        // Its superuser's name is no secret; nothing else of its environment is asked.
        let role = docker(&["exec", container, "printenv", "POSTGRES_USER"], None, PATIENCE).await?;
        let role = Some(role.text().trim().to_owned()).filter(|name| role.ok && !name.is_empty());
        let role = role.unwrap_or_else(|| "postgres".to_owned());
        let mut psql = Psql { container, user: Some("postgres"), role };
        let mut said = psql.run(&["SELECT 1"]).await?;
        if !said.ok && said.err.contains("unable to find user") {
            psql.user = None;
            said = psql.run(&["SELECT 1"]).await?;
        }
        if !said.ok {
            bail!("psql in {container} can't be asked: {}", said.last());
        }
        Ok(psql)
    }

    /// Each statement by itself, until one fails.
    async fn run<S: AsRef<str>>(&self, statements: &[S]) -> Result<Said> {
        let mut words = vec!["exec"];
        words.extend(self.user.iter().flat_map(|user| ["--user", user]));
        words.extend([
            self.container,
            "psql",
            "--no-psqlrc",
            "--no-password",
            "--tuples-only",
            "--no-align",
            "--quiet",
        ]);
        words.extend([
            "--field-separator=\t",
            "--set=ON_ERROR_STOP=1",
            "--username",
            &self.role,
            "--dbname",
            "postgres",
        ]);
        words.extend(statements.iter().flat_map(|statement| ["--command", statement.as_ref()]));
        docker(&words, None, PATIENCE).await
    }

    async fn well<S: AsRef<str>>(&self, statements: &[S]) -> Result<String> {
        let said = self.run(statements).await?;
        if !said.ok {
            bail!("psql failed: {}", said.last());
        }
        Ok(said.text())
    }

    pub async fn facts(&self) -> Result<postgres::Facts> {
        Ok(postgres::Facts::read(&self.well(&postgres::QUESTIONS).await?))
    }

    /// Sets, has it read, restarts where that is needed, and sees that it answers again.
    async fn set(&self, statements: &[String], restart: bool, done: &PostgresDone) -> Result<postgres::Facts> {
        if !statements.is_empty() {
            self.well(statements).await?;
        }
        self.well(&[postgres::RELOAD]).await?;
        if restart {
            docker_well(&["restart", "--time", STOP_SECONDS, self.container], None, LONG_PATIENCE).await?;
            wait_until_well(&done.project, &[done.service.as_str()]).await?;
        }
        self.until_it_answers(LONG_PATIENCE).await?;
        let complaints = self.well(&[postgres::COMPLAINTS]).await?;
        if let Some(complaint) = postgres::complaint(&complaints, statements, restart) {
            bail!("PostgreSQL does not take it: {complaint}");
        }
        self.facts().await
    }

    async fn until_it_answers(&self, patience: Duration) -> Result<()> {
        const POLL: Duration = Duration::from_millis(300);
        let began = Instant::now();
        loop {
            let said = self.run(&["SELECT 1"]).await?;
            if said.ok {
                return Ok(());
            }
            if began.elapsed() > patience {
                bail!("PostgreSQL does not answer: {}", said.last());
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// What is needed before anything is set.
async fn prepared(container: &str) -> Result<(Psql<'_>, String, Vec<u8>)> {
    let psql = Psql::open(container).await?;
    let facts = psql.facts().await?;
    let folder = facts.data_directory().context("PostgreSQL does not tell where its data are")?.to_owned();
    // For the case that it does not start any more, when no statement helps: its own file of them, kept in memory alone.
    let file = format!("{container}:{folder}/postgresql.auto.conf");
    let saved = docker_well(&["cp", "--archive", &file, "-"], None, PATIENCE).await?.out;
    Ok((psql, folder, saved))
}

pub async fn apply_postgres(container: &str, done: &PostgresDone) -> Result<()> {
    let (psql, folder, saved) = prepared(container).await.map_err(untouched)?;
    let restart = postgres::needs_restart(&done.sets);
    let work = async {
        let now = psql.set(&postgres::statements(&done.sets), restart, done).await?;
        match postgres::not_in_effect(&done.sets, &now).as_slice() {
            [] => Ok(()),
            missing => bail!("not in effect afterwards: {}", missing.join(", ")),
        }
    };
    match interruptible(work).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let back = async {
                if psql.until_it_answers(Duration::from_secs(5)).await.is_ok() {
                    let now = psql.facts().await?;
                    let (statements, _) = postgres::undo(&done.sets, &now);
                    // Whom it serves need not wait for a restart that changes nothing.
                    let restart = restart && postgres::buffers_are_set(&done.sets, &now);
                    return psql.set(&statements, restart, done).await.map(drop);
                }
                docker_well(&["cp", "--archive", "-", &format!("{container}:{folder}")], Some(&saved), PATIENCE)
                    .await?;
                docker_well(&["restart", "--time", STOP_SECONDS, container], None, LONG_PATIENCE).await?;
                psql.until_it_answers(LONG_PATIENCE).await
            };
            Err(taken_back(error, back).await)
        }
    }
}

pub async fn undo_postgres(container: &str, done: &PostgresDone) -> Result<Option<String>> {
    let psql = Psql::open(container).await?;
    let now = psql.facts().await?;
    let (statements, changed) = postgres::undo(&done.sets, &now);
    let restart = statements.iter().any(|statement| statement.contains("shared_buffers"))
        || postgres::waits_for_restart(&done.sets, &now);
    if restart || !statements.is_empty() {
        psql.set(&statements, restart, done).await?;
    }
    Ok((!changed.is_empty()).then(|| format!("changed since by somebody else, and left so: {}", changed.join(", "))))
}

pub async fn blocks(container: &str) -> Result<Option<Blocks>> {
    Ok(Psql::open(container).await?.facts().await?.blocks)
}

/// The program in a container that speaks with Redis or its kin.
pub struct RedisCli<'a> {
    container: &'a str,
    program: &'static str,
}

impl<'a> RedisCli<'a> {
    pub async fn open(container: &'a str) -> Result<RedisCli<'a>> {
        let mut last = String::new();
        for program in ["redis-cli", "valkey-cli", "keydb-cli"] {
            let cli = RedisCli { container, program };
            let said = cli.run(&["PING"]).await?;
            let answer = said.text();
            if said.ok && answer.trim() == "PONG" {
                return Ok(cli);
            }
            if answer.contains("NOAUTH") || said.err.contains("NOAUTH") {
                bail!("it wants a password, which Nexus does not ask for");
            }
            // One that is there has said what is wrong; that another is not, nobody minds.
            if last.is_empty() || !said.err.contains("executable file not found") {
                last = said.last();
            }
        }
        bail!("{} has no redis-cli that answers: {last}", self::plain(container))
    }

    async fn run(&self, words: &[&str]) -> Result<Said> {
        docker(&[&["exec", self.container, self.program], words].concat(), None, PATIENCE).await
    }

    pub async fn facts(&self) -> Result<redis::Facts> {
        let config = self.run(&["CONFIG", "GET", "maxmemory*"]).await?.text();
        let info = self.run(&["INFO"]).await?.text();
        Ok(redis::Facts::read(&config, &info))
    }

    /// It tells of a mistake and ends well all the same.
    async fn ok(&self, words: &[&str]) -> Result<()> {
        let said = self.run(words).await?;
        if !said.ok || said.text().trim() != "OK" {
            bail!("{} {} failed: {}", self.program, words.join(" "), said.last());
        }
        Ok(())
    }

    /// `rewritten` becomes true when its own file may have changed.
    async fn set(&self, values: &redis::Values, keep: bool, rewritten: &Cell<bool>) -> Result<()> {
        for [name, value] in &values.arguments() {
            self.ok(&["CONFIG", "SET", name, value]).await?;
        }
        if keep {
            rewritten.set(true);
            let kept = self.ok(&["CONFIG", "REWRITE"]).await;
            kept.context("it can't write into its own file of settings, where you can add the two lines yourself")?;
        }
        let now = self.facts().await?;
        if redis::undo(values, values, &now) != redis::Undo::Set {
            bail!("Redis does not keep it: {now:?}");
        }
        Ok(())
    }
}

use crate::text::plain;

pub async fn apply_redis(container: &str, done: &RedisDone) -> Result<()> {
    let cli = RedisCli::open(container).await.map_err(untouched)?;
    let rewritten = Cell::new(false);
    match interruptible(cli.set(&done.after, done.kept, &rewritten)).await {
        Ok(()) => Ok(()),
        Err(error) => {
            let back = async {
                cli.set(&done.before, false, &rewritten).await?;
                if rewritten.get() {
                    // Where it can't write into its file the bound is not there either.
                    let _ = cli.ok(&["CONFIG", "REWRITE"]).await;
                }
                Ok(())
            };
            Err(taken_back(error, back).await)
        }
    }
}

pub async fn undo_redis(container: &str, done: &RedisDone) -> Result<Option<String>> {
    let cli = RedisCli::open(container).await?;
    match redis::undo(&done.before, &done.after, &cli.facts().await?) {
        redis::Undo::Set => cli.set(&done.before, done.kept, &Cell::new(false)).await.map(|()| None),
        redis::Undo::Gone => Ok(Some("Redis had forgotten it already".into())),
        redis::Undo::Changed => {
            bail!("maxmemory or its policy was changed since by somebody else: they stay as they are")
        }
    }
}
