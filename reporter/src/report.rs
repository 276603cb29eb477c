//! From facts to an answer: how it is and why, what is unlike the usual, what is about to go wrong, and what would help. Pure.

pub mod facts;
pub mod forecast;
pub mod format;
pub mod recommend;
#[cfg(test)]
pub mod testing;
pub mod trend;
pub mod verdict;

use std::collections::BTreeSet;

use jiff::Timestamp;
use nexus_model::api::ServiceView;
use nexus_model::shadow::ShadowRecord;
use nexus_model::{Incident, Mode, Outcome};
use schemars::JsonSchema;
use serde::Serialize;

use crate::render::terminal::local;
use facts::{Facts, INCIDENTS_ASKED, Usual, Vital};
pub use forecast::Forecast;
pub use recommend::Recommendation;
pub use trend::Trend;
pub use verdict::{Part, Reason, Verdict};

/// Grows when a program that reads the report would misunderstand it: a field gone or with another meaning. New fields do not count.
pub const SCHEMA: u32 = 1;

/// How Nexus and this machine are.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(title = "nexus status")]
pub struct Report {
    /// The version of this format.
    pub schema: u32,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub at: Timestamp,
    pub host: String,
    /// The one project that was asked about; null for all.
    pub project: Option<String>,
    pub verdict: Verdict,
    /// What the verdict rests on, the worst first. When all is well, at most what was healed and is still being watched.
    pub reasons: Vec<Reason>,
    /// The parts of Nexus.
    pub parts: Vec<Part>,
    /// The machine. What can't be measured is not there.
    pub vitals: Vec<VitalReport>,
    pub filesystems: Vec<FilesystemReport>,
    /// Null when neither healer nor exporter could be asked.
    pub services: Option<Vec<ServiceReport>>,
    /// Null when the healer could not be asked.
    pub healed: Option<Healed>,
    /// Where nothing is restarted for a while, since somebody wants it so.
    pub pauses: Vec<PauseReport>,
    /// Nothing is restarted at all, since many services fell ill together.
    pub hold: Option<HoldReport>,
    /// What healing would have done this week for services that are only watched. Null when the healer could not be asked.
    pub shadow: Option<Vec<WatchedReport>>,
    /// Open incidents. Null when the healer could not be asked.
    pub incidents: Option<Vec<IncidentReport>>,
    /// What people are being told. Null when Alertmanager could not be asked.
    pub alerts: Option<Vec<AlertReport>>,
    /// What is about to go wrong, the soonest first.
    pub forecasts: Vec<Forecast>,
    /// What would help, the most first.
    pub recommendations: Vec<Recommendation>,
    /// What this report can't say, and why.
    pub missing: Vec<Missing>,
}

