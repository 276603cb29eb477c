//! `timex`: how well the kernel's clock follows a time server (adjtimex(2)).
//!
//! There is one clock for all containers, so that the exporter's answer is the host's.

use std::io;

use super::{Access, CollectError};
use crate::exposition::{Exposition, Value};
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the exporter may not ask the kernel (a seccomp profile), as with node_exporter.");

/// The kernel's numbers as it gives them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Timex {
    /// What the call returned: one of `TIME_OK` and its like.
    pub state: i64,
    /// Bits `STA_…`.
    pub status: i64,
    /// Nanoseconds or microseconds, as `STA_NANO` says.
    pub offset: i64,
    /// Parts per million, scaled by 2^16; so are `ppsfreq` and `stabil`.
    pub freq: i64,
    /// Microseconds; so are `esterror` and `tick`.
    pub maxerror: i64,
    pub esterror: i64,
    pub tick: i64,
    pub constant: i64,
    pub ppsfreq: i64,
    /// In the unit of `offset`.
    pub jitter: i64,
    pub shift: i64,
    pub stabil: i64,
    pub jitcnt: i64,
    pub calcnt: i64,
    pub errcnt: i64,
    pub stbcnt: i64,
    pub tai: i64,
}

/// How the kernel is asked; a function of its own so that fixtures can answer in its place.
pub type Ask = fn() -> io::Result<Timex>;

pub type Found = Timex;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    (access.calls.adjtimex)().map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => {
            CollectError::Absent { what: "the kernel's clock may not be asked (adjtimex)".to_owned() }
        }
        _ => CollectError::Failed { what: format!("can't ask the kernel's clock (adjtimex): {error}") },
    })
}

/// Asks the kernel, and changes nothing.
#[expect(unsafe_code, reason = "no safe crate of ours has adjtimex")]
pub fn adjtimex() -> io::Result<Timex> {
    // SAFETY: the struct holds nothing but integers, for which zeros are values; `modes` 0 makes the call a read. The
    // kernel writes to the struct alone, which outlives the call.
    let (state, raw) = unsafe {
        let mut raw: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut raw), raw)
    };
    if state < 0 {
        return Err(io::Error::last_os_error());
    }
    // The integers are of 32 or 64 bits, as the platform has it.
    #[allow(clippy::useless_conversion, reason = "not useless on 32 bits")]
    Ok(Timex {
        state: state.into(),
        status: raw.status.into(),
        offset: raw.offset.into(),
        freq: raw.freq.into(),
        maxerror: raw.maxerror.into(),
        esterror: raw.esterror.into(),
        tick: raw.tick.into(),
        constant: raw.constant.into(),
        ppsfreq: raw.ppsfreq.into(),
        jitter: raw.jitter.into(),
        shift: raw.shift.into(),
        stabil: raw.stabil.into(),
        jitcnt: raw.jitcnt.into(),
        calcnt: raw.calcnt.into(),
        errcnt: raw.errcnt.into(),
        stbcnt: raw.stbcnt.into(),
        tai: raw.tai.into(),
    })
}

/// The clock follows no server: `TIME_ERROR`.
const NOT_SYNCHRONISED: i64 = 5;
/// Offset and jitter are in nanoseconds: `STA_NANO`.
const NANOSECONDS: i64 = 0x2000;
/// Parts per million with 16 bits of fraction.
const PPM_SCALED: f64 = 1e6 * 65536.0;

const SOURCE: &str = "adjtimex(2)";

const ESTIMATED_ERROR: Family = gauge("node_timex_estimated_error_seconds", "Estimated error of the clock.");
const FREQUENCY: Family =
    gauge("node_timex_frequency_adjustment_ratio", "How much faster the clock is made to run, 1 is not at all.");
const LOOP_TIME_CONSTANT: Family =
    gauge("node_timex_loop_time_constant", "Time constant of the loop that steers the clock.");
const MAXERROR: Family = gauge("node_timex_maxerror_seconds", "Largest error that the clock may have.");
const OFFSET: Family = gauge("node_timex_offset_seconds", "What is left to correct of the clock's offset.");
const PPS_CALIBRATION: Family =
    counter("node_timex_pps_calibration_total", "Calibration intervals of the pulse per second.");
const PPS_ERROR: Family = counter("node_timex_pps_error_total", "Calibration errors of the pulse per second.");
const PPS_FREQUENCY: Family = gauge("node_timex_pps_frequency_hertz", "Frequency offset of the pulse per second.");
const PPS_JITTER: Family = gauge("node_timex_pps_jitter_seconds", "Jitter of the pulse per second.");
const PPS_JITTER_TOTAL: Family =
    counter("node_timex_pps_jitter_total", "How often the jitter of the pulse per second was too large.");
const PPS_SHIFT: Family = gauge(
    "node_timex_pps_shift_seconds",
    "Interval of the pulse per second's calibration; the kernel's number, a power of two.",
);
const PPS_STABILITY_EXCEEDED: Family =
    counter("node_timex_pps_stability_exceeded_total", "How often the pulse per second was too unstable.");
