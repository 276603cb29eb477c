//! The calls that Nexus makes to the Docker Engine, each with a deadline.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use bollard::models::{EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{
    EventsOptions, InspectContainerOptions, ListContainersOptions, LogsOptions, RestartContainerOptions,
    StartContainerOptions, StopContainerOptions,
};
use futures_util::{Stream, StreamExt};
use hyper::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

use crate::container::Container;
use crate::disk::{self, DiskUsage};
use crate::events::EVENTS;
use crate::history::History;
use crate::images::ImageTimes;
use crate::plain::{self, PlainError};

/// How long a restart may take beyond the stop time-out of the container: starting takes seconds on a busy SD card.
const RESTART_MARGIN: Duration = Duration::from_secs(60);

/// Only images that have no tag and that no container uses: what a new pull or build left behind. Written out, since the
/// socket proxy lets pass these very bytes and no others.
const DANGLING_IMAGES: &str = "/images/prune?filters=%7B%22dangling%22%3A%5B%22true%22%5D%7D";

/// Without a word more: what builds may use again and nothing uses now.
const UNUSED_BUILD_CACHE: &str = "/build/prune";

/// Longest log line kept, in bytes; a line that is longer is cut.
const LOG_LINE_LIMIT: usize = 8 * 1024;

/// An engine that is not Docker may remember everything.
const HISTORY_LIMIT: usize = 1024;

#[derive(Debug, thiserror::Error)]
pub enum DockerError {
    #[error("docker does not answer on {}", socket.display())]
    Unreachable { socket: PathBuf, source: Box<dyn std::error::Error + Send + Sync> },
    #[error("docker did not {action} within {} s", limit.as_secs())]
    TimedOut { action: String, limit: Duration },
    #[error("docker knows no container {id}")]
    NotFound { id: String },
    /// 403 is what the socket proxy answers to a call it does not allow.
    #[error("docker refused to {action}: {message} (status {status})")]
    Refused { action: String, status: u16, message: String },
    #[error("docker failed to {action}")]
    Failed { action: String, source: Box<dyn std::error::Error + Send + Sync> },
}

/// What the engine says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EngineInfo {
    pub version: String,
    pub api_version: String,
    /// `1` or `2`.
    pub cgroup_version: String,
    /// `cgroupfs` or `systemd`.
    pub cgroup_driver: String,
    /// E.g. `overlay2`, or `overlayfs` with containerd's image store.
    pub storage_driver: String,
    /// Its containers go on while it is away.
    pub live_restore: bool,
    /// Where it keeps its files, on its host.
    pub root_dir: PathBuf,
}

/// One line of the list of containers: enough to see whether what is known of it is still true.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub id: String,
    pub stack: Option<String>,
    /// Docker's state word, e.g. `running`.
    pub state: String,
    /// Docker's sentence, e.g. `Up 5 minutes (unhealthy)`.
    pub status: String,
}

/// One event of a container.
#[derive(Clone, Debug)]
pub struct Event {
    pub id: String,
    pub action: String,
    /// Of the `kill` event: the signal's number.
    pub signal: Option<String>,
    /// The label `nexus.stack`, which Docker repeats in each event with the container's other labels.
    pub stack: Option<String>,
    /// Nanoseconds since the epoch, by the engine's clock.
    pub at_nanos: i64,
}

/// A client of the engine behind a unix socket. Cheap to share by reference; makes no connection until it is used.
#[derive(Debug)]
pub struct Docker {
    socket: PathBuf,
    timeout: Duration,
    /// Negotiated at first use, forgotten by [`Docker::forget_version`] when the engine may have been replaced.
    client: Mutex<Option<bollard::Docker>>,
}

impl Docker {
    /// `timeout` is the deadline of each call; a restart may take the container's stop time-out in addition.
    pub fn connect(socket: &Path, timeout: Duration) -> Docker {
        Docker { socket: socket.to_owned(), timeout, client: Mutex::new(None) }
    }

    pub fn socket(&self) -> &Path {
        &self.socket
    }

