//! What is nearest to its limit. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::format::{bytes, count, percent};
use crate::statistics::{quantile, sorted};
use crate::usage::{Figures, HostHour, Mount};

/// Half of the time something waits: what would take a second takes two.
const PRESSURE_LIMIT: f64 = 0.5;

/// The alert MemoryPressure.
const MEMORY_PRESSURE_LIMIT: f64 = 0.20;

/// A Raspberry Pi's firmware slows the processor down from here on; so does the alert TemperatureCritical see it.
const TEMPERATURE_LIMIT: f64 = 80.0;

/// Of the hours, so many are below: the busy ones, but for the wildest.
const BUSY: f64 = 0.95;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Cpu,
    Memory,
    Disk,
    CpuPressure,
    MemoryPressure,
    IoPressure,
    Temperature,
    Throttling,
    Undervoltage,
    Network,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "CPU",
            Resource::Memory => "memory",
            Resource::Disk => "disk",
            Resource::CpuPressure => "waiting for a processor",
            Resource::MemoryPressure => "waiting for memory",
            Resource::IoPressure => "waiting for I/O",
            Resource::Temperature => "temperature",
            Resource::Throttling => "throttling",
            Resource::Undervoltage => "undervoltage",
            Resource::Network => "network",
        }
    }
}

/// How near a resource is to its limit.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Bottleneck {
    pub resource: Resource,
    /// Where there are several: the mount point.
    pub subject: Option<String>,
    /// 1 is the limit; `None` where none is known.
    pub share: Option<f64>,
    /// The figures, in words.
    pub figures: String,
}

/// A figure of an hour.
type Of = fn(&HostHour) -> Option<f64>;

