//! What must be left alone. Each case makes sure that the healer was asked, and then watches that nothing happens.

use anyhow::{Result, ensure};
use nexus_model::{Incident, IncidentState, Mode};

use crate::command::docker;
use crate::docker::inspect;
use crate::project::{Project, Service};
use crate::stack::{Stack, TEST_IMAGE};
use crate::wait::{eventually, seconds, stays};

/// Longer than scrape, rules, group_interval and the healer's work together.
const WATCHED: u64 = 25;

async fn ill(project: &Project<'_>) -> Result<()> {
    project.make_ill("web").await?;
    eventually("Docker says unhealthy", seconds(30), async || {
        Ok((project.container("web").await?.health == "unhealthy").then_some(()))
    })
    .await
}

/// Posts the prompt until the healer has said no for this reason. Its counters are those of all cases together, but its log
/// names the project.
async fn refused(stack: &Stack, project: &Project<'_>, alert: &str, reason: &str) -> Result<()> {
    let parts = ["no incident".to_owned(), format!("project=\"{}\"", project.name), format!("reason={reason}")];
    let container = project.container("web").await?;
    // Again and again: just after its start a container is too young for any verdict but that.
    eventually(format!("the healer says no: {reason}"), seconds(60), async || {
        stack.prompt(alert, &container, Some((&project.name, "web"))).await?;
        tokio::time::sleep(seconds(1)).await;
        let said = stack.compose(&["logs", "--no-color", "--no-log-prefix", "healer"]).await?;
        Ok(said.lines().any(|line| parts.iter().all(|part| line.contains(part))).then_some(()))
    })
    .await
}

/// Neither the container's life nor the list of incidents changes.
async fn nothing_happens(stack: &Stack, project: &Project<'_>) -> Result<()> {
    let state = async || -> Result<(String, String, usize)> {
        let container = project.container("web").await?;
        Ok((container.started_at, container.status, stack.incidents(&project.name).await?.len()))
    };
    let before = state().await?;
    ensure!(before.2 == 0, "there is an incident: {:?}", stack.incidents(&project.name).await?);
    stays(format!("start, state and incidents of {}", project.name), seconds(WATCHED), &before, state).await
}

pub async fn an_opted_out_service_is_left_alone(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let project = Project::up(stack, "opted-out", &[Service::new("web").heal("false")]).await?;
    ill(&project).await?;
    refused(stack, &project, "ContainerUnhealthy", "opted_out").await?;
    nothing_happens(stack, &project).await?;
    project.down().await
}

pub async fn an_unlabelled_service_is_only_watched(stack: &Stack) -> Result<()> {
    let project = Project::up(stack, "unlabelled", &[Service::new("web")]).await?;
    let before = project.container("web").await?;
    ill(&project).await?;
    let incident = eventually("a shadow incident", seconds(60), async || {
        Ok(stack.incidents(&project.name).await?.into_iter().next())
    })
    .await?;
    let shadow = |incident: &Incident| (incident.mode, incident.attempts) == (Mode::Shadow, 0);
    ensure!(shadow(&incident), "{incident:?}");
    eventually("it says what would have been done", seconds(30), async || {
        let detail = stack.incident(incident.id).await?;
        Ok(detail.events.iter().any(|event| event.detail.contains("would have restarted")).then_some(()))
    })
    .await?;
    stays("its start time", seconds(WATCHED), &before.started_at, async || {
        Ok(project.container("web").await?.started_at)
    })
    .await?;
    // Well again without us: the incident ends by itself, and there never was an attempt.
    project.exec("web", "rm /tmp/ill").await?;
    let closed = eventually("the shadow incident is closed", seconds(60), async || {
        let incident = stack.incident(incident.id).await?.incident;
        Ok((incident.state == IncidentState::Closed).then_some(incident))
    })
    .await?;
    ensure!(shadow(&closed), "{closed:?}");
    let row = format!("SELECT mode || '|' || outcome || '|' || attempts FROM incidents WHERE id = '{}'", incident.id);
    eventually("the row in Postgres says so", seconds(90), async || {
        Ok((stack.sql_value(&row).await? == "shadow|recovered_by_itself|0").then_some(()))
    })
    .await?;
    project.down().await
}

