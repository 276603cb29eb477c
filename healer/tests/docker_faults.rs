//! The running healer against an engine that goes, refuses, lies and forgets.

use std::time::{Duration, Instant};

use nexus_model::{AttemptOutcome, Cause, IncidentState, Outcome, Refusal, api::IncidentDetail};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Alertmanager, Healer, firing, payload},
};

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

fn gave_up(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::GaveUp
}

fn outcomes(detail: &IncidentDetail) -> Vec<Option<AttemptOutcome>> {
    detail.attempts.iter().map(|attempt| attempt.outcome).collect()
}

/// An engine with one ill service, the container `c1` of shop/web.
fn engine_with_ill(fake: Fake) -> Engine {
    let engine = Engine::start();
    engine.set("c1", fake.ill());
    engine
}

fn web() -> Fake {
    Fake::service("shop", "web")
}

/// Docker was asked to restart `c1`, and takes its time over stopping it.
async fn at_work_on_a_restart() -> (Engine, Healer) {
    let engine = engine_with_ill(Fake { stops_in: Duration::from_secs(60), ..web() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    eventually("the restart", async || (engine.restarts("c1") == 1).then_some(())).await;
    (engine, healer)
}

/// What the status says of Docker.
async fn docker_status(healer: &Healer, says: &str) {
    eventually(&format!("docker {says}"), async || {
        let (_, status) = healer.api("GET", "/api/v1/status", "").await;
        let docker = status.split("\"docker\":").nth(1)?.split('}').next()?.to_owned();
        docker.contains(says).then_some(())
    })
    .await;
}

#[tokio::test]
async fn without_a_socket_alerts_are_kept_and_looked_into_when_it_comes() {
    let engine = engine_with_ill(web());
    engine.leave();
    let healer = Healer::started(&engine).await;
    docker_status(&healer, "down").await;
    let began = Instant::now();
    healer.alert("shop", "web").await;
    assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    assert_eq!(healer.incidents().await.incidents, []);
    engine.come_back();
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    docker_status(&healer, "up").await;
}

#[tokio::test]
async fn an_engine_that_takes_calls_and_answers_none_is_down_and_alerts_are_answered_at_once() {
    let engine = engine_with_ill(web());
    engine.hang(true);
    let healer = Healer::started(&engine).await;
    for _ in 0..5 {
        let began = Instant::now();
        healer.alert("shop", "web").await;
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}", began.elapsed());
    }
    docker_status(&healer, "did not").await;
    assert_eq!(engine.all_restarts(), []);
    engine.hang(false);
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.outcome, engine.restarts("c1")), (Some(Outcome::Recovered), 1));
}

#[tokio::test]
async fn a_daemon_that_ends_between_stop_and_start_leaves_a_container_that_is_ours_to_start() {
    let (engine, healer) = at_work_on_a_restart().await;
    // It has stopped it, as for a person; and nobody is left to start it.
    engine.leave();
    engine.quietly("c1", |it| (it.status, it.exit_code, it.stops_in) = ("exited", 137, Duration::ZERO));
    docker_status(&healer, "down").await;
    engine.come_back();
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Interrupted), Some(AttemptOutcome::Helped)]);
    assert_eq!((engine.restarts("c1"), engine.container("c1").status), (2, "running"));
}

#[tokio::test]
async fn a_daemon_that_ends_before_it_stops_the_container_is_asked_again_later() {
    let (engine, healer) = at_work_on_a_restart().await;
    engine.leave();
    engine.quietly("c1", |it| it.stops_in = Duration::ZERO);
    engine.come_back();
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Interrupted), Some(AttemptOutcome::Helped)]);
    let waited = detail.attempts[1].intended_at.duration_since(detail.attempts[0].intended_at);
    assert!(waited.as_secs() >= 21, "its stop time-out and the margin are waited for: {waited:?}");
}

#[tokio::test]
async fn what_the_proxy_or_docker_refuses_is_a_failed_attempt_with_its_reason() {
    for (status, message) in
        [(403, "the proxy does not let this through"), (409, "removal of container c1 is already in progress")]
    {
        let engine = engine_with_ill(web());
        engine.answers("/restart", Some((status, message)));
        let healer = Healer::started(&engine).await;
        healer.alert("shop", "web").await;
        let detail = healer.incident("web", "giving up", gave_up).await;
        assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Failed); 3]);
        for attempt in &detail.attempts {
            let reason = attempt.detail.as_deref().unwrap();
            assert!(reason.contains(message) && reason.contains(&status.to_string()), "{reason}");
        }
        assert_eq!(engine.all_restarts(), []);
    }
}

#[tokio::test]
async fn an_engine_that_lets_nothing_be_read_is_down_with_the_reason() {
    let engine = engine_with_ill(web());
    engine.answers("/containers/json", Some((403, "the proxy does not let this through")));
    let healer = Healer::started(&engine).await;
    docker_status(&healer, "the proxy does not let this through (status 403)").await;
    healer.alert("shop", "web").await;
    assert_eq!(engine.all_restarts(), []);
    engine.answers("/containers/json", None);
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
}

