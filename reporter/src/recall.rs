//! What a report and the API read of the history: what is usual at this hour, and the memory of the services over a month.

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use tokio_postgres::Client;

use crate::{
    baseline::{self, usual::Metric},
    report::facts::{History, MemoryUse, Usual, Vital},
    usage::{self, UsageError},
};

/// A month, from which the memory limit of a service is told.
const MEMORY_DAYS: i64 = 30;

/// The newest hour's processors and memory, which turn ratios into what a report compares with.
const SIZE: &str = "SELECT cpu_count::float8, memory_total_bytes::float8 FROM history.host_hours WHERE host_id = $1 ORDER BY hour DESC LIMIT 1";

const FIRST: &str = "SELECT min(hour) FROM history.host_hours WHERE host_id = $1";

/// Of one replica, since a limit is for each. Of the hours' 95th percentiles: a little more than of all samples, never less. The most is
/// that of all scrapes, where it was kept: a peak that lasts less than five minutes kills, too.
const MEMORY: &str = "
SELECT s.project, s.service, count(*)::float8 / 24,
       percentile_cont(0.99) WITHIN GROUP (ORDER BY h.memory_bytes_p95 / greatest(h.replicas, 1))::float8,
       max(coalesce(h.memory_peak_bytes_max, h.memory_bytes_max) / greatest(h.replicas, 1))::float8
FROM history.services s JOIN history.service_hours h ON h.service_id = s.id
WHERE s.host_id = $1 AND s.project <> '' AND h.hour >= $2 AND h.memory_bytes_p95 IS NOT NULL
GROUP BY s.project, s.service ORDER BY s.project, s.service LIMIT 1000";

/// What a report is told, but for the outlooks, which rest on the whole year and change with the day; nothing is usual yet of a host that the history does not know, as within its first hour.
pub async fn history(client: &Client, host: &str, now: Timestamp, zone: &TimeZone) -> Result<History, UsageError> {
    let failed = |source| UsageError::Database { what: "what is usual", source };
    let id = match usage::host_id(client, host).await {
        Err(UsageError::UnknownHost { .. }) => return Ok(History::default()),
        found => found?,
    };
    let size = client.query_opt(SIZE, &[&id]).await.map_err(failed)?;
    let number = |column: usize| size.as_ref().and_then(|row| row.try_get::<_, Option<f64>>(column).ok().flatten());
    let (cpus, memory) = (number(0), number(1));
    let usual = baseline::usual(client, host, now, zone).await?;
    let usual = usual.into_iter().filter_map(|(metric, usual)| {
        let (vital, factor) = of(metric, cpus, memory)?;
        Some((vital, in_units(usual, factor)))
    });
    let usual = usual.collect();
    let from = client.query_one(FIRST, &[&id]).await.and_then(|row| row.try_get(0)).map_err(failed)?;
    let since = now.checked_sub(SignedDuration::from_hours(24 * MEMORY_DAYS)).unwrap_or(Timestamp::MIN);
    let rows = client.query(MEMORY, &[&id, &since]).await.map_err(failed)?;
    let use_of = |row: &tokio_postgres::Row| {
        Ok(MemoryUse {
            project: row.try_get(0)?,
            service: row.try_get(1)?,
            days: row.try_get(2)?,
            p99: row.try_get(3)?,
            max: row.try_get(4)?,
        })
    };
    let memory = rows.iter().map(use_of).collect::<Result<_, _>>().map_err(failed)?;
    Ok(History { from, usual, memory, outlooks: Vec::new() })
}

/// The spread is wider while few weeks are known, so that a report judges as [`baseline::usual::Usual::compare`] does.
pub fn in_units(usual: baseline::usual::Usual, factor: f64) -> Usual {
    Usual { median: usual.median * factor, spread: usual.spread * usual.doubt() * factor }
}

/// The vital that a metric is, and what makes its unit that of the vital.
fn of(metric: Metric, cpus: Option<f64>, memory: Option<f64>) -> Option<(Vital, f64)> {
    Some(match metric {
        Metric::CpuBusyRatio => (Vital::Cpu, 1.0),
        Metric::MemoryUsedRatio => (Vital::Memory, memory?),
        Metric::LoadPerCpu => (Vital::Load, cpus?),
        Metric::CpuPressureRatio => (Vital::PressureCpu, 1.0),
        Metric::MemoryPressureRatio => (Vital::PressureMemory, 1.0),
        Metric::IoPressureRatio => (Vital::PressureIo, 1.0),
        Metric::TemperatureCelsius => (Vital::Temperature, 1.0),
        Metric::NetworkInBytesPerSecond => (Vital::NetworkReceived, 1.0),
        Metric::NetworkOutBytesPerSecond => (Vital::NetworkSent, 1.0),
        Metric::DiskWrittenBytesPerSecond => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ratios_become_what_a_report_shows() {
        assert_eq!(of(Metric::MemoryUsedRatio, Some(4.0), Some(4e9)), Some((Vital::Memory, 4e9)));
        assert_eq!(of(Metric::LoadPerCpu, Some(4.0), None), Some((Vital::Load, 4.0)));
        // Without the size nothing is compared, rather than wrongly.
        assert_eq!(of(Metric::MemoryUsedRatio, Some(4.0), None), None);
        assert_eq!(of(Metric::CpuBusyRatio, None, None), Some((Vital::Cpu, 1.0)));
    }
}
