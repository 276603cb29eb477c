//! What a service needs, and how that is doing: a cause is healed before its symptoms. Pure.
//!
//! Three things say what a service needs: Compose's `depends_on`, the label `nexus.depends_on` for what Compose was not
//! told, and the network of another container that it lives in. Needs are followed through, however deep, and a service
//! whose mode is off is no concern of ours here either. Services that need each other in a circle do not wait for each
//! other: nobody could begin.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Health, SaidBy, Snapshot, Status};
use nexus_model::{IncidentState, Mode, Refusal, ServiceKey};
use serde::{Deserialize, Serialize};

use crate::{
    case::Case,
    facts::{self, Condition, ContainerFacts, Stops},
    probe::Probe,
};

/// A doubt about something else must not hold up a service for longer, whatever that one's health check says.
const DOUBT_LASTS: SignedDuration = SignedDuration::from_mins(5);

/// In which a probe that has failed once has failed twice or succeeded.
const PROBED_TWICE: SignedDuration = SignedDuration::from_secs(15);

/// See [`is_too_young`].
pub const SETTLES: SignedDuration = SignedDuration::from_secs(10);

/// Services looked at for one. A project has some dozens; labels are anybody's text.
const MOST: usize = 64;

/// Why a service needs another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// Compose's `depends_on`, and whether it says `restart: true`.
    DependsOn { restart: bool },
    /// Our label.
    Label,
    /// It lives in the network of the other's container.
    Network,
}

/// Something that a service needs and that is not well.
#[derive(Clone, Debug, PartialEq)]
pub struct Needed {
    pub key: ServiceKey,
    /// What is the matter with it, for people.
    pub problem: String,
    /// The name of this obstacle.
    pub why: Refusal,
    /// Where it is only doubted: how long its own health check takes to make up its mind.
    pub settles_within: SignedDuration,
    /// Nobody does anything about it: Nexus only watches it.
    pub is_only_watched: bool,
}

/// A service that is to be restarted since one that it needs was, and asks for that.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Follows {
    pub service: ServiceKey,
    /// A container that was started before is restarted.
    pub restarted_at: Timestamp,
    /// Who was restarted for whom, up to the first: nobody twice, however the needs go round.
    pub chain: Vec<ServiceKey>,
}

/// What the journal, the owner and Docker say of other services.
pub struct World<'a> {
    pub snapshot: &'a Snapshot,
    pub stops: &'a Stops,
    pub cases: &'a BTreeMap<ServiceKey, Case>,
    /// Ids of containers that were inspected just now. Of the others the failed probes since their health changed last are
    /// not known.
    pub fresh: &'a BTreeSet<String>,
    /// What probes say of those that were asked, by id of the container.
    pub probes: &'a BTreeMap<String, Probe>,
    pub now: Timestamp,
}

/// What one container needs.
pub fn needs(container: &Container, snapshot: &Snapshot) -> BTreeMap<ServiceKey, Link> {
    let mut needs = BTreeMap::new();
    for need in nexus_docker::needs(&container.labels) {
        match need.by {
            SaidBy::Label => needs.insert(need.key, Link::Label),
            SaidBy::Compose { restart } => needs.insert(need.key, Link::DependsOn { restart }),
            SaidBy::Once => None,
        };
    }
    if let Some(parent) = network_parent(container).and_then(|id| snapshot.containers.get(id))
        && let Some(key) = parent.container.key()
    {
        needs.insert(key, Link::Network);
    }
    needs
}

/// What has to have done its work before a container is started, as Compose knows it.
pub fn needed_once(container: &Container) -> BTreeSet<ServiceKey> {
    let once = nexus_docker::needs(&container.labels).into_iter().filter(|need| need.by == SaidBy::Once);
    once.map(|need| need.key).collect()
}

/// Whether others wait for a service to have done its work, as Compose knows it.
pub fn is_needed_once(key: &ServiceKey, snapshot: &Snapshot) -> bool {
    let all = snapshot.containers.values().map(|watched| &*watched.container);
    all.filter(|other| other.project() == key.project).any(|other| needed_once(other).contains(key))
}

/// The id of the container in whose network this one lives.
pub fn network_parent(container: &Container) -> Option<&str> {
    container.network_mode.strip_prefix("container:")
}

