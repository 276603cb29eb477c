//! `netdev`: traffic of each network interface of the host; the parser also serves the containers' interfaces.

use std::collections::{HashMap, HashSet};

use super::{Access, CollectError, KeptFile, Reader, Roots};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};
use crate::parse;

#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    pub name: String,
    pub received: Received,
    pub transmitted: Transmitted,
}

/// In the order of the columns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Received {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
    pub fifo: u64,
    pub frame: u64,
    pub compressed: u64,
    pub multicast: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Transmitted {
    pub bytes: u64,
    pub packets: u64,
    pub errors: u64,
    pub dropped: u64,
    pub fifo: u64,
    pub collisions: u64,
    pub carrier: u64,
    pub compressed: u64,
}

/// What a scrape finds of an interface of the host.
#[derive(Clone, Debug, PartialEq)]
pub struct Device {
    pub interface: Interface,
    /// Packets that came where nobody takes them, such as at the passive side of a bond. Only /sys tells it.
    pub received_without_handler: Option<u64>,
}

pub type Found = Vec<Device>;

#[derive(Debug, Default)]
pub struct Kept {
    /// /proc/1/net/dev: looking it up costs as much as reading it.
    list: Option<KeptFile>,
    /// Files by interface: a host has one for each container.
    without_handler: HashMap<String, WithoutHandler>,
}

/// What was counted when so much had been received: a packet that nobody takes has been received.
#[derive(Debug)]
struct WithoutHandler {
    file: KeptFile,
    received: Received,
    packets: Option<u64>,
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    // /proc/net is that of the reader; the host's is that of its first process.
    let file = kept.list.get_or_insert_with(|| KeptFile::of_short_lines(roots.proc("1/net/dev")));
    let text = file.bytes(reader).map_err(|source| CollectError::Read { path: roots.proc("1/net/dev"), source })?;
    let mut interfaces = parse(text);
    if interfaces.is_empty() {
        return Err(CollectError::malformed(file.path(), "no interface found"));
    }
    interfaces.retain(|interface| settings.netdev_devices.takes(&interface.name));
    if kept.without_handler.len() > interfaces.len() {
        kept.without_handler.retain(|name, _| interfaces.iter().any(|interface| interface.name == *name));
    }
    let devices = interfaces.into_iter().map(|interface| Device {
        received_without_handler: kept.without_handler(roots, &interface, reader),
        interface,
    });
    Ok(devices.collect())
}

impl Kept {
    fn without_handler(&mut self, roots: &Roots, interface: &Interface, reader: &mut Reader) -> Option<u64> {
        let Interface { name, received, .. } = interface;
        if let Some(known) = self.without_handler.get_mut(name) {
            if known.packets.is_none() || known.received != *received {
                (known.received, known.packets) = (*received, known.file.number(reader));
            }
            return known.packets;
        }
        let mut file = KeptFile::new(roots.sys("class/net").join(name).join("statistics/rx_nohandler"));
        let packets = file.number(reader);
        self.without_handler.insert(name.clone(), WithoutHandler { file, received: *received, packets });
        packets
    }
}

/// Lines that are not understood are left out. A name may contain colons, so the last one before the numbers ends it.
pub fn parse(text: &[u8]) -> Vec<Interface> {
    let mut interfaces: Vec<Interface> = parse::lines(text).filter_map(parse_line).collect();
    // The same name twice would be the same series twice; bytes that are no UTF-8 can make two names one.
    let mut names = HashSet::with_capacity(interfaces.len());
    let is_first: Vec<bool> = interfaces.iter().map(|interface| names.insert(interface.name.as_str())).collect();
    let mut is_first = is_first.into_iter();
    interfaces.retain(|_| is_first.next().unwrap_or_default());
    interfaces
}

fn parse_line(line: &[u8]) -> Option<Interface> {
    let colon = line.iter().rposition(|&byte| byte == b':')?;
    let mut numbers = parse::words(&line[colon + 1..]).map(parse::unsigned);
    let mut next = || numbers.next()?;
    Some(Interface {
        received: Received {
            bytes: next()?,
            packets: next()?,
            errors: next()?,
            dropped: next()?,
            fifo: next()?,
            frame: next()?,
            compressed: next()?,
            multicast: next()?,
        },
        transmitted: Transmitted {
            bytes: next()?,
            packets: next()?,
            errors: next()?,
            dropped: next()?,
            fifo: next()?,
            collisions: next()?,
            carrier: next()?,
            compressed: next()?,
        },
        name: String::from_utf8_lossy(line[..colon].trim_ascii()).into_owned(),
    })
}

/// With the value each takes from an interface. node_exporter's names are those of the kernel's columns.
type Column = (Family, fn(&Interface) -> u64);

const COLUMNS: [Column; 16] = [
    (column!("receive_bytes"), |i| i.received.bytes),
    (column!("receive_compressed"), |i| i.received.compressed),
    (column!("receive_drop"), |i| i.received.dropped),
    (column!("receive_errs"), |i| i.received.errors),
    (column!("receive_fifo"), |i| i.received.fifo),
    (column!("receive_frame"), |i| i.received.frame),
    (column!("receive_multicast"), |i| i.received.multicast),
    (column!("receive_packets"), |i| i.received.packets),
    (column!("transmit_bytes"), |i| i.transmitted.bytes),
    (column!("transmit_carrier"), |i| i.transmitted.carrier),
    (column!("transmit_colls"), |i| i.transmitted.collisions),
    (column!("transmit_compressed"), |i| i.transmitted.compressed),
    (column!("transmit_drop"), |i| i.transmitted.dropped),
    (column!("transmit_errs"), |i| i.transmitted.errors),
    (column!("transmit_fifo"), |i| i.transmitted.fifo),
    (column!("transmit_packets"), |i| i.transmitted.packets),
];

