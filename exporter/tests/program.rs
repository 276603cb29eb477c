//! The program itself: exit codes, signals, raw bytes over TCP, Docker coming and going.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};

use support::{Engine, SOON, fixture, wait_for};

fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus-exporter"));
    command.env_remove("NEXUS_STACK").env_remove("NEXUS_LOG");
    command
}

/// A running exporter of a fixture tree.
struct Program {
    child: Child,
    address: SocketAddr,
    log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    fn start(tree: &str, socket: &Path) -> Program {
        let tree = fixture(tree);
        let mut child = command()
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("--path.rootfs={}", tree.join("root").display()))
            .arg(format!("--path.procfs={}", tree.join("proc").display()))
            .arg(format!("--path.sysfs={}", tree.join("sys").display()))
            .arg(format!("--docker.socket={}", socket.display()))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let address = wait_for("the address in the log", || {
            let log = log.lock().unwrap();
            log.iter().find_map(|line| line.split_once("address=")?.1.trim().parse().ok())
        });
        Program { child, address, log }
    }

    fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    fn get(&self, target: &str, headers: &str) -> String {
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    }

    fn has_within_time(&self, line: &str) {
        wait_for(line, || self.get("/metrics", "").lines().any(|found| found == line).then_some(()));
    }

    fn logged(&self, words: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    fn count(&self, folder: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{folder}", self.child.id())).unwrap().count()
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn run(arguments: &[&str]) -> Output {
    command().args(arguments).output().unwrap()
}

fn complains(output: &Output, code: i32, words: &str) {
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{complaint}");
    assert_eq!(complaint.lines().count(), 1, "{complaint}");
    assert!(complaint.starts_with("nexus-exporter: ") && complaint.contains(words), "{complaint}");
    assert!(output.stdout.is_empty());
}

#[test]
fn mistakes_are_one_line_and_exit_code_2() {
    complains(&run(&["--no-such-flag"]), 2, "--no-such-flag");
    complains(&run(&["--web.listen-address=nowhere"]), 2, "--web.listen-address");
    complains(&run(&["--path.rootfs=/nonexistent"]), 2, "--path.procfs");
}

#[test]
fn a_taken_port_is_one_line_and_exit_code_1() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("--web.listen-address={}", taken.local_addr().unwrap());
    complains(&run(&[&address]), 1, "choose another port");
    complains(&run(&["healthcheck", "--web.listen-address=127.0.0.1:1"]), 1, "127.0.0.1:1 does not answer");
}

#[test]
fn the_list_of_families_is_printed() {
    let output = run(&["families"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("| `node_load1` | gauge |"));
}

#[test]
fn routes_answer_over_raw_bytes() {
    let program = Program::start("pi3-memory-cgroup-off", Path::new("/nonexistent/docker.sock"));

    let text = program.get("/metrics?collect[]=loadavg", "");
    assert!(text.starts_with("HTTP/1.1 200 OK\r\n"), "{text}");
    assert!(text.contains("\r\ncontent-type: text/plain; version=0.0.4; charset=utf-8\r\n"));
    let (_, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(body.contains("\nnode_load1 1.1\n") && !body.contains("node_memory"), "{body}");

    let accept = "Accept: application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3\r\n";
    let open = program.get("/metrics?collect%5B%5D=stat&collect%5B%5D=time", accept);
    assert!(open.contains("\r\ncontent-type: application/openmetrics-text; version=1.0.0; charset=utf-8\r\n"));
    assert!(open.contains("\n# TYPE node_forks counter\nnode_forks_total 81234\n") && open.ends_with("\n# EOF\n"));
    assert!(!open.contains("node_load1"));

    let unknown = program.get("/metrics?collect[]=loadavg&collect[]=gpu", "");
    assert!(unknown.starts_with("HTTP/1.1 400 "), "{unknown}");
    assert!(unknown.contains("missing collector: \"gpu\"; there are cpu, loadavg, meminfo"), "{unknown}");

    assert!(program.get("/healthz", "").ends_with("\r\n\r\nok\n"));
    assert!(program.get("/", "").contains("<a href=\"/metrics\">"));
    assert!(program.get("/nothing", "").starts_with("HTTP/1.1 404 "));
    assert!(
        program.raw(b"POST /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 405 ")
    );
    assert!(program.raw(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n").starts_with("HTTP/1.1 400 "));
    assert!(program.get("/metrics?collect[]=%ff", "").starts_with("HTTP/1.1 400 "));
    let head = program.raw(b"HEAD /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 ") && head.ends_with("\r\n\r\n"));

    let healthcheck = run(&["healthcheck", &format!("--web.listen-address={}", program.address)]);
    assert!(healthcheck.status.success(), "{healthcheck:?}");
}

#[test]
fn sigterm_ends_it_in_good_order() {
    let mut program = Program::start("psi-off", Path::new("/nonexistent/docker.sock"));
    // An idle connection must not hold it up.
    let idle = TcpStream::connect(program.address).unwrap();
    assert!(program.get("/healthz", "").ends_with("ok\n"));
    rustix::process::kill_process(program.pid(), rustix::process::Signal::TERM).unwrap();
    let status = wait_for("the end", || program.child.try_wait().unwrap());
    assert_eq!(status.code(), Some(0));
    drop(idle);
}

#[test]
fn without_docker_the_host_is_served_and_the_fault_told_once() {
    let program = Program::start("pi4", Path::new("/nonexistent/docker.sock"));
    wait_for("the fault in the log", || (program.logged("/nonexistent/docker.sock") > 0).then_some(()));
    for _ in 0..20 {
        let body = program.get("/metrics", "");
        assert!(body.contains("\ndocker_up 0\n") && body.contains("\nnode_load1 0.42\n"));
        assert!(body.contains("\nnexus_memory_cgroup_enabled 1\n"));
        assert!(!body.contains("\ndocker_container_") && !body.contains("\ndocker_info"));
    }
    assert_eq!(program.logged("/nonexistent/docker.sock"), 1, "{:?}", program.log);
}

#[test]
fn when_docker_goes_its_word_goes_and_the_kernels_stays() {
    let engine = Engine::start(&fixture("pi4/docker.json"));
    let program = Program::start("pi4", &engine.socket);
    program.has_within_time("docker_up 1");
    let body = program.get("/metrics", "");
    assert!(body.contains("\ndocker_container_state{") && body.contains("\ncontainer_memory_rss{"));
    assert!(body.contains("\nnode_scrape_collector_success{collector=\"container\"} 1\n"));
    drop(engine);
    program.has_within_time("docker_up 0");
    let body = program.get("/metrics", "");
    assert!(!body.contains("\ndocker_container_state{") && body.contains("\ncontainer_memory_rss{"));
    assert!(!body.contains("\ndocker_info{") && body.contains("\ndocker_events_total{action=\"die\"} 0\n"));
    assert!(body.contains("\nnode_scrape_collector_success{collector=\"docker\"} 1\n"));
}

#[test]
fn scrapes_leave_no_descriptors_and_no_threads_behind() {
    let engine = Engine::start(&fixture("hybrid-v1/docker.json"));
    let program = Program::start("hybrid-v1", &engine.socket);
    program.has_within_time("docker_up 1");
    let threads = program.count("task");
    let mut stream = TcpStream::connect(program.address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut reader = BufReader::new(stream.try_clone().unwrap());
    let mut scrape = || {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).unwrap();
            if let Some(value) = line.strip_prefix("content-length: ") {
                length = value.trim().parse().unwrap();
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert!(body.ends_with(b"\n"));
    };
    scrape();
    let descriptors = program.count("fd");
    for _ in 0..500 {
        scrape();
    }
    assert_eq!(program.count("fd"), descriptors);
    assert_eq!(program.count("task"), threads);
}
