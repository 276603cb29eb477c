//! `filesystem`: size and free space of each mounted file system of the host.
//!
//! The mounts are those of the host's first process; each is asked by statfs below the root prefix, on a thread that may
//! hang in place of the scrape. A mount that can't be told apart from what covers it here (the exporter's container hides
//! the host's /run, and sees nothing that was mounted after it started without propagation) is reported as an error, never
//! with the figures of another file system.
//!
//! A host with a hundred containers has hundreds of mounts, of which a handful is taken, and the kernel takes a
//! millisecond to list them. So the list is kept, and read again when the kernel says that it has changed (poll(2) on
//! mountinfo), and once a minute: a file system that was switched to read-only after an error is no change to it.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{Access, CollectError, Roots};
use crate::exposition::{Exposition, Labels, Value};
use crate::family::{Family, Kind};
use crate::guard::{Guard, Limits, Refused};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filesystems {
    /// Those that are asked for.
    pub list: Vec<Filesystem>,
    /// Of the file system at `/`, whichever type it has: an overlay is no file system to measure, but may be the root.
    /// `None`: no such mount.
    pub root_is_read_only: Option<bool>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Filesystem {
    pub mount: Mount,
    /// An error is the text of the label `device_error`.
    pub usage: Result<Usage, String>,
}

/// One line of mountinfo (proc_pid_mountinfo(5)).
#[derive(Clone, Debug, PartialEq)]
pub struct Mount {
    pub device: String,
    /// As the host sees it; may hold any byte but NUL.
    pub point: PathBuf,
    pub fs_type: String,
    pub major: u32,
    pub minor: u32,
    /// All of the file system, not a folder of it as in a bind mount or a subvolume.
    pub is_whole: bool,
    /// The same file system is told of at another point.
    pub is_repeated: bool,
    /// The mount or the whole file system, as when the kernel stops writing after errors. What statfs says of it is of the
    /// exporter's own view of the host, which is read-only on purpose.
    pub read_only: bool,
}

/// Bytes and counts of inodes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usage {
    pub size: u64,
    pub free: u64,
    /// Free for users other than root.
    pub available: u64,
    pub files: u64,
    pub files_free: u64,
}

/// What the system calls said of a path.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    pub usage: Usage,
    /// Of the file system that the path really leads to.
    pub major: u32,
    pub minor: u32,
}

/// How a path is asked; a function of its own so that fixtures can answer in its place.
pub type Ask = fn(&PathBuf) -> io::Result<Answer>;

/// New hanging mounts in one scrape may take this long together; a whole collector must be done in two and a half
/// seconds.
const BUDGET: Duration = Duration::from_secs(2);

pub type Found = Filesystems;

/// The thread that asks mounts, with which of them hang, and the mounts.
#[derive(Debug, Default)]
pub struct Kept {
    guard: Option<Guard<(), PathBuf, io::Result<Answer>>>,
    mounts: Mounts,
}

/// The mounts that are taken, as the list had them last.
#[derive(Debug, Default)]
struct Mounts {
    list: Option<File>,
    read_at: Option<Timestamp>,
    mounts: Vec<Mount>,
    root_is_read_only: Option<bool>,
    /// Where each of them is, seen from here.
    paths: Vec<PathBuf>,
}

/// How long the list may be kept when the kernel tells no change.
const LIST_LASTS: SignedDuration = SignedDuration::from_secs(60);

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let (settings, ask) = (access.settings, access.calls.statfs);
    kept.mounts.refresh(access)?;
    let Mounts { mounts, paths, root_is_read_only, .. } = &kept.mounts;
    let guard =
        kept.guard.get_or_insert_with(|| Guard::new("statfs", move |(): &(), path: &PathBuf, _: &mut _| ask(path)));
    let answers = guard.read(paths, &(), Limits { each: settings.mount_timeout, all: BUDGET });
    let filesystem = |(mount, answer): (&Mount, _)| Filesystem { usage: usage(mount, answer), mount: mount.clone() };
    let list = mounts.iter().zip(answers).map(filesystem).collect();
    Ok(Filesystems { list, root_is_read_only: *root_is_read_only })
}

