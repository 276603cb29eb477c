//! `powersupplyclass`: batteries and power supplies that a driver of the kernel knows.
//!
//! Most hats with a battery are asked by a program of their own over I²C and do not appear here. What does on a Raspberry Pi:
//! the PoE+ HAT (`rpi-poe`, with the current it gives), battery gauges that an overlay announces, and keyboards without wire.

use std::fs;
use std::io;

use super::{Access, CollectError, Folder, Reader};
use crate::exposition::{Exposition, Labels};
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the kernel has no class of power supplies at all, as with node_exporter.");

#[derive(Clone, Debug, PartialEq)]
pub struct PowerSupply {
    pub name: String,
    /// In the order of `WORDS`; empty where the driver says nothing.
    pub words: [String; WORDS.len()],
    /// In the order of `NUMBERS`.
    pub numbers: [Option<i64>; NUMBERS.len()],
}

/// None on a Pi that has no such hat; that is no fault.
pub type Found = Vec<PowerSupply>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.sys("class/power_supply");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::Absent { what: "this kernel has no power supplies".to_owned() });
        }
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    let mut supplies = Vec::new();
    for entry in entries.flatten() {
        let Ok(name) = entry.file_name().into_string() else { continue };
        if !settings.power_supplies.takes(&name) {
            continue;
        }
        let Ok(folder) = Folder::open(&entry.path(), reader) else { continue };
        supplies.push(PowerSupply::read(name, &folder, reader));
    }
    supplies.sort_unstable_by(|a, b| a.name.cmp(&b.name));
    Ok(supplies)
}

impl PowerSupply {
    /// What the driver does not have, or can't say now, is missing.
    fn read(name: String, folder: &Folder, reader: &mut Reader) -> PowerSupply {
        let mut text = |file| reader.text_in(folder, file).map(|text| text.trim().to_owned()).unwrap_or_default();
        let words = WORDS.map(&mut text);
        let numbers = NUMBERS.map(|(_, file, _)| text(file).parse().ok());
        PowerSupply { name, words, numbers }
    }
}

/// Labels of the information, which are the names of their files too.
const WORDS: [&str; 11] = [
    "capacity_level",
    "charge_type",
    "health",
    "manufacturer",
    "model_name",
    "serial_number",
    "status",
    "technology",
    "type",
    "usb_type",
    "scope",
];

#[derive(Clone, Copy)]
enum Scale {
    Plain,
    /// Of what the name says: volts, amperes, watts, their hours.
    Millionths,
    /// Of a degree.
    Tenths,
}

