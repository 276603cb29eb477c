//! The secrets: random, made once, one file for each reader so that each file is readable by one user only.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

use crate::failure::mistake;
use crate::files::{Access, make_folder, read_text, write_atomically};
use crate::page;

/// Far longer than any secret of ours.
const LIMIT: u64 = 4096;

/// Whose process reads a file. The numbers are the users in compose.yml.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reader {
    Alertmanager,
    Healer,
    Reporter,
    Postgres,
    Migrate,
    Grafana,
    /// Whoever runs `nexus`.
    Owner,
}

impl Reader {
    fn user(self, owner: (u32, u32)) -> (u32, u32) {
        match self {
            Reader::Alertmanager => (65534, 65534),
            Reader::Healer | Reader::Migrate => (10191, 10191),
            Reader::Reporter => (10192, 10192),
            Reader::Postgres => (999, 999),
            Reader::Grafana => (472, 472),
            Reader::Owner => owner,
        }
    }
}

/// One secret and all its copies, below the secrets folder.
pub struct Secret {
    /// What it is for, for people.
    pub name: &'static str,
    pub copies: &'static [(Reader, &'static str)],
}

pub const SECRETS: &[Secret] = &[
    Secret {
        name: "webhook token",
        copies: &[
            (Reader::Alertmanager, "alertmanager/healer_webhook_token"),
            (Reader::Healer, "healer/webhook_token"),
        ],
    },
    Secret {
        name: "API token",
        copies: &[(Reader::Healer, "healer/api_token"), (Reader::Owner, "cli/healer_api_token")],
    },
    Secret {
        name: "API token for reading",
        copies: &[
            (Reader::Healer, "healer/api_read_token"),
            (Reader::Reporter, "reporter/healer_api_read_token"),
            (Reader::Owner, "cli/healer_api_read_token"),
        ],
    },
    Secret {
        name: "superuser's password",
        copies: &[(Reader::Postgres, "postgres/superuser_password"), (Reader::Migrate, "migrate/superuser_password")],
    },
    Secret {
        name: "healer's database password",
        copies: &[(Reader::Healer, "healer/postgres_password"), (Reader::Migrate, "migrate/healer_password")],
    },
    Secret {
        name: "Grafana's database password",
        copies: &[(Reader::Migrate, "migrate/grafana_password"), (Reader::Grafana, "grafana/postgres_password")],
    },
    Secret {
        name: "reporter's database password",
        copies: &[(Reader::Reporter, "reporter/postgres_password"), (Reader::Migrate, "migrate/reporter_password")],
    },
    Secret {
        name: "database password for questions in SQL",
        copies: &[(Reader::Reporter, "reporter/reader_password"), (Reader::Migrate, "migrate/reader_password")],
    },
    Secret {
        name: "token of the reporter's API",
        copies: &[(Reader::Reporter, "reporter/api_token"), (Reader::Owner, "cli/reporter_api_token")],
    },
    Secret {
        name: "token of the reporter's API for reading",
        copies: &[(Reader::Reporter, "reporter/api_read_token"), (Reader::Owner, "cli/reporter_api_read_token")],
    },
    // The reporter has its hash, in a file that is made from it.
    Secret { name: "password of the page", copies: &[(Reader::Owner, page::PASSWORD)] },
    Secret { name: "Grafana's admin password", copies: &[(Reader::Grafana, "grafana/admin_password")] },
];

/// What the owner writes, and the copies of those who send. All may be empty: then Telegram is off.
pub const TELEGRAM_SOURCE: &str = "telegram_bot_token";
const TELEGRAM_COPIES: [(Reader, &str); 3] = [
    (Reader::Alertmanager, "alertmanager/telegram_bot_token"),
    (Reader::Healer, "healer/telegram_bot_token"),
    (Reader::Reporter, "reporter/telegram_bot_token"),
];
/// Made from `.env`: who has the address of the dead man's switch can keep it quiet, so it is no part of a file that others read. There
/// is none without an address.
const WATCHDOG: (Reader, &str) = (Reader::Alertmanager, "alertmanager/watchdog_url");
/// Made from the password of the page.
const PAGE: (Reader, &str) = (Reader::Reporter, page::WEB);

