//! The shadow record: what healing would have done for services that are only watched, and whether it would have helped.
//!
//! Counted from incidents and a few lines of their stories, so that whoever has either (the healer its journal, a reader
//! Postgres) comes to the same numbers. What counts as help is decided by the healer when it happens, not here: it writes
//! [`WOULD_HAVE_HELPED`] or [`WOULD_NOT_HAVE_HELPED`] when somebody else has restarted the container after a would-be restart
//! and that has proved itself, or has not, as one of its own would have to. docs/healing.md has the definition for people.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use crate::{Incident, IncidentEvent, IncidentState, Mode, Outcome};

/// Lines of a story that count here: a restart was due, and was not made since the service is only watched.
pub const WOULD_RESTART: &str = "would_restart";
/// Somebody else started the container anew after that.
pub const RESTARTED_ELSEWHERE: &str = "restarted_elsewhere";
/// That restart has proved itself: so would have the one that was due.
pub const WOULD_HAVE_HELPED: &str = "would_have_helped";
/// It has not.
pub const WOULD_NOT_HAVE_HELPED: &str = "would_not_have_helped";
/// What was due so far will never have a verdict: the machine was booted, for example.
pub const WOULD_NOT_BE_KNOWN: &str = "would_not_be_known";
/// The service was well, and must have stayed so; and that it did not.
pub const VERIFIED: &str = "verified";
pub const RELAPSE: &str = "relapse";

/// The lines that [`records`] looks at; others may be given and say nothing.
pub const COUNTED: [&str; 6] =
    [WOULD_RESTART, WOULD_HAVE_HELPED, WOULD_NOT_HAVE_HELPED, WOULD_NOT_BE_KNOWN, VERIFIED, RELAPSE];

/// How far back a record looks when nobody says.
pub const WINDOW: SignedDuration = SignedDuration::from_hours(7 * 24);
/// The farthest: older incidents are not kept by the healer.
pub const LONGEST_WINDOW: SignedDuration = SignedDuration::from_hours(90 * 24);

/// One incident with its lines, oldest first.
#[derive(Clone, Debug, PartialEq)]
pub struct Story {
    pub incident: Incident,
    pub events: Vec<IncidentEvent>,
}

/// What healing would have done for one service within a window.
///
/// `would_be_restarts` is the sum of `would_have_helped`, `would_not_have_helped` and `not_known`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ShadowRecord {
    pub project: String,
    pub service: String,
    /// Incidents in which it was watched and that were open at some time of the window.
    pub incidents: u32,
    /// Of these, the ones that were over before a restart was due.
    pub well_before: u32,
    /// Restarts that healing would have made.
    pub would_be_restarts: u32,
    pub would_have_helped: u32,
    pub would_not_have_helped: u32,
    /// Nobody restarted it, so nobody can say.
    pub not_known: u32,
    /// How long it was ill within the window, all incidents together.
    pub ill_seconds: u64,
    /// The same for people, in one sentence.
    pub sentence: String,
}

/// `GET /api/v1/shadow`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ShadowReport {
    pub since: Timestamp,
    pub until: Timestamp,
    /// By project and service; those without an incident are left out.
    pub services: Vec<ShadowRecord>,
    /// There were more incidents than are looked at: the oldest are left out.
    pub truncated: bool,
}

