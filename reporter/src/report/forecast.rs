//! What is about to go wrong. A forecast is no alert and changes no verdict: what is urgent has a rule of its own. How things go
//! on is reckoned in one place, [`capacity`](crate::capacity::forecast): a report says no other date than `nexus capacity`.

use std::collections::BTreeMap;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use schemars::JsonSchema;
use serde::Serialize;

use super::facts::{Facts, Series};
use super::format::{bytes, percent};
use crate::capacity::forecast::{Projection, project};
use crate::capacity::render::in_words;
use crate::capacity::{Answer as Outcome, Outlook, Resource, date, day};

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
    /// Of the machine.
    MemoryFull,
    /// Likewise.
    CpuFull,
    /// Of a service.
    MemoryLimit,
    CardWorn,
    BackupOld,
}

/// Beyond these nobody acts yet.
const HORIZON_DAYS: i64 = 90;
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
    let mut all = resources(facts);
    all.extend(memory(facts));
    all.extend(cards(facts));
    all.extend(backups(facts));
    all.sort_by_key(|forecast| forecast.at);
    all
}

/// The most of each day, as projections take it.
fn daily(series: &Series) -> Vec<(i32, f64)> {
    let mut days: Vec<(i32, f64)> = Vec::new();
    for (at, value) in &series.0 {
        match (days.last_mut(), day(*at)) {
            (Some((last, most)), day) if *last == day => *most = most.max(*value),
            (_, day) => days.push((day, *value)),
        }
    }
    days
}

/// A date as a moment that is on this date in nearly every time zone.
fn noon(date: Date) -> Option<Timestamp> {
    date.at(12, 0, 0, 0).to_zoned(TimeZone::UTC).ok().map(|noon| noon.timestamp())
}

/// So many days after the last one.
fn ahead(days: &[(i32, f64)], ahead: f64, now: Timestamp) -> Option<Timestamp> {
    noon(date(f64::from(days.last()?.0) + ahead.round(), now))
}

/// Disks, memory and processors of the machine, as `nexus capacity` tells them.
fn resources(facts: &Facts) -> Vec<Forecast> {
    let today = facts.at.to_zoned(TimeZone::UTC).date();
    let of = |outlook: &Outlook| {
        let (kind, about) = match outlook.resource {
            Resource::Disk => (ForecastKind::DiskFull, outlook.subject.clone().unwrap_or_default()),
            Resource::Memory => (ForecastKind::MemoryFull, "memory".to_owned()),
            Resource::Cpu => (ForecastKind::CpuFull, "CPU".to_owned()),
        };
        let at = match outlook.answer {
            Outcome::Reached => None,
            Outcome::RunsOut { on, .. } if on <= today.saturating_add(HORIZON_DAYS.days()) => Some(noon(on)?),
            _ => return None,
        };
        Some(Forecast { kind, about, at, text: in_words(outlook) })
    };
    let known = facts.history.iter().flatten().flat_map(|history| &history.outlooks);
    known.filter_map(of).collect()
}

fn memory(facts: &Facts) -> Vec<Forecast> {
    let of = |it: &super::facts::Container| {
        let (used, limit) = (it.memory?, it.memory_limit.filter(|limit| *limit > 0.0)?);
        let name = (it.project.clone(), it.service.clone());
        let days = facts.measured.service_memory.get(&name).map(daily).unwrap_or_default();
        let soon = match project(&days, limit) {
            Projection::RunsOut { per_day, expected, .. } if expected < MEMORY_HORIZON_DAYS => {
                Some((per_day, ahead(&days, expected, facts.at)?))
            }
            _ => None,
        };
        (used >= NEAR_LIMIT * limit || soon.is_some()).then(|| Forecast {
            kind: ForecastKind::MemoryLimit,
            about: if it.service.is_empty() { it.name.clone() } else { format!("{}/{}", it.project, it.service) },
            at: soon.map(|(_, at)| at),
            text: format!(
                "uses {} of its memory limit of {}{}; beyond it the kernel kills it",
                percent(used / limit),
                bytes(limit),
                soon.map_or_else(String::new, |(per_day, _)| format!(" and {} more each day", bytes(per_day)))
            ),
        })
    };
    facts.containers.iter().flatten().filter(|it| it.state == "running").filter_map(of).collect()
}

