//! The keys of `.env`: one table that `init` writes from, `config check` judges by and `.env.example` documents.

use std::net::{IpAddr, Ipv4Addr};

use nexus_reporter::notify::Window;
use url::Url;

/// The message's template counts on it: two links of this length and all the rest fit into what Telegram takes.
const URL_LIMIT: usize = 100;

/// What a value must look like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Stack,
    Host,
    Address,
    OptionalAddress,
    Port,
    Url,
    OptionalUrl,
    /// MAJOR:MINOR, as the kernel numbers devices.
    Device,
    /// `registry` or `debian`.
    ImageSource,
    Image,
    OptionalImage,
    Number,
    Propagation,
    Profiles,
    /// `on` or `off`.
    Switch,
    ChatId,
    LogLevel,
    TimeZone,
    /// A time as the reporter takes it: `5m` to `24h`.
    Interval,
    /// A part of each day, `22:00-07:00`, or nothing.
    OptionalWindow,
    /// A number of days.
    Days {
        least: u32,
        most: u32,
    },
    Path,
}

/// Where `init` takes the first value from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum First {
    /// The same on every machine.
    Fixed(&'static str),
    /// Found out on this machine; `.env.example` shows the text here.
    Found(&'static str),
    /// Written as a comment only: what is left out is right for nearly everybody.
    Commented(&'static str),
}

impl First {
    /// The value in effect when `.env` does not set the key.
    pub fn fallback(self) -> &'static str {
        match self {
            First::Fixed(value) | First::Found(value) | First::Commented(value) => value,
        }
    }
}

/// One key of `.env`.
#[derive(Debug)]
pub struct Key {
    pub name: &'static str,
    pub kind: Kind,
    pub first: First,
    /// Comment lines for `.env` and `.env.example`.
    pub doc: &'static str,
}

const fn key(name: &'static str, kind: Kind, first: First, doc: &'static str) -> Key {
    Key { name, kind, first, doc }
}

pub const KEYS: &[Key] = &[
    key(
        "NEXUS_HOST",
        Kind::Host,
        First::Found("raspberrypi"),
        "Name of this machine in metrics, alerts and messages: letters, digits, dots and dashes.",
    ),
    key(
        "NEXUS_TELEGRAM_CHAT_ID",
        Kind::ChatId,
        First::Fixed(""),
        "Telegram chat that gets the messages: a number, for groups a negative one (-100…). The bot's token goes into the\n\
         file secrets/telegram_bot_token. Without the two everything else still runs.",
    ),
    key(
        "NEXUS_BASE_URL",
        Kind::OptionalUrl,
        First::Fixed(""),
        "Address at which your phone reaches Grafana, for the links in messages, e.g. http://raspberrypi.local:3000\n\
         Empty: messages carry no such links. ./nexus up --lan fills it in.",
    ),
    key(
        "NEXUS_PAGE_URL",
        Kind::OptionalUrl,
        First::Fixed(""),
        "Address at which your phone reaches the pages, for the links to incidents in messages, e.g.\n\
         https://raspberrypi.local:10192. Empty: messages carry no such links. ./nexus up --lan fills it in.",
    ),
    key(
        "NEXUS_WATCHDOG_URL",
        Kind::OptionalUrl,
        First::Fixed(""),
        "Address outside that notices when this machine falls silent (a dead man's switch, e.g. https://hc-ping.com/UUID): it gets a\n\
         POST every five minutes as long as alerts can be delivered. Empty: nobody notices.",
    ),
    key(
        "NEXUS_QUIET_HOURS",
        Kind::OptionalWindow,
        First::Fixed(""),
        "When nobody is to be woken, e.g. 22:00-07:00, by the clock of NEXUS_TIMEZONE. What is critical is told at any hour;\n\
         warnings and what scripts send wait until it is over. Empty: everything is told at once.",
    ),
    key(
        "NEXUS_BACKUP_WINDOW",
        Kind::OptionalWindow,
        First::Fixed(""),
        "When backups run, e.g. 03:00-04:00, by the same clock: that the disk is busy and the processor slowed down is not\n\
         told meanwhile. A disk that fills and memory that runs out are.",
    ),
    key(
        "NEXUS_BIND",
        Kind::Address,
        First::Fixed("127.0.0.1"),
        "Address on which the ports below are published. Prometheus, Alertmanager and the metrics ask for no password, so leave\n\
         it at 127.0.0.1; ./nexus up --lan opens the pages and Grafana, which do ask for one.",
    ),
    key("NEXUS_EXPORTER_PORT", Kind::Port, First::Fixed("10190"), "Port of the exporter (metrics)."),
    key("NEXUS_HEALER_PORT", Kind::Port, First::Fixed("10191"), "Port of the healer (API, webhook, metrics)."),
    key("NEXUS_REPORTER_PORT", Kind::Port, First::Fixed("10192"), "Port of the reporter (pages, API, metrics)."),
    key("NEXUS_PROMETHEUS_PORT", Kind::Port, First::Fixed("9090"), "Port of Prometheus."),
    key("NEXUS_ALERTMANAGER_PORT", Kind::Port, First::Fixed("9093"), "Port of Alertmanager."),
    key("NEXUS_GRAFANA_PORT", Kind::Port, First::Fixed("3000"), "Port of Grafana."),
    key(
        "NEXUS_LAN",
        Kind::OptionalAddress,
        First::Fixed(""),
        "Address on which the pages and Grafana are published for other machines, e.g. 0.0.0.0; both ask for a password.\n\
         Empty: the same as NEXUS_BIND.",
    ),
    key(
        "NEXUS_GRAFANA",
        Kind::Switch,
        First::Fixed("on"),
        "Whether Grafana runs: on, or off where its memory (300 MB) is wanted for something else. The page goes on without it.",
    ),
    key(
        "COMPOSE_PROFILES",
        Kind::Profiles,
        First::Fixed(""),
        "Optional services: `grafana`, or nothing. Written by `./nexus up`.",
    ),
    key(
        "NEXUS_LOG",
        Kind::LogLevel,
        First::Fixed("info"),
        "How much the exporter, the healer and the reporter log: error, warn, info, debug or trace.",
    ),
    key(
        "NEXUS_IMAGE_SOURCE",
        Kind::ImageSource,
        First::Fixed("registry"),
        "Where the third-party images come from: `registry` (pulled, pinned), or `debian` (built here from Debian\n\
         packages, where no container registry answers). Written by `./nexus up`.",
    ),
    key(
        "NEXUS_IMAGE_NEXUS",
        Kind::OptionalImage,
        First::Fixed(""),
        "Image of our own programs. Written by `./nexus up`.",
    ),
    key(
        "NEXUS_IMAGE_HAPROXY",
        Kind::OptionalImage,
        First::Fixed(""),
        "Image of the Docker socket's guard. Written by `./nexus up`.",
    ),
    key(
        "NEXUS_IMAGE_PROMETHEUS",
        Kind::OptionalImage,
        First::Fixed(""),
        "Image of Prometheus. Written by `./nexus up`.",
    ),
    key(
        "NEXUS_IMAGE_ALERTMANAGER",
        Kind::OptionalImage,
        First::Fixed(""),
        "Image of Alertmanager. Written by `./nexus up`.",
    ),
    key("NEXUS_IMAGE_POSTGRES", Kind::OptionalImage, First::Fixed(""), "Image of Postgres. Written by `./nexus up`."),
    key("NEXUS_IMAGE_GRAFANA", Kind::OptionalImage, First::Fixed(""), "Image of Grafana. Written by `./nexus up`."),
    key(
        "NEXUS_DOCKER_GID",
        Kind::Number,
        First::Found("999"),
        "Group of Docker's socket on this machine, for the one container that may open it.",
    ),
    key(
        "NEXUS_FIRMWARE_DEVICE",
        Kind::Device,
        First::Fixed("1:3"),
        "Number of the device by which the exporter asks a Raspberry Pi's firmware (throttling, voltages, clocks):\n\
         that of /dev/vcio_gencmd, else of /dev/vcio; 1:3, which is /dev/null, on other machines. Written by `./nexus up`.",
    ),
    key(
        "NEXUS_DOCKER_SOCKET",
        Kind::Path,
        First::Commented("/var/run/docker.sock"),
        "Docker's socket on this machine.",
    ),
    key(
        "NEXUS_ROOTFS_PROPAGATION",
        Kind::Propagation,
        First::Found("rslave"),
        "`rslave` where / is a shared mount, so that the exporter sees disks mounted later; otherwise empty.",
    ),
    key(
        "NEXUS_STACK",
        Kind::Stack,
        First::Commented("nexus"),
        "Name of this stack. Only for a second one beside the first: it looks after the containers labelled\n\
         nexus.stack=NAME, and needs ports and folders of its own.",
    ),
    key(
        "NEXUS_TELEGRAM_API_URL",
        Kind::Url,
        First::Commented("https://api.telegram.org"),
        "Telegram's API; another address lets a test server stand in for it.",
    ),
    key("NEXUS_SECRETS_DIR", Kind::Path, First::Commented("./secrets"), "Folder of the secrets."),
    key("NEXUS_RENDERED_DIR", Kind::Path, First::Commented("./rendered"), "Folder of the rendered configuration."),
    key(
        "NEXUS_POLICY_DIR",
        Kind::Path,
        First::Commented("./policy"),
        "Folder of the healer's policy, healer.yml. The healer sees all of it, so keep nothing else there.",
    ),
    key(
        "NEXUS_STATE_DIR",
        Kind::Path,
        First::Commented("./state"),
        "Folder of what ./nexus tune has changed, and how to take it back.",
    ),
    key(
        "NEXUS_HISTORY_INTERVAL",
        Kind::Interval,
        First::Commented("1h"),
        "Time between two batches of history, from 5m to 24h. Each costs the SD card about the same, however much is in it;\n\
         Prometheus answers for what is newer.",
    ),
    key(
        "NEXUS_HISTORY_DETAIL_DAYS",
        Kind::Days { least: 14, most: 365 },
        First::Commented("90"),
        "Days for which the history keeps five-minute samples, from 14 to 365.",
    ),
    key(
        "NEXUS_HISTORY_HOURLY_DAYS",
        Kind::Days { least: 62, most: 3650 },
        First::Commented("365"),
        "Days for which the history keeps hours, from 62 to 3650.",
    ),
    key(
        "NEXUS_TIMEZONE",
        Kind::TimeZone,
        First::Found("UTC"),
        "Time zone of quiet hours, of the backups' window, and of the maintenance windows in healer.yml, where that names none:\n\
         this machine's.",
    ),
];

pub fn find(name: &str) -> Option<&'static Key> {
    KEYS.iter().find(|key| key.name == name)
}

