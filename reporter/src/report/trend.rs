//! The vitals of this moment beside what is usual at this hour of the week.

use schemars::JsonSchema;
use serde::Serialize;

use super::facts::{Facts, Usual, Vital};
use super::{Unit, VitalReport};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trend {
    /// Much less than usual.
    Lower,
    Usual,
    /// Much more than usual.
    Higher,
}

/// So many spreads from the median is unlike the usual: fewer than one value in a hundred, where they only vary by chance.
const UNLIKE: f64 = 4.0;

/// Below such a difference nobody minds, however regular the vital usually is.
fn least(vital: Vital, of: Option<f64>) -> f64 {
    match vital {
        Vital::Cpu => 0.05,
        Vital::Load => 0.5,
        Vital::Memory | Vital::Swap => of.map_or(32e6, |all| all * 0.02),
        Vital::Temperature => 3.0,
        Vital::PressureCpu | Vital::PressureMemory | Vital::PressureIo => 0.02,
        Vital::NetworkReceived | Vital::NetworkSent => 50e3,
    }
}

/// Pure. `None` without a usual.
pub fn compare(vital: Vital, value: f64, of: Option<f64>, usual: Option<Usual>) -> Option<Trend> {
    let Usual { median, spread } = usual?;
    let margin = (spread * UNLIKE).max(least(vital, of));
    Some(match value - median {
        more if more > margin => Trend::Higher,
        less if less < -margin => Trend::Lower,
        _ => Trend::Usual,
    })
}

/// What could be measured, in the order in which people ask for it.
pub fn vitals(facts: &Facts) -> Vec<VitalReport> {
    let (machine, measured) = (&facts.machine, &facts.measured);
    let used = |total: Option<f64>, free: Option<f64>| Some(total? - free?);
    let swap = machine.swap_total.filter(|total| *total > 0.0);
    let all = [
        (Vital::Cpu, measured.cpu, Unit::Ratio, Some(1.0)),
        (Vital::Load, machine.load5, Unit::Processes, machine.cpus),
        (Vital::Memory, used(machine.memory_total, machine.memory_available), Unit::Bytes, machine.memory_total),
        (Vital::Swap, used(swap, machine.swap_free), Unit::Bytes, swap),
        (Vital::Temperature, machine.temperature, Unit::Celsius, None),
        (Vital::PressureCpu, measured.pressure_cpu, Unit::Ratio, Some(1.0)),
        (Vital::PressureMemory, measured.pressure_memory, Unit::Ratio, Some(1.0)),
        (Vital::PressureIo, measured.pressure_io, Unit::Ratio, Some(1.0)),
        (Vital::NetworkReceived, measured.network_received, Unit::BytesPerSecond, None),
        (Vital::NetworkSent, measured.network_sent, Unit::BytesPerSecond, None),
    ];
    let history = facts.history.as_ref().and_then(|history| history.as_ref().ok());
    let report = |(name, value, unit, of): (Vital, Option<f64>, Unit, Option<f64>)| {
        let value = value?;
        let usual = history.and_then(|history| history.usual.get(&name)).copied();
        Some(VitalReport { name, value, unit, of, usual, trend: compare(name, value, of, usual) })
    };
    all.into_iter().filter_map(report).collect()
}

impl Vital {
    /// For people.
    pub fn words(self) -> &'static str {
        match self {
            Vital::Cpu => "CPU",
            Vital::Load => "load",
            Vital::Memory => "memory",
            Vital::Swap => "swap",
            Vital::Temperature => "temperature",
            Vital::PressureCpu => "waiting for CPU",
            Vital::PressureMemory => "waiting for memory",
            Vital::PressureIo => "waiting for disk",
            Vital::NetworkReceived => "network in",
            Vital::NetworkSent => "network out",
        }
    }
}

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;
    use crate::baseline::usual::{HOURS_OF_WEEK, Profile};
    use crate::dice::Dice;
    use crate::recall::in_units;
    use crate::report::facts::History;
    use crate::report::testing::well;

    #[test]
    fn what_is_unlike_the_usual_is_told_and_small_differences_are_not() {
        let check = |vital, value: f64, of, usual: Option<(f64, f64)>, expected| {
            let usual = usual.map(|(median, spread)| Usual { median, spread });
            assert_eq!(compare(vital, value, of, usual), expected, "{vital:?} {value}");
        };
        check(Vital::Cpu, 0.9, Some(1.0), None, None);
        check(Vital::Cpu, 0.43, Some(1.0), Some((0.1, 0.08)), Some(Trend::Higher));
        check(Vital::Cpu, 0.41, Some(1.0), Some((0.1, 0.08)), Some(Trend::Usual));
        check(Vital::Cpu, 0.1, Some(1.0), Some((0.51, 0.1)), Some(Trend::Lower));
        // As regular as a clock, and yet a percent more is nothing.
        check(Vital::Cpu, 0.14, Some(1.0), Some((0.1, 0.0)), Some(Trend::Usual));
        check(Vital::Memory, 1.07e9, Some(4e9), Some((1e9, 0.0)), Some(Trend::Usual));
        check(Vital::Memory, 1.09e9, Some(4e9), Some((1e9, 0.0)), Some(Trend::Higher));
        check(Vital::Temperature, 54.0, None, Some((50.0, 0.9)), Some(Trend::Higher));
    }

    #[test]
    fn chance_alone_is_rarely_unlike_the_usual() {
        for weeks in [4, 8, 13] {
            let (mut unlike, mut all) = (0, 0);
            for seed in 0..20 {
                let mut dice = Dice(seed);
                // In degrees, of whose usual differences nobody minds less than three.
                let mut value = || 200.0 + 20.0 * dice.normal();
                let places = (0..weeks * HOURS_OF_WEEK).map(|hour| {
                    let day = jiff::civil::date(2026, 1, 5).saturating_add(((hour / 24) as i64).days());
                    ((hour % HOURS_OF_WEEK, day), value())
                });
                let profile = Profile::of_places(places.collect::<Vec<_>>());
                for hour in 0..HOURS_OF_WEEK {
                    let usual = in_units(profile.hour(hour).unwrap(), 1.0);
                    all += 1;
                    let trend = compare(Vital::Temperature, value(), None, Some(usual));
                    unlike += usize::from(trend != Some(Trend::Usual));
                }
            }
            assert!(unlike * 100 < all, "{unlike} of {all} after {weeks} weeks");
        }
    }

    #[test]
    fn vitals_that_can_not_be_measured_are_left_out() {
        let mut facts = well();
        let names = |facts: &Facts| vitals(facts).iter().map(|vital| vital.name).collect::<Vec<_>>();
        assert!(names(&facts).contains(&Vital::Cpu) && names(&facts).contains(&Vital::Temperature));
        facts.measured.cpu = None;
        facts.machine.temperature = None;
        assert!(!names(&facts).contains(&Vital::Cpu) && !names(&facts).contains(&Vital::Temperature));
        // No swap is not swap that is all free.
        facts.machine.swap_total = Some(0.0);
        assert!(!names(&facts).contains(&Vital::Swap));
    }

    #[test]
    fn the_usual_comes_from_the_history() {
        let mut facts = well();
        assert!(vitals(&facts).iter().all(|vital| vital.trend.is_none()));
        let usual = [(Vital::Cpu, Usual { median: 0.9, spread: 0.01 })].into();
        facts.history = Some(Ok(History { usual, ..History::default() }));
        assert_eq!(vitals(&facts)[0].trend, Some(Trend::Lower));
    }
}
