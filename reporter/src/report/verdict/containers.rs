//! What containers tell before any rule does: one that crashes again and again, one that was never started.

use jiff::{SignedDuration, Timestamp};

use super::super::facts::Facts;
use super::super::format::count;
use super::{Reason, Verdict, reason};

/// From so many crashes within ten minutes on it is no chance: the rule ContainerRestartLoop wants as many, for ten minutes more.
const CRASHES: f64 = 3.0;
/// Who runs for longer than this does not crash three times in ten minutes any more.
const PACE: SignedDuration = SignedDuration::from_secs(600 / 3);

/// A container, by whom it was told.
struct Seen<'a> {
    project: &'a str,
    service: &'a str,
    name: &'a str,
    state: &'a str,
    restarts: Option<f64>,
    started_at: Option<Timestamp>,
}

/// Of services that have no open incident and no alert of the same: those tell more.
pub fn reasons(facts: &Facts) -> Vec<Reason> {
    let mut found: Vec<Reason> = Vec::new();
    for it in seen(facts) {
        let exit_code =
            facts.containers.iter().flatten().find(|known| known.name == it.name).and_then(|it| it.exit_code);
        let text = if it.state == "created" && facts.measured.created.contains(it.name) {
            "was created and never started".to_owned()
        } else if let Some(times) = crashes(facts, &it) {
            let code = exit_code.map(|code| format!(", exit code {code}")).unwrap_or_default();
            format!("crashes again and again ({}{code})", count(format_args!("{times:.0}"), "restart"))
        } else {
            continue;
        };
        let about = if it.service.is_empty() { it.name.to_owned() } else { format!("{}/{}", it.project, it.service) };
        // Replicas are alike.
        if !found.iter().any(|known| known.about == about) {
            found.push(reason(Verdict::Degraded, &about, text));
        }
    }
    found
}

/// From the healer, which names the services; without it from the exporter.
fn seen(facts: &Facts) -> Vec<Seen<'_>> {
    let exporter = || facts.containers.iter().flatten();
    let Some(services) = &facts.services else {
        let of = exporter().map(|it| Seen {
            project: &it.project,
            service: &it.service,
            name: &it.name,
            state: &it.state,
            restarts: it.restarts,
            started_at: it.started_at,
        });
        return of.collect();
    };
    let told = |project: &str, service: &str| {
        let mut alerts = facts.alerts.iter().flatten();
        alerts.any(|it| it.name == "ContainerRestartLoop" && it.project == project && it.service == service)
    };
    let untold = services.iter().filter(|it| it.incident.is_none() && !told(&it.project, &it.service));
    let of = untold.flat_map(|service| {
        service.containers.iter().map(|it| Seen {
            project: &service.project,
            service: &service.service,
            name: &it.name,
            state: &it.state,
            restarts: Some(it.restart_count as f64),
            started_at: it.started_at,
        })
    });
    of.collect()
}

/// How often Docker has restarted it, where it crashes again and again. Docker counts since the last start by hand, and forgets
/// nothing: what it counted before these ten minutes says nothing of now.
fn crashes(facts: &Facts, it: &Seen<'_>) -> Option<f64> {
    let all = it.restarts.unwrap_or_default();
    let before = facts.measured.restarts_before.get(it.name).copied().unwrap_or_default();
    // Started by hand meanwhile, or made anew under the same name: it began at zero.
    let lately = if before > all { all } else { all - before };
    let loops = match it.state {
        "restarting" => lately >= CRASHES,
        // Between two crashes. Here Prometheus must have seen them: where it has not been up for long, an old count is no sign.
        "running" => {
            let young = it.started_at.is_some_and(|at| facts.at.duration_since(at) < PACE);
            young && lately >= CRASHES && facts.measured.restarts_lately.get(it.name).is_some_and(|it| *it >= CRASHES)
        }
        _ => false,
    };
    loops.then_some(all)
}

#[cfg(test)]
mod tests {
    use nexus_model::IncidentState;

    use super::*;
    use crate::report::testing::{alert, now, view, well};