pub async fn what_a_human_stopped_stays_stopped(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let project = Project::up(stack, "stopped", &[Service::new("web").heal("true")]).await?;
    project.compose(&["stop", "--timeout", "1"]).await?;
    refused(stack, &project, "ContainerDown", "stopped_by_human").await?;
    let metric = format!("docker_container_stopped_on_purpose{{project=\"{}\"}}", project.name);
    eventually("Prometheus knows that it was on purpose", seconds(60), async || {
        Ok(stack.query(&metric).await?.iter().any(|sample| sample.value() == 1.0).then_some(()))
    })
    .await?;
    nothing_happens(stack, &project).await?;
    ensure!(project.container("web").await?.status == "exited", "it runs again");
    // And the rule agrees: nobody was asked to look but by us.
    let alert = format!("ALERTS{{alertname=\"ContainerDown\", project=\"{}\"}}", project.name);
    ensure!(stack.query(&alert).await?.is_empty(), "ContainerDown fires for what a human stopped");
    project.down().await
}

pub async fn what_a_human_paused_stays_paused(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let project = Project::up(stack, "paused", &[Service::new("web").heal("true")]).await?;
    // The kernel freezes no group in which a health check is just being started: whoever pauses it asks again.
    eventually("docker pauses it", seconds(60), async || {
        project.compose(&["pause"]).await.ok();
        Ok((project.container("web").await?.status == "paused").then_some(()))
    })
    .await?;
    refused(stack, &project, "ContainerUnhealthy", "paused").await?;
    nothing_happens(stack, &project).await?;
    ensure!(project.container("web").await?.status == "paused", "it is not paused any more");
    project.compose(&["unpause"]).await?;
    project.down().await
}

pub async fn a_container_outside_compose_is_left_alone(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let stack_label = format!("{}={}", nexus_model::labels::STACK, stack.name);
    let id = docker([
        "run",
        "--detach",
        "--label",
        &stack_label,
        "--label",
        "nexus.heal=true",
        "--restart=unless-stopped",
        "--network=none",
        "--health-cmd=echo never well; exit 1",
        "--health-interval=1s",
        "--health-retries=1",
        TEST_IMAGE,
        "sh",
        "-c",
        "trap 'exit 0' TERM; while :; do sleep 0.5; done",
    ])
    .await?;
    let id = id.trim();
    let container = eventually("Docker says unhealthy", seconds(30), async || {
        let container = inspect(&stack.docker, id).await?;
        Ok((container.health == "unhealthy").then_some(container))
    })
    .await?;
    // The rule sees it; the alert has neither project nor service.
    let firing = format!("ALERTS{{alertname=\"ContainerUnhealthy\", heal=\"restart\", name=\"{}\"}}", container.name);
    let samples = eventually("the rule fires", seconds(60), async || {
        let samples = stack.query(&firing).await?;
        Ok((!samples.is_empty()).then_some(samples))
    })
    .await?;
    ensure!(samples.iter().all(|sample| !sample.metric.contains_key("project")), "{samples:?}");
    // And the healer hears of it: no other case asks it about such a container.
    let refusals = "nexus_healer_refusals_total{reason=\"not_compose\"}";
    let before = stack.healer_metric(refusals).await?;
    stack.prompt("ContainerUnhealthy", &container, None).await?;
    eventually("the healer says no: not_compose", seconds(30), async || {
        Ok((stack.healer_metric(refusals).await? > before).then_some(()))
    })
    .await?;
    stays("its start time", seconds(WATCHED), &container.started_at, async || {
        Ok(inspect(&stack.docker, id).await?.started_at)
    })
    .await?;
    ensure!(stack.incidents("").await?.is_empty(), "there is an incident without a project");
    docker(["rm", "--force", id]).await.map(drop)
}
