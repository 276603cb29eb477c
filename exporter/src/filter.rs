//! Which names a collector takes: the include and exclude patterns of node_exporter's flags.

use regex_lite::Regex;

/// A pair of patterns in RE2's syntax, as far as it needs no Unicode classes. Matching anywhere in the name counts, so
/// patterns that mean the whole name are anchored.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// `None`: all that is not excluded.
    include: Option<Regex>,
    exclude: Option<Regex>,
}

impl Filter {
    /// An empty pattern says nothing, as in node_exporter.
    pub fn new(include: &str, exclude: &str) -> Result<Filter, regex_lite::Error> {
        let pattern = |text: &str| if text.is_empty() { Ok(None) } else { Regex::new(text).map(Some) };
        Ok(Filter { include: pattern(include)?, exclude: pattern(exclude)? })
    }

    pub fn takes(&self, name: &str) -> bool {
        self.include.as_ref().is_none_or(|pattern| pattern.is_match(name))
            && !self.exclude.as_ref().is_some_and(|pattern| pattern.is_match(name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn include_picks_and_exclude_leaves_out() {
        let check = |include: &str, exclude: &str, name: &str, expected: bool| {
            assert_eq!(Filter::new(include, exclude).unwrap().takes(name), expected, "{include} {exclude} {name}");
        };
        check("", "", "eth0", true);
        check("^eth", "", "eth0", true);
        check("^eth", "", "veth0", false);
        check("", "^veth", "veth0", false);
        check("", "^(veth|docker)", "eth0", true);
        check("^e", "0$", "eth0", false);
        assert!(Filter::new("(", "").is_err());
    }
}
