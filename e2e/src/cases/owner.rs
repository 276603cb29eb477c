//! What the owner does at the command line.

use std::time::Duration;

use anyhow::{Result, bail, ensure};
use nexus_model::{IncidentState, Mode};

use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::{eventually, seconds};

/// For all of `./nexus status`, as docs/performance.md promises it; a tenth of it where nothing else has to be done.
const STATUS_WITHIN: Duration = Duration::from_millis(300);
const STATUS_RUNS: u32 = 60;

pub async fn the_demo_shows_a_healed_container(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let demo = stack.nexus(&["demo"]).await?;
    ensure!(demo.code == Some(0), "nexus demo: {demo:?}");
    for words in [
        "broken on purpose",
        "Docker says unhealthy",
        "Alertmanager",
        "the healer opens an incident",
        "Docker has restarted it",
        "Docker says healthy",
        "is in Postgres",
        "./nexus incidents ",
    ] {
        ensure!(demo.stdout.contains(words), "{words:?} is not in the demo's output:\n{}", demo.stdout);
    }
    let project = format!("{}-demo", stack.name);
    let left = crate::docker::with_labels(&stack.docker, vec![format!("com.docker.compose.project={project}")]).await?;
    ensure!(left.is_empty(), "the demo left {left:?} behind");
    Ok(())
}

pub async fn healing_can_be_switched_on_from_the_command_line(stack: &Stack) -> Result<()> {
    let project = Project::up(stack, "switched", &[Service::new("web")]).await?;
    let service = format!("{}/web", project.name);
    let mode = async |expected: Mode| -> Result<()> {
        eventually(format!("{service} is in mode {expected}"), seconds(30), async || {
            let known = stack.services().await?.services;
            Ok(known.iter().any(|one| one.project == project.name && one.mode == expected).then_some(()))
        })
        .await
    };
    mode(Mode::Shadow).await?;
    let listed = stack.nexus(&["services"]).await?;
    ensure!(listed.stdout.contains(&format!("./nexus heal on {service}")), "nexus services: {listed:?}");

    // Ill and only watched, until the owner says yes.
    let before = project.container("web").await?;
    project.make_ill("web").await?;
    eventually("a shadow incident", seconds(60), async || Ok(stack.incidents(&project.name).await?.into_iter().next()))
        .await?;
    let switched = stack.nexus(&["heal", "on", &service]).await?;
    ensure!(
        switched.code == Some(0) && switched.stdout.contains("switch of the service"),
        "nexus heal on: {switched:?}"
    );
    mode(Mode::Heal).await?;
    project.restarted("web", &before).await?;
    eventually("the incident is closed", seconds(60), async || {
        let all = stack.incidents(&project.name).await?;
        Ok(all.iter().all(|incident| incident.state == IncidentState::Closed).then_some(()))
    })
    .await?;

    let cleared = stack.nexus(&["heal", "clear", &service]).await?;
    ensure!(cleared.code == Some(0), "nexus heal clear: {cleared:?}");
    mode(Mode::Shadow).await?;
    let unknown = stack.nexus(&["heal", "on", "nowhere/at-all"]).await?;
    ensure!(unknown.code == Some(1) && unknown.stderr.lines().count() == 1, "nexus heal on nowhere: {unknown:?}");
    project.down().await
}

pub async fn the_self_test_passes_and_the_status_is_whole(stack: &Stack) -> Result<()> {
    let _healer = stack.healer_stays.read().await;
    let selftest = stack.nexus(&["selftest", "--timeout", "30s"]).await?;
    ensure!(selftest.code == Some(0), "nexus selftest: {selftest:?}");
    // Other cases break things at this moment, so only the parts are judged.
    let began = std::time::Instant::now();
    let mut status = stack.nexus(&["status", "--json"]).await?;
    let mut best = began.elapsed();
    // They load the machine as well, so the best of some runs counts.
    for _ in 1..STATUS_RUNS {
        if best < STATUS_WITHIN {
            break;
        }
        tokio::time::sleep(seconds(1)).await;
        let again = std::time::Instant::now();
        status = stack.nexus(&["status", "--json"]).await?;
        best = best.min(again.elapsed());
    }
    ensure!(best < STATUS_WITHIN, "nexus status took {best:?}, the best of {STATUS_RUNS} runs");
    let mut report: serde_json::Value = serde_json::from_str(&status.stdout)?;
    let measured = |report: &serde_json::Value, vital: &str| {
        report["vitals"].as_array().is_some_and(|all| all.iter().any(|found| found["name"] == vital))
    };
    // A rate takes two scrapes, and the stack may be younger than that.
    let deadline = began + seconds(60);
    while !measured(&report, "cpu") && std::time::Instant::now() < deadline {
        tokio::time::sleep(seconds(1)).await;
        status = stack.nexus(&["status", "--json"]).await?;
        report = serde_json::from_str(&status.stdout)?;
    }
    let verdict = match report["verdict"].as_str() {
        Some("healthy") => 0,
        Some("degraded") => 1,
        Some("critical") => 2,
        other => bail!("there is no verdict {other:?}"),
    };
    ensure!(status.code == Some(verdict) && report["schema"] == 1, "nexus status: {status:?}");
    ensure!(report["missing"].as_array().is_some_and(|all| all.iter().all(|it| it["what"] != "alerts")), "{report:#}");
    for vital in ["load", "memory", "cpu"] {
        ensure!(measured(&report, vital), "{vital} is not measured: {report:#}");
    }
    for part in ["healer", "exporter", "prometheus", "alertmanager", "docker", "reporter"] {
        let found = report["parts"].as_array().and_then(|parts| parts.iter().find(|found| found["name"] == part));
        ensure!(found.is_some_and(|found| found["up"] == true), "{part}: {found:?}");
    }
    let screen = stack.nexus(&["status"]).await?;
    for words in ["VITALS", "SERVICES", "HEALED SINCE", "OPEN INCIDENTS", "ALERTS"] {
        ensure!(screen.stdout.contains(words), "{words:?} is not on the screen: {screen:?}");
    }
    let document = stack.nexus(&["status", "--markdown", "--since", "1h"]).await?;
    ensure!(document.stdout.contains("\n## Recommended\n"), "nexus status --markdown: {document:?}");
    let unknown = stack.nexus(&["status", "--project", "no-such-project"]).await?;
    ensure!(unknown.code == Some(3) && unknown.stdout.is_empty(), "nexus status of no project: {unknown:?}");
    ensure!(unknown.stderr.contains("there is no project no-such-project; there are "), "{unknown:?}");
    Ok(())
}
