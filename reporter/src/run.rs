//! Puts the reporter together, runs it, and takes it apart in order: stop listening, drain, give up what is under way, close.

use std::{io::IsTerminal, sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nexus_web::Limits;
use tokio::{sync::oneshot, task::JoinHandle};
use tracing_subscriber::{Layer, filter::Targets, layer::SubscriberExt, util::SubscriberInitExt};

use crate::{
    config::{Config, Generate},
    database::Database,
    history::{
        collector::Collector,
        generate::{self, GenerateError},
        metrics::Metrics,
        prometheus::Prometheus,
        window,
    },
    operations, server,
    site::Site,
    sql::{Bounds, Reader},
};

/// For the collector to let go of Postgres.
const STOP_DEADLINE: Duration = Duration::from_secs(3);

/// Why the process ends with an error.
#[derive(Debug)]
pub enum Failure {
    /// What the owner wrote can't be used: exit code 2.
    Configuration(anyhow::Error),
    Other(anyhow::Error),
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Failure::Other(error)
    }
}

fn wrong(error: impl Into<anyhow::Error>) -> Failure {
    Failure::Configuration(error.into())
}

/// Asks the reporter on the listen address whether it is ready.
pub fn healthcheck(config: &Config) -> Result<(), Failure> {
    let deadline = Duration::from_secs(5);
    let outcome = runtime()?.block_on(nexus_web::healthcheck(config.listen, "/readyz", deadline));
    outcome.map_err(|error| Failure::Other(error.into()))
}

/// Fills an empty database.
pub fn generate(config: &Config, wanted: &Generate) -> Result<(), Failure> {
    let database = database(config)?.ok_or_else(|| wrong(anyhow!("--database.url is missing")))?;
    let options = generate::Options {
        hosts: wanted.hosts,
        services: wanted.services,
        days: wanted.days,
        seed: wanted.seed,
        until: Timestamp::from_second(window::settled(Timestamp::now().as_second())).unwrap_or(Timestamp::MAX),
        keep: config.keep(),
    };
    let summary = runtime()?.block_on(async {
        let mut client = database.connect().await.map_err(anyhow::Error::from)?;
        generate::fill(&mut client, &options).await.map_err(|error| match error {
            GenerateError::Postgres(_) => Failure::Other(error.into()),
            GenerateError::NotEmpty | GenerateError::Range(_) => wrong(error),
        })
    })?;
    eprintln!(
        "made up {} days of {} hosts with {} services each: {} samples, {} hours; {} partitions were old enough to go",
        options.days, options.hosts, options.services, summary.samples, summary.hours, summary.dropped_partitions
    );
    Ok(())
}

/// Runs the reporter until it is told to stop.
pub fn run(config: &Config) -> Result<(), Failure> {
    let filter: Targets = config
        .log
        .parse()
        .map_err(|error| wrong(anyhow!("--log.level {:?} is not understood: {error}", config.log)))?;
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry().with(lines.with_filter(filter)).init();
    runtime()?.block_on(async {
        let settings = Settings::read(config)?;
        let listener = nexus_web::bind(config.listen).await.map_err(anyhow::Error::from)?;
        settings.serve(listener, nexus_web::shutdown_signal()).await
    })
}

/// One thread is enough for what a host asks, and keeps memory small.
fn runtime() -> Result<tokio::runtime::Runtime, Failure> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    Ok(runtime.context("starting the runtime")?)
}

fn database(config: &Config) -> Result<Option<Database>, Failure> {
    let made = config.database_url().map(|url| Database::new(url, config.database_password_file.clone()));
    made.transpose().map_err(wrong)
}

/// For questions in SQL, where there is a password for them.
fn reader(config: &Config) -> Result<Option<Reader>, Failure> {
    // An empty path comes from a compose file that passes an empty setting.
    let password = config.database_reader_password_file.clone().filter(|path| !path.as_os_str().is_empty());
    let (Some(url), Some(password)) = (config.database_url(), password) else { return Ok(None) };
    let bounds = Bounds::default();
    let database = Database::reader(url, password, bounds.time).map_err(wrong)?;
    Ok(Some(Reader::new(database, bounds)))
}

/// The configuration with its files read and checked; nothing is opened or bound yet.
pub struct Settings {
    config: Config,
    database: Option<Database>,
    prometheus: Option<Prometheus>,
    site: Option<Site>,
}

impl Settings {
    pub fn read(config: &Config) -> Result<Self, Failure> {
        // Fails only when one is installed already, which is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let prometheus = config.prometheus_url().map(Prometheus::new).transpose().map_err(wrong)?;
        let site =
            Site::read(&config.site, config.prometheus_url(), database(config)?, reader(config)?).map_err(wrong)?;
        Ok(Self { config: config.clone(), database: database(config)?, prometheus, site })
    }

    /// Serves on `listener` until `shutdown`.
    pub async fn serve(
        self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let Settings { config, database, prometheus, site } = self;
        let mut registry = operations::registry();
        let (stop_collector, collector_stops) = oneshot::channel::<()>();
        let mut collector = match (database, prometheus) {
            (Some(database), Some(prometheus)) => {
                // Only where there is a history, so that no rule takes for behind what is not wanted.
                let metrics = Arc::new(Metrics::register(&mut registry));
                let collector = Collector::new(database, prometheus, config.history_interval, config.keep(), metrics);
                Some(tokio::spawn(collector.run(async {
                    // An error means that the sender is gone, which says the same.
                    _ = collector_stops.await;
                })))
            }
            _ => {
                tracing::warn!("no --database.url or no --prometheus.url: no history is kept");
                None
            }
        };
        let mut router = operations::router(Arc::new(registry));
        let mut gate = None;
        match site {
            Some(site) => {
                tokio::spawn(site.app.clone().keep_outlooks());
                router = router.merge(server::router(site.app, site.tokens));
                gate = site.gate.map(Arc::new);
            }
            None => tracing::warn!("no --api.token-file: neither pages nor API are served"),
        }
        let address = listener.local_addr().context("reading the listen address")?;
        tracing::info!("reporter {} started on {address}", env!("CARGO_PKG_VERSION"));

        let mut broken = false;
        let over = async {
            tokio::select! {
                () = shutdown => (),
                () = ended(&mut collector) => broken = true,
            }
        };
        nexus_web::serve_gated(vec![listener], router, Limits::default(), gate, over).await;

        tracing::info!("stopping");
        if let Some(collector) = collector
            && !broken
        {
            // Gone already is as good.
            _ = stop_collector.send(());
            _ = tokio::time::timeout(STOP_DEADLINE, collector).await;
        }
        tracing::info!("stopped");
        if broken { Err(Failure::Other(anyhow!("the collector broke down; see the log above"))) } else { Ok(()) }
    }
}

/// Completes when a task has ended; never where there is none.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => _ = task.await,
        None => std::future::pending().await,
    }
}
