//! Containers that live in the network of another one: left in a network that leads nowhere, whatever Docker says of their health,
//! and no rule sees it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use nexus_docker::{Container, DockerError, Snapshot, Status};
use nexus_model::{Now, ServiceKey};
use tokio::task::JoinSet;

use super::{Worker, restart::LOOK_AT_NEEDED};
use crate::{decide, dependencies};

/// What prompts a look at one whose network is dead.
const NETWORK_DEAD: &str = "NetworkDead";

/// When an owner that is not shown here is asked for again: it may be part of another stack, of whose end nobody tells.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(1);

/// Questions at once. Each takes a second at most.
const AT_ONCE: usize = 8;

/// What came of a question whether a container exists: `None` where Docker could not say.
pub(super) struct Asked {
    id: String,
    exists: Option<bool>,
}

/// The owners of networks that others live in, as far as the watcher does not show them.
#[derive(Default)]
pub(super) struct Owners {
    /// Docker has said that there is no such container. No other will ever have its id.
    gone: BTreeSet<String>,
    /// When Docker was asked for the others.
    asked: BTreeMap<String, Now>,
    tasks: JoinSet<Asked>,
    under_way: BTreeSet<String>,
}

impl Owners {
    /// Whether the network that a container lives in has lost its owner.
    pub(super) fn are_gone_for(&self, container: &Container) -> bool {
        dependencies::network_parent(container).is_some_and(|owner| self.gone.contains(owner))
    }

    /// The next answer; never where nothing is asked.
    pub(super) async fn next(&mut self) -> Option<Asked> {
        loop {
            match self.tasks.join_next().await {
                Some(Ok(asked)) => return Some(asked),
                // One that broke down is asked again.
                Some(Err(error)) => {
                    tracing::error!(reason = %error, "the question for a container broke down");
                    self.under_way.clear();
                }
                None => std::future::pending().await,
            }
        }
    }

    pub(super) fn take_up(&mut self, Asked { id, exists }: Asked, now: &Now) {
        self.under_way.remove(&id);
        if exists == Some(false) {
            tracing::info!(container = id, "the container whose network others live in is gone");
            self.gone.insert(id);
        } else {
            self.asked.insert(id, now.clone());
        }
    }

    /// Forgets those that nobody lives with any more, and gives those that are to be asked for.
    fn wanted(&mut self, snapshot: &Snapshot, now: &Now) -> Vec<String> {
        let all = snapshot.containers.values().map(|watched| &watched.container);
        let living = all.filter(|container| container.status == Status::Running && container.key().is_some());
        let unknown: BTreeSet<&str> = living
            .filter_map(|container| dependencies::network_parent(container))
            .filter(|owner| !snapshot.containers.contains_key(*owner))
            .collect();
        self.gone.retain(|id| unknown.contains(id.as_str()));
        self.asked.retain(|id, _| unknown.contains(id.as_str()));
        let is_due = |id: &&&str| {
            !self.gone.contains(**id)
                && !self.under_way.contains(**id)
                && self.asked.get(**id).is_none_or(|asked| now.since(asked) >= ASK_AGAIN)
        };
        let room = AT_ONCE.saturating_sub(self.tasks.len());
        unknown.iter().filter(is_due).take(room).map(|id| (*id).to_owned()).collect()
    }
}

impl Worker {
    /// Opens incidents of those that were left in a dead network, and asks for owners that are not shown.
    pub(super) async fn look_for_dead_networks(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            return;
        }
        let now = self.clock.now();
        for id in self.owners.wanted(snapshot, &now) {
            let docker = std::sync::Arc::clone(&self.parts.docker);
            self.owners.under_way.insert(id.clone());
            self.owners.tasks.spawn(async move {
                let exists = match tokio::time::timeout(LOOK_AT_NEEDED, docker.inspect(&id)).await {
                    Ok(Ok(_)) => Some(true),
                    Ok(Err(DockerError::NotFound { .. })) => Some(false),
                    _ => None,
                };
                Asked { id, exists }
            });
        }
        let left = |container: &Container| {
            self.owners.are_gone_for(container)
                || dependencies::left_in_dead_network(container, snapshot, now.wall).is_some()
        };
        let all = snapshot.containers.values().filter(|watched| left(&watched.container));
        let keys: BTreeSet<ServiceKey> = all.filter_map(|watched| watched.container.key()).collect();
        for key in keys.into_iter().filter(|key| !self.cases.contains_key(key)).collect::<Vec<_>>() {
            let facts = self.facts(&key, snapshot);
            if let Ok(found) = decide::admit(&facts, None) {
                self.open_seen(&key, NETWORK_DEAD, found, &facts, snapshot).await;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use nexus_docker::{StopCause, Watched};

    use super::*;
    use crate::testing::{at, container};

    #[test]
    fn an_owner_that_is_not_shown_is_asked_for_until_it_is_gone() {
        let lives_with = |owner: &str, id: &str| Container {
            id: id.into(),
            network_mode: format!("container:{owner}"),
            ..container()
        };
        let snapshot = |containers: Vec<Container>| {
            let watched = |container: Container| Watched {
                container: container.into(),
                stop: StopCause::Itself,
                has_been_healthy: false,
                oom_events: 0,
            };
            let containers = containers.into_iter().map(|it| (it.id.clone(), watched(it))).collect();
            Snapshot { up: true, containers, ..Snapshot::default() }
        };
        let vpn = Container { id: "vpn".into(), ..container() };
        let torrent = lives_with("vpn", "torrent");
        let mut owners = Owners::default();
        assert!(owners.wanted(&snapshot(vec![vpn, torrent.clone()]), &at(0)).is_empty());
        let alone = snapshot(vec![torrent.clone(), container()]);
        assert_eq!(owners.wanted(&alone, &at(0)), ["vpn"]);
        // Of another stack, or Docker could not say.
        for (second, exists) in [(0, Some(true)), (60, None)] {
            owners.take_up(Asked { id: "vpn".into(), exists }, &at(second));
            assert!(owners.wanted(&alone, &at(second + 59)).is_empty() && !owners.are_gone_for(&torrent));
            assert_eq!(owners.wanted(&alone, &at(second + 60)), ["vpn"]);
        }
        owners.take_up(Asked { id: "vpn".into(), exists: Some(false) }, &at(120));
        assert!(owners.wanted(&alone, &at(600)).is_empty() && owners.are_gone_for(&torrent));
        assert!(!owners.are_gone_for(&container()));
        // Nobody lives in it any more.
        assert!(owners.wanted(&snapshot(vec![container()]), &at(601)).is_empty());
        assert!(owners.gone.is_empty() && owners.asked.is_empty());
    }
}
