//! The hours at which a host is busiest, week after week. Pure.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::baseline::usual::Profile;
use crate::statistics::median;

/// More than three peaks are no peaks.
const MOST_PEAKS: usize = 3;

/// An hour belongs to a peak from this part of the way between the usual level and the highest hour on.
const FOOT: f64 = 0.6;

/// A peak stands above the usual level by at least this share of it: else the week is flat.
const LEAST_HEIGHT: f64 = 0.15;

/// Weekdays and hours at which a metric is usually high.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Peak {
    /// From 1 (Monday) to 7.
    pub weekdays: Vec<u8>,
    /// First hour, from 0.
    pub from_hour: u8,
    /// Where it ends, up to 24: the hour after the last one.
    pub to_hour: u8,
    /// The highest of the medians of its hours.
    pub median: f64,
}

/// The most that was measured.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Highest {
    pub value: f64,
    /// Beginning of the hour.
    #[schemars(with = "String")]
    pub at: Timestamp,
}

/// The highest peaks, the highest first; none where the week is flat.
pub fn peaks(profile: &Profile) -> Vec<Peak> {
    let hour = |weekday: usize, hour: usize| profile.hour(weekday * 24 + hour).map(|usual| usual.median);
    let all: Vec<f64> = (0..7).flat_map(|day| (0..24).filter_map(move |at| hour(day, at))).collect();
    let (Some(level), Some(top)) = (median(all.iter().copied()), all.iter().copied().reduce(f64::max)) else {
        return Vec::new();
    };
    if top - level <= LEAST_HEIGHT * level.abs() {
        return Vec::new();
    }
    let foot = level + FOOT * (top - level);
    let mut peaks: Vec<Peak> = Vec::new();
    for weekday in 0..7 {
        let high = |at: usize| at < 24 && hour(weekday, at).is_some_and(|value| value >= foot);
        let mut at = 0;
        while at < 24 {
            if !high(at) {
                at += 1;
                continue;
            }
            let from = at;
            while high(at) {
                at += 1;
            }
            let median = (from..at).filter_map(|at| hour(weekday, at)).fold(f64::MIN, f64::max);
            let weekday = weekday as u8 + 1;
            match peaks.iter_mut().find(|peak| (peak.from_hour, peak.to_hour) == (from as u8, at as u8)) {
                Some(peak) => {
                    peak.weekdays.push(weekday);
                    peak.median = peak.median.max(median);
                }
                None => peaks.push(Peak { weekdays: vec![weekday], from_hour: from as u8, to_hour: at as u8, median }),
            }
        }
    }
    peaks.sort_by(|a, b| b.median.total_cmp(&a.median));
    peaks.truncate(MOST_PEAKS);
    peaks
}

const WEEKDAYS: [&str; 7] = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"];

pub fn weekday(index: usize) -> &'static str {
    WEEKDAYS[index % 7]
}

impl Peak {
    /// `Mon–Fri 18:00–22:00`
    pub fn when(&self) -> String {
        let mut runs: Vec<(u8, u8)> = Vec::new();
        for day in &self.weekdays {
            match runs.last_mut() {
                Some(run) if run.1 + 1 == *day => run.1 = *day,
                _ => runs.push((*day, *day)),
            }
        }
        let name = |day: u8| weekday(usize::from(day) - 1);
        let days: Vec<String> = runs
            .iter()
            .map(|(from, to)| match to - from {
                0 => name(*from).to_owned(),
                1 => format!("{}, {}", name(*from), name(*to)),
                6 => "every day".to_owned(),
                _ => format!("{}–{}", name(*from), name(*to)),
            })
            .collect();
        format!("{} {:02}:00–{:02}:00", days.join(", "), self.from_hour, self.to_hour)
    }
}

/// The most of a metric, and when.
pub fn highest(values: impl Iterator<Item = (Timestamp, f64)>) -> Option<Highest> {
    values
        .filter(|(_, value)| value.is_finite())
        .max_by(|a, b| a.1.total_cmp(&b.1))
        .map(|(at, value)| Highest { value, at })
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn found(value: impl Fn(usize, usize) -> f64) -> Vec<String> {
        let hours = (0..6 * 168).map(|hour| {
            let day = jiff::civil::date(2026, 1, 5) + ((hour / 24) as i64).days();
            ((hour % 168, day), value(hour / 24 % 7, hour % 24))
        });
        let peaks = peaks(&Profile::of_places(hours.collect::<Vec<_>>()));
        peaks.iter().map(|peak| format!("{} {:.2}", peak.when(), peak.median)).collect()
    }

    #[test]
    fn the_hours_that_stand_out_are_named_with_their_weekdays() {
        let evening = |day: usize, hour: usize| if day < 5 && (18..22).contains(&hour) { 0.5 } else { 0.1 };
        assert_eq!(found(evening), ["Mon–Fri 18:00–22:00 0.50"]);
        let nightly = |_: usize, hour: usize| if hour == 3 { 0.8 } else { 0.1 };
        assert_eq!(found(nightly), ["every day 03:00–04:00 0.80"]);
        let weekend = |day: usize, hour: usize| match (day, hour) {
            (5 | 6, 20..) => 0.9,
            (0 | 2, 3) => 0.8,
            _ => 0.1,
        };
        assert_eq!(found(weekend), ["Sat, Sun 20:00–24:00 0.90", "Mon, Wed 03:00–04:00 0.80"]);
        assert_eq!(found(|_, hour| 0.5 + hour as f64 / 1000.0), Vec::<String>::new());
        assert_eq!(found(|_, _| 0.0), Vec::<String>::new());
        assert_eq!(peaks(&Profile::of_places([])), []);
    }
}
