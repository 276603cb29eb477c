//! `thermal_zone`: temperatures of the kernel's thermal zones; on a Pi the one of the processor.

use std::fs;
use std::io;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the kernel has no thermal class at all, as with node_exporter.");

#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// The number in `thermal_zone0`.
    pub zone: String,
    /// The driver's name, `cpu-thermal` on a Pi.
    pub kind: String,
    pub millicelsius: i64,
}

/// Zones that can't be read now are left out: a sensor that sleeps answers with an error.
pub type Found = Vec<Zone>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.sys("class/thermal");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::Absent { what: "this kernel has no thermal zones".to_owned() });
        }
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    let mut zones = Vec::new();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(zone) = name.to_str().and_then(|name| name.strip_prefix("thermal_zone")) else { continue };
        let folder = entry.path();
        let kind = reader.text(&folder.join("type")).map(|text| text.trim().to_owned()).unwrap_or_default();
        if let Some(millicelsius) = reader.number(&folder.join("temp")) {
            zones.push(Zone { zone: zone.to_owned(), kind, millicelsius });
        }
    }
    zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    Ok(zones)
}

const TEMPERATURE: Family = Family {
    name: "node_thermal_zone_temp",
    kind: Kind::Gauge,
    help: "Zone temperature in Celsius",
    labels: &["zone", "type"],
    source: "/sys/class/thermal/thermal_zone*/temp",
};
pub const FAMILIES: &[Family] = &[TEMPERATURE];

pub fn write(zones: &[Zone], out: &mut Exposition) {
    let mut family = out.family(&TEMPERATURE);
    for zone in zones {
        family.sample(&[("zone", &zone.zone), ("type", &zone.kind)], zone.millicelsius as f64 / 1000.0);
    }
}
