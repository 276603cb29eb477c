//! The collectors: one file a source, all of it there: what is read, how it is parsed, the families and how they are
//! written. This file has what they share: their list, the roots they read under, errors.

pub mod arp;
pub mod conntrack;
pub mod container;
pub mod cpu;
pub mod cpufreq;
pub mod diskstats;
pub mod docker;
pub mod docker_disk;
pub mod entropy;
pub mod filefd;
pub mod filesystem;
pub mod hwmon;
pub mod loadavg;
pub mod machine;
pub mod meminfo;
pub mod netclass;
pub mod netdev;
pub mod netstat;
pub mod os;
pub mod powersupplyclass;
pub mod pressure;
pub mod processes;
pub mod rpi_board;
pub mod rpi_firmware;
pub mod schedstat;
pub mod sockstat;
pub mod softirqs;
pub mod softnet;
pub mod stat;
pub mod storage;
pub mod systemd;
pub mod textfile;
pub mod thermal_zone;
pub mod time;
pub mod timex;
pub mod udp_queues;
pub mod uname;
pub mod vmstat;
pub mod watchdog;

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::exposition::Exposition;
use crate::family::Family;
pub use crate::reader::{Folder, KeptFile, Reader};
use crate::settings::Settings;

/// Hands the list of collectors to a macro: variant, module, and whether it is on unless asked otherwise. The module's
/// name is the collector's, node_exporter's where it has one; the scrape has them in this order.
///
/// Each module has: `Found`, what a scrape finds; `Kept`, what it keeps from one scrape to the next (`()`: nothing);
/// `FAMILIES`; `ABSENCE`, what success 0 says where it may be no fault; `read` and `write`.
macro_rules! for_each_collector {
    ($apply:ident) => {
        $apply! {
            (Cpu, cpu, true)
            (Loadavg, loadavg, true)
            (Meminfo, meminfo, true)
            (Filesystem, filesystem, true)
            (Diskstats, diskstats, true)
            (Netdev, netdev, true)
            (Pressure, pressure, true)
            (ThermalZone, thermal_zone, true)
            (Stat, stat, true)
            (Arp, arp, true)
            (Conntrack, conntrack, true)
            (Entropy, entropy, true)
            (Filefd, filefd, true)
            (Netstat, netstat, true)
            (Schedstat, schedstat, true)
            (Sockstat, sockstat, true)
            (Softirqs, softirqs, false)
            (Softnet, softnet, true)
            (UdpQueues, udp_queues, true)
            (Vmstat, vmstat, true)
            (Uname, uname, true)
            (Time, time, true)
            (Os, os, true)
            (Textfile, textfile, true)
            (Timex, timex, true)
            (Watchdog, watchdog, true)
            (Processes, processes, false)
            (Systemd, systemd, false)
            (Cpufreq, cpufreq, true)
            (Hwmon, hwmon, true)
            (Netclass, netclass, true)
            (Powersupplyclass, powersupplyclass, true)
            (RpiBoard, rpi_board, true)
            (RpiFirmware, rpi_firmware, true)
            (Storage, storage, true)
            (Machine, machine, true)
            (Container, container, true)
            (Docker, docker, true)
            (DockerDisk, docker_disk, true)
        }
    };
}

macro_rules! declare_collectors {
    ($(($variant:ident, $module:ident, $on:literal))+) => {
        /// A source that can be asked for.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[repr(u8)]
        pub enum Collector {
            $($variant),+
        }

        /// What a collector found.
        #[derive(Debug)]
        pub enum Found {
            $($variant($module::Found)),+
        }

        /// What the collectors keep from one scrape to the next. Each is locked while its collector reads: one that hangs
        /// must not hold up the others.
        #[derive(Debug, Default)]
        pub struct Kept {
            $($module: Mutex<$module::Kept>),+
        }

        impl Collector {
            pub const ALL: &[Collector] = &[$(Collector::$variant),+];

            pub fn name(self) -> &'static str {
                match self {
                    $(Collector::$variant => stringify!($module)),+
                }
            }

            /// Whether it is on unless asked otherwise.
            pub fn is_on_by_default(self) -> bool {
                match self {
                    $(Collector::$variant => $on),+
                }
            }

            /// `--collector.NAME` and `--no-collector.NAME`.
            pub fn flags(self) -> (&'static str, &'static str) {
                match self {
                    $(Collector::$variant => {
                        (concat!("collector.", stringify!($module)), concat!("no-collector.", stringify!($module)))
                    }),+
                }
            }

            /// What success 0 says of this collector, for the documentation, where it may be no fault.
            pub fn absence(self) -> Option<&'static str> {
                match self {
                    $(Collector::$variant => $module::ABSENCE),+
                }
            }

            pub fn families(self) -> &'static [Family] {
                match self {
                    $(Collector::$variant => $module::FAMILIES),+
                }
            }

            pub fn read(self, access: &mut Access<'_>, kept: &Kept) -> Result<Found, CollectError> {
                match self {
                    $(Collector::$variant => {
                        // After a panic what was kept is as good as the next reading will make it.
                        let mut kept = kept.$module.lock().unwrap_or_else(PoisonError::into_inner);
                        $module::read(access, &mut kept).map(Found::$variant)
                    }),+
                }
            }
        }

        impl Found {
            pub fn write(&self, out: &mut Exposition) {
                match self {
                    $(Found::$variant(found) => $module::write(found, out)),+
                }
            }
        }
    };
}
for_each_collector!(declare_collectors);

