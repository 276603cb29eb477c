//! The policy in plain words: line by line, for what the file names, and for one service that runs.

use std::collections::BTreeSet;

use jiff::Timestamp;
use nexus_model::{
    Mode, Refusal, ServiceKey,
    api::{ExplainedLabel, ExplainedValue, ModeSource, PolicyExplanation},
    labels as names,
};

use crate::{
    amount,
    modes::{self, Effective, Switches},
    policy::{Policy, TermsGiven},
    term::Term,
    terms::{Source, Terms, Worn},
    window::{Maintenance, Window},
};

/// A key that the file sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Line {
    pub line: u64,
    /// `projects.photos.mode: heal`.
    pub key: String,
    pub means: String,
}

/// What a project or a service that the file names gets, where neither label nor switch says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Gets {
    /// `photos`, `photos/web` or [`ALL_OTHERS`].
    pub who: String,
    /// Each with the line that says so.
    pub what: Vec<String>,
}

pub const ALL_OTHERS: &str = "all others";

/// Every key that the file sets, by line.
pub fn lines(policy: &Policy) -> Vec<Line> {
    let mut all = Vec::new();
    let mut add = |line: u64, key: String, means: String| all.push(Line { line, key, means });
    if let Some(line) = policy.default_line {
        let means = format!("what nothing more particular is said of is {}", mode_in_words(policy.default));
        add(line, format!("default: {}", policy.default), means);
    }
    if let Some(zone) = &policy.timezone {
        let name = zone.value.iana_name().unwrap_or("UTC");
        add(zone.line, format!("timezone: {name}"), "the maintenance windows are in this time zone".to_owned());
    }
    for named in &policy.protected.services {
        let who = if named.value.service == "*" {
            format!("all of {}", named.value.project)
        } else {
            named.value.to_string()
        };
        let means = format!("{who} is only watched, whatever labels and switches say");
        add(named.line, format!("protected.services: {}", named.value), means);
    }
    for named in &policy.protected.images {
        let means = "services with such an image are restarted only when the service itself is named".to_owned();
        add(named.line, format!("protected.images: {}", named.value), means);
    }
    let remedies = &policy.remedies;
    for (&name, &line) in &policy.remedy_lines {
        let (value, means) = match name {
            "prune" => (
                remedies.prune.to_string(),
                allowed(remedies.prune, "remove dangling images and the build cache when the disk runs full"),
            ),
            "start" => (
                remedies.start.to_string(),
                allowed(remedies.start, "start what is down, or was created and never started"),
            ),
            "stop_expendables" => (
                remedies.stop_expendables.to_string(),
                allowed(remedies.stop_expendables, "stop what is expendable when disk or memory is about to run out"),
            ),
            _ => (
                amount::bytes_in_words(remedies.ballast),
                match remedies.ballast {
                    0 => "there is no ballast".to_owned(),
                    bytes => format!(
                        "a file of {} is given back first when the disk runs full",
                        amount::bytes_in_words(bytes)
                    ),
                },
            ),
        };
        add(line, format!("remedies.{name}: {value}"), means);
    }
    part(&mut all, "", "every service", &policy.terms, &policy.maintenance);
    for (project, of_project) in &policy.projects {
        let path = format!("projects.{project}.");
        if let Some(mode) = of_project.mode {
            let means = format!("services of {project} are {}", mode_in_words(mode.value));
            all.push(Line { line: mode.line, key: format!("{path}mode: {}", mode.value), means });
        }
        part(&mut all, &path, &format!("each service of {project}"), &of_project.terms, &of_project.maintenance);
        for (service, of_service) in &of_project.services {
            let path = format!("{path}services.{service}.");
            let who = format!("{project}/{service}");
            if let Some(mode) = of_service.mode {
                let means = format!("{who} is {}", mode_in_words(mode.value));
                all.push(Line { line: mode.line, key: format!("{path}mode: {}", mode.value), means });
            }
            if let Some(given) = of_service.expendable {
                let means = format!("{who} {}", expendable_in_words(given.value));
                all.push(Line { line: given.line, key: format!("{path}expendable: {}", given.value), means });
            }
            if let Some(given) = &of_service.probe {
                let means = format!("{who} {}", given.value.in_words());
                all.push(Line { line: given.line, key: format!("{path}probe: {}", given.value), means });
            }
            part(&mut all, &path, &who, &of_service.terms, &of_service.maintenance);
        }
    }
    all.sort();
    all
}

