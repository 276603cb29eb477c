//! The history against a real Postgres. Needs NEXUS_TEST_DATABASE_URL with the URL of a superuser; without it the cases are
//! reported as ignored, with the reason in their names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are told")]

mod support;

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_reporter::history::{
    columns::{HOSTS, MOUNTS, SERVICES},
    generate::{self, GenerateError, Options, World},
    read::{self, Resolution, Subject},
    retention::Keep,
    window::{self, LOOK_BACK},
};
use support::{
    database::{Database, cases},
    eventually,
    prometheus::{Fake, Mood, STEP, value},
    reporter::Reporter,
};

cases! {
    the_schema_is_what_the_columns_say,
    roles_have_the_rights_they_need_and_no_more,
    fifteen_days_are_fetched_and_then_what_is_new,
    what_was_missed_is_made_up_for,
    killed_anywhere_it_leaves_neither_hole_nor_duplicate,
    a_clock_that_was_wrong_does_no_lasting_harm,
    names_may_be_anything,
    prometheus_may_answer_anything,
    what_is_too_much_is_asked_for_in_pieces,
    hours_are_what_their_samples_say,
    retention_keeps_what_it_is_to_keep,
    a_made_up_past_needs_an_empty_database,
}

fn now() -> i64 {
    Timestamp::now().as_second()
}

fn time(seconds: i64) -> Timestamp {
    Timestamp::from_second(seconds).unwrap()
}

/// Waits until the samples reach to now, and tells how far that is.
async fn reaches_to_now(database: &Database) -> i64 {
    eventually("the history reaches to now", async || {
        let sql = "SELECT through FROM history.progress WHERE task = 'collect'";
        let row = database.client.query_opt(sql, &[]).await.unwrap()?;
        let through = row.get::<_, Timestamp>(0).as_second();
        (through >= window::settled(now())).then_some(through)
    })
    .await
}

/// Each subject has each step after `after` up to `through` exactly once, with the value that Prometheus said.
async fn is_whole(database: &Database, after: i64, through: i64, hosts: i64, services: i64) {
    let steps = (through - after) / STEP;
    for (table, key, subjects) in
        [("host_samples", "host_id", hosts), ("service_samples", "service_id", hosts * services)]
    {
        let sql = format!(
            "SELECT count(*), count(DISTINCT ({key}, at)), count(DISTINCT {key}), coalesce(min(at), 'epoch'), coalesce(max(at), 'epoch')
             FROM history.{table} WHERE at > to_timestamp({after}) AND at <= to_timestamp({through})"
        );
        let row = database.client.query_one(&sql, &[]).await.unwrap();
        let found: (i64, i64, i64) = (row.get(0), row.get(1), row.get(2));
        assert_eq!(found, (steps * subjects, steps * subjects, subjects), "{table}");
        let ends = (row.get::<_, Timestamp>(3).as_second(), row.get::<_, Timestamp>(4).as_second());
        assert_eq!(ends, (after + STEP, through), "{table}");
    }
    let sql = format!(
        "SELECT count(*) FROM history.host_samples WHERE at > to_timestamp({after}) AND
         cpu_busy_ratio IS DISTINCT FROM ((extract(epoch FROM at)::bigint / {STEP} % 100) / 100.0)::real"
    );
    assert_eq!(database.number(&sql).await, 0);
}

