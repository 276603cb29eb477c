//! What holds for one service, and who says so: label, service, project, top of the file, default. The most specific word wins.

use std::collections::BTreeMap;

use jiff::Timestamp;
use nexus_model::{ServiceKey, labels as names};

use crate::{
    labels::{self, WrongLabel},
    policy::{Policy, TermsGiven},
    probe::ProbeTarget,
    reader,
    term::{Amount, Healing, Term},
    window::{Maintenance, Window},
};

/// What a container wears, as far as the policy is concerned.
#[derive(Clone, Copy, Debug)]
pub struct Worn<'a> {
    pub image: &'a str,
    pub labels: &'a BTreeMap<String, String>,
}

/// Who says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    Default,
    File {
        level: Level,
        line: u64,
    },
    Label(&'static str),
    /// Another value holds this one back or draws it along.
    Follows(Term),
}

/// A part of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Level {
    Top,
    Project,
    Service,
}

/// What holds for a service.
#[derive(Clone, Debug, PartialEq)]
pub struct Terms {
    pub healing: Healing,
    pub sources: BTreeMap<Term, Source>,
    pub windows: Vec<(Window, Source)>,
    pub expendable: (bool, Source),
    /// Replicas may have one each; this is the first's. See [`Policy::probe`].
    pub probe: Option<(ProbeTarget, Source)>,
    /// By name of the label; replicas may wear the same.
    pub wrong_labels: Vec<WrongLabel>,
}

impl Policy {
    /// What holds for a service that has these containers.
    pub fn terms<'a>(&self, key: &ServiceKey, containers: impl IntoIterator<Item = Worn<'a>>) -> Terms {
        let said: Vec<labels::Said> = containers.into_iter().map(|worn| labels::read(worn.labels)).collect();
        let project = self.projects.get(&key.project);
        let service = self.service(key);
        // Not from what the top says of all, in which one value may hold another back that is free here.
        let mut healing = Healing::default();
        let mut sources: BTreeMap<Term, Source> = Term::ALL.map(|term| (term, Source::Default)).into();
        let levels = [
            (Level::Top, Some(&self.terms)),
            (Level::Project, project.map(|it| &it.terms)),
            (Level::Service, service.map(|it| &it.terms)),
        ];
        for (level, given) in levels {
            apply(&mut healing, &mut sources, given, level);
        }
        for term in Term::ALL {
            let amounts = said.iter().filter_map(|said| said.terms.get(&term).copied());
            if let (Some(amount), Some(label)) = (amounts.reduce(|a, b| term.more_careful(a, b)), term.label()) {
                healing.set(term, amount);
                sources.insert(term, Source::Label(label));
            }
        }
        healing.stop_timeout_wins = matches!(
            sources.get(&Term::StopTimeout),
            Some(Source::Label(_) | Source::File { level: Level::Service, .. })
        );
        let before = healing.clone();
        reader::move_along(&mut healing);
        for (term, with) in [(Term::ToldAfter, Term::Attempts), (Term::MaxDelay, Term::BaseDelay)] {
            if healing.get(term) != before.get(term) {
                sources.insert(term, Source::Follows(with));
            }
        }
        let mut wrong_labels: Vec<WrongLabel> = said.iter().flat_map(|said| said.wrong.iter().cloned()).collect();
        wrong_labels.sort();
        wrong_labels.dedup();
        Terms {
            healing,
            sources,
            windows: self.windows(key, &said),
            expendable: self.expendable(key, &said),
            probe: said
                .iter()
                .find_map(|said| said.probe.clone())
                .map_or_else(|| self.probe_of_file(key), |probe| Some((probe, Source::Label(names::PROBE)))),
            wrong_labels,
        }
    }

    /// Whether the service may be stopped when disk or memory is about to run out: its own word in the file, or that of its
    /// labels, where one `false` of a replica is enough; never one that the policy protects.
    pub fn is_expendable<'a>(
        &self,
        key: &ServiceKey,
        labels: impl IntoIterator<Item = &'a BTreeMap<String, String>>,
    ) -> bool {
        let said: Vec<labels::Said> = labels.into_iter().map(labels::read).collect();
        self.expendable(key, &said).0
    }

    fn expendable(&self, key: &ServiceKey, said: &[labels::Said]) -> (bool, Source) {
        if let Some(line) = self.protects_service(key) {
            return (false, Source::File { level: Level::Top, line });
        }
        if let Some(all) = said.iter().filter_map(|said| said.expendable).reduce(|a, b| a && b) {
            return (all, Source::Label(names::EXPENDABLE));
        }
        match self.service(key).and_then(|service| service.expendable) {
            Some(given) => (given.value, Source::File { level: Level::Service, line: given.line }),
            None => (false, Source::Default),
        }
    }

    /// How a container of a service is asked whether it works: as its own label says, otherwise as the file does.
    pub fn probe(&self, key: &ServiceKey, labels: &BTreeMap<String, String>) -> Option<ProbeTarget> {
        let own = labels.get(names::PROBE).and_then(|text| ProbeTarget::parse(text).ok());
        own.or_else(|| self.probe_of_file(key).map(|(probe, _)| probe))
    }

    fn probe_of_file(&self, key: &ServiceKey) -> Option<(ProbeTarget, Source)> {
        let given = self.service(key)?.probe.as_ref()?;
        Some((given.value.clone(), Source::File { level: Level::Service, line: given.line }))
    }

    /// Windows add up, since an owner at work on the machine is at work on the service; `none` leaves out those of above.
    fn windows(&self, key: &ServiceKey, said: &[labels::Said]) -> Vec<(Window, Source)> {
        let mut all: Vec<(Window, Source)> = Vec::new();
        let project = self.projects.get(&key.project);
        let levels = [
            (Level::Top, Some(&self.maintenance)),
            (Level::Project, project.map(|it| &it.maintenance)),
            (Level::Service, self.service(key).map(|it| &it.maintenance)),
        ];
        for (level, maintenance) in levels {
            let Some(Maintenance { alone, windows }) = maintenance else { continue };
            if alone.is_some() {
                all.clear();
            }
            all.extend(windows.iter().map(|given| (given.value, Source::File { level, line: given.line })));
        }
        let of_labels: Vec<&Maintenance> = said.iter().filter_map(|said| said.maintenance.as_ref()).collect();
        // The most careful of the replicas: all their windows, and those of the file unless none of them wants those.
        if !of_labels.is_empty() && of_labels.iter().all(|it| it.alone.is_some()) {
            all.clear();
        }
        for window in of_labels.iter().flat_map(|it| &it.windows) {
            let labelled = (window.value, Source::Label(names::MAINTENANCE));
            if !all.contains(&labelled) {
                all.push(labelled);
            }
        }
        all
    }

    /// The end of the maintenance that holds at this moment, if one does.
    pub fn maintenance_until(&self, windows: &[(Window, Source)], now: Timestamp) -> Option<Timestamp> {
        if windows.is_empty() {
            return None;
        }
        let zone = self.zone();
        windows.iter().filter_map(|(window, _)| window.holds_until(now, &zone)).max()
    }
}

