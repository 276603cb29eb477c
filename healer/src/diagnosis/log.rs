//! What a program says of its own end: known sayings in its log and in the output of its health check.
//!
//! This is somebody else's text, and may be chatter about another thing, or a lie. So only the last run counts, only what
//! it did not survive, and nothing said here ever makes a diagnosis certain.

use jiff::{SignedDuration, Timestamp};
use nexus_model::Cause;

use crate::{evidence::without_timestamp, findings::Findings};

/// Of the last run so many lines are looked at: a stack trace may follow the line that tells.
const LINES: usize = 40;
/// Bytes of a line that are looked at.
const LINE_BYTES: usize = 600;
/// A program that still runs is ill because of what it said lately, if at all.
const LATELY: SignedDuration = SignedDuration::from_mins(5);
/// Docker notes the start of a container and its first line by the same clock; not always in this order.
const START_SLACK: SignedDuration = SignedDuration::from_secs(1);

/// A saying that was found.
#[derive(Clone, Debug, PartialEq)]
pub struct Said {
    pub cause: Cause,
    /// Nothing else that was said contradicts it, and it was not said in passing.
    pub is_clear: bool,
    pub line: String,
}

/// In the order in which they count within one line: what is more special comes first. All in lower case.
const SAYINGS: &[(Cause, &[&str])] = &[
    (Cause::WrongArchitecture, &["exec format error", "exec user process caused: exec format"]),
    (
        Cause::PortTaken,
        &["address already in use", "address in use", "eaddrinuse", "port is already allocated", "could not bind"],
    ),
    (
        Cause::DiskFull,
        &["no space left on device", "enospc", "disk quota exceeded", "database or disk is full", "disk full"],
    ),
    (Cause::ReadOnly, &["read-only file system", "erofs", "attempt to write a readonly database"]),
    (Cause::TooManyFiles, &["too many open files", "emfile"]),
    (
        Cause::OutOfMemory,
        &[
            "heap out of memory",
            "java.lang.outofmemoryerror",
            "cannot allocate memory",
            "can't allocate memory",
            "std::bad_alloc",
            "runtime: out of memory",
            "memoryerror",
            "allocation failed",
            "fatal: out of memory",
            "out of memory allocating",
        ],
    ),
    (
        Cause::DataOfOtherVersion,
        &[
            "database files are incompatible with server",
            "was initialized by postgresql version",
            "can't handle rdb format version",
            "unsupported schema version",
            "created by a newer version",
            "downgrade is not supported",
        ],
    ),
    (
        Cause::DataDamaged,
        &[
            "database disk image is malformed",
            "file is not a database",
            "could not locate a valid checkpoint",
            "invalid checkpoint record",
            "bad file format reading the append only file",
            "page corruption",
            "is corrupted",
            "is corrupt",
            "checksum mismatch",
            "wrong signature trying to load db",
        ],
    ),
    (
        Cause::DataLocked,
        &[
            "lock file \"postmaster.pid\" already exists",
            "database is locked",
            "lock db directory",
            "unable to lock",
            "could not lock",
            "another instance is running",
            "is already running",
            "already locked",
        ],
    ),
    (
        Cause::SlowStart,
        &[
            "the database system is starting up",
            "database system was interrupted",
            "was not properly shut down; automatic recovery in progress",
            "redo starts at",
            "redo in progress",
            "not yet accepting connections",
            "database system is not accepting connections",
            "consistent recovery state has not been yet reached",
            "starting crash recovery",
            "loading dataset in memory",
            "is loading the dataset",
            "replaying wal",
            "wal segment loaded",
            "applying migration",
            "running migration",
            "syncing data directory",
        ],
    ),
    (
        Cause::CertificateInvalid,
        &[
            "certificate has expired",
            "certificate expired",
            "certificate is not yet valid",
            "certificate verify failed",
            "unable to get local issuer certificate",
            "x509: ",
        ],
    ),
    (
        Cause::CredentialsRefused,
        &[
            "password authentication failed",
            "authentication failed",
            "access denied for user",
            "invalid username-password pair",
            "wrongpass",
            "noauth authentication required",
            "invalid credentials",
            "login failed",
            "401 unauthorized",
            "no pg_hba.conf entry",
        ],
    ),
    (
        Cause::NameNotResolved,
        &[
            "name or service not known",
            "temporary failure in name resolution",
            "name does not resolve",
            "could not resolve host",
            "could not translate host name",
            "host not found in upstream",
            "no such host",
            "getaddrinfo enotfound",
            "getaddrinfo eai_again",
            "nodename nor servname provided",
            "bad address",
            "unknown host",
            "unknownhostexception",
            "no address associated with hostname",
            "could not resolve address",
        ],
    ),
    (
        Cause::DependencyDown,
        &[
            "connection refused",
            "econnrefused",
            "could not connect to",
            "can't connect to",
            "couldn't connect to",
            "no route to host",
            "ehostunreach",
            "connection timed out",
            "etimedout",
            "host is unreachable",
        ],
    ),
    (
        Cause::PermissionDenied,
        &["permission denied", "eacces", "operation not permitted", "eperm", "permissionerror", "wrong ownership"],
    ),
    (
        Cause::FileMissing,
        &[
            "error while loading shared libraries",
            "no such file or directory",
            "enoent",
            "filenotfounderror",
            "modulenotfounderror",
            "no module named",
            "cannot find module",
            "unable to open database file",
        ],
    ),
    (
        Cause::Configuration,
        &[
            "unknown directive",
            "directive is not terminated",
            "error loading config",
            "loading configuration file failed",
            "error in configuration file",
            "errors found in configuration",
            "configuration file contains errors",
            "invalid configuration",
            "invalid config",
            "configuration error",
            "config error",
            "bad configuration",
            "bad directive",
            "unrecognized configuration parameter",
            "invalid value for parameter",
            "unknown configuration",
            "unresolved configuration",
            "unknown keyword",
            "unknown option",
            "unrecognized option",
            "unknown flag",
            "unexpected argument",
            "parsing yaml",
            "yaml: ",
            "unexpected \"}\"",
            "error parsing",
            "in json at",
            "not valid json",
            "invalid parameter",
            "invalid number of arguments in",
            "parse error",
            "missing required",
            "environment variable",
            "superuser password is not specified",
            "must be set",
            "is not set",
            "fatal config file error",
        ],
    ),
    (
        Cause::ApplicationError,
        // The last is what node ends with at an exception that nobody caught.
        &[
            "traceback (most recent call last)",
            "panic: ",
            "panicked at",
            "unhandled exception",
            "uncaught",
            "node.js v",
        ],
    ),
];