#[tokio::test]
async fn a_container_that_goes_while_it_is_restarted_ends_the_incident() {
    let engine = engine_with_ill(web());
    engine.answers("/restart", Some((404, "No such container: c1")));
    let mut healer = Healer::new(&engine);
    // Long enough that it is gone before it is tried again.
    healer.policy(
        &crate::support::healer::POLICY
            .replace("base_delay: 1s", "base_delay: 60s")
            .replace("max_delay: 2s", "max_delay: 60s"),
    );
    healer.start().await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "a failed attempt", |it| it.incident.failed_attempts == 1).await;
    assert!(detail.attempts[0].detail.as_deref().unwrap().contains("docker knows no container c1"), "{detail:?}");
    engine.remove("c1");
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.outcome, detail.attempts.len()), (Some(Outcome::Gone), 1));
}

#[tokio::test]
async fn a_container_that_is_created_anew_while_the_old_one_is_restarted_is_left_alone() {
    let (engine, healer) = at_work_on_a_restart().await;
    engine.leave();
    engine.come_back();
    engine.set("c2", Fake::service("shop", "web"));
    engine.remove("c1");
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Gone));
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Interrupted)]);
    // The end of the old one may be told before the new one is seen.
    healer.sees("web", "running", "healthy").await;
    healer.alert("shop", "web").await;
    healer.refused("already_well").await;
    assert_eq!(engine.restarts("c2"), 0);
}

#[tokio::test]
async fn a_container_that_is_removed_when_it_ends_ends_the_incident() {
    let fake = Fake { temper: Temper::Dawdles, auto_remove: true, restart_policy: "no", ..web() };
    let engine = engine_with_ill(fake);
    let mut healer = Healer::new(&engine);
    // It has to end before the verdict, however slow this test is.
    healer.policy(&crate::support::healer::POLICY.replace("verify_margin: 1s", "verify_margin: 60s"));
    healer.start().await;
    healer.alert("shop", "web").await;
    healer.incident("web", "verifying", |it| it.incident.state == IncidentState::Verifying).await;
    engine.exit("c1", 1);
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!((detail.incident.outcome, engine.restarts("c1")), (Some(Outcome::Gone), 1));
}

#[tokio::test]
async fn an_engine_that_says_done_and_does_nothing_is_found_out_by_the_start_time() {
    let engine = engine_with_ill(Fake { temper: Temper::Lies, ..web() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let detail =
        healer.incident("web", "the first verdict", |it| outcomes(it).first().is_some_and(Option::is_some)).await;
    assert_eq!(detail.attempts[0].outcome, Some(AttemptOutcome::Interrupted));
    assert!(detail.attempts[0].detail.as_deref().unwrap().contains("has not started anew"), "{detail:?}");
    engine.change("c1", |it| it.temper = Temper::Mends);
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(detail.attempts.last().unwrap().outcome, Some(AttemptOutcome::Helped));
}

#[tokio::test]
async fn what_stopped_in_a_gap_of_the_events_is_left_alone() {
    let engine = Engine::start();
    engine.set("c1", Fake { health: None, ..Fake::service("shop", "web") });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "none").await;
    engine.leave();
    engine.quietly("c1", |it| (it.status, it.exit_code) = ("exited", 137));
    engine.come_back();
    healer.sees("web", "exited", "none").await;
    healer.alert("shop", "web").await;
    healer.refused("stopped_by_unknown").await;
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn what_an_engine_ended_on_its_return_is_started_again() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    engine.set("c2", Fake::service("shop", "db"));
    engine.set("c3", Fake { restart_policy: "no", ..Fake::service("shop", "job") });
    let healer = Healer::started(&engine).await;
    for service in ["web", "db", "job"] {
        healer.sees(service, "running", "healthy").await;
    }
    // A person stops one before.
    engine.stop("c2");
    healer.sees("db", "exited", "unhealthy").await;
    engine.leave();
    // As for a person: kill, die, stop.
    engine.stop("c1");
    engine.stop("c3");
    engine.come_back();
    for service in ["web", "db", "job"] {
        healer.sees(service, "exited", "unhealthy").await;
        healer.alert("shop", service).await;
    }
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Helped)]);
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    healer.refused("stopped_by_human").await;
    healer.refused("not_expected_to_run").await;
    assert_eq!((engine.all_restarts().len(), engine.restarts("c1")), (1, 1));
}

/// The healer lives in a container, too, and is ended with the others.
#[tokio::test]
async fn what_an_engine_ended_together_with_the_healer_is_started_by_the_next_one() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let mut healer = Healer::started(&engine).await;
    healer.sees("web", "running", "healthy").await;
    engine.leave();
    engine.stop("c1");
    docker_status(&healer, "down").await;
    healer.stop();
    engine.come_back();
    healer.start().await;
    healer.sees("web", "exited", "unhealthy").await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Helped)]);
    // The note is good for one return: what comes is another's.
    let (status, _) = healer.stop();
    assert!(status.success());
    engine.leave();
    engine.stop("c1");
    engine.come_back();
    healer.start().await;
    healer.sees("web", "exited", "unhealthy").await;
    healer.alert("shop", "web").await;
    healer.refused("stopped_by_unknown").await;
    assert_eq!(engine.restarts("c1"), 1);
}