/// What may be at each level.
fn part(all: &mut Vec<Line>, path: &str, who: &str, terms: &TermsGiven, maintenance: &Maintenance) {
    for (term, given) in terms {
        let key = format!("{path}healing.{}: {}", term.name(), given.value);
        let words = term.in_words(given.value);
        let means = if term.is_of_the_host() { words } else { format!("{who}: {words}") };
        all.push(Line { line: given.line, key, means });
    }
    if let Some(alone) = maintenance.alone {
        let means = format!("{who}: the windows of above don't count");
        all.push(Line { line: alone.line, key: format!("{path}maintenance: none"), means });
    }
    for given in &maintenance.windows {
        let means = format!("{who}: nothing is healed {}", window_in_words(&given.value));
        all.push(Line { line: given.line, key: format!("{path}maintenance: {}", given.value), means });
    }
}

/// What each project and service that the file names gets, and all others.
pub fn who_gets_what(policy: &Policy) -> Vec<Gets> {
    let mut keys: BTreeSet<(String, Option<String>)> = BTreeSet::new();
    for (project, of_project) in &policy.projects {
        keys.insert((project.clone(), None));
        keys.extend(of_project.services.keys().map(|service| (project.clone(), Some(service.clone()))));
    }
    for named in &policy.protected.services {
        let service = Some(named.value.service.clone()).filter(|service| service != "*");
        keys.insert((named.value.project.clone(), service));
    }
    let mut all: Vec<Gets> = keys
        .into_iter()
        .map(|(project, service)| {
            let who = service.as_ref().map_or_else(|| project.clone(), |service| format!("{project}/{service}"));
            // No service is called so, so what it gets is what the project says of each.
            Gets { who, what: gets(policy, &ServiceKey::new(project, service.unwrap_or_default())) }
        })
        .collect();
    all.push(Gets { who: ALL_OTHERS.to_owned(), what: gets(policy, &ServiceKey::new("", "")) });
    all
}

fn gets(policy: &Policy, key: &ServiceKey) -> Vec<String> {
    let effective = modes::effective(key, [], &Switches::default(), policy);
    let terms = policy.terms(key, []);
    let mut what = vec![match effective.protected.and(policy.protects_service(key)) {
        Some(line) => format!("only watched: protected (line {line})"),
        None => with_source(&mode_in_words(effective.mode), &mode_source(policy, key, effective.source)),
    }];
    for (term, amount, source) in terms.amounts().filter(|(term, ..)| !term.is_of_the_host()) {
        if source != Source::Default {
            what.push(with_source(&term.in_words(amount), &in_words(source)));
        }
    }
    for (window, source) in &terms.windows {
        what.push(with_source(&format!("nothing is healed {}", window_in_words(window)), &in_words(*source)));
    }
    if terms.expendable.0 {
        what.push(with_source(expendable_in_words(true), &in_words(terms.expendable.1)));
    }
    if let Some((probe, source)) = &terms.probe {
        what.push(with_source(&format!("probe {probe}"), &in_words(*source)));
    }
    what
}

fn with_source(what: &str, source: &str) -> String {
    format!("{what} ({})", source.trim_start_matches("healer.yml "))
}

