//! What an owner can put away of a stack that runs.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use anyhow::{Context, Result, ensure};

use crate::command::{clean, finish, run};
use crate::stack::Stack;

/// A checkout with the settings of this stack in it, as far as `./nexus backup` looks: the one that is tested belongs to the owner.
fn checkout(stack: &Stack, folder: &Path) -> Result<()> {
    let copy =
        |from: &Path, to: &str| std::fs::copy(from, folder.join(to)).with_context(|| format!("cannot copy {to}"));
    for name in ["nexus", "compose.yml", "Cargo.toml"] {
        copy(&stack.root().join(name), name)?;
    }
    copy(&stack.folder().join(".env"), ".env")?;
    for name in ["setup", "migrations", "bin"] {
        symlink(stack.root().join(name), folder.join(name)).context("cannot make a link")?;
    }
    Ok(())
}

pub async fn a_backup_of_the_running_stack_is_whole(stack: &Stack) -> Result<()> {
    let _postgres = stack.postgres_stays.read().await;
    let _healer = stack.healer_stays.read().await;
    let folder = tempfile::tempdir().context("cannot make a temporary folder")?;
    checkout(stack, folder.path())?;
    let path = |name: &str| folder.path().join(name).display().to_string();
    let backup = async |file: &str| {
        let mut command = clean(folder.path().join("nexus"));
        command.args(["backup", file]).env("XDG_CACHE_HOME", folder.path().join("cache"));
        finish(command).await
    };
    let incidents =
        async || stack.sql_value("SELECT count(*) FROM incidents").await?.parse::<u64>().context("no number");
    let before = incidents().await?;
    let finished = backup(&path("whole.tar")).await?;
    ensure!(finished.code == Some(0), "{}{}", finished.stdout, finished.stderr);
    let after = incidents().await?;
    let mode = std::fs::metadata(path("whole.tar")).context("there is no backup")?.permissions().mode();
    ensure!(mode & 0o777 == 0o600, "others can read it: {mode:o}");

    let mut unpack = clean("tar");
    unpack.args(["--extract", "--directory", &path("."), "--file", &path("whole.tar")]);
    run(unpack).await?;
    let manifest = std::fs::read_to_string(path("manifest")).context("there is no manifest")?;
    let saved = manifest.lines().find_map(|line| line.strip_prefix("incidents ")).context("no incidents are told")?;
    ensure!((before..=after).contains(&saved.parse()?), "{saved} of {before} to {after} incidents");
    // The dump has the rows, and the journal those that the dump is a copy of.
    let mut read = clean("docker");
    let postgres = stack.container("postgres").await?.id;
    read.args(["exec", "--interactive", &postgres, "pg_restore", "--data-only", "--table=incidents", "--file=-"]);
    read.stdin(std::fs::File::open(path("database.dump")).context("there is no dump")?);
    let rows = run(read).await?;
    let begin = rows.find("COPY public.incidents").context("the dump has no incidents")?;
    let count = rows[begin..].lines().skip(1).take_while(|line| *line != "\\.").count() as u64;
    ensure!((before..=after).contains(&count), "the dump has {count} of {before} to {after} incidents");
    let mut check = clean(stack.root().join("bin/nexus-healer"));
    check.args(["journal", "check", &path("journal.db")]);
    let told = run(check).await?;
    ensure!(told.starts_with("schema "), "{told}");
    // The secrets as they are, with their readers.
    let mut list = clean("tar");
    list.args(["--list", "--verbose", "--numeric-owner", "--file", &path("secrets.tar")]);
    let secrets = run(list).await?;
    let token = secrets.lines().find(|line| line.ends_with("./healer/api_token")).context("a secret is missing")?;
    ensure!(token.starts_with("-rw------- 10191/10191 "), "{token}");
    ensure!(std::fs::read(path("env")).ok() == std::fs::read(stack.folder().join(".env")).ok(), "the settings differ");
    Ok(())
}
