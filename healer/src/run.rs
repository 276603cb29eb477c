//! Puts the healer together, runs it, and takes it apart in order: stop listening, drain, flush, close.

use std::{sync::Arc, time::Duration};

use anyhow::{Context, anyhow};
use nexus_daemon::{Failure, runtime, wrong};
use nexus_docker::{Docker, Earlier, WatchOptions, Watcher};
use nexus_model::{Now, api::PartStatus};
use nexus_telegram::Bot;
use nexus_web::{Limits, Secret, Tokens};
use tokio::{
    sync::{Mutex, Notify, Semaphore, mpsc, oneshot, watch},
    task::JoinHandle,
};

use crate::{
    alertmanager::Alertmanager,
    alone::{Alone, Sights},
    api, asks,
    clock::Clock,
    config::Config,
    direct::{self, task::Direct},
    evidence::{Places, chain},
    journal::{Change, Journal, Memo, memo_body},
    metrics::{Metrics, Parts},
    notify::{Notifier, Told},
    policy::Policy,
    record::{Copier, Database},
    relief::task::{self as relief, Relief},
    reload::{self, Reload},
    scrapes,
    server::{self, App, AppParts},
    silences,
    worker::{self, Outlook, Worker},
};

/// For each call to Docker but the restart.
const DOCKER_DEADLINE: Duration = Duration::from_secs(10);
/// For the last rows to Postgres at the end.
const FLUSH_DEADLINE: Duration = Duration::from_secs(3);
/// Alerts about the machine that may wait to be looked at: there are two kinds of them.
const HOST_PROMPTS: usize = 8;

/// Reads the policy in the file: `./nexus up` asks before it replaces a healer that runs by one that could not use it.
pub fn check(config: &Config) -> Result<(), Failure> {
    Policy::read(&config.policy_file).map(drop).map_err(wrong)
}

/// Runs the healer until it is told to stop.
pub fn run(config: &Config) -> Result<(), Failure> {
    nexus_daemon::log(&config.log)?;
    runtime()?.block_on(async {
        let settings = Settings::read(config)?;
        let listener = nexus_web::bind(config.listen).await.map_err(anyhow::Error::from)?;
        settings.serve(listener, nexus_web::shutdown_signal()).await
    })
}

/// The configuration with its secrets read and checked; nothing is opened or bound yet. Which policy holds depends on the journal.
pub struct Settings {
    config: Config,
    webhook_token: Secret,
    tokens: Tokens,
    database: Option<Database>,
}

/// The tokens of the API. One that is for everything must not be handed out as one that only reads.
fn tokens(config: &Config) -> Result<Tokens, Failure> {
    let act = Secret::read(&config.api_token_file).map_err(wrong)?;
    // An empty path comes from a compose file that passes an empty setting.
    let file = config.api_read_token_file.as_ref().filter(|path| !path.as_os_str().is_empty());
    let read = file.map(|path| Secret::read(path)).transpose().map_err(wrong)?;
    if read.as_ref().is_some_and(|read| act.matches(read.expose().as_bytes())) {
        return Err(wrong(anyhow!(
            "--api.read-token-file holds the same token as --api.token-file: who may only read could do everything"
        )));
    }
    Ok(Tokens { act, read })
}

impl Settings {
    pub fn read(config: &Config) -> Result<Self, Failure> {
        // Fails only when one is installed already, which is as good.
        _ = rustls::crypto::ring::default_provider().install_default();
        let webhook_token = Secret::read(&config.webhook_token_file).map_err(wrong)?;
        let tokens = tokens(config)?;
        let database = config
            .database_url()
            .map(|url| Database::new(url, config.database_password_file.clone()))
            .transpose()
            .map_err(wrong)?;
        if let Some(url) = config.alertmanager_url() {
            Alertmanager::check(url).map_err(wrong)?;
        }
        if config.stack.trim().is_empty() {
            return Err(wrong(anyhow!("--stack.name must not be empty")));
        }
        Ok(Self { config: config.clone(), webhook_token, tokens, database })
    }

