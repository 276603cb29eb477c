//! PostgreSQL's four settings of memory, for as much as it may use. Pure: what psql said in, statements out.
//!
//! They are set by ALTER SYSTEM, into a file of PostgreSQL's own beside its data, which it reads after every other file. What stands on
//! the command line in compose.yml wins over it, so that is left to its owner.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

const BUFFERS: &str = "shared_buffers";
const CACHE: &str = "effective_cache_size";
const WORK: &str = "work_mem";
const MAINTENANCE: &str = "maintenance_work_mem";
const NAMES: [&str; 4] = [BUFFERS, CACHE, WORK, MAINTENANCE];
const MIB: u64 = 1_048_576;

/// What psql is asked, each a statement of its own; the first column tells which it is.
pub const QUESTIONS: [&str; 3] = [
    "SELECT 'setting', name, setting, coalesce(unit, ''), source FROM pg_settings WHERE name IN \
     ('shared_buffers', 'effective_cache_size', 'work_mem', 'maintenance_work_mem', 'max_connections', 'data_directory')",
    "SELECT 'file', name, setting FROM pg_file_settings WHERE sourcefile LIKE '%/postgresql.auto.conf' ORDER BY seqno",
    "SELECT 'blocks', coalesce(sum(blks_hit), 0), coalesce(sum(blks_read), 0) FROM pg_stat_database",
];
/// After a reload: what it could not take.
pub const COMPLAINTS: &str = "SELECT 'complaint', name, error FROM pg_file_settings WHERE error IS NOT NULL";
pub const RELOAD: &str = "SELECT pg_reload_conf()";

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    pub settings: BTreeMap<String, Setting>,
    /// What ALTER SYSTEM has written.
    pub file: BTreeMap<String, String>,
    pub blocks: Option<Blocks>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Setting {
    pub value: String,
    pub unit: String,
    pub source: String,
}

/// Counters over all databases since they were reset.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocks {
    pub hit: u64,
    pub read: u64,
}

impl Setting {
    fn bytes(&self) -> Option<u64> {
        let unit = match self.unit.as_str() {
            "B" => 1,
            "kB" => 1024,
            "8kB" => 8192,
            "MB" => MIB,
            _ => return None,
        };
        self.value.parse::<u64>().ok()?.checked_mul(unit)
    }
}

impl Facts {
    /// From the lines that psql printed, columns separated by tabs.
    pub fn read(said: &str) -> Facts {
        let mut facts = Facts::default();
        for line in said.lines() {
            match line.split('\t').collect::<Vec<_>>().as_slice() {
                ["setting", name, value, unit, source] => {
                    let setting = Setting { value: (*value).into(), unit: (*unit).into(), source: (*source).into() };
                    facts.settings.insert((*name).to_owned(), setting);
                }
                ["file", name, value] => {
                    facts.file.insert((*name).to_owned(), (*value).to_owned());
                }
                ["blocks", hit, read] => {
                    facts.blocks = hit.parse().ok().zip(read.parse().ok()).map(|(hit, read)| Blocks { hit, read });
                }
                _ => {}
            }
        }
        facts
    }

    pub fn data_directory(&self) -> Option<&str> {
        self.settings.get("data_directory").map(|it| it.value.as_str()).filter(|path| path.starts_with('/'))
    }

