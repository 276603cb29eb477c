//! Rules and dashboards ask for what there is.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result, ensure};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::boards::Boards;
use crate::project::{Project, Service};
use crate::promql::metrics;
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

/// Metrics of the rules that a healthy machine of this kind does not have, and why.
const ABSENT: &[(&str, &str)] = &[
    ("node_thermal_zone_temp", "virtual machines have no thermal zone"),
    ("rpi_board_info", NO_BOARD),
    ("rpi_throttle_active", NO_BOARD),
    ("rpi_throttle_occurred", NO_BOARD),
    ("host:rpi_undervoltage:max1m", NO_BOARD),
    ("host:rpi_throttled:avg15m", NO_BOARD),
    ("nexus_mmc_life_time_used_ratio", "no SD card and no eMMC"),
    ("nexus_mmc_pre_eol_info", "no SD card and no eMMC"),
    ("host:node_filesystem_there:bool", NO_DISK),
    ("host:node_filesystem_readonly:bool", NO_DISK),
    ("backup:last_success_age:seconds", NO_BACKUP),
    ("backup:max_age:seconds", NO_BACKUP),
    ("nexus_healer_gave_up", "only while an incident is given up; the case of the hopeless service asks for it"),
    ("nexus_healer_incident_failed_attempts", "only while an incident is open"),
];

const NO_BOARD: &str = "no Raspberry Pi";
const NO_DISK: &str = "no disk beside the root";
const NO_BACKUP: &str = "no backup leaves a metric";
/// What `where` says of panels that may be empty in the test too.
const ANYWHERE: &str = "anywhere";
const OUTSIDE_THE_TEST: &str = "outside the test";

/// Single queries that may be empty beside others that may not: by dashboard, panel and the query's name, and why.
const EMPTY_QUERIES: &[(&str, &str, &str, &str)] = &[
    ("overview", "Projects", "down", "what should run does, or has not been down for long"),
    ("overview", "What the healer did", "B", "what it refused may be longer ago than the time that a bar stands for"),
    ("healing", "When disk or memory runs out", "B", "nothing was given up"),
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
    let needs = Service::new("needs").heal("false").label(nexus_model::labels::DEPENDS_ON, "unhealthy");
    let ill = Service::new("unhealthy").heal("false").always_ill();
    let services = [down.without_health(), needs.without_health(), ill];
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
    let dashboards = dashboards(stack)?;
    let may_be_empty = may_be_empty(stack, &dashboards)?;
    let boards = Boards::start(stack).await?;
    // Whatever can befall a service: healed, only watched, ended by itself.
    let ended =
        Service::new("ended").heal("false").field("restart", json!("no")).label(nexus_model::labels::EXPECTED, "true");
    let services = [Service::new("healed").heal("true"), Service::new("watched"), ended.without_health()];
    let project = Project::up(stack, "looked-at", &services).await?;
    for service in ["healed", "watched"] {
        project.make_ill(service).await?;
    }
    project.exec("ended", "echo 3 > /tmp/exit").await?;
    for (name, dashboard) in &dashboards {
        let queries = queries(dashboard);
        ensure!(queries.len() > 10, "only {} queries in {name}", queries.len());
        for query in queries {
            let (title, id) = (query.title.as_str(), query.id.as_str());
            let empty_is_fine = may_be_empty.contains(&(name.clone(), title.to_owned()))
                || EMPTY_QUERIES.iter().any(|known| (known.0, known.1, known.2) == (name.as_str(), title, id));
            eventually(format!("{id} of {title:?} on {name} has an answer"), seconds(120), async || {
                Ok((query.rows(stack, &boards).await? > 0 || empty_is_fine).then_some(()))
            })
            .await?;
        }
    }
    boards.stop().await?;
    project.down().await
}

/// By name.
fn dashboards(stack: &Stack) -> Result<BTreeMap<String, Value>> {
    let folder = stack.root().join("grafana/dashboards");
    let mut found = BTreeMap::new();
    for entry in std::fs::read_dir(&folder)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "json") {
            let name = path.file_stem().context("a dashboard without a name")?.to_string_lossy().into_owned();
            found.insert(name, serde_json::from_str(&std::fs::read_to_string(&path)?)?);
        }
    }
    ensure!(!found.is_empty(), "there is no dashboard in {}", folder.display());
    Ok(found)
}

/// Panels that may be empty here, by dashboard and title: a part of what `./nexus dashboards preview` goes by on any machine.
fn may_be_empty(stack: &Stack, dashboards: &BTreeMap<String, Value>) -> Result<BTreeSet<(String, String)>> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct List {
        because: String,
        r#where: String,
        panels: BTreeMap<String, Vec<String>>,
    }
    let file = stack.root().join("grafana/may-be-empty.json");
    let text = std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display()))?;
    let lists: Vec<List> =
        serde_json::from_str(&text).with_context(|| format!("cannot understand {}", file.display()))?;
    let mut here = BTreeSet::new();
    for list in lists {
        let known = [ANYWHERE, OUTSIDE_THE_TEST].contains(&list.r#where.as_str());
        ensure!(known && !list.because.is_empty(), "no reason or place: {:?}, {:?}", list.because, list.r#where);
        for (name, titles) in list.panels {
            let dashboard = dashboards.get(&name).with_context(|| format!("no dashboard is called {name}"))?;
            for title in titles {
                let panels = dashboard["panels"].as_array().map_or(&[][..], Vec::as_slice);
                ensure!(panels.iter().any(|panel| panel["title"] == title), "no panel of {name} is called {title:?}");
                if list.r#where == ANYWHERE {
                    here.insert((name.clone(), title));
                }
            }
        }
    }
    Ok(here)
}

