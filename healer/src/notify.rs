//! Keeps the healer's own alerts, what people are told and what it wants to be prompted for, alive in Alertmanager while they are true, and ends them when they are not.
//!
//! Each post carries an end a few minutes ahead, so that an alert whose teller has died goes away by itself; it is
//! renewed every minute. Nothing hangs on one delivery: what could not be posted is posted again. What comes up while a
//! post is under way goes into the next, all of it at once.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use jiff::{SignedDuration, Timestamp};
use nexus_model::api::PartStatus;
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::{
    alertmanager::{Alertmanager, AlertmanagerError},
    direct,
    evidence::chain,
    metrics::Metrics,
    tell::Alert,
};

/// How often an alert that is true is posted again.
const RENEW: Duration = Duration::from_secs(60);
/// How long Alertmanager believes a post.
const ALIVE: SignedDuration = SignedDuration::from_mins(5);
/// What it has believed for so long it has told: its routes wait for a quarter of a minute (`group_wait`), or for a minute after
/// another message of the same service.
const TOLD_AFTER: SignedDuration = SignedDuration::from_secs(60);
/// Pause after a failed post: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);

/// The alerts that are true now.
pub type Told = Arc<Vec<Alert>>;

pub struct Notifier {
    alertmanager: Alertmanager,
    told: watch::Receiver<Told>,
    status: watch::Sender<PartStatus>,
    metrics: Arc<Metrics>,
    /// What a person was told directly, and need not be told by Alertmanager.
    directly: watch::Receiver<Arc<direct::Memory>>,
    /// What Alertmanager was last told, and still believes: to be ended when it is no longer true.
    standing: BTreeMap<BTreeMap<&'static str, String>, Alert>,
    /// Since when it has believed what is true, but for what was told directly.
    since: BTreeMap<BTreeMap<&'static str, String>, Timestamp>,
    /// What it has told.
    taken: watch::Sender<Arc<direct::Taken>>,
}

impl Notifier {
    pub fn new(
        alertmanager: Alertmanager,
        told: watch::Receiver<Told>,
        status: watch::Sender<PartStatus>,
        metrics: Arc<Metrics>,
        directly: watch::Receiver<Arc<direct::Memory>>,
        taken: watch::Sender<Arc<direct::Taken>>,
    ) -> Self {
        let (standing, since) = Default::default();
        Self { alertmanager, told, status, metrics, directly, standing, since, taken }
    }

    /// Runs until the worker, who says what is true, is gone.
    pub async fn run(mut self) {
        let mut retry = RETRY_FIRST;
        loop {
            let told = Told::clone(&self.told.borrow_and_update());
            let pause = match self.post(&told, Timestamp::now()).await {
                Ok(()) => {
                    retry = RETRY_FIRST;
                    RENEW
                }
                Err(error) => {
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_LAST);
                    self.failed(&error);
                    pause
                }
            };
            tokio::select! {
                changed = self.told.changed() => if changed.is_err() { return },
                () = tokio::time::sleep(pause) => (),
            }
        }
    }

    /// Posts what is true and ends what is not any more.
    async fn post(&mut self, told: &[Alert], now: Timestamp) -> Result<(), AlertmanagerError> {
        let true_now: BTreeMap<_, _> =
            told.iter().map(|alert| self.marked(alert, now)).map(|alert| (alert.labels.clone(), alert)).collect();
        // What is over by now and comes again is news, whether Alertmanager answers or not.
        self.since.retain(|labels, _| true_now.contains_key(labels));
        let taken = self.taken.borrow().iter().filter(|labels| true_now.contains_key(*labels)).cloned().collect();
        self.taken.send_replace(Arc::new(taken));
        let over = self.standing.iter().filter(|(labels, _)| !true_now.contains_key(*labels));
        let over: Vec<Value> = over.map(|(_, alert)| wire(alert, now, SignedDuration::ZERO)).collect();
        let body: Vec<Value> = true_now.values().map(|alert| wire(alert, now, ALIVE)).chain(over).collect();
        if !body.is_empty() {
            // Before the answer is known: a post that got through without one must be ended as well.
            self.standing.extend(true_now.iter().map(|(labels, alert)| (labels.clone(), alert.clone())));
            self.alertmanager.post(&body).await?;
        }
        self.standing = true_now;
        self.believed(now);
        // Also when there was nothing to say: so the status is true, and silences are known should Alertmanager go away.
        self.alertmanager.read_silences().await?;
        if self.status.borrow().state != "up" {
            tracing::info!("alertmanager answers");
        }
        self.metrics.alertmanager_up.set(1);
        self.status.send_replace(PartStatus { state: "up".to_owned(), reason: None });
        Ok(())
    }

    /// Alertmanager has taken what stands.
    fn believed(&mut self, now: Timestamp) {
        for labels in self.standing.keys().filter(|labels| !labels.contains_key(direct::TOLD)) {
            self.since.entry(labels.clone()).or_insert(now);
        }
        let is_told = |since: &Timestamp| now.duration_since(*since) >= TOLD_AFTER;
        let told = self.since.iter().filter(|(_, since)| is_told(since)).map(|(labels, _)| labels.clone());
        self.taken.send_replace(Arc::new(told.collect()));
    }

    /// With the label that keeps Alertmanager from telling it a second time.
    fn marked(&self, alert: &Alert, now: Timestamp) -> Alert {
        let mut alert = alert.clone();
        if self.directly.borrow().marks(&alert, now) {
            alert.labels.insert(direct::TOLD, "directly".to_owned());
        }
        alert
    }

    fn failed(&self, error: &AlertmanagerError) {
        let reason = chain(error);
        self.metrics.notify_failures.inc();
        self.metrics.alertmanager_up.set(0);
        if self.status.borrow().state != "down" {
            tracing::warn!(reason, "alertmanager can't be told");
        }
        self.status.send_replace(PartStatus { state: "down".to_owned(), reason: Some(reason) });
    }
}

