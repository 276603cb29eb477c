//! The moment a decision is made at, passed in so that decisions need no clock.

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// Wall time for people, time since boot for measuring. A Pi 4 has no battery-backed clock: after a boot the wall time
/// may be hours off until NTP steps it, so intervals within one boot are taken from `boottime`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Now {
    pub wall: Timestamp,
    /// CLOCK_BOOTTIME: time since this boot, counting suspend.
    pub boottime: SignedDuration,
    /// `/proc/sys/kernel/random/boot_id`; another id means that `boottime` of before says nothing.
    pub boot_id: String,
}

impl Now {
    /// The time passed since `earlier`, never negative: by the boot clock within one boot. Across a boot by the wall clock,
    /// which may stand anywhere on a machine without a battery, but at least as long as this boot has lasted.
    pub fn since(&self, earlier: &Now) -> SignedDuration {
        if self.boot_id == earlier.boot_id {
            (self.boottime - earlier.boottime).max(SignedDuration::ZERO)
        } else {
            self.wall.duration_since(earlier.wall).max(self.boottime)
        }
    }

    /// The moment `delay` after this one.
    pub fn after(&self, delay: SignedDuration) -> Now {
        Now {
            wall: self.wall.checked_add(delay).unwrap_or(Timestamp::MAX),
            boottime: self.boottime.saturating_add(delay),
            boot_id: self.boot_id.clone(),
        }
    }

    /// What is left until `due`, never negative. After a reboot the remainder is judged by the wall clock.
    pub fn until(&self, due: &Now) -> SignedDuration {
        let left =
            if self.boot_id == due.boot_id { due.boottime - self.boottime } else { due.wall.duration_since(self.wall) };
        left.max(SignedDuration::ZERO)
    }

    /// What is left until `due`, of a wait that was never meant to be longer than `longest`: a wall clock that went back
    /// over a reboot does not hold it for ever.
    pub fn until_at_most(&self, due: &Now, longest: SignedDuration) -> SignedDuration {
        let longest = if self.boot_id == due.boot_id { longest } else { longest - self.boottime };
        self.until(due).min(longest).max(SignedDuration::ZERO)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(wall: i64, boottime: i64, boot_id: &str) -> Now {
        Now {
            wall: Timestamp::from_second(wall).unwrap(),
            boottime: SignedDuration::from_secs(boottime),
            boot_id: boot_id.into(),
        }
    }

    #[test]
    fn intervals_follow_the_boot_clock_within_a_boot_and_the_wall_clock_across_boots() {
        let check = |earlier: Now, later: Now, seconds: i64| {
            assert_eq!(later.since(&earlier), SignedDuration::from_secs(seconds), "{earlier:?} -> {later:?}");
        };
        check(at(1000, 10, "a"), at(1005, 15, "a"), 5);
        check(at(1000, 10, "a"), at(4605, 15, "a"), 5); // NTP stepped the wall clock by an hour
        check(at(4600, 10, "a"), at(1000, 15, "a"), 5); // and back
        check(at(1000, 500, "a"), at(1060, 3, "b"), 60);
        check(at(1000, 500, "a"), at(900, 3, "b"), 3); // booted with a clock in the past
    }

    #[test]
    fn a_wait_ends_although_the_clock_went_back_over_a_reboot() {
        let due = at(1_600, 600, "a");
        let longest = SignedDuration::from_secs(600);
        let check = |now: Now, seconds: i64| {
            assert_eq!(now.until_at_most(&due, longest), SignedDuration::from_secs(seconds), "{now:?}");
        };
        check(at(1_000, 0, "a"), 600);
        check(at(9_000, 100, "a"), 500); // NTP stepped the wall clock
        check(at(1_500, 20, "b"), 100);
        check(at(1_700, 20, "b"), 0);
        check(at(200, 20, "b"), 580); // a week behind would be the same
        check(at(780, 600, "b"), 0);
    }
}
