//! Logs that grow without bound. Docker's `json-file` keeps everything unless `max-size` is set, and what is set can't be seen from
//! outside: a log that is large and was never cut in all the time that is known has no rotation, or none that helps.

use std::collections::BTreeMap;

use super::super::facts::{Container, Facts, ServiceName};
use super::super::format::{bytes, count};
use super::{Change, Kind, Recommendation, Urgency, compose, owners, shell, up};

/// Smaller is nobody's business.
const LARGE: f64 = 20.0 * 1_048_576.0;
/// No sensible rotation keeps that much of one container, whether it was seen to grow or not.
const VERY_LARGE: f64 = 500.0 * 1_048_576.0;
/// What it is cut to: three files.
const MAX_SIZE: &str = "10m";
const MAX_FILES: u32 = 3;
const KEPT: f64 = 30.0 * 1_048_576.0;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    // One a service: of replicas the one with the largest log.
    let mut all: BTreeMap<ServiceName, Recommendation> = BTreeMap::new();
    for container in owners(facts).filter(|it| it.log_driver.as_deref() == Some("json-file")) {
        let Some(found) = of(facts, container) else { continue };
        let larger = |known: &Recommendation| known.gain_bytes >= found.gain_bytes;
        let service = (container.project.clone(), container.service.clone());
        if !all.get(&service).is_some_and(larger) {
            all.insert(service, found);
        }
    }
    all.into_values().collect()
}

fn of(facts: &Facts, container: &Container) -> Option<Recommendation> {
    let size = container.log_bytes.filter(|size| *size >= LARGE)?;
    let known = facts.measured.log_bytes.get(&container.name);
    let growing = known.filter(|series| series.days() >= 1.0 && !series.ever_fell());
    let cut = known.is_some_and(super::super::facts::Series::ever_fell);
    // A container that was made anew looks like a log that was cut, so of a very large one it is no excuse.
    if size < VERY_LARGE && (cut || growing.is_none()) {
        return None;
    }
    let a_day = growing.map(|series| series.increase() / series.days());
    let kept = if cut { "although it was cut or begun anew" } else { "and is kept whole" };
    let mut evidence = vec![format!("its log is {} {kept} (json-file)", bytes(size))];
    if let (Some(series), Some(a_day)) = (growing, a_day) {
        let days = count(format_args!("{:.0}", series.days()), "day");
        evidence.push(format!("{} more each day, and never cut in {days}", bytes(a_day)));
    }
    let (project, service) = (&container.project, &container.service);
    let grows = a_day.filter(|a_day| *a_day > 1_048_576.0);
    let then = grows.map_or_else(String::new, |a_day| format!(", and {} less each year", bytes(a_day * 365.0)));
    let lines = vec![
        "logging:".to_owned(),
        "  driver: json-file".to_owned(),
        format!("  options: {{max-size: {MAX_SIZE}, max-file: \"{MAX_FILES}\"}}"),
    ];
    Some(Recommendation {
        id: Kind::LogRotation.id(&[project, service]),
        kind: Kind::LogRotation,
        urgency: if size >= VERY_LARGE { Urgency::Soon } else { Urgency::Sometime },
        project: Some(project.clone()),
        service: Some(service.clone()),
        title: format!("Bound the log of {project}/{service}"),
        evidence,
        gain: format!("{} now{then}", bytes((size - KEPT).max(0.0))),
        gain_bytes: Some((size - KEPT).max(0.0)),
        check: Some(format!("docker inspect -f '{{{{.HostConfig.LogConfig}}}}' {}", shell(&container.name))),
        compose: Some(compose([(service.as_str(), lines)])),
        // It is recreated, and the old log goes with the old container.
        commands: vec![up([service.as_str()])],
        changes: vec![Change::LogRotation {
            service: service.clone(),
            max_size: MAX_SIZE.to_owned(),
            max_files: MAX_FILES,
        }],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{MIB, hourly, well};

    fn log(driver: &str, mib: f64) -> Facts {
        let mut facts = well();
        let container = &mut facts.containers.as_mut().unwrap()[0];
        (container.log_driver, container.log_bytes) = (Some(driver.into()), Some(mib * MIB));
        facts
    }

    fn growing(mut facts: Facts, hours: usize, cut_at: usize) -> Facts {
        let series = hourly(hours, |hour| (if hour >= cut_at { hour - cut_at } else { hour }) as f64 * MIB);
        facts.measured.log_bytes = [("photos-web-1".to_owned(), series)].into();
        facts
    }

    #[test]
    fn a_log_that_only_grows_is_bounded() {
        let found = recommend(&growing(log("json-file", 96.0), 97, 1000));
        assert_eq!(found[0].title, "Bound the log of photos/web");
        assert_eq!(found[0].evidence[1], "24 MiB more each day, and never cut in 4 days");
        assert_eq!(found[0].gain, "66 MiB now, and 8.6 GiB less each year");
        assert_eq!(
            found[0].compose.as_deref(),
            Some(
                "services:\n  web:\n    logging:\n      driver: json-file\n      options: {max-size: 10m, max-file: \"3\"}\n"
            )
        );
    }

    #[test]
    fn of_replicas_the_one_with_the_largest_log_speaks_for_all() {
        let mut facts = log("json-file", 600.0);
        let second = Container {
            name: "photos-web-2".into(),
            log_bytes: Some(900.0 * MIB),
            ..facts.containers.as_ref().unwrap()[0].clone()
        };
        facts.containers.as_mut().unwrap().push(second);
        let found = recommend(&facts);
        assert_eq!((found.len(), found[0].gain.as_str()), (1, "870 MiB now"));
        assert!(matches!(&found[0].changes[..], [Change::LogRotation { service, .. }] if service == "web"));
    }

    #[test]
    fn one_that_is_cut_is_not_nor_a_small_one() {
        assert_eq!(recommend(&growing(log("json-file", 96.0), 97, 50)), []);
        assert_eq!(recommend(&growing(log("json-file", 10.0), 97, 1000)), []);
        assert_eq!(recommend(&growing(log("journald", 96.0), 97, 1000)), []);
        // A few hours tell nothing, but its size may.
        assert_eq!(recommend(&growing(log("json-file", 96.0), 12, 1000)), []);
        assert_eq!(recommend(&growing(log("json-file", 900.0), 12, 1000))[0].urgency, Urgency::Soon);
    }

    #[test]
    fn a_container_that_was_made_anew_hides_no_very_large_log() {
        let found = recommend(&growing(log("json-file", 900.0), 97, 50));
        assert_eq!(found[0].evidence, ["its log is 900 MiB although it was cut or begun anew (json-file)"]);
        assert_eq!((found[0].urgency, found[0].gain.as_str()), (Urgency::Soon, "870 MiB now"));
    }
}
