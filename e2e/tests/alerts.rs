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
    ("host.yml", "The machine", "CPU, memory, how full disks are, network, temperature."),
    ("disks.yml", "Disks", "Whether they are there and can be written to."),
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
makes one message. Each alert has a page that says what it means, what Nexus does by itself, what you do, and how to silence it, and a
dashboard that shows what it is about (`dashboard_url`, below Grafana's address).
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

/// Written by hand: why some that others have are not here.
const LEFT_OUT: &str = "\
Alerts that one might look for. A limit that is right for one home and cries in the next makes people stop reading.

| Not there | Why |
|---|---|
| a certificate that expires | Nexus sees services through Docker and asks none of them over TLS; what serves certificates at home renews them itself. A script that knows better sends its word with [`./nexus notify`](cli.md#nexus-notify). |
| a database with few connections left | To ask one takes a password of each, and Nexus has none of your services'. A database that refuses everybody is unhealthy, which is told and healed; Nexus' own tells PostgresDown. |
| a service that somebody stopped or paused and forgot | Docker says that it was asked to, not by whom: a backup script that stopped it and died looks like an owner who stopped it for good, whom a reminder each day would annoy. A script that stops something starts it again in a `trap … EXIT`, and sends its failure with `./nexus notify`; the dashboard Containers lists what is stopped and paused. |
| a share of another machine that is full or away | That machine watches its own disks. A service that can't work without it is unhealthy, which is told. |
| slow writes | A card takes seconds for a write when it tidies up, a full queue does the same to an SSD, and neither hurts by itself. What hurts is told: IoStalled when everybody waits, StorageErrors and StorageWornOut when it ends. |
| many major page faults | Each start of a program makes them, and a machine that reads its files again without waiting is well. What hurts is the waiting: MemoryPressure and SwapNearlyFull. |
";

const OWN: &str = "\
The healer posts these to Alertmanager itself, with what it saw and tried.
";

/// What the addresses of all dashboards begin with, below Grafana's own: uid and address say the same.
const DASHBOARD: &str = "/d/nexus-";

#[test]
fn each_alert_for_people_leads_to_a_dashboard() {
    let there = dashboards();
    assert!(there.contains("/d/nexus-overview"), "{there:?}");
    let mut wrong = Vec::new();
    for (file, ..) in SECTIONS {
        for rule in rules(file) {
            let (name, url) = (rule.alert.unwrap(), rule.annotations.get("dashboard_url"));
            match (rule.labels["severity"].as_str(), url) {
                ("none", None) => {}
                ("none", Some(_)) => wrong.push(format!("{name}: nobody is told of it, so nobody needs a dashboard")),
                (_, None) => wrong.push(format!("{name} has no dashboard_url")),
                (_, Some(url)) if !there.contains(url) => wrong.push(format!("{name}: there is no dashboard {url}")),
                _ => {}
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Where Grafana shows each, below its own address.
fn dashboards() -> BTreeSet<String> {
    let files = std::fs::read_dir(root().join("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
    let uid = |path: PathBuf| -> Option<String> {
        let dashboard: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
        Some(format!("/d/{}", dashboard["uid"].as_str()?))
    };
    files.filter(|path| path.extension().is_some_and(|extension| extension == "json")).filter_map(uid).collect()
}

#[test]
fn the_document_lists_all_alerts() {
    let mut text = HEAD.to_owned();
    let mut named = BTreeSet::new();
    let row = |rule: &Rule| {
        let name = rule.alert.as_deref().unwrap();
        let time = |value: &str| if value.is_empty() { "-".to_owned() } else { value.to_owned() };
        format!(
            "| [{name}](runbooks/{name}.md) | {} | {} | {} | {} | {} |\n",
            rule.labels["severity"],
            time(&rule.r#for),
            time(&rule.keep_firing_for),
            rule.annotations["summary"],
            rule.annotations.get("dashboard_url").map_or("-", |url| url.trim_start_matches(DASHBOARD))
        )
    };
    let table = "\n| Alert | Severity | Waits | Stays | Says | Dashboard |\n|---|---|---|---|---|---|\n";
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
    write!(text, "\n## What has no alert\n\n{LEFT_OUT}").unwrap();
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

/// The age is written down twice, since a rule can't ask the reporter.
#[test]
fn an_old_backup_is_old_for_the_alert_and_for_status() {
    let forecast = std::fs::read_to_string(root().join("reporter/src/report/forecast.rs")).unwrap();
    let hours: u32 =
        between(&forecast, "BACKUP_AGE: SignedDuration = SignedDuration::from_hours(", ")").parse().unwrap();
    let rules = std::fs::read_to_string(root().join("prometheus/rules/host.yml")).unwrap();
    let rule = between(&rules, "- alert: BackupStale", "for:");
    assert!(rule.contains(&format!("> {hours} * 3600")), "{rule}");
    let page = std::fs::read_to_string(root().join("docs/status.md")).unwrap();
    assert!(page.contains(&format!("older than {hours} hours")));
}

fn between<'t>(text: &'t str, before: &str, after: &str) -> &'t str {
    text.split_once(before).unwrap().1.split_once(after).unwrap().0
}

/// In this order, on each page.
const PARTS: [&str; 5] = ["Meaning", "Impact", "What Nexus does by itself", "What you do", "Silence"];
/// Nobody can silence these, or need.
const NOT_SILENCED: [&str; 3] = ["AlertmanagerDown", "MemoryCgroupDisabled", "Watchdog"];

#[test]
fn each_runbook_has_its_parts_and_says_what_a_silence_does() {
    let prompts: BTreeSet<String> = rules("healing.yml").into_iter().filter_map(|rule| rule.alert).collect();
    assert!(prompts.contains("ContainerDown"));
    let mut wrong = Vec::new();
    for name in pages() {
        let page = std::fs::read_to_string(root().join(format!("docs/runbooks/{name}.md"))).unwrap();
        let parts: Vec<(&str, &str)> =
            page.split("\n## ").skip(1).map(|part| part.split_once('\n').unwrap_or((part, ""))).collect();
        let headings: Vec<&str> = parts.iter().map(|(heading, _)| *heading).collect();
        if headings != PARTS {
            wrong.push(format!("{name} has the parts {headings:?}"));
        }
        let empty = parts.iter().filter(|(_, text)| text.trim().is_empty());
        wrong.extend(empty.map(|(heading, _)| format!("{name}: nothing stands under {heading}")));
        if !NOT_SILENCED.contains(&name.as_str()) {
            let silence = parts.last().map(|(_, text)| text.replace('\n', " ")).unwrap_or_default();
            wrong.extend(
                silence_lacks(&name, &silence, prompts.contains(&name)).map(|lacks| format!("{name}: {lacks}")),
            );
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What the last part of a page does not say. A silence by service covers the prompts to the healer as well, and so does one by the name
/// of a prompt.
fn silence_lacks(name: &str, silence: &str, is_prompt: bool) -> Option<&'static str> {
    let names_the_alert = silence.contains(&format!("`alertname={name} "));
    let stops_healing = ["**it stops healing too**", "**the healer ", "**it is not restarted"]
        .iter()
        .any(|words| silence.contains(words));
    if !silence.contains("(README.md#silence)") {
        Some("it does not say how to silence")
    } else if !names_the_alert && !silence.contains("`heal= project=P service=S`") {
        Some("it names neither the alert nor how to mute the messages alone")
    } else if (is_prompt || !names_the_alert) && !stops_healing {
        Some("it does not say that a silence stops healing too")
    } else if names_the_alert && !stops_healing && !silence.contains("mutes") {
        Some("it does not say that only messages are muted")
    } else {
        None
    }
}

/// A silence that names only host and alert mutes every disk, sensor or part of Nexus at once.
#[test]
fn each_silence_names_what_tells_one_alert_from_the_other() {
    let mut wrong = Vec::new();
    for rule in SECTIONS.iter().flat_map(|(file, ..)| rules(file)) {
        let (name, texts) = (rule.alert.unwrap(), rule.annotations.into_values().collect::<String>());
        let mut labels: Vec<&str> =
            texts.split("$labels.").skip(1).map(word).filter(|label| *label != "host").collect();
        // Containers are silenced by the service.
        labels.extend(labels.contains(&"name").then_some("service"));
        let page = std::fs::read_to_string(root().join(format!("docs/runbooks/{name}.md"))).unwrap();
        let silence = page.rsplit("\n## Silence\n").next().unwrap_or_default();
        if !labels.is_empty() && !labels.iter().any(|label| silence.contains(&format!(" {label}="))) {
            wrong.push(format!("{name}: its silence names none of {labels:?}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What is a name at the beginning.
fn word(text: &str) -> &str {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_').next().unwrap_or_default()
}

/// Targets that may outlive what mutes them: of which sources, and why that is no news of something that is over.
const MAY_OUTLIVE: &[(&str, &str, &str)] = &[
    ("HealerGaveUp", "ContainerUnhealthyOften", "the rule itself leaves it out for two hours"),
    ("DockerDown", "Container", "without Docker nothing of containers is seen, so that none begins"),
    ("TargetDown", "ContainerUnhealthyOften", "looks back over two hours: it was so before as well"),
    ("PostgresDown", "ContainerUnhealthyOften", "looks back over two hours: it was so before as well"),
    ("DiskReadonly", "StorageErrors", "that it can be written to again mends nothing"),
];

/// Otherwise, when the cause is over, what it muted would be told, as news. By what the rules say of their staying; how long their
/// expressions look back is played by prometheus/tests/muting.yml.
#[test]
fn what_mutes_stays_as_long_as_what_it_mutes() {
    let template = std::fs::read_to_string(root().join("alertmanager/alertmanager.yml.tmpl")).unwrap();
    let pairs = between(&template, "\ninhibit_rules:\n", "\nreceivers:");
    let all: Vec<Rule> =
        SECTIONS.iter().flat_map(|(file, ..)| rules(file)).filter(|rule| rule.labels["severity"] != "none").collect();
    let (mut wrong, mut checked, mut used) = (Vec::new(), 0, BTreeSet::new());
    for pair in pairs.split("- source_matchers:").skip(1) {
        let (sources, targets) = pair.split_once("target_matchers:").unwrap();
        for source in all.iter().filter(|rule| is_named(sources, rule)) {
            for target in all.iter().filter(|rule| is_named(targets, rule)) {
                let (of, muted) = (source.alert.as_deref().unwrap(), target.alert.as_deref().unwrap());
                checked += 1;
                let exempt = MAY_OUTLIVE.iter().position(|(one, other, _)| *one == of && muted.starts_with(other));
                if seconds(&source.keep_firing_for) >= seconds(&target.keep_firing_for) {
                    continue;
                }
                match exempt {
                    Some(at) => _ = used.insert(at),
                    None => {
                        wrong.push(format!("{of} stays {}, {muted} {}", source.keep_firing_for, target.keep_firing_for))
                    }
                }
            }
        }
    }
    assert!(checked > 20, "only {checked} pairs were found");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    let needless: Vec<_> = (0..MAY_OUTLIVE.len()).filter(|at| !used.contains(at)).map(|at| MAY_OUTLIVE[at]).collect();
    assert!(needless.is_empty(), "these need no leave: {needless:?}");
}

/// Whether matchers of `alertname` mean a rule. The healer's own alerts have none: they end by its word.
fn is_named(matchers: &str, rule: &Rule) -> bool {
    let Some((_, names)) = matchers.split_once("alertname=") else { return false };
    let names = names.trim_start_matches(['~', '"']).split('"').next().unwrap_or_default();
    names.split('|').any(|name| match name.strip_suffix(".+") {
        Some(beginning) => rule.alert.as_deref().is_some_and(|alert| alert.starts_with(beginning)),
        None => rule.alert.as_deref() == Some(name),
    })
}

/// `15m`, `1h`, or nothing.
fn seconds(duration: &str) -> u64 {
    let number = duration.trim_end_matches(char::is_alphabetic);
    let units = [("", 1), ("s", 1), ("m", 60), ("h", 3600)];
    let (_, unit) = units.into_iter().find(|(unit, _)| *unit == &duration[number.len()..]).unwrap();
    if number.is_empty() { 0 } else { number.parse::<u64>().unwrap() * unit }
}

#[test]
fn a_page_that_hides_what_a_silence_does_is_found() {
    let check = |silence: &str, is_prompt: bool, expected: Option<&str>| {
        let found = silence_lacks("A", &format!("{silence} [README](README.md#silence)"), is_prompt);
        assert_eq!(found.is_some(), expected.is_some(), "{silence}: {found:?}");
        assert!(found.is_none_or(|found| found.contains(expected.unwrap_or_default())), "{silence}: {found:?}");
    };
    check("`alertname=A host=H` only mutes messages", false, None);
    check("`alertname=A host=H` only mutes messages", true, Some("stops healing"));
    check("`alertname=A host=H`: **the healer stops nothing**", true, None);
    check("`alertname=A host=H`", false, Some("only messages"));
    check("**it stops healing too**; `heal= project=P service=S`", true, None);
    check("**it stops healing too**", false, Some("messages alone"));
    check("`project=P service=S`, or `heal= project=P service=S`", false, Some("stops healing"));
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
