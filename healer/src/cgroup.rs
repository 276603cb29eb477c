//! What the kernel counts for one container: its memory, the peak of it, kills for want of it, and CPU time.
//!
//! Of a container that runs only: its control group goes with its last process. What can't be read is `None`.

use std::path::{Path, PathBuf};

use nexus_docker::Container;
use serde::{Deserialize, Serialize};

/// These files have a few hundred bytes.
const LONGEST: usize = 16 * 1024;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Usage {
    pub memory_bytes: Option<u64>,
    /// The most there has been since the container started.
    pub memory_peak_bytes: Option<u64>,
    /// How often something had to wait or was refused because the limit was reached.
    pub memory_limit_hits: Option<u64>,
    /// Processes in it that the kernel killed for want of memory.
    pub oom_kills: Option<u64>,
    /// Processors that it used while it was looked at: 1.0 is one of them all the time.
    pub cpus: Option<f64>,
    /// CPU time since it started, to be compared with a later look.
    #[serde(skip)]
    pub cpu_nanos: Option<u64>,
}

/// Reads what there is. `root` is where the host's /sys/fs/cgroup is.
pub fn read(root: &Path, container: &Container) -> Usage {
    if container.pid == 0 || !is_id(&container.id) {
        return Usage::default();
    }
    if root.join("cgroup.controllers").exists() {
        find(root, container).map(|folder| version_2(&folder)).unwrap_or_default()
    } else {
        version_1(root, container)
    }
}

fn version_2(folder: &Path) -> Usage {
    let events = text(folder, "memory.events");
    Usage {
        memory_bytes: number(folder, "memory.current"),
        memory_peak_bytes: number(folder, "memory.peak"),
        memory_limit_hits: events.as_deref().and_then(|events| keyed(events, "max")),
        oom_kills: events.as_deref().and_then(|events| keyed(events, "oom_kill")),
        cpus: None,
        cpu_nanos: text(folder, "cpu.stat")
            .and_then(|stat| keyed(&stat, "usage_usec"))
            .map(|micros| micros.saturating_mul(1000)),
    }
}

fn version_1(root: &Path, container: &Container) -> Usage {
    let memory = find(&root.join("memory"), container);
    let memory = memory.as_deref();
    let cpu = ["cpuacct", "cpu,cpuacct"].iter().find_map(|controller| find(&root.join(controller), container));
    Usage {
        memory_bytes: memory.and_then(|folder| number(folder, "memory.usage_in_bytes")),
        memory_peak_bytes: memory.and_then(|folder| number(folder, "memory.max_usage_in_bytes")),
        memory_limit_hits: memory.and_then(|folder| number(folder, "memory.failcnt")),
        // Linux 4.13 and later.
        oom_kills: memory
            .and_then(|folder| text(folder, "memory.oom_control"))
            .and_then(|control| keyed(&control, "oom_kill")),
        cpus: None,
        cpu_nanos: cpu.and_then(|folder| number(&folder, "cpuacct.usage")),
    }
}

/// What a container holds and has written, as far as the kernel counts it.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Load {
    /// Memory that the kernel can't take back by dropping files from its cache: what a leak fills.
    pub held_bytes: Option<u64>,
    /// To disks, since it was started. Version 1 does not count what goes through the cache.
    pub written_bytes: Option<u64>,
}

/// The same places as [`read`], without the rest: it is asked for every other second.
pub fn load(root: &Path, container: &Container) -> Load {
    if container.pid == 0 || !is_id(&container.id) {
        return Load::default();
    }
    let held = |folder: &Path, usage: &str, prefix: &str| {
        let stat = text(folder, "memory.stat")?;
        let cached = |name: &str| keyed(&stat, &format!("{prefix}{name}")).unwrap_or_default();
        let cache = cached("inactive_file").saturating_add(cached("active_file"));
        Some(number(folder, usage)?.saturating_sub(cache).saturating_sub(cached("slab_reclaimable")))
    };
    if root.join("cgroup.controllers").exists() {
        let Some(folder) = find(root, container) else { return Load::default() };
        let written = |stat: String| -> u64 {
            let values = stat.split_whitespace().filter_map(|word| word.strip_prefix("wbytes="));
            values.filter_map(|value| value.parse::<u64>().ok()).sum()
        };
        return Load {
            held_bytes: held(&folder, "memory.current", ""),
            written_bytes: text(&folder, "io.stat").map(written),
        };
    }
    let written = |stat: String| -> u64 {
        let lines = stat.lines().filter_map(|line| line.rsplit_once(' '));
        let written = lines.filter(|(name, _)| name.ends_with(" Write"));
        written.filter_map(|(_, value)| value.parse::<u64>().ok()).sum()
    };
    let memory = find(&root.join("memory"), container);
    let disk = find(&root.join("blkio"), container);
    Load {
        held_bytes: memory.and_then(|folder| held(&folder, "memory.usage_in_bytes", "total_")),
        written_bytes: disk.and_then(|folder| text(&folder, "blkio.throttle.io_service_bytes")).map(written),
    }
}

/// Where Docker puts the group of a container, with either cgroup driver.
fn find(root: &Path, container: &Container) -> Option<PathBuf> {
    let id = &container.id;
    let parent = container.cgroup_parent.trim_matches('/');
    let mut places = Vec::new();
    if parent.is_empty() {
        places.push(format!("system.slice/docker-{id}.scope"));
        places.push(format!("docker/{id}"));
    } else if !parent.split('/').any(|part| part == "..") {
        let slice = parent.rsplit('/').next().unwrap_or_default();
        if let Some(name) = slice.strip_suffix(".slice") {
            places.push(format!("{}/docker-{id}.scope", slice_path(name)));
        }
        places.push(format!("{parent}/{id}"));
    }
    places.iter().map(|place| root.join(place)).find(|folder| folder.is_dir())
}

