//! Who may be connected. Places are few; when all are taken, the connection that has waited longest for a request makes
//! room for a new one. If it has been answered before it does so at once; if it has not asked for anything yet it is left in
//! peace for some time first, since a burst of clients that have just connected must all get their turn. But that time is
//! granted once, however many such connections there are: when places have been short for as long, nobody is spared any more.
//! So whoever holds connections open without asking for anything keeps nobody out for long, and does not push out who asks now
//! and then on a connection that is kept.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::Instant;

/// How long one that was asked to leave may take before another is asked: it only has to be woken.
const PATIENCE: Duration = Duration::from_millis(100);

#[derive(Debug)]
pub(crate) struct Places {
    free: Arc<Semaphore>,
    queue: Arc<Mutex<Queue>>,
    /// For so long a connection may wait for its first request in peace.
    grace: Duration,
}

/// The connections that wait for a request, in the order in which they began to.
#[derive(Debug, Default)]
struct Queue {
    next: u64,
    waiting: BTreeMap<u64, Waiting>,
    /// Since when there has been no place to spare.
    short_since: Option<Instant>,
}

#[derive(Debug)]
struct Waiting {
    since: Instant,
    /// It has not been answered yet.
    is_new: bool,
    leave: Arc<Notify>,
}

/// A connection's place, given back when the last part of the connection lets go of it.
#[derive(Debug)]
pub(crate) struct Place {
    _permit: OwnedSemaphorePermit,
    queue: Arc<Mutex<Queue>>,
    leave: Arc<Notify>,
    stage: Mutex<Stage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// For a request's head, with a number in the queue; also during a TLS handshake.
    Waiting(u64),
    /// A request is being answered.
    Busy,
    /// All of the answer has been made, but not all has been sent.
    Answered,
}

impl Places {
    pub fn new(count: usize, grace: Duration) -> Places {
        Places { free: Arc::new(Semaphore::new(count)), queue: Arc::default(), grace }
    }

    /// A place, once there is one.
    pub async fn take(&self) -> Arc<Place> {
        loop {
            if let Ok(permit) = Arc::clone(&self.free).try_acquire_owned() {
                if self.free.available_permits() > 0 {
                    lock(&self.queue).short_since = None;
                }
                return self.place(permit);
            }
            let freed = tokio::time::timeout(self.make_room(), Arc::clone(&self.free).acquire_owned());
            if let Ok(Ok(permit)) = freed.await {
                return self.place(permit);
            }
        }
    }

    /// Asks the connection that has waited longest to leave, if it has waited long enough. Says after what time to ask again.
    fn make_room(&self) -> Duration {
        let mut queue = lock(&self.queue);
        let short_for = queue.short_since.get_or_insert_with(Instant::now).elapsed();
        let Some(longest) = queue.waiting.first_entry() else { return PATIENCE };
        let left = self.grace.saturating_sub(longest.get().since.elapsed().max(short_for));
        if left.is_zero() || !longest.get().is_new {
            longest.remove().leave.notify_one();
            return PATIENCE;
        }
        left.min(PATIENCE)
    }

    fn place(&self, permit: OwnedSemaphorePermit) -> Arc<Place> {
        let place = Place {
            _permit: permit,
            queue: Arc::clone(&self.queue),
            leave: Arc::new(Notify::new()),
            stage: Mutex::new(Stage::Busy),
        };
        place.wait(true);
        Arc::new(place)
    }
}

impl Place {
    /// A request has been read.
    pub fn begin(&self) {
        self.dequeue(Stage::Busy);
    }

    /// Its answer has been made.
    pub fn answered(&self) {
        *lock(&self.stage) = Stage::Answered;
    }

    /// All that has been made is sent.
    pub fn flushed(&self) {
        if *lock(&self.stage) == Stage::Answered {
            self.wait(false);
        }
    }

    /// Completes when another needs the place, and no request is under way.
    pub async fn is_wanted(&self) {
        loop {
            self.leave.notified().await;
            if matches!(*lock(&self.stage), Stage::Waiting(_)) {
                return;
            }
        }
    }

