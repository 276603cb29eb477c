//! What is shown of tuning. Names of containers and paths are others' words, so each line is made plain. Pure.

use jiff::Timestamp;
use nexus_reporter::report::Recommendation;
use nexus_reporter::report::recommend::{Urgency, shell};

use super::ledger::Ledger;
use super::measure::Verdict;
use super::planned::Planned;
use super::{Gained, Overview, Shown};
use crate::text::{Paint, ago, local, plain, table};

const WIDTH: usize = 8;

fn line(label: &str, text: &str) -> String {
    format!("   {label:<WIDTH$}{}\n", plain(text))
}

fn when(urgency: Urgency) -> &'static str {
    match urgency {
        Urgency::Now => "does harm today",
        Urgency::Soon => "pays soon",
        Urgency::Sometime => "when there is time",
    }
}

pub fn overview(overview: &Overview, paint: Paint) -> String {
    let mut out = String::new();
    if overview.shown.is_empty() {
        let known =
            if overview.missing.is_empty() { "Nothing that would bring much." } else { "Nothing that is known of." };
        out.push_str(&format!("{known}\n"));
    }
    for (number, it) in (1..).zip(&overview.shown) {
        out.push_str(&paint.bold(&format!("{number}. {}", plain(&it.recommendation.title))));
        out.push_str(&format!(" ({})\n", when(it.recommendation.urgency)));
        out.push_str(&shown(it, paint));
        out.push('\n');
    }
    if overview.more > 0 {
        out.push_str(&format!("{} more: ./nexus tune --all\n", overview.more));
    }
    if !overview.applied.is_empty() {
        let ids: Vec<String> = overview.applied.iter().map(|id| plain(id)).collect();
        out.push_str(&format!("Applied lately: {}. What it brought: ./nexus tune result\n", ids.join(", ")));
    }
    for missing in &overview.missing {
        out.push_str(&format!("Not known: {}\n", plain(missing)));
    }
    out
}

fn shown(it: &Shown, paint: Paint) -> String {
    let mut out = evidence(&it.recommendation);
    match &it.why_not {
        None => {
            out.push_str(&change(it.place.as_deref().unwrap_or_default(), &it.lines, &it.notes, paint));
            out.push_str(&line("apply", &format!("./nexus tune apply {}", shell(&it.recommendation.id))));
        }
        Some(why) => {
            out.push_str(&line("by hand", why));
            out.push_str(&commands(&it.recommendation));
        }
    }
    out
}

fn evidence(it: &Recommendation) -> String {
    let mut out = String::new();
    for (number, seen) in it.evidence.iter().enumerate() {
        out.push_str(&line(if number == 0 { "since" } else { "" }, seen));
    }
    out.push_str(&line("gain", &it.gain));
    out
}

fn change(place: &str, lines: &[String], notes: &[String], paint: Paint) -> String {
    let mut out = line("change", place);
    for text in lines {
        let text = plain(text);
        let text = match text.chars().next() {
            Some('+') => paint.good(&text),
            Some('-') => paint.bad(&text),
            _ => text,
        };
        out.push_str(&format!("   {:<WIDTH$}{text}\n", ""));
    }
    for (number, note) in notes.iter().enumerate() {
        out.push_str(&line(if number == 0 { "note" } else { "" }, note));
    }
    out
}

/// What the owner types where Nexus does not do it.
fn commands(it: &Recommendation) -> String {
    let mut out = String::new();
    let lines = it.compose.iter().flat_map(|compose| compose.lines());
    for (number, text) in lines.enumerate() {
        out.push_str(&line(if number == 0 { "lines" } else { "" }, text));
    }
    for (number, command) in it.check.iter().chain(&it.commands).enumerate() {
        let label = match (number, &it.check) {
            (0, Some(_)) => "check",
            (0, None) | (1, Some(_)) => "run",
            _ => "",
        };
        out.push_str(&line(label, command));
    }
    out
}

/// Before a reason why not: what is left to the owner.
pub fn by_hand(it: &Recommendation) -> String {
    let commands = it.check.iter().chain(&it.commands).cloned().collect::<Vec<_>>().join("; ");
    let commands = if commands.is_empty() { String::new() } else { format!(", by hand it is: {commands}") };
    format!("nothing was changed{commands}")
}

pub fn plan(it: &Recommendation, planned: &Planned, paint: Paint) -> String {
    let title = paint.bold(&plain(&it.title));
    format!("{title}\n{}{}\n", evidence(it), change(&planned.place(), &planned.lines(), planned.notes(), paint))
}

