//! A container as `GET /containers/{id}/json` tells it (Docker Engine API v1.41), reduced to what Nexus uses.
//!
//! Environment values, arguments and mounts are left behind on purpose: they hold secrets that nobody here needs.

use std::collections::{BTreeMap, HashMap};
use std::net::IpAddr;
use std::time::Duration;

use bollard::models::{
    ContainerInspectResponse, ContainerStateStatusEnum, HealthStatusEnum, HealthcheckResult, PortBinding,
    RestartPolicyNameEnum,
};
use jiff::{SignedDuration, Timestamp};
use nexus_model::{ServiceKey, labels};

#[derive(Clone, Debug, PartialEq)]
pub struct Container {
    /// 64 hexadecimal digits.
    pub id: String,
    /// Without the leading slash.
    pub name: String,
    /// The image as it was asked for, e.g. `postgres:17`.
    pub image: String,
    /// `sha256:…`.
    pub image_id: String,
    pub labels: BTreeMap<String, String>,
    pub status: Status,
    pub health: Health,
    /// Failed probes in a row.
    pub failing_streak: u64,
    /// The last probes that Docker keeps (five), oldest first.
    pub probes: Vec<Probe>,
    pub healthcheck: Option<Healthcheck>,
    /// Exit code of the last run; 0 while it never exited.
    pub exit_code: i64,
    /// Docker's flag: the kernel killed a process of the last run for memory. Cleared at the next start.
    pub oom_killed: bool,
    /// Docker's own error on the last start, if any.
    pub error: String,
    /// Process id on the host, 0 when not running.
    pub pid: u32,
    /// Restarts by Docker's own policy since the last start through the API.
    pub restart_count: i64,
    pub created_at: Option<Timestamp>,
    /// `None` while it never started.
    pub started_at: Option<Timestamp>,
    /// `None` while it never finished.
    pub finished_at: Option<Timestamp>,
    pub restart_policy: RestartPolicy,
    /// `bridge`, `host`, `none`, `container:ID` or a network's name.
    pub network_mode: String,
    /// Its own addresses, one a network that it is in; empty while it does not run.
    pub addresses: Vec<IpAddr>,
    /// Its TCP ports that the host passes on to it.
    pub published: Vec<Published>,
    /// Empty: the engine's default.
    pub cgroup_parent: String,
    /// `None`: no limit.
    pub memory_limit_bytes: Option<u64>,
    /// Memory and swap together, as Docker has it; `None`: no limit.
    pub memory_swap_limit_bytes: Option<u64>,
    /// What is left to it when the host runs short; `None`: nothing is promised.
    pub memory_reservation_bytes: Option<u64>,
    /// `None`: the kernel's default, 1024.
    pub cpu_shares: Option<u64>,
    /// CPU time that it may use in each period, `--cpus` included; `None`: no limit.
    pub cpu_quota_micros: Option<u64>,
    /// `None`: the kernel's default, 100 ms.
    pub cpu_period_micros: Option<u64>,
    /// How long Docker waits between the stop signal and SIGKILL, where the container sets it.
    pub stop_timeout: Option<Duration>,
    /// The signal that asks it to stop, where the image or Compose sets it.
    pub stop_signal: Option<String>,
    pub auto_remove: bool,
    /// Log driver, e.g. `json-file`.
    pub log_driver: String,
    /// Where the log is on the engine's host, as far as Docker tells: `json-file` only.
    pub log_path: String,
    pub privileged: bool,
}

/// Docker's word for what the container does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Status {
    Created,
    Running,
    Paused,
    Restarting,
    Removing,
    Exited,
    Dead,
}

impl Status {
    pub const ALL: [Status; 7] = [
        Status::Created,
        Status::Running,
        Status::Paused,
        Status::Restarting,
        Status::Removing,
        Status::Exited,
        Status::Dead,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Restarting => "restarting",
            Status::Removing => "removing",
            Status::Exited => "exited",
            Status::Dead => "dead",
        }
    }
}

/// Docker's word for how its health check goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Health {
    /// No health check.
    None,
    Starting,
    Healthy,
    Unhealthy,
}

impl Health {
    pub const ALL: [Health; 4] = [Health::None, Health::Starting, Health::Healthy, Health::Unhealthy];

