//! The families of containers, and how they are written.

use jiff::Timestamp;
use nexus_docker::{Health, Status, StopCause};

use super::{Containers, Reading, runs};
use crate::cgroup::{DeviceIo, Usage};
use crate::collect::netdev::Interface;
use crate::exposition::{Exposition, Labels, Value};
use crate::family::{Family, Kind};

/// On each series of a container.
const IDENTITY: &[&str] = &["id", "name", "image", "project", "service"];
const IDENTITY_AND_CPU: &[&str] = &["id", "name", "image", "project", "service", "cpu"];
const IDENTITY_AND_DEVICE: &[&str] = &["id", "name", "image", "project", "service", "device"];
const IDENTITY_AND_HEALTH: &[&str] = &["id", "name", "image", "project", "service", "health"];
const IDENTITY_AND_INTERFACE: &[&str] = &["id", "name", "image", "project", "service", "interface"];
const IDENTITY_AND_STATE: &[&str] = &["id", "name", "image", "project", "service", "state"];

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: IDENTITY, source }
}

const fn counter(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels: IDENTITY, source }
}

const DOCKER_UP: Family = Family {
    labels: &[],
    ..gauge("docker_up", "Whether the Docker Engine answers.", "event stream and list of the Engine API")
};
const DOCKER_INFO: Family = Family {
    labels: &["version", "cgroup_version", "cgroup_driver"],
    ..gauge("docker_info", "The Docker Engine, value is always 1.", "GET /version, /info")
};
const MEMORY_CGROUP: Family = Family {
    labels: &[],
    ..gauge(
        "nexus_memory_cgroup_enabled",
        "Whether the kernel counts and limits the memory of containers; when 0, container_memory_* are absent.",
        "cgroup.controllers (v2), the memory hierarchy (v1)",
    )
};

// State, as Docker tells it.
const STATE: Family = Family {
    labels: IDENTITY_AND_STATE,
    ..gauge(
        "docker_container_state",
        "The state Docker gives the container: 1 for that one, 0 for the others.",
        "inspect: State.Status",
    )
};
const HEALTH: Family = Family {
    labels: IDENTITY_AND_HEALTH,
    ..gauge(
        "docker_container_health",
        "What the health check says: 1 for that one, 0 for the others.",
        "inspect: State.Health.Status",
    )
};
const FAILING_STREAK: Family = gauge(
    "docker_container_health_failing_streak",
    "Failed health checks in a row; absent without a health check.",
    "inspect: State.Health.FailingStreak",
);
const HEALTH_STATE: Family = gauge(
    "container_health_state",
    "The result of the container's health check: 1 healthy, 0 unhealthy, -1 starting; absent without a health check.",
    "inspect: State.Health.Status",
);
const RESTARTS: Family = counter(
    "docker_container_restarts_total",
    "Restarts by Docker's own restart policy since the container was last started by hand or by the API.",
    "inspect: RestartCount",
);
const EXIT_CODE: Family = gauge(
    "docker_container_exit_code",
    "Exit code of the last run; absent while it runs or has never exited.",
    "inspect: State.ExitCode",
);
const FINISHED_AT: Family = gauge(
    "docker_container_finished_at_seconds",
    "When the last run that ended did so, in unixtime; absent while none has.",
    "inspect: State.FinishedAt",
);
const OOM_KILLED: Family = gauge(
    "docker_container_oom_killed",
    "Whether the kernel killed a process of the last run for memory; Docker clears it at the next start.",
    "inspect: State.OOMKilled",
);
const EXPECTED_RUNNING: Family = gauge(
    "docker_container_expected_running",
    "Whether it should be running, by its restart policy or the label nexus.expected.",
    "inspect: HostConfig.RestartPolicy, Config.Labels",
);
const STOPPED_ON_PURPOSE: Family = gauge(
    "docker_container_stopped_on_purpose",
    "Whether somebody asked Docker to stop or pause it; absent when it was stopped before the watching began.",
    "events kill, stop, die, start; inspect: State.Status",
);