/// The network that a container was left in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadNetwork {
    /// The name of the container whose network it was.
    pub owner: String,
    /// When that was started anew.
    pub began_at: Option<Timestamp>,
}

/// The network of another container that this one shared, where that was started anew since: Docker gave it another network
/// then, and this one was left in the old one, which leads nowhere, however the other is doing now.
///
/// A start in the future was told by a clock that has been set back since: it says nothing about which of the two came later.
pub fn left_in_dead_network(container: &Container, snapshot: &Snapshot, now: Timestamp) -> Option<DeadNetwork> {
    let parent = &snapshot.containers.get(network_parent(container)?)?.container;
    let began_later = parent.started_at > container.started_at && parent.started_at <= Some(now);
    (began_later && container.status == Status::Running)
        .then(|| DeadNetwork { owner: parent.name.clone(), began_at: parent.started_at })
}

/// All that a service needs, the nearest first, each once.
pub fn all_needs(key: &ServiceKey, snapshot: &Snapshot) -> Vec<ServiceKey> {
    let mut found: Vec<ServiceKey> = Vec::new();
    let mut waiting = VecDeque::from([key.clone()]);
    while let Some(next) = waiting.pop_front() {
        for watched in snapshot.containers.values().filter(|watched| is_of(&watched.container, &next)) {
            for needed in needs(&watched.container, snapshot).into_keys() {
                if found.len() < MOST && needed != *key && !found.contains(&needed) {
                    found.push(needed.clone());
                    waiting.push_back(needed);
                }
            }
        }
    }
    found
}

fn is_of(container: &Container, key: &ServiceKey) -> bool {
    container.project() == key.project && container.service() == key.service
}

/// Ids of the containers of everything that a service needs, to be looked at afresh.
pub fn containers_needed(key: &ServiceKey, snapshot: &Snapshot) -> Vec<String> {
    let needed = all_needs(key, snapshot);
    let is_needed = |container: &Container| needed.iter().any(|key| is_of(container, key));
    let ids = snapshot.containers.iter().filter(|(_, watched)| is_needed(&watched.container));
    ids.map(|(id, _)| id.clone()).take(MOST).collect()
}

/// What a service needs and is not well, the root of the trouble first. `mode_of` says whose health is none of our
/// business.
pub fn not_well(
    key: &ServiceKey,
    world: &World<'_>,
    mode_of: impl Fn(&ServiceKey, &[ContainerFacts]) -> Mode,
) -> Vec<Needed> {
    let mut found = Vec::new();
    let own = world.snapshot.containers.values().map(|watched| &*watched.container);
    let trouble = own.filter(|container| is_of(container, key)).filter_map(Trouble::of).min();
    for needed in all_needs(key, world.snapshot) {
        let mut containers = facts::containers_of(world.snapshot, &needed, world.stops, world.now);
        for seen in &mut containers {
            seen.probe = world.probes.get(&seen.container.id).cloned();
        }
        let in_a_circle = || all_needs(&needed, world.snapshot).contains(key);
        if let Some((why, problem)) = standing(&containers, world.cases.get(&needed), world, trouble)
            && mode_of(&needed, &containers) != Mode::Off
            && !in_a_circle()
        {
            let is_only_watched = mode_of(&needed, &containers) == Mode::Shadow;
            let problem = match mode_of(&needed, &containers) {
                Mode::Shadow => format!("{problem}; Nexus only watches it (nexus heal on {needed})"),
                Mode::Heal | Mode::Off => problem,
            };
            found.push(Needed {
                key: needed,
                problem,
                why,
                settles_within: settles_within(&containers),
                is_only_watched,
            });
        }
    }
    // The farthest is the root.
    found.reverse();
    found
}

