//! The machine and its containers at this moment: one scrape of the exporter, and only of the collectors that are wanted.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};

use super::exposition::{Sample, samples};
use super::http::{HttpError, Part};
use crate::report::facts::{Backup, Card, Container, DockerDisk, Filesystem, Machine};

const COLLECTORS: [&str; 13] = [
    "loadavg",
    "meminfo",
    "filesystem",
    "pressure",
    "thermal_zone",
    "hwmon",
    "rpi_board",
    "rpi_firmware",
    "storage",
    "machine",
    "container",
    "docker_disk",
    "textfile",
];

/// Above this a sensor answers nonsense (`prometheus/rules/host.yml` leaves it out too).
const HOTTEST: f64 = 150.0;

/// The kernel's number of a card's devices (Documentation/admin-guide/devices.txt).
const MMC_BLOCK: &str = "179";

/// What one scrape tells.
#[derive(Debug, Default)]
pub struct Seen {
    pub machine: Machine,
    pub containers: Vec<Container>,
}

pub async fn ask(part: &Part) -> Result<Seen, HttpError> {
    let query: Vec<(&str, &str)> = COLLECTORS.iter().map(|name| ("collect[]", *name)).collect();
    Ok(read(&part.text_of("/metrics", &query).await?))
}

/// Families that are in memory or read-only by nature can't fill up in a way that anybody can mend.
const NO_DISK: [&str; 6] = ["tmpfs", "ramfs", "devtmpfs", "squashfs", "iso9660", "overlay"];

fn wanted(name: &str) -> bool {
    ["node_load", "node_memory_", "node_filesystem_", "node_pressure_", "node_thermal_zone_temp", "node_hwmon_in_lcrit"]
        .iter()
        .chain(&[
            "rpi_",
            "nexus_",
            "machine_cpu_cores",
            "docker_",
            "container_memory_",
            "container_spec_memory_limit",
            "container_start_",
        ])
        .any(|beginning| name.starts_with(beginning))
        || is_backup(name)
        || is_backups_max_age(name)
}

/// What a backup's script leaves in a textfile: by whichever name, the time of its last success.
fn is_backup(name: &str) -> bool {
    name.contains("backup") && name.contains("success") && name.ends_with(BACKUP_TIME)
}

/// How old that may be: by the same name but for its end, and with the same labels.
fn is_backups_max_age(name: &str) -> bool {
    name.contains("backup") && name.contains("success") && name.ends_with(BACKUP_MAX_AGE)
}

const BACKUP_TIME: &str = "timestamp_seconds";
const BACKUP_MAX_AGE: &str = "max_age_seconds";

