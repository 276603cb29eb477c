//! The running healer against a fake engine: what it would have done for services that are only watched, and whether that would
//! have helped.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

use nexus_model::{
    IncidentState, Outcome, Refusal,
    api::IncidentDetail,
    control::ServiceDetail,
    shadow::{ShadowRecord, ShadowReport},
};

use crate::support::{
    engine::{Engine, Fake, Temper},
    healer::{Healer, READ_TOKEN},
};

fn watched(service: &str) -> Fake {
    Fake::service("shop", service).label("nexus.heal", "shadow")
}

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.state == IncidentState::Closed
}

fn told(detail: &IncidentDetail, kind: &str) -> usize {
    detail.events.iter().filter(|event| event.kind == kind).count()
}

async fn record(healer: &Healer, query: &str) -> ShadowReport {
    let (status, body) = healer.request("GET", &format!("/api/v1/shadow{query}"), Some(READ_TOKEN), "").await;
    assert_eq!(status, 200, "{body}");
    serde_json::from_str(&body).unwrap()
}

/// (incidents, would be, helped, not helped, not known, well before)
fn counts(record: &ShadowRecord) -> [u32; 6] {
    let ShadowRecord { incidents, would_be_restarts, would_have_helped, .. } = *record;
    [
        incidents,
        would_be_restarts,
        would_have_helped,
        record.would_not_have_helped,
        record.not_known,
        record.well_before,
    ]
}

/// It falls ill, and the healer writes down that it would have restarted it.
async fn falls_ill(engine: &Engine, healer: &Healer, service: &str) -> IncidentDetail {
    engine.change(service, |it| it.health = Some("unhealthy"));
    healer.sees(service, "running", "unhealthy").await;
    healer.alert("shop", service).await;
    healer.incident(service, "a would-be restart", |it| !closed(it) && told(it, "would_restart") > 0).await
}

#[tokio::test]
async fn three_restarts_by_a_person_that_helped_are_three_of_three() {
    let engine = Engine::start();
    engine.set("web", watched("web"));
    engine.set("db", watched("db"));
    let mut healer = Healer::started(&engine).await;
    assert_eq!(record(&healer, "").await.services, []);
    for _ in 0..3 {
        let open = falls_ill(&engine, &healer, "web").await.incident.id;
        engine.restart_by_a_person("web").await;
        let detail = healer.incident("web", "its end", |it| it.incident.id == open && closed(it)).await;
        assert_eq!(detail.incident.outcome, Some(Outcome::RecoveredByItself));
        let kinds: Vec<&str> = detail.events.iter().map(|event| event.kind.as_str()).collect();
        assert_eq!(kinds[kinds.len() - 2..], ["would_have_helped", "closed"], "{kinds:?}");
        assert_eq!(told(&detail, "restarted_elsewhere"), 1, "{kinds:?}");
    }
    assert_eq!(engine.all_restarts(), [], "only watched");
    let sentence = "would have restarted shop/web 3 times this week, 3 would have helped";
    let check = async |healer: &Healer| {
        let report = record(healer, "").await;
        assert_eq!((report.services.len(), report.truncated), (1, false));
        let web = &report.services[0];
        assert_eq!((counts(web), web.sentence.as_str()), ([3, 3, 3, 0, 0, 0], sentence));
        let (_, body) = healer.api("GET", "/api/v1/services/shop/web", "").await;
        let why: ServiceDetail = serde_json::from_str(&body).unwrap();
        assert_eq!(why.shadow.as_ref(), Some(web));
    };
    check(&healer).await;
    assert_eq!(record(&healer, "?project=shop&service=db").await.services, []);
    assert_eq!(record(&healer, "?since=90d&project=shop").await.services[0].would_have_helped, 3);

    // It is on the disk, and so is what it would have cost: the budget of three would be spent.
    healer.kill();
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    check(&healer).await;
    engine.change("web", |it| it.health = Some("unhealthy"));
    healer.sees("web", "running", "unhealthy").await;
    healer.alert("shop", "web").await;
    let waits = |it: &IncidentDetail| !closed(it) && it.incident.refusal == Some(Refusal::ShadowMode);
    let detail = healer.incident("web", "the budget spent", waits).await;
    assert_eq!(told(&detail, "would_restart"), 0, "{:?}", detail.events);
}

#[tokio::test]
async fn a_restart_that_did_not_help_and_none_at_all_are_counted_apart() {
    let engine = Engine::start();
    engine.set("web", Fake { temper: Temper::StaysIll, ..watched("web") });
    engine.set("db", watched("db"));
    let healer = Healer::started(&engine).await;
    falls_ill(&engine, &healer, "web").await;
    engine.restart_by_a_person("web").await;
    healer.incident("web", "the verdict", |it| told(it, "would_not_have_helped") == 1).await;
    // Another one after the verdict is not known of: it becomes well without a restart.
    engine.change("web", |it| it.health = Some("healthy"));
    healer.incident("web", "its end", closed).await;

    falls_ill(&engine, &healer, "db").await;
    engine.change("db", |it| it.health = Some("healthy"));
    healer.incident("db", "its end", closed).await;

    let report = record(&healer, "?since=1h").await;
    let (db, web) = (&report.services[0], &report.services[1]);
    let [incidents, would_be, helped, not, not_known, _] = counts(web);
    assert!(not >= 1 && would_be == not + not_known, "{web:?}");
    assert_eq!((incidents, helped), (1, 0));
    assert!(web.sentence.ends_with("would not have helped") || not_known > 0, "{web:?}");
    let [incidents, would_be, helped, not, not_known, _] = counts(db);
    assert_eq!((incidents, helped, not), (1, 0, 0));
    assert!(would_be >= 1 && would_be == not_known, "{db:?}");
    assert!(db.sentence.ends_with("in the last 60 minutes, whether that would have helped is not known"), "{db:?}");
    assert_eq!(engine.all_restarts(), []);
}

#[tokio::test]
async fn the_record_is_for_who_may_read_and_says_what_is_right() {
    let engine = Engine::start();
    let healer = Healer::started(&engine).await;
    assert_eq!(healer.request("GET", "/api/v1/shadow", None, "").await.0, 401);
    for (query, says) in [
        ("?since=yesterday", "is neither"),
        ("?since=91d", "within the last 90 days"),
        ("?since=2999-01-01T00:00:00Z", "within the last 90 days"),
        ("?service=web", "a service needs its project"),
        ("?all=1", "all"),
    ] {
        let (status, body) = healer.api("GET", &format!("/api/v1/shadow{query}"), "").await;
        assert!(status == 400 && body.contains(says), "{query}: {status} {body}");
    }
}
