//! What a message is, how long it may be, and how Telegram is shown it. Pure.

use nexus_model::plain::is_invisible;
use nexus_telegram::{escape, shorten};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// As much as the message's template shows of a title.
pub const TITLE_LIMIT: usize = 100;
/// What the template shows of a text. With two UTF-16 units a character and all the rest it is still within Telegram's 4096.
pub const TEXT_LIMIT: usize = 1700;
/// What is read of a text before it is cut: whoever pipes a log into it means its beginning.
pub const INPUT_LIMIT: usize = 64 * 1024;
/// Compose's own bound for the name of a project is lower.
const PROJECT_LIMIT: usize = 63;

/// What the template shows of a project's and a host's name.
const NAME_LIMIT: usize = 40;

/// How grave the sender calls it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Severity {
    #[default]
    Info,
    Warning,
    Critical,
}

impl Severity {
    pub const ALL: [Severity; 3] = [Severity::Info, Severity::Warning, Severity::Critical];

    pub fn as_str(self) -> &'static str {
        match self {
            Severity::Info => "info",
            Severity::Warning => "warning",
            Severity::Critical => "critical",
        }
    }

    fn mark(self) -> char {
        match self {
            Severity::Info => '🔵',
            Severity::Warning => '🟠',
            Severity::Critical => '🔴',
        }
    }
}

impl std::str::FromStr for Severity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Severity::ALL.into_iter().find(|severity| severity.as_str() == text);
        known.ok_or_else(|| "must be info, warning or critical".to_owned())
    }
}

/// Body of `POST /api/v1/notify`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MessageWanted {
    /// One line, 100 characters at most.
    pub title: String,
    /// Several lines; what is beyond 1700 characters is cut off.
    #[serde(default)]
    pub text: Option<String>,
    /// How grave it is: info without it.
    #[serde(default)]
    pub severity: Severity,
    /// The Compose project that it is about.
    #[serde(default)]
    pub project: Option<String>,
}

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum WrongMessage {
    #[error("the title is empty: say in one line what it is about")]
    NoTitle,
    #[error("the title has {0} characters, and {TITLE_LIMIT} at most fit: put the rest into the text")]
    LongTitle(usize),
    #[error("the text has {0} bytes, and {INPUT_LIMIT} at most are read")]
    LongText(usize),
    #[error("the project must have 1 to {PROJECT_LIMIT} characters: letters, digits, dots, dashes and underscores")]
    Project,
}

/// One that can be sent: free of what steers terminals and hides text, and as long as fits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub title: String,
    pub text: String,
    pub severity: Severity,
    pub project: Option<String>,
    /// The end of the text is missing.
    pub cut: bool,
}

impl Message {
    pub fn new(wanted: MessageWanted) -> Result<Message, WrongMessage> {
        let MessageWanted { title, text, severity, project } = wanted;
        let title = clean(&title).split_whitespace().collect::<Vec<_>>().join(" ");
        match title.chars().count() {
            0 => return Err(WrongMessage::NoTitle),
            length if length > TITLE_LIMIT => return Err(WrongMessage::LongTitle(length)),
            _ => (),
        }
        let text = text.unwrap_or_default();
        if text.len() > INPUT_LIMIT {
            return Err(WrongMessage::LongText(text.len()));
        }
        let is_name = |name: &String| {
            (1..=PROJECT_LIMIT).contains(&name.len())
                && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte))
        };
        if !project.as_ref().is_none_or(is_name) {
            return Err(WrongMessage::Project);
        }
        let text = clean(text.trim());
        let cut = text.chars().count() > TEXT_LIMIT;
        let text = shorten(&text, TEXT_LIMIT);
        Ok(Message { title, text, severity, project, cut })
    }

    /// As Telegram takes it (parse_mode HTML): the same that alertmanager/templates/telegram.tmpl makes of it.
    pub(super) fn html(&self, host: &str) -> String {
        let name = |text: &str| escape(&shorten(text, NAME_LIMIT));
        let (mark, title) = (self.severity.mark(), escape(&self.title));
        let mut html = match &self.project {
            Some(project) => format!("{mark} <b>{}: {title}</b>\non {}", name(project), name(host)),
            None => format!("{mark} <b>{}: {title}</b>", name(host)),
        };
        if !self.text.is_empty() {
            html.push_str("\n\n");
            html.push_str(&escape(&self.text));
        }
        html
    }
}

