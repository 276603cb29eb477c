//! A bucket of tokens: `burst` requests at once, and then one each `interval`.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rate {
    pub interval: Duration,
    pub burst: u32,
}

#[derive(Debug)]
pub(crate) struct Bucket {
    pub rate: Rate,
    /// Tokens, and when they were counted.
    level: Mutex<(f64, Instant)>,
}

impl Bucket {
    /// A full one.
    pub fn new(rate: Rate, now: Instant) -> Bucket {
        Bucket { rate, level: Mutex::new((f64::from(rate.burst), now)) }
    }

    /// Whether one more request may pass.
    pub fn take(&self, now: Instant) -> bool {
        let mut level = self.level.lock().unwrap_or_else(PoisonError::into_inner);
        let (tokens, counted) = *level;
        let earned = now.saturating_duration_since(counted).as_secs_f64() / self.rate.interval.as_secs_f64();
        let tokens = (tokens + earned).min(f64::from(self.rate.burst));
        let passes = tokens >= 1.0;
        *level = (if passes { tokens - 1.0 } else { tokens }, now);
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let begin = Instant::now();
        let bucket = Bucket::new(Rate { interval: Duration::from_secs(1), burst: 3 }, begin);
        let at = |millis: u64| bucket.take(begin + Duration::from_millis(millis));
        assert_eq!([at(0), at(0), at(0), at(0)], [true, true, true, false]);
        assert_eq!([at(900), at(1001), at(1002)], [false, true, false]);
        // However long it was quiet, no more than the burst.
        assert_eq!([at(60_000), at(60_000), at(60_000), at(60_000)], [true, true, true, false]);
    }
}
