//! `diskstats`: traffic of each block device, and what the device is.

use std::collections::HashMap;
use std::path::Path;

use super::{Access, CollectError};
use crate::exposition::{Exposition, Value};
use crate::family::{Family, Kind};

#[derive(Clone, Debug, PartialEq)]
pub struct Disk {
    pub name: String,
    pub major: u32,
    pub minor: u32,
    /// The numbers after the name; kernels before 4.18 have 11, before 5.5 15, and 17 since.
    pub numbers: Vec<u64>,
    pub info: Info,
}

/// From udev and sysfs; empty where neither knows it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Info {
    pub path: String,
    pub wwn: String,
    pub model: String,
    pub serial: String,
    pub revision: String,
    pub rotational: String,
}

pub type Found = Vec<Disk>;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, settings, .. } = access;
    let path = roots.proc("diskstats");
    let mut disks = parse(reader.require(&path)?);
    disks.retain(|disk| settings.diskstats_devices.takes(&disk.name));
    for disk in &mut disks {
        let udev = roots.udev_data.join(format!("b{}:{}", disk.major, disk.minor));
        disk.info = reader.text(&udev).map(parse_udev).unwrap_or_default();
        let rotational = roots.sys("block").join(Path::new(&disk.name)).join("queue/rotational");
        // node_exporter's value where the file is missing, as for partitions.
        disk.info.rotational = reader.number::<u64>(&rotational).unwrap_or(0).to_string();
    }
    Ok(disks)
}

/// Device names by (major, minor), of all devices: to name those of the containers' I/O.
pub fn names(text: &str) -> HashMap<(u32, u32), String> {
    let name = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let number = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        Some((number, words.next()?.to_owned()))
    };
    text.lines().filter_map(name).collect()
}

/// Lines that are not understood are left out.
fn parse(text: &str) -> Vec<Disk> {
    let disk = |line: &str| {
        let mut words = line.split_ascii_whitespace();
        let (major, minor) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
        let name = words.next()?.to_owned();
        let numbers = words.map(|word| word.parse().ok()).collect::<Option<Vec<u64>>>()?;
        // The earliest kernels gave four numbers for partitions, with another meaning.
        (numbers.len() >= 11).then_some(Disk { name, major, minor, numbers, info: Info::default() })
    };
    let mut disks: Vec<Disk> = Vec::new();
    for disk in text.lines().filter_map(disk) {
        // The same name twice would be the same series twice.
        if disks.iter().all(|known| known.name != disk.name) {
            disks.push(disk);
        }
    }
    disks
}

fn parse_udev(text: &str) -> Info {
    let mut info = Info::default();
    let (mut scsi, mut short, mut long) = ("", "", "");
    for (key, value) in text.lines().filter_map(|line| line.strip_prefix("E:")?.split_once('=')) {
        match key {
            "ID_PATH" => info.path = value.to_owned(),
            "ID_WWN" => info.wwn = value.to_owned(),
            "ID_MODEL" => info.model = value.to_owned(),
            "ID_REVISION" => info.revision = value.to_owned(),
            "SCSI_IDENT_SERIAL" => scsi = value,
            "ID_SERIAL_SHORT" => short = value,
            "ID_SERIAL" => long = value,
            _ => (),
        }
    }
    // The first is what is printed on the disk; virtio disks have only the last.
    info.serial = [scsi, short, long].into_iter().find(|serial| !serial.is_empty()).unwrap_or_default().to_owned();
    info
}

/// What becomes of a column.
#[derive(Clone, Copy)]
enum Scale {
    Count,
    /// Sectors of 512 bytes, whatever the device's own (Documentation/block/stat.rst).
    Sectors,
    Milliseconds,
}