macro_rules! column {
    ($name:literal) => {
        Family {
            name: concat!("node_network_", $name, "_total"),
            kind: Kind::Counter,
            help: concat!("Network device statistic ", $name, "."),
            labels: &["device"],
            source: "/proc/1/net/dev",
        }
    };
}
use column;

pub const ABSENCE: Option<&str> = None;
const RECEIVE_NOHANDLER: Family = Family {
    name: "node_network_receive_nohandler_total",
    kind: Kind::Counter,
    help: "Packets received where nobody takes them, such as at the passive side of a bond.",
    labels: &["device"],
    source: "/sys/class/net/*/statistics/rx_nohandler",
};
pub const FAMILIES: &[Family] = &{
    let mut families = [RECEIVE_NOHANDLER; COLUMNS.len() + 1];
    let mut at = 0;
    while at < COLUMNS.len() {
        families[at] = COLUMNS[at].0;
        at += 1;
    }
    families
};

pub fn write(devices: &[Device], out: &mut Exposition) {
    for (family, value) in &COLUMNS {
        let mut family = out.family(family);
        for Device { interface, .. } in devices {
            family.sample(&[("device", &interface.name)], value(interface));
        }
    }
    let mut family = out.family(&RECEIVE_NOHANDLER);
    for Device { interface, received_without_handler } in devices {
        if let Some(packets) = received_without_handler {
            family.sample(&[("device", &interface.name)], *packets);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::Timestamp;
    use proptest::prelude::*;

    use super::*;
    use crate::collect::Calls;
    use crate::settings::Settings;

    #[test]
    fn columns_land_in_their_fields() {
        let text = b"Inter-|   Receive  |  Transmit\n face |bytes    packets errs|bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
            eth0:0:1739 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n  short: 1 2 3\n";
        let interfaces = parse(text);
        assert_eq!(interfaces.iter().map(|i| i.name.as_str()).collect::<Vec<_>>(), ["lo", "eth0:0"]);
        assert_eq!(interfaces[0].received.multicast, 8);
        assert_eq!(
            interfaces[0].transmitted,
            Transmitted {
                bytes: 9,
                packets: 10,
                errors: 11,
                dropped: 12,
                fifo: 13,
                collisions: 14,
                carrier: 15,
                compressed: 16
            }
        );
        assert_eq!(interfaces[1].received.bytes, 1739);
        // The kernel takes any byte but `/`, `:` and space as part of a name.
        let odd = parse(b"e\xff\"{}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16");
        assert_eq!(odd[0].name, "e\u{FFFD}\"{}");
        let one = b"e\xff: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\ne\xfe: 9 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n";
        assert_eq!(parse(one).iter().map(|i| i.received.bytes).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn what_only_sys_tells_is_read_for_those_that_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let root = |name: &str| folder.path().join(name);
        let roots = Roots { procfs: root("proc"), sysfs: root("sys"), rootfs: root("root"), udev_data: root("udev") };
        std::fs::create_dir_all(roots.proc("1/net")).unwrap();
        for (name, packets) in [("eth0", "5\n"), ("veth1", "7\n")] {
            let folder = roots.sys("class/net").join(name).join("statistics");
            std::fs::create_dir_all(&folder).unwrap();
            std::fs::write(folder.join("rx_nohandler"), packets).unwrap();
        }
        let mut kept = Kept::default();
        let mut check = |names: &[&str], expected: &[Option<u64>], open: &[&str]| {
            let line = |name: &&str| format!("{name}: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n");
            std::fs::write(roots.proc("1/net/dev"), names.iter().map(line).collect::<String>()).unwrap();
            let (settings, docker, mut reader) = (Settings::defaults(), Arc::default(), Reader::default());
            let (calls, roots, settings, docker) = (Calls::REAL, &roots, &settings, &docker);
            let now = Timestamp::UNIX_EPOCH;
            let mut access = Access { roots, settings, calls, docker, now, reader: &mut reader };
            let devices = read(&mut access, &mut kept).unwrap();
            let found: Vec<_> = devices.iter().map(|device| device.received_without_handler).collect();
            let mut kept: Vec<&str> = kept.without_handler.keys().map(String::as_str).collect();
            kept.sort_unstable();
            assert_eq!((found.as_slice(), kept.as_slice()), (expected, open), "{names:?}");
        };
        check(&["eth0", "veth1"], &[Some(5), Some(7)], &["eth0", "veth1"]);
        check(&["eth0"], &[Some(5)], &["eth0"]);
        check(&["eth0", "tun0"], &[Some(5), None], &["eth0", "tun0"]);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<Vec<u8>>(), line in "[a-z:]{0,9}:( [0-9-]{0,22}){0,18}") {
            parse(&[text.as_slice(), b"\n", line.as_bytes()].concat());
        }
    }
}
