//! The journal: what the healer knows that must survive it, in SQLite on the local disk.
//!
//! One thread owns the file. It takes everything that waits and commits it at once, since one fsync takes 10–30 ms on
//! an SD card; a write is answered when it is on the disk. The file is held exclusively: a second healer on it is
//! refused. A file that turns out to be damaged ends the thread, and with it the healer: its next start says what to do, and
//! until then nothing pretends that it heals. What this does not do: decide anything, or copy to Postgres ([`crate::record`]).

mod copy;
mod memos;
mod read;
mod store;

use std::{
    fs::File,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use tokio::sync::{mpsc, oneshot, watch};

pub use copy::{Content, check, put};
pub use memos::{Memo, body as memo_body};
pub use read::{Filter, MAX_LISTED, Pending};
pub use store::{Change, Prompt, Store, Table, Waiting};

/// Requests that may wait for the thread. Beyond it a webhook is answered with 503 after [`PATIENCE`], and Alertmanager
/// sends it again; the worker waits its turn.
const QUEUE: usize = 512;
/// Requests committed together at most.
const BATCH: usize = 256;
/// How long a webhook waits for the disk. Alertmanager itself waits ten seconds.
const PATIENCE: Duration = Duration::from_secs(4);

#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    #[error("opening the journal {file}")]
    Open {
        file: String,
        #[source]
        source: rusqlite::Error,
    },
    #[error("the journal {file} is in use: another healer is running on it; stop it first")]
    InUse { file: String },
    #[error(
        "the journal {file} is damaged ({finding}): move it away and start again; what was copied to Postgres is not lost"
    )]
    Damaged { file: String, finding: String },
    #[error("the journal {file} can't be kept in WAL mode (it is in {mode}): put it on a local disk")]
    NoWal { file: String, mode: String },
    #[error(
        "the journal {file} has schema version {found}, this healer knows {known}: use the newer healer, or move the file away"
    )]
    Newer { file: String, found: i64, known: i64 },
    #[error("copying the journal")]
    Copy(#[source] rusqlite::Error),
    #[error("copying the journal to {file}")]
    CopyFile {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("{file} is no copy of a journal, or is damaged: {finding}")]
    NoCopy { file: String, finding: String },
    #[error("copying the journal was given up")]
    GivenUp,
    #[error("starting the journal's thread")]
    Thread(#[source] std::io::Error),
    #[error("writing the journal")]
    Write(#[source] rusqlite::Error),
    #[error("writing the journal: {0}")]
    Commit(String),
    #[error("reading the journal")]
    Read(#[source] rusqlite::Error),
    #[error("encoding a row of the journal")]
    Encode(#[source] serde_json::Error),
    #[error("reading a row of the journal: {0}")]
    Row(String),
    #[error("too much waits to be written to the journal")]
    Full,
    #[error("the journal is closed")]
    Closed,
}

/// A read: it answers by itself, and gives the damage that it came upon.
type Look = Box<dyn FnOnce(&Store) -> Option<String> + Send>;

enum Request {
    Write { changes: Vec<Change>, done: oneshot::Sender<Result<(), JournalError>> },
    Read(Look),
    Copy(oneshot::Sender<Result<File, JournalError>>),
    Close(oneshot::Sender<()>),
}

/// The way to the journal's thread. Cheap to clone.
#[derive(Clone)]
pub struct Journal {
    requests: mpsc::Sender<Request>,
    writable: Arc<AtomicBool>,
    /// Counts writes, those of the copier included, so that the copier wakes up.
    commits: watch::Receiver<u64>,
}

/// Ends the thread; kept by who opened the journal.
pub struct JournalThread {
    journal: Journal,
    thread: JoinHandle<()>,
}

impl Journal {
    pub fn open(path: &Path) -> Result<(Journal, JournalThread), JournalError> {
        let store = Store::open(path)?;
        let (requests, incoming) = mpsc::channel(QUEUE);
        let (committed, commits) = watch::channel(0);
        let writable = Arc::new(AtomicBool::new(true));
        let journal = Journal { requests, writable: Arc::clone(&writable), commits };
        let file = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("journal".to_owned())
            .spawn(move || run(store, incoming, &writable, &committed, &file))
            .map_err(JournalError::Thread)?;
        Ok((journal.clone(), JournalThread { journal, thread }))
    }

    /// Makes changes durable, all or none. Waits for its turn.
    pub async fn commit(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request::Write { changes, done }).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// The same for what somebody waits for: when the journal can't keep up it says so instead. The change may still be
    /// made then; who sends it again does no harm.
    pub async fn commit_or_refuse(&self, changes: Vec<Change>) -> Result<(), JournalError> {
        tokio::time::timeout(PATIENCE, self.commit(changes)).await.unwrap_or(Err(JournalError::Full))
    }

    /// Reads what is committed.
    pub async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, JournalError> + Send + 'static,
    ) -> Result<T, JournalError> {
        let (done, answer) = oneshot::channel();
        let request = Request::Read(Box::new(move |store| {
            let result = read(store);
            let damage = result.as_ref().err().and_then(JournalError::damage);
            // Nobody listening any more is no matter.
            _ = done.send(result);
            damage
        }));
        self.requests.send(request).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// All of it as it is now, in a file without a name. Others are served meanwhile.
    pub async fn copy(&self) -> Result<File, JournalError> {
        let (done, answer) = oneshot::channel();
        self.requests.send(Request::Copy(done)).await.map_err(|_| JournalError::Closed)?;
        answer.await.map_err(|_| JournalError::Closed)?
    }

    /// Whether the last commit reached the disk.
    pub fn is_writable(&self) -> bool {
        self.writable.load(Ordering::Relaxed)
    }

    /// Waits for the thread, which a disk that hangs holds up, and tries to write when the last commit failed; for who wants
    /// to know before something depends on it.
    pub async fn probe(&self) -> Result<(), JournalError> {
        if self.is_writable() { self.read(|_| Ok(())).await } else { self.commit(vec![Change::Probe]).await }
    }

    /// Completes when the thread has ended, which before the shutdown only damage or a bug makes it do.
    pub async fn ended(&self) {
        self.requests.closed().await;
    }

    /// Changes when there may be something to copy.
    pub fn commits(&self) -> watch::Receiver<u64> {
        self.commits.clone()
    }
}

impl JournalThread {
    /// Commits what waits, folds the log into the file, closes it and ends the thread.
    pub async fn close(self) {
        let (done, closed) = oneshot::channel();
        if self.journal.requests.send(Request::Close(done)).await.is_ok() {
            // An error means that the thread is gone already, which is what is wanted.
            _ = closed.await;
        }
        // The thread returns right after its answer.
        _ = self.thread.join();
    }
}

fn run(
    store: Store,
    incoming: mpsc::Receiver<Request>,
    writable: &AtomicBool,
    committed: &watch::Sender<u64>,
    path: &Path,
) {
    let file = path.display();
    let mut turns =
        Turns { store: &store, incoming, writable, committed, path, copies: Vec::new(), closing: None, damage: None };
    while !turns.are_over() {
        let Some(first) = turns.incoming.blocking_recv() else { break };
        turns.take(first);
        while !turns.are_over()
            && let Some(wanted) = turns.copies.pop()
        {
            turns.copy(wanted);
        }
    }
    let Turns { closing, damage, .. } = turns;
    if let Some(reason) = &damage {
        writable.store(false, Ordering::Relaxed);
        tracing::error!(reason, "the journal {file} is damaged: the healer ends, and its next start says what to do");
    }
    if let Err(error) = store.close() {
        tracing::warn!(reason = %error, "closing the journal {file}");
    }
    if let Some(done) = closing {
        // Who asked may have gone.
        _ = done.send(());
    }
}

/// The thread at work.
struct Turns<'s> {
    store: &'s Store,
    incoming: mpsc::Receiver<Request>,
    writable: &'s AtomicBool,
    committed: &'s watch::Sender<u64>,
    path: &'s Path,
    /// Who waits for a copy.
    copies: Vec<oneshot::Sender<Result<File, JournalError>>>,
    closing: Option<oneshot::Sender<()>>,
    damage: Option<String>,
}

impl Turns<'_> {
    fn are_over(&self) -> bool {
        self.closing.is_some() || self.damage.is_some()
    }

    /// Serves a request and those that wait behind it.
    fn take(&mut self, first: Request) {
        let mut writes = Vec::new();
        let mut reads = Vec::new();
        let mut next = Some(first);
        while let Some(request) = next {
            match request {
                Request::Write { changes, done } => writes.push((changes, done)),
                Request::Read(read) => reads.push(read),
                Request::Copy(done) => self.copies.push(done),
                Request::Close(done) => {
                    self.closing = Some(done);
                    break;
                }
            }
            next = if writes.len() < BATCH { self.incoming.try_recv().ok() } else { None };
        }
        if !writes.is_empty() {
            let file = self.path.display();
            let written = write(self.store, writes);
            if self.writable.swap(written.well, Ordering::Relaxed) != written.well {
                if written.well {
                    tracing::info!("the journal {file} can be written again");
                } else {
                    tracing::error!("the journal {file} can't be written: nothing is healed until it can");
                }
            }
            self.damage = written.damage.or(self.damage.take());
            self.committed.send_modify(|count| *count += 1);
            // Last, so that who is answered sees all of it.
            for (result, done) in written.answers {
                // Who asked may have gone: the change stands nevertheless.
                _ = done.send(result);
            }
        }
        for read in reads {
            self.damage = read(self.store).or(self.damage.take());
        }
    }

    /// Copies the journal, and serves others between two steps.
    fn copy(&mut self, wanted: oneshot::Sender<Result<File, JournalError>>) {
        let (store, path) = (self.store, self.path);
        let copied = copy::copy(&store.connection, path, || {
            if let Ok(request) = self.incoming.try_recv() {
                self.take(request);
            }
            !self.are_over() && !wanted.is_closed()
        });
        self.damage = self.damage.take().or_else(|| copied.as_ref().err().and_then(JournalError::damage));
        // Who asked may have gone, and the copy goes with them.
        _ = wanted.send(copied);
    }
}

type Done = oneshot::Sender<Result<(), JournalError>>;

/// What became of a batch.
struct Written {
    /// What to tell whom.
    answers: Vec<(Result<(), JournalError>, Done)>,
    /// Whether the disk took it.
    well: bool,
    /// What is wrong with the file, when it is that and not the disk or the change.
    damage: Option<String>,
}

/// One transaction for all, one savepoint each, so that one that fails takes no other with it.
fn write(store: &Store, writes: Vec<(Vec<Change>, Done)>) -> Written {
    let mut damage = None;
    let mut told = |error: rusqlite::Error| {
        damage = damage.take().or_else(|| damage_of(&error));
        error.to_string()
    };
    let mut failed = store.begin().err().map(&mut told);
    let mut answers = Vec::with_capacity(writes.len());
    for (changes, done) in writes {
        let result = match &failed {
            None => store.savepoint(|| changes.iter().try_for_each(|change| store.apply(change))),
            Some(error) => Err(JournalError::Commit(error.clone())),
        };
        // A full disk makes SQLite roll back the whole transaction by itself. What came after would be one of its own,
        // and be kept although its sender is told that nothing was.
        if failed.is_none() && store.rolled_back() {
            failed = Some(match &result {
                Err(error) => crate::evidence::chain(error),
                Ok(()) => "the transaction was rolled back".to_owned(),
            });
        }
        answers.push((result, done));
    }
    if failed.is_none() {
        failed = store.commit().err().map(&mut told);
    }
    let mut well = failed.is_none();
    for (result, _) in &mut answers {
        damage = damage.or_else(|| result.as_ref().err().and_then(JournalError::damage));
        match (&failed, &*result) {
            (Some(error), Ok(())) => *result = Err(JournalError::Commit(error.clone())),
            // A change that was refused for its content does not say that the disk is full.
            (_, Err(JournalError::Write(error))) => well &= !is_disk(error),
            _ => (),
        }
    }
    Written { answers, well, damage }
}

impl JournalError {
    /// What is wrong with the file, when this error says that something is.
    fn damage(&self) -> Option<String> {
        match self {
            JournalError::Write(error) | JournalError::Read(error) | JournalError::Copy(error) => damage_of(error),
            _ => None,
        }
    }
}

/// Waiting mends a full disk, but no file that is broken.
fn damage_of(error: &rusqlite::Error) -> Option<String> {
    use rusqlite::ErrorCode;
    let damaged = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    damaged.then(|| error.to_string())
}

fn is_disk(error: &rusqlite::Error) -> bool {
    use rusqlite::ErrorCode;
    matches!(
        error.sqlite_error_code(),
        Some(ErrorCode::DiskFull | ErrorCode::SystemIoFailure | ErrorCode::ReadOnly | ErrorCode::CannotOpen)
    )
}

#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