/// After one of these a program has come through whatever it complained about before.
const SURVIVED: &[&str] = &[
    "ready to accept connections",
    "accepting connections",
    "listening on",
    "listening at",
    "server started",
    "started successfully",
    "startup complete",
    "server is ready",
    "connected to",
    "reconnected",
    "connection established",
    "recovered",
    "succeeded",
];

const UNLESS: &[&str] = &["not ", "n't ", "fail", "could", "error", "unable", "refused", "retry"];

/// What the log of the last run says.
pub fn said(findings: &Findings) -> Option<Said> {
    let lines = last_run(findings);
    let survived = lines.iter().rposition(|line| {
        let text = line.text.to_ascii_lowercase();
        SURVIVED.iter().any(|good| text.contains(good)) && !UNLESS.iter().any(|bad| text.contains(bad))
    });
    let lines = &lines[survived.map_or(0, |at| at + 1)..];
    let lines = &lines[lines.len().saturating_sub(LINES)..];
    let newest = lines.iter().filter_map(|line| line.at).max();
    let recent = |line: &&Line<'_>| {
        let old = newest.zip(line.at).is_some_and(|(newest, at)| newest.duration_since(at) > LATELY);
        findings.has_ended() || !old
    };
    let mut found: Vec<(Cause, Level, &str)> = Vec::new();
    let mut loud = 0;
    for line in lines.iter().filter(recent) {
        let level = level(line.text);
        loud += usize::from(level != Level::Quiet);
        if let Some(cause) = saying(line.text) {
            // Databases tell of their recovery as of any other work.
            if level != Level::Quiet || cause == Cause::SlowStart {
                found.push((cause, level, line.text));
            }
        }
    }
    let special = found.iter().any(|(cause, ..)| *cause != Cause::ApplicationError);
    found.retain(|(cause, ..)| !special || *cause != Cause::ApplicationError);
    // A warning about one thing says nothing against an error about another.
    let grave = found.iter().any(|(_, level, _)| *level == Level::Loud);
    found.retain(|(_, level, _)| !grave || *level != Level::Warning);
    let (cause, level, line) = found.last().copied()?;
    // Recovery is the reason for what it does not do meanwhile.
    let agree = found.iter().all(|(other, ..)| *other == cause || *other == Cause::SlowStart);
    let often = found.iter().filter(|(other, ..)| *other == cause).count() > 1;
    let earnest = findings.has_ended() || cause == Cause::SlowStart || (level == Level::Loud && (often || loud == 1));
    Some(Said { cause, is_clear: agree && earnest, line: line.trim().to_owned() })
}

