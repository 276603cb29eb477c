//! Debian's node_exporter and ours, side by side on this host: the same names, types, labels and values.
//!
//! Ours is asked before and after theirs, so a counter of theirs lies between two of ours, whatever the machine does
//! meanwhile. Where they may differ stands with the reason in `side_by_side.tsv`.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};

use libtest_mimic::{Arguments, Trial};
use regex_lite::Regex;
use support::{SOON, wait_for};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let missing = node_exporter().is_none().then_some("no prometheus-node-exporter on PATH or in NEXUS_NODE_EXPORTER");
    let test = || {
        families_names_labels_and_values_are_node_exporters();
        Ok(())
    };
    let trial = Trial::test("families_names_labels_and_values_are_node_exporters", test)
        .with_kind(missing.unwrap_or_default())
        .with_ignored_flag(missing.is_some());
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

fn node_exporter() -> Option<PathBuf> {
    let named = std::env::var_os("NEXUS_NODE_EXPORTER").map(PathBuf::from);
    let path = std::env::var_os("PATH").unwrap_or_default();
    let found = std::env::split_paths(&path).map(|folder| folder.join("prometheus-node-exporter"));
    named.into_iter().chain(found).find(|path| path.is_file())
}

/// Collectors that are off by default in both, to compare as well.
const ALSO: [&str; 2] = ["processes", "softirqs"];

/// A running exporter, ended when this is dropped.
struct Program {
    child: Child,
    port: u16,
}

impl Program {
    fn start(program: &Path, arguments: &[String]) -> Program {
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let mut command = Command::new(program);
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).args(arguments);
        command.env_remove("NEXUS_STACK").env_remove("NEXUS_LOG");
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let program = Program { child, port };
        wait_for("an answer", || TcpStream::connect(("127.0.0.1", port)).ok());
        program
    }

    fn scrape(&self) -> BTreeMap<String, Family> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: x\r\nAccept: text/plain;version=0.0.4\r\n\r\n").unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(" 200 "), "{head}");
        parse(body)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}

#[derive(Debug, Default)]
struct Family {
    kind: String,
    /// By the labels, sorted.
    samples: BTreeMap<String, f64>,
}

/// Only families about the host, by their names.
fn parse(body: &str) -> BTreeMap<String, Family> {
    let mut families: BTreeMap<String, Family> = BTreeMap::new();
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE node_") {
            let (name, kind) = rest.split_once(' ').unwrap();
            families.entry(format!("node_{name}")).or_default().kind = kind.to_owned();
        } else if line.starts_with("node_") {
            let (series, value) = line.rsplit_once(' ').unwrap();
            let (name, labels) = series.split_once('{').unwrap_or((series, "}"));
            let mut labels = labels_of(labels.strip_suffix('}').unwrap());
            labels.sort();
            let value = value.parse().unwrap();
            families.entry(name.to_owned()).or_default().samples.insert(labels.join(","), value);
        }
    }
    families
}

/// Splits at commas outside of quotes.
fn labels_of(text: &str) -> Vec<String> {
    let (mut all, mut one, mut quoted, mut escaped) = (Vec::new(), String::new(), false, false);
    for c in text.chars() {
        match c {
            ',' if !quoted => all.push(std::mem::take(&mut one)),
            _ => {
                quoted ^= c == '"' && !escaped;
                escaped = c == '\\' && !escaped;
                one.push(c);
            }
        }
    }
    all.extend((!one.is_empty()).then_some(one));
    all
}

/// The lines of `side_by_side.tsv`.
struct Allowed(Vec<(String, Regex)>);

impl Allowed {
    fn read() -> Allowed {
        let lines = include_str!("side_by_side.tsv").lines().filter(|line| !line.starts_with('#'));
        Allowed(
            lines
                .map(|line| {
                    let mut cells = line.split('\t');
                    let (what, pattern) = (cells.next().unwrap(), cells.next().expect(line));
                    assert!(["absent", "more", "series", "loose", "value"].contains(&what), "{line}");
                    assert!(cells.next().is_some_and(|reason| !reason.is_empty()), "no reason: {line}");
                    (what.to_owned(), Regex::new(&format!("^({pattern})$")).unwrap())
                })
                .collect(),
        )
    }

