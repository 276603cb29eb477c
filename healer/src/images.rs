//! Which service got another image when: whatever begins with a new image is most often its doing.
//!
//! Kept in memory only. What changed before the healer was started is not known, and a diagnosis goes without it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_docker::Snapshot;
use nexus_model::ServiceKey;
use serde::{Deserialize, Serialize};

/// A service whose image is another than it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageChange {
    /// As it was asked for, and the id, which differs also when the tag is the same.
    pub image_before: String,
    pub image_id_before: String,
    /// When the first container with the new one was made, by Docker's clock.
    pub at: Timestamp,
}

#[derive(Clone, Debug, Default)]
pub struct Images {
    services: BTreeMap<ServiceKey, Known>,
}

#[derive(Clone, Debug, PartialEq)]
struct Known {
    image: String,
    image_id: String,
    change: Option<ImageChange>,
}

impl Images {
    /// Takes note of the image of each service's newest container. Of a service whose containers are gone for a moment, as
    /// they are while Compose recreates them, the last is remembered.
    pub fn note(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            return;
        }
        let mut newest: BTreeMap<ServiceKey, (Option<Timestamp>, &str, &str)> = BTreeMap::new();
        for watched in snapshot.containers.values() {
            let container = &*watched.container;
            let Some(key) = container.key().filter(|_| !container.is_one_off()) else { continue };
            let seen = (container.created_at, container.image.as_str(), container.image_id.as_str());
            let known = newest.entry(key).or_insert(seen);
            *known = (*known).max(seen);
        }
        for (key, (created_at, image, image_id)) in newest {
            let is_full = self.services.len() >= MOST;
            match self.services.get_mut(&key) {
                Some(known) if known.image_id == image_id => (),
                Some(known) => {
                    let before = std::mem::replace(&mut known.image_id, image_id.to_owned());
                    let image_before = std::mem::replace(&mut known.image, image.to_owned());
                    known.change = created_at.map(|at| ImageChange { image_before, image_id_before: before, at });
                }
                None if !is_full => {
                    let known = Known { image: image.to_owned(), image_id: image_id.to_owned(), change: None };
                    self.services.insert(key, known);
                }
                None => (),
            }
        }
    }

    pub fn change_of(&self, key: &ServiceKey) -> Option<&ImageChange> {
        self.services.get(key)?.change.as_ref()
    }
}

/// Services that are remembered, those that are gone with them: far more than a host has.
const MOST: usize = 1000;

#[cfg(test)]
mod tests {
    use nexus_docker::{Container, StopCause, Watched};

    use super::*;
    use crate::testing::{container, key, wall};

    fn snapshot(containers: &[Container]) -> Snapshot {
        let watched = |container: &Container| {
            let watched = Watched {
                container: container.clone().into(),
                stop: StopCause::Unknown,
                has_been_healthy: false,
                oom_events: 0,
            };
            (container.id.clone(), watched)
        };
        Snapshot { up: true, containers: containers.iter().map(watched).collect(), ..Snapshot::default() }
    }

    #[test]
    fn a_change_is_known_from_the_moment_on_in_which_it_is_seen() {
        let mut images = Images::default();
        images.note(&snapshot(&[container()]));
        assert_eq!(images.change_of(&key()), None);
        // Recreated with the same image, gone for a moment, Docker away: no change.
        images.note(&snapshot(&[Container { id: "c2".into(), created_at: wall(1), ..container() }]));
        images.note(&snapshot(&[]));
        images.note(&Snapshot::default());
        assert_eq!(images.change_of(&key()), None);
        let new = Container { id: "c3".into(), image_id: "sha256:bb".into(), created_at: wall(2), ..container() };
        // While the old one still stands beside it.
        images.note(&snapshot(&[container(), new.clone()]));
        let change = images.change_of(&key()).unwrap().clone();
        assert_eq!((change.image_id_before.as_str(), Some(change.at)), ("sha256:aa", wall(2)));
        images.note(&snapshot(&[new]));
        assert_eq!(images.change_of(&key()), Some(&change));
        let back = Container { id: "c4".into(), created_at: wall(3), ..container() };
        images.note(&snapshot(&[back]));
        assert_eq!(images.change_of(&key()).unwrap().image_id_before, "sha256:bb");
    }
}
