//! Reading the exporter's text format (0.0.4), as far as it writes it: one sample a line, no timestamps.

use std::borrow::Cow;

/// One sample.
#[derive(Debug, PartialEq)]
pub struct Sample<'a> {
    pub name: &'a str,
    labels: Vec<(&'a str, Cow<'a, str>)>,
    pub value: f64,
}

impl Sample<'_> {
    /// Empty when there is no such label, as in Prometheus.
    pub fn label(&self, name: &str) -> &str {
        self.labels.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }

    /// The name with its labels, as Prometheus writes it.
    pub fn series(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|(key, value)| format!("{key}={value:?}")).collect();
        if labels.is_empty() { self.name.to_owned() } else { format!("{}{{{}}}", self.name, labels.join(",")) }
    }
}

/// The samples of the families that are wanted; the labels of others are not even looked at. What can't be understood is left
/// out, as is what is not a number.
pub fn samples<'a>(text: &'a str, wanted: fn(&str) -> bool) -> impl Iterator<Item = Sample<'a>> {
    text.lines().filter(|line| !line.starts_with('#')).filter_map(move |line| {
        let end = line.find(['{', ' '])?;
        let (name, rest) = line.split_at(end);
        wanted(name).then(|| sample(name, rest)).flatten()
    })
}

fn sample<'a>(name: &'a str, rest: &'a str) -> Option<Sample<'a>> {
    let mut labels = Vec::new();
    let mut rest = rest;
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            rest = rest.strip_prefix(',').unwrap_or(rest);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (key, after) = rest.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.push((key, value));
            rest = after;
        }
    }
    let value = rest.split_whitespace().next()?.parse::<f64>().ok().filter(|value| value.is_finite())?;
    Some(Sample { name, labels, value })
}

/// A value up to its closing quote, and what comes behind.
fn quoted(text: &str) -> Option<(Cow<'_, str>, &str)> {
    let end = text.find(['"', '\\'])?;
    if text.as_bytes().get(end) == Some(&b'"') {
        return Some((Cow::Borrowed(&text[..end]), &text[end + 1..]));
    }
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((Cow::Owned(value), &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                other => value.push(other),
            },
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_read_with_whatever_is_in_a_label() {
        let text = "# HELP a b\n# TYPE a gauge\na 1\nb{x=\"1\"} 2e3\n\
                    a{x=\"q\\\"\\\\\\n,}\",y=\"\"} -0.5\na{x=\"open} 1\na NaN\na{} 7\nabc 1\n";
        let found: Vec<Sample<'_>> = samples(text, |name| name == "a").collect();
        let values: Vec<f64> = found.iter().map(|sample| sample.value).collect();
        assert_eq!(values, [1.0, -0.5, 7.0]);
        assert_eq!(found[1].label("x"), "q\"\\\n,}");
        assert_eq!((found[1].label("y"), found[1].label("z")), ("", ""));
        assert_eq!(found.iter().map(Sample::series).collect::<Vec<_>>(), ["a", r#"a{x="q\"\\\n,}",y=""}"#, "a"]);
    }

    proptest::proptest! {
        #[test]
        fn any_label_comes_back(value in "\\PC*") {
            let escaped = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
            let text = format!("a{{k=\"{escaped}\"}} 1\n");
            let found: Vec<Sample<'_>> = samples(&text, |_| true).collect();
            proptest::prop_assert_eq!(found[0].label("k"), value);
        }

        #[test]
        fn nothing_makes_it_panic(text in "\\PC*") {
            samples(&text, |_| true).for_each(drop);
        }
    }
}
