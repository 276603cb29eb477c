//! What each container uses, as the kernel counts it: cAdvisor's families.

use super::write::{Labelled, counter, each, gauge, seconds};
use super::{Containers, runs};
use crate::cgroup::{DeviceIo, Usage};
use crate::collect::netdev::Interface;
use crate::exposition::{Exposition, Value};
use crate::family::Family;

const IDENTITY_AND_CPU: &[&str] = &["id", "name", "image", "project", "service", "cpu"];
const IDENTITY_AND_DEVICE: &[&str] = &["id", "name", "image", "project", "service", "device"];
const IDENTITY_AND_INTERFACE: &[&str] = &["id", "name", "image", "project", "service", "interface"];

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

pub fn write(reading: &Containers, all: &[Labelled<'_>], out: &mut Exposition) {
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
