//! Healthy, degraded or critical, and what that rests on.

mod containers;

use nexus_model::api::PartStatus;
use nexus_model::{Incident, IncidentState, Refusal};
use schemars::JsonSchema;
use serde::Serialize;

use super::facts::{Answer, Facts, Filesystem};
use super::format::{count, percent};
use crate::render::terminal::local;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Healthy,
    /// Something is ill and being dealt with, or a part of Nexus is missing that healing can do without.
    Degraded,
    /// A person is needed.
    Critical,
}

/// One reason for the verdict, or what is worth knowing beside it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Reason {
    /// The verdict if it were the only one; `healthy` for what was ill and is being watched.
    pub verdict: Verdict,
    /// What it is about: a part of Nexus, `PROJECT/SERVICE`, or the name of an alert.
    pub about: String,
    pub text: String,
}

/// A part of Nexus.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub struct Part {
    pub name: String,
    pub up: bool,
    /// Why it is not.
    pub reason: Option<String>,
}

/// As the rules DiskCritical, MemoryPressure and TemperatureCritical: only looked at here while nobody evaluates those.
const DISK_FULL: f64 = 0.90;
/// On a disk that is not the system's this much free is enough, however big it is.
const DISK_ENOUGH: f64 = 50e9;
const SYSTEM_DISK: [&str; 4] = ["/", "/var", "/var/lib", "/var/lib/docker"];
const MEMORY_LEFT: f64 = 0.06;
const TOO_HOT: f64 = 80.0;

/// The verdict, its reasons with the worst first, and the parts.
pub fn verdict(facts: &Facts) -> (Verdict, Vec<Reason>, Vec<Part>) {
    let (mut reasons, parts) = parts(facts);
    reasons.extend(on_hold(facts));
    reasons.extend(incidents(facts));
    reasons.extend(unhealthy(facts));
    reasons.extend(containers::reasons(facts));
    reasons.extend(alerts(facts));
    reasons.extend(vitals_without_rules(facts));
    reasons.sort_by_key(|reason| std::cmp::Reverse(reason.verdict));
    let verdict = reasons.first().map_or(Verdict::Healthy, |reason| reason.verdict);
    (verdict, reasons, parts)
}

fn reason(verdict: Verdict, about: &str, text: String) -> Reason {
    Reason { verdict, about: about.to_owned(), text }
}

fn parts(facts: &Facts) -> (Vec<Reason>, Vec<Part>) {
    let mut found = Vec::new();
    let mut parts = Vec::new();
    let mut part = |name: &str, severity: Verdict, answer: Answer<()>, without: &str| {
        if let Err(why) = &answer {
            found.push(reason(severity, name, format!("{why}; {without}")));
        }
        parts.push(Part { name: name.to_owned(), up: answer.is_ok(), reason: answer.err() });
    };
    let of = |status: &PartStatus| match status.state.as_str() {
        "up" | "off" => Ok(()),
        _ => Err(status.reason.clone().unwrap_or_else(|| "is down".to_owned())),
    };
    let bare = |answer: Result<(), &String>| answer.map_err(Clone::clone);
    part("healer", Verdict::Critical, bare(facts.healer.as_ref().map(drop)), "nothing is healed");
    part("exporter", Verdict::Critical, facts.exporter.clone(), "nobody sees what is ill");
    part("prometheus", Verdict::Critical, facts.prometheus.clone(), "no rule is evaluated");
    part("alertmanager", Verdict::Critical, bare(facts.alerts.as_ref().map(drop)), "nobody is told");
    if let Some(silence) = &facts.docker_silence {
        part("docker", Verdict::Critical, Err(silence.clone()), "without it nothing of Nexus does: run ./nexus up");
    }
    if let Ok(status) = &facts.healer {
        part("docker", Verdict::Critical, of(&status.docker), "the healer can neither see nor act");
        if let Some(policy) = &status.policy {
            let without = "the one of before stays in force: see ./nexus policy check";
            part("policy", Verdict::Degraded, of(policy).map_err(|why| owners_policy(&why)), without);
        }
        if status.postgres.state != "off" {
            let rows = count(status.journal_pending_rows, "row");
            let waiting = format!("waiting in the journal: {rows}, nothing is lost");
            part("postgres", Verdict::Degraded, of(&status.postgres), &waiting);
        }
    }
    if let Some(reporter) = &facts.reporter {
        part("reporter", Verdict::Degraded, reporter.clone(), "no history is kept; for two weeks nothing is lost");
    }
    if let Some(history) = &facts.history {
        part("history", Verdict::Degraded, bare(history.as_ref().map(drop)), "nothing to compare with");
    }
    if let Some(grafana) = &facts.grafana {
        part("grafana", Verdict::Degraded, grafana.clone(), "no dashboard");
    }
    if facts.docker_silence.is_some() {
        // What rests on it is not told one by one.
        found.retain(|reason| reason.about == "docker");
    }
    (found, parts)
}

