//! What was measured before something was applied and what is now, and what that says: a gain, none, or nothing yet. Pure.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use nexus_reporter::report::facts::{Facts, Series, ServiceName};
use nexus_reporter::report::format::{bytes, percent, times};
use serde::{Deserialize, Serialize};

use super::ledger::{Done, Record};
use super::postgres::Blocks;

/// Less tells nothing of a service that has its days and its nights.
const A_DAY: SignedDuration = SignedDuration::from_hours(24);
/// Swap fills again within that.
const AN_HOUR: SignedDuration = SignedDuration::from_hours(1);
/// A ratio of fewer blocks is chance.
const LEAST_BLOCKS: u64 = 10_000;
/// Less than a point of the hit ratio, or a tenth of the reading, nobody notices.
const RATIO_STEP: f64 = 0.01;
const PART_STEP: f64 = 0.1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Measure {
    pub memory_in_use: Option<f64>,
    pub swap_in_use: Option<f64>,
    /// In swap that is no memory.
    pub swap_on_disk: Option<f64>,
    pub services: BTreeMap<String, ServiceMeasure>,
    #[serde(default)]
    pub blocks: Option<Blocks>,
    #[serde(default)]
    pub redis: Option<RedisMeasure>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceMeasure {
    /// Anonymous memory: what 99 of 100 hours do not exceed.
    pub memory_p99: Option<f64>,
    pub memory_now: Option<f64>,
    /// `Some(0.0)`: none.
    pub memory_limit: Option<f64>,
    /// Processes that the kernel killed for memory in the time that is looked at.
    pub killed: Option<f64>,
    pub log_bytes: Option<f64>,
    pub reads_a_day: Option<f64>,
    pub restart_policy: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RedisMeasure {
    pub used: u64,
    pub maxmemory: u64,
    pub evicted: u64,
}

/// From the facts of a report: of all that is remembered, or only of what came after a moment.
pub fn measure(facts: &Facts, project: Option<&str>, services: &[&str], since: Option<Timestamp>) -> Measure {
    let machine = &facts.machine;
    let difference = |whole: Option<f64>, free: Option<f64>| Some(whole? - free?);
    let on_disk = |swaps: &Vec<nexus_reporter::report::facts::Swap>| {
        swaps.iter().filter(|swap| !swap.name.starts_with("/dev/zram")).map(|swap| swap.used).sum()
    };
    let of = |service: &&str| {
        let name = (project.unwrap_or_default().to_owned(), (*service).to_owned());
        ((*service).to_owned(), of_service(facts, &name, since))
    };
    Measure {
        memory_in_use: difference(machine.memory_total, machine.memory_available),
        swap_in_use: difference(machine.swap_total, machine.swap_free),
        swap_on_disk: machine.swaps.as_ref().map(on_disk),
        services: services.iter().map(of).collect(),
        blocks: None,
        redis: None,
    }
}

fn of_service(facts: &Facts, name: &ServiceName, since: Option<Timestamp>) -> ServiceMeasure {
    let containers = || facts.containers.iter().flatten().filter(|it| (&it.project, &it.service) == (&name.0, &name.1));
    let largest = |values: Vec<f64>| values.into_iter().max_by(f64::total_cmp);
    let after = |series: Option<&Series>| {
        let mut series = series.cloned().unwrap_or_default();
        series.0.retain(|(at, _)| since.is_none_or(|since| *at >= since));
        series
    };
    let reads = after(facts.measured.service_reads.get(name));
    let killed = after(facts.measured.service_oom.get(name));
    ServiceMeasure {
        memory_p99: after(facts.measured.service_memory.get(name)).quantile(0.99),
        memory_now: largest(containers().filter_map(|it| it.memory).collect()),
        memory_limit: largest(containers().filter_map(|it| it.memory_limit).collect()),
        // A container that is new since then began at zero.
        killed: killed.0.first().map(|(_, first)| killed.increase() + if since.is_some() { *first } else { 0.0 }),
        log_bytes: {
            let all: Vec<f64> = containers().filter_map(|it| it.log_bytes).collect();
            (!all.is_empty()).then(|| all.iter().sum())
        },
        reads_a_day: (reads.span() >= A_DAY).then(|| reads.increase() / reads.days()),
        restart_policy: containers().find_map(|it| it.restart_policy.clone()),
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    Gain,
    NoChange,
    Worse,
    TooEarly,
    Unknown,
}

impl Verdict {
    pub fn words(self) -> &'static str {
        match self {
            Verdict::Gain => "gain",
            Verdict::NoChange => "no change",
            Verdict::Worse => "worse",
            Verdict::TooEarly => "too early to tell",
            Verdict::Unknown => "not known",
        }
    }
}

/// What was gained, with the figures that say so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outcome {
    pub verdict: Verdict,
    pub lines: Vec<String>,
}

/// `now`: measured since it was applied.
pub fn outcome(record: &Record, now: &Measure, at: Timestamp) -> Outcome {
    let passed = at.duration_since(record.applied_at);
    let before = &record.before;
    let found: Vec<(Verdict, String)> = match &record.done {
        Done::Compose(done) => done
            .services
            .iter()
            .flat_map(|(service, settings)| {
                let none = ServiceMeasure::default();
                let (was, is) =
                    (before.services.get(service).unwrap_or(&none), now.services.get(service).unwrap_or(&none));
                let mut found = Vec::new();
                found.extend(settings.memory_limit_mib.map(|_| limit(was, is, passed)));
                found.extend(settings.restart.as_ref().map(|wanted| restart(wanted, is)));
                found.extend(settings.log.as_ref().map(|_| log(was, is)));
                found.into_iter().map(move |(verdict, line)| (verdict, format!("{service}: {line}")))
            })
            .collect(),
        Done::Postgres(done) => {
            let service = |measure: &Measure| measure.services.get(&done.service).and_then(|it| it.reads_a_day);
            vec![hits(before.blocks, now.blocks, passed), reads(service(before), service(now), passed)]
        }
        Done::Redis(_) => vec![redis(before.redis, now.redis, passed)],
        Done::Zram(_) => vec![swap(before, now, passed)],
    };
    // One that got worse must not hide behind one that gained.
    let order = [Verdict::Worse, Verdict::Gain, Verdict::TooEarly, Verdict::NoChange, Verdict::Unknown];
    let verdict =
        order.into_iter().find(|it| found.iter().any(|(verdict, _)| verdict == it)).unwrap_or(Verdict::Unknown);
    let mut lines: Vec<String> = found.into_iter().map(|(_, line)| line).collect();
    if verdict == Verdict::TooEarly {
        lines.push("look again later: ./nexus tune result".into());
    }
    Outcome { verdict, lines }
}

fn size(value: Option<f64>) -> String {
    value.map_or_else(|| "not known".into(), bytes)
}

fn limit(was: &ServiceMeasure, is: &ServiceMeasure, passed: SignedDuration) -> (Verdict, String) {
    let shown = |limit: Option<f64>| match limit {
        Some(0.0) => "none".to_owned(),
        limit => size(limit),
    };
    let line = format!("limit {} before, {} now", shown(was.memory_limit), shown(is.memory_limit));
    let used = |it: &ServiceMeasure| size(it.memory_p99.or(it.memory_now));
    let line = format!("{line}; uses {} (before {})", used(is), used(was));
    let Some(limit) = is.memory_limit else { return (Verdict::Unknown, line) };
    if let Some(killed) = is.killed.filter(|killed| *killed > 0.0) {
        return (Verdict::Worse, format!("{line}; killed for memory {} since: it needs more", times(killed)));
    }
    let unlimited = was.memory_limit == Some(0.0);
    let lower = was.memory_limit.is_some_and(|before| before > limit && limit > 0.0);
    if limit == 0.0 || was.memory_limit == Some(limit) {
        return (Verdict::NoChange, line);
    }
    if passed < A_DAY {
        return (Verdict::TooEarly, format!("{line}; whether it is enough, a day shows"));
    }
    let gained = if unlimited {
        "a leak of it ends with it".to_owned()
    } else if lower {
        format!("{} less that it could take", size(was.memory_limit.map(|before| before - limit)))
    } else {
        match was.killed {
            Some(killed) if killed > 0.0 => format!("none killed since, {killed:.0} in the time before"),
            _ => "none killed since".to_owned(),
        }
    };
    (Verdict::Gain, format!("{line}; {gained}"))
}

fn restart(wanted: &str, is: &ServiceMeasure) -> (Verdict, String) {
    match is.restart_policy.as_deref() {
        Some(policy) if policy == wanted => (Verdict::Gain, format!("starts again by itself now ({policy})")),
        Some(policy) => (Verdict::NoChange, format!("its restart policy is {policy}, not {wanted}")),
        None => (Verdict::Unknown, "its restart policy could not be asked".into()),
    }
}

fn log(was: &ServiceMeasure, is: &ServiceMeasure) -> (Verdict, String) {
    let line = format!("log {} before, {} now", size(was.log_bytes), size(is.log_bytes));
    match (was.log_bytes, is.log_bytes) {
        (Some(before), Some(now)) if now < before => (Verdict::Gain, format!("{line}, and bounded")),
        (Some(_), Some(_)) => (Verdict::NoChange, line),
        _ => (Verdict::Unknown, line),
    }
}

fn hits(was: Option<Blocks>, is: Option<Blocks>, passed: SignedDuration) -> (Verdict, String) {
    let ratio = |blocks: Blocks| {
        let all = blocks.hit.saturating_add(blocks.read);
        (all >= LEAST_BLOCKS).then(|| blocks.hit as f64 / all as f64)
    };
    let (Some(was), Some(is)) = (was, is) else { return (Verdict::Unknown, "its hit ratio could not be asked".into()) };
    // Counted since then; where they began anew (a crash, a reset) all of it is since then.
    let since = match (is.hit.checked_sub(was.hit), is.read.checked_sub(was.read)) {
        (Some(hit), Some(read)) => Blocks { hit, read },
        _ => is,
    };
    let shown = |ratio: Option<f64>| ratio.map_or_else(|| "not known".into(), |it| format!("{:.1} %", it * 100.0));
    let (before, now) = (ratio(was), ratio(since));
    let line = format!("blocks found in its buffers: {} before, {} since", shown(before), shown(now));
    match (before, now) {
        _ if passed < A_DAY => (Verdict::TooEarly, line),
        (Some(before), Some(now)) if now >= before + RATIO_STEP => (Verdict::Gain, line),
        (Some(before), Some(now)) if now <= before - RATIO_STEP => (Verdict::Worse, line),
        (Some(_), Some(_)) => (Verdict::NoChange, line),
        _ => (Verdict::Unknown, format!("{line} (too little was read)")),
    }
}

fn reads(was: Option<f64>, is: Option<f64>, passed: SignedDuration) -> (Verdict, String) {
    let line = format!("read from disk each day: {} before, {} since", size(was), size(is));
    match (was, is) {
        _ if passed < A_DAY => (Verdict::TooEarly, line),
        (Some(before), Some(now)) if now <= before * (1.0 - PART_STEP) => {
            (Verdict::Gain, format!("{line} ({} less)", percent(1.0 - now / before)))
        }
        (Some(before), Some(now)) if now >= before * (1.0 + PART_STEP) => (Verdict::Worse, line),
        (Some(_), Some(_)) => (Verdict::NoChange, line),
        _ => (Verdict::Unknown, line),
    }
}

fn redis(was: Option<RedisMeasure>, is: Option<RedisMeasure>, passed: SignedDuration) -> (Verdict, String) {
    let Some(is) = is else { return (Verdict::Unknown, "it could not be asked".into()) };
    let bound =
        if is.maxmemory == 0 { "no bound".to_owned() } else { format!("a bound of {}", bytes(is.maxmemory as f64)) };
    // It counts from its start.
    let evicted = was.map_or(is.evicted, |was| is.evicted.checked_sub(was.evicted).unwrap_or(is.evicted));
    let before = was.map_or_else(|| "not known".into(), |was| bytes(was.used as f64));
    let line = format!("holds {} of {bound} (before {before}), dropped {evicted} keys since", bytes(is.used as f64));
    if is.maxmemory == 0 {
        return (
            Verdict::NoChange,
            format!("{line}: it has forgotten the bound, see its command in your compose file"),
        );
    }
    if passed < A_DAY {
        return (Verdict::TooEarly, line);
    }
    (Verdict::Gain, format!("{line}; it can't outgrow that any more"))
}

fn swap(before: &Measure, now: &Measure, passed: SignedDuration) -> (Verdict, String) {
    let line = format!(
        "swap in use on disk {} before, {} now; in all {} before, {} now",
        size(before.swap_on_disk),
        size(now.swap_on_disk),
        size(before.swap_in_use),
        size(now.swap_in_use)
    );
    match (before.swap_on_disk, now.swap_on_disk) {
        (Some(before), Some(now)) if now < before * (1.0 - PART_STEP) => (Verdict::Gain, line),
        (Some(_), Some(_)) if passed < AN_HOUR => (Verdict::TooEarly, line),
        (Some(0.0), Some(0.0)) if now.swap_in_use.is_some_and(|used| used > 0.0) => {
            (Verdict::Gain, format!("{line}; what is not used is compressed now"))
        }
        (Some(_), Some(_)) => (Verdict::NoChange, line),
        _ => (Verdict::Unknown, line),
    }
}

#[cfg(test)]
mod tests;
