//! The tools that read.

use jiff::{SignedDuration, Timestamp};
use nexus_model::{
    api::{IncidentDetail, IncidentList, PolicyExplanation, ServiceList},
    control::{PlanList, ServiceDetail, ServiceLogs},
};
use rmcp::{handler::server::wrapper::Parameters, model::CallToolResult, tool, tool_router};
use serde_json::{Value, json};

use super::{
    Tools,
    output::answer,
    wanted::{
        CapacityWanted, DaysWanted, IncidentWanted, IncidentsWanted, LogsWanted, ProjectWanted, QueryWanted,
        SchemaWanted, ServiceHistoryWanted, ServiceWanted, SqlWanted, incident_id,
    },
};
use crate::{
    incidents::{self, Told, Unknown},
    report::{Question, judge},
    sources::{
        gather,
        http::{HttpError, segment},
    },
};

/// What was healed in this time is told, unless the question names another.
const HEALED_SINCE: SignedDuration = SignedDuration::from_hours(24);

#[tool_router(router = reading, vis = "pub(super)")]
impl Tools {
    /// How the machine and its services are: the verdict with its reasons first, then vitals beside what is usual, services, open
    /// incidents, what was healed within a day, what is about to go wrong, and recommendations with the commands. What could not be
    /// asked is named. Begin here.
    #[tool(annotations(title = "How is it?", read_only_hint = true, open_world_hint = false))]
    async fn status(&self, Parameters(wanted): Parameters<ProjectWanted>) -> CallToolResult {
        let now = Timestamp::now();
        let facts = gather(&self.agent.sources, now).await;
        let since = now.checked_sub(HEALED_SINCE).unwrap_or(Timestamp::MIN);
        answer(judge(&facts, &Question { since, project: wanted.project }))
    }

    /// The incidents, newest first: which service fell ill, what was done and whether it helped. Each has an id. While the healer
    /// can't be asked its copy in Postgres answers, and `note` says so.
    #[tool(annotations(title = "List incidents", read_only_hint = true, open_world_hint = false))]
    async fn incidents(&self, Parameters(wanted): Parameters<IncidentsWanted>) -> CallToolResult {
        let asked = async {
            let query = wanted.query()?;
            let told = self.ask_healer_or_copy::<IncidentList>("/api/v1/incidents", &query).await?;
            match self.unknown(&wanted, &told).await {
                // It knows what is on record of what no longer runs.
                Some(unknown) => self.ask_reporter("/api/v1/incidents", &query).await.map_err(|_| unknown.to_string()),
                None => Ok(told),
            }
        };
        answer(asked.await)
    }

    /// The whole story of one incident: attempts, the evidence taken before each of them (what Docker said, health checks, the end of
    /// the log, vitals), the diagnosis, and every event with its time.
    #[tool(annotations(title = "Tell one incident", read_only_hint = true, open_world_hint = false))]
    async fn incident(&self, Parameters(wanted): Parameters<IncidentWanted>) -> CallToolResult {
        let asked = async {
            let id = incident_id(&wanted.id)?;
            self.ask_healer_or_copy::<IncidentDetail>(&format!("/api/v1/incidents/{id}"), &[]).await
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
        let asked = async {
            let (project, service) = self.named(wanted.project, wanted.service).await?;
            self.ask_healer::<ServiceDetail>(&path(&project, &service), &[]).await
        };
        answer(asked.await)
    }

    /// Every value of the healing policy that holds for a service, and who says so: a label, a line of healer.yml, a switch or the
    /// default.
    #[tool(annotations(title = "Explain the policy", read_only_hint = true, open_world_hint = false))]
    async fn explain_policy(&self, Parameters(wanted): Parameters<ServiceWanted>) -> CallToolResult {
        let asked = async {
            let (project, service) = self.named(wanted.project, wanted.service).await?;
            let query = [("project", project), ("service", service)];
            self.ask_healer::<PolicyExplanation>("/api/v1/policy/explain", &query).await
        };
        answer(asked.await)
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
            let (project, service) = self.named(wanted.project, wanted.service).await?;
            self.ask_healer::<ServiceLogs>(&format!("{}/logs", path(&project, &service)), &query).await
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
            let found: Value = self.agent.sources.prometheus.get(checked.path, &query).await.map_err(promql)?;
            Ok::<_, String>(json!({"data": found["data"], "warnings": found["warnings"]}))
        };
        answer(asked.await)
    }

    /// What is usual on this machine for each hour of the week, from its own history: CPU, memory, load, pressure, temperature, network
    /// and disk, with peaks, the busiest services and the bottlenecks. `week` holds the medians: seven days from Monday, 24 hours each.
    #[tool(annotations(title = "What is usual", read_only_hint = true, open_world_hint = false))]
    async fn baseline(&self, Parameters(wanted): Parameters<DaysWanted>) -> CallToolResult {
        let query: Vec<(&str, String)> = wanted.days.into_iter().map(|days| ("days", days.to_string())).collect();
        let medians = |mut found: Value| {
            for metric in found["metrics"].as_array_mut().into_iter().flatten() {
                for day in metric["week"].as_array_mut().into_iter().flatten() {
                    for hour in day.as_array_mut().into_iter().flatten().filter(|hour| hour.is_object()) {
                        let median = hour["median"].as_f64().map(|median| format!("{median:.3e}"));
                        *hour = median.and_then(|text| text.parse::<f64>().ok()).into();
                    }
                }
            }
            found
        };
        // A week of all metrics with their spreads would be four times as much as an agent is given.
        answer(self.ask_reporter::<Value>("/api/v1/baseline", &query).await.map(medians))
    }

