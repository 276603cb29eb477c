//! Services without a health check: one that hangs looks well to everybody. One recommendation a project.

use std::collections::BTreeMap;

use super::super::facts::{Container, Facts};
use super::{Kind, Recommendation, Urgency, compose, image_name, services, shell, up};

/// A line for the container's shell that succeeds while the service works.
struct Test {
    command: &'static str,
    /// What it needs that not every container has.
    needs: Option<&'static str>,
}

/// What the images themselves have for it.
fn known(image: &str) -> Option<Test> {
    let (command, needs) = match image_name(image) {
        "postgres" | "postgis" | "pgvector" | "timescaledb" => ("pg_isready -U \"${POSTGRES_USER:-postgres}\"", None),
        "redis" => ("redis-cli ping", None),
        "valkey" => ("valkey-cli ping", None),
        "mariadb" => (
            "healthcheck.sh --connect --innodb_initialized",
            Some("data from before June 2023 has no user for it; MARIADB_AUTO_UPGRADE=1 in its environment adds one"),
        ),
        // Up to version 4.4, the last for a Pi 4 and older, its shell has another name.
        "mongo" => (
            "$(command -v mongosh || command -v mongo) --quiet --eval 'db.adminCommand(\"ping\").ok' | grep -qx 1",
            None,
        ),
        "rabbitmq" => ("rabbitmq-diagnostics -q ping", None),
        "traefik" => (
            "traefik healthcheck --ping",
            Some("it answers only with ping switched on in its own settings (--ping=true in its command)"),
        ),
        _ => return None,
    };
    Some(Test { command, needs })
}

/// Others need one that only their owner knows: PORT stands for what it answers by.
const UNKNOWN: Test = Test {
    command: "wget -qO /dev/null http://127.0.0.1:PORT/ || curl -fsSo /dev/null http://127.0.0.1:PORT/ || exit 1",
    needs: Some("put in the port for PORT, or what else shows that it works; the image needs wget or curl for it"),
};

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut projects: BTreeMap<String, Vec<(String, &Container)>> = BTreeMap::new();
    for ((project, service), container) in services(facts).filter(|(_, container)| container.health == "none") {
        projects.entry(project).or_default().push((service, container));
    }
    projects.into_iter().map(|(project, found)| of(project, &found)).collect()
}

