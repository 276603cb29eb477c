//! What a container uses, from the files of its control group; no call to the daemon.
//!
//! A container's group is found by the templates of Docker's two cgroup drivers, then by what the kernel says of the
//! container's first process. Its files stay open as long as the run lasts, so that a scrape costs one read a file.

pub mod v1;
pub mod v2;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use crate::collect::pressure::{self, Pressure, Stall};
use crate::collect::{KeptFile, Reader, Roots};
use crate::parse;

/// What one container uses. `None`: the kernel does not say (controller off, file missing, group gone), never zero.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Usage {
    pub work: Work,
    /// Empty for a container that did no I/O, or where the controller is off.
    pub io: Vec<DeviceIo>,
    /// Version 2, and the version 2 that a hybrid host has beside version 1.
    pub pressure: Pressure,
}

/// What stays as it is as long as the container does nothing and the kernel takes no memory from it: most containers
/// do nothing most of the time. I/O goes on without them, when the kernel writes back what they wrote.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Work {
    pub cpu: Cpu,
    pub memory: Memory,
    /// `None` on v1 when the exporter is in another PID namespace: the kernel then hides the processes.
    pub processes: Option<u64>,
    /// Processes and threads, as counted against the limit.
    pub threads: Option<u64>,
}

/// Nanoseconds and counts.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Cpu {
    pub total: Option<u64>,
    pub user: Option<u64>,
    pub system: Option<u64>,
    /// `None` for a container without a quota.
    pub throttling: Option<Throttling>,
}

/// What came of the CPU quota.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Throttling {
    pub periods: u64,
    pub throttled_periods: u64,
    /// Nanoseconds.
    pub throttled: u64,
}

/// Bytes, where nothing else is said.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Memory {
    pub usage: Option<u64>,
    /// The most since the group was made.
    pub max_usage: Option<u64>,
    /// Without the part of the page cache that was not used lately.
    pub working_set: Option<u64>,
    pub rss: Option<u64>,
    pub cache: Option<u64>,
    pub mapped_file: Option<u64>,
    /// `None` where the kernel does not count swap by group.
    pub swap: Option<u64>,
    /// How often the limit was in the way.
    pub limit_hits: Option<u64>,
    pub page_faults: Faults,
    pub major_page_faults: Faults,
    /// Processes of this group that the kernel killed for memory, since the group was made.
    pub oom_kills: Option<u64>,
}

/// What was read of a group before.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prior {
    pub work: Work,
    pub pressure: Pressure,
    /// The pressure did not grow in a time in which the group did nothing: none of its tasks was waiting for anything. One
    /// must run to begin to wait for I/O or memory, and one that is woken and then left waiting for a CPU shows once it has
    /// got one.
    pub is_calm: bool,
}

