//! What every connection and request passes when there is a web configuration: TLS, the rate limit, the password. The files
//! are looked at again at each of them, and a change counts from the next on; a broken file changes nothing.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use rustls::ServerConfig;

use crate::config::{WebConfig, WebConfigError};
use crate::files::Files;
use crate::passwords::{Passwords, Users, Verdict};
use crate::rate::Bucket;
use crate::tls;

/// A web configuration that is in force.
#[derive(Debug)]
pub struct Gate {
    path: PathBuf,
    /// Paths that need no password and are not counted; `/x/*` stands for all below `/x/`.
    open: &'static [&'static str],
    passwords: Passwords,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    rules: Arc<Rules>,
    /// What was read at last, be it good or not.
    files: Files,
    is_ok: bool,
}

#[derive(Debug)]
pub(crate) struct Rules {
    pub tls: Option<Arc<ServerConfig>>,
    users: Users,
    headers: HeaderMap,
    bucket: Option<Arc<Bucket>>,
    notes: Vec<String>,
}

impl Gate {
    /// Reads the web configuration at `path`. Requests for a path in `open` pass without a password and outside of the rate
    /// limit: a health check, or `/api/*`, which has tokens of its own.
    pub fn open(path: &Path, open: &'static [&'static str]) -> Result<Gate, WebConfigError> {
        let mut files = Files::default();
        let rules = load(path, &mut files)?;
        rules.tell();
        let passwords = Passwords::new().map_err(|source| WebConfigError::Read {
            path: path.to_owned(),
            what: "the web configuration",
            source,
        })?;
        let state = Mutex::new(State { rules: Arc::new(rules), files, is_ok: true });
        Ok(Gate { path: path.to_owned(), open, passwords, state })
    }

    /// Whether the files, as they were last looked at, are those in force.
    pub fn is_ok(&self) -> bool {
        self.state().is_ok
    }

    /// Those in force, after a look at the files. They are small and local; what reads them waits.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        let mut state = self.state();
        if state.files.may_have_changed() {
            self.read_again(&mut state);
        }
        Arc::clone(&state.rules)
    }

    fn read_again(&self, state: &mut State) {
        let mut files = Files::default();
        let read = load(&self.path, &mut files).and_then(|rules| self.at_least_as_strict(rules, &state.rules));
        let is_news = !files.are_the_same(&state.files);
        state.files = files;
        if !is_news {
            return;
        }
        match read {
            Ok(mut rules) => {
                rules.tell();
                // The tokens that are left stay left.
                let kept = state
                    .rules
                    .bucket
                    .as_ref()
                    .filter(|old| rules.bucket.as_ref().is_some_and(|new| new.rate == old.rate));
                if let Some(kept) = kept {
                    rules.bucket = Some(Arc::clone(kept));
                }
                self.passwords.keep(&rules.users);
                *state = State { rules: Arc::new(rules), files: std::mem::take(&mut state.files), is_ok: true };
                tracing::info!(path = %self.path.display(), "web configuration read again");
            }
            Err(error) => {
                state.is_ok = false;
                tracing::warn!(reason = chain(&error), "web configuration not usable, the one before stays in force");
            }
        }
    }

    /// A file that is being written is empty for a moment, and must not open the door.
    fn at_least_as_strict(&self, new: Rules, old: &Rules) -> Result<Rules, WebConfigError> {
        let what = match (&new, old) {
            (Rules { tls: None, .. }, Rules { tls: Some(_), .. }) => "TLS",
            (new, old) if new.users.is_empty() && !old.users.is_empty() => "a password",
            _ => return Ok(new),
        };
        Err(WebConfigError::Unprotected { file: self.path.display().to_string(), what })
    }

    /// Whether a request may pass; otherwise the answer that it gets.
    pub(crate) async fn admit<B>(&self, rules: &Rules, request: &Request<B>, from: IpAddr) -> Result<(), Response> {
        if self.is_open(request.uri().path()) {
            return Ok(());
        }
        if rules.bucket.as_ref().is_some_and(|bucket| !bucket.take(Instant::now())) {
            return Err((StatusCode::TOO_MANY_REQUESTS, "too many requests\n").into_response());
        }
        if rules.users.is_empty() {
            return Ok(());
        }
        let given = request.headers().get(header::AUTHORIZATION).map(HeaderValue::as_bytes).and_then(credentials);
        let verdict = match given {
            Some((name, password)) => self.passwords.check(&rules.users, &name, &password, from).await,
            None => Verdict::Wrong,
        };
        match verdict {
            Verdict::Right => Ok(()),
            Verdict::Wrong => {
                let challenge = HeaderValue::from_static("Basic realm=\"nexus\", charset=\"UTF-8\"");
                let challenge = [(header::WWW_AUTHENTICATE, challenge)];
                Err((StatusCode::UNAUTHORIZED, challenge, "a user name and a password are required\n").into_response())
            }
            Verdict::Busy => {
                let why = "too many passwords are waiting to be checked\n";
                Err((StatusCode::TOO_MANY_REQUESTS, why).into_response())
            }
        }
    }

    fn is_open(&self, path: &str) -> bool {
        self.open.iter().any(|open| match open.strip_suffix('*') {
            Some(beginning) => path.starts_with(beginning),
            None => path == *open,
        })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rules {
    pub fn add_headers(&self, headers: &mut HeaderMap) {
        for (name, value) in &self.headers {
            headers.insert(name, value.clone());
        }
    }

    fn tell(&self) {
        for note in &self.notes {
            tracing::info!(note, "web configuration");
        }
    }
}

fn load(path: &Path, files: &mut Files) -> Result<Rules, WebConfigError> {
    let what = "the web configuration";
    let failed = |source| WebConfigError::Read { path: path.to_owned(), what, source };
    let text = files.read(path).map_err(failed)?;
    let text = String::from_utf8(text).map_err(|error| failed(std::io::Error::other(error)))?;
    let config = WebConfig::parse(path, &text)?;
    Ok(Rules {
        tls: config.tls.map(|settings| tls::server_config(&settings, path, files)).transpose()?,
        users: config.users,
        headers: config.headers,
        bucket: config.rate.map(|rate| Arc::new(Bucket::new(rate, Instant::now()))),
        notes: config.notes,
    })
}

/// Name and password of an Authorization header.
fn credentials(header: &[u8]) -> Option<(Vec<u8>, Vec<u8>)> {
    let (scheme, given) = header.split_at_checked(6)?;
    if !scheme.eq_ignore_ascii_case(b"Basic ") {
        return None;
    }
    let mut name = STANDARD.decode(given.trim_ascii()).ok()?;
    let colon = name.iter().position(|byte| *byte == b':')?;
    let password = name.split_off(colon + 1);
    name.pop();
    Some((name, password))
}

/// An error with its causes on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn credentials_are_taken_apart() {
        let check = |header: &str, expected: Option<(&str, &str)>| {
            let expected = expected.map(|(name, password)| (name.as_bytes().to_vec(), password.as_bytes().to_vec()));
            assert_eq!(credentials(header.as_bytes()), expected, "{header}");
        };
        check("Basic YWxpY2U6c2VjcmV0", Some(("alice", "secret")));
        check("basic  YWxpY2U6c2VjcmV0 ", Some(("alice", "secret")));
        check("Basic Ym9iOmE6Yg==", Some(("bob", "a:b")));
        check("Basic Og==", Some(("", "")));
        check("Basic YWxpY2U=", None);
        check("Basic ???", None);
        check("Basic ", None);
        check("Bearer YWxpY2U6c2VjcmV0", None);
        check("", None);
    }

    proptest! {
        #[test]
        fn never_panics(header in proptest::collection::vec(any::<u8>(), 0..40)) {
            credentials(&header);
            credentials(&[b"Basic ".as_slice(), &header].concat());
        }
    }

    #[test]
    fn a_broken_file_changes_nothing_and_shows() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let user = |name: &str| {
            let hash = bcrypt::hash_with_salt(name, 4, [1; 16]).unwrap();
            format!("basic_auth_users:\n  {name}: {hash}\n")
        };
        std::fs::write(&path, user("alice")).unwrap();
        let gate = Gate::open(&path, &[]).unwrap();
        let users = || gate.rules().users.keys().cloned().collect::<Vec<_>>();
        assert_eq!((users(), gate.is_ok()), (vec!["alice".to_owned()], true));
        for broken in ["basic_auth_users:\n  bob: x\n", "nonsense: [", "", "rate_limit:\n  interval: 1s\n  burst: 1\n"]
        {
            std::fs::write(&path, broken).unwrap();
            assert_eq!((users(), gate.is_ok()), (vec!["alice".to_owned()], false), "{broken:?}");
        }
        std::fs::remove_file(&path).unwrap();
        assert_eq!((users(), gate.is_ok()), (vec!["alice".to_owned()], false));
        std::fs::write(&path, user("bob")).unwrap();
        assert_eq!((users(), gate.is_ok()), (vec!["bob".to_owned()], true));
        // The same again is no news.
        let before = gate.rules();
        std::fs::write(&path, user("bob")).unwrap();
        assert!(Arc::ptr_eq(&before, &gate.rules()));
    }

    #[test]
    fn what_is_open_is_open_as_it_is_written() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        std::fs::write(&path, "").unwrap();
        let gate = Gate::open(&path, &["/healthz", "/api/*"]).unwrap();
        for (path, open) in [
            ("/healthz", true),
            ("/healthz/", false),
            ("/api/v1/status", true),
            ("/api/", true),
            ("/api", false),
            ("/apis/x", false),
            ("/x/api/", false),
            ("//api/v1", false),
            ("/", false),
            ("/API/v1", false),
        ] {
            assert_eq!(gate.is_open(path), open, "{path}");
        }
    }

    #[test]
    fn the_rate_limit_survives_other_changes() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("web.yml");
        let rate = "rate_limit:\n  interval: 1h\n  burst: 1\n";
        std::fs::write(&path, rate).unwrap();
        let gate = Gate::open(&path, &[]).unwrap();
        let takes = || gate.rules().bucket.as_ref().unwrap().take(Instant::now());
        assert!(takes() && !takes());
        std::fs::write(&path, format!("{rate}http_server_config:\n  headers:\n    X-Frame-Options: deny\n")).unwrap();
        assert!(!takes());
        std::fs::write(&path, rate.replace("1h", "2h")).unwrap();
        assert!(takes());
    }

    #[test]
    fn a_missing_file_is_named_with_its_cause() {
        let error = Gate::open(Path::new("/nonexistent/web.yml"), &[]).unwrap_err();
        assert!(
            chain(&error).starts_with("can't read /nonexistent/web.yml, the web configuration: No such file"),
            "{error}"
        );
    }
}
