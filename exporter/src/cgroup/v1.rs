//! Control groups version 1 (Documentation/admin-guide/cgroup-v1): one tree a controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{
    Cpu, DeviceIo, Faults, GroupFile, Memory, Place, PressureFiles, Prior, ProcessList, Throttling, Usage, Work, below,
    device, working_set,
};
use crate::collect::Reader;
use crate::parse;

/// The root folder of each controller that is used here; at least one is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub memory: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub blkio: Option<PathBuf>,
    pub pids: Option<PathBuf>,
    pub cpu: Option<PathBuf>,
    /// The version 2 beside them, on a hybrid host.
    pub unified: Option<PathBuf>,
}

impl Layout {
    pub fn find(root: &Path) -> Option<Layout> {
        let folder = |names: &[&str]| {
            names.iter().map(|name| root.join(name)).find(|folder| folder.join("cgroup.procs").exists())
        };
        let layout = Layout {
            memory: folder(&["memory"]),
            cpuacct: folder(&["cpuacct", "cpu,cpuacct", "cpuacct,cpu"]),
            blkio: folder(&["blkio"]),
            pids: folder(&["pids"]),
            cpu: folder(&["cpu", "cpu,cpuacct", "cpuacct,cpu"]),
            unified: None,
        };
        let is_empty = layout == Layout::default();
        (!is_empty).then(|| Layout { unified: folder(&["unified"]), ..layout })
    }

    /// Any controller's folder: Docker makes a group in each.
    pub fn any(&self) -> &Path {
        let folders = [&self.memory, &self.cpuacct, &self.pids, &self.blkio, &self.cpu];
        folders.into_iter().flatten().next().map_or(Path::new("/nonexistent"), PathBuf::as_path)
    }

    pub fn files(&self, place: &Place, reader: &mut Reader) -> Files {
        let folder = |root: &Option<PathBuf>, controller: &str| {
            let path = place.exceptions.get(controller).unwrap_or(&place.path);
            root.as_ref().map(|root| below(root, path))
        };
        let (cpuacct, memory) = (folder(&self.cpuacct, "cpuacct"), folder(&self.memory, "memory"));
        let memory = |name| GroupFile::of(memory.as_deref(), name);
        let pids_folder = folder(&self.pids, "pids");
        // Older engines make no group here, or make one and leave it empty.
        let unified = folder(&self.unified, "").filter(|folder| {
            let events = reader.bytes(&folder.join("cgroup.events"));
            events.is_ok_and(|text| parse::keyed(text).any(|pair| pair == (b"populated", 1)))
        });
        Files {
            cpu_usage: GroupFile::of(cpuacct.as_deref(), "cpuacct.usage"),
            cpu_times: GroupFile::of(cpuacct.as_deref(), "cpuacct.stat"),
            throttling: GroupFile::of(folder(&self.cpu, "cpu").as_deref(), "cpu.stat"),
            memory: MemoryFiles {
                usage: memory("memory.usage_in_bytes"),
                max_usage: memory("memory.max_usage_in_bytes"),
                stat: memory("memory.stat"),
                limit_hits: memory("memory.failcnt"),
                oom: memory("memory.oom_control"),
            },
            io: IoFiles::find(folder(&self.blkio, "blkio").as_deref()),
            pressure: PressureFiles::new(unified.as_deref()),
            processes: ProcessList::new(pids_folder.as_deref().unwrap_or(&below(self.any(), &place.path))),
            threads: GroupFile::of(pids_folder.as_deref(), "pids.current"),
            pids_folder,
        }
    }
}

#[derive(Debug)]
pub struct Files {
    pub(super) pids_folder: Option<PathBuf>,
    cpu_usage: GroupFile,
    cpu_times: GroupFile,
    throttling: GroupFile,
    memory: MemoryFiles,
    io: IoFiles,
    pressure: PressureFiles,
    processes: ProcessList,
    threads: GroupFile,
}

#[derive(Debug)]
struct MemoryFiles {
    usage: GroupFile,
    max_usage: GroupFile,
    stat: GroupFile,
    limit_hits: GroupFile,
    oom: GroupFile,
}

