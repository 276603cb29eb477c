//! What the healer notes for its next start, one small text a name.

use rusqlite::{OptionalExtension, params};
use serde::{Serialize, de::DeserializeOwned};

use super::{JournalError, store::Store};

/// A note larger than this is not one.
const MAX_BYTES: usize = 256 * 1024;

/// What may be noted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Memo {
    /// That healing is on hold for the whole host: see [`crate::hold`].
    Hold,
    /// The policy that was in force last: see [`crate::reload`].
    Policy,
    /// The silences that Alertmanager told last: see [`crate::silences`].
    Silences,
    /// The containers whose probes have been reached from here: see [`crate::probe::Probes`].
    Reached,
    /// When the healer ended without having found Docker again, which it had watched until it went: see [`crate::run`].
    DockerLost,
    /// What was told to Telegram directly: see [`crate::direct`].
    Told,
    /// The last scrape of a Prometheus that has not come since: see [`crate::scrapes`].
    Unscraped,
}

impl Memo {
    fn name(self) -> &'static str {
        match self {
            Memo::Hold => "hold",
            Memo::Policy => "policy",
            Memo::Silences => "silences",
            Memo::Reached => "reached",
            Memo::DockerLost => "docker_lost",
            Memo::Told => "told",
            Memo::Unscraped => "unscraped",
        }
    }
}

impl Store {
    /// `None` forgets it.
    pub(super) fn put_memo(&self, memo: Memo, body: Option<&str>) -> Result<(), JournalError> {
        match body {
            Some(body) if body.len() > MAX_BYTES => {
                Err(JournalError::Row(format!("a note of {} bytes is too large", body.len())))
            }
            Some(body) => {
                self.execute("INSERT OR REPLACE INTO memos (name, body) VALUES (?, ?)", params![memo.name(), body])
            }
            None => self.execute("DELETE FROM memos WHERE name = ?", params![memo.name()]),
        }
    }

    /// What was noted. What can't be read any more, since another healer wrote it, is as good as nothing.
    pub fn memo<T: DeserializeOwned>(&self, memo: Memo) -> Result<Option<T>, JournalError> {
        let found: Option<String> = self
            .connection
            .query_row("SELECT body FROM memos WHERE name = ?", params![memo.name()], |row| row.get(0))
            .optional()
            .map_err(JournalError::Read)?;
        Ok(found.and_then(|body| serde_json::from_str(&body).ok()))
    }
}

/// The text of a note.
pub fn body<T: Serialize>(value: &T) -> Result<String, JournalError> {
    serde_json::to_string(value).map_err(JournalError::Encode)
}
