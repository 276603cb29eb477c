//! `nexus status`: one screen that answers "how is it?", the verdict first. It works with any part of the stack missing,
//! and says which.

use anyhow::Result;
use jiff::Timestamp;
use nexus_model::api::{HealerStatus, HealingOnHold, IncidentList, PartStatus, ServiceList, ServiceView};
use nexus_model::control::Pause;
use nexus_model::shadow::{ShadowRecord, ShadowReport};
use nexus_model::{Incident, IncidentState, Mode, Refusal};
use serde::{Deserialize, Serialize};

use crate::home::Home;
use crate::http::{HttpError, Part};
use crate::incidents;
use crate::text::{Paint, ago, duration, local, plain, shorten, table};

/// All that `status` knows; `--json` prints it.
#[derive(Serialize)]
pub struct Report {
    pub verdict: Verdict,
    /// What the verdict rests on, the worst first; empty when all is well.
    pub reasons: Vec<String>,
    pub parts: Vec<PartReport>,
    /// `None` when the healer could not be asked.
    pub services: Option<Vec<ServiceView>>,
    pub incidents: Option<Vec<Incident>>,
    /// Where nothing is restarted for a while, since somebody wants it so.
    pub pauses: Vec<Pause>,
    /// Nothing is restarted at all, since many services fell ill together.
    pub hold: Option<HealingOnHold>,
    /// What healing would have done this week for what is only watched; `None` when the healer could not be asked.
    pub shadow: Option<Vec<ShadowRecord>>,
    /// What people are being told; `None` when Alertmanager could not be asked.
    pub alerts: Option<Vec<AlertReport>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Healthy,
    /// Something is ill and being dealt with, or a part of Nexus is missing that healing can do without.
    Degraded,
    /// A person is needed.
    Critical,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct PartReport {
    pub name: &'static str,
    pub up: bool,
    pub reason: Option<String>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct AlertReport {
    pub name: String,
    pub severity: String,
    pub project: String,
    pub service: String,
    pub summary: String,
    pub since: Timestamp,
    pub silenced: bool,
}

/// What the parts answered.
struct Answers {
    healer: Result<HealerStatus, String>,
    services: Option<Vec<ServiceView>>,
    incidents: Option<Vec<Incident>>,
    shadow: Option<Vec<ShadowRecord>>,
    exporter: Result<(), String>,
    prometheus: Result<(), String>,
    alerts: Result<Vec<AlertReport>, String>,
    /// `None` where Grafana is not part of the stack.
    grafana: Option<Result<(), String>>,
}

pub async fn gather(home: &Home) -> Result<Report> {
    let exporter = Part::exporter(home)?;
    let prometheus = Part::prometheus(home)?;
    let alertmanager = Part::alertmanager(home)?;
    let grafana = (home.get("COMPOSE_PROFILES") == "grafana").then(|| Part::grafana(home)).transpose()?;
    let ask_healer = async {
        let part = Part::healer_to_read(home).map_err(|error| format!("{error:#}"))?;
        let asked = tokio::join!(
            part.get::<HealerStatus>("/api/v1/status", &[]),
            part.get::<ServiceList>("/api/v1/services", &[]),
            part.get::<IncidentList>("/api/v1/incidents", &[("limit", "1000")]),
            part.get::<ShadowReport>("/api/v1/shadow", &[]),
        );
        Ok::<_, String>(asked)
    };
    let ask_grafana = async {
        match &grafana {
            Some(part) => Some(part.ok("/api/health").await.map_err(short)),
            None => None,
        }
    };
    let (healer, exporter, prometheus, alerts, grafana) = tokio::join!(
        ask_healer,
        async { exporter.ok("/healthz").await.map_err(short) },
        async { prometheus.ok("/-/ready").await.map_err(short) },
        async { alertmanager.get::<Vec<Alert>>("/api/v2/alerts", &[]).await.map_err(short) },
        ask_grafana,
    );
    let (healer, services, incidents, shadow) = match healer {
        Err(reason) => (Err(reason), None, None, None),
        Ok((status, services, incidents, shadow)) => (
            status.map_err(short),
            services.ok().map(|list| list.services),
            incidents.ok().map(|list| list.incidents.into_iter().filter(|i| i.state.is_open()).collect()),
            shadow.ok().map(|report| report.services),
        ),
    };
    let alerts = alerts.map(|all| all.into_iter().filter_map(Alert::for_people).collect());
    Ok(judge(Answers { healer, services, incidents, shadow, exporter, prometheus, alerts, grafana }))
}

/// The mend is in the verdict's reason once; here only what is wrong.
fn short(error: HttpError) -> String {
    match error {
        HttpError::Unreachable { base, .. } => format!("does not answer at {base}"),
        HttpError::TimedOut { base, .. } => format!("hangs at {base}"),
        other => other.to_string(),
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Alert {
    labels: std::collections::BTreeMap<String, String>,
    annotations: std::collections::BTreeMap<String, String>,
    starts_at: Timestamp,
    status: AlertStatus,
}

/// An alert may also be held back by another one: that is no silence, and what it tells is true.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct AlertStatus {
    silenced_by: Vec<String>,
}

impl Alert {
    /// `None` for the prompts of the healer and for what has no severity.
    fn for_people(mut self) -> Option<AlertReport> {
        let mut label = |name: &str| self.labels.remove(name).unwrap_or_default();
        let (severity, heal) = (label("severity"), label("heal"));
        (heal.is_empty() && ["warning", "critical"].contains(&severity.as_str())).then(|| AlertReport {
            name: label("alertname"),
            severity,
            project: label("project"),
            service: label("service"),
            summary: self.annotations.remove("summary").unwrap_or_default(),
            since: self.starts_at,
            silenced: !self.status.silenced_by.is_empty(),
        })
    }
}

/// From what the parts answered to the verdict. Pure.
fn judge(answers: Answers) -> Report {
    let mut found: Vec<(Verdict, String)> = Vec::new();
    let mut parts = Vec::new();
    let mut part = |name: &'static str, severity: Verdict, answer: Result<(), String>, without: &str| {
        if let Err(reason) = &answer {
            found.push((severity, format!("{name}: {reason}; {without}")));
        }
        parts.push(PartReport { name, up: answer.is_ok(), reason: answer.err() });
    };
    let of = |status: &PartStatus| match status.state.as_str() {
        "up" | "off" => Ok(()),
        _ => Err(status.reason.clone().unwrap_or_else(|| "is down".to_owned())),
    };
    let healer = answers.healer.as_ref();
    part("healer", Verdict::Critical, healer.map(drop).map_err(Clone::clone), "nothing is healed");
    part("exporter", Verdict::Critical, answers.exporter, "nobody sees what is ill");
    part("prometheus", Verdict::Critical, answers.prometheus, "no rule is evaluated");
    part("alertmanager", Verdict::Critical, answers.alerts.as_ref().map(drop).map_err(Clone::clone), "nobody is told");
    if let Ok(status) = healer {
        part("docker", Verdict::Critical, of(&status.docker), "the healer can neither see nor act");
        if let Some(policy) = &status.policy {
            part("policy", Verdict::Degraded, of(policy), "the one of before stays in force");
        }
        if status.postgres.state != "off" {
            let waiting = format!("{} rows wait in the journal, nothing is lost", status.journal_pending_rows);
            part("postgres", Verdict::Degraded, of(&status.postgres), &waiting);
        }
    }
    let (mut pauses, mut hold) = (Vec::new(), None);
    if let Ok(status) = answers.healer.as_ref() {
        (pauses, hold) = (status.pauses.clone(), status.hold.clone());
    }
    if let Some(grafana) = answers.grafana {
        part("grafana", Verdict::Degraded, grafana, "no dashboard");
    }
    if let Some(hold) = &hold {
        let until = local(hold.until);
        let text = format!("healing is on hold until {until} at the latest: {}", plain(&hold.reason));
        found.push((Verdict::Degraded, text));
    }
    for incident in answers.incidents.iter().flatten() {
        let name = plain(&format!("{}/{}", incident.project, incident.service));
        found.push(match incident.state {
            IncidentState::GaveUp if incident.refusal == Some(Refusal::NetworkGone) => {
                (Verdict::Critical, format!("{name}: {}", Refusal::NetworkGone.words()))
            }
            // An incident of the machine itself: no Compose project can be called so.
            IncidentState::GaveUp if incident.project == "_host" => {
                let text = format!("{name}: {}, and the healer has nothing left to give up", plain(&incident.problem));
                (Verdict::Critical, text)
            }
            IncidentState::GaveUp => {
                let tried = match incident.attempts {
                    // The budget was spent by incidents before it.
                    0 => ": it falls ill again after each restart".to_owned(),
                    attempts => format!(" after {attempts} attempts"),
                };
                (Verdict::Critical, format!("{name}: gave up{tried}"))
            }
            IncidentState::Blocked => {
                let waits = incident.refusal.map_or("", Refusal::words);
                (Verdict::Degraded, format!("{name}: {}, {waits}", plain(&incident.problem)))
            }
            _ => (Verdict::Degraded, format!("{name}: {}", plain(&incident.problem))),
        });
    }
    // Between Docker's word and the alert there are seconds, and minutes where nothing is healed.
    for service in answers.services.iter().flatten().filter(|service| service.incident.is_none()) {
        let unhealthy = service.containers.iter().any(|it| it.state == "running" && it.health == "unhealthy");
        if unhealthy {
            let name = plain(&format!("{}/{}", service.project, service.service));
            found.push((Verdict::Degraded, format!("{name}: unhealthy, and no incident is open")));
        }
    }
    if let (Ok(status), Some(incidents)) = (healer, &answers.incidents) {
        // The list holds the newest only, and what was given up may be older than all of them.
        let shown = incidents.iter().filter(|incident| incident.state == IncidentState::GaveUp).count();
        let others = (status.gave_up_incidents as usize).saturating_sub(shown);
        if others > 0 {
            let text = format!("gave up on others long ago ({others}): see ./nexus incidents --state gave_up");
            found.push((Verdict::Critical, text));
        }
    }
    for alert in answers.alerts.iter().flatten().filter(|alert| !alert.silenced && alert.name != "HealerGaveUp") {
        let severity = if alert.severity == "critical" { Verdict::Critical } else { Verdict::Degraded };
        let place = [&alert.project, &alert.service].map(|part| plain(part)).join("/");
        let place = if place == "/" { String::new() } else { format!(" {place}") };
        found.push((severity, format!("{}{place}: {}", plain(&alert.name), plain(&alert.summary))));
    }
    found.sort_by_key(|(verdict, _)| std::cmp::Reverse(*verdict));
    Report {
        verdict: found.first().map_or(Verdict::Healthy, |(verdict, _)| *verdict),
        reasons: found.into_iter().map(|(_, reason)| reason).collect(),
        parts,
        services: answers.services,
        incidents: answers.incidents,
        pauses,
        hold,
        shadow: answers.shadow,
        alerts: answers.alerts.ok(),
    }
}

/// One screen for people.
pub fn screen(report: &Report, now: Timestamp, paint: Paint) -> String {
    let (first, rest) =
        (report.reasons.first().map(String::as_str).unwrap_or_default(), report.reasons.len().saturating_sub(1));
    let more = if rest == 0 { String::new() } else { format!(" (and {rest} more)") };
    let mut out = match report.verdict {
        Verdict::Healthy => paint.good("All is well."),
        Verdict::Degraded => paint.warning(&format!("Not all is well: {first}{more}")),
        Verdict::Critical => paint.bad(&format!("You are needed: {first}{more}")),
    };
    out.push_str("\n\n");
    for part in &report.parts {
        let word = if part.up { paint.good("up") } else { paint.bad("DOWN") };
        let reason = part.reason.as_deref().map(|reason| format!("  {}", plain(reason))).unwrap_or_default();
        out.push_str(&format!("{:<14}{word}{reason}\n", part.name));
    }
    let absent =
        if report.parts.iter().all(|part| !part.up) { "is the stack up? run ./nexus up" } else { "see ./nexus logs" };
    if report.parts.iter().any(|part| !part.up) {
        out.push_str(&format!("{absent}\n"));
    }
    if let Some(hold) = &report.hold {
        let (held, until) = (duration(now.duration_since(hold.since)), local(hold.until));
        out.push_str(&format!("{:<14}for {held}, until {until} at the latest: {}\n", "on hold", plain(&hold.reason)));
    }
    for pause in &report.pauses {
        let left = duration(pause.until.duration_since(now));
        let reason = pause.reason.as_deref().map(|reason| format!(": {}", shorten(reason, 60))).unwrap_or_default();
        let line = format!("{} for {left}, until {}{reason}", pause.target(), local(pause.until));
        out.push_str(&format!("{:<14}{}\n", "paused", plain(&line)));
    }
    let mut section = |title: &str, body: Option<String>, none: &str| {
        out.push_str(&format!("\n{}\n", paint.bold(title)));
        match body {
            None => out.push_str("unknown: the part that knows does not answer\n"),
            Some(body) if body.is_empty() => out.push_str(&format!("{none}\n")),
            Some(body) => out.push_str(&body),
        }
    };
    section(
        "SERVICES",
        report.services.as_ref().map(|all| services_table(all)),
        "no Docker Compose project runs here yet",
    );
    section("OPEN INCIDENTS", report.incidents.as_ref().map(|all| incidents::rows(all, now)), "none");
    if report.shadow.is_none() || report.services.is_none() {
        section("WATCHED ONLY", None, "");
    } else if let Some(lines) = watched_only(report) {
        section("WATCHED ONLY", Some(lines), "");
    }
    section("ALERTS", report.alerts.as_ref().map(|all| alerts_table(all, now)), "none");
    out
}

/// What healing would have done for services that are only watched; `None` when no restart was due.
fn watched_only(report: &Report) -> Option<String> {
    let is_watched = |record: &&ShadowRecord| {
        let is_it = |view: &&ServiceView| view.project == record.project && view.service == record.service;
        let view = report.services.iter().flatten().find(is_it);
        record.would_be_restarts > 0 && view.is_some_and(|view| view.mode == Mode::Shadow)
    };
    let line = |record: &ShadowRecord| {
        let name = format!("{}/{}", record.project, record.service);
        // Only what has shown that it helps is offered.
        let offer = if record.would_have_helped > 0 { format!(": ./nexus heal on {name}") } else { String::new() };
        plain(&format!("{}{offer}", record.sentence)) + "\n"
    };
    let lines: String = report.shadow.iter().flatten().filter(is_watched).map(line).collect();
    (!lines.is_empty()).then_some(lines)
}

/// What is worth knowing of a service beside its state.
fn note(service: &ServiceView) -> String {
    let mut notes = Vec::new();
    notes.extend(service.refusal.map(|refusal| refusal.words().to_owned()));
    notes.extend(service.paused_until.map(|until| format!("paused until {}", local(until))));
    let flaps = service.today.filter(|today| today.flaps());
    notes.extend(
        flaps.map(|today| format!("falls ill again and again: {} of {} restarts a day", today.restarts, today.of)),
    );
    notes.join("; ")
}

fn services_table(services: &[ServiceView]) -> String {
    let mut sorted: Vec<&ServiceView> =
        services.iter().filter(|service| service.refusal != Some(Refusal::OwnStack)).collect();
    sorted.sort_by(|a, b| (&a.project, &a.service).cmp(&(&b.project, &b.service)));
    let mut rows = Vec::new();
    let mut before = None;
    for service in sorted {
        let project = if before.replace(&service.project) == Some(&service.project) { "" } else { &service.project };
        let summary = |pick: fn(&nexus_model::api::ContainerView) -> &String| {
            let mut words: Vec<&str> = service.containers.iter().map(|container| pick(container).as_str()).collect();
            words.sort_unstable();
            words.dedup();
            words.join("+")
        };
        let health = summary(|container| &container.health);
        let restarts: i64 = service.containers.iter().map(|container| container.restart_count).sum();
        rows.push(vec![
            project.to_owned(),
            service.service.clone(),
            summary(|container| &container.state),
            if health == "none" { "-".to_owned() } else { health },
            if restarts == 0 { String::new() } else { restarts.to_string() },
            service.mode.to_string(),
            note(service),
        ]);
    }
    table(&["PROJECT", "SERVICE", "STATE", "HEALTH", "RESTARTS", "MODE", "NOTE"], &rows)
}

fn alerts_table(alerts: &[AlertReport], now: Timestamp) -> String {
    let mut sorted: Vec<&AlertReport> = alerts.iter().collect();
    sorted.sort_by(|a, b| (&a.severity, &a.name, a.since).cmp(&(&b.severity, &b.name, b.since)));
    let rows: Vec<Vec<String>> = sorted
        .into_iter()
        .map(|alert| {
            vec![
                alert.severity.clone(),
                alert.name.clone(),
                match (alert.project.as_str(), alert.service.as_str()) {
                    ("", "") => String::new(),
                    (project, service) => format!("{project}/{service}"),
                },
                ago(alert.since, now),
                shorten(&alert.summary, 60),
                if alert.silenced { "silenced".to_owned() } else { String::new() },
            ]
        })
        .collect();
    table(&["SEVERITY", "ALERT", "SERVICE", "SINCE", "WHAT", ""], &rows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::incidents::tests::incident;

    fn up() -> PartStatus {
        PartStatus { state: "up".into(), reason: None }
    }

    /// Everything answers and nothing is wrong.
    fn well() -> Answers {
        Answers {
            healer: Ok(HealerStatus {
                version: "1".into(),
                host: "pi".into(),
                stack: "nexus".into(),
                now: Timestamp::UNIX_EPOCH,
                docker: up(),
                postgres: up(),
                alertmanager: up(),
                policy: Some(up()),
                journal_pending_rows: 0,
                open_incidents: 0,
                gave_up_incidents: 0,
                pauses: Vec::new(),
                hold: None,
            }),
            services: Some(Vec::new()),
            incidents: Some(Vec::new()),
            shadow: Some(Vec::new()),
            exporter: Ok(()),
            prometheus: Ok(()),
            alerts: Ok(Vec::new()),
            grafana: None,
        }
    }

    fn alert(name: &str, severity: &str, silenced: bool) -> AlertReport {
        AlertReport {
            name: name.into(),
            severity: severity.into(),
            project: String::new(),
            service: String::new(),
            summary: "s".into(),
            since: Timestamp::UNIX_EPOCH,
            silenced,
        }
    }

    #[test]
    fn a_service_that_docker_calls_unhealthy_is_told_before_any_alert() {
        let service = |state: &str, health: &str, incident| ServiceView {
            project: "photos".into(),
            service: "web".into(),
            mode: nexus_model::Mode::Off,
            mode_source: nexus_model::api::ModeSource::ProjectSwitch,
            refusal: None,
            containers: vec![nexus_model::api::ContainerView {
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
        };
        let told = |service: ServiceView| judge(Answers { services: Some(vec![service]), ..well() }).reasons;
        assert_eq!(told(service("running", "healthy", None)), [""; 0]);
        assert_eq!(told(service("paused", "unhealthy", None)), [""; 0]);
        assert_eq!(told(service("running", "unhealthy", None)), ["photos/web: unhealthy, and no incident is open"]);
        // The incident tells more.
        assert_eq!(told(service("running", "unhealthy", Some(IncidentState::Watching))), [""; 0]);
    }

    fn watched(service: &str, mode: Mode, today: Option<nexus_model::api::Today>) -> ServiceView {
        ServiceView {
            project: "shop".into(),
            service: service.into(),
            mode,
            mode_source: nexus_model::api::ModeSource::PolicyDefault,
            refusal: None,
            containers: Vec::new(),
            incident: None,
            paused_until: None,
            today,
        }
    }

    #[test]
    fn what_holds_healing_up_and_what_it_would_be_worth_is_on_the_screen() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut answers = well();
        if let Ok(status) = &mut answers.healer {
            status.hold = Some(HealingOnHold {
                since: at(0),
                until: at(600),
                services: Vec::new(),
                reason: "6 services fell ill together".into(),
            });
            let pause = |project: Option<&str>, reason: Option<&str>| Pause {
                project: project.map(str::to_owned),
                service: None,
                since: at(0),
                until: at(3_700),
                reason: reason.map(str::to_owned),
            };
            status.pauses = vec![pause(None, None), pause(Some("shop"), Some("a bigger\u{1b} disk"))];
        }
        let today = |restarts| Some(nexus_model::api::Today { restarts, of: 20 });
        answers.services = Some(vec![
            watched("web", Mode::Shadow, today(2)),
            watched("db", Mode::Shadow, None),
            watched("api", Mode::Heal, today(3)),
        ]);
        let record = |service: &str, helped: u32| ShadowRecord {
            project: "shop".into(),
            service: service.into(),
            would_be_restarts: 3,
            would_have_helped: helped,
            not_known: 3 - helped,
            sentence: format!("would have restarted shop/{service} 3 times"),
            ..ShadowRecord::default()
        };
        answers.shadow = Some(vec![record("api", 3), record("db", 0), record("web", 3), record("gone", 3)]);
        let report = judge(answers);
        let until = local(at(600));
        let reason = format!("healing is on hold until {until} at the latest: 6 services fell ill together");
        assert_eq!((report.verdict, report.reasons.as_slice()), (Verdict::Degraded, [reason].as_slice()));
        let text = screen(&report, at(100), Paint::NONE);
        let has = |line: &str| assert!(text.lines().any(|found| found == line), "{line:?} is not in\n{text}");
        has(&format!("on hold       for 100 s, until {until} at the latest: 6 services fell ill together"));
        has(&format!("paused        everything for 60 min, until {}", local(at(3_700))));
        has(&format!("paused        shop for 60 min, until {}: a bigger\u{fffd} disk", local(at(3_700))));
        has("would have restarted shop/web 3 times: ./nexus heal on shop/web");
        has("would have restarted shop/db 3 times");
        assert!(!text.contains("restarted shop/api") && !text.contains("shop/gone"), "{text}");
        assert_eq!(text.matches("falls ill again and again: 3 of 20 restarts a day").count(), 1, "{text}");
    }

    #[test]
    fn one_fact_at_a_time_changes_the_verdict() {
        let check = |change: fn(&mut Answers), verdict: Verdict, reason: &str| {
            let mut answers = well();
            change(&mut answers);
            let report = judge(answers);
            assert_eq!(
                (report.verdict, report.reasons.first().map(String::as_str).unwrap_or_default()),
                (verdict, reason)
            );
        };
        check(|_| {}, Verdict::Healthy, "");
        check(|a| a.healer = Err("is away".into()), Verdict::Critical, "healer: is away; nothing is healed");
        check(
            |a| {
                if let Ok(status) = &mut a.healer {
                    status.postgres = PartStatus { state: "down".into(), reason: Some("refuses".into()) };
                    status.journal_pending_rows = 3;
                }
            },
            Verdict::Degraded,
            "postgres: refuses; 3 rows wait in the journal, nothing is lost",
        );
        check(
            |a| {
                if let Ok(status) = &mut a.healer {
                    status.postgres = PartStatus { state: "off".into(), reason: None };
                }
            },
            Verdict::Healthy,
            "",
        );
        check(|a| a.grafana = Some(Err("hangs".into())), Verdict::Degraded, "grafana: hangs; no dashboard");
        check(
            |a| a.incidents = Some(vec![incident(IncidentState::Verifying)]),
            Verdict::Degraded,
            "photos/web: exited with code 1",
        );
        check(
            |a| a.incidents = Some(vec![incident(IncidentState::Verifying), incident(IncidentState::GaveUp)]),
            Verdict::Critical,
            "photos/web: gave up after 2 attempts",
        );
        check(
            |a| {
                a.incidents = Some(vec![Incident { attempts: 0, ..incident(IncidentState::GaveUp) }]);
            },
            Verdict::Critical,
            "photos/web: gave up: it falls ill again after each restart",
        );
        fn refused(state: IncidentState, refusal: Refusal) -> Incident {
            Incident { refusal: Some(refusal), ..incident(state) }
        }
        check(
            |a| {
                let host = incident(IncidentState::GaveUp);
                a.incidents = Some(vec![Incident {
                    project: "_host".into(),
                    service: "disk".into(),
                    problem: "70.0 KiB of disk left".into(),
                    ..host
                }]);
            },
            Verdict::Critical,
            "_host/disk: 70.0 KiB of disk left, and the healer has nothing left to give up",
        );
        check(
            |a| a.incidents = Some(vec![refused(IncidentState::GaveUp, Refusal::NetworkGone)]),
            Verdict::Critical,
            "photos/web: its network is gone: a person must create it anew",
        );
        check(
            |a| a.incidents = Some(vec![refused(IncidentState::Blocked, Refusal::DependencyDown)]),
            Verdict::Degraded,
            "photos/web: exited with code 1, waiting for a service that it needs, which is not well",
        );
        check(
            |a| {
                if let Ok(status) = &mut a.healer {
                    status.gave_up_incidents = 1;
                }
            },
            Verdict::Critical,
            "gave up on others long ago (1): see ./nexus incidents --state gave_up",
        );
        check(|a| a.alerts = Ok(vec![alert("DiskLow", "warning", false)]), Verdict::Degraded, "DiskLow: s");
        check(|a| a.alerts = Ok(vec![alert("DiskLow", "critical", true)]), Verdict::Healthy, "");
    }

    #[test]
    fn the_screen_is_whole_with_everything_missing() {
        let away = || "does not answer".to_owned();
        let report = judge(Answers {
            healer: Err(away()),
            services: None,
            incidents: None,
            shadow: None,
            exporter: Err(away()),
            prometheus: Err(away()),
            alerts: Err(away()),
            grafana: None,
        });
        let text = screen(&report, Timestamp::UNIX_EPOCH, Paint::NONE);
        assert!(
            text.starts_with("You are needed: healer: does not answer; nothing is healed (and 3 more)\n"),
            "{text}"
        );
        assert!(text.contains("is the stack up? run ./nexus up\n"), "{text}");
        assert_eq!(text.matches("unknown: ").count(), 4);
    }

    #[test]
    fn only_alerts_for_people_count() {
        let check = |labels: &str, counts: bool| {
            let json = format!(
                r#"{{"labels":{{{labels}}},"annotations":{{}},"startsAt":"2026-01-01T00:00:00.000Z","status":{{"state":"active","inhibitedBy":[],"silencedBy":[]}}}}"#
            );
            let alert: Alert = serde_json::from_str(&json).unwrap();
            assert_eq!(alert.for_people().is_some(), counts, "{labels}");
        };
        check(r#""alertname":"A","severity":"critical""#, true);
        check(r#""alertname":"A","severity":"critical","heal":"restart""#, false);
        check(r#""alertname":"Watchdog","severity":"none""#, false);
    }

    #[test]
    fn what_another_alert_holds_back_is_not_silenced() {
        let check = |status: &str, silenced: bool| {
            let json = format!(
                r#"{{"labels":{{"severity":"critical"}},"annotations":{{}},"startsAt":"2026-01-01T00:00:00.000Z","status":{status}}}"#
            );
            let alert: Alert = serde_json::from_str(&json).unwrap();
            assert_eq!(alert.for_people().map(|alert| alert.silenced), Some(silenced), "{status}");
        };
        check(r#"{"state":"suppressed","inhibitedBy":["a"],"silencedBy":[]}"#, false);
        check(r#"{"state":"suppressed","inhibitedBy":[],"silencedBy":["b"]}"#, true);
    }
}