/// Somebody may have been at it: a stop that was under way when the engine was killed looks the same afterwards.
#[tokio::test]
async fn what_an_engine_ended_on_its_return_while_no_healer_had_watched_it_is_left_alone_and_named() {
    for killed in [false, true] {
        let engine = Engine::start();
        engine.set("c1", Fake::service("shop", "web"));
        let mut healer = Healer::started(&engine).await;
        healer.sees("web", "running", "healthy").await;
        if killed {
            healer.kill();
        } else {
            healer.stop();
        }
        engine.leave();
        engine.stop("c1");
        engine.come_back();
        healer.start().await;
        healer.sees("web", "exited", "unhealthy").await;
        healer.alert("shop", "web").await;
        healer.refused("stopped_by_unknown").await;
        assert_eq!(engine.all_restarts(), []);
        healer.says("they stopped while nobody watched").await;
        let log = healer.log();
        let named = log.lines().find(|line| line.contains("they stopped while nobody watched"));
        assert!(named.is_some_and(|line| line.contains("shop-web-1")), "{log}");
        let (_, why) = healer.api("GET", "/api/v1/services/shop/web", "").await;
        assert!(why.contains("stays so until you start it"), "{why}");
    }
}

#[tokio::test]
async fn a_restart_of_ours_whose_run_the_engine_ends_on_its_return_is_gone_on_with() {
    let engine = Engine::start();
    engine.set("c1", Fake { temper: Temper::Dawdles, ..Fake::service("shop", "web").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let is_judged = |detail: &IncidentDetail| detail.incident.state == IncidentState::Verifying;
    healer.incident("web", "the judgement", is_judged).await;
    engine.leave();
    engine.quietly("c1", |it| it.temper = Temper::Mends);
    engine.stop("c1");
    docker_status(&healer, "down").await;
    engine.come_back();
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Interrupted), Some(AttemptOutcome::Helped)]);
    assert_eq!(detail.attempts[0].detail.as_deref(), Some("docker was down, and ended it on its return"));
    assert_eq!((engine.restarts("c1"), engine.container("c1").status), (2, "running"));
}

#[tokio::test]
async fn a_command_that_is_not_found_is_given_up_and_named() {
    let engine = Engine::start();
    engine.set("c1", Fake { health: None, temper: Temper::Exits(127), ..Fake::service("shop", "web") });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "running", "none").await;
    engine.exit("c1", 127);
    healer.sees("web", "exited", "none").await;
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "giving up", gave_up).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::DidNotHelp); 3]);
    assert_eq!(detail.incident.refusal, Some(Refusal::BudgetSpent));
    assert_eq!(detail.incident.diagnosis.map(|it| it.cause), Some(Cause::CommandNotFound));
    assert_eq!(engine.restarts("c1"), 3);
}

#[tokio::test]
async fn a_container_that_is_only_created_yet_is_waited_for() {
    let engine = Engine::start();
    engine.set("c1", Fake { status: "created", health: None, ..Fake::service("shop", "web") });
    engine.set("c2", Fake { health: Some("starting"), ..Fake::service("shop", "db") });
    let healer = Healer::started(&engine).await;
    healer.sees("web", "created", "none").await;
    healer.post(&payload(&[firing("shop", "web"), firing("shop", "db")])).await;
    eventually("both are refused", async || {
        healer.metric("nexus_healer_refusals_total{reason=\"starting\"}").await.filter(|count| *count == 2.0)
    })
    .await;
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn no_part_of_nexus_itself_is_ever_touched() {
    let engine = Engine::start();
    let parts = ["healer", "docker-proxy", "postgres", "prometheus", "alertmanager", "exporter", "grafana"];
    for part in parts {
        engine.set(part, Fake::service("nexus", part).ill());
    }
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    healer.sees("grafana", "running", "unhealthy").await;
    healer.post(&payload(&parts.map(|part| firing("nexus", part)))).await;
    eventually("all are refused", async || {
        let refused = healer.metric("nexus_healer_refusals_total{reason=\"own_stack\"}").await?;
        (refused == parts.len() as f64).then_some(())
    })
    .await;
    assert_eq!(healer.metric("nexus_healer_seen_ill").await, Some(0.0));
    // Nor can it be asked for.
    let (status, answer) = healer.api("PUT", "/api/v1/heal", r#"{"project":"nexus","mode":"heal"}"#).await;
    assert_eq!(status, 400, "{answer}");
    assert_eq!(engine.all_restarts(), []);
    assert_eq!(healer.incidents().await.incidents, []);
}
