//! The thread that collects. Files of /proc and /sys are read there and not on the server's thread, which stays free
//! to answer others when a read takes long.
//!
//! Requests that wait when a scrape begins and want the same share its body: each got figures that were read after
//! it asked, and a second Prometheus costs nothing more.

use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use tokio::sync::oneshot;

use crate::collect::Selection;
use crate::exposition::Format;
use crate::gather::Gatherer;

/// Scrapes waiting beyond this are refused.
const MOST_WAITING: usize = 64;

/// Prometheus gives up after ten seconds by default.
const DEADLINE: Duration = Duration::from_secs(9);

#[derive(Debug, thiserror::Error)]
pub enum ScrapeError {
    #[error("collecting takes longer than {} s", DEADLINE.as_secs())]
    TimedOut,
    #[error("{MOST_WAITING} scrapes are waiting already")]
    Busy,
    #[error("the collecting thread has ended")]
    Ended,
}

struct Request {
    wanted: Selection,
    format: Format,
    answer: oneshot::Sender<Bytes>,
}

/// Handle of the collecting thread, which ends when the last handle is dropped.
#[derive(Clone, Debug)]
pub struct Scraper {
    requests: SyncSender<Request>,
}

impl Scraper {
    /// Starts the thread. The receiver completes when the thread has ended before its handles, which only a panic does.
    pub fn start(gatherer: Gatherer) -> std::io::Result<(Scraper, oneshot::Receiver<()>)> {
        let (requests, asked) = sync_channel(MOST_WAITING);
        let (alive, ended) = oneshot::channel();
        thread::Builder::new().name("collect".to_owned()).spawn(move || {
            // Dropped at the end, whatever the end is.
            let _alive = alive;
            collect(gatherer, &asked);
        })?;
        Ok((Scraper { requests }, ended))
    }

    /// The exposition, read after this call.
    pub async fn scrape(&self, wanted: Selection, format: Format) -> Result<Bytes, ScrapeError> {
        let (answer, body) = oneshot::channel();
        self.requests.try_send(Request { wanted, format, answer }).map_err(|error| match error {
            TrySendError::Full(_) => ScrapeError::Busy,
            TrySendError::Disconnected(_) => ScrapeError::Ended,
        })?;
        match tokio::time::timeout(DEADLINE, body).await {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(_)) => Err(ScrapeError::Ended),
            Err(_) => Err(ScrapeError::TimedOut),
        }
    }
}

fn collect(mut gatherer: Gatherer, asked: &Receiver<Request>) {
    while let Ok(first) = asked.recv() {
        let mut waiting: Vec<Request> = std::iter::once(first).chain(asked.try_iter()).collect();
        // Whose client has gone meanwhile.
        waiting.retain(|request| !request.answer.is_closed());
        while let Some(request) = waiting.pop() {
            let body = Bytes::from(gatherer.gather(request.wanted, Timestamp::now()).render(request.format));
            let (same, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|other| (other.wanted, other.format) == (request.wanted, request.format));
            for request in same.into_iter().chain([request]) {
                // A client that has gone is no fault.
                _ = request.answer.send(body.clone());
            }
            waiting = others;
        }
    }
}
