//! `nexus bench heal`: from Docker's "unhealthy" to Docker's first signal to the container, by the running stack as it is
//! configured, and by a poller that looks every five seconds, on twins that fall ill at the same time.
//!
//! Both ends are Docker's own events with Docker's own clock. The end is the event `kill`: it is what a restart begins with,
//! so that how long the container takes to stop does not count. Nothing is changed for the bench: the brake of the healer
//! (restarts in ten minutes) is waited for, and each trial has fresh containers, so that no budget of a container is spent.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::{SignedDuration, Timestamp};
use nexus_model::api::{IncidentDetail, IncidentList};
use nexus_model::{Evidence, Refusal};

use super::machine;
use super::trials::{LOOK_EVERY, Outcome, POLL_EVERY, known_to, poll, prepared, repeat, told};
use crate::docker::{Event, Events, Project, docker};
use crate::home::Home;
use crate::http::Part;
use crate::text::{print, table};

const COMPOSE: &str = include_str!("../../bench/heal.yml");

/// Unless another number is asked for.
pub const TRIALS: u32 = 30;
/// Twice the way of the rules, and the poller's turn.
const TRIAL_LIMIT: Duration = Duration::from_secs(60);
/// The goals.
const MEDIAN_GOAL: SignedDuration = SignedDuration::from_millis(250);
const WORST_GOAL: SignedDuration = SignedDuration::from_secs(1);

/// What one trial has shown.
#[derive(Clone, Debug)]
struct Trial {
    healed: SignedDuration,
    polled: SignedDuration,
    /// The parts of `healed`.
    prompted: SignedDuration,
    examined: SignedDuration,
    carried_out: SignedDuration,
    /// The alert that the incident began with.
    alert: String,
    /// Evidence was written down before the restart.
    evidence: bool,
}

pub async fn run(home: &Home, trials: u32) -> Result<()> {
    let (stack, image, brake) = prepared(home).await?;
    print(&machine().await?)?;
    print(&format!("{trials} trials with the stack as it is configured. {}\n", told(brake, trials)))?;
    let project = |number: u32| Project {
        name: format!("{stack}-bench-heal-{number}"),
        file: COMPOSE,
        variables: vec![("NEXUS_BENCH_IMAGE", image.clone()), ("NEXUS_BENCH_STACK", stack.clone())],
    };
    let poller = tokio::spawn(poll(format!("label=nexus.bench=polled-{stack}")));
    let mut measured = Vec::new();
    let result = repeat(
        (trials, brake),
        async |number| trial(home, &project(number), number).await,
        async |number| project(number).compose(&["down", "--timeout", "1"]).await.map(drop),
        |number, trial: Trial| {
            let (ours, theirs) = (seconds(trial.healed), seconds(trial.polled));
            measured.push(trial);
            format!("trial {number:>3}: nexus {ours} s, the poller {theirs} s\n")
        },
    );
    let result = result.await;
    poller.abort();
    // What was measured before it failed took minutes.
    if !measured.is_empty() {
        print(&format!("\n{}", summary(&measured)))?;
    }
    result
}

