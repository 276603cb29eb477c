//! `machine`: the machine as cAdvisor tells it beside its containers, whose dashboards divide by these figures.

use super::{Access, CollectError, cpu, os};
use crate::exposition::{Exposition, Labels};
use crate::family::{Family, Kind};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    /// CPUs that are switched on.
    pub cores: Option<u64>,
    pub memory_bytes: Option<u64>,
    /// Another after each boot; empty where the kernel does not say it, as the texts below are.
    pub boot_id: String,
    pub kernel_version: String,
    pub os_version: String,
    /// Empty until Docker has answered once.
    pub docker_version: String,
}

pub type Found = Machine;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let os_version = os::read(access, &mut ()).map(|release| release.pretty_name).unwrap_or_default();
    let Access { roots, reader, docker, .. } = access;
    let online = reader.text(&roots.sys("devices/system/cpu/online")).map(cpu::parse_list).unwrap_or_default();
    let memory_bytes = reader.text(&roots.proc("meminfo")).ok().and_then(memory);
    if online.is_empty() && memory_bytes.is_none() {
        return Err(CollectError::Failed { what: "neither CPUs nor memory found".to_owned() });
    }
    let mut word =
        |path: &str| reader.text(&roots.proc(path)).map_or_else(|_| String::new(), |text| text.trim().to_owned());
    Ok(Machine {
        cores: u64::try_from(online.len()).ok().filter(|count| *count > 0),
        memory_bytes,
        boot_id: word("sys/kernel/random/boot_id"),
        kernel_version: word("sys/kernel/osrelease"),
        os_version,
        docker_version: docker.snapshot.engine.as_ref().map(|engine| engine.version.clone()).unwrap_or_default(),
    })
}

/// Bytes of memory, of /proc/meminfo.
fn memory(text: &str) -> Option<u64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    rest.trim().strip_suffix("kB")?.trim_end().parse::<u64>().ok()?.checked_mul(1024)
}

const CORES: Family = Family {
    name: "machine_cpu_cores",
    kind: Kind::Gauge,
    help: "Number of logical CPU cores.",
    labels: &["boot_id"],
    source: "/sys/devices/system/cpu/online",
};
const MEMORY: Family = Family {
    name: "machine_memory_bytes",
    kind: Kind::Gauge,
    help: "Amount of memory installed on the machine, less what the kernel took for itself when it started.",
    labels: &["boot_id"],
    source: "/proc/meminfo MemTotal",
};
const VERSIONS: Family = Family {
    name: "cadvisor_version_info",
    kind: Kind::Gauge,
    help: "Versions of what serves the containers in labels, value is always 1. No cAdvisor: dashboards made for it look here.",
    labels: &["kernelVersion", "osVersion", "dockerVersion", "cadvisorVersion"],
    source: "/proc/sys/kernel/osrelease, os-release, Docker /version, the exporter itself",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[CORES, MEMORY, VERSIONS];

/// In place of cAdvisor's version.
const OURS: &str = concat!("nexus-exporter ", env!("CARGO_PKG_VERSION"));

pub fn write(machine: &Machine, out: &mut Exposition) {
    let boot = Labels::new(&[("boot_id", &machine.boot_id)]);
    for (family, value) in [(CORES, machine.cores), (MEMORY, machine.memory_bytes)] {
        if let Some(value) = value {
            out.family(&family).sample_of(&boot, &[], value);
        }
    }
    let versions = [
        ("kernelVersion", machine.kernel_version.as_str()),
        ("osVersion", &machine.os_version),
        ("dockerVersion", &machine.docker_version),
        ("cadvisorVersion", OURS),
    ];
    out.family(&VERSIONS).sample(&versions, 1u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Format;

    #[test]
    fn memory_is_told_in_bytes_or_not_at_all() {
        let check = |text: &str, expected: Option<u64>| assert_eq!(memory(text), expected, "{text}");
        check("MemTotal:        3884372 kB\nMemFree: 1 kB\n", Some(3_977_596_928));
        check("MemFree: 1 kB\nMemTotal: 1 kB\n", Some(1024));
        check("MemTotal: 18446744073709551615 kB\n", None);
        check("MemTotal: 12\n", None);
        check("MemTotal: x kB\n", None);
        check("SwapTotal: 1 kB\n", None);
        check("", None);
    }

    #[test]
    fn what_is_not_known_is_absent_or_an_empty_label() {
        let nothing = String::new;
        let machine = Machine {
            cores: None,
            memory_bytes: Some(1024),
            boot_id: nothing(),
            kernel_version: "6.12".to_owned(),
            os_version: nothing(),
            docker_version: nothing(),
        };
        let mut out = Exposition::new(Format::Text);
        write(&machine, &mut out);
        let body = out.finish();
        assert!(!body.contains("machine_cpu_cores"), "{body}");
        assert!(body.contains("\nmachine_memory_bytes{boot_id=\"\"} 1024\n"), "{body}");
        let versions = format!(
            "\ncadvisor_version_info{{kernelVersion=\"6.12\",osVersion=\"\",dockerVersion=\"\",cadvisorVersion=\"{OURS}\"}} 1\n"
        );
        assert!(body.contains(&versions), "{body}");
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), digits in "[0-9 ]{0,25}") {
            memory(&text);
            memory(&format!("MemTotal:{digits}kB\n"));
        }
    }
}
