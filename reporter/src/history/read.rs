//! Reading the history: subjects, the newest samples, series. Names of tables and columns come from [`columns`], never from
//! who asks; what they ask for are parameters.

use jiff::{SignedDuration, Timestamp};
use tokio_postgres::{GenericClient, Row, types::ToSql};

use super::{
    columns::{Column, Figure, HOSTS, MOUNTS, SERVICES, Table},
    store,
    window::STEP,
};

/// A longer range is refused: there is no more than a year, and a partition more.
const LONGEST: SignedDuration = SignedDuration::from_hours(400 * 24);
/// Ranges up to this length are answered by five-minute samples (4,032 points), where they are kept.
const DETAIL_UP_TO: SignedDuration = SignedDuration::from_hours(14 * 24);
/// A sample that is older says nothing about how it is now.
const NEWEST_WITHIN: SignedDuration = SignedDuration::from_hours(24);
/// Of hosts, services or mounts: more than a handful of Pis has.
const MOST_SUBJECTS: i64 = 5_000;

#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    #[error("reading the history")]
    Postgres(#[from] tokio_postgres::Error),
    #[error("there is no figure {name:?} of {of}; there are: {known}")]
    UnknownMetric { name: String, of: &'static str, known: String },
    #[error("{name} is not kept by the hour; ask for steps below an hour")]
    NotHourly { name: &'static str },
    #[error("from {from} to {to} is no range of at most 400 days")]
    Range { from: Timestamp, to: Timestamp },
}

type Result<T> = std::result::Result<T, ReadError>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Host {
    pub id: i32,
    pub name: String,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Service {
    pub id: i32,
    pub host: String,
    /// Empty for a container outside Compose.
    pub project: String,
    pub service: String,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    pub id: i32,
    pub host: String,
    pub mountpoint: String,
    pub device: String,
    pub fstype: String,
    pub first_seen_at: Timestamp,
    pub last_seen_at: Timestamp,
}

/// What a series is of; the number is the subject's key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Subject {
    Host(i32),
    Mount(i32),
    Service(i32),
}

impl Subject {
    pub fn table(self) -> &'static Table {
        match self {
            Subject::Host(_) => &HOSTS,
            Subject::Mount(_) => &MOUNTS,
            Subject::Service(_) => &SERVICES,
        }
    }

    pub fn id(self) -> i32 {
        match self {
            Subject::Host(id) | Subject::Mount(id) | Subject::Service(id) => id,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// `at` is the end of the five minutes.
    FiveMinutes,
    /// `at` is the beginning of the hour.
    Hourly,
}

/// A point of a series. Of a five-minute sample there is the value alone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: Timestamp,
    /// The mean of an hour; the sum of what is counted; the most of what hardly changes.
    pub value: Option<f64>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    pub p95: Option<f64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub resolution: Resolution,
    pub points: Vec<Point>,
}

/// All figures of a subject at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub at: Timestamp,
    table: &'static Table,
    values: Vec<Option<f64>>,
}

impl Sample {
    /// A figure by the name of its column; `None` where it is missing, and where there is none of that name.
    pub fn get(&self, name: &str) -> Option<f64> {
        self.table.place(name).and_then(|place| self.values.get(place).copied()).flatten()
    }

    fn read(table: &'static Table, row: &Row, first: usize) -> std::result::Result<Self, tokio_postgres::Error> {
        let values = (first + 1..)
            .take(table.columns.len())
            .map(|place| row.try_get(place))
            .collect::<std::result::Result<_, _>>()?;
        Ok(Self { at: row.try_get(first)?, table, values })
    }
}

/// How far the history reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Reach {
    /// Everything up to then was fetched from Prometheus.
    pub collected_through: Option<Timestamp>,
    /// Hours up to then are made.
    pub rolled_up_through: Option<Timestamp>,
    pub first_hour: Option<Timestamp>,
}

