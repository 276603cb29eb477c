//! `conntrack`: how full the host's table of tracked connections is, and what became of packets there.
//!
//! Under /proc/sys/net the kernel answers for the network of whoever reads. The limit is one for all networks, but the
//! number of entries is not, so it is taken from a file that goes by process.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;

use super::{Access, CollectError, Roots};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some(
    "success is 0 where the kernel tracks no connections (nf_conntrack is loaded with the first firewall rule or \
    container network that needs it), as with node_exporter.",
);

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Conntrack {
    pub entries: Option<u64>,
    pub limit: Option<u64>,
    /// In the order of `STATISTICS`, all CPUs together.
    pub statistics: [Option<u64>; STATISTICS.len()],
}

pub type Found = Conntrack;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("1/net/stat/nf_conntrack");
    let mut conntrack = match reader.text(&path) {
        Ok(text) => parse(text).ok_or_else(|| CollectError::malformed(&path, "no row with the number of entries"))?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Conntrack::default(),
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    conntrack.limit = reader.number(&roots.proc("sys/net/netfilter/nf_conntrack_max"));
    // A kernel that tracks connections may be built without the file.
    if conntrack.entries.is_none() && is_network_of_reader(roots) {
        conntrack.entries = reader.number(&roots.proc("sys/net/netfilter/nf_conntrack_count"));
    }
    if conntrack == Conntrack::default() {
        return Err(CollectError::Absent { what: "this kernel tracks no connections".to_owned() });
    }
    Ok(conntrack)
}

/// Whether the host's first process is in the network of this one: /proc has files of its own for each network.
fn is_network_of_reader(roots: &Roots) -> bool {
    let inode = |path: &str| fs::metadata(roots.proc(path)).map(|metadata| metadata.ino());
    matches!((inode("1/net/dev"), inode("self/net/dev")), (Ok(host), Ok(reader)) if host == reader)
}

/// A header, then a row for each CPU, in hexadecimal. Columns are found by name: their meaning moved over the years.
/// The first row must have the number of entries, which is that of all CPUs in each row.
fn parse(text: &str) -> Option<Conntrack> {
    let mut lines = text.lines();
    let header = lines.next()?;
    let place = |name: &str| header.split_ascii_whitespace().position(|column| column == name);
    let at_entries = place("entries")?;
    let places = STATISTICS.map(|(column, _)| place(column));
    let mut conntrack = Conntrack::default();
    let mut row: Vec<Option<u64>> = Vec::new();
    for line in lines {
        row.clear();
        row.extend(line.split_ascii_whitespace().map(|word| u64::from_str_radix(word, 16).ok()));
        let value = |at: usize| row.get(at).copied().flatten();
        conntrack.entries = conntrack.entries.or(value(at_entries));
        for (sum, at) in conntrack.statistics.iter_mut().zip(places) {
            if let Some(value) = at.and_then(value) {
                *sum = Some(sum.unwrap_or(0).wrapping_add(value));
            }
        }
    }
    conntrack.entries.is_some().then_some(conntrack)
}

const ENTRIES: Family = Family {
    source: "/proc/1/net/stat/nf_conntrack, entries",
    ..gauge("node_nf_conntrack_entries", "Connections that are tracked now.")
};
const LIMIT: Family = Family {
    source: "/proc/sys/net/netfilter/nf_conntrack_max",
    ..gauge("node_nf_conntrack_entries_limit", "Connections that can be tracked at most.")
};

/// With the column each comes from. They grow, but node_exporter has them as gauges.
const STATISTICS: [(&str, Family); 8] = [
    ("found", gauge("node_nf_conntrack_stat_found", "Lookups of a connection that found it.")),
    ("invalid", gauge("node_nf_conntrack_stat_invalid", "Packets that could not be tracked.")),
    ("ignore", gauge("node_nf_conntrack_stat_ignore", "Packets that were tracked already.")),
    ("insert", gauge("node_nf_conntrack_stat_insert", "Connections put into the table.")),
    (
        "insert_failed",
        gauge(
            "node_nf_conntrack_stat_insert_failed",
            "Connections not put into the table, such as one that was there.",
        ),
    ),
    ("drop", gauge("node_nf_conntrack_stat_drop", "Packets dropped because their connection could not be tracked.")),
    (
        "early_drop",
        gauge("node_nf_conntrack_stat_early_drop", "Connections given up before their time since the table was full."),
    ),
    (
        "search_restart",
        gauge("node_nf_conntrack_stat_search_restart", "Lookups begun again since the table changed its size."),
    ),
];
pub const FAMILIES: &[Family] = &{
    let mut families = [ENTRIES; STATISTICS.len() + 2];
    families[1] = LIMIT;
    let mut at = 0;
    while at < STATISTICS.len() {
        families[at + 2] = STATISTICS[at].1;
        at += 1;
    }
    families
};

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source: "/proc/1/net/stat/nf_conntrack, all CPUs together" }
}