async fn the_schema_is_what_the_columns_say(url: &str) {
    let database = Database::create(url).await;
    let sql =
        "SELECT attname::text, format_type(atttypid, atttypmod), col_description(attrelid, attnum) FROM pg_attribute
               WHERE attrelid = to_regclass($1) AND attnum > 0 AND NOT attisdropped";
    let columns = async |table: &str| -> BTreeMap<String, String> {
        let rows = database.client.query(sql, &[&table]).await.unwrap();
        assert!(
            rows.iter().all(|row| row.get::<_, Option<&str>>(2).is_some_and(|said| said.ends_with('.'))),
            "{table}"
        );
        rows.iter().map(|row| (row.get(0), row.get(1))).collect()
    };
    for table in [&HOSTS, &MOUNTS, &SERVICES] {
        let mut expected: BTreeMap<_, _> =
            table.columns.iter().map(|it| (it.name.to_owned(), it.kind.sql().to_owned())).collect();
        expected.insert("at".into(), "timestamp with time zone".into());
        expected.insert(table.key.into(), "integer".into());
        assert_eq!(columns(table.samples).await, expected);

        let names = columns(table.hours).await;
        let mut wanted: Vec<String> = table
            .columns
            .iter()
            .flat_map(|it| it.hourly.iter().map(move |figure| format!("{}{}", it.name, figure.suffix())))
            .collect();
        wanted.extend(["hour".into(), "samples".into(), table.key.into()]);
        wanted.sort();
        assert_eq!(names.into_keys().collect::<Vec<_>>(), wanted);
    }
    for table in ["hosts", "mounts", "services", "progress"] {
        columns(&format!("history.{table}")).await;
    }
    let bare =
        "SELECT count(*) FROM pg_class WHERE relnamespace = 'history'::regnamespace AND relkind IN ('r', 'p', 'v')
                AND obj_description(oid, 'pg_class') IS NULL";
    assert_eq!(database.number(bare).await, 0);
    database.drop().await;
}

async fn roles_have_the_rights_they_need_and_no_more(url: &str) {
    let database = Database::create(url).await;
    let sql = "SELECT relname::text, coalesce(string_agg(DISTINCT right_, ' ' ORDER BY right_)
                   FILTER (WHERE has_table_privilege($1, pg_class.oid, right_)), '')
               FROM pg_class, unnest(ARRAY['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER']) AS right_
               WHERE relnamespace IN ('history'::regnamespace, 'public'::regnamespace) AND relkind IN ('r', 'p', 'v')
                 AND relname <> 'refinery_schema_history'
               GROUP BY 1";
    let adds = ["host_samples", "mount_samples", "service_samples", "host_hours", "mount_hours", "service_hours"];
    let changes = ["hosts", "mounts", "services", "progress"];
    for role in ["nexus_reporter", "nexus_reader", "nexus_grafana"] {
        for row in database.client.query(sql, &[&role]).await.unwrap() {
            let (table, rights): (String, String) = (row.get(0), row.get(1));
            let expected = match role {
                "nexus_reporter" if adds.contains(&table.as_str()) => "INSERT SELECT",
                "nexus_reporter" if changes.contains(&table.as_str()) => "INSERT SELECT UPDATE",
                _ => "SELECT",
            };
            assert_eq!(rights, expected, "{role} {table}");
        }
    }
    let reporter = database.connect_as("nexus_reporter").await;
    reporter.batch_execute("SELECT history.make_partitions(now() - interval '30 days', now())").await.unwrap();
    for (wrong, said) in [
        ("CREATE TABLE history.mine ()", "permission denied for schema history"),
        ("DROP TABLE history.host_samples", "must be owner"),
        ("SELECT history.make_partitions(now() - interval '500 days', now())", "at most 400 days"),
        ("SELECT history.make_partitions(now(), now() + interval '100 days')", "at most 60 days ahead"),
        ("SELECT history.make_partitions(NULL, now())", "at most 400 days"),
        (
            "SELECT history.drop_partition(name) FROM history.partitions WHERE starts_at <= now() AND ends_at > now()",
            "holds the last seven days",
        ),
    ] {
        let error = reporter.batch_execute(wrong).await.unwrap_err();
        let message = error.as_db_error().unwrap().message().to_owned();
        assert!(message.contains(said), "{wrong}: {message}");
    }
    for strange in ["incidents", "hosts", "host_samples", "host_samples_20000101", "x\"; DROP TABLE incidents; --", ""]
    {
        let row = reporter.query_one("SELECT history.drop_partition($1)", &[&strange]).await.unwrap();
        assert!(!row.get::<_, bool>(0), "{strange}");
    }
    for role in ["nexus_reader", "nexus_grafana"] {
        let client = database.connect_as(role).await;
        for wrong in ["SELECT history.make_partitions(now(), now())", "SELECT history.drop_partition('x')"] {
            let error = client.batch_execute(wrong).await.unwrap_err();
            assert!(error.as_db_error().unwrap().message().contains("permission denied"), "{role} {wrong}");
        }
        client.batch_execute("SELECT * FROM history.service_usage, history.partitions, incidents").await.unwrap();
    }
    database.drop().await;
}

