//! Writing to Postgres. A batch is one transaction that also moves the progress, so that it is there as a whole or not at all,
//! and whoever is killed in between begins it anew.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{
    Client, GenericClient, Transaction,
    types::{ToSql, Type},
};

use super::{
    batch::{Batch, Medium, MountKey, Row, Samples, ServiceKey},
    columns::{Kind, Table},
    window::{STEP, Window},
};
use crate::fault;

/// Rows of one statement: what they take in memory on both sides stays below half a megabyte. Six hours of 30 services are 2,160.
const ROWS_AT_ONCE: usize = 2_200;
/// When a subject was last seen is written this often: an update an hour would cost a page each.
const SEEN_EVERY: SignedDuration = SignedDuration::from_hours(24);
/// Partitions are there this long before they are needed.
const AHEAD: SignedDuration = SignedDuration::from_hours(14 * 24);

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Task {
    Collect,
    RollUp,
}

impl Task {
    pub fn as_str(self) -> &'static str {
        match self {
            Task::Collect => "collect",
            Task::RollUp => "roll_up",
        }
    }
}

/// Progress as it is stored, and the time of Postgres.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    pub collected: Option<i64>,
    pub rolled_up: Option<i64>,
    pub now: i64,
}

/// Rows that were new.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    pub hosts: u64,
    pub mounts: u64,
    pub services: u64,
}

impl Written {
    pub fn sum(self) -> u64 {
        self.hosts + self.mounts + self.services
    }
}

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

pub(super) fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap_or(Timestamp::MAX)
}

pub async fn progress(client: &impl GenericClient) -> Result<Progress> {
    let row = client
        .query_one(
            "SELECT (SELECT through FROM history.progress WHERE task = 'collect'),
                    (SELECT through FROM history.progress WHERE task = 'roll_up'), now()",
            &[],
        )
        .await?;
    let seconds = |at: Option<Timestamp>| at.map(|at| at.as_second());
    Ok(Progress {
        collected: seconds(row.try_get(0)?),
        rolled_up: seconds(row.try_get(1)?),
        now: row.try_get::<_, Timestamp>(2)?.as_second(),
    })
}

pub async fn move_progress(client: &impl GenericClient, task: Task, through: i64) -> Result<()> {
    let sql = "INSERT INTO history.progress (task, through) VALUES ($1, $2)
               ON CONFLICT (task) DO UPDATE SET through = excluded.through, updated_at = now()";
    client.execute(sql, &[&task.as_str(), &time(through)]).await.map(drop)
}

/// Makes the partitions for rows from `first` to `last` and a while after.
pub async fn make_partitions(client: &impl GenericClient, first: i64, last: i64) -> Result<i32> {
    let last = time(last).checked_add(AHEAD).unwrap_or(Timestamp::MAX);
    let sql = "SELECT history.make_partitions($1, $2)";
    client.query_one(sql, &[&time(first), &last]).await?.try_get(0)
}

/// Keys of the subjects, as far as they are known.
#[derive(Debug, Default)]
pub struct Subjects {
    hosts: HashMap<String, Known>,
    mounts: HashMap<MountKey, Known>,
    media: HashMap<MountKey, Medium>,
    services: HashMap<ServiceKey, Known>,
}

#[derive(Clone, Copy, Debug)]
struct Known {
    id: i32,
    last_seen: Timestamp,
}

impl Subjects {
    pub async fn load(client: &impl GenericClient) -> Result<Self> {
        let mut all = Self::default();
        let known = |row: &tokio_postgres::Row| -> Result<Known> {
            Ok(Known { id: row.try_get(0)?, last_seen: row.try_get(1)? })
        };
        for row in client.query("SELECT id, last_seen_at, name FROM history.hosts", &[]).await? {
            all.hosts.insert(row.try_get(2)?, known(&row)?);
        }
        let sql = "SELECT s.id, s.last_seen_at, h.name, project, service FROM history.services s \
                   JOIN history.hosts h ON h.id = host_id";
        for row in client.query(sql, &[]).await? {
            let key = ServiceKey { host: row.try_get(2)?, project: row.try_get(3)?, service: row.try_get(4)? };
            all.services.insert(key, known(&row)?);
        }
        let sql = "SELECT m.id, m.last_seen_at, h.name, mountpoint, device, fstype FROM history.mounts m \
                   JOIN history.hosts h ON h.id = host_id";
        for row in client.query(sql, &[]).await? {
            let key = MountKey { host: row.try_get(2)?, mountpoint: row.try_get(3)? };
            all.media.insert(key.clone(), Medium { device: row.try_get(4)?, fstype: row.try_get(5)? });
            all.mounts.insert(key, known(&row)?);
        }
        Ok(all)
    }

