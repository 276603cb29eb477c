//! Reads that may never return (statfs of a dead network mount, a sensor whose driver hangs) on a thread of their own, with
//! a deadline.
//!
//! One named thread serves all keys, one after the other. When a read does not return in time its key is stuck: the
//! thread is left to it, later asks for the key are refused at once, and another thread is started for the other keys. The
//! stuck thread frees its key and ends when the read returns at last. So there are never more threads than stuck keys and
//! one, and no more stuck keys than `MOST_STUCK`.
//!
//! All keys of one call go over together and come back together, since waking a thread costs more than most reads.

use std::collections::{HashSet, VecDeque};
use std::hash::Hash;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::collect::Reader;

/// Each costs a thread that can't be ended. A host on which more hangs than this needs no finer report.
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

type Read<C, K, R> = Arc<dyn Fn(&C, &K, &mut Reader) -> R + Send + Sync>;

/// Where a thread takes its work from.
type Batches<C, K, R> = SyncSender<Arc<Batch<C, K, R>>>;

/// Runs `read` for keys, never more than one read of a key at a time. `C` is what all reads of a call share.
pub struct Guard<C, K, R> {
    name: &'static str,
    read: Read<C, K, R>,
    worker: Option<Batches<C, K, R>>,
    stuck: Arc<Mutex<HashSet<K>>>,
}

/// The keys of one call while a thread works on them.
struct Batch<C, K, R> {
    context: C,
    state: Mutex<State<K, R>>,
    /// Told once, at the end.
    ended: Condvar,
}

struct State<K, R> {
    /// With their places in the call.
    todo: VecDeque<(usize, K)>,
    /// The place of the key that is being read, since when.
    running: Option<(usize, Instant)>,
    results: Vec<(usize, R)>,
    progress: Progress,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    UnderWay,
    /// Nothing is left.
    Done,
    /// The thread ended, which only a panic of `read` does to it.
    Died,
    /// Nobody waits for the thread any more.
    Abandoned,
}

impl<C, K, R> Guard<C, K, R>
where
    C: Clone + Send + Sync + 'static,
    K: Clone + Eq + Hash + Send + 'static,
    R: Send + 'static,
{
    /// `name` is the thread's, at most 15 bytes.
    pub fn new(name: &'static str, read: impl Fn(&C, &K, &mut Reader) -> R + Send + Sync + 'static) -> Self {
        Guard { name, read: Arc::new(read), worker: None, stuck: Arc::default() }
    }

    /// `read` of each key, in their order.
    pub fn read(&mut self, keys: &[K], context: &C, limits: Limits) -> Vec<Result<R, Refused>> {
        let deadline = Instant::now() + limits.all;
        let mut answers: Vec<Result<R, Refused>> = keys.iter().map(|_| Err(Refused::NotAsked)).collect();
        let mut todo = VecDeque::with_capacity(keys.len());
        let stuck = lock(&self.stuck).clone();
        for (at, key) in keys.iter().enumerate() {
            if stuck.contains(key) {
                answers[at] = Err(Refused::Stuck);
            } else {
                todo.push_back((at, key.clone()));
            }
        }
        // Once round, unless a read hangs or panics.
        while !todo.is_empty() && Instant::now() < deadline {
            let worker = match self.worker() {
                Ok(worker) => worker,
                Err(refused) => {
                    todo.iter().for_each(|(at, _)| answers[*at] = Err(refused));
                    break;
                }
            };
            let state = State {
                running: None,
                results: Vec::with_capacity(todo.len()),
                todo: std::mem::take(&mut todo),
                progress: Progress::UnderWay,
            };
            let batch = Arc::new(Batch { context: context.clone(), state: Mutex::new(state), ended: Condvar::new() });
            if worker.send(Arc::clone(&batch)).is_err() {
                // It died after its last batch, which can't be: only a read panics.
                todo = std::mem::take(&mut lock(&batch.state).todo);
                continue;
            }
            if self.wait(&batch, keys, limits.each, deadline, &mut answers) {
                self.worker = Some(worker);
            }
            let mut state = lock(&batch.state);
            todo = std::mem::take(&mut state.todo);
            state.results.drain(..).for_each(|(at, result)| answers[at] = Ok(result));
        }
        answers
    }

    /// Waits for the end of a batch, or for a read that takes too long. Says whether the thread can be used again.
    fn wait(
        &self,
        batch: &Batch<C, K, R>,
        keys: &[K],
        each: Duration,
        deadline: Instant,
        answers: &mut [Result<R, Refused>],
    ) -> bool {
        let asked = Instant::now();
        let mut state = lock(&batch.state);
        loop {
            match (state.progress, state.running) {
                (Progress::Done, _) => return true,
                (Progress::Died | Progress::Abandoned, running) => {
                    if let Some((at, _)) = running {
                        answers[at] = Err(Refused::NoThread);
                    }
                    return false;
                }
                (Progress::UnderWay, running) => {
                    let since = running.map_or(asked, |(_, since)| since);
                    let left = (since + each).min(deadline).saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        // Under the lock the thread has either left its result, or will find itself abandoned and free
                        // the key.
                        state.progress = Progress::Abandoned;
                        if let Some((at, _)) = running {
                            lock(&self.stuck).insert(keys[at].clone());
                            answers[at] = Err(Refused::TimedOut);
                        }
                        return false;
                    }
                    state = batch.ended.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
                }
            }
        }
    }

    fn worker(&mut self) -> Result<Batches<C, K, R>, Refused> {
        if let Some(worker) = self.worker.take() {
            return Ok(worker);
        }
        if lock(&self.stuck).len() >= MOST_STUCK {
            return Err(Refused::TooManyStuck);
        }
        let (batches, asked) = sync_channel::<Arc<Batch<C, K, R>>>(1);
        let (read, stuck) = (Arc::clone(&self.read), Arc::clone(&self.stuck));
        let work = move || {
            let mut reader = Reader::default();
            while let Ok(batch) = asked.recv() {
                let at_the_end = TellTheEnd(&batch);
                loop {
                    let next = {
                        let mut state = lock(&batch.state);
                        let next = state.todo.pop_front();
                        state.running = next.as_ref().map(|(at, _)| (*at, Instant::now()));
                        if next.is_none() && state.progress == Progress::UnderWay {
                            state.progress = Progress::Done;
                        }
                        next
                    };
                    let Some((at, key)) = next else { break };
                    let result = read(&batch.context, &key, &mut reader);
                    let mut state = lock(&batch.state);
                    if state.progress == Progress::Abandoned {
                        lock(&stuck).remove(&key);
                        return;
                    }
                    state.results.push((at, result));
                }
                drop(at_the_end);
            }
        };
        match thread::Builder::new().name(self.name.to_owned()).spawn(work) {
            Ok(_) => Ok(batches),
            Err(error) => {
                tracing::warn!(thread = self.name, reason = %error, "can't start a thread");
                Err(Refused::NoThread)
            }
        }
    }
}

