//! The web configuration file at work: real TCP, real TLS, files that change under a running server.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::routing::get;
use nexus_web::{Gate, Limits, bind, healthcheck, serve_gated};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use rustls::crypto::ring::default_provider;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::version::{TLS12, TLS13};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

const SOON: Duration = Duration::from_secs(20);

/// Of `secret`, at the least cost.
fn hash() -> String {
    bcrypt::hash_with_salt("secret", 4, [7; 16]).unwrap().to_string()
}

/// `alice:secret`
const RIGHT: &str = "Authorization: Basic YWxpY2U6c2VjcmV0\r\n";
/// `alice:wrong`
const WRONG: &str = "Authorization: Basic YWxpY2U6d3Jvbmc=\r\n";

struct Server {
    addresses: Vec<SocketAddr>,
    gate: Arc<Gate>,
}

impl Server {
    async fn start(config: &Path) -> Server {
        Server::start_within(config, Limits::default()).await
    }

    async fn start_within(config: &Path, limits: Limits) -> Server {
        let gate = Arc::new(Gate::open(config, &["/healthz"]).unwrap_or_else(|error| panic!("{error}")));
        let router = Router::new().route("/", get(|| async { "in" })).route("/healthz", get(|| async { "ok" }));
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let listeners = vec![bind(any).await.unwrap(), bind(any).await.unwrap()];
        let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
        tokio::spawn(serve_gated(listeners, router, limits, Some(Arc::clone(&gate)), std::future::pending()));
        Server { addresses, gate }
    }

    async fn get(&self, path: &str, headers: &str) -> String {
        ask(TcpStream::connect(self.addresses[0]).await.unwrap(), path, headers).await.unwrap()
    }

    /// Over TLS, with the certificate that the server showed.
    async fn get_tls(&self, client: ClientConfig) -> std::io::Result<(String, CertificateDer<'static>)> {
        let stream = TcpStream::connect(self.addresses[1]).await?;
        let name = ServerName::try_from("pi.lan").unwrap();
        let stream = TlsConnector::from(Arc::new(client)).connect(name, stream).await?;
        let shown = stream.get_ref().1.peer_certificates().unwrap()[0].clone().into_owned();
        Ok((ask(stream, "/", RIGHT).await?, shown))
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, path: &str, headers: &str) -> std::io::Result<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("an answer")?;
    Ok(String::from_utf8(answer).unwrap())
}

