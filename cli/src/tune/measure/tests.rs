use nexus_reporter::report::recommend::Change;

use super::super::compose;
use super::super::ledger::tests::record as any;
use super::super::ledger::{RedisDone, State};
use super::super::overrides::settings;
use super::super::redis::Values;
use super::*;

const MIB: f64 = 1_048_576.0;

fn hours(hours: i64) -> Timestamp {
    Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours)
}

/// Applied at the beginning of time.
fn record(done: Done, before: Measure) -> Record {
    Record { done, before, ..any(1, State::Applied) }
}

fn composed(change: Change) -> Done {
    Done::Compose(compose::Done {
        project: "p".into(),
        working_dir: "/p".into(),
        env_files: Vec::new(),
        files: Vec::new(),
        file: "/p/compose.override.yml".into(),
        automatic: true,
        services: settings(&[change]),
    })
}

fn web(measure: ServiceMeasure) -> Measure {
    Measure { services: [("web".to_owned(), measure)].into(), ..Measure::default() }
}

fn limited(mib: f64, killed: f64) -> Measure {
    let killed = Some(killed);
    web(ServiceMeasure {
        memory_limit: Some(mib * MIB),
        memory_p99: Some(40.0 * MIB),
        killed,
        ..ServiceMeasure::default()
    })
}

#[test]
fn a_limit_is_a_gain_once_it_has_held_for_a_day() {
    let done = composed(Change::MemoryLimit { service: "web".into(), mib: 64 });
    let check = |before: Measure, now: Measure, after: i64, verdict: Verdict, words: &str| {
        let outcome = outcome(&record(done.clone(), before), &now, hours(after));
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
        assert!(outcome.lines[0].contains(words), "{outcome:?}");
    };
    check(limited(0.0, 0.0), limited(64.0, 0.0), 25, Verdict::Gain, "limit none before, 64 MiB now");
    check(limited(0.0, 0.0), limited(64.0, 0.0), 23, Verdict::TooEarly, "a day shows");
    check(limited(256.0, 0.0), limited(64.0, 0.0), 25, Verdict::Gain, "192 MiB less");
    check(limited(32.0, 3.0), limited(64.0, 0.0), 25, Verdict::Gain, "none killed since, 3 in the time before");
    check(limited(0.0, 0.0), limited(64.0, 2.0), 1, Verdict::Worse, "killed for memory 2 times");
    check(limited(0.0, 0.0), limited(0.0, 0.0), 25, Verdict::NoChange, "none now");
    check(limited(0.0, 0.0), Measure::default(), 25, Verdict::Unknown, "not known now");
}

#[test]
fn a_log_and_a_policy_show_at_once() {
    let of = |bytes: f64, policy: &str| {
        web(ServiceMeasure { log_bytes: Some(bytes), restart_policy: Some(policy.into()), ..ServiceMeasure::default() })
    };
    let check = |change: Change, now: Measure, verdict: Verdict| {
        let outcome = outcome(&record(composed(change), of(900.0 * MIB, "no")), &now, hours(0));
        assert_eq!(outcome.verdict, verdict, "{outcome:?}");
    };
    let log = || Change::LogRotation { service: "web".into(), max_size: "10m".into(), max_files: 3 };
    let policy = || Change::RestartPolicy { service: "web".into(), policy: "always".into() };
    check(log(), of(MIB, "no"), Verdict::Gain);
    check(log(), of(950.0 * MIB, "no"), Verdict::NoChange);
    check(log(), Measure::default(), Verdict::Unknown);
    check(policy(), of(MIB, "always"), Verdict::Gain);
    check(policy(), of(MIB, "no"), Verdict::NoChange);
    check(policy(), Measure::default(), Verdict::Unknown);
}