impl<C, K, R> std::fmt::Debug for Guard<C, K, R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Guard").field("name", &self.name).finish_non_exhaustive()
    }
}

/// Wakes who waits for the batch, also when a read panics.
struct TellTheEnd<'a, C, K, R>(&'a Batch<C, K, R>);

impl<C, K, R> Drop for TellTheEnd<'_, C, K, R> {
    fn drop(&mut self) {
        let mut state = lock(&self.0.state);
        if state.progress == Progress::UnderWay {
            state.progress = Progress::Died;
        }
        self.0.ended.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
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
        let mut guard = Guard::new("test", |(): &(), key: &u32, _: &mut Reader| {
            if *key == 1 {
                GATE.pass();
            }
            key * 10
        });
        assert_eq!(guard.read(&[0, 2], &(), limits(LONG)), [Ok(0), Ok(20)]);
        assert_eq!(guard.read(&[0, 1, 2], &(), limits(SHORT)), [Ok(0), Err(Refused::TimedOut), Ok(20)]);
        for _ in 0..100 {
            assert_eq!(guard.read(&[0, 1, 2], &(), limits(LONG)), [Ok(0), Err(Refused::Stuck), Ok(20)]);
        }
        assert_eq!(GATE.waiting.load(Ordering::SeqCst), 1);
        GATE.open();
        let deadline = Instant::now() + LONG;
        while guard.read(&[1], &(), limits(LONG)) == [Err(Refused::Stuck)] {
            assert!(Instant::now() < deadline, "the key is freed when the read returns");
            thread::yield_now();
        }
        assert_eq!(guard.read(&[0, 1], &(), limits(LONG)), [Ok(0), Ok(10)]);
    }

    #[test]
    fn the_number_of_stuck_threads_is_bounded() {
        static GATE: Gate = Gate::new();
        let mut guard = Guard::new("test", |(): &(), _: &usize, _: &mut Reader| GATE.pass());
        let keys: Vec<usize> = (0..MOST_STUCK + 20).collect();
        let first = guard.read(&keys, &(), limits(Duration::from_millis(20)));
        assert!(first[..MOST_STUCK].iter().all(|answer| *answer == Err(Refused::TimedOut)));
        assert!(first[MOST_STUCK..].iter().all(|answer| *answer == Err(Refused::TooManyStuck)));
        let second = guard.read(&keys, &(), limits(LONG));
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
        let mut guard = Guard::new("test", |(): &(), _: &u32, _: &mut Reader| GATE.pass());
        let begin = Instant::now();
        let answers = guard.read(&[1, 2, 3], &(), Limits { each: LONG, all: SHORT });
        assert_eq!(answers, [Err(Refused::TimedOut), Err(Refused::NotAsked), Err(Refused::NotAsked)]);
        assert!(begin.elapsed() < LONG);
        GATE.open();
    }

    #[test]
    fn a_read_that_panics_costs_only_itself() {
        let mut guard = Guard::new("test", |(): &(), key: &u32, _: &mut Reader| {
            assert_ne!(*key, 1);
            *key
        });
        assert_eq!(guard.read(&[0, 1, 2], &(), limits(LONG)), [Ok(0), Err(Refused::NoThread), Ok(2)]);
        assert_eq!(guard.read(&[2], &(), limits(LONG)), [Ok(2)]);
    }
}