/// What is the matter with a service as far as those are concerned who need it. `None`: nothing, or nothing that a restart
/// of theirs should wait for.
fn standing(
    containers: &[ContainerFacts],
    case: Option<&Case>,
    world: &World<'_>,
    trouble: Option<Trouble>,
) -> Option<(Refusal, String)> {
    if case.is_some_and(|case| matches!(case.incident.state, IncidentState::Restarting | IncidentState::Verifying)) {
        return Some((Refusal::DependencyStarting, "being restarted".to_owned()));
    }
    let conditions: Vec<Condition> = containers.iter().map(|seen| facts::condition(seen, case)).collect();
    // One replica is enough for those who need it.
    let well = containers.iter().zip(&conditions).filter(|(_, condition)| **condition == Condition::Well);
    let mut doubt = None;
    for (seen, _) in well {
        if is_too_young(&seen.container, world.now) {
            doubt = Some((Refusal::DependencyStarting, "started a moment ago".to_owned()));
            continue;
        }
        let problem = match &seen.probe {
            Some(Probe::Doubtful { why }) => format!("its last probe failed: {why}"),
            _ => doubtful(&seen.container, world.fresh, trouble)?,
        };
        doubt = Some((Refusal::DependencyDoubtful, problem));
    }
    if doubt.is_some() {
        return doubt;
    }
    let mut rest = None;
    for condition in conditions {
        match condition {
            Condition::Ill(problem) => return Some((Refusal::DependencyDown, problem)),
            Condition::Settling => rest = Some((Refusal::DependencyStarting, "starting".to_owned())),
            Condition::Aside(why) if rest.is_none() => {
                let problem = match why {
                    Refusal::Paused => "paused",
                    Refusal::DockerRestarting => "being restarted by docker",
                    Refusal::StoppedByHuman | Refusal::StoppedByUnknown | Refusal::StoppedForRoom => "stopped",
                    // Gone for good, or done: nothing to wait for.
                    _ => continue,
                };
                rest = Some((Refusal::DependencyDown, problem.to_owned()));
            }
            Condition::Aside(_) | Condition::Well => (),
        }
    }
    rest
}

/// The time in which a container's probes have failed, as far back as Docker keeps them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Trouble {
    began_at: Timestamp,
    probed_at: Timestamp,
}

impl Trouble {
    fn of(container: &Container) -> Option<Trouble> {
        if container.health != Health::Unhealthy {
            return None;
        }
        let failed = container.probes.iter().rev().take_while(|probe| probe.exit_code != 0);
        let began_at = failed.last()?.start?;
        Some(Trouble { began_at, probed_at: container.probes.last()?.start? })
    }
}

/// Docker calls it healthy, but its last probe failed; or no probe of it is younger than the trouble that it may be the cause
/// of; or it has come back, and who needs it has not been probed since.
fn doubtful(container: &Container, fresh: &BTreeSet<String>, trouble: Option<Trouble>) -> Option<String> {
    if container.health != Health::Healthy || !fresh.contains(&container.id) {
        return None;
    }
    match container.failing_streak {
        0 => (),
        1 => return Some("its last probe failed".to_owned()),
        streak => return Some(format!("its last {streak} probes failed")),
    }
    let trouble = trouble?;
    let is_good = |probe: &&nexus_docker::Probe| probe.exit_code == 0;
    let good_since = container.probes.iter().rev().take_while(is_good).last()?.start?;
    let has_failed = container.probes.iter().any(|probe| probe.exit_code != 0);
    if container.probes.last()?.start? < trouble.began_at {
        Some("it has not been probed since the trouble began".to_owned())
    } else if has_failed && trouble.probed_at < good_since {
        Some("it has only just come back".to_owned())
    } else {
        None
    }
}

/// Whether a container without a health check has not run for long enough to be called well. One that ends again and again
/// runs for some seconds each time; ten are what Docker itself takes for a run.
fn is_too_young(container: &Container, now: Timestamp) -> bool {
    let age = container.started_at.map(|started_at| now.duration_since(started_at));
    container.health == Health::None && age.is_some_and(|age| !age.is_negative() && age < SETTLES)
}

/// How long the health checks of some containers take to tell.
fn settles_within(containers: &[ContainerFacts]) -> SignedDuration {
    let takes = |seen: &ContainerFacts| {
        if matches!(seen.probe, Some(Probe::Doubtful { .. })) {
            return Some(PROBED_TWICE);
        }
        let check = seen.container.healthcheck?;
        let round = check.interval.saturating_add(check.timeout);
        Some(round.saturating_mul(i32::try_from(check.retries).unwrap_or(i32::MAX)))
    };
    containers.iter().filter_map(takes).max().unwrap_or_default().min(DOUBT_LASTS)
}

/// Who asks to be restarted with a service.
pub fn followers(key: &ServiceKey, snapshot: &Snapshot) -> BTreeSet<ServiceKey> {
    let follows = |container: &Container| {
        needs(container, snapshot).get(key).is_some_and(|link| matches!(link, Link::DependsOn { restart: true }))
    };
    let all = snapshot.containers.values().filter(|watched| follows(&watched.container));
    all.filter_map(|watched| watched.container.key()).filter(|follower| follower != key).collect()
}

