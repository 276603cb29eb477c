//! Roll-up, retention and a look at the sizes, against the database. What is to be done is decided in [`retention`].

use jiff::Timestamp;
use tokio_postgres::{Client, GenericClient};

use super::{
    metrics::Size,
    retention::{self, Keep, Partition},
    store,
};

type Result<T> = std::result::Result<T, tokio_postgres::Error>;

/// Rolls up the days that are complete. Returns the rows that were new.
pub async fn roll_up(client: &mut Client) -> Result<u64> {
    let progress = store::progress(client).await?;
    // The first sample takes a look at each partition; where the roll-up goes on from is known nearly always.
    let oldest = match progress.rolled_up {
        Some(done) if progress.collected.is_some_and(|collected| done <= collected) => Some(done + 1),
        _ => store::oldest_sample(client).await?,
    };
    let mut rows = 0;
    for (first, last) in retention::days_to_roll_up(progress.rolled_up, progress.collected, oldest) {
        store::make_partitions(client, first, last).await?;
        rows += store::roll_up(client, first, last).await?;
    }
    Ok(rows)
}

pub async fn partitions(client: &impl GenericClient) -> Result<Vec<Partition>> {
    let sql = "SELECT parent, name, starts_at, ends_at, bytes, holds_rows FROM history.partitions ORDER BY name";
    let partition = |row: &tokio_postgres::Row| {
        Ok(Partition {
            parent: row.try_get(0)?,
            name: row.try_get(1)?,
            starts_at: row.try_get(2)?,
            ends_at: row.try_get(3)?,
            bytes: row.try_get(4)?,
            holds_rows: row.try_get(5)?,
        })
    };
    client.query(sql, &[]).await?.iter().map(partition).collect()
}

/// Drops what is too old. Returns the names.
pub async fn drop_old(client: &impl GenericClient, keep: Keep, now: Timestamp) -> Result<Vec<String>> {
    let progress = store::progress(client).await?;
    let all = partitions(client).await?;
    let mut dropped = Vec::new();
    for partition in retention::to_drop(&all, keep, now, progress.rolled_up) {
        let sql = "SELECT history.drop_partition($1)";
        if client.query_one(sql, &[&partition.name]).await?.try_get(0)? {
            dropped.push(partition.name.clone());
        }
    }
    Ok(dropped)
}

pub async fn sizes(client: &impl GenericClient) -> Result<Vec<Size>> {
    let sql = "
        SELECT coalesce(parent.relname, own.relname)::text,
               sum(pg_total_relation_size(own.oid))::bigint,
               count(parent.oid),
               coalesce(sum(used.n_dead_tup), 0)::bigint,
               coalesce(extract(epoch FROM max(greatest(used.last_vacuum, used.last_autovacuum))), 0)::bigint,
               coalesce(extract(epoch FROM max(greatest(used.last_analyze, used.last_autoanalyze))), 0)::bigint
        FROM pg_class own
        LEFT JOIN pg_inherits ON inhrelid = own.oid
        LEFT JOIN pg_class parent ON parent.oid = inhparent
        LEFT JOIN pg_stat_user_tables used ON used.relid = own.oid
        WHERE own.relnamespace = 'history'::regnamespace AND own.relkind = 'r'
        GROUP BY 1";
    let size = |row: &tokio_postgres::Row| {
        Ok(Size {
            table: row.try_get(0)?,
            bytes: row.try_get(1)?,
            partitions: row.try_get(2)?,
            dead_rows: row.try_get(3)?,
            vacuumed: row.try_get(4)?,
            analyzed: row.try_get(5)?,
        })
    };
    client.query(sql, &[]).await?.iter().map(size).collect()
}
