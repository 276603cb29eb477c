//! What is usual at an hour of the week; whether a value is says `report/trend.rs`. Pure.
//!
//! An hour belongs to the weekday and the hour that the owner's clock showed at its beginning. The hour that a change of the clock
//! skips has no values that day, and the one that it repeats has two, which count as one day's.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::statistics::{median, middle, spread_of_deviations};

/// Of so many different weeks an hour of the week must have values. With fewer, one odd evening would be what is usual.
pub const FEWEST_WEEKS: usize = 4;

/// Of so many different days an hour of the day must have values where an hour of the week has too few: one of each weekday.
pub const FEWEST_DAYS: usize = 7;

/// Median and spread of few weeks are uncertain themselves: of so many, a value counts as unusual from 1 + 3 / weeks times as
/// far on.
const OF_FEW: f64 = 3.0;

/// Figures of a host that have a usual.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Metric {
    /// Share of all processors' time that was busy.
    CpuBusyRatio,
    /// Share of the memory that is not available.
    MemoryUsedRatio,
    /// Load average of five minutes per processor.
    LoadPerCpu,
    /// Share of the time in which something waited for a processor.
    CpuPressureRatio,
    /// Share of the time in which something waited for memory.
    MemoryPressureRatio,
    /// Share of the time in which something waited for I/O.
    IoPressureRatio,
    TemperatureCelsius,
    NetworkInBytesPerSecond,
    NetworkOutBytesPerSecond,
    DiskWrittenBytesPerSecond,
}

impl Metric {
    pub const ALL: [Metric; 10] = [
        Metric::CpuBusyRatio,
        Metric::MemoryUsedRatio,
        Metric::LoadPerCpu,
        Metric::CpuPressureRatio,
        Metric::MemoryPressureRatio,
        Metric::IoPressureRatio,
        Metric::TemperatureCelsius,
        Metric::NetworkInBytesPerSecond,
        Metric::NetworkOutBytesPerSecond,
        Metric::DiskWrittenBytesPerSecond,
    ];

    /// As in a sentence: "memory is …".
    pub fn name(self) -> &'static str {
        match self {
            Metric::CpuBusyRatio => "CPU",
            Metric::MemoryUsedRatio => "memory",
            Metric::LoadPerCpu => "load per processor",
            Metric::CpuPressureRatio => "waiting for a processor",
            Metric::MemoryPressureRatio => "waiting for memory",
            Metric::IoPressureRatio => "waiting for I/O",
            Metric::TemperatureCelsius => "temperature",
            Metric::NetworkInBytesPerSecond => "network, received",
            Metric::NetworkOutBytesPerSecond => "network, sent",
            Metric::DiskWrittenBytesPerSecond => "written to disk",
        }
    }

    /// The value as people write it.
    pub fn show(self, value: f64) -> String {
        match self {
            Metric::LoadPerCpu => format!("{value:.2}"),
            Metric::TemperatureCelsius => format!("{value:.0} °C"),
            Metric::NetworkInBytesPerSecond | Metric::NetworkOutBytesPerSecond | Metric::DiskWrittenBytesPerSecond => {
                format!("{}/s", crate::report::format::bytes(value))
            }
            _ => crate::report::format::percent(value),
        }
    }
}

/// Which hours a usual value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Basis {
    /// The same hour of the same weekday.
    HourOfWeek,
    /// The same hour of any day: there are too few weeks yet.
    HourOfDay,
}

/// What is usual at a time.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usual {
    pub median: f64,
    /// How far from it values usually are: a standard deviation, were they normally distributed.
    pub spread: f64,
    pub basis: Basis,
    /// Of how many weeks there were values, or days with `hour_of_day`.
    pub observed: u32,
}

impl Usual {
    /// So many times as far from the median a value must be as with any number of weeks.
    pub fn doubt(&self) -> f64 {
        1.0 + OF_FEW / f64::from(self.observed.max(1))
    }
}

/// The usual values of one metric for the 168 hours of the week.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    week: Vec<Option<Usual>>,
}

/// The hours of a week, from Monday 0:00.
pub const HOURS_OF_WEEK: usize = 7 * 24;

/// Which hour of the week the clock shows, from 0 (Monday 0:00) to 167, and the day.
pub fn hour_of_week(at: Timestamp, zone: &TimeZone) -> (usize, jiff::civil::Date) {
    let local = zone.to_datetime(at);
    let weekday = local.weekday().to_monday_zero_offset();
    (usize::from(weekday.unsigned_abs()) * 24 + usize::from(local.hour().unsigned_abs()), local.date())
}

