//! Sends it: looks every few seconds, sends while Telegram takes it, waits as long as Telegram asks.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use nexus_model::api::PartStatus;
use nexus_policy::Policy;
use nexus_telegram::Bot;
use tokio::{sync::watch, time::Instant};

use super::{Links, Memory, Moment, PATIENCE, Taken, html};
use crate::{
    alertmanager::{Alertmanager, Labels},
    evidence::chain,
    journal::{Change, Journal, JournalError, Memo, memo_body},
    metrics::Metrics,
    notify,
    tell::Alert,
};

/// How often it is looked; what comes up in between is one message.
const LOOK: Duration = Duration::from_secs(5);
/// For the journal, which a disk that hangs holds up.
const JOURNAL_DEADLINE: Duration = Duration::from_secs(2);
/// After a failed try: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(300);
/// Telegram may ask for more patience than this; a day's worth would be a mistake.
const LONGEST_WAIT: Duration = Duration::from_secs(3600);

pub struct Direct {
    pub host: String,
    pub bot: Bot,
    pub links: Links,
    /// Whose clock the times in a message are of.
    pub policy: watch::Receiver<Arc<Policy>>,
    pub alertmanager: Alertmanager,
    pub journal: Journal,
    /// The healer's own alerts.
    pub told: watch::Receiver<notify::Told>,
    /// Whether Alertmanager answers.
    pub status: watch::Receiver<PartStatus>,
    /// What Alertmanager has told.
    pub taken: watch::Receiver<Arc<Taken>>,
    pub metrics: Arc<Metrics>,
    /// What was told directly, for the one who posts to Alertmanager.
    pub memory: watch::Sender<Arc<Memory>>,
}

/// Since when something has been so.
#[derive(Default)]
struct Since(Option<Timestamp>);

impl Since {
    fn follow(&mut self, holds: bool, now: Timestamp) -> Option<Timestamp> {
        // A clock that was set back would make it begin in the future.
        self.0 = holds.then(|| self.0.map_or(now, |since| since.min(now)));
        self.0
    }
}

/// What was noted before the healer was started.
pub async fn remembered(journal: &Journal) -> Result<Memory, JournalError> {
    Ok(journal.read(|store| store.memo(Memo::Told)).await?.unwrap_or_default())
}

/// What lasts between two looks.
#[derive(Default)]
struct Looks {
    began: Option<Instant>,
    away: Since,
    journal: Since,
    docker: Since,
    /// Telegram is left alone until then.
    not_before: Option<Instant>,
    retry: Option<Duration>,
}

impl Direct {
    /// Runs until the worker, who says what is true, is gone.
    pub async fn run(mut self) {
        let mut looks = Looks::default();
        loop {
            tokio::select! {
                changed = self.told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(LOOK) => (),
            }
            self.look(&mut looks, Timestamp::now(), Instant::now()).await;
        }
    }

    async fn look(&mut self, looks: &mut Looks, now: Timestamp, instant: Instant) {
        let alerts = notify::Told::clone(&self.told.borrow_and_update());
        let taken = Arc::clone(&self.taken.borrow());
        let began = *looks.began.get_or_insert(instant);
        // Not by the metric, which is only as new as the last scrape.
        let writable = tokio::time::timeout(JOURNAL_DEADLINE, self.journal.probe()).await.is_ok_and(|it| it.is_ok());
        let moment = Moment {
            now,
            host: &self.host,
            away_since: looks.away.follow(self.status.borrow().state == "down", now),
            journal_since: looks.journal.follow(!writable, now),
            docker_since: looks.docker.follow(self.metrics.docker_up.get() == 0, now),
            alerts: &alerts,
            taken: &taken,
            is_settled: instant.duration_since(began) >= PATIENCE.unsigned_abs(),
        };
        if looks.not_before.is_some_and(|not_before| instant < not_before) {
            return;
        }
        let mut memory = Memory::clone(&self.memory.borrow());
        let news = memory.news(&moment, |alert| self.is_silenced(alert));
        if news.begun.is_empty() && news.ended.is_empty() {
            return;
        }
        let zone = self.policy.borrow().zone();
        match self.bot.send_once(&html(&news, &self.host, &self.links, &zone)).await {
            Ok(()) => {
                looks.retry = None;
                self.metrics.told_directly("sent");
                tracing::warn!(begun = news.begun.len(), ended = news.ended.len(), "told telegram directly");
                memory.told(&news, now);
                self.remember(memory).await;
            }
            Err(error) => {
                self.metrics.told_directly("failed");
                tracing::warn!(reason = %chain(&error), "telegram can't be told directly; it is tried again");
                let retry = looks.retry.unwrap_or(RETRY_FIRST);
                // What will come to the same is tried again too, since token and chat may be put right; rarely.
                let wait = error.again_after(retry).unwrap_or(RETRY_LAST).min(LONGEST_WAIT);
                looks.not_before = Some(instant + wait);
                looks.retry = Some((retry * 2).min(RETRY_LAST));
            }
        }
    }

    async fn remember(&self, memory: Memory) {
        let body = memo_body(&memory);
        self.memory.send_replace(Arc::new(memory));
        let noted = match body {
            Ok(body) => self.journal.commit(vec![Change::Memo { memo: Memo::Told, body: Some(body) }]).await,
            Err(error) => Err(error),
        };
        if let Err(error) = noted {
            // A restart of the healer would tell it once more.
            tracing::warn!(reason = %chain(&error), "what was told directly can't be noted");
        }
    }

