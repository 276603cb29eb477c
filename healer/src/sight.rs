//! What the healer itself sees ill, and asks Alertmanager to be prompted for: pure.
//!
//! Prometheus takes up to 20 seconds to notice what Docker's events say at once. So the healer, who listens to them anyway,
//! posts an alert of its own the moment it hears, and Alertmanager passes it on within milliseconds: past the silences,
//! to be seen by everybody, and under another name than the rule's, which stays the backstop. What becomes of the prompt is
//! decided like any other. [`crate::notify`] posts the alerts, and [`crate::alone`] is for when they don't come back.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_docker::{Container, Snapshot, Status};
use nexus_model::{Mode, ServiceKey, labels::is_name};

use crate::{
    facts::{self, Condition, ContainerFacts, Stops},
    modes::Switches,
    policy::Policy,
    tell::Alert,
};

/// Alerts of this kind at once. Far more than the brake lets through in an hour, so that what a storm leaves over for the
/// rules is not held up by it, and small enough for one post.
pub const MOST: usize = 256;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    Unhealthy,
    Down,
}

impl Kind {
    pub fn of(container: &Container) -> Self {
        match container.status {
            Status::Created | Status::Exited | Status::Dead => Kind::Down,
            _ => Kind::Unhealthy,
        }
    }

    /// The healer's own alert.
    pub fn alert(self) -> &'static str {
        match self {
            Kind::Unhealthy => "HealerSawUnhealthy",
            Kind::Down => "HealerSawDown",
        }
    }

    /// The rule in prometheus/rules/healing.yml that says the same, later. A silence of either means "don't heal".
    pub fn rule(self) -> &'static str {
        match self {
            Kind::Unhealthy => "ContainerUnhealthy",
            Kind::Down => "ContainerDown",
        }
    }
}

/// A container that is ill at this moment.
#[derive(Clone, Debug, PartialEq)]
pub struct Sight {
    pub key: ServiceKey,
    /// Its name: the id is another one after each `compose up`, the alert the same.
    pub container: String,
    pub kind: Kind,
    pub since: Timestamp,
    /// A prompt about the service has come in since, or an incident is open: nobody needs to be waited for. Taken back when one ends.
    pub prompted: bool,
}

impl Sight {
    fn is(&self, found: &Found) -> bool {
        (self.kind, &self.container, &self.key) == (found.kind, &found.container, &found.key)
    }
}

/// An ill container in a snapshot.
#[derive(Clone, Debug, PartialEq)]
pub struct Found {
    pub key: ServiceKey,
    pub container: String,
    pub kind: Kind,
}

/// The ill containers in a snapshot that the rules would prompt for, but those whose owner has switched healing off, and the
/// stack that the healer is part of.
pub fn look(snapshot: &Snapshot, stops: &Stops, switches: &Switches, policy: &Policy, own_stack: &str) -> Vec<Found> {
    let mut modes: BTreeMap<ServiceKey, Mode> = BTreeMap::new();
    let mut found = Vec::new();
    for watched in snapshot.containers.values() {
        let container = &watched.container;
        let Some(key) = container.key() else { continue };
        // The webhook takes no other names.
        if key.project == own_stack || !is_name(&key.project) || !is_name(&key.service) {
            continue;
        }
        // Only what the rules see as well: a dead network is the worker's to find.
        let seen = ContainerFacts::of(watched, snapshot, stops);
        if !matches!(facts::condition(&seen, None), Condition::Ill(_)) {
            continue;
        }
        let mode = *modes.entry(key.clone()).or_insert_with(|| {
            let own = snapshot.containers.values().filter(|other| other.container.key().as_ref() == Some(&key));
            let own: Vec<ContainerFacts> = own.map(|other| ContainerFacts::of(other, snapshot, stops)).collect();
            facts::mode_of(&key, &own, switches, policy).mode
        });
        if mode != Mode::Off {
            found.push(Found { key, container: container.name.clone(), kind: Kind::of(container) });
        }
    }
    found
}

