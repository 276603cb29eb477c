//! When Alertmanager does not pass the healer's own alerts on, the healer takes them as the prompts themselves.
//!
//! The death of the messenger must not end healing. What the healer sees ill ([`crate::sight`]) is posted to Alertmanager and
//! should come back as a prompt within milliseconds. When none has come after [`PATIENCE`], silences are asked for, and
//! where none covers the service the prompt goes into the journal as if it had come in. Everything after that is as always.
//! A silence that Alertmanager held when it was last asked counts until its end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::Timestamp;
use nexus_model::{Refusal, ServiceKey};
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use crate::{
    alertmanager::{Alertmanager, Labels},
    evidence::chain,
    journal::{Change, Journal, Prompt},
    metrics::Metrics,
    sight::{self, Sight},
    tell,
};

/// What an incident names as its alert when the healer had to prompt itself.
pub const ALERT: &str = "HealerAlone";

/// How long Alertmanager has to bring a prompt. On a machine at its limit, which is when services fall ill, what takes
/// milliseconds may take seconds; and the rule's own way takes up to 20 anyway.
pub const PATIENCE: Duration = Duration::from_secs(10);
/// After that, when a silence holds it back or the prompt was written and not looked into yet.
const ASK_AGAIN: Duration = Duration::from_secs(60);
/// After the journal did not take the prompt.
const WRITE_AGAIN: Duration = Duration::from_secs(5);

/// What the healer sees ill now.
pub type Sights = Arc<Vec<Sight>>;

pub struct Alone {
    pub host: String,
    pub alertmanager: Alertmanager,
    pub journal: Journal,
    pub sights: watch::Receiver<Sights>,
    /// Wakes the worker.
    pub prompts: Arc<Notify>,
    pub metrics: Arc<Metrics>,
}

/// The services for which a prompt is waited for. Pure.
#[derive(Debug, Default)]
struct Waiting(BTreeMap<ServiceKey, Wait>);

#[derive(Clone, Copy, Debug)]
struct Wait {
    due: Instant,
    /// A silence was in the way last time: told once.
    silenced: bool,
}

impl Waiting {
    fn follow(&mut self, sights: &[Sight], now: Instant) {
        let waits = |key: &ServiceKey| sights.iter().any(|sight| sight.key == *key && !sight.prompted);
        self.0.retain(|key, _| waits(key));
        for sight in sights.iter().filter(|sight| !sight.prompted) {
            self.0.entry(sight.key.clone()).or_insert(Wait { due: now + PATIENCE, silenced: false });
        }
    }

    fn due(&self, now: Instant) -> Vec<ServiceKey> {
        self.0.iter().filter(|(_, wait)| wait.due <= now).map(|(key, _)| key.clone()).collect()
    }

    fn next(&self) -> Option<Instant> {
        self.0.values().map(|wait| wait.due).min()
    }

    fn again(&mut self, key: &ServiceKey, due: Instant, silenced: bool) {
        if let Some(wait) = self.0.get_mut(key) {
            *wait = Wait { due, silenced };
        }
    }
}

