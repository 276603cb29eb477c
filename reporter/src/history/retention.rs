//! What is rolled up and what is dropped: pure decisions.

use jiff::Timestamp;

use super::window::STEPPED_BACK;

const HOUR: i64 = 3600;
const DAY: i64 = 24 * HOUR;

/// How long history is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Keep {
    /// Days of five-minute samples.
    pub detail_days: u32,
    /// Days of hours.
    pub hourly_days: u32,
}

impl Default for Keep {
    fn default() -> Self {
        Self { detail_days: 90, hourly_days: 365 }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub parent: String,
    pub name: String,
    pub starts_at: Timestamp,
    pub ends_at: Timestamp,
    pub bytes: i64,
    pub holds_rows: bool,
}

impl Partition {
    fn is_hourly(&self) -> bool {
        self.parent.ends_with("_hours")
    }
}

/// The days, as bounds in unixtime, that are complete and not rolled up. Whole days: by the hour each service would cost a page
/// of its index an hour instead of one a day.
///
/// `oldest` is the first sample there is.
pub fn days_to_roll_up(rolled_up: Option<i64>, collected: Option<i64>, oldest: Option<i64>) -> Vec<(i64, i64)> {
    let (Some(collected), Some(oldest)) = (collected, oldest) else { return Vec::new() };
    let end = collected.div_euclid(DAY) * DAY;
    // The sample at midnight is the last one of the day before.
    let begin = (oldest - 1).div_euclid(DAY) * DAY;
    // Ahead of what is collected: a clock was wrong. Hours that are there are not made again.
    let done = rolled_up.filter(|done| *done <= end + DAY + STEPPED_BACK).unwrap_or(begin);
    let mut first = done.max(begin);
    let mut days = Vec::new();
    while first + DAY <= end {
        days.push((first, first + DAY));
        first += DAY;
    }
    days
}

/// The partitions to drop: too old, rolled up, and followed by as many with rows as the time to keep has.
///
/// The last makes it independent of the clock. One that is years ahead makes everything old at once, but fills one partition
/// at a time; and a machine that was off for months still has what it knew.
pub fn to_drop(all: &[Partition], keep: Keep, now: Timestamp, rolled_up: Option<i64>) -> Vec<&Partition> {
    let drops = |partition: &&Partition| {
        let days = i64::from(if partition.is_hourly() { keep.hourly_days } else { keep.detail_days });
        if now.as_second() - partition.ends_at.as_second() < days * DAY {
            return false;
        }
        if !partition.holds_rows {
            return true;
        }
        if !partition.is_hourly() && rolled_up.is_none_or(|done| done < partition.ends_at.as_second()) {
            return false;
        }
        let newer = all.iter().filter(|other| {
            other.parent == partition.parent
                && other.holds_rows
                && other.starts_at > partition.starts_at
                && other.starts_at <= now
        });
        let length = if partition.is_hourly() { 31 } else { 7 };
        newer.count() as i64 >= days / length
    };
    all.iter().filter(drops).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn time(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn week(number: i64, holds_rows: bool) -> Partition {
        Partition {
            parent: "host_samples".into(),
            name: format!("host_samples_{number}"),
            starts_at: time(number * 7 * DAY),
            ends_at: time((number + 1) * 7 * DAY),
            bytes: 8192,
            holds_rows,
        }
    }

    fn dropped(all: &[Partition], now: i64, rolled_up: Option<i64>) -> Vec<&str> {
        to_drop(all, Keep::default(), time(now), rolled_up).iter().map(|it| it.name.as_str()).collect()
    }

    #[test]
    fn old_weeks_go_once_they_are_rolled_up() {
        let all: Vec<_> = (100..=117).map(|number| week(number, true)).collect();
        let now = 117 * 7 * DAY + 10;
        assert_eq!(
            dropped(&all, now, Some(now)),
            ["host_samples_100", "host_samples_101", "host_samples_102", "host_samples_103"]
        );
        assert_eq!(dropped(&all, now, Some(102 * 7 * DAY)), ["host_samples_100", "host_samples_101"]);
        assert_eq!(dropped(&all, now, None), [""; 0]);
        assert_eq!(dropped(&all, 104 * 7 * DAY, Some(now)), [""; 0]);
    }

    #[test]
    fn a_clock_that_runs_away_takes_nothing_along() {
        let all: Vec<_> = (100..=113).map(|number| week(number, true)).collect();
        // Ten years ahead: one partition with rows after another may go, never all.
        let now = 700 * 7 * DAY;
        assert_eq!(dropped(&all, now, Some(now)), ["host_samples_100", "host_samples_101"]);
        let mut later = all[2..].to_vec();
        later.push(week(699, true));
        assert_eq!(dropped(&later, now, Some(now)), ["host_samples_102"]);
        // Back again: what was written ahead counts for nothing.
        assert_eq!(dropped(&later, 114 * 7 * DAY, Some(114 * 7 * DAY)), [""; 0]);
    }

    #[test]
    fn empty_ones_go_by_their_age_alone() {
        let all = [week(100, false), week(110, false), week(111, true)];
        assert_eq!(dropped(&all, 115 * 7 * DAY, None), ["host_samples_100"]);
    }

    #[test]
    fn whole_days_are_rolled_up() {
        let check = |rolled_up: Option<i64>, collected: i64, oldest: i64, expected: &[(i64, i64)]| {
            let days = days_to_roll_up(rolled_up.map(|it| it * HOUR), Some(collected * HOUR), Some(oldest * HOUR));
            let hours: Vec<_> = days.iter().map(|(first, last)| (first / HOUR, last / HOUR)).collect();
            assert_eq!(hours, expected);
        };
        check(None, 23, 1, &[]);
        check(None, 24, 1, &[(0, 24)]);
        check(None, 47, 24, &[(0, 24)]);
        check(None, 48, 25, &[(24, 48)]);
        check(Some(24), 72, 1, &[(24, 48), (48, 72)]);
        check(Some(72), 72, 1, &[]);
        check(Some(24), 9 * 24, 8 * 24 + 1, &[(8 * 24, 9 * 24)]);
        check(Some(50_000), 48, 1, &[(0, 24), (24, 48)]); // a clock was ahead
        assert_eq!(days_to_roll_up(None, None, None), []);
    }

    proptest! {
        #[test]
        fn the_newest_are_never_dropped(rows in proptest::collection::vec(any::<bool>(), 1..80), now in 0_i64..100_000, done in 0_i64..100_000) {
            let all: Vec<_> = (1000..).zip(&rows).map(|(number, rows)| week(number, *rows)).collect();
            let dropped = to_drop(&all, Keep::default(), time((900 + now) * 7 * DAY), Some(done * DAY));
            let held = all.iter().filter(|it| it.holds_rows).count();
            let lost = dropped.iter().filter(|it| it.holds_rows).count();
            prop_assert!(held - lost >= held.min(12));
        }
    }
}