#[test]
fn the_hit_ratio_is_that_since_then() {
    let blocks = |hit, read| Some(Blocks { hit, read });
    let day = SignedDuration::from_hours(25);
    let check = |was, is, passed, verdict| {
        let (found, line) = hits(was, is, passed);
        assert_eq!(found, verdict, "{line}");
    };
    // 80 % before; 98 %, 80 % and 50 % of what came after.
    let before = blocks(80_000, 20_000);
    check(before, blocks(129_000, 21_000), day, Verdict::Gain);
    check(before, blocks(160_000, 40_000), day, Verdict::NoChange);
    check(before, blocks(130_000, 70_000), day, Verdict::Worse);
    check(before, blocks(129_000, 21_000), SignedDuration::from_hours(2), Verdict::TooEarly);
    check(before, blocks(80_100, 20_000), day, Verdict::Unknown);
    check(before, None, day, Verdict::Unknown);
    // The counters began anew: all that they say is since then.
    check(before, blocks(49_000, 1_000), day, Verdict::Gain);
    assert_eq!(reads(Some(5e9), Some(1e9), day).0, Verdict::Gain);
    assert_eq!(reads(Some(5e9), Some(6e9), day).0, Verdict::Worse);
    assert_eq!(reads(Some(5e9), Some(5e9), day).0, Verdict::NoChange);
    assert_eq!(reads(None, Some(5e9), day).0, Verdict::Unknown);
}

#[test]
fn redis_is_bound_or_has_forgotten_it() {
    let values = |maxmemory| Values { maxmemory, policy: "noeviction".into() };
    let done = Done::Redis(RedisDone {
        project: "p".into(),
        service: "r".into(),
        before: values(0),
        after: values(100),
        kept: false,
    });
    let of = |maxmemory, evicted| Measure {
        redis: Some(RedisMeasure { used: 1 << 20, maxmemory, evicted }),
        ..Measure::default()
    };
    let check = |now: Measure, after: i64, verdict: Verdict, words: &str| {
        let outcome = outcome(&record(done.clone(), of(0, 5)), &now, hours(after));
        assert_eq!(outcome.verdict, verdict);
        assert!(outcome.lines[0].contains(words), "{outcome:?}");
    };
    check(of(100 << 20, 8), 25, Verdict::Gain, "dropped 3 keys since");
    check(of(100 << 20, 2), 25, Verdict::Gain, "dropped 2 keys since");
    check(of(100 << 20, 8), 2, Verdict::TooEarly, "a bound of 100 MiB");
    check(of(0, 8), 25, Verdict::NoChange, "forgotten the bound");
    check(Measure::default(), 25, Verdict::Unknown, "could not be asked");
}

#[test]
fn swap_has_moved_or_not() {
    let of = |disk: f64, all: f64| Measure { swap_on_disk: Some(disk), swap_in_use: Some(all), ..Measure::default() };
    let check = |before: &Measure, now: &Measure, after: i64, verdict: Verdict| {
        assert_eq!(swap(before, now, SignedDuration::from_hours(after)).0, verdict);
    };
    check(&of(90.0 * MIB, 90.0 * MIB), &of(10.0 * MIB, 80.0 * MIB), 0, Verdict::Gain);
    check(&of(90.0 * MIB, 90.0 * MIB), &of(90.0 * MIB, 90.0 * MIB), 0, Verdict::TooEarly);
    check(&of(90.0 * MIB, 90.0 * MIB), &of(90.0 * MIB, 90.0 * MIB), 2, Verdict::NoChange);
    check(&of(0.0, 0.0), &of(0.0, 20.0 * MIB), 2, Verdict::Gain);
    check(&Measure::default(), &of(0.0, 0.0), 2, Verdict::Unknown);
}

#[test]
fn what_is_worse_does_not_hide_behind_a_gain() {
    let mut services = settings(&[Change::MemoryLimit { service: "web".into(), mib: 64 }]);
    services.extend(settings(&[Change::MemoryLimit { service: "db".into(), mib: 64 }]));
    let Done::Compose(done) = composed(Change::MemoryLimit { service: "web".into(), mib: 64 }) else { unreachable!() };
    let both = |killed: f64| {
        let mut measure = limited(64.0, 0.0);
        measure.services.insert("db".into(), limited(64.0, killed).services["web"].clone());
        measure
    };
    let mut before = both(0.0);
    before.services.values_mut().for_each(|it| it.memory_limit = Some(0.0));
    let record = record(Done::Compose(compose::Done { services, ..done }), before);
    assert_eq!(outcome(&record, &both(0.0), hours(25)).verdict, Verdict::Gain);
    assert_eq!(outcome(&record, &both(1.0), hours(25)).verdict, Verdict::Worse);
}
