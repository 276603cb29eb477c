//! Statistics that a few wild values do not sway: medians, and spreads by the median absolute deviation. All of it pure;
//! values that are no number are as good as missing.

/// What the median absolute deviation is multiplied by to be a standard deviation, were the values normally distributed.
const DEVIATION_OF_NORMAL: f64 = 1.4826;

/// How much too small the median absolute deviation of so few values is on average, by their number (from 2 on; Croux and
/// Rousseeuw, "Time-efficient algorithms for two highly robust estimators of scale", 1992).
const FEW: [f64; 8] = [1.196, 1.495, 1.363, 1.206, 1.200, 1.140, 1.129, 1.107];

/// The values that are numbers, in order.
pub fn sorted(values: impl IntoIterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.into_iter().filter(|value| value.is_finite()).collect();
    values.sort_unstable_by(f64::total_cmp);
    values
}

/// The quantile of values that are [`sorted`], between two of them in proportion. `None` without values.
pub fn quantile(sorted: &[f64], share: f64) -> Option<f64> {
    let last = sorted.len().checked_sub(1)?;
    let place = share.clamp(0.0, 1.0) * last as f64;
    let below = (place as usize).min(last);
    let (low, high) = (sorted[below], sorted[(below + 1).min(last)]);
    // Not low + (high - low) · part, which overflows between the ends of what a double can hold.
    let part = place - below as f64;
    Some((low * (1.0 - part) + high * part).clamp(low, high))
}

/// `None` without values.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    quantile(&sorted(values), 0.5)
}

/// Where the values lie, and how far from it they usually are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Middle {
    pub median: f64,
    /// The median absolute deviation as a standard deviation, corrected for few values; 0 for a single one.
    pub spread: f64,
}

/// `None` without values.
pub fn middle(values: &[f64]) -> Option<Middle> {
    let values = sorted(values.iter().copied());
    let median = quantile(&values, 0.5)?;
    let deviation = self::median(values.iter().map(|value| (value - median).abs())).unwrap_or_default();
    Some(Middle { median, spread: deviation * DEVIATION_OF_NORMAL * few(values.len()) })
}

/// The spread from deviations around medians of `count` values each.
pub fn spread_of_deviations(deviations: impl IntoIterator<Item = f64>, count: usize) -> Option<f64> {
    Some(median(deviations)? * DEVIATION_OF_NORMAL * few(count))
}

fn few(count: usize) -> f64 {
    match count {
        0 | 1 => 1.0,
        count => FEW.get(count - 2).copied().unwrap_or(count as f64 / (count as f64 - 0.8)),
    }
}

/// The standard deviation by way of the median absolute deviation around zero, for differences that have no trend.
pub fn deviation_around_zero(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    Some(median(values.into_iter().map(f64::abs))? * DEVIATION_OF_NORMAL)
}

/// The median of the slopes between all pairs of points (Theil and Sen): up to a quarter of the points may be anything.
/// `None` where no two points differ in x.
pub fn median_slope(points: &[(f64, f64)]) -> Option<f64> {
    let mut slopes = Vec::with_capacity(points.len() * points.len() / 2);
    for (index, (x, y)) in points.iter().enumerate() {
        slopes.extend(points[..index].iter().filter(|(other, _)| other != x).map(|(ox, oy)| (y - oy) / (x - ox)));
    }
    median(slopes)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn quantiles_lie_between_the_values() {
        let check = |values: &[f64], share: f64, expected: Option<f64>| {
            assert_eq!(quantile(&sorted(values.iter().copied()), share), expected, "{values:?} at {share}");
        };
        check(&[], 0.5, None);
        check(&[f64::NAN, f64::INFINITY], 0.5, None);
        check(&[7.0], 0.95, Some(7.0));
        check(&[3.0, 1.0], 0.5, Some(2.0));
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.0, Some(1.0));
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 1.0, Some(5.0));
        check(&[1.0, 2.0, 3.0, 4.0, 5.0], 0.9, Some(4.6));
        check(&[1.0, f64::NAN, 3.0], 0.5, Some(2.0));
        check(&[-f64::MAX, f64::MAX], 0.5, Some(0.0));
    }

    #[test]
    fn a_wild_value_does_not_sway_the_middle() {
        let calm = middle(&[10.0, 11.0, 12.0, 13.0, 14.0]).unwrap();
        let wild = middle(&[10.0, 11.0, 12.0, 13.0, 1e9]).unwrap();
        assert_eq!(calm, wild);
        assert!((calm.median - 12.0).abs() < 1e-9 && (calm.spread - 1.4826 * 1.206).abs() < 1e-9, "{calm:?}");
        assert_eq!(middle(&[5.0]), Some(Middle { median: 5.0, spread: 0.0 }));
        assert_eq!(middle(&[]), None);
    }

    #[test]
    fn the_median_slope_survives_a_quarter_of_nonsense() {
        let mut line: Vec<(f64, f64)> = (0..40).map(|x| (f64::from(x), 3.0 + 2.0 * f64::from(x))).collect();
        for point in line.iter_mut().step_by(5) {
            point.1 = -1000.0;
        }
        assert!((median_slope(&line).unwrap() - 2.0).abs() < 1e-9);
        assert_eq!(median_slope(&[(1.0, 2.0), (1.0, 3.0)]), None);
        assert_eq!(median_slope(&[]), None);
    }

    fn values() -> impl Strategy<Value = Vec<f64>> {
        prop::collection::vec(prop_oneof![9 => -1e6..1e6, 1 => prop::num::f64::ANY], 0..60)
    }

    proptest! {
        #[test]
        fn quantiles_rise_with_the_share_and_are_within(values in values(), low in 0.0..1.0, more in 0.0..1.0) {
            let sorted = sorted(values);
            let high = low + (1.0 - low) * more;
            match (quantile(&sorted, low), quantile(&sorted, high)) {
                (None, None) => prop_assert!(sorted.is_empty()),
                (Some(a), Some(b)) => prop_assert!(sorted[0] <= a && a <= b && b <= sorted[sorted.len() - 1]),
                _ => prop_assert!(false),
            }
        }

        #[test]
        fn the_middle_does_not_depend_on_the_order_and_moves_with_the_values(
            mut values in prop::collection::vec(-1e6..1e6_f64, 1..60), by in -1e6..1e6_f64, times in 0.001..1000.0_f64,
        ) {
            let before = middle(&values).unwrap();
            values.reverse();
            prop_assert_eq!(middle(&values), Some(before));
            let moved: Vec<f64> = values.iter().map(|value| value * times + by).collect();
            let after = middle(&moved).unwrap();
            let near = |a: f64, b: f64| (a - b).abs() <= 1e-6 * (1.0 + a.abs() + b.abs() + by.abs());
            prop_assert!(near(after.median, before.median * times + by), "{:?} {:?}", after, before);
            prop_assert!(near(after.spread, before.spread * times) && after.spread >= 0.0, "{:?} {:?}", after, before);
        }
    }
}
