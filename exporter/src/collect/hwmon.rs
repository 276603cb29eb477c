//! `hwmon`: the kernel's hardware sensors: temperatures, voltages, currents, fans.
//!
//! On a Raspberry Pi `cpu_thermal`, `rpi_volt` (under-voltage; newer kernels also the voltages of core and SDRAM), `pwmfan`
//! with fan speed and duty, and on a Pi 5 `rp1_adc` and `nvme`. A chip is known by its device, since the numbers in `hwmon0`
//! follow the order in which drivers were loaded.
//!
//! Names and units are node_exporter's, down to those that are odd: `in0_lcrit_alarm`, which is 0 or 1, becomes
//! `node_hwmon_in_lcrit_alarm_volts` and is divided by a thousand like a voltage.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io;
use std::os::unix::fs::DirEntryExt as _;
use std::path::{Path, PathBuf};

use super::{Access, CollectError, Folder, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};
use crate::filter::Filter;

pub const ABSENCE: Option<&str> = Some("success is 0 where the kernel has no hardware sensors, as with node_exporter.");

/// How often the folder of a chip is searched for new sensors, and limits and labels are read: five minutes at the usual
/// interval. Each time would double the cost, and the limits of an NVMe disk are a question to the disk.
const SCRAPES_PER_LISTING: usize = 20;

/// Longer values are none.
const LONGEST_VALUE: usize = 128;

#[derive(Clone, Debug, PartialEq)]
pub struct Chip {
    /// Bus and device: `soc:firmware_raspberrypi_hwmon`.
    pub chip: String,
    /// What the driver calls it: `rpi_volt`.
    pub name: Option<String>,
    /// By sensor, `temp1`, and attribute, `input`; empty for a file without one, `pwm1`.
    pub sensors: BTreeMap<String, BTreeMap<String, String>>,
}

pub type Found = Vec<Chip>;

#[derive(Debug, Default)]
pub struct Kept {
    /// By the inode of the entry in /sys/class/hwmon, which is another one when a driver has been loaded anew.
    chips: HashMap<u64, KeptChip>,
    scrape: usize,
}

#[derive(Debug)]
struct KeptChip {
    device: String,
    name: Option<String>,
    /// Each sensor attribute, and whether it is a file of the device. The device's own files are the older place.
    files: Vec<File>,
    listed: usize,
    seen: usize,
}

#[derive(Debug)]
struct File {
    name: String,
    is_of_device: bool,
    sensor: String,
    attribute: String,
    /// Of one that is a setting, once it has been read.
    value: Option<String>,
}

/// Settings, which do not change by themselves.
fn is_setting(attribute: &str) -> bool {
    matches!(attribute, "label" | "min" | "max" | "crit" | "lcrit" | "emergency") || attribute.ends_with("_hyst")
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.sys("class/hwmon");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::Absent { what: "this kernel has no hardware sensors".to_owned() });
        }
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    kept.scrape = kept.scrape.wrapping_add(1);
    let now = kept.scrape;
    let mut present: Vec<(String, PathBuf, u64)> = Vec::new();
    for entry in entries.flatten() {
        let (name, folder, inode) = (entry.file_name().to_string_lossy().into_owned(), entry.path(), entry.ino());
        if let Entry::Vacant(unknown) = kept.chips.entry(inode) {
            let Some(chip) = KeptChip::find(&folder, reader) else { continue };
            unknown.insert(chip);
        }
        present.push((name, folder, inode));
    }
    present.sort_unstable();
    let mut devices: HashMap<String, Vec<Option<String>>> = HashMap::new();
    for chip in present.iter().filter_map(|(_, _, inode)| kept.chips.get(inode)) {
        devices.entry(chip.device.clone()).or_default().push(chip.name.clone());
    }
    let mut chips = Vec::with_capacity(present.len());
    for (entry, folder, inode) in present {
        let Some(known) = kept.chips.get_mut(&inode) else { continue };
        known.seen = now;
        let siblings = devices.get(&known.device).map_or(&[][..], Vec::as_slice);
        let chip = distinct(&known.device, known.name.as_deref(), &entry, siblings);
        if !settings.hwmon_chips.takes(&chip) {
            continue;
        }
        let sensors = known.read(&folder, &chip, now, &settings.hwmon_sensors, reader);
        chips.push(Chip { chip, name: known.name.clone(), sensors });
    }
    kept.chips.retain(|_, chip| chip.seen == now);
    Ok(chips)
}

