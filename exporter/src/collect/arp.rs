//! `arp`: entries of the host's ARP table by network interface.

use std::collections::BTreeMap;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

/// Entries by interface.
pub type Found = BTreeMap<String, u64>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.proc("1/net/arp");
    let mut entries = parse(reader.require(&path)?);
    entries.retain(|device, _| settings.arp_devices.takes(device));
    Ok(entries)
}

/// The bit of an address that the host answers for in the place of another: not a neighbour.
const PUBLISHED: u32 = 0x8;

/// The kernel itself leaves out what needs no ARP, such as broadcast addresses; what it asks for in vain is there.
fn parse(text: &str) -> BTreeMap<String, u64> {
    let mut entries = BTreeMap::new();
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        // IP address, hardware type, flags, hardware address (which may be empty), mask, device.
        let flags = words.nth(2).and_then(|word| u32::from_str_radix(word.strip_prefix("0x")?, 16).ok());
        let (Some(flags), Some(device)) = (flags, words.next_back()) else { continue };
        if flags & PUBLISHED != 0 {
            continue;
        }
        match entries.get_mut(device) {
            Some(count) => *count += 1,
            None => _ = entries.insert(device.to_owned(), 1),
        }
    }
    entries
}

const ENTRIES: Family = Family {
    name: "node_arp_entries",
    kind: Kind::Gauge,
    help: "Entries in the ARP table.",
    labels: &["device"],
    source: "/proc/1/net/arp; no sample for an interface without any, addresses answered for others are not counted",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[ENTRIES];

pub fn write(entries: &Found, out: &mut Exposition) {
    let mut family = out.family(&ENTRIES);
    for (device, count) in entries {
        family.sample(&[("device", device)], *count);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn entries_are_counted_by_interface() {
        let header = "IP address       HW type     Flags       HW address            Mask     Device\n";
        let check = |lines: &str, expected: &[(&str, u64)]| {
            let found = parse(&format!("{header}{lines}"));
            let found: Vec<(&str, u64)> = found.iter().map(|(device, count)| (device.as_str(), *count)).collect();
            assert_eq!(found, expected, "{lines}");
        };
        check("", &[]);
        check("192.168.1.1      0x1         0x2         b8:27:eb:00:00:01     *        eth0\n", &[("eth0", 1)]);
        check(
            "10.0.0.1 0x1 0x2 02:fc:00:00:00:05 * eth0\n10.0.0.2 0x1 0x0 00:00:00:00:00:00 * eth0\n172.17.0.2 0x1 0x6 02:42:ac:11:00:02 * docker0\n",
            &[("docker0", 1), ("eth0", 2)],
        );
        check("10.0.0.3 0x1 0xc 00:00:00:00:00:00 * eth0\n", &[]);
        check("10.0.0.4 0x1 0x2 * tun0\n", &[("tun0", 1)]);
        check("10.0.0.5 0x1\nodd\n10.0.0.6 0x1 2 02:fc:00:00:00:05 * eth0\n", &[]);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9.]{0,9}( (0x)?[0-9a-f:]{0,9}){0,7}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