    /// By what Alertmanager told last.
    fn is_silenced(&self, alert: &Alert) -> bool {
        let labels: Labels<'_> = alert.labels.iter().map(|(label, value)| (*label, value.as_str())).collect();
        self.alertmanager.is_silenced(&labels)
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::BTreeMap, collections::VecDeque, sync::Mutex};

    use axum::{Json, Router, extract::State, http::StatusCode, routing::post};
    use serde_json::{Value, json};

    use super::*;
    use crate::metrics::Parts;

    /// A Telegram that answers so, in turn, then with 200, and keeps what it took.
    #[derive(Clone, Default)]
    struct Telegram {
        answers: Arc<Mutex<VecDeque<(u16, Value)>>>,
        took: Arc<Mutex<Vec<String>>>,
    }

    impl Telegram {
        async fn serve(&self) -> String {
            async fn take(State(telegram): State<Telegram>, Json(body): Json<Value>) -> (StatusCode, Json<Value>) {
                let next = telegram.answers.lock().unwrap().pop_front().unwrap_or((200, json!({"ok": true})));
                if next.0 == 200 {
                    telegram.took.lock().unwrap().push(body["text"].as_str().unwrap().to_owned());
                }
                (StatusCode::from_u16(next.0).unwrap(), Json(next.1))
            }
            let router = Router::new().route("/bot1:a/sendMessage", post(take)).with_state(self.clone());
            let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
            let address = format!("http://{}", listener.local_addr().unwrap());
            tokio::spawn(nexus_web::serve(listener, router, nexus_web::Limits::default(), std::future::pending()));
            address
        }
    }

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + second).unwrap()
    }

    fn failed() -> Alert {
        let labels =
            [("alertname", "HealingFailed"), ("severity", "critical"), ("project", "shop"), ("service", "web")];
        Alert {
            labels: labels.map(|(label, value)| (label, value.to_owned())).into(),
            annotations: BTreeMap::from([("summary", "Restarting it does not help".to_owned())]),
            since: at(0),
        }
    }

    #[tokio::test]
    async fn telegram_is_asked_as_often_as_it_likes_and_the_message_is_not_lost() {
        _ = rustls::crypto::ring::default_provider().install_default();
        let telegram = Telegram::default();
        let busy = json!({"ok": false, "parameters": {"retry_after": 40}});
        telegram.answers.lock().unwrap().extend([(429, busy), (502, json!({})), (401, json!({}))]);
        let folder = tempfile::tempdir().unwrap();
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        let (_told, told) = watch::channel(Arc::new(vec![failed()]));
        let (status, seen) = watch::channel(PartStatus { state: "down".into(), reason: None });
        let metrics = Arc::new(Metrics::new(Parts { postgres: false, alertmanager: true }));
        metrics.docker_up.set(1);
        let (memory, directly) = watch::channel(Arc::default());
        let mut direct = Direct {
            host: "pi".into(),
            bot: Bot::new(&telegram.serve().await, "1:a", "-100"),
            links: Links::default(),
            policy: watch::channel(Arc::default()).1,
            alertmanager: Alertmanager::new("http://127.0.0.1:1").unwrap(),
            journal: journal.clone(),
            told,
            status: seen,
            taken: watch::channel(Arc::default()).1,
            metrics: Arc::clone(&metrics),
            memory,
        };
        let mut looks = Looks::default();
        let began = Instant::now();
        let mut look = async |second: u64| {
            direct.look(&mut looks, at(second as i64), began + Duration::from_secs(second)).await;
            (telegram.answers.lock().unwrap().len(), telegram.took.lock().unwrap().len())
        };
        assert_eq!(look(0).await, (3, 0));
        assert_eq!(look(60).await, (2, 0), "it is busy");
        assert_eq!(look(99).await, (2, 0), "it asked for 40 s");
        assert_eq!(look(100).await, (1, 0), "it is not well");
        assert_eq!(look(109).await, (1, 0));
        assert_eq!(look(110).await, (0, 0), "the token is wrong");
        assert_eq!(look(300).await, (0, 0));
        assert_eq!(look(410).await, (0, 1));
        assert_eq!(look(420).await, (0, 1), "told once");
        status.send_replace(PartStatus { state: "up".into(), reason: None });
        assert_eq!(look(430).await, (0, 2), "alertmanager's own end");
        assert_eq!(look(440).await, (0, 2));
        let took = telegram.took.lock().unwrap().clone();
        assert!(
            took[0].contains("shop/web: Restarting it") && took[0].contains("Alertmanager does not answer"),
            "{took:?}"
        );
        assert!(took[1].starts_with("✅") && !took[1].contains("shop/web"), "{took:?}");
        assert!(directly.borrow().marks(&failed(), at(440)));
        assert_eq!(
            remembered(&journal).await.unwrap(),
            **directly.borrow(),
            "a restart of the healer tells nothing anew"
        );
        let shown = metrics.encode().unwrap();
        assert!(shown.contains("nexus_healer_telegram_messages_total{outcome=\"failed\"} 3"), "{shown}");
        thread.close().await;
    }
}