/// Whom a service is to follow: the last one restarted of those that it asks to be restarted with.
pub fn to_follow(key: &ServiceKey, snapshot: &Snapshot, cases: &BTreeMap<ServiceKey, Case>) -> Option<Follows> {
    let own: Vec<&Container> = snapshot
        .containers
        .values()
        .map(|watched| &*watched.container)
        .filter(|container| is_of(container, key))
        .collect();
    let began = own.iter().filter_map(|container| container.started_at).min()?;
    let asked: BTreeSet<ServiceKey> = own
        .iter()
        .flat_map(|container| needs(container, snapshot))
        .filter(|(_, link)| matches!(link, Link::DependsOn { restart: true }))
        .map(|(needed, _)| needed)
        .collect();
    let mut last: Option<(Timestamp, ServiceKey)> = None;
    for watched in snapshot.containers.values() {
        let container = &watched.container;
        if let (Some(other), Some(started_at)) = (container.key(), container.started_at)
            && asked.contains(&other)
            && started_at > began
            && last.as_ref().is_none_or(|(latest, _)| started_at > *latest)
        {
            last = Some((started_at, other));
        }
    }
    let (restarted_at, service) = last?;
    let before = cases.get(&service).and_then(|case| case.memory.follows.as_ref());
    let mut chain = before.map(|follows| follows.chain.clone()).unwrap_or_default();
    chain.push(service.clone());
    (!chain.contains(key)).then_some(Follows { service, restarted_at, chain })
}

#[cfg(test)]
mod tests {
    use nexus_docker::{StopCause, Watched};
    use proptest::prelude::*;

    use nexus_model::labels;

    use super::*;
    use crate::testing::{at, case, container, key, wall};

    /// A healthy container of `shop/SERVICE`.
    fn healthy(service: &str, depends_on: &str) -> Container {
        let mut container = container();
        (container.id, container.name) = (format!("id-{service}"), format!("shop-{service}-1"));
        (container.health, container.failing_streak) = (Health::Healthy, 0);
        container.labels.insert(labels::COMPOSE_SERVICE.into(), service.into());
        container.labels.insert(labels::COMPOSE_DEPENDS_ON.into(), depends_on.into());
        container
    }

    fn ill(container: Container) -> Container {
        Container { health: Health::Unhealthy, failing_streak: 3, ..container }
    }

    fn probe(seconds: i64, exit_code: i64) -> nexus_docker::Probe {
        nexus_docker::Probe { start: wall(seconds), end: wall(seconds), exit_code, output: String::new() }
    }

    fn snapshot(containers: impl IntoIterator<Item = Container>) -> Snapshot {
        let watched = |container: Container| Watched {
            container: container.into(),
            stop: StopCause::Itself,
            has_been_healthy: false,
            oom_events: 0,
        };
        let containers = containers.into_iter().map(|container| (container.id.clone(), watched(container))).collect();
        Snapshot { up: true, containers, ..Snapshot::default() }
    }

    fn of(service: &str) -> ServiceKey {
        ServiceKey::new("shop", service)
    }

    fn in_the_way(service: &str, snapshot: &Snapshot, fresh: &[&str]) -> Vec<(String, Refusal)> {
        let fresh = fresh.iter().map(|id| (*id).to_owned()).collect();
        let world = World {
            snapshot,
            stops: &Stops::new(),
            cases: &BTreeMap::new(),
            probes: &BTreeMap::new(),
            fresh: &fresh,
            now: at(0).wall,
        };
        let found = not_well(&of(service), &world, |_, _| Mode::Heal);
        found.into_iter().map(|needed| (needed.key.service, needed.why)).collect()
    }

