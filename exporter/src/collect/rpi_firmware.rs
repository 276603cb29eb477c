//! `rpi_firmware`: what the firmware of a Raspberry Pi knows: whether it has held the processor back and why, voltages,
//! clocks, and on a Pi 5 the rails of the power chip.
//!
//! The firmware is asked in the way that takes least power over the board; each further way only for what is missing then:
//!
//! 1. `/dev/vcio_gencmd`, which passes text commands alone (kernels of 2026 and later). All but the configured clocks.
//! 2. `/dev/vcio`, which passes everything: the same commands, then property tags for the configured clocks, and on firmware
//!    from before 2020, which knows no commands here, for the rest.
//! 3. The sensor `rpi_volt`: whether there is under-voltage, on newer kernels the voltages too. It needs no rights, and comes
//!    after the devices since it knows one reason of four.
//! 4. The file `get_throttled` in sysfs, which needs no rights either, and is still the last: reading it puts a warning with
//!    a trace into the kernel's log and marks the kernel as tainted, once a boot. It is read only where no device can be
//!    opened, for the other three reasons.
//!
//! There is "now" and "has occurred". The kernel's driver of `rpi_volt` asks the firmware every two seconds by the tag, and
//! has it clear what the tag says has occurred, which the command's answer is not touched by. So that half is taken from the
//! command; from the tag where there is no such driver; and never from the file, which is what the driver last saw. Nothing
//! here clears anything: the tag is sent 0, the command no argument.
//!
//! A question that the firmware does not know, as that for the rails on a Pi 4, is asked once: the kernel logs a refused tag.
//! Each question waits for the firmware, up to a second; after one that is not answered in time no more are asked.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io;
use std::path::Path;

use rustix::io::Errno;
use rustix::ioctl::{Updater, ioctl, opcode};

