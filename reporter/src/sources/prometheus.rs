//! What Prometheus computes and remembers: one query for this moment, one for a value an hour of the last days.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::Deserialize;

use super::http::{HttpError, Part};
use crate::{
    history::queries::NOT_OWN,
    report::facts::{Measured, Series},
};

/// As long as Prometheus keeps what it scraped (compose.yml, `--storage.tsdb.retention.time`).
const DAYS: i64 = 15;
/// 360 values a series: a percentile needs them, and the answer stays below a megabyte with 30 services.
const STEP_SECONDS: i64 = 3600;

/// Each is told from the others by the label `what`.
fn either(queries: &[(&str, &str)], host: &str) -> String {
    let host = host.replace('\\', "\\\\").replace('"', "\\\"");
    let one = |(what, query): &(&str, &str)| {
        // $H: of this host alone. A Prometheus may know several.
        let query = query.replace("$H", &format!("host=\"{host}\"")).replace("$NOT_OWN", NOT_OWN);
        format!("label_replace({query}, \"what\", \"{what}\", \"\", \"\")")
    };
    queries.iter().map(one).collect::<Vec<_>>().join(" or ")
}

/// Five minutes: what a person calls "now", and 20 scrapes, so that one that failed does no harm.
const NOW: [(&str, &str); 12] = [
    ("cpu", "1 - avg(sum by (cpu) (rate(node_cpu_seconds_total{mode=~\"idle|iowait\",$H}[5m])))"),
    ("pressure_cpu", "max(rate(node_pressure_cpu_waiting_seconds_total{$H}[5m]))"),
    ("pressure_memory", "max(rate(node_pressure_memory_waiting_seconds_total{$H}[5m]))"),
    ("pressure_io", "max(rate(node_pressure_io_waiting_seconds_total{$H}[5m]))"),
    // Pages: 4 KiB on every board but with the 16 KiB kernel of a Pi 5, where it is told too small.
    ("swap_in", "4096 * max(rate(node_vmstat_pswpin{$H}[5m]))"),
    ("received", "sum(rate(node_network_receive_bytes_total{device!~\"$NOT_OWN\",$H}[5m]))"),
    ("sent", "sum(rate(node_network_transmit_bytes_total{device!~\"$NOT_OWN\",$H}[5m]))"),
    ("service_cpu", "sum by (project, service) (rate(container_cpu_usage_seconds_total{service!=\"\",$H}[5m]))"),
    ("restarts_lately", "max by (name) (increase(docker_container_restarts_total{$H}[10m])) > 0"),
    ("restarts_before", "max by (name) (docker_container_restarts_total{$H} offset 10m) > 0"),
    // By the same container, a minute ago and now.
    (
        "created",
        "max by (name) (docker_container_state{state=\"created\",$H} == 1 and docker_container_state{state=\"created\",$H} offset 1m == 1)",
    ),
    ("up", "vector(1)"),
];

/// Recreated containers have other ids, so ids are aggregated away.
const HOURLY: [(&str, &str); 9] = [
    ("memory", "max by (project, service) (container_memory_rss{service!=\"\",$H})"),
    ("working_set", "max by (project, service) (container_memory_working_set_bytes{service!=\"\",$H})"),
    ("limit", "max by (project, service) (container_spec_memory_limit_bytes{service!=\"\",$H})"),
    ("oom", "max by (project, service) (container_oom_events_total{service!=\"\",$H})"),
    ("oom_most", "max by (project, service) (max_over_time(container_oom_events_total{service!=\"\",$H}[1h])) > 0"),
    ("oom_grown", "max by (project, service) (increase(container_oom_events_total{service!=\"\",$H}[1h])) > 0"),
    ("reads", "sum by (project, service) (container_fs_reads_bytes_total{service!=\"\",$H})"),
    ("log", "max by (name) (docker_container_log_bytes{$H})"),
    ("written", "max by (device) (nexus_ext4_lifetime_written_bytes_total{$H})"),
];

pub async fn ask(part: &Part, host: &str, now: Timestamp) -> Result<Measured, HttpError> {
    let (now_query, hourly_query) = (either(&NOW, host), either(&HOURLY, host));
    let end = now.as_second();
    let (start, end, step) = ((end - DAYS * 86_400).to_string(), end.to_string(), STEP_SECONDS.to_string());
    let instant = [("query", now_query.as_str())];
    let range = [("query", hourly_query.as_str()), ("start", &start), ("end", &end), ("step", &step)];
    let (now, hourly) = tokio::join!(
        part.get::<Answer<Instant>>("/api/v1/query", &instant),
        part.get::<Answer<Range>>("/api/v1/query_range", &range),
    );
    let mut measured = Measured::default();
    now?.data.result.into_iter().for_each(|found| take_now(&mut measured, found));
    hourly?.data.result.into_iter().for_each(|found| take_hourly(&mut measured, found));
    Ok(measured)
}

