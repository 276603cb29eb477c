//! How much disk Docker uses, and how much of it could be had back: what `docker system df` shows.
//!
//! The engine walks every layer, every volume and the files of every container for it, which takes milliseconds on a
//! small host and minutes on a busy one. So it is asked rarely, in the background, and never twice at once.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde::{Deserialize, Deserializer};
use tokio::sync::watch;

use crate::client::Docker;
use crate::watcher::{AbortOnDrop, Snapshot, chain};

/// Pause after the first failure, doubled up to the interval while it goes on failing.
const RETRY_FIRST: Duration = Duration::from_secs(60);

/// By type; `None` where the engine said nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DiskUsage {
    pub images: Option<Usage>,
    pub containers: Option<Usage>,
    pub volumes: Option<Usage>,
    pub build_cache: Option<Usage>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    pub total_bytes: u64,
    pub reclaimable_bytes: u64,
    pub count: u64,
    /// Of `count`: images that a container uses, containers that run, volumes that a container mounts, cache records of
    /// a build under way.
    pub active: u64,
}

/// What the walks have found so far.
#[derive(Clone, Debug, Default)]
pub struct DiskReport {
    /// `None` until the first one has succeeded.
    pub last: Option<DiskWalk>,
    /// Why the last attempt failed, if it did.
    pub error: Option<String>,
}

/// A walk that succeeded.
#[derive(Clone, Copy, Debug)]
pub struct DiskWalk {
    pub usage: DiskUsage,
    pub ended: Instant,
    pub took: Duration,
}

/// When the engine is asked.
#[derive(Clone, Copy, Debug)]
pub struct DiskSchedule {
    /// After the start, which may be the boot of the host.
    pub first_after: Duration,
    /// From the end of one walk to the next.
    pub interval: Duration,
    /// What takes longer has failed.
    pub timeout: Duration,
}

/// The task that asks; it ends when the last `DiskWatcher` is dropped.
#[derive(Clone, Debug)]
pub struct DiskWatcher {
    reports: watch::Receiver<Arc<DiskReport>>,
    _task: Arc<AbortOnDrop>,
}

impl DiskWatcher {
    /// Must be called within a tokio runtime. `snapshots` is a [`crate::Watcher`]'s: nothing is asked while Docker does
    /// not answer that one.
    pub fn spawn(
        docker: Arc<Docker>,
        snapshots: watch::Receiver<Arc<Snapshot>>,
        schedule: DiskSchedule,
    ) -> DiskWatcher {
        let (sender, reports) = watch::channel(Arc::default());
        let task = tokio::spawn(run(docker, snapshots, schedule, sender));
        DiskWatcher { reports, _task: Arc::new(AbortOnDrop(task)) }
    }

    pub fn report(&self) -> Arc<DiskReport> {
        self.reports.borrow().clone()
    }

    /// A receiver whose `changed()` fires after each attempt.
    pub fn subscribe(&self) -> watch::Receiver<Arc<DiskReport>> {
        self.reports.clone()
    }
}

async fn run(
    docker: Arc<Docker>,
    mut snapshots: watch::Receiver<Arc<Snapshot>>,
    schedule: DiskSchedule,
    reports: watch::Sender<Arc<DiskReport>>,
) {
    let mut retry = RETRY_FIRST.min(schedule.interval);
    tokio::time::sleep(schedule.first_after).await;
    // Only fails when the watcher has ended.
    while snapshots.wait_for(|snapshot| snapshot.up).await.is_ok() {
        let begin = Instant::now();
        let answer = docker.disk_usage(schedule.timeout).await;
        let ended = Instant::now();
        let before = reports.borrow().clone();
        let (report, pause) = match answer {
            Ok(usage) => {
                retry = RETRY_FIRST.min(schedule.interval);
                let walk = DiskWalk { usage, ended, took: ended - begin };
                (DiskReport { last: Some(walk), error: None }, schedule.interval)
            }
            Err(error) => {
                let reason = chain(&error);
                if before.error.as_ref() != Some(&reason) {
                    tracing::warn!(reason, "docker's disk usage is not known");
                }
                let pause = retry;
                retry = (retry * 2).min(schedule.interval);
                (DiskReport { last: before.last, error: Some(reason) }, pause)
            }
        };
        reports.send_replace(Arc::new(report));
        tokio::time::sleep(pause).await;
    }
}

/// The answer to `GET /system/df`. The engine sums up from API 1.52 on; before, it lists everything there is, and its
/// client sums up. 1.52 itself gives both unless it is asked with `verbose`.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(crate) struct Answer {
    image_usage: Option<Sum>,
    container_usage: Option<Sum>,
    volume_usage: Option<Sum>,
    build_cache_usage: Option<Sum>,

    #[serde(default)]
    layers_size: i64,
    #[serde(default, deserialize_with = "listed")]
    images: Option<Vec<Image>>,
    #[serde(default, deserialize_with = "listed")]
    containers: Option<Vec<Container>>,
    #[serde(default, deserialize_with = "listed")]
    volumes: Option<Vec<Volume>>,
    #[serde(default, deserialize_with = "listed")]
    build_cache: Option<Vec<CacheRecord>>,
}

