//! Docker says something else than it should, to the real client. The input: what it is asked, and whether it answers that this
//! failed (one byte); its answer.

#![no_main]

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use futures_util::StreamExt as _;
use jiff::Timestamp;
use libfuzzer_sys::{Corpus, fuzz_target};
use nexus_docker::{
    Container, DiskReport, DiskUsage, DiskWalk, Docker, DockerError, EngineInfo, Event, EventCounts, ImageTimes,
    Snapshot, StopCause, Watched,
};
use nexus_exporter::collect::{Access, Calls, Collector, DockerState, Kept, Reader, Roots};
use nexus_exporter::settings::Settings;
use nexus_exporter::snapshot::{self, Outcome};
use nexus_fuzz::{render_and_check, scratch};
use tokio::runtime::Runtime;

/// For calls that are answered at once.
const SOON: Duration = Duration::from_secs(5);

/// What is asked of a log.
const LINES: u32 = 10;
const LOG_BYTES: usize = 1000;

/// What an engine answers to all but the questions that come before each of them.
static ANSWER: Mutex<(&str, Vec<u8>)> = Mutex::new(("", Vec::new()));

struct Engine {
    runtime: Runtime,
    docker: Docker,
}

fn engine() -> &'static Engine {
    static ENGINE: OnceLock<Engine> = OnceLock::new();
    ENGINE.get_or_init(|| {
        let socket = scratch().keep().join("docker.sock");
        let listener = UnixListener::bind(&socket).expect("the socket can be made");
        std::thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                std::thread::spawn(move || serve(stream));
            }
        });
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime starts");
        Engine { runtime, docker: Docker::connect(&socket, SOON) }
    })
}

/// Answers until the client has gone.
fn serve(mut stream: UnixStream) {
    let mut reader = BufReader::new(stream.try_clone().expect("a descriptor can be doubled"));
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
        let (status, body) = match target {
            // By which the client chooses the version; with it in front, it asks what the engine is.
            "/version" => ("200 OK", br#"{"ApiVersion":"1.49","Version":"28.1.1"}"#.to_vec()),
            _ => ANSWER.lock().expect("nobody panics meanwhile").clone(),
        };
        let length = body.len();
        let head = format!("HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {length}\r\n\r\n");
        if stream.write_all(&[head.as_bytes(), &body].concat()).is_err() {
            return;
        }
    }
}

/// What any of the calls may fail with: one line, and what does not answer at all is none of them.
fn check_error(error: &DockerError) {
    let told = error.to_string();
    assert!(told.len() < 2000, "{} bytes", told.len());
    assert!(!told.contains(['\n', '\r']), "{told:?}");
    assert!(!matches!(error, DockerError::TimedOut { .. }), "{error}");
}

/// What the exporter writes of Docker.
fn write_and_check(docker: &DockerState) {
    let nowhere = || PathBuf::from("/nonexistent");
    let roots = Roots { procfs: nowhere(), sysfs: nowhere(), rootfs: nowhere(), udev_data: nowhere() };
    static SETTINGS: OnceLock<Settings> = OnceLock::new();
    let settings = SETTINGS.get_or_init(Settings::defaults);
    let (mut reader, kept) = (Reader::default(), Kept::default());
    let now = Timestamp::from_second(1_767_326_400).expect("a time of our days");
    let (mut found, mut outcomes) = (Vec::new(), Vec::new());
    for collector in [Collector::Docker, Collector::DockerDisk, Collector::Container] {
        let (roots, reader) = (&roots, &mut reader);
        let mut access = Access { roots, settings, calls: Calls::REAL, docker, now, reader };
        found.push(collector.read(&mut access, &kept).expect("whatever Docker says, they succeed"));
        outcomes.push(Outcome { collector, took: Duration::ZERO, fault: None });
    }
    render_and_check(&snapshot::Snapshot { outcomes, found, process: None, web_config_ok: None });
}

