//! Puts the reporter together, runs it, and takes it apart in order: stop listening, drain, give up what is under way, close.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use jiff::Timestamp;
use nexus_daemon::{Failure, runtime, wrong};
use nexus_web::Limits;
use tokio::{sync::oneshot, task::JoinHandle};

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
    nexus_daemon::log(&config.log)?;
    runtime()?.block_on(async {
        let settings = Settings::read(config)?;
        let listener = nexus_web::bind(config.listen).await.map_err(anyhow::Error::from)?;
        settings.serve(listener, nexus_web::shutdown_signal()).await
    })
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
