//! What a container uses, from the files of its control group; no call to the daemon.
//!
//! Which hierarchy the host has is found anew in each scrape, for it costs two calls. A container's group is found by the
//! templates of Docker's two cgroup drivers, then by what the kernel says of the container's first process.

pub mod v1;
pub mod v2;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::collect::{Reader, Roots};

/// What one container uses. `None`: the kernel does not say (controller off, file missing, group gone), never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub cpu: Cpu,
    pub memory: Memory,
    /// Empty for a container that did no I/O, or where the controller is off.
    pub io: Vec<DeviceIo>,
    /// `None` on v1 when the exporter is in another PID namespace: the kernel then hides the processes.
    pub processes: Option<u64>,
    /// Processes and threads, as counted against the limit.
    pub threads: Option<u64>,
}

/// Seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    pub total: Option<f64>,
    pub user: Option<f64>,
    pub system: Option<f64>,
}

/// Bytes, but for the last.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub usage: Option<u64>,
    /// Without the part of the page cache that was not used lately.
    pub working_set: Option<u64>,
    pub rss: Option<u64>,
    pub cache: Option<u64>,
    /// 0: none.
    pub limit: Option<u64>,
    /// Processes of this group that the kernel killed for memory, since the group was made.
    pub oom_kills: Option<u64>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DeviceIo {
    pub major: u32,
    pub minor: u32,
    pub read_bytes: Option<u64>,
    pub written_bytes: Option<u64>,
    pub reads: Option<u64>,
    pub writes: Option<u64>,
}

/// The cgroup files of the host.
#[derive(Clone, Debug, PartialEq)]
pub enum Hierarchy {
    /// Also the hybrid: controllers in version 1, an empty version 2 beside them.
    V1(v1::Layout),
    V2(v2::Layout),
}

/// What is asked for, as Docker told it.
#[derive(Clone, Copy, Debug)]
pub struct Wanted<'a> {
    pub id: &'a str,
    /// Process id on the host of the container's first process.
    pub pid: u32,
    /// Docker's `--cgroup-parent`, often empty.
    pub parent: &'a str,
}

/// Where a container's group is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// cAdvisor's id: the path below the root of the hierarchy, with a slash before it.
    pub path: String,
    /// Version 1 only: controllers for which /proc/PID/cgroup gave another path.
    pub exceptions: BTreeMap<String, String>,
}

impl Place {
    fn same_everywhere(path: String) -> Self {
        Place { path, exceptions: BTreeMap::new() }
    }
}

impl Hierarchy {
    /// `None` where no cgroup file system is mounted below the root.
    pub fn find(roots: &Roots, reader: &mut Reader) -> Option<Hierarchy> {
        let root = roots.sys("fs/cgroup");
        if let Some(layout) = v2::Layout::find(&root, reader) {
            return Some(Hierarchy::V2(layout));
        }
        v1::Layout::find(&root).map(Hierarchy::V1)
    }

    /// Raspberry Pi OS boots with the memory controller off: then limits are ignored and there is no figure.
    pub fn memory_enabled(&self) -> bool {
        match self {
            Hierarchy::V1(layout) => layout.memory.is_some(),
            Hierarchy::V2(layout) => layout.memory,
        }
    }

    /// A folder in which every container has a group.
    fn probe(&self) -> &Path {
        match self {
            Hierarchy::V1(layout) => layout.any(),
            Hierarchy::V2(layout) => &layout.root,
        }
    }

    /// Finds the group of a running container.
    pub fn locate(&self, wanted: Wanted<'_>, roots: &Roots, reader: &mut Reader) -> Option<Place> {
        let probe = self.probe();
        let exists = |path: &str| probe.join(path.trim_start_matches('/')).join("cgroup.procs").exists();
        if let Some(path) = templates(wanted.id, wanted.parent).into_iter().find(|path| exists(path)) {
            return Some(Place::same_everywhere(path));
        }
        let membership = reader.text(&roots.proc(&format!("{}/cgroup", wanted.pid))).ok()?;
        let place = match self {
            Hierarchy::V1(layout) => v1::place(membership, layout)?,
            Hierarchy::V2(_) => Place::same_everywhere(v2::path(membership)?),
        };
        if place.path.starts_with("/..") {
            return outside_our_namespace(&place.path, probe).map(Place::same_everywhere);
        }
        // The root group is nobody's: figures of the whole host must not be taken for a container's.
        (place.path != "/" && exists(&place.path)).then_some(place)
    }

