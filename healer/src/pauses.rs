//! Pauses: for a while the owner wants nothing to be restarted, of a service, a project or everything. Pure.
//!
//! Each has an end, measured as all waits are: by the boot clock within a boot, so that a machine without a clock of its own
//! neither ends it early nor holds it for ever. Kept in the journal; this is the copy that decisions are made from.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp, Unit};
use nexus_model::{
    Now, ServiceKey,
    control::{PAUSE_SECONDS_LIMIT, Pause},
};
use serde::{Deserialize, Serialize};

/// Pauses that may hold at once. More than a host has services: whoever fills it sends nonsense.
pub const MOST: usize = 1000;

/// What a pause covers: one service, a whole project, or everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Covers {
    pub project: Option<String>,
    /// Never without a project.
    pub service: Option<String>,
}

/// A pause as it was set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Held {
    pub since: Now,
    pub seconds: u64,
    pub reason: Option<String>,
}

/// All that were set and not taken back; those that are over count as none.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Pauses(pub BTreeMap<Covers, Held>);

impl Covers {
    pub fn covers(&self, key: &ServiceKey) -> bool {
        self.project.as_ref().is_none_or(|project| *project == key.project)
            && self.service.as_ref().is_none_or(|service| *service == key.service)
    }
}

impl Held {
    /// Until when it holds; `None`: it is over.
    fn until(&self, now: &Now) -> Option<Now> {
        let lasts = i64::try_from(self.seconds.min(PAUSE_SECONDS_LIMIT)).unwrap_or_default();
        let lasts = SignedDuration::from_secs(lasts);
        let left = now.until_at_most(&self.since.after(lasts), lasts);
        (left > SignedDuration::ZERO).then(|| now.after(left))
    }
}

impl Pauses {
    /// Of the pauses that cover a service, the one that holds longest.
    pub fn over(&self, key: &ServiceKey, now: &Now) -> Option<(Pause, Now)> {
        let covering = self.0.iter().filter(|(covers, _)| covers.covers(key));
        let held = covering.filter_map(|(covers, held)| Some((shown(covers, held, now)?, held.until(now)?)));
        held.max_by_key(|(pause, _)| pause.until)
    }

    /// Those that hold now.
    pub fn holding(&self, now: &Now) -> Vec<Pause> {
        self.0.iter().filter_map(|(covers, held)| shown(covers, held, now)).collect()
    }

    /// Those that are over, which the journal need not keep.
    pub fn over_with(&self, now: &Now) -> Vec<Covers> {
        self.0.iter().filter(|(_, held)| held.until(now).is_none()).map(|(covers, _)| covers.clone()).collect()
    }
}

fn shown(covers: &Covers, held: &Held, now: &Now) -> Option<Pause> {
    let Covers { project, service } = covers.clone();
    // Two clocks are not read at the very same moment: to the second, it is the same end each time.
    let second = |at: Timestamp| at.round(Unit::Second).unwrap_or(at);
    let (since, until) = (second(held.since.wall), second(held.until(now)?.wall));
    Some(Pause { project, service, since, until, reason: held.reason.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{at, key};

    fn covers(project: Option<&str>, service: Option<&str>) -> Covers {
        Covers { project: project.map(str::to_owned), service: service.map(str::to_owned) }
    }

    fn pauses(all: &[(Covers, i64, u64)]) -> Pauses {
        let held = |(covers, since, seconds): &(Covers, i64, u64)| {
            (covers.clone(), Held { since: at(*since), seconds: *seconds, reason: None })
        };
        Pauses(all.iter().map(held).collect())
    }

    #[test]
    fn a_pause_covers_a_service_a_project_or_everything_until_its_end() {
        let check = |covers: Covers, expected: bool| {
            let pauses = pauses(&[(covers.clone(), 0, 60)]);
            assert_eq!(pauses.over(&key(), &at(59)).is_some(), expected, "{covers:?}");
            assert_eq!(pauses.over(&key(), &at(60)), None, "{covers:?}");
            assert_eq!((pauses.holding(&at(59)).len(), pauses.over_with(&at(59)).len()), (1, 0));
            assert_eq!((pauses.holding(&at(60)).len(), pauses.over_with(&at(60))), (0, vec![covers]));
        };
        check(covers(None, None), true);
        check(covers(Some("shop"), None), true);
        check(covers(Some("shop"), Some("web")), true);
        check(covers(Some("shop"), Some("db")), false);
        check(covers(Some("blog"), None), false);
        check(covers(Some("blog"), Some("web")), false);
    }

    #[test]
    fn the_longest_that_covers_it_counts() {
        let pauses = pauses(&[
            (covers(None, None), 0, 60),
            (covers(Some("shop"), None), 0, 90),
            (covers(Some("shop"), Some("web")), 0, 30),
            (covers(Some("blog"), None), 0, 900),
        ]);
        let (pause, until) = pauses.over(&key(), &at(10)).unwrap();
        assert_eq!((pause.target().as_str(), until), ("shop", at(90)));
        assert_eq!(pause.until, at(90).wall);
    }

    #[test]
    fn clocks_that_jump_neither_end_it_early_nor_hold_it_for_ever() {
        let pauses = pauses(&[(covers(None, None), 0, 3600)]);
        let holds = |now: Now| pauses.over(&key(), &now).is_some();
        // NTP steps the wall clock by a day within the boot.
        let stepped = Now { wall: at(86_400).wall, ..at(60) };
        assert!(holds(stepped.clone()));
        assert_eq!(pauses.holding(&stepped)[0].until, stepped.after(SignedDuration::from_secs(3540)).wall);
        // Another boot, whose wall clock is a day behind: as long as it was meant to last, from that boot on.
        let behind = |seconds: i64| Now {
            wall: at(seconds - 86_400).wall,
            boottime: SignedDuration::from_secs(seconds),
            boot_id: "other".into(),
        };
        assert!(holds(behind(3599)) && !holds(behind(3600)));
        // A row that somebody edited holds no longer than any pause may.
        let edited = Pauses([(covers(None, None), Held { since: at(0), seconds: u64::MAX, reason: None })].into());
        assert_eq!(edited.over(&key(), &at(PAUSE_SECONDS_LIMIT as i64)), None);
    }
}