impl Profile {
    /// From means of hours, in any order and with any holes.
    pub fn of(hours: impl IntoIterator<Item = (Timestamp, f64)>, zone: &TimeZone) -> Profile {
        Profile::of_places(hours.into_iter().map(|(at, value)| (hour_of_week(at, zone), value)))
    }

    /// The same, with the places known: they are the same for each metric, and looking them up is most of the work.
    pub fn of_places(hours: impl IntoIterator<Item = ((usize, jiff::civil::Date), f64)>) -> Profile {
        let mut week: Vec<Vec<(jiff::civil::Date, f64)>> = vec![Vec::new(); HOURS_OF_WEEK];
        for ((hour, day), value) in hours {
            if value.is_finite() && hour < HOURS_OF_WEEK {
                week[hour].push((day, value));
            }
        }
        let week: Vec<Vec<f64>> = week.into_iter().map(one_a_day).collect();
        let of_days: Vec<Option<Usual>> = (0..24).map(|hour| by_day(&week, hour)).collect();
        Profile { week: (0..HOURS_OF_WEEK).map(|hour| by_week(&week, hour).or(of_days[hour % 24])).collect() }
    }

    pub fn at(&self, at: Timestamp, zone: &TimeZone) -> Option<Usual> {
        self.hour(hour_of_week(at, zone).0)
    }

    /// By the hour of the week, from 0 (Monday 0:00) to 167.
    pub fn hour(&self, hour: usize) -> Option<Usual> {
        self.week.get(hour).copied().flatten()
    }

    /// What most hours of the week rest on; `None` without any.
    pub fn basis(&self) -> Option<Basis> {
        let count = |basis| self.week.iter().flatten().filter(|usual| usual.basis == basis).count();
        let (week, day) = (count(Basis::HourOfWeek), count(Basis::HourOfDay));
        match week >= day {
            true if week > 0 => Some(Basis::HourOfWeek),
            _ if day > 0 => Some(Basis::HourOfDay),
            _ => None,
        }
    }
}

/// Also where the clock showed the hour twice.
fn one_a_day(mut values: Vec<(jiff::civil::Date, f64)>) -> Vec<f64> {
    values.sort_unstable_by(|a, b| a.0.cmp(&b.0).then(a.1.total_cmp(&b.1)));
    values.chunk_by(|a, b| a.0 == b.0).filter_map(|day| median(day.iter().map(|value| value.1))).collect()
}

/// The spread is that of the hours before and after too, each around its own median: of four weeks alone it would be chance.
fn by_week(week: &[Vec<f64>], hour: usize) -> Option<Usual> {
    let values = &week[hour];
    if values.len() < FEWEST_WEEKS {
        return None;
    }
    let around = [(hour + HOURS_OF_WEEK - 1) % HOURS_OF_WEEK, hour, (hour + 1) % HOURS_OF_WEEK];
    let deviations = around.into_iter().filter(|hour| week[*hour].len() >= FEWEST_WEEKS).flat_map(|hour| {
        let median = median(week[hour].iter().copied()).unwrap_or_default();
        week[hour].iter().map(move |value| (value - median).abs())
    });
    Some(Usual {
        median: median(values.iter().copied())?,
        spread: spread_of_deviations(deviations, values.len())?,
        basis: Basis::HourOfWeek,
        observed: values.len() as u32,
    })
}

