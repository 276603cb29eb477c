//! One call over the engine's socket, for answers that bollard knows in one shape only and for targets that must be exactly
//! what the socket proxy lets pass: each on a connection of its own, with a bounded body.

use std::io;
use std::path::Path;
use std::pin::Pin;

use futures_util::future::join;
use hyper::body::{Body as _, Incoming};
use hyper::client::conn::http1;
use hyper::header::HOST;
use hyper::{Method, Request, Response};
use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;

/// No answer that is asked for here is near this size. It is held in memory as a whole.
const BODY_LIMIT: usize = 8 << 20;

#[derive(Debug, thiserror::Error)]
pub(crate) enum PlainError {
    #[error("can't connect")]
    Connect(#[source] io::Error),
    #[error("the connection broke")]
    Broken(#[source] hyper::Error),
    #[error("the request can't be written")]
    Request(#[source] hyper::http::Error),
    #[error("the answer is larger than {} MiB", BODY_LIMIT >> 20)]
    TooLarge,
}

/// Status and body. `target` is a path with its query. Nothing is sent in the body.
pub(crate) async fn ask(socket: &Path, method: Method, target: &str) -> Result<(u16, Vec<u8>), PlainError> {
    let stream = UnixStream::connect(socket).await.map_err(PlainError::Connect)?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(PlainError::Broken)?;
    let request = Request::builder().method(method).uri(target).header(HOST, "docker");
    let request = request.body(String::new()).map_err(PlainError::Request)?;
    let exchange = async move {
        let response = sender.send_request(request).await.map_err(PlainError::Broken)?;
        let status = response.status().as_u16();
        // The sender goes at the end of this block, and with it the connection.
        Ok((status, body(response).await?))
    };
    // The connection's own error is what the exchange fails with.
    join(exchange, connection).await.0
}

async fn body(response: Response<Incoming>) -> Result<Vec<u8>, PlainError> {
    let mut incoming = response.into_body();
    let mut body = Vec::new();
    while let Some(frame) = std::future::poll_fn(|context| Pin::new(&mut incoming).poll_frame(context)).await {
        if let Ok(data) = frame.map_err(PlainError::Broken)?.into_data() {
            if body.len() + data.len() > BODY_LIMIT {
                return Err(PlainError::TooLarge);
            }
            body.extend_from_slice(&data);
        }
    }
    Ok(body)
}