fn cards(facts: &Facts) -> Vec<Forecast> {
    let of = |card: &super::facts::Card| {
        let told = |at, text| Some(Forecast { kind: ForecastKind::CardWorn, about: card.device.clone(), at, text });
        if let Some(used) = card.life_used.filter(|used| *used >= CARD_LIFE_USED) {
            return told(None, format!("has used {} of its life by its own estimate", percent(used)));
        }
        if card.kind != "SD" {
            return None;
        }
        // An SD card says nothing of its wear: what is written to it is all that can be known.
        // Its size is that of what is written to: the firmware's partition is small.
        let is_written = |device: &str| device == card.device || facts.measured.written.contains_key(device);
        let on_it = facts.machine.filesystems.iter().filter(|it| {
            it.device.strip_prefix("/dev/").is_some_and(|device| device.starts_with(&card.device) && is_written(device))
        });
        let size = on_it.map(|it| it.size).max_by(f64::total_cmp)?;
        let mut written: BTreeMap<i32, f64> = BTreeMap::new();
        for (_, series) in facts.measured.written.iter().filter(|(device, _)| device.starts_with(&card.device)) {
            daily(series).into_iter().for_each(|(day, total)| *written.entry(day).or_default() += total);
        }
        let days: Vec<(i32, f64)> = written.into_iter().collect();
        let bears = size * CARD_OVERWRITES;
        let so_far = days.last()?.1;
        match project(&days, bears) {
            Projection::Reached => told(
                None,
                format!(
                    "{} were written to the card: a usual one of its size bears about {}",
                    bytes(so_far),
                    bytes(bears)
                ),
            ),
            Projection::RunsOut { per_day, expected, .. } if expected < CARD_HORIZON_DAYS => told(
                ahead(&days, expected, facts.at),
                format!(
                    "{} are written to the card each day, {} so far: a usual one of its size bears about {}",
                    bytes(per_day),
                    bytes(so_far),
                    bytes(bears)
                ),
            ),
            _ => None,
        }
    };
    facts.machine.cards.iter().filter_map(of).collect()
}