/// Counts what happened from `since` to `until`, service by service. The stories are those of one host.
pub fn records<'s>(
    stories: impl IntoIterator<Item = &'s Story>,
    since: Timestamp,
    until: Timestamp,
) -> Vec<ShadowRecord> {
    let mut records: BTreeMap<(&str, &str), ShadowRecord> = BTreeMap::new();
    for story in stories {
        let incident = &story.incident;
        if !was_watched(story) || incident.opened_at > until || incident.closed_at.is_some_and(|at| at < since) {
            continue;
        }
        let record = records.entry((&incident.project, &incident.service)).or_default();
        record.incidents += 1;
        let counts = |at: &&Timestamp| (since..=until).contains(*at);
        for (ats, helped) in tries(&story.events) {
            let counted = ats.iter().filter(counts).count() as u32;
            record.would_be_restarts += counted;
            match helped {
                Some(true) => record.would_have_helped += counted,
                Some(false) => record.would_not_have_helped += counted,
                None => record.not_known += counted,
            }
        }
        let never_due = story.events.iter().all(|event| event.kind != WOULD_RESTART);
        let got_well = matches!(incident.outcome, Some(Outcome::RecoveredByItself | Outcome::Recovered));
        if never_due && got_well {
            record.well_before += 1;
        }
        let ill = ill_until(story).unwrap_or(until).min(until).duration_since(incident.opened_at.max(since));
        record.ill_seconds = record.ill_seconds.saturating_add(u64::try_from(ill.as_secs()).unwrap_or_default());
    }
    let named = |((project, service), mut record): ((&str, &str), ShadowRecord)| {
        (record.project, record.service) = (project.to_owned(), service.to_owned());
        record.sentence = sentence(&record, until.duration_since(since));
        record
    };
    records.into_iter().map(named).collect()
}

/// Whether it was only watched, at the end or for a while.
fn was_watched(story: &Story) -> bool {
    story.incident.mode == Mode::Shadow || story.events.iter().any(|event| event.kind == WOULD_RESTART)
}

/// The restarts that healing would have made, with what is known of them: those up to each verdict together.
///
/// Where a restart helped, the first one that was due would have, and those that were written down after it would not
/// have been made. Where it did not help, all of them would have been made in vain.
fn tries(events: &[IncidentEvent]) -> Vec<(Vec<Timestamp>, Option<bool>)> {
    let mut found = Vec::new();
    let mut due: Vec<Timestamp> = Vec::new();
    for event in events {
        match event.kind.as_str() {
            WOULD_RESTART => due.push(event.at),
            WOULD_HAVE_HELPED => {
                due.truncate(1);
                found.push((std::mem::take(&mut due), Some(true)));
            }
            WOULD_NOT_HAVE_HELPED => found.push((std::mem::take(&mut due), Some(false))),
            WOULD_NOT_BE_KNOWN => found.push((std::mem::take(&mut due), None)),
            _ => (),
        }
    }
    found.push((due, None));
    found
}

/// Until when it was ill: to the moment it became well for good, not to the end of the time that it had to stay so.
/// `None`: it still is.
fn ill_until(story: &Story) -> Option<Timestamp> {
    let last = story.events.iter().rfind(|event| [VERIFIED, RELAPSE].contains(&event.kind.as_str()));
    let well = last.filter(|event| event.kind == VERIFIED).map(|event| event.at);
    let closed = story.incident.closed_at.filter(|_| story.incident.state == IncidentState::Closed);
    well.or(closed)
}

fn sentence(record: &ShadowRecord, window: SignedDuration) -> String {
    let name = format!("{}/{}", record.project, record.service);
    let when = window_words(window);
    let ill = times(record.incidents);
    if record.would_be_restarts == 0 {
        return format!("{name} fell ill {ill} {when}, and no restart was due");
    }
    let due = times(record.would_be_restarts);
    let mut said = Vec::new();
    let (helped, not, unknown) = (record.would_have_helped, record.would_not_have_helped, record.not_known);
    if helped > 0 {
        said.push(format!("{helped} would have helped"));
    }
    if not > 0 {
        said.push(format!("{not} would not{}", if helped > 0 { "" } else { " have helped" }));
    }
    match unknown {
        0 => (),
        _ if helped + not == 0 => said.push("whether that would have helped is not known".to_owned()),
        unknown => said.push(format!("of {unknown} it is not known")),
    }
    format!("would have restarted {name} {due} {when}, {}", said.join(", "))
}

