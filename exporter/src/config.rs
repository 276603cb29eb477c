//! The command line. Flags have node_exporter's names where it has them.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{NonEmptyStringValueParser, PossibleValuesParser, TypedValueParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};

use crate::collect::{Collector, Roots, Selection};
use crate::settings::{self, DEFAULT_MOUNT_TIMEOUT, Settings};

#[derive(Debug)]
pub struct Config {
    pub action: Action,
    /// At least one.
    pub listen: Vec<SocketAddr>,
    /// Certificates, passwords and the like.
    pub web_config_file: Option<PathBuf>,
    /// Where the metrics are; begins with a slash.
    pub telemetry_path: String,
    /// Scrapes at the same time; 0: any number.
    pub max_requests: u16,
    pub roots: Roots,
    pub docker_socket: PathBuf,
    /// Whose containers are looked at.
    pub stack: String,
    pub collectors: Selection,
    pub docker_disk_interval: Duration,
    pub settings: Settings,
    /// A level, or directives of tracing's filter.
    pub log: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Serve,
    Healthcheck,
    /// Print docs/metrics.md.
    Families,
    /// Print docs/exporter.md.
    Manual,
}

/// 10190 is not allocated to another exporter.
const DEFAULT_LISTEN: &str = "127.0.0.1:10190";

/// Always the same: health checks and their owners should not have to look it up.
pub const HEALTH_PATH: &str = "/healthz";
const DEFAULT_DOCKER_DISK_INTERVAL: Duration = Duration::from_secs(60 * 60);

/// Why there is no configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The help or the version was asked for; here it is.
    Answered(String),
    /// What is wrong, and with which flag, on one line.
    Mistyped(String),
}

impl Config {
    /// Reads `arguments`, the program's name first.
    pub fn parse<I, T>(arguments: I) -> Result<Config, Refusal>
    where
        I: IntoIterator<Item = T>,
        T: Into<std::ffi::OsString> + Clone,
    {
        let matches = command().try_get_matches_from(arguments).map_err(|error| match error.exit_code() {
            0 => Refusal::Answered(error.to_string()),
            _ => Refusal::Mistyped(one_line(&error.to_string())),
        })?;
        let config = Config::read(&matches).map_err(Refusal::Mistyped)?;
        let procfs = &config.roots.procfs;
        if config.action == Action::Serve && !procfs.join("stat").exists() {
            let why = "is not where /proc of a host is: mount it there, or give --path.procfs or --path.rootfs";
            return Err(Refusal::Mistyped(format!("{} {why}", procfs.display())));
        }
        Ok(config)
    }
}

/// clap's message without the usage that it appends.
fn one_line(message: &str) -> String {
    let lines =
        message.lines().map(str::trim).take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    let text = lines.filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" ");
    format!("{} (see --help)", text.strip_prefix("error: ").unwrap_or(&text))
}

impl Config {
    /// Of flags that have been parsed; fails when two contradict each other, with the reason.
    fn read(matches: &ArgMatches) -> Result<Config, String> {
        let path = |name: &str| matches.get_one::<PathBuf>(name).cloned();
        let rootfs = path("path.rootfs").unwrap_or_else(|| "/".into());
        let under_root = |name: &str, folder: &str| path(name).unwrap_or_else(|| rootfs.join(folder));
        let text = |name: &str| matches.get_one::<String>(name).cloned().unwrap_or_default();
        let default =
            if matches.get_flag("collector.disable-defaults") { Selection::NONE } else { Selection::by_default() };
        let collectors = Collector::ALL.iter().fold(default, |selection, &collector| {
            let (on, off) = collector.flags();
            match (matches.get_flag(on), matches.get_flag(off)) {
                (true, _) => selection.with(collector),
                (_, true) => selection.without(collector),
                _ => selection,
            }
        });
        let mount_timeout =
            matches.get_one("collector.filesystem.mount-timeout").copied().unwrap_or(DEFAULT_MOUNT_TIMEOUT);
        Ok(Config {
            action: match matches.subcommand_name() {
                Some("healthcheck") => Action::Healthcheck,
                Some("families") => Action::Families,
                Some("manual") => Action::Manual,
                _ => Action::Serve,
            },
            listen: matches.get_many("web.listen-address").into_iter().flatten().copied().collect(),
            // An empty path says nothing, as in node_exporter.
            web_config_file: path("web.config.file").filter(|path| !path.as_os_str().is_empty()),
            telemetry_path: text("web.telemetry-path"),
            max_requests: matches.get_one("web.max-requests").copied().unwrap_or_default(),
            roots: Roots {
                procfs: under_root("path.procfs", "proc"),
                sysfs: under_root("path.sysfs", "sys"),
                udev_data: under_root("path.udev.data", "run/udev/data"),
                rootfs,
            },
            docker_socket: path("docker.socket").unwrap_or_default(),
            stack: text("docker.stack"),
            collectors,
            docker_disk_interval: matches
                .get_one("collector.docker_disk.interval")
                .copied()
                .unwrap_or(DEFAULT_DOCKER_DISK_INTERVAL),
            settings: Settings::read(matches, mount_timeout)?,
            log: text("log.level"),
        })
    }
}

