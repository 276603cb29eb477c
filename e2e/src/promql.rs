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

/// Each selector of an expression: the metric and what stands in its braces. One without a name has an empty one.
fn in_braces(expression: &str) -> Vec<(String, Vec<char>)> {
    let chars: Vec<char> = expression.chars().collect();
    let mut found = Vec::new();
    let mut word = String::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '"' | '\'' | '`' => at = string_end(&chars, at),
            '{' => {
                let end = closing(&chars, at, '}');
                found.push((std::mem::take(&mut word), chars[at + 1..end].to_vec()));
                at = end;
            }
            c if c.is_ascii_alphanumeric() || c == '_' || c == ':' => word.push(c),
            _ => word.clear(),
        }
        at += 1;
    }
    found
}

/// Each selector of an expression: the metric and the labels that it asks for.
pub fn selectors(expression: &str) -> Vec<(String, BTreeSet<String>)> {
    in_braces(expression).into_iter().map(|(metric, inside)| (metric, matched_labels(&inside))).collect()
}

/// The labels within the braces of a selector.
fn matched_labels(inside: &[char]) -> BTreeSet<String> {
    let mut labels = BTreeSet::new();
    let mut word = String::new();
    let mut at = 0;
    while at < inside.len() {
        match inside[at] {
            '"' | '\'' | '`' => at = string_end(inside, at),
            c if c.is_ascii_alphanumeric() || c == '_' => word.push(c),
            _ if !word.is_empty() => {
                labels.insert(std::mem::take(&mut word));
            }
            _ => {}
        }
        at += 1;
    }
    labels
}

/// Each value that a label is compared with, as metric, label and value; the words of `a|b` one by one. Left out are patterns, and what
/// Grafana fills in.
pub fn values(expression: &str) -> Vec<(String, String, String)> {
    let of = |(metric, inside): (String, Vec<char>)| {
        compared_labels(&inside).into_iter().map(move |(label, value)| (metric.clone(), label, value))
    };
    in_braces(expression).into_iter().flat_map(of).collect()
}

/// Labels and the words that they are compared with, within the braces of a selector.
fn compared_labels(inside: &[char]) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let (mut label, mut operator) = (String::new(), String::new());
    let mut at = 0;
    while at < inside.len() {
        match inside[at] {
            '"' | '\'' | '`' => {
                let end = string_end(inside, at);
                let value: String = inside[at + 1..end].iter().collect();
                let is_pattern = operator.ends_with('~');
                let words: Vec<&str> = if is_pattern { value.split('|').collect() } else { vec![&value] };
                let is_plain = |word: &&str| !is_pattern || !word.contains(|c: char| ".*+?[](){}^\\".contains(c));
                let words = words.into_iter().filter(is_plain).filter(|word| !word.is_empty() && !word.contains('$'));
                found.extend(words.map(|word| (label.clone(), word.to_owned())));
                (label, operator) = (String::new(), String::new());
                at = end;
            }
            c if c.is_ascii_alphanumeric() || c == '_' => label.push(c),
            c if "=!~".contains(c) => operator.push(c),
            _ => {}
        }
        at += 1;
    }
    found
}

/// Labels that an expression groups by, matches on or carries over.
pub fn grouping(expression: &str) -> BTreeSet<String> {
    let chars: Vec<char> = expression.chars().collect();
    let mut found = BTreeSet::new();
    let mut word = String::new();
    let mut at = 0;
    while at < chars.len() {
        match chars[at] {
            '"' | '\'' | '`' => at = string_end(&chars, at),
            '(' if BEFORE_LABELS.contains(&word.as_str()) => {
                let end = closing(&chars, at, ')');
                let inside: String = chars[at + 1..end].iter().collect();
                found.extend(inside.split(',').map(|label| label.trim().to_owned()).filter(|label| !label.is_empty()));
                at = end;
                word.clear();
            }
            c if c.is_ascii_alphanumeric() || c == '_' || c == ':' => word.push(c),
            // `by (x)`: the space between does not end the word.
            ' ' if chars.get(at + 1) == Some(&'(') => {}
            _ => word.clear(),
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

    #[test]
    fn compared_values_are_found() {
        let check = |expression: &str, expected: &[&str]| {
            let found =
                values(expression).into_iter().map(|(metric, label, value)| format!("{metric} {label} {value}"));
            assert_eq!(found.collect::<Vec<_>>(), expected, "{expression}");
        };
        check("up == 0 and label_replace(a, \"x\", \"y\", \"\", \"\")", &[]);
        check(
            "max(a{b=\"c\", d!='e f'}) / g:h{i=~\"j|k.*|l\",m!~`n`}",
            &["a b c", "a d e f", "g:h i j", "g:h i l", "g:h m n"],
        );
        check("a{host=~\"$host\", b=\"1.5\", c!=\"\", d=~\"e[1]\"}", &["a b 1.5"]);
    }

    #[test]
    fn selectors_and_labels_are_found() {
        let check = |expression: &str, expected: &str, grouped: &str| {
            let found = selectors(expression)
                .into_iter()
                .map(|(metric, labels)| format!("{metric}({})", labels.into_iter().collect::<Vec<_>>().join(",")));
            assert_eq!(found.collect::<Vec<_>>().join(" "), expected, "{expression}");
            assert_eq!(grouping(expression).into_iter().collect::<Vec<_>>().join(" "), grouped, "{expression}");
        };
        check("up == 0", "", "");
        check("max by (host, name) (a{b=\"c,d=1}\", e!~'f'} / on (id) g{})", "a(b,e) g()", "host id name");
        check("sum(rate(x:y{z=~\"$host\"}[5m])) by (q)", "x:y(z)", "q");
        check("{a=\"b\"} or c", "(a)", "");
    }
}
