//! The report on one screen: the verdict first, then what rests on it.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::terminal::{Paint, ago, duration, local, plain, shorten, table};
use crate::report::format::{bytes, count, percent};
use crate::report::recommend::Urgency;
use crate::report::{
    AlertReport, FilesystemReport, Forecast, Healed, IncidentReport, Recommendation, Report, ServiceReport, Trend,
    Unit, Verdict, VitalReport, WatchedReport,
};

/// What of long lists a screen holds; all of it is in the other formats.
const MOST_REASONS: usize = 5;
const MOST_RECOMMENDATIONS: usize = 3;
const MOST_HEALED: usize = 5;

/// What is asked for when nothing is known of a section.
const UNKNOWN: &str = "unknown: the part that knows does not answer\n";

pub fn screen(report: &Report, paint: Paint) -> String {
    let now = report.at;
    let mut out = verdict(report, paint);
    out.push_str(&parts(report, paint));
    out.push_str(&held_back(report));
    let mut section = |title: &str, body: Option<String>, none: &str| {
        // Without anything to say and a word for it, the title is left out too.
        if body.as_deref() == Some("") && none.is_empty() {
            return;
        }
        out.push_str(&format!("\n{}\n", paint.bold(title)));
        match body {
            None => out.push_str(UNKNOWN),
            Some(body) if body.is_empty() => out.push_str(&format!("{none}\n")),
            Some(body) => out.push_str(&body),
        }
    };
    let vitals = vitals(&report.vitals, &report.filesystems);
    section("VITALS", Some(vitals).filter(|text| !text.is_empty()), "");
    section("SERVICES", report.services.as_deref().map(services), "no Docker Compose project runs here yet");
    if let Some(healed) = &report.healed {
        let title = format!("HEALED SINCE {}", since(healed.since));
        section(&title, Some(healed_text(healed, now)), "nothing had to be healed");
    }
    section("WATCHED ONLY", report.shadow.as_deref().map(watched), "");
    section("OPEN INCIDENTS", report.incidents.as_deref().map(|all| incidents(all, now)), "none");
    section("ALERTS", report.alerts.as_deref().map(|all| alerts(all, now)), "none");
    section("ABOUT TO GO WRONG", Some(forecasts(&report.forecasts)), "");
    section("RECOMMENDED", Some(recommendations(&report.recommendations, paint)), "");
    let missing = report.missing.iter().map(|it| format!("{} ({})\n", plain(&it.what), plain(&it.because)));
    section("NOT KNOWN", Some(missing.collect()), "");
    out
}

fn verdict(report: &Report, paint: Paint) -> String {
    let mut out = match report.verdict {
        Verdict::Healthy => paint.good("All is well."),
        Verdict::Degraded => paint.warning("Not all is well:"),
        Verdict::Critical => paint.bad("You are needed:"),
    };
    out.push('\n');
    for reason in report.reasons.iter().take(MOST_REASONS) {
        let line = plain(&format!("{}: {}", reason.about, reason.text));
        let mark = match reason.verdict {
            Verdict::Critical => paint.bad("!"),
            Verdict::Degraded => paint.warning("-"),
            Verdict::Healthy => paint.good("-"),
        };
        out.push_str(&format!("  {mark} {line}\n"));
    }
    if let Some(more) = report.reasons.len().checked_sub(MOST_REASONS).filter(|more| *more > 0) {
        out.push_str(&format!("  and {more} more\n"));
    }
    if let Some(project) = &report.project {
        out.push_str(&format!("Of the services only those of {} are shown.\n", plain(project)));
    }
    out
}

fn parts(report: &Report, paint: Paint) -> String {
    let up: Vec<String> = report.parts.iter().filter(|part| part.up).map(|part| plain(&part.name)).collect();
    let mut out = String::from("\n");
    if !up.is_empty() {
        out.push_str(&format!("{}    {}\n", paint.good("up"), up.join(", ")));
    }
    for part in report.parts.iter().filter(|part| !part.up) {
        // What is wrong with the policy is long, and stands above.
        let policy = part.name == "policy";
        let reason = if policy { "see ./nexus policy check" } else { part.reason.as_deref().unwrap_or_default() };
        out.push_str(&format!("{}  {}: {}\n", paint.bad("DOWN"), plain(&part.name), plain(reason)));
    }
    if report.parts.iter().any(|part| !part.up && part.name != "policy") {
        out.push_str(if up.is_empty() { "is the stack up? run ./nexus up\n" } else { "see ./nexus logs\n" });
    }
    out
}

