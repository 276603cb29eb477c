//! The running program with a web configuration: what it keeps behind the password, and what it must not.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc,
    time::Duration,
};

use nexus_web::hash_password;
use reqwest::{Certificate, Client, RequestBuilder};

/// Longer than anything takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(120);
const PROGRAM: &str = env!("CARGO_BIN_EXE_nexus-reporter");
/// Nobody listens there: what is served does not depend on it.
const AWAY: &str = "http://127.0.0.1:1";

/// A password, tokens, a certificate and a web configuration.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Folder {
        let folder = Folder(tempfile::tempdir().unwrap());
        folder.write("act", "may-act\n");
        folder.write("read", "may-read\n");
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn password() -> String {
        format!("basic_auth_users:\n  owner: {}\n", hash_password("secret").unwrap())
    }

    /// As the password alone, with TLS by a certificate that is its own authority.
    fn tls(&self) -> (String, Certificate) {
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(["127.0.0.1".to_owned()]).unwrap().self_signed(&key).unwrap();
        self.write("page.crt", &certificate.pem());
        self.write("page.key", &key.serialize_pem());
        let tls = "tls_server_config:\n  cert_file: page.crt\n  key_file: page.key\n";
        (format!("{}{tls}", Folder::password()), Certificate::from_pem(certificate.pem().as_bytes()).unwrap())
    }
}

struct Reporter {
    child: Child,
    address: SocketAddr,
}

impl Reporter {
    fn start(folder: &Folder, config: &Path) -> Reporter {
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["--web.listen-address", "127.0.0.1:0", "--web.config.file"]).arg(config);
        command.arg("--api.token-file").arg(folder.0.path().join("act"));
        command.arg("--api.read-token-file").arg(folder.0.path().join("read"));
        for part in ["healer", "exporter", "alertmanager", "prometheus"] {
            command.args([&format!("--{part}.url"), AWAY]);
        }
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
        let log = BufReader::new(child.stderr.take().unwrap());
        let (tell, told) = mpsc::channel();
        std::thread::spawn(move || {
            // To its end: the program must not block on its log.
            for line in log.lines().map_while(Result::ok) {
                if let Some(address) = line.rsplit_once("started on ").and_then(|(_, address)| address.parse().ok()) {
                    _ = tell.send(address);
                }
            }
        });
        let address = told.recv_timeout(PATIENCE).unwrap();
        Reporter { child, address }
    }

    /// As Docker asks it.
    fn healthcheck(&self) -> ExitStatus {
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["healthcheck", "--web.listen-address", &self.address.to_string()]);
        command.stdout(Stdio::null()).stderr(Stdio::null()).status().unwrap()
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

fn client() -> reqwest::ClientBuilder {
    _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(PATIENCE)
}

async fn status(request: RequestBuilder) -> u16 {
    request.send().await.unwrap().status().as_u16()
}

/// Who sees what, over plain text and TLS alike.
async fn is_gated(client: &Client, base: &str) {
    let get = |path: &str| client.get(format!("{base}{path}"));
    for path in [
        "/",
        "/?project=x",
        "/incidents",
        "/incidents/x",
        "/services/a/b",
        "/style.css",
        "/icon.svg",
        "/nothing",
        "//api/x",
    ] {
        let answer = get(path).send().await.unwrap();
        let asks = answer.headers().get("www-authenticate").is_some_and(|it| it.as_bytes().starts_with(b"Basic "));
        assert_eq!((answer.status().as_u16(), asks), (401, true), "{path} without a password");
        assert!(!answer.text().await.unwrap().contains("<main"), "{path}");
        assert_eq!(status(get(path).basic_auth("owner", Some("guess"))).await, 401, "{path} with a wrong one");
        // No token of the API opens a page.
        assert_eq!(status(get(path).bearer_auth("may-act")).await, 401, "{path} with a token");
    }
    let page = get("/").basic_auth("owner", Some("secret")).send().await.unwrap();
    assert_eq!(page.status(), 200);
    assert!(page.text().await.unwrap().contains("<main id=\"main\">"));
    assert_eq!(status(get("/style.css").basic_auth("owner", Some("secret"))).await, 200);

    // What the stack asks, which has no password.
    for path in ["/healthz", "/readyz", "/metrics", "/api/v1/openapi.json"] {
        assert_eq!(status(get(path)).await, 200, "{path}");
    }
    // The API has tokens instead: the password is none of them.
    assert_eq!(status(get("/api/v1/status")).await, 401);
    assert_eq!(status(get("/api/v1/status").basic_auth("owner", Some("secret"))).await, 401);
    assert_eq!(status(get("/api/v1/status").bearer_auth("may-read")).await, 200);
}

#[tokio::test]
async fn the_page_wants_the_password_and_the_stack_does_not() {
    let folder = Folder::new();
    let reporter = Reporter::start(&folder, &folder.write("web.yml", &Folder::password()));
    is_gated(&client().build().unwrap(), &format!("http://{}", reporter.address)).await;
    assert!(reporter.healthcheck().success());
}

#[tokio::test]
async fn with_tls_it_is_the_same_and_nothing_is_told_in_plain_text() {
    let folder = Folder::new();
    let (config, certificate) = folder.tls();
    let reporter = Reporter::start(&folder, &folder.write("web.yml", &config));
    let trusting = client().tls_certs_only([certificate]).build().unwrap();
    is_gated(&trusting, &format!("https://{}", reporter.address)).await;
    assert!(reporter.healthcheck().success(), "who asks for its health does not know the certificate");
    let plain = client().build().unwrap();
    for path in ["/", "/metrics", "/api/v1/status"] {
        let request = plain.get(format!("http://{}{path}", reporter.address)).basic_auth("owner", Some("secret"));
        assert_eq!(status(request).await, 400, "{path}");
    }
    // A stranger who does not know the certificate is told nothing at all.
    assert!(plain.get(format!("https://{}/", reporter.address)).send().await.is_err());
}

#[test]
fn a_configuration_that_protects_nothing_is_not_started_with() {
    let folder = Folder::new();
    for (text, word) in
        [("basic_auth_users:\n  owner: secret\n", "owner"), ("basic_auth_user: {}\n", "basic_auth_user")]
    {
        let config = folder.write("web.yml", text);
        let mut command = Command::new(PROGRAM);
        command.env_clear().args(["--web.listen-address", "127.0.0.1:0", "--web.config.file"]).arg(&config);
        command.arg("--api.token-file").arg(folder.0.path().join("act"));
        for part in ["healer", "exporter", "alertmanager", "prometheus"] {
            command.args([&format!("--{part}.url"), AWAY]);
        }
        let output = command.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains(word) && said.contains("web.yml"), "{said}");
    }
}
