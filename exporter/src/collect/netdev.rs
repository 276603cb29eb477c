//! `netdev`: traffic of each network interface of the host; the parser also serves the containers' interfaces.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

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

/// /proc/net is that of the reader; the host's is that of its first process.
pub type Found = Vec<Interface>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.proc("1/net/dev");
    let mut interfaces = parse(reader.require(&path)?);
    if interfaces.is_empty() {
        return Err(CollectError::malformed(&path, "no interface found"));
    }
    interfaces.retain(|interface| settings.netdev_devices.takes(&interface.name));
    Ok(interfaces)
}

/// Lines that are not understood are left out. A name may contain colons, so the last one before the numbers ends it.
pub fn parse(text: &str) -> Vec<Interface> {
    text.lines()
        .filter_map(|line| {
            let (name, numbers) = line.rsplit_once(':')?;
            let mut numbers = numbers.split_ascii_whitespace().map(|word| word.parse::<u64>().ok());
            let mut next = || numbers.next()?;
            Some(Interface {
                name: name.trim().to_owned(),
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
            })
        })
        .collect()
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
pub const FAMILIES: &[Family] = &{
    let mut families = [COLUMNS[0].0; COLUMNS.len()];
    let mut at = 0;
    while at < COLUMNS.len() {
        families[at] = COLUMNS[at].0;
        at += 1;
    }
    families
};

pub fn write(interfaces: &[Interface], out: &mut Exposition) {
    for (family, value) in &COLUMNS {
        let mut family = out.family(family);
        for interface in interfaces {
            family.sample(&[("device", &interface.name)], value(interface));
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn columns_land_in_their_fields() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes    packets errs|bytes\n    lo: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n\
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
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[a-z:]{0,9}:( [0-9-]{0,22}){0,18}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
