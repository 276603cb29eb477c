//! Swap on an SD card, no swap at all on a small machine, and memory that is short whatever the swap.

use super::super::facts::{Facts, Swap};
use super::super::format::{bytes, percent};
use super::{Change, Kind, Recommendation, Urgency, owners, shell};

/// Less is what lies there untouched since the start.
const IN_USE: f64 = 16.0 * 1_048_576.0;
/// Coming back from swap at that pace, something waits for it all the time: a card gives 20 MiB a second at best.
const THRASHING: f64 = 1_048_576.0;
/// Above that nobody misses swap.
const SMALL_MACHINE: f64 = 8.5 * 1_073_741_824.0;
const SHORT: f64 = 0.30;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut all = Vec::new();
    all.extend(on_card(facts));
    all.extend(none(facts));
    all.extend(short(facts));
    all
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Medium {
    Memory,
    Card,
    Other,
}

/// A file is where the file system is that holds it.
fn medium(swap: &Swap, facts: &Facts) -> Medium {
    let device = if swap.name.starts_with("/dev/") {
        swap.name.as_str()
    } else {
        let inside = |mountpoint: &str| {
            let rest = swap.name.strip_prefix(mountpoint.trim_end_matches('/'));
            rest.is_some_and(|rest| rest.starts_with('/'))
        };
        let holding = facts.machine.filesystems.iter().filter(|it| inside(&it.mountpoint));
        holding.max_by_key(|it| it.mountpoint.len()).map_or("", |it| it.device.as_str())
    };
    match device {
        device if device.starts_with("/dev/zram") => Medium::Memory,
        device if device.starts_with("/dev/mmcblk") => Medium::Card,
        _ => Medium::Other,
    }
}

/// Compressed in memory: the package of Debian and Raspberry Pi OS, half of the memory as its makers advise.
fn zram() -> Vec<String> {
    const FILE: &str = "/etc/systemd/zram-generator.conf";
    vec![
        "sudo apt install systemd-zram-generator".to_owned(),
        // Debian's package comes with a file that says so; whoever changed it keeps it.
        format!("grep -qsxF '[zram0]' {FILE} || printf '[zram0]\\nzram-size = ram / 2\\n' | sudo tee -a {FILE}"),
        "sudo systemctl daemon-reload && sudo systemctl start systemd-zram-setup@zram0.service".to_owned(),
    ]
}

fn machine(
    about: &str,
    urgency: Urgency,
    title: &str,
    evidence: Vec<String>,
    gain: &str,
    commands: Vec<String>,
) -> Recommendation {
    Recommendation {
        id: Kind::Swap.id(&[about]),
        kind: Kind::Swap,
        urgency,
        project: None,
        service: None,
        title: title.to_owned(),
        evidence,
        gain: gain.to_owned(),
        gain_bytes: None,
        check: None,
        compose: None,
        commands,
        changes: Vec::new(),
    }
}

fn on_card(facts: &Facts) -> Option<Recommendation> {
    let on_card: Vec<&Swap> =
        facts.machine.swaps.iter().flatten().filter(|swap| medium(swap, facts) == Medium::Card).collect();
    let used: f64 = on_card.iter().map(|swap| swap.used).sum();
    if used < IN_USE {
        return None;
    }
    let mut evidence: Vec<String> = on_card
        .iter()
        .map(|swap| format!("{} on the card: {} of {} in use", swap.name, bytes(swap.used), bytes(swap.size)))
        .collect();
    if let Some(rate) = facts.measured.swap_in.filter(|rate| *rate > 1024.0) {
        evidence.push(format!("{} come back from it each second", bytes(rate)));
    }
    let mut commands = zram();
    for swap in on_card {
        commands.push(match swap.name.as_str() {
            // Raspberry Pi OS up to Bookworm makes this one anew at each start.
            "/var/swap" => "sudo systemctl disable --now dphys-swapfile".to_owned(),
            name => format!("sudo swapoff {}  # and take its line out of /etc/fstab", shell(name)),
        });
    }
    let gain = "swapping becomes a hundred times faster, and the card is written to less";
    let zram = vec![Change::Zram];
    let moved =
        machine("card", Urgency::Soon, "Move the swap from the card into memory (zram)", evidence, gain, commands);
    Some(Recommendation { changes: zram, ..moved })
}

fn none(facts: &Facts) -> Option<Recommendation> {
    let (total, available) = (facts.machine.memory_total?, facts.machine.memory_available?);
    let has_none = facts.machine.swaps.as_ref().is_some_and(Vec::is_empty);
    (has_none && total <= SMALL_MACHINE && available < SHORT * total).then(|| {
        let left = format!("{} of {} memory left, and no swap", percent(available / total), bytes(total));
        let gain = "what is not used is compressed, and a peak slows down instead of being killed";
        let added = machine("none", Urgency::Sometime, "Add swap in memory (zram)", vec![left], gain, zram());
        Recommendation { changes: vec![Change::Zram], ..added }
    })
}