impl Collector {
    /// Whether it is about Docker and needs what is known of it. Others are node_exporter's, or of a Raspberry Pi.
    pub fn is_about_docker(self) -> bool {
        matches!(self, Collector::Container | Collector::Docker | Collector::DockerDisk | Collector::Machine)
    }
}

impl Found {
    /// Why this is not all that there is to find, if so.
    pub fn fault(&self) -> Option<String> {
        match self {
            Found::Container(containers) => containers.fault(),
            Found::RpiFirmware(firmware) => firmware.fault(),
            Found::DockerDisk(disk) => disk.fault(),
            _ => None,
        }
    }
}

/// What a collector reads with.
#[derive(Debug)]
pub struct Access<'a> {
    pub roots: &'a Roots,
    pub settings: &'a Settings,
    pub calls: Calls,
    pub docker: &'a DockerState,
    /// When the scrape began.
    pub now: Timestamp,
    pub reader: &'a mut Reader,
}

/// What is known of Docker at one moment. Nothing of it is asked for in a scrape.
#[derive(Clone, Debug, Default)]
pub struct DockerState {
    /// The engine and its containers, as the watcher knows them.
    pub snapshot: Arc<nexus_docker::Snapshot>,
    /// When the images of these containers were made.
    pub images: Arc<nexus_docker::ImageTimes>,
    pub disk: Arc<nexus_docker::DiskReport>,
}

/// What is no file: system calls, in whose place fixtures answer.
#[derive(Clone, Copy, Debug)]
pub struct Calls {
    pub statfs: filesystem::Ask,
    /// Bytes of a page of memory: 16384 on a Raspberry Pi 5.
    pub page_size: fn() -> usize,
    pub adjtimex: timex::Ask,
    /// Of a Raspberry Pi's firmware.
    pub mailbox: rpi_firmware::Ask,
}

impl Calls {
    /// The kernel's own answers.
    pub const REAL: Calls = Calls {
        statfs: filesystem::statfs,
        page_size: rustix::param::page_size,
        adjtimex: timex::adjtimex,
        mailbox: rpi_firmware::ask,
    };
}

/// A set of collectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selection(u64);

impl Selection {
    pub const NONE: Selection = Selection(0);

    pub fn all() -> Self {
        Collector::ALL.iter().copied().fold(Selection::NONE, Selection::with)
    }

    pub fn by_default() -> Self {
        let on = Collector::ALL.iter().copied().filter(|collector| collector.is_on_by_default());
        on.fold(Selection::NONE, Selection::with)
    }

    #[must_use]
    pub fn with(self, collector: Collector) -> Self {
        Selection(self.0 | 1 << collector as u8)
    }

    #[must_use]
    pub fn without(self, collector: Collector) -> Self {
        Selection(self.0 & !(1 << collector as u8))
    }

    pub fn contains(self, collector: Collector) -> bool {
        self.0 & 1 << collector as u8 != 0
    }

    pub fn iter(self) -> impl Iterator<Item = Collector> {
        Collector::ALL.iter().copied().filter(move |&collector| self.contains(collector))
    }
}

/// A chain of links longer than this is a loop, or nobody's intention.
const MOST_LINKS: usize = 8;

/// Where the host's files are, seen from here. Plain prefixes, as node_exporter's flags.
#[derive(Clone, Debug)]
pub struct Roots {
    pub procfs: PathBuf,
    pub sysfs: PathBuf,
    pub rootfs: PathBuf,
    pub udev_data: PathBuf,
}

impl Roots {
    pub fn proc(&self, path: &str) -> PathBuf {
        self.procfs.join(path)
    }

    pub fn sys(&self, path: &str) -> PathBuf {
        self.sysfs.join(path)
    }

