//! `thermal_zone`: temperatures of the kernel's thermal zones, on a Pi the one of the processor, and the steps of what cools
//! them: a fan, or a processor that is slowed down.

use std::fs;
use std::io;

use super::{Access, CollectError, Folder};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the kernel has no thermal class at all, where node_exporter has 1.");

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Thermal {
    pub zones: Vec<Zone>,
    pub cooling_devices: Vec<CoolingDevice>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Zone {
    /// The number in `thermal_zone0`.
    pub zone: String,
    /// The driver's name, `cpu-thermal` on a Pi.
    pub kind: String,
    pub millicelsius: i64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CoolingDevice {
    /// The number in `cooling_device0`.
    pub name: String,
    /// The driver's name: `pwm-fan`, `gpio-fan`, `cpufreq-cpu0`.
    pub kind: String,
    /// From 0 for none to the strongest. Some drivers say -1 for off.
    pub state: i64,
    pub most: i64,
}

/// What can't be read now is left out: a sensor that sleeps answers with an error.
pub type Found = Thermal;
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
    let mut thermal = Thermal::default();
    for entry in entries.flatten() {
        let name = entry.file_name();
        let Some(name) = name.to_str() else { continue };
        let Ok(folder) = Folder::open(&entry.path(), reader) else { continue };
        let mut text = |file: &str| reader.text_in(&folder, file).ok().map(|text| text.trim().to_owned());
        if let Some(zone) = name.strip_prefix("thermal_zone") {
            // What a zone that is switched off says is old, or nothing.
            if text("mode").as_deref() == Some("disabled") {
                continue;
            }
            let kind = text("type").unwrap_or_default();
            if let Some(millicelsius) = text("temp").and_then(|text| text.parse().ok()) {
                thermal.zones.push(Zone { zone: zone.to_owned(), kind, millicelsius });
            }
        } else if let Some(device) = name.strip_prefix("cooling_device") {
            let kind = text("type").unwrap_or_default();
            let mut number = |file: &str| text(file)?.parse().ok();
            if let (Some(state), Some(most)) = (number("cur_state"), number("max_state")) {
                thermal.cooling_devices.push(CoolingDevice { name: device.to_owned(), kind, state, most });
            }
        }
    }
    thermal.zones.sort_by(|a, b| a.zone.cmp(&b.zone));
    thermal.cooling_devices.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(thermal)
}

const TEMPERATURE: Family = Family {
    name: "node_thermal_zone_temp",
    kind: Kind::Gauge,
    help: "Zone temperature in Celsius",
    labels: &["zone", "type"],
    source: "/sys/class/thermal/thermal_zone*/temp, of zones that are switched on",
};
const STATE: Family = Family {
    name: "node_cooling_device_cur_state",
    kind: Kind::Gauge,
    help: "Step at which something cools: 0 not at all, more is stronger.",
    labels: &["name", "type"],
    source: "/sys/class/thermal/cooling_device*/cur_state",
};
const MOST: Family = Family {
    name: "node_cooling_device_max_state",
    kind: Kind::Gauge,
    help: "Strongest step of what cools.",
    labels: &["name", "type"],
    source: "/sys/class/thermal/cooling_device*/max_state",
};
pub const FAMILIES: &[Family] = &[STATE, MOST, TEMPERATURE];

pub fn write(thermal: &Thermal, out: &mut Exposition) {
    let mut family = out.family(&TEMPERATURE);
    for zone in &thermal.zones {
        family.sample(&[("zone", &zone.zone), ("type", &zone.kind)], zone.millicelsius as f64 / 1000.0);
    }
    let mut family = out.family(&STATE);
    for device in &thermal.cooling_devices {
        family.sample(&[("name", &device.name), ("type", &device.kind)], device.state);
    }
    let mut family = out.family(&MOST);
    for device in &thermal.cooling_devices {
        family.sample(&[("name", &device.name), ("type", &device.kind)], device.most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::tests::{Host, samples};

    #[test]
    fn zones_and_what_cools_them() {
        let host = Host::new();
        for (file, text) in [
            ("thermal_zone0/type", "cpu-thermal\n"),
            ("thermal_zone0/temp", "48312\n"),
            ("thermal_zone0/mode", "enabled\n"),
            ("thermal_zone1/type", "off\n"),
            ("thermal_zone1/temp", "99000\n"),
            ("thermal_zone1/mode", "disabled\n"),
            ("thermal_zone2/type", "asleep\n"),
            ("cooling_device0/type", "pwm-fan\n"),
            ("cooling_device0/cur_state", "2\n"),
            ("cooling_device0/max_state", "4\n"),
            ("cooling_device1/type", "intel_powerclamp\n"),
            ("cooling_device1/cur_state", "-1\n"),
            ("cooling_device1/max_state", "50\n"),
            ("cooling_device2/type", "broken\n"),
            ("cooling_device2/cur_state", "x\n"),
        ] {
            host.write(&format!("sys/class/thermal/{file}"), text);
        }
        let found = host.read(|access| read(access, &mut ())).unwrap();
        assert_eq!(
            samples(|out| write(&found, out)),
            [
                "node_thermal_zone_temp{zone=\"0\",type=\"cpu-thermal\"} 48.312",
                "node_cooling_device_cur_state{name=\"0\",type=\"pwm-fan\"} 2",
                "node_cooling_device_cur_state{name=\"1\",type=\"intel_powerclamp\"} -1",
                "node_cooling_device_max_state{name=\"0\",type=\"pwm-fan\"} 4",
                "node_cooling_device_max_state{name=\"1\",type=\"intel_powerclamp\"} 50",
            ]
        );
    }

    #[test]
    fn a_kernel_without_the_class() {
        assert!(matches!(Host::new().read(|access| read(access, &mut ())), Err(CollectError::Absent { .. })));
    }
}
