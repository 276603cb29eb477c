//! The running healer is killed with `kill -9` at each point where that could lose something or do something twice, at each
//! boundary of the journal's commits, and at random moments.
//!
//! `NEXUS_KILLS` is how many times the last of these kills, `NEXUS_KILLS_SEED` plays one of its runs again.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::{collections::BTreeSet, time::Duration};

use jiff::Timestamp;
use nexus_model::{AttemptOutcome, IncidentState, Outcome, api::IncidentDetail};

use crate::support::{
    engine::{Engine, Fake, Temper},
    eventually,
    healer::{Healer, POLICY, firing, payload},
};

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

fn outcomes(detail: &IncidentDetail) -> Vec<Option<AttemptOutcome>> {
    detail.attempts.iter().map(|attempt| attempt.outcome).collect()
}

/// A healer that dies at a point, and the one after it: posts the alert until it is answered, as Alertmanager does.
async fn killed_at(fault: &str, engine: &Engine) -> IncidentDetail {
    let mut healer = Healer::new(engine);
    healer.start_with(&[("NEXUS_FAULT", fault)]).await;
    let body = payload(&[firing("shop", "web")]).to_string();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n",
        crate::support::healer::WEBHOOK_TOKEN,
        body.len()
    );
    // It may be dead before it is connected to.
    let answered = match tokio::net::TcpStream::connect(healer.address()).await {
        Ok(_) => healer.raw((head + &body).as_bytes()).await.starts_with("HTTP/1.1 200"),
        Err(_) => false,
    };
    healer.dies().await;
    healer.start().await;
    if !answered {
        healer.alert("shop", "web").await;
    }
    healer.incident("web", &format!("the end of the incident, killed at {fault}"), closed).await
}

#[tokio::test]
async fn an_alert_is_looked_into_though_its_answer_was_never_sent() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let mut healer = Healer::new(&engine);
    healer.start_with(&[("NEXUS_FAULT", "prompt-kept")]).await;
    healer.sees("web", "running", "unhealthy").await;
    let body = payload(&[firing("shop", "web")]).to_string();
    let head = format!(
        "POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {}\r\nContent-Length: {}\r\n\r\n",
        crate::support::healer::WEBHOOK_TOKEN,
        body.len()
    );
    assert_eq!(healer.raw((head + &body).as_bytes()).await, "", "killed before the answer");
    healer.dies().await;
    healer.start().await;
    // Nobody sends it again, and it is looked into all the same.
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Helped)]);
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn killed_between_the_intent_and_the_act_the_attempt_counts_and_docker_is_asked_once() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let detail = killed_at("intent-written", &engine).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Interrupted), Some(AttemptOutcome::Helped)]);
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn killed_between_the_restart_and_its_verification_it_is_judged_and_not_repeated() {
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web").ill());
    let detail = killed_at("docker-answered", &engine).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Helped)]);
    assert_eq!(engine.restarts("c1"), 1);
}

#[tokio::test]
async fn killed_while_the_container_is_stopped_and_not_yet_started_it_waits_for_docker() {
    let engine = Engine::start();
    engine.set("c1", Fake { stops_in: Duration::from_secs(3), ..Fake::service("shop", "web").ill() });
    let mut healer = Healer::started(&engine).await;
    healer.alert("shop", "web").await;
    eventually("the stop", async || (engine.restarts("c1") == 1).then_some(())).await;
    healer.kill();
    healer.start().await;
    let detail = healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(outcomes(&detail), [Some(AttemptOutcome::Helped)]);
    assert_eq!(engine.restarts("c1"), 1);
}

/// An ordinary incident has eight commits, and the first two of them all are made at the start.
#[tokio::test]
async fn killed_at_each_commit_nothing_is_lost_and_nothing_is_done_twice() {
    let killed = |fault: String| async move {
        let engine = Engine::start();
        engine.set("c1", Fake::service("shop", "web").ill());
        let detail = killed_at(&fault, &engine).await;
        assert_eq!(detail.incident.outcome, Some(Outcome::Recovered), "{fault}");
        // Of an intent that was committed nobody knows whether Docker has heard of it: it counts, and is waited for.
        let interrupted = outcomes(&detail).iter().filter(|it| **it == Some(AttemptOutcome::Interrupted)).count();
        assert_eq!(engine.restarts("c1"), detail.attempts.len() - interrupted, "{fault}: {:?}", detail.attempts);
        assert!(interrupted <= 1 && engine.restarts("c1") == 1, "{fault}");
    };
    let faults = (3..=8).flat_map(|count| [format!("commit-begun:{count}"), format!("commit-done:{count}")]);
    futures_util::future::join_all(faults.map(killed)).await;
}

