//! Small files that are read again when they have changed.

use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ring::digest::{SHA256, digest};

/// No configuration, certificate or key is larger; a larger file is a wrong path.
const SIZE_LIMIT: u64 = 1024 * 1024;

/// As coarse as the times of a file system are: FAT's, which a Pi boots from. A file that changed less than this before it was
/// read may change again and look the same.
const COARSEST_CLOCK: Duration = Duration::from_secs(2);

/// The files that were read together.
#[derive(Debug, Default)]
pub(crate) struct Files(Vec<Seen>);

#[derive(Debug)]
struct Seen {
    path: PathBuf,
    /// Before it was read. `None`: it could not be looked at.
    stamp: Option<Stamp>,
    read: SystemTime,
    /// `None`: it could not be read.
    content: Option<[u8; 32]>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    /// Moves with whatever is done to the file, its permissions included.
    changed: (i64, i64),
}

impl Files {
    pub fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let stamp = Stamp::of(path);
        let bytes = read(path);
        let content = bytes.as_ref().ok().and_then(|bytes| <[u8; 32]>::try_from(digest(&SHA256, bytes).as_ref()).ok());
        self.0.push(Seen { path: path.to_owned(), stamp, read: SystemTime::now(), content });
        bytes
    }

    /// Whether one of them may have changed since it was read. A few calls to the kernel.
    pub fn may_have_changed(&self) -> bool {
        self.0.iter().any(|seen| {
            let stamp = Stamp::of(&seen.path);
            stamp != seen.stamp || stamp.is_some_and(|stamp| stamp.is_fresh_at(seen.read))
        })
    }

    /// Whether the same was read from the same files.
    pub fn are_the_same(&self, others: &Files) -> bool {
        let contents =
            |files: &Files| -> Vec<_> { files.0.iter().map(|seen| (seen.path.clone(), seen.content)).collect() };
        contents(self) == contents(others)
    }
}

impl Stamp {
    fn of(path: &Path) -> Option<Stamp> {
        let file = std::fs::metadata(path).ok()?;
        Some(Stamp {
            device: file.dev(),
            inode: file.ino(),
            size: file.size(),
            modified: (file.mtime(), file.mtime_nsec()),
            changed: (file.ctime(), file.ctime_nsec()),
        })
    }

    fn is_fresh_at(&self, moment: SystemTime) -> bool {
        let moment = moment.duration_since(UNIX_EPOCH).unwrap_or_default();
        let changed = Duration::from_secs(u64::try_from(self.changed.0).unwrap_or_default());
        changed + COARSEST_CLOCK > moment
    }
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    // Anything else might never end.
    if !std::fs::metadata(path)?.is_file() {
        return Err(io::Error::other("this is no regular file"));
    }
    let mut bytes = Vec::new();
    std::fs::File::open(path)?.take(SIZE_LIMIT + 1).read_to_end(&mut bytes)?;
    if bytes.len() as u64 > SIZE_LIMIT {
        return Err(io::Error::other("this is larger than 1 MiB, and can't be the file that was meant"));
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_are_seen() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let read = || {
            let mut files = Files::default();
            _ = files.read(&path);
            files
        };
        let missing = read();
        assert!(!missing.may_have_changed());
        std::fs::write(&path, "one").unwrap();
        assert!(missing.may_have_changed());

        let fresh = read();
        assert!(fresh.may_have_changed(), "it could change again within one tick");
        assert!(fresh.are_the_same(&read()) && !fresh.are_the_same(&missing));
        std::fs::write(&path, "two").unwrap();
        assert!(!fresh.are_the_same(&read()), "of the same length");

        let mut old = read();
        old.0[0].read += Duration::from_secs(60);
        assert!(!old.may_have_changed());
        std::fs::rename(folder.path().join("file"), folder.path().join("other")).unwrap();
        assert!(old.may_have_changed());
    }

    #[test]
    fn what_is_no_file_of_ours_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let mut files = Files::default();
        assert!(files.read(folder.path()).unwrap_err().to_string().contains("no regular file"));
        assert!(files.read(Path::new("/dev/zero")).unwrap_err().to_string().contains("no regular file"));
        let path = folder.path().join("large");
        std::fs::File::create(&path).unwrap().set_len(SIZE_LIMIT + 1).unwrap();
        assert!(files.read(&path).unwrap_err().to_string().contains("larger than 1 MiB"));
        assert_eq!(files.read(&folder.path().join("none")).unwrap_err().kind(), io::ErrorKind::NotFound);
    }
}
