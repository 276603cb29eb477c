//! `softnet`: how each CPU copes with the packets that arrive.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Cpu {
    pub number: u32,
    /// In the order of `COLUMNS`; an older kernel has fewer.
    pub values: [Option<u32>; COLUMNS.len()],
}

pub type Found = Vec<Cpu>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("1/net/softnet_stat");
    let cpus = parse(reader.require(&path)?);
    if cpus.is_empty() {
        return Err(CollectError::malformed(&path, "no line of a CPU found"));
    }
    Ok(cpus)
}

/// No kernel since 2.6.23 has fewer columns.
const FEWEST_COLUMNS: usize = 9;
/// The column with the number of the CPU. Older kernels lack it: then it is that of the line, wrong where one is offline.
const NUMBER: usize = 12;

/// Hexadecimal numbers, a line a CPU.
fn parse(text: &str) -> Vec<Cpu> {
    let cpu = |(line_number, line): (usize, &str)| {
        let mut row = [None; NUMBER + 1];
        let mut width = 0;
        for (field, word) in row.iter_mut().zip(line.split_ascii_whitespace()) {
            *field = Some(u32::from_str_radix(word, 16).ok()?);
            width += 1;
        }
        let number = row[NUMBER].or_else(|| u32::try_from(line_number).ok())?;
        (width >= FEWEST_COLUMNS).then(|| Cpu { number, values: COLUMNS.map(|(at, _)| row[at]) })
    };
    let mut cpus: Vec<Cpu> = Vec::new();
    for cpu in text.lines().enumerate().filter_map(cpu) {
        // The same CPU twice would be the same series twice.
        if cpus.iter().all(|known| known.number != cpu.number) {
            cpus.push(cpu);
        }
    }
    cpus
}

/// With the column each comes from.
const COLUMNS: [(usize, Family); 7] = [
    (0, column!("processed_total", Counter, "Packets that the CPU has processed.", "1st column")),
    (
        1,
        column!("dropped_total", Counter, "Packets dropped because the CPU had too many waiting for it.", "2nd column"),
    ),
    (
        2,
        column!(
            "times_squeezed_total",
            Counter,
            "Times that the CPU had to stop, its share of time or packets used up, with more packets to process.",
            "3rd column"
        ),
    ),
    (8, column!("cpu_collision_total", Counter, "Times that another CPU was sending on the device.", "9th column")),
    (9, column!("received_rps_total", Counter, "Times that another CPU woke this one for packets.", "10th column")),
    (
        10,
        column!("flow_limit_count_total", Counter, "Times that a flow was limited in favour of others.", "11th column"),
    ),
    (11, column!("backlog_len", Gauge, "Packets that wait for the CPU.", "12th column")),
];

macro_rules! column {
    ($name:literal, $kind:ident, $help:literal, $column:literal) => {
        Family {
            name: concat!("node_softnet_", $name),
            kind: Kind::$kind,
            help: $help,
            labels: &["cpu"],
            source: concat!("/proc/1/net/softnet_stat, ", $column),
        }
    };
}
use column;

pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &{
    let mut families = [COLUMNS[0].1; COLUMNS.len()];
    let mut at = 0;
    while at < COLUMNS.len() {
        families[at] = COLUMNS[at].1;
        at += 1;
    }
    families
};

pub fn write(cpus: &[Cpu], out: &mut Exposition) {
    for (at, (_, family)) in COLUMNS.iter().enumerate() {
        let mut family = out.family(family);
        for cpu in cpus {
            if let Some(value) = cpu.values[at] {
                family.sample(&[("cpu", &cpu.number.to_string())], value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn lines_of_newer_and_older_kernels() {
        let check = |text: &str, expected: &[(u32, [Option<u32>; COLUMNS.len()])]| {
            let expected: Vec<Cpu> = expected.iter().map(|&(number, values)| Cpu { number, values }).collect();
            assert_eq!(parse(text), expected, "{text}");
        };
        let nine = "00013d57 00000001 00000003 00000000 00000000 00000000 00000000 00000000 00000004";
        let some = [81_239, 1, 3, 4].map(Some);
        check(&format!("{nine}\n"), &[(0, [some[0], some[1], some[2], some[3], None, None, None])]);
        check(
            &format!("odd\n{nine} 00000005\n{nine} 00000005 00000006 00000007 00000003 00000000 00000000\n"),
            &[
                (1, [some[0], some[1], some[2], some[3], Some(5), None, None]),
                (3, [some[0], some[1], some[2], some[3], Some(5), Some(6), Some(7)]),
            ],
        );
        let numbered = format!("{nine} 00000005 00000006 00000007 00000003\n");
        check(&numbered.repeat(2), &[(3, [some[0], some[1], some[2], some[3], Some(5), Some(6), Some(7)])]);
        check("00000001 00000002\n", &[]);
        check(&format!("{nine} 1ffffffff\n"), &[]);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "([0-9a-fx]{0,9} ){0,16}") {
            parse(&format!("{text}\n{line}\n"));
        }
    }
}
