//! JSON of the healer's API, used by the healer that serves it and by the command line that reads it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::{Attempt, Evidence, Incident, IncidentEvent, IncidentState, Mode, Refusal, ServiceKey};

/// `GET /api/v1/incidents`, newest first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentList {
    pub incidents: Vec<Incident>,
}

/// `GET /api/v1/incidents/{id}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentDetail {
    pub incident: Incident,
    pub attempts: Vec<Attempt>,
    pub evidence: Vec<Evidence>,
    /// Oldest first.
    pub events: Vec<IncidentEvent>,
}

/// Who decided the mode of a service, the most specific first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ModeSource {
    ServiceSwitch,
    Label,
    ProjectSwitch,
    PolicyService,
    PolicyProject,
    PolicyDefault,
}

/// One service as the healer sees it, from its containers of this moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    pub project: String,
    pub service: String,
    pub mode: Mode,
    pub mode_source: ModeSource,
    /// What would be refused even when it is ill, e.g. `protected_image` or `own_stack`.
    pub refusal: Option<Refusal>,
    pub containers: Vec<ContainerView>,
    /// State of its open incident, if there is one.
    pub incident: Option<IncidentState>,
    /// Until when healing is paused for it, if it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub paused_until: Option<Timestamp>,
    /// Its restarts within the last day, if there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub today: Option<Today>,
    /// What keeps it from being well that healing does not act on, for people: Docker restarts it again and again, or it was
    /// created and never started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stuck: Option<String>,
}

/// Restarts that the healer made within the last 24 hours, of the container of a service that had most of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Today {
    pub restarts: u32,
    /// How many a day allows for.
    pub of: u32,
}

impl Today {
    /// From so many restarts within a day on, a service is said to fall ill again and again: once or twice may be chance.
    pub const FLAPS: u32 = 3;

    pub fn flaps(self) -> bool {
        self.restarts >= Self::FLAPS
    }
}

/// One container of a service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ContainerView {
    pub name: String,
    pub image: String,
    /// Docker's word: created, running, paused, restarting, removing, exited, dead.
    pub state: String,
    /// Docker's word: none, starting, healthy, unhealthy.
    pub health: String,
    pub started_at: Option<Timestamp>,
    pub restart_count: i64,
}

impl ServiceView {
    /// A service of Nexus itself.
    pub fn is_own(&self) -> bool {
        self.refusal == Some(Refusal::OwnStack)
    }
}

/// The services of that name. Those of Nexus itself are seldom meant: only where no other is called so.
pub fn called<'a>(services: &'a [ServiceView], name: &str) -> Vec<&'a ServiceView> {
    let all: Vec<&ServiceView> = services.iter().filter(|view| view.service == name).collect();
    let is_foreign = |view: &&&ServiceView| !view.is_own();
    if all.iter().any(|view| !view.is_own()) { all.iter().filter(is_foreign).copied().collect() } else { all }
}

/// `GET /api/v1/services`, and the answer to `PUT /api/v1/heal` with the affected services only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceList {
    pub services: Vec<ServiceView>,
}

/// Body of `PUT /api/v1/heal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct HealSwitch {
    pub project: String,
    /// Absent: the whole project.
    #[serde(default)]
    pub service: Option<String>,
    /// `null` takes the switch back, so that label and policy speak again.
    pub mode: Option<Mode>,
}

/// `GET /api/v1/selftest/{nonce}`: 404 until the alert with that nonce has come in.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SelfTest {
    pub nonce: String,
    pub received_at: Timestamp,
}

/// `GET /api/v1/status`: the healer about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealerStatus {
    pub version: String,
    pub host: String,
    pub stack: String,
    pub now: Timestamp,
    pub docker: PartStatus,
    pub postgres: PartStatus,
    pub alertmanager: PartStatus,
    /// Whether the policy in force is the one in the file.
    #[serde(default)]
    pub policy: Option<PartStatus>,
    /// Rows of the journal that wait to be copied to Postgres.
    pub journal_pending_rows: u64,
    pub open_incidents: u32,
    pub gave_up_incidents: u32,
    /// The pauses that hold now.
    #[serde(default)]
    pub pauses: Vec<crate::control::Pause>,
    /// Many services fell ill together, and nothing is restarted on the whole host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<HealingOnHold>,
}

/// Why, and until when at the latest, nothing is restarted on the whole host.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HealingOnHold {
    pub since: Timestamp,
    pub until: Timestamp,
    /// What fell ill together.
    pub services: Vec<ServiceKey>,
    /// For people, with what most of them have in common if that is known.
    pub reason: String,
}

/// `GET /api/v1/policy/explain`: what holds for a service, and who says so.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PolicyExplanation {
    pub project: String,
    pub service: String,
    /// The mode first. `maintenance` is there once for each window.
    pub values: Vec<ExplainedValue>,
    /// Labels that can't be understood and are left out.
    pub wrong_labels: Vec<ExplainedLabel>,
    /// The end of the maintenance that holds at this moment.
    pub maintenance_until: Option<Timestamp>,
    /// Whether the policy in force is the one in the file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<PartStatus>,
}

/// One value of the policy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedValue {
    pub key: String,
    pub value: String,
    /// `label NAME`, `healer.yml line N`, `switch …`, `default`, …
    pub source: String,
    /// For people.
    pub means: String,
}

/// A label that can't be understood.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ExplainedLabel {
    pub name: String,
    /// What is wrong, and what to write.
    pub message: String,
}

/// Whether something that the healer talks to answers, with the reason if not.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PartStatus {
    /// `up`, `down`, or `off` when it was not configured.
    pub state: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// Body of every answer that is not a success.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ApiError {
    pub error: String,
    /// The name of the reason, where something was asked for that is not done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<Refusal>,
}
