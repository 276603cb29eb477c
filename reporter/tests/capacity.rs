//! Baseline and capacity from a real Postgres with a year of a known pattern. Needs NEXUS_TEST_DATABASE_URL with the URL of a
//! superuser; without it the cases are reported as ignored, with the reason in their names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

mod support;

use std::time::{Duration, Instant};

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use nexus_reporter::baseline::usual::Metric;
use nexus_reporter::baseline::{self, Basis};
use nexus_reporter::capacity::{self, Answer, Outlook, Resource};
use nexus_reporter::history::generate::{self, Options};
use nexus_reporter::history::retention::Keep;
use nexus_reporter::usage::{self, UsageError};
use support::database::{Database, cases};
use tokio_postgres::Client;

/// For a screen that is waited for. Unoptimised, decoding the rows takes several times as long.
const LONGEST: Duration = Duration::from_millis(if cfg!(debug_assertions) { 1000 } else { 300 });

cases! {
    a_year_has_its_pattern_and_its_trend,
    a_generated_past_has_its_pattern_and_its_trend,
    hours_that_are_not_rolled_up_yet_count_too,
    who_is_not_known_is_told_who_is,
}

/// Hours of `pi` from `from` to `to`: in Berlin, busy on Saturdays from 20 to 23 o'clock and every night at three, all a little
/// uneven; 30 services, one of which takes the most; two disks, of which one grows by 200 MiB a day and had 20 GiB freed in the
/// middle.
async fn hours(client: &Client, from: Timestamp, to: Timestamp) {
    client.execute("SELECT history.make_partitions($1, $2)", &[&from, &to]).await.unwrap();
    let subjects = "
        INSERT INTO history.hosts (name, first_seen_at, last_seen_at) VALUES ('pi', now(), now()), ('pi2', now(), now());
        INSERT INTO history.services (host_id, project, service, first_seen_at, last_seen_at)
            SELECT 1, 'shop', 's' || n, now(), now() FROM generate_series(1, 30) n;
        INSERT INTO history.mounts (host_id, mountpoint, device, fstype, first_seen_at, last_seen_at)
            VALUES (1, '/', '/dev/mmcblk0p2', 'ext4', now(), now()), (1, '/mnt/data', '/dev/sda1', 'ext4', now(), now());
        SELECT setseed(0.5)";
    client.batch_execute(subjects).await.unwrap();
    let hosts = format!(
        "INSERT INTO history.host_hours (host_id, hour, samples, cpu_count, cpu_busy_ratio_avg, cpu_busy_ratio_p95,
             cpu_busy_ratio_max, memory_total_bytes, memory_used_bytes_avg, memory_used_bytes_p95, memory_used_bytes_max,
             temperature_celsius_avg, temperature_celsius_p95, temperature_celsius_max, throttled_ratio_avg)
         SELECT 1, hour, 12, 4, {BUSY}, {BUSY} + 0.02, {BUSY} + 0.05, 3.8 * 1073741824, memory, memory, memory, 55, 58, 60, 0
         FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') hour,
             LATERAL (SELECT hour AT TIME ZONE 'Europe/Berlin' AS local) zone,
             LATERAL (SELECT (1.6 + 0.1 * random() + 0 * extract(hour FROM local)) * 1073741824 AS memory) memory"
    );
    client.execute(&hosts, &[&from, &to]).await.unwrap();
    let services = "
        INSERT INTO history.service_hours (service_id, hour, samples, cpu_cores_avg, cpu_cores_p95, cpu_cores_max,
            memory_bytes_avg, memory_bytes_p95, memory_bytes_max, memory_limit_bytes, restarts, oom_kills)
        SELECT n, hour, 12, 0.002 * n, 0.004 * n, 0.01 * n, (40 - n) * 1048576, (40 - n) * 1048576, (50 - n) * 1048576,
               CASE WHEN n % 2 = 0 THEN 64 * 1048576 END, 0, 0
        FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') hour, generate_series(1, 30) n";
    client.execute(services, &[&from, &to]).await.unwrap();
    let mounts = "
        INSERT INTO history.mount_hours (mount_id, hour, samples, size_bytes, used_bytes_min, used_bytes_avg, used_bytes_max,
            available_bytes_min, available_bytes_avg)
        SELECT m, hour, 12, 230::bigint << 30, used, used, used, (220::bigint << 30) - used, (220::bigint << 30) - used
        FROM generate_series($1::timestamptz, $2::timestamptz - interval '1 hour', '1 hour') hour, generate_series(1, 2) m,
            LATERAL (SELECT extract(epoch FROM hour - $1) / 86400 AS days) d,
            LATERAL (SELECT CASE m
                WHEN 1 THEN (100.0 * 1073741824 + random() * 1073741824)::bigint
                ELSE ((100.0 * 1024 + 200.0 * days - CASE WHEN days > 180 THEN 20480 ELSE 0 END + 100 * random()) * 1048576)::bigint
                END AS used) used";
    client.execute(mounts, &[&from, &to]).await.unwrap();
    client.batch_execute("ANALYZE").await.unwrap();
}

