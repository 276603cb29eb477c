//! What Nexus is for: ill becomes well, and the story is on record.

use anyhow::{Context, Result, ensure};
use nexus_model::api::IncidentDetail;
use nexus_model::{AttemptOutcome, EvidenceKind, IncidentState, Mode, Outcome};
use serde_json::json;

use crate::docker::Container;
use crate::project::{Project, Service};
use crate::stack::{HOST, Stack};
use crate::wait::{eventually, seconds};

pub async fn an_unhealthy_container_is_restarted_with_evidence(stack: &Stack) -> Result<()> {
    let service =
        Service::new("web").heal("true").field("environment", json!({"DB_PASSWORD": "value-of-the-environment"}));
    let project = Project::up(stack, "unhealthy", &[service]).await?;
    let before = project.container("web").await?;
    project.exec("web", "echo 'connecting with password=told-by-the-log' > /proc/1/fd/1").await?;
    project.make_ill("web").await?;
    let after = project.restarted("web", &before).await?;
    ensure!(after.id == before.id, "the container was recreated, not restarted");
    let detail = recovered(stack, &project.name, "web", &before, &after).await?;

    prompted_by(&detail, ["HealerSawUnhealthy", "ContainerUnhealthy"])?;
    let piece = |kind: EvidenceKind| {
        let found = detail.evidence.iter().find(|evidence| evidence.kind == kind);
        found.map(|evidence| evidence.body.to_string()).with_context(|| format!("no evidence of kind {kind}"))
    };
    ensure!(piece(EvidenceKind::HealthLog)?.contains("it was told to be ill"), "the probe's output is missing");
    ensure!(piece(EvidenceKind::Logs)?.contains("connecting with"), "the log is missing");
    ensure!(piece(EvidenceKind::Inspect)?.contains("\"unhealthy\""), "the state before is missing");
    ensure!(piece(EvidenceKind::HostVitals)?.contains("\"available_bytes\""), "the disk is missing");
    let vitals = piece(EvidenceKind::ContainerVitals)?;
    ensure!(
        !counts_memory() || !vitals.contains("\"memory_bytes\":null"),
        "the container's memory is missing: {vitals}"
    );
    let all = serde_json::to_string(&detail)?;
    ensure!(!all.contains("value-of-the-environment"), "the environment got into the evidence");
    ensure!(!all.contains("told-by-the-log"), "a password from the log got into the evidence");

    // What the owner sees of it.
    let story = stack.nexus(&["incidents", &detail.incident.id.to_string()]).await?;
    ensure!(story.code == Some(0) && story.stdout.contains("recovered"), "nexus incidents ID: {story:?}");
    project.down().await
}

/// Whether the kernel counts the memory of containers: on a stock Raspberry Pi OS it does not.
fn counts_memory() -> bool {
    let controllers = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
    controllers.split_whitespace().any(|name| name == "memory")
        || std::path::Path::new("/sys/fs/cgroup/memory").exists()
}

pub async fn an_exited_container_is_brought_back(stack: &Stack) -> Result<()> {
    // Docker itself does not restart it; that it shall run is said by the label.
    let service =
        Service::new("job").heal("true").field("restart", json!("no")).label(nexus_model::labels::EXPECTED, "true");
    let project = Project::up(stack, "exited", &[service.without_health()]).await?;
    let before = project.container("job").await?;
    project.exec("job", "echo 3 > /tmp/exit").await?;
    let after = project.restarted("job", &before).await?;
    let detail = recovered(stack, &project.name, "job", &before, &after).await?;
    prompted_by(&detail, ["HealerSawDown", "ContainerDown"])?;
    let inspected = detail.evidence.iter().find(|evidence| evidence.kind == EvidenceKind::Inspect);
    ensure!(inspected.is_some_and(|found| found.body["exit_code"] == 3), "the exit code is missing: {inspected:?}");
    project.down().await
}

/// On a busy machine the rule may be first.
fn prompted_by(detail: &IncidentDetail, alerts: [&str; 2]) -> Result<()> {
    ensure!(alerts.contains(&detail.incident.alert.as_str()), "the prompt was {}", detail.incident.alert);
    Ok(())
}

/// Waits for the end of the service's only incident and checks it, in the API and in Postgres.
async fn recovered(
    stack: &Stack,
    project: &str,
    service: &str,
    before: &Container,
    after: &Container,
) -> Result<IncidentDetail> {
    let incident = eventually(format!("the incident of {project} is closed"), seconds(90), async || {
        let all = stack.incidents(project).await?;
        Ok(all.into_iter().find(|incident| incident.state == IncidentState::Closed))
    })
    .await?;
    let all = stack.incidents(project).await?;
    ensure!(all.len() == 1, "{project} has {} incidents: {all:?}", all.len());
    let detail = stack.incident(incident.id).await?;
    ensure!(incident.outcome == Some(Outcome::Recovered), "it ended {:?}: {detail:?}", incident.outcome);
    ensure!(
        (incident.mode, incident.host.as_str(), incident.service.as_str()) == (Mode::Heal, HOST, service),
        "{incident:?}"
    );
    let [attempt] = detail.attempts.as_slice() else {
        anyhow::bail!("{} attempts: {:?}", detail.attempts.len(), detail.attempts);
    };
    ensure!(attempt.outcome == Some(AttemptOutcome::Helped), "{attempt:?}");
    // The start times prove that it was this restart.
    let same = |told: Option<jiff::Timestamp>, docker: &str| told.map(|at| at.as_millisecond()) == milliseconds(docker);
    ensure!(same(attempt.started_at_before, &before.started_at), "{attempt:?} and {before:?}");
    ensure!(same(attempt.started_at_after, &after.started_at), "{attempt:?} and {after:?}");
    ensure!(
        // The log comes later where reading it takes long.
        detail.evidence.iter().all(|it| it.kind == EvidenceKind::Logs || it.taken_at <= attempt.intended_at),
        "evidence was taken too late"
    );
    ensure!(!detail.evidence.is_empty(), "there is no evidence");

    let row = format!("'{}'", incident.id);
    let wanted = format!("closed|recovered|1|{}|{}", detail.evidence.len(), detail.events.len());
    eventually(format!("the rows of {project} are in Postgres"), seconds(90), async || {
        let found = stack
            .sql_value(&format!(
                "SELECT state, outcome, (SELECT count(*) FROM attempts a WHERE a.incident_id = i.id AND a.outcome = 'helped'), \
                 (SELECT count(*) FROM evidence e WHERE e.incident_id = i.id), \
                 (SELECT count(*) FROM incident_events v WHERE v.incident_id = i.id) FROM incidents i WHERE i.id = {row}"
            ))
            .await?;
        Ok((found == wanted).then_some(()))
    })
    .await?;
    Ok(detail)
}

fn milliseconds(docker: &str) -> Option<i64> {
    docker.parse::<jiff::Timestamp>().ok().map(|at| at.as_millisecond())
}
