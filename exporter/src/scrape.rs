//! The thread that collects. Files of /proc and /sys are read there and not on the server's thread, which stays free
//! to answer others when a read takes long.
//!
//! Requests that wait when a scrape begins and want the same share its body: each got figures that were read after
//! it asked, and a second Prometheus costs nothing more.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;
use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;
use nexus_web::Gate;
use tokio::sync::oneshot;

use crate::collect::Selection;
use crate::exposition::Format;
use crate::gather::Gatherer;

/// Scrapes waiting beyond this are refused. More than there may be connections, so that who limits requests elsewhere, or
/// not at all, does not meet this limit; it bounds what those leave behind who went away while collecting took long.
const MOST_WAITING: usize = 256;

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
    /// Starts the thread; `gate` is the web configuration whose state is told. The receiver completes when the thread has
    /// ended before its handles, which only a panic does.
    pub fn start(gatherer: Gatherer, gate: Option<Arc<Gate>>) -> std::io::Result<(Scraper, oneshot::Receiver<()>)> {
        let (requests, asked) = sync_channel(MOST_WAITING);
        let (alive, ended) = oneshot::channel();
        thread::Builder::new().name("collect".to_owned()).spawn(move || {
            // Dropped at the end, whatever the end is.
            let _alive = alive;
            collect(gatherer, gate.as_deref(), &asked);
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

fn collect(mut gatherer: Gatherer, gate: Option<&Gate>, asked: &Receiver<Request>) {
    // The last body, whose memory the next one takes over.
    let mut last = Bytes::new();
    while let Ok(first) = asked.recv() {
        let mut waiting: Vec<Request> = std::iter::once(first).chain(asked.try_iter()).collect();
        // Whose client has gone meanwhile.
        waiting.retain(|request| !request.answer.is_closed());
        while let Some(request) = waiting.pop() {
            let mut snapshot = gatherer.gather(request.wanted, Timestamp::now());
            snapshot.web_config_ok = gate.map(Gate::is_ok);
            let body = Bytes::from(snapshot.render_into(buffer(last), request.format));
            let (same, others): (Vec<_>, Vec<_>) =
                waiting.into_iter().partition(|other| (other.wanted, other.format) == (request.wanted, request.format));
            for request in same.into_iter().chain([request]) {
                // A client that has gone is no fault.
                _ = request.answer.send(body.clone());
            }
            waiting = others;
            last = body;
        }
    }
}

/// The memory of a body that nobody holds any more: to have it from the allocator anew costs a page fault every four
/// kilobytes. Empty when a client is still being sent it.
fn buffer(body: Bytes) -> String {
    let mut bytes = Vec::from(body.try_into_mut().unwrap_or_default());
    bytes.clear();
    String::from_utf8(bytes).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::channel;

    use super::*;
    use crate::collect::{Calls, Collector, DockerState, Roots};
    use crate::settings::Settings;

    /// Collects from nowhere; `at_each` runs in each scrape that asks for containers.
    fn gatherer(at_each: impl Fn() + Send + 'static) -> Gatherer {
        let nowhere = || "/nonexistent".into();
        let roots = Roots { procfs: nowhere(), sysfs: nowhere(), rootfs: nowhere(), udev_data: nowhere() };
        let docker = Box::new(move || {
            at_each();
            DockerState::default()
        });
        Gatherer::new(roots, Settings::defaults(), Calls::REAL, docker)
    }

    #[tokio::test]
    async fn those_who_wait_together_share_one_body() {
        let (entered, entries) = channel();
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let times = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&times);
        let waits = gatherer(move || {
            counter.fetch_add(1, Ordering::SeqCst);
            entered.send(()).unwrap();
            _ = released.lock().unwrap().recv();
        });
        let (scraper, _ended) = Scraper::start(waits, None).unwrap();
        let containers = Selection::NONE.with(Collector::Container);
        let ask = |format| {
            let scraper = scraper.clone();
            tokio::spawn(async move { scraper.scrape(containers, format).await.unwrap() })
        };
        let first = ask(Format::Text);
        tokio::task::yield_now().await;
        entries.recv().unwrap();
        // The first scrape is under way: these come too late for it.
        let late: Vec<_> = (0..20).map(|_| ask(Format::Text)).collect();
        let other = ask(Format::OpenMetrics);
        tokio::task::yield_now().await;
        drop(release);
        let first = first.await.unwrap();
        let mut bodies = Vec::new();
        for late in late {
            bodies.push(late.await.unwrap());
        }
        assert!(bodies.iter().all(|body| body.as_ptr() == bodies[0].as_ptr()), "one body");
        assert_ne!(first.as_ptr(), bodies[0].as_ptr(), "read after they asked");
        assert!(other.await.unwrap().ends_with(b"# EOF\n"));
        assert_eq!(times.load(Ordering::SeqCst), 3);
    }

    #[test]
    fn a_bodys_memory_is_taken_over_once_nobody_holds_it() {
        let body = Bytes::from(String::with_capacity(100_000) + "text");
        let place = body.as_ptr();
        let held = body.clone();
        assert_eq!(buffer(held).capacity(), 0);
        let buffer = buffer(body);
        assert_eq!((buffer.len(), buffer.as_ptr()), (0, place));
        assert!(buffer.capacity() >= 100_000);
    }

    #[tokio::test]
    async fn a_thread_that_died_is_told() {
        let (scraper, ended) = Scraper::start(gatherer(|| panic!("a bug")), None).unwrap();
        let containers = Selection::NONE.with(Collector::Container);
        assert!(matches!(scraper.scrape(containers, Format::Text).await, Err(ScrapeError::Ended)));
        assert!(ended.await.is_err());
        assert!(matches!(scraper.scrape(containers, Format::Text).await, Err(ScrapeError::Ended)));
    }

    #[tokio::test]
    async fn too_many_who_wait_are_refused() {
        let (entered, entries) = channel();
        let (release, released) = channel::<()>();
        let released = Mutex::new(released);
        let waits = gatherer(move || {
            entered.send(()).unwrap();
            _ = released.lock().unwrap().recv();
        });
        let (scraper, _ended) = Scraper::start(waits, None).unwrap();
        let containers = Selection::NONE.with(Collector::Container);
        let ask = || {
            let scraper = scraper.clone();
            tokio::spawn(async move { scraper.scrape(containers, Format::Text).await })
        };
        let first = ask();
        tokio::task::yield_now().await;
        entries.recv().unwrap();
        let waiting: Vec<_> = (0..MOST_WAITING + 10).map(|_| ask()).collect();
        // Who is refused has its answer at once.
        let refused = async {
            while waiting.iter().filter(|answer| answer.is_finished()).count() < 10 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(Duration::from_secs(10), refused).await.expect("ten are refused");
        drop(release);
        assert!(first.await.unwrap().is_ok());
        let mut refused = 0;
        for answer in waiting {
            refused += usize::from(matches!(answer.await.unwrap(), Err(ScrapeError::Busy)));
        }
        assert_eq!(refused, 10);
    }
}
