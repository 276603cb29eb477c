//! Where the tests kill the running healer, and how they slow its disk down. A build for use (`--release`) has none of it:
//! there the two functions are empty, and the names of the variables are not in the program.

/// A point that has a name. `NEXUS_FAULT=NAME` kills the process here as `kill -9` does, the first time that it comes by;
/// `NEXUS_FAULT=NAME:3` the third time.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

/// The moment before a commit, which an SD card takes 10 to 30 ms for: `NEXUS_FAULT_COMMIT_MS` is waited for.
#[inline]
pub fn slow_disk() {
    #[cfg(debug_assertions)]
    armed::slow_disk();
}

#[cfg(debug_assertions)]
mod armed {
    use std::{
        sync::{
            OnceLock,
            atomic::{AtomicU32, Ordering},
        },
        time::Duration,
    };

    use rustix::process::{Signal, getpid, kill_process};

    /// The name, and how often it is passed before.
    static FAULT: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();
    static SLOW: OnceLock<Option<Duration>> = OnceLock::new();

    fn variable(name: &str) -> Option<String> {
        std::env::var(name).ok().filter(|value| !value.is_empty())
    }

    pub(super) fn point(name: &str) {
        let fault = FAULT.get_or_init(|| {
            let value = variable("NEXUS_FAULT")?;
            let (name, count) = value.split_once(':').unwrap_or((&value, "1"));
            Some((name.to_owned(), AtomicU32::new(count.parse().unwrap_or(1))))
        });
        let Some((wanted, left)) = fault else { return };
        if wanted == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // What is left of a failure to do so is a test that waits in vain.
            _ = kill_process(getpid(), Signal::KILL);
        }
    }

    pub(super) fn slow_disk() {
        let slow = SLOW.get_or_init(|| {
            let millis = variable("NEXUS_FAULT_COMMIT_MS")?.parse().ok()?;
            Some(Duration::from_millis(millis))
        });
        if let Some(slow) = slow {
            std::thread::sleep(*slow);
        }
    }
}
