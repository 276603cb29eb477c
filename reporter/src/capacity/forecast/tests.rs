//! Generated series with known answers: the true date must be inside the interval, and flat series must raise no alarm.

use proptest::prelude::*;

use super::*;
use crate::dice::Dice;

const LIMIT: f64 = 100.0;

/// What is added to the level that counts.
#[derive(Clone, Copy)]
struct Disturbance {
    noise: f64,
    memory: f64,
    /// Of the weekday, from the lowest to the highest.
    week: f64,
    /// Share of the days that are missing, and of those that are wild.
    missing: f64,
    wild: f64,
}

const CALM: Disturbance = Disturbance { noise: 0.8, memory: 0.0, week: 0.0, missing: 0.0, wild: 0.0 };

fn disturbed(dice: &mut Dice, levels: &[f64], with: Disturbance) -> Vec<(i32, f64)> {
    let mut error = dice.normal() * with.noise;
    let start = 19_000 + (dice.even() * 7.0) as i32;
    let mut days = Vec::new();
    for (index, level) in levels.iter().enumerate() {
        let day = start + index as i32;
        error = with.memory * error + (1.0 - with.memory * with.memory).sqrt() * with.noise * dice.normal();
        let weekday = f64::from(day.rem_euclid(7));
        let mut value = level + error + with.week * ((weekday * std::f64::consts::TAU / 7.0).sin() / 2.0);
        if dice.even() < with.wild {
            value += dice.between(-30.0, 30.0);
        }
        if index + 1 == levels.len() || dice.even() >= with.missing {
            days.push((day, value));
        }
    }
    days
}

/// A series of so many days that ends `left` days before the limit, rising by `slope(days before the end)`, with jumps
/// `(days before the end, height)`.
fn levels(days: usize, left: f64, last_slope: f64, slope: impl Fn(usize) -> f64, jumps: &[(usize, f64)]) -> Vec<f64> {
    let mut level = LIMIT - left * last_slope;
    let mut levels = vec![level];
    for before in 1..days {
        level -= slope(before);
        level -= jumps.iter().filter(|jump| jump.0 == before).map(|jump| jump.1).sum::<f64>();
        levels.push(level);
    }
    levels.reverse();
    levels
}

/// The share of 200 seeded series whose true date lies inside the interval; each series comes with its days left.
fn inside(make: impl Fn(&mut Dice) -> (Vec<(i32, f64)>, f64)) -> (f64, f64) {
    let mut widths = Vec::new();
    let mut inside = 0;
    for seed in 0..200 {
        let (days, left) = make(&mut Dice(seed));
        match project(&days, LIMIT) {
            Projection::RunsOut { expected, earliest, latest, .. } => {
                assert!(earliest <= expected && latest.is_none_or(|latest| latest >= expected), "seed {seed}");
                inside += usize::from(earliest <= left && latest.is_none_or(|latest| left <= latest));
                widths.push((latest.unwrap_or(HORIZON_DAYS) - earliest) / left);
            }
            // What says nothing wrong is not wrong, and yet no answer.
            _ => widths.push(f64::INFINITY),
        }
    }
    (inside as f64 / 200.0, median(widths.iter().map(|width| width.min(1e9))).unwrap())
}