    pub fn usage(&self, place: &Place, reader: &mut Reader) -> Usage {
        match self {
            Hierarchy::V1(layout) => layout.usage(place, reader),
            Hierarchy::V2(layout) => layout.usage(&place.path, reader),
        }
    }
}

/// Where Docker's drivers put the group: systemd first, as on Raspberry Pi OS.
fn templates(id: &str, parent: &str) -> Vec<String> {
    let parent = parent.trim_matches('/');
    match parent {
        "" => vec![format!("/system.slice/docker-{id}.scope"), format!("/docker/{id}")],
        // The systemd driver only takes slices as parents.
        slice if slice.ends_with(".slice") => {
            let name = slice.rsplit('/').next().unwrap_or(slice);
            vec![format!("{}/docker-{id}.scope", slice_path(name)), format!("/{slice}/{id}")]
        }
        path => vec![format!("/{path}/{id}")],
    }
}

/// `a-b.slice` lies in `a.slice` (systemd.slice(5)): `/a.slice/a-b.slice`.
fn slice_path(slice: &str) -> String {
    let name = slice.strip_suffix(".slice").unwrap_or(slice);
    if name == "-" {
        return String::new();
    }
    let mut path = String::new();
    for (at, _) in name.match_indices('-').chain([(name.len(), "")]) {
        path.push('/');
        path.push_str(&name[..at]);
        path.push_str(".slice");
    }
    path
}

/// In a cgroup namespace of our own the kernel gives paths relative to our own group, as `/../NAME` for a neighbour. How
/// deep we are is not said, so the rest of the path is looked for below the root, and below each group there.
fn outside_our_namespace(path: &str, root: &Path) -> Option<String> {
    /// A host has some dozens of groups at the top.
    const MOST: usize = 256;
    let rest = path.trim_start_matches("/..").trim_start_matches('/');
    if rest.is_empty() {
        return None;
    }
    let exists = |folder: &Path| folder.join(rest).join("cgroup.procs").exists();
    if exists(root) {
        return Some(format!("/{rest}"));
    }
    let mut folders: Vec<PathBuf> = folders_in(root).into_iter().take(MOST).collect();
    let below: Vec<PathBuf> = folders.iter().flat_map(|folder| folders_in(folder)).take(MOST).collect();
    folders.extend(below);
    let found = folders.iter().find(|folder| exists(folder))?;
    Some(format!("/{}/{rest}", found.strip_prefix(root).ok()?.to_str()?))
}

fn folders_in(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries.filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir())).map(|entry| entry.path()).collect()
}