/// The last line that a program said before its end, if it was not in passing.
pub fn last_words(findings: &Findings) -> Option<&str> {
    let lines = last_run(findings);
    let line = lines.iter().rev().find(|line| level(line.text) != Level::Quiet)?;
    Some(line.text.trim())
}

/// What is to be read out of the output of the last probe.
pub fn said_by_probe(findings: &Findings) -> Option<Said> {
    let output = &findings.probes.last()?.output;
    output.iter().rev().take(LINES).find_map(|line| {
        let text = lower(line);
        let cause = answer(&text)?;
        Some(Said { cause, is_clear: true, line: line.trim().to_owned() })
    })
}

/// In lower case. Probes are run inside the container, and most ask the service itself.
fn answer(text: &str) -> Option<Cause> {
    const STARTING: [&str; 3] = ["rejecting connections", "is starting up", "loading dataset"];
    const CLOSED: [&str; 7] = [
        "connection refused",
        "econnrefused",
        "failed to connect",
        "couldn't connect",
        "could not connect",
        "can't connect",
        "no response",
    ];
    let any = |sayings: &[&str]| sayings.iter().any(|saying| text.contains(saying));
    if any(&STARTING) {
        Some(Cause::SlowStart)
    } else if http_error(text) {
        Some(Cause::AnswersWithError)
    } else if any(&CLOSED) {
        Some(Cause::NotListening)
    } else {
        match saying(text)? {
            // It is not the service that ended by this.
            Cause::ApplicationError | Cause::Configuration | Cause::FileMissing => None,
            cause => Some(cause),
        }
    }
}

/// `HTTP/1.1 503 …`, `returned error: 500`, `HTTP error 502`, `status code 500`, `status: 500`.
fn http_error(text: &str) -> bool {
    const BEFORE: [&str; 4] = ["http", "error", "code", "status"];
    let mut words = text.split(|character: char| character.is_whitespace() || "\"'(),;=".contains(character));
    let mut before = "";
    words.any(|word| {
        let word = word.trim_end_matches(':');
        if word.is_empty() {
            return false;
        }
        let is_status = word.len() == 3
            && (word.starts_with('4') || word.starts_with('5'))
            && word.bytes().all(|byte| byte.is_ascii_digit());
        let found = is_status && (BEFORE.contains(&before) || before.starts_with("http/"));
        before = word;
        found
    })
}

struct Line<'a> {
    at: Option<Timestamp>,
    text: &'a str,
}

