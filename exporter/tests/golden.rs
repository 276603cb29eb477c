//! One golden scrape a fixture tree: the real collectors under the tree's roots, the real Docker client against recorded
//! answers.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nexus_exporter::collect::filesystem::{Answer, Usage};
use nexus_exporter::collect::rpi_firmware::Message;
use nexus_exporter::collect::timex::Timex;
use nexus_exporter::collect::{Calls, Collector, DockerState, Roots, Selection};
use nexus_exporter::exposition::Format;
use nexus_exporter::gather::{DockerView, Gatherer};
use nexus_exporter::process;
use nexus_exporter::settings::Settings;
use nexus_exporter::snapshot::{self, Snapshot};

/// Waited out once by the mount that hangs; the others must make it on a loaded machine.
const MOUNT_TIMEOUT: Duration = Duration::from_secs(1);

const TREES: [&str; 7] =
    ["pi5", "pi4", "pi3-memory-cgroup-off", "psi-off", "hybrid-v1", "cgroup-v1", "cgroup-v2-cgroupfs"];

/// What the file systems of all trees answer.
#[expect(clippy::ptr_arg, reason = "the type of `Ask`")]
fn ask(path: &PathBuf) -> io::Result<Answer> {
    let path = path.to_string_lossy();
    let point = path.rsplit_once("/root/").map_or("", |(_, point)| point);
    let usage = |size: u64| Usage { size, free: size / 2, available: size / 4, files: 1000, files_free: 400 };
    let on = |major, minor, size| Ok(Answer { usage: usage(size), major, minor });
    let is_a_vm = path.contains("hybrid-v1");
    let is_on_nvme = path.contains("/pi5/");
    match point {
        "" if is_a_vm => on(254, 0, 270_553_174_016),
        "" if is_on_nvme => on(259, 2, 502_392_610_816),
        "boot/firmware" if is_on_nvme => on(259, 1, 535_805_952),
        "var/lib/docker" => on(254, 0, 270_553_174_016),
        "" => on(179, 2, 31_138_512_896),
        "boot/firmware" => on(179, 1, 535_805_952),
        "mnt/my disk" => on(8, 1, 1_000_000_000_000),
        // The exporter's container covers the host's.
        "run" => on(0, 99, 65_536),
        "mnt/nas" => loop {
            std::thread::park();
        },
        other => panic!("nobody should ask for {other}"),
    }
}

/// The clock of all trees: kept by a time server.
fn clock() -> io::Result<Timex> {
    Ok(Timex {
        status: 0x2001,
        offset: -123_456,
        freq: -812_345,
        maxerror: 142_500,
        esterror: 1_200,
        tick: 10_000,
        constant: 7,
        tai: 37,
        ..Timex::default()
    })
}

/// What the text files of a tree have, as the golden scrapes show.
const PASSED_ON: [&str; 7] = [
    "apt_upgrades_pending",
    "backup_duration_seconds",
    "backup_last_error_timestamp_seconds",
    "backup_runs_total",
    "backup_size_bytes",
    "garden_rain_total",
    "node_reboot_required",
];