/// Several chips of one device are told apart by their names, and where these are the same by their numbers.
fn distinct(device: &str, name: Option<&str>, entry: &str, siblings: &[Option<String>]) -> String {
    if siblings.len() <= 1 {
        return device.to_owned();
    }
    let is_alone = siblings.iter().filter(|sibling| sibling.as_deref() == name).count() == 1;
    let suffix = name.filter(|name| is_alone && !name.is_empty()).map_or_else(|| clean(entry), str::to_owned);
    format!("{device}_{suffix}")
}

impl KeptChip {
    fn find(folder: &Path, reader: &mut Reader) -> Option<KeptChip> {
        if !folder.is_dir() {
            return None;
        }
        let name = reader.text(&folder.join("name")).ok().map(clean).filter(|name| !name.is_empty());
        let of_path = |path: &Path| path.file_name().map(|name| clean(&name.to_string_lossy())).unwrap_or_default();
        let of_device = fs::canonicalize(folder.join("device")).ok().map(|path| {
            let (bus, device) = (path.parent().map(of_path).unwrap_or_default(), of_path(&path));
            if bus.is_empty() || device.is_empty() { device } else { format!("{bus}_{device}") }
        });
        let of_folder = || fs::canonicalize(folder).ok().map(|path| of_path(&path));
        let device = of_device.filter(|device| !device.is_empty()).or_else(|| name.clone()).or_else(of_folder)?;
        Some(KeptChip { device, name, files: Vec::new(), listed: 0, seen: 0 })
    }

    fn read(
        &mut self,
        folder: &Path,
        chip: &str,
        now: usize,
        taken: &Filter,
        reader: &mut Reader,
    ) -> BTreeMap<String, BTreeMap<String, String>> {
        if self.listed == 0 || now.wrapping_sub(self.listed) >= SCRAPES_PER_LISTING {
            self.files = list(folder);
            self.files.retain(|file| taken.takes(&format!("{chip};{}", file.sensor)));
            self.listed = now;
        }
        let mut sensors: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
        let mut open = |path: &Path| Folder::open(path, reader).ok();
        let (own, of_device) = (open(folder), open(&folder.join("device")));
        let mut put = |file: &File, value: &str| {
            sensors.entry(file.sensor.clone()).or_default().insert(file.attribute.clone(), value.to_owned());
        };
        for file in &mut self.files {
            if let Some(value) = &file.value {
                put(file, value);
                continue;
            }
            let Some(folder) = (if file.is_of_device { &of_device } else { &own }) else { continue };
            match reader.text_in(folder, &file.name) {
                Ok(text) if text.len() <= LONGEST_VALUE => {
                    let value = text.trim_matches('\n');
                    put(file, value);
                    file.value = is_setting(&file.attribute).then(|| value.to_owned());
                }
                // Taken away: to be searched for in the next scrape.
                Err(error) if error.kind() == io::ErrorKind::NotFound => self.listed = 0,
                // A sensor that is broken or asleep.
                _ => (),
            }
        }
        sensors
    }
}

/// The files of sensors: first the chip's own, then the device's, whose values count where both have one.
fn list(folder: &Path) -> Vec<File> {
    let mut files = Vec::new();
    for (folder, is_of_device) in [(folder.to_owned(), false), (folder.join("device"), true)] {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some((kind, number, attribute)) = split(&name) else { continue };
            if KINDS.contains(&kind) {
                let (sensor, attribute) = (format!("{kind}{number}"), attribute.to_owned());
                files.push(File { name, is_of_device, sensor, attribute, value: None });
            }
        }
    }
    files
}

const KINDS: [&str; 14] = [
    "vrm",
    "beep_enable",
    "update_interval",
    "in",
    "cpu",
    "fan",
    "pwm",
    "temp",
    "curr",
    "power",
    "energy",
    "humidity",
    "intrusion",
    "freq",
];

