//! `docs/alerts.md` is what the rules say. Made anew with `NEXUS_BLESS=1 cargo test -p nexus-e2e --test alerts`.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use serde::Deserialize;

#[derive(Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

/// A recording rule has no `alert`.
#[derive(Deserialize)]
struct Rule {
    alert: Option<String>,
    #[serde(default)]
    r#for: String,
    #[serde(default)]
    keep_firing_for: String,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn rules(file: &str) -> Vec<Rule> {
    let text = std::fs::read_to_string(root().join("prometheus/rules").join(file)).unwrap();
    let parsed: RuleFile = serde_saphyr::from_str(&text).unwrap();
    parsed.groups.into_iter().flat_map(|group| group.rules).filter(|rule| rule.alert.is_some()).collect()
}

/// Sections of the document: rule file, heading, what stands above its table.
const SECTIONS: &[(&str, &str, &str)] = &[
    (
        "containers.yml",
        "Services",
        "Slower than the prompts to the healer, which mends most of it before anybody is told.",
    ),
    ("host.yml", "The machine", "CPU, memory, disks, network, temperature."),
    (
        "board.yml",
        "The board and its storage",
        "What a Raspberry Pi knows of its power supply, its card and its clock.",
    ),
    ("nexus.yml", "Nexus itself", "Who watches the watchman."),
];

const HEAD: &str = "\
# Alerts

Made from the rules in `prometheus/rules`; a test fails when it is stale.

`critical` and `warning` reach your phone, at night only what is critical where there are [quiet hours](telegram.md); `info` is for the dashboard and the report alone, `none` for programs. *Waits* is how
long it must be true before anybody is told, *stays* how long it is still shown after it was true last, so that what comes and goes
makes one message. Each alert has a page that says what it means, what Nexus does by itself, what you do, and how to silence it.
";

const NOISE: &str = "\
Ten incidents, played to these rules and to Alertmanager's routes and inhibition as they are shipped, in a time that runs faster
(`e2e/src/telling/incidents.rs`, part of `./nexus test e2e`): each message that came, by the line that says it. Three at most, and none
only where nobody need do anything. `NEXUS_BLESS=1` writes the table anew.
";

const PROMPTS: &str = "\
What makes the healer look: severity `none`, at once, to nobody else. An alert here is never a verdict, since the healer asks Docker
again before it acts. A silence that covers one of them also stops healing.
";

const OWN: &str = "\
The healer posts these to Alertmanager itself, with what it saw and tried.
";

#[test]
fn the_document_lists_all_alerts() {
    let mut text = HEAD.to_owned();
    let mut named = BTreeSet::new();
    let row = |rule: &Rule| {
        let name = rule.alert.as_deref().unwrap();
        let time = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
        format!(
            "| [{name}](runbooks/{name}.md) | {} | {} | {} | {} |\n",
            rule.labels["severity"],
            time(&rule.r#for),
            time(&rule.keep_firing_for),
            rule.annotations["summary"]
        )
    };
    let table = "\n| Alert | Severity | Waits | Stays | Says |\n|---|---|---|---|---|\n";
    for (file, heading, above) in SECTIONS {
        write!(text, "\n## {heading}\n\n{above}\n{table}").unwrap();
        for rule in rules(file) {
            named.extend(rule.alert.clone());
            text.push_str(&row(&rule));
        }
    }
    write!(text, "\n## Prompts to the healer\n\n{PROMPTS}\n| Alert | Asks for | Says |\n|---|---|---|\n").unwrap();
    for rule in rules("healing.yml") {
        let name = rule.alert.clone().unwrap();
        let says = &rule.annotations["summary"];
        writeln!(text, "| [{name}](runbooks/{name}.md) | {} | {says} |", rule.labels["heal"]).unwrap();
        named.insert(name);
    }
    write!(text, "\n## The healer's own\n\n{OWN}\n| Alert | When |\n|---|---|\n").unwrap();
    for name in pages().difference(&named) {
        writeln!(text, "| [{name}](runbooks/{name}.md) | {} |", meaning(name)).unwrap();
    }
    let noise = std::fs::read_to_string(root().join("alertmanager/tests/noise.md")).unwrap();
    write!(text, "\n## How many messages an incident makes\n\n{NOISE}\n{noise}").unwrap();
    let path = root().join("docs/alerts.md");
    if std::env::var_os("NEXUS_BLESS").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let stands = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(stands == text, "docs/alerts.md is stale: NEXUS_BLESS=1 cargo test -p nexus-e2e --test alerts");
    let files: BTreeSet<String> = std::fs::read_dir(root().join("prometheus/rules"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    let known = SECTIONS.iter().map(|(file, ..)| *file).chain(["healing.yml"]).map(str::to_owned).collect();
    assert_eq!(files, known, "a rule file is not in docs/alerts.md: add it to SECTIONS");
}

/// Alerts that have a runbook page.
fn pages() -> BTreeSet<String> {
    let folder = std::fs::read_dir(root().join("docs/runbooks")).unwrap();
    let names = folder.map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned());
    names.filter(|name| name != "README").collect()
}

/// First sentence below "## Meaning" of a page.
fn meaning(alert: &str) -> String {
    let page = std::fs::read_to_string(root().join("docs/runbooks").join(format!("{alert}.md"))).unwrap();
    let (_, after) = page.split_once("## Meaning\n").unwrap();
    let paragraph = after.split("\n\n").next().unwrap().replace('\n', " ");
    paragraph.split_inclusive(". ").next().unwrap().trim().to_owned()
}

/// Whoever writes a time to the owner must know the owner's clock.
#[test]
fn those_who_write_times_know_the_owners_zone() {
    #[derive(serde::Deserialize)]
    struct Compose {
        services: BTreeMap<String, Service>,
    }
    #[derive(serde::Deserialize)]
    struct Service {
        #[serde(default)]
        environment: BTreeMap<String, serde_json::Value>,
    }
    let compose = std::fs::read_to_string(root().join("compose.yml")).unwrap();
    let compose: Compose = serde_saphyr::from_str(&compose).unwrap();
    for name in ["alertmanager", "healer", "reporter"] {
        let zone = compose.services[name].environment.get("TZ").and_then(serde_json::Value::as_str);
        assert_eq!(zone, Some("${NEXUS_TIMEZONE:-UTC}"), "{name}");
    }
}
