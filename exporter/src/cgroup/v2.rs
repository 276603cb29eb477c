//! Control groups version 2 (Documentation/admin-guide/cgroup-v2.rst): one tree, all controllers.

use std::path::{Path, PathBuf};

use super::{
    Cpu, DeviceIo, Faults, GroupFile, Memory, PressureFiles, Prior, ProcessList, Throttling, Usage, Work, below,
    device, working_set,
};
use crate::collect::Reader;
use crate::parse;

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

    pub fn files(&self, path: &str) -> Files {
        let folder = below(&self.root, path);
        let file = |name| GroupFile::of(Some(&folder), name);
        let memory_file = |name| GroupFile::of(self.memory.then_some(&folder), name);
        Files {
            cpu: file("cpu.stat"),
            memory: MemoryFiles {
                current: memory_file("memory.current"),
                peak: memory_file("memory.peak"),
                stat: memory_file("memory.stat"),
                swap: memory_file("memory.swap.current"),
                events: memory_file("memory.events"),
            },
            io: file("io.stat"),
            pressure: PressureFiles::new(Some(&folder)),
            processes: ProcessList::new(&folder),
            threads: file("pids.current"),
            folder,
        }
    }
}

#[derive(Debug)]
pub struct Files {
    pub(super) folder: PathBuf,
    cpu: GroupFile,
    memory: MemoryFiles,
    io: GroupFile,
    pressure: PressureFiles,
    processes: ProcessList,
    threads: GroupFile,
}

#[derive(Debug)]
struct MemoryFiles {
    current: GroupFile,
    /// Linux 5.19 and later.
    peak: GroupFile,
    stat: GroupFile,
    /// Not there when the kernel counts no swap.
    swap: GroupFile,
    events: GroupFile,
}

impl Files {
    pub fn usage(&mut self, prior: Option<&Prior>, has_quota: bool, reader: &mut Reader) -> Usage {
        let mut cpu = self.cpu.bytes(reader).map(cpu).unwrap_or_default();
        if !has_quota {
            cpu.throttling = None;
        }
        let memory = self.memory.current.number(reader);
        let prior =
            prior.filter(|prior| cpu.total.is_some() && (prior.work.cpu, prior.work.memory.usage) == (cpu, memory));
        Usage {
            work: match prior {
                Some(prior) => prior.work,
                None => Work {
                    cpu,
                    memory: self.memory.read(memory, reader),
                    processes: self.processes.count(reader),
                    threads: self.threads.number(reader),
                },
            },
            io: self.io.bytes(reader).map(io).unwrap_or_default(),
            pressure: match prior {
                Some(prior) if prior.is_calm => prior.pressure,
                _ => self.pressure.read(reader),
            },
        }
    }
}

impl MemoryFiles {
    fn read(&mut self, usage: Option<u64>, reader: &mut Reader) -> Memory {
        let mut memory = Memory {
            max_usage: self.peak.number(reader),
            swap: self.swap.number(reader),
            ..self.stat.bytes(reader).map(|text| stat(text, usage)).unwrap_or(Memory { usage, ..Memory::default() })
        };
        for (key, value) in parse::keyed(self.events.bytes(reader).unwrap_or_default()) {
            match key {
                b"max" => memory.limit_hits = Some(value),
                b"oom_kill" => memory.oom_kills = Some(value),
                _ => (),
            }
        }
        memory
    }
}

/// The path in /proc/PID/cgroup.
pub fn path(membership: &str) -> Option<String> {
    membership.lines().find_map(|line| line.strip_prefix("0::")).map(str::to_owned)
}

fn cpu(text: &[u8]) -> Cpu {
    let mut cpu = Cpu::default();
    let (mut periods, mut throttled_periods, mut throttled) = (None, None, None);
    for (key, value) in parse::keyed(text) {
        let nanoseconds = Some(value.saturating_mul(1000));
        match key {
            b"usage_usec" => cpu.total = nanoseconds,
            b"user_usec" => cpu.user = nanoseconds,
            b"system_usec" => cpu.system = nanoseconds,
            b"nr_periods" => periods = Some(value),
            b"nr_throttled" => throttled_periods = Some(value),
            b"throttled_usec" => throttled = nanoseconds,
            _ => (),
        }
    }
    if let (Some(periods), Some(throttled_periods), Some(throttled)) = (periods, throttled_periods, throttled) {
        cpu.throttling = Some(Throttling { periods, throttled_periods, throttled });
    }
    cpu
}

