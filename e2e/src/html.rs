//! What Telegram accepts as HTML (core.telegram.org/bots/api#html-style): a few tags, properly nested, four named entities.
//! Anything else is answered with 400, and the message is lost.

/// The tags that our messages could use; Telegram knows some more.
const TAGS: [&str; 14] =
    ["b", "strong", "i", "em", "u", "ins", "s", "strike", "del", "a", "code", "pre", "blockquote", "tg-spoiler"];
const ENTITIES: [&str; 4] = ["lt", "gt", "amp", "quot"];

/// The text as a reader sees it. An error is worded as Telegram words it.
pub fn parse(html: &str) -> Result<String, String> {
    let mut text = String::with_capacity(html.len());
    let mut open: Vec<String> = Vec::new();
    let mut rest = html;
    while let Some(at) = rest.find(['<', '&', '>']) {
        let offset = html.len() - rest.len() + at;
        text.push_str(&rest[..at]);
        let after = &rest[at + 1..];
        match rest.as_bytes()[at] {
            b'<' => {
                let end = after
                    .find('>')
                    .ok_or_else(|| format!("can't parse entities: Unclosed start tag at byte offset {offset}"))?;
                let tag = &after[..end];
                if let Some(name) = tag.strip_prefix('/') {
                    match open.pop() {
                        Some(opened) if opened == name.trim_end() => {}
                        Some(opened) => {
                            return Err(format!(
                                "can't parse entities: Unmatched end tag at byte offset {offset}, expected \"</{opened}>\", found \"</{name}>\""
                            ));
                        }
                        None => {
                            return Err(format!("can't parse entities: Unexpected end tag at byte offset {offset}"));
                        }
                    }
                } else {
                    let (name, attributes) = tag.split_once(char::is_whitespace).unwrap_or((tag, ""));
                    if !TAGS.contains(&name) {
                        return Err(format!(
                            "can't parse entities: Unsupported start tag \"{name}\" at byte offset {offset}"
                        ));
                    }
                    check_attributes(name, attributes.trim(), offset)?;
                    open.push(name.to_owned());
                }
                rest = &after[end + 1..];
            }
            b'&' => {
                let (entity, behind) = after.split_once(';').unwrap_or((after, ""));
                let (c, length) = match entity {
                    "lt" => ('<', 3),
                    "gt" => ('>', 3),
                    "amp" => ('&', 4),
                    "quot" => ('"', 5),
                    numeric => {
                        let code = numeric.strip_prefix('#').and_then(|digits| {
                            digits
                                .strip_prefix('x')
                                .map_or_else(|| digits.parse().ok(), |hex| u32::from_str_radix(hex, 16).ok())
                        });
                        match code.and_then(char::from_u32) {
                            Some(c) => (c, entity.len() + 1),
                            // Telegram leaves a lone & as it is; ours are all escaped, so here it is a mistake.
                            None => {
                                return Err(format!(
                                    "an & that is no entity ({ENTITIES:?} or a number) at byte offset {offset}"
                                ));
                            }
                        }
                    }
                };
                let _ = behind;
                text.push(c);
                rest = &after[length..];
            }
            _ => {
                // Telegram takes it as it is.
                text.push('>');
                rest = after;
            }
        }
    }
    text.push_str(rest);
    match open.pop() {
        Some(name) => Err(format!("can't parse entities: Can't find end tag corresponding to start tag \"{name}\"")),
        None => Ok(text),
    }
}

fn check_attributes(tag: &str, attributes: &str, offset: usize) -> Result<(), String> {
    let allowed = match tag {
        "a" => "href=\"",
        "code" => "class=\"language-",
        _ => "",
    };
    let quoted = attributes.len() > 1 && attributes.ends_with('"') && attributes.matches('"').count() == 2;
    if attributes.is_empty() || (!allowed.is_empty() && attributes.starts_with(allowed) && quoted) {
        Ok(())
    } else {
        Err(format!("can't parse entities: unexpected attributes of \"{tag}\" at byte offset {offset}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn good_html_is_read() {
        let check = |html: &str, text: &str| assert_eq!(parse(html).as_deref(), Ok(text), "{html}");
        check("a <b>b <i>c</i></b> &lt;d&gt; &amp;&#39;&#x27;", "a b c <d> &''");
        check("<a href=\"http://x/?a=1\">y</a>", "y");
        check("<pre><code class=\"language-sh\">x</code></pre>", "x");
        check("1 > 0 ä", "1 > 0 ä");
    }

    #[test]
    fn bad_html_is_refused() {
        let check = |html: &str, message: &str| assert!(parse(html).unwrap_err().contains(message), "{html}");
        check("<b>x", "Can't find end tag");
        check("<b><i>x</b></i>", "Unmatched end tag");
        check("x</b>", "Unexpected end tag");
        check("<script>x</script>", "Unsupported start tag");
        check("<b", "Unclosed start tag");
        check("a & b", "no entity");
        check("&nbsp;", "no entity");
        check("<b class=\"x\">y</b>", "unexpected attributes");
        check("<a href=x>y</a>", "unexpected attributes");
    }
}
