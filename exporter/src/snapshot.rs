//! What one scrape found, as plain data: the seam between collecting and writing.

use std::time::Duration;

use jiff::Timestamp;

use crate::collect::container::Containers;
use crate::collect::cpu::Cpu;
use crate::collect::diskstats::Disk;
use crate::collect::filesystem::Filesystem;
use crate::collect::loadavg::Loadavg;
use crate::collect::meminfo::Meminfo;
use crate::collect::netdev::Interface;
use crate::collect::pressure::Pressure;
use crate::collect::stat::Stat;
use crate::collect::thermal_zone::Zone;
use crate::collect::uname::Uname;
use crate::collect::{
    CollectError, Collector, container, cpu, diskstats, filesystem, loadavg, meminfo, netdev, pressure, stat,
    thermal_zone, time, uname,
};
use crate::exposition::{Exposition, Format};
use crate::family::{Family, Kind};

/// A field is `None` when its collector was not asked for, or failed.
#[derive(Debug)]
pub struct Snapshot {
    pub outcomes: Vec<Outcome>,
    pub cpu: Option<Cpu>,
    pub loadavg: Option<Loadavg>,
    pub meminfo: Option<Meminfo>,
    pub filesystem: Option<Vec<Filesystem>>,
    pub diskstats: Option<Vec<Disk>>,
    pub netdev: Option<Vec<Interface>>,
    pub pressure: Option<Pressure>,
    pub thermal_zone: Option<Vec<Zone>>,
    pub stat: Option<Stat>,
    pub uname: Option<Uname>,
    pub time: Option<Timestamp>,
    pub container: Option<Containers>,
}

/// How a collector that was asked for fared.
#[derive(Debug)]
pub struct Outcome {
    pub collector: Collector,
    pub took: Duration,
    /// What is not as it should be. The collector may still have found something.
    pub fault: Option<CollectError>,
}

const DURATION: Family = Family {
    name: "node_scrape_collector_duration_seconds",
    kind: Kind::Gauge,
    help: "node_exporter: Duration of a collector scrape.",
    labels: &["collector"],
    source: "the exporter itself",
};
const SUCCESS: Family = Family {
    name: "node_scrape_collector_success",
    kind: Kind::Gauge,
    help: "node_exporter: Whether a collector succeeded.",
    labels: &["collector"],
    source: "the exporter itself",
};
const BUILD: Family = Family {
    name: "nexus_exporter_build_info",
    kind: Kind::Gauge,
    help: "The version of this exporter, value is always 1.",
    labels: &["version"],
    source: "the exporter itself",
};
/// Written whichever collectors are asked for.
pub const FAMILIES: &[Family] = &[DURATION, SUCCESS, BUILD];

impl Snapshot {
    pub fn render(&self, format: Format) -> String {
        let mut out = Exposition::new(format);
        let write = &mut out;
        self.cpu.iter().for_each(|found| cpu::write(found, write));
        self.loadavg.iter().for_each(|found| loadavg::write(found, write));
        self.meminfo.iter().for_each(|found| meminfo::write(found, write));
        self.filesystem.iter().for_each(|found| filesystem::write(found, write));
        self.diskstats.iter().for_each(|found| diskstats::write(found, write));
        self.netdev.iter().for_each(|found| netdev::write(found, write));
        self.pressure.iter().for_each(|found| pressure::write(found, write));
        self.thermal_zone.iter().for_each(|found| thermal_zone::write(found, write));
        self.stat.iter().for_each(|found| stat::write(found, write));
        self.uname.iter().for_each(|found| uname::write(found, write));
        self.time.iter().for_each(|found| time::write(*found, write));
        self.container.iter().for_each(|found| container::write(found, write));
        self.write_outcomes(write);
        out.finish()
    }

    fn write_outcomes(&self, out: &mut Exposition) {
        let mut family = out.family(&DURATION);
        for outcome in &self.outcomes {
            family.sample(&[("collector", outcome.collector.name())], outcome.took.as_secs_f64());
        }
        let mut family = out.family(&SUCCESS);
        for outcome in &self.outcomes {
            family.sample(&[("collector", outcome.collector.name())], outcome.fault.is_none());
        }
        out.family(&BUILD).sample(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
    }
}
