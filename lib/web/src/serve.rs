//! The accept loop: hyper's HTTP/1.1 with the limits that `axum::serve` lacks, and TLS where there is a gate that asks for it.

use std::convert::Infallible;
use std::net::{IpAddr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::response::{IntoResponse, Response};
use http::{Request, StatusCode};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use crate::gate::Gate;
use crate::places::{Place, Places};
use crate::timed::Timed;

/// Bounds on what a client may cost. The defaults are for a compose network with a handful of clients.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// For a TLS handshake.
    pub handshake_timeout: Duration,
    /// For the head of a request, from the first wait for it; also how long an idle connection is kept.
    pub header_timeout: Duration,
    /// For reading the body and making the answer; after it the client gets 503.
    pub request_timeout: Duration,
    /// For taking the answer, from the moment that the client keeps us waiting; after it the connection is cut off.
    pub write_timeout: Duration,
    /// When there are as many, the connection that has waited longest for a request is closed for a new one. While those that
    /// are new are spared, others wait in the kernel's backlog.
    pub max_connections: usize,
    /// For so long, once for all of them, new connections may wait for a request in peace: a burst of clients must all get
    /// their turn. It is the longest that a request waits for those who hold connections open and ask for nothing.
    pub grace: Duration,
    /// A connection is closed after its current request when it is older: no client holds a place for ever.
    pub max_connection_age: Duration,
    /// How long requests under way may take once shutdown has begun, or once a connection's age is reached.
    pub drain_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            // A Pi that is busy takes a second for an RSA key.
            handshake_timeout: Duration::from_secs(10),
            // Prometheus keeps its connections between scrapes: longer than a scrape interval of a minute.
            header_timeout: Duration::from_secs(75),
            request_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            max_connections: 128,
            // Who connects has its request ready; a busy Pi takes some tenths of a second to send it.
            grace: Duration::from_secs(1),
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
    serve_gated(vec![listener], router, limits, None, shutdown).await;
}

/// As [`serve`], on several listeners, and behind a gate if there is one.
pub async fn serve_gated(
    listeners: Vec<TcpListener>,
    router: Router,
    limits: Limits,
    gate: Option<Arc<Gate>>,
    shutdown: impl Future<Output = ()>,
) {
    let places = Places::new(limits.max_connections, limits.grace);
    let server = Arc::new(Server { router: TowerToHyperService::new(router), limits, gate, places });
    let (closing, _) = watch::channel(false);
    let mut accepting = JoinSet::new();
    for listener in listeners {
        accepting.spawn(Arc::clone(&server).accept(listener, closing.subscribe()));
    }
    tokio::select! {
        () = shutdown => (),
        // Only a panic ends one of them.
        _ = accepting.join_next() => (),
    }
    closing.send_replace(true);
    closing.closed().await;
}

struct Server {
    router: TowerToHyperService<Router>,
    limits: Limits,
    gate: Option<Arc<Gate>>,
    places: Places,
}

