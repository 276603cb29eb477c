//! What the history in Postgres says of a host by the hour, as plain data for [`baseline`](crate::baseline) and
//! [`capacity`](crate::capacity). The only place of theirs that asks the database: parameters only, and a limit on every answer.
//!
//! Hours that are rolled up are read as they are; those that aren't yet are made here from the five-minute samples.

use futures_util::{StreamExt, pin_mut};
use jiff::{SignedDuration, Timestamp};
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Row};

/// A year of hours and a day more.
const MOST_HOURS: i64 = 367 * 24;

/// More services or file systems no answer could show.
const MOST_SUBJECTS: i64 = 1000;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum UsageError {
    #[error("there is no host {host:?} in the history: {}", list(known))]
    UnknownHost { host: String, known: Vec<String> },
    #[error("cannot read the usage of {what}")]
    Database {
        what: &'static str,
        #[source]
        source: tokio_postgres::Error,
    },
}

fn list(known: &[String]) -> String {
    match known {
        [] => "it knows none yet; the first hour is written within an hour of the start".to_owned(),
        known => format!("it knows {}", known.join(", ")),
    }
}

fn failed(what: &'static str) -> impl Fn(tokio_postgres::Error) -> UsageError {
    move |source| UsageError::Database { what, source }
}

/// An hour of a host; what could not be measured is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HostHour {
    pub at: Timestamp,
    pub cpu_count: Option<f64>,
    pub cpu_busy_ratio: Figures,
    pub memory_total_bytes: Option<f64>,
    pub memory_used_bytes: Figures,
    pub load5: Option<f64>,
    pub cpu_pressure_ratio: Option<f64>,
    pub memory_pressure_ratio: Option<f64>,
    pub io_pressure_ratio: Option<f64>,
    pub temperature_celsius: Figures,
    pub throttled_ratio: Option<f64>,
    pub undervoltage_ratio: Option<f64>,
    pub network_in_bytes_per_second: Figures,
    pub network_out_bytes_per_second: Figures,
    pub disk_written_bytes_per_second: Option<f64>,
}

/// Of the samples of an hour.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figures {
    pub mean: Option<f64>,
    /// 95th percentile; the most where the history keeps none.
    pub p95: Option<f64>,
    pub most: Option<f64>,
}

/// How a file system stands, and how full it was on each day.
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub mountpoint: String,
    pub used_bytes: f64,
    /// Used and available together: what `df` calls full.
    pub usable_bytes: f64,
}

/// A service over the last weeks.
#[derive(Clone, Debug, PartialEq)]
pub struct Service {
    pub project: String,
    pub service: String,
    pub cpu_cores_mean: Option<f64>,
    pub cpu_cores_p95: Option<f64>,
    pub cpu_cores_most: Option<f64>,
    pub memory_bytes_mean: Option<f64>,
    pub memory_bytes_p95: Option<f64>,
    pub memory_bytes_most: Option<f64>,
    pub memory_limit_bytes: Option<f64>,
    pub restarts: i64,
    pub oom_kills: i64,
}

/// The key of a host. Fails with the names of those that exist.
pub async fn host_id(client: &Client, host: &str) -> Result<i32, UsageError> {
    let asked = "the host";
    let found = client.query_opt("SELECT id FROM history.hosts WHERE name = $1", &[&host]).await;
    if let Some(row) = found.map_err(failed(asked))? {
        return row.try_get(0).map_err(failed(asked));
    }
    let rows = client.query("SELECT name FROM history.hosts ORDER BY name LIMIT $1", &[&MOST_SUBJECTS]).await;
    let names: Result<_, _> = rows.map_err(failed(asked))?.iter().map(|row| row.try_get(0)).collect();
    Err(UsageError::UnknownHost { host: host.to_owned(), known: names.map_err(failed(asked))? })
}

