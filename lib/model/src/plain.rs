//! Text by others that can't play tricks: names of containers, log lines and the output of health checks go to terminals, pages,
//! messages and agents.

/// Whether a character shows nothing, and so could hide or reorder what stands around it, or carry words for programs alone.
pub fn is_invisible(c: char) -> bool {
    matches!(c,
        '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

/// One line: control characters and invisible ones become U+FFFD, a tab a blank.
pub fn plain(text: &str) -> String {
    text.chars().map(|c| if c == '\t' { ' ' } else { seen(c) }).collect()
}

/// As [`plain`], but lines and tabs stay.
pub fn plain_lines(text: &str) -> String {
    text.chars().map(|c| if matches!(c, '\n' | '\t') { c } else { seen(c) }).collect()
}

fn seen(c: char) -> char {
    if c.is_control() || is_invisible(c) { char::REPLACEMENT_CHARACTER } else { c }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_can_not_be_seen_is_shown() {
        assert_eq!(plain("a\u{1b}[31mb\nc\td\u{202e}e\u{9b}ä"), "a\u{fffd}[31mb\u{fffd}c d\u{fffd}e\u{fffd}ä");
        assert_eq!(plain_lines("a\r\nb\tc\u{e0041}"), "a\u{fffd}\nb\tc\u{fffd}");
    }
}
