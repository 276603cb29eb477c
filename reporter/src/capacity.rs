//! Capacity: when disk, memory or CPU runs out at the present trend, what a machine would carry, and the least that the present load
//! needs. [`read`] asks the history, [`capacity`] makes of it what is shown.

pub mod carry;
pub mod forecast;
pub mod machines;
pub mod model;
pub mod render;
mod segments;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

pub use crate::capacity::carry::{Carries, Load, Minimum, PerService, Resource, Room, carries, minimum};
use crate::capacity::forecast::{FEWEST_DAYS, HORIZON_YEARS, INTERVAL_PERCENT, Projection, project};
pub use crate::capacity::machines::Machine;
use crate::statistics::{quantile, sorted};
use crate::usage::{self, HostHour, Mount, MountDays, Service, UsageError};

/// Of the JSON. Grows when a field changes its meaning or goes.
pub const SCHEMA_VERSION: u32 = 1;

/// What the history keeps.
const DAYS: i64 = 366;

/// The present load is that of the last four weeks.
const PRESENT_DAYS: i64 = 28;

/// Memory is at its end before the last byte: what the kernel can't do without would have to go.
const MEMORY_FULL: f64 = 0.95;

/// Processors that are busier than this in busy hours let everything wait.
const CPU_FULL: f64 = 0.90;

/// A day counts for CPU and memory when so many of its hours were measured.
const FEWEST_HOURS: usize = 12;

/// The busy hours of a day: those above nine tenths of it.
const BUSY_OF_DAY: f64 = 0.9;

/// The busy hours of weeks.
const BUSY: f64 = 0.95;

/// What a host has room for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Capacity {
    pub schema_version: u32,
    pub host: String,
    /// Days with values that the trends rest on.
    pub days: u32,
    /// The last of them, in UTC.
    #[schemars(with = "Option<String>")]
    pub last_day: Option<Date>,
    pub outlooks: Vec<Outlook>,
    /// `None` without any history.
    pub load: Option<Load>,
    /// Of one processor of this host; 1 is a Raspberry Pi 4's.
    pub speed: f64,
    /// Whether the speed is a guess, since it is not known what machine this is.
    pub speed_assumed: bool,
    /// This host first, then the machines by name.
    pub carries: Vec<Carries>,
    /// `None` as long as the load is known for less than a week.
    pub minimum: Option<Minimum>,
}

/// How a resource goes on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Outlook {
    pub resource: Resource,
    /// Where there are several: the mount point.
    pub subject: Option<String>,
    /// Bytes, or processors: used at most on the last day on disks, in the busy hours of the last day for the others.
    pub used: Option<f64>,
    /// What there is.
    pub total: f64,
    /// Where it counts as run out, at most the total.
    pub limit: f64,
    pub answer: Answer,
}

/// When it runs out.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    TooLittleHistory {
        days: u32,
        needed: u32,
    },
    /// It has run out already.
    Reached,
    /// Neither up nor down beyond what chance does.
    NoTrend,
    Falling {
        per_day: f64,
    },
    /// It rises, but not to its limit within so many years.
    NotWithin {
        years: u32,
        per_day: f64,
    },
    RunsOut {
        #[schemars(with = "String")]
        on: Date,
        /// The date lies between these two with this probability, if things go on as they did.
        interval_percent: u32,
        #[schemars(with = "String")]
        earliest: Date,
        /// `None` when it may be later than the years of `not_within`.
        #[schemars(with = "Option<String>")]
        latest: Option<Date>,
        per_day: f64,
    },
}

/// What a host has room for. Fails for an unknown one, naming those that exist.
pub async fn read(client: &Client, host: &str, now: Timestamp) -> Result<Capacity, UsageError> {
    let back = |days: i64| now.checked_sub(SignedDuration::from_hours(24 * days)).unwrap_or(Timestamp::MIN);
    let id = usage::host_id(client, host).await?;
    let seen = Seen::read(client, id, now).await?;
    let last = usage::last_hour(seen.last, now);
    let mounts = usage::mounts(client, id, now, last).await?;
    let mount_days = usage::mount_days(client, id, back(DAYS), now).await?;
    let services = usage::services(client, id, back(PRESENT_DAYS), now, last).await?;
    Ok(of_seen(host, now, &seen, &mounts, &mount_days, &services))
}

