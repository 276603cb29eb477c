//! How the containers are written: what the families of `state` and `usage` share.

use jiff::Timestamp;

use super::{Containers, Reading, state, usage};
use crate::exposition::{Exposition, Labels, Value};
use crate::family::{Family, Kind};

/// On each series of a container.
pub const IDENTITY: &[&str] = &["id", "name", "image", "project", "service"];

pub const fn gauge(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: IDENTITY, source }
}

pub const fn counter(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels: IDENTITY, source }
}

const MEMORY_CGROUP: Family = Family {
    labels: &[],
    ..gauge(
        "nexus_memory_cgroup_enabled",
        "Whether the kernel counts and limits the memory of containers; when 0, container_memory_* are absent.",
        "cgroup.controllers (v2), the memory hierarchy (v1)",
    )
};

const OWN: &[Family] = &[MEMORY_CGROUP];

pub const FAMILIES: &[Family] = &{
    let mut families = [MEMORY_CGROUP; OWN.len() + state::FAMILIES.len() + usage::FAMILIES.len()];
    let mut at = 0;
    while at < families.len() {
        families[at] = if at < OWN.len() {
            OWN[at]
        } else if at < OWN.len() + state::FAMILIES.len() {
            state::FAMILIES[at - OWN.len()]
        } else {
            usage::FAMILIES[at - OWN.len() - state::FAMILIES.len()]
        };
        at += 1;
    }
    families
};

/// A container with its labels, escaped once for its many series.
pub type Labelled<'a> = (&'a Labels, &'a Reading);

pub fn write(reading: &Containers, out: &mut Exposition) {
    if let Some(enabled) = reading.memory_cgroup_enabled {
        out.family(&MEMORY_CGROUP).single(enabled);
    }
    let labelled: Vec<Labelled<'_>> = reading.containers.iter().map(|one| (&*one.labels, one)).collect();
    if reading.docker_up {
        state::write(&labelled, out);
    }
    usage::write(reading, &labelled, out);
}

/// One sample a container, where there is a value.
pub fn each<V: Into<Value>>(
    out: &mut Exposition,
    family: &Family,
    all: &[Labelled<'_>],
    value: impl Fn(&Reading) -> Option<V>,
) {
    let mut family = out.family(family);
    for (labels, reading) in all {
        if let Some(value) = value(reading) {
            family.sample_of(labels, &[], value);
        }
    }
}

pub fn seconds(at: Timestamp) -> Value {
    match u64::try_from(at.as_nanosecond()) {
        Ok(since_epoch) => Value::Nanoseconds(since_epoch),
        Err(_) => Value::Float(at.as_duration().as_secs_f64()),
    }
}