use super::{Access, CollectError, Reader, Roots};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some(
    "success is 0 where the host is no Raspberry Pi, or its firmware can't be asked: no `/dev/vcio_gencmd` or `/dev/vcio` that \
     may be opened, no sensor `rpi_volt`.",
);

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Firmware {
    /// Bits of what holds the processor back now, those of `REASONS`; the mask says which of them are known.
    pub active: Bits,
    /// The same for what has since boot.
    pub occurred: Bits,
    /// Microvolts, in the order of `RAILS`.
    pub voltages: [Option<u64>; RAILS.len()],
    /// Hertz, in the order of `CLOCKS`.
    pub configured: [Option<u64>; CLOCKS.len()],
    pub measured: [Option<u64>; CLOCKS.len()],
    /// Of the power chip.
    pub power: Vec<Rail>,
    /// Where something came from.
    pub sources: BTreeSet<Source>,
    /// A device could be opened.
    pub is_reached: bool,
    /// A question was not answered in time, and no more were asked.
    pub is_late: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bits {
    pub set: u32,
    pub known: u32,
}

/// What the power chip measures of a rail.
#[derive(Clone, Debug, PartialEq)]
pub struct Rail {
    /// `VDD_CORE`
    pub name: String,
    pub volts: Option<f64>,
    pub amperes: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    VcioGencmd,
    Vcio,
    RpiVolt,
    Sysfs,
}

pub type Found = Firmware;

#[derive(Debug, Default)]
pub struct Kept {
    /// What the firmware did not know, by device.
    refused: BTreeSet<(Source, usize)>,
}

/// The label `reason`, with its bit.
const REASONS: [(&str, u32); 4] = [
    ("under_voltage", 1 << 0),
    ("arm_frequency_capped", 1 << 1),
    ("throttled", 1 << 2),
    ("soft_temperature_limit", 1 << 3),
];
const ALL_REASONS: u32 = 0xf;
/// What has occurred is that many bits higher.
const OCCURRED: u32 = 16;

/// The label `rail` of voltages, as the sensor calls them, with their numbers in the tag.
const RAILS: [(&str, u32); 4] = [("core", 1), ("sdram_c", 2), ("sdram_i", 4), ("sdram_p", 3)];
/// The label `clock`, with its number in the tag.
const CLOCKS: [(&str, u32); 4] = [("arm", 3), ("core", 4), ("emmc", 1), ("v3d", 5)];

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Subject {
    Throttled,
    Voltage(usize),
    Configured(usize),
    Measured(usize),
    Power,
}

/// How it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Form {
    Command(&'static str),
    Tag(u32),
    /// A tag with the number of what it is about.
    TagAbout(u32, u32),
}

const GET_CLOCK_RATE: u32 = 0x0003_0002;
const GET_VOLTAGE: u32 = 0x0003_0003;
const GET_THROTTLED: u32 = 0x0003_0046;
const GET_CLOCK_RATE_MEASURED: u32 = 0x0003_0047;
const GET_GENCMD_RESULT: u32 = 0x0003_0080;

/// In the order of asking: commands first.
const QUESTIONS: [(Subject, Form); 23] = [
    (Subject::Throttled, Form::Command("get_throttled")),
    (Subject::Voltage(0), Form::Command("measure_volts core")),
    (Subject::Voltage(1), Form::Command("measure_volts sdram_c")),
    (Subject::Voltage(2), Form::Command("measure_volts sdram_i")),
    (Subject::Voltage(3), Form::Command("measure_volts sdram_p")),
    (Subject::Measured(0), Form::Command("measure_clock arm")),
    (Subject::Measured(1), Form::Command("measure_clock core")),
    (Subject::Measured(2), Form::Command("measure_clock emmc")),
    (Subject::Measured(3), Form::Command("measure_clock v3d")),
    (Subject::Power, Form::Command("pmic_read_adc")),
    (Subject::Throttled, Form::Tag(GET_THROTTLED)),
    (Subject::Voltage(0), Form::TagAbout(GET_VOLTAGE, RAILS[0].1)),
    (Subject::Voltage(1), Form::TagAbout(GET_VOLTAGE, RAILS[1].1)),
    (Subject::Voltage(2), Form::TagAbout(GET_VOLTAGE, RAILS[2].1)),
    (Subject::Voltage(3), Form::TagAbout(GET_VOLTAGE, RAILS[3].1)),
    (Subject::Configured(0), Form::TagAbout(GET_CLOCK_RATE, CLOCKS[0].1)),
    (Subject::Configured(1), Form::TagAbout(GET_CLOCK_RATE, CLOCKS[1].1)),
    (Subject::Configured(2), Form::TagAbout(GET_CLOCK_RATE, CLOCKS[2].1)),
    (Subject::Configured(3), Form::TagAbout(GET_CLOCK_RATE, CLOCKS[3].1)),
    (Subject::Measured(0), Form::TagAbout(GET_CLOCK_RATE_MEASURED, CLOCKS[0].1)),
    (Subject::Measured(1), Form::TagAbout(GET_CLOCK_RATE_MEASURED, CLOCKS[1].1)),
    (Subject::Measured(2), Form::TagAbout(GET_CLOCK_RATE_MEASURED, CLOCKS[2].1)),
    (Subject::Measured(3), Form::TagAbout(GET_CLOCK_RATE_MEASURED, CLOCKS[3].1)),
];

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, calls, .. } = access;
    let mut firmware = Firmware::default();
    let mut ask =
        |firmware: &mut Firmware, source: Source, device: &str, is_cleared: bool, passes: fn(Form) -> bool| {
            let open_questions: Vec<usize> = (0..QUESTIONS.len())
                .filter(|&at| passes(QUESTIONS[at].1) && !firmware.has(QUESTIONS[at].0))
                .filter(|&at| !kept.refused.contains(&(source, at)))
                .collect();
            let mut messages: Vec<Message> = open_questions.iter().map(|&at| QUESTIONS[at].1.message()).collect();
            let is_in_vain = messages.is_empty() || firmware.is_late;
            if is_in_vain || (calls.mailbox)(&roots.rootfs.join(device), &mut messages).is_err() {
                return;
            }
            firmware.is_reached = true;
            firmware.is_late = messages.iter().any(Message::is_late);
            for (at, message) in open_questions.into_iter().zip(&messages) {
                match message.fate(QUESTIONS[at].1) {
                    Fate::Answered if firmware.take(QUESTIONS[at], message, is_cleared) => {
                        firmware.sources.insert(source);
                    }
                    Fate::Answered | Fate::Refused => _ = kept.refused.insert((source, at)),
                    Fate::Unanswered => (),
                }
            }
        };
    ask(&mut firmware, Source::VcioGencmd, "dev/vcio_gencmd", false, Form::is_command);
    ask(&mut firmware, Source::Vcio, "dev/vcio", false, Form::is_command);
    let is_all = firmware.has(Subject::Throttled) && firmware.voltages.iter().all(Option::is_some);
    let volt = if is_all { None } else { rpi_volt(roots, reader, !firmware.is_late) };
    ask(&mut firmware, Source::Vcio, "dev/vcio", volt.is_some(), |form| !form.is_command());
    if let Some(volt) = volt {
        firmware.fill_up(volt);
    }
    if !firmware.is_reached
        && let Some(bits) = throttled_file(roots, reader)
    {
        firmware.active = Bits { set: bits & ALL_REASONS, known: ALL_REASONS };
        firmware.sources.insert(Source::Sysfs);
    }
    if firmware.sources.is_empty() && !firmware.is_late {
        return Err(CollectError::Absent { what: "no firmware of a Raspberry Pi that can be asked".to_owned() });
    }
    Ok(firmware)
}