/// In the order of the kernel's columns.
const COLUMNS: [(Family, Scale); 17] = [
    (counter("node_disk_reads_completed_total", "The total number of reads completed successfully."), Scale::Count),
    (counter("node_disk_reads_merged_total", "The total number of reads merged."), Scale::Count),
    (counter("node_disk_read_bytes_total", "The total number of bytes read successfully."), Scale::Sectors),
    (
        counter("node_disk_read_time_seconds_total", "The total number of seconds spent by all reads."),
        Scale::Milliseconds,
    ),
    (counter("node_disk_writes_completed_total", "The total number of writes completed successfully."), Scale::Count),
    (counter("node_disk_writes_merged_total", "The number of writes merged."), Scale::Count),
    (counter("node_disk_written_bytes_total", "The total number of bytes written successfully."), Scale::Sectors),
    (
        counter("node_disk_write_time_seconds_total", "This is the total number of seconds spent by all writes."),
        Scale::Milliseconds,
    ),
    (
        Family { kind: Kind::Gauge, ..counter("node_disk_io_now", "The number of I/Os currently in progress.") },
        Scale::Count,
    ),
    (counter("node_disk_io_time_seconds_total", "Total seconds spent doing I/Os."), Scale::Milliseconds),
    (
        counter("node_disk_io_time_weighted_seconds_total", "The weighted # of seconds spent doing I/Os."),
        Scale::Milliseconds,
    ),
    (
        counter("node_disk_discards_completed_total", "The total number of discards completed successfully."),
        Scale::Count,
    ),
    (counter("node_disk_discards_merged_total", "The total number of discards merged."), Scale::Count),
    (counter("node_disk_discarded_sectors_total", "The total number of sectors discarded successfully."), Scale::Count),
    (
        counter("node_disk_discard_time_seconds_total", "This is the total number of seconds spent by all discards."),
        Scale::Milliseconds,
    ),
    (
        counter("node_disk_flush_requests_total", "The total number of flush requests completed successfully"),
        Scale::Count,
    ),
    (
        counter(
            "node_disk_flush_requests_time_seconds_total",
            "This is the total number of seconds spent by all flush requests.",
        ),
        Scale::Milliseconds,
    ),
];

const INFO: Family = Family {
    name: "node_disk_info",
    kind: Kind::Gauge,
    help: "Info of /sys/block/<block_device>.",
    labels: &["device", "major", "minor", "path", "wwn", "model", "serial", "revision", "rotational"],
    source: "/run/udev/data/bMAJOR:MINOR, /sys/block/DEVICE/queue/rotational",
};

const fn counter(name: &'static str, help: &'static str) -> Family {
    Family { name, kind: Kind::Counter, help, labels: &["device"], source: "/proc/diskstats" }
}

pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &{
    let mut families = [INFO; COLUMNS.len() + 1];
    let mut at = 0;
    while at < COLUMNS.len() {
        families[at + 1] = COLUMNS[at].0;
        at += 1;
    }
    families
};

pub fn write(disks: &[Disk], out: &mut Exposition) {
    let mut family = out.family(&INFO);
    for disk in disks {
        let (major, minor, info) = (disk.major.to_string(), disk.minor.to_string(), &disk.info);
        let labels = [
            ("device", disk.name.as_str()),
            ("major", &major),
            ("minor", &minor),
            ("path", &info.path),
            ("wwn", &info.wwn),
            ("model", &info.model),
            ("serial", &info.serial),
            ("revision", &info.revision),
            ("rotational", &info.rotational),
        ];
        family.sample(&labels, 1u64);
    }
    for (column, (family, scale)) in COLUMNS.iter().enumerate() {
        let mut family = out.family(family);
        for disk in disks {
            let Some(&number) = disk.numbers.get(column) else { continue };
            let value = match scale {
                Scale::Count => Value::from(number),
                Scale::Sectors => Value::from(number as f64 * 512.0),
                Scale::Milliseconds => Value::from(number as f64 / 1000.0),
            };
            family.sample(&[("device", &disk.name)], value);
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn old_and_new_kernels() {
        let text = " 179 0 mmcblk0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n 8 0 sda 1 2 3 4 5 6 7 8 9 10 11\n\
            8 1 sda1 1 2 3 4\nx y z\n 8 2 sdb 1 2 3 4 5 6 7 8 9 10 -1\n\
            8 0 sda 1 2 3 4 5 6 7 8 9 10 11 12\n";
        let disks = parse(text);
        assert_eq!(
            disks.iter().map(|d| (d.name.as_str(), d.numbers.len())).collect::<Vec<_>>(),
            [("mmcblk0", 17), ("sda", 11)]
        );
        assert_eq!(names(text)[&(179, 0)], "mmcblk0");
    }

    #[test]
    fn the_serial_is_the_printed_one_if_udev_knows_it() {
        let text = "S:disk/by-id/x\nE:ID_MODEL=QEMU\nE:ID_SERIAL=long\nE:ID_SERIAL_SHORT=short\nE:ID_WWN=0x5\n";
        let info = parse_udev(text);
        assert_eq!((info.model.as_str(), info.serial.as_str(), info.wwn.as_str()), ("QEMU", "short", "0x5"));
        assert_eq!(parse_udev("E:ID_SERIAL=long\n").serial, "long");
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9]{0,12} [0-9]{0,12} [a-z0-9]{0,9}( [0-9x]{0,22}){0,20}") {
            let lines = format!("{text}\n{line}\n");
            parse(&lines);
            names(&lines);
            parse_udev(&text);
        }
    }
}
