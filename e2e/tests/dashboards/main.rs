//! What must hold for every dashboard and needs no Grafana: the numbered rules of grafana/README.md. That the queries have
//! answers is a case of the end-to-end test.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files can only fail")]

mod documented;
mod links;
mod preview;
mod thresholds;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nexus_e2e::dashboard;
use nexus_e2e::promql::selectors;
use serde_json::Value;

/// Families without a project: those of the machine and of Nexus itself.
const OF_THE_HOST: [&str; 14] = [
    "node_",
    "host:",
    "nexus_",
    "up{",
    "ALERTS{",
    "rpi_",
    "prometheus_",
    "alertmanager_",
    "scrape_",
    "docker_up{",
    "docker_list_",
    "docker_disk_",
    "process_",
    "project:nexus_own:bool",
];
/// Views of the history that know no project.
const SQL_OF_THE_HOST: [&str; 2] = ["history.host_usage", "history.mount_usage"];

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn read(file: &str) -> String {
    std::fs::read_to_string(root().join(file)).unwrap()
}

/// Every source with its name, without `.yml`.
fn sources() -> Vec<(String, dashboard::Source)> {
    let files = std::fs::read_dir(root().join("grafana/source")).unwrap().map(|entry| entry.unwrap().path());
    let names =
        files.map(|path| path.file_stem().unwrap().to_string_lossy().into_owned()).filter(|name| name != "words");
    let parsed = names.map(|name| {
        let source = dashboard::source(&read(&format!("grafana/source/{name}.yml")));
        (name.clone(), source.map_err(|error| format!("{name}.yml: {error}")).unwrap())
    });
    parsed.collect()
}

fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(root().join("grafana/dashboards")).unwrap().map(|entry| entry.unwrap().path());
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
            let one = name == "project" && dashboard["uid"] == "nexus-project";
            let good = |v: &Value| {
                let all = v["includeAll"] == true && v["allValue"] == ".*";
                v["refresh"] == 2 && if one { v["includeAll"] == false && v["multi"] == false } else { all }
            };
            if !variable.is_some_and(good) {
                wrong.push(format!("the variable {name} must refresh on time change and have an All of .*"));
            }
        }
        let annotations =
            list(&dashboard["annotations"]["list"]).iter().filter(|annotation| annotation["builtIn"] != 1);
        let annotations =
            annotations.map(|annotation| (format!("annotation {}", annotation["name"]), vec![&annotation["target"]]));
        let panels = shown(dashboard).into_iter().map(|(name, panel)| (name, list(&panel["targets"]).iter().collect()));
        for (name, targets) in panels.chain(annotations) {
            for target in targets {
                let (expression, sql) = (text(&target["expr"]), text(&target["rawSql"]));
                if !sql.is_empty() {
                    let of_the_host = SQL_OF_THE_HOST.iter().any(|view| sql.contains(view));
                    for variable in if of_the_host { &["host"][..] } else { &["host", "project"] } {
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
                let counters = counters + expression.matches("node_vmstat_").count();
                // `count` counts series, not what they have counted.
                let rates: usize = ["rate(", "increase(", "max_over_time(", "count by"]
                    .iter()
                    .map(|it| expression.matches(it).count())
                    .sum();
                if counters > rates {
                    wrong.push(format!("{name}: a counter without rate or increase: {expression}"));
                }
            }
        }
        wrong
    });
}

/// `NEXUS_BLESS=1 cargo test -p nexus-e2e --test dashboards` makes the dashboards anew.
#[test]
fn dashboards_are_what_their_sources_say() {
    let words = dashboard::words(&read("grafana/source/words.yml")).unwrap();
    let mut made = BTreeSet::new();
    for (name, source) in sources() {
        let built = dashboard::dashboard(&source, &words).unwrap_or_else(|error| panic!("{name}.yml: {error:#}"));
        let text = format!("{}\n", serde_json::to_string_pretty(&built).unwrap());
        let file = format!("grafana/dashboards/{name}.json");
        if std::env::var_os("NEXUS_BLESS").is_some() {
            // Whole or not at all: the other tests read it meanwhile.
            let fresh = root().join(format!("{file}.new"));
            std::fs::write(&fresh, &text).unwrap();
            std::fs::rename(fresh, root().join(&file)).unwrap();
        }
        let stands = std::fs::read_to_string(root().join(&file)).unwrap_or_default();
        assert!(stands == text, "{file} is stale: NEXUS_BLESS=1 cargo test -p nexus-e2e --test dashboards");
        made.insert(format!("{name}.json"));
    }
    let there: BTreeSet<String> = dashboards().into_iter().map(|(name, _)| name).collect();
    assert_eq!(there, made, "each dashboard has a source, and each source a dashboard");
}