/// The command line, also for the documentation.
pub fn command() -> Command {
    let path = |name: &'static str| {
        Arg::new(name).long(name).value_name("DIR").value_parser(clap::value_parser!(PathBuf)).global(true)
    };
    let mut command = Command::new("nexus-exporter")
        .version(env!("CARGO_PKG_VERSION"))
        .about("Vitals of this host and of its containers, as metrics for Prometheus.")
        .arg(
            Arg::new("web.listen-address")
                .long("web.listen-address")
                .value_name("ADDRESS")
                .value_parser(ValueParser::new(listen_address))
                .default_value(DEFAULT_LISTEN)
                .action(ArgAction::Append)
                .global(true)
                .help("Address to listen on, IP:PORT, or :PORT for all of IPv4; may be given several times"),
        )
        .arg(
            Arg::new("web.config.file")
                .long("web.config.file")
                .value_name("FILE")
                .value_parser(ValueParser::new(|text: &str| Ok::<_, String>(PathBuf::from(text))))
                .help("Web configuration with certificates, passwords and the like, as of other exporters"),
        )
        .arg(
            Arg::new("web.telemetry-path")
                .long("web.telemetry-path")
                .value_name("PATH")
                .value_parser(ValueParser::new(telemetry_path))
                .default_value("/metrics")
                .help("Path of the metrics"),
        )
        .arg(
            Arg::new("web.max-requests")
                .long("web.max-requests")
                .value_name("COUNT")
                .value_parser(clap::value_parser!(u16))
                .default_value("40")
                .help("Scrapes that may be under way at once, further ones get 503; 0 for any number"),
        )
        .arg(path("path.rootfs").default_value("/").help("Where the host's root is mounted"))
        .arg(path("path.procfs").help("Where the host's /proc is mounted [default: ROOTFS/proc]"))
        .arg(path("path.sysfs").help("Where the host's /sys is mounted [default: ROOTFS/sys]"))
        .arg(path("path.udev.data").help("Where udev keeps its data [default: ROOTFS/run/udev/data]"))
        .arg(
            path("docker.socket")
                .value_name("SOCKET")
                .default_value("/var/run/docker.sock")
                .help("Unix socket of the Docker Engine; reads are all it is asked for"),
        )
        .arg(
            Arg::new("docker.stack")
                .long("docker.stack")
                .value_name("NAME")
                .env("NEXUS_STACK")
                .default_value(nexus_model::labels::DEFAULT_STACK)
                .value_parser(NonEmptyStringValueParser::new())
                .global(true)
                .help("Name of this Nexus stack: only containers with it as label nexus.stack are looked at"),
        )
        .arg(
            Arg::new("collector.filesystem.mount-timeout")
                .long("collector.filesystem.mount-timeout")
                .value_name("TIME")
                .value_parser(ValueParser::new(duration))
                .default_value("2s")
                .global(true)
                .help("How long one mount may take to answer"),
        )
        .arg(
            Arg::new("collector.docker_disk.interval")
                .long("collector.docker_disk.interval")
                .value_name("TIME")
                .value_parser(ValueParser::new(disk_interval))
                .default_value("1h")
                .global(true)
                .help("How often Docker is asked for its disk usage, for which it walks its files; 1m at least"),
        )
        .arg(
            Arg::new("log.level")
                .long("log.level")
                .value_name("LEVEL")
                .env("NEXUS_LOG")
                .default_value("info")
                .value_parser(PossibleValuesParser::new(["error", "warn", "info", "debug", "trace"]).map(|level| level))
                .global(true)
                .help("What is logged"),
        )
        .arg(
            Arg::new("collector.disable-defaults")
                .long("collector.disable-defaults")
                .action(ArgAction::SetTrue)
                .help("Start from no collectors; --collector.NAME adds one"),
        )
        .subcommand(Command::new("healthcheck").about("Ask the exporter on the listen address whether it is well"))
        .subcommand(Command::new("families").about("Print the list of metric families, docs/metrics.md"))
        .subcommand(Command::new("manual").about("Print the exporter's manual, docs/exporter.md"))
        .after_help(format!(
            "Collectors are switched by --collector.NAME and --no-collector.NAME, the later one on the line wins.\n\
             On by default:\n  {}\nOff by default:\n  {}",
            names(true),
            names(false)
        ));
    command = command.args(settings::args());
    for collector in Collector::ALL {
        let (on, off) = collector.flags();
        command = command
            .arg(Arg::new(on).long(on).action(ArgAction::SetTrue).overrides_with(off).hide(true))
            .arg(Arg::new(off).long(off).action(ArgAction::SetTrue).overrides_with(on).hide(true));
    }
    command
}

