//! `netclass`: the network interfaces of the host, their state and their attributes.
//!
//! A host with a hundred containers has a hundred virtual interfaces with two dozen files each, some of which take a lock
//! that all of networking waits for. So only interfaces with a device behind them are read whole at each scrape. Of the
//! others it is the two files that tell whether something happened: the state, and how often the link has come and gone. The
//! rest is read anew when one of these has changed, since a link does not come or go uncounted and an interface is not
//! switched on or off without another state. What somebody may set by hand meanwhile is read in turn, of a few interfaces a
//! scrape. Files that are read at each scrape stay open.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt as _;
use std::path::Path;
use std::sync::Arc;

use super::{Access, CollectError, Folder, KeptFile, Reader};
use crate::exposition::{Exposition, Labels};
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the kernel has no network class at all, as with node_exporter.");

/// In so many scrapes each virtual interface has its turn: ten minutes at the usual interval.
const TURNS: usize = 40;

#[derive(Clone, Debug, PartialEq)]
pub struct Interface {
    pub name: String,
    pub state: State,
    pub rest: Arc<Rest>,
}

/// What is read at each scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct State {
    /// `up`, `down`, `lowerlayerdown`, `unknown`, …
    pub operstate: String,
    pub carrier_changes: Option<i64>,
}

/// What is kept of a virtual interface.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Rest {
    /// The label `device`, escaped once.
    device: Labels,
    /// In the order of `WORDS`; empty where the driver knows none, as the duplex while the interface is down.
    pub words: [String; WORDS.len()],
    /// In the order of `NUMBERS`.
    pub numbers: [Option<i64>; NUMBERS.len()],
}

pub type Found = Vec<Interface>;

#[derive(Debug, Default)]
pub struct Kept {
    known: BTreeMap<String, Known>,
    scrape: usize,
    /// How many virtual interfaces there have been, to give each its turn.
    virtual_ones: usize,
}

#[derive(Debug)]
struct Known {
    /// Of its entry in /sys/class/net: another one for another interface of the same name.
    inode: u64,
    /// The last scrape that saw it.
    seen: usize,
    way: Way,
}

/// How an interface is read.
#[derive(Debug)]
enum Way {
    /// Not asked for.
    Ignored,
    /// It has a device behind it. Its files of the rest, in their order.
    Whole(StateFiles, Vec<KeptFile>),
    InTurn(Box<Virtual>),
}

#[derive(Debug)]
struct StateFiles {
    operstate: KeptFile,
    carrier_changes: KeptFile,
}

#[derive(Debug)]
struct Virtual {
    files: StateFiles,
    /// As it was when the rest was read.
    state: State,
    /// `None`: not read yet, or not all of it could be.
    rest: Option<Arc<Rest>>,
    /// Less than `TURNS`.
    turn: usize,
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.sys("class/net");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::Absent { what: "this kernel has no network interfaces".to_owned() });
        }
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    kept.scrape = kept.scrape.wrapping_add(1);
    let mut interfaces = Vec::with_capacity(kept.known.len());
    for entry in entries.flatten() {
        // A file here is bonding's, no interface.
        if entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(name) = entry.file_name().into_string() else { continue };
        let (inode, folder) = (entry.ino(), path.join(&name));
        let known = match kept.known.get_mut(&name) {
            Some(known) if known.inode == inode => known,
            _ => {
                let way = if settings.netclass_devices.takes(&name) {
                    Way::of(&folder, &mut kept.virtual_ones)
                } else {
                    Way::Ignored
                };
                let fresh = Known { inode, seen: 0, way };
                // The files of a former interface of this name are closed here.
                kept.known.insert(name.clone(), fresh);
                let Some(fresh) = kept.known.get_mut(&name) else { continue };
                fresh
            }
        };
        known.seen = kept.scrape;
        if let Some((state, rest)) = known.way.read(&name, &folder, kept.scrape, reader) {
            interfaces.push(Interface { name, state, rest });
        }
    }
    // Descriptors of interfaces that are gone are closed.
    kept.known.retain(|_, known| known.seen == kept.scrape);
    interfaces.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    if settings.netclass_ignore_invalid_speed {
        interfaces.iter_mut().for_each(forget_invalid_speed);
    }
    Ok(interfaces)
}

