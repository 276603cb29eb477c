//! Series in the steps that somebody asks for. Pure.

use jiff::{SignedDuration, Timestamp};

use super::{
    columns::{Column, Figure},
    read::{self, Point, Resolution},
    window::STEP,
};

/// There is hardly more than a year; with a step more it is still within what can be read.
const LONGEST: SignedDuration = SignedDuration::from_hours(390 * 24);
/// Without a beginning: what a person calls "lately".
const LENGTH: SignedDuration = SignedDuration::from_hours(24);
/// Steps that are chosen when nobody asks for one, in minutes.
const USUAL_STEPS: [u32; 11] = [5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 10_080];
/// Shorter ones are made of five-minute samples, the others of hours.
const HOUR: u32 = 60;
/// A week.
const LONGEST_STEP: u32 = 10_080;
const SMALLEST_STEP: u32 = (STEP / 60) as u32;

/// A time after `from` up to and including `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub from: Timestamp,
    pub to: Timestamp,
}

impl Range {
    /// What was asked for; the last day without any of it. Nobody knows the future.
    pub fn asked(from: Option<Timestamp>, to: Option<Timestamp>, now: Timestamp) -> Result<Range, String> {
        let to = to.unwrap_or(now).min(now);
        let from = from.unwrap_or_else(|| to.checked_sub(LENGTH).unwrap_or(Timestamp::MIN));
        if from >= to {
            return Err(format!("from must be before to, and not in the future: {from} is not before {to}"));
        }
        if to.duration_since(from) > LONGEST {
            return Err("the range must be at most 390 days: no more is kept".to_owned());
        }
        Ok(Range { from, to })
    }

    /// The same from the beginning of a step on, so that the first one is whole.
    pub fn whole(self, step: u32) -> Range {
        let seconds = i64::from(step) * 60;
        let from = self.from.as_second().div_euclid(seconds) * seconds;
        Range { from: Timestamp::from_second(from).unwrap_or(self.from), ..self }
    }

    fn minutes(self) -> u32 {
        u32::try_from(self.to.duration_since(self.from).as_mins()).unwrap_or(u32::MAX)
    }
}

/// How long a step is, in minutes: the one that was asked for, or the shortest usual one that makes at most `usual` of them. More
/// than `most` are refused. Where there are no samples any more, before `detail_since`, it takes hours.
pub fn step(asked: Option<u32>, range: Range, detail_since: Timestamp, usual: u32, most: u32) -> Result<u32, String> {
    // Less than an hour that is missing at the beginning is no reason for hours.
    let fine = range.from.checked_add(SignedDuration::from_hours(1)).is_ok_and(|from| from >= detail_since);
    let least = if fine { SMALLEST_STEP } else { HOUR };
    let enough = |step: u32, points: u32| range.minutes().div_ceil(step) <= points;
    let Some(step) = asked else {
        let fits = USUAL_STEPS.into_iter().find(|step| *step >= least && enough(*step, usual));
        return Ok(fits.unwrap_or(LONGEST_STEP));
    };
    let whole = step % if step < HOUR { SMALLEST_STEP } else { HOUR } == 0;
    if step == 0 || !whole || step > LONGEST_STEP {
        return Err(format!(
            "step must be 5 to {LONGEST_STEP} minutes, a multiple of 5 below an hour and of 60 from there on"
        ));
    }
    if step < least {
        return Err("step must be 60 minutes or more: of so long ago only hours are kept".to_owned());
    }
    if !enough(step, most) {
        let unit = if range.minutes() / most < HOUR { SMALLEST_STEP } else { HOUR };
        let next = range.minutes().div_ceil(most).div_ceil(unit) * unit;
        return Err(format!("step must be {next} minutes or more for this range: an answer has at most {most} points"));
    }
    Ok(step)
}

/// What steps of a length are made of.
pub fn source(step: u32) -> Resolution {
    if step < HOUR { Resolution::FiveMinutes } else { Resolution::Hourly }
}

/// The points in steps of so many minutes, each stamped with the beginning of its step. The points of a sample are stamped with
/// its end, those of an hour with its beginning.
pub fn in_steps(points: &[Point], of: Resolution, step: u32, column: &Column) -> Vec<Point> {
    let seconds = i64::from(step) * 60;
    let begin = |at: Timestamp| {
        let inside = match of {
            Resolution::FiveMinutes => at.as_second() - 1,
            Resolution::Hourly => at.as_second(),
        };
        inside.div_euclid(seconds) * seconds
    };
    let chunks = points.chunk_by(|a, b| begin(a.at) == begin(b.at));
    chunks.map(|chunk| one(chunk, begin(chunk[0].at), column)).collect()
}

