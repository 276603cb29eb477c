//! What a machine would carry of the present load, how many more services like the present ones, and the least that the present load
//! needs. Pure.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capacity::machines::{DISK_OF_LABEL, GIB, Machine, OF_LABEL, known};
use crate::report::format::{bytes, percent};

/// Of the processors in busy hours: beyond, work begins to queue, and a restart or an update has no room.
const USABLE_CPU: f64 = 0.70;

/// Of the memory: the rest is the page cache, without which each read goes to the card.
const USABLE_MEMORY: f64 = 0.85;

/// Of a disk: above, Nexus begins to warn, and an update of images needs their size twice.
const USABLE_DISK: f64 = 0.80;

/// Sizes that are sold, in GB as on the label.
const MEMORIES: [f64; 7] = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0];
const DISKS: [f64; 9] = [16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1000.0, 2000.0, 4000.0];

/// More is said as "1000 or more": who has room for that many is bound by something else.
pub const MOST_SERVICES: u32 = 1000;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Resource {
    Cpu,
    Memory,
    Disk,
}

impl Resource {
    pub fn name(self) -> &'static str {
        match self {
            Resource::Cpu => "CPU",
            Resource::Memory => "memory",
            Resource::Disk => "disk",
        }
    }
}

/// What runs at present, in busy hours: 95 % of the hours of the last four weeks are below.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Load {
    pub cores: f64,
    /// Processors kept busy.
    pub cpu_cores: f64,
    pub memory_total_bytes: f64,
    pub memory_bytes: f64,
    /// All file systems together; `None` when none was measured.
    pub disk_bytes: Option<f64>,
    /// What they hold when full.
    pub disk_total_bytes: Option<f64>,
    /// What they grow by in a year at the present trend; 0 without one.
    pub disk_growth_bytes_per_year: f64,
    pub services: u32,
    /// Mean of the services; `None` where the kernel does not count it.
    pub per_service: PerService,
    /// Days of the last four weeks that were measured for most of their time. With fewer than [`FEWEST_LOAD_DAYS`] all of this is a
    /// first guess.
    #[serde(default)]
    pub days: u32,
}

/// A week: work of the weekend counts too.
pub const FEWEST_LOAD_DAYS: u32 = 7;

impl Load {
    /// Measured for too short a time to judge by.
    pub fn is_guess(&self) -> bool {
        self.days < FEWEST_LOAD_DAYS
    }
}

/// What one more service like the present ones would take in busy hours.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct PerService {
    pub cpu_cores: Option<f64>,
    pub memory_bytes: Option<f64>,
    /// Everything on the disks, the system too, divided by the services: rather too much than too little.
    pub disk_bytes: Option<f64>,
}

/// Whether the present load fits on a machine, and what else.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Carries {
    pub machine: Machine,
    pub fits: bool,
    /// More services like the present ones; `None` when it is not known what one takes. [`MOST_SERVICES`] means at least so many.
    pub more_services: Option<u32>,
    /// What runs out first.
    pub binds: Option<Resource>,
    pub rooms: Vec<Room>,
}

/// One resource of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Room {
    pub resource: Resource,
    /// Share of it that the present load takes.
    pub used: f64,
    /// Share of it that should be used at most.
    pub usable: f64,
    pub more_services: Option<u32>,
}

/// What the load, measured on processors of speed `speed`, would be on a machine.
pub fn carries(load: &Load, speed: f64, machine: &Machine) -> Carries {
    let room = |resource, needed: f64, capacity: f64, usable: f64, each: Option<f64>| {
        let more = each.filter(|each| *each > 0.0).map(|each| {
            let more = ((capacity * usable - needed) / each).floor();
            more.clamp(0.0, f64::from(MOST_SERVICES)) as u32
        });
        Room { resource, used: needed / capacity, usable, more_services: more }
    };
    let each = load.per_service;
    let mut rooms = vec![
        room(
            Resource::Cpu,
            load.cpu_cores * speed,
            machine.cores * machine.speed,
            USABLE_CPU,
            each.cpu_cores.map(|cores| cores * speed),
        ),
        room(Resource::Memory, load.memory_bytes, machine.memory_bytes, USABLE_MEMORY, each.memory_bytes),
    ];
    if let (Some(needed), Some(capacity)) = (load.disk_bytes, machine.disk_bytes) {
        rooms.push(room(Resource::Disk, needed, capacity, USABLE_DISK, each.disk_bytes));
    }
    let fits = rooms.iter().all(|room| room.used <= room.usable);
    let fullest = |rooms: &[Room]| {
        rooms.iter().max_by(|a, b| (a.used / a.usable).total_cmp(&(b.used / b.usable))).map(|room| room.resource)
    };
    let least = rooms.iter().filter_map(|room| Some((room.more_services?, room.resource))).min_by_key(|least| least.0);
    Carries {
        machine: machine.clone(),
        fits,
        more_services: if fits { least.map(|least| least.0) } else { Some(0) },
        binds: if fits { least.map(|least| least.1) } else { fullest(&rooms) },
        rooms,
    }
}

