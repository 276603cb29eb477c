//! Names of metrics in PromQL, by a reading of its words that is just good enough for our own rules and dashboards.

use std::collections::BTreeSet;

/// Words of the language that can stand where a metric could.
const WORDS: [&str; 20] = [
    "and",
    "or",
    "unless",
    "by",
    "without",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "offset",
    "bool",
    "atan2",
    "inf",
    "nan",
    "start",
    "end",
    "sum",
    "count",
    "min",
    "max",
];
/// Words whose following parenthesis holds labels.
const BEFORE_LABELS: [&str; 6] = ["by", "without", "on", "ignoring", "group_left", "group_right"];

/// The metrics that an expression asks for.
pub fn metrics(expression: &str) -> BTreeSet<String> {
    let chars: Vec<char> = expression.chars().collect();
    let mut found = BTreeSet::new();
    let mut word_before = String::new();
    let mut at = 0;
    while at < chars.len() {
        let c = chars[at];
        match c {
            '#' => at = skip_to(&chars, at, '\n'),
            '"' | '\'' | '`' => at = string_end(&chars, at),
            '{' => at = closing(&chars, at, '}'),
            '[' => at = closing(&chars, at, ']'),
            '(' if BEFORE_LABELS.contains(&word_before.as_str()) => at = closing(&chars, at, ')'),
            c if c.is_ascii_digit() || c == '.' => {
                // Numbers and durations, `1e3` and `5m` alike.
                while at < chars.len() && (chars[at].is_ascii_alphanumeric() || chars[at] == '.') {
                    at += 1;
                }
                word_before.clear();
                continue;
            }
            c if c.is_ascii_alphabetic() || c == '_' || c == ':' => {
                let start = at;
                while at < chars.len() && (chars[at].is_ascii_alphanumeric() || "_:".contains(chars[at])) {
                    at += 1;
                }
                let word: String = chars[start..at].iter().collect();
                let next = chars[at..].iter().find(|c| !c.is_whitespace());
                let lower = word.to_ascii_lowercase();
                let is_call = next == Some(&'(') || WORDS.contains(&lower.as_str());
                // `sum by (x) (…)`: the aggregation's name is no metric either.
                let aggregates = chars[at..].iter().collect::<String>().trim_start().starts_with("by")
                    || chars[at..].iter().collect::<String>().trim_start().starts_with("without");
                if !is_call && !aggregates {
                    found.insert(word);
                }
                word_before = lower;
                continue;
            }
            _ => {}
        }
        if !c.is_whitespace() {
            word_before.clear();
        }
        at += 1;
    }
    found
}

fn skip_to(chars: &[char], from: usize, end: char) -> usize {
    chars[from..].iter().position(|c| *c == end).map_or(chars.len() - 1, |offset| from + offset)
}

/// The index of the closing quote.
fn string_end(chars: &[char], from: usize) -> usize {
    let quote = chars[from];
    let mut at = from + 1;
    while at < chars.len() && chars[at] != quote {
        at += if chars[at] == '\\' && quote != '`' { 2 } else { 1 };
    }
    at.min(chars.len() - 1)
}

/// The index of the closing bracket; strings inside are skipped.
fn closing(chars: &[char], from: usize, end: char) -> usize {
    let mut at = from + 1;
    while at < chars.len() && chars[at] != end {
        at = if "\"'`".contains(chars[at]) { string_end(chars, at) + 1 } else { at + 1 };
    }
    at.min(chars.len() - 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_found() {
        let check = |expression: &str, expected: &[&str]| {
            assert_eq!(metrics(expression).into_iter().collect::<Vec<_>>(), expected, "{expression}");
        };
        check("up == 0", &["up"]);
        check(
            "max by (host, project) (docker_container_health{health=\"unhealthy\"} == 1 and on (host, id) x{a=~\"b|c\"})",
            &["docker_container_health", "x"],
        );
        check("1 - avg without(cpu) (rate(node_cpu_seconds_total{mode=\"idle\"}[5m]))", &["node_cpu_seconds_total"]);
        check("a / on (h) group_left (b) c offset 5m # d\n> bool 1e3", &["a", "c"]);
        check("vector(1)", &[]);
        check("sum(x) by (y)", &["x"]);
        check(
            "predict_linear(node_filesystem_avail_bytes{x=\"a}b\"}[6h], 24 * 3600) < 0",
            &["node_filesystem_avail_bytes"],
        );
        check("label_replace(a, \"x\", \"$1\", \"y\", \"(b)\")", &["a"]);
    }
}
