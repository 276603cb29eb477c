//! `stat`: boot time, the counters of the scheduler, and of interrupts.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stat {
    pub interrupts: Option<u64>,
    pub context_switches: Option<u64>,
    /// Processes and threads created since boot.
    pub forks: Option<u64>,
    /// Seconds since the epoch, by the wall clock of now: it moves when the clock is set.
    pub boot_time: Option<u64>,
    pub procs_running: Option<u64>,
    pub procs_blocked: Option<u64>,
    /// In the order of `VECTORS`.
    pub softirqs: [Option<u64>; VECTORS.len()],
}

/// The kernel's software interrupts in the order of /proc/stat, by node_exporter's names.
const VECTORS: [&str; 10] =
    ["hi", "timer", "net_tx", "net_rx", "block", "block_iopoll", "tasklet", "sched", "hrtimer", "rcu"];

pub type Found = Stat;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.proc("stat");
    let mut stat = parse(reader.require(&path)?);
    if stat == Stat::default() {
        return Err(CollectError::malformed(&path, "no counter found"));
    }
    if !settings.stat_softirq {
        stat.softirqs = [None; VECTORS.len()];
    }
    Ok(stat)
}

fn parse(text: &str) -> Stat {
    let mut stat = Stat::default();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let field = match words.next() {
            Some("intr") => &mut stat.interrupts,
            Some("ctxt") => &mut stat.context_switches,
            Some("processes") => &mut stat.forks,
            Some("btime") => &mut stat.boot_time,
            Some("procs_running") => &mut stat.procs_running,
            Some("procs_blocked") => &mut stat.procs_blocked,
            Some("softirq") => {
                // The first number is the sum.
                for (field, word) in stat.softirqs.iter_mut().zip(words.skip(1)) {
                    *field = word.parse().ok();
                }
                continue;
            }
            _ => continue,
        };
        *field = words.next().and_then(|word| word.parse().ok());
    }
    stat
}

const BOOT_TIME: Family =
    family("node_boot_time_seconds", Kind::Gauge, "Node boot time, in unixtime.", "/proc/stat, btime");
const CONTEXT_SWITCHES: Family =
    family("node_context_switches_total", Kind::Counter, "Total number of context switches.", "/proc/stat, ctxt");
const FORKS: Family = family("node_forks_total", Kind::Counter, "Total number of forks.", "/proc/stat, processes");
const INTERRUPTS: Family =
    family("node_intr_total", Kind::Counter, "Total number of interrupts serviced.", "/proc/stat, intr");
const PROCS_BLOCKED: Family = family(
    "node_procs_blocked",
    Kind::Gauge,
    "Number of processes blocked waiting for I/O to complete.",
    "/proc/stat, procs_blocked",
);
const PROCS_RUNNING: Family =
    family("node_procs_running", Kind::Gauge, "Number of processes in runnable state.", "/proc/stat, procs_running");
const SOFTIRQS: Family = Family {
    labels: &["vector"],
    ..family(
        "node_softirqs_total",
        Kind::Counter,
        "Software interrupts that all CPUs have handled.",
        "/proc/stat, softirq; only with --collector.stat.softirq",
    )
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] =
    &[BOOT_TIME, CONTEXT_SWITCHES, FORKS, INTERRUPTS, PROCS_BLOCKED, PROCS_RUNNING, SOFTIRQS];

const fn family(name: &'static str, kind: Kind, help: &'static str, source: &'static str) -> Family {
    Family { name, kind, help, labels: &[], source }
}

pub fn write(stat: &Stat, out: &mut Exposition) {
    for (family, value) in [
        (BOOT_TIME, stat.boot_time),
        (CONTEXT_SWITCHES, stat.context_switches),
        (FORKS, stat.forks),
        (INTERRUPTS, stat.interrupts),
        (PROCS_BLOCKED, stat.procs_blocked),
        (PROCS_RUNNING, stat.procs_running),
    ] {
        if let Some(value) = value {
            out.family(&family).single(value);
        }
    }
    let mut family = out.family(&SOFTIRQS);
    for (vector, value) in VECTORS.iter().zip(stat.softirqs) {
        if let Some(value) = value {
            family.sample(&[("vector", vector)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_missing_stays_missing() {
        let stat = parse("cpu 1 2\nintr 123 4 5\nctxt 77\nbtime 1700000000\nprocesses x\nprocs_running 2\n");
        assert_eq!(
            stat,
            Stat {
                interrupts: Some(123),
                context_switches: Some(77),
                boot_time: Some(1_700_000_000),
                procs_running: Some(2),
                ..Stat::default()
            }
        );
    }

    #[test]
    fn software_interrupts_come_after_their_sum() {
        let softirqs = parse("softirq 60 1 2 3 x 5\n").softirqs;
        assert_eq!(softirqs[..6], [Some(1), Some(2), Some(3), None, Some(5), None]);
        assert_eq!(parse("softirq 1 2 3 4 5 6 7 8 9 10 11 12 13\n").softirqs[9], Some(11));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "(softirq|ctxt)( [0-9x]{0,25}){0,14}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
