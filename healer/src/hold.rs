//! The whole host in trouble: services that fail together have one cause, and restarts would only add to it. Pure.
//!
//! A disk that dies, a network that is gone, memory that has run out, a Docker that is being upgraded: everything falls
//! ill at once, and what would help is none of the healer's remedies. So when many services begin to fail within
//! [`TOGETHER`] of each other, healing holds for all of them, and people are told once. Those that only suffer from
//! another are not counted: a database with eight services that need it is one failure. The hold ends when most of them
//! are well again, and at the latest after [`LASTS`]; after that they are healed one after the other.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp, tz::TimeZone};
use nexus_docker::{Container, Health, Snapshot, Status, StopCause};
use nexus_model::{Cause, Confidence, IncidentState, Mode, Now, Refusal, ServiceKey, api::HealingOnHold};
use serde::{Deserialize, Serialize};

use crate::{
    case::Case,
    dependencies::{self, World},
    diagnosis,
    facts::{self, Condition, ContainerFacts},
    policy::Healing,
    tell::{self, Alert, word},
};

/// What begins to fail within such a time has one cause.
const TOGETHER: SignedDuration = SignedDuration::from_mins(1);
/// For so long after it was seen an illness may be part of one that began earlier: the slowest of usual health checks need some
/// minutes to call a container unhealthy.
const NEWS: SignedDuration = SignedDuration::from_mins(5);
/// How long a hold lasts at most. What has not passed by then a restart may mend after all.
pub const LASTS: SignedDuration = SignedDuration::from_mins(10);
/// For how long after a hold a restart has to prove itself before the next one is made.
const CAREFUL: SignedDuration = SignedDuration::from_mins(10);
/// Services that a hold remembers. More make no difference to anybody.
const MOST: usize = 512;
/// Names in the message: it is read on a phone.
const MOST_NAMES: usize = 6;

/// What is ill at this moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// With the moment at which Docker saw it begin, as far as it still knows.
    pub ill: BTreeMap<ServiceKey, Option<Timestamp>>,
    /// Services that were ill before and are neither well nor ill: starting, restarted by Docker, on their way.
    pub between: BTreeSet<ServiceKey>,
}

/// What is known of one illness.
#[derive(Clone, Debug, PartialEq)]
struct Illness {
    began_at: Timestamp,
    seen: Now,
    /// It was so before the healer began to look, or was part of a hold: it is no news.
    is_old: bool,
}

/// The illnesses as they came.
#[derive(Clone, Debug, Default)]
pub struct Illnesses {
    ill: BTreeMap<ServiceKey, Illness>,
    has_looked: bool,
}

/// Healing is on hold, or was until just now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hold {
    pub since: Now,
    /// What has fallen ill together, and since.
    pub services: BTreeSet<ServiceKey>,
    /// How many failures that were when it began, those left out that only suffered from another.
    pub roots: usize,
    /// When it was over.
    pub over: Option<Now>,
}

impl Hold {
    /// Until when nothing is restarted, as long as it holds.
    pub fn until(&self, now: &Now) -> Option<Now> {
        if self.over.is_some() {
            return None;
        }
        let left = LASTS - now.since(&self.since);
        Some(now.after(left.max(SignedDuration::ZERO)))
    }

    /// Whether a restart must have proved itself before the next one.
    pub fn asks_for_care(&self, now: &Now) -> bool {
        self.over.as_ref().is_some_and(|over| now.since(over) < CAREFUL)
    }
}

