//! The whole report as Markdown, for a document, an issue or an agent.

use super::terminal::{ago, duration, plain};
use super::text::{amount, by_themselves, date, memory, since, state, trend_words, value};
use crate::report::format::{bytes, percent};
use crate::report::{Recommendation, Report, Verdict};

pub fn markdown(report: &Report) -> String {
    let now = report.at;
    let verdict = match report.verdict {
        Verdict::Healthy => "healthy",
        Verdict::Degraded => "degraded",
        Verdict::Critical => "critical",
    };
    let of = report.project.as_ref().map_or_else(String::new, |project| format!(", project {}", escape(project)));
    let mut out = format!("# {}{of}: {verdict}\n\n{}\n", escape(&report.host), since(now));
    let reason = |it: &crate::report::Reason| {
        let mark = match it.verdict {
            Verdict::Critical => "**critical**",
            Verdict::Degraded => "degraded",
            Verdict::Healthy => "healthy",
        };
        format!("{mark}, {}: {}", escape(&it.about), escape(&it.text))
    };
    section(&mut out, "Why", Some(list(report.reasons.iter().map(reason))), "All is well.");
    let part = |it: &crate::report::Part| {
        let state = if it.up {
            "up".to_owned()
        } else {
            format!("**down**: {}", escape(it.reason.as_deref().unwrap_or_default()))
        };
        format!("{}: {state}", escape(&it.name))
    };
    section(&mut out, "Parts", Some(list(report.parts.iter().map(part))), "None.");
    let hold =
        report.hold.iter().map(|it| format!("On hold until {} at the latest: {}", since(it.until), escape(&it.reason)));
    let pause = |it: &crate::report::PauseReport| {
        let reason = it.reason.as_ref().map_or_else(String::new, |reason| format!(": {}", escape(reason)));
        format!("Paused until {}: {}{reason}", since(it.until), escape(&it.target))
    };
    let held_back: String = list(hold.chain(report.pauses.iter().map(pause)));
    if !held_back.is_empty() {
        section(&mut out, "Held back", Some(held_back), "");
    }
    section(&mut out, "Vitals", vitals(report), "");
    let services = report.services.as_ref().map(|all| {
        let row = |it: &crate::report::ServiceReport| {
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            let restarts = it.restarts.map(|restarts| restarts.to_string()).unwrap_or_default();
            let cpu = it.cpu.map(percent).unwrap_or_default();
            let (project, service) = (it.project.clone(), it.service.clone());
            vec![
                project,
                service,
                it.state.clone(),
                it.health.clone(),
                restarts,
                cpu,
                memory(it),
                text(&it.mode),
                text(&it.note),
            ]
        };
        table(
            &["Project", "Service", "State", "Health", "Restarts", "CPU", "Memory", "Mode", "Note"],
            all.iter().map(row),
        )
    });
    section(&mut out, "Services", services, "No Docker Compose project runs here yet.");
    if let Some(healed) = &report.healed {
        let row = |it: &crate::report::IncidentReport| {
            let ended = it.closed_at.unwrap_or(now);
            let ill = duration(ended.duration_since(it.opened_at));
            vec![
                format!("{}/{}", it.project, it.service),
                ago(ended, now),
                ill,
                it.problem.clone(),
                it.cause.clone().unwrap_or_default(),
            ]
        };
        let mut body =
            table(&["Service", "Well since", "Ill for", "Problem", "Cause"], healed.incidents.iter().map(row));
        if healed.by_themselves > 0 {
            body.push_str(&format!("\n{}.\n", by_themselves(healed.by_themselves)));
        }
        let title = format!("Healed since {}", since(healed.since));
        section(&mut out, &title, Some(body), "Nothing had to be healed.");
    }
    let watched = |it: &crate::report::WatchedReport| {
        format!("{}/{}: {}", escape(&it.project), escape(&it.service), escape(&it.sentence))
    };
    let shadow = report.shadow.as_ref().map(|all| list(all.iter().map(watched)));
    section(&mut out, "What healing would have done", shadow, "Nothing was due for what is only watched.");
    let incidents = report.incidents.as_ref().map(|all| {
        let row = |it: &crate::report::IncidentReport| {
            let name = format!("{}/{}", it.project, it.service);
            let (id, state) = (it.short_id().to_owned(), state(it));
            let text = |text: &Option<String>| text.clone().unwrap_or_default();
            vec![
                id,
                name,
                ago(it.opened_at, now),
                it.mode.clone(),
                state,
                it.problem.clone(),
                text(&it.cause),
                text(&it.waits),
            ]
        };
        table(&["Id", "Service", "Opened", "Mode", "State", "Problem", "Cause", "Waits"], all.iter().map(row))
    });
    section(&mut out, "Open incidents", incidents, "None.");
    let alerts = report.alerts.as_ref().map(|all| {
        let row = |it: &crate::report::AlertReport| {
            let silenced = if it.silenced { "silenced" } else { "" };
            vec![
                it.severity.clone(),
                it.name.clone(),
                it.place(),
                ago(it.since, now),
                it.summary.clone(),
                silenced.to_owned(),
            ]
        };
        table(&["Severity", "Alert", "Service", "Since", "What", ""], all.iter().map(row))
    });
    section(&mut out, "Alerts", alerts, "None.");
    let forecast = |it: &crate::report::Forecast| {
        format!("{}, {}: {}", it.at.map_or_else(|| "now".to_owned(), date), escape(&it.about), escape(&it.text))
    };
    section(&mut out, "About to go wrong", Some(list(report.forecasts.iter().map(forecast))), "Nothing that shows.");
    out.push_str("\n## Recommended\n\n");
    if report.recommendations.is_empty() {
        out.push_str("Nothing.\n");
    }
    out.extend((1..).zip(&report.recommendations).map(|(number, it)| recommendation(number, it)));
    let missing = |it: &crate::report::Missing| format!("{} ({})", escape(&it.what), escape(&it.because));
    section(&mut out, "Not known", Some(list(report.missing.iter().map(missing))), "Everything could be asked.");
    out
}

