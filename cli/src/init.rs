//! `nexus init`: everything that must exist before the stack can start. Runs at each `up`; what is there stays.

use std::os::unix::fs::MetadataExt;
use std::path::Path;

use anyhow::{Context, Result};

use crate::failure::mistake;
use crate::files::{Access, make_folder, read_text, write_atomically};
use crate::home::{Home, TEXT_LIMIT};
use crate::keys::{self, First, KEYS};
use crate::{dotenv, secrets};

/// A `KEY=VALUE` of the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    pub key: String,
    pub value: String,
}

impl std::str::FromStr for Setting {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (key, value) = text.split_once('=').ok_or("must be KEY=VALUE")?;
        let known = keys::find(key).ok_or_else(|| match keys::nearest(key) {
            Some(near) => format!("{key} is no key of .env; {near} is"),
            None => format!("{key} is no key of .env; .env.example lists them"),
        })?;
        if let Some(complaint) = keys::complaint(known.kind, value) {
            return Err(format!("{key} {complaint}"));
        }
        if dotenv::assignment(key, value).is_none() {
            return Err(format!("the value of {key} can't be written to .env: it holds a quote"));
        }
        Ok(Setting { key: key.to_owned(), value: value.to_owned() })
    }
}

/// Makes `.env`, the secrets and the policy; returns what was done, one line each.
///
/// `set` gives first values: a key that has a value keeps it. `replace` changes the key whatever it holds.
pub fn init(
    directory: Option<&Path>,
    env_file: Option<&Path>,
    set: &[Setting],
    replace: &[Setting],
) -> Result<Vec<String>> {
    let mut done = Vec::new();
    let home = Home::open(directory, env_file)?;
    if let Some(complaint) = home.dotenv.complaints.first() {
        // Adding lines to what can't be read would bury the mistake.
        return Err(mistake(format!("{}: {complaint}", home.show(&home.env_file))));
    }
    let found = Machine::look(home.get("NEXUS_DOCKER_SOCKET"));
    let text = env_text(home.text.as_deref(), set, replace, &found);
    let owner = secrets::invoking_user();
    let root = secrets::is_root();
    if home.text.as_deref() != Some(&text) {
        let access = Access { mode: 0o600, owner: root.then_some(owner) };
        write_atomically(&home.env_file, text.as_bytes(), access)?;
        done.push(match home.text {
            None => format!("made {}", home.show(&home.env_file)),
            Some(_) => format!("added to {}", home.show(&home.env_file)),
        });
    }
    let home = Home::open(directory, env_file)?;
    if let Some(policy) = make_policy(&home, root.then_some(owner))? {
        done.push(policy);
    }
    let made = secrets::make(&home.secrets(), owner, root)?;
    done.extend(made.into_iter().map(|file| format!("made {}", home.show(&home.secrets().join(file)))));
    Ok(done)
}

/// The new text of `.env`.
fn env_text(before: Option<&str>, set: &[Setting], replace: &[Setting], machine: &Machine) -> String {
    let mut text = before.map_or_else(
        || {
            "# Settings of this machine, made by `./nexus up`; edit them and run it again. .env.example explains every key.\n"
                .to_owned()
        },
        str::to_owned,
    );
    let wanted = |settings: &[Setting], name: &str| {
        settings.iter().rev().find(|setting| setting.key == name).map(|setting| setting.value.clone())
    };
    for key in KEYS {
        let current = dotenv::DotEnv::parse(&text).get(key.name).map(str::to_owned);
        let forced = wanted(replace, key.name);
        let first = wanted(set, key.name);
        let value = match (&forced, &current, &first) {
            (Some(forced), ..) => Some(forced.clone()),
            // An empty value is the owner's too, where empty means something; where it means "not yet known", ours helps.
            (None, Some(current), Some(first)) if current.is_empty() => Some(first.clone()),
            (None, Some(current), _) => Some(current.clone()),
            (None, None, Some(first)) => Some(first.clone()),
            (None, None, None) => match key.first {
                First::Fixed(value) => Some(value.to_owned()),
                First::Found(fallback) => Some(machine.value(key.name).unwrap_or_else(|| fallback.to_owned())),
                First::Commented(_) => None,
            },
        };
        match (value, current) {
            (Some(value), Some(current)) if value == current => {}
            (Some(value), Some(_)) => {
                if let Some(line) = dotenv::assignment(key.name, &value) {
                    text = dotenv::replace(&text, key.name, &line);
                }
            }
            (Some(value), None) => {
                text = dotenv::append(&text, &format!("\n{}", keys::lines(key, Some(&value)).trim_end()))
            }
            (None, _) if dotenv::mentions(&text, key.name) => {}
            (None, _) => text = dotenv::append(&text, &format!("\n{}", keys::lines(key, None).trim_end())),
        }
    }
    text
}