/// `a-b` lies in `a.slice/a-b.slice` (systemd.slice(5)).
fn slice_path(name: &str) -> String {
    let ends = name.match_indices('-').map(|(at, _)| at).chain([name.len()]);
    ends.map(|end| format!("{}.slice", &name[..end])).collect::<Vec<_>>().join("/")
}

/// It becomes part of a path.
fn is_id(id: &str) -> bool {
    !id.is_empty() && id.chars().all(|character| character.is_ascii_hexdigit())
}

fn text(folder: &Path, name: &str) -> Option<String> {
    std::fs::read_to_string(folder.join(name)).ok().filter(|text| text.len() <= LONGEST)
}

fn number(folder: &Path, name: &str) -> Option<u64> {
    text(folder, name)?.trim().parse().ok()
}

fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().filter_map(|line| line.split_once(' ')).find(|(name, _)| *name == key)?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::container;

    fn of(parent: &str) -> Container {
        Container { id: "ab12".into(), cgroup_parent: parent.into(), ..container() }
    }

    fn tree(files: &[(&str, &str)]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        root
    }

    #[test]
    fn version_2_is_read_where_systemd_puts_it() {
        let folder = "system.slice/docker-ab12.scope";
        let root = tree(&[
            ("cgroup.controllers", "cpu memory\n"),
            (&format!("{folder}/memory.current"), "1000\n"),
            (&format!("{folder}/memory.peak"), "2000\n"),
            (&format!("{folder}/memory.events"), "low 0\nhigh 0\nmax 7\noom 1\noom_kill 1\n"),
            (&format!("{folder}/cpu.stat"), "usage_usec 5\nuser_usec 3\n"),
        ]);
        let expected = Usage {
            memory_bytes: Some(1000),
            memory_peak_bytes: Some(2000),
            memory_limit_hits: Some(7),
            oom_kills: Some(1),
            cpus: None,
            cpu_nanos: Some(5000),
        };
        assert_eq!(read(root.path(), &of("")), expected);
        // Not running: a group of that name is somebody else's.
        assert_eq!(read(root.path(), &Container { pid: 0, ..of("") }), Usage::default());
    }

    #[test]
    fn version_1_is_read_where_dockers_own_driver_puts_it() {
        let root = tree(&[
            ("memory/docker/ab12/memory.usage_in_bytes", "1000\n"),
            ("memory/docker/ab12/memory.max_usage_in_bytes", "2000\n"),
            ("memory/docker/ab12/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
            ("cpu,cpuacct/docker/ab12/cpuacct.usage", "77\n"),
        ]);
        let usage = read(root.path(), &of(""));
        assert_eq!((usage.memory_peak_bytes, usage.oom_kills, usage.cpu_nanos), (Some(2000), Some(3), Some(77)));
        assert_eq!(usage.memory_limit_hits, None);
    }

    #[test]
    fn what_a_container_holds_is_what_the_cache_can_not_give_back() {
        let folder = "system.slice/docker-ab12.scope";
        let root = tree(&[
            ("cgroup.controllers", "cpu memory\n"),
            (&format!("{folder}/memory.current"), "1000\n"),
            (
                &format!("{folder}/memory.stat"),
                "anon 500\nfile 450\ninactive_file 100\nactive_file 50\nslab_reclaimable 7\n",
            ),
            (&format!("{folder}/io.stat"), "8:0 rbytes=1 wbytes=20 rios=1 wios=1\n179:0 rbytes=5 wbytes=3\n"),
        ]);
        let expected = Load { held_bytes: Some(843), written_bytes: Some(23) };
        assert_eq!(load(root.path(), &of("")), expected);
        assert_eq!(load(root.path(), &Container { pid: 0, ..of("") }), Load::default());
        let root = tree(&[
            ("memory/docker/ab12/memory.usage_in_bytes", "1000\n"),
            ("memory/docker/ab12/memory.stat", "inactive_file 1\ntotal_inactive_file 100\ntotal_active_file 50\n"),
            ("blkio/docker/ab12/blkio.throttle.io_service_bytes", "8:0 Read 9\n8:0 Write 4\n7:0 Write 2\nTotal 15\n"),
        ]);
        assert_eq!(load(root.path(), &of("")), Load { held_bytes: Some(850), written_bytes: Some(6) });
        // The memory cgroup is off, as on a stock Raspberry Pi OS.
        assert_eq!(load(tree(&[]).path(), &of("")), Load::default());
    }

    #[test]
    fn a_parent_of_its_own_is_followed_but_not_out_of_the_tree() {
        let root = tree(&[
            ("sys/cgroup.controllers", ""),
            ("sys/a.slice/a-b.slice/docker-ab12.scope/memory.current", "1\n"),
            ("sys/own/ab12/memory.current", "2\n"),
            ("ab12/memory.current", "3\n"),
        ]);
        let memory = |parent: &str| read(&root.path().join("sys"), &of(parent)).memory_bytes;
        assert_eq!(memory("a-b.slice"), Some(1));
        assert_eq!(memory("/own"), Some(2));
        assert_eq!(memory(".."), None);
        let strange = Container { id: "../x".into(), ..of("") };
        assert_eq!(read(&root.path().join("sys"), &strange), Usage::default());
    }
}