/// Pure. Containers are those of Docker's word; what only has usage has just gone.
fn read(text: &str) -> Seen {
    let mut machine = Machine::default();
    let mut containers: BTreeMap<String, Container> = BTreeMap::new();
    let mut filesystems: BTreeMap<String, Filesystem> = BTreeMap::new();
    let mut life: BTreeMap<String, f64> = BTreeMap::new();
    let mut on_card: BTreeSet<String> = BTreeSet::new();
    let mut scraped_pressure = None;
    let mut max_ages: BTreeMap<String, SignedDuration> = BTreeMap::new();
    for sample in samples(text, |name| wanted(name) || name == "node_scrape_collector_success") {
        let value = sample.value;
        match sample.name {
            "node_load1" => machine.load1 = Some(value),
            "node_load5" => machine.load5 = Some(value),
            "node_memory_MemTotal_bytes" => machine.memory_total = Some(value),
            "node_memory_MemAvailable_bytes" => machine.memory_available = Some(value),
            "node_memory_SwapTotal_bytes" => machine.swap_total = Some(value),
            "node_memory_SwapFree_bytes" => machine.swap_free = Some(value),
            "machine_cpu_cores" => machine.cpus = Some(value),
            "node_thermal_zone_temp" if value < HOTTEST => {
                machine.temperature = Some(machine.temperature.map_or(value, |hottest| hottest.max(value)));
            }
            "node_scrape_collector_success" if sample.label("collector") == "pressure" => {
                scraped_pressure = Some(value > 0.0);
            }
            "nexus_memory_cgroup_enabled" => machine.memory_cgroup = Some(value > 0.0),
            "rpi_board_info" => machine.board = Some(sample.label("model").to_owned()),
            "rpi_throttle_active" if value > 0.0 => machine.throttled_now.push(sample.label("reason").to_owned()),
            "rpi_throttle_occurred" if value > 0.0 => machine.throttled_before.push(sample.label("reason").to_owned()),
            "nexus_mmc_info" => machine.cards.push(Card {
                device: sample.label("device").to_owned(),
                kind: sample.label("type").to_owned(),
                life_used: None,
            }),
            "nexus_mmc_life_time_used_ratio" => {
                let worst = life.entry(sample.label("device").to_owned()).or_insert(value);
                *worst = worst.max(value);
            }
            "node_filesystem_mount_info" if sample.label("major") == MMC_BLOCK => {
                on_card.insert(sample.label("mountpoint").to_owned());
            }
            name if name.starts_with("node_filesystem_") => filesystem(&sample, &mut filesystems),
            name if name.starts_with("docker_disk_") => docker_disk(&sample, &mut machine.docker_disk),
            name if name.starts_with("docker_container_") || name.starts_with("container_") => {
                container(&sample, &mut containers);
            }
            name if is_backup(name) => {
                machine.backups.extend(Timestamp::from_second(value as i64).ok().map(|at| Backup {
                    name: sample.series(),
                    at,
                    max_age: None,
                }))
            }
            name if is_backups_max_age(name) && value > 0.0 => {
                let of = sample.series().replacen(BACKUP_MAX_AGE, BACKUP_TIME, 1);
                max_ages.insert(of, SignedDuration::from_secs(value as i64));
            }
            _ => {}
        }
    }
    for backup in &mut machine.backups {
        backup.max_age = max_ages.get(&backup.name).copied();
    }
    // Absent collector: it was switched off, and nothing is known.
    machine.pressure_known = scraped_pressure;
    for card in &mut machine.cards {
        card.life_used = life.get(&card.device).copied();
    }
    machine.filesystems = filesystems.into_values().filter(|it| it.size > 0.0).collect();
    // A kernel that mounts its root without an initial RAM disk calls it so; with two cards nobody can say which it is.
    if let [card] = machine.cards.as_slice() {
        let roots = machine.filesystems.iter_mut().filter(|it| it.device == "/dev/root");
        roots.filter(|it| on_card.contains(&it.mountpoint)).for_each(|it| it.device = format!("/dev/{}", card.device));
    }
    let containers = containers.into_values().filter(|container| !container.state.is_empty()).collect();
    Seen { machine, containers }
}

fn filesystem(sample: &Sample<'_>, filesystems: &mut BTreeMap<String, Filesystem>) {
    let mountpoint = sample.label("mountpoint");
    if mountpoint.is_empty() || NO_DISK.contains(&sample.label("fstype")) || !sample.label("device_error").is_empty() {
        return;
    }
    let known = filesystems.entry(mountpoint.to_owned()).or_insert_with(|| Filesystem {
        mountpoint: mountpoint.to_owned(),
        device: sample.label("device").to_owned(),
        size: 0.0,
        free: 0.0,
        available: 0.0,
        read_only: false,
    });
    match sample.name {
        "node_filesystem_size_bytes" => known.size = sample.value,
        "node_filesystem_free_bytes" => known.free = sample.value,
        "node_filesystem_avail_bytes" => known.available = sample.value,
        "node_filesystem_readonly" => known.read_only = sample.value > 0.0,
        _ => {}
    }
}

fn docker_disk(sample: &Sample<'_>, disk: &mut Vec<DockerDisk>) {
    let kind = sample.label("type");
    if kind.is_empty() {
        return;
    }
    if !disk.iter().any(|known| known.kind == kind) {
        disk.push(DockerDisk { kind: kind.to_owned(), bytes: 0.0, reclaimable: 0.0, objects: 0.0, active: 0.0 });
    }
    let Some(known) = disk.iter_mut().find(|known| known.kind == kind) else { return };
    match sample.name {
        "docker_disk_bytes" => known.bytes = sample.value,
        "docker_disk_reclaimable_bytes" => known.reclaimable = sample.value,
        "docker_disk_objects" => known.objects = sample.value,
        "docker_disk_active_objects" => known.active = sample.value,
        _ => {}
    }
}

