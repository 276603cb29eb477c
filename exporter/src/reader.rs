//! Reading the small files of /proc, /sys and the control groups, which change with each look and know no size.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::buffer::spare_capacity;
use rustix::fs::{Mode, OFlags, PROC_SUPER_MAGIC};
use rustix::io::Errno;
use rustix::process::{Resource, Rlimit};

use crate::collect::CollectError;

/// No file read here is near this size; what is larger is not what it should be, and is cut.
const FILE_LIMIT: u64 = 4 << 20;

/// Room for one read: kernel files give all they have in one when there is room for it.
const ONE_READ: usize = 16 * 1024;

/// Half of the smallest page: see [`Extent::ShortLines`].
const HALF_PAGE: usize = 2048;

/// Reads files into one buffer: an open, two reads and a close each. Those of /proc that are about the whole host stay
/// open: there are some dozens, read in each scrape, and to find, open and close one costs more than to read it.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
    /// By path.
    of_the_host: HashMap<OsString, KeptFile>,
    /// A file could not be opened since this process has too many open.
    is_starved: bool,
}

impl Reader {
    pub fn bytes(&mut self, path: &Path) -> io::Result<&[u8]> {
        // Taken out while one of them is read into the buffer beside them.
        let mut of_the_host = std::mem::take(&mut self.of_the_host);
        let read = of_the_host.get_mut(path.as_os_str()).map(|kept| kept.refill(self));
        if let Some(Err(_)) = read {
            of_the_host.remove(path.as_os_str());
        }
        self.of_the_host = of_the_host;
        if let Some(read) = read {
            return read.map(|()| self.buffer.as_slice());
        }
        self.buffer.clear();
        self.buffer.reserve(ONE_READ);
        let mut file = self.open(path)?;
        // `take` keeps `read_to_end` from asking for the size, which such files don't know.
        (&mut file).take(FILE_LIMIT).read_to_end(&mut self.buffer)?;
        if self.of_the_host.len() < MOST_OF_THE_HOST && is_of_the_host(path, &file) {
            let kept = KeptFile { file: Kept::new(file).ok(), ..KeptFile::of_list(path.to_owned()) };
            self.of_the_host.insert(path.as_os_str().to_owned(), kept);
        }
        Ok(&self.buffer)
    }

    /// As text; bytes that are no UTF-8 become U+FFFD, so that a parser meets them as any other surprise.
    pub fn text(&mut self, path: &Path) -> io::Result<&str> {
        self.bytes(path)?;
        Ok(self.as_text())
    }

    /// As [`Reader::text`], with the path in the error.
    pub fn require(&mut self, path: &Path) -> Result<&str, CollectError> {
        self.text(path).map_err(|source| CollectError::Read { path: path.to_owned(), source })
    }

    /// A number alone in its file.
    pub fn number<T: std::str::FromStr>(&mut self, path: &Path) -> Option<T> {
        self.text(path).ok()?.trim().parse().ok()
    }

    /// An attribute of sysfs, which the kernel makes in one piece: an open, a read and a close.
    pub fn text_in(&mut self, folder: &Folder, name: &str) -> io::Result<&str> {
        let file = rustix::fs::openat(&folder.0, name, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
        let file = file.map_err(|errno| self.noticed(errno.into()))?;
        self.buffer.clear();
        self.buffer.reserve(ONE_READ);
        rustix::io::retry_on_intr(|| rustix::io::read(&file, spare_capacity(&mut self.buffer)))?;
        Ok(self.as_text())
    }

    /// Whether, since [`Reader::start_anew`], a file could not be opened because too many were.
    pub fn is_starved(&self) -> bool {
        self.is_starved
    }

    pub fn start_anew(&mut self) {
        self.is_starved = false;
    }

    fn open(&mut self, path: &Path) -> io::Result<File> {
        File::open(path).map_err(|error| self.noticed(error))
    }

    fn noticed(&mut self, error: io::Error) -> io::Error {
        if matches!(Errno::from_io_error(&error), Some(Errno::MFILE | Errno::NFILE)) {
            self.is_starved = true;
            keep_fewer(&KEPT, &MOST_KEPT);
        }
        error
    }

    fn as_text(&mut self) -> &str {
        if std::str::from_utf8(&self.buffer).is_err() {
            self.buffer = String::from_utf8_lossy(&self.buffer).into_owned().into_bytes();
        }
        std::str::from_utf8(&self.buffer).unwrap_or_default()
    }
}

/// More than all collectors read.
const MOST_OF_THE_HOST: usize = 128;

/// Whether the file is one of /proc, and not of a process that may end: those of the first process are the host's.
fn is_of_the_host(path: &Path, file: &File) -> bool {
    let is_process = |name: &OsStr| name != "1" && name.as_encoded_bytes().iter().all(u8::is_ascii_digit);
    !path.iter().any(is_process) && rustix::fs::fstatfs(file).is_ok_and(|of| of.f_type == PROC_SUPER_MAGIC)
}

/// A folder whose files are read one after the other, which saves walking its path for each.
#[derive(Debug)]
pub struct Folder(OwnedFd);

impl Folder {
    pub fn open(path: &Path, reader: &mut Reader) -> io::Result<Folder> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        rustix::fs::open(path, flags, Mode::empty()).map(Folder).map_err(|errno| reader.noticed(errno.into()))
    }
}

