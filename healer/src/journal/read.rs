//! What is read from the journal.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_model::{
    Attempt, Evidence, Incident, IncidentEvent, IncidentState, Now,
    api::{IncidentDetail, SelfTest},
    shadow::{self, Story},
};
use rusqlite::{OptionalExtension, Row, params};
use serde::de::DeserializeOwned;
use uuid::Uuid;

use super::{
    JournalError,
    store::{Prompt, Store, Table, Waiting},
};
use crate::{
    budget::{DAY, Restart},
    case::{Case, Memory, Try, TryMemory},
    facts::{Stopper, Stops},
    modes::Switches,
    pauses::{Covers, Pauses},
    relief,
    shadow::Ledger,
};

/// Incidents that one answer of the API holds at most.
pub const MAX_LISTED: u32 = 1000;

/// Which incidents are wanted.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    pub project: Option<String>,
    pub service: Option<String>,
    pub state: Option<IncidentState>,
    pub limit: Option<u32>,
}

/// A row that waits to be copied.
#[derive(Clone, Debug, PartialEq)]
pub struct Pending {
    pub id: String,
    pub revision: i64,
    /// The model's row as JSON.
    pub row: String,
}

impl Store {
    /// The open incidents, with their attempts.
    pub fn open_cases(&self) -> Result<Vec<Case>, JournalError> {
        let rows: Vec<(String, String)> = self.query(
            "SELECT row, memory FROM incidents WHERE state <> 'closed' ORDER BY opened_at, id",
            [],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        rows.into_iter()
            .map(|(row, memory)| {
                let incident: Incident = decode(&row)?;
                let attempts = self.attempts(incident.id)?;
                Ok(Case { incident, attempts, memory: decode(&memory)? })
            })
            .collect()
    }

    fn attempts(&self, incident: Uuid) -> Result<Vec<Try>, JournalError> {
        let rows: Vec<(String, String)> = self.query(
            "SELECT row, memory FROM attempts WHERE incident_id = ? ORDER BY number",
            params![incident.to_string()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        rows.into_iter().map(|(row, memory)| Ok(Try { attempt: decode(&row)?, memory: decode(&memory)? })).collect()
    }

    /// The newest restarts, as far as they still count, oldest first, of open and closed incidents alike.
    pub fn recent_restarts(&self, limit: u32, now: &Now) -> Result<Vec<Restart>, JournalError> {
        let rows: Vec<(String, String)> =
            // What was done for the machine is no restart of a service.
            self.query(
                "SELECT row, memory FROM attempts
                 WHERE incident_id IN (SELECT id FROM incidents WHERE project <> ?2) ORDER BY rowid DESC LIMIT ?1",
                params![limit, relief::PROJECT],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )?;
        // Open incidents to which their owner gave a fresh budget.
        let fresh: Vec<Case> = self.open_cases()?.into_iter().filter(|case| case.memory.forgiven).collect();
        let mut restarts = Vec::new();
        for (row, memory) in rows.iter().rev() {
            let intended = decode::<TryMemory>(memory)?.intended;
            if now.since(&intended) < DAY {
                let attempt: Attempt = decode(row)?;
                let mut restart = Restart::new(&attempt.container_id, intended);
                // All that was spent on their containers before: in the incident itself, and in those that were over by then.
                let is_before = |case: &Case| {
                    case.memory.containers.contains(&attempt.container_id)
                        && (attempt.incident_id != case.incident.id || attempt.number <= case.memory.budget_from)
                };
                if fresh.iter().any(is_before) {
                    restart.forgive();
                }
                restarts.push(restart);
            }
        }
        let Some(oldest) = restarts.iter().map(|restart| restart.intended.wall).min() else { return Ok(restarts) };
        let closed: Vec<(String, String)> = self.query(
            "SELECT row, memory FROM incidents WHERE state = 'closed' AND closed_at >= ?",
            params![oldest.as_millisecond()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        for (row, memory) in closed {
            let (incident, memory): (Incident, Memory) = (decode(&row)?, decode(&memory)?);
            let Some(closed_at) = incident.closed_at else { continue };
            for restart in restarts.iter_mut().filter(|restart| restart.intended.wall <= closed_at) {
                restart.close(&incident, &memory);
            }
        }
        Ok(restarts)
    }

    /// The would-be restarts of the incidents that were closed within a day.
    pub fn would_be_restarts(&self, now: &Now) -> Result<Ledger, JournalError> {
        let from = now.wall.checked_sub(DAY).unwrap_or(Timestamp::MIN);
        let closed: Vec<(String, String)> = self.query(
            "SELECT row, memory FROM incidents WHERE state = 'closed' AND closed_at >= ? ORDER BY closed_at, id",
            params![from.as_millisecond()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?;
        let mut ledger = Ledger::default();
        for (row, memory) in closed {
            ledger.close(&decode(&row)?, &decode(&memory)?, now);
        }
        Ok(ledger)
    }

    /// Incidents of services that were only watched and that were open at some time since then, newest first, with the lines
    /// that their record is counted from.
    pub fn stories(&self, since: Timestamp, filter: &Filter) -> Result<Vec<Story>, JournalError> {
        let rows: Vec<String> = self.query(
            "SELECT row FROM incidents
             WHERE (closed_at IS NULL OR closed_at >= ?1) AND project <> ?2
               AND (?3 IS NULL OR project = ?3) AND (?4 IS NULL OR service = ?4)
               AND (row ->> '$.mode' = 'shadow' OR coalesce(json_array_length(memory, '$.shadow.made'), 0) > 0)
             ORDER BY opened_at DESC, id DESC LIMIT ?5",
            params![
                since.as_millisecond(),
                relief::PROJECT,
                filter.project,
                filter.service,
                filter.limit.unwrap_or(MAX_LISTED).min(MAX_LISTED),
            ],
            |row| row.get(0),
        )?;
        let kinds = serde_json::to_string(&shadow::COUNTED).map_err(JournalError::Encode)?;
        let story = |row: &String| {
            let incident: Incident = decode(row)?;
            let lines: Vec<String> = self.query(
                "SELECT row FROM events WHERE incident_id = ?1
                 AND row ->> '$.kind' IN (SELECT value FROM json_each(?2)) ORDER BY seq",
                params![incident.id.to_string(), kinds],
                |row| row.get(0),
            )?;
            let events = lines.iter().map(|line| decode(line)).collect::<Result<_, _>>()?;
            Ok(Story { incident, events })
        };
        rows.iter().map(story).collect()
    }

    /// When the newest act of a kind was intended, of open and closed incidents alike.
    pub fn last_attempt(&self, action: &str) -> Result<Option<Now>, JournalError> {
        let newest: Vec<String> = self.query(
            "SELECT memory FROM attempts WHERE json_extract(row, '$.action') = ? ORDER BY rowid DESC LIMIT 1",
            params![action],
            |row| row.get(0),
        )?;
        newest.first().map(|memory| Ok(decode::<TryMemory>(memory)?.intended)).transpose()
    }

    /// Alerts that wait to be looked into, oldest first.
    pub fn prompts(&self) -> Result<Vec<Waiting>, JournalError> {
        self.query("SELECT seq, project, service, alert, received_at FROM prompts ORDER BY seq", [], |row| {
            let prompt =
                Prompt { project: row.get(1)?, service: row.get(2)?, alert: row.get(3)?, received_at: millis(row, 4)? };
            Ok(Waiting { seq: row.get(0)?, prompt })
        })
    }

    pub fn stops(&self) -> Result<Stops, JournalError> {
        let rows = self.query("SELECT container_id, started_at, stopper FROM stops", [], |row| {
            let started_at: Option<i64> = row.get(1)?;
            let started_at = started_at.and_then(|at| Timestamp::from_nanosecond(i128::from(at)).ok());
            let stopper: String = row.get(2)?;
            let stopper = match stopper.as_str() {
                "itself" => Stopper::Itself,
                "engine" => Stopper::Engine,
                _ => Stopper::Requested,
            };
            Ok((row.get::<_, String>(0)?, (started_at, stopper)))
        })?;
        Ok(rows.into_iter().collect::<BTreeMap<_, _>>())
    }

    pub fn switches(&self) -> Result<Switches, JournalError> {
        let rows: Vec<(String, String, String)> =
            self.query("SELECT project, service, mode FROM switches", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let mut switches = Switches::default();
        for (project, service, mode) in rows {
            let mode = mode.parse().map_err(|_| JournalError::Row(format!("unknown mode {mode}")))?;
            switches.set(&project, (!service.is_empty()).then_some(&service), Some(mode));
        }
        Ok(switches)
    }

    pub fn pauses(&self) -> Result<Pauses, JournalError> {
        let rows: Vec<(String, String, String)> =
            self.query("SELECT project, service, row FROM pauses", [], |row| {
                Ok((row.get(0)?, row.get(1)?, row.get(2)?))
            })?;
        let name = |name: String| (!name.is_empty()).then_some(name);
        let read = |(project, service, row): (String, String, String)| {
            Ok((Covers { project: name(project), service: name(service) }, decode(&row)?))
        };
        rows.into_iter().map(read).collect::<Result<_, _>>().map(Pauses)
    }

    pub fn selftest(&self, nonce: &str) -> Result<Option<SelfTest>, JournalError> {
        let mut found =
            self.query("SELECT nonce, received_at FROM selftests WHERE nonce = ?", params![nonce], |row| {
                Ok(SelfTest { nonce: row.get(0)?, received_at: millis(row, 1)? })
            })?;
        Ok(found.pop())
    }

    /// Newest first.
    pub fn incidents(&self, filter: &Filter) -> Result<Vec<Incident>, JournalError> {
        let rows = self.query(
            "SELECT row, CASE WHEN copied >= revision THEN recorded_at END FROM incidents
             WHERE (?1 IS NULL OR project = ?1) AND (?2 IS NULL OR service = ?2) AND (?3 IS NULL OR state = ?3)
             ORDER BY opened_at DESC, id DESC LIMIT ?4",
            params![
                filter.project,
                filter.service,
                filter.state.map(IncidentState::as_str),
                filter.limit.unwrap_or(100).min(MAX_LISTED),
            ],
            incident_row,
        )?;
        rows.into_iter().map(with_recorded_at).collect()
    }

    pub fn incident(&self, id: Uuid) -> Result<Option<IncidentDetail>, JournalError> {
        let found = self
            .connection
            .query_row(
                "SELECT row, CASE WHEN copied >= revision THEN recorded_at END FROM incidents WHERE id = ?",
                params![id.to_string()],
                incident_row,
            )
            .optional()
            .map_err(JournalError::Read)?;
        let Some(found) = found else { return Ok(None) };
        Ok(Some(IncidentDetail {
            incident: with_recorded_at(found)?,
            attempts: self.attempts(id)?.into_iter().map(|attempt| attempt.attempt).collect(),
            evidence: self.children::<Evidence>("SELECT row FROM evidence WHERE incident_id = ? ORDER BY seq", id)?,
            events: self.children::<IncidentEvent>("SELECT row FROM events WHERE incident_id = ? ORDER BY seq", id)?,
        }))
    }

    fn children<T: DeserializeOwned>(&self, sql: &str, incident: Uuid) -> Result<Vec<T>, JournalError> {
        let rows: Vec<String> = self.query(sql, params![incident.to_string()], |row| row.get(0))?;
        rows.iter().map(|row| decode(row)).collect()
    }

    /// The next rows of a table to copy, oldest first. A row comes only when those that it points to are copied.
    pub fn pending(&self, table: Table, limit: u32) -> Result<Vec<Pending>, JournalError> {
        let sql = match table {
            Table::Incidents => "SELECT id, revision, row FROM incidents WHERE copied < revision ORDER BY id LIMIT ?",
            Table::Attempts => {
                "SELECT a.id, a.revision, a.row FROM attempts a JOIN incidents i ON i.id = a.incident_id
                 WHERE a.copied < a.revision AND i.copied > 0 ORDER BY a.id LIMIT ?"
            }
            Table::Evidence => {
                "SELECT e.id, 1, e.row FROM evidence e JOIN incidents i ON i.id = e.incident_id
                 LEFT JOIN attempts a ON a.id = e.attempt_id
                 WHERE e.copied = 0 AND i.copied > 0 AND (a.id IS NULL OR a.copied > 0) ORDER BY e.seq LIMIT ?"
            }
            Table::Events => {
                "SELECT v.id, 1, v.row FROM events v JOIN incidents i ON i.id = v.incident_id
                 WHERE v.copied = 0 AND i.copied > 0 ORDER BY v.seq LIMIT ?"
            }
        };
        self.query(sql, params![limit], |row| Ok(Pending { id: row.get(0)?, revision: row.get(1)?, row: row.get(2)? }))
    }

    /// Rows that wait to be copied, of all tables.
    pub fn pending_count(&self) -> Result<u64, JournalError> {
        self.connection
            .prepare_cached(
                "SELECT (SELECT count(*) FROM incidents WHERE copied < revision)
                      + (SELECT count(*) FROM attempts WHERE copied < revision)
                      + (SELECT count(*) FROM evidence WHERE copied = 0)
                      + (SELECT count(*) FROM events WHERE copied = 0)",
            )
            .and_then(|mut statement| statement.query_row([], |row| row.get::<_, i64>(0)))
            .map(|count| count.max(0) as u64)
            .map_err(JournalError::Read)
    }

    fn query<T>(
        &self,
        sql: &str,
        values: impl rusqlite::Params,
        read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
    ) -> Result<Vec<T>, JournalError> {
        let mut statement = self.connection.prepare_cached(sql).map_err(JournalError::Read)?;
        let rows = statement.query_map(values, read).map_err(JournalError::Read)?;
        rows.collect::<rusqlite::Result<_>>().map_err(JournalError::Read)
    }
}

fn incident_row(row: &Row<'_>) -> rusqlite::Result<(String, Option<i64>)> {
    Ok((row.get(0)?, row.get(1)?))
}

fn with_recorded_at((row, recorded_at): (String, Option<i64>)) -> Result<Incident, JournalError> {
    let mut incident: Incident = decode(&row)?;
    incident.recorded_at = recorded_at.and_then(|at| Timestamp::from_millisecond(at).ok());
    Ok(incident)
}

fn millis(row: &Row<'_>, index: usize) -> rusqlite::Result<Timestamp> {
    Ok(Timestamp::from_millisecond(row.get(index)?).unwrap_or(Timestamp::UNIX_EPOCH))
}

fn decode<T: DeserializeOwned>(json: &str) -> Result<T, JournalError> {
    serde_json::from_str(json).map_err(|error| JournalError::Row(error.to_string()))
}
