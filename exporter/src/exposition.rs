//! The writer of the exposition: OpenMetrics 1.0 and Prometheus's text format 0.0.4.
//!
//! Ours, because the client libraries can't write 0.0.4 and OpenMetrics alike with the names that node_exporter has.
//! A family is declared when its first sample is written: one that has no sample does not appear at all, since what is
//! missing is never zero. All samples of a family must be written in one go.

use crate::family::{Family, Kind, unit};

/// How the exposition is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Format {
    /// `text/plain; version=0.0.4`
    Text,
    /// `application/openmetrics-text; version=1.0.0`
    OpenMetrics,
}

impl Format {
    pub fn content_type(self) -> &'static str {
        match self {
            Format::Text => "text/plain; version=0.0.4; charset=utf-8",
            Format::OpenMetrics => "application/openmetrics-text; version=1.0.0; charset=utf-8",
        }
    }
}

/// A sample's value. Integers stay exact beyond 2^53.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value {
    Unsigned(u64),
    Signed(i64),
    Float(f64),
    /// Written as seconds, with all its digits and without a detour by floating point, which costs ten times as much.
    Nanoseconds(u64),
}

impl From<u64> for Value {
    fn from(value: u64) -> Self {
        Value::Unsigned(value)
    }
}

impl From<u32> for Value {
    fn from(value: u32) -> Self {
        Value::Unsigned(u64::from(value))
    }
}

impl From<i64> for Value {
    fn from(value: i64) -> Self {
        Value::Signed(value)
    }
}

impl From<f64> for Value {
    fn from(value: f64) -> Self {
        Value::Float(value)
    }
}

impl From<bool> for Value {
    fn from(value: bool) -> Self {
        Value::Unsigned(u64::from(value))
    }
}

/// Label pairs, escaped once for the many samples that carry them. Both formats escape label values alike.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels {
    /// `{NAME="VALUE",…}`, empty without pairs.
    braced: String,
}

impl Labels {
    pub fn new(pairs: &[(&str, &str)]) -> Self {
        let mut braced = String::new();
        if !pairs.is_empty() {
            braced.push('{');
            push_pairs(&mut braced, pairs);
            braced.push('}');
        }
        // They are kept, some by the thousand.
        braced.shrink_to_fit();
        Labels { braced }
    }
}

/// The exposition while it is written.
#[derive(Debug)]
pub struct Exposition {
    format: Format,
    out: String,
}

impl Exposition {
    pub fn new(format: Format) -> Self {
        Exposition::reusing(format, String::new())
    }

    /// Writes into `out`, whose content is dropped. That of the last scrape has the right size.
    pub fn reusing(format: Format, mut out: String) -> Self {
        out.clear();
        // A host with a dozen containers takes about this much.
        out.reserve(64 * 1024);
        Exposition { format, out }
    }

    /// Opens a family for its samples.
    pub fn family<'a>(&'a mut self, family: &'a Family) -> FamilyWriter<'a> {
        self.named_family(family.name, family.kind, family.help)
    }

    /// Opens a family whose name is known only now. `name` must be a valid metric name.
    pub fn named_family<'a>(&'a mut self, name: &'a str, kind: Kind, help: &'a str) -> FamilyWriter<'a> {
        // OpenMetrics names a counter's family without the `_total` of its samples; a counter that has none in its name
        // could not be told from a gauge there, so it is declared unknown.
        let (declared, word) = match (self.format, kind, name.strip_suffix("_total")) {
            (Format::OpenMetrics, Kind::Counter, Some(base)) => (base, "counter"),
            (Format::OpenMetrics, Kind::Counter, None) | (Format::OpenMetrics, Kind::Untyped, _) => (name, "unknown"),
            _ => (name, kind.as_str()),
        };
        self.declared_as(name, declared, word, help)
    }

    /// As [`Exposition::named_family`], for a counter whose name without `_total` is another family's.
    pub fn counter_by_full_name<'a>(&'a mut self, name: &'a str, help: &'a str) -> FamilyWriter<'a> {
        let word = if self.format == Format::OpenMetrics { "unknown" } else { Kind::Counter.as_str() };
        self.declared_as(name, name, word, help)
    }

    fn declared_as<'a>(
        &'a mut self,
        name: &'a str,
        declared: &'a str,
        word: &'static str,
        help: &'a str,
    ) -> FamilyWriter<'a> {
        FamilyWriter { format: self.format, out: &mut self.out, name, declared, word, help, is_declared: false }
    }

    /// The whole body.
    pub fn finish(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.out.push_str("# EOF\n");
        }
        self.out
    }
}