/// The collectors that are on, or off, by default.
fn names(on: bool) -> String {
    let names =
        Collector::ALL.iter().filter(|collector| collector.is_on_by_default() == on).map(|collector| collector.name());
    names.collect::<Vec<_>>().join(" ")
}

/// `:PORT` listens on all of IPv4, where node_exporter would also take IPv6.
fn listen_address(text: &str) -> Result<SocketAddr, String> {
    let full = if text.starts_with(':') { format!("0.0.0.0{text}") } else { text.to_owned() };
    full.parse().map_err(|_| "wanted IP:PORT such as 127.0.0.1:10190, or :PORT".to_owned())
}

/// Only what needs no escaping, neither in a URL nor in the landing page.
fn telemetry_path(text: &str) -> Result<String, String> {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~/".contains(&byte);
    if text == HEALTH_PATH {
        return Err("that is the path of the health check".to_owned());
    }
    if text.starts_with('/') && text.bytes().all(is_plain) {
        return Ok(text.to_owned());
    }
    Err("wanted a path that begins with / and has letters, digits and -._~/ only".to_owned())
}

/// `500ms`, `2s`, `30m` or `1h`.
fn duration(text: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60 * 1000), ("h", 60 * 60 * 1000)];
    let split =
        units.into_iter().find_map(|(unit, scale)| Some((text.strip_suffix(unit)?.parse::<u32>().ok()?, scale)));
    match split {
        Some((number, scale)) if number > 0 => Ok(Duration::from_millis(u64::from(number) * scale)),
        _ => Err("wanted a time such as 500ms, 2s, 30m or 1h".to_owned()),
    }
}

