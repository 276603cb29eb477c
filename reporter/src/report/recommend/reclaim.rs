//! Disk that Docker holds and nobody uses: images, build cache, volumes.

use super::super::facts::{DockerDisk, Facts};
use super::super::format::{bytes, percent};
use super::{Kind, Recommendation, Urgency};

/// Less is not worth the look.
const LEAST: f64 = 500.0 * 1_048_576.0;
/// On a disk this full it is worth it soon.
const FULL: f64 = 0.75;

/// Leaves what Nexus built for itself, which carries this label (setup/images.sh): its builder, which no container uses but while it
/// builds, takes long to be made again.
const PRUNE_IMAGES: &str = "docker image prune --all --filter 'label!=nexus.content'";
/// Docker 29 tells a sum over all images: how much of it is Nexus' own only Docker can be asked. From older ones the exporter has a list
/// and leaves them out.
const OWN_IMAGES: &str = "what Nexus built for itself stays, such as its builder of some GiB; from Docker 29 on it counts in that: docker image ls \
    --filter label=nexus.content shows how much it is";

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    // Docker's folder is on the root file system unless somebody moved it.
    let root = facts.machine.filesystems.iter().find(|it| it.mountpoint == "/");
    let full = root.is_some_and(|root| root.used_ratio() > FULL);
    let kinds = facts.machine.docker_disk.iter().filter(|it| it.reclaimable >= LEAST);
    let of = |it: &DockerDisk| {
        let (title, check, command, care) = match it.kind.as_str() {
            "images" => (
                "Remove images that no container uses",
                Some("docker image ls"),
                PRUNE_IMAGES,
                "an image that is wanted again is pulled or built again",
            ),
            "build_cache" => ("Empty the build cache", None, "docker builder prune", "the next build takes longer"),
            // Data: only what has no name goes, and only after a look.
            "volumes" => (
                "Look through volumes that no container mounts",
                Some("docker volume ls --filter dangling=true"),
                "docker volume prune",
                "removes volumes without a name; one with a name may hold data: docker volume rm NAME once you know it",
            ),
            _ => return None,
        };
        let unused = it.objects - it.active;
        let mut evidence = vec![format!(
            "{} of {} are not in use ({unused:.0} of {:.0})",
            bytes(it.reclaimable),
            bytes(it.bytes),
            it.objects
        )];
        if let Some(root) = root {
            evidence.push(format!("the disk is {} full", percent(root.used_ratio())));
        }
        evidence.push(care.to_owned());
        let is_images = it.kind == "images";
        evidence.extend(is_images.then(|| OWN_IMAGES.to_owned()));
        let without = if is_images { ", less what of that Nexus built for itself (from Docker 29 on)" } else { "" };
        Some(Recommendation {
            id: Kind::Reclaim.id(&[it.kind.as_str()]),
            kind: Kind::Reclaim,
            urgency: if full { Urgency::Soon } else { Urgency::Sometime },
            project: None,
            service: None,
            title: title.to_owned(),
            evidence,
            gain: format!("up to {} of disk{without}", bytes(it.reclaimable)),
            gain_bytes: Some(it.reclaimable),
            check: check.map(str::to_owned),
            compose: None,
            commands: vec![command.to_owned()],
            changes: Vec::new(),
        })
    };
    kinds.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{GIB, MIB, well};

    fn disk(kind: &str, reclaimable: f64) -> Facts {
        let mut facts = well();
        let disk = DockerDisk { kind: kind.into(), bytes: 4.0 * GIB, reclaimable, objects: 10.0, active: 3.0 };
        facts.machine.docker_disk = vec![disk];
        facts
    }

    #[test]
    fn what_nobody_uses_is_told_once_it_is_much() {
        let found = recommend(&disk("images", 2.0 * GIB));
        assert_eq!(found[0].evidence[0], "2.0 GiB of 4.0 GiB are not in use (7 of 10)");
        let gain = "up to 2.0 GiB of disk, less what of that Nexus built for itself (from Docker 29 on)";
        assert_eq!((found[0].gain.as_str(), found[0].urgency), (gain, Urgency::Sometime));
        assert_eq!(recommend(&disk("images", 400.0 * MIB)), []);
        assert_eq!(recommend(&disk("containers", 2.0 * GIB)), []);
        assert_eq!(recommend(&disk("build_cache", 2.0 * GIB))[0].commands, ["docker builder prune"]);
    }

    #[test]
    fn what_nexus_built_for_itself_is_named_and_never_pruned() {
        let found = recommend(&disk("images", 2.0 * GIB));
        assert_eq!(found[0].commands, ["docker image prune --all --filter 'label!=nexus.content'"]);
        assert!(found[0].evidence.iter().any(|it| it.contains("--filter label=nexus.content shows")), "{found:?}");
        // The label is the one that its images get.
        let setup = include_str!("../../../../setup/images.sh");
        assert!(setup.contains("--label \"nexus.content=$key\"") && setup.contains("\"nexus.content=$3\""));
        for kind in ["volumes", "build_cache"] {
            let found = recommend(&disk(kind, 2.0 * GIB));
            assert_eq!(found[0].gain, "up to 2.0 GiB of disk");
        }
    }

    #[test]
    fn volumes_are_looked_at_before_anything_goes() {
        let found = recommend(&disk("volumes", 2.0 * GIB));
        assert_eq!(found[0].check.as_deref(), Some("docker volume ls --filter dangling=true"));
        assert!(!found[0].commands[0].contains("--all"), "{:?}", found[0].commands);
    }

    #[test]
    fn on_a_full_disk_it_is_worth_it_soon() {
        let mut facts = disk("images", 2.0 * GIB);
        facts.machine.filesystems[0].free = 4.0 * GIB;
        facts.machine.filesystems[0].available = 4.0 * GIB;
        assert_eq!(recommend(&facts)[0].urgency, Urgency::Soon);
    }
}