    /// media/indexer in this state, restarted so often by Docker and started so many seconds ago.
    fn facts(state: &str, restarts: i64, seconds: i64) -> Facts {
        let mut facts = well();
        let mut view = view("media", "indexer");
        view.containers[0].state = state.into();
        view.containers[0].restart_count = restarts;
        view.containers[0].started_at = Some(now() - SignedDuration::from_secs(seconds));
        facts.services = Some(vec![view]);
        let mut container = crate::report::testing::container("media", "indexer");
        container.exit_code = (state == "restarting").then_some(78);
        facts.containers = Some(vec![container]);
        facts
    }

    fn prometheus(mut facts: Facts, before: Option<f64>, lately: f64) -> Facts {
        facts.measured.restarts_before = before.map(|it| ("media-indexer-1".to_owned(), it)).into_iter().collect();
        facts.measured.restarts_lately = [("media-indexer-1".to_owned(), lately)].into();
        facts
    }

    fn told(facts: &Facts) -> Option<String> {
        let found = reasons(facts);
        assert!(found.iter().all(|it| it.verdict == Verdict::Degraded), "{found:?}");
        found.first().map(|it| format!("{} {}", it.about, it.text))
    }

    #[test]
    fn a_container_that_crashes_again_and_again_is_told_before_any_alert() {
        let loops = Some("media/indexer crashes again and again (22 restarts, exit code 78)".to_owned());
        assert_eq!(told(&facts("restarting", 22, 5)), loops);
        assert_eq!(told(&prometheus(facts("restarting", 22, 5), None, 0.0)), loops);
        assert_eq!(told(&prometheus(facts("restarting", 22, 5), Some(12.0), 9.0)), loops);
        // Between two crashes it runs, and no exit code is known.
        let runs = Some("media/indexer crashes again and again (22 restarts)".to_owned());
        assert_eq!(told(&prometheus(facts("running", 22, 30), Some(12.0), 9.8)), runs);
        assert_eq!(super::super::verdict(&facts("restarting", 22, 5)).0, Verdict::Degraded);
    }

    #[test]
    fn what_crashed_once_or_long_ago_or_was_restarted_by_a_person_is_not_told() {
        assert_eq!(told(&facts("restarting", 2, 1)), None);
        assert_eq!(told(&facts("running", 1, 86_400)), None);
        // 22 times last week; well since, crashed once just now, started by hand just now, with Prometheus up for a minute.
        assert_eq!(told(&prometheus(facts("running", 22, 600_000), Some(22.0), 0.0)), None);
        assert_eq!(told(&prometheus(facts("restarting", 23, 600_000), Some(22.0), 1.0)), None);
        assert_eq!(told(&prometheus(facts("running", 0, 10), Some(22.0), 0.0)), None);
        assert_eq!(told(&prometheus(facts("running", 22, 100), None, 0.0)), None);
        assert_eq!(told(&facts("running", 22, 100)), None);
        // It crashed while what it needs was not up yet, and has run since.
        assert_eq!(told(&prometheus(facts("running", 5, 300), Some(0.0), 5.0)), None);
    }

    #[test]
    fn an_incident_or_the_alert_tells_more() {
        let mut facts = facts("restarting", 22, 5);
        let rule = alert("ContainerRestartLoop", "critical", false);
        facts.alerts =
            Ok(vec![super::super::super::facts::Alert { project: "media".into(), service: "indexer".into(), ..rule }]);
        assert_eq!(told(&facts), None);
        facts.alerts = Ok(Vec::new());
        facts.services.as_mut().unwrap()[0].incident = Some(IncidentState::Watching);
        assert_eq!(told(&facts), None);
        // Without the healer the exporter tells it.
        facts.services = None;
        let container = &mut facts.containers.as_mut().unwrap()[0];
        (container.state, container.restarts) = ("restarting".into(), Some(22.0));
        assert_eq!(told(&facts).unwrap(), "media/indexer crashes again and again (22 restarts, exit code 78)");
    }

    #[test]
    fn a_container_that_was_never_started_is_told_after_a_minute() {
        let mut facts = facts("created", 0, 0);
        facts.services.as_mut().unwrap()[0].containers[0].started_at = None;
        assert_eq!(told(&facts), None);
        facts.measured.created = ["media-indexer-1".to_owned()].into();
        assert_eq!(told(&facts).unwrap(), "media/indexer was created and never started");
        // Started since Prometheus looked.
        facts.services.as_mut().unwrap()[0].containers[0].state = "running".into();
        assert_eq!(told(&facts), None);
    }
}
