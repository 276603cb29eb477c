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
    /// The time passed since `earlier`, never negative: by the boot clock within one boot, otherwise by the wall clock.
    pub fn since(&self, earlier: &Now) -> SignedDuration {
        let passed = if self.boot_id == earlier.boot_id {
            self.boottime - earlier.boottime
        } else {
            self.wall.duration_since(earlier.wall)
        };
        passed.max(SignedDuration::ZERO)
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
        due.since(self)
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
        check(at(1000, 500, "a"), at(900, 3, "b"), 0); // booted with a clock in the past
    }
}
