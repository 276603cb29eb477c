//! A file system of a test's own, which may become full.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

/// An ext4 in a file, mounted until it is dropped.
pub struct Mounted {
    folder: tempfile::TempDir,
}

impl Mounted {
    /// The reason where nothing can be mounted.
    pub fn new(bytes: u64) -> Result<Self, String> {
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let image = folder.path().join("image");
        std::fs::File::create(&image).and_then(|file| file.set_len(bytes)).map_err(|error| error.to_string())?;
        let mounted = Self { folder };
        std::fs::create_dir(mounted.path()).map_err(|error| error.to_string())?;
        // No blocks for root: what df shows is what there is.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0"]).arg(&image))?;
        run(Command::new("mount").args(["-o", "loop"]).arg(&image).arg(mounted.path()))?;
        Ok(mounted)
    }

    pub fn path(&self) -> PathBuf {
        self.folder.path().join("mount")
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Lazily: a failed test leaves somebody behind who has a file open.
        _ = Command::new("umount").arg("-l").arg(self.path()).stderr(std::process::Stdio::null()).status();
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let name = command.get_program().to_string_lossy().into_owned();
    let output = command.output().map_err(|error| format!("{name}: {error}"))?;
    let why = String::from_utf8_lossy(&output.stderr).trim().replace('\n', " ");
    if output.status.success() { Ok(()) } else { Err(format!("{name} can't be used here: {why}")) }
}

/// What df calls available, in bytes.
pub fn available(folder: &Path) -> u64 {
    let found = rustix::fs::statvfs(folder).unwrap();
    found.f_bavail * found.f_frsize
}
