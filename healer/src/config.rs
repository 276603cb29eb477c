//! The command line. Each flag can also be given by the environment variable that `--help` names.

use std::{net::SocketAddr, path::PathBuf};

use clap::{Args, Parser, Subcommand};
use nexus_telegram::TelegramFlags;

use crate::{direct::Links, keep::Keep};

/// Restarts Docker Compose services that Alertmanager reports as ill, within bounds, and writes it all down.
#[derive(Debug, Parser)]
#[command(name = "nexus-healer", version, disable_help_subcommand = true)]
pub struct CommandLine {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub config: Config,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Ask the healer that runs on the listen address whether it is ready; exit code 0 or 1.
    Healthcheck,
    /// Read the policy file and say what is wrong with it, starting nothing; exit code 0 or 2.
    Check,
    /// Copy the journal for a backup, check a copy, or put it back
    #[command(subcommand)]
    Journal(Keep),
}

#[derive(Clone, Debug, Args)]
pub struct Config {
    /// Where to serve webhook, API and metrics
    #[arg(
        long = "web.listen-address",
        env = "NEXUS_HEALER_LISTEN",
        value_name = "ADDRESS",
        default_value = "0.0.0.0:10191",
        global = true
    )]
    pub listen: SocketAddr,

    /// File with the token that Alertmanager sends
    #[arg(
        long = "webhook.token-file",
        env = "NEXUS_HEALER_WEBHOOK_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/run/secrets/healer_webhook_token"
    )]
    pub webhook_token_file: PathBuf,

    /// File with the token of the API
    #[arg(
        long = "api.token-file",
        env = "NEXUS_HEALER_API_TOKEN_FILE",
        value_name = "FILE",
        default_value = "/run/secrets/healer_api_token",
        global = true
    )]
    pub api_token_file: PathBuf,

    /// File with a second token of the API, which only reads; without it there is none
    #[arg(long = "api.read-token-file", env = "NEXUS_HEALER_API_READ_TOKEN_FILE", value_name = "FILE")]
    pub api_read_token_file: Option<PathBuf>,

    /// What the healer may do (healer.yml)
    #[arg(
        long = "policy.file",
        env = "NEXUS_HEALER_POLICY_FILE",
        value_name = "FILE",
        default_value = "/etc/nexus/healer.yml",
        global = true
    )]
    pub policy_file: PathBuf,

    /// The journal; created when missing, in a folder on a local disk
    #[arg(
        long = "journal.path",
        env = "NEXUS_HEALER_JOURNAL",
        value_name = "FILE",
        default_value = "/var/lib/nexus-healer/journal.db",
        global = true
    )]
    pub journal: PathBuf,

    /// Docker's socket, or rather that of the proxy in front of it
    #[arg(
        long = "docker.socket",
        env = "NEXUS_DOCKER_SOCKET",
        value_name = "FILE",
        default_value = "/run/docker/docker.sock"
    )]
    pub docker_socket: PathBuf,

    /// Name of this host: alerts with another label `host` are ignored
    #[arg(long = "host.name", env = "NEXUS_HOST", value_name = "NAME")]
    pub host: Option<String>,

    /// Name of this stack: containers labelled nexus.stack=NAME are looked after, and the project NAME is left alone
    #[arg(long = "stack.name", env = "NEXUS_STACK", value_name = "NAME", default_value = nexus_model::labels::DEFAULT_STACK)]
    pub stack: String,

    /// Postgres to copy the journal to, e.g. postgres://nexus_healer@postgres/nexus; without it the journal stands alone
    #[arg(long = "database.url", env = "NEXUS_HEALER_DATABASE_URL", value_name = "URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// File with the password for it, read at each connection
    #[arg(long = "database.password-file", env = "NEXUS_HEALER_DATABASE_PASSWORD_FILE", value_name = "FILE")]
    pub database_password_file: Option<PathBuf>,

    /// Alertmanager to tell the owner through, e.g. http://alertmanager:9093; without it nobody is told,
    /// and nothing is healed before a rule fires
    #[arg(long = "alertmanager.url", env = "NEXUS_ALERTMANAGER_URL", value_name = "URL")]
    pub alertmanager_url: Option<String>,

    #[command(flatten)]
    pub telegram: TelegramFlags,

    /// Where a phone reaches Grafana, for the links in these messages
    #[arg(long = "grafana.url", env = "NEXUS_BASE_URL", value_name = "URL")]
    pub grafana_url: Option<String>,

    /// Where a phone reaches the pages, for the same
    #[arg(long = "page.url", env = "NEXUS_PAGE_URL", value_name = "URL")]
    pub page_url: Option<String>,

    /// Where probes (nexus.probe) ask at ports that the host publishes: its name or address as seen from here, or "gateway", which is the
    /// host for a container on a bridge of Docker's; without it only containers in a network with the healer can be asked
    #[arg(long = "probe.host", env = "NEXUS_PROBE_HOST", value_name = "NAME")]
    pub probe_host: Option<String>,

    /// Where the host's vitals are read for the evidence
    #[arg(long = "path.procfs", env = "NEXUS_PATH_PROCFS", value_name = "FOLDER", default_value = "/proc")]
    pub procfs: PathBuf,

    /// Where the host's control groups are: memory and CPU of an ill container, for the evidence
    #[arg(
        long = "path.cgroupfs",
        env = "NEXUS_PATH_CGROUPFS",
        value_name = "FOLDER",
        default_value = "/sys/fs/cgroup"
    )]
    pub cgroupfs: PathBuf,

    /// error, warn, info, debug or trace; or directives such as nexus_healer=debug
    #[arg(long = "log.level", env = "NEXUS_LOG", value_name = "LEVEL", default_value = "info")]
    pub log: String,
}

impl Config {
    /// The name given, otherwise the kernel's. An empty name counts as none: compose passes what `.env` leaves empty.
    pub fn host(&self) -> String {
        let given = self.host.as_deref().map(str::trim).filter(|name| !name.is_empty());
        let kernel = || rustix::system::uname().nodename().to_string_lossy().into_owned();
        given.map_or_else(kernel, str::to_owned)
    }

    pub fn database_url(&self) -> Option<&str> {
        self.database_url.as_deref().map(str::trim).filter(|url| !url.is_empty())
    }

    pub fn probe_host(&self) -> Option<&str> {
        self.probe_host.as_deref().map(str::trim).filter(|host| !host.is_empty())
    }

    pub fn links(&self) -> Links {
        let address = |url: &Option<String>| url.as_deref().unwrap_or_default().trim().trim_end_matches('/').to_owned();
        Links { base: address(&self.grafana_url), page: address(&self.page_url) }
    }

    pub fn alertmanager_url(&self) -> Option<&str> {
        self.alertmanager_url.as_deref().map(str::trim).filter(|url| !url.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        CommandLine::command().debug_assert();
    }

    #[test]
    fn empty_settings_are_none() {
        let parse = |arguments: &[&str]| {
            CommandLine::try_parse_from(std::iter::once(&"nexus-healer").chain(arguments)).unwrap().config
        };
        assert_eq!(parse(&["--database.url="]).database_url(), None);
        assert_eq!(parse(&["--database.url", "postgres://x"]).database_url(), Some("postgres://x"));
        assert_eq!(parse(&["--host.name", "pi"]).host(), "pi");
        assert!(!parse(&["--host.name", ""]).host().is_empty());
        assert!(matches!(
            CommandLine::try_parse_from(["nexus-healer", "healthcheck", "--web.listen-address", "127.0.0.1:1"]),
            Ok(CommandLine { command: Some(Command::Healthcheck), .. })
        ));
    }
}
