//! What would help. Each kind is a file: a pure function of the facts with its own tests. Nothing is recommended without
//! evidence from this machine, and what can't be seen from outside a container (environment and arguments never leave
//! `lib/docker`) comes with the command that shows it.

pub mod healing_off;
pub mod health_check;
pub mod kernel;
pub mod log_rotation;
pub mod memory_limit;
pub mod no_memory_limit;
pub mod postgres;
pub mod power;
pub mod reclaim;
pub mod redis;
pub mod restart_policy;
pub mod swap;

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::{Container, Facts, Series, ServiceName};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Recommendation {
    /// By which `nexus tune` takes it: its kind and what it is about. The same as long as it is recommended.
    pub id: String,
    pub kind: Kind,
    pub urgency: Urgency,
    /// Null for the machine itself.
    pub project: Option<String>,
    /// Null for the project as a whole.
    pub service: Option<String>,
    /// What to do, in a line.
    pub title: String,
    /// What was seen here that speaks for it.
    pub evidence: Vec<String>,
    /// What it is expected to bring.
    pub gain: String,
    /// Bytes of memory or disk that it frees or puts a bound to, where that is what it brings.
    pub gain_bytes: Option<f64>,
    /// What to see to first: shows what can't be seen from outside.
    pub check: Option<String>,
    /// Lines for compose.override.yml in the folder of the project.
    pub compose: Option<String>,
    /// To be typed in order, in the folder of the project where there is one. `nexus` puts sudo before docker where who asks may not
    /// ask Docker; the service's page and API can't know that, and leave it to who reads.
    pub commands: Vec<String>,
    /// The same for a program: what `nexus tune apply` does. Empty where only the owner can.
    pub changes: Vec<Change>,
}

/// One thing that a recommendation changes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "what", rename_all = "snake_case")]
pub enum Change {
    /// In MiB.
    MemoryLimit {
        service: String,
        mib: u64,
    },
    RestartPolicy {
        service: String,
        policy: String,
    },
    /// For the driver `json-file`.
    LogRotation {
        service: String,
        max_size: String,
        max_files: u32,
    },
    /// The settings of PostgreSQL that fit so much memory.
    Postgres {
        service: String,
        memory_mib: u64,
    },
    Redis {
        service: String,
        maxmemory_mib: u64,
    },
    /// Swap in memory, for the machine.
    Zram,
}

impl Change {
    /// The Compose service that it is about; `None` for the machine.
    pub fn service(&self) -> Option<&str> {
        match self {
            Change::MemoryLimit { service, .. }
            | Change::RestartPolicy { service, .. }
            | Change::LogRotation { service, .. }
            | Change::Postgres { service, .. }
            | Change::Redis { service, .. } => Some(service),
            Change::Zram => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    Power,
    Heat,
    Kernel,
    MemoryLimit,
    NoMemoryLimit,
    Postgres,
    Redis,
    Swap,
    LogRotation,
    Reclaim,
    RestartPolicy,
    HealthCheck,
    HealingOff,
}

impl Kind {
    /// As it stands in an id.
    fn word(self) -> &'static str {
        match self {
            Kind::Power => "power",
            Kind::Heat => "heat",
            Kind::Kernel => "kernel",
            Kind::MemoryLimit => "memory-limit",
            Kind::NoMemoryLimit => "no-memory-limit",
            Kind::Postgres => "postgres",
            Kind::Redis => "redis",
            Kind::Swap => "swap",
            Kind::LogRotation => "log-rotation",
            Kind::Reclaim => "reclaim",
            Kind::RestartPolicy => "restart-policy",
            Kind::HealthCheck => "health-check",
            Kind::HealingOff => "healing-off",
        }
    }

    /// An id: the kind, and what else tells it from its like.
    fn id(self, about: &[&str]) -> String {
        let words: Vec<&str> = std::iter::once(self.word()).chain(about.iter().copied()).collect();
        words.join("/")
    }
}

/// How soon it pays.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Urgency {
    /// It does harm today.
    Now,
    /// It will, or much is gained.
    Soon,
    /// When there is time.
    Sometime,
}

