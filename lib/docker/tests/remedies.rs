//! The calls that change something, as they reach the engine: the socket proxy lets pass these bytes and no others.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_docker::{Docker, DockerError};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{UnixListener, UnixStream};

struct Engine {
    _folder: tempfile::TempDir,
    socket: PathBuf,
    /// `POST` and what was asked for.
    asked: Arc<Mutex<Vec<String>>>,
}

/// Gives every `POST` the same answer; `None`: none at all.
fn engine(answer: Option<(u16, &'static str)>) -> Engine {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("docker.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    let asked = Arc::<Mutex<Vec<String>>>::default();
    let noted = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(serve(stream, answer, Arc::clone(&noted)));
        }
    });
    Engine { _folder: folder, socket, asked }
}

async fn serve(mut stream: UnixStream, answer: Option<(u16, &'static str)>, asked: Arc<Mutex<Vec<String>>>) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        match stream.read_u8().await {
            Ok(byte) => request.push(byte),
            Err(_) => return,
        }
    }
    let request = String::from_utf8(request).unwrap();
    let line = request.lines().next().unwrap().trim_end_matches(" HTTP/1.1").to_owned();
    let (status, body) = if line.starts_with("POST") {
        asked.lock().unwrap().push(line);
        match answer {
            Some(answer) => answer,
            None => return std::future::pending().await,
        }
    } else {
        (200, r#"{"Version":"20.10.24","ApiVersion":"1.41","MinAPIVersion":"1.12"}"#)
    };
    let length = body.len();
    let head = format!("HTTP/1.1 {status} x\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n");
    stream.write_all(format!("{head}Connection: close\r\n\r\n{body}").as_bytes()).await.unwrap();
}

fn connect(engine: &Engine) -> Docker {
    Docker::connect(&engine.socket, Duration::from_secs(5))
}

#[tokio::test]
async fn each_remedy_asks_for_exactly_what_the_proxy_lets_pass() {
    const SOME: Duration = Duration::from_secs(5);
    let quiet = engine(Some((204, "")));
    connect(&quiet).stop("ab12", Duration::from_secs(7)).await.unwrap();
    connect(&quiet).start("ab12").await.unwrap();
    let prunes = engine(Some((200, r#"{"ImagesDeleted":null,"SpaceReclaimed":1234}"#)));
    assert_eq!(connect(&prunes).prune_dangling_images(SOME).await.unwrap(), 1234);
    assert_eq!(connect(&prunes).prune_build_cache(SOME).await.unwrap(), 1234);
    let asked = [&quiet, &prunes].map(|engine| engine.asked.lock().unwrap().clone()).concat();
    assert_eq!(
        asked,
        [
            "POST /containers/ab12/stop?t=7",
            "POST /containers/ab12/start",
            "POST /v1.41/images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D",
            "POST /v1.41/build/prune",
        ]
    );
    // The same words stand in the proxy's configuration, so that neither drifts.
    let proxy = include_str!("../../../images/haproxy/haproxy.cfg");
    assert!(proxy.contains(r"(images/prune\?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D|build/prune)$"));
}

#[tokio::test]
async fn what_is_so_already_is_no_error() {
    let engine = engine(Some((304, "")));
    connect(&engine).stop("ab12", Duration::from_secs(1)).await.unwrap();
    connect(&engine).start("ab12").await.unwrap();
}

#[tokio::test]
async fn a_remedy_that_fails_says_which_and_why() {
    let refuses = engine(Some((403, r#"{"message":"a prune operation is already running"}"#)));
    let error = connect(&refuses).prune_build_cache(Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "docker refused to delete unused build cache: a prune operation is already running (status 403)"
    );
    let gone = engine(Some((404, r#"{"message":"No such container: ab12"}"#)));
    let error = connect(&gone).start("ab12").await.unwrap_err();
    assert!(matches!(error, DockerError::NotFound { ref id } if id == "ab12"), "{error:?}");
    let error = connect(&gone).stop("ab12", Duration::from_secs(1)).await.unwrap_err();
    assert!(matches!(error, DockerError::NotFound { .. }), "{error:?}");
    let silent = engine(None);
    let error = connect(&silent).prune_dangling_images(Duration::from_millis(50)).await.unwrap_err();
    assert!(matches!(error, DockerError::TimedOut { .. }), "{error:?}");
}