/// The columns of an hour, as they are rolled up.
const HOURS: &str = "
SELECT hour, cpu_count::float8,
       cpu_busy_ratio_avg::float8, cpu_busy_ratio_p95::float8, cpu_busy_ratio_max::float8,
       memory_total_bytes::float8, memory_used_bytes_avg::float8, memory_used_bytes_p95::float8, memory_used_bytes_max::float8,
       load5_avg::float8, cpu_pressure_ratio_avg::float8, memory_pressure_ratio_avg::float8, io_pressure_ratio_avg::float8,
       temperature_celsius_avg::float8, temperature_celsius_p95::float8, temperature_celsius_max::float8,
       throttled_ratio_avg::float8, undervoltage_ratio_avg::float8,
       network_in_bytes_per_second_avg::float8, network_in_bytes_per_second_max::float8, network_in_bytes_per_second_max::float8,
       network_out_bytes_per_second_avg::float8, network_out_bytes_per_second_max::float8, network_out_bytes_per_second_max::float8,
       disk_written_bytes_per_second_avg::float8
FROM history.host_hours WHERE host_id = $1 AND hour >= $2 AND hour < $3 ORDER BY hour LIMIT $4";

/// The same from samples, which carry the end of their five minutes.
const SAMPLES: &str = "
SELECT date_bin('1 hour', at - interval '1 microsecond', 'epoch') AS hour, max(cpu_count)::float8,
       avg(cpu_busy_ratio), percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu_busy_ratio), max(cpu_busy_ratio)::float8,
       max(memory_total_bytes)::float8,
       avg(memory_used_bytes)::float8, percentile_cont(0.95) WITHIN GROUP (ORDER BY memory_used_bytes), max(memory_used_bytes)::float8,
       avg(load5), avg(cpu_pressure_ratio), avg(memory_pressure_ratio), avg(io_pressure_ratio),
       avg(temperature_celsius), percentile_cont(0.95) WITHIN GROUP (ORDER BY temperature_celsius), max(temperature_celsius)::float8,
       avg(throttled_ratio), avg(undervoltage_ratio),
       avg(network_in_bytes_per_second), max(network_in_bytes_per_second)::float8, max(network_in_bytes_per_second)::float8,
       avg(network_out_bytes_per_second), max(network_out_bytes_per_second)::float8, max(network_out_bytes_per_second)::float8,
       avg(disk_written_bytes_per_second)
FROM history.host_samples WHERE host_id = $1 AND at > $2 AND at <= $3 GROUP BY 1 ORDER BY 1 LIMIT $4";

/// The hours of a host from `from` on that have ended by `to`, in order.
pub async fn hours(client: &Client, id: i32, from: Timestamp, to: Timestamp) -> Result<Vec<HostHour>, UsageError> {
    let mut hours = Vec::new();
    each_hour(client, id, from, to, |hour| hours.push(hour)).await?;
    Ok(hours)
}

/// The same one after the other: a year of them at once takes megabytes.
pub async fn each_hour(
    client: &Client,
    id: i32,
    from: Timestamp,
    to: Timestamp,
    mut take: impl FnMut(HostHour),
) -> Result<(), UsageError> {
    let asked = "the host by the hour";
    let (mut rest, to) = (from, whole_hour(to));
    for sql in [HOURS, SAMPLES] {
        if rest >= to {
            break;
        }
        let begin = rest;
        let parameters: [&(dyn ToSql + Sync); 4] = [&id, &begin, &to, &MOST_HOURS];
        let rows = client.query_raw(sql, parameters).await.map_err(failed(asked))?;
        pin_mut!(rows);
        while let Some(row) = rows.next().await {
            let hour = row.and_then(|row| hour(&row)).map_err(failed(asked))?;
            rest = after(hour.at);
            take(hour);
        }
    }
    Ok(())
}

/// The last of a host's hours, which says what is still there; in the first hour of all the one up to now.
pub fn last_hour(last: Option<Timestamp>, now: Timestamp) -> Timestamp {
    last.unwrap_or_else(|| now.checked_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN))
}

fn whole_hour(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(3600) * 3600).unwrap_or(at)
}