impl Firmware {
    /// Why this is not all that there is to find, if so.
    pub fn fault(&self) -> Option<String> {
        self.is_late.then(|| "the firmware did not answer in time".to_owned())
    }

    fn has(&self, subject: Subject) -> bool {
        match subject {
            Subject::Throttled => self.active.known != 0,
            Subject::Voltage(at) => self.voltages[at].is_some(),
            Subject::Configured(at) => self.configured[at].is_some(),
            Subject::Measured(at) => self.measured[at].is_some(),
            Subject::Power => !self.power.is_empty(),
        }
    }

    /// Says whether the answer was understood.
    fn take(&mut self, (subject, form): (Subject, Form), message: &Message, is_cleared_by_the_kernel: bool) -> bool {
        let text = message.text();
        // `throttled=0x50005`, `volt=0.8500V`, `frequency(48)=1500345728`
        let word = text.split_once('=').map(|(_, value)| value.trim());
        let value = match form {
            Form::Tag(_) => message.value(0),
            Form::TagAbout(..) => message.value(1),
            Form::Command(_) => None,
        };
        match subject {
            Subject::Throttled => {
                let Some(bits) = value.or_else(|| word.and_then(hexadecimal)) else { return false };
                self.active = Bits { set: bits & ALL_REASONS, known: ALL_REASONS };
                if form.is_command() || !is_cleared_by_the_kernel {
                    self.occurred = Bits { set: bits >> OCCURRED & ALL_REASONS, known: ALL_REASONS };
                }
            }
            Subject::Voltage(at) => {
                let microvolts = |text| Some((number_before(text, 'V')? * 1e6).round() as u64);
                let told = value.map(u64::from).or_else(|| word.and_then(microvolts));
                self.voltages[at] = told.filter(|microvolts| *microvolts > 0);
            }
            Subject::Configured(at) => self.configured[at] = value.map(u64::from).filter(|hertz| *hertz > 0),
            // One that stands still has 0.
            Subject::Measured(at) => {
                self.measured[at] = value.map(u64::from).or_else(|| word.and_then(|text| text.parse().ok()));
            }
            Subject::Power => self.power = power(&text),
        }
        self.has(subject)
    }

    /// What the devices have not told.
    fn fill_up(&mut self, volt: Volt) {
        if self.active.known == 0
            && let Some(is_low) = volt.is_low
        {
            self.active = Bits { set: u32::from(is_low), known: 1 };
            self.sources.insert(Source::RpiVolt);
        }
        for (known, told) in self.voltages.iter_mut().zip(volt.microvolts) {
            if known.is_none() && told.is_some() {
                *known = told;
                self.sources.insert(Source::RpiVolt);
            }
        }
    }
}

/// What the sensor says.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Volt {
    is_low: Option<bool>,
    /// In the order of `RAILS`.
    microvolts: [Option<u64>; RAILS.len()],
}

/// `None`: there is no such sensor, so nothing of the kernel's clears what has occurred. The alarm is what the kernel saw
/// last; for each voltage it asks the firmware.
fn rpi_volt(roots: &Roots, reader: &mut Reader, asks_for_voltages: bool) -> Option<Volt> {
    let chips = fs::read_dir(roots.sys("class/hwmon")).ok()?;
    let mut folders = chips.flatten().map(|entry| entry.path());
    let folder =
        folders.find(|folder| reader.text(&folder.join("name")).is_ok_and(|name| name.trim() == "rpi_volt"))?;
    let mut volt = Volt {
        is_low: reader.number::<u32>(&folder.join("in0_lcrit_alarm")).map(|alarm| alarm != 0),
        ..Volt::default()
    };
    for input in (0..RAILS.len()).filter(|_| asks_for_voltages) {
        let Ok(label) = reader.text(&folder.join(format!("in{input}_label"))) else { continue };
        let Some(at) = RAILS.iter().position(|(rail, _)| *rail == label.trim()) else { continue };
        let millivolts: Option<u64> = reader.number(&folder.join(format!("in{input}_input")));
        volt.microvolts[at] = millivolts.map(|millivolts| millivolts.saturating_mul(1000));
    }
    Some(volt)
}

