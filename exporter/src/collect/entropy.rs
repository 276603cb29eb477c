//! `entropy`: how much randomness the kernel has gathered.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Entropy {
    pub available_bits: u64,
    pub pool_size_bits: Option<u64>,
}

pub type Found = Entropy;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.proc("sys/kernel/random/entropy_avail");
    let available = reader.require(&path)?.trim().parse();
    let available_bits = available.map_err(|_| CollectError::malformed(&path, "a number wanted"))?;
    Ok(Entropy { available_bits, pool_size_bits: reader.number(&roots.proc("sys/kernel/random/poolsize")) })
}

const AVAILABLE: Family = gauge(
    "node_entropy_available_bits",
    "Bits of randomness gathered; 256 for good once a kernel from 5.18 on has started.",
    "/proc/sys/kernel/random/entropy_avail",
);
const POOL_SIZE: Family =
    gauge("node_entropy_pool_size_bits", "Bits of randomness held at most.", "/proc/sys/kernel/random/poolsize");
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[AVAILABLE, POOL_SIZE];

const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &[], source }
}

pub fn write(entropy: &Entropy, out: &mut Exposition) {
    out.family(&AVAILABLE).single(entropy.available_bits);
    if let Some(bits) = entropy.pool_size_bits {
        out.family(&POOL_SIZE).single(bits);
    }
}