/// Without control characters but ends of lines, and without the invisible ones that reorder or hide text.
fn clean(text: &str) -> String {
    let kept = |c: char| match c {
        '\n' => Some('\n'),
        '\r' => None,
        c if c.is_control() || is_invisible(c) => Some(' '),
        c => Some(c),
    };
    text.chars().filter_map(kept).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wanted(title: &str, text: &str) -> MessageWanted {
        MessageWanted { title: title.to_owned(), text: Some(text.to_owned()), ..MessageWanted::default() }
    }

    #[test]
    fn what_can_not_be_sent_is_said() {
        let check = |wanted: MessageWanted, expected: WrongMessage| assert_eq!(Message::new(wanted), Err(expected));
        check(wanted("", "x"), WrongMessage::NoTitle);
        check(wanted(" \n\u{200b}\u{7} ", "x"), WrongMessage::NoTitle);
        check(wanted(&"ä".repeat(101), ""), WrongMessage::LongTitle(101));
        check(wanted("x", &"x".repeat(INPUT_LIMIT + 1)), WrongMessage::LongText(INPUT_LIMIT + 1));
        for project in ["", "a b", "<b>", "a/b", &"x".repeat(64)] {
            check(MessageWanted { project: Some(project.to_owned()), ..wanted("x", "") }, WrongMessage::Project);
        }
        assert!(Message::new(wanted(&"ä".repeat(100), &"x".repeat(INPUT_LIMIT))).is_ok());
    }

    #[test]
    fn texts_are_cleaned_and_cut_between_characters() {
        let message = Message::new(wanted(" two\nlines\t", "\r\na\u{1b}[31m\u{202e}b\r\nc\n\n")).unwrap();
        assert_eq!((message.title.as_str(), message.text.as_str(), message.cut), ("two lines", "a [31m b\nc", false));
        let whole = Message::new(wanted("x", &"ä".repeat(TEXT_LIMIT))).unwrap();
        assert_eq!((whole.text.chars().count(), whole.cut), (TEXT_LIMIT, false));
        let long = Message::new(wanted("x", &"🔥".repeat(TEXT_LIMIT + 1))).unwrap();
        assert_eq!((long.text.chars().count(), long.cut), (TEXT_LIMIT, true));
        assert!(long.text.ends_with("🔥…"));
    }

    #[test]
    fn nothing_in_it_is_markup_and_it_is_never_too_long() {
        let message =
            Message { project: Some("shop".into()), severity: Severity::Critical, ..plain("a<b> & c", "<i>\n</i>") };
        assert_eq!(message.html("pi"), "🔴 <b>shop: a&lt;b&gt; &amp; c</b>\non pi\n\n&lt;i&gt;\n&lt;/i&gt;");
        assert_eq!(plain("t", "").html("pi"), "🔵 <b>pi: t</b>");
        let project = Some("p".repeat(PROJECT_LIMIT));
        let longest = MessageWanted { project, ..wanted(&"🔥".repeat(TITLE_LIMIT), &"🔥".repeat(2 * TEXT_LIMIT)) };
        let html = Message::new(longest).unwrap().html(&"h".repeat(253));
        assert!(html.encode_utf16().count() <= 4096, "{}", html.encode_utf16().count());
    }

    fn plain(title: &str, text: &str) -> Message {
        Message::new(wanted(title, text)).unwrap()
    }
}
