//! The accept loop: hyper's HTTP/1.1 with the limits that `axum::serve` lacks.

use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};

/// Bounds on what a client may cost. The defaults are for a compose network with a handful of clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For the head of a request, from the first wait for it; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// For reading the body and making the answer; after it the client gets 503.
    pub request_timeout: Duration,
    /// Connections beyond it wait in the kernel's backlog.
    pub max_connections: usize,
    /// A connection is closed after its current request when it is older: no client holds a place for ever by reading
    /// slowly.
    pub max_connection_age: Duration,
    /// How long requests under way may take once shutdown has begun, or once a connection's age is reached.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // Prometheus keeps its connections between scrapes: longer than a scrape interval of a minute.
            header_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(30),
            max_connections: 128,
            max_connection_age: Duration::from_secs(600),
            drain_timeout: Duration::from_secs(5),
        }
    }
}

#[derive(Debug, thiserror::Error)]
#[error("can't listen on {address}{}", mend(source))]
pub struct BindError {
    address: SocketAddr,
    source: std::io::Error,
}

fn mend(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => ": another program listens there already, choose another port",
        std::io::ErrorKind::AddrNotAvailable => ": this machine has no such address",
        _ => "",
    }
}

/// Listens, or says which address is the matter.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, BindError> {
    TcpListener::bind(address).await.map_err(|source| BindError { address, source })
}