async fn fifteen_days_are_fetched_and_then_what_is_new(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    // As many services as a Pi has.
    let names: Vec<(String, String)> = (0..30).map(World::service_name).collect();
    let services: Vec<_> = names.iter().map(|(project, service)| (project.as_str(), service.as_str())).collect();
    prometheus.services(&services);
    let reporter = Reporter::start(&database, &prometheus).await;
    let through = reaches_to_now(&database).await;
    let after = through - LOOK_BACK;
    is_whole(&database, after, through, 1, 30).await;
    let resident = reporter.resident();
    println!("resident after a backfill of 15 days: {:.1} MB", resident as f64 / 1e6);
    // The text of a program that is not optimised is half as much again; the end-to-end test has the limit of the owner's.
    let most = if cfg!(debug_assertions) { 30_000_000 } else { 20_000_000 };
    assert!(resident <= most, "{resident}");
    eventually("days are rolled up", async || {
        reporter.metric("nexus_reporter_history_through_timestamp_seconds{task=\"roll_up\"}").await
    })
    .await;
    // One more when five minutes came to their end meanwhile.
    let rows = reporter.metric("nexus_reporter_history_rows_total{table=\"host_samples\"}").await.unwrap() as i64;
    assert!((LOOK_BACK / STEP..=LOOK_BACK / STEP + 1).contains(&rows), "{rows}");
    assert_eq!(reporter.metric("nexus_reporter_postgres_up").await, Some(1.0));
    eventually("a look at the sizes", async || {
        let name = "nexus_reporter_history_partitions{table=\"host_samples\"}";
        reporter.metric(name).await.filter(|partitions| *partitions >= 4.0)
    })
    .await;
    let reaches = reporter.metric("nexus_reporter_history_through_timestamp_seconds{task=\"collect\"}").await.unwrap();
    assert!(reaches >= through as f64, "{reaches}");
    let asked = prometheus.asked();
    assert!(reporter.stop().await.success());
    // Started again, it asks for nothing that it has.
    let reporter = Reporter::start(&database, &prometheus).await;
    eventually("it has looked", async || {
        reporter.metric("nexus_reporter_history_last_success_timestamp_seconds{task=\"retention\"}").await
    })
    .await;
    assert!(prometheus.asked() - asked <= 37 * 2, "{} queries", prometheus.asked() - asked);
    is_whole(&database, after, through, 1, 30).await;
    assert!(reporter.stop().await.success());
    database.drop().await;
}

