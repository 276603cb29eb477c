//! What the collectors are told by flags beyond being on or off. Names and defaults are node_exporter's.

use std::time::Duration;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches};

use crate::filter::Filter;

#[derive(Clone, Debug)]
pub struct Settings {
    /// How long one mount may take to answer.
    pub mount_timeout: Duration,
    pub filesystem_mount_points: Filter,
    pub filesystem_types: Filter,
    pub netdev_devices: Filter,
    pub diskstats_devices: Filter,
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
    pattern("collector.hwmon.chip-exclude", "", "Chips of sensors to leave out"),
    pattern("collector.hwmon.chip-include", "", "Chips of sensors to take, and no others"),
    pattern("collector.hwmon.sensor-exclude", "", "Sensors to leave out, as CHIP;SENSOR"),
    pattern("collector.hwmon.sensor-include", "", "Sensors to take, and no others, as CHIP;SENSOR"),
    pattern("collector.netclass.ignored-devices", "^$", "Network interfaces that netclass leaves out"),
    pattern("collector.powersupply.ignored-supplies", "^$", "Power supplies to leave out"),
];

const IGNORE_INVALID_SPEED: &str = "collector.netclass.ignore-invalid-speed";

/// All flags of the collectors but those that switch them.
pub fn args() -> impl Iterator<Item = Arg> {
    let switch = Arg::new(IGNORE_INVALID_SPEED)
        .long(IGNORE_INVALID_SPEED)
        .action(ArgAction::SetTrue)
        .help("Leave out speeds of interfaces that the driver does not know");
    PATTERN_FLAGS.iter().map(PatternFlag::arg).chain([switch])
}

impl PatternFlag {
    pub fn arg(&self) -> Arg {
        let valid = |text: &str| match Filter::new(text, "") {
            Ok(_) => Ok(text.to_owned()),
            Err(error) => Err(format!("no valid pattern: {}", error.to_string().replace('\n', " "))),
        };
        let arg = Arg::new(self.name).long(self.name).value_name("REGEX").value_parser(valid).help(self.help);
        if self.default.is_empty() { arg } else { arg.default_value(self.default) }
    }
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
        Ok(Settings {
            mount_timeout,
            filesystem_mount_points: filter(
                "collector.filesystem.mount-points-include",
                "collector.filesystem.mount-points-exclude",
            )?,
            filesystem_types: filter("collector.filesystem.fs-types-include", "collector.filesystem.fs-types-exclude")?,
            netdev_devices: filter("collector.netdev.device-include", "collector.netdev.device-exclude")?,
            diskstats_devices: filter("collector.diskstats.device-include", "collector.diskstats.device-exclude")?,
            hwmon_chips: filter("collector.hwmon.chip-include", "collector.hwmon.chip-exclude")?,
            hwmon_sensors: filter("collector.hwmon.sensor-include", "collector.hwmon.sensor-exclude")?,
            netclass_devices: ignored(matches, "collector.netclass.ignored-devices")?,
            netclass_ignore_invalid_speed: matches.get_flag(IGNORE_INVALID_SPEED),
            power_supplies: ignored(matches, "collector.powersupply.ignored-supplies")?,
        })
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