type Number = (Family, &'static str, Scale);

const fn plain(name: &'static str, file: &'static str) -> Number {
    (gauge(name, "Value of the power supply as its driver gives it."), file, Scale::Plain)
}

const fn micro(name: &'static str, file: &'static str) -> Number {
    (gauge(name, "Value of the power supply in volts, amperes, watts, or hours of these."), file, Scale::Millionths)
}

const fn tenths(name: &'static str, file: &'static str) -> Number {
    (gauge(name, "Temperature of the power supply, or a limit of it."), file, Scale::Tenths)
}

const fn gauge(name: &'static str, help: &'static str) -> Family {
    Family {
        name,
        kind: Kind::Gauge,
        help,
        labels: &["power_supply"],
        source: "/sys/class/power_supply/SUPPLY, the file of that name; for a unit in it that of `now`",
    }
}

const NUMBERS: [Number; 49] = [
    plain("node_power_supply_authentic", "authentic"),
    plain("node_power_supply_calibrate", "calibrate"),
    plain("node_power_supply_capacity", "capacity"),
    plain("node_power_supply_capacity_alert_max", "capacity_alert_max"),
    plain("node_power_supply_capacity_alert_min", "capacity_alert_min"),
    plain("node_power_supply_cyclecount", "cycle_count"),
    plain("node_power_supply_online", "online"),
    plain("node_power_supply_present", "present"),
    plain("node_power_supply_time_to_empty_seconds", "time_to_empty_now"),
    plain("node_power_supply_time_to_full_seconds", "time_to_full_now"),
    micro("node_power_supply_current_boot", "current_boot"),
    micro("node_power_supply_current_max", "current_max"),
    micro("node_power_supply_current_ampere", "current_now"),
    micro("node_power_supply_energy_empty", "energy_empty"),
    micro("node_power_supply_energy_empty_design", "energy_empty_design"),
    micro("node_power_supply_energy_full", "energy_full"),
    micro("node_power_supply_energy_full_design", "energy_full_design"),
    micro("node_power_supply_energy_watthour", "energy_now"),
    micro("node_power_supply_voltage_boot", "voltage_boot"),
    micro("node_power_supply_voltage_max", "voltage_max"),
    micro("node_power_supply_voltage_max_design", "voltage_max_design"),
    micro("node_power_supply_voltage_min", "voltage_min"),
    micro("node_power_supply_voltage_min_design", "voltage_min_design"),
    micro("node_power_supply_voltage_volt", "voltage_now"),
    micro("node_power_supply_voltage_ocv", "voltage_ocv"),
    micro("node_power_supply_charge_control_limit", "charge_control_limit"),
    micro("node_power_supply_charge_control_limit_max", "charge_control_limit_max"),
    micro("node_power_supply_charge_counter", "charge_counter"),
    micro("node_power_supply_charge_empty", "charge_empty"),
    micro("node_power_supply_charge_empty_design", "charge_empty_design"),
    micro("node_power_supply_charge_full", "charge_full"),
    micro("node_power_supply_charge_full_design", "charge_full_design"),
    micro("node_power_supply_charge_ampere", "charge_now"),
    micro("node_power_supply_charge_term_current", "charge_term_current"),
    micro("node_power_supply_constant_charge_current", "constant_charge_current"),
    micro("node_power_supply_constant_charge_current_max", "constant_charge_current_max"),
    micro("node_power_supply_constant_charge_voltage", "constant_charge_voltage"),
    micro("node_power_supply_constant_charge_voltage_max", "constant_charge_voltage_max"),
    micro("node_power_supply_precharge_current", "precharge_current"),
    micro("node_power_supply_input_current_limit", "input_current_limit"),
    micro("node_power_supply_power_watt", "power_now"),
    tenths("node_power_supply_temp_celsius", "temp"),
    tenths("node_power_supply_temp_alert_max_celsius", "temp_alert_max"),
    tenths("node_power_supply_temp_alert_min_celsius", "temp_alert_min"),
    tenths("node_power_supply_temp_ambient_celsius", "temp_ambient"),
    tenths("node_power_supply_temp_ambient_max_celsius", "temp_ambient_alert_max"),
    tenths("node_power_supply_temp_ambient_min_celsius", "temp_ambient_alert_min"),
    tenths("node_power_supply_temp_max_celsius", "temp_max"),
    tenths("node_power_supply_temp_min_celsius", "temp_min"),
];

const INFO: Family = Family {
    name: "node_power_supply_info",
    kind: Kind::Gauge,
    help: "What a power supply is, in words; always 1.",
    labels: &["power_supply"],
    source: "/sys/class/power_supply/SUPPLY; more labels where the driver says something: capacity_level, charge_type, health, \
             manufacturer, model_name, serial_number, status, technology, type, usb_type, scope",
};

pub const FAMILIES: &[Family] = &{
    let mut families = [INFO; NUMBERS.len() + 1];
    let mut at = 0;
    while at < NUMBERS.len() {
        families[at + 1] = NUMBERS[at].0;
        at += 1;
    }
    families
};

pub fn write(supplies: &[PowerSupply], out: &mut Exposition) {
    let mut family = out.family(&INFO);
    for supply in supplies {
        let said = WORDS.iter().zip(&supply.words).filter(|(_, word)| !word.is_empty());
        let labels: Vec<(&str, &str)> = said.map(|(label, word)| (*label, word.as_str())).collect();
        family.sample_of(&Labels::new(&[("power_supply", &supply.name)]), &labels, 1u64);
    }
    for (at, (family, _, scale)) in NUMBERS.iter().enumerate() {
        let mut family = out.family(family);
        for supply in supplies {
            let Some(number) = supply.numbers[at] else { continue };
            let number = number as f64;
            let value = match scale {
                Scale::Plain => number,
                Scale::Millionths => number / 1e6,
                Scale::Tenths => number / 10.0,
            };
            family.sample(&[("power_supply", &supply.name)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collect::tests::{Host, samples};
    use crate::settings::Settings;

    #[test]
    fn a_hat_that_powers_the_board_and_a_battery() {
        let mut host = Host::new();
        for (file, text) in [
            ("rpi-poe/type", "Mains\n"),
            ("rpi-poe/health", "Good\n"),
            ("rpi-poe/online", "1\n"),
            ("rpi-poe/current_now", "1265000\n"),
            ("battery/voltage_now", "4112500\n"),
            ("battery/capacity", "93\n"),
            ("battery/temp", "273\n"),
            ("battery/current_now", "unknown\n"),
            ("battery/serial_number", " \n"),
        ] {
            host.write(&format!("sys/class/power_supply/{file}"), text);
        }
        let written = |host: &Host| {
            let found = host.read(|access| read(access, &mut ())).unwrap();
            samples(|out| write(&found, out))
        };
        assert_eq!(
            written(&host),
            [
                "node_power_supply_info{power_supply=\"battery\"} 1",
                "node_power_supply_info{power_supply=\"rpi-poe\",health=\"Good\",type=\"Mains\"} 1",
                "node_power_supply_capacity{power_supply=\"battery\"} 93",
                "node_power_supply_online{power_supply=\"rpi-poe\"} 1",
                "node_power_supply_current_ampere{power_supply=\"rpi-poe\"} 1.265",
                "node_power_supply_voltage_volt{power_supply=\"battery\"} 4.1125",
                "node_power_supply_temp_celsius{power_supply=\"battery\"} 27.3",
            ]
        );
        host.settings = Settings::given(&["--collector.powersupply.ignored-supplies=^rpi"]);
        assert!(!written(&host).iter().any(|line| line.contains("rpi-poe")));
    }

    #[test]
    fn none_is_no_fault_unless_the_kernel_has_no_such_class() {
        let host = Host::new();
        assert!(matches!(host.read(|access| read(access, &mut ())), Err(CollectError::Absent { .. })));
        fs::create_dir_all(host.path().join("sys/class/power_supply")).unwrap();
        assert_eq!(host.read(|access| read(access, &mut ())).unwrap(), []);
    }
}