impl Files {
    pub fn usage(&mut self, prior: Option<&Prior>, has_quota: bool, reader: &mut Reader) -> Usage {
        let (cpu, memory) = (self.cpu_usage.number(reader), self.memory.usage.number(reader));
        let prior =
            prior.filter(|prior| cpu.is_some() && (prior.work.cpu.total, prior.work.memory.usage) == (cpu, memory));
        Usage {
            work: match prior {
                Some(prior) => prior.work,
                None => Work {
                    cpu: self.cpu(cpu, has_quota, reader),
                    memory: self.memory.read(memory, reader),
                    processes: self.processes.count(reader),
                    threads: self.threads.number(reader),
                },
            },
            io: self.io.read(reader),
            pressure: match prior {
                Some(prior) if prior.is_calm => prior.pressure,
                _ => self.pressure.read(reader),
            },
        }
    }

    fn cpu(&mut self, total: Option<u64>, has_quota: bool, reader: &mut Reader) -> Cpu {
        let mut cpu = Cpu { total, ..Cpu::default() };
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second().max(1);
        for (key, ticks) in parse::keyed(self.cpu_times.bytes(reader).unwrap_or_default()) {
            match key {
                b"user" => cpu.user = Some(ticks.saturating_mul(tick)),
                b"system" => cpu.system = Some(ticks.saturating_mul(tick)),
                _ => (),
            }
        }
        if has_quota {
            cpu.throttling = self.throttling.bytes(reader).and_then(throttling);
        }
        cpu
    }
}

/// Where /proc/PID/cgroup puts a process, its memory group's path (or the first known) standing for all.
pub fn place(membership: &str, layout: &Layout) -> Option<Place> {
    let known = [
        ("memory", layout.memory.is_some()),
        ("cpuacct", layout.cpuacct.is_some()),
        ("pids", layout.pids.is_some()),
        ("blkio", layout.blkio.is_some()),
        ("cpu", layout.cpu.is_some()),
        // Version 2 has a line without controllers.
        ("", layout.unified.is_some()),
    ];
    let mut paths = BTreeMap::new();
    for line in membership.lines() {
        // A path may hold colons; the two before it may not.
        let mut parts = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(path)) = (parts.next(), parts.next()) else { continue };
        for (name, here) in known {
            if here && controllers.split(',').any(|controller| controller == name) {
                paths.insert(name.to_owned(), path.to_owned());
            }
        }
    }
    // In the order of `Layout::any`, whose folder the path is looked for in.
    let controllers = known.iter().filter(|(name, here)| *here && !name.is_empty());
    let path = controllers.clone().find_map(|(name, _)| paths.get(*name))?.clone();
    paths.retain(|_, other| *other != path);
    Some(Place { path, exceptions: paths })
}

fn throttling(text: &[u8]) -> Option<Throttling> {
    let (mut periods, mut throttled_periods, mut throttled) = (None, None, None);
    for (key, value) in parse::keyed(text) {
        match key {
            b"nr_periods" => periods = Some(value),
            b"nr_throttled" => throttled_periods = Some(value),
            b"throttled_time" => throttled = Some(value),
            _ => (),
        }
    }
    Some(Throttling { periods: periods?, throttled_periods: throttled_periods?, throttled: throttled? })
}

impl MemoryFiles {
    fn read(&mut self, usage: Option<u64>, reader: &mut Reader) -> Memory {
        let oom = self.oom.bytes(reader).unwrap_or_default();
        let oom_kills = parse::keyed(oom).find(|(key, _)| *key == b"oom_kill").map(|(_, kills)| kills);
        Memory {
            max_usage: self.max_usage.number(reader),
            limit_hits: self.limit_hits.number(reader),
            oom_kills,
            ..self.stat.bytes(reader).map(|text| stat(text, usage)).unwrap_or(Memory { usage, ..Memory::default() })
        }
    }
}

/// What memory.stat has twice: of the group, and as `total_` with those below it.
#[derive(Clone, Copy, Default)]
struct Stat {
    rss: Option<u64>,
    cache: Option<u64>,
    mapped_file: Option<u64>,
    swap: Option<u64>,
    inactive_file: Option<u64>,
    page_faults: Option<u64>,
    major_page_faults: Option<u64>,
}

