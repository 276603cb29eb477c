//! Whether Docker answers at all: asked only when nothing of the stack does, to say what is behind it.

use std::io::ErrorKind;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

/// As long as a part may take; an engine that is well answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(3);

/// Why not, for people. `None` when it answers, and when its socket may not be opened, so that nobody can say.
pub async fn silence(socket: &Path) -> Option<String> {
    let ask = async {
        let mut stream = UnixStream::connect(socket).await?;
        stream.write_all(b"GET /_ping HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").await?;
        let mut first = [0; 12];
        stream.read_exact(&mut first).await?;
        Ok::<_, std::io::Error>(())
    };
    let socket = socket.display();
    match timeout(PATIENCE, ask).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) if error.kind() == ErrorKind::PermissionDenied => None,
        Ok(Err(_)) => Some(format!("Docker does not answer at {socket}")),
        Err(_) => Some(format!("Docker hangs at {socket}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_engine_that_is_away_or_goes_away_is_told_and_one_that_answers_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let away = Some(format!("Docker does not answer at {}", socket.display()));
        assert_eq!(silence(&socket).await, away);
        let listener = tokio::net::UnixListener::bind(&socket).unwrap();
        let answers = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            // What is left unread when it closes would look like a connection that broke.
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                request.push(stream.read_u8().await.unwrap());
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nOK").await.unwrap();
        };
        let (told, ()) = tokio::join!(silence(&socket), answers);
        assert_eq!(told, None);
        let goes = async { drop(listener.accept().await.unwrap()) };
        let (told, ()) = tokio::join!(silence(&socket), goes);
        assert_eq!(told, away);
        // The file of an engine that has ended.
        drop(listener);
        assert_eq!(silence(&socket).await, away);
    }
}
