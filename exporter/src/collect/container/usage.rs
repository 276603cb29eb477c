//! What each container uses, as the kernel counts it, and what it may use: cAdvisor's families.

use nexus_docker::Container;

use super::write::{Labelled, counter, each, gauge, seconds};
use super::{Containers, Reading, runs};
use crate::cgroup::{DeviceIo, Usage};
use crate::collect::netdev::Interface;
use crate::exposition::{Exposition, Labels, Value};
use crate::family::Family;

const IDENTITY_AND_CPU: &[&str] = &["id", "name", "image", "project", "service", "cpu"];
const IDENTITY_AND_DEVICE: &[&str] = &["id", "name", "image", "project", "service", "device"];
const IDENTITY_AND_FAILURE: &[&str] = &["id", "name", "image", "project", "service", "failure_type", "scope"];
const IDENTITY_AND_INTERFACE: &[&str] = &["id", "name", "image", "project", "service", "interface"];

const LAST_SEEN: Family = gauge(
    "container_last_seen",
    "When the container's figures were last read, in whole seconds of unixtime.",
    "the time of the scrape, while it runs",
);
const START_TIME: Family = gauge(
    "container_start_time_seconds",
    "When the container was started, in unixtime.",
    "inspect: State.StartedAt, while it runs",
);

const CPU_USAGE: Family = Family {
    labels: IDENTITY_AND_CPU,
    ..counter(
        "container_cpu_usage_seconds_total",
        "CPU time the container has used.",
        "v2 cpu.stat usage_usec; v1 cpuacct.usage; cpu is always `total`",
    )
};

type Column<T, V> = (Family, fn(&T) -> Option<V>);

const CPU: [Column<Usage, Value>; 5] = [
    (
        counter(
            "container_cpu_user_seconds_total",
            "CPU time the container has used in its own code.",
            "v2 cpu.stat user_usec; v1 cpuacct.stat",
        ),
        |usage| usage.work.cpu.user.map(Value::Nanoseconds),
    ),
    (
        counter(
            "container_cpu_system_seconds_total",
            "CPU time the kernel has used on behalf of the container.",
            "v2 cpu.stat system_usec; v1 cpuacct.stat",
        ),
        |usage| usage.work.cpu.system.map(Value::Nanoseconds),
    ),
    (
        counter(
            "container_cpu_cfs_periods_total",
            "Periods in which the CPU quota was in force; absent without a quota.",
            "cpu.stat nr_periods",
        ),
        |usage| usage.work.cpu.throttling.map(|throttling| throttling.periods.into()),
    ),
    (
        counter(
            "container_cpu_cfs_throttled_periods_total",
            "Periods in which the container had used up its CPU quota before the end; absent without a quota.",
            "cpu.stat nr_throttled",
        ),
        |usage| usage.work.cpu.throttling.map(|throttling| throttling.throttled_periods.into()),
    ),
    (
        counter(
            "container_cpu_cfs_throttled_seconds_total",
            "Time for which the container was held back by its CPU quota; absent without a quota.",
            "cpu.stat: v2 throttled_usec, v1 throttled_time",
        ),
        |usage| usage.work.cpu.throttling.map(|throttling| Value::Nanoseconds(throttling.throttled)),
    ),
];

const MEMORY: [Column<Usage, u64>; 8] = [
    (
        gauge(
            "container_memory_usage_bytes",
            "Memory charged to the container, page cache included.",
            "v2 memory.current; v1 memory.usage_in_bytes",
        ),
        |usage| usage.work.memory.usage,
    ),
    (
        gauge(
            "container_memory_max_usage_bytes",
            "The most memory that was charged to the container at once since it was started.",
            "v2 memory.peak (Linux 5.19 and later); v1 memory.max_usage_in_bytes",
        ),
        |usage| usage.work.memory.max_usage,
    ),
    (
        gauge(
            "container_memory_working_set_bytes",
            "Memory charged to the container without the page cache it has not used lately.",
            "usage without (total_)inactive_file of memory.stat",
        ),
        |usage| usage.work.memory.working_set,
    ),
    (
        gauge(
            "container_memory_rss",
            "Bytes of the container's anonymous memory: heaps and stacks.",
            "memory.stat: v2 anon; v1 total_rss",
        ),
        |usage| usage.work.memory.rss,
    ),
    (
        gauge(
            "container_memory_cache",
            "Bytes of page cache charged to the container.",
            "memory.stat: v2 file; v1 total_cache",
        ),
        |usage| usage.work.memory.cache,
    ),
    (
        gauge(
            "container_memory_mapped_file",
            "Bytes of files that processes of the container have mapped.",
            "memory.stat: v2 file_mapped; v1 total_mapped_file",
        ),
        |usage| usage.work.memory.mapped_file,
    ),
    (
        gauge(
            "container_memory_swap",
            "Bytes of the container's memory that are swapped out; absent where the kernel does not count them.",
            "v2 memory.swap.current; v1 memory.stat total_swap",
        ),
        |usage| usage.work.memory.swap,
    ),
    (
        counter(
            "container_memory_failcnt",
            "How often the container was about to go beyond its memory limit.",
            "v2 memory.events max; v1 memory.failcnt",
        ),
        |usage| usage.work.memory.limit_hits,
    ),
];