fn after(hour: Timestamp) -> Timestamp {
    hour.checked_add(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MAX)
}

fn hour(row: &Row) -> Result<HostHour, tokio_postgres::Error> {
    let figures = |first: usize| {
        Ok::<_, tokio_postgres::Error>(Figures {
            mean: row.try_get(first)?,
            p95: row.try_get(first + 1)?,
            most: row.try_get(first + 2)?,
        })
    };
    Ok(HostHour {
        at: row.try_get(0)?,
        cpu_count: row.try_get(1)?,
        cpu_busy_ratio: figures(2)?,
        memory_total_bytes: row.try_get(5)?,
        memory_used_bytes: figures(6)?,
        load5: row.try_get(9)?,
        cpu_pressure_ratio: row.try_get(10)?,
        memory_pressure_ratio: row.try_get(11)?,
        io_pressure_ratio: row.try_get(12)?,
        temperature_celsius: figures(13)?,
        throttled_ratio: row.try_get(16)?,
        undervoltage_ratio: row.try_get(17)?,
        network_in_bytes_per_second: figures(18)?,
        network_out_bytes_per_second: figures(21)?,
        disk_written_bytes_per_second: row.try_get(24)?,
    })
}

const SERVICES: &str = "
WITH rolled AS (SELECT max(hour) AS last FROM history.host_hours WHERE host_id = $1 AND hour >= $2 AND hour < $3),
usage AS (
    SELECT service_id, hour, cpu_cores_avg, cpu_cores_p95, cpu_cores_max,
           memory_bytes_avg, memory_bytes_p95, coalesce(memory_peak_bytes_max, memory_bytes_max) AS memory_bytes_max,
           memory_limit_bytes, restarts, oom_kills
    FROM history.service_hours
    WHERE service_id IN (SELECT id FROM history.services WHERE host_id = $1) AND hour >= $2 AND hour < $3
    UNION ALL
    SELECT service_id, date_bin('1 hour', at - interval '1 microsecond', 'epoch'),
           avg(cpu_cores), percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu_cores), max(cpu_cores),
           avg(memory_bytes), percentile_cont(0.95) WITHIN GROUP (ORDER BY memory_bytes),
           max(coalesce(memory_peak_bytes, memory_bytes)), max(memory_limit_bytes), sum(restarts), sum(oom_kills)
    FROM history.service_samples
    WHERE service_id IN (SELECT id FROM history.services WHERE host_id = $1)
      AND at > coalesce((SELECT last + interval '1 hour' FROM rolled), $2) AND at <= $3
    GROUP BY 1, 2
)
SELECT project, service,
       avg(cpu_cores_avg), percentile_cont(0.95) WITHIN GROUP (ORDER BY cpu_cores_p95), max(cpu_cores_max)::float8,
       avg(memory_bytes_avg)::float8, percentile_cont(0.95) WITHIN GROUP (ORDER BY memory_bytes_p95), max(memory_bytes_max)::float8,
       (array_agg(memory_limit_bytes ORDER BY hour DESC))[1]::float8,
       coalesce(sum(restarts), 0)::bigint, coalesce(sum(oom_kills), 0)::bigint
FROM usage JOIN history.services ON id = service_id
GROUP BY id, project, service HAVING max(hour) >= $4
ORDER BY project, service LIMIT $5";

/// What each service that was there in the last hour that the history has of the host took from `from` on.
pub async fn services(
    client: &Client,
    id: i32,
    from: Timestamp,
    to: Timestamp,
    last_hour: Timestamp,
) -> Result<Vec<Service>, UsageError> {
    let parameters: &[&(dyn ToSql + Sync)] = &[&id, &from, &whole_hour(to), &last_hour, &MOST_SUBJECTS];
    let rows = client.query(SERVICES, parameters).await.map_err(failed("the services"))?;
    let service = |row: &Row| {
        Ok(Service {
            project: row.try_get(0)?,
            service: row.try_get(1)?,
            cpu_cores_mean: row.try_get(2)?,
            cpu_cores_p95: row.try_get(3)?,
            cpu_cores_most: row.try_get(4)?,
            memory_bytes_mean: row.try_get(5)?,
            memory_bytes_p95: row.try_get(6)?,
            memory_bytes_most: row.try_get(7)?,
            memory_limit_bytes: row.try_get(8)?,
            restarts: row.try_get(9)?,
            oom_kills: row.try_get(10)?,
        })
    };
    rows.iter().map(service).collect::<Result<_, _>>().map_err(failed("the services"))
}

