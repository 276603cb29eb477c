//! What page and API need of the settings: where the parts of the stack are, the tokens, and the bot for messages.

use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow};
use clap::Args;
use nexus_telegram::TelegramFlags;
use nexus_web::{Gate, Secret, Tokens};

use crate::{
    database::Database,
    notify::{Notifier, Quiet, Telegram, Window},
    server::{self, App},
    sources::{
        HistorySource, Sources,
        http::{HEALER, Part},
    },
    sql::Reader,
};

#[derive(Clone, Debug, Default, Args)]
pub struct SiteConfig {
    /// Password and TLS for the pages, in the format of Prometheus's exporters; read again when it changes
    #[arg(long = "web.config.file", env = "NEXUS_REPORTER_WEB_CONFIG", value_name = "FILE")]
    pub web_config: Option<PathBuf>,

    /// What this machine is called in metrics, incidents and messages
    #[arg(long, env = "NEXUS_HOST", value_name = "NAME", default_value = "localhost")]
    pub host: String,

    /// The Compose project that Nexus itself is
    #[arg(long, env = "NEXUS_STACK", value_name = "NAME", default_value = "nexus")]
    pub stack: String,

    /// The healer, e.g. http://healer:10191
    #[arg(long = "healer.url", env = "NEXUS_HEALER_URL", value_name = "URL")]
    pub healer_url: Option<String>,

    /// File with the token by which the healer may be read
    #[arg(long = "healer.token-file", env = "NEXUS_HEALER_TOKEN_FILE", value_name = "FILE")]
    pub healer_token_file: Option<PathBuf>,

    /// The exporter, e.g. http://exporter:10190
    #[arg(long = "exporter.url", env = "NEXUS_EXPORTER_URL", value_name = "URL")]
    pub exporter_url: Option<String>,

    /// Alertmanager, e.g. http://alertmanager:9093
    #[arg(long = "alertmanager.url", env = "NEXUS_ALERTMANAGER_URL", value_name = "URL")]
    pub alertmanager_url: Option<String>,

    /// File with the token of the API that is good for everything; without it there are neither pages nor API
    #[arg(long = "api.token-file", env = "NEXUS_REPORTER_API_TOKEN_FILE", value_name = "FILE")]
    pub api_token_file: Option<PathBuf>,

    /// File with the token that is good for reading alone
    #[arg(long = "api.read-token-file", env = "NEXUS_REPORTER_API_READ_TOKEN_FILE", value_name = "FILE")]
    pub api_read_token_file: Option<PathBuf>,

    #[command(flatten)]
    pub telegram: TelegramFlags,

    /// When Alertmanager tells only what is critical, e.g. 22:00-07:00
    #[arg(long = "quiet-hours", env = "NEXUS_QUIET_HOURS", value_name = "FROM-TO")]
    pub quiet_hours: Option<String>,

    /// Where the kernel's files are
    #[arg(long = "path.procfs", env = "NEXUS_PROCFS", value_name = "DIR", default_value = "/proc")]
    pub procfs: PathBuf,
}

/// Pages and API, ready to be served.
pub struct Site {
    pub app: App,
    pub tokens: Tokens,
    pub gate: Option<Gate>,
}

impl Site {
    /// `None` without a token of the API. Reads the files; asks nobody yet.
    pub fn read(
        config: &SiteConfig,
        prometheus: Option<&str>,
        database: Option<Database>,
        reader: Option<Reader>,
    ) -> anyhow::Result<Option<Site>> {
        let Some(act) = given_path(&config.api_token_file) else { return Ok(None) };
        let act = Secret::read(act).context("reading --api.token-file")?;
        let read = given_path(&config.api_read_token_file).map(Secret::read).transpose();
        let read = read.context("reading --api.read-token-file")?;
        let gate = given_path(&config.web_config).map(|path| Gate::open(path, server::OPEN)).transpose()?;
        let app = App::new(sources(config, prometheus)?, notifier(config)?, database, reader);
        Ok(Some(Site { app, tokens: Tokens { act, read }, gate }))
    }
}

fn sources(config: &SiteConfig, prometheus: Option<&str>) -> anyhow::Result<Sources> {
    let needed = |name, url: Option<&str>| {
        let url = url.ok_or_else(|| anyhow!("--{name}.url is missing: pages and API need it"))?;
        let is_one =
            url.parse::<url::Url>().is_ok_and(|url| ["http", "https"].contains(&url.scheme()) && url.has_host());
        if is_one {
            Ok(url.trim_end_matches('/').to_owned())
        } else {
            Err(anyhow!("--{name}.url must be an address such as http://{name}:9090"))
        }
    };
    let part = |called, name, url| Ok::<_, anyhow::Error>(Part::new(called, needed(name, url)?, Vec::new())?);
    let healer = needed("healer", given(&config.healer_url))?;
    // A token that is not there yet is told by the report, not a reason not to start.
    let token = given_path(&config.healer_token_file).map(Secret::read).transpose();
    let healer = match token {
        Ok(token) => Ok(Part::new(HEALER, healer, token.map(|token| token.expose().to_owned()).into_iter().collect())?),
        Err(error) => Err(format!("its token can't be read: {error}")),
    };
    Ok(Sources {
        host: config.host.clone(),
        stack: config.stack.clone(),
        healer,
        exporter: part("the exporter", "exporter", given(&config.exporter_url))?,
        prometheus: part("Prometheus", "prometheus", prometheus)?,
        alertmanager: part("Alertmanager", "alertmanager", given(&config.alertmanager_url))?,
        grafana: None,
        // It is who answers.
        reporter: None,
        // Read from the database itself.
        history: HistorySource::None,
        procfs: config.procfs.clone(),
        // Whoever reads the page.
        docker_wants_sudo: false,
        docker_socket: None,
    })
}

