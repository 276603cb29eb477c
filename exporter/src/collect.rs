//! The collectors: one file a source, all of it there: what is read, how it is parsed, the families and how they are
//! written. This file has what they share: the roots they read under, errors, reading a file.

pub mod container;
pub mod cpu;
pub mod diskstats;
pub mod filesystem;
pub mod loadavg;
pub mod meminfo;
pub mod netdev;
pub mod pressure;
pub mod stat;
pub mod thermal_zone;
pub mod time;
pub mod uname;

use std::fs::File;
use std::io::{self, Read as _};
use std::path::{Path, PathBuf};

use crate::family::Family;

/// A source that can be asked for, by node_exporter's names where it has them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum Collector {
    Cpu,
    Loadavg,
    Meminfo,
    Filesystem,
    Diskstats,
    Netdev,
    Pressure,
    ThermalZone,
    Stat,
    Uname,
    Time,
    Container,
}

impl Collector {
    pub const ALL: [Collector; 12] = [
        Collector::Cpu,
        Collector::Loadavg,
        Collector::Meminfo,
        Collector::Filesystem,
        Collector::Diskstats,
        Collector::Netdev,
        Collector::Pressure,
        Collector::ThermalZone,
        Collector::Stat,
        Collector::Uname,
        Collector::Time,
        Collector::Container,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Collector::Cpu => "cpu",
            Collector::Loadavg => "loadavg",
            Collector::Meminfo => "meminfo",
            Collector::Filesystem => "filesystem",
            Collector::Diskstats => "diskstats",
            Collector::Netdev => "netdev",
            Collector::Pressure => "pressure",
            Collector::ThermalZone => "thermal_zone",
            Collector::Stat => "stat",
            Collector::Uname => "uname",
            Collector::Time => "time",
            Collector::Container => "container",
        }
    }

    /// What success 0 says of this collector, for the documentation, where it may be no fault.
    pub fn absence(self) -> Option<&'static str> {
        match self {
            Collector::Pressure => Some(pressure::ABSENCE),
            Collector::ThermalZone => Some(thermal_zone::ABSENCE),
            Collector::Container => Some(container::ABSENCE),
            _ => None,
        }
    }

    pub fn families(self) -> &'static [Family] {
        match self {
            Collector::Cpu => cpu::FAMILIES,
            Collector::Loadavg => loadavg::FAMILIES,
            Collector::Meminfo => meminfo::FAMILIES,
            Collector::Filesystem => filesystem::FAMILIES,
            Collector::Diskstats => diskstats::FAMILIES,
            Collector::Netdev => netdev::FAMILIES,
            Collector::Pressure => pressure::FAMILIES,
            Collector::ThermalZone => thermal_zone::FAMILIES,
            Collector::Stat => stat::FAMILIES,
            Collector::Uname => uname::FAMILIES,
            Collector::Time => time::FAMILIES,
            Collector::Container => container::FAMILIES,
        }
    }
}

/// A set of collectors.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Selection(u32);

impl Selection {
    pub const NONE: Selection = Selection(0);

    pub fn all() -> Self {
        Collector::ALL.into_iter().fold(Selection::NONE, Selection::with)
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
        Collector::ALL.into_iter().filter(move |&collector| self.contains(collector))
    }
}

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

/// No file read here is near this size; what is larger is not what it should be, and is cut.
const FILE_LIMIT: u64 = 4 << 20;

/// Reads files of /proc and /sys into one buffer: an open, two reads and a close each.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub fn bytes(&mut self, path: &Path) -> io::Result<&[u8]> {
        self.buffer.clear();
        // Kernel files give all they have in one read when there is room for it.
        self.buffer.reserve(16 * 1024);
        // `take` keeps `read_to_end` from asking for the size, which such files don't know.
        File::open(path)?.take(FILE_LIMIT).read_to_end(&mut self.buffer)?;
        Ok(&self.buffer)
    }

    /// As text; bytes that are no UTF-8 become U+FFFD, so that a parser meets them as any other surprise.
    pub fn text(&mut self, path: &Path) -> io::Result<&str> {
        self.bytes(path)?;
        if std::str::from_utf8(&self.buffer).is_err() {
            self.buffer = String::from_utf8_lossy(&self.buffer).into_owned().into_bytes();
        }
        Ok(std::str::from_utf8(&self.buffer).unwrap_or_default())
    }

    /// As [`Reader::text`], with the path in the error.
    pub fn require(&mut self, path: &Path) -> Result<&str, CollectError> {
        self.text(path).map_err(|source| CollectError::Read { path: path.to_owned(), source })
    }

    /// A number alone in its file.
    pub fn number<T: std::str::FromStr>(&mut self, path: &Path) -> Option<T> {
        self.text(path).ok()?.trim().parse().ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_selection_holds_what_was_put_in() {
        let selection = Selection::NONE.with(Collector::Time).with(Collector::Cpu);
        assert_eq!(selection.iter().collect::<Vec<_>>(), [Collector::Cpu, Collector::Time]);
        assert_eq!(selection.without(Collector::Cpu).iter().collect::<Vec<_>>(), [Collector::Time]);
        assert_eq!(Selection::all().iter().count(), Collector::ALL.len());
    }

    #[test]
    fn text_that_is_no_utf8_is_still_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a\xffb 1\n").unwrap();
        assert_eq!(Reader::default().text(file.path()).unwrap(), "a\u{FFFD}b 1\n");
    }
}
