//! `storage`: what wears out and what has gone wrong: eMMC and SD cards, and ext4's own counts.
//!
//! An eMMC estimates the life that it has used. An SD card, which most Raspberry Pis start from, says nothing of the kind:
//! there what ext4 has written over its life has to do, and the errors it has met. Whether the root file system has become
//! read-only, the usual end of an SD card, is told by `filesystem`, which reads the mounts anyway. The card's serial number
//! is left out.

use std::fs;
use std::path::Path;

use super::{Access, CollectError, Folder, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where the host has neither an eMMC or SD card nor a mounted ext4.");

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Storage {
    pub cards: Vec<Card>,
    pub file_systems: Vec<Ext4>,
}

/// An eMMC or SD card.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Card {
    /// `mmcblk0`
    pub device: String,
    /// `MMC` for eMMC, `SD`.
    pub kind: String,
    pub name: String,
    /// Who made it, as a number that the makers of cards know.
    pub maker: String,
    pub brand: String,
    /// When it was made, `03/2021`.
    pub date: String,
    /// Steps of life that the two kinds of memory in an eMMC have used: 1 for up to 10 %, 10 for up to all of it, 11 for more.
    pub life: [Option<u32>; 2],
    /// Of what an eMMC holds in reserve: 1 enough, 2 four fifths used, 3 nine tenths used.
    pub reserve: Option<u32>,
}

/// What ext4 keeps in the file system about itself.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Ext4 {
    /// `mmcblk0p2`
    pub device: String,
    pub kilobytes_written: Option<u64>,
    pub errors: Option<u64>,
    pub warnings: Option<u64>,
}

pub type Found = Storage;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let mut storage = Storage::default();
    for host in folders(&roots.sys("class/mmc_host")) {
        for (_, card) in folders(&host.1).into_iter().filter(|(name, _)| name.starts_with("mmc")) {
            // What has no block device is no storage: the radio of a Pi hangs on such a bus.
            for (device, _) in folders(&card.join("block")) {
                storage.cards.extend(Card::read(device, &card, reader));
            }
        }
    }
    for (device, path) in folders(&roots.sys("fs/ext4")) {
        storage.file_systems.extend(Ext4::read(device, &path, reader));
    }
    if storage == Storage::default() {
        return Err(CollectError::Absent { what: "no eMMC or SD card, and no ext4".to_owned() });
    }
    storage.cards.sort_by(|a, b| a.device.cmp(&b.device));
    storage.file_systems.sort_by(|a, b| a.device.cmp(&b.device));
    Ok(storage)
}

/// Names and paths of what is in a folder; nothing if there is no such folder.
fn folders(path: &Path) -> Vec<(String, std::path::PathBuf)> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    entries.filter_map(|entry| Some((entry.file_name().into_string().ok()?, entry.path()))).collect()
}

impl Card {
    fn read(device: String, folder: &Path, reader: &mut Reader) -> Option<Card> {
        let folder = Folder::open(folder, reader).ok()?;
        let mut text =
            |file: &str| reader.text_in(&folder, file).map(|text| text.trim().to_owned()).unwrap_or_default();
        Some(Card {
            device,
            kind: text("type"),
            name: text("name"),
            maker: text("manfid"),
            brand: text("oemid"),
            date: text("date"),
            life: life(&text("life_time")),
            reserve: hexadecimal(&text("pre_eol_info")).filter(|reserve| *reserve != 0),
        })
    }
}

impl Ext4 {
    /// `None` for the folder of what ext4 can do.
    fn read(device: String, folder: &Path, reader: &mut Reader) -> Option<Ext4> {
        let folder = Folder::open(folder, reader).ok()?;
        let mut number = |file: &str| reader.text_in(&folder, file).ok()?.trim().parse().ok();
        let found = Ext4 {
            kilobytes_written: number("lifetime_write_kbytes"),
            errors: number("errors_count"),
            warnings: number("warning_count"),
            device: String::new(),
        };
        (found != Ext4::default()).then_some(Ext4 { device, ..found })
    }
}

