//! What people read in a terminal: tables, ages, and names that can't play tricks on it.

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

/// What a terminal shows goes to agents and documents too: the same characters are kept from all of them.
pub use nexus_model::plain::plain;

/// Colour, where it is wanted.
#[derive(Clone, Copy)]
pub struct Paint(bool);

impl Paint {
    pub fn new(colours: bool) -> Paint {
        Paint(colours)
    }

    pub const NONE: Paint = Paint(false);

    fn with(self, code: &str, text: &str) -> String {
        if self.0 { format!("\u{1b}[{code}m{text}\u{1b}[0m") } else { text.to_owned() }
    }

    pub fn good(self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn warning(self, text: &str) -> String {
        self.with("33", text)
    }

    pub fn bad(self, text: &str) -> String {
        self.with("31", text)
    }

    pub fn bold(self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(self, text: &str) -> String {
        self.with("2", text)
    }
}

/// Columns aligned by blanks, the last one ragged; cells are made [`plain`]. Empty when there are no rows.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    if rows.is_empty() {
        return String::new();
    }
    let head = head.iter().map(|cell| (*cell).to_owned()).collect();
    let all: Vec<Vec<String>> =
        std::iter::once(&head).chain(rows).map(|row| row.iter().map(|cell| plain(cell)).collect()).collect();
    let width = |column: usize| {
        all.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - cell.chars().count()));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// The first `limit` characters, with an ellipsis when there were more.
pub fn shorten(text: &str, limit: usize) -> String {
    if text.chars().count() <= limit {
        return text.to_owned();
    }
    let mut short: String = text.chars().take(limit.saturating_sub(1)).collect();
    short.push('…');
    short
}

/// `4 s`, `3 min`, `5 h`, `2 d`: one number is enough to judge by.
pub fn duration(passed: SignedDuration) -> String {
    match passed.as_secs().max(0) {
        seconds @ ..120 => format!("{seconds} s"),
        seconds @ ..7200 => format!("{} min", seconds / 60),
        seconds @ ..172_800 => format!("{} h", seconds / 3600),
        seconds => format!("{} d", seconds / 86_400),
    }
}

pub fn ago(then: Timestamp, now: Timestamp) -> String {
    format!("{} ago", duration(now.duration_since(then)))
}

/// `2026-11-23 04:27:20` in the time zone of the machine.
pub fn local(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// `04:27:20.123` in the time zone of the machine.
pub fn clock(time: Timestamp) -> String {
    time.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_can_not_steer_the_terminal() {
        assert_eq!(plain("a\u{1b}[31mb\nc\td\u{202e}e\u{9b}ä"), "a\u{fffd}[31mb\u{fffd}c d\u{fffd}e\u{fffd}ä");
        // Tags, which spell words that only programs read, and others that show nothing.
        for hidden in ['\u{e0041}', '\u{61c}', '\u{ad}', '\u{180e}', '\u{206a}', '\u{fff9}'] {
            assert_eq!(plain(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
    }

    #[test]
    fn tables_align_by_characters() {
        let rows = vec![vec!["ä\u{7}".into(), "x".into()], vec!["long".into(), String::new()]];
        assert_eq!(table(&["A", "B"], &rows), "A     B\nä\u{fffd}    x\nlong\n");
        assert_eq!(table(&["A"], &[]), "");
    }

    #[test]
    fn ages_are_one_number() {
        let check = |seconds: i64, text: &str| assert_eq!(duration(SignedDuration::from_secs(seconds)), text);
        check(-5, "0 s");
        check(119, "119 s");
        check(120, "2 min");
        check(7200, "2 h");
        check(172_800, "2 d");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(shorten("äöü", 3), "äöü");
        assert_eq!(shorten("äöüx", 3), "äö…");
    }

    #[test]
    fn paint_is_off_when_told() {
        assert_eq!(Paint::NONE.bad("x"), "x");
        assert_eq!(Paint(true).bad("x"), "\u{1b}[31mx\u{1b}[0m");
    }
}