    #[test]
    fn needs_are_read_from_compose_our_label_and_the_network() {
        let mut web = healthy(
            "web",
            "db:service_healthy:false,cache:service_started:true,init:service_completed_successfully:false",
        );
        web.labels.insert(labels::DEPENDS_ON.into(), " proxy/caddy, mail ,".into());
        web.network_mode = "container:id-vpn".into();
        let seen = snapshot([web.clone(), healthy("vpn", "")]);
        let expected = [
            (ServiceKey::new("proxy", "caddy"), Link::Label),
            (of("cache"), Link::DependsOn { restart: true }),
            (of("db"), Link::DependsOn { restart: false }),
            (of("mail"), Link::Label),
            (of("vpn"), Link::Network),
        ];
        assert_eq!(needs(&web, &seen), BTreeMap::from(expected));
        assert!(needs(&healthy("db", ""), &seen).is_empty());
        assert!(needs(&healthy("db", ",:,"), &seen).len() <= 1);
    }

    #[test]
    fn the_root_comes_first() {
        let chain = || [healthy("web", "api:service_started:false"), healthy("api", "db:service_healthy:false")];
        let with = |db: Container| chain().into_iter().chain([db]);
        assert_eq!(in_the_way("web", &snapshot(with(healthy("db", ""))), &[]), []);
        let down = |service: &str| (service.to_owned(), Refusal::DependencyDown);
        assert_eq!(in_the_way("web", &snapshot(with(ill(healthy("db", "")))), &[]), [down("db")]);
        let [web, api] = chain();
        let all = snapshot([ill(web), ill(api), ill(healthy("db", ""))]);
        assert_eq!(in_the_way("web", &all, &[]), [down("db"), down("api")]);
        assert_eq!(in_the_way("api", &all, &[]), [down("db")]);
        assert_eq!(in_the_way("db", &all, &[]), []);
    }

    #[test]
    fn each_standing_has_its_name() {
        let check = |change: &dyn Fn(&mut Container), expected: Option<Refusal>| {
            let mut db = healthy("db", "");
            change(&mut db);
            let seen = snapshot([ill(healthy("web", "db:service_started:false")), db]);
            let found = in_the_way("web", &seen, &["id-db"]);
            assert_eq!(found.first().map(|(_, why)| *why), expected, "{seen:?}");
        };
        check(&|_| (), None);
        check(&|db| db.health = Health::None, None);
        // Without a health check it must have run for a while: it may end again and again.
        check(&|db| (db.health, db.started_at) = (Health::None, wall(-9)), Some(Refusal::DependencyStarting));
        check(&|db| (db.health, db.started_at) = (Health::None, wall(-10)), None);
        check(&|db| (db.health, db.started_at) = (Health::None, wall(60)), None);
        check(&|db| db.failing_streak = 1, Some(Refusal::DependencyDoubtful));
        check(&|db| db.health = Health::Starting, Some(Refusal::DependencyStarting));
        check(&|db| db.health = Health::Unhealthy, Some(Refusal::DependencyDown));
        check(&|db| db.status = Status::Created, Some(Refusal::DependencyStarting));
        check(&|db| db.status = Status::Paused, Some(Refusal::DependencyDown));
        check(&|db| db.status = Status::Restarting, Some(Refusal::DependencyDown));
        check(&|db| db.status = Status::Exited, Some(Refusal::DependencyDown));
        check(&|db| db.status = Status::Removing, None);
        // It has done its work.
        check(&|db| (db.status, db.restart_policy) = (Status::Exited, nexus_docker::RestartPolicy::No), None);
    }

    #[test]
    fn a_failed_probe_counts_only_when_it_was_looked_at_just_now() {
        let mut db = healthy("db", "");
        db.failing_streak = 2;
        let seen = snapshot([ill(healthy("web", "db:service_started:false")), db]);
        assert_eq!(in_the_way("web", &seen, &[]), []);
        assert_eq!(in_the_way("web", &seen, &["id-db"]), [("db".to_owned(), Refusal::DependencyDoubtful)]);
    }

    #[test]
    fn a_good_probe_counts_only_when_it_is_younger_than_the_trouble() {
        let check = |probed: i64, expected: &[(String, Refusal)]| {
            let mut web = ill(healthy("web", "db:service_started:false"));
            web.probes = vec![probe(-50, 1), probe(-40, 0), probe(-30, 1), probe(-20, 1)];
            let mut db = healthy("db", "");
            db.probes = vec![probe(probed - 30, 0), probe(probed, 0)];
            let seen = snapshot([web, db]);
            assert_eq!(in_the_way("web", &seen, &["id-db"]), expected, "probed at {probed}");
            assert_eq!(in_the_way("web", &seen, &[]), []);
        };
        check(-31, &[("db".to_owned(), Refusal::DependencyDoubtful)]);
        check(-30, &[]);
        check(-25, &[]);
    }