/// The least machine for the present load.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Minimum {
    /// Processors as fast as a Raspberry Pi 4's.
    pub cores_of_pi4: f64,
    /// As on the label, in GB.
    pub memory_gb: f64,
    /// As on the label, in GB; `None` when no disk was measured.
    pub disk_gb: Option<f64>,
    /// The smallest machine by name that will do.
    pub machine: Option<Machine>,
    /// One a resource.
    pub reasons: Vec<String>,
}

pub fn minimum(load: &Load, speed: f64) -> Minimum {
    let cores = load.cpu_cores * speed / USABLE_CPU;
    let memory = load.memory_bytes / USABLE_MEMORY;
    let next = |sizes: &[f64], needed: f64| {
        let larger = sizes.iter().copied().find(|size| *size >= needed);
        // Beyond what the table knows: whole multiples of its last.
        larger.unwrap_or_else(|| sizes.last().map_or(needed, |last| (needed / last).ceil() * last))
    };
    let memory_gb = next(&MEMORIES, memory / GIB / OF_LABEL);
    let disk = load.disk_bytes.map(|used| (used, (used + load.disk_growth_bytes_per_year) / USABLE_DISK));
    let disk_gb = disk.map(|(_, needed)| next(&DISKS, needed / DISK_OF_LABEL));
    let mut reasons = vec![
        format!(
            "processors: {:.1} as fast as a Raspberry Pi 4's, since {:.1} are busy in busy hours and {} of them should be at most",
            cores,
            load.cpu_cores * speed,
            percent(USABLE_CPU)
        ),
        format!(
            "memory: {memory_gb} GB, since {} are used in busy hours and {} of it should be at most, so that reads are cached",
            bytes(load.memory_bytes),
            percent(USABLE_MEMORY)
        ),
    ];
    if let (Some((used, _)), Some(gb)) = (disk, disk_gb) {
        let growth = match load.disk_growth_bytes_per_year > 0.0 {
            true => format!(", {} more are expected in a year", bytes(load.disk_growth_bytes_per_year)),
            false => String::new(),
        };
        let most = percent(USABLE_DISK);
        reasons
            .push(format!("disk: {gb} GB, since {} are used{growth} and {most} of it should be at most", bytes(used)));
    }
    let machine = known().into_iter().find(|machine| carries(load, speed, machine).fits);
    Minimum { cores_of_pi4: cores, memory_gb, disk_gb, machine, reasons }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::capacity::machines::find;

    /// A Raspberry Pi 4 with 4 GB and ten services.
    fn load() -> Load {
        Load {
            cores: 4.0,
            cpu_cores: 1.0,
            memory_total_bytes: 3.8 * GIB,
            memory_bytes: 2.0 * GIB,
            disk_bytes: Some(20.0 * GIB),
            disk_total_bytes: Some(28.0 * GIB),
            disk_growth_bytes_per_year: 0.0,
            services: 10,
            per_service: PerService {
                cpu_cores: Some(0.08),
                memory_bytes: Some(0.16 * GIB),
                disk_bytes: Some(2.0 * GIB),
            },
            days: 28,
        }
    }

    #[test]
    fn what_runs_out_first_bounds_the_services() {
        let check = |load: &Load, machine: Machine, fits: bool, more: Option<u32>, binds: Option<Resource>| {
            let found = carries(load, 1.0, &machine);
            assert_eq!((found.fits, found.more_services, found.binds), (fits, more, binds), "{found:?}");
        };
        let named = |name: &str| find(name).unwrap();
        // (3.8 · 0.85 - 2.0) / 0.16 = 7.7 by memory, (4 · 0.7 - 1) / 0.08 = 22.5 by CPU.
        check(&load(), named("pi4-4gb"), true, Some(7), Some(Resource::Memory));
        // (7.6 · 0.85 - 2.0) / 0.16 = 27.9 by memory, (7.4 · 0.7 - 1) / 0.08 = 52 by CPU.
        check(&load(), named("pi5-8gb"), true, Some(27), Some(Resource::Memory));
        // Four times the memory: 68 by memory, 52 by CPU.
        check(&load(), named("pi5-16gb"), true, Some(52), Some(Resource::Cpu));
        check(&load(), named("pi3b-plus"), false, Some(0), Some(Resource::Memory));
        // A disk that is named counts: 32 GB on the label are 28.3, (28.3 · 0.8 - 20) / 2 = 1.3.
        check(&load(), Machine::custom(4.0, 1.0, 4.0, Some(32.0)), true, Some(1), Some(Resource::Disk));
        let unknown =
            Load { per_service: PerService { cpu_cores: None, memory_bytes: None, disk_bytes: None }, ..load() };
        check(&unknown, named("pi4-4gb"), true, None, None);
        let tiny = Load { per_service: PerService { cpu_cores: Some(1e-9), ..unknown.per_service }, ..unknown };
        check(&tiny, named("pi4-4gb"), true, Some(MOST_SERVICES), Some(Resource::Cpu));
    }

    #[test]
    fn a_faster_processor_has_more_room() {
        let used = |speed: f64, name: &str| carries(&load(), speed, &find(name).unwrap()).rooms[0].used;
        assert!((used(1.0, "pi4-4gb") - 0.25).abs() < 1e-9);
        assert!((used(1.0, "pi5-4gb") - 0.25 / 1.85).abs() < 1e-9);
        // Measured on a Pi 5, the same load would be more on a Pi 4.
        assert!((used(1.85, "pi4-4gb") - 0.25 * 1.85).abs() < 1e-9);
    }

    #[test]
    fn the_minimum_comes_in_sizes_that_are_sold_and_says_why() {
        let least = minimum(&load(), 1.0);
        assert_eq!((least.memory_gb, least.disk_gb), (4.0, Some(32.0)));
        assert_eq!(least.machine.unwrap().name, "pi4-4gb");
        assert_eq!(
            least.reasons,
            [
                "processors: 1.4 as fast as a Raspberry Pi 4's, since 1.0 are busy in busy hours and 70 % of them should be at most",
                "memory: 4 GB, since 2.0 GiB are used in busy hours and 85 % of it should be at most, so that reads are cached",
                "disk: 32 GB, since 20 GiB are used and 80 % of it should be at most",
            ]
        );
        let growing = Load { disk_growth_bytes_per_year: 60.0 * GIB, ..load() };
        let least = minimum(&growing, 1.0);
        assert_eq!(least.disk_gb, Some(128.0));
        assert!(
            least.reasons[2].contains("20 GiB are used, 60 GiB more are expected in a year"),
            "{:?}",
            least.reasons
        );
        // More than any machine by name carries.
        let huge = Load { memory_bytes: 90.0 * GIB, cpu_cores: 100.0, ..load() };
        assert_eq!((minimum(&huge, 1.0).machine, minimum(&huge, 1.0).memory_gb), (None, 128.0));
    }

    proptest! {
        #[test]
        fn the_minimum_carries_the_load_and_more_load_never_leaves_more_room(
            cpu in 0.0..20.0, memory in 0.0..100.0, more in 0.0..5.0, speed in 0.3..4.0,
        ) {
            let load = Load { cpu_cores: cpu, memory_bytes: memory * GIB, ..load() };
            let least = minimum(&load, speed);
            let machine = Machine::custom(least.cores_of_pi4.ceil().max(1.0), 1.0, least.memory_gb, None);
            prop_assert!(carries(&load, speed, &machine).fits, "{:?}", carries(&load, speed, &machine));
            let heavier = Load { cpu_cores: cpu + more, memory_bytes: (memory + more) * GIB, ..load.clone() };
            for machine in known() {
                let (a, b) = (carries(&load, speed, &machine), carries(&heavier, speed, &machine));
                prop_assert!(b.more_services <= a.more_services && (a.fits || !b.fits));
            }
        }
    }
}