/// The lines that the last run has written, without Docker's time.
fn last_run(findings: &Findings) -> Vec<Line<'_>> {
    let began = findings.started_at.map(|at| at.saturating_sub(START_SLACK).unwrap_or(Timestamp::MIN));
    let line = |line: &'_ String| -> Option<(Option<Timestamp>, usize)> {
        let text = without_timestamp(line);
        let at = line[..line.len() - text.len()].trim().parse().ok();
        Some((at, line.len() - text.len()))
    };
    findings
        .log
        .iter()
        .filter_map(|text| line(text).map(|(at, from)| Line { at, text: &text[from..] }))
        .filter(|line| !line.text.trim().is_empty())
        .filter(|line| line.at.zip(began).is_none_or(|(at, began)| at >= began))
        .collect()
}

fn lower(text: &str) -> String {
    text[..text.floor_char_boundary(LINE_BYTES)].to_ascii_lowercase()
}

fn saying(text: &str) -> Option<Cause> {
    let text = lower(text);
    SAYINGS.iter().find(|(_, sayings)| sayings.iter().any(|saying| text.contains(saying))).map(|(cause, _)| *cause)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Level {
    /// The course of things.
    Quiet,
    Warning,
    /// An error, or nothing is said about it.
    Loud,
}

/// The level that a line gives itself, looked for among its first words: `INFO`, `[notice]`, `level=info`, `"level":"info"`.
fn level(text: &str) -> Level {
    const WORDS: usize = 16;
    let mut at = 0;
    for word in text.split(|character: char| !character.is_ascii_alphanumeric()).take(WORDS) {
        let (begins, ends) = (at, at + word.len());
        at = ends + text[ends..].chars().next().map_or(0, char::len_utf8);
        let marked = || {
            let before = text[..begins].chars().next_back();
            let after = text[ends..].chars().next();
            before.is_some_and(|sign| "[=<\"(".contains(sign)) || (begins == 0 && after == Some(':'))
        };
        let is_level = word.len() > 2 && (word.bytes().all(|byte| byte.is_ascii_uppercase()) || marked());
        if !is_level {
            continue;
        }
        match word.to_ascii_lowercase().as_str() {
            "info" | "debug" | "trace" | "notice" | "verbose" | "hint" => return Level::Quiet,
            "warn" | "warning" => return Level::Warning,
            "error" | "err" | "fatal" | "panic" | "crit" | "critical" | "emerg" | "alert" | "severe" => {
                return Level::Loud;
            }
            _ => (),
        }
    }
    Level::Loud
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_gives_itself_a_level() {
        let check = |text: &str, expected: Level| assert_eq!(level(text), expected, "{text}");
        check("2026-01-02 12:00:00 INFO  out of memory killer adjusted", Level::Quiet);
        check("ts=2026 caller=main.go level=info msg=x", Level::Quiet);
        check(r#"{"level":"debug","msg":"x"}"#, Level::Quiet);
        check("2026/01/02 [notice] 1#1: x", Level::Quiet);
        check("nginx: [emerg] bind() failed", Level::Loud);
        check("for more info see the manual: No such file", Level::Loud);
        check("[WARN] slow", Level::Warning);
        check("ERROR no INFO", Level::Loud);
        check("no level at all", Level::Loud);
        check("größer [info] ü", Level::Quiet);
    }

    #[test]
    fn an_answer_with_an_error_is_known_in_the_words_of_several_tools() {
        for text in [
            "curl: (22) the requested url returned error: 500",
            "wget: server returned error: http/1.1 503 service unavailable",
            "unexpected status code 502",
            "status=500",
            "http error 404: not found",
        ] {
            assert!(http_error(text), "{text}");
        }
        for text in ["took 500 ms", "500 connections", "http/1.1 200 ok", "error 12", "port 443", "http://x:500/"] {
            assert!(!http_error(text), "{text}");
        }
    }

    #[test]
    fn sayings_are_written_as_they_are_looked_for() {
        for saying in SAYINGS.iter().flat_map(|(_, sayings)| *sayings).chain(SURVIVED).chain(UNLESS) {
            assert_eq!(*saying, saying.to_ascii_lowercase());
        }
    }
}