/// Of an hour in Berlin, in SQL: Saturday evening is busy, and each night at three.
const BUSY: &str = "(0.10 + 0.02 * random()
    + CASE WHEN extract(isodow FROM local) = 6 AND extract(hour FROM local) BETWEEN 20 AND 22 THEN 0.6 ELSE 0 END
    + CASE WHEN extract(hour FROM local) = 3 THEN 0.45 ELSE 0 END)";

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

fn now() -> Timestamp {
    // Partitions are made for what the server's clock says.
    let now = Timestamp::now().as_second();
    Timestamp::from_second(now.div_euclid(3600) * 3600 + 600).unwrap()
}

fn back(now: Timestamp, days: i64) -> Timestamp {
    let hour = Timestamp::from_second(now.as_second().div_euclid(3600) * 3600).unwrap();
    hour - SignedDuration::from_hours(24 * days)
}

async fn a_year_has_its_pattern_and_its_trend(url: &str) {
    let database = Database::create(url).await;
    let now = now();
    hours(&database.client, back(now, 365), back(now, 0)).await;

    // The first reading fills the caches; a page or a screen is asked for again and again.
    let mut fastest = Duration::MAX;
    let mut found = baseline::read_days(&database.client, "pi", now, &berlin(), 366).await.unwrap();
    for _ in 0..5 {
        let begun = Instant::now();
        found = baseline::read_days(&database.client, "pi", now, &berlin(), 366).await.unwrap();
        fastest = fastest.min(begun.elapsed());
    }
    eprintln!("baseline of a year: {fastest:?}");
    assert!(fastest < LONGEST, "{fastest:?}");
    assert_eq!((found.hours, found.days), (365 * 24, 366));
    let cpu = found.metrics.iter().find(|metric| metric.metric == Metric::CpuBusyRatio).unwrap();
    assert_eq!(cpu.basis, Some(Basis::HourOfWeek));
    let peaks: Vec<String> = cpu.peaks.iter().map(baseline::Peak::when).collect();
    assert_eq!(peaks, ["Sat 20:00–23:00", "every day 03:00–04:00"]);
    assert!((cpu.peaks[0].median - 0.71).abs() < 0.01 && (cpu.median - 0.11).abs() < 0.01, "{cpu:?}");
    // Of the clock of the owner, in summer and in winter: the hours beside the night's are never touched by it.
    for (hour, expected) in [(2, 0.11), (3, 0.56), (4, 0.11)] {
        let usual = cpu.week[1][hour].unwrap();
        assert!((usual.median - expected).abs() < 0.01 && usual.spread < 0.02, "{hour}: {usual:?}");
    }
    assert_eq!(found.busiest_by_cpu.len(), 10);
    assert_eq!(found.busiest_by_cpu[0].service, "s30");
    assert!((found.busiest_by_cpu[0].cpu_cores_mean.unwrap() - 0.06).abs() < 1e-6);
    assert_eq!(
        (found.busiest_by_memory[0].service.as_str(), found.busiest_by_memory[0].memory_limit_bytes),
        ("s1", None)
    );
    let nearest = &found.bottlenecks[0];
    assert_eq!((nearest.resource, nearest.subject.as_deref()), (baseline::bottlenecks::Resource::Temperature, None));

    // What a report compares with: the usual of the hour.
    let usual = baseline::usual(&database.client, "pi", now, &berlin()).await.unwrap();
    let memory = usual[&Metric::MemoryUsedRatio];
    assert!(memory.basis == Basis::HourOfWeek && (memory.median - 0.43).abs() < 0.01, "{memory:?}");

    let begun = Instant::now();
    let found = capacity::read(&database.client, "pi", now).await.unwrap();
    eprintln!("capacity of a year: {:?}", begun.elapsed());
    let outlook = |resource: Resource, subject: Option<&str>| -> &Outlook {
        let mut all = found.outlooks.iter();
        all.find(|outlook| outlook.resource == resource && outlook.subject.as_deref() == subject).unwrap()
    };
    assert_eq!(outlook(Resource::Disk, Some("/")).answer, Answer::NoTrend);
    assert_eq!(outlook(Resource::Memory, None).answer, Answer::NoTrend);
    assert_eq!(outlook(Resource::Cpu, None).answer, Answer::NoTrend);
    // 100 GiB + 365 · 200 MiB - 20 GiB = 151.3 GiB of 220: 351.8 days are left.
    let data = outlook(Resource::Disk, Some("/mnt/data"));
    let Answer::RunsOut { on, earliest, latest: Some(latest), per_day, .. } = &data.answer else { panic!("{data:?}") };
    let true_date = now.to_zoned(TimeZone::UTC).date() + 352.days();
    assert!(*earliest <= true_date && true_date <= *latest, "{data:?}, truly {true_date}");
    assert!((on.since((jiff::Unit::Day, true_date)).unwrap().get_days()).abs() <= 7, "{on}, truly {true_date}");
    assert!((per_day / 1_048_576.0 - 200.0).abs() < 4.0, "{per_day}");
    let load = found.load.clone().unwrap();
    assert_eq!((load.services, load.cores), (30, 4.0));
    let pi5 = found.carries.iter().find(|carries| carries.machine.name == "pi5-8gb").unwrap();
    assert!(pi5.fits && pi5.more_services.is_some_and(|more| more > 10), "{pi5:?}");
    database.drop().await;
}