pub async fn reach(client: &impl GenericClient) -> Result<Reach> {
    let sql = "SELECT (SELECT through FROM history.progress WHERE task = 'collect'),
                      (SELECT through FROM history.progress WHERE task = 'roll_up'),
                      (SELECT min(hour) FROM history.host_hours)";
    let row = client.query_one(sql, &[]).await?;
    Ok(Reach { collected_through: row.try_get(0)?, rolled_up_through: row.try_get(1)?, first_hour: row.try_get(2)? })
}

/// Since when there are five-minute samples of all that there is: for ever, when no hour is older than the first of them.
pub async fn detail_since(client: &impl GenericClient) -> Result<Timestamp> {
    let sql = "SELECT (SELECT min(at) FROM history.host_samples), (SELECT min(hour) FROM history.host_hours)";
    let row = client.query_one(sql, &[]).await?;
    let (sample, hour): (Option<Timestamp>, Option<Timestamp>) = (row.try_get(0)?, row.try_get(1)?);
    Ok(match (sample, hour) {
        (Some(sample), Some(hour)) if hour < sample => sample,
        (None, Some(_)) => Timestamp::MAX,
        _ => Timestamp::MIN,
    })
}

pub async fn hosts(client: &impl GenericClient) -> Result<Vec<Host>> {
    let sql = "SELECT id, name, first_seen_at, last_seen_at FROM history.hosts ORDER BY name LIMIT $1";
    let host = |row: &Row| {
        Ok(Host {
            id: row.try_get(0)?,
            name: row.try_get(1)?,
            first_seen_at: row.try_get(2)?,
            last_seen_at: row.try_get(3)?,
        })
    };
    client.query(sql, &[&MOST_SUBJECTS]).await?.iter().map(host).collect()
}

/// Services, of one host or of all.
pub async fn services(client: &impl GenericClient, host: Option<&str>) -> Result<Vec<Service>> {
    let sql = "SELECT s.id, h.name, project, service, s.first_seen_at, s.last_seen_at
               FROM history.services s JOIN history.hosts h ON h.id = host_id
               WHERE $1::text IS NULL OR h.name = $1 ORDER BY h.name, project, service LIMIT $2";
    let service = |row: &Row| {
        Ok(Service {
            id: row.try_get(0)?,
            host: row.try_get(1)?,
            project: row.try_get(2)?,
            service: row.try_get(3)?,
            first_seen_at: row.try_get(4)?,
            last_seen_at: row.try_get(5)?,
        })
    };
    client.query(sql, &[&host, &MOST_SUBJECTS]).await?.iter().map(service).collect()
}

/// File systems, of one host or of all.
pub async fn mounts(client: &impl GenericClient, host: Option<&str>) -> Result<Vec<Mount>> {
    let sql = "SELECT m.id, h.name, mountpoint, device, fstype, m.first_seen_at, m.last_seen_at
               FROM history.mounts m JOIN history.hosts h ON h.id = host_id
               WHERE $1::text IS NULL OR h.name = $1 ORDER BY h.name, mountpoint LIMIT $2";
    let mount = |row: &Row| {
        Ok(Mount {
            id: row.try_get(0)?,
            host: row.try_get(1)?,
            mountpoint: row.try_get(2)?,
            device: row.try_get(3)?,
            fstype: row.try_get(4)?,
            first_seen_at: row.try_get(5)?,
            last_seen_at: row.try_get(6)?,
        })
    };
    client.query(sql, &[&host, &MOST_SUBJECTS]).await?.iter().map(mount).collect()
}

/// The newest sample of the last day; `None` when there is none. Whatever a wrong clock wrote ahead of `now` is not looked at.
pub async fn latest(client: &impl GenericClient, subject: Subject, now: Timestamp) -> Result<Option<Sample>> {
    let table = subject.table();
    let since = now.checked_sub(NEWEST_WITHIN).unwrap_or(Timestamp::MIN);
    let sql = format!(
        "SELECT at, {} FROM {} WHERE {} = $1 AND at > $2 AND at <= $3 ORDER BY at DESC LIMIT 1",
        doubles(table),
        table.samples,
        table.key
    );
    let row = client.query_opt(&sql, &[&subject.id(), &since, &now]).await?;
    Ok(row.map(|row| Sample::read(table, &row, 0)).transpose()?)
}