/// What only this machine can tell.
struct Machine {
    host: Option<String>,
    timezone: Option<String>,
    docker_gid: Option<u32>,
    propagation: &'static str,
}

impl Machine {
    fn look(docker_socket: &str) -> Machine {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").ok().map(|name| name.trim().to_owned());
        Machine {
            host: host.filter(|name| keys::is_host_name(name)),
            timezone: jiff::tz::TimeZone::try_system().ok().and_then(|zone| zone.iana_name().map(str::to_owned)),
            docker_gid: std::fs::metadata(docker_socket).ok().map(|found| found.gid()),
            propagation: propagation(&std::fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()),
        }
    }

    fn value(&self, key: &str) -> Option<String> {
        match key {
            "NEXUS_HOST" => self.host.clone(),
            "NEXUS_TIMEZONE" => self.timezone.clone(),
            "NEXUS_DOCKER_GID" => self.docker_gid.map(|gid| gid.to_string()),
            "NEXUS_ROOTFS_PROPAGATION" => Some(self.propagation.to_owned()),
            _ => None,
        }
    }
}

/// `rslave` works only where / is a shared (or itself a slave) mount; Docker refuses the container otherwise.
fn propagation(mountinfo: &str) -> &'static str {
    let shared = mountinfo.lines().any(|line| {
        let fields: Vec<&str> = line.split(' ').collect();
        let optional = fields.iter().skip(6).take_while(|field| **field != "-");
        fields.get(4) == Some(&"/")
            && optional.into_iter().any(|field| field.starts_with("shared:") || field.starts_with("master:"))
    });
    if shared { "rslave" } else { "" }
}