/// The past that the reporter itself makes up, rolled up as it does.
async fn a_generated_past_has_its_pattern_and_its_trend(url: &str) {
    let mut database = Database::create(url).await;
    let now = now();
    let options = Options { hosts: 1, services: 3, days: 120, seed: 7, until: now, keep: Keep::default() };
    generate::fill(&mut database.client, &options).await.unwrap();
    let found = baseline::read_days(&database.client, "pi1", now, &TimeZone::UTC, 120).await.unwrap();
    // But for the day before the first full hour, and the three hours in which the machine was off.
    assert!((119 * 24..=120 * 24 - 3).contains(&found.hours), "{}", found.hours);
    let peaks = |metric: Metric| {
        let found = found.metrics.iter().find(|found| found.metric == metric).unwrap();
        found.peaks.iter().map(baseline::Peak::when).collect::<Vec<_>>()
    };
    // The backup at three, and the rush in the evening, which is greater at weekends.
    assert_eq!(peaks(Metric::NetworkOutBytesPerSecond)[0], "every day 03:00–04:00");
    assert!(peaks(Metric::CpuBusyRatio)[0].starts_with("Sat, Sun 18:00–"), "{:?}", peaks(Metric::CpuBusyRatio));
    assert_eq!(found.busiest_by_cpu.len(), 3);
    let found = capacity::read(&database.client, "pi1", now).await.unwrap();
    let outlook = |name: &str| {
        let mut all = found.outlooks.iter();
        all.find(|outlook| outlook.subject.as_deref() == Some(name)).map(|outlook| outlook.answer.clone()).unwrap()
    };
    assert_eq!(outlook("/boot/firmware"), Answer::NoTrend);
    // 60 GiB and 250 MiB a day of 218.5 GiB: 649 days after the beginning, 529 from now.
    let Answer::RunsOut { on, earliest, latest: Some(latest), per_day, .. } = outlook("/mnt/data") else {
        panic!("{:?}", outlook("/mnt/data"))
    };
    let true_date = now.to_zoned(TimeZone::UTC).date() + 529.days();
    assert!(earliest <= true_date && true_date <= latest, "{on}: {earliest} to {latest}, truly {true_date}");
    assert!((per_day / 1_048_576.0 - 250.0).abs() < 3.0, "{per_day}");
    database.drop().await;
}

