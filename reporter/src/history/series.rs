//! Series as they are asked for: from Postgres, and their end from Prometheus.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio_postgres::Client;

use super::{
    columns::Column,
    lately,
    prometheus::Prometheus,
    read::{self, Point, ReadError, Resolution},
    steps::{self, Range},
    subject::Who,
};

/// Points of one answer: a megabyte of JSON at most.
pub const POINTS_LIMIT: u32 = 10_000;
/// Figures of one answer.
pub const FIGURES_LIMIT: usize = 10;

/// `GET /api/v1/history`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct HistorySeries {
    pub host: String,
    /// The file system, when it is one's.
    pub mountpoint: Option<String>,
    /// The service, when it is one's; the project is empty for a container outside Compose.
    pub project: Option<String>,
    pub service: Option<String>,
    /// The beginning of the first step.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub from: Timestamp,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub to: Timestamp,
    pub step_minutes: u32,
    pub series: Vec<FigureSeries>,
    /// From then on the values are Prometheus': the history is written once an hour.
    #[schemars(with = "Option<String>")]
    pub lately_from: Option<Timestamp>,
    /// Why these are not there, when Prometheus could not be asked for them.
    pub lately_missing: Option<String>,
}

/// One figure over time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct FigureSeries {
    pub figure: String,
    /// Oldest first; steps without any value are left out.
    pub points: Vec<StepPoint>,
}

/// A figure over one step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StepPoint {
    /// Beginning of the step.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    /// The mean; of what is counted the sum, of what hardly changes the most.
    pub value: Option<f64>,
    /// The least and the most, of what goes up and down; not in steps of five minutes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// 95th percentile, in steps of an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub p95: Option<f64>,
}

impl StepPoint {
    fn of(point: &Point, step: u32, column: &Column) -> StepPoint {
        let short = |value: Option<f64>| value.map(|value| rounded(value, column));
        let several = |value: Option<f64>| short(value).filter(|_| step > 5);
        let Point { at, value, min, max, p95 } = *point;
        StepPoint { at, value: short(value), min: several(min), max: several(max), p95: short(p95) }
    }
}

/// As many digits as were measured: figures are stored in half as many bits as they are reckoned in.
pub fn rounded(value: f64, column: &Column) -> f64 {
    use super::columns::Kind;
    match column.kind {
        Kind::Bytes | Kind::Count => value.round(),
        Kind::Ratio | Kind::Number | Kind::Degrees => (value * 10_000.0).round() / 10_000.0,
    }
}

/// Some figures of a subject in steps.
pub struct Found {
    /// In the order in which they were asked for.
    pub points: Vec<Vec<Point>>,
    pub lately_from: Option<Timestamp>,
    pub lately_missing: Option<String>,
}

/// The figures over a range that begins with a step.
pub async fn find(
    client: &Client,
    prometheus: Option<&Prometheus>,
    who: &Who,
    columns: &[&'static Column],
    range: Range,
    step: u32,
) -> Result<Found, ReadError> {
    let stored = read::reach(client).await?.collected_through;
    let window = lately::window(stored, range.to).filter(|window| window.last > range.from.as_second());
    let (asked, lately_missing) = match (window, prometheus) {
        (Some(window), Some(prometheus)) => {
            match lately::ask(prometheus, who, who.key.table(), columns, window).await {
                Ok(points) => (Some(points), None),
                Err(why) => (None, Some(why)),
            }
        }
        (Some(_), None) => (None, Some("there is no Prometheus to be asked".to_owned())),
        (None, _) => (None, None),
    };
    let lately_from = window.filter(|_| asked.is_some()).and_then(|it| Timestamp::from_second(it.first).ok());
    let mut lately = asked.unwrap_or_else(|| vec![Vec::new(); columns.len()]).into_iter();
    let mut points = Vec::new();
    for &column in columns {
        let mut lately = lately.next().unwrap_or_default();
        lately.retain(|point| point.at > range.from && point.at <= range.to);
        points.push(one(client, who, column, range, step, stored, lately).await?);
    }
    Ok(Found { points, lately_from, lately_missing })
}

async fn one(
    client: &Client,
    who: &Who,
    column: &'static Column,
    range: Range,
    step: u32,
    stored: Option<Timestamp>,
    lately: Vec<Point>,
) -> Result<Vec<Point>, ReadError> {
    let samples = async |from: Timestamp| {
        let mut samples = Vec::new();
        if from < range.to {
            let stored = read::series(client, who.key, column.name, from, range.to, Resolution::FiveMinutes).await?;
            samples = stored.points;
        }
        // What was written in the meantime is there twice.
        let last = samples.last().map(|point| point.at);
        samples.extend(lately.iter().filter(|point| last.is_none_or(|last| point.at > last)).copied());
        Ok::<_, ReadError>(samples)
    };
    if steps::source(step) == Resolution::FiveMinutes {
        return Ok(steps::in_steps(&samples(range.from).await?, Resolution::FiveMinutes, step, column));
    }
    // Hours that are whole in Postgres, and the one or two since, made of samples from both.
    let whole = stored.map_or(range.from, hour_of).clamp(range.from, range.to);
    let mut hours = Vec::new();
    if range.from < whole {
        let stored = read::series(client, who.key, column.name, range.from, whole, Resolution::Hourly).await?;
        hours = stored.points;
    }
    hours.extend(steps::in_steps(&samples(whole).await?, Resolution::FiveMinutes, 60, column));
    Ok(steps::in_steps(&hours, Resolution::Hourly, step, column))
}

fn hour_of(at: Timestamp) -> Timestamp {
    Timestamp::from_second(at.as_second().div_euclid(3600) * 3600).unwrap_or(at)
}

/// The figures by name. Those that are not kept by the hour can't be had in longer steps.
pub fn columns(who: &Who, names: &[&str], step: u32) -> Result<Vec<&'static Column>, ReadError> {
    let table = who.key.table();
    let column = |name: &&str| {
        let column = read::metric(table, name)?;
        if steps::source(step) == Resolution::Hourly && column.hourly.is_empty() {
            return Err(ReadError::NotHourly { name: column.name });
        }
        Ok(column)
    };
    names.iter().map(column).collect()
}

pub fn figure(column: &Column, points: &[Point], step: u32) -> FigureSeries {
    let known = points.iter().filter(|point| point.value.is_some());
    FigureSeries {
        figure: column.name.to_owned(),
        points: known.map(|point| StepPoint::of(point, step, column)).collect(),
    }
}