async fn what_was_missed_is_made_up_for(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    let begin = window::settled(now()) - 6 * 3600;
    prometheus.mood(Mood::Well { since: begin });
    // Prometheus is away at first: nothing is taken for fetched.
    prometheus.mood(Mood::Away);
    let reporter = Reporter::start(&database, &prometheus).await;
    eventually("a failure", async || {
        reporter.metric("nexus_reporter_history_failures_total{task=\"collect\"}").await.filter(|it| *it >= 1.0)
    })
    .await;
    assert_eq!(reporter.metric("nexus_reporter_prometheus_up").await, Some(0.0));
    assert_eq!(database.number("SELECT count(*) FROM history.progress WHERE task = 'collect'").await, 0);
    prometheus.mood(Mood::Well { since: begin });
    let through = reaches_to_now(&database).await;
    is_whole(&database, begin, through, 1, 3).await;
    assert!(reporter.stop().await.success());
    // It was off for three hours, and Postgres is not there when it comes back.
    let back = through - 3 * 3600;
    for table in ["host_samples", "mount_samples", "service_samples"] {
        let sql = format!("DELETE FROM history.{table} WHERE at > to_timestamp({back})");
        database.client.batch_execute(&sql).await.unwrap();
    }
    let sql = format!("UPDATE history.progress SET through = to_timestamp({back}) WHERE task = 'collect'");
    database.client.batch_execute(&sql).await.unwrap();
    database.wire.cut(true);
    let reporter = Reporter::start(&database, &prometheus).await;
    eventually("postgres is known to be away", async || {
        let failed = reporter.metric("nexus_reporter_history_failures_total{task=\"collect\"}").await? >= 1.0;
        failed.then_some(())
    })
    .await;
    assert_eq!(reporter.metric("nexus_reporter_postgres_up").await, Some(0.0));
    database.wire.cut(false);
    let through = reaches_to_now(&database).await;
    is_whole(&database, begin, through, 1, 3).await;
    assert!(reporter.stop().await.success());
    // It was off for longer than Prometheus keeps: what is gone is counted, the rest is there.
    let sql = format!("UPDATE history.progress SET through = to_timestamp({})", through - LOOK_BACK - 7200);
    database.client.batch_execute(&sql).await.unwrap();
    let reporter = Reporter::start(&database, &prometheus).await;
    let through = reaches_to_now(&database).await;
    is_whole(&database, begin, through, 1, 3).await;
    let lost = reporter.metric("nexus_reporter_history_lost_seconds_total").await.unwrap();
    assert!((7200.0..=7800.0).contains(&lost), "{lost}");
    assert!(reporter.stop().await.success());
    database.drop().await;
}

async fn killed_anywhere_it_leaves_neither_hole_nor_duplicate(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    let begin = window::settled(now()) - 4 * 86_400;
    prometheus.mood(Mood::Well { since: begin });
    for fault in [
        "batch-begun:24",
        "batch-not-committed:3",
        "batch-committed",
        "batch-begun",
        "batch-not-committed",
        "hours-begun",
        "hours-begun:2",
    ] {
        let reporter = Reporter::spawn(&database, &prometheus.url, &[("NEXUS_FAULT", fault)]);
        let status = reporter.dies().await;
        assert_eq!(std::os::unix::process::ExitStatusExt::signal(&status), Some(9), "{fault}");
        // A batch is there as a whole, with its progress, or not at all.
        let sql = "SELECT count(*) FROM history.host_samples WHERE at > (SELECT coalesce(max(through), 'epoch') FROM history.progress
                   WHERE task = 'collect')";
        assert_eq!(database.number(sql).await, 0, "{fault}");
    }
    let reporter = Reporter::start(&database, &prometheus).await;
    let through = reaches_to_now(&database).await;
    eventually("it has looked after all", async || {
        reporter.metric("nexus_reporter_history_last_success_timestamp_seconds{task=\"retention\"}").await
    })
    .await;
    is_whole(&database, begin, through, 1, 3).await;
    let hours = "SELECT count(*) FROM history.service_hours WHERE samples <> 12";
    // The first hour is cut where Prometheus begins.
    assert!(database.number(hours).await <= 3);
    assert!(reporter.stop().await.success());
    database.drop().await;
}

async fn a_clock_that_was_wrong_does_no_lasting_harm(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    let begin = window::settled(now()) - 2 * 86_400;
    prometheus.mood(Mood::Well { since: begin });
    let reporter = Reporter::start(&database, &prometheus).await;
    let through = reaches_to_now(&database).await;
    assert!(reporter.stop().await.success());
    // The clock was a year ahead for an hour.
    let ahead = "UPDATE history.progress SET through = now() + interval '365 days'";
    database.client.batch_execute(ahead).await.unwrap();
    let reporter = Reporter::start(&database, &prometheus).await;
    let restarted = eventually("the progress is of this world again", async || {
        let sql = "SELECT count(*) FROM history.progress WHERE task = 'collect' AND through < now()";
        (database.number(sql).await == 1).then_some(())
    });
    restarted.await;
    let again = reaches_to_now(&database).await;
    assert!(again >= through);
    is_whole(&database, begin, again, 1, 3).await;
    assert_eq!(database.number("SELECT count(*) FROM history.host_samples WHERE at > now()").await, 0);
    assert!(reporter.log().contains("reaches into the future"), "{}", reporter.log());
    assert!(reporter.stop().await.success());
    database.drop().await;
}

