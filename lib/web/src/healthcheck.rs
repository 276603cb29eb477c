//! Asking a server of ours whether it is well: the health check of the images, which have no curl.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::serve::SPEAKS_HTTPS;

#[derive(Debug, thiserror::Error)]
pub enum HealthcheckError {
    #[error("{address} does not answer")]
    Unreachable { address: SocketAddr, source: std::io::Error },
    #[error("{address} does not answer within {} s", limit.as_secs())]
    TimedOut { address: SocketAddr, limit: Duration },
    #[error("{address} says: {answer}")]
    Unwell { address: SocketAddr, answer: String },
}

/// GETs `path` and succeeds on status 200. A wildcard address is asked on loopback.
///
/// A server that speaks TLS is well when it says so: it has accepted and answered, and a handshake with a certificate that
/// nobody can check here, or that asks for ours, would tell no more.
pub async fn healthcheck(address: SocketAddr, path: &str, limit: Duration) -> Result<(), HealthcheckError> {
    let address = match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => SocketAddr::from((Ipv4Addr::LOCALHOST, address.port())),
        IpAddr::V6(ip) if ip.is_unspecified() => SocketAddr::from((Ipv6Addr::LOCALHOST, address.port())),
        _ => address,
    };
    let ask = async {
        let mut stream = TcpStream::connect(address).await?;
        let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.take(4096).read_to_end(&mut answer).await?;
        Ok(String::from_utf8_lossy(&answer).into_owned())
    };
    let answer = tokio::time::timeout(limit, ask)
        .await
        .map_err(|_| HealthcheckError::TimedOut { address, limit })?
        .map_err(|source| HealthcheckError::Unreachable { address, source })?;
    if answer.starts_with("HTTP/1.1 200 ") {
        return Ok(());
    }
    if answer.ends_with(SPEAKS_HTTPS) {
        return Ok(());
    }
    let status = answer.lines().next().unwrap_or_default();
    let body = answer.split_once("\r\n\r\n").map_or("", |(_, body)| body).trim();
    Err(HealthcheckError::Unwell { address, answer: format!("{status} {body}").trim().to_owned() })
}