    /// Negotiates the API version anew at the next call: after a reconnect another engine may answer.
    pub(crate) async fn forget_version(&self) {
        *self.client.lock().await = None;
    }

    async fn client(&self) -> Result<bollard::Docker, DockerError> {
        let mut client = self.client.lock().await;
        if let Some(client) = &*client {
            return Ok(client.clone());
        }
        let fresh = async {
            bollard::Docker::connect_with_unix(
                &self.socket.to_string_lossy(),
                // Ours comes first: one fault shall have one name.
                self.timeout.as_secs() + 2,
                bollard::API_DEFAULT_VERSION,
            )?
            .negotiate_version()
            .await
        };
        let fresh = self.within("answer", self.timeout, fresh).await?;
        Ok(client.insert(fresh).clone())
    }

    /// `GET /version` and `GET /info`.
    pub async fn engine(&self) -> Result<EngineInfo, DockerError> {
        let client = self.client().await?;
        let version = self.within("tell its version", self.timeout, client.version()).await?;
        let info = self.within("tell about itself", self.timeout, client.info()).await?;
        Ok(EngineInfo {
            version: version.version.unwrap_or_default(),
            api_version: version.api_version.unwrap_or_default(),
            cgroup_version: info.cgroup_version.map(|word| word.to_string()).unwrap_or_default(),
            cgroup_driver: info.cgroup_driver.map(|word| word.to_string()).unwrap_or_default(),
            storage_driver: info.driver.unwrap_or_default(),
            live_restore: info.live_restore_enabled.unwrap_or(false),
            root_dir: info.docker_root_dir.unwrap_or_default().into(),
        })
    }

    /// `GET /containers/json?all=true`: the ids of all containers, of every stack.
    pub async fn list(&self) -> Result<Vec<String>, DockerError> {
        Ok(self.list_summaries().await?.into_iter().map(|listed| listed.id).collect())
    }

    pub(crate) async fn list_summaries(&self) -> Result<Vec<Listed>, DockerError> {
        let client = self.client().await?;
        let options = ListContainersOptions { all: true, ..Default::default() };
        let summaries = self.within("list its containers", self.timeout, client.list_containers(Some(options))).await?;
        Ok(summaries
            .into_iter()
            .filter_map(|summary| {
                Some(Listed {
                    id: summary.id?,
                    stack: summary.labels.and_then(|mut labels| labels.remove(nexus_model::labels::STACK)),
                    state: summary.state.map(|word| word.to_string()).unwrap_or_default(),
                    status: summary.status.unwrap_or_default(),
                })
            })
            .collect())
    }

    /// `GET /containers/{id}/json`. `id` may be a name.
    pub async fn inspect(&self, id: &str) -> Result<Container, DockerError> {
        let client = self.client().await?;
        let call = client.inspect_container(id, None::<InspectContainerOptions>);
        let answer = self.within(&format!("inspect container {id}"), self.timeout, call).await;
        Ok(Container::from(answer.map_err(|error| error.of_container(id))?))
    }

    /// `GET /containers/{id}/logs`: the last `lines` lines of both streams, the last `max_bytes` of them at most. Log
    /// drivers that can't be read answer with an error, given as [`DockerError::Refused`].
    pub async fn logs_tail(&self, id: &str, lines: u32, max_bytes: usize) -> Result<Vec<String>, DockerError> {
        let client = self.client().await?;
        let options =
            LogsOptions { stdout: true, stderr: true, tail: lines.to_string(), timestamps: true, ..Default::default() };
        let read = async {
            let mut stream = client.logs(id, Some(options));
            let mut text = Vec::new();
            let mut cut_off = false;
            while let Some(chunk) = stream.next().await {
                text.extend_from_slice(&chunk?.into_bytes());
                // The tail is what matters: drop from the front once twice the limit is held.
                if text.len() > 2 * max_bytes {
                    text.drain(..text.len() - max_bytes);
                    cut_off = true;
                }
            }
            cut_off |= text.len() > max_bytes;
            text.drain(..text.len().saturating_sub(max_bytes));
            // Half a line would lack its beginning, which may say that the rest is a secret.
            if cut_off {
                let whole = text.iter().position(|byte| *byte == b'\n').map_or(text.len(), |end| end + 1);
                text.drain(..whole);
            }
            Ok(text)
        };
        let text = self.within(&format!("give the log of container {id}"), self.timeout, read).await;
        let text = text.map_err(|error| error.of_container(id))?;
        let text = String::from_utf8_lossy(&text);
        let mut kept: Vec<String> = text.lines().map(|line| cut(line, LOG_LINE_LIMIT)).collect();
        if kept.len() > lines as usize {
            kept.drain(..kept.len() - lines as usize);
        }
        Ok(kept)
    }

