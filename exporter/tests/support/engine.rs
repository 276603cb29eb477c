//! A Docker Engine that answers from a file, on a unix socket, to the real client.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use nexus_docker::{DiskReport, DiskSchedule, DiskWatcher, Docker, ImageTimes, ImageWatcher, Watcher};
use nexus_exporter::collect::DockerState;

use super::SOON;

/// Answers the reads that are made of Docker in the background. The event stream stays open and silent until it is dropped, which
/// cuts all connections and removes the socket.
pub struct Engine {
    pub socket: PathBuf,
    connections: Arc<Mutex<Vec<UnixStream>>>,
    _folder: tempfile::TempDir,
}

impl Engine {
    /// `answers` is a fixture's docker.json.
    pub fn start(answers: &Path) -> Engine {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("docker.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let answers: Arc<serde_json::Value> =
            Arc::new(serde_json::from_slice(&std::fs::read(answers).unwrap()).unwrap());
        let connections: Arc<Mutex<Vec<UnixStream>>> = Arc::default();
        let kept = Arc::clone(&connections);
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                kept.lock().unwrap().push(stream.try_clone().unwrap());
                let answers = Arc::clone(&answers);
                std::thread::spawn(move || answer(stream, &answers));
            }
        });
        Engine { socket, connections, _folder: folder }
    }

    /// All that is known of Docker once it was asked for all.
    pub fn state(&self) -> DockerState {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let docker = Arc::new(Docker::connect(&self.socket, Duration::from_secs(10)));
            let watcher = Watcher::spawn(Arc::clone(&docker), "nexus".to_owned());
            let images = ImageWatcher::spawn(Arc::clone(&docker), watcher.subscribe());
            let hour = Duration::from_secs(3600);
            let schedule =
                DiskSchedule { first_after: Duration::ZERO, interval: hour, timeout: Duration::from_secs(10) };
            let disk = DiskWatcher::spawn(docker, watcher.subscribe(), schedule);
            let seen = async {
                let snapshot = watcher.subscribe().wait_for(|snapshot| snapshot.up).await.unwrap().clone();
                let dated = |times: &Arc<_>| snapshot.containers.is_empty() || **times != ImageTimes::default();
                let images = images.subscribe().wait_for(dated).await.unwrap().clone();
                let walked = |report: &Arc<DiskReport>| report.last.is_some() || report.error.is_some();
                let disk = disk.subscribe().wait_for(walked).await.unwrap().clone();
                DockerState { snapshot, images, disk }
            };
            tokio::time::timeout(SOON, seen).await.expect("the recorded engine is up")
        })
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        _ = std::fs::remove_file(&self.socket);
        for connection in self.connections.lock().unwrap().iter() {
            _ = connection.shutdown(Shutdown::Both);
        }
    }
}

fn answer(stream: UnixStream, answers: &serde_json::Value) {
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut stream = stream;
    loop {
        let mut request = String::new();
        if reader.read_line(&mut request).unwrap_or(0) == 0 {
            return;
        }
        let mut header = String::new();
        while reader.read_line(&mut header).unwrap_or(0) > 2 {
            header.clear();
        }
        let target = request.split(' ').nth(1).unwrap_or_default();
        let path = target.split('?').next().unwrap_or_default();
        // The version that the client negotiated comes first.
        let path = match path.strip_prefix("/v") {
            Some(rest) if rest.starts_with(|c: char| c.is_ascii_digit()) => &rest[rest.find('/').unwrap_or(0)..],
            _ => path,
        };
        // With an end it is history, and none is recorded; without one nothing happens until the engine goes away.
        if path == "/events" && target.contains("until=") {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 0\r\n\r\n";
            if stream.write_all(head.as_bytes()).is_err() {
                return;
            }
            continue;
        }
        if path == "/events" {
            let head = "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n";
            _ = stream.write_all(head.as_bytes());
            _ = reader.read_line(&mut request);
            return;
        }
        let (status, body) = match body(path, answers) {
            Some(body) => ("200 OK", body),
            None if path.starts_with("/containers/") => {
                ("404 Not Found", serde_json::json!({"message": "no such thing"}))
            }
            // As the socket proxy answers to what it does not allow.
            None => ("403 Forbidden", serde_json::json!("forbidden")),
        };
        let body = body.to_string();
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nApi-Version: 1.49\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        if stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(body.as_bytes())).is_err() {
            return;
        }
    }
}

fn body(path: &str, answers: &serde_json::Value) -> Option<serde_json::Value> {
    let containers = answers["containers"].as_array()?;
    match path {
        "/version" => Some(answers["version"].clone()),
        "/info" => Some(answers["info"].clone()),
        "/images/json" => answers.get("images").cloned(),
        "/system/df" => answers.get("system_df").cloned(),
        "/containers/json" => {
            let summary = |container: &serde_json::Value| {
                let state = &container["State"]["Status"];
                serde_json::json!({"Id": container["Id"], "State": state, "Status": "", "Labels": container["Config"]["Labels"]})
            };
            Some(containers.iter().map(summary).collect())
        }
        _ => {
            let id = path.strip_prefix("/containers/")?.strip_suffix("/json")?;
            containers.iter().find(|container| container["Id"] == id).cloned()
        }
    }
}