fn one(points: &[Point], begin: i64, column: &Column) -> Point {
    let known = || points.iter().filter_map(|point| point.value);
    let most = |values: &mut dyn Iterator<Item = f64>| values.reduce(f64::max);
    let value = match read::value_of(column) {
        Some(Figure::Sum) => known().reduce(|a, b| a + b),
        Some(Figure::Most | Figure::Max) => most(&mut known()),
        _ => known().reduce(|a, b| a + b).map(|sum| sum / known().count() as f64),
    };
    let spread = column.hourly.contains(&Figure::Avg);
    Point {
        at: Timestamp::from_second(begin).unwrap_or(Timestamp::MAX),
        value,
        min: points.iter().filter_map(|point| point.min.or(point.value)).reduce(f64::min).filter(|_| spread),
        max: most(&mut points.iter().filter_map(|point| point.max.or(point.value))).filter(|_| spread),
        p95: if let [point] = points { point.p95 } else { None },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::columns::SERVICES;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000 + seconds).unwrap()
    }

    fn range(hours: i64) -> Range {
        Range { from: at(-hours * 3600), to: at(0) }
    }

    #[test]
    fn ranges_end_now_and_have_an_end() {
        let asked = |from: Option<i64>, to: Option<i64>| Range::asked(from.map(at), to.map(at), at(0));
        assert_eq!(asked(None, None), Ok(range(24)));
        assert_eq!(asked(Some(-3600), Some(999_999)), Ok(range(1)));
        assert_eq!(asked(None, Some(-3600)), Ok(Range { from: at(-25 * 3600), to: at(-3600) }));
        for (from, to) in [(Some(0), None), (Some(10), None), (Some(-10), Some(-20))] {
            assert!(asked(from, to).unwrap_err().starts_with("from must be before to"));
        }
        assert!(asked(Some(-401 * 86_400), None).unwrap_err().contains("390 days"));
    }

    #[test]
    fn steps_fit_the_range_and_what_is_kept() {
        let (long_ago, never) = (at(-80 * 86_400), Timestamp::MAX);
        let check = |asked: Option<u32>, hours: i64, samples: Timestamp, expected: Result<u32, &str>| {
            let found = step(asked, range(hours), samples, 120, 500);
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{asked:?} {hours}"),
                Err(part) => assert!(found.as_ref().is_err_and(|said| said.contains(part)), "{found:?} lacks {part}"),
            }
        };
        check(None, 2, long_ago, Ok(5));
        check(None, 24, long_ago, Ok(15));
        check(None, 24 * 7, long_ago, Ok(120));
        check(None, 24 * 365, long_ago, Ok(10_080));
        // Without samples there are hours.
        check(None, 2, never, Ok(60));
        check(None, 2, at(-2 * 3600 + 1800), Ok(5));
        check(None, 2, at(0), Ok(60));
        check(None, 24 * 81, long_ago, Ok(1440));
        check(Some(5), 2, never, Err("60 minutes or more: of so long ago"));
        check(Some(30), 24, long_ago, Ok(30));
        check(Some(5), 24 * 7, long_ago, Err("step must be 25 minutes or more"));
        check(Some(60), 24 * 365, never, Err("step must be 1080 minutes or more"));
        for wrong in [0, 4, 7, 61, 90, 10_140] {
            check(Some(wrong), 24, long_ago, Err("a multiple of 5 below an hour and of 60"));
        }
    }

    #[test]
    fn points_are_put_together_as_what_they_are() {
        let sample = |end: i64, value: f64| Point { at: at(end), value: Some(value), min: None, max: None, p95: None };
        let column = |name| read::metric(&SERVICES, name).unwrap();
        // 1 800 000 000 is a whole hour. What ends with it belongs to the hour before.
        let samples = [sample(0, 9.0), sample(300, 1.0), sample(600, 3.0), sample(3600, 2.0), sample(3900, 5.0)];
        let of = |name| in_steps(&samples, Resolution::FiveMinutes, 60, column(name));
        let cpu = of("cpu_cores");
        assert_eq!(
            cpu.iter().map(|it| (it.at, it.value)).collect::<Vec<_>>(),
            [(at(-3600), Some(9.0)), (at(0), Some(2.0)), (at(3600), Some(5.0)),]
        );
        assert_eq!((cpu[1].min, cpu[1].max), (Some(1.0), Some(3.0)));
        assert_eq!(of("restarts")[1].value, Some(6.0));
        assert_eq!((of("memory_limit_bytes")[1].value, of("memory_limit_bytes")[1].min), (Some(3.0), None));
        let hour = |begin: i64, value, min, max| Point { at: at(begin), value, min, max, p95: Some(1.0) };
        let hours = [
            hour(0, Some(1.0), Some(0.5), Some(4.0)),
            hour(3600, None, None, None),
            hour(7200, Some(3.0), Some(2.0), Some(3.0)),
        ];
        let found = in_steps(&hours, Resolution::Hourly, 180, column("cpu_cores"));
        assert_eq!(found.len(), 2);
        assert_eq!(in_steps(&hours, Resolution::Hourly, 60, column("cpu_cores")), hours);
        let all = in_steps(&hours, Resolution::Hourly, 10_080, column("cpu_cores"));
        assert_eq!((all[0].value, all[0].min, all[0].max, all[0].p95), (Some(2.0), Some(0.5), Some(4.0), None));
    }
}