const PPS_STABILITY: Family =
    gauge("node_timex_pps_stability_hertz", "Average of recent changes of the pulse per second's frequency.");
const STATUS: Family = gauge("node_timex_status", "Status bits of the kernel's clock.");
const SYNC_STATUS: Family = gauge("node_timex_sync_status", "Whether the clock follows a time server (1 yes, 0 no).");
const TAI_OFFSET: Family = gauge("node_timex_tai_offset_seconds", "International atomic time minus the clock's.");
const TICK: Family = gauge("node_timex_tick_seconds", "Time between two ticks of the clock.");
pub const FAMILIES: &[Family] = &[
    ESTIMATED_ERROR,
    FREQUENCY,
    LOOP_TIME_CONSTANT,
    MAXERROR,
    OFFSET,
    PPS_CALIBRATION,
    PPS_ERROR,
    PPS_FREQUENCY,
    PPS_JITTER,
    PPS_JITTER_TOTAL,
    PPS_SHIFT,
    PPS_STABILITY_EXCEEDED,
    PPS_STABILITY,
    STATUS,
    SYNC_STATUS,
    TAI_OFFSET,
    TICK,
];

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source: SOURCE }
}

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels: &[], source: SOURCE }
}

pub fn write(timex: &Timex, out: &mut Exposition) {
    let in_a_second = if timex.status & NANOSECONDS == 0 { 1e6 } else { 1e9 };
    let divided = |number: i64, by: f64| Value::Float(number as f64 / by);
    for (family, value) in [
        (ESTIMATED_ERROR, divided(timex.esterror, 1e6)),
        (FREQUENCY, Value::Float(1.0 + timex.freq as f64 / PPM_SCALED)),
        (LOOP_TIME_CONSTANT, timex.constant.into()),
        (MAXERROR, divided(timex.maxerror, 1e6)),
        (OFFSET, divided(timex.offset, in_a_second)),
        (PPS_CALIBRATION, timex.calcnt.into()),
        (PPS_ERROR, timex.errcnt.into()),
        (PPS_FREQUENCY, divided(timex.ppsfreq, PPM_SCALED)),
        (PPS_JITTER, divided(timex.jitter, in_a_second)),
        (PPS_JITTER_TOTAL, timex.jitcnt.into()),
        (PPS_SHIFT, timex.shift.into()),
        (PPS_STABILITY_EXCEEDED, timex.stbcnt.into()),
        (PPS_STABILITY, divided(timex.stabil, PPM_SCALED)),
        (STATUS, timex.status.into()),
        (SYNC_STATUS, (timex.state != NOT_SYNCHRONISED).into()),
        (TAI_OFFSET, timex.tai.into()),
        (TICK, divided(timex.tick, 1e6)),
    ] {
        out.family(&family).single(value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exposition::Format;

    fn value(timex: &Timex, family: &Family) -> String {
        let mut out = Exposition::new(Format::Text);
        write(timex, &mut out);
        let body = out.finish();
        let line = body.lines().find(|line| line.starts_with(&format!("{} ", family.name))).unwrap();
        line.rsplit(' ').next().unwrap().to_owned()
    }

    #[test]
    fn units_are_scaled() {
        let base = Timex { tick: 10_000, freq: -65_536_000, maxerror: 16_000_000, tai: 37, ..Timex::default() };
        let check = |timex: Timex, family: Family, expected: &str| {
            assert_eq!(value(&timex, &family), expected, "{}", family.name);
        };
        check(base, TICK, "0.01");
        check(base, FREQUENCY, "0.999");
        check(base, MAXERROR, "16");
        check(base, TAI_OFFSET, "37");
        check(Timex { offset: -1500, ..base }, OFFSET, "-0.0015");
        check(Timex { offset: -1500, status: NANOSECONDS | 1, ..base }, OFFSET, "-0.0000015");
        check(Timex { jitter: 250, status: NANOSECONDS, ..base }, PPS_JITTER, "0.00000025");
        check(Timex { ppsfreq: 65_536, ..base }, PPS_FREQUENCY, "0.000001");
        check(Timex { status: 64, ..base }, STATUS, "64");
    }

    #[test]
    fn only_the_kernels_error_means_not_synchronised() {
        for state in 0..5 {
            assert_eq!(value(&Timex { state, ..Timex::default() }, &SYNC_STATUS), "1", "{state}");
        }
        assert_eq!(value(&Timex { state: NOT_SYNCHRONISED, ..Timex::default() }, &SYNC_STATUS), "0");
    }

    #[test]
    fn the_kernel_answers() {
        match adjtimex() {
            // A clock ticks a hundred times a second, up to a tenth more or less.
            Ok(timex) => assert!((9_000..=11_000).contains(&timex.tick), "{timex:?}"),
            Err(error) => assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{error}"),
        }
    }
}
