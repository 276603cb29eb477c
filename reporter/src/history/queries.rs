//! What Prometheus is asked: one query a column. Each describes the five minutes before a step (`[5m]`), so that nothing that
//! happened in between is lost, and a scrape that is missing costs no sample.
//!
//! No recording rules: they know nothing of the time before they came, so that a backfill would have holes; and once an hour
//! a query costs less than a rule every 15 seconds.

use super::columns::{HOSTS, MOUNTS, SERVICES, Table};

/// A container by its name: an id changes when Compose makes it anew.
const NAME: &str = "host, project, service, name";
const SERVICE: &str = "host, project, service";

/// Interfaces that are no machine's own: loopback, and what container networks and tunnels are made of. What passes these is
/// counted where it comes in or goes out.
pub const NOT_OWN: &str = "lo|veth.*|br-.*|docker.*|virbr.*|vnet.*|tap.*|tun.*|wg.*|tailscale.*|zt.*|cni.*|flannel.*|cali.*|podman.*|dummy.*|ifb.*";
/// Whole disks and cards: neither their partitions nor what is laid over them.
const DISKS: &str = "mmcblk[0-9]+|nvme[0-9]+n[0-9]+|[shv]d[a-z]+|xvd[a-z]+";
/// As in prometheus/rules/host.yml: these can't fill up in a way that anybody can mend.
const NO_DISK: &str = "tmpfs|ramfs|devtmpfs|squashfs|iso9660|overlay";

/// A query and the place of its column.
#[derive(Debug)]
pub struct Query {
    pub column: usize,
    pub promql: String,
}

fn queries(table: &Table, all: Vec<(&str, String)>) -> Vec<Query> {
    all.into_iter().filter_map(|(name, promql)| table.place(name).map(|column| Query { column, promql })).collect()
}

pub fn hosts() -> Vec<Query> {
    let mean = |family: &str| format!("max by (host) (avg_over_time({family}[5m]))");
    let difference =
        |whole: &str, rest: &str| format!("max by (host) (avg_over_time({whole}[5m]) - avg_over_time({rest}[5m]))");
    let rate = |family: &str| format!("max by (host) (rate({family}[5m]))");
    let network = |family: &str| format!("sum by (host) (rate({family}{{device!~\"{NOT_OWN}\"}}[5m]))");
    let disk = |family: &str| format!("sum by (host) (rate({family}{{device=~\"{DISKS}\"}}[5m]))");
    let throttle = |reason: &str| format!("max by (host) (avg_over_time(rpi_throttle_active{{{reason}}}[5m]))");
    let idle = "sum by (host, cpu) (rate(node_cpu_seconds_total{mode=~\"idle|iowait\"}[5m]))";
    queries(
        &HOSTS,
        vec![
            ("memory_total_bytes", mean("node_memory_MemTotal_bytes")),
            ("memory_used_bytes", difference("node_memory_MemTotal_bytes", "node_memory_MemAvailable_bytes")),
            ("swap_total_bytes", mean("node_memory_SwapTotal_bytes")),
            ("swap_used_bytes", difference("node_memory_SwapTotal_bytes", "node_memory_SwapFree_bytes")),
            ("cpu_busy_ratio", format!("1 - avg by (host) ({idle})")),
            ("cpu_count", format!("count by (host) ({idle})")),
            ("load1", mean("node_load1")),
            ("load5", mean("node_load5")),
            ("load15", mean("node_load15")),
            ("cpu_pressure_ratio", rate("node_pressure_cpu_waiting_seconds_total")),
            ("memory_pressure_ratio", rate("node_pressure_memory_waiting_seconds_total")),
            ("memory_pressure_full_ratio", rate("node_pressure_memory_stalled_seconds_total")),
            ("io_pressure_ratio", rate("node_pressure_io_waiting_seconds_total")),
            ("io_pressure_full_ratio", rate("node_pressure_io_stalled_seconds_total")),
            (
                // Firmware that has no sensor answers with nonsense.
                "temperature_celsius",
                "max by (host) (avg_over_time(node_thermal_zone_temp[5m]) < 150) \
                 or max by (host) (avg_over_time(node_hwmon_temp_celsius[5m]) < 150)"
                    .to_owned(),
            ),
            ("throttled_ratio", throttle("reason=~\"throttled|arm_frequency_capped\"")),
            ("undervoltage_ratio", throttle("reason=\"under_voltage\"")),
            ("network_in_bytes_per_second", network("node_network_receive_bytes_total")),
            ("network_out_bytes_per_second", network("node_network_transmit_bytes_total")),
            ("disk_read_bytes_per_second", disk("node_disk_read_bytes_total")),
            ("disk_written_bytes_per_second", disk("node_disk_written_bytes_total")),
            ("swap_in_pages_per_second", rate("node_vmstat_pswpin")),
            ("swap_out_pages_per_second", rate("node_vmstat_pswpout")),
        ],
    )
}