fn backups(facts: &Facts) -> Vec<Forecast> {
    let old = facts.machine.backups.iter().filter(|backup| {
        let age = facts.at.duration_since(backup.at);
        age > backup.max_age.unwrap_or(BACKUP_AGE)
    });
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
    use crate::report::facts::{Backup, Card, History};
    use crate::report::testing::{GIB, MIB, hourly, name, well};

    fn kinds(facts: &Facts) -> Vec<ForecastKind> {
        forecasts(facts).iter().map(|forecast| forecast.kind).collect()
    }

    #[test]
    fn all_is_well_and_nothing_is_foretold() {
        assert_eq!(forecasts(&well()), []);
    }

    /// A report whose history says that a resource goes on so.
    fn going(resource: Resource, subject: Option<&str>, answer: Outcome) -> Vec<Forecast> {
        let mut facts = well();
        let subject = subject.map(str::to_owned);
        let outlook =
            Outlook { resource, subject, used: Some(80.0 * GIB), total: 100.0 * GIB, limit: 100.0 * GIB, answer };
        facts.history = Some(Ok(History { outlooks: vec![outlook], ..History::default() }));
        forecasts(&facts)
    }

    fn runs_out(days: i64) -> Outcome {
        let on = |days: i64| well().at.to_zoned(TimeZone::UTC).date().saturating_add(days.days());
        let (earliest, latest) = (on(days - 3), Some(on(days + 4)));
        Outcome::RunsOut { on: on(days), interval_percent: 80, earliest, latest, per_day: 0.5 * GIB }
    }

    #[test]
    fn what_runs_out_soon_has_the_date_that_the_capacity_says() {
        let found = going(Resource::Disk, Some("/mnt/data"), runs_out(40));
        assert_eq!((found[0].about.as_str(), found[0].kind), ("/mnt/data", ForecastKind::DiskFull));
        assert_eq!(found[0].at.unwrap().to_string(), "2027-02-24T12:00:00Z");
        assert_eq!(
            found[0].text,
            "80 % of 100 GiB; runs out on 2027-02-24 (80 %: 2027-02-21 to 2027-02-28), grows by 512 MiB a day"
        );
        // Ninety days are what anybody acts on.
        assert_eq!(going(Resource::Disk, Some("/"), runs_out(90)).len(), 1);
        assert_eq!(going(Resource::Disk, Some("/"), runs_out(91)), []);
        assert_eq!(going(Resource::Memory, None, runs_out(10))[0].kind, ForecastKind::MemoryFull);
        let reached = going(Resource::Cpu, None, Outcome::Reached);
        assert_eq!((reached[0].about.as_str(), reached[0].at), ("CPU", None));
    }

    #[test]
    fn what_goes_on_otherwise_is_not_told() {
        for answer in [
            Outcome::NoTrend,
            Outcome::Falling { per_day: -1.0 },
            Outcome::NotWithin { years: 3, per_day: 1.0 },
            Outcome::TooLittleHistory { days: 3, needed: 14 },
        ] {
            assert_eq!(going(Resource::Disk, Some("/"), answer.clone()), [], "{answer:?}");
        }
    }

    #[test]
    fn memory_close_to_its_limit_is_told_with_a_date_if_it_grows() {
        let mut facts = well();
        facts.containers.as_mut().unwrap()[0].memory = Some(230.0 * MIB);
        let found = forecasts(&facts);
        assert_eq!(found[0].text, "uses 90 % of its memory limit of 256 MiB; beyond it the kernel kills it");
        assert_eq!((found[0].about.as_str(), found[0].at), ("photos/web", None));
        // Ten MiB a day, of which 256 are reached in three days; half of them is no hurry, and three days are no trend.
        let leak = |days: usize, per_day: f64| {
            let mut facts = well();
            facts.containers.as_mut().unwrap()[0].memory = Some(200.0 * MIB);
            let series = hourly(days * 24, |hour| (226.0 - (days * 24 - 1 - hour) as f64 / 24.0 * per_day) * MIB);
            facts.measured.service_memory = [(name("photos", "web"), series)].into();
            forecasts(&facts)
        };
        let found = leak(15, 10.0);
        let days = found[0].at.unwrap().duration_since(facts.at).as_hours() as f64 / 24.0;
        assert!((2.0..=4.5).contains(&days), "{found:?}");
        assert_eq!(
            found[0].text,
            "uses 78 % of its memory limit of 256 MiB and 10 MiB more each day; beyond it the kernel kills it"
        );
        assert_eq!((leak(15, 2.0), leak(3, 10.0)), (Vec::new(), Vec::new()));
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
            let series = hourly(15 * 24, |hour| hour as f64 / 24.0 * per_day);
            std::collections::BTreeMap::from([("mmcblk0p2".to_owned(), series)])
        };
        facts.measured.written = written(20.0 * GIB);
        assert_eq!(forecasts(&facts), []);
        facts.measured.written = written(40.0 * GIB);
        assert_eq!(kinds(&facts), [ForecastKind::CardWorn]);
        assert!(forecasts(&facts)[0].text.starts_with("40 GiB are written to the card each day, 598 GiB so far"));
        // More than it bears.
        facts.measured.written = written(2000.0 * GIB);
        assert_eq!((kinds(&facts), forecasts(&facts)[0].at), (vec![ForecastKind::CardWorn], None));
        // An eMMC speaks for itself.
        facts.machine.cards = vec![card("MMC", Some(0.3))];
        assert_eq!(forecasts(&facts), []);
        facts.machine.cards = vec![card("MMC", Some(0.9))];
        assert_eq!(forecasts(&facts)[0].text, "has used 90 % of its life by its own estimate");
    }

    #[test]
    fn a_backup_that_is_known_grows_old() {
        let check = |hours: i64, max_age: Option<i64>, expected: &[ForecastKind]| {
            let mut facts = well();
            let at = facts.at - SignedDuration::from_hours(hours);
            let name = "restic_backup_success_timestamp_seconds".to_owned();
            facts.machine.backups = vec![Backup { name, at, max_age: max_age.map(SignedDuration::from_hours) }];
            assert_eq!(kinds(&facts), expected);
        };
        check(25, None, &[]);
        check(27, None, &[ForecastKind::BackupOld]);
        check(27, Some(192), &[]);
        check(193, Some(192), &[ForecastKind::BackupOld]);
        check(3, Some(2), &[ForecastKind::BackupOld]);
    }
}
