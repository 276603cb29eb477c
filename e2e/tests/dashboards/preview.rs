//! What `./nexus dashboards preview` draws with, looked at without a browser.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::{dashboards, list, read, shown, text};

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
