//! Where a series bends or jumps: it is cut into straight pieces so that the squared distances, and a price for each cut,
//! are least in sum. A clean-up that freed 20 GB is such a cut, and so is a service that was added. Pure.

/// A straight piece: the points `first..end` of the series, and the line through them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Segment {
    pub first: usize,
    pub end: usize,
    pub mean_x: f64,
    pub mean_y: f64,
    pub slope: f64,
    /// The sum of the squared distances of x from its mean: how well the slope is known. 0 when it isn't.
    pub weight: f64,
}

impl Segment {
    pub fn count(&self) -> usize {
        self.end - self.first
    }

    pub fn at(&self, x: f64) -> f64 {
        self.mean_y + self.slope * (x - self.mean_x)
    }
}

/// Fewer points tell no slope: such a piece is a level alone, and rises as the series usually does.
pub const SHORTEST: usize = 5;

/// Sums over the first points, so that the line through any of them takes no loop.
struct Sums(Vec<[f64; 5]>);

impl Sums {
    fn of(points: &[(f64, f64)]) -> Sums {
        let mut sums = Vec::with_capacity(points.len() + 1);
        let mut sum = [0.0; 5];
        sums.push(sum);
        for (x, y) in points {
            for (total, part) in sum.iter_mut().zip([*x, *y, x * x, x * y, y * y]) {
                *total += part;
            }
            sums.push(sum);
        }
        Sums(sums)
    }

    /// The line through the points `first..end`, and the sum of the squared distances from it.
    fn line(&self, first: usize, end: usize, usual: f64) -> (Segment, f64) {
        let [x, y, xx, xy, yy] = std::array::from_fn(|index| self.0[end][index] - self.0[first][index]);
        let count = (end - first) as f64;
        let (weight, together, total) = (xx - x * x / count, xy - x * y / count, yy - y * y / count);
        let known = end - first >= SHORTEST && weight > 0.0;
        let slope = if known { together / weight } else { usual };
        let rest = (total - 2.0 * slope * together + slope * slope * weight).max(0.0);
        let weight = if known { weight } else { 0.0 };
        (Segment { first, end, mean_x: x / count, mean_y: y / count, slope, weight }, rest)
    }
}

/// Cuts the series, which must be in the order of x, at the price of `price` for each piece; `usual` is the slope of pieces
/// that are too short to tell one. Never empty unless the series is.
pub fn segments(points: &[(f64, f64)], price: f64, usual: f64) -> Vec<Segment> {
    // Around their middle, so that squares of large numbers don't cancel.
    let length = points.len();
    if length == 0 {
        return Vec::new();
    }
    let middle_x = points.iter().map(|point| point.0).sum::<f64>() / length as f64;
    let middle_y = points.iter().map(|point| point.1).sum::<f64>() / length as f64;
    let centred: Vec<(f64, f64)> = points.iter().map(|(x, y)| (x - middle_x, y - middle_y)).collect();
    let sums = Sums::of(&centred);
    // The least cost of the first points, and where their last piece begins.
    let mut best = vec![(f64::INFINITY, 0); length + 1];
    best[0] = (0.0, 0);
    for end in 1..=length {
        for first in 0..end {
            let cost = best[first].0 + sums.line(first, end, usual).1 + price;
            if cost < best[end].0 {
                best[end] = (cost, first);
            }
        }
    }
    let mut pieces = Vec::new();
    let mut end = length;
    while end > 0 {
        let first = best[end].1;
        let mut piece = sums.line(first, end, usual).0;
        piece.mean_x += middle_x;
        piece.mean_y += middle_y;
        pieces.push(piece);
        end = first;
    }
    pieces.reverse();
    pieces
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn cuts(values: impl IntoIterator<Item = f64>, price: f64) -> Vec<(usize, f64)> {
        let points: Vec<(f64, f64)> = values.into_iter().enumerate().map(|(x, y)| (x as f64, y)).collect();
        segments(&points, price, 0.0)
            .iter()
            .map(|piece| (piece.first, (piece.slope * 1000.0).round() / 1000.0))
            .collect()
    }

    #[test]
    fn it_cuts_where_the_series_bends_or_jumps() {
        let line = |x: i32| f64::from(x);
        assert_eq!(cuts((0..20).map(line), 1.0), [(0, 1.0)]);
        let jump = (0..40).map(|x| line(x) - if x < 25 { 0.0 } else { 20.0 });
        assert_eq!(cuts(jump, 1.0), [(0, 1.0), (25, 1.0)]);
        let bend = (0..40).map(|x| if x < 20 { 0.0 } else { 3.0 * f64::from(x - 19) });
        assert_eq!(cuts(bend, 1.0).last().map(|piece| piece.1), Some(3.0));
        // A cut has its price.
        let small = (0..40).map(|x| if x < 25 { 0.0 } else { 0.1 });
        assert_eq!(cuts(small, 10.0).len(), 1);
    }

    #[test]
    fn few_points_are_a_level() {
        assert_eq!(cuts([], 1.0), []);
        assert_eq!(cuts([5.0], 1.0), [(0, 0.0)]);
        assert_eq!(cuts([5.0, 6.0], 1.0), [(0, 0.0)]);
        // A jump of the last day is a level of its own.
        assert_eq!(cuts([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 90.0], 1.0), [(0, 1.0), (6, 0.0)]);
    }

    proptest! {
        #[test]
        fn pieces_follow_each_other_and_cover_everything(
            values in prop::collection::vec(-1e9..1e9, 1..120), price in 0.001..1e18,
        ) {
            let points: Vec<(f64, f64)> = values.iter().enumerate().map(|(x, y)| (x as f64, *y)).collect();
            let pieces = segments(&points, price, 0.0);
            prop_assert_eq!(pieces[0].first, 0);
            prop_assert_eq!(pieces[pieces.len() - 1].end, points.len());
            for pair in pieces.windows(2) {
                prop_assert_eq!(pair[0].end, pair[1].first);
            }
            for piece in &pieces {
                prop_assert!(piece.count() > 0 && (piece.weight > 0.0) == (piece.count() >= SHORTEST));
                prop_assert!(piece.slope.is_finite() && piece.mean_y.is_finite());
            }
        }
    }
}
