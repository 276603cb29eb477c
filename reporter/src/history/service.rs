//! How one service did over a time: whether it was up and well, what it took, its restarts, and its incidents.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::{Client, Row};

use super::{
    columns::SERVICES,
    prometheus::Prometheus,
    read::{self, Point, ReadError},
    series::{self, rounded},
    steps::{self, Range},
    subject::{Of, Who},
};

/// Points when nobody asks for a step: as many as an agent is given in one answer.
const USUAL_POINTS: u32 = 120;
/// Points of one answer.
const MOST_POINTS: u32 = 500;
/// Incidents of one answer, the newest.
const MOST_INCIDENTS: i64 = 50;

/// `GET /api/v1/services/{project}/{service}/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServiceHistory {
    pub host: String,
    pub project: String,
    pub service: String,
    /// The beginning of the first step.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub from: Timestamp,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub to: Timestamp,
    pub step_minutes: u32,
    /// By Docker's own restart policy, over the whole time; those of the healer are in the incidents.
    pub restarts: u64,
    /// Processes killed for memory.
    pub oom_kills: u64,
    /// Oldest first; steps in which nothing was measured are left out.
    pub points: Vec<ServicePoint>,
    /// From then on the values are Prometheus': the history is written once an hour.
    #[schemars(with = "Option<String>")]
    pub lately_from: Option<Timestamp>,
    /// Why these are not there, when Prometheus could not be asked for them.
    pub lately_missing: Option<String>,
    /// Those that were open at some time of it, as Postgres has them, the newest first.
    pub incidents: Vec<IncidentBrief>,
    /// False when there were more.
    pub incidents_complete: bool,
}

/// A service over one step. What could not be measured is null.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ServicePoint {
    /// Beginning of the step.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// Share of the time in which the replicas that should run did; null when none should.
    pub up_ratio: Option<f64>,
    /// Share of the time in which health checks called them healthy; null without a health check.
    pub healthy_ratio: Option<f64>,
    pub restarts: Option<f64>,
    /// Processes killed for memory.
    pub oom_kills: Option<f64>,
    /// Processors kept busy.
    pub cpu_cores: Option<f64>,
    /// Working set, the mean.
    pub memory_bytes: Option<f64>,
    /// Working set, the most.
    pub memory_peak_bytes: Option<f64>,
    /// Of all replicas; null when one of them has none.
    pub memory_limit_bytes: Option<f64>,
}

/// An incident in a line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct IncidentBrief {
    pub id: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub opened_at: Timestamp,
    #[schemars(with = "Option<String>")]
    pub closed_at: Option<Timestamp>,
    pub state: String,
    /// How it ended; null while it is open.
    pub outcome: Option<String>,
    pub problem: String,
    /// What is behind it, as far as it is known.
    pub cause: Option<String>,
    pub attempts: i32,
}

