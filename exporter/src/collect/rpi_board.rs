//! `rpi_board`: which Raspberry Pi this is.
//!
//! From the device tree that the firmware hands to the kernel. The serial number beside it is left out: it tells the owner
//! apart from all others, and metrics travel.

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some("success is 0 where the host is no Raspberry Pi.");

#[derive(Clone, Debug, PartialEq)]
pub struct Board {
    /// `Raspberry Pi 4 Model B Rev 1.4`
    pub model: String,
    /// The name of the model that drivers go by: `4-model-b`.
    pub compatible: String,
    pub revision: Option<Revision>,
}

/// What a revision code says. Empty where it says nothing that is known here.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Revision {
    /// In hexadecimal, as /proc/cpuinfo shows it.
    pub code: String,
    /// `4B`
    pub kind: String,
    /// `1.4`
    pub revision: String,
    /// `4 GB`
    pub memory: String,
    pub manufacturer: String,
    /// `BCM2711`
    pub processor: String,
}

pub type Found = Board;
/// A board does not change while it runs.
pub type Kept = Option<Board>;

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    if let Some(board) = kept {
        return Ok(board.clone());
    }
    let Access { roots, reader, .. } = access;
    let tree = roots.sys("firmware/devicetree/base");
    let compatible = reader.text(&tree.join("compatible")).ok().and_then(pi);
    let Some(compatible) = compatible else {
        return Err(CollectError::Absent { what: "this is no Raspberry Pi".to_owned() });
    };
    let model = reader.require(&tree.join("model"))?.trim_end_matches('\0').trim().to_owned();
    // Older firmwares and other boot loaders leave it out.
    let revision = reader.bytes(&tree.join("system/linux,revision")).ok().and_then(number).map(revision);
    Ok(kept.insert(Board { model, compatible, revision }).clone())
}

/// Of the names that the device tree has for the board, from the most exact on, that of a Raspberry Pi.
fn pi(compatible: &str) -> Option<String> {
    compatible.split('\0').find_map(|name| name.strip_prefix("raspberrypi,")).map(str::to_owned)
}

/// Numbers in device trees have their highest byte first.
fn number(bytes: &[u8]) -> Option<u32> {
    bytes.try_into().ok().map(u32::from_be_bytes)
}

/// Decodes a revision code (Raspberry Pi's documentation, "revision codes").
fn revision(code: u32) -> Revision {
    let is_new = code & 1 << 23 != 0;
    let hexadecimal = if is_new { format!("{code:x}") } else { format!("{code:04x}") };
    if !is_new {
        // Bits 24 and 25 were set by overclocking, and say nothing of the board.
        let old = OLD.iter().find(|(known, ..)| *known == code & 0xff_ffff);
        let text = |part: fn(&Old) -> &'static str| old.map(part).unwrap_or_default().to_owned();
        return Revision {
            code: hexadecimal,
            kind: text(|old| old.1),
            revision: text(|old| old.2),
            memory: text(|old| old.3),
            manufacturer: text(|old| old.4),
            processor: if old.is_some() { "BCM2835".to_owned() } else { String::new() },
        };
    }
    let field = |first: u32, width: u32| (code >> first & ((1 << width) - 1)) as usize;
    let named = |names: &[&str], at: usize| names.get(at).copied().unwrap_or_default().to_owned();
    let kind = match (field(4, 8), field(20, 3)) {
        // They share a number and differ in their memory.
        (0x19, 6) => "500+".to_owned(),
        (kind, _) => named(&KINDS, kind),
    };
    Revision {
        code: hexadecimal,
        kind,
        revision: format!("1.{}", field(0, 4)),
        memory: named(&MEMORY, field(20, 3)),
        manufacturer: named(&MANUFACTURERS, field(16, 4)),
        processor: named(&PROCESSORS, field(12, 4)),
    }
}

const MEMORY: [&str; 7] = ["256 MB", "512 MB", "1 GB", "2 GB", "4 GB", "8 GB", "16 GB"];
const MANUFACTURERS: [&str; 6] = ["Sony UK", "Egoman", "Embest", "Sony Japan", "Embest", "Stadium"];
const PROCESSORS: [&str; 5] = ["BCM2835", "BCM2836", "BCM2837", "BCM2711", "BCM2712"];
/// Numbers without a name were never sold.
const KINDS: [&str; 28] = [
    "A", "B", "A+", "B+", "2B", "Alpha", "CM1", "", "3B", "Zero", "CM3", "", "Zero W", "3B+", "3A+", "", "CM3+", "4B",
    "Zero 2 W", "400", "CM4", "CM4S", "", "5", "CM5", "500", "CM5 Lite", "CM0",
];

/// Code, kind, revision, memory, manufacturer.
type Old = (u32, &'static str, &'static str, &'static str, &'static str);

