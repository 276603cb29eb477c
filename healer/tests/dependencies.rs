//! The running healer against a fake engine: services that need each other.

use std::time::Duration;

use nexus_model::{IncidentState, Outcome, Refusal, api::IncidentDetail};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::Healer,
};

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

fn blocked(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Blocked
}

fn needing(service: &str, depends_on: &str) -> Fake {
    Fake::service("shop", service).label("com.docker.compose.depends_on", depends_on)
}

fn restarted(engine: &Engine) -> Vec<String> {
    engine.all_restarts().into_iter().map(|(id, _)| id).collect()
}

#[tokio::test]
async fn the_root_is_healed_and_its_dependant_follows_by_itself() {
    let engine = Engine::start();
    engine.set("web", needing("web", "db:service_started:false").ill());
    engine.set("db", Fake::service("shop", "db").ill());
    let healer = Healer::started(&engine).await;
    // The symptom is told first.
    healer.alert("shop", "web").await;
    let detail = healer.incident("web", "waiting", blocked).await;
    assert_eq!(detail.incident.refusal, Some(Refusal::DependencyDown));
    let waits = detail.events.iter().find(|event| event.kind == "blocked").unwrap();
    assert_eq!(waits.detail, "waits for shop/db: unhealthy: 3 failed probes in a row");
    healer.alert("shop", "db").await;
    healer.incident("db", "its end", closed).await;
    engine.change("web", |it| it.health = Some("healthy"));
    let detail = healer.incident("web", "its end", closed).await;
    assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::RecoveredByItself), 0));
    assert_eq!(restarted(&engine), ["db"]);
}

