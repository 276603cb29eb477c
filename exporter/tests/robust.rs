//! The program against what must not bring it down: clients that dawdle or never end, too many of them, reads that hang,
//! and thousands of scrapes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use support::engine::Engine;
use support::program::{NO_DOCKER, Program};
use support::{SOON, fixture, wait_for};

/// What a scrape of a fixture tree takes at most, on a loaded machine and without optimisation.
const FAST: Duration = Duration::from_secs(3);

const GET: &[u8] = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n";

fn connect(program: &Program) -> TcpStream {
    let stream = TcpStream::connect(program.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    stream
}

/// A connection that is kept, as Prometheus does.
struct Client {
    stream: TcpStream,
    reader: BufReader<TcpStream>,
}

impl Client {
    fn new(program: &Program) -> Client {
        let stream = connect(program);
        Client { reader: BufReader::new(stream.try_clone().unwrap()), stream }
    }

    fn scrape(&mut self) -> String {
        self.stream.write_all(GET).unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            assert_ne!(self.reader.read_line(&mut line).unwrap(), 0, "cut off");
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        self.reader.read_exact(&mut body).unwrap();
        String::from_utf8(body).unwrap()
    }
}

#[test]
fn ten_thousand_scrapes_leave_nothing_behind() {
    let engine = Engine::start(&fixture("hybrid-v1/docker.json"));
    let program = Program::start("hybrid-v1", &engine.socket);
    program.has_within_time("docker_up 1");
    let (mut first, mut second) = (Client::new(&program), Client::new(&program));
    first.scrape();
    second.scrape();
    let (descriptors, threads) = (program.count("fd"), program.count("task"));
    for number in 0..10_000 {
        let client = if number % 2 == 0 { &mut first } else { &mut second };
        assert!(client.scrape().ends_with('\n'));
        if number % 100 == 0 {
            // Who comes once, who leaves in the middle of it, who asks for nonsense.
            assert!(program.get("/metrics?collect[]=cpu", "").contains("\nnode_cpu_seconds_total{"));
            connect(&program).write_all(GET).unwrap();
            connect(&program).write_all(b"nonsense\r\n\r\n").unwrap();
        }
    }
    wait_for("the connections of the others to end", || (program.count("fd") == descriptors).then_some(()));
    assert_eq!(program.count("task"), threads);
}

#[test]
fn hundreds_of_idle_connections_hold_up_nobody() {
    let program = Program::start("pi4", Path::new(NO_DOCKER));
    let mut kept = Client::new(&program);
    kept.scrape();
    let descriptors = program.count("fd");
    let mut idle = Vec::new();
    for number in 0..600 {
        let mut stream = connect(&program);
        // Nothing, a head that stops in the middle, a head that is drawn out.
        let part: &[u8] = [&b""[..], b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: ", b"G"][number % 3];
        stream.write_all(part).unwrap();
        idle.push(stream);
        if number % 100 == 99 {
            let begin = Instant::now();
            assert!(program.get("/metrics", "").contains("\nnode_load1 0.42\n"));
            assert!(begin.elapsed() < FAST, "{:?}", begin.elapsed());
            assert!(
                kept.scrape().contains("\nnode_load1 0.42\n"),
                "who asks now and then is not the one that waits longest"
            );
        }
    }
    // 128 connections at most, and the one that is being accepted.
    assert!(program.count("fd") <= descriptors + 128, "{}", program.count("fd"));
    drop(idle);
    wait_for("the connections to end", || (program.count("fd") <= descriptors).then_some(()));
    assert!(program.get("/healthz", "").ends_with("ok\n"));
}

#[test]
fn endless_heads_are_refused() {
    let program = Program::start("pi4", Path::new(NO_DOCKER));
    for endless in [&b"x"[..], b"A: b\r\n"] {
        let mut stream = connect(&program);
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nA: ").unwrap();
        let chunk = endless.repeat(4096 / endless.len());
        // It ends because the other side has had enough.
        let sent = (0..10_000).take_while(|_| stream.write_all(&chunk).is_ok()).count();
        assert!(sent < 10_000, "40 MB of head were taken");
        let mut answer = Vec::new();
        _ = stream.read_to_end(&mut answer);
        assert!(!answer.starts_with(b"HTTP/1.1 200"));
    }
    assert!(program.get("/healthz", "").ends_with("ok\n"));
}

#[test]
fn who_reads_a_byte_a_second_is_cut_off() {
    let program = Program::start("hybrid-v1", Path::new(NO_DOCKER));
    // The first scrape opens what is kept open; its connection ends a moment after its answer.
    program.get("/metrics", "");
    std::thread::sleep(Duration::from_secs(1));
    let descriptors = program.count("fd");
    let mut stream = connect(&program);
    // More answers than the kernel takes over, asked for in one go.
    let requests = 2_000;
    let asking = std::thread::spawn({
        let mut stream = stream.try_clone().unwrap();
        move || stream.write_all(&GET.repeat(requests))
    });
    wait_for("the connection", || (program.count("fd") > descriptors).then_some(()));
    let begin = Instant::now();
    let mut one = [0];
    while begin.elapsed() < Duration::from_secs(90) && program.count("fd") > descriptors {
        stream.read_exact(&mut one).unwrap();
        std::thread::sleep(Duration::from_secs(1));
        if begin.elapsed().as_secs() % 10 == 5 {
            assert!(program.get("/metrics", "").contains("\nnode_load1 "), "others are served meanwhile");
        }
    }
    let took = begin.elapsed();
    assert!(took > Duration::from_secs(20) && took < Duration::from_secs(60), "{took:?}");
    _ = asking.join();
}

/// A copy of a tree in which a file is a FIFO: to open it hangs, as a read of a sensor does whose driver is stuck.
struct Hung {
    tree: tempfile::TempDir,
    file: PathBuf,
}

impl Hung {
    fn new(tree: &str, file: &str) -> Hung {
        let copy = tempfile::tempdir().unwrap();
        copy_tree(&fixture(tree), copy.path());
        let file = copy.path().join(file);
        std::fs::remove_file(&file).unwrap();
        let mode = rustix::fs::Mode::from_bits_truncate(0o600);
        rustix::fs::mknodat(rustix::fs::CWD, &file, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        Hung { tree: copy, file }
    }

    /// The read that hangs gets an answer, and those that come later find a file.
    fn recover(&self, content: &str) {
        let aside = self.file.with_extension("hung");
        std::fs::rename(&self.file, &aside).unwrap();
        std::fs::write(&self.file, content).unwrap();
        // For both directions: to open it for writing alone would hang if nobody read.
        let mut fifo = std::fs::OpenOptions::new().read(true).write(true).open(&aside).unwrap();
        fifo.write_all(content.as_bytes()).unwrap();
        // Closed only when it has been read, or the content would go with it.
        wait_for("the read to go on", || (rustix::io::ioctl_fionread(&fifo).unwrap() == 0).then_some(()));
    }
}

fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (kind, to) = (entry.file_type().unwrap(), to.join(entry.file_name()));
        if kind.is_dir() {
            copy_tree(&entry.path(), &to);
        } else if kind.is_symlink() {
            std::os::unix::fs::symlink(std::fs::read_link(entry.path()).unwrap(), to).unwrap();
        } else {
            std::fs::copy(entry.path(), to).unwrap();
        }
    }
}

const THERMAL: &str = "\nnode_scrape_collector_success{collector=\"thermal_zone\"}";

#[test]
fn a_read_that_hangs_costs_its_collector_and_no_other() {
    let hung = Hung::new("pi4", "sys/class/thermal/thermal_zone0/temp");
    let program = Program::start_with(hung.tree.path(), Path::new(NO_DOCKER), &[]);
    let mut client = Client::new(&program);

    let begin = Instant::now();
    let body = client.scrape();
    assert!(begin.elapsed() < Duration::from_secs(9), "before Prometheus gives up: {:?}", begin.elapsed());
    assert!(body.contains(&format!("{THERMAL} 0\n")) && !body.contains("node_thermal_zone_temp"), "{body}");
    // Of those before it and of those after it.
    for line in ["node_load1 0.42", "node_forks_total ", "node_scrape_collector_success{collector=\"time\"} 1"] {
        assert!(body.contains(&format!("\n{line}")), "{line}: {body}");
    }
    let (descriptors, threads) = (program.count("fd"), program.count("task"));
    for _ in 0..100 {
        let begin = Instant::now();
        let body = client.scrape();
        assert!(begin.elapsed() < FAST, "it is not waited for again: {:?}", begin.elapsed());
        assert!(body.contains(&format!("{THERMAL} 0\n")) && body.contains("\nnode_load1 0.42\n"));
    }
    assert_eq!((program.count("fd"), program.count("task")), (descriptors, threads), "one thread hangs, not a hundred");
    let told = |line: &&String| line.contains("collector failed") && line.contains("thermal_zone");
    assert_eq!(program.log.lock().unwrap().iter().filter(told).count(), 1, "{:?}", program.log);

    hung.recover("42000\n");
    let recovered = format!("{THERMAL} 1\n");
    wait_for("the collector to recover", || client.scrape().contains(&recovered).then_some(()));
    assert!(client.scrape().contains("\nnode_thermal_zone_temp{zone=\"0\",type=\"cpu-thermal\"} 42\n"));
    let again = |line: &&String| line.contains("collector works again") && line.contains("thermal_zone");
    assert_eq!(program.log.lock().unwrap().iter().filter(again).count(), 1, "{:?}", program.log);
    wait_for("the thread that hung to end", || (program.count("task") < threads).then_some(()));
}

#[test]
fn more_scrapes_than_may_be_at_once_are_refused() {
    let hung = Hung::new("pi4", "sys/class/thermal/thermal_zone0/temp");
    let program = Program::start_with(hung.tree.path(), Path::new(NO_DOCKER), &["--web.max-requests=2"]);
    // The first hangs for a while, and the second waits behind it.
    let mut waiting: Vec<TcpStream> = (0..2).map(|_| connect(&program)).collect();
    waiting.iter_mut().for_each(|stream| stream.write_all(GET).unwrap());
    let refused = wait_for("the third to be refused", || {
        Some(program.get("/metrics?collect[]=cpu", "")).filter(|answer| answer.starts_with("HTTP/1.1 503 "))
    });
    assert!(refused.ends_with("2 scrapes are under way already, try again later\n"), "{refused}");
    assert!(program.get("/healthz", "").ends_with("ok\n"), "only scrapes are counted");
    for stream in &mut waiting {
        let mut status = [0; 12];
        stream.read_exact(&mut status).unwrap();
        assert_eq!(&status, b"HTTP/1.1 200");
    }
    assert!(program.get("/metrics?collect[]=cpu", "").starts_with("HTTP/1.1 200 "));
    hung.recover("1\n");
}