/// The healer tells where the policy is in its container; its owner has it in the folder of Nexus.
fn owners_policy(why: &str) -> String {
    let why = why.replace("/etc/nexus/policy/", "policy/");
    why.strip_prefix("the policy ").map(str::to_owned).unwrap_or(why)
}

/// Nothing is restarted at all, since many services fell ill together.
fn on_hold(facts: &Facts) -> Option<Reason> {
    let hold = facts.healer.as_ref().ok()?.hold.as_ref()?;
    let text = format!("healing is on hold until {} at the latest: {}", local(hold.until), hold.reason);
    Some(reason(Verdict::Degraded, "healer", text))
}

fn incidents(facts: &Facts) -> Vec<Reason> {
    let open: Vec<&Incident> = facts.incidents.iter().flatten().filter(|incident| incident.state.is_open()).collect();
    let mut found: Vec<Reason> = open.iter().map(|incident| of_incident(incident)).collect();
    if let (Ok(status), Some(_)) = (&facts.healer, &facts.incidents) {
        // The list holds the newest only, and what was given up may be older than all of them.
        let shown = open.iter().filter(|incident| incident.state == IncidentState::GaveUp).count();
        let others = (status.gave_up_incidents as usize).saturating_sub(shown);
        if others > 0 {
            let text = format!("gave up on others long ago ({others}): see ./nexus incidents --state gave_up");
            found.push(reason(Verdict::Critical, "healer", text));
        }
    }
    found
}

fn of_incident(incident: &Incident) -> Reason {
    let mut found = of_state(incident);
    // Who has said so knows of it, and is not told again.
    if let Some(at) = incident.acknowledged_at.filter(|_| found.verdict == Verdict::Critical) {
        found.verdict = Verdict::Degraded;
        found.text = format!("{}; acknowledged {}: left alone until it is well or made anew", found.text, local(at));
    }
    found
}

fn of_state(incident: &Incident) -> Reason {
    let name = format!("{}/{}", incident.project, incident.service);
    match incident.state {
        IncidentState::GaveUp if incident.refusal == Some(Refusal::NetworkGone) => {
            reason(Verdict::Critical, &name, Refusal::NetworkGone.words().to_owned())
        }
        // An incident of the machine itself: no Compose project can be called so.
        IncidentState::GaveUp if incident.project == "_host" => {
            let text = format!("{}, and the healer has nothing left to give up", incident.problem);
            reason(Verdict::Critical, &name, text)
        }
        IncidentState::GaveUp => {
            let tried = match incident.attempts {
                // The budget was spent by incidents before it.
                0 => ": it falls ill again after each restart".to_owned(),
                attempts => format!(" after {}", count(attempts, "attempt")),
            };
            reason(Verdict::Critical, &name, format!("gave up{tried}"))
        }
        IncidentState::Blocked => {
            let waits = incident.refusal.map_or("", Refusal::words);
            reason(Verdict::Degraded, &name, format!("{}, {waits}", incident.problem))
        }
        IncidentState::Stabilising => {
            let text = format!("healed, being watched for a while (it was ill: {})", incident.problem);
            reason(Verdict::Healthy, &name, text)
        }
        _ => reason(Verdict::Degraded, &name, incident.problem.clone()),
    }
}

