//! An incident: one service in trouble, what was seen, what was decided and done, and how it ended.
//! The fields are the columns of `migrations/V1__incidents.sql`, `V2__diagnosis.sql` and `V3__acknowledged.sql`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// How far the healer may go with a service.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Acts.
    Heal,
    /// Watches, and writes down what it would have done. The default.
    Shadow,
    /// Neither.
    Off,
}

/// Where an incident stands. `Closed` is the only final state; [`Outcome`] then says how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IncidentState {
    /// Reported, about to be looked at.
    Suspect,
    /// In shadow mode: watched until the service is well again.
    Watching,
    /// It waits until a service that it needs is well.
    Blocked,
    /// An attempt is due when the delay has passed.
    Backoff,
    /// The intent is on disk and Docker has been asked.
    Restarting,
    /// Restarted; it must become healthy within the time allowed.
    Verifying,
    /// Of the machine itself: something is being given up, to free disk or memory.
    Relieving,
    /// Healthy since the restart; it must stay so for the stabilising window.
    Stabilising,
    /// The budget is spent; a person is needed.
    GaveUp,
    Closed,
}

impl IncidentState {
    pub const ALL: [IncidentState; 10] = [
        IncidentState::Suspect,
        IncidentState::Watching,
        IncidentState::Blocked,
        IncidentState::Backoff,
        IncidentState::Restarting,
        IncidentState::Verifying,
        IncidentState::Relieving,
        IncidentState::Stabilising,
        IncidentState::GaveUp,
        IncidentState::Closed,
    ];

    pub fn is_open(self) -> bool {
        self != IncidentState::Closed
    }
}

/// How an incident ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    /// A restart of ours helped and the service stayed well.
    Recovered,
    /// It became well without us (in shadow mode always so, after giving up as well).
    RecoveredByItself,
    /// Its container is gone.
    Gone,
    /// Somebody stopped or paused it meanwhile.
    StoppedByHuman,
    /// Healing was switched off for it meanwhile.
    SwitchedOff,
}

impl Outcome {
    pub const ALL: [Outcome; 5] =
        [Outcome::Recovered, Outcome::RecoveredByItself, Outcome::Gone, Outcome::StoppedByHuman, Outcome::SwitchedOff];
}

/// How one restart went.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AttemptOutcome {
    /// The container started anew and stayed well for the stabilising window.
    Helped,
    /// It started, but did not become well in time, or fell ill again.
    DidNotHelp,
    /// Docker refused or failed the restart.
    Failed,
    /// Nobody can say what would have come of it: the healer died in between, or somebody stopped the container or the
    /// incident ended before it could be judged. Counted as an attempt.
    Interrupted,
}

impl AttemptOutcome {
    pub const ALL: [AttemptOutcome; 4] =
        [AttemptOutcome::Helped, AttemptOutcome::DidNotHelp, AttemptOutcome::Failed, AttemptOutcome::Interrupted];
}

macro_rules! snake_case_name {
    ($($type:ty),*) => {$(
        impl $type {
            /// The name in logs, metrics and rows: the same as in JSON.
            pub fn as_str(self) -> &'static str {
                NameOf::name_of(self)
            }
        }
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
        impl std::str::FromStr for $type {
            type Err = UnknownName;
            fn from_str(name: &str) -> Result<Self, UnknownName> {
                <$type as NameOf>::EVERY.iter().copied().find(|value| value.as_str() == name).ok_or(UnknownName)
            }
        }
    )*};
}

/// A name that is none of the known ones: written by a newer version, or a damaged row.
#[derive(Debug, PartialEq, Eq)]
pub struct UnknownName;

impl std::fmt::Display for UnknownName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("unknown name")
    }
}

impl std::error::Error for UnknownName {}

pub(crate) trait NameOf: Copy + 'static {
    const EVERY: &'static [Self];
    fn name_of(self) -> &'static str;
}

impl NameOf for Mode {
    const EVERY: &'static [Self] = &[Mode::Heal, Mode::Shadow, Mode::Off];
    fn name_of(self) -> &'static str {
        match self {
            Mode::Heal => "heal",
            Mode::Shadow => "shadow",
            Mode::Off => "off",
        }
    }
}

impl NameOf for IncidentState {
    const EVERY: &'static [Self] = &IncidentState::ALL;
    fn name_of(self) -> &'static str {
        match self {
            IncidentState::Suspect => "suspect",
            IncidentState::Watching => "watching",
            IncidentState::Blocked => "blocked",
            IncidentState::Backoff => "backoff",
            IncidentState::Restarting => "restarting",
            IncidentState::Verifying => "verifying",
            IncidentState::Relieving => "relieving",
            IncidentState::Stabilising => "stabilising",
            IncidentState::GaveUp => "gave_up",
            IncidentState::Closed => "closed",
        }
    }
}

impl NameOf for Outcome {
    const EVERY: &'static [Self] = &Outcome::ALL;
    fn name_of(self) -> &'static str {
        match self {
            Outcome::Recovered => "recovered",
            Outcome::RecoveredByItself => "recovered_by_itself",
            Outcome::Gone => "gone",
            Outcome::StoppedByHuman => "stopped_by_human",
            Outcome::SwitchedOff => "switched_off",
        }
    }
}

impl NameOf for AttemptOutcome {
    const EVERY: &'static [Self] = &AttemptOutcome::ALL;
    fn name_of(self) -> &'static str {
        match self {
            AttemptOutcome::Helped => "helped",
            AttemptOutcome::DidNotHelp => "did_not_help",
            AttemptOutcome::Failed => "failed",
            AttemptOutcome::Interrupted => "interrupted",
        }
    }
}