/// The codes from before they had fields.
const OLD: [Old; 17] = [
    (0x02, "B", "1.0", "256 MB", "Egoman"),
    (0x03, "B", "1.0", "256 MB", "Egoman"),
    (0x04, "B", "2.0", "256 MB", "Sony UK"),
    (0x05, "B", "2.0", "256 MB", "Qisda"),
    (0x06, "B", "2.0", "256 MB", "Egoman"),
    (0x07, "A", "2.0", "256 MB", "Egoman"),
    (0x08, "A", "2.0", "256 MB", "Sony UK"),
    (0x09, "A", "2.0", "256 MB", "Qisda"),
    (0x0d, "B", "2.0", "512 MB", "Egoman"),
    (0x0e, "B", "2.0", "512 MB", "Sony UK"),
    (0x0f, "B", "2.0", "512 MB", "Egoman"),
    (0x10, "B+", "1.2", "512 MB", "Sony UK"),
    (0x11, "CM1", "1.0", "512 MB", "Sony UK"),
    (0x12, "A+", "1.1", "256 MB", "Sony UK"),
    (0x13, "B+", "1.2", "512 MB", "Embest"),
    (0x14, "CM1", "1.0", "512 MB", "Embest"),
    // 256 or 512 MB.
    (0x15, "A+", "1.1", "", "Embest"),
];

const INFO: Family = Family {
    name: "rpi_board_info",
    kind: Kind::Gauge,
    help: "Which Raspberry Pi this is; always 1.",
    labels: &["model", "compatible", "code", "type", "revision", "memory", "manufacturer", "processor"],
    source: "/sys/firmware/devicetree/base: model, compatible, system/linux,revision; what the revision code says, empty where \
             it is missing or newer than this program",
};
pub const FAMILIES: &[Family] = &[INFO];

pub fn write(board: &Board, out: &mut Exposition) {
    let unknown = Revision::default();
    let Revision { code, kind, revision, memory, manufacturer, processor } =
        board.revision.as_ref().unwrap_or(&unknown);
    let labels = [
        ("model", board.model.as_str()),
        ("compatible", &board.compatible),
        ("code", code),
        ("type", kind),
        ("revision", revision),
        ("memory", memory),
        ("manufacturer", manufacturer),
        ("processor", processor),
    ];
    out.family(&INFO).sample(&labels, 1u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::collect::tests::{Host, samples};

    #[test]
    fn revision_codes() {
        let check = |code: u32, expected: &str| {
            let Revision { code, kind, revision, memory, manufacturer, processor } = revision(code);
            let found = format!("{code}: {kind}, {revision}, {memory}, {manufacturer}, {processor}");
            assert_eq!(found, expected);
        };
        check(0xa02082, "a02082: 3B, 1.2, 1 GB, Sony UK, BCM2837");
        check(0xa52082, "a52082: 3B, 1.2, 1 GB, Stadium, BCM2837");
        check(0xc03114, "c03114: 4B, 1.4, 4 GB, Sony UK, BCM2711");
        check(0x902120, "902120: Zero 2 W, 1.0, 512 MB, Sony UK, BCM2837");
        check(0xd04171, "d04171: 5, 1.1, 8 GB, Sony UK, BCM2712");
        check(0xd04190, "d04190: 500, 1.0, 8 GB, Sony UK, BCM2712");
        check(0xe04190, "e04190: 500+, 1.0, 16 GB, Sony UK, BCM2712");
        check(0xe041a0, "e041a0: CM5 Lite, 1.0, 16 GB, Sony UK, BCM2712");
        // Bits for what the firmware allows are no part of the board.
        check(0x80c0_3111, "80c03111: 4B, 1.1, 4 GB, Sony UK, BCM2711");
        check(0xffff_ffff, "ffffffff: , 1.15, , , ");
        check(0x0002, "0002: B, 1.0, 256 MB, Egoman, BCM2835");
        check(0x0100_000f, "100000f: B, 2.0, 512 MB, Egoman, BCM2835");
        check(0x0015, "0015: A+, 1.1, , Embest, BCM2835");
        check(0x0001, "0001: , , , , ");
    }

    #[test]
    fn a_board_and_what_is_none() {
        let host = Host::new();
        let read = |host: &Host| host.read(|access| read(access, &mut None));
        assert!(matches!(read(&host), Err(CollectError::Absent { .. })));
        let tree = "sys/firmware/devicetree/base";
        host.write(&format!("{tree}/compatible"), "radxa,rockpi4\0rockchip,rk3399\0");
        host.write(&format!("{tree}/model"), "Radxa ROCK Pi 4\0");
        assert!(matches!(read(&host), Err(CollectError::Absent { .. })));
        host.write(&format!("{tree}/compatible"), "raspberrypi,4-model-b\0brcm,bcm2711\0");
        host.write(&format!("{tree}/model"), "Raspberry Pi 4 Model B Rev 1.4\0");
        host.write(&format!("{tree}/serial-number"), "100000001234abcd\0");
        let written = |host: &Host| samples(|out| write(&read(host).unwrap(), out));
        let without_code = "rpi_board_info{model=\"Raspberry Pi 4 Model B Rev 1.4\",compatible=\"4-model-b\",code=\"\",type=\"\",\
                            revision=\"\",memory=\"\",manufacturer=\"\",processor=\"\"} 1";
        assert_eq!(written(&host), [without_code]);
        host.write(&format!("{tree}/system/linux,revision"), [0x00, 0xc0, 0x31, 0x14]);
        let with_code = "rpi_board_info{model=\"Raspberry Pi 4 Model B Rev 1.4\",compatible=\"4-model-b\",code=\"c03114\",\
                         type=\"4B\",revision=\"1.4\",memory=\"4 GB\",manufacturer=\"Sony UK\",processor=\"BCM2711\"} 1";
        assert_eq!(written(&host), [with_code]);
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), bytes in any::<Vec<u8>>(), code in any::<u32>()) {
            pi(&text);
            number(&bytes);
            revision(code);
        }
    }
}