/// The known key that a mistyped one is nearest to, if any is near.
pub fn nearest(name: &str) -> Option<&'static str> {
    KEYS.iter()
        .map(|key| (distance(name, key.name), key.name))
        .min()
        .filter(|(distance, _)| *distance <= 4)
        .map(|(_, name)| name)
}

/// Levenshtein's.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let above = row[j + 1];
            row[j + 1] = (diagonal + usize::from(from != *to)).min(above + 1).min(row[j] + 1);
            diagonal = above;
        }
    }
    row[b.len()]
}

/// The lines that stand for a key in `.env`: its documentation and the assignment, as a comment where `value` is none.
pub fn lines(key: &Key, value: Option<&str>) -> String {
    let doc: String = key.doc.lines().map(|line| format!("# {line}\n")).collect();
    match value {
        Some(value) => format!("{doc}{}\n", crate::dotenv::assignment(key.name, value).unwrap_or_default()),
        None => format!("{doc}# {}={}\n", key.name, key.first.fallback()),
    }
}

/// The whole of `.env.example`, which a test below compares.
#[cfg(test)]
pub fn example() -> String {
    let mut text = String::from(
        "# Every key of .env, with the value used when it is left out. `./nexus up` writes .env; edit it and run `./nexus up`\n\
         # again. Nothing here is secret: passwords and tokens are in the folder secrets/.\n",
    );
    for key in KEYS {
        let value = (!matches!(key.first, First::Commented(_))).then(|| key.first.fallback());
        text.push('\n');
        text.push_str(&lines(key, value));
    }
    text
}