/// The value of a line `KEY VALUE`.
fn keyed(text: &str, key: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

fn working_set(usage: Option<u64>, inactive_file: Option<u64>) -> Option<u64> {
    Some(usage?.saturating_sub(inactive_file?))
}

/// The number of lines, unless there is none: a container that runs has a process, so an empty list is a hidden one.
fn count_lines(text: &str) -> Option<u64> {
    let lines = text.lines().filter(|line| !line.is_empty()).count() as u64;
    (lines > 0).then_some(lines)
}

/// The entry of a device, made where it is missing.
fn device(io: &mut Vec<DeviceIo>, number: &str) -> Option<usize> {
    let (major, minor) = number.split_once(':')?;
    let (major, minor) = (major.parse().ok()?, minor.parse().ok()?);
    Some(io.iter().position(|device| (device.major, device.minor) == (major, minor)).unwrap_or_else(|| {
        io.push(DeviceIo { major, minor, ..DeviceIo::default() });
        io.len() - 1
    }))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn groups_are_where_the_drivers_put_them() {
        let check = |parent: &str, expected: &[&str]| assert_eq!(templates("ab", parent), expected, "{parent}");
        check("", &["/system.slice/docker-ab.scope", "/docker/ab"]);
        check("/docker", &["/docker/ab"]);
        check("/apps/shop", &["/apps/shop/ab"]);
        check("apps.slice", &["/apps.slice/docker-ab.scope", "/apps.slice/ab"]);
        check(
            "apps-shop-web.slice",
            &["/apps.slice/apps-shop.slice/apps-shop-web.slice/docker-ab.scope", "/apps-shop-web.slice/ab"],
        );
        check("-.slice", &["/docker-ab.scope", "/-.slice/ab"]);
    }

    fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        for (path, content) in files {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, content).unwrap();
        }
        let at = |name: &str| folder.path().join(name);
        let roots = Roots { procfs: at("proc"), sysfs: at("sys"), rootfs: at(""), udev_data: at("udev") };
        (folder, roots)
    }

    fn locate(files: &[(&str, &str)], parent: &str) -> Option<String> {
        let (_folder, roots) = tree(files);
        let mut reader = Reader::default();
        let hierarchy = Hierarchy::find(&roots, &mut reader).unwrap();
        let place = hierarchy.locate(Wanted { id: "ab", pid: 7, parent }, &roots, &mut reader)?;
        assert!(place.exceptions.is_empty());
        Some(place.path)
    }

    const V2: (&str, &str) = ("sys/fs/cgroup/cgroup.controllers", "cpu io memory pids\n");

    #[test]
    fn version_2_by_template_then_by_the_kernels_word() {
        let check = |parent, files: &[(&str, &str)], expected: Option<&str>| {
            let files: Vec<_> = [V2].into_iter().chain(files.iter().copied()).collect();
            assert_eq!(locate(&files, parent).as_deref(), expected, "{files:?}");
        };
        check("", &[("sys/fs/cgroup/docker/ab/cgroup.procs", "")], Some("/docker/ab"));
        check(
            "",
            &[("sys/fs/cgroup/system.slice/docker-ab.scope/cgroup.procs", "")],
            Some("/system.slice/docker-ab.scope"),
        );
        check("/apps", &[("sys/fs/cgroup/apps/ab/cgroup.procs", "")], Some("/apps/ab"));
        let elsewhere = "sys/fs/cgroup/user.slice/docker-ab.scope/cgroup.procs";
        check(
            "",
            &[(elsewhere, ""), ("proc/7/cgroup", "0::/user.slice/docker-ab.scope\n")],
            Some("/user.slice/docker-ab.scope"),
        );
        // From a cgroup namespace of our own.
        check(
            "",
            &[(elsewhere, ""), ("proc/7/cgroup", "0::/../docker-ab.scope\n")],
            Some("/user.slice/docker-ab.scope"),
        );
        check(
            "",
            &[(elsewhere, ""), ("proc/7/cgroup", "0::/../../user.slice/docker-ab.scope\n")],
            Some("/user.slice/docker-ab.scope"),
        );
        check("", &[(elsewhere, ""), ("proc/7/cgroup", "0::/../../gone\n")], None);
        check("", &[("sys/fs/cgroup/cgroup.procs", ""), ("proc/7/cgroup", "0::/\n")], None);
        check("", &[("sys/fs/cgroup/cgroup.procs", ""), ("proc/7/cgroup", "0::/../..\n")], None);
        check("", &[], None);
    }

    #[test]
    fn version_1_by_template_then_by_the_kernels_word() {
        let memory = ("sys/fs/cgroup/memory/cgroup.procs", "");
        assert_eq!(
            locate(&[memory, ("sys/fs/cgroup/memory/docker/ab/cgroup.procs", "")], "").as_deref(),
            Some("/docker/ab")
        );
        let (_folder, roots) = tree(&[
            memory,
            ("sys/fs/cgroup/cpu,cpuacct/cgroup.procs", ""),
            ("sys/fs/cgroup/memory/x/ab/cgroup.procs", ""),
            ("proc/7/cgroup", "9:name=systemd:/s\n4:memory:/x/ab\n3:cpu,cpuacct:/y:z/ab\n0::/\n"),
        ]);
        let mut reader = Reader::default();
        let hierarchy = Hierarchy::find(&roots, &mut reader).unwrap();
        let place = hierarchy.locate(Wanted { id: "ab", pid: 7, parent: "" }, &roots, &mut reader).unwrap();
        assert_eq!(place.path, "/x/ab");
        assert_eq!(place.exceptions.get("cpuacct").map(String::as_str), Some("/y:z/ab"));
    }

    #[test]
    fn no_cgroups_no_hierarchy() {
        let (_folder, roots) = tree(&[("sys/fs/cgroup/x", "")]);
        assert_eq!(Hierarchy::find(&roots, &mut Reader::default()), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), id in any::<String>(), parent in any::<String>()) {
            templates(&id, &parent);
            slice_path(&text);
            keyed(&text, "anon");
            count_lines(&text);
            v2::path(&text);
            device(&mut Vec::new(), &text);
        }
    }
}
