//! healer.yml: what the owner allows, and how hard the healer tries.
//!
//! Every key has a default, so an empty file is a valid policy (watch everything, touch nothing). A key that is not
//! known, or a value out of bounds, is an error that names file, line, key and mend: a policy that was misread is
//! worse than a healer that does not start.

use std::{collections::BTreeMap, path::Path};

use jiff::tz::TimeZone;
use nexus_model::{Mode, ServiceKey};

use crate::{
    images,
    probe::ProbeTarget,
    reader,
    term::{Amount, Healing, Term},
    tree,
    window::Maintenance,
};

/// A policy file larger than this is not one.
const MAX_BYTES: u64 = 1024 * 1024;

/// A value and the line of the file that says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Given<T> {
    pub value: T,
    pub line: u64,
}

/// What a level of the policy says of [`Healing`].
pub type TermsGiven = BTreeMap<Term, Given<Amount>>;

/// What healer.yml says, checked.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    pub default: Mode,
    /// Where that is said, if it is.
    pub default_line: Option<u64>,
    pub projects: BTreeMap<String, ProjectPolicy>,
    /// How hard to try where neither project nor service nor label says otherwise.
    pub healing: Healing,
    pub terms: TermsGiven,
    pub maintenance: Maintenance,
    /// Of the windows; otherwise the host's.
    pub timezone: Option<Given<TimeZone>>,
    pub protected: Protected,
    pub remedies: Remedies,
    /// Where each key of `remedies` is.
    pub remedy_lines: BTreeMap<&'static str, u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ProjectPolicy {
    pub mode: Option<Given<Mode>>,
    pub terms: TermsGiven,
    pub maintenance: Maintenance,
    pub services: BTreeMap<String, ServicePolicy>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct ServicePolicy {
    pub mode: Option<Given<Mode>>,
    pub terms: TermsGiven,
    pub maintenance: Maintenance,
    pub expendable: Option<Given<bool>>,
    pub probe: Option<Given<ProbeTarget>>,
}

/// What is only watched, whoever asks for more.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Protected {
    /// A service called `*` is all of a project.
    pub services: Vec<Given<ServiceKey>>,
    /// Names with `*` for anything. These need a yes for the very service, as databases do.
    pub images: Vec<Given<String>>,
}

/// What the healer may do beyond restarting. All of it is off unless it is allowed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Remedies {
    /// Remove dangling images and the build cache when the disk runs full.
    pub prune: bool,
    /// Start what is down, or was created and never started, where a restart would be the remedy.
    pub start: bool,
    /// Stop what is expendable when disk or memory is about to run out, and start it afterwards.
    pub stop_expendables: bool,
    /// Bytes of a file that is given back first when the disk runs full; 0 is none.
    pub ballast: u64,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            default: Mode::Shadow,
            default_line: None,
            projects: BTreeMap::new(),
            healing: Healing::default(),
            terms: BTreeMap::new(),
            maintenance: Maintenance::default(),
            timezone: None,
            protected: Protected::default(),
            remedies: Remedies::default(),
            remedy_lines: BTreeMap::new(),
        }
    }
}

/// Something in the file that can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mistake {
    pub line: u64,
    /// Empty where there is no key: it is no YAML there.
    pub key: String,
    /// What is wrong, and what to write.
    pub message: String,
}

impl std::fmt::Display for Mistake {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: ", self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key.escape_debug())?;
        }
        f.write_str(&self.message)
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
    #[error("the policy {file}, {}", first_and_more(.mistakes))]
    Wrong {
        file: String,
        /// By line; never empty.
        mistakes: Vec<Mistake>,
    },
}

fn first_and_more(mistakes: &[Mistake]) -> String {
    let first = mistakes.first().map(Mistake::to_string).unwrap_or_default();
    match mistakes.len() {
        0 | 1 => first,
        2 => format!("{first} (and 1 more mistake: ./nexus policy check tells all)"),
        all => format!("{first} (and {} more mistakes: ./nexus policy check tells all)", all - 1),
    }
}

impl Policy {
    pub fn read(path: &Path) -> Result<Self, PolicyError> {
        let file = path.display().to_string();
        Self::parse(&file, &read_text(path)?)
    }

    /// `file` is only named in errors.
    pub fn parse(file: &str, text: &str) -> Result<Self, PolicyError> {
        Self::check(text).map_err(|mistakes| PolicyError::Wrong { file: file.to_owned(), mistakes })
    }

    /// All that is wrong, by line.
    pub fn check(text: &str) -> Result<Self, Vec<Mistake>> {
        let node = tree::read(text).map_err(|mistake| vec![mistake])?;
        reader::policy(&node)
    }

    pub fn service(&self, key: &ServiceKey) -> Option<&ServicePolicy> {
        self.projects.get(&key.project)?.services.get(&key.service)
    }

    /// The mode that the file gives to a service and to its project, without labels and switches.
    pub fn service_mode(&self, key: &ServiceKey) -> Option<Mode> {
        self.service(key)?.mode.map(|given| given.value)
    }

    pub fn project_mode(&self, project: &str) -> Option<Mode> {
        self.projects.get(project)?.mode.map(|given| given.value)
    }

    /// The line that protects a service.
    pub fn protects_service(&self, key: &ServiceKey) -> Option<u64> {
        let means =
            |named: &ServiceKey| named.project == key.project && (named.service == key.service || named.service == "*");
        self.protected.services.iter().find(|named| means(&named.value)).map(|named| named.line)
    }

    /// The line that protects an image.
    pub fn protects_image(&self, image: &str) -> Option<u64> {
        self.protected.images.iter().find(|pattern| images::is_meant(&pattern.value, image)).map(|named| named.line)
    }

    /// In which the windows are: the policy's, otherwise the host's, and where that can't be told UTC.
    pub fn zone(&self) -> TimeZone {
        match &self.timezone {
            Some(given) => given.value.clone(),
            None => TimeZone::try_system().unwrap_or(TimeZone::UTC),
        }
    }
}

/// The text of a policy file, bounded.
pub fn read_text(path: &Path) -> Result<String, PolicyError> {
    use std::io::Read;
    let file = path.display().to_string();
    let mut text = String::new();
    let read = std::fs::File::open(path).and_then(|it| it.take(MAX_BYTES + 1).read_to_string(&mut text));
    match read {
        Ok(bytes) if bytes as u64 > MAX_BYTES => Err(PolicyError::TooLarge { file }),
        Ok(_) => Ok(text),
        Err(source) => Err(PolicyError::Read { file, source }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_example_is_the_default() {
        let example = include_str!("../../../healer/healer.example.yml");
        let policy = Policy::parse("healer.yml", example).unwrap();
        assert_eq!((policy.default, &policy.healing), (Mode::Shadow, &Healing::default()));
        let expected = Policy {
            default_line: policy.default_line,
            terms: policy.terms.clone(),
            remedy_lines: policy.remedy_lines.clone(),
            ..Policy::default()
        };
        assert_eq!(policy, expected, "all of it is the default");
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
