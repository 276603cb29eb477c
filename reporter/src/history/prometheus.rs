//! Asking Prometheus for ranges. Answers are bounded in size and time, and what is not understood is an error, never a guess.

use std::time::Duration;

use reqwest::{StatusCode, Url};
use serde::{Deserialize, Deserializer, de::Error as _};

use super::window::{STEP, Window};

/// For one query, answer included.
const DEADLINE: Duration = Duration::from_secs(30);
/// Prometheus itself ends what takes longer.
const QUERY_TIMEOUT: &str = "25s";
/// Of an answer. Six hours of 30 services are a twelfth of a megabyte.
const LARGEST: usize = 4 * 1024 * 1024;
/// Of what Prometheus says about a failure.
const SAYING: usize = 300;

#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    #[error("--prometheus.url is not understood; write it as http://HOST:PORT")]
    Url,
    #[error("making the HTTP client")]
    Client(#[source] reqwest::Error),
    #[error("asking prometheus")]
    Ask(#[source] reqwest::Error),
    #[error("prometheus did not answer within {} s", DEADLINE.as_secs())]
    TimedOut,
    #[error("the answer of prometheus is larger than {} MiB", LARGEST >> 20)]
    TooLarge,
    #[error("prometheus answered {status}: {said}")]
    Refused { status: u16, said: String, too_much: bool },
    #[error("the answer of prometheus is not understood")]
    Garbled(#[source] serde_json::Error),
    #[error("prometheus answered with {what}")]
    Unexpected { what: &'static str },
}

impl PrometheusError {
    /// Whether a shorter range may be answered.
    pub fn is_too_much(&self) -> bool {
        match self {
            PrometheusError::TimedOut | PrometheusError::TooLarge => true,
            PrometheusError::Refused { too_much, .. } => *too_much,
            _ => false,
        }
    }
}

/// The labels that any of our queries keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Labels {
    pub host: String,
    pub project: String,
    pub service: String,
    pub mountpoint: String,
    pub device: String,
    pub fstype: String,
}

#[derive(Debug, Deserialize)]
pub struct Series {
    pub metric: Labels,
    pub values: Vec<Point>,
}

/// A time in unixtime and a value, which may be no number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    pub at: f64,
    pub value: f64,
}

impl<'de> Deserialize<'de> for Point {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        // Prometheus writes values as text, since JSON knows neither NaN nor infinity.
        let (at, value) = <(f64, &str)>::deserialize(deserializer)?;
        let value = value.parse().map_err(|_| D::Error::custom("a value is no number"))?;
        Ok(Self { at, value })
    }
}

