//! Why nothing was done. Every "no" of the healer has one of these names; the same name is the log field, the metric
//! label and the database value.

use serde::{Deserialize, Serialize};

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Docker says that the service is well: the alert is stale.
    AlreadyWell,
    /// Healing is not switched on for the service: an act is only written down as one that would have been made.
    ShadowMode,
    /// Label, policy or switch says that the service is none of our business.
    OptedOut,
    /// A silence in Alertmanager covers its alerts: its owner does not want it healed now.
    Silenced,
    /// A database image without an explicit yes for this very service.
    ProtectedImage,
    /// Somebody asked Docker to stop it.
    StoppedByHuman,
    /// It was stopped while nobody watched, so it cannot be known who did it.
    StoppedByUnknown,
    /// Nexus has stopped it since disk or memory of the machine was short, and starts it again when there is room.
    StoppedForRoom,
    Paused,
    /// A container of `docker compose run`.
    OneOff,
    /// Part of the Nexus stack itself.
    OwnStack,
    /// Not created by Docker Compose.
    NotCompose,
    /// Its restart policy does not expect it to run, or it is a job that others wait for the end of.
    NotExpectedToRun,
    /// No such container any more.
    Gone,
    /// Docker's own restart policy is at work on it.
    DockerRestarting,
    /// It is within the start period of its health check, or too young to be judged.
    Starting,
    /// It was created long ago and never started, and is not ours to start.
    NeverStarted,
    /// A service that it needs is not well: a restart would not help before that one is.
    DependencyDown,
    /// A service that it needs is being started, or restarted by us.
    DependencyStarting,
    /// Docker still calls a service that it needs healthy, but its last probe failed, or was before the trouble began.
    DependencyDoubtful,
    /// What it needs has become well again just now: it is given time to follow by itself.
    DependencyRecovered,
    /// It lives in the network of a container that is gone: only creating it anew helps.
    NetworkGone,
    /// The backoff after a failed attempt has not passed.
    CoolingDown,
    /// The restart is being judged.
    Verifying,
    /// The incident's attempts are spent.
    BudgetSpent,
    /// The policy names the service as one that is never touched.
    ProtectedService,
    /// A maintenance window of the policy holds: its owner is at work on it.
    MaintenanceWindow,
    /// Somebody has paused healing for the service, its project or everything, for a while.
    HealingPaused,
    /// The restarts that one day allows for the container are spent.
    DayBudgetSpent,
    /// Many services failed together: the trouble is the machine's, and restarts would add to it.
    HostHold,
    /// What would help is a remedy that the policy does not allow.
    RemedyNotAllowed,
    /// Another restart runs, or the limit of restarts for the whole host is reached.
    HostLimit,
    /// Docker does not answer, so the facts are unknown.
    DockerUnavailable,
    /// The intent could not be made durable, so nothing may be done.
    JournalUnavailable,
}

impl Refusal {
    /// All refusals, for documentation and for exporting each metric label from the start.
    pub const ALL: [Refusal; 34] = [
        Refusal::AlreadyWell,
        Refusal::ShadowMode,
        Refusal::OptedOut,
        Refusal::Silenced,
        Refusal::ProtectedImage,
        Refusal::StoppedByHuman,
        Refusal::StoppedByUnknown,
        Refusal::StoppedForRoom,
        Refusal::Paused,
        Refusal::OneOff,
        Refusal::OwnStack,
        Refusal::NotCompose,
        Refusal::NotExpectedToRun,
        Refusal::Gone,
        Refusal::DockerRestarting,
        Refusal::Starting,
        Refusal::NeverStarted,
        Refusal::DependencyDown,
        Refusal::DependencyStarting,
        Refusal::DependencyDoubtful,
        Refusal::DependencyRecovered,
        Refusal::NetworkGone,
        Refusal::CoolingDown,
        Refusal::Verifying,
        Refusal::BudgetSpent,
        Refusal::ProtectedService,
        Refusal::MaintenanceWindow,
        Refusal::HealingPaused,
        Refusal::DayBudgetSpent,
        Refusal::HostHold,
        Refusal::RemedyNotAllowed,
        Refusal::HostLimit,
        Refusal::DockerUnavailable,
        Refusal::JournalUnavailable,
    ];

    /// The name in logs, metrics and rows: the same as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Refusal::AlreadyWell => "already_well",
            Refusal::ShadowMode => "shadow_mode",
            Refusal::OptedOut => "opted_out",
            Refusal::Silenced => "silenced",
            Refusal::ProtectedImage => "protected_image",
            Refusal::StoppedByHuman => "stopped_by_human",
            Refusal::StoppedByUnknown => "stopped_by_unknown",
            Refusal::StoppedForRoom => "stopped_for_room",
            Refusal::Paused => "paused",
            Refusal::OneOff => "one_off",
            Refusal::OwnStack => "own_stack",
            Refusal::NotCompose => "not_compose",
            Refusal::NotExpectedToRun => "not_expected_to_run",
            Refusal::Gone => "gone",
            Refusal::DockerRestarting => "docker_restarting",
            Refusal::Starting => "starting",
            Refusal::NeverStarted => "never_started",
            Refusal::DependencyDown => "dependency_down",
            Refusal::DependencyStarting => "dependency_starting",
            Refusal::DependencyDoubtful => "dependency_doubtful",
            Refusal::DependencyRecovered => "dependency_recovered",
            Refusal::NetworkGone => "network_gone",
            Refusal::CoolingDown => "cooling_down",
            Refusal::Verifying => "verifying",
            Refusal::BudgetSpent => "budget_spent",
            Refusal::ProtectedService => "protected_service",
            Refusal::MaintenanceWindow => "maintenance_window",
            Refusal::HealingPaused => "healing_paused",
            Refusal::DayBudgetSpent => "day_budget_spent",
            Refusal::HostHold => "host_hold",
            Refusal::RemedyNotAllowed => "remedy_not_allowed",
            Refusal::HostLimit => "host_limit",
            Refusal::DockerUnavailable => "docker_unavailable",
            Refusal::JournalUnavailable => "journal_unavailable",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_the_same_in_json_and_in_text() {
        for refusal in Refusal::ALL {
            assert_eq!(serde_json::to_string(&refusal).unwrap(), format!("\"{refusal}\""));
        }
    }
}
