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
    ("rpi_board_info", NO_BOARD),
    ("rpi_throttle_active", NO_BOARD),
    ("rpi_throttle_occurred", NO_BOARD),
    ("host:rpi_undervoltage:max1m", NO_BOARD),
    ("host:rpi_throttled:avg15m", NO_BOARD),
    ("nexus_mmc_life_time_used_ratio", "no SD card and no eMMC"),
    ("nexus_mmc_pre_eol_info", "no SD card and no eMMC"),
    ("nexus_healer_gave_up", "only while an incident is given up; the case of the hopeless service asks for it"),
    ("nexus_healer_incident_failed_attempts", "only while an incident is open"),
];

const NO_BOARD: &str = "no Raspberry Pi";
const NO_SENSOR: &str = "virtual machines have no sensors and don't tell the frequency";
const NO_PSI: &str = "the kernel may be built without PSI";
const NO_MEMORY_CGROUP: &str = "the kernel may not count the memory of containers";
const ALL_IS_WELL: &str = "all is well";

/// Panels that may rightly be empty, by dashboard and title (all of its queries), and why.
const EMPTY: &[(&str, &str, &str)] = &[
    ("overview", "Alerts", ALL_IS_WELL),
    ("overview", "Hottest", NO_SENSOR),
    ("overview", "Temperature", NO_SENSOR),
    ("overview", "Pressure", NO_PSI),
    ("overview", "Memory by project", NO_MEMORY_CGROUP),
    ("overview", "What the healer did", "nothing done yet"),
    ("overview", "Incidents", "nothing happened yet"),
    ("pi", "Power supply", NO_BOARD),
    ("pi", "Held back", NO_BOARD),
    ("pi", "Board", NO_BOARD),
    ("pi", "What the firmware does", NO_BOARD),
    ("pi", "Since boot", NO_BOARD),
    ("pi", "Voltage", NO_BOARD),
    ("pi", "Power by rail", NO_BOARD),
    ("pi", "Frequency", NO_SENSOR),
    ("pi", "Hottest", NO_SENSOR),
    ("pi", "Temperature", NO_SENSOR),
    ("pi", "Fan and other sensors", NO_SENSOR),
    ("pi", "Card used up", "no SD card and no eMMC"),
    ("pi", "Reserve of the card", "no SD card and no eMMC"),
    ("pi", "Written in its life", "no ext4"),
    ("pi", "Damage found", "no ext4"),
    ("pi", "Waiting for memory", NO_PSI),
    ("pi", "Waiting for the disk", NO_PSI),
    ("pi", "Packets in error", "no interface of its own sends packets"),
    ("containers", "Memory", NO_MEMORY_CGROUP),
    ("containers", "Memory of its limit", NO_MEMORY_CGROUP),
    ("containers", "Held back by its limit", "no container has a quota"),
    ("containers", "Processes and threads of the limit", "the kernel may not count them"),
    ("containers", "Logs on disk", "the exporter may not see Docker's folder"),
    ("containers", "Waiting for the processor", NO_PSI),
    ("containers", "Waiting for memory", NO_PSI),
    ("containers", "Waiting for the disk", NO_PSI),
    ("containers", "Exit code of the last run", "none has exited"),
    ("containers", "Read and written", "the kernel may not count it"),
    ("project", "Memory", NO_MEMORY_CGROUP),
    ("project", "Memory by service", NO_MEMORY_CGROUP),
    ("project", "Disk by service", "the kernel may not count it"),
    ("project", "Incidents", "nothing happened yet"),
    ("project", "Restarts by the healer", "nothing done yet"),
    ("healing", "Why nothing was done", "it always acted"),
    ("healing", "Incidents by day", "nothing happened yet"),
    ("healing", "How long each took", "nothing ended yet"),
    ("healing", "Causes", "nothing happened yet"),
    ("healing", "Budgets", "nothing done yet"),
    ("healing", "What healing would have been worth", "nothing that is watched was ill yet"),
    ("healing", "Incidents", "nothing happened yet"),
    ("healing", "Attempts to heal", "nothing done yet"),
    ("healing", "Story", "nothing happened yet"),
    ("healing", "Evidence", "nothing happened yet"),
    ("healing", "When disk or memory runs out", "nothing given up"),
    ("nexus", "Failing collectors", ALL_IS_WELL),
    ("nexus", "Memory of the stack", NO_MEMORY_CGROUP),
    ("nexus", "Memory by part", NO_MEMORY_CGROUP),
    ("nexus", "Memory of its limit", NO_MEMORY_CGROUP),
    ("nexus", "Written to disk by part", "the kernel may not count it"),
];

/// Single queries that may be empty beside others that may not: a column of a table for what most lines don't have.
const EMPTY_COLUMNS: &[(&str, &str)] = &[
    ("overview", "down"),
    ("overview", "unhealthy"),
    ("overview", "memory"),
    ("containers", "memory"),
    ("containers", "limit"),
    ("project", "memory"),
    ("project", "limit"),
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
    let mut empty_for_no_reason: BTreeSet<&str> = EMPTY.iter().map(|(_, title, _)| *title).collect();
    for file in files {
        let name = file.file_stem().context("a dashboard without a name")?.to_string_lossy().into_owned();
        let dashboard: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
        let queries = queries(&dashboard);
        ensure!(queries.len() > 10, "only {} queries in {}", queries.len(), file.display());
        for query in queries {
            let (title, id) = (query.title.as_str(), query.id.as_str());
            empty_for_no_reason.remove(title);
            let reason = EMPTY.iter().find(|(on, panel, _)| (*on, *panel) == (name.as_str(), title)).map(|it| it.2);
            let empty_is_fine = reason.is_some()
                || EMPTY_COLUMNS.contains(&(name.as_str(), id))
                || title == "Incidents" && id == "Incidents";
            eventually(format!("{id} of {title:?} on {name} has an answer"), seconds(90), async || {
                Ok((query.rows(stack).await? > 0 || empty_is_fine).then_some(()))
            })
            .await?;
        }
    }
    ensure!(empty_for_no_reason.is_empty(), "no panel is called {empty_for_no_reason:?}");
    Ok(())
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
    async fn rows(&self, stack: &Stack) -> Result<usize> {
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
        Ok(stack.query(&expression).await?.len())
    }
}

/// Grafana's macros in SQL.
fn time_filtered(sql: &str, back: &str) -> Result<String> {
    let mut out = sql.to_owned();
    for variable in ["${host:regex}", "${project:regex}", "${incident:regex}", "${incident:raw}"] {
        out = out.replace(variable, ".*");
    }
    while let Some((before, after)) = out.split_once("$__timeFilter(") {
        let (column, behind) = after.split_once(')').context("$__timeFilter( without its end")?;
        out = format!("{before}{column} BETWEEN now() - interval '{back}' AND now(){behind}");
    }
    ensure!(!out.contains("$__") && !out.contains("${"), "a macro that nobody knows: {out}");
    Ok(out)
}