/// What holds for a service with these containers, and who says so.
pub fn service<'a>(
    policy: &Policy,
    key: &ServiceKey,
    containers: impl IntoIterator<Item = Worn<'a>> + Clone,
    switches: &Switches,
    now: Timestamp,
) -> PolicyExplanation {
    let effective = modes::effective(key, containers.clone(), switches, policy);
    let terms = policy.terms(key, containers.clone());
    let mut values = vec![mode_value(policy, key, &effective, containers.clone())];
    values.extend(terms.amounts().map(|(term, amount, source)| ExplainedValue {
        key: term.name().to_owned(),
        value: amount.to_string(),
        source: in_words(source),
        means: term.in_words(amount),
    }));
    values.extend(maintenance_values(&terms));
    let (expendable, source) = terms.expendable;
    values.push(ExplainedValue {
        key: "expendable".to_owned(),
        value: expendable.to_string(),
        source: in_words(source),
        means: expendable_in_words(expendable).to_owned(),
    });
    values.push(match &terms.probe {
        Some((probe, source)) => ExplainedValue {
            key: "probe".to_owned(),
            value: probe.to_string(),
            source: in_words(*source),
            means: probe.in_words(),
        },
        None => ExplainedValue {
            key: "probe".to_owned(),
            value: "none".to_owned(),
            source: in_words(Source::Default),
            means: "whether it works is Docker's word alone".to_owned(),
        },
    });
    PolicyExplanation {
        project: key.project.clone(),
        service: key.service.clone(),
        values,
        wrong_labels: terms
            .wrong_labels
            .iter()
            .map(|wrong| ExplainedLabel { name: wrong.name.clone(), message: wrong.message.clone() })
            .collect(),
        maintenance_until: policy.maintenance_until(&terms.windows, now),
        policy: None,
    }
}

fn mode_value<'a>(
    policy: &Policy,
    key: &ServiceKey,
    effective: &Effective,
    containers: impl IntoIterator<Item = Worn<'a>>,
) -> ExplainedValue {
    let source = mode_source(policy, key, effective.source);
    let (source, means) = match effective.protected {
        Some(Refusal::ProtectedService) => {
            let line = policy.protects_service(key).unwrap_or_default();
            let means = format!("only watched: the policy protects it, though it would be healed by the {source}");
            (format!("healer.yml line {line}"), means)
        }
        Some(_) => {
            let line = containers.into_iter().find_map(|worn| policy.protects_image(worn.image));
            let image = line.map_or("its image is a database".to_owned(), |line| {
                format!("healer.yml line {line} protects its image")
            });
            let means = format!("only watched: {image}, so it needs its own yes: ./nexus heal on {key}");
            (source, means)
        }
        None => (source, mode_in_words(effective.mode)),
    };
    ExplainedValue { key: "mode".to_owned(), value: effective.mode.to_string(), source, means }
}

fn maintenance_values(terms: &Terms) -> Vec<ExplainedValue> {
    let value = |value: String, source: Source, means: String| ExplainedValue {
        key: "maintenance".to_owned(),
        value,
        source: in_words(source),
        means,
    };
    if terms.windows.is_empty() {
        return vec![value("none".to_owned(), Source::Default, "healing waits for nobody's work".to_owned())];
    }
    let each = terms.windows.iter();
    each.map(|(window, source)| {
        value(window.to_string(), *source, format!("nothing is healed {}", window_in_words(window)))
    })
    .collect()
}

fn mode_source(policy: &Policy, key: &ServiceKey, source: ModeSource) -> String {
    let line = |line: Option<u64>| line.map_or("default".to_owned(), |line| format!("healer.yml line {line}"));
    match source {
        ModeSource::ServiceSwitch => format!("switch (nexus heal … {key})"),
        ModeSource::ProjectSwitch => format!("switch (nexus heal … {})", key.project),
        ModeSource::Label => format!("label {}", names::HEAL),
        ModeSource::PolicyService => line(policy.service(key).and_then(|it| it.mode).map(|given| given.line)),
        ModeSource::PolicyProject => {
            line(policy.projects.get(&key.project).and_then(|it| it.mode).map(|given| given.line))
        }
        ModeSource::PolicyDefault => line(policy.default_line),
    }
}