    /// `POST /containers/{id}/restart?t=SECONDS`: stops (signal, `stop_timeout`, SIGKILL) and starts it, or only starts
    /// it when it does not run. Returns when Docker has done both; dropping the future does not take the request back.
    pub async fn restart(&self, id: &str, stop_timeout: Duration) -> Result<(), DockerError> {
        let limit = stop_timeout + RESTART_MARGIN;
        let client = self.client().await?.with_timeout(limit + RESTART_MARGIN);
        let seconds = i32::try_from(stop_timeout.as_secs()).unwrap_or(i32::MAX);
        let options = RestartContainerOptions { t: Some(seconds), ..Default::default() };
        let call = client.restart_container(id, Some(options));
        let answer = self.within(&format!("restart container {id}"), limit, call).await;
        answer.map_err(|error| error.of_container(id))
    }

    /// `POST /containers/{id}/stop?t=SECONDS`: signal, `stop_timeout`, SIGKILL. Nothing happens to one that does not run.
    pub async fn stop(&self, id: &str, stop_timeout: Duration) -> Result<(), DockerError> {
        let limit = stop_timeout + RESTART_MARGIN;
        let client = self.client().await?.with_timeout(limit + RESTART_MARGIN);
        let seconds = i32::try_from(stop_timeout.as_secs()).unwrap_or(i32::MAX);
        let call = client.stop_container(id, Some(StopContainerOptions { t: Some(seconds), ..Default::default() }));
        let answer = self.within(&format!("stop container {id}"), limit, call).await;
        answer.map_err(|error| error.of_container(id))
    }

    /// `POST /containers/{id}/start`. Nothing happens to one that runs.
    pub async fn start(&self, id: &str) -> Result<(), DockerError> {
        let client = self.client().await?.with_timeout(RESTART_MARGIN + RESTART_MARGIN);
        let call = client.start_container(id, None::<StartContainerOptions>);
        let answer = self.within(&format!("start container {id}"), RESTART_MARGIN, call).await;
        answer.map_err(|error| error.of_container(id))
    }

    /// `POST /images/prune` of dangling images alone; gives the bytes that the engine says it freed. It deletes files, which
    /// may take minutes on an SD card.
    pub async fn prune_dangling_images(&self, timeout: Duration) -> Result<u64, DockerError> {
        self.prune("delete dangling images", DANGLING_IMAGES, timeout).await
    }

    /// `POST /build/prune`; gives the bytes that the engine says it freed.
    pub async fn prune_build_cache(&self, timeout: Duration) -> Result<u64, DockerError> {
        self.prune("delete unused build cache", UNUSED_BUILD_CACHE, timeout).await
    }

    async fn prune(&self, action: &str, target: &str, timeout: Duration) -> Result<u64, DockerError> {
        #[derive(Deserialize)]
        struct Pruned {
            #[serde(default, rename = "SpaceReclaimed")]
            space_reclaimed: u64,
        }
        let pruned: Pruned = self.ask(Method::POST, action, target, timeout).await?;
        Ok(pruned.space_reclaimed)
    }

    /// `GET /system/df`: the engine walks its files for this, which may take minutes. bollard only knows how engines answer
    /// from API 1.52 on.
    pub async fn disk_usage(&self, timeout: Duration) -> Result<DiskUsage, DockerError> {
        let answer: disk::Answer = self.get("tell its disk usage", "/system/df?verbose=false", timeout).await?;
        Ok(answer.into())
    }