/// Writes the samples of one family.
#[derive(Debug)]
pub struct FamilyWriter<'a> {
    format: Format,
    out: &'a mut String,
    name: &'a str,
    declared: &'a str,
    word: &'static str,
    help: &'a str,
    is_declared: bool,
}

impl FamilyWriter<'_> {
    /// A sample without labels.
    pub fn single(&mut self, value: impl Into<Value>) {
        self.sample(&[], value);
    }

    pub fn sample(&mut self, labels: &[(&str, &str)], value: impl Into<Value>) {
        self.line("", "", labels, value.into());
    }

    /// A sample with the labels of `block`, then those of `more`.
    pub fn sample_of(&mut self, block: &Labels, more: &[(&str, &str)], value: impl Into<Value>) {
        self.line("", &block.braced, more, value.into());
    }

    /// A sample of a histogram or a summary, with what its name has behind the family's.
    pub fn part(&mut self, suffix: &str, block: &Labels, more: &[(&str, &str)], value: impl Into<Value>) {
        self.line(suffix, &block.braced, more, value.into());
    }

    fn line(&mut self, suffix: &str, block: &str, more: &[(&str, &str)], value: Value) {
        if !self.is_declared {
            self.is_declared = true;
            self.declare();
        }
        let out = &mut *self.out;
        out.push_str(self.name);
        out.push_str(suffix);
        if more.is_empty() {
            out.push_str(block);
        } else {
            match block.strip_suffix('}') {
                Some(pairs) => {
                    out.push_str(pairs);
                    out.push(',');
                }
                None => out.push('{'),
            }
            push_pairs(out, more);
            out.push('}');
        }
        out.push(' ');
        push_value(out, value);
        out.push('\n');
    }

    fn declare(&mut self) {
        let is_open = self.format == Format::OpenMetrics;
        let (out, declared) = (&mut *self.out, self.declared);
        for part in ["# HELP ", declared, " "] {
            out.push_str(part);
        }
        push_escaped(out, self.help, is_open);
        for part in ["\n# TYPE ", declared, " ", self.word, "\n"] {
            out.push_str(part);
        }
        if is_open && let Some(unit) = unit(declared) {
            for part in ["# UNIT ", declared, " ", unit, "\n"] {
                out.push_str(part);
            }
        }
    }
}

fn push_pairs(out: &mut String, pairs: &[(&str, &str)]) {
    for (at, (name, value)) in pairs.iter().enumerate() {
        if at > 0 {
            out.push(',');
        }
        out.push_str(name);
        out.push_str("=\"");
        push_escaped(out, value, true);
        out.push('"');
    }
}

fn push_value(out: &mut String, value: Value) {
    match value {
        Value::Unsigned(value) => out.push_str(itoa::Buffer::new().format(value)),
        Value::Signed(value) => out.push_str(itoa::Buffer::new().format(value)),
        Value::Nanoseconds(value) => push_seconds(out, value),
        Value::Float(value) => push_float(out, value),
    }
}

fn push_seconds(out: &mut String, nanoseconds: u64) {
    const BILLION: u64 = 1_000_000_000;
    out.push_str(itoa::Buffer::new().format(nanoseconds / BILLION));
    let mut rest = nanoseconds % BILLION;
    if rest == 0 {
        return;
    }
    out.push('.');
    let mut digits = 9;
    while rest.is_multiple_of(10) {
        rest /= 10;
        digits -= 1;
    }
    let mut buffer = itoa::Buffer::new();
    let rest = buffer.format(rest);
    out.push_str(&"000000000"[..digits - rest.len()]);
    out.push_str(rest);
}