fn in_words(source: Source) -> String {
    match source {
        Source::Default => "default".to_owned(),
        Source::File { line, .. } => format!("healer.yml line {line}"),
        Source::Label(name) => format!("label {name}"),
        Source::Follows(Term::Attempts) => "no more than attempts".to_owned(),
        Source::Follows(term) => format!("no less than {}", term.name()),
    }
}

fn mode_in_words(mode: Mode) -> String {
    match mode {
        Mode::Heal => "restarted when ill",
        Mode::Shadow => "only watched",
        Mode::Off => "left alone",
    }
    .to_owned()
}

fn expendable_in_words(expendable: bool) -> &'static str {
    if expendable {
        "may be stopped when disk or memory is about to run out"
    } else {
        "is never stopped to save disk or memory"
    }
}

fn window_in_words(window: &Window) -> String {
    let text = window.to_string();
    match text.rsplit_once(' ') {
        Some((days, times)) => {
            let (from, to) = times.split_once('-').unwrap_or((times, times));
            format!("{days} from {from} to {to}")
        }
        None => text,
    }
}

fn allowed(yes: bool, what: &str) -> String {
    format!("the healer {} {what}", if yes { "may" } else { "may not" })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    const FILE: &str = "\
default: off
timezone: Europe/Berlin
maintenance: [sun 03:00-05:00]
healing: {attempts: 1, restarts_per_10_minutes: 5}
projects:
  photos:
    mode: heal
    healing:
      attempts: 4
    services:
      web: {maintenance: none}
      import:
        mode: shadow
        expendable: true
        probe: http://:8080/healthz
protected:
  services:
    - shop/ledger
    - bank/*
  images: [me/*]
remedies:
  prune: yes
  ballast: 1GiB
";

    fn policy() -> Policy {
        Policy::parse("healer.yml", FILE).unwrap()
    }

    #[test]
    fn each_line_is_explained() {
        let shown: Vec<String> =
            lines(&policy()).iter().map(|it| format!("{} {} | {}", it.line, it.key, it.means)).collect();
        assert_eq!(
            shown,
            [
                "1 default: off | what nothing more particular is said of is left alone",
                "2 timezone: Europe/Berlin | the maintenance windows are in this time zone",
                "3 maintenance: sun 03:00-05:00 | every service: nothing is healed sun from 03:00 to 05:00",
                "4 healing.attempts: 1 | every service: given up after 1 attempt",
                "4 healing.restarts_per_10_minutes: 5 | the whole machine: at most 5 restarts within ten minutes",
                "7 projects.photos.mode: heal | services of photos are restarted when ill",
                "9 projects.photos.healing.attempts: 4 | each service of photos: given up after 4 attempts",
                "11 projects.photos.services.web.maintenance: none | photos/web: the windows of above don't count",
                "13 projects.photos.services.import.mode: shadow | photos/import is only watched",
                "14 projects.photos.services.import.expendable: true | photos/import may be stopped when disk or memory is about to run out",
                "15 projects.photos.services.import.probe: http://:8080/healthz | photos/import is asked for /healthz at its port 8080 and must answer 200-399, before it is restarted and afterwards; it can be reached where that port is published on the host (not on 127.0.0.1 alone) or where it is in a network with Nexus",
                "18 protected.services: shop/ledger | shop/ledger is only watched, whatever labels and switches say",
                "19 protected.services: bank/* | all of bank is only watched, whatever labels and switches say",
                "20 protected.images: me/* | services with such an image are restarted only when the service itself is named",
                "22 remedies.prune: true | the healer may remove dangling images and the build cache when the disk runs full",
                "23 remedies.ballast: 1GiB | a file of 1GiB is given back first when the disk runs full",
            ]
        );
    }

    #[test]
    fn everybody_whom_the_file_names_gets_what_it_says() {
        let shown: Vec<String> =
            who_gets_what(&policy()).iter().map(|it| format!("{}: {}", it.who, it.what.join("; "))).collect();
        assert_eq!(
            shown,
            [
                "bank: left alone (line 1); given up after 1 attempt (line 4); you are told from failed attempt 1 on (no more than attempts); nothing is healed sun from 03:00 to 05:00 (line 3)",
                "photos: restarted when ill (line 7); given up after 4 attempts (line 9); nothing is healed sun from 03:00 to 05:00 (line 3)",
                "photos/import: only watched (line 13); given up after 4 attempts (line 9); nothing is healed sun from 03:00 to 05:00 (line 3); may be stopped when disk or memory is about to run out (line 14); probe http://:8080/healthz (line 15)",
                "photos/web: restarted when ill (line 7); given up after 4 attempts (line 9)",
                "shop/ledger: left alone (line 1); given up after 1 attempt (line 4); you are told from failed attempt 1 on (no more than attempts); nothing is healed sun from 03:00 to 05:00 (line 3)",
                "all others: left alone (line 1); given up after 1 attempt (line 4); you are told from failed attempt 1 on (no more than attempts); nothing is healed sun from 03:00 to 05:00 (line 3)",
            ]
        );
    }

    #[test]
    fn a_service_is_explained_with_who_says_what() {
        let check =
            |project: &str, service: &str, labels: &[(&str, &str)], image: &str, expected: &[(&str, &str, &str)]| {
                let labels: BTreeMap<String, String> =
                    labels.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect();
                let mut switches = Switches::default();
                switches.set("blog", None, Some(Mode::Heal));
                let key = ServiceKey::new(project, service);
                let worn = [Worn { image, labels: &labels }];
                // A Sunday at four in the morning in Berlin.
                let now = "2026-07-05T02:00:00Z".parse().unwrap();
                let explained = super::service(&policy(), &key, worn, &switches, now);
                for (name, value, source) in expected {
                    let found = explained.values.iter().find(|it| it.key == *name).unwrap();
                    assert_eq!((found.value.as_str(), found.source.as_str()), (*value, *source), "{name}: {found:?}");
                }
                explained
            };
        let web = check(
            "photos",
            "web",
            &[("nexus.attempts", "2"), ("nexus.max_delay", "soon")],
            "web",
            &[
                ("mode", "heal", "healer.yml line 7"),
                ("attempts", "2", "label nexus.attempts"),
                ("told_after", "2", "no more than attempts"),
                ("base_delay", "10s", "default"),
                ("maintenance", "none", "default"),
                ("expendable", "false", "default"),
                ("probe", "none", "default"),
            ],
        );
        assert_eq!(web.wrong_labels.len(), 1);
        assert_eq!(web.maintenance_until, None);
        let blog = check(
            "blog",
            "web",
            &[],
            "web",
            &[("mode", "heal", "switch (nexus heal … blog)"), ("maintenance", "sun 03:00-05:00", "healer.yml line 3")],
        );
        assert_eq!(blog.maintenance_until.map(|end| end.to_string()).as_deref(), Some("2026-07-05T03:00:00Z"));
        let ledger =
            check("shop", "ledger", &[("nexus.heal", "true")], "web", &[("mode", "shadow", "healer.yml line 18")]);
        assert!(ledger.values[0].means.contains("label nexus.heal"), "{ledger:?}");
        let image = check("blog", "db", &[], "me/store:1", &[("mode", "shadow", "switch (nexus heal … blog)")]);
        assert!(image.values[0].means.contains("line 20 protects its image"), "{image:?}");
        let database = check("photos", "db", &[], "postgres:17", &[("mode", "shadow", "healer.yml line 7")]);
        assert!(database.values[0].means.contains("a database"), "{database:?}");
    }
}