    /// A file of the host's root. When it is an absolute link, as /etc/localtime mostly is, the kernel would follow it out of
    /// that root; here it is followed below it.
    pub fn root(&self, path: &str) -> PathBuf {
        let mut found = self.rootfs.join(path);
        for _ in 0..MOST_LINKS {
            let Ok(target) = fs::read_link(&found) else { break };
            found = match target.strip_prefix("/") {
                Ok(below) => self.rootfs.join(below),
                Err(_) => found.parent().unwrap_or(&self.rootfs).join(target),
            };
        }
        found
    }
}

#[derive(Debug, thiserror::Error)]
pub enum CollectError {
    #[error("can't read {}", path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{} does not look as expected: {what}", path.display())]
    Malformed { path: PathBuf, what: String },
    /// The kernel or the board does not have it: no fault, told by the success metric alone.
    #[error("{what}")]
    Absent { what: String },
    #[error("{what}")]
    Failed { what: String },
}

impl CollectError {
    pub fn malformed(path: &Path, what: impl Into<String>) -> Self {
        CollectError::Malformed { path: path.to_owned(), what: what.into() }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::exposition::Format;

    /// A host made of files, for the tests of the collectors.
    pub struct Host {
        folder: tempfile::TempDir,
        roots: Roots,
        pub settings: Settings,
        pub calls: Calls,
    }

    #[expect(clippy::new_without_default, reason = "makes a folder")]
    impl Host {
        pub fn new() -> Host {
            let folder = tempfile::tempdir().unwrap();
            let root = |name: &str| folder.path().join(name);
            let roots =
                Roots { procfs: root("proc"), sysfs: root("sys"), rootfs: root("root"), udev_data: root("udev") };
            Host { folder, roots, settings: Settings::defaults(), calls: Calls::REAL }
        }

        pub fn path(&self) -> &Path {
            self.folder.path()
        }

        /// Writes a file, and makes the folders that lead to it.
        pub fn write(&self, path: &str, text: impl AsRef<[u8]>) {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        /// Makes a link, and the folders that lead to it.
        pub fn link(&self, path: &str, target: &str) {
            let path = self.folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::os::unix::fs::symlink(target, path).unwrap();
        }

        pub fn read<F>(&self, read: impl FnOnce(&mut Access<'_>) -> F) -> F {
            read(&mut Access {
                roots: &self.roots,
                settings: &self.settings,
                calls: self.calls,
                docker: &Arc::default(),
                now: Timestamp::UNIX_EPOCH,
                reader: &mut Reader::default(),
            })
        }
    }

    /// The samples of what is written.
    pub fn samples(write: impl FnOnce(&mut Exposition)) -> Vec<String> {
        let mut out = Exposition::new(Format::Text);
        write(&mut out);
        out.finish().lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
    }

    #[test]
    fn a_selection_holds_what_was_put_in() {
        let selection = Selection::NONE.with(Collector::Time).with(Collector::Cpu);
        assert_eq!(selection.iter().collect::<Vec<_>>(), [Collector::Cpu, Collector::Time]);
        assert_eq!(selection.without(Collector::Cpu).iter().collect::<Vec<_>>(), [Collector::Time]);
        assert_eq!(Selection::all().iter().count(), Collector::ALL.len());
        assert!(Collector::ALL.len() <= 64, "as many as there are bits");
    }

    #[test]
    fn links_of_the_host_stay_below_its_root() {
        use std::os::unix::fs::symlink;
        let folder = tempfile::tempdir().unwrap();
        let rootfs = folder.path().to_owned();
        fs::create_dir_all(rootfs.join("etc")).unwrap();
        fs::create_dir_all(rootfs.join("usr/lib")).unwrap();
        fs::write(rootfs.join("usr/lib/file"), "x").unwrap();
        let links = [
            ("etc/plain", "../usr/lib/file"),
            ("etc/absolute", "/usr/lib/file"),
            ("etc/two", "/etc/plain"),
            ("etc/loop", "loop"),
        ];
        for (link, target) in links {
            symlink(target, rootfs.join(link)).unwrap();
        }
        let nowhere = PathBuf::new();
        let roots = Roots { procfs: nowhere.clone(), sysfs: nowhere.clone(), udev_data: nowhere, rootfs };
        for link in ["usr/lib/file", "etc/plain", "etc/absolute", "etc/two"] {
            assert_eq!(fs::read_to_string(roots.root(link)).unwrap(), "x", "{link}");
        }
        for link in ["etc/loop", "etc/nothing"] {
            assert!(fs::read(roots.root(link)).is_err(), "{link}");
        }
    }
}
