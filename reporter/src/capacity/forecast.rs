//! When a resource runs out at the present trend, with an interval. Pure: points over days in, days from now out.
//!
//! 1. Single wild days are smoothed away, and what repeats every week is taken out.
//! 2. How much neighbouring days differ, at one day's distance and at two, tells the noise and its memory.
//! 3. The series is cut where it bends or jumps ([`segments`]). The last piece is the present; earlier pieces join it for as long
//!    as they rise alike, whatever level they are at: a clean-up or a new service changes the level, not the trend. When
//!    jumps to one side come again and again they are how things go here (a log that is rotated, a weekly prune), and the
//!    whole series counts, jumps included.
//! 4. The interval says what the noise leaves open of the slope and of the level. A slope that noise alone could have made
//!    is no trend.
//!
//! What this does not do: know of plans, holidays or yearly seasons.

use std::collections::BTreeMap;

use crate::capacity::segments::{Segment, segments};
use crate::statistics::{deviation_around_zero, median, median_slope};

/// Fewer days say nothing of a trend: two weekends at least.
pub const FEWEST_DAYS: u32 = 14;

/// Longer than the longest history, a year: nobody can see further by it. Said as "not within 3 years".
pub const HORIZON_YEARS: u32 = 3;
const HORIZON_DAYS: f64 = HORIZON_YEARS as f64 * 365.25;

/// Of the interval: how often the true date lies inside, if the noise is what it was.
pub const INTERVAL_PERCENT: u32 = 80;

/// Of a normal distribution, 80 % lie within so many deviations; and more, since the pieces are estimates too: with 1.28, the
/// generated series of the tests have their date inside in 85 to 90 %.
const INTERVAL_DEVIATIONS: f64 = 1.8;

/// The interval is never narrower than this share of the time to its date: no load grows as evenly as that.
const NARROWEST: f64 = 0.05;

/// A slope is a trend when noise makes one so steep in less than one of 200 flat series.
const TREND_DEVIATIONS: f64 = 2.6;

/// Slopes are alike when they are not further apart than this many of their deviations.
const ALIKE_DEVIATIONS: f64 = 2.0;

/// Changes below this share of the limit are as good as none: 16 MiB of a card of 32 GiB.
const FINEST: f64 = 0.0005;

/// The price of a cut, as a multiple of the logarithm of the number of days: three numbers that noise would fit by chance.
const PRICE: f64 = 5.0;

/// A jump is one when it is so many deviations of the noise high.
const GREAT_JUMP: f64 = 4.0;

/// The same for the change from one day to the next, whose deviations are better known.
const SUDDEN_JUMP: f64 = 5.0;

/// So many jumps to one side are no exceptions any more.
const HABIT: usize = 3;

/// A correlation of neighbouring days beyond which the series is taken for one that wanders and never comes back.
const WANDERS: f64 = 0.8;

/// Above it the variance would be infinite.
const MOST_MEMORY: f64 = 0.97;

/// What the series says, in days from its last day.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Projection {
    TooLittleHistory {
        days: u32,
    },
    /// The limit is where the level is now.
    Reached,
    /// Neither up nor down beyond what noise does.
    NoTrend,
    Falling {
        per_day: f64,
    },
    /// Rises, too slowly for the horizon.
    NotWithinHorizon {
        per_day: f64,
    },
    RunsOut {
        per_day: f64,
        expected: f64,
        earliest: f64,
        /// `None` when it may be beyond the horizon.
        latest: Option<f64>,
    },
}

/// Projects a value a day (`(day, value)`, in any order, days missing at will) towards `limit`.
pub fn project(days: &[(i32, f64)], limit: f64) -> Projection {
    let points = tidy(days, limit);
    let count = points.len() as u32;
    let span = points.last().zip(points.first()).map_or(0.0, |(last, first)| last.0 - first.0 + 1.0);
    // Holes are fine as long as half of the least is there.
    if count < FEWEST_DAYS / 2 || span < f64::from(FEWEST_DAYS) {
        return Projection::TooLittleHistory { days: count };
    }
    let points = without_week(&without_spikes(&points));
    let now = points[points.len() - 1].0;
    let trend = trend(&points);
    // A full disk is flat.
    if trend.level >= 1.0 - FINEST {
        return Projection::Reached;
    }
    let per_day = trend.slope * limit;
    if trend.slope.abs() <= trend.noise.few(TREND_DEVIATIONS, trend.count) * trend.slope_deviation {
        return Projection::NoTrend;
    }
    if trend.slope < 0.0 {
        return Projection::Falling { per_day };
    }
    let expected = (1.0 - trend.level) / trend.slope;
    if expected > HORIZON_DAYS {
        return Projection::NotWithinHorizon { per_day };
    }
    let reaches = |ahead: f64, deviations: f64| {
        trend.level + trend.slope * ahead + deviations * trend.deviation(now, ahead) >= 1.0
    };
    let deviations = trend.noise.few(INTERVAL_DEVIATIONS, trend.count);
    let earliest = first(expected, |ahead| reaches(ahead, deviations)).unwrap_or(expected);
    let latest = first(HORIZON_DAYS, |ahead| reaches(ahead, -deviations));
    Projection::RunsOut {
        per_day,
        expected,
        earliest: earliest.min(expected * (1.0 - NARROWEST)),
        latest: latest.map(|latest| latest.max(expected * (1.0 + NARROWEST))),
    }
}