fn push_float(out: &mut String, value: f64) {
    use std::fmt::Write as _;
    /// Up to it each whole number has a value of its own.
    const EXACT: f64 = (1u64 << 53) as f64;
    if value.fract() == 0.0 && value.abs() < EXACT {
        return out.push_str(itoa::Buffer::new().format(value as i64));
    }
    _ = match value {
        f64::INFINITY => write!(out, "+Inf"),
        f64::NEG_INFINITY => write!(out, "-Inf"),
        // Rust writes `NaN` as the formats want it, and every other number in full with the fewest digits that read back
        // as the same number.
        value => write!(out, "{value}"),
    };
}

/// `\` and line feed are escaped everywhere, `"` in label values and in OpenMetrics' help. NUL would end Prometheus's
/// reading, so it is replaced.
fn push_escaped(out: &mut String, text: &str, quotes: bool) {
    let needs_care = |byte: u8| matches!(byte, b'\\' | b'\n' | b'\0') || byte == b'"' && quotes;
    let mut rest = text;
    while let Some(at) = rest.bytes().position(needs_care) {
        out.push_str(&rest[..at]);
        out.push_str(match rest.as_bytes()[at] {
            b'\\' => r"\\",
            b'\n' => r"\n",
            b'"' => "\\\"",
            _ => "\u{FFFD}",
        });
        rest = &rest[at + 1..];
    }
    out.push_str(rest);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const READS: Family = Family {
        name: "node_disk_read_bytes_total",
        kind: Kind::Counter,
        help: "Bytes \"read\" \\ \n so far.",
        labels: &["device"],
        source: "",
    };
    const LOAD: Family =
        Family { name: "node_load1", kind: Kind::Gauge, help: "1m load average.", labels: &[], source: "" };

    fn written(format: Format, fill: impl FnOnce(&mut Exposition)) -> String {
        let mut exposition = Exposition::new(format);
        fill(&mut exposition);
        exposition.finish()
    }

    fn fill(exposition: &mut Exposition) {
        let mut family = exposition.family(&READS);
        family.sample(&[("device", "sda")], 1u64 << 60);
        family.sample_of(&Labels::new(&[("device", "a\"b\\c\nd\0")]), &[("more", "x")], 0.5);
        exposition.family(&LOAD).single(1.0);
    }

    #[test]
    fn text_declares_a_counter_by_its_full_name() {
        let expected = "# HELP node_disk_read_bytes_total Bytes \"read\" \\\\ \\n so far.\n\
            # TYPE node_disk_read_bytes_total counter\n\
            node_disk_read_bytes_total{device=\"sda\"} 1152921504606846976\n\
            node_disk_read_bytes_total{device=\"a\\\"b\\\\c\\nd\u{FFFD}\",more=\"x\"} 0.5\n\
            # HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 1\n";
        assert_eq!(written(Format::Text, fill), expected);
    }

    #[test]
    fn openmetrics_declares_a_counter_without_total_and_ends() {
        let expected = "# HELP node_disk_read_bytes Bytes \\\"read\\\" \\\\ \\n so far.\n\
            # TYPE node_disk_read_bytes counter\n# UNIT node_disk_read_bytes bytes\n\
            node_disk_read_bytes_total{device=\"sda\"} 1152921504606846976\n\
            node_disk_read_bytes_total{device=\"a\\\"b\\\\c\\nd\u{FFFD}\",more=\"x\"} 0.5\n\
            # HELP node_load1 1m load average.\n# TYPE node_load1 gauge\nnode_load1 1\n# EOF\n";
        assert_eq!(written(Format::OpenMetrics, fill), expected);
    }

    #[test]
    fn a_counter_without_total_is_unknown_to_openmetrics() {
        let body = written(Format::OpenMetrics, |out| out.named_family("failcnt", Kind::Counter, "x").single(1u64));
        assert!(body.contains("# TYPE failcnt unknown\nfailcnt 1\n"), "{body}");
        let body = written(Format::Text, |out| out.named_family("failcnt", Kind::Counter, "x").single(1u64));
        assert!(body.contains("# TYPE failcnt counter\nfailcnt 1\n"), "{body}");
    }

    #[test]
    fn a_family_without_samples_does_not_appear() {
        assert_eq!(written(Format::Text, |out| _ = out.family(&LOAD)), "");
        assert_eq!(written(Format::OpenMetrics, |out| _ = out.family(&LOAD)), "# EOF\n");
    }

    #[test]
    fn numbers_are_written_as_the_formats_want_them() {
        let check = |value: Value, expected: &str| {
            let body = written(Format::Text, |out| out.family(&LOAD).single_value(value));
            assert!(body.ends_with(&format!("node_load1 {expected}\n")), "{body}");
        };
        check(f64::NAN.into(), "NaN");
        check(f64::INFINITY.into(), "+Inf");
        check(f64::NEG_INFINITY.into(), "-Inf");
        check(1e21.into(), "1000000000000000000000");
        check(1e-7.into(), "0.0000001");
        check((-3i64).into(), "-3");
        check(u64::MAX.into(), "18446744073709551615");
        check(true.into(), "1");
        check(0.25.into(), "0.25");
        check((-3.0).into(), "-3");
        check(9007199254740993.0.into(), "9007199254740992");
        check(Value::Nanoseconds(0), "0");
        check(Value::Nanoseconds(3_000_000_000), "3");
        check(Value::Nanoseconds(1), "0.000000001");
        check(Value::Nanoseconds(81_234_567_000), "81.234567");
        check(Value::Nanoseconds(u64::MAX), "18446744073.709551615");
    }

    impl FamilyWriter<'_> {
        fn single_value(&mut self, value: Value) {
            self.sample_of(&Labels::default(), &[], value);
        }
    }

    impl From<Value> for f64 {
        fn from(value: Value) -> f64 {
            match value {
                Value::Unsigned(value) => value as f64,
                Value::Signed(value) => value as f64,
                Value::Float(value) => value,
                Value::Nanoseconds(value) => value as f64 / 1e9,
            }
        }
    }

    /// Reads an escaped label value back as Prometheus does.
    fn unescape(text: &str) -> String {
        let mut out = String::new();
        let mut chars = text.chars();
        while let Some(c) = chars.next() {
            match c {
                '\\' => match chars.next().unwrap() {
                    'n' => out.push('\n'),
                    c @ ('\\' | '"') => out.push(c),
                    other => panic!("unknown escape {other}"),
                },
                c => out.push(c),
            }
        }
        out
    }

    proptest! {
        #[test]
        fn label_values_survive_whatever_they_hold(value in any::<String>()) {
            let body = written(Format::Text, |out| out.family(&LOAD).sample(&[("a", &value)], 1.0));
            let line = body.strip_prefix("# HELP node_load1 1m load average.\n# TYPE node_load1 gauge\n").unwrap();
            prop_assert_eq!(line.matches('\n').count(), 1);
            let inner = line.strip_prefix("node_load1{a=\"").unwrap().strip_suffix("\"} 1\n").unwrap();
            prop_assert_eq!(unescape(inner), value.replace('\0', "\u{FFFD}"));
        }

        #[test]
        fn help_stays_on_its_line(help in any::<String>()) {
            for format in [Format::Text, Format::OpenMetrics] {
                let body = written(format, |out| out.named_family("x", Kind::Gauge, &help).single(1u64));
                let end = if format == Format::OpenMetrics { 4 } else { 3 };
                prop_assert_eq!(body.matches('\n').count(), end);
                prop_assert!(body.starts_with("# HELP x "));
            }
        }

        #[test]
        fn floats_read_back_the_same(bits in any::<u64>()) {
            let number = f64::from_bits(bits);
            let body = written(Format::Text, |out| out.family(&LOAD).single(number));
            let written: f64 = body.trim_end().rsplit(' ').next().unwrap().parse().unwrap();
            prop_assert!(written == number || (written.is_nan() && number.is_nan()));
        }

        #[test]
        fn nanoseconds_read_back_the_same(nanoseconds in any::<u64>()) {
            let body = written(Format::Text, |out| out.family(&LOAD).single(Value::Nanoseconds(nanoseconds)));
            let written = body.trim_end().rsplit(' ').next().unwrap();
            let (whole, fraction) = written.split_once('.').unwrap_or((written, ""));
            prop_assert!(fraction.len() <= 9 && !fraction.ends_with('0'));
            let read: u64 = format!("{whole}{fraction:0<9}").parse().unwrap();
            prop_assert_eq!(read, nanoseconds);
        }
    }
}
