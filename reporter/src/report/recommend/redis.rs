//! Redis and its kin keep what they are given until memory ends, unless `maxmemory` is set. Whether it is can't be seen
//! from outside the container, so the first command shows it.

use super::super::facts::Facts;
use super::super::format::{bytes, percent, round_up_mib};
use super::{Change, Kind, Recommendation, Urgency, image_name, killed, memory, services, shell};

const IMAGES: [&str; 6] = ["redis", "valkey", "keydb", "redis-stack", "redis-stack-server", "dragonfly"];
/// From there on it matters: nearer to its limit than what a copy for saving may take.
const FULL: f64 = 0.6;
/// What is left of the limit for connections, fragments and the copy that saving makes.
const OF_LIMIT: f64 = 0.7;
/// Without a limit, from this size on.
const LARGE: f64 = 64.0 * 1_048_576.0;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut all = Vec::new();
    for ((project, service), container) in services(facts) {
        if !IMAGES.contains(&image_name(&container.image)) {
            continue;
        }
        let key = (project.clone(), service.clone());
        let now = container.memory.unwrap_or_default();
        let used = memory(facts, &key).map_or(now, |memory| memory.max.max(now));
        let killed = killed(facts, (&key, container)).count;
        let limit = container.memory_limit.filter(|limit| *limit > 0.0);
        let mut evidence = Vec::new();
        if killed > 0.0 {
            evidence.push("the kernel killed a process of it for memory".to_owned());
        }
        let most = match limit {
            Some(limit) if used >= FULL * limit || killed > 0.0 => {
                evidence.push(format!("has used {} of its memory limit of {}", percent(used / limit), bytes(limit)));
                limit * OF_LIMIT
            }
            None if container.memory_limit == Some(0.0) && used >= LARGE => {
                evidence.push(format!("has used {} and has no memory limit", bytes(used)));
                round_up_mib(used * 1.5)
            }
            _ => continue,
        };
        let mib = (most / 1_048_576.0).floor();
        let cli = |words: &str| format!("docker exec {} redis-cli {words}", shell(&container.name));
        evidence.push("it comes without maxmemory and drops nothing; the check shows what is set".to_owned());
        all.push(Recommendation {
            id: Kind::Redis.id(&[&project, &service]),
            kind: Kind::Redis,
            urgency: if killed > 0.0 { Urgency::Now } else { Urgency::Soon },
            title: format!("Set maxmemory of {project}/{service} to {mib:.0}mb with a policy, unless it is so"),
            evidence,
            gain:
                "it drops what was not used for longest, or refuses writes, instead of being killed with all it holds"
                    .to_owned(),
            gain_bytes: None,
            check: Some(cli("CONFIG GET 'maxmemory*'")),
            compose: None,
            commands: vec![
                cli(&format!("CONFIG SET maxmemory {mib:.0}mb")),
                // Right for a cache only: a queue must not lose anything.
                format!(
                    "{}  # a cache; for a queue or a store leave noeviction",
                    cli("CONFIG SET maxmemory-policy allkeys-lru")
                ),
                format!(
                    "{}  # without a file of settings: add both to its command in compose.yml",
                    cli("CONFIG REWRITE")
                ),
            ],
            changes: vec![Change::Redis { service: service.clone(), maxmemory_mib: mib as u64 }],
            project: Some(project),
            service: Some(service),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{MIB, hourly, name, well};

    fn redis(limit: f64, used: f64) -> Facts {
        let mut facts = well();
        let container = &mut facts.containers.as_mut().unwrap()[0];
        (container.image, container.memory_limit, container.memory) =
            ("redis:7-alpine".into(), Some(limit), Some(used));
        facts
    }

    #[test]
    fn one_that_nears_its_limit_gets_a_bound_below_it() {
        let found = recommend(&redis(200.0 * MIB, 130.0 * MIB));
        assert_eq!(found[0].title, "Set maxmemory of photos/web to 140mb with a policy, unless it is so");
        assert_eq!(found[0].evidence[0], "has used 65 % of its memory limit of 200 MiB");
        assert_eq!(found[0].check.as_deref(), Some("docker exec photos-web-1 redis-cli CONFIG GET 'maxmemory*'"));
        assert_eq!(found[0].changes, [Change::Redis { service: "web".into(), maxmemory_mib: 140 }]);
        assert_eq!(recommend(&redis(200.0 * MIB, 100.0 * MIB)), []);
    }

    #[test]
    fn one_without_a_limit_matters_once_it_is_large() {
        assert!(recommend(&redis(0.0, 100.0 * MIB))[0].evidence[0].ends_with("has no memory limit"));
        assert_eq!(recommend(&redis(0.0, 20.0 * MIB)), []);
    }

    #[test]
    fn one_that_was_killed_is_urgent_whatever_it_uses_now() {
        let mut facts = redis(200.0 * MIB, 10.0 * MIB);
        facts.measured.service_oom = [(name("photos", "web"), hourly(5, |hour| hour as f64))].into();
        assert_eq!(recommend(&facts)[0].urgency, Urgency::Now);
        facts.containers.as_mut().unwrap()[0].image = "redisinsight".into();
        assert_eq!(recommend(&facts), []);
    }
}
