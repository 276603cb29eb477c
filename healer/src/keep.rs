//! `nexus-healer journal`: what `./nexus backup` and `./nexus restore` ask of the journal.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use nexus_daemon::{Failure, runtime, wrong};
use nexus_model::api::ApiError;
use nexus_web::Secret;

use crate::{config::Config, journal};

/// Longer than the healer takes to answer anything.
const ANSWER: Duration = Duration::from_secs(60);

#[derive(Debug, Subcommand)]
pub enum Keep {
    /// Write a copy of the running healer's journal to a file or, without one, to stdout
    Copy {
        #[arg(value_name = "FILE")]
        to: Option<PathBuf>,
    },
    /// Say whether a copy is whole and what is in it; exit code 0 or 1
    Check {
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
    /// Put the copy on stdin in the place of the journal of a healer that does not run
    Put,
}

pub fn run(keep: &Keep, config: &Config) -> Result<(), Failure> {
    match keep {
        Keep::Copy { to } => {
            let token = Secret::read(&config.api_token_file).map_err(wrong)?;
            let fetched = match to {
                Some(path) => to_file(config.listen, &token, path),
                None => to_stdout(config.listen, &token),
            };
            Ok(fetched?)
        }
        Keep::Check { file } => say(&journal::check(file).map_err(anyhow::Error::from)?),
        Keep::Put => say(&journal::put(io::stdin().lock(), &config.journal).map_err(anyhow::Error::from)?),
    }
}

fn say(content: &journal::Content) -> Result<(), Failure> {
    Ok(writeln!(io::stdout(), "{content}").context("saying what is in the copy")?)
}

fn to_stdout(listen: SocketAddr, token: &Secret) -> anyhow::Result<()> {
    fetch(listen, token, &mut io::stdout().lock())
}

/// A file that is there is left alone, and what was begun does not stay.
fn to_file(listen: SocketAddr, token: &Secret, path: &Path) -> anyhow::Result<()> {
    let making = || format!("writing {}", path.display());
    let mut file: File = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).with_context(making)?;
    let fetched = fetch(listen, token, &mut file).and_then(|()| file.sync_all().with_context(making));
    fetched.inspect_err(|_| _ = fs::remove_file(path))
}

fn fetch(listen: SocketAddr, token: &Secret, to: &mut impl Write) -> anyhow::Result<()> {
    // Fails only when one is installed already, which is as good.
    _ = rustls::crypto::ring::default_provider().install_default();
    let address = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, listen.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, listen.port())),
        _ => listen,
    };
    let copying = async {
        let client = reqwest::Client::builder().no_proxy().read_timeout(ANSWER).build()?;
        let asked = client.post(format!("http://{address}/api/v1/journal/copy")).bearer_auth(token.expose());
        let mut answer = asked.send().await.with_context(|| format!("asking the healer at {address}"))?;
        if !answer.status().is_success() {
            let status = answer.status();
            let said = answer.text().await.unwrap_or_default();
            let why = serde_json::from_str::<ApiError>(&said).map_or(said, |problem| problem.error);
            bail!("the healer answers {status}: {}", why.trim());
        }
        while let Some(part) = answer.chunk().await.context("the healer's copy of the journal breaks off")? {
            to.write_all(&part).context("writing the copy")?;
        }
        to.flush().context("writing the copy")
    };
    match runtime() {
        Ok(runtime) => runtime.block_on(copying),
        Err(Failure::Configuration(error) | Failure::Other(error)) => Err(anyhow!(error)),
    }
}
