//! Arguments, configuration, run. Exit code 2 is for what the user mistyped, 1 for the rest.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nexus_docker::{DiskSchedule, DiskWatcher, Docker, ImageWatcher, WatchOptions, Watcher};
use nexus_exporter::collect::{Calls, Collector, DockerState};
use nexus_exporter::config::{Action, Config, Refusal};
use nexus_exporter::gather::{DockerView, Gatherer};
use nexus_exporter::scrape::Scraper;
use nexus_exporter::{docs, server};
use tracing_subscriber::EnvFilter;

/// A call to Docker that takes longer has failed; nobody waits for it but the watcher.
const DOCKER_TIMEOUT: Duration = Duration::from_secs(10);
/// Docker's walk over its files: first when the containers of a host that has just booted have had time to start, and cut
/// off only when it is not going to end.
const DISK_FIRST_AFTER: Duration = Duration::from_secs(30);
const DISK_TIMEOUT: Duration = Duration::from_secs(15 * 60);
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
    let listener = nexus_web::bind(config.listen).await?;
    let docker: DockerView = if config.collectors.iter().any(Collector::is_about_docker) {
        watch_docker(&config)
    } else {
        Box::new(DockerState::default)
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

/// Starts what watches Docker, as far as the collectors that are on need it.
fn watch_docker(config: &Config) -> DockerView {
    let docker = Arc::new(Docker::connect(&config.docker_socket, DOCKER_TIMEOUT));
    let has = |collector| config.collectors.contains(collector);
    let options = WatchOptions { fresh_probes: has(Collector::Container), ..WatchOptions::default() };
    let watcher = Watcher::spawn_with(Arc::clone(&docker), config.stack.clone(), options);
    let images = has(Collector::Container).then(|| ImageWatcher::spawn(Arc::clone(&docker), watcher.subscribe()));
    let schedule =
        DiskSchedule { first_after: DISK_FIRST_AFTER, interval: config.docker_disk_interval, timeout: DISK_TIMEOUT };
    let disk = has(Collector::DockerDisk).then(|| DiskWatcher::spawn(docker, watcher.subscribe(), schedule));
    Box::new(move || DockerState {
        snapshot: watcher.snapshot(),
        images: images.as_ref().map(ImageWatcher::times).unwrap_or_default(),
        disk: disk.as_ref().map(DiskWatcher::report).unwrap_or_default(),
    })
}