/// Makes what is missing, leaves what is there, and copies the Telegram token to its reader. Returns what was made, for
/// people. `owner` is the invoking user.
///
/// Fails when two copies differ, since nobody can know which one is right, and when the files can't be given to their
/// readers because this process is not root.
pub fn make(folder: &Path, owner: (u32, u32), privileged: bool) -> Result<Vec<String>> {
    let giving = |reader: Reader| Access { mode: 0o600, owner: privileged.then(|| reader.user(owner)) };
    // Nobody but the owner gets through the outer folder; the inner ones are mounted into containers, whose users must
    // be able to enter them.
    make_folder(folder, Access { mode: 0o700, owner: privileged.then(|| gatekeeper(owner)) })?;
    for (_, file) in SECRETS.iter().flat_map(|secret| secret.copies) {
        let inner = folder.join(file).parent().map_or_else(PathBuf::new, Path::to_owned);
        make_folder(&inner, Access { mode: 0o755, owner: privileged.then_some(owner) })?;
    }
    let mut made = Vec::new();
    for secret in SECRETS {
        let value = existing(folder, secret)?;
        let content = match &value {
            Some(value) => value.clone(),
            None => random_hex()?,
        };
        for &(reader, file) in secret.copies {
            if ensure(&folder.join(file), &content, giving(reader))? {
                made.push(format!("{file} ({})", secret.name));
            }
        }
    }
    if page::make(folder, giving(PAGE.0))? {
        made.push(format!("{} (hash of the page's password)", PAGE.1));
    } else {
        restore(&folder.join(PAGE.1), giving(PAGE.0))?;
    }
    let source = folder.join(TELEGRAM_SOURCE);
    let token = match read_text(&source, LIMIT)? {
        Some(token) => token.trim().to_owned(),
        None => {
            write_atomically(&source, b"", giving(Reader::Owner))?;
            String::new()
        }
    };
    for (reader, copy) in TELEGRAM_COPIES {
        if read_text(&folder.join(copy), LIMIT)?.as_deref() != Some(&token) {
            write_atomically(&folder.join(copy), token.as_bytes(), giving(reader))?;
            made.push(format!("{copy} (Telegram bot token, {})", if token.is_empty() { "none yet" } else { "copied" }));
        } else {
            restore(&folder.join(copy), giving(reader))?;
        }
    }
    if !privileged {
        let strangers = wrong_owners(folder, owner);
        if let Some(first) = strangers.first() {
            return Err(mistake(format!(
                "{first}, and only root can give it away: run `sudo ./nexus up` ({} such files)",
                strangers.len()
            )));
        }
    }
    Ok(made)
}

/// Writes the address of the dead man's switch for its reader, or takes it away where it is empty. Tells whether something changed.
pub fn place_watchdog(folder: &Path, url: &str, owner: (u32, u32), privileged: bool) -> Result<bool> {
    let (reader, file) = WATCHDOG;
    let path = folder.join(file);
    let access = Access { mode: 0o600, owner: privileged.then(|| reader.user(owner)) };
    let found = read_text(&path, LIMIT)?;
    if found.as_deref() == Some(url) {
        restore(&path, access)?;
        return Ok(false);
    }
    if !url.is_empty() {
        write_atomically(&path, url.as_bytes(), access)?;
    } else if found.is_some() {
        fs::remove_file(&path).with_context(|| format!("cannot remove {}", path.display()))?;
    }
    Ok(!url.is_empty() || found.is_some())
}

/// Whose the outer folder is. The exporter sees the whole file system as uid 0, though without root's power to overrule
/// modes: what belongs to root is open to it. So where root is the owner the folder belongs to the healer, who can't come by,
/// and root passes it by that power.
fn gatekeeper(owner: (u32, u32)) -> (u32, u32) {
    if owner.0 == 0 { Reader::Healer.user(owner) } else { owner }
}

