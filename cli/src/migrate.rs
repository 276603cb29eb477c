//! `nexus migrate`: roles, their passwords and the schema, brought to what this version needs. Runs at each start of
//! the stack and changes nothing the second time.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use tokio_postgres::config::Host;
use tokio_postgres::error::SqlState;
use tokio_postgres::{Client, Config, NoTls};

use crate::failure::mistake;
use crate::files::read_text;

mod embedded {
    #![allow(clippy::unwrap_used, clippy::expect_used, reason = "code that refinery's macro writes")]
    refinery::embed_migrations!("../migrations");
}

/// Roles that the schema grants rights to, created before it is applied.
const HEALER: &str = "nexus_healer";
const GRAFANA: &str = "nexus_grafana";
const REPORTER: &str = "nexus_reporter";
const READER: &str = "nexus_reader";

/// For whoever asks in SQL, people and agents alike: one careless question must cost the Pi neither its memory nor its
/// time. The schema grants it nothing but to read; that transactions are read-only too says so at once.
const READER_BOUNDS: &[&str] = &[
    "default_transaction_read_only = on",
    "statement_timeout = '10s'",
    "lock_timeout = '2s'",
    "idle_in_transaction_session_timeout = '30s'",
    "work_mem = '4MB'",
    "temp_file_limit = '64MB'",
    "TimeZone = 'UTC'",
];

/// Any number, the same for all: two migrators at once wait for each other, which refinery does not see to.
const LOCK: i64 = 0x6e65_7875_736d_6967;

/// Far longer than a migration takes.
const LOCK_TIMEOUT: Duration = Duration::from_secs(60);

pub struct Options {
    /// `postgres://USER@HOST/DATABASE`, without a password.
    pub url: String,
    pub password_file: PathBuf,
    pub healer_password_file: PathBuf,
    pub grafana_password_file: PathBuf,
    pub reporter_password_file: PathBuf,
    pub reader_password_file: PathBuf,
    /// How long to wait for Postgres to accept connections.
    pub timeout: Duration,
}

/// Returns what was done, for people.
pub async fn migrate(options: &Options) -> Result<String> {
    let mut config = Config::from_str(&options.url)
        .map_err(|error| mistake(format!("--database.url is no postgres://USER@HOST/DATABASE: {error}")))?;
    if config.get_password().is_some() {
        return Err(mistake("--database.url must hold no password: it belongs into --database.password-file".into()));
    }
    config.password(password(&options.password_file)?).application_name("nexus migrate");
    config.connect_timeout(Duration::from_secs(5));
    let healer = password(&options.healer_password_file)?;
    let grafana = password(&options.grafana_password_file)?;
    let reporter = password(&options.reporter_password_file)?;
    let reader = password(&options.reader_password_file)?;

    let mut client = connect(&config, options.timeout).await?;
    lock(&client).await?;
    role(&client, HEALER, &healer).await?;
    role(&client, GRAFANA, &grafana).await?;
    role(&client, REPORTER, &reporter).await?;
    role(&client, READER, &reader).await?;
    bound(&client, READER, READER_BOUNDS).await?;
    let applied = schema(&mut client).await?;
    Ok(match applied.as_slice() {
        [] => "the database is up to date".to_owned(),
        names => format!("the database was brought up to date: {}", names.join(", ")),
    })
}

/// Waits for another migrator, and makes everything after it wait no longer than this for a lock: who holds one for ever would
/// hold up each start of the stack.
async fn lock(client: &Client) -> Result<()> {
    let seconds = LOCK_TIMEOUT.as_secs();
    client.batch_execute(&format!("SET lock_timeout = '{seconds}s'")).await.context("cannot set a limit to waiting")?;
    client.execute("SELECT pg_advisory_lock($1)", &[&LOCK]).await.map(drop).map_err(|error| {
        let waited = error.code() == Some(&SqlState::LOCK_NOT_AVAILABLE);
        let error = anyhow::Error::new(error);
        if waited {
            error.context(format!(
                "another `nexus migrate` has held the lock of the database for {seconds} s: end it, or restart postgres"
            ))
        } else {
            error.context("cannot lock the database")
        }
    })
}

fn password(path: &Path) -> Result<String> {
    match read_text(path, 4096)? {
        None => Err(mistake(format!("{} is missing: run ./nexus up, which makes the secrets", path.display()))),
        Some(text) if text.trim().is_empty() => {
            Err(mistake(format!("{} is empty: remove it and run ./nexus up", path.display())))
        }
        Some(text) => Ok(text.trim().to_owned()),
    }
}

