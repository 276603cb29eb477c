//! The web configuration file, in the format that Prometheus's exporters share (exporter-toolkit's `--web.config.file`).
//!
//! A key that is not known, or a value that can't be meant, is an error that names file, line, key and mend: a server
//! that misread what was to protect it is worse than one that does not start. What the format has and this server can't
//! do but need not (HTTP/2, ciphers that other suites replace) is accepted, and told.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::rate::Rate;
use crate::tls::{CURVES, CipherSuites, ClientAuth, Curves, Pem, SUITES, TlsSettings, Versions};

/// What the file says, checked. Certificates and keys are only named here.
#[derive(Debug, Default)]
pub(crate) struct WebConfig {
    pub tls: Option<TlsSettings>,
    /// Hashes by name. Empty: nobody is asked for a password.
    pub users: BTreeMap<String, String>,
    pub headers: HeaderMap,
    pub rate: Option<Rate>,
    /// What is accepted without effect.
    pub notes: Vec<String>,
}

/// Why a web configuration can't be used: one line for the owner, with its causes.
#[derive(Debug, thiserror::Error)]
pub enum WebConfigError {
    #[error("can't read {}, {what}", path.display())]
    Read { path: PathBuf, what: &'static str, source: std::io::Error },
    #[error("the web configuration {file} is wrong: {message}")]
    Yaml { file: String, message: String },
    #[error("the web configuration {file}, line {line}: {key}: {message}")]
    Value { file: String, line: u64, key: String, message: String },
    #[error("{}: {message}", path.display())]
    Material { path: PathBuf, message: String },
    #[error("the web configuration {file} would no longer ask for {what}: restart to switch that off")]
    Unprotected { file: String, what: &'static str },
}

/// The most costly hash that is taken; each step doubles the time, and 18 takes a Pi about half a minute.
const MAX_BCRYPT_COST: u32 = 18;

/// The headers that may be set, with the values that they may have where those are few.
const HEADERS: &[(&str, &[&str])] = &[
    ("Content-Security-Policy", &[]),
    ("Strict-Transport-Security", &[]),
    ("X-Content-Type-Options", &["nosniff"]),
    ("X-Frame-Options", &["deny", "sameorigin"]),
    ("X-XSS-Protection", &[]),
];

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawConfig {
    tls_server_config: Option<Spanned<RawTls>>,
    http_server_config: Option<RawHttp>,
    basic_auth_users: Option<BTreeMap<String, Spanned<String>>>,
    rate_limit: Option<Spanned<RawRate>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawTls {
    cert: Option<Spanned<String>>,
    cert_file: Option<Spanned<String>>,
    key: Option<Spanned<String>>,
    key_file: Option<Spanned<String>>,
    client_ca: Option<Spanned<String>>,
    client_ca_file: Option<Spanned<String>>,
    client_auth_type: Option<Spanned<String>>,
    client_allowed_sans: Option<Spanned<Vec<String>>>,
    min_version: Option<Spanned<String>>,
    max_version: Option<Spanned<String>>,
    cipher_suites: Option<Spanned<Vec<Spanned<String>>>>,
    prefer_server_cipher_suites: Option<bool>,
    curve_preferences: Option<Spanned<Vec<Spanned<String>>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHttp {
    http2: Option<bool>,
    headers: Option<BTreeMap<String, Spanned<String>>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawRate {
    interval: Option<Spanned<String>>,
    burst: Option<Spanned<String>>,
}

impl WebConfig {
    /// Paths in it are relative to the folder of `path`.
    pub fn parse(path: &Path, text: &str) -> Result<WebConfig, WebConfigError> {
        let file = path.display().to_string();
        // A file without anything in it is a document without a value.
        let raw: Option<RawConfig> = serde_saphyr::from_str(text).map_err(|error| WebConfigError::Yaml {
            file: file.clone(),
            message: error.without_snippet().to_string().replace('\n', " "),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        let mut reader = Reader { file: &file, folder, notes: Vec::new() };
        let raw = raw.unwrap_or_default();
        let http = raw.http_server_config.unwrap_or_default();
        if http.http2 == Some(true) {
            reader.notes.push("http_server_config.http2: this server speaks HTTP/1.1 only".to_owned());
        }
        Ok(WebConfig {
            tls: raw.tls_server_config.map(|tls| reader.tls(tls)).transpose()?.flatten(),
            users: reader.users(raw.basic_auth_users.unwrap_or_default())?,
            headers: reader.headers(http.headers.unwrap_or_default())?,
            rate: raw.rate_limit.map(|rate| reader.rate(&rate)).transpose()?.flatten(),
            notes: reader.notes,
        })
    }
}

/// Turns raw values into checked ones; exists to carry the file's name into each error.
struct Reader<'a> {
    file: &'a str,
    folder: &'a Path,
    notes: Vec<String>,
}

impl Reader<'_> {
    fn wrong<T>(&self, key: &str, at: &Spanned<T>, message: impl Into<String>) -> WebConfigError {
        let (line, message) = (at.referenced.line(), message.into());
        WebConfigError::Value { file: self.file.to_owned(), line, key: key.to_owned(), message }
    }

    /// `None` when the section is empty.
    fn tls(&mut self, section: Spanned<RawTls>) -> Result<Option<TlsSettings>, WebConfigError> {
        let raw = &section.value;
        let certificate = self.pem("cert", &raw.cert, &raw.cert_file)?;
        let key = self.pem("key", &raw.key, &raw.key_file)?;
        let client_ca = self.pem("client_ca", &raw.client_ca, &raw.client_ca_file)?;
        let (certificate, key) = match (certificate, key) {
            (Some(certificate), Some(key)) => (certificate, key),
            // exporter-toolkit would serve without TLS when only the finer points are set; nobody can mean that.
            (None, None) if raw.is_empty() => return Ok(None),
            (None, _) => return Err(self.wrong("tls_server_config", &section, "cert_file is missing")),
            (_, None) => return Err(self.wrong("tls_server_config", &section, "key_file is missing")),
        };
        let client_auth = self.client_auth(&section, client_ca)?;
        let client_allowed_sans = match &raw.client_allowed_sans {
            None => None,
            Some(names) => {
                let key = "tls_server_config.client_allowed_sans";
                if names.value.is_empty() {
                    return Err(self.wrong(key, names, "names nobody: no client could connect"));
                }
                if !matches!(
                    client_auth,
                    ClientAuth::Any { required: true } | ClientAuth::Verified { required: true, .. }
                ) {
                    let why = "needs client_auth_type RequireAndVerifyClientCert (or RequireAnyClientCert)";
                    return Err(self.wrong(key, names, why));
                }
                Some(names.value.clone())
            }
        };
        Ok(Some(TlsSettings {
            certificate,
            key,
            client_auth,
            client_allowed_sans,
            versions: self.versions(raw)?,
            cipher_suites: self.cipher_suites(raw)?,
            curves: self.curves(raw)?,
        }))
    }

    fn pem(
        &self,
        name: &str,
        inline: &Option<Spanned<String>>,
        file: &Option<Spanned<String>>,
    ) -> Result<Option<Pem>, WebConfigError> {
        match (given(inline), given(file)) {
            (Some(_), Some(file)) => {
                let why = format!("{name} is given as well: give one of them");
                Err(self.wrong(&format!("tls_server_config.{name}_file"), file, why))
            }
            (Some(inline), None) => Ok(Some(Pem::Inline(inline.value.clone()))),
            (None, Some(file)) => Ok(Some(Pem::File(self.folder.join(&file.value)))),
            (None, None) => Ok(None),
        }
    }

    fn client_auth(&self, section: &Spanned<RawTls>, ca: Option<Pem>) -> Result<ClientAuth, WebConfigError> {
        let Some(kind) = given(&section.value.client_auth_type) else {
            return match ca {
                None => Ok(ClientAuth::None),
                Some(_) => {
                    let why = "client_ca_file is given, but no client_auth_type: RequireAndVerifyClientCert is what \
                               keeps others out";
                    Err(self.wrong("tls_server_config", section, why))
                }
            };
        };
        let key = "tls_server_config.client_auth_type";
        let verified = |required| match ca.clone() {
            Some(ca) => Ok(ClientAuth::Verified { required, ca }),
            None => Err(self.wrong(key, kind, "needs client_ca_file, whose certificates are taken")),
        };
        match kind.value.as_str() {
            "NoClientCert" if ca.is_some() => {
                Err(self.wrong(key, kind, "client_ca_file is given, but nobody is asked"))
            }
            "NoClientCert" => Ok(ClientAuth::None),
            "RequestClientCert" => Ok(ClientAuth::Any { required: false }),
            "RequireAnyClientCert" | "RequireClientCert" => Ok(ClientAuth::Any { required: true }),
            "VerifyClientCertIfGiven" => verified(false),
            "RequireAndVerifyClientCert" => verified(true),
            other => {
                let names = "NoClientCert, RequestClientCert, RequireAnyClientCert, VerifyClientCertIfGiven or \
                             RequireAndVerifyClientCert";
                Err(self.wrong(key, kind, format!("\"{}\" is none of {names}", other.escape_debug())))
            }
        }
    }

    fn versions(&mut self, raw: &RawTls) -> Result<Versions, WebConfigError> {
        let number = |text: &str| ["TLS10", "TLS11", "TLS12", "TLS13"].iter().position(|name| *name == text);
        let mut read = |name: &str, value: &Option<Spanned<String>>, default: usize| {
            let Some(value) = given(value) else { return Ok(default) };
            let key = format!("tls_server_config.{name}");
            match number(&value.value) {
                Some(number) if number >= 2 => Ok(number),
                Some(_) if name == "min_version" => {
                    self.notes.push(format!("{key}: this server speaks TLS 1.2 and newer only"));
                    Ok(2)
                }
                Some(_) => Err(self.wrong(&key, value, "this server speaks TLS 1.2 and newer only")),
                None => {
                    Err(self.wrong(&key, value, format!("\"{}\" is not TLS12 or TLS13", value.value.escape_debug())))
                }
            }
        };
        let (least, most) = (read("min_version", &raw.min_version, 2)?, read("max_version", &raw.max_version, 3)?);
        match (least, most, given(&raw.min_version)) {
            (2, 2, _) => Ok(Versions::Tls12),
            (3, 3, _) => Ok(Versions::Tls13),
            (3, 2, Some(value)) => Err(self.wrong("tls_server_config.min_version", value, "is above max_version")),
            _ => Ok(Versions::Both),
        }
    }

    /// As in Go, the list is about TLS 1.2: those of 1.3 are all good, and can't be chosen.
    fn cipher_suites(&mut self, raw: &RawTls) -> Result<CipherSuites, WebConfigError> {
        let key = "tls_server_config.cipher_suites";
        let mut chosen = Vec::new();
        for suite in raw.cipher_suites.iter().flat_map(|list| &list.value) {
            match SUITES.iter().find(|(name, _)| *name == suite.value) {
                Some((_, Some(known))) => chosen.push(*known),
                Some((name, None)) => self.notes.push(format!("{key}: this server does not have {name}")),
                None => {
                    let why = format!("there is no cipher suite \"{}\"", suite.value.escape_debug());
                    return Err(self.wrong(key, suite, why));
                }
            }
        }
        if let Some(list) = raw.cipher_suites.as_ref().filter(|list| chosen.is_empty() && !list.value.is_empty()) {
            return Err(self.wrong(key, list, "this server has none of them"));
        }
        // The default of the format is the server's order; without a list there is none that the owner could mean.
        let server_prefers = raw.prefer_server_cipher_suites != Some(false) && !chosen.is_empty();
        Ok(CipherSuites { chosen, server_prefers })
    }

    fn curves(&mut self, raw: &RawTls) -> Result<Curves, WebConfigError> {
        let key = "tls_server_config.curve_preferences";
        let mut chosen = Vec::new();
        for curve in raw.curve_preferences.iter().flat_map(|list| &list.value) {
            match CURVES.iter().find(|(name, _)| *name == curve.value) {
                Some((_, Some(known))) => chosen.push(*known),
                Some((name, None)) => self.notes.push(format!("{key}: this server does not have {name}")),
                None => {
                    let why = format!("there is no curve \"{}\"", curve.value.escape_debug());
                    return Err(self.wrong(key, curve, why));
                }
            }
        }
        if let Some(list) = raw.curve_preferences.as_ref().filter(|list| chosen.is_empty() && !list.value.is_empty()) {
            return Err(self.wrong(key, list, "this server has none of them"));
        }
        Ok(chosen)
    }

    /// The hashes themselves are not shown: they are secrets, if weaker ones.
    fn users(&self, raw: BTreeMap<String, Spanned<String>>) -> Result<BTreeMap<String, String>, WebConfigError> {
        let mut users = BTreeMap::new();
        for (name, hash) in raw {
            let key = format!("basic_auth_users.{}", name.escape_debug());
            if name.contains(':') {
                return Err(self.wrong(&key, &hash, "a name with a colon can't be sent"));
            }
            match hash.value.parse::<bcrypt::HashParts>() {
                Ok(parts) if (4..=MAX_BCRYPT_COST).contains(&parts.get_cost()) => (),
                Ok(parts) => {
                    let cost = parts.get_cost();
                    let why = format!("the hash has cost {cost}; take one from 4 to {MAX_BCRYPT_COST}, 10 is usual");
                    return Err(self.wrong(&key, &hash, why));
                }
                Err(_) => {
                    let why = "not a bcrypt hash; make one with: htpasswd -nBC 10 \"\"";
                    return Err(self.wrong(&key, &hash, why));
                }
            }
            users.insert(name, hash.value);
        }
        Ok(users)
    }

    fn headers(&self, raw: BTreeMap<String, Spanned<String>>) -> Result<HeaderMap, WebConfigError> {
        let mut headers = HeaderMap::new();
        for (name, value) in &raw {
            let key = format!("http_server_config.headers.{}", name.escape_debug());
            let Some((_, values)) = HEADERS.iter().find(|(known, _)| known == name) else {
                let names: Vec<&str> = HEADERS.iter().map(|(name, _)| *name).collect();
                return Err(self.wrong(&key, value, format!("can't be set here, only {}", names.join(", "))));
            };
            if value.value.is_empty() {
                continue;
            }
            if !values.is_empty() && !values.contains(&value.value.as_str()) {
                return Err(self.wrong(&key, value, format!("must be {}", values.join(" or "))));
            }
            match (HeaderName::try_from(name), HeaderValue::try_from(&value.value)) {
                (Ok(name), Ok(value)) => _ = headers.insert(name, value),
                _ => return Err(self.wrong(&key, value, "has a sign that no header may have")),
            }
        }
        Ok(headers)
    }

    /// `None` when the interval is 0 or not given, which switches it off.
    fn rate(&self, section: &Spanned<RawRate>) -> Result<Option<Rate>, WebConfigError> {
        let RawRate { interval, burst } = &section.value;
        let interval = match given(interval) {
            None => Duration::ZERO,
            Some(text) => go_duration(&text.value).ok_or_else(|| {
                let why = format!("\"{}\" is no time; write one with a unit, such as 100ms", text.value.escape_debug());
                self.wrong("rate_limit.interval", text, why)
            })?,
        };
        let burst = match given(burst) {
            None => 0,
            Some(text) => text.value.parse().map_err(|_| {
                let why = format!("\"{}\" is no number of requests", text.value.escape_debug());
                self.wrong("rate_limit.burst", text, why)
            })?,
        };
        if interval.is_zero() {
            return Ok(None);
        }
        if burst == 0 {
            return Err(self.wrong(
                "rate_limit",
                section,
                "burst must be 1 or more, or every request would be refused",
            ));
        }
        Ok(Some(Rate { interval, burst }))
    }
}

impl RawTls {
    fn is_empty(&self) -> bool {
        let RawTls { client_allowed_sans, cipher_suites, prefer_server_cipher_suites, curve_preferences, .. } = self;
        let texts = [
            &self.cert,
            &self.cert_file,
            &self.key,
            &self.key_file,
            &self.client_ca,
            &self.client_ca_file,
            &self.client_auth_type,
            &self.min_version,
            &self.max_version,
        ];
        texts.into_iter().all(|text| given(text).is_none())
            && client_allowed_sans.is_none()
            && cipher_suites.is_none()
            && prefer_server_cipher_suites.is_none()
            && curve_preferences.is_none()
    }
}

/// An empty text counts as none, as in Go.
fn given(value: &Option<Spanned<String>>) -> Option<&Spanned<String>> {
    value.as_ref().filter(|value| !value.value.is_empty())
}

/// A duration as Go writes it: `1m30s`, `1.5h`, `100ms`. `0` needs no unit.
fn go_duration(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let mut rest = text;
    let mut seconds = 0.0;
    while !rest.is_empty() {
        let number = rest.find(|sign: char| !sign.is_ascii_digit() && sign != '.')?;
        let unit = rest[number..].find(|sign: char| sign.is_ascii_digit()).map_or(rest.len(), |length| number + length);
        let scale = match &rest[number..unit] {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        seconds += rest[..number].parse::<f64>().ok()? * scale;
        rest = &rest[unit..];
    }
    if text.is_empty() { None } else { Duration::try_from_secs_f64(seconds).ok() }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// In the right form, of nothing in particular.
    const HASH: &str = "$2b$04$AbAbAbAbAbAbAbAbAbAbAOKKmeVhnrEbl5yGyKSRdhzCBjKzfuAWe";

    fn parse(text: &str) -> Result<WebConfig, WebConfigError> {
        WebConfig::parse(Path::new("/etc/web/web.yml"), text)
    }

    #[test]
    fn an_empty_file_protects_nothing() {
        for text in ["", "# nothing\n", "---\n", "tls_server_config:\n", "tls_server_config: {}\nrate_limit: {}\n"] {
            let config = parse(text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert!(config.tls.is_none() && config.users.is_empty() && config.rate.is_none(), "{text:?}");
            assert!(config.headers.is_empty() && config.notes.is_empty(), "{text:?}");
        }
    }

    #[test]
    fn all_keys_of_the_format_are_read() {
        let text = format!(
            "tls_server_config:\n  cert_file: server.crt\n  key_file: /keys/server.key\n  client_ca_file: ca.crt\n  \
             client_auth_type: RequireAndVerifyClientCert\n  client_allowed_sans: [prometheus.lan, 10.0.0.2]\n  \
             min_version: TLS12\n  max_version: TLS13\n  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]\n  \
             prefer_server_cipher_suites: true\n  curve_preferences: [X25519, CurveP256]\n\
             http_server_config:\n  http2: true\n  headers:\n    X-Frame-Options: deny\n    \
             Strict-Transport-Security: max-age=31536000\n    X-XSS-Protection: \"\"\n\
             basic_auth_users:\n  alice: {HASH}\n  \"\": {HASH}\n\
             rate_limit:\n  interval: 1m30s\n  burst: 10\n"
        );
        let config = parse(&text).unwrap();
        let tls = config.tls.unwrap();
        assert!(matches!(&tls.certificate, Pem::File(path) if path == Path::new("/etc/web/server.crt")));
        assert!(matches!(&tls.key, Pem::File(path) if path == Path::new("/keys/server.key")));
        assert!(matches!(&tls.client_auth, ClientAuth::Verified { required: true, ca: Pem::File(path) }
            if path == Path::new("/etc/web/ca.crt")));
        assert_eq!(tls.client_allowed_sans.unwrap(), ["prometheus.lan", "10.0.0.2"]);
        assert_eq!((tls.versions, tls.cipher_suites.chosen.len(), tls.curves.len()), (Versions::Both, 1, 2));
        assert!(tls.cipher_suites.server_prefers);
        assert_eq!(config.headers["x-frame-options"], "deny");
        assert_eq!(config.headers.len(), 2);
        assert_eq!(config.users.keys().collect::<Vec<_>>(), ["", "alice"]);
        assert_eq!(config.rate, Some(Rate { interval: Duration::from_secs(90), burst: 10 }));
        assert_eq!(config.notes, ["http_server_config.http2: this server speaks HTTP/1.1 only"]);
    }

    #[test]
    fn inline_certificates_are_taken() {
        let tls = parse("tls_server_config:\n  cert: |\n    PEM\n    text\n  key: other\n").unwrap().tls.unwrap();
        assert!(matches!(&tls.certificate, Pem::Inline(text) if text == "PEM\ntext\n"));
        assert!(!format!("{tls:?}").contains("other"), "keys are kept out of logs");
    }

    #[test]
    fn what_this_server_need_not_have_is_told() {
        let check = |lines: &str, expected: &str| {
            let config = parse(&format!("tls_server_config: {{cert: c, key: k, {lines}}}\n")).unwrap();
            assert_eq!(config.notes, [expected], "{lines}");
        };
        check("min_version: TLS10", "tls_server_config.min_version: this server speaks TLS 1.2 and newer only");
        check(
            "curve_preferences: [CurveP521, X25519]",
            "tls_server_config.curve_preferences: this server does not have CurveP521",
        );
        check(
            "cipher_suites: [TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA, TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256]",
            "tls_server_config.cipher_suites: this server does not have TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA",
        );
    }

    #[test]
    fn each_mistake_is_one_line_with_file_line_key_and_mend() {
        let check = |text: &str, parts: &[&str]| {
            let error = parse(text).expect_err(text).to_string();
            assert!(!error.contains('\n'), "{error}");
            for part in std::iter::once(&"/etc/web/web.yml").chain(parts) {
                assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
            }
        };
        let tls = |lines: &str| format!("tls_server_config:\n  cert: c\n  key: k\n{lines}");
        check("tls_sever_config:\n", &["line 1", "tls_sever_config"]);
        check("basic_auth_users: {}\ntls_server_config:\n  certfile: x\n", &["line 3", "certfile"]);
        check("http_server_config:\n  http3: true\n", &["line 2", "http3"]);
        check("rate_limit:\n  brust: 3\n", &["line 2", "brust"]);
        check("tls_server_config:\n  key_file: k\n", &["line 2", "tls_server_config", "cert_file is missing"]);
        check("tls_server_config:\n  cert_file: c\n", &["line 2", "key_file is missing"]);
        check("tls_server_config:\n  min_version: TLS13\n", &["cert_file is missing"]);
        check(&tls("  cert_file: c\n"), &["line 4", "tls_server_config.cert_file", "give one of them"]);
        check(&tls("  client_auth_type: Maybe\n"), &["line 4", "client_auth_type", "\"Maybe\"", "RequireAndVerify"]);
        check(&tls("  client_auth_type: RequireAndVerifyClientCert\n"), &["line 4", "client_ca_file"]);
        check(&tls("  client_ca_file: ca\n"), &["client_auth_type"]);
        check(&tls("  client_ca_file: ca\n  client_auth_type: NoClientCert\n"), &["line 5", "nobody is asked"]);
        check(&tls("  client_allowed_sans: [a]\n"), &["line 4", "client_allowed_sans", "RequireAndVerifyClientCert"]);
        check(&tls("  client_auth_type: RequireAnyClientCert\n  client_allowed_sans: []\n"), &["line 5", "nobody"]);
        check(&tls("  min_version: TLS14\n"), &["line 4", "min_version", "TLS12 or TLS13"]);
        check(&tls("  max_version: TLS11\n"), &["line 4", "max_version", "TLS 1.2 and newer"]);
        check(&tls("  min_version: TLS13\n  max_version: TLS12\n"), &["line 4", "above max_version"]);
        check(&tls("  cipher_suites: [RC4]\n"), &["line 4", "cipher_suites", "\"RC4\""]);
        check(&tls("  cipher_suites: [TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA]\n"), &["line 4", "none of them"]);
        check(&tls("  curve_preferences:\n  - P256\n"), &["line 5", "curve_preferences", "\"P256\""]);
        check(&tls("  curve_preferences: [CurveP521]\n"), &["line 4", "none of them"]);
        check("basic_auth_users:\n  alice: secret\n", &["line 2", "basic_auth_users.alice", "bcrypt"]);
        check(
            &format!("basic_auth_users:\n  alice: {}\n", HASH.replace("$04$", "$31$")),
            &["line 2", "cost 31", "4 to 18"],
        );
        check(&format!("basic_auth_users:\n  a:b: {HASH}\n"), &["line 2", "colon"]);
        check(&format!("basic_auth_users:\n  a: {HASH}\n  a: {HASH}\n"), &["line 3", "a"]);
        check("http_server_config:\n  headers:\n    Server: x\n", &["line 3", "headers.Server", "X-Frame-Options"]);
        check("http_server_config:\n  headers:\n    X-Frame-Options: DENY\n", &["line 3", "deny or sameorigin"]);
        check("http_server_config:\n  headers:\n    X-XSS-Protection: \"a\\nb\"\n", &["line 3", "sign"]);
        check("rate_limit:\n  interval: 10\n  burst: 1\n", &["line 2", "rate_limit.interval", "unit"]);
        check("rate_limit:\n  interval: 1s\n  burst: -1\n", &["line 3", "rate_limit.burst"]);
        check("rate_limit:\n  interval: 1s\n", &["rate_limit", "burst must be 1 or more"]);
        check("a: b: c\n", &["line 1"]);
        check("[1, 2]\n", &["line 1"]);
    }

    #[test]
    fn secrets_are_not_shown_in_errors() {
        for text in [
            "basic_auth_users:\n  alice: hunter2\n",
            "basic_auth_users: hunter2\n",
            "tls_server_config:\n  key: [hunter2]\n",
        ] {
            let error = format!("{:?}", parse(text).unwrap_err());
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn times_are_those_of_go() {
        let check = |text: &str, expected: Option<u64>| {
            assert_eq!(go_duration(text), expected.map(Duration::from_millis), "{text}");
        };
        check("0", Some(0));
        check("0s", Some(0));
        check("100ms", Some(100));
        check("1.5s", Some(1500));
        check("1h1m1s", Some(3_661_000));
        check("10", None);
        check("", None);
        check("s", None);
        check("-1s", None);
        check("1d", None);
        check("1e3s", None);
        check("1s ", None);
    }

    proptest! {
        #[test]
        fn never_panics(text in "(?s).{0,200}", time in ".{0,20}") {
            _ = parse(&text);
            _ = go_duration(&time);
        }
    }
}
