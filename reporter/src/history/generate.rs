//! A made-up past: for tests, for figures about size and wear, and to show what a year looks like. The same seed makes the same past.
//!
//! Days have their rush in the evening and a backup at three in the morning, weekends are busier, summers hotter. Every fourth
//! service has no health check and every third no memory limit; the fourth leaks until it is killed, the eighth falls ill now and
//! then. Disks fill at a steady pace. Every ninety days the machine was off for three hours: then there is no row.

use jiff::Timestamp;
use tokio_postgres::Client;

use super::{
    batch::{Batch, Medium, MountKey, ServiceKey},
    columns::{HOSTS, MOUNTS, SERVICES, Table},
    maintain,
    retention::Keep,
    store::{self, Subjects},
    window::{STEP, STEPS_AT_ONCE, Window},
};

const MIB: f64 = 1_048_576.0;
const GIB: f64 = 1024.0 * MIB;
const DAY: i64 = 86_400;
const PAGE: f64 = 4096.0;

const PROJECTS: [&str; 6] = ["shop", "media", "home", "blog", "cloud", "tools"];
const SERVICES_OF: [&str; 5] = ["web", "api", "db", "cache", "worker"];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    pub hosts: u32,
    /// Of each host.
    pub services: u32,
    pub days: u32,
    pub seed: u64,
    /// The newest sample.
    pub until: Timestamp,
    pub keep: Keep,
}

