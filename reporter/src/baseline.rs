//! The usual: how busy a host is at each hour of the week, when it is busiest, what takes the most, and what is nearest to its
//! limit. [`read`] asks the history, [`baseline`] makes of it what is shown; [`usual`](mod@usual) is what a present value is compared with.

pub mod bottlenecks;
pub mod peaks;
pub mod render;
pub mod usual;

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

pub use crate::baseline::bottlenecks::Bottleneck;
pub use crate::baseline::peaks::{Highest, Peak};
pub use crate::baseline::usual::{Basis, Metric, Profile, Usual};
use crate::statistics::{quantile, sorted};
use crate::usage::{self, Figures, HostHour, Mount, Service, UsageError};

/// Of the JSON. Grows when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// Thirteen weeks: enough for each hour of the week, and few enough to be of the present.
pub const USUAL_DAYS: u32 = 91;

/// The history is no longer, and shorter says nothing.
pub const DAYS: std::ops::RangeInclusive<u32> = 7..=366;

/// Services come and go: who is busiest is asked of the last four weeks alone.
const SERVICES_DAYS: u32 = 28;

/// How many services are named.
const BUSIEST: usize = 10;

/// What is usual on a host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Baseline {
    pub schema_version: u32,
    pub host: String,
    /// Hours and weekdays are of this zone.
    pub time_zone: String,
    /// The days that were asked for.
    pub days: u32,
    /// How many hours of them have values.
    pub hours: u32,
    /// Beginning of the first hour.
    #[schemars(with = "Option<String>")]
    pub from: Option<Timestamp>,
    /// End of the last hour.
    #[schemars(with = "Option<String>")]
    pub to: Option<Timestamp>,
    /// Metrics that were measured.
    pub metrics: Vec<MetricBaseline>,
    /// Of the last four weeks, the busiest first.
    pub busiest_by_cpu: Vec<ServiceUsage>,
    /// Of the last four weeks, the largest first.
    pub busiest_by_memory: Vec<ServiceUsage>,
    /// The nearest to its limit first.
    pub bottlenecks: Vec<Bottleneck>,
}

impl Baseline {
    /// Less than a week is known: the figures are those so far, and nobody knows yet whether they are usual.
    pub fn too_few_days(&self) -> bool {
        self.metrics.iter().all(|metric| metric.basis.is_none())
    }
}

/// One metric over the week.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MetricBaseline {
    pub metric: Metric,
    /// Of all hours.
    pub median: f64,
    /// 95th percentile of all hours.
    pub p95: f64,
    /// The most of all samples.
    pub highest: Option<Highest>,
    /// What most of the week rests on; `None` when there are too few days for any.
    pub basis: Option<Basis>,
    /// Seven days from Monday, of 24 hours from midnight.
    pub week: Vec<Vec<Option<Usual>>>,
    pub peaks: Vec<Peak>,
}

/// What a service takes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceUsage {
    /// Empty for a container outside Compose.
    pub project: String,
    pub service: String,
    pub cpu_cores_mean: Option<f64>,
    pub cpu_cores_p95: Option<f64>,
    pub memory_bytes_mean: Option<f64>,
    pub memory_bytes_p95: Option<f64>,
    pub memory_bytes_most: Option<f64>,
    pub memory_limit_bytes: Option<f64>,
}

/// What is usual, of the last thirteen weeks. Fails for an unknown host, naming those that exist.
pub async fn read(client: &Client, host: &str, now: Timestamp, zone: &TimeZone) -> Result<Baseline, UsageError> {
    read_days(client, host, now, zone, USUAL_DAYS).await
}

/// The same of so many days ([`DAYS`]).
pub async fn read_days(
    client: &Client,
    host: &str,
    now: Timestamp,
    zone: &TimeZone,
    days: u32,
) -> Result<Baseline, UsageError> {
    let id = usage::host_id(client, host).await?;
    let hours = usage::hours(client, id, back(now, days), now).await?;
    let last = usage::last_hour(hours.last().map(|hour| hour.at), now);
    let services = usage::services(client, id, back(now, days.min(SERVICES_DAYS)), now, last).await?;
    let mounts = usage::mounts(client, id, now, last).await?;
    Ok(baseline(host, zone, days, &hours, services, &mounts))
}

/// What is usual for each metric at a time: what a report compares the last hour's mean with.
pub async fn usual(
    client: &Client,
    host: &str,
    at: Timestamp,
    zone: &TimeZone,
) -> Result<BTreeMap<Metric, Usual>, UsageError> {
    let id = usage::host_id(client, host).await?;
    let hours = usage::hours(client, id, back(at, USUAL_DAYS), at).await?;
    let hour = usual::hour_of_week(at, zone).0;
    let profiles = profiles(&hours, zone);
    Ok(profiles.into_iter().filter_map(|(metric, profile)| Some((metric, profile.hour(hour)?))).collect())
}