/// A folder with an authority, and what it signed.
struct Folder {
    folder: tempfile::TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Folder {
    fn new() -> Folder {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let authority = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let folder = Folder { folder: tempfile::tempdir().unwrap(), authority };
        folder.write("ca.crt", &folder.authority.pem());
        folder.renew();
        folder
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn signed(&self, name: &str) -> (rcgen::Certificate, KeyPair) {
        let key = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new([name.to_owned()]).unwrap().signed_by(&key, &self.authority).unwrap();
        (certificate, key)
    }

    /// A new certificate and key of the server.
    fn renew(&self) {
        let (certificate, key) = self.signed("pi.lan");
        self.write("server.crt", &certificate.pem());
        self.write("server.key", &key.serialize_pem());
    }

    /// A web configuration with these lines more in its TLS section.
    fn tls(&self, lines: &str) -> PathBuf {
        self.write("web.yml", &format!("tls_server_config:\n  cert_file: server.crt\n  key_file: server.key\n{lines}"))
    }

    fn client(&self, versions: &[&'static SupportedProtocolVersion], own: Option<Own>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.authority.der().clone()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(default_provider()))
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots);
        match own {
            Some((certificate, key)) => {
                let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
                builder.with_client_auth_cert(vec![certificate.der().clone()], key).unwrap()
            }
            None => builder.with_no_client_auth(),
        }
    }
}

type Own = (rcgen::Certificate, KeyPair);
const BOTH: &[&SupportedProtocolVersion] = &[&TLS12, &TLS13];

#[tokio::test]
async fn passwords_are_asked_for_and_headers_are_added() {
    let folder = Folder::new();
    let headers = "http_server_config:\n  headers:\n    X-Frame-Options: deny\n";
    let config = folder.write("web.yml", &format!("basic_auth_users:\n  alice: {}\n{headers}", hash()));
    let server = Server::start(&config).await;
    let check = async |path: &str, headers: &str, expected: &str| {
        // Twice: checked, and remembered.
        for _ in 0..2 {
            let answer = server.get(path, headers).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {expected}")), "{path} {headers}: {answer}");
            assert!(answer.contains("\r\nx-frame-options: deny\r\n"), "{answer}");
            assert_eq!(answer.contains("\r\nwww-authenticate: Basic realm="), expected == "401", "{answer}");
        }
    };
    check("/", RIGHT, "200").await;
    check("/", WRONG, "401").await;
    check("/", "", "401").await;
    check("/", "Authorization: Bearer YWxpY2U6c2VjcmV0\r\n", "401").await;
    check("/", "Authorization: Basic !\r\n", "401").await;
    check("/nothing", "", "401").await;
    check("/healthz", "", "200").await;
    check("/healthz/", "", "401").await;
    check("/healthz?x=1", "", "200").await;
    assert!(healthcheck(server.addresses[0], "/healthz", SOON).await.is_ok());

    // Another user in place of the first, from the next request on.
    folder.write("web.yml", &format!("basic_auth_users:\n  bob: {}\n{headers}", hash()));
    check("/", RIGHT, "401").await;
    assert!(server.gate.is_ok());
    folder.write("web.yml", "");
    check("/", RIGHT, "401").await;
    assert!(!server.gate.is_ok());
}

#[tokio::test]
async fn requests_are_limited() {
    let folder = Folder::new();
    let server = Server::start(&folder.write("web.yml", "rate_limit:\n  interval: 1h\n  burst: 2\n")).await;
    for expected in ["200", "200", "429", "429"] {
        assert!(server.get("/", "").await.starts_with(&format!("HTTP/1.1 {expected} ")), "{expected}");
        assert!(server.get("/healthz", "").await.starts_with("HTTP/1.1 200 "));
    }
}

#[tokio::test]
async fn tls_is_served_and_whoever_speaks_plain_http_is_told() {
    let folder = Folder::new();
    let server = Server::start(&folder.tls("")).await;
    for versions in [&[&TLS12][..], &[&TLS13], BOTH] {
        let mut client = folder.client(versions, None);
        client.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        let (answer, _) = server.get_tls(client).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("\r\n\r\nin"), "{answer}");
    }
    let plain = server.get("/", "").await;
    assert!(plain.starts_with("HTTP/1.1 400 ") && plain.contains("https://"), "{plain}");
    assert!(healthcheck(server.addresses[0], "/healthz", SOON).await.is_ok());
    let mut only_h2 = folder.client(BOTH, None);
    only_h2.alpn_protocols = vec![b"h2".to_vec()];
    assert!(server.get_tls(only_h2).await.is_err());
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_without_a_restart() {
    let folder = Folder::new();
    let server = Server::start(&folder.tls("")).await;
    let shown = async || server.get_tls(folder.client(BOTH, None)).await.unwrap().1;
    let first = shown().await;
    assert_eq!(shown().await, first);
    folder.renew();
    let second = shown().await;
    assert_ne!(second, first);
    // Only half of a renewal: the old one stays until the other half is there.
    let (certificate, key) = folder.signed("pi.lan");
    folder.write("server.crt", &certificate.pem());
    assert_eq!(shown().await, second);
    assert!(!server.gate.is_ok());
    folder.write("server.key", &key.serialize_pem());
    assert_eq!(shown().await, *certificate.der());
    assert!(server.gate.is_ok());
    // A rename, as certificate managers do it, and a file that is gone.
    let (certificate, key) = folder.signed("pi.lan");
    let (new_certificate, new_key) =
        (folder.write("new.crt", &certificate.pem()), folder.write("new.key", &key.serialize_pem()));
    std::fs::rename(new_key, folder.folder.path().join("server.key")).unwrap();
    std::fs::rename(new_certificate, folder.folder.path().join("server.crt")).unwrap();
    assert_eq!(shown().await, *certificate.der());
    std::fs::remove_file(folder.folder.path().join("server.key")).unwrap();
    assert_eq!(shown().await, *certificate.der());
    assert!(!server.gate.is_ok());
    // TLS is not switched off by a file that has become empty.
    folder.write("server.key", &key.serialize_pem());
    folder.write("web.yml", "");
    assert_eq!(shown().await, *certificate.der());
    assert!(!server.gate.is_ok());
}

#[tokio::test]
async fn clients_are_asked_for_certificates() {
    let folder = Folder::new();
    let stranger = Folder::new();
    let ca = "  client_ca_file: ca.crt\n";
    // Whether a client passes with none, with one of the authority's, with a stranger's.
    for (lines, expected) in [
        ("  client_auth_type: NoClientCert\n".to_owned(), [true, true, true]),
        ("  client_auth_type: RequestClientCert\n".to_owned(), [true, true, true]),
        ("  client_auth_type: RequireAnyClientCert\n".to_owned(), [false, true, true]),
        ("  client_auth_type: RequireClientCert\n".to_owned(), [false, true, true]),
        (format!("  client_auth_type: VerifyClientCertIfGiven\n{ca}"), [true, true, false]),
        (format!("  client_auth_type: RequireAndVerifyClientCert\n{ca}"), [false, true, false]),
        (
            format!("  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [a, prometheus.lan]\n{ca}"),
            [false, true, false],
        ),
        (
            format!("  client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [other.lan]\n{ca}"),
            [false, false, false],
        ),
        (
            "  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: [prometheus.lan]\n".to_owned(),
            [false, true, true],
        ),
    ] {
        let server = Server::start(&folder.tls(&lines)).await;
        for version in [&TLS12, &TLS13] {
            let own = [None, Some(folder.signed("prometheus.lan")), Some(stranger.signed("prometheus.lan"))];
            for (own, expected) in own.into_iter().zip(expected) {
                // With TLS 1.3 the client learns of the refusal only when it reads.
                let answer = server.get_tls(folder.client(&[version], own)).await;
                let passes = answer.as_ref().is_ok_and(|(answer, _)| answer.starts_with("HTTP/1.1 200 "));
                assert_eq!(passes, expected, "{lines} {version:?}: {answer:?}");
            }
        }
        assert!(healthcheck(server.addresses[0], "/healthz", SOON).await.is_ok(), "{lines}");
    }
}

#[tokio::test]
async fn versions_and_ciphers_are_those_that_were_chosen() {
    let folder = Folder::new();
    let passes = async |lines: &str, version: &'static SupportedProtocolVersion| {
        Server::start(&folder.tls(lines)).await.get_tls(folder.client(&[version], None)).await.is_ok()
    };
    for (lines, expected) in [
        ("", [true, true]),
        ("  min_version: TLS13\n", [false, true]),
        ("  max_version: TLS12\n", [true, false]),
        ("  min_version: TLS10\n  curve_preferences: [CurveP384]\n", [true, true]),
        ("  cipher_suites: [TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256]\n", [true, true]),
        // The certificate is no RSA one, so that no cipher suite is left to TLS 1.2.
        ("  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n", [false, true]),
        ("  cipher_suites: [TLS_AES_128_GCM_SHA256]\n", [false, true]),
    ] {
        assert_eq!([passes(lines, &TLS12).await, passes(lines, &TLS13).await], expected, "{lines}");
    }
}

#[tokio::test]
async fn handshakes_that_do_not_end_hold_up_nobody() {
    let folder = Folder::new();
    let limits = Limits {
        handshake_timeout: Duration::from_millis(300),
        max_connections: 20,
        grace: Duration::ZERO,
        ..Limits::default()
    };
    let server = Server::start_within(&folder.tls(""), limits).await;
    let mut hung = Vec::new();
    for number in 0..50 {
        let mut stream = TcpStream::connect(server.addresses[number % 2]).await.unwrap();
        // Nothing, half of a client's hello, half of a plain request.
        let part: &[u8] = [&b""[..], b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", b"GET / HT"][number % 3];
        stream.write_all(part).await.unwrap();
        hung.push(stream);
    }
    // More than there are places: those that wait make room.
    assert!(server.get_tls(folder.client(BOTH, None)).await.unwrap().0.starts_with("HTTP/1.1 200 "));
    for mut stream in hung {
        let mut answer = Vec::new();
        _ = tokio::time::timeout(SOON, stream.read_to_end(&mut answer)).await.expect("cut off");
    }
}

#[test]
fn material_that_can_not_be_used_is_named() {
    let folder = Folder::new();
    let (_, other) = folder.signed("pi.lan");
    let other = folder.write("other.key", &other.serialize_pem());
    let check = |text: &str, parts: &[&str]| {
        let error = Gate::open(&folder.write("web.yml", text), &[]).expect_err(text);
        let error = format!("{error} {:?}", std::error::Error::source(&error));
        for part in parts {
            assert!(error.contains(part), "{error} lacks {part}");
        }
    };
    let tls = |certificate: &str, key: &str, rest: &str| {
        format!("tls_server_config:\n  cert_file: {certificate}\n  key_file: {key}\n{rest}")
    };
    check(&tls("none.crt", "server.key", ""), &["none.crt", "(cert_file)", "NotFound"]);
    check(&tls("server.crt", "none.key", ""), &["none.key", "(key_file)", "NotFound"]);
    check(&tls("server.key", "server.key", ""), &["server.key: no certificate"]);
    check(&tls("server.crt", "server.crt", ""), &["server.crt: no private key"]);
    check(&tls("server.crt", other.to_str().unwrap(), ""), &["other.key: not the key of the certificate"]);
    let verify = "  client_auth_type: RequireAndVerifyClientCert\n  client_ca_file: ";
    check(&tls("server.crt", "server.key", &format!("{verify}none.crt\n")), &["none.crt", "(client_ca_file)"]);
    check(&tls("server.crt", "server.key", &format!("{verify}server.key\n")), &["server.key: no certificate"]);
    check("tls_server_config:\n  cert: nonsense\n  key: nonsense\n", &["web.yml: no certificate"]);
    let inline = |pem: &str| pem.lines().map(|line| format!("    {line}\n")).collect::<String>();
    let (certificate, key) = folder.signed("pi.lan");
    let (certificate, key) = (inline(&certificate.pem()), inline(&key.serialize_pem()));
    let text = format!("tls_server_config:\n  cert: |\n{certificate}  key: |\n{key}");
    assert!(Gate::open(&folder.write("web.yml", &text), &[]).is_ok());
}
