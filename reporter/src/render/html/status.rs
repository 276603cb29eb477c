//! The first page: how everything is.

use maud::{Markup, html};
use nexus_model::plain::plain;

use super::{Drawn, Place, charts, date, layout, moment, service_link};
use crate::{
    render::text::{by_themselves, state, trend_words, value},
    report::{
        FilesystemReport, Healed, IncidentReport, Recommendation, Report, ServiceReport, Verdict, VitalReport,
        format::{bytes, count, percent},
        recommend::is_of_docker,
    },
};

/// What is written where a part that knows does not answer.
const UNKNOWN: &str = "Unknown: the part that knows does not answer.";

/// `day` and `week` are the charts of these times.
pub fn status(report: &Report, day: &Drawn, week: &Drawn) -> String {
    let body = html! {
        (verdict(report))
        (held_back(report))
        h2 { "Machine" }
        (charts(day, "the last 24 hours"))
        (vitals(&report.vitals, &report.filesystems))
        details { summary { "The last 7 days" } (charts(week, "the last 7 days")) }
        h2 { "Services" }
        @match &report.services {
            None => p class="soft" { (UNKNOWN) },
            Some(all) if all.is_empty() => p { "No Docker Compose project runs here yet." },
            Some(all) => (services(all)),
        }
        h2 { "Open incidents" }
        @match &report.incidents {
            None => p class="soft" { (UNKNOWN) },
            Some(all) if all.is_empty() => p { "None." },
            Some(all) => (incidents(all, report)),
        }
        (alerts(report))
        @if let Some(healed) = &report.healed { (healed_since(healed, report)) }
        (watched_only(report))
        @if !report.forecasts.is_empty() {
            h2 { "About to go wrong" }
            ul class="plain" {
                @for forecast in &report.forecasts {
                    li class="card" {
                        h3 { (plain(&forecast.about)) @if let Some(at) = forecast.at { ", " (date(at)) } }
                        (plain(&forecast.text))
                    }
                }
            }
        }
        @if !report.recommendations.is_empty() {
            h2 { "Recommended" }
            @for recommendation in &report.recommendations { (recommended(recommendation)) }
        }
        (parts(report))
        p class="soft" { "As of " (date(report.at)) ". Load the page again for a newer one." }
    };
    let title = match report.verdict {
        Verdict::Healthy => "All is well",
        Verdict::Degraded => "Not all is well",
        Verdict::Critical => "You are needed",
    };
    layout(title, &report.host, Place::Status, &body)
}

fn verdict(report: &Report) -> Markup {
    let (class, words) = match report.verdict {
        Verdict::Healthy => ("card verdict healthy", "✓ All is well"),
        Verdict::Degraded => ("card verdict degraded", "Not all is well"),
        Verdict::Critical => ("card verdict critical", "You are needed"),
    };
    html! {
        div class=(class) {
            h1 { (words) }
            @if report.reasons.is_empty() {
                p { "Every part of Nexus answers, and no service is ill." }
            } @else {
                ul {
                    @for reason in &report.reasons {
                        li {
                            @if reason.verdict == Verdict::Critical { span class="bad" { "Critical: " } }
                            (plain(&reason.about)) ": " (plain(&reason.text))
                        }
                    }
                }
            }
        }
    }
}

/// Why nothing is restarted just now, where somebody wants it so or many fell ill together.
fn held_back(report: &Report) -> Markup {
    html! {
        @if report.hold.is_some() || !report.pauses.is_empty() {
            h2 { "Held back" }
            ul class="plain" {
                @if let Some(hold) = &report.hold {
                    li class="card" { "On hold until " (date(hold.until)) " at the latest: " (plain(&hold.reason)) }
                }
                @for pause in &report.pauses {
                    li class="card" {
                        "Paused until " (date(pause.until)) ": " (plain(&pause.target))
                        @if let Some(reason) = &pause.reason { " – " (plain(reason)) }
                    }
                }
            }
        }
    }
}