/// SplitMix64: needs nothing but its seed.
fn dice(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

fn number_from(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{variable}={text} is no number")))
}

/// One healer after the other is killed after up to two seconds, while three services are healed that take restarts in ways
/// of their own.
async fn killed_again_and_again(seed: u64, kills: u64) {
    eprintln!("NEXUS_KILLS_SEED={seed}, {kills} kills");
    let mut state = seed;
    let engine = Engine::start();
    let names = ["mends", "slow", "mute"];
    let set = |service: &str, state: &mut u64| {
        let stops_in =
            Duration::from_millis(if service == "slow" { 200 + dice(state) % 1_500 } else { dice(state) % 100 });
        let temper = if service == "mute" { Temper::Mute } else { Temper::Mends };
        engine.set(service, Fake { temper, stops_in, ..Fake::service("shop", service).ill() });
    };
    for service in names {
        set(service, &mut state);
    }
    let mut healer = Healer::new(&engine);
    // Each falls ill again and again; none is to be given up.
    healer.policy(&POLICY.replace("attempts: 3", "attempts: 20"));
    healer.start().await;
    for _ in 0..kills {
        for service in names {
            let ill = engine.container(service).health == Some("unhealthy");
            if ill || dice(&mut state).is_multiple_of(3) {
                engine.change(service, |it| {
                    if it.status == "running" {
                        it.health = Some("unhealthy")
                    }
                });
                healer.alert("shop", service).await;
            }
        }
        tokio::time::sleep(Duration::from_millis(dice(&mut state) % 2_000)).await;
        healer.kill();
        healer.start().await;
    }
    // From now on Docker answers: a lost answer is waited for longer than this test may take.
    engine.change("mute", |it| it.temper = Temper::Mends);
    for service in names {
        healer.alert("shop", service).await;
    }
    // All is well in the end, and every incident over.
    let all = eventually("the end of all incidents", async || {
        let well = names.iter().all(|service| {
            let fake = engine.container(service);
            (fake.status, fake.health) == ("running", Some("healthy"))
        });
        let list = healer.incidents().await.incidents;
        (well && !list.is_empty() && list.iter().all(|it| it.state == IncidentState::Closed)).then_some(list)
    })
    .await;
    let mut attempts = Vec::new();
    for incident in all {
        let (_, body) = healer.api("GET", &format!("/api/v1/incidents/{}", incident.id), "").await;
        let detail: IncidentDetail = serde_json::from_str(&body).unwrap();
        assert!(detail.attempts.iter().all(|attempt| attempt.outcome.is_some()), "{detail:?}");
        let ids: BTreeSet<_> = detail.events.iter().map(|event| event.id).collect();
        assert_eq!(ids.len(), detail.events.len());
        attempts.extend(detail.attempts);
    }
    // Each restart that Docker was asked for has an intent of its own, written before it.
    let mut asked = engine.all_restarts();
    let mut intents: Vec<(String, Timestamp)> =
        attempts.iter().map(|attempt| (attempt.container_id.clone(), attempt.intended_at)).collect();
    asked.sort();
    intents.sort();
    let count = (asked.len(), intents.len());
    for (container, at) in asked.iter().rev() {
        let own = intents.iter().rposition(|(of, intended_at)| of == container && intended_at <= at);
        let own = own.unwrap_or_else(|| panic!("no intent of its own: {container} at {at}, seed {seed}"));
        intents.remove(own);
    }
    assert_eq!(engine.most_restarts_at_once(), 1, "seed {seed}");
    eprintln!("{} restarts, {} attempts", count.0, count.1);
    assert!(count.0 >= 3, "it met too little");
}

#[tokio::test]
async fn killed_at_random_moments_nothing_is_lost_and_nothing_is_done_twice() {
    let seed = number_from("NEXUS_KILLS_SEED").unwrap_or_else(|| u64::from(std::process::id()) << 20);
    killed_again_and_again(seed, number_from("NEXUS_KILLS").unwrap_or(3)).await;
}