/// What is wrong with a value, and the mend.
pub fn complaint(kind: Kind, value: &str) -> Option<String> {
    if value.chars().any(char::is_control) {
        return Some("holds a control character".into());
    }
    if value.contains('$') {
        return Some("holds a `$`, which Docker Compose would expand: use a value without".into());
    }
    let complain = |wanted: &str| Some(format!("is {value:?}, but must be {wanted}"));
    match kind {
        Kind::Stack if !is_project_name(value) => {
            complain("lower-case letters, digits, - and _, beginning with a letter or digit")
        }
        Kind::Host if !is_host_name(value) => complain("a name of letters, digits, dots and dashes, e.g. raspberrypi"),
        Kind::Address if value.parse::<IpAddr>().is_err() => complain("an IP address, e.g. 127.0.0.1"),
        Kind::OptionalAddress if !value.is_empty() => complaint(Kind::Address, value),
        Kind::Port if !value.parse::<u16>().is_ok_and(|port| port > 0) => complain("a port from 1 to 65535"),
        Kind::OptionalUrl if value.is_empty() => None,
        Kind::Url | Kind::OptionalUrl if !is_plain_url(value) => {
            complain("an address such as http://raspberrypi.local:3000")
        }
        Kind::OptionalUrl if value.len() > URL_LIMIT => {
            Some(format!("has {} characters, and {URL_LIMIT} at most fit into a message", value.len()))
        }
        Kind::OptionalWindow if !value.is_empty() => {
            value.parse::<Window>().err().map(|wrong| format!("is {value:?}, but {wrong}"))
        }
        Kind::ImageSource if !["registry", "debian"].contains(&value) => complain("registry or debian"),
        Kind::Image if !is_image(value) => complain("the name of an image, e.g. nexus/nexus:0.1.0"),
        Kind::OptionalImage if !value.is_empty() => complaint(Kind::Image, value),
        Kind::Number if value.parse::<u32>().is_err() => {
            complain("a number: `stat -c %g /var/run/docker.sock` tells it")
        }
        Kind::Device if !is_device(value) => complain("MAJOR:MINOR such as 10:124, or 1:3 for none"),
        Kind::Propagation if !["", "rslave"].contains(&value) => complain("rslave or empty"),
        Kind::Profiles if !["", "grafana"].contains(&value) => complain("grafana or empty"),
        Kind::Switch if !["on", "off"].contains(&value) => complain("on or off"),
        Kind::ChatId if !value.is_empty() && !value.parse::<i64>().is_ok_and(|id| id != 0) => {
            complain("a whole number such as 123456789 or -1001234567890, or empty")
        }
        Kind::LogLevel if !["error", "warn", "info", "debug", "trace"].contains(&value) => {
            complain("error, warn, info, debug or trace")
        }
        Kind::TimeZone if jiff::tz::TimeZone::get(value).is_err() => {
            complain("a time zone such as Europe/Berlin or UTC")
        }
        Kind::Interval if !is_interval(value) => complain("a time from 5m to 24h, e.g. 1h"),
        Kind::Days { least, most } if !value.parse::<u32>().is_ok_and(|days| (least..=most).contains(&days)) => {
            complain(&format!("a number of days from {least} to {most}"))
        }
        Kind::Path if value.is_empty() => complain("a path, or left out"),
        _ => None,
    }
}