    /// `GET /images/json`: when each image was made that has a tag, is used, or is left over.
    pub async fn image_times(&self) -> Result<ImageTimes, DockerError> {
        #[derive(Deserialize)]
        #[serde(rename_all = "PascalCase")]
        struct Image {
            id: String,
            /// Seconds since the epoch; 0 when its builder set none.
            #[serde(default)]
            created: i64,
        }
        let images: Option<Vec<Image>> = self.get("list its images", "/images/json", self.timeout).await?;
        let time = |image: Image| (image.id, Timestamp::from_second(image.created).ok().filter(|_| image.created > 0));
        Ok(images.unwrap_or_default().into_iter().map(time).collect::<BTreeMap<_, _>>())
    }

    /// `GET /events`: what happens to containers, beginning with what happened after `since_nanos`. Probes of health
    /// checks, which are most of what Docker tells, are filtered out by the engine. Ends with an error, or when the
    /// engine or the proxy closes it.
    pub async fn events(
        &self,
        since_nanos: i64,
    ) -> Result<impl Stream<Item = Result<Event, DockerError>> + Unpin + use<>, DockerError> {
        let client = self.client().await?;
        let filters = HashMap::from([
            ("type".to_owned(), vec!["container".to_owned()]),
            ("event".to_owned(), EVENTS.map(str::to_owned).to_vec()),
        ]);
        let options = EventsOptions { since: Some(since(since_nanos)), filters: Some(filters), ..Default::default() };
        let socket = self.socket.clone();
        Ok(Box::pin(client.events(Some(options)).filter_map(move |message| {
            let event = match message {
                Ok(message) => event_of(message).map(Ok),
                Err(error) => Some(Err(classify("tell its events", &socket, error))),
            };
            std::future::ready(event)
        })))
    }

    /// `GET /events` up to now: all that the engine remembers, of whatever kind, since what it has forgotten shows by their
    /// number alone. It keeps few hundred; no more than [`HISTORY_LIMIT`] are read.
    pub(crate) async fn history(&self, until_nanos: i64) -> Result<History, DockerError> {
        let client = self.client().await?;
        // Zero is no time to the engine.
        let options = EventsOptions { since: Some(since(1)), until: Some(since(until_nanos)), ..Default::default() };
        let read = async {
            let mut history = History::default();
            let mut stream = std::pin::pin!(client.events(Some(options)).take(HISTORY_LIMIT));
            while let Some(message) = stream.next().await {
                let message = message?;
                history.events += 1;
                match message.typ {
                    Some(EventMessageTypeEnum::CONTAINER) => history.containers.extend(event_of(message)),
                    Some(EventMessageTypeEnum::DAEMON) => history.is_reconfigured = true,
                    _ => (),
                }
            }
            Ok::<_, bollard::errors::Error>(history)
        };
        self.within("tell what it remembers", self.timeout, read).await
    }

    /// A `GET` whose answer is read here, not by bollard.
    async fn get<T: DeserializeOwned>(&self, action: &str, target: &str, limit: Duration) -> Result<T, DockerError> {
        self.ask(Method::GET, action, target, limit).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        action: &str,
        target: &str,
        limit: Duration,
    ) -> Result<T, DockerError> {
        let version = self.client().await?.client_version();
        let target = format!("/v{}.{}{target}", version.major_version, version.minor_version);
        let failed = |source| DockerError::Failed { action: action.to_owned(), source };
        let (status, body) = match tokio::time::timeout(limit, plain::ask(&self.socket, method, &target)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error @ (PlainError::Connect(_) | PlainError::Broken(_)))) => {
                return Err(DockerError::Unreachable { socket: self.socket.clone(), source: Box::new(error) });
            }
            Ok(Err(error)) => return Err(failed(Box::new(error))),
            Err(_) => return Err(DockerError::TimedOut { action: action.to_owned(), limit }),
        };
        if status != 200 {
            return Err(DockerError::Refused { action: action.to_owned(), status, message: message(&body) });
        }
        serde_json::from_slice(&body).map_err(|error| failed(Box::new(error)))
    }

    async fn within<T>(
        &self,
        action: &str,
        limit: Duration,
        call: impl Future<Output = Result<T, bollard::errors::Error>>,
    ) -> Result<T, DockerError> {
        match tokio::time::timeout(limit, call).await {
            Ok(answer) => answer.map_err(|error| classify(action, &self.socket, error)),
            Err(_) => Err(DockerError::TimedOut { action: action.to_owned(), limit }),
        }
    }
}

