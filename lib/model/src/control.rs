//! JSON of what an owner asks the healer to explain or to do about a service: why, logs, plan, heal now, acknowledge, pause.
//! Used by the healer that serves it and by the command line that reads it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{
    Incident, IncidentState, Refusal,
    api::{ContainerView, ServiceView},
    shadow::ShadowRecord,
};

/// `GET /api/v1/services/{project}/{service}`: how a service is, and the reason for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceDetail {
    pub service: ServiceView,
    /// Its open incident.
    pub incident: Option<Incident>,
    /// What it needs and is not well, the root of the trouble first.
    pub waits_for: Vec<Obstacle>,
    /// Restarts that count against the budget of each of its containers.
    pub budgets: Vec<Budget>,
    /// What the healer would do now.
    pub plan: Plan,
    /// The pause that covers it, if one does.
    pub pause: Option<Pause>,
    /// The last incident that is over.
    pub last: Option<Incident>,
    /// What healing would have done for it this week, of a service that is only watched and fell ill.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shadow: Option<ShadowRecord>,
}

/// A service that another one needs and that is not well.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Obstacle {
    pub project: String,
    pub service: String,
    /// What is the matter with it, for people.
    pub problem: String,
    pub reason: Refusal,
}

/// What is spent of the restarts that one container may have, in its incident and the hour before it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Budget {
    pub container: String,
    pub spent: u32,
    pub of: u32,
}

/// What the healer would do about a service at this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    pub project: String,
    pub service: String,
    pub step: Step,
    /// The name of the reason for doing nothing, if nothing would be done.
    pub reason: Option<Refusal>,
    /// When it would look again at the latest, where that is known.
    pub until: Option<Timestamp>,
    /// The container that the step is about.
    pub container: Option<String>,
    /// For people: one sentence.
    pub text: String,
    /// State of its open incident; absent when there is none.
    pub incident: Option<IncidentState>,
}

/// The kinds of what the healer would do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// There is nothing to do.
    Nothing,
    /// It would wait, and why.
    Wait,
    /// It would wait for another service.
    Block,
    /// It would restart a container.
    Restart,
    /// It would write down that it would have restarted a container.
    WouldRestart,
    /// It would give up.
    GiveUp,
    /// It would close the incident.
    Close,
}

impl Step {
    pub const ALL: [Step; 7] =
        [Step::Nothing, Step::Wait, Step::Block, Step::Restart, Step::WouldRestart, Step::GiveUp, Step::Close];
}

/// `GET /api/v1/plan`: what the healer would do now, service by service. Nothing is done or written for it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PlanList {
    pub plans: Vec<Plan>,
}

/// `GET /api/v1/services/{project}/{service}/logs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceLogs {
    pub project: String,
    pub service: String,
    pub containers: Vec<ContainerLog>,
}

/// The end of the log of one container, secrets redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerLog {
    pub container: ContainerView,
    /// Oldest first, each with its time in front.
    pub lines: Vec<String>,
    /// There is more of it within what was asked for: lines or bytes were at their bound.
    pub truncated: bool,
    /// Why there are no lines, if they could not be had.
    pub error: Option<String>,
}

/// Body of `POST /api/v1/services/{project}/{service}/heal`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealNow {
    /// Also when it is well, starting, or was stopped by somebody, or what it needs is not well.
    pub force: bool,
}

/// Answer to it: the incident in which the attempt is made. That it was asked for is on disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealNowAccepted {
    pub incident: Uuid,
    /// The containers that are to be restarted.
    pub containers: Vec<String>,
    /// Attempts that the incident has had before.
    pub attempts_before: u32,
}

/// Body of `POST /api/v1/incidents/{id}/ack`; may be left out.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Acknowledge {
    /// Try again with a fresh budget.
    pub retry: bool,
    /// Kept in the story of the incident.
    pub note: Option<String>,
}

/// Longest note and longest reason of a pause, in characters.
pub const NOTE_LIMIT: usize = 500;

/// Body of `PUT /api/v1/pauses`. Without a service the whole project, without a project everything.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct PauseWanted {
    pub project: Option<String>,
    pub service: Option<String>,
    /// How long; absent: [`PAUSE_SECONDS`].
    pub for_seconds: Option<u64>,
    pub reason: Option<String>,
}

/// A pause that nobody gave a length.
pub const PAUSE_SECONDS: u64 = 3600;
/// The longest pause: one that is forgotten must end by itself.
pub const PAUSE_SECONDS_LIMIT: u64 = 30 * 24 * 3600;

/// A pause that holds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// Absent: everything.
    pub project: Option<String>,
    /// Absent: the whole project.
    pub service: Option<String>,
    pub since: Timestamp,
    pub until: Timestamp,
    pub reason: Option<String>,
}

impl Pause {
    /// What it covers, for people.
    pub fn target(&self) -> String {
        match (&self.project, &self.service) {
            (Some(project), Some(service)) => format!("{project}/{service}"),
            (Some(project), None) => project.clone(),
            (None, _) => "everything".to_owned(),
        }
    }
}

/// `GET /api/v1/pauses`, and the answer to `PUT` and `DELETE`: all that hold now.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PauseList {
    pub pauses: Vec<Pause>,
}
