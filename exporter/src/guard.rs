//! Reads that may never return (statfs of a dead network mount) on a thread of their own, with a deadline.
//!
//! One named thread serves all keys, one after the other. When a read does not return in time its key is stuck: the
//! thread is left to it, later asks for the key are refused at once, and another thread is started for the other keys. The
//! stuck thread frees its key and ends when the read returns at last. So there are never more threads than stuck keys and
//! one, and no more stuck keys than `MOST_STUCK`.

use std::collections::HashSet;
use std::hash::Hash;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, channel, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Each costs a thread that can't be ended. A host with more dead mounts than this needs no finer report.
const MOST_STUCK: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error("did not answer in time")]
    TimedOut,
    #[error("still does not answer")]
    Stuck,
    #[error("not asked: others did not answer in time")]
    NotAsked,
    #[error("not asked: too many others do not answer")]
    TooManyStuck,
    #[error("the reading thread ended or could not be started")]
    NoThread,
}

/// How long reads may take.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Each of them.
    pub each: Duration,
    /// All of one call together; what is left then is not asked.
    pub all: Duration,
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
    batches: SyncSender<Vec<K>>,
    results: Receiver<R>,
}

impl<K: Clone + Eq + Hash + Send + 'static, R: Send + 'static> Guard<K, R> {
    /// `name` is the thread's, at most 15 bytes.
    pub fn new(name: &'static str, read: fn(&K) -> R) -> Self {
        Guard { name, read, worker: None, stuck: Arc::default() }
    }

    /// `read` of each key, in their order.
    pub fn read(&mut self, keys: &[K], limits: Limits) -> Vec<Result<R, Refused>> {
        let deadline = Instant::now() + limits.all;
        let mut answers: Vec<Result<R, Refused>> = keys.iter().map(|_| Err(Refused::NotAsked)).collect();
        let mut left: Vec<usize> = Vec::with_capacity(keys.len());
        let stuck = lock(&self.stuck).clone();
        for (at, key) in keys.iter().enumerate() {
            if stuck.contains(key) {
                answers[at] = Err(Refused::Stuck);
            } else {
                left.push(at);
            }
        }
        // Once round, unless a read hangs.
        while !left.is_empty() && Instant::now() < deadline {
            let worker = match self.worker() {
                Ok(worker) => worker,
                Err(refused) => {
                    left.iter().for_each(|&at| answers[at] = Err(refused));
                    break;
                }
            };
            // Fails when the thread has ended, which shows at the first result.
            _ = worker.batches.send(left.iter().map(|&at| keys[at].clone()).collect());
            let mut ended = false;
            let mut done = 0;
            for &at in &left {
                let limit = limits.each.min(deadline.saturating_duration_since(Instant::now()));
                answers[at] = self.wait(&worker, &keys[at], limit);
                done += 1;
                if answers[at].is_err() {
                    ended = true;
                    break;
                }
            }
            left.drain(..done);
            if !ended {
                self.worker = Some(worker);
            }
        }
        answers
    }

    /// Waits for the next result, which is that of `key`. After an error the worker is not to be used again.
    fn wait(&self, worker: &Worker<K, R>, key: &K, limit: Duration) -> Result<R, Refused> {
        match worker.results.recv_timeout(limit) {
            Ok(result) => Ok(result),
            // Only a panic of `read` ends the thread.
            Err(RecvTimeoutError::Disconnected) => Err(Refused::NoThread),
            Err(RecvTimeoutError::Timeout) => {
                // Under the lock the thread has either sent its result, or will find itself abandoned and free the key.
                let mut stuck = lock(&self.stuck);
                worker.results.try_recv().map_err(|_| {
                    stuck.insert(key.clone());
                    Refused::TimedOut
                })
            }
        }
    }

