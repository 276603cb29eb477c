//! What the collectors are told by flags beyond being on or off. Names and defaults are node_exporter's.

use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::collect::systemd;
use crate::filter::Filter;

#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the exporter tells what it costs itself.
    pub exporter_metrics: bool,
    /// How long one mount may take to answer.
    pub mount_timeout: Duration,
    pub filesystem_mount_points: Filter,
    pub filesystem_types: Filter,
    pub netdev_devices: Filter,
    pub diskstats_devices: Filter,
    pub arp_devices: Filter,
    /// Of fields by their names after `node_netstat_`.
    pub netstat_fields: Filter,
    /// Of fields by their names in /proc/vmstat.
    pub vmstat_fields: Filter,
    pub cpu_guest: bool,
    pub cpu_info: bool,
    /// `None`: no flag of the processor is wanted.
    pub cpu_flags: Option<Filter>,
    /// `None`: no bug of the processor is wanted.
    pub cpu_bugs: Option<Filter>,
    pub stat_softirq: bool,
    /// Folders, or patterns of such, in which other programs leave metrics.
    pub textfile_directories: Vec<String>,
    pub systemd: systemd::Wanted,
    pub hwmon_chips: Filter,
    /// Of `CHIP;SENSOR`.
    pub hwmon_sensors: Filter,
    pub netclass_devices: Filter,
    /// Whether a speed that the driver does not know is left out, which node_exporter writes as -1 megabit.
    pub netclass_ignore_invalid_speed: bool,
    pub power_supplies: Filter,
}

/// What is read as time-out of one mount unless asked otherwise: a local disk answers in microseconds.
pub const DEFAULT_MOUNT_TIMEOUT: Duration = Duration::from_secs(2);

/// A flag that takes a pattern of names.
pub struct PatternFlag {
    pub name: &'static str,
    /// Empty: none.
    pub default: &'static str,
    pub help: &'static str,
}

const fn pattern(name: &'static str, default: &'static str, help: &'static str) -> PatternFlag {
    PatternFlag { name, default, help }
}

pub const PATTERN_FLAGS: &[PatternFlag] = &[
    pattern(
        "collector.filesystem.mount-points-exclude",
        "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)",
        "Mount points to leave out",
    ),
    pattern("collector.filesystem.mount-points-include", "", "Mount points to take, and no others"),
    pattern(
        "collector.filesystem.fs-types-exclude",
        "^(autofs|binfmt_misc|bpf|cgroup2?|configfs|debugfs|devpts|devtmpfs|fusectl|hugetlbfs|iso9660|mqueue|nsfs|overlay|proc\
         |procfs|pstore|rpc_pipefs|securityfs|selinuxfs|squashfs|erofs|sysfs|tracefs)$",
        "File system types to leave out",
    ),
    pattern("collector.filesystem.fs-types-include", "", "File system types to take, and no others"),
    pattern("collector.netdev.device-exclude", "", "Network interfaces to leave out"),
    pattern("collector.netdev.device-include", "", "Network interfaces to take, and no others"),
    pattern(
        "collector.diskstats.device-exclude",
        r"^(z?ram|loop|fd|(h|s|v|xv)d[a-z]|nvme\d+n\d+p)\d+$",
        "Block devices to leave out",
    ),
    pattern("collector.diskstats.device-include", "", "Block devices to take, and no others"),
    pattern("collector.arp.device-exclude", "", "Network interfaces whose ARP entries to leave out"),
    pattern("collector.arp.device-include", "", "Network interfaces whose ARP entries to take, and no others"),
    pattern(
        "collector.netstat.fields",
        "^(.*_(InErrors|InErrs)|Ip_Forwarding|Ip(6|Ext)_(InOctets|OutOctets)|Icmp6?_(InMsgs|OutMsgs)\
         |TcpExt_(Listen.*|Syncookies.*|TCPSynRetrans|TCPTimeouts|TCPOFOQueue|TCPRcvQDrop)\
         |Tcp_(ActiveOpens|InSegs|OutSegs|OutRsts|PassiveOpens|RetransSegs|CurrEstab)\
         |Udp6?_(InDatagrams|OutDatagrams|NoPorts|RcvbufErrors|SndbufErrors))$",
        "Fields of the kernel's network statistics to take",
    ),
    pattern("collector.vmstat.fields", "^(oom_kill|pgpg|pswp|pg.*fault).*", "Fields of /proc/vmstat to take"),
    pattern("collector.cpu.info.flags-include", "", "Processor flags to show; implies --collector.cpu.info"),
    pattern("collector.cpu.info.bugs-include", "", "Processor bugs to show; implies --collector.cpu.info"),
    pattern(
        "collector.systemd.unit-exclude",
        r".+\.(automount|device|mount|scope|slice)",
        "Units to leave out, by the whole name",
    ),
    pattern("collector.systemd.unit-include", ".+", "Units to take, by the whole name, if they are not left out"),
    pattern("collector.hwmon.chip-exclude", "", "Chips of sensors to leave out"),
    pattern("collector.hwmon.chip-include", "", "Chips of sensors to take, and no others"),
    pattern("collector.hwmon.sensor-exclude", "", "Sensors to leave out, as CHIP;SENSOR"),
    pattern("collector.hwmon.sensor-include", "", "Sensors to take, and no others, as CHIP;SENSOR"),
    pattern("collector.netclass.ignored-devices", "^$", "Network interfaces that netclass leaves out"),
    pattern("collector.powersupply.ignored-supplies", "^$", "Power supplies to leave out"),
];

