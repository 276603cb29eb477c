//! `docker_disk`: how much disk Docker uses and how much of it could be had back, as `docker system df` shows it.
//!
//! The engine walks its files for that, for minutes on a busy host, so it is asked in the background and rarely: a scrape
//! only shows what the last walk found, and how old that is.

use std::sync::Arc;
use std::time::Duration;

use nexus_docker::{DiskReport, DiskUsage, Usage};

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> = Some(
    "success is 0 when Docker answers but its last walk failed or was refused; what the one before found stays, and its \
     age grows. Nothing is known before the first walk, half a minute after the start.",
);

#[derive(Clone, Debug)]
pub struct Disk {
    pub report: Arc<DiskReport>,
    /// Since the walk ended whose figures these are.
    pub age: Option<Duration>,
    pub docker_up: bool,
}

pub type Found = Disk;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let report = Arc::clone(&access.docker.disk);
    let age = report.last.map(|walk| walk.ended.elapsed());
    Ok(Disk { report, age, docker_up: access.docker.snapshot.up })
}

impl Disk {
    /// That Docker does not answer is what `docker_up` says, and one cause shall raise one alert.
    pub fn fault(&self) -> Option<String> {
        self.report.error.clone().filter(|_| self.docker_up)
    }
}

const TYPE: &[&str] = &["type"];

const BYTES: Family = gauge(
    "docker_disk_bytes",
    "Disk space used by all of Docker's images, volumes and build cache, and by what its containers wrote.",
    TYPE,
    "GET /system/df; type is images, containers, volumes or build_cache",
);
const RECLAIMABLE: Family = gauge(
    "docker_disk_reclaimable_bytes",
    "How much of it docker system df calls reclaimable; before Docker 29 that has layers which several images share, used or not, and no images that Nexus built for itself.",
    TYPE,
    "GET /system/df",
);
const OBJECTS: Family = gauge(
    "docker_disk_objects",
    "Number of images, containers, volumes and records of the build cache.",
    TYPE,
    "GET /system/df",
);
const ACTIVE: Family = gauge(
    "docker_disk_active_objects",
    "Number of them in use: images that a container was made from, containers that run, volumes that a container mounts.",
    TYPE,
    "GET /system/df",
);
const AGE: Family = gauge(
    "docker_disk_age_seconds",
    "Time since Docker last told its disk usage, which it is asked to every --collector.docker_disk.interval.",
    &[],
    "GET /system/df",
);
const DURATION: Family =
    gauge("docker_disk_duration_seconds", "How long it took Docker to tell.", &[], "GET /system/df");
pub const FAMILIES: &[Family] = &[BYTES, RECLAIMABLE, OBJECTS, ACTIVE, AGE, DURATION];

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, source }
}

type Column = (Family, fn(&Usage) -> u64);
const COLUMNS: [Column; 4] = [
    (BYTES, |usage| usage.total_bytes),
    (RECLAIMABLE, |usage| usage.reclaimable_bytes),
    (OBJECTS, |usage| usage.count),
    (ACTIVE, |usage| usage.active),
];

pub fn write(disk: &Disk, out: &mut Exposition) {
    let Some(walk) = disk.report.last else { return };
    let DiskUsage { images, containers, volumes, build_cache } = walk.usage;
    let types = [("images", images), ("containers", containers), ("volumes", volumes), ("build_cache", build_cache)];
    for (family, value) in &COLUMNS {
        let mut family = out.family(family);
        for (name, usage) in &types {
            if let Some(usage) = usage {
                family.sample(&[("type", name)], value(usage));
            }
        }
    }
    if let Some(age) = disk.age {
        out.family(&AGE).single(age.as_secs_f64());
    }
    out.family(&DURATION).single(walk.took.as_secs_f64());
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use nexus_docker::DiskWalk;

    use super::*;
    use crate::exposition::Format;

    fn written(disk: &Disk) -> String {
        let mut out = Exposition::new(Format::Text);
        write(disk, &mut out);
        out.finish()
    }

    #[test]
    fn what_is_not_known_is_absent_and_old_figures_stay() {
        let nothing = Disk { report: Arc::default(), age: None, docker_up: true };
        assert_eq!((written(&nothing), nothing.fault()), (String::new(), None));
        let usage = DiskUsage { volumes: Some(Usage { total_bytes: 7, ..Usage::default() }), ..DiskUsage::default() };
        let walk = DiskWalk { usage, ended: Instant::now(), took: Duration::from_millis(1500) };
        let report = DiskReport { last: Some(walk), error: Some("docker refused".to_owned()) };
        let mut old = Disk { report: report.into(), age: Some(Duration::from_secs(7200)), docker_up: true };
        let body = written(&old);
        assert!(body.contains("\ndocker_disk_bytes{type=\"volumes\"} 7\n") && !body.contains("images\"}"), "{body}");
        assert!(
            body.contains("\ndocker_disk_age_seconds 7200\n") && body.contains("\ndocker_disk_duration_seconds 1.5\n")
        );
        assert_eq!(old.fault().as_deref(), Some("docker refused"));
        old.docker_up = false;
        assert_eq!(old.fault(), None);
    }
}