#[tokio::test]
async fn a_dependant_that_does_not_follow_by_itself_is_restarted_after_the_root() {
    let engine = Engine::start();
    engine.set("web", needing("web", "db:service_started:false").ill());
    engine.set("db", Fake::service("shop", "db").ill());
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    healer.incident("web", "waiting", blocked).await;
    healer.alert("shop", "db").await;
    let detail = healer.incident("web", "its end", closed).await;
    assert_eq!((detail.incident.outcome, detail.incident.attempts), (Some(Outcome::Recovered), 1));
    assert_eq!(restarted(&engine), ["db", "web"]);
    let events: Vec<&str> = detail.events.iter().map(|event| event.kind.as_str()).collect();
    assert!(
        events.windows(2).any(|two| two == ["blocked", "unblocked"]) || events.contains(&"unblocked"),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_need_whose_last_probe_failed_is_looked_at_in_the_moment_of_the_act() {
    let engine = Engine::start();
    engine.set("web", needing("web", "db:service_started:false").ill());
    engine.set("db", Fake::service("shop", "db"));
    let healer = Healer::started(&engine).await;
    healer.sees("db", "running", "healthy").await;
    // No event tells of a failed probe.
    engine.quietly("db", |it| it.failing_streak = 1);
    healer.alert("shop", "web").await;
    let doubtful = |detail: &IncidentDetail| detail.incident.refusal == Some(Refusal::DependencyDoubtful);
    healer.incident("web", "doubt", doubtful).await;
    assert!(restarted(&engine).is_empty());
    engine.change("db", |it| it.health = Some("unhealthy"));
    healer.incident("web", "waiting", blocked).await;
    healer.alert("shop", "db").await;
    healer.incident("web", "its end", closed).await;
    assert_eq!(restarted(&engine)[0], "db");
}

#[tokio::test]
async fn a_doubt_that_passes_holds_nothing_up() {
    let engine = Engine::start();
    engine.set("web", needing("web", "db:service_started:false").ill());
    engine.set("db", Fake { failing_streak: 1, ..Fake::service("shop", "db") });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    let doubtful = |detail: &IncidentDetail| detail.incident.refusal == Some(Refusal::DependencyDoubtful);
    healer.incident("web", "doubt", doubtful).await;
    engine.quietly("db", |it| it.failing_streak = 0);
    healer.incident("web", "its end", closed).await;
    assert_eq!(restarted(&engine), ["web"]);
}

#[tokio::test]
async fn a_need_that_somebody_stopped_is_waited_for() {
    let engine = Engine::start();
    engine.set("web", needing("web", "db:service_started:false").ill());
    engine.set("db", Fake::service("shop", "db"));
    let healer = Healer::started(&engine).await;
    healer.sees("db", "running", "healthy").await;
    engine.stop("db");
    healer.sees("db", "exited", "unhealthy").await;
    healer.alert("shop", "web").await;
    healer.incident("web", "waiting", blocked).await;
    engine.set("db", Fake::service("shop", "db"));
    healer.incident("web", "its end", closed).await;
    assert_eq!(restarted(&engine), ["web"]);
}

#[tokio::test]
async fn a_database_that_reads_its_journal_is_not_interrupted() {
    let engine = Engine::start();
    let log = [
        "LOG:  database system was interrupted; last known up at 2026-01-01 00:00:00 UTC",
        "LOG:  database system was not properly shut down; automatic recovery in progress",
        "LOG:  redo starts at 0/1698C70",
    ];
    let log = log.map(|line| format!("{} {line}", jiff::Timestamp::now())).to_vec();
    engine.set("db", Fake { log, ..Fake::service("shop", "db").ill() });
    let mut healer = Healer::new(&engine);
    // Only what its log says holds the restart back: five times so long.
    healer.policy(&crate::support::healer::POLICY.replace("start_patience: 0s", "start_patience: 2s"));
    healer.start().await;
    let began = std::time::Instant::now();
    healer.alert("shop", "db").await;
    let detail = healer.incident("db", "its end", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    let waited = detail.attempts[0].intended_at.duration_since(detail.incident.opened_at);
    assert!(waited.as_secs() >= 8, "restarted after {waited:#}, {:?} of this test", began.elapsed());
}

#[tokio::test]
async fn those_in_a_circle_are_both_healed() {
    let engine = Engine::start();
    engine.set("a", needing("a", "b:service_started:false").ill());
    engine.set("b", needing("b", "a:service_started:false").ill());
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "a").await;
    healer.alert("shop", "b").await;
    healer.incident("a", "its end", closed).await;
    healer.incident("b", "its end", closed).await;
    assert_eq!(engine.most_restarts_at_once(), 1);
    assert_eq!((engine.restarts("a"), engine.restarts("b")), (1, 1));
}

#[tokio::test]
async fn who_asks_for_it_is_restarted_after_what_it_needs_and_nobody_else() {
    let engine = Engine::start();
    engine.set("db", Fake::service("shop", "db").ill());
    engine.set("web", needing("web", "db:service_healthy:true"));
    engine.set("api", needing("api", "web:service_healthy:true"));
    engine.set("other", needing("other", "db:service_healthy:false"));
    // Around in a circle: restarted once all the same.
    engine.change("db", |it| {
        _ = it.labels.insert("com.docker.compose.depends_on".into(), "api:service_started:true".into())
    });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "db").await;
    let detail = healer.incident("api", "its end", closed).await;
    assert_eq!(detail.incident.alert, "DependencyRestarted");
    assert_eq!(detail.incident.problem, "shop/web was restarted, and it asks to be restarted with it");
    for service in ["db", "web"] {
        assert_eq!(healer.incident(service, "its end", closed).await.incident.outcome, Some(Outcome::Recovered));
    }
    healer.alert("shop", "other").await;
    healer.refused("already_well").await;
    assert_eq!(restarted(&engine), ["db", "web", "api"]);
}

#[tokio::test]
async fn who_asks_for_it_follows_also_what_became_well_too_late() {
    let engine = Engine::start();
    engine.set("db", Fake { temper: Temper::Dawdles, ..Fake::service("shop", "db").ill() });
    engine.set("web", needing("web", "db:service_healthy:true"));
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "db").await;
    let too_late = |detail: &IncidentDetail| {
        (detail.incident.state, detail.incident.failed_attempts) == (IncidentState::Backoff, 1)
    };
    healer.incident("db", "the end of patience", too_late).await;
    assert_eq!(restarted(&engine), ["db"]);
    engine.change("db", |it| it.health = Some("healthy"));
    healer.incident("web", "its end", closed).await;
    assert_eq!(restarted(&engine), ["db", "web"]);
}

#[tokio::test]
async fn who_was_left_in_a_dead_network_is_restarted_once_its_owner_is_well() {
    let engine = Engine::start();
    engine.set("vpn", Fake { temper: Temper::Mends, ..Fake::service("shop", "vpn").ill() });
    engine.set("torrent", Fake { network_mode: "container:vpn".into(), ..Fake::service("shop", "torrent") });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "vpn").await;
    let detail = healer.incident("torrent", "its end", closed).await;
    assert_eq!(detail.incident.alert, "NetworkDead");
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(restarted(&engine), ["vpn", "torrent"]);
}

