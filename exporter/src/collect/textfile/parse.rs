//! The text format 0.0.4 as node_exporter takes it from files: what Prometheus's own Go parser refuses is refused here, and a
//! little more, since what is passed on must also hold in OpenMetrics.
//!
//! One mistake refuses the whole file. The last line must be complete, so that a file that is being written is not half read.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::exposition::Labels;
use crate::family::Kind;

/// A family of a file, with at least one series.
#[derive(Clone, Debug, PartialEq)]
pub struct TextFamily {
    pub name: String,
    pub kind: Kind,
    pub help: Option<String>,
    pub series: Vec<Series>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub identity: Identity,
    pub value: SeriesValue,
}

/// The same for the same labels in any order, and for others not but by a chance that nobody lives to see. An empty label is
/// none, as Prometheus sees it.
pub type Identity = u64;

#[derive(Clone, Debug, PartialEq)]
pub enum SeriesValue {
    Number(f64),
    /// Rare, so that it does not make all others as large.
    Distribution(Box<Distribution>),
}

/// Of a histogram or a summary.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Distribution {
    /// How many were at most so large, or how large the smallest part is. By size.
    pub steps: Vec<(f64, f64)>,
    pub sum: Option<f64>,
    pub count: Option<f64>,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {what}")]
pub struct Mistake {
    /// From 1.
    line: usize,
    what: String,
}

/// Of a file, and of all files together. A host has some hundred; each takes much more memory than its text.
pub const MOST_FAMILIES: usize = 2048;

pub fn parse(text: &str) -> Result<Vec<TextFamily>, Mistake> {
    let (whole, rest) = match text.rsplit_once('\n') {
        Some((whole, rest)) => (Some(whole), rest),
        None => (None, text),
    };
    let mut file = File::default();
    let mut lines = 0;
    for line in whole.into_iter().flat_map(|whole| whole.split('\n')) {
        lines += 1;
        file.line(line).map_err(|what| Mistake { line: lines, what })?;
    }
    if !skip_blanks(rest).is_empty() {
        return Err(Mistake { line: lines + 1, what: "the last line does not end".to_owned() });
    }
    file.finish().map_err(|what| Mistake { line: lines, what })
}

/// What has been read so far.
#[derive(Default)]
struct File {
    families: Vec<Growing>,
    by_name: HashMap<String, usize>,
}

struct Growing {
    family: TextFamily,
    /// By a type line, or by the first sample.
    has_kind: bool,
    /// The places of distributions, whose samples come on several lines.
    by_identity: HashMap<Identity, usize>,
}

/// What a sample's name says beyond its family's.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    Plain,
    Bucket,
    Sum,
    Count,
}

type Parsed<T> = Result<T, String>;

impl File {
    fn line(&mut self, line: &str) -> Parsed<()> {
        let line = skip_blanks(line);
        match line.strip_prefix('#') {
            Some(comment) => self.comment(skip_blanks(comment)),
            None if line.is_empty() => Ok(()),
            None => self.sample(line),
        }
    }

    fn comment(&mut self, comment: &str) -> Parsed<()> {
        let (keyword, rest) = token(comment);
        if !matches!(keyword, "HELP" | "TYPE") {
            return Ok(());
        }
        let (name, rest) = metric_name(skip_blanks(rest));
        if rest.is_empty() {
            return Ok(());
        }
        if name.is_empty() || !rest.starts_with(BLANKS) {
            return Err(format!("{keyword} of what is no metric name"));
        }
        let text = skip_blanks(rest);
        let (at, part) = self.family(name)?;
        if part != Part::Plain {
            return Err(format!("{keyword} of {name}, which is a part of {}", self.families[at].family.name));
        }
        let Growing { family, has_kind, .. } = &mut self.families[at];
        match keyword {
            _ if text.is_empty() => (),
            "HELP" if family.help.is_some() => return Err(format!("second HELP of {name}")),
            "HELP" => family.help = Some(unescape(text)?),
            _ if *has_kind => return Err(format!("second TYPE of {name}, or TYPE after its samples")),
            _ => {
                family.kind = kind(text).ok_or_else(|| format!("{text:?} is no type of the text format"))?;
                *has_kind = true;
            }
        }
        Ok(())
    }

