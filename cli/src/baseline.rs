//! `nexus baseline`: how busy this machine usually is, asked of the reporter.

use anyhow::Result;
use clap::Args;
use nexus_reporter::baseline::{Baseline, DAYS, USUAL_DAYS, render};

use crate::failure::mistake;
use crate::home::Home;
use crate::http::{HttpError, Part};

#[derive(Debug, Args)]
pub struct Options {
    /// Another machine of the history than this one
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Of how many days up to now
    #[arg(long, default_value_t = USUAL_DAYS, value_parser = clap::value_parser!(u32).range(i64::from(*DAYS.start())..=i64::from(*DAYS.end())))]
    pub days: u32,
    #[command(flatten)]
    pub format: Format,
}

/// How an answer is written.
#[derive(Debug, Args)]
#[group(multiple = false)]
pub struct Format {
    /// Print JSON
    #[arg(long)]
    pub json: bool,
    /// Print Markdown, for a document
    #[arg(long)]
    pub markdown: bool,
}

pub async fn run(home: &Home, options: &Options) -> Result<String> {
    let host = host(home, options.host.as_deref());
    let days = options.days.to_string();
    let asked = Part::reporter(home)?.get::<Baseline>("/api/v1/baseline", &[("host", host), ("days", &days)]).await;
    let baseline = asked.map_err(told)?;
    match options.format {
        Format { json: true, .. } => crate::as_json(&baseline),
        Format { markdown: true, .. } => Ok(render::markdown_page(&baseline)),
        _ => Ok(render::text(&baseline)),
    }
}

/// The machine that is asked about.
pub fn host<'a>(home: &'a Home, named: Option<&'a str>) -> &'a str {
    named.unwrap_or_else(|| home.get("NEXUS_HOST"))
}

/// What the reporter says of a host, a range or a format that do not exist is a mistake of who asks.
pub fn told(error: HttpError) -> anyhow::Error {
    match &error {
        HttpError::Status { status: 400 | 404 | 422, message, .. } if message.starts_with(": ") => {
            mistake(message.trim_start_matches(": ").to_owned())
        }
        HttpError::Told { message, .. } => mistake(message.clone()),
        _ => error.into(),
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Asks a reporter that answers so; with what was asked.
    fn ask(status: &str, body: &str, options: Options) -> (Result<String>, String) {
        let answer = format!("HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let home = Home::for_test(std::path::Path::new("/n"), &format!("NEXUS_HOST=pi\nNEXUS_REPORTER_PORT={port}\n"));
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let said = runtime.block_on(run(&home, &options));
        (said, server.join().unwrap().lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn the_reporter_is_asked_for_this_host_or_another() {
        let options = |host: Option<&str>| Options {
            host: host.map(str::to_owned),
            days: 30,
            format: Format { json: false, markdown: false },
        };
        let nothing = nexus_reporter::baseline::baseline("pi", &jiff::tz::TimeZone::UTC, 30, &[], Vec::new(), &[]);
        let (said, asked) = ask("200 OK", &serde_json::to_string(&nothing).unwrap(), options(None));
        assert!(said.unwrap().ends_with("Nothing is recorded yet.\n"));
        assert_eq!(asked, "GET /api/v1/baseline?host=pi&days=30 HTTP/1.1");
        let unknown = r#"{"error":"there is no host \"x&y\": it knows pi"}"#;
        let (said, asked) = ask("404 Not Found", unknown, options(Some("x&y")));
        assert_eq!(said.unwrap_err().to_string(), "there is no host \"x&y\": it knows pi");
        assert_eq!(asked, "GET /api/v1/baseline?host=x%26y&days=30 HTTP/1.1");
    }

    #[test]
    fn what_is_wrong_in_the_question_is_told_as_a_mistake() {
        let status = |status: u16, message: &str| HttpError::Status {
            name: "the reporter",
            base: "http://127.0.0.1:10192".into(),
            status,
            message: message.into(),
        };
        let check = |error: HttpError, code: std::process::ExitCode, says: &str| {
            let error = told(error);
            assert_eq!(error.to_string(), says);
            assert_eq!(format!("{:?}", crate::failure::report(&error)), format!("{code:?}"));
        };
        let (two, one) = (std::process::ExitCode::from(2), std::process::ExitCode::from(1));
        check(status(404, ": there is no host \"x\""), two, "there is no host \"x\"");
        check(status(404, ""), one, "the reporter at http://127.0.0.1:10192 answers 404");
        check(status(503, ": no database"), one, "the reporter at http://127.0.0.1:10192 answers 503: no database");
    }
}