/// The first moment up to `end` at which `holds` does, which stays so; to a thousandth of a day.
fn first(end: f64, holds: impl Fn(f64) -> bool) -> Option<f64> {
    if !holds(end) {
        return None;
    }
    let (mut without, mut with) = (0.0, end);
    while with - without > 0.001 {
        let middle = f64::midpoint(without, with);
        if holds(middle) { with = middle } else { without = middle }
    }
    Some(with)
}

/// As shares of the limit, in order, a value a day (the last one given). What is a thousand times the limit is a mistake.
fn tidy(days: &[(i32, f64)], limit: f64) -> Vec<(f64, f64)> {
    if !(limit.is_finite() && limit > 0.0) {
        return Vec::new();
    }
    let shares = days.iter().map(|(day, value)| (*day, value / limit));
    let by_day: BTreeMap<i32, f64> = shares.filter(|(_, share)| share.abs() < 1000.0).collect();
    by_day.into_iter().map(|(day, value)| (f64::from(day), value)).collect()
}

/// Replaces single days that stand far out among their neighbours. Two alike are a new level, and the last day may be the
/// first of one.
fn without_spikes(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const AROUND: usize = 3;
    const FAR: f64 = 5.0;
    let calm = |index: usize| {
        let around = &points[index.saturating_sub(AROUND)..(index + AROUND + 1).min(points.len())];
        let middle = crate::statistics::middle(&around.iter().map(|point| point.1).collect::<Vec<_>>())?;
        let far = FAR * middle.spread.max(FINEST);
        let apart = |from: f64| (points[index].1 - from).abs() > far;
        let neighbours = [index.checked_sub(1), Some(index + 1)];
        let alone = neighbours.into_iter().flatten().filter_map(|index| points.get(index)).all(|point| apart(point.1));
        (index + 1 < points.len() && apart(middle.median) && alone).then_some(middle.median)
    };
    points.iter().enumerate().map(|(index, (x, y))| (*x, calm(index).unwrap_or(*y))).collect()
}

/// Takes out what each weekday adds, where there are weeks enough to tell it from chance.
fn without_week(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    const FEWEST_WEEKS: usize = 4;
    let mut by_weekday: [Vec<f64>; 7] = Default::default();
    let weekday = |x: f64| (x as i64).rem_euclid(7) as usize;
    for window in points.windows(7) {
        // Only whole weeks: half a week would take the trend for a weekday's.
        if window[6].0 - window[0].0 == 6.0 {
            let usual = median(window.iter().map(|point| point.1)).unwrap_or_default();
            by_weekday[weekday(window[3].0)].push(window[3].1 - usual);
        }
    }
    if by_weekday.iter().any(|values| values.len() < FEWEST_WEEKS) {
        return points.to_vec();
    }
    let added = by_weekday.map(|values| median(values).unwrap_or_default());
    let mean = added.iter().sum::<f64>() / 7.0;
    points.iter().map(|(x, y)| (*x, y - added[weekday(*x)] + mean)).collect()
}

/// How the days scatter around the trend.
#[derive(Clone, Copy, Debug)]
struct Noise {
    variance: f64,
    /// The correlation of neighbouring days.
    memory: f64,
    /// Of the step from one day to the next.
    step: f64,
}

