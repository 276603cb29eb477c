//! `meminfo`: every line of /proc/meminfo as a family, as node_exporter does.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind, is_field};

/// Lines in the kernel's order.
#[derive(Clone, Debug, PartialEq)]
pub struct Meminfo {
    pub fields: Vec<Field>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Field {
    /// The family's name after `node_memory_`.
    pub name: String,
    /// Bytes, or a count for the few fields without a unit (`HugePages_Total`).
    pub value: u64,
}

pub type Found = Meminfo;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("meminfo");
    let fields = parse(reader.require(&path)?);
    if fields.is_empty() {
        return Err(CollectError::malformed(&path, "no field found"));
    }
    Ok(Meminfo { fields })
}

/// Lines that are not understood are left out.
fn parse(text: &str) -> Vec<Field> {
    let mut fields: Vec<Field> = Vec::with_capacity(64);
    for line in text.lines() {
        let Some((key, rest)) = line.split_once(':') else { continue };
        // `Active(anon)` becomes `Active_anon`.
        let mut name = key.trim().replace('(', "_").replace(')', "");
        if !is_field(&name) {
            continue;
        }
        let mut words = rest.split_whitespace();
        let Some(value) = words.next().and_then(|word| word.parse::<u64>().ok()) else { continue };
        let value = match words.next() {
            None => value,
            Some("kB") => {
                name.push_str("_bytes");
                let Some(bytes) = value.checked_mul(1024) else { continue };
                bytes
            }
            Some(_) => continue,
        };
        if fields.iter().all(|field| field.name != name) {
            fields.push(Field { name, value });
        }
    }
    fields
}

pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[
    Family {
        name: "node_memory_<field>_bytes",
        kind: Kind::Gauge,
        help: "Memory information field <field>_bytes.",
        labels: &[],
        source: "/proc/meminfo, each line in kB; `(` in a name becomes `_`, `)` is dropped",
    },
    Family {
        name: "node_memory_<field>",
        kind: Kind::Gauge,
        help: "Memory information field <field>.",
        labels: &[],
        source: "/proc/meminfo, lines without a unit, such as HugePages_Total",
    },
];

pub fn write(meminfo: &Meminfo, out: &mut Exposition) {
    for Field { name, value } in &meminfo.fields {
        // node_exporter's rule: a field with such a name would be a counter.
        let kind = if name.ends_with("_total") { Kind::Counter } else { Kind::Gauge };
        out.named_family(&format!("node_memory_{name}"), kind, &format!("Memory information field {name}."))
            .single(*value);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn fields_with_and_without_a_unit() {
        let text = "MemTotal:        3884372 kB\nActive(anon):     12 kB\nHugePages_Total:       4\nodd\n\
            Odd unit: 1 kB\nBad: x kB\nBad2: 1 pages\nMemTotal: 1 kB\nHuge: 18446744073709551615 kB\n";
        let field = |name: &str, value| Field { name: name.to_owned(), value };
        assert_eq!(
            parse(text),
            [
                field("MemTotal_bytes", 3884372 * 1024),
                field("Active_anon_bytes", 12 * 1024),
                field("HugePages_Total", 4)
            ]
        );
    }

    proptest! {
        #[test]
        fn never_panics_and_names_are_valid(text in any::<String>(), key in "[ -~]{0,12}", value in any::<u64>()) {
            for field in parse(&format!("{text}\n{key}: {value} kB\n")) {
                prop_assert!(is_field(&field.name));
            }
        }
    }
}
