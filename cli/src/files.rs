//! Files that are whole or absent: written beside their place, flushed to disk, then renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use anyhow::{Context, Result};

/// Who a file belongs to and who may read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Access {
    pub mode: u32,
    /// uid and gid; `None` leaves them to the process.
    pub owner: Option<(u32, u32)>,
}

/// Writes `content` so that a reader, or a power cut, sees the old file or the new one and nothing between.
pub fn write_atomically(path: &Path, content: &[u8], access: Access) -> Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().context("a file needs a name")?.to_string_lossy();
    let temporary = folder.join(format!(".{name}.{}.tmp", std::process::id()));
    let written = write_through(&temporary, path, folder, content, access);
    if written.is_err() {
        // What is left over is only in the way; the error that counts is the first one.
        let _ = fs::remove_file(&temporary);
    }
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn write_through(temporary: &Path, path: &Path, folder: &Path, content: &[u8], access: Access) -> io::Result<()> {
    // What is left of an earlier try goes, and a link that somebody has laid there is not followed.
    let _ = fs::remove_file(temporary);
    // 0600 until the owner is right, whatever the file may become.
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(temporary)?;
    file.write_all(content)?;
    if let Some((uid, gid)) = access.owner {
        std::os::unix::fs::fchown(&file, Some(uid), Some(gid))?;
    }
    file.set_permissions(fs::Permissions::from_mode(access.mode))?;
    file.sync_all()?;
    fs::rename(temporary, path)?;
    File::open(folder)?.sync_all()
}

/// Creates a folder, and those above it, unless it is there. Sets mode and owner of the last one only, and only when
/// it had to be made or they differ.
pub fn make_folder(path: &Path, access: Access) -> Result<()> {
    let make = || -> io::Result<()> {
        fs::create_dir_all(path)?;
        let found = fs::metadata(path)?;
        if found.mode() & 0o7777 != access.mode {
            fs::set_permissions(path, fs::Permissions::from_mode(access.mode))?;
        }
        match access.owner {
            Some(owner) if owner != (found.uid(), found.gid()) => {
                std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))
            }
            _ => Ok(()),
        }
    };
    make().with_context(|| format!("cannot make the folder {}", path.display()))
}

/// Reads a text of at most `limit` bytes; `None` when there is no such file.
pub fn read_text(path: &Path, limit: u64) -> Result<Option<String>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", path.display())),
    };
    let mut text = String::new();
    file.take(limit + 1).read_to_string(&mut text).with_context(|| format!("cannot read {}", path.display()))?;
    if text.len() as u64 > limit {
        anyhow::bail!("{} is larger than {limit} bytes", path.display());
    }
    Ok(Some(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_replaced_whole_with_its_mode_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x");
        for (content, mode) in [("one", 0o600), ("two", 0o644)] {
            write_atomically(&path, content.as_bytes(), Access { mode, owner: None }).unwrap();
            assert_eq!(read_text(&path, 100).unwrap().as_deref(), Some(content));
            assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, mode);
        }
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn errors_name_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("missing/x");
        let error = write_atomically(&path, b"", Access { mode: 0o600, owner: None }).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot write {}", path.display()));
        fs::write(folder.path().join("big"), "12345").unwrap();
        assert!(read_text(&folder.path().join("big"), 4).unwrap_err().to_string().contains("larger than 4 bytes"));
        assert_eq!(read_text(&path, 4).unwrap(), None);
    }
}
