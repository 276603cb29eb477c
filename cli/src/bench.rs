//! `nexus bench`: measurements that anyone can run, each beside a peer in one run.

pub mod dependencies;
pub mod exporter;
pub mod heal;
pub mod ingest;
mod process;
mod trials;

use anyhow::Result;

use crate::docker::docker;

/// One line on what this ran on.
async fn machine() -> Result<String> {
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let model = read("/proc/device-tree/model").trim_end_matches('\0').to_owned();
    let cpu = read("/proc/cpuinfo");
    let cpu = cpu.lines().find_map(|line| line.strip_prefix("model name")).and_then(|rest| rest.split_once(": "));
    let name = match (model.is_empty(), cpu) {
        (false, _) => model,
        (true, Some((_, cpu))) => cpu.to_owned(),
        (true, None) => std::env::consts::ARCH.to_owned(),
    };
    let cores = std::thread::available_parallelism().map_or(0, usize::from);
    let kernel = read("/proc/sys/kernel/osrelease");
    let engine =
        docker(&["info", "--format", "Docker {{.ServerVersion}}, cgroup v{{.CgroupVersion}} ({{.CgroupDriver}})"]);
    Ok(format!("{name}, {cores} cores, Linux {}, {}\n", kernel.trim(), engine.await?.trim()))
}