/// What the firmwares answer: the Pi 5's by the device for commands alone, the Pi 4's by the one for everything. The Pi 3's
/// may not be asked.
fn firmware(device: &Path, messages: &mut [Message]) -> io::Result<()> {
    let commands: fn(&str) -> &'static str = match device.strip_prefix(support::fixture("")).ok().and_then(Path::to_str)
    {
        Some("pi5/root/dev/vcio_gencmd") => |command| match command {
            "get_throttled" => "throttled=0xe0000",
            "measure_volts core" => "volt=0.7203V",
            "measure_volts sdram_c" | "measure_volts sdram_i" => "volt=0.6000V",
            "measure_volts sdram_p" => "volt=1.1000V",
            "measure_clock arm" => "frequency(0)=1500019456",
            "measure_clock core" => "frequency(0)=500039872",
            "measure_clock emmc" => "frequency(0)=199987232",
            "measure_clock v3d" => "frequency(0)=545475392",
            "pmic_read_adc" => include_str!("../fixtures/pi5-pmic.txt"),
            _ => "error=1 error_msg=\"Command not registered\"",
        },
        Some("pi4/root/dev/vcio") => |command| match command {
            "get_throttled" => "throttled=0x50000",
            "measure_volts core" => "volt=0.8438V",
            "measure_volts sdram_c" | "measure_volts sdram_i" | "measure_volts sdram_p" => "volt=1.1000V",
            "measure_clock arm" => "frequency(48)=1800404352",
            "measure_clock core" => "frequency(1)=200000992",
            "measure_clock emmc" => "frequency(47)=250000496",
            "measure_clock v3d" => "frequency(46)=250000496",
            _ => "error=1 error_msg=\"Command not registered\"",
        },
        Some("pi3-memory-cgroup-off/root/dev/vcio") => return Err(io::ErrorKind::PermissionDenied.into()),
        _ => return Err(io::ErrorKind::NotFound.into()),
    };
    for message in messages {
        match message.words[2] {
            0x0003_0080 => support::say(message, commands(&message.text())),
            0x0003_0002 => {
                let hertz = [0, 200_000_000, 0, 1_800_000_000, 500_000_000, 500_000_000];
                let clock = message.words[5];
                support::give(message, &[clock, hertz[clock as usize]]);
            }
            other => panic!("nobody should ask for the tag {other:#x}"),
        }
    }
    Ok(())
}

/// Runs a scrape of a tree, at a fixed time.
fn scrape(tree: &str) -> Snapshot {
    scrape_under(tree, support::roots(&support::fixture(tree)))
}

/// With Docker's word from `tree`, and the kernel's from below `roots`.
fn scrape_under(tree: &str, roots: Roots) -> Snapshot {
    let engine = support::engine::Engine::start(&support::fixture(tree).join("docker.json"));
    let seen = engine.state();
    let docker = Box::new(move || seen.clone());
    gatherer(roots, docker).gather(Selection::all(), Timestamp::from_second(1_767_326_400).unwrap())
}

fn gatherer(roots: Roots, docker: DockerView) -> Gatherer {
    // Where Debian has them.
    let textfile = roots.rootfs.join("var/lib/prometheus/node-exporter");
    let textfile_directories = textfile.exists().then(|| textfile.to_string_lossy().into_owned());
    // With what is off by default, to see it too.
    let settings = Settings {
        mount_timeout: MOUNT_TIMEOUT,
        cpu_info: true,
        stat_softirq: true,
        textfile_directories: textfile_directories.into_iter().collect(),
        ..Settings::defaults()
    };
    // The page of a Raspberry Pi 5, wherever this runs.
    Gatherer::new(
        roots,
        settings,
        Calls { statfs: ask, page_size: || 16384, adjtimex: clock, mailbox: firmware },
        docker,
    )
}

const VARIES: [&str; 6] = [
    "node_scrape_collector_duration_seconds{",
    "node_textfile_mtime_seconds{",
    "process_",
    "docker_list_age_seconds",
    "docker_disk_age_seconds",
    "docker_disk_duration_seconds",
];

/// Without what differs from run to run, from release to release and from checkout to checkout.
fn masked(body: &str) -> String {
    let mut out = String::new();
    let here = fixture_prefix();
    for line in body.lines().map(|line| line.replace(&here, "")) {
        match line.rsplit_once(' ') {
            Some((series, _)) if VARIES.iter().any(|name| series.starts_with(name)) => {
                out.push_str(series);
                out.push_str(" 0");
            }
            _ => out.push_str(&line.replace(concat!(env!("CARGO_PKG_VERSION"), '"'), "VERSION\"")),
        }
        out.push('\n');
    }
    out
}

fn fixture_prefix() -> String {
    support::fixture("").to_string_lossy().into_owned()
}