/// Serves until `shutdown` completes; then stops listening, lets requests under way finish within `drain_timeout`, and
/// returns when the last connection is closed.
pub async fn serve(listener: TcpListener, router: Router, limits: Limits, shutdown: impl Future<Output = ()>) {
    let router = router.layer(middleware::from_fn(move |request, next| within(limits.request_timeout, request, next)));
    let places = Arc::new(Semaphore::new(limits.max_connections));
    let (closing, _) = watch::channel(false);
    let mut shutdown = pin!(shutdown);
    loop {
        let accept = async {
            // The semaphore is never closed, so a permit always comes.
            let place = Arc::clone(&places).acquire_owned().await.ok();
            (listener.accept().await, place)
        };
        let (accepted, place) = tokio::select! {
            () = &mut shutdown => break,
            accepted = accept => accepted,
        };
        match accepted {
            Ok((stream, _)) => {
                let connection = connection(stream, router.clone(), limits, closing.subscribe());
                tokio::spawn(async move {
                    connection.await;
                    drop(place);
                });
            }
            Err(error) => {
                // Out of descriptors, most likely: give connections time to end instead of spinning.
                tracing::warn!(reason = %error, "can't accept a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
    drop(listener);
    closing.send_replace(true);
    closing.closed().await;
}

async fn connection(stream: TcpStream, router: Router, limits: Limits, mut closing: watch::Receiver<bool>) {
    // Answers are written whole; waiting for more to send only delays them.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(reason = %error, "can't set TCP_NODELAY");
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(64 * 1024);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let ended = tokio::select! {
        ended = connection.as_mut() => Some(ended),
        _ = closing.wait_for(|closing| *closing) => None,
        () = tokio::time::sleep(limits.max_connection_age) => None,
    };
    let ended = match ended {
        Some(ended) => ended,
        None => {
            connection.as_mut().graceful_shutdown();
            match tokio::time::timeout(limits.drain_timeout, connection).await {
                Ok(ended) => ended,
                Err(_) => return tracing::debug!("connection cut off: its request did not end in time"),
            }
        }
    };
    if let Err(error) = ended {
        tracing::debug!(reason = %error, "connection ended");
    }
}

async fn within(limit: Duration, request: Request, next: Next) -> Response {
    match tokio::time::timeout(limit, next.run(request)).await {
        Ok(response) => response,
        Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the request took too long\n").into_response(),
    }
}

/// Completes on SIGTERM (what Docker sends) or SIGINT (Ctrl-C).
pub async fn shutdown_signal() {
    use tokio::signal::unix::{SignalKind, signal};
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            tokio::select! {
                _ = terminate.recv() => (),
                _ = tokio::signal::ctrl_c() => (),
            }
        }
        Err(error) => {
            tracing::warn!(reason = %error, "can't listen for SIGTERM");
            if tokio::signal::ctrl_c().await.is_err() {
                std::future::pending().await
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Bytes;
    use axum::routing::{get, post};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::sync::{Notify, oneshot};

    use super::*;
    use crate::healthcheck;

    struct Server {
        address: SocketAddr,
        stop: Option<oneshot::Sender<()>>,
        /// Told when a request has reached `/slow` or `/hang`.
        entered: Arc<Notify>,
        done: tokio::task::JoinHandle<()>,
    }

    async fn start(limits: Limits) -> Server {
        let entered = Arc::new(Notify::new());
        let (slow, hang) = (Arc::clone(&entered), Arc::clone(&entered));
        let slow = async move || {
            slow.notify_one();
            tokio::time::sleep(Duration::from_millis(300)).await;
        };
        let hang = async move || {
            hang.notify_one();
            std::future::pending::<()>().await;
        };
        let router = Router::new()
            .route("/", get(|| async { "well" }))
            .route("/unwell", get(|| async { (StatusCode::SERVICE_UNAVAILABLE, "no journal") }))
            .route("/echo", post(|body: Bytes| async move { body }))
            .route("/slow", get(slow))
            .route("/hang", get(hang));
        let listener = bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        let done = tokio::spawn(serve(listener, router, limits, async { _ = stopped.await }));
        Server { address, stop: Some(stop), entered, done }
    }

    async fn raw(address: SocketAddr, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request).await.unwrap();
        let mut answer = Vec::new();
        // A reset instead of an orderly close is as good an end here.
        _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("cut off");
        String::from_utf8_lossy(&answer).into_owned()
    }

    #[tokio::test]
    async fn slow_heads_and_bodies_and_handlers_are_cut_off() {
        let limits = Limits {
            header_timeout: Duration::from_millis(100),
            request_timeout: Duration::from_millis(100),
            ..Limits::default()
        };
        let server = start(limits).await;
        assert!(raw(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ends_with("well"));
        assert!(!raw(server.address, b"GET / HTTP/1.1\r\nHo").await.contains("200"));
        assert!(!raw(server.address, b"").await.contains("200"));
        let endless = b"POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n123";
        assert!(raw(server.address, endless).await.starts_with("HTTP/1.1 503"));
        assert!(raw(server.address, b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n").await.starts_with("HTTP/1.1 503"));
        assert!(raw(server.address, b"nonsense\r\n\r\n").await.starts_with("HTTP/1.1 400"));
    }

    #[tokio::test]
    async fn shutdown_lets_a_request_finish_and_takes_no_more() {
        let mut server = start(Limits::default()).await;
        let address = server.address;
        let under_way = tokio::spawn(async move { raw(address, b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n").await });
        // An idle connection beside it must not hold us up.
        let idle = TcpStream::connect(server.address).await.unwrap();
        server.entered.notified().await;
        server.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server.done).await.expect("ends in time").unwrap();
        assert!(under_way.await.unwrap().starts_with("HTTP/1.1 200"));
        assert!(TcpStream::connect(server.address).await.is_err());
        drop(idle);
    }

    #[tokio::test]
    async fn shutdown_does_not_wait_for_ever() {
        let limits = Limits { drain_timeout: Duration::from_millis(100), ..Limits::default() };
        let mut server = start(limits).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /hang HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        server.entered.notified().await;
        server.stop.take().unwrap().send(()).unwrap();
        tokio::time::timeout(Duration::from_secs(5), server.done).await.expect("ends in time").unwrap();
    }

    #[tokio::test]
    async fn the_health_check_tells_well_from_unwell() {
        let server = start(Limits::default()).await;
        let ask = async |path| healthcheck(server.address, path, Duration::from_secs(5)).await;
        assert!(ask("/").await.is_ok());
        let error = ask("/unwell").await.unwrap_err().to_string();
        assert!(error.ends_with("says: HTTP/1.1 503 Service Unavailable no journal"), "{error}");
    }

    #[tokio::test]
    async fn a_taken_port_is_one_clear_line() {
        let server = start(Limits::default()).await;
        let error = bind(server.address).await.unwrap_err();
        assert!(error.to_string().ends_with("choose another port"), "{error}");
    }
}
