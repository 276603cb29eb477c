//! The healer about itself, in OpenMetrics.

use std::sync::atomic::{AtomicI64, AtomicU64};

use nexus_model::{AttemptOutcome, IncidentState, Outcome, Refusal, ServiceKey, control::Pause};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family, gauge::Gauge, info::Info},
    registry::Registry,
};

use crate::{
    case::Case,
    relief::metrics::ReliefMetrics,
    tell::{self, Alert},
};

type Count = Counter<u64, AtomicU64>;
type Level = Gauge<i64, AtomicI64>;

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabel {
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabel {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CodeLabel {
    code: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct CauseLabel {
    cause: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ServiceLabels {
    project: String,
    service: String,
}

impl From<ServiceKey> for ServiceLabels {
    fn from(key: ServiceKey) -> Self {
        Self { project: key.project, service: key.service }
    }
}

/// Those of an alert but for the host, which Prometheus adds; what an alert has not is empty, which is the same to Prometheus.
#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AlertLabels {
    alertname: String,
    severity: String,
    project: String,
    service: String,
    name: String,
    resource: String,
}

impl From<&Alert> for AlertLabels {
    fn from(alert: &Alert) -> Self {
        let label = |name: &str| alert.labels.get(name).cloned().unwrap_or_default();
        Self {
            alertname: label("alertname"),
            severity: label("severity"),
            project: label("project"),
            service: label("service"),
            name: label("name"),
            resource: label("resource"),
        }
    }
}

/// Which parts there are: a part that was not configured has no metric, so that no rule can take it for down.
#[derive(Clone, Copy, Debug)]
pub struct Parts {
    pub postgres: bool,
    pub alertmanager: bool,
}

pub struct Metrics {
    registry: Registry,
    gave_up: Family<ServiceLabels, Level>,
    failed_attempts: Family<ServiceLabels, Level>,
    open_incidents: Level,
    paused: Family<ServiceLabels, Level>,
    incidents: Family<OutcomeLabel, Count>,
    restarts: Family<OutcomeLabel, Count>,
    refusals: Family<ReasonLabel, Count>,
    webhook_requests: Family<CodeLabel, Count>,
    pub pending_rows: Level,
    pub journal_writable: Level,
    pub on_hold: Level,
    pub postgres_up: Level,
    pub postgres_refused_rows: Count,
    pub docker_up: Level,
    pub wrong_labels: Level,
    policy_loaded: Level,
    policy_usable: Level,
    pub alertmanager_up: Level,
    pub notify_failures: Count,
    pub seen_ill: Level,
    own_prompts: Family<CauseLabel, Count>,
    told_directly: Family<OutcomeLabel, Count>,
    alerts: Family<AlertLabels, Level>,
    pub relief: ReliefMetrics,
}

impl Metrics {
    pub fn new(parts: Parts) -> Self {
        let mut registry = Registry::default();
        let version = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        registry.register("nexus_healer_build", "The healer's version", version);

        let gave_up = Family::default();
        registry.register(
            "nexus_healer_gave_up",
            "1 while the healer has given up on a service and nobody has acknowledged it",
            gave_up.clone(),
        );
        let failed_attempts = Family::default();
        registry.register(
            "nexus_healer_incident_failed_attempts",
            "Failed attempts of each open incident",
            failed_attempts.clone(),
        );
        let open_incidents = Level::default();
        registry.register("nexus_healer_open_incidents", "Incidents that are open", open_incidents.clone());
        let paused = Family::default();
        registry.register(
            "nexus_healer_paused",
            "1 while healing is paused: for a service, a project (no service) or everything (neither)",
            paused.clone(),
        );
        let incidents: Family<OutcomeLabel, Count> = Family::default();
        registry.register("nexus_healer_incidents", "Closed incidents by how they ended", incidents.clone());
        let restarts: Family<OutcomeLabel, Count> = Family::default();
        registry.register("nexus_healer_restarts", "Restarts by how they went", restarts.clone());
        let refusals: Family<ReasonLabel, Count> = Family::default();
        registry.register("nexus_healer_refusals", "Why nothing was done", refusals.clone());
        let webhook_requests: Family<CodeLabel, Count> = Family::default();
        registry.register(
            "nexus_healer_webhook_requests",
            "Requests to the webhook by status code",
            webhook_requests.clone(),
        );
        let pending_rows = Level::default();
        registry.register(
            "nexus_healer_journal_pending_rows",
            "Rows of the journal that wait to be copied to Postgres",
            pending_rows.clone(),
        );
        let journal_writable = Level::default();
        registry.register(
            "nexus_healer_journal_writable",
            "Whether the last write to the journal reached the disk",
            journal_writable.clone(),
        );
        let on_hold = Level::default();
        registry.register(
            "nexus_healer_on_hold",
            "1 while nothing is restarted since many services fell ill together",
            on_hold.clone(),
        );
        let docker_up = Level::default();
        registry.register("nexus_healer_docker_up", "Whether Docker answers", docker_up.clone());
        let wrong_labels = Level::default();
        registry.register(
            "nexus_healer_wrong_labels",
            "Labels of Nexus on containers that can't be understood and are left out",
            wrong_labels.clone(),
        );
        let told_directly: Family<OutcomeLabel, Count> = Family::default();
        registry.register(
            "nexus_healer_telegram_messages",
            "Messages that the healer sent to Telegram itself while Alertmanager was away, and tries that failed",
            told_directly.clone(),
        );
        let alerts = Family::default();
        registry.register(
            "nexus_healer_alerts",
            "1 while an alert for people that the healer posts itself is true",
            alerts.clone(),
        );
        let (policy_loaded, policy_usable) = (Level::default(), Level::default());
        registry.register(
            "nexus_healer_policy_loaded_timestamp_seconds",
            "When the policy in force was read",
            policy_loaded.clone(),
        );
        registry.register(
            "nexus_healer_policy_last_reload_successful",
            "Whether the policy could be used when it was read last; if not, the one of before is in force",
            policy_usable.clone(),
        );
        let (postgres_up, postgres_refused_rows) = (Level::default(), Count::default());
        if parts.postgres {
            registry.register(
                "nexus_healer_postgres_up",
                "Whether the last copy to Postgres succeeded",
                postgres_up.clone(),
            );
            registry.register(
                "nexus_healer_postgres_refused_rows",
                "Rows that Postgres does not take and that are left out",
                postgres_refused_rows.clone(),
            );
        }
        let (alertmanager_up, notify_failures) = (Level::default(), Count::default());
        let (seen_ill, own_prompts) = (Level::default(), Family::<CauseLabel, Count>::default());
        if parts.alertmanager {
            registry.register(
                "nexus_healer_alertmanager_up",
                "Whether Alertmanager took the healer's last post",
                alertmanager_up.clone(),
            );
            registry.register(
                "nexus_healer_notify_failures",
                "Posts to Alertmanager that failed",
                notify_failures.clone(),
            );
            registry.register(
                "nexus_healer_seen_ill",
                "Containers that the healer itself sees ill and posts an alert for",
                seen_ill.clone(),
            );
            registry.register(
                "nexus_healer_own_prompts",
                "Prompts that the healer took from its own alert, since Alertmanager brought none",
                own_prompts.clone(),
            );
            for cause in ["unreachable", "not_passed_on"] {
                _ = own_prompts.get_or_create(&CauseLabel { cause });
            }
        }
        let relief = ReliefMetrics::registered(&mut registry);
        // Present from the start, so that a rule sees the first increase.
        for outcome in Outcome::ALL {
            _ = incidents.get_or_create(&OutcomeLabel { outcome: outcome.as_str() });
        }
        for outcome in AttemptOutcome::ALL {
            _ = restarts.get_or_create(&OutcomeLabel { outcome: outcome.as_str() });
        }
        for reason in Refusal::ALL {
            _ = refusals.get_or_create(&ReasonLabel { reason: reason.as_str() });
        }
        for code in [200, 400, 401, 405, 413, 503] {
            _ = webhook_requests.get_or_create(&CodeLabel { code });
        }
        Self {
            registry,
            gave_up,
            failed_attempts,
            open_incidents,
            paused,
            incidents,
            restarts,
            refusals,
            webhook_requests,
            pending_rows,
            on_hold,
            journal_writable,
            postgres_up,
            postgres_refused_rows,
            docker_up,
            wrong_labels,
            policy_loaded,
            policy_usable,
            alertmanager_up,
            notify_failures,
            seen_ill,
            own_prompts,
            told_directly,
            alerts,
            relief,
        }
    }

    pub fn incident_closed(&self, outcome: Outcome) {
        self.incidents.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    pub fn restart_ended(&self, outcome: AttemptOutcome) {
        self.restarts.get_or_create(&OutcomeLabel { outcome: outcome.as_str() }).inc();
    }

    pub fn refused(&self, why: Refusal) {
        self.refusals.get_or_create(&ReasonLabel { reason: why.as_str() }).inc();
    }

    pub fn prompted_alone(&self, cause: &'static str, services: u64) {
        self.own_prompts.get_or_create(&CauseLabel { cause }).inc_by(services);
    }

    pub fn told_directly(&self, outcome: &'static str) {
        self.told_directly.get_or_create(&OutcomeLabel { outcome }).inc();
    }

    /// The healer's own alerts that are true. Those of no severity prompt the healer or hold others back, and what was acknowledged is
    /// held back: both are for nobody.
    pub fn show_alerts(&self, alerts: &[Alert]) {
        // As with the open incidents, no scrape comes in between.
        self.alerts.clear();
        let is_for_people = |alert: &Alert| alert.labels.get("severity").is_some_and(|it| it != "none");
        for alert in alerts.iter().filter(|alert| is_for_people(alert) && !tell::is_known(alert, alerts)) {
            self.alerts.get_or_create(&alert.into()).set(1);
        }
    }

    /// The policy was read, and whether it can be used.
    pub fn policy_read(&self, usable: bool, at: jiff::Timestamp) {
        self.policy_usable.set(usable.into());
        if usable {
            self.policy_loaded.set(at.as_second());
        }
    }

    pub fn webhook_answered(&self, code: u16) {
        self.webhook_requests.get_or_create(&CodeLabel { code }).inc();
    }

    /// The pauses that hold.
    pub fn show_paused(&self, pauses: &[Pause]) {
        self.paused.clear();
        for pause in pauses {
            let name = |name: &Option<String>| name.clone().unwrap_or_default();
            let labels = ServiceLabels { project: name(&pause.project), service: name(&pause.service) };
            self.paused.get_or_create(&labels).set(1);
        }
    }

    /// The open incidents, after one of them has changed.
    pub fn show_open<'a>(&self, cases: impl Iterator<Item = &'a Case>) {
        // On the one thread of the runtime and without an await: no scrape comes in between.
        self.gave_up.clear();
        self.failed_attempts.clear();
        let mut open = 0;
        for case in cases {
            open += 1;
            let labels = ServiceLabels::from(case.key());
            self.failed_attempts.get_or_create(&labels).set(i64::from(case.incident.failed_attempts));
            if case.incident.state == IncidentState::GaveUp && case.incident.acknowledged_at.is_none() {
                self.gave_up.get_or_create(&labels).set(1);
            }
        }
        self.open_incidents.set(open);
    }

    pub fn encode(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry)?;
        Ok(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::case;

    #[test]
    fn names_are_those_that_the_rules_use() {
        let metrics = Metrics::new(Parts { postgres: true, alertmanager: true });
        let mut case = case();
        case.incident.state = IncidentState::GaveUp;
        case.incident.failed_attempts = 6;
        metrics.show_open([&case].into_iter());
        metrics.restart_ended(AttemptOutcome::Failed);
        metrics.policy_read(true, crate::testing::at(0).wall);
        metrics.policy_read(false, crate::testing::at(9).wall);
        let text = metrics.encode().unwrap();
        for line in [
            "nexus_healer_gave_up{project=\"shop\",service=\"web\"} 1",
            "nexus_healer_incident_failed_attempts{project=\"shop\",service=\"web\"} 6",
            "nexus_healer_incidents_total{outcome=\"recovered\"} 0",
            "nexus_healer_restarts_total{outcome=\"failed\"} 1",
            "nexus_healer_refusals_total{reason=\"already_well\"} 0",
            "nexus_healer_webhook_requests_total{code=\"200\"} 0",
            "nexus_healer_journal_pending_rows 0",
            "nexus_healer_postgres_up 0",
            "nexus_healer_docker_up 0",
            "nexus_healer_policy_loaded_timestamp_seconds 1800000000",
            "nexus_healer_policy_last_reload_successful 0",
            "nexus_healer_wrong_labels 0",
            "nexus_healer_alertmanager_up 0",
            "nexus_healer_notify_failures_total 0",
            "nexus_healer_seen_ill 0",
            "nexus_healer_own_prompts_total{cause=\"unreachable\"} 0",
        ] {
            assert!(text.contains(line), "{line} is missing in\n{text}");
        }
        metrics.show_open(std::iter::empty());
        assert!(!metrics.encode().unwrap().contains("gave_up{"));
    }

    #[test]
    fn alerts_for_people_stand_there_while_they_are_true() {
        let alert = |labels: &[(&'static str, &str)]| Alert {
            labels: labels.iter().map(|(name, value)| (*name, (*value).to_owned())).collect(),
            annotations: Default::default(),
            since: crate::testing::at(0).wall,
        };
        let hold = alert(&[("alertname", "HealingOnHold"), ("severity", "critical"), ("host", "pi")]);
        let prompt = alert(&[("alertname", "HealerSawIll"), ("severity", "none"), ("service", "web")]);
        let runs_out = alert(&[
            ("alertname", "ContainerMemoryRunsOut"),
            ("severity", "critical"),
            ("host", "pi"),
            ("project", "shop"),
            ("service", "web"),
            ("name", "shop-web-1"),
        ]);
        let metrics = Metrics::new(Parts { postgres: false, alertmanager: false });
        let shown = |metrics: &Metrics| {
            let text = metrics.encode().unwrap();
            let mut lines: Vec<String> =
                text.lines().filter(|line| line.starts_with("nexus_healer_alerts{")).map(str::to_owned).collect();
            lines.sort();
            lines
        };
        metrics.show_alerts(&[hold, prompt, runs_out.clone()]);
        let of_web = "nexus_healer_alerts{alertname=\"ContainerMemoryRunsOut\",severity=\"critical\",project=\"shop\",\
            service=\"web\",name=\"shop-web-1\",resource=\"\"} 1";
        let of_the_machine = "nexus_healer_alerts{alertname=\"HealingOnHold\",severity=\"critical\",project=\"\",\
            service=\"\",name=\"\",resource=\"\"} 1";
        assert_eq!(shown(&metrics), [of_web, of_the_machine]);
        let of_service = |name: &str, severity: &str| {
            alert(&[("alertname", name), ("severity", severity), ("project", "shop"), ("service", "web")])
        };
        let acknowledged =
            [of_service("HealerGaveUp", "critical"), of_service("ServiceAcknowledged", "none"), runs_out];
        metrics.show_alerts(&acknowledged);
        assert_eq!(shown(&metrics), [of_web], "what was acknowledged is no news");
        metrics.show_alerts(&[]);
        assert_eq!(shown(&metrics), [""; 0]);
    }

    #[test]
    fn what_is_not_configured_has_no_metric() {
        let text = Metrics::new(Parts { postgres: false, alertmanager: false }).encode().unwrap();
        assert!(!text.contains("postgres_up") && !text.contains("alertmanager_up") && !text.contains("own_prompts"));
    }
}
