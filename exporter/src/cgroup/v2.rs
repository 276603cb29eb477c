//! Control groups version 2 (Documentation/admin-guide/cgroup-v2.rst): one tree, all controllers.

use std::path::{Path, PathBuf};

use super::{Cpu, DeviceIo, Memory, Usage, count_lines, device, keyed, working_set};
use crate::collect::Reader;

#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    pub root: PathBuf,
    /// Whether the kernel has the memory controller.
    pub memory: bool,
}

impl Layout {
    pub fn find(root: &Path, reader: &mut Reader) -> Option<Layout> {
        let controllers = reader.text(&root.join("cgroup.controllers")).ok()?;
        Some(Layout { root: root.to_owned(), memory: controllers.split_whitespace().any(|name| name == "memory") })
    }

    pub fn usage(&self, path: &str, reader: &mut Reader) -> Usage {
        let folder = self.root.join(path.trim_start_matches('/'));
        let file = |name: &str| folder.join(name);
        let mut usage = Usage {
            cpu: reader.text(&file("cpu.stat")).map(cpu).unwrap_or_default(),
            io: reader.text(&file("io.stat")).map(io).unwrap_or_default(),
            processes: reader.text(&file("cgroup.procs")).ok().and_then(count_lines),
            threads: reader.number(&file("pids.current")),
            ..Usage::default()
        };
        if self.memory {
            let used = reader.number(&file("memory.current"));
            let limit = reader.text(&file("memory.max")).ok().and_then(limit);
            let oom_kills = reader.text(&file("memory.events")).ok().and_then(|text| keyed(text, "oom_kill"));
            let stat = reader.text(&file("memory.stat")).unwrap_or_default();
            usage.memory = Memory {
                usage: used,
                working_set: working_set(used, keyed(stat, "inactive_file")),
                rss: keyed(stat, "anon"),
                cache: keyed(stat, "file"),
                limit,
                oom_kills,
            };
        }
        usage
    }
}

/// The path in /proc/PID/cgroup.
pub fn path(membership: &str) -> Option<String> {
    membership.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn cpu(text: &str) -> Cpu {
    let seconds = |key| Some(keyed(text, key)? as f64 / 1e6);
    Cpu { total: seconds("usage_usec"), user: seconds("user_usec"), system: seconds("system_usec") }
}

/// `max` is no limit.
fn limit(text: &str) -> Option<u64> {
    match text.trim() {
        "max" => Some(0),
        number => number.parse().ok(),
    }
}

/// Lines `MAJOR:MINOR rbytes=… wbytes=… rios=… wios=…`; a device that was never used has no pairs.
fn io(text: &str) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let Some(number) = words.next() else { continue };
        let pairs: Vec<(&str, u64)> = words
            .filter_map(|word| word.split_once('='))
            .filter_map(|(key, value)| Some((key, value.parse().ok()?)))
            .collect();
        if pairs.is_empty() {
            continue;
        }
        let Some(at) = device(&mut devices, number) else { continue };
        for (key, value) in pairs {
            match key {
                "rbytes" => devices[at].read_bytes = Some(value),
                "wbytes" => devices[at].written_bytes = Some(value),
                "rios" => devices[at].reads = Some(value),
                "wios" => devices[at].writes = Some(value),
                _ => (),
            }
        }
    }
    devices
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn io_of_several_devices() {
        let text = "179:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n7:0\n8:0 wbytes=x rios=2\nbad rbytes=1\n";
        assert_eq!(
            io(text),
            [
                DeviceIo {
                    major: 179,
                    minor: 0,
                    read_bytes: Some(4096),
                    written_bytes: Some(0),
                    reads: Some(1),
                    writes: Some(0)
                },
                DeviceIo { major: 8, minor: 0, reads: Some(2), ..DeviceIo::default() },
            ]
        );
    }

    #[test]
    fn no_limit_is_zero_and_nonsense_is_missing() {
        assert_eq!((limit("max\n"), limit("67108864\n"), limit("")), (Some(0), Some(67_108_864), None));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9:]{0,12}( [a-z]{0,6}=[0-9x]{0,22}){0,5}") {
            io(&format!("{text}\n{line}\n"));
            cpu(&text);
            limit(&text);
        }
    }
}
