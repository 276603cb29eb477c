//! What this client asks of Docker is what the proxy in front of it lets through: `images/haproxy/cases.tsv`, of which the
//! end-to-end test shows that the proxy does as it says.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// What bollard asks for in each of its functions that is called here; nothing where it makes no call.
const CALLS: &[(&str, &[(&str, &str)])] = &[
    ("clone", &[]),
    ("lock", &[]),
    ("insert", &[]),
    ("client_version", &[]),
    ("with_timeout", &[]),
    ("negotiate_version", &[("GET", "/version")]),
    ("version", &[("GET", "/version")]),
    ("info", &[("GET", "/info")]),
    ("list_containers", &[("GET", "/containers/json")]),
    ("inspect_container", &[("GET", "/containers/{id}/json")]),
    ("logs", &[("GET", "/containers/{id}/logs")]),
    ("events", &[("GET", "/events")]),
    ("restart_container", &[("POST", "/containers/{id}/restart")]),
    ("start_container", &[("POST", "/containers/{id}/start")]),
    ("stop_container", &[("POST", "/containers/{id}/stop")]),
    ("prune_images", &[("POST", "/images/prune")]),
    ("prune_build", &[("POST", "/build/prune")]),
];

/// The sources of this crate, without their tests.
fn sources() -> Vec<(String, String)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let text = std::fs::read_to_string(&path).unwrap();
        let text = text.split("#[cfg(test)]\nmod tests").next().unwrap().to_owned();
        // Comments name calls as well.
        let code: Vec<&str> = text.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        found.push((path.file_name().unwrap().to_string_lossy().into_owned(), code.join("\n")));
    }
    found
}

/// Names of functions that are called on a value of this name, over the ends of lines.
fn called_on<'t>(code: &'t str, value: &str) -> Vec<&'t str> {
    let mut found = Vec::new();
    for (at, _) in code.match_indices(value) {
        let begins_a_word = !code[..at].ends_with(|sign: char| sign.is_alphanumeric() || sign == '_');
        let rest = code[at + value.len()..].trim_start();
        if let Some(rest) = rest.strip_prefix('.').filter(|_| begins_a_word) {
            let rest = rest.trim_start();
            let end = rest.find(|sign: char| !(sign.is_alphanumeric() || sign == '_')).unwrap_or(rest.len());
            if rest[end..].starts_with('(') {
                found.push(&rest[..end]);
            }
        }
    }
    found
}

/// Targets that are written out: those that are not asked for by way of bollard.
fn written_out(code: &str) -> Vec<String> {
    let texts = code.split('"').skip(1).step_by(2);
    let targets = texts.filter(|text| text.starts_with('/') && text.len() > 1 && !text.contains([' ', '{']));
    targets.map(|target| target.split('?').next().unwrap_or_default().to_owned()).collect()
}

/// Method and path of what passes on at least one of the two sockets.
fn let_through() -> BTreeSet<(String, String)> {
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../images/haproxy/cases.tsv");
    let table = std::fs::read_to_string(table).unwrap();
    let mut found = BTreeSet::new();
    for row in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [_, method, target, status] = columns[..] else { panic!("{row}") };
        // 403 is the proxy's word, all others are Docker's.
        if status != "403" {
            let path = target.split('?').next().unwrap().replace("/nosuchcontainer/", "/{id}/");
            let path = path.strip_prefix("/v1.").and_then(|rest| Some(&rest[rest.find('/')?..])).unwrap_or(&path);
            found.insert((method.to_owned(), path.to_owned()));
        }
    }
    found
}

#[test]
fn every_call_that_is_made_is_one_that_the_proxy_lets_through() {
    let known: BTreeMap<&str, &[(&str, &str)]> = CALLS.iter().copied().collect();
    let passes = let_through();
    let mut made = BTreeSet::new();
    for (file, code) in sources() {
        for name in called_on(&code, "client") {
            let calls =
                known.get(name).unwrap_or_else(|| panic!("{file} calls {name}: say in CALLS what that asks of Docker"));
            made.extend(calls.iter().map(|(method, path)| ((*method).to_owned(), (*path).to_owned())));
        }
        for path in written_out(&code) {
            // Of what is written out only the two prunes change anything.
            let method = if path.ends_with("/prune") { "POST" } else { "GET" };
            made.insert((method.to_owned(), path));
        }
    }
    let refused: Vec<_> = made.difference(&passes).collect();
    assert!(refused.is_empty(), "the proxy lets these not through, or cases.tsv lacks them: {refused:?}");
    // It has found what it looks for.
    for (method, path) in
        [("GET", "/containers/{id}/logs"), ("POST", "/containers/{id}/restart"), ("GET", "/images/json")]
    {
        assert!(made.contains(&(method.to_owned(), path.to_owned())), "{path}: {made:?}");
    }
}

#[test]
fn calls_are_found_wherever_they_stand() {
    let code = "let client = x;\nlet a = client\n    .stop_container(id);\nself.client.lock();\nclient_of.nothing();\nclient.kill(1)";
    assert_eq!(called_on(code, "client"), ["stop_container", "lock", "kill"]);
    assert_eq!(written_out(r#"get("list", "/images/json?all=1"), "no target", "/""#), ["/images/json"]);
}
