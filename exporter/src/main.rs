//! Arguments, configuration, run. Exit code 2 is for what the user mistyped, in flags or in the web configuration, 1 for
//! the rest.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use nexus_docker::{DiskSchedule, DiskWatcher, Docker, ImageWatcher, WatchOptions, Watcher};
use nexus_exporter::collect::{Calls, Collector, DockerState};
use nexus_exporter::config::{Action, Config, HEALTH_PATH, Refusal};
use nexus_exporter::gather::{DockerView, Gatherer};
use nexus_exporter::scrape::Scraper;
use nexus_exporter::{docs, manual, reader, server};
use nexus_web::{Gate, Limits, WebConfigError};
use tracing::Level;

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
            if error.is::<WebConfigError>() { ExitCode::from(2) } else { ExitCode::FAILURE }
        }
    }
}

fn run(config: Config) -> anyhow::Result<()> {
    let print = |text: String| std::io::stdout().write_all(text.as_bytes()).context("can't write it");
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().context("can't start");
    match config.action {
        Action::Families => print(docs::page()),
        Action::Manual => print(manual::page()),
        Action::Healthcheck => {
            let address = config.listen.first().copied().context("there is no address to ask")?;
            Ok(runtime()?.block_on(nexus_web::healthcheck(address, HEALTH_PATH, HEALTHCHECK_TIMEOUT))?)
        }
        Action::Serve => runtime()?.block_on(serve(config)),
    }
}

async fn serve(config: Config) -> anyhow::Result<()> {
    let level: Level = config.log.parse().context("--log.level is not understood")?;
    tracing_subscriber::fmt().with_max_level(level).with_writer(std::io::stderr).with_ansi(false).init();
    if let Err(error) = reader::raise_file_limit() {
        tracing::warn!(reason = %error, "can't raise the limit of open files");
    }
    let gate = match &config.web_config_file {
        Some(path) => Some(Arc::new(Gate::open(path, &[HEALTH_PATH])?)),
        None => None,
    };
    // All of them or none.
    let mut listeners = Vec::with_capacity(config.listen.len());
    for address in &config.listen {
        listeners.push(nexus_web::bind(*address).await?);
    }
    let docker: DockerView = if config.collectors.iter().any(Collector::is_about_docker) {
        watch_docker(&config)
    } else {
        Box::new(DockerState::default)
    };
    let gatherer = Gatherer::new(config.roots, config.settings, Calls::REAL, docker);
    let (scraper, ended) = Scraper::start(gatherer, gate.clone()).context("can't start the collecting thread")?;
    // With port 0 the kernel has chosen one.
    for address in listeners.iter().flat_map(|listener| listener.local_addr()) {
        tracing::info!(%address, "serving metrics");
    }
    let app = server::app(scraper, config.collectors, &config.telemetry_path, config.max_requests);
    let shutdown = nexus_web::shutdown_signal();
    tokio::select! {
        () = nexus_web::serve_gated(listeners, app, Limits::default(), gate, shutdown) => {
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
