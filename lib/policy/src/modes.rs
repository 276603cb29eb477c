//! Which mode applies to a service, and who said so.

use std::collections::BTreeMap;

use nexus_model::{Mode, Refusal, ServiceKey, api::ModeSource, labels};

use crate::{images, policy::Policy, terms::Worn};

/// What `nexus heal …` has set. Kept in the journal; this is the copy that decisions are made from.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Switches {
    pub projects: BTreeMap<String, Mode>,
    pub services: BTreeMap<ServiceKey, Mode>,
}

impl Switches {
    /// `None` takes a switch back.
    pub fn set(&mut self, project: &str, service: Option<&str>, mode: Option<Mode>) {
        match (service, mode) {
            (Some(service), Some(mode)) => _ = self.services.insert(ServiceKey::new(project, service), mode),
            (Some(service), None) => _ = self.services.remove(&ServiceKey::new(project, service)),
            (None, Some(mode)) => _ = self.projects.insert(project.to_owned(), mode),
            (None, None) => _ = self.projects.remove(project),
        }
    }
}

/// The mode that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effective {
    pub mode: Mode,
    pub source: ModeSource,
    /// It would be healed, and is only watched since the policy protects it, or since its image is a database's or one that the
    /// policy protects, and nobody has named the service itself.
    pub protected: Option<Refusal>,
}

/// The most specific word wins: service switch, label, project switch, policy for the service, for the project, default.
pub fn effective<'a>(
    key: &ServiceKey,
    containers: impl IntoIterator<Item = Worn<'a>> + Clone,
    switches: &Switches,
    policy: &Policy,
) -> Effective {
    let (mode, source) = if let Some(&mode) = switches.services.get(key) {
        (mode, ModeSource::ServiceSwitch)
    } else if let Some(mode) = containers.clone().into_iter().filter_map(label).min_by_key(|mode| boldness(*mode)) {
        (mode, ModeSource::Label)
    } else if let Some(&mode) = switches.projects.get(&key.project) {
        (mode, ModeSource::ProjectSwitch)
    } else if let Some(mode) = policy.service_mode(key) {
        (mode, ModeSource::PolicyService)
    } else if let Some(mode) = policy.project_mode(&key.project) {
        (mode, ModeSource::PolicyProject)
    } else {
        (policy.default, ModeSource::PolicyDefault)
    };
    let named = matches!(source, ModeSource::ServiceSwitch | ModeSource::Label | ModeSource::PolicyService);
    let needs_its_own_yes = |image: &str| images::is_database(image) || policy.protects_image(image).is_some();
    let protected = if mode != Mode::Heal {
        None
    } else if policy.protects_service(key).is_some() {
        Some(Refusal::ProtectedService)
    } else if !named && containers.into_iter().any(|worn| needs_its_own_yes(worn.image)) {
        Some(Refusal::ProtectedImage)
    } else {
        None
    };
    Effective { mode: if protected.is_some() { Mode::Shadow } else { mode }, source, protected }
}

/// What the label nexus.heal says. A word that is none of the known ones is taken as the careful one: the owner meant to
/// say something, and watching harms nobody.
fn label(worn: Worn<'_>) -> Option<Mode> {
    let word = worn.labels.get(labels::HEAL)?.trim().to_ascii_lowercase();
    Some(match word.as_str() {
        "true" | "heal" | "on" | "yes" | "1" => Mode::Heal,
        "false" | "off" | "no" | "0" => Mode::Off,
        _ => Mode::Shadow,
    })
}

