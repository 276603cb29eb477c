//! The tools that read.

use jiff::Timestamp;
use nexus_model::{
    api::{HealerStatus, IncidentDetail, IncidentList, PolicyExplanation, ServiceList},
    control::{PlanList, ServiceDetail, ServiceLogs},
};
use rmcp::{handler::server::wrapper::Parameters, model::CallToolResult, tool, tool_router};
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    Tools,
    output::answer,
    wanted::{IncidentWanted, IncidentsWanted, LogsWanted, ProjectWanted, QueryWanted, ServiceWanted, incident_id},
};
use crate::sources::http::{HttpError, Part, segment};

/// Open incidents that `status` looks through: more than there ever are.
const OPEN_LOOKED_AT: &str = "1000";

/// The answer of `status`.
#[derive(Serialize)]
struct Status {
    host: String,
    /// Parts that could not be asked, and why.
    missing: Vec<String>,
    healer: Option<HealerStatus>,
    open_incidents: Option<Vec<nexus_model::Incident>>,
    /// As project/service, those that run and are well.
    well: Option<Vec<String>>,
    /// The others.
    not_well: Option<Vec<nexus_model::api::ServiceView>>,
    /// What people are being told.
    alerts: Option<Vec<Value>>,
}

#[tool_router(router = reading, vis = "pub(super)")]
impl Tools {
    /// How the machine and its services are, on one page: what is not well, open incidents, what people are being told, and which
    /// parts of Nexus could not be asked. Begin here.
    #[tool(annotations(title = "How is it?", read_only_hint = true, open_world_hint = false))]
    async fn status(&self) -> CallToolResult {
        answer::<_, String>(Ok(self.gather().await))
    }

    /// The incidents, newest first: which service fell ill, what was done and whether it helped. Each has an id.
    #[tool(annotations(title = "List incidents", read_only_hint = true, open_world_hint = false))]
    async fn incidents(&self, Parameters(wanted): Parameters<IncidentsWanted>) -> CallToolResult {
        let asked = async {
            let query = wanted.query()?;
            self.ask_healer::<IncidentList>("/api/v1/incidents", &query).await
        };
        answer(asked.await)
    }

    /// The whole story of one incident: attempts, the evidence taken before each of them (what Docker said, health checks, the end of
    /// the log, vitals), the diagnosis, and every event with its time.
    #[tool(annotations(title = "Tell one incident", read_only_hint = true, open_world_hint = false))]
    async fn incident(&self, Parameters(wanted): Parameters<IncidentWanted>) -> CallToolResult {
        let asked = async {
            let id = incident_id(&wanted.id)?;
            self.ask_healer::<IncidentDetail>(&format!("/api/v1/incidents/{id}"), &[]).await
        };
        answer(asked.await)
    }

    /// The services that run here with their containers, health, and whether they are healed, only watched, or left alone.
    #[tool(annotations(title = "List services", read_only_hint = true, open_world_hint = false))]
    async fn services(&self, Parameters(wanted): Parameters<ProjectWanted>) -> CallToolResult {
        let asked = async {
            let mut list: ServiceList = self.ask_healer("/api/v1/services", &[]).await?;
            if let Some(project) = &wanted.project {
                let mut projects: Vec<String> = list.services.iter().map(|it| it.project.clone()).collect();
                projects.dedup();
                list.services.retain(|service| service.project == *project);
                if list.services.is_empty() {
                    return Err(format!("there is no project {project}; there are {}", projects.join(", ")));
                }
            }
            Ok(list)
        };
        answer(asked.await)
    }

    /// How one service is, why something or nothing is done about it, what it waits for, what restarts it has left, and what would be
    /// done next.
    #[tool(annotations(title = "Explain a service", read_only_hint = true, open_world_hint = false))]
    async fn explain_service(&self, Parameters(wanted): Parameters<ServiceWanted>) -> CallToolResult {
        answer(self.ask_healer::<ServiceDetail>(&path(&wanted.project, &wanted.service), &[]).await)
    }

    /// Every value of the healing policy that holds for a service, and who says so: a label, a line of healer.yml, a switch or the
    /// default.
    #[tool(annotations(title = "Explain the policy", read_only_hint = true, open_world_hint = false))]
    async fn explain_policy(&self, Parameters(wanted): Parameters<ServiceWanted>) -> CallToolResult {
        let query = [("project", wanted.project), ("service", wanted.service)];
        answer(self.ask_healer::<PolicyExplanation>("/api/v1/policy/explain", &query).await)
    }

