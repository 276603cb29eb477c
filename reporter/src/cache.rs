//! An answer that is good for a while, and asked for once by however many want it at the same time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use tokio::sync::Mutex;

#[derive(Debug)]
pub struct Cache<T> {
    age: SignedDuration,
    last: Mutex<Option<(Timestamp, Arc<T>)>>,
}

impl<T> Cache<T> {
    /// One whose answers are good for `age`.
    pub fn new(age: SignedDuration) -> Cache<T> {
        Cache { age, last: Mutex::new(None) }
    }

    /// What was asked last, or what is asked now. Who comes meanwhile waits for the same answer.
    pub async fn get<F: Future<Output = T>>(&self, now: Timestamp, ask: impl FnOnce() -> F) -> Arc<T> {
        self.get_while(now, ask, |_| true).await
    }

    /// The same, keeping only an answer that is worth it.
    pub async fn get_while<F: Future<Output = T>>(
        &self,
        now: Timestamp,
        ask: impl FnOnce() -> F,
        is_kept: impl Fn(&T) -> bool,
    ) -> Arc<T> {
        let mut last = self.last.lock().await;
        // A clock that was put back makes nothing good for ever.
        let is_good = |at: Timestamp| (SignedDuration::ZERO..self.age).contains(&now.duration_since(at));
        if let Some((_, answer)) = last.as_ref().filter(|(at, _)| is_good(*at)) {
            return Arc::clone(answer);
        }
        let answer = Arc::new(ask().await);
        *last = is_kept(&answer).then(|| (now, Arc::clone(&answer)));
        answer
    }
}

impl<T> Cache<T> {
    /// Asks anew before it is too old, without making anybody wait; an answer that is not worth it changes nothing. Tells whether it was.
    pub async fn renew(&self, now: Timestamp, ask: impl Future<Output = T>, is_kept: impl Fn(&T) -> bool) -> bool {
        let answer = Arc::new(ask.await);
        let kept = is_kept(&answer);
        if kept {
            *self.last.lock().await = Some((now, answer));
        }
        kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn it_is_asked_again_when_it_is_old_and_when_the_clock_went_back() {
        let cache = Cache::new(SignedDuration::from_secs(5));
        let at = |second| Timestamp::from_second(second).unwrap();
        let mut asked = 0;
        for (now, expected) in [(100, 1), (104, 1), (105, 2), (50, 3), (51, 3)] {
            let answer = cache.get(at(now), async || {
                asked += 1;
                asked
            });
            assert_eq!(*answer.await, expected, "at {now}");
        }
    }

    #[tokio::test]
    async fn what_is_not_worth_it_is_asked_again() {
        let cache = Cache::new(SignedDuration::from_secs(5));
        let mut asked = 0;
        for expected in [1, 2, 3, 3] {
            let ask = async || {
                asked += 1;
                asked
            };
            assert_eq!(*cache.get_while(Timestamp::UNIX_EPOCH, ask, |answer| *answer == 3).await, expected);
        }
    }

    #[tokio::test]
    async fn it_is_renewed_by_what_is_worth_it() {
        let cache = Cache::new(SignedDuration::from_secs(5));
        let at = |second| Timestamp::from_second(second).unwrap();
        assert!(cache.renew(at(100), async { 1 }, |_| true).await);
        assert!(!cache.renew(at(104), async { 2 }, |_| false).await);
        assert_eq!(*cache.get(at(104), async || 3).await, 1);
        assert!(cache.renew(at(104), async { 4 }, |_| true).await);
        assert_eq!(*cache.get(at(108), async || 5).await, 4);
    }

    #[tokio::test]
    async fn who_comes_at_the_same_time_gets_the_same_answer() {
        let cache = Cache::new(SignedDuration::from_secs(5));
        let asked = std::sync::atomic::AtomicU32::new(0);
        let ask = || {
            cache.get(Timestamp::UNIX_EPOCH, async || {
                tokio::task::yield_now().await;
                asked.fetch_add(1, std::sync::atomic::Ordering::Relaxed)
            })
        };
        let (one, other) = tokio::join!(ask(), ask());
        assert!(Arc::ptr_eq(&one, &other) && asked.into_inner() == 1);
    }
}
