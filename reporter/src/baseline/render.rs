//! The baseline for people: plain text with a heat map of the week, and Markdown. Names are those that others chose, and are
//! shown so that they can't steer a terminal or break a table. Pure.

use std::fmt::Write as _;

use nexus_model::plain::plain;

use crate::baseline::peaks::weekday;
use crate::baseline::{Baseline, Basis, Metric, MetricBaseline, ServiceUsage};
use crate::render::markdown::escape as markdown;
use crate::report::format::{bytes, count, percent};

/// From empty to full; ASCII, so that every terminal and mail shows it.
const SHADES: &[u8; 10] = b".:-=+*oO#@";

/// The metrics whose week is drawn.
const DRAWN: [Metric; 3] = [Metric::CpuBusyRatio, Metric::MemoryUsedRatio, Metric::NetworkOutBytesPerSecond];

/// `project/service`, or the name alone outside Compose.
pub fn service(project: &str, service: &str) -> String {
    if project.is_empty() { service.to_owned() } else { format!("{project}/{service}") }
}

fn heading(baseline: &Baseline) -> String {
    let date = |at: Option<jiff::Timestamp>| match at {
        // An hour that ends at midnight belongs to the day before.
        Some(at) => local(at, &baseline.time_zone, "%Y-%m-%d"),
        None => "never".to_owned(),
    };
    let basis = match baseline.metrics.iter().filter_map(|metric| metric.basis).min() {
        Some(Basis::HourOfWeek) => "by hour of the week",
        Some(Basis::HourOfDay) => "by hour of the day, for want of four weeks",
        None => "too few days yet for what is usual: it takes a week",
    };
    format!(
        "{} from {} to {}, {} ({basis})",
        count(baseline.hours, "hour"),
        date(baseline.from),
        date(baseline.to),
        baseline.time_zone
    )
}

/// Behind a title that judges, as long as nobody can.
fn so_far(baseline: &Baseline) -> &'static str {
    if baseline.too_few_days() { " so far (a guess until a week is known)" } else { "" }
}

/// Behind the titles of services, whose figures are of the last four weeks.
fn of_weeks(baseline: &Baseline) -> &'static str {
    if baseline.too_few_days() { so_far(baseline) } else { ", last four weeks" }
}

fn local(at: jiff::Timestamp, zone: &str, format: &str) -> String {
    let zone = jiff::tz::TimeZone::get(zone).unwrap_or(jiff::tz::TimeZone::UTC);
    at.to_zoned(zone).strftime(format).to_string()
}

/// For a terminal.
pub fn text(baseline: &Baseline) -> String {
    let mut out = format!("Usual load of {}: {}\n", plain(&baseline.host), heading(baseline));
    if baseline.hours == 0 {
        out.push_str("\nNothing is recorded yet.\n");
        return out;
    }
    _ = writeln!(out, "\nNearest to its limit{}", so_far(baseline));
    for found in &baseline.bottlenecks {
        let share = found.share.map_or_else(|| "-".to_owned(), percent);
        let name = named(found.resource.name(), found.subject.as_deref(), plain);
        _ = writeln!(out, "  {share:>5}  {name}: {}", found.figures);
    }
    for metric in drawn(baseline) {
        out.push('\n');
        _ = writeln!(out, "{}", summary(metric, baseline));
        out.push_str(&heat(metric));
    }
    let peaks = peaks(baseline);
    if !peaks.is_empty() {
        out.push_str("\nPeaks\n");
        for (when, what) in peaks {
            _ = writeln!(out, "  {when}: {what}");
        }
    }
    for (title, services) in
        [("Busiest by CPU", &baseline.busiest_by_cpu), ("Busiest by memory", &baseline.busiest_by_memory)]
    {
        if services.is_empty() {
            continue;
        }
        let width = services.iter().map(|found| plain(&name(found)).chars().count()).max().unwrap_or_default().max(7);
        _ = writeln!(
            out,
            "\n{title}{}\n  {:width$}  {:>6} {:>6}  {:>8} {:>8}  {:>8}",
            of_weeks(baseline),
            "SERVICE",
            "CPU",
            "BUSY",
            "MEMORY",
            "MOST",
            "LIMIT"
        );
        for found in services {
            let [cpu, busy, memory, most, limit] = figures(found);
            _ = writeln!(
                out,
                "  {:width$}  {cpu:>6} {busy:>6}  {memory:>8} {most:>8}  {limit:>8}",
                plain(&name(found))
            );
        }
    }
    out
}