/// In the order of the fields of [`ServicePoint`].
const FIGURES: [&str; 8] = [
    "up_ratio",
    "healthy_ratio",
    "restarts",
    "oom_kills",
    "cpu_cores",
    "memory_bytes",
    "memory_peak_bytes",
    "memory_limit_bytes",
];

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ServiceHistoryError {
    #[error("{0}")]
    Wrong(String),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Fails when the step does not fit the range.
pub async fn read(
    client: &Client,
    prometheus: Option<&Prometheus>,
    who: &Who,
    range: Range,
    step: Option<u32>,
) -> Result<ServiceHistory, ServiceHistoryError> {
    let Of::Service { project, service } = &who.of else {
        return Err(ServiceHistoryError::Wrong("this is no service".to_owned()));
    };
    let detail_since = read::detail_since(client).await?;
    let step = steps::step(step, range, detail_since, USUAL_POINTS, MOST_POINTS).map_err(ServiceHistoryError::Wrong)?;
    let range = range.whole(step);
    let columns = series::columns(who, &FIGURES, step)?;
    let found = series::find(client, prometheus, who, &columns, range, step).await?;
    let (incidents, incidents_complete) = incidents(client, who, project, service, range).await?;
    let points = put_together(&found.points);
    let sum = |of: fn(&ServicePoint) -> Option<f64>| points.iter().filter_map(of).sum::<f64>() as u64;
    Ok(ServiceHistory {
        host: who.host.clone(),
        project: project.clone(),
        service: service.clone(),
        from: range.from,
        to: range.to,
        step_minutes: step,
        restarts: sum(|point| point.restarts),
        oom_kills: sum(|point| point.oom_kills),
        points,
        lately_from: found.lately_from,
        lately_missing: found.lately_missing,
        incidents,
        incidents_complete,
    })
}

/// One row a step of the series, which are in the order of [`FIGURES`].
fn put_together(series: &[Vec<Point>]) -> Vec<ServicePoint> {
    let mut rows: std::collections::BTreeMap<Timestamp, [Option<f64>; FIGURES.len()]> = Default::default();
    for (place, points) in series.iter().enumerate().take(FIGURES.len()) {
        // Of what was used at most the most counts, not the mean.
        let is_peak = FIGURES[place] == "memory_peak_bytes";
        for point in points {
            let value = if is_peak { point.max.or(point.value) } else { point.value };
            let column = read::metric(&SERVICES, FIGURES[place]).ok();
            let value = value.zip(column).map(|(value, column)| rounded(value, column));
            rows.entry(point.at).or_default()[place] = value;
        }
    }
    let row = |(at, values): (Timestamp, [Option<f64>; FIGURES.len()])| {
        let [
            up_ratio,
            healthy_ratio,
            restarts,
            oom_kills,
            cpu_cores,
            memory_bytes,
            memory_peak_bytes,
            memory_limit_bytes,
        ] = values;
        ServicePoint {
            at,
            up_ratio,
            healthy_ratio,
            restarts,
            oom_kills,
            cpu_cores,
            memory_bytes,
            memory_peak_bytes,
            memory_limit_bytes,
        }
    };
    rows.into_iter().filter(|(_, values)| values.iter().any(Option::is_some)).map(row).collect()
}

const INCIDENTS: &str = "
SELECT id::text, opened_at, closed_at, state, outcome, problem, diagnosis ->> 'summary', attempts
FROM incidents
WHERE host = $1 AND project = $2 AND service = $3 AND opened_at <= $5 AND (closed_at IS NULL OR closed_at >= $4)
ORDER BY opened_at DESC LIMIT $6";

async fn incidents(
    client: &Client,
    who: &Who,
    project: &str,
    service: &str,
    range: Range,
) -> Result<(Vec<IncidentBrief>, bool), ReadError> {
    let one_more = MOST_INCIDENTS + 1;
    let rows = client.query(INCIDENTS, &[&who.host, &project, &service, &range.from, &range.to, &one_more]).await?;
    let brief = |row: &Row| {
        Ok::<_, tokio_postgres::Error>(IncidentBrief {
            id: row.try_get(0)?,
            opened_at: row.try_get(1)?,
            closed_at: row.try_get(2)?,
            state: row.try_get(3)?,
            outcome: row.try_get(4)?,
            problem: row.try_get(5)?,
            cause: row.try_get::<_, Option<String>>(6)?.filter(|summary| !summary.is_empty()),
            attempts: row.try_get(7)?,
        })
    };
    let complete = rows.len() as i64 <= MOST_INCIDENTS;
    let briefs = rows.iter().take(MOST_INCIDENTS as usize).map(brief).collect::<Result<_, _>>()?;
    Ok((briefs, complete))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_step_has_what_was_measured_in_it() {
        let at = |seconds: i64| Timestamp::from_second(seconds).unwrap();
        let point = |seconds: i64, value: Option<f64>, max: Option<f64>| Point {
            at: at(seconds),
            value,
            min: None,
            max,
            p95: None,
        };
        let mut series: Vec<Vec<Point>> = vec![Vec::new(); FIGURES.len()];
        series[0] = vec![point(0, Some(0.333_333_3), None), point(300, None, None)];
        series[2] = vec![point(600, Some(2.0), Some(2.0))];
        series[6] = vec![point(600, Some(10.0), Some(30.0))];
        let rows = put_together(&series);
        assert_eq!(rows.iter().map(|row| row.at).collect::<Vec<_>>(), [at(0), at(600)]);
        assert_eq!((rows[0].up_ratio, rows[0].restarts), (Some(0.3333), None));
        assert_eq!((rows[1].restarts, rows[1].memory_peak_bytes), (Some(2.0), Some(30.0)));
    }
}
