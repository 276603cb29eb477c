//! `nexus-healer journal` beside a healer that runs: what `./nexus backup` and `./nexus restore` rest on.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use crate::support::{
    engine::{Engine, Fake},
    healer::{Healer, READ_TOKEN},
};

/// The subcommand with the healer's own files.
fn keep(healer: &Healer, listen: &str, arguments: &[&str], stdin: Option<&Path>) -> Output {
    let input = stdin.map_or_else(Stdio::null, |path| std::fs::File::open(path).unwrap().into());
    Command::new(env!("CARGO_BIN_EXE_nexus-healer"))
        .env_clear()
        .arg("journal")
        .args(arguments)
        .arg("--api.token-file")
        .arg(healer.folder.path().join("api"))
        .arg("--journal.path")
        .arg(&healer.journal)
        .args(["--web.listen-address", listen])
        .stdin(input)
        .output()
        .unwrap()
}

fn failed(output: &Output, code: i32, says: &str) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{said}");
    assert!(said.starts_with("nexus-healer: ") && said.contains(says), "{said:?} lacks {says:?}");
}

#[tokio::test]
async fn a_copy_of_a_running_healers_journal_is_what_another_one_starts_from() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill().label("nexus.heal", "shadow"));
    let mut healer = Healer::started(&engine).await;
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let id = healer.incident("web", "the incident", |_| true).await.incident.id;
    let listen = healer.address().to_string();

    let copy = healer.folder.path().join("copy.db");
    let to = copy.to_str().unwrap();
    let output = keep(&healer, &listen, &["copy", to], None);
    assert!(output.status.success() && output.stdout.is_empty(), "{output:?}");
    let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&copy).unwrap());
    assert_eq!(mode & 0o777, 0o600);
    failed(&keep(&healer, &listen, &["copy", to], None), 1, "File exists");
    let output = keep(&healer, &listen, &["copy"], None);
    assert!(output.status.success() && output.stdout.starts_with(b"SQLite format 3"), "{output:?}");
    let output = keep(&healer, &listen, &["check", to], None);
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(said.ends_with("1 incidents, 1 of them open, 0 switches\n"), "{output:?}");

    // It is the owner's, and none is put below a healer that runs.
    assert_eq!(healer.request("POST", "/api/v1/journal/copy", Some(READ_TOKEN), "").await.0, 403);
    assert_eq!(healer.request("POST", "/api/v1/journal/copy", None, "").await.0, 401);
    failed(&keep(&healer, &listen, &["put"], Some(&copy)), 1, "is in use");
    failed(&keep(&healer, &listen, &["check", "/nowhere"], None), 1, "opening the journal /nowhere");

    healer.stop();
    let nobody = healer.folder.path().join("none.db");
    failed(&keep(&healer, &listen, &["copy", nobody.to_str().unwrap()], None), 1, "asking the healer");
    assert!(!nobody.exists());
    failed(&keep(&healer, &listen, &["put"], Some(&healer.folder.path().join("api"))), 1, "no copy of a journal");
    std::fs::remove_file(&healer.journal).unwrap();
    let output = keep(&healer, &listen, &["put"], Some(&copy));
    assert!(output.status.success(), "{output:?}");
    healer.start().await;
    assert_eq!(healer.incident("web", "the incident", |_| true).await.incident.id, id);
}
