//! Images that need a yes for the very service: databases, which hold data that an ill-timed restart can harm, and those that the
//! policy names.

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

/// Whether a pattern of the policy means this image: `*` stands for anything. A pattern without `/` is compared with the last
/// part of the image's name, and one without a tag with the name alone.
pub fn is_meant(pattern: &str, image: &str) -> bool {
    let (pattern, image) = (pattern.to_ascii_lowercase(), image.to_ascii_lowercase());
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or(image);
    let untagged = |name: &str| {
        // A colon before the last slash belongs to the registry's port.
        let end = name.rfind(':').filter(|colon| !name[*colon..].contains('/')).unwrap_or(name.len());
        name[..end].to_owned()
    };
    [image.to_owned(), untagged(image), last.to_owned(), untagged(last)].iter().any(|name| matches(&pattern, name))
}

/// `*` stands for any text. Takes at most one step for each pair of characters, however many stars there are.
fn matches(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let Some(first) = parts.next() else { return text.is_empty() };
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let mut last = None;
    for part in parts {
        // The part before is followed by another star: its first occurrence leaves the most for what comes.
        if let Some(middle) = last.replace(part) {
            let Some(at) = rest.find(middle) else { return false };
            rest = &rest[at + middle.len()..];
        }
    }
    match last {
        Some(end) => rest.ends_with(end),
        None => rest.is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_images() {
        for (pattern, image) in [
            ("mydb", "mydb"),
            ("mydb", "registry:5000/team/mydb:7"),
            ("MyDB", "mydb@sha256:abc"),
            ("team/*", "team/web:1"),
            ("ghcr.io/*/store", "ghcr.io/me/store:2"),
            ("mydb:7", "team/mydb:7"),
            ("*", "anything"),
            ("*-data-*", "my-data-store"),
            ("a*b*c", "aXbYbZc"),
        ] {
            assert!(is_meant(pattern, image), "{pattern} {image}");
        }
        for (pattern, image) in [
            ("mydb", "mydb2"),
            ("mydb", "mydb/web"),
            ("mydb:7", "mydb:8"),
            ("team/*", "other/team/web"),
            ("a*b*c", "acb"),
            ("ab*ba", "aba"),
            ("", "web"),
        ] {
            assert!(!is_meant(pattern, image), "{pattern} {image}");
        }
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