/// A flag that is on or off.
pub struct Switch {
    pub on: &'static str,
    pub off: &'static str,
    /// Whether it is on unless asked otherwise.
    pub default: bool,
    /// What the one of the two that changes something does.
    pub help: &'static str,
}

macro_rules! switch {
    ($name:literal, $default:literal, $help:literal) => {
        Switch { on: $name, off: concat!("no-", $name), default: $default, help: $help }
    };
}

const CPU_GUEST: Switch =
    switch!("collector.cpu.guest", true, "Leave out the time that CPUs spent in virtual machines");
const CPU_INFO: Switch = switch!("collector.cpu.info", false, "Show what /proc/cpuinfo says of the processor");
const STAT_SOFTIRQ: Switch = switch!("collector.stat.softirq", false, "Count software interrupts by vector");
const SYSTEMD_RESTARTS: Switch =
    switch!("collector.systemd.enable-restarts-metrics", false, "Tell how often services were restarted");
const SYSTEMD_START_TIMES: Switch =
    switch!("collector.systemd.enable-start-time-metrics", false, "Tell when units became active");
const SYSTEMD_TASKS: Switch =
    switch!("collector.systemd.enable-task-metrics", false, "Tell how many threads services have and may have");
const SYSTEMD_PRIVATE: Switch = switch!(
    "collector.systemd.private",
    false,
    "Ask systemd at its own socket and not over the system bus; needs root"
);
const IGNORE_INVALID_SPEED: Switch = switch!(
    "collector.netclass.ignore-invalid-speed",
    false,
    "Leave out speeds of interfaces that the driver does not know"
);
const NO_EXPORTER_METRICS: Switch =
    switch!("web.disable-exporter-metrics", false, "Leave out what the exporter itself costs (process_*)");

pub const SWITCHES: &[Switch] = &[
    CPU_GUEST,
    CPU_INFO,
    STAT_SOFTIRQ,
    SYSTEMD_RESTARTS,
    SYSTEMD_START_TIMES,
    SYSTEMD_TASKS,
    SYSTEMD_PRIVATE,
    IGNORE_INVALID_SPEED,
    NO_EXPORTER_METRICS,
];

impl Switch {
    /// The flag and its opposite; the later one on the line wins.
    fn args(&self) -> [Arg; 2] {
        let arg = |name: &'static str, other: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).overrides_with(other).help(self.help)
        };
        [arg(self.on, self.off).hide(self.default), arg(self.off, self.on).hide(!self.default)]
    }

    fn read(&self, matches: &ArgMatches) -> bool {
        match (matches.get_flag(self.on), matches.get_flag(self.off)) {
            (true, _) => true,
            (_, true) => false,
            _ => self.default,
        }
    }
}

