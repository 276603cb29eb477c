//! Capacity for people: plain text and Markdown. Pure.

use std::fmt::Write as _;

use nexus_model::plain::plain;

use crate::capacity::carry::{FEWEST_LOAD_DAYS, MOST_SERVICES};
use crate::capacity::{Answer, Capacity, Carries, Load, Outlook, Resource};
use crate::render::markdown::escape as markdown;
use crate::report::format::{bytes, count, percent};

/// For a terminal.
pub fn text(capacity: &Capacity) -> String {
    let mut out = format!("Capacity of {}: {}\n", plain(&capacity.host), history(capacity));
    if !capacity.outlooks.is_empty() {
        out.push_str("\nWhen it runs out\n");
        let rows: Vec<[String; 3]> = capacity.outlooks.iter().map(|outlook| row(outlook, plain)).collect();
        let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
        let (name, level) = (width(0), width(1));
        for [a, b, c] in &rows {
            _ = writeln!(out, "  {a:name$}  {b:level$}  {c}");
        }
    }
    let Some(load) = &capacity.load else { return out };
    _ = writeln!(out, "\nMore services like {}{}", present(load), each(capacity));
    if let Some(guess) = guess(capacity) {
        _ = writeln!(out, "  {guess}");
    }
    let width = capacity.carries.iter().map(|carries| carries.machine.title.chars().count()).max().unwrap_or_default();
    let names = capacity.carries.iter().map(|carries| carries.machine.name.len()).max().unwrap_or_default();
    for carries in &capacity.carries {
        let [uses, verdict] = verdict(carries, load.is_guess());
        _ = writeln!(out, "  {:names$}  {:width$}  {uses}; {verdict}", carries.machine.name, carries.machine.title);
    }
    if let Some(minimum) = &capacity.minimum {
        let machine = minimum.machine.as_ref().map_or_else(
            || "more than any machine by name has".to_owned(),
            |machine| format!("{} ({})", machine.title, machine.name),
        );
        _ = writeln!(out, "\nThe least for the present load: {machine}");
        for reason in &minimum.reasons {
            _ = writeln!(out, "  {reason}");
        }
    }
    out.push_str(&speed(capacity));
    out
}

/// For a document.
pub fn markdown_page(capacity: &Capacity) -> String {
    let mut out = format!("# Capacity of {}\n\n{}.\n", markdown(&capacity.host), history(capacity));
    if !capacity.outlooks.is_empty() {
        out.push_str("\n## When it runs out\n\n| Resource | Used | Outlook |\n|---|---|---|\n");
        for outlook in &capacity.outlooks {
            _ = writeln!(out, "| {} |", row(outlook, markdown).join(" | "));
        }
    }
    let Some(load) = &capacity.load else { return out };
    _ = writeln!(out, "\n## More services like {}{}\n", present(load), each(capacity));
    if let Some(guess) = guess(capacity) {
        _ = writeln!(out, "{guess}.\n");
    }
    out.push_str("| Machine | The present load takes | More services |\n|---|---|---|\n");
    for carries in &capacity.carries {
        let [uses, verdict] = verdict(carries, load.is_guess());
        _ = writeln!(out, "| {} | {uses} | {verdict} |", markdown(&carries.machine.title));
    }
    if let Some(minimum) = &capacity.minimum {
        out.push_str("\n## The least for the present load\n\n");
        if let Some(machine) = &minimum.machine {
            _ = writeln!(out, "- {}", markdown(&machine.title));
        }
        for reason in &minimum.reasons {
            _ = writeln!(out, "- {}", markdown(reason));
        }
    }
    out.push_str(&speed(capacity));
    out
}

fn history(capacity: &Capacity) -> String {
    match capacity.last_day {
        Some(last) => format!("{} of history, the last {last}", count(capacity.days, "day")),
        None if capacity.load.is_some() => "less than a day of history".to_owned(),
        None => "nothing is recorded yet".to_owned(),
    }
}

fn amount(resource: Resource, value: f64) -> String {
    match resource {
        Resource::Cpu => format!("{value:.1}"),
        Resource::Memory | Resource::Disk => bytes(value),
    }
}