fn apply(healing: &mut Healing, sources: &mut BTreeMap<Term, Source>, given: Option<&TermsGiven>, level: Level) {
    for (&term, given) in given.into_iter().flatten() {
        healing.set(term, given.value);
        sources.insert(term, Source::File { level, line: given.line });
    }
}

impl Terms {
    pub fn amounts(&self) -> impl Iterator<Item = (Term, Amount, Source)> {
        Term::ALL
            .into_iter()
            .map(|term| (term, self.healing.get(term), self.sources.get(&term).copied().unwrap_or(Source::Default)))
    }
}

#[cfg(test)]
mod tests {
    use jiff::SignedDuration;

    use super::*;

    const FILE: &str = "\
timezone: UTC
maintenance: sun 03:00-05:00
healing:
  attempts: 5
  stop_timeout: 20s
protected:
  services: [shop/ledger]
projects:
  shop:
    healing:
      attempts: 4
      base_delay: 20m
    maintenance:
      - days: [mon]
        from: 01:00
        to: 02:00
    services:
      web:
        healing:
          attempts: 2
          stop_timeout: 40s
        expendable: true
      ledger:
        expendable: true
        maintenance: none
";

    fn policy() -> Policy {
        Policy::parse("healer.yml", FILE).unwrap()
    }

    fn labels(all: &[(&str, &str)]) -> BTreeMap<String, String> {
        all.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
    }

    fn terms(key: &str, replicas: &[&[(&str, &str)]]) -> Terms {
        let (project, service) = key.split_once('/').unwrap();
        let replicas: Vec<_> = replicas.iter().map(|all| labels(all)).collect();
        let worn = replicas.iter().map(|labels| Worn { image: "web", labels });
        policy().terms(&ServiceKey::new(project, service), worn)
    }

    #[test]
    fn a_service_inherits_from_its_project_and_that_from_the_top() {
        let file = |level, line| Source::File { level, line };
        let check = |key: &str, term: Term, amount: Amount, source: Source| {
            let terms = terms(key, &[&[]]);
            assert_eq!((terms.healing.get(term), terms.sources[&term]), (amount, source), "{key} {term:?}");
        };
        let seconds = |seconds| Amount::Time(SignedDuration::from_secs(seconds));
        check("blog/web", Term::Attempts, Amount::Count(5), file(Level::Top, 4));
        check("blog/web", Term::BaseDelay, seconds(10), Source::Default);
        check("shop/db", Term::Attempts, Amount::Count(4), file(Level::Project, 11));
        check("shop/db", Term::StopTimeout, seconds(20), file(Level::Top, 5));
        check("shop/web", Term::Attempts, Amount::Count(2), file(Level::Service, 20));
        // What depends on another moves along.
        check("shop/web", Term::ToldAfter, Amount::Count(2), Source::Follows(Term::Attempts));
        check("shop/web", Term::MaxDelay, seconds(1_200), Source::Follows(Term::BaseDelay));
    }