#[derive(Deserialize)]
struct Answer<T> {
    data: Data<T>,
}

#[derive(Deserialize)]
struct Data<T> {
    result: Vec<T>,
}

#[derive(Deserialize)]
struct Instant {
    metric: BTreeMap<String, String>,
    value: (f64, String),
}

#[derive(Deserialize)]
struct Range {
    metric: BTreeMap<String, String>,
    values: Vec<(f64, String)>,
}

fn number(text: &str) -> Option<f64> {
    text.parse::<f64>().ok().filter(|value| value.is_finite())
}

fn take_now(measured: &mut Measured, Instant { mut metric, value: (_, text) }: Instant) {
    let Some(value) = number(&text) else { return };
    let mut label = |name: &str| metric.remove(name).unwrap_or_default();
    match label("what").as_str() {
        "cpu" => measured.cpu = Some(value.clamp(0.0, 1.0)),
        "pressure_cpu" => measured.pressure_cpu = Some(value),
        "pressure_memory" => measured.pressure_memory = Some(value),
        "pressure_io" => measured.pressure_io = Some(value),
        "swap_in" => measured.swap_in = Some(value),
        "received" => measured.network_received = Some(value),
        "sent" => measured.network_sent = Some(value),
        "restarts_lately" => _ = measured.restarts_lately.insert(label("name"), value),
        "restarts_before" => _ = measured.restarts_before.insert(label("name"), value),
        "created" => _ = measured.created.insert(label("name")),
        "service_cpu" => _ = measured.service_cpu.insert((label("project"), label("service")), value),
        _ => {}
    }
}

fn take_hourly(measured: &mut Measured, Range { mut metric, values }: Range) {
    let point = |(at, text): &(f64, String)| Some((Timestamp::from_second(*at as i64).ok()?, number(text)?));
    let series = Series(values.iter().filter_map(point).collect());
    let mut label = |name: &str| metric.remove(name).unwrap_or_default();
    let what = label("what");
    let mut service = || (label("project"), label("service"));
    match what.as_str() {
        "memory" => _ = measured.service_memory.insert(service(), series),
        "working_set" => _ = measured.service_working_set.insert(service(), series),
        "limit" => _ = measured.service_limit.insert(service(), series),
        "oom" => _ = measured.service_oom.insert(service(), series),
        "oom_most" => _ = measured.service_oom_most.insert(service(), series),
        "oom_grown" => _ = measured.service_oom_grown.insert(service(), series),
        "reads" => _ = measured.service_reads.insert(service(), series),
        "log" => _ = measured.log_bytes.insert(label("name"), series),
        "written" => _ = measured.written.insert(label("device"), series),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_can_not_leave_its_quotes() {
        let query = either(&[("a", "x{$H}"), ("b", "y{z=\"1\",$H}")], "p\"i\\");
        assert_eq!(
            query,
            r#"label_replace(x{host="p\"i\\"}, "what", "a", "", "") or label_replace(y{z="1",host="p\"i\\"}, "what", "b", "", "")"#
        );
    }

    #[test]
    fn answers_are_sorted_by_what_they_are() {
        let mut measured = Measured::default();
        let now = r#"[{"metric":{"what":"cpu"},"value":[1.5,"0.25"]},{"metric":{"what":"pressure_io"},"value":[1,"NaN"]},
            {"metric":{"what":"restarts_lately","name":"web"},"value":[1,"3"]},{"metric":{"what":"created","name":"cron"},"value":[1,"1"]},
            {"metric":{"what":"service_cpu","project":"photos","service":"web"},"value":[1,"0.5"]}]"#;
        for found in serde_json::from_str::<Vec<Instant>>(now).unwrap() {
            take_now(&mut measured, found);
        }
        assert_eq!((measured.cpu, measured.pressure_io), (Some(0.25), None));
        assert_eq!(measured.service_cpu[&("photos".to_owned(), "web".to_owned())], 0.5);
        assert_eq!((measured.restarts_lately["web"], measured.created.contains("cron")), (3.0, true));
        let limit =
            r#"[{"metric":{"what":"limit","project":"photos","service":"web"},"values":[[3600,"0"],[7200,"64"]]}]"#;
        for found in serde_json::from_str::<Vec<Range>>(limit).unwrap() {
            take_hourly(&mut measured, found);
        }
        assert_eq!(measured.service_limit[&("photos".to_owned(), "web".to_owned())].max(), Some(64.0));
        let hourly = r#"[{"metric":{"what":"log","name":"web"},"values":[[3600,"9"],[7200,"+Inf"],[10800,"7"]]}]"#;
        for found in serde_json::from_str::<Vec<Range>>(hourly).unwrap() {
            take_hourly(&mut measured, found);
        }
        let values: Vec<f64> = measured.log_bytes["web"].0.iter().map(|(_, value)| *value).collect();
        assert_eq!(values, [9.0, 7.0]);
    }
}
