//! `filefd`: open files of the whole host.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Filefd {
    pub allocated: u64,
    pub maximum: u64,
}

pub type Found = Filefd;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("sys/fs/file-nr");
    parse(reader.require(&path)?).ok_or_else(|| CollectError::malformed(&path, "three numbers wanted"))
}

/// The second number is always zero.
fn parse(text: &str) -> Option<Filefd> {
    let mut numbers = text.split_ascii_whitespace().map(|word| word.parse().ok());
    let allocated = numbers.next()??;
    numbers.next()??;
    Some(Filefd { allocated, maximum: numbers.next()?? })
}

const ALLOCATED: Family = gauge("node_filefd_allocated", "Open files of all processes.", "/proc/sys/fs/file-nr, first");
const MAXIMUM: Family =
    gauge("node_filefd_maximum", "Open files of all processes at most.", "/proc/sys/fs/file-nr, third");
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[ALLOCATED, MAXIMUM];

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source }
}

pub fn write(filefd: &Filefd, out: &mut Exposition) {
    out.family(&ALLOCATED).single(filefd.allocated);
    out.family(&MAXIMUM).single(filefd.maximum);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_first_and_the_third_count() {
        let check = |text: &str, expected: Option<(u64, u64)>| {
            let expected = expected.map(|(allocated, maximum)| Filefd { allocated, maximum });
            assert_eq!(parse(text), expected, "{text}");
        };
        check("1184\t0\t9223372036854775807\n", Some((1184, 9_223_372_036_854_775_807)));
        check("1184 0 376712", Some((1184, 376_712)));
        for odd in ["", "1184\t0\n", "1184\tx\t5\n", "-1\t0\t5\n"] {
            check(odd, None);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "([0-9x-]{0,25}\t){0,4}") {
            parse(&text);
            parse(&line);
        }
    }
}
