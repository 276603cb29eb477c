//! Rules and dashboards ask for what there is.

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::project::{Project, Service};
use crate::promql::metrics;
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

/// Metrics of the rules that a healthy machine of this kind does not have, and why.
const ABSENT: &[(&str, &str)] = &[
    ("node_thermal_zone_temp", "virtual machines have no thermal zone"),
    ("nexus_healer_gave_up", "only while an incident is given up; the case of the hopeless service asks for it"),
    ("nexus_healer_incident_failed_attempts", "only while an incident is open"),
];

/// Panels that may rightly be empty, by title (and query, where it is one of several), and why.
const EMPTY: &[(&str, &str, &str)] = &[
    ("Alerts", "A", "all is well"),
    ("Temperature", "A", "no sensor"),
    ("Hottest", "A", "no sensor"),
    ("Pressure", "A", "no PSI"),
    ("Pressure", "B", "no PSI"),
    ("Pressure", "C", "no PSI"),
    ("Memory by container", "A", "memory cgroup off"),
    ("Containers", "memory", "memory cgroup off"),
    ("Containers", "limit", "no limits"),
    ("What the healer did", "A", "nothing done yet"),
    ("What the healer did", "B", "nothing done yet"),
    ("Attempts to heal", "A", "nothing happened yet"),
    ("Incidents", "A", "nothing happened yet"),
    ("Incidents", "Incidents", "nothing happened yet"),
];

pub async fn every_metric_of_the_rules_exists(stack: &Stack) -> Result<()> {
    #[derive(Deserialize)]
    struct Groups {
        groups: Vec<Group>,
    }
    #[derive(Deserialize)]
    struct Group {
        rules: Vec<Rule>,
    }
    #[derive(Deserialize)]
    struct Rule {
        name: String,
        query: String,
        health: String,
        #[serde(default, rename = "lastError")]
        last_error: String,
    }
    let groups: Groups = eventually("all rules were evaluated", seconds(60), async || {
        let groups: Groups = stack.prometheus("/api/v1/rules").await?;
        let evaluated = groups.groups.iter().flat_map(|group| &group.rules).all(|rule| rule.health != "unknown");
        Ok(evaluated.then_some(groups))
    })
    .await?;
    let rules: Vec<&Rule> = groups.groups.iter().flat_map(|group| &group.rules).collect();
    ensure!(rules.len() > 20, "only {} rules", rules.len());
    for rule in &rules {
        ensure!(rule.health == "ok", "{} fails: {}", rule.name, rule.last_error);
    }
    // What is ill and stays so: what is healed may be well again before Prometheus has looked once.
    let down =
        Service::new("down").heal("false").field("restart", json!("no")).label(nexus_model::labels::EXPECTED, "true");
    let services = [down.without_health(), Service::new("unhealthy").heal("false").always_ill()];
    let project = Project::up(stack, "left-ill", &services).await?;
    project.exec("down", "echo 3 > /tmp/exit").await?;
    let asked: BTreeSet<String> = rules.iter().flat_map(|rule| metrics(&rule.query)).collect();
    let missing = eventually("the metrics of the rules exist", seconds(60), async || {
        let known: BTreeSet<String> = stack.prometheus("/api/v1/label/__name__/values").await?;
        let missing: Vec<&String> = asked
            .iter()
            .filter(|name| !known.contains(*name) && !ABSENT.iter().any(|(absent, _)| absent == name))
            .collect();
        // An error tells which, should it stay so.
        ensure!(missing.is_empty(), "nobody exports {missing:?}");
        Ok(Some(()))
    });
    missing.await?;
    project.down().await
}

pub async fn every_panel_of_the_dashboards_has_an_answer(stack: &Stack) -> Result<()> {
    let folder = stack.root().join("grafana/dashboards");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?.iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    ensure!(!files.is_empty(), "there is no dashboard in {}", folder.display());
    for file in files {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let queries = queries(&dashboard);
        ensure!(queries.len() > 20, "only {} queries in {}", queries.len(), file.display());
        for query in queries {
            let empty_is_fine =
                EMPTY.iter().any(|(title, id, _)| (*title, *id) == (query.title.as_str(), query.id.as_str()));
            eventually(format!("{} of {:?} has an answer", query.id, query.title), seconds(90), async || {
                Ok((query.rows(stack).await? > 0 || empty_is_fine).then_some(()))
            })
            .await?;
        }
    }
    Ok(())
}

/// One query of a dashboard.
struct Query {
    title: String,
    id: String,
    text: String,
    sql: bool,
}

/// Those of the panels, of the annotations and of the variables.
fn queries(dashboard: &Value) -> Vec<Query> {
    let mut all = Vec::new();
    let mut add = |title: &Value, target: &Value| {
        let text = |name: &str| target[name].as_str().map(str::to_owned);
        let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        if let Some(found) = text("expr").or_else(|| text("rawSql")) {
            all.push(Query {
                title: word(title),
                id: word(&target["refId"]),
                text: found,
                sql: target["expr"].is_null(),
            });
        }
    };
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    for panel in list(&dashboard["panels"]) {
        for panel in list(&panel["panels"]).into_iter().chain([panel]) {
            for target in list(&panel["targets"]) {
                add(&panel["title"], &target);
            }
        }
    }
    for annotation in list(&dashboard["annotations"]["list"]) {
        add(&annotation["name"], &annotation["target"]);
    }
    all
}

impl Query {
    /// Runs it as Grafana would, for the last hour and everything selected.
    async fn rows(&self, stack: &Stack) -> Result<usize> {
        if self.sql {
            return Ok(stack.sql("nexus_grafana", &time_filtered(&self.text)?).await?.len());
        }
        let expression = ["$host", "$project"].iter().fold(self.text.clone(), |text, name| text.replace(name, ".*"));
        let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "1h");
        ensure!(!expression.contains('$'), "a variable that nobody knows: {expression}");
        Ok(stack.query(&expression).await?.len())
    }
}

/// Grafana's macros in SQL.
fn time_filtered(sql: &str) -> Result<String> {
    let mut out = sql.replace("${host:regex}", ".*").replace("${project:regex}", ".*");
    while let Some((before, after)) = out.split_once("$__timeFilter(") {
        let (column, behind) = after.split_once(')').context("$__timeFilter( without its end")?;
        out = format!("{before}{column} BETWEEN now() - interval '1 hour' AND now(){behind}");
    }
    ensure!(!out.contains("$__") && !out.contains("${"), "a macro that nobody knows: {out}");
    Ok(out)
}
