//! `time`: the host's clock as it was when the scrape began, its time zone, and what the kernel counts time with.

use std::fs;
use std::io;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::{Access, CollectError, Reader, Roots};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Debug, PartialEq)]
pub struct Time {
    pub now: Timestamp,
    /// `None` where the host's zone can't be read.
    pub zone: Option<Zone>,
    pub clock_sources: Vec<ClockSource>,
}

/// What holds at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Its short name, `CET` or `CEST`.
    pub name: String,
    pub offset_seconds: i64,
}

/// One of the kernel's devices, of which there has only ever been the first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClockSource {
    pub available: Vec<String>,
    pub current: Option<String>,
}

/// The zone, with the bytes that it was read from.
#[derive(Debug, Default)]
pub struct Kept {
    bytes: Vec<u8>,
    zone: Option<TimeZone>,
}

pub type Found = Time;

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, now, .. } = access;
    let zone = zone(roots, reader, kept).map(|zone| at(zone, *now));
    Ok(Time { now: *now, zone, clock_sources: clock_sources(roots, reader) })
}

fn zone<'k>(roots: &Roots, reader: &mut Reader, kept: &'k mut Kept) -> Option<&'k TimeZone> {
    match reader.bytes(&roots.root("etc/localtime")) {
        Ok(bytes) if kept.zone.is_some() && kept.bytes == bytes => (),
        Ok(bytes) => *kept = Kept { zone: TimeZone::tzif("", bytes).ok(), bytes: bytes.to_owned() },
        // localtime(5): UTC where there is no such file.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            *kept = Kept { zone: Some(TimeZone::UTC), bytes: Vec::new() };
        }
        Err(_) => *kept = Kept::default(),
    }
    kept.zone.as_ref()
}

fn at(zone: &TimeZone, now: Timestamp) -> Zone {
    let info = zone.to_offset_info(now);
    Zone { name: info.abbreviation().to_owned(), offset_seconds: info.offset().seconds().into() }
}

fn clock_sources(roots: &Roots, reader: &mut Reader) -> Vec<ClockSource> {
    let Ok(entries) = fs::read_dir(roots.sys("devices/system/clocksource")) else { return Vec::new() };
    let is_device = |name: &std::ffi::OsStr| {
        let number = name.to_str().and_then(|name| name.strip_prefix("clocksource"));
        number.is_some_and(|number| number.starts_with(|c: char| c.is_ascii_digit()))
    };
    let mut folders: Vec<_> =
        entries.flatten().filter(|entry| is_device(&entry.file_name())).map(|entry| entry.path()).collect();
    folders.sort();
    let mut device = |folder: &std::path::PathBuf| ClockSource {
        available: reader.text(&folder.join("available_clocksource")).map(parse).unwrap_or_default(),
        current: reader
            .text(&folder.join("current_clocksource"))
            .map(|text| text.trim().to_owned())
            .ok()
            .filter(|name| !name.is_empty()),
    };
    folders.iter().map(&mut device).collect()
}

/// Names between spaces, each once.
fn parse(text: &str) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for name in text.split_ascii_whitespace() {
        if names.iter().all(|known| known != name) {
            names.push(name.to_owned());
        }
    }
    names
}