#[derive(serde::Deserialize)]
struct RuleFile {
    groups: Vec<Group>,
}

#[derive(serde::Deserialize)]
struct Group {
    rules: Vec<Rule>,
}

#[derive(serde::Deserialize)]
struct Rule {
    alert: Option<String>,
    record: Option<String>,
    expr: String,
}

fn rules() -> Vec<Rule> {
    let files = std::fs::read_dir(root().join("prometheus/rules")).unwrap().map(|entry| entry.unwrap().path());
    let parsed =
        files.map(|path| -> RuleFile { serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap() });
    parsed.flat_map(|file| file.groups).flat_map(|group| group.rules).collect()
}

/// Every query of panels and annotations.
fn targets(dashboard: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (name, panel) in shown(dashboard) {
        all.extend(list(&panel["targets"]).iter().map(|target| (name.clone(), target)));
    }
    for annotation in list(&dashboard["annotations"]["list"]).iter().filter(|annotation| annotation["builtIn"] != 1) {
        all.push((format!("annotation {}", annotation["name"]), &annotation["target"]));
    }
    all
}

#[test]
fn no_job_and_no_instance_is_written_down() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for (name, target) in targets(dashboard) {
            for (family, labels) in selectors(text(&target["expr"])) {
                if ["job", "instance"].iter().any(|label| labels.contains(*label)) {
                    wrong.push(format!("{name}: {family} is asked for by job or instance"));
                }
            }
        }
        wrong
    });
}

#[test]
fn variables_are_known_and_used() {
    /// Those of Grafana itself.
    const BUILT_IN: [&str; 10] = [
        "__rate_interval",
        "__range",
        "__timeFilter",
        "__timeFrom",
        "__timeTo",
        "__value",
        "__field",
        "__data",
        "__url_time_range",
        "__all",
    ];
    check(|dashboard| {
        let defined: BTreeSet<&str> =
            list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"])).collect();
        let (whole, mut used) = (dashboard.to_string(), BTreeSet::new());
        let mut wrong = Vec::new();
        for after in whole.split('$').skip(1) {
            let name: String = after
                .trim_start_matches('{')
                .chars()
                .take_while(|letter| letter.is_ascii_alphanumeric() || *letter == '_')
                .collect();
            // The end of a regular expression.
            if name.is_empty() {
                continue;
            }
            if !defined.contains(name.as_str()) && !BUILT_IN.contains(&name.as_str()) {
                wrong.push(format!("nobody defines ${name}"));
            }
            used.insert(name);
        }
        wrong.extend(defined.iter().filter(|name| !used.contains(**name)).map(|name| format!("${name} is not used")));
        wrong
    });
}

/// Two machines may have a container of the same name.
#[test]
fn legends_tell_machines_apart() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for (name, panel) in shown(dashboard).into_iter().filter(|(_, panel)| panel["type"] != "table") {
            for target in list(&panel["targets"]) {
                let (expression, legend) = (text(&target["expr"]), text(&target["legendFormat"]));
                if expression.contains("by (host") && legend != "__auto" && !legend.contains("{{host}}") {
                    wrong.push(format!("{name}: the legend {legend} does not say of which machine"));
                }
            }
        }
        wrong
    });
}

/// What is cut off is the oldest, or the least.
#[test]
fn limits_keep_the_newest() {
    let mut found = 0;
    for (file, dashboard) in dashboards() {
        for (name, target) in targets(&dashboard) {
            for (before, _) in
                text(&target["rawSql"]).match_indices("LIMIT ").map(|(at, _)| text(&target["rawSql"]).split_at(at))
            {
                found += 1;
                let order = before.rsplit_once("ORDER BY ").map_or("nothing", |(_, order)| order);
                let first = order.split(',').next().unwrap();
                assert!(first.contains(" DESC"), "{file}: {name} keeps the first by {order}");
            }
        }
    }
    assert!(found > 10, "only {found} limits were found");
}

/// Bands of incidents that last, or of many, hide the chart. What began before the time shown is marked as well.
#[test]
fn incidents_are_marks_and_not_bands() {
    check(|dashboard| {
        let annotations = list(&dashboard["annotations"]["list"]);
        let incidents = annotations.iter().find(|annotation| annotation["name"] == "Incidents").unwrap();
        let sql = text(&incidents["target"]["rawSql"]);
        let still_open = "opened_at <= $__timeTo() AND coalesce(closed_at, now()) >= $__timeFrom()";
        if sql.contains("timeend") || !sql.contains(still_open) { vec![sql.to_owned()] } else { Vec::new() }
    });
}