fn forget_invalid_speed(interface: &mut Interface) {
    if interface.rest.numbers[SPEED].is_some_and(|speed| speed < 0) {
        Arc::make_mut(&mut interface.rest).numbers[SPEED] = None;
    }
}

impl Way {
    fn of(folder: &Path, virtual_ones: &mut usize) -> Way {
        let file = |name: &str| KeptFile::new(folder.join(name));
        let files = StateFiles { operstate: file("operstate"), carrier_changes: file("carrier_changes") };
        if folder.join("device").exists() {
            return Way::Whole(files, attributes().map(|(name, _)| file(name)).collect());
        }
        *virtual_ones = virtual_ones.wrapping_add(1);
        Way::InTurn(Box::new(Virtual { files, state: State::default(), rest: None, turn: *virtual_ones % TURNS }))
    }

    /// `None`: not asked for, or gone meanwhile.
    fn read(&mut self, name: &str, folder: &Path, scrape: usize, reader: &mut Reader) -> Option<(State, Arc<Rest>)> {
        match self {
            Way::Ignored => None,
            Way::Whole(files, rest) => {
                let state = files.read(reader)?;
                let read = Rest::default().read(name, &mut Files::Kept(rest), |_| true, reader);
                Some((state, Arc::new(read)))
            }
            Way::InTurn(kept) => {
                let state = kept.files.read(reader)?;
                let has_changed = state != kept.state;
                let rest = match kept.rest.take() {
                    Some(rest) if !has_changed && scrape % TURNS != kept.turn => rest,
                    known => {
                        let folder = Folder::open(folder, reader).ok()?;
                        let is_wanted = |set_by_hand: bool| set_by_hand || has_changed || known.is_none();
                        let old = known.as_deref().cloned().unwrap_or_default();
                        let rest = Arc::new(old.read(name, &mut Files::In(&folder), is_wanted, reader));
                        if reader.is_starved() {
                            return Some((state, rest));
                        }
                        rest
                    }
                };
                kept.rest = Some(Arc::clone(&rest));
                kept.state = state.clone();
                Some((state, rest))
            }
        }
    }
}

impl StateFiles {
    /// `None`: the interface is gone.
    fn read(&mut self, reader: &mut Reader) -> Option<State> {
        let operstate = self.operstate.text(reader).ok()?.trim().to_owned();
        let carrier_changes = self.carrier_changes.text(reader).ok().and_then(number);
        Some(State { operstate, carrier_changes })
    }
}

/// The files of the rest, each with whether somebody may set it by hand.
fn attributes() -> impl Iterator<Item = (&'static str, bool)> {
    WORDS.into_iter().chain(NUMBERS.iter().map(|(_, name, set_by_hand)| (*name, *set_by_hand)))
}