/// A file that is kept open between scrapes and read from its start each time: that saves walking its path, opening and
/// closing it, which cost more than most reads. A file that has been removed is looked for anew once.
///
/// Costs a descriptor, and the kernel a page. For files of which a scrape reads hundreds, not for those it reads one of.
/// When there are as many kept files as there may be, further ones are opened and closed at each reading: slower, and
/// nothing else.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    file: Option<Kept>,
    extent: Extent,
}

/// How much of a file comes in one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it: the kernel makes it in one piece. Nearly all files of control groups and of sysfs are such.
    OneRead,
    /// A list that the kernel makes line by line, and hands out a page at a time.
    List,
    /// Such a list with lines shorter than half a page. A read ends early only at a line that does not fit into what is
    /// left of the page, so one that gave less than half a page has given all. Spares the read that finds the end,
    /// for which the kernel goes through the list again.
    ShortLines,
}

impl KeptFile {
    pub fn new(path: PathBuf) -> KeptFile {
        KeptFile::with(path, Extent::OneRead)
    }

    /// One whose lines the kernel makes one by one.
    pub fn of_list(path: PathBuf) -> KeptFile {
        KeptFile::with(path, Extent::List)
    }

    /// Such a one whose lines never are longer than two thousand bytes: cgroup.procs, /proc/PID/net/dev.
    pub fn of_short_lines(path: PathBuf) -> KeptFile {
        KeptFile::with(path, Extent::ShortLines)
    }

    fn with(mut path: PathBuf, extent: Extent) -> KeptFile {
        // There are thousands, and a path that was joined has room for as much again.
        path.shrink_to_fit();
        KeptFile { path, file: None, extent }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn bytes<'r>(&mut self, reader: &'r mut Reader) -> io::Result<&'r [u8]> {
        self.refill(reader)?;
        Ok(&reader.buffer)
    }

    fn refill(&mut self, reader: &mut Reader) -> io::Result<()> {
        let was_open = self.file.is_some();
        match self.fill(reader) {
            // Removed, and perhaps made anew: ENODEV for a control group, ESRCH or EINVAL for a process.
            Err(_) if was_open => {
                self.file = None;
                self.fill(reader)
            }
            filled => filled,
        }
    }

    pub fn text<'r>(&mut self, reader: &'r mut Reader) -> io::Result<&'r str> {
        self.bytes(reader)?;
        Ok(reader.as_text())
    }

    /// A number alone in the file.
    pub fn number<T: std::str::FromStr>(&mut self, reader: &mut Reader) -> Option<T> {
        self.text(reader).ok()?.trim().parse().ok()
    }

    fn fill(&mut self, reader: &mut Reader) -> io::Result<()> {
        let passing;
        let file = match &self.file {
            Some(kept) => &kept.0,
            None => match Kept::new(reader.open(&self.path)?) {
                Ok(kept) => &self.file.insert(kept).0,
                Err(file) => {
                    passing = file;
                    &passing
                }
            },
        };
        let buffer = &mut reader.buffer;
        buffer.clear();
        loop {
            buffer.reserve(ONE_READ);
            let (room, offset) = (buffer.capacity() - buffer.len(), buffer.len() as u64);
            match rustix::io::retry_on_intr(|| rustix::io::pread(file, spare_capacity(buffer), offset)) {
                Ok(count) if self.extent.is_all(count, room, buffer.len()) => break,
                Ok(_) if buffer.len() as u64 >= FILE_LIMIT => break,
                Ok(_) => (),
                Err(errno) => {
                    self.file = None;
                    return Err(errno.into());
                }
            }
        }
        if KEPT.load(Ordering::Relaxed) > MOST_KEPT.load(Ordering::Relaxed) {
            self.file = None;
        }
        Ok(())
    }
}