impl Mounts {
    fn refresh(&mut self, access: &mut Access<'_>) -> Result<(), CollectError> {
        let Access { roots, reader, settings, now, .. } = access;
        let path = roots.proc("1/mountinfo");
        let fault = |source| CollectError::Read { path: path.clone(), source };
        let is_fresh = self.read_at.is_some_and(|at| now.duration_since(at).abs() < LIST_LASTS);
        // Asked before the list is read, so that a change in between is told the next time.
        if self.is_unchanged(roots).map_err(fault)? && is_fresh {
            return Ok(());
        }
        let mounts = visible(parse(reader.bytes(&path).map_err(fault)?));
        if mounts.is_empty() {
            return Err(CollectError::malformed(&path, "no mount found"));
        }
        self.root_is_read_only =
            mounts.iter().find(|mount| mount.point.as_os_str() == "/").map(|mount| mount.read_only);
        let is_taken = |mount: &Mount| {
            settings.filesystem_types.takes(&mount.fs_type)
                && settings.filesystem_mount_points.takes(&mount.point.to_string_lossy())
        };
        self.mounts = mounts.into_iter().filter(is_taken).collect();
        mark_repeated(&mut self.mounts);
        self.paths = self.mounts.iter().map(|mount| below(&roots.rootfs, &mount.point)).collect();
        self.read_at = Some(*now);
        Ok(())
    }

    /// Whether the kernel says that the list is as it was when this was asked before.
    fn is_unchanged(&mut self, roots: &Roots) -> io::Result<bool> {
        let Some(list) = &self.list else {
            self.list = Some(File::open(roots.proc("1/mountinfo"))?);
            return Ok(false);
        };
        // An ordinary file tells no changes, and knows its size where those of /proc don't.
        if list.metadata()?.len() > 0 {
            return Ok(false);
        }
        let mut asked = [PollFd::from_borrowed_fd(list.as_fd(), PollFlags::PRI)];
        poll(&mut asked, Some(&Timespec { tv_sec: 0, tv_nsec: 0 }))?;
        Ok(!asked[0].revents().intersects(PollFlags::PRI | PollFlags::ERR))
    }
}

/// Of the mounts of one file system one is not repeated: one that can be written, `/`, all of it rather than a folder, or the one that was
/// mounted first; in this order.
fn mark_repeated(mounts: &mut [Mount]) {
    let rank = |mount: &Mount| (mount.read_only, mount.point.as_os_str() != "/", !mount.is_whole);
    let mut best: HashMap<(u32, u32), usize> = HashMap::with_capacity(mounts.len());
    for (at, mount) in mounts.iter().enumerate() {
        let kept = best.entry((mount.major, mount.minor)).or_insert(at);
        if mounts.get(*kept).is_some_and(|before| rank(mount) < rank(before)) {
            *kept = at;
        }
    }
    for (at, mount) in mounts.iter_mut().enumerate() {
        mount.is_repeated = best.get(&(mount.major, mount.minor)) != Some(&at);
    }
}

/// Where a path of the host is, seen from here.
fn below(rootfs: &Path, point: &Path) -> PathBuf {
    rootfs.join(point.strip_prefix("/").unwrap_or(point))
}

fn usage(mount: &Mount, answer: Result<io::Result<Answer>, Refused>) -> Result<Usage, String> {
    match answer {
        Ok(Ok(answer)) if is_another(mount, &answer) => Err("not visible to the exporter".to_owned()),
        Ok(Ok(answer)) => Ok(answer.usage),
        Ok(Err(error)) => Err(reason(&error)),
        // node_exporter's words for both.
        Err(Refused::TimedOut | Refused::Stuck) => Err("mountpoint timeout".to_owned()),
        Err(other) => Err(other.to_string()),
    }
}

/// The error's words without the number that Rust adds: `permission denied`.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    let text = text.split(" (os error").next().unwrap_or_default();
    text.to_lowercase()
}

/// Whether the path leads to another file system than the mount's. Where a file system gives its parts device numbers
/// of their own nothing can be said.
fn is_another(mount: &Mount, answer: &Answer) -> bool {
    !matches!(mount.fs_type.as_str(), "btrfs" | "bcachefs" | "overlay")
        && (mount.major, mount.minor) != (answer.major, answer.minor)
}

/// Asks the kernel. May hang for as long as the file system's server does not answer.
pub fn statfs(path: &PathBuf) -> io::Result<Answer> {
    let space = rustix::fs::statvfs(path)?;
    let file = rustix::fs::stat(path)?;
    // f_frsize is what the counts are in; on Linux it equals statfs's f_bsize for nearly all file systems, and is the
    // right one where it does not.
    let bytes = |blocks: u64| blocks.saturating_mul(space.f_frsize);
    Ok(Answer {
        usage: Usage {
            size: bytes(space.f_blocks),
            free: bytes(space.f_bfree),
            available: bytes(space.f_bavail),
            files: space.f_files,
            files_free: space.f_ffree,
        },
        major: rustix::fs::major(file.st_dev),
        minor: rustix::fs::minor(file.st_dev),
    })
}

