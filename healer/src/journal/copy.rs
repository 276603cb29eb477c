//! The journal in a file of its own, for a backup: taken while it is written to, looked at, put back.
//!
//! The healer holds the file alone, so only its own thread can copy it. It does so in steps of [`PAGES`] and serves others in
//! between; what they change is in the copy as well, since it goes through the same connection.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use rusqlite::{Connection, OpenFlags, backup};

use super::{
    JournalError,
    store::{SCHEMA_VERSION, Store},
};

/// Pages of 4 KiB that are copied in one go: some milliseconds on an SD card, which is as long as a webhook waits for it.
const PAGES: i32 = 64;

/// Where a copy is while it is made. It has no name any more when somebody reads it, so that none is left behind.
pub(super) fn unfinished(journal: &Path) -> PathBuf {
    let mut name = journal.as_os_str().to_owned();
    name.push(".copy");
    name.into()
}

/// Copies what `from` has. `between` is called between two steps; when it says `false` the copy is given up.
pub(super) fn copy(from: &Connection, journal: &Path, between: impl FnMut() -> bool) -> Result<File, JournalError> {
    let path = unfinished(journal);
    let file = || path.display().to_string();
    // What a healer that was killed has left would be continued.
    remove(&path).map_err(|source| JournalError::CopyFile { file: file(), source })?;
    let copied = steps(from, &path, between).and_then(|()| {
        let opened = File::open(&path);
        opened.map_err(|source| JournalError::CopyFile { file: file(), source })
    });
    remove(&path).map_err(|source| JournalError::CopyFile { file: file(), source })?;
    copied
}

fn steps(from: &Connection, path: &Path, mut between: impl FnMut() -> bool) -> Result<(), JournalError> {
    let mut to = Connection::open(path).map_err(JournalError::Copy)?;
    // It is thrown away if anything happens: neither a log nor the disk's word is needed.
    to.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA cache_size = -512;")
        .map_err(JournalError::Copy)?;
    {
        let copying = backup::Backup::new(from, &mut to).map_err(JournalError::Copy)?;
        while copying.step(PAGES).map_err(JournalError::Copy)? != backup::StepResult::Done {
            if !between() {
                return Err(JournalError::GivenUp);
            }
        }
    }
    to.close().map_err(|(_, error)| JournalError::Copy(error))
}

fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// What is in a copy.
#[derive(Debug, PartialEq)]
pub struct Content {
    pub schema: i64,
    pub incidents: i64,
    pub open: i64,
    pub switches: i64,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Content { schema, incidents, open, switches } = self;
        write!(f, "schema {schema}, {incidents} incidents, {open} of them open, {switches} switches")
    }
}

/// Reads a copy, which is not changed by that: whether it is whole, of a version known here, and what is in it.
pub fn check(path: &Path) -> Result<Content, JournalError> {
    let file = || path.display().to_string();
    let opening = |source: rusqlite::Error| match super::damage_of(&source) {
        Some(finding) => JournalError::NoCopy { file: file(), finding },
        None => JournalError::Open { file: file(), source },
    };
    // Immutable: one that was kept in WAL mode is otherwise opened with files beside it.
    let uri = format!("file:{}?immutable=1", in_uri(path));
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags(uri, flags).map_err(opening)?;
    let number = |sql: &str| copy.query_row(sql, [], |row| row.get::<_, i64>(0)).map_err(opening);
    let schema = number("PRAGMA user_version")?;
    if schema > SCHEMA_VERSION {
        return Err(JournalError::Newer { file: file(), found: schema, known: SCHEMA_VERSION });
    }
    // An empty file is a whole database for SQLite.
    if schema < 1 {
        return Err(JournalError::NoCopy { file: file(), finding: "there is no journal in it".to_owned() });
    }
    let finding: String = copy.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0)).map_err(opening)?;
    if finding != "ok" {
        return Err(JournalError::NoCopy { file: file(), finding: finding.replace('\n', " ") });
    }
    Ok(Content {
        schema,
        incidents: number("SELECT count(*) FROM incidents")?,
        open: number("SELECT count(*) FROM incidents WHERE state <> 'closed'")?,
        switches: number("SELECT count(*) FROM switches")?,
    })
}

/// What has a meaning in a URI is written by its number.
fn in_uri(path: &Path) -> String {
    use std::os::unix::ffi::OsStrExt;
    let written = |&byte: &u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'.' | b'_' | b'-' => char::from(byte).to_string(),
        other => format!("%{other:02X}"),
    };
    path.as_os_str().as_bytes().iter().map(written).collect()
}

