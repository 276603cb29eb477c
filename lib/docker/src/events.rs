//! The events of containers that are asked for, and how many there were.

/// Probes of health checks (`exec_*`), which are most of what Docker tells, are not among them.
pub(crate) const EVENTS: [&str; 13] = [
    "create",
    "start",
    "kill",
    "die",
    "stop",
    "restart",
    "pause",
    "unpause",
    "oom",
    "destroy",
    "rename",
    "update",
    "health_status",
];

/// Events by action. What an engine tells without being asked is one action, so that their number is bounded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventCounts([u64; EVENTS.len() + 1]);

impl EventCounts {
    /// `action` is the event's, which may go on after a colon: `health_status: healthy`.
    pub fn count(&mut self, action: &str) {
        let word = action.split(':').next().unwrap_or_default();
        let at = EVENTS.iter().position(|known| *known == word).unwrap_or(EVENTS.len());
        self.0[at] += 1;
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'static str, u64)> {
        EVENTS.into_iter().chain(["other"]).zip(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_counted_and_unknown_ones_together() {
        let mut counts = EventCounts::default();
        for action in ["die", "health_status: healthy", "health_status: unhealthy", "die", "exec_die", "", "Die"] {
            counts.count(action);
        }
        let counted: Vec<_> = counts.iter().filter(|(_, count)| *count > 0).collect();
        assert_eq!(counted, [("die", 2), ("health_status", 2), ("other", 3)]);
        assert_eq!(counts.iter().count(), 14);
    }
}