/// Why nothing is restarted, where that is so.
fn held_back(report: &Report) -> String {
    let now = report.at;
    let mut out = String::new();
    if let Some(hold) = &report.hold {
        let (held, until) = (duration(now.duration_since(hold.since)), local(hold.until));
        out.push_str(&format!("on hold for {held}, until {until} at the latest: {}\n", plain(&hold.reason)));
    }
    for pause in &report.pauses {
        let left = duration(pause.until.duration_since(now));
        let reason = pause.reason.as_deref().map(|reason| format!(": {}", shorten(reason, 60))).unwrap_or_default();
        let line = format!("paused {} for {left}, until {}{reason}", pause.target, local(pause.until));
        out.push_str(&format!("{}\n", plain(&line)));
    }
    out
}

/// What healing would have done for services that are only watched.
fn watched(all: &[WatchedReport]) -> String {
    let line = |it: &WatchedReport| {
        // Only what has shown that it helps is offered.
        let name = format!("{}/{}", it.project, it.service);
        let offer = if it.would_have_helped > 0 { format!(": ./nexus heal on {name}") } else { String::new() };
        format!("{}\n", plain(&format!("{}{offer}", it.sentence)))
    };
    all.iter().map(line).collect()
}

fn vitals(vitals: &[VitalReport], filesystems: &[FilesystemReport]) -> String {
    let mut rows: Vec<Vec<String>> = vitals
        .iter()
        .map(|vital| {
            let usual = vital.usual.map_or_else(String::new, |usual| amount(usual.median, vital.unit));
            let trend = vital.trend.map_or("", trend_words);
            vec![vital.name.words().to_owned(), value(vital), usual, trend.to_owned()]
        })
        .collect();
    rows.extend(filesystems.iter().map(|it| {
        let read_only = if it.read_only { ", read-only" } else { "" };
        let free = format!("{}, {} free{read_only}", percent(it.used_ratio), bytes(it.available_bytes));
        vec![format!("disk {}", it.mountpoint), free, String::new(), String::new()]
    }));
    table(&["", "NOW", "USUAL", ""], &rows)
}

pub(super) fn trend_words(trend: Trend) -> &'static str {
    match trend {
        Trend::Lower => "much less than usual",
        Trend::Usual => "as usual",
        Trend::Higher => "much more than usual",
    }
}

/// The value with all that there is, where that tells more than a percentage.
pub(super) fn value(vital: &VitalReport) -> String {
    match (vital.unit, vital.of) {
        (Unit::Bytes, Some(all)) => {
            format!("{} of {} ({})", bytes(vital.value), bytes(all), percent(vital.value / all))
        }
        (Unit::Processes, Some(cpus)) => format!("{:.2} on {}", vital.value, count(format_args!("{cpus:.0}"), "CPU")),
        (unit, _) => amount(vital.value, unit),
    }
}

pub(super) fn amount(value: f64, unit: Unit) -> String {
    match unit {
        Unit::Ratio => percent(value),
        Unit::Bytes => bytes(value),
        Unit::BytesPerSecond => format!("{}/s", bytes(value)),
        Unit::Celsius => format!("{value:.0} °C"),
        Unit::Processes => format!("{value:.2}"),
    }
}

/// Columns that are empty in every row are left out.
fn services(services: &[ServiceReport]) -> String {
    let mut before = None;
    let rows: Vec<Vec<String>> = services
        .iter()
        .map(|service| {
            let project =
                if before.replace(&service.project) == Some(&service.project) { "" } else { &service.project };
            vec![
                project.to_owned(),
                service.service.clone(),
                service.state.clone(),
                if service.health == "none" { "-".to_owned() } else { service.health.clone() },
                service.restarts.filter(|restarts| *restarts > 0).map(|it| it.to_string()).unwrap_or_default(),
                service.cpu.map(percent).unwrap_or_default(),
                memory(service),
                service.mode.clone().unwrap_or_default(),
                service.note.clone().unwrap_or_default(),
            ]
        })
        .collect();
    filled(&["PROJECT", "SERVICE", "STATE", "HEALTH", "RESTARTS", "CPU", "MEMORY", "MODE", "NOTE"], rows)
}