/// After an outage of the roll-up, and in the first weeks, there are samples alone.
async fn hours_that_are_not_rolled_up_yet_count_too(url: &str) {
    let database = Database::create(url).await;
    let now = now();
    hours(&database.client, back(now, 60), back(now, 20)).await;
    let samples = format!(
        "INSERT INTO history.host_samples (host_id, at, cpu_count, cpu_busy_ratio, memory_total_bytes, memory_used_bytes)
         SELECT 1, at, 4, {BUSY}, 3.8 * 1073741824, 1.7 * 1073741824
         FROM generate_series($1::timestamptz + interval '5 minutes', $2::timestamptz, '5 minutes') at,
             LATERAL (SELECT (at - interval '1 second') AT TIME ZONE 'Europe/Berlin' AS local) zone"
    );
    let (from, to) = (back(now, 20), back(now, 0));
    database.client.execute("SELECT history.make_partitions($1, $2)", &[&from, &to]).await.unwrap();
    // Up to now, of which the hour that has begun does not count yet.
    database.client.execute(&samples, &[&from, &now]).await.unwrap();
    let mounts = "
        INSERT INTO history.mount_samples (mount_id, at, size_bytes, used_bytes, available_bytes)
        SELECT 2, at, 230::bigint << 30, (108::bigint << 30) + (extract(epoch FROM at - $1) / 86400 * 200 * 1048576)::bigint, 112::bigint << 30
        FROM generate_series($1::timestamptz + interval '5 minutes', $2::timestamptz, '5 minutes') at";
    database.client.execute(mounts, &[&from, &to]).await.unwrap();
    let services = "
        INSERT INTO history.service_samples (service_id, at, cpu_cores, memory_bytes, restarts, oom_kills)
        SELECT 7, at, 0.9, 1 << 30, 0, 0 FROM generate_series($1::timestamptz + interval '5 minutes', $2::timestamptz, '5 minutes') at";
    database.client.execute(services, &[&from, &to]).await.unwrap();
    // Gone since two hours: it does not run here any more.
    let gone = services.replace("SELECT 7,", "SELECT 8,");
    database.client.execute(&gone, &[&from, &(to - SignedDuration::from_hours(2))]).await.unwrap();

    let id = usage::host_id(&database.client, "pi").await.unwrap();
    let hours = usage::hours(&database.client, id, back(now, 60), now).await.unwrap();
    assert_eq!(hours.len(), 60 * 24);
    assert!(hours.windows(2).all(|pair| pair[1].at.duration_since(pair[0].at) == SignedDuration::from_hours(1)));
    // An hour is made of the samples after its beginning up to its end: the busy ones are those of three o'clock alone.
    for hour in &hours {
        let local = hour.at.to_zoned(berlin());
        let busy = local.hour() == 3
            || (local.weekday() == jiff::civil::Weekday::Saturday && (20..23).contains(&local.hour()));
        assert_eq!(hour.cpu_busy_ratio.mean.unwrap() > 0.3, busy, "{local}");
    }
    let found = baseline::read_days(&database.client, "pi", now, &berlin(), 60).await.unwrap();
    let cpu = found.metrics.iter().find(|metric| metric.metric == Metric::CpuBusyRatio).unwrap();
    assert_eq!(
        cpu.peaks.iter().map(baseline::Peak::when).collect::<Vec<_>>(),
        ["Sat 20:00–23:00", "every day 03:00–04:00"]
    );
    // The others have not been seen for twenty days, and one for two hours.
    let names: Vec<&str> = found.busiest_by_cpu.iter().map(|service| service.service.as_str()).collect();
    assert_eq!(names, ["s7"]);
    let found = capacity::read(&database.client, "pi", now).await.unwrap();
    assert_eq!(found.load.as_ref().unwrap().services, 1);
    let disks: Vec<&Outlook> = found.outlooks.iter().filter(|outlook| outlook.resource == Resource::Disk).collect();
    assert_eq!(disks.len(), 1);
    assert!(
        matches!(&disks[0].answer, Answer::RunsOut { per_day, .. } if (per_day / 1_048_576.0 - 200.0).abs() < 8.0),
        "{disks:?}"
    );
    database.drop().await;
}

async fn who_is_not_known_is_told_who_is(url: &str) {
    let database = Database::create(url).await;
    let now = now();
    let error = capacity::read(&database.client, "pi", now).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "there is no host \"pi\" in the history: it knows none yet; the first hour is written within an hour of the start"
    );
    hours(&database.client, back(now, 1), back(now, 0)).await;
    let hostile = "x'; DROP SCHEMA history CASCADE; --";
    let error = baseline::read(&database.client, hostile, now, &berlin()).await.unwrap_err();
    assert!(matches!(&error, UsageError::UnknownHost { known, .. } if *known == ["pi", "pi2"]), "{error}");
    assert!(error.to_string().ends_with("in the history: it knows pi, pi2"), "{error}");
    // A host without an hour has an empty answer, and one of a day says what it lacks.
    let nothing = baseline::read(&database.client, "pi2", now, &berlin()).await.unwrap();
    assert_eq!((nothing.hours, nothing.metrics.len(), nothing.bottlenecks.len()), (0, 0, 0));
    assert_eq!(capacity::read(&database.client, "pi2", now).await.unwrap().load, None);
    let day = baseline::read(&database.client, "pi", now, &berlin()).await.unwrap();
    assert_eq!((day.hours, day.metrics[0].basis), (24, None));
    // A role that may only read is enough.
    database.client.batch_execute("SET ROLE nexus_reader; SET default_transaction_read_only = on").await.unwrap();
    baseline::read(&database.client, "pi", now, &berlin()).await.unwrap();
    capacity::read(&database.client, "pi", now).await.unwrap();
    database.drop().await;
}