/// Connects, again and again while Postgres is not there yet; creates the database when it is missing.
async fn connect(config: &Config, timeout: Duration) -> Result<Client> {
    let deadline = Instant::now() + timeout;
    loop {
        let error = match config.connect(NoTls).await {
            Ok((client, connection)) => {
                // Its error is seen by the client's next call.
                tokio::spawn(connection);
                return Ok(client);
            }
            Err(error) => error,
        };
        match error.code() {
            Some(code) if *code == SqlState::INVALID_CATALOG_NAME => create_database(config).await?,
            Some(code) if *code == SqlState::INVALID_PASSWORD => {
                return Err(anyhow::anyhow!(
                    "{} does not accept the password: its data is older than secrets/postgres/superuser_password; put the old \
                     file back, or forget the data with `./nexus down --volumes`",
                    address(config)
                ));
            }
            // Starting up, shutting down, or nobody there yet; anything else Postgres says will not change by waiting.
            Some(code) if *code != SqlState::CANNOT_CONNECT_NOW && *code != SqlState::TOO_MANY_CONNECTIONS => {
                return Err(error).with_context(|| format!("{} refuses the connection", address(config)));
            }
            _ => {}
        }
        if Instant::now() >= deadline {
            return Err(error).with_context(|| {
                format!("{} did not accept a connection for {} s", address(config), timeout.as_secs())
            });
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}

async fn create_database(config: &Config) -> Result<()> {
    let name = config.get_dbname().unwrap_or("nexus").to_owned();
    let mut maintenance = config.clone();
    maintenance.dbname("postgres");
    let (client, connection) =
        maintenance.connect(NoTls).await.with_context(|| format!("cannot connect to {}", address(&maintenance)))?;
    tokio::spawn(connection);
    match client.batch_execute(&format!("CREATE DATABASE {}", identifier(&name))).await {
        Err(error) if error.code() != Some(&SqlState::DUPLICATE_DATABASE) => {
            Err(error).with_context(|| format!("cannot create the database {name}"))
        }
        _ => Ok(()),
    }
}

/// Creates a role that may log in and nothing else, or gives it the password. Postgres only ever sees the SCRAM
/// verifier, so that the password is in none of its logs.
async fn role(client: &Client, name: &str, password: &str) -> Result<()> {
    let verb = match client.query_opt("SELECT 1 FROM pg_roles WHERE rolname = $1", &[&name]).await {
        Ok(Some(_)) => "ALTER",
        Ok(None) => "CREATE",
        Err(error) => return Err(error).context("cannot look at the roles of the database"),
    };
    let verifier = postgres_protocol::password::scram_sha_256(password.as_bytes());
    let rights = "LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION";
    client
        .batch_execute(&format!("{verb} ROLE {} WITH {rights} PASSWORD '{verifier}'", identifier(name)))
        .await
        .with_context(|| format!("cannot set up the role {name}"))
}

/// Settings that each session of a role begins with.
async fn bound(client: &Client, name: &str, settings: &[&str]) -> Result<()> {
    let name = identifier(name);
    let all: String = settings.iter().map(|setting| format!("ALTER ROLE {name} SET {setting};")).collect();
    client.batch_execute(&all).await.with_context(|| format!("cannot set bounds to the role {name}"))
}

async fn schema(client: &mut Client) -> Result<Vec<String>> {
    let runner = embedded::migrations::runner();
    let known = runner.get_migrations().iter().map(refinery::Migration::version).max().unwrap_or_default();
    if let Some(newest) = newest(client).await?.filter(|newest| *newest > known) {
        anyhow::bail!(
            "the database has migration V{newest}, this nexus {} knows only up to V{known}: a newer version made it; update \
             this checkout and run ./nexus up",
            env!("CARGO_PKG_VERSION")
        );
    }
    let report = runner.run_async(client).await.context("cannot apply the migrations")?;
    Ok(report.applied_migrations().iter().map(ToString::to_string).collect())
}

/// The newest migration that was ever applied; `None` on a fresh database, which lacks refinery's table too.
async fn newest(client: &Client) -> Result<Option<i32>> {
    let read = async {
        let exists = client.query_one("SELECT to_regclass('refinery_schema_history') IS NOT NULL", &[]).await?;
        if !exists.try_get::<_, bool>(0)? {
            return Ok(None);
        }
        client.query_one("SELECT max(version) FROM refinery_schema_history", &[]).await?.try_get(0)
    };
    read.await.map_err(|error: tokio_postgres::Error| {
        anyhow::Error::new(error).context("cannot read which migrations were applied")
    })
}

fn identifier(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `postgres at HOST:PORT`, for messages.
fn address(config: &Config) -> String {
    let host = config.get_hosts().first().map_or_else(
        || "localhost".to_owned(),
        |host| match host {
            Host::Tcp(name) => name.clone(),
            Host::Unix(path) => path.display().to_string(),
        },
    );
    format!("postgres at {host}:{}", config.get_ports().first().copied().unwrap_or(5432))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn migrations_are_numbered_without_gaps() {
        let mut versions: Vec<_> =
            embedded::migrations::runner().get_migrations().iter().map(refinery::Migration::version).collect();
        versions.sort_unstable();
        assert!(!versions.is_empty());
        assert!(versions.iter().zip(1..).all(|(&version, number)| i64::from(version) == number), "{versions:?}");
    }

    fn run(options: &Options) -> anyhow::Error {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(migrate(options)).unwrap_err()
    }

    #[test]
    fn what_is_wrong_is_one_line_without_the_password() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        std::fs::write(&file, "hushhush\n").unwrap();
        let options = |url: &str| Options {
            url: url.into(),
            password_file: file.clone(),
            healer_password_file: file.clone(),
            grafana_password_file: file.clone(),
            reporter_password_file: file.clone(),
            reader_password_file: file.clone(),
            timeout: Duration::ZERO,
        };
        let check = |options: &Options, beginning: &str| {
            let message = format!("{:#}", run(options));
            assert!(message.starts_with(beginning) && !message.contains("hushhush"), "{message}");
        };
        check(&options("nonsense"), "--database.url is no postgres://");
        check(&options("postgres://a:b@127.0.0.1/nexus"), "--database.url must hold no password");
        check(
            &options("postgres://a@127.0.0.1:1/nexus"),
            "postgres at 127.0.0.1:1 did not accept a connection for 0 s: ",
        );
        let mut missing = options("postgres://a@127.0.0.1:1/nexus");
        missing.healer_password_file = folder.path().join("nowhere");
        check(&missing, &format!("{} is missing", missing.healer_password_file.display()));
    }
}
