//! The exporter's own process: what it costs. Under the names that all Prometheus clients use.
//!
//! Read of its own /proc/self, which in a container is not the host's.

use std::fs;
use std::io::{self, Read as _};

use rustix::process::{Resource, getrlimit};
use rustix::time::{ClockId, clock_gettime};

use crate::exposition::{Exposition, Value};
use crate::family::{Family, Kind};

/// What can't be read is missing.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Process {
    pub cpu_seconds: f64,
    pub open_descriptors: Option<u64>,
    /// `None`: no limit; so with `most_virtual_memory`.
    pub most_descriptors: Option<u64>,
    pub most_virtual_memory: Option<u64>,
    pub stat: Option<Stat>,
    pub start_seconds: Option<f64>,
}

/// Of /proc/self/stat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub threads: u64,
    /// Ticks since boot.
    pub start: u64,
    pub virtual_bytes: u64,
    pub resident_pages: u64,
}

/// Looks at this process, and remembers when it started.
#[derive(Debug, Default)]
pub struct Watch {
    start_seconds: Option<f64>,
}

impl Watch {
    pub fn look(&mut self) -> Process {
        let stat = read("/proc/self/stat").ok().as_deref().and_then(parse);
        if let (None, Some(stat)) = (self.start_seconds, stat) {
            self.start_seconds = start_seconds(stat.start);
        }
        let cpu = clock_gettime(ClockId::ProcessCPUTime);
        Process {
            cpu_seconds: cpu.tv_sec as f64 + cpu.tv_nsec as f64 / 1e9,
            open_descriptors: open_descriptors(),
            most_descriptors: getrlimit(Resource::Nofile).current,
            most_virtual_memory: getrlimit(Resource::As).current,
            stat,
            start_seconds: self.start_seconds,
        }
    }
}

fn read(path: &str) -> io::Result<String> {
    let mut text = String::with_capacity(1024);
    fs::File::open(path)?.take(1 << 20).read_to_string(&mut text)?;
    Ok(text)
}

/// Since Linux 6.2 the size of the folder says it, where to list it takes long: the exporter keeps files open by the
/// thousand on a host with a hundred containers.
fn open_descriptors() -> Option<u64> {
    let folder = "/proc/self/fd";
    match fs::metadata(folder).ok()?.len() {
        // Without the one that looks.
        0 => u64::try_from(fs::read_dir(folder).ok()?.count()).ok()?.checked_sub(1),
        count => Some(count),
    }
}

fn start_seconds(ticks: u64) -> Option<f64> {
    let text = read("/proc/stat").ok()?;
    let boot: u64 = text.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
    Some(boot as f64 + ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// proc_pid_stat(5), whose fields are counted from the one after the name.
fn parse(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    Some(Stat {
        threads: fields.nth(17)?.parse().ok()?,
        start: fields.nth(1)?.parse().ok()?,
        virtual_bytes: fields.next()?.parse().ok()?,
        resident_pages: fields.next()?.parse().ok()?,
    })
}

const CPU: Family = Family {
    name: "process_cpu_seconds_total",
    kind: Kind::Counter,
    help: "CPU time that the exporter has used, user and system together.",
    labels: &[],
    source: "clock_gettime(2)",
};
const MOST_DESCRIPTORS: Family =
    gauge("process_max_fds", "How many file descriptors the exporter may have open.", "getrlimit(2)");
const OPEN_DESCRIPTORS: Family =
    gauge("process_open_fds", "How many file descriptors the exporter has open.", "/proc/self/fd");
const RESIDENT: Family =
    gauge("process_resident_memory_bytes", "Memory of the exporter that is in RAM.", "/proc/self/stat");
const START: Family = gauge(
    "process_start_time_seconds",
    "When the exporter was started, in seconds since epoch.",
    "/proc/self/stat, /proc/stat",
);
const THREADS: Family = gauge("process_threads", "How many threads the exporter has.", "/proc/self/stat");
const VIRTUAL: Family =
    gauge("process_virtual_memory_bytes", "Address space that the exporter has reserved.", "/proc/self/stat");
const MOST_VIRTUAL: Family = gauge(
    "process_virtual_memory_max_bytes",
    "Address space that the exporter may reserve; 2^64-1: no limit.",
    "getrlimit(2)",
);
pub const FAMILIES: &[Family] =
    &[CPU, MOST_DESCRIPTORS, OPEN_DESCRIPTORS, RESIDENT, START, THREADS, VIRTUAL, MOST_VIRTUAL];

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source }
}

impl Process {
    pub fn write(&self, out: &mut Exposition) {
        let page = rustix::param::page_size() as u64;
        let of_stat = |field: fn(Stat) -> u64| self.stat.map(field).map(Value::Unsigned);
        // No limit is written as the kernel and the Prometheus clients have it.
        let limit = |most: Option<u64>| Some(Value::Unsigned(most.unwrap_or(u64::MAX)));
        for (family, value) in [
            (CPU, Some(Value::Float(self.cpu_seconds))),
            (MOST_DESCRIPTORS, limit(self.most_descriptors)),
            (OPEN_DESCRIPTORS, self.open_descriptors.map(Value::Unsigned)),
            (RESIDENT, self.stat.map(|stat| Value::Unsigned(stat.resident_pages * page))),
            (START, self.start_seconds.map(Value::Float)),
            (THREADS, of_stat(|stat| stat.threads)),
            (VIRTUAL, of_stat(|stat| stat.virtual_bytes)),
            (MOST_VIRTUAL, limit(self.most_virtual_memory)),
        ] {
            if let Some(value) = value {
                out.family(&family).single(value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_after_a_name_that_holds_anything() {
        let text =
            "42 (a) b) S 1 42 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 4 0 345678 123456789 321 18446744073709551615 1\n";
        let expected = Stat { threads: 4, start: 345_678, virtual_bytes: 123_456_789, resident_pages: 321 };
        assert_eq!(parse(text), Some(expected));
        assert_eq!(parse("42 (x) S 1 2 3"), None);
    }

    #[test]
    fn this_process_is_as_it_must_be() {
        let now = jiff::Timestamp::now().as_second() as f64;
        let mut watch = Watch::default();
        let before = watch.look();
        let file = fs::File::open("/proc/self/stat").unwrap();
        let after = watch.look();
        drop(file);
        assert!(before.cpu_seconds > 0.0 && after.cpu_seconds >= before.cpu_seconds);
        let (before_it, with_it) = (before.open_descriptors.unwrap(), after.open_descriptors.unwrap());
        assert!(with_it >= 4);
        let listed = fs::read_dir("/proc/self/fd").unwrap().count() as u64 - 1;
        // Other tests open and close files meanwhile.
        assert!(before_it.abs_diff(listed) < 100 && with_it.abs_diff(listed) < 100, "{before_it} {with_it} {listed}");
        let stat = before.stat.unwrap();
        // qemu makes up a process's own stat, with zeros for what it does not know.
        if std::env::var_os("NEXUS_EMULATED").is_none() {
            assert!(stat.threads >= 1 && stat.virtual_bytes > 100_000 && stat.resident_pages > 10);
        }
        let start = before.start_seconds.unwrap();
        assert!(start <= now + 1.0 && start > now - 86_400.0, "{start} {now}");
        assert_eq!(after.start_seconds, Some(start));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "1 \\([a-z)]{0,4}\\) S( -?[0-9x]{0,22}){0,25}") {
            parse(&text);
            parse(&line);
        }
    }
}
