//! `.env` as Docker Compose reads it, as far as our keys need it: read, and changed without touching any other line.

use std::collections::BTreeMap;

/// A `.env` file taken apart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct DotEnv {
    /// Value and line number of each key; of a repeated key the last, as with Compose.
    pub values: BTreeMap<String, (String, usize)>,
    /// What is wrong with it, one line each, beginning with `line N: `.
    pub complaints: Vec<String>,
}

impl DotEnv {
    pub fn parse(text: &str) -> DotEnv {
        let mut parsed = DotEnv::default();
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            match parse_line(line) {
                Ok((key, value)) => {
                    if let Some((_, before)) = parsed.values.insert(key.to_owned(), (value, number)) {
                        parsed.complaints.push(format!("line {number}: {key} is set in line {before} already"));
                    }
                }
                Err(complaint) => parsed.complaints.push(format!("line {number}: {complaint}")),
            }
        }
        parsed
    }

    pub fn get(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }
}

fn parse_line(line: &str) -> Result<(&str, String), String> {
    let line = line.strip_prefix("export ").unwrap_or(line);
    let (key, rest) = line.split_once('=').ok_or("no KEY=VALUE; comments begin with #")?;
    let key = key.trim_end();
    if !is_key(key) {
        return Err(format!("{key:?} is no name for a key"));
    }
    let rest = rest.trim();
    let value = match rest.chars().next() {
        Some(quote @ ('\'' | '"')) => {
            let inner = &rest[1..];
            let end = closing_quote(inner, quote).ok_or_else(|| format!("the {quote} after {key}= is never closed"))?;
            let after = inner[end + 1..].trim_start();
            if !after.is_empty() && !after.starts_with('#') {
                return Err(format!("there is text behind the value of {key}"));
            }
            if quote == '\'' { inner[..end].to_owned() } else { unescape(&inner[..end]) }
        }
        _ => rest.split_once(" #").map_or(rest, |(value, _)| value.trim_end()).to_owned(),
    };
    Ok((key, value))
}

fn closing_quote(inner: &str, quote: char) -> Option<usize> {
    let mut escaped = false;
    inner.char_indices().find_map(|(at, c)| {
        let closes = c == quote && !escaped;
        escaped = quote == '"' && c == '\\' && !escaped;
        closes.then_some(at)
    })
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match (c, c == '\\') {
            (_, true) => match chars.next() {
                Some('n') => out.push('\n'),
                Some('t') => out.push('\t'),
                Some(other) => out.push(other),
                None => out.push('\\'),
            },
            _ => out.push(c),
        }
    }
    out
}

pub fn is_key(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
}

/// `KEY=value` with quotes where the value needs them. `None` when no way of writing it is safe: line breaks, and
/// single quotes together with what only they can hold.
pub fn assignment(key: &str, value: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || "_./:@,+-=%~".contains(c);
    if value.chars().all(plain) {
        Some(format!("{key}={value}"))
    } else if value.chars().any(|c| c.is_control() || c == '\'') {
        None
    } else {
        Some(format!("{key}='{value}'"))
    }
}

/// Puts `line` in the place of the last line that sets `key`, and at the end when there is none. All other lines stay
/// as they are, byte for byte.
pub fn replace(text: &str, key: &str, line: &str) -> String {
    let sets = |candidate: &str| {
        let candidate = candidate.trim();
        parse_line(candidate).is_ok_and(|(found, _)| found == key) && !candidate.starts_with('#')
    };
    let Some(at) = text.lines().collect::<Vec<_>>().iter().rposition(|candidate| sets(candidate)) else {
        return append(text, line);
    };
    let mut out: String =
        text.lines().enumerate().map(|(index, old)| format!("{}\n", if index == at { line } else { old })).collect();
    if !text.ends_with('\n') {
        out.pop();
    }
    out
}

/// Adds lines at the end, after a line break if the text lacks its last one.
pub fn append(text: &str, lines: &str) -> String {
    let separator = if text.is_empty() || text.ends_with('\n') { "" } else { "\n" };
    format!("{text}{separator}{lines}\n")
}

