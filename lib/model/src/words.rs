//! What names mean, in words for people: the same on the command line and in the healer's answers.

use crate::Refusal;

impl Refusal {
    /// Why nothing is (or would be) done.
    pub fn words(self) -> &'static str {
        match self {
            Refusal::AlreadyWell => "it is well",
            Refusal::ShadowMode => "watched only: healing is not switched on",
            Refusal::OptedOut => "healing is switched off for it",
            Refusal::Silenced => "its alerts are silenced in Alertmanager",
            Refusal::ProtectedImage => "a database: needs its own yes",
            Refusal::StoppedByHuman => "somebody stopped it",
            Refusal::StoppedByUnknown => "stopped while nobody watched",
            Refusal::StoppedForRoom => "stopped by Nexus for want of memory or disk: started again when there is room",
            Refusal::Paused => "paused",
            Refusal::OneOff => "a one-off container",
            Refusal::OwnStack => "part of Nexus itself",
            Refusal::NotCompose => "not started by Docker Compose",
            Refusal::NotExpectedToRun => {
                "its restart policy does not expect it to run, or others wait for the end of its work"
            }
            Refusal::Gone => "its container is gone",
            Refusal::DockerRestarting => "Docker is restarting it",
            Refusal::Starting => "still starting",
            Refusal::NeverStarted => "created, and never started",
            Refusal::DependencyDown => "waiting for a service that it needs, which is not well",
            Refusal::DependencyStarting => "waiting for a service that it needs, which is starting",
            Refusal::DependencyDoubtful => "looking whether the services that it needs are well",
            Refusal::DependencyRecovered => "what it needs is well again: giving it time to follow",
            Refusal::NetworkGone => "its network is gone: a person must create it anew",
            Refusal::CoolingDown => "waiting before the next attempt",
            Refusal::Verifying => "judging the last restart",
            Refusal::BudgetSpent => "all attempts are spent",
            Refusal::ProtectedService => "protected by the policy: never touched",
            Refusal::MaintenanceWindow => "in a maintenance window",
            Refusal::HealingPaused => "healing is paused for it",
            Refusal::DayBudgetSpent => "the day's restarts are spent",
            Refusal::HostHold => "many services failed together: waiting for the machine",
            Refusal::RemedyNotAllowed => "the policy does not allow what would help",
            Refusal::HostLimit => "too many restarts on this machine just now",
            Refusal::DockerUnavailable => "Docker does not answer",
            Refusal::JournalUnavailable => "the journal can't be written",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_reasons_read_the_same() {
        let mut all: Vec<&str> = Refusal::ALL.iter().map(|refusal| refusal.words()).collect();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), Refusal::ALL.len());
    }
}