#[derive(Deserialize)]
struct Answer<T> {
    status: String,
    data: Option<T>,
    error: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Range {
    result_type: String,
    result: Vec<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Instant {
    result_type: String,
    result: Point,
}

#[derive(Clone, Debug)]
pub struct Prometheus {
    client: reqwest::Client,
    base: Url,
}

impl Prometheus {
    pub fn new(url: &str) -> Result<Self, PrometheusError> {
        let base: Url = url.trim().parse().map_err(|_| PrometheusError::Url)?;
        if !matches!(base.scheme(), "http" | "https") || base.cannot_be_a_base() {
            return Err(PrometheusError::Url);
        }
        let client = reqwest::Client::builder()
            .timeout(DEADLINE)
            .connect_timeout(Duration::from_secs(5))
            // Within the stack; a proxy of the environment is for the outside.
            .no_proxy()
            .pool_max_idle_per_host(1)
            .build()
            .map_err(PrometheusError::Client)?;
        Ok(Self { client, base })
    }

    /// Prometheus's own time.
    pub async fn now(&self) -> Result<i64, PrometheusError> {
        let body = self.get("query", &[("query", "time()".to_owned())]).await?;
        let answer: Instant = data(&body)?;
        if answer.result_type != "scalar" {
            return Err(PrometheusError::Unexpected { what: "something else than a time" });
        }
        Ok(answer.result.value as i64)
    }

    pub async fn range(&self, promql: &str, window: Window) -> Result<Vec<Series>, PrometheusError> {
        let parameters = [
            ("query", promql.to_owned()),
            ("start", window.first.to_string()),
            ("end", window.last.to_string()),
            ("step", STEP.to_string()),
            ("timeout", QUERY_TIMEOUT.to_owned()),
        ];
        range(&self.get("query_range", &parameters).await?)
    }

    async fn get(&self, what: &str, parameters: &[(&str, String)]) -> Result<Vec<u8>, PrometheusError> {
        let mut url = self.base.clone();
        // Checked when it was made: it has a path.
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["api", "v1", what]);
        }
        url.query_pairs_mut().extend_pairs(parameters);
        let told = |error: reqwest::Error| {
            // The URL holds the query, which says nothing to an owner.
            let error = error.without_url();
            if error.is_timeout() { PrometheusError::TimedOut } else { PrometheusError::Ask(error) }
        };
        let mut response = self.client.get(url).send().await.map_err(told)?;
        let status = response.status();
        if response.content_length().is_some_and(|length| length > LARGEST as u64) {
            return Err(PrometheusError::TooLarge);
        }
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(told)? {
            if body.len() + chunk.len() > LARGEST {
                return Err(PrometheusError::TooLarge);
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() { Ok(body) } else { Err(refused(status, &body)) }
    }
}

fn range(body: &[u8]) -> Result<Vec<Series>, PrometheusError> {
    let answer: Range = data(body)?;
    if answer.result_type != "matrix" {
        return Err(PrometheusError::Unexpected { what: "something else than a range" });
    }
    Ok(answer.result)
}

fn data<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, PrometheusError> {
    let answer: Answer<T> = serde_json::from_slice(body).map_err(PrometheusError::Garbled)?;
    match answer.data {
        Some(data) if answer.status == "success" => Ok(data),
        _ => Err(PrometheusError::Unexpected { what: "no data" }),
    }
}

fn refused(status: StatusCode, body: &[u8]) -> PrometheusError {
    let told = serde_json::from_slice::<Answer<serde_json::Value>>(body).ok().and_then(|answer| answer.error);
    let text = told.unwrap_or_else(|| String::from_utf8_lossy(&body[..body.len().min(SAYING * 4)]).into_owned());
    let said: String = text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SAYING).collect();
    // 422 is for what can't be executed: too many samples for its limit, or its own time-out (503 as well).
    let too_much = ["too many samples", "timed out", "exceeded maximum resolution"].iter().any(|it| said.contains(it));
    PrometheusError::Refused { status: status.as_u16(), said: said.trim().to_owned(), too_much }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_read() {
        let body = br#"{"status":"success","warnings":["x"],"data":{"resultType":"matrix","result":[
            {"metric":{"host":"pi","project":"a\"b\n","other":"x"},"values":[[1800000000,"1.5"],[1800000300.0,"NaN"],[1800000600,"+Inf"]]}]}}"#;
        let all = range(body).unwrap();
        assert_eq!((all[0].metric.host.as_str(), all[0].metric.project.as_str()), ("pi", "a\"b\n"));
        assert_eq!(all[0].values[0], Point { at: 1_800_000_000.0, value: 1.5 });
        assert!(all[0].values[1].value.is_nan() && all[0].values[2].value.is_infinite());
    }

    #[test]
    fn garbage_is_an_error() {
        for body in [
            "",
            "<html>",
            "{}",
            "null",
            r#"{"status":"success"}"#,
            r#"{"status":"error","error":"x"}"#,
            r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"x"]]}]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,2]]}]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"host":1},"values":[]}]}}"#,
            r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{},"values":[[1,"2"]]}"#,
        ] {
            assert!(range(body.as_bytes()).is_err(), "{body}");
        }
    }

    #[test]
    fn what_is_too_much_is_told_from_what_is_wrong() {
        let check = |status: u16, body: &str, too_much: bool| {
            let error = refused(StatusCode::from_u16(status).unwrap(), body.as_bytes());
            assert_eq!(error.is_too_much(), too_much, "{error}");
        };
        check(422, r#"{"status":"error","error":"query processing would load too many samples into memory"}"#, true);
        check(503, r#"{"status":"error","error":"query timed out in expression evaluation"}"#, true);
        check(503, "Service Unavailable", false);
        check(400, r#"{"status":"error","error":"parse error"}"#, false);
        let long = refused(StatusCode::BAD_GATEWAY, "\u{1b}[31m".repeat(5000).as_bytes()).to_string();
        assert!(long.len() < 400 && !long.contains('\u{1b}'), "{long}");
    }

    #[test]
    fn a_wrong_url_is_told() {
        _ = rustls::crypto::ring::default_provider().install_default();
        for url in ["", "prometheus:9090", "file:///x", "mailto:x"] {
            assert!(Prometheus::new(url).is_err(), "{url}");
        }
        assert!(Prometheus::new("http://prometheus:9090/").is_ok());
    }
}
