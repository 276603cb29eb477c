//! The loop: Prometheus → Postgres by the hour, then roll-up and retention.
//!
//! A batch of an hour instead of one every five minutes: the same few pages are written with each batch, and after
//! each checkpoint once more as a whole into the log of Postgres. The last hour is answered from Prometheus anyway.

use std::{sync::Arc, time::Duration};

use jiff::Timestamp;
use tokio_postgres::Client;

use super::{
    batch::Batch,
    maintain,
    metrics::{Metrics, Work},
    prometheus::{Prometheus, PrometheusError, Series},
    queries::{self, Query},
    retention::Keep,
    store::{self, Subjects},
    window::{Plan, STEP, Window},
};
use crate::{
    database::{Database, DatabaseError},
    errors::chain,
};

/// The longest time without a look at the clock, which may be stepped.
const LOOK: Duration = Duration::from_secs(60);
/// Pause after a failure: doubled from the first to the last.
const RETRY_FIRST: Duration = Duration::from_secs(5);
const RETRY_LAST: Duration = Duration::from_secs(300);
/// Roll-up and retention have hardly ever something to do.
const MAINTAIN_EVERY: i64 = 3600;

#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    #[error(transparent)]
    Database(#[from] DatabaseError),
    #[error("{doing}")]
    Postgres { doing: &'static str, source: tokio_postgres::Error },
    #[error("fetching {span}")]
    Prometheus { span: String, source: PrometheusError },
    #[error("asking prometheus for its time")]
    Clock(#[source] PrometheusError),
}

fn while_(doing: &'static str) -> impl FnOnce(tokio_postgres::Error) -> HistoryError {
    move |source| HistoryError::Postgres { doing, source }
}

pub struct Collector {
    database: Database,
    prometheus: Prometheus,
    /// Seconds between two batches.
    interval: i64,
    keep: Keep,
    metrics: Arc<Metrics>,
    hosts: Vec<Query>,
    mounts: Vec<Query>,
    services: Vec<Query>,
    /// How far it reaches, once that is known.
    through: Option<i64>,
    maintained: Option<i64>,
}

impl Collector {
    pub fn new(
        database: Database,
        prometheus: Prometheus,
        interval: Duration,
        keep: Keep,
        metrics: Arc<Metrics>,
    ) -> Self {
        let interval = i64::try_from(interval.as_secs()).unwrap_or(i64::MAX).max(STEP);
        metrics.interval.set(interval);
        Self {
            database,
            prometheus,
            interval,
            keep,
            metrics,
            hosts: queries::hosts(),
            mounts: queries::mounts(),
            services: queries::services(),
            through: None,
            maintained: None,
        }
    }

    /// Runs until `stop`. What is under way then is given up: Postgres takes back a batch that was not committed, and the next
    /// start fetches it again.
    pub async fn run(mut self, stop: impl Future<Output = ()>) {
        tokio::select! {
            () = stop => (),
            () = self.keep_on() => (),
        }
    }

    async fn keep_on(&mut self) {
        let mut retry = RETRY_FIRST;
        loop {
            let pause = match self.look().await {
                Ok(()) => {
                    retry = RETRY_FIRST;
                    LOOK
                }
                Err(error) => {
                    tracing::warn!(reason = %chain(&error), "the history does not come along; tried again in {} s", retry.as_secs());
                    let pause = retry;
                    retry = (retry * 2).min(RETRY_LAST);
                    pause
                }
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// Does what is due.
    async fn look(&mut self) -> Result<(), HistoryError> {
        let now = Timestamp::now().as_second();
        let collects = Plan::new(self.through, now).is_due(self.interval);
        // Also when the clock has gone back.
        let maintains = self.maintained.is_none_or(|last| !(0..MAINTAIN_EVERY).contains(&(now - last)));
        if !collects && !maintains {
            return Ok(());
        }
        let connected = self.database.connect().await;
        self.metrics.postgres_up.set(connected.is_ok().into());
        let mut client = connected.inspect_err(|_| self.metrics.failed(Work::Collect))?;
        let collected = self.collect(&mut client, now).await;
        match &collected {
            Ok(()) => self.metrics.succeeded(Work::Collect, now),
            Err(_) => self.metrics.failed(Work::Collect),
        }
        // Prometheus may be away for long; what is here is looked after all the same.
        let maintained = self.maintain(&mut client, now).await;
        if client.is_closed() {
            self.metrics.postgres_up.set(0);
        }
        collected.and(maintained)
    }

    /// Fetches what is due, window by window.
    async fn collect(&mut self, client: &mut Client, now: i64) -> Result<(), HistoryError> {
        let progress = store::progress(client).await.map_err(while_("reading how far the history reaches"))?;
        self.through = progress.collected;
        self.metrics.reaches(Work::Collect, progress.collected);
        self.metrics.reaches(Work::RollUp, progress.rolled_up);
        let asked = self.prometheus.now().await;
        self.metrics.prometheus_up.set(asked.is_ok().into());
        // The slowest clock counts: what one of the three calls the future is not there yet.
        let now = now.min(progress.now).min(asked.map_err(HistoryError::Clock)?);
        let plan = Plan::new(progress.collected, now);
        if !plan.is_due(self.interval) {
            return Ok(());
        }
        if plan.restarted {
            tracing::warn!("the history reaches into the future, so a clock was wrong; it is gone through again");
        }
        store::make_partitions(client, plan.after, plan.settled).await.map_err(while_("making partitions"))?;
        let mut subjects = Subjects::load(client).await.map_err(while_("reading hosts and services"))?;
        let mut lost = plan.lost;
        let mut rows = 0;
        for window in plan.windows() {
            // Pieces of it, the next one last.
            let mut pieces = vec![window];
            while let Some(piece) = pieces.pop() {
                let batch = match self.fetch(piece).await {
                    Ok(batch) => batch,
                    Err(error) => match piece.halves().filter(|_| error.is_too_much()) {
                        Some((left, right)) => {
                            pieces.extend([right, left]);
                            continue;
                        }
                        None => return Err(HistoryError::Prometheus { span: store::span(piece), source: error }),
                    },
                };
                let written =
                    store::write(client, &mut subjects, &batch, piece.last).await.map_err(while_("writing samples"))?;
                self.through = Some(piece.last);
                self.metrics.reaches(Work::Collect, self.through);
                self.metrics.wrote(written);
                self.metrics.lost_seconds.inc_by(u64::try_from(lost).unwrap_or(0));
                lost = 0;
                rows += written.sum();
            }
        }
        tracing::debug!(rows, "the history reaches to {}", store::time(plan.settled));
        Ok(())
    }

    async fn fetch(&self, window: Window) -> Result<Batch, PrometheusError> {
        let mut batch = Batch::new(window);
        for query in &self.hosts {
            batch.add_hosts(query.column, &self.ask(query, window).await?);
        }
        for query in &self.mounts {
            batch.add_mounts(query.column, &self.ask(query, window).await?);
        }
        for query in &self.services {
            batch.add_services(query.column, &self.ask(query, window).await?);
        }
        batch.forget_passing_containers();
        Ok(batch)
    }

    async fn ask(&self, query: &Query, window: Window) -> Result<Vec<Series>, PrometheusError> {
        self.prometheus.range(&query.promql, window).await
    }

    async fn maintain(&mut self, client: &mut Client, now: i64) -> Result<(), HistoryError> {
        let rolled_up = maintain::roll_up(client).await;
        match &rolled_up {
            Ok(rows) => {
                self.metrics.rolled_up(*rows);
                self.metrics.succeeded(Work::RollUp, now);
            }
            Err(_) => self.metrics.failed(Work::RollUp),
        }
        rolled_up.map_err(while_("rolling samples up to hours"))?;
        let dropped = maintain::drop_old(client, self.keep, store::time(now)).await;
        match &dropped {
            Ok(_) => self.metrics.succeeded(Work::Retention, now),
            Err(_) => self.metrics.failed(Work::Retention),
        }
        let dropped = dropped.map_err(while_("dropping old partitions"))?;
        if !dropped.is_empty() {
            tracing::info!("dropped what is older than it is to be kept: {}", dropped.join(", "));
            self.metrics.dropped_partitions.inc_by(dropped.len() as u64);
        }
        let looked = async {
            let progress = store::progress(client).await?;
            self.metrics.reaches(Work::RollUp, progress.rolled_up);
            self.metrics.show_sizes(&maintain::sizes(client).await?);
            Ok(())
        };
        looked.await.map_err(while_("looking at the sizes"))?;
        self.maintained = Some(now);
        Ok(())
    }
}