/// Replicas whose labels differ follow the most careful of them.
fn boldness(mode: Mode) -> u8 {
    match mode {
        Mode::Off => 0,
        Mode::Shadow => 1,
        Mode::Heal => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::policy::{Given, ProjectPolicy, ServicePolicy};

    /// A container by image and nexus.heal.
    fn worn(image: &'static str, heal: Option<&str>) -> (String, BTreeMap<String, String>) {
        (image.to_owned(), heal.map(|word| (labels::HEAL.to_owned(), word.to_owned())).into_iter().collect())
    }

    fn of(worn: &(String, BTreeMap<String, String>)) -> Worn<'_> {
        Worn { image: &worn.0, labels: &worn.1 }
    }

    fn given<T>(value: T) -> Option<Given<T>> {
        Some(Given { value, line: 1 })
    }

    fn project(policy: &mut Policy) -> &mut ProjectPolicy {
        policy.projects.entry("shop".into()).or_default()
    }

    #[test]
    fn the_most_specific_word_wins() {
        let key = ServiceKey::new("shop", "web");
        let (plain, labelled) = (worn("shop/web:1", None), worn("shop/web:1", Some("true")));
        let mut policy = Policy::default();
        let mut switches = Switches::default();
        let check = |container: &(String, _), switches: &Switches, policy: &Policy, mode: Mode, source: ModeSource| {
            let expected = Effective { mode, source, protected: None };
            assert_eq!(effective(&key, [of(container)], switches, policy), expected);
        };
        check(&plain, &switches, &policy, Mode::Shadow, ModeSource::PolicyDefault);
        project(&mut policy).mode = given(Mode::Heal);
        check(&plain, &switches, &policy, Mode::Heal, ModeSource::PolicyProject);
        let service = ServicePolicy { mode: given(Mode::Off), ..ServicePolicy::default() };
        project(&mut policy).services.insert("web".into(), service);
        check(&plain, &switches, &policy, Mode::Off, ModeSource::PolicyService);
        switches.set("shop", None, Some(Mode::Shadow));
        check(&plain, &switches, &policy, Mode::Shadow, ModeSource::ProjectSwitch);
        check(&labelled, &switches, &policy, Mode::Heal, ModeSource::Label);
        switches.set("shop", Some("web"), Some(Mode::Off));
        check(&labelled, &switches, &policy, Mode::Off, ModeSource::ServiceSwitch);
        switches.set("shop", Some("web"), None);
        check(&labelled, &switches, &policy, Mode::Heal, ModeSource::Label);
        switches.set("shop", None, None);
        assert_eq!(switches, Switches::default());
    }

    #[test]
    fn labels_are_read_kindly_and_carefully() {
        let check = |word: &str, expected: Mode| {
            assert_eq!(label(of(&worn("shop/web:1", Some(word)))), Some(expected), "{word}");
        };
        check("true", Mode::Heal);
        check(" True ", Mode::Heal);
        check("false", Mode::Off);
        check("shadow", Mode::Shadow);
        check("treu", Mode::Shadow);
        check("", Mode::Shadow);
    }

    #[test]
    fn replicas_follow_the_most_careful_label() {
        let (one, two) = (worn("shop/web:1", Some("true")), worn("shop/web:1", Some("false")));
        let key = ServiceKey::new("shop", "web");
        let found = effective(&key, [of(&one), of(&two)], &Switches::default(), &Policy::default());
        assert_eq!(found.mode, Mode::Off);
    }

    #[test]
    fn a_database_and_an_image_that_the_policy_protects_need_to_be_named_themselves() {
        let key = ServiceKey::new("shop", "web");
        let database = worn("postgres:17", None);
        let named = |image, policy: &Policy, switches: &mut Switches| {
            let plain = worn(image, None);
            let labelled = worn(image, Some("true"));
            let find = |container: &(String, _), switches: &Switches| {
                let found = effective(&key, [of(container)], switches, policy);
                (found.mode, found.protected)
            };
            let protected = (Mode::Shadow, Some(Refusal::ProtectedImage));
            assert_eq!(find(&plain, switches), protected);
            switches.set("shop", None, Some(Mode::Heal));
            assert_eq!(find(&plain, switches), protected);
            assert_eq!(find(&labelled, switches), (Mode::Heal, None));
            switches.set("shop", Some("web"), Some(Mode::Heal));
            assert_eq!(find(&plain, switches), (Mode::Heal, None));
            switches.set("shop", Some("web"), Some(Mode::Off));
            assert_eq!(find(&plain, switches), (Mode::Off, None));
        };
        let mut policy = Policy { default: Mode::Heal, ..Policy::default() };
        named("postgres:17", &policy, &mut Switches::default());
        project(&mut policy).mode = given(Mode::Heal);
        named("postgres:17", &policy, &mut Switches::default());
        policy.protected.images = given("team/*".to_owned()).into_iter().collect();
        named("team/ledger:3", &policy, &mut Switches::default());
        let service = ServicePolicy { mode: given(Mode::Heal), ..ServicePolicy::default() };
        project(&mut policy).services.insert("web".into(), service);
        let found = effective(&key, [of(&database)], &Switches::default(), &policy);
        assert_eq!((found.mode, found.protected), (Mode::Heal, None));
    }

    #[test]
    fn a_protected_service_is_only_watched_whatever_labels_and_switches_say() {
        let key = ServiceKey::new("shop", "web");
        let container = worn("shop/web:1", Some("true"));
        let mut policy = Policy::default();
        policy.protected.services = given(key.clone()).into_iter().collect();
        let mut switches = Switches::default();
        switches.set("shop", Some("web"), Some(Mode::Heal));
        let found = effective(&key, [of(&container)], &switches, &policy);
        assert_eq!((found.mode, found.protected), (Mode::Shadow, Some(Refusal::ProtectedService)));
        // Who switched it off wants even less.
        switches.set("shop", Some("web"), Some(Mode::Off));
        let found = effective(&key, [of(&container)], &switches, &policy);
        assert_eq!((found.mode, found.protected), (Mode::Off, None));
    }
}