/// `temp1_input` into `temp`, 1 and `input`. A file without a number counts as 0, one without an attribute has an empty one.
fn split(name: &str) -> Option<(&str, u32, &str)> {
    let digits = name.find(|c: char| c.is_ascii_digit()).unwrap_or(name.len());
    let (kind, rest) = name.split_at(digits);
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let (number, rest) = rest.split_at(end);
    let number = if number.is_empty() { 0 } else { number.parse().ok()? };
    let attribute = if rest.is_empty() { rest } else { rest.strip_prefix('_').filter(|rest| !rest.is_empty())? };
    (!kind.is_empty()).then_some((kind, number, attribute))
}

/// Lower case, and `_` for what can't be in a metric's name; none at the ends.
fn clean(text: &str) -> String {
    let valid = |c: char| if c.is_ascii_lowercase() || c.is_ascii_digit() || ":_".contains(c) { c } else { '_' };
    let text: String = text.trim_end_matches('\n').to_lowercase().chars().map(valid).collect();
    text.trim_matches('_').to_owned()
}

const NAMES: Family = Family {
    name: "node_hwmon_chip_names",
    kind: Kind::Gauge,
    help: "What the driver calls a chip; always 1.",
    labels: &["chip", "chip_name"],
    source: "/sys/class/hwmon/hwmonN/{device,name}",
};
const LABEL: Family = Family {
    name: "node_hwmon_sensor_label",
    kind: Kind::Gauge,
    help: "What the driver calls a sensor; always 1.",
    labels: &["chip", "sensor", "label"],
    source: "/sys/class/hwmon/hwmonN/*_label",
};

const fn sensor(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &["chip", "sensor"], source }
}

const BEEP: Family =
    sensor("node_hwmon_beep_enabled", "Whether the chip may beep.", "/sys/class/hwmon/hwmonN/beep_enable");
const INTERVAL: Family = sensor(
    "node_hwmon_update_interval_seconds",
    "How often the chip measures.",
    "/sys/class/hwmon/hwmonN/update_interval",
);
const REGULATOR: Family = sensor(
    "node_hwmon_voltage_regulator_version",
    "Version of the standard for voltage regulators that the chip follows.",
    "/sys/class/hwmon/hwmonN/vrm",
);

/// The families whose name depends on what the chip has, those of a Pi spelt out. `<field>` is the attribute, such as `max`,
/// `crit_alarm` or `lcrit_alarm`.
pub const FAMILIES: &[Family] = &[
    NAMES,
    LABEL,
    BEEP,
    INTERVAL,
    REGULATOR,
    sensor("node_hwmon_cpu_volts", "Voltage of a processor.", "/sys/class/hwmon/hwmonN/cpuN_*"),
    sensor("node_hwmon_curr_amps", CURRENT, "/sys/class/hwmon/hwmonN/currN_input"),
    sensor("node_hwmon_curr_<field>_amps", CURRENT, "/sys/class/hwmon/hwmonN/currN_*"),
    Family {
        kind: Kind::Counter,
        ..sensor("node_hwmon_energy_joule_total", ENERGY, "/sys/class/hwmon/hwmonN/energyN_input")
    },
    sensor("node_hwmon_fan_rpm", "Turns of a fan per minute.", "/sys/class/hwmon/hwmonN/fanN_input"),
    sensor("node_hwmon_fan_<field>_rpm", "Turns of a fan per minute.", "/sys/class/hwmon/hwmonN/fanN_{min,max,target}"),
    sensor("node_hwmon_freq_freq_mhz", FREQUENCY, "/sys/class/hwmon/hwmonN/freqN_{input,label}"),
    sensor("node_hwmon_humidity", HUMIDITY, "/sys/class/hwmon/hwmonN/humidityN_input"),
    sensor("node_hwmon_in_volts", VOLTAGE, "/sys/class/hwmon/hwmonN/inN_input"),
    sensor(
        "node_hwmon_in_lcrit_alarm_volts",
        VOLTAGE,
        "/sys/class/hwmon/hwmonN/inN_lcrit_alarm; an alarm, 0.001 while it lasts: on a Pi under-voltage",
    ),
    sensor("node_hwmon_in_<field>_volts", VOLTAGE, "/sys/class/hwmon/hwmonN/inN_*; alarms are 0.001 for 1"),
    sensor("node_hwmon_power_watt", POWER, "/sys/class/hwmon/hwmonN/powerN_input"),
    sensor("node_hwmon_power_<field>_watt", POWER, "/sys/class/hwmon/hwmonN/powerN_*"),
    sensor("node_hwmon_power_average_interval_seconds", POWER, "/sys/class/hwmon/hwmonN/powerN_average_interval"),
    sensor("node_hwmon_pwm", OTHER, "/sys/class/hwmon/hwmonN/pwmN: how hard a fan is driven, up to 255"),
    sensor("node_hwmon_pwm_<field>", OTHER, "/sys/class/hwmon/hwmonN/pwmN_*"),
    sensor("node_hwmon_temp_celsius", TEMPERATURE, "/sys/class/hwmon/hwmonN/tempN_input"),
    sensor("node_hwmon_temp_<field>_celsius", TEMPERATURE, "/sys/class/hwmon/hwmonN/tempN_*"),
    sensor("node_hwmon_<field>_alarm", ALARM, "/sys/class/hwmon/hwmonN/*_alarm"),
    sensor("node_hwmon_<field>_fault", FAULT, "/sys/class/hwmon/hwmonN/*_fault"),
    sensor("node_hwmon_<field>_beep_enabled", SENSOR_BEEP, "/sys/class/hwmon/hwmonN/*_beep"),
];