/// Lines that are not understood are left out.
fn parse(bytes: &[u8]) -> Vec<Mount> {
    bytes.split(|&byte| byte == b'\n').filter_map(parse_line).collect()
}

fn parse_line(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|&byte| byte == b' ');
    let device_number = std::str::from_utf8(fields.nth(2)?).ok()?;
    let (major, minor) = device_number.split_once(':')?;
    let is_whole = fields.next()? == b"/";
    let point = unescape(fields.next()?);
    let options = fields.next()?;
    // Any number of optional fields ends with a dash.
    fields.find(|field| *field == b"-")?;
    let fs_type = String::from_utf8_lossy(fields.next()?).into_owned();
    let device = String::from_utf8_lossy(&unescape(fields.next()?)).into_owned();
    let file_system_options = fields.next().unwrap_or_default();
    let is_read_only = |options: &[u8]| options.split(|&byte| byte == b',').any(|option| option == b"ro");
    Some(Mount {
        device,
        point: PathBuf::from(OsString::from_vec(point)),
        fs_type,
        major: major.parse().ok()?,
        minor: minor.parse().ok()?,
        is_whole,
        is_repeated: false,
        read_only: is_read_only(options) || is_read_only(file_system_options),
    })
}

/// The kernel writes space, tab, line feed and backslash as `\` and three octal digits.
fn unescape(field: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((&byte, after)) = rest.split_first() {
        if byte == b'\\'
            && let Some((digits @ [b'0'..=b'3', b'0'..=b'7', b'0'..=b'7'], after)) = after.split_first_chunk::<3>()
        {
            out.push((digits[0] - b'0') << 6 | (digits[1] - b'0') << 3 | (digits[2] - b'0'));
            rest = after;
        } else {
            out.push(byte);
            rest = after;
        }
    }
    out
}

/// Of several mounts on one point only the last can be seen; and node_exporter reports a mount once.
fn visible(mut mounts: Vec<Mount>) -> Vec<Mount> {
    let mut points = HashSet::with_capacity(mounts.len());
    mounts.reverse();
    // As bytes: comparing paths part by part is slow, and a host with a hundred containers has hundreds of mounts.
    mounts.retain(|mount| points.insert(mount.point.as_os_str().to_owned()));
    mounts.reverse();
    mounts
}

const LABELS: &[&str] = &["device", "device_error", "fstype", "mountpoint"];
const SOURCE: &str = "/proc/1/mountinfo, statfs(2)";

const AVAILABLE: Family =
    gauge("node_filesystem_avail_bytes", "Filesystem space available to non-root users in bytes.");
const DEVICE_ERROR: Family = Family {
    source: "/proc/1/mountinfo, statfs(2); device_error says why: `mountpoint timeout` for one that hangs",
    ..gauge("node_filesystem_device_error", "Whether an error occurred while getting statistics for the given device.")
};
const FILES: Family = gauge("node_filesystem_files", "Filesystem total file nodes.");
const FILES_FREE: Family = gauge("node_filesystem_files_free", "Filesystem total free file nodes.");
const FREE: Family = gauge("node_filesystem_free_bytes", "Filesystem free space in bytes.");
const READ_ONLY: Family = Family {
    source: "/proc/1/mountinfo: `ro` among the options of the mount or of the file system",
    ..gauge("node_filesystem_readonly", "Filesystem read-only status.")
};
const SIZE: Family = gauge("node_filesystem_size_bytes", "Filesystem size in bytes.");
const MOUNT_INFO: Family = Family {
    labels: &["device", "major", "minor", "mountpoint"],
    source: "/proc/1/mountinfo; absent for a mount with an error",
    ..gauge("node_filesystem_mount_info", "Always 1, with the number of the device that is mounted.")
};
const REPEATED: Family = Family {
    name: "nexus_filesystem_repeated",
    kind: Kind::Gauge,
    help: "1 for a mount point of a file system that is told of at another one, as of a bind mount; absent for all others.",
    labels: &["device", "fstype", "mountpoint"],
    source: "/proc/1/mountinfo: of several mounts with one device number, all but one that can be written, `/`, all of it, the first",
};
const ROOT_READ_ONLY: Family = Family {
    name: "nexus_root_filesystem_readonly",
    kind: Kind::Gauge,
    help: "Whether the root file system is read-only, as after errors, whichever type it has and whether it answers or not.",
    labels: &[],
    source: "/proc/1/mountinfo, the mount at /",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] =
    &[AVAILABLE, DEVICE_ERROR, FILES, FILES_FREE, FREE, READ_ONLY, SIZE, MOUNT_INFO, REPEATED, ROOT_READ_ONLY];

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: LABELS, source: SOURCE }
}

