//! `watchdog`: the hardware timers that restart a machine whose system hangs; on a Pi the one of the processor.

use std::fs;
use std::io;
use std::path::Path;

use super::{Access, CollectError, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some(
    "success is 0 where the kernel has no watchdog class at all, as with node_exporter; 1 where it has no device.",
);

/// More than a machine has.
const MOST_DEVICES: usize = 16;

/// As the kernel has it (Documentation/ABI/testing/sysfs-class-watchdog); which files there are is up to the driver.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Watchdog {
    /// `watchdog0`.
    pub name: String,
    pub access_cs0: Option<i64>,
    pub bootstatus: Option<i64>,
    pub fw_version: Option<i64>,
    pub nowayout: Option<i64>,
    pub pretimeout: Option<i64>,
    pub timeleft: Option<i64>,
    pub timeout: Option<i64>,
    /// Texts, empty where there is no such file.
    pub identity: String,
    pub options: String,
    pub pretimeout_governor: String,
    pub state: String,
    pub status: String,
}

pub type Found = Vec<Watchdog>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let path = roots.sys("class/watchdog");
    let entries = match fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(CollectError::Absent { what: "this kernel has no watchdog class".to_owned() });
        }
        Err(source) => return Err(CollectError::Read { path, source }),
    };
    let mut devices: Vec<_> = entries.flatten().map(|entry| entry.path()).filter(|path| is_device(path)).collect();
    devices.sort();
    devices.truncate(MOST_DEVICES);
    Ok(devices.iter().map(|folder| device(folder, reader)).collect())
}

/// A fixture tree keeps an empty class by a hidden file.
fn is_device(path: &Path) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| !name.starts_with('.'))
}

fn device(folder: &Path, reader: &mut Reader) -> Watchdog {
    let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let mut text = |file: &str| reader.text(&folder.join(file)).map(|text| text.trim().to_owned()).unwrap_or_default();
    Watchdog {
        name,
        access_cs0: parse(&text("access_cs0")),
        bootstatus: parse(&text("bootstatus")),
        fw_version: parse(&text("fw_version")),
        nowayout: parse(&text("nowayout")),
        pretimeout: parse(&text("pretimeout")),
        timeleft: parse(&text("timeleft")),
        timeout: parse(&text("timeout")),
        identity: text("identity"),
        options: text("options"),
        pretimeout_governor: text("pretimeout_governor"),
        state: text("state"),
        status: text("status"),
    }
}

/// Decimal, or hexadecimal with `0x`.
fn parse(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(digits) => i64::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

const ACCESS_CS0: Family = number(
    "node_watchdog_access_cs0",
    "Whether the next start is from the first flash chip (1) or the second, where there are two.",
    "/sys/class/watchdog/*/access_cs0",
);
const BOOTSTATUS: Family = number(
    "node_watchdog_bootstatus",
    "Status bits of the watchdog at boot; other than 0 where it knows why the machine restarted.",
    "/sys/class/watchdog/*/bootstatus",
);
const FW_VERSION: Family =
    number("node_watchdog_fw_version", "Version of the watchdog's firmware.", "/sys/class/watchdog/*/fw_version");
const INFO: Family = Family {
    name: "node_watchdog_info",
    kind: Kind::Gauge,
    help: "What the watchdog is and whether it is armed, in labels, value is always 1.",
    labels: &["name", "options", "identity", "state", "status", "pretimeout_governor"],
    source: "/sys/class/watchdog/*",
};
const NOWAYOUT: Family = number(
    "node_watchdog_nowayout",
    "Whether the watchdog can't be stopped once it has been armed.",
    "/sys/class/watchdog/*/nowayout",
);
const PRETIMEOUT: Family = number(
    "node_watchdog_pretimeout_seconds",
    "Time before the restart at which the watchdog warns.",
    "/sys/class/watchdog/*/pretimeout",
);
const TIMELEFT: Family = number(
    "node_watchdog_timeleft_seconds",
    "Time until the watchdog restarts the machine unless it is fed.",
    "/sys/class/watchdog/*/timeleft",
);
const TIMEOUT: Family = number(
    "node_watchdog_timeout_seconds",
    "Time after which the watchdog restarts a machine that does not feed it.",
    "/sys/class/watchdog/*/timeout",
);
pub const FAMILIES: &[Family] = &[ACCESS_CS0, BOOTSTATUS, FW_VERSION, INFO, NOWAYOUT, PRETIMEOUT, TIMELEFT, TIMEOUT];

const fn number(name: &'static str, help: &'static str, source: &'static str) -> Family {
    Family { name, kind: Kind::Gauge, help, labels: &["name"], source }
}

pub fn write(devices: &[Watchdog], out: &mut Exposition) {
    let mut numbers = |family: &Family, value: fn(&Watchdog) -> Option<i64>| {
        let mut family = out.family(family);
        for device in devices {
            if let Some(value) = value(device) {
                family.sample(&[("name", &device.name)], value);
            }
        }
    };
    numbers(&ACCESS_CS0, |device| device.access_cs0);
    numbers(&BOOTSTATUS, |device| device.bootstatus);
    numbers(&FW_VERSION, |device| device.fw_version);
    numbers(&NOWAYOUT, |device| device.nowayout);
    numbers(&PRETIMEOUT, |device| device.pretimeout);
    numbers(&TIMELEFT, |device| device.timeleft);
    numbers(&TIMEOUT, |device| device.timeout);
    let mut family = out.family(&INFO);
    for device in devices {
        let labels = [
            ("name", &*device.name),
            ("options", &*device.options),
            ("identity", &*device.identity),
            ("state", &*device.state),
            ("status", &*device.status),
            ("pretimeout_governor", &*device.pretimeout_governor),
        ];
        family.sample(&labels, 1u64);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn numbers_of_both_bases() {
        assert_eq!(parse("15"), Some(15));
        assert_eq!(parse("-1"), Some(-1));
        assert_eq!(parse("0x8100"), Some(0x8100));
        assert_eq!((parse(""), parse("0x"), parse("x")), (None, None, None));
    }

    #[test]
    fn what_the_driver_lacks_is_missing() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("watchdog0");
        fs::create_dir(&path).unwrap();
        fs::write(path.join("timeout"), "15\n").unwrap();
        fs::write(path.join("identity"), "Broadcom BCM2835 Watchdog timer\n").unwrap();
        let expected = Watchdog {
            name: "watchdog0".into(),
            timeout: Some(15),
            identity: "Broadcom BCM2835 Watchdog timer".into(),
            ..Watchdog::default()
        };
        assert_eq!(device(&path, &mut Reader::default()), expected);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            parse(&text);
        }
    }
}