/// What is ill in a snapshot, given what was before. `mode_of` says whose health is none of our business.
pub fn look(
    world: &World<'_>,
    before: &Illnesses,
    own_stack: &str,
    mode_of: impl Fn(&ServiceKey, &[ContainerFacts]) -> Mode,
) -> Seen {
    let mut seen = Seen::default();
    for watched in world.snapshot.containers.values() {
        let container = &*watched.container;
        // Most are well most of the time, and this is asked at every event.
        let runs = container.status == Status::Running && container.health != Health::Unhealthy;
        let Some(key) = container.key().filter(|_| !runs) else { continue };
        if key.project == own_stack || seen.ill.contains_key(&key) {
            continue;
        }
        let containers = facts::containers_of(world.snapshot, &key, world.stops, world.now);
        let began_at = containers
            .iter()
            // What the engine itself ended has a cause that is over, and none of it comes back without a start.
            .filter(|seen| seen.stop != StopCause::Engine)
            .filter(|seen| matches!(facts::condition(seen, world.cases.get(&key)), Condition::Ill(_)))
            .map(|seen| began_at(&seen.container))
            .min();
        if let Some(began_at) = began_at
            && mode_of(&key, &containers) != Mode::Off
        {
            seen.ill.insert(key, began_at);
        }
    }
    let on_their_way = before.ill.keys().filter(|key| !seen.ill.contains_key(*key)).filter(|key| {
        let containers = facts::containers_of(world.snapshot, key, world.stops, world.now);
        containers.iter().any(|seen| {
            let condition = facts::condition(seen, world.cases.get(*key));
            matches!(condition, Condition::Settling | Condition::Aside(Refusal::DockerRestarting))
        })
    });
    seen.between = on_their_way.cloned().collect();
    seen
}

/// When a container began to fail, if Docker still knows: it keeps the last five probes.
fn began_at(container: &Container) -> Option<Timestamp> {
    if matches!(container.status, Status::Exited | Status::Dead) {
        return container.finished_at;
    }
    let failed: Vec<_> = container.probes.iter().rev().take_while(|probe| probe.exit_code != 0).collect();
    let all_are_kept = u64::try_from(failed.len()).is_ok_and(|kept| kept >= container.failing_streak);
    failed.last().filter(|_| all_are_kept)?.start
}

/// Services that are expected to run: those that a third is taken of.
pub fn expected(snapshot: &Snapshot, own_stack: &str) -> usize {
    let runs = |container: &&Container| container.expected_to_run() && !container.is_one_off();
    let all = snapshot.containers.values().map(|watched| &*watched.container).filter(runs);
    let keys: BTreeSet<(&str, &str)> = all
        .filter(|container| container.project() != own_stack && container.key().is_some())
        .map(|container| (container.project(), container.service()))
        .collect();
    keys.len()
}

impl Illnesses {
    /// Takes in what is seen now.
    pub fn follow(&mut self, seen: &Seen, now: &Now) {
        self.ill.retain(|key, _| seen.ill.contains_key(key) || seen.between.contains(key));
        for (key, began_at) in &seen.ill {
            if self.ill.contains_key(key) {
                continue;
            }
            let age = began_at.map(|began_at| now.wall.duration_since(began_at));
            // At the first look everything is seen for the first time, and only Docker can say how long it has been so.
            let is_old = !self.has_looked && age.is_none_or(|age| age >= NEWS);
            let began_at = began_at.unwrap_or(now.wall);
            self.ill.insert(key.clone(), Illness { began_at, seen: now.clone(), is_old });
        }
        self.has_looked = true;
    }

    /// The largest number of services that have begun to fail together lately.
    fn together(&self, now: &Now) -> BTreeSet<ServiceKey> {
        let mut news: Vec<(Timestamp, &ServiceKey)> = self
            .ill
            .iter()
            .filter(|(_, illness)| !illness.is_old && now.since(&illness.seen) < NEWS)
            .map(|(key, illness)| (illness.began_at, key))
            .collect();
        news.sort_unstable();
        let from = |index: usize| {
            let first = news[index].0;
            news[index..].iter().take_while(move |(began_at, _)| began_at.duration_since(first) <= TOGETHER)
        };
        let most = (0..news.len()).max_by_key(|index| from(*index).count());
        most.map(|index| from(index).map(|(_, key)| (*key).clone()).collect()).unwrap_or_default()
    }

    pub fn is_empty(&self) -> bool {
        self.ill.is_empty()
    }
}

