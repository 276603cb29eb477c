//! One batch: what Prometheus said about a window, put together to rows. Pure.

use std::{borrow::Cow, collections::BTreeMap};

use super::{
    columns::{HOSTS, MOUNTS, SERVICES, Table},
    prometheus::{Labels, Series},
    window::Window,
};

/// Names are cut to so many bytes. The column takes 300, an index at most 2,700.
const LONGEST_NAME: usize = 255;

/// A host's name.
pub type HostKey = String;

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MountKey {
    pub host: String,
    pub mountpoint: String,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    pub host: String,
    /// Empty for a container outside Compose.
    pub project: String,
    pub service: String,
}

/// The samples of one table: a row a step for each subject, NaN where nothing was measured.
#[derive(Debug)]
pub struct Samples<K> {
    pub window: Window,
    table: &'static Table,
    subjects: BTreeMap<K, Vec<f64>>,
}

/// One row.
#[derive(Clone, Copy, Debug)]
pub struct Row<'a> {
    pub at: i64,
    values: &'a [f64],
}

impl Row<'_> {
    pub fn get(&self, column: usize) -> Option<f64> {
        self.values.get(column).copied().filter(|value| !value.is_nan())
    }

    fn is_empty(&self) -> bool {
        self.values.iter().all(|value| value.is_nan())
    }
}

impl<K: Ord> Samples<K> {
    pub fn new(table: &'static Table, window: Window) -> Self {
        Self { window, table, subjects: BTreeMap::new() }
    }

    pub fn table(&self) -> &'static Table {
        self.table
    }

    /// Puts a value where it belongs. What is outside of the window or can't be is left out; of two for the same place the first
    /// one stays.
    pub fn put(&mut self, key: K, column: usize, at: f64, value: f64) {
        let Some(place) = self.window.place(at.round() as i64) else { return };
        let columns = self.table.columns.len();
        let Some(value) = self.table.columns.get(column).and_then(|it| it.kind.sane(value)) else { return };
        let cells = self.subjects.entry(key).or_insert_with(|| vec![f64::NAN; self.window.steps() * columns]);
        if let Some(cell) = cells.get_mut(place * columns + column).filter(|cell| cell.is_nan()) {
            *cell = value;
        }
    }

    /// The subjects in order, each with its rows in order of time; rows without any value are none.
    pub fn rows(&self) -> impl Iterator<Item = (&K, impl Iterator<Item = Row<'_>>)> {
        let (columns, window) = (self.table.columns.len(), self.window);
        self.subjects.iter().map(move |(key, cells)| {
            let rows = cells.chunks_exact(columns).enumerate();
            (key, rows.map(move |(place, values)| Row { at: window.at(place), values }).filter(|row| !row.is_empty()))
        })
    }

    pub fn subjects(&self) -> usize {
        self.subjects.len()
    }
}

/// Device and type of a file system.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Medium {
    pub device: String,
    pub fstype: String,
}

/// All that is known about a window.
#[derive(Debug)]
pub struct Batch {
    pub window: Window,
    pub hosts: Samples<HostKey>,
    pub mounts: Samples<MountKey>,
    pub media: BTreeMap<MountKey, Medium>,
    pub services: Samples<ServiceKey>,
}

impl Batch {
    pub fn new(window: Window) -> Self {
        Self {
            window,
            hosts: Samples::new(&HOSTS, window),
            mounts: Samples::new(&MOUNTS, window),
            media: BTreeMap::new(),
            services: Samples::new(&SERVICES, window),
        }
    }

    /// Series without a host are not ours: each target of Nexus has that label.
    pub fn add_hosts(&mut self, column: usize, series: &[Series]) {
        for it in series.iter().filter(|it| !it.metric.host.is_empty()) {
            for point in &it.values {
                self.hosts.put(stored(&it.metric.host), column, point.at, point.value);
            }
        }
    }

    pub fn add_mounts(&mut self, column: usize, series: &[Series]) {
        for it in series.iter().filter(|it| !it.metric.host.is_empty() && !it.metric.mountpoint.is_empty()) {
            let Labels { host, mountpoint, device, fstype, .. } = &it.metric;
            let key = MountKey { host: stored(host), mountpoint: stored(mountpoint) };
            self.media.entry(key.clone()).or_insert_with(|| Medium { device: stored(device), fstype: stored(fstype) });
            for point in &it.values {
                self.mounts.put(key.clone(), column, point.at, point.value);
            }
        }
    }