    /// What the healer would do at this moment, service by service. Nothing is done for it.
    #[tool(annotations(title = "What would be done", read_only_hint = true, open_world_hint = false))]
    async fn plan(&self, Parameters(wanted): Parameters<ProjectWanted>) -> CallToolResult {
        let query: Vec<(&str, String)> = wanted.project.into_iter().map(|project| ("project", project)).collect();
        answer(self.ask_healer::<PlanList>("/api/v1/plan", &query).await)
    }

    /// The end of the logs of a service's containers, secrets hidden.
    #[tool(annotations(title = "Read logs", read_only_hint = true, open_world_hint = false))]
    async fn logs(&self, Parameters(wanted): Parameters<LogsWanted>) -> CallToolResult {
        let asked = async {
            let query = wanted.query()?;
            self.ask_healer::<ServiceLogs>(&format!("{}/logs", path(&wanted.project, &wanted.service)), &query).await
        };
        answer(asked.await)
    }

    /// Ask Prometheus a PromQL expression, for one moment or for a range within the last 15 days. Families are node_exporter's and
    /// cAdvisor's, and rpi_, docker_ and nexus_; containers carry the labels name, project and service. Aggregate rather than fetch all.
    #[tool(annotations(title = "Ask Prometheus", read_only_hint = true, open_world_hint = false))]
    async fn query_metrics(&self, Parameters(wanted): Parameters<QueryWanted>) -> CallToolResult {
        let asked = async {
            let checked = wanted.checked(Timestamp::now())?;
            let query: Vec<(&str, &str)> = checked.query.iter().map(|(name, value)| (*name, value.as_str())).collect();
            let found: Value = self.agent.prometheus.get(checked.path, &query).await.map_err(promql)?;
            Ok::<_, String>(json!({"data": found["data"], "warnings": found["warnings"]}))
        };
        answer(asked.await)
    }
}

impl Tools {
    async fn ask_healer<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, String> {
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.healer()?.get(path, &query).await.map_err(|error| error.to_string())
    }

    async fn gather(&self) -> Status {
        async fn ask<T: serde::de::DeserializeOwned>(
            part: Result<&Part, String>,
            path: &str,
            query: &[(&str, &str)],
        ) -> Result<T, String> {
            part?.get(path, query).await.map_err(|error| error.to_string())
        }
        let (healer, services, incidents, alerts, prometheus) = tokio::join!(
            ask::<HealerStatus>(self.healer(), "/api/v1/status", &[]),
            ask::<ServiceList>(self.healer(), "/api/v1/services", &[]),
            ask::<IncidentList>(self.healer(), "/api/v1/incidents", &[("limit", OPEN_LOOKED_AT)]),
            ask::<Vec<Value>>(Ok(&self.agent.alertmanager), "/api/v2/alerts", &[]),
            self.agent.prometheus.ok("/-/ready"),
        );
        let mut missing: Vec<String> =
            [healer.as_ref().err(), alerts.as_ref().err()].into_iter().flatten().cloned().collect();
        missing.extend(prometheus.err().map(|error| error.to_string()));
        let services = services.ok().map(|list| {
            list.services.into_iter().partition::<Vec<_>, _>(|service| {
                service.incident.is_none()
                    && service.containers.iter().all(|it| it.state == "running" && it.health != "unhealthy")
            })
        });
        let (well, not_well) = services.unzip();
        let name = |service: nexus_model::api::ServiceView| format!("{}/{}", service.project, service.service);
        Status {
            host: self.agent.host.clone(),
            missing,
            healer: healer.ok(),
            open_incidents: incidents
                .ok()
                .map(|list| list.incidents.into_iter().filter(|incident| incident.state.is_open()).collect()),
            well: well.map(|all| all.into_iter().map(name).collect()),
            not_well,
            alerts: alerts.ok().map(|all| all.into_iter().filter_map(for_people).collect()),
        }
    }
}

/// What a person is told; `None` for prompts to the healer and for what has no severity.
fn for_people(alert: Value) -> Option<Value> {
    let label = |name: &str| alert["labels"][name].as_str().unwrap_or_default().to_owned();
    let is_told = ["warning", "critical"].contains(&label("severity").as_str()) && label("heal").is_empty();
    is_told.then(|| {
        json!({
            "name": label("alertname"), "severity": label("severity"), "project": label("project"),
            "service": label("service"), "summary": alert["annotations"]["summary"], "since": alert["startsAt"],
            "silenced": alert["status"]["silencedBy"].as_array().is_some_and(|by| !by.is_empty()),
        })
    })
}

fn path(project: &str, service: &str) -> String {
    format!("/api/v1/services/{}/{}", segment(project), segment(service))
}

/// Prometheus says what is wrong with an expression.
fn promql(error: HttpError) -> String {
    match error {
        HttpError::Status { status: 400 | 422, message, .. } if !message.is_empty() => {
            format!("Prometheus does not take the query{message}")
        }
        error => error.to_string(),
    }
}