/// One vital with what is usual for this hour and weekday.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct VitalReport {
    pub name: Vital,
    pub value: f64,
    pub unit: Unit,
    /// The most that there is, of those that can be used up.
    pub of: Option<f64>,
    /// Null without a history of this hour of the week.
    pub usual: Option<Usual>,
    /// Null likewise.
    pub trend: Option<Trend>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Between 0 and 1.
    Ratio,
    Bytes,
    BytesPerSecond,
    Celsius,
    /// Processes that run or wait, as the load average.
    Processes,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct FilesystemReport {
    pub mountpoint: String,
    pub device: String,
    pub size_bytes: f64,
    pub available_bytes: f64,
    /// As `df` counts.
    pub used_ratio: f64,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct ServiceReport {
    pub project: String,
    pub service: String,
    /// Docker's words for its containers, joined by `+` where they differ.
    pub state: String,
    /// Likewise; `none` without a health check.
    pub health: String,
    pub containers: u32,
    /// By Docker's own restart policy since the last start by hand or by the healer.
    pub restarts: Option<i64>,
    /// `heal`, `shadow` or `off`; null when the healer could not be asked.
    pub mode: Option<String>,
    /// For people: why it would not be healed even when ill, a pause, or that it falls ill again and again.
    pub note: Option<String>,
    /// State of its open incident.
    pub incident: Option<String>,
    /// CPUs in use.
    pub cpu: Option<f64>,
    /// Anonymous memory of all its containers.
    pub memory_bytes: Option<f64>,
    /// Of each of its containers; 0 for none.
    pub memory_limit_bytes: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct PauseReport {
    /// `PROJECT/SERVICE`, a project, or `everything`.
    pub target: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
    pub reason: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct HoldReport {
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// At the latest.
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub until: Timestamp,
    pub reason: String,
}

/// A service that is only watched, and for which a restart was due.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct WatchedReport {
    pub project: String,
    pub service: String,
    pub would_be_restarts: u32,
    pub would_have_helped: u32,
    pub would_not_have_helped: u32,
    pub not_known: u32,
    pub ill_seconds: u64,
    /// The same for people.
    pub sentence: String,
}

/// What was healed since then.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Healed {
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    /// The incidents that ended since with a restart that helped, newest first.
    pub incidents: Vec<IncidentReport>,
    /// How many services became well again by themselves.
    pub by_themselves: u32,
    /// False when there were more than the healer gives at once.
    pub complete: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct IncidentReport {
    pub id: String,
    pub project: String,
    pub service: String,
    pub mode: String,
    pub state: String,
    /// How it ended; null while it is open.
    pub outcome: Option<String>,
    pub problem: String,
    /// What is behind it, as far as it is known.
    pub cause: Option<String>,
    /// Why nothing is being done at the moment, if so.
    pub waits: Option<String>,
    pub attempts: u32,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub opened_at: Timestamp,
    #[schemars(with = "Option<String>")]
    pub closed_at: Option<Timestamp>,
    /// When somebody said that they know of it; null while nobody has.
    #[schemars(with = "Option<String>")]
    pub acknowledged_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct AlertReport {
    pub name: String,
    pub severity: String,
    /// Empty for the machine itself.
    pub project: String,
    pub service: String,
    pub summary: String,
    #[schemars(with = "String", extend("format" = "date-time"))]
    pub since: Timestamp,
    pub silenced: bool,
}

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Missing {
    pub what: String,
    pub because: String,
}

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// What was healed since when.
    pub since: Timestamp,
    /// One project only.
    pub project: Option<String>,
}

/// No project is called so.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
#[error("there is no project {asked}; there are {}", if .known.is_empty() { "none".to_owned() } else { .known.join(", ") })]
pub struct UnknownProject {
    pub asked: String,
    pub known: Vec<String>,
}

/// From what the parts answered to the report. Fails when the project that was asked about does not exist; where nobody could say
/// which ones do, it is taken as given.
pub fn judge(facts: &Facts, question: &Question) -> Result<Report, UnknownProject> {
    let narrowed;
    let facts = match &question.project {
        None => facts,
        Some(project) => {
            if let Some(known) = projects(facts)
                && !known.contains(project.as_str())
            {
                let known = known.into_iter().map(str::to_owned).collect();
                return Err(UnknownProject { asked: project.clone(), known });
            }
            narrowed = only(facts, project);
            &narrowed
        }
    };
    let (verdict, reasons, parts) = verdict::verdict(facts);
    let open = facts
        .incidents
        .as_ref()
        .map(|all| all.iter().filter(|incident| incident.state.is_open()).map(IncidentReport::of).collect::<Vec<_>>());
    Ok(Report {
        schema: SCHEMA,
        at: facts.at,
        host: facts.host.clone(),
        project: question.project.clone(),
        verdict,
        reasons,
        parts,
        vitals: trend::vitals(facts),
        filesystems: filesystems(facts),
        services: services(facts),
        healed: facts.incidents.as_ref().map(|all| healed(all, question.since)),
        pauses: pauses(facts),
        hold: facts.healer.as_ref().ok().and_then(|status| status.hold.as_ref()).map(|hold| HoldReport {
            since: hold.since,
            until: hold.until,
            reason: hold.reason.clone(),
        }),
        shadow: watched(facts),
        incidents: open,
        alerts: facts.alerts.as_ref().ok().map(|all| alerts(all)),
        forecasts: forecast::forecasts(facts),
        recommendations: recommend::recommendations(facts),
        missing: missing(facts),
    })
}

/// The Compose projects that there are; `None` when nobody could say.
pub fn projects(facts: &Facts) -> Option<BTreeSet<&str>> {
    let healer = facts.services.iter().flatten().map(|service| service.project.as_str());
    let exporter = facts.containers.iter().flatten().map(|container| container.project.as_str());
    let known = healer.chain(exporter).filter(|project| !project.is_empty());
    (facts.services.is_some() || facts.containers.is_some()).then(|| known.collect())
}

/// The same facts without the other projects. The machine and the parts of Nexus are everybody's.
fn only(facts: &Facts, project: &str) -> Facts {
    let mut facts = facts.clone();
    facts.services.iter_mut().for_each(|all| all.retain(|service| service.project == project));
    facts.shadow.iter_mut().for_each(|all| all.services.retain(|record| record.project == project));
    facts.incidents.iter_mut().for_each(|all| all.retain(|incident| incident.project == project));
    facts.containers.iter_mut().for_each(|all| all.retain(|container| container.project == project));
    if let Ok(alerts) = &mut facts.alerts {
        alerts.retain(|alert| alert.project.is_empty() || alert.project == project);
    }
    // A count over all projects, which would be compared with the incidents of one.
    if let Ok(status) = &mut facts.healer {
        status.gave_up_incidents = 0;
    }
    facts
}

fn pauses(facts: &Facts) -> Vec<PauseReport> {
    let all = facts.healer.iter().flat_map(|status| &status.pauses);
    all.map(|pause| PauseReport { target: pause.target(), until: pause.until, reason: pause.reason.clone() }).collect()
}

/// Only what is still watched: what is healed by now has its record behind it.
fn watched(facts: &Facts) -> Option<Vec<WatchedReport>> {
    let services = facts.services.as_ref()?;
    let is_watched = |record: &&ShadowRecord| {
        let view = services.iter().find(|view| view.project == record.project && view.service == record.service);
        record.would_be_restarts > 0 && view.is_some_and(|view| view.mode == Mode::Shadow)
    };
    let report = |it: &ShadowRecord| WatchedReport {
        project: it.project.clone(),
        service: it.service.clone(),
        would_be_restarts: it.would_be_restarts,
        would_have_helped: it.would_have_helped,
        would_not_have_helped: it.would_not_have_helped,
        not_known: it.not_known,
        ill_seconds: it.ill_seconds,
        sentence: it.sentence.clone(),
    };
    Some(facts.shadow.as_ref()?.services.iter().filter(is_watched).map(report).collect())
}

/// What is worth knowing of a service beside its state.
fn note(view: &ServiceView) -> Option<String> {
    let mut notes = Vec::new();
    notes.extend(view.refusal.map(|refusal| refusal.words().to_owned()));
    notes.extend(view.paused_until.map(|until| format!("paused until {}", local(until))));
    let flaps = view.today.as_ref().filter(|today| today.flaps());
    notes.extend(
        flaps.map(|it| {
            format!("falls ill again and again: {} of {} a day", it.restarts, format::count(it.of, "restart"))
        }),
    );
    (!notes.is_empty()).then(|| notes.join("; "))
}

fn filesystems(facts: &Facts) -> Vec<FilesystemReport> {
    let all = facts.machine.filesystems.iter().map(|it| FilesystemReport {
        mountpoint: it.mountpoint.clone(),
        device: it.device.clone(),
        size_bytes: it.size,
        available_bytes: it.available,
        used_ratio: it.used_ratio(),
        read_only: it.read_only,
    });
    let mut all: Vec<FilesystemReport> = all.collect();
    // What is mounted at / is told once, not again for each folder bound somewhere else.
    let root = all.iter().find(|it| it.mountpoint == "/").map(|it| it.device.clone());
    all.retain(|it| it.mountpoint == "/" || Some(&it.device) != root.as_ref());
    all.sort_by(|a, b| b.used_ratio.total_cmp(&a.used_ratio));
    all
}

/// From the healer, with what the exporter measures of it; without the healer from the exporter alone.
fn services(facts: &Facts) -> Option<Vec<ServiceReport>> {
    let containers = |project: &str, service: &str| {
        let of = |it: &&facts::Container| it.project == project && it.service == service;
        facts.containers.iter().flatten().filter(of).collect::<Vec<_>>()
    };
    let mut all: Vec<ServiceReport> = if let Some(services) = &facts.services {
        let not_ours = services.iter().filter(|service| !service.is_own());
        let report = not_ours.map(|view| ServiceReport {
            project: view.project.clone(),
            service: view.service.clone(),
            state: words(view.containers.iter().map(|it| it.state.as_str())),
            health: words(view.containers.iter().map(|it| it.health.as_str())),
            containers: view.containers.len() as u32,
            restarts: Some(view.containers.iter().map(|it| it.restart_count).sum()),
            mode: Some(view.mode.to_string()),
            note: note(view),
            incident: view.incident.map(|state| state.to_string()),
            cpu: None,
            memory_bytes: None,
            memory_limit_bytes: None,
        });
        report.collect()
    } else {
        let containers_known = facts.containers.as_ref()?;
        let names = containers_known.iter().filter(|it| !it.service.is_empty() && it.project != facts.stack);
        let names: BTreeSet<(&str, &str)> = names.map(|it| (it.project.as_str(), it.service.as_str())).collect();
        let report = names.into_iter().map(|(project, service)| {
            let own = containers(project, service);
            ServiceReport {
                project: project.to_owned(),
                service: service.to_owned(),
                state: words(own.iter().map(|it| it.state.as_str())),
                health: words(own.iter().map(|it| it.health.as_str())),
                containers: own.len() as u32,
                restarts: None,
                mode: None,
                note: None,
                incident: None,
                cpu: None,
                memory_bytes: None,
                memory_limit_bytes: None,
            }
        });
        report.collect()
    };
    for service in &mut all {
        let own = containers(&service.project, &service.service);
        let memory: Vec<f64> = own.iter().filter_map(|it| it.memory).collect();
        service.memory_bytes = (!memory.is_empty()).then(|| memory.iter().sum());
        service.memory_limit_bytes = own.iter().filter_map(|it| it.memory_limit).max_by(f64::total_cmp);
        let name = (service.project.clone(), service.service.clone());
        service.cpu = facts.measured.service_cpu.get(&name).copied();
    }
    all.sort_by(|a, b| (&a.project, &a.service).cmp(&(&b.project, &b.service)));
    Some(all)
}

fn words<'a>(all: impl Iterator<Item = &'a str>) -> String {
    let words: BTreeSet<&str> = all.collect();
    words.into_iter().collect::<Vec<_>>().join("+")
}

fn healed(all: &[Incident], since: Timestamp) -> Healed {
    let ended: Vec<&Incident> = all.iter().filter(|incident| incident.closed_at.is_some_and(|at| at > since)).collect();
    let with = |outcome: Outcome| ended.iter().filter(move |incident| incident.outcome == Some(outcome));
    let mut incidents: Vec<IncidentReport> =
        with(Outcome::Recovered).map(|incident| IncidentReport::of(incident)).collect();
    incidents.sort_by_key(|incident| std::cmp::Reverse(incident.closed_at));
    // Newest first by their opening: when the oldest that is known began before, none is missing but what lasted long.
    let complete = all.len() < INCIDENTS_ASKED as usize || all.last().is_some_and(|oldest| oldest.opened_at <= since);
    Healed { since, incidents, by_themselves: with(Outcome::RecoveredByItself).count() as u32, complete }
}

fn alerts(all: &[facts::Alert]) -> Vec<AlertReport> {
    let mut all: Vec<AlertReport> = all
        .iter()
        .map(|alert| AlertReport {
            name: alert.name.clone(),
            severity: alert.severity.clone(),
            project: alert.project.clone(),
            service: alert.service.clone(),
            summary: alert.summary.clone(),
            since: alert.since,
            silenced: alert.silenced,
        })
        .collect();
    all.sort_by(|a, b| (&a.severity, &a.name, a.since).cmp(&(&b.severity, &b.name, b.since)));
    all
}

impl IncidentReport {
    fn of(incident: &Incident) -> IncidentReport {
        let known = incident.diagnosis.as_ref().map(|diagnosis| diagnosis.summary.clone());
        let waits = incident.refusal.filter(|_| incident.state.is_open()).map(|refusal| refusal.words().to_owned());
        IncidentReport {
            id: incident.id.to_string(),
            project: incident.project.clone(),
            service: incident.service.clone(),
            mode: incident.mode.to_string(),
            state: incident.state.to_string(),
            outcome: incident.outcome.map(|outcome| outcome.to_string()),
            problem: incident.problem.clone(),
            cause: known.filter(|summary| !summary.is_empty()),
            waits,
            attempts: incident.attempts,
            opened_at: incident.opened_at,
            closed_at: incident.closed_at,
            acknowledged_at: incident.acknowledged_at,
        }
    }

    /// The random end of the id: its beginning is the time and much the same in neighbours.
    pub fn short_id(&self) -> &str {
        self.id.get(self.id.len().saturating_sub(8)..).unwrap_or(&self.id)
    }
}

/// What only Prometheus can tell.
const OF_PROMETHEUS: &str = "CPU, pressure, network, how memory of services grows";

/// What can't be said, and who would have known.
fn missing(facts: &Facts) -> Vec<Missing> {
    let mut missing = Vec::new();
    let mut add = |what: &str, because: String| missing.push(Missing { what: what.to_owned(), because });
    if let Err(reason) = &facts.healer {
        match &facts.incidents_note {
            None => add("modes, incidents and what was healed", format!("healer: {reason}")),
            Some(note) => {
                add("modes", format!("healer: {reason}"));
                add("incidents of this moment", note.clone());
            }
        }
    } else {
        if facts.services.is_none() {
            add("modes of the services", "healer: could not list them".to_owned());
        }
        if facts.incidents.is_none() {
            add("incidents and what was healed", "healer: could not list them".to_owned());
        }
        if facts.shadow.is_none() {
            add("what healing would have done", "healer: could not tell".to_owned());
        }
    }
    if let Err(reason) = &facts.exporter {
        add("vitals, disks, memory of services, most recommendations", format!("exporter: {reason}"));
    }
    if let Err(reason) = &facts.prometheus {
        add(OF_PROMETHEUS, format!("prometheus: {reason}"));
    } else if facts.measured.cpu.is_none() && facts.measured.service_memory.is_empty() {
        // Its series have the name of the machine, which may have been another (NEXUS_HOST).
        add(OF_PROMETHEUS, format!("prometheus: it knows nothing yet of a machine called {}", facts.host));
    }
    if let Err(reason) = &facts.alerts {
        add("alerts", format!("alertmanager: {reason}"));
    }
    let past = "what is usual at this hour, and when disk, memory or CPU run out";
    match &facts.history {
        None => add(past, "no history yet".to_owned()),
        Some(Err(reason)) => add(past, format!("history: {reason}")),
        Some(Ok(history)) if history.usual.is_empty() => {
            add("what is usual at this hour", "no history of this hour of the week yet".to_owned());
        }
        Some(Ok(_)) => {}
    }
    missing
}

impl Report {
    /// For scripts: 0 healthy, 1 degraded, 2 critical.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Healthy => 0,
            Verdict::Degraded => 1,
            Verdict::Critical => 2,
        }
    }
}
