//! Connections to Postgres. Made for a task and closed after it: one that idles for an hour costs a Pi a process of Postgres.

use std::{path::PathBuf, time::Duration};

use nexus_web::{Secret, SecretError};
use tokio_postgres::{Client, Config, NoTls};

/// For connecting.
const DEADLINE: Duration = Duration::from_secs(20);
/// Postgres itself ends what takes longer, and what waits longer for a lock: nothing here takes a second.
const BOUNDS: &str =
    "-c statement_timeout=120s -c lock_timeout=15s -c idle_in_transaction_session_timeout=120s -c TimeZone=UTC";

/// The role that `nexus migrate` makes for questions in SQL.
const READER: &str = "nexus_reader";

#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    // The URL may hold a password, so it is not shown.
    #[error("--database.url is not understood; write it as postgres://USER@HOST/DATABASE")]
    Url(#[source] tokio_postgres::Error),
    #[error("reading the password for postgres")]
    Password(#[from] SecretError),
    #[error("connecting to postgres")]
    Connect(#[source] tokio_postgres::Error),
    #[error("postgres did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
}

/// Where the database is, and who asks.
#[derive(Clone, Debug)]
pub struct Database {
    config: Config,
    password_file: Option<PathBuf>,
}

impl Database {
    pub fn new(url: &str, password_file: Option<PathBuf>) -> Result<Self, DatabaseError> {
        let mut config: Config = url.parse().map_err(DatabaseError::Url)?;
        config.connect_timeout(DEADLINE).application_name("nexus-reporter").options(BOUNDS);
        // An empty path comes from a compose file that passes an empty setting.
        let password_file = password_file.filter(|path| !path.as_os_str().is_empty());
        Ok(Self { config, password_file })
    }

    /// The same database as the role `nexus_reader`, for questions in SQL: read-only, and bounded in time also where the role
    /// itself is not.
    pub fn reader(url: &str, password_file: PathBuf, time: Duration) -> Result<Self, DatabaseError> {
        let mut config: Config = url.parse().map_err(DatabaseError::Url)?;
        let bounds = format!(
            "-c default_transaction_read_only=on -c statement_timeout={} -c lock_timeout=2s \
             -c idle_in_transaction_session_timeout=30s -c client_connection_check_interval=2s -c work_mem=4MB \
             -c max_parallel_workers_per_gather=0 -c jit=off -c TimeZone=UTC -c DateStyle=ISO -c search_path=public",
            time.as_millis()
        );
        config.connect_timeout(DEADLINE).application_name("nexus-reporter query").options(bounds).user(READER);
        Ok(Self { config, password_file: Some(password_file) })
    }

    /// The password is read each time: it may have been changed, or have come late.
    pub async fn connect(&self) -> Result<Client, DatabaseError> {
        let mut config = self.config.clone();
        if let Some(path) = &self.password_file {
            config.password(Secret::read(path)?.expose());
        }
        let connecting = tokio::time::timeout(DEADLINE, config.connect(NoTls)).await;
        let (client, connection) = connecting.map_err(|_| DatabaseError::TimedOut)?.map_err(DatabaseError::Connect)?;
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(reason = %crate::errors::chain(&error), "the connection to postgres ended");
            }
        });
        Ok(client)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wrong_url_is_told_without_showing_it() {
        let error = Database::new("postgres://a:hush@:port/x", None).unwrap_err();
        assert!(!crate::errors::chain(&error).contains("hush"));
    }
}