/// Between Docker's word and the alert there are seconds, and minutes where nothing is healed. Without the healer the exporter
/// tells it.
fn unhealthy(facts: &Facts) -> Vec<Reason> {
    let ill = |state: &str, health: &str| state == "running" && health == "unhealthy";
    let healer = facts.services.iter().flatten().filter(|service| service.incident.is_none());
    let mut names: Vec<String> = healer
        .filter(|service| service.containers.iter().any(|it| ill(&it.state, &it.health)))
        .map(|service| format!("{}/{}", service.project, service.service))
        .collect();
    if facts.services.is_none() {
        let seen = facts.containers.iter().flatten().filter(|it| ill(&it.state, &it.health));
        names.extend(
            seen.map(
                |it| {
                    if it.service.is_empty() { it.name.clone() } else { format!("{}/{}", it.project, it.service) }
                },
            ),
        );
        names.sort_unstable();
        names.dedup();
    }
    let incident = if facts.services.is_some() { ", and no incident is open" } else { "" };
    names.iter().map(|name| reason(Verdict::Degraded, name, format!("unhealthy{incident}"))).collect()
}

fn alerts(facts: &Facts) -> Vec<Reason> {
    // What the healer gave up on is among the incidents, unless those are not known.
    let told = |name: &str| facts.incidents.is_some() && name == "HealerGaveUp";
    let counting = facts.alerts.iter().flatten().filter(|alert| !alert.silenced && !told(&alert.name));
    let of = |alert: &super::facts::Alert| {
        let severity = if alert.severity == "critical" { Verdict::Critical } else { Verdict::Degraded };
        let place = match (alert.project.as_str(), alert.service.as_str()) {
            ("", "") => String::new(),
            (project, service) => format!(" {project}/{service}"),
        };
        reason(severity, &format!("{}{place}", alert.name), alert.summary.clone())
    };
    counting.map(of).collect()
}

/// The worst of what the rules would have told, when it can't be known what they tell.
fn vitals_without_rules(facts: &Facts) -> Vec<Reason> {
    if facts.prometheus.is_ok() && facts.alerts.is_ok() {
        return Vec::new();
    }
    let machine = &facts.machine;
    let has_enough = |it: &Filesystem| it.available >= DISK_ENOUGH && !SYSTEM_DISK.contains(&it.mountpoint.as_str());
    let is_full = |it: &&Filesystem| !it.read_only && it.used_ratio() > DISK_FULL && !has_enough(it);
    let full = machine.filesystems.iter().filter(is_full);
    let mut found: Vec<Reason> = full
        .map(|it| reason(Verdict::Critical, &it.mountpoint, format!("{} full", percent(it.used_ratio()))))
        .collect();
    if let (Some(available), Some(total)) = (machine.memory_available, machine.memory_total)
        && available < MEMORY_LEFT * total
    {
        found.push(reason(Verdict::Critical, "memory", format!("only {} is left", percent(available / total))));
    }
    if let Some(temperature) = machine.temperature.filter(|temperature| *temperature > TOO_HOT) {
        let text = format!("{temperature:.0} °C: the processor is being slowed down");
        found.push(reason(Verdict::Critical, "temperature", text));
    }
    found
}

#[cfg(test)]
mod tests {
    use nexus_model::api::{ContainerView, HealingOnHold, ModeSource, ServiceView};

    use super::*;
    use crate::report::testing::{alert, incident, well};

    fn check(change: fn(&mut Facts), verdict: Verdict, about: &str, text: &str) {
        let mut facts = well();
        change(&mut facts);
        let (found, reasons, _) = super::verdict(&facts);
        let first = reasons.first().map(|reason| (reason.about.as_str(), reason.text.as_str()));
        assert_eq!((found, first.unwrap_or_default()), (verdict, (about, text)));
    }

    fn of_healer(change: fn(&mut nexus_model::api::HealerStatus)) -> Facts {
        let mut facts = well();
        change(facts.healer.as_mut().unwrap());
        facts
    }