    /// Serves on `listener` until `shutdown`.
    pub async fn serve(
        self,
        listener: tokio::net::TcpListener,
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), Failure> {
        let Settings { config, webhook_token, tokens, database } = self;
        let host = config.host();
        let (journal, journal_thread) = Journal::open(&config.journal).map_err(anyhow::Error::from)?;
        let begin = match reload::begin(&config.policy_file, &journal).await {
            Ok(begin) => begin,
            Err(error) => {
                journal_thread.close().await;
                return Err(wrong(error));
            }
        };
        let metrics = Arc::new(Metrics::new(Parts {
            postgres: database.is_some(),
            alertmanager: config.alertmanager_url().is_some(),
        }));
        let (reload, policy_seen, policy_status) =
            Reload::new(config.policy_file.clone(), begin, journal.clone(), Arc::clone(&metrics));
        let mut reload = Some(tokio::spawn(reload.run()));
        let docker = Arc::new(Docker::connect(&config.docker_socket, DOCKER_DEADLINE));
        let lost = journal.read(|store| store.memo::<Now>(Memo::DockerLost)).await.map_err(anyhow::Error::from)?;
        let noted = journal.read(|store| store.memo::<Now>(Memo::Unscraped)).await.map_err(anyhow::Error::from)?;
        let was_unscraped = noted.is_some();
        let (scraped, scraped_seen) = watch::channel(scrapes::known_at_start(noted, &Clock::new().now()));
        let options = WatchOptions { earlier: earlier(lost.as_ref(), &Clock::new().now()), ..WatchOptions::default() };
        let watcher = Watcher::spawn_with(Arc::clone(&docker), config.stack.clone(), options);
        let switches = journal.read(|store| store.switches()).await.map_err(anyhow::Error::from)?;
        let (switches, switches_seen) = watch::channel(Arc::new(switches));
        let pauses = journal.read(|store| store.pauses()).await.map_err(anyhow::Error::from)?;
        let (pauses, pauses_seen) = watch::channel(Arc::new(pauses));
        let (asks, questions) = asks::channel();
        let (outlook, outlook_seen) = watch::channel(Arc::new(Outlook::default()));
        let (told, told_seen) = watch::channel(Told::default());
        let (sights, sights_seen) = watch::channel(Sights::default());
        let prompts = Arc::new(Notify::new());

        let part = |configured: bool| PartStatus {
            state: if configured { "down" } else { "off" }.to_owned(),
            reason: configured.then(|| "not asked yet".to_owned()),
        };
        let (postgres, postgres_seen) = watch::channel(part(database.is_some()));
        let (alertmanager, alertmanager_seen) = watch::channel(part(config.alertmanager_url().is_some()));

        let asked = config.alertmanager_url().map(Alertmanager::new).transpose().map_err(anyhow::Error::from)?;
        let keeping_silences = match &asked {
            Some(asked) => {
                silences::remember(asked, &journal).await.map_err(anyhow::Error::from)?;
                Some(tokio::spawn(silences::keep(asked.clone(), journal.clone())))
            }
            None => None,
        };
        let remembered = direct::task::remembered(&journal).await.map_err(anyhow::Error::from)?;
        let (memory, directly) = watch::channel(Arc::new(remembered));
        let (taken, taken_seen) = watch::channel(Arc::default());
        let mut direct = match (&asked, bot(&config)) {
            (Some(asked), Some(bot)) => {
                let direct = Direct {
                    host: host.clone(),
                    bot,
                    links: config.links(),
                    policy: policy_seen.clone(),
                    alertmanager: asked.clone(),
                    journal: journal.clone(),
                    told: told_seen.clone(),
                    status: alertmanager_seen.clone(),
                    taken: taken_seen,
                    metrics: Arc::clone(&metrics),
                    memory,
                };
                Some(tokio::spawn(direct.run()))
            }
            _ => None,
        };
        let mut notifier = match &asked {
            Some(asked) => {
                let notifier =
                    Notifier::new(asked.clone(), told_seen, alertmanager, Arc::clone(&metrics), directly, taken);
                Some(tokio::spawn(notifier.run()))
            }
            None => {
                tracing::warn!(
                    "no --alertmanager.url: nobody is told when healing fails, and nothing is healed before a rule fires"
                );
                None
            }
        };
        let mut alone = asked.clone().map(|alertmanager| {
            let alone = Alone {
                host: host.clone(),
                alertmanager,
                journal: journal.clone(),
                sights: sights_seen,
                prompts: Arc::clone(&prompts),
                metrics: Arc::clone(&metrics),
            };
            tokio::spawn(alone.run())
        });
        let (stop_copier, copier_stops) = oneshot::channel::<()>();
        let copies_wanted = database.is_some();
        let mut copier = match database {
            Some(database) => {
                let copier = Copier::new(database, journal.clone(), postgres, Arc::clone(&metrics));
                Some(tokio::spawn(copier.run(async {
                    // An error means that the sender is gone, which says the same.
                    _ = copier_stops.await;
                })))
            }
            None => {
                tracing::info!("no --database.url: incidents are kept in the journal alone");
                None
            }
        };

        let places = Places {
            procfs: config.procfs.clone(),
            cgroupfs: config.cgroupfs.clone(),
            // In a container this is on the file system that Docker keeps all of them on.
            disk: "/".into(),
        };
        let (host_prompts, host_prompted) = mpsc::channel(HOST_PROMPTS);
        let (shown, relief_seen) = watch::channel(Arc::new(relief::Shown::default()));
        let relief = Relief::resume(relief::Parts {
            host: host.clone(),
            stack: config.stack.clone(),
            places: places.clone(),
            journal_path: config.journal.clone(),
            docker: Arc::clone(&docker),
            watcher: watcher.clone(),
            alertmanager: asked.clone(),
            journal: journal.clone(),
            policy: policy_seen.clone(),
            pauses: pauses_seen.clone(),
            metrics: Arc::clone(&metrics),
            prompts: host_prompted,
            outlook: outlook_seen.clone(),
            shown,
        });
        let relief = relief.await.map_err(anyhow::Error::from)?;
        let (stop_relief, relief_stops) = oneshot::channel::<()>();
        let mut relief = tokio::spawn(relief.run(async {
            _ = relief_stops.await;
        }));

        let worker = Worker::resume(worker::Parts {
            host: host.clone(),
            stack: config.stack.clone(),
            places,
            docker: Arc::clone(&docker),
            watcher: watcher.clone(),
            alertmanager: asked,
            journal: journal.clone(),
            policy: policy_seen.clone(),
            metrics: Arc::clone(&metrics),
            prompts: Arc::clone(&prompts),
            switches: switches_seen,
            pauses: pauses_seen,
            outlook,
            told,
            sights,
            host_prompts,
            relief: relief_seen,
            scraped: scraped_seen,
            was_unscraped,
            copies_wanted,
            probe_host: config.probe_host().map(str::to_owned),
            docker_was_lost: lost.is_some(),
        });
        let worker = worker.await.map_err(anyhow::Error::from)?;
        let (stop_worker, worker_stops) = oneshot::channel::<()>();
        let mut worker = tokio::spawn(worker.run(questions, async {
            _ = worker_stops.await;
        }));

        let app = App(Arc::new(AppParts {
            host: host.clone(),
            stack: config.stack.clone(),
            journal: journal.clone(),
            watcher: watcher.clone(),
            policy: policy_seen,
            policy_status,
            metrics,
            scraped,
            prompts,
            switches,
            pauses,
            switching: Arc::new(Mutex::new(())),
            asks,
            clock: Clock::new(),
            docker,
            reading_logs: Arc::new(Semaphore::new(api::logs::AT_ONCE)),
            outlook: outlook_seen,
            postgres: postgres_seen,
            alertmanager: alertmanager_seen,
        }));
        let router = server::router(app, webhook_token, tokens);
        let address = listener.local_addr().context("reading the listen address")?;
        let (version, stack) = (env!("CARGO_PKG_VERSION"), &config.stack);
        tracing::info!(host, "healer {version} of stack {stack} started on {address}");

        // What ends by itself has broken down. Serving on would only take alerts that nobody looks into, or tells of.
        let mut broken = None;
        let over = async {
            tokio::select! {
                () = shutdown => (),
                _ = &mut worker => broken = Some("worker"),
                _ = &mut relief => broken = Some("relief"),
                () = ended(&mut notifier) => broken = Some("notifier"),
                () = ended(&mut alone) => broken = Some("prompter"),
                () = ended(&mut direct) => broken = Some("teller"),
                () = ended(&mut reload) => broken = Some("reader of the policy"),
                () = ended(&mut copier) => broken = Some("copier"),
                () = journal.ended() => broken = Some("journal"),
            }
        };
        nexus_web::serve(listener, router, Limits::default(), over).await;

        tracing::info!("stopping");
        if broken != Some("worker") {
            // Gone already is as good.
            _ = stop_worker.send(());
            _ = worker.await;
        }
        note_if_lost(&watcher, &journal).await;
        if broken != Some("relief") {
            _ = stop_relief.send(());
            _ = relief.await;
        }
        // The worker held the senders of what is true; the two end with it.
        for task in [notifier, alone, direct, keeping_silences, reload].into_iter().flatten() {
            task.abort();
        }
        if let Some(copier) = copier
            && broken != Some("copier")
        {
            _ = stop_copier.send(());
            if tokio::time::timeout(FLUSH_DEADLINE, copier).await.is_err() {
                tracing::info!("postgres does not take the last rows in time; they are copied after the next start");
            }
        }
        journal_thread.close().await;
        tracing::info!("stopped");
        match broken {
            Some(part) => Err(Failure::Other(anyhow!("the {part} broke down; see the log above"))),
            None => Ok(()),
        }
    }
}