impl NameOf for EvidenceKind {
    const EVERY: &'static [Self] = &EvidenceKind::ALL;
    fn name_of(self) -> &'static str {
        match self {
            EvidenceKind::Inspect => "inspect",
            EvidenceKind::HealthLog => "health_log",
            EvidenceKind::Logs => "logs",
            EvidenceKind::HostVitals => "host_vitals",
            EvidenceKind::ContainerVitals => "container_vitals",
        }
    }
}

pub(crate) use snake_case_name;

snake_case_name!(Mode, IncidentState, Outcome, AttemptOutcome, EvidenceKind);

/// One row of `incidents`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// UUIDv7.
    pub id: Uuid,
    pub host: String,
    pub project: String,
    pub service: String,
    /// Name of the container that the incident began with.
    pub container_name: String,
    pub image: String,
    /// Name of the alert that was the first prompt to look.
    pub alert: String,
    pub mode: Mode,
    pub state: IncidentState,
    /// Set when, and only when, `state` is `Closed`.
    pub outcome: Option<Outcome>,
    /// What was found when it was looked at first, for people: "unhealthy: 3 failed probes", "exited with code 1".
    pub problem: String,
    /// Why nothing is being done at the moment, if so.
    pub refusal: Option<crate::Refusal>,
    /// What is behind it, as far as the evidence told; the surest there was, and of equals the latest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diagnosis: Option<crate::Diagnosis>,
    pub opened_at: Timestamp,
    /// When an alert for it came in last.
    pub last_alert_at: Timestamp,
    pub closed_at: Option<Timestamp>,
    /// Attempts made so far, and how many of them are known not to have helped.
    pub attempts: u32,
    pub failed_attempts: u32,
    /// Set in `Backoff`: when the next attempt is due.
    pub next_attempt_at: Option<Timestamp>,
    /// When somebody said that they know of it: nobody is told any more, and what was given up stays so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acknowledged_at: Option<Timestamp>,
    /// Grows with each change of this row; a copy with a smaller one never overwrites a greater.
    pub revision: i64,
    /// When this revision was copied to Postgres; `None` while it waits, and always in Postgres itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded_at: Option<Timestamp>,
}

/// One row of `attempts`: the intent is written before Docker is asked, the rest afterwards.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Attempt {
    /// UUIDv7.
    pub id: Uuid,
    pub incident_id: Uuid,
    /// From 1 within the incident.
    pub number: u32,
    /// `restart` or `start` of a service; of the machine itself `ballast`, `prune`, `stop` or `start`.
    pub action: String,
    pub container_id: String,
    /// The container's start time as Docker gave it before the act: another one afterwards proves that it was restarted.
    pub started_at_before: Option<Timestamp>,
    pub started_at_after: Option<Timestamp>,
    pub intended_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub outcome: Option<AttemptOutcome>,
    /// What Docker or the verification said, for people.
    pub detail: Option<String>,
    pub revision: i64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EvidenceKind {
    /// State, exit code, OOM flag, restart count, image, limits; never environment values.
    Inspect,
    /// The last health probes with their output.
    HealthLog,
    /// The last lines of the container's log, secrets redacted.
    Logs,
    /// Memory, load, pressure and disk of the host.
    HostVitals,
    /// What the kernel counted for the container: memory, its peak, kills, CPU; and how its neighbours are.
    ContainerVitals,
}

impl EvidenceKind {
    pub const ALL: [EvidenceKind; 5] = [
        EvidenceKind::Inspect,
        EvidenceKind::HealthLog,
        EvidenceKind::Logs,
        EvidenceKind::HostVitals,
        EvidenceKind::ContainerVitals,
    ];
}

/// One row of `evidence`, never changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// UUIDv7.
    pub id: Uuid,
    pub incident_id: Uuid,
    pub attempt_id: Option<Uuid>,
    pub kind: EvidenceKind,
    pub taken_at: Timestamp,
    pub body: serde_json::Value,
}

/// One row of `incident_events`, never changed: the story of an incident line by line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IncidentEvent {
    /// UUIDv7.
    pub id: Uuid,
    pub incident_id: Uuid,
    pub at: Timestamp,
    /// `opened`, `alert`, `refused`, `blocked`, `unblocked`, `intent`, `restarted`, `verified`, `attempt_failed`, `told`, `gave_up`, `heal_now`,
    /// `acknowledged`, `another_problem`, `would_restart`, `restarted_elsewhere`, `would_have_helped`, `closed`, …
    pub kind: String,
    /// For people.
    pub detail: String,
}

#[cfg(test)]
pub(crate) mod tests {
    use std::str::FromStr;

    use super::*;

    pub(crate) fn names_agree<T: NameOf + Serialize + FromStr + PartialEq + std::fmt::Debug>() {
        for &value in T::EVERY {
            let name = value.name_of();
            assert_eq!(serde_json::to_string(&value).unwrap(), format!("\"{name}\""));
            assert_eq!(name.parse::<T>().ok(), Some(value));
        }
    }

    #[test]
    fn names_are_the_same_in_json_and_in_text() {
        names_agree::<Mode>();
        names_agree::<IncidentState>();
        names_agree::<Outcome>();
        names_agree::<AttemptOutcome>();
        names_agree::<EvidenceKind>();
        assert_eq!("nonsense".parse::<Mode>(), Err(UnknownName));
    }
}