fn section(out: &mut String, title: &str, body: Option<String>, none: &str) {
    let body = match body {
        None => "Unknown: the part that knows does not answer.\n".to_owned(),
        Some(body) if body.is_empty() => format!("{none}\n"),
        Some(body) => body,
    };
    out.push_str(&format!("\n## {title}\n\n{body}"));
}

fn vitals(report: &Report) -> Option<String> {
    let vital = |it: &crate::report::VitalReport| {
        let usual = it.usual.map_or_else(String::new, |usual| amount(usual.median, it.unit));
        vec![it.name.words().to_owned(), value(it), usual, it.trend.map_or("", trend_words).to_owned()]
    };
    let disk = |it: &crate::report::FilesystemReport| {
        let now = format!("{}, {} of {} free", percent(it.used_ratio), bytes(it.available_bytes), bytes(it.size_bytes));
        vec![format!("disk {}", it.mountpoint), now, String::new(), String::new()]
    };
    let rows = report.vitals.iter().map(vital).chain(report.filesystems.iter().map(disk));
    Some(table(&["", "Now", "Usual", ""], rows)).filter(|text| !text.is_empty())
}

fn recommendation(number: usize, it: &Recommendation) -> String {
    let urgency = match it.urgency {
        crate::report::recommend::Urgency::Now => "now",
        crate::report::recommend::Urgency::Soon => "soon",
        crate::report::recommend::Urgency::Sometime => "when there is time",
    };
    let mut out = format!("### {number}. {}\n\n", escape(&it.title));
    out.push_str(&list(it.evidence.iter().map(|evidence| escape(evidence))));
    out.push_str(&format!("\nGain: {}. When: {urgency}.\n", escape(&it.gain)));
    if let Some(check) = &it.check {
        out.push_str(&format!("\nCheck first:\n\n{}", fence("bash", check)));
    }
    if let Some(compose) = &it.compose {
        out.push_str(&format!("\nIn compose.override.yml of the project:\n\n{}", fence("yaml", compose)));
    }
    if !it.commands.is_empty() {
        out.push_str(&format!("\nThen:\n\n{}", fence("bash", &it.commands.join("\n"))));
    }
    out.push('\n');
    out
}