    pub fn as_str(self) -> &'static str {
        match self {
            Health::None => "none",
            Health::Starting => "starting",
            Health::Healthy => "healthy",
            Health::Unhealthy => "unhealthy",
        }
    }
}

/// A TCP port of a container that the host passes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Published {
    /// The container's own port.
    pub port: u16,
    /// The address of the host on which it is open; unspecified: on all of them.
    pub host: IpAddr,
    pub host_port: u16,
}

/// One run of the health check.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    pub start: Option<Timestamp>,
    pub end: Option<Timestamp>,
    pub exit_code: i64,
    /// At most 4096 bytes, cut by Docker.
    pub output: String,
}

/// The health check as the container runs it, with Docker's defaults filled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Healthcheck {
    pub interval: SignedDuration,
    pub timeout: SignedDuration,
    pub start_period: SignedDuration,
    pub retries: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RestartPolicy {
    No,
    Always,
    UnlessStopped,
    OnFailure { maximum_retries: u32 },
}

impl RestartPolicy {
    pub fn as_str(self) -> &'static str {
        match self {
            RestartPolicy::No => "no",
            RestartPolicy::Always => "always",
            RestartPolicy::UnlessStopped => "unless-stopped",
            RestartPolicy::OnFailure { .. } => "on-failure",
        }
    }
}

impl Container {
    pub fn project(&self) -> &str {
        self.label(labels::COMPOSE_PROJECT)
    }

    pub fn service(&self) -> &str {
        self.label(labels::COMPOSE_SERVICE)
    }

    /// `None` for a container that Docker Compose did not create.
    pub fn key(&self) -> Option<ServiceKey> {
        (!self.project().is_empty() && !self.service().is_empty())
            .then(|| ServiceKey::new(self.project(), self.service()))
    }

    pub fn is_one_off(&self) -> bool {
        self.label(labels::COMPOSE_ONEOFF).eq_ignore_ascii_case("true")
    }

    /// The Nexus stack that looks after it.
    pub fn stack(&self) -> &str {
        self.labels.get(labels::STACK).map_or(labels::DEFAULT_STACK, String::as_str)
    }

    /// Whether it should be running now: by label, otherwise by its restart policy. A run that ended well under
    /// `on-failure` is done, not down.
    pub fn expected_to_run(&self) -> bool {
        if let Some(word) = self.labels.get(labels::EXPECTED) {
            return word.eq_ignore_ascii_case("true");
        }
        if self.is_one_off() {
            return false;
        }
        match self.restart_policy {
            RestartPolicy::No => false,
            RestartPolicy::Always | RestartPolicy::UnlessStopped => true,
            RestartPolicy::OnFailure { .. } => self.status != Status::Exited || self.exit_code != 0,
        }
    }

    fn label(&self, name: &str) -> &str {
        self.labels.get(name).map_or("", String::as_str)
    }
}

/// Docker's defaults for what a HEALTHCHECK leaves out (`--interval=30s --timeout=30s --start-period=0s --retries=3`).
const DEFAULT_INTERVAL: SignedDuration = SignedDuration::from_secs(30);
const DEFAULT_TIMEOUT: SignedDuration = SignedDuration::from_secs(30);
const DEFAULT_RETRIES: u32 = 3;

/// In which Docker grants what `--cpus` says.
const CPUS_PERIOD_MICROS: u64 = 100_000;