// Usage, as the kernel counts it. cAdvisor's names, types and help.
const LAST_SEEN: Family = gauge(
    "container_last_seen",
    "Last time a container was seen by the exporter",
    "the time of the scrape, while it runs",
);
const START_TIME: Family = gauge(
    "container_start_time_seconds",
    "Start time of the container since unix epoch in seconds.",
    "inspect: State.StartedAt, while it runs",
);
const CPU_USAGE: Family = Family {
    labels: IDENTITY_AND_CPU,
    ..counter(
        "container_cpu_usage_seconds_total",
        "Cumulative cpu time consumed in seconds.",
        "v2 cpu.stat usage_usec; v1 cpuacct.usage; cpu is always `total`",
    )
};
const CPU_USER: Family = counter(
    "container_cpu_user_seconds_total",
    "Cumulative user cpu time consumed in seconds.",
    "v2 cpu.stat user_usec; v1 cpuacct.stat",
);
const CPU_SYSTEM: Family = counter(
    "container_cpu_system_seconds_total",
    "Cumulative system cpu time consumed in seconds.",
    "v2 cpu.stat system_usec; v1 cpuacct.stat",
);
const MEMORY_USAGE: Family = gauge(
    "container_memory_usage_bytes",
    "Current memory usage in bytes, including all memory regardless of when it was accessed",
    "v2 memory.current; v1 memory.usage_in_bytes",
);
const MEMORY_WORKING_SET: Family = gauge(
    "container_memory_working_set_bytes",
    "Current working set in bytes.",
    "usage without (total_)inactive_file of memory.stat",
);
const MEMORY_RSS: Family = gauge("container_memory_rss", "Size of RSS in bytes.", "memory.stat: v2 anon; v1 total_rss");
const MEMORY_CACHE: Family =
    gauge("container_memory_cache", "Number of bytes of page cache memory.", "memory.stat: v2 file; v1 total_cache");
const MEMORY_LIMIT: Family = gauge(
    "container_spec_memory_limit_bytes",
    "Memory limit for the container; 0 for none.",
    "v2 memory.max; v1 memory.limit_in_bytes",
);
const OOM_EVENTS: Family = counter(
    "container_oom_events_total",
    "Count of out of memory events observed for the container",
    "oom_kill of v2 memory.events, v1 memory.oom_control, counted across restarts with Docker's oom events",
);
const PROCESSES: Family = gauge(
    "container_processes",
    "Number of processes running inside the container.",
    "cgroup.procs; absent on v1 when the exporter is in a PID namespace of its own",
);
const THREADS: Family = gauge("container_threads", "Number of threads running inside the container", "pids.current");

type IoColumn = (Family, fn(&DeviceIo) -> Option<u64>);
const IO: [IoColumn; 4] = [
    (io_counter("container_fs_reads_bytes_total", "Cumulative count of bytes read"), |io| io.read_bytes),
    (io_counter("container_fs_reads_total", "Cumulative count of reads completed"), |io| io.reads),
    (io_counter("container_fs_writes_bytes_total", "Cumulative count of bytes written"), |io| io.written_bytes),
    (io_counter("container_fs_writes_total", "Cumulative count of writes completed"), |io| io.writes),
];

const fn io_counter(name: &'static str, help: &'static str) -> Family {
    Family { labels: IDENTITY_AND_DEVICE, ..counter(name, help, "v2 io.stat; v1 blkio.bfq.* or blkio.throttle.*") }
}

type NetworkColumn = (Family, fn(&Interface) -> u64);
const NETWORK: [NetworkColumn; 8] = [
    (network("container_network_receive_bytes_total", "Cumulative count of bytes received"), |i| i.received.bytes),
    (
        network("container_network_receive_errors_total", "Cumulative count of errors encountered while receiving"),
        |i| i.received.errors,
    ),
    (
        network(
            "container_network_receive_packets_dropped_total",
            "Cumulative count of packets dropped while receiving",
        ),
        |i| i.received.dropped,
    ),
    (network("container_network_receive_packets_total", "Cumulative count of packets received"), |i| {
        i.received.packets
    }),
    (network("container_network_transmit_bytes_total", "Cumulative count of bytes transmitted"), |i| {
        i.transmitted.bytes
    }),
    (
        network("container_network_transmit_errors_total", "Cumulative count of errors encountered while transmitting"),
        |i| i.transmitted.errors,
    ),
    (
        network(
            "container_network_transmit_packets_dropped_total",
            "Cumulative count of packets dropped while transmitting",
        ),
        |i| i.transmitted.dropped,
    ),
    (network("container_network_transmit_packets_total", "Cumulative count of packets transmitted"), |i| {
        i.transmitted.packets
    }),
];