    pub fn add_services(&mut self, column: usize, series: &[Series]) {
        for it in series.iter().filter(|it| !it.metric.host.is_empty() && !it.metric.service.is_empty()) {
            let Labels { host, project, service, .. } = &it.metric;
            let key = ServiceKey { host: stored(host), project: stored(project), service: stored(service) };
            for point in &it.values {
                self.services.put(key.clone(), column, point.at, point.value);
            }
        }
    }

    /// Forgets containers outside Compose that nobody expects to run: `docker run` gives each a new name, and so each would be a
    /// subject for a year.
    pub fn forget_passing_containers(&mut self) {
        let Some(replicas) = SERVICES.place("replicas") else { return };
        let columns = SERVICES.columns.len();
        self.services.subjects.retain(|key, cells| {
            !key.project.is_empty() || cells.chunks_exact(columns).any(|row| !row[replicas].is_nan())
        });
    }
}

/// A name as it is stored. Postgres knows no NUL; what is too long is cut, with a number that keeps it apart from others.
pub fn stored(name: &str) -> String {
    let clean: Cow<'_, str> = if name.contains('\0') { name.replace('\0', "\u{fffd}").into() } else { name.into() };
    if clean.len() <= LONGEST_NAME {
        return clean.into_owned();
    }
    // FNV-1a: the same in every version of this program.
    let hash = clean
        .bytes()
        .fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3));
    let end = (0..=LONGEST_NAME).rev().find(|&end| clean.is_char_boundary(end)).unwrap_or(0);
    format!("{}…{hash:016x}", &clean[..end])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::history::{prometheus::Point, window::STEP};

    const WINDOW: Window = Window { first: 1_800_000_000, last: 1_800_000_000 + 2 * STEP };

    fn series(metric: Labels, values: &[(i64, f64)]) -> Series {
        let point = |&(at, value): &(i64, f64)| Point { at: at as f64, value };
        Series { metric, values: values.iter().map(point).collect() }
    }

    fn host(name: &str) -> Labels {
        Labels { host: name.into(), ..Labels::default() }
    }

    #[test]
    fn what_is_missing_stays_so_and_the_rest_is_put_together() {
        let mut batch = Batch::new(WINDOW);
        let at = |n: i64| WINDOW.first + n * STEP;
        batch.add_hosts(0, &[series(host("pi"), &[(at(0), 4e9), (at(2), f64::NAN), (at(3), 5.0), (at(0) + 7, 6.0)])]);
        batch.add_hosts(4, &[series(host("pi"), &[(at(2), 0.25)]), series(host(""), &[(at(1), 0.5)])]);
        // Nobody says two things about one step; if so the first holds.
        batch.add_hosts(4, &[series(host("pi"), &[(at(2), 0.75)])]);
        let rows: Vec<_> = batch.hosts.rows().flat_map(|(key, rows)| rows.map(move |row| (key.clone(), row))).collect();
        let said: Vec<_> =
            rows.iter().map(|(key, row)| (key.as_str(), row.at, row.get(0), row.get(4), row.get(5))).collect();
        assert_eq!(said, [("pi", at(0), Some(4e9), None, None), ("pi", at(2), None, Some(0.25), None)]);
    }

    #[test]
    fn containers_that_come_and_go_are_no_subjects() {
        let mut batch = Batch::new(WINDOW);
        let replicas = SERVICES.place("replicas").unwrap();
        let labels = |project: &str, service: &str| Labels {
            host: "pi".into(),
            project: project.into(),
            service: service.into(),
            ..Labels::default()
        };
        let one = [(WINDOW.first, 1.0)];
        for (project, service) in [("", "romantic_swanson"), ("", "pihole"), ("shop", "migrate")] {
            batch.add_services(0, &[series(labels(project, service), &one)]);
        }
        batch.add_services(replicas, &[series(labels("", "pihole"), &one)]);
        batch.forget_passing_containers();
        let left: Vec<_> = batch.services.rows().map(|(key, _)| key.service.as_str()).collect();
        assert_eq!(left, ["pihole", "migrate"]);
    }

    #[test]
    fn names_fit_and_stay_apart() {
        for name in ["", "web", "it's \"quoted\"\n; DROP TABLE", "ü"] {
            assert_eq!(stored(name), name);
        }
        assert_eq!(stored("a\0b"), "a\u{fffd}b");
        let (one, other) = (stored(&"ä".repeat(5000)), stored(&format!("{}x", "ä".repeat(4999))));
        assert!(one.len() <= 300 && other.len() <= 300 && one != other);
        assert_eq!(one, stored(&"ä".repeat(5000)));
    }
}
