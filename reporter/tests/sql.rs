//! Questions in SQL, asked of a real Postgres: that they only read, and what they may cost. Needs NEXUS_TEST_DATABASE_URL with the
//! URL of a superuser; without it the cases are reported as ignored, with the reason in their names.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

mod support;

use std::time::{Duration, Instant};

use nexus_reporter::sql::{Bounds, SqlError};
use serde_json::{Value, json};
use support::{
    database::{Database, cases},
    site::{Site, password, reader},
};

cases! {
    a_question_only_reads,
    a_question_costs_no_more_than_it_may,
    a_question_takes_no_more_memory_than_it_may,
    what_can_be_asked_about_is_told,
}

const SMALL: Bounds = Bounds { time: Duration::from_millis(1500), rows: 10, bytes: 4096, row_bytes: 1024 };

async fn a_question_only_reads(url: &str) {
    let database = Database::create(url).await;
    database
        .client
        .batch_execute("INSERT INTO history.hosts (name, first_seen_at, last_seen_at) VALUES ('pi', now(), now())")
        .await
        .unwrap();
    let password = password();
    let reader = reader(&database, &password, SMALL);
    let asked = reader
        .ask("SELECT name, current_user::text AS who, current_setting('transaction_read_only') AS only, NULL::int AS no FROM history.hosts; -- ok")
        .await
        .unwrap_err();
    // A comment after the semicolon is a second statement that is empty; without the semicolon it is a comment.
    assert!(matches!(asked, SqlError::Wrong(_)));
    let asked = reader
        .ask("SELECT name, current_user::text AS who, current_setting('transaction_read_only') AS only, NULL::int AS no FROM history.hosts -- ok")
        .await
        .unwrap();
    assert_eq!(asked.rows, [vec![json!("pi"), json!("nexus_reader"), json!("on"), Value::Null]]);
    assert_eq!(asked.columns.iter().map(|it| it.kind.as_str()).collect::<Vec<_>>(), ["text", "text", "text", "int4"]);
    assert!(asked.complete && asked.note.is_none());
    for (sql, says) in [
        ("DELETE FROM incidents", "one SELECT"),
        ("WITH gone AS (DELETE FROM incidents RETURNING *) SELECT * FROM gone", ""),
        ("SELECT 1 AS n; DROP TABLE incidents", "multiple commands"),
        ("SELECT 1) AS q; DELETE FROM incidents; --", "syntax error"),
        ("SELECT 1) AS q LIMIT 1) AS l UNION ALL SELECT 1, (SELECT 'x' FROM (SELECT 1", "syntax error"),
        ("SELECT 1 AS n /*", "unterminated /* comment"),
        ("SELECT 'x", "unterminated quoted string"),
        ("SELECT * INTO copied FROM incidents", ""),
        ("SELECT * FROM incidents FOR UPDATE", ""),
        ("COPY incidents TO PROGRAM 'id'", "one SELECT"),
        ("SET ROLE nexus_healer", "one SELECT"),
        ("SHOW all", "one SELECT"),
        ("SELECT set_config('role', 'nexus_healer', false) AS it", "permission denied"),
        ("SELECT set_config('transaction_read_only', 'off', true) AS it", "must be set before any query"),
        ("SELECT pg_read_file('/etc/passwd') AS it", "permission denied"),
        ("SELECT pg_ls_dir('/') AS it", "permission denied"),
        ("SELECT lo_create(0) AS it", "permission denied"),
        ("SELECT lo_from_bytea(0, 'x') AS it", "permission denied"),
        ("SELECT lo_import('/etc/passwd') AS it", "permission denied"),
        ("SELECT pg_logical_emit_message(false, 'a', 'b')::text AS it", "permission denied"),
        ("SELECT history.make_partitions(now(), now()) AS it", "permission denied"),
        ("SELECT nextval('history.hosts_id_seq') AS it", "permission denied"),
        ("SELECT pg_reload_conf() AS it", "permission denied"),
        ("SELECT rolpassword FROM pg_authid", "permission denied"),
        ("SELECT query_to_xml('DELETE FROM incidents', true, false, '')::text AS it", ""),
        ("SELECT $1::int AS n", "no parameters"),
        ("SELECT 1 AS n, 2 AS n", "two columns are called \"n\""),
        ("SELECT nothing FROM incidents", "does not exist"),
        ("SELECT", "must give columns"),
    ] {
        match reader.ask(sql).await {
            Err(SqlError::Wrong(said)) => assert!(said.contains(says), "{sql}: {said}"),
            other => panic!("{sql}: {other:?}"),
        }
    }
    let left = "SELECT (SELECT count(*) FROM pg_largeobject_metadata) + (SELECT count(*) FROM incidents)
                       + (SELECT count(*) FROM pg_class WHERE relname = 'copied')";
    assert_eq!(database.number(left).await, 0);
    database.drop().await;
}

