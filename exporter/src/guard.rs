//! Reads that may never return (statfs of a dead network mount) on a thread of their own, with a deadline.
//!
//! One named thread serves all keys, one after the other. When a read does not return in time its key is stuck: the
//! thread is left to it, later asks for the key are refused at once, and another thread is started for the other keys. The
//! stuck thread frees its key and ends when the read returns at last. So there are never more threads than stuck keys and
//! one, and no more stuck keys than [`MOST_STUCK`].

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// Each costs a thread that can't be ended. A host with more dead mounts than this needs no finer report.
const MOST_STUCK: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("did not answer in time")]
    TimedOut,
    #[error("still does not answer")]
    Stuck,
    #[error("not asked: too many others do not answer")]
    TooManyStuck,
    #[error("no thread could be started")]
    NoThread,
}

/// Runs `read` for keys, never more than one read of a key at a time.
#[derive(Debug)]
pub struct Guard<K, R> {
    name: &'static str,
    read: fn(&K) -> R,
    worker: Option<Worker<K, R>>,
    stuck: Arc<Mutex<HashSet<K>>>,
}

#[derive(Debug)]
struct Worker<K, R> {
    keys: SyncSender<K>,
    results: Receiver<R>,
}

impl<K: Clone + Eq + Hash + Send + 'static, R: Send + 'static> Guard<K, R> {
    /// `name` is the thread's, at most 15 bytes.
    pub fn new(name: &'static str, read: fn(&K) -> R) -> Self {
        Guard { name, read, worker: None, stuck: Arc::default() }
    }

    /// The result of `read(key)`, if it comes within `limit`.
    pub fn read(&mut self, key: &K, limit: Duration) -> Result<R, Refused> {
        {
            let stuck = lock(&self.stuck);
            if stuck.contains(key) {
                return Err(Refused::Stuck);
            }
            if self.worker.is_none() && stuck.len() >= MOST_STUCK {
                return Err(Refused::TooManyStuck);
            }
        }
        let worker = match self.worker.take() {
            Some(worker) => worker,
            None => self.start()?,
        };
        if worker.keys.send(key.clone()).is_err() {
            // It ended, which only a panic of `read` does; the next ask starts another.
            return Err(Refused::NoThread);
        }
        match worker.results.recv_timeout(limit) {
            Ok(result) => {
                self.worker = Some(worker);
                Ok(result)
            }
            Err(RecvTimeoutError::Disconnected) => Err(Refused::NoThread),
            Err(RecvTimeoutError::Timeout) => {
                // Under the lock the thread has either sent its result, or will find itself abandoned and free the key.
                let mut stuck = lock(&self.stuck);
                if let Ok(result) = worker.results.try_recv() {
                    self.worker = Some(worker);
                    return Ok(result);
                }
                stuck.insert(key.clone());
                drop(worker);
                Err(Refused::TimedOut)
            }
        }
    }

    fn start(&self) -> Result<Worker<K, R>, Refused> {
        let (keys, asked) = sync_channel::<K>(1);
        let (sender, results) = sync_channel(1);
        let (read, stuck) = (self.read, Arc::clone(&self.stuck));
        let work = move || {
            while let Ok(key) = asked.recv() {
                let result = read(&key);
                let mut stuck = lock(&stuck);
                // There is room for one result and it is taken before the next key is sent: this never waits.
                if sender.send(result).is_err() {
                    stuck.remove(&key);
                    return;
                }
            }
        };
        match thread::Builder::new().name(self.name.to_owned()).spawn(work) {
            Ok(_) => Ok(Worker { keys, results }),
            Err(error) => {
                tracing::warn!(thread = self.name, reason = %error, "can't start a thread");
                Err(Refused::NoThread)
            }
        }
    }
}

fn lock<K>(stuck: &Mutex<HashSet<K>>) -> MutexGuard<'_, HashSet<K>> {
    stuck.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::Condvar;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Instant;

    use super::*;

    const SHORT: Duration = Duration::from_millis(20);
    const LONG: Duration = Duration::from_secs(10);

    /// Gates that the reads of a test wait at; each test has its own.
    struct Gate {
        open: Mutex<bool>,
        changed: Condvar,
        waiting: AtomicUsize,
    }

    impl Gate {
        const fn new() -> Self {
            Gate { open: Mutex::new(false), changed: Condvar::new(), waiting: AtomicUsize::new(0) }
        }

        fn pass(&self) {
            self.waiting.fetch_add(1, Ordering::SeqCst);
            let mut open = self.open.lock().unwrap();
            while !*open {
                open = self.changed.wait(open).unwrap();
            }
            self.waiting.fetch_sub(1, Ordering::SeqCst);
        }

        fn open(&self) {
            *self.open.lock().unwrap() = true;
            self.changed.notify_all();
        }
    }

    #[test]
    fn a_read_that_hangs_holds_up_nobody_else_and_recovers() {
        static GATE: Gate = Gate::new();
        let mut guard = Guard::new("test", |key: &u32| {
            if *key == 1 {
                GATE.pass();
            }
            key * 10
        });
        assert_eq!(guard.read(&0, LONG), Ok(0));
        assert_eq!(guard.read(&1, SHORT), Err(Refused::TimedOut));
        for _ in 0..100 {
            assert_eq!(guard.read(&1, LONG), Err(Refused::Stuck));
            assert_eq!(guard.read(&2, LONG), Ok(20));
        }
        assert_eq!(GATE.waiting.load(Ordering::SeqCst), 1);
        GATE.open();
        let deadline = Instant::now() + LONG;
        while guard.read(&1, LONG) == Err(Refused::Stuck) {
            assert!(Instant::now() < deadline, "the key is freed when the read returns");
            thread::yield_now();
        }
        assert_eq!(guard.read(&1, LONG), Ok(10));
    }

    #[test]
    fn the_number_of_stuck_threads_is_bounded() {
        static GATE: Gate = Gate::new();
        let mut guard = Guard::new("test", |_: &usize| GATE.pass());
        for key in 0..MOST_STUCK {
            assert_eq!(guard.read(&key, SHORT), Err(Refused::TimedOut));
        }
        for key in MOST_STUCK..MOST_STUCK + 20 {
            assert_eq!(guard.read(&key, SHORT), Err(Refused::TooManyStuck));
        }
        assert_eq!(GATE.waiting.load(Ordering::SeqCst), MOST_STUCK);
        GATE.open();
    }

    #[test]
    fn a_read_that_panics_costs_only_itself() {
        let mut guard = Guard::new("test", |key: &u32| {
            assert_ne!(*key, 1);
            *key
        });
        assert_eq!(guard.read(&1, LONG), Err(Refused::NoThread));
        assert_eq!(guard.read(&2, LONG), Ok(2));
    }
}
