//! The report as a page: the same answer as on a terminal, for a phone. It is whole without script, nothing is loaded from
//! elsewhere, and whatever others wrote is escaped by the template and free of characters that can't be seen. Pure.

mod incident;
mod service;
mod status;

use jiff::Timestamp;
use maud::{DOCTYPE, Markup, PreEscaped, html};
use nexus_model::plain::plain;

use super::{
    svg::{Chart, Point},
    terminal::{ago, local},
};
use crate::{report::Unit, sources::http::segment};

pub use incident::{incident, incidents};
pub use service::service;
pub use status::status;

/// The style, at its own address so that the policy of what a page may load can be strict.
pub const STYLE: &str = include_str!("style.css");

/// A series to be drawn, with its words.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub name: String,
    pub unit: Unit,
    pub points: Vec<Point>,
    /// The top of the chart, where it is known.
    pub top: Option<f64>,
    /// Of the chart, in seconds since 1970.
    pub from: i64,
    pub to: i64,
}

/// Charts that could be drawn, or why not.
pub type Drawn = Result<Vec<Series>, String>;

/// One page of those that have a place in the navigation.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    Status,
    Incidents,
    Elsewhere,
}

fn layout(title: &str, host: &str, place: Place, body: &Markup) -> String {
    let host = plain(host);
    let link = |here: Place, href: &str, name: &str| {
        html! { a href=(href) aria-current=[(place == here).then_some("page")] { (name) } }
    };
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="referrer" content="no-referrer";
                title { (title) " – " (host) }
                link rel="stylesheet" href="/style.css";
                link rel="icon" href="/icon.svg" type="image/svg+xml";
            }
            body {
                a class="skip" href="#main" { "To the content" }
                header {
                    strong { (host) }
                    nav aria-label="Pages" {
                        (link(Place::Status, "/", "Status"))
                        (link(Place::Incidents, "/incidents", "Incidents"))
                    }
                }
                main id="main" { (body) }
                footer { "Nexus " (env!("CARGO_PKG_VERSION")) ". The same on a terminal: " code { "./nexus status" } }
            }
        }
    };
    page.into_string()
}

/// A page that says why there is no other.
pub fn problem(host: &str, title: &str, why: &str) -> String {
    let body = html! {
        h1 { (title) }
        p { (plain(why)) }
        p { a href="/" { "How everything is" } }
    };
    layout(title, host, Place::Elsewhere, &body)
}

/// What to do about an alert, as HTML of our own.
pub fn runbook(host: &str, name: &str, body: String) -> String {
    layout(name, host, Place::Elsewhere, &html! { (PreEscaped(body)) })
}

/// The little picture of the tab.
pub const ICON: &str = concat!(
    r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 16 16"><rect width="16" height="16" rx="4" fill="#1f6fc5"/>"##,
    r##"<path d="M2 9h3l2-5 3 8 1.500-3H14" fill="none" stroke="#fff" stroke-width="1.600" stroke-linejoin="round"/></svg>"##
);

/// A moment: exact for programs, and how long ago for people.
fn moment(at: Timestamp, now: Timestamp) -> Markup {
    html! { time datetime=(at) title=(local(at)) { (ago(at, now)) } }
}

/// A moment with its date.
fn date(at: Timestamp) -> Markup {
    html! { time datetime=(at) { (local(at)) } }
}

/// The address of a service's page.
fn service_link(project: &str, service: &str) -> Markup {
    html! {
        a href=(format!("/services/{}/{}", segment(project), segment(service))) { (plain(&format!("{project}/{service}"))) }
    }
}

/// Charts in a grid, or a word on why there are none.
fn charts(drawn: &Drawn, span: &str) -> Markup {
    match drawn {
        Err(why) => html! { p class="soft" { "No charts: " (plain(why)) } },
        Ok(all) if all.is_empty() => html! { p class="soft" { "Nothing has been measured yet." } },
        Ok(all) => html! { div class="grid" { @for series in all { (chart(series, span)) } } },
    }
}

fn chart(series: &Series, span: &str) -> Markup {
    let known = || series.points.iter().filter_map(|point| point.1).filter(|value| value.is_finite());
    let amount = |value: Option<f64>| {
        value.map_or_else(|| "unknown".to_owned(), |value| super::text::amount(value, series.unit))
    };
    // The newest step may not have been measured yet; what is older is not "now".
    let last = series.points.iter().rev().take(2).find_map(|point| point.1.filter(|value| value.is_finite()));
    let (least, most) = (known().reduce(f64::min), known().reduce(f64::max));
    let name = plain(&series.name);
    let label = format!("{name}, {span}: now {}, between {} and {}", amount(last), amount(least), amount(most));
    let drawing = Chart { label: &label, points: &series.points, from: series.from, to: series.to, top: series.top };
    html! {
        section class="card" {
            h3 { (name) }
            div class="value" { (amount(last)) }
            (drawing.svg())
            div class="ends" aria-hidden="true" { span { (span.trim_start_matches("the ")) } span { (amount(least)) " – " (amount(most)) } }
        }
    }
}

#[cfg(test)]
mod tests;
