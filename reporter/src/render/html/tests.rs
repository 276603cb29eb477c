//! Every page with the worst names that there can be.

use nexus_model::{
    Attempt, AttemptOutcome, Cause, Confidence, Diagnosis, Evidence, EvidenceKind, Incident, IncidentEvent,
    IncidentState, Mode, Refusal,
    api::{ContainerView, IncidentDetail, ModeSource, ServiceView},
    control::{Budget, Obstacle, Pause, Plan, ServiceDetail, Step},
};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::report::{
    Question, judge,
    testing::{GIB, container, judged, now, well, worst},
};

/// What somebody could call a container, or write into a log.
const HOSTILE: &str = "\"><script>alert(1)</script><img src=x onerror=alert(1)>'&\u{202e}\u{1b}[2J javascript:alert(1)";

fn hostile_incident(state: IncidentState) -> Incident {
    Incident {
        id: Uuid::nil(),
        host: HOSTILE.into(),
        project: HOSTILE.into(),
        service: HOSTILE.into(),
        container_name: HOSTILE.into(),
        image: HOSTILE.into(),
        alert: HOSTILE.into(),
        problem: HOSTILE.into(),
        mode: Mode::Heal,
        state,
        outcome: None,
        refusal: Some(Refusal::DependencyDown),
        attempts: 2,
        failed_attempts: 1,
        opened_at: now(),
        last_alert_at: now(),
        closed_at: None,
        next_attempt_at: Some(now()),
        recorded_at: None,
        acknowledged_at: Some(now()),
        diagnosis: Some(Diagnosis {
            cause: Cause::ALL[0],
            confidence: Confidence::Likely,
            summary: HOSTILE.into(),
            because: vec![HOSTILE.into()],
            recommendation: HOSTILE.into(),
            at: now(),
        }),
        revision: 1,
    }
}

fn hostile_view() -> ServiceView {
    ServiceView {
        project: HOSTILE.into(),
        service: HOSTILE.into(),
        mode: Mode::Heal,
        mode_source: ModeSource::Label,
        refusal: None,
        containers: vec![ContainerView {
            name: HOSTILE.into(),
            image: HOSTILE.into(),
            state: HOSTILE.into(),
            health: HOSTILE.into(),
            started_at: Some(now()),
            restart_count: 3,
        }],
        incident: Some(IncidentState::Backoff),
        paused_until: None,
        today: Default::default(),
        stuck: Some(HOSTILE.into()),
    }
}

fn drawn() -> Drawn {
    let points = vec![(0, Some(0.5)), (600, None), (1200, Some(0.25))];
    let series = Series { name: HOSTILE.into(), unit: Unit::Ratio, points, top: Some(1.0), from: 0, to: 1200 };
    Ok(vec![series])
}

/// The pages, each with its name.
fn pages() -> Vec<(&'static str, String)> {
    let mut facts = well();
    facts.host = HOSTILE.into();
    facts.services = Some(vec![hostile_view()]);
    facts.incidents = Some(vec![hostile_incident(IncidentState::GaveUp)]);
    let mut ill = container(HOSTILE, HOSTILE);
    (ill.health, ill.memory_limit, ill.log_bytes) = ("unhealthy".into(), None, Some(3.0 * GIB));
    facts.containers = Some(vec![ill]);
    facts.exporter = Err(HOSTILE.into());
    facts.alerts = Ok(vec![crate::report::testing::alert(HOSTILE, "critical", true)]);
    let report = judge(&facts, &Question { since: now(), project: None }).unwrap();

    let incident = hostile_incident(IncidentState::Backoff);
    let detail = IncidentDetail {
        attempts: vec![Attempt {
            id: Uuid::nil(),
            incident_id: Uuid::nil(),
            number: 1,
            action: HOSTILE.into(),
            container_id: HOSTILE.into(),
            started_at_before: None,
            started_at_after: None,
            intended_at: now(),
            finished_at: Some(now()),
            outcome: Some(AttemptOutcome::DidNotHelp),
            detail: Some(HOSTILE.into()),
            revision: 1,
        }],
        evidence: EvidenceKind::ALL
            .into_iter()
            .map(|kind| Evidence {
                id: Uuid::nil(),
                incident_id: Uuid::nil(),
                attempt_id: Some(Uuid::nil()),
                kind,
                taken_at: now(),
                body: json!({HOSTILE: [HOSTILE, {"a": HOSTILE}], "n": 1}),
            })
            .collect(),
        events: vec![IncidentEvent {
            id: Uuid::nil(),
            incident_id: Uuid::nil(),
            at: now(),
            kind: HOSTILE.into(),
            detail: HOSTILE.into(),
        }],
        incident: incident.clone(),
    };
    let pause = Pause {
        project: Some(HOSTILE.into()),
        service: None,
        since: now(),
        until: now(),
        reason: Some(HOSTILE.into()),
    };
    let one = ServiceDetail {
        service: hostile_view(),
        incident: Some(incident.clone()),
        waits_for: vec![Obstacle {
            project: HOSTILE.into(),
            service: HOSTILE.into(),
            problem: HOSTILE.into(),
            reason: Refusal::DependencyDown,
        }],
        budgets: vec![Budget { container: HOSTILE.into(), spent: 1, of: 6 }],
        plan: Plan {
            project: HOSTILE.into(),
            service: HOSTILE.into(),
            step: Step::Wait,
            reason: None,
            until: None,
            container: None,
            text: HOSTILE.into(),
            incident: None,
        },
        pause: Some(pause),
        last: None,
        shadow: Default::default(),
    };
    vec![
        ("status", status(&report, &drawn(), &Err(HOSTILE.into()))),
        ("incidents", incidents(HOSTILE, std::slice::from_ref(&incident), false, Some(HOSTILE), now())),
        ("incident", super::incident(HOSTILE, &detail, None, now())),
        ("service", service(HOSTILE, &one, &drawn(), &[incident], now())),
        ("problem", problem(HOSTILE, "There is no such thing", HOSTILE)),
    ]
}

