//! The history about itself, in OpenMetrics. Times, not ages: Prometheus reckons those.

use std::sync::atomic::{AtomicI64, AtomicU64};

use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::store::Written;

type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TaskLabel {
    task: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct TableLabel {
    table: String,
}

/// What the reporter does by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    Collect,
    RollUp,
    Retention,
}

impl Work {
    pub const ALL: [Work; 3] = [Work::Collect, Work::RollUp, Work::Retention];

    pub fn as_str(self) -> &'static str {
        match self {
            Work::Collect => "collect",
            Work::RollUp => "roll_up",
            Work::Retention => "retention",
        }
    }
}

/// What a table takes, with all its partitions and indexes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Size {
    pub table: String,
    pub bytes: i64,
    pub partitions: i64,
    pub dead_rows: i64,
    /// Seconds of unixtime; 0 for never.
    pub vacuumed: i64,
    pub analyzed: i64,
}

#[derive(Debug)]
pub struct Metrics {
    pub postgres_up: Level,
    pub prometheus_up: Level,
    pub interval: Level,
    pub lost_seconds: Count,
    pub dropped_partitions: Count,
    success: Family<TaskLabel, Level>,
    through: Family<TaskLabel, Level>,
    failures: Family<TaskLabel, Count>,
    rows: Family<TableLabel, Count>,
    bytes: Family<TableLabel, Level>,
    partitions: Family<TableLabel, Level>,
    dead_rows: Family<TableLabel, Level>,
    vacuumed: Family<TableLabel, Level>,
    analyzed: Family<TableLabel, Level>,
}

impl Metrics {
    pub fn register(registry: &mut Registry) -> Self {
        fn add<M: prometheus_client::registry::Metric + Default + Clone>(
            registry: &mut Registry,
            name: &str,
            help: &str,
        ) -> M {
            let metric = M::default();
            registry.register(name, help, metric.clone());
            metric
        }
        let metrics = Self {
            postgres_up: add(registry, "nexus_reporter_postgres_up", "Whether Postgres answered last"),
            prometheus_up: add(registry, "nexus_reporter_prometheus_up", "Whether Prometheus answered last"),
            interval: add(
                registry,
                "nexus_reporter_history_interval_seconds",
                "Time between two batches from Prometheus",
            ),
            lost_seconds: add(
                registry,
                "nexus_reporter_history_lost_seconds",
                "Time that is missing in the history since Prometheus no longer had it",
            ),
            dropped_partitions: add(
                registry,
                "nexus_reporter_history_dropped_partitions",
                "Partitions dropped because they were too old",
            ),
            success: add(
                registry,
                "nexus_reporter_history_last_success_timestamp_seconds",
                "When a task last ended without a failure",
            ),
            through: add(
                registry,
                "nexus_reporter_history_through_timestamp_seconds",
                "How far the history reaches: samples (collect) and hours (roll_up)",
            ),
            failures: add(registry, "nexus_reporter_history_failures", "Failures by task"),
            rows: add(registry, "nexus_reporter_history_rows", "Rows written since the start"),
            bytes: add(registry, "nexus_reporter_history_table_bytes", "Size of a table, its indexes included"),
            partitions: add(registry, "nexus_reporter_history_partitions", "Partitions of a table"),
            dead_rows: add(
                registry,
                "nexus_reporter_history_dead_rows",
                "Rows of a table that a vacuum would remove, by Postgres's estimate",
            ),
            vacuumed: add(
                registry,
                "nexus_reporter_history_vacuumed_timestamp_seconds",
                "When a table was last vacuumed; 0 for never, as is right while nothing is changed in it",
            ),
            analyzed: add(
                registry,
                "nexus_reporter_history_analyzed_timestamp_seconds",
                "When Postgres last looked how the values of a table are spread; 0 for never",
            ),
        };
        for work in Work::ALL {
            drop(metrics.failures.get_or_create(&TaskLabel { task: work.as_str() }));
        }
        metrics
    }

    pub fn succeeded(&self, work: Work, now: i64) {
        self.success.get_or_create(&TaskLabel { task: work.as_str() }).set(now);
    }

    pub fn failed(&self, work: Work) {
        self.failures.get_or_create(&TaskLabel { task: work.as_str() }).inc();
    }

    /// Unknown stays absent: 0 would be half a century behind.
    pub fn reaches(&self, work: Work, through: Option<i64>) {
        if let Some(through) = through {
            self.through.get_or_create(&TaskLabel { task: work.as_str() }).set(through);
        }
    }

    pub fn wrote(&self, written: Written) {
        for (table, rows) in
            [("host_samples", written.hosts), ("mount_samples", written.mounts), ("service_samples", written.services)]
        {
            self.rows.get_or_create(&TableLabel { table: table.to_owned() }).inc_by(rows);
        }
    }

    pub fn rolled_up(&self, rows: u64) {
        self.rows.get_or_create(&TableLabel { table: "hours".to_owned() }).inc_by(rows);
    }

    pub fn show_sizes(&self, sizes: &[Size]) {
        for size in sizes {
            let label = TableLabel { table: size.table.clone() };
            self.bytes.get_or_create(&label).set(size.bytes);
            self.partitions.get_or_create(&label).set(size.partitions);
            self.dead_rows.get_or_create(&label).set(size.dead_rows);
            self.vacuumed.get_or_create(&label).set(size.vacuumed);
            self.analyzed.get_or_create(&label).set(size.analyzed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_the_rules_use() {
        let mut registry = Registry::default();
        let metrics = Metrics::register(&mut registry);
        metrics.interval.set(3600);
        metrics.reaches(Work::Collect, Some(1_800_000_000));
        metrics.reaches(Work::RollUp, None);
        metrics.succeeded(Work::Retention, 1_800_000_001);
        metrics.failed(Work::RollUp);
        metrics.wrote(Written { hosts: 12, mounts: 24, services: 360 });
        metrics.show_sizes(&[Size { table: "host_hours".into(), bytes: 8192, partitions: 2, ..Size::default() }]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "nexus_reporter_postgres_up 0",
            "nexus_reporter_prometheus_up 0",
            "nexus_reporter_history_interval_seconds 3600",
            "nexus_reporter_history_lost_seconds_total 0",
            "nexus_reporter_history_last_success_timestamp_seconds{task=\"retention\"} 1800000001",
            "nexus_reporter_history_through_timestamp_seconds{task=\"collect\"} 1800000000",
            "nexus_reporter_history_failures_total{task=\"collect\"} 0",
            "nexus_reporter_history_failures_total{task=\"roll_up\"} 1",
            "nexus_reporter_history_rows_total{table=\"service_samples\"} 360",
            "nexus_reporter_history_table_bytes{table=\"host_hours\"} 8192",
            "nexus_reporter_history_partitions{table=\"host_hours\"} 2",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        assert!(!text.contains("through_timestamp_seconds{task=\"roll_up\"}"), "{text}");
    }
}