/// The value that the copies agree on; `None` when there is none yet.
fn existing(folder: &Path, secret: &Secret) -> Result<Option<String>> {
    let mut found: Option<(&str, String)> = None;
    for &(_, file) in secret.copies {
        let Some(text) = read_text(&folder.join(file), LIMIT)? else { continue };
        let value = text.trim().to_owned();
        if value.is_empty() {
            continue;
        }
        match &found {
            Some((other, before)) if *before != value => {
                return Err(mistake(format!(
                    "{} and {} in {} must hold the same {}: delete the wrong one and run ./nexus up",
                    other,
                    file,
                    folder.display(),
                    secret.name
                )));
            }
            Some(_) => {}
            None => found = Some((file, value)),
        }
    }
    Ok(found.map(|(_, value)| value))
}

/// Writes the file unless it holds something; then only its mode and owner are put right. Tells whether it was written.
fn ensure(path: &Path, content: &str, access: Access) -> Result<bool> {
    let empty = read_text(path, LIMIT)?.is_none_or(|text| text.trim().is_empty());
    if empty {
        write_atomically(path, content.as_bytes(), access)?;
    } else {
        restore(path, access)?;
    }
    Ok(empty)
}

fn restore(path: &Path, access: Access) -> Result<()> {
    let put_right = || -> std::io::Result<()> {
        let found = fs::metadata(path)?;
        if let Some(owner) = access.owner.filter(|owner| *owner != (found.uid(), found.gid())) {
            std::os::unix::fs::chown(path, Some(owner.0), Some(owner.1))?;
        }
        if found.mode() & 0o7777 != access.mode {
            fs::set_permissions(path, std::os::unix::fs::PermissionsExt::from_mode(access.mode))?;
        }
        Ok(())
    };
    put_right().with_context(|| format!("cannot set owner and mode of {}", path.display()))
}

/// Files that are missing, empty, or readable by others than their reader: one line each, with the mend.
pub fn complaints(folder: &Path, owner: (u32, u32)) -> Vec<String> {
    let mut all = Vec::new();
    let telegram = TELEGRAM_COPIES.map(|(reader, file)| (reader, file, true));
    let files = SECRETS.iter().flat_map(|secret| secret.copies).map(|&(reader, file)| (reader, file, false));
    let made = [PAGE, WATCHDOG].map(|(reader, file)| (reader, file, false));
    for (_, file, may_be_empty) in files.chain(telegram).chain(made) {
        let path = folder.join(file);
        match fs::metadata(&path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                if file != WATCHDOG.1 {
                    all.push(format!("{} is missing: run ./nexus up, which makes it", path.display()));
                }
            }
            Err(error) => all.push(format!("{} can't be looked at: {error}", path.display())),
            Ok(found) if !found.is_file() => {
                all.push(format!("{} is no file: remove it and run ./nexus up", path.display()))
            }
            Ok(found) if found.mode() & 0o077 != 0 => {
                all.push(format!(
                    "{} has mode {:04o}, so others can read it: chmod 0600 it",
                    path.display(),
                    found.mode() & 0o7777
                ));
            }
            Ok(found) if found.size() == 0 && !may_be_empty => {
                all.push(format!("{} is empty: remove it and run ./nexus up, which makes it anew", path.display()));
            }
            Ok(_) => {}
        }
    }
    all.extend(wrong_owners(folder, owner));
    all
}

fn wrong_owners(folder: &Path, owner: (u32, u32)) -> Vec<String> {
    let files = SECRETS.iter().flat_map(|secret| secret.copies).copied().chain(TELEGRAM_COPIES).chain([PAGE, WATCHDOG]);
    files
        // Whoever may read the rest as root needs no file of their own.
        .filter(|(reader, _)| *reader != Reader::Owner)
        .filter_map(|(reader, file)| {
            let path = folder.join(file);
            let found = fs::metadata(&path).ok()?;
            let (wanted, _) = reader.user(owner);
            (found.uid() != wanted)
                .then(|| format!("{} belongs to uid {} and must belong to uid {wanted}", path.display(), found.uid()))
        })
        .collect()
}

