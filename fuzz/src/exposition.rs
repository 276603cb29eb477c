//! Reads an exposition as strictly as the formats' descriptions are.

use std::collections::HashSet;

use nexus_exporter::exposition::Format;

/// The family whose samples may come now.
struct Open<'a> {
    name: &'a str,
    kind: Option<&'a str>,
    samples: usize,
}

/// How many samples there are, or the first mistake.
pub fn check(body: &str, format: Format) -> Result<usize, String> {
    let is_openmetrics = format == Format::OpenMetrics;
    let mut lines = body.split('\n').collect::<Vec<_>>();
    if lines.pop() != Some("") {
        return Err("the last line does not end".to_owned());
    }
    if is_openmetrics && lines.pop() != Some("# EOF") {
        return Err("no # EOF at the end".to_owned());
    }
    let mut declared = HashSet::new();
    let mut series = HashSet::new();
    let mut open: Option<Open<'_>> = None;
    for line in lines {
        let wrong = |what: &str| Err(format!("{what}: {line:?}"));
        if let Some(rest) = line.strip_prefix("# ") {
            let Some((keyword, rest)) = rest.split_once(' ') else { return wrong("a comment of no meaning") };
            let Some((name, rest)) = rest.split_once(' ') else { return wrong("nothing is said of the family") };
            match keyword {
                "HELP" => {
                    if open.is_some_and(|family| family.samples == 0) {
                        return wrong("the family before has no sample");
                    }
                    if !is_name(name, true) || !declared.insert(name) {
                        return wrong("no name, or declared before");
                    }
                    unescape(rest, is_openmetrics).map_err(|what| format!("{what}: {line:?}"))?;
                    open = Some(Open { name, kind: None, samples: 0 });
                }
                "TYPE" => match &mut open {
                    Some(family) if family.name == name && family.kind.is_none() => {
                        let last = if is_openmetrics { "unknown" } else { "untyped" };
                        if !["counter", "gauge", "histogram", "summary", last].contains(&rest) {
                            return wrong("no type");
                        }
                        family.kind = Some(rest);
                    }
                    _ => return wrong("a type of another family"),
                },
                "UNIT" if is_openmetrics => match &open {
                    Some(family) if family.name == name && family.samples == 0 => {
                        if !name.strip_suffix(rest).is_some_and(|rest| rest.ends_with('_')) {
                            return wrong("a unit that is not in the name");
                        }
                    }
                    _ => return wrong("a unit of another family"),
                },
                _ => return wrong("a comment of no meaning"),
            }
            continue;
        }
        let Some(family) = &mut open else { return wrong("no family is declared") };
        let Some(kind) = family.kind else { return wrong("no type is declared") };
        let (name, labels, value) = sample(line).map_err(|what| format!("{what}: {line:?}"))?;
        let Some(suffix) = name.strip_prefix(family.name) else { return wrong("a sample of another family") };
        let has = |name: &str| labels.iter().any(|(label, _)| label == name);
        let fits = match (kind, suffix) {
            ("counter", "_total") => is_openmetrics,
            ("counter", "") => !is_openmetrics,
            ("histogram", "_bucket") => has("le"),
            ("histogram" | "summary", "_sum" | "_count") => true,
            ("summary", "") => has("quantile"),
            ("gauge" | "untyped" | "unknown", "") => true,
            _ => false,
        };
        if !fits {
            return wrong("no sample of such a family");
        }
        if is_openmetrics && kind == "counter" && (value.is_nan() || value < 0.0) {
            return wrong("a counter that is not a number from 0 on");
        }
        // To Prometheus an empty label is none.
        let mut labels: Vec<_> = labels.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        labels.sort();
        if !series.insert((name, labels)) {
            return wrong("the series was there before");
        }
        family.samples += 1;
    }
    if open.is_some_and(|family| family.samples == 0) {
        return Err("the last family has no sample".to_owned());
    }
    Ok(series.len())
}

fn is_name(text: &str, may_have_colons: bool) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte == b':' && may_have_colons;
    text.bytes().all(fits) && text.starts_with(|c: char| !c.is_ascii_digit())
}

type Labels = Vec<(String, String)>;

