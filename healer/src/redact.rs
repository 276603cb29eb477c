//! Takes secrets out of text before it is kept or sent anywhere.
//!
//! What a container logs and what its probe prints is somebody else's text, and secrets turn up in it. It is better to
//! hide a harmless word than to keep a password for 90 days, so the patterns are generous. This is a net, not a proof:
//! a secret that looks like an ordinary word and has no name beside it passes.

use std::{borrow::Cow, sync::LazyLock};

use regex::{Regex, RegexBuilder};

/// Stands where a secret was.
const HIDDEN: &str = "***";
/// Longer lines are cut: a line is read by a person, or shown in a message.
pub const MAX_LINE: usize = 1000;

/// Words that make the value beside them a secret.
const NAMES: &str = "(?:pass(?:word|wd|phrase|code)?|pwd|secret|token|api[_-]?key|access[_-]?key|private[_-]?key|\
                     encryption[_-]?key|signing[_-]?key|credentials?|authorization|cookie|session[_-]?id|dsn)";

/// Memory that one pattern may use for remembering what it has seen, in bytes: 2 MiB each would be the crate's choice.
const CACHE: usize = 128 * 1024;

struct Pattern {
    find: Regex,
    replace: &'static str,
}

/// Compiled at first use: an idle healer pays nothing for them. `(?i-u:…)` compares ASCII letters only, which is what
/// names of secrets are made of, and needs no tables of Unicode.
static PATTERNS: LazyLock<Result<Vec<Pattern>, regex::Error>> = LazyLock::new(|| {
    let patterns: [(String, &'static str); 10] = [
        // Headers hold several words, and all of them are the secret (RFC 9110, RFC 6265), those in quotes behind a = too. Up
        // to the quote that the header stands in. A value that is quoted itself is left to the pattern for names below, which
        // knows where it ends.
        (
            r#"((?i-u:\b(?:proxy-)?authorization|set-cookie|\bcookie)\\?["']? *[:=] *)[^"' \\\[](?:=\\?"[^"]*"|[^"'])*"#.into(),
            "$1***",
        ),
        // scheme://user:password@host; the password ends at the last @ before white space or a quote.
        (r#"((?i-u:\b[a-z][a-z0-9+.-]*)://[^ :/@"']*):[^ "']*@"#.into(), "$1:***@"),
        // scheme://token@host
        (r#"((?i-u:\b[a-z][a-z0-9+.-]*)://)[^ :/@"'?#]+@"#.into(), "$1***@"),
        (r"(?i-u:\b(bearer|basic|digest|negotiate) +[a-z0-9._~+/=-]{6,})".into(), "$1 ***"),
        // Telegram bot token, also within a URL path (/bot123:abc/).
        (r"[0-9]{6,12}:[A-Za-z0-9_-]{30,}".into(), HIDDEN),
        (r"(?-u:\b)(?:AKIA|ASIA|AROA|AIDA)[A-Z0-9]{16}(?-u:\b)".into(), HIDDEN),
        // JSON web token.
        (r"(?-u:\b)eyJ[A-Za-z0-9_-]{5,}\.[A-Za-z0-9_-]{5,}(?:\.[A-Za-z0-9_-]*)?".into(), HIDDEN),
        // Tokens that name their maker.
        (
            r"(?-u:\b(?:gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[abeposr]-[\w-]{10,}|sk[-_][\w-]{16,}|AIza[\w-]{30,}|npm_\w{20,}|hf_\w{20,}|(?i:age-secret-key)-\w+))".into(),
            HIDDEN,
        ),
        // name=value, name: value, "name":"value", name = 'value', "name": ["value"]. Without quotes it ends at white space or
        // a quote: any other sign may be part of a password.
        (
            format!(
                r#"((?i-u:[a-z0-9_.-]*{NAMES}[a-z0-9_.-]*)\\?["']? *(?:=>|[:=]) *)(?:\\".*?(?:\\"|$)|"(?:[^"\\]|\\.)*(?:"|$)|'[^']*(?:'|$)|\[[^\]]*(?:\]|$)|[^ "]+)"#
            ),
            "$1***",
        ),
        // --name value on a command line.
        (format!(r"((?i-u:--?[a-z0-9-]*{NAMES}[a-z0-9-]*) +)[^ -][^ ]*"), "$1***"),
    ];
    let compile = |(find, replace): (String, &'static str)| {
        RegexBuilder::new(&find).dfa_size_limit(CACHE).build().map(|find| Pattern { find, replace })
    };
    patterns.into_iter().map(compile).collect()
});

/// Redacts one line: secrets hidden, terminal escapes and control characters gone, length bounded.
pub fn line(text: &str) -> String {
    let Ok(patterns) = &*PATTERNS else {
        // They are constants and a test compiles them. Should one not compile after all, then nothing is shown.
        return HIDDEN.to_owned();
    };
    let mut text: Cow<'_, str> = Cow::Owned(plain(text));
    for pattern in patterns {
        let hide = |found: &regex::Captures<'_>| {
            let mut hidden = String::new();
            if is_file(&text, found) {
                hidden.push_str(&found[0]);
            } else {
                found.expand(pattern.replace, &mut hidden);
            }
            hidden
        };
        if let Cow::Owned(replaced) = pattern.find.replace_all(&text, hide) {
            text = Cow::Owned(replaced);
        }
    }
    // Cut last: a secret cut in half might not be known any more.
    cut(&text, MAX_LINE)
}

/// Whether what was found is a file and what is said of it, such as `/etc/passwd: permission denied`, and no name of a secret and its
/// value: it stands behind a slash, and there is a space behind the colon. A file in quotes stands behind a word (`open
/// "/etc/passwd": permission denied`), where a key of a mapping stands behind a sign; and what is said of it has no quotes.
fn is_file(text: &str, found: &regex::Captures<'_>) -> bool {
    let (Some(all), Some(name)) = (found.get(0), found.get(1)) else { return false };
    let before = &text[..all.start()];
    let is_in_folder = before.ends_with('/') && name.start() == all.start();
    let Some(file) = name.as_str().strip_suffix(": ").filter(|_| is_in_folder) else { return false };
    if !file.contains(['"', '\'', '\\']) {
        return true;
    }
    let Some(quote) = ["\\\"", "\"", "'"].into_iter().find(|quote| file.ends_with(quote)) else { return false };
    let Some((outside, folder)) = before.rsplit_once(quote) else { return false };
    let behind_a_word =
        outside.strip_suffix(' ').is_some_and(|it| it.ends_with(|sign: char| sign.is_ascii_alphanumeric()));
    let is_path = folder.starts_with('/') && !folder.contains([' ', '"', '\'', '\\']);
    behind_a_word && is_path && !text[name.end()..all.end()].starts_with(['"', '\'', '\\', '['])
}

/// Redacts lines that belong together, so that the body of a private key goes as well.
pub fn lines<'a>(text: impl IntoIterator<Item = &'a str>) -> Vec<String> {
    let mut within_key = false;
    let mut kept: Vec<String> = Vec::new();
    for raw in text {
        let begins = raw.contains("-----BEGIN") && raw.contains("PRIVATE KEY");
        let ends = raw.contains("-----END") && raw.contains("PRIVATE KEY");
        if begins {
            kept.push(format!("{HIDDEN} (private key)"));
            within_key = !ends;
        } else if within_key {
            within_key = !ends;
        } else if ends {
            // It began before the first of these lines.
            kept.clear();
            kept.push(format!("{HIDDEN} (private key)"));
        } else if is_key_body(raw) {
            // The middle of one, maybe: neither its beginning nor its end are here.
            kept.push(HIDDEN.to_owned());
        } else {
            kept.push(line(raw));
        }
    }
    kept
}

/// A full line of base64 as PEM files have them (RFC 7468: 64 signs), with Docker's time in front or not.
fn is_key_body(line: &str) -> bool {
    let body = line.rsplit(' ').next().unwrap_or_default();
    body.len() >= 64 && body.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte))
}

