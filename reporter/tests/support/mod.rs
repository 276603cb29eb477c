//! What the tests of the running program share: a database of its own for each case, a Prometheus that says what the test
//! wants, and the program as a child process.

#![allow(dead_code, reason = "each test file uses its part")]

pub mod database;
pub mod prometheus;
pub mod reporter;
pub mod site;

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Waits for a condition, with a deadline. What it is waited for is named when it does not come.
pub async fn eventually<T>(what: &str, mut found: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = found().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never came: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
