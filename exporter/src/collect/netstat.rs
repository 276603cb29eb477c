//! `netstat`: counters of IP, ICMP, TCP and UDP, by the kernel's names.

use std::io;

use super::{Access, CollectError};
use crate::exposition::{Exposition, Value};
use crate::family::{Family, Kind, is_field};
use crate::filter::{Chosen, Filter};

#[derive(Clone, Debug, PartialEq)]
pub struct Statistic {
    /// The protocol and the name, `Tcp_CurrEstab`.
    pub name: String,
    pub value: Value,
}

/// Sorted by name, each once.
pub type Found = Vec<Statistic>;

/// Which fields are wanted: there are hundreds, and a pattern of many words to match them with.
#[derive(Debug, Default)]
pub struct Kept {
    netstat: Chosen,
    snmp: Chosen,
    snmp6: Chosen,
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let fields = &settings.netstat_fields;
    let mut found = parse(reader.require(&roots.proc("1/net/netstat"))?, fields, &mut kept.netstat);
    found.append(&mut parse(reader.require(&roots.proc("1/net/snmp"))?, fields, &mut kept.snmp));
    let path = roots.proc("1/net/snmp6");
    match reader.text(&path) {
        Ok(text) => found.append(&mut parse_snmp6(text, fields, &mut kept.snmp6)),
        // IPv6 is switched off.
        Err(error) if error.kind() == io::ErrorKind::NotFound => (),
        Err(source) => return Err(CollectError::Read { path, source }),
    }
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found.dedup_by(|later, first| later.name == first.name);
    Ok(found)
}

/// The fields of a file, some of them wanted.
struct Picker<'a> {
    fields: &'a Filter,
    chosen: &'a mut Chosen,
    /// How many fields were before.
    at: usize,
    name: String,
    found: Vec<Statistic>,
}

impl<'a> Picker<'a> {
    fn new(fields: &'a Filter, chosen: &'a mut Chosen) -> Self {
        Picker { fields, chosen, at: 0, name: String::new(), found: Vec::with_capacity(64) }
    }

    fn pick(&mut self, protocol: &str, field: &str, value: &str) {
        self.name.clear();
        self.name.push_str(protocol);
        self.name.push('_');
        self.name.push_str(field);
        let is_wanted = self.chosen.is_wanted(self.at, &self.name, |name| is_field(name) && self.fields.takes(name));
        self.at += 1;
        if is_wanted && let Some(value) = number(value) {
            self.found.push(Statistic { name: self.name.clone(), value });
        }
    }
}

/// `Tcp_MaxConn` is -1 where there is no limit.
fn number(word: &str) -> Option<Value> {
    let unsigned = word.parse().map(Value::Unsigned);
    unsigned.or_else(|_| word.parse().map(Value::Signed)).ok()
}

/// Pairs of lines that begin with a protocol: names, then values. A pair that does not match is left out.
fn parse(text: &str, fields: &Filter, chosen: &mut Chosen) -> Vec<Statistic> {
    let mut picker = Picker::new(fields, chosen);
    let mut names = None;
    for line in text.lines() {
        let Some((protocol, words)) = line.split_once(':') else { continue };
        match names.take() {
            Some((of, names)) if of == protocol => {
                let values = words.split_ascii_whitespace();
                let names: std::str::SplitAsciiWhitespace<'_> = names;
                if names.clone().count() == values.clone().count() {
                    names.zip(values).for_each(|(name, value)| picker.pick(protocol, name, value));
                }
            }
            _ => names = Some((protocol, words.split_ascii_whitespace())),
        }
    }
    picker.found
}

/// A name and its value a line; the protocol is the part of the name that ends in 6.
fn parse_snmp6(text: &str, fields: &Filter, chosen: &mut Chosen) -> Vec<Statistic> {
    let mut picker = Picker::new(fields, chosen);
    for line in text.lines() {
        let mut words = line.split_ascii_whitespace();
        if let (Some(name), Some(value)) = (words.next(), words.next())
            && let Some((protocol, field)) = name.find('6').and_then(|six| name.split_at_checked(six + 1))
        {
            picker.pick(protocol, field, value);
        }
    }
    picker.found
}