    fn worker(&mut self) -> Result<Worker<K, R>, Refused> {
        if let Some(worker) = self.worker.take() {
            return Ok(worker);
        }
        if lock(&self.stuck).len() >= MOST_STUCK {
            return Err(Refused::TooManyStuck);
        }
        let (batches, asked) = sync_channel::<Vec<K>>(1);
        // Never holds more than one batch. Bounded, a full one would make the thread wait while it holds the lock.
        let (sender, results) = channel();
        let (read, stuck) = (self.read, Arc::clone(&self.stuck));
        let work = move || {
            while let Ok(batch) = asked.recv() {
                for key in batch {
                    let result = read(&key);
                    let mut stuck = lock(&stuck);
                    if sender.send(result).is_err() {
                        stuck.remove(&key);
                        return;
                    }
                }
            }
        };
        match thread::Builder::new().name(self.name.to_owned()).spawn(work) {
            Ok(_) => Ok(Worker { batches, results }),
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

    /// Waited out by what hangs; what does not hang must make it on a loaded machine.
    const SHORT: Duration = Duration::from_millis(500);
    const LONG: Duration = Duration::from_secs(20);

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

    fn limits(each: Duration) -> Limits {
        Limits { each, all: LONG }
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
        assert_eq!(guard.read(&[0, 2], limits(LONG)), [Ok(0), Ok(20)]);
        assert_eq!(guard.read(&[0, 1, 2], limits(SHORT)), [Ok(0), Err(Refused::TimedOut), Ok(20)]);
        for _ in 0..100 {
            assert_eq!(guard.read(&[0, 1, 2], limits(LONG)), [Ok(0), Err(Refused::Stuck), Ok(20)]);
        }
        assert_eq!(GATE.waiting.load(Ordering::SeqCst), 1);
        GATE.open();
        let deadline = Instant::now() + LONG;
        while guard.read(&[1], limits(LONG)) == [Err(Refused::Stuck)] {
            assert!(Instant::now() < deadline, "the key is freed when the read returns");
            thread::yield_now();
        }
        assert_eq!(guard.read(&[0, 1], limits(LONG)), [Ok(0), Ok(10)]);
    }

    #[test]
    fn the_number_of_stuck_threads_is_bounded() {
        static GATE: Gate = Gate::new();
        let mut guard = Guard::new("test", |_: &usize| GATE.pass());
        let keys: Vec<usize> = (0..MOST_STUCK + 20).collect();
        let first = guard.read(&keys, limits(Duration::from_millis(20)));
        assert!(first[..MOST_STUCK].iter().all(|answer| *answer == Err(Refused::TimedOut)));
        assert!(first[MOST_STUCK..].iter().all(|answer| *answer == Err(Refused::TooManyStuck)));
        let second = guard.read(&keys, limits(LONG));
        assert!(second[..MOST_STUCK].iter().all(|answer| *answer == Err(Refused::Stuck)));
        assert!(second[MOST_STUCK..].iter().all(|answer| *answer == Err(Refused::TooManyStuck)));
        // A thread may begin after its time is over.
        let deadline = Instant::now() + LONG;
        while GATE.waiting.load(Ordering::SeqCst) < MOST_STUCK {
            assert!(Instant::now() < deadline, "each has a thread");
            thread::yield_now();
        }
        assert_eq!(GATE.waiting.load(Ordering::SeqCst), MOST_STUCK);
        GATE.open();
    }

    #[test]
    fn all_reads_together_keep_within_their_limit() {
        static GATE: Gate = Gate::new();
        let mut guard = Guard::new("test", |_: &u32| GATE.pass());
        let begin = Instant::now();
        let answers = guard.read(&[1, 2, 3], Limits { each: LONG, all: SHORT });
        assert_eq!(answers, [Err(Refused::TimedOut), Err(Refused::NotAsked), Err(Refused::NotAsked)]);
        assert!(begin.elapsed() < LONG);
        GATE.open();
    }

    #[test]
    fn a_read_that_panics_costs_only_itself() {
        let mut guard = Guard::new("test", |key: &u32| {
            assert_ne!(*key, 1);
            *key
        });
        assert_eq!(guard.read(&[0, 1, 2], limits(LONG)), [Ok(0), Err(Refused::NoThread), Ok(2)]);
        assert_eq!(guard.read(&[2], limits(LONG)), [Ok(2)]);
    }
}