const fn network(name: &'static str, help: &'static str) -> Family {
    Family {
        labels: IDENTITY_AND_INTERFACE,
        ..counter(
            name,
            help,
            "/proc/PID/net/dev without lo; absent for containers on the host's or another container's network",
        )
    }
}

pub const FAMILIES: &[Family] = &[
    DOCKER_UP,
    DOCKER_INFO,
    MEMORY_CGROUP,
    STATE,
    HEALTH,
    FAILING_STREAK,
    HEALTH_STATE,
    RESTARTS,
    EXIT_CODE,
    FINISHED_AT,
    OOM_KILLED,
    EXPECTED_RUNNING,
    STOPPED_ON_PURPOSE,
    LAST_SEEN,
    START_TIME,
    CPU_USAGE,
    CPU_USER,
    CPU_SYSTEM,
    MEMORY_USAGE,
    MEMORY_WORKING_SET,
    MEMORY_RSS,
    MEMORY_CACHE,
    MEMORY_LIMIT,
    OOM_EVENTS,
    PROCESSES,
    THREADS,
    IO[0].0,
    IO[1].0,
    IO[2].0,
    IO[3].0,
    NETWORK[0].0,
    NETWORK[1].0,
    NETWORK[2].0,
    NETWORK[3].0,
    NETWORK[4].0,
    NETWORK[5].0,
    NETWORK[6].0,
    NETWORK[7].0,
];

/// A container with its labels, escaped once for its many series.
type Labelled<'a> = (Labels, &'a Reading);

pub fn write(reading: &Containers, out: &mut Exposition) {
    out.family(&DOCKER_UP).single(reading.docker_up);
    if let Some(engine) = reading.engine.as_ref().filter(|_| reading.docker_up) {
        let labels = [
            ("version", engine.version.as_str()),
            ("cgroup_version", &engine.cgroup_version),
            ("cgroup_driver", &engine.cgroup_driver),
        ];
        out.family(&DOCKER_INFO).sample(&labels, 1u64);
    }
    if let Some(enabled) = reading.memory_cgroup_enabled {
        out.family(&MEMORY_CGROUP).single(enabled);
    }
    let labelled: Vec<Labelled<'_>> = reading.containers.iter().map(|one| (labels(one), one)).collect();
    if reading.docker_up {
        write_state(&labelled, out);
    }
    write_usage(reading, &labelled, out);
}

fn labels(reading: &Reading) -> Labels {
    let container = &reading.container;
    Labels::new(&[
        ("id", &reading.id),
        ("name", &container.name),
        ("image", &container.image),
        ("project", container.project()),
        ("service", container.service()),
    ])
}