pub(super) fn memory(service: &ServiceReport) -> String {
    match (service.memory_bytes, service.memory_limit_bytes) {
        (Some(used), Some(limit)) if limit > 0.0 => {
            format!("{} of {}", bytes(used), bytes(limit * f64::from(service.containers.max(1))))
        }
        (Some(used), _) => bytes(used),
        (None, _) => String::new(),
    }
}

fn filled(head: &[&str], rows: Vec<Vec<String>>) -> String {
    let used: Vec<bool> =
        (0..head.len()).map(|at| rows.iter().any(|row| row.get(at).is_some_and(|cell| !cell.is_empty()))).collect();
    let head: Vec<&str> = head.iter().zip(&used).filter(|(_, used)| **used).map(|(cell, _)| *cell).collect();
    let pick = |row: Vec<String>| row.into_iter().zip(&used).filter(|(_, used)| **used).map(|(cell, _)| cell).collect();
    table(&head, &rows.into_iter().map(pick).collect::<Vec<Vec<String>>>())
}

fn healed_text(healed: &Healed, now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = healed
        .incidents
        .iter()
        .take(MOST_HEALED)
        .map(|incident| {
            let ended = incident.closed_at.unwrap_or(now);
            vec![
                format!("{}/{}", incident.project, incident.service),
                ago(ended, now),
                format!("after {}", duration(ended.duration_since(incident.opened_at))),
                shorten(incident.cause.as_deref().unwrap_or(&incident.problem), 70),
            ]
        })
        .collect();
    let mut out = table(&["SERVICE", "WELL SINCE", "ILL FOR", "WHAT"], &rows);
    if let Some(more) = healed.incidents.len().checked_sub(MOST_HEALED).filter(|more| *more > 0) {
        out.push_str(&format!("and {more} more: ./nexus incidents --state closed\n"));
    }
    if healed.by_themselves > 0 {
        out.push_str(&format!("{}\n", by_themselves(healed.by_themselves)));
    }
    if !healed.complete {
        out.push_str("and there were more than the healer gives at once\n");
    }
    out
}

pub(super) fn by_themselves(services: u32) -> String {
    let them = if services == 1 { "itself" } else { "themselves" };
    format!("{} became well by {them}", count(services, "service"))
}

fn incidents(incidents: &[IncidentReport], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = incidents
        .iter()
        .map(|incident| {
            vec![
                incident.short_id().to_owned(),
                format!("{}/{}", incident.project, incident.service),
                ago(incident.opened_at, now),
                incident.mode.clone(),
                state(incident),
                incident.attempts.to_string(),
                shorten(incident.cause.as_deref().unwrap_or(&incident.problem), 60),
            ]
        })
        .collect();
    table(&["ID", "SERVICE", "OPENED", "MODE", "STATE", "ATTEMPTS", "PROBLEM"], &rows)
}

/// What a person asks first of what was given up: whether somebody knows of it.
pub(super) fn state(incident: &IncidentReport) -> String {
    let known = if incident.acknowledged_at.is_some() { ", acknowledged" } else { "" };
    format!("{}{known}", incident.state.replace('_', " "))
}

fn alerts(alerts: &[AlertReport], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = alerts
        .iter()
        .map(|alert| {
            vec![
                alert.severity.clone(),
                alert.name.clone(),
                alert.place(),
                ago(alert.since, now),
                shorten(&alert.summary, 60),
                if alert.silenced { "silenced".to_owned() } else { String::new() },
            ]
        })
        .collect();
    table(&["SEVERITY", "ALERT", "SERVICE", "SINCE", "WHAT", ""], &rows)
}

impl AlertReport {
    /// Empty for the machine itself.
    pub(super) fn place(&self) -> String {
        match (self.project.as_str(), self.service.as_str()) {
            ("", "") => String::new(),
            (project, service) => format!("{project}/{service}"),
        }
    }
}

