//! `cpu`: seconds each CPU spent in each mode, which CPUs are in use; by flag what kind of processor it is.

mod info;

use std::collections::BTreeMap;

use self::info::Info;
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
    /// Whether what was spent in guests is shown.
    pub shows_guests: bool,
    /// Whether a CPU that is there is in use. Empty where CPUs can't be switched off, as on a Pi before the 5.
    pub online: Vec<(u32, bool)>,
    /// CPUs that the scheduler leaves to those who ask for them.
    pub isolated: Vec<u32>,
    /// When it is asked for.
    pub info: Option<Info>,
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
    let Access { roots, reader, settings, .. } = access;
    let path = roots.proc("stat");
    let fresh = parse(reader.require(&path)?);
    if fresh.is_empty() {
        return Err(CollectError::malformed(&path, "no line of a CPU found"));
    }
    let ticks_per_second = rustix::param::clock_ticks_per_second();
    kept.cpus = never_back(&kept.cpus, fresh, JUMP_BACK_SECONDS * ticks_per_second);
    let folder = roots.sys("devices/system/cpu");
    let mut list = |name: &str| reader.text(&folder.join(name)).map(parse_list).unwrap_or_default();
    // As node_exporter, which takes the first CPU's file for a sign that there is something to tell.
    let online = if folder.join("cpu0/online").exists() {
        let online = list("online");
        list("present").into_iter().map(|number| (number, online.contains(&number))).collect()
    } else {
        Vec::new()
    };
    Ok(Cpu {
        cpus: kept.cpus.clone(),
        ticks_per_second,
        shows_guests: settings.cpu_guest,
        online,
        isolated: list("isolated"),
        info: if settings.cpu_info { Some(info::read(roots, settings, reader)?) } else { None },
    })
}

/// No kernel is built for more.
const MOST_CPUS: u32 = 8192;

/// `0-3,5`. What is not understood is left out.
pub(super) fn parse_list(text: &str) -> Vec<u32> {
    let mut numbers = Vec::new();
    for range in text.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        if let (Ok(first), Ok(last)) = (first.parse::<u32>(), last.parse::<u32>())
            && numbers.last().is_none_or(|before| *before < first)
        {
            numbers.extend(first..=last.min(MOST_CPUS));
        }
    }
    numbers
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
const ISOLATED: Family = Family {
    name: "node_cpu_isolated",
    kind: Kind::Gauge,
    help: "1 for a CPU that the scheduler leaves to those who ask for it.",
    labels: &["cpu"],
    source: "/sys/devices/system/cpu/isolated; no sample for other CPUs",
};
const ONLINE: Family = Family {
    name: "node_cpu_online",
    kind: Kind::Gauge,
    help: "Whether the CPU is in use.",
    labels: &["cpu"],
    source: "/sys/devices/system/cpu/present and online; only where CPUs can be switched off (a Pi 5, not before)",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] =
    &[GUEST_SECONDS, SECONDS, ISOLATED, ONLINE, info::INFO, info::FLAG_INFO, info::BUG_INFO];

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
    if cpu.shows_guests {
        write(&GUEST_SECONDS, &GUEST_MODES, MODES.len());
    }
    write(&SECONDS, &MODES, 0);
    let mut family = out.family(&ISOLATED);
    for number in &cpu.isolated {
        family.sample(&[("cpu", &number.to_string())], true);
    }
    let mut family = out.family(&ONLINE);
    for (number, is_online) in &cpu.online {
        family.sample(&[("cpu", &number.to_string())], *is_online);
    }
    if let Some(info) = &cpu.info {
        info::write(info, out);
    }
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

    #[test]
    fn lists_of_cpus() {
        let check = |text: &str, expected: &[u32]| assert_eq!(parse_list(text), expected, "{text}");
        check("0-3\n", &[0, 1, 2, 3]);
        check("0,2-3,7\n", &[0, 2, 3, 7]);
        check("\n", &[]);
        check("x,1,3-2,5-,4\n", &[1, 4]);
        check("2,2,1-4,5\n", &[2, 5]);
        assert_eq!(parse_list("0-4294967295").len(), 8193);
    }

    proptest! {
        #[test]
        fn never_panics(
            text in any::<String>(),
            line in "cpu[0-9]{0,12}( [0-9x]{0,25}){0,14}",
            list in "([0-9]{0,11}-?[0-9]{0,11},?){0,5}",
        ) {
            parse(&format!("{text}\n{line}\n"));
            parse_list(&text);
            prop_assert!(parse_list(&list).len() <= MOST_CPUS as usize + 1);
        }
    }
}
