//! What goes on while Alertmanager is away, in one outage, since the healer speaks for it only after a minute.

use anyhow::{Result, ensure};
use axum::http::StatusCode;
use nexus_model::{IncidentState, labels};
use serde_json::Value;

use super::{agents, fast_path};
use crate::project::{Project, Service};
use crate::stack::{HOST, Stack};
use crate::wait::{eventually, seconds};

pub async fn healing_goes_on_and_what_matters_is_told_once(stack: &Stack) -> Result<()> {
    let web = Project::up(stack, "no-alertmanager", &[Service::new("web").heal("true")]).await?;
    stack.compose(&["stop", "alertmanager"]).await?;
    let meanwhile = meanwhile(stack, &web).await;
    // Those that come after need it, whatever was seen.
    stack.compose(&["start", "alertmanager"]).await?;
    let hopeless = meanwhile?;
    not_told_again(stack, &hopeless).await?;

    // Who told the beginning tells the end.
    let name = hopeless.name.clone();
    hopeless.down().await?;
    let ended = eventually("Telegram gets the message that it is over", seconds(60), async || {
        Ok(stack.telegram.messages(&name).into_iter().nth(1))
    })
    .await?;
    ensure!(ended.text.contains("No longer:") && !ended.text.contains('🔴'), "the end is told as {}", ended.text);
    let told = stack.telegram.messages(&name).len();
    ensure!(told == 2, "{told} messages, one and its end would do");
    ensure!(stack.telegram.refused().is_empty(), "Telegram refused: {:?}", stack.telegram.refused());
    web.down().await
}

/// Returns the project that broke for good, of which Telegram has been told.
async fn meanwhile<'a>(stack: &'a Stack, web: &Project<'_>) -> Result<Project<'a>> {
    let before = web.container("web").await?;
    fast_path::healed_after_ten_seconds(stack, web, &before).await?;
    let service = Service::new("web").heal("true").label(labels::ATTEMPTS, "1").always_ill();
    let hopeless = Project::up(stack, "hopeless-alone", &[service]).await?;
    // Telegram is not well when it is told first: it is told all the same.
    stack.telegram.stumble(&hopeless.name, &[StatusCode::BAD_GATEWAY]);
    agents::a_message_goes_to_telegram_directly(stack).await?;
    eventually("the healer gives up", seconds(90), async || {
        let all = stack.incidents(&hopeless.name).await?;
        Ok(all.iter().any(|incident| incident.state == IncidentState::GaveUp).then_some(()))
    })
    .await?;
    let told = eventually("the healer tells Telegram itself", seconds(120), async || {
        Ok(stack.telegram.messages(&hopeless.name).into_iter().next())
    })
    .await?;
    let gave_up = format!("{}/web: Nexus gave up healing this service\non {HOST}, since ", hopeless.name);
    for words in [gave_up.as_str(), "Sent by the healer itself: Alertmanager does not answer."] {
        ensure!(told.text.contains(words), "{words:?} is not in the message:\n{}", told.text);
    }
    ensure!(stack.telegram.will_stumble(&hopeless.name) == 0, "Telegram did not stumble");
    Ok(hopeless)
}

/// Alertmanager, back again, knows of it and that it was told: it tells nobody.
async fn not_told_again(stack: &Stack, hopeless: &Project<'_>) -> Result<()> {
    let name = &hopeless.name;
    let path = format!("/api/v2/alerts?filter=project%3D%22{name}%22");
    let known = eventually("Alertmanager knows that it was told", seconds(90), async || {
        let text = stack.text("NEXUS_ALERTMANAGER_PORT", &path, "application/json").await?;
        let alerts: Vec<Value> = serde_json::from_str(&text)?;
        let marked =
            |alert: &Value| alert["labels"]["alertname"] == "HealerGaveUp" && alert["labels"]["told"] == "directly";
        Ok(alerts.iter().any(marked).then_some(alerts))
    })
    .await?;
    // To whom it goes is said at once; what goes to people would come after `group_wait`, which is not waited for.
    for alert in known {
        let receivers: Vec<&str> =
            alert["receivers"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
        ensure!(!receivers.is_empty() && !receivers.contains(&"people"), "this goes to people once more: {alert:#}");
    }
    let told = stack.telegram.messages(name).len();
    ensure!(told == 1, "{told} messages, one would do");
    Ok(())
}
