//! The list of incidents, and one of them with its whole story.

use jiff::{SignedDuration, Timestamp};
use maud::{Markup, html};
use nexus_model::{
    Attempt, Confidence, Evidence, EvidenceKind, Incident, IncidentState, Outcome,
    api::IncidentDetail,
    plain::{plain, plain_lines},
};
use serde_json::Value;

use super::{Place, date, layout, moment, service_link};
use crate::render::terminal::{clock, duration};

/// Of one piece of evidence, in characters: a page is for reading; all of it is in the API.
const EVIDENCE_LIMIT: usize = 20_000;

/// The list, newest first. `complete` says whether there were no more.
pub fn incidents(host: &str, all: &[Incident], complete: bool, note: Option<&str>, now: Timestamp) -> String {
    let body = html! {
        h1 { "Incidents" }
        (noted(note))
        @if all.is_empty() { p { "None so far." } } @else { (list(all, now)) }
        @if !complete { p class="soft" { "Only the newest are listed; " code { "./nexus incidents" } " knows more." } }
    };
    layout("Incidents", host, Place::Incidents, &body)
}

/// That it is the copy.
fn noted(note: Option<&str>) -> Markup {
    html! { @if let Some(note) = note { p role="status" { (plain(note)) "." } } }
}

/// A table of incidents.
pub(super) fn list(all: &[Incident], now: Timestamp) -> Markup {
    html! {
        div class="card" {
            table class="stack" {
                thead {
                    tr {
                        th scope="col" { "Opened" } th scope="col" { "Service" } th scope="col" { "Problem" }
                        th scope="col" { "State" } th scope="col" class="number" { "Attempts" } th scope="col" { "Lasted" }
                    }
                }
                tbody {
                    @for incident in all {
                        tr {
                            td data-name="opened" { a href=(format!("/incidents/{}", incident.id)) { (moment(incident.opened_at, now)) } }
                            td { (service_link(&incident.project, &incident.service)) }
                            td data-name="problem" { (plain(&incident.problem)) }
                            td data-name="state" { (state(incident)) }
                            td class="number" data-name="attempts" { (incident.attempts) }
                            td data-name="lasted" { (lasted(incident, now)) }
                        }
                    }
                }
            }
        }
    }
}

fn lasted(incident: &Incident, now: Timestamp) -> String {
    duration(incident.closed_at.unwrap_or(now).duration_since(incident.opened_at))
}

fn state(incident: &Incident) -> Markup {
    let (class, words) = match (incident.state, incident.outcome) {
        (IncidentState::Closed, Some(Outcome::Recovered)) => ("good", "recovered".to_owned()),
        (IncidentState::Closed, Some(outcome)) => ("soft", outcome.to_string().replace('_', " ")),
        (IncidentState::GaveUp, _) => ("bad", "gave up".to_owned()),
        (state, _) => ("warn", state.to_string().replace('_', " ")),
    };
    html! { span class=(class) { (words) } }
}

/// One incident.
pub fn incident(host: &str, detail: &IncidentDetail, note: Option<&str>, now: Timestamp) -> String {
    let incident = &detail.incident;
    let name = plain(&format!("{}/{}", incident.project, incident.service));
    let body = html! {
        h1 { (name) ": " (plain(&incident.problem)) }
        (noted(note))
        div class="card" { (facts(incident, now)) }
        @if let Some(diagnosis) = &incident.diagnosis {
            h2 { "Cause" }
            div class="card" {
                @match diagnosis.confidence {
                    Confidence::None => p { strong { "Unknown. " } (plain(&diagnosis.summary)) },
                    confidence => p {
                        strong { (plain(&diagnosis.cause.to_string().replace('_', " "))) " (" (confidence) "): " }
                        (plain(&diagnosis.summary))
                    },
                }
                @if !diagnosis.because.is_empty() { ul { @for fact in &diagnosis.because { li { (plain(fact)) } } } }
                @if !diagnosis.recommendation.is_empty() { p { strong { "To do: " } (plain(&diagnosis.recommendation)) } }
            }
        }
        h2 { "What happened" }
        (events(detail))
        h2 { "Attempts" }
        (attempts(&detail.attempts))
        h2 { "Evidence" }
        @if detail.evidence.is_empty() { p { "None was taken." } }
        @for evidence in &detail.evidence { (piece(evidence, &detail.attempts)) }
    };
    layout(&format!("Incident of {name}"), host, Place::Incidents, &body)
}