const ALARM: &str = "Whether the chip raises an alarm for the sensor.";
const FAULT: &str = "Whether the sensor does not work.";
const SENSOR_BEEP: &str = "Whether the chip beeps for the sensor.";
const VOLTAGE: &str = "Voltage of a sensor, or a limit or alarm of it.";
const TEMPERATURE: &str = "Temperature of a sensor, or a limit or alarm of it.";
const CURRENT: &str = "Current of a sensor, or a limit or alarm of it.";
const ENERGY: &str = "Energy used so far.";
const POWER: &str = "Power of a sensor, or a limit, alarm or setting of it.";
const HUMIDITY: &str = "Relative humidity: percent divided by a thousand.";
const FREQUENCY: &str = "Frequency of a graphics processor.";
const FAN: &str = "Turns of a fan per minute.";
const OTHER: &str = "A value of the sensor as the chip gives it.";

/// What becomes of an attribute: the family's name, its help and type, and the value.
fn measure(kind: &str, attribute: &str, has_plain_file: bool, number: f64) -> (String, &'static str, Kind, f64) {
    let mut name = format!("node_hwmon_{kind}");
    match attribute {
        // The value itself.
        "input" if !has_plain_file => (),
        "" => (),
        other => {
            name.push('_');
            name.push_str(&clean(other));
        }
    }
    let (unit, help, value) = match (kind, attribute) {
        (_, "alarm") => ("", ALARM, number),
        (_, "fault") => ("", FAULT, number),
        (_, "beep") => ("_enabled", SENSOR_BEEP, number),
        ("in" | "cpu", _) => ("_volts", VOLTAGE, number * 0.001),
        ("temp", attribute) if attribute != "type" => ("_celsius", TEMPERATURE, number * 0.001),
        ("curr", _) => ("_amps", CURRENT, number * 0.001),
        ("energy", _) => ("_joule_total", ENERGY, number / 1e6),
        ("power", "accuracy") => ("", POWER, number / 1e6),
        ("power", "average_interval" | "average_interval_min" | "average_interval_max") => {
            ("_seconds", POWER, number * 0.001)
        }
        ("power", _) => ("_watt", POWER, number / 1e6),
        ("humidity", _) => ("", HUMIDITY, number / 1e6),
        ("fan", "input" | "min" | "max" | "target") => ("_rpm", FAN, number),
        ("freq", "input") => ("_freq_mhz", FREQUENCY, number / 1e6),
        _ => ("", OTHER, number),
    };
    name.push_str(unit);
    (name, help, if kind == "energy" { Kind::Counter } else { Kind::Gauge }, value)
}

/// Chip, sensor and value.
type Sample<'a> = (&'a str, String, f64);

