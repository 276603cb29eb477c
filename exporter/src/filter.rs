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

/// Which names of a list are wanted, remembered from one reading to the next: matching a pattern costs more than the rest
/// of a reading, and the kernel's lists have the same names in the same places each time.
#[derive(Debug, Default)]
pub struct Chosen {
    names: Vec<(String, bool)>,
}

/// The kernel's longest list of named numbers has a few hundred; what is beyond is decided anew each time.
const MOST_REMEMBERED: usize = 4096;

impl Chosen {
    /// What `decide` says of the name, which it is asked only when another stood at this place before.
    pub fn is_wanted(&mut self, at: usize, name: &str, decide: impl FnOnce(&str) -> bool) -> bool {
        match self.names.get(at) {
            Some((known, wanted)) if known == name => return *wanted,
            Some(_) => self.names.truncate(at),
            None => (),
        }
        let wanted = decide(name);
        if at == self.names.len() && at < MOST_REMEMBERED {
            self.names.push((name.to_owned(), wanted));
        }
        wanted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_choice_is_made_once_as_long_as_names_keep_their_places() {
        let mut chosen = Chosen::default();
        let mut read = |names: &[&str]| {
            let mut asked = Vec::new();
            let mut wanted = Vec::new();
            for (at, name) in names.iter().enumerate() {
                let decide = |name: &str| {
                    asked.push(name.to_owned());
                    name.starts_with('w')
                };
                if chosen.is_wanted(at, name, decide) {
                    wanted.push(*name);
                }
            }
            (wanted.join(" "), asked.join(" "))
        };
        let mut check = |names: &[&str], wanted: &str, asked: &str| {
            assert_eq!(read(names), (wanted.to_owned(), asked.to_owned()), "{names:?}");
        };
        check(&["w1", "x", "w2"], "w1 w2", "w1 x w2");
        check(&["w1", "x", "w2"], "w1 w2", "");
        check(&["w1", "w3", "w2", "w4"], "w1 w3 w2 w4", "w3 w2 w4");
        check(&["w1"], "w1", "");
        check(&["w1", "w3", "w2"], "w1 w3 w2", "");
        let mut far = Chosen::default();
        assert!(far.is_wanted(usize::MAX, "x", |_| true) && far.names.is_empty());
    }

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