    fn sample(&mut self, line: &str) -> Parsed<()> {
        let (name, rest) = metric_name(line);
        if name.is_empty() || !rest.starts_with(['{', ' ', '\t']) {
            return Err("no metric name, or no value after it".to_owned());
        }
        let (at, part) = self.family(name)?;
        let Growing { family, has_kind, by_identity } = &mut self.families[at];
        *has_kind = true;
        let special = match (family.kind, part) {
            (Kind::Histogram, Part::Bucket) => Some("le"),
            (Kind::Summary, Part::Plain) => Some("quantile"),
            _ => None,
        };
        let rest = skip_blanks(rest);
        let (mut pairs, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest).map_err(|what| format!("{name}: {what}"))?,
            None => (Vec::new(), rest),
        };
        let step = special.and_then(|special| pairs.iter().position(|(label, _)| *label == special));
        let step = step.map(|at| pairs.remove(at).1);
        let value = value(skip_blanks(rest))?;

        let block: Vec<(&str, &str)> = pairs.iter().map(|(name, value)| (*name, &**value)).collect();
        let labels = Labels::new(&block);
        let identity = identity(block);
        let is_distribution = match family.kind {
            Kind::Counter | Kind::Gauge | Kind::Untyped => {
                family.series.push(Series { labels, identity, value: SeriesValue::Number(value) });
                return Ok(());
            }
            Kind::Histogram => part != Part::Plain && (part == Part::Bucket) == step.is_some(),
            Kind::Summary => part != Part::Bucket && (part == Part::Plain) == step.is_some(),
        };
        if !is_distribution {
            return Err(format!("{name} is no sample that a {} has", family.kind.as_str()));
        }
        let place = *by_identity.entry(identity).or_insert_with(|| {
            let value = SeriesValue::Distribution(Box::default());
            family.series.push(Series { labels, identity, value });
            family.series.len() - 1
        });
        let SeriesValue::Distribution(distribution) = &mut family.series[place].value else { return Ok(()) };
        let Distribution { steps, sum, count } = &mut **distribution;
        let known = match part {
            Part::Sum => sum.replace(value).is_some(),
            Part::Count => count.replace(value).is_some(),
            Part::Plain | Part::Bucket => {
                let text = step.unwrap_or_default();
                let step = number(&text).filter(|step| !step.is_nan());
                let step = step.ok_or_else(|| format!("{name}: {text:?} is no number to compare with"))?;
                steps.push((step, value));
                false
            }
        };
        if known { Err(format!("{name}: twice the same sample")) } else { Ok(()) }
    }

    /// The place of the family that a name belongs to, which is made when there is none.
    fn family(&mut self, name: &str) -> Parsed<(usize, Part)> {
        if let Some(at) = self.by_name.get(name) {
            return Ok((*at, Part::Plain));
        }
        for (suffix, part) in [("_bucket", Part::Bucket), ("_sum", Part::Sum), ("_count", Part::Count)] {
            if let Some(base) = name.strip_suffix(suffix)
                && let Some(at) = self.by_name.get(base)
                && match self.families[*at].family.kind {
                    Kind::Histogram => true,
                    Kind::Summary => part != Part::Bucket,
                    Kind::Counter | Kind::Gauge | Kind::Untyped => false,
                }
            {
                return Ok((*at, part));
            }
        }
        let at = self.families.len();
        if at >= MOST_FAMILIES {
            return Err(format!("there are more than {MOST_FAMILIES} families"));
        }
        let family = TextFamily { name: name.to_owned(), kind: Kind::Untyped, help: None, series: Vec::new() };
        self.families.push(Growing { family, has_kind: false, by_identity: HashMap::new() });
        self.by_name.insert(name.to_owned(), at);
        Ok((at, Part::Plain))
    }

    fn finish(self) -> Parsed<Vec<TextFamily>> {
        let families = self.families.into_iter().map(|growing| growing.family);
        let mut families: Vec<TextFamily> = families.filter(|family| !family.series.is_empty()).collect();
        for family in &mut families {
            for series in &mut family.series {
                let SeriesValue::Distribution(distribution) = &mut series.value else { continue };
                let Distribution { steps, count, .. } = &mut **distribution;
                steps.sort_by(|a, b| a.0.total_cmp(&b.0));
                if steps.windows(2).any(|pair| pair[0].0 == pair[1].0) {
                    return Err(format!("{}: twice the same bucket or quantile", family.name));
                }
                if family.kind == Kind::Histogram {
                    // Each tells the other, and both formats want both.
                    match (steps.last().filter(|last| last.0 == f64::INFINITY).map(|last| last.1), *count) {
                        (None, None) => return Err(format!("{}: neither a last bucket nor a count", family.name)),
                        (None, Some(count)) => steps.push((f64::INFINITY, count)),
                        (Some(last), None) => *count = Some(last),
                        (Some(_), Some(_)) => (),
                    }
                }
            }
        }
        Ok(families)
    }
}

