//! What a year costs: its size in Postgres, and what is written to the disk for a day of it. Both are printed and held against the
//! budget. Needs NEXUS_TEST_DATABASE_URL with the URL of a superuser of a server where nothing else goes on; without it the case is
//! reported as ignored, with the reason in its name.
//!
//! Measured are a made-up year of one host with 30 services and three file systems, and then two days of hourly batches and a
//! nightly roll-up, with a checkpoint before each batch: with `checkpoint_timeout=15min` there has been one since the batch before, so
//! that every page is written into the log as a whole once more. Written is what Postgres counts itself: bytes of its log,
//! pages of tables and indexes (`pg_stat_io`, before version 16 `pg_stat_bgwriter`), and pages of its transaction status
//! (`pg_stat_slru`). The file system's own journal comes on top.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]
#![expect(clippy::print_stdout, reason = "figures are what it is for")]

mod support;

use std::time::Instant;

use jiff::Timestamp;
use nexus_reporter::history::{
    generate::{self, Options, World},
    maintain,
    retention::Keep,
    store::{self, Subjects},
    window::{STEP, Window},
};
use support::database::{Database, cases};
use tokio_postgres::Client;

const LARGEST: f64 = 400.0;
const MOST_WRITTEN: f64 = 20.0;
const DAYS: i64 = 2;
const DAY: i64 = 86_400;

cases! {
    a_year_and_a_day_stay_within_the_budget,
}

#[derive(Clone, Copy, Debug, Default)]
struct Counted {
    log: f64,
    pages: f64,
    status: f64,
}

async fn counted(client: &Client) -> Counted {
    let version: i32 = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.unwrap().get(0);
    let pages = match version {
        180_000.. => "SELECT sum(write_bytes + extend_bytes) FROM pg_stat_io WHERE object = 'relation'",
        160_000.. => "SELECT sum((writes + extends) * op_bytes) FROM pg_stat_io WHERE object = 'relation'",
        _ => "SELECT 8192 * (buffers_checkpoint + buffers_clean + buffers_backend) FROM pg_stat_bgwriter",
    };
    let sql = format!(
        "SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::float8, ({pages})::float8,
                (SELECT 8192 * sum(blks_written) FROM pg_stat_slru)::float8"
    );
    let row = client.query_one(&sql, &[]).await.unwrap();
    Counted { log: row.get(0), pages: row.get(1), status: row.get(2) }
}

async fn a_year_and_a_day_stay_within_the_budget(url: &str) {
    let database = Database::create(url).await;
    // As in compose.yml.
    let compressed = format!("ALTER DATABASE {} SET wal_compression = on", database.name);
    database.client.batch_execute(&compressed).await.unwrap();
    let mut client = database.connect_as("nexus_reporter").await;
    // The days that are measured come after the year, and are over.
    let midnight = Timestamp::now().as_second().div_euclid(DAY) * DAY - (DAYS + 1) * DAY;
    let until = Timestamp::from_second(midnight).unwrap();
    let options = Options { hosts: 1, services: 30, days: 365, seed: 1, until, keep: Keep::default() };
    let began = Instant::now();
    let summary = generate::fill(&mut client, &options).await.unwrap();
    println!("a year made up in {} s: {summary:?}", began.elapsed().as_secs());

    let megabytes = |bytes: f64| bytes / 1e6;
    let mut all = 0.0;
    for size in maintain::sizes(&client).await.unwrap() {
        all += size.bytes as f64;
        println!("{:>16}  {:>6.1} MB in {} partitions", size.table, megabytes(size.bytes as f64), size.partitions);
    }
    println!("a year takes {:.0} MB (at most {LARGEST})", megabytes(all));

    let world = World::new(&options);
    let mut subjects = Subjects::load(&client).await.unwrap();
    database.client.batch_execute("CHECKPOINT").await.unwrap();
    let before = counted(&database.client).await;
    for hour in 0..24 * DAYS {
        let first = midnight + hour * 3600 + STEP;
        let window = Window { first, last: first + 11 * STEP };
        store::make_partitions(&client, window.first, window.last).await.unwrap();
        let written = store::write(&mut client, &mut subjects, &world.batch(window), window.last).await.unwrap();
        assert_eq!((written.hosts, written.mounts, written.services), (12, 36, 360));
        maintain::roll_up(&mut client).await.unwrap();
        maintain::drop_old(&client, options.keep, Timestamp::from_second(window.last).unwrap()).await.unwrap();
        maintain::sizes(&client).await.unwrap();
        client.batch_execute("SELECT pg_stat_force_next_flush()").await.unwrap();
        database.client.batch_execute("CHECKPOINT").await.unwrap();
    }
    let after = counted(&database.client).await;
    let a_day = |before: f64, after: f64| megabytes(after - before) / DAYS as f64;
    let log = a_day(before.log, after.log);
    let pages = a_day(before.pages, after.pages);
    let status = a_day(before.status, after.status);
    let written = log + pages + status;
    println!(
        "a day writes {written:.1} MB (at most {MOST_WRITTEN}): {log:.1} of log, {pages:.1} of tables and indexes, {status:.1} of status"
    );
    assert!(megabytes(all) <= LARGEST, "{all}");
    assert!(written <= MOST_WRITTEN, "{written}");
    // What is counted must be there at all: 9,000 rows a day.
    assert!(log > 0.5 && pages > 0.5, "{before:?} {after:?}");
    database.drop().await;
}
