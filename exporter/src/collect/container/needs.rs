//! What a container's labels say that its service needs. Pure.
//!
//! The healer follows needs through and knows of shared networks as well; this is for rules and dashboards, which need no more than each
//! service's own words.

use std::collections::{BTreeMap, BTreeSet};

use nexus_docker::SaidBy;
use nexus_model::ServiceKey;
use nexus_model::labels::{COMPOSE_PROJECT, COMPOSE_SERVICE, is_name};

/// Each makes a series, and labels are anybody's text. A service needs one or two others.
const MOST: usize = 16;

/// What is needed as long as it runs. Nothing needs itself, and what can't be a name makes no series.
pub fn needs(labels: &BTreeMap<String, String>) -> BTreeSet<ServiceKey> {
    let word = |name: &str| labels.get(name).map_or("", String::as_str);
    let own = ServiceKey::new(word(COMPOSE_PROJECT), word(COMPOSE_SERVICE));
    let lasting = nexus_docker::needs(labels).into_iter().filter(|need| need.by != SaidBy::Once);
    let names =
        lasting.map(|need| need.key).filter(|key| is_name(&key.project) && is_name(&key.service) && *key != own);
    names.take(MOST).collect()
}

#[cfg(test)]
mod tests {
    use nexus_model::labels::{COMPOSE_DEPENDS_ON, DEPENDS_ON};

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
