//! What the owner is told, as alerts: pure.
//!
//! `HealingFailed` is true from the third failed attempt on until the service has recovered or the healer has given up;
//! `HealerGaveUp` from then on until the incident is closed. [`crate::notify`] keeps them alive in Alertmanager while they
//! are true, also when they were acknowledged: then `ServiceAcknowledged`, which is for nobody to read, holds them back there, and
//! their end is told when they have ended indeed.

use std::collections::BTreeMap;

use jiff::{Timestamp, tz::TimeZone};
use nexus_model::{AttemptOutcome, Confidence, Diagnosis, IncidentState, Mode, ServiceKey};

use crate::case::Case;

/// Where Grafana shows what healing does.
pub const DASHBOARD: &str = "/d/nexus-healing";

/// Holds back in Alertmanager what its owner knows of a service.
const ACKNOWLEDGED: &str = "ServiceAcknowledged";

/// An alert that is true now.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub labels: BTreeMap<&'static str, String>,
    pub annotations: BTreeMap<&'static str, String>,
    pub since: Timestamp,
}

/// What there is to tell about an incident, with its times as in this zone.
pub fn alert(case: &Case, zone: &TimeZone) -> Option<Alert> {
    let incident = &case.incident;
    if incident.mode != Mode::Heal || !case.is_open() {
        return None;
    }
    let (name, since, summary, description) = if incident.state == IncidentState::GaveUp {
        (
            "HealerGaveUp",
            case.memory.gave_up_at.unwrap_or(incident.opened_at),
            "Nexus gave up healing this service".to_owned(),
            match &case.memory.gave_up_since {
                Some(reason) => format!("A restart can't help: {reason}"),
                None => format!(
                    "{} did not bring it back. It is left alone now until it is well again, recreated or switched off.",
                    restarts_in_all(case)
                ),
            },
        )
    } else {
        let since = case.memory.failing_since?;
        let next = match incident.next_attempt_at {
            Some(at) => format!("The next attempt is due at {}.", moment(at, zone)),
            None => "It is being tried again.".to_owned(),
        };
        (
            "HealingFailed",
            since,
            "Restarting it does not help".to_owned(),
            format!("{} did not help so far. {next}", restarts(incident.failed_attempts)),
        )
    };
    let labels = BTreeMap::from([
        ("alertname", name.to_owned()),
        ("severity", "critical".to_owned()),
        ("host", incident.host.clone()),
        ("project", incident.project.clone()),
        ("service", incident.service.clone()),
    ]);
    let mut annotations = BTreeMap::from([
        ("summary", summary),
        ("description", description),
        ("runbook_url", format!("docs/runbooks/{name}.md")),
        ("dashboard_url", DASHBOARD.to_owned()),
        ("since", moment(incident.opened_at, zone)),
        ("tried", tried(case)),
        ("action", action(case)),
        // For the link to its page.
        ("incident", incident.id.to_string()),
    ]);
    if let Some(cause) = incident.diagnosis.as_ref().and_then(cause) {
        annotations.insert("cause", cause);
    }
    if !case.memory.last_words.is_empty() {
        annotations.insert("evidence", case.memory.last_words.clone());
    }
    Some(Alert { labels, annotations, since })
}

/// That nobody need be told of it: its owner has acknowledged it, or has it tried again and waits for what comes of that. It stands
/// until the incident is over, or there is news: it fails again, or is given up.
pub fn acknowledged(case: &Case) -> Option<Alert> {
    let incident = &case.incident;
    let is_tried_again = case.memory.forgiven
        && incident.mode == Mode::Heal
        && incident.state != IncidentState::GaveUp
        && case.memory.failing_since.is_none();
    let since = incident.acknowledged_at.or(is_tried_again.then_some(incident.opened_at))?;
    case.is_open().then(|| muting(ACKNOWLEDGED, &incident.host, &case.key(), since, "Its owner knows that it is ill"))
}

/// An alert that is there to hold back what rules say of a service (the inhibition in alertmanager.yml), and for nobody to read.
pub fn muting(name: &str, host: &str, key: &ServiceKey, since: Timestamp, summary: &str) -> Alert {
    let labels = BTreeMap::from([
        ("alertname", name.to_owned()),
        ("severity", "none".to_owned()),
        ("host", host.to_owned()),
        ("project", key.project.clone()),
        ("service", key.service.clone()),
    ]);
    Alert { labels, annotations: BTreeMap::from([("summary", summary.to_owned())]), since }
}