impl Extent {
    /// Whether a read of `count` bytes, for which there was `room`, makes `filled` bytes the whole file.
    fn is_all(self, count: usize, room: usize, filled: usize) -> bool {
        count == 0
            || match self {
                // What fills the room to its end may go on even when it should come in one read.
                Extent::OneRead => count < room,
                Extent::ShortLines => filled < HALF_PAGE,
                Extent::List => false,
            }
    }
}

/// An open file among those that are kept.
#[derive(Debug)]
struct Kept(File);

/// How many are kept, of all that this process may have open: one limit for all threads, so a count for all of them.
static KEPT: AtomicUsize = AtomicUsize::new(0);
/// How many may be. Until [`raise_file_limit`] has said it, what is right for the limit that systems start programs with.
static MOST_KEPT: AtomicUsize = AtomicUsize::new(most_kept(1024));

/// For connections, Docker's socket and the files that are read one at a time.
const FILES_FOR_THE_REST: usize = 256;

/// What the kernel may spend on kept files: it holds a page for each to write into (seq_file), 4 KiB on most hosts and
/// 16 KiB on a Raspberry Pi 5. It counts against the memory limit of the exporter's container.
const KEPT_MEMORY: usize = 32 << 20;

const fn most_kept(file_limit: usize) -> usize {
    if file_limit >= 2 * FILES_FOR_THE_REST { file_limit - FILES_FOR_THE_REST } else { file_limit / 2 }
}

