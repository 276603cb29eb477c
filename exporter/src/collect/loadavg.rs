//! `loadavg`: processes that run or wait, averaged.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Loadavg {
    pub one: f64,
    pub five: f64,
    pub fifteen: f64,
}

pub type Found = Loadavg;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("loadavg");
    parse(reader.require(&path)?).ok_or_else(|| CollectError::malformed(&path, "three averages wanted"))
}

fn parse(text: &str) -> Option<Loadavg> {
    let mut words = text.split_whitespace().map(|word| word.parse().ok());
    Some(Loadavg { one: words.next()??, five: words.next()??, fifteen: words.next()?? })
}

const LOAD1: Family = gauge("node_load1", "1m load average.", "/proc/loadavg, first number");
const LOAD5: Family = gauge("node_load5", "5m load average.", "/proc/loadavg, second number");
const LOAD15: Family = gauge("node_load15", "15m load average.", "/proc/loadavg, third number");
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[LOAD1, LOAD5, LOAD15];

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source }
}

pub fn write(load: &Loadavg, out: &mut Exposition) {
    out.family(&LOAD1).single(load.one);
    out.family(&LOAD5).single(load.five);
    out.family(&LOAD15).single(load.fifteen);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn three_averages() {
        assert_eq!(parse("0.21 0.37 1.00 1/107 4711\n"), Some(Loadavg { one: 0.21, five: 0.37, fifteen: 1.0 }));
        assert_eq!(parse("0.21 0.37"), None);
        assert_eq!(parse("0.21 x 1.00"), None);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            parse(&text);
        }
    }
}
