//! Rules and routes in a time that runs faster. Pure.
//!
//! Every duration of a rule file (`for`, ranges, offsets) and of Alertmanager's routes is divided, and so are the few places
//! where a rule compares seconds as plain numbers. What is left as it is: thresholds, expressions, labels, texts, routes.

/// Keys of a line whose value is a duration.
const KEYS: [&str; 10] = [
    "for",
    "keep_firing_for",
    "interval",
    "group_wait",
    "group_interval",
    "repeat_interval",
    "scrape_interval",
    "scrape_timeout",
    "evaluation_interval",
    "refresh_interval",
];

/// A rule file or a configuration, so many times as fast.
pub fn faster(yaml: &str, factor: f64) -> String {
    let mut out = String::with_capacity(yaml.len());
    for line in yaml.lines() {
        out.push_str(&line_faster(line, factor));
        out.push('\n');
    }
    out
}

fn line_faster(line: &str, factor: f64) -> String {
    let trimmed = line.trim_start();
    // Texts for people speak of the real time.
    if trimmed.starts_with('#')
        || ["summary:", "description:", "action:", "message:"].iter().any(|key| trimmed.starts_with(key))
    {
        return line.to_owned();
    }
    let (key, value) = trimmed.trim_start_matches("- ").split_once(':').unwrap_or_default();
    if KEYS.contains(&key)
        && let Some(milliseconds) = milliseconds(value.trim())
    {
        let indent = &line[..line.len() - trimmed.len()];
        let dash = if trimmed.starts_with("- ") { "- " } else { "" };
        return format!("{indent}{dash}{key}: {}", shown(milliseconds / factor));
    }
    seconds_faster(&ranges_faster(line, factor), factor)
}

/// `[5m]`, `[1d:5m]` and `offset 1h`.
fn ranges_faster(line: &str, factor: f64) -> String {
    let mut out = String::new();
    let mut rest = line;
    loop {
        let range = rest.find('[').map(|at| (at, 1, ']'));
        let offset = rest.find("offset ").map(|at| (at, 7, ')'));
        let Some((at, length, _)) = [range, offset].into_iter().flatten().min_by_key(|(at, ..)| *at) else {
            out.push_str(rest);
            return out;
        };
        let (before, after) = rest.split_at(at + length);
        out.push_str(before);
        let end = after.find(|c: char| !c.is_ascii_alphanumeric()).unwrap_or(after.len());
        match milliseconds(&after[..end]) {
            Some(found) => out.push_str(&shown(found / factor)),
            None => out.push_str(&after[..end]),
        }
        rest = &after[end..];
        // The step of a subquery.
        if let Some(step) = rest.strip_prefix(':') {
            let end = step.find(']').unwrap_or(0);
            if let Some(found) = milliseconds(&step[..end]) {
                out.push(':');
                out.push_str(&shown(found / factor));
                rest = &step[end..];
            }
        }
    }
}

/// How far a line is drawn ahead is told in seconds.
fn seconds_faster(line: &str, factor: f64) -> String {
    let mut line = line.to_owned();
    for (from, seconds) in [(", 86400)", 86_400.0), (", 4 * 3600)", 4.0 * 3600.0)] {
        line = line.replace(from, &format!(", {})", seconds / factor));
    }
    line
}

/// `1h`, `15m`, `30s`, `0s`.
fn milliseconds(text: &str) -> Option<f64> {
    let unit = text.trim_start_matches(|c: char| c.is_ascii_digit());
    let number: f64 = text[..text.len() - unit.len()].parse().ok()?;
    let factor = match unit {
        "ms" => 1.0,
        "s" => 1e3,
        "m" => 60e3,
        "h" => 3_600e3,
        "d" => 86_400e3,
        _ => return None,
    };
    Some(number * factor)
}

fn shown(milliseconds: f64) -> String {
    format!("{}ms", milliseconds.round() as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_divided_and_nothing_else() {
        let check = |line: &str, expected: &str| assert_eq!(line_faster(line, 10.0), expected);
        check("        for: 10m", "        for: 60000ms");
        check("      - repeat_interval: 1h", "      - repeat_interval: 360000ms");
        check("      group_wait: 0s", "      group_wait: 0ms");
        check("  increase(x[15m]) >= 3", "  increase(x[90000ms]) >= 3");
        check("  sum_over_time(a:b:c[1d:5m]) > 72", "  sum_over_time(a:b:c[8640000ms:30000ms]) > 72");
        check("  unless x offset 1h) == 1", "  unless x offset 360000ms) == 1");
        check("  predict_linear(a[1h], 4 * 3600) < 0", "  predict_linear(a[360000ms], 1440) < 0");
        check("  x{a=~\"[0-9]\"} > 0.5", "  x{a=~\"[0-9]\"} > 0.5");
        check("          summary: down for: 5m [5m]", "          summary: down for: 5m [5m]");
        check("      receiver: healer", "      receiver: healer");
        check("      # for: 5m", "      # for: 5m");
    }
}