/// Whether a key is mentioned, set or as a comment `# KEY=…`, so that it need not be added.
pub fn mentions(text: &str, key: &str) -> bool {
    text.lines().any(|line| {
        let line = line.trim().trim_start_matches('#').trim_start();
        line.strip_prefix("export ").unwrap_or(line).split_once('=').is_some_and(|(found, _)| found.trim_end() == key)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_as_compose_reads_them() {
        let check = |line: &str, value: &str| {
            let parsed = DotEnv::parse(line);
            assert_eq!((parsed.get("A"), parsed.complaints.len()), (Some(value), 0), "{line}: {parsed:?}");
        };
        check("A=1", "1");
        check("  A = x y  ", "x y");
        check("export A=1", "1");
        check("A=", "");
        check("A=x # why", "x");
        check("A=x#y", "x#y");
        check("A='x # $y'", "x # $y");
        check("A=\"x \\\"y\\\" \\n\" # why", "x \"y\" \n");
        check("# A=2\n\nA=1", "1");
        check("A=a=b", "a=b");
    }

    #[test]
    fn the_shell_reads_the_same() {
        let common = concat!(env!("CARGO_MANIFEST_DIR"), "/../setup/common.sh");
        let folder = tempfile::tempdir().unwrap();
        for line in [
            "A=1",
            "  A = x y  ",
            "export A=1",
            "A=",
            "A=x # why",
            "A=x#y",
            "A='x # $y' # why",
            "A=\"x \\\"y\\\" z\" # why",
            "A=\"\"",
            "# A=2\n\nA=1",
            "A=1\nA=2",
            "A=1\r\n",
            "A=a=b",
            "AB=1\nB=A=1",
        ] {
            std::fs::write(folder.path().join(".env"), line).unwrap();
            let script = r#"set -euo pipefail; root=$1; . "$2"; setting A unset"#;
            let shell = std::process::Command::new("bash")
                .args(["-c", script, "bash"])
                .arg(folder.path())
                .arg(common)
                .output()
                .unwrap();
            let found = String::from_utf8_lossy(&shell.stdout);
            let parsed = DotEnv::parse(line);
            // An empty value means the default, as in compose.yml.
            let expected = parsed.get("A").filter(|value| !value.is_empty()).unwrap_or("unset");
            assert_eq!(found, expected, "{line:?}: {}", String::from_utf8_lossy(&shell.stderr));
        }
    }

    #[test]
    fn complaints_name_the_line() {
        let check = |text: &str, complaint: &str| assert_eq!(DotEnv::parse(text).complaints, [complaint], "{text}");
        check("A=1\nnonsense", "line 2: no KEY=VALUE; comments begin with #");
        check("A=1\nA=2", "line 2: A is set in line 1 already");
        check("A='x", "line 1: the ' after A= is never closed");
        check("A='x' y", "line 1: there is text behind the value of A");
        check("A B=1", "line 1: \"A B\" is no name for a key");
        assert_eq!(DotEnv::parse("A=1\nA=2").get("A"), Some("2"));
    }

    #[test]
    fn what_is_written_is_read_back() {
        for value in ["", "x", "-100123", "a b", "x # y", "http://h:1/?a=b", "$x", "\"", "\\"] {
            let line = assignment("A", value).unwrap();
            assert_eq!(DotEnv::parse(&line).get("A"), Some(value), "{line}");
        }
        assert_eq!(assignment("A", "x\ny"), None);
        assert_eq!(assignment("A", "it's"), None);
    }

    #[test]
    fn changes_leave_other_lines_alone() {
        assert_eq!(replace("# A=0\nA=1 # mine\nB=2", "A", "A=3"), "# A=0\nA=3\nB=2");
        assert_eq!(replace("B=2", "A", "A=3"), "B=2\nA=3\n");
        assert_eq!(append("", "A=1"), "A=1\n");
        assert!(mentions("# A=1\n", "A") && mentions("export A=1", "A") && !mentions("AB=1\nC=A=1", "A"));
    }
}
