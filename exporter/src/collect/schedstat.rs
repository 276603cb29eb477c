//! `schedstat`: how long tasks ran, and waited to run, on each CPU.

use std::io;

use super::{Access, CollectError};
use crate::exposition::{Exposition, Value};
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the kernel is built without statistics of its scheduler, as with node_exporter.");

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    pub number: u32,
    pub running_nanoseconds: u64,
    pub waiting_nanoseconds: u64,
    pub timeslices: u64,
}

pub type Found = Vec<Cpu>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("schedstat");
    let cpus = match reader.text(&path) {
        Ok(text) => parse(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::Absent { what: "this kernel has no statistics of its scheduler".to_owned() });
        }
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    if cpus.is_empty() {
        return Err(CollectError::malformed(&path, "no line of a CPU found"));
    }
    Ok(cpus)
}

/// Of the nine numbers of a CPU the last three are in use; lines about scheduling domains are left out.
fn parse(text: &str) -> Vec<Cpu> {
    let cpu = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let number = words.next()?.strip_prefix("cpu")?.parse().ok()?;
        let mut numbers = words.skip(6).map(|word| word.parse().ok());
        Some(Cpu {
            number,
            running_nanoseconds: numbers.next()??,
            waiting_nanoseconds: numbers.next()??,
            timeslices: numbers.next()??,
        })
    };
    let mut cpus: Vec<Cpu> = Vec::new();
    for cpu in text.lines().filter_map(cpu) {
        // The same CPU twice would be the same series twice.
        if cpus.iter().all(|known| known.number != cpu.number) {
            cpus.push(cpu);
        }
    }
    cpus
}

const RUNNING: Family = counter(
    "node_schedstat_running_seconds_total",
    "Seconds that tasks ran on the CPU.",
    "/proc/schedstat, 7th number of a CPU",
);
const TIMESLICES: Family = counter(
    "node_schedstat_timeslices_total",
    "Times that a task was put on the CPU.",
    "/proc/schedstat, 9th number of a CPU",
);
const WAITING: Family = counter(
    "node_schedstat_waiting_seconds_total",
    "Seconds that tasks which could have run waited for the CPU, those of all tasks together.",
    "/proc/schedstat, 8th number of a CPU",
);
pub const FAMILIES: &[Family] = &[RUNNING, TIMESLICES, WAITING];

const fn counter(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels: &["cpu"], source }
}

pub fn write(cpus: &[Cpu], out: &mut Exposition) {
    let mut write = |family: &Family, value: fn(&Cpu) -> Value| {
        let mut family = out.family(family);
        for cpu in cpus {
            family.sample(&[("cpu", &cpu.number.to_string())], value(cpu));
        }
    };
    write(&RUNNING, |cpu| (cpu.running_nanoseconds as f64 / 1e9).into());
    write(&TIMESLICES, |cpu| cpu.timeslices.into());
    write(&WAITING, |cpu| (cpu.waiting_nanoseconds as f64 / 1e9).into());
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_last_three_numbers_of_each_cpu() {
        let text = "version 15\ntimestamp 4295123456\ncpu0 498494191 0 3533438552 2553969831 3853684107 2465731542 2045936778163 343796328169361 4767485306\n\
            domain0 f 0 1 2 3 4 5 6 7 8 9 10\ncpu12 1 2 3 4 5 6 7 8 9 10\ncpu2 1 2 3 4 5 6 7 8\ncpu3 1 2 3 4 5 6 7 x 9\n\
            cpu12 1 2 3 4 5 6 17 18 19\n";
        let cpu = |number, running_nanoseconds, waiting_nanoseconds, timeslices| Cpu {
            number,
            running_nanoseconds,
            waiting_nanoseconds,
            timeslices,
        };
        assert_eq!(parse(text), [cpu(0, 2_045_936_778_163, 343_796_328_169_361, 4_767_485_306), cpu(12, 7, 8, 9)]);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "cpu[0-9]{0,12}( [0-9x]{0,25}){0,14}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
