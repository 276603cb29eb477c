//! What charts mark: incidents, starts of containers, reboots.

use serde_json::{Value, json};

use super::{Source, postgres, prometheus};

/// What all charts of a dashboard mark.
pub fn of(source: &Source) -> Vec<Value> {
    // A mark where it began, and no band: what is only watched may be ill for days, and a few bands hide the charts below them.
    // What began before the time shown and lasts into it is marked at its edge.
    let sql = "SELECT greatest(opened_at, $__timeFrom()) AS time,\n       \
        concat(project, '/', service, ' on ', host, ': ', problem, ', ',\n              \
        coalesce('over after ' || date_trunc('second', closed_at - opened_at), 'since ' || date_trunc('second', opened_at))) AS text,\n       \
        concat_ws(',', project, service, coalesce(outcome, state)) AS tags\nFROM incidents\n\
        WHERE opened_at <= $__timeTo() AND coalesce(closed_at, now()) >= $__timeFrom()\n  \
        AND host ~ '^(${host:regex})$' AND project ~ '^(${project:regex})$'\n\
        ORDER BY opened_at DESC\nLIMIT 500";
    let mut starts = "max by (host, project, service, name) \
        (container_start_time_seconds{host=~\"$host\", project=~\"$project\"}) * 1000"
        .to_owned();
    let boots = "max by (host) (node_boot_time_seconds{host=~\"$host\"}) * 1000";
    if source.variables.iter().any(|variable| variable.name == "container") {
        starts = starts.replace("project=~\"$project\"", "project=~\"$project\", name=~\"$container\"");
    }
    vec![
        json!({"builtIn": 1, "datasource": {"type": "grafana", "uid": "-- Grafana --"}, "enable": true, "hide": true,
            "iconColor": "rgba(0, 211, 255, 1)", "name": "Annotations & Alerts", "type": "dashboard"}),
        json!({"datasource": postgres(), "enable": true, "hide": false, "iconColor": "orange", "name": "Incidents",
            "target": {"editorMode": "code", "format": "table", "rawQuery": true, "rawSql": sql, "refId": "Incidents"}}),
        // The value is the time at which it started, so that it stands there and not at each sample.
        json!({"datasource": prometheus(), "enable": true, "hide": false, "iconColor": "blue", "name": "Starts",
            "useValueForTime": true, "titleFormat": "{{name}} on {{host}} was started", "textFormat": "", "tagKeys": "project,service",
            "target": {"editorMode": "code", "expr": starts, "refId": "Starts"}}),
        json!({"datasource": prometheus(), "enable": true, "hide": false, "iconColor": "purple", "name": "Reboots",
            "useValueForTime": true, "titleFormat": "{{host}} was booted", "textFormat": "", "tagKeys": "host",
            "target": {"editorMode": "code", "expr": boots, "refId": "Reboots"}}),
    ]
}