/// The failures among some services: each that suffers from another counts as that one.
fn roots(services: &BTreeSet<ServiceKey>, world: &World<'_>) -> BTreeSet<ServiceKey> {
    let is_troubled = |key: &ServiceKey| {
        let containers = facts::containers_of(world.snapshot, key, world.stops, world.now);
        let condition = |seen: &ContainerFacts| facts::condition(seen, world.cases.get(key));
        let conditions: Vec<Condition> = containers.iter().map(condition).collect();
        let is_done = |condition: &Condition| {
            matches!(condition, Condition::Aside(Refusal::NotExpectedToRun | Refusal::OneOff | Refusal::Gone))
        };
        !conditions.iter().all(is_done) && !conditions.contains(&Condition::Well)
    };
    let root = |key: &ServiceKey| {
        let below: Vec<ServiceKey> =
            dependencies::all_needs(key, world.snapshot).into_iter().filter(is_troubled).collect();
        // The nearest come first.
        let Some(farthest) = below.last() else { return key.clone() };
        // Those that need each other in a circle are one failure, whichever of them is asked.
        let reach = dependencies::all_needs(farthest, world.snapshot);
        let in_its_circle = |other: &&ServiceKey| {
            reach.contains(*other) && dependencies::all_needs(other, world.snapshot).contains(farthest)
        };
        let circle = below.iter().chain([key]).filter(in_its_circle);
        circle.chain([farthest]).min().unwrap_or(farthest).clone()
    };
    services.iter().map(root).collect()
}

/// What is on hold now, given what was.
pub fn next(
    hold: Option<&Hold>,
    illnesses: &mut Illnesses,
    world: &World<'_>,
    own_stack: &str,
    healing: &Healing,
    now: &Now,
) -> Option<Hold> {
    if let Some(standing) = hold.filter(|hold| hold.over.is_none()) {
        return Some(go_on(standing, illnesses, now));
    }
    let waning = hold.filter(|hold| hold.asks_for_care(now)).cloned();
    let together = illnesses.together(now);
    if together.len() < healing.hold_when_ill as usize || together.len() * 3 < expected(world.snapshot, own_stack) {
        return waning;
    }
    let roots = roots(&together, world).len();
    if roots < healing.hold_when_ill as usize {
        return waning;
    }
    let services = together.into_iter().take(MOST).collect();
    Some(Hold { since: now.clone(), services, roots, over: None })
}

fn go_on(hold: &Hold, illnesses: &mut Illnesses, now: &Now) -> Hold {
    let mut hold = hold.clone();
    for (key, illness) in &illnesses.ill {
        let is_of_it = !illness.is_old && now.since(&illness.seen) <= now.since(&hold.since);
        if is_of_it && hold.services.len() < MOST {
            hold.services.insert(key.clone());
        }
    }
    let is_over = still_ill(&hold, illnesses) * 2 < hold.services.len() || now.since(&hold.since) >= LASTS;
    if is_over {
        hold.over = Some(now.clone());
        // What is left of it does not begin another one.
        illnesses.ill.values_mut().for_each(|illness| illness.is_old = true);
    }
    hold
}

/// How many of those on hold are not well yet.
pub fn still_ill(hold: &Hold, illnesses: &Illnesses) -> usize {
    hold.services.iter().filter(|key| illnesses.ill.contains_key(*key)).count()
}

/// The cause that most of the services on hold have in common, as far as their incidents tell.
pub fn common_cause(hold: &Hold, cases: &BTreeMap<ServiceKey, Case>) -> Option<Cause> {
    let mut counts: BTreeMap<Cause, usize> = BTreeMap::new();
    let of_hold = hold.services.iter().filter_map(|key| cases.get(key)?.incident.diagnosis.as_ref());
    // What only follows from another is the cause of nothing.
    let tells = of_hold.filter(|it| it.confidence >= Confidence::Likely && it.cause != Cause::DependencyDown);
    for diagnosis in tells {
        *counts.entry(diagnosis.cause).or_default() += 1;
    }
    let (cause, count) = counts.into_iter().max_by_key(|(_, count)| *count)?;
    (count * 2 >= hold.roots.max(2)).then_some(cause)
}

