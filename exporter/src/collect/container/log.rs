//! How large the log of a container is on disk: one `lstat` a scrape, and a look into the folder when the file was rotated.
//! Its content is never read.
//!
//! Docker names the path on its host, which is looked for below the root of the host's files. No symbolic link is
//! followed there: one that the host resolves against its own root leads elsewhere from here, and Docker gives a path
//! without any.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use jiff::Timestamp;
use nexus_docker::Container;

/// More files than any log has; what comes after them is not looked at.
const MOST_FILES: usize = 10_000;

/// What is kept of one container.
#[derive(Debug, Default)]
pub struct LogFile {
    place: Option<Place>,
    last: Option<Seen>,
}

/// Where the file is, for a path by Docker's word in one run: a new run may begin a new file.
#[derive(Debug)]
struct Place {
    told: PathBuf,
    run: Option<Timestamp>,
    /// `None`: not to be seen from here.
    here: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    inode: u64,
    bytes: u64,
    rotated_bytes: u64,
    /// The files were listed when the last scrape had found this inode already. Before, the one that was rotated may still
    /// be being compressed.
    settled: bool,
}

impl LogFile {
    /// The log with its rotated files. `engine_root` is where the engine keeps its files, by its own word.
    pub fn bytes(&mut self, container: &Container, engine_root: Option<&Path>, rootfs: &Path) -> Option<u64> {
        let Container { id, log_driver, log_path, started_at, .. } = container;
        self.bytes_at(told(log_driver, log_path, id, engine_root)?, *started_at, rootfs)
    }

    fn bytes_at(&mut self, told: PathBuf, run: Option<Timestamp>, rootfs: &Path) -> Option<u64> {
        if self.place.as_ref().is_none_or(|place| place.told != told || place.run != run) {
            let here = locate(rootfs, &told);
            (self.place, self.last) = (Some(Place { told, run, here }), None);
        }
        let path = self.place.as_ref()?.here.as_deref()?;
        let file = fs::symlink_metadata(path).ok().filter(fs::Metadata::is_file);
        let Some((inode, bytes)) = file.map(|file| (file.ino(), file.len())) else {
            self.last = None;
            return None;
        };
        // A number that was freed by an old file may come again; the new one is then smaller.
        let same = self.last.filter(|last| last.inode == inode && last.bytes <= bytes);
        let rotated_bytes = match same {
            Some(last) if last.settled => last.rotated_bytes,
            _ => rotated_bytes(path),
        };
        self.last = Some(Seen { inode, bytes, rotated_bytes, settled: same.is_some() });
        Some(bytes + rotated_bytes)
    }
}

/// Where the log is on the engine's host. `None` for drivers that keep no file.
fn told(driver: &str, log_path: &str, id: &str, engine_root: Option<&Path>) -> Option<PathBuf> {
    match driver {
        "json-file" if !log_path.is_empty() => Some(log_path.into()),
        // Docker does not tell the path of this driver, only writes there.
        "local" => Some(engine_root?.join("containers").join(id).join("local-logs/container.log")),
        _ => None,
    }
}

/// The path below `rootfs`, if each folder on the way is one.
fn locate(rootfs: &Path, told: &Path) -> Option<PathBuf> {
    let mut here = rootfs.to_owned();
    let mut names = told.components();
    if names.next() != Some(Component::RootDir) {
        return None;
    }
    let mut names = names.peekable();
    while let Some(name) = names.next() {
        let Component::Normal(name) = name else { return None };
        here.push(name);
        if names.peek().is_some() && !fs::symlink_metadata(&here).is_ok_and(|found| found.is_dir()) {
            return None;
        }
    }
    Some(here)
}

/// The sum of `NAME.1`, `NAME.2.gz` and so on beside the file.
fn rotated_bytes(path: &Path) -> u64 {
    let (Some(folder), Some(name)) = (path.parent(), path.file_name().and_then(|name| name.to_str())) else { return 0 };
    let Ok(entries) = fs::read_dir(folder) else { return 0 };
    let is_rotated = |entry: &fs::DirEntry| {
        entry.file_name().to_str().and_then(|found| found.strip_prefix(name)).is_some_and(is_rotation)
    };
    let rotated = entries.take(MOST_FILES).flatten().filter(is_rotated);
    // The entry's own metadata: a link is not followed.
    let sizes = rotated.filter_map(|entry| entry.metadata().ok()).filter(fs::Metadata::is_file).map(|file| file.len());
    sizes.fold(0, u64::saturating_add)
}

