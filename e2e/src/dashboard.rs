//! Dashboards from their sources: `grafana/source/NAME.yml` says what is shown, this what Grafana wants to read of it.
//!
//! Left to right, as many panels in a line as fit, each line as high as its highest panel: so nothing overlaps. What all
//! dashboards share (variables, annotations, links, styles) is here once. A field that nobody knows is an error.

mod annotations;

use std::collections::BTreeMap;

use anyhow::{Context, Result, bail};
use serde::Deserialize;
use serde_json::{Map, Value, json};

/// Grafana's grid.
const COLUMNS: u64 = 24;
const SCHEMA_VERSION: u32 = 41;
/// A line is not drawn over a longer gap: four scrapes.
const LONGEST_GAP_MS: u32 = 60_000;
/// Behind the words for no value: neither good nor bad.
const NEITHER: &str = "#555962";
/// Of a machine's name beside its value, in pixels.
const SMALL_LETTERS: u32 = 14;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Source {
    pub uid: String,
    pub title: String,
    pub description: String,
    /// How much is shown at first.
    pub from: String,
    pub refresh: String,
    /// One project, chosen, and not several or all.
    #[serde(default)]
    pub one_project: bool,
    /// Variables besides host and project.
    #[serde(default)]
    pub variables: Vec<Variable>,
    pub rows: Vec<Row>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Variable {
    pub name: String,
    pub label: String,
    pub description: String,
    /// label_values(…).
    pub labels: Option<String>,
    pub sql: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Row {
    pub title: String,
    pub panels: Vec<Panel>,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    Stat,
    /// What holds when, as coloured bars: for values with words.
    States,
    Timeseries,
    Bargauge,
    Table,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Panel {
    pub title: String,
    pub kind: Kind,
    /// Width of 24 and height.
    pub size: (u64, u64),
    pub description: String,
    /// What stands there when there is nothing to show.
    pub empty: String,
    /// Not for tables: theirs are those of the columns.
    pub unit: Option<String>,
    pub decimals: Option<u32>,
    pub min: Option<f64>,
    pub max: Option<f64>,
    /// How far the axis reaches at least, so that next to nothing does not look like a lot.
    pub soft_max: Option<f64>,
    /// Colour below the first step, green unless said.
    pub base: Option<String>,
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Words for values, by their name in words.yml.
    pub words: Option<String>,
    /// Height of a stat's letters, where those that fit several machines can't be read.
    pub letters: Option<u32>,
    /// Words and colours for the names of series, by their name in words.yml.
    pub series: Option<String>,
    /// Where a click on a value leads: one of `LINKS`.
    pub link: Option<String>,
    /// Of a table, the columns that it is sorted by at first; with a minus from the greatest on.
    #[serde(default)]
    pub sort: Vec<String>,
    /// Areas upon each other.
    #[serde(default)]
    pub stacked: bool,
    /// Bars or points instead of lines, for what happens now and then.
    pub draw: Option<String>,
    /// Which value of a series a stat or gauge shows, the last unless said.
    pub reduce: Option<String>,
    pub queries: Vec<Query>,
    #[serde(default)]
    pub columns: Vec<Column>,
}

/// Colour, from which value on, and the alert that begins there, or why it begins there.
#[derive(Deserialize)]
pub struct Step(pub String, pub f64, pub String);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Query {
    /// A, B, … unless said; names the column in tables.
    pub id: Option<String>,
    pub expr: Option<String>,
    pub sql: Option<String>,
    #[serde(default)]
    pub legend: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// A label, or the id of a query; in SQL the name itself.
    pub of: Option<String>,
    pub name: String,
    pub unit: Option<String>,
    pub decimals: Option<u32>,
    pub width: Option<u32>,
    pub words: Option<String>,
    pub base: Option<String>,
    #[serde(default)]
    pub steps: Vec<Step>,
    /// Share of a whole as a bar.
    #[serde(default)]
    pub bar: bool,
    /// Long text in as many lines as it takes.
    #[serde(default)]
    pub wrap: bool,
    /// Longer text still: one line, and the whole of it on a click.
    #[serde(default)]
    pub inspect: bool,
    pub link: Option<String>,
}

/// By name, words for values with their colour.
pub type Words = BTreeMap<String, BTreeMap<String, (String, String)>>;

/// Where links lead: from a project to its dashboard, from a container to its own, from an incident to its story.
pub const LINKS: [(&str, &str, &str); 5] = [
    ("project", "The project ${__value.text}", "/d/nexus-project?var-project=${__value.text:percentencode}"),
    ("container", "The container ${__value.text}", "/d/nexus-containers?var-container=${__value.text:percentencode}"),
    (
        "incident",
        "The story of this incident, and its log",
        "/d/nexus-healing?var-incident=${__value.text:percentencode}",
    ),
    ("series-container", "This container", "/d/nexus-containers?var-container=${__field.labels.name:percentencode}"),
    ("series-project", "This project", "/d/nexus-project?var-project=${__field.labels.project:percentencode}"),
];
/// The machine of the row or the series, where it is known. What is of several machines keeps those that are chosen.
const HOST_OF_ROW: &str = "var-host=${__data.fields.Host:percentencode}";
const HOST_OF_SERIES: &str = "var-host=${__field.labels.host:percentencode}";
const HOSTS_CHOSEN: &str = "${host:queryparam}";
/// `$__rate_interval` is a minute at least: of narrower bars each would count again what the ones before it have.
const BAR_AT_LEAST: &str = "1m";
const LINK_KEEPS: &str = "${__url_time_range}";

pub fn source(yaml: &str) -> Result<Source> {
    serde_saphyr::from_str(yaml).map_err(|error| anyhow::anyhow!("{error}"))
}

pub fn words(yaml: &str) -> Result<Words> {
    serde_saphyr::from_str(yaml).map_err(|error| anyhow::anyhow!("{error}"))
}

/// The dashboard as Grafana reads it.
pub fn dashboard(source: &Source, words: &Words) -> Result<Value> {
    let mut panels = Vec::new();
    let (mut id, mut y) = (0_u64, 0_u64);
    for row in &source.rows {
        id += 1;
        panels.push(json!({"id": id, "type": "row", "title": row.title, "collapsed": false,
            "gridPos": {"x": 0, "y": y, "w": COLUMNS, "h": 1}, "panels": []}));
        y += 1;
        let (mut x, mut line) = (0, 0);
        for panel in &row.panels {
            let (width, height) = panel.size;
            if x + width > COLUMNS {
                (x, y, line) = (0, y + line, 0);
            }
            id += 1;
            let built = build(panel, words).with_context(|| format!("the panel {:?}", panel.title))?;
            let mut object = json!({"id": id, "gridPos": {"x": x, "y": y, "w": width, "h": height}});
            merge(&mut object, built);
            panels.push(object);
            (x, line) = (x + width, line.max(height));
        }
        y += line;
    }
    Ok(json!({
        "id": null, "uid": source.uid, "title": source.title, "description": source.description, "tags": ["nexus"],
        "schemaVersion": SCHEMA_VERSION, "version": 1, "editable": false, "graphTooltip": 1, "fiscalYearStartMonth": 0,
        "liveNow": false, "preload": false, "refresh": source.refresh, "timezone": "browser", "weekStart": "",
        "time": {"from": source.from, "to": "now"},
        "timepicker": {"refresh_intervals": ["15s", "30s", "1m", "5m", "15m"]},
        "annotations": {"list": annotations::of(source)},
        "links": [{"asDropdown": true, "icon": "external link", "includeVars": true, "keepTime": true, "tags": ["nexus"],
            "targetBlank": false, "title": "Dashboards", "tooltip": "", "type": "dashboards", "url": ""}],
        "templating": {"list": variables(source)?},
        "panels": panels,
    }))
}

fn prometheus() -> Value {
    json!({"type": "prometheus", "uid": "prometheus"})
}

fn postgres() -> Value {
    json!({"type": "grafana-postgresql-datasource", "uid": "postgres"})
}

fn variables(source: &Source) -> Result<Vec<Value>> {
    let labels = |name: &str, label: &str, description: &str, query: &str| {
        json!({"name": name, "label": label, "description": description, "type": "query", "datasource": prometheus(),
            "definition": query, "query": {"query": query, "refId": format!("variable-{name}"), "qryType": 1}, "refresh": 2,
            "sort": 1, "multi": true, "includeAll": true, "allValue": ".*", "current": {"selected": true, "text": ["All"],
            "value": ["$__all"]}, "hide": 0, "regex": "", "skipUrlSync": false, "options": []})
    };
    let projects = "label_values(docker_container_state{host=~\"$host\"}, project)";
    let mut project =
        labels("project", "Project", "Compose project; All includes containers outside Compose", projects);
    if source.one_project {
        // Named projects only: what is outside Compose is no project.
        merge(
            &mut project,
            json!({"description": "Compose project", "multi": false, "includeAll": false, "allValue": null,
                "current": {}, "regex": "/.+/"}),
        );
    }
    let mut all = vec![labels("host", "Host", "Machine", "label_values(up, host)"), project];
    for variable in &source.variables {
        let query = match (&variable.labels, &variable.sql) {
            (Some(query), None) | (None, Some(query)) => query,
            _ => bail!("the variable {} needs either labels or sql", variable.name),
        };
        let mut built = labels(&variable.name, &variable.label, &variable.description, query);
        if variable.sql.is_some() {
            merge(&mut built, json!({"datasource": postgres(), "query": query, "sort": 0}));
        }
        all.push(built);
    }
    Ok(all)
}

fn build(panel: &Panel, words: &Words) -> Result<Value> {
    let is_sql = panel.queries.iter().all(|query| query.sql.is_some());
    let source = if is_sql { postgres() } else { prometheus() };
    let targets = panel.queries.iter().enumerate().map(|(index, query)| target(panel.kind, index, query));
    let mut description = panel.description.trim().to_owned();
    let alerts: Vec<&str> = panel.steps.iter().map(|step| step.2.as_str()).filter(|word| !word.contains(' ')).collect();
    if !alerts.is_empty() {
        description = format!("{description} Alerts: {}.", alerts.join(", "));
    }
    let mut defaults = json!({"thresholds": thresholds(panel.base.as_deref(), &panel.steps), "noValue": panel.empty});
    let optional = json!({"unit": panel.unit, "decimals": panel.decimals, "min": panel.min, "max": panel.max});
    merge(&mut defaults, without_nulls(optional));
    let mut said = panel.words.as_deref().map_or(Ok(Vec::new()), |name| mappings(words, name).map(|it| vec![it]))?;
    if matches!(panel.kind, Kind::Stat | Kind::Bargauge) {
        // Else it has the colour of the first step, green for the most part.
        said.push(json!({"type": "special", "options": {"match": "null+nan",
            "result": {"text": panel.empty, "color": NEITHER, "index": said.len()}}}));
    }
    if !said.is_empty() {
        merge(&mut defaults, json!({"mappings": said}));
    }
    if let Some(name) = &panel.link {
        let keeps_host = panel.queries.iter().all(|query| query.expr.as_deref().is_some_and(keeps_host));
        merge(&mut defaults, json!({"links": [link(name, if keeps_host { HOST_OF_SERIES } else { HOSTS_CHOSEN })?]}));
    }
    let reduce = json!({"calcs": [panel.reduce.as_deref().unwrap_or("lastNotNull")], "fields": "", "values": false});
    let (kind, options) = match panel.kind {
        Kind::Stat => {
            merge(&mut defaults, json!({"color": {"mode": "thresholds"}}));
            let mode = if panel.steps.is_empty() { "value" } else { "background" };
            let mut options = json!({"colorMode": mode, "graphMode": "none", "justifyMode": "center", "orientation": "horizontal",
                "percentChangeColorMode": "standard", "reduceOptions": reduce, "showPercentChange": false,
                "textMode": "auto", "wideLayout": true});
            if let Some(letters) = panel.letters {
                merge(&mut options, json!({"text": {"titleSize": SMALL_LETTERS, "valueSize": letters}}));
            }
            ("stat", options)
        }
        Kind::Bargauge => {
            merge(&mut defaults, json!({"color": {"mode": "thresholds"}}));
            let options = json!({"displayMode": "basic", "orientation": "horizontal", "minVizHeight": 32, "minVizWidth": 8,
                "maxVizHeight": 40, "namePlacement": "top", "showUnfilled": true, "sizing": "auto", "valueMode": "color",
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": false},
                "reduceOptions": reduce});
            ("bargauge", options)
        }
        Kind::States => {
            let custom = json!({"lineWidth": 0, "fillOpacity": 70, "spanNulls": LONGEST_GAP_MS});
            merge(&mut defaults, json!({"color": {"mode": "thresholds"}, "custom": custom}));
            let options = json!({"mergeValues": true, "showValue": "never", "alignValue": "left", "rowHeight": 0.8,
                "legend": {"calcs": [], "displayMode": "list", "placement": "bottom", "showLegend": true},
                "tooltip": {"mode": "multi", "sort": "none"}});
            ("state-timeline", options)
        }
        Kind::Timeseries => {
            // By their place: neighbours are told apart, and as both sources answer in the order of names, what is shown on several
            // charts looks the same on them. Colours by name come from a palette of 56, a third of them next to white or yellow.
            merge(&mut defaults, json!({"color": {"mode": "palette-classic"}, "custom": lines(panel, is_sql)}));
            let options = json!({"legend": {"calcs": ["lastNotNull", "max"], "displayMode": "table",
                "placement": "bottom", "showLegend": true, "sortBy": "Last *", "sortDesc": true},
                "tooltip": {"mode": "multi", "sort": "desc"}});
            ("timeseries", options)
        }
        Kind::Table => {
            let mut options = json!({"cellHeight": "sm", "footer": {"countRows": false, "fields": "", "reducer": ["sum"],
                "show": false}, "showHeader": true});
            if !panel.sort.is_empty() {
                merge(&mut options, json!({"sortBy": sorting(panel)?}));
            }
            ("table", options)
        }
    };
    let mut overrides = Vec::new();
    if panel.kind == Kind::Table {
        // What stands for an empty table is no word for an empty cell.
        overrides.push(
            json!({"matcher": {"id": "byRegexp", "options": ".*"}, "properties": [{"id": "noValue", "value": ""}]}),
        );
    }
    // In SQL a column is what the query calls it, whether anything more is said of it or not.
    let has_host = panel.columns.iter().any(|column| column.name == "Host")
        || panel.queries.iter().any(|query| query.sql.as_deref().is_some_and(|sql| sql.contains("AS \"Host\"")));
    for column in &panel.columns {
        overrides.push(column_override(column, words, if has_host { HOST_OF_ROW } else { HOSTS_CHOSEN })?);
    }
    if let Some(name) = &panel.series {
        overrides.extend(series_overrides(words, name)?);
    }
    let mut built = json!({"type": kind, "title": panel.title, "description": description, "datasource": source,
        "fieldConfig": {"defaults": defaults, "overrides": overrides}, "options": options, "pluginVersion": "12.0.2",
        "targets": targets.collect::<Result<Vec<_>>>()?});
    if panel.kind == Kind::Table && !is_sql {
        merge(&mut built, json!({"transformations": columns_in_order(panel)?}));
    }
    if panel.draw.as_deref() == Some("bars") && !is_sql {
        merge(&mut built, json!({"interval": BAR_AT_LEAST}));
    }
    Ok(built)
}

fn target(kind: Kind, index: usize, query: &Query) -> Result<Value> {
    let letter = u8::try_from(index).ok().and_then(|index| index.checked_add(b'A')).map(char::from);
    let id = query.id.clone().or_else(|| letter.map(String::from)).context("too many queries")?;
    match (&query.expr, &query.sql) {
        (Some(expr), None) => {
            let instant = !matches!(kind, Kind::Timeseries | Kind::States);
            let expr = expr.split_whitespace().collect::<Vec<_>>().join(" ");
            let mut target = json!({"datasource": prometheus(), "editorMode": "code", "expr": expr, "refId": id,
                "legendFormat": if query.legend.is_empty() { "__auto" } else { &query.legend },
                "instant": instant, "range": !instant});
            if kind == Kind::Table {
                merge(&mut target, json!({"format": "table"}));
            }
            Ok(target)
        }
        (None, Some(sql)) => {
            let format = if kind == Kind::Timeseries { "time_series" } else { "table" };
            Ok(json!({"datasource": postgres(), "editorMode": "code", "format": format, "rawQuery": true,
                "rawSql": sql.trim_end(), "refId": id}))
        }
        _ => bail!("the query {id} needs either expr or sql"),
    }
}

fn lines(panel: &Panel, is_sql: bool) -> Value {
    let draw = panel.draw.as_deref().unwrap_or("line");
    json!({"drawStyle": draw, "lineInterpolation": "linear", "lineWidth": 1,
        // Areas of lines that are not upon each other add up to mud.
        "fillOpacity": if draw == "bars" { 70 } else if panel.stacked { 25 } else { 0 },
        "showPoints": if draw == "points" { "always" } else { "never" }, "pointSize": 7,
        // A year is drawn from hours and days, whose gaps are no gaps.
        "spanNulls": if is_sql { json!(true) } else { json!(LONGEST_GAP_MS) },
        // A day stands at its beginning, what Prometheus counted at the end of the time in which it did.
        "barAlignment": if is_sql { 1 } else { -1 },
        "axisPlacement": "auto", "axisLabel": "", "axisSoftMax": panel.soft_max, "scaleDistribution": {"type": "linear"},
        "stacking": {"mode": if panel.stacked { "normal" } else { "none" }, "group": "A"},
        "thresholdsStyle": {"mode": if panel.steps.is_empty() { "off" } else { "dashed" }}})
}

fn thresholds(base: Option<&str>, steps: &[Step]) -> Value {
    let first = json!({"color": base.unwrap_or("green"), "value": null});
    let steps = steps.iter().map(|Step(color, at, _)| json!({"color": color, "value": at}));
    json!({"mode": "absolute", "steps": std::iter::once(first).chain(steps).collect::<Vec<_>>()})
}

fn mappings(words: &Words, name: &str) -> Result<Value> {
    let known = words.get(name).with_context(|| format!("words.yml has no {name}"))?;
    let options: Map<String, Value> = known
        .iter()
        .enumerate()
        .map(|(index, (value, (text, color)))| (value.clone(), json!({"text": text, "color": color, "index": index})))
        .collect();
    Ok(json!({"type": "value", "options": options}))
}

/// A word and a colour for each series that is called like a value, underscores being spaces in names of series.
fn series_overrides(words: &Words, name: &str) -> Result<Vec<Value>> {
    let known = words.get(name).with_context(|| format!("words.yml has no {name}"))?;
    let one = |(value, (text, color)): (&String, &(String, String))| {
        json!({"matcher": {"id": "byName", "options": value.replace('_', " ")}, "properties": [
            {"id": "displayName", "value": text}, {"id": "color", "value": {"mode": "fixed", "fixedColor": color}}]})
    };
    Ok(known.iter().map(one).collect())
}

fn link(name: &str, host: &str) -> Result<Value> {
    let (_, title, url) = LINKS.iter().find(|(known, ..)| *known == name).with_context(|| format!("no link {name}"))?;
    Ok(json!({"title": title, "url": format!("{url}&{host}&{LINK_KEEPS}")}))
}

/// Whether each series of it is of one machine, and says of which.
fn keeps_host(expression: &str) -> bool {
    expression.contains("by (host")
}

fn sorting(panel: &Panel) -> Result<Value> {
    let one = |name: &String| {
        let (column, desc) = name.strip_prefix('-').map_or((name.as_str(), false), |column| (column, true));
        if !panel.columns.iter().any(|known| known.name == column) {
            bail!("sorted by {column}, which is no column");
        }
        Ok(json!({"displayName": column, "desc": desc}))
    };
    panel.sort.iter().map(one).collect::<Result<Vec<_>>>().map(Value::Array)
}

fn column_override(column: &Column, words: &Words, host: &str) -> Result<Value> {
    let mut properties = Vec::new();
    let mut add = |id: &str, value: Value| properties.push(json!({"id": id, "value": value}));
    if let Some(unit) = &column.unit {
        add("unit", json!(unit));
    }
    if let Some(decimals) = column.decimals {
        add("decimals", json!(decimals));
    }
    if let Some(name) = &column.words {
        add("mappings", json!([mappings(words, name)?]));
        add("custom.align", json!("left"));
    }
    if !column.steps.is_empty() {
        add("thresholds", thresholds(column.base.as_deref(), &column.steps));
    }
    if column.bar {
        add("min", json!(0));
        add("max", json!(if column.unit.as_deref() == Some("percent") { 100 } else { 1 }));
        add("custom.cellOptions", json!({"type": "gauge", "mode": "basic", "valueDisplayMode": "text"}));
    } else if column.words.is_some() || !column.steps.is_empty() {
        add("custom.cellOptions", json!({"type": "color-text"}));
    } else if column.wrap {
        add("custom.cellOptions", json!({"type": "auto", "wrapText": true}));
        // Its place since Grafana 12.2.
        add("custom.wrapText", json!(true));
    }
    if column.inspect {
        add("custom.inspect", json!(true));
    }
    if let Some(width) = column.width {
        add("custom.width", json!(width));
    }
    if let Some(name) = &column.link {
        add("links", json!([link(name, host)?]));
    }
    Ok(json!({"matcher": {"id": "byName", "options": column.name}, "properties": properties}))
}

/// One line for each set of labels, the columns named and in the order of the source, everything else left out.
fn columns_in_order(panel: &Panel) -> Result<Value> {
    let (mut order, mut names) = (Map::new(), Map::new());
    for (index, column) in panel.columns.iter().enumerate() {
        let of = column.of.as_deref().with_context(|| format!("the column {} is of nothing", column.name))?;
        let is_query = panel.queries.iter().any(|query| query.id.as_deref() == Some(of));
        // With a single query its value has no suffix.
        let field = match (is_query, panel.queries.len()) {
            (false, _) => of.to_owned(),
            (true, 1) => "Value".to_owned(),
            (true, _) => format!("Value #{of}"),
        };
        order.insert(field.clone(), json!(index));
        names.insert(field, json!(column.name));
    }
    let shown: Vec<Value> = panel.columns.iter().map(|column| json!(column.name)).collect();
    Ok(json!([
        {"id": "merge", "options": {}},
        {"id": "organize", "options": {"excludeByName": {"Time": true}, "indexByName": order, "renameByName": names}},
        {"id": "filterFieldsByName", "options": {"include": {"names": shown}}},
    ]))
}

fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => fields.into_iter().filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>().into(),
        other => other,
    }
}

/// Adds the fields of `more`, over those of the same name.
fn merge(object: &mut Value, more: Value) {
    if let (Some(object), Value::Object(more)) = (object.as_object_mut(), more) {
        object.extend(more);
    }
}
