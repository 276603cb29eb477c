//! `cpu`: seconds each CPU spent in each mode.

use std::collections::BTreeMap;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

/// Modes in the order of /proc/stat (proc_stat(5)); the last two are also counted in the first two.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();
const IDLE: usize = 3;

/// Ticks per mode. A column that an old kernel lacks is `None`.
pub type Ticks = [Option<u64>; COLUMNS];

#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// By the kernel's CPU number: CPUs that are offline are missing.
    pub cpus: BTreeMap<u32, Ticks>,
    pub ticks_per_second: u64,
}

/// What the last scrape saw, since the kernel's idle and iowait may go back a little, which Prometheus would take for
/// a restart of the counter.
#[derive(Debug, Default)]
pub struct Kept {
    cpus: BTreeMap<u32, Ticks>,
}

/// Idle going back further than this means that the CPU was unplugged and came back: its counters begin anew.
const JUMP_BACK_SECONDS: u64 = 3;

pub type Found = Cpu;

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("stat");
    let fresh = parse(reader.require(&path)?);
    if fresh.is_empty() {
        return Err(CollectError::malformed(&path, "no line of a CPU found"));
    }
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    kept.cpus = never_back(&kept.cpus, fresh, JUMP_BACK_SECONDS * ticks_per_second);
    Ok(Cpu { cpus: kept.cpus.clone(), ticks_per_second })
}

fn parse(text: &str) -> BTreeMap<u32, Ticks> {
    let mut cpus = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) =
            words.next().and_then(|word| word.strip_prefix("cpu")).and_then(|digits| digits.parse().ok())
        else {
            continue;
        };
        let mut ticks = [None; COLUMNS];
        for (column, word) in ticks.iter_mut().zip(words) {
            *column = word.parse().ok();
        }
        cpus.insert(number, ticks);
    }
    cpus
}

fn never_back(known: &BTreeMap<u32, Ticks>, mut fresh: BTreeMap<u32, Ticks>, jump: u64) -> BTreeMap<u32, Ticks> {
    for (number, ticks) in &mut fresh {
        let Some(known) = known.get(number) else { continue };
        if let (Some(before), Some(now)) = (known[IDLE], ticks[IDLE])
            && before.saturating_sub(now) >= jump
        {
            continue;
        }
        for (now, before) in ticks.iter_mut().zip(known) {
            *now = (*now).max(*before);
        }
    }
    fresh
}

const SECONDS: Family = Family {
    name: "node_cpu_seconds_total",
    kind: Kind::Counter,
    help: "Seconds the CPUs spent in each mode.",
    labels: &["cpu", "mode"],
    source: "/proc/stat; small steps back of the kernel's are held",
};
const GUEST_SECONDS: Family = Family {
    name: "node_cpu_guest_seconds_total",
    kind: Kind::Counter,
    help: "Seconds the CPUs spent in guests (VMs) for each mode.",
    labels: &["cpu", "mode"],
    source: "/proc/stat; also contained in user and nice",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[GUEST_SECONDS, SECONDS];

pub fn write(cpu: &Cpu, out: &mut Exposition) {
    let mut write = |family: &Family, modes: &[&str], first: usize| {
        let mut family = out.family(family);
        for (number, ticks) in &cpu.cpus {
            let number = number.to_string();
            for (mode, ticks) in modes.iter().zip(&ticks[first..]) {
                if let Some(ticks) = ticks {
                    let seconds = *ticks as f64 / cpu.ticks_per_second as f64;
                    family.sample(&[("cpu", &number), ("mode", mode)], seconds);
                }
            }
        }
    };
    write(&GUEST_SECONDS, &GUEST_MODES, MODES.len());
    write(&SECONDS, &MODES, 0);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str =
        "cpu  10 0 20 300 4 0 1 0 0 0\ncpu0 5 0 10 150 2 0 1 0 0 0\ncpu2 5 0 10 150 2\nintr 5\ncpufoo 1\n";

    #[test]
    fn offline_cpus_keep_their_numbers_and_missing_columns_stay_missing() {
        let cpus = parse(STAT);
        assert_eq!(cpus.keys().copied().collect::<Vec<_>>(), [0, 2]);
        assert_eq!(cpus[&0][..5], [Some(5), Some(0), Some(10), Some(150), Some(2)]);
        assert_eq!(cpus[&2][5..], [None; 5]);
    }

    #[test]
    fn a_small_step_back_is_held_and_a_replugged_cpu_begins_anew() {
        let known = parse("cpu0 10 0 0 1000 50");
        let held = never_back(&known, parse("cpu0 11 0 0 999 40"), 300);
        assert_eq!(held, parse("cpu0 11 0 0 1000 50"));
        let anew = never_back(&known, parse("cpu0 1 0 0 5 0"), 300);
        assert_eq!(anew, parse("cpu0 1 0 0 5 0"));
        assert_eq!(never_back(&known, parse("cpu1 1 0 0 5 0"), 300), parse("cpu1 1 0 0 5 0"));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "cpu[0-9]{0,12}( [0-9x]{0,25}){0,14}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