fn back(now: Timestamp, days: u32) -> Timestamp {
    now.checked_sub(SignedDuration::from_hours(24 * i64::from(days))).unwrap_or(Timestamp::MIN)
}

/// Mean, and the most, of a metric in an hour.
fn value(metric: Metric, hour: &HostHour) -> Figures {
    let mean = |mean: Option<f64>| Figures { mean, p95: None, most: None };
    let per = |figures: Figures, whole: Option<f64>| {
        let whole = whole.filter(|whole| *whole > 0.0);
        let share = |value: Option<f64>| Some(value? / whole?);
        Figures { mean: share(figures.mean), p95: share(figures.p95), most: share(figures.most) }
    };
    match metric {
        Metric::CpuBusyRatio => hour.cpu_busy_ratio,
        Metric::MemoryUsedRatio => per(hour.memory_used_bytes, hour.memory_total_bytes),
        Metric::LoadPerCpu => per(mean(hour.load5), hour.cpu_count),
        Metric::CpuPressureRatio => mean(hour.cpu_pressure_ratio),
        Metric::MemoryPressureRatio => mean(hour.memory_pressure_ratio),
        Metric::IoPressureRatio => mean(hour.io_pressure_ratio),
        Metric::TemperatureCelsius => hour.temperature_celsius,
        Metric::NetworkInBytesPerSecond => hour.network_in_bytes_per_second,
        Metric::NetworkOutBytesPerSecond => hour.network_out_bytes_per_second,
        Metric::DiskWrittenBytesPerSecond => mean(hour.disk_written_bytes_per_second),
    }
}

fn profiles(hours: &[HostHour], zone: &TimeZone) -> Vec<(Metric, Profile)> {
    let places: Vec<_> = hours.iter().map(|hour| usual::hour_of_week(hour.at, zone)).collect();
    let profile = |metric: Metric| {
        let means = hours.iter().zip(&places).filter_map(|(hour, place)| Some((*place, value(metric, hour).mean?)));
        (metric, Profile::of_places(means))
    };
    Metric::ALL.into_iter().map(profile).collect()
}

/// From what the history says to what is shown. Pure.
pub fn baseline(
    host: &str,
    zone: &TimeZone,
    days: u32,
    hours: &[HostHour],
    services: Vec<Service>,
    mounts: &[Mount],
) -> Baseline {
    let metrics = profiles(hours, zone).into_iter().filter_map(|(metric, profile)| of_metric(metric, &profile, hours));
    let used = |of: fn(&ServiceUsage) -> Option<f64>| {
        let mut all: Vec<ServiceUsage> = services.iter().cloned().map(ServiceUsage::from).collect();
        all.retain(|service| of(service).is_some_and(|value| value > 0.0));
        all.sort_by(|a, b| of(b).unwrap_or_default().total_cmp(&of(a).unwrap_or_default()));
        all.truncate(BUSIEST);
        all
    };
    Baseline {
        schema_version: SCHEMA_VERSION,
        host: host.to_owned(),
        time_zone: zone.iana_name().unwrap_or("UTC").to_owned(),
        days,
        hours: hours.len() as u32,
        from: hours.first().map(|hour| hour.at),
        to: hours.last().and_then(|hour| hour.at.checked_add(SignedDuration::from_hours(1)).ok()),
        metrics: metrics.collect(),
        busiest_by_cpu: used(|service| service.cpu_cores_mean),
        busiest_by_memory: used(|service| service.memory_bytes_mean),
        bottlenecks: bottlenecks::bottlenecks(hours, mounts),
    }
}

fn of_metric(metric: Metric, profile: &Profile, hours: &[HostHour]) -> Option<MetricBaseline> {
    let means = sorted(hours.iter().filter_map(|hour| value(metric, hour).mean));
    let most = hours.iter().filter_map(|hour| {
        let figures = value(metric, hour);
        Some((hour.at, figures.most.or(figures.mean)?))
    });
    Some(MetricBaseline {
        metric,
        median: quantile(&means, 0.5)?,
        p95: quantile(&means, 0.95)?,
        highest: peaks::highest(most),
        basis: profile.basis(),
        week: (0..7).map(|day| (0..24).map(|hour| profile.hour(day * 24 + hour)).collect()).collect(),
        peaks: peaks::peaks(profile),
    })
}

impl From<Service> for ServiceUsage {
    fn from(service: Service) -> ServiceUsage {
        ServiceUsage {
            project: service.project,
            service: service.service,
            cpu_cores_mean: service.cpu_cores_mean,
            cpu_cores_p95: service.cpu_cores_p95,
            memory_bytes_mean: service.memory_bytes_mean,
            memory_bytes_p95: service.memory_bytes_p95,
            memory_bytes_most: service.memory_bytes_most,
            memory_limit_bytes: service.memory_limit_bytes,
        }
    }
}
