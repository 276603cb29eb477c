//! The command line. Each flag can also be given by the environment variable that `--help` names.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use clap::{Args, Parser, Subcommand};

use crate::{
    history::{retention::Keep, window::STEP},
    site::SiteConfig,
};

/// Keeps a year of vitals in Postgres, and answers how the machine is.
#[derive(Debug, Parser)]
#[command(name = "nexus-reporter", version, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the reporter that runs on the listen address whether it is ready; exit code 0 or 1.
    Healthcheck,
    /// Fill an empty database with a made-up past.
    #[command(hide = true)]
    Generate(Generate),
}

#[derive(Clone, Debug, Args)]
pub struct Generate {
    /// Machines
    #[arg(long, default_value_t = 1)]
    pub hosts: u32,
    /// Services of each machine
    #[arg(long, default_value_t = 30)]
    pub services: u32,
    /// Days up to now
    #[arg(long, default_value_t = 365)]
    pub days: u32,
    /// The same seed makes the same past
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
}

#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Where to serve pages, API and metrics
    #[arg(
        long = "web.listen-address",
        env = "NEXUS_REPORTER_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:10192",
        global = true
    )]
    pub listen: SocketAddr,

    /// Postgres that holds the history, e.g. postgres://nexus_reporter@postgres/nexus; without it none is kept
    #[arg(
        long = "database.url",
        env = "NEXUS_REPORTER_DATABASE_URL",
        value_name = "URL",
        hide_env_values = true,
        global = true
    )]
    pub database_url: Option<String>,

    /// File with the password for it, read at each connection
    #[arg(
        long = "database.password-file",
        env = "NEXUS_REPORTER_DATABASE_PASSWORD_FILE",
        value_name = "FILE",
        global = true
    )]
    pub database_password_file: Option<PathBuf>,

    /// File with the password of nexus_reader there, as which questions in SQL are asked; without it there are none
    #[arg(
        long = "database.reader-password-file",
        env = "NEXUS_REPORTER_DATABASE_READER_PASSWORD_FILE",
        value_name = "FILE"
    )]
    pub database_reader_password_file: Option<PathBuf>,

    /// Prometheus that knows the last days, e.g. http://prometheus:9090; without it no history is gathered
    #[arg(long = "prometheus.url", env = "NEXUS_PROMETHEUS_URL", value_name = "URL")]
    pub prometheus_url: Option<String>,

    /// Time between two batches of history: each costs the disk about the same, however much is in it; from 5m to 24h
    #[arg(
        long = "history.interval",
        env = "NEXUS_HISTORY_INTERVAL",
        value_name = "TIME",
        default_value = "1h",
        value_parser = interval
    )]
    pub history_interval: Duration,

    /// Days for which five-minute samples are kept, from 14 to 365
    #[arg(
        long = "history.detail-days",
        env = "NEXUS_HISTORY_DETAIL_DAYS",
        value_name = "DAYS",
        default_value_t = 90,
        value_parser = clap::value_parser!(u32).range(14..=365)
    )]
    pub detail_days: u32,

    /// Days for which hours are kept, from 62 to 3650
    #[arg(
        long = "history.hourly-days",
        env = "NEXUS_HISTORY_HOURLY_DAYS",
        value_name = "DAYS",
        default_value_t = 365,
        value_parser = clap::value_parser!(u32).range(62..=3650)
    )]
    pub hourly_days: u32,

    #[command(flatten)]
    pub site: SiteConfig,

    /// error, warn, info, debug or trace; or directives such as nexus_reporter=debug
    #[arg(long = "log.level", env = "NEXUS_LOG", value_name = "LEVEL", default_value = "info", global = true)]
    pub log: String,
}

impl Config {
    pub fn database_url(&self) -> Option<&str> {
        given(&self.database_url)
    }

    pub fn prometheus_url(&self) -> Option<&str> {
        given(&self.prometheus_url)
    }

    pub fn keep(&self) -> Keep {
        Keep { detail_days: self.detail_days, hourly_days: self.hourly_days }
    }
}

/// An empty setting counts as none: compose passes what `.env` leaves empty.
fn given(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

/// `5m`, `90m`, `1h`: a number and a unit.
fn interval(text: &str) -> Result<Duration, String> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number = &text[..text.len() - unit.len()];
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return Err("a time is a number with s, m or h, such as 1h".into()),
    };
    let number: u64 = number.parse().map_err(|_| "a time is a number with s, m or h, such as 1h".to_owned())?;
    let time = Duration::from_secs(number.saturating_mul(seconds));
    if !(STEP.unsigned_abs()..=24 * 3600).contains(&time.as_secs()) {
        return Err("the time between two batches must be from 5m to 24h".into());
    }
    Ok(time)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<CommandLine, clap::Error> {
        CommandLine::try_parse_from(std::iter::once(&"nexus-reporter").chain(arguments))
    }

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn empty_settings_are_none() {
        let config = parse(&["--database.url=", "--prometheus.url", " "]).unwrap().config;
        assert_eq!((config.database_url(), config.prometheus_url()), (None, None));
        assert_eq!(config.keep(), Keep::default());
    }

    #[test]
    fn intervals() {
        let check = |text: &str, expected: Option<u64>| {
            let line = parse(&["--history.interval", text]);
            assert_eq!(line.ok().map(|line| line.config.history_interval.as_secs()), expected, "{text}");
        };
        check("1h", Some(3600));
        check("5m", Some(300));
        check("300s", Some(300));
        check("24h", Some(86_400));
        for wrong in ["", "h", "5", "4m", "25h", "1d", "-1h", "1.5h", "99999999999999999999h", "18446744073709551615h"]
        {
            check(wrong, None);
        }
        assert!(parse(&["--history.detail-days", "7"]).is_err());
        assert!(parse(&["--history.hourly-days", "10000"]).is_err());
    }

    #[test]
    fn a_subcommand_takes_what_is_global() {
        let line = parse(&["generate", "--days", "3", "--database.url", "postgres://x"]).unwrap();
        assert_eq!(line.config.database_url(), Some("postgres://x"));
        assert!(matches!(line.command, Some(Command::Generate(Generate { hosts: 1, services: 30, days: 3, seed: 1 }))));
    }
}