async fn a_question_costs_no_more_than_it_may(url: &str) {
    let database = Database::create(url).await;
    let password = password();
    let reader = reader(&database, &password, SMALL);
    let begun = Instant::now();
    for sql in [
        "SELECT pg_sleep(60)::text AS it",
        "SELECT count(*) FROM generate_series(1, 100000000000)",
        // Its own time can't be lengthened from within.
        "SELECT set_config('statement_timeout', '0', false) AS a, pg_sleep(60)::text AS b",
    ] {
        let said = reader.ask(sql).await.unwrap_err().to_string();
        assert!(said.contains("took too long"), "{sql}: {said}");
    }
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    let many = reader
        .ask("WITH RECURSIVE endless(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM endless) SELECT n FROM endless")
        .await
        .unwrap();
    assert_eq!((many.rows.len(), many.complete), (10, false));
    assert!(many.note.unwrap().contains("only the first 10 rows"));
    let whole = reader.ask("SELECT n FROM generate_series(1, 10) AS n").await.unwrap();
    assert_eq!((whole.rows.len(), whole.complete), (10, true));
    let long = reader.ask("SELECT repeat('x', 100000) AS it").await.unwrap_err().to_string();
    assert!(long.contains("row 1 has 10") && long.contains("1024 are the most"), "{long}");
    let wide = reader.ask("SELECT n, repeat('x', 1000) AS it FROM generate_series(1, 9) AS n").await.unwrap();
    assert_eq!((wide.rows.len(), wide.complete), (4, false));
    assert!(wide.note.unwrap().contains("only the first 4096 bytes"));
    // What goes wrong in a later row is told as well.
    let late = reader.ask("SELECT 1 / (3 - n) AS it FROM generate_series(1, 5) AS n").await.unwrap_err().to_string();
    assert!(late.contains("division by zero"), "{late}");
    // Two at a time.
    let sleep = "SELECT pg_sleep(0.3)::text AS it";
    let (one, two, three) = tokio::join!(reader.ask(sleep), reader.ask(sleep), reader.ask(sleep));
    assert!(one.is_ok() && two.is_ok() && matches!(three, Err(SqlError::Busy)), "{one:?} {two:?} {three:?}");
    assert!(reader.ask(sleep).await.is_ok());
    // Postgres away is nobody's mistake.
    database.wire.cut(true);
    let away = reader.ask("SELECT 1 AS n").await.unwrap_err();
    assert!(!matches!(away, SqlError::Wrong(_) | SqlError::Busy), "{away:?}");
    database.drop().await;
}

/// Where Postgres is started as compose.yml does it, which `./nexus test` does; another one gives the row, which is too long.
async fn a_question_takes_no_more_memory_than_it_may(url: &str) {
    let database = Database::create(url).await;
    let limits = database.client.query_one("SELECT pg_read_file('/proc/self/limits')", &[]).await.unwrap();
    let limits: String = limits.get(0);
    let bounded = !limits.lines().find(|line| line.starts_with("Max data size")).unwrap().contains("unlimited");
    let password = password();
    // Without a bound the row is made, which a busy machine does slowly.
    let reader = reader(&database, &password, Bounds { time: Duration::from_secs(60), ..SMALL });
    let expected = if bounded { "more memory than a question may" } else { "1024 are the most" };
    for sql in [
        "SELECT repeat('x', 100000000) AS it",
        // Its share can't be raised from within.
        "SELECT set_config('work_mem', '1GB', true) AS a, repeat('x', 100000000) AS b",
    ] {
        let said = reader.ask(sql).await.unwrap_err();
        assert!(matches!(&said, SqlError::Wrong(why) if why.contains(expected)), "{sql}: {said:?}");
    }
    // What sorts more than it may keep in memory goes to the disk for it.
    let sorted = "SELECT n FROM (SELECT n FROM generate_series(1, 100000) AS n ORDER BY md5(n::text)) AS mixed LIMIT 1";
    assert_eq!(reader.ask(sorted).await.unwrap().rows.len(), 1);
    database.drop().await;
}

async fn what_can_be_asked_about_is_told(url: &str) {
    let database = Database::create(url).await;
    let site = Site::start(&database, "http://127.0.0.1:1").await;
    let schema = site.good("/api/v1/schema", &[]).await;
    let tables = schema["tables"].as_array().unwrap();
    let named = |name: &str| tables.iter().find(|table| table["name"] == name).unwrap_or_else(|| panic!("no {name}"));
    for name in ["incidents", "attempts", "evidence", "incident_events", "history.host_hours", "history.service_usage"]
    {
        assert!(named(name)["says"].as_str().is_some_and(|says| says.len() > 20), "{name} says nothing");
    }
    assert_eq!(named("history.host_usage")["kind"], "view");
    assert_eq!(tables.iter().filter(|table| table["name"].as_str().unwrap().contains("refinery")).count(), 0);
    // An agent gets it whole.
    assert!(schema.to_string().len() < 40_000, "{}", schema.to_string().len());
    let one = site.good("/api/v1/schema", &[("table", "incidents")]).await;
    assert_eq!(one["tables"].as_array().unwrap().len(), 1);
    for column in one["tables"][0]["columns"].as_array().unwrap() {
        assert!(column["says"].is_string(), "{column}");
    }
    site.bad("/api/v1/schema", &[("table", "pg_authid")], 400, "there are attempts, evidence").await;
    let asked = site.good("/api/v1/query", &[("sql", "SELECT count(*) AS n FROM incidents")]).await;
    assert_eq!((&asked["rows"], &asked["columns"][0]["type"]), (&json!([[0]]), &json!("int8")));
    site.bad("/api/v1/query", &[("sql", "SELECT n FROM incidents")], 400, "column \"n\" does not exist").await;
    site.bad("/api/v1/query", &[], 400, "sql").await;
    database.drop().await;
}