    fn has(&self, what: &str, family: &str) -> bool {
        self.0.iter().any(|(allowed, pattern)| allowed == what && pattern.is_match(family))
    }
}

/// Gauges move between two looks; what moves more is in the list.
const SLACK: fn(f64) -> f64 = |theirs| 0.02 * theirs.abs() + 1e-9;
const LOOSE: fn(f64) -> f64 = |theirs| 0.5 * theirs.abs() + 64.0;

fn is_near(theirs: f64, before: f64, after: f64, slack: fn(f64) -> f64) -> bool {
    let (low, high) = (before.min(after), before.max(after));
    let slack = slack(theirs);
    theirs.is_nan() && before.is_nan() || (low - slack..=high + slack).contains(&theirs)
}

fn families_names_labels_and_values_are_node_exporters() {
    let textfiles = tempfile::tempdir().unwrap();
    std::fs::write(
        textfiles.path().join("backup.prom"),
        "# HELP backup_last_seconds When.\n# TYPE backup_last_seconds gauge\nbackup_last_seconds{job=\"a \\\"b\\\"\"} 1.5e9\n",
    )
    .unwrap();
    let mut common = vec![format!("--collector.textfile.directory={}", textfiles.path().display())];
    common.extend(ALSO.map(|name| format!("--collector.{name}")));
    // Debian has defaults of its own for what to leave out; ours are those of node_exporter itself.
    let mounts = "^/(dev|proc|run/credentials/.+|sys|var/lib/docker/.+|var/lib/containers/storage/.+)($|/)";
    common.push(format!("--collector.filesystem.mount-points-exclude={mounts}"));
    let own = [common.clone(), vec!["--docker.socket=/nonexistent/docker.sock".to_owned()]].concat();
    let theirs = [common, vec!["--web.disable-exporter-metrics".to_owned()]].concat();
    let ours = Program::start(Path::new(env!("CARGO_BIN_EXE_nexus-exporter")), &own);
    let theirs = Program::start(&node_exporter().unwrap(), &theirs);
    // The first scrape of each finds out what later ones know.
    ours.scrape();
    theirs.scrape();
    let (before, theirs, after) = (ours.scrape(), theirs.scrape(), ours.scrape());

    let allowed = Allowed::read();
    let mut complaints = Vec::new();
    let mut complain = |what: &str, family: &str, text: String| {
        if !allowed.has(what, family) {
            complaints.push(format!("{what}\t{family}\t{text}"));
        }
    };
    let (mut families, mut values) = (0, 0);
    for (name, family) in &theirs {
        let Some((before, after)) = before.get(name).zip(after.get(name)) else {
            complain("absent", name, format!("{} samples", family.samples.len()));
            continue;
        };
        families += 1;
        let slack = if allowed.has("loose", name) { LOOSE } else { SLACK };
        if before.kind != family.kind {
            complain("type", name, format!("{} instead of {}", before.kind, family.kind));
        }
        for (labels, value) in &family.samples {
            match before.samples.get(labels).zip(after.samples.get(labels)) {
                None if before.samples.contains_key(labels) || after.samples.contains_key(labels) => (),
                None => complain("series", name, format!("{{{labels}}} is missing")),
                Some((before, after)) if is_near(*value, *before, *after, slack) => values += 1,
                Some((before, after)) => {
                    complain("value", name, format!("{{{labels}}} {value}, ours {before} and {after}"));
                }
            }
        }
        for labels in before.samples.keys().filter(|labels| !family.samples.contains_key(*labels)) {
            complain("series", name, format!("{{{labels}}} is too much"));
        }
    }
    for (name, family) in before.iter().filter(|(name, _)| !theirs.contains_key(*name)) {
        complain("more", name, format!("{} samples", family.samples.len()));
    }
    assert!(complaints.is_empty(), "{} differences:\n{}", complaints.len(), complaints.join("\n"));
    // Nothing to compare would be no agreement.
    assert!(families > 100 && values > 300, "{families} families and {values} values were compared");
}
