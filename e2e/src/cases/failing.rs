//! A service that no restart helps.

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use nexus_model::{AttemptOutcome, IncidentState, Refusal};

use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds, stays};

/// `base_delay` of the test's policy, in milliseconds.
const BASE_DELAY: i64 = 2_000;

pub async fn a_hopeless_service_is_retried_slower_and_slower_told_about_and_given_up(stack: &Stack) -> Result<()> {
    // A name that would break HTML which is not escaped can't be had, but the output of a health check can.
    let project = Project::up(stack, "hopeless", &[Service::new("web").heal("true").always_ill()]).await?;
    // Telegram is too busy, minds the message, is not well itself, and does not answer: it is told all the same, and once.
    let stumbles = [StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_REQUEST, StatusCode::SERVICE_UNAVAILABLE];
    stack.telegram.stumble(&project.name, &stumbles);
    stack.telegram.hang_up(&project.name);
    let incident = eventually("the healer opens an incident", seconds(60), async || {
        Ok(stack.incidents(&project.name).await?.into_iter().next())
    })
    .await?;

    eventually("the third attempt has failed", seconds(120), async || {
        let incident = stack.incident(incident.id).await?.incident;
        Ok((incident.failed_attempts >= 3).then_some(()))
    })
    .await?;
    let told = eventually("Telegram gets a message", seconds(60), async || {
        Ok(stack.telegram.messages(&project.name).into_iter().next())
    })
    .await?;

    let detail = eventually("the healer gives up", seconds(120), async || {
        let detail = stack.incident(incident.id).await?;
        Ok((detail.incident.state == IncidentState::GaveUp).then_some(detail))
    })
    .await?;
    ensure!(detail.attempts.len() == 5, "{} attempts, the policy allows 5", detail.attempts.len());
    for attempt in &detail.attempts {
        ensure!(attempt.outcome == Some(AttemptOutcome::DidNotHelp), "{attempt:?}");
    }
    let third = detail.attempts[2].finished_at.context("the third attempt never ended")?;
    ensure!(told.at >= third, "told at {}, before the third failure at {third}", told.at);
    let first = format!("🔴 {}/web: Restarting it does not help\non {}, since ", project.name, crate::stack::HOST);
    for words in [first.as_str(), "Tried:", "What to do:"] {
        ensure!(told.text.contains(words), "{words:?} is not in the message:\n{}", told.text);
    }

    // Each delay is between half and the whole of twice the one before. It is over when the next attempt is made, or held up because
    // there are too many restarts of others just now.
    let held_up = |after, before| {
        let refused = detail.events.iter().filter(|event| event.kind == "refused");
        let mut by_others = refused.filter(|event| event.detail.contains(Refusal::HostLimit.as_str()));
        by_others.find(|event| event.at > after && event.at < before).map(|event| event.at)
    };
    for (number, pair) in (0..).zip(detail.attempts.windows(2)) {
        let ended = pair[0].finished_at.context("an attempt that never ended")?;
        let over = held_up(ended, pair[1].intended_at).unwrap_or(pair[1].intended_at);
        let waited = over.duration_since(ended).as_millis() as i64;
        let nominal = BASE_DELAY << number;
        ensure!(waited >= nominal / 2, "attempt {} came {waited} ms after the failure before, too soon", number + 2);
        ensure!(
            waited <= nominal + 15_000,
            "attempt {} came {waited} ms after the failure before, too late",
            number + 2
        );
    }

    eventually("Telegram gets the message that it gave up", seconds(120), async || {
        let messages = stack.telegram.messages(&project.name);
        Ok(messages.into_iter().find(|message| message.text.contains("gave up")))
    })
    .await?;
    let gave_up = stack.healer_metric(&format!("nexus_healer_gave_up{{project=\"{}\"", project.name)).await?;
    ensure!(gave_up == 1.0, "nexus_healer_gave_up is {gave_up}");

    // A prompt changes nothing any more.
    let container = project.container("web").await?;
    stack.prompt("ContainerUnhealthy", &container, Some((&project.name, "web"))).await?;
    stays("the start time of what was given up", seconds(10), &container.started_at, async || {
        Ok(project.container("web").await?.started_at)
    })
    .await?;

    let row = format!("SELECT state || '|' || failed_attempts FROM incidents WHERE id = '{}'", incident.id);
    eventually("the row in Postgres says so", seconds(60), async || {
        Ok((stack.sql_value(&row).await? == "gave_up|5").then_some(()))
    })
    .await?;
    let texts: Vec<String> = stack.telegram.messages(&project.name).into_iter().map(|message| message.text).collect();
    ensure!(texts.len() == 2, "two messages would do, there were {}:\n{}", texts.len(), texts.join("\n---\n"));
    ensure!(stack.telegram.will_stumble(&project.name) == 0, "Telegram did not stumble");
    ensure!(stack.telegram.refused().is_empty(), "Telegram refused: {:?}", stack.telegram.refused());

    // Taken away, it is nobody's problem any more, and the message about its end is the last.
    project.down().await?;
    eventually("the incident is closed", seconds(60), async || {
        Ok((stack.incident(incident.id).await?.incident.state == IncidentState::Closed).then_some(()))
    })
    .await
}