const MOUNTS: &str = "
SELECT mountpoint, used::float8, (used + available)::float8
FROM history.mounts m CROSS JOIN LATERAL (
    (SELECT at, used_bytes AS used, available_bytes AS available FROM history.mount_samples
     WHERE mount_id = m.id AND at >= $2 AND at <= $3 ORDER BY at DESC LIMIT 1)
    UNION ALL
    (SELECT hour, used_bytes_max, available_bytes_min FROM history.mount_hours
     WHERE mount_id = m.id AND hour >= $2 AND hour < $3 ORDER BY hour DESC LIMIT 1)
    ORDER BY 1 DESC LIMIT 1
) AS newest
WHERE m.host_id = $1 AND used + available > 0 ORDER BY mountpoint LIMIT $4";

/// The file systems that were there in the last hour, as they are now.
pub async fn mounts(client: &Client, id: i32, to: Timestamp, last_hour: Timestamp) -> Result<Vec<Mount>, UsageError> {
    let rows = client.query(MOUNTS, &[&id, &last_hour, &to, &MOST_SUBJECTS]).await;
    let mount = |row: &Row| {
        Ok(Mount { mountpoint: row.try_get(0)?, used_bytes: row.try_get(1)?, usable_bytes: row.try_get(2)? })
    };
    let rows = rows.map_err(failed("the file systems"))?;
    rows.iter().map(mount).collect::<Result<_, _>>().map_err(failed("the file systems"))
}

/// The most used on each day (UTC, counted from 1970) by each file system.
const MOUNT_DAYS: &str = "
WITH rolled AS (SELECT max(hour) AS last FROM history.host_hours WHERE host_id = $1 AND hour >= $2 AND hour < $3),
usage AS (
    SELECT mount_id, hour AS at, used_bytes_max AS used FROM history.mount_hours
    WHERE mount_id IN (SELECT id FROM history.mounts WHERE host_id = $1) AND hour >= $2 AND hour < $3
    UNION ALL
    SELECT mount_id, at - interval '1 microsecond', used_bytes FROM history.mount_samples
    WHERE mount_id IN (SELECT id FROM history.mounts WHERE host_id = $1)
      AND at > coalesce((SELECT last + interval '1 hour' FROM rolled), $2) AND at <= $3
)
SELECT mountpoint, floor(extract(epoch FROM at) / 86400)::integer, max(used)::float8
FROM usage JOIN history.mounts ON id = mount_id
WHERE used IS NOT NULL GROUP BY 1, 2 ORDER BY 1, 2 LIMIT $4";

/// The days of one file system: the day (UTC, counted from 1970) and the most bytes used on it.
pub type MountDays = std::collections::BTreeMap<String, Vec<(i32, f64)>>;

pub async fn mount_days(client: &Client, id: i32, from: Timestamp, to: Timestamp) -> Result<MountDays, UsageError> {
    let asked = "the file systems by the day";
    let most = MOST_SUBJECTS * 367;
    let rows = client.query(MOUNT_DAYS, &[&id, &from, &whole_hour(to), &most]).await.map_err(failed(asked))?;
    let mut days = MountDays::new();
    for row in &rows {
        let mountpoint: String = row.try_get(0).map_err(failed(asked))?;
        let day = (row.try_get(1).map_err(failed(asked))?, row.try_get(2).map_err(failed(asked))?);
        days.entry(mountpoint).or_default().push(day);
    }
    Ok(days)
}
