//! The program itself: exit codes, signals, raw bytes over TCP, Docker coming and going.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::Output;
use std::sync::Arc;

use rcgen::{CertificateParams, CertifiedKey, KeyPair};
use rustix::process::{Resource, Rlimit};
use support::engine::Engine;
use support::program::{NO_DOCKER, Program, command};
use support::{SOON, fixture, wait_for};

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
    // All or none, and the one that it was is named.
    complains(&run(&["--web.listen-address=127.0.0.1:0", &address]), 1, &taken.local_addr().unwrap().to_string());
    complains(&run(&["healthcheck", "--web.listen-address=127.0.0.1:1"]), 1, "127.0.0.1:1 does not answer");
}

#[test]
fn few_open_files_cost_time_and_too_few_are_told() {
    let success = "node_scrape_collector_success{collector=\"netclass\"} 1";
    let nobody = Path::new("/nonexistent/docker.sock");
    let interfaces = |program: &Program| {
        let body = program.get("/metrics?collect[]=netclass", "");
        body.lines().filter(|line| line.starts_with("node_network_")).map(str::to_owned).collect::<Vec<_>>()
    };
    let expected = interfaces(&Program::start("pi4", nobody));
    let program = Program::start_with_files(64, "pi4", nobody);
    for _ in 0..3 {
        assert_eq!(interfaces(&program), expected);
    }
    program.has_within_time(success);
    assert_eq!(program.logged("no more files may be kept open"), 1);

    // Room for a connection and one file at a time: counted anew at each look, since one that ends may still be open.
    let most = |current| {
        let limit = Rlimit { current: Some(current), maximum: Some(64) };
        rustix::process::prlimit(Some(program.pid()), Resource::Nofile, limit).unwrap();
    };
    let folder = format!("/proc/{}/fd", program.child.id());
    wait_for("too few files for the network interfaces", || {
        let names = std::fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name());
        let open: Vec<u64> = names.map(|name| name.to_str().unwrap().parse().unwrap()).collect();
        most((0..).filter(|number| !open.contains(number)).nth(1).unwrap() + 1);
        let body = program.get("/metrics", "");
        body.lines().any(|line| line == "node_scrape_collector_success{collector=\"netclass\"} 0").then_some(())
    });
    program.has_within_time("node_load1 0.42");
    wait_for("the reason in the log", || (program.logged("too many files are open") > 0).then_some(()));
    // It gives up files that it keeps for those that it lacks.
    wait_for("what was done about it", || (program.logged("fewer files are kept open") > 0).then_some(()));
    most(64);
    program.has_within_time(success);
    assert_eq!(interfaces(&program), expected);
}

