//! Parts of the stack die in the middle of an incident.

use anyhow::{Context, Result, ensure};
use nexus_model::{IncidentState, Outcome};

use crate::command::{clean, run};
use crate::events::Events;
use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

pub async fn with_postgres_away_rows_arrive_later_and_once(stack: &Stack) -> Result<()> {
    let project = Project::up(stack, "no-postgres", &[Service::new("web").heal("true")]).await?;
    let away = stack.postgres_stays.write().await;
    stack.compose(&["stop", "postgres"]).await?;
    let before = project.container("web").await?;
    project.make_ill("web").await?;
    project.restarted("web", &before).await?;
    let closed = eventually("the incident is closed without Postgres", seconds(60), async || {
        let all = stack.incidents(&project.name).await?;
        Ok(all.into_iter().find(|incident| incident.state == IncidentState::Closed))
    })
    .await;
    // Others wait for Postgres too: it comes back whatever was seen.
    stack.compose(&["start", "postgres"]).await?;
    let back = eventually("Postgres is back", seconds(60), async || Ok(stack.sql_value("SELECT 1").await.ok())).await;
    drop(away);
    back?;
    let closed = closed?;
    ensure!(closed.outcome == Some(Outcome::Recovered), "{closed:?}");
    ensure!(closed.recorded_at.is_none(), "recorded at {:?}, while Postgres was away", closed.recorded_at);

    let recorded = eventually("the incident is recorded", seconds(120), async || {
        let detail = stack.incident(closed.id).await?;
        Ok(detail.incident.recorded_at.is_some().then_some(detail))
    })
    .await?;
    let ours = format!("SELECT id FROM incidents WHERE project = '{}'", project.name);
    let count = async |from: &str| stack.sql_value(&format!("SELECT count(*) FROM {from}")).await;
    ensure!(count(&format!("({ours}) i")).await? == "1", "not one incident in Postgres");
    for (table, expected) in [
        ("attempts", recorded.attempts.len()),
        ("evidence", recorded.evidence.len()),
        ("incident_events", recorded.events.len()),
    ] {
        let found = count(&format!("{table} WHERE incident_id IN ({ours})")).await?;
        ensure!(found == expected.to_string(), "{table} has {found} rows, the journal {expected}");
        ensure!(expected > 0, "{table} is empty");
    }
    ensure!(
        stack.sql_value(&format!("SELECT state FROM incidents WHERE project = '{}'", project.name)).await? == "closed",
        "the row is not the newest one"
    );
    project.down().await
}

pub async fn a_killed_healer_neither_forgets_nor_restarts_twice(stack: &Stack) -> Result<()> {
    // Deaf for SIGTERM: the restart takes as long as the grace period, time enough to kill the healer meanwhile.
    let project = Project::up(stack, "killed-healer", &[Service::new("web").heal("true").stubborn(8)]).await?;
    let before = project.container("web").await?;
    let alone = stack.healer_stays.write().await;
    let mut events = Events::of(&before.id)?;
    project.make_ill("web").await?;
    let incident = eventually("the intent to restart is on record", seconds(90), async || {
        let all = stack.incidents(&project.name).await?;
        Ok(all.into_iter().find(|incident| incident.state == IncidentState::Restarting))
    })
    .await?;
    ensure!(project.container("web").await?.started_at == before.started_at, "the restart was over too soon");
    let healer = stack.container("healer").await?;
    // Not `docker kill`: that would count as a stop on purpose, after which Docker does not start it again.
    // By bash, which has a kill of its own: a bare Debian has no program of that name.
    let mut kill = clean("bash");
    kill.args(["-c", &format!("kill -9 {}", healer.pid)]);
    run(kill).await?;
    eventually("another healer runs", seconds(60), async || {
        let now = stack.container("healer").await?;
        Ok((now.status == "running" && now.pid != healer.pid && now.pid != 0).then_some(()))
    })
    .await?;

    let closed = eventually("the incident is closed", seconds(90), async || {
        let detail = stack.incident(incident.id).await?;
        Ok((detail.incident.state == IncidentState::Closed).then_some(detail))
    })
    .await?;
    drop(alone);
    ensure!(closed.incident.outcome == Some(Outcome::Recovered), "{closed:?}");
    ensure!(closed.attempts.len() == 1, "{:?}", closed.attempts);
    let after = project.container("web").await?;
    ensure!(after.started_at != before.started_at, "it was never restarted");

    // Docker's own count of starts.
    let starts = events.count("start").await?;
    ensure!(starts == 1, "it was started {starts} times");
    ensure!(stack.incidents(&project.name).await?.len() == 1, "there is a second incident");
    let rows = format!("SELECT count(*) FROM attempts WHERE incident_id = '{}'", incident.id);
    eventually("one attempt is in Postgres", seconds(90), async || {
        Ok((stack.sql_value(&rows).await? == "1").then_some(()))
    })
    .await
    .context("after the healer was killed")?;
    project.down().await
}