fn short(facts: &Facts) -> Option<Recommendation> {
    let rate = facts.measured.swap_in.filter(|rate| *rate >= THRASHING)?;
    let mut evidence = vec![format!("{} come back from swap each second", bytes(rate))];
    if let (Some(total), Some(available)) = (facts.machine.memory_total, facts.machine.memory_available) {
        evidence.push(format!("{} of {} memory left", percent(available / total), bytes(total)));
    }
    let mut largest: Vec<(f64, String)> =
        owners(facts).filter_map(|it| Some((it.memory?, format!("{}/{}", it.project, it.service)))).collect();
    largest.sort_by(|a, b| b.0.total_cmp(&a.0));
    let largest: Vec<String> = largest.iter().take(3).map(|(used, name)| format!("{name} {}", bytes(*used))).collect();
    if !largest.is_empty() {
        evidence.push(format!("the largest: {}", largest.join(", ")));
    }
    let gain = "the machine stops waiting for its swap";
    let commands = vec!["docker stats --no-stream".to_owned()];
    Some(machine(
        "short",
        Urgency::Now,
        "Run less, or give the largest services a smaller limit: memory is short",
        evidence,
        gain,
        commands,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{GIB, MIB, well};

    fn swap(name: &str, used: f64) -> Facts {
        let mut facts = well();
        facts.machine.swaps = Some(vec![Swap { name: name.into(), size: GIB, used }]);
        facts
    }

    #[test]
    fn swap_in_use_on_a_card_is_moved() {
        let found = recommend(&swap("/var/swap", 50.0 * MIB));
        assert_eq!(found[0].evidence, ["/var/swap on the card: 50 MiB of 1.0 GiB in use"]);
        assert_eq!((found[0].id.as_str(), found[0].changes.as_slice()), ("swap/card", &[Change::Zram][..]));
        assert_eq!(found[0].commands.last().unwrap(), "sudo systemctl disable --now dphys-swapfile");
        assert!(
            recommend(&swap("/dev/mmcblk0p3", 50.0 * MIB))[0]
                .commands
                .last()
                .unwrap()
                .starts_with("sudo swapoff /dev/mmcblk0p3")
        );
        assert_eq!(recommend(&swap("/var/swap", MIB)), []);
    }

    #[test]
    fn what_the_file_of_the_generator_says_already_is_kept() {
        let check = |before: Option<&str>, expected: &str| {
            let folder = tempfile::tempdir().unwrap();
            let file = folder.path().join("zram-generator.conf");
            if let Some(text) = before {
                std::fs::write(&file, text).unwrap();
            }
            let path = file.to_str().unwrap();
            let command = zram()[1].replace("sudo ", "").replace("/etc/systemd/zram-generator.conf", path);
            let done = std::process::Command::new("sh").args(["-c", &command]).output().unwrap();
            assert!(done.status.success(), "{command}: {done:?}");
            assert_eq!(std::fs::read_to_string(&file).unwrap(), expected);
        };
        let section = "[zram0]\nzram-size = ram / 2\n";
        check(None, section);
        check(Some(section), section);
        check(Some("# Debian's own\n[zram0]\n"), "# Debian's own\n[zram0]\n");
        check(Some("[zram0]\nzram-size = 1024\n"), "[zram0]\nzram-size = 1024\n");
        check(Some("#[zram0]\n[zram1]\n"), &format!("#[zram0]\n[zram1]\n{section}"));
    }

    #[test]
    fn swap_elsewhere_is_left_alone() {
        assert_eq!(recommend(&swap("/dev/zram0", 50.0 * MIB)), []);
        assert_eq!(recommend(&swap("/dev/sda2", 50.0 * MIB)), []);
        // A file is where its file system is, not where its path begins.
        let mut facts = swap("/mnt/disk/swap", 50.0 * MIB);
        let disk = crate::report::facts::Filesystem {
            mountpoint: "/mnt/disk".into(),
            device: "/dev/sda1".into(),
            ..facts.machine.filesystems[0].clone()
        };
        facts.machine.filesystems.push(disk);
        assert_eq!(recommend(&facts), []);
        facts.machine.swaps.as_mut().unwrap()[0].name = "/mnt/disks/swap".into();
        assert_eq!(recommend(&facts).len(), 1);
    }

    #[test]
    fn a_small_machine_without_swap_gets_some_when_memory_is_short() {
        let mut facts = well();
        facts.machine.memory_available = Some(GIB);
        assert_eq!(recommend(&facts)[0].title, "Add swap in memory (zram)");
        facts.machine.memory_total = Some(16.0 * GIB);
        assert_eq!(recommend(&facts), []);
        // Not known is not none.
        facts.machine.memory_total = Some(4.0 * GIB);
        facts.machine.swaps = None;
        assert_eq!(recommend(&facts), []);
    }

    #[test]
    fn a_machine_that_lives_on_its_swap_is_told_what_is_large() {
        let mut facts = swap("/dev/zram0", 500.0 * MIB);
        facts.measured.swap_in = Some(2.0 * MIB);
        let found = recommend(&facts);
        assert_eq!(
            (found[0].urgency, found[0].evidence.last().unwrap().as_str()),
            (Urgency::Now, "the largest: photos/web 150 MiB")
        );
        facts.measured.swap_in = Some(0.1 * MIB);
        assert_eq!(recommend(&facts), []);
    }
}
