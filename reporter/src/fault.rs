//! Where the tests kill the running reporter. A build for use (`--release`) has none of it: there the function is empty,
//! and the name of the variable is not in the program.

/// A point that has a name. `NEXUS_FAULT=NAME` kills the process here as `kill -9` does, the first time that it comes by;
/// `NEXUS_FAULT=NAME:3` the third time.
#[inline]
pub fn point(name: &str) {
    #[cfg(debug_assertions)]
    armed::point(name);
    #[cfg(not(debug_assertions))]
    let _ = name;
}

#[cfg(debug_assertions)]
mod armed {
    use std::sync::{
        OnceLock,
        atomic::{AtomicU32, Ordering},
    };

    use rustix::process::{Signal, getpid, kill_process};

    /// The name, and how often it is passed before.
    static FAULT: OnceLock<Option<(String, AtomicU32)>> = OnceLock::new();

    pub(super) fn point(name: &str) {
        let fault = FAULT.get_or_init(|| {
            let value = std::env::var("NEXUS_FAULT").ok().filter(|value| !value.is_empty())?;
            let (name, count) = value.split_once(':').unwrap_or((&value, "1"));
            Some((name.to_owned(), AtomicU32::new(count.parse().unwrap_or(1))))
        });
        let Some((wanted, left)) = fault else { return };
        if wanted == name && left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // What is left of a failure to do so is a test that waits in vain.
            _ = kill_process(getpid(), Signal::KILL);
        }
    }
}