impl Prior {
    /// What is known after `usage` has been read with what was known before.
    pub fn after(before: Option<&Prior>, usage: &Usage) -> Prior {
        let is_calm = before.is_some_and(|it| (&it.work, &it.pressure) == (&usage.work, &usage.pressure));
        Prior { work: usage.work, pressure: usage.pressure, is_calm }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Faults {
    /// Of the group itself. Version 2 only knows the sum, which stands for both, as it does in cAdvisor.
    pub own: Option<u64>,
    pub with_groups_below: Option<u64>,
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
    /// Also the hybrid: controllers in version 1, a version 2 beside them that only has pressure.
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
    /// Version 1 only: controllers for which /proc/PID/cgroup gave another path; the empty name stands for version 2.
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

    /// Version 2 limits swap apart from memory, version 1 both together.
    pub fn limits_swap_alone(&self) -> bool {
        matches!(self, Hierarchy::V2(_))
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
        let exists = |path: &str| below(probe, path).join("cgroup.procs").exists();
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

    /// The files of a group, none of them opened yet.
    pub fn files(&self, place: &Place, reader: &mut Reader) -> Files {
        match self {
            Hierarchy::V1(layout) => Files::V1(Box::new(layout.files(place, reader))),
            Hierarchy::V2(layout) => Files::V2(Box::new(layout.files(&place.path))),
        }
    }
}

/// The files of one group during one run of its container.
#[derive(Debug)]
pub enum Files {
    V1(Box<v1::Files>),
    V2(Box<v2::Files>),
}

impl Files {
    /// `prior` is what was read last, if that is not too long ago: it stands when the CPU time and the memory in use are
    /// what they were then, which spares most of the reads. `has_quota`: whether the CPU time is limited, so that
    /// throttling means something.
    pub fn usage(&mut self, prior: Option<&Prior>, has_quota: bool, reader: &mut Reader) -> Usage {
        match self {
            Files::V1(files) => files.usage(prior, has_quota, reader),
            Files::V2(files) => files.usage(prior, has_quota, reader),
        }
    }

    /// How many processes and threads it may have; 0: any number. Changes by `docker update` alone.
    pub fn threads_limit(&self, reader: &mut Reader) -> Option<u64> {
        let folder = match self {
            Files::V1(files) => files.pids_folder.as_deref()?,
            Files::V2(files) => &files.folder,
        };
        match reader.bytes(&folder.join("pids.max")).ok()? {
            b"max\n" => Some(0),
            text => parse::alone(text),
        }
    }
}

/// A file of a group, kept open. One that is not there at first (its controller is off, the kernel is older, what it
/// counts is switched off) will not come during the run, and is not looked for again.
#[derive(Debug)]
struct GroupFile {
    file: Option<KeptFile>,
    was_read: bool,
}

impl GroupFile {
    fn new(file: KeptFile) -> GroupFile {
        GroupFile { file: Some(file), was_read: false }
    }

    /// `None` where the folder's controller is off.
    fn of(folder: Option<&Path>, name: &str) -> GroupFile {
        GroupFile { file: folder.map(|folder| KeptFile::new(folder.join(name))), was_read: false }
    }

    fn bytes<'r>(&mut self, reader: &'r mut Reader) -> Option<&'r [u8]> {
        match self.file.as_mut()?.bytes(reader) {
            Ok(bytes) => {
                self.was_read = true;
                Some(bytes)
            }
            Err(error) => {
                if !self.was_read && pressure::is_switched_off(&error) {
                    self.file = None;
                }
                None
            }
        }
    }

    fn number(&mut self, reader: &mut Reader) -> Option<u64> {
        self.bytes(reader).and_then(parse::alone)
    }
}

/// cgroup.procs.
#[derive(Debug)]
struct ProcessList(GroupFile);

impl ProcessList {
    fn new(folder: &Path) -> ProcessList {
        ProcessList(GroupFile::new(KeptFile::of_short_lines(folder.join("cgroup.procs"))))
    }

    /// A container that runs has a process: in an empty list they are hidden, and will be in the next scrape.
    fn count(&mut self, reader: &mut Reader) -> Option<u64> {
        let count = count_lines(self.0.bytes(reader)?);
        if count.is_none() {
            self.0.file = None;
        }
        count
    }
}

#[derive(Debug)]
struct PressureFiles {
    cpu: GroupFile,
    io: GroupFile,
    memory: GroupFile,
}

impl PressureFiles {
    fn new(folder: Option<&Path>) -> PressureFiles {
        let file = |name| GroupFile::of(folder, name);
        PressureFiles { cpu: file("cpu.pressure"), io: file("io.pressure"), memory: file("memory.pressure") }
    }