    #[test]
    fn who_has_not_been_probed_since_its_need_came_back_may_be_well() {
        let check = |probed: i64, expected: &[(String, Refusal)]| {
            let mut web = ill(healthy("web", "db:service_started:false"));
            web.probes = vec![probe(-50, 0), probe(-40, 1), probe(probed, 1)];
            let mut db = healthy("db", "");
            db.probes = vec![probe(-45, 1), probe(-35, 1), probe(-25, 0), probe(-15, 0)];
            assert_eq!(in_the_way("web", &snapshot([web, db]), &["id-db"]), expected, "probed at {probed}");
        };
        check(-26, &[("db".to_owned(), Refusal::DependencyDoubtful)]);
        check(-25, &[]);
        check(-20, &[]);
    }

    #[test]
    fn a_doubt_lasts_as_long_as_the_health_check_takes() {
        let mut db = healthy("db", "");
        db.failing_streak = 1;
        let within = |db: Container| {
            let seen = snapshot([ill(healthy("web", "db:service_started:false")), db]);
            let fresh = BTreeSet::from(["id-db".to_owned()]);
            let world = World {
                probes: &BTreeMap::new(),
                snapshot: &seen,
                stops: &Stops::new(),
                cases: &BTreeMap::new(),
                fresh: &fresh,
                now: at(0).wall,
            };
            not_well(&of("web"), &world, |_, _| Mode::Heal)[0].settles_within.as_secs()
        };
        assert_eq!(within(db.clone()), 21);
        db.healthcheck = db.healthcheck.map(|check| nexus_docker::Healthcheck { retries: 1000, ..check });
        assert_eq!(within(db), 300);
    }

    #[test]
    fn a_probe_counts_as_dockers_word_does() {
        let mut db = healthy("db", "");
        (db.health, db.healthcheck) = (Health::None, None);
        let seen = snapshot([ill(healthy("web", "db:service_started:false")), db]);
        let check = |probe: Option<Probe>, expected: &[(Refusal, &str)]| {
            let probes = probe.map(|probe| ("id-db".to_owned(), probe)).into_iter().collect();
            let world = World {
                snapshot: &seen,
                stops: &Stops::new(),
                cases: &BTreeMap::new(),
                probes: &probes,
                fresh: &BTreeSet::new(),
                now: at(0).wall,
            };
            let found = not_well(&of("web"), &world, |_, _| Mode::Heal);
            let found: Vec<(Refusal, &str)> = found.iter().map(|it| (it.why, it.problem.as_str())).collect();
            assert_eq!(found, expected, "{probes:?}");
        };
        check(None, &[]);
        check(Some(Probe::Well), &[]);
        check(Some(Probe::Asking), &[]);
        check(Some(Probe::Unknown { why: "away".into() }), &[]);
        let why = || "port 80 answers / with 500".to_owned();
        let failed = |was_well| Some(Probe::Failed { why: why(), was_well });
        let down = [(Refusal::DependencyDown, "its probe failed: port 80 answers / with 500")];
        check(failed(true), &down);
        check(failed(false), &down);
        let doubtful = [(Refusal::DependencyDoubtful, "its last probe failed: port 80 answers / with 500")];
        check(Some(Probe::Doubtful { why: why() }), &doubtful);
    }

    #[test]
    fn one_replica_that_is_well_is_enough() {
        let mut second = healthy("db", "");
        second.id = "id-db-2".into();
        let seen = snapshot([ill(healthy("web", "db:service_started:false")), ill(healthy("db", "")), second]);
        assert_eq!(in_the_way("web", &seen, &["id-db", "id-db-2"]), []);
    }

    #[test]
    fn one_that_we_are_restarting_is_waited_for_and_one_that_is_off_is_not() {
        let mut db = case();
        (db.incident.service, db.incident.state) = ("db".into(), IncidentState::Verifying);
        let seen = snapshot([ill(healthy("web", "db:service_started:false")), healthy("db", "")]);
        let cases = BTreeMap::from([(of("db"), db)]);
        let world = World {
            snapshot: &seen,
            stops: &Stops::new(),
            cases: &cases,
            probes: &BTreeMap::new(),
            fresh: &BTreeSet::new(),
            now: at(0).wall,
        };
        assert_eq!(not_well(&of("web"), &world, |_, _| Mode::Heal)[0].why, Refusal::DependencyStarting);
        assert_eq!(not_well(&of("web"), &world, |key, _| if key.service == "db" { Mode::Off } else { Mode::Heal }), []);
    }

