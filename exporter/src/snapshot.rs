//! What one scrape found, as plain data: the seam between collecting and writing.

use std::time::Duration;

use crate::collect::{CollectError, Collector, Found};
use crate::exposition::{Exposition, Format};
use crate::family::{Family, Kind};
use crate::process::Process;

#[derive(Debug)]
pub struct Snapshot {
    pub outcomes: Vec<Outcome>,
    /// Of the collectors that were asked for and did not fail.
    pub found: Vec<Found>,
    /// What the exporter itself costs, unless it was told to keep that to itself.
    pub process: Option<Process>,
    /// Whether the web configuration, if there is one, is that of its files.
    pub web_config_ok: Option<bool>,
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
/// node_exporter's success is 0 for both; who alerts on it wants to tell them apart.
const ABSENT: Family = Family {
    name: "nexus_exporter_collector_absent",
    kind: Kind::Gauge,
    help: "1 when a collector found nothing because this machine has nothing of the kind, which is no fault.",
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
/// node_exporter's own, for the dashboards that pick their hosts by it.
const NODE_BUILD: Family = Family {
    name: "node_exporter_build_info",
    kind: Kind::Gauge,
    help: "The version of this exporter, value is always 1. No node_exporter: dashboards made for it find their hosts here.",
    labels: &["version"],
    source: "the exporter itself; not in a scrape of `container` and `machine` alone",
};
/// cAdvisor's word for what the success of a collector says.
const CONTAINER_ERROR: Family = Family {
    name: "container_scrape_error",
    kind: Kind::Gauge,
    help: "1 if there was an error while getting container metrics, 0 otherwise.",
    labels: &[],
    source: "the exporter itself; only in a scrape of `container`",
};
const WEB_CONFIG_OK: Family = Family {
    name: "nexus_exporter_web_config_ok",
    kind: Kind::Gauge,
    help: "Whether the web configuration in force is that of its files; 0 when they were changed and can't be used.",
    labels: &[],
    source: "the exporter itself; only with --web.config.file",
};
/// Written whichever collectors are asked for.
pub const FAMILIES: &[Family] = &[DURATION, SUCCESS, ABSENT, BUILD, NODE_BUILD, CONTAINER_ERROR, WEB_CONFIG_OK];

impl Snapshot {
    pub fn render(&self, format: Format) -> String {
        self.render_into(String::new(), format)
    }

    /// Writes into `buffer`, whose content is dropped.
    pub fn render_into(&self, buffer: String, format: Format) -> String {
        let mut out = Exposition::reusing(format, buffer);
        self.found.iter().for_each(|found| found.write(&mut out));
        self.write_outcomes(&mut out);
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
        let mut family = out.family(&ABSENT);
        for outcome in &self.outcomes {
            let absent = matches!(outcome.fault, Some(CollectError::Absent { .. }));
            family.sample(&[("collector", outcome.collector.name())], absent);
        }
        out.family(&BUILD).sample(&[("version", env!("CARGO_PKG_VERSION"))], 1u64);
        if self.outcomes.iter().any(|outcome| !outcome.collector.is_about_docker()) {
            let ours = concat!("nexus-exporter ", env!("CARGO_PKG_VERSION"));
            out.family(&NODE_BUILD).sample(&[("version", ours)], 1u64);
        }
        if let Some(outcome) = self.outcomes.iter().find(|outcome| outcome.collector == Collector::Container) {
            let failed = !matches!(outcome.fault, None | Some(CollectError::Absent { .. }));
            out.family(&CONTAINER_ERROR).single(failed);
        }
        if let Some(process) = &self.process {
            process.write(out);
        }
        if let Some(ok) = self.web_config_ok {
            out.family(&WEB_CONFIG_OK).sample(&[], ok);
        }
    }
}
