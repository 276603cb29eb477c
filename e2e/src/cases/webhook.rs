//! The healer's door.

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::command::docker;
use crate::project::{Project, Service};
use crate::stack::{HOST, Stack, TEST_IMAGE};
use crate::wait::{eventually, seconds};

pub async fn a_wrong_token_or_a_malformed_body_leaves_no_trace(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    // Ill and healable: were one of the bodies believed, there would be an incident.
    let project = Project::up(stack, "forged", &[Service::new("web").heal("true").always_ill()]).await?;
    let post = |nonce: &str| {
        json!({"version": "4", "status": "firing", "receiver": "healer", "alerts": [{
            "status": "firing", "fingerprint": nonce, "startsAt": "2026-01-01T00:00:00Z", "endsAt": "0001-01-01T00:00:00Z",
            "annotations": {}, "generatorURL": "", "labels": {"alertname": nonce, "heal": "restart", "severity": "none",
            "host": HOST, "project": project.name, "service": "web", "name": "x"}}]})
        .to_string()
    };
    let token = stack.secret("alertmanager/healer_webhook_token")?;
    let api = stack.secret("healer/api_token")?;
    let beyond = token.clone() + "0";
    for wrong in [None, Some(""), Some("wrong"), Some(&token[1..]), Some(&beyond), Some(&api)] {
        let code = stack.webhook(wrong, post("forgedwithoutright")).await?;
        ensure!(code == 401, "{wrong:?} is answered {code}");
    }
    let cut = post("forgedbutcut");
    for malformed in
        ["", "{", "[]", "null", "\u{0}", "{\"alerts\": 1}", "{\"alerts\": [{\"labels\": 1}]}", &cut[..cut.len() - 3]]
    {
        let code = stack.webhook(Some(&token), malformed.to_owned()).await?;
        ensure!(code == 400, "{malformed:?} is answered {code}");
    }
    let huge = post_of_size(stack, &token, 5 << 20).await?;
    ensure!(huge.starts_with("HTTP/1.1 413 "), "5 MiB are answered {huge:?}");

    // The right one works, so the test would have seen a trace of the others.
    ensure!(stack.webhook(Some(&token), post("TheRightOne")).await? == 200, "the right token is refused");
    let incident = eventually("the right alert makes an incident", seconds(30), async || {
        Ok(stack.incidents(&project.name).await?.into_iter().next())
    })
    .await?;
    ensure!(
        ["TheRightOne", "HealerSawUnhealthy", "ContainerUnhealthy"].contains(&incident.alert.as_str()),
        "{incident:?}"
    );
    let volume = format!("{}_healer-data:/journal:ro", stack.name);
    let search = |word: &'static str| {
        let volume = volume.clone();
        async move {
            let found = docker([
                "run",
                "--rm",
                "--network=none",
                "--volume",
                &volume,
                TEST_IMAGE,
                "sh",
                "-c",
                &format!("cat /journal/* | grep -a -c {word} || true"),
            ])
            .await?;
            anyhow::Ok(found.trim().to_owned())
        }
    };
    ensure!(search("forgedwithoutright").await? == "0", "a forged alert is in the journal");
    ensure!(search("forgedbutcut").await? == "0", "a malformed alert is in the journal");
    ensure!(search("TheRightOne").await? != "0", "the search of the journal finds nothing at all");
    project.down().await
}

/// Sends a body of that size until there is an answer, which may come before all of it was read. The status line.
async fn post_of_size(stack: &Stack, token: &str, length: usize) -> Result<String> {
    let address = stack.url("NEXUS_HEALER_PORT").replace("http://", "");
    let stream = tokio::net::TcpStream::connect(&address).await.context("the healer does not answer")?;
    let (mut answer, mut body) = stream.into_split();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\n\
         Content-Length: {length}\r\n\r\n"
    );
    let sending = tokio::spawn(async move {
        // It breaks off when the server has heard enough.
        let _ = body.write_all(head.as_bytes()).await;
        let _ = body.write_all(&vec![b' '; length]).await;
        body
    });
    let mut status = vec![0; 1024];
    let read =
        tokio::time::timeout(seconds(20), answer.read(&mut status)).await.context("no answer to a large body")??;
    sending.abort();
    Ok(String::from_utf8_lossy(&status[..read]).lines().next().unwrap_or_default().to_owned())
}
