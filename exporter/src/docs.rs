//! docs/metrics.md, generated from the descriptors.

use std::fmt::Write as _;

use crate::collect::Collector;
use crate::family::Family;
use crate::{process, snapshot};

/// The page, as it must be in docs/metrics.md.
pub fn page() -> String {
    let mut out = String::from(INTRODUCTION);
    for collector in Collector::ALL.iter().copied() {
        let (on, _) = collector.flags();
        _ = writeln!(out, "\n## Collector `{}`\n", collector.name());
        if !collector.is_on_by_default() {
            _ = writeln!(out, "Off by default: `--{on}` switches it on.\n");
        }
        if let Some(absence) = collector.absence() {
            _ = writeln!(out, "`node_scrape_collector_success`: {absence}\n");
        }
        table(&mut out, collector.families());
    }
    out.push_str("\n## About the scrape itself\n\nWritten whichever collectors are asked for.\n\n");
    table(&mut out, snapshot::FAMILIES);
    out.push_str(
        "\n## About the exporter's process\n\nWritten too, unless `--web.disable-exporter-metrics` is given.\n\n",
    );
    table(&mut out, process::FAMILIES);
    out
}

const INTRODUCTION: &str = "\
# What the exporter measures

<!-- Generated from the descriptors in exporter/src. Do not edit: `cargo run -p nexus-exporter -- families > docs/metrics.md` -->

Where node_exporter or cAdvisor has a family, this one has the same name, type and meaning. `docker_`, `nexus_` and `rpi_`
are ours. Every collector is on by default unless its section says otherwise; `--no-collector.NAME` switches one off,
`--collector.NAME` on, and `collect[]=NAME` in the query of a scrape, repeated, picks some.

What can't be read is absent, never zero: no `container_memory_*` where the kernel's memory cgroup is off (stock
Raspberry Pi OS; `nexus_memory_cgroup_enabled` is 0 then), no `node_pressure_*` and no `container_pressure_*` without
pressure stall information. The latter need cgroup v2, alone or beside version 1 with the containers in both.

Every family of containers has the labels `id` (the cgroup path, `/docker/ID` when it does not run), `name`, `image`,
`project` and `service` (Docker Compose's, empty outside it). In OpenMetrics a counter is declared without `_total`.

Known limits:

- Tried on amd64 with cgroup v1 (hybrid). cgroup v2 is tested with fixtures only so far.
- Not tried on a Raspberry Pi yet: what its sysfs has (`cpufreq`, `hwmon`, `thermal_zone`, `rpi_board`, `storage`), and all
  of `rpi_firmware`, whose messages are laid out as the firmware's own tools lay them out, and whose answers are tested as
  others have recorded them. Least sure are how older firmware refuses a command, and whether its answer to `get_throttled`
  keeps what has occurred since boot while the kernel clears what the tag says.
- `rpi_firmware` asks by `/dev/vcio_gencmd` or `/dev/vcio`; a container needs leave to open the device (compose.yml says how).
  Without it there is the under-voltage alarm alone, and where the kernel's `get_throttled` is, the other reasons at the price
  of one warning in the kernel's log. Configured clocks need `/dev/vcio`. The processor's temperature is `node_thermal_zone_temp`.
- Of a container that did nothing since the scrape before (its CPU time and memory are what they were), the other figures, its
  pressure and the size of its log may be up to a minute old; I/O and network are always read.
- What somebody sets by hand on a virtual interface (address, MTU, alias, group, queue, promiscuous mode) shows within 40
  scrapes; new sensors of a chip that is known already, and limits that are set anew, within 20.
- No `node_cpu_core_throttles_total` and `node_cpu_package_throttles_total`: x86 alone has them.
- On cgroup v1 the kernel does not charge what is written through the page cache to the container, and some kernels
  count no block I/O per container at all: `container_fs_*` are then absent or too small.
- Of cAdvisor's families there is no `container_fs_usage_bytes`, `container_fs_limit_bytes` and `container_fs_inodes_*`,
  which take a walk over all files of all containers; no `container_file_descriptors`, `container_sockets`,
  `container_ulimits_soft` and `container_tasks_state`, which take a look into the processes, and so a capability that
  the exporter does without; and no CPU time of single CPUs.
- `container_spec_*` is what Docker was told. A limit that was set past Docker does not show.
- `container_health_state` is absent for a container without a health check, where cAdvisor 0.60 has -1.
- Docker sends no event for a probe of a health check that leaves the health as it is, so the failing streak and the last
  probe are up to a minute old.
- `docker_disk_*` are as old as `docker_disk_age_seconds` says: Docker walks its files for them, so it is asked half a
  minute after the start and then each hour (`--collector.docker_disk.interval`). The newer answer of Docker 29 (API 1.52)
  is tested with fixtures only.
- `docker_container_log_bytes` needs the host's root at `--path.rootfs`, without a symbolic link on the way to Docker's
  folder, and uid 0 (without capabilities is enough).
- `machine_*` have none of cAdvisor's labels `machine_id` and `system_uuid`: machine-id(5) asks to keep it off the network.
- In the exporter's own container a mount of the host that something else covers there (the host's /run) has
  `node_filesystem_device_error` 1 and no figures.
- `node_cpu_core_throttles_total` and `node_cpu_package_throttles_total`, which only Intel's processors have, are missing.
- A collector whose read does not return within 2.5 seconds fails, as does one that comes too late within eight
  seconds of a scrape; it is asked again when that read has returned. The others are served.
";

fn table(out: &mut String, families: &[Family]) {
    out.push_str("| Family | Type | Labels | Meaning | Source |\n|---|---|---|---|---|\n");
    let mut families: Vec<&Family> = families.iter().collect();
    families.sort_by_key(|family| family.name);
    for Family { name, kind, help, labels, source } in families {
        let labels = labels.join(", ");
        let cell = |text: &str| text.replace('|', "\\|").replace('<', "&lt;");
        _ = writeln!(out, "| `{name}` | {} | {labels} | {} | {} |", kind.as_str(), cell(help), cell(source));
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::family::Kind;

    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/metrics.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "docs/metrics.md is stale: cargo run -p nexus-exporter -- families > docs/metrics.md");
    }

    #[test]
    fn descriptors_keep_the_conventions() {
        let mut names = BTreeSet::new();
        let all = Collector::ALL.iter().copied().flat_map(Collector::families).chain(snapshot::FAMILIES);
        let all = all.chain(process::FAMILIES);
        for Family { name, kind, help, labels, source } in all {
            assert!(names.insert(*name), "{name} is described twice");
            // cAdvisor's one counter without it, and node_exporter's one gauge with it.
            let exempt = *kind == Kind::Untyped
                || ["container_memory_failcnt", "node_systemd_socket_refused_connections_total"].contains(name);
            assert!(exempt || (*kind == Kind::Counter) == name.ends_with("_total"), "{name}");
            assert!(!help.is_empty() && !source.is_empty(), "{name}");
            let plain = name.replace("<field>", "x");
            for word in labels.iter().copied().chain([plain.as_str()]) {
                let valid = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
                assert!(word.bytes().all(valid) && !word.starts_with(|c: char| c.is_ascii_digit()), "{word}");
            }
        }
    }
}