    /// The key of a host; made when it is new.
    async fn host(
        &mut self,
        client: &impl GenericClient,
        name: &str,
        first: Timestamp,
        last: Timestamp,
    ) -> Result<i32> {
        let known = self.hosts.get(name).copied();
        if let Some(known) = known.filter(|known| is_fresh(known.last_seen, last)) {
            return Ok(known.id);
        }
        let sql = "INSERT INTO history.hosts (name, first_seen_at, last_seen_at) VALUES ($1, $2, $3)
                   ON CONFLICT (name) DO UPDATE SET
                       first_seen_at = least(hosts.first_seen_at, excluded.first_seen_at),
                       last_seen_at = greatest(hosts.last_seen_at, excluded.last_seen_at)
                   RETURNING id";
        let id = client.query_one(sql, &[&name, &first, &last]).await?.try_get(0)?;
        self.hosts.insert(name.to_owned(), Known { id, last_seen: last });
        Ok(id)
    }

    async fn service(
        &mut self,
        client: &impl GenericClient,
        key: &ServiceKey,
        first: Timestamp,
        last: Timestamp,
    ) -> Result<i32> {
        if let Some(known) = self.services.get(key).filter(|known| is_fresh(known.last_seen, last)) {
            return Ok(known.id);
        }
        let host = self.host(client, &key.host, first, last).await?;
        let sql = "INSERT INTO history.services (host_id, project, service, first_seen_at, last_seen_at)
                   VALUES ($1, $2, $3, $4, $5)
                   ON CONFLICT (host_id, project, service) DO UPDATE SET
                       first_seen_at = least(services.first_seen_at, excluded.first_seen_at),
                       last_seen_at = greatest(services.last_seen_at, excluded.last_seen_at)
                   RETURNING id";
        let id = client.query_one(sql, &[&host, &key.project, &key.service, &first, &last]).await?.try_get(0)?;
        self.services.insert(key.clone(), Known { id, last_seen: last });
        Ok(id)
    }

    async fn mount(
        &mut self,
        client: &impl GenericClient,
        key: &MountKey,
        medium: &Medium,
        first: Timestamp,
        last: Timestamp,
    ) -> Result<i32> {
        if let Some(known) = self.mounts.get(key).filter(|known| is_fresh(known.last_seen, last))
            && self.media.get(key) == Some(medium)
        {
            return Ok(known.id);
        }
        let host = self.host(client, &key.host, first, last).await?;
        let sql = "INSERT INTO history.mounts (host_id, mountpoint, device, fstype, first_seen_at, last_seen_at)
                   VALUES ($1, $2, $3, $4, $5, $6)
                   ON CONFLICT (host_id, mountpoint) DO UPDATE SET
                       device = excluded.device, fstype = excluded.fstype,
                       first_seen_at = least(mounts.first_seen_at, excluded.first_seen_at),
                       last_seen_at = greatest(mounts.last_seen_at, excluded.last_seen_at)
                   RETURNING id";
        let parameters: [&(dyn ToSql + Sync); 6] =
            [&host, &key.mountpoint, &medium.device, &medium.fstype, &first, &last];
        let id = client.query_one(sql, &parameters).await?.try_get(0)?;
        self.mounts.insert(key.clone(), Known { id, last_seen: last });
        self.media.insert(key.clone(), medium.clone());
        Ok(id)
    }
}

fn is_fresh(last_seen: Timestamp, at: Timestamp) -> bool {
    at.duration_since(last_seen) < SEEN_EVERY
}

/// Writes a batch and how far it reaches. What is there already stays as it is.
pub async fn write(client: &mut Client, subjects: &mut Subjects, batch: &Batch, through: i64) -> Result<Written> {
    let transaction = client.transaction().await?;
    let written = rows(&transaction, subjects, batch).await?;
    move_progress(&transaction, Task::Collect, through).await?;
    fault::point("batch-not-committed");
    transaction.commit().await?;
    fault::point("batch-committed");
    Ok(written)
}

async fn rows(transaction: &Transaction<'_>, subjects: &mut Subjects, batch: &Batch) -> Result<Written> {
    let mut written = Written::default();

    let mut insert = Insert::prepare(transaction, &batch.hosts).await?;
    for (key, rows) in batch.hosts.rows() {
        let Some((rows, first, last)) = some(rows) else { continue };
        let id = subjects.host(transaction, key, first, last).await?;
        written.hosts += insert.add(transaction, id, rows).await?;
    }
    written.hosts += insert.flush(transaction).await?;
    fault::point("batch-begun");

    let mut insert = Insert::prepare(transaction, &batch.mounts).await?;
    for (key, rows) in batch.mounts.rows() {
        let Some((rows, first, last)) = some(rows) else { continue };
        let medium = batch.media.get(key).cloned().unwrap_or_default();
        let id = subjects.mount(transaction, key, &medium, first, last).await?;
        written.mounts += insert.add(transaction, id, rows).await?;
    }
    written.mounts += insert.flush(transaction).await?;

    let mut insert = Insert::prepare(transaction, &batch.services).await?;
    for (key, rows) in batch.services.rows() {
        let Some((rows, first, last)) = some(rows) else { continue };
        let id = subjects.service(transaction, key, first, last).await?;
        written.services += insert.add(transaction, id, rows).await?;
    }
    written.services += insert.flush(transaction).await?;
    Ok(written)
}

