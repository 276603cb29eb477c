//! Control groups version 1 (Documentation/admin-guide/cgroup-v1): one tree a controller.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::{Cpu, DeviceIo, Memory, Place, Usage, count_lines, device, keyed, working_set};
use crate::collect::Reader;

/// The root folder of each controller that is used here; at least one is there.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Layout {
    pub memory: Option<PathBuf>,
    pub cpuacct: Option<PathBuf>,
    pub blkio: Option<PathBuf>,
    pub pids: Option<PathBuf>,
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
        };
        (layout != Layout::default()).then_some(layout)
    }

    /// Any controller's folder: Docker makes a group in each.
    pub fn any(&self) -> &Path {
        let folders = [&self.memory, &self.cpuacct, &self.pids, &self.blkio];
        folders.into_iter().flatten().next().map_or(Path::new("/nonexistent"), PathBuf::as_path)
    }

    pub fn usage(&self, place: &Place, reader: &mut Reader) -> Usage {
        let folder = |root: &Option<PathBuf>, controller: &str| {
            let path = place.exceptions.get(controller).unwrap_or(&place.path);
            root.as_ref().map(|root| root.join(path.trim_start_matches('/')))
        };
        let mut usage = Usage::default();
        if let Some(folder) = folder(&self.cpuacct, "cpuacct") {
            let nanoseconds: Option<u64> = reader.number(&folder.join("cpuacct.usage"));
            let ticks = rustix::param::clock_ticks_per_second() as f64;
            let stat = reader.text(&folder.join("cpuacct.stat")).unwrap_or_default();
            let seconds = |key| Some(keyed(stat, key)? as f64 / ticks);
            usage.cpu = Cpu {
                total: nanoseconds.map(|nanoseconds| nanoseconds as f64 / 1e9),
                user: seconds("user"),
                system: seconds("system"),
            };
        }
        if let Some(folder) = folder(&self.memory, "memory") {
            usage.memory = memory(&folder, reader);
        }
        if let Some(folder) = folder(&self.blkio, "blkio") {
            usage.io = io(&folder, reader);
        }
        if let Some(folder) = folder(&self.pids, "pids") {
            usage.threads = reader.number(&folder.join("pids.current"));
            usage.processes = reader.text(&folder.join("cgroup.procs")).ok().and_then(count_lines);
        }
        usage
    }
}

