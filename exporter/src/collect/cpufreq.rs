//! `cpufreq`: how fast the CPUs run, may run and are asked to run.
//!
//! The CPUs of a Pi share one policy, and `cpuN/cpufreq` is a link to it: a policy is read once for all its CPUs. What the
//! hardware says of its frequency (`cpuinfo_cur_freq`) is for root alone, and on a Pi a question to the firmware.

use std::collections::HashMap;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use super::{Access, CollectError, Folder, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = None;

#[derive(Clone, Debug, PartialEq)]
pub struct Cpu {
    /// The number in `cpu0`.
    pub cpu: u32,
    pub policy: Arc<Policy>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Policy {
    /// In the order of `FREQUENCIES`, in kHz.
    pub frequencies: [Option<u64>; FREQUENCIES.len()],
    pub governor: Option<String>,
    pub available_governors: Vec<String>,
}

/// None where the CPUs run at one speed, as in most virtual machines; that is no fault, as with node_exporter.
pub type Found = Vec<Cpu>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.sys("devices/system/cpu");
    let entries = fs::read_dir(&path).map_err(|source| CollectError::Read { path: path.clone(), source })?;
    let offline = reader.text(&path.join("offline")).map(cpus).unwrap_or_default();
    let mut found = Vec::new();
    let mut policies: HashMap<PathBuf, Arc<Policy>> = HashMap::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| name.strip_prefix("cpu")).and_then(|digits| digits.parse().ok());
        let Some(cpu) = number.filter(|number| !offline.contains(number)) else { continue };
        let folder = entry.path().join("cpufreq");
        let target = fs::read_link(&folder).ok();
        let policy = match target.as_ref().and_then(|target| policies.get(target)) {
            Some(policy) => Arc::clone(policy),
            None => {
                let Ok(folder) = Folder::open(&folder, reader) else { continue };
                let policy = Arc::new(Policy::read(&folder, reader));
                policies.extend(target.map(|target| (target, Arc::clone(&policy))));
                policy
            }
        };
        found.push(Cpu { cpu, policy });
    }
    found.sort_unstable_by_key(|cpu| cpu.cpu);
    Ok(found)
}

impl Policy {
    fn read(folder: &Folder, reader: &mut Reader) -> Policy {
        let frequencies =
            FREQUENCIES.map(|(_, file)| reader.text_in(folder, file).ok().and_then(|text| text.trim().parse().ok()));
        let governor = reader.text_in(folder, "scaling_governor").ok().map(|text| text.trim().to_owned());
        let available = reader.text_in(folder, "scaling_available_governors").unwrap_or_default();
        let mut available_governors: Vec<String> = Vec::new();
        for name in available.split_ascii_whitespace() {
            // The same name twice would be the same series twice.
            if available_governors.iter().all(|known| known != name) {
                available_governors.push(name.to_owned());
            }
        }
        Policy { frequencies, governor, available_governors }
    }
}

/// The kernel's lists: `0-2,5`. A range beyond what any kernel has is left out.
fn cpus(text: &str) -> Vec<u32> {
    let range = |word: &str| {
        let (first, last) = word.split_once('-').unwrap_or((word, word));
        let (first, last) = (first.parse().ok()?, last.parse().ok()?);
        (last < 1 << 16).then_some(first..=last)
    };
    text.trim().split(',').filter_map(range).flatten().collect()
}

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &["cpu"], source }
}

const FREQUENCIES: [(Family, &str); 7] = [
    (
        gauge(
            "node_cpu_frequency_hertz",
            "Frequency of the CPU as the hardware tells it.",
            "/sys/devices/system/cpu/cpuN/cpufreq/cpuinfo_cur_freq, which root alone may read",
        ),
        "cpuinfo_cur_freq",
    ),
    (
        gauge(
            "node_cpu_frequency_avg_hertz",
            "Mean frequency of the CPU over the last moments.",
            "/sys/devices/system/cpu/cpuN/cpufreq/cpuinfo_avg_freq",
        ),
        "cpuinfo_avg_freq",
    ),
    (
        gauge(
            "node_cpu_frequency_max_hertz",
            "Highest frequency that the CPU can run at.",
            "/sys/devices/system/cpu/cpuN/cpufreq/cpuinfo_max_freq",
        ),
        "cpuinfo_max_freq",
    ),
    (
        gauge(
            "node_cpu_frequency_min_hertz",
            "Lowest frequency that the CPU can run at.",
            "/sys/devices/system/cpu/cpuN/cpufreq/cpuinfo_min_freq",
        ),
        "cpuinfo_min_freq",
    ),
    (
        gauge(
            "node_cpu_scaling_frequency_hertz",
            "Frequency that the kernel last asked of the CPU.",
            "/sys/devices/system/cpu/cpuN/cpufreq/scaling_cur_freq",
        ),
        "scaling_cur_freq",
    ),
    (
        gauge(
            "node_cpu_scaling_frequency_max_hertz",
            "Highest frequency that the kernel may ask of the CPU.",
            "/sys/devices/system/cpu/cpuN/cpufreq/scaling_max_freq",
        ),
        "scaling_max_freq",
    ),
    (
        gauge(
            "node_cpu_scaling_frequency_min_hertz",
            "Lowest frequency that the kernel may ask of the CPU.",
            "/sys/devices/system/cpu/cpuN/cpufreq/scaling_min_freq",
        ),
        "scaling_min_freq",
    ),
];

