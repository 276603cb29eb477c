//! `pressure`: pressure stall information, the time that work waited for CPU, I/O or memory.
//!
//! Raspberry Pi OS switches it off (`psi=1` on the kernel's command line switches it on): then the files are missing or
//! refuse to be opened with ENOTSUP, and there are no pressure families at all.

use std::io;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};
use crate::parse;

pub const ABSENCE: Option<&str> = Some(
    "success is 0 where the kernel has no pressure stall information or has it switched off \
    (stock Raspberry Pi OS; `psi=1` on the kernel's command line switches it on), as with node_exporter.",
);

/// Total stall times in microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Pressure {
    pub cpu: Stall,
    pub io: Stall,
    pub irq: Stall,
    pub memory: Stall,
}

#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Stall {
    /// At least one task waited.
    pub some: Option<u64>,
    /// All tasks waited at once.
    pub full: Option<u64>,
}

pub type Found = Pressure;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let mut stall = |name: &str| {
        let path = roots.proc("pressure").join(name);
        match reader.bytes(&path) {
            Ok(text) => Ok(parse(text)),
            Err(error) if is_switched_off(&error) => Ok(Stall::default()),
            Err(source) => Err(CollectError::Read { path, source }),
        }
    };
    let pressure = Pressure { cpu: stall("cpu")?, io: stall("io")?, irq: stall("irq")?, memory: stall("memory")? };
    if pressure == Pressure::default() {
        return Err(CollectError::Absent { what: "this kernel has no pressure stall information (psi=1?)".to_owned() });
    }
    Ok(pressure)
}

/// Whether the kernel has it, and it was told not to count; the same for the pressure of a control group.
pub fn is_switched_off(error: &io::Error) -> bool {
    use rustix::io::Errno;
    error.kind() == io::ErrorKind::NotFound
        || [Errno::OPNOTSUPP, Errno::NOTSUP].iter().any(|errno| error.raw_os_error() == Some(errno.raw_os_error()))
}

/// Lines `some avg10=0.12 avg60=0.05 avg300=0.01 total=123456`, of the host and of control groups alike.
pub fn parse(text: &[u8]) -> Stall {
    let mut stall = Stall::default();
    for line in parse::lines(text) {
        let field = match line.first_chunk() {
            Some(b"some") => &mut stall.some,
            Some(b"full") => &mut stall.full,
            _ => continue,
        };
        // The kernel has it last.
        let total = line.iter().rposition(|&byte| byte == b' ').map(|at| &line[at + 1..]);
        *field = total.and_then(|word| word.strip_prefix(b"total=")).and_then(parse::unsigned);
    }
    stall
}

const CPU_WAITING: Family = counter(
    "node_pressure_cpu_waiting_seconds_total",
    "Total time in seconds that processes have waited for CPU time",
    "/proc/pressure/cpu, some",
);
const IO_STALLED: Family = counter(
    "node_pressure_io_stalled_seconds_total",
    "Total time in seconds no process could make progress due to IO congestion",
    "/proc/pressure/io, full",
);
const IO_WAITING: Family = counter(
    "node_pressure_io_waiting_seconds_total",
    "Total time in seconds that processes have waited due to IO congestion",
    "/proc/pressure/io, some",
);
const IRQ_STALLED: Family = counter(
    "node_pressure_irq_stalled_seconds_total",
    "Total time in seconds no process could make progress due to IRQ congestion",
    "/proc/pressure/irq, full",
);
const MEMORY_STALLED: Family = counter(
    "node_pressure_memory_stalled_seconds_total",
    "Total time in seconds no process could make progress due to memory congestion",
    "/proc/pressure/memory, full",
);
const MEMORY_WAITING: Family = counter(
    "node_pressure_memory_waiting_seconds_total",
    "Total time in seconds that processes have waited for memory",
    "/proc/pressure/memory, some",
);
pub const FAMILIES: &[Family] = &[CPU_WAITING, IO_STALLED, IO_WAITING, IRQ_STALLED, MEMORY_STALLED, MEMORY_WAITING];

const fn counter(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels: &[], source }
}

pub fn write(pressure: &Pressure, out: &mut Exposition) {
    for (family, microseconds) in [
        (CPU_WAITING, pressure.cpu.some),
        (IO_STALLED, pressure.io.full),
        (IO_WAITING, pressure.io.some),
        (IRQ_STALLED, pressure.irq.full),
        (MEMORY_STALLED, pressure.memory.full),
        (MEMORY_WAITING, pressure.memory.some),
    ] {
        if let Some(microseconds) = microseconds {
            out.family(&family).single(microseconds as f64 / 1e6);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn totals_of_both_lines() {
        let text =
            b"some avg10=0.12 avg60=0.05 avg300=0.01 total=123456\nfull avg10=0.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(parse(text), Stall { some: Some(123_456), full: Some(7) });
        assert_eq!(parse(b"some avg10=0.12 total=x\n"), Stall::default());
    }

    #[test]
    fn enotsup_and_a_missing_file_mean_switched_off() {
        assert!(is_switched_off(&io::Error::from_raw_os_error(95)));
        assert!(is_switched_off(&io::ErrorKind::NotFound.into()));
        assert!(!is_switched_off(&io::ErrorKind::PermissionDenied.into()));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<Vec<u8>>(), line in "(some|full)( [a-z]{0,5}=[0-9x.]{0,22}){0,5}") {
            parse(&[text.as_slice(), b"\n", line.as_bytes()].concat());
        }
    }
}
