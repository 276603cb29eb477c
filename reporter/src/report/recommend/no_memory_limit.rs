//! Services without any memory limit: one that leaks takes the whole machine with it. One recommendation a project.

use std::collections::BTreeMap;

use super::super::facts::{Container, Facts, ServiceName};
use super::super::format::{bytes, compose_mib, count, percent, round_up_mib};
use super::memory_limit::TIGHT;
use super::{Change, Kind, Memory, Recommendation, Urgency, compose, largest_limit, memory, services, shell, up};

/// A limit from less than a day would be a guess, and one that is too small does harm.
const LEAST_DAYS: f64 = 1.0;
/// Until a week is known, more room than afterwards.
const WEEK: f64 = 7.0;
const ROOM_BEFORE: f64 = 3.0;
const ROOM: f64 = 2.0;
/// Without a limit, this much of the machine in one service is worth a sooner look.
const MUCH: f64 = 0.25;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    // Limits would have no effect; that has a recommendation of its own.
    if facts.machine.memory_cgroup == Some(false) {
        return Vec::new();
    }
    let mut projects: BTreeMap<String, Vec<(ServiceName, &Container, Memory)>> = BTreeMap::new();
    for (service, container) in services(facts) {
        // One that would be tight from the first day on does harm: what takes most of the machine has none.
        let fits = |memory: &Memory| used(memory) <= TIGHT * largest_limit(facts);
        let known = memory(facts, &service).filter(|memory| memory.days >= LEAST_DAYS && fits(memory));
        if let (Some(0.0), Some(memory)) = (container.memory_limit, known) {
            projects.entry(service.0.clone()).or_default().push((service, container, memory));
        }
    }
    projects.into_iter().map(|(project, services)| of_project(facts, project, &services)).collect()
}

fn used(memory: &Memory) -> f64 {
    memory.working_set.max(memory.max)
}