const TASKS: [Column<Usage, u64>; 2] = [
    (
        gauge(
            "container_processes",
            "Processes of the container.",
            "cgroup.procs; absent on v1 when the exporter is in a PID namespace of its own",
        ),
        |usage| usage.work.processes,
    ),
    (
        gauge(
            "container_threads",
            "Processes and threads of the container, as they count against its limit.",
            "pids.current",
        ),
        |usage| usage.work.threads,
    ),
];

const MEMORY_FAILURES: Family = Family {
    labels: IDENTITY_AND_FAILURE,
    ..counter(
        "container_memory_failures_total",
        "Page faults of the container: pgfault all, pgmajfault those that had to wait for a disk.",
        "memory.stat pgfault, pgmajfault; scope hierarchy is with the groups below, v2 counts no other",
    )
};

const OOM_EVENTS: Family = counter(
    "container_oom_events_total",
    "Processes of the container that were killed for memory, across its restarts.",
    "oom_kill of v2 memory.events, v1 memory.oom_control, counted across restarts with Docker's oom events",
);
const THREADS_MAX: Family = gauge(
    "container_threads_max",
    "How many processes and threads the container may have; 0 for any number.",
    "pids.max, read when the container starts or is updated",
);

const PRESSURE: [Column<Usage, u64>; 6] = [
    (
        pressure(
            "container_pressure_cpu_stalled_seconds_total",
            "Time for which nothing in the container went on for want of CPU.",
            "cpu.pressure, full",
        ),
        |usage| usage.pressure.cpu.full,
    ),
    (
        pressure(
            "container_pressure_cpu_waiting_seconds_total",
            "Time for which something in the container waited for CPU.",
            "cpu.pressure, some",
        ),
        |usage| usage.pressure.cpu.some,
    ),
    (
        pressure(
            "container_pressure_io_stalled_seconds_total",
            "Time for which nothing in the container went on for want of I/O.",
            "io.pressure, full",
        ),
        |usage| usage.pressure.io.full,
    ),
    (
        pressure(
            "container_pressure_io_waiting_seconds_total",
            "Time for which something in the container waited for I/O.",
            "io.pressure, some",
        ),
        |usage| usage.pressure.io.some,
    ),
    (
        pressure(
            "container_pressure_memory_stalled_seconds_total",
            "Time for which nothing in the container went on for want of memory.",
            "memory.pressure, full",
        ),
        |usage| usage.pressure.memory.full,
    ),
    (
        pressure(
            "container_pressure_memory_waiting_seconds_total",
            "Time for which something in the container waited for memory.",
            "memory.pressure, some",
        ),
        |usage| usage.pressure.memory.some,
    ),
];

const fn pressure(name: &'static str, help: &'static str, source: &'static str) -> Family {
    counter(name, help, source)
}

/// The kernel's default where Docker was told nothing.
const DEFAULT_CPU_PERIOD_MICROS: u64 = 100_000;
const DEFAULT_CPU_SHARES: u64 = 1024;