fn check_container(container: Container) {
    assert!(!container.name.starts_with('/'));
    assert_eq!(container.key().is_some(), !container.project().is_empty() && !container.service().is_empty());
    let limits = [
        container.memory_limit_bytes,
        container.memory_swap_limit_bytes,
        container.memory_reservation_bytes,
        container.cpu_shares,
        container.cpu_period_micros,
    ];
    assert!(!limits.contains(&Some(0)), "no limit is not one of 0");
    let times = [container.created_at, container.started_at, container.finished_at];
    assert!(times.into_iter().flatten().all(|at| at > Timestamp::UNIX_EPOCH), "never is no time");
    if let Some(check) = container.healthcheck {
        assert!(check.interval.is_positive() && check.timeout.is_positive() && !check.start_period.is_negative());
        assert!(check.retries > 0);
    }
    _ = container.expected_to_run();
    let images: ImageTimes = [(container.image_id.clone(), container.created_at)].into();
    // Another one with the same words, as `--scale` makes them.
    let second = Container { id: format!("{}2", container.id), ..container.clone() };
    let watched = |container: Container| {
        let stop = StopCause::Unknown;
        let watched = Watched { container: Arc::new(container), stop, has_been_healthy: false, oom_events: u64::MAX };
        (watched.container.id.clone(), watched)
    };
    let containers: BTreeMap<_, _> = [container, second].map(watched).into();
    let snapshot = Arc::new(Snapshot { up: true, containers, ..Snapshot::default() });
    write_and_check(&DockerState { snapshot, images: Arc::new(images), ..DockerState::default() });
}

fn check_usage(usage: DiskUsage) {
    let kinds = [usage.images, usage.containers, usage.volumes, usage.build_cache];
    for kind in kinds.into_iter().flatten() {
        assert!(kind.reclaimable_bytes <= kind.total_bytes, "more to be had back than there is: {kind:?}");
        assert!(kind.active <= kind.count, "more in use than there are: {kind:?}");
    }
    let last = Some(DiskWalk { usage, ended: Instant::now(), took: Duration::ZERO });
    write_and_check(&DockerState { disk: Arc::new(DiskReport { last, error: None }), ..DockerState::default() });
}

fn check_engine(engine: EngineInfo) {
    let snapshot = Snapshot { up: true, engine: Some(engine), ..Snapshot::default() };
    write_and_check(&DockerState { snapshot: Arc::new(snapshot), ..DockerState::default() });
}

fn check_events(events: &[Event]) {
    let mut counts = EventCounts::default();
    events.iter().for_each(|event| counts.count(&event.action));
    assert_eq!(counts.iter().map(|(_, count)| count).sum::<u64>(), events.len() as u64);
    let snapshot = Snapshot { up: true, events: counts, ..Snapshot::default() };
    write_and_check(&DockerState { snapshot: Arc::new(snapshot), ..DockerState::default() });
}

fn check_log(lines: &[String]) {
    assert!(lines.len() <= LINES as usize, "{} lines", lines.len());
    // What is no UTF-8 takes three bytes for each that it had.
    assert!(lines.iter().map(String::len).sum::<usize>() <= 3 * LOG_BYTES);
}

fuzz_target!(init: engine(), |input: &[u8]| -> Corpus {
    let Some((mode, body)) = input.split_first() else { return Corpus::Reject };
    let Engine { runtime, docker } = engine();
    let status = match mode >> 4 {
        0 => "200 OK",
        1 => "404 Not Found",
        2 => "500 Internal Server Error",
        _ => return Corpus::Reject,
    };
    *ANSWER.lock().expect("nobody panics meanwhile") = (status, body.to_owned());
    let error = runtime.block_on(async {
        match mode & 15 {
            0 => docker.inspect("a").await.map(check_container).err(),
            1 => docker.list().await.map(|ids| assert!(ids.len() <= body.len())).err(),
            2 => docker.disk_usage(SOON).await.map(check_usage).err(),
            3 => docker.image_times().await.map(|times| assert!(times.len() <= body.len())).err(),
            4 => docker.engine().await.map(check_engine).err(),
            5 => docker.logs_tail("a", LINES, LOG_BYTES).await.map(|lines| check_log(&lines)).err(),
            6 => {
                let (mut events, mut error) = (Vec::new(), None);
                let mut stream = match docker.events(0).await {
                    Ok(stream) => stream,
                    Err(error) => return Some(error),
                };
                while let Some(event) = stream.next().await {
                    match event {
                        Ok(event) => events.push(event),
                        Err(other) => error = error.or(Some(other)),
                    }
                }
                check_events(&events);
                error
            }
            _ => None,
        }
    });
    if let Some(error) = &error {
        check_error(error);
    }
    if mode & 15 > 6 { Corpus::Reject } else { Corpus::Keep }
});