/// Each walk may keep the disk busy for as long as it takes.
fn disk_interval(text: &str) -> Result<Duration, String> {
    match duration(text)? {
        interval if interval < Duration::from_secs(60) => Err("wanted 1m or more".to_owned()),
        interval => Ok(interval),
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use proptest::prelude::*;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Config, Refusal> {
        Config::parse(["nexus-exporter"].iter().chain(arguments))
    }

    #[test]
    fn defaults_are_those_of_a_program_on_the_host() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.action, Action::Serve);
        assert_eq!(config.listen, [SocketAddr::from(([127, 0, 0, 1], 10190))]);
        assert_eq!((config.telemetry_path.as_str(), config.max_requests), ("/metrics", 40));
        assert_eq!(config.web_config_file, None);
        assert_eq!(
            (config.roots.procfs.as_path(), config.roots.sysfs.as_path()),
            (Path::new("/proc"), Path::new("/sys"))
        );
        assert_eq!(config.collectors, Selection::by_default());
        assert_eq!(config.settings.mount_timeout, Duration::from_secs(2));
        assert_eq!(config.docker_disk_interval, Duration::from_secs(3600));
    }

    #[test]
    fn proc_and_sys_follow_the_root_unless_given() {
        let config = parse(&["families", "--path.rootfs=/host", "--path.sysfs=/elsewhere"]).unwrap();
        assert_eq!(config.roots.procfs, Path::new("/host/proc"));
        assert_eq!(config.roots.sysfs, Path::new("/elsewhere"));
        assert_eq!(config.roots.udev_data, Path::new("/host/run/udev/data"));
    }

    #[test]
    fn collectors_are_switched_and_the_last_word_counts() {
        let check =
            |arguments: &[&str], expected: Selection| assert_eq!(parse(arguments).unwrap().collectors, expected);
        check(&["--no-collector.cpu"], Selection::by_default().without(Collector::Cpu));
        check(&["--no-collector.cpu", "--collector.cpu"], Selection::by_default());
        check(
            &["--collector.disable-defaults", "--collector.thermal_zone"],
            Selection::NONE.with(Collector::ThermalZone),
        );
    }

    #[test]
    fn every_collector_has_its_flags() {
        for collector in Collector::ALL {
            let (on, off) = collector.flags();
            assert_eq!(
                (on, off),
                (&*format!("collector.{}", collector.name()), &*format!("no-collector.{}", collector.name()))
            );
        }
        command().debug_assert();
    }

    #[test]
    fn the_web_is_set_as_in_node_exporter() {
        let config = parse(&[
            "--web.listen-address=127.0.0.1:1",
            "--web.listen-address=[::1]:2",
            "--web.telemetry-path=/probe/node-1",
            "--web.max-requests=0",
            "--web.config.file=web.yml",
        ])
        .unwrap();
        let listen: Vec<String> = config.listen.iter().map(ToString::to_string).collect();
        assert_eq!(listen, ["127.0.0.1:1", "[::1]:2"]);
        assert_eq!((config.telemetry_path.as_str(), config.max_requests), ("/probe/node-1", 0));
        assert_eq!(config.web_config_file.as_deref(), Some(Path::new("web.yml")));
        assert_eq!(parse(&["--web.config.file="]).unwrap().web_config_file, None);
        assert_eq!(parse(&["--web.telemetry-path=/"]).unwrap().telemetry_path, "/");
        for wrong in ["", "metrics", "/healthz", "/a b", "/{x}", "/a?b", "/\"", "/é"] {
            assert!(parse(&[&format!("--web.telemetry-path={wrong}")]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn addresses_and_times() {
        let listen = |text: &str| listen_address(text).ok().map(|address| address.to_string());
        assert_eq!(listen(":9100").as_deref(), Some("0.0.0.0:9100"));
        assert_eq!(listen("[::1]:9100").as_deref(), Some("[::1]:9100"));
        assert_eq!((listen("9100"), listen("host:9100"), listen(":99999")), (None, None, None));
        assert_eq!((duration("500ms"), duration("2s")), (Ok(Duration::from_millis(500)), Ok(Duration::from_secs(2))));
        assert_eq!((duration("2m"), duration("1h")), (Ok(Duration::from_secs(120)), Ok(Duration::from_secs(3600))));
        assert_eq!((disk_interval("1m"), disk_interval("59s").is_err()), (Ok(Duration::from_secs(60)), true));
        for wrong in ["", "s", "2", "-1s", "0s", "2d", "1hm", "m"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn what_is_mistyped_is_told_on_one_line() {
        let check = |argument: &str, expected: &str| match parse(&[argument]) {
            Err(Refusal::Mistyped(line)) => assert_eq!(line, expected),
            other => panic!("{argument}: {other:?}"),
        };
        check("--nonsense", "unexpected argument '--nonsense' found (see --help)");
        check("serve", "unrecognized subcommand 'serve' (see --help)");
        check(
            "--web.listen-address=x",
            "invalid value 'x' for '--web.listen-address <ADDRESS>': wanted IP:PORT such as 127.0.0.1:10190, or :PORT (see --help)",
        );
        check(
            "--log.level=loud",
            "invalid value 'loud' for '--log.level <LEVEL>' [possible values: error, warn, info, debug, trace] (see --help)",
        );
        check(
            "--path.rootfs=/nonexistent",
            "/nonexistent/proc is not where /proc of a host is: mount it there, or give --path.procfs or --path.rootfs",
        );
    }

    #[test]
    fn help_is_no_mistake_and_subcommands_take_the_flags() {
        assert!(matches!(parse(&["--help"]), Err(Refusal::Answered(text)) if text.contains("thermal_zone")));
        assert_eq!(parse(&["healthcheck", "--web.listen-address=:1"]).unwrap().action, Action::Healthcheck);
    }

    proptest! {
        #[test]
        fn values_of_flags_never_panic_and_read_back(
            text in any::<String>(), likely in "[:\\[\\]0-9a-f.]{0,20}", (ip, port) in any::<(IpAddr, u16)>(), number in 1..=u32::MAX
        ) {
            for text in [&text, &likely] {
                _ = duration(text);
                _ = disk_interval(text);
                if let Ok(found) = listen_address(text) {
                    prop_assert_eq!(listen_address(&found.to_string()), Ok(found));
                }
                if let Ok(path) = telemetry_path(text) {
                    prop_assert_eq!(&path, text);
                }
            }
            let address = SocketAddr::new(ip, port);
            prop_assert_eq!(listen_address(&address.to_string()), Ok(address));
            let unit = |unit: &str| duration(&format!("{number}{unit}"));
            let milliseconds = Duration::from_millis(number.into());
            prop_assert_eq!((unit("ms"), unit("s")), (Ok(milliseconds), Ok(milliseconds * 1000)));
            prop_assert_eq!((unit("m"), unit("h")), (Ok(milliseconds * 60_000), Ok(milliseconds * 3_600_000)));
        }
    }
}
