//! What is about to go wrong. A forecast is no alert and changes no verdict: what is urgent has a rule of its own.

use jiff::{SignedDuration, Timestamp};
use schemars::JsonSchema;
use serde::Serialize;

use super::facts::{Facts, Series};
use super::format::{bytes, percent};

#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
pub struct Forecast {
    pub kind: ForecastKind,
    /// A mount point, a service, a card, a backup.
    pub about: String,
    /// When it comes to it, at the present pace; null where it is there already, or no date can be told.
    #[schemars(with = "Option<String>")]
    pub at: Option<Timestamp>,
    /// For people, with what it rests on.
    pub text: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ForecastKind {
    DiskFull,
    MemoryLimit,
    CardWorn,
    BackupOld,
}

/// A pace is told from what at least a day shows: within one everything has its ups and downs.
const LEAST_HOURS: i64 = 24;
/// What grows for a week is a trend; older paces are over.
const PACE_OF_DAYS: i64 = 7;
/// How much of the ups and downs a line must explain, for its end to be believed.
const LEAST_FIT: f64 = 0.6;
/// Beyond these nobody acts yet.
const DISK_HORIZON_DAYS: f64 = 90.0;
const MEMORY_HORIZON_DAYS: f64 = 7.0;
const CARD_HORIZON_DAYS: f64 = 2.0 * 365.0;
/// As the rule ContainerMemoryNearLimit has 90 %: what is told here is a little earlier.
const NEAR_LIMIT: f64 = 0.85;
/// How often all of a card can be written over: what makers of consumer cards (TLC flash) give, if they give anything.
const CARD_OVERWRITES: f64 = 500.0;
/// An eMMC estimates in tenths.
const CARD_LIFE_USED: f64 = 0.8;
/// A day, and time for a slow one.
const BACKUP_AGE: SignedDuration = SignedDuration::from_hours(26);

/// The soonest first; what is there already before all.
pub fn forecasts(facts: &Facts) -> Vec<Forecast> {
    let mut all = disks(facts);
    all.extend(memory(facts));
    all.extend(cards(facts));
    all.extend(backups(facts));
    all.sort_by_key(|forecast| forecast.at);
    all
}

/// A straight line through the last days.
#[derive(Debug, PartialEq)]
struct Pace {
    per_day: f64,
    /// How much of the variance it explains, 0 to 1.
    fit: f64,
    days: f64,
}

/// `None` where the series is too short.
fn pace(series: &Series) -> Option<Pace> {
    let (end, _) = series.0.last()?;
    let since = *end - SignedDuration::from_hours(24 * PACE_OF_DAYS);
    let points: Vec<(f64, f64)> = series
        .0
        .iter()
        .filter(|(at, _)| *at >= since)
        .map(|(at, value)| (at.duration_since(*end).as_secs_f64() / 86_400.0, *value))
        .collect();
    let days = -points.first()?.0;
    if days * 24.0 < LEAST_HOURS as f64 || (points.len() as i64) < LEAST_HOURS / 2 {
        return None;
    }
    let count = points.len() as f64;
    let mean = |pick: fn(&(f64, f64)) -> f64| points.iter().map(pick).sum::<f64>() / count;
    let (mean_x, mean_y) = (mean(|point| point.0), mean(|point| point.1));
    let sum = |of: &dyn Fn(f64, f64) -> f64| points.iter().map(|(x, y)| of(x - mean_x, y - mean_y)).sum::<f64>();
    let (xx, xy, yy) = (sum(&|x, _| x * x), sum(&|x, y| x * y), sum(&|_, y| y * y));
    if xx <= 0.0 || yy <= 0.0 {
        return None;
    }
    Some(Pace { per_day: xy / xx, fit: xy * xy / (xx * yy), days })
}

fn after(now: Timestamp, days: f64) -> Option<Timestamp> {
    now.checked_add(SignedDuration::try_from_secs_f64(days * 86_400.0).ok()?).ok()
}

fn disks(facts: &Facts) -> Vec<Forecast> {
    let of = |it: &super::facts::Filesystem| {
        let pace = pace(facts.measured.available.get(&it.mountpoint)?)?;
        let days = it.available / -pace.per_day;
        let soon = pace.per_day < 0.0 && pace.fit >= LEAST_FIT && days < DISK_HORIZON_DAYS;
        soon.then(|| Forecast {
            kind: ForecastKind::DiskFull,
            about: it.mountpoint.clone(),
            at: after(facts.at, days),
            text: format!(
                "full at the pace of the last {:.0} days: {} left, {} less each day",
                pace.days.max(1.0),
                bytes(it.available),
                bytes(-pace.per_day)
            ),
        })
    };
    let root = facts.machine.filesystems.iter().find(|it| it.mountpoint == "/").map(|it| it.device.as_str());
    let once = |it: &&super::facts::Filesystem| it.mountpoint == "/" || Some(it.device.as_str()) != root;
    facts.machine.filesystems.iter().filter(|it| !it.read_only).filter(once).filter_map(of).collect()
}

fn memory(facts: &Facts) -> Vec<Forecast> {
    let of = |it: &super::facts::Container| {
        let (used, limit) = (it.memory?, it.memory_limit.filter(|limit| *limit > 0.0)?);
        let name = (it.project.clone(), it.service.clone());
        let pace = facts.measured.service_memory.get(&name).and_then(pace).filter(|pace| pace.fit >= LEAST_FIT);
        let days = pace.as_ref().filter(|pace| pace.per_day > 0.0).map(|pace| (limit - used) / pace.per_day);
        let days = days.filter(|days| *days < MEMORY_HORIZON_DAYS);
        let grows = pace.as_ref().filter(|_| days.is_some());
        (used >= NEAR_LIMIT * limit || days.is_some()).then(|| Forecast {
            kind: ForecastKind::MemoryLimit,
            about: if it.service.is_empty() { it.name.clone() } else { format!("{}/{}", it.project, it.service) },
            at: days.and_then(|days| after(facts.at, days)),
            text: format!(
                "uses {} of its memory limit of {}{}; beyond it the kernel kills it",
                percent(used / limit),
                bytes(limit),
                grows.map_or_else(String::new, |pace| format!(" and {} more each day", bytes(pace.per_day)))
            ),
        })
    };
    facts.containers.iter().flatten().filter(|it| it.state == "running").filter_map(of).collect()
}

fn cards(facts: &Facts) -> Vec<Forecast> {
    let of = |card: &super::facts::Card| {
        let told = |at, text| Forecast { kind: ForecastKind::CardWorn, about: card.device.clone(), at, text };
        if let Some(used) = card.life_used.filter(|used| *used >= CARD_LIFE_USED) {
            return Some(told(None, format!("has used {} of its life by its own estimate", percent(used))));
        }
        if card.kind != "SD" {
            return None;
        }
        // An SD card says nothing of its wear: what is written to it is all that can be known.
        let on_it = facts.machine.filesystems.iter().filter(|it| it.device.contains(&card.device));
        let size: f64 = on_it.map(|it| it.size).fold(0.0, f64::max);
        let written = facts.measured.written.iter().filter(|(device, _)| device.starts_with(&card.device));
        let (mut so_far, mut per_day) = (0.0, 0.0);
        for (_, series) in written {
            so_far += series.0.last().map_or(0.0, |(_, total)| *total);
            per_day += pace(series).map_or(0.0, |pace| pace.per_day.max(0.0));
        }
        let days = (size * CARD_OVERWRITES - so_far).max(0.0) / per_day;
        (size > 0.0 && per_day > 0.0 && days < CARD_HORIZON_DAYS).then(|| {
            let text = format!(
                "{} are written to the card each day, {} so far: a usual one of its size bears about {}",
                bytes(per_day),
                bytes(so_far),
                bytes(size * CARD_OVERWRITES)
            );
            told(after(facts.at, days), text)
        })
    };
    facts.machine.cards.iter().filter_map(of).collect()
}

fn backups(facts: &Facts) -> Vec<Forecast> {
    let old = facts.machine.backups.iter().filter(|backup| facts.at.duration_since(backup.at) > BACKUP_AGE);
    old.map(|backup| Forecast {
        kind: ForecastKind::BackupOld,
        about: backup.name.clone(),
        at: None,
        text: format!("the last good backup is {} h old", facts.at.duration_since(backup.at).as_hours()),
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::facts::{Backup, Card};
    use crate::report::testing::{GIB, MIB, hourly, name, well};

    fn kinds(facts: &Facts) -> Vec<ForecastKind> {
        forecasts(facts).iter().map(|forecast| forecast.kind).collect()
    }

    #[test]
    fn all_is_well_and_nothing_is_foretold() {
        assert_eq!(forecasts(&well()), []);
    }

    #[test]
    fn a_disk_that_fills_up_has_a_date() {
        let filling = |hours: usize, per_day: f64| {
            let mut facts = well();
            facts.machine.filesystems[0].available = 10.0 * GIB;
            let series = hourly(hours, |hour| 10.0 * GIB + (hours - 1 - hour) as f64 / 24.0 * per_day);
            facts.measured.available = [("/".to_owned(), series)].into();
            forecasts(&facts)
        };
        let found = filling(73, GIB);
        assert_eq!(found[0].at, Some(well().at + SignedDuration::from_hours(240)));
        assert_eq!(found[0].text, "full at the pace of the last 3 days: 10 GiB left, 1.0 GiB less each day");
        // Half a day is no pace, a year is no hurry, and what gets freer is none at all.
        assert_eq!(filling(12, GIB), []);
        assert_eq!(filling(73, GIB / 36.5), []);
        assert_eq!(filling(73, -GIB), []);
    }

    #[test]
    fn ups_and_downs_are_no_trend() {
        let mut facts = well();
        facts.machine.filesystems[0].available = GIB;
        let saw = hourly(100, |hour| GIB * (1.0 + (hour % 10) as f64));
        facts.measured.available = [("/".to_owned(), saw)].into();
        assert_eq!(forecasts(&facts), []);
        // Nor is what does not change at all.
        facts.measured.available = [("/".to_owned(), hourly(100, |_| GIB))].into();
        assert_eq!(forecasts(&facts), []);
    }

    #[test]
    fn memory_close_to_its_limit_is_told_with_a_date_if_it_grows() {
        let mut facts = well();
        facts.containers.as_mut().unwrap()[0].memory = Some(230.0 * MIB);
        let found = forecasts(&facts);
        assert_eq!(found[0].text, "uses 90 % of its memory limit of 256 MiB; beyond it the kernel kills it");
        assert_eq!((found[0].about.as_str(), found[0].at), ("photos/web", None));
        facts.containers.as_mut().unwrap()[0].memory = Some(156.0 * MIB);
        let leak = hourly(49, |hour| (56.0 + hour as f64 / 24.0 * 50.0) * MIB);
        facts.measured.service_memory = [(name("photos", "web"), leak)].into();
        assert_eq!(forecasts(&facts)[0].at, Some(facts.at + SignedDuration::from_hours(48)));
        facts.containers.as_mut().unwrap()[0].memory_limit = Some(0.0);
        assert_eq!(forecasts(&facts), []);
    }

    #[test]
    fn a_card_is_judged_by_what_is_written_to_it() {
        let card = |kind: &str, life_used| Card { device: "mmcblk0".into(), kind: kind.into(), life_used };
        let mut facts = well();
        facts.machine.cards = vec![card("SD", None)];
        // 32 GiB bear 16 TiB: 20 GiB a day are little, 40 GiB are two years' worth in 400 days.
        let written = |per_day: f64| {
            let series = hourly(73, |hour| hour as f64 / 24.0 * per_day);
            std::collections::BTreeMap::from([("mmcblk0p2".to_owned(), series)])
        };
        facts.measured.written = written(20.0 * GIB);
        assert_eq!(forecasts(&facts), []);
        facts.measured.written = written(40.0 * GIB);
        assert_eq!(kinds(&facts), [ForecastKind::CardWorn]);
        // An eMMC speaks for itself.
        facts.machine.cards = vec![card("MMC", Some(0.3))];
        assert_eq!(forecasts(&facts), []);
        facts.machine.cards = vec![card("MMC", Some(0.9))];
        assert_eq!(forecasts(&facts)[0].text, "has used 90 % of its life by its own estimate");
    }

    #[test]
    fn a_backup_that_is_known_grows_old() {
        let check = |hours: i64, expected: &[ForecastKind]| {
            let mut facts = well();
            let at = facts.at - SignedDuration::from_hours(hours);
            facts.machine.backups = vec![Backup { name: "restic_backup_success_timestamp_seconds".into(), at }];
            assert_eq!(kinds(&facts), expected);
        };
        check(25, &[]);
        check(27, &[ForecastKind::BackupOld]);
    }
}
