//! A real Postgres: the one of NEXUS_TEST_DATABASE_URL, whose user is a superuser.

use std::{
    net::SocketAddr,
    process::ExitCode,
    sync::atomic::{AtomicU32, Ordering},
};

use libtest_mimic::{Arguments, Trial};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::watch,
};
use tokio_postgres::{Client, Config, NoTls, config::Host};

const VARIABLE: &str = "NEXUS_TEST_DATABASE_URL";

/// Its name, and what is done with the server's URL.
pub type Case = (&'static str, fn(&str));

/// The `main` of a test program whose cases need a database: each is an async function that is given the server's URL.
macro_rules! cases {
    ($($name:ident),+ $(,)?) => {
        fn main() -> std::process::ExitCode {
            let cases: &[crate::support::database::Case] = &[$((stringify!($name), |url| crate::support::database::complete($name(url)))),+];
            crate::support::database::run(cases)
        }
    };
}
pub(crate) use cases;

/// Without a URL the cases are reported as ignored, with the reason in their names.
pub fn run(cases: &[Case]) -> ExitCode {
    let url = std::env::var(VARIABLE).ok().filter(|url| !url.is_empty());
    let trials = cases.iter().map(|&(name, case)| {
        let name = if url.is_some() { name.to_owned() } else { format!("{name} (set {VARIABLE})") };
        let known = url.clone().unwrap_or_default();
        let run = move || {
            case(&known);
            Ok(())
        };
        Trial::test(name, run).with_ignored_flag(url.is_none())
    });
    libtest_mimic::run(&Arguments::from_args(), trials.collect()).exit_code()
}

pub fn complete(case: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(case);
}

/// A database of its own for each case, and a way to it that can be cut.
pub struct Database {
    pub name: String,
    pub admin: Client,
    /// As superuser.
    pub client: Client,
    pub config: Config,
    pub wire: Wire,
}

impl Database {
    pub async fn create(url: &str) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let config: Config = url.parse().unwrap();
        let admin = connect(&config).await;
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let name = format!("nexus_history_{}_{count}", std::process::id());
        admin.batch_execute(&format!("CREATE DATABASE {name}")).await.unwrap();
        for role in ["nexus_healer", "nexus_grafana", "nexus_reporter", "nexus_reader"] {
            // Roles belong to the whole server, and cases run at once; the server may know the role with another password.
            let create = format!(
                "DO $$ BEGIN CREATE ROLE {role} LOGIN PASSWORD 'test-secret';
                 EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$"
            );
            admin.batch_execute(&create).await.unwrap();
        }
        _ = admin.batch_execute("ALTER ROLE nexus_reporter PASSWORD 'test-secret'").await;
        let mut own = config.clone();
        own.dbname(&name);
        let client = connect(&own).await;
        let wire = Wire::start(&own).await;
        let database = Self { name, admin, client, config: own, wire };
        database.migrate().await;
        database
    }

    async fn migrate(&self) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../migrations");
        let mut files: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.retain(|path| path.extension().is_some_and(|extension| extension == "sql"));
        files.sort();
        for file in files {
            self.client.batch_execute(&std::fs::read_to_string(file).unwrap()).await.unwrap();
        }
    }

    /// As the reporter is told of it: by the wire, as its own role.
    pub fn url(&self) -> String {
        format!("postgres://nexus_reporter@{}/{}", self.wire.address, self.name)
    }

    /// A connection as one of the roles.
    pub async fn connect_as(&self, role: &str) -> Client {
        let mut config = self.config.clone();
        config.user(role).password("test-secret");
        connect(&config).await
    }

    pub async fn number(&self, sql: &str) -> i64 {
        self.client.query_one(sql, &[]).await.unwrap().get(0)
    }

    pub async fn drop(self) {
        let Self { name, admin, client, .. } = self;
        drop(client);
        admin.batch_execute(&format!("DROP DATABASE {name} WITH (FORCE)")).await.unwrap();
    }
}

pub async fn connect(config: &Config) -> Client {
    let (client, connection) = config.connect(NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

/// A wire to Postgres that can be cut: then nobody gets through, and who was through is thrown out.
pub struct Wire {
    pub address: SocketAddr,
    cut: watch::Sender<bool>,
}

impl Wire {
    async fn start(config: &Config) -> Self {
        let host = config.get_hosts().iter().find_map(|host| match host {
            Host::Tcp(name) => Some(name.clone()),
            Host::Unix(_) => None,
        });
        let to = format!("{}:{}", host.unwrap(), config.get_ports().first().copied().unwrap_or(5432));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (cut, state) = watch::channel(false);
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, mut state) = (to.clone(), state.clone());
                tokio::spawn(async move {
                    if *state.borrow() {
                        return;
                    }
                    let mut far = TcpStream::connect(to).await.unwrap();
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => (),
                        _ = state.wait_for(|cut| *cut) => (),
                    }
                });
            }
        });
        Self { address, cut }
    }

    pub fn cut(&self, cut: bool) {
        self.cut.send_replace(cut);
    }
}
