//! Services that need each other: the cause is healed before its symptoms.

use anyhow::{Context, Result, ensure};
use nexus_model::api::IncidentDetail;
use nexus_model::{IncidentState, Outcome};
use serde_json::json;

use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

pub async fn the_root_is_healed_and_its_dependant_after_it(stack: &Stack) -> Result<()> {
    let services = [
        Service::new("db").heal("true"),
        // What ails it only a restart mends, so that it can't follow by itself.
        Service::new("web").heal("true").field("depends_on", json!(["db"])),
    ];
    let project = Project::up(stack, "root", &services).await?;
    let (db, web) = (project.container("db").await?, project.container("web").await?);
    // The symptom first.
    project.make_ill("web").await?;
    project.make_ill("db").await?;
    let web = project.restarted("web", &web).await?;
    let db_after = project.container("db").await?;
    ensure!(db_after.started_at != db.started_at, "web was restarted while db was ill");
    ensure!(
        db_after.started_at < web.started_at,
        "web was restarted at {}, db at {}",
        web.started_at,
        db_after.started_at
    );
    let of_web = closed(stack, &project, "web").await?;
    ensure!(of_web.attempts.len() == 1, "the restart of web was not the first of it: {:?}", of_web.attempts);
    ensure!(of_web.incident.outcome == Some(Outcome::Recovered), "{:?}", of_web.incident);
    let of_db = closed(stack, &project, "db").await?;
    ensure!(of_db.attempts.len() == 1, "{:?}", of_db.attempts);
    project.down().await
}

pub async fn who_lives_in_the_network_of_a_restarted_container_is_restarted_after_it(stack: &Stack) -> Result<()> {
    let services = [
        Service::new("vpn").heal("true"),
        // Nothing tells of it that its network is dead.
        Service::new("client").heal("true").without_health().field("network_mode", json!("service:vpn")),
    ];
    let project = Project::up(stack, "network", &services).await?;
    let client = project.container("client").await?;
    project.make_ill("vpn").await?;
    let client = project.restarted("client", &client).await?;
    let vpn = project.container("vpn").await?;
    ensure!(
        vpn.started_at < client.started_at,
        "client was restarted at {}, vpn at {}",
        client.started_at,
        vpn.started_at
    );
    let of_client = closed(stack, &project, "client").await?;
    ensure!(of_client.incident.alert == "NetworkDead", "{:?}", of_client.incident);
    ensure!(of_client.incident.outcome == Some(Outcome::Recovered), "{:?}", of_client.incident);
    ensure!(of_client.attempts.len() == 1, "{:?}", of_client.attempts);
    project.down().await
}

async fn closed(stack: &Stack, project: &Project<'_>, service: &str) -> Result<IncidentDetail> {
    let incident =
        eventually(format!("the incident of {}/{service} is closed", project.name), seconds(90), async || {
            let all = stack.incidents(&project.name).await?;
            Ok(all.into_iter().find(|it| it.service == service && it.state == IncidentState::Closed))
        });
    let incident = incident.await?;
    stack.incident(incident.id).await.with_context(|| format!("the incident of {service}"))
}