#[derive(Debug, thiserror::Error)]
pub enum GenerateError {
    #[error("the database holds history already; made-up history is only put into an empty one")]
    NotEmpty,
    #[error("{0}")]
    Range(&'static str),
    #[error("writing made-up history")]
    Postgres(#[from] tokio_postgres::Error),
}

/// What was written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Summary {
    pub samples: u64,
    pub hours: u64,
    pub dropped_partitions: u64,
}

/// A number from 0 to 1 for a place in the made-up world: the same each time (SplitMix64).
fn noise(parts: [u64; 4]) -> f64 {
    let mut state = 0_u64;
    for part in parts {
        state = state.wrapping_add(part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        state = (state ^ (state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        state = (state ^ (state >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        state ^= state >> 31;
    }
    (state >> 11) as f64 / (1_u64 << 53) as f64
}

/// The made-up world. Pure: what it says about a window depends on nothing else.
#[derive(Clone, Copy, Debug)]
pub struct World {
    pub hosts: u32,
    pub services: u32,
    pub seed: u64,
    /// Where the steady growth begins, in unixtime.
    pub begin: i64,
}

/// What drives everything at a time.
struct Tide {
    /// From 0 to about 1.
    rush: f64,
    backup: bool,
    /// Days since the beginning.
    days: f64,
    /// From -1 in January to 1 in July.
    season: f64,
}

impl World {
    pub fn new(options: &Options) -> Self {
        let begin = options.until.as_second() - i64::from(options.days) * DAY;
        Self { hosts: options.hosts, services: options.services, seed: options.seed, begin }
    }

    pub fn host_name(host: u32) -> String {
        format!("pi{}", host + 1)
    }

    pub fn service_name(service: u32) -> (String, String) {
        let (project, round) = (service as usize / SERVICES_OF.len(), service as usize / 30);
        let name = SERVICES_OF[service as usize % SERVICES_OF.len()];
        let project = PROJECTS[project % PROJECTS.len()];
        (if round == 0 { project.to_owned() } else { format!("{project}{round}") }, name.to_owned())
    }

    /// Whether the machine was off.
    pub fn is_off(&self, at: i64) -> bool {
        (at - self.begin).rem_euclid(90 * DAY) >= 90 * DAY - 3 * 3600
    }

    fn tide(&self, at: i64) -> Tide {
        let hour = at.rem_euclid(DAY) as f64 / 3600.0;
        // Days since Thursday, the 1st of January 1970.
        let weekday = at.div_euclid(DAY).rem_euclid(7);
        let weekend = weekday == 2 || weekday == 3;
        let evening = (-((hour - 19.5) / 3.0).powi(2)).exp();
        let noon = 0.5 * (-((hour - 12.5) / 2.0).powi(2)).exp();
        let rush = (evening + noon) * if weekend { 1.2 } else { 0.8 };
        let year = (at - self.begin) as f64 / (365.25 * DAY as f64);
        let day_of_year = (at.rem_euclid(31_557_600)) as f64 / 31_557_600.0;
        Tide {
            rush,
            backup: (3.0..3.5).contains(&hour),
            days: year * 365.25,
            season: -(std::f64::consts::TAU * day_of_year).cos(),
        }
    }

    pub fn batch(&self, window: Window) -> Batch {
        let mut batch = Batch::new(window);
        for place in 0..window.steps() {
            let at = window.at(place);
            if self.is_off(at) {
                continue;
            }
            let tide = self.tide(at);
            for host in 0..self.hosts {
                self.host(&mut batch, host, at, &tide);
                for service in 0..self.services {
                    self.service(&mut batch, host, service, at, &tide);
                }
            }
        }
        for host in 0..self.hosts {
            for (mountpoint, device) in
                [("/", "/dev/mmcblk0p2"), ("/boot/firmware", "/dev/mmcblk0p1"), ("/mnt/data", "/dev/sda1")]
            {
                let key = MountKey { host: Self::host_name(host), mountpoint: mountpoint.to_owned() };
                let fstype = if mountpoint.starts_with("/boot") { "vfat" } else { "ext4" };
                batch.media.insert(key, Medium { device: device.to_owned(), fstype: fstype.to_owned() });
            }
        }
        batch
    }

    fn noise(&self, host: u32, what: u64, at: i64) -> f64 {
        noise([self.seed, u64::from(host), what, (at / STEP) as u64])
    }

    fn host(&self, batch: &mut Batch, host: u32, at: i64, tide: &Tide) {
        let n = |what: u64| self.noise(host, what, at);
        let key = Self::host_name(host);
        let backup = f64::from(u8::from(tide.backup));
        let busy = 0.06 + 0.22 * tide.rush + 0.35 * backup + 0.05 * n(1);
        // The power supply was changed after three weeks.
        let weak = tide.days < 21.0 && busy > 0.25;
        let memory = 3.7 * GIB;
        let used = (1.3 + 0.0015 * tide.days + 0.5 * tide.rush + 0.1 * n(2)) * GIB;
        let pressure = (busy - 0.15).max(0.0);
        let values = [
            ("memory_total_bytes", memory),
            ("memory_used_bytes", paged(used)),
            ("swap_total_bytes", 2.0 * GIB),
            ("swap_used_bytes", paged((40.0 + 0.2 * tide.days + 10.0 * n(3)) * MIB)),
            ("cpu_busy_ratio", busy),
            ("cpu_count", 4.0),
            ("load1", 4.5 * busy + n(4)),
            ("load5", 4.5 * busy + 0.4 * n(5)),
            ("load15", 4.5 * busy + 0.2 * n(6)),
            ("cpu_pressure_ratio", 0.3 * pressure * n(7)),
            ("memory_pressure_ratio", 0.02 * pressure * n(8)),
            ("memory_pressure_full_ratio", 0.01 * pressure * n(9)),
            ("io_pressure_ratio", (0.3 * backup + 0.05 * tide.rush) * n(10)),
            ("io_pressure_full_ratio", (0.2 * backup + 0.03 * tide.rush) * n(11)),
            ("temperature_celsius", 44.0 + 6.0 * tide.season + 40.0 * busy + n(12)),
            ("throttled_ratio", if weak { 0.4 * n(13) } else { 0.0 }),
            ("undervoltage_ratio", if weak { 0.6 * n(14) } else { 0.0 }),
            ("network_in_bytes_per_second", 20e3 + 900e3 * tide.rush * n(15)),
            ("network_out_bytes_per_second", 30e3 + 2e6 * tide.rush * n(16) + 4e6 * backup),
            ("disk_read_bytes_per_second", 5e3 + 300e3 * tide.rush * n(17) + 8e6 * backup),
            ("disk_written_bytes_per_second", 15e3 + 40e3 * tide.rush * n(18) + 5e6 * backup),
            ("swap_in_pages_per_second", 3.0 * pressure * n(19)),
            ("swap_out_pages_per_second", 2.0 * pressure * n(20)),
        ];
        for (name, value) in values {
            put(&HOSTS, name, |column| batch.hosts.put(key.clone(), column, at as f64, value));
        }
        // Images pile up until they are pruned each month; both disks fill steadily, and after a year a quarter of each is left.
        let pile = (tide.days.max(0.0) % 30.0) * 40.0 * MIB;
        for (mountpoint, size, used, files) in [
            ("/", 29.0 * GIB, 11.0 * GIB + 15.0 * MIB * tide.days + pile, 1.9e6),
            ("/boot/firmware", 510.0 * MIB, 74.0 * MIB, 0.0),
            ("/mnt/data", 230.0 * GIB, 60.0 * GIB + 250.0 * MIB * tide.days, 15e6),
        ] {
            let key = MountKey { host: Self::host_name(host), mountpoint: mountpoint.to_owned() };
            let used = paged(used + 20.0 * MIB * n(21)).min(size);
            let reserved = if files > 0.0 { 0.05 * size } else { 0.0 };
            let inodes = |part: f64| if files > 0.0 { part } else { f64::NAN };
            for (name, value) in [
                ("size_bytes", size),
                ("used_bytes", used),
                ("available_bytes", (size - used - reserved).max(0.0)),
                ("inodes", inodes(files)),
                ("inodes_used", inodes((used / 60e3).min(files))),
            ] {
                put(&MOUNTS, name, |column| batch.mounts.put(key.clone(), column, at as f64, value));
            }
        }
    }

    fn service(&self, batch: &mut Batch, host: u32, service: u32, at: i64, tide: &Tide) {
        let what = 1000 + 100 * u64::from(service);
        let n = |detail: u64| self.noise(host, what + detail, at);
        // The same at all times.
        let trait_of = |detail: u64| noise([self.seed, u64::from(host), what + detail, u64::MAX]);
        let (project, name) = Self::service_name(service);
        let key = ServiceKey { host: Self::host_name(host), project, service: name };
        let base = (20.0 + 120.0 * trait_of(1).powi(3)) * MIB;
        let limit = if service % 3 == 2 { f64::NAN } else { (base * 2.2 / (64.0 * MIB)).ceil() * 64.0 * MIB };
        let mut memory = base * (1.0 + 0.15 * tide.rush + 0.04 * n(2));
        let mut oom_kills = 0.0;
        let mut restarts = 0.0;
        let mut up = 1.0;
        let mut healthy = 1.0;
        if service == 3 {
            // Grows to its limit in six days, is killed and begins anew.
            let whole = 6 * DAY;
            let since = (at - self.begin).rem_euclid(whole);
            let grown = since as f64 / whole as f64;
            memory = base + grown * (limit - base);
            if since < STEP && at - self.begin >= whole {
                (oom_kills, restarts, up, healthy) = (1.0, 1.0, 0.97, 0.9);
            }
        }
        if service == 7 {
            // One hour in about three days it answers badly, and is restarted.
            let hour = at.div_euclid(3600);
            if noise([self.seed, u64::from(host), what + 3, hour as u64]) < 1.0 / 72.0 {
                healthy = 0.4 * n(4);
                up = 0.9;
                restarts = f64::from(u8::from(n(5) < 0.25));
            }
        }
        let cpu = (0.002 + 0.06 * trait_of(6).powi(3)) * (1.0 + 4.0 * tide.rush) * (0.7 + 0.6 * n(7));
        for (name, value) in [
            ("memory_bytes", paged(memory)),
            ("memory_peak_bytes", paged(memory * (1.0 + 0.03 * n(8)))),
            ("memory_limit_bytes", limit),
            ("up_ratio", up),
            ("healthy_ratio", if service.is_multiple_of(4) { f64::NAN } else { healthy }),
            ("cpu_cores", cpu),
            ("replicas", 1.0),
            ("restarts", restarts),
            ("oom_kills", oom_kills),
        ] {
            put(&SERVICES, name, |column| batch.services.put(key.clone(), column, at as f64, value));
        }
    }
}

/// Memory and files come in pages.
fn paged(bytes: f64) -> f64 {
    (bytes / PAGE).round() * PAGE
}

fn put(table: &Table, name: &str, put: impl FnOnce(usize)) {
    if let Some(column) = table.place(name) {
        put(column);
    }
}

/// Fills an empty database as the reporter would have done by and by: samples, hours, and what is too old dropped again.
pub async fn fill(client: &mut Client, options: &Options) -> Result<Summary, GenerateError> {
    if options.hosts == 0 || options.days == 0 {
        return Err(GenerateError::Range("at least one host and one day are needed"));
    }
    if u64::from(options.hosts) * (u64::from(options.services) + 4) > 2_000 {
        return Err(GenerateError::Range("at most 2,000 services and file systems can be made up"));
    }
    if options.days > 1_000 {
        return Err(GenerateError::Range("at most 1,000 days can be made up"));
    }
    let held: bool = client
        .query_one("SELECT EXISTS (SELECT FROM history.hosts) OR EXISTS (SELECT FROM history.progress)", &[])
        .await?
        .try_get(0)?;
    if held {
        return Err(GenerateError::NotEmpty);
    }
    let world = World::new(options);
    let end = options.until.as_second().div_euclid(STEP) * STEP;
    let mut next = world.begin.div_euclid(STEP) * STEP + STEP;
    let mut subjects = Subjects::default();
    let mut summary = Summary::default();
    while next <= end {
        // As large as a batch, and none beyond midnight.
        let piece = STEPS_AT_ONCE * STEP;
        let last = ((next - STEP).div_euclid(piece) * piece + piece).min(end);
        let window = Window { first: next, last };
        store::make_partitions(client, window.first, window.last).await?;
        let written = store::write(client, &mut subjects, &world.batch(window), window.last).await?;
        summary.samples += written.sum();
        if last.rem_euclid(DAY) == 0 || last == end {
            summary.hours += maintain::roll_up(client).await?;
            let dropped = maintain::drop_old(client, options.keep, store::time(last)).await?;
            summary.dropped_partitions += dropped.len() as u64;
        }
        next = last + STEP;
    }
    Ok(summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> World {
        World { hosts: 2, services: 30, seed: 1, begin: 1_800_000_000 }
    }

    #[test]
    fn the_same_seed_makes_the_same_past() {
        let window = Window { first: 1_800_000_300, last: 1_800_000_300 + 11 * STEP };
        let said = |world: World| format!("{:?}", world.batch(window));
        assert_eq!(said(world()), said(world()));
        assert_ne!(said(world()), said(World { seed: 2, ..world() }));
    }

    #[test]
    fn subjects_have_names_of_their_own() {
        let names: std::collections::BTreeSet<_> = (0..100).map(World::service_name).collect();
        assert_eq!(names.len(), 100);
    }

    #[test]
    fn disks_fill_and_after_a_year_none_is_full() {
        let world = world();
        // As df counts, and as the alerts do.
        let used = |days: i64| -> Vec<(String, f64)> {
            let at = world.begin + days * DAY;
            let batch = world.batch(Window { first: at, last: at });
            let rows = batch.mounts.rows().map(|(key, mut rows)| {
                let row = rows.next().unwrap();
                let of = |name: &str| row.get(MOUNTS.place(name).unwrap()).unwrap();
                (key.mountpoint.clone(), of("used_bytes") / (of("used_bytes") + of("available_bytes")))
            });
            rows.collect()
        };
        let (first, last) = (used(1), used(365));
        assert_eq!(first.len(), 6);
        for ((mountpoint, first), (_, last)) in first.iter().zip(&last) {
            assert!(*last < 0.8, "{mountpoint} is {last} full");
            assert!(mountpoint == "/boot/firmware" || *last > first + 0.1, "{mountpoint} went from {first} to {last}");
        }
    }

    #[test]
    fn there_are_rushes_leaks_and_hours_without_a_sample() {
        let world = world();
        let busy = |hour: i64| {
            let at = 1_800_000_000_i64.div_euclid(DAY) * DAY + DAY + hour * 3600;
            let batch = world.batch(Window { first: at, last: at });
            let (_, mut rows) = batch.hosts.rows().next().unwrap();
            rows.next().unwrap().get(HOSTS.place("cpu_busy_ratio").unwrap()).unwrap()
        };
        assert!(busy(19) > 2.0 * busy(7));
        let off = world.begin + 90 * DAY - 3600;
        assert!(world.is_off(off) && world.batch(Window { first: off, last: off }).hosts.rows().next().is_none());
        let kills = |at: i64| {
            let batch = world.batch(Window { first: at, last: at });
            let column = SERVICES.place("oom_kills").unwrap();
            batch.services.rows().flat_map(|(_, rows)| rows.map(|row| row.get(column).unwrap())).sum::<f64>()
        };
        assert_eq!(kills(world.begin + 6 * DAY), 2.0);
        assert_eq!(kills(world.begin + 6 * DAY + STEP), 0.0);
    }
}