/// Where /proc/PID/cgroup puts a process, its memory group's path (or the first known) standing for all.
pub fn place(membership: &str, layout: &Layout) -> Option<Place> {
    let known = [
        ("memory", layout.memory.is_some()),
        ("cpuacct", layout.cpuacct.is_some()),
        ("pids", layout.pids.is_some()),
        ("blkio", layout.blkio.is_some()),
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
    let path = known.iter().filter(|(_, here)| *here).find_map(|(name, _)| paths.get(*name))?.clone();
    paths.retain(|_, other| *other != path);
    Some(Place { path, exceptions: paths })
}

/// Limits from here on up mean none: the kernel writes the greatest multiple of the page size below 2^63.
const NO_LIMIT: u64 = 1 << 62;

fn memory(folder: &Path, reader: &mut Reader) -> Memory {
    let usage = reader.number(&folder.join("memory.usage_in_bytes"));
    let limit: Option<u64> = reader.number(&folder.join("memory.limit_in_bytes"));
    let oom_kills = reader.text(&folder.join("memory.oom_control")).ok().and_then(|text| keyed(text, "oom_kill"));
    let stat = reader.text(&folder.join("memory.stat")).unwrap_or_default();
    // With the groups below it, where the kernel counts them.
    let whole = |total: &str, own: &str| keyed(stat, total).or_else(|| keyed(stat, own));
    Memory {
        usage,
        working_set: working_set(usage, whole("total_inactive_file", "inactive_file")),
        rss: whole("total_rss", "rss"),
        cache: whole("total_cache", "cache"),
        limit: limit.map(|limit| if limit >= NO_LIMIT { 0 } else { limit }),
        oom_kills,
    }
}

/// runc's order: the BFQ scheduler's own count where it is in use, else that of the throttling layer, which sees all
/// I/O of any scheduler; with the groups below where the kernel has it.
fn io(folder: &Path, reader: &mut Reader) -> Vec<DeviceIo> {
    for family in ["blkio.bfq", "blkio.throttle"] {
        for suffix in ["_recursive", ""] {
            let mut devices = Vec::new();
            let file = |name: &str| folder.join(format!("{family}.{name}{suffix}"));
            let Ok(bytes) = reader.text(&file("io_service_bytes")) else { continue };
            add(&mut devices, bytes, |device| (&mut device.read_bytes, &mut device.written_bytes));
            if devices.is_empty() {
                // Nothing was counted here, with or without the groups below.
                break;
            }
            if let Ok(operations) = reader.text(&file("io_serviced")) {
                add(&mut devices, operations, |device| (&mut device.reads, &mut device.writes));
            }
            return devices;
        }
    }
    Vec::new()
}

/// Lines `MAJOR:MINOR Read|Write|… NUMBER`.
fn add(devices: &mut Vec<DeviceIo>, text: &str, fields: fn(&mut DeviceIo) -> (&mut Option<u64>, &mut Option<u64>)) {
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(number), Some(operation), Some(value)) = (words.next(), words.next(), words.next()) else { continue };
        let Ok(value) = value.parse() else { continue };
        if !matches!(operation, "Read" | "Write") {
            continue;
        }
        let Some(at) = device(devices, number) else { continue };
        let (read, write) = fields(&mut devices[at]);
        *(if operation == "Read" { read } else { write }) = Some(value);
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
        let stat = "cache 1\nrss 2\ninactive_file 3\ntotal_cache 10\ntotal_rss 20\ntotal_inactive_file 30\n";
        let folder = folder(&[
            ("memory.usage_in_bytes", "100\n"),
            ("memory.limit_in_bytes", "9223372036854771712\n"),
            ("memory.stat", stat),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 4\n"),
        ]);
        assert_eq!(
            memory(folder.path(), &mut Reader::default()),
            Memory {
                usage: Some(100),
                working_set: Some(70),
                rss: Some(20),
                cache: Some(10),
                limit: Some(0),
                oom_kills: Some(4)
            }
        );
        assert_eq!(memory(Path::new("/nonexistent"), &mut Reader::default()), Memory::default());
    }

    #[test]
    fn io_of_bfq_counts_before_that_of_the_throttle() {
        let throttle = ("blkio.throttle.io_service_bytes", "8:0 Read 10\n8:0 Write 20\n8:0 Total 30\nTotal 30\n");
        let read = |files: &[(&str, &str)]| {
            let folder = folder(files);
            io(folder.path(), &mut Reader::default())
                .iter()
                .map(|d| (d.major, d.read_bytes, d.writes))
                .collect::<Vec<_>>()
        };
        assert_eq!(read(&[throttle]), [(8, Some(10), None)]);
        assert_eq!(read(&[throttle, ("blkio.bfq.io_service_bytes_recursive", "")]), [(8, Some(10), None)]);
        let bfq = ("blkio.bfq.io_service_bytes", "8:0 Read 7\n");
        assert_eq!(read(&[throttle, bfq, ("blkio.bfq.io_serviced", "8:0 Write 5\n")]), [(8, Some(7), Some(5))]);
        assert_eq!(read(&[]), []);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9:]{0,9} (Read|Write|x) [0-9x]{0,22}") {
            let layout = Layout { memory: Some("/x".into()), ..Layout::default() };
            place(&format!("{text}\n{line}\n4:memory:{text}\n"), &layout);
            add(&mut Vec::new(), &format!("{text}\n{line}\n"), |d| (&mut d.reads, &mut d.writes));
        }
    }
}