/// The one message about all of them.
pub fn alert(hold: &Hold, cause: Option<Cause>, host: &str, zone: &TimeZone) -> Option<Alert> {
    if hold.over.is_some() {
        return None;
    }
    let names: Vec<String> = hold.services.iter().take(MOST_NAMES).map(ServiceKey::to_string).collect();
    let more = hold.services.len().saturating_sub(MOST_NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    let count = hold.services.len();
    let labels = BTreeMap::from([
        ("alertname", "HealingOnHold".to_owned()),
        ("severity", "critical".to_owned()),
        ("host", host.to_owned()),
    ]);
    let mut annotations = BTreeMap::from([
        ("summary", format!("{count} services fell ill together: healing is on hold")),
        (
            "description",
            format!(
                "{}{more}. Nothing is restarted until most of them are well, {} minutes at most.",
                names.join(", "),
                LASTS.as_mins()
            ),
        ),
        ("runbook_url", "docs/runbooks/HealingOnHold.md".to_owned()),
        ("dashboard_url", tell::DASHBOARD.to_owned()),
        ("since", tell::moment(hold.since.wall, zone)),
        ("action", action(hold)),
    ]);
    if let Some(cause) = cause {
        annotations.insert("cause", common(cause));
    }
    Some(Alert { labels, annotations, since: hold.since.wall })
}

/// Holds back what the rules say of the services that were on hold and are healed now, one after the other: by the end of a hold they
/// have all been ill for so long that each would be told. What healing does not mend says itself that it fails; what nobody heals is
/// not held back.
pub fn after(hold: &Hold, cases: &BTreeMap<ServiceKey, Case>, host: &str, now: &Now) -> Vec<Alert> {
    let Some(over) = hold.over.as_ref().filter(|_| hold.asks_for_care(now)) else { return Vec::new() };
    let is_healed = |case: &&Case| case.incident.mode == Mode::Heal && case.incident.state != IncidentState::GaveUp;
    let healed = hold.services.iter().filter(|key| cases.get(*key).as_ref().is_some_and(is_healed));
    healed
        .map(|key| tell::muting("HealingAfterHold", host, key, over.wall, "It was on hold and is healed now"))
        .collect()
}

/// What the API tells of it.
pub fn shown(hold: &Hold, cause: Option<Cause>, now: &Now) -> Option<HealingOnHold> {
    let until = hold.until(now)?.wall;
    let cause = cause.map_or_else(String::new, |cause| format!("; {}", common(cause)));
    let reason = format!("{} services fell ill together{cause}", hold.services.len());
    Some(HealingOnHold { since: hold.since.wall, until, services: hold.services.iter().cloned().collect(), reason })
}

fn common(cause: Cause) -> String {
    format!("what most of them have in common: {}", diagnosis::meaning(cause))
}

fn action(hold: &Hold) -> String {
    let project = hold.services.first().map(|key| word(&key.project)).unwrap_or_default();
    format!("./nexus status\ndf -h; free -m; dmesg | tail -30\ndocker compose -p {project} ps --all")
}

#[cfg(test)]
mod tests {
    use nexus_docker::{Probe, RestartPolicy, Watched};
    use nexus_model::{Diagnosis, labels};
    use proptest::prelude::*;

    use super::*;
    use crate::{
        facts::Stops,
        testing::{at, case, container, exited, wall},
    };

    fn of(service: &str, depends_on: &str, container: Container) -> Container {
        let mut container = Container { id: format!("id-{service}"), name: format!("shop-{service}-1"), ..container };
        container.labels.insert(labels::COMPOSE_SERVICE.into(), service.into());
        container.labels.insert(labels::COMPOSE_DEPENDS_ON.into(), depends_on.into());
        container
    }

    /// Unhealthy, and failing since so many seconds.
    fn failing(service: &str, depends_on: &str, since: i64) -> Container {
        let probe = |seconds: i64, exit_code: i64| Probe {
            start: wall(seconds),
            end: wall(seconds),
            exit_code,
            output: String::new(),
        };
        let probes = vec![probe(since - 10, 0), probe(since, 1), probe(since + 10, 1), probe(since + 20, 1)];
        of(service, depends_on, Container { probes, ..container() })
    }

    fn well(service: &str) -> Container {
        of(service, "", Container { health: Health::Healthy, failing_streak: 0, ..container() })
    }

    fn snapshot(containers: Vec<Container>) -> Snapshot {
        let watched = |container: Container| Watched {
            container: container.into(),
            stop: StopCause::Itself,
            has_been_healthy: true,
            oom_events: 0,
        };
        let containers = containers.into_iter().map(|container| (container.id.clone(), watched(container))).collect();
        Snapshot { up: true, containers, ..Snapshot::default() }
    }

    /// A healer that has looked before, and what it makes of snapshots.
    struct Eye {
        illnesses: Illnesses,
        hold: Option<Hold>,
        healing: Healing,
    }

    impl Eye {
        fn new() -> Self {
            Self {
                illnesses: Illnesses { has_looked: true, ..Illnesses::default() },
                hold: None,
                healing: Healing::default(),
            }
        }

        fn looks(&mut self, containers: Vec<Container>, seconds: i64) -> Option<&Hold> {
            let snapshot = snapshot(containers);
            let (stops, cases, fresh) = (Stops::new(), BTreeMap::new(), BTreeSet::new());
            let world = World {
                snapshot: &snapshot,
                stops: &stops,
                cases: &cases,
                probes: &BTreeMap::new(),
                fresh: &fresh,
                now: at(seconds).wall,
            };
            let mode_of = |key: &ServiceKey, _: &[ContainerFacts]| {
                if key.service.starts_with("off") { Mode::Off } else { Mode::Heal }
            };
            let seen = look(&world, &self.illnesses, "nexus", mode_of);
            self.illnesses.follow(&seen, &at(seconds));
            self.hold = next(self.hold.as_ref(), &mut self.illnesses, &world, "nexus", &self.healing, &at(seconds));
            self.hold.as_ref().filter(|hold| hold.over.is_none())
        }
    }

    fn five(since: i64) -> Vec<Container> {
        ["a", "b", "c", "d", "e"].map(|service| failing(service, "", since)).into()
    }

    #[test]
    fn many_that_fail_together_are_the_host() {
        let held =
            |containers: Vec<Container>| Eye::new().looks(containers, 30).map(|hold| (hold.services.len(), hold.roots));
        assert_eq!(held(five(0)), Some((5, 5)));
        assert_eq!(held(five(0).into_iter().skip(1).collect()), None, "four are no host");
        let exits = |service: &str| of(service, "", Container { finished_at: wall(5), ..exited(137) });
        assert_eq!(held(["a", "b", "c", "d", "e"].map(exits).into()), Some((5, 5)));
        // A third of all, and not less.
        let with =
            |count: usize| five(0).into_iter().chain((0..count).map(|number| well(&format!("w{number}")))).collect();
        assert_eq!(held(with(10)), Some((5, 5)));
        assert_eq!(held(with(11)), None);
        // Those that nobody expects to run are no part of all.
        let done = |number: usize| {
            of(&format!("job{number}"), "", Container { restart_policy: RestartPolicy::No, ..exited(0) })
        };
        assert_eq!(held(with(10).into_iter().chain((0..9).map(done)).collect()), Some((5, 5)));
        // Each began a while after the other: five failures.
        let one_by_one = ["a", "b", "c", "d", "e"].into_iter().zip([-80, -60, -40, -20, 0]);
        assert_eq!(held(one_by_one.map(|(service, since)| failing(service, "", since)).collect()), None);
        // What people switched off is no concern of ours.
        let mut off = five(0);
        off[4] = failing("off", "", 0);
        assert_eq!(held(off), None);
    }

    #[test]
    fn who_suffers_from_another_is_not_counted() {
        let needs = |service: &str, on: &str| failing(service, &format!("{on}:service_started:false"), 0);
        let chain = || ["a", "b", "c", "d", "e", "f", "g", "h"].map(|service| needs(service, "db"));
        let held =
            |containers: Vec<Container>| Eye::new().looks(containers, 30).map(|hold| (hold.services.len(), hold.roots));
        assert_eq!(held(chain().into_iter().chain([failing("db", "", 0)]).collect()), None, "one failure");
        // Also when somebody stopped the database, which is no failure at all.
        assert_eq!(held(chain().into_iter().chain([of("db", "", exited(0))]).collect()), None);
        // They need it, and it is well: then they fail for themselves.
        assert_eq!(held(chain().into_iter().chain([well("db")]).collect()), Some((8, 8)));
        // A circle is one failure.
        let circle = [("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"), ("e", "a"), ("f", "a")];
        assert_eq!(held(circle.map(|(service, on)| needs(service, on)).into()), None);
        // Four with a failure of their own, and many that need one of them.
        let with = |count: usize| {
            let roots = ["p", "q", "r", "s", "t"].into_iter().take(count).map(|service| failing(service, "", 0));
            roots.chain(["a", "b", "c", "d"].map(|service| needs(service, "p"))).collect::<Vec<_>>()
        };
        assert_eq!(held(with(4)), None);
        assert_eq!(held(with(5)), Some((9, 5)));
    }

    #[test]
    fn it_ends_when_most_are_well_and_what_is_left_begins_no_other() {
        let mut eye = Eye::new();
        assert!(eye.looks(five(0), 30).is_some());
        // Another falls ill of the same, and one is on its way: neither well nor ill.
        let with = |ill: &[&str]| {
            let all = ["a", "b", "c", "d", "e", "f"].into_iter();
            all.map(|service| if ill.contains(&service) { failing(service, "", 0) } else { well(service) })
                .collect::<Vec<_>>()
        };
        assert_eq!(eye.looks(with(&["a", "b", "c", "d", "e", "f"]), 40).map(|hold| hold.services.len()), Some(6));
        let mut starting = with(&["a", "b"]);
        starting[2] = of("c", "", Container { health: Health::Starting, ..container() });
        assert!(eye.looks(starting, 50).is_some(), "three of six are not well");
        assert!(eye.looks(with(&["a", "b"]), 60).is_none());
        assert!(eye.hold.as_ref().is_some_and(|hold| hold.asks_for_care(&at(60)) && !hold.asks_for_care(&at(660))));
        assert!(eye.looks(with(&["a", "b"]), 61).is_none());
        assert!(eye.looks(with(&["a", "b"]), 661).is_none());
        assert_eq!(eye.hold, None, "nothing to be careful about any more");
        // It was well, and all fall ill anew: that is news.
        eye.looks(with(&[]), 700);
        assert!(eye.looks(five(710), 740).is_some());
    }

    #[test]
    fn it_ends_at_the_latest_after_ten_minutes() {
        let mut eye = Eye::new();
        let until = eye.looks(five(0), 30).unwrap().until(&at(100));
        assert_eq!(until, Some(at(630)));
        assert!(eye.looks(five(0), 629).is_some());
        assert!(eye.looks(five(0), 630).is_none());
        assert_eq!(eye.hold.as_ref().unwrap().until(&at(630)), None);
        // They are all still ill, and that is no other trouble.
        for seconds in [631, 700, 1_300, 9_000] {
            assert!(eye.looks(five(0), seconds).is_none(), "{seconds}");
        }
    }

    #[test]
    fn what_was_ill_before_the_healer_looked_is_no_news() {
        let first = |since: i64, seconds: i64| {
            let mut eye = Eye { illnesses: Illnesses::default(), ..Eye::new() };
            eye.looks(five(since), seconds).is_some()
        };
        assert!(first(0, 30), "the trouble that killed the healer");
        assert!(first(0, 299));
        assert!(!first(0, 300));
        // Of one that has failed for longer than Docker keeps probes nobody knows when it began.
        let mut eye = Eye { illnesses: Illnesses::default(), ..Eye::new() };
        let long = five(0).into_iter().map(|container| Container { failing_streak: 90, ..container }).collect();
        assert!(eye.looks(long, 30).is_none());
    }

    #[test]
    fn one_message_names_some_of_them_and_what_they_have_in_common() {
        let mut eye = Eye::new();
        let many = (0..30).map(|number| failing(&format!("s{number:02}"), "", 0)).collect();
        let hold = eye.looks(many, 30).unwrap().clone();
        let told = alert(&hold, Some(Cause::DiskFull), "pi", &TimeZone::UTC).unwrap();
        assert_eq!(told.labels["alertname"], "HealingOnHold");
        assert!(!told.labels.contains_key("project"), "it is about the host");
        assert_eq!(told.annotations["summary"], "30 services fell ill together: healing is on hold");
        assert!(told.annotations["description"].starts_with("shop/s00, shop/s01, "));
        assert!(told.annotations["description"].contains("shop/s05 and 24 more. "));
        assert!(
            told.annotations["description"].len() <= 200 && told.annotations["action"].len() <= 200,
            "cut on a phone"
        );
        assert!(told.annotations["cause"].starts_with("what most of them have in common: "));
        assert_eq!(alert(&Hold { over: Some(at(99)), ..hold.clone() }, None, "pi", &TimeZone::UTC), None);

        let said = |cause, confidence| {
            let mut case = case();
            let text = String::new;
            let because = Vec::new();
            let diagnosis =
                Diagnosis { cause, confidence, summary: text(), because, recommendation: text(), at: at(0).wall };
            case.incident.diagnosis = Some(diagnosis);
            case
        };
        let cases = |count: usize, confidence| -> BTreeMap<ServiceKey, Case> {
            let keys = hold.services.iter().take(count).cloned();
            keys.map(|key| (key, said(Cause::DiskFull, confidence))).collect()
        };
        assert_eq!(common_cause(&hold, &cases(15, Confidence::Likely)), Some(Cause::DiskFull));
        assert_eq!(common_cause(&hold, &cases(14, Confidence::Likely)), None);
        assert_eq!(common_cause(&hold, &cases(30, Confidence::Guess)), None);
        assert_eq!(common_cause(&hold, &BTreeMap::new()), None);
    }

    #[test]
    fn after_a_hold_what_is_healed_is_held_back_until_it_is_well_or_the_care_is_over() {
        let key = |service: &str| ServiceKey::new("shop", service);
        let with = |state, mode| {
            let mut case = case();
            (case.incident.state, case.incident.mode) = (state, mode);
            case
        };
        let cases = BTreeMap::from([
            (key("a"), with(IncidentState::Suspect, Mode::Heal)),
            (key("b"), with(IncidentState::Verifying, Mode::Heal)),
            (key("c"), with(IncidentState::GaveUp, Mode::Heal)),
            (key("d"), with(IncidentState::Watching, Mode::Shadow)),
            (key("z"), with(IncidentState::Suspect, Mode::Heal)),
        ]);
        let services = ["a", "b", "c", "d", "e"].map(key).into();
        let hold = Hold { since: at(0), services, roots: 5, over: None };
        let muted = |hold: &Hold, seconds: i64| -> Vec<String> {
            let alerts = after(hold, &cases, "pi", &at(seconds)).into_iter();
            alerts.map(|alert| alert.labels["service"].clone()).collect()
        };
        assert_eq!(muted(&hold, 500), [""; 0], "the one message holds them all back");
        let over = Hold { over: Some(at(600)), ..hold };
        assert_eq!(muted(&over, 600), ["a", "b"], "not what nobody heals, or was never on hold");
        assert_eq!(muted(&over, 1199), ["a", "b"]);
        assert_eq!(muted(&over, 1200), [""; 0]);
        let one = after(&over, &cases, "pi", &at(600)).remove(0);
        assert_eq!((one.labels["severity"].as_str(), one.labels["project"].as_str()), ("none", "shop"));
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// Whatever falls ill when: a hold stands only with five failures of which none needs another, never for more than ten
        /// minutes, and never of one failure and all that need it.
        #[test]
        fn a_hold_has_its_reason_and_its_end(
            falls in proptest::collection::vec((0..8_usize, 0..1200_i64, 1..900_i64), 0..40),
            needs in proptest::collection::vec(0..9_usize, 8),
        ) {
            let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
            let mut eye = Eye::new();
            let mut since: Option<i64> = None;
            for seconds in (0..2400).step_by(20) {
                let ill_since = |service: usize| {
                    let holds = falls.iter().filter(|(one, from, lasts)| *one == service && (*from..from + lasts).contains(&seconds));
                    holds.map(|(_, from, _)| *from).min()
                };
                let containers: Vec<Container> = (0..8).map(|service| match ill_since(service) {
                    Some(since) => {
                        let needed = names.get(needs[service]).map(|name| format!("{name}:service_started:false"));
                        failing(names[service], &needed.unwrap_or_default(), since)
                    }
                    None => well(names[service]),
                }).collect();
                let ill = (0..8).filter(|service| ill_since(*service).is_some()).count();
                let held = eye.looks(containers, seconds).cloned();
                match (&held, since) {
                    (Some(hold), None) => {
                        prop_assert!(ill >= 5 && hold.roots >= 5, "{hold:?}");
                        since = Some(seconds);
                    }
                    (Some(_), Some(since)) => prop_assert!(seconds - since < 600),
                    (None, _) => since = None,
                }
            }
        }
    }
}