/// Not there while the healer can't say: its other sections tell that already.
fn watched_only(report: &Report) -> Markup {
    html! {
        @if let Some(all) = report.shadow.as_deref().filter(|all| !all.is_empty()) {
            h2 { "What healing would have done" }
            ul class="plain" {
                @for it in all {
                    li class="card" { (service_link(&it.project, &it.service)) ": " (plain(&it.sentence)) }
                }
            }
        }
    }
}

fn vitals(vitals: &[VitalReport], filesystems: &[FilesystemReport]) -> Markup {
    if vitals.is_empty() && filesystems.is_empty() {
        return html! { p class="soft" { (UNKNOWN) } };
    }
    let usual_known = vitals.iter().any(|vital| vital.usual.is_some());
    html! {
        div class="card" {
            table class="stack pairs" {
                thead { tr { th scope="col" { "What" } th scope="col" { "Now" } @if usual_known { th scope="col" { "Usual for this hour" } } } }
                tbody {
                    @for vital in vitals {
                        tr {
                            td { strong { (vital.name.words()) } }
                            td { (value(vital)) }
                            @match (vital.usual, vital.trend) {
                                (Some(usual), Some(trend)) => td data-name="usual" {
                                    (crate::render::text::amount(usual.median, vital.unit)) ", " (trend_words(trend))
                                },
                                _ if usual_known => td {},
                                _ => {},
                            }
                        }
                    }
                    @for disk in filesystems {
                        tr {
                            td { strong { "disk " (plain(&disk.mountpoint)) } }
                            td {
                                (percent(disk.used_ratio)) ", " (bytes(disk.available_bytes)) " free"
                                @if disk.read_only { " " span class="bad" { "read-only" } }
                            }
                            @if usual_known { td {} }
                        }
                    }
                }
            }
        }
    }
}

fn services(all: &[ServiceReport]) -> Markup {
    let mut projects: Vec<&str> = all.iter().map(|service| service.project.as_str()).collect();
    projects.sort_unstable();
    projects.dedup();
    html! {
        @for project in projects {
            section class="card" {
                h3 { (plain(project)) }
                table class="stack" {
                    thead {
                        tr {
                            th scope="col" { "Service" } th scope="col" { "State" } th scope="col" { "Healing" }
                            th scope="col" class="number" { "CPU" } th scope="col" class="number" { "Memory" }
                        }
                    }
                    tbody { @for service in all.iter().filter(|it| it.project == project) { (service_row(service)) } }
                }
            }
        }
    }
}

fn service_row(service: &ServiceReport) -> Markup {
    let is_well = service.state == "running" && matches!(service.health.as_str(), "healthy" | "none");
    let health = if service.health == "none" { String::new() } else { format!(", {}", service.health) };
    html! {
        tr {
            td { (service_link(&service.project, &service.service)) }
            td data-name="state" {
                span class=(if is_well { "good" } else { "bad" }) { (plain(&format!("{}{health}", service.state))) }
                @if let Some(incident) = &service.incident { ", " (plain(&incident.replace('_', " "))) }
            }
            td data-name="healing" {
                (service.mode.as_deref().unwrap_or("unknown"))
                @if let Some(note) = &service.note { span class="soft" { " – " (plain(note)) } }
            }
            td class="number" data-name="CPU" { @if let Some(cpu) = service.cpu { (format!("{cpu:.2}")) } @else { "–" } }
            td class="number" data-name="memory" {
                @match (service.memory_bytes, service.memory_limit_bytes) {
                    (Some(used), Some(limit)) if limit > 0.0 => { (bytes(used)) " of " (bytes(limit * f64::from(service.containers.max(1)))) },
                    (Some(used), _) => (bytes(used)),
                    _ => "–",
                }
            }
        }
    }
}