/// A year of hours of a machine, its disk and two services, as the reporter would have left it.
const A_YEAR: &str = "\
DO $$ BEGIN PERFORM history.make_partitions(now() - interval '1 year', now()); END $$; \
INSERT INTO history.hosts (name, first_seen_at, last_seen_at) VALUES ('year', now() - interval '1 year', now()); \
INSERT INTO history.mounts (host_id, mountpoint, device, fstype, first_seen_at, last_seen_at) \
  SELECT id, '/', '/dev/mmcblk0p2', 'ext4', first_seen_at, last_seen_at FROM history.hosts WHERE name = 'year'; \
INSERT INTO history.services (host_id, project, service, first_seen_at, last_seen_at) \
  SELECT id, project, 'web', first_seen_at, last_seen_at FROM history.hosts, unnest(ARRAY['photos', '']) AS project WHERE name = 'year'; \
INSERT INTO history.host_hours (hour, host_id, memory_total_bytes, memory_used_bytes_avg, memory_used_bytes_max, memory_used_bytes_p95, \
    swap_total_bytes, swap_used_bytes_avg, cpu_busy_ratio_avg, cpu_busy_ratio_max, cpu_pressure_ratio_avg, memory_pressure_ratio_avg, \
    io_pressure_ratio_avg, temperature_celsius_avg, temperature_celsius_max, throttled_ratio_avg, undervoltage_ratio_avg, \
    network_in_bytes_per_second_avg, network_out_bytes_per_second_avg, disk_written_bytes_per_second_avg, samples) \
  SELECT hour, id, 4e9, 2e9, 25e8, 24e8, 1e8, 1e7, 0.2, 0.6, 0.1, 0.01, 0.05, 55, 65, 0, 0, 1e4, 1e4, 2e5, 12 FROM history.hosts, \
    generate_series(date_trunc('hour', now()) - interval '364 days', now() - interval '1 hour', '1 hour') AS hour WHERE name = 'year'; \
INSERT INTO history.mount_hours (hour, mount_id, size_bytes, used_bytes_avg, used_bytes_max, available_bytes_min, available_bytes_avg, samples) \
  SELECT hour, m.id, 32e9, used, used, 30e9 - used, 30e9 - used, 12 FROM history.mounts m JOIN history.hosts h ON h.id = host_id, \
    generate_series(date_trunc('hour', now()) - interval '364 days', now() - interval '1 hour', '1 hour') AS hour, \
    LATERAL (SELECT 1e10 + extract(epoch FROM hour - now() + interval '1 year') * 400 AS used) AS growing WHERE h.name = 'year'; \
INSERT INTO history.service_hours (hour, service_id, memory_bytes_avg, memory_peak_bytes_max, memory_limit_bytes, up_ratio_avg, cpu_cores_avg, \
    cpu_cores_p95, restarts, oom_kills, replicas, samples) \
  SELECT hour, s.id, 1e8, 2e8, 4e8, 1, 0.1, 0.4, 0, 0, 1, 12 FROM history.services s JOIN history.hosts h ON h.id = host_id, \
    generate_series(date_trunc('hour', now()) - interval '364 days', now() - interval '1 hour', '1 hour') AS hour WHERE h.name = 'year';";

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
    for variable in list(&dashboard["templating"]["list"]).iter().filter(|it| it["datasource"]["uid"] == "postgres") {
        // Incidents to choose from: none yet, when nothing has happened.
        add(&json!("Incidents"), &json!({"refId": "Incidents", "rawSql": variable["query"]}));
    }
    all
}

impl Query {
    /// Runs it as Grafana would, for the last hour and everything selected.
    async fn rows(&self, stack: &Stack, boards: &Boards) -> Result<usize> {
        let _postgres = stack.postgres_stays.read().await;
        if self.sql && self.text.contains("history.") {
            // In one transaction that comes to nothing: the made-up year is seen by this query alone.
            let query = time_filtered(&self.text, "1 year")?;
            let all = format!("BEGIN; {A_YEAR} SET LOCAL ROLE nexus_grafana; {query}; ROLLBACK;");
            return Ok(stack.sql("postgres", &all).await?.len());
        }
        if self.sql {
            return Ok(stack.sql("nexus_grafana", &time_filtered(&self.text, "1 hour")?).await?.len());
        }
        let expression =
            ["$host", "$project", "$container"].iter().fold(self.text.clone(), |text, name| text.replace(name, ".*"));
        let expression = expression.replace("$__rate_interval", "1m").replace("$__range", "1h");
        ensure!(!expression.contains('$'), "a variable that nobody knows: {expression}");
        // One Prometheus asks all machines; here the boards have one of their own.
        match stack.query(&expression).await?.len() {
            0 => Ok(stack.query_of(&boards.url, &expression).await?.len()),
            answers => Ok(answers),
        }
    }
}

/// Grafana's macros in SQL.
fn time_filtered(sql: &str, back: &str) -> Result<String> {
    let mut out = sql.to_owned();
    for variable in ["${host:regex}", "${project:regex}", "${container:regex}", "${incident:regex}", "${incident:raw}"]
    {
        out = out.replace(variable, ".*");
    }
    out = out.replace("$__timeFrom()", &format!("now() - interval '{back}'")).replace("$__timeTo()", "now()");
    while let Some((before, after)) = out.split_once("$__timeFilter(") {
        let (column, behind) = after.split_once(')').context("$__timeFilter( without its end")?;
        out = format!("{before}{column} BETWEEN now() - interval '{back}' AND now(){behind}");
    }
    ensure!(!out.contains("$__") && !out.contains("${"), "a macro that nobody knows: {out}");
    Ok(out)
}
