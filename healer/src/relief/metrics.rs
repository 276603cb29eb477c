//! What the healer tells of it, in OpenMetrics.

use std::sync::atomic::{AtomicI64, AtomicU64};

use nexus_model::AttemptOutcome;
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::Registry,
};

use super::Resource;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Act {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OfResource {
    resource: &'static str,
}

#[derive(Default)]
pub struct ReliefMetrics {
    acts: Family<Act, Counter<u64, AtomicU64>>,
    short: Family<OfResource, Gauge<i64, AtomicI64>>,
    pub stopped: Gauge<i64, AtomicI64>,
    pub ballast: Gauge<i64, AtomicI64>,
    pub running_out: Gauge<i64, AtomicI64>,
}

const ACTIONS: [&str; 4] = ["ballast", "prune", "stop", "start"];

impl ReliefMetrics {
    pub fn registered(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register("nexus_healer_relief_acts", "Acts for disk or memory of the machine", metrics.acts.clone());
        registry.register("nexus_healer_relief_open", "1 while the machine is short of it", metrics.short.clone());
        registry.register(
            "nexus_healer_relief_stopped_containers",
            "Containers that were stopped for the machine and wait to be started again",
            metrics.stopped.clone(),
        );
        registry.register("nexus_healer_ballast_bytes", "Size of the ballast that is there", metrics.ballast.clone());
        registry.register(
            "nexus_healer_memory_running_out_containers",
            "Containers whose memory is about to reach its limit",
            metrics.running_out.clone(),
        );
        // Present from the start, so that a rule sees the first increase.
        for action in ACTIONS {
            for outcome in AttemptOutcome::ALL {
                _ = metrics.acts.get_or_create(&Act { action, outcome: outcome.as_str() });
            }
        }
        for resource in Resource::ALL {
            metrics.open(resource, false);
        }
        metrics
    }

    pub fn ended(&self, action: &str, outcome: AttemptOutcome) {
        if let Some(action) = ACTIONS.into_iter().find(|known| *known == action) {
            self.acts.get_or_create(&Act { action, outcome: outcome.as_str() }).inc();
        }
    }

    pub fn open(&self, resource: Resource, open: bool) {
        self.short.get_or_create(&OfResource { resource: resource.as_str() }).set(i64::from(open));
    }
}
