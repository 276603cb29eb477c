//! What keeps a service from being well that healing does not act on, in a sentence: Docker restarts it again and again, or it
//! was created and never started. Pure.

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Status};
use nexus_model::Refusal;

use crate::{
    facts::{self, ContainerFacts},
    redact,
};

/// Compose creates all containers of a project before it starts the first: one this young may be about to start.
const MAY_BE_STARTING: SignedDuration = SignedDuration::from_mins(1);
/// So often must Docker have restarted one that runs, and so young must its run be, before it is said to be restarted again and
/// again: once or twice may be chance, and what has run for longer has come to rest.
const AGAIN_AND_AGAIN: i64 = 3;
const YOUNG_RUN: SignedDuration = SignedDuration::from_mins(5);
/// Bytes of Docker's own error.
const LONGEST_ERROR: usize = 200;

const LEFT_TO_DOCKER: &str = "healing does not act on what Docker's own restart policy restarts";

/// What is the matter with the first of its containers that is stuck, if one is.
pub fn of(containers: &[ContainerFacts], now: Timestamp) -> Option<String> {
    let theirs = containers.iter().filter(|seen| !seen.container.is_one_off());
    theirs.clone().find_map(|seen| {
        let told = told(&seen.container, now)?;
        Some(if theirs.clone().count() > 1 { format!("{}: {told}", seen.container.name) } else { told })
    })
}

/// Why nothing is done about a service, with what is known of it.
pub fn words(why: Refusal, containers: &[ContainerFacts], now: Timestamp) -> String {
    match (why, of(containers, now)) {
        (Refusal::DockerRestarting, Some(stuck)) => format!("{stuck}; {LEFT_TO_DOCKER}"),
        (Refusal::Starting | Refusal::NeverStarted | Refusal::AlreadyWell, Some(stuck)) => stuck,
        _ => why.words().to_owned(),
    }
}

fn told(container: &Container, now: Timestamp) -> Option<String> {
    let is_older_than = |at: Option<Timestamp>, age| at.is_some_and(|at| now.duration_since(at) >= age);
    let restarts = container.restart_count;
    match container.status {
        Status::Restarting => {
            let code = container.exit_code;
            let meaning = match facts::meaning_of_exit(container) {
                "" => by_custom(code),
                meaning => meaning,
            };
            let why = docker_says(container).unwrap_or_else(|| "its log says why".to_owned());
            // Of the first no one can say that there will be more.
            let often = match restarts {
                ..=1 => "Docker is restarting it, it ended".to_owned(),
                _ => format!("Docker restarts it again and again: {restarts} times, last"),
            };
            Some(format!("{often} with exit code {code}{meaning}; {why}"))
        }
        Status::Running if restarts >= AGAIN_AND_AGAIN && !is_older_than(container.started_at, YOUNG_RUN) => {
            Some(format!(
                "Docker restarts it again and again: {restarts} times, and it runs at the moment; its log says why it ended"
            ))
        }
        Status::Created if container.started_at.is_none() && is_older_than(container.created_at, MAY_BE_STARTING) => {
            let error = docker_says(container).map(|error| format!(". {error}")).unwrap_or_default();
            Some(format!(
                "it was created and never started{error}; docker compose up -d in its project's folder shows why"
            ))
        }
        _ => None,
    }
}

fn docker_says(container: &Container) -> Option<String> {
    let error = redact::cut(&redact::line(&container.error), LONGEST_ERROR);
    (!error.trim().is_empty()).then(|| format!("Docker says: {error}"))
}

/// Codes that many programs keep to (sysexits.h), and none has to.
fn by_custom(code: i64) -> &'static str {
    match code {
        64 => " (by custom: started with wrong arguments)",
        66 => " (by custom: a file that it needs is missing)",
        69 => " (by custom: something that it needs is not available)",
        73 => " (by custom: it can't create a file)",
        74 => " (by custom: an error while reading or writing)",
        77 => " (by custom: it lacks a permission)",
        78 => " (by custom: its configuration is wrong)",
        _ => "",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, container, exited, seen, wall};

    fn loops(code: i64, times: i64) -> Container {
        Container { status: Status::Restarting, restart_count: times, ..exited(code) }
    }

    #[test]
    fn what_was_created_and_never_started_is_told_once_it_is_old_enough() {
        let created = |error: &str, ago: i64| Container {
            status: Status::Created,
            error: error.into(),
            created_at: wall(-ago),
            started_at: None,
            ..container()
        };
        let check = |container: Container, expected: Option<&str>, why: &str| {
            let containers = [seen(container)];
            assert_eq!(of(&containers, at(0).wall).as_deref(), expected);
            assert_eq!(words(Refusal::Starting, &containers, at(0).wall), expected.unwrap_or(why));
        };
        check(created("", 59), None, "still starting");
        let plain = "it was created and never started; docker compose up -d in its project's folder shows why";
        check(created("", 60), Some(plain), "");
        let told = "it was created and never started. Docker says: exec: \"nope\": executable file not found in $PATH; \
                    docker compose up -d in its project's folder shows why";
        check(created("exec: \"nope\": executable file not found in $PATH", 3600), Some(told), "");
        check(Container { created_at: None, ..created("", 60) }, None, "still starting");
        // Once started it is no news that it was created.
        check(Container { started_at: wall(-50), ..created("", 60) }, None, "still starting");
    }

    #[test]
    fn what_docker_restarts_is_told_with_how_often_and_its_exit_code() {
        let check = |container: Container, expected: Option<&str>| {
            assert_eq!(of(&[seen(container)], at(0).wall).as_deref(), expected);
        };
        let again = "Docker restarts it again and again: ";
        let told = |rest: &str| format!("{again}{rest}");
        check(
            loops(78, 22),
            Some(&told("22 times, last with exit code 78 (by custom: its configuration is wrong); its log says why")),
        );
        check(loops(3, 1), Some("Docker is restarting it, it ended with exit code 3; its log says why"));
        check(loops(139, 2), Some(&told("2 times, last with exit code 139 (segmentation fault); its log says why")));
        let error = "port is already allocated".to_owned();
        check(
            Container { error, ..loops(128, 4) },
            Some(&told("4 times, last with exit code 128; Docker says: port is already allocated")),
        );
        // Between two restarts it runs.
        let runs = |times, since| Container { restart_count: times, started_at: wall(since), ..container() };
        check(runs(22, -15), Some(&told("22 times, and it runs at the moment; its log says why it ended")));
        check(runs(22, -300), None);
        check(runs(2, -15), None);
        check(exited(78), None);
        // Of several the one that is meant is named.
        let two = [seen(container()), seen(Container { name: "shop-web-2".into(), ..loops(3, 1) })];
        assert!(of(&two, at(0).wall).unwrap().starts_with("shop-web-2: Docker is restarting it"));
        // That healing keeps out of it is said where it is told why nothing is done.
        let words = words(Refusal::DockerRestarting, &two, at(0).wall);
        assert!(
            words.ends_with("; its log says why; healing does not act on what Docker's own restart policy restarts")
        );
        assert_eq!(super::words(Refusal::Paused, &two, at(0).wall), "paused");
        assert_eq!(super::words(Refusal::AlreadyWell, &[seen(container())], at(0).wall), "it is well");
    }
}
