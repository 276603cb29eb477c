//! What was applied, when, and what is needed to take it back: one file, whole or absent, locked while something is done.

use std::fs::File;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::measure::Measure;
use super::{compose, postgres, redis, zram};
use crate::files::{Access, make_folder, read_text, write_atomically};

/// Hundreds of records.
const LIMIT: u64 = 4 << 20;
/// Of those that are over, so many are kept.
const MOST_OVER: usize = 200;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub number: u64,
    /// Of the recommendation.
    pub id: String,
    pub title: String,
    pub project: Option<String>,
    pub applied_at: Timestamp,
    pub state: State,
    /// When it was taken back, or failed.
    pub ended_at: Option<Timestamp>,
    /// Measured before.
    pub before: Measure,
    pub done: Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum State {
    /// Written down before anything was touched: found later, Nexus was interrupted.
    Applying,
    Applied,
    /// It did not work and was taken back at once.
    Failed,
    Undone,
}

impl State {
    pub fn words(self) -> &'static str {
        match self {
            State::Applying => "interrupted",
            State::Applied => "applied",
            State::Failed => "failed, taken back",
            State::Undone => "undone",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Done {
    Compose(compose::Done),
    Postgres(PostgresDone),
    Redis(RedisDone),
    Zram(zram::Done),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PostgresDone {
    pub project: String,
    pub service: String,
    pub sets: Vec<postgres::Set>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RedisDone {
    pub project: String,
    pub service: String,
    pub before: redis::Values,
    pub after: redis::Values,
    /// Whether it has written them into its own file.
    pub kept: bool,
}

impl Done {
    /// The services that it is about.
    pub fn services(&self) -> Vec<&str> {
        match self {
            Done::Compose(done) => done.service_names(),
            Done::Postgres(PostgresDone { service, .. }) | Done::Redis(RedisDone { service, .. }) => vec![service],
            Done::Zram(_) => Vec::new(),
        }
    }
}

impl Record {
    pub fn stands(&self) -> bool {
        matches!(self.state, State::Applying | State::Applied)
    }

    fn compose(&self) -> Option<&compose::Done> {
        match &self.done {
            Done::Compose(done) => Some(done),
            Done::Postgres(_) | Done::Redis(_) | Done::Zram(_) => None,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ledger {
    pub records: Vec<Record>,
}

impl Ledger {
    pub fn standing(&self) -> impl DoubleEndedIterator<Item = &Record> {
        self.records.iter().filter(|record| record.stands())
    }

    /// What is applied to Compose files, the earliest first; without one of them.
    pub fn compose_without(&self, number: Option<u64>) -> Vec<&compose::Done> {
        self.standing().filter(|record| Some(record.number) != number).filter_map(Record::compose).collect()
    }

    /// The files that were ever written for a project.
    pub fn files_of(&self, project: &str) -> Vec<&Path> {
        let all = self.records.iter().filter_map(Record::compose).filter(|done| done.project == project);
        all.map(|done| done.file.as_path()).collect()
    }

    /// By its number or by the id of the recommendation: of several the last one that stands, else the last one.
    pub fn find(&self, asked: &str) -> Option<&Record> {
        let is_it = |record: &&Record| record.id == asked || asked.parse() == Ok(record.number);
        self.standing().rev().find(is_it).or_else(|| self.records.iter().rev().find(is_it))
    }

    fn next_number(&self) -> u64 {
        self.records.iter().map(|record| record.number).max().unwrap_or(0) + 1
    }

    /// The oldest of what is over goes.
    fn shorten(&mut self) {
        let mut over = self.records.iter().filter(|record| !record.stands()).count();
        self.records.retain(|record| {
            let drop = over > MOST_OVER && !record.stands();
            over -= usize::from(drop);
            !drop
        });
    }
}

/// The ledger in its folder.
pub struct Book {
    folder: PathBuf,
    owner: Option<(u32, u32)>,
    pub ledger: Ledger,
    /// Held while something is done.
    _lock: Option<File>,
}

impl Book {
    /// To look at. Nothing is made.
    pub fn read(folder: &Path) -> Result<Book> {
        Ok(Book { folder: folder.to_owned(), owner: None, ledger: load(folder)?, _lock: None })
    }

    /// To write in: nobody else may meanwhile.
    pub fn open(folder: &Path, owner: Option<(u32, u32)>) -> Result<Book> {
        make_folder(folder, Access { mode: 0o700, owner })?;
        let path = folder.join("tune.lock");
        let lock = File::options().write(true).create(true).truncate(false).mode(0o600).open(&path);
        let lock = lock.with_context(|| format!("cannot open {}", path.display()))?;
        if let Some((uid, gid)) = owner {
            std::os::unix::fs::fchown(&lock, Some(uid), Some(gid))
                .with_context(|| format!("cannot give {} away", path.display()))?;
        }
        if lock.try_lock().is_err() {
            bail!("another nexus tune is at work: wait until it is done");
        }
        Ok(Book { folder: folder.to_owned(), owner, ledger: load(folder)?, _lock: Some(lock) })
    }

    fn save(&self) -> Result<()> {
        let text = serde_json::to_string_pretty(&self.ledger).context("cannot write JSON")?;
        // A password may be among the settings that a database had before.
        write_atomically(&file(&self.folder), text.as_bytes(), Access { mode: 0o600, owner: self.owner })
    }

    /// Writes down what is about to be done.
    pub fn begin(&mut self, mut record: Record) -> Result<u64> {
        record.number = self.ledger.next_number();
        let number = record.number;
        self.ledger.records.push(record);
        self.ledger.shorten();
        self.save()?;
        Ok(number)
    }

    pub fn is_now(&mut self, number: u64, state: State, now: Timestamp) -> Result<()> {
        for record in self.ledger.records.iter_mut().filter(|record| record.number == number) {
            record.state = state;
            record.ended_at = (!record.stands()).then_some(now);
        }
        self.save()
    }
}

fn file(folder: &Path) -> PathBuf {
    folder.join("tune.json")
}

fn load(folder: &Path) -> Result<Ledger> {
    let path = file(folder);
    match read_text(&path, LIMIT)? {
        Some(text) => serde_json::from_str(&text)
            .with_context(|| format!("cannot understand {}, which tells what was applied", path.display())),
        None => Ok(Ledger::default()),
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    pub fn record(number: u64, state: State) -> Record {
        Record {
            number,
            id: format!("restart-policy/p{}", number % 2),
            title: "t".into(),
            project: Some("p".into()),
            applied_at: Timestamp::UNIX_EPOCH,
            state,
            ended_at: None,
            before: Measure::default(),
            done: Done::Postgres(PostgresDone { project: "p".into(), service: "db".into(), sets: Vec::new() }),
        }
    }

    #[test]
    fn what_is_written_is_read_and_nobody_writes_beside() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("state");
        assert_eq!(Book::read(&folder).unwrap().ledger, Ledger::default());
        let mut book = Book::open(&folder, None).unwrap();
        assert!(Book::open(&folder, None).is_err());
        assert_eq!(book.begin(record(0, State::Applying)).unwrap(), 1);
        assert_eq!(book.begin(record(0, State::Applying)).unwrap(), 2);
        book.is_now(1, State::Applied, Timestamp::UNIX_EPOCH).unwrap();
        book.is_now(2, State::Undone, Timestamp::UNIX_EPOCH).unwrap();
        let read = Book::read(&folder).unwrap().ledger;
        assert_eq!(read, book.ledger);
        assert_eq!(read.standing().map(|record| record.number).collect::<Vec<_>>(), [1]);
        assert_eq!(read.records[1].ended_at, Some(Timestamp::UNIX_EPOCH));
        drop(book);
        std::fs::write(file(&folder), "{").unwrap();
        assert!(Book::open(&folder, None).is_err());
    }

    #[test]
    fn a_record_is_found_by_its_number_or_what_stands_of_an_id() {
        let records = vec![record(1, State::Applied), record(3, State::Undone), record(4, State::Undone)];
        let ledger = Ledger { records };
        let number = |asked: &str| ledger.find(asked).map(|record| record.number);
        assert_eq!(number("3"), Some(3));
        assert_eq!(number("restart-policy/p1"), Some(1));
        assert_eq!(number("restart-policy/p0"), Some(4));
        assert_eq!(number("nothing"), None);
    }

    #[test]
    fn only_the_oldest_of_what_is_over_goes() {
        let mut records = vec![record(1, State::Applied)];
        records.extend((2..MOST_OVER as u64 + 5).map(|number| record(number, State::Undone)));
        let mut ledger = Ledger { records };
        ledger.shorten();
        assert_eq!(ledger.records.len(), MOST_OVER + 1);
        assert_eq!((ledger.records[0].number, ledger.records[1].number), (1, 5));
    }
}
