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
    for recording in ["252.bus", "252.private"] {
        let said = pieces(&fs::read(fixtures.join("systemd").join(recording))?);
        for wanted in [0, 14] {
            let mode = wanted | u8::from(recording.ends_with("private"));
            write(folder, "dbus", &format!("{recording}-{wanted}"), &[&[mode], said.as_slice()].concat())?;
        }
    }
    for (name, mode, answer) in answers_of_docker(&fixtures)? {
        write(folder, "docker", &name, &[&[mode], answer.as_slice()].concat())?;
    }
    policies(folder)?;
    payloads(folder)?;
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

/// The example, with what it has as a comment in force as well; and what is easily misread.
fn policies(folder: &Path) -> std::io::Result<()> {
    let example = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../healer/healer.example.yml"))?;
    let uncommented = String::from_utf8_lossy(&example).replace("\n# ", "\n").replace("\n#", "\n");
    write(folder, "policy", "example", &example)?;
    write(folder, "policy", "uncommented", uncommented.as_bytes())?;
    let all = "default: off\ntimezone: Europe/Berlin\nmaintenance: [sun 03:00-05:00, none]\nhealing: &h {attempts: 4, told_after: 2,\n  \
        base_delay: 5s, max_delay: 1h 2m, restarts_per_10_minutes: 5}\nprojects:\n  photos:\n    mode: heal\n    healing: {<<: *h, stop_timeout: 90s}\n    \
        services:\n      web: {maintenance: none, expendable: true}\n      \"1\":\n        maintenance:\n          - days: [sat, mon-wed]\n            \
        from: 23:00\n            to: 24:00\nprotected:\n  services: [shop/ledger, bank/*]\n  images: [me/*]\nremedies:\n  prune: yes\n  ballast: 1GiB\n";
    let mistakes = "defualt: heal\ndefault: !!str maybe\ndefault: [a]\nhealing:\n  -\nprojects: {a: {services: {b: *c}}}\nmaintenance:\n  - \n  - {days: []}\n";
    for (name, text) in [
        ("all", all),
        ("mistakes", mistakes),
        ("documents", "a: 1\n---\nb: 2\n...\n"),
        ("block", "default: |-\n  heal\n"),
    ] {
        write(folder, "policy", name, text.as_bytes())?;
    }
    Ok(())
}

/// With and without the token.
fn payloads(folder: &Path) -> std::io::Result<()> {
    let recorded = fs::read(Path::new(env!("CARGO_MANIFEST_DIR")).join("../healer/tests/data/alertmanager-0.28.json"))?;
    let of_host = r#"{"version":"4","truncatedAlerts":3,"alerts":[{"status":"firing","labels":{"alertname":"a","heal":"prune","host":"pi"}},
        {"status":"resolved","labels":{"heal":"relieve"}},{"status":"firing","labels":{"alertname":"b","heal":"relieve"}},
        {"status":"firing","labels":{"heal":"test","nonce":"abc"}}]}"#;
    let services = r#"{"alerts":[{"status":"firing","labels":{"alertname":"a","heal":"restart","project":"shop","service":"web"}},
        {"status":"firing","labels":{"alertname":"a","heal":"restart","project":"shop","service":"\u0000"},"endsAt":"0001-01-01T00:00:00Z"}]}"#;
    for (name, body) in
        [("recorded", recorded.as_slice()), ("host", of_host.as_bytes()), ("services", services.as_bytes())]
    {
        for mode in [0, 1] {
            write(folder, "webhook", &format!("{name}-{mode}"), &[&[mode], body].concat())?;
        }
    }
    Ok(())
}

/// What was said in a recording, whose pieces begin with their lengths.
fn pieces(recorded: &[u8]) -> Vec<u8> {
    let (mut said, mut rest) = (Vec::new(), recorded);
    while let Some((length, after)) = rest.split_first_chunk() {
        let (piece, after) = after.split_at(u32::from_le_bytes(*length) as usize);
        said.extend(piece);
        rest = after;
    }
    said
}

/// By name: which question the target answers with it, and the answer.
fn answers_of_docker(fixtures: &Path) -> std::io::Result<Vec<(String, u8, Vec<u8>)>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(fixtures)?.flatten() {
        let Ok(recorded) = fs::read(entry.path().join("docker.json")) else { continue };
        let recorded: serde_json::Value = serde_json::from_slice(&recorded)?;
        let tree = entry.file_name().to_string_lossy().into_owned();
        let containers = recorded["containers"].as_array().cloned().unwrap_or_default();
        let listed = containers.iter().map(|container| {
            let (state, labels) = (&container["State"]["Status"], &container["Config"]["Labels"]);
            serde_json::json!({"Id": container["Id"], "State": state, "Status": "Up (healthy)", "Labels": labels})
        });
        found.push((format!("{tree}-list"), 1, serde_json::Value::from_iter(listed)));
        for (at, container) in containers.iter().enumerate() {
            found.push((format!("{tree}-inspect-{at}"), 0, container.clone()));
        }
        for (key, mode) in [("system_df", 2), ("images", 3), ("info", 4)] {
            if let Some(answer) = recorded.get(key) {
                found.push((format!("{tree}-{key}"), mode, answer.clone()));
            }
        }
    }
    let mut found: Vec<_> =
        found.into_iter().map(|(name, mode, answer)| (name, mode, answer.to_string().into_bytes())).collect();
    let sums = r#"{"ImageUsage":{"ActiveCount":1,"TotalCount":2,"Reclaimable":30,"TotalSize":100},"ContainerUsage":{"ActiveCount":1},
        "VolumeUsage":{},"BuildCacheUsage":{"TotalCount":4,"Reclaimable":9}}"#;
    let lists = r#"{"LayersSize":1000,"Images":[{"Containers":2,"Size":600,"SharedSize":-1}],
        "Containers":[{"State":"running","SizeRw":7},{"State":"exited","SizeRw":30}],
        "Volumes":[{"UsageData":{"Size":40,"RefCount":1}},{"UsageData":null}],"BuildCache":[{"Size":5,"InUse":true,"Shared":false}]}"#;
    let events = r#"{"Type":"container","Action":"kill","Actor":{"ID":"a","Attributes":{"signal":"15","nexus.stack":"b"}},"time":1,"timeNano":1000000001}
{"Type":"container","Action":"health_status: unhealthy","Actor":{"ID":"a","Attributes":{"image":"c"}},"timeNano":-1}
{"Type":"container","Action":"die","Actor":{"ID":"a"}}
"#;
    // Two streams, each piece with its length; and a container with a terminal, whose log has no pieces.
    let log = b"\x01\0\0\0\0\0\0\x252026-01-02T03:04:05.123456789Z ready\n\x02\0\0\0\0\0\0\x04no\xff\n";
    let others: [(&str, u8, &[u8]); 8] = [
        ("sums", 2, sums.as_bytes()),
        ("lists", 2, lists.as_bytes()),
        ("nothing", 2, b"{}"),
        ("events", 6, events.as_bytes()),
        ("log", 5, log.as_slice()),
        ("terminal", 5, b"2026-01-02T03:04:05.123456789Z ready\r\n"),
        ("refused", 0x20, br#"{"message":"no such thing"}"#),
        ("not-found", 0x12, b"<html>\n<h1>404</h1>\n</html>"),
    ];
    found.extend(others.map(|(name, mode, answer)| (name.to_owned(), mode, answer.to_vec())));
    Ok(found)
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