/// All kinds: the most urgent first, of those the kind that brings the most, and within a kind the largest gain.
pub fn recommendations(facts: &Facts) -> Vec<Recommendation> {
    let kinds: [fn(&Facts) -> Vec<Recommendation>; 12] = [
        power::recommend,
        kernel::recommend,
        memory_limit::recommend,
        no_memory_limit::recommend,
        postgres::recommend,
        redis::recommend,
        swap::recommend,
        log_rotation::recommend,
        reclaim::recommend,
        restart_policy::recommend,
        health_check::recommend,
        healing_off::recommend,
    ];
    let mut all: Vec<Recommendation> = kinds.iter().flat_map(|recommend| recommend(facts)).collect();
    if facts.docker_wants_sudo {
        all.iter_mut().for_each(with_sudo);
    }
    let gain = |it: &Recommendation| it.gain_bytes.unwrap_or_default();
    all.sort_by(|a, b| (a.urgency, a.kind).cmp(&(b.urgency, b.kind)).then(gain(b).total_cmp(&gain(a))));
    all
}

/// For who may ask Docker only so.
pub fn with_sudo(it: &mut Recommendation) {
    for command in it.commands.iter_mut().chain(&mut it.check) {
        if is_of_docker(command) {
            // Also where one goes on when another was well.
            *command = format!("sudo {}", command.replace(" && docker ", " && sudo docker "));
        }
    }
}

pub fn is_of_docker(command: &str) -> bool {
    command.starts_with("docker ")
}

/// The running containers of the owner's Compose services. Nexus looks after its own.
fn owners(facts: &Facts) -> impl Iterator<Item = &Container> {
    let all = facts.containers.iter().flatten();
    all.filter(|it| it.state == "running" && !it.service.is_empty() && it.project != facts.stack)
}

/// One container of each service: replicas are alike.
fn services(facts: &Facts) -> impl Iterator<Item = (ServiceName, &Container)> {
    let of = |it| -> (ServiceName, &Container) { (name(it), it) };
    let all: BTreeMap<ServiceName, &Container> = owners(facts).map(of).collect();
    all.into_iter()
}

fn name(container: &Container) -> ServiceName {
    (container.project.clone(), container.service.clone())
}

/// Above that part of the machine a memory limit protects nobody: the kernel, Docker and Nexus itself need the rest.
const LARGEST_LIMIT: f64 = 0.75;

fn largest_limit(facts: &Facts) -> f64 {
    let mib = |bytes: f64| (bytes / 1_048_576.0).floor() * 1_048_576.0;
    facts.machine.memory_total.map_or(f64::INFINITY, |total| mib(total * LARGEST_LIMIT))
}

/// What a service's memory was like.
struct Memory {
    days: f64,
    /// What the history has of it, which sees each peak; Prometheus is asked for one moment of each hour.
    month: Option<Month>,
    /// Anonymous memory: what gets it killed. `None` where only the history knows.
    p99: Option<f64>,
    max: f64,
    /// With the page cache that it uses: what it needs to be fast.
    working_set: f64,
}

/// Of a service's working set.
#[derive(Clone, Copy)]
struct Month {
    days: f64,
    /// 99 of 100 hours are not above it.
    p99: f64,
}

/// From the month in the history, or from what Prometheus remembers if that is longer. `None` when neither knows it.
fn memory(facts: &Facts, service: &ServiceName) -> Option<Memory> {
    let anonymous = facts.measured.service_memory.get(service);
    let seen = facts.measured.service_working_set.get(service);
    let history = facts.history.as_ref().and_then(|history| history.as_ref().ok());
    let month =
        history.and_then(|history| history.memory.iter().find(|it| it.project == service.0 && it.service == service.1));
    let days = seen.map_or(0.0, Series::days);
    let working_set = match (month, seen.and_then(Series::max)) {
        (Some(month), Some(seen)) => month.max.max(seen),
        (Some(month), None) => month.max,
        (None, Some(seen)) => seen,
        (None, None) => return None,
    };
    Some(Memory {
        days: month.map_or(days, |month| month.days.max(days)),
        month: month.map(|month| Month { days: month.days, p99: month.p99 }),
        p99: anonymous.and_then(|series| series.quantile(0.99)),
        max: anonymous.and_then(Series::max).unwrap_or(working_set),
        working_set,
    })
}

/// Processes of a service that the kernel killed for memory.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
struct Kills {
    count: f64,
    /// Only those since then count: the limit was raised, which has answered all before.
    raised: Option<Timestamp>,
}

