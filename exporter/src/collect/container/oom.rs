//! Counting OOM kills across restarts, from two sources that each miss some.

use jiff::Timestamp;

/// Kills of one container, as long as this process lives.
///
/// The kernel's counter sees each kill but vanishes with the group when the container ends, as it does when its first
/// process was the one killed. Docker's events survive that, but several kills may be one event, and those from before
/// the watching are not there. Both are counted on from what the kernel said first, and the greater is taken: the result
/// never goes back, and a kill seen by either moves it.
#[derive(Debug, Default)]
pub struct OomCounter {
    /// Of which run `last` is.
    run: Option<Timestamp>,
    /// What the kernel said last of this run.
    last: Option<u64>,
    /// The sum of earlier runs.
    earlier: u64,
    /// What the kernel said when this container was first seen, and what Docker had said by then.
    first: Option<(u64, u64)>,
}

impl OomCounter {
    /// `kernel` is the counter of the group, `None` when there is no group now; `events` those that Docker told.
    pub fn count(&mut self, run: Option<Timestamp>, kernel: Option<u64>, events: u64) -> u64 {
        if self.run != run || kernel < self.last && kernel.is_some() {
            self.earlier += self.last.take().unwrap_or(0);
            self.run = run;
        }
        if kernel.is_some() {
            self.last = kernel;
        }
        let (first_kernel, first_events) = *self.first.get_or_insert((kernel.unwrap_or(0), events));
        let by_kernel = self.earlier + self.last.unwrap_or(0);
        // Without a group at first sight, what Docker told until then is all there is.
        let begin = first_kernel.max(first_events);
        by_kernel.max(begin + (events - first_events.min(events)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(number: i64) -> Option<Timestamp> {
        Timestamp::from_second(number).ok()
    }

    #[test]
    fn a_kill_seen_by_either_counts_once() {
        let mut counter = OomCounter::default();
        assert_eq!(counter.count(run(1), Some(0), 0), 0);
        // A child was killed.
        assert_eq!(counter.count(run(1), Some(1), 1), 1);
        // The first process was killed: the group is gone, only the event tells.
        assert_eq!(counter.count(run(1), None, 2), 2);
        assert_eq!(counter.count(run(2), Some(0), 2), 2);
        assert_eq!(counter.count(run(2), Some(1), 3), 3);
    }

    #[test]
    fn kills_from_before_the_watching_are_not_lost() {
        let mut counter = OomCounter::default();
        assert_eq!(counter.count(run(1), Some(5), 0), 5);
        assert_eq!(counter.count(run(1), None, 1), 6);
        assert_eq!(counter.count(run(2), Some(0), 1), 6);
        // Two kills, one event.
        assert_eq!(counter.count(run(2), Some(2), 2), 7);
    }

    #[test]
    fn first_seen_when_it_was_dead_already() {
        let mut counter = OomCounter::default();
        assert_eq!(counter.count(run(1), None, 1), 1);
        assert_eq!(counter.count(run(2), Some(0), 1), 1);
    }

    proptest! {
        #[test]
        fn never_goes_back(steps in proptest::collection::vec((0i64..4, proptest::option::of(0u64..5), 0u64..3), 1..40)) {
            let mut counter = OomCounter::default();
            let (mut events, mut before) = (0, 0);
            for (started, kernel, more) in steps {
                events += more;
                let now = counter.count(run(started), kernel, events);
                prop_assert!(now >= before);
                before = now;
            }
        }
    }
}