/// What is seen now, given what was seen before, and how many are too many. Those that are known already stay: which ones are
/// left to the rules does not change from one look to the next.
pub fn follow(
    before: &[Sight],
    found: &[Found],
    is_open: impl Fn(&ServiceKey) -> bool,
    now: Timestamp,
) -> (Vec<Sight>, usize) {
    let still = before.iter().filter(|sight| found.iter().any(|found| sight.is(found))).cloned();
    let new = found.iter().filter(|found| !before.iter().any(|sight| sight.is(found))).map(|found| Sight {
        key: found.key.clone(),
        container: found.container.clone(),
        kind: found.kind,
        since: now,
        prompted: false,
    });
    let mut sights: Vec<Sight> = still.chain(new).take(MOST).collect();
    for sight in &mut sights {
        sight.prompted |= is_open(&sight.key);
    }
    let left_out = found.len() - sights.len();
    (sights, left_out)
}

/// The labels are those of the rule but for the name, so that route, silences and dashboards treat both alike.
pub fn alert(sight: &Sight, host: &str) -> Alert {
    let Sight { key, container, kind, .. } = sight;
    let labels = BTreeMap::from([
        ("alertname", kind.alert().to_owned()),
        ("heal", "restart".to_owned()),
        ("severity", "none".to_owned()),
        ("host", host.to_owned()),
        ("project", key.project.clone()),
        ("service", key.service.clone()),
        ("name", container.clone()),
    ]);
    let (summary, description) = match kind {
        Kind::Unhealthy => ("Container is unhealthy", format!("Docker has just called {container} unhealthy.")),
        Kind::Down => ("Container is down", format!("{container} has just stopped and nobody asked it to.")),
    };
    let annotations = BTreeMap::from([
        ("summary", summary.to_owned()),
        ("description", description),
        ("runbook_url", format!("docs/runbooks/{}.md", kind.rule())),
    ]);
    Alert { labels, annotations, since: sight.since }
}

#[cfg(test)]
mod tests {
    use nexus_docker::{Health, StopCause, Watched};
    use nexus_model::labels;

    use super::*;
    use crate::testing::{at, container, exited, wall};

    fn snapshot(containers: Vec<(Container, StopCause)>) -> Snapshot {
        let watched = |(container, stop): (Container, StopCause)| {
            (
                container.id.clone(),
                Watched { container: container.into(), stop, has_been_healthy: false, oom_events: 0 },
            )
        };
        Snapshot { up: true, containers: containers.into_iter().map(watched).collect(), ..Snapshot::default() }
    }

    fn changed(mut container: Container, change: impl FnOnce(&mut Container)) -> Container {
        change(&mut container);
        container
    }

    fn named(name: &str) -> Found {
        Found { key: ServiceKey::new("shop", name), container: format!("shop-{name}-1"), kind: Kind::Unhealthy }
    }

    #[test]
    fn what_the_rules_prompt_for_is_seen_and_nothing_else() {
        let itself = StopCause::Itself;
        let check = |container: Container, stop: StopCause, expected: Option<Kind>| {
            let said = format!("{container:?}");
            let snapshot = snapshot(vec![(container, stop)]);
            let found = look(&snapshot, &Stops::new(), &Switches::default(), &Policy::default(), "nexus");
            assert_eq!(found.iter().map(|found| found.kind).collect::<Vec<_>>(), Vec::from_iter(expected), "{said}");
        };
        check(container(), itself, Some(Kind::Unhealthy));
        check(changed(container(), |it| it.health = Health::Healthy), itself, None);
        check(changed(container(), |it| it.health = Health::Starting), itself, None);
        check(changed(container(), |it| it.status = Status::Paused), itself, None);
        check(changed(container(), |it| it.status = Status::Restarting), itself, None);
        check(exited(1), itself, Some(Kind::Down));
        check(exited(1), StopCause::Requested { at: at(0).wall }, None);
        check(exited(1), StopCause::Unknown, None);
        check(changed(exited(1), |it| it.restart_policy = nexus_docker::RestartPolicy::No), itself, None);
        let label = |name: &'static str, value: &'static str| {
            changed(container(), |it| _ = it.labels.insert(name.into(), value.into()))
        };
        check(label(labels::HEAL, "false"), itself, None);
        check(label(labels::HEAL, "shadow"), itself, Some(Kind::Unhealthy));
        check(label(labels::COMPOSE_PROJECT, "nexus"), itself, None);
        check(label(labels::COMPOSE_ONEOFF, "True"), itself, None);
        check(label(labels::COMPOSE_SERVICE, "a\nb"), itself, None);
        check(changed(container(), |it| _ = it.labels.remove(labels::COMPOSE_SERVICE)), itself, None);
    }

