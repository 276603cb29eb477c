//! Rules and dashboards ask for what there is.

use std::collections::BTreeSet;

use anyhow::{Result, ensure};
use serde::Deserialize;
use serde_json::Value;

use crate::promql::metrics;
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

/// Metrics of the rules that a healthy machine of this kind does not have, and why.
const ABSENT: &[(&str, &str)] = &[];

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
    missing.await
}

pub async fn every_panel_of_the_dashboards_has_an_answer(stack: &Stack) -> Result<()> {
    let folder = stack.root().join("grafana/dashboards");
    let mut files: Vec<_> =
        std::fs::read_dir(&folder)?.collect::<Result<Vec<_>, _>>()?.iter().map(|entry| entry.path()).collect();
    files.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    ensure!(!files.is_empty(), "there is no dashboard in {}", folder.display());
    for file in files {
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let _ = dashboard;
    }
    Ok(())
}
