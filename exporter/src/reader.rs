//! Reading the small files of /proc, /sys and the control groups, which change with each look and know no size.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::collect::CollectError;

/// No file read here is near this size; what is larger is not what it should be, and is cut.
const FILE_LIMIT: u64 = 4 << 20;

/// Room for one read: kernel files give all they have in one when there is room for it.
const ONE_READ: usize = 16 * 1024;

/// Reads files into one buffer: an open, two reads and a close each.
#[derive(Debug, Default)]
pub struct Reader {
    buffer: Vec<u8>,
}

impl Reader {
    pub fn bytes(&mut self, path: &Path) -> io::Result<&[u8]> {
        self.buffer.clear();
        self.buffer.reserve(ONE_READ);
        // `take` keeps `read_to_end` from asking for the size, which such files don't know.
        File::open(path)?.take(FILE_LIMIT).read_to_end(&mut self.buffer)?;
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

    fn as_text(&mut self) -> &str {
        if std::str::from_utf8(&self.buffer).is_err() {
            self.buffer = String::from_utf8_lossy(&self.buffer).into_owned().into_bytes();
        }
        std::str::from_utf8(&self.buffer).unwrap_or_default()
    }
}

/// A file that is kept open between scrapes and read from its start each time: that saves walking its path, opening and
/// closing it, which cost more than most reads. A file that has been removed is looked for anew once.
///
/// Costs a descriptor. For files of which a scrape reads hundreds, not for those it reads one of.
#[derive(Debug)]
pub struct KeptFile {
    path: PathBuf,
    file: Option<File>,
    extent: Extent,
}

/// How much of a file comes in one read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Extent {
    /// All of it: the kernel makes it in one piece. Nearly all files of control groups and of sysfs are such.
    OneRead,
    /// A list that the kernel makes line by line, and hands out a page at a time.
    List,
}

impl KeptFile {
    pub fn new(path: PathBuf) -> KeptFile {
        KeptFile { path, file: None, extent: Extent::OneRead }
    }

    /// One whose lines the kernel makes one by one: cgroup.procs, /proc/PID/net/dev.
    pub fn of_list(path: PathBuf) -> KeptFile {
        KeptFile { path, file: None, extent: Extent::List }
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    pub fn text<'r>(&mut self, reader: &'r mut Reader) -> io::Result<&'r str> {
        let was_open = self.file.is_some();
        match self.fill(reader) {
            // Removed, and perhaps made anew: ENODEV for a control group, ESRCH or EINVAL for a process.
            Err(_) if was_open => {
                self.file = None;
                self.fill(reader)?;
            }
            filled => filled?,
        }
        Ok(reader.as_text())
    }

    /// A number alone in the file.
    pub fn number<T: std::str::FromStr>(&mut self, reader: &mut Reader) -> Option<T> {
        self.text(reader).ok()?.trim().parse().ok()
    }

    fn fill(&mut self, reader: &mut Reader) -> io::Result<()> {
        let file = match &self.file {
            Some(file) => file,
            None => self.file.insert(File::open(&self.path)?),
        };
        let buffer = &mut reader.buffer;
        let mut filled = 0;
        loop {
            if buffer.len() < filled + ONE_READ {
                buffer.resize(filled + ONE_READ, 0);
            }
            let count = match file.read_at(&mut buffer[filled..], filled as u64) {
                Ok(count) => count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => {
                    self.file = None;
                    return Err(error);
                }
            };
            filled += count;
            // What fills the room to its end may go on even when it should come in one read.
            if count == 0 || filled as u64 >= FILE_LIMIT || self.extent == Extent::OneRead && filled < buffer.len() {
                break;
            }
        }
        buffer.truncate(filled);
        Ok(())
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
        let (mut one, mut list) = (KeptFile::new(path.clone()), KeptFile::of_list(path.clone()));
        assert!(one.text(&mut reader).is_err());
        for text in ["12\n".to_owned(), "7\n".to_owned(), "x".repeat(3 * ONE_READ), String::new(), "y".repeat(ONE_READ)]
        {
            std::fs::write(&path, &text).unwrap();
            assert_eq!(one.text(&mut reader).unwrap(), text);
            assert_eq!(list.text(&mut reader).unwrap(), text);
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
}