const SPEC_CPU: [Column<Container, u64>; 3] = [
    (
        gauge(
            "container_spec_cpu_period",
            "Microseconds in which the CPU quota is granted anew.",
            "inspect: HostConfig.NanoCpus, CpuPeriod",
        ),
        |container| Some(container.cpu_period_micros.unwrap_or(DEFAULT_CPU_PERIOD_MICROS)),
    ),
    (
        gauge(
            "container_spec_cpu_quota",
            "Microseconds of CPU time the container may use in a period; absent without a quota.",
            "inspect: HostConfig.NanoCpus, CpuQuota",
        ),
        |container| container.cpu_quota_micros,
    ),
    (
        gauge(
            "container_spec_cpu_shares",
            "The container's weight when it competes for CPU; 1024 is usual.",
            "inspect: HostConfig.CpuShares",
        ),
        |container| Some(container.cpu_shares.unwrap_or(DEFAULT_CPU_SHARES)),
    ),
];

const SPEC_MEMORY: Family = gauge(
    "container_spec_memory_limit_bytes",
    "Memory limit of the container; 0 for none.",
    "inspect: HostConfig.Memory",
);
const SPEC_RESERVATION: Family = gauge(
    "container_spec_memory_reservation_limit_bytes",
    "Memory left to the container when the host runs short; 0 for none.",
    "inspect: HostConfig.MemoryReservation",
);
const SPEC_SWAP: Family = gauge(
    "container_spec_memory_swap_limit_bytes",
    "Swap limit of the container, on cgroup v1 of memory and swap together; 0 for none.",
    "inspect: HostConfig.MemorySwap, on v2 without HostConfig.Memory",
);

const IO: [Column<DeviceIo, u64>; 4] = [
    (io_counter("container_fs_reads_bytes_total", "Bytes the container has read from the device."), |io| io.read_bytes),
    (io_counter("container_fs_reads_total", "Reads of the container from the device."), |io| io.reads),
    (io_counter("container_fs_writes_bytes_total", "Bytes the container has written to the device."), |io| {
        io.written_bytes
    }),
    (io_counter("container_fs_writes_total", "Writes of the container to the device."), |io| io.writes),
];

const fn io_counter(name: &'static str, help: &'static str) -> Family {
    Family { labels: IDENTITY_AND_DEVICE, ..counter(name, help, "v2 io.stat; v1 blkio.bfq.* or blkio.throttle.*") }
}