    #[test]
    fn parts_that_are_missing_change_the_verdict() {
        check(|_| {}, Verdict::Healthy, "", "");
        check(|f| f.healer = Err("is away".into()), Verdict::Critical, "healer", "is away; nothing is healed");
        check(
            |f| f.exporter = Err("is away".into()),
            Verdict::Critical,
            "exporter",
            "is away; nobody sees what is ill",
        );
        let text = "hangs; no history is kept; for two weeks nothing is lost";
        check(|f| f.reporter = Some(Err("hangs".into())), Verdict::Degraded, "reporter", text);
        check(|f| f.grafana = Some(Err("hangs".into())), Verdict::Degraded, "grafana", "hangs; no dashboard");
        check(
            |f| f.history = Some(Err("hangs".into())),
            Verdict::Degraded,
            "history",
            "hangs; nothing to compare with",
        );
        let down = PartStatus { state: "down".into(), reason: Some("refuses".into()) };
        let mut facts = of_healer(|status| status.journal_pending_rows = 3);
        facts.healer.as_mut().unwrap().postgres = down;
        let (verdict, reasons, _) = super::verdict(&facts);
        assert_eq!(
            (verdict, reasons[0].text.as_str()),
            (Verdict::Degraded, "refuses; waiting in the journal: 3 rows, nothing is lost")
        );
        let off = of_healer(|status| status.postgres.state = "off".into());
        assert_eq!(super::verdict(&off).0, Verdict::Healthy);
    }

    #[test]
    fn open_incidents_change_the_verdict() {
        fn refused(state: IncidentState, refusal: Refusal) -> Option<Vec<Incident>> {
            Some(vec![Incident { refusal: Some(refusal), ..incident(state) }])
        }
        let name = "photos/web";
        check(
            |f| f.incidents = Some(vec![incident(IncidentState::Verifying)]),
            Verdict::Degraded,
            name,
            "exited with code 1",
        );
        check(
            |f| f.incidents = Some(vec![incident(IncidentState::Verifying), incident(IncidentState::GaveUp)]),
            Verdict::Critical,
            name,
            "gave up after 2 attempts",
        );
        check(
            |f| f.incidents = Some(vec![Incident { attempts: 0, ..incident(IncidentState::GaveUp) }]),
            Verdict::Critical,
            name,
            "gave up: it falls ill again after each restart",
        );
        check(
            |f| {
                let (project, service, problem) = ("_host".into(), "disk".into(), "70.0 KiB of disk left".into());
                f.incidents = Some(vec![Incident { project, service, problem, ..incident(IncidentState::GaveUp) }]);
            },
            Verdict::Critical,
            "_host/disk",
            "70.0 KiB of disk left, and the healer has nothing left to give up",
        );
        check(
            |f| f.incidents = refused(IncidentState::GaveUp, Refusal::NetworkGone),
            Verdict::Critical,
            name,
            "its network is gone: a person must create it anew",
        );
        check(
            |f| f.incidents = refused(IncidentState::Blocked, Refusal::DependencyDown),
            Verdict::Degraded,
            name,
            "exited with code 1, waiting for a service that it needs, which is not well",
        );
        check(|f| f.incidents = Some(vec![incident(IncidentState::Closed)]), Verdict::Healthy, "", "");
        let facts = of_healer(|status| status.gave_up_incidents = 1);
        let (verdict, reasons, _) = super::verdict(&facts);
        assert_eq!(verdict, Verdict::Critical);
        assert_eq!(reasons[0].text, "gave up on others long ago (1): see ./nexus incidents --state gave_up");
    }

    #[test]
    fn what_is_healed_and_watched_is_told_and_is_well() {
        let text = "healed, being watched for a while (it was ill: exited with code 1)";
        let healed = |f: &mut Facts| f.incidents = Some(vec![incident(IncidentState::Stabilising)]);
        check(healed, Verdict::Healthy, "photos/web", text);
    }

    #[test]
    fn who_has_acknowledged_it_is_not_called_again() {
        let known = |state| Incident { acknowledged_at: Some(well().at), ..incident(state) };
        let mut facts = well();
        facts.incidents = Some(vec![known(IncidentState::GaveUp)]);
        let (verdict, reasons, _) = super::verdict(&facts);
        let text = format!(
            "gave up after 2 attempts; acknowledged {}: left alone until it is well or made anew",
            local(facts.at)
        );
        assert_eq!((verdict, &reasons[0].text), (Verdict::Degraded, &text));
        // Another one is still told.
        facts.incidents = Some(vec![known(IncidentState::GaveUp), incident(IncidentState::GaveUp)]);
        assert_eq!(super::verdict(&facts).0, Verdict::Critical);
    }