fn row(outlook: &Outlook, safe: fn(&str) -> String) -> [String; 3] {
    let name = match &outlook.subject {
        Some(subject) => format!("{} {}", outlook.resource.name(), safe(subject)),
        None => outlook.resource.name().to_owned(),
    };
    let total = amount(outlook.resource, outlook.total);
    let (of, when) = match outlook.resource {
        Resource::Cpu => (format!("{total} processors"), " in busy hours"),
        Resource::Memory => (total, " in busy hours"),
        Resource::Disk => (total, ""),
    };
    let level = outlook
        .used
        .map_or_else(|| format!("of {of}"), |used| format!("{} of {of}{when}", percent(used / outlook.total)));
    [name, level, said(outlook)]
}

/// Level and answer in one line, for who is told of nothing else.
pub fn in_words(outlook: &Outlook) -> String {
    let [_, level, said] = row(outlook, plain);
    format!("{level}; {said}")
}

/// The answer in words: `runs out on 2027-03-02 (80 %: 2027-02-10 to 2027-04-01), grows by 41 MiB a day`.
pub fn said(outlook: &Outlook) -> String {
    let a_day = |per_day: f64| match outlook.resource {
        Resource::Cpu => format!("{:.2} processors a month", per_day.abs() * 30.0),
        Resource::Memory | Resource::Disk => format!("{} a day", bytes(per_day.abs())),
    };
    match &outlook.answer {
        Answer::TooLittleHistory { days: 1, needed } => format!("1 day is too little for a trend: it takes {needed}"),
        Answer::TooLittleHistory { days, needed } => format!("{days} days are too few for a trend: it takes {needed}"),
        Answer::Reached => "has run out".to_owned(),
        Answer::NoTrend => "no trend".to_owned(),
        Answer::Falling { per_day } => format!("falls by {}", a_day(*per_day)),
        Answer::NotWithin { years, per_day } => format!("not within {years} years, grows by {}", a_day(*per_day)),
        Answer::RunsOut { on, interval_percent, earliest, latest, per_day } => {
            let until = latest.map_or_else(|| "or later".to_owned(), |latest| format!("to {latest}"));
            let grows = a_day(*per_day);
            format!("runs out on {on} ({interval_percent} %: {earliest} {until}), grows by {grows}")
        }
    }
}

/// Why nothing of it is sure yet.
fn guess(capacity: &Capacity) -> Option<String> {
    let load = capacity.load.as_ref().filter(|load| load.is_guess())?;
    let known = match load.days {
        0 => "less than a day of history".to_owned(),
        days => format!("{} of history", count(days, "day")),
    };
    Some(format!("a first guess: {known}, and the least machine is told after {FEWEST_LOAD_DAYS}"))
}

fn present(load: &Load) -> String {
    match load.services {
        1 => "the one that runs here".to_owned(),
        services => format!("the {services} that run here"),
    }
}

fn each(capacity: &Capacity) -> String {
    let Some(load) = &capacity.load else { return String::new() };
    let each = load.per_service;
    let parts: Vec<String> =
        [each.cpu_cores.map(|cores| format!("{} of a processor", percent(cores))), each.memory_bytes.map(bytes)]
            .into_iter()
            .flatten()
            .collect();
    if parts.is_empty() { String::new() } else { format!(", each {} in busy hours", parts.join(" and ")) }
}

/// How full it would be, and what else it would carry.
fn verdict(carries: &Carries, is_guess: bool) -> [String; 2] {
    let rooms: Vec<String> =
        carries.rooms.iter().map(|room| format!("{} {}", room.resource.name(), percent(room.used))).collect();
    let binds = carries.binds.map_or("nothing", Resource::name);
    let verdict = match (carries.fits, carries.more_services) {
        (false, _) => format!("too small: {binds}"),
        (true, None) => "fits".to_owned(),
        (true, Some(MOST_SERVICES)) => format!("{MOST_SERVICES} or more, then {binds}"),
        (true, Some(0)) => format!("no more, {binds} is short"),
        (true, Some(more)) => format!("{more} more, then {binds} is short"),
    };
    let perhaps = if is_guess { "perhaps " } else { "" };
    [rooms.join(", "), format!("{perhaps}{verdict}")]
}

fn speed(capacity: &Capacity) -> String {
    match capacity.speed_assumed {
        true => "\nWhat machine this is is not known: its processors are taken to be as fast as a Raspberry Pi 4's.\n"
            .to_owned(),
        false => String::new(),
    }
}
