//! The journal's file: schema, opening, and each kind of change.
//!
//! A row of the model is kept as the JSON that the API shows, beside the columns that are searched by; what only the
//! healer needs is a second JSON. `sqlite3 journal.db 'SELECT row FROM incidents'` reads it.

use std::path::Path;

use jiff::Timestamp;
use nexus_model::{Evidence, IncidentEvent, Mode};
use rusqlite::{Connection, ErrorCode, params};

use super::{JournalError, memos::Memo};
use crate::{
    case::{Case, Try},
    facts::Stopper,
    pauses::{Covers, Held},
    prompts::DEPENDENCY_RESTARTED,
};

/// Grows with the schema. A journal of a newer healer is refused, never guessed at.
pub(super) const SCHEMA_VERSION: i64 = 1 + UPGRADES.len() as i64;

/// The first version, as it was. What came since is in [`UPGRADES`].
pub(super) const SCHEMA: &str = "
CREATE TABLE incidents (
    id TEXT PRIMARY KEY,
    project TEXT NOT NULL,
    service TEXT NOT NULL,
    state TEXT NOT NULL,
    opened_at INTEGER NOT NULL,
    closed_at INTEGER,
    revision INTEGER NOT NULL,
    -- The revision that Postgres has, and since when.
    copied INTEGER NOT NULL DEFAULT 0,
    recorded_at INTEGER,
    row TEXT NOT NULL,
    memory TEXT NOT NULL
);
CREATE INDEX incidents_by_age ON incidents (opened_at);
CREATE UNIQUE INDEX incidents_open ON incidents (project, service) WHERE state <> 'closed';
CREATE INDEX incidents_pending ON incidents (id) WHERE copied < revision;

CREATE TABLE attempts (
    id TEXT PRIMARY KEY,
    incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    number INTEGER NOT NULL,
    revision INTEGER NOT NULL,
    copied INTEGER NOT NULL DEFAULT 0,
    row TEXT NOT NULL,
    memory TEXT NOT NULL,
    UNIQUE (incident_id, number)
);
CREATE INDEX attempts_pending ON attempts (id) WHERE copied < revision;

CREATE TABLE evidence (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    attempt_id TEXT REFERENCES attempts (id) ON DELETE CASCADE,
    copied INTEGER NOT NULL DEFAULT 0,
    row TEXT NOT NULL
);
CREATE INDEX evidence_by_incident ON evidence (incident_id);
CREATE INDEX evidence_by_attempt ON evidence (attempt_id);
CREATE INDEX evidence_pending ON evidence (seq) WHERE copied = 0;

CREATE TABLE events (
    seq INTEGER PRIMARY KEY,
    id TEXT NOT NULL UNIQUE,
    incident_id TEXT NOT NULL REFERENCES incidents (id) ON DELETE CASCADE,
    copied INTEGER NOT NULL DEFAULT 0,
    row TEXT NOT NULL
);
CREATE INDEX events_by_incident ON events (incident_id);
CREATE INDEX events_pending ON events (seq) WHERE copied = 0;

-- Alerts that were answered with 200 and not looked into yet, one a service.
CREATE TABLE prompts (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    project TEXT NOT NULL,
    service TEXT NOT NULL,
    alert TEXT NOT NULL,
    received_at INTEGER NOT NULL,
    UNIQUE (project, service)
);

-- Who stopped the last run of a container, as far as it was seen.
CREATE TABLE stops (
    container_id TEXT PRIMARY KEY,
    started_at INTEGER,
    stopper TEXT NOT NULL
);

-- What `nexus heal` has set; service '' is the whole project.
CREATE TABLE switches (
    project TEXT NOT NULL,
    service TEXT NOT NULL,
    mode TEXT NOT NULL,
    set_at INTEGER NOT NULL,
    PRIMARY KEY (project, service)
);

CREATE TABLE selftests (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    nonce TEXT NOT NULL UNIQUE,
    received_at INTEGER NOT NULL
);

-- Written to see whether it can be.
CREATE TABLE probe (id INTEGER PRIMARY KEY, times INTEGER NOT NULL);
";

/// What each version has beyond the one before, the second one's first. A new journal goes through all of them.
const UPGRADES: [&str; 2] = [
    // What is noted for the next start: see memos.rs.
    "CREATE TABLE memos (name TEXT PRIMARY KEY, body TEXT NOT NULL);",
    // What `nexus pause` has set; without a service the whole project, without a project everything.
    "CREATE TABLE pauses (
         project TEXT NOT NULL,
         service TEXT NOT NULL,
         row TEXT NOT NULL,
         PRIMARY KEY (project, service)
     );",
];

