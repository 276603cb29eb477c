//! Copies the journal to Postgres, for people, dashboards and the reporter.
//!
//! It never holds up healing: it reads what is committed, copies it in batches, and marks what Postgres has. Everything
//! is idempotent, so a batch whose answer was lost is sent again: a copy with a smaller revision never overwrites a
//! greater one, and what never changes is inserted once. Rows go after those that they point to. The journal stays the
//! original.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use nexus_model::api::PartStatus;
use nexus_web::{Secret, SecretError};
use serde_json::Value;
use tokio::sync::watch;
use tokio_postgres::{Client, Config, NoTls, error::SqlState};

use crate::{
    evidence::chain,
    journal::{Change, Journal, JournalError, Pending, Table},
    metrics::Metrics,
};

/// For connecting, and for one batch.
const DEADLINE: Duration = Duration::from_secs(20);
/// Pause after a failure: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// Without anything to copy the connection is tried this often, so that its state is known.
const IDLE: Duration = Duration::from_secs(60);

/// In the order in which they are copied.
const TABLES: [Table; 4] = [Table::Incidents, Table::Attempts, Table::Evidence, Table::Events];

#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    // The URL may hold a password, so it is not shown.
    #[error("--database.url is not understood; write it as postgres://USER@HOST/DATABASE")]
    Url(#[source] tokio_postgres::Error),
    #[error("reading the password for postgres")]
    Password(#[from] SecretError),
    #[error("connecting to postgres")]
    Connect(#[source] tokio_postgres::Error),
    #[error("copying to postgres")]
    Copy(#[source] tokio_postgres::Error),
    #[error("postgres did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
    #[error("reading what is to be copied")]
    Journal(#[from] JournalError),
}

/// Where to copy to.
#[derive(Clone, Debug)]
pub struct Database {
    config: Config,
    password_file: Option<PathBuf>,
}

impl Database {
    pub fn new(url: &str, password_file: Option<PathBuf>) -> Result<Self, RecordError> {
        let mut config: Config = url.parse().map_err(RecordError::Url)?;
        config.connect_timeout(DEADLINE).application_name("nexus-healer");
        // An empty path comes from a compose file that passes an empty setting.
        let password_file = password_file.filter(|path| !path.as_os_str().is_empty());
        Ok(Self { config, password_file })
    }

    /// The password is read each time: it may have been changed, or have come late.
    async fn connect(&self) -> Result<Client, RecordError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            config.password(Secret::read(path)?.expose());
        }
        let connecting = tokio::time::timeout(DEADLINE, config.connect(NoTls)).await;
        let (client, connection) = connecting.map_err(|_| RecordError::TimedOut)?.map_err(RecordError::Connect)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(reason = %chain(&error), "the connection to postgres ended");
            }
        });
        Ok(client)
    }
}

pub struct Copier {
    database: Database,
    journal: Journal,
    status: watch::Sender<PartStatus>,
    metrics: Arc<Metrics>,
    client: Option<Client>,
}

impl Copier {
    pub fn new(database: Database, journal: Journal, status: watch::Sender<PartStatus>, metrics: Arc<Metrics>) -> Self {
        Self { database, journal, status, metrics, client: None }
    }

    /// Runs until `stop`; then copies once more what there is.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        let mut stop = std::pin::pin!(stop);
        let mut commits = self.journal.commits();
        let mut retry = RETRY_FIRST;
        loop {
            commits.mark_unchanged();
            let pause = match self.copy_all().await {
                Ok(()) => {
                    self.up();
                    retry = RETRY_FIRST;
                    None
                }
                Err(error) => {
                    self.down(&error);
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_LAST);
                    Some(pause)
                }
            };
            let wake = async {
                match pause {
                    // While Postgres is away new rows are no reason to try sooner.
                    Some(pause) => tokio::time::sleep(pause).await,
                    None => tokio::select! {
                        _ = commits.changed() => (),
                        () = tokio::time::sleep(IDLE) => (),
                    },
                }
            };
            tokio::select! {
                () = &mut stop => break,
                () = wake => (),
            }
        }
        if let Err(error) = self.copy_all().await {
            tracing::info!(reason = %chain(&error), "the last rows are copied after the next start");
        }
    }

    /// Copies until nothing waits.
    async fn copy_all(&mut self) -> Result<(), RecordError> {
        let client = match self.client.take().filter(|client| !client.is_closed()) {
            Some(client) => client,
            None => self.database.connect().await?,
        };
        // Also when nothing waits: whether Postgres answers is worth knowing before something does.
        within(client.batch_execute("")).await?.map_err(RecordError::Copy)?;
        for table in TABLES {
            loop {
                let limit = batch_of(table);
                let rows = self.journal.read(move |store| store.pending(table, limit)).await?;
                if rows.is_empty() {
                    break;
                }
                crate::fault::point("copy-begun");
                let copied = self.copy(&client, table, rows).await?;
                crate::fault::point("copy-not-marked");
                let mark = Change::Copied { table, rows: copied, at: Timestamp::now() };
                self.journal.commit(vec![mark]).await?;
            }
        }
        self.client = Some(client);
        Ok(())
    }

    /// One batch in one statement. When Postgres takes offence at a row, one by one: the bad ones are told and left out,
    /// since a row that it will never take must not hold up the others for ever.
    async fn copy(&self, client: &Client, table: Table, rows: Vec<Pending>) -> Result<Vec<(String, i64)>, RecordError> {
        match insert(client, table, &rows).await {
            Ok(()) => (),
            Err(RecordError::Copy(error)) if is_about_content(&error) => {
                for row in &rows {
                    match insert(client, table, std::slice::from_ref(row)).await {
                        Ok(()) => (),
                        Err(RecordError::Copy(error)) if is_about_content(&error) => {
                            self.metrics.postgres_refused_rows.inc();
                            tracing::error!(
                                reason = %chain(&error),
                                "postgres does not take row {} of {table:?}; it stays in the journal alone", row.id
                            );
                        }
                        Err(error) => return Err(error),
                    }
                }
            }
            Err(error) => return Err(error),
        }
        Ok(rows.into_iter().map(|row| (row.id, row.revision)).collect())
    }

    fn up(&self) {
        if self.status.borrow().state != "up" {
            tracing::info!("copying to postgres");
            self.status.send_replace(PartStatus { state: "up".to_owned(), reason: None });
        }
        self.metrics.postgres_up.set(1);
    }

    fn down(&self, error: &RecordError) {
        let reason = chain(error);
        if self.status.borrow().reason.as_ref() != Some(&reason) {
            tracing::warn!(reason, "postgres can't be written; rows wait in the journal");
            self.status.send_replace(PartStatus { state: "down".to_owned(), reason: Some(reason) });
        }
        self.metrics.postgres_up.set(0);
    }
}

