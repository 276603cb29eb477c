//! The one place that reads clocks.

use jiff::{SignedDuration, Timestamp};
use nexus_model::Now;
use rustix::time::{ClockId, clock_gettime};

/// Reads the wall clock and the boot clock together; the boot id is read once.
#[derive(Clone, Debug)]
pub struct Clock {
    boot_id: String,
}

impl Clock {
    /// Without a readable boot id each start counts as a boot of its own: intervals across it follow the wall clock.
    pub fn new() -> Self {
        let boot_id = std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
            .map(|id| id.trim().to_owned())
            .unwrap_or_else(|_| uuid::Uuid::now_v7().to_string());
        Self { boot_id }
    }

    pub fn now(&self) -> Now {
        let boottime = clock_gettime(ClockId::Boottime);
        Now {
            wall: Timestamp::now(),
            // The kernel gives nanoseconds below a second, so they fit.
            boottime: SignedDuration::new(boottime.tv_sec, boottime.tv_nsec as i32),
            boot_id: self.boot_id.clone(),
        }
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}

/// A number in 0.0..1.0 for jitter. Without randomness from the system the middle: jitter is a courtesy.
pub fn random() -> f64 {
    getrandom::u32().map_or(0.5, |number| f64::from(number) / f64::from(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_passes_within_one_boot() {
        let clock = Clock::new();
        let first = clock.now();
        let second = clock.now();
        assert_eq!(first.boot_id, second.boot_id);
        assert!(!first.boot_id.is_empty());
        assert!(second.boottime >= first.boottime && first.boottime > SignedDuration::ZERO);
        assert!((0.0..=1.0).contains(&random()));
    }
}
