//! What is not in Postgres yet: the history is written once an hour, and what came since is asked of Prometheus, by the same
//! queries. So the newest point is minutes old, not an hour.

use std::time::Duration;

use jiff::Timestamp;

use super::{
    columns::{Column, Table},
    prometheus::{Prometheus, PrometheusError},
    queries::{self, Query},
    read::Point,
    store::time,
    subject::{Of, Who},
    window::{self, STEP, Window},
};

/// Whoever waits for a series waits no longer for its end.
const WITHIN: Duration = Duration::from_secs(8);
/// Steps that are asked for: six hours, for when the copy is behind. What is longer ago is told as missing by its absence.
const MOST_STEPS: i64 = window::STEPS_AT_ONCE;

/// The steps after `stored` up to `to` that Prometheus can be asked for; `None` when nothing came since.
pub fn window(stored: Option<Timestamp>, to: Timestamp) -> Option<Window> {
    let last = window::settled(to.as_second() + window::SETTLE);
    let first = last - (MOST_STEPS - 1) * STEP;
    let first = stored.map_or(first, |at| first.max(at.as_second().div_euclid(STEP) * STEP + STEP));
    (first <= last).then_some(Window { first, last })
}

/// The samples of some columns, in their order; or for people why not.
pub async fn ask(
    prometheus: &Prometheus,
    who: &Who,
    table: &'static Table,
    columns: &[&'static Column],
    window: Window,
) -> Result<Vec<Vec<Point>>, String> {
    let all = match who.of {
        Of::Host => queries::hosts(),
        Of::Mount(_) => queries::mounts(),
        Of::Service { .. } => queries::services(),
    };
    let of = |column: &Column| all.iter().find(|query| table.place(column.name) == Some(query.column));
    let asked = columns.iter().map(|column| samples(prometheus, who, of(column), column, window));
    let answers = tokio::time::timeout(WITHIN, futures_util::future::try_join_all(asked)).await;
    let answers = answers.map_err(|_| format!("prometheus did not answer within {} s", WITHIN.as_secs()))?;
    answers.map_err(|error| crate::errors::chain(&error))
}

async fn samples(
    prometheus: &Prometheus,
    who: &Who,
    query: Option<&Query>,
    column: &Column,
    window: Window,
) -> Result<Vec<Point>, PrometheusError> {
    let Some(query) = query else { return Ok(Vec::new()) };
    let series = prometheus.range(&query.promql, window).await?;
    let own = series.iter().filter(|series| who.is(&series.metric)).flat_map(|series| &series.values);
    let point = |at: i64, value: f64| Point { at: time(at), value: Some(value), min: None, max: None, p95: None };
    let mut points: Vec<Point> = own
        .filter_map(|it| {
            let at = it.at.round() as i64;
            window.place(at)?;
            Some(point(at, column.kind.sane(it.value)?))
        })
        .collect();
    points.sort_by_key(|point| point.at);
    // As in a batch: of two for the same time the first one stays.
    points.dedup_by_key(|point| point.at);
    Ok(points)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_since_is_asked_for_and_no_more_than_six_hours() {
        let at = |seconds: i64| Timestamp::from_second(1_800_000_000 + seconds).unwrap();
        let check = |stored: Option<i64>, to: i64, expected: Option<(i64, i64)>| {
            let found = window(stored.map(at), at(to));
            let expected =
                expected.map(|(first, last)| Window { first: 1_800_000_000 + first, last: 1_800_000_000 + last });
            assert_eq!(found, expected, "{stored:?} {to}");
        };
        check(Some(0), 3700, Some((300, 3600)));
        check(Some(0), 299, None);
        check(Some(3600), 3600, None);
        check(Some(7200), 3600, None);
        check(None, 3600, Some((3600 - 71 * 300, 3600)));
        check(Some(-90_000), 3600, Some((3600 - 71 * 300, 3600)));
    }
}
