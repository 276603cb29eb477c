//! What a container's labels say that its service needs. Pure.
//!
//! The healer follows needs through and knows of shared networks as well; this is for rules and dashboards, which need no more than each
//! service's own words.

use std::collections::{BTreeMap, BTreeSet};

use nexus_model::ServiceKey;
use nexus_model::labels::{COMPOSE_DEPENDS_ON, COMPOSE_PROJECT, COMPOSE_SERVICE, DEPENDS_ON, is_name};

/// Each makes a series, and labels are anybody's text. A service needs one or two others.
const MOST: usize = 16;
/// Compose's word for what is only run once, before the other is started: not needed since.
const COMPLETED: &str = "service_completed_successfully";

/// Compose's `depends_on`, and the label `nexus.depends_on`. Nothing needs itself.
pub fn needs(labels: &BTreeMap<String, String>) -> BTreeSet<ServiceKey> {
    let word = |name: &str| labels.get(name).map_or("", String::as_str);
    let own = ServiceKey::new(word(COMPOSE_PROJECT), word(COMPOSE_SERVICE));
    let entries = |name: &str| word(name).split(',').map(str::trim).filter(|entry| !entry.is_empty());
    let told = entries(DEPENDS_ON).map(|entry| {
        let (project, service) = entry.split_once('/').unwrap_or((&own.project, entry));
        ServiceKey::new(project, service)
    });
    let of_compose = entries(COMPOSE_DEPENDS_ON).filter_map(|entry| {
        let mut parts = entry.split(':');
        let service = parts.next()?;
        (parts.next() != Some(COMPLETED)).then(|| ServiceKey::new(&own.project, service))
    });
    told.chain(of_compose)
        .filter(|key| is_name(&key.project) && is_name(&key.service) && *key != own)
        .take(MOST)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn needs_are_what_the_labels_say() {
        let check = |compose: &str, own: &str, expected: &[&str]| {
            let labels =
                [(COMPOSE_PROJECT, "shop"), (COMPOSE_SERVICE, "web"), (COMPOSE_DEPENDS_ON, compose), (DEPENDS_ON, own)];
            let labels = labels.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
            let found: Vec<String> = needs(&labels).iter().map(ServiceKey::to_string).collect();
            assert_eq!(found, expected, "{compose:?} {own:?}");
        };
        check("", "", &[]);
        check("db:service_healthy:false,cache:service_started:true", "", &["shop/cache", "shop/db"]);
        check("migrate:service_completed_successfully:false,db:service_healthy:false", "", &["shop/db"]);
        check("db", " proxy/caddy, mail ,", &["proxy/caddy", "shop/db", "shop/mail"]);
        check("web:service_started:false", "shop/web,/x,y/,,\u{1b}", &[]);
        let many: Vec<String> = (0..100).map(|number| format!("s{number:02}")).collect();
        let first: Vec<String> = many[..MOST].iter().map(|name| format!("shop/{name}")).collect();
        check(&many.join(","), "", &first.iter().map(String::as_str).collect::<Vec<_>>());
    }

    #[test]
    fn outside_compose_only_what_names_its_project_counts() {
        let labels = [(DEPENDS_ON.to_owned(), "db, shop/db".to_owned())].into();
        assert_eq!(needs(&labels), [ServiceKey::new("shop", "db")].into());
        assert_eq!(needs(&BTreeMap::new()), BTreeSet::new());
    }
}
