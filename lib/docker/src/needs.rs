//! What a container's labels say that its service needs. Pure.

use std::collections::BTreeMap;

use nexus_model::ServiceKey;
use nexus_model::labels::{COMPOSE_DEPENDS_ON, COMPOSE_PROJECT, DEPENDS_ON};

/// Of each label: a service needs one or two others, and labels are anybody's text.
const MOST: usize = 64;
/// Compose's word for what is only run once.
const COMPLETED: &str = "service_completed_successfully";

/// One service that another needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Need {
    pub key: ServiceKey,
    pub by: SaidBy,
}

/// Who says that it is needed, and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SaidBy {
    /// The label `nexus.depends_on`.
    Label,
    /// Compose's `depends_on`, and whether it says `restart: true`.
    Compose { restart: bool },
    /// Compose's `depends_on`: it has done its work before the other was started, and is not needed since.
    Once,
}

/// Our own label first, then Compose's, each in its order. Names are as they stand there, whatever they are.
pub fn needs(labels: &BTreeMap<String, String>) -> Vec<Need> {
    let text = |name: &str| labels.get(name).map_or("", String::as_str);
    let entries = |name: &str| text(name).split(',').map(str::trim).filter(|entry| !entry.is_empty()).take(MOST);
    let project = text(COMPOSE_PROJECT);
    let told = entries(DEPENDS_ON).map(|entry| {
        let (project, service) = entry.split_once('/').unwrap_or((project, entry));
        Need { key: ServiceKey::new(project, service), by: SaidBy::Label }
    });
    let of_compose = entries(COMPOSE_DEPENDS_ON).map(|entry| {
        let mut parts = entry.split(':');
        let key = ServiceKey::new(project, parts.next().unwrap_or_default());
        let by = match parts.next() {
            Some(COMPLETED) => SaidBy::Once,
            _ => SaidBy::Compose { restart: parts.next().is_some_and(|word| word.eq_ignore_ascii_case("true")) },
        };
        Need { key, by }
    });
    told.chain(of_compose).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_labels_are_read() {
        let check = |compose: &str, own: &str, expected: &[(&str, SaidBy)]| {
            let labels = [(COMPOSE_PROJECT, "shop"), (COMPOSE_DEPENDS_ON, compose), (DEPENDS_ON, own)];
            let labels = labels.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
            let found: Vec<(String, SaidBy)> = needs(&labels).iter().map(|it| (it.key.to_string(), it.by)).collect();
            let expected: Vec<(String, SaidBy)> = expected.iter().map(|(key, by)| ((*key).to_owned(), *by)).collect();
            assert_eq!(found, expected, "{compose:?} {own:?}");
        };
        let compose = |restart| SaidBy::Compose { restart };
        check("", "", &[]);
        check(" , ,", ",", &[]);
        check("db:service_healthy:false", "", &[("shop/db", compose(false))]);
        check("db:service_healthy:True,cache", "", &[("shop/db", compose(true)), ("shop/cache", compose(false))]);
        check("seed:service_completed_successfully:false", "", &[("shop/seed", SaidBy::Once)]);
        check(
            "db",
            " proxy/caddy, mail ,",
            &[("proxy/caddy", SaidBy::Label), ("shop/mail", SaidBy::Label), ("shop/db", compose(false))],
        );
        let labels = [(DEPENDS_ON.to_owned(), "x,".repeat(100_000))].into();
        assert_eq!(needs(&labels).len(), MOST);
    }
}