fn times(count: u32) -> String {
    match count {
        1 => "once".to_owned(),
        count => format!("{count} times"),
    }
}

/// `this week`, `in the last 3 days`, `in the last 5 hours`.
fn window_words(window: SignedDuration) -> String {
    let round = |unit: i64| (window.as_secs() + unit / 2) / unit;
    let some = |count: i64, unit: &str| match count {
        1 => format!("in the last {unit}"),
        count => format!("in the last {count} {unit}s"),
    };
    match window.as_secs() {
        seconds if (seconds - WINDOW.as_secs()).abs() <= 60 => "this week".to_owned(),
        ..7_200 => some(round(60).max(1), "minute"),
        7_200..172_800 => some(round(3_600), "hour"),
        _ => some(round(86_400), "day"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use uuid::Uuid;

    use super::*;

    const HOUR: i64 = 3_600;
    const WEEK: i64 = 7 * 24 * HOUR;
    /// The moment at which it is asked, for a window of a week.
    const NOW: i64 = 1_800_000_000;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(NOW + second).unwrap()
    }

    /// An incident from `opened` to `closed`, with these lines.
    fn story(opened: i64, closed: Option<(i64, Outcome)>, lines: &[(&str, i64)]) -> Story {
        let incident = Incident {
            id: Uuid::from_u128(1),
            host: "pi".into(),
            project: "shop".into(),
            service: "web".into(),
            container_name: "shop-web-1".into(),
            image: "shop/web:1".into(),
            alert: "ContainerUnhealthy".into(),
            mode: Mode::Shadow,
            state: if closed.is_some() { IncidentState::Closed } else { IncidentState::Watching },
            outcome: closed.map(|(_, outcome)| outcome),
            problem: "unhealthy".into(),
            refusal: None,
            diagnosis: None,
            opened_at: at(opened),
            last_alert_at: at(opened),
            closed_at: closed.map(|(closed, _)| at(closed)),
            attempts: 0,
            failed_attempts: 0,
            next_attempt_at: None,
            acknowledged_at: None,
            revision: 1,
            recorded_at: None,
        };
        let event = |(kind, second): &(&str, i64)| IncidentEvent {
            id: Uuid::from_u128(2),
            incident_id: incident.id,
            at: at(*second),
            kind: (*kind).to_owned(),
            detail: String::new(),
        };
        let events = lines.iter().map(event).collect();
        Story { incident, events }
    }

    fn of(stories: &[Story]) -> ShadowRecord {
        let mut all = records(stories, at(-WEEK), at(0));
        assert_eq!(all.len(), 1);
        all.remove(0)
    }

    const BY_ITSELF: Outcome = Outcome::RecoveredByItself;

    /// (would be, helped, not helped, not known, well before, ill for so many seconds)
    fn counts(record: &ShadowRecord) -> (u32, u32, u32, u32, u32, u64) {
        let known = (record.would_have_helped, record.would_not_have_helped, record.not_known);
        (record.would_be_restarts, known.0, known.1, known.2, record.well_before, record.ill_seconds)
    }

    #[test]
    fn each_course_of_an_incident_is_counted_for_what_is_known_of_it() {
        let check = |what: &str, story: Story, expected: (u32, u32, u32, u32, u32, u64), says: &str| {
            let record = of(&[story]);
            assert_eq!(counts(&record), expected, "{what}");
            assert_eq!(record.sentence, says, "{what}");
        };
        let closed = Some((-1_000, BY_ITSELF));
        check(
            "somebody restarted it and it stayed well",
            story(
                -2_000,
                closed,
                &[
                    (WOULD_RESTART, -1_999),
                    (RESTARTED_ELSEWHERE, -1_500),
                    (VERIFIED, -1_400),
                    (WOULD_HAVE_HELPED, -1_000),
                ],
            ),
            (1, 1, 0, 0, 0, 600),
            "would have restarted shop/web once this week, 1 would have helped",
        );
        check(
            "more were written down until somebody came: the first would have been the only one",
            story(
                -2_000,
                closed,
                &[
                    (WOULD_RESTART, -1_999),
                    (WOULD_RESTART, -1_900),
                    (WOULD_RESTART, -1_800),
                    (WOULD_HAVE_HELPED, -1_000),
                ],
            ),
            (1, 1, 0, 0, 0, 1_000),
            "would have restarted shop/web once this week, 1 would have helped",
        );
        check(
            "somebody restarted it in vain",
            story(-2_000, None, &[(WOULD_RESTART, -1_999), (WOULD_RESTART, -1_900), (WOULD_NOT_HAVE_HELPED, -1_800)]),
            (2, 0, 2, 0, 0, 2_000),
            "would have restarted shop/web 2 times this week, 2 would not have helped",
        );
        check(
            "it became well, and nobody knows why",
            story(
                -2_000,
                closed,
                &[(WOULD_RESTART, -1_999), (VERIFIED, -1_500), (RELAPSE, -1_400), (VERIFIED, -1_100)],
            ),
            (1, 0, 0, 1, 0, 900),
            "would have restarted shop/web once this week, whether that would have helped is not known",
        );
        check(
            "it was well before a restart was due",
            story(-2_000, closed, &[(VERIFIED, -1_990)]),
            (0, 0, 0, 0, 1, 10),
            "shop/web fell ill once this week, and no restart was due",
        );
        check(
            "it was recreated before a restart was due",
            story(-2_000, Some((-1_000, Outcome::Gone)), &[]),
            (0, 0, 0, 0, 0, 1_000),
            "shop/web fell ill once this week, and no restart was due",
        );
        check(
            "one in vain, one that helped, and ill again since",
            story(
                -2_000,
                None,
                &[
                    (WOULD_RESTART, -1_999),
                    (WOULD_NOT_HAVE_HELPED, -1_900),
                    (WOULD_RESTART, -1_800),
                    (WOULD_HAVE_HELPED, -1_700),
                    (WOULD_RESTART, -1_600),
                ],
            ),
            (3, 1, 1, 1, 0, 2_000),
            "would have restarted shop/web 3 times this week, 1 would have helped, 1 would not, of 1 it is not known",
        );
        check(
            "two, a boot, and another that helped",
            story(
                -2_000,
                closed,
                &[
                    (WOULD_RESTART, -1_999),
                    (WOULD_RESTART, -1_900),
                    (WOULD_NOT_BE_KNOWN, -1_850),
                    (WOULD_RESTART, -1_800),
                    (VERIFIED, -1_750),
                    (WOULD_HAVE_HELPED, -1_700),
                ],
            ),
            (3, 1, 0, 2, 0, 250),
            "would have restarted shop/web 3 times this week, 1 would have helped, of 2 it is not known",
        );
    }

    #[test]
    fn only_what_is_within_the_window_counts() {
        // It began before the week, and the restart that would have helped was due then.
        let began_before = story(
            -WEEK - 100,
            Some((-WEEK + 50, BY_ITSELF)),
            &[
                (WOULD_RESTART, -WEEK - 99),
                (WOULD_RESTART, -WEEK + 1),
                (VERIFIED, -WEEK + 10),
                (WOULD_HAVE_HELPED, -WEEK + 50),
            ],
        );
        assert_eq!(counts(&of(&[began_before])), (0, 0, 0, 0, 0, 10));
        let over = story(-WEEK - 100, Some((-WEEK - 50, BY_ITSELF)), &[(WOULD_RESTART, -WEEK - 99)]);
        let later = story(10, None, &[(WOULD_RESTART, 11)]);
        assert_eq!(records(&[over, later], at(-WEEK), at(0)), []);
    }

    #[test]
    fn what_was_healed_all_along_is_not_in_it_and_services_are_apart() {
        let mut healed = story(-100, None, &[(VERIFIED, -50)]);
        healed.incident.mode = Mode::Heal;
        assert_eq!(records(&[healed.clone()], at(-WEEK), at(0)), []);
        // Its owner has switched healing on meanwhile.
        let mut switched =
            story(-100, Some((-10, Outcome::Recovered)), &[(WOULD_RESTART, -99), (WOULD_HAVE_HELPED, -10)]);
        switched.incident.mode = Mode::Heal;
        let mut other = story(-100, None, &[(WOULD_RESTART, -99)]);
        other.incident.service = "db".into();
        let found = records(&[switched.clone(), other, switched], at(-WEEK), at(0));
        let names: Vec<_> = found.iter().map(|record| (record.service.as_str(), record.would_have_helped)).collect();
        assert_eq!(names, [("db", 0), ("web", 2)]);
    }

    #[test]
    fn the_window_is_said_as_people_say_it() {
        for (seconds, words) in [
            (WEEK, "this week"),
            (WEEK + 5, "this week"),
            (30, "in the last minute"),
            (1_800, "in the last 30 minutes"),
            (24 * HOUR, "in the last 24 hours"),
            (72 * HOUR, "in the last 3 days"),
            (4 * WEEK, "in the last 28 days"),
        ] {
            assert_eq!(window_words(SignedDuration::from_secs(seconds)), words);
        }
    }

    fn any_story() -> impl Strategy<Value = Story> {
        let kinds = prop::sample::select(&[
            WOULD_RESTART,
            WOULD_RESTART,
            RESTARTED_ELSEWHERE,
            WOULD_HAVE_HELPED,
            WOULD_NOT_HAVE_HELPED,
            WOULD_NOT_BE_KNOWN,
            VERIFIED,
            RELAPSE,
            "opened",
        ]);
        let outcome = prop::option::of(prop::sample::select(&Outcome::ALL));
        // Lines in any order of time as well: a clock may have been set back.
        let lines = prop::collection::vec((kinds, -2 * WEEK..WEEK), 0..12);
        (lines, -2 * WEEK..WEEK, -2 * WEEK..WEEK, outcome, prop::bool::ANY).prop_map(
            |(lines, opened, closed, outcome, heals)| {
                let mut story = story(opened, outcome.map(|outcome| (closed, outcome)), &lines);
                story.incident.mode = if heals { Mode::Heal } else { Mode::Shadow };
                story
            },
        )
    }

    proptest! {
        /// Whatever the journal holds: counts add up, nothing helped that was not due, nothing is counted twice.
        #[test]
        fn counts_add_up(stories in prop::collection::vec(any_story(), 0..8), split in 0..WEEK) {
            let whole = records(&stories, at(-WEEK), at(0));
            for record in &whole {
                let known = record.would_have_helped + record.would_not_have_helped;
                prop_assert_eq!(record.would_be_restarts, known + record.not_known);
                prop_assert!(record.well_before <= record.incidents);
                prop_assert!(record.ill_seconds <= u64::from(record.incidents) * WEEK as u64);
                prop_assert!(record.incidents > 0 && !record.sentence.is_empty());
                let written = stories.iter().flat_map(|story| &story.events).filter(|event| event.kind == WOULD_RESTART);
                prop_assert!(record.would_be_restarts as usize <= written.count());
            }
            // A smaller window never holds more.
            let edge = at(-WEEK + split);
            let sum = |since, until| -> [u32; 4] {
                records(&stories, since, until).iter().fold([0; 4], |[a, b, c, d], record| {
                    [
                        a + record.incidents,
                        b + record.would_have_helped,
                        c + record.would_not_have_helped,
                        d + record.not_known,
                    ]
                })
            };
            let both = sum(at(-WEEK), at(0));
            for part in [sum(at(-WEEK), edge), sum(edge, at(0))] {
                prop_assert!(part.iter().zip(both).all(|(part, whole)| *part <= whole), "{part:?} of {both:?}");
            }
        }
    }
}
