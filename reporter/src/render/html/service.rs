//! One service: how it is, why, what it uses, and what has happened to it.

use jiff::Timestamp;
use maud::{Markup, html};
use nexus_model::{Incident, IncidentState, Refusal, api::ModeSource, control::ServiceDetail, plain::plain};

use crate::report::format::count;

use super::{Drawn, Place, charts, date, incident::list, layout, moment, service_link};

/// `last` are its newest incidents.
pub fn service(host: &str, detail: &ServiceDetail, drawn: &Drawn, last: &[Incident], now: Timestamp) -> String {
    let view = &detail.service;
    let name = plain(&format!("{}/{}", view.project, view.service));
    let body = html! {
        (verdict(detail, &name))
        div class="card" { (facts(detail, now)) }
        h2 { "Use" }
        (charts(drawn, "the last 24 hours"))
        h2 { "Incidents" }
        @if last.is_empty() { p { "None so far." } } @else { (list(last, now)) }
        h2 { "On a terminal" }
        @let word = shell_word(&name);
        pre tabindex="0" { "./nexus why " (word) " --logs\n./nexus heal now " (word) "\n./nexus pause " (word) " --for 1h" }
    };
    layout(&name, host, Place::Elsewhere, &body)
}

/// A name that a shell takes for one word, whatever stands in it: it may be pasted.
fn shell_word(name: &str) -> String {
    let is_plain = name.chars().all(|c| c.is_ascii_alphanumeric() || "._/-".contains(c));
    if is_plain { name.to_owned() } else { format!("'{}'", name.replace('\'', "'\\''")) }
}

fn verdict(detail: &ServiceDetail, name: &str) -> Markup {
    let (class, words) = match (&detail.incident, detail.plan.reason) {
        (Some(incident), _) if incident.state == IncidentState::GaveUp => {
            ("critical", "given up: you are needed".to_owned())
        }
        (Some(incident), _) => ("degraded", incident.state.to_string().replace('_', " ")),
        (None, Some(Refusal::AlreadyWell)) => ("healthy", "well".to_owned()),
        (None, Some(why)) => (if is_as_meant(detail, why) { "healthy" } else { "degraded" }, why.words().to_owned()),
        (None, None) => ("degraded", "ill, and no incident is open yet".to_owned()),
    };
    html! {
        div class=(format!("card verdict {class}")) {
            h1 { (name) ": " (words) }
            @for obstacle in &detail.waits_for {
                p { "It needs " (service_link(&obstacle.project, &obstacle.service)) ", which is not well: " (plain(&obstacle.problem)) }
            }
        }
    }
}

/// Whether nothing is done about it because nothing is wrong: it runs, or nobody wants it to.
fn is_as_meant(detail: &ServiceDetail, why: Refusal) -> bool {
    let containers = &detail.service.containers;
    let runs = !containers.is_empty() && containers.iter().all(|it| it.state == "running" && it.health != "unhealthy");
    match why {
        Refusal::StoppedByHuman | Refusal::NotExpectedToRun | Refusal::OneOff => true,
        Refusal::DockerUnavailable => false,
        _ => runs,
    }
}

fn facts(detail: &ServiceDetail, now: Timestamp) -> Markup {
    let view = &detail.service;
    html! {
        dl class="facts" {
            @for container in &view.containers {
                dt { "Container" }
                dd {
                    (plain(&container.name)) ": " (plain(&container.state)) ", health " (plain(&container.health))
                    @if let Some(at) = container.started_at { ", started " (moment(at, now)) }
                    br; span class="soft" { (plain(&container.image)) }
                }
            }
            dt { "Healing" } dd { (view.mode) ", said by " (source(view.mode_source)) }
            @if let Some(refusal) = view.refusal { dt { "Note" } dd { (refusal.words()) } }
            @if let Some(incident) = &detail.incident {
                dt { "Incident" }
                dd { a href=(format!("/incidents/{}", incident.id)) { (plain(&incident.problem)) } ", " (moment(incident.opened_at, now)) }
            }
            @for budget in detail.budgets.iter().filter(|budget| budget.spent > 0) {
                dt { "Budget" } dd { (plain(&budget.container)) ": " (budget.spent) " of " (count(budget.of, "restart")) " spent" }
            }
            @if let Some(pause) = &detail.pause {
                dt { "Paused" }
                dd { "until " (date(pause.until)) @if let Some(reason) = &pause.reason { ": " (plain(reason)) } }
            }
            dt { "Next" } dd { (plain(&detail.plan.text)) }
        }
    }
}

fn source(source: ModeSource) -> &'static str {
    match source {
        ModeSource::ServiceSwitch => "the switch of the service",
        ModeSource::Label => "the label nexus.heal",
        ModeSource::ProjectSwitch => "the switch of the project",
        ModeSource::PolicyService => "healer.yml, of the service",
        ModeSource::PolicyProject => "healer.yml, of the project",
        ModeSource::PolicyDefault => "healer.yml, the default",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_stays_one_word() {
        assert_eq!(shell_word("photos/web_1.x"), "photos/web_1.x");
        assert_eq!(shell_word("a; rm -rf $HOME"), "'a; rm -rf $HOME'");
        assert_eq!(shell_word("a'b`c"), r"'a'\''b`c'");
    }
}