/// The rows of a subject with the times of the first and the last one; `None` without any.
fn some<'a>(rows: impl Iterator<Item = Row<'a>>) -> Option<(Vec<Row<'a>>, Timestamp, Timestamp)> {
    let rows: Vec<_> = rows.collect();
    let (first, last) = (time(rows.first()?.at), time(rows.last()?.at));
    Some((rows, first, last))
}

/// Rows that wait to be sent, a column an array.
struct Insert {
    statement: Option<tokio_postgres::Statement>,
    at: Vec<Timestamp>,
    subject: Vec<i32>,
    columns: Vec<Values>,
}

enum Values {
    Bytes(Vec<Option<i64>>),
    Real(Vec<Option<f32>>),
    Count(Vec<Option<i16>>),
}

impl Values {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Bytes => Values::Bytes(Vec::new()),
            Kind::Ratio | Kind::Number | Kind::Degrees => Values::Real(Vec::new()),
            Kind::Count => Values::Count(Vec::new()),
        }
    }

    fn push(&mut self, value: Option<f64>) {
        match self {
            Values::Bytes(all) => all.push(value.map(|value| value as i64)),
            Values::Real(all) => all.push(value.map(|value| value as f32)),
            Values::Count(all) => all.push(value.map(|value| value as i16)),
        }
    }

    fn clear(&mut self) {
        match self {
            Values::Bytes(all) => all.clear(),
            Values::Real(all) => all.clear(),
            Values::Count(all) => all.clear(),
        }
    }

    fn parameter(&self) -> &(dyn ToSql + Sync) {
        match self {
            Values::Bytes(all) => all,
            Values::Real(all) => all,
            Values::Count(all) => all,
        }
    }
}

impl Insert {
    async fn prepare<K: Ord>(transaction: &Transaction<'_>, samples: &Samples<K>) -> Result<Self> {
        let table: &Table = samples.table();
        let statement = match samples.subjects() {
            0 => None,
            _ => Some(transaction.prepare(&table.insert()).await?),
        };
        let columns = table.columns.iter().map(|column| Values::new(column.kind)).collect();
        Ok(Self { statement, at: Vec::new(), subject: Vec::new(), columns })
    }

    async fn add(&mut self, transaction: &Transaction<'_>, subject: i32, rows: Vec<Row<'_>>) -> Result<u64> {
        let mut written = 0;
        for row in rows {
            self.at.push(time(row.at));
            self.subject.push(subject);
            for (place, column) in self.columns.iter_mut().enumerate() {
                column.push(row.get(place));
            }
            if self.at.len() >= ROWS_AT_ONCE {
                written += self.flush(transaction).await?;
            }
        }
        Ok(written)
    }

    async fn flush(&mut self, transaction: &Transaction<'_>) -> Result<u64> {
        let Some(statement) = self.statement.as_ref().filter(|_| !self.at.is_empty()) else { return Ok(0) };
        let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![&self.at, &self.subject];
        parameters.extend(self.columns.iter().map(Values::parameter));
        let written = transaction.execute(statement, &parameters).await?;
        self.at.clear();
        self.subject.clear();
        self.columns.iter_mut().for_each(Values::clear);
        Ok(written)
    }
}

/// The first step of the samples that are there.
pub async fn oldest_sample(client: &impl GenericClient) -> Result<Option<i64>> {
    let sql = "SELECT least((SELECT min(at) FROM history.host_samples), (SELECT min(at) FROM history.service_samples),
                            (SELECT min(at) FROM history.mount_samples))";
    let at: Option<Timestamp> = client.query_one(sql, &[]).await?.try_get(0)?;
    Ok(at.map(|at| at.as_second()))
}

/// Rolls the samples after `first` up to and including `last` up to hours, and moves the progress.
pub async fn roll_up(client: &mut Client, first: i64, last: i64) -> Result<u64> {
    let transaction = client.transaction().await?;
    let mut rows = 0;
    for table in [&super::columns::HOSTS, &super::columns::MOUNTS, &super::columns::SERVICES] {
        let statement = transaction.prepare_typed(&table.roll_up(), &[Type::TIMESTAMPTZ, Type::TIMESTAMPTZ]).await?;
        rows += transaction.execute(&statement, &[&time(first), &time(last)]).await?;
        fault::point("hours-begun");
    }
    move_progress(&transaction, Task::RollUp, last).await?;
    transaction.commit().await?;
    Ok(rows)
}

/// What a batch spans, for messages.
pub fn span(window: Window) -> String {
    format!("{} to {}", time(window.first - STEP), time(window.last))
}
