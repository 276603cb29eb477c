//! What machine a host is. Prometheus knows: the exporter tells the board of a Raspberry Pi, and elsewhere the processor.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::capacity::machines;
use crate::sources::http::Part;

/// Without it the answer is a guess that says so; nobody should wait for that.
const WITHIN: Duration = Duration::from_secs(3);

/// What an instant query answers, as far as it is read here.
#[derive(Deserialize)]
struct Answer {
    data: Data,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Series>,
}

#[derive(Deserialize)]
struct Series {
    metric: BTreeMap<String, String>,
}

/// What the board or the processor of a host calls itself; `None` when Prometheus can't tell.
pub async fn ask(prometheus: &Part, host: &str) -> Option<String> {
    let query = query(host);
    let query = [("query", query.as_str())];
    let asked = prometheus.get::<Answer>("/api/v1/query", &query);
    named(tokio::time::timeout(WITHIN, asked).await.ok()?.ok()?)
}

fn query(host: &str) -> String {
    let host = host.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
    format!(r#"rpi_board_info{{host="{host}"}} or topk(1, node_cpu_info{{host="{host}"}})"#)
}

fn named(answer: Answer) -> Option<String> {
    let label = |name: &str| {
        answer.data.result.iter().filter_map(|series| series.metric.get(name)).find(|value| !value.is_empty()).cloned()
    };
    label("model").filter(|model| machines::speed_of_model(model).is_some()).or_else(|| label("model_name"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_machine_it_is_is_asked_and_read() {
        assert_eq!(
            query("pi\"} or up{x=\"\\"),
            r#"rpi_board_info{host="pi\"} or up{x=\"\\"} or topk(1, node_cpu_info{host="pi\"} or up{x=\"\\"})"#
        );
        let check = |json: &str, expected: Option<&str>| {
            assert_eq!(named(serde_json::from_str(json).unwrap()).as_deref(), expected, "{json}");
        };
        check(r#"{"data":{"result":[]}}"#, None);
        check(
            r#"{"data":{"result":[{"metric":{"model":"Raspberry Pi 4 Model B Rev 1.4"}}]}}"#,
            Some("Raspberry Pi 4 Model B Rev 1.4"),
        );
        check(
            r#"{"data":{"result":[{"metric":{"model":"190","model_name":"Intel(R) N100"}}]}}"#,
            Some("Intel(R) N100"),
        );
    }
}