impl Noise {
    /// From differences, which neither a trend nor a few jumps sway: of independent days, those four days apart differ as
    /// much as neighbours do; where days remember, they differ more. Longer distances would take a bend for memory.
    fn of_differences(points: &[(f64, f64)]) -> Noise {
        const APART: [i32; 4] = [1, 2, 3, 4];
        const FEWEST_PAIRS: usize = 8;
        let variance = |days: i32| {
            let differences = differences(points, days);
            if differences.len() < FEWEST_PAIRS && days > 1 {
                return None;
            }
            let drift = median(differences.iter().copied()).unwrap_or_default();
            let deviation = deviation_around_zero(differences.iter().map(|difference| difference - drift));
            Some((days, deviation.unwrap_or_default().max(FINEST).powi(2) / 2.0))
        };
        let found: Vec<(i32, f64)> = APART.into_iter().filter_map(variance).collect();
        // The variance at so many days is the whole one times 1 - memory^days: the memory that comes nearest.
        let missed = |memory: f64| {
            let ratios: Vec<f64> = found.iter().map(|(days, variance)| variance / (1.0 - memory.powi(*days))).collect();
            let whole = ratios.iter().sum::<f64>() / ratios.len() as f64;
            let miss: f64 = ratios.iter().map(|ratio| (ratio / whole - 1.0).powi(2)).sum();
            (miss, whole)
        };
        let grid = (0..=(MOST_MEMORY * 100.0) as u32).map(|percent| f64::from(percent) / 100.0);
        let (memory, _, variance) = grid.fold((0.0, f64::INFINITY, 0.0), |best, memory| {
            let (miss, whole) = missed(memory);
            if miss < best.1 { (memory, miss, whole) } else { best }
        });
        Noise { variance, memory, step: (2.0 * found[0].1).sqrt() }
    }

    /// From what the pieces leave over, where that is more: jumps that are no pieces, bends that are no cuts.
    fn with_rest(self, points: &[(f64, f64)], pieces: &[Segment]) -> Noise {
        let rest: Vec<f64> = pieces
            .iter()
            .flat_map(|piece| points[piece.first..piece.end].iter().map(|(x, y)| y - piece.at(*x)))
            .collect();
        let spent = pieces.iter().map(|piece| if piece.weight > 0.0 { 2.0 } else { 1.0 }).sum::<f64>();
        let free = rest.len() as f64 - spent;
        let total = rest.iter().map(|rest| rest * rest).sum::<f64>();
        if free < 3.0 || total <= 0.0 {
            return self;
        }
        let together = rest.windows(2).map(|pair| pair[0] * pair[1]).sum::<f64>() / total;
        // A line that was fitted to few points takes memory with it.
        let memory = together + (1.0 + 4.0 * together.max(0.0)) * spent / 2.0 / rest.len() as f64;
        Noise {
            variance: (total / free).max(self.variance),
            memory: memory.clamp(self.memory, MOST_MEMORY.max(self.memory)),
            step: self.step,
        }
    }

    /// How many times more days are needed to know as much as from independent ones.
    fn inflation(&self) -> f64 {
        (1.0 + self.memory) / (1.0 - self.memory)
    }

    fn wanders(&self) -> bool {
        self.memory >= WANDERS
    }

    /// Of the slope of a piece with this weight over so many points.
    fn slope_variance(&self, weight: f64, count: f64) -> f64 {
        let around = self.variance * self.inflation() / weight.max(f64::MIN_POSITIVE);
        // The slope of a walk is known by its ends alone.
        let walk = if self.wanders() { 1.2 * self.step * self.step / count } else { 0.0 };
        around.max(walk)
    }

    /// By how much more than of a normal distribution the deviations count when they are known from so few points
    /// (Student's distribution, to its first order).
    fn few(&self, deviations: f64, count: f64) -> f64 {
        // A walk is known by its steps, which are independent.
        let independent = if self.wanders() { count } else { count / self.inflation() };
        let free = (independent - 2.0).max(1.0);
        deviations * (1.0 + (deviations * deviations + 1.0) / (4.0 * free))
    }
}

/// Of all pairs of points that are so many days apart.
fn differences(points: &[(f64, f64)], days: i32) -> Vec<f64> {
    let pairs = points.iter().enumerate().flat_map(|(index, (x, y))| {
        let later = points[index + 1..].iter().take(days as usize);
        later.filter(move |point| point.0 - x == f64::from(days)).map(move |point| point.1 - y)
    });
    pairs.collect()
}

#[derive(Clone, Copy, Debug)]
struct Trend {
    level: f64,
    level_variance: f64,
    slope: f64,
    slope_deviation: f64,
    /// Where the slope turns: the middle of what it is known from.
    middle: f64,
    /// Of each further day, for a series that wanders.
    daily_variance: f64,
    noise: Noise,
    /// Of the points that the slope is known from.
    count: f64,
}

impl Trend {
    fn deviation(&self, now: f64, ahead: f64) -> f64 {
        let lever = ahead + (now - self.middle).min(ahead);
        let slope = self.slope_deviation * lever;
        (slope * slope + self.level_variance + self.daily_variance * ahead).sqrt()
    }
}