type NetworkColumn = (Family, fn(&Interface) -> u64);
const NETWORK: [NetworkColumn; 8] = [
    (network("container_network_receive_bytes_total", "Bytes received."), |i| i.received.bytes),
    (network("container_network_receive_errors_total", "Packets received in error."), |i| i.received.errors),
    (network("container_network_receive_packets_dropped_total", "Packets dropped on their way in."), |i| {
        i.received.dropped
    }),
    (network("container_network_receive_packets_total", "Packets received."), |i| i.received.packets),
    (network("container_network_transmit_bytes_total", "Bytes sent."), |i| i.transmitted.bytes),
    (network("container_network_transmit_errors_total", "Packets that could not be sent."), |i| i.transmitted.errors),
    (network("container_network_transmit_packets_dropped_total", "Packets dropped on their way out."), |i| {
        i.transmitted.dropped
    }),
    (network("container_network_transmit_packets_total", "Packets sent."), |i| i.transmitted.packets),
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

const ALONE: [Family; 8] =
    [LAST_SEEN, START_TIME, CPU_USAGE, MEMORY_FAILURES, OOM_EVENTS, SPEC_MEMORY, SPEC_RESERVATION, SPEC_SWAP];

const COUNT: usize = ALONE.len()
    + 1
    + CPU.len()
    + MEMORY.len()
    + TASKS.len()
    + PRESSURE.len()
    + SPEC_CPU.len()
    + IO.len()
    + NETWORK.len();

pub const FAMILIES: &[Family] = &{
    let mut families = [THREADS_MAX; COUNT];
    let mut at = 1;
    macro_rules! add {
        ($table:expr, $($field:tt)?) => {{
            let mut from = 0;
            while from < $table.len() {
                families[at] = $table[from]$(.$field)?;
                from += 1;
                at += 1;
            }
        }};
    }
    add!(ALONE,);
    add!(CPU, 0);
    add!(MEMORY, 0);
    add!(TASKS, 0);
    add!(PRESSURE, 0);
    add!(SPEC_CPU, 0);
    add!(IO, 0);
    add!(NETWORK, 0);
    families
};

pub fn write(reading: &Containers, all: &[Labelled<'_>], out: &mut Exposition) {
    // The others use nothing and are held to nothing.
    let used: Vec<Used<'_>> =
        all.iter().filter_map(|&(labels, one)| Some(Used { labels, one, usage: one.usage.as_ref()? })).collect();
    let now = reading.now.as_second();
    each_used(out, &LAST_SEEN, &used, |_| Some(now));
    each(out, &START_TIME, all, |one| one.container.started_at.filter(|_| runs(&one.container)).map(seconds));
    let mut family = out.family(&CPU_USAGE);
    for Used { labels, usage, .. } in &used {
        if let Some(total) = usage.work.cpu.total {
            family.sample_of(labels, &[("cpu", "total")], Value::Nanoseconds(total));
        }
    }
    CPU.iter().for_each(|(family, value)| each_used(out, family, &used, |used| value(used.usage)));
    MEMORY.iter().for_each(|(family, value)| each_used(out, family, &used, |used| value(used.usage)));
    memory_failures(&used, out);
    each(out, &OOM_EVENTS, all, |one| one.oom_events);
    TASKS.iter().for_each(|(family, value)| each_used(out, family, &used, |used| value(used.usage)));
    each_used(out, &THREADS_MAX, &used, |used| used.one.threads_limit);
    for (family, value) in &PRESSURE {
        let nanoseconds = |microseconds: u64| Value::Nanoseconds(microseconds.saturating_mul(1000));
        each_used(out, family, &used, |used| value(used.usage).map(nanoseconds));
    }
    limits(reading, &used, out);
    io(reading, &used, out);
    network_traffic(&used, out);
}

/// A container that runs and whose group was found.
struct Used<'a> {
    labels: &'a Labels,
    one: &'a Reading,
    usage: &'a Usage,
}

/// One sample a container, where there is a value.
fn each_used<V: Into<Value>>(
    out: &mut Exposition,
    family: &Family,
    used: &[Used<'_>],
    value: impl Fn(&Used<'_>) -> Option<V>,
) {
    let mut family = out.family(family);
    for used in used {
        if let Some(value) = value(used) {
            family.sample_of(used.labels, &[], value);
        }
    }
}

fn memory_failures(used: &[Used<'_>], out: &mut Exposition) {
    let mut family = out.family(&MEMORY_FAILURES);
    for Used { labels, usage, .. } in used {
        for (kind, faults) in
            [("pgfault", usage.work.memory.page_faults), ("pgmajfault", usage.work.memory.major_page_faults)]
        {
            for (scope, count) in [("container", faults.own), ("hierarchy", faults.with_groups_below)] {
                if let Some(count) = count {
                    family.sample_of(labels, &[("failure_type", kind), ("scope", scope)], count);
                }
            }
        }
    }
}

fn limits(reading: &Containers, used: &[Used<'_>], out: &mut Exposition) {
    SPEC_CPU.iter().for_each(|(family, value)| each_used(out, family, used, |used| value(&used.one.container)));
    // Docker remembers limits that a kernel without the memory controller ignores.
    if reading.memory_cgroup_enabled != Some(true) {
        return;
    }
    let swap = |container: &Container| {
        let of_memory = container.memory_limit_bytes.filter(|_| reading.limits_swap_alone);
        container.memory_swap_limit_bytes.unwrap_or(0).saturating_sub(of_memory.unwrap_or(0))
    };
    each_used(out, &SPEC_MEMORY, used, |used| Some(used.one.container.memory_limit_bytes.unwrap_or(0)));
    each_used(out, &SPEC_RESERVATION, used, |used| Some(used.one.container.memory_reservation_bytes.unwrap_or(0)));
    each_used(out, &SPEC_SWAP, used, |used| Some(swap(&used.one.container)));
}

fn io(reading: &Containers, used: &[Used<'_>], out: &mut Exposition) {
    for (family, value) in &IO {
        let mut family = out.family(family);
        for Used { labels, usage, .. } in used {
            for io in &usage.io {
                let Some(value) = value(io) else { continue };
                let device = match reading.devices.get(&(io.major, io.minor)) {
                    Some(name) => format!("/dev/{name}"),
                    None => format!("{}:{}", io.major, io.minor),
                };
                family.sample_of(labels, &[("device", &device)], value);
            }
        }
    }
}

fn network_traffic(used: &[Used<'_>], out: &mut Exposition) {
    for (family, value) in &NETWORK {
        let mut family = out.family(family);
        for Used { labels, one, .. } in used {
            for interface in one.interfaces.iter().flatten() {
                family.sample_of(labels, &[("interface", &interface.name)], value(interface));
            }
        }
    }
}