/// How each resource goes on, as [`read`] tells it; nothing of a host that the history does not know, as within its first hour.
pub async fn outlooks(client: &Client, host: &str, now: Timestamp) -> Result<Vec<Outlook>, UsageError> {
    let from = now.checked_sub(SignedDuration::from_hours(24 * DAYS)).unwrap_or(Timestamp::MIN);
    let id = match usage::host_id(client, host).await {
        Err(UsageError::UnknownHost { .. }) => return Ok(Vec::new()),
        found => found?,
    };
    let seen = Seen::read(client, id, now).await?;
    let last = usage::last_hour(seen.last, now);
    let mounts = usage::mounts(client, id, now, last).await?;
    let mount_days = usage::mount_days(client, id, from, now).await?;
    Ok(outlooks_of(now, &seen, &mounts, &mount_days).0)
}

/// Days of UTC since 1970.
pub(crate) fn day(at: Timestamp) -> i32 {
    i32::try_from(at.as_second().div_euclid(86_400)).unwrap_or_default()
}

/// A day, counted so, as a date; today at the earliest.
pub(crate) fn date(day: f64, now: Timestamp) -> Date {
    let today = now.to_zoned(TimeZone::UTC).date();
    let epoch = jiff::civil::date(1970, 1, 1);
    // What should have happened by now happens today at the earliest.
    epoch.checked_add((day as i64).days()).map_or(today, |date| date.max(today))
}

/// From what the history says to what is shown, of a machine whose speed is not known. Pure.
pub fn capacity(
    host: &str,
    now: Timestamp,
    hours: &[HostHour],
    mounts: &[Mount],
    mount_days: &MountDays,
    services: &[Service],
) -> Capacity {
    let mut seen = Seen::begin(now);
    hours.iter().cloned().for_each(|hour| seen.take(hour));
    seen.end_of_day();
    of_seen(host, now, &seen, mounts, mount_days, services)
}

fn of_seen(
    host: &str,
    now: Timestamp,
    seen: &Seen,
    mounts: &[Mount],
    mount_days: &MountDays,
    services: &[Service],
) -> Capacity {
    let (outlooks, growth) = outlooks_of(now, seen, mounts, mount_days);
    let load = load(seen, mounts, growth, services);
    let all_days = seen.busy_cpu.iter().chain(mount_days.values().flatten()).map(|day| day.0);
    let days: std::collections::BTreeSet<i32> = all_days.collect();
    let capacity = Capacity {
        schema_version: SCHEMA_VERSION,
        host: host.to_owned(),
        days: days.len() as u32,
        last_day: days.last().and_then(|day| jiff::civil::date(1970, 1, 1).checked_add(i64::from(*day).days()).ok()),
        outlooks,
        load,
        speed: 1.0,
        speed_assumed: true,
        carries: Vec::new(),
        minimum: None,
    };
    capacity.compared(1.0, true)
}

/// How each resource goes on, and what the disks together grow by in a year.
fn outlooks_of(now: Timestamp, seen: &Seen, mounts: &[Mount], mount_days: &MountDays) -> (Vec<Outlook>, f64) {
    let mut outlooks = Vec::new();
    let mut growth = 0.0;
    for mount in mounts {
        let days = mount_days.get(&mount.mountpoint).map(Vec::as_slice).unwrap_or_default();
        let projection = project(days, mount.usable_bytes);
        growth += per_year(projection);
        outlooks.push(Outlook {
            resource: Resource::Disk,
            subject: Some(mount.mountpoint.clone()),
            used: Some(mount.used_bytes),
            total: mount.usable_bytes,
            limit: mount.usable_bytes,
            answer: answer(projection, days, now),
        });
    }
    for (resource, total, full, days) in [
        (Resource::Memory, seen.memory_total_bytes, MEMORY_FULL, &seen.busy_memory),
        (Resource::Cpu, seen.cpu_count, CPU_FULL, &seen.busy_cpu),
    ] {
        let Some(total) = total.filter(|total| *total > 0.0) else { continue };
        outlooks.push(Outlook {
            resource,
            subject: None,
            used: days.last().map(|day| day.1),
            total,
            limit: total * full,
            answer: answer(project(days, total * full), days, now),
        });
    }
    (outlooks, growth)
}