    #[test]
    fn labels_win_over_the_file_and_replicas_are_as_careful_as_the_most_careful() {
        let one = terms("shop/web", &[&[("nexus.attempts", "7"), ("nexus.base_delay", "5s")]]);
        assert_eq!((one.healing.attempts, one.healing.told_after), (7, 3));
        assert_eq!(one.sources[&Term::Attempts], Source::Label("nexus.attempts"));
        let two = terms(
            "shop/web",
            &[
                &[("nexus.attempts", "7"), ("nexus.stop_timeout", "5s"), ("nexus.expendable", "true")],
                &[("nexus.attempts", "3"), ("nexus.stop_timeout", "50s"), ("nexus.expendable", "false")],
                &[("nexus.attempts", "oops")],
                &[],
            ],
        );
        assert_eq!((two.healing.attempts, two.healing.stop_timeout.as_secs()), (3, 50));
        assert_eq!(two.expendable, (false, Source::Label("nexus.expendable")));
        assert_eq!(two.wrong_labels.len(), 1);
    }

    #[test]
    fn a_time_to_stop_wins_over_the_containers_own_where_it_is_for_this_very_service() {
        assert!(!terms("shop/db", &[&[]]).healing.stop_timeout_wins);
        assert!(terms("shop/web", &[&[]]).healing.stop_timeout_wins);
        assert!(terms("shop/db", &[&[("nexus.stop_timeout", "5s")]]).healing.stop_timeout_wins);
    }

    #[test]
    fn windows_add_up_until_somebody_says_none() {
        let shown = |key: &str, replicas: &[&[(&str, &str)]]| {
            terms(key, replicas).windows.iter().map(|(window, _)| window.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(shown("blog/web", &[]), ["sun 03:00-05:00"]);
        assert_eq!(shown("shop/web", &[]), ["sun 03:00-05:00", "mon 01:00-02:00"]);
        assert_eq!(shown("shop/ledger", &[]), [""; 0]);
        let label = "nexus.maintenance";
        assert_eq!(shown("blog/web", &[&[(label, "tue 01:00-02:00")]]), ["sun 03:00-05:00", "tue 01:00-02:00"]);
        assert_eq!(shown("blog/web", &[&[(label, "none; tue 01:00-02:00")]]), ["tue 01:00-02:00"]);
        assert_eq!(
            shown("blog/web", &[&[(label, "none")], &[(label, "tue 01:00-02:00")]]),
            ["sun 03:00-05:00", "tue 01:00-02:00"]
        );
    }

    #[test]
    fn the_latest_end_of_the_windows_that_hold_counts() {
        let policy = policy();
        let windows = terms("blog/web", &[&[("nexus.maintenance", "sun 04:00-06:00")]]).windows;
        let until = |now: &str| policy.maintenance_until(&windows, now.parse().unwrap()).map(|end| end.to_string());
        assert_eq!(until("2026-07-05T03:30:00Z").as_deref(), Some("2026-07-05T05:00:00Z"));
        assert_eq!(until("2026-07-05T04:30:00Z").as_deref(), Some("2026-07-05T06:00:00Z"));
        assert_eq!(until("2026-07-05T06:00:00Z"), None);
    }

    #[test]
    fn a_probe_is_the_containers_own_or_the_files() {
        let text = "projects: {shop: {services: {web: {probe: 'tcp://:80'}}}}";
        let policy = Policy::parse("healer.yml", text).unwrap();
        let probe = |service: &str, all: &[(&str, &str)]| {
            let (key, labels) = (ServiceKey::new("shop", service), labels(all));
            let terms = policy.terms(&key, [Worn { image: "web", labels: &labels }]);
            let found = policy.probe(&key, &labels);
            assert_eq!(terms.probe.as_ref().map(|(probe, _)| probe), found.as_ref());
            terms.probe.map(|(probe, source)| (probe.to_string(), source))
        };
        let of_file = Some(("tcp://:80".to_owned(), Source::File { level: Level::Service, line: 1 }));
        assert_eq!(probe("web", &[]), of_file);
        assert_eq!(probe("web", &[("nexus.probe", "http://x:80/")]), of_file, "a wrong label is left out");
        let own = probe("web", &[("nexus.probe", "http://:81/")]);
        assert_eq!(own, Some(("http://:81/".to_owned(), Source::Label("nexus.probe"))));
        assert_eq!(probe("db", &[]), None);
    }

    #[test]
    fn what_is_protected_is_never_expendable() {
        let expendable = |key: &str, all: &[(&str, &str)]| {
            let (project, service) = key.split_once('/').unwrap();
            policy().is_expendable(&ServiceKey::new(project, service), [&labels(all)])
        };
        assert!(expendable("shop/web", &[]));
        assert!(!expendable("shop/web", &[("nexus.expendable", "false")]));
        assert!(!expendable("shop/db", &[]));
        assert!(expendable("shop/db", &[("nexus.expendable", "true")]));
        assert!(!expendable("shop/ledger", &[("nexus.expendable", "true")]));
    }
}