enum Files<'a> {
    Kept(&'a mut [KeptFile]),
    In(&'a Folder),
}

impl Rest {
    /// Reads anew what is wanted. What can't be read is missing: many attributes answer with an error while the interface is
    /// down, or never.
    fn read(
        mut self,
        name: &str,
        files: &mut Files<'_>,
        is_wanted: impl Fn(bool) -> bool,
        reader: &mut Reader,
    ) -> Rest {
        self.device = Labels::new(&[("device", name)]);
        for (at, (file, set_by_hand)) in attributes().enumerate() {
            if !is_wanted(set_by_hand) {
                continue;
            }
            let text = match files {
                Files::Kept(files) => files[at].text(reader),
                Files::In(folder) => reader.text_in(folder, file),
            };
            match at.checked_sub(WORDS.len()) {
                None => self.words[at] = text.map(|text| text.trim().to_owned()).unwrap_or_default(),
                Some(at) => self.numbers[at] = text.ok().and_then(number),
            }
        }
        self
    }
}

/// Decimal, or hexadecimal after `0x`.
fn number(text: &str) -> Option<i64> {
    let text = text.trim();
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

const INFO: Family = Family {
    name: "node_network_info",
    kind: Kind::Gauge,
    help: "What an interface is, in words; always 1.",
    labels: &["device", "address", "broadcast", "duplex", "operstate", "adminstate", "ifalias"],
    source: "/sys/class/net/DEVICE/{address,broadcast,duplex,operstate,flags,ifalias}; of virtual interfaces all but operstate \
             is kept as for node_network_mtu_bytes",
};
const UP: Family = Family {
    help: "Whether the interface is operationally up.",
    source: "/sys/class/net/DEVICE/operstate: 1 for `up`",
    ..gauge("node_network_up", "", "")
};
const CARRIER_CHANGES: Family = Family {
    kind: Kind::Counter,
    ..gauge(
        "node_network_carrier_changes_total",
        "How often the link came or went.",
        "/sys/class/net/DEVICE/carrier_changes",
    )
};
/// Files of words, with whether somebody may set them by hand.
const WORDS: [(&str, bool); 4] = [("address", true), ("broadcast", false), ("duplex", true), ("ifalias", true)];

const KEPT: &str =
    "/sys/class/net/DEVICE; of virtual interfaces kept between scrapes, read anew when state or link change";
const SET: &str = "/sys/class/net/DEVICE; of virtual interfaces kept between scrapes, read anew when state or link change, and \
                   every 40 scrapes";

/// Numbers of the rest, with their files, and whether somebody may set them by hand or, as a bridge's speed, from elsewhere.
const NUMBERS: [(Family, &str, bool); 16] = [
    (
        gauge(
            "node_network_address_assign_type",
            "How the address came about: 0 permanent, 1 random, 2 taken from another, 3 set.",
            SET,
        ),
        "addr_assign_type",
        true,
    ),
    (gauge("node_network_carrier", "Whether the interface has a link.", KEPT), "carrier", false),
    (
        Family {
            kind: Kind::Counter,
            ..gauge("node_network_carrier_down_changes_total", "How often the link went.", KEPT)
        },
        "carrier_down_count",
        false,
    ),
    (
        Family {
            kind: Kind::Counter,
            ..gauge("node_network_carrier_up_changes_total", "How often the link came.", KEPT)
        },
        "carrier_up_count",
        false,
    ),
    (gauge("node_network_device_id", "Number that tells interfaces of one device apart.", KEPT), "dev_id", false),
    (
        gauge(
            "node_network_dormant",
            "Whether the interface waits for something, such as a login to the network.",
            KEPT,
        ),
        "dormant",
        false,
    ),
    (
        gauge("node_network_flags", "Flags of the interface as bits: 1 switched on, 256 promiscuous.", SET),
        "flags",
        true,
    ),
    (gauge("node_network_iface_id", "Number that the kernel gave to the interface.", KEPT), "ifindex", false),
    (
        gauge("node_network_iface_link", "Number of the interface that this one hangs on; its own if on none.", KEPT),
        "iflink",
        false,
    ),
    (
        gauge("node_network_iface_link_mode", "How the link becomes up: 0 by itself, 1 by way of dormant.", SET),
        "link_mode",
        true,
    ),
    (gauge("node_network_mtu_bytes", "Largest packet that the interface sends.", SET), "mtu", true),
    (
        gauge(
            "node_network_name_assign_type",
            "How the name came about: 1 by the kernel in order of appearance, 2 predictable, 3 by a user, 4 renamed.",
            KEPT,
        ),
        "name_assign_type",
        false,
    ),
    (gauge("node_network_net_dev_group", "Group that the interface has been put into.", SET), "netdev_group", true),
    (
        gauge("node_network_protocol_type", "Kind of hardware by the number of ARP: 1 Ethernet, 772 loopback.", KEPT),
        "type",
        false,
    ),
    (
        gauge("node_network_speed_bytes", "Speed of the link in bytes per second; negative while it is unknown.", SET),
        "speed",
        true,
    ),
    (gauge("node_network_transmit_queue_length", "Packets that may wait to be sent.", SET), "tx_queue_len", true),
];
const FLAGS: usize = 6;
const SPEED: usize = 14;
/// sysfs says it in megabits per second.
const BYTES_OF_A_MEGABIT: i64 = 125_000;

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &["device"], source }
}

pub const FAMILIES: &[Family] = &{
    let mut families = [INFO; NUMBERS.len() + 3];
    (families[1], families[2]) = (UP, CARRIER_CHANGES);
    let mut at = 0;
    while at < NUMBERS.len() {
        families[at + 3] = NUMBERS[at].0;
        at += 1;
    }
    families
};