pub fn mounts() -> Vec<Query> {
    let last = |family: &str| format!("last_over_time({family}{{fstype!~\"{NO_DISK}\"}}[5m])");
    // Bound folders of what is mounted at / are told once.
    let mount = |value: String| {
        format!(
            "max by (host, device, mountpoint, fstype) ({value} \
             unless on (host, device, mountpoint) last_over_time(node_filesystem_readonly[5m]) == 1 \
             unless on (host, device, mountpoint) (last_over_time(node_filesystem_size_bytes{{mountpoint!=\"/\"}}[5m]) \
             and on (host, device) last_over_time(node_filesystem_size_bytes{{mountpoint=\"/\"}}[5m])))"
        )
    };
    let (size, free) = (last("node_filesystem_size_bytes"), last("node_filesystem_free_bytes"));
    let (files, files_free) = (last("node_filesystem_files"), last("node_filesystem_files_free"));
    queries(
        &MOUNTS,
        vec![
            ("size_bytes", mount(size.clone())),
            ("used_bytes", mount(format!("({size} - {free})"))),
            ("available_bytes", mount(last("node_filesystem_avail_bytes"))),
            // A type without a limit has none at all.
            ("inodes", mount(format!("({files} > 0)"))),
            ("inodes_used", mount(format!("(({files} > 0) - {files_free})"))),
        ],
    )
}

pub fn services() -> Vec<Query> {
    let by_name = |value: &str| format!("max by ({NAME}) ({value})");
    // Outside Compose the container's name stands for the service: `/NAME` is what joins to when there is no service.
    let named = |value: &str| {
        format!(
            "label_replace(label_join({value}, \"joined\", \"/\", \"service\", \"name\"), \
             \"service\", \"$1\", \"joined\", \"/(.+)\")"
        )
    };
    let all = |how: &str, value: &str| format!("{how} by ({SERVICE}) ({})", named(value));
    let sum = |value: &str| all("sum", &by_name(value));
    let limit = by_name("last_over_time(container_spec_memory_limit_bytes[5m])");
    // Those that should run and that nobody stopped.
    let should = format!(
        "({} == 1 unless on ({NAME}) {} == 1)",
        by_name("last_over_time(docker_container_expected_running[5m])"),
        by_name("last_over_time(docker_container_stopped_on_purpose[5m])"),
    );
    let running = by_name("avg_over_time(docker_container_state{state=\"running\"}[5m])");
    let healthy = by_name("avg_over_time(docker_container_health{health=\"healthy\"}[5m])");
    let unchecked = by_name("last_over_time(docker_container_health{health=\"none\"}[5m])");
    queries(
        &SERVICES,
        vec![
            ("memory_bytes", sum("avg_over_time(container_memory_working_set_bytes[5m])")),
            ("memory_peak_bytes", sum("max_over_time(container_memory_working_set_bytes[5m])")),
            ("memory_limit_bytes", format!("{} unless on ({SERVICE}) {} == 0", all("sum", &limit), all("min", &limit))),
            (
                "up_ratio",
                format!(
                    "{} / on ({SERVICE}) {}",
                    all("sum", &format!("({running} and on ({NAME}) {should})")),
                    all("count", &should)
                ),
            ),
            ("healthy_ratio", all("avg", &format!("({healthy} unless on ({NAME}) {unchecked} == 1)"))),
            ("cpu_cores", all("sum", &format!("sum by ({NAME}) (rate(container_cpu_usage_seconds_total[5m]))"))),
            ("replicas", all("count", &should)),
            ("restarts", sum("increase(docker_container_restarts_total[5m])")),
            ("oom_kills", sum("increase(container_oom_events_total[5m])")),
        ],
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_column_is_asked_for_once() {
        for (table, queries) in [(&HOSTS, hosts()), (&MOUNTS, mounts()), (&SERVICES, services())] {
            let places: Vec<usize> = queries.iter().map(|query| query.column).collect();
            assert_eq!(places, (0..table.columns.len()).collect::<Vec<_>>(), "{}", table.samples);
        }
    }

    #[test]
    fn parentheses_close() {
        for query in hosts().into_iter().chain(mounts()).chain(services()) {
            let open = query.promql.matches('(').count();
            assert_eq!(open, query.promql.matches(')').count(), "{}", query.promql);
        }
    }
}
