//! The healer's door.

use anyhow::{Result, ensure};
use serde_json::json;

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
    // One byte too many: with more, the refusal could be lost in the noise of what is still being sent.
    let huge = stack.webhook(Some(&token), vec![b' '; (4 << 20) + 1]).await?;
    ensure!(huge == 413, "more than 4 MiB are answered {huge}");

    // The right one works, so the test would have seen a trace of the others.
    ensure!(stack.webhook(Some(&token), post("TheRightOne")).await? == 200, "the right token is refused");
    let incident = eventually("the right alert makes an incident", seconds(30), async || {
        Ok(stack.incidents(&project.name).await?.into_iter().next())
    })
    .await?;
    ensure!(["TheRightOne", "ContainerUnhealthy"].contains(&incident.alert.as_str()), "{incident:?}");
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