impl Kept {
    /// Gives the file back when no more may be kept.
    fn new(file: File) -> Result<Kept, File> {
        let most = MOST_KEPT.load(Ordering::Relaxed);
        let one_more = |kept| (kept < most).then_some(kept + 1);
        if KEPT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more).is_ok() {
            return Ok(Kept(file));
        }
        static TOLD: Once = Once::new();
        TOLD.call_once(|| {
            tracing::info!(kept = most, "no more files may be kept open: each scrape opens the others anew");
        });
        Err(file)
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        KEPT.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes all open files that this process is granted: the usual limit of 1024 would do for the kept files of a hundred
/// containers only just. Says how many that are.
pub fn raise_file_limit() -> io::Result<usize> {
    let granted = rustix::process::getrlimit(Resource::Nofile);
    rustix::process::setrlimit(Resource::Nofile, Rlimit { current: granted.maximum, ..granted })?;
    let limit = granted.maximum.map_or(usize::MAX, |most| usize::try_from(most).unwrap_or(usize::MAX));
    let by_memory = KEPT_MEMORY / rustix::param::page_size().max(1);
    MOST_KEPT.store(most_kept(limit).min(by_memory), Ordering::Relaxed);
    Ok(limit)
}

/// Descriptors have run out, of this process or of the whole host: others need them more. The kept files beyond the new
/// limit are closed as they are read.
fn keep_fewer(kept: &AtomicUsize, most: &AtomicUsize) {
    let half = kept.load(Ordering::Relaxed) / 2;
    if most.fetch_min(half, Ordering::Relaxed) > half {
        tracing::warn!(kept = half, "out of file descriptors: fewer files are kept open from now on");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_that_is_no_utf8_is_still_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), b"a\xffb 1\n").unwrap();
        assert_eq!(Reader::default().text(file.path()).unwrap(), "a\u{FFFD}b 1\n");
        assert_eq!(KeptFile::new(file.path().into()).text(&mut Reader::default()).unwrap(), "a\u{FFFD}b 1\n");
    }

    #[test]
    fn a_kept_file_says_what_is_in_it_now() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        let mut reader = Reader::default();
        let mut one = KeptFile::new(path.clone());
        let (mut list, mut short) = (KeptFile::of_list(path.clone()), KeptFile::of_short_lines(path.clone()));
        assert!(one.text(&mut reader).is_err());
        for text in ["12\n".to_owned(), "7\n".to_owned(), "x".repeat(3 * ONE_READ), String::new(), "y".repeat(ONE_READ)]
        {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(one.text(&mut reader).unwrap(), text);
            assert_eq!(list.text(&mut reader).unwrap(), text);
            assert_eq!(short.text(&mut reader).unwrap(), text);
        }
        assert_eq!(one.number::<u64>(&mut reader), None);
        std::fs::write(&path, " 42\n").unwrap();
        assert_eq!(one.number(&mut reader), Some(42u64));
    }

    #[test]
    fn the_kernels_lists_come_whole() {
        let mut reader = Reader::default();
        let mut kept = KeptFile::of_list("/proc/self/maps".into());
        let first = kept.text(&mut reader).unwrap().lines().count();
        assert!(first > 10 && kept.text(&mut reader).unwrap().ends_with('\n'));
        let mut stat = KeptFile::new("/proc/stat".into());
        assert!(stat.text(&mut reader).unwrap().contains("\nbtime "));
        assert!(stat.text(&mut reader).unwrap().starts_with("cpu "));
    }

    #[test]
    fn files_of_the_host_stay_open_and_those_of_processes_do_not() {
        let mut reader = Reader::default();
        let own = format!("/proc/{}/stat", std::process::id());
        let ordinary = tempfile::NamedTempFile::new().unwrap();
        for _ in 0..2 {
            assert!(reader.text(Path::new("/proc/stat")).unwrap().starts_with("cpu "));
            assert!(reader.text(Path::new("/proc/1/net/dev")).unwrap().contains("lo:"));
            assert!(!reader.text(Path::new(&own)).unwrap().is_empty());
            assert!(reader.bytes(ordinary.path()).unwrap().is_empty());
            assert!(reader.bytes(Path::new("/proc/nonexistent")).is_err());
        }
        let mut kept: Vec<_> = reader.of_the_host.keys().collect();
        kept.sort();
        assert_eq!(kept, ["/proc/1/net/dev", "/proc/stat"]);
        let before = reader.number::<f64>(Path::new("/proc/uptime"));
        assert!(before.is_none(), "two numbers");
        assert!(reader.text(Path::new("/proc/uptime")).unwrap().contains('.'));
    }

    #[test]
    fn a_file_is_read_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        let mut reader = Reader::default();
        assert!(Folder::open(&folder.path().join("none"), &mut reader).is_err());
        let open = Folder::open(folder.path(), &mut reader).unwrap();
        std::fs::write(folder.path().join("speed"), "1000\n").unwrap();
        assert_eq!(reader.text_in(&open, "speed").unwrap(), "1000\n");
        assert_eq!(reader.text_in(&open, "duplex").unwrap_err().kind(), io::ErrorKind::NotFound);
        assert!(!reader.is_starved());
    }

    #[test]
    fn a_short_list_is_read_once_and_a_long_one_to_its_end() {
        let is_all = |extent: Extent, count, filled| extent.is_all(count, ONE_READ, filled);
        assert!(is_all(Extent::OneRead, 100, 100) && !is_all(Extent::OneRead, ONE_READ, ONE_READ));
        assert!(is_all(Extent::ShortLines, HALF_PAGE - 1, HALF_PAGE - 1));
        assert!(!is_all(Extent::ShortLines, HALF_PAGE, HALF_PAGE));
        // The second read of two.
        assert!(!is_all(Extent::ShortLines, 10, 4090 + 10) && is_all(Extent::ShortLines, 0, 4090));
        assert!(!is_all(Extent::List, 1, 1) && is_all(Extent::List, 0, 1));
    }

    #[test]
    fn when_descriptors_run_out_half_of_the_files_may_stay() {
        let (kept, most) = (AtomicUsize::new(9), AtomicUsize::new(1000));
        keep_fewer(&kept, &most);
        assert_eq!(most.load(Ordering::Relaxed), 4);
        keep_fewer(&kept, &most);
        kept.store(2, Ordering::Relaxed);
        keep_fewer(&kept, &most);
        assert_eq!(most.load(Ordering::Relaxed), 1);
    }

    #[test]
    fn a_part_of_the_limit_is_for_kept_files() {
        for (limit, kept) in [(0, 0), (64, 32), (511, 255), (512, 256), (1024, 768), (usize::MAX, usize::MAX - 256)] {
            assert_eq!(most_kept(limit), kept, "{limit}");
        }
    }
}
