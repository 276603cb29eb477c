//! A memory limit that fits: higher where processes are killed for memory or soon will be, lower where most of it is never used.

use super::super::facts::Facts;
use super::super::format::{bytes, compose_mib, count, percent, round_up_mib, times};
use super::{Change, Kind, Recommendation, Urgency, compose, killed, largest_limit, memory, services, shell, up};
use crate::render::terminal::ago;

/// Lowering wants a whole week in the history, which knows the peaks: work of the weekend counts too, and what a service takes for a
/// minute each night.
const LEAST_DAYS_TO_LOWER: f64 = 7.0;
/// And raising a day, unless something was killed.
const LEAST_DAYS_TO_RAISE: f64 = 1.0;
/// From there on a limit is too small.
pub(super) const TIGHT: f64 = 0.85;
/// Of what was ever used: room for what was not seen.
const ROOM: f64 = 1.5;
/// A limit is lowered when half of it is enough, and that much is won.
const LEAST_GAIN: f64 = 64.0 * 1_048_576.0;

pub fn recommend(facts: &Facts) -> Vec<Recommendation> {
    let mut all = Vec::new();
    for (service, container) in services(facts) {
        let Some(limit) = container.memory_limit.filter(|limit| *limit > 0.0) else { continue };
        let Some(memory) = memory(facts, &service) else { continue };
        let kills = killed(facts, (&service, container));
        let killed = kills.count;
        let month = memory.month.filter(|month| month.days >= LEAST_DAYS_TO_LOWER);
        let tight = memory.p99.filter(|p99| *p99 > TIGHT * limit && memory.days >= LEAST_DAYS_TO_RAISE);
        let (wanted, urgency, gain) = if killed > 0.0 || tight.is_some() {
            // What was killed would have grown beyond all that was seen.
            let grown = if killed > 0.0 { limit.max(memory.max) } else { memory.max };
            let urgency = if killed > 0.0 { Urgency::Now } else { Urgency::Soon };
            let wanted = round_up_mib(grown * ROOM).min(largest_limit(facts));
            // It has what the machine can spare.
            if wanted <= limit {
                continue;
            }
            (wanted, urgency, "the kernel kills none of its processes any more".to_owned())
        } else {
            let enough = round_up_mib(memory.working_set.max(memory.max) * ROOM);
            let fits = enough <= limit / 2.0 && limit - enough >= LEAST_GAIN;
            if !fits || month.is_none() {
                continue;
            }
            let gain = format!("{} less that it could take from the others", bytes(limit - enough));
            (enough, Urgency::Sometime, gain)
        };
        let raise = wanted > limit;
        let mut evidence = Vec::new();
        if killed > 0.0 {
            let often = times(killed);
            let when = match kills.raised {
                Some(at) => format!("since its limit was raised ({})", ago(at, facts.at)),
                None => format!("in {}", days(memory.days)),
            };
            evidence.push(format!("the kernel killed a process of it for memory {often} {when}"));
        }
        if let Some(p99) = memory.p99 {
            let part = percent(p99 / limit);
            evidence.push(format!(
                "99 % of hourly values below {} ({part} of its limit of {})",
                bytes(p99),
                bytes(limit)
            ));
        }
        let mostly = month.map_or_else(String::new, |month| format!("99 of 100 hours below {}, ", bytes(month.p99)));
        evidence.push(format!(
            "{mostly}at most {} with its cache, over {}",
            bytes(memory.working_set),
            days(memory.days)
        ));
        if memory.days < LEAST_DAYS_TO_LOWER {
            evidence.push("not a week is known yet: look again later".to_owned());
        }
        let (project, name) = &service;
        let gain_bytes = (wanted < limit).then_some(limit - wanted);
        let mib = compose_mib(wanted);
        let verb = if raise { "Raise" } else { "Lower" };
        all.push(Recommendation {
            id: Kind::MemoryLimit.id(&[project, name]),
            kind: Kind::MemoryLimit,
            urgency,
            project: Some(project.clone()),
            service: Some(name.clone()),
            title: format!("{verb} the memory limit of {project}/{name} from {} to {mib}", compose_mib(limit)),
            evidence,
            gain,
            gain_bytes,
            check: None,
            compose: Some(compose([(name.as_str(), vec![format!("mem_limit: {mib}")])])),
            commands: vec![
                format!("docker update --memory {mib} --memory-swap {mib} {}", shell(&container.name)),
                up([name.as_str()]),
            ],
            changes: vec![Change::MemoryLimit { service: name.clone(), mib: super::mib(wanted) }],
        });
    }
    all
}

