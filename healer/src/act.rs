//! The only place that changes anything in Docker.

use std::time::Duration;

use jiff::SignedDuration;
use nexus_docker::{Container, Docker, DockerError};

use crate::{evidence::chain, policy::Healing};

/// Docker walks and deletes files, which takes minutes on an SD card.
const PRUNE_DEADLINE: Duration = Duration::from_secs(10 * 60);

/// What is done to a container that is ill.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deed {
    Restart,
    /// Of one that does not run.
    Start,
}

impl Deed {
    /// The action of the attempt.
    pub fn as_str(self) -> &'static str {
        match self {
            Deed::Restart => "restart",
            Deed::Start => "start",
        }
    }
}

/// What came back. Whether the container started anew is never taken from here but from Docker's start time.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    Done,
    /// Docker said no: nothing will come of it any more.
    Refused(String),
    /// No answer, so it may have happened and may yet happen.
    Lost(String),
}

/// How long the container gets to stop: what the policy says for this very service, otherwise its own word, otherwise what the
/// policy says for others as well. Docker takes whole seconds, and the socket proxy three digits of them.
pub fn stop_timeout(container: &Container, healing: &Healing) -> SignedDuration {
    let own = container.stop_timeout.filter(|_| !healing.stop_timeout_wins);
    let given = own.and_then(|own| SignedDuration::try_from(own).ok());
    let seconds = given.unwrap_or(healing.stop_timeout).as_secs();
    SignedDuration::from_secs(seconds.clamp(0, 999))
}

/// Restarts a container, once. Dropping the future does not take the request back.
pub async fn restart(docker: &Docker, container_id: &str, stop_timeout: SignedDuration) -> Answer {
    let stop_timeout = Duration::from_secs(stop_timeout.as_secs().unsigned_abs());
    answer(docker.restart(container_id, stop_timeout).await)
}

/// Stops a container that the policy calls expendable, once.
pub async fn stop(docker: &Docker, container_id: &str, stop_timeout: SignedDuration) -> Answer {
    let stop_timeout = Duration::from_secs(stop_timeout.as_secs().unsigned_abs());
    answer(docker.stop(container_id, stop_timeout).await)
}

/// Starts a container, once.
pub async fn start(docker: &Docker, container_id: &str) -> Answer {
    answer(docker.start(container_id).await)
}

/// Deletes what nothing uses and what can be had again: dangling images, then unused build cache. With the bytes that Docker says
/// it deleted; the first refusal is told, and what was deleted before counts.
pub async fn prune(docker: &Docker) -> (Answer, u64) {
    let images = docker.prune_dangling_images(PRUNE_DEADLINE).await;
    let cache = docker.prune_build_cache(PRUNE_DEADLINE).await;
    let deleted = [&images, &cache].into_iter().filter_map(|pruned| pruned.as_ref().ok()).sum();
    (answer(images.and(cache).map(drop)), deleted)
}

fn answer(answer: Result<(), DockerError>) -> Answer {
    match answer {
        Ok(()) => Answer::Done,
        // The socket proxy's own word for "Docker went away while I waited": it may have happened.
        Err(error @ DockerError::Refused { status: 502..=504, .. }) => Answer::Lost(chain(&error)),
        Err(error @ (DockerError::NotFound { .. } | DockerError::Refused { .. })) => Answer::Refused(chain(&error)),
        Err(error) => Answer::Lost(chain(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::container;

    #[test]
    fn the_container_says_how_long_it_takes_to_stop() {
        let healing = Healing::default();
        let with = |own: Option<u64>| {
            let container = Container { stop_timeout: own.map(Duration::from_secs), ..container() };
            stop_timeout(&container, &healing).as_secs()
        };
        assert_eq!(with(None), 10);
        assert_eq!(with(Some(0)), 0);
        assert_eq!(with(Some(120)), 120);
        assert_eq!(with(Some(86_400)), 999);
        let named = Healing { stop_timeout_wins: true, ..Healing::default() };
        let container = Container { stop_timeout: Some(Duration::from_secs(120)), ..container() };
        assert_eq!(stop_timeout(&container, &named).as_secs(), 10);
    }
}