impl PatternFlag {
    fn arg(&self) -> Arg {
        let valid = |text: &str| match Filter::new(text, "") {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("no valid pattern: {}", error.to_string().replace('\n', " "))),
        };
        let arg = Arg::new(self.name).long(self.name).value_name("REGEX").value_parser(valid).help(self.help);
        if self.default.is_empty() { arg } else { arg.default_value(self.default) }
    }
}

/// The flags that [`Settings::read`] reads.
pub fn args() -> impl Iterator<Item = Arg> {
    let textfile = Arg::new("collector.textfile.directory")
        .long("collector.textfile.directory")
        .value_name("DIR")
        .action(ArgAction::Append)
        .help("Folder with files *.prom to pass on, or a pattern of such folders; may be repeated");
    PATTERN_FLAGS.iter().map(PatternFlag::arg).chain(SWITCHES.iter().flat_map(Switch::args)).chain([textfile])
}

impl Settings {
    /// The settings without any flag.
    pub fn defaults() -> Settings {
        let command = clap::Command::new("defaults").args(args());
        Settings::read(&command.get_matches_from(["defaults"]), DEFAULT_MOUNT_TIMEOUT).unwrap_or_else(|error| {
            // A default that contradicts itself; a test goes through all of them.
            unreachable!("{error}")
        })
    }

    /// Of flags that have been parsed. Fails when two contradict each other, with the reason.
    pub fn read(matches: &ArgMatches, mount_timeout: Duration) -> Result<Settings, String> {
        let filter = |include: &str, exclude: &str| filter(matches, include, exclude);
        let cpu_flags = wanted(matches, "collector.cpu.info.flags-include")?;
        let cpu_bugs = wanted(matches, "collector.cpu.info.bugs-include")?;
        Ok(Settings {
            exporter_metrics: !NO_EXPORTER_METRICS.read(matches),
            mount_timeout,
            filesystem_mount_points: filter(
                "collector.filesystem.mount-points-include",
                "collector.filesystem.mount-points-exclude",
            )?,
            filesystem_types: filter("collector.filesystem.fs-types-include", "collector.filesystem.fs-types-exclude")?,
            netdev_devices: filter("collector.netdev.device-include", "collector.netdev.device-exclude")?,
            diskstats_devices: filter("collector.diskstats.device-include", "collector.diskstats.device-exclude")?,
            arp_devices: filter("collector.arp.device-include", "collector.arp.device-exclude")?,
            // An empty pattern takes all fields, as in node_exporter.
            netstat_fields: wanted(matches, "collector.netstat.fields")?.unwrap_or_default(),
            vmstat_fields: wanted(matches, "collector.vmstat.fields")?.unwrap_or_default(),
            cpu_guest: CPU_GUEST.read(matches),
            cpu_info: CPU_INFO.read(matches) || cpu_flags.is_some() || cpu_bugs.is_some(),
            cpu_flags,
            cpu_bugs,
            stat_softirq: STAT_SOFTIRQ.read(matches),
            systemd: systemd::Wanted {
                units: whole_names(matches, "collector.systemd.unit-include", "collector.systemd.unit-exclude")?,
                is_private: SYSTEMD_PRIVATE.read(matches),
                restarts: SYSTEMD_RESTARTS.read(matches),
                start_times: SYSTEMD_START_TIMES.read(matches),
                tasks: SYSTEMD_TASKS.read(matches),
            },
            textfile_directories: matches
                .get_many("collector.textfile.directory")
                .unwrap_or_default()
                .cloned()
                .collect(),
            hwmon_chips: filter("collector.hwmon.chip-include", "collector.hwmon.chip-exclude")?,
            hwmon_sensors: filter("collector.hwmon.sensor-include", "collector.hwmon.sensor-exclude")?,
            netclass_devices: ignored(matches, "collector.netclass.ignored-devices")?,
            netclass_ignore_invalid_speed: IGNORE_INVALID_SPEED.read(matches),
            power_supplies: ignored(matches, "collector.powersupply.ignored-supplies")?,
        })
    }
}