fn days(days: f64) -> String {
    match days * 24.0 {
        hours if hours < 1.5 => "the last hour".to_owned(),
        hours if hours < 48.0 => count(format_args!("{hours:.0}"), "hour"),
        _ => count(format_args!("{days:.0}"), "day"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::facts::{History, MemoryUse, Series};
    use crate::report::testing::{MIB, hourly, name, well};

    /// The memory of photos/web, which has a limit of 256 MiB, for so many hours.
    fn used(hours: usize, mib: f64) -> Facts {
        let mut facts = well();
        facts.measured.service_memory = [(name("photos", "web"), hourly(hours, |_| mib * MIB))].into();
        facts.measured.service_working_set = [(name("photos", "web"), hourly(hours, |_| (mib + 10.0) * MIB))].into();
        facts
    }

    fn titles(facts: &Facts) -> Vec<String> {
        recommend(facts).into_iter().map(|found| found.title).collect()
    }

    #[test]
    fn a_limit_that_fits_is_left_alone() {
        assert_eq!(titles(&used(240, 150.0)), [""; 0]);
        // And where nothing is known, nothing is said.
        assert_eq!(titles(&well()), [""; 0]);
    }

    #[test]
    fn a_limit_that_is_tight_is_raised() {
        let found = recommend(&used(240, 230.0));
        assert_eq!(found[0].title, "Raise the memory limit of photos/web from 256m to 384m");
        assert_eq!(found[0].urgency, Urgency::Soon);
        assert_eq!(found[0].id, "memory-limit/photos/web");
        assert_eq!(found[0].changes, [Change::MemoryLimit { service: "web".into(), mib: 384 }]);
        assert_eq!(found[0].evidence[0], "99 % of hourly values below 230 MiB (90 % of its limit of 256 MiB)");
        assert_eq!(found[0].commands[0], "docker update --memory 384m --memory-swap 384m photos-web-1");
        assert_eq!(found[0].compose.as_deref(), Some("services:\n  web:\n    mem_limit: 384m\n"));
        // A day is the least.
        assert_eq!(titles(&used(20, 230.0)), [""; 0]);
    }

    #[test]
    fn what_was_killed_gets_more_however_short_it_is_known() {
        let mut facts = used(5, 100.0);
        facts.measured.service_oom =
            [(name("photos", "web"), hourly(5, |hour| if hour > 2 { 3.0 } else { 1.0 }))].into();
        let found = recommend(&facts);
        assert_eq!(found[0].title, "Raise the memory limit of photos/web from 256m to 384m");
        assert_eq!(found[0].urgency, Urgency::Now);
        assert_eq!(found[0].evidence[0], "the kernel killed a process of it for memory 3 times in 4 hours");
        assert!(found[0].evidence.iter().any(|it| it.contains("not a week is known yet")), "{:?}", found[0].evidence);
        // A counter that has stood still for all the days that are known tells of kills before them.
        facts.measured.service_oom = [(name("photos", "web"), hourly(360, |_| 3.0))].into();
        assert_eq!(titles(&facts), [""; 0]);
        // One that begins later began at zero.
        facts.measured.service_oom = [(name("photos", "web"), hourly(1, |_| 1.0))].into();
        assert_eq!(recommend(&facts)[0].evidence[0], "the kernel killed a process of it for memory once in 4 hours");
    }

    #[test]
    fn a_counter_that_begins_anew_hides_no_kill() {
        let service = || name("photos", "web");
        // The counter at the full hours; the most that it was, and how much it grew, within the last hour.
        let of = |counter: &[f64], most: f64, grown: f64| {
            let hours = counter.len();
            let last = |value: f64| Series(hourly(hours, |_| value).0.into_iter().skip(hours - 1).collect());
            let mut facts = used(hours, 100.0);
            facts.measured.service_oom = [(service(), hourly(hours, |hour| counter[hour]))].into();
            facts.measured.service_oom_most = [(service(), last(most))].into();
            facts.measured.service_oom_grown = [(service(), last(grown))].into();
            recommend(&facts).into_iter().next().map(|it| it.evidence[0].clone())
        };
        let told =
            |often: &str, when: &str| Some(format!("the kernel killed a process of it for memory {often} in {when}"));
        // Killed within the last hour, then the exporter was made anew.
        assert_eq!(of(&[0.0], 1.0, 0.0), told("once", "the last hour"));
        assert_eq!(of(&[0.0, 0.0, 0.0], 1.0, 1.02), told("once", "2 hours"));
        // As much as before again.
        assert_eq!(of(&[0.0, 1.0, 1.0], 1.0, 1.02), told("2 times", "2 hours"));
        // What is counted already counts once.
        assert_eq!(of(&[0.0, 0.0, 1.0], 1.0, 1.02), told("once", "2 hours"));
        assert_eq!(of(&[0.0, 1.0, 1.0], 1.0, 0.0), told("once", "2 hours"));
        assert_eq!(of(&[0.0, 2.0, 0.0], 2.0, 0.0), told("2 times", "2 hours"));
        // Nothing was killed.
        assert_eq!(of(&[0.0, 0.0, 0.0], 0.0, 0.0), None);
    }

    #[test]
    fn kills_before_the_limit_was_raised_are_answered() {
        // Killed twice five hours ago; the limit is what `well` has, 256 MiB.
        let of = |limits: &dyn Fn(usize) -> f64, kills: &dyn Fn(usize) -> f64| {
            let mut facts = used(10, 100.0);
            facts.measured.service_oom = [(name("photos", "web"), hourly(10, kills))].into();
            facts.measured.service_limit = [(name("photos", "web"), hourly(10, |hour| limits(hour) * MIB))].into();
            recommend(&facts).into_iter().next().map(|it| it.evidence[0].clone())
        };
        let told =
            |often: &str, when: &str| Some(format!("the kernel killed a process of it for memory {often} {when}"));
        let twice = |hour: usize| if hour >= 4 { 2.0 } else { 0.0 };
        let anew = |hour: usize| if (4..7).contains(&hour) { 2.0 } else { 0.0 };
        let raised = |hour: usize| if hour >= 7 { 256.0 } else { 64.0 };
        assert_eq!(of(&|_| 256.0, &twice), told("2 times", "in 9 hours"));
        assert_eq!(of(&raised, &twice), None);
        assert_eq!(of(&raised, &anew), None);
        // Just now, before it was looked at again.
        assert_eq!(of(&|_| 64.0, &twice), None);
        // Once more since then, by a container that was made anew or by the same.
        let since = "since its limit was raised (2 h ago)";
        assert_eq!(of(&raised, &|hour| if hour >= 8 { 3.0 } else { twice(hour) }), told("once", since));
        assert_eq!(of(&raised, &|hour| if hour >= 7 { 1.0 } else { twice(hour) }), told("once", since));
        // Lowered, or a limit where there was none, answers nothing.
        assert_eq!(of(&|hour| if hour >= 7 { 256.0 } else { 512.0 }, &twice), told("2 times", "in 9 hours"));
        assert_eq!(of(&|hour| if hour >= 7 { 256.0 } else { 0.0 }, &twice), told("2 times", "in 9 hours"));
    }

    #[test]
    fn no_limit_is_raised_beyond_what_the_machine_can_spare() {
        let check = |mib: f64, killed: f64, limit: f64, expected: &[&str]| {
            let mut facts = used(240, mib);
            facts.containers.as_mut().unwrap()[0].memory_limit = Some(limit * MIB);
            let kills = hourly(240, |hour| if hour > 200 { killed } else { 0.0 });
            facts.measured.service_oom = [(name("photos", "web"), kills)].into();
            assert_eq!(titles(&facts), expected, "{mib} of {limit} MiB");
        };
        // Of 4 GiB.
        check(1950.0, 0.0, 2048.0, &["Raise the memory limit of photos/web from 2048m to 3072m"]);
        check(2500.0, 0.0, 2560.0, &["Raise the memory limit of photos/web from 2560m to 3072m"]);
        check(2500.0, 3.0, 2560.0, &["Raise the memory limit of photos/web from 2560m to 3072m"]);
        check(3000.0, 3.0, 3072.0, &[]);
        check(3900.0, 0.0, 4096.0, &[]);
    }

    #[test]
    fn a_limit_that_is_never_used_is_lowered_after_a_week_with_its_peaks() {
        let of = |days: f64, mib: f64| {
            let mut facts = used(15 * 24, 20.0);
            let of_web =
                |p99: f64, max: f64| MemoryUse { project: "photos".into(), service: "web".into(), days, p99, max };
            let memory = vec![of_web(25.0 * MIB, mib * MIB)];
            facts.history = Some(Ok(History { memory, ..History::default() }));
            facts
        };
        assert_eq!(titles(&of(30.0, 30.0)), ["Lower the memory limit of photos/web from 256m to 48m"]);
        let evidence = "99 of 100 hours below 25 MiB, at most 30 MiB with its cache, over 30 days";
        assert_eq!(recommend(&of(30.0, 30.0))[0].evidence[1], evidence);
        assert_eq!(titles(&of(7.0, 30.0)).len(), 1);
        assert_eq!(titles(&of(6.9, 30.0)), [""; 0]);
        // A peak that Prometheus, asked for one moment an hour, has not seen.
        assert_eq!(titles(&of(30.0, 200.0)), [""; 0]);
        // It alone is no ground for less, however long it remembers.
        assert_eq!(titles(&used(15 * 24, 20.0)), [""; 0]);
    }

    #[test]
    fn nexus_itself_is_none_of_this() {
        let mut facts = used(240, 230.0);
        facts.stack = "photos".into();
        assert_eq!(titles(&facts), [""; 0]);
    }
}
