//! What the API asks the worker, who alone knows and changes the open incidents. Bounded, and with a deadline: who asks is told
//! when there is no answer.

use std::time::Duration;

use nexus_model::{
    Incident, ServiceKey,
    control::{Acknowledge, Budget, HealNowAccepted, Obstacle, Plan},
};
use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use crate::by_hand::Denied;

/// Questions that may wait.
const QUEUE: usize = 16;
/// How long one waits for its answer. The worker waits for the disk now and then, and for nothing else.
const DEADLINE: Duration = Duration::from_secs(5);

/// What the worker knows of one service.
#[derive(Clone, Debug)]
pub struct Seen {
    pub incident: Option<Incident>,
    pub waits_for: Vec<Obstacle>,
    pub budgets: Vec<Budget>,
    pub plan: Plan,
}

/// Why something that was asked for is not done.
#[derive(Clone, Debug, PartialEq)]
pub enum No {
    Denied(Denied),
    /// It can't be made durable, so it is not done.
    Journal,
    /// There is no such open incident.
    NotOpen,
    /// What it is about does not allow it; for people.
    Unfit(String),
}

pub enum Ask {
    /// What is known of a service, and what would be done.
    Service {
        key: ServiceKey,
        answer: oneshot::Sender<Seen>,
    },
    /// What would be done about each of these.
    Plans {
        keys: Vec<ServiceKey>,
        answer: oneshot::Sender<Vec<Plan>>,
    },
    HealNow {
        key: ServiceKey,
        force: bool,
        answer: oneshot::Sender<Result<HealNowAccepted, No>>,
    },
    Acknowledge {
        id: Uuid,
        wanted: Acknowledge,
        answer: oneshot::Sender<Result<Incident, No>>,
    },
}

/// The way to the worker. Cheap to clone.
#[derive(Clone)]
pub struct Asks(mpsc::Sender<Ask>);

/// The worker does not answer in time.
#[derive(Debug, thiserror::Error)]
#[error("the healer is busy and did not answer within {} s; what was asked for may still be done", DEADLINE.as_secs())]
pub struct Busy;

pub fn channel() -> (Asks, mpsc::Receiver<Ask>) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    (Asks(sender), receiver)
}

impl Asks {
    pub async fn ask<T>(&self, question: impl FnOnce(oneshot::Sender<T>) -> Ask) -> Result<T, Busy> {
        let (answer, answered) = oneshot::channel();
        let asked = async {
            self.0.send(question(answer)).await.ok()?;
            answered.await.ok()
        };
        tokio::time::timeout(DEADLINE, asked).await.ok().flatten().ok_or(Busy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_gets_no_answer_is_told() {
        let (asks, mut questions) = channel();
        let ask = || asks.ask(|answer| Ask::Plans { keys: Vec::new(), answer });
        // Nobody takes it, and more than may wait do not either.
        for _ in 0..=QUEUE {
            assert!(ask().await.is_err());
        }
        // Somebody takes it and drops it.
        let (answered, ()) = tokio::join!(ask(), async {
            while questions
                .recv()
                .await
                .is_some_and(|question| !matches!(question, Ask::Plans { answer, .. } if !answer.is_closed()))
            {
            }
        });
        assert!(answered.is_err());
        // Nobody is there any more.
        drop(questions);
        assert!(ask().await.is_err());
    }
}
