//! `sockstat`: sockets of the host by protocol and state, and the memory they hold.

use std::io;
use std::path::Path;

use super::{Access, CollectError, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind, is_field};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Sockstat {
    /// Sockets of all kinds, unix sockets too.
    pub used: Option<u64>,
    /// Sorted by name, each once.
    pub protocols: Vec<Protocol>,
    pub page_size: u64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Protocol {
    /// The kernel's name, `TCP` or `UDP6`.
    pub name: String,
    /// In the order of `STATES`.
    pub states: [Option<u64>; STATES.len()],
}

/// The kernel's words, of which a protocol has some.
const STATES: [&str; 6] = ["inuse", "orphan", "tw", "alloc", "mem", "memory"];
/// The place of the one that is in pages.
const MEM: usize = 4;

pub type Found = Sockstat;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, calls, .. } = access;
    let mut found = Sockstat { page_size: (calls.page_size)() as u64, ..Sockstat::default() };
    let is_there = [
        add(reader, &roots.proc("1/net/sockstat"), &mut found)?,
        // Not there when IPv6 is switched off.
        add(reader, &roots.proc("1/net/sockstat6"), &mut found)?,
    ];
    if is_there == [false, false] {
        return Err(CollectError::Absent { what: "this kernel has no IP".to_owned() });
    }
    Ok(found)
}

/// Says whether the file is there.
fn add(reader: &mut Reader, path: &Path, found: &mut Sockstat) -> Result<bool, CollectError> {
    match reader.text(path) {
        Ok(text) => parse(text, found),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(source) => return Err(CollectError::Read { path: path.to_owned(), source }),
    }
    Ok(true)
}

/// A protocol a line, then words and their numbers.
fn parse(text: &str, found: &mut Sockstat) {
    for line in text.lines() {
        let Some((name, rest)) = line.split_once(':') else { continue };
        let mut words = rest.split_ascii_whitespace();
        let mut used = None;
        let mut states = [None; STATES.len()];
        while let (Some(word), Some(number)) = (words.next(), words.next()) {
            let number = number.parse().ok();
            if let Some(at) = STATES.iter().position(|state| *state == word) {
                states[at] = number;
            } else if word == "used" {
                used = number;
            }
        }
        if name == "sockets" {
            found.used = used;
        } else if is_field(name) {
            found.protocols.push(Protocol { name: name.to_owned(), states });
        }
    }
    found.protocols.sort_by(|one, other| one.name.cmp(&other.name));
    found.protocols.dedup_by(|later, first| later.name == first.name);
}

const USED: Family = gauge(
    "node_sockstat_sockets_used",
    "Sockets of the host's network, of all kinds.",
    "/proc/1/net/sockstat, sockets used",
);
const STATE: Family = gauge(
    "node_sockstat_<field>",
    "Sockets of a protocol by the kernel's word.",
    "/proc/1/net/sockstat and sockstat6: protocol (TCP, UDP, UDPLITE, RAW, FRAG, TCP6, ...) and word (inuse, orphan, tw, \
    alloc; mem is memory in pages, memory is in bytes)",
);
const MEM_BYTES: Family = gauge(
    "node_sockstat_<field>_mem_bytes",
    "Memory that the sockets of a protocol hold.",
    "/proc/1/net/sockstat, mem of TCP and UDP times the size of a page",
);
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[MEM_BYTES, STATE, USED];

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source }
}

pub fn write(sockstat: &Sockstat, out: &mut Exposition) {
    if let Some(used) = sockstat.used {
        out.family(&USED).single(used);
    }
    for Protocol { name, states } in &sockstat.protocols {
        for (word, value) in STATES.iter().zip(states) {
            if let Some(value) = value {
                out.named_family(&format!("node_sockstat_{name}_{word}"), STATE.kind, STATE.help).single(*value);
            }
        }
        if let Some(bytes) = states[MEM].and_then(|pages| pages.checked_mul(sockstat.page_size)) {
            let family = format!("node_sockstat_{name}_mem_bytes");
            out.named_family(&family, MEM_BYTES.kind, MEM_BYTES.help).single(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::exposition::Format;

    fn written(text: &str) -> String {
        let mut sockstat = Sockstat { page_size: 16384, ..Sockstat::default() };
        parse(text, &mut sockstat);
        let mut out = Exposition::new(Format::Text);
        write(&sockstat, &mut out);
        let body = out.finish();
        let samples = body.lines().filter_map(|line| line.strip_prefix("node_sockstat_"));
        samples.collect::<Vec<_>>().join("; ")
    }

    #[test]
    fn words_that_a_protocol_has() {
        let check = |text: &str, expected: &str| assert_eq!(written(text), expected, "{text}");
        check("sockets: used 229\n", "sockets_used 229");
        check(
            "TCP: inuse 4 orphan 0 tw 4 alloc 17 mem 2\n",
            "TCP_inuse 4; TCP_orphan 0; TCP_tw 4; TCP_alloc 17; TCP_mem 2; TCP_mem_bytes 32768",
        );
        check("FRAG: inuse 0 memory 0\nUDPLITE6: inuse 1\n", "FRAG_inuse 0; FRAG_memory 0; UDPLITE6_inuse 1");
        check("TCP: inuse x new 5 tw\nRAW: inuse 1\nRAW: inuse 2\nodd\nA-B: inuse 1\n", "RAW_inuse 1");
        check("UDP: mem 18446744073709551615\n", "UDP_mem 18446744073709551615");
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[A-Z0-9]{0,5}:( (inuse|mem|used|tw) [0-9x]{0,22}){0,5}") {
            written(&format!("{text}\n{line}\n"));
        }
    }
}