/// Puts a copy in the place of a journal that no healer holds. One that is not whole changes nothing.
pub fn put(mut copy: impl Read, journal: &Path) -> Result<Content, JournalError> {
    let new = unfinished(journal);
    let at = |source| JournalError::CopyFile { file: new.display().to_string(), source };
    match Store::open(journal) {
        Ok(store) => store.close().map_err(JournalError::Write)?,
        // It is replaced, whatever it is, unless somebody works with it.
        Err(error @ JournalError::InUse { .. }) => return Err(error),
        Err(_) => (),
    }
    remove(&new).map_err(at)?;
    let written = (|| {
        let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(0o640).open(&new)?;
        io::copy(&mut copy, &mut file)?;
        file.sync_all()
    })();
    let content = written.map_err(at).and_then(|()| check(&new)).inspect_err(|_| _ = remove(&new))?;
    let replaced = (|| {
        // The old one's log would be taken for the new one's.
        for end in ["-wal", "-shm"] {
            let mut beside = journal.as_os_str().to_owned();
            beside.push(end);
            remove(Path::new(&beside))?;
        }
        fs::rename(&new, journal)?;
        let folder = journal.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    })();
    replaced.map_err(at)?;
    Ok(content)
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;
    use nexus_model::Mode;

    use super::{
        super::{Change, Journal},
        *,
    };

    fn switch(project: &str) -> Change {
        let (project, mode) = (project.to_owned(), Some(Mode::Heal));
        Change::Switch { project, service: None, mode, at: Timestamp::UNIX_EPOCH }
    }

    /// Switches enough for many steps.
    fn filling(count: usize) -> Vec<Change> {
        (0..count).map(|number| switch(&format!("{number:05}-{}", "x".repeat(2000)))).collect()
    }

    fn written(mut copy: File, folder: &Path) -> PathBuf {
        let path = folder.join("a copy?.db");
        io::copy(&mut copy, &mut File::create(&path).unwrap()).unwrap();
        path
    }

    fn has(path: &Path, project: &str) -> bool {
        let store = Store::open(path).unwrap();
        let found = store.switches().unwrap().projects.contains_key(project);
        store.close().unwrap();
        found
    }

    #[test]
    fn what_is_written_between_two_steps_is_in_the_copy() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        let store = Store::open(&journal).unwrap();
        filling(1000).iter().for_each(|change| store.apply(change).unwrap());
        let mut times = 0;
        let copied = copy(&store.connection, &journal, || {
            times += 1;
            store.begin().unwrap();
            // One that goes where pages are copied already, and one that makes the file longer.
            store.apply(&Change::Probe).unwrap();
            store.apply(&switch(&format!("between-{times}"))).unwrap();
            filling(10).iter().for_each(|change| store.apply(change).unwrap());
            store.commit().unwrap();
            true
        });
        assert!(times > 5, "{times}");
        assert!(!unfinished(&journal).exists());
        let path = written(copied.unwrap(), folder.path());
        assert_eq!(check(&path).unwrap().switches, 1000 + times);
        assert!(has(&path, &format!("between-{times}")));
    }

    #[tokio::test]
    async fn a_copy_of_a_journal_that_is_written_to_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        journal.commit(filling(1000)).await.unwrap();
        let writing = journal.clone();
        let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
        let writer = tokio::spawn(async move {
            let mut number = 0;
            while stopped.try_recv().is_err() {
                number += 1;
                writing.commit(vec![switch(&format!("w{number:06}"))]).await.unwrap();
            }
            number
        });
        for round in 0..3 {
            // Committed before it is asked for, so it is in it.
            let mark = format!("mark-{round}");
            journal.commit(vec![switch(&mark)]).await.unwrap();
            let path = written(journal.copy().await.unwrap(), folder.path());
            assert!(check(&path).unwrap().switches > 1000);
            assert!(has(&path, &mark), "{mark}");
        }
        stop.send(()).unwrap();
        assert!(writer.await.unwrap() > 0);
        thread.close().await;
    }

    #[test]
    fn a_copy_that_is_given_up_leaves_nothing() {
        let folder = tempfile::tempdir().unwrap();
        let journal = folder.path().join("journal.db");
        let store = Store::open(&journal).unwrap();
        filling(1000).iter().for_each(|change| store.apply(change).unwrap());
        // As a healer that was killed leaves it.
        fs::write(unfinished(&journal), "half").unwrap();
        assert!(matches!(copy(&store.connection, &journal, || false), Err(JournalError::GivenUp)));
        assert!(!unfinished(&journal).exists());
        copy(&store.connection, &journal, || true).unwrap();
    }

    #[tokio::test]
    async fn a_journal_that_closes_gives_no_half_copy() {
        let folder = tempfile::tempdir().unwrap();
        let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
        thread.close().await;
        assert!(matches!(journal.copy().await, Err(JournalError::Closed)));
    }

    #[test]
    fn only_a_whole_copy_takes_the_place_of_a_journal_that_nobody_holds() {
        let folder = tempfile::tempdir().unwrap();
        let (from, to) = (folder.path().join("from.db"), folder.path().join("to.db"));
        let store = Store::open(&from).unwrap();
        filling(300).iter().chain([&switch("shop")]).for_each(|change| store.apply(change).unwrap());
        let good = fs::read(written(copy(&store.connection, &from, || true).unwrap(), folder.path())).unwrap();

        let held = Store::open(&to).unwrap();
        held.apply(&switch("old")).unwrap();
        assert!(matches!(put(&*good, &to), Err(JournalError::InUse { .. })));
        held.close().unwrap();

        let mut newer = good.clone();
        newer[60..64].copy_from_slice(&99_u32.to_be_bytes());
        let mut torn = good.clone();
        torn[8192..200_000].fill(7);
        let cases: [(&[u8], &str); 5] = [
            (b"", "no journal in it"),
            (b"not a database, but long enough to be taken for a header of one", "not a database"),
            (&good[..good.len() / 2], "damaged"),
            (&torn, "damaged"),
            (&newer, "schema version 99"),
        ];
        for (bytes, says) in cases {
            let error = put(bytes, &to).unwrap_err().to_string();
            assert!(error.contains(says), "{error:?} lacks {says:?}");
            assert!(has(&to, "old"), "{says}");
            assert!(!unfinished(&to).exists(), "{says}");
        }

        // What an old log would add is not wanted, and a journal that is damaged is replaced too.
        fs::write(folder.path().join("to.db-wal"), "an old one").unwrap();
        fs::write(&to, "damaged").unwrap();
        let content = put(&*good, &to).unwrap();
        assert_eq!(content, Content { schema: SCHEMA_VERSION, incidents: 0, open: 0, switches: 301 });
        assert!(has(&to, "shop") && !has(&to, "old"));
        // One that was not there yet.
        put(&*good, &folder.path().join("new.db")).unwrap();
        assert!(has(&folder.path().join("new.db"), "shop"));
    }
}
