//! docs/exporter.md: the flags, generated from the command line's definition, within a text that is written by hand
//! (manual.md.tmpl, beside this file).

use std::fmt::Write as _;

use clap::Arg;

use crate::collect::Collector;
use crate::config::command;

/// The page, as it must be in docs/exporter.md.
pub fn page() -> String {
    let text = include_str!("manual.md.tmpl");
    text.replace("{flags}\n", &flags()).replace("{on}", &collectors(true)).replace("{off}", &collectors(false))
}

fn collectors(on: bool) -> String {
    let names = Collector::ALL.iter().filter(|collector| collector.is_on_by_default() == on);
    let names: Vec<String> = names.map(|collector| format!("`{}`", collector.name())).collect();
    if names.is_empty() { "none".to_owned() } else { names.join(", ") }
}

fn flags() -> String {
    let mut out = String::from("| Flag | Default | Meaning |\n|---|---|---|\n");
    // Those of single collectors are hidden: there is one pair each, told in the text.
    for arg in command().get_arguments().filter(|arg| !arg.is_hide_set()) {
        let Some(name) = arg.get_long() else { continue };
        let value = arg.get_value_names().filter(|_| arg.get_action().takes_values()).and_then(<[_]>::first);
        let value = value.map(|value| format!("={value}")).unwrap_or_default();
        _ = writeln!(out, "| `--{name}{value}` | {} | {} |", default(arg), meaning(arg));
    }
    out
}

fn default(arg: &Arg) -> String {
    let values: Vec<String> = arg
        .get_default_values()
        .iter()
        .filter(|_| arg.get_action().takes_values())
        .map(|value| format!("`{}`", cell(&value.to_string_lossy())))
        .collect();
    values.join(", ")
}

fn meaning(arg: &Arg) -> String {
    let mut meaning = cell(&arg.get_help().map(ToString::to_string).unwrap_or_default());
    let values: Vec<String> = arg.get_possible_values().iter().map(|value| format!("`{}`", value.get_name())).collect();
    if arg.get_action().takes_values() && !values.is_empty() {
        _ = write!(meaning, ": {}", values.join(", "));
    }
    if let Some(variable) = arg.get_env() {
        _ = write!(meaning, "; without the flag the environment variable `{}` counts", variable.to_string_lossy());
    }
    meaning
}

/// In a table a pipe ends the cell, in code as well.
fn cell(text: &str) -> String {
    text.replace('|', "\\|").replace('<', "&lt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_in_docs_is_current() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/exporter.md");
        let found = std::fs::read_to_string(path).unwrap_or_default();
        assert!(found == page(), "docs/exporter.md is stale: cargo run -p nexus-exporter -- manual > docs/exporter.md");
    }

    #[test]
    fn every_flag_is_there_with_its_meaning() {
        let page = page();
        for placeholder in ["{flags}", "{on}", "{off}"] {
            assert!(!page.contains(placeholder), "{placeholder}");
        }
        for arg in command().get_arguments().filter(|arg| !arg.is_hide_set()) {
            let name = arg.get_long().unwrap();
            assert!(page.contains(&format!("| `--{name}")), "{name}");
            assert!(arg.get_help().is_some(), "{name} has no help");
        }
    }
}