/// Whether one of these says that its owner knows of it: as the inhibition in alertmanager.yml.
pub fn is_known(alert: &Alert, all: &[Alert]) -> bool {
    let is = |alert: &Alert, name: &str| alert.labels.get("alertname").is_some_and(|it| it == name);
    let service = |alert: &Alert| (alert.labels.get("project").cloned(), alert.labels.get("service").cloned());
    (is(alert, "HealingFailed") || is(alert, "HealerGaveUp"))
        && all.iter().any(|other| is(other, ACKNOWLEDGED) && service(other) == service(alert))
}

/// That it waits for one that nobody does anything about.
pub fn waits(case: &Case, zone: &TimeZone) -> Option<Alert> {
    let incident = &case.incident;
    let (since, by) = (case.memory.waits_told?, case.memory.blocked_by.as_ref()?);
    if incident.mode != Mode::Heal || !case.is_open() {
        return None;
    }
    let key = case.key();
    let labels = BTreeMap::from([
        ("alertname", "HealingWaits".to_owned()),
        ("severity", "warning".to_owned()),
        ("host", incident.host.clone()),
        ("project", incident.project.clone()),
        ("service", incident.service.clone()),
    ]);
    let annotations = BTreeMap::from([
        ("summary", format!("It waits for {by}, which Nexus only watches")),
        ("description", format!("{by} is not well, and a restart of {key} would not help before it is.")),
        ("runbook_url", "docs/runbooks/HealingWaits.md".to_owned()),
        ("dashboard_url", DASHBOARD.to_owned()),
        ("since", moment(incident.opened_at, zone)),
        ("incident", incident.id.to_string()),
        ("action", format!("./nexus incidents {}\n./nexus heal on {}", incident.id, word(&by.to_string()))),
    ]);
    Some(Alert { labels, annotations, since })
}

/// What is behind it and what to do about it, for people. Not knowing is not worth a line on a phone.
fn cause(diagnosis: &Diagnosis) -> Option<String> {
    let sure = match diagnosis.confidence {
        Confidence::None => return None,
        Confidence::Guess => "perhaps ",
        Confidence::Likely => "most likely ",
        Confidence::Certain => "",
    };
    Some(format!("{sure}{}. {}", diagnosis.summary.trim_end_matches('.'), diagnosis.recommendation))
}

fn restarts(count: u32) -> String {
    if count == 1 { "1 restart".to_owned() } else { format!("{count} restarts") }
}

/// Those from before the incident with them, when they are why there are no more.
fn restarts_in_all(case: &Case) -> String {
    if let Some(most) = case.memory.day_spent.values().max() {
        return format!("{} within a day", restarts(*most));
    }
    match case.carried() {
        0 => restarts(case.incident.attempts),
        carried => format!("{} within an hour", restarts(case.incident.attempts + carried)),
    }
}

fn tried(case: &Case) -> String {
    if case.memory.gave_up_since.is_some() && case.attempts.is_empty() {
        return format!("found {}; nothing was tried, since it can't help", case.incident.problem);
    }
    let last = case
        .attempts
        .iter()
        .rev()
        .find(|attempt| attempt.attempt.outcome.is_some_and(|outcome| outcome != AttemptOutcome::Helped));
    let unknown = if case.carried() > 0 || !case.memory.day_spent.is_empty() {
        "it helped for a while"
    } else {
        "no outcome is known"
    };
    let last = last.and_then(|attempt| attempt.attempt.detail.as_deref()).unwrap_or(unknown);
    format!("found {}; {}, the last: {last}", case.incident.problem, restarts_in_all(case))
}

/// What to type, one command a line.
fn action(case: &Case) -> String {
    let (project, service) = (word(&case.incident.project), word(&case.incident.service));
    let key = word(&case.key().to_string());
    format!(
        "docker compose -p {project} logs --tail 50 {service}\n./nexus incidents {}\n./nexus ack {key} --retry",
        case.incident.id
    )
}