/// For a document.
pub fn markdown_page(baseline: &Baseline) -> String {
    let mut out = format!("# Usual load of {}\n\n{}.\n", markdown(&baseline.host), markdown(&heading(baseline)));
    if baseline.hours == 0 {
        out.push_str("\nNothing is recorded yet.\n");
        return out;
    }
    _ = writeln!(out, "\n## Nearest to its limit{}\n", so_far(baseline));
    out.push_str("| Of the limit | Resource | Figures |\n|--:|---|---|\n");
    for found in &baseline.bottlenecks {
        let share = found.share.map_or_else(|| "-".to_owned(), percent);
        let name = named(found.resource.name(), found.subject.as_deref(), markdown);
        _ = writeln!(out, "| {share} | {name} | {} |", markdown(&found.figures));
    }
    out.push_str("\n## The week\n");
    for metric in drawn(baseline) {
        _ = writeln!(out, "\n{}.\n\n```text\n{}```", markdown(&summary(metric, baseline)), heat(metric));
    }
    let peaks = peaks(baseline);
    if !peaks.is_empty() {
        out.push_str("\n## Peaks\n\n");
        for (when, what) in peaks {
            _ = writeln!(out, "- {}: {}", markdown(&when), markdown(&what));
        }
    }
    for (title, services) in
        [("Busiest by CPU", &baseline.busiest_by_cpu), ("Busiest by memory", &baseline.busiest_by_memory)]
    {
        if services.is_empty() {
            continue;
        }
        _ = writeln!(
            out,
            "\n## {title}{}\n\n| Service | CPU | Busy hours | Memory | Most | Limit |\n|---|--:|--:|--:|--:|--:|",
            of_weeks(baseline)
        );
        for found in services {
            _ = writeln!(out, "| {} | {} |", markdown(&name(found)), figures(found).join(" | "));
        }
    }
    out
}

fn name(found: &ServiceUsage) -> String {
    service(&found.project, &found.service)
}

fn named(resource: &str, subject: Option<&str>, safe: fn(&str) -> String) -> String {
    subject.map_or_else(|| resource.to_owned(), |subject| format!("{resource} {}", safe(subject)))
}

/// CPU as a share of one processor.
fn figures(found: &ServiceUsage) -> [String; 5] {
    let cpu = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), percent);
    let memory = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), bytes);
    [
        cpu(found.cpu_cores_mean),
        cpu(found.cpu_cores_p95),
        memory(found.memory_bytes_mean),
        memory(found.memory_bytes_most),
        found.memory_limit_bytes.map_or_else(|| "none".to_owned(), bytes),
    ]
}

fn drawn(baseline: &Baseline) -> impl Iterator<Item = &MetricBaseline> {
    baseline.metrics.iter().filter(|metric| DRAWN.contains(&metric.metric))
}

fn summary(metric: &MetricBaseline, baseline: &Baseline) -> String {
    let show = |value| metric.metric.show(value);
    let highest = metric.highest.map_or_else(String::new, |highest| {
        format!(", {} at most ({})", show(highest.value), local(highest.at, &baseline.time_zone, "%a %Y-%m-%d %H:00"))
    });
    let name = metric.metric.name();
    let name = format!("{}{}", name[..1].to_uppercase(), &name[1..]);
    let usually = if baseline.too_few_days() { "so far mostly" } else { "usually" };
    format!("{name}: {usually} {}, {} in busy hours{highest}", show(metric.median), show(metric.p95))
}

/// Seven rows of 24 characters, and what they mean.
fn heat(metric: &MetricBaseline) -> String {
    let all = || metric.week.iter().flatten().flatten().map(|usual| usual.median);
    let (Some(low), Some(high)) = (all().reduce(f64::min), all().reduce(f64::max)) else {
        return String::new();
    };
    let shade = |value: f64| {
        let part = if high > low { (value - low) / (high - low) } else { 0.0 };
        char::from(SHADES[((part * 10.0) as usize).min(9)])
    };
    let mut out = "       0     3     6     9     12    15    18    21\n".to_owned();
    for (day, hours) in metric.week.iter().enumerate() {
        let row: Vec<String> =
            hours.iter().map(|usual| usual.map_or(' ', |usual| shade(usual.median)).to_string()).collect();
        _ = writeln!(out, "  {}  {}", weekday(day), row.join(" ").trim_end());
    }
    let (first, last) = (char::from(SHADES[0]), char::from(SHADES[9]));
    _ = writeln!(out, "       {first} {} … {last} {}", metric.metric.show(low), metric.metric.show(high));
    out
}

fn peaks(baseline: &Baseline) -> Vec<(String, String)> {
    let of = |metric: &MetricBaseline| {
        let (name, metric_of) = (metric.metric.name(), metric.metric);
        let usual = metric.median;
        let line = move |peak: &crate::baseline::Peak| {
            (peak.when(), format!("{name} {}, usually {}", metric_of.show(peak.median), metric_of.show(usual)))
        };
        metric.peaks.iter().map(line).collect::<Vec<_>>()
    };
    drawn(baseline).flat_map(of).collect()
}

#[cfg(test)]
mod tests;
