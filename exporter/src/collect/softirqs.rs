//! `softirqs`: software interrupts by CPU and kind.

use std::collections::HashSet;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Softirqs {
    /// The kernel's numbers of the CPUs, in the order of the columns.
    pub cpus: Vec<String>,
    pub rows: Vec<Row>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The kernel's name, `NET_RX`.
    pub kind: String,
    /// By CPU.
    pub counts: Vec<Option<u64>>,
}

pub type Found = Softirqs;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("softirqs");
    parse(reader.require(&path)?).ok_or_else(|| CollectError::malformed(&path, "no head with the CPUs"))
}

fn parse(text: &str) -> Option<Softirqs> {
    let mut lines = text.lines();
    let head = lines.next()?.split_ascii_whitespace();
    let cpus = head.map(|word| word.strip_prefix("CPU").map(str::to_owned)).collect::<Option<Vec<_>>>()?;
    let row = |line: &str| {
        let (kind, counts) = line.split_once(':')?;
        let counts = counts.split_ascii_whitespace().map(|word| word.parse().ok()).collect();
        Some(Row { kind: kind.trim().to_owned(), counts })
    };
    let mut rows: Vec<Row> = Vec::new();
    for row in lines.filter_map(row) {
        // The same kind twice would be the same series twice, as the same CPU would.
        if rows.iter().all(|known| known.kind != row.kind) {
            rows.push(row);
        }
    }
    let are_distinct = cpus.iter().collect::<HashSet<_>>().len() == cpus.len();
    (!cpus.is_empty() && are_distinct).then_some(Softirqs { cpus, rows })
}

const FUNCTIONS: Family = Family {
    name: "node_softirqs_functions_total",
    kind: Kind::Counter,
    help: "Software interrupts that the CPU has handled.",
    labels: &["cpu", "type"],
    source: "/proc/softirqs",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[FUNCTIONS];

pub fn write(softirqs: &Softirqs, out: &mut Exposition) {
    let mut family = out.family(&FUNCTIONS);
    for Row { kind, counts } in &softirqs.rows {
        for (cpu, count) in softirqs.cpus.iter().zip(counts) {
            if let Some(count) = count {
                family.sample(&[("cpu", cpu), ("type", kind)], *count);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_column_is_a_cpu() {
        let text = "                    CPU0       CPU3       \n          HI:          5          1\n\
            IRQ_POLL:          0          x\nodd\n          HI:          6          2\n";
        let row = |kind: &str, counts: [Option<u64>; 2]| Row { kind: kind.to_owned(), counts: counts.to_vec() };
        let rows = vec![row("HI", [Some(5), Some(1)]), row("IRQ_POLL", [Some(0), None])];
        assert_eq!(parse(text), Some(Softirqs { cpus: vec!["0".to_owned(), "3".to_owned()], rows }));
        for odd in ["", "\n", "HI: 5\n", "CPU0 x\nHI: 5 1\n", "CPU0 CPU0\nHI: 5 1\n"] {
            assert_eq!(parse(odd), None, "{odd}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[A-Z_]{0,9}:?( [0-9x]{0,25}){0,6}") {
            parse(&text);
            parse(&format!(" CPU0 CPU1\n{line}\n{text}"));
        }
    }
}