fn stat(text: &[u8], usage: Option<u64>) -> Memory {
    let (mut own, mut total) = (Stat::default(), Stat::default());
    for (key, value) in parse::keyed(text) {
        let (stat, key) = match key.strip_prefix(b"total_") {
            Some(key) => (&mut total, key),
            None => (&mut own, key),
        };
        let field = match key {
            b"rss" => &mut stat.rss,
            b"cache" => &mut stat.cache,
            b"mapped_file" => &mut stat.mapped_file,
            b"swap" => &mut stat.swap,
            b"inactive_file" => &mut stat.inactive_file,
            b"pgfault" => &mut stat.page_faults,
            b"pgmajfault" => &mut stat.major_page_faults,
            _ => continue,
        };
        *field = Some(value);
    }
    // With the groups below it, where the kernel counts them.
    let whole = |field: fn(&Stat) -> Option<u64>| field(&total).or_else(|| field(&own));
    let faults = |field: fn(&Stat) -> Option<u64>| Faults { own: field(&own), with_groups_below: whole(field) };
    Memory {
        usage,
        working_set: working_set(usage, whole(|stat| stat.inactive_file)),
        rss: whole(|stat| stat.rss),
        cache: whole(|stat| stat.cache),
        mapped_file: whole(|stat| stat.mapped_file),
        swap: whole(|stat| stat.swap),
        page_faults: faults(|stat| stat.page_faults),
        major_page_faults: faults(|stat| stat.major_page_faults),
        ..Memory::default()
    }
}

/// runc's order: the BFQ scheduler's own count where it is in use, else that of the throttling layer, which sees all
/// I/O of any scheduler; with the groups below where the kernel has it. Which of them counts shows with the first I/O,
/// and stays so for the run: a counter that another continues would jump. Where none does, as in newer kernels, each has
/// its turn.
#[derive(Debug)]
struct IoFiles {
    sources: Vec<IoSource>,
    /// Whether all were asked once.
    have_been_asked: bool,
}

#[derive(Debug)]
struct IoSource {
    bytes: GroupFile,
    operations: GroupFile,
}

impl IoFiles {
    fn find(folder: Option<&Path>) -> IoFiles {
        let source = |family: &str| {
            let name = |what: &str, suffix: &str| format!("{family}.{what}{suffix}");
            let exists = |suffix: &&str| folder.is_some_and(|it| it.join(name("io_service_bytes", suffix)).exists());
            let suffix = ["_recursive", ""].into_iter().find(exists)?;
            let file = |what| GroupFile::of(folder, &name(what, suffix));
            Some(IoSource { bytes: file("io_service_bytes"), operations: file("io_serviced") })
        };
        let sources = ["blkio.bfq", "blkio.throttle"].into_iter().filter_map(source).collect();
        IoFiles { sources, have_been_asked: false }
    }

    fn read(&mut self, reader: &mut Reader) -> Vec<DeviceIo> {
        let asked = if self.have_been_asked { self.sources.len().min(1) } else { self.sources.len() };
        self.have_been_asked = true;
        for _ in 0..asked {
            let Some(source) = self.sources.first_mut() else { break };
            let devices = source.read(reader);
            if !devices.is_empty() {
                self.sources.truncate(1);
                return devices;
            }
            self.sources.rotate_left(1);
        }
        Vec::new()
    }
}

impl IoSource {
    fn read(&mut self, reader: &mut Reader) -> Vec<DeviceIo> {
        let mut devices = Vec::new();
        if let Some(bytes) = self.bytes.bytes(reader) {
            add(&mut devices, bytes, |device| (&mut device.read_bytes, &mut device.written_bytes));
        }
        if !devices.is_empty()
            && let Some(operations) = self.operations.bytes(reader)
        {
            add(&mut devices, operations, |device| (&mut device.reads, &mut device.writes));
        }
        devices
    }
}

