//! What must hold for every dashboard and needs no Grafana: the numbered rules of grafana/README.md. That the queries have
//! answers is a case of the end-to-end test.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files can only fail")]

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::Value;

/// Families without a project: those of the machine and of Nexus itself.
const OF_THE_HOST: [&str; 5] = ["node_", "host:", "nexus_", "up{", "ALERTS{"];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn dashboards() -> Vec<(String, Value)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../grafana/dashboards");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    json.map(|path| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap())
    })
    .collect()
}

/// Runs `rule` on each dashboard; what it returns is wrong.
fn check(rule: fn(&Value) -> Vec<String>) {
    let all = dashboards();
    assert!(!all.is_empty());
    let wrong: Vec<String> = all
        .iter()
        .flat_map(|(name, dashboard)| rule(dashboard).into_iter().map(move |complaint| format!("{name}: {complaint}")))
        .collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

fn panels(dashboard: &Value) -> Vec<&Value> {
    list(&dashboard["panels"]).iter().flat_map(|panel| std::iter::once(panel).chain(list(&panel["panels"]))).collect()
}

/// Panels that show something, with a name for messages.
fn shown(dashboard: &Value) -> Vec<(String, &Value)> {
    let shown = panels(dashboard).into_iter().filter(|panel| panel["type"] != "row");
    shown.map(|panel| (format!("panel {} {:?}", panel["id"], text(&panel["title"])), panel)).collect()
}

fn twice(values: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen = BTreeSet::new();
    values.filter(|value| !seen.insert(value.clone())).collect()
}

#[test]
fn classic_json_with_a_stable_uid() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        let mut want = |holds: bool, what: &str| {
            if !holds {
                wrong.push(what.to_owned());
            }
        };
        want(dashboard["schemaVersion"].as_u64().is_some_and(|version| (39..=41).contains(&version)), "schemaVersion");
        want(dashboard["id"].is_null(), "id is not null");
        want((1..=40).contains(&text(&dashboard["uid"]).len()), "uid");
        want(dashboard["__inputs"].is_null(), "__inputs resolve only on manual import");
        want(dashboard["editable"] == false, "editable");
        want(list(&dashboard["tags"]).iter().any(|tag| tag == "nexus"), "no tag nexus");
        wrong
    });
    let all = dashboards();
    for field in ["uid", "title"] {
        assert_eq!(
            twice(all.iter().map(|(_, dashboard)| text(&dashboard[field]).to_owned())),
            [""; 0],
            "{field} used twice"
        );
    }
}

#[test]
fn panels_do_not_overlap() {
    check(|dashboard| {
        let mut wrong = twice(panels(dashboard).iter().map(|panel| format!("id {}", panel["id"])));
        wrong.extend(twice(shown(dashboard).iter().map(|(_, panel)| format!("title {}", panel["title"]))));
        let mut cells = BTreeSet::new();
        for panel in list(&dashboard["panels"]) {
            let number = |name: &str| panel["gridPos"][name].as_u64().unwrap_or(u64::MAX / 4);
            let (x, y, width, height) = (number("x"), number("y"), number("w"), number("h"));
            if x + width > 24 {
                wrong.push(format!("panel {} is wider than 24 columns", panel["id"]));
                continue;
            }
            let overlaps =
                (x..x + width).flat_map(|x| (y..y + height).map(move |y| (x, y))).filter(|cell| !cells.insert(*cell));
            if overlaps.count() > 0 {
                wrong.push(format!("panel {} overlaps another", panel["id"]));
            }
        }
        wrong
    });
}

#[test]
fn panels_explain_themselves() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for (name, panel) in shown(dashboard) {
            let defaults = &panel["fieldConfig"]["defaults"];
            let has_unit = panel["type"] == "table" || !text(&defaults["unit"]).is_empty();
            for (holds, what) in [
                (!text(&panel["title"]).is_empty(), "title"),
                (!text(&panel["description"]).is_empty(), "description"),
                (!list(&panel["targets"]).is_empty(), "target"),
                (!text(&defaults["noValue"]).is_empty(), "noValue"),
                (has_unit, "unit"),
            ] {
                if !holds {
                    wrong.push(format!("{name} has no {what}"));
                }
            }
        }
        wrong
    });
}

#[test]
fn data_sources_are_the_provisioned_ones() {
    check(|dashboard| {
        let known = |source: &Value| {
            let pair = (text(&source["type"]), text(&source["uid"]));
            [("prometheus", "prometheus"), ("grafana-postgresql-datasource", "postgres")].contains(&pair)
        };
        let mut wrong = Vec::new();
        for (name, panel) in shown(dashboard) {
            for source in
                std::iter::once(&panel["datasource"]).chain(list(&panel["targets"]).iter().map(|t| &t["datasource"]))
            {
                if !known(source) || source["uid"] != panel["datasource"]["uid"] {
                    wrong.push(format!("{name}: {source}"));
                }
            }
        }
        wrong
    });
}

#[test]
fn every_query_follows_the_variables() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for name in ["host", "project"] {
            let variable = list(&dashboard["templating"]["list"]).iter().find(|variable| variable["name"] == name);
            let good = |v: &Value| v["refresh"] == 2 && v["includeAll"] == true && v["allValue"] == ".*";
            if !variable.is_some_and(good) {
                wrong.push(format!("the variable {name} must refresh on time change and have an All of .*"));
            }
        }
        for (name, panel) in shown(dashboard) {
            for target in list(&panel["targets"]) {
                let (expression, sql) = (text(&target["expr"]), text(&target["rawSql"]));
                if !sql.is_empty() {
                    for variable in ["host", "project"] {
                        if !sql.contains(&format!("{variable} ~ '^(${{{variable}:regex}})$'")) {
                            wrong.push(format!("{name}: the SQL does not follow ${variable}"));
                        }
                    }
                    continue;
                }
                if !expression.contains("host=~\"$host\"") {
                    wrong.push(format!("{name} {}: does not follow $host", target["refId"]));
                }
                let of_the_host = OF_THE_HOST.iter().any(|family| expression.contains(family));
                if !of_the_host && !expression.contains("project=~\"$project\"") {
                    wrong.push(format!("{name} {}: does not follow $project", target["refId"]));
                }
            }
        }
        wrong
    });
}

#[test]
fn counters_are_only_seen_as_rates_over_grafanas_ranges() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for (name, panel) in shown(dashboard) {
            for expression in list(&panel["targets"]).iter().map(|target| text(&target["expr"])) {
                for range in expression.split('[').skip(1) {
                    let range = range.split(']').next().unwrap_or_default();
                    if !["$__rate_interval", "$__range"].contains(&range) {
                        wrong.push(format!("{name}: the range [{range}]"));
                    }
                }
                let counters = expression.matches("_total{").count() + expression.matches("_total:max{").count();
                // `count` counts series, not what they have counted.
                let rates: usize =
                    ["rate(", "increase(", "count by"].iter().map(|it| expression.matches(it).count()).sum();
                if counters > rates {
                    wrong.push(format!("{name}: a counter without rate or increase: {expression}"));
                }
            }
        }
        wrong
    });
}
