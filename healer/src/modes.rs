//! Which mode applies to a service, and who said so.

use std::collections::BTreeMap;

use nexus_docker::Container;
use nexus_model::{Mode, ServiceKey, api::ModeSource, labels};

use crate::policy::Policy;

/// What `nexus heal …` has set. Kept in the journal; this is the copy that decisions are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Switches {
    pub projects: BTreeMap<String, Mode>,
    pub services: BTreeMap<ServiceKey, Mode>,
}

impl Switches {
    /// `None` takes a switch back.
    pub fn set(&mut self, project: &str, service: Option<&str>, mode: Option<Mode>) {
        match (service, mode) {
            (Some(service), Some(mode)) => _ = self.services.insert(ServiceKey::new(project, service), mode),
            (Some(service), None) => _ = self.services.remove(&ServiceKey::new(project, service)),
            (None, Some(mode)) => _ = self.projects.insert(project.to_owned(), mode),
            (None, None) => _ = self.projects.remove(project),
        }
    }
}

/// The mode that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    pub mode: Mode,
    pub source: ModeSource,
    /// It would be healed, were it not a database that nobody has named: so it is only watched.
    pub protected: bool,
}

/// The most specific word wins: service switch, label, project switch, policy for the service, for the project, default.
pub fn effective<'a>(
    key: &ServiceKey,
    containers: impl IntoIterator<Item = &'a Container> + Clone,
    switches: &Switches,
    policy: &Policy,
) -> Effective {
    let (mode, source) = if let Some(&mode) = switches.services.get(key) {
        (mode, ModeSource::ServiceSwitch)
    } else if let Some(mode) = containers.clone().into_iter().filter_map(label).min_by_key(|mode| boldness(*mode)) {
        (mode, ModeSource::Label)
    } else if let Some(&mode) = switches.projects.get(&key.project) {
        (mode, ModeSource::ProjectSwitch)
    } else if let Some(mode) = policy.service_mode(key) {
        (mode, ModeSource::PolicyService)
    } else if let Some(mode) = policy.project_mode(&key.project) {
        (mode, ModeSource::PolicyProject)
    } else {
        (policy.default, ModeSource::PolicyDefault)
    };
    let named = matches!(source, ModeSource::ServiceSwitch | ModeSource::Label | ModeSource::PolicyService);
    let protected =
        mode == Mode::Heal && !named && containers.into_iter().any(|container| is_database(&container.image));
    Effective { mode: if protected { Mode::Shadow } else { mode }, source, protected }
}

/// What the label nexus.heal says. A word that is none of the known ones is taken as the careful one: the owner meant to
/// say something, and watching harms nobody.
fn label(container: &Container) -> Option<Mode> {
    let word = container.labels.get(labels::HEAL)?.trim().to_ascii_lowercase();
    Some(match word.as_str() {
        "true" | "heal" | "on" | "yes" | "1" => Mode::Heal,
        "false" | "off" | "no" | "0" => Mode::Off,
        _ => Mode::Shadow,
    })
}

/// Replicas whose labels differ follow the most careful of them.
fn boldness(mode: Mode) -> u8 {
    match mode {
        Mode::Off => 0,
        Mode::Shadow => 1,
        Mode::Heal => 2,
    }
}

/// Names of images that hold data which an ill-timed restart can harm. Compared with the words of the last part of the
/// image's name, so that `docker.io/bitnami/postgresql:16`, `timescale/timescaledb-ha` and `pgvector/pgvector` count. An
/// exporter or a console named after a database counts too; it costs its owner one word.
const DATABASES: [&str; 27] = [
    "postgres",
    "postgresql",
    "postgis",
    "pgvector",
    "pgvecto",
    "timescaledb",
    "mariadb",
    "mysql",
    "percona",
    "mssql",
    "mongo",
    "mongodb",
    "redis",
    "valkey",
    "keydb",
    "dragonfly",
    "influxdb",
    "clickhouse",
    "elasticsearch",
    "opensearch",
    "cassandra",
    "couchdb",
    "cockroach",
    "neo4j",
    "etcd",
    "rabbitmq",
    "minio",
];