fn container(sample: &Sample<'_>, containers: &mut BTreeMap<String, Container>) {
    let value = sample.value;
    let name = sample.label("name");
    if name.is_empty() {
        return;
    }
    let known = containers.entry(name.to_owned()).or_insert_with(|| Container {
        project: sample.label("project").to_owned(),
        service: sample.label("service").to_owned(),
        name: name.to_owned(),
        image: sample.label("image").to_owned(),
        ..Container::default()
    });
    let word = |label: &str| Some(sample.label(label)).filter(|word| !word.is_empty()).map(str::to_owned);
    match sample.name {
        "docker_container_state" if value > 0.0 => known.state = sample.label("state").to_owned(),
        "docker_container_health" if value > 0.0 => known.health = sample.label("health").to_owned(),
        "docker_container_info" => {
            known.restart_policy = word("restart_policy");
            known.log_driver = word("log_driver");
        }
        "docker_container_log_bytes" => known.log_bytes = Some(value),
        "container_memory_rss" => known.memory = Some(value),
        "container_memory_working_set_bytes" => known.working_set = Some(value),
        "container_spec_memory_limit_bytes" => known.memory_limit = Some(value),
        "docker_container_restarts_total" => known.restarts = Some(value),
        "docker_container_exit_code" => known.exit_code = Some(value as i64),
        "container_start_time_seconds" => known.started_at = Timestamp::from_second(value as i64).ok(),
        _ => {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::report::facts::{Facts, Swap};
    use crate::report::testing::{GIB, hourly, well};
    use crate::report::{forecast, recommend};

    /// The exporter's own golden scrape of a Raspberry Pi.
    fn scraped(name: &str) -> String {
        let path = format!("{}/../exporter/fixtures/{name}.prom", env!("CARGO_MANIFEST_DIR"));
        std::fs::read_to_string(path).unwrap()
    }

    fn golden(name: &str) -> Seen {
        read(&scraped(name))
    }

    #[test]
    fn a_raspberry_pi_is_read_from_its_golden_scrape() {
        let Seen { machine, .. } = golden("pi4");
        assert_eq!(machine.memory_total, Some(3_977_596_928.0));
        assert_eq!(machine.temperature, Some(48.686));
        assert_eq!(machine.pressure_known, Some(true));
        assert_eq!(machine.load1, Some(0.42));
        let root = machine.filesystems.iter().find(|it| it.mountpoint == "/").unwrap();
        assert_eq!((root.device.as_str(), root.available), ("/dev/mmcblk0p2", 7_784_628_224.0));
        assert!(machine.filesystems.iter().any(|it| it.mountpoint == "/mnt/my disk"));
        assert!(machine.board.unwrap().starts_with("Raspberry Pi 4"));
        assert_eq!(machine.cards[0].device, "mmcblk0");
    }

    #[test]
    fn a_root_that_the_kernel_calls_root_is_on_the_card() {
        // A Pi 3, whose firmware's partition is mounted under its own name.
        let boot =
            "node_filesystem_size_bytes{device=\"/dev/mmcblk0p1\",fstype=\"vfat\",mountpoint=\"/boot\"} 264289280\n";
        let text = scraped("pi3-memory-cgroup-off") + boot;
        let of = |text: &str| {
            let mut facts = Facts { machine: read(text).machine, ..well() };
            // 200 GiB within two weeks.
            facts.measured.written =
                [("mmcblk0p2".to_owned(), hourly(15 * 24, |hour| hour as f64 * 0.55 * GIB))].into();
            facts.machine.swaps = Some(vec![Swap { name: "/var/swap".into(), size: GIB, used: 0.1 * GIB }]);
            facts
        };
        let facts = of(&text);
        let root = facts.machine.filesystems.iter().find(|it| it.mountpoint == "/").unwrap();
        assert_eq!((root.device.as_str(), root.size), ("/dev/mmcblk0", 31_138_512_896.0));
        assert_eq!(forecast::forecasts(&facts), []);
        assert_eq!(recommend::swap::recommend(&facts)[0].id, "swap/card");
        // On a disk, with two cards, and without the number it stays unknown, and no size is taken from what is not written to.
        let disk = text.replace("major=\"179\"", "major=\"8\"");
        let two = text.clone() + "nexus_mmc_info{device=\"mmcblk1\",type=\"SD\"} 1\n";
        let unknown = text.replace("node_filesystem_mount_info{", "other{");
        for text in [disk, two, unknown] {
            let facts = of(&text);
            assert!(facts.machine.filesystems.iter().any(|it| it.device == "/dev/root"));
            assert_eq!((forecast::forecasts(&facts), recommend::swap::recommend(&facts)), (Vec::new(), Vec::new()));
        }
    }

    #[test]
    fn what_a_kernel_does_not_have_is_told() {
        assert_eq!(golden("psi-off").machine.pressure_known, Some(false));
        assert_eq!(golden("pi3-memory-cgroup-off").machine.memory_cgroup, Some(false));
        assert_eq!(read("").machine.memory_cgroup, None);
    }

    #[test]
    fn a_container_is_put_together_from_its_families() {
        let labels = r#"name="photos-web-1",image="web:1",project="photos",service="web""#;
        let text = format!(
            "docker_container_state{{{labels},state=\"running\"}} 1\ndocker_container_state{{{labels},state=\"dead\"}} 0\n\
             docker_container_health{{{labels},health=\"none\"}} 1\ndocker_container_log_bytes{{{labels}}} 7\n\
             docker_container_info{{{labels},restart_policy=\"no\",log_driver=\"json-file\"}} 1\n\
             container_memory_rss{{{labels}}} 5\ncontainer_memory_working_set_bytes{{{labels}}} 6\n\
             docker_container_restarts_total{{{labels}}} 4\ndocker_container_exit_code{{{labels}}} 78\n\
             container_spec_memory_limit_bytes{{{labels}}} 0\ncontainer_start_time_seconds{{{labels}}} 9\ncontainer_memory_rss{{name=\"gone\"}} 1\n"
        );
        let expected = Container {
            project: "photos".into(),
            service: "web".into(),
            name: "photos-web-1".into(),
            image: "web:1".into(),
            state: "running".into(),
            health: "none".into(),
            restart_policy: Some("no".into()),
            log_driver: Some("json-file".into()),
            log_bytes: Some(7.0),
            memory: Some(5.0),
            working_set: Some(6.0),
            memory_limit: Some(0.0),
            started_at: Timestamp::from_second(9).ok(),
            restarts: Some(4.0),
            exit_code: Some(78),
        };
        assert_eq!(read(&text).containers, [expected]);
    }

    #[test]
    fn a_backup_is_known_by_the_time_of_its_success() {
        let seen = read("nexus_backup_last_success_timestamp_seconds 1700000000\nbackup_bytes 7\n");
        assert_eq!(seen.machine.backups.len(), 1);
        assert_eq!(seen.machine.backups[0].at, Timestamp::from_second(1_700_000_000).unwrap());
        // Several that differ by a label are told apart.
        let seen = read(
            "restic_backup_success_timestamp_seconds{repo=\"photos\"} 1\nrestic_backup_success_timestamp_seconds{repo=\"wiki\"} 2\n",
        );
        let names: Vec<&str> = seen.machine.backups.iter().map(|it| it.name.as_str()).collect();
        assert_eq!(
            names,
            [
                r#"restic_backup_success_timestamp_seconds{repo="photos"}"#,
                r#"restic_backup_success_timestamp_seconds{repo="wiki"}"#
            ]
        );
        // One says how old it may be.
        let seen = read(
            "a_backup_success_max_age_seconds{repo=\"photos\"} 691200\na_backup_success_timestamp_seconds{repo=\"photos\"} 1\na_backup_success_timestamp_seconds{repo=\"wiki\"} 2\n",
        );
        let ages: Vec<Option<i64>> =
            seen.machine.backups.iter().map(|it| it.max_age.map(|age| age.as_hours())).collect();
        assert_eq!(ages, [Some(192), None]);
    }
}