impl DockerError {
    fn of_container(self, id: &str) -> DockerError {
        match self {
            DockerError::Refused { status: 404, .. } => DockerError::NotFound { id: id.to_owned() },
            other => other,
        }
    }
}

fn classify(action: &str, socket: &Path, error: bollard::errors::Error) -> DockerError {
    use bollard::errors::Error;
    let action = action.to_owned();
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            DockerError::Refused { action, status: status_code, message: one_line(&message) }
        }
        Error::SocketNotFoundError(_) => DockerError::Unreachable {
            socket: socket.to_owned(),
            source: Box::new(std::io::Error::from(std::io::ErrorKind::NotFound)),
        },
        error @ (Error::HyperLegacyError { .. } | Error::IOError { .. }) => {
            DockerError::Unreachable { socket: socket.to_owned(), source: Box::new(error) }
        }
        error => DockerError::Failed { action, source: Box::new(error) },
    }
}

/// What an answer that is no success says: Docker's own are JSON, a proxy's may be a page.
fn message(body: &[u8]) -> String {
    #[derive(Deserialize)]
    struct Told {
        message: String,
    }
    let text = match serde_json::from_slice(body) {
        Ok(Told { message }) => message,
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    one_line(&text)
}

/// For messages, which are told within one line.
fn one_line(text: &str) -> String {
    cut(&text.split_whitespace().collect::<Vec<_>>().join(" "), 512)
}

fn event_of(message: EventMessage) -> Option<Event> {
    let actor = message.actor?;
    let mut attributes = actor.attributes.unwrap_or_default();
    Some(Event {
        id: actor.id?,
        action: message.action?,
        signal: attributes.remove("signal"),
        stack: attributes.remove(nexus_model::labels::STACK),
        at_nanos: message.time_nano.unwrap_or(0),
    })
}

/// Seconds since the epoch as the engine reads them, which knows no time before.
fn since(nanos: i64) -> String {
    let nanos = nanos.max(0);
    format!("{}.{:09}", nanos / 1_000_000_000, nanos % 1_000_000_000)
}

/// The beginning of `text`, at most `limit` bytes, cut between characters.
fn cut(text: &str, limit: usize) -> String {
    text[..text.floor_char_boundary(limit)].to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_engine_says_is_told_on_one_line() {
        let error = bollard::errors::Error::DockerResponseServerError {
            status_code: 500,
            message: " no space\n\tleft on  device\r\n".to_owned(),
        };
        let told = classify("list its images", Path::new("/x"), error).to_string();
        assert_eq!(told, "docker refused to list its images: no space left on device (status 500)");
        assert_eq!(message(br#"{"message": "no\nspace"}"#), "no space");
        assert_eq!(message(b"<html>\n<h1>403</h1>\n</html>"), "<html> <h1>403</h1> </html>");
        assert_eq!(one_line(&"\u{e4}".repeat(300)).len(), 512);
        assert_eq!(one_line(&format!("x{}", "\u{e4}".repeat(300))).len(), 511);
    }

    #[test]
    fn a_moment_is_told_as_the_engine_reads_it() {
        let check = |nanos: i64, expected: &str| assert_eq!(since(nanos), expected);
        check(1_700_000_000_000_000_005, "1700000000.000000005");
        check(7, "0.000000007");
        check(-1, "0.000000000");
        check(i64::MIN, "0.000000000");
    }

    #[tokio::test]
    async fn a_missing_socket_is_one_clear_error() {
        let docker = Docker::connect(Path::new("/nonexistent/docker.sock"), Duration::from_secs(1));
        let error = docker.list().await.unwrap_err();
        assert_eq!(error.to_string(), "docker does not answer on /nonexistent/docker.sock");
    }
}