    fn wait(&self, is_new: bool) {
        let mut queue = lock(&self.queue);
        let number = queue.next;
        queue.next += 1;
        queue.waiting.insert(number, Waiting { since: Instant::now(), is_new, leave: Arc::clone(&self.leave) });
        *lock(&self.stage) = Stage::Waiting(number);
    }

    fn dequeue(&self, next: Stage) {
        let stage = std::mem::replace(&mut *lock(&self.stage), next);
        if let Stage::Waiting(number) = stage {
            lock(&self.queue).waiting.remove(&number);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.dequeue(Stage::Busy);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a connection does.
    async fn leaves(place: Arc<Place>) {
        place.is_wanted().await;
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_longest_makes_room() {
        let places = Places::new(3, Duration::ZERO);
        let (first, second, third) = (places.take().await, places.take().await, places.take().await);
        // The first two have been answered, the second before the first; the third is busy now.
        answer(&second);
        answer(&first);
        third.begin();
        let (fourth, ()) = tokio::join!(places.take(), leaves(second));
        fourth.begin();
        let (_fifth, ()) = tokio::join!(places.take(), leaves(first));
        assert_eq!(lock(&places.queue).waiting.len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn a_request_under_way_is_not_cut_off() {
        let places = Arc::new(Places::new(1, Duration::ZERO));
        let only = places.take().await;
        let other = tokio::spawn({
            let places = Arc::clone(&places);
            async move { places.take().await }
        });
        // Asked to leave, but a request has come first.
        tokio::task::yield_now().await;
        only.begin();
        let wanted = tokio::time::timeout(Duration::from_secs(5), only.is_wanted()).await;
        assert!(wanted.is_err() && !other.is_finished());
        only.answered();
        assert!(tokio::time::timeout(Duration::from_secs(5), only.is_wanted()).await.is_err());
        // Once it is sent, the place is given up.
        only.flushed();
        tokio::time::timeout(Duration::from_secs(5), only.is_wanted()).await.expect("asked again");
        drop(only);
        other.await.unwrap();
        assert!(lock(&places.queue).waiting.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_just_come_is_left_in_peace() {
        let grace = Duration::from_secs(2);
        let places = Places::new(1, grace);
        let begin = Instant::now();
        let first = places.take().await;
        tokio::join!(places.take(), leaves(first));
        assert!(begin.elapsed() >= grace && begin.elapsed() < grace * 2, "{:?}", begin.elapsed());
    }

    fn answer(place: &Place) {
        place.begin();
        place.answered();
        place.flushed();
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_been_answered_and_waits_longest_leaves_at_once() {
        let places = Places::new(2, Duration::from_secs(2));
        let answered = places.take().await;
        answer(&answered);
        let new = places.take().await;
        let begin = Instant::now();
        tokio::join!(places.take(), leaves(answered));
        assert!(begin.elapsed() < PATIENCE, "{:?}", begin.elapsed());
        drop(new);
    }

    #[tokio::test(start_paused = true)]
    async fn who_asks_now_and_then_is_not_pushed_out_by_those_who_never_ask() {
        let grace = Duration::from_secs(2);
        let places = Places::new(8, grace);
        let kept = places.take().await;
        for number in 0..500 {
            tokio::spawn(leaves(places.take().await));
            if number % 7 == 0 {
                answer(&kept);
            }
        }
        assert!(tokio::time::timeout(grace, kept.is_wanted()).await.is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn hundreds_who_ask_for_nothing_are_spared_once_and_not_each() {
        let grace = Duration::from_secs(2);
        let places = Places::new(4, grace);
        let begin = Instant::now();
        for _ in 0..500 {
            tokio::spawn(leaves(places.take().await));
        }
        assert!(begin.elapsed() >= grace && begin.elapsed() < grace * 2, "{:?}", begin.elapsed());
        // Once there has been room to spare, the next ones have their time again.
        let four = async || [places.take().await, places.take().await, places.take().await, places.take().await];
        drop(four().await);
        let begin = Instant::now();
        let [first, _second, _third, _fourth] = four().await;
        tokio::join!(places.take(), leaves(first));
        assert!(begin.elapsed() >= grace, "{:?}", begin.elapsed());
    }
}