    fn read(&mut self, reader: &mut Reader) -> Pressure {
        let mut stall = |file: &mut GroupFile| file.bytes(reader).map_or(Stall::default(), pressure::parse);
        Pressure {
            cpu: stall(&mut self.cpu),
            io: stall(&mut self.io),
            memory: stall(&mut self.memory),
            irq: Stall::default(),
        }
    }
}

fn below(root: &Path, path: &str) -> PathBuf {
    root.join(path.trim_start_matches('/'))
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

fn working_set(usage: Option<u64>, inactive_file: Option<u64>) -> Option<u64> {
    Some(usage?.saturating_sub(inactive_file?))
}

/// The number of lines, unless there is none.
fn count_lines(text: &[u8]) -> Option<u64> {
    let lines = parse::lines(text).filter(|line| !line.is_empty()).count() as u64;
    (lines > 0).then_some(lines)
}

/// The entry of a device `MAJOR:MINOR`, made where it is missing.
fn device<'d>(io: &'d mut Vec<DeviceIo>, number: &[u8]) -> Option<&'d mut DeviceIo> {
    let colon = number.iter().position(|&byte| byte == b':')?;
    let part = |digits| u32::try_from(parse::unsigned(digits)?).ok();
    let (major, minor) = (part(&number[..colon])?, part(&number[colon + 1..])?);
    let at = io.iter().position(|device| (device.major, device.minor) == (major, minor)).unwrap_or_else(|| {
        io.push(DeviceIo { major, minor, ..DeviceIo::default() });
        io.len() - 1
    });
    io.get_mut(at)
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
    fn a_group_that_goes_between_finding_and_reading_uses_nothing() {
        let group = "sys/fs/cgroup/docker/ab";
        let path = |name: &str| format!("{group}/{name}");
        let (folder, roots) = tree(&[
            V2,
            (&path("cgroup.procs"), "7\n"),
            (&path("cpu.stat"), "usage_usec 5\n"),
            (&path("pids.max"), "max\n"),
        ]);
        let mut reader = Reader::default();
        let hierarchy = Hierarchy::find(&roots, &mut reader).unwrap();
        let place = hierarchy.locate(Wanted { id: "ab", pid: 7, parent: "" }, &roots, &mut reader).unwrap();
        let mut there = hierarchy.files(&place, &mut reader);
        assert_eq!(there.usage(None, false, &mut reader).work.cpu.total, Some(5000));
        assert_eq!(there.threads_limit(&mut reader), Some(0));
        let mut gone = hierarchy.files(&place, &mut reader);
        std::fs::remove_dir_all(folder.path().join(group)).unwrap();
        assert_eq!(gone.usage(None, false, &mut reader), Usage::default());
        assert_eq!(gone.threads_limit(&mut reader), None);
    }

    #[test]
    fn a_hybrid_hosts_version_2_counts_where_the_container_is_in_it() {
        let file = |path: &'static str| (path, "some avg10=0.00 total=5\nfull avg10=0.00 total=1\n");
        let check = |events: &str, cgroup: &str, expected: Option<u64>| {
            let (_folder, roots) = tree(&[
                ("sys/fs/cgroup/memory/cgroup.procs", ""),
                ("sys/fs/cgroup/memory/x/ab/cgroup.procs", ""),
                ("sys/fs/cgroup/unified/cgroup.procs", ""),
                ("sys/fs/cgroup/unified/x/ab/cgroup.events", events),
                file("sys/fs/cgroup/unified/x/ab/cpu.pressure"),
                ("sys/fs/cgroup/unified/y/ab/cgroup.events", "populated 1\n"),
                file("sys/fs/cgroup/unified/y/ab/memory.pressure"),
                ("proc/7/cgroup", cgroup),
            ]);
            let mut reader = Reader::default();
            let hierarchy = Hierarchy::find(&roots, &mut reader).unwrap();
            let place = hierarchy.locate(Wanted { id: "ab", pid: 7, parent: "" }, &roots, &mut reader).unwrap();
            assert_eq!(place.path, "/x/ab");
            let pressure = hierarchy.files(&place, &mut reader).usage(None, false, &mut reader).pressure;
            assert_eq!(pressure.cpu.some.or(pressure.memory.some), expected, "{events} {cgroup}");
        };
        check("populated 1\nfrozen 0\n", "4:memory:/x/ab\n0::/x/ab\n", Some(5));
        check("populated 0\nfrozen 0\n", "4:memory:/x/ab\n0::/x/ab\n", None);
        check("populated 0\nfrozen 0\n", "4:memory:/x/ab\n0::/y/ab\n", Some(5));
    }

