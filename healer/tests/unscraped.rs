//! The running healer and a Prometheus that does not come any more.

use jiff::SignedDuration;
use nexus_healer::clock::Clock;
use nexus_model::Now;

use crate::support::{
    engine::Engine,
    eventually,
    healer::{Alertmanager, Healer},
};

async fn scraped_by(healer: &Healer, agent: &str) {
    let request = format!("GET /metrics HTTP/1.1\r\nHost: x\r\nUser-Agent: {agent}\r\nConnection: close\r\n\r\n");
    assert!(healer.raw(request.as_bytes()).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn that_prometheus_is_away_is_told_over_a_restart_of_the_healer_until_it_comes_again() {
    let engine = Engine::start();
    let alertmanager = Alertmanager::start().await;
    let mut healer = Healer::new(&engine);
    healer.tells(&alertmanager);
    healer.start().await;
    scraped_by(&healer, "Prometheus/2.53.3").await;
    healer.kill();
    // As a healer leaves it that has missed Prometheus for ten minutes. Who has only just booted has a boot clock that is younger.
    let now = Clock::new().now();
    let last = Now { boottime: now.boottime - SignedDuration::from_mins(10), ..now };
    let journal = rusqlite::Connection::open(&healer.journal).unwrap();
    let note = serde_json::to_string(&last).unwrap();
    journal.execute("INSERT INTO memos (name, body) VALUES ('unscraped', ?)", [note]).unwrap();
    drop(journal);

    healer.start().await;
    let told = eventually("the message", async || alertmanager.told("PrometheusDown").pop()).await;
    assert_eq!(told["labels"]["severity"], "critical", "{told}");
    // Others come for the metrics as well.
    scraped_by(&healer, "curl/8.14.1").await;
    let is_shown = async || healer.metric("nexus_healer_alerts{alertname=\"PrometheusDown\"").await;
    assert_eq!(is_shown().await, Some(1.0));
    scraped_by(&healer, "Prometheus/2.53.3").await;
    // The next thing that happens makes it look; without any it does so every half a minute.
    engine.set("c1", crate::support::engine::Fake::service("shop", "web"));
    eventually("the end of the message", async || {
        let last = alertmanager.told("PrometheusDown").pop()?;
        let ends_at: jiff::Timestamp = last["endsAt"].as_str()?.parse().ok()?;
        (ends_at <= jiff::Timestamp::now()).then_some(())
    })
    .await;
    healer.kill();
    let journal = rusqlite::Connection::open(&healer.journal).unwrap();
    let noted: i64 =
        journal.query_row("SELECT count(*) FROM memos WHERE name = 'unscraped'", [], |row| row.get(0)).unwrap();
    assert_eq!(noted, 0);
}