/// As far back as is known. A counter that begins within that time began at zero, whatever it had counted when it was first looked at.
fn killed(facts: &Facts, (service, container): (&ServiceName, &Container)) -> Kills {
    const ALL_THAT_IS_KNOWN: f64 = 14.9;
    let none = Series::default();
    let of = |series: &'_ BTreeMap<ServiceName, Series>| series.get(service).cloned().unwrap_or_default();
    let counter = facts.measured.service_oom.get(service).unwrap_or(&none);
    let within = [of(&facts.measured.service_oom_most), of(&facts.measured.service_oom_grown)];
    let limits = facts.measured.service_limit.get(service);
    let raised = container.memory_limit.and_then(|limit| raised(limits?, limit, facts.at));
    let all_is_known = counter.days() >= ALL_THAT_IS_KNOWN;
    let hours: BTreeSet<Timestamp> =
        [counter, &within[0], &within[1]].iter().flat_map(|it| it.0.iter()).map(|it| it.0).collect();
    let (mut last, mut count, mut answered) = (None, 0.0, false);
    for hour in hours {
        let at = |series: &Series| series.0.iter().find(|(at, _)| *at == hour).map(|(_, value)| *value);
        let before: Option<f64> = last;
        let now = at(counter);
        last = now.or(before);
        if raised.is_some_and(|since| hour < since) {
            continue;
        }
        let anew = now.filter(|now| before.is_some_and(|before| *now < before));
        // In the hour of the raise nobody knows which came first, but a container that was made anew for it begins at zero; the
        // counter of one whose limit was changed goes on.
        if raised.is_some() && !std::mem::replace(&mut answered, true) {
            count += anew.unwrap_or_default();
            continue;
        }
        // What was counted before all that is known is long ago.
        let zero = if all_is_known { now } else { Some(0.0) };
        let known = before.or(zero).unwrap_or_default();
        let grown = anew.or(now.map(|now| now - known)).unwrap_or_default();
        // A counter that began anew within the hour, such as that of an exporter that was, hides here what it had counted.
        let hidden = at(&within[0]).map_or(0.0, |most| most - known).max(at(&within[1]).unwrap_or_default().round());
        count += grown.max(hidden);
    }
    Kills { count, raised }
}

/// Since when a limit holds that is higher than the one before; `None` where it was not raised. No limit is higher than any.
fn raised(limits: &Series, now: f64, at: Timestamp) -> Option<Timestamp> {
    let height = |limit: f64| if limit > 0.0 { limit } else { f64::INFINITY };
    let (before, _) = limits.0.iter().enumerate().rfind(|(_, (_, limit))| height(*limit) != height(now))?;
    // After the newest value, where it was raised just now.
    let since = limits.0.get(before + 1).map_or(at, |(at, _)| *at);
    let (_, lower) = limits.0.get(before)?;
    (height(*lower) < height(now)).then_some(since)
}

/// The name of an image without registry, tag and digest.
fn image_name(image: &str) -> &str {
    let image = image.split('@').next().unwrap_or_default();
    let last = image.rsplit('/').next().unwrap_or_default();
    last.split(':').next().unwrap_or_default()
}

/// One word for the shell, whatever is in it.
pub fn shell(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./:@".contains(c);
    if !word.is_empty() && word.chars().all(plain) && !word.starts_with('-') {
        return word.to_owned();
    }
    if crate::render::terminal::plain(word) == word {
        return format!("'{}'", word.replace('\'', "'\\''"));
    }
    // Names that can't even be shown as they are: bash's way to write them.
    let escape = |c: char| match c {
        '\'' | '\\' => format!("\\{c}"),
        c if crate::render::terminal::plain(c.encode_utf8(&mut [0; 4])) == c.to_string() => c.to_string(),
        c => format!("\\U{:08x}", u32::from(c)),
    };
    format!("$'{}'", word.chars().map(escape).collect::<String>())
}

/// A key of YAML, whatever is in it.
pub fn yaml_key(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    // `1.5`, `no` or `null` would not be strings.
    let begins = word.starts_with(|c: char| c.is_ascii_alphabetic());
    let is_word = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"].contains(&word.to_lowercase().as_str());
    if begins && !is_word && word.chars().all(plain) {
        return word.to_owned();
    }
    serde_json::to_string(word).unwrap_or_default()
}

/// Services with the lines that each gets.
fn compose<'a>(services: impl IntoIterator<Item = (&'a str, Vec<String>)>) -> String {
    let mut out = String::from("services:\n");
    for (service, lines) in services {
        out.push_str(&format!("  {}:\n", yaml_key(service)));
        out.extend(lines.iter().map(|line| format!("    {line}\n")));
    }
    out
}