/// As one word of a shell: labels are anybody's text.
pub fn word(text: &str) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "_-./".contains(character);
    if !text.is_empty() && !text.starts_with('-') && text.chars().all(plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// As alertmanager/templates/telegram.tmpl writes it, and no year: nobody is told of last year's trouble.
pub fn moment(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%a %-d %b %H:%M %Z").to_string()
}

#[cfg(test)]
mod tests {
    use nexus_model::Cause;

    use super::*;
    use crate::testing::{at, attempt, case};

    #[test]
    fn nothing_is_told_until_it_matters() {
        assert_eq!(alert(&case(), &TimeZone::UTC), None);
        let mut shadow = case();
        shadow.incident.mode = Mode::Shadow;
        shadow.memory.failing_since = Some(at(1).wall);
        assert_eq!(alert(&shadow, &TimeZone::UTC), None);
        let mut closed = case();
        closed.memory.failing_since = Some(at(1).wall);
        closed.incident.state = IncidentState::Closed;
        assert_eq!(alert(&closed, &TimeZone::UTC), None);
    }

    #[test]
    fn failing_is_told_with_what_to_do() {
        let mut case = case();
        let mut last = attempt(3, "c1", at(30));
        last.attempt.outcome = Some(AttemptOutcome::DidNotHelp);
        last.attempt.detail = Some("it did not become healthy in time".into());
        case.attempts.push(last);
        (case.incident.attempts, case.incident.failed_attempts) = (3, 3);
        case.memory.failing_since = Some(at(60).wall);
        case.memory.last_words = "connection refused".into();
        let told = alert(&case, &TimeZone::UTC).unwrap();
        assert_eq!(told.labels["alertname"], "HealingFailed");
        assert_eq!(told.since, at(60).wall);
        assert_eq!(told.annotations["evidence"], "connection refused");
        assert_eq!(told.annotations["runbook_url"], "docs/runbooks/HealingFailed.md");
        assert_eq!(
            told.annotations["tried"],
            "found unhealthy: 3 failed probes in a row; 3 restarts, the last: it did not become healthy in time"
        );
        assert!(told.annotations["action"].contains("docker compose -p shop logs --tail 50 web\n"));
        assert!(told.annotations["action"].ends_with("./nexus ack shop/web --retry"));
    }

    #[test]
    fn times_are_those_of_the_owners_clock() {
        let mut case = case();
        case.memory.failing_since = Some(at(60).wall);
        case.incident.next_attempt_at = Some("2026-07-01T22:30:00Z".parse().unwrap());
        let told = |zone: &str| alert(&case, &TimeZone::get(zone).unwrap()).unwrap().annotations;
        assert_eq!(told("UTC")["since"], moment(case.incident.opened_at, &TimeZone::UTC));
        let berlin = told("Europe/Berlin");
        assert!(berlin["description"].ends_with("is due at Thu 2 Jul 00:30 CEST."), "{}", berlin["description"]);
        assert!(berlin["since"].ends_with(" CET"), "{}", berlin["since"]);
    }

    #[test]
    fn the_cause_is_told_with_how_sure_it_is_and_what_to_do() {
        let mut case = case();
        case.memory.failing_since = Some(at(60).wall);
        let mut diagnosis = Diagnosis {
            cause: Cause::OutOfMemory,
            confidence: Confidence::Certain,
            summary: "it ran out of memory: its limit is 64 MiB".into(),
            because: Vec::new(),
            recommendation: "Raise its memory limit.".into(),
            at: at(0).wall,
        };
        let mut check = |confidence, expected: Option<&str>| {
            diagnosis.confidence = confidence;
            case.incident.diagnosis = Some(diagnosis.clone());
            let told = alert(&case, &TimeZone::UTC).unwrap();
            assert_eq!(told.annotations.get("cause").map(String::as_str), expected);
        };
        check(Confidence::Certain, Some("it ran out of memory: its limit is 64 MiB. Raise its memory limit."));
        check(
            Confidence::Likely,
            Some("most likely it ran out of memory: its limit is 64 MiB. Raise its memory limit."),
        );
        check(Confidence::Guess, Some("perhaps it ran out of memory: its limit is 64 MiB. Raise its memory limit."));
        check(Confidence::None, None);
    }

    #[test]
    fn what_is_acknowledged_stays_true_and_is_held_back() {
        let mut case = case();
        case.memory.failing_since = Some(at(60).wall);
        assert_eq!(acknowledged(&case), None);
        case.incident.acknowledged_at = Some(at(70).wall);
        let told = [alert(&case, &TimeZone::UTC).unwrap(), acknowledged(&case).unwrap()];
        assert_eq!((told[1].labels["severity"].as_str(), told[1].since), ("none", at(70).wall));
        assert!(["host", "project", "service"].iter().all(|label| told[0].labels[label] == told[1].labels[label]));
        assert!(is_known(&told[0], &told) && !is_known(&told[0], &told[..1]));
        let mut other = told[0].clone();
        other.labels.insert("service", "api".into());
        assert!(!is_known(&other, &told), "another service is none of it");
        case.incident.state = IncidentState::Closed;
        assert_eq!(acknowledged(&case), None);
    }

    #[test]
    fn what_is_tried_again_is_held_back_until_there_is_news() {
        let mut case = case();
        case.memory.forgiven = true;
        case.incident.state = IncidentState::Verifying;
        assert_eq!(acknowledged(&case).unwrap().since, case.incident.opened_at);
        let failing = Case {
            memory: crate::case::Memory { failing_since: Some(at(60).wall), ..case.memory.clone() },
            ..case.clone()
        };
        assert_eq!(acknowledged(&failing), None);
        for (state, mode) in [(IncidentState::GaveUp, Mode::Heal), (IncidentState::Watching, Mode::Shadow)] {
            (case.incident.state, case.incident.mode) = (state, mode);
            assert_eq!(acknowledged(&case), None, "{state}");
        }
    }

    #[test]
    fn giving_up_has_the_labels_by_which_it_mutes_the_rule_behind_it() {
        let mut case = case();
        case.incident.state = IncidentState::GaveUp;
        case.incident.attempts = 6;
        case.memory.gave_up_at = Some(at(90).wall);
        let told = alert(&case, &TimeZone::UTC).unwrap();
        let labels: Vec<(&str, &str)> = told.labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
        assert_eq!(
            labels,
            [
                ("alertname", "HealerGaveUp"),
                ("host", "pi"),
                ("project", "shop"),
                ("service", "web"),
                ("severity", "critical")
            ]
        );
    }

    #[test]
    fn restarts_from_before_the_incident_are_told_when_they_are_why_it_gave_up() {
        let mut case = case();
        case.incident.state = IncidentState::GaveUp;
        case.memory.carried = [("c1".to_owned(), 6)].into();
        let told = alert(&case, &TimeZone::UTC).unwrap();
        assert!(told.annotations["description"].starts_with("6 restarts within an hour did not bring it back. "));
        assert_eq!(
            told.annotations["tried"],
            "found unhealthy: 3 failed probes in a row; 6 restarts within an hour, the last: it helped for a while"
        );
    }

    #[test]
    fn a_day_that_allows_for_no_more_is_told_as_such() {
        let mut case = case();
        case.incident.state = IncidentState::GaveUp;
        case.incident.attempts = 2;
        case.memory.day_spent = [("c1".to_owned(), 20)].into();
        let told = alert(&case, &TimeZone::UTC).unwrap();
        assert!(told.annotations["description"].starts_with("20 restarts within a day did not bring it back. "));
        assert!(told.annotations["tried"].ends_with("20 restarts within a day, the last: it helped for a while"));
    }

    #[test]
    fn waiting_for_what_is_only_watched_is_told_with_the_command_that_ends_it() {
        let mut case = case();
        assert_eq!(waits(&case, &TimeZone::UTC), None);
        case.memory.blocked_by = Some(nexus_model::ServiceKey::new("shop", "db"));
        case.memory.waits_told = Some(at(600).wall);
        let told = waits(&case, &TimeZone::UTC).unwrap();
        assert_eq!((told.labels["alertname"].as_str(), told.since), ("HealingWaits", at(600).wall));
        assert!(told.annotations["action"].ends_with("./nexus heal on shop/db"));
        case.incident.mode = Mode::Shadow;
        assert_eq!(waits(&case, &TimeZone::UTC), None);
    }

    #[test]
    fn names_of_strangers_are_quoted_for_the_shell() {
        assert_eq!(word("shop"), "shop");
        assert_eq!(word("a b"), "'a b'");
        assert_eq!(word("$(reboot)"), "'$(reboot)'");
        assert_eq!(word("it's"), r"'it'\''s'");
        assert_eq!(word("-v"), "'-v'");
        assert_eq!(word(""), "''");
    }
}
