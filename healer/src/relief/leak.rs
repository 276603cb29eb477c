//! When something that grows will have reached its end: pure.
//!
//! A leak grows steadily. A program that loads its data, or a cache that fills, grows by leaps or stops growing, and must
//! not be taken for one.

use std::collections::VecDeque;

use jiff::SignedDuration;

/// What the pace is taken from. Longer would tell a leak too late, shorter would take every load for one.
const WINDOW: SignedDuration = SignedDuration::from_secs(30);
/// Less says nothing.
const LEAST: SignedDuration = SignedDuration::from_secs(16);

/// What was used when, on the clock that counts from the boot on.
#[derive(Clone, Debug, Default)]
pub struct Series {
    samples: VecDeque<(SignedDuration, u64)>,
}

impl Series {
    pub fn note(&mut self, at: SignedDuration, used: u64) {
        // Once in a second is enough, and bounds what is kept.
        if self.samples.back().is_some_and(|(last, _)| at - *last < SignedDuration::from_millis(900)) {
            return;
        }
        self.samples.push_back((at, used));
        while self.samples.front().is_some_and(|(first, _)| at - *first > WINDOW) {
            self.samples.pop_front();
        }
    }

    /// Bytes a second, when it has grown steadily; `None` otherwise.
    pub fn pace(&self) -> Option<f64> {
        let (first, last) = (self.samples.front()?, self.samples.back()?);
        if last.0 - first.0 < LEAST {
            return None;
        }
        let middle = first.0 + (last.0 - first.0) / 2;
        let half = self.samples.iter().find(|(at, _)| *at >= middle)?;
        let between = |from: &(SignedDuration, u64), to: &(SignedDuration, u64)| {
            (to.1 as f64 - from.1 as f64) / (to.0 - from.0).as_secs_f64()
        };
        if half.0 == first.0 || half.0 == last.0 {
            return None;
        }
        let (before, after, whole) = (between(first, half), between(half, last), between(first, last));
        // One leap lies in one of the halves alone.
        (whole > 0.0 && before >= 0.5 * whole && after >= 0.5 * whole).then_some(whole)
    }

    /// When it will have reached `limit` at this pace.
    pub fn left(&self, limit: u64) -> Option<SignedDuration> {
        let pace = self.pace()?;
        let used = self.samples.back()?.1;
        let seconds = limit.saturating_sub(used) as f64 / pace;
        // Beyond a day it says nothing.
        (seconds < 86_400.0).then(|| SignedDuration::from_millis((seconds * 1000.0) as i64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    fn series(used: impl Fn(i64) -> u64, seconds: i64) -> Series {
        let mut series = Series::default();
        for at in (0..=seconds).step_by(2) {
            series.note(SignedDuration::from_secs(at), used(at));
        }
        series
    }

    #[test]
    fn a_steady_leak_is_told_in_time() {
        // 2 MB/s against 128 MiB: it ends after a minute.
        let leak = |at: i64| at as u64 * 2_000_000;
        let end = 128 * MIB / 2_000_000;
        let told = (0..end as i64).find(|at| series(leak, *at).left(128 * MIB).is_some());
        assert_eq!(told, Some(16));
        let left = series(leak, 32).left(128 * MIB).unwrap().as_secs();
        assert!((33..=36).contains(&left), "{left}");
    }

    #[test]
    fn a_load_is_no_leak() {
        // All at once, early or late; a cache that is full; a saw; nothing at all.
        assert_eq!(series(|at| if at < 4 { 0 } else { 100 * MIB }, 30).left(128 * MIB), None);
        assert_eq!(series(|at| if at < 28 { 0 } else { 100 * MIB }, 30).left(128 * MIB), None);
        assert_eq!(series(|at| (at as u64 * 20 * MIB).min(100 * MIB), 30).left(128 * MIB), None);
        assert_eq!(series(|at| if at % 8 < 4 { 50 * MIB } else { 90 * MIB }, 30).left(128 * MIB), None);
        assert_eq!(series(|_| 100 * MIB, 30).left(128 * MIB), None);
        // Too short a look.
        assert_eq!(series(|at| at as u64 * MIB, 14).left(128 * MIB), None);
    }

    #[test]
    fn only_the_last_half_minute_is_kept() {
        let series = series(|at| at as u64, 10_000);
        assert!(series.samples.len() <= 16, "{}", series.samples.len());
        let mut fast = Series::default();
        for at in 0..100_000 {
            fast.note(SignedDuration::from_millis(at), 1);
        }
        assert!(fast.samples.len() <= 35, "{}", fast.samples.len());
    }
}