#[test]
fn the_true_date_is_inside_the_interval_for_every_shape() {
    type Make = fn(&mut Dice) -> (Vec<(i32, f64)>, f64);
    fn even(dice: &mut Dice) -> (usize, f64, f64) {
        let days = dice.between(60.0, 360.0) as usize;
        (days, dice.between(10.0, 400.0), dice.between(0.06, 0.3))
    }
    let shapes: &[(&str, Make)] = &[
        ("a line", |dice| {
            let (days, left, slope) = even(dice);
            (disturbed(dice, &levels(days, left, slope, |_| slope, &[]), CALM), left)
        }),
        ("a short line", |dice| {
            let (left, slope) = (dice.between(10.0, 100.0), dice.between(0.2, 1.0));
            (disturbed(dice, &levels(28, left, slope, |_| slope, &[]), CALM), left)
        }),
        ("weeks and days that remember", |dice| {
            let (days, left, slope) = even(dice);
            let with = Disturbance { memory: 0.6, week: 8.0, ..CALM };
            (disturbed(dice, &levels(days, left, slope, |_| slope, &[]), with), left)
        }),
        ("a clean-up that freed a fifth", |dice| {
            let (days, left, slope) = even(dice);
            let when = dice.between(2.0, 55.0) as usize;
            (disturbed(dice, &levels(days, left, slope, |_| slope, &[(when, -20.0)]), CALM), left)
        }),
        ("a new service, and a clean-up", |dice| {
            let (days, left, slope) = even(dice);
            let jumps = [(dice.between(1.0, 30.0) as usize, 12.0), (dice.between(31.0, 58.0) as usize, -15.0)];
            (disturbed(dice, &levels(days, left, slope, |_| slope, &jumps), CALM), left)
        }),
        ("a bend", |dice| {
            let (days, left, slope) = (240, dice.between(10.0, 300.0), dice.between(0.1, 0.4));
            let (when, before) = (dice.between(30.0, 120.0) as usize, dice.between(-0.1, 3.0) * slope);
            let slopes = move |day: usize| if day <= when { slope } else { before };
            (disturbed(dice, &levels(days, left, slope, slopes, &[]), CALM), left)
        }),
        ("holes and wild days", |dice| {
            let (days, left, slope) = even(dice);
            let with = Disturbance { missing: 0.25, wild: 0.04, ..CALM };
            (disturbed(dice, &levels(days, left, slope, |_| slope, &[]), with), left)
        }),
        ("a log that is rotated every ten days", |dice| {
            let (days, left, slope) = (200, dice.between(30.0, 300.0), dice.between(0.1, 0.3));
            let line = levels(days, left, slope, |_| slope, &[]);
            let phase = dice.between(0.0, 10.0) as usize;
            let saw: Vec<f64> =
                line.iter().enumerate().map(|(day, level)| level + ((day + phase) % 10) as f64 - 4.5).collect();
            (disturbed(dice, &saw, CALM), left)
        }),
    ];
    let mut failed = Vec::new();
    for (name, make) in shapes {
        let (share, width) = inside(make);
        let line = format!("{name}: {:.1} % inside, width {width:.2} of the time left", share * 100.0);
        // An interval of everything would be inside, and no answer.
        if share < 0.9 || width > 1.5 {
            failed.push(line);
        } else {
            eprintln!("{line}");
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn a_walk_with_a_drift_crosses_the_limit_inside_the_interval() {
    let (share, _) = inside(|dice| {
        // The date is when the walk itself first crosses, not its drift.
        let (drift, step) = (0.25, 0.6);
        let mut level = dice.between(0.0, 20.0);
        let mut days = Vec::new();
        for day in 0..180 {
            level += drift + step * dice.normal();
            days.push((19_000 + day, level));
        }
        let mut left = 0.0;
        while level < LIMIT && left < 3000.0 {
            level += drift + step * dice.normal();
            left += 1.0;
        }
        (days, left)
    });
    assert!(share >= 0.8, "{share}");
}

#[test]
fn flat_series_raise_no_alarm() {
    type Make = fn(&mut Dice) -> Vec<(i32, f64)>;
    fn flat(dice: &mut Dice) -> Vec<f64> {
        let (days, level) = (dice.between(14.0, 360.0) as usize, dice.between(60.0, 92.0));
        vec![level; days]
    }
    let shapes: &[(&str, Make)] = &[
        ("noise", |dice| {
            let levels = flat(dice);
            disturbed(dice, &levels, Disturbance { noise: 2.0, ..CALM })
        }),
        ("weeks", |dice| {
            let levels = flat(dice);
            disturbed(dice, &levels, Disturbance { week: 12.0, ..CALM })
        }),
        ("days that remember", |dice| {
            let levels = flat(dice);
            disturbed(dice, &levels, Disturbance { noise: 2.0, memory: 0.7, ..CALM })
        }),
        ("days that remember long", |dice| {
            let levels = vec![dice.between(60.0, 92.0); 300];
            disturbed(dice, &levels, Disturbance { noise: 2.0, memory: 0.93, ..CALM })
        }),
        ("a new service", |dice| {
            let mut levels = flat(dice);
            let when = (dice.between(0.2, 0.95) * levels.len() as f64) as usize;
            levels[..when].iter_mut().for_each(|level| *level -= 15.0);
            disturbed(dice, &levels, CALM)
        }),
        ("a log that is rotated every month", |dice| {
            let phase = dice.between(0.0, 30.0) as usize;
            let levels: Vec<f64> = (0..300).map(|day| 50.0 + ((day + phase) % 30) as f64).collect();
            disturbed(dice, &levels, CALM)
        }),
        ("a weekly clean-up", |dice| {
            let levels: Vec<f64> = (0..120).map(|day| 60.0 + f64::from(day % 7) * 3.0).collect();
            disturbed(dice, &levels, CALM)
        }),
        ("holes and wild days", |dice| {
            let levels = flat(dice);
            disturbed(dice, &levels, Disturbance { missing: 0.3, wild: 0.05, ..CALM })
        }),
    ];
    let mut failed = Vec::new();
    for (name, make) in shapes {
        let alarms = (0..200)
            .filter(|seed| {
                let days = make(&mut Dice(*seed));
                matches!(project(&days, LIMIT), Projection::RunsOut { .. } | Projection::Reached)
            })
            .count();
        eprintln!("{name}: {alarms} of 200");
        if alarms > 4 {
            failed.push(format!("{name}: {alarms} of 200"));
        }
    }
    assert!(failed.is_empty(), "{failed:#?}");
}

#[test]
fn plain_answers() {
    let line = |days: i32, from: f64, slope: f64| -> Vec<(i32, f64)> {
        (0..days).map(|day| (day, from + slope * f64::from(day))).collect()
    };
    let check = |days: &[(i32, f64)], limit: f64, expected: fn(&Projection) -> bool| {
        let projection = project(days, limit);
        assert!(expected(&projection), "{projection:?}");
    };
    use Projection::*;
    check(&[], 100.0, |p| *p == TooLittleHistory { days: 0 });
    check(&line(13, 50.0, 1.0), 100.0, |p| *p == TooLittleHistory { days: 13 });
    check(&line(30, 50.0, 1.0), 0.0, |p| *p == TooLittleHistory { days: 0 });
    check(&line(30, 50.0, 1.0), f64::NAN, |p| matches!(p, TooLittleHistory { .. }));
    check(&line(30, 50.0, 0.0), 100.0, |p| *p == NoTrend);
    check(&line(30, 90.0, 1.0), 100.0, |p| *p == Reached);
    check(&line(30, 90.0, -1.0), 100.0, |p| matches!(p, Falling { per_day } if (*per_day + 1.0).abs() < 1e-6));
    check(&line(365, 10.0, 0.01), 100.0, |p| matches!(p, NotWithinHorizon { .. }));
    // 50 + 29 · 1 = 79 now: 21 days are left.
    check(&line(30, 50.0, 1.0), 100.0, |p| {
        matches!(p, RunsOut { expected, earliest, latest: Some(latest), .. }
            if (*expected - 21.0).abs() < 0.01 && *earliest < 21.0 && *latest > 21.0 && *latest < 25.0)
    });
}

proptest! {
    /// Whatever is put in, the answer is in order; and the unit does not matter.
    #[test]
    fn any_series_gets_an_answer_in_order(
        days in prop::collection::vec((0..400, prop_oneof![9 => 0.0..200.0, 1 => prop::num::f64::ANY]), 0..200),
        limit in prop_oneof![9 => 1.0..300.0, 1 => prop::num::f64::ANY],
    ) {
        if let Projection::RunsOut { per_day, expected, earliest, latest } = project(&days, limit) {
            prop_assert!(per_day > 0.0 && 0.0 <= earliest && earliest <= expected && expected <= HORIZON_DAYS);
            prop_assert!(latest.is_none_or(|latest| expected <= latest));
        }
    }

    #[test]
    fn the_unit_does_not_matter(
        values in prop::collection::vec(0.0..200.0, 14..100), times in prop_oneof![Just(1024.0), Just(1_073_741_824.0)],
    ) {
        let days: Vec<(i32, f64)> = values.iter().enumerate().map(|(day, value)| (day as i32, *value)).collect();
        let scaled: Vec<(i32, f64)> = days.iter().map(|(day, value)| (*day, value * times)).collect();
        let same = |a: Projection, b: Projection| match (a, b) {
            (Projection::RunsOut { expected: a, .. }, Projection::RunsOut { expected: b, .. }) => (a - b).abs() < 1e-6,
            (a, b) => std::mem::discriminant(&a) == std::mem::discriminant(&b),
        };
        let (a, b) = (project(&days, 150.0), project(&scaled, 150.0 * times));
        prop_assert!(same(a, b), "{:?} {:?}", a, b);
    }
}