impl From<ContainerInspectResponse> for Container {
    fn from(raw: ContainerInspectResponse) -> Self {
        let state = raw.state.unwrap_or_default();
        let config = raw.config.unwrap_or_default();
        let host = raw.host_config.unwrap_or_default();
        let health = state.health.unwrap_or_default();
        let healthcheck = config.healthcheck.and_then(|check| {
            // An empty test inherits from the image, and inspect shows what was inherited; `NONE` switches it off.
            let test = check.test.unwrap_or_default();
            if test.is_empty() || test.first().is_some_and(|word| word == "NONE") {
                return None;
            }
            let nanoseconds = |value: Option<i64>, default| match value {
                Some(given) if given > 0 => SignedDuration::from_nanos(given),
                _ => default,
            };
            Some(Healthcheck {
                interval: nanoseconds(check.interval, DEFAULT_INTERVAL),
                timeout: nanoseconds(check.timeout, DEFAULT_TIMEOUT),
                start_period: nanoseconds(check.start_period, SignedDuration::ZERO),
                retries: match check.retries {
                    Some(given) if given > 0 => u32::try_from(given).unwrap_or(u32::MAX),
                    _ => DEFAULT_RETRIES,
                },
            })
        });
        let status = match state.status {
            Some(ContainerStateStatusEnum::RUNNING | ContainerStateStatusEnum::STOPPING) => Status::Running,
            Some(ContainerStateStatusEnum::PAUSED) => Status::Paused,
            Some(ContainerStateStatusEnum::RESTARTING) => Status::Restarting,
            Some(ContainerStateStatusEnum::REMOVING) => Status::Removing,
            Some(ContainerStateStatusEnum::EXITED) => Status::Exited,
            Some(ContainerStateStatusEnum::DEAD) => Status::Dead,
            Some(ContainerStateStatusEnum::CREATED | ContainerStateStatusEnum::EMPTY) | None => Status::Created,
        };
        let failing_streak = health.failing_streak.and_then(|streak| u64::try_from(streak).ok());
        // A pause ends the health check, and Docker calls that unhealthy until a probe passes after it. Its own verdict
        // takes as many failures in a row as the health check allows.
        let is_verdict = match (failing_streak, &healthcheck) {
            (Some(streak), Some(check)) if status == Status::Running => streak >= u64::from(check.retries),
            _ => true,
        };
        let restart_policy = host.restart_policy.unwrap_or_default();
        let network = raw.network_settings.unwrap_or_default();
        // Zero is what was not said, and below zero is no limit.
        let positive =
            |value: Option<i64>| value.and_then(|value| u64::try_from(value).ok()).filter(|&value| value > 0);
        let cpus = positive(host.nano_cpus).map(|nanos| nanos.saturating_mul(CPUS_PERIOD_MICROS) / 1_000_000_000);
        Container {
            id: raw.id.unwrap_or_default(),
            name: raw.name.unwrap_or_default().trim_start_matches('/').to_owned(),
            image: config.image.unwrap_or_default(),
            image_id: raw.image.unwrap_or_default(),
            labels: config.labels.unwrap_or_default().into_iter().collect(),
            status,
            health: match health.status {
                Some(HealthStatusEnum::STARTING) => Health::Starting,
                Some(HealthStatusEnum::HEALTHY) => Health::Healthy,
                Some(HealthStatusEnum::UNHEALTHY) if !is_verdict => Health::Starting,
                Some(HealthStatusEnum::UNHEALTHY) => Health::Unhealthy,
                Some(HealthStatusEnum::NONE | HealthStatusEnum::EMPTY) | None => Health::None,
            },
            failing_streak: failing_streak.unwrap_or(0),
            probes: health.log.unwrap_or_default().into_iter().map(Probe::from).collect(),
            healthcheck,
            exit_code: state.exit_code.unwrap_or(0),
            oom_killed: state.oom_killed.unwrap_or(false),
            error: state.error.unwrap_or_default(),
            pid: state.pid.and_then(|pid| u32::try_from(pid).ok()).unwrap_or(0),
            restart_count: raw.restart_count.unwrap_or(0),
            created_at: timestamp(raw.created.as_deref()),
            started_at: timestamp(state.started_at.as_deref()),
            finished_at: timestamp(state.finished_at.as_deref()),
            restart_policy: match restart_policy.name {
                Some(RestartPolicyNameEnum::ALWAYS) => RestartPolicy::Always,
                Some(RestartPolicyNameEnum::UNLESS_STOPPED) => RestartPolicy::UnlessStopped,
                Some(RestartPolicyNameEnum::ON_FAILURE) => RestartPolicy::OnFailure {
                    maximum_retries: restart_policy
                        .maximum_retry_count
                        .and_then(|count| u32::try_from(count).ok())
                        .unwrap_or(0),
                },
                Some(RestartPolicyNameEnum::NO | RestartPolicyNameEnum::EMPTY) | None => RestartPolicy::No,
            },
            network_mode: host.network_mode.unwrap_or_default(),
            addresses: {
                let networks: BTreeMap<_, _> = network.networks.unwrap_or_default().into_iter().collect();
                networks.into_values().filter_map(|one| one.ip_address?.parse().ok()).collect()
            },
            published: published(network.ports.unwrap_or_default()),
            cgroup_parent: host.cgroup_parent.unwrap_or_default(),
            memory_limit_bytes: positive(host.memory),
            memory_swap_limit_bytes: positive(host.memory_swap),
            memory_reservation_bytes: positive(host.memory_reservation),
            cpu_shares: positive(host.cpu_shares),
            cpu_quota_micros: cpus.or(positive(host.cpu_quota)),
            cpu_period_micros: cpus.map(|_| CPUS_PERIOD_MICROS).or(positive(host.cpu_period)),
            stop_timeout: config.stop_timeout.and_then(|seconds| u64::try_from(seconds).ok()).map(Duration::from_secs),
            stop_signal: config.stop_signal.filter(|signal| !signal.is_empty()),
            auto_remove: host.auto_remove.unwrap_or(false),
            log_driver: host.log_config.and_then(|log| log.typ).unwrap_or_default(),
            log_path: raw.log_path.unwrap_or_default(),
            privileged: host.privileged.unwrap_or(false),
        }
    }
}