fn trend(points: &[(f64, f64)]) -> Trend {
    let noise = Noise::of_differences(points);
    let price = PRICE * (points.len() as f64).ln() * noise.inflation() * noise.variance;
    let usual = median(differences(points, 7)).unwrap_or_default() / 7.0;
    let pieces = segments(points, price, usual);
    let noise = noise.with_rest(points, &pieces);
    let jumps = jumps(&pieces, noise).max(sudden(points, noise));
    match jumps >= HABIT {
        true => habitual(points, jumps + 1, noise),
        false => present(points, &pieces, noise),
    }
}

/// How many changes from one day to the next are jumps, to the side that has more.
fn sudden(points: &[(f64, f64)], noise: Noise) -> usize {
    let steps = differences(points, 1);
    let drift = median(steps.iter().copied()).unwrap_or_default();
    let far = SUDDEN_JUMP * noise.step;
    let count = |sign: f64| steps.iter().filter(|step| sign * (*step - drift) > far).count();
    count(1.0).max(count(-1.0))
}

/// How many jumps there are to the side that has more.
fn jumps(pieces: &[Segment], noise: Noise) -> usize {
    let long: Vec<&Segment> = pieces.iter().filter(|piece| piece.weight > 0.0).collect();
    let great = long.windows(2).filter_map(|pair| {
        // In the middle between the two, so that neither line has to reach far.
        let from = f64::midpoint(pair[0].mean_x, pair[1].mean_x);
        let jump = pair[1].at(from) - pair[0].at(from);
        (jump.abs() > GREAT_JUMP * noise.variance.sqrt()).then_some(jump > 0.0)
    });
    let great: Vec<bool> = great.collect();
    let up = great.iter().filter(|up| **up).count();
    up.max(great.len() - up)
}

/// The whole series with its jumps, whose number says how often it has been observed, so to speak.
fn habitual(points: &[(f64, f64)], times: usize, noise: Noise) -> Trend {
    let count = points.len() as f64;
    let slope = median_slope(points).unwrap_or_default();
    let middle = points.iter().map(|point| point.0).sum::<f64>() / count;
    let level = median(points.iter().map(|(x, y)| y - slope * (x - middle))).unwrap_or_default();
    let scatter = points.iter().map(|(x, y)| (y - level - slope * (x - middle)).powi(2)).sum::<f64>() / count;
    let weight = points.iter().map(|(x, _)| (x - middle).powi(2)).sum::<f64>() / count * times as f64;
    let now = points[points.len() - 1].0;
    Trend {
        level: level + slope * (now - middle),
        level_variance: scatter / times as f64,
        slope,
        slope_deviation: (scatter / weight.max(f64::MIN_POSITIVE)).sqrt(),
        middle,
        daily_variance: 0.0,
        noise: Noise { memory: 0.0, ..noise },
        count: times as f64,
    }
}

/// The last piece that tells a slope, and as many before it as rise alike; from the level of the last one.
fn present(points: &[(f64, f64)], pieces: &[Segment], noise: Noise) -> Trend {
    let last = pieces[pieces.len() - 1];
    let (mut slope, mut weight, mut count) = (last.slope, 0.0, 0.0);
    for piece in pieces.iter().rev().filter(|piece| piece.weight > 0.0) {
        let length = piece.count() as f64;
        if weight == 0.0 {
            (slope, weight, count) = (piece.slope, piece.weight, length);
            continue;
        }
        let apart = noise.slope_variance(piece.weight, length) + noise.slope_variance(weight, count);
        if (piece.slope - slope).abs() > ALIKE_DEVIATIONS * apart.sqrt() {
            break;
        }
        slope = (slope * weight + piece.slope * piece.weight) / (weight + piece.weight);
        weight += piece.weight;
        count += length;
    }
    let now = points[points.len() - 1].0;
    let line = |x: f64| last.mean_y + slope * (x - last.mean_x);
    // Who wanders is where it is.
    let (level, level_count) = match noise.wanders() {
        true => (points[points.len() - 1].1, 1.0),
        false => (line(now), last.count() as f64),
    };
    Trend {
        level,
        level_variance: noise.variance * (noise.inflation() / level_count).min(1.0),
        slope,
        slope_deviation: noise.slope_variance(weight, count).sqrt(),
        middle: last.mean_x,
        daily_variance: if noise.wanders() { noise.step * noise.step } else { 0.0 },
        noise,
        count,
    }
}

#[cfg(test)]
mod tests;
