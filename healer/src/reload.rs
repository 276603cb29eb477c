//! The policy to begin with, and what is changed in it while the healer runs. Nothing else is touched by that: incidents, budgets
//! and switches stay.
//!
//! The file is read every second and compared with what is in force; notifications of the kernel don't come through every kind of
//! mount. A policy that can't be used changes nothing: the one before stays in force, and log, metric, status and an alert say so.
//! That holds over a start as well, since a machine that boots with a mistake in the file would be left without a healer, and
//! nobody there to say so: the journal has the policy that was in force last. Only a healer that has never had one does not start.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use jiff::Timestamp;
use nexus_model::api::PartStatus;
use nexus_policy::{Policy, PolicyError, policy::read_text};
use serde::{Deserialize, Serialize};
use tokio::{
    signal::unix::{Signal, SignalKind, signal},
    sync::watch,
};

use crate::{
    evidence::chain,
    journal::{Change, Journal, Memo, memo_body},
    metrics::Metrics,
};

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
    /// `seen` is what was judged at the start.
    fn new(file: String, seen: Seen) -> Self {
        Self { file, judged: seen.clone(), last: seen }
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

/// The policy that was in force last, as it is noted for the next start.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Noted {
    text: String,
    read_at: Timestamp,
}

/// What the healer begins with.
pub struct Begin {
    pub policy: Policy,
    read_at: Timestamp,
    /// Why it is not the one in the file.
    unusable: Option<String>,
    seen: Seen,
}

/// The policy in the file, or where that can't be used the one that was in force last.
pub async fn begin(file: &Path, journal: &Journal) -> Result<Begin, PolicyError> {
    let name = file.display().to_string();
    let (seen, read) = match read_text(file) {
        Ok(text) => (Ok(text.clone()), Policy::parse(&name, &text).map(|policy| (policy, text))),
        Err(error) => (Err(chain(&error)), Err(error)),
    };
    let noted = match journal.read(|store| store.memo::<Noted>(Memo::Policy)).await {
        Ok(noted) => noted,
        Err(error) => {
            tracing::warn!(reason = %chain(&error), "reading which policy was in force last");
            None
        }
    };
    match read {
        Ok((policy, text)) => {
            let read_at = Timestamp::now();
            if noted.is_none_or(|noted| noted.text != text) {
                note(journal, text, read_at).await;
            }
            Ok(Begin { policy, read_at, unusable: None, seen })
        }
        Err(error) => {
            // What another version of the healer took for a policy may be none for this one.
            let usable = noted.and_then(|noted| Some((Policy::parse(&name, &noted.text).ok()?, noted.read_at)));
            let Some((policy, read_at)) = usable else { return Err(error) };
            let reason = chain(&error);
            tracing::error!(
                reason,
                "the policy can't be used: the one that was in force last, read {read_at}, is again"
            );
            Ok(Begin { policy, read_at, unusable: Some(reason), seen })
        }
    }
}

/// Healing does not depend on it.
async fn note(journal: &Journal, text: String, read_at: Timestamp) {
    let noted = match memo_body(&Noted { text, read_at }) {
        Ok(body) => journal.commit(vec![Change::Memo { memo: Memo::Policy, body: Some(body) }]).await,
        Err(error) => Err(error),
    };
    if let Err(error) = noted {
        tracing::warn!(reason = %chain(&error), "the policy could not be noted for the next start");
    }
}

pub struct Reload {
    file: PathBuf,
    journal: Journal,
    looks: Looks,
    policy: watch::Sender<Arc<Policy>>,
    status: watch::Sender<PartStatus>,
    metrics: Arc<Metrics>,
}

/// The policy in the file is in force.
fn in_force() -> PartStatus {
    PartStatus { state: "up".to_owned(), reason: None }
}

/// Or why it is not.
fn not_in_force(reason: String) -> PartStatus {
    PartStatus { state: "down".to_owned(), reason: Some(reason) }
}

impl Reload {
    /// Gives the policy to begin with, and what is told of it.
    pub fn new(
        file: PathBuf,
        begin: Begin,
        journal: Journal,
        metrics: Arc<Metrics>,
    ) -> (Self, watch::Receiver<Arc<Policy>>, watch::Receiver<PartStatus>) {
        let Begin { policy, read_at, unusable, seen } = begin;
        let looks = Looks::new(file.display().to_string(), seen);
        metrics.policy_read(true, read_at);
        if unusable.is_some() {
            metrics.policy_read(false, read_at);
        }
        let (status, status_seen) = watch::channel(unusable.map_or_else(in_force, not_in_force));
        let (policy, policy_seen) = watch::channel(Arc::new(policy));
        (Self { file, journal, looks, policy, status, metrics }, policy_seen, status_seen)
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
                    let now = Timestamp::now();
                    self.metrics.policy_read(true, now);
                    if let Ok(text) = &self.looks.judged {
                        note(&self.journal, text.clone(), now).await;
                    }
                }
                Finding::Unusable(reason) => {
                    tracing::error!(reason, "the policy can't be used: the one of before stays in force");
                    self.status.send_replace(not_in_force(reason));
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
        Looks::new("healer.yml".into(), Ok("default: shadow\n".into()))
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

    #[tokio::test]
    async fn without_a_policy_of_before_a_broken_one_is_told_and_nothing_starts() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("healer.yml");
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        let begin_with = async |text: &str| {
            std::fs::write(&file, text).unwrap();
            begin(&file, &journal).await
        };
        let broken = "default: maybe\n";
        let error = begin_with(broken).await.err().unwrap().to_string();
        assert!(error.contains("line 1") && error.contains("heal, shadow or off"), "{error}");
        let first = begin_with("default: heal\n").await.unwrap();
        assert_eq!((first.policy.default, first.unusable), (Mode::Heal, None));
        let second = begin_with(broken).await.unwrap();
        assert_eq!((second.policy.default, second.read_at), (Mode::Heal, first.read_at));
        assert!(second.unusable.is_some_and(|reason| reason.contains("heal, shadow or off")));
        // The file that was judged is not told again, and a mended one counts.
        let mut looks = Looks::new("healer.yml".into(), second.seen);
        assert_eq!(looks.look(text(broken), true), Finding::Nothing);
        assert!(matches!(looks.look(text("default: heal\n"), true), Finding::Changed(_)));
        // What is noted and no policy for this version is as good as nothing.
        note(&journal, "nonsense: 1\n".into(), Timestamp::UNIX_EPOCH).await;
        assert!(begin_with(broken).await.is_err());
        thread.close().await;
    }
}
