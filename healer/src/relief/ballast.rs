//! A file that takes up room on the healer's disk as long as there is plenty, to be given back the moment there is none: what
//! writes then goes on for as long as it takes to stop it.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
};

/// Beside the journal.
pub fn path(journal: &Path) -> PathBuf {
    journal.with_file_name("ballast")
}

/// How large the one that is there is; 0 when there is none. What takes up no room, since the file system keeps holes, is none.
pub fn size(path: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt as _;
    fs::metadata(path).map_or(0, |found| found.len().min(found.blocks().saturating_mul(512)))
}

/// What to do about it while there is no trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    Nothing,
    /// It has another size than the policy says, or is not wanted any more.
    Remove,
    Make,
}

/// `available` and `total` of the file system in bytes. Made only when three times its size is there, and when there is plenty
/// afterwards.
pub fn wanted(size: u64, policy: u64, available: u64, plenty: u64) -> Wanted {
    // File systems count in blocks.
    if policy > 0 && size.abs_diff(policy) <= policy / 100 {
        return Wanted::Nothing;
    }
    if size > 0 {
        return Wanted::Remove;
    }
    let room = policy.saturating_mul(3).max(policy.saturating_add(plenty));
    if policy > 0 && available >= room { Wanted::Make } else { Wanted::Nothing }
}

/// Takes the room for real: nothing is written, and no hole is left. What can't be made leaves nothing behind.
pub fn make(path: &Path, size: u64) -> io::Result<()> {
    let made = (|| {
        let file = File::create(path)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, size)?;
        file.sync_all()
    })();
    if made.is_err() {
        // The first error is the one to tell.
        _ = remove(path);
    }
    made
}

/// Gives it back. One that is gone already is as good.
pub fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_only_where_there_is_room() {
        let check = |size, policy, available, expected| assert_eq!(wanted(size, policy, available, 150), expected);
        check(0, 0, 1000, Wanted::Nothing);
        check(0, 100, 300, Wanted::Make);
        check(0, 100, 299, Wanted::Nothing);
        // Three times its size, and not plenty afterwards.
        check(0, 50, 190, Wanted::Nothing);
        check(0, 50, 200, Wanted::Make);
        check(100, 100, 0, Wanted::Nothing);
        // Another size, or none any more.
        check(100, 200, 1000, Wanted::Remove);
        check(100, 0, 1000, Wanted::Remove);
        check(0, u64::MAX, u64::MAX - 1, Wanted::Nothing);
    }

    #[test]
    fn it_takes_room_and_gives_it_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = path(&folder.path().join("journal.db"));
        assert_eq!(size(&path), 0);
        make(&path, 1 << 20).unwrap();
        assert_eq!(size(&path), 1 << 20);
        // A hole is no ballast.
        File::create(&path).unwrap().set_len(1 << 20).unwrap();
        assert_eq!(size(&path), 0);
        remove(&path).unwrap();
        remove(&path).unwrap();
        assert_eq!(size(&path), 0);
        let nowhere = folder.path().join("nowhere/ballast");
        assert!(make(&nowhere, 1).is_err());
        // More than the file system has: told, and nothing is left.
        assert!(make(&path, 1 << 60).is_err());
        assert!(!path.exists());
    }
}