impl Server {
    async fn accept(self: Arc<Self>, listener: TcpListener, mut closing: watch::Receiver<bool>) {
        loop {
            let accept = async {
                let (stream, from) = listener.accept().await?;
                Ok::<_, std::io::Error>((stream, from, self.places.take().await))
            };
            let accepted = tokio::select! {
                _ = closing.wait_for(|closing| *closing) => return,
                accepted = accept => accepted,
            };
            match accepted {
                Ok((stream, from, place)) => {
                    tokio::spawn(Arc::clone(&self).connection(stream, from.ip(), place, closing.clone()));
                }
                Err(error) => {
                    // Out of descriptors, most likely: give connections time to end instead of spinning.
                    tracing::warn!(reason = %error, "can't accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    async fn connection(
        self: Arc<Self>,
        stream: TcpStream,
        from: IpAddr,
        place: Arc<Place>,
        mut closing: watch::Receiver<bool>,
    ) {
        // Answers are written whole; waiting for more to send only delays them.
        if let Err(error) = stream.set_nodelay(true) {
            tracing::debug!(reason = %error, "can't set TCP_NODELAY");
        }
        let Some(tls) = self.gate.as_ref().and_then(|gate| gate.rules().tls.clone()) else {
            return self.http(stream, from, place, closing).await;
        };
        let handshake = tokio::time::timeout(self.limits.handshake_timeout, handshake(stream, TlsAcceptor::from(tls)));
        let stream = tokio::select! {
            _ = closing.wait_for(|closing| *closing) => return,
            () = place.is_wanted() => return,
            stream = handshake => stream,
        };
        match stream {
            Ok(Ok(Some(stream))) => self.http(stream, from, place, closing).await,
            Ok(Ok(None)) => tracing::debug!("plain HTTP where TLS is spoken"),
            Ok(Err(error)) => tracing::debug!(reason = %error, "TLS handshake failed"),
            Err(_) => tracing::debug!("connection cut off: its TLS handshake did not end in time"),
        }
    }

    async fn http<S>(self: Arc<Self>, stream: S, from: IpAddr, place: Arc<Place>, mut closing: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let limits = self.limits;
        let stream = Timed::new(stream, Arc::clone(&place), limits.write_timeout);
        let front = Front { server: self, from, place: Arc::clone(&place) };
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(limits.header_timeout).max_buf_size(64 * 1024);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), front));
        let ended = tokio::select! {
            // First of all, so that a request which has just arrived is seen before its connection is given up.
            biased;
            ended = connection.as_mut() => Some(ended),
            _ = closing.wait_for(|closing| *closing) => None,
            () = tokio::time::sleep(limits.max_connection_age) => None,
            () = place.is_wanted() => return tracing::debug!("idle connection closed: its place is needed"),
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

    /// The answer to a request, whatever it takes.
    async fn answer(&self, request: Request<Incoming>, from: IpAddr) -> Response {
        let answer = async {
            let Some(gate) = &self.gate else { return route(&self.router, request).await };
            let rules = gate.rules();
            let mut response = match gate.admit(&rules, &request, from).await {
                Ok(()) => route(&self.router, request).await,
                Err(refusal) => refusal,
            };
            rules.add_headers(response.headers_mut());
            response
        };
        match tokio::time::timeout(self.limits.request_timeout, answer).await {
            Ok(response) => response,
            Err(_) => (StatusCode::SERVICE_UNAVAILABLE, "the request took too long\n").into_response(),
        }
    }
}

async fn route(router: &TowerToHyperService<Router>, request: Request<Incoming>) -> Response {
    match hyper::service::Service::call(router, request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

/// The first byte of a TLS connection: the record type of a handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// What is said to whoever speaks plain HTTP where TLS is spoken. A health check takes it for an answer.
pub(crate) const SPEAKS_HTTPS: &str = "this server speaks HTTPS: ask with https://\n";

/// `None` for who speaks plain HTTP, which has been answered.
async fn handshake(mut stream: TcpStream, acceptor: TlsAcceptor) -> std::io::Result<Option<TlsStream<TcpStream>>> {
    let mut first = [0];
    if stream.peek(&mut first).await? == 0 || first[0] == TLS_HANDSHAKE {
        return acceptor.accept(stream).await.map(Some);
    }
    let head = "HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain; charset=utf-8\r\nConnection: close\r\n";
    let length = SPEAKS_HTTPS.len();
    stream.write_all(format!("{head}Content-Length: {length}\r\n\r\n{SPEAKS_HTTPS}").as_bytes()).await?;
    stream.shutdown().await?;
    // What is not read when a connection is closed makes the kernel reset it, and the answer may be lost.
    let mut rest = [0; 4096];
    for _ in 0..16 {
        if stream.read(&mut rest).await? == 0 {
            break;
        }
    }
    Ok(None)
}

/// A connection's service.
struct Front {
    server: Arc<Server>,
    from: IpAddr,
    place: Arc<Place>,
}

impl hyper::service::Service<Request<Incoming>> for Front {
    type Response = Response<Answer>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (server, from, place) = (Arc::clone(&self.server), self.from, Arc::clone(&self.place));
        place.begin();
        Box::pin(async move {
            let response = server.answer(request, from).await;
            Ok(response.map(|body| Answer { body, place }))
        })
    }
}

/// A body that tells its connection's place when hyper has taken it all.
struct Answer {
    body: Body,
    place: Arc<Place>,
}

impl hyper::body::Body for Answer {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        hyper::body::Body::size_hint(&self.body)
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.place.answered();
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
    use axum::routing::{get, post};
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

    /// More than kernels buffer.
    const LARGE: usize = 64 << 20;

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
            .route("/large", get(|| async { vec![b'x'; LARGE] }))
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
    async fn endless_heads_are_refused() {
        let server = start(Limits::default()).await;
        let many = format!("GET / HTTP/1.1\r\nHost: x\r\n{}", "A: b\r\n".repeat(10_000));
        let long = format!("GET / HTTP/1.1\r\nHost: {}", "x".repeat(200 * 1024));
        let target = format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", "x".repeat(200 * 1024));
        for head in [many, long, target] {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            // It may be refused while we are writing.
            _ = stream.write_all(head.as_bytes()).await;
            let mut answer = Vec::new();
            _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("cut off");
            assert!(!answer.starts_with(b"HTTP/1.1 200"));
        }
    }

    #[tokio::test]
    async fn who_takes_the_answer_too_slowly_is_cut_off() {
        let server = start(Limits { write_timeout: Duration::from_millis(300), ..Limits::default() }).await;
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(b"GET /large HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let begin = std::time::Instant::now();
        let mut byte = [0];
        let mut taken = 0;
        // A little at a time is progress, and no excuse. What the kernel has taken over still comes, then a reset.
        while let Ok(1) = stream.read(&mut byte).await {
            taken += 1;
            if begin.elapsed() < Duration::from_secs(2) {
                tokio::time::sleep(Duration::from_millis(20)).await;
            } else {
                break;
            }
        }
        let mut rest = Vec::new();
        _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await.expect("cut off");
        assert!(taken + rest.len() < LARGE, "{}", rest.len());
    }

    #[tokio::test]
    async fn idle_connections_make_room_and_busy_ones_do_not() {
        let server = start(Limits { max_connections: 4, grace: Duration::ZERO, ..Limits::default() }).await;
        let mut busy = TcpStream::connect(server.address).await.unwrap();
        busy.write_all(b"GET /slow HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        server.entered.notified().await;
        let mut idle = Vec::new();
        for number in 0..100 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            stream.write_all([&b""[..], b"GET / HT"][number % 2]).await.unwrap();
            idle.push(stream);
        }
        assert!(raw(server.address, b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.ends_with("well"));
        let mut answer = Vec::new();
        busy.read_to_end(&mut answer).await.unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 200 "));
        // An idle one that was not closed is still served.
        let mut last = idle.pop().unwrap();
        last.write_all(b"TP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        answer.clear();
        last.read_to_end(&mut answer).await.unwrap();
        assert!(answer.ends_with(b"well"));
    }

    #[tokio::test]
    async fn a_burst_of_clients_is_served_whole() {
        let server = start(Limits { max_connections: 4, ..Limits::default() }).await;
        let mut clients = Vec::new();
        for number in 0..100 {
            let mut stream = TcpStream::connect(server.address).await.unwrap();
            // Some send their request a moment after they have connected.
            clients.push(tokio::spawn(async move {
                for _ in 0..number % 10 {
                    tokio::task::yield_now().await;
                }
                stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
                let mut answer = Vec::new();
                stream.read_to_end(&mut answer).await.unwrap();
                assert!(answer.ends_with(b"well"));
            }));
        }
        for client in clients {
            tokio::time::timeout(Duration::from_secs(10), client).await.expect("served").unwrap();
        }
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
