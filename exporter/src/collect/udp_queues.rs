//! `udp_queues`: bytes that wait in the host's UDP sockets.

use std::io;
use std::path::Path;

use super::{Access, CollectError, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some("success is 0 where the kernel has no IP, as with node_exporter.");

/// `None`: this IP is switched off.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct UdpQueues {
    pub v4: Option<Queues>,
    pub v6: Option<Queues>,
}

/// Of all sockets together.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Queues {
    pub transmit: u64,
    pub receive: u64,
}

pub type Found = UdpQueues;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let found =
        UdpQueues { v4: queues(reader, &roots.proc("1/net/udp"))?, v6: queues(reader, &roots.proc("1/net/udp6"))? };
    if found == (UdpQueues { v4: None, v6: None }) {
        return Err(CollectError::Absent { what: "this kernel has no IP".to_owned() });
    }
    Ok(found)
}

fn queues(reader: &mut Reader, path: &Path) -> Result<Option<Queues>, CollectError> {
    match reader.text(path) {
        Ok(text) => Ok(Some(parse(text))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(CollectError::Read { path: path.to_owned(), source }),
    }
}

/// A socket a line, `TX:RX` in its fifth column, hexadecimal; the header has no such.
fn parse(text: &str) -> Queues {
    let mut sum = Queues::default();
    for line in text.lines() {
        let hexadecimal = |word: &str| u64::from_str_radix(word, 16).ok();
        let column = line.split_ascii_whitespace().nth(4).and_then(|word| word.split_once(':'));
        if let Some((transmit, receive)) = column
            && let (Some(transmit), Some(receive)) = (hexadecimal(transmit), hexadecimal(receive))
        {
            sum.transmit = sum.transmit.saturating_add(transmit);
            sum.receive = sum.receive.saturating_add(receive);
        }
    }
    sum
}

const QUEUES: Family = Family {
    name: "node_udp_queues",
    kind: Kind::Gauge,
    help: "Bytes that wait in UDP sockets, to be sent (tx) or to be read (rx).",
    labels: &["queue", "ip"],
    source: "/proc/1/net/udp and udp6, all sockets together",
};
pub const FAMILIES: &[Family] = &[QUEUES];

pub fn write(found: &UdpQueues, out: &mut Exposition) {
    let mut family = out.family(&QUEUES);
    for (ip, queues) in [("v4", found.v4), ("v6", found.v6)] {
        if let Some(Queues { transmit, receive }) = queues {
            family.sample(&[("queue", "tx"), ("ip", ip)], transmit);
            family.sample(&[("queue", "rx"), ("ip", ip)], receive);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn queues_are_added_up() {
        let header = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n";
        let line = |queues: &str| {
            format!(
                " 1162: 00000000:0044 00000000:0000 07 {queues} 00:00000000 00000000     0        0 24691 2 ffff0 0\n"
            )
        };
        let check = |lines: &[String], transmit: u64, receive: u64| {
            assert_eq!(parse(&format!("{header}{}", lines.concat())), Queues { transmit, receive }, "{lines:?}");
        };
        check(&[], 0, 0);
        check(&[line("00000015:00000000"), line("00000001:00000300")], 22, 768);
        check(
            &[line("x:1"), line("00000300"), "odd\n".to_owned(), line("ffffffffffffffff:2"), line("1:1")],
            u64::MAX,
            3,
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "( [0-9a-fx:]{0,19}){0,8}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
