//! The colours of a panel change where an alert fires.

use std::collections::BTreeMap;

use nexus_e2e::dashboard;

use crate::{rules, sources};

#[test]
fn thresholds_are_those_of_the_alerts() {
    let alerts = alert_expressions();
    let mut wrong = Vec::new();
    let mut checked = 0;
    for (name, source) in sources() {
        for panel in source.rows.iter().flat_map(|row| &row.panels) {
            let columns =
                panel.columns.iter().map(|column| (column.unit.as_deref(), column.base.as_deref(), &column.steps));
            for (unit, base, steps) in columns.chain([(panel.unit.as_deref(), panel.base.as_deref(), &panel.steps)]) {
                let mut below = base.unwrap_or("green");
                for dashboard::Step(color, at, why) in steps {
                    let grows_worse = badness(color) > badness(below);
                    below = color;
                    // Prose says why it begins there; a single word is an alert. One that prose names is one too.
                    if why.contains(' ') {
                        let named = why.split(|letter: char| !letter.is_ascii_alphanumeric());
                        for word in named.filter(|word| looks_like_an_alert(word) && !alerts.contains_key(*word)) {
                            wrong.push(format!("{name} {:?}: there is no alert {word}", panel.title));
                        }
                        continue;
                    }
                    let number = if unit == Some("percent") { at / 100.0 } else { *at };
                    let Some(expressions) = alerts.get(why) else {
                        wrong.push(format!("{name} {:?}: there is no alert {why}", panel.title));
                        continue;
                    };
                    checked += 1;
                    let side = if grows_worse { '>' } else { '<' };
                    // What is asked for by `== 1` is a flag, and a flag has one threshold.
                    let is_flag = |way: char| way == '=' && steps.len() == 1 && number == 1.0;
                    let is_it = |(way, it): (char, f64)| (way == side || is_flag(way)) && (it - number).abs() < 1e-9;
                    if !expressions.iter().flat_map(|it| compared_with(it)).any(is_it) {
                        wrong
                            .push(format!("{name} {:?}: {color} from {at}, but {why} is {expressions:?}", panel.title));
                    }
                }
                // Grafana wants them in order.
                if !steps.is_sorted_by(|one, next| one.1 < next.1) {
                    wrong.push(format!("{name} {:?}: steps are not in order", panel.title));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(checked > 20, "only {checked} thresholds were compared with alerts");
}

/// An alert of the same name may stand in two files: for the healer and for people.
fn alert_expressions() -> BTreeMap<String, Vec<String>> {
    let mut found: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for rule in rules() {
        if let Some(alert) = rule.alert {
            found.entry(alert).or_default().push(rule.expr);
        }
    }
    found
}

/// How bad a colour is: a threshold that leads to a worse one is an alert's that fires above it, else one that fires below.
fn badness(color: &str) -> u8 {
    match color {
        "red" => 2,
        "orange" => 1,
        _ => 0,
    }
}

/// At least two words in one, like `DiskLow`.
fn looks_like_an_alert(word: &str) -> bool {
    let capitals = word.chars().filter(char::is_ascii_uppercase).count();
    capitals >= 2
        && word.starts_with(|letter: char| letter.is_ascii_uppercase())
        && word.chars().any(|letter| letter.is_ascii_lowercase())
}

/// Numbers that an expression wants something to be above, below or equal to, with which of the three.
fn compared_with(expression: &str) -> Vec<(char, f64)> {
    let number =
        |text: &str| text.trim_start_matches('=').split_whitespace().next()?.trim_end_matches(')').parse().ok();
    let sides = expression.match_indices(['<', '>']).map(|(at, side)| (at + 1, side));
    let sides = sides.chain(expression.match_indices("==").map(|(at, side)| (at + 2, side)));
    sides.filter_map(|(after, side)| Some((side.chars().next()?, number(&expression[after..])?))).collect()
}

#[test]
fn numbers_of_rules_are_found() {
    let found = compared_with("a > 0.90 and b{c=\"1\"} <= 50e9 or (d < bool 2) == 1 and e >= 3 != 4");
    assert_eq!(found, [('>', 0.9), ('<', 50e9), ('>', 3.0), ('=', 1.0)]);
}
