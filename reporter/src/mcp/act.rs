//! The tools that act: there only with the act scope.

use jiff::Timestamp;
use nexus_model::{
    api::IncidentDetail,
    control::{Acknowledge, HealNow, HealNowAccepted, PauseList},
};
use rmcp::{handler::server::wrapper::Parameters, model::CallToolResult, tool, tool_router};
use uuid::Uuid;

use super::{
    Tools,
    output::answer,
    wanted::{AcknowledgeWanted, HealNowWanted, PauseWanted, ResumeWanted, incident_id},
};
use crate::{
    errors::chain,
    notify::{Message, MessageWanted},
    sources::http::segment,
};

#[tool_router(router = acting, vis = "pub(super)")]
impl Tools {
    /// Have one restart of a service made now, whatever delay, budget, pause or mode says. The answer names the incident in which it
    /// is made: ask `incident` for the outcome.
    #[tool(annotations(
        title = "Restart a service now",
        read_only_hint = false,
        destructive_hint = true,
        idempotent_hint = false,
        open_world_hint = false
    ))]
    async fn heal_now(&self, Parameters(wanted): Parameters<HealNowWanted>) -> CallToolResult {
        let asked = async {
            let (project, service) = self.named(wanted.project, wanted.service).await?;
            let path = format!("/api/v1/services/{}/{}/heal", segment(&project), segment(&service));
            let sent = self.healer()?.post_for::<HealNowAccepted>(&path, &HealNow { force: wanted.force }).await;
            sent.map_err(|error| error.to_string())
        };
        answer(asked.await)
    }

    /// Pause healing of a service, a project or everything for a while, such as while somebody works on it. Lists the pauses that hold.
    #[tool(annotations(
        title = "Pause healing",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn pause(&self, Parameters(wanted): Parameters<PauseWanted>) -> CallToolResult {
        let asked = async {
            let wanted = wanted.checked()?;
            self.healer()?.put::<PauseList>("/api/v1/pauses", &wanted).await.map_err(|error| error.to_string())
        };
        answer(asked.await)
    }

    /// End a pause before its time. Lists the pauses that are left.
    #[tool(annotations(
        title = "Resume healing",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn resume(&self, Parameters(wanted): Parameters<ResumeWanted>) -> CallToolResult {
        let asked = async {
            let mut query: Vec<(&str, &str)> = Vec::new();
            query.extend(wanted.project.as_deref().map(|project| ("project", project)));
            query.extend(wanted.service.as_deref().map(|service| ("service", service)));
            self.healer()?.delete::<PauseList>("/api/v1/pauses", &query).await.map_err(|error| error.to_string())
        };
        answer(asked.await)
    }

    /// Acknowledge an incident that was given up or that fails, so that nobody is told of it any more; with retry it is tried again with
    /// a fresh budget.
    #[tool(annotations(
        title = "Acknowledge an incident",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = true,
        open_world_hint = false
    ))]
    async fn acknowledge(&self, Parameters(wanted): Parameters<AcknowledgeWanted>) -> CallToolResult {
        let asked = async {
            let id = incident_id(&wanted.id)?;
            let body = Acknowledge { retry: wanted.retry, note: wanted.note };
            let sent = self.healer()?.post_for::<IncidentDetail>(&format!("/api/v1/incidents/{id}/ack"), &body).await;
            sent.map_err(|error| error.to_string())
        };
        answer(asked.await)
    }

    /// Send a message to the owner's phone (Telegram). It interrupts a person: one message with what they need to know, not several.
    #[tool(annotations(
        title = "Send a message",
        read_only_hint = false,
        destructive_hint = false,
        idempotent_hint = false,
        open_world_hint = true
    ))]
    async fn notify(&self, Parameters(wanted): Parameters<MessageWanted>) -> CallToolResult {
        let asked = async {
            let notifier = self.agent.act.as_ref().ok_or("acting is not allowed")?;
            let message = Message::new(wanted).map_err(|wrong| wrong.to_string())?;
            let sent = notifier.deliver(&message, Uuid::now_v7(), Timestamp::now()).await;
            sent.map_err(|error| chain(&error))
        };
        answer(asked.await)
    }
}