pub fn is_database(image: &str) -> bool {
    let name = image.rsplit('/').next().unwrap_or(image);
    let name = name.split(['@', ':']).next().unwrap_or(name).to_ascii_lowercase();
    name.split(['-', '_', '.']).any(|word| DATABASES.contains(&word))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::container;

    #[test]
    fn the_most_specific_word_wins() {
        let key = ServiceKey::new("shop", "web");
        let mut plain = container();
        plain.labels.remove(labels::HEAL);
        let mut labelled = plain.clone();
        labelled.labels.insert(labels::HEAL.into(), "true".into());
        let mut policy = Policy::default();
        let mut switches = Switches::default();
        let check = |container: &Container, switches: &Switches, policy: &Policy, mode: Mode, source: ModeSource| {
            assert_eq!(effective(&key, [container], switches, policy), Effective { mode, source, protected: false });
        };
        check(&plain, &switches, &policy, Mode::Shadow, ModeSource::PolicyDefault);
        policy.projects.entry("shop".into()).or_default().mode = Some(Mode::Heal);
        check(&plain, &switches, &policy, Mode::Heal, ModeSource::PolicyProject);
        policy.projects.entry("shop".into()).or_default().services.insert("web".into(), Mode::Off);
        check(&plain, &switches, &policy, Mode::Off, ModeSource::PolicyService);
        switches.set("shop", None, Some(Mode::Shadow));
        check(&plain, &switches, &policy, Mode::Shadow, ModeSource::ProjectSwitch);
        check(&labelled, &switches, &policy, Mode::Heal, ModeSource::Label);
        switches.set("shop", Some("web"), Some(Mode::Off));
        check(&labelled, &switches, &policy, Mode::Off, ModeSource::ServiceSwitch);
        switches.set("shop", Some("web"), None);
        check(&labelled, &switches, &policy, Mode::Heal, ModeSource::Label);
        switches.set("shop", None, None);
        assert_eq!(switches, Switches::default());
    }

    #[test]
    fn labels_are_read_kindly_and_carefully() {
        let check = |word: &str, expected: Mode| {
            let mut container = container();
            container.labels.insert(labels::HEAL.into(), word.into());
            assert_eq!(label(&container), Some(expected), "{word}");
        };
        check("true", Mode::Heal);
        check(" True ", Mode::Heal);
        check("false", Mode::Off);
        check("shadow", Mode::Shadow);
        check("treu", Mode::Shadow);
        check("", Mode::Shadow);
    }

    #[test]
    fn replicas_follow_the_most_careful_label() {
        let (one, mut two) = (container(), container());
        two.labels.insert(labels::HEAL.into(), "false".into());
        let key = ServiceKey::new("shop", "web");
        let found = effective(&key, [&one, &two], &Switches::default(), &Policy::default());
        assert_eq!(found.mode, Mode::Off);
    }

    #[test]
    fn a_database_needs_to_be_named_itself() {
        let key = ServiceKey::new("shop", "web");
        let mut database = container();
        database.image = "postgres:17".into();
        database.labels.remove(labels::HEAL);
        let mut policy = Policy { default: Mode::Heal, ..Policy::default() };
        let mut switches = Switches::default();
        let find = |database: &Container, switches: &Switches, policy: &Policy| {
            let found = effective(&key, [database], switches, policy);
            (found.mode, found.protected)
        };
        assert_eq!(find(&database, &switches, &policy), (Mode::Shadow, true));
        policy.projects.entry("shop".into()).or_default().mode = Some(Mode::Heal);
        assert_eq!(find(&database, &switches, &policy), (Mode::Shadow, true));
        switches.set("shop", None, Some(Mode::Heal));
        assert_eq!(find(&database, &switches, &policy), (Mode::Shadow, true));
        let mut labelled = database.clone();
        labelled.labels.insert(labels::HEAL.into(), "true".into());
        assert_eq!(find(&labelled, &switches, &policy), (Mode::Heal, false));
        switches.set("shop", Some("web"), Some(Mode::Heal));
        assert_eq!(find(&database, &switches, &policy), (Mode::Heal, false));
        switches.set("shop", Some("web"), Some(Mode::Off));
        assert_eq!(find(&database, &switches, &policy), (Mode::Off, false));
    }

    #[test]
    fn databases_are_known_by_their_image() {
        for image in [
            "postgres",
            "postgres:17-trixie",
            "docker.io/bitnami/postgresql:16",
            "localhost:5000/mysql-server@sha256:abc",
            "timescale/timescaledb-ha:pg16",
            "tensorchord/pgvecto-rs",
            "Redis:7",
        ] {
            assert!(is_database(image), "{image}");
        }
        for image in ["nginx", "postgres.example.org/web", "shop/web:postgres", "sha256:abc", ""] {
            assert!(!is_database(image), "{image}");
        }
    }
}