const BLANKS: [char; 2] = [' ', '\t'];

fn skip_blanks(text: &str) -> &str {
    text.trim_start_matches(BLANKS)
}

/// Up to the next blank, and what follows.
fn token(text: &str) -> (&str, &str) {
    text.split_at(text.find(BLANKS).unwrap_or(text.len()))
}

/// The leading name of a metric, or nothing, and what follows.
fn metric_name(text: &str) -> (&str, &str) {
    name(text, |c| c.is_ascii_alphabetic() || matches!(c, '_' | ':'))
}

fn name(text: &str, may_start: impl Fn(char) -> bool) -> (&str, &str) {
    let mut chars = text.char_indices();
    let end = match chars.next() {
        Some((_, first)) if may_start(first) => {
            chars.find(|(_, c)| !may_start(*c) && !c.is_ascii_digit()).map_or(text.len(), |(at, _)| at)
        }
        _ => 0,
    };
    text.split_at(end)
}

fn kind(text: &str) -> Option<Kind> {
    [Kind::Counter, Kind::Gauge, Kind::Untyped, Kind::Histogram, Kind::Summary]
        .into_iter()
        .find(|kind| kind.as_str().eq_ignore_ascii_case(text))
}

/// `\\`, `\n` and `\"` of a help text.
fn unescape(text: &str) -> Parsed<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        out.push(if c == '\\' { escaped(chars.next())? } else { c });
    }
    Ok(out)
}

fn escaped(c: Option<char>) -> Parsed<char> {
    match c {
        Some(c @ ('\\' | '"')) => Ok(c),
        Some('n') => Ok('\n'),
        Some(other) => Err(format!("unknown escape \\{}", other.escape_default())),
        None => Err("escape without a character".to_owned()),
    }
}

type Pairs<'t> = Vec<(&'t str, String)>;

/// Labels after the opening brace, and what follows the closing one.
fn labels(mut rest: &str) -> Parsed<(Pairs<'_>, &str)> {
    let mut pairs: Pairs<'_> = Vec::new();
    loop {
        rest = skip_blanks(rest);
        if let Some(rest) = rest.strip_prefix('}') {
            return Ok((pairs, rest));
        }
        let (label, after) = name(rest, |c| c.is_ascii_alphabetic() || c == '_');
        let quoted = skip_blanks(after).strip_prefix('=').and_then(|value| skip_blanks(value).strip_prefix('"'));
        let Some(quoted) = quoted.filter(|_| !label.is_empty()) else {
            return Err("labels that are not NAME=\"VALUE\"".to_owned());
        };
        if label.starts_with("__") {
            return Err(format!("label {label} is reserved"));
        }
        if pairs.iter().any(|(known, _)| *known == label) {
            return Err(format!("label {label} is there twice"));
        }
        let (value, after) = quoted_value(quoted)?;
        pairs.push((label, value));
        rest = skip_blanks(after);
        match rest.strip_prefix(',') {
            Some(after) => rest = after,
            None if rest.starts_with('}') => (),
            None => return Err(format!("label {label} is followed by neither a comma nor a brace")),
        }
    }
}

