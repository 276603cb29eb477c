//! When the images that containers run were made.
//!
//! Inspect does not say it of a container, and an image never changes: the images are listed once, and again when a
//! container appears whose image was not known. An image that is not in the list then (its tag was taken by a newer one,
//! and others build on it) has no date, and is not asked for again by itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::watch;

use crate::client::Docker;
use crate::watcher::{AbortOnDrop, Snapshot, chain};

/// Between two lists: containers that start together are one reason to ask.
const PAUSE: Duration = Duration::from_secs(2);

/// Pause after a failure: doubled from the first to the last while it goes on failing.
const RETRY_FIRST: Duration = Duration::from_secs(60);
const RETRY_LAST: Duration = Duration::from_secs(60 * 60);

/// By image id, as inspect gives it. `None`: not listed, or without a date.
pub type ImageTimes = BTreeMap<String, Option<Timestamp>>;

/// The task that asks; it ends when the last `ImageWatcher` is dropped.
#[derive(Clone, Debug)]
pub struct ImageWatcher {
    times: watch::Receiver<Arc<ImageTimes>>,
    _task: Arc<AbortOnDrop>,
}

impl ImageWatcher {
    /// Must be called within a tokio runtime. `snapshots` is a [`crate::Watcher`]'s, which says what is used.
    pub fn spawn(docker: Arc<Docker>, snapshots: watch::Receiver<Arc<Snapshot>>) -> ImageWatcher {
        let (sender, times) = watch::channel(Arc::default());
        let task = tokio::spawn(run(docker, snapshots, sender));
        ImageWatcher { times, _task: Arc::new(AbortOnDrop(task)) }
    }

    pub fn times(&self) -> Arc<ImageTimes> {
        self.times.borrow().clone()
    }

    /// A receiver whose `changed()` fires on each change.
    pub fn subscribe(&self) -> watch::Receiver<Arc<ImageTimes>> {
        self.times.clone()
    }
}

async fn run(
    docker: Arc<Docker>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    sender: watch::Sender<Arc<ImageTimes>>,
) {
    let mut retry = RETRY_FIRST;
    let mut told = None;
    loop {
        let wanted = |snapshot: &Arc<Snapshot>| {
            let known = sender.borrow();
            snapshot.up && used(snapshot).any(|id| !known.contains_key(id))
        };
        // Only fails when the watcher has ended.
        let Ok(snapshot) = snapshots.wait_for(wanted).await.map(|snapshot| Arc::clone(&snapshot)) else { return };
        match docker.image_times().await {
            Ok(listed) => {
                let time = |id: &str| (id.to_owned(), listed.get(id).copied().flatten());
                sender.send_replace(Arc::new(used(&snapshot).map(time).collect()));
                (retry, told) = (RETRY_FIRST, None);
                tokio::time::sleep(PAUSE).await;
            }
            Err(error) => {
                let reason = chain(&error);
                if told.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "the age of images is not known");
                    told = Some(reason);
                }
                tokio::time::sleep(retry).await;
                retry = (retry * 2).min(RETRY_LAST);
            }
        }
    }
}

/// The ids of the images that containers were made from.
fn used(snapshot: &Snapshot) -> impl Iterator<Item = &str> {
    snapshot.containers.values().map(|watched| watched.container.image_id.as_str()).filter(|id| !id.is_empty())
}
