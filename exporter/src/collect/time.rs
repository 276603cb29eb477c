//! `time`: the host's clock as it was when the scrape began.

use jiff::Timestamp;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub type Found = Timestamp;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    Ok(access.now)
}

const TIME: Family = Family {
    name: "node_time_seconds",
    kind: Kind::Gauge,
    help: "System time in seconds since epoch (1970).",
    labels: &[],
    source: "clock_gettime(2)",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[TIME];

pub fn write(now: &Timestamp, out: &mut Exposition) {
    out.family(&TIME).single(now.as_duration().as_secs_f64());
}
