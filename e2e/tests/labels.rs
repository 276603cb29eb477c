//! A label's value that nobody says makes a rule that never fires and a panel that stays empty, and nothing is wrong to see. So each value that
//! rules and dashboards write down occurs in a recorded scrape, or stands here.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files can only fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nexus_e2e::promql::values;
use serde_json::Value;

/// Values that no fixture has, as metric, label and values. `*` stands for any metric.
const OF_OTHERS: &[(&str, &str, &str)] = &[
    ("ALERTS", "alertstate", "firing"),
    ("ALERTS", "job", "nexus"),
    ("ALERTS", "severity", "critical warning info"),
    ("alertmanager_notifications_failed_total", "integration", "telegram webhook"),
    ("alertmanager_notifications_total", "integration", "telegram webhook"),
    ("node_filesystem_avail_bytes", "mountpoint", "/var /var/lib"),
    ("docker_container_state", "service", "docker-proxy exporter healer"),
    ("nexus_healer_alerts", "alertname", "HealerGaveUp HealingFailed"),
    ("nexus_healer_alerts", "severity", "critical warning info"),
    ("nexus_reporter_history_through_timestamp_seconds", "task", "collect"),
    // No fixture is made of these.
    ("*", "fstype", "9p btrfs ceph cifs devtmpfs f2fs iso9660 overlay ramfs smb3 squashfs tmpfs xfs"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Texts of the files of a folder that end so, by name.
fn files(folder: &str, end: &str) -> Vec<(String, String)> {
    let entries = std::fs::read_dir(root().join(folder)).unwrap().map(|entry| entry.unwrap().path());
    let taken = entries.filter(|path| path.to_string_lossy().ends_with(end));
    let mut found: Vec<_> = taken
        .map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), std::fs::read_to_string(path).unwrap()))
        .collect();
    found.sort();
    found
}

/// Each with the file that it stands in.
fn rules() -> Vec<(String, Value)> {
    let mut all = Vec::new();
    for (file, text) in files("prometheus/rules", ".yml") {
        let parsed: Value = serde_saphyr::from_str(&text).unwrap();
        let groups = parsed["groups"].as_array().unwrap().iter();
        all.extend(
            groups.flat_map(|group| group["rules"].as_array().unwrap()).map(|rule| (file.clone(), rule.clone())),
        );
    }
    all
}

/// Expressions with where they stand.
fn expressions() -> Vec<(String, String)> {
    let mut all = Vec::new();
    for (file, rule) in rules() {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        all.push((format!("{file}: {name}"), rule["expr"].as_str().unwrap().to_owned()));
    }
    for (file, text) in files("grafana/dashboards", ".json") {
        collect(&file, &serde_json::from_str(&text).unwrap(), &mut all);
    }
    all
}

/// All that is called `expr`, however deep.
fn collect(place: &str, value: &Value, into: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            if let Some(expression) = fields.get("expr").and_then(Value::as_str) {
                into.push((place.to_owned(), expression.to_owned()));
            }
            let title = fields.get("title").and_then(Value::as_str);
            let place = title.map_or_else(|| place.to_owned(), |title| format!("{place}: {title}"));
            fields.values().for_each(|field| collect(&place, field, into));
        }
        Value::Array(items) => items.iter().for_each(|item| collect(place, item, into)),
        _ => {}
    }
}

/// What the recorded scrapes say, and what Prometheus is told itself, jobs and alerts: of each metric and label the values.
fn said() -> BTreeMap<(String, String), BTreeSet<String>> {
    let mut said: BTreeMap<(String, String), BTreeSet<String>> = BTreeMap::new();
    for (_, text) in files("exporter/fixtures", ".prom") {
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((series, _)) = line.rsplit_once("} ") else { continue };
            for (metric, label, value) in values(&format!("{series}}}")) {
                said.entry((metric, label)).or_default().insert(value);
            }
        }
    }
    let alerts = rules().into_iter().filter_map(|(_, rule)| Some(rule["alert"].as_str()?.to_owned())).collect();
    said.insert(("ALERTS".to_owned(), "alertname".to_owned()), alerts);
    let settings: Value = serde_saphyr::from_str(&files("prometheus", "/prometheus.yml")[0].1).unwrap();
    let jobs = settings["scrape_configs"].as_array().unwrap().iter();
    let jobs = jobs.map(|job| job["job_name"].as_str().unwrap().to_owned()).collect();
    said.insert(("up".to_owned(), "job".to_owned()), jobs);
    said
}

#[test]
fn each_value_of_a_label_is_said_by_somebody() {
    let said = said();
    assert!(said[&("rpi_throttle_active".to_owned(), "reason".to_owned())].contains("under_voltage"));
    let is_listed = |metric: &str, label: &str, value: &str| {
        OF_OTHERS.iter().any(|(listed, of, words)| {
            ["*", metric].contains(listed) && *of == label && words.split(' ').any(|word| word == value)
        })
    };
    let (mut wrong, mut asked) = (BTreeSet::new(), BTreeSet::new());
    for (place, expression) in expressions() {
        for (metric, label, value) in values(&expression) {
            let is_said = said.get(&(metric.clone(), label.clone())).is_some_and(|known| known.contains(&value));
            if !is_said && !is_listed(&metric, &label, &value) {
                wrong.insert(format!("{place}: nobody says {metric}{{{label}=\"{value}\"}}"));
            }
            asked.insert((metric, label, value));
        }
    }
    assert!(asked.len() > 50, "only {} values were found", asked.len());
    assert!(wrong.is_empty(), "{}", wrong.into_iter().collect::<Vec<_>>().join("\n"));
    let unused =
        OF_OTHERS.iter().flat_map(|(metric, label, words)| words.split(' ').map(move |word| (metric, label, word)));
    let is_asked = |(metric, label, word): &(&&str, &&str, &str)| {
        asked.iter().any(|(of, name, value)| (**metric == "*" || of == **metric) && name == **label && value == word)
    };
    let unused: Vec<_> = unused.filter(|listed| !is_asked(listed)).collect();
    assert!(unused.is_empty(), "nobody asks for these any more: {unused:?}");
}
