//! What the tests of the running program share: the program as a child process, a fake Docker engine on a unix socket
//! that it talks to with its real client, and a fake Alertmanager.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]
#![allow(dead_code, reason = "each test file uses its part")]

pub mod contract;
pub mod engine;
pub mod healer;
pub mod mounted;
pub mod real;

use std::time::{Duration, Instant};

/// Longer than anything takes on a busy machine: the longest that a test waits for takes 24 s on an idle one.
pub const PATIENCE: Duration = Duration::from_secs(90);

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
