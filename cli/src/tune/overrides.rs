//! The Compose file that Nexus writes for a project: what it says, made whole from what is applied. Pure.
//!
//! It is never merged into a file of the owner's: YAML can't be extended by appending, and a comment that gets lost is theirs.

use std::collections::BTreeMap;

use nexus_reporter::report::recommend::{Change, yaml_key};
use serde::{Deserialize, Serialize};

const HEAD: &str = "# Written by Nexus (./nexus tune), which takes it away again with ./nexus tune undo.\n\
                    # Once you change this file it is yours: Nexus leaves it alone from then on.\n";

/// What is set for a service. `None` leaves it as the owner's files have it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub memory_limit_mib: Option<u64>,
    /// The owner's files have the limit below `deploy`, where Compose allows no other value beside it.
    #[serde(default)]
    pub limit_in_deploy: bool,
    pub restart: Option<String>,
    pub log: Option<LogRotation>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRotation {
    pub max_size: String,
    pub max_files: u32,
}

/// Services with what is set for each.
pub type Services = BTreeMap<String, Settings>;

impl Settings {
    fn put_over(&mut self, newer: &Settings) {
        if newer.memory_limit_mib.is_some() {
            (self.memory_limit_mib, self.limit_in_deploy) = (newer.memory_limit_mib, newer.limit_in_deploy);
        }
        self.restart = newer.restart.clone().or_else(|| self.restart.take());
        self.log = newer.log.clone().or_else(|| self.log.take());
    }

    fn lines(&self) -> Vec<String> {
        let mut out = Vec::new();
        match self.memory_limit_mib {
            Some(mib) if self.limit_in_deploy => {
                out.extend(["deploy:", "  resources:", "    limits:"].map(str::to_owned));
                out.push(format!("      memory: {mib}m"));
            }
            Some(mib) => out.push(format!("mem_limit: {mib}m")),
            None => {}
        }
        out.extend(self.restart.iter().map(|policy| format!("restart: {}", yaml_key(policy))));
        if let Some(log) = &self.log {
            out.extend(["logging:", "  driver: json-file", "  options:"].map(str::to_owned));
            out.push(format!("    max-size: {}", yaml_key(&log.max_size)));
            out.push(format!("    max-file: \"{}\"", log.max_files));
        }
        out
    }
}

/// What changes set, by service. Those that are not Compose's are left out.
pub fn settings(changes: &[Change]) -> Services {
    let mut all = Services::new();
    for change in changes {
        match change {
            Change::MemoryLimit { service, mib } => {
                all.entry(service.clone()).or_default().memory_limit_mib = Some(*mib);
            }
            Change::RestartPolicy { service, policy } => {
                all.entry(service.clone()).or_default().restart = Some(policy.clone());
            }
            Change::LogRotation { service, max_size, max_files } => {
                let log = LogRotation { max_size: max_size.clone(), max_files: *max_files };
                all.entry(service.clone()).or_default().log = Some(log);
            }
            Change::Postgres { .. } | Change::Redis { .. } | Change::Zram => {}
        }
    }
    all
}

/// All that is applied, the later over the earlier.
pub fn merged<'a>(applied: impl IntoIterator<Item = &'a Services>) -> Services {
    let mut all = Services::new();
    for services in applied {
        for (service, settings) in services {
            all.entry(service.clone()).or_default().put_over(settings);
        }
    }
    all
}

/// The file as it has to be, `None` when nothing is left to say.
pub fn content(services: &Services) -> Option<String> {
    if services.is_empty() {
        return None;
    }
    let mut out = format!("{HEAD}services:\n");
    for (service, settings) in services {
        out.push_str(&format!("  {}:\n", yaml_key(service)));
        out.extend(settings.lines().iter().map(|line| format!("    {line}\n")));
    }
    Some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(service: &str, mib: u64) -> Services {
        settings(&[Change::MemoryLimit { service: service.into(), mib }])
    }

    #[test]
    fn the_file_is_the_same_whatever_the_order_of_what_was_applied() {
        let restart = settings(&[Change::RestartPolicy { service: "web".into(), policy: "unless-stopped".into() }]);
        let log = settings(&[Change::LogRotation { service: "db".into(), max_size: "10m".into(), max_files: 3 }]);
        let all = content(&merged([&limit("web", 64), &restart, &log])).unwrap();
        assert_eq!(content(&merged([&log, &restart, &limit("web", 64)])).unwrap(), all);
        assert_eq!(
            all.strip_prefix(HEAD).unwrap(),
            "services:\n  db:\n    logging:\n      driver: json-file\n      options:\n        max-size: \"10m\"\n        max-file: \"3\"\n  \
             web:\n    mem_limit: 64m\n    restart: unless-stopped\n"
        );
        // The later value wins, and nothing is nothing.
        assert!(content(&merged([&limit("web", 64), &limit("web", 96)])).unwrap().contains("96m"));
        assert_eq!(content(&merged([])), None);
    }

    #[test]
    fn a_limit_below_deploy_stays_there() {
        let mut services = limit("web", 64);
        services.get_mut("web").unwrap().limit_in_deploy = true;
        let text = content(&services).unwrap();
        assert!(text.ends_with("    deploy:\n      resources:\n        limits:\n          memory: 64m\n"), "{text}");
    }

    #[test]
    fn names_stay_one_key_and_what_it_says_is_yaml() {
        for name in ["web-1", "no", "a: b\n#\"", "1.5", "-x", "{}"] {
            let services = merged([&limit(name, 64)]);
            let read: serde_json::Value = serde_saphyr::from_str(&content(&services).unwrap()).unwrap();
            assert_eq!(read["services"][name]["mem_limit"], "64m", "{name:?}");
        }
        let policy =
            settings(&[Change::RestartPolicy { service: "web".into(), policy: "no\n  privileged: true".into() }]);
        let read: serde_json::Value = serde_saphyr::from_str(&content(&policy).unwrap()).unwrap();
        assert_eq!(read["services"]["web"].as_object().unwrap().len(), 1);
    }
}