/// Services that may wait to be looked into. Far more than a host can run: whoever fills it sends nonsense.
const MAX_PROMPTS: i64 = 10_000;
/// Self-tests remembered.
const MAX_SELFTESTS: i64 = 100;
/// Closed incidents that are kept.
pub(super) const KEEP: Keep =
    Keep { millis: 90 * 24 * 3600 * 1000, closed: 5_000, closed_at_all: 2 * 5_000, forgotten_at_once: 200 };

/// How many closed incidents are kept, and how long.
pub(super) struct Keep {
    pub millis: i64,
    /// More than this many only while they wait to be copied.
    pub closed: i64,
    /// More than this many in no case: a Postgres that never comes back must not fill the disk that healing needs.
    pub closed_at_all: i64,
    /// An incident may have a megabyte of evidence, and whoever waits for the disk waits for all that is forgotten with it.
    pub forgotten_at_once: i64,
}

/// Whether Postgres has an incident with all that belongs to it.
const COPIED: &str = "copied >= revision
    AND NOT EXISTS (SELECT 1 FROM attempts a WHERE a.incident_id = incidents.id AND a.copied < a.revision)
    AND NOT EXISTS (SELECT 1 FROM evidence e WHERE e.incident_id = incidents.id AND e.copied = 0)
    AND NOT EXISTS (SELECT 1 FROM events v WHERE v.incident_id = incidents.id AND v.copied = 0)";

/// An alert that says: look at this service.
#[derive(Clone, Debug, PartialEq)]
pub struct Prompt {
    pub project: String,
    pub service: String,
    pub alert: String,
    pub received_at: Timestamp,
}

/// A prompt as it waits; `seq` tells it from a later one for the same service.
#[derive(Clone, Debug, PartialEq)]
pub struct Waiting {
    pub seq: i64,
    pub prompt: Prompt,
}

/// The tables that are copied to Postgres.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Table {
    Incidents,
    Attempts,
    Evidence,
    Events,
}

/// One change. Changes that belong together are committed together.
#[derive(Clone, Debug)]
pub enum Change {
    /// An incident with all its attempts.
    Case(Box<Case>),
    Evidence(Evidence),
    Event(IncidentEvent),
    Prompt(Prompt),
    /// Looked into, up to and including this one.
    PromptDone(Waiting),
    SelfTest {
        nonce: String,
        at: Timestamp,
    },
    Stop {
        container_id: String,
        started_at: Option<Timestamp>,
        stopper: Stopper,
    },
    ForgetStop {
        container_id: String,
    },
    Switch {
        project: String,
        service: Option<String>,
        mode: Option<Mode>,
        at: Timestamp,
    },
    Pause {
        covers: Covers,
        held: Held,
    },
    /// Taken back, or over.
    EndPause {
        covers: Covers,
    },
    /// Postgres has these rows, by id and revision.
    Copied {
        table: Table,
        rows: Vec<(String, i64)>,
        at: Timestamp,
    },
    /// Noted for the next start; `None` forgets it.
    Memo {
        memo: Memo,
        body: Option<String>,
    },
    /// Changes nothing that matters: whether the disk takes it is the point.
    Probe,
    /// Forgets what is old, some of it at once. With `copies_wanted`, only what Postgres has, as long as there is room.
    Prune {
        now: Timestamp,
        copies_wanted: bool,
    },
}

pub struct Store {
    pub(super) connection: Connection,
}