#[tokio::test]
async fn who_lost_its_network_for_good_is_left_to_a_person_with_the_command() {
    let engine = Engine::start();
    engine.set("torrent", Fake { network_mode: "container:gone".into(), ..Fake::service("shop", "torrent").ill() });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "torrent").await;
    let gave_up = |detail: &IncidentDetail| detail.incident.state == IncidentState::GaveUp;
    let detail = healer.incident("torrent", "giving up", gave_up).await;
    assert_eq!(detail.incident.refusal, Some(Refusal::NetworkGone));
    assert!(detail.events.last().unwrap().detail.ends_with("docker compose -p shop up -d torrent"), "{detail:?}");
    assert!(restarted(&engine).is_empty());
    // Created anew it is another container, and the incident is over.
    engine.remove("torrent");
    engine.set("torrent-2", Fake::service("shop", "torrent"));
    let detail = healer.incident("torrent", "its end", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Gone));
    eventually("the end of all incidents", async || {
        healer.metric("nexus_healer_open_incidents").await.filter(|open| *open == 0.0)
    })
    .await;
}

#[tokio::test]
async fn a_clock_that_was_set_back_makes_no_network_dead() {
    let engine = Engine::start();
    // Started by a clock that was two hours ahead.
    let ahead = jiff::Timestamp::now() + Duration::from_secs(7_200);
    engine.set("vpn", Fake { started_at: ahead, ..Fake::service("shop", "vpn") });
    engine.set("torrent", Fake { network_mode: "container:vpn".into(), ..Fake::service("shop", "torrent") });
    let healer = Healer::started(&engine).await;
    healer.alert("shop", "torrent").await;
    healer.refused("already_well").await;
    assert_eq!(restarted(&engine), [] as [&str; 0]);
}

#[tokio::test]
async fn who_lost_its_network_is_found_though_it_looks_well() {
    let engine = Engine::start();
    engine.set("vpn", Fake::service("shop", "vpn"));
    engine.set("torrent", Fake { network_mode: "container:vpn".into(), ..Fake::service("shop", "torrent") });
    // A container of another stack is shown to nobody, and is there all the same.
    engine.set("far", Fake::service("far", "vpn").label("nexus.stack", "elsewhere"));
    engine.set("other", Fake { network_mode: "container:far".into(), health: None, ..Fake::service("shop", "other") });
    // One that is only watched is told of alike: no restart would have helped.
    engine.set("watched", Fake { network_mode: "container:vpn".into(), ..Fake::service("shop", "watched") });
    engine.change("watched", |it| _ = it.labels.insert("nexus.heal".into(), "shadow".into()));
    let healer = Healer::started(&engine).await;
    healer.sees("torrent", "running", "healthy").await;
    engine.remove("vpn");
    engine.set("vpn2", Fake::service("shop", "vpn"));
    let gave_up = |detail: &IncidentDetail| detail.incident.state == IncidentState::GaveUp;
    let detail = healer.incident("torrent", "giving up", gave_up).await;
    assert_eq!((detail.incident.alert.as_str(), detail.incident.attempts), ("NetworkDead", 0));
    assert_eq!(detail.incident.refusal, Some(Refusal::NetworkGone));
    assert!(detail.events.last().unwrap().detail.ends_with("docker compose -p shop up -d torrent"), "{detail:?}");
    let waits = |detail: &IncidentDetail| detail.incident.refusal == Some(Refusal::NetworkGone);
    let watched = healer.incident("watched", "its obstacle", waits).await;
    assert!(watched.events.iter().all(|event| event.kind != "would_restart"), "{watched:?}");
    // Its owner follows the advice.
    engine.remove("torrent");
    engine.set("torrent2", Fake { network_mode: "container:vpn2".into(), ..Fake::service("shop", "torrent") });
    let detail = healer.incident("torrent", "its end", closed).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Gone));
    healer.alert("shop", "other").await;
    healer.alert("shop", "torrent").await;
    healer.refused("already_well").await;
    assert_eq!(restarted(&engine), [] as [&str; 0]);
    assert_eq!(healer.incidents().await.incidents.len(), 2);
}