/// All resources that were measured, the nearest to its limit first.
pub fn bottlenecks(hours: &[HostHour], mounts: &[Mount]) -> Vec<Bottleneck> {
    let mut found = Vec::new();
    let mut add = |resource, subject: Option<&str>, share: Option<f64>, figures: String| {
        found.push(Bottleneck { resource, subject: subject.map(str::to_owned), share, figures });
    };
    let busiest = |figures: fn(&HostHour) -> Figures| {
        let high = sorted(hours.iter().filter_map(|hour| figures(hour).p95));
        let most = sorted(hours.iter().filter_map(|hour| figures(hour).most)).last().copied();
        quantile(&high, BUSY).zip(most)
    };
    if let Some((busy, most)) = busiest(|hour| hour.cpu_busy_ratio) {
        add(
            Resource::Cpu,
            None,
            Some(busy),
            format!("{} busy in the busiest hours, {} at most", percent(busy), percent(most)),
        );
    }
    let total = hours.iter().rev().find_map(|hour| hour.memory_total_bytes).filter(|total| *total > 0.0);
    if let (Some((busy, most)), Some(total)) = (busiest(|hour| hour.memory_used_bytes), total) {
        let figures = format!(
            "{} used in the busiest hours ({} of {}), {} at most",
            percent(busy / total),
            bytes(busy),
            bytes(total),
            percent(most / total)
        );
        add(Resource::Memory, None, Some(busy / total), figures);
    }
    for mount in mounts {
        let share = mount.used_bytes / mount.usable_bytes;
        let figures = format!("{} full ({} of {})", percent(share), bytes(mount.used_bytes), bytes(mount.usable_bytes));
        add(Resource::Disk, Some(&mount.mountpoint), Some(share), figures);
    }
    let pressures: [(Resource, Of, f64); 3] = [
        (Resource::CpuPressure, |hour| hour.cpu_pressure_ratio, PRESSURE_LIMIT),
        (Resource::MemoryPressure, |hour| hour.memory_pressure_ratio, MEMORY_PRESSURE_LIMIT),
        (Resource::IoPressure, |hour| hour.io_pressure_ratio, PRESSURE_LIMIT),
    ];
    for (resource, value, limit) in pressures {
        if let Some(busy) = quantile(&sorted(hours.iter().filter_map(value)), BUSY) {
            let figures = format!("{} of the time in the busiest hours; {} is much", percent(busy), percent(limit));
            add(resource, None, Some(busy / limit), figures);
        }
    }
    if let Some((busy, most)) = busiest(|hour| hour.temperature_celsius) {
        let figures = format!(
            "{busy:.0} °C in the hottest hours, {most:.0} °C at most; slowed down from {TEMPERATURE_LIMIT:.0} °C on"
        );
        add(Resource::Temperature, None, Some(busy / TEMPERATURE_LIMIT), figures);
    }
    let held: [(Resource, Of, &str); 2] = [
        (Resource::Throttling, |hour| hour.throttled_ratio, "the processor was held back"),
        (Resource::Undervoltage, |hour| hour.undervoltage_ratio, "there was too little voltage"),
    ];
    for (resource, value, says) in held {
        let known: Vec<f64> = hours.iter().filter_map(value).collect();
        let bad = known.iter().filter(|ratio| **ratio > 0.0).count();
        if !known.is_empty() {
            // Nothing of this is usual: one such hour has reached the limit.
            let share = if bad > 0 { 1.0 } else { 0.0 };
            add(resource, None, Some(share), format!("{says} in {bad} of {}", count(known.len(), "hour")));
        }
    }
    let network = (busiest(|hour| hour.network_in_bytes_per_second), busiest(|hour| hour.network_out_bytes_per_second));
    if let (Some((received, most_in)), Some((sent, most_out))) = network {
        let figures = format!(
            "{}/s received and {}/s sent in the busiest hours, {}/s and {}/s at most; the line's limit is not known",
            bytes(received),
            bytes(sent),
            bytes(most_in),
            bytes(most_out)
        );
        add(Resource::Network, None, None, figures);
    }
    found.sort_by(|a, b| b.share.unwrap_or(-1.0).total_cmp(&a.share.unwrap_or(-1.0)));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hour() -> HostHour {
        let figures = |mean: f64, p95: f64, most: f64| Figures { mean: Some(mean), p95: Some(p95), most: Some(most) };
        HostHour {
            cpu_busy_ratio: figures(0.2, 0.4, 0.9),
            memory_total_bytes: Some(4.0 * 1024.0_f64.powi(3)),
            memory_used_bytes: figures(2.0e9, 2.5e9, 3.0e9),
            cpu_pressure_ratio: Some(0.05),
            memory_pressure_ratio: Some(0.18),
            io_pressure_ratio: Some(0.1),
            temperature_celsius: figures(50.0, 60.0, 71.0),
            throttled_ratio: Some(0.0),
            ..HostHour::default()
        }
    }

    fn found(hours: &[HostHour], mounts: &[Mount]) -> Vec<String> {
        let show = |found: &Bottleneck| {
            let share = found.share.map_or("-".to_owned(), |share| format!("{share:.2}"));
            format!("{:?} {share} {}", found.resource, found.figures)
        };
        bottlenecks(hours, mounts).iter().map(show).collect()
    }

    #[test]
    fn the_nearest_to_its_limit_comes_first() {
        let mount = Mount { mountpoint: "/".into(), used_bytes: 25e9, usable_bytes: 31e9 };
        assert_eq!(
            found(&vec![hour(); 30], &[mount]),
            [
                "MemoryPressure 0.90 18 % of the time in the busiest hours; 20 % is much",
                "Disk 0.81 81 % full (23 GiB of 29 GiB)",
                "Temperature 0.75 60 °C in the hottest hours, 71 °C at most; slowed down from 80 °C on",
                "Memory 0.58 58 % used in the busiest hours (2.3 GiB of 4.0 GiB), 70 % at most",
                "Cpu 0.40 40 % busy in the busiest hours, 90 % at most",
                "IoPressure 0.20 10 % of the time in the busiest hours; 50 % is much",
                "CpuPressure 0.10 5 % of the time in the busiest hours; 50 % is much",
                "Throttling 0.00 the processor was held back in 0 of 30 hours",
            ]
        );
    }

    #[test]
    fn what_was_not_measured_is_left_out_and_one_throttled_hour_is_at_the_limit() {
        assert_eq!(found(&[], &[]), Vec::<String>::new());
        assert_eq!(found(&[HostHour::default()], &[]), Vec::<String>::new());
        let mut hours = vec![hour(); 30];
        hours[7].throttled_ratio = Some(0.01);
        assert_eq!(found(&hours, &[])[0], "Throttling 1.00 the processor was held back in 1 of 30 hours");
    }
}