/// Rows in one statement: bounds what is held in memory. One piece of evidence may have tens of kilobytes.
fn batch_of(table: Table) -> u32 {
    match table {
        Table::Evidence => 16,
        Table::Incidents | Table::Attempts | Table::Events => 100,
    }
}

async fn within<T>(work: impl Future<Output = T>) -> Result<T, RecordError> {
    tokio::time::timeout(DEADLINE, work).await.map_err(|_| RecordError::TimedOut)
}

/// The rows as one JSON array, spread by Postgres itself: the fields of the model are the columns.
async fn insert(client: &Client, table: Table, rows: &[Pending]) -> Result<(), RecordError> {
    let parse = |row: &Pending| serde_json::from_str::<Value>(&row.row);
    let rows: Result<Vec<Value>, _> = rows.iter().map(parse).collect();
    let rows = rows.map_err(|error| JournalError::Row(error.to_string()))?;
    let rows = Value::Array(rows);
    within(client.execute(statement(table), &[&rows])).await?.map_err(RecordError::Copy)?;
    Ok(())
}

fn statement(table: Table) -> &'static str {
    match table {
        Table::Incidents => {
            "INSERT INTO incidents (id, host, project, service, container_name, image, alert, mode, state, outcome,
                 problem, refusal, diagnosis, opened_at, last_alert_at, closed_at, attempts, failed_attempts, next_attempt_at, acknowledged_at, revision)
             SELECT id, host, project, service, container_name, image, alert, mode, state, outcome,
                 problem, refusal, diagnosis, opened_at, last_alert_at, closed_at, attempts, failed_attempts, next_attempt_at, acknowledged_at, revision
             FROM jsonb_populate_recordset(NULL::incidents, $1)
             ON CONFLICT (id) DO UPDATE SET mode = excluded.mode, state = excluded.state, outcome = excluded.outcome,
                 problem = excluded.problem, refusal = excluded.refusal, diagnosis = excluded.diagnosis, last_alert_at = excluded.last_alert_at, closed_at = excluded.closed_at,
                 attempts = excluded.attempts, failed_attempts = excluded.failed_attempts,
                 next_attempt_at = excluded.next_attempt_at, acknowledged_at = excluded.acknowledged_at, revision = excluded.revision, recorded_at = now()
             WHERE incidents.revision < excluded.revision"
        }
        Table::Attempts => {
            "INSERT INTO attempts (id, incident_id, number, action, container_id, started_at_before, started_at_after,
                 intended_at, finished_at, outcome, detail, revision)
             SELECT id, incident_id, number, action, container_id, started_at_before, started_at_after,
                 intended_at, finished_at, outcome, detail, revision
             FROM jsonb_populate_recordset(NULL::attempts, $1)
             ON CONFLICT (id) DO UPDATE SET started_at_after = excluded.started_at_after,
                 finished_at = excluded.finished_at, outcome = excluded.outcome, detail = excluded.detail,
                 revision = excluded.revision
             WHERE attempts.revision < excluded.revision"
        }
        Table::Evidence => {
            "INSERT INTO evidence (id, incident_id, attempt_id, kind, taken_at, body)
             SELECT id, incident_id, attempt_id, kind, taken_at, body
             FROM jsonb_populate_recordset(NULL::evidence, $1) ON CONFLICT (id) DO NOTHING"
        }
        Table::Events => {
            "INSERT INTO incident_events (id, incident_id, at, kind, detail)
             SELECT id, incident_id, at, kind, detail
             FROM jsonb_populate_recordset(NULL::incident_events, $1) ON CONFLICT (id) DO NOTHING"
        }
    }
}

/// Whether Postgres minds what a row says (classes 22 and 23), rather than the state it is in itself.
fn is_about_content(error: &tokio_postgres::Error) -> bool {
    error.code().is_some_and(|code: &SqlState| code.code().starts_with("22") || code.code().starts_with("23"))
}
