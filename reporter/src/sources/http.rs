//! Asking the parts of the stack over HTTP, with errors that say which part, where, and the mend.

use std::time::Duration;

use nexus_model::api::ApiError;
use reqwest::{Method, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// Local services answer in milliseconds; on a Pi under load in a second or two.
const TIMEOUT: Duration = Duration::from_secs(10);
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Why a request brought no answer that can be used.
#[derive(Debug, thiserror::Error)]
pub enum HttpError {
    #[error("{name} does not answer at {base}: is the stack up? run ./nexus up")]
    Unreachable { name: &'static str, base: String },
    #[error("{name} at {base} took longer than {} s to answer", TIMEOUT.as_secs())]
    TimedOut { name: &'static str, base: String },
    /// In the healer's own words, which say all that there is to say.
    #[error("{message}")]
    Told { status: u16, message: String },
    #[error("{name} at {base} answers {status}{message}")]
    Status { name: &'static str, base: String, status: u16, message: String },
    #[error(
        "{name} at {base} answers something that is not understood ({reason}): is its port taken by another program?"
    )]
    Nonsense { name: &'static str, base: String, reason: String },
    #[error("cannot set up the HTTP client: {reason}")]
    Client { reason: String },
}

impl HttpError {
    pub fn status(&self) -> Option<u16> {
        match self {
            HttpError::Told { status, .. } | HttpError::Status { status, .. } => Some(*status),
            _ => None,
        }
    }
}

/// A name as one segment of a path (RFC 3986).
pub fn segment(name: &str) -> String {
    let encode = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    name.bytes().map(encode).collect()
}

/// Who answers a request that can't be met with a sentence for people.
pub const HEALER: &str = "the healer";

/// One part of the stack.
#[derive(Clone)]
pub struct Part {
    pub name: &'static str,
    pub base: String,
    /// Tried in this order, as long as one is not known there.
    tokens: Vec<String>,
    client: reqwest::Client,
}

impl Part {
    /// The tokens are bearer tokens; none where none is asked for.
    pub fn new(name: &'static str, base: String, tokens: Vec<String>) -> Result<Part, HttpError> {
        let client = reqwest::Client::builder()
            // Everything is on this machine; a proxy of the environment would only get in the way.
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(TIMEOUT)
            .build()
            .map_err(|error| HttpError::Client { reason: error.to_string() })?;
        Ok(Part { name, base, tokens, client })
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, HttpError> {
        let body = self.send(Method::GET, path, query, None::<&()>).await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))
    }

    /// For answers whose body says nothing.
    pub async fn ok(&self, path: &str) -> Result<(), HttpError> {
        self.send(Method::GET, path, &[], None::<&()>).await.map(drop)
    }

    pub async fn text(&self, path: &str) -> Result<String, HttpError> {
        self.text_of(path, &[]).await
    }

    pub async fn text_of(&self, path: &str, query: &[(&str, &str)]) -> Result<String, HttpError> {
        Ok(String::from_utf8_lossy(&self.send(Method::GET, path, query, None::<&()>).await?).into_owned())
    }

    pub async fn post(&self, path: &str, body: &impl Serialize) -> Result<(), HttpError> {
        self.send(Method::POST, path, &[], Some(body)).await.map(drop)
    }

    /// A `POST` whose answer says something.
    pub async fn post_for<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, HttpError> {
        let body = self.send(Method::POST, path, &[], Some(body)).await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))
    }

    pub async fn delete<T: DeserializeOwned>(&self, path: &str, query: &[(&str, &str)]) -> Result<T, HttpError> {
        let body = self.send(Method::DELETE, path, query, None::<&()>).await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))
    }

    pub async fn put<T: DeserializeOwned>(&self, path: &str, body: &impl Serialize) -> Result<T, HttpError> {
        let body = self.send(Method::PUT, path, &[], Some(body)).await?;
        serde_json::from_slice(&body).map_err(|error| self.nonsense(&error))
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, &str)],
        body: Option<&impl Serialize>,
    ) -> Result<Vec<u8>, HttpError> {
        let mut url = format!("{}{path}", self.base);
        if !query.is_empty() {
            let encoded = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(query).finish();
            url = format!("{url}?{encoded}");
        }
        let send = async |token: Option<&String>| {
            let mut request = self.client.request(method.clone(), &url);
            if let Some(token) = token {
                request = request.bearer_auth(token);
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            request.send().await.map_err(|error| self.failed(&error))
        };
        let mut answer = send(self.tokens.first()).await?;
        for token in self.tokens.iter().skip(1) {
            if answer.status() == StatusCode::UNAUTHORIZED {
                answer = send(Some(token)).await?;
            }
        }
        let status = answer.status();
        let bytes = answer.bytes().await.map_err(|error| self.failed(&error))?;
        if status.is_success() { Ok(bytes.into()) } else { Err(self.refused(status, &bytes)) }
    }

    fn failed(&self, error: &reqwest::Error) -> HttpError {
        let (name, base) = (self.name, self.base.clone());
        if error.is_connect() {
            HttpError::Unreachable { name, base }
        } else if error.is_timeout() {
            HttpError::TimedOut { name, base }
        } else {
            let mut reason = String::new();
            let mut cause: Option<&dyn std::error::Error> = Some(error);
            // The innermost cause is the telling one, and the only one without the address.
            while let Some(current) = cause {
                reason = current.to_string();
                cause = current.source();
            }
            HttpError::Nonsense { name, base, reason }
        }
    }

    fn nonsense(&self, error: &serde_json::Error) -> HttpError {
        HttpError::Nonsense { name: self.name, base: self.base.clone(), reason: error.to_string() }
    }

    fn refused(&self, status: StatusCode, body: &[u8]) -> HttpError {
        let message = match (serde_json::from_slice::<ApiError>(body), status) {
            (_, StatusCode::UNAUTHORIZED) => ": its token is another one; run ./nexus up".to_owned(),
            // What is wrong is in the request, not in the healer.
            (Ok(said), _) if status.is_client_error() && self.name == HEALER && !said.error.is_empty() => {
                return HttpError::Told { status: status.as_u16(), message: said.error };
            }
            (Ok(said), _) => format!(": {}", said.error),
            (Err(_), _) => String::new(),
        };
        HttpError::Status { name: self.name, base: self.base.clone(), status: status.as_u16(), message }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};

    use super::*;

    /// Answers one request with the given bytes.
    fn ask(answer: &'static str) -> Result<ApiError, HttpError> {
        ask_of(HEALER, answer)
    }

    fn ask_of(name: &'static str, answer: &'static str) -> Result<ApiError, HttpError> {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            stream.write_all(answer.as_bytes()).unwrap();
            String::from_utf8_lossy(&request[..length]).into_owned()
        });
        let part = Part::new(name, base, vec!["t0ken".into()]).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let result = runtime.block_on(part.get("/x", &[("a", "b c")]));
        let request = server.join().unwrap();
        assert!(request.starts_with("GET /x?a=b+c HTTP/1.1\r\n") && request.contains("authorization: Bearer t0ken"));
        result
    }

    #[test]
    fn errors_say_which_part_and_what_it_said() {
        let check = |answer: &'static str, contains: &str| {
            let message = ask(answer).unwrap_err().to_string();
            assert!(message.contains(contains) && !message.contains("t0ken"), "{message}");
        };
        check("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n\r\nno", "answers 404");
        check("HTTP/1.1 404 Not Found\r\ncontent-length: 12\r\n\r\n{\"error\":\"\"}", "answers 404");
        check("HTTP/1.1 503 Unavailable\r\ncontent-length: 16\r\n\r\n{\"error\":\"no x\"}", "answers 503: no x");
        check("HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\n\r\n", "answers 401: its token is another one");
        check("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi", "not understood");
        check("SSH-2.0-x\r\n\r\n", "not understood");
        assert_eq!(ask("HTTP/1.1 200 OK\r\ncontent-length: 15\r\n\r\n{\"error\":\"yes\"}").unwrap().error, "yes");
    }

    #[test]
    fn what_the_healer_says_of_a_request_is_told_as_it_is() {
        let answer = "HTTP/1.1 404 Not Found\r\ncontent-length: 16\r\n\r\n{\"error\":\"no x\"}";
        let told = ask(answer).unwrap_err();
        assert_eq!((told.to_string().as_str(), told.status()), ("no x", Some(404)));
        // Others say more of themselves than of what is asked.
        let other = ask_of("Prometheus", answer).unwrap_err();
        assert!(other.to_string().ends_with(" answers 404: no x") && other.status() == Some(404), "{other}");
    }

    /// A healer that knows some tokens, and what it is asked with.
    fn knowing(known: &'static [&'static str], requests: usize) -> (String, std::thread::JoinHandle<Vec<String>>) {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let serve = move |_| {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = [0; 2048];
            let length = stream.read(&mut request).unwrap();
            let request = String::from_utf8_lossy(&request[..length]).into_owned();
            let given =
                request.lines().find_map(|line| line.strip_prefix("authorization: Bearer ")).unwrap_or_default();
            let answer = match known.contains(&given) {
                true => "HTTP/1.1 200 OK\r\ncontent-length: 15\r\nconnection: close\r\n\r\n{\"error\":\"yes\"}",
                false => "HTTP/1.1 401 Unauthorized\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            };
            stream.write_all(answer.as_bytes()).unwrap();
            given.to_owned()
        };
        (base, std::thread::spawn(move || (0..requests).map(serve).collect()))
    }

    #[test]
    fn the_next_token_is_shown_only_where_one_is_not_known() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let check = |known: &'static [&'static str], shown: &[&str]| {
            let (base, healer) = knowing(known, shown.len());
            let part = Part::new(HEALER, base, vec!["read".into(), "act".into()]).unwrap();
            assert_eq!(runtime.block_on(part.get::<ApiError>("/x", &[])).unwrap().error, "yes");
            assert_eq!(healer.join().unwrap(), shown);
        };
        check(&["act", "read"], &["read"]);
        check(&["act"], &["read", "act"]);
    }

    #[test]
    fn nobody_there_gives_the_mend() {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let part = Part::new("the healer", "http://127.0.0.1:1".into(), Vec::new()).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        assert_eq!(
            runtime.block_on(part.ok("/")).unwrap_err().to_string(),
            "the healer does not answer at http://127.0.0.1:1: is the stack up? run ./nexus up"
        );
    }
}