impl Capacity {
    /// The same, when it has become known what machine the host is (`Raspberry Pi 4 Model B Rev 1.4`, `Intel(R) N100`); unchanged
    /// when its speed is not known.
    pub fn on(self, model: &str) -> Capacity {
        match machines::speed_of_model(model) {
            Some(speed) => self.compared(speed, false),
            None => self,
        }
    }

    fn compared(mut self, speed: f64, assumed: bool) -> Capacity {
        (self.speed, self.speed_assumed) = (speed, assumed);
        let Some(load) = &self.load else { return self };
        let present = Machine {
            name: "present".to_owned(),
            title: "this machine".to_owned(),
            cores: load.cores,
            speed,
            memory_bytes: load.memory_total_bytes,
            disk_bytes: load.disk_total_bytes,
        };
        let all = std::iter::once(present).chain(machines::known());
        self.carries = all.map(|machine| carries(load, speed, &machine)).collect();
        self.minimum = (!load.is_guess()).then(|| minimum(load, speed));
        self
    }

    /// Only this machine, besides the host itself.
    pub fn for_machine(mut self, machine: &Machine) -> Capacity {
        if let Some(load) = &self.load {
            self.carries.truncate(1);
            self.carries.push(carries(load, self.speed, machine));
        }
        self
    }
}

fn per_year(projection: Projection) -> f64 {
    match projection {
        Projection::RunsOut { per_day, .. } | Projection::NotWithinHorizon { per_day } => per_day * 365.0,
        _ => 0.0,
    }
}

fn answer(projection: Projection, days: &[(i32, f64)], now: Timestamp) -> Answer {
    let last = f64::from(days.iter().map(|day| day.0).max().unwrap_or_default());
    match projection {
        Projection::TooLittleHistory { days } => Answer::TooLittleHistory { days, needed: FEWEST_DAYS },
        Projection::Reached => Answer::Reached,
        Projection::NoTrend => Answer::NoTrend,
        Projection::Falling { per_day } => Answer::Falling { per_day },
        Projection::NotWithinHorizon { per_day } => Answer::NotWithin { years: HORIZON_YEARS, per_day },
        Projection::RunsOut { per_day, expected, earliest, latest } => Answer::RunsOut {
            on: date(last + expected.round(), now),
            interval_percent: INTERVAL_PERCENT,
            earliest: date(last + earliest.floor(), now),
            latest: latest.map(|latest| date(last + latest.ceil(), now)),
            per_day,
        },
    }
}

/// What is kept of a year of hours while they are gone through.
struct Seen {
    /// The busy hours of each day that was measured for most of it: processors, and bytes.
    busy_cpu: Vec<(i32, f64)>,
    busy_memory: Vec<(i32, f64)>,
    /// Those of the day that has not ended.
    day: Vec<HostHour>,
    /// Those of the last weeks.
    present: Vec<HostHour>,
    present_from: Timestamp,
    /// The newest that are known.
    memory_total_bytes: Option<f64>,
    cpu_count: Option<f64>,
    last: Option<Timestamp>,
}

impl Seen {
    fn begin(now: Timestamp) -> Seen {
        let present_from = now.checked_sub(SignedDuration::from_hours(24 * PRESENT_DAYS)).unwrap_or(Timestamp::MIN);
        Seen {
            busy_cpu: Vec::new(),
            busy_memory: Vec::new(),
            day: Vec::new(),
            present: Vec::new(),
            present_from,
            memory_total_bytes: None,
            cpu_count: None,
            last: None,
        }
    }