    /// When disk, memory or CPU run out at the present trend, what other machines would carry of this load, and the least machine for it.
    #[tool(annotations(title = "What there is room for", read_only_hint = true, open_world_hint = false))]
    async fn capacity(&self, Parameters(wanted): Parameters<CapacityWanted>) -> CallToolResult {
        answer(self.ask_reporter::<Value>("/api/v1/capacity", &wanted.query()).await)
    }

    /// How one service did over a time, up to a year back: in each step whether it was up and healthy, restarts by Docker, processes
    /// killed for memory, CPU, memory and its limit; and the incidents of that time.
    #[tool(annotations(title = "History of a service", read_only_hint = true, open_world_hint = false))]
    async fn service_history(&self, Parameters(wanted): Parameters<ServiceHistoryWanted>) -> CallToolResult {
        let asked = async {
            let query = wanted.query()?;
            let (project, service) = self.named(wanted.project, wanted.service).await?;
            let path = format!("{}/history", path(&project, &service));
            self.ask_reporter::<Value>(&path, &query).await
        };
        answer(asked.await)
    }

    /// Ask the history and the incidents in SQL (PostgreSQL): one SELECT, read-only, 10 s at most; use LIMIT and aggregates, since 1000
    /// rows and 40 kB are given at most. `schema` tells tables and columns. Such as: SELECT date_trunc('day', hour) AS day,
    /// max(memory_percent) AS most FROM history.host_usage_hourly WHERE hour > now() - interval '30 days' GROUP BY 1 ORDER BY 1; or: SELECT
    /// project, service, count(*) AS incidents FROM incidents WHERE opened_at > now() - interval '7 days' GROUP BY 1, 2 ORDER BY 3 DESC.
    #[tool(annotations(title = "Ask in SQL", read_only_hint = true, open_world_hint = false))]
    async fn query(&self, Parameters(wanted): Parameters<SqlWanted>) -> CallToolResult {
        answer(self.ask_reporter::<Value>("/api/v1/query", &[("sql", wanted.sql)]).await)
    }

    /// The tables and views that `query` can be about, with their columns and types; of one of them, also what each column holds.
    #[tool(annotations(title = "What can be asked in SQL", read_only_hint = true, open_world_hint = false))]
    async fn schema(&self, Parameters(wanted): Parameters<SchemaWanted>) -> CallToolResult {
        let query: Vec<(&str, String)> = wanted.table.into_iter().map(|table| ("table", table)).collect();
        answer(self.ask_reporter::<Value>("/api/v1/schema", &query).await)
    }
}

impl Tools {
    /// Where the healer has no incidents: whether nothing that runs is called as was asked.
    async fn unknown(&self, wanted: &IncidentsWanted, told: &Told<IncidentList>) -> Option<Unknown> {
        if wanted.project.is_none() || told.note.is_some() || !told.told.incidents.is_empty() {
            return None;
        }
        let list: ServiceList = self.ask_healer("/api/v1/services", &[]).await.ok()?;
        incidents::unknown(&list.services, wanted.project.as_deref(), wanted.service.as_deref())
    }

    async fn ask_healer<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, String> {
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.healer()?.get(path, &query).await.map_err(|error| error.to_string())
    }

    /// The healer's answer, or that of its copy in Postgres, which the reporter reads.
    async fn ask_healer_or_copy<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<Told<T>, String> {
        let why = match self.healer() {
            Err(why) => why,
            Ok(healer) => {
                let asked: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
                match healer.get(path, &asked).await {
                    Ok(told) => return Ok(Told::by_the_healer(told)),
                    // What is wrong with the question is wrong with it there too.
                    Err(error) if error.status() == Some(400) => return Err(error.to_string()),
                    // It forgets what is long over, and its copy does not.
                    Err(error) if error.status() == Some(404) => {
                        return self.ask_reporter(path, query).await.map_err(|_| error.to_string());
                    }
                    Err(error) => error.to_string(),
                }
            }
        };
        self.ask_reporter(path, query).await.map_err(|copy| format!("{why}; asked for its copy: {copy}"))
    }

    async fn ask_reporter<T: serde::de::DeserializeOwned>(
        &self,
        path: &str,
        query: &[(&str, String)],
    ) -> Result<T, String> {
        let query: Vec<(&str, &str)> = query.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.agent.reporter.get(path, &query).await.map_err(said)
    }
}

fn path(project: &str, service: &str) -> String {
    format!("/api/v1/services/{}/{}", segment(project), segment(service))
}

/// What is wrong with the question, in the reporter's words alone.
fn said(error: HttpError) -> String {
    match &error {
        HttpError::Status { status: 400 | 404 | 429, message, .. } if message.starts_with(": ") => {
            message[2..].to_owned()
        }
        _ => error.to_string(),
    }
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