fn notifier(config: &SiteConfig) -> anyhow::Result<Option<Notifier>> {
    let Some(url) = given(&config.alertmanager_url) else { return Ok(None) };
    let url = url.parse().with_context(|| format!("--alertmanager.url {url} is no address"))?;
    let quiet = match given(&config.quiet_hours) {
        Some(text) => {
            let window = text.parse::<Window>().with_context(|| format!("--quiet-hours is {text:?}"))?;
            Some(Quiet { window, zone: jiff::tz::TimeZone::system() })
        }
        None => None,
    };
    Ok(Some(Notifier::new(url, config.host.clone(), telegram(&config.telegram), quiet)?))
}

/// A chat alone is a mistake, and what can't be read is said when it is needed.
fn telegram(flags: &TelegramFlags) -> Telegram {
    if flags.chat().is_some() && flags.token_file().is_none() {
        return Telegram::Unknown("no --telegram.token-file".to_owned());
    }
    match flags.bot() {
        Ok(bot) => bot.map_or(Telegram::Off, Telegram::On),
        Err(error) => Telegram::Unknown(format!("the bot's token can't be read: {error}")),
    }
}

/// An empty setting counts as none: compose passes what `.env` leaves empty.
fn given(setting: &Option<String>) -> Option<&str> {
    setting.as_deref().map(str::trim).filter(|text| !text.is_empty())
}

fn given_path(setting: &Option<PathBuf>) -> Option<&Path> {
    setting.as_deref().filter(|path| !path.as_os_str().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(folder: &Path) -> SiteConfig {
        let write = |name: &str, text: &str| {
            std::fs::write(folder.join(name), text).unwrap();
            Some(folder.join(name))
        };
        SiteConfig {
            host: "pi".into(),
            healer_url: Some("http://healer:10191/".into()),
            healer_token_file: write("healer", "reads\n"),
            exporter_url: Some("http://exporter:10190".into()),
            alertmanager_url: Some("http://alertmanager:9093".into()),
            api_token_file: write("act", "act"),
            api_read_token_file: write("read", "read"),
            telegram: TelegramFlags {
                telegram_token_file: write("bot", "1:a"),
                telegram_chat_id: Some("-100".into()),
                ..TelegramFlags::default()
            },
            ..SiteConfig::default()
        }
    }

    fn read(config: &SiteConfig) -> anyhow::Result<Option<Site>> {
        _ = rustls::crypto::ring::default_provider().install_default();
        Site::read(config, Some("http://prometheus:9090"), None, None)
    }

    #[test]
    fn without_a_token_nothing_is_served() {
        let folder = tempfile::tempdir().unwrap();
        let site = read(&config(folder.path())).unwrap().unwrap();
        assert_eq!(site.app.sources.healer.as_ref().unwrap().base, "http://healer:10191");
        for empty in [None, Some(PathBuf::new())] {
            assert!(read(&SiteConfig { api_token_file: empty, ..config(folder.path()) }).unwrap().is_none());
        }
    }

    #[test]
    fn a_wrong_setting_names_its_flag() {
        let folder = tempfile::tempdir().unwrap();
        let nowhere = Some(PathBuf::from("/nowhere"));
        let check = |config: SiteConfig, flag: &str| {
            let error = format!("{:#}", read(&config).err().unwrap());
            assert!(error.contains(flag), "{error}");
        };
        check(SiteConfig { api_token_file: nowhere.clone(), ..config(folder.path()) }, "--api.token-file");
        check(SiteConfig { api_read_token_file: nowhere.clone(), ..config(folder.path()) }, "--api.read-token-file");
        check(SiteConfig { web_config: nowhere, ..config(folder.path()) }, "/nowhere, the web configuration");
        check(SiteConfig { healer_url: None, ..config(folder.path()) }, "--healer.url is missing");
        check(
            SiteConfig { exporter_url: Some("exporter:1".into()), ..config(folder.path()) },
            "--exporter.url must be",
        );
        check(
            SiteConfig { alertmanager_url: Some(" ".into()), ..config(folder.path()) },
            "--alertmanager.url is missing",
        );
    }

    #[test]
    fn what_is_missing_of_telegram_is_off_or_said_later() {
        let folder = tempfile::tempdir().unwrap();
        let of = |change: fn(&mut TelegramFlags)| {
            let mut flags = config(folder.path()).telegram;
            change(&mut flags);
            telegram(&flags)
        };
        assert!(matches!(of(|_| ()), Telegram::On(_)));
        assert!(matches!(of(|it| it.telegram_chat_id = Some(String::new())), Telegram::Off));
        assert!(matches!(of(|it| it.telegram_token_file = None), Telegram::Unknown(_)));
        assert!(matches!(of(|it| it.telegram_token_file = Some("/nowhere".into())), Telegram::Unknown(_)));
        let flags = config(folder.path()).telegram;
        std::fs::write(folder.path().join("bot"), "\n").unwrap();
        assert!(matches!(telegram(&flags), Telegram::Off));
    }
}
