//! Arguments, configuration, run. Exit code 2 is for what the user mistyped, 1 for the rest.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nexus_docker::{Docker, Watcher};
use nexus_exporter::collect::{Calls, Collector};
use nexus_exporter::config::{Action, Config, Refusal};
use nexus_exporter::gather::{DockerView, Gatherer};
use nexus_exporter::scrape::Scraper;
use nexus_exporter::{docs, reader, server};
use tracing_subscriber::EnvFilter;

/// A call to Docker that takes longer has failed; nobody waits for it but the watcher.
const DOCKER_TIMEOUT: Duration = Duration::from_secs(10);
/// Docker runs the health check with a time-out of its own.
const HEALTHCHECK_TIMEOUT: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let config = match Config::parse(std::env::args_os()) {
        Ok(config) => config,
        Err(Refusal::Answered(text)) => {
            _ = std::io::stdout().write_all(text.as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(Refusal::Mistyped(line)) => {
            _ = writeln!(std::io::stderr(), "nexus-exporter: {line}");
            return ExitCode::from(2);
        }
    };
    match run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            _ = writeln!(std::io::stderr(), "nexus-exporter: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    if config.action == Action::Families {
        return std::io::stdout().write_all(docs::page().as_bytes()).context("can't write the list of families");
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start")?;
    match config.action {
        Action::Healthcheck => {
            Ok(runtime.block_on(nexus_web::healthcheck(config.listen, "/healthz", HEALTHCHECK_TIMEOUT))?)
        }
        _ => runtime.block_on(serve(config)),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    tracing_subscriber::fmt()
        .with_env_filter(EnvFilter::new(&config.log))
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .init();
    if let Err(error) = reader::raise_file_limit() {
        tracing::warn!(reason = %error, "can't raise the limit of open files");
    }
    let listener = nexus_web::bind(config.listen).await?;
    let docker: DockerView = if config.collectors.iter().any(Collector::is_about_docker) {
        let docker = Arc::new(Docker::connect(&config.docker_socket, DOCKER_TIMEOUT));
        let watcher = Watcher::spawn(docker, config.stack);
        Box::new(move || watcher.snapshot())
    } else {
        Box::new(Arc::default)
    };
    let gatherer = Gatherer::new(config.roots, config.settings, Calls::REAL, docker);
    let (scraper, ended) = Scraper::start(gatherer).context("can't start the collecting thread")?;
    // With port 0 the kernel has chosen one.
    let address = listener.local_addr().unwrap_or(config.listen);
    tracing::info!(%address, "serving metrics");
    let app = server::app(scraper, config.collectors);
    tokio::select! {
        () = nexus_web::serve(listener, app, nexus_web::Limits::default(), nexus_web::shutdown_signal()) => {
            tracing::info!("stopped");
            Ok(())
        }
        _ = ended => anyhow::bail!("the collecting thread has ended"),
    }
}
