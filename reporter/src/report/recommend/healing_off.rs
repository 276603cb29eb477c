//! Healing switched off where what was seen speaks for it: restarts that were due, that nobody made in time, and that helped
//! whenever somebody did.

use nexus_model::{Mode, Refusal};

use super::super::facts::Facts;
use super::{Kind, Recommendation, Urgency, shell};
use crate::render::terminal::duration;

/// Once may be luck.
const LEAST_HELPED: u32 = 2;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut all = Vec::new();
    for record in facts.shadow.iter().flat_map(|report| &report.services) {
        let is_it = |it: &&nexus_model::api::ServiceView| it.project == record.project && it.service == record.service;
        let Some(view) = facts.services.iter().flatten().find(is_it) else { continue };
        let helps = record.would_have_helped >= LEAST_HELPED && record.would_have_helped > record.would_not_have_helped;
        if view.mode != Mode::Shadow || !helps || view.is_own() {
            continue;
        }
        let name = format!("{}/{}", record.project, record.service);
        let ill = jiff::SignedDuration::from_secs(i64::try_from(record.ill_seconds).unwrap_or(i64::MAX));
        let mut evidence = vec![record.sentence.clone(), format!("it was ill for {} in that time", duration(ill))];
        if view.refusal == Some(Refusal::ProtectedImage) {
            evidence.push(
                "it is a database: weigh whether a restart in the middle of its work is worse than to wait".to_owned(),
            );
        }
        all.push(Recommendation {
            id: Kind::HealingOff.id(&[&record.project, &record.service]),
            kind: Kind::HealingOff,
            urgency: Urgency::Soon,
            title: format!("Switch healing on for {name}"),
            evidence,
            gain: format!(
                "{} of {} times it would have been well again without you",
                record.would_have_helped, record.would_be_restarts
            ),
            gain_bytes: None,
            check: Some(format!("./nexus heal plan {}", shell(&name))),
            compose: None,
            commands: vec![format!("./nexus heal on {}", shell(&name))],
            changes: Vec::new(),
            project: Some(record.project.clone()),
            service: Some(record.service.clone()),
        });
    }
    all
}

#[cfg(test)]
mod tests {
    use nexus_model::shadow::{ShadowRecord, ShadowReport};

    use super::*;
    use crate::report::testing::{now, view, well};

    fn seen(mode: Mode, helped: u32, not: u32) -> Facts {
        let mut facts = well();
        facts.services = Some(vec![nexus_model::api::ServiceView { mode, ..view("photos", "web") }]);
        let record = ShadowRecord {
            project: "photos".into(),
            service: "web".into(),
            incidents: helped + not,
            would_be_restarts: helped + not,
            would_have_helped: helped,
            would_not_have_helped: not,
            ill_seconds: 7300,
            sentence: "would have restarted photos/web 3 times this week".into(),
            ..ShadowRecord::default()
        };
        facts.shadow = Some(ShadowReport { since: now(), until: now(), services: vec![record], truncated: false });
        facts
    }

    #[test]
    fn what_would_have_helped_is_offered() {
        let found = recommend(&seen(Mode::Shadow, 3, 0));
        assert_eq!(found[0].commands, ["./nexus heal on photos/web"]);
        assert_eq!(
            found[0].evidence,
            ["would have restarted photos/web 3 times this week", "it was ill for 2 h in that time"]
        );
        assert_eq!(found[0].gain, "3 of 3 times it would have been well again without you");
    }

    #[test]
    fn what_would_not_or_is_switched_on_already_is_not() {
        assert_eq!(recommend(&seen(Mode::Shadow, 1, 0)), []);
        assert_eq!(recommend(&seen(Mode::Shadow, 2, 2)), []);
        assert_eq!(recommend(&seen(Mode::Heal, 3, 0)), []);
        assert_eq!(recommend(&seen(Mode::Off, 3, 0)), []);
        // Whose service is gone, or unknown, nothing is said of.
        let mut facts = seen(Mode::Shadow, 3, 0);
        facts.services = None;
        assert_eq!(recommend(&facts), []);
    }

    #[test]
    fn a_database_is_offered_with_a_warning() {
        let mut facts = seen(Mode::Shadow, 3, 0);
        facts.services.as_mut().unwrap()[0].refusal = Some(Refusal::ProtectedImage);
        assert!(recommend(&facts)[0].evidence[2].starts_with("it is a database"));
    }
}