/// One sample a container, where there is a value.
fn each<V: Into<Value>>(
    out: &mut Exposition,
    family: &Family,
    all: &[Labelled<'_>],
    value: impl Fn(&Reading) -> Option<V>,
) {
    let mut family = out.family(family);
    for (labels, reading) in all {
        if let Some(value) = value(reading) {
            family.sample_of(labels, &[], value);
        }
    }
}

fn write_state(all: &[Labelled<'_>], out: &mut Exposition) {
    let mut family = out.family(&STATE);
    for (labels, reading) in all {
        for state in Status::ALL {
            family.sample_of(labels, &[("state", state.as_str())], reading.container.status == state);
        }
    }
    let mut family = out.family(&HEALTH);
    for (labels, reading) in all {
        for health in Health::ALL {
            family.sample_of(labels, &[("health", health.as_str())], reading.container.health == health);
        }
    }
    each(out, &FAILING_STREAK, all, |one| {
        (one.container.health != Health::None).then_some(one.container.failing_streak)
    });
    each(out, &HEALTH_STATE, all, |one| match one.container.health {
        Health::None => None,
        Health::Starting => Some(-1i64),
        Health::Unhealthy => Some(0),
        Health::Healthy => Some(1),
    });
    each(out, &RESTARTS, all, |one| Some(one.container.restart_count));
    each(out, &EXIT_CODE, all, |one| {
        let ended = matches!(one.container.status, Status::Exited | Status::Dead | Status::Restarting);
        (ended && one.container.finished_at.is_some()).then_some(one.container.exit_code)
    });
    each(out, &FINISHED_AT, all, |one| one.container.finished_at.map(seconds));
    each(out, &OOM_KILLED, all, |one| Some(one.container.oom_killed));
    each(out, &EXPECTED_RUNNING, all, |one| Some(one.container.expected_to_run()));
    each(out, &STOPPED_ON_PURPOSE, all, stopped_on_purpose);
}

fn stopped_on_purpose(one: &Reading) -> Option<bool> {
    match one.container.status {
        Status::Paused => Some(true),
        Status::Exited | Status::Dead => match one.stop {
            StopCause::Itself => Some(false),
            StopCause::Requested { .. } => Some(true),
            StopCause::Unknown => None,
        },
        Status::Created | Status::Running | Status::Restarting | Status::Removing => Some(false),
    }
}

fn write_usage(reading: &Containers, all: &[Labelled<'_>], out: &mut Exposition) {
    let now = seconds(reading.now);
    each(out, &LAST_SEEN, all, |one| one.usage.is_some().then_some(now.floor()));
    each(out, &START_TIME, all, |one| one.container.started_at.filter(|_| runs(&one.container)).map(seconds));
    let mut family = out.family(&CPU_USAGE);
    for (labels, one) in all {
        if let Some(total) = one.usage.as_ref().and_then(|usage| usage.cpu.total) {
            family.sample_of(labels, &[("cpu", "total")], total);
        }
    }
    let mut used = |family: &Family, value: fn(&Usage) -> Option<Value>| {
        each(out, family, all, |one| one.usage.as_ref().and_then(value));
    };
    used(&CPU_USER, |usage| usage.cpu.user.map(Value::from));
    used(&CPU_SYSTEM, |usage| usage.cpu.system.map(Value::from));
    used(&MEMORY_USAGE, |usage| usage.memory.usage.map(Value::from));
    used(&MEMORY_WORKING_SET, |usage| usage.memory.working_set.map(Value::from));
    used(&MEMORY_RSS, |usage| usage.memory.rss.map(Value::from));
    used(&MEMORY_CACHE, |usage| usage.memory.cache.map(Value::from));
    used(&MEMORY_LIMIT, |usage| usage.memory.limit.map(Value::from));
    used(&PROCESSES, |usage| usage.processes.map(Value::from));
    used(&THREADS, |usage| usage.threads.map(Value::from));
    each(out, &OOM_EVENTS, all, |one| one.oom_events);
    for (family, value) in &IO {
        let mut family = out.family(family);
        for (labels, one) in all {
            for io in one.usage.iter().flat_map(|usage| &usage.io) {
                let Some(value) = value(io) else { continue };
                let device = match reading.devices.get(&(io.major, io.minor)) {
                    Some(name) => format!("/dev/{name}"),
                    None => format!("{}:{}", io.major, io.minor),
                };
                family.sample_of(labels, &[("device", &device)], value);
            }
        }
    }
    for (family, value) in &NETWORK {
        let mut family = out.family(family);
        for (labels, one) in all {
            for interface in one.interfaces.iter().flatten() {
                family.sample_of(labels, &[("interface", &interface.name)], value(interface));
            }
        }
    }
}

fn seconds(at: Timestamp) -> f64 {
    at.as_duration().as_secs_f64()
}
