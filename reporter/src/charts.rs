//! The series of the page: what Prometheus knows of the last day and week. The history has more, but the last hours are here.

use jiff::Timestamp;
use serde::Deserialize;

use crate::{
    render::{
        html::{Drawn, Series},
        svg::Point,
    },
    report::Unit,
    sources::http::Part,
};

/// How much of the past a chart shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Span {
    Day,
    Week,
}

impl Span {
    /// Length and step in seconds: as many points as a phone has room for.
    fn measures(self) -> (i64, i64) {
        match self {
            Span::Day => (24 * 3600, 600),
            Span::Week => (7 * 24 * 3600, 3600),
        }
    }
}

/// What is drawn: name, unit, top and PromQL.
struct Wanted {
    name: &'static str,
    unit: Unit,
    top: Option<f64>,
    query: String,
}

/// File systems that are drawn: the fullest.
const DISKS: &str = "topk(2, max by (mountpoint) (host:node_filesystem_used:ratio{HOST}))";

/// CPU, memory, temperature and disks of a machine.
pub async fn machine(prometheus: &Part, host: &str, span: Span, now: Timestamp) -> Drawn {
    let host = format!("host={}", quoted(host));
    let of = |query: &str| query.replace("HOST", &host);
    let wanted = [
        Wanted {
            name: "CPU",
            unit: Unit::Ratio,
            top: Some(1.0),
            query: of("1 - avg(sum by (cpu) (rate(node_cpu_seconds_total{mode=~\"idle|iowait\", HOST}[10m])))"),
        },
        Wanted {
            name: "Memory",
            unit: Unit::Ratio,
            top: Some(1.0),
            query: of("1 - min(node_memory_MemAvailable_bytes{HOST} / node_memory_MemTotal_bytes{HOST})"),
        },
        Wanted {
            name: "Temperature",
            unit: Unit::Celsius,
            top: Some(90.0),
            query: of("max(node_thermal_zone_temp{HOST} < 150)"),
        },
    ];
    let disks = Wanted { name: "Disk", unit: Unit::Ratio, top: Some(1.0), query: of(DISKS) };
    draw(prometheus, wanted.into_iter().chain([disks]).collect(), span, now).await
}

/// CPU and memory of one service.
pub async fn service(prometheus: &Part, host: &str, project: &str, service: &str, span: Span, now: Timestamp) -> Drawn {
    let labels = format!("{{host={}, project={}, service={}}}", quoted(host), quoted(project), quoted(service));
    let wanted = vec![
        Wanted {
            name: "CPUs in use",
            unit: Unit::Processes,
            top: None,
            query: format!("sum(rate(container_cpu_usage_seconds_total{labels}[10m]))"),
        },
        Wanted {
            name: "Memory",
            unit: Unit::Bytes,
            top: None,
            query: format!("sum(container_memory_working_set_bytes{labels})"),
        },
    ];
    draw(prometheus, wanted, span, now).await
}

/// A PromQL string: names of containers are others' words.
fn quoted(text: &str) -> String {
    let mut quoted = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => quoted.extend(['\\', c]),
            '\n' => quoted.push_str("\\n"),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Found>,
}

#[derive(Deserialize)]
struct Found {
    metric: std::collections::BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

async fn draw(prometheus: &Part, wanted: Vec<Wanted>, span: Span, now: Timestamp) -> Drawn {
    let (length, step) = span.measures();
    // On whole steps, so that Prometheus's points are ours.
    let to = now.as_second() / step * step;
    let from = to - length;
    let [start, end, every] = [from, to, step].map(|number| number.to_string());
    let ask = |query: String| {
        let (start, end, every) = (start.clone(), end.clone(), every.clone());
        async move {
            let query = [("query", &*query), ("start", &*start), ("end", &*end), ("step", &*every), ("timeout", "8s")];
            prometheus.get::<Answer>("/api/v1/query_range", &query).await
        }
    };
    let asked = wanted.iter().map(|wanted| ask(wanted.query.clone()));
    let answers = futures_util::future::try_join_all(asked).await.map_err(|error| error.to_string())?;
    let mut drawn = Vec::new();
    for (wanted, answer) in wanted.iter().zip(answers) {
        for found in answer.data.result {
            let name = match found.metric.get("mountpoint") {
                Some(mountpoint) => format!("{} {mountpoint}", wanted.name),
                None => wanted.name.to_owned(),
            };
            let points = on_steps(&found.values, from, to, step);
            drawn.push(Series { name, unit: wanted.unit, points, top: wanted.top, from, to });
        }
    }
    Ok(drawn)
}

/// One point for each step, so that what was not measured is a gap.
fn on_steps(values: &[(f64, String)], from: i64, to: i64, step: i64) -> Vec<Point> {
    let mut points: Vec<Point> = (from..=to).step_by(usize::try_from(step).unwrap_or(1)).map(|at| (at, None)).collect();
    for (at, value) in values {
        let index = (*at as i64 - from) / step;
        if let Some(point) = usize::try_from(index).ok().and_then(|index| points.get_mut(index)) {
            point.1 = value.parse().ok();
        }
    }
    points
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_stay_within_their_quotes() {
        assert_eq!(quoted("a\"} or up{x=\"\\\n"), r#""a\"} or up{x=\"\\\n""#);
    }

    #[test]
    fn what_was_not_measured_is_a_gap() {
        let values =
            [(100.0, "1".to_owned()), (120.0, "NaN".to_owned()), (130.0, "x".to_owned()), (999.0, "5".to_owned())];
        let points = on_steps(&values, 100, 130, 10);
        assert_eq!((points[0], points[1], points[3], points.len()), ((100, Some(1.0)), (110, None), (130, None), 4));
        assert!(points[2].1.is_some_and(f64::is_nan));
    }
}