fn incidents(all: &[IncidentReport], report: &Report) -> Markup {
    html! {
        ul class="plain" {
            @for incident in all {
                li class="card" {
                    h3 {
                        a href=(format!("/incidents/{}", crate::sources::http::segment(&incident.id))) {
                            (plain(&format!("{}/{}", incident.project, incident.service)))
                        }
                        ": " (plain(&incident.problem))
                    }
                    (plain(&state(incident))) ", " (moment(incident.opened_at, report.at)) ", "
                    (count(incident.attempts, "attempt"))
                    @if let Some(cause) = &incident.cause { p { strong { "Cause: " } (plain(cause)) } }
                    @if let Some(waits) = &incident.waits { p { strong { "Nothing is done just now: " } (plain(waits)) } }
                }
            }
        }
    }
}

fn alerts(report: &Report) -> Markup {
    html! {
        @match &report.alerts {
            None => { h2 { "Alerts" } p class="soft" { (UNKNOWN) } },
            Some(all) if all.is_empty() => {},
            Some(all) => {
                h2 { "Alerts" }
                ul class="plain" {
                    @for alert in all {
                        li class="card" {
                            span class=(if alert.severity == "critical" { "bad" } else { "warn" }) { (plain(&alert.severity)) } " "
                            strong { (plain(&alert.name)) }
                            @if !alert.project.is_empty() { " of " (plain(&format!("{}/{}", alert.project, alert.service))) }
                            @if alert.silenced { " (silenced)" }
                            ", " (moment(alert.since, report.at)) br; (plain(&alert.summary))
                        }
                    }
                }
            }
        }
    }
}

fn healed_since(healed: &Healed, report: &Report) -> Markup {
    html! {
        h2 { "Healed since " (date(healed.since)) }
        @if healed.incidents.is_empty() { p { "Nothing had to be healed." } }
        ul class="plain" {
            @for incident in &healed.incidents {
                li {
                    a href=(format!("/incidents/{}", crate::sources::http::segment(&incident.id))) {
                        (plain(&format!("{}/{}", incident.project, incident.service)))
                    }
                    ": " (plain(&incident.problem)) ", " (moment(incident.opened_at, report.at))
                }
            }
        }
        @if healed.by_themselves > 0 { p { (by_themselves(healed.by_themselves)) "." } }
        @if !healed.complete { p class="soft" { "There were more than are listed." } }
    }
}

fn recommended(recommendation: &Recommendation) -> Markup {
    html! {
        details class="card" {
            summary {
                strong { (plain(&recommendation.title)) }
                @if let Some(project) = &recommendation.project {
                    span class="soft" {
                        " – " (plain(project)) @if let Some(service) = &recommendation.service { "/" (plain(service)) }
                    }
                }
            }
            p { strong { "Gain: " } (plain(&recommendation.gain)) }
            ul { @for seen in &recommendation.evidence { li { (plain(seen)) } } }
            @if let Some(check) = &recommendation.check {
                p { "See to first:" }
                pre tabindex="0" { (nexus_model::plain::plain_lines(check)) }
            }
            @if let Some(compose) = &recommendation.compose {
                p { "In " code { "compose.override.yml" } " of the project:" }
                pre tabindex="0" { (nexus_model::plain::plain_lines(compose)) }
            }
            @if !recommendation.commands.is_empty() {
                p { "Then:" }
                pre tabindex="0" { @for command in &recommendation.commands { (plain(command)) "\n" } }
            }
            @if recommendation.check.iter().chain(&recommendation.commands).any(|command| is_of_docker(command)) {
                p class="soft" { "docker with sudo, if your user is not in the group docker." }
            }
        }
    }
}

fn parts(report: &Report) -> Markup {
    html! {
        h2 { "Parts of Nexus" }
        ul class="plain" {
            @for part in &report.parts {
                li {
                    @if part.up { span class="good" { "up" } } @else { span class="bad" { "down" } }
                    " " (plain(&part.name))
                    @if let Some(reason) = &part.reason { span class="soft" { ": " (plain(reason)) } }
                }
            }
        }
        @if !report.missing.is_empty() {
            h2 { "Not known" }
            ul { @for it in &report.missing { li { (plain(&it.what)) " (" (plain(&it.because)) ")" } } }
        }
    }
}