impl Store {
    /// Opens or creates the journal and holds it alone.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let file = || path.display().to_string();
        let opening = |source| match source {
            rusqlite::Error::SqliteFailure(failure, _)
                if matches!(failure.code, ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) =>
            {
                JournalError::InUse { file: file() }
            }
            rusqlite::Error::SqliteFailure(failure, _)
                if matches!(failure.code, ErrorCode::NotADatabase | ErrorCode::DatabaseCorrupt) =>
            {
                JournalError::Damaged { file: file(), finding: failure.to_string() }
            }
            source => JournalError::Open { file: file(), source },
        };
        let connection = Connection::open(path).map_err(opening)?;
        // A healer that is just being replaced gets a moment to let go.
        connection.busy_timeout(std::time::Duration::from_secs(2)).map_err(opening)?;
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE").map_err(opening)?;
        let mode: String = connection.query_row("PRAGMA journal_mode = WAL", [], |row| row.get(0)).map_err(opening)?;
        if mode != "wal" {
            return Err(JournalError::NoWal { file: file(), mode });
        }
        connection
            .execute_batch(
                // FULL: a commit is on the disk when it returns. The rest keeps memory and the file small.
                "PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cache_size = -512;
                 PRAGMA temp_store = MEMORY; PRAGMA journal_size_limit = 4194304; PRAGMA trusted_schema = OFF;",
            )
            .map_err(opening)?;
        let finding: String = connection.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(opening)?;
        if finding != "ok" {
            return Err(JournalError::Damaged { file: file(), finding: finding.replace('\n', " ") });
        }
        // The exclusive lock is taken by the first write, here.
        let transaction = connection.unchecked_transaction().map_err(opening)?;
        let version: i64 = transaction.query_row("PRAGMA user_version", [], |row| row.get(0)).map_err(opening)?;
        let done = match version {
            0 => {
                transaction.execute_batch(SCHEMA).map_err(opening)?;
                0
            }
            known @ 1..=SCHEMA_VERSION => known.unsigned_abs() as usize - 1,
            newer => return Err(JournalError::Newer { file: file(), found: newer, known: SCHEMA_VERSION }),
        };
        for upgrade in UPGRADES.iter().skip(done) {
            transaction.execute_batch(upgrade).map_err(opening)?;
        }
        transaction.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(opening)?;
        transaction.commit().map_err(opening)?;
        Ok(Self { connection })
    }

    /// Makes one change within the transaction that is open.
    pub fn apply(&self, change: &Change) -> Result<(), JournalError> {
        match change {
            Change::Case(case) => self.put_case(case),
            Change::Evidence(evidence) => self.put_evidence(evidence),
            Change::Event(event) => self.put_event(event),
            Change::Prompt(prompt) => self.put_prompt(prompt),
            Change::PromptDone(waiting) => {
                let Waiting { seq, prompt } = waiting;
                self.execute(
                    "DELETE FROM prompts WHERE project = ? AND service = ? AND seq <= ?",
                    params![prompt.project, prompt.service, seq],
                )
            }
            Change::SelfTest { nonce, at } => self.put_selftest(nonce, *at),
            Change::Stop { container_id, started_at, stopper } => self.execute(
                "INSERT OR REPLACE INTO stops (container_id, started_at, stopper) VALUES (?, ?, ?)",
                params![container_id, started_at.map(nanos), stopper_name(*stopper)],
            ),
            Change::ForgetStop { container_id } => {
                self.execute("DELETE FROM stops WHERE container_id = ?", params![container_id])
            }
            Change::Switch { project, service, mode, at } => {
                let service = service.as_deref().unwrap_or("");
                match mode {
                    Some(mode) => self.execute(
                        "INSERT OR REPLACE INTO switches (project, service, mode, set_at) VALUES (?, ?, ?, ?)",
                        params![project, service, mode.as_str(), at.as_millisecond()],
                    ),
                    None => self
                        .execute("DELETE FROM switches WHERE project = ? AND service = ?", params![project, service]),
                }
            }
            Change::Pause { covers, held } => self.execute(
                "INSERT OR REPLACE INTO pauses (project, service, row) VALUES (?, ?, ?)",
                params![named(&covers.project), named(&covers.service), json(held)?],
            ),
            Change::EndPause { covers } => self.execute(
                "DELETE FROM pauses WHERE project = ? AND service = ?",
                params![named(&covers.project), named(&covers.service)],
            ),
            Change::Copied { table, rows, at } => self.put_copied(*table, rows, *at),
            Change::Memo { memo, body } => self.put_memo(*memo, body.as_deref()),
            Change::Probe => self.execute(
                "INSERT INTO probe (id, times) VALUES (1, 1) ON CONFLICT (id) DO UPDATE SET times = times + 1",
                [],
            ),
            Change::Prune { now, copies_wanted } => self.prune(&KEEP, *now, *copies_wanted),
        }
    }

    pub(super) fn execute(&self, sql: &str, values: impl rusqlite::Params) -> Result<(), JournalError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.execute(values))
            .map(|_| ())
            .map_err(JournalError::Write)
    }

    fn put_case(&self, case: &Case) -> Result<(), JournalError> {
        let incident = &case.incident;
        self.execute(
            "INSERT INTO incidents (id, project, service, state, opened_at, closed_at, revision, row, memory)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET state = excluded.state, closed_at = excluded.closed_at,
                 revision = excluded.revision, row = excluded.row, memory = excluded.memory
             WHERE excluded.revision > incidents.revision",
            params![
                incident.id.to_string(),
                incident.project,
                incident.service,
                incident.state.as_str(),
                incident.opened_at.as_millisecond(),
                incident.closed_at.map(|at| at.as_millisecond()),
                incident.revision,
                json(incident)?,
                json(&case.memory)?,
            ],
        )?;
        case.attempts.iter().try_for_each(|attempt| self.put_attempt(attempt))
    }

    fn put_attempt(&self, attempt: &Try) -> Result<(), JournalError> {
        let Try { attempt, memory } = attempt;
        self.execute(
            "INSERT INTO attempts (id, incident_id, number, revision, row, memory) VALUES (?, ?, ?, ?, ?, ?)
             ON CONFLICT (id) DO UPDATE SET revision = excluded.revision, row = excluded.row, memory = excluded.memory
             WHERE excluded.revision > attempts.revision",
            params![
                attempt.id.to_string(),
                attempt.incident_id.to_string(),
                attempt.number,
                attempt.revision,
                json(attempt)?,
                json(memory)?,
            ],
        )
    }

    fn put_evidence(&self, evidence: &Evidence) -> Result<(), JournalError> {
        self.execute(
            "INSERT OR IGNORE INTO evidence (id, incident_id, attempt_id, row) VALUES (?, ?, ?, ?)",
            params![
                evidence.id.to_string(),
                evidence.incident_id.to_string(),
                evidence.attempt_id.map(|id| id.to_string()),
                json(evidence)?,
            ],
        )
    }

    fn put_event(&self, event: &IncidentEvent) -> Result<(), JournalError> {
        self.execute(
            "INSERT OR IGNORE INTO events (id, incident_id, row) VALUES (?, ?, ?)",
            params![event.id.to_string(), event.incident_id.to_string(), json(event)?],
        )
    }

    fn put_prompt(&self, prompt: &Prompt) -> Result<(), JournalError> {
        if self.count("SELECT count(*) FROM prompts", [])? >= MAX_PROMPTS {
            return Err(JournalError::Full);
        }
        // REPLACE gives a new number: what is being looked into right now does not swallow this one. An alert only makes the healer look,
        // which the word to follow does as well, and more.
        self.execute(
            "INSERT OR REPLACE INTO prompts (project, service, alert, received_at) VALUES (?1, ?2,
                 coalesce((SELECT alert FROM prompts WHERE project = ?1 AND service = ?2 AND alert = ?5), ?3), ?4)",
            params![
                prompt.project,
                prompt.service,
                prompt.alert,
                prompt.received_at.as_millisecond(),
                DEPENDENCY_RESTARTED
            ],
        )
    }

    fn put_selftest(&self, nonce: &str, at: Timestamp) -> Result<(), JournalError> {
        self.execute(
            "INSERT OR IGNORE INTO selftests (nonce, received_at) VALUES (?, ?)",
            params![nonce, at.as_millisecond()],
        )?;
        self.execute("DELETE FROM selftests WHERE seq <= (SELECT max(seq) FROM selftests) - ?", params![MAX_SELFTESTS])
    }

    fn put_copied(&self, table: Table, rows: &[(String, i64)], at: Timestamp) -> Result<(), JournalError> {
        for (id, revision) in rows {
            match table {
                Table::Incidents => self.execute(
                    "UPDATE incidents SET copied = max(copied, ?2), recorded_at = ?3 WHERE id = ?1",
                    params![id, revision, at.as_millisecond()],
                ),
                Table::Attempts => {
                    self.execute("UPDATE attempts SET copied = max(copied, ?2) WHERE id = ?1", params![id, revision])
                }
                Table::Evidence => self.execute("UPDATE evidence SET copied = 1 WHERE id = ?", params![id]),
                Table::Events => self.execute("UPDATE events SET copied = 1 WHERE id = ?", params![id]),
            }?;
        }
        Ok(())
    }

    /// Forgets closed incidents that are too old or too many, the oldest first.
    pub(super) fn prune(&self, keep: &Keep, now: Timestamp, copies_wanted: bool) -> Result<(), JournalError> {
        self.execute(
            &format!(
                "DELETE FROM incidents WHERE id IN (
                     SELECT id FROM incidents WHERE state = 'closed' AND (NOT ?1 OR ({COPIED})) AND (closed_at <= ?2 OR id IN (
                         SELECT id FROM incidents WHERE state = 'closed' ORDER BY closed_at DESC, id DESC LIMIT -1 OFFSET ?3))
                     ORDER BY closed_at, id LIMIT ?4)"
            ),
            params![
                copies_wanted,
                now.as_millisecond().saturating_sub(keep.millis),
                keep.closed,
                keep.forgotten_at_once
            ],
        )?;
        // What belongs to them and goes with them is not counted.
        let forgotten = i64::try_from(self.connection.changes()).unwrap_or(i64::MAX);
        let closed = self.count("SELECT count(*) FROM incidents WHERE state = 'closed'", [])?;
        let excess = (closed - keep.closed_at_all).min(keep.forgotten_at_once - forgotten);
        if excess <= 0 {
            return Ok(());
        }
        const OLDEST: &str = "SELECT id FROM incidents WHERE state = 'closed' ORDER BY closed_at, id LIMIT ?1";
        let lost = format!("SELECT count(*) FROM incidents WHERE id IN ({OLDEST}) AND NOT ({COPIED})");
        let lost = self.count(&lost, params![excess])?;
        if copies_wanted && lost > 0 {
            tracing::warn!(
                "{lost} closed incidents are forgotten before postgres has them: the journal keeps {} of them at most",
                keep.closed_at_all
            );
        }
        self.execute(&format!("DELETE FROM incidents WHERE id IN ({OLDEST})"), params![excess])
    }

    fn count(&self, sql: &str, values: impl rusqlite::Params) -> Result<i64, JournalError> {
        self.connection
            .prepare_cached(sql)
            .and_then(|mut statement| statement.query_row(values, |row| row.get(0)))
            .map_err(JournalError::Write)
    }
}

