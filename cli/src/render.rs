//! Configuration files made from templates, for programs that can't read the environment.
//!
//! The whole syntax: `@@KEY@@` is replaced by a value, escaped for the inside of a double-quoted YAML string; lines
//! between `# @@if NAME@@`, `# @@else@@` and `# @@end@@` are kept or left out. No nesting. What is not known is an error.

use std::collections::BTreeMap;

/// Values and conditions by name.
#[derive(Debug, Default)]
pub struct Values {
    pub keys: BTreeMap<&'static str, String>,
    pub conditions: BTreeMap<&'static str, bool>,
}

/// Renders a template. An error begins with `line N: `.
pub fn render(template: &str, values: &Values) -> Result<String, String> {
    let mut out = String::with_capacity(template.len());
    // The line that opened the current condition, and whether its lines are kept now.
    let mut open: Option<(usize, bool)> = None;
    let mut had_else = false;
    for (number, line) in (1..).zip(template.lines()) {
        let fail = |message: String| Err(format!("line {number}: {message}"));
        match directive(line) {
            Some(word) if word.starts_with("if ") => {
                let name = word[3..].trim();
                if let Some((opened, _)) = open {
                    return fail(format!("@@if@@ inside the one of line {opened}"));
                }
                let Some(&holds) = values.conditions.get(name) else {
                    return fail(format!("unknown condition {name:?}"));
                };
                (open, had_else) = (Some((number, holds)), false);
            }
            Some("else") => match open {
                Some((opened, kept)) if !had_else => (open, had_else) = (Some((opened, !kept)), true),
                _ => return fail("@@else@@ without an @@if@@".into()),
            },
            Some("end") => {
                if open.take().is_none() {
                    return fail("@@end@@ without an @@if@@".into());
                }
            }
            _ if open.is_some_and(|(_, kept)| !kept) => {}
            _ => {
                replace_keys(line, values, &mut out).map_err(|message| format!("line {number}: {message}"))?;
                out.push('\n');
            }
        }
    }
    match open {
        Some((opened, _)) => Err(format!("line {opened}: this @@if@@ has no @@end@@")),
        None => Ok(out),
    }
}

/// What stands between `# @@` and `@@` when that is the whole line and no key.
fn directive(line: &str) -> Option<&str> {
    let word = line.trim().strip_prefix('#')?.trim_start().strip_prefix("@@")?.strip_suffix("@@")?;
    (word == "else" || word == "end" || word.starts_with("if ")).then_some(word)
}

fn replace_keys(line: &str, values: &Values, out: &mut String) -> Result<(), String> {
    let mut rest = line;
    while let Some((before, after)) = rest.split_once("@@") {
        let (key, behind) = after.split_once("@@").ok_or("a @@ without its second @@")?;
        let value = values.keys.get(key).ok_or_else(|| format!("unknown key @@{key}@@"))?;
        out.push_str(before);
        escape(value, out);
        rest = behind;
    }
    out.push_str(rest);
    Ok(())
}

/// Escapes for the inside of a double-quoted YAML string. Numbers, names and addresses come through unchanged.
fn escape(value: &str, out: &mut String) {
    for c in value.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push_str(&format!("\\u{:04x}", u32::from(c))),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(telegram: bool) -> Values {
        Values {
            keys: BTreeMap::from([("HOST", "pi".to_owned()), ("ODD", "a\"b\\c\n".to_owned())]),
            conditions: BTreeMap::from([("telegram", telegram)]),
        }
    }

    #[test]
    fn templates_render() {
        let check = |template: &str, telegram: bool, rendered: &str| {
            assert_eq!(render(template, &values(telegram)).as_deref(), Ok(rendered), "{template}");
        };
        check("a: \"@@HOST@@:@@HOST@@\"\n", false, "a: \"pi:pi\"\n");
        check("a: \"@@ODD@@\"", false, "a: \"a\\\"b\\\\c\\u000a\"\n");
        let both = "x\n  # @@if telegram@@\nyes\n  # @@else@@\nno @@HOST@@\n  # @@end@@\nz\n";
        check(both, true, "x\nyes\nz\n");
        check(both, false, "x\nno pi\nz\n");
        check("# @@if telegram@@\n@@NOT_LOOKED_AT@@\n# @@end@@\n", false, "");
        check("# a comment about @@HOST@@\n", true, "# a comment about pi\n");
    }

    #[test]
    fn mistakes_name_the_line() {
        let check = |template: &str, message: &str| {
            assert_eq!(render(template, &values(true)).unwrap_err(), message, "{template}");
        };
        check("a\n@@WHO@@", "line 2: unknown key @@WHO@@");
        check("@@HOST", "line 1: a @@ without its second @@");
        check("# @@if pager@@\n# @@end@@", "line 1: unknown condition \"pager\"");
        check("\n# @@if telegram@@\n", "line 2: this @@if@@ has no @@end@@");
        check("# @@end@@", "line 1: @@end@@ without an @@if@@");
        check("# @@else@@", "line 1: @@else@@ without an @@if@@");
        check("# @@if telegram@@\n# @@else@@\n# @@else@@", "line 3: @@else@@ without an @@if@@");
        check("# @@if telegram@@\n# @@if telegram@@", "line 2: @@if@@ inside the one of line 1");
    }
}
