//! Takes up a changed policy while the healer runs. Nothing else is touched by it: incidents, budgets and switches stay.
//!
//! The file is read every second and compared with what is in force; notifications of the kernel don't come through every kind of
//! mount. A policy that can't be used changes nothing: the one before stays in force, and log, metric, status and an alert say so.

use std::{path::PathBuf, sync::Arc, time::Duration};

use jiff::Timestamp;
use nexus_model::api::PartStatus;
use nexus_policy::{Policy, policy::read_text};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{evidence::chain, metrics::Metrics};

/// How soon a change is seen. A policy is one page, and the kernel has it in memory.
const LOOKS_EVERY: Duration = Duration::from_secs(1);

/// What the file holds, or why it can't be read.
type Seen = Result<String, String>;

/// What to do after a look at the file.
#[derive(Debug, PartialEq)]
enum Finding {
    Nothing,
    /// It has changed since the last look, and may be half written.
    Unsettled,
    Changed(Box<Policy>),
    Unusable(String),
}

/// What was seen of the file so far. Pure: looks are handed in.
#[derive(Debug)]
struct Looks {
    file: String,
    judged: Seen,
    last: Seen,
}

impl Looks {
    fn new(file: String, in_force: String) -> Self {
        Self { file, judged: Ok(in_force.clone()), last: Ok(in_force) }
    }

    /// An editor writes a file in several steps, so what is new counts only when two looks agree, or when somebody says that it is
    /// done (`asked`).
    fn look(&mut self, seen: Seen, asked: bool) -> Finding {
        let is_settled = asked || seen == self.last;
        self.last = seen;
        if self.last == self.judged {
            return Finding::Nothing;
        }
        if !is_settled {
            return Finding::Unsettled;
        }
        self.judged = self.last.clone();
        match &self.judged {
            Ok(text) => match Policy::parse(&self.file, text) {
                Ok(policy) => Finding::Changed(Box::new(policy)),
                Err(error) => Finding::Unusable(error.to_string()),
            },
            Err(reason) => Finding::Unusable(reason.clone()),
        }
    }
}

pub struct Reload {
    file: PathBuf,
    looks: Looks,
    policy: watch::Sender<Arc<Policy>>,
    status: watch::Sender<PartStatus>,
    metrics: Arc<Metrics>,
}

/// The policy is in force, or why it is not the one in the file.
fn in_force() -> PartStatus {
    PartStatus { state: "up".to_owned(), reason: None }
}

impl Reload {
    /// `text` is what the policy in force was read from.
    pub fn new(
        file: PathBuf,
        text: String,
        policy: watch::Sender<Arc<Policy>>,
        metrics: Arc<Metrics>,
    ) -> (Self, watch::Receiver<PartStatus>) {
        let looks = Looks::new(file.display().to_string(), text);
        let (status, seen) = watch::channel(in_force());
        metrics.policy_read(true, Timestamp::now());
        (Self { file, looks, policy, status, metrics }, seen)
    }

    /// Runs for ever.
    pub async fn run(mut self) {
        let mut hangup = match signal(SignalKind::hangup()) {
            Ok(hangup) => Some(hangup),
            Err(error) => {
                tracing::warn!(reason = %chain(&error), "SIGHUP can't be listened for; the policy is looked at all the same");
                None
            }
        };
        loop {
            let asked = tokio::select! {
                () = tokio::time::sleep(LOOKS_EVERY) => false,
                () = asked_for(&mut hangup) => true,
            };
            let file = self.file.clone();
            // A disk that hangs must not hold up the rest.
            let seen = tokio::task::spawn_blocking(move || read_text(&file).map_err(|error| chain(&error))).await;
            match self.looks.look(seen.unwrap_or_else(|error| Err(error.to_string())), asked) {
                Finding::Nothing if asked => tracing::info!("asked to read the policy again: it has not changed"),
                Finding::Nothing | Finding::Unsettled => (),
                Finding::Changed(policy) => {
                    tracing::info!("the policy {} has changed and is in force", self.file.display());
                    self.policy.send_replace(Arc::new(*policy));
                    self.status.send_replace(in_force());
                    self.metrics.policy_read(true, Timestamp::now());
                }
                Finding::Unusable(reason) => {
                    tracing::error!(reason, "the policy can't be used: the one of before stays in force");
                    self.status.send_replace(PartStatus { state: "down".to_owned(), reason: Some(reason) });
                    self.metrics.policy_read(false, Timestamp::now());
                }
            }
        }
    }
}

/// Completes when somebody sends SIGHUP.
async fn asked_for(hangup: &mut Option<Signal>) {
    let heard = match hangup {
        Some(hangup) => hangup.recv().await,
        None => None,
    };
    if heard.is_none() {
        std::future::pending().await
    }
}

#[cfg(test)]
mod tests {
    use nexus_model::Mode;

    use super::*;

    fn looks() -> Looks {
        Looks::new("healer.yml".into(), "default: shadow\n".into())
    }

    fn text(text: &str) -> Seen {
        Ok(text.to_owned())
    }

    #[test]
    fn a_change_counts_once_two_looks_agree() {
        let mut looks = looks();
        assert_eq!(looks.look(text("default: shadow\n"), false), Finding::Nothing);
        assert_eq!(looks.look(text("default: he"), false), Finding::Unsettled);
        assert_eq!(looks.look(text("default: heal\n"), false), Finding::Unsettled);
        let Finding::Changed(policy) = looks.look(text("default: heal\n"), false) else { panic!("{looks:?}") };
        assert_eq!(policy.default, Mode::Heal);
        assert_eq!(looks.look(text("default: heal\n"), false), Finding::Nothing);
    }

    #[test]
    fn who_asks_is_not_kept_waiting() {
        let mut looks = looks();
        assert!(matches!(looks.look(text("default: off\n"), true), Finding::Changed(_)));
        assert_eq!(looks.look(text("default: off\n"), true), Finding::Nothing);
    }

    #[test]
    fn what_cannot_be_used_is_told_once_and_mended_by_the_text_of_before() {
        let mut looks = looks();
        let broken = || text("default: maybe\n");
        assert_eq!(looks.look(broken(), false), Finding::Unsettled);
        let Finding::Unusable(reason) = looks.look(broken(), false) else { panic!("{looks:?}") };
        assert!(reason.contains("line 1") && reason.contains("heal, shadow or off"), "{reason}");
        assert_eq!(looks.look(broken(), false), Finding::Nothing);
        looks.look(Err("gone".into()), false);
        assert_eq!(looks.look(Err("gone".into()), false), Finding::Unusable("gone".into()));
        // An editor's moment without a file is nothing.
        looks.look(text("default: shadow\n"), false);
        assert!(matches!(looks.look(text("default: shadow\n"), false), Finding::Changed(_)));
        assert_eq!(looks.look(Err("gone".into()), false), Finding::Unsettled);
        assert_eq!(looks.look(text("default: shadow\n"), false), Finding::Nothing);
    }
}