    /// As it is in effect, in MB where it is whole ones.
    pub fn shown(&self, name: &str) -> Option<String> {
        self.settings.get(name)?.bytes().map(memory)
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Set {
    pub name: String,
    /// What ALTER SYSTEM had written before; `None`: nothing.
    pub former: Option<String>,
    /// What was in effect.
    pub before: String,
    pub after: String,
}

impl Set {
    fn needs_restart(&self) -> bool {
        self.name == BUFFERS
    }

    /// Those of a file that somebody has written into are none of ours.
    fn known(&self) -> bool {
        NAMES.contains(&self.name.as_str())
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Plan {
    pub sets: Vec<Set>,
    pub notes: Vec<String>,
}

pub fn needs_restart(sets: &[Set]) -> bool {
    sets.iter().any(Set::needs_restart)
}

/// What fits so much memory: a quarter for the buffers and about as much again twice for the kernel's cache, as PostgreSQL's manual
/// says of a machine of its own; the rest is shared by all connections, three sorts or joins each.
fn wanted(memory_mib: u64, connections: u64) -> [(&'static str, u64); 4] {
    let sixteens = |mib: u64| (mib / 16).max(1) * 16;
    let buffers = sixteens(memory_mib / 4);
    let work = memory_mib.saturating_sub(buffers) / connections.saturating_mul(3).max(1);
    [
        (BUFFERS, buffers),
        (CACHE, sixteens(memory_mib * 6 / 10)),
        (WORK, work.clamp(4, 32)),
        (MAINTENANCE, sixteens(memory_mib / 16).min(512)),
    ]
}

pub fn plan(facts: &Facts, memory_mib: u64) -> Result<Plan, String> {
    let connections = facts.settings.get("max_connections").and_then(|it| it.value.parse().ok());
    let Some(connections) = connections else { return Err("psql did not tell what is set".into()) };
    let (mut sets, mut notes) = (Vec::new(), Vec::new());
    for (name, mib) in wanted(memory_mib, connections) {
        let Some((setting, now)) = facts.settings.get(name).and_then(|it| Some((it, it.bytes()?))) else { continue };
        // A tenth more or less is no difference that anybody would see.
        if now.abs_diff(mib * MIB) <= now / 10 {
            continue;
        }
        if !["default", "configuration file"].contains(&setting.source.as_str()) {
            notes.push(format!("{name} stays {}: it is set by the {}", memory(now), setting.source));
            continue;
        }
        let (before, after) = (memory(now), memory(mib * MIB));
        sets.push(Set { name: name.to_owned(), former: facts.file.get(name).cloned(), before, after });
    }
    if sets.is_empty() {
        notes.insert(0, "it is so already".into());
        return Err(notes.join("; "));
    }
    Ok(Plan { sets, notes })
}

/// For each setting a statement; psql runs each by itself, since ALTER SYSTEM takes no transaction.
pub fn statements(sets: &[Set]) -> Vec<String> {
    sets.iter()
        .filter(|set| set.known())
        .map(|set| format!("ALTER SYSTEM SET {} = {}", set.name, literal(&set.after)))
        .collect()
}

/// Back to what it was, for those that still are as they were set; the others are named.
pub fn undo(sets: &[Set], now: &Facts) -> (Vec<String>, Vec<String>) {
    let (mut statements, mut changed) = (Vec::new(), Vec::new());
    for set in sets.iter().filter(|set| set.known()) {
        let holds = now.file.get(&set.name);
        if holds == Some(&set.after) {
            statements.push(match &set.former {
                Some(former) => format!("ALTER SYSTEM SET {} = {}", set.name, literal(former)),
                None => format!("ALTER SYSTEM RESET {}", set.name),
            });
        } else if holds != set.former.as_ref() {
            changed.push(set.name.clone());
        }
    }
    (statements, changed)
}

/// Whether the buffers are in effect as they were set.
pub fn buffers_are_set(sets: &[Set], now: &Facts) -> bool {
    let mut buffers = sets.iter().filter(|set| set.needs_restart());
    buffers.any(|set| now.shown(&set.name).as_deref() == Some(set.after.as_str()))
}

/// Whether the buffers have their former setting again and wait for a restart: Nexus was ended before it.
pub fn waits_for_restart(sets: &[Set], now: &Facts) -> bool {
    let is_former = |set: &Set| now.file.get(&set.name) == set.former.as_ref();
    buffers_are_set(sets, now) && sets.iter().filter(|set| set.needs_restart()).all(is_former)
}

/// What PostgreSQL says against what was just set. What is wrong with other settings was so before, and `shared_buffers` that somebody
/// else has set waits for a restart, which is no mistake.
pub fn complaint(said: &str, statements: &[String], restarted: bool) -> Option<String> {
    let is_set = |name: &str| statements.iter().any(|statement| statement.split_whitespace().nth(3) == Some(name));
    said.lines().find_map(|line| match line.split('\t').collect::<Vec<_>>().as_slice() {
        ["complaint", name, error] if is_set(name) && (restarted || *name != BUFFERS) => {
            Some(format!("{name}: {error}"))
        }
        _ => None,
    })
}

/// Which of them are not in effect as they were set.
pub fn not_in_effect<'a>(sets: &'a [Set], now: &Facts) -> Vec<&'a str> {
    let in_effect = |set: &&Set| now.shown(&set.name).as_deref() == Some(set.after.as_str());
    sets.iter().filter(|set| !in_effect(set)).map(|set| set.name.as_str()).collect()
}

fn literal(value: &str) -> String {
    let quoted = value.replace('\'', "''");
    if quoted.contains('\\') { format!("E'{}'", quoted.replace('\\', "\\\\")) } else { format!("'{quoted}'") }
}

fn memory(bytes: u64) -> String {
    if bytes.is_multiple_of(MIB) { format!("{}MB", bytes / MIB) } else { format!("{}kB", bytes / 1024) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As a container of the official image tells it.
    const FRESH: &str = "setting\tdata_directory\t/var/lib/postgresql/data\t\toverride\n\
        setting\teffective_cache_size\t524288\t8kB\tdefault\n\
        setting\tmaintenance_work_mem\t65536\tkB\tdefault\n\
        setting\tmax_connections\t100\t\tconfiguration file\n\
        setting\tshared_buffers\t16384\t8kB\tconfiguration file\n\
        setting\twork_mem\t4096\tkB\tdefault\n\
        blocks\t900\t100\n";

    fn shown(sets: &[Set]) -> Vec<String> {
        sets.iter().map(|set| format!("{} {} -> {}", set.name, set.before, set.after)).collect()
    }

    #[test]
    fn the_settings_fit_the_memory() {
        let facts = Facts::read(FRESH);
        assert_eq!(facts.blocks, Some(Blocks { hit: 900, read: 100 }));
        assert_eq!(facts.data_directory(), Some("/var/lib/postgresql/data"));
        let plan_of = |mib| plan(&facts, mib).unwrap();
        assert_eq!(
            shown(&plan_of(2048).sets),
            [
                "shared_buffers 128MB -> 512MB",
                "effective_cache_size 4096MB -> 1216MB",
                "work_mem 4MB -> 5MB",
                "maintenance_work_mem 64MB -> 128MB"
            ]
        );
        assert!(needs_restart(&plan_of(2048).sets));
        assert_eq!(
            shown(&plan_of(256).sets),
            [
                "shared_buffers 128MB -> 64MB",
                "effective_cache_size 4096MB -> 144MB",
                "maintenance_work_mem 64MB -> 16MB"
            ]
        );
        // What is near enough stays.
        assert_eq!(
            shown(&plan_of(512).sets),
            ["effective_cache_size 4096MB -> 304MB", "maintenance_work_mem 64MB -> 32MB"]
        );
        assert!(!needs_restart(&plan_of(512).sets));
        // The smallest and the largest machines break nothing.
        assert!(plan(&facts, 0).is_ok() && plan(&facts, 1 << 40).is_ok());
    }

    #[test]
    fn the_command_line_is_its_owners() {
        let facts = Facts::read(&FRESH.replace("16384\t8kB\tconfiguration file", "16384\t8kB\tcommand line"));
        let plan = plan(&facts, 2048).unwrap();
        assert!(!needs_restart(&plan.sets));
        assert_eq!(plan.notes, ["shared_buffers stays 128MB: it is set by the command line"]);
    }

    #[test]
    fn what_is_so_already_or_not_known_is_no_plan() {
        let mut facts = Facts::read(FRESH);
        for (name, mib) in wanted(2048, 100) {
            let unit = Setting { value: mib.to_string(), unit: "MB".into(), source: "default".into() };
            facts.settings.insert(name.into(), unit);
        }
        assert_eq!(plan(&facts, 2048).unwrap_err(), "it is so already");
        assert_eq!(plan(&Facts::read("nonsense\n\t\t\t\t"), 2048).unwrap_err(), "psql did not tell what is set");
    }

    #[test]
    fn undoing_goes_back_to_what_was_written_and_leaves_what_was_changed_since() {
        let mut facts = Facts::read(FRESH);
        facts.file.insert("work_mem".into(), "it's \\ odd".into());
        let sets = plan(&facts, 2048).unwrap().sets;
        assert_eq!(statements(&sets)[0], "ALTER SYSTEM SET shared_buffers = '512MB'");
        let mut now = facts.clone();
        now.file.extend(sets.iter().map(|set| (set.name.clone(), set.after.clone())));
        let (back, changed) = undo(&sets, &now);
        assert_eq!(
            back,
            [
                "ALTER SYSTEM RESET shared_buffers",
                "ALTER SYSTEM RESET effective_cache_size",
                "ALTER SYSTEM SET work_mem = E'it''s \\\\ odd'",
                "ALTER SYSTEM RESET maintenance_work_mem"
            ]
        );
        assert_eq!(changed, [""; 0]);
        now.file.insert("shared_buffers".into(), "300MB".into());
        now.file.remove("effective_cache_size");
        let (back, changed) = undo(&sets, &now);
        assert_eq!((back.len(), changed), (2, vec!["shared_buffers".to_owned()]));
        // Taken back in its file, and not in effect.
        assert!(!waits_for_restart(&sets, &facts) && !waits_for_restart(&sets, &now));
        let mut running = Facts::read(&FRESH.replace("16384\t8kB", "65536\t8kB"));
        assert!(waits_for_restart(&sets, &running));
        running.file.insert("shared_buffers".into(), "512MB".into());
        assert!(!waits_for_restart(&sets, &running));
        // A record that somebody wrote into makes no statement.
        let foreign = Set { name: "archive_command = 'x'; --".into(), ..sets[0].clone() };
        assert!(statements(std::slice::from_ref(&foreign)).is_empty() && undo(&[foreign], &now).0.is_empty());
    }

    #[test]
    fn only_what_was_set_is_complained_of() {
        let set =
            ["ALTER SYSTEM SET maintenance_work_mem = '64MB'".to_owned(), "ALTER SYSTEM RESET shared_buffers".into()];
        let check = |said: &str, restarted: bool, expected: Option<&str>| {
            assert_eq!(complaint(said, &set, restarted).as_deref(), expected, "{said}");
        };
        check("", true, None);
        check("complaint\tarchive_mode\tsetting could not be applied\n", true, None);
        check("complaint\twork_mem\tno\n", true, None);
        check("complaint\tx\ty\ncomplaint\tmaintenance_work_mem\tno\n", false, Some("maintenance_work_mem: no"));
        // Waits for a restart, or could not be had even so.
        check("complaint\tshared_buffers\tsetting could not be applied\n", false, None);
        check("complaint\tshared_buffers\tno\n", true, Some("shared_buffers: no"));
    }

    #[test]
    fn what_is_not_in_effect_is_named() {
        let sets = plan(&Facts::read(FRESH), 2048).unwrap().sets;
        let now = Facts::read(&FRESH.replace("16384\t8kB", "65536\t8kB").replace("524288", "155648"));
        assert_eq!(not_in_effect(&sets, &now), ["work_mem", "maintenance_work_mem"]);
    }
}