const FIELD: Family = Family {
    name: "node_netstat_<field>",
    kind: Kind::Untyped,
    help: "Statistic of the host's network, by the kernel's name.",
    labels: &[],
    source: "/proc/1/net/netstat, snmp and snmp6; which fields --collector.netstat.fields says",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[FIELD];

pub fn write(statistics: &[Statistic], out: &mut Exposition) {
    for Statistic { name, value } in statistics {
        out.named_family(&format!("node_netstat_{name}"), FIELD.kind, FIELD.help).single(*value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    type Parse = fn(&str, &Filter, &mut Chosen) -> Vec<Statistic>;

    fn names_and_values(parse: Parse, text: &str, fields: &str) -> String {
        let (fields, mut chosen) = (Filter::new(fields, "").unwrap(), Chosen::default());
        let first = parse(text, &fields, &mut chosen);
        assert_eq!(parse(text, &fields, &mut chosen), first, "what was remembered changes nothing");
        let pair = |Statistic { name, value }: &Statistic| match value {
            Value::Unsigned(value) => format!("{name}={value}"),
            Value::Signed(value) => format!("{name}={value}"),
            Value::Float(value) => format!("{name}={value}"),
            Value::Nanoseconds(_) => panic!("the kernel writes no time here"),
        };
        first.iter().map(pair).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn pairs_of_lines() {
        let check = |text: &str, fields: &str, expected: &str| {
            assert_eq!(names_and_values(parse, text, fields), expected, "{text}");
        };
        let tcp = "Tcp: MaxConn InSegs CurrEstab\nTcp: -1 18446744073709551615 3\n";
        check(tcp, "", "Tcp_MaxConn=-1 Tcp_InSegs=18446744073709551615 Tcp_CurrEstab=3");
        check(tcp, "^Tcp_Curr", "Tcp_CurrEstab=3");
        check("Ip: Forwarding\nIp: 1\nUdp: NoPorts\nUdp: 5\n", "", "Ip_Forwarding=1 Udp_NoPorts=5");
        check("odd\nIp: Forwarding\nUdp: NoPorts\nUdp: 5\nTcp: x\n", "", "Udp_NoPorts=5");
        check("Ip: Forwarding DefaultTTL\nIp: 1\nUdp: NoPorts\nUdp: 5\n", "", "Udp_NoPorts=5");
        check("Ip: Forwarding Bad-Name NoNumber\nIp: 1 2 x\n", "", "Ip_Forwarding=1");
        check("Ip:\nIp:\n", "", "");
    }

    #[test]
    fn lines_of_ipv6() {
        let check = |text: &str, expected: &str| {
            assert_eq!(names_and_values(parse_snmp6, text, ""), expected, "{text}");
        };
        check("Ip6InReceives                   \t15\n", "Ip6_InReceives=15");
        check("Icmp6OutType135\t2\nUdpLite6InErrors 0\n", "Icmp6_OutType135=2 UdpLite6_InErrors=0");
        check("NoSix 1\nIp6Lonely\nIp6 7\n", "Ip6_=7");
    }

    proptest! {
        #[test]
        fn never_panics_and_names_are_valid(
            text in any::<String>(),
            lines in proptest::collection::vec("(Tcp|Ip6?)(: | )?([A-Za-z0-9 -]{0,30})", 0..8),
        ) {
            let (mut chosen, mut chosen6) = (Chosen::default(), Chosen::default());
            for text in [text.clone(), lines.join("\n"), text] {
                let found = parse(&text, &Filter::default(), &mut chosen);
                let found6 = parse_snmp6(&text, &Filter::default(), &mut chosen6);
                prop_assert!(found.iter().chain(&found6).all(|statistic| is_field(&statistic.name)));
            }
        }
    }
}
