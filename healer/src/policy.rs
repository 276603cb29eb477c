//! healer.yml: what the owner allows, and how hard the healer tries.
//!
//! Every key has a default, so an empty file is a valid policy (watch everything, touch nothing). A key that is not
//! known, or a value out of bounds, is an error that names file, line, key and mend: a policy that was misread is
//! worse than a healer that does not start.

use std::{collections::BTreeMap, path::Path};

use jiff::SignedDuration;
use nexus_model::{Mode, ServiceKey};
use serde::Deserialize;
use serde_saphyr::Spanned;

use crate::budget;

/// A policy file larger than this is not one.
const MAX_BYTES: u64 = 1024 * 1024;

/// What healer.yml says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub default: Mode,
    pub projects: BTreeMap<String, ProjectPolicy>,
    pub healing: Healing,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectPolicy {
    pub mode: Option<Mode>,
    pub services: BTreeMap<String, Mode>,
}

/// How hard the healer tries.
#[derive(Clone, Debug, PartialEq)]
pub struct Healing {
    /// Restarts of one container, within one incident or an hour before it, before giving up.
    pub attempts: u32,
    /// The owner is told from this failed attempt on; never more than `attempts`.
    pub told_after: u32,
    /// Delay after the first failed attempt; doubles with each further one.
    pub base_delay: SignedDuration,
    /// The delay grows no further than this.
    pub max_delay: SignedDuration,
    /// How long a service must stay well before its incident is closed.
    pub stable_for: SignedDuration,
    /// The same, after giving up.
    pub well_after_giving_up: SignedDuration,
    /// Granted on top of what a container's health check allows for getting well.
    pub verify_margin: SignedDuration,
    /// Granted from its start on to a container that runs but has not been healthy yet in this run.
    pub start_patience: SignedDuration,
    /// Time to stop, for containers that name none.
    pub stop_timeout: SignedDuration,
    /// Restarts on the whole host within any ten minutes.
    pub restarts_per_10_minutes: u32,
    /// Restarts of one container within any 24 hours, over all incidents, before giving up.
    pub attempts_per_day: u32,
    /// So many services that fall ill together, and at least a third of all, put healing on hold for the whole host.
    pub hold_when_ill: u32,
}

impl Default for Healing {
    fn default() -> Self {
        Self {
            attempts: 6,
            told_after: 3,
            base_delay: SignedDuration::from_secs(10),
            max_delay: SignedDuration::from_mins(10),
            stable_for: SignedDuration::from_mins(1),
            well_after_giving_up: SignedDuration::from_mins(10),
            verify_margin: SignedDuration::from_secs(15),
            start_patience: SignedDuration::from_mins(3),
            stop_timeout: SignedDuration::from_secs(10),
            restarts_per_10_minutes: 10,
            attempts_per_day: 20,
            hold_when_ill: 5,
        }
    }
}

impl Default for Policy {
    fn default() -> Self {
        Self { default: Mode::Shadow, projects: BTreeMap::new(), healing: Healing::default() }
    }
}

