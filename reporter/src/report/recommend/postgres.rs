//! PostgreSQL's memory against what it may use of the machine. Its settings can't be seen from outside its container: what
//! is known is the memory that it has and how it does with it, so the first command shows what is set.

use super::super::facts::Facts;
use super::super::format::{bytes, percent};
use super::{Change, Kind, Recommendation, Urgency, image_name, killed, memory, services, shell};

const IMAGES: [&str; 6] = ["postgres", "postgresql", "postgis", "timescaledb", "timescaledb-ha", "pgvector"];
/// What PostgreSQL comes with (postgresql.conf.sample, shared_buffers).
const SHIPPED: f64 = 128.0 * 1_048_576.0;
/// A quarter is what PostgreSQL's manual calls a reasonable start for shared_buffers.
const SHARE: f64 = 0.25;
/// Without a limit: one of several projects on a machine.
const OF_MACHINE: f64 = 0.25;
/// Below that it hardly reads from disk, and more memory would change nothing.
const READS_A_DAY: f64 = 2.0 * 1_073_741_824.0;
/// So much of its limit in use, and buffers that are a third of it are too many.
const FULL: f64 = 0.6;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut all = Vec::new();
    for ((project, service), container) in services(facts) {
        if !IMAGES.contains(&image_name(&container.image)) {
            continue;
        }
        let limit = container.memory_limit.filter(|limit| *limit > 0.0);
        let Some(may_use) = limit.or_else(|| facts.machine.memory_total.map(|total| total * OF_MACHINE)) else {
            continue;
        };
        let key = (project.clone(), service.clone());
        let reads = facts.measured.service_reads.get(&key).filter(|series| series.days() >= 1.0);
        let reads_a_day = reads.map_or(0.0, |series| series.increase() / series.days());
        let used = memory(facts, &key).map_or(0.0, |memory| memory.working_set);
        let killed = killed(facts, (&key, container)).count;
        let wanted = megabytes(may_use * SHARE);
        let whose = match limit {
            Some(limit) => format!("it may use {} (its memory limit)", bytes(limit)),
            None => format!("it has no memory limit; a quarter of the machine is {}", bytes(may_use)),
        };
        let (evidence, gain) = if may_use * SHARE >= 2.0 * SHIPPED && reads_a_day >= READS_A_DAY {
            let read = format!("it reads {} from disk each day", bytes(reads_a_day));
            (
                vec![read, whose],
                "more of it is read from memory; on a card or disk that is what it waits for most".to_owned(),
            )
        } else if limit.is_some_and(|limit| SHIPPED > limit / 3.0 && (used >= FULL * limit || killed > 0.0)) {
            let part = percent(used / may_use);
            let mut evidence = vec![format!("it has used {part} of its memory limit"), whose];
            if killed > 0.0 {
                evidence.insert(0, "the kernel killed a process of it for memory".to_owned());
            }
            (evidence, "the buffers leave room for connections and sorts below its limit".to_owned())
        } else {
            continue;
        };
        let psql = |statement: &str| {
            // The user is the image's own variable, which only the container knows.
            let inner = format!("psql -U \"${{POSTGRES_USER:-postgres}}\" -d postgres -c \"{statement}\"");
            format!("docker exec {} sh -c {}", shell(&container.name), shell(&inner))
        };
        let mut evidence = evidence;
        evidence.push(format!("PostgreSQL comes with {} unless it was set; the check shows it", bytes(SHIPPED)));
        all.push(Recommendation {
            id: Kind::Postgres.id(&[&project, &service]),
            kind: Kind::Postgres,
            urgency: Urgency::Soon,
            title: format!("Set PostgreSQL's shared_buffers of {project}/{service} to {wanted}MB, unless it is so"),
            evidence,
            gain,
            gain_bytes: None,
            check: Some(psql("SHOW shared_buffers")),
            compose: None,
            commands: vec![
                psql(&format!("ALTER SYSTEM SET shared_buffers = '{wanted}MB'")),
                psql(&format!("ALTER SYSTEM SET effective_cache_size = '{}MB'", megabytes(may_use * 0.6))),
                format!("docker compose restart {}", shell(&service)),
            ],
            changes: vec![Change::Postgres { service: service.clone(), memory_mib: super::mib(may_use) }],
            project: Some(project),
            service: Some(service),
        });
    }
    all
}

fn megabytes(bytes: f64) -> f64 {
    (bytes / 1_048_576.0 / 16.0).floor().max(1.0) * 16.0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{GIB, MIB, hourly, name, well};

    fn database(limit: f64, reads_a_day: f64, used: f64) -> Facts {
        let mut facts = well();
        let container = &mut facts.containers.as_mut().unwrap()[0];
        (container.image, container.memory_limit) = ("docker.io/library/postgres:17".into(), Some(limit));
        let key = || name("photos", "web");
        facts.measured.service_reads = [(key(), hourly(49, |hour| hour as f64 / 24.0 * reads_a_day))].into();
        facts.measured.service_working_set = [(key(), hourly(49, |_| used))].into();
        facts
    }

    #[test]
    fn one_that_reads_much_and_may_use_more_gets_more() {
        let found = recommend(&database(2.0 * GIB, 5.0 * GIB, 300.0 * MIB));
        assert_eq!(found[0].title, "Set PostgreSQL's shared_buffers of photos/web to 512MB, unless it is so");
        assert_eq!(found[0].evidence[0], "it reads 5.0 GiB from disk each day");
        assert_eq!(found[0].changes, [Change::Postgres { service: "web".into(), memory_mib: 2048 }]);
        assert_eq!(
            found[0].check.as_deref(),
            Some(
                "docker exec photos-web-1 sh -c 'psql -U \"${POSTGRES_USER:-postgres}\" -d postgres -c \"SHOW shared_buffers\"'"
            )
        );
        assert!(
            found[0].commands[0].contains("-c '\\''") || found[0].commands[0].contains("'\\''512MB'\\''"),
            "{:?}",
            found[0].commands
        );
        assert_eq!(recommend(&database(2.0 * GIB, GIB, 300.0 * MIB)), []);
        // No limit: a quarter of the machine of 4 GiB, and a quarter of that.
        assert!(recommend(&database(0.0, 5.0 * GIB, 300.0 * MIB))[0].title.contains("256MB"));
    }

    #[test]
    fn one_that_is_close_to_a_small_limit_gets_less() {
        let found = recommend(&database(256.0 * MIB, 0.0, 200.0 * MIB));
        assert_eq!(found[0].title, "Set PostgreSQL's shared_buffers of photos/web to 64MB, unless it is so");
        assert_eq!(recommend(&database(256.0 * MIB, 0.0, 100.0 * MIB)), []);
        assert_eq!(recommend(&database(512.0 * MIB, 0.0, 500.0 * MIB)), []);
    }

    #[test]
    fn other_images_are_none() {
        let mut facts = database(2.0 * GIB, 5.0 * GIB, 300.0 * MIB);
        facts.containers.as_mut().unwrap()[0].image = "postgres-exporter:1".into();
        assert_eq!(recommend(&facts), []);
    }
}