const GOVERNOR: Family = Family {
    name: "node_cpu_scaling_governor",
    kind: Kind::Gauge,
    help: "Whether this governor of those available chooses the frequency of the CPU.",
    labels: &["cpu", "governor"],
    source: "/sys/devices/system/cpu/cpuN/cpufreq/{scaling_governor,scaling_available_governors}",
};

pub const FAMILIES: &[Family] = &{
    let mut families = [GOVERNOR; FREQUENCIES.len() + 1];
    let mut at = 0;
    while at < FREQUENCIES.len() {
        families[at + 1] = FREQUENCIES[at].0;
        at += 1;
    }
    families
};

pub fn write(cpus: &[Cpu], out: &mut Exposition) {
    for (at, (family, _)) in FREQUENCIES.iter().enumerate() {
        let mut family = out.family(family);
        for Cpu { cpu, policy } in cpus {
            if let Some(kilohertz) = policy.frequencies[at] {
                family.sample(&[("cpu", &cpu.to_string())], kilohertz.saturating_mul(1000));
            }
        }
    }
    let mut family = out.family(&GOVERNOR);
    for Cpu { cpu, policy } in cpus {
        let Some(governor) = &policy.governor else { continue };
        for available in &policy.available_governors {
            family.sample(&[("cpu", &cpu.to_string()), ("governor", available)], available == governor);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collect::tests::{Host, samples};

    #[test]
    fn cpus_that_share_a_policy_and_one_that_is_offline() {
        let host = Host::new();
        let folder = "sys/devices/system/cpu";
        host.write(&format!("{folder}/offline"), "2-3,7\n");
        host.write(&format!("{folder}/cpufreq/policy0/scaling_cur_freq"), "600000\n");
        host.write(&format!("{folder}/cpufreq/policy0/scaling_governor"), "ondemand\n");
        host.write(&format!("{folder}/cpufreq/policy0/scaling_available_governors"), "ondemand powersave \n");
        host.write(&format!("{folder}/cpuidle/current_driver"), "none\n");
        for cpu in [0, 1, 2] {
            host.link(&format!("{folder}/cpu{cpu}/cpufreq"), "../cpufreq/policy0");
        }
        host.write(&format!("{folder}/cpu10/online"), "1\n");
        let found = host.read(|access| read(access, &mut ())).unwrap();
        assert_eq!(
            samples(|out| write(&found, out)),
            [
                "node_cpu_scaling_frequency_hertz{cpu=\"0\"} 600000000",
                "node_cpu_scaling_frequency_hertz{cpu=\"1\"} 600000000",
                "node_cpu_scaling_governor{cpu=\"0\",governor=\"ondemand\"} 1",
                "node_cpu_scaling_governor{cpu=\"0\",governor=\"powersave\"} 0",
                "node_cpu_scaling_governor{cpu=\"1\",governor=\"ondemand\"} 1",
                "node_cpu_scaling_governor{cpu=\"1\",governor=\"powersave\"} 0",
            ]
        );
    }

    #[test]
    fn lists_of_cpus() {
        for (text, expected) in
            [("0-2,5\n", vec![0, 1, 2, 5]), ("\n", vec![]), ("3", vec![3]), ("5-3,x,1-,0-99999999", vec![])]
        {
            assert_eq!(cpus(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), list in "[0-9,x-]{0,30}") {
            cpus(&text);
            cpus(&list);
        }
    }
}