/// Compose's rule for the name of a project.
fn is_project_name(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && value.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "-_".contains(c))
}

/// It becomes a label, a file name and a word in messages.
pub fn is_host_name(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= 253
        && value.split('.').all(|part| {
            !part.is_empty()
                && !part.starts_with('-')
                && !part.ends_with('-')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '-')
        })
}

/// http or https with a host, and nothing that a template or a quoted string could take for its own.
fn is_plain_url(value: &str) -> bool {
    !value.contains(['"', '\'', '\\', '{', '}', '<', '>', ' ', '`'])
        && Url::parse(value).is_ok_and(|url| {
            ["http", "https"].contains(&url.scheme())
                && url.has_host()
                && url.username().is_empty()
                && url.password().is_none()
                && url.query().is_none()
                && url.fragment().is_none()
        })
}

/// In the ranges that the kernel has.
fn is_device(value: &str) -> bool {
    let is_number = |text: &str, most| {
        text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u32>().is_ok_and(|number| number <= most)
    };
    value.split_once(':').is_some_and(|(major, minor)| is_number(major, 0xfff) && is_number(minor, 0xf_ffff))
}

/// As `--history.interval` of the reporter takes it.
fn is_interval(value: &str) -> bool {
    let seconds = [("s", 1), ("m", 60), ("h", 3600)].into_iter().find_map(|(unit, seconds)| {
        let number = value.strip_suffix(unit).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
        number.parse::<u64>().ok()?.checked_mul(seconds)
    });
    seconds.is_some_and(|seconds| (300..=86_400).contains(&seconds))
}

fn is_image(value: &str) -> bool {
    value.starts_with(|c: char| c.is_ascii_alphanumeric())
        && value.chars().all(|c| c.is_ascii_alphanumeric() || "._-/:@".contains(c))
}

