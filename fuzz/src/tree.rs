//! The exporter's fixture trees in a folder that may be written to, with the files that matter to each collector.

use std::fs;
use std::io;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::time::Duration;

use jiff::Timestamp;
use nexus_exporter::collect::filesystem::{Answer, Usage};
use nexus_exporter::collect::rpi_firmware::Message;
use nexus_exporter::collect::timex::Timex;
use nexus_exporter::collect::{Access, Calls, Collector, DockerState, Kept, Reader, Roots};
use nexus_exporter::exposition::Format;
use nexus_exporter::settings::Settings;
use nexus_exporter::snapshot::{Outcome, Snapshot};

use crate::engine::Engine;

/// A fixture tree, and the host that it plays.
pub struct Tree {
    pub name: String,
    folder: PathBuf,
    roots: Roots,
    settings: Settings,
    docker: DockerState,
}

/// A file that changes what a collector tells.
pub struct Matter {
    /// The place of its tree in the list.
    pub tree: usize,
    pub collector: Collector,
    pub path: PathBuf,
    pub content: Vec<u8>,
    /// Stays the same when other files come and go, so that inputs keep their meaning.
    pub key: u32,
}

/// For a file system of which nothing is known.
#[expect(clippy::ptr_arg, reason = "the type of `Ask`")]
fn statfs(path: &PathBuf) -> io::Result<Answer> {
    let usage = Usage { size: 1 << 40, free: 1 << 39, available: 1 << 38, files: 1000, files_free: 400 };
    let number = path.as_os_str().len() as u32;
    Ok(Answer { usage, major: 8, minor: number })
}

/// A Raspberry Pi's firmware whose device is a file: each message is answered by the next line, from the status on that comes
/// before the text.
fn mailbox(device: &Path, messages: &mut [Message]) -> io::Result<()> {
    let answers = fs::read(device)?;
    let lines: Vec<&[u8]> = answers.split(|byte| *byte == b'\n').collect();
    for (message, line) in messages.iter_mut().zip(lines.iter().cycle()) {
        let (first, text) = line.split_first().unwrap_or((&b' ', b""));
        message.passed = Some(match first {
            b'!' => Err(io::ErrorKind::TimedOut.into()),
            b'?' => Err(io::ErrorKind::PermissionDenied.into()),
            _ => Ok(()),
        });
        message.words[4] = u32::from(*first) << 25 | message.words[3];
        message.words[5..].fill(0);
        for (word, bytes) in message.words[6..].iter_mut().zip(text.chunks(4)) {
            let mut four = [0; 4];
            four[..bytes.len()].copy_from_slice(bytes);
            *word = u32::from_ne_bytes(four);
        }
    }
    Ok(())
}

const ANSWERS: &str = "@throttled=0x50000\n@volt=0.8438V\n@frequency(48)=1800404352\n@volt=1.1000V\n";

const CALLS: Calls = Calls { statfs, page_size: || 16384, adjtimex: || Ok(Timex::default()), mailbox };

impl Tree {
    fn open(fixture: &Path, folder: PathBuf) -> Tree {
        copy(fixture, &folder).expect("a fixture tree can be copied");
        let roots = Roots {
            procfs: folder.join("proc"),
            sysfs: folder.join("sys"),
            rootfs: folder.join("root"),
            udev_data: folder.join("udev"),
        };
        fs::create_dir_all(folder.join("root/dev")).expect("the copy can be changed");
        for device in ["vcio", "vcio_gencmd"] {
            fs::write(folder.join("root/dev").join(device), ANSWERS).expect("the copy can be changed");
        }
        // With all that is off by default.
        let settings = Settings { cpu_info: true, stat_softirq: true, ..Settings::defaults() };
        let name = fixture.file_name().unwrap_or_default().to_string_lossy().into_owned();
        Tree { name, docker: Engine::start(&fixture.join("docker.json")).state(), folder, roots, settings }
    }

    pub fn path(&self, file: &Path) -> PathBuf {
        self.folder.join(file)
    }

