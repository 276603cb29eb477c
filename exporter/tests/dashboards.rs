//! Whether well-known dashboards and alerts would find their families here: `dashboards.tsv` has their names, and the reason
//! for each that we have not got.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::collections::BTreeSet;

use nexus_exporter::collect::Collector;
use nexus_exporter::settings::Settings;
use nexus_exporter::{process, snapshot};

/// Whether a descriptor stands for `name`, and what is switched on unless asked otherwise lets it through.
fn has(descriptors: &BTreeSet<&str>, settings: &Settings, name: &str) -> bool {
    if let Some(field) = name.strip_prefix("node_netstat_") {
        return settings.netstat_fields.takes(field);
    }
    if let Some(field) = name.strip_prefix("node_vmstat_") {
        return settings.vmstat_fields.takes(field);
    }
    descriptors.contains(name)
        || descriptors.iter().any(|descriptor| {
            let Some((before, after)) = descriptor.split_once("<field>") else { return false };
            name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after)).is_some_and(|field| !field.is_empty())
        })
}

#[test]
fn what_they_ask_for_is_there_or_has_a_reason() {
    let all = Collector::ALL.iter().copied().flat_map(Collector::families);
    let all = all.chain(snapshot::FAMILIES).chain(process::FAMILIES);
    let descriptors: BTreeSet<&str> = all.map(|family| family.name).collect();
    let settings = Settings::defaults();
    let (mut missing, mut before) = (Vec::new(), "");
    for line in include_str!("dashboards.tsv").lines().filter(|line| !line.starts_with('#')) {
        let mut cells = line.split('\t');
        let (name, who, reason) = (cells.next().unwrap(), cells.next().expect(line), cells.next().unwrap_or_default());
        assert!(!who.is_empty() && cells.next().is_none(), "{line}");
        assert!(before < name, "{name} is not in its place");
        before = name;
        match (has(&descriptors, &settings, name), reason) {
            (false, "") => missing.push(name),
            (true, "") | (false, _) => (),
            (true, reason) => panic!("{name} is there: its reason has gone ({reason})"),
        }
    }
    assert!(missing.is_empty(), "missing without a reason: {missing:#?}");
}