pub fn write(filesystems: &Filesystems, out: &mut Exposition) {
    let labelled: Vec<(Labels, &Filesystem)> = filesystems
        .list
        .iter()
        .map(|filesystem| {
            let Mount { device, point, fs_type, .. } = &filesystem.mount;
            let labels = [
                ("device", device.as_str()),
                ("device_error", filesystem.usage.as_ref().err().map_or("", String::as_str)),
                ("fstype", fs_type),
                ("mountpoint", &point.to_string_lossy()),
            ];
            (Labels::new(&labels), filesystem)
        })
        .collect();
    let mut write = |family: &Family, value: fn(&Usage) -> Value| {
        let mut family = out.family(family);
        for (labels, filesystem) in &labelled {
            if let Ok(usage) = &filesystem.usage {
                family.sample_of(labels, &[], value(usage));
            }
        }
    };
    write(&AVAILABLE, |usage| usage.available.into());
    write(&FILES, |usage| usage.files.into());
    write(&FILES_FREE, |usage| usage.files_free.into());
    write(&FREE, |usage| usage.free.into());
    write(&SIZE, |usage| usage.size.into());
    let mut family = out.family(&DEVICE_ERROR);
    for (labels, filesystem) in &labelled {
        family.sample_of(labels, &[], filesystem.usage.is_err());
    }
    let mut family = out.family(&READ_ONLY);
    for (labels, filesystem) in labelled.iter().filter(|(_, filesystem)| filesystem.usage.is_ok()) {
        family.sample_of(labels, &[], filesystem.mount.read_only);
    }
    let mut family = out.family(&MOUNT_INFO);
    for Filesystem { mount, usage } in &filesystems.list {
        if usage.is_ok() {
            let (major, minor) = (mount.major.to_string(), mount.minor.to_string());
            let point = mount.point.to_string_lossy();
            let labels =
                [("device", mount.device.as_str()), ("major", &major), ("minor", &minor), ("mountpoint", &point)];
            family.sample(&labels, true);
        }
    }
    let mut family = out.family(&REPEATED);
    for mount in filesystems.list.iter().map(|filesystem| &filesystem.mount).filter(|mount| mount.is_repeated) {
        let point = mount.point.to_string_lossy();
        family.sample(&[("device", mount.device.as_str()), ("fstype", &mount.fs_type), ("mountpoint", &point)], true);
    }
    if let Some(is_read_only) = filesystems.root_is_read_only {
        out.family(&ROOT_READ_ONLY).single(is_read_only);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::ffi::OsStrExt as _;
    use std::sync::Arc;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::collect::{Calls, Reader, Roots};
    use crate::settings::Settings;

    const MOUNTINFO: &[u8] = b"27 1 179:2 / / rw,noatime shared:1 - ext4 /dev/root rw\n\
        28 27 179:1 / /boot/firmware rw shared:2 master:3 - vfat /dev/mmcblk0p1 rw\n\
        29 27 0:21 / /proc rw - proc proc rw\n\
        30 27 8:1 / /mnt/my\\040disk ro - ext4 /dev/sda1 rw\n\
        35 27 8:3 / /failing rw - ext4 /dev/sda3 ro,errors=remount-ro\n\
        31 27 0:40 / /mnt/\xff rw - nfs4 nas:/x rw\n\
        32 27 0:44 / /mnt/\xff rw - tmpfs tmpfs rw\n\
        33 27 nonsense / /x rw - ext4 /dev/sdb1 rw\n\
        34 27 8:2 / /y rw ext4 without a dash\n";

    #[test]
    fn mountinfo_with_optional_fields_and_escapes() {
        let mounts = visible(parse(MOUNTINFO));
        let points: Vec<_> = mounts.iter().map(|mount| mount.point.as_os_str().as_bytes()).collect();
        assert_eq!(points, [b"/".as_slice(), b"/boot/firmware", b"/proc", b"/mnt/my disk", b"/failing", b"/mnt/\xff"]);
        assert_eq!((mounts[1].fs_type.as_str(), mounts[1].device.as_str()), ("vfat", "/dev/mmcblk0p1"));
        assert_eq!((mounts[0].major, mounts[0].minor), (179, 2));
        assert_eq!(
            mounts.iter().map(|mount| mount.read_only).collect::<Vec<_>>(),
            [false, false, false, true, true, false]
        );
        assert_eq!(mounts[5].fs_type, "tmpfs");
    }

    #[test]
    fn of_the_mounts_of_one_file_system_one_is_not_repeated() {
        let check = |lines: &[&str], expected: &[&str]| {
            let mut mounts = visible(parse(lines.join("\n").as_bytes()));
            mark_repeated(&mut mounts);
            let told = mounts.iter().filter(|mount| !mount.is_repeated).filter_map(|mount| mount.point.to_str());
            assert_eq!(told.collect::<Vec<_>>(), expected, "{lines:?}");
        };
        let line = |number: &str, root: &str, point: &str, options: &str| {
            format!("1 0 {number} {root} {point} {options} - ext4 /dev/sda1 rw")
        };
        let (disk, folder) = (line("8:1", "/", "/srv/disk", "rw"), line("8:1", "/films", "/export/films", "rw"));
        check(&[&disk, &folder], &["/srv/disk"]);
        // A folder may be bound before the disk is there as a whole, as by Docker or systemd.
        check(&[&folder, &disk], &["/srv/disk"]);
        check(&[&disk, &line("8:1", "/", "/again", "rw")], &["/srv/disk"]);
        check(&[&line("8:1", "/", "/copy", "ro"), &folder], &["/export/films"]);
        // Subvolumes of a btrfs: none is all of it.
        check(&[&line("0:30", "/@home", "/home", "rw"), &line("0:30", "/@", "/", "rw")], &["/"]);
        check(&[&disk, &line("8:2", "/", "/other", "rw")], &["/srv/disk", "/other"]);
    }

    fn host(mountinfo: &[u8]) -> (tempfile::TempDir, Roots) {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir_all(folder.path().join("proc/1")).unwrap();
        std::fs::write(folder.path().join("proc/1/mountinfo"), mountinfo).unwrap();
        let roots = Roots {
            procfs: folder.path().join("proc"),
            sysfs: folder.path().join("sys"),
            rootfs: "/host".into(),
            udev_data: folder.path().join("udev"),
        };
        (folder, roots)
    }

    fn read_with(roots: &Roots, ask: Ask, mount_timeout: Duration, kept: &mut Kept) -> Found {
        let settings = Settings { mount_timeout, ..Settings::defaults() };
        let (docker, mut reader) = (Arc::default(), Reader::default());
        let calls = Calls { statfs: ask, ..Calls::REAL };
        let now = Timestamp::UNIX_EPOCH;
        let mut access = Access { roots, settings: &settings, calls, docker: &docker, now, reader: &mut reader };
        read(&mut access, kept).unwrap()
    }

    const USAGE: Usage = Usage { size: 100, free: 50, available: 40, files: 10, files_free: 5 };

    fn errors(filesystems: &[Filesystem]) -> Vec<(&str, &str)> {
        filesystems.iter().filter_map(|f| Some((f.mount.point.to_str()?, f.usage.as_ref().err()?.as_str()))).collect()
    }

    #[test]
    fn a_hanging_mount_costs_only_itself() {
        let (_folder, roots) = host(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /mnt/nas rw - nfs4 nas:/x rw\n3 1 8:2 / /srv rw - ext4 /dev/sda2 rw\n",
        );
        let ask: Ask = |path| match path.to_str() {
            Some("/host/mnt/nas") => loop {
                std::thread::park();
            },
            Some("/host/") => Ok(Answer { usage: USAGE, major: 8, minor: 1 }),
            Some("/host/srv") => Ok(Answer { usage: USAGE, major: 8, minor: 2 }),
            other => panic!("asked for {other:?}"),
        };
        let mut kept = Kept::default();
        for _ in 0..3 {
            let filesystems = read_with(&roots, ask, Duration::from_millis(500), &mut kept);
            assert_eq!(errors(&filesystems.list), [("/mnt/nas", "mountpoint timeout")]);
        }
    }

    #[test]
    fn a_mount_that_another_covers_is_an_error_and_no_figure() {
        let (_folder, roots) = host(
            b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 0:40 / /run rw - tmpfs tmpfs rw\n3 1 0:41 / /pool rw - btrfs /dev/sdb rw\n4 1 8:3 / /gone ro - ext4 /dev/sdc rw\n",
        );
        let ask: Ask = |path| match path.to_str() {
            Some("/host/gone") => Err(io::Error::from_raw_os_error(2)),
            _ => Ok(Answer { usage: USAGE, major: 8, minor: 1 }),
        };
        let filesystems = read_with(&roots, ask, Duration::from_secs(10), &mut Kept::default());
        assert_eq!(
            errors(&filesystems.list),
            [("/run", "not visible to the exporter"), ("/gone", "no such file or directory")]
        );
        assert_eq!(filesystems.root_is_read_only, Some(false));
    }

    #[test]
    fn the_root_counts_also_when_its_type_is_left_out() {
        let check = |mountinfo: &[u8], expected: Option<bool>| {
            let (_folder, roots) = host(mountinfo);
            let ask: Ask = |path| panic!("asked for {path:?}");
            let found = read_with(&roots, ask, Duration::from_secs(10), &mut Kept::default());
            assert_eq!((found.list.len(), found.root_is_read_only), (0, expected));
        };
        check(b"1 0 0:30 / / ro - overlay overlay rw\n", Some(true));
        check(b"1 0 0:30 / / rw - overlay overlay rw\n", Some(false));
        check(b"1 0 0:22 / /proc ro - proc proc rw\n", None);
    }

    fn kept_mounts(roots: &Roots, seconds: i64, mounts: &mut Mounts) -> usize {
        let (settings, docker, mut reader) = (Settings::defaults(), Arc::default(), Reader::default());
        let now = Timestamp::from_second(seconds).unwrap();
        let (calls, reader) = (Calls::REAL, &mut reader);
        mounts.refresh(&mut Access { roots, settings: &settings, calls, docker: &docker, now, reader }).unwrap();
        mounts.mounts.len()
    }

    #[test]
    fn an_ordinary_file_is_read_each_time() {
        let (folder, roots) = host(b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n");
        let mut mounts = Mounts::default();
        assert_eq!(kept_mounts(&roots, 0, &mut mounts), 1);
        let more = b"1 0 8:1 / / rw - ext4 /dev/sda1 rw\n2 1 8:2 / /srv rw - ext4 /dev/sda2 rw\n";
        std::fs::write(folder.path().join("proc/1/mountinfo"), more).unwrap();
        assert_eq!(kept_mounts(&roots, 0, &mut mounts), 2);
    }

    #[test]
    fn the_kernels_list_is_kept_until_it_is_old() {
        let roots = Roots { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into(), udev_data: "/".into() };
        let mut mounts = Mounts::default();
        kept_mounts(&roots, 0, &mut mounts);
        let read_at = |mounts: &Mounts| mounts.read_at.unwrap().as_second();
        let old = LIST_LASTS.as_secs();
        for (second, expected) in [(old, old), (0, 0), (2 * old, 2 * old)] {
            kept_mounts(&roots, second, &mut mounts);
            assert_eq!(read_at(&mounts), expected);
        }
        // Unless somebody mounts something meanwhile, which other tests of this machine may do: then it is read again.
        let kept = (0..100).filter(|_| {
            kept_mounts(&roots, 2 * old, &mut mounts);
            kept_mounts(&roots, 2 * old + 1, &mut mounts);
            read_at(&mounts) == 2 * old
        });
        assert!(kept.count() > 0);
    }

    #[test]
    fn the_kernel_is_asked() {
        let answer = statfs(&PathBuf::from("/")).unwrap();
        assert!(answer.usage.size > 0 && answer.usage.free <= answer.usage.size);
        assert!(statfs(&PathBuf::from("/nonexistent")).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(bytes in any::<Vec<u8>>(), line in "[0-9: /a-z\\\\-]{0,60}") {
            visible(parse(&[bytes.as_slice(), b"\n", line.as_bytes()].concat()));
        }

        #[test]
        fn escaped_paths_read_back(path in proptest::collection::vec(1u8..=255, 0..40)) {
            let mut escaped = Vec::new();
            for &byte in &path {
                if matches!(byte, b' ' | b'\t' | b'\n' | b'\\') {
                    escaped.extend_from_slice(format!("\\{byte:03o}").as_bytes());
                } else {
                    escaped.push(byte);
                }
            }
            prop_assert_eq!(unescape(&escaped), path);
        }
    }
}