fn facts(incident: &Incident, now: Timestamp) -> Markup {
    html! {
        dl class="facts" {
            dt { "Service" } dd { (service_link(&incident.project, &incident.service)) }
            dt { "State" } dd { (state(incident)) }
            dt { "Mode" } dd { (incident.mode) }
            @if !incident.container_name.is_empty() {
                dt { "Container" } dd { (plain(&incident.container_name)) " (" (plain(&incident.image)) ")" }
            }
            dt { "Opened" } dd { (date(incident.opened_at)) " (" (moment(incident.opened_at, now)) ")" }
            @if let Some(closed) = incident.closed_at { dt { "Closed" } dd { (date(closed)) " after " (lasted(incident, now)) } }
            @if let Some(at) = incident.acknowledged_at { dt { "Acknowledged" } dd { (date(at)) } }
            @if let Some(due) = incident.next_attempt_at { dt { "Next attempt" } dd { (date(due)) } }
            @if let Some(refusal) = incident.refusal { dt { "Not acting" } dd { (refusal.words()) } }
            dt { "Id" } dd { code { (incident.id) } }
        }
    }
}

fn events(detail: &IncidentDetail) -> Markup {
    let opened = detail.incident.opened_at;
    html! {
        div class="card" {
            table class="stack" {
                thead { tr { th scope="col" { "At" } th scope="col" class="number" { "After" } th scope="col" { "What" } } }
                tbody {
                    @for event in &detail.events {
                        tr {
                            td { time datetime=(event.at) { (clock(event.at)) } }
                            td class="number" data-name="after" {
                                (after(event.at.duration_since(opened)))
                            }
                            td { strong { (plain(&event.kind.replace('_', " "))) } " " (plain(&event.detail)) }
                        }
                    }
                }
            }
        }
    }
}

/// To a tenth of a second where that matters.
fn after(passed: SignedDuration) -> String {
    match passed.as_secs() {
        ..120 => format!("{:.1} s", passed.as_millis() as f64 / 1000.0),
        _ => duration(passed),
    }
}

fn attempts(all: &[Attempt]) -> Markup {
    if all.is_empty() {
        return html! { p { "None was made." } };
    }
    html! {
        ol class="plain" {
            @for attempt in all {
                li class="card" {
                    h3 {
                        (attempt.number) ". " (plain(&attempt.action)) ", "
                        @match attempt.outcome {
                            None => span class="warn" { "under way" },
                            Some(nexus_model::AttemptOutcome::Helped) => span class="good" { "helped" },
                            Some(outcome) => span class="bad" { (outcome.to_string().replace('_', " ")) },
                        }
                    }
                    (date(attempt.intended_at))
                    @if let Some(finished) = attempt.finished_at {
                        ", took " (after(finished.duration_since(attempt.intended_at)))
                    }
                    @if let Some(detail) = &attempt.detail { p { (plain(detail)) } }
                }
            }
        }
    }
}

fn piece(evidence: &Evidence, attempts: &[Attempt]) -> Markup {
    let title = match evidence.kind {
        EvidenceKind::Inspect => "What Docker said",
        EvidenceKind::HealthLog => "Health checks",
        EvidenceKind::Logs => "Last lines of the log",
        EvidenceKind::HostVitals => "The machine",
        EvidenceKind::ContainerVitals => "The container and what it needs",
    };
    let attempt = evidence.attempt_id.and_then(|id| attempts.iter().find(|attempt| attempt.id == id));
    // The log tells the most.
    let open = evidence.kind == EvidenceKind::Logs;
    html! {
        details class="card" open[open] {
            summary {
                strong { (title) }
                @if let Some(attempt) = attempt { " before attempt " (attempt.number) }
                ", " (clock(evidence.taken_at))
            }
            pre tabindex="0" { (text(&evidence.body)) }
        }
    }
}

/// JSON as indented lines for people, without its signs.
fn text(body: &Value) -> String {
    fn write(value: &Value, depth: usize, out: &mut String) {
        let pad = "  ".repeat(depth);
        match value {
            Value::Object(fields) => {
                for (name, value) in fields {
                    if value.is_object() || value.is_array() {
                        out.push_str(&format!("{pad}{}:\n", plain(name)));
                        write(value, depth + 1, out);
                    } else {
                        out.push_str(&format!("{pad}{}: {}\n", plain(name), scalar(value)));
                    }
                }
            }
            Value::Array(items) => {
                for (number, item) in items.iter().enumerate() {
                    // Records follow each other with a line between them.
                    if item.is_object() && number > 0 {
                        out.push('\n');
                    }
                    write(item, depth, out);
                }
            }
            other => out.push_str(&format!("{pad}{}\n", scalar(other))),
        }
    }
    fn scalar(value: &Value) -> String {
        match value {
            Value::String(text) => plain_lines(text),
            other => other.to_string(),
        }
    }
    let mut out = String::new();
    write(body, 0, &mut out);
    if out.chars().count() > EVIDENCE_LIMIT {
        out = out.chars().take(EVIDENCE_LIMIT).collect();
        out.push_str("… (the whole of it: ./nexus incidents)");
    }
    out
}