pub fn write(chips: &[Chip], out: &mut Exposition) {
    let mut family = out.family(&NAMES);
    for Chip { chip, name, .. } in chips {
        if let Some(name) = name {
            family.sample(&[("chip", chip), ("chip_name", name)], 1u64);
        }
    }
    let mut family = out.family(&LABEL);
    for Chip { chip, sensors, .. } in chips {
        for (sensor, attributes) in sensors {
            if let Some(label) = attributes.get("label") {
                family.sample(&[("chip", chip), ("sensor", sensor), ("label", label)], 1u64);
            }
        }
    }
    // All samples of a family together, whichever chips they come from.
    let mut families: BTreeMap<String, (&'static str, Kind, Vec<Sample<'_>>)> = BTreeMap::new();
    for Chip { chip, sensors, .. } in chips {
        for (sensor, attributes) in sensors {
            let Some((kind, ..)) = split(sensor) else { continue };
            let plain = attributes.get("").map(String::as_str);
            let mut put = |name: String, help: &'static str, kind: Kind, sensor: &str, value: f64| {
                let (.., samples) = families.entry(name).or_insert((help, kind, Vec::new()));
                samples.push((chip, sensor.to_owned(), value));
            };
            let whole = match kind {
                "beep_enable" => Some((BEEP, plain.map(|text| f64::from(text == "1")))),
                "vrm" => Some((REGULATOR, plain.and_then(|text| text.parse().ok()))),
                "update_interval" => Some((
                    INTERVAL,
                    plain.and_then(|text| text.parse::<f64>().ok()).map(|milliseconds| milliseconds * 0.001),
                )),
                _ => None,
            };
            if let Some((family, value)) = whole {
                if let Some(value) = value {
                    put(family.name.to_owned(), family.help, family.kind, sensor, value);
                }
                continue;
            }
            for (attribute, text) in attributes.iter().filter(|(attribute, _)| *attribute != "label") {
                let Ok(number) = text.parse() else { continue };
                let (name, help, family_kind, value) = measure(kind, attribute, plain.is_some(), number);
                if kind == "freq" && attribute == "input" {
                    // Known by its label alone.
                    if let Some(label) = attributes.get("label") {
                        put(name, help, family_kind, &clean(label), value);
                    }
                } else {
                    put(name, help, family_kind, sensor, value);
                }
            }
        }
    }
    for (name, (help, kind, samples)) in families {
        let mut family = out.named_family(&name, kind, help);
        for (chip, sensor, value) in samples {
            family.sample(&[("chip", chip), ("sensor", &sensor)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collect::tests::{Host, samples};
    use crate::settings::Settings;

    /// A chip with its device at `device`, below /sys/devices.
    fn chip(host: &Host, number: u32, name: &str, device: &str, files: &[(&str, &str)]) {
        let folder = format!("sys/devices/{device}/hwmon/hwmon{number}");
        if !name.is_empty() {
            host.write(&format!("{folder}/name"), format!("{name}\n"));
        }
        for (file, text) in files {
            host.write(&format!("{folder}/{file}"), format!("{text}\n"));
        }
        host.link(&format!("{folder}/device"), "../..");
        host.link(&format!("sys/class/hwmon/hwmon{number}"), &format!("../../devices/{device}/hwmon/hwmon{number}"));
    }

    fn scrape(host: &Host, kept: &mut Kept) -> Vec<String> {
        let found = host.read(|access| read(access, kept)).unwrap();
        samples(|out| write(&found, out))
    }

    #[test]
    fn attributes_get_node_exporters_names_and_units() {
        let check = |kind: &str, attribute: &str, number: f64, expected: &str| {
            let (name, _, _, value) = measure(kind, attribute, false, number);
            assert_eq!(format!("{name} {value}"), expected);
        };
        check("temp", "input", 48312.0, "node_hwmon_temp_celsius 48.312");
        check("temp", "crit", 110000.0, "node_hwmon_temp_crit_celsius 110");
        check("temp", "crit_alarm", 1.0, "node_hwmon_temp_crit_alarm_celsius 0.001");
        check("temp", "alarm", 1.0, "node_hwmon_temp_alarm 1");
        check("temp", "type", 4.0, "node_hwmon_temp_type 4");
        check("temp", "fault", 0.0, "node_hwmon_temp_fault 0");
        check("in", "lcrit_alarm", 1.0, "node_hwmon_in_lcrit_alarm_volts 0.001");
        check("in", "input", 5100.0, "node_hwmon_in_volts 5.1000000000000005");
        check("in", "beep", 1.0, "node_hwmon_in_beep_enabled 1");
        check("curr", "input", 1500.0, "node_hwmon_curr_amps 1.5");
        check("fan", "input", 2500.0, "node_hwmon_fan_rpm 2500");
        check("fan", "target", 2500.0, "node_hwmon_fan_target_rpm 2500");
        check("fan", "pulses", 2.0, "node_hwmon_fan_pulses 2");
        check("pwm", "", 75.0, "node_hwmon_pwm 75");
        check("pwm", "enable", 1.0, "node_hwmon_pwm_enable 1");
        check("power", "input", 2.5e6, "node_hwmon_power_watt 2.5");
        check("power", "accuracy", 5e5, "node_hwmon_power_accuracy 0.5");
        check("power", "average_interval", 1000.0, "node_hwmon_power_average_interval_seconds 1");
        check("energy", "input", 3e6, "node_hwmon_energy_joule_total 3");
        check("humidity", "input", 45000.0, "node_hwmon_humidity 0.045");
        check("intrusion", "alarm", 0.0, "node_hwmon_intrusion_alarm 0");
        assert_eq!(measure("pwm", "input", true, 1.0).0, "node_hwmon_pwm_input");
    }

    #[test]
    fn a_chip_is_known_by_its_device() {
        let host = Host::new();
        chip(&host, 0, "rpi_volt", "platform/soc/soc:firmware/raspberrypi-hwmon", &[("in0_lcrit_alarm", "1")]);
        chip(
            &host,
            1,
            "pwmfan",
            "platform/cooling_fan",
            &[("fan1_input", "2514"), ("pwm1", "75"), ("pwm1_enable", "1")],
        );
        assert_eq!(
            scrape(&host, &mut Kept::default()),
            [
                "node_hwmon_chip_names{chip=\"soc:firmware_raspberrypi_hwmon\",chip_name=\"rpi_volt\"} 1",
                "node_hwmon_chip_names{chip=\"platform_cooling_fan\",chip_name=\"pwmfan\"} 1",
                "node_hwmon_fan_rpm{chip=\"platform_cooling_fan\",sensor=\"fan1\"} 2514",
                "node_hwmon_in_lcrit_alarm_volts{chip=\"soc:firmware_raspberrypi_hwmon\",sensor=\"in0\"} 0.001",
                "node_hwmon_pwm{chip=\"platform_cooling_fan\",sensor=\"pwm1\"} 75",
                "node_hwmon_pwm_enable{chip=\"platform_cooling_fan\",sensor=\"pwm1\"} 1",
            ]
        );
    }

    #[test]
    fn chips_without_a_device_and_several_of_one() {
        let host = Host::new();
        host.write("sys/class/hwmon/hwmon0/name", "Some Chip!\n");
        host.write("sys/class/hwmon/hwmon0/temp1_input", "1000\n");
        host.write("sys/class/hwmon/hwmon1/temp1_input", "2000\n");
        chip(&host, 2, "fans", "platform/board", &[("fan1_input", "1")]);
        chip(&host, 3, "temps", "platform/board", &[("fan1_input", "2")]);
        chip(&host, 4, "same", "i2c/1-0040", &[("fan1_input", "3")]);
        chip(&host, 5, "same", "i2c/1-0040", &[("fan1_input", "4")]);
        let found = host.read(|access| read(access, &mut Kept::default())).unwrap();
        let names: Vec<&str> = found.iter().map(|chip| chip.chip.as_str()).collect();
        assert_eq!(
            names,
            [
                "some_chip",
                "hwmon1",
                "platform_board_fans",
                "platform_board_temps",
                "i2c_1_0040_hwmon4",
                "i2c_1_0040_hwmon5"
            ]
        );
    }

    #[test]
    fn labels_limits_broken_sensors_and_the_devices_own_files() {
        let host = Host::new();
        chip(
            &host,
            0,
            "nvme",
            "pci0001:01/nvme/nvme0",
            &[
                ("temp1_input", "40850"),
                ("temp1_label", "Composite"),
                ("temp1_crit", "84850"),
                ("temp2_input", "no number"),
                ("update_interval", "1500"),
                ("vrm", "9.0"),
                ("beep_enable", "1"),
                ("freq1_input", "300000000"),
                ("freq1_label", "SClk 1"),
                ("freq2_input", "300000000"),
                ("uevent", "x"),
            ],
        );
        host.write("sys/devices/pci0001:01/nvme/nvme0/temp1_input", "41000\n");
        let found = scrape(&host, &mut Kept::default());
        let chip = "chip=\"nvme_nvme0\"";
        assert_eq!(
            found,
            [
                format!("node_hwmon_chip_names{{{chip},chip_name=\"nvme\"}} 1"),
                format!("node_hwmon_sensor_label{{{chip},sensor=\"freq1\",label=\"SClk 1\"}} 1"),
                format!("node_hwmon_sensor_label{{{chip},sensor=\"temp1\",label=\"Composite\"}} 1"),
                format!("node_hwmon_beep_enabled{{{chip},sensor=\"beep_enable0\"}} 1"),
                format!("node_hwmon_freq_freq_mhz{{{chip},sensor=\"sclk_1\"}} 300"),
                format!("node_hwmon_temp_celsius{{{chip},sensor=\"temp1\"}} 41"),
                format!("node_hwmon_temp_crit_celsius{{{chip},sensor=\"temp1\"}} 84.85000000000001"),
                format!("node_hwmon_update_interval_seconds{{{chip},sensor=\"update_interval0\"}} 1.5"),
                format!("node_hwmon_voltage_regulator_version{{{chip},sensor=\"vrm0\"}} 9"),
            ]
        );
    }

    #[test]
    fn patterns_pick_chips_and_sensors() {
        let mut host = Host::new();
        chip(&host, 0, "a", "platform/a", &[("temp1_input", "1000"), ("temp2_input", "2000")]);
        chip(&host, 1, "b", "platform/b", &[("temp1_input", "3000")]);
        host.settings = Settings::given(&[
            "--collector.hwmon.chip-exclude=^platform_b$",
            "--collector.hwmon.sensor-exclude=^platform_a;temp2$",
        ]);
        let found = scrape(&host, &mut Kept::default());
        assert_eq!(found.len(), 2, "{found:?}");
        assert_eq!(found[1], "node_hwmon_temp_celsius{chip=\"platform_a\",sensor=\"temp1\"} 1");
    }

    #[test]
    fn sensors_that_come_and_go_are_noticed() {
        let host = Host::new();
        chip(&host, 0, "a", "platform/a", &[("temp1_input", "1000"), ("temp2_input", "2000")]);
        let mut kept = Kept::default();
        assert_eq!(scrape(&host, &mut kept).len(), 3);
        fs::remove_file(host.path().join("sys/devices/platform/a/hwmon/hwmon0/temp2_input")).unwrap();
        assert_eq!(scrape(&host, &mut kept).len(), 2);
        host.write("sys/devices/platform/a/hwmon/hwmon0/temp3_input", "3000\n");
        assert_eq!(scrape(&host, &mut kept).len(), 3, "searched again after one was taken away");
        host.write("sys/devices/platform/a/hwmon/hwmon0/temp4_input", "3000\n");
        let scrapes = (0..=SCRAPES_PER_LISTING).find(|_| scrape(&host, &mut kept).len() == 4);
        assert!(scrapes.is_some());
        fs::remove_dir_all(host.path().join("sys/class/hwmon")).unwrap();
        fs::create_dir(host.path().join("sys/class/hwmon")).unwrap();
        assert_eq!(scrape(&host, &mut kept), [""; 0]);
        assert!(kept.chips.is_empty());
    }

    #[test]
    fn file_names_in_their_parts() {
        for (name, expected) in [
            ("temp1_input", Some(("temp", 1, "input"))),
            ("pwm1", Some(("pwm", 1, ""))),
            ("in0_lcrit_alarm", Some(("in", 0, "lcrit_alarm"))),
            ("beep_enable", Some(("beep_enable", 0, ""))),
            ("pwm1_auto_point1_pwm", Some(("pwm", 1, "auto_point1_pwm"))),
            ("temp1x", None),
            ("temp1_", None),
            ("1temp", None),
            ("", None),
            ("temp99999999999_input", None),
        ] {
            assert_eq!(split(name), expected, "{name}");
        }
        for (text, expected) in [("SMSC EMC2305", "smsc_emc2305"), ("__ä-x\n", "x"), ("1-002f.0", "1_002f_0"), ("", "")]
        {
            assert_eq!(clean(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(name in any::<String>(), likely in "[a-z]{0,5}[0-9]{0,12}(_[a-z0-9]{0,8}){0,3}") {
            split(&name);
            split(&likely);
            clean(&name);
        }
    }
}