/// Cuts at a character boundary, with a mark.
pub fn cut(text: &str, most: usize) -> String {
    if text.len() <= most {
        return text.to_owned();
    }
    let mut end = most.saturating_sub('…'.len_utf8());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}

/// Without terminal escape sequences and control characters (NUL, which Postgres refuses, is one); tabs become spaces.
fn plain(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut characters = text.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '\u{1b}' => match characters.peek() {
                // CSI: parameters up to a final byte.
                Some('[') => {
                    characters.next();
                    for next in characters.by_ref() {
                        if ('\u{40}'..='\u{7e}').contains(&next) {
                            break;
                        }
                    }
                }
                // OSC: up to BEL or ESC \.
                Some(']') => {
                    while let Some(next) = characters.next() {
                        if next == '\u{7}' {
                            break;
                        }
                        if next == '\u{1b}' {
                            characters.next_if_eq(&'\\');
                            break;
                        }
                    }
                }
                _ => {
                    characters.next();
                }
            },
            '\t' => kept.push(' '),
            // Bidirectional overrides can make a line read as another one.
            '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {}
            other if other.is_control() => {}
            other => kept.push(other),
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(input: &str, expected: &str) {
        assert_eq!(line(input), expected, "{input:?}");
    }

    #[test]
    fn every_pattern_compiles() {
        assert!(PATTERNS.is_ok(), "{:?}", PATTERNS.as_ref().err());
    }

    #[test]
    fn secrets_go() {
        check("password=hunter2", "password=***");
        check("2026-11-23T05:08:48.166459311Z password=hunter2", "2026-11-23T05:08:48.166459311Z password=***");
        check("DB_PASSWORD=hunter2 next", "DB_PASSWORD=*** next");
        check("POSTGRES_PASSWORD: hunter2", "POSTGRES_PASSWORD: ***");
        check(r#"{"password":"hun ter2","user":"bob"}"#, r#"{"password":***,"user":"bob"}"#);
        check(r#"{"password": "a\"b", "x": 1}"#, r#"{"password": ***, "x": 1}"#);
        check(r#"msg="login {\"api_key\":\"abc\"} failed""#, r#"msg="login {\"api_key\":***} failed""#);
        check("secret = 'two words' end", "secret = *** end");
        check("client_secret=abc&state=1", "client_secret=***");
        check("DB_PASSWORD=Tr0ub4dor&3 next", "DB_PASSWORD=*** next");
        check("DB_PASSWORD=a;b)c]d}e next", "DB_PASSWORD=*** next");
        check("GET /?access_token=abc&x=1 200", "GET /?access_token=*** 200");
        check("api-key: 123", "api-key: ***");
        check("passwd=x", "passwd=***");
        check("passwd: hunter2", "passwd: ***");
        check("GET /reset/token=abc", "GET /reset/token=***");
        check("/config/password:hunter2", "/config/password:***");
        check("/etc/app.conf password: hunter2", "/etc/app.conf password: ***");
        check(r#"{"/app/password": hunter2}"#, r#"{"/app/password": ***"#);
        check(r#"{"/app/password": "hun ter2"}"#, r#"{"/app/password": ***}"#);
        check(r#"x: 1, "/app/password": hunter2"#, r#"x: 1, "/app/password": ***"#);
        check(r#"set "/app/password": "hunter2""#, r#"set "/app/password": ***"#);
        check(r#"set "/app/password":hunter2"#, r#"set "/app/password":***"#);
        check(r#"set "/app password": hunter2"#, r#"set "/app password": ***"#);
        check(":passphrase => \"open sesame\"", ":passphrase => ***");
        check("Cookie: sid=abc", "Cookie: ***");
        check("Cookie: theme=dark; session=abc", "Cookie: ***");
        check("set-cookie: sid=abc; Path=/", "set-cookie: ***");
        check("Authorization: Bearer abcdefghij", "Authorization: ***");
        check("Authorization: Token abc", "Authorization: ***");
        check(r#"curl -H "Authorization: ApiKey abc" http://a"#, r#"curl -H "Authorization: ***" http://a"#);
        check(r#"{"authorization":"Token abc","x":1}"#, r#"{"authorization":***,"x":1}"#);
        check(r#"{"authorization": "Token abc", "x": 1}"#, r#"{"authorization": ***, "x": 1}"#);
        check(r#"{\"authorization\": \"Token abc\", \"x\": 1}"#, r#"{\"authorization\": ***, \"x\": 1}"#);
        check(r#"{"Cookie": "session=abc.def"}"#, r#"{"Cookie": ***}"#);
        check(r#"{"Set-Cookie": "session=abc.def; Path=/"}"#, r#"{"Set-Cookie": ***}"#);
        check("{'Authorization': 'Token abc123'}", "{'Authorization': ***}");
        check(r#"{"Authorization":["Token abc"],"X":["y"]}"#, r#"{"Authorization":***,"X":["y"]}"#);
        check("map[Authorization:[Token abc] X:[y]]", "map[Authorization:*** X:[y]]");
        check(r#"Cookie: session="s3cr3t""#, "Cookie: ***");
        check(r#"Set-Cookie: session="s3cr3t"; Path=/"#, "Set-Cookie: ***");
        check(r#"Authorization: Digest username="Mufasa", response="6629fae4", opaque="""#, "Authorization: ***");
        check(r#"curl -H 'Cookie: a="b"; c=d' http://a"#, "curl -H 'Cookie: *** http://a");
        check("password=ab,cd next", "password=*** next");
        check("https://abcdef@host/x", "https://***@host/x");
        check("using bearer abc.def-ghi", "using bearer ***");
        check("Basic dXNlcjpwYXNz", "Basic ***");
        check("postgres://bob:hunter2@db:5432/x", "postgres://bob:***@db:5432/x");
        check("redis://:hunter2@cache/0", "redis://:***@cache/0");
        check("amqp://u:p@ss/w@rd@mq and", "amqp://u:***@mq and");
        check(
            "https://api.telegram.org/bot123456789:AAEabcdefghijklmnopqrstuvwxyz0123456/send",
            "https://api.telegram.org/bot***/send",
        );
        check("id AKIAIOSFODNN7EXAMPLE!", "id ***!");
        check("jwt eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln end", "jwt *** end");
        check("push ghp_abcdefghijklmnopqrstuvwxyz012345", "push ***");
        check("slack xoxb-1234567890-abc", "slack ***");
        check("mysqldump --password hunter2 --host db", "mysqldump --password *** --host db");
        check("run --api-token=abc", "run --api-token=***");
    }

    #[test]
    fn ordinary_lines_stay() {
        for text in [
            "listening on http://0.0.0.0:8080/path",
            "GET /index.html 200 12ms",
            "connect to 192.168.1.2:5432 refused",
            "2026-01-02T03:04:05Z level=error msg=\"disk full\"",
            "GET http://a:80/x",
            "user bob logged in",
            "compass bearing 12",
            "open /etc/passwd: permission denied",
            "cannot read /run/secrets/db_password: no such file or directory",
            r#"open "/etc/passwd": permission denied"#,
            r#"failed to open file "/run/secrets/db_password": No such file or directory (os error 2)"#,
            "cannot open '/etc/passwd': Permission denied",
            r#"level=error msg="open \"/run/secrets/api_key\": no such file""#,
        ] {
            check(text, text);
        }
    }

    #[test]
    fn private_keys_go_with_their_body() {
        let key =
            ["before", "-----BEGIN RSA PRIVATE KEY-----", "MIIEow", "abc", "-----END RSA PRIVATE KEY-----", "after"];
        assert_eq!(lines(key), ["before", "*** (private key)", "after"]);
        let one = ["x -----BEGIN PRIVATE KEY-----abc-----END PRIVATE KEY-----", "after"];
        assert_eq!(lines(one), ["*** (private key)", "after"]);
        assert_eq!(lines(["-----BEGIN OPENSSH PRIVATE KEY-----", "never", "ends"]), ["*** (private key)"]);
        assert_eq!(lines(["MIIEow", "abc", "-----END PRIVATE KEY-----", "after"]), ["*** (private key)", "after"]);
        let middle = format!("2026-01-02T03:04:05.1Z {}", "Ab+/".repeat(16));
        assert_eq!(lines([middle.as_str(), "after"]), ["***", "after"]);
    }

    #[test]
    fn terminal_tricks_go() {
        check("\u{1b}[31mred\u{1b}[0m", "red");
        check("a\u{1b}]0;title\u{7}b", "ab");
        check("a\u{1b}]0;title\u{1b}\\b", "ab");
        check("nul\0 bell\u{7} cr\r", "nul bell cr");
        check("a\tb", "a b");
        check("abc\u{202e}def", "abcdef");
        check("\u{1b}", "");
        check("\u{1b}[", "");
    }

    #[test]
    fn long_lines_are_cut_at_a_character() {
        let cut_line = line(&"é".repeat(2000));
        assert!(cut_line.len() <= MAX_LINE && cut_line.ends_with('…'));
        // A secret beyond the cut, and one that straddles it, are both gone.
        let straddling = format!("{}password={}", "x".repeat(MAX_LINE - 12), "s".repeat(100));
        assert!(!line(&straddling).contains("sss"));
    }
}