/// A block of code that its content can't close.
fn fence(language: &str, text: &str) -> String {
    let longest = text.split(|c| c != '`').map(str::len).max().unwrap_or_default();
    let fence = "`".repeat((longest + 1).max(3));
    let lines: Vec<String> = text.trim_end().lines().map(plain).collect();
    format!("{fence}{language}\n{}\n{fence}\n", lines.join("\n"))
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.map(|item| format!("- {item}\n")).collect()
}

/// Empty without rows.
fn table(head: &[&str], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: Vec<String>| format!("| {} |\n", cells.join(" | "));
    let rows: String = rows.map(|row| line(row.iter().map(|cell| escape(cell)).collect())).collect();
    if rows.is_empty() {
        return rows;
    }
    let head = line(head.iter().map(|cell| (*cell).to_owned()).collect());
    let rule = format!("|{}\n", "---|".repeat(head.matches(" | ").count() + 1));
    format!("{head}{rule}{rows}")
}

/// Text that stays text: names, log lines and summaries are written by others.
pub fn escape(text: &str) -> String {
    let mut out = String::new();
    for character in plain(text).chars() {
        if "\\`*_[]<>#|~&".contains(character) {
            out.push('\\');
        }
        out.push(character);
    }
    // What would begin a list or a heading does so at the beginning of a line only.
    if out.starts_with(['-', '+', '=']) { format!("\\{out}") } else { out }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::testing::{judged, well, worst};

    #[test]
    fn the_document_has_all_sections() {
        let text = markdown(&judged(&worst("web")));
        assert!(text.starts_with("# pi: critical\n"), "{text}");
        for title in [
            "Why",
            "Parts",
            "Vitals",
            "Services",
            "Held back",
            "What healing would have done",
            "Open incidents",
            "Alerts",
            "About to go wrong",
            "Recommended",
            "Not known",
        ] {
            assert!(text.contains(&format!("\n## {title}\n\n")), "{title} is missing:\n{text}");
        }
        assert!(text.contains("```yaml\nservices:\n"), "{text}");
        assert!(markdown(&judged(&well())).contains("\n## Why\n\nAll is well.\n"));
    }

    #[test]
    fn hostile_names_stay_text() {
        assert_eq!(escape("a|b<img>[x](y)`c`\n# d"), "a\\|b\\<img\\>\\[x\\](y)\\`c\\`\u{fffd}\\# d");
        assert_eq!(escape("- x"), "\\- x");
        assert_eq!(fence("bash", "```\nx"), "````bash\n```\nx\n````\n");
        let all = markdown(&judged(&worst("<script>|`x`\u{1b}\u{e0041}\u{61c}\n## Recommended")));
        // What stands in a block of code is text as it is.
        let text: String = all.split("```").step_by(2).collect();
        assert!(!text.contains("<script>"), "{text}");
        assert!(!all.contains(['\u{1b}', '\u{e0041}', '\u{61c}']), "{all}");
        assert_eq!(text.matches("\n## Recommended").count(), 1, "{text}");
        let columns = |line: &str| line.replace("\\|", "").matches('|').count();
        let widths: std::collections::BTreeSet<usize> = text
            .lines()
            .skip_while(|line| !line.starts_with("| Project |"))
            .take_while(|line| line.starts_with('|'))
            .map(columns)
            .collect();
        assert_eq!(widths.len(), 1, "{text}");
    }
}