/// What memory.stat has of a group and those below it.
fn stat(text: &[u8], usage: Option<u64>) -> Memory {
    let mut memory = Memory { usage, ..Memory::default() };
    for (key, value) in parse::keyed(text) {
        let both = Faults { own: Some(value), with_groups_below: Some(value) };
        match key {
            b"anon" => memory.rss = Some(value),
            b"file" => memory.cache = Some(value),
            b"file_mapped" => memory.mapped_file = Some(value),
            b"inactive_file" => memory.working_set = working_set(usage, Some(value)),
            b"pgfault" => memory.page_faults = both,
            b"pgmajfault" => memory.major_page_faults = both,
            _ => (),
        }
    }
    memory
}

/// Lines `MAJOR:MINOR rbytes=… wbytes=… rios=… wios=…`; a device that was never used has no pairs.
fn io(text: &[u8]) -> Vec<DeviceIo> {
    let mut devices = Vec::new();
    for line in parse::lines(text) {
        let mut words = parse::words(line);
        let Some(number) = words.next() else { continue };
        for word in words {
            let Some(at) = word.iter().position(|&byte| byte == b'=') else { continue };
            let Some(value) = parse::unsigned(&word[at + 1..]) else { continue };
            let Some(device) = device(&mut devices, number) else { break };
            match &word[..at] {
                b"rbytes" => device.read_bytes = Some(value),
                b"wbytes" => device.written_bytes = Some(value),
                b"rios" => device.reads = Some(value),
                b"wios" => device.writes = Some(value),
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
        let text =
            b"179:0 rbytes=4096 wbytes=0 rios=1 wios=0 dbytes=0 dios=0\n7:0\n8:0 wbytes=x rios=2\nbad rbytes=1\n";
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
    fn throttling_is_told_where_the_cpu_controller_is_on() {
        let text = b"usage_usec 5\nuser_usec 3\nsystem_usec 2\nnice_usec 0\n";
        let times = Cpu { total: Some(5000), user: Some(3000), system: Some(2000), throttling: None };
        assert_eq!(cpu(text), times);
        let with_controller =
            [text.as_slice(), b"nr_periods 9\nnr_throttled 4\nthrottled_usec 7\nnr_bursts 0\n"].concat();
        let throttling = Some(Throttling { periods: 9, throttled_periods: 4, throttled: 7000 });
        assert_eq!(cpu(&with_controller), Cpu { throttling, ..times });
        assert_eq!(cpu(b"usage_usec 18446744073709551615\n").total, Some(u64::MAX));
    }

    #[test]
    fn what_memory_stat_lacks_is_missing() {
        let text = b"anon 10\nfile 20\nfile_mapped 5\ninactive_file 15\npgfault 7\npgmajfault 1\nworkingset_nodes 3\n";
        let both = |value| Faults { own: Some(value), with_groups_below: Some(value) };
        assert_eq!(
            stat(text, Some(40)),
            Memory {
                usage: Some(40),
                working_set: Some(25),
                rss: Some(10),
                cache: Some(20),
                mapped_file: Some(5),
                page_faults: both(7),
                major_page_faults: both(1),
                ..Memory::default()
            }
        );
        assert_eq!(stat(b"inactive_file 50\n", Some(40)).working_set, Some(0));
        assert_eq!((stat(text, None).working_set, stat(b"", Some(40)).working_set), (None, None));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9:]{0,12}( [a-z]{0,6}=[0-9x]{0,22}){0,5}") {
            let text = format!("{text}\n{line}\n");
            io(text.as_bytes());
            cpu(text.as_bytes());
            stat(text.as_bytes(), Some(1));
        }
    }
}