    #[test]
    fn the_switch_and_the_journal_have_their_say() {
        let mut switches = Switches::default();
        let one = snapshot(vec![(container(), StopCause::Itself)]);
        switches.set("shop", Some("web"), Some(Mode::Off));
        assert_eq!(look(&one, &Stops::new(), &switches, &Policy::default(), "nexus"), []);
        // The watcher has a gap, the journal remembers.
        let gap = snapshot(vec![(exited(1), StopCause::Unknown)]);
        let stops = Stops::from([("c1".into(), (wall(-100), facts::Stopper::Itself))]);
        let found = look(&gap, &stops, &Switches::default(), &Policy::default(), "nexus");
        let expected = Found { key: crate::testing::key(), container: "shop-web-1".into(), kind: Kind::Down };
        assert_eq!(found, [expected]);
    }

    #[test]
    fn a_sight_lasts_while_it_is_true_and_begins_anew_afterwards() {
        let nobody = |_: &ServiceKey| false;
        let (first, left_out) = follow(&[], &[named("web")], nobody, at(0).wall);
        assert_eq!((first.len(), first[0].since, first[0].prompted, left_out), (1, at(0).wall, false, 0));
        let (still, _) = follow(&first, &[named("api"), named("web")], nobody, at(5).wall);
        assert_eq!(still.iter().map(|sight| sight.since).collect::<Vec<_>>(), [at(0).wall, at(5).wall]);
        assert_eq!(
            follow(&still, &[named("web"), named("api")], nobody, at(6).wall).0,
            still,
            "looking again changes it"
        );
        let (gone, _) = follow(&first, &[], nobody, at(7).wall);
        assert_eq!(gone, []);
        assert_eq!(follow(&gone, &[named("web")], nobody, at(9).wall).0[0].since, at(9).wall);
        let down = Found { kind: Kind::Down, ..named("web") };
        assert_eq!(follow(&first, &[down], nobody, at(9).wall).0[0].since, at(9).wall, "another alert");
    }

    #[test]
    fn who_is_prompted_stays_so_until_it_is_well() {
        let open = |key: &ServiceKey| key.service == "web";
        let (sights, _) = follow(&[], &[named("web"), named("api")], open, at(0).wall);
        assert_eq!(sights.iter().map(|sight| sight.prompted).collect::<Vec<_>>(), [true, false]);
        let (closed, _) = follow(&sights, &[named("web"), named("api")], |_| false, at(1).wall);
        assert!(closed[0].prompted);
    }

    #[test]
    fn a_storm_is_bounded_and_who_is_in_stays_in() {
        let all: Vec<Found> = (0..MOST + 40).map(|number| named(&format!("s{number:04}"))).collect();
        let nobody = |_: &ServiceKey| false;
        let (sights, left_out) = follow(&[], &all[40..], nobody, at(0).wall);
        assert_eq!((sights.len(), left_out), (MOST, 0));
        let (same, left_out) = follow(&sights, &all, nobody, at(1).wall);
        assert_eq!((&same, left_out), (&sights, 40));
        let (moved_up, left_out) = follow(&sights, &all[..MOST + 10], nobody, at(2).wall);
        assert_eq!((moved_up.len(), left_out), (MOST, 10));
    }

    #[test]
    fn the_labels_are_those_of_the_rule() {
        let (sights, _) = follow(&[], &[named("web")], |_| false, at(0).wall);
        let told = alert(&sights[0], "pi");
        let labels: Vec<(&str, &str)> = told.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            labels,
            [
                ("alertname", "HealerSawUnhealthy"),
                ("heal", "restart"),
                ("host", "pi"),
                ("name", "shop-web-1"),
                ("project", "shop"),
                ("service", "web"),
                ("severity", "none"),
            ]
        );
        // The rules themselves, so that neither drifts.
        let rules = include_str!("../../prometheus/rules/healing.yml");
        for kind in [Kind::Unhealthy, Kind::Down] {
            assert!(rules.contains(&format!("- alert: {}\n", kind.rule())), "{kind:?}");
            assert!(!rules.contains(&format!("- alert: {}\n", kind.alert())), "{kind:?}");
        }
        assert_eq!(rules.matches("          heal: restart\n          severity: none\n").count(), 2);
    }
}