pub fn history(ledger: &Ledger) -> String {
    if ledger.records.is_empty() {
        return "Nothing was applied yet.\n".into();
    }
    let rows: Vec<Vec<String>> = ledger
        .records
        .iter()
        .map(|record| {
            vec![
                record.number.to_string(),
                local(record.applied_at),
                record.state.words().to_owned(),
                record.ended_at.map_or_else(String::new, local),
                record.id.clone(),
                record.title.clone(),
            ]
        })
        .collect();
    table(&["", "APPLIED", "NOW", "ENDED", "ID", "WHAT"], &rows)
}

pub fn results(all: &[Gained], now: Timestamp, paint: Paint) -> String {
    if all.is_empty() {
        return "Nothing is applied, so there is nothing to measure.\n".into();
    }
    let mut out = String::new();
    for it in all {
        let verdict = it.outcome.verdict.words();
        let verdict = match it.outcome.verdict {
            Verdict::Gain => paint.good(verdict),
            Verdict::Worse => paint.bad(verdict),
            Verdict::NoChange | Verdict::TooEarly | Verdict::Unknown => verdict.to_owned(),
        };
        out.push_str(&format!("{} {}: {verdict}, applied {}\n", it.number, plain(&it.title), ago(it.applied_at, now)));
        for text in &it.outcome.lines {
            out.push_str(&format!("   {}\n", plain(text)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::super::ledger::State;
    use super::super::ledger::tests::record;
    use super::super::measure::Outcome;
    use super::*;
    use nexus_reporter::report::recommend::Kind;

    fn recommendation(called: &str) -> Recommendation {
        Recommendation {
            id: format!("reclaim/{called}"),
            kind: Kind::Reclaim,
            urgency: Urgency::Soon,
            project: None,
            service: None,
            title: format!("Remove {called}"),
            evidence: vec![format!("{called} one"), "two".into()],
            gain: "space".into(),
            gain_bytes: None,
            check: Some("docker image ls".into()),
            compose: None,
            commands: vec!["docker image prune".into()],
            changes: Vec::new(),
        }
    }

    fn one(called: &str, why_not: Option<&str>) -> Overview {
        let shown = Shown {
            recommendation: recommendation(called),
            why_not: why_not.map(str::to_owned),
            place: Some("/p/compose.override.yml (new)".into()),
            lines: vec!["+ services:".into(), "- x".into()],
            notes: vec!["recreates web".into()],
        };
        Overview { shown: vec![shown], more: 2, applied: vec!["a".into()], missing: vec!["exporter: away".into()] }
    }

    #[test]
    fn what_is_safe_is_shown_with_its_lines_and_its_command() {
        assert_eq!(
            overview(&one("images", None), Paint::NONE),
            "1. Remove images (pays soon)\n   since   images one\n           two\n   gain    space\n   \
             change  /p/compose.override.yml (new)\n           + services:\n           - x\n   note    recreates web\n   \
             apply   ./nexus tune apply reclaim/images\n\n2 more: ./nexus tune --all\n\
             Applied lately: a. What it brought: ./nexus tune result\nNot known: exporter: away\n"
        );
    }

    #[test]
    fn what_is_not_is_shown_with_the_reason_and_the_commands() {
        let text = overview(&one("images", Some("only you can do this")), Paint::NONE);
        assert!(
            text.contains(
                "   by hand only you can do this\n   check   docker image ls\n   run     docker image prune\n"
            ),
            "{text}"
        );
        assert!(!text.contains("apply  "), "{text}");
    }

    #[test]
    fn names_play_no_tricks() {
        let text = overview(&one("\u{1b}[2Jx\ny\u{202e}", None), Paint::NONE);
        assert!(!text.contains('\u{1b}') && !text.contains('\u{202e}'), "{text:?}");
        assert_eq!(text.lines().count(), 13, "{text}");
        let mut ledger = Ledger { records: vec![record(1, State::Undone)] };
        ledger.records[0].title = "\u{1b}x".into();
        assert!(!history(&ledger).contains('\u{1b}'));
        assert_eq!(history(&Ledger::default()), "Nothing was applied yet.\n");
    }

    #[test]
    fn results_name_the_verdict() {
        let outcome = Outcome { verdict: Verdict::TooEarly, lines: vec!["web: limit none before, 64 MiB now".into()] };
        let gained = Gained {
            number: 7,
            id: "x".into(),
            title: "Give web a limit".into(),
            applied_at: Timestamp::UNIX_EPOCH,
            outcome,
        };
        let at = Timestamp::from_second(3600).unwrap();
        let text = results(&[gained], at, Paint::NONE);
        assert!(text.starts_with("7 Give web a limit: too early to tell, applied 60 min ago\n"), "{text}");
        assert!(text.ends_with("   web: limit none before, 64 MiB now\n"), "{text}");
        assert!(results(&[], at, Paint::NONE).starts_with("Nothing is applied"));
    }
}