    async fn read(client: &Client, id: i32, now: Timestamp) -> Result<Seen, UsageError> {
        let from = now.checked_sub(SignedDuration::from_hours(24 * DAYS)).unwrap_or(Timestamp::MIN);
        let mut seen = Seen::begin(now);
        usage::each_hour(client, id, from, now, |hour| seen.take(hour)).await?;
        seen.end_of_day();
        Ok(seen)
    }

    /// The next hour.
    fn take(&mut self, hour: HostHour) {
        if self.day.last().is_some_and(|last| day(last.at) != day(hour.at)) {
            self.end_of_day();
        }
        self.memory_total_bytes = hour.memory_total_bytes.or(self.memory_total_bytes);
        self.cpu_count = hour.cpu_count.or(self.cpu_count);
        self.last = Some(hour.at);
        if hour.at >= self.present_from {
            self.present.push(hour.clone());
        }
        self.day.push(hour);
    }

    fn end_of_day(&mut self) {
        let hours = std::mem::take(&mut self.day);
        let Some(day) = hours.first().map(|hour| day(hour.at)) else { return };
        let high = |of: fn(&HostHour) -> Option<f64>| {
            let values = sorted(hours.iter().filter_map(of));
            quantile(&values, BUSY_OF_DAY).filter(|_| values.len() >= FEWEST_HOURS)
        };
        self.busy_cpu.extend(high(busy_cores).map(|value| (day, value)));
        self.busy_memory.extend(high(|hour| hour.memory_used_bytes.p95).map(|value| (day, value)));
    }
}

fn busy_cores(hour: &HostHour) -> Option<f64> {
    Some(hour.cpu_busy_ratio.p95? * hour.cpu_count?)
}

fn load(seen: &Seen, mounts: &[Mount], growth: f64, services: &[Service]) -> Option<Load> {
    let present = || seen.present.iter();
    let newest = |of: fn(&HostHour) -> Option<f64>| present().rev().find_map(of).filter(|value| *value > 0.0);
    let busy = |of: fn(&HostHour) -> Option<f64>| quantile(&sorted(present().filter_map(of)), BUSY);
    let cpu_cores = busy(busy_cores)?;
    let memory_bytes = busy(|hour| hour.memory_used_bytes.p95)?;
    let usual =
        crate::statistics::median(present().filter_map(|hour| Some(hour.cpu_busy_ratio.mean? * hour.cpu_count?)))?;
    let disks = !mounts.is_empty();
    let disk_bytes = mounts.iter().map(|mount| mount.used_bytes).sum::<f64>();
    // Of services, means are known to add up; busy hours are as much above them as the host's are. Idle hosts have no such ratio.
    let above = if usual > 0.0 { (cpu_cores / usual).clamp(1.0, 10.0) } else { 1.0 };
    let mean = |of: fn(&Service) -> Option<f64>| {
        let known: Vec<f64> = services.iter().filter_map(of).collect();
        (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
    };
    let from = day(seen.present_from);
    Some(Load {
        days: seen.busy_cpu.iter().filter(|(day, _)| *day >= from).count() as u32,
        cores: newest(|hour| hour.cpu_count)?,
        cpu_cores,
        memory_total_bytes: newest(|hour| hour.memory_total_bytes)?,
        memory_bytes,
        disk_bytes: disks.then_some(disk_bytes),
        disk_total_bytes: disks.then(|| mounts.iter().map(|mount| mount.usable_bytes).sum()),
        disk_growth_bytes_per_year: growth,
        services: services.len() as u32,
        per_service: PerService {
            cpu_cores: mean(|service| service.cpu_cores_mean).map(|cores| cores * above),
            memory_bytes: mean(|service| service.memory_bytes_p95),
            disk_bytes: (disks && !services.is_empty()).then(|| disk_bytes / services.len() as f64),
        },
    })
}

#[cfg(test)]
mod tests;
