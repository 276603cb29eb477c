//! Services without a health check: one that hangs looks well to everybody. One recommendation a project.

use std::collections::BTreeMap;

use super::super::facts::{Container, Facts};
use super::{Kind, Recommendation, Urgency, compose, image_name, services, up};

/// What the images themselves have for it. Others need one that only their owner knows.
fn known(image: &str) -> Option<&'static str> {
    Some(match image_name(image) {
        "postgres" | "postgis" | "pgvector" | "timescaledb" => {
            "[CMD-SHELL, \"pg_isready -U \\\"$${POSTGRES_USER:-postgres}\\\"\"]"
        }
        "redis" => "[CMD, redis-cli, ping]",
        "valkey" => "[CMD, valkey-cli, ping]",
        "mariadb" => "[CMD, healthcheck.sh, --connect, --innodb_initialized]",
        "mongo" => "[CMD, mongosh, --quiet, --eval, \"db.adminCommand('ping')\"]",
        "rabbitmq" => "[CMD, rabbitmq-diagnostics, -q, ping]",
        "traefik" => "[CMD, traefik, healthcheck, --ping]",
        _ => return None,
    })
}

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut projects: BTreeMap<String, Vec<(String, &Container)>> = BTreeMap::new();
    for ((project, service), container) in services(facts).filter(|(_, container)| container.health == "none") {
        projects.entry(project).or_default().push((service, container));
    }
    projects.into_iter().map(|(project, found)| of(project, &found)).collect()
}

fn of(project: String, found: &[(String, &Container)]) -> Recommendation {
    let names: Vec<&str> = found.iter().map(|(service, _)| service.as_str()).collect();
    let lines = |container: &Container| {
        let test = known(&container.image);
        // What it answers by, its owner knows: PORT stands for it.
        let test = test.unwrap_or("[CMD-SHELL, \"wget -qO /dev/null http://127.0.0.1:PORT/ || exit 1\"]");
        vec![
            "healthcheck:".to_owned(),
            format!("  test: {test}"),
            "  interval: 30s".to_owned(),
            "  start_period: 60s".to_owned(),
        ]
    };
    let unknown: Vec<&str> = found
        .iter()
        .filter(|(_, container)| known(&container.image).is_none())
        .map(|(service, _)| service.as_str())
        .collect();
    let mut evidence: Vec<String> =
        found.iter().map(|(service, container)| format!("{service} ({}) has none", container.image)).collect();
    if !unknown.is_empty() {
        evidence.push(format!("put in the port for PORT, or what else shows that it works: {}", unknown.join(", ")));
    }
    Recommendation {
        id: Kind::HealthCheck.id(&[&project]),
        kind: Kind::HealthCheck,
        urgency: Urgency::Sometime,
        service: if let [one] = names.as_slice() { Some((*one).to_owned()) } else { None },
        title: format!("Add a health check to {} of {project}", names.join(", ")),
        evidence,
        gain: "a service that hangs is seen and healed; without one only a service that exits is".to_owned(),
        gain_bytes: None,
        check: None,
        compose: Some(compose(found.iter().map(|(service, container)| (service.as_str(), lines(container))))),
        commands: vec![up(names.iter().copied())],
        // What shows that it works, its owner knows.
        changes: Vec::new(),
        project: Some(project),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{container, well};

    #[test]
    fn services_without_a_check_are_told_together_with_what_their_images_have() {
        let mut facts = well();
        let mut database = container("photos", "db");
        (database.image, database.health) = ("postgres:17".into(), "none".into());
        let containers = facts.containers.as_mut().unwrap();
        containers[0].health = "none".into();
        containers.push(database);
        let found = recommend(&facts);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "Add a health check to db, web of photos");
        let compose = found[0].compose.as_deref().unwrap();
        assert!(compose.contains("pg_isready") && compose.contains("127.0.0.1:PORT"), "{compose}");
        assert_eq!(
            found[0].evidence.last().unwrap(),
            "put in the port for PORT, or what else shows that it works: web"
        );
    }

    #[test]
    fn those_with_one_and_those_that_do_not_run_are_left_alone() {
        for health in ["starting", "healthy", "unhealthy", ""] {
            let mut facts = well();
            facts.containers.as_mut().unwrap()[0].health = health.into();
            assert_eq!(recommend(&facts), [], "{health}");
        }
        let mut facts = well();
        let container = &mut facts.containers.as_mut().unwrap()[0];
        (container.health, container.state) = ("none".into(), "exited".into());
        assert_eq!(recommend(&facts), []);
    }
}