/// A value after its opening quote, and what follows the closing one.
fn quoted_value(text: &str) -> Parsed<(String, &str)> {
    let mut out = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '"' => return Ok((out, chars.as_str())),
            '\\' => out.push(escaped(chars.next())?),
            c => out.push(c),
        }
    }
    Err("a label's value does not end on its line".to_owned())
}

/// The value of a sample, after which the line must end.
fn value(text: &str) -> Parsed<f64> {
    let (word, rest) = token(text);
    let value = number(word).ok_or_else(|| format!("{word:?} is no number"))?;
    if rest.is_empty() {
        return Ok(value);
    }
    let time = skip_blanks(rest);
    match time.parse::<i64>() {
        Ok(_) => Err("a timestamp, which files can't have here".to_owned()),
        Err(_) => Err(format!("{time:?} after the value")),
    }
}

/// As Go reads numbers: no sign before NaN, nothing that is too large, no underscores.
fn number(text: &str) -> Option<f64> {
    let value: f64 = text.parse().ok()?;
    let has_sign = text.starts_with(['+', '-']);
    let is_spelt = text.trim_start_matches(['+', '-']).starts_with(['i', 'I']);
    let is_taken = if value.is_nan() { !has_sign } else { value.is_finite() || is_spelt };
    is_taken.then_some(value)
}