/// Why a policy can't be used: one line for the owner.
#[derive(Debug, thiserror::Error)]
pub enum PolicyError {
    #[error("reading the policy {file}")]
    Read {
        file: String,
        #[source]
        source: std::io::Error,
    },
    #[error("the policy {file} is larger than {MAX_BYTES} bytes: this can't be the file that was meant")]
    TooLarge { file: String },
    #[error("the policy {file} is wrong: {message}")]
    Yaml { file: String, message: String },
    #[error("the policy {file}, line {line}: {key}: {message}")]
    Value { file: String, line: u64, key: String, message: String },
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let file = path.display().to_string();
        let text = std::fs::metadata(path)
            .and_then(
                |metadata| {
                    if metadata.len() > MAX_BYTES { Ok(None) } else { std::fs::read_to_string(path).map(Some) }
                },
            )
            .map_err(|source| PolicyError::Read { file: file.clone(), source })?
            .ok_or_else(|| PolicyError::TooLarge { file: file.clone() })?;
        Self::parse(&file, &text)
    }

    /// `file` is only named in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        // An owner who comments everything out has written a document without a value.
        let raw: Option<RawPolicy> = serde_saphyr::from_str(text).map_err(|error| PolicyError::Yaml {
            file: file.into(),
            message: error.without_snippet().to_string().replace('\n', " "),
        })?;
        Reader { file }.policy(raw.unwrap_or_default())
    }

    /// The mode that the file gives to a service and to its project, without labels and switches.
    pub fn service_mode(&self, key: &ServiceKey) -> Option<Mode> {
        self.projects.get(&key.project)?.services.get(&key.service).copied()
    }

    /// How hard to try with a service.
    pub fn healing_of(&self, _key: &ServiceKey) -> Healing {
        self.healing.clone()
    }

    pub fn project_mode(&self, project: &str) -> Option<Mode> {
        self.projects.get(project)?.mode
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawPolicy {
    default: Option<Spanned<String>>,
    projects: Option<BTreeMap<String, Option<RawProject>>>,
    healing: Option<RawHealing>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawProject {
    mode: Option<Spanned<String>>,
    services: Option<BTreeMap<String, RawService>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RawService {
    mode: Spanned<String>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct RawHealing {
    attempts: Option<Spanned<String>>,
    told_after: Option<Spanned<String>>,
    base_delay: Option<Spanned<String>>,
    max_delay: Option<Spanned<String>>,
    stable_for: Option<Spanned<String>>,
    well_after_giving_up: Option<Spanned<String>>,
    verify_margin: Option<Spanned<String>>,
    start_patience: Option<Spanned<String>>,
    stop_timeout: Option<Spanned<String>>,
    restarts_per_10_minutes: Option<Spanned<String>>,
    attempts_per_day: Option<Spanned<String>>,
    hold_when_ill: Option<Spanned<String>>,
}

/// Turns raw values into checked ones; exists to carry the file's name into each error.
struct Reader<'a> {
    file: &'a str,
}

impl Reader<'_> {
    fn policy(&self, raw: RawPolicy) -> Result<Policy, PolicyError> {
        let mut projects = BTreeMap::new();
        for (name, project) in raw.projects.unwrap_or_default() {
            let project = project.unwrap_or_default();
            let mut services = BTreeMap::new();
            for (service, raw) in project.services.unwrap_or_default() {
                let mode = self.mode(&format!("projects.{name}.services.{service}.mode"), &raw.mode)?;
                services.insert(service, mode);
            }
            let mode = project.mode.map(|mode| self.mode(&format!("projects.{name}.mode"), &mode)).transpose()?;
            projects.insert(name, ProjectPolicy { mode, services });
        }
        let default = raw.default.map(|mode| self.mode("default", &mode)).transpose()?.unwrap_or(Mode::Shadow);
        Ok(Policy { default, projects, healing: self.healing(raw.healing.unwrap_or_default())? })
    }

    fn healing(&self, raw: RawHealing) -> Result<Healing, PolicyError> {
        const SECOND: SignedDuration = SignedDuration::from_secs(1);
        const HOUR: SignedDuration = SignedDuration::from_hours(1);
        const DAY: SignedDuration = SignedDuration::from_hours(24);
        let given = Healing::default();
        let attempts = self.number("healing.attempts", &raw.attempts, given.attempts, 1, 20)?;
        let told_after =
            self.number("healing.told_after", &raw.told_after, given.told_after.min(attempts), 1, attempts)?;
        let base_delay = self.duration("healing.base_delay", &raw.base_delay, given.base_delay, SECOND, DAY)?;
        let max_delay =
            self.duration("healing.max_delay", &raw.max_delay, given.max_delay.max(base_delay), base_delay, DAY)?;
        Ok(Healing {
            attempts,
            told_after,
            base_delay,
            max_delay,
            stable_for: self.duration("healing.stable_for", &raw.stable_for, given.stable_for, SECOND, HOUR)?,
            well_after_giving_up: self.duration(
                "healing.well_after_giving_up",
                &raw.well_after_giving_up,
                given.well_after_giving_up,
                SECOND,
                DAY,
            )?,
            verify_margin: self.duration(
                "healing.verify_margin",
                &raw.verify_margin,
                given.verify_margin,
                SECOND,
                SignedDuration::from_mins(10),
            )?,
            start_patience: self.duration(
                "healing.start_patience",
                &raw.start_patience,
                given.start_patience,
                SignedDuration::ZERO,
                HOUR,
            )?,
            // The socket proxy lets three digits through.
            stop_timeout: self.duration(
                "healing.stop_timeout",
                &raw.stop_timeout,
                given.stop_timeout,
                SECOND,
                SignedDuration::from_secs(999),
            )?,
            restarts_per_10_minutes: self.number(
                "healing.restarts_per_10_minutes",
                &raw.restarts_per_10_minutes,
                given.restarts_per_10_minutes,
                1,
                1000,
            )?,
            attempts_per_day: self.number(
                "healing.attempts_per_day",
                &raw.attempts_per_day,
                given.attempts_per_day,
                1,
                budget::MOST_A_DAY,
            )?,
            hold_when_ill: self.number("healing.hold_when_ill", &raw.hold_when_ill, given.hold_when_ill, 2, 1000)?,
        })
    }

    fn wrong<T>(&self, key: &str, at: &Spanned<T>, message: String) -> PolicyError {
        PolicyError::Value { file: self.file.into(), line: at.referenced.line(), key: key.into(), message }
    }

    fn mode(&self, key: &str, raw: &Spanned<String>) -> Result<Mode, PolicyError> {
        raw.value.parse().map_err(|_| {
            self.wrong(key, raw, format!("\"{}\" is no mode; write heal, shadow or off", raw.value.escape_debug()))
        })
    }

    fn number(
        &self,
        key: &str,
        raw: &Option<Spanned<String>>,
        default: u32,
        least: u32,
        most: u32,
    ) -> Result<u32, PolicyError> {
        let Some(raw) = raw else { return Ok(default) };
        match raw.value.parse() {
            Ok(value) if (least..=most).contains(&value) => Ok(value),
            _ => {
                let given = raw.value.escape_debug();
                Err(self.wrong(
                    key,
                    raw,
                    format!("\"{given}\" is out of bounds; write a number from {least} to {most}"),
                ))
            }
        }
    }

    fn duration(
        &self,
        key: &str,
        raw: &Option<Spanned<String>>,
        default: SignedDuration,
        least: SignedDuration,
        most: SignedDuration,
    ) -> Result<SignedDuration, PolicyError> {
        let Some(raw) = raw else { return Ok(default) };
        let value: SignedDuration = raw.value.parse().map_err(|_| {
            self.wrong(
                key,
                raw,
                format!("\"{}\" is no duration; write it with a unit, such as 10s or 5m", raw.value.escape_debug()),
            )
        })?;
        if (least..=most).contains(&value) {
            Ok(value)
        } else {
            Err(self.wrong(key, raw, format!("{value:#} is out of bounds; write {least:#} to {most:#}")))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default() {
        let example = include_str!("../healer.example.yml");
        assert_eq!(Policy::parse("healer.yml", example).unwrap(), Policy::default());
    }

    #[test]
    fn an_empty_file_watches_everything() {
        for text in ["", "# nothing\n", "---\n", "healing:\n", "projects:\n", "projects:\n  photos:\n"] {
            let policy = Policy::parse("healer.yml", text).unwrap_or_else(|error| panic!("{text:?}: {error}"));
            assert_eq!(policy.default, Mode::Shadow);
            assert_eq!(policy.healing, Healing::default());
        }
    }

    #[test]
    fn modes_are_read_per_service_project_and_default() {
        let text = "default: off\nprojects:\n  photos:\n    mode: heal\n    services:\n      db: {mode: off}\n  \
                    \"1\":\n    services:\n      web: {mode: shadow}\n";
        let policy = Policy::parse("healer.yml", text).unwrap();
        assert_eq!(policy.default, Mode::Off);
        assert_eq!(policy.project_mode("photos"), Some(Mode::Heal));
        assert_eq!(policy.service_mode(&ServiceKey::new("photos", "db")), Some(Mode::Off));
        assert_eq!(policy.service_mode(&ServiceKey::new("photos", "web")), None);
        assert_eq!(policy.project_mode("1"), None);
        assert_eq!(policy.service_mode(&ServiceKey::new("1", "web")), Some(Mode::Shadow));
    }

    #[test]
    fn healing_is_read() {
        let text = "healing:\n  attempts: 4\n  told_after: 2\n  base_delay: 1s\n  max_delay: 4s\n  stable_for: 3s\n";
        let healing = Policy::parse("healer.yml", text).unwrap().healing;
        assert_eq!((healing.attempts, healing.told_after), (4, 2));
        assert_eq!((healing.base_delay.as_secs(), healing.max_delay.as_secs()), (1, 4));
        assert_eq!(healing.stable_for.as_secs(), 3);
        // Bounds that depend on each other move along.
        assert_eq!(Policy::parse("f", "healing: {attempts: 2}").unwrap().healing.told_after, 2);
        assert_eq!(Policy::parse("f", "healing: {base_delay: 20m}").unwrap().healing.max_delay.as_mins(), 20);
    }

    #[test]
    fn each_mistake_is_one_line_with_file_line_key_and_mend() {
        let check = |text: &str, parts: &[&str]| {
            let error = Policy::parse("/etc/healer.yml", text).expect_err(text).to_string();
            assert!(!error.contains('\n'), "{error}");
            for part in std::iter::once(&"/etc/healer.yml").chain(parts) {
                assert!(error.contains(part), "{text:?}: {error:?} lacks {part:?}");
            }
        };
        check("default: maybe\n", &["line 1", "default", "maybe", "heal, shadow or off"]);
        check("\nhealing:\n  attempts: 0\n", &["line 3", "healing.attempts", "1 to 20"]);
        check("healing:\n  attempts: 2\n  told_after: 3\n", &["line 3", "healing.told_after", "1 to 2"]);
        check("healing:\n  attempts_per_day: 201\n", &["line 2", "healing.attempts_per_day", "1 to 200"]);
        check("healing:\n  base_delay: 10\n", &["line 2", "healing.base_delay", "unit"]);
        check("healing:\n  stable_for: 2h\n", &["line 2", "healing.stable_for", "1s to 1h"]);
        check("healing:\n  base_delay: 1m\n  max_delay: 5s\n", &["line 3", "healing.max_delay", "1m to 24h"]);
        check(
            "projects:\n  a:\n    services:\n      b:\n        mode: on\n",
            &["line 5", "projects.a.services.b.mode"],
        );
        check("defualt: heal\n", &["line 1", "defualt"]);
        check("healing:\n  attemps: 3\n", &["line 2", "attemps"]);
        check("healing:\n  attempts: many\n", &["line 2", "healing.attempts", "many"]);
        check("default: heal\ndefault: off\n", &["line 2", "default"]);
        check("projects: [a, b]\n", &["line 1"]);
        check("a: b: c\n", &["line 1"]);
        check("default: \"heal\n", &["line"]);
    }

    #[test]
    fn a_missing_or_huge_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("healer.yml");
        assert!(matches!(Policy::read(&path), Err(PolicyError::Read { file, .. }) if file.ends_with("healer.yml")));
        std::fs::File::create(&path).unwrap().set_len(MAX_BYTES + 1).unwrap();
        assert!(matches!(Policy::read(&path), Err(PolicyError::TooLarge { .. })));
    }
}
