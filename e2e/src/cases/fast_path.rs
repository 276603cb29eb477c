//! How long it takes from Docker's word to the restart, and that neither Prometheus nor Alertmanager is needed for it.

use anyhow::{Result, ensure};
use jiff::SignedDuration;
use nexus_model::api::IncidentDetail;
use nexus_model::{IncidentState, Outcome};

use crate::docker::Container;
use crate::events::Events;
use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

/// The rule's way takes 20 s. The figure itself is measured by `nexus bench heal`, on a machine that does nothing else.
const AT_ONCE: SignedDuration = SignedDuration::from_secs(3);
/// How long the healer waits for Alertmanager before it prompts itself.
const PATIENCE: SignedDuration = SignedDuration::from_secs(10);
/// Beyond it: asking for silences twice where no answer comes, each with a limit of two seconds, and a busy machine.
const ASKING: SignedDuration = SignedDuration::from_secs(8);

pub async fn without_prometheus_a_service_is_healed_at_once(stack: &Stack) -> Result<()> {
    let project = Project::up(stack, "no-prometheus", &[Service::new("web").heal("true")]).await?;
    let before = project.container("web").await?;
    stack.compose(&["stop", "prometheus"]).await?;
    let healed = healed(stack, &project, &before).await;
    // The next case needs it, whatever was seen.
    stack.compose(&["start", "prometheus"]).await?;
    let (took, detail) = healed?;
    ensure!(detail.incident.alert == "HealerSawUnhealthy", "the prompt was {}", detail.incident.alert);
    ensure!(took <= AT_ONCE, "from unhealthy to the restart it took {took:#}");
    eprintln!("from unhealthy to the restart: {took:#}");
    project.down().await
}

/// What holds while Alertmanager is stopped.
pub async fn healed_after_ten_seconds(stack: &Stack, project: &Project<'_>, before: &Container) -> Result<()> {
    let own = stack.healer_metric("nexus_healer_own_prompts_total{cause=\"unreachable\"}").await?;
    let (took, detail) = healed(stack, project, before).await?;
    ensure!(detail.incident.alert == "HealerAlone", "the prompt was {}", detail.incident.alert);
    ensure!(
        detail.events.iter().any(|event| event.detail.contains("alertmanager brought no alert")),
        "the story does not say so: {:?}",
        detail.events
    );
    // The healer's ten seconds begin when it has heard.
    ensure!(took >= PATIENCE, "it did not wait for Alertmanager: {took:#}");
    ensure!(took <= PATIENCE + ASKING, "from unhealthy to the restart it took {took:#}");
    eprintln!("from unhealthy to the restart without Alertmanager: {took:#}");
    let now = stack.healer_metric("nexus_healer_own_prompts_total{cause=\"unreachable\"}").await?;
    ensure!(now == own + 1.0, "own prompts: {own} before, {now} after");
    Ok(())
}

/// Makes the service ill; gives the time from Docker's word to Docker's first signal, and the closed incident.
async fn healed(stack: &Stack, project: &Project<'_>, before: &Container) -> Result<(SignedDuration, IncidentDetail)> {
    let mut events = Events::of(&before.id)?;
    project.make_ill("web").await?;
    project.restarted("web", before).await?;
    let closed = eventually("the incident is closed", seconds(60), async || {
        let all = stack.incidents(&project.name).await?;
        Ok(all.into_iter().find(|incident| incident.state == IncidentState::Closed))
    })
    .await?;
    ensure!(closed.outcome == Some(Outcome::Recovered), "{closed:?}");
    let detail = stack.incident(closed.id).await?;
    ensure!(!detail.evidence.is_empty(), "there is no evidence");
    let ill = events.first("health_status: unhealthy").await?;
    Ok((events.first("kill").await?.duration_since(ill), detail))
}