/// Two numbers, 0 for what the card does not say. Older kernels write them without `0x`.
fn life(text: &str) -> [Option<u32>; 2] {
    let mut steps = text.split_ascii_whitespace().map(|word| hexadecimal(word).filter(|step| (1..=11).contains(step)));
    [steps.next().flatten(), steps.next().flatten()]
}

fn hexadecimal(text: &str) -> Option<u32> {
    u32::from_str_radix(text.strip_prefix("0x").unwrap_or(text), 16).ok()
}

const CARD: Family = Family {
    name: "nexus_mmc_info",
    kind: Kind::Gauge,
    help: "What an eMMC or SD card says of itself; always 1.",
    labels: &["device", "type", "name", "manfid", "oemid", "date"],
    source: "/sys/class/mmc_host/mmcN/mmcN:*/{type,name,manfid,oemid,date}",
};
const LIFE: Family = Family {
    name: "nexus_mmc_life_time_used_ratio",
    kind: Kind::Gauge,
    help: "Life that an eMMC has used, by its own estimate, rounded up to tenths; above 1 it is past its life.",
    labels: &["device", "memory"],
    source: "/sys/class/mmc_host/mmcN/mmcN:*/life_time, eMMC 5.0 and later; `a` for its single-level cells, `b` for the others",
};
const RESERVE: Family = Family {
    name: "nexus_mmc_pre_eol_info",
    kind: Kind::Gauge,
    help: "Reserve blocks of an eMMC: 1 normal, 2 four fifths are used, 3 nine tenths are used.",
    labels: &["device"],
    source: "/sys/class/mmc_host/mmcN/mmcN:*/pre_eol_info, eMMC 5.0 and later",
};
const WRITTEN: Family = Family {
    name: "nexus_ext4_lifetime_written_bytes_total",
    kind: Kind::Counter,
    help: "Bytes written to the file system since it was made, over all mounts.",
    labels: &["device"],
    source: "/sys/fs/ext4/DEVICE/lifetime_write_kbytes",
};
const ERRORS: Family = Family {
    name: "nexus_ext4_errors_total",
    kind: Kind::Counter,
    help: "Errors that ext4 has found in the file system since it was last checked.",
    labels: &["device"],
    source: "/sys/fs/ext4/DEVICE/errors_count",
};
const WARNINGS: Family = Family {
    name: "nexus_ext4_warnings_total",
    kind: Kind::Counter,
    help: "Warnings that ext4 has given about the file system since it was mounted.",
    labels: &["device"],
    source: "/sys/fs/ext4/DEVICE/warning_count, since Linux 5.9",
};
pub const FAMILIES: &[Family] = &[CARD, LIFE, RESERVE, WRITTEN, ERRORS, WARNINGS];