/// Lines `MAJOR:MINOR Read|Write|… NUMBER`.
fn add(devices: &mut Vec<DeviceIo>, text: &[u8], fields: fn(&mut DeviceIo) -> (&mut Option<u64>, &mut Option<u64>)) {
    for line in parse::lines(text) {
        let mut words = parse::words(line);
        let (Some(number), Some(operation), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
        let Some(value) = parse::unsigned(value) else { continue };
        if !matches!(operation, b"Read" | b"Write") {
            continue;
        }
        let Some(device) = device(devices, number) else { continue };
        let (read, write) = fields(device);
        *(if operation == b"Read" { read } else { write }) = Some(value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in files {
            std::fs::write(folder.path().join(name), text).unwrap();
        }
        folder
    }

    #[test]
    fn memory_counts_the_groups_below() {
        let text = b"cache 1\nrss 2\nmapped_file 9\npgfault 4\npgmajfault 1\ninactive_file 3\n\
            total_cache 10\ntotal_rss 20\ntotal_pgfault 40\ntotal_inactive_file 30\ntotal_inactive_anon 99\n";
        assert_eq!(
            stat(text, Some(100)),
            Memory {
                usage: Some(100),
                working_set: Some(70),
                rss: Some(20),
                cache: Some(10),
                mapped_file: Some(9),
                page_faults: Faults { own: Some(4), with_groups_below: Some(40) },
                major_page_faults: Faults { own: Some(1), with_groups_below: Some(1) },
                ..Memory::default()
            }
        );
        assert_eq!(stat(b"", None), Memory::default());
    }

    #[test]
    fn throttling_is_all_or_nothing() {
        let text = b"nr_periods 12\nnr_throttled 3\nthrottled_time 4500\nnr_bursts 0\n";
        assert_eq!(throttling(text), Some(Throttling { periods: 12, throttled_periods: 3, throttled: 4500 }));
        assert_eq!(throttling(b"nr_periods 12\nnr_throttled x\n"), None);
    }

    #[test]
    fn io_of_bfq_counts_before_that_of_the_throttle() {
        let throttle = ("blkio.throttle.io_service_bytes", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n");
        let read = |files: &[(&str, &str)]| {
            let folder = folder(files);
            let mut io = IoFiles::find(Some(folder.path()));
            let mut read = || -> Vec<_> {
                io.read(&mut Reader::default()).iter().map(|d| (d.major, d.read_bytes, d.writes)).collect()
            };
            let first = read();
            assert_eq!(read(), first);
            first
        };
        assert_eq!(read(&[throttle]), [(8, Some(10), None)]);
        assert_eq!(read(&[throttle, ("blkio.bfq.io_service_bytes_recursive", "")]), [(8, Some(10), None)]);
        let bfq = ("blkio.bfq.io_service_bytes", "8:0 Read 7\n");
        assert_eq!(read(&[throttle, bfq, ("blkio.bfq.io_serviced", "8:0 Write 5\n")]), [(8, Some(7), Some(5))]);
        assert_eq!(read(&[]), []);
    }

    #[test]
    fn where_none_counts_each_has_its_turn() {
        let bfq = "blkio.bfq.io_service_bytes";
        let folder = folder(&[("blkio.throttle.io_service_bytes", "Total 0\n"), (bfq, "")]);
        let mut io = IoFiles::find(Some(folder.path()));
        let mut read = || io.read(&mut Reader::default()).len();
        assert_eq!((read(), read()), (0, 0));
        std::fs::write(folder.path().join(bfq), "8:0 Read 1\n").unwrap();
        // Within two scrapes, and from then on.
        read();
        assert_eq!((read(), read()), (1, 1));
    }

    #[test]
    fn once_a_source_has_counted_it_stays() {
        let throttle = ("blkio.throttle.io_service_bytes", "8:0 Read 10\n");
        let folder = folder(&[throttle, ("blkio.bfq.io_service_bytes", "")]);
        let mut io = IoFiles::find(Some(folder.path()));
        let mut read = || io.read(&mut Reader::default()).first().and_then(|device| device.read_bytes);
        assert_eq!(read(), Some(10));
        std::fs::write(folder.path().join("blkio.bfq.io_service_bytes"), "8:0 Read 1\n").unwrap();
        assert_eq!(read(), Some(10));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9:]{0,9} (Read|Write|x) [0-9x]{0,22}") {
            let layout = Layout { memory: Some("/x".into()), ..Layout::default() };
            place(&format!("{text}\n{line}\n4:memory:{text}\n"), &layout);
            let text = format!("{text}\n{line}\n");
            add(&mut Vec::new(), text.as_bytes(), |d| (&mut d.reads, &mut d.writes));
            stat(text.as_bytes(), Some(1));
            throttling(text.as_bytes());
        }
    }
}
