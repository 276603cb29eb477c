//! What the healer and the reporter have in common as programs that run all day: why they end with an error and with which
//! exit code, where their log goes, their runtime, their health check.
//!
//! What this crate does not do: read arguments, or anything that only one of them does.

use std::{io::IsTerminal, net::SocketAddr, process::ExitCode, time::Duration};

use anyhow::{Context, anyhow};
use tokio::runtime::{Builder, Runtime};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

/// Docker runs the health check with a time-out of its own, which is longer.
const HEALTHCHECK_DEADLINE: Duration = Duration::from_secs(5);

/// Why the process ends with an error.
#[derive(Debug)]
pub enum Failure {
    /// What the owner wrote can't be used.
    Configuration(anyhow::Error),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

impl Failure {
    fn exit_code(&self) -> u8 {
        match self {
            Failure::Configuration(_) => 2,
            Failure::Other(_) => 1,
        }
    }
}

/// Something in the configuration.
pub fn wrong(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Configuration(error.into())
}

/// What `main` returns; says on stderr what went wrong.
pub fn end(program: &str, outcome: Result<(), Failure>) -> ExitCode {
    let Err(failure) = outcome else { return ExitCode::SUCCESS };
    let code = failure.exit_code();
    let (Failure::Configuration(error) | Failure::Other(error)) = failure;
    eprintln!("{program}: {error:#}");
    ExitCode::from(code)
}

/// One thread is enough for what one host can ask or break at once, and keeps memory small.
pub fn runtime() -> Result<Runtime, Failure> {
    Ok(Builder::new_current_thread().enable_all().build().context("starting the runtime")?)
}

/// Logs to stderr from here on, what `--log.level` lets through.
pub fn log(level: &str) -> Result<(), Failure> {
    let filter = filter(level)?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    Ok(())
}

fn filter(level: &str) -> Result<Targets, Failure> {
    level.parse().map_err(|error| wrong(anyhow!("--log.level {level:?} is not understood: {error}")))
}

/// Asks the program on the listen address whether it is ready.
pub fn healthcheck(listen: SocketAddr) -> Result<(), Failure> {
    let asked = nexus_web::healthcheck(listen, "/readyz", HEALTHCHECK_DEADLINE);
    Ok(runtime()?.block_on(asked).map_err(anyhow::Error::from)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_owner_wrote_has_an_exit_code_of_its_own() {
        let code = |outcome: Result<Targets, Failure>| outcome.map_err(|failure| failure.exit_code()).err();
        assert_eq!(code(filter("info")), None);
        assert_eq!(code(filter("warn,nexus_healer=debug")), None);
        assert_eq!(code(filter("nexus_healer=loud")), Some(2));
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        assert_eq!(healthcheck(address).unwrap_err().exit_code(), 1);
    }
}
