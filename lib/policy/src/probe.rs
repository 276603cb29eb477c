//! A probe as its owner writes it: `http://:8080/healthz`, `http://:8080/ expect=200-299,401` or `tcp://:5432`.
//!
//! What is asked is always the container itself: there is no place for a host, so that a label can't make the healer call
//! something else. TLS is not offered: a certificate is made out to a name, which a probe does not have, and one that is not
//! checked proves no more than `tcp://` does.

use std::{fmt, ops::RangeInclusive};

/// How a container is asked whether it works.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProbeTarget {
    /// The container's own port, not the one that the host may publish it on.
    pub port: u16,
    pub ask: Ask,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ask {
    /// Takes the connection and keeps it.
    Tcp,
    /// Answers to a GET with one of these statuses.
    Http { path: String, expect: Expect },
}

/// The statuses of an answer that is good, in the order in which they were written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Expect(Vec<(u16, u16)>);

impl Expect {
    pub fn contains(&self, status: u16) -> bool {
        self.0.iter().any(|(from, to)| (*from..=*to).contains(&status))
    }
}

impl Default for Expect {
    /// What is no error. A redirect is an answer, and is not followed.
    fn default() -> Self {
        Self(vec![(200, 399)])
    }
}

impl fmt::Display for Expect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (from, to)) in self.0.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            match from == to {
                true => write!(f, "{comma}{from}")?,
                false => write!(f, "{comma}{from}-{to}")?,
            }
        }
        Ok(())
    }
}

impl fmt::Display for ProbeTarget {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.ask {
            Ask::Tcp => write!(f, "tcp://:{}", self.port),
            Ask::Http { path, expect } => {
                write!(f, "http://:{}{path}", self.port)?;
                if *expect == Expect::default() { Ok(()) } else { write!(f, " expect={expect}") }
            }
        }
    }
}

/// Beyond this it is no path that a person wrote.
const LONGEST: usize = 300;
/// Ranges of statuses; there are five classes of them.
const MOST_RANGES: usize = 10;
const STATUSES: RangeInclusive<u16> = 100..=599;

const WRITE: &str = "write it as http://:8080/healthz or tcp://:5432";

impl ProbeTarget {
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        // Whatever is not visible ASCII could begin another line of the request.
        if text.len() > LONGEST || text.bytes().any(|byte| !matches!(byte, b' '..=b'~')) {
            return Err(format!("is longer than {LONGEST} characters or holds others than ASCII; {WRITE}"));
        }
        let (scheme, rest) =
            text.split_once("://").ok_or_else(|| format!("\"{}\" is no probe; {WRITE}", text.escape_debug()))?;
        let mut words = rest.split_ascii_whitespace();
        let address = words.next().unwrap_or_default();
        let authority_ends = address.find(['/', '?', '#']).unwrap_or(address.len());
        let (authority, path) = address.split_at(authority_ends);
        let Some(port) = authority.strip_prefix(':') else {
            return Err(format!("asks the container itself, so no host can be named; {WRITE}"));
        };
        let port = match port.parse() {
            Ok(port) if port > 0 && port_is_plain(authority) => port,
            _ => return Err(format!("\"{}\" is no port; write a number from 1 to 65535", port.escape_debug())),
        };
        let ask = match scheme {
            "tcp" if path.is_empty() && words.next().is_none() => Ask::Tcp,
            "tcp" => return Err("asks only whether the port is open, so nothing can follow it".to_owned()),
            "http" => {
                if path.contains('#') {
                    return Err("holds a #, which is never sent; leave it out".to_owned());
                }
                let path = match path.as_bytes().first() {
                    Some(b'/') => path.to_owned(),
                    _ => format!("/{path}"),
                };
                let expect = words.next().map(expect).transpose()?.unwrap_or_default();
                if let Some(more) = words.next() {
                    return Err(format!("\"{}\" is not understood behind the address", more.escape_debug()));
                }
                Ask::Http { path, expect }
            }
            "https" => {
                return Err(
                    "TLS is not offered; write tcp:// with the same port, or name a port without TLS".to_owned()
                );
            }
            other => return Err(format!("\"{}\" can't be asked; {WRITE}", other.escape_debug())),
        };
        Ok(Self { port, ask })
    }

    /// What it means, for people.
    pub fn in_words(&self) -> String {
        let what = match &self.ask {
            Ask::Tcp => format!("is asked whether it takes a connection at its port {}", self.port),
            Ask::Http { path, expect } => {
                format!("is asked for {path} at its port {} and must answer {expect}", self.port)
            }
        };
        format!(
            "{what}, before it is restarted and afterwards; it can be reached where that port is published on the host (not on \
             127.0.0.1 alone) or where it is in a network with Nexus"
        )
    }
}