pub fn write(storage: &Storage, out: &mut Exposition) {
    let mut family = out.family(&CARD);
    for Card { device, kind, name, maker, brand, date, .. } in &storage.cards {
        let labels = [
            ("device", device.as_str()),
            ("type", kind),
            ("name", name),
            ("manfid", maker),
            ("oemid", brand),
            ("date", date),
        ];
        family.sample(&labels, 1u64);
    }
    let mut family = out.family(&LIFE);
    for card in &storage.cards {
        for (memory, step) in ["a", "b"].iter().zip(card.life) {
            if let Some(step) = step {
                family.sample(&[("device", &card.device), ("memory", memory)], f64::from(step) / 10.0);
            }
        }
    }
    let mut family = out.family(&RESERVE);
    for card in &storage.cards {
        if let Some(reserve) = card.reserve {
            family.sample(&[("device", &card.device)], reserve);
        }
    }
    let mut write = |family: &Family, value: fn(&Ext4) -> Option<u64>| {
        let mut family = out.family(family);
        for file_system in &storage.file_systems {
            if let Some(value) = value(file_system) {
                family.sample(&[("device", &file_system.device)], value);
            }
        }
    };
    write(&WRITTEN, |file_system| file_system.kilobytes_written.map(|kilobytes| kilobytes.saturating_mul(1024)));
    write(&ERRORS, |file_system| file_system.errors);
    write(&WARNINGS, |file_system| file_system.warnings);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collect::tests::{Host, samples};

    #[test]
    fn an_emmc_a_card_a_radio_and_ext4() {
        let host = Host::new();
        for (file, text) in [
            ("class/mmc_host/mmc0/mmc0:0001/type", "MMC\n"),
            ("class/mmc_host/mmc0/mmc0:0001/name", "BJTD4R\n"),
            ("class/mmc_host/mmc0/mmc0:0001/manfid", "0x000015\n"),
            ("class/mmc_host/mmc0/mmc0:0001/oemid", "0x0100\n"),
            ("class/mmc_host/mmc0/mmc0:0001/date", "03/2021\n"),
            ("class/mmc_host/mmc0/mmc0:0001/serial", "0xdeadbeef\n"),
            ("class/mmc_host/mmc0/mmc0:0001/life_time", "0x01 0x0b\n"),
            ("class/mmc_host/mmc0/mmc0:0001/pre_eol_info", "0x02\n"),
            ("class/mmc_host/mmc0/mmc0:0001/block/mmcblk0/size", "1\n"),
            ("class/mmc_host/mmc0/power/control", "on\n"),
            ("class/mmc_host/mmc1/mmc1:0001/type", "SDIO\n"),
            ("class/mmc_host/mmc2/mmc2:aaaa/type", "SD\n"),
            ("class/mmc_host/mmc2/mmc2:aaaa/block/mmcblk2/size", "1\n"),
            ("fs/ext4/features/fast_commit", "supported\n"),
            ("fs/ext4/mmcblk0p2/lifetime_write_kbytes", "27765785\n"),
            ("fs/ext4/mmcblk0p2/errors_count", "3\n"),
        ] {
            host.write(&format!("sys/{file}"), text);
        }
        let found = host.read(|access| read(access, &mut ())).unwrap();
        assert_eq!(
            samples(|out| write(&found, out)),
            [
                "nexus_mmc_info{device=\"mmcblk0\",type=\"MMC\",name=\"BJTD4R\",manfid=\"0x000015\",oemid=\"0x0100\",date=\"03/2021\"} 1",
                "nexus_mmc_info{device=\"mmcblk2\",type=\"SD\",name=\"\",manfid=\"\",oemid=\"\",date=\"\"} 1",
                "nexus_mmc_life_time_used_ratio{device=\"mmcblk0\",memory=\"a\"} 0.1",
                "nexus_mmc_life_time_used_ratio{device=\"mmcblk0\",memory=\"b\"} 1.1",
                "nexus_mmc_pre_eol_info{device=\"mmcblk0\"} 2",
                "nexus_ext4_lifetime_written_bytes_total{device=\"mmcblk0p2\"} 28432163840",
                "nexus_ext4_errors_total{device=\"mmcblk0p2\"} 3",
            ]
        );
    }

    #[test]
    fn a_host_without_any() {
        assert!(matches!(Host::new().read(|access| read(access, &mut ())), Err(CollectError::Absent { .. })));
    }

    #[test]
    fn lives_of_old_and_new_kernels() {
        for (text, expected) in [
            ("0x01 0x0a", [Some(1), Some(10)]),
            ("01 0a", [Some(1), Some(10)]),
            ("0x00 0x0b", [None, Some(11)]),
            ("0x0c x", [None, None]),
            ("0x02", [Some(2), None]),
            ("", [None, None]),
        ] {
            assert_eq!(life(text), expected, "{text}");
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), likely in "(0x)?[0-9a-f]{0,12}( (0x)?[0-9a-fx]{0,12}){0,3}") {
            life(&text);
            life(&likely);
        }
    }
}
