//! Small charts as SVG, drawn on the server: one line with its area, readable without script or colour. Pure.

use std::fmt::Write as _;

use maud::{Markup, PreEscaped, html};

/// Of the drawing; the style stretches it to whatever room there is.
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 72.0;

/// One point: seconds since 1970 and the value, `None` where it could not be measured.
pub type Point = (i64, Option<f64>);

/// A chart with its words.
pub struct Chart<'a> {
    /// What is drawn, for who can't see it: name, last value and range stand in it.
    pub label: &'a str,
    pub points: &'a [Point],
    /// The first and the last second of the chart, whether there are points or not.
    pub from: i64,
    pub to: i64,
    /// The top, where it is known; otherwise a little above the highest value.
    pub top: Option<f64>,
}

impl Chart<'_> {
    /// The drawing. Where nothing was measured there is a gap, not a line.
    pub fn svg(&self) -> Markup {
        let highest =
            self.points.iter().filter_map(|point| point.1).filter(|value| value.is_finite()).fold(0.0, f64::max);
        let top = self.top.filter(|top| *top > 0.0).unwrap_or(highest * 1.1).max(f64::MIN_POSITIVE);
        let (line, area) = self.paths(top);
        let view = format!("0 0 {WIDTH} {HEIGHT}");
        html! {
            svg class="chart" viewBox=(view) preserveAspectRatio="none" role="img" aria-label=(self.label) {
                path class="grid" d=(PreEscaped(format!("M0 {0}H{WIDTH}M0 {1}H{WIDTH}", HEIGHT / 2.0, HEIGHT - 0.5))) {}
                @if !line.is_empty() {
                    path class="area" d=(PreEscaped(area)) {}
                    path class="line" d=(PreEscaped(line)) {}
                }
            }
        }
    }

    fn paths(&self, top: f64) -> (String, String) {
        let length = (self.to - self.from).max(1) as f64;
        let place = |at: i64, value: f64| {
            let x = (at - self.from) as f64 / length * WIDTH;
            let y = HEIGHT - (value / top).clamp(0.0, 1.0) * (HEIGHT - 2.0) - 1.0;
            (x.clamp(0.0, WIDTH), y)
        };
        let (mut line, mut area) = (String::new(), String::new());
        let known = |point: &Point| point.1.is_some_and(f64::is_finite);
        for run in self.points.chunk_by(|before, after| known(before) == known(after)).filter(|run| known(&run[0])) {
            let places: Vec<(f64, f64)> = run.iter().filter_map(|(at, value)| Some(place(*at, (*value)?))).collect();
            let (Some(first), Some(last)) = (places.first(), places.last()) else { continue };
            _ = write!(area, "M{:.1} {HEIGHT}", first.0);
            for (number, (x, y)) in places.iter().enumerate() {
                _ = write!(line, "{}{x:.1} {y:.1}", if number == 0 { 'M' } else { 'L' });
                _ = write!(area, "L{x:.1} {y:.1}");
            }
            if places.len() == 1 {
                // A point alone is seen as a dot: the line has round ends.
                line.push_str("h0.1");
            }
            _ = write!(area, "L{:.1} {HEIGHT}Z", last.0);
        }
        (line, area)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draw(points: &[Point], top: Option<f64>) -> String {
        Chart { label: "CPU <now> 5 %", points, from: 0, to: 100, top }.svg().into_string()
    }

    #[test]
    fn a_gap_stays_a_gap_and_values_stay_within() {
        let drawn =
            draw(&[(0, Some(0.0)), (50, Some(1.0)), (60, None), (70, Some(f64::NAN)), (100, Some(7.0))], Some(1.0));
        assert!(drawn.contains(r#"d="M0.0 71.0L160.0 1.0M320.0 1.0h0.1""#), "{drawn}");
        assert!(drawn.contains("M0.0 72L0.0 71.0L160.0 1.0L160.0 72ZM320.0 72L320.0 1.0L320.0 72Z"), "{drawn}");
        assert!(drawn.contains(r#"aria-label="CPU &lt;now&gt; 5 %""#), "{drawn}");
    }

    #[test]
    fn without_points_or_height_there_is_still_a_chart() {
        assert!(!draw(&[], None).contains("line"));
        let flat = draw(&[(0, Some(0.0)), (100, Some(0.0))], None);
        assert!(flat.contains(r#"d="M0.0 71.0L320.0 71.0""#) && !flat.contains("NaN"), "{flat}");
        // Nothing that could leave the attribute.
        assert!(!draw(&[(0, Some(f64::INFINITY)), (i64::MAX, Some(-1e300))], Some(-1.0)).contains("inf"));
    }
}
