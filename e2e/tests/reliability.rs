//! docs/reliability.md has a test for each line, and each exists.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::path::{Path, PathBuf};

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The cells of the rows of all tables, without their heads.
fn rows(text: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    let mut in_table = false;
    for line in text.lines() {
        let Some(line) = line.strip_prefix('|').and_then(|line| line.trim_end().strip_suffix('|')) else {
            in_table = false;
            continue;
        };
        if line.chars().all(|sign| "-|: ".contains(sign)) {
            in_table = true;
        } else if in_table {
            found.push(line.split('|').map(|cell| cell.trim().to_owned()).collect());
        }
    }
    found
}

/// Why a cell of tests is wrong.
fn mistake(cell: &str, read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let tests: Vec<&str> = cell.split('`').skip(1).step_by(2).collect();
    if tests.is_empty() {
        return Some("has no test".to_owned());
    }
    tests.into_iter().find_map(|test| {
        let Some((file, name)) = test.split_once("::") else { return Some(format!("{test} names no test")) };
        let Some(source) = read(file) else { return Some(format!("there is no {file}")) };
        let is_there = source.lines().any(|line| {
            let line = line.trim_start().trim_start_matches("pub ").trim_start_matches("async ");
            line.strip_prefix("fn ").and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
        });
        (!is_there).then(|| format!("{file} has no {name}"))
    })
}

#[test]
fn each_line_has_a_test_and_each_test_exists() {
    let text = std::fs::read_to_string(root().join("docs/reliability.md")).unwrap();
    let read = |file: &str| std::fs::read_to_string(root().join(file)).ok();
    let rows = rows(&text);
    let mut wrong = Vec::new();
    for row in &rows {
        match row.as_slice() {
            [what, _, tests] => wrong.extend(mistake(tests, read).map(|why| format!("{what}: {why}"))),
            _ => wrong.push(format!("not three columns: {row:?}")),
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(rows.len() > 60, "only {} lines", rows.len());
}

#[test]
fn lines_and_mistakes_are_found() {
    let text = "| a | b | c |\n|---|---|---|\n| 1 | 2 | `x.rs::one` |\n\ntext | with | bars |\n";
    assert_eq!(rows(text), [["1", "2", "`x.rs::one`"]]);
    let read =
        |file: &str| (file == "x.rs").then(|| "    pub async fn one(stack: &Stack) {\nfn onerous() {}".to_owned());
    let check = |cell: &str, expected: Option<&str>| assert_eq!(mistake(cell, read).as_deref(), expected, "{cell}");
    check("`x.rs::one`", None);
    check("", Some("has no test"));
    check("`x.rs::one`, `x.rs::two`", Some("x.rs has no two"));
    check("`x.rs::oner`", Some("x.rs has no oner"));
    check("`y.rs::one`", Some("there is no y.rs"));
    check("`one`", Some("one names no test"));
}