/// What the healer before this one knows of a Docker that has gone and come back meanwhile.
fn earlier(lost: Option<&Now>, now: &Now) -> Earlier {
    match lost {
        Some(lost) if lost.boot_id == now.boot_id => Earlier::UntilItWent(lost.wall),
        _ => Earlier::Nobody,
    }
}

/// A Docker that was killed ends the healer with all the others on its return. That it has been watched until it went is noted then, for
/// the next healer: whatever stop it had been asked for is in the journal. Without this note the next one can't know.
async fn note_if_lost(watcher: &Watcher, journal: &Journal) {
    if !watcher.has_lost_it() {
        return;
    }
    let noted = match memo_body(&Clock::new().now()) {
        Ok(body) => journal.commit(vec![Change::Memo { memo: Memo::DockerLost, body: Some(body) }]).await,
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        tracing::error!(reason = %chain(&error), "that docker went away can't be written down");
    }
}

/// Who tells a person while Alertmanager is away. Without it healing goes on as it is, so a wrong setting is no reason not to start.
fn bot(config: &Config) -> Option<Bot> {
    match config.telegram.bot() {
        Ok(Some(bot)) => Some(bot),
        Ok(None) => {
            tracing::info!("telegram is not set up: while alertmanager is away nobody is told of anything");
            None
        }
        Err(error) => {
            let reason = chain(&error);
            tracing::warn!(
                reason,
                "telegram can't be told directly: while alertmanager is away nobody is told of anything"
            );
            None
        }
    }
}

/// Completes when a task has ended; never where there is none.
async fn ended(task: &mut Option<JoinHandle<()>>) {
    match task {
        Some(task) => _ = task.await,
        None => std::future::pending().await,
    }
}