#[test]
fn each_tree_scrapes_as_its_golden_file_says() {
    for tree in TREES {
        let found = masked(&scrape(tree).render(Format::Text));
        let path = support::fixture(&format!("{tree}.prom"));
        if std::env::var_os("NEXUS_WRITE_GOLDEN").is_some() {
            std::fs::write(&path, &found).unwrap();
        }
        let golden = std::fs::read_to_string(&path).unwrap_or_default();
        let difference = found.lines().zip(golden.lines()).find(|(found, golden)| found != golden);
        assert!(
            found == golden,
            "{tree} differs from {} ({} lines against {}), first at {difference:?}; if it is meant so: NEXUS_WRITE_GOLDEN=1",
            path.display(),
            found.lines().count(),
            golden.lines().count()
        );
    }
}

#[test]
fn both_formats_have_the_same_samples() {
    for tree in TREES {
        let snapshot = scrape(tree);
        let samples = |format| -> Vec<String> {
            snapshot.render(format).lines().filter(|line| !line.starts_with('#')).map(str::to_owned).collect()
        };
        assert_eq!(samples(Format::Text), samples(Format::OpenMetrics), "{tree}");
        assert!(snapshot.render(Format::OpenMetrics).ends_with("\n# EOF\n"));
    }
}

/// Every family in a scrape is described, with the labels it has, declared once, and its samples are together.
#[test]
fn what_is_written_is_what_is_described() {
    let described: BTreeMap<&str, _> = Collector::ALL
        .iter()
        .copied()
        .flat_map(Collector::families)
        .chain(snapshot::FAMILIES)
        .chain(process::FAMILIES)
        .map(|family| (family.name, family))
        .collect();
    for tree in TREES {
        let body = scrape(tree).render(Format::Text);
        let mut declared: Vec<&str> = Vec::new();
        let mut has_parts = false;
        for line in body.lines() {
            if let Some(rest) = line.strip_prefix("# TYPE ") {
                let (name, kind) = rest.split_once(' ').unwrap();
                assert!(!declared.contains(&name), "{tree}: {name} is declared twice");
                declared.push(name);
                has_parts = matches!(kind, "histogram" | "summary");
                let family = described.get(name).or_else(|| {
                    described.values().find(|family| {
                        let parts = family.name.split_once("<field>");
                        parts.is_some_and(|(before, after)| name.starts_with(before) && name.ends_with(after))
                    })
                });
                if !PASSED_ON.contains(&name) {
                    assert_eq!(family.map(|family| family.kind.as_str()), Some(kind), "{tree}: {name}");
                }
            } else if !line.starts_with('#') {
                let name = line.split(['{', ' ']).next().unwrap();
                let suffix = declared.last().and_then(|declared| name.strip_prefix(declared));
                let is_of_it =
                    matches!(suffix, Some("")) || has_parts && matches!(suffix, Some("_bucket" | "_sum" | "_count"));
                assert!(is_of_it, "{tree}: a sample of {name} outside its family");
                if let Some(family) = described.get(name) {
                    for label in family.labels {
                        assert!(line.contains(&format!("{label}=\"")), "{tree}: {line} has no label {label}");
                    }
                }
            }
        }
    }
}

#[test]
fn a_second_scrape_says_the_same() {
    let folder = support::fixture("hybrid-v1");
    let mut gatherer = gatherer(support::roots(&folder), Box::new(DockerState::default));
    let now = Timestamp::from_second(1_767_326_400).unwrap();
    let mut scrape = || masked(&gatherer.gather(Selection::all(), now).render(Format::Text));
    assert_eq!(scrape(), scrape());
}