async fn trial(home: &Home, project: &Project, number: u32) -> Result<Outcome<Trial>> {
    project.compose(&["up", "--detach", "--wait", "--wait-timeout", "60"]).await?;
    let id = async |service: &str| -> Result<String> {
        Ok(project.compose(&["ps", "--quiet", service]).await?.trim().to_owned())
    };
    let (healed, polled) = (id("healed").await?, id("polled").await?);
    let healer = Part::healer(home)?;
    known_to(&healer, &project.name, &["healed"]).await?;
    let events = (Events::follow(&healed)?, Events::follow(&polled)?);
    // Health checks beat once a second and the poller every five: the moment moves evenly through both.
    tokio::time::sleep(POLL_EVERY.mul_f64((f64::from(number) * 0.618_034).fract())).await;
    let broken_at = Timestamp::now();
    let exec = async |id: &str| docker(&["exec", id, "touch", "/tmp/broken"]).await;
    let (first, second) = tokio::join!(exec(&healed), exec(&polled));
    first.and(second).context("cannot break the twins")?;

    let deadline = Instant::now() + TRIAL_LIMIT;
    let asked = [("project", project.name.as_str()), ("limit", "1")];
    loop {
        let ends = (ends_of(&events.0.so_far()), ends_of(&events.1.so_far()));
        let incident = healer.get::<IncidentList>("/api/v1/incidents", &asked).await?.incidents.pop();
        if incident.as_ref().is_some_and(|incident| incident.refusal == Some(Refusal::HostLimit)) {
            return Ok(Outcome::Held);
        }
        if let ((Some(unhealthy), Some(kill)), (Some(twin_unhealthy), Some(twin_kill)), Some(incident)) =
            (ends.0, ends.1, &incident)
        {
            let detail: IncidentDetail = healer.get(&format!("/api/v1/incidents/{}", incident.id), &[]).await?;
            let polled = twin_kill.duration_since(twin_unhealthy);
            let trial = judge(&detail, (unhealthy, kill), polled)?;
            return Ok(Outcome::Measured { trial: Box::new(trial), restarts: 1 });
        }
        if Instant::now() > deadline {
            bail!(
                "{} s after {broken_at} not both twins were restarted; the incident of the healed one: {incident:?}",
                TRIAL_LIMIT.as_secs()
            );
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// When Docker said unhealthy, and when it sent the first signal after that.
fn ends_of(events: &[Event]) -> (Option<Timestamp>, Option<Timestamp>) {
    let unhealthy = events.iter().find(|event| event.action == "health_status: unhealthy").map(|event| event.at);
    let kill = events.iter().find(|event| event.action == "kill" && Some(event.at) >= unhealthy);
    (unhealthy, unhealthy.and(kill).map(|event| event.at))
}

fn judge(detail: &IncidentDetail, (unhealthy, kill): (Timestamp, Timestamp), polled: SignedDuration) -> Result<Trial> {
    let attempt =
        detail.attempts.first().context("the container was restarted, and the healer has no attempt of it")?;
    let opened_at = detail.incident.opened_at;
    // A log that takes long may come later; state, probes and the host's vitals may not.
    let before = |piece: &Evidence| piece.attempt_id == Some(attempt.id) && piece.taken_at <= kill;
    let evidence = detail.evidence.iter().any(before);
    Ok(Trial {
        healed: kill.duration_since(unhealthy),
        polled,
        prompted: opened_at.duration_since(unhealthy),
        examined: attempt.intended_at.duration_since(opened_at),
        carried_out: kill.duration_since(attempt.intended_at),
        alert: detail.incident.alert.clone(),
        evidence,
    })
}

/// Least, middle and most.
fn spread(trials: &[Trial], part: impl Fn(&Trial) -> SignedDuration) -> [SignedDuration; 3] {
    let mut all: Vec<SignedDuration> = trials.iter().map(part).collect();
    all.sort_unstable();
    let at = |index: usize| all.get(index).copied().unwrap_or_default();
    [at(0), at(all.len() / 2), at(all.len().saturating_sub(1))]
}

fn seconds(time: SignedDuration) -> String {
    format!("{:.3}", time.as_secs_f64())
}

fn summary(trials: &[Trial]) -> String {
    let row = |name: &str, part: fn(&Trial) -> SignedDuration| {
        let [least, middle, most] = spread(trials, part).map(seconds);
        vec![name.to_owned(), trials.len().to_string(), least, middle, most]
    };
    let rows = [
        row("nexus, from unhealthy to the restart", |trial| trial.healed),
        row("  until the incident is open", |trial| trial.prompted),
        row("  evidence, and the intent on disk", |trial| trial.examined),
        row("  until Docker sends the signal", |trial| trial.carried_out),
        row("a poller that looks every 5 s", |trial| trial.polled),
    ];
    let mut out = table(&["WHAT", "TRIALS", "MIN s", "MEDIAN s", "MAX s"], &rows);
    let [_, middle, worst] = spread(trials, |trial| trial.healed);
    let [_, theirs, _] = spread(trials, |trial| trial.polled);
    if middle > SignedDuration::ZERO {
        out.push_str(&format!(
            "\nthe poller's median, of nexus's: {:.1}\n",
            theirs.as_secs_f64() / middle.as_secs_f64()
        ));
    }
    let with_evidence = trials.iter().filter(|trial| trial.evidence).count();
    out.push_str(&format!("evidence taken before the restart: {with_evidence} of {}\n", trials.len()));
    let mut alerts: BTreeMap<&str, u32> = BTreeMap::new();
    for trial in trials {
        *alerts.entry(&trial.alert).or_default() += 1;
    }
    let alerts: Vec<String> = alerts.into_iter().map(|(alert, count)| format!("{alert} {count}")).collect();
    out.push_str(&format!("prompted by: {}\n", alerts.join(", ")));
    let verdict = |reached: bool| if reached { "reached" } else { "missed" };
    out.push_str(&format!("goal, a median of at most 0.25 s: {}\n", verdict(middle <= MEDIAN_GOAL)));
    out.push_str(&format!("goal, a worst of at most 1 s: {}\n", verdict(worst <= WORST_GOAL)));
    out
}

#[cfg(test)]
mod tests {
    use nexus_model::{Attempt, EvidenceKind, IncidentState};
    use uuid::Uuid;

    use super::*;
    use crate::incidents::tests::incident;

    fn at(milliseconds: i64) -> Timestamp {
        Timestamp::from_millisecond(milliseconds).unwrap()
    }

    fn event(milliseconds: i64, action: &str) -> Event {
        Event { at: at(milliseconds), action: action.into(), service: "web".into() }
    }

    #[test]
    fn the_end_is_the_first_signal_after_unhealthy() {
        let events = [
            event(1, "kill"),
            event(5, "health_status: unhealthy"),
            event(9, "kill"),
            event(10, "die"),
            event(11, "kill"),
        ];
        assert_eq!(ends_of(&events), (Some(at(5)), Some(at(9))));
        assert_eq!(ends_of(&events[..2]), (Some(at(5)), None));
        assert_eq!(ends_of(&events[..1]), (None, None));
    }

    #[test]
    fn a_trial_is_judged_by_the_story_of_its_incident() {
        let mut incident = incident(IncidentState::Verifying);
        (incident.opened_at, incident.alert) = (at(1_040), "HealerSawUnhealthy".into());
        let id = Uuid::from_u128(7);
        let attempt = Attempt {
            id,
            incident_id: incident.id,
            number: 1,
            action: "restart".into(),
            container_id: "c".into(),
            started_at_before: None,
            started_at_after: None,
            intended_at: at(1_100),
            finished_at: None,
            outcome: None,
            detail: None,
            revision: 1,
        };
        let piece = Evidence {
            id,
            incident_id: incident.id,
            attempt_id: Some(id),
            kind: EvidenceKind::Logs,
            taken_at: at(1_099),
            body: serde_json::Value::Null,
        };
        let mut detail =
            IncidentDetail { incident, attempts: vec![attempt], evidence: vec![piece], events: Vec::new() };
        let polled = SignedDuration::from_millis(2_500);
        let trial = judge(&detail, (at(1_000), at(1_120)), polled).unwrap();
        let parts = [trial.healed, trial.prompted, trial.examined, trial.carried_out].map(|part| part.as_millis());
        assert_eq!((parts, trial.evidence), ([120, 40, 60, 20], true));
        let slow = Trial { healed: SignedDuration::from_millis(1_200), ..trial.clone() };
        let said = summary(&[trial.clone(), slow, trial.clone()]);
        for line in [
            "evidence taken before the restart: 3 of 3",
            "prompted by: HealerSawUnhealthy 3",
            "the poller's median, of nexus's: 20.8",
            "median of at most 0.25 s: reached",
            "worst of at most 1 s: missed",
        ] {
            assert!(said.contains(line), "{line} is missing in\n{said}");
        }
        // Evidence from after the restart is none of before it.
        detail.evidence[0].taken_at = at(1_121);
        assert!(!judge(&detail, (at(1_000), at(1_120)), polled).unwrap().evidence);
        detail.attempts.clear();
        assert!(judge(&detail, (at(1_000), at(1_120)), polled).is_err());
    }

    #[test]
    fn the_twins_are_of_this_stack_and_only_one_is_healed() {
        let file: serde_json::Value = serde_saphyr::from_str(COMPOSE).unwrap();
        for (service, healed) in [("healed", "true"), ("polled", "false")] {
            let labels = &file["services"][service]["labels"];
            assert_eq!(labels[nexus_model::labels::HEAL], healed);
            assert_eq!(labels[nexus_model::labels::STACK], "${NEXUS_BENCH_STACK:?}");
        }
    }
}