async fn names_may_be_anything(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    let begin = window::settled(now()) - 3600;
    prometheus.mood(Mood::Well { since: begin });
    let (long, longer) = ("n".repeat(10_000), format!("{}x", "n".repeat(9_999)));
    let strange = [
        ("it's", "a \"quoted\" name"),
        ("'; DROP TABLE history.hosts; --", "$1"),
        ("line\nbreak", "tab\tand \u{1b}[31mred"),
        ("nul\0l", "\u{202e}backwards"),
        (long.as_str(), "long"),
        (longer.as_str(), "long"),
        ("", "🦀"),
    ];
    prometheus.services(&strange);
    prometheus.hosts(&["pi", "o'pi", "", long.as_str()]);
    prometheus.mountpoints(&["/mnt/it's here", "/mnt/\\x00\n", long.as_str()]);
    let reporter = Reporter::start(&database, &prometheus).await;
    let through = reaches_to_now(&database).await;
    // A series without a host is nobody's.
    is_whole(&database, begin, through, 3, strange.len() as i64).await;
    assert_eq!(database.number("SELECT count(*) FROM history.mounts").await, 9);
    let services = read::services(&database.client, Some("o'pi")).await.unwrap();
    assert_eq!(services.len(), strange.len());
    assert!(services.iter().any(|it| it.project == "'; DROP TABLE history.hosts; --" && it.service == "$1"));
    assert!(services.iter().all(|it| it.project.len() <= 300));
    assert!(read::services(&database.client, Some("' OR true --")).await.unwrap().is_empty());
    assert!(reporter.stop().await.success());
    database.drop().await;
}

async fn prometheus_may_answer_anything(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    let says = |text: &str| Mood::Says(text.to_owned());
    for (mood, said) in [
        (says("<html>hello</html>"), "is not understood"),
        (says(""), "is not understood"),
        (says(r#"{"status":"success","data":{"resultType":"vector","result":[]}}"#), "something else than a range"),
        (
            says(
                r#"{"status":"success","data":{"resultType":"matrix","result":[{"metric":{"host":"pi"},"values":[[0,"x"]]}]}}"#,
            ),
            "is not understood",
        ),
        (Mood::Endless, "larger than 4 MiB"),
    ] {
        prometheus.mood(mood.clone());
        let reporter = Reporter::start(&database, &prometheus).await;
        eventually(said, async || reporter.log().contains(said).then_some(())).await;
        assert!(reporter.metric("nexus_reporter_history_failures_total{task=\"collect\"}").await >= Some(1.0));
        assert!(reporter.resident() < 30_000_000, "{mood:?}: {}", reporter.resident());
        assert!(reporter.stop().await.success());
    }
    // Values that can't be are missing, the rest is taken.
    let at = window::settled(now()) - 600;
    let values =
        [("NaN", 0), ("+Inf", 1), ("-7", 2)].map(|(value, step)| format!("[{},\"{value}\"]", at - step * STEP));
    prometheus.mood(Mood::Says(format!(
        r#"{{"status":"success","data":{{"resultType":"matrix","result":[
            {{"metric":{{"host":"pi"}},"values":[{},[{},"0.5"],[1,"3"],[99999999999,"3"]]}},{{"metric":{{}},"values":[]}}]}}}}"#,
        values.join(","),
        at - 3 * STEP
    )));
    let reporter = Reporter::start(&database, &prometheus).await;
    reaches_to_now(&database).await;
    // Degrees alone may be below zero.
    let rows =
        "SELECT count(*) FROM history.host_samples WHERE cpu_busy_ratio IS NOT NULL OR memory_used_bytes IS NOT NULL";
    assert_eq!(database.number(rows).await, 1);
    assert_eq!(database.number("SELECT count(*) FROM history.host_samples").await, 2);
    assert!(reporter.stop().await.success());
    // One that never answers keeps nobody from stopping.
    database.client.batch_execute("DELETE FROM history.progress").await.unwrap();
    prometheus.mood(Mood::Hung);
    let asked = prometheus.asked();
    let reporter = Reporter::start(&database, &prometheus).await;
    eventually("it asks", async || (prometheus.asked() > asked).then_some(())).await;
    assert!(reporter.metric("nexus_reporter_prometheus_up").await.is_some());
    assert!(reporter.stop().await.success());
    database.drop().await;
}

