//! The reporter's copy of the vitals, in the real stack.

use anyhow::{Result, ensure};

use crate::command::docker;
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

pub async fn vitals_reach_the_database_and_a_reader_only_reads(stack: &Stack) -> Result<()> {
    let _postgres = stack.postgres_stays.read().await;
    // The first batch is due at once: how far back Prometheus knows is not known before it is asked.
    eventually("a first batch", seconds(60), async || {
        let rows =
            stack.sql("postgres", "SELECT through <= now() FROM history.progress WHERE task = 'collect'").await?;
        Ok((rows == ["t"]).then_some(()))
    })
    .await?;
    eventually("the reporter in Prometheus", seconds(60), async || {
        let expression = "nexus_reporter_postgres_up == 1 and nexus_reporter_prometheus_up == 1";
        Ok((stack.query(expression).await?.len() == 1).then_some(()))
    })
    .await?;
    // A reader's session is bounded, and what it may not do it is told.
    let settings = "SELECT current_setting('default_transaction_read_only'), current_setting('statement_timeout')";
    ensure!(stack.sql("nexus_reader", settings).await? == ["on|10s"], "the reader's bounds");
    ensure!(stack.sql("nexus_reader", "SELECT count(*) FROM history.service_usage").await?.len() == 1);
    for (role, wrong) in [
        ("nexus_reader", "DELETE FROM history.hosts"),
        ("nexus_reader", "BEGIN READ WRITE; DELETE FROM incidents"),
        ("nexus_reader", "SELECT history.make_partitions(now(), now())"),
        ("nexus_reporter", "DELETE FROM history.host_samples"),
        ("nexus_reporter", "DROP TABLE history.host_samples"),
        ("nexus_reporter", "INSERT INTO incidents SELECT * FROM incidents"),
    ] {
        ensure!(stack.sql(role, wrong).await.is_err(), "{role} may {wrong}");
    }
    // As little power as the others: not root, a root file system that can't be written, nobody else's secrets.
    let container = stack.container("reporter").await?.id;
    let look = "id -u; touch /x 2>/dev/null && echo writes; ls /run/secrets; grep CapEff /proc/self/status";
    let seen = docker(["exec", &container, "sh", "-c", look]).await?;
    let secrets = "api_read_token\napi_token\nhealer_api_read_token\npostgres_password\nreader_password\ntelegram_bot_token\nweb.yml";
    let expected = format!("10192\n{secrets}\nCapEff:\t0000000000000000");
    ensure!(seen.trim() == expected, "the reporter's container shows: {seen}");
    // What it may take on a Pi, in kB: the programs of the stack are built as an owner's are.
    let status = docker(["exec", &container, "grep", "VmRSS", "/proc/1/status"]).await?;
    let resident: u64 = status.split_whitespace().nth(1).unwrap_or_default().parse()?;
    ensure!(resident <= 20_000, "the reporter has {resident} kB resident");
    Ok(())
}