/// What is 0 is left out by the engine.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Sum {
    active_count: i64,
    total_count: i64,
    reclaimable: i64,
    total_size: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Image {
    /// How many use it, stopped ones too.
    containers: i64,
    size: i64,
    /// -1: not known, as with `size`.
    shared_size: i64,
    labels: Option<HashMap<String, String>>,
}

/// What Nexus builds for itself carries it (setup/images.sh). No container uses its builder but while it builds, and yet it is wanted:
/// it takes long to be made again.
const OWN_IMAGE: &str = "nexus.content";

impl Image {
    fn is_own(&self) -> bool {
        self.labels.as_ref().is_some_and(|labels| labels.contains_key(OWN_IMAGE))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    /// What it wrote on top of its image.
    size_rw: i64,
    state: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Volume {
    usage_data: Option<VolumeUsage>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct VolumeUsage {
    /// -1: not known, as of a volume whose driver is not `local`.
    size: i64,
    ref_count: i64,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct CacheRecord {
    size: i64,
    in_use: bool,
    /// Its bytes are those of an image layer, and counted there.
    shared: bool,
}

/// Go writes an empty list as `null`; a key that is not there says nothing.
fn listed<'de, D: Deserializer<'de>, T: Deserialize<'de>>(deserializer: D) -> Result<Option<Vec<T>>, D::Error> {
    Ok(Some(Option::deserialize(deserializer)?.unwrap_or_default()))
}

impl From<Answer> for DiskUsage {
    fn from(answer: Answer) -> Self {
        DiskUsage {
            images: answer
                .image_usage
                .map(Usage::from)
                .or(answer.images.map(|all| of_images(&all, answer.layers_size))),
            containers: answer.container_usage.map(Usage::from).or(answer.containers.map(|all| of_containers(&all))),
            volumes: answer.volume_usage.map(Usage::from).or(answer.volumes.map(|all| of_volumes(&all))),
            build_cache: answer.build_cache_usage.map(Usage::from).or(answer.build_cache.map(|all| of_cache(&all))),
        }
    }
}

impl From<Sum> for Usage {
    fn from(sum: Sum) -> Self {
        Usage {
            // What can be had back is there.
            total_bytes: positive(sum.total_size.max(sum.reclaimable)),
            reclaimable_bytes: positive(sum.reclaimable),
            // And so is what is in use.
            count: positive(sum.total_count.max(sum.active_count)),
            active: positive(sum.active_count),
        }
    }
}

/// All layers but those that only used images have, or those of Nexus: layers that several images share count as reclaimable.
fn of_images(images: &[Image], layers_size: i64) -> Usage {
    let total_bytes = positive(layers_size);
    let wanted = images.iter().filter(|image| image.containers != 0 || image.is_own());
    let used = wanted.filter(|image| image.size != -1 && image.shared_size != -1);
    let own = used.map(|image| positive(image.size.saturating_sub(image.shared_size)));
    Usage {
        total_bytes,
        reclaimable_bytes: total_bytes.saturating_sub(sum(own)),
        count: images.len() as u64,
        active: images.iter().filter(|image| image.containers > 0).count() as u64,
    }
}

fn of_containers(containers: &[Container]) -> Usage {
    let is_active = |container: &&Container| matches!(container.state.as_str(), "running" | "paused" | "restarting");
    let bytes = |container: &Container| positive(container.size_rw);
    Usage {
        total_bytes: sum(containers.iter().map(bytes)),
        reclaimable_bytes: sum(containers.iter().filter(|container| !is_active(container)).map(bytes)),
        count: containers.len() as u64,
        active: containers.iter().filter(is_active).count() as u64,
    }
}

fn of_volumes(volumes: &[Volume]) -> Usage {
    let known = || volumes.iter().filter_map(|volume| volume.usage_data.as_ref());
    Usage {
        total_bytes: sum(known().map(|usage| positive(usage.size))),
        reclaimable_bytes: sum(known().filter(|usage| usage.ref_count == 0).map(|usage| positive(usage.size))),
        count: volumes.len() as u64,
        active: known().filter(|usage| usage.ref_count > 0).count() as u64,
    }
}

fn of_cache(records: &[CacheRecord]) -> Usage {
    let own = || records.iter().filter(|record| !record.shared);
    Usage {
        total_bytes: sum(own().map(|record| positive(record.size))),
        reclaimable_bytes: sum(own().filter(|record| !record.in_use).map(|record| positive(record.size))),
        count: records.len() as u64,
        active: records.iter().filter(|record| record.in_use).count() as u64,
    }
}

/// -1 is Docker's word for a number that it does not know.
fn positive(number: i64) -> u64 {
    u64::try_from(number).unwrap_or(0)
}

fn sum(numbers: impl Iterator<Item = u64>) -> u64 {
    numbers.fold(0, u64::saturating_add)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parse(json: &str) -> DiskUsage {
        serde_json::from_str::<Answer>(json).unwrap().into()
    }

    fn usage(total_bytes: u64, reclaimable_bytes: u64, count: u64, active: u64) -> Option<Usage> {
        Some(Usage { total_bytes, reclaimable_bytes, count, active })
    }

    #[test]
    fn up_to_api_1_51_lists_are_summed_up_as_dockers_client_does() {
        let answer = parse(
            r#"{"LayersSize": 1000, "BuilderSize": 0,
            "Images": [
                {"Containers": 2, "Size": 600, "SharedSize": 100, "RepoDigests": null},
                {"Containers": 0, "Size": 500, "SharedSize": 100},
                {"Containers": 1, "Size": 10, "SharedSize": -1}],
            "Containers": [
                {"State": "running", "SizeRw": 7}, {"State": "exited", "SizeRw": 30}, {"State": "paused"},
                {"State": "restarting", "SizeRw": 3}, {"State": "created", "SizeRw": 2}],
            "Volumes": [
                {"UsageData": {"Size": 40, "RefCount": 1}}, {"UsageData": {"Size": 50, "RefCount": 0}},
                {"UsageData": {"Size": -1, "RefCount": 0}}, {"UsageData": null}, {}],
            "BuildCache": [
                {"Size": 5, "InUse": true, "Shared": false}, {"Size": 6, "InUse": false, "Shared": false},
                {"Size": 100, "InUse": true, "Shared": true}]}"#,
        );
        assert_eq!(answer.images, usage(1000, 500, 3, 2));
        assert_eq!(answer.containers, usage(42, 32, 5, 3));
        assert_eq!(answer.volumes, usage(90, 50, 5, 1));
        assert_eq!(answer.build_cache, usage(11, 6, 3, 2));
    }

    #[test]
    fn what_nexus_built_for_itself_is_wanted() {
        let images = |labels: &str| {
            let of = |size: i64, labels: &str| {
                format!(r#"{{"Containers": 0, "Size": {size}, "SharedSize": 100, "Labels": {labels}}}"#)
            };
            let listed = format!("{}, {}", of(800, labels), of(150, "null"));
            parse(&format!(r#"{{"LayersSize": 1000, "Images": [{listed}]}}"#)).images
        };
        assert_eq!(images(r#"{"nexus.content": "0a1b"}"#), usage(1000, 300, 2, 0));
        assert_eq!(images(r#"{"maintainer": "x"}"#), usage(1000, 1000, 2, 0));
        assert_eq!(images("null"), usage(1000, 1000, 2, 0));
    }

    #[test]
    fn from_api_1_52_on_the_engine_sums_up() {
        let answer = parse(
            r#"{"ImageUsage": {"ActiveCount": 1, "TotalCount": 2, "Reclaimable": 30, "TotalSize": 100},
            "ContainerUsage": {"ActiveCount": 1, "TotalCount": 1},
            "VolumeUsage": {"ActiveCount": 3},
            "BuildCacheUsage": {"TotalCount": 4, "Reclaimable": 9},
            "LayersSize": 5, "Images": [{"Containers": 1}]}"#,
        );
        assert_eq!(answer.images, usage(100, 30, 2, 1));
        assert_eq!(answer.containers, usage(0, 0, 1, 1));
        assert_eq!(answer.volumes, usage(0, 0, 3, 3));
        assert_eq!(answer.build_cache, usage(9, 9, 4, 0));
    }

    #[test]
    fn an_empty_list_is_nothing_and_a_missing_one_unknown() {
        let nothing = parse(r#"{"Images": null, "Containers": [], "Volumes": null, "BuildCache": null}"#);
        let none = usage(0, 0, 0, 0);
        assert_eq!(nothing, DiskUsage { images: none, containers: none, volumes: none, build_cache: none });
        assert_eq!(parse("{}"), DiskUsage::default());
    }

    proptest! {
        #[test]
        fn sums_never_panic(numbers in proptest::collection::vec(any::<(i64, i64, i64)>(), 0..8), layers in any::<i64>()) {
            let image = |&(containers, size, shared_size): &(i64, i64, i64)| Image { containers, size, shared_size, labels: None };
            let images: Vec<_> = numbers.iter().map(image).collect();
            let all = of_images(&images, layers);
            prop_assert!(all.reclaimable_bytes <= all.total_bytes && all.active <= all.count);
            let record = |&(size, in_use, shared): &(i64, i64, i64)| CacheRecord { size, in_use: in_use > 0, shared: shared > 0 };
            let records: Vec<_> = numbers.iter().map(record).collect();
            let all = of_cache(&records);
            prop_assert!(all.reclaimable_bytes <= all.total_bytes && all.active <= all.count);
        }

        #[test]
        fn never_panics(text in any::<String>()) {
            _ = serde_json::from_str::<Answer>(&text).map(DiskUsage::from);
        }
    }
}