/// In whole MiB: all limits are.
fn mib(bytes: f64) -> u64 {
    (bytes / 1_048_576.0).round().max(0.0) as u64
}

fn up<'a>(services: impl IntoIterator<Item = &'a str>) -> String {
    let services: Vec<String> = services.into_iter().map(shell).collect();
    format!("docker compose up -d {}", services.join(" "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::facts::DockerDisk;
    use crate::report::testing::{GIB, MIB, well, worst};

    #[test]
    fn when_all_is_well_there_is_nothing_to_recommend() {
        assert_eq!(recommendations(&well()), []);
    }

    #[test]
    fn each_has_an_id_of_its_own_and_the_largest_gain_of_a_kind_comes_first() {
        let mut facts = worst("photos");
        let disk = |kind: &str, reclaimable| DockerDisk {
            kind: kind.into(),
            bytes: 9.0 * GIB,
            reclaimable,
            objects: 2.0,
            active: 1.0,
        };
        facts.machine.docker_disk =
            vec![disk("images", GIB), disk("volumes", 600.0 * MIB), disk("build_cache", 3.0 * GIB)];
        let all = recommendations(&facts);
        let ids: Vec<&str> = all.iter().map(|it| it.id.as_str()).collect();
        let of_their_own: std::collections::BTreeSet<&&str> = ids.iter().collect();
        assert_eq!(of_their_own.len(), ids.len(), "{ids:?}");
        assert!(ids.contains(&"restart-policy/photos") && ids.contains(&"log-rotation/photos/photos"), "{ids:?}");
        let reclaim: Vec<&str> = ids.iter().filter(|id| id.starts_with("reclaim")).copied().collect();
        assert_eq!(reclaim, ["reclaim/build_cache", "reclaim/images", "reclaim/volumes"]);
        // What a program would do is about the services that the owner would type.
        for it in &all {
            for service in it.changes.iter().filter_map(Change::service) {
                assert!(it.commands.iter().any(|command| command.contains(service)), "{it:?}");
            }
        }
    }

    #[test]
    fn who_may_not_ask_docker_reads_commands_with_sudo() {
        let mut facts = worst("photos");
        // Two services of one project without a health check.
        let mut second = facts.containers.as_ref().unwrap()[0].clone();
        (second.service, second.name, second.health) = ("second".into(), "photos-web-1".into(), "none".into());
        facts.containers.as_mut().unwrap().push(second);
        let commands = |facts: &Facts| -> Vec<String> {
            recommendations(facts).into_iter().flat_map(|it| it.check.into_iter().chain(it.commands)).collect()
        };
        let plain = commands(&facts);
        assert!(plain.iter().any(|command| is_of_docker(command)), "{plain:?}");
        facts.docker_wants_sudo = true;
        let mine = commands(&facts);
        assert!(!mine.iter().any(|command| is_of_docker(command)), "{mine:?}");
        let both = mine.iter().find(|command| command.contains("sudo docker exec photos-web-1")).unwrap();
        assert!(both.matches("docker exec").count() == 2 && !both.contains("&& docker"), "{both}");
        // Once, and nothing else is changed.
        let without = |command: &String| command.replace("sudo docker ", "docker ");
        assert_eq!(mine.iter().map(without).collect::<Vec<_>>(), plain);
        assert!(!mine.iter().any(|command| command.starts_with("sudo sudo")), "{mine:?}");
    }

    #[test]
    fn names_can_not_leave_their_quotes() {
        assert_eq!(shell("photos-web_1.x"), "photos-web_1.x");
        assert_eq!(shell("a'; rm -rf /"), "'a'\\''; rm -rf /'");
        assert_eq!(shell("-f"), "'-f'");
        assert_eq!(shell(""), "''");
        assert_eq!(shell("a\nb'"), "$'a\\U0000000ab\\''");
        assert_eq!(yaml_key("web-1"), "web-1");
        assert_eq!(yaml_key("no"), "\"no\"");
        assert_eq!(yaml_key("a: b\n#\""), "\"a: b\\n#\\\"\"");
    }

    #[test]
    fn images_are_known_by_their_name() {
        let name = super::image_name;
        assert_eq!(name("postgres:17"), "postgres");
        assert_eq!(name("registry.example:5000/team/postgis:16@sha256:00"), "postgis");
        assert_eq!(name(""), "");
    }
}
