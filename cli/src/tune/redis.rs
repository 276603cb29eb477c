//! A bound for Redis and its kin. Pure: what redis-cli said in, settings out.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const MIB: u64 = 1_048_576;
/// Of its bound, a Redis that holds more would drop or refuse at once.
const FILLED: f64 = 0.9;
/// What drops only keys that have an end of their own, so that a queue or a store loses nothing by it.
pub const CAREFUL: &str = "volatile-lru";
const POLICIES: [&str; 8] = [
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub maxmemory: Option<u64>,
    pub policy: Option<String>,
    pub used: Option<u64>,
    pub evicted: Option<u64>,
    /// The file of settings that it was started with; `None`: none.
    pub file: Option<String>,
}

impl Facts {
    /// `config`: names and values on lines of their own. `info`: `name:value` a line.
    pub fn read(config: &str, info: &str) -> Facts {
        let words: Vec<&str> = config.lines().map(str::trim).collect();
        let config: BTreeMap<&str, &str> = words.chunks_exact(2).map(|pair| (pair[0], pair[1])).collect();
        let info: BTreeMap<&str, &str> = info.lines().filter_map(|line| line.trim().split_once(':')).collect();
        let number = |text: Option<&&str>| text.and_then(|text| text.parse().ok());
        Facts {
            maxmemory: number(config.get("maxmemory")),
            policy: config.get("maxmemory-policy").map(|policy| (*policy).to_owned()),
            used: number(info.get("used_memory")),
            evicted: number(info.get("evicted_keys")),
            file: info.get("config_file").filter(|file| !file.is_empty()).map(|file| (*file).to_owned()),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Values {
    pub maxmemory: u64,
    pub policy: String,
}

impl Values {
    pub fn lines(&self) -> String {
        format!("maxmemory {}\nmaxmemory-policy {}\n", size(self.maxmemory), self.policy)
    }

    /// As arguments of CONFIG SET. The policy first: without it a full Redis refuses writes for a moment.
    pub fn arguments(&self) -> [[String; 2]; 2] {
        [["maxmemory-policy".to_owned(), self.policy.clone()], ["maxmemory".to_owned(), self.maxmemory.to_string()]]
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0 => "0 (no bound)".to_owned(),
        bytes if bytes.is_multiple_of(MIB) => format!("{}mb", bytes / MIB),
        bytes => bytes.to_string(),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub before: Values,
    pub after: Values,
    /// Whether it keeps them itself over a restart.
    pub kept: bool,
    pub notes: Vec<String>,
}

/// `policy`: the owner's word on what may be dropped.
pub fn plan(facts: &Facts, maxmemory_mib: u64, policy: Option<&str>) -> Result<Plan, String> {
    let (Some(now), Some(policy_now), Some(used)) = (facts.maxmemory, facts.policy.clone(), facts.used) else {
        return Err("it did not tell its maxmemory, its policy and what it uses".into());
    };
    let mut wanted = maxmemory_mib.saturating_mul(MIB);
    if used as f64 > FILLED * wanted as f64 {
        return Err(format!("it holds {} already, too much for a bound of {}", size_of(used), size(wanted)));
    }
    let mut notes = Vec::new();
    if now > 0 && now <= wanted {
        notes.push(format!("maxmemory stays: {} is bound enough", size(now)));
        wanted = now;
    }
    let after_policy = match policy {
        Some(word) if POLICIES.contains(&word) => word.to_owned(),
        Some(word) => return Err(format!("there is no policy \"{word}\": it is one of {}", POLICIES.join(", "))),
        // Who has chosen one has thought about it.
        None if policy_now != "noeviction" => policy_now.clone(),
        None => {
            notes.push(format!(
                "{CAREFUL} drops only keys that expire anyway, and refuses writes when there are none; for a mere cache: --policy allkeys-lru"
            ));
            CAREFUL.to_owned()
        }
    };
    let before = Values { maxmemory: now, policy: policy_now };
    let after = Values { maxmemory: wanted, policy: after_policy };
    if before == after {
        return Err("it is so already".into());
    }
    let kept = facts.file.is_some();
    if !kept {
        notes.push(format!(
            "it was started without a file of settings and forgets this when it starts anew: add to its command in your compose file: \
             --maxmemory {} --maxmemory-policy {}",
            after.maxmemory, after.policy
        ));
    }
    Ok(Plan { before, after, kept, notes })
}

fn size_of(bytes: u64) -> String {
    nexus_reporter::report::format::bytes(bytes as f64)
}

/// What is to be set again, or why not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Undo {
    Set,
    /// It has forgotten it itself.
    Gone,
    Changed,
}

pub fn undo(before: &Values, after: &Values, now: &Facts) -> Undo {
    let holds =
        |values: &Values| now.maxmemory == Some(values.maxmemory) && now.policy.as_ref() == Some(&values.policy);
    // Each of the two is one of ours: Nexus was ended between them.
    let half = [before.maxmemory, after.maxmemory].map(Some).contains(&now.maxmemory)
        && [&before.policy, &after.policy].map(Some).contains(&now.policy.as_ref());
    if holds(after) {
        Undo::Set
    } else if holds(before) {
        Undo::Gone
    } else if half {
        Undo::Set
    } else {
        Undo::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fresh() -> Facts {
        Facts::read(
            "maxmemory\n0\nmaxmemory-policy\nnoeviction\n",
            "# Server\r\nconfig_file:/etc/redis/redis.conf\r\n# Memory\r\nused_memory:52428800\r\nevicted_keys:7\r\n",
        )
    }

    #[test]
    fn what_is_said_is_read() {
        let facts = fresh();
        assert_eq!((facts.maxmemory, facts.policy.as_deref()), (Some(0), Some("noeviction")));
        assert_eq!((facts.used, facts.evicted), (Some(52_428_800), Some(7)));
        assert_eq!(facts.file.as_deref(), Some("/etc/redis/redis.conf"));
        assert_eq!(Facts::read("NOAUTH Authentication required.", ""), Facts::default());
        assert_eq!(Facts::read("", "config_file:\n").file, None);
    }

    #[test]
    fn it_gets_a_bound_and_loses_nothing_that_does_not_expire() {
        let planned = plan(&fresh(), 140, None).unwrap();
        assert_eq!(planned.after, Values { maxmemory: 140 * MIB, policy: CAREFUL.into() });
        assert!(planned.kept && planned.notes.len() == 1, "{:?}", planned.notes);
        assert_eq!(planned.before.lines(), "maxmemory 0 (no bound)\nmaxmemory-policy noeviction\n");
        assert_eq!(planned.after.arguments()[0][1], CAREFUL);
        let cache = plan(&fresh(), 140, Some("allkeys-lru")).unwrap();
        assert_eq!((cache.after.policy.as_str(), cache.notes.len()), ("allkeys-lru", 0));
        assert!(plan(&fresh(), 140, Some("x; FLUSHALL")).unwrap_err().contains("it is one of noeviction"));
    }

    #[test]
    fn what_its_owner_chose_stays() {
        let chosen = Facts { policy: Some("allkeys-lfu".into()), ..fresh() };
        assert_eq!(plan(&chosen, 140, None).unwrap().after.policy, "allkeys-lfu");
        let bound = Facts { maxmemory: Some(100 * MIB), ..fresh() };
        assert_eq!(plan(&bound, 140, None).unwrap().after.maxmemory, 100 * MIB);
        let both = Facts { maxmemory: Some(100 * MIB), ..chosen };
        assert_eq!(plan(&both, 140, None).unwrap_err(), "it is so already");
    }

    #[test]
    fn what_would_do_harm_or_is_not_known_is_no_plan() {
        assert!(plan(&fresh(), 52, None).unwrap_err().contains("it holds 50 MiB already"));
        assert!(plan(&Facts { used: None, ..fresh() }, 140, None).unwrap_err().contains("did not tell"));
        let without = plan(&Facts { file: None, ..fresh() }, 140, None).unwrap();
        assert!(!without.kept);
        assert!(
            without.notes[1].ends_with("--maxmemory 146800640 --maxmemory-policy volatile-lru"),
            "{:?}",
            without.notes
        );
    }

    #[test]
    fn undoing_looks_first() {
        let planned = plan(&fresh(), 140, None).unwrap();
        let check = |maxmemory, policy: &str, expected| {
            let now = Facts { maxmemory, policy: Some(policy.into()), ..fresh() };
            assert_eq!(undo(&planned.before, &planned.after, &now), expected);
        };
        check(Some(140 * MIB), CAREFUL, Undo::Set);
        check(Some(0), "noeviction", Undo::Gone);
        // Ended after the first of the two.
        check(Some(0), CAREFUL, Undo::Set);
        check(Some(140 * MIB), "noeviction", Undo::Set);
        check(Some(200 * MIB), CAREFUL, Undo::Changed);
        check(Some(140 * MIB), "allkeys-lfu", Undo::Changed);
        check(None, CAREFUL, Undo::Changed);
    }
}