async fn what_is_too_much_is_asked_for_in_pieces(url: &str) {
    let database = Database::create(url).await;
    let prometheus = Fake::start().await;
    let begin = window::settled(now()) - 86_400;
    prometheus.mood(Mood::AtMost { steps: 20, since: begin });
    let reporter = Reporter::start(&database, &prometheus).await;
    let through = reaches_to_now(&database).await;
    is_whole(&database, begin, through, 1, 3).await;
    assert_eq!(reporter.metric("nexus_reporter_history_failures_total{task=\"collect\"}").await, Some(0.0));
    assert!(reporter.stop().await.success());
    database.drop().await;
}

fn options(days: u32) -> Options {
    let until = time(window::settled(now()));
    Options { hosts: 1, services: 8, days, seed: 1, until, keep: Keep::default() }
}

async fn hours_are_what_their_samples_say(url: &str) {
    let database = Database::create(url).await;
    let mut client = database.connect_as("nexus_reporter").await;
    let options = options(10);
    generate::fill(&mut client, &options).await.unwrap();
    // Reckoned in another way: from the samples as they are, in a language of its own.
    let host = read::hosts(&client).await.unwrap().remove(0);
    let service = read::services(&client, Some(&host.name)).await.unwrap().remove(3);
    let (until, from) = (options.until, time(options.until.as_second() - 5 * 86_400));
    let mut checked = 0;
    for (subject, name) in [
        (Subject::Host(host.id), "cpu_busy_ratio"),
        (Subject::Host(host.id), "memory_used_bytes"),
        (Subject::Service(service.id), "memory_bytes"),
        (Subject::Service(service.id), "cpu_cores"),
        (Subject::Service(service.id), "oom_kills"),
    ] {
        let samples = read::series(&client, subject, name, from, until, Resolution::FiveMinutes).await.unwrap().points;
        assert_eq!(samples.len(), 5 * 288);
        let mut by_hour: BTreeMap<i64, Vec<f64>> = BTreeMap::new();
        for point in &samples {
            by_hour.entry((point.at.as_second() - STEP).div_euclid(3600) * 3600).or_default().extend(point.value);
        }
        let hours = read::series(&client, subject, name, from, until, Resolution::Hourly).await.unwrap().points;
        for point in &hours {
            let Some(values) = by_hour.get(&point.at.as_second()).filter(|values| values.len() == 12) else { continue };
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let sum: f64 = sorted.iter().sum();
            let expected = if name == "oom_kills" { sum } else { sum / 12.0 };
            let near = |found: Option<f64>, expected: f64| {
                let found = found.unwrap();
                assert!(
                    (found - expected).abs() <= 1e-5 * expected.abs() + 1e-9,
                    "{name} {}: {found} {expected}",
                    point.at
                );
            };
            near(point.value, expected);
            if name != "oom_kills" {
                near(point.min, sorted[0]);
                near(point.max, sorted[11]);
                // Between the 11th and the 12th, at 0.95 · 11.
                near(point.p95, sorted[10] + (0.95 * 11.0 - 10.0) * (sorted[11] - sorted[10]));
            }
            checked += 1;
        }
        // The hours of today, which are not made yet, are there too.
        assert!(hours.len() >= 5 * 24, "{}", hours.len());
        assert!(until.duration_since(hours.last().unwrap().at).as_secs() <= 3600);
    }
    assert!(checked >= 5 * 118, "{checked}");
    // Newest samples, and what does not exist.
    let newest = read::latest(&client, Subject::Host(host.id), until).await.unwrap().unwrap();
    assert_eq!((newest.at, newest.get("cpu_count"), newest.get("nonsense")), (until, Some(4.0), None));
    assert!(read::latest(&client, Subject::Host(host.id + 1), until).await.unwrap().is_none());
    assert!(read::latest(&client, Subject::Host(host.id), time(0)).await.unwrap().is_none());
    assert_eq!(read::latest_services(&client, Some("pi1"), until).await.unwrap().len(), 8);
    assert_eq!(read::mounts(&client, None).await.unwrap().len(), 3);
    for (name, from, to) in [("x", from, until), ("cpu_busy_ratio", until, from), ("cpu_busy_ratio", time(0), until)] {
        let subject = Subject::Host(host.id);
        assert!(
            read::series(&client, subject, name, from, to, Resolution::Hourly).await.is_err(),
            "{name} {from} {to}"
        );
    }
    // What was not measured is NULL: a service without a health check or a limit.
    let sql = "SELECT count(*) FROM history.service_usage WHERE service = 'web' AND project = 'shop' AND healthy_percent IS NOT NULL";
    assert_eq!(database.number(sql).await, 0);
    database.drop().await;
}

