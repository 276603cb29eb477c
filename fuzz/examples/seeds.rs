//! `seeds FOLDER`: the inputs to begin with, a folder a target.

use std::fs;
use std::path::Path;

use nexus_fuzz::scratch;
use nexus_fuzz::tree::{matters, trees};

fn main() -> std::io::Result<()> {
    let folder = std::env::args_os().nth(1).expect("a folder to write to");
    let folder = Path::new(&folder);
    let copies = scratch();
    for matter in matters(&trees(copies.path())) {
        for (at, content) in forms(&matter.content).into_iter().enumerate() {
            let mut input = matter.key.to_le_bytes().to_vec();
            input.push(1);
            input.extend(content);
            write(folder, "collectors", &format!("{:08x}-{at}", matter.key), &input)?;
        }
    }
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exporter/fixtures");
    let texts = fixtures.join("pi4/root/var/lib/prometheus/node-exporter");
    for entry in fs::read_dir(texts)?.flatten().chain(fs::read_dir(&fixtures)?.flatten()) {
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "prom") {
            write(folder, "textfile", &entry.file_name().to_string_lossy(), &fs::read(path)?)?;
        }
    }
    let kinds = "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum 3\nh_count 2\n---\n\
        # HELP s S.\n# TYPE s summary\ns{quantile=\"0.5\"} 1\ns_sum 3\ns_count 2\n---\na_total 1\n# TYPE a gauge\na 2\n";
    write(folder, "textfile", "kinds", kinds.as_bytes())?;
    let requests = [
        "collect[]=time&collect[]=loadavg\napplication/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3",
        "exclude%5B%5D=entropy\n*/*;q=0.1",
        "exclude[]=time&collect[]=gpu\ntext/*;q=0,application/*",
    ];
    for (at, request) in requests.iter().enumerate() {
        write(folder, "accept", &at.to_string(), request.as_bytes())?;
    }
    let configuration = "tls_server_config:\n  cert_file: c.pem\n  key_file: k.pem\n  client_auth_type: NoClientCert\n  \
        min_version: TLS12\n  cipher_suites: [TLS_AES_128_GCM_SHA256]\n  curve_preferences: [X25519]\n\
        http_server_config:\n  http2: false\n  headers:\n    X-Frame-Options: deny\n\
        basic_auth_users:\n  me: $2b$05$abcdefghijklmnopqrstuuG9ZpVjv1n2o3p4q5r6s7t8u9v0w1x2y\n\
        rate_limit:\n  interval: 1s\n  burst: \"20\"\n";
    write(folder, "web_config", "all", configuration.as_bytes())?;
    for (at, part) in ["{}", "rate_limit:\n  interval: 1m30s\n", "basic_auth_users: {a: b}\n"].iter().enumerate() {
        write(folder, "web_config", &at.to_string(), part.as_bytes())?;
    }
    Ok(())
}

/// As it is, twice, and with numbers that sums and signs break on.
fn forms(content: &[u8]) -> Vec<Vec<u8>> {
    let with_numbers = |number: &str| {
        let mut out = Vec::with_capacity(content.len());
        for (at, byte) in content.iter().enumerate() {
            match byte {
                b'0'..=b'9' if at > 0 && content[at - 1].is_ascii_digit() => (),
                b'0'..=b'9' => out.extend(number.bytes()),
                other => out.push(*other),
            }
        }
        out
    };
    vec![content.to_vec(), content.repeat(2), with_numbers("18446744073709551615"), with_numbers("-1")]
}

fn write(folder: &Path, target: &str, name: &str, input: &[u8]) -> std::io::Result<()> {
    let folder = folder.join(target);
    fs::create_dir_all(&folder)?;
    fs::write(folder.join(name), input)
}