/// What the phone shows, the first panel counts: the rules' alerts and the healer's own, a service that both tell of once.
#[test]
fn the_verdict_counts_what_the_healer_tells() {
    let all = dashboards();
    let (_, overview) = all.iter().find(|(name, _)| name == "overview.json").unwrap();
    for (title, severity) in [("Needs you", "critical"), ("Worth a look", "warning")] {
        let panels = shown(overview);
        let (_, panel) = panels.iter().find(|(_, panel)| text(&panel["title"]) == title).unwrap();
        let expression = text(&panel["targets"][0]["expr"]);
        for family in ["ALERTS{alertstate=\"firing\", ", "nexus_healer_alerts{"] {
            let asked = format!("{family}severity=\"{severity}\"");
            assert!(expression.contains(&asked), "{title} does not count {asked}");
        }
    }
}

#[test]
fn numbers_in_tables_have_a_unit() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for (name, panel) in shown(dashboard).into_iter().filter(|(_, panel)| panel["type"] == "table") {
            let overrides = list(&panel["fieldConfig"]["overrides"]);
            // The values of queries are numbers, whatever they are renamed to.
            let renamed = list(&panel["transformations"]).iter().find(|it| it["id"] == "organize");
            let values = renamed.and_then(|it| it["options"]["renameByName"].as_object()).into_iter().flatten();
            for (_, shown_as) in values.filter(|(field, _)| field.starts_with("Value")) {
                let properties = overrides
                    .iter()
                    .find(|it| it["matcher"]["options"] == *shown_as)
                    .map_or(&[][..], |it| list(&it["properties"]));
                if !properties.iter().any(|it| ["unit", "mappings"].contains(&text(&it["id"]))) {
                    wrong.push(format!("{name}: {shown_as} has no unit"));
                }
            }
        }
        wrong
    });
}

/// What is down is worked out once, by the recording rule that the alert stands on.
#[test]
fn down_means_the_same_everywhere() {
    let mut found = 0;
    for (file, dashboard) in dashboards() {
        for (name, panel) in shown(&dashboard) {
            let expressions: Vec<&str> = list(&panel["targets"]).iter().map(|target| text(&target["expr"])).collect();
            assert!(
                !expressions.iter().any(|it| it.contains("docker_container_stopped_on_purpose")),
                "{file}: {name} works out by itself what is down"
            );
            if text(&panel["title"]) == "Down" {
                found += 1;
                assert!(expressions.iter().all(|it| it.contains("container:docker_down:max")), "{file}: {name}");
            }
        }
    }
    assert_eq!(found, 2, "panels called Down");
}

#[test]
fn a_full_disk_is_full_and_not_in_no_time() {
    let all = dashboards();
    let (_, capacity) = all.iter().find(|(name, _)| name == "capacity.json").unwrap();
    let panels = shown(capacity);
    let (_, disks) = panels.iter().find(|(_, panel)| text(&panel["title"]) == "Disks").unwrap();
    let overrides = list(&disks["fieldConfig"]["overrides"]);
    let full_in = overrides.iter().find(|it| it["matcher"]["options"] == "Full in").unwrap();
    let mappings = list(&full_in["properties"]).iter().find(|it| it["id"] == "mappings").unwrap();
    assert_eq!(mappings["value"][0]["options"]["0"]["text"], "full");
    // The query gives that 0 for a disk that is full, however it has grown.
    assert!(text(&disks["targets"][0]["rawSql"]).contains("THEN 0\n"), "{}", disks["targets"][0]);
}

/// Grafana joins the answers of a table's queries by all labels they share, the metric's own name among them: with it, each query
/// would have lines of its own.
#[test]
fn tables_of_several_queries_join_without_the_metrics_name() {
    check(|dashboard| {
        let mut wrong = Vec::new();
        for (name, panel) in shown(dashboard) {
            let several = list(&panel["targets"]).len() > 1;
            for expression in list(&panel["targets"]).iter().map(|target| text(&target["expr"])) {
                let nameless =
                    ["max by (", "sum by (", "count by (", "round("].iter().any(|it| expression.starts_with(it));
                if text(&panel["type"]) == "table" && several && !nameless {
                    wrong.push(format!("{name}: {expression}"));
                }
            }
        }
        wrong
    });
}
