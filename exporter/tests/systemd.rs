//! The systemd collector: against what a real systemd said once, and against buses that say nothing or no.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use nexus_exporter::collect::systemd::Wanted;
use nexus_exporter::collect::{Calls, Collector, DockerState, Roots, Selection};
use nexus_exporter::exposition::Format;
use nexus_exporter::gather::Gatherer;
use nexus_exporter::settings::Settings;
use nexus_exporter::snapshot::Snapshot;

/// A host's root with a socket below it, each of whose connections is served by `serve`.
fn host(socket: &str, serve: impl Fn(UnixStream) + Send + 'static) -> tempfile::TempDir {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join(socket);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    let listener = UnixListener::bind(path).unwrap();
    std::thread::spawn(move || listener.incoming().flatten().for_each(&serve));
    root
}

const BUS: &str = "run/dbus/system_bus_socket";
const PRIVATE: &str = "run/systemd/private";

fn gatherer(root: &Path, change: impl FnOnce(&mut Wanted)) -> Gatherer {
    let mut settings = Settings { exporter_metrics: false, ..Settings::defaults() };
    change(&mut settings.systemd);
    let nowhere = || "/nonexistent".into();
    let roots = Roots { procfs: nowhere(), sysfs: nowhere(), udev_data: nowhere(), rootfs: root.to_owned() };
    Gatherer::new(roots, settings, Calls::REAL, Box::new(DockerState::default))
}

fn scrape(gatherer: &mut Gatherer) -> Snapshot {
    gatherer.gather(Selection::NONE.with(Collector::Systemd), Timestamp::UNIX_EPOCH)
}

fn fault(root: &Path, change: impl FnOnce(&mut Wanted)) -> String {
    let snapshot = scrape(&mut gatherer(root, change));
    assert!(snapshot.found.is_empty());
    snapshot.outcomes[0].fault.as_ref().unwrap().to_string()
}

/// Says what was recorded, a piece whenever something was asked.
fn replay(mut stream: UnixStream, recorded: &[u8]) {
    let mut rest = recorded;
    let mut room = [0; 64 * 1024];
    while stream.read(&mut room).unwrap_or(0) > 0 {
        if let Some((length, after)) = rest.split_first_chunk() {
            let (piece, after) = after.split_at(u32::from_le_bytes(*length) as usize);
            rest = after;
            if stream.write_all(piece).is_err() {
                return;
            }
        }
    }
}

/// What is written of a recording, without what is written of every scrape.
fn written(recording: &str, socket: &str) -> String {
    let recorded = std::fs::read(support::fixture("systemd").join(recording)).unwrap();
    let root = host(socket, move |stream| replay(stream, &recorded));
    let mut gatherer = gatherer(root.path(), |wanted| {
        *wanted = Wanted {
            is_private: socket == PRIVATE,
            restarts: true,
            start_times: true,
            tasks: true,
            units: wanted.units.clone(),
        };
    });
    let snapshot = scrape(&mut gatherer);
    assert!(snapshot.outcomes[0].fault.is_none(), "{:?}", snapshot.outcomes);
    let body = snapshot.render(Format::Text);
    let again = scrape(&mut gatherer).render(Format::Text);
    let own = |body: &str| body.split("# HELP node_scrape_collector_duration_seconds").next().unwrap().to_owned();
    assert_eq!(own(&body), own(&again), "a second scrape says the same");
    own(&body)
}

#[test]
fn what_systemd_252_said_is_written_as_the_golden_file_says() {
    let path = support::fixture("systemd").join("252.golden");
    let found = written("252.private", PRIVATE);
    if std::env::var_os("NEXUS_WRITE_GOLDEN").is_some() {
        std::fs::write(&path, &found).unwrap();
    }
    let golden = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, golden, "if it is meant so: NEXUS_WRITE_GOLDEN=1");
    // The same systemd, asked over a bus a moment later.
    let names =
        |body: &str| body.lines().filter_map(|line| line.rsplit_once(' ')).map(|(name, _)| name.to_owned()).collect();
    let over_a_bus: Vec<String> = names(&written("252.bus", BUS));
    for name in names(&golden) {
        assert!(over_a_bus.contains(&name), "{name}");
    }
}

#[test]
fn without_a_bus_there_is_nothing_to_collect() {
    let root = tempfile::tempdir().unwrap();
    let reason = fault(root.path(), |_| ());
    assert!(reason.starts_with("there is no bus at ") && reason.ends_with(BUS), "{reason}");
}