/// The address at which a port published on `bind` is reached from this machine.
pub fn reachable(bind: &str) -> String {
    match bind.parse::<IpAddr>() {
        Ok(address) if address.is_unspecified() => Ipv4Addr::LOCALHOST.to_string(),
        Ok(IpAddr::V6(address)) => format!("[{address}]"),
        _ => bind.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_first_value_is_valid_and_reads_back() {
        for key in KEYS {
            assert_eq!(complaint(key.kind, key.first.fallback()), None, "{}", key.name);
        }
        let parsed = crate::dotenv::DotEnv::parse(&example());
        assert_eq!(parsed.complaints, [""; 0]);
        for key in KEYS.iter().filter(|key| !matches!(key.first, First::Commented(_))) {
            assert_eq!(parsed.get(key.name), Some(key.first.fallback()));
        }
    }

    #[test]
    fn env_example_is_made_from_this_table() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../.env.example");
        if std::env::var_os("NEXUS_BLESS").is_some() {
            std::fs::write(path, example()).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == example(),
            ".env.example is stale: run NEXUS_BLESS=1 cargo test -p nexus-cli env_example"
        );
    }

    #[test]
    fn values_are_judged() {
        let good = |kind, value: &str| assert_eq!(complaint(kind, value), None, "{kind:?} {value}");
        let bad = |kind, value: &str| assert!(complaint(kind, value).is_some(), "{kind:?} {value}");
        good(Kind::ChatId, "-1001234567890");
        for value in ["12 3", "\"1\"", "99999999999999999999", "@name", "0", "1.5"] {
            bad(Kind::ChatId, value);
        }
        good(Kind::Port, "65535");
        for value in ["", "0", "65536", "http", "-1"] {
            bad(Kind::Port, value);
        }
        good(Kind::Host, "pi.local");
        for value in ["", "a b", "a/b", "..", "-a", "a\"b", "ä"] {
            bad(Kind::Host, value);
        }
        good(Kind::Url, "http://172.17.0.1:8081");
        for value in ["", "pi:3000", "ftp://x", "http://", "http://x/{{y}}", "http://u:p@x", "http://x/?a"] {
            bad(Kind::Url, value);
        }
        good(Kind::OptionalUrl, "");
        bad(Kind::OptionalUrl, &format!("http://{}", "x".repeat(URL_LIMIT)));
        for value in ["", "22:00-07:00", "03:00-04:00", "22:00-00:00"] {
            good(Kind::OptionalWindow, value);
        }
        for value in
            ["22-7", "22:00", "25:00-07:00", "07:00-07:00", "22:00-24:00", "22:0-07:00", "22:00 - 07:00", "+2:00-07:00"]
        {
            bad(Kind::OptionalWindow, value);
        }
        good(Kind::Device, "10:124");
        for value in ["", "10", "10:", ":1", "a:1", "*:*", "10:124 rwm", "+1:3", "4096:0", "1:1048576"] {
            bad(Kind::Device, value);
        }
        bad(Kind::Address, "localhost");
        good(Kind::Address, "::1");
        bad(Kind::Path, "$HOME/x");
        for value in ["5m", "300s", "1h", "24h"] {
            good(Kind::Interval, value);
        }
        for value in ["", "h", "4m", "25h", "1d", "-1h", "1.5h", "99999999999999999999h"] {
            bad(Kind::Interval, value);
        }
        good(Kind::Days { least: 14, most: 365 }, "90");
        for value in ["", "13", "366", "90d", "-90"] {
            bad(Kind::Days { least: 14, most: 365 }, value);
        }
        good(Kind::TimeZone, "Europe/Berlin");
        for value in ["", "Berlin", "../etc/passwd"] {
            bad(Kind::TimeZone, value);
        }
        bad(Kind::Stack, "Nexus");
        bad(Kind::Image, "a b");
    }

    #[test]
    fn a_mistyped_key_finds_its_name() {
        assert_eq!(nearest("NEXUS_TELEGRAM_CHATID"), Some("NEXUS_TELEGRAM_CHAT_ID"));
        assert_eq!(nearest("NEXUS_ENTIRELY_ELSE"), None);
    }

    #[test]
    fn a_port_on_every_address_is_reached_on_the_loopback() {
        for (bind, reached) in
            [("0.0.0.0", "127.0.0.1"), ("::", "127.0.0.1"), ("::1", "[::1]"), ("10.0.0.2", "10.0.0.2")]
        {
            assert_eq!(reachable(bind), reached);
        }
    }
}
