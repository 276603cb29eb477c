//! Services that run all the time and would not come back after a reboot. One recommendation a project.

use std::collections::BTreeMap;

use jiff::SignedDuration;

use super::super::facts::{Container, Facts};
use super::super::format::count;
use super::{Change, Kind, Recommendation, Urgency, compose, services, shell, up};

/// A job that is done within a day needs no policy.
const RUNS_FOR_GOOD: SignedDuration = SignedDuration::from_hours(24);

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut projects: BTreeMap<String, Vec<(String, &Container, SignedDuration)>> = BTreeMap::new();
    for ((project, service), container) in services(facts) {
        let none = matches!(container.restart_policy.as_deref(), Some("no"));
        let running = container.started_at.map(|at| facts.at.duration_since(at)).filter(|it| *it >= RUNS_FOR_GOOD);
        if let (true, Some(running)) = (none, running) {
            projects.entry(project).or_default().push((service, container, running));
        }
    }
    let of = |(project, found): (String, Vec<(String, &Container, SignedDuration)>)| {
        let names: Vec<&str> = found.iter().map(|(service, ..)| service.as_str()).collect();
        let policy =
            |service: &str| Change::RestartPolicy { service: service.to_owned(), policy: "unless-stopped".to_owned() };
        let line = || vec!["restart: unless-stopped".to_owned()];
        let mut commands: Vec<String> = found
            .iter()
            .map(|(_, container, _)| format!("docker update --restart unless-stopped {}", shell(&container.name)))
            .collect();
        commands.push(up(names.iter().copied()));
        Recommendation {
            id: Kind::RestartPolicy.id(&[&project]),
            kind: Kind::RestartPolicy,
            urgency: Urgency::Soon,
            service: if let [one] = names.as_slice() { Some((*one).to_owned()) } else { None },
            title: format!("Have {} of {project} started again after a reboot", names.join(", ")),
            evidence: found
                .iter()
                .map(|(service, _, running)| {
                    format!("{service}: no restart policy, and up for {}", count(running.as_hours() / 24, "day"))
                })
                .collect(),
            gain: "up again after a power cut, and Docker restarts it at once when it exits".to_owned(),
            gain_bytes: None,
            check: None,
            compose: Some(compose(names.iter().map(|service| (*service, line())))),
            commands,
            changes: names.iter().map(|service| policy(service)).collect(),
            project: Some(project),
        }
    };
    projects.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::well;

    #[test]
    fn what_runs_for_days_without_a_policy_gets_one() {
        let mut facts = well();
        facts.containers.as_mut().unwrap()[0].restart_policy = Some("no".into());
        let found = recommend(&facts);
        assert_eq!(found[0].title, "Have web of photos started again after a reboot");
        assert_eq!(found[0].evidence, ["web: no restart policy, and up for 20 days"]);
        assert_eq!(
            found[0].commands,
            ["docker update --restart unless-stopped photos-web-1", "docker compose up -d web"]
        );
        // A job of some hours.
        facts.containers.as_mut().unwrap()[0].started_at = Some(facts.at - SignedDuration::from_hours(3));
        assert_eq!(recommend(&facts), []);
    }

    #[test]
    fn others_are_left_alone() {
        for policy in [Some("always"), Some("on-failure"), None] {
            let mut facts = well();
            facts.containers.as_mut().unwrap()[0].restart_policy = policy.map(str::to_owned);
            assert_eq!(recommend(&facts), [], "{policy:?}");
        }
    }
}