/// The kernel's copy of the bits, in hexadecimal. The name of the firmware's device differs from board to board.
fn throttled_file(roots: &Roots, reader: &mut Reader) -> Option<u32> {
    let devices = fs::read_dir(roots.sys("bus/platform/drivers/raspberrypi-firmware")).ok()?;
    let mut files = devices.flatten().map(|entry| entry.path().join("get_throttled"));
    files.find_map(|file| hexadecimal(reader.text(&file).ok()?.trim()))
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

/// `0.8500V`
fn number_before(text: &str, unit: char) -> Option<f64> {
    text.strip_suffix(unit)?.parse().ok().filter(|number: &f64| number.is_finite() && *number >= 0.0)
}

/// Lines `VDD_CORE_A current(7)=0.75012000A` and, for the same rail, `VDD_CORE_V volt(15)=0.89745940V`. Those that are not
/// understood, as one that was cut off, are left out.
fn power(text: &str) -> Vec<Rail> {
    let mut rails: Vec<Rail> = Vec::new();
    for line in text.lines() {
        let Some((name, (_, value))) =
            line.trim().split_once(' ').and_then(|(name, rest)| Some((name, rest.split_once('=')?)))
        else {
            continue;
        };
        let (name, amperes, volts) = match (name.strip_suffix("_A"), name.strip_suffix("_V")) {
            (Some(name), _) => (name, number_before(value, 'A'), None),
            (_, Some(name)) => (name, None, number_before(value, 'V')),
            _ => continue,
        };
        if amperes.is_none() && volts.is_none() {
            continue;
        }
        let at = rails.iter().position(|rail| rail.name == name).unwrap_or(rails.len());
        if at == rails.len() {
            rails.push(Rail { name: name.to_owned(), volts: None, amperes: None });
        }
        rails[at].amperes = amperes.or(rails[at].amperes);
        rails[at].volts = volts.or(rails[at].volts);
    }
    rails
}

/// Room for a command and its answer; the longest, of a Pi 5's rails, takes less than half of it. With what goes around it
/// the kernel needs one page.
const TEXT_WORDS: usize = 512;

pub type Words = [u32; TEXT_WORDS + 7];

/// A message to the firmware's mailbox and then its answer in the same place (raspberrypi/firmware wiki, "Mailbox property
/// interface"): size, status, one tag with its size, status and values, and an end.
#[derive(Debug)]
pub struct Message {
    pub words: Words,
    /// Whether the kernel has taken it to the firmware and back. `None`: it was not asked to.
    pub passed: Option<io::Result<()>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Answered,
    /// The firmware does not know the question.
    Refused,
    /// It may the next time.
    Unanswered,
}

/// In a tag's status: it was understood. The rest is the length of the answer.
const UNDERSTOOD: u32 = 1 << 31;

impl Form {
    fn is_command(self) -> bool {
        matches!(self, Form::Command(_))
    }

    fn message(self) -> Message {
        let mut words = [0; TEXT_WORDS + 7];
        let used = match self {
            Form::Command(text) => {
                words[2] = GET_GENCMD_RESULT;
                words[3] = (TEXT_WORDS * 4) as u32;
                // Word 5 is for the command's own status.
                for (word, bytes) in words[6..].iter_mut().zip(text.as_bytes().chunks(4)) {
                    let mut four = [0; 4];
                    four[..bytes.len()].copy_from_slice(bytes);
                    *word = u32::from_ne_bytes(four);
                }
                words.len()
            }
            Form::Tag(tag) => {
                (words[2], words[3]) = (tag, 4);
                7
            }
            Form::TagAbout(tag, about) => {
                (words[2], words[3], words[5]) = (tag, 8, about);
                8
            }
        };
        words[0] = (used * 4) as u32;
        Message { words, passed: None }
    }
}

impl Message {
    fn fate(&self, form: Form) -> Fate {
        match (&self.passed, form) {
            (None, _) => Fate::Unanswered,
            (Some(Err(error)), _) => match Errno::from_io_error(error) {
                // The firmware did not understand the tag, or the device does not let it through.
                Some(Errno::INVAL | Errno::PERM) => Fate::Refused,
                _ => Fate::Unanswered,
            },
            // What has not been understood comes back as it was.
            (Some(Ok(())), Form::Command(command)) => {
                let text = self.text();
                let is_answer = self.words[5] == 0 && text != command && !text.starts_with("error=");
                if is_answer { Fate::Answered } else { Fate::Refused }
            }
            (Some(Ok(())), _) if self.words[4] & UNDERSTOOD != 0 => Fate::Answered,
            (Some(Ok(())), _) => Fate::Refused,
        }
    }

    fn is_late(&self) -> bool {
        matches!(&self.passed, Some(Err(error)) if error.kind() == io::ErrorKind::TimedOut)
    }

    /// A value of a tag.
    fn value(&self, at: usize) -> Option<u32> {
        let length = (self.words[4] & !UNDERSTOOD) as usize;
        (length >= (at + 1) * 4).then(|| self.words[5 + at])
    }

    /// What a command answered.
    pub fn text(&self) -> String {
        let bytes = self.words[6..].iter().flat_map(|word| word.to_ne_bytes());
        let bytes: Vec<u8> = bytes.take_while(|byte| *byte != 0).collect();
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

/// How a device is asked; a function of its own so that recorded answers can stand in for it. Fails when the device can't be
/// opened.
pub type Ask = fn(device: &Path, messages: &mut [Message]) -> io::Result<()>;

/// Asks the firmware, one message after the other. After one that it does not answer the others are left alone: each would
/// wait for a second.
pub fn ask(device: &Path, messages: &mut [Message]) -> io::Result<()> {
    let device = File::open(device)?;
    for message in messages {
        message.passed = Some(pass_on(&device, &mut message.words));
        if message.is_late() {
            break;
        }
    }
    Ok(())
}

/// `_IOWR(100, 0, char *)`
const PROPERTY: rustix::ioctl::Opcode = opcode::read_write::<*mut u8>(100, 0);

#[expect(unsafe_code, reason = "no other way leads to the firmware's mailbox")]
fn pass_on(device: &File, words: &mut Words) -> io::Result<()> {
    if words[0] as usize > size_of::<Words>() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    // SAFETY: the drivers of vcio read and write as many bytes as the first word says, from the first word on, which are not
    // more than there are, and keep no pointer to them. All bytes are good for a u32.
    unsafe { ioctl(device, Updater::<PROPERTY, Words>::new(words)) }.map_err(io::Error::from)
}

const ACTIVE: Family = Family {
    name: "rpi_throttle_active",
    kind: Kind::Gauge,
    help: "Whether the firmware sees this reason to hold the processor back, or does so, now.",
    labels: &["reason"],
    source: "the firmware's `get_throttled`, bits 0 to 3; without access to it only under_voltage, from the sensor rpi_volt",
};
const HAS_OCCURRED: Family = Family {
    name: "rpi_throttle_occurred",
    kind: Kind::Gauge,
    help: "Whether the firmware has seen this reason to hold the processor back, or did so, since it booted.",
    labels: &["reason"],
    source: "the firmware's `get_throttled`, bits 16 to 19; absent where only what the kernel clears can be read",
};
const VOLTAGE: Family = Family {
    name: "rpi_voltage_volts",
    kind: Kind::Gauge,
    help: "Voltage that the firmware gives to the core and the SDRAM.",
    labels: &["rail"],
    source: "the firmware's `measure_volts`, or its tag 0x00030003, or inN_input of the sensor rpi_volt",
};
const CONFIGURED: Family = Family {
    name: "rpi_clock_configured_hertz",
    kind: Kind::Gauge,
    help: "Frequency that the firmware has set a clock to.",
    labels: &["clock"],
    source: "the firmware's tag 0x00030002, by /dev/vcio alone",
};
const MEASURED: Family = Family {
    name: "rpi_clock_measured_hertz",
    kind: Kind::Gauge,
    help: "Frequency of a clock as the firmware measures it.",
    labels: &["clock"],
    source: "the firmware's `measure_clock`, or its tag 0x00030047",
};
const POWER_VOLTS: Family = Family {
    name: "rpi_pmic_rail_volts",
    kind: Kind::Gauge,
    help: "Voltage that the power chip of a Raspberry Pi 5 measures; EXT5V is what comes in, BATT the clock's battery.",
    labels: &["rail"],
    source: "the firmware's `pmic_read_adc`",
};
const POWER_AMPERES: Family = Family {
    name: "rpi_pmic_rail_amperes",
    kind: Kind::Gauge,
    help: "Current that the power chip of a Raspberry Pi 5 measures.",
    labels: &["rail"],
    source: "the firmware's `pmic_read_adc`",
};
const SOURCE: Family = Family {
    name: "rpi_firmware_source_info",
    kind: Kind::Gauge,
    help: "Ways by which something of the firmware's could be read; always 1.",
    labels: &["source"],
    source: "vcio_gencmd, vcio (/dev), rpi_volt (/sys/class/hwmon), sysfs (get_throttled of the kernel's driver)",
};
pub const FAMILIES: &[Family] =
    &[ACTIVE, HAS_OCCURRED, VOLTAGE, CONFIGURED, MEASURED, POWER_VOLTS, POWER_AMPERES, SOURCE];

impl Source {
    fn name(self) -> &'static str {
        match self {
            Source::VcioGencmd => "vcio_gencmd",
            Source::Vcio => "vcio",
            Source::RpiVolt => "rpi_volt",
            Source::Sysfs => "sysfs",
        }
    }
}

pub fn write(firmware: &Firmware, out: &mut Exposition) {
    for (family, bits) in [(ACTIVE, firmware.active), (HAS_OCCURRED, firmware.occurred)] {
        let mut family = out.family(&family);
        for (reason, bit) in REASONS.iter().filter(|(_, bit)| bits.known & bit != 0) {
            family.sample(&[("reason", reason)], bits.set & bit != 0);
        }
    }
    let mut family = out.family(&VOLTAGE);
    for ((rail, _), microvolts) in RAILS.iter().zip(firmware.voltages) {
        if let Some(microvolts) = microvolts {
            family.sample(&[("rail", rail)], microvolts as f64 / 1e6);
        }
    }
    for (family, clocks) in [(CONFIGURED, firmware.configured), (MEASURED, firmware.measured)] {
        let mut family = out.family(&family);
        for ((clock, _), hertz) in CLOCKS.iter().zip(clocks) {
            if let Some(hertz) = hertz {
                family.sample(&[("clock", clock)], hertz);
            }
        }
    }
    for (family, of) in
        [(POWER_VOLTS, (|rail| rail.volts) as fn(&Rail) -> Option<f64>), (POWER_AMPERES, |rail| rail.amperes)]
    {
        let mut family = out.family(&family);
        for rail in &firmware.power {
            if let Some(value) = of(rail) {
                family.sample(&[("rail", &rail.name)], value);
            }
        }
    }
    let mut family = out.family(&SOURCE);
    for source in &firmware.sources {
        family.sample(&[("source", source.name())], 1u64);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::*;

    use super::*;
    use crate::collect::tests::{Host, samples};

    impl Message {
        /// Answers a command.
        fn say(&mut self, text: &str) {
            self.words[5..].fill(0);
            for (word, bytes) in self.words[6..].iter_mut().zip(text.as_bytes().chunks(4)) {
                let mut four = [0; 4];
                four[..bytes.len()].copy_from_slice(bytes);
                *word = u32::from_ne_bytes(four);
            }
            (self.words[4], self.passed) = (UNDERSTOOD | 1024, Some(Ok(())));
        }

        /// Answers a tag.
        fn give(&mut self, values: &[u32]) {
            self.words[5..5 + values.len()].copy_from_slice(values);
            (self.words[4], self.passed) = (UNDERSTOOD | (values.len() as u32 * 4), Some(Ok(())));
        }
    }

    const RAILS_OF_A_PI_5: &str = " 3V7_WL_SW_A current(0)=0.00780744A\n  VDD_CORE_A current(7)=0.75012000A\n\
         3V7_WL_SW_V volt(8)=3.69824000V\n  VDD_CORE_V volt(15)=0.72036900V\n     EXT5V_V volt(24)=5.08691000V\n";

    /// What newer firmware answers; commands that a Pi 4 has not are refused by their text.
    fn command(text: &str) -> &'static str {
        match text {
            "get_throttled" => "throttled=0x50005",
            "measure_volts core" => "volt=0.8500V",
            "measure_volts sdram_c" | "measure_volts sdram_i" | "measure_volts sdram_p" => "volt=1.1000V",
            "measure_clock arm" => "frequency(48)=1500345728",
            "measure_clock core" => "frequency(1)=500000992",
            "measure_clock emmc" => "frequency(47)=250000496",
            "measure_clock v3d" => "frequency(46)=0",
            _ => "error=1 error_msg=\"Command not registered\"",
        }
    }

    fn gencmd_only(device: &Path, messages: &mut [Message]) -> io::Result<()> {
        match device.file_name().and_then(|name| name.to_str()) {
            Some("vcio_gencmd") => {
                messages.iter_mut().for_each(|message| message.say(command(&message.text())));
                Ok(())
            }
            _ => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }

    fn written(host: &Host, kept: &mut Kept) -> Vec<String> {
        let found = host.read(|access| read(access, kept)).unwrap();
        samples(|out| write(&found, out))
    }

    fn host(mailbox: Ask) -> Host {
        let mut host = Host::new();
        host.calls.mailbox = mailbox;
        host
    }

    fn volt(host: &Host, alarm: &str) {
        host.write("sys/class/hwmon/hwmon0/name", "cpu_thermal\n");
        host.write("sys/class/hwmon/hwmon1/name", "rpi_volt\n");
        host.write("sys/class/hwmon/hwmon1/in0_lcrit_alarm", alarm);
    }

    #[test]
    fn commands_tell_all_but_the_configured_clocks() {
        let host = host(gencmd_only);
        volt(&host, "1\n");
        assert_eq!(
            written(&host, &mut Kept::default()),
            [
                "rpi_throttle_active{reason=\"under_voltage\"} 1",
                "rpi_throttle_active{reason=\"arm_frequency_capped\"} 0",
                "rpi_throttle_active{reason=\"throttled\"} 1",
                "rpi_throttle_active{reason=\"soft_temperature_limit\"} 0",
                "rpi_throttle_occurred{reason=\"under_voltage\"} 1",
                "rpi_throttle_occurred{reason=\"arm_frequency_capped\"} 0",
                "rpi_throttle_occurred{reason=\"throttled\"} 1",
                "rpi_throttle_occurred{reason=\"soft_temperature_limit\"} 0",
                "rpi_voltage_volts{rail=\"core\"} 0.85",
                "rpi_voltage_volts{rail=\"sdram_c\"} 1.1",
                "rpi_voltage_volts{rail=\"sdram_i\"} 1.1",
                "rpi_voltage_volts{rail=\"sdram_p\"} 1.1",
                "rpi_clock_measured_hertz{clock=\"arm\"} 1500345728",
                "rpi_clock_measured_hertz{clock=\"core\"} 500000992",
                "rpi_clock_measured_hertz{clock=\"emmc\"} 250000496",
                "rpi_clock_measured_hertz{clock=\"v3d\"} 0",
                "rpi_firmware_source_info{source=\"vcio_gencmd\"} 1",
            ]
        );
    }

    /// Firmware from before 2020: it does not know commands here. The third clock is refused by the kernel.
    fn tags_only(device: &Path, messages: &mut [Message]) -> io::Result<()> {
        if !device.ends_with("dev/vcio") {
            return Err(io::ErrorKind::NotFound.into());
        }
        for message in messages {
            let about = message.words[5];
            match message.words[2] {
                GET_THROTTLED => {
                    assert_eq!(about, 0, "nothing is cleared");
                    message.give(&[0x0005_0000]);
                }
                GET_VOLTAGE => message.give(&[about, 1_200_000]),
                GET_CLOCK_RATE if about == 1 => message.passed = Some(Err(io::Error::from_raw_os_error(22))),
                GET_CLOCK_RATE => message.give(&[about, 600_000_000]),
                GET_CLOCK_RATE_MEASURED => message.give(&[about, 599_999_000]),
                _ => message.passed = Some(Ok(())),
            }
        }
        Ok(())
    }

    #[test]
    fn tags_tell_what_commands_do_not_and_nothing_that_the_kernel_clears() {
        let host = host(tags_only);
        let mut kept = Kept::default();
        let lines = written(&host, &mut kept);
        let starting = |lines: &[String], start: &str| lines.iter().filter(|line| line.starts_with(start)).count();
        assert_eq!(starting(&lines, "rpi_throttle_active{"), 4, "{lines:?}");
        assert!(lines.contains(&"rpi_throttle_occurred{reason=\"throttled\"} 1".to_owned()), "{lines:?}");
        assert!(lines.contains(&"rpi_voltage_volts{rail=\"core\"} 1.2".to_owned()), "{lines:?}");
        assert_eq!(starting(&lines, "rpi_clock_configured_hertz{"), 3, "{lines:?}");
        assert_eq!(starting(&lines, "rpi_clock_measured_hertz{"), 4, "{lines:?}");
        volt(&host, "0\n");
        let lines = written(&host, &mut kept);
        assert_eq!(starting(&lines, "rpi_throttle_active{"), 4, "{lines:?}");
        assert_eq!(starting(&lines, "rpi_throttle_occurred{"), 0, "{lines:?}");
    }

    #[test]
    fn what_is_refused_is_asked_once_and_what_is_late_again() {
        static ASKED: Mutex<Vec<String>> = Mutex::new(Vec::new());
        static IS_LATE: Mutex<bool> = Mutex::new(false);
        fn ask(device: &Path, messages: &mut [Message]) -> io::Result<()> {
            if *IS_LATE.lock().unwrap() && device.ends_with("vcio_gencmd") {
                messages[0].passed = Some(Err(io::ErrorKind::TimedOut.into()));
                return Ok(());
            }
            let is_gencmd = device.ends_with("vcio_gencmd");
            ASKED.lock().unwrap().extend(messages.iter().filter(|_| is_gencmd).map(Message::text));
            gencmd_only(device, messages)
        }
        let host = host(ask);
        let mut kept = Kept::default();
        let asked = |kept: &mut Kept| {
            _ = host.read(|access| read(access, kept));
            std::mem::take(&mut *ASKED.lock().unwrap())
        };
        assert_eq!(asked(&mut kept).iter().filter(|text| *text == "pmic_read_adc").count(), 1);
        let second = asked(&mut kept);
        assert_eq!(second.iter().filter(|text| *text == "pmic_read_adc").count(), 0);
        *IS_LATE.lock().unwrap() = true;
        let late = host.read(|access| read(access, &mut kept)).unwrap();
        assert!(late.fault().is_some() && late.sources.is_empty());
        volt(&host, "1\n");
        host.write("sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled", "8\n");
        let late = host.read(|access| read(access, &mut kept)).unwrap();
        assert_eq!((late.sources.len(), late.active), (1, Bits { set: 1, known: 1 }), "the sensor alone");
        *IS_LATE.lock().unwrap() = false;
        assert_eq!(asked(&mut kept), second);
    }

    fn no_device(_: &Path, _: &mut [Message]) -> io::Result<()> {
        Err(io::ErrorKind::NotFound.into())
    }

    #[test]
    fn without_a_device_the_sensor_and_the_kernels_file() {
        let host = host(no_device);
        assert!(matches!(host.read(|access| read(access, &mut Kept::default())), Err(CollectError::Absent { .. })));
        volt(&host, "1\n");
        assert_eq!(
            written(&host, &mut Kept::default()),
            ["rpi_throttle_active{reason=\"under_voltage\"} 1", "rpi_firmware_source_info{source=\"rpi_volt\"} 1"]
        );
        // As of 2026.
        for (file, text) in
            [("in0_label", "core\n"), ("in0_input", "850\n"), ("in2_label", "sdram_i\n"), ("in2_input", "1100\n")]
        {
            host.write(&format!("sys/class/hwmon/hwmon1/{file}"), text);
        }
        host.write("sys/bus/platform/drivers/raspberrypi-firmware/soc:firmware/get_throttled", "80008\n");
        assert_eq!(
            written(&host, &mut Kept::default()),
            [
                "rpi_throttle_active{reason=\"under_voltage\"} 0",
                "rpi_throttle_active{reason=\"arm_frequency_capped\"} 0",
                "rpi_throttle_active{reason=\"throttled\"} 0",
                "rpi_throttle_active{reason=\"soft_temperature_limit\"} 1",
                "rpi_voltage_volts{rail=\"core\"} 0.85",
                "rpi_voltage_volts{rail=\"sdram_i\"} 1.1",
                "rpi_firmware_source_info{source=\"rpi_volt\"} 1",
                "rpi_firmware_source_info{source=\"sysfs\"} 1",
            ]
        );
    }

    #[test]
    fn the_rails_of_a_pi_5() {
        let rail = |name: &str, volts, amperes| Rail { name: name.to_owned(), volts, amperes };
        assert_eq!(
            power(&format!("{RAILS_OF_A_PI_5}BATT_V volt(25)=0.00\nnonsense\nX_A current(1)=-1A\n")),
            [
                rail("3V7_WL_SW", Some(3.69824), Some(0.007_807_44)),
                rail("VDD_CORE", Some(0.720_369), Some(0.750_12)),
                rail("EXT5V", Some(5.08691), None),
            ]
        );
    }

    #[test]
    fn messages_are_laid_out_as_the_firmware_wants_them() {
        let message = Form::Command("get_throttled").message();
        assert_eq!(message.words[..6], [519 * 4, 0, GET_GENCMD_RESULT, 2048, 0, 0]);
        assert_eq!(message.text(), "get_throttled");
        let message = Form::Tag(GET_THROTTLED).message();
        assert_eq!(message.words[..7], [28, 0, GET_THROTTLED, 4, 0, 0, 0]);
        let message = Form::TagAbout(GET_VOLTAGE, 4).message();
        assert_eq!(message.words[..8], [32, 0, GET_VOLTAGE, 8, 0, 4, 0, 0]);
        for (_, form) in QUESTIONS {
            assert!(form.message().words[0] as usize <= size_of::<Words>());
        }
    }

    #[test]
    fn the_drivers_number_and_a_file_that_is_no_device() {
        #[cfg(target_pointer_width = "64")]
        assert_eq!(PROPERTY, 0xc008_6400);
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut messages = [Form::Tag(GET_THROTTLED).message()];
        ask(file.path(), &mut messages).unwrap();
        assert!(matches!(messages[0].passed, Some(Err(_))));
        assert!(ask(Path::new("/nonexistent"), &mut messages).is_err());
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), words in proptest::collection::vec(any::<u32>(), TEXT_WORDS + 7), at in 0..QUESTIONS.len()) {
            power(&text);
            let message = Message { words: words.try_into().unwrap(), passed: Some(Ok(())) };
            message.fate(QUESTIONS[at].1);
            Firmware::default().take(QUESTIONS[at], &message, false);
        }

        #[test]
        fn answers_never_panic(text in "[a-z]{0,9}(\\([0-9]{1,2}\\))?=(0x)?[0-9.A-Vx]{0,25}", lines in "([A-Z0-9_]{0,9} [a-z()0-9]{0,9}=[0-9.AV]{0,12}\n){0,9}", at in 0..QUESTIONS.len()) {
            power(&lines);
            let mut message = QUESTIONS[at].1.message();
            message.say(&text);
            Firmware::default().take(QUESTIONS[at], &message, true);
        }
    }
}
