//! healer.yml. Whatever is in it, it is a policy that can be explained, or there are mistakes that stand in it; and little text
//! never becomes much.

#![no_main]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;

use libfuzzer_sys::fuzz_target;
use nexus_fuzz::scratch;
use nexus_policy::modes::Switches;
use nexus_policy::{Mistake, Policy, PolicyError, Worn, explain};

/// More than any message needs: what it quotes is cut.
const LONGEST: usize = 3000;

fn file() -> &'static PathBuf {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| scratch().keep().join("healer.yml"))
}

fn check_shown(text: &str) {
    assert!(text.len() <= LONGEST, "{} bytes", text.len());
    assert!(!text.contains(char::is_control), "{text:?}");
}

fn check_line(line: u64, lines: u64) {
    assert!((1..=lines).contains(&line), "line {line} of {lines}");
}

fn check_mistakes(mistakes: &[Mistake], lines: u64) {
    assert!((1..=100).contains(&mistakes.len()), "{} mistakes", mistakes.len());
    assert!(mistakes.is_sorted_by_key(|mistake| mistake.line), "{mistakes:?}");
    for mistake in mistakes {
        check_line(mistake.line, lines);
        check_shown(&mistake.to_string());
    }
}

fn check_policy(policy: &Policy, lines: u64) {
    for line in explain::lines(policy) {
        check_line(line.line, lines);
        check_shown(&line.key);
        check_shown(&line.means);
    }
    for gets in explain::who_gets_what(policy) {
        check_shown(&gets.who);
        assert!(!gets.what.is_empty());
        gets.what.iter().for_each(|what| check_shown(what));
    }
    let labels = BTreeMap::from([("nexus.attempts".to_owned(), "3".to_owned())]);
    let now = "2026-07-04T02:30:00Z".parse().expect("a time");
    let named = policy
        .projects
        .iter()
        .flat_map(|(project, it)| it.services.keys().map(move |it| (project.as_str(), it.as_str())));
    for (project, service) in named.take(10).chain([("shop", "web")]) {
        let key = nexus_model::ServiceKey::new(project, service);
        let worn = [Worn { image: "docker.io/library/postgres:17", labels: &labels }];
        let terms = policy.terms(&key, worn);
        for (term, amount, source) in terms.amounts() {
            let (least, most) = term.bounds();
            assert!((least..=most).contains(&amount), "{term:?} is {amount} by {source:?}");
        }
        assert!(policy.maintenance_until(&terms.windows, now).is_none_or(|end| end > now));
        assert!(explain::service(policy, &key, worn, &Switches::default(), now).values.len() > 13);
    }
}

fuzz_target!(|input: &[u8]| {
    std::fs::write(file(), input).expect("the file can be written");
    let read = Policy::read(file());
    let Ok(text) = str::from_utf8(input) else {
        assert!(matches!(read, Err(PolicyError::Read { .. })), "{read:?}");
        return;
    };
    let lines = text.split(['\n', '\r']).count() as u64;
    match &read {
        Ok(policy) => check_policy(policy, lines),
        Err(PolicyError::Wrong { mistakes, .. }) => check_mistakes(mistakes, lines),
        Err(other) => panic!("{other}"),
    }
    if let Err(error) = &read {
        assert!(!error.to_string().contains('\n'), "{error}");
    }
});