fn of(project: String, found: &[(String, &Container)]) -> Recommendation {
    let names: Vec<&str> = found.iter().map(|(service, _)| service.as_str()).collect();
    let test = |container: &Container| known(&container.image).unwrap_or(UNKNOWN);
    let lines = |container: &Container| {
        // Compose takes a dollar for a variable of its own.
        let command = serde_json::Value::from(test(container).command.replace('$', "$$"));
        vec![
            "healthcheck:".to_owned(),
            format!("  test: [CMD-SHELL, {command}]"),
            "  interval: 30s".to_owned(),
            "  start_period: 60s".to_owned(),
        ]
    };
    let attempt = |(_, container): &(String, &Container)| {
        format!("docker exec {} sh -c {}", shell(&container.name), shell(test(container).command))
    };
    let attempts: Vec<String> = found.iter().map(attempt).collect();
    let mut evidence: Vec<String> =
        found.iter().map(|(service, container)| format!("{service} ({}) has none", container.image)).collect();
    let needs = found.iter().filter_map(|(service, container)| Some(format!("{service}: {}", test(container).needs?)));
    evidence.extend(needs);
    // A check that fails for another reason than the service's does harm.
    evidence.push(
        "add it only if the check says ok now: healing restarts what its health check calls unhealthy".to_owned(),
    );
    Recommendation {
        id: Kind::HealthCheck.id(&[&project]),
        kind: Kind::HealthCheck,
        urgency: Urgency::Sometime,
        service: if let [one] = names.as_slice() { Some((*one).to_owned()) } else { None },
        title: format!("Add a health check to {} of {project}", names.join(", ")),
        evidence,
        gain: "a service that hangs is seen and healed; without one only a service that exits is".to_owned(),
        gain_bytes: None,
        check: Some(format!("{} && echo ok", attempts.join(" && "))),
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
            found[0].evidence,
            [
                "db (postgres:17) has none",
                "web (registry.example/web:1) has none",
                "web: put in the port for PORT, or what else shows that it works; the image needs wget or curl for it",
                "add it only if the check says ok now: healing restarts what its health check calls unhealthy",
            ]
        );
    }

    /// The recommendation for photos/web of that image.
    fn of_image(image: &str) -> Recommendation {
        let mut facts = well();
        let container = &mut facts.containers.as_mut().unwrap()[0];
        (container.image, container.health) = (image.into(), "none".into());
        recommend(&facts).remove(0)
    }

    const IMAGES: [&str; 8] =
        ["postgres:17", "redis:7", "valkey:8", "mariadb:11", "mongo:4.4", "rabbitmq:4", "traefik:v3", "web:1"];

    #[test]
    fn what_is_tried_first_is_what_is_set() {
        for image in IMAGES {
            let found = of_image(image);
            let compose = found.compose.unwrap();
            let line = compose.lines().find_map(|line| line.trim().strip_prefix("test: [CMD-SHELL, ")).unwrap();
            let set: String = serde_json::from_str(line.strip_suffix(']').unwrap()).unwrap();
            assert!(!set.replace("$$", "").contains('$'), "{set}");
            let tried = format!("docker exec photos-web-1 sh -c {} && echo ok", shell(&set.replace("$$", "$")));
            assert_eq!(found.check.unwrap(), tried);
        }
    }

    #[test]
    fn what_a_check_needs_is_said() {
        for (image, expected) in
            [("mariadb:11", "MARIADB_AUTO_UPGRADE=1"), ("traefik:v3", "--ping=true"), ("a", "wget")]
        {
            let evidence = of_image(image).evidence;
            assert!(evidence.iter().any(|it| it.starts_with("web: ") && it.contains(expected)), "{evidence:?}");
        }
        assert_eq!(of_image("redis:7").evidence.len(), 2);
    }

    /// Whether what is tried succeeds in a container that has these programs.
    fn succeeds(image: &str, programs: &[(&str, &str)]) -> bool {
        // Docker's place is taken by a shell that knows the programs as functions, and has none but those.
        let mut script = "docker() { shift 4; (eval \"$1\"); }\ngrep() { /bin/grep \"$@\"; }\n".to_owned();
        script.extend(programs.iter().map(|(name, does)| format!("{name}() {{ {does}; }}\n")));
        script.push_str(&of_image(image).check.unwrap());
        let mut shell = std::process::Command::new("/bin/sh");
        let done = shell.args(["-c", &script]).env_clear().env("PATH", "/nonexistent").output().unwrap();
        assert_eq!(done.status.success(), done.stdout.ends_with(b"ok\n"), "{done:?}");
        done.status.success()
    }

    #[test]
    fn mongo_is_asked_by_the_shell_that_its_image_has() {
        // Nothing but a ping.
        let answers = "case \"$*\" in *'--eval db.adminCommand(\"ping\").ok') echo 1 ;; *) return 3 ;; esac";
        let refused = "echo 'connect ECONNREFUSED 127.0.0.1:27017'; return 1";
        for shell in ["mongo", "mongosh"] {
            assert!(succeeds("mongo:4.4", &[(shell, answers)]), "{shell}");
            assert!(!succeeds("mongo:4.4", &[(shell, refused)]), "{shell}");
        }
        // Where there are both, the newer one.
        assert!(succeeds("mongo:4.4", &[("mongo", refused), ("mongosh", answers)]));
        assert!(!succeeds("mongo:4.4", &[]));
    }

    #[test]
    fn an_unknown_image_is_asked_with_what_it_has() {
        for (programs, expected) in [
            (&[("wget", "return 0")][..], true),
            (&[("curl", "return 0")], true),
            (&[("wget", "return 8"), ("curl", "return 22")], false),
            (&[], false),
        ] {
            assert_eq!(succeeds("web:1", programs), expected, "{programs:?}");
        }
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