/// The newest samples of all services of the last day, or of those of one host, with the service's key.
pub async fn latest_services(
    client: &impl GenericClient,
    host: Option<&str>,
    now: Timestamp,
) -> Result<Vec<(i32, Sample)>> {
    let since = now.checked_sub(NEWEST_WITHIN).unwrap_or(Timestamp::MIN);
    let sql = format!(
        "SELECT s.id, newest.* FROM history.services s JOIN history.hosts h ON h.id = s.host_id,
         LATERAL (SELECT at, {} FROM {} WHERE service_id = s.id AND at > $2 AND at <= $3 ORDER BY at DESC LIMIT 1) newest
         WHERE $1::text IS NULL OR h.name = $1 ORDER BY s.id LIMIT $4",
        doubles(&SERVICES),
        SERVICES.samples
    );
    let rows = client.query(&sql, &[&host, &since, &now, &MOST_SUBJECTS]).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, Sample::read(&SERVICES, row, 1)?))).collect()
}

fn doubles(table: &Table) -> String {
    let all: Vec<_> = table.columns.iter().map(|column| format!("{}::double precision", column.name)).collect();
    all.join(", ")
}

/// The figure of a name.
pub fn metric(table: &'static Table, name: &str) -> Result<&'static Column> {
    table.columns.iter().find(|column| column.name == name).ok_or_else(|| ReadError::UnknownMetric {
        name: name.chars().take(100).collect(),
        of: table.samples,
        known: table.columns.iter().map(|column| column.name).collect::<Vec<_>>().join(", "),
    })
}

/// The resolution that a range is answered in when nobody asks for another one: samples for two weeks, hours beyond, and for
/// times of which there are no samples any more.
pub fn resolution(from: Timestamp, to: Timestamp, now: Timestamp, detail_days: u32) -> Resolution {
    let kept = SignedDuration::from_hours(24 * i64::from(detail_days));
    if to.duration_since(from) <= DETAIL_UP_TO && now.duration_since(from) <= kept {
        Resolution::FiveMinutes
    } else {
        Resolution::Hourly
    }
}

/// A figure of a subject after `from` up to `to`. Hours that are not made yet are made of the samples that there are.
pub async fn series(
    client: &impl GenericClient,
    subject: Subject,
    name: &str,
    from: Timestamp,
    to: Timestamp,
    resolution: Resolution,
) -> Result<Series> {
    let table = subject.table();
    let column = metric(table, name)?;
    if from > to || to.duration_since(from) > LONGEST {
        return Err(ReadError::Range { from, to });
    }
    let points = match resolution {
        Resolution::FiveMinutes => samples(client, subject, column, from, to).await?,
        Resolution::Hourly => hours(client, subject, column, from, to).await?,
    };
    Ok(Series { resolution, points })
}

async fn samples(
    client: &impl GenericClient,
    subject: Subject,
    column: &Column,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Point>> {
    let Table { samples, key, .. } = subject.table();
    let sql = format!(
        "SELECT at, {}::double precision FROM {samples} WHERE {key} = $1 AND at > $2 AND at <= $3 ORDER BY at",
        column.name
    );
    let rows = client.query(&sql, &[&subject.id(), &from, &to]).await?;
    let point = |row: &Row| Ok(Point { at: row.try_get(0)?, value: row.try_get(1)?, min: None, max: None, p95: None });
    rows.iter().map(point).collect()
}

async fn hours(
    client: &impl GenericClient,
    subject: Subject,
    column: &'static Column,
    from: Timestamp,
    to: Timestamp,
) -> Result<Vec<Point>> {
    let Table { samples, hours, key, .. } = subject.table();
    let Some(value) = value_of(column) else { return Err(ReadError::NotHourly { name: column.name }) };
    let has = |figure: Figure| column.hourly.contains(&figure);
    let name = column.name;
    let made = |figure: Figure| {
        if has(figure) {
            format!("{name}{}::double precision", figure.suffix())
        } else {
            "NULL::double precision".into()
        }
    };
    let now = |figure: Figure| {
        let reckoned = match figure {
            Figure::Min => format!("min({name})"),
            Figure::Avg => format!("avg({name})"),
            Figure::Max | Figure::Most => format!("max({name})"),
            Figure::P95 => format!("percentile_cont(0.95) WITHIN GROUP (ORDER BY {name})"),
            Figure::Sum => format!("sum({name})"),
        };
        if has(figure) { format!("{reckoned}::double precision") } else { "NULL::double precision".into() }
    };
    let sql = format!(
        "SELECT hour, {}, {}, {}, {} FROM {hours} WHERE {key} = $1 AND hour >= $2 AND hour < $3 AND hour < $4
         UNION ALL
         SELECT date_trunc('hour', at - interval '5 minutes', 'UTC') AS hour, {}, {}, {}, {}
         FROM {samples} WHERE {key} = $1 AND at > greatest($2, $4) AND at <= $3 GROUP BY hour
         ORDER BY hour",
        made(value),
        made(Figure::Min),
        made(Figure::Max),
        made(Figure::P95),
        now(value),
        now(Figure::Min),
        now(Figure::Max),
        now(Figure::P95),
    );
    let progress = store::progress(client).await?;
    let rolled_up = progress.rolled_up.map_or(Timestamp::MIN, store::time);
    let rolled_up = rolled_up.max(Timestamp::UNIX_EPOCH);
    let parameters: [&(dyn ToSql + Sync); 4] = [&subject.id(), &from, &to, &rolled_up];
    let rows = client.query(&sql, &parameters).await?;
    let point = |row: &Row| {
        Ok(Point {
            at: row.try_get(0)?,
            value: row.try_get(1)?,
            min: row.try_get(2)?,
            max: row.try_get(3)?,
            p95: row.try_get(4)?,
        })
    };
    rows.iter().map(point).collect()
}

/// Which figure of an hour stands for it.
pub(super) fn value_of(column: &Column) -> Option<Figure> {
    [Figure::Avg, Figure::Sum, Figure::Most, Figure::Max].into_iter().find(|figure| column.hourly.contains(figure))
}

/// The end of the five minutes that `at` lies in.
pub fn step_of(at: Timestamp) -> Timestamp {
    let seconds = at.as_second();
    store::time((seconds + STEP - 1).div_euclid(STEP) * STEP)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_figures_are_told_with_those_there_are() {
        let said = metric(&MOUNTS, "x'; DROP TABLE").unwrap_err().to_string();
        assert!(said.contains("size_bytes, used_bytes"), "{said}");
    }

    #[test]
    fn short_ranges_are_in_detail_while_it_is_kept() {
        let at = |day: i64| Timestamp::from_second(1_800_000_000 + day * 86_400).unwrap();
        let check = |from: i64, to: i64, expected: Resolution| {
            assert_eq!(resolution(at(from), at(to), at(0), 90), expected, "{from} {to}");
        };
        check(-1, 0, Resolution::FiveMinutes);
        check(-14, 0, Resolution::FiveMinutes);
        check(-15, 0, Resolution::Hourly);
        check(-90, -80, Resolution::FiveMinutes);
        check(-91, -80, Resolution::Hourly);
    }

    #[test]
    fn every_figure_that_is_kept_by_the_hour_has_a_value() {
        for table in [&HOSTS, &MOUNTS, &SERVICES] {
            for column in table.columns {
                assert_eq!(value_of(column).is_some(), !column.hourly.is_empty(), "{}", column.name);
            }
        }
    }
}