pub fn write(interfaces: &[Interface], out: &mut Exposition) {
    let mut family = out.family(&INFO);
    for Interface { state, rest, .. } in interfaces {
        let [address, broadcast, duplex, alias] = &rest.words;
        let labels = [
            ("address", address.as_str()),
            ("broadcast", broadcast),
            ("duplex", duplex),
            ("operstate", &state.operstate),
            ("adminstate", admin_state(rest.numbers[FLAGS])),
            ("ifalias", alias),
        ];
        family.sample_of(&rest.device, &labels, 1u64);
    }
    let mut family = out.family(&UP);
    for Interface { state, rest, .. } in interfaces {
        family.sample_of(&rest.device, &[], state.operstate == "up");
    }
    let mut write = |family: &Family, value: &dyn Fn(&Interface) -> Option<i64>| {
        let kind = family.kind;
        let mut family = out.family(family);
        for interface in interfaces {
            // A counter below zero is none that OpenMetrics knows.
            if let Some(value) = value(interface).filter(|value| *value >= 0 || kind != Kind::Counter) {
                family.sample_of(&interface.rest.device, &[], value);
            }
        }
    };
    write(&CARRIER_CHANGES, &|interface| interface.state.carrier_changes);
    for (at, (family, ..)) in NUMBERS.iter().enumerate() {
        let scale = if at == SPEED { BYTES_OF_A_MEGABIT } else { 1 };
        write(family, &|interface| interface.rest.numbers[at].map(|number| number.saturating_mul(scale)));
    }
}