fn make_policy(home: &Home, owner: Option<(u32, u32)>) -> Result<Option<String>> {
    let policy = home.policy();
    if policy.exists() {
        return Ok(None);
    }
    if let Some(folder) = policy.parent() {
        // The healer's user must be able to look into it.
        make_folder(folder, Access { mode: 0o755, owner })?;
    }
    let earlier = home.earlier_policy();
    if let Some(text) = read_text(&earlier, TEXT_LIMIT)? {
        write_atomically(&policy, text.as_bytes(), Access { mode: 0o644, owner })?;
        std::fs::remove_file(&earlier).with_context(|| format!("cannot remove {}", home.show(&earlier)))?;
        return Ok(Some(format!("moved {} to {}", home.show(&earlier), home.show(&policy))));
    }
    let example = home.directory.join("healer/healer.example.yml");
    let text = read_text(&example, TEXT_LIMIT)?
        .with_context(|| format!("{} is missing: the checkout is incomplete", home.show(&example)))?;
    // Nothing in it is secret, and the healer's user must be able to read it.
    write_atomically(&policy, text.as_bytes(), Access { mode: 0o644, owner })?;
    Ok(Some(format!("made {} from {}", home.show(&policy), home.show(&example))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MACHINE: Machine = Machine { host: None, timezone: None, docker_gid: Some(998), propagation: "" };

    fn settings(all: &[&str]) -> Vec<Setting> {
        all.iter().map(|one| one.parse().unwrap()).collect()
    }

    #[test]
    fn a_new_env_has_every_key_and_the_machines_values() {
        let text = env_text(None, &settings(&["NEXUS_IMAGE_SOURCE=debian"]), &[], &MACHINE);
        let parsed = dotenv::DotEnv::parse(&text);
        assert_eq!(parsed.complaints, [""; 0]);
        let check = |key: &str, value: Option<&str>| assert_eq!(parsed.get(key), value, "{key}");
        check("NEXUS_IMAGE_SOURCE", Some("debian"));
        check("NEXUS_DOCKER_GID", Some("998"));
        check("NEXUS_ROOTFS_PROPAGATION", Some(""));
        check("NEXUS_HOST", Some("raspberrypi"));
        check("NEXUS_STACK", None);
        assert!(KEYS.iter().all(|key| dotenv::mentions(&text, key.name)));
        assert_eq!(env_text(Some(&text), &settings(&["NEXUS_IMAGE_SOURCE=registry"]), &[], &MACHINE), text);
    }

    #[test]
    fn an_owners_edits_stay_and_missing_keys_come_after_them() {
        let before = "# mine\nNEXUS_HOST=den # here\nFOREIGN=1\nNEXUS_IMAGE_NEXUS=\n";
        let text = env_text(
            Some(before),
            &settings(&["NEXUS_HOST=pi", "NEXUS_IMAGE_NEXUS=nexus/nexus:1"]),
            &settings(&["NEXUS_BIND=0.0.0.0"]),
            &MACHINE,
        );
        assert!(
            text.starts_with("# mine\nNEXUS_HOST=den # here\nFOREIGN=1\nNEXUS_IMAGE_NEXUS=nexus/nexus:1\n"),
            "{text}"
        );
        let parsed = dotenv::DotEnv::parse(&text);
        assert_eq!((parsed.get("NEXUS_HOST"), parsed.get("NEXUS_BIND")), (Some("den"), Some("0.0.0.0")));
        let replaced = env_text(Some(&text), &[], &settings(&["NEXUS_HOST=loft"]), &MACHINE);
        assert!(replaced.contains("\nNEXUS_HOST=loft\n") && replaced.lines().count() == text.lines().count());
    }

    #[test]
    fn a_wrong_setting_says_what_is_right() {
        let check = |text: &str, message: &str| assert_eq!(text.parse::<Setting>().unwrap_err(), message);
        check("NEXUS_HOTS=x", "NEXUS_HOTS is no key of .env; NEXUS_HOST is");
        check("NEXUS_BIND=localhost", "NEXUS_BIND is \"localhost\", but must be an IP address, e.g. 127.0.0.1");
        check("x", "must be KEY=VALUE");
    }

    #[test]
    fn the_propagation_follows_the_root_mount() {
        let check = |line: &str, wanted: &str| assert_eq!(propagation(line), wanted, "{line}");
        check("22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw", "rslave");
        check("22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw", "");
        check("22 1 8:1 / / rw,relatime master:4 - ext4 /dev/sda1 rw", "rslave");
        check("23 22 8:2 / /home rw shared:2 - ext4 /dev/sda2 rw", "");
        check("", "");
    }

    #[test]
    fn init_twice_changes_nothing_the_second_time() {
        let folder = tempfile::tempdir().unwrap();
        let place = |file: &str, text: &str| {
            let path = folder.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        place("compose.yml", "");
        place("healer/healer.example.yml", "default: shadow\n");
        let run = || init(Some(folder.path()), None, &[], &[]);
        if secrets::is_root() {
            assert!(!run().unwrap().is_empty());
            assert_eq!(run().unwrap(), [""; 0]);
            place("policy/healer.yml", "default: heal\n");
            run().unwrap();
            let policy = folder.path().join("policy/healer.yml");
            assert_eq!(std::fs::read_to_string(&policy).unwrap(), "default: heal\n");
            // Where it was before it had a folder of its own.
            std::fs::remove_dir_all(policy.parent().unwrap()).unwrap();
            place("healer.yml", "default: off\n");
            assert_eq!(run().unwrap(), ["moved healer.yml to policy/healer.yml"]);
            assert_eq!(std::fs::read_to_string(&policy).unwrap(), "default: off\n");
            assert!(!folder.path().join("healer.yml").exists());
        } else {
            assert!(run().is_err());
        }
        let env = std::fs::metadata(folder.path().join(".env")).unwrap();
        assert_eq!(env.mode() & 0o7777, 0o600);
    }
}
