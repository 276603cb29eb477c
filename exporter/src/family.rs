//! The descriptor of a metric family. Each collector has one table of them; the tables generate docs/metrics.md.

/// What the values of a family mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows, until what counts starts anew. The name ends in `_total`.
    Counter,
    Gauge,
    /// node_exporter's for what the kernel does not say: a counter or a gauge. No family of our own.
    Untyped,
    /// These two come from files only. Their samples have names with suffixes.
    Histogram,
    Summary,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Untyped => "untyped",
            Kind::Histogram => "histogram",
            Kind::Summary => "summary",
        }
    }
}

/// A metric family as it is declared, once, in the exposition and in the documentation.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// The full name, in base units, as Prometheus stores it. `<field>` in it stands for a part known only when read.
    pub name: &'static str,
    pub kind: Kind,
    /// One sentence. Where node_exporter or cAdvisor has the family, theirs.
    pub help: &'static str,
    pub labels: &'static [&'static str],
    /// Where the values come from, for the documentation: file and field.
    pub source: &'static str,
}

/// Whether `text`, a word of the kernel's, can be put for the `<field>` of a family's name.
pub fn is_field(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// The unit that OpenMetrics wants declared, which is the last word of the name without `_total`.
pub fn unit(base_name: &str) -> Option<&'static str> {
    ["seconds", "bytes", "celsius", "volts", "hertz", "ratio"]
        .into_iter()
        .find(|unit| base_name.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')))
}