/// What one pattern takes; `None` when it is empty.
fn wanted(matches: &ArgMatches, include: &str) -> Result<Option<Filter>, String> {
    match matches.get_one::<String>(include).map_or("", String::as_str) {
        "" => Ok(None),
        text => Filter::new(text, "").map(Some).map_err(|error| error.to_string()),
    }
}

/// The default of what to leave out steps back when somebody says what to take; to say both is a mistake.
fn filter(matches: &ArgMatches, include: &str, exclude: &str) -> Result<Filter, String> {
    let text = |name: &str| matches.get_one::<String>(name).map_or("", String::as_str);
    let is_given = |name: &str| matches.value_source(name) == Some(ValueSource::CommandLine) && !text(name).is_empty();
    let excluded = match (is_given(include), is_given(exclude)) {
        (true, true) => return Err(format!("--{include} and --{exclude} exclude each other: give one of them")),
        (true, false) => "",
        (false, _) => text(exclude),
    };
    Filter::new(text(include), excluded).map_err(|error| error.to_string())
}

/// Of patterns that mean whole names, and of which both may be given.
fn whole_names(matches: &ArgMatches, include: &str, exclude: &str) -> Result<Filter, String> {
    let whole = |name: &str| format!("^(?:{})$", matches.get_one::<String>(name).map_or("", String::as_str));
    Filter::new(&whole(include), &whole(exclude)).map_err(|error| error.to_string())
}

