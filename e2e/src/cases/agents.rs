//! What scripts and AI agents do: send messages, and ask by the Model Context Protocol.

use anyhow::{Context, Result, ensure};
use axum::http::StatusCode;
use serde_json::{Value, json};

use crate::agent;
use crate::command::finish;
use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds, stays};

pub async fn a_message_from_a_script_arrives_once(stack: &Stack) -> Result<()> {
    let title = format!("Backup <failed> & {}", stack.round.load(std::sync::atomic::Ordering::Relaxed));
    // Telegram is too busy for the first try.
    stack.telegram.stumble("Backup", &[StatusCode::TOO_MANY_REQUESTS]);
    let text = "tar: exit status 2\n\"quoted\"";
    let sent = stack.nexus(&["notify", &title, text, "--severity", "critical", "--project", "shop"]).await?;
    ensure!(sent.code == Some(0) && sent.stdout == "sent through Alertmanager\n", "nexus notify: {sent:?}");
    let message = eventually("Telegram gets the message", seconds(60), async || {
        Ok(stack.telegram.messages(&title).into_iter().next())
    })
    .await?;
    let expected = format!("🔴 shop: {title}\non {}\n\n{text}", crate::stack::HOST);
    ensure!(message.text == expected, "{:?} is not {expected:?}", message.text);
    // It stands for an hour, over many a flush of its group.
    stays("the number of messages", seconds(75), &1, async || Ok(stack.telegram.messages(&title).len())).await?;
    let wrong = stack.nexus(&["notify", &"x".repeat(101)]).await?;
    ensure!(wrong.code == Some(2) && wrong.stderr.contains("100 at most fit"), "nexus notify: {wrong:?}");
    Ok(())
}

/// A process of Postgres that lives as long as nothing makes it begin anew.
const BACKGROUND: &str = "SELECT backend_start FROM pg_stat_activity WHERE backend_type = 'checkpointer'";

/// With the client of the protocol's own Python SDK; left out where that can't be had.
pub async fn a_client_of_the_protocol_reads_and_acts(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let _postgres = stack.postgres_stays.read().await;
    let background = stack.sql_value(BACKGROUND).await?;
    let project = Project::up(stack, "agent", &[Service::new("web").heal("true")]).await?;
    eventually("the healer knows the service", seconds(60), async || {
        let known = stack.services().await?.services;
        Ok(known.iter().any(|service| service.project == project.name).then_some(()))
    })
    .await?;
    let one = json!({"project": project.name, "service": "web"});
    let read = agent::ask(
        stack,
        &[],
        &[
            ("status", json!({})),
            ("services", json!({"project": project.name})),
            ("explain_service", one.clone()),
            ("explain_policy", one.clone()),
            ("logs", one.clone()),
            ("query_metrics", json!({"query": "count(up)"})),
            ("incidents", json!({"project": project.name})),
            ("services", json!({"project": "nowhere"})),
            (
                "query",
                json!({"sql": "SELECT current_user::text AS who, current_setting('transaction_read_only') AS only"}),
            ),
            ("schema", json!({"table": "incidents"})),
            ("query", json!({"sql": "SELECT lo_create(0) AS it"})),
            ("query", json!({"sql": "SELECT repeat('x', 1000000000) AS it"})),
        ],
    )
    .await?;
    ensure!(read.server == "nexus" && !read.tools.contains(&"heal_now".to_owned()), "{:?}", read.tools);
    let errors: Vec<bool> = read.answers.iter().map(|answer| answer.error).collect();
    ensure!(
        errors == [false, false, false, false, false, false, false, true, false, false, true, true],
        "{:?}",
        read.answers
    );
    let service: Value = serde_json::from_str(read.answers[1].texts.last().context("no answer")?)?;
    ensure!(service["services"][0]["mode"] == "heal", "{service}");
    ensure!(read.answers[7].texts[0].contains("there is no project nowhere"), "{:?}", read.answers[7]);
    let asked: Value = serde_json::from_str(read.answers[8].texts.last().context("no answer")?)?;
    ensure!(asked["rows"] == json!([["nexus_reader", "on"]]), "{asked}");
    ensure!(read.answers[10].texts[0].contains("permission denied"), "{:?}", read.answers[10]);
    ensure!(read.answers[11].texts[0].contains("more memory than a question may"), "{:?}", read.answers[11]);
    // Had it been ended by the kernel, Postgres would have thrown everyone out and begun anew.
    ensure!(stack.sql_value(BACKGROUND).await? == background, "postgres has begun anew");

    let before = project.container("web").await?;
    let acted = agent::ask(
        stack,
        &["--act"],
        &[
            ("heal_now", json!({"project": project.name, "service": "web", "force": true})),
            ("pause", json!({"project": project.name, "minutes": 5})),
            ("resume", json!({"project": project.name})),
        ],
    )
    .await?;
    ensure!(acted.answers.iter().all(|answer| !answer.error), "{:?}", acted.answers);
    project.restarted("web", &before).await?;
    project.down().await
}

/// What holds while Alertmanager is stopped.
pub async fn a_message_goes_to_telegram_directly(stack: &Stack) -> Result<()> {
    let title = format!("Direct {}", stack.round.load(std::sync::atomic::Ordering::Relaxed));
    stack.telegram.stumble(&title, &[StatusCode::TOO_MANY_REQUESTS, StatusCode::BAD_GATEWAY]);
    let mut command = stack.nexus_command(&["notify", &title, "a <b> & c"]);
    // Its name of this host is for containers.
    command.env("NEXUS_TELEGRAM_API_URL", format!("http://127.0.0.1:{}", stack.telegram.address.port()));
    let sent = finish(command).await?;
    ensure!(sent.code == Some(0) && sent.stdout.starts_with("sent to Telegram directly: alertmanager"), "{sent:?}");
    let messages: Vec<String> = stack.telegram.messages(&title).into_iter().map(|message| message.text).collect();
    ensure!(messages == [format!("🔵 {}: {title}\n\na <b> & c", crate::stack::HOST)], "{messages:?}");
    Ok(())
}