/// One element of the body of `POST /api/v2/alerts`.
fn wire(alert: &Alert, now: Timestamp, alive: SignedDuration) -> Value {
    // Alertmanager wants the end after the start, whatever the clock did in between.
    let starts_at = alert.since.min(now);
    let ends_at = now.checked_add(alive).unwrap_or(Timestamp::MAX).max(starts_at);
    json!({
        "labels": alert.labels,
        "annotations": alert.annotations,
        "startsAt": starts_at,
        "endsAt": ends_at,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use axum::{Json, Router, extract::State, http::StatusCode, routing::post};

    use super::*;
    use crate::metrics::Parts;

    type Posts = Arc<Mutex<Vec<Vec<Value>>>>;

    async fn alertmanager(posts: Posts) -> String {
        async fn take(State(posts): State<Posts>, Json(body): Json<Vec<Value>>) -> StatusCode {
            let mut posts = posts.lock().unwrap();
            posts.push(body);
            // The second post fails.
            if posts.len() == 2 { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::OK }
        }
        let app = Router::new()
            .route("/am/api/v2/alerts", post(take))
            .route("/am/api/v2/silences", axum::routing::get(|| async { "[]" }))
            .with_state(posts);
        let listener = nexus_web::bind(([127, 0, 0, 1], 0).into()).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(nexus_web::serve(listener, app, nexus_web::Limits::default(), std::future::pending()));
        format!("http://{address}/am/")
    }

    fn alert(name: &str) -> Alert {
        Alert {
            labels: BTreeMap::from([("alertname", name.to_owned())]),
            annotations: BTreeMap::new(),
            since: Timestamp::from_second(1_000).unwrap(),
        }
    }

    #[tokio::test]
    async fn alerts_are_kept_alive_ended_and_posted_again_after_a_failure() {
        _ = rustls::crypto::ring::default_provider().install_default();
        let posts = Posts::default();
        let url = alertmanager(Arc::clone(&posts)).await;
        let (_told, receiver) = watch::channel(Told::default());
        let (status, seen) = watch::channel(PartStatus { state: "down".into(), reason: None });
        let metrics = Arc::new(Metrics::new(Parts { postgres: false, alertmanager: true }));
        let (memory, directly) = watch::channel(Arc::default());
        let alertmanager = Alertmanager::new(&url).unwrap();
        let (taken, told_by_it) = watch::channel(Arc::default());
        let mut notifier = Notifier::new(alertmanager, receiver, status, Arc::clone(&metrics), directly, taken);
        let now = Timestamp::from_second(2_000).unwrap();

        notifier.post(&[], now).await.unwrap();
        assert!(posts.lock().unwrap().is_empty() && seen.borrow().state == "up");
        notifier.post(&[alert("HealingFailed")], now).await.unwrap();
        let error = notifier.post(&[alert("HealerGaveUp")], now).await.unwrap_err();
        notifier.failed(&error);
        assert!(seen.borrow().reason.as_ref().unwrap().contains("503"));
        notifier.post(&[alert("HealerGaveUp")], now).await.unwrap();
        notifier.post(&[], now).await.unwrap();
        // What was told directly goes to nobody a second time.
        let mut told = direct::Memory::default();
        told.told(&direct::News { begun: vec![alert("HealingOnHold")], ended: Vec::new() }, now);
        memory.send_replace(Arc::new(told));
        notifier.post(&[alert("HealingOnHold")], now).await.unwrap();
        assert_eq!(posts.lock().unwrap().pop().unwrap()[0]["labels"]["told"], "directly");

        // What Alertmanager has told itself, and what it has only just been told.
        let later = now + TOLD_AFTER;
        let (first, second) = (alert("HealingFailed"), alert("HealerGaveUp"));
        notifier.post(&[first.clone(), alert("HealingOnHold")], now).await.unwrap();
        assert!(told_by_it.borrow().is_empty());
        notifier.post(&[first.clone(), second, alert("HealingOnHold")], later).await.unwrap();
        assert_eq!(**told_by_it.borrow(), direct::Taken::from([first.labels]));
        notifier.post(&[alert("HealerGaveUp")], later).await.unwrap();
        assert!(told_by_it.borrow().is_empty(), "what is over and begins again is news");
        posts.lock().unwrap().truncate(4);

        let posts = posts.lock().unwrap();
        let told: Vec<Vec<(&str, &str)>> = posts
            .iter()
            .map(|post| {
                post.iter()
                    .map(|alert| (alert["labels"]["alertname"].as_str().unwrap(), alert["endsAt"].as_str().unwrap()))
                    .collect()
            })
            .collect();
        let (alive, over) = ("1970-01-01T00:38:20Z", "1970-01-01T00:33:20Z");
        assert_eq!(
            told,
            [
                vec![("HealingFailed", alive)],
                vec![("HealerGaveUp", alive), ("HealingFailed", over)],
                vec![("HealerGaveUp", alive), ("HealingFailed", over)],
                vec![("HealerGaveUp", over)],
            ]
        );
    }

    #[test]
    fn an_end_is_never_before_its_start() {
        let now = Timestamp::from_second(500).unwrap();
        let wire = wire(&alert("X"), now, SignedDuration::ZERO);
        assert_eq!(
            (&wire["startsAt"], &wire["endsAt"]),
            (&json!("1970-01-01T00:08:20Z"), &json!("1970-01-01T00:08:20Z"))
        );
    }
}