fn sample(line: &str) -> Result<(&str, Labels, f64), &'static str> {
    let end = line.find(['{', ' ']).ok_or("no value")?;
    let (name, mut rest) = line.split_at(end);
    if !is_name(name, true) {
        return Err("no name");
    }
    let mut labels = Labels::new();
    if let Some(mut inner) = rest.strip_prefix('{') {
        loop {
            let (label, after) = inner.split_once("=\"").ok_or("no label")?;
            if !is_name(label, false) || labels.iter().any(|(known, _)| known == label) {
                return Err("a label that is none, or twice");
            }
            let end = end_of_quoted(after).ok_or("a value that does not end")?;
            labels.push((label.to_owned(), unescape(&after[..end], true)?));
            let after = &after[end + 1..];
            if let Some(after) = after.strip_prefix('}') {
                rest = after;
                break;
            }
            inner = after.strip_prefix(',').ok_or("neither a label nor the end of them")?;
        }
    }
    let value = rest.strip_prefix(' ').ok_or("no space before the value")?;
    let value = match value {
        "NaN" => f64::NAN,
        "+Inf" => f64::INFINITY,
        "-Inf" => f64::NEG_INFINITY,
        text if text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte)) => {
            text.parse().map_err(|_| "no number")?
        }
        _ => return Err("no number"),
    };
    Ok((name, labels, value))
}

fn end_of_quoted(text: &str) -> Option<usize> {
    let mut is_escaped = false;
    text.bytes().position(|byte| {
        let is_end = byte == b'"' && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    })
}

fn unescape(text: &str, with_quotes: bool) -> Result<String, &'static str> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => out.push('\\'),
                Some('n') => out.push('\n'),
                Some('"') if with_quotes => out.push('"'),
                _ => return Err("an escape that there is not"),
            },
            '"' if with_quotes => return Err("a quote that is not escaped"),
            '\0' | '\n' => return Err("a character that ends the reading"),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_right_is_counted() {
        let text = "# HELP a_total A \"b\" \\\\ \\n.\n# TYPE a_total counter\na_total{x=\"\\\"\\\\\\n,}\",y=\"\"} 1\na_total 2.5e-7\n\
            # HELP h H.\n# TYPE h histogram\nh_bucket{le=\"+Inf\"} 1\nh_sum NaN\nh_count 1\n";
        assert_eq!(check(text, Format::Text), Ok(5));
        let text = "# HELP a_bytes A.\n# TYPE a_bytes counter\n# UNIT a_bytes bytes\na_bytes_total 1\n# EOF\n";
        assert_eq!(check(text, Format::OpenMetrics), Ok(1));
        assert_eq!(check("", Format::Text), Ok(0));
        assert_eq!(check("# EOF\n", Format::OpenMetrics), Ok(0));
    }

    #[test]
    fn mistakes_are_found() {
        let head = "# HELP a A.\n# TYPE a gauge\n";
        let of_text = [
            "a 1\n",
            "a",
            "a 1 2\n",
            "a  1\n",
            "a one\n",
            "a inf\n",
            "b 1\n",
            "a_total 1\n",
            "a{} 1\n",
            "a{x=1} 1\n",
            "a{x=\"1\",x=\"2\"} 1\n",
            "a{x=\"1\"y=\"2\"} 1\n",
            "a{x=\"1\",} 1\n",
            "a{x=\"\\t\"} 1\n",
            "a{1x=\"\"} 1\n",
            "a 1\na 1\n",
            "a 1\na{x=\"\"} 1\n",
            "a{x=\"1\",y=\"2\"} 1\na{y=\"2\",x=\"1\"} 1\n",
            "a 1\n# HELP a A.\n# TYPE a gauge\na{x=\"1\"} 1\n",
            "# HELP b B.\n# TYPE b gauge\nb 1\n",
            "a 1\n# HELP b B.\n",
            "a 1\n# HELP b B.\nb 1\n",
            "a 1\n# note\n",
            "a 1\n# EOF\n",
        ];
        for (at, body) in of_text.into_iter().enumerate() {
            let body = if at == 0 { body.to_owned() } else { format!("{head}{body}") };
            assert!(check(&body, Format::Text).is_err(), "{body}");
        }
        let of_openmetrics = [
            "# HELP a A.\n# TYPE a gauge\na 1\n",
            "# HELP a A.\n# TYPE a counter\na 1\n# EOF\n",
            "# HELP a A.\n# TYPE a counter\na_total -1\n# EOF\n",
            "# HELP a A.\n# TYPE a counter\na_total NaN\n# EOF\n",
            "# HELP a A.\n# TYPE a untyped\na 1\n# EOF\n",
            "# HELP a A.\n# TYPE a gauge\n# UNIT a bytes\na 1\n# EOF\n",
            "# HELP a \"A\".\n# TYPE a gauge\na 1\n# EOF\n",
        ];
        for body in of_openmetrics {
            assert!(check(body, Format::OpenMetrics).is_err(), "{body}");
        }
    }
}
