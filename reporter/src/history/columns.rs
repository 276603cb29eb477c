//! What is measured: one list a table, which the queries, the rows, the roll-up and the readers go by. A test compares it
//! with the schema.

/// What a figure is, and so how it is stored and what it can't be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Whole and not negative.
    Bytes,
    /// From 0 to 1; what is measured may be a little more.
    Ratio,
    /// Not negative.
    Number,
    /// Any number.
    Degrees,
    /// Whole, not negative and small.
    Count,
}

impl Kind {
    /// The element of the array in which values are handed to Postgres.
    pub fn sql(self) -> &'static str {
        match self {
            Kind::Bytes => "bigint",
            Kind::Ratio | Kind::Number | Kind::Degrees => "real",
            Kind::Count => "smallint",
        }
    }

    /// The value as it is stored. What can't be is no measurement, and so missing.
    pub fn sane(self, value: f64) -> Option<f64> {
        // The largest number of bytes that a double counts exactly.
        const MOST_BYTES: f64 = 9_007_199_254_740_992.0;
        if !value.is_finite() {
            return None;
        }
        match self {
            Kind::Bytes => (0.0..=MOST_BYTES).contains(&value).then(|| value.round()),
            // Rates are reckoned from scrapes that are not quite on time.
            Kind::Ratio => (-0.05..=1.5).contains(&value).then(|| value.clamp(0.0, 1.0)),
            Kind::Number => (0.0..=f64::from(f32::MAX)).contains(&value).then_some(value),
            Kind::Degrees => (-273.15..=1000.0).contains(&value).then_some(value),
            Kind::Count => (value >= 0.0).then(|| value.round().min(f64::from(i16::MAX))),
        }
    }
}

/// How the samples of an hour become one figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Figure {
    Min,
    Avg,
    Max,
    P95,
    /// The most, of what hardly ever changes: the column has the name of the sample's.
    Most,
    /// The sum, of what is counted: the column has the name of the sample's.
    Sum,
}