impl Alone {
    /// Runs until the worker, who says what is seen, is gone.
    pub async fn run(mut self) {
        let mut waiting = Waiting::default();
        loop {
            let sights = Sights::clone(&self.sights.borrow_and_update());
            let now = Instant::now();
            waiting.follow(&sights, now);
            let due = waiting.due(now);
            if !due.is_empty() {
                self.prompt(&due, &sights, &mut waiting).await;
            }
            let next = waiting.next();
            let pause = async {
                match next {
                    Some(next) => tokio::time::sleep_until(next).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                changed = self.sights.changed() => if changed.is_err() { return },
                () = pause => (),
            }
        }
    }

    /// Takes what is seen of these services as the prompt, unless a silence covers it.
    async fn prompt(&self, due: &[ServiceKey], sights: &[Sight], waiting: &mut Waiting) {
        let asked = self.alertmanager.read_silences().await;
        let (cause, reason) = match &asked {
            Ok(()) => ("not_passed_on", "it took the alert and did not pass it on".to_owned()),
            Err(error) => ("unreachable", chain(error)),
        };
        let mut prompts = Vec::new();
        for key in due {
            let of_service = || sights.iter().filter(|sight| sight.key == *key && !sight.prompted);
            let (host, project, service) = (&self.host, &key.project, &key.service);
            if of_service().all(|sight| self.is_silenced(sight)) {
                if waiting.0.get(key).is_some_and(|wait| !wait.silenced) {
                    self.metrics.refused(Refusal::Silenced);
                    tracing::info!(host, project, service, reason = %Refusal::Silenced, "no incident");
                }
                waiting.again(key, Instant::now() + ASK_AGAIN, true);
                continue;
            }
            tracing::warn!(
                host,
                project,
                service,
                reason,
                "alertmanager brought no prompt within {} s: the healer takes its own alert as the prompt",
                PATIENCE.as_secs()
            );
            prompts.push(key.clone());
        }
        if prompts.is_empty() {
            return;
        }
        let received_at = Timestamp::now();
        let change = |key: &ServiceKey| {
            let (project, service) = (key.project.clone(), key.service.clone());
            Change::Prompt(Prompt { project, service, alert: ALERT.to_owned(), received_at })
        };
        match self.journal.commit_or_refuse(prompts.iter().map(change).collect()).await {
            Ok(()) => {
                self.metrics.prompted_alone(cause, prompts.len() as u64);
                self.prompts.notify_one();
                for key in &prompts {
                    waiting.again(key, Instant::now() + ASK_AGAIN, false);
                }
            }
            Err(error) => {
                tracing::error!(reason = %chain(&error), "the healer's own prompt can't be kept; it is tried again");
                for key in &prompts {
                    waiting.again(key, Instant::now() + WRITE_AGAIN, false);
                }
            }
        }
    }

    /// Whether a silence covers the healer's alert or the rule's.
    fn is_silenced(&self, sight: &Sight) -> bool {
        let told: tell::Alert = sight::alert(sight, &self.host);
        let labels = |name: &'static str| -> Labels<'_> {
            let own = told.labels.iter().map(|(label, value)| (*label, value.as_str()));
            own.chain([("alertname", name)]).collect()
        };
        [sight.kind.alert(), sight.kind.rule()].iter().any(|name| self.alertmanager.is_silenced(&labels(name)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{sight::Kind, testing::at};

    fn sight(service: &str, prompted: bool) -> Sight {
        let key = ServiceKey::new("shop", service);
        Sight { key, container: format!("shop-{service}-1"), kind: Kind::Unhealthy, since: at(0).wall, prompted }
    }

    #[tokio::test(start_paused = true)]
    async fn only_what_stays_unprompted_becomes_due() {
        let mut waiting = Waiting::default();
        let begin = Instant::now();
        let later = |seconds: u64| begin + Duration::from_secs(seconds);
        let due = |waiting: &Waiting, seconds: u64| -> Vec<String> {
            waiting.due(later(seconds)).into_iter().map(|key| key.service).collect()
        };
        assert_eq!(waiting.next(), None);
        waiting.follow(&[sight("api", true), sight("db", false), sight("web", false)], begin);
        assert_eq!((due(&waiting, 9), waiting.next()), (vec![], Some(later(10))));
        assert_eq!(due(&waiting, 10), ["db", "web"]);
        // One is prompted meanwhile, one falls ill later, one stays.
        waiting.follow(&[sight("db", true), sight("job", false), sight("web", false)], later(4));
        assert_eq!(due(&waiting, 10), ["web"]);
        assert_eq!(due(&waiting, 14), ["job", "web"]);
        waiting.again(&ServiceKey::new("shop", "web"), later(70), true);
        assert_eq!(due(&waiting, 14), ["job"]);
        // Well, and ill again: waited for from the beginning.
        waiting.follow(&[], later(20));
        assert_eq!(waiting.next(), None);
        waiting.follow(&[sight("web", false)], later(21));
        assert_eq!((due(&waiting, 30), due(&waiting, 31)), (vec![], vec!["web".to_owned()]));
    }
}