    #[test]
    fn a_mistake_in_the_policy_is_told_with_the_path_of_its_owner() {
        let why = "the policy /etc/nexus/policy/healer.yml, line 12: unknown key".to_owned();
        let mut facts = well();
        facts.healer.as_mut().unwrap().policy = Some(PartStatus { state: "down".into(), reason: Some(why) });
        let (verdict, reasons, parts) = super::verdict(&facts);
        let text =
            "policy/healer.yml, line 12: unknown key; the one of before stays in force: see ./nexus policy check";
        assert_eq!((verdict, reasons[0].text.as_str()), (Verdict::Degraded, text));
        let part = parts.iter().find(|part| part.name == "policy").unwrap();
        assert_eq!(part.reason.as_deref(), Some("policy/healer.yml, line 12: unknown key"));
    }

    #[test]
    fn healing_on_hold_is_told() {
        let mut facts = well();
        let reason = "6 services fell ill together".to_owned();
        let hold = HealingOnHold { since: facts.at, until: facts.at, services: Vec::new(), reason };
        facts.healer.as_mut().unwrap().hold = Some(hold);
        let (verdict, reasons, _) = super::verdict(&facts);
        assert_eq!(verdict, Verdict::Degraded);
        assert!(reasons[0].text.ends_with(" at the latest: 6 services fell ill together"), "{reasons:?}");
    }

    #[test]
    fn alerts_change_the_verdict_unless_they_are_silenced_or_told_already() {
        check(|f| f.alerts = Ok(vec![alert("DiskLow", "warning", false)]), Verdict::Degraded, "DiskLow", "s");
        check(|f| f.alerts = Ok(vec![alert("DiskLow", "critical", true)]), Verdict::Healthy, "", "");
        check(|f| f.alerts = Ok(vec![alert("HealerGaveUp", "critical", false)]), Verdict::Healthy, "", "");
        check(
            |f| (f.incidents, f.alerts) = (None, Ok(vec![alert("HealerGaveUp", "critical", false)])),
            Verdict::Critical,
            "HealerGaveUp",
            "s",
        );
    }

    #[test]
    fn a_service_that_docker_calls_unhealthy_is_told_before_any_alert() {
        let service = |state: &str, health: &str, incident| ServiceView {
            project: "photos".into(),
            service: "web".into(),
            mode: nexus_model::Mode::Off,
            mode_source: ModeSource::ProjectSwitch,
            refusal: None,
            containers: vec![ContainerView {
                name: "photos-web-1".into(),
                image: "web".into(),
                state: state.into(),
                health: health.into(),
                started_at: None,
                restart_count: 0,
            }],
            incident,
            paused_until: None,
            today: None,
            stuck: None,
        };
        let told = |service: ServiceView| super::verdict(&Facts { services: Some(vec![service]), ..well() }).1;
        assert_eq!(told(service("running", "healthy", None)), []);
        assert_eq!(told(service("paused", "unhealthy", None)), []);
        assert_eq!(told(service("running", "unhealthy", None))[0].text, "unhealthy, and no incident is open");
        // The incident tells more.
        assert_eq!(told(service("running", "unhealthy", Some(IncidentState::Watching))), []);
        // The exporter tells it too.
        let mut facts = well();
        facts.services = None;
        facts.containers.as_mut().unwrap()[0].health = "unhealthy".into();
        let reasons = super::verdict(&facts).1;
        assert_eq!((reasons[0].about.as_str(), reasons[0].text.as_str()), ("photos/web", "unhealthy"));
    }

    #[test]
    fn the_machine_is_judged_here_while_no_rule_is_evaluated() {
        let full = Filesystem { free: 1e9, available: 1e9, ..well().machine.filesystems[0].clone() };
        let mut facts = well();
        facts.machine.filesystems = vec![full];
        facts.machine.temperature = Some(81.0);
        facts.machine.memory_available = Some(0.05 * 4e9);
        assert_eq!(super::verdict(&facts).0, Verdict::Healthy);
        facts.alerts = Err("is away".into());
        let about: Vec<String> = super::verdict(&facts).1.into_iter().map(|reason| reason.about).collect();
        assert_eq!(about, ["alertmanager", "/", "memory", "temperature"]);
    }
}
