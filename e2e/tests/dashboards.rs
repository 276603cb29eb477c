//! What must hold for every dashboard and needs no Grafana: the numbered rules of grafana/README.md. That the queries have
//! answers is a case of the end-to-end test.

#![expect(clippy::unwrap_used, reason = "a test that cannot read its files can only fail")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use nexus_e2e::dashboard;
use nexus_e2e::promql::{grouping, metrics, selectors};
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

#[test]
fn thresholds_are_those_of_the_alerts() {
    let alerts = alert_expressions();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (name, source) in sources() {
        for panel in source.rows.iter().flat_map(|row| &row.panels) {
            let columns =
                panel.columns.iter().map(|column| (column.unit.as_deref(), column.base.as_deref(), &column.steps));
            for (unit, base, steps) in columns.chain([(panel.unit.as_deref(), panel.base.as_deref(), &panel.steps)]) {
                let mut below = base.unwrap_or("green");
                for dashboard::Step(color, at, why) in steps {
                    let grows_worse = badness(color) > badness(below);
                    below = color;
                    // Prose says why it begins there; a single word is an alert. One that prose names is one too.
                    if why.contains(' ') {
                        let named = why.split(|letter: char| !letter.is_ascii_alphanumeric());
                        for word in named.filter(|word| looks_like_an_alert(word) && !alerts.contains_key(*word)) {
                            wrong.push(format!("{name} {:?}: there is no alert {word}", panel.title));
                        }
                        continue;
                    }
                    let number = if unit == Some("percent") { at / 100.0 } else { *at };
                    let Some(expressions) = alerts.get(why) else {
                        wrong.push(format!("{name} {:?}: there is no alert {why}", panel.title));
                        continue;
                    };
                    checked += 1;
                    let side = if grows_worse { '>' } else { '<' };
                    // What is asked for by `== 1` is a flag, and a flag has one threshold.
                    let is_flag = |way: char| way == '=' && steps.len() == 1 && number == 1.0;
                    let is_it = |(way, it): (char, f64)| (way == side || is_flag(way)) && (it - number).abs() < 1e-9;
                    if !expressions.iter().flat_map(|it| compared_with(it)).any(is_it) {
                        wrong
                            .push(format!("{name} {:?}: {color} from {at}, but {why} is {expressions:?}", panel.title));
                    }
                }
                // Grafana wants them in order.
                if !steps.is_sorted_by(|one, next| one.1 < next.1) {
                    wrong.push(format!("{name} {:?}: steps are not in order", panel.title));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 20, "only {checked} thresholds were compared with alerts");
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

/// An alert of the same name may stand in two files: for the healer and for people.
fn alert_expressions() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules() {
        if let Some(alert) = rule.alert {
            found.entry(alert).or_default().push(rule.expr);
        }
    }
    found
}

/// How bad a colour is: a threshold that leads to a worse one is an alert's that fires above it, else one that fires below.
fn badness(color: &str) -> u8 {
    match color {
        "red" => 2,
        "orange" => 1,
        _ => 0,
    }
}

/// At least two words in one, like `DiskLow`.
fn looks_like_an_alert(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    capitals >= 2
        && word.starts_with(|letter: char| letter.is_ascii_uppercase())
        && word.chars().any(|letter| letter.is_ascii_lowercase())
}

/// Numbers that an expression wants something to be above, below or equal to, with which of the three.
fn compared_with(expression: &str) -> Vec<(char, f64)> {
    let number =
        |text: &str| text.trim_start_matches('=').split_whitespace().next()?.trim_end_matches(')').parse().ok();
    let sides = expression.match_indices(['<', '>']).map(|(at, side)| (at + 1, side));
    let sides = sides.chain(expression.match_indices("==").map(|(at, side)| (at + 2, side)));
    sides.filter_map(|(after, side)| Some((side.chars().next()?, number(&expression[after..])?))).collect()
}

#[test]
fn numbers_of_rules_are_found() {
    let found = compared_with("a > 0.90 and b{c=\"1\"} <= 50e9 or (d < bool 2) == 1 and e >= 3 != 4");
    assert_eq!(found, [('>', 0.9), ('<', 50e9), ('>', 3.0), ('=', 1.0)]);
}

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

#[test]
fn links_lead_somewhere() {
    let all = dashboards();
    let variables: BTreeMap<&str, BTreeSet<&str>> = all
        .iter()
        .map(|(_, dashboard)| {
            let names = list(&dashboard["templating"]["list"]).iter().map(|variable| text(&variable["name"]));
            (text(&dashboard["uid"]), names.collect())
        })
        .collect();
    let mut linked = BTreeMap::new();
    for (name, dashboard) in &all {
        let there = linked.entry(text(&dashboard["uid"])).or_insert_with(BTreeSet::new);
        let whole = dashboard.to_string();
        for after in whole.split("/d/").skip(1) {
            let address = after.split('"').next().unwrap();
            let (uid, query) = address.split_once('?').unwrap_or((address, ""));
            let known = variables.get(uid).unwrap_or_else(|| panic!("{name} leads to {uid}, which there is not"));
            there.insert(uid.to_owned());
            for set in query.split('&').filter_map(|part| part.strip_prefix("var-")) {
                let variable = set.split('=').next().unwrap();
                assert!(known.contains(variable), "{name} sets {variable} of {uid}, which has none");
            }
        }
    }
    // From each of these a click leads on: from a project to its containers to an incident.
    for (from, wanted) in [
        ("nexus-overview", &["nexus-project", "nexus-containers", "nexus-healing"][..]),
        ("nexus-project", &["nexus-containers", "nexus-healing"]),
        ("nexus-containers", &["nexus-project", "nexus-healing"]),
        ("nexus-healing", &["nexus-project", "nexus-healing"]),
    ] {
        for to in wanted {
            assert!(linked[from].contains(*to), "nothing leads from {from} to {to}: {:?}", linked[from]);
        }
    }
}

/// One who clicks on what is of one machine wants to see that one, and not all that have something of the same name.
#[test]
fn links_keep_the_machine_of_the_row_or_the_series() {
    let mut checked = 0;
    for (file, dashboard) in dashboards() {
        for (name, panel) in shown(&dashboard) {
            let queries: Vec<String> = list(&panel["targets"])
                .iter()
                .map(|target| format!("{}{}", text(&target["expr"]), text(&target["rawSql"])))
                .collect();
            let names = |what: &str| queries.iter().all(|query| query.contains(what));
            let of_one = if panel["type"] == "table" {
                let has_column = list(&panel["transformations"])
                    .iter()
                    .any(|it| list(&it["options"]["include"]["names"]).iter().any(|column| column == "Host"));
                (has_column || names("AS \"Host\"")).then_some("&var-host=${__data.fields.Host:percentencode}&")
            } else {
                names("by (host").then_some("&var-host=${__field.labels.host:percentencode}&")
            };
            let wanted = of_one.unwrap_or("&${host:queryparam}&");
            for after in panel.to_string().split("/d/").skip(1) {
                let address = after.split('"').next().unwrap();
                assert!(address.contains(wanted), "{file}: {name} leads to {address}, without {wanted}");
                checked += 1;
            }
        }
    }
    assert!(checked > 20, "only {checked} links were looked at");
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

/// What `./nexus dashboards preview` draws with, looked at without a browser.
fn preview(file: &str) -> String {
    read(&format!("grafana/preview/{file}"))
}

/// The texts in quotes of the first list or block that begins behind `start`.
fn quoted_behind(text: &str, start: &str, end: &str) -> BTreeSet<String> {
    let block = text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).map(|(block, _)| block).unwrap();
    block.split('\'').skip(1).step_by(2).map(str::to_owned).collect()
}

#[test]
fn the_preview_can_draw_what_there_is() {
    let panels_file = preview("panels.jsx");
    let adapters = panels_file.split_once("export const adapters = {").unwrap().1;
    let adapters: BTreeSet<&str> = adapters
        .lines()
        .filter_map(|line| line.trim().split_once(": {").map(|(kind, _)| kind.trim_matches('\'')))
        .collect();
    let transformations: BTreeSet<&str> = panels_file
        .split_once("const TRANSFORMATIONS = [")
        .and_then(|(_, rest)| rest.split_once(']'))
        .map(|(block, _)| block)
        .unwrap()
        .split("standardTransformers.")
        .filter_map(|word| word.split_once("Transformer").map(|(name, _)| name))
        .collect();
    let properties = quoted_behind(&panels_file, "const PROPERTIES = [", "];");
    let mut wrong = Vec::new();
    for (name, dashboard) in dashboards() {
        for (title, panel) in shown(&dashboard) {
            let mut miss =
                |what: &str, which: &str| wrong.push(format!("{name}: {title}: no {what} is called {which}"));
            if !adapters.contains(text(&panel["type"])) {
                miss("adapter", text(&panel["type"]));
            }
            for transformation in list(&panel["transformations"]) {
                // Grafana calls this one shorter in the JSON than in its code.
                let id = match text(&transformation["id"]) {
                    "organize" => "organizeFields",
                    id => id,
                };
                if !transformations.contains(id) {
                    miss("transformation", id);
                }
            }
            let defaults = panel["fieldConfig"]["defaults"].as_object().unwrap();
            let custom = defaults.get("custom").and_then(Value::as_object);
            let set = defaults.keys().filter(|key| *key != "custom").cloned();
            let set = set.chain(custom.into_iter().flat_map(|custom| custom.keys().map(|key| format!("custom.{key}"))));
            let overridden = list(&panel["fieldConfig"]["overrides"])
                .iter()
                .flat_map(|rule| list(&rule["properties"]))
                .map(|property| text(&property["id"]).to_owned());
            for property in set.chain(overridden) {
                if !properties.contains(&property) {
                    miss("property", &property);
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn the_previews_packages_are_pinned() {
    let package: Value = serde_json::from_str(&preview("package.json")).unwrap();
    let lock: Value = serde_json::from_str(&preview("package-lock.json")).unwrap();
    let wanted = package["dependencies"].as_object().unwrap();
    assert!(!wanted.is_empty());
    for (name, version) in wanted {
        let exact =
            text(version).split('.').all(|part| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit()));
        assert!(exact, "{name} is not pinned: {version}");
        let locked = &lock["packages"][format!("node_modules/{name}")];
        assert_eq!(&locked["version"], version, "package-lock.json is older than package.json: {name}");
    }
    let packages = lock["packages"].as_object().unwrap();
    for (path, package) in packages.iter().filter(|(path, _)| !path.is_empty()) {
        // Without an address it comes from the registry that npm is set to.
        let from = package["resolved"].as_str().unwrap_or("https://registry.npmjs.org/");
        assert!(from.starts_with("https://registry.npmjs.org/"), "{path} comes from elsewhere: {from}");
        assert!(text(&package["integrity"]).starts_with("sha512-"), "{path} has no hash");
    }
}