/// Whether the owner gave a Telegram token, and what is wrong with it. Never says any of it.
pub fn telegram_token(folder: &Path) -> Result<Option<String>> {
    let token = read_text(&folder.join(TELEGRAM_SOURCE), LIMIT)?.unwrap_or_default().trim().to_owned();
    if token.is_empty() {
        return Ok(None);
    }
    if !is_telegram_token(&token) {
        return Err(mistake(format!(
            "{} holds no bot token: it must be one line such as 123456789:AAF… as @BotFather gives it",
            folder.join(TELEGRAM_SOURCE).display()
        )));
    }
    Ok(Some(token))
}

/// What @BotFather gives: the bot's number, a colon, and what is secret.
pub fn is_telegram_token(text: &str) -> bool {
    text.split_once(':').is_some_and(|(id, secret)| {
        !id.is_empty()
            && id.chars().all(|c| c.is_ascii_digit())
            && secret.len() >= 8
            && secret.chars().all(|c| c.is_ascii_alphanumeric() || "_-".contains(c))
    })
}

/// The user who typed the command, behind sudo too: the `.env` and the API token are theirs.
pub fn invoking_user() -> (u32, u32) {
    let from_sudo = |name: &str| std::env::var(name).ok()?.parse::<u32>().ok();
    let own = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match (own.0, from_sudo("SUDO_UID"), from_sudo("SUDO_GID")) {
        (0, Some(uid), Some(gid)) => (uid, gid),
        _ => own,
    }
}

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// 32 random bytes in hexadecimal: no character that a URL, a shell or YAML could stumble over.
fn random_hex() -> Result<String> {
    let mut bytes = [0_u8; 32];
    getrandom::fill(&mut bytes).map_err(|error| anyhow::anyhow!("cannot get random bytes: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(folder: &Path, file: &str) -> String {
        fs::read_to_string(folder.join(file)).unwrap()
    }

    /// Makes the secrets as the user of the test, who may or may not be root.
    fn made() -> (tempfile::TempDir, (u32, u32)) {
        let folder = tempfile::tempdir().unwrap();
        let me = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
        let result = make(folder.path(), me, is_root());
        if !is_root() {
            assert!(result.unwrap_err().to_string().contains("sudo ./nexus up"));
        }
        (folder, me)
    }

    #[test]
    fn copies_agree_are_long_and_private() {
        let (folder, me) = made();
        for secret in SECRETS {
            for (_, file) in secret.copies {
                assert_eq!(read(folder.path(), file), read(folder.path(), secret.copies[0].1));
                assert_eq!(read(folder.path(), file).len(), 64);
                assert_eq!(fs::metadata(folder.path().join(file)).unwrap().mode() & 0o7777, 0o600);
            }
        }
        let complaints = complaints(folder.path(), me);
        if is_root() {
            assert_eq!(complaints, [""; 0]);
            assert_eq!(fs::metadata(folder.path().join("postgres/superuser_password")).unwrap().uid(), 999);
        }
        assert_eq!(fs::metadata(folder.path()).unwrap().mode() & 0o7777, 0o700);
    }

    #[test]
    fn a_root_without_its_powers_does_not_get_in() {
        assert_eq!(gatekeeper((1000, 1000)), (1000, 1000));
        assert_eq!(gatekeeper((0, 0)), (10191, 10191));
        let (folder, me) = made();
        if me.0 == 0 {
            assert_ne!(fs::metadata(folder.path()).unwrap().uid(), 0);
        }
    }

    #[test]
    fn what_is_there_stays_and_a_lost_copy_comes_back() {
        let (folder, me) = made();
        let token = read(folder.path(), "healer/api_token");
        fs::remove_file(folder.path().join("cli/healer_api_token")).unwrap();
        let again = make(folder.path(), me, is_root());
        assert_eq!(read(folder.path(), "cli/healer_api_token"), token);
        if is_root() {
            assert_eq!(again.unwrap(), ["cli/healer_api_token (API token)"]);
            assert_eq!(make(folder.path(), me, true).unwrap(), [""; 0]);
        }
    }

    #[test]
    fn an_installation_from_before_gets_what_is_new_and_keeps_what_it_has() {
        let (folder, me) = made();
        let token = read(folder.path(), "healer/api_token");
        for file in ["healer/api_read_token", "cli/healer_api_read_token"] {
            fs::remove_file(folder.path().join(file)).unwrap();
        }
        let _ = make(folder.path(), me, is_root());
        let new = read(folder.path(), "healer/api_read_token");
        assert_eq!(read(folder.path(), "cli/healer_api_read_token"), new);
        assert_ne!(new, token);
        assert_eq!(read(folder.path(), "healer/api_token"), token);
    }

    #[test]
    fn copies_that_differ_are_not_guessed_about() {
        let (folder, me) = made();
        fs::write(folder.path().join("migrate/healer_password"), "mine").unwrap();
        let error = make(folder.path(), me, is_root()).unwrap_err().to_string();
        assert!(error.contains("healer/postgres_password and migrate/healer_password"), "{error}");
    }

    #[test]
    fn the_telegram_token_reaches_its_reader_and_may_be_taken_back() {
        let (folder, me) = made();
        assert_eq!(telegram_token(folder.path()).unwrap(), None);
        let token = "12345678:AAbbCCddEEffGGhhIIjjKK";
        for (written, copied) in [(format!("{token}\n"), token), (String::new(), "")] {
            fs::write(folder.path().join(TELEGRAM_SOURCE), written).unwrap();
            let _ = make(folder.path(), me, is_root());
            for (_, copy) in TELEGRAM_COPIES {
                assert_eq!(read(folder.path(), copy), copied);
            }
        }
        fs::write(folder.path().join(TELEGRAM_SOURCE), "hush hush").unwrap();
        let error = telegram_token(folder.path()).unwrap_err().to_string();
        assert!(error.contains("BotFather") && !error.contains("hush"), "{error}");
    }

    #[test]
    fn the_address_of_the_watchdog_is_its_readers_alone_and_may_be_taken_back() {
        let (folder, me) = made();
        let path = folder.path().join(WATCHDOG.1);
        let place = |url: &str| place_watchdog(folder.path(), url, me, is_root()).unwrap();
        assert!(!place("") && !path.exists());
        assert!(place("https://hc-ping.com/1") && !place("https://hc-ping.com/1") && place("https://hc-ping.com/2"));
        assert_eq!(read(folder.path(), WATCHDOG.1), "https://hc-ping.com/2");
        let found = fs::metadata(&path).unwrap();
        assert_eq!(found.mode() & 0o7777, 0o600);
        assert_eq!(found.uid(), if is_root() { 65534 } else { me.0 });
        // One that others can read is told, and put right.
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
        let all = complaints(folder.path(), me).join("\n");
        assert!(all.contains("watchdog_url has mode 0644") && !all.contains("hc-ping"), "{all}");
        place("https://hc-ping.com/2");
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o7777, 0o600);
        assert!(place("") && !path.exists());
        assert!(!complaints(folder.path(), me).join("\n").contains("watchdog"));
    }

    #[test]
    fn complaints_name_the_file_and_the_mend() {
        let (folder, me) = made();
        let set = |file: &str, mode: u32| {
            fs::set_permissions(folder.path().join(file), std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        };
        fs::remove_file(folder.path().join("grafana/admin_password")).unwrap();
        set("healer/api_token", 0o644);
        let all = complaints(folder.path(), me).join("\n");
        assert!(all.contains("grafana/admin_password is missing"), "{all}");
        assert!(all.contains("healer/api_token has mode 0644"), "{all}");
    }
}