#[test]
fn what_is_off_is_absent_and_never_zero() {
    let body = |tree: &str| scrape(tree).render(Format::Text);
    let no_memory = body("pi3-memory-cgroup-off");
    assert!(no_memory.contains("\nnexus_memory_cgroup_enabled 0\n"));
    for family in ["container_memory_", "container_spec_memory_", "container_oom_events_total", "container_pressure_"] {
        assert!(!no_memory.contains(&format!("\n{family}")), "{family}");
    }
    assert!(no_memory.contains("\ncontainer_cpu_usage_seconds_total{"));
    assert!(no_memory.contains("\ncontainer_spec_cpu_shares{"));
    // No version 2 beside version 1, and processes that another PID namespace hides.
    let version_1 = body("cgroup-v1");
    assert!(!version_1.contains("container_pressure_") && !version_1.contains("container_processes"));
    assert!(version_1.contains("\ncontainer_threads{") && version_1.contains("\ncontainer_memory_rss{"));
    // A group of version 2 that the container's processes are not in.
    let hybrid = body("hybrid-v1");
    let pressed: Vec<&str> =
        hybrid.lines().filter(|line| line.starts_with("container_pressure_cpu_waiting_seconds_total{")).collect();
    assert!(matches!(pressed[..], [one] if one.contains("shop-web-1")), "{pressed:?}");
    // Throttling means something with a quota only.
    let throttled = |body: &str| body.matches("\ncontainer_cpu_cfs_throttled_seconds_total{").count();
    assert_eq!((throttled(&version_1), throttled(&hybrid), throttled(&body("pi4"))), (0, 1, 1));
    let no_psi = body("psi-off");
    assert!(!no_psi.contains("node_pressure_"));
    assert!(no_psi.contains("\nnode_scrape_collector_success{collector=\"pressure\"} 0\n"));
    assert!(no_psi.contains("\nnode_scrape_collector_success{collector=\"cpu\"} 1\n"));
    for collector in ["hwmon", "rpi_board", "rpi_firmware"] {
        assert!(
            no_psi.contains(&format!("\nnode_scrape_collector_success{{collector=\"{collector}\"}} 0\n")),
            "{collector}"
        );
    }
    assert!(!no_psi.contains("\nrpi_"));
}

/// The serial number of a board, and that of a card, tell its owner apart.
#[test]
fn serial_numbers_of_boards_and_cards_stay_on_them() {
    for tree in TREES {
        let body = scrape(tree).render(Format::Text);
        assert!(!body.contains("deadbeef") && !body.contains("5c1f2a3b"), "{tree}");
    }
}

#[test]
fn what_docker_refuses_costs_only_itself() {
    // The recorded engine of this tree answers 403 to GET /system/df, as a socket proxy does.
    let snapshot = scrape("hybrid-v1");
    let outcome = snapshot.outcomes.iter().find(|outcome| outcome.collector == Collector::DockerDisk).unwrap();
    let fault = outcome.fault.as_ref().unwrap().to_string();
    assert!(
        fault.starts_with("docker refused to tell its disk usage: ") && fault.ends_with(" (status 403)"),
        "{fault}"
    );
    let body = snapshot.render(Format::Text);
    assert!(!body.contains("\ndocker_disk_"));
    assert!(body.contains("\ndocker_up 1\n") && body.contains("\ndocker_container_image_created_seconds{"));
    assert!(body.contains("\nnode_scrape_collector_success{collector=\"docker_disk\"} 0\n"));
}

#[test]
fn a_running_container_without_a_group_is_a_fault_and_one_that_ended_is_none() {
    // Docker's word and /proc of one host, cgroup files of another. Process 4711 is there, 4800 is not.
    let other = support::roots(&support::fixture("psi-off"));
    let roots = Roots { sysfs: other.sysfs, ..support::roots(&support::fixture("pi4")) };
    let snapshot = scrape_under("pi4", roots);
    let outcome = snapshot.outcomes.iter().find(|outcome| outcome.collector == Collector::Container).unwrap();
    let fault = outcome.fault.as_ref().unwrap();
    assert_eq!(fault.to_string(), "no control group found for shop-web-1");
    let body = snapshot.render(Format::Text);
    assert!(body.contains("\nnode_scrape_collector_success{collector=\"container\"} 0\n"));
    assert!(body.contains("\ndocker_container_state{") && !body.contains("\ncontainer_cpu_"));
}