fn forecasts(forecasts: &[Forecast]) -> String {
    let rows: Vec<Vec<String>> = forecasts
        .iter()
        .map(|it| vec![it.at.map_or_else(|| "now".to_owned(), date), it.about.clone(), it.text.clone()])
        .collect();
    table(&["WHEN", "WHAT", ""], &rows)
}

fn recommendations(all: &[Recommendation], paint: Paint) -> String {
    let mut out = String::new();
    for (number, it) in (1..).zip(all.iter().take(MOST_RECOMMENDATIONS)) {
        let title = format!("{number}. {}", plain(&it.title));
        let title = if it.urgency == Urgency::Now { paint.warning(&title) } else { title };
        out.push_str(&format!("{title}\n"));
        let mut line = |label: &str, text: &str| out.push_str(&format!("   {label:<6}{}\n", plain(text)));
        if let Some(first) = it.evidence.first() {
            line("since", first);
        }
        line("gain", &it.gain);
        if let Some(command) = it.check.as_ref().or(it.commands.first()) {
            line(if it.check.is_some() { "check" } else { "run" }, command);
        }
    }
    if !all.is_empty() {
        let more = all.len().saturating_sub(MOST_RECOMMENDATIONS);
        let more = if more > 0 { format!("{more} more, and all") } else { "all".to_owned() };
        out.push_str(&format!(
            "{more} with their lines for compose.override.yml: ./nexus status --markdown; to apply one: ./nexus tune\n"
        ));
    }
    out
}

/// In the time zone of the machine.
pub(super) fn date(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d").to_string()
}

pub(super) fn since(at: Timestamp) -> String {
    at.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{judged, well, worst};

    #[test]
    fn all_well_is_said_first() {
        let text = screen(&judged(&well()), Paint::NONE);
        assert!(
            text.starts_with(
                "All is well.\n\nup    healer, exporter, prometheus, alertmanager, docker, policy, postgres\n"
            ),
            "{text}"
        );
        for line in [
            "memory              1.5 GiB of 4.0 GiB (38 %)\n",
            "nothing had to be healed\n",
            "disk /              38 %, 20 GiB free\n",
        ] {
            assert!(text.contains(line), "{line:?} is missing:\n{text}");
        }
        assert!(!text.contains("RECOMMENDED") && !text.contains("ABOUT TO GO WRONG"), "{text}");
    }

    #[test]
    fn the_screen_is_whole_with_everything_missing() {
        let mut facts = well();
        let away = || "does not answer".to_owned();
        (facts.healer, facts.services, facts.incidents) = (Err(away()), None, None);
        facts.shadow = None;
        (facts.exporter, facts.containers, facts.machine) = (Err(away()), None, Default::default());
        (facts.prometheus, facts.measured) = (Err(away()), Default::default());
        facts.alerts = Err(away());
        let text = screen(&judged(&facts), Paint::NONE);
        assert!(text.starts_with("You are needed:\n  ! healer: does not answer; nothing is healed\n"), "{text}");
        assert!(text.contains("is the stack up? run ./nexus up\n"), "{text}");
        // Vitals, services, what is watched, incidents and alerts.
        assert_eq!(text.matches("unknown: ").count(), 5, "{text}");
        assert_eq!(text.matches("(healer: does not answer)").count(), 1, "{text}");
    }

    #[test]
    fn hostile_names_can_not_steer_the_terminal() {
        let text = screen(&judged(&worst("\u{1b}[2J\u{202e}\r\nx")), Paint::NONE);
        assert!(!text.contains(['\u{1b}', '\u{202e}', '\r']), "{text:?}");
        // Nor add lines that look like ours.
        assert!(text.lines().all(|line| line != "x"), "{text}");
    }

    #[test]
    fn a_screen_holds_the_first_of_long_lists() {
        let mut facts = worst("web");
        let alert = crate::report::testing::alert("DiskLow", "warning", false);
        facts.alerts = Ok(vec![alert; 20]);
        let report = judged(&facts);
        let text = screen(&report, Paint::NONE);
        assert!(text.contains(&format!("  and {} more\n", report.reasons.len() - MOST_REASONS)), "{text}");
        let more = report.recommendations.len() - MOST_RECOMMENDATIONS;
        assert!(text.contains(&format!("{more} more, and all with their lines")), "{text}");
    }
}