    #[test]
    fn what_is_known_of_an_idle_group_is_not_read_again() {
        let version_2 = [
            V2,
            ("sys/fs/cgroup/docker/ab/cgroup.procs", "7\n"),
            ("sys/fs/cgroup/docker/ab/cpu.stat", "usage_usec 5\nuser_usec 3\n"),
            ("sys/fs/cgroup/docker/ab/memory.current", "100\n"),
            ("sys/fs/cgroup/docker/ab/memory.stat", "anon 10\n"),
            ("sys/fs/cgroup/docker/ab/cpu.pressure", "some total=1\n"),
        ];
        let version_1 = [
            ("sys/fs/cgroup/memory/cgroup.procs", ""),
            ("sys/fs/cgroup/cpuacct/cgroup.procs", ""),
            ("sys/fs/cgroup/memory/docker/ab/cgroup.procs", "7\n"),
            ("sys/fs/cgroup/cpuacct/docker/ab/cpuacct.usage", "5000\n"),
            ("sys/fs/cgroup/memory/docker/ab/memory.usage_in_bytes", "100\n"),
            ("sys/fs/cgroup/memory/docker/ab/memory.stat", "rss 10\n"),
        ];
        for (files, stat, usage) in [
            (version_2.as_slice(), "memory.stat", "memory.current"),
            (version_1.as_slice(), "memory.stat", "memory.usage_in_bytes"),
        ] {
            let (folder, roots) = tree(files);
            let mut reader = Reader::default();
            let hierarchy = Hierarchy::find(&roots, &mut reader).unwrap();
            let place = hierarchy.locate(Wanted { id: "ab", pid: 7, parent: "" }, &roots, &mut reader).unwrap();
            let mut group = hierarchy.files(&place, &mut reader);
            let set = |name: &str, text: &str| {
                let (path, _) = files.iter().find(|(path, _)| path.ends_with(name)).unwrap();
                std::fs::write(folder.path().join(path), text).unwrap();
            };
            let first = group.usage(None, false, &mut reader);
            let known = Prior::after(None, &first);
            let first = first.work;
            assert_eq!((first.cpu.total, first.memory.rss, first.processes), (Some(5000), Some(10), Some(1)));
            set(stat, "anon 20\nrss 20\n");
            assert_eq!(group.usage(Some(&known), false, &mut reader).work, first);
            set(usage, "101\n");
            let second = group.usage(Some(&known), false, &mut reader).work;
            assert_eq!((second.memory.usage, second.memory.rss), (Some(101), Some(20)));
            assert_eq!(group.usage(None, false, &mut reader).work, second);
        }
    }

    #[test]
    fn pressure_is_read_as_long_as_somebody_may_be_waiting() {
        let group = "sys/fs/cgroup/docker/ab";
        let path = |name: &str| format!("{group}/{name}");
        let (cpu, pressure) = (path("cpu.stat"), path("io.pressure"));
        let (folder, roots) =
            tree(&[V2, (&path("cgroup.procs"), "7\n"), (&cpu, "usage_usec 5\n"), (&pressure, "some total=1\n")]);
        let mut reader = Reader::default();
        let hierarchy = Hierarchy::find(&roots, &mut reader).unwrap();
        let place = hierarchy.locate(Wanted { id: "ab", pid: 7, parent: "" }, &roots, &mut reader).unwrap();
        let mut files = hierarchy.files(&place, &mut reader);
        let mut known = None;
        let mut seen = |cpu_time: u64, pressed: u64| {
            std::fs::write(folder.path().join(&cpu), format!("usage_usec {cpu_time}\n")).unwrap();
            std::fs::write(folder.path().join(&pressure), format!("some total={pressed}\n")).unwrap();
            let usage = files.usage(known.as_ref(), false, &mut reader);
            known = Some(Prior::after(known.as_ref(), &usage));
            usage.pressure.io.some.unwrap()
        };
        // It waits for the disk without doing anything, to the end of the wait and one scrape beyond.
        assert_eq!([seen(5, 1), seen(5, 2), seen(5, 3), seen(5, 3)], [1, 2, 3, 3]);
        // Calm: no read shows this.
        assert_eq!(seen(5, 4), 3);
        // It does something.
        assert_eq!([seen(6, 5), seen(6, 6), seen(7, 7)], [5, 6, 7]);
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
            count_lines(text.as_bytes());
            v2::path(&text);
            device(&mut Vec::new(), text.as_bytes());
        }
    }
}