fn by_day(week: &[Vec<f64>], hour: usize) -> Option<Usual> {
    let values: Vec<f64> = (0..7).flat_map(|day| week[day * 24 + hour].iter().copied()).collect();
    if values.len() < FEWEST_DAYS {
        return None;
    }
    let middle = middle(&values)?;
    Some(Usual { median: middle.median, spread: middle.spread, basis: Basis::HourOfDay, observed: values.len() as u32 })
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;
    use proptest::prelude::*;

    use super::*;

    fn berlin() -> TimeZone {
        TimeZone::get("Europe/Berlin").unwrap()
    }

    fn hours(from: &str, count: usize, value: impl Fn(&jiff::Zoned) -> f64) -> Vec<(Timestamp, f64)> {
        let from: Timestamp = from.parse().unwrap();
        let at = |hour: usize| from + (hour as i64).hours();
        (0..count).map(|hour| (at(hour), value(&at(hour).to_zoned(berlin())))).collect()
    }

    /// A value that tells weekday and hour of the clock.
    fn telling(local: &jiff::Zoned) -> f64 {
        f64::from(local.weekday().to_monday_one_offset()) * 100.0 + f64::from(local.hour())
    }

    #[test]
    fn the_clock_of_the_owner_counts_also_when_it_changes() {
        // Thirteen weeks around the end of summer time on 25 October 2026, and around its beginning on 29 March.
        for (from, count) in [("2026-09-06T22:00:00Z", 13 * 168 + 1), ("2026-02-08T23:00:00Z", 13 * 168 - 1)] {
            let profile = Profile::of(hours(from, count, telling), &berlin());
            for hour in 0..HOURS_OF_WEEK {
                let usual = profile.hour(hour).unwrap();
                let expected = ((hour / 24 + 1) * 100 + hour % 24) as f64;
                assert_eq!((usual.median, usual.spread, usual.basis), (expected, 0.0, Basis::HourOfWeek), "{hour}");
                // The hour that is skipped once misses a week; the one that comes twice counts once.
                let skipped = from.starts_with("2026-02") && hour == 6 * 24 + 2;
                assert_eq!(usual.observed, if skipped { 12 } else { 13 }, "{hour} from {from}");
            }
        }
        // Asked at a time, the same hour of the clock answers in summer and in winter.
        let profile = Profile::of(hours("2026-02-08T23:00:00Z", 13 * 168, telling), &berlin());
        for at in ["2026-01-03T13:30:00Z", "2026-07-04T12:30:00Z"] {
            assert_eq!(profile.at(at.parse().unwrap(), &berlin()).unwrap().median, 614.0, "{at}");
        }
        // Half an hour off the hour, as in India, and no zone at all.
        for (zone, expected) in [("Asia/Kolkata", 619.0), ("UTC", 614.0)] {
            let zone = TimeZone::get(zone).unwrap();
            let hours = (0..13 * 168).map(|hour| "2026-02-08T23:00:00Z".parse::<Timestamp>().unwrap() + hour.hours());
            let profile = Profile::of(hours.map(|at| (at, telling(&at.to_zoned(zone.clone())))), &zone);
            assert_eq!(profile.at("2026-07-04T14:00:00Z".parse().unwrap(), &zone).unwrap().median, expected);
        }
    }

    #[test]
    fn too_few_weeks_fall_back_to_the_day_and_then_to_nothing() {
        let check = |days: usize, expected: Option<Basis>| {
            let profile = Profile::of(hours("2026-06-01T00:00:00Z", days * 24, |_| 1.0), &berlin());
            assert_eq!(profile.basis(), expected, "{days} days");
            assert_eq!(
                profile.at("2026-07-04T14:00:00Z".parse().unwrap(), &berlin()).map(|usual| usual.basis),
                expected
            );
        };
        check(0, None);
        check(6, None);
        check(7, Some(Basis::HourOfDay));
        check(20, Some(Basis::HourOfDay));
        check(28, Some(Basis::HourOfWeek));
        // A machine that is off on Sundays: these hours are judged by the other days, the rest by their own.
        let mut week = hours("2026-06-01T00:00:00Z", 8 * 168, telling);
        week.retain(|(at, _)| at.to_zoned(berlin()).weekday() != jiff::civil::Weekday::Sunday);
        let profile = Profile::of(week, &berlin());
        assert_eq!(profile.hour(0).unwrap().basis, Basis::HourOfWeek);
        let sunday = profile.hour(6 * 24 + 14).unwrap();
        assert_eq!((sunday.basis, sunday.observed), (Basis::HourOfDay, 48));
    }

    proptest! {
        #[test]
        fn any_hours_make_a_profile_within_their_bounds(
            hours in prop::collection::vec((0_i64..20_000, prop_oneof![9 => 0.0..1.0_f64, 1 => prop::num::f64::ANY]), 0..800),
        ) {
            let hours: Vec<(Timestamp, f64)> = hours
                .into_iter()
                .filter(|(_, value): &(i64, f64)| value.is_nan() || (0.0..1.0).contains(value))
                .map(|(hour, value)| (Timestamp::from_second(1_750_000_000 / 3600 * 3600 + hour * 3600).unwrap(), value))
                .collect();
            let profile = Profile::of(hours.iter().copied(), &berlin());
            for usual in (0..HOURS_OF_WEEK).filter_map(|hour| profile.hour(hour)) {
                prop_assert!((0.0..1.0).contains(&usual.median) && (0.0..=2.0).contains(&usual.spread));
                let fewest = if usual.basis == Basis::HourOfWeek { FEWEST_WEEKS } else { FEWEST_DAYS };
                prop_assert!(usual.observed as usize >= fewest);
            }
            // The order does not matter.
            let mut reversed = hours;
            reversed.reverse();
            prop_assert_eq!(Profile::of(reversed, &berlin()), profile);
        }
    }
}