/// Docker writes `"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8080"}]`, and `null` for a port that is only exposed.
fn published(ports: HashMap<String, Option<Vec<PortBinding>>>) -> Vec<Published> {
    let of_port = |(name, bindings): (String, Option<Vec<PortBinding>>)| {
        let Some((port, "tcp")) = name.split_once('/') else { return None };
        let port = port.parse().ok()?;
        let published = move |binding: PortBinding| {
            // Old engines leave the address out where it is open on all.
            let host = binding.host_ip.filter(|text| !text.is_empty()).unwrap_or_else(|| "0.0.0.0".to_owned());
            Some(Published { port, host: host.parse().ok()?, host_port: binding.host_port?.parse().ok()? })
        };
        Some(bindings?.into_iter().filter_map(published))
    };
    let mut all: Vec<Published> = ports.into_iter().filter_map(of_port).flatten().collect();
    all.sort_unstable();
    all
}

impl From<HealthcheckResult> for Probe {
    fn from(raw: HealthcheckResult) -> Self {
        Probe {
            start: timestamp(raw.start.as_deref()),
            end: timestamp(raw.end.as_deref()),
            exit_code: raw.exit_code.unwrap_or(0),
            output: raw.output.unwrap_or_default(),
        }
    }
}

/// Docker writes the year 1 where it means "never".
fn timestamp(text: Option<&str>) -> Option<Timestamp> {
    text?.parse::<Timestamp>().ok().filter(|at| *at > Timestamp::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Cut down from what an engine of API 1.41 answered for a Compose container that had turned unhealthy.
    pub(crate) const UNHEALTHY: &str = r#"{
        "Id": "3f4e", "Created": "2026-01-02T03:04:05.123456789Z", "Path": "sh", "Args": ["-c", "token=hunter2"],
        "State": {"Status": "running", "Running": true, "Paused": false, "Restarting": false, "OOMKilled": false, "Dead": false,
            "Pid": 4711, "ExitCode": 0, "Error": "", "StartedAt": "2026-01-02T03:04:06.5Z", "FinishedAt": "0001-01-01T00:00:00Z",
            "Health": {"Status": "unhealthy", "FailingStreak": 4, "Log": [
                {"Start": "2026-01-02T03:05:00.1+01:00", "End": "2026-01-02T03:05:00.2+01:00", "ExitCode": 1, "Output": "no"}]}},
        "Image": "sha256:aa", "Name": "/shop-web-1", "RestartCount": 2,
        "HostConfig": {"NetworkMode": "shop_default", "RestartPolicy": {"Name": "unless-stopped", "MaximumRetryCount": 0},
            "Memory": 67108864, "CgroupParent": "", "AutoRemove": false, "LogConfig": {"Type": "json-file", "Config": {}}},
        "Config": {"Image": "shop/web:1", "Env": ["PASSWORD=secret"], "StopTimeout": 3,
            "Healthcheck": {"Test": ["CMD", "true"], "Interval": 1000000000, "StartPeriod": 5000000000},
            "Labels": {"com.docker.compose.project": "shop", "com.docker.compose.service": "web",
                "com.docker.compose.oneoff": "False", "nexus.heal": "true"}}
    }"#;

    fn parse(json: &str) -> Container {
        Container::from(serde_json::from_str::<ContainerInspectResponse>(json).unwrap())
    }

    #[test]
    fn an_inspect_answer_becomes_plain_data_without_secrets() {
        let container = parse(UNHEALTHY);
        assert_eq!(container.key(), Some(ServiceKey::new("shop", "web")));
        assert_eq!(
            (container.status, container.health, container.failing_streak),
            (Status::Running, Health::Unhealthy, 4)
        );
        assert_eq!(container.finished_at, None);
        assert_eq!(container.started_at, "2026-01-02T03:04:06.5Z".parse().ok());
        assert_eq!(container.probes[0].start, "2026-01-02T02:05:00.1Z".parse().ok());
        assert_eq!(container.memory_limit_bytes, Some(64 << 20));
        assert_eq!(container.stop_timeout, Some(Duration::from_secs(3)));
        assert_eq!(
            container.healthcheck,
            Some(Healthcheck {
                interval: SignedDuration::from_secs(1),
                timeout: SignedDuration::from_secs(30),
                start_period: SignedDuration::from_secs(5),
                retries: 3
            })
        );
        assert!(!format!("{container:?}").contains("secret") && !format!("{container:?}").contains("hunter2"));
    }

    #[test]
    fn after_a_pause_unhealthy_is_no_verdict_until_enough_probes_have_failed() {
        let check = |from: &str, to: &str, expected: Health| {
            assert_eq!(parse(&UNHEALTHY.replace(from, to)).health, expected, "{to}");
        };
        for (streak, expected) in
            [(0, Health::Starting), (2, Health::Starting), (3, Health::Unhealthy), (9, Health::Unhealthy)]
        {
            check("\"FailingStreak\": 4", &format!("\"FailingStreak\": {streak}"), expected);
        }
        check("\"FailingStreak\": 4, ", "", Health::Unhealthy);
        // What does not run keeps the word that it ended with.
        let ended =
            UNHEALTHY.replace("\"running\"", "\"exited\"").replace("\"FailingStreak\": 4", "\"FailingStreak\": 0");
        assert_eq!(parse(&ended).health, Health::Unhealthy);
    }

    #[test]
    fn limits_that_were_not_given_are_none() {
        let check = |host: &str, expected: [Option<u64>; 6]| {
            let container = parse(&format!(r#"{{"HostConfig": {host}}}"#));
            let found = [
                container.memory_limit_bytes,
                container.memory_swap_limit_bytes,
                container.memory_reservation_bytes,
                container.cpu_shares,
                container.cpu_quota_micros,
                container.cpu_period_micros,
            ];
            assert_eq!(found, expected, "{host}");
        };
        check("{}", [None; 6]);
        check(r#"{"Memory": 0, "MemorySwap": -1, "CpuShares": 0, "NanoCpus": 0, "CpuQuota": -1}"#, [None; 6]);
        check(
            r#"{"Memory": 10, "MemorySwap": 20, "MemoryReservation": 5, "CpuShares": 512}"#,
            [Some(10), Some(20), Some(5), Some(512), None, None],
        );
        check(r#"{"NanoCpus": 1500000000}"#, [None, None, None, None, Some(150_000), Some(100_000)]);
        check(r#"{"CpuQuota": 5000, "CpuPeriod": 10000}"#, [None, None, None, None, Some(5000), Some(10_000)]);
    }

    #[test]
    fn where_it_can_be_reached_is_what_docker_tells() {
        let container = parse(
            r#"{"NetworkSettings": {
                "Ports": {"9090/tcp": [{"HostIp": "0.0.0.0", "HostPort": "18080"}, {"HostIp": "::", "HostPort": "18080"}],
                    "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}], "80/tcp": null, "81/tcp": [],
                    "443/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8443"}], "x/tcp": [{"HostIp": "?", "HostPort": "1"}],
                    "82/tcp": [{"HostIp": "", "HostPort": "82"}, {"HostPort": "none"}]},
                "Networks": {"shop_b": {"IPAddress": "172.20.0.3"}, "shop_a": {"IPAddress": "172.19.0.2"},
                    "shop_c": {"IPAddress": ""}}}}"#,
        );
        assert_eq!(container.addresses, ["172.19.0.2", "172.20.0.3"].map(|text| text.parse::<IpAddr>().unwrap()));
        let shown: Vec<String> =
            container.published.iter().map(|it| format!("{}:{} -> {}", it.host, it.host_port, it.port)).collect();
        assert_eq!(shown, ["0.0.0.0:82 -> 82", "127.0.0.1:8443 -> 443", "0.0.0.0:18080 -> 9090", ":::18080 -> 9090"]);
    }

    #[test]
    fn an_empty_answer_is_no_panic() {
        let container = parse("{}");
        assert_eq!((container.status, container.key(), container.started_at), (Status::Created, None, None));
    }

    #[test]
    fn expected_to_run_follows_label_then_one_off_then_policy() {
        let check = |change: fn(&mut Container), expected: bool| {
            let mut container = parse(UNHEALTHY);
            change(&mut container);
            assert_eq!(container.expected_to_run(), expected, "{container:?}");
        };
        check(|_| (), true);
        check(|c| c.restart_policy = RestartPolicy::Always, true);
        check(|c| c.restart_policy = RestartPolicy::No, false);
        check(|c| _ = c.labels.insert(labels::COMPOSE_ONEOFF.into(), "True".into()), false);
        check(|c| _ = c.labels.insert(labels::EXPECTED.into(), "false".into()), false);
        let on_failure = RestartPolicy::OnFailure { maximum_retries: 3 };
        let exited = |c: &mut Container, exit_code| (c.status, c.exit_code) = (Status::Exited, exit_code);
        let check = |exit_code, expected| {
            let mut container = parse(UNHEALTHY);
            container.restart_policy = on_failure;
            exited(&mut container, exit_code);
            assert_eq!(container.expected_to_run(), expected);
        };
        check(0, false);
        check(1, true);
    }

    /// The answer above with other numbers, times, words and missing parts.
    fn near(numbers: &[i64], words: &[String], leave_out: usize) -> serde_json::Value {
        fn change(value: &mut serde_json::Value, at: &mut usize, numbers: &[i64], words: &[String], leave_out: usize) {
            *at += 1;
            match value {
                _ if *at == leave_out => *value = serde_json::Value::Null,
                serde_json::Value::Number(number) => *number = numbers[*at % numbers.len()].into(),
                serde_json::Value::String(text) if at.is_multiple_of(3) => text.clone_from(&words[*at % words.len()]),
                serde_json::Value::Array(all) => {
                    all.iter_mut().for_each(|one| change(one, at, numbers, words, leave_out))
                }
                serde_json::Value::Object(all) => {
                    all.values_mut().for_each(|one| change(one, at, numbers, words, leave_out))
                }
                _ => (),
            }
        }
        let mut value = serde_json::from_str(UNHEALTHY).unwrap();
        change(&mut value, &mut 0, numbers, words, leave_out);
        value
    }

    proptest! {
        #[test]
        fn never_panics_and_what_is_unknown_is_missing(
            text in any::<String>(),
            numbers in prop::collection::vec(prop_oneof![any::<i64>(), -1..3i64], 1..9),
            words in prop::collection::vec(prop_oneof![any::<String>(), "/{0,3}[a-z]{0,4}", "-?[0-9]{4}-0[1-9]-0[1-9]T00:00:00Z"], 1..9),
            leave_out in 0..60usize,
        ) {
            _ = serde_json::from_str::<ContainerInspectResponse>(&text).map(Container::from);
            // Some words stand where only few are known.
            let Ok(answer) = serde_json::from_value::<ContainerInspectResponse>(near(&numbers, &words, leave_out)) else { return Ok(()) };
            let container = Container::from(answer);
            _ = container.expected_to_run();
            prop_assert!(!container.name.starts_with('/'));
            let limits = [container.memory_limit_bytes, container.cpu_shares, container.cpu_quota_micros];
            prop_assert!(!limits.contains(&Some(0)));
            let probed = container.probes.iter().flat_map(|probe| [probe.start, probe.end]);
            let times = probed.chain([container.created_at, container.started_at, container.finished_at]);
            prop_assert!(times.flatten().all(|at| at > Timestamp::UNIX_EPOCH));
            if let Some(check) = container.healthcheck {
                prop_assert!(check.interval.is_positive() && check.timeout.is_positive() && check.retries > 0);
            }
        }
    }
}