    /// What one collector says of the tree as it is.
    pub fn look(&self, collector: Collector, kept: &Kept, reader: &mut Reader) -> Snapshot {
        let now = Timestamp::from_second(1_767_326_400).unwrap_or_default();
        let (roots, settings, docker) = (&self.roots, &self.settings, &self.docker);
        let mut access = Access { roots, settings, calls: CALLS, docker, now, reader };
        let (found, fault) = match collector.read(&mut access, kept) {
            Ok(found) => (vec![found], None),
            Err(fault) => (Vec::new(), Some(fault)),
        };
        let outcomes = vec![Outcome { collector, took: Duration::ZERO, fault }];
        Snapshot { outcomes, found, process: None, web_config_ok: None }
    }

    fn look_at_all(&self) -> Vec<String> {
        let mut reader = Reader::default();
        let look = |collector: &Collector| self.look(*collector, &Kept::default(), &mut reader).render(Format::Text);
        collectors().iter().map(look).collect()
    }
}

/// All but those that read no file of a tree.
fn collectors() -> Vec<Collector> {
    let others = ["systemd", "textfile"];
    Collector::ALL.iter().copied().filter(|collector| !others.contains(&collector.name())).collect()
}

/// Copies of all trees below `folder`.
pub fn trees(folder: &Path) -> Vec<Tree> {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exporter/fixtures");
    let mut found: Vec<PathBuf> = fs::read_dir(fixtures)
        .expect("there are fixtures")
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.join("proc").is_dir())
        .collect();
    found.sort();
    found.iter().map(|fixture| Tree::open(fixture, folder.join(fixture.file_name().unwrap_or_default()))).collect()
}

/// What matters, by trying: without the file, or with something else in it, the collector says something else. Sorted by key.
pub fn matters(trees: &[Tree]) -> Vec<Matter> {
    let mut matters = Vec::new();
    for (place, tree) in trees.iter().enumerate() {
        let (before, again) = (tree.look_at_all(), tree.look_at_all());
        let mut files = Vec::new();
        list(&tree.folder, Path::new(""), &mut files).expect("the copy can be listed");
        files.sort();
        for file in files {
            let path = tree.path(&file);
            let content = fs::read(&path).expect("the copy can be read");
            fs::remove_file(&path).expect("the copy can be changed");
            let without = tree.look_at_all();
            fs::write(&path, b"7\n").expect("the copy can be changed");
            let other = tree.look_at_all();
            fs::write(&path, &content).expect("the copy can be changed");
            for (at, collector) in collectors().into_iter().enumerate() {
                // What says something else at each look tells nothing of the file.
                let is_steady = before[at] == again[at];
                if is_steady && (without[at] != before[at] || other[at] != before[at]) {
                    let key = key(&[&tree.name, collector.name(), &file.to_string_lossy()]);
                    matters.push(Matter { tree: place, collector, path: file.clone(), content: content.clone(), key });
                }
            }
        }
    }
    matters.sort_by_key(|matter| matter.key);
    matters
}

/// FNV-1a.
fn key(words: &[&str]) -> u32 {
    words.join(" ").bytes().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193))
}

fn list(root: &Path, below: &Path, files: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(root.join(below))?.flatten() {
        let (kind, path) = (entry.file_type()?, below.join(entry.file_name()));
        if kind.is_dir() {
            list(root, &path, files)?;
        } else if kind.is_file() && path != Path::new("docker.json") {
            files.push(path);
        }
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)?.flatten() {
        let (kind, target) = (entry.file_type()?, to.join(entry.file_name()));
        if kind.is_dir() {
            copy(&entry.path(), &target)?;
        } else if kind.is_symlink() {
            symlink(fs::read_link(entry.path())?, target)?;
        } else {
            fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::scratch;

    /// A collector without a file that matters would never be fed by the target `collectors`.
    #[test]
    fn each_collector_that_reads_files_has_some_that_matter() {
        let copies = scratch();
        let trees = trees(copies.path());
        let fed: BTreeSet<_> = matters(&trees).iter().map(|matter| matter.collector.name()).collect();
        let missing: BTreeSet<_> =
            Collector::ALL.iter().map(|collector| collector.name()).filter(|name| !fed.contains(name)).collect();
        // Docker, a bus, files of others and a call of the kernel: targets of their own, or nothing to parse.
        assert_eq!(missing, ["docker", "docker_disk", "systemd", "textfile", "timex"].into());
    }
}
