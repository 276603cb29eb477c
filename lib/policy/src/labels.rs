//! Our labels on containers, read: what they say, and which of them say nothing that can be understood. A wrong label is left out,
//! as if it were not there; it never keeps a service from being looked after.

use std::collections::BTreeMap;

use nexus_model::labels;

use crate::{
    amount,
    probe::ProbeTarget,
    term::{Amount, Term},
    window::{self, Maintenance},
};

/// What the labels of one container say.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Said {
    pub terms: BTreeMap<Term, Amount>,
    pub maintenance: Option<Maintenance>,
    pub expendable: Option<bool>,
    pub probe: Option<ProbeTarget>,
    pub wrong: Vec<WrongLabel>,
}

/// A label that can't be understood.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct WrongLabel {
    pub name: String,
    /// What is wrong, and what to write.
    pub message: String,
}

/// Beyond this nobody reads on: labels are anybody's text.
const MOST_WRONG: usize = 20;

/// All labels that mean something to Nexus, but for those of [`Term`].
const OTHERS: [&str; 7] = [
    labels::HEAL,
    labels::DEPENDS_ON,
    labels::STACK,
    labels::EXPECTED,
    labels::MAINTENANCE,
    labels::EXPENDABLE,
    labels::PROBE,
];

const PREFIX: &str = "nexus.";

pub fn read(all: &BTreeMap<String, String>) -> Said {
    let mut said = Said::default();
    let ours = all.range(PREFIX.to_owned()..).take_while(|(name, _)| name.starts_with(PREFIX));
    for (name, text) in ours {
        let term = Term::ALL.into_iter().find(|term| term.label() == Some(name));
        let read = match (term, name.as_str()) {
            (Some(term), _) => amount::of_term(term, text.trim()).map(|amount| _ = said.terms.insert(term, amount)),
            (None, labels::MAINTENANCE) => window::of_label(text).map(|windows| said.maintenance = Some(windows)),
            (None, labels::EXPENDABLE) => amount::yes_or_no(text).map(|yes| said.expendable = Some(yes)),
            (None, labels::PROBE) => ProbeTarget::parse(text).map(|target| said.probe = Some(target)),
            (None, labels::HEAL) => heal(text),
            (None, name) if is_known(name) => Ok(()),
            (None, _) => Err("there is no such label; docs/healing.md lists them".to_owned()),
        };
        if let Err(message) = read
            && said.wrong.len() < MOST_WRONG
        {
            said.wrong.push(WrongLabel { name: amount::shown(name), message });
        }
    }
    said
}

/// Others read these.
fn is_known(name: &str) -> bool {
    // Compose files carry hashes of the stack's own configuration, images those of what they are made of.
    OTHERS.contains(&name) || ["nexus.config", "nexus.content"].contains(&name)
}

fn heal(text: &str) -> Result<(), String> {
    match text.trim().to_ascii_lowercase().as_str() {
        "heal" | "shadow" => Ok(()),
        word if amount::yes_or_no(word).is_ok() => Ok(()),
        word => {
            Err(format!("\"{}\" is no mode, so it is watched only; write true, false or shadow", amount::shown(word)))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(all: &[(&str, &str)]) -> Said {
        read(&all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect())
    }

    #[test]
    fn labels_say_what_they_say() {
        let said = said(&[
            ("nexus.attempts", " 3 "),
            ("nexus.stop_timeout", "90s"),
            ("nexus.maintenance", "sat,sun 02:00-04:00; 12:00-12:30"),
            ("nexus.expendable", "true"),
            ("nexus.heal", "shadow"),
            ("nexus.depends_on", "db"),
            ("nexus.probe", "http://:8080/healthz"),
            ("nexusless", "x"),
            ("com.example.nexus.attempts", "x"),
        ]);
        assert_eq!(said.wrong, []);
        assert_eq!(said.terms.get(&Term::Attempts), Some(&Amount::Count(3)));
        assert_eq!(said.terms.len(), 2);
        assert_eq!(said.maintenance.unwrap().windows.len(), 2);
        assert_eq!(said.expendable, Some(true));
        assert_eq!(said.probe.map(|probe| probe.to_string()).as_deref(), Some("http://:8080/healthz"));
    }

    #[test]
    fn a_wrong_label_is_left_out_and_named() {
        for (name, text) in [
            ("nexus.attempts", "many"),
            ("nexus.attempts", "0"),
            ("nexus.attempts_per_day", "201"),
            ("nexus.stop_timeout", "10"),
            ("nexus.start_patience", "2h"),
            ("nexus.stable_for", ""),
            ("nexus.base_delay", "-5s"),
            ("nexus.max_delay", "48h"),
            ("nexus.verify_margin", "1d1d"),
            ("nexus.maintenance", "caturday 02:00-03:00"),
            ("nexus.expendable", "maybe"),
            ("nexus.heal", "treu"),
            ("nexus.attemps", "3"),
            ("nexus.probe", "http://example.org:80/"),
            ("nexus.probes", "tcp://:1"),
        ] {
            let said = said(&[(name, text)]);
            assert_eq!(said.wrong.len(), 1, "{name}={text}");
            assert_eq!(said.wrong[0].name, name);
            assert_eq!(Said { wrong: Vec::new(), ..said }, Said::default(), "{name}={text}");
        }
    }

    #[test]
    fn what_is_shown_of_labels_is_bounded() {
        let many: Vec<(String, String)> =
            (0..1000).map(|number| (format!("nexus.x{number}{}", "y".repeat(500)), "é".repeat(5000))).collect();
        let said = read(&many.into_iter().collect());
        assert_eq!(said.wrong.len(), MOST_WRONG);
        assert!(said.wrong.iter().all(|wrong| wrong.name.len() < 200 && wrong.message.len() < 400));
    }
}