/// The values of an attribute.
fn values<'p>(page: &'p str, attribute: &str) -> Vec<&'p str> {
    let opening = format!(" {attribute}=\"");
    page.split(&opening).skip(1).map(|rest| &rest[..rest.find('"').unwrap()]).collect()
}

#[test]
fn nothing_that_others_wrote_is_markup() {
    for (name, page) in pages() {
        for forbidden in ["<script", "<img", "\u{202e}", "\u{1b}", " style=", "'&\u{fffd}"] {
            assert!(!page.contains(forbidden), "{name}: {forbidden:?} in {page}");
        }
        assert!(page.contains("&lt;script&gt;alert(1)&lt;/script&gt;"), "{name}: what they wrote is shown");
        for address in values(&page, "href").into_iter().chain(values(&page, "src")) {
            assert!(address.starts_with('/') || address == "#main", "{name}: a link leads to {address}");
            assert!(!address.contains(['<', '>', ' ', '\'']), "{name}: {address}");
        }
        // The attributes that there are, and no others: none of them can run anything.
        let tags = page.split('<').skip(1).filter(|tag| !tag.starts_with('/') && !tag.starts_with('!'));
        for tag in tags {
            // Every second piece between quotes is a value.
            let names: String = tag[..tag.find('>').unwrap()].split('"').step_by(2).collect();
            assert!(!names.contains(" on"), "{name}: {tag}");
        }
    }
}

#[test]
fn every_page_is_whole_for_readers_of_any_kind() {
    for (name, page) in pages() {
        assert!(page.starts_with("<!DOCTYPE html><html lang=\"en\">"), "{name}");
        for once in ["<h1>", "<title>", "<main id=\"main\">", "name=\"viewport\"", "<nav aria-label=\"Pages\">"] {
            assert_eq!(page.matches(once).count(), 1, "{name}: {once}");
        }
        assert_eq!(page.matches("<svg").count(), page.matches("role=\"img\" aria-label=\"").count(), "{name}");
        assert_eq!(page.matches("<th ").count(), page.matches(" scope=\"col\"").count(), "{name}");
        // Whatever was opened is closed again.
        for tag in [
            "div", "section", "table", "tr", "td", "ul", "ol", "li", "details", "dl", "pre", "span", "a", "svg", "path",
        ] {
            let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
            assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{name}: <{tag}>");
        }
    }
}

#[test]
fn the_verdict_and_its_reasons_come_first() {
    let (_, page) = pages().swap_remove(0);
    let (verdict, machine) = (page.find("<h1>You are needed</h1>").unwrap(), page.find("<h2>Machine</h2>").unwrap());
    assert!(verdict < page.find("gave up").unwrap() && page.find("gave up").unwrap() < machine);
    let report = judge(&well(), &Question { since: now(), project: None }).unwrap();
    let page = status(&report, &Ok(Vec::new()), &drawn());
    assert!(
        page.contains("<title>All is well – pi</title>") && page.contains("Nothing has been measured yet."),
        "{page}"
    );
}

#[test]
fn nothing_of_the_document_is_kept_from_the_page() {
    let of = |facts| status(&judged(&facts), &drawn(), &drawn());
    let page = of(worst("web"));
    for title in [
        "Held back",
        "Machine",
        "Services",
        "Open incidents",
        "Alerts",
        "What healing would have done",
        "About to go wrong",
        "Recommended",
        "Parts of Nexus",
        "Not known",
    ] {
        assert!(page.contains(&format!("<h2>{title}</h2>")), "{title} is missing:\n{page}");
    }
    for words in ["On hold until ", "Paused until ", "would have restarted web 3 times"] {
        assert!(page.contains(words), "{words:?} is missing:\n{page}");
    }
    let page = of(well());
    assert!(!page.contains("Held back") && !page.contains("would have done"), "{page}");
    // They are the words of others, as everything else.
    let page = of(worst(HOSTILE));
    assert!(!page.contains("<script") && page.matches("&lt;script&gt;").count() > 3, "{page}");
}

#[test]
fn the_style_loads_nothing() {
    for forbidden in ["url(", "@import", "http"] {
        assert!(!STYLE.contains(forbidden), "{forbidden}");
    }
}