    #[test]
    fn those_in_a_circle_do_not_wait_for_each_other() {
        let circle = [
            healthy("a", "b:service_started:false"),
            healthy("b", "c:service_started:false"),
            healthy("c", "a:service_started:false"),
        ];
        let outside = healthy("web", "a:service_started:false");
        let seen = snapshot(circle.into_iter().chain([outside]).map(ill));
        for service in ["a", "b", "c"] {
            assert_eq!(in_the_way(service, &seen, &[]), []);
        }
        assert_eq!(in_the_way("web", &seen, &[]).len(), 3);
        assert_eq!(in_the_way("self", &snapshot([ill(healthy("self", "self:service_started:false"))]), &[]), []);
    }

    #[test]
    fn a_network_is_dead_once_its_owner_was_started_anew() {
        let mut client = healthy("client", "");
        client.network_mode = "container:id-vpn".into();
        let check = |vpn: Container, client: &Container, expected: Option<&str>| {
            let seen = snapshot([vpn, client.clone()]);
            let owner = left_in_dead_network(client, &seen, at(0).wall).map(|dead| dead.owner);
            assert_eq!(owner.as_deref(), expected);
        };
        let vpn = |started| Container { started_at: wall(started), ..healthy("vpn", "") };
        check(vpn(-200), &client, None);
        check(vpn(-100), &client, None);
        check(vpn(-50), &client, Some("shop-vpn-1"));
        // It is dead however the other is doing now.
        check(Container { status: Status::Exited, ..vpn(-50) }, &client, Some("shop-vpn-1"));
        check(vpn(-50), &Container { status: Status::Exited, ..client.clone() }, None);
        check(vpn(-50), &healthy("web", ""), None);
        // Told by a clock that was set back since.
        check(vpn(0), &client, Some("shop-vpn-1"));
        check(vpn(7_200), &client, None);
        check(vpn(7_200), &Container { started_at: wall(3_600), ..client.clone() }, None);
    }

    #[test]
    fn who_asks_for_it_follows_and_nobody_twice() {
        let web = healthy("web", "db:service_healthy:true");
        let other = healthy("other", "db:service_healthy:false");
        let db = Container { started_at: wall(-10), ..healthy("db", "web:service_started:true") };
        let seen = snapshot([web, other, db]);
        assert_eq!(followers(&of("db"), &seen), BTreeSet::from([of("web")]));
        let none = BTreeMap::new();
        let follows = to_follow(&of("web"), &seen, &none).unwrap();
        assert_eq!((follows.service, follows.restarted_at), (of("db"), at(-10).wall));
        assert_eq!(follows.chain, [of("db")]);
        assert_eq!(to_follow(&of("other"), &seen, &none), None);
        // It was started before what it would follow was.
        assert_eq!(to_follow(&of("db"), &seen, &none), None);
        // The database itself was restarted since the web was: that is enough.
        let mut case = case();
        case.memory.follows = Some(Follows { service: key(), restarted_at: at(-20).wall, chain: vec![key()] });
        assert_eq!(to_follow(&of("web"), &seen, &BTreeMap::from([(of("db"), case)])), None);
    }

    proptest! {
        #[test]
        fn whatever_the_labels_say_it_comes_to_an_end(texts in proptest::collection::vec(".{0,60}|([a-d]:service_started:true,){0,4}", 4)) {
            let services = ["a", "b", "c", "d"];
            let seen = snapshot(services.iter().zip(&texts).map(|(service, text)| {
                let mut container = ill(healthy(service, text));
                container.labels.insert(labels::DEPENDS_ON.into(), text.clone());
                container
            }));
            // Somebody can always begin.
            prop_assert!(services.iter().any(|service| in_the_way(service, &seen, &[]).is_empty()));
            for service in services {
                prop_assert!(all_needs(&of(service), &seen).len() <= MOST);
                prop_assert!(!in_the_way(service, &seen, &[]).iter().any(|(other, _)| other == service));
                to_follow(&of(service), &seen, &BTreeMap::new());
            }
        }
    }
}