async fn retention_keeps_what_it_is_to_keep(url: &str) {
    let database = Database::create(url).await;
    let mut client = database.connect_as("nexus_reporter").await;
    let keep = Keep { detail_days: 14, hourly_days: 62 };
    let options = Options { services: 2, keep, ..options(140) };
    let summary = generate::fill(&mut client, &options).await.unwrap();
    assert!(summary.dropped_partitions >= 3 * (140 - 14) / 7 - 6, "{summary:?}");
    let until = options.until.as_second();
    let reach = async |table: &str, column: &str| {
        let sql = format!("SELECT extract(epoch FROM min({column}))::bigint FROM history.{table}");
        (until - database.number(&sql).await) / 86_400
    };
    for table in ["host_samples", "mount_samples", "service_samples"] {
        let days = reach(table, "at").await;
        assert!((14..=21).contains(&days), "{table} has {days} days");
    }
    for table in ["host_hours", "mount_hours", "service_hours"] {
        let days = reach(table, "hour").await;
        assert!((61..=62 + 31).contains(&days), "{table} has {days} days");
    }
    // Every hour up to midnight is there for each subject, also of the days whose samples are gone.
    let sql = "SELECT count(*) FROM (SELECT hour - lag(hour) OVER (PARTITION BY service_id ORDER BY hour) AS step
               FROM history.service_hours) steps WHERE step <> interval '1 hour'";
    let outages = "SELECT count(*) FROM history.services";
    assert!(
        database.number(sql).await <= database.number(outages).await,
        "holes beyond the one time that the machine was off"
    );
    database.drop().await;
}

async fn a_made_up_past_needs_an_empty_database(url: &str) {
    let database = Database::create(url).await;
    let mut client = database.connect_as("nexus_reporter").await;
    for wrong in [
        Options { hosts: 0, ..options(1) },
        Options { services: 5000, ..options(1) },
        Options { days: 5000, ..options(1) },
    ] {
        let error = generate::fill(&mut client, &wrong).await.unwrap_err();
        assert!(matches!(error, GenerateError::Range(_)), "{error}");
    }
    generate::fill(&mut client, &options(1)).await.unwrap();
    let error = generate::fill(&mut client, &options(1)).await.unwrap_err();
    assert!(matches!(error, GenerateError::NotEmpty), "{error}");
    assert_eq!(value(STEP), 0.01);
    database.drop().await;
}