#[test]
fn the_list_of_families_is_printed() {
    let output = run(&["families"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("| `node_load1` | gauge |"));
    let output = run(&["manual"]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stdout).contains("| `--web.max-requests=COUNT` | `40` |"));
    let output = run(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), concat!("nexus-exporter ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn routes_answer_over_raw_bytes() {
    let program = Program::start("pi3-memory-cgroup-off", Path::new(NO_DOCKER));

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
    let page = program.get("/", "");
    for part in ["<a href=\"/metrics\">", "<a href=\"/healthz\">", env!("CARGO_PKG_VERSION")] {
        assert!(page.contains(part), "{page}");
    }
    assert!(!page.contains("<script"));
    let host = program.get("/metrics?exclude[]=container&exclude[]=netdev&exclude[]=netclass", "");
    assert!(host.contains("\nnode_load1 1.1\n"));
    assert!(!host.contains("\ncontainer_") && !host.contains("\nnode_network_"), "{host}");
    for refused in ["exclude[]=gpu", "exclude[]=cpu&collect[]=cpu"] {
        assert!(program.get(&format!("/metrics?{refused}"), "").starts_with("HTTP/1.1 400 "), "{refused}");
    }
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
    let mut program = Program::start("psi-off", Path::new(NO_DOCKER));
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
    let program = Program::start("pi4", Path::new(NO_DOCKER));
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
fn it_listens_on_all_addresses_and_the_metrics_can_be_moved() {
    let flags = ["--web.listen-address=127.0.0.2:0", "--web.telemetry-path=/node"];
    let program = Program::start_with(&fixture("pi4"), Path::new(NO_DOCKER), &flags);
    assert_eq!(program.logged("serving metrics"), 2);
    let addresses = program.addresses();
    assert_ne!(addresses[0].ip(), addresses[1].ip());
    for address in addresses {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.write_all(b"GET /node HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.contains("\nnode_load1 "), "{answer}");
    }
    assert!(program.get("/metrics", "").starts_with("HTTP/1.1 404 "));
    assert!(program.get("/", "").contains("<a href=\"/node\">"));

    let flags = ["--web.telemetry-path=/"];
    let program = Program::start_with(&fixture("pi4"), Path::new(NO_DOCKER), &flags);
    assert!(program.get("/", "").contains("\nnode_load1 "));
    assert!(program.get("/healthz", "").ends_with("\r\n\r\nok\n"));
}

/// `prometheus:secret`
const CREDENTIALS: &str = "Authorization: Basic cHJvbWV0aGV1czpzZWNyZXQ=\r\n";

/// `secret`, at the least cost.
fn hash() -> String {
    bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap().to_string()
}

/// A folder with a certificate, which signs for itself, and its key.
fn certificate() -> (tempfile::TempDir, CertifiedKey<KeyPair>) {
    let folder = tempfile::tempdir().unwrap();
    let signing_key = KeyPair::generate().unwrap();
    let cert = CertificateParams::new(["garage.lan".to_owned()]).unwrap().self_signed(&signing_key).unwrap();
    std::fs::write(folder.path().join("exporter.crt"), cert.pem()).unwrap();
    std::fs::write(folder.path().join("exporter.key"), signing_key.serialize_pem()).unwrap();
    (folder, CertifiedKey { cert, signing_key })
}

fn get_tls(address: SocketAddr, certificate: &rcgen::Certificate, request: &str) -> String {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate.der().clone()).unwrap();
    let client = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(roots)
        .with_no_client_auth();
    let client = rustls::ClientConnection::new(Arc::new(client), "garage.lan".try_into().unwrap()).unwrap();
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(SOON)).unwrap();
    let mut stream = rustls::StreamOwned::new(client, stream);
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_manuals_example_protects_it() {
    let (folder, certificate) = certificate();
    let path = folder.path().join("web.yml");
    // The example of the chapter about a LAN, which stands in a list.
    let manual = include_str!("../../docs/exporter.md");
    let example = manual.split("   ```yaml\n").find(|block| block.starts_with("   tls_server_config")).unwrap();
    let example: String =
        example.lines().take_while(|line| *line != "   ```").map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, &example).unwrap();
    let flag = format!("--web.config.file={}", path.display());
    complains(&run(&[&flag]), 2, "line 5: basic_auth_users.prometheus: not a bcrypt hash");
    std::fs::write(&path, example.replace("$2y$10$THE.HASH.THAT.HTPASSWD.PRINTED", &hash())).unwrap();

    let program = Program::start_with(&fixture("pi4"), Path::new(NO_DOCKER), &[&flag]);
    let ask = |path: &str, headers: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
        get_tls(program.address, &certificate.cert, &request)
    };
    let body = ask("/metrics", CREDENTIALS);
    assert!(body.contains("\nnode_load1 ") && body.contains("\nnexus_exporter_web_config_ok 1\n"), "{body}");
    for (path, headers, expected) in [
        ("/metrics", "", "401"),
        ("/", "", "401"),
        ("/metrics", "Authorization: Basic cHJvbWV0aGV1czp4\r\n", "401"),
        ("/healthz", "", "200"),
    ] {
        assert!(ask(path, headers).starts_with(&format!("HTTP/1.1 {expected} ")), "{path}");
    }
    assert!(program.get("/metrics", CREDENTIALS).starts_with("HTTP/1.1 400 "), "plain HTTP");
    let healthcheck = run(&["healthcheck", &format!("--web.listen-address={}", program.address)]);
    assert!(healthcheck.status.success(), "{healthcheck:?}");

    // Broken by an edit: it goes on as before, and says so once.
    std::fs::write(&path, "basic_auth_users: [\n").unwrap();
    for _ in 0..3 {
        assert!(ask("/metrics", CREDENTIALS).contains("\nnexus_exporter_web_config_ok 0\n"));
    }
    assert_eq!(program.logged("web configuration not usable"), 1, "{:?}", program.log);
}

#[test]
fn a_web_configuration_that_can_not_be_used_is_one_line_and_exit_code_2() {
    let (folder, _) = certificate();
    let path = folder.path().join("web.yml");
    let flag = format!("--web.config.file={}", path.display());
    complains(&run(&[&flag]), 2, "web.yml, the web configuration: No such file");
    for (text, words) in [
        (
            "tls_server_config:\n  cert_file: exporter.crt\n  keyfile: x\n",
            "unknown field `keyfile`, expected one of cert, cert_file",
        ),
        (
            "tls_server_config:\n  cert_file: none.crt\n  key_file: exporter.key\n",
            "none.crt, the certificate (cert_file): No",
        ),
        ("tls_server_config:\n  cert_file: exporter.crt\n  key_file: exporter.crt\n", "exporter.crt: no private key"),
        ("http_server_config:\n  headers:\n    Via: x\n", "line 3: http_server_config.headers.Via: can't be set here"),
    ] {
        std::fs::write(&path, text).unwrap();
        complains(&run(&[&flag]), 2, words);
    }
}