fn identity(mut pairs: Vec<(&str, &str)>) -> Identity {
    pairs.retain(|(_, value)| !value.is_empty());
    pairs.sort_unstable();
    let mut hasher = DefaultHasher::new();
    pairs.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn numbers(text: &str) -> Vec<(String, Kind, Vec<f64>)> {
        let number = |series: &Series| match series.value {
            SeriesValue::Number(number) => number,
            SeriesValue::Distribution(_) => panic!("{series:?}"),
        };
        let families = parse(text).unwrap().into_iter();
        families.map(|family| (family.name, family.kind, family.series.iter().map(number).collect())).collect()
    }

    #[test]
    fn families_are_put_together_wherever_their_samples_are() {
        let text = "\n  # a comment\n# HELP a_total Help \\\\ \\n \\\" text.\n# TYPE a_total counter\na_total 1\nb{x=\"1\"} 2\n\
            a_total{x=\"y\",} 3\n \t# TYPE c GAUGE\n# HELP nothing Without a sample.\nc 4\n#\n# HELP\n# TYPE c\n  ";
        let found = parse(text).unwrap();
        assert_eq!(found[0].help.as_deref(), Some("Help \\ \n \" text."));
        assert_eq!(
            numbers(text),
            [
                ("a_total".into(), Kind::Counter, vec![1.0, 3.0]),
                ("b".into(), Kind::Untyped, vec![2.0]),
                ("c".into(), Kind::Gauge, vec![4.0])
            ]
        );
        assert_eq!(parse(""), Ok(Vec::new()));
        assert_eq!(parse("\n"), Ok(Vec::new()));
    }

    #[test]
    fn numbers_are_those_of_go() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(number(text), expected, "{text}");
        check("1", Some(1.0));
        check("-1.5e-3", Some(-0.0015));
        check("+Inf", Some(f64::INFINITY));
        check("-inf", Some(f64::NEG_INFINITY));
        check("INFINITY", Some(f64::INFINITY));
        check(".5", Some(0.5));
        check("5.", Some(5.0));
        assert!(number("NaN").unwrap().is_nan() && number("nan").unwrap().is_nan());
        for wrong in ["", "+NaN", "1e999", "1_000", "0x1", "0x1p3", "1,5", "one", "1\r", "--1", "--inf"] {
            check(wrong, None);
        }
    }

    #[test]
    fn labels_in_all_their_spellings() {
        let check = |line: &str, expected: &[(&str, &str)]| {
            let found = parse(&format!("{line}\n")).unwrap();
            assert_eq!(found[0].series[0].labels, Labels::new(expected), "{line}");
        };
        check("a 1", &[]);
        check("a{} 1", &[]);
        check("a {}1", &[]);
        check("a{b=\"c\"} 1", &[("b", "c")]);
        check("a\t{ b = \"c\" , d=\"\", } 1", &[("b", "c"), ("d", "")]);
        check("a{b=\"\\\\ \\n \\\" } ä\"} 1", &[("b", "\\ \n \" } ä")]);
        check("a{le=\"1\",quantile=\"x\"} 1", &[("le", "1"), ("quantile", "x")]);
        let same = parse("a{b=\"1\",c=\"2\",d=\"\"} 1\na{c=\"2\",b=\"1\"} 1\n").unwrap();
        assert_eq!(same[0].series[0].identity, same[0].series[1].identity);
        let other = parse("a{b=\"1\",c=\"2\"} 1\na{b=\"1,c=1:2\"} 1\n").unwrap();
        assert_ne!(other[0].series[0].identity, other[0].series[1].identity);
    }

    fn distribution(steps: &[(f64, f64)], sum: Option<f64>, count: Option<f64>) -> SeriesValue {
        SeriesValue::Distribution(Box::new(Distribution { steps: steps.to_vec(), sum, count }))
    }

    #[test]
    fn histograms_and_summaries_come_on_several_lines() {
        let check = |text: &str, expected: &[SeriesValue]| {
            let found = parse(text).unwrap();
            assert_eq!(found.len(), 1, "{text}");
            let values: Vec<_> = found[0].series.iter().map(|series| series.value.clone()).collect();
            assert_eq!(values, expected, "{text}");
        };
        let infinite = f64::INFINITY;
        check(
            "# TYPE h histogram\nh_bucket{le=\"+Inf\",a=\"x\"} 3\nh_sum{a=\"x\"} 1.5\nh_bucket{a=\"x\",le=\"0.5\"} 2\nh_count{a=\"x\"} 3\n\
             h_bucket{le=\"1\"} 1\nh_count 4\n",
            &[
                distribution(&[(0.5, 2.0), (infinite, 3.0)], Some(1.5), Some(3.0)),
                distribution(&[(1.0, 1.0), (infinite, 4.0)], None, Some(4.0)),
            ],
        );
        check("# TYPE h histogram\nh_bucket{le=\"inf\"} 3\n", &[distribution(&[(infinite, 3.0)], None, Some(3.0))]);
        check(
            "# TYPE s summary\ns{quantile=\"0.9\"} NaN\ns{quantile=\"0.5\"} 1\ns_sum 2\ns_count 3\n"
                .replace("NaN", "9")
                .as_str(),
            &[distribution(&[(0.5, 1.0), (0.9, 9.0)], Some(2.0), Some(3.0))],
        );
        check("# TYPE s summary\ns_count 3\n", &[distribution(&[], None, Some(3.0))]);
        // Without the type they are names like any other.
        assert_eq!(parse("s_sum 1\ns_count 2\n").unwrap().len(), 2);
    }

    #[test]
    fn one_mistake_refuses_the_file_and_names_its_line() {
        let check = |text: &str, expected: &str| {
            let found = parse(text).expect_err(text).to_string();
            assert!(found.starts_with(expected), "{text}: {found}");
        };
        check("a 1\nb 2", "line 2: the last line does not end");
        check("# a comment", "line 1: the last line does not end");
        check("a 1\n\nb\n", "line 3: no metric name, or no value");
        check("9a 1\n", "line 1: no metric name");
        check("ä 1\n", "line 1: no metric name");
        check("a-b 1\n", "line 1: no metric name, or no value");
        check("{\"a.b\"} 1\n", "line 1: no metric name");
        check("a 1 2\n", "line 1: a timestamp");
        check("a 1 -2\n", "line 1: a timestamp");
        check("a 1 \n", "line 1: \"\" after the value");
        check("a 1 x\n", "line 1: \"x\" after the value");
        check("a 1\r\n", "line 1: \"1\\r\" is no number");
        check("a one\n", "line 1: \"one\" is no number");
        check("a{b=\"c\" 1\n", "line 1: a: label b is followed by neither");
        check("a{b=\"c\n", "line 1: a: a label's value does not end");
        check("a{b=c} 1\n", "line 1: a: labels that are not");
        check("a{,} 1\n", "line 1: a: labels that are not");
        check("a{=\"c\"} 1\n", "line 1: a: labels that are not");
        check("a{b=\"\\x\"} 1\n", "line 1: a: unknown escape \\x");
        check("a{b=\"1\",b=\"2\"} 1\n", "line 1: a: label b is there twice");
        check("a{__name__=\"b\"} 1\n", "line 1: a: label __name__ is reserved");
        check("# HELP a x\n# HELP a x\na 1\n", "line 2: second HELP of a");
        check("# HELP a \\x\n", "line 1: unknown escape");
        check("# HELP a \\\n", "line 1: escape without");
        check("# HELP 9 x\n", "line 1: HELP of what is no metric name");
        check("# TYPE a gauge\n# TYPE a gauge\n", "line 2: second TYPE of a");
        check("a 1\n# TYPE a gauge\n", "line 2: second TYPE of a");
        check("# TYPE a info\n", "line 1: \"info\" is no type");
        check("# TYPE a gauge \n", "line 1: \"gauge \" is no type");
        check("# TYPE h histogram\n# HELP h_sum x\n", "line 2: HELP of h_sum, which is a part of h");
        check("# TYPE h histogram\nh 1\n", "line 2: h is no sample that a histogram has");
        check("# TYPE h histogram\nh_bucket 1\n", "line 2: h_bucket is no sample");
        check("# TYPE h histogram\nh_bucket{le=\"x\"} 1\n", "line 2: h_bucket: \"x\" is no number");
        check("# TYPE h histogram\nh_bucket{le=\"NaN\"} 1\n", "line 2: h_bucket: \"NaN\" is no number");
        check("# TYPE h histogram\nh_bucket{le=\"1\"} 1\n", "line 2: h: neither a last bucket nor a count");
        check(
            "# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"1.0\"} 1\nh_count 1\n",
            "line 4: h: twice the same",
        );
        check("# TYPE h histogram\nh_count 1\nh_count 1\n", "line 3: h_count: twice the same sample");
        check("# TYPE s summary\ns 1\n", "line 2: s is no sample that a summary has");
    }

    #[test]
    fn families_are_bounded() {
        let text = |count: usize| (0..count).map(|at| format!("a{at} 1\n")).collect::<String>();
        assert_eq!(parse(&text(MOST_FAMILIES)).unwrap().len(), MOST_FAMILIES);
        let error = parse(&text(MOST_FAMILIES + 1)).unwrap_err().to_string();
        assert_eq!(error, "line 2049: there are more than 2048 families");
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>()) {
            _ = parse(&text);
            _ = parse(&format!("{text}\n"));
        }

        #[test]
        fn never_panics_near_the_format(lines in proptest::collection::vec(
            "(# (TYPE|HELP) )?(a|b|a_sum|a_count|a_bucket|ä)?(\\{((le|quantile|x)=\"[a0-9.\\\\\"]{0,4}\",?){0,3}\\}?)?[ \t]?(histogram|summary|gauge|[0-9.eInfNa+-]{0,5})",
            0..12
        )) {
            _ = parse(&(lines.join("\n") + "\n"));
        }
    }
}