/// IFF_UP.
fn admin_state(flags: Option<i64>) -> &'static str {
    match flags {
        None => "unknown",
        Some(flags) if flags & 1 != 0 => "up",
        Some(_) => "down",
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collect::tests::Host;
    use crate::settings::Settings;

    const FILES: &[(&str, &str)] = &[
        ("operstate", "up\n"),
        ("carrier", "1\n"),
        ("carrier_changes", "2\n"),
        ("carrier_up_count", "1\n"),
        ("carrier_down_count", "1\n"),
        ("flags", "0x1003\n"),
        ("mtu", "1500\n"),
        ("speed", "1000\n"),
        ("duplex", "full\n"),
        ("dev_id", "0x2\n"),
        ("ifalias", "\n"),
    ];

    fn interface(host: &Host, name: &str) {
        for (file, text) in FILES {
            host.write(&format!("sys/class/net/{name}/{file}"), text);
        }
    }

    fn number_of(interface: &Interface, family: &str) -> Option<i64> {
        interface.rest.numbers[NUMBERS.iter().position(|(known, ..)| known.name == family).unwrap()]
    }

    fn written(interfaces: &[Interface]) -> Vec<String> {
        crate::collect::tests::samples(|out| write(interfaces, out))
    }

    /// Descriptors of this process that lead below the folder.
    fn open_below(folder: &Path) -> usize {
        let links =
            fs::read_dir("/proc/self/fd").unwrap().flatten().filter_map(|entry| fs::read_link(entry.path()).ok());
        links.filter(|link| link.starts_with(folder)).count()
    }

    #[test]
    fn a_virtual_interface_is_read_anew_when_it_changes_or_in_turn() {
        let host = Host::new();
        interface(&host, "veth1");
        let mut kept = Kept::default();
        let mtu = |interfaces: &[Interface]| number_of(&interfaces[0], "node_network_mtu_bytes");
        let mut scrape = || host.read(|access| read(access, &mut kept)).unwrap();
        assert_eq!(mtu(&scrape()), Some(1500));
        host.write("sys/class/net/veth1/mtu", "9000\n");
        assert_eq!(mtu(&scrape()), Some(1500), "kept");
        host.write("sys/class/net/veth1/carrier_changes", "3\n");
        assert_eq!(mtu(&scrape()), Some(9000), "the link changed");
        host.write("sys/class/net/veth1/mtu", "1400\n");
        let turns = (1..=TURNS).find(|_| mtu(&scrape()) == Some(1400));
        assert!(turns.is_some(), "its turn came");
        host.write("sys/class/net/veth1/operstate", "down\n");
        host.write("sys/class/net/veth1/flags", "0x1002\n");
        fs::remove_file(host.path().join("sys/class/net/veth1/carrier")).unwrap();
        let samples = written(&scrape());
        assert!(samples.contains(&"node_network_up{device=\"veth1\"} 0".to_owned()), "{samples:?}");
        assert!(samples.iter().any(|line| line.contains("operstate=\"down\",adminstate=\"down\"")), "{samples:?}");
        assert!(!samples.iter().any(|line| line.starts_with("node_network_carrier{")), "{samples:?}");
    }

    #[test]
    fn an_interface_with_a_device_is_read_whole() {
        let host = Host::new();
        interface(&host, "eth0");
        host.write("sys/class/net/eth0/device/uevent", "");
        let mut kept = Kept::default();
        let mut scrape = || host.read(|access| read(access, &mut kept)).unwrap();
        assert_eq!(number_of(&scrape()[0], "node_network_speed_bytes"), Some(1000));
        assert_eq!(number_of(&scrape()[0], "node_network_flags"), Some(0x1003));
        assert_eq!((NUMBERS[SPEED].1, NUMBERS[FLAGS].1), ("speed", "flags"));
        host.write("sys/class/net/eth0/speed", "100\n");
        let samples = written(&scrape());
        assert!(samples.contains(&"node_network_speed_bytes{device=\"eth0\"} 12500000".to_owned()), "{samples:?}");
        assert!(samples.contains(&"node_network_device_id{device=\"eth0\"} 2".to_owned()), "{samples:?}");
        assert!(
            !samples.iter().any(|line| line.starts_with("node_network_dormant")),
            "no file, no family: {samples:?}"
        );
    }

    #[test]
    fn what_is_gone_is_closed_and_what_comes_in_its_place_is_read() {
        let host = Host::new();
        for name in ["veth1", "veth2"] {
            interface(&host, name);
        }
        let mut kept = Kept::default();
        let mut scrape = || host.read(|access| read(access, &mut kept)).unwrap();
        assert_eq!(scrape().len(), 2);
        assert_eq!(open_below(host.path()), 4);
        fs::remove_dir_all(host.path().join("sys/class/net/veth1")).unwrap();
        assert_eq!(scrape().len(), 1);
        assert_eq!(open_below(host.path()), 2);
        // Kept from being given the same inode again.
        fs::rename(host.path().join("sys/class/net/veth2"), host.path().join("elsewhere")).unwrap();
        interface(&host, "veth2");
        host.write("sys/class/net/veth2/mtu", "9000\n");
        assert_eq!(number_of(&scrape()[0], "node_network_mtu_bytes"), Some(9000));
        assert_eq!(open_below(host.path()), 2);
    }

    #[test]
    fn interfaces_and_speeds_that_are_not_wanted_are_left_out() {
        let mut host = Host::new();
        for name in ["eth0", "veth1"] {
            interface(&host, name);
            host.write(&format!("sys/class/net/{name}/speed"), "-1\n");
        }
        host.write("sys/class/net/bonding_masters", "\n");
        let samples = written(&host.read(|access| read(access, &mut Kept::default())).unwrap());
        assert!(samples.contains(&"node_network_speed_bytes{device=\"veth1\"} -125000".to_owned()), "{samples:?}");
        let ignored = Settings::given(&[
            "--collector.netclass.ignored-devices=^veth",
            "--collector.netclass.ignore-invalid-speed",
        ]);
        host.settings = ignored;
        let interfaces = host.read(|access| read(access, &mut Kept::default())).unwrap();
        assert_eq!(interfaces.iter().map(|interface| interface.name.as_str()).collect::<Vec<_>>(), ["eth0"]);
        assert_eq!(interfaces[0].rest.numbers[SPEED], None);
    }

    #[test]
    fn numbers_in_both_ways_of_writing() {
        for (text, expected) in
            [("12\n", Some(12)), ("-1\n", Some(-1)), ("0x1003\n", Some(0x1003)), ("0x", None), ("", None), ("x", None)]
        {
            assert_eq!(number(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), digits in "(0x)?[-0-9a-fx]{0,25}") {
            number(&text);
            number(&digits);
        }
    }
}