/// Numbers as Rust reads them may have a sign.
fn port_is_plain(authority: &str) -> bool {
    authority.bytes().skip(1).all(|byte| byte.is_ascii_digit())
}

fn expect(word: &str) -> Result<Expect, String> {
    let wrong = || {
        let given = word.escape_debug();
        format!("\"{given}\" names no statuses; write such as expect=200-299,401")
    };
    let list = word.strip_prefix("expect=").ok_or_else(wrong)?;
    let status = |text: &str| text.parse::<u16>().ok().filter(|status| STATUSES.contains(status)).ok_or_else(wrong);
    let range = |item: &str| {
        let (from, to) = item.split_once('-').unwrap_or((item, item));
        let (from, to) = (status(from)?, status(to)?);
        if from <= to { Ok((from, to)) } else { Err(wrong()) }
    };
    let ranges: Vec<(u16, u16)> = list.split(',').map(range).collect::<Result<_, _>>()?;
    if ranges.len() > MOST_RANGES { Err(wrong()) } else { Ok(Expect(ranges)) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_probe_is_read_and_written_alike() {
        for (text, shown) in [
            ("http://:8080/healthz", "http://:8080/healthz"),
            (" http://:80 ", "http://:80/"),
            ("http://:80?full=1", "http://:80/?full=1"),
            ("http://:1/a?expect=5&b=http://x/ expect=200", "http://:1/a?expect=5&b=http://x/ expect=200"),
            ("http://:65535/  expect=200-299,401", "http://:65535/ expect=200-299,401"),
            ("http://:8080/ expect=200-399", "http://:8080/"),
            ("tcp://:5432", "tcp://:5432"),
        ] {
            let read = ProbeTarget::parse(text).unwrap_or_else(|why| panic!("{text}: {why}"));
            assert_eq!(read.to_string(), shown);
            assert_eq!(ProbeTarget::parse(shown), Ok(read));
        }
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, part) in [
            ("", "is no probe"),
            ("8080", "is no probe"),
            ("http://example.org/", "no host can be named"),
            ("http://example.org:80/", "no host can be named"),
            ("http://127.0.0.1:80/", "no host can be named"),
            ("http://[::1]:80/", "no host can be named"),
            ("http:///healthz", "no host can be named"),
            ("http://a@:80/", "no host can be named"),
            ("http://:80@example.org/", "is no port"),
            ("http://:0/", "is no port"),
            ("http://:+80/", "is no port"),
            ("http://:65536/", "is no port"),
            ("http://:/", "is no port"),
            ("http://:80/\r\nHost: x", "others than ASCII"),
            ("http://:80/\u{e9}", "others than ASCII"),
            ("http://:80/#top", "holds a #"),
            ("http://:80/ 200", "names no statuses"),
            ("http://:80/ expect=", "names no statuses"),
            ("http://:80/ expect=299-200", "names no statuses"),
            ("http://:80/ expect=99", "names no statuses"),
            ("http://:80/ expect=600", "names no statuses"),
            ("http://:80/ expect=1,1,1,1,1,1,1,1,1,1,1", "names no statuses"),
            ("http://:80/ expect=200 HTTP/1.1", "not understood behind"),
            ("https://:443/", "TLS is not offered"),
            ("tcp://:5432/", "nothing can follow"),
            ("tcp://:5432 expect=200", "nothing can follow"),
            ("udp://:53", "can't be asked"),
        ] {
            let why = ProbeTarget::parse(text).expect_err(text);
            assert!(why.contains(part), "{text}: {why}");
        }
        assert!(ProbeTarget::parse(&format!("http://:80/{}", "a".repeat(LONGEST))).is_err());
    }

    #[test]
    fn a_status_is_expected_or_not() {
        let check = |text: &str, status: u16, expected: bool| {
            let Ok(ProbeTarget { ask: Ask::Http { expect, .. }, .. }) = ProbeTarget::parse(text) else {
                panic!("{text}")
            };
            assert_eq!(expect.contains(status), expected, "{text} {status}");
        };
        for (status, expected) in [(100, false), (200, true), (302, true), (399, true), (400, false), (503, false)] {
            check("http://:80/", status, expected);
        }
        check("http://:80/ expect=401,500-503", 401, true);
        check("http://:80/ expect=401,500-503", 200, false);
        check("http://:80/ expect=401,500-503", 502, true);
    }

    proptest! {
        #[test]
        fn whatever_is_written_nothing_but_a_path_is_kept(text in "(http|tcp)://[ -~\r\n]{0,40}") {
            if let Ok(read) = ProbeTarget::parse(&text) {
                if let Ask::Http { path, .. } = &read.ask {
                    prop_assert!(path.starts_with('/') && path.bytes().all(|byte| matches!(byte, b'!'..=b'~')), "{path:?}");
                }
                prop_assert_eq!(ProbeTarget::parse(&read.to_string()), Ok(read));
            }
        }
    }
}