/// Nanoseconds: a run of a container is known by its start time, and two of them may lie close together.
fn nanos(at: Timestamp) -> i64 {
    i64::try_from(at.as_nanosecond()).unwrap_or(i64::MAX)
}

pub(super) fn stopper_name(stopper: Stopper) -> &'static str {
    match stopper {
        Stopper::Itself => "itself",
        Stopper::Requested => "requested",
        Stopper::Engine => "engine",
    }
}

/// No project and no service has an empty name.
fn named(name: &Option<String>) -> &str {
    name.as_deref().unwrap_or_default()
}

fn json<T: serde::Serialize>(value: &T) -> Result<String, JournalError> {
    serde_json::to_string(value).map_err(JournalError::Encode)
}

/// Transactions by hand: the thread holds one connection, and one transaction serves many requests.
impl Store {
    pub(super) fn begin(&self) -> Result<(), rusqlite::Error> {
        // IMMEDIATE: whether the file can be written is known at once.
        self.connection.execute_batch("BEGIN IMMEDIATE")
    }

    pub(super) fn commit(&self) -> Result<(), rusqlite::Error> {
        crate::fault::slow_disk();
        crate::fault::point("commit-begun");
        self.connection.execute_batch("COMMIT").inspect_err(|_| {
            // Some failures have rolled back already; then this says so and changes nothing.
            _ = self.connection.execute_batch("ROLLBACK");
        })?;
        crate::fault::point("commit-done");
        Ok(())
    }

    pub(super) fn savepoint(&self, work: impl FnOnce() -> Result<(), JournalError>) -> Result<(), JournalError> {
        self.connection.execute_batch("SAVEPOINT one").map_err(JournalError::Write)?;
        let result = work();
        let end = if result.is_ok() { "RELEASE one" } else { "ROLLBACK TO one; RELEASE one" };
        let ended = self.connection.execute_batch(end).map_err(JournalError::Write);
        // The first thing that went wrong is the one to tell.
        result.and(ended)
    }

    /// Whether SQLite has ended the transaction by itself (<https://www.sqlite.org/c3ref/get_autocommit.html>).
    pub(super) fn rolled_back(&self) -> bool {
        self.connection.is_autocommit()
    }

    pub(super) fn close(self) -> Result<(), rusqlite::Error> {
        // Fold the log into the file, so that a copy of the one file is the whole journal.
        self.connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
        self.connection.close().map_err(|(_, error)| error)
    }
}
