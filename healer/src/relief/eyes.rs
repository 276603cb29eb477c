//! How much disk and memory there is: reading it, and judging it (pure).

use std::path::Path;

use jiff::SignedDuration;

use super::{Level, Resource, leak::Series};

/// Shares of the whole, in percent, below which it is critical, tight, and from which on there is plenty. A level is left
/// again only two points above, so that nothing swings on its edge.
const DISK: Shares = Shares { critical: 5.0, tight: 10.0, plenty: 15.0, soon: 25.0 };
const MEMORY: Shares = Shares { critical: 6.0, tight: 10.0, plenty: 20.0, soon: 25.0 };
const EDGE: f64 = 2.0;

/// On a large disk a small share is much: with more than this it is not critical and not tight, whatever the share.
const DISK_CRITICAL_BELOW: u64 = 10 << 30;
const DISK_TIGHT_BELOW: u64 = 50 << 30;

/// What will have run out this soon is critical already, unless there is much of it: an estimate that far ahead is none.
const SOON: SignedDuration = SignedDuration::from_secs(60);

/// All tasks waited for memory during so many percent of the last ten seconds: the machine stands still now and then.
const STANDS_STILL: f64 = 10.0;

struct Shares {
    critical: f64,
    tight: f64,
    plenty: f64,
    /// Less than this can run out soon.
    soon: f64,
}

/// Of a file system as df counts it, or of memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Amount {
    pub available: u64,
    pub total: u64,
    /// Of memory, where the kernel tells: percent of the last ten seconds in which all tasks waited for it.
    pub stalled: Option<f64>,
}

impl Amount {
    fn share(&self) -> f64 {
        if self.total == 0 { 100.0 } else { self.available as f64 * 100.0 / self.total as f64 }
    }
}

/// `before` is the level that it had.
pub fn disk_level(amount: &Amount, series: &Series, before: Level) -> (Level, Option<SignedDuration>) {
    // The series is of what is used up.
    let (level, left) = level(&DISK, amount, series, before);
    let capped = match level {
        Level::Critical if left.is_none_or(|left| left > SOON) && amount.available > DISK_CRITICAL_BELOW => {
            Level::Tight
        }
        other => other,
    };
    match capped {
        Level::Tight if amount.available > DISK_TIGHT_BELOW => (Level::Room, left),
        other => (other, left),
    }
}

pub fn memory_level(amount: &Amount, series: &Series, before: Level) -> (Level, Option<SignedDuration>) {
    let (level, left) = level(&MEMORY, amount, series, before);
    let stands_still = amount.stalled.is_some_and(|stalled| stalled >= STANDS_STILL) && amount.share() < MEMORY.plenty;
    (if stands_still { Level::Critical } else { level }, left)
}

fn level(shares: &Shares, amount: &Amount, series: &Series, before: Level) -> (Level, Option<SignedDuration>) {
    let share = amount.share();
    let left = series.left(amount.total);
    let edge = |level: Level| if before <= level { EDGE } else { 0.0 };
    let soon = left.is_some_and(|left| left <= SOON);
    let level = if share < shares.critical + edge(Level::Critical) || (soon && share < shares.soon) {
        Level::Critical
    } else if share < shares.tight + edge(Level::Tight) {
        Level::Tight
    } else if share < shares.plenty + edge(Level::Room) && before != Level::Plenty || share < shares.plenty - EDGE {
        Level::Room
    } else {
        Level::Plenty
    };
    // What is gone in a minute is not plenty, however much it is.
    let level = if soon { level.min(Level::Room) } else { level };
    (level, left)
}

/// Whether it is worth a closer look: it may soon be critical.
pub fn is_near(resource: Resource, amount: &Amount) -> bool {
    let shares = if resource == Resource::Disk { &DISK } else { &MEMORY };
    amount.share() < shares.soon
}

/// How much there has to be for [`Level::Plenty`], with the edge.
pub fn plenty_of_disk(total: u64) -> u64 {
    (total as f64 * (DISK.plenty + EDGE) / 100.0) as u64
}

/// The file system that `folder` is on.
pub fn disk(folder: &Path) -> Option<Amount> {
    let found = rustix::fs::statvfs(folder).ok()?;
    let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
    // As df counts: what is reserved for root is neither used nor free.
    let used = found.f_blocks.saturating_sub(found.f_bfree);
    Some(Amount { available: bytes(found.f_bavail), total: bytes(used.saturating_add(found.f_bavail)), stalled: None })
}

/// From the host's /proc.
pub fn memory(procfs: &Path) -> Option<Amount> {
    let meminfo = std::fs::read_to_string(procfs.join("meminfo")).ok()?;
    let pressure = std::fs::read_to_string(procfs.join("pressure/memory")).ok();
    parse_memory(&meminfo, pressure.as_deref())
}

fn parse_memory(meminfo: &str, pressure: Option<&str>) -> Option<Amount> {
    let kib = |name: &str| -> Option<u64> {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        line.split_whitespace().next()?.parse().ok()
    };
    let bytes = |name: &str| kib(name).map(|kib| kib.saturating_mul(1024));
    let stalled = pressure.and_then(|text| {
        let full = text.lines().find_map(|line| line.strip_prefix("full "))?;
        full.split_whitespace().find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
    });
    Some(Amount { available: bytes("MemAvailable")?, total: bytes("MemTotal")?, stalled })
}

