//! Waiting for a condition with a deadline. There is no fixed sleep in any case.

use std::fmt::Display;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

const POLL: Duration = Duration::from_millis(300);

/// Asks until there is an answer. An error is no answer yet; the last one is told when the time is over.
pub async fn eventually<T, F>(what: impl Display, limit: Duration, mut ask: impl FnMut() -> F) -> Result<T>
where
    F: Future<Output = Result<Option<T>>>,
{
    let deadline = Instant::now() + limit;
    loop {
        let last = match ask().await {
            Ok(Some(answer)) => return Ok(answer),
            Ok(None) => None,
            Err(error) => Some(error),
        };
        if Instant::now() >= deadline {
            let seconds = limit.as_secs();
            match last {
                Some(error) => return Err(error.context(format!("not within {seconds} s: {what}"))),
                None => bail!("not within {seconds} s: {what}"),
            }
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Watches for some time that nothing changes; fails at once when it does.
pub async fn stays<T, F>(what: impl Display, time: Duration, expected: &T, mut ask: impl FnMut() -> F) -> Result<()>
where
    T: PartialEq + std::fmt::Debug,
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + time;
    while Instant::now() < deadline {
        let found = ask().await?;
        if found != *expected {
            bail!("{what} was {expected:?} and became {found:?}");
        }
        tokio::time::sleep(POLL).await;
    }
    Ok(())
}

pub const fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