fn of_project(facts: &Facts, project: String, services: &[(ServiceName, &Container, Memory)]) -> Recommendation {
    let fits = |memory: &Memory| {
        let room = if memory.days < WEEK { ROOM_BEFORE } else { ROOM };
        round_up_mib(used(memory) * room).min(largest_limit(facts))
    };
    let wanted = |memory: &Memory| compose_mib(fits(memory));
    let names: Vec<&str> = services.iter().map(|(service, ..)| service.1.as_str()).collect();
    let largest = services.iter().map(|(.., memory)| memory.working_set).fold(0.0, f64::max);
    let total = facts.machine.memory_total;
    let much = total.is_some_and(|total| largest > MUCH * total);
    let early = services.iter().any(|(.., memory)| memory.days < WEEK);
    let mut evidence: Vec<String> = services
        .iter()
        .map(|((_, service), _, memory)| {
            let part = total
                .map_or_else(String::new, |total| format!(", {} of the machine", percent(memory.working_set / total)));
            format!(
                "{service}: no limit; at most {}{part}, over {}",
                bytes(memory.working_set),
                count(format_args!("{:.0}", memory.days.max(1.0)), "day")
            )
        })
        .collect();
    // As with a limit that is too small.
    evidence.extend(early.then(|| "not a week is known yet: look again later".to_owned()));
    let lines = services
        .iter()
        .map(|(service, _, memory)| (service.1.as_str(), vec![format!("mem_limit: {}", wanted(memory))]));
    let update = services.iter().map(|(_, container, memory)| {
        let mib = wanted(memory);
        format!("docker update --memory {mib} --memory-swap {mib} {}", shell(&container.name))
    });
    let mut commands: Vec<String> = update.collect();
    commands.push(up(names.iter().copied()));
    let (service, title) = match names.as_slice() {
        [one] => (Some((*one).to_owned()), format!("Give {project}/{one} a memory limit")),
        many => (None, format!("Give the {} services of {project} without a memory limit one each", many.len())),
    };
    let limit = |((_, service), _, memory): &(ServiceName, &Container, Memory)| Change::MemoryLimit {
        service: service.clone(),
        mib: super::mib(fits(memory)),
    };
    let changes = services.iter().map(limit).collect();
    Recommendation {
        // Of the project, however many of its services have none.
        id: Kind::NoMemoryLimit.id(&[&project]),
        kind: Kind::NoMemoryLimit,
        urgency: if much { Urgency::Soon } else { Urgency::Sometime },
        project: Some(project),
        service,
        title,
        evidence,
        gain: "a leak ends in a restart of that one service instead of a machine that stands still".to_owned(),
        gain_bytes: Some(largest),
        check: None,
        compose: Some(compose(lines)),
        commands,
        changes,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{MIB, container, hourly, name, well};

    fn unlimited(hours: usize) -> Facts {
        let mut facts = well();
        facts.containers.as_mut().unwrap()[0].memory_limit = Some(0.0);
        facts.measured.service_working_set = [(name("photos", "web"), hourly(hours, |_| 100.0 * MIB))].into();
        facts
    }

    #[test]
    fn what_has_no_limit_gets_one_from_what_it_used() {
        let found = recommend(&unlimited(240));
        assert_eq!(found[0].title, "Give photos/web a memory limit");
        assert_eq!(found[0].evidence, ["web: no limit; at most 100 MiB, 2 % of the machine, over 10 days"]);
        assert_eq!(found[0].compose.as_deref(), Some("services:\n  web:\n    mem_limit: 224m\n"));
        // More room while not a week is known, and no guess from less than a day.
        let early = &recommend(&unlimited(72))[0];
        assert_eq!(early.compose.as_deref(), Some("services:\n  web:\n    mem_limit: 320m\n"));
        assert_eq!(early.evidence[1..], ["not a week is known yet: look again later"]);
        assert_eq!(recommend(&unlimited(12)), []);
    }

    #[test]
    fn services_of_a_project_are_told_together() {
        let mut facts = unlimited(240);
        facts.containers.as_mut().unwrap().push(container("photos", "db"));
        assert_eq!(recommend(&facts)[0].service.as_deref(), Some("web"));
        facts.containers.as_mut().unwrap()[1].memory_limit = Some(0.0);
        facts.measured.service_working_set.insert(name("photos", "db"), hourly(240, |_| 2000.0 * MIB));
        let found = recommend(&facts);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].title, "Give the 2 services of photos without a memory limit one each");
        assert_eq!((found[0].urgency, &found[0].service), (Urgency::Soon, &None));
        assert_eq!(found[0].commands.last().unwrap(), "docker compose up -d db web");
        let limit = |service: &str, mib| Change::MemoryLimit { service: service.into(), mib };
        assert_eq!(found[0].changes, [limit("db", 3072), limit("web", 224)]);
        assert_eq!(found[0].id, "no-memory-limit/photos");
    }

    #[test]
    fn no_limit_is_larger_than_what_the_machine_can_spare() {
        let check = |hours: usize, mib: f64, expected: Option<u64>| {
            let mut facts = unlimited(hours);
            facts.measured.service_working_set = [(name("photos", "web"), hourly(hours, |_| mib * MIB))].into();
            let limit = |mib| vec![Change::MemoryLimit { service: "web".into(), mib }];
            let found = recommend(&facts).pop().map(|it| it.changes);
            assert_eq!(found, expected.map(limit), "{mib} MiB in {hours} hours");
        };
        // Of 4 GiB, in the first week and after it.
        check(72, 1000.0, Some(3072));
        check(240, 1000.0, Some(2048));
        check(240, 2600.0, Some(3072));
        // 85 % of it: what it takes already would make this one tight.
        check(240, 2620.0, None);
    }

    #[test]
    fn a_limit_without_effect_is_not_recommended() {
        let mut facts = unlimited(240);
        facts.machine.memory_cgroup = Some(false);
        assert_eq!(recommend(&facts), []);
        // Nor one where there is one, or where it is not known.
        for limit in [Some(MIB), None] {
            let mut facts = unlimited(240);
            facts.containers.as_mut().unwrap()[0].memory_limit = limit;
            assert_eq!(recommend(&facts), []);
        }
    }
}
