//! What a query asks for is a metric that docs/metrics.md knows, or a recording rule, with labels that it has.

use std::collections::{BTreeMap, BTreeSet};

use nexus_e2e::promql::{grouping, metrics, selectors};

use crate::{dashboards, read, rules, targets, text};

/// Labels that targets bring, and those of alerts.
const OF_EVERY_SERIES: [&str; 3] = ["host", "job", "instance"];
/// Families that are not the exporter's, with their labels. That they exist is a case of the end-to-end test.
const OF_OTHERS: &[(&str, &str)] = &[
    ("up", ""),
    ("scrape_duration_seconds", ""),
    ("scrape_samples_scraped", ""),
    ("ALERTS", "alertname alertstate severity project service name"),
    ("alertmanager_notifications_total", "integration"),
    ("alertmanager_notifications_failed_total", "integration reason"),
    ("prometheus_rule_evaluation_failures_total", "rule_group"),
    ("prometheus_rule_group_last_duration_seconds", "rule_group"),
    ("prometheus_tsdb_head_chunks_storage_size_bytes", ""),
    ("prometheus_tsdb_head_series", ""),
    ("prometheus_tsdb_storage_blocks_bytes", ""),
    ("prometheus_tsdb_wal_corruptions_total", ""),
    ("prometheus_tsdb_wal_storage_size_bytes", ""),
    ("nexus_healer_alertmanager_up", ""),
    ("nexus_healer_alerts", "alertname severity project service name resource"),
    ("nexus_healer_docker_up", ""),
    ("nexus_healer_gave_up", "project service"),
    ("nexus_healer_incident_failed_attempts", "project service"),
    ("nexus_healer_journal_pending_rows", ""),
    ("nexus_healer_journal_writable", ""),
    ("nexus_healer_notify_failures_total", ""),
    ("nexus_healer_on_hold", ""),
    ("nexus_healer_own_prompts_total", "cause"),
    ("nexus_healer_policy_last_reload_successful", ""),
    ("nexus_healer_postgres_refused_rows_total", ""),
    ("nexus_healer_postgres_up", ""),
    ("nexus_healer_refusals_total", "reason"),
    ("nexus_healer_relief_acts_total", "action outcome"),
    ("nexus_healer_relief_open", "resource"),
    ("nexus_healer_relief_stopped_containers", ""),
    ("nexus_healer_restarts_total", "outcome"),
    ("nexus_healer_seen_ill", ""),
    ("nexus_healer_webhook_requests_total", "code"),
];

/// Families with the labels that they can have.
fn families() -> BTreeMap<String, BTreeSet<String>> {
    let words = |text: &str| text.split([',', ' ']).filter(|word| !word.is_empty()).map(str::to_owned).collect();
    let mut known: BTreeMap<String, BTreeSet<String>> =
        OF_OTHERS.iter().map(|(name, labels)| ((*name).to_owned(), words(labels))).collect();
    for line in read("docs/metrics.md").lines() {
        let cells: Vec<&str> = line.split(" | ").collect();
        let (Some(name), Some(labels)) =
            (line.strip_prefix("| `").and_then(|rest| rest.split('`').next()), cells.get(2))
        else {
            continue;
        };
        known.insert(name.to_owned(), words(labels.trim()));
    }
    for rule in rules() {
        if let Some(record) = rule.record {
            known.insert(record, grouping(&rule.expr));
        }
    }
    for labels in known.values_mut() {
        labels.extend(OF_EVERY_SERIES.map(str::to_owned));
    }
    known
}

/// Of a family, by its name or by the pattern it is documented with: `node_memory_<field>_bytes`.
fn labels_of<'k>(known: &'k BTreeMap<String, BTreeSet<String>>, family: &str) -> Option<&'k BTreeSet<String>> {
    let fits = |pattern: &str| {
        let (before, after) = (pattern.split_once('<')?.0, pattern.split_once('>')?.1);
        Some(family.starts_with(before) && family.ends_with(after))
    };
    known.get(family).or_else(|| known.iter().find(|(name, _)| fits(name) == Some(true)).map(|(_, labels)| labels))
}

#[test]
fn every_metric_and_label_is_documented() {
    let known = families();
    assert!(known.len() > 300, "only {} families are known", known.len());
    for (name, dashboard) in dashboards() {
        let mut wrong = Vec::new();
        for (title, target) in targets(&dashboard) {
            let expression = text(&target["expr"]);
            let asked = metrics(expression);
            for family in asked.iter().filter(|family| labels_of(&known, family).is_none()) {
                wrong.push(format!("{title}: nobody documents {family}"));
            }
            for (family, labels) in selectors(expression) {
                for label in
                    labels.iter().filter(|label| !labels_of(&known, &family).is_some_and(|has| has.contains(*label)))
                {
                    wrong.push(format!("{title}: {family} has no label {label}"));
                }
            }
            let of_any: BTreeSet<&String> =
                asked.iter().filter_map(|family| labels_of(&known, family)).flatten().collect();
            for label in grouping(expression).iter().filter(|label| !of_any.contains(label)) {
                wrong.push(format!("{title}: nothing has the label {label}"));
            }
            // What an aggregation drops can't stand in the legend.
            let kept = grouping(expression);
            for label in text(&target["legendFormat"]).split("{{").skip(1).filter_map(|rest| rest.split("}}").next()) {
                if !kept.contains(label.trim()) && !kept.is_empty() {
                    wrong.push(format!("{title}: the legend has {label}, the series don't"));
                }
            }
        }
        assert!(wrong.is_empty(), "{name}:\n{}", wrong.join("\n"));
    }
}