/// Whether this is what a rotated file has after the log's name.
fn is_rotation(rest: &str) -> bool {
    let Some(number) = rest.strip_prefix('.') else { return false };
    let number = number.strip_suffix(".gz").unwrap_or(number);
    !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use proptest::prelude::*;

    use super::*;

    /// A host's root with one container's folder.
    struct Host {
        root: tempfile::TempDir,
        log: LogFile,
    }

    const PATH: &str = "/var/lib/docker/containers/c1/c1-json.log";

    impl Host {
        fn new() -> Host {
            let host = Host { root: tempfile::tempdir().unwrap(), log: LogFile::default() };
            fs::create_dir_all(host.folder()).unwrap();
            host
        }

        fn write(&self, path: &str, bytes: usize) {
            fs::write(self.folder().join(path), vec![b'x'; bytes]).unwrap();
        }

        fn folder(&self) -> PathBuf {
            self.root.path().join("var/lib/docker/containers/c1")
        }

        fn bytes(&mut self) -> Option<u64> {
            self.log.bytes_at(PATH.into(), None, self.root.path())
        }
    }

    #[test]
    fn the_file_grows_and_is_rotated() {
        let mut host = Host::new();
        assert_eq!(host.bytes(), None, "nothing was written yet");
        host.write("c1-json.log", 10);
        host.write("c1-json.log.2.gz", 3);
        assert_eq!(host.bytes(), Some(13));
        host.write("c1-json.log", 25);
        assert_eq!(host.bytes(), Some(28));
        // What appears without a rotation is not looked for.
        host.write("c1-json.log.7", 1000);
        assert_eq!(host.bytes(), Some(28));
        fs::remove_file(host.folder().join("c1-json.log.7")).unwrap();
        fs::rename(host.folder().join("c1-json.log"), host.folder().join("c1-json.log.1")).unwrap();
        host.write("c1-json.log", 4);
        assert_eq!(host.bytes(), Some(4 + 25 + 3));
        // It is compressed a moment later.
        fs::remove_file(host.folder().join("c1-json.log.1")).unwrap();
        host.write("c1-json.log.1.gz", 5);
        host.write("c1-json.log", 6);
        assert_eq!(host.bytes(), Some(6 + 5 + 3));
        // Emptied by hand.
        host.write("c1-json.log", 0);
        assert_eq!(host.bytes(), Some(8));
    }

    #[test]
    fn the_local_driver_has_a_place_of_its_own_and_others_have_none() {
        let root = Path::new("/mnt/ssd/docker");
        let check = |driver: &str, path: &str, root: Option<&Path>, expected: Option<&str>| {
            assert_eq!(told(driver, path, "c1", root).as_deref(), expected.map(Path::new), "{driver}");
        };
        check("json-file", PATH, None, Some(PATH));
        check("json-file", "", Some(root), None); // never started
        check("local", "", Some(root), Some("/mnt/ssd/docker/containers/c1/local-logs/container.log"));
        check("local", "", None, None);
        check("journald", "", Some(root), None);
        check("none", "", Some(root), None);
    }

    #[test]
    fn no_link_is_followed() {
        let outside = tempfile::NamedTempFile::new().unwrap();
        fs::write(outside.path(), "secret").unwrap();
        let mut host = Host::new();
        symlink(outside.path(), host.folder().join("c1-json.log")).unwrap();
        assert_eq!(host.bytes(), None);
        fs::remove_file(host.folder().join("c1-json.log")).unwrap();
        host.write("c1-json.log", 3);
        symlink(outside.path(), host.folder().join("c1-json.log.1")).unwrap();
        assert_eq!(host.bytes(), Some(3));

        let mut moved = Host::new();
        moved.write("c1-json.log", 3);
        let docker = moved.root.path().join("var/lib/docker");
        fs::rename(&docker, moved.root.path().join("elsewhere")).unwrap();
        symlink(moved.root.path().join("elsewhere"), &docker).unwrap();
        assert_eq!(moved.bytes(), None, "a folder on the way is a link");
    }

    #[test]
    fn paths_are_absolute_and_go_down() {
        let root = Path::new("/");
        for wrong in ["", "proc", "/proc/../etc/passwd", "../etc", "/nonexistent/file"] {
            assert_eq!(locate(root, Path::new(wrong)), None, "{wrong}");
        }
        assert_eq!(locate(root, Path::new("/proc/stat")).as_deref(), Some(Path::new("/proc/stat")));
    }

    #[test]
    fn a_rotated_file_has_a_number() {
        for (rest, expected) in [
            (".1", true),
            (".12.gz", true),
            ("", false),
            (".", false),
            (".gz", false),
            (".1.tmp", false),
            (".old", false),
            ("1", false),
        ] {
            assert_eq!(is_rotation(rest), expected, "{rest}");
        }
    }

    proptest! {
        /// Whatever path Docker tells: what is found is the path itself below the root, and no link was on the way.
        #[test]
        fn no_path_leads_out_of_the_root(told in "(/|//)?((a|b|up|\\.|\\.\\.|f|ä)(/|//)?){0,6}", odd in any::<String>()) {
            let outside = tempfile::tempdir().unwrap();
            fs::create_dir_all(outside.path().join("a/b")).unwrap();
            fs::write(outside.path().join("f"), "secret").unwrap();
            let host = tempfile::tempdir().unwrap();
            let root = host.path().canonicalize().unwrap();
            fs::create_dir_all(root.join("a/b/a/b")).unwrap();
            fs::write(root.join("a/f"), "log").unwrap();
            symlink(outside.path(), root.join("up")).unwrap();
            symlink(outside.path(), root.join("a/up")).unwrap();
            symlink(outside.path().join("f"), root.join("a/b/f")).unwrap();
            for told in [told.clone(), odd.clone(), format!("/{odd}"), format!("/a/{told}")] {
                if let Some(here) = locate(&root, Path::new(&told)) {
                    let below = here.strip_prefix(&root).unwrap().components();
                    prop_assert!(below.clone().all(|name| matches!(name, Component::Normal(_))), "{told:?}");
                    prop_assert!(below.eq(Path::new(&told).components().skip(1)), "{told:?}");
                    if here != root {
                        let folder = here.parent().unwrap();
                        prop_assert_eq!(folder.canonicalize().unwrap(), folder, "{:?}", told);
                    }
                }
                let found = LogFile::default().bytes_at(told.clone().into(), None, &root);
                prop_assert!(found.is_none_or(|bytes| bytes == 3), "{told:?}: {found:?}");
            }
        }

        #[test]
        fn rotations_never_panic(rest in any::<String>(), number in any::<u64>(), suffix in "(\\.gz)?") {
            is_rotation(&rest);
            let rotated = format!(".{number}{suffix}");
            prop_assert!(is_rotation(&rotated));
        }
    }
}
