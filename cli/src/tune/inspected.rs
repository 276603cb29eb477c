//! A container as `docker inspect` tells of it, as far as tuning needs it, and how it is. Pure.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::Timestamp;
use nexus_model::labels::{COMPOSE_ONEOFF, COMPOSE_PROJECT, COMPOSE_SERVICE};
use serde::Deserialize;

/// A container, as far as it matters here. Its environment is not read.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Inspected {
    pub id: String,
    name: String,
    #[serde(default)]
    restart_count: u64,
    #[serde(default)]
    pub size_rw: Option<u64>,
    pub state: State,
    pub host_config: HostConfig,
    pub config: Config,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct State {
    pub status: String,
    exit_code: i64,
    #[serde(rename = "OOMKilled")]
    oom_killed: bool,
    started_at: Option<String>,
    health: Option<Health>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Health {
    status: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct HostConfig {
    pub memory: u64,
    network_mode: String,
    ipc_mode: String,
    pid_mode: String,
    pub restart_policy: RestartPolicy,
    pub log_config: LogConfig,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct RestartPolicy {
    pub name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct LogConfig {
    pub config: Option<BTreeMap<String, String>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub struct Config {
    labels: Option<BTreeMap<String, String>>,
    healthcheck: Option<Healthcheck>,
}

/// In nanoseconds.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Healthcheck {
    interval: u64,
    timeout: u64,
    start_period: u64,
    retries: u64,
}

impl Inspected {
    pub fn label(&self, name: &str) -> &str {
        self.config.labels.as_ref().and_then(|labels| labels.get(name)).map_or("", String::as_str)
    }

    pub fn name(&self) -> &str {
        self.name.trim_start_matches('/')
    }

    pub fn is_of(&self, project: &str, service: &str) -> bool {
        self.label(COMPOSE_PROJECT) == project
            && self.label(COMPOSE_SERVICE) == service
            && !self.label(COMPOSE_ONEOFF).eq_ignore_ascii_case("true")
    }

    /// Containers, each by name or id, in whose network, memory or processes it lives.
    pub fn lives_in(&self) -> impl Iterator<Item = &str> {
        let modes = [&self.host_config.network_mode, &self.host_config.ipc_mode, &self.host_config.pid_mode];
        modes.into_iter().filter_map(|mode| mode.strip_prefix("container:"))
    }

    /// Whether it has a health check.
    pub fn is_probed(&self) -> bool {
        self.state.health.is_some()
    }

    /// What is wrong with it; `None` when it is well.
    pub fn ill(&self) -> Option<String> {
        match (self.state.status.as_str(), self.state.health.as_ref().map(|health| health.status.as_str())) {
            ("running", None | Some("healthy" | "none" | "")) => None,
            ("running", Some(health)) => Some(health.to_owned()),
            ("exited" | "dead", _) => Some(format!("exited with code {}", self.state.exit_code)),
            (status, _) => Some(status.to_owned()),
        }
    }

    /// Whether nothing is to be hoped for any more.
    pub fn lost(&self) -> Option<String> {
        let again = self.restart_count > 0 && !self.is_probed();
        let of = if self.state.oom_killed { ", a process of it was killed for memory" } else { "" };
        match self.state.status.as_str() {
            "exited" | "dead" | "restarting" => {
                Some(format!("{} exits with code {}{of}", self.name(), self.state.exit_code))
            }
            "running" if again => Some(format!("{} ended and was started again", self.name())),
            _ if self.ill().as_deref() == Some("unhealthy") => Some(format!("{} is unhealthy", self.name())),
            _ => None,
        }
    }

    pub fn up_for(&self, now: Timestamp) -> Option<Duration> {
        let started: Timestamp = self.state.started_at.as_ref()?.parse().ok()?;
        now.duration_since(started).try_into().ok()
    }

    /// How long its own health check may take to judge it.
    pub fn patience(&self) -> Duration {
        let check = self.config.healthcheck.clone().unwrap_or_default();
        // Docker's own numbers where it says none.
        let or = |value: u64, seconds: u64| if value == 0 { seconds * 1_000_000_000 } else { value };
        let retries = if check.retries == 0 { 3 } else { check.retries };
        let round = or(check.interval, 30).saturating_add(or(check.timeout, 30));
        Duration::from_nanos(check.start_period.saturating_add(round.saturating_mul(retries)))
    }
}

#[cfg(test)]
pub mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// One that is well, but for this.
    pub fn inspected(name: &str, change: Value) -> Inspected {
        let mut base = json!({"Id": format!("id-of-{name}"), "Name": format!("/{name}"), "RestartCount": 0,
            "State": {"Status": "running", "StartedAt": "2026-01-01T00:00:00Z", "ExitCode": 0},
            "HostConfig": {"Memory": 0, "NetworkMode": "bridge", "IpcMode": "private", "PidMode": ""},
            "Config": {"Env": ["PASSWORD=x"], "Labels": {COMPOSE_PROJECT: "p", COMPOSE_SERVICE: "web"}}});
        for (key, value) in change.as_object().unwrap() {
            for (inner, value) in value.as_object().unwrap() {
                base[key][inner] = value.clone();
            }
        }
        serde_json::from_value(base).unwrap()
    }

    #[test]
    fn who_is_well_is_told_by_docker() {
        let check = |state: Value, ill: Option<&str>, lost: bool| {
            let it = inspected("p-web-1", json!({"State": state}));
            assert_eq!((it.ill().as_deref(), it.lost().is_some()), (ill, lost));
        };
        check(json!({}), None, false);
        check(json!({"Health": {"Status": "healthy"}}), None, false);
        check(json!({"Health": {"Status": "starting"}}), Some("starting"), false);
        check(json!({"Health": {"Status": "unhealthy"}}), Some("unhealthy"), true);
        check(json!({"Status": "exited", "ExitCode": 137}), Some("exited with code 137"), true);
        check(json!({"Status": "restarting"}), Some("restarting"), true);
        check(json!({"Status": "created"}), Some("created"), false);
        let it = inspected("p-web-1", json!({}));
        assert_eq!(it.up_for("2026-01-01T00:01:00Z".parse().unwrap()), Some(Duration::from_secs(60)));
    }

    #[test]
    fn a_health_check_gets_the_time_that_it_asks_for() {
        let second = 1_000_000_000_u64;
        let check = json!({"Config": {"Healthcheck": {"Interval": 5 * second, "Timeout": 2 * second, "StartPeriod": 60 * second, "Retries": 4}}});
        assert_eq!(inspected("p", check).patience(), Duration::from_secs(88));
        assert_eq!(inspected("p", json!({})).patience(), Duration::from_secs(180));
    }

    #[test]
    fn a_container_of_docker_compose_run_is_none_of_the_service() {
        let label =
            json!({"Config": {"Labels": {COMPOSE_PROJECT: "p", COMPOSE_SERVICE: "web", COMPOSE_ONEOFF: "True"}}});
        assert!(!inspected("p", label).is_of("p", "web"));
        assert!(inspected("p", json!({})).is_of("p", "web") && !inspected("p", json!({})).is_of("p", "we"));
    }
}