pub fn write(conntrack: &Conntrack, out: &mut Exposition) {
    let Conntrack { entries, limit, statistics } = conntrack;
    let statistics = STATISTICS.iter().map(|(_, family)| family).zip(statistics);
    for (family, value) in [(&ENTRIES, entries), (&LIMIT, limit)].into_iter().chain(statistics) {
        if let Some(value) = value {
            out.family(family).single(*value);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};
    use std::sync::Arc;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::collect::{Calls, Reader};
    use crate::settings::Settings;

    const NOW: &str = "entries  clashres found new invalid ignore delete chainlength insert insert_failed drop early_drop icmp_error  expect_new expect_create expect_delete search_restart\n";

    #[test]
    fn rows_are_added_up_but_for_the_entries() {
        let text = format!(
            "{NOW}0000001f 00000001 0000000a 00000000 00000002 00000003 00000000 00000000 00000000 00000004 00000005 00000006 00000000  00000000 00000000 00000000 00000007\n\
            0000001f 00000000 00000001 00000000 00000000 00000001 00000000 00000000 00000000 00000000 00000000 00000000 00000000  00000000 00000000 00000000 ffffffff\n",
        );
        let statistics = [11, 2, 4, 0, 4, 5, 6, 0x1_0000_0006].map(Some);
        assert_eq!(parse(&text), Some(Conntrack { entries: Some(31), limit: None, statistics }));
    }

    #[test]
    fn what_is_missing_stays_missing() {
        // Before 2.6.35 nothing counted restarts of a search.
        let text = "entries searched found\n00000002 00000001 00000003\n";
        let mut statistics = [None; STATISTICS.len()];
        statistics[0] = Some(3);
        assert_eq!(parse(text), Some(Conntrack { entries: Some(2), limit: None, statistics }));
        for odd in ["", "entries found\n", "found\n00000001\n", "entries found\nx 1\n", "entries\n\n"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    fn entries_of(procfs: &Path) -> Option<u64> {
        let unused = PathBuf::new();
        let roots =
            Roots { procfs: procfs.to_owned(), sysfs: unused.clone(), rootfs: unused.clone(), udev_data: unused };
        let (settings, docker, mut reader) = (Settings::defaults(), Arc::default(), Reader::default());
        let now = Timestamp::UNIX_EPOCH;
        let (calls, roots, settings, docker) = (Calls::REAL, &roots, &settings, &docker);
        let mut access = Access { roots, settings, calls, docker, now, reader: &mut reader };
        let conntrack = read(&mut access, &mut ()).unwrap();
        assert_eq!(conntrack.limit, Some(1000));
        conntrack.entries
    }

    #[test]
    fn the_readers_own_count_is_taken_only_in_the_network_of_the_host() {
        let folder = tempfile::tempdir().unwrap();
        let procfs = folder.path();
        let file = |path: &str, text: &str| {
            let path = procfs.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(&path, text).unwrap();
            path
        };
        file("sys/net/netfilter/nf_conntrack_max", "1000\n");
        file("sys/net/netfilter/nf_conntrack_count", "7\n");
        assert_eq!(entries_of(procfs), None, "no word of a network");
        let host = file("1/net/dev", "");
        let reader = file("self/net/dev", "");
        assert_eq!(entries_of(procfs), None, "two networks");
        fs::remove_file(&reader).unwrap();
        fs::hard_link(host, reader).unwrap();
        assert_eq!(entries_of(procfs), Some(7), "one network");
        file("1/net/stat/nf_conntrack", "entries\n0000000a\n");
        assert_eq!(entries_of(procfs), Some(10));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), lines in "((entries|found|drop|[0-9a-f]{1,17}) ?){0,20}\n?") {
            parse(&text);
            parse(&format!("{NOW}{lines}"));
            parse(&format!("{lines}{NOW}{lines}"));
        }
    }
}