#[cfg(test)]
mod tests {
    use super::*;

    const GIB: u64 = 1 << 30;

    fn amount(available: u64, total: u64) -> Amount {
        Amount { available, total, stalled: None }
    }

    fn leaking(total: u64, used: u64, pace: u64) -> Series {
        let mut series = Series::default();
        for at in (0..=30).step_by(2) {
            series.note(SignedDuration::from_secs(at), used - pace * (30 - at as u64));
        }
        assert!(series.left(total).is_some());
        series
    }

    #[test]
    fn each_level_has_its_share() {
        let still = Series::default();
        let check = |available, before, expected| {
            assert_eq!(disk_level(&amount(available, 32 * GIB), &still, before).0, expected, "{available} {before:?}");
        };
        let percent = |share: u64| 32 * GIB * share / 100;
        check(percent(4), Level::Plenty, Level::Critical);
        check(percent(6), Level::Plenty, Level::Tight);
        check(percent(6), Level::Critical, Level::Critical);
        check(percent(8), Level::Critical, Level::Tight);
        check(percent(11), Level::Room, Level::Room);
        check(percent(11), Level::Tight, Level::Tight);
        check(percent(13), Level::Tight, Level::Room);
        check(percent(16), Level::Room, Level::Room);
        check(percent(18), Level::Room, Level::Plenty);
        check(percent(14), Level::Plenty, Level::Plenty);
        check(percent(12), Level::Plenty, Level::Room);
        // A tenth of a terabyte is much.
        assert_eq!(disk_level(&amount(20 * GIB, 1000 * GIB), &still, Level::Plenty).0, Level::Tight);
        assert_eq!(disk_level(&amount(60 * GIB, 1000 * GIB), &still, Level::Plenty).0, Level::Room);
        assert_eq!(disk_level(&amount(0, 0), &still, Level::Plenty).0, Level::Plenty);
    }

    #[test]
    fn what_runs_out_within_a_minute_is_critical() {
        let total = 4 * GIB;
        let runaway = |share: u64, pace: u64| {
            let available = total * share / 100;
            let (level, left) =
                memory_level(&amount(available, total), &leaking(total, total - available, pace), Level::Room);
            (level, left.unwrap().as_secs())
        };
        // 20 MB/s and a tenth: 20 s. 2 MB/s and a tenth: more than three minutes, so there is time.
        assert_eq!(runaway(11, 20_000_000), (Level::Critical, 23));
        assert_eq!(runaway(11, 2_000_000), (Level::Room, 236));
        // However fast, much is much.
        assert_eq!(runaway(50, 40_000_000).0, Level::Room);
    }

    #[test]
    fn a_leak_of_the_whole_machine_is_critical_two_minutes_before_its_end_with_and_without_pressure() {
        // 2 MB/s on a board of 4 GB.
        for stalled in [None, Some(0.0)] {
            let (total, pace) = (4 * GIB, 2_000_000_u64);
            let end = (total / pace) as i64;
            let mut series = Series::default();
            let mut before = Level::Plenty;
            let critical_at = (0..end).step_by(2).find(|&at| {
                let used = pace * at as u64;
                series.note(SignedDuration::from_secs(at), used);
                before = memory_level(&Amount { available: total - used, total, stalled }, &series, before).0;
                before == Level::Critical
            });
            let left = end - critical_at.unwrap();
            assert!((60..=180).contains(&left), "{left} s before the end");
        }
    }

    #[test]
    fn a_machine_that_stands_still_is_critical_where_the_kernel_tells() {
        let stalled = |share: u64, stalled| {
            let amount = Amount { available: share, total: 100, stalled };
            memory_level(&amount, &Series::default(), Level::Room).0
        };
        assert_eq!(stalled(12, Some(15.0)), Level::Critical);
        assert_eq!(stalled(12, Some(5.0)), Level::Room);
        assert_eq!(stalled(12, None), Level::Room);
        // Not for want of memory then.
        assert_eq!(stalled(60, Some(15.0)), Level::Plenty);
    }

    #[test]
    fn memory_is_read_with_and_without_pressure() {
        let meminfo = "MemTotal:        4000 kB\nMemFree: 10 kB\nMemAvailable:    1000 kB\n";
        let pressure =
            "some avg10=2.00 avg60=0.00 avg300=0.00 total=1\nfull avg10=1.50 avg60=0.00 avg300=0.00 total=2\n";
        let expected = Amount { available: 1_024_000, total: 4_096_000, stalled: Some(1.5) };
        assert_eq!(parse_memory(meminfo, Some(pressure)), Some(expected));
        assert_eq!(parse_memory(meminfo, None), Some(Amount { stalled: None, ..expected }));
        // Kernels before 3.14.
        assert_eq!(parse_memory("MemTotal: 4000 kB\n", None), None);
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(memory(folder.path()), None);
        assert!(disk(folder.path()).is_some_and(|disk| disk.total > 0 && disk.available <= disk.total));
    }
}