/// One pattern alone, of what to leave out.
fn ignored(matches: &ArgMatches, name: &str) -> Result<Filter, String> {
    let pattern = matches.get_one::<String>(name).map_or("", String::as_str);
    Filter::new("", pattern).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    impl Settings {
        /// With these flags.
        pub fn given(arguments: &[&str]) -> Settings {
            settings(arguments).unwrap()
        }
    }

    fn settings(arguments: &[&str]) -> Result<Settings, String> {
        let command = clap::Command::new("x").args(args());
        let matches = command.try_get_matches_from(["x"].iter().chain(arguments)).map_err(|error| error.to_string())?;
        Settings::read(&matches, DEFAULT_MOUNT_TIMEOUT)
    }

    #[test]
    fn disks_are_left_out_as_node_exporter_does() {
        let devices = Settings::defaults().diskstats_devices;
        for name in ["ram0", "zram0", "loop12", "fd0", "sda1", "hdb2", "vda15", "xvda1", "nvme0n1p2"] {
            assert!(!devices.takes(name), "{name}");
        }
        for name in
            ["sda", "vda", "xvda", "nvme0n1", "mmcblk0", "mmcblk0p1", "dm-0", "md0", "sdaa1", "sr0", "nvmep1", ""]
        {
            assert!(devices.takes(name), "{name}");
        }
    }

    #[test]
    fn mounts_are_left_out_as_node_exporter_does() {
        let Settings { filesystem_mount_points: points, filesystem_types: types, .. } = Settings::defaults();
        for point in [
            "/dev/shm",
            "/dev",
            "/sys/fs/bpf",
            "/proc",
            "/var/lib/docker/overlay2/x/merged",
            "/run/credentials/systemd-sysctl.service",
        ] {
            assert!(!points.takes(point), "{point}");
        }
        for point in ["/", "/devices", "/run", "/var/lib/docker", "/mnt/nas"] {
            assert!(points.takes(point), "{point}");
        }
        for name in ["overlay", "nsfs", "cgroup", "cgroup2", "erofs"] {
            assert!(!types.takes(name), "{name}");
        }
        for name in ["ext4", "vfat", "nfs4", "tmpfs", "ramfs"] {
            assert!(types.takes(name), "{name}");
        }
    }

    #[test]
    fn what_to_take_replaces_the_default_of_what_to_leave_out() {
        let types = settings(&["--collector.filesystem.fs-types-include=^(overlay|ext4)$"]).unwrap().filesystem_types;
        assert_eq!((types.takes("overlay"), types.takes("ext4"), types.takes("vfat")), (true, true, false));
    }

    #[test]
    fn fields_are_taken_as_node_exporter_does() {
        let Settings { netstat_fields: netstat, vmstat_fields: vmstat, .. } = Settings::defaults();
        for name in [
            "Icmp_InErrors",
            "UdpLite6_InErrors",
            "Tcp_InErrs",
            "Ip_Forwarding",
            "Ip6_InOctets",
            "IpExt_OutOctets",
            "Icmp6_OutMsgs",
            "TcpExt_ListenDrops",
            "TcpExt_TCPRcvQDrop",
            "Tcp_CurrEstab",
            "Udp_NoPorts",
            "Udp6_SndbufErrors",
        ] {
            assert!(netstat.takes(name), "{name}");
        }
        for name in ["Tcp_MaxConn", "TcpExt_TCPTimeouts2", "Ip_InReceives", "Icmp6_InType135", "UdpLite_NoPorts"] {
            assert!(!netstat.takes(name), "{name}");
        }
        for name in ["oom_kill", "pgpgin", "pswpout", "pgfault", "pgmajfault", "pgpgoutclean"] {
            assert!(vmstat.takes(name), "{name}");
        }
        for name in ["nr_free_pages", "pgalloc_normal", "thp_fault_alloc", "drop_pagecache"] {
            assert!(!vmstat.takes(name), "{name}");
        }
        assert!(settings(&["--collector.vmstat.fields="]).unwrap().vmstat_fields.takes("nr_free_pages"));
    }

    #[test]
    fn switches_are_on_or_off_and_the_last_word_counts() {
        let check = |arguments: &[&str], guest: bool, info: bool| {
            let settings = settings(arguments).unwrap();
            assert_eq!((settings.cpu_guest, settings.cpu_info), (guest, info), "{arguments:?}");
        };
        check(&[], true, false);
        check(&["--no-collector.cpu.guest", "--collector.cpu.info"], false, true);
        check(&["--no-collector.cpu.guest", "--collector.cpu.guest"], true, false);
        check(&["--collector.cpu.info", "--no-collector.cpu.info"], true, false);
        check(&["--collector.cpu.info.flags-include=^neon$"], true, true);
        let given = settings(&["--collector.cpu.info.bugs-include=^spectre"]).unwrap();
        assert!(given.cpu_flags.is_none() && given.cpu_bugs.is_some_and(|bugs| bugs.takes("spectre_v1")));
        assert!(!given.stat_softirq && settings(&["--collector.stat.softirq"]).unwrap().stat_softirq);
    }

    #[test]
    fn units_are_taken_by_their_whole_names() {
        let check = |arguments: &[&str], name: &str, expected: bool| {
            assert_eq!(settings(arguments).unwrap().systemd.units.takes(name), expected, "{arguments:?} {name}");
        };
        check(&[], "ssh.service", true);
        check(&[], "session-1.scope", false);
        check(&[], "boot-firmware.mount", false);
        check(&[], "my.slice.service", true);
        let docker = "--collector.systemd.unit-include=docker.*|ssh.service";
        check(&[docker], "docker.socket", true);
        check(&[docker], "ssh.service", true);
        check(&[docker], "my-docker.service", false);
        check(&[docker, "--collector.systemd.unit-exclude=.*socket"], "docker.socket", false);
        check(&["--collector.systemd.unit-exclude="], "boot-firmware.mount", true);
    }

    #[test]
    fn mistakes_name_the_flag() {
        let check = |arguments: &[&str], words: &str| {
            let error = settings(arguments).unwrap_err();
            assert!(error.contains(words), "{error}");
        };
        check(&["--collector.netdev.device-exclude=("], "--collector.netdev.device-exclude");
        check(&["--collector.netclass.ignored-devices=("], "--collector.netclass.ignored-devices");
        check(
            &["--collector.netdev.device-exclude=a", "--collector.netdev.device-include=b"],
            "--collector.netdev.device-include and --collector.netdev.device-exclude exclude each other",
        );
    }
}