impl Figure {
    pub fn suffix(self) -> &'static str {
        match self {
            Figure::Min => "_min",
            Figure::Avg => "_avg",
            Figure::Max => "_max",
            Figure::P95 => "_p95",
            Figure::Most | Figure::Sum => "",
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
pub struct Column {
    /// In the table of the samples.
    pub name: &'static str,
    pub kind: Kind,
    /// What is kept of it by the hour.
    pub hourly: &'static [Figure],
}

const fn column(name: &'static str, kind: Kind, hourly: &'static [Figure]) -> Column {
    Column { name, kind, hourly }
}

/// A pair of tables: five-minute samples, and hours.
#[derive(Debug, PartialEq, Eq)]
pub struct Table {
    pub samples: &'static str,
    pub hours: &'static str,
    /// The column with the subject's key.
    pub key: &'static str,
    pub columns: &'static [Column],
}

use Figure::{Avg, Max, Min, Most, P95, Sum};
use Kind::{Bytes, Count, Degrees, Number, Ratio};

const SPREAD: &[Figure] = &[Min, Avg, Max, P95];

pub static HOSTS: Table = Table {
    samples: "history.host_samples",
    hours: "history.host_hours",
    key: "host_id",
    columns: &[
        column("memory_total_bytes", Bytes, &[Most]),
        column("memory_used_bytes", Bytes, SPREAD),
        column("swap_total_bytes", Bytes, &[Most]),
        column("swap_used_bytes", Bytes, &[Avg, Max]),
        column("cpu_busy_ratio", Ratio, SPREAD),
        column("cpu_count", Number, &[Most]),
        column("load1", Number, &[]),
        column("load5", Number, SPREAD),
        column("load15", Number, &[]),
        column("cpu_pressure_ratio", Ratio, &[Avg, Max]),
        column("memory_pressure_ratio", Ratio, &[Avg, Max]),
        column("memory_pressure_full_ratio", Ratio, &[Avg, Max]),
        column("io_pressure_ratio", Ratio, &[Avg, Max]),
        column("io_pressure_full_ratio", Ratio, &[Avg, Max]),
        column("temperature_celsius", Degrees, SPREAD),
        column("throttled_ratio", Ratio, &[Avg]),
        column("undervoltage_ratio", Ratio, &[Avg]),
        column("network_in_bytes_per_second", Number, &[Avg, Max]),
        column("network_out_bytes_per_second", Number, &[Avg, Max]),
        column("disk_read_bytes_per_second", Number, &[Avg]),
        column("disk_written_bytes_per_second", Number, &[Avg]),
        column("swap_in_pages_per_second", Number, &[Avg]),
        column("swap_out_pages_per_second", Number, &[Avg]),
    ],
};

pub static MOUNTS: Table = Table {
    samples: "history.mount_samples",
    hours: "history.mount_hours",
    key: "mount_id",
    columns: &[
        column("size_bytes", Bytes, &[Most]),
        column("used_bytes", Bytes, &[Min, Avg, Max]),
        column("available_bytes", Bytes, &[Min, Avg]),
        column("inodes", Bytes, &[Most]),
        column("inodes_used", Bytes, &[Max]),
    ],
};

pub static SERVICES: Table = Table {
    samples: "history.service_samples",
    hours: "history.service_hours",
    key: "service_id",
    columns: &[
        column("memory_bytes", Bytes, SPREAD),
        column("memory_peak_bytes", Bytes, &[Max]),
        column("memory_limit_bytes", Bytes, &[Most]),
        column("up_ratio", Ratio, &[Min, Avg]),
        column("healthy_ratio", Ratio, &[Min, Avg]),
        column("cpu_cores", Number, SPREAD),
        column("replicas", Count, &[Most]),
        column("restarts", Count, &[Sum]),
        column("oom_kills", Count, &[Sum]),
    ],
};

impl Table {
    pub fn place(&self, name: &str) -> Option<usize> {
        self.columns.iter().position(|column| column.name == name)
    }

    /// Adds samples, given as one array a column, in the order of the key. What is there stays.
    pub fn insert(&self) -> String {
        let names: Vec<&str> = self.columns.iter().map(|column| column.name).collect();
        let arrays: Vec<String> = (3..).zip(self.columns).map(|(n, it)| format!("${n}::{}[]", it.kind.sql())).collect();
        format!(
            "INSERT INTO {} (at, {}, {}) SELECT * FROM unnest($1::timestamptz[], $2::integer[], {}) ORDER BY 1, 2 ON CONFLICT DO NOTHING",
            self.samples,
            self.key,
            names.join(", "),
            arrays.join(", ")
        )
    }

    /// Makes the hours that begin from $1 on and before $2. What is there stays.
    pub fn roll_up(&self) -> String {
        let mut names = Vec::new();
        let mut figures = Vec::new();
        for column in self.columns {
            for &figure in column.hourly {
                let name = column.name;
                names.push(format!("{name}{}", figure.suffix()));
                // Means of whole numbers are no whole numbers, and a percentile is a double.
                let cast = column.kind.sql();
                figures.push(match figure {
                    Min => format!("min({name})"),
                    Avg => format!("avg({name})::{cast}"),
                    Max | Most => format!("max({name})"),
                    P95 => format!("percentile_cont(0.95) WITHIN GROUP (ORDER BY {name})::{cast}"),
                    Sum => format!("sum({name})"),
                });
            }
        }
        format!(
            "INSERT INTO {hours} (hour, {key}, samples, {names}) \
             SELECT date_trunc('hour', at - interval '5 minutes', 'UTC') AS hour, {key}, count(*), {figures} \
             FROM {samples} WHERE at > $1 AND at <= $2 GROUP BY {key}, hour ORDER BY {key}, hour ON CONFLICT DO NOTHING",
            hours = self.hours,
            samples = self.samples,
            key = self.key,
            names = names.join(", "),
            figures = figures.join(", ")
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_is_missing() {
        let check = |kind: Kind, value: f64, expected: Option<f64>| {
            assert_eq!(kind.sane(value), expected, "{kind:?} {value}");
        };
        for kind in [Bytes, Ratio, Number, Degrees, Count] {
            for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -300.0] {
                check(kind, value, None);
            }
            check(kind, 0.0, Some(0.0));
        }
        check(Bytes, 10.4, Some(10.0));
        check(Bytes, 1e18, None);
        check(Ratio, 1.0003, Some(1.0));
        check(Ratio, -0.0003, Some(0.0));
        check(Ratio, 7.0, None);
        check(Degrees, -20.0, Some(-20.0));
        check(Count, 1.05, Some(1.0));
        check(Count, 1e9, Some(32767.0));
        check(Number, 1e300, None);
    }
}
