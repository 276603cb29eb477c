//! The password of the reporter's pages: its hash in the web configuration that the reporter reads.

use std::path::Path;

use anyhow::{Context, Result};

use crate::files::{Access, read_text, write_atomically};

/// Below the secrets: the password, for its owner, and the web configuration, for the reporter.
pub const PASSWORD: &str = "cli/page_password";
pub const WEB: &str = "reporter/web.yml";
/// Who asks. There is one owner.
pub const USER: &str = "nexus";

/// No web configuration of ours is longer.
const LIMIT: u64 = 64 * 1024;

/// A page is a handful of requests; whoever guesses passwords has many.
const NEW: &str = "\
# Password and TLS of the reporter's pages, in the format of Prometheus's exporters: docs/exporter.md. The password is in
# cli/page_password; `./nexus up` puts its hash here, and leaves the rest as you write it. For TLS put the certificate and its key
# beside this file, readable by uid 10192, and add:
#   tls_server_config: {cert_file: page.crt, key_file: page.key}
basic_auth_users:
";

/// Brings the hash up to date; tells whether it had to. What else stands in the file stays.
pub fn make(folder: &Path, access: Access) -> Result<bool> {
    let password = read_text(&folder.join(PASSWORD), LIMIT)?.unwrap_or_default();
    let path = folder.join(WEB);
    let text = read_text(&path, LIMIT)?.unwrap_or_default();
    if hash_in(&text).is_some_and(|hash| nexus_web::is_password(password.trim(), hash)) {
        return Ok(false);
    }
    let hash = nexus_web::hash_password(password.trim()).context("cannot hash the page's password")?;
    write_atomically(&path, with_hash(&text, &hash).as_bytes(), access)?;
    Ok(true)
}

/// The hash of our user.
fn hash_in(text: &str) -> Option<&str> {
    text.lines().find_map(|line| line.strip_prefix(&format!("  {USER}: "))).map(|hash| hash.trim().trim_matches('"'))
}

fn with_hash(text: &str, hash: &str) -> String {
    let own = format!("  {USER}: {hash}\n");
    if text.trim().is_empty() {
        return format!("{NEW}{own}");
    }
    let kept = text.lines().filter(|line| !line.starts_with(&format!("  {USER}:")));
    let mut out: String = kept.map(|line| format!("{line}\n")).collect();
    match out.find("basic_auth_users:\n") {
        Some(at) => out.insert_str(at + "basic_auth_users:\n".len(), &own),
        None => out.push_str(&format!("basic_auth_users:\n{own}")),
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_follows_the_password_and_the_rest_stays() {
        let folder = tempfile::tempdir().unwrap();
        for inner in ["cli", "reporter"] {
            std::fs::create_dir(folder.path().join(inner)).unwrap();
        }
        let access = Access { mode: 0o600, owner: None };
        let path = folder.path().join(WEB);
        let read = || std::fs::read_to_string(&path).unwrap();
        let set = |password: &str| std::fs::write(folder.path().join(PASSWORD), password).unwrap();

        set("first\n");
        assert!(make(folder.path(), access).unwrap());
        assert!(nexus_web::is_password("first", hash_in(&read()).unwrap()) && read().starts_with("# Password and TLS"));
        assert!(!make(folder.path(), access).unwrap(), "nothing to do the second time");

        std::fs::write(&path, format!("tls_server_config: {{cert_file: c, key_file: k}}\n{}  guest: $2y$\n", read()))
            .unwrap();
        set("second");
        assert!(make(folder.path(), access).unwrap());
        let text = read();
        assert!(nexus_web::is_password("second", hash_in(&text).unwrap()));
        assert!(text.starts_with("tls_server_config") && text.contains("  guest: $2y$\n"), "{text}");
        assert_eq!(text.matches("  nexus: ").count(), 1);

        std::fs::write(&path, "rate_limit: {interval: 1s, burst: 1}\n").unwrap();
        assert!(make(folder.path(), access).unwrap());
        assert!(read().contains("burst: 1}\nbasic_auth_users:\n  nexus: $2"), "{}", read());
    }
}
