//! A click leads to a dashboard that there is, of the same machine and project.

use std::collections::{BTreeMap, BTreeSet};

use crate::{dashboards, list, shown, text};

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