const AVAILABLE: Family = Family {
    name: "node_time_clocksource_available_info",
    kind: Kind::Gauge,
    help: "Hardware that the kernel could count time with, value is always 1.",
    labels: &["device", "clocksource"],
    source: "/sys/devices/system/clocksource/*/available_clocksource",
};
const CURRENT: Family = Family {
    name: "node_time_clocksource_current_info",
    kind: Kind::Gauge,
    help: "Hardware that the kernel counts time with, value is always 1.",
    labels: &["device", "clocksource"],
    source: "/sys/devices/system/clocksource/*/current_clocksource",
};
const TIME: Family = Family {
    name: "node_time_seconds",
    kind: Kind::Gauge,
    help: "System time in seconds since epoch (1970).",
    labels: &[],
    source: "clock_gettime(2)",
};
const ZONE_OFFSET: Family = Family {
    name: "node_time_zone_offset_seconds",
    kind: Kind::Gauge,
    help: "How far the host's local time is ahead of UTC.",
    labels: &["time_zone"],
    source: "ROOTFS/etc/localtime; UTC where there is none",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[AVAILABLE, CURRENT, TIME, ZONE_OFFSET];

pub fn write(time: &Time, out: &mut Exposition) {
    out.family(&TIME).single(time.now.as_duration().as_secs_f64());
    if let Some(zone) = &time.zone {
        out.family(&ZONE_OFFSET).sample(&[("time_zone", &zone.name)], zone.offset_seconds);
    }
    let mut family = out.family(&AVAILABLE);
    for (device, source) in time.clock_sources.iter().enumerate() {
        let device = device.to_string();
        for name in &source.available {
            family.sample(&[("device", &device), ("clocksource", name)], 1u64);
        }
    }
    let mut family = out.family(&CURRENT);
    for (device, source) in time.clock_sources.iter().enumerate() {
        if let Some(name) = &source.current {
            family.sample(&[("device", &device.to_string()), ("clocksource", name)], 1u64);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use proptest::prelude::*;

    use super::*;

    /// The smallest TZif file there is: no change ever, one offset, and the rule in its footer (RFC 9636).
    fn tzif(offset: i32, name: &str, rule: &str) -> Vec<u8> {
        let mut out = Vec::new();
        for width in 1..=2 {
            out.extend(b"TZif2");
            out.extend([0; 15]);
            // No indicators, leap seconds or transitions; one type, and its name.
            for count in [0, 0, 0, 0, 1, name.len() as u32 + 1] {
                out.extend(count.to_be_bytes());
            }
            out.extend(offset.to_be_bytes());
            out.extend([0, 0]);
            out.extend(name.as_bytes());
            out.push(0);
            if width == 2 {
                out.extend(format!("\n{rule}\n").as_bytes());
            }
        }
        out
    }

    fn under(rootfs: PathBuf) -> Roots {
        Roots { procfs: rootfs.clone(), sysfs: rootfs.clone(), udev_data: rootfs.clone(), rootfs }
    }

    #[test]
    fn the_zone_is_the_hosts_and_follows_its_file() {
        let folder = tempfile::tempdir().unwrap();
        let roots = under(folder.path().to_owned());
        let zoneinfo = folder.path().join("usr/share/zoneinfo");
        fs::create_dir_all(&zoneinfo).unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        let (winter, summer) = (Timestamp::from_second(1_767_326_400), Timestamp::from_second(1_782_864_000));
        let (mut reader, mut kept) = (Reader::default(), Kept::default());
        let mut check = |now: &Result<Timestamp, _>, expected: Option<(&str, i64)>| {
            let found = zone(&roots, &mut reader, &mut kept).map(|zone| at(zone, *now.as_ref().unwrap()));
            let expected = expected.map(|(name, offset_seconds)| Zone { name: name.to_owned(), offset_seconds });
            assert_eq!(found, expected);
        };
        check(&winter, Some(("UTC", 0)));
        fs::write(zoneinfo.join("Berlin"), tzif(3600, "CET", "CET-1CEST,M3.5.0,M10.5.0/3")).unwrap();
        // As Debian has it: a link that leads out of the root when the kernel follows it.
        std::os::unix::fs::symlink("/usr/share/zoneinfo/Berlin", folder.path().join("etc/localtime")).unwrap();
        check(&winter, Some(("CET", 3600)));
        check(&summer, Some(("CEST", 7200)));
        fs::write(zoneinfo.join("Berlin"), tzif(-10800, "-03", "<-03>3")).unwrap();
        check(&summer, Some(("-03", -10800)));
        fs::write(zoneinfo.join("Berlin"), "no zone").unwrap();
        check(&winter, None);
    }

    #[test]
    fn clock_sources_by_their_numbers() {
        let folder = tempfile::tempdir().unwrap();
        let sources = folder.path().join("devices/system/clocksource");
        for name in ["clocksource0", "clocksource1", "power"] {
            fs::create_dir_all(sources.join(name)).unwrap();
        }
        fs::write(sources.join("clocksource0/available_clocksource"), "tsc hpet acpi_pm \n").unwrap();
        fs::write(sources.join("clocksource0/current_clocksource"), "tsc\n").unwrap();
        let found = clock_sources(&under(folder.path().to_owned()), &mut Reader::default());
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect();
        assert_eq!(
            found,
            [
                ClockSource { available: words(&["tsc", "hpet", "acpi_pm"]), current: Some("tsc".to_owned()) },
                ClockSource { available: Vec::new(), current: None }
            ]
        );
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), mut bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            parse(&text);
            _ = TimeZone::tzif("", &bytes);
            bytes.splice(..0, *b"TZif2");
            _ = TimeZone::tzif("", &bytes);
            let mut whole = tzif(3600, "CET", "CET-1CEST,M3.5.0,M10.5.0/3");
            for (at, byte) in bytes.iter().enumerate().skip(5).step_by(7) {
                whole[at % 120] = *byte;
            }
            _ = TimeZone::tzif("", &whole);
        }
    }
}