/// Lets everybody in, and answers each message with what `answer` makes of its number.
fn answer_all(mut stream: UnixStream, answer: impl Fn(u32) -> Vec<u8>) {
    let mut got = Vec::new();
    let mut room = [0; 64 * 1024];
    let mut is_let_in = false;
    let mut is_begun = false;
    loop {
        let count = stream.read(&mut room).unwrap_or(0);
        got.extend(&room[..count]);
        let mut out = Vec::new();
        if !is_let_in && got.ends_with(b"\r\n") {
            got.clear();
            out.extend(b"OK 0123456789abcdef0123456789abcdef\r\n");
            is_let_in = true;
        }
        if !is_begun && got.starts_with(b"BEGIN\r\n") {
            got.drain(..7);
            is_begun = true;
        }
        let number = |got: &[u8], at: usize| u32::from_le_bytes(got[at..at + 4].try_into().unwrap());
        while is_begun && got.len() >= 16 {
            let size = (16 + number(&got, 12) as usize).next_multiple_of(8) + number(&got, 4) as usize;
            if got.len() < size {
                break;
            }
            out.extend(answer(number(&got, 8)));
            got.drain(..size);
        }
        if count == 0 || stream.write_all(&out).is_err() {
            return;
        }
    }
}

/// The error that answers message `serial`.
fn refusal(serial: u32) -> Vec<u8> {
    let name = b"org.freedesktop.DBus.Error.AccessDenied";
    let mut fields = b"\x05\x01u\0".to_vec();
    fields.extend(serial.to_le_bytes());
    fields.extend(b"\x04\x01s\0");
    fields.extend((name.len() as u32).to_le_bytes());
    fields.extend(name);
    fields.push(0);
    let mut message = b"l\x03\x01\x01\0\0\0\0\x01\0\0\0".to_vec();
    message.extend((fields.len() as u32).to_le_bytes());
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message
}

/// Answers message `serial`: four are asked, of which the last is for the list of units.
fn units_twice(serial: u32) -> Vec<u8> {
    let text = |out: &mut Vec<u8>, text: &str| {
        out.resize(out.len().next_multiple_of(4), 0);
        out.extend((text.len() as u32).to_le_bytes());
        out.extend(text.bytes().chain([0]));
    };
    if serial != 4 {
        return refusal(serial);
    }
    let mut units = Vec::new();
    for state in ["active", "failed"] {
        units.resize(units.len().next_multiple_of(8), 0);
        for word in ["a.target", "A.", "loaded", state, "", "", "/a"] {
            text(&mut units, word);
        }
        units.resize(units.len().next_multiple_of(4), 0);
        units.extend([0; 4]);
        text(&mut units, "");
        text(&mut units, "/");
    }
    let mut fields = b"\x05\x01u\0".to_vec();
    fields.extend(serial.to_le_bytes());
    fields.extend(b"\x08\x01g\0\x0da(ssssssouso)\0");
    let mut message = b"l\x02\x01\x01".to_vec();
    for number in [units.len() as u32 + 8, 1, fields.len() as u32] {
        message.extend(number.to_le_bytes());
    }
    message.extend(fields);
    message.resize(message.len().next_multiple_of(8), 0);
    message.extend((units.len() as u32).to_le_bytes());
    message.extend([0; 4]);
    message.extend(units);
    message
}

#[test]
fn a_unit_that_is_listed_twice_is_one_series() {
    let root = host(PRIVATE, |stream| answer_all(stream, units_twice));
    let body = scrape(&mut gatherer(root.path(), |wanted| wanted.is_private = true)).render(Format::Text);
    let count = |line: &str| body.lines().filter(|other| *other == line).count();
    assert_eq!(count("node_systemd_unit_state{name=\"a.target\",state=\"active\",type=\"\"} 1"), 1, "{body}");
    assert_eq!(body.matches("state=\"failed\",type=").count(), 1, "{body}");
    assert_eq!(count("node_systemd_units{state=\"active\"} 1"), 1, "{body}");
}

#[test]
fn a_systemd_that_refuses_is_a_fault_with_its_reason() {
    let root = host(PRIVATE, |stream| answer_all(stream, refusal));
    let reason = fault(root.path(), |wanted| wanted.is_private = true);
    assert!(reason.ends_with("refused: org.freedesktop.DBus.Error.AccessDenied"), "{reason}");
}

#[test]
fn a_systemd_that_hangs_is_given_up_before_the_collector_is() {
    let root = host(PRIVATE, |stream| answer_all(stream, |_| Vec::new()));
    let begin = Instant::now();
    let reason = fault(root.path(), |wanted| wanted.is_private = true);
    assert!(reason.starts_with("can't ask systemd over ") && reason.ends_with("no answer in time"), "{reason}");
    assert!(begin.elapsed() < Duration::from_secs(20));
}
