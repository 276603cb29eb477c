//! Policies made from what they are to mean, written down in any of the ways that YAML has, and read again: what was meant is
//! what is understood, each mistake is told on its line, and labels are anybody's text.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

use std::collections::{BTreeMap, BTreeSet};

use jiff::SignedDuration;
use nexus_model::{Mode, ServiceKey, labels as names};
use nexus_policy::{
    Amount, Given, Healing, Level, Maintenance, Policy, Source, Term, Terms, Worn, explain,
    modes::{self, Switches},
};
use proptest::{collection, option, prelude::*, sample};

/// What one level of the file says.
#[derive(Clone, Debug, Default)]
struct Part {
    terms: BTreeMap<Term, Amount>,
    /// `none`, and windows.
    maintenance: Option<(bool, Vec<Times>)>,
}

/// A window: days as bits, Monday the lowest, and minutes of the day.
#[derive(Clone, Copy, Debug)]
struct Times {
    days: u8,
    from: u16,
    to: u16,
}

#[derive(Clone, Debug, Default)]
struct Service {
    mode: Option<Mode>,
    part: Part,
    expendable: Option<bool>,
}

#[derive(Clone, Debug, Default)]
struct Project {
    mode: Option<Mode>,
    part: Part,
    services: BTreeMap<String, Service>,
}

#[derive(Clone, Debug, Default)]
struct Meant {
    default: Option<Mode>,
    part: Part,
    timezone: Option<&'static str>,
    projects: BTreeMap<String, Project>,
    protected: Vec<(String, String)>,
    images: Vec<String>,
    prune: Option<bool>,
    stop_expendables: Option<bool>,
    ballast: Option<u64>,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];

fn mode() -> impl Strategy<Value = Mode> {
    sample::select(vec![Mode::Heal, Mode::Shadow, Mode::Off])
}

/// What an owner may call something, and what YAML, or a careless reader, would take for something else.
fn name() -> impl Strategy<Value = String> {
    let odd = [
        "off",
        "null",
        "~",
        "1",
        "007",
        "1e3",
        "<<",
        "*",
        "a.b",
        "a: b",
        "- a",
        "#",
        "&a",
        "*a",
        "!!int",
        "[]",
        "mode",
        "services",
        " a ",
        "\"",
        "'",
        "\\",
        "ü",
        "日本",
        "\u{1F427}",
        "\u{feff}",
        "\u{2028}",
        "\u{202e}",
        "?",
        "=",
        "%YAML",
        "---",
        "...",
        "yes",
        ".inf",
        "0x10",
        "2026-07-04",
    ];
    prop_oneof![
        5 => "[a-z][a-z0-9_-]{0,8}",
        2 => sample::select(odd.to_vec()).prop_map(str::to_owned),
        1 => any::<String>().prop_filter("no name", |name| names::is_name(name)),
    ]
}

fn amount(term: Term) -> BoxedStrategy<Amount> {
    match term.bounds() {
        (Amount::Count(least), Amount::Count(most)) => (least..=most).prop_map(Amount::Count).boxed(),
        (Amount::Time(least), Amount::Time(most)) => (least.as_secs()..=most.as_secs())
            .prop_map(|seconds| Amount::Time(SignedDuration::from_secs(seconds)))
            .boxed(),
        bounds => panic!("{term:?} has bounds of two kinds: {bounds:?}"),
    }
}

fn times() -> impl Strategy<Value = Times> {
    // 24:00 is an end, and no beginning.
    (1..=0x7f_u8, 0..1440_u16, 0..=1440_u16).prop_map(|(days, from, to)| Times { days, from, to })
}

fn part(of_the_host: bool) -> impl Strategy<Value = Part> {
    let known = Term::ALL.into_iter().filter(move |term| of_the_host || !term.is_of_the_host());
    let each =
        known.map(|term| option::weighted(0.3, amount(term)).prop_map(move |amount| amount.map(|it| (term, it))));
    let terms = each.collect::<Vec<_>>().prop_map(|all| all.into_iter().flatten().collect());
    let maintenance = option::weighted(0.4, (any::<bool>(), collection::vec(times(), 0..3)));
    (terms, maintenance).prop_map(|(terms, maintenance)| Part { terms, maintenance })
}

fn service() -> impl Strategy<Value = Service> {
    (option::of(mode()), part(false), option::of(any::<bool>())).prop_map(|(mode, part, expendable)| Service {
        mode,
        part,
        expendable,
    })
}

fn project() -> impl Strategy<Value = Project> {
    (option::of(mode()), part(false), collection::btree_map(name(), service(), 0..3))
        .prop_map(|(mode, part, services)| Project { mode, part, services })
}

fn meant() -> impl Strategy<Value = Meant> {
    let zones = vec!["Europe/Berlin", "UTC", "America/St_Johns", "Pacific/Apia"];
    let without_slash = || name().prop_filter("a slash", |name| !name.contains('/'));
    let image = "[a-z][a-z0-9./:*-]{0,12}";
    (
        (option::of(mode()), part(true), option::of(sample::select(zones))),
        collection::btree_map(name(), project(), 0..4),
        (collection::vec((without_slash(), without_slash()), 0..3), collection::vec(image, 0..3)),
        (option::of(any::<bool>()), option::of(any::<bool>()), option::of(0..=(1_u64 << 40))),
    )
        .prop_map(
            |((default, part, timezone), projects, (protected, images), (prune, stop_expendables, ballast))| {
                let mut meant =
                    Meant { default, part, timezone, projects, protected, images, prune, stop_expendables, ballast };
                meant.bring_into_line();
                meant
            },
        )
}

/// What holds where all of these levels speak, in plain words: the last word, and two terms that follow another.
fn holds(levels: &[&BTreeMap<Term, Amount>]) -> BTreeMap<Term, Amount> {
    let defaults = Healing::default();
    let mut all: BTreeMap<Term, Amount> = Term::ALL.map(|term| (term, defaults.get(term))).into();
    all.extend(levels.iter().flat_map(|level| level.iter()).map(|(term, amount)| (*term, *amount)));
    let (told, delay) =
        (all[&Term::ToldAfter].min(all[&Term::Attempts]), all[&Term::MaxDelay].max(all[&Term::BaseDelay]));
    all.extend([(Term::ToldAfter, told), (Term::MaxDelay, delay)]);
    all
}

impl Meant {
    /// Two terms have bounds that others set: what was drawn for them is moved within.
    fn bring_into_line(&mut self) {
        fn align(above: &[&BTreeMap<Term, Amount>], terms: &mut BTreeMap<Term, Amount>) {
            let said = terms.clone();
            let levels: Vec<&BTreeMap<Term, Amount>> = above.iter().copied().chain([&said]).collect();
            let all = holds(&levels);
            for term in [Term::ToldAfter, Term::MaxDelay] {
                terms.entry(term).and_modify(|amount| *amount = all[&term]);
            }
        }
        align(&[], &mut self.part.terms);
        for project in self.projects.values_mut() {
            align(&[&self.part.terms], &mut project.part.terms);
            for service in project.services.values_mut() {
                align(&[&self.part.terms, &project.part.terms], &mut service.part.terms);
            }
        }
    }
}

/// What is done to a value that is written, to see it told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoil {
    /// Nothing that this key can have.
    Value,
    /// A list where one value is wanted.
    List,
    /// Another key that nobody knows, before it.
    UnknownKey,
    /// The key a second time, after it.
    Twice,
}

/// Writes the file, and notes where it says what.
struct Writer<'a> {
    text: String,
    line: u64,
    /// How each value is written, over and over.
    style: std::iter::Cycle<std::slice::Iter<'a, u8>>,
    /// For each value, by its number, what is spoiled about it.
    spoiled: &'a BTreeMap<usize, Spoil>,
    values: usize,
    lines: BTreeMap<String, u64>,
    /// Line and key of each mistake.
    mistakes: BTreeSet<(u64, String)>,
}

impl Writer<'_> {
    fn style(&mut self) -> u8 {
        self.style.next().copied().unwrap_or_default()
    }

    fn raw(&mut self, indent: usize, text: &str) -> u64 {
        // Comments and empty lines anywhere.
        match self.style() % 8 {
            0 => self.end_line("", 0),
            1 => self.end_line("# off: [", indent),
            _ => (),
        }
        self.end_line(text, indent);
        self.line
    }

    fn end_line(&mut self, text: &str, indent: usize) {
        self.text.push_str(&" ".repeat(indent));
        self.text.push_str(text);
        self.text.push('\n');
        self.line += 1;
    }

    /// The beginning of a mapping or list: `key:`.
    fn head(&mut self, indent: usize, key: &str) {
        let key = self.key(key);
        self.raw(indent, &format!("{key}:"));
    }

    fn key(&mut self, key: &str) -> String {
        let plain =
            key.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') && !["off", "null", "yes"].contains(&key);
        if plain && !self.style().is_multiple_of(3) { key.to_owned() } else { quoted(key) }
    }

    /// `key: value`, or spoiled; `path` is how a mistake names it.
    fn value(&mut self, indent: usize, path: &str, key: &str, value: &str) {
        let number = self.values;
        self.values += 1;
        let spoil = self.spoiled.get(&number).copied();
        let written_key = self.key(key);
        if spoil == Some(Spoil::UnknownKey) {
            let line = self.raw(indent, "zzzzzzzz: 1");
            let path = path.strip_suffix(key).unwrap();
            self.mistakes.insert((line, format!("{path}zzzzzzzz")));
        }
        let value = match (spoil, self.style() % 4) {
            // Out of the bounds of all of them, and none of their words.
            (Some(Spoil::Value), _) => "-7 moons".to_owned(),
            (Some(Spoil::List), _) => "[a, b]".to_owned(),
            (_, 0) => quoted(value),
            (_, 1) => format!("'{value}'"),
            _ => value.to_owned(),
        };
        let line = if self.style().is_multiple_of(8) {
            // On a line of its own.
            self.raw(indent, &format!("{written_key}:"));
            self.raw(indent + 4, &value)
        } else {
            self.raw(indent, &format!("{written_key}: {value}"))
        };
        self.lines.insert(path.to_owned(), line);
        if matches!(spoil, Some(Spoil::Value | Spoil::List)) {
            self.mistakes.insert((line, path.to_owned()));
        }
        if spoil == Some(Spoil::Twice) {
            let line = self.raw(indent, &format!("{written_key}: {value}"));
            self.mistakes.insert((line, path.to_owned()));
        }
    }

    fn part(&mut self, indent: usize, path: &str, part: &Part) {
        if !part.terms.is_empty() {
            self.head(indent, "healing");
            for (term, amount) in &part.terms {
                let amount = match (amount, self.style() % 2) {
                    (Amount::Time(time), 0) => format!("{}s", time.as_secs()),
                    _ => amount.to_string(),
                };
                self.value(indent + 2, &format!("{path}healing.{}", term.name()), term.name(), &amount);
            }
        }
        let Some((none, windows)) = &part.maintenance else { return };
        self.head(indent, "maintenance");
        if *none {
            self.raw(indent + 2, "- none");
        }
        for (at, times) in windows.iter().enumerate() {
            let path = format!("{path}maintenance[{}]", at + usize::from(*none));
            let days: Vec<&str> = (0..7).filter(|day| times.days & (1 << day) != 0).map(|day| DAYS[day]).collect();
            let (from, to) = (clock(times.from), clock(times.to));
            if self.style().is_multiple_of(2) {
                self.raw(indent + 2, &format!("- {} {from}-{to}", days.join(",")));
            } else {
                self.raw(indent + 2, "-");
                self.value(indent + 4, &format!("{path}.from"), "from", &from);
                self.value(indent + 4, &format!("{path}.to"), "to", &to);
                self.raw(indent + 4, &format!("days: [{}]", days.join(", ")));
            }
        }
    }

    fn file(&mut self, meant: &Meant) {
        if let Some(mode) = meant.default {
            self.value(0, "default", "default", mode.as_str());
        }
        if let Some(zone) = meant.timezone {
            self.value(0, "timezone", "timezone", zone);
        }
        self.part(0, "", &meant.part);
        if !meant.projects.is_empty() {
            self.head(0, "projects");
        }
        for (name, project) in &meant.projects {
            let path = format!("projects.{name}.");
            self.head(2, name);
            if let Some(mode) = project.mode {
                self.value(4, &format!("{path}mode"), "mode", mode.as_str());
            }
            self.part(4, &path, &project.part);
            if !project.services.is_empty() {
                self.head(4, "services");
            }
            for (name, service) in &project.services {
                let path = format!("{path}services.{name}.");
                self.head(6, name);
                if let Some(mode) = service.mode {
                    self.value(8, &format!("{path}mode"), "mode", mode.as_str());
                }
                if let Some(expendable) = service.expendable {
                    self.value(8, &format!("{path}expendable"), "expendable", &expendable.to_string());
                }
                self.part(8, &path, &service.part);
            }
        }
        self.head(0, "protected");
        self.head(2, "services");
        for (project, service) in &meant.protected {
            self.raw(2, &format!("- {}", quoted(&format!("{project}/{service}"))));
        }
        self.head(2, "images");
        for image in &meant.images {
            self.raw(4, &format!("- {}", quoted(image)));
        }
        self.head(0, "remedies");
        for (key, value) in [("prune", meant.prune), ("stop_expendables", meant.stop_expendables)] {
            if let Some(value) = value {
                self.value(2, &format!("remedies.{key}"), key, &value.to_string());
            }
        }
        if let Some(bytes) = meant.ballast {
            self.value(2, "remedies.ballast", "ballast", &format!("{bytes}B"));
        }
    }
}

fn written<'a>(meant: &Meant, style: &'a [u8], spoiled: &'a BTreeMap<usize, Spoil>) -> Writer<'a> {
    let (text, lines, mistakes) = (String::new(), BTreeMap::new(), BTreeSet::new());
    let mut writer = Writer { text, line: 0, style: style.iter().cycle(), spoiled, values: 0, lines, mistakes };
    writer.file(meant);
    writer
}

/// As YAML quotes what has to be.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for sign in text.chars() {
        match sign {
            '"' | '\\' => out.extend(['\\', sign]),
            ' '..='~' => out.push(sign),
            _ => out.push_str(&format!("\\U{:08X}", u32::from(sign))),
        }
    }
    out + "\""
}

fn clock(minutes: u16) -> String {
    format!("{:02}:{:02}", minutes / 60, minutes % 60)
}

/// As a window is shown: midnight is 00:00, also where it is the end.
fn shown(times: &Times) -> String {
    let days: Vec<&str> = (0..7).filter(|day| times.days & (1 << day) != 0).map(|day| DAYS[day]).collect();
    let days = if days.len() == 7 { "daily".to_owned() } else { days.join(",") };
    format!("{days} {}-{}", clock(times.from), clock(times.to % 1440))
}

fn check_part(
    part: &Part,
    path: &str,
    terms: &BTreeMap<Term, Given<Amount>>,
    maintenance: &Maintenance,
    lines: &BTreeMap<String, u64>,
) {
    let said: BTreeMap<Term, Amount> = terms.iter().map(|(term, given)| (*term, given.value)).collect();
    assert_eq!(said, part.terms, "{path}");
    for (term, given) in terms {
        assert_eq!(given.line, lines[&format!("{path}healing.{}", term.name())], "{path} {term:?}");
    }
    let (none, windows) = part.maintenance.clone().unwrap_or_default();
    let understood: Vec<String> = maintenance.windows.iter().map(|given| given.value.to_string()).collect();
    assert_eq!((maintenance.alone.is_some(), understood), (none, windows.iter().map(shown).collect()), "{path}");
}

fn mode_of(given: Option<Given<Mode>>, path: &str, lines: &BTreeMap<String, u64>) -> Option<Mode> {
    given.map(|given| {
        assert_eq!(given.line, lines[path], "{path}");
        given.value
    })
}

/// What holds for a service by the file alone, in plain words.
fn check_service(meant: &Meant, policy: &Policy, project: &str, service: &str) {
    let key = ServiceKey::new(project, service);
    let (none, nobody) = (Project::default(), Service::default());
    let of_project = meant.projects.get(project).unwrap_or(&none);
    let of_service = of_project.services.get(service).unwrap_or(&nobody);
    let terms = policy.terms(&key, []);
    let parts = [&meant.part, &of_project.part, &of_service.part];
    let expected = holds(&parts.map(|part| &part.terms));
    for (term, amount, source) in terms.amounts() {
        assert_eq!(amount, expected[&term], "{key} {term:?} by {source:?}");
        let last = parts.iter().rposition(|part| part.terms.contains_key(&term));
        match (source, last) {
            (Source::Follows(_), _) => assert!(matches!(term, Term::ToldAfter | Term::MaxDelay)),
            (Source::Default, last) => assert_eq!(last, None, "{key} {term:?}"),
            (Source::File { level, .. }, last) => {
                let level = [Level::Top, Level::Project, Level::Service].iter().position(|it| *it == level);
                assert_eq!(level, last, "{key} {term:?}");
            }
            (Source::Label(name), _) => panic!("{key} wears no {name}"),
        }
    }
    let mut windows = Vec::new();
    for (none, more) in parts.iter().filter_map(|part| part.maintenance.as_ref()) {
        if *none {
            windows.clear();
        }
        windows.extend(more.iter().map(shown));
    }
    assert_eq!(terms.windows.iter().map(|(window, _)| window.to_string()).collect::<Vec<_>>(), windows, "{key}");
    let is_protected = meant.protected.iter().any(|(p, s)| p == project && (s == service || s == "*"));
    assert_eq!(policy.protects_service(&key).is_some(), is_protected, "{key}");
    assert_eq!(terms.expendable.0, of_service.expendable == Some(true) && !is_protected, "{key}");
    let effective = modes::effective(&key, [], &Switches::default(), policy);
    let mode = of_service.mode.or(of_project.mode).or(meant.default).unwrap_or(Mode::Shadow);
    assert_eq!(effective.mode, if is_protected && mode == Mode::Heal { Mode::Shadow } else { mode }, "{key}");
}

/// Ill-meant, slips of the finger, and some that are right.
fn label() -> impl Strategy<Value = (String, String)> {
    let known: Vec<&'static str> = Term::ALL
        .into_iter()
        .filter_map(Term::label)
        .chain([names::MAINTENANCE, names::EXPENDABLE, names::HEAL])
        .collect();
    let name = prop_oneof![
        6 => sample::select(known).prop_map(str::to_owned),
        1 => any::<String>().prop_map(|name| format!("nexus.{name}")),
        1 => "nexus\\.\\PC{0,200}",
        1 => any::<String>(),
    ];
    let value = prop_oneof![
        2 => any::<String>(),
        2 => "-?[0-9]{1,30} ?(ns|us|ms|s|m|h|d|y)?",
        1 => "\\PC{100,300}",
        1 => "((mon|tue|sat|daily|none|x)[-, ;]?){0,4}[0-9]{0,2}:?[0-9]{0,2}-[0-9]{0,2}:[0-9]{0,2}",
        1 => sample::select(vec!["true", "no", "3", "90s", "2m", "shadow", "sat 02:00-04:00", "none"]).prop_map(str::to_owned),
    ];
    (name, value)
}

fn worn(labels: &BTreeMap<String, String>) -> Worn<'_> {
    Worn { image: "web", labels }
}

fn without_wrong(terms: Terms) -> Terms {
    Terms { wrong_labels: Vec::new(), ..terms }
}

proptest! {
    #[test]
    fn what_was_meant_is_understood(meant in meant(), style in collection::vec(any::<u8>(), 1..64)) {
        let (nothing, key) = (BTreeMap::new(), |project: &str, service: &str| ServiceKey::new(project, service));
        let writer = written(&meant, &style, &nothing);
        let policy = Policy::check(&writer.text).unwrap_or_else(|mistakes| panic!("{mistakes:?}\n{}", writer.text));
        let lines = &writer.lines;
        assert_eq!(policy.default, meant.default.unwrap_or(Mode::Shadow));
        assert_eq!(policy.default_line, lines.get("default").copied());
        assert_eq!(policy.timezone.as_ref().and_then(|given| given.value.iana_name()), meant.timezone);
        check_part(&meant.part, "", &policy.terms, &policy.maintenance, lines);
        assert_eq!(policy.projects.keys().collect::<Vec<_>>(), meant.projects.keys().collect::<Vec<_>>());
        for (name, project) in &meant.projects {
            let (read, path) = (&policy.projects[name], format!("projects.{name}."));
            assert_eq!(mode_of(read.mode, &format!("{path}mode"), lines), project.mode);
            check_part(&project.part, &path, &read.terms, &read.maintenance, lines);
            assert_eq!(read.services.keys().collect::<Vec<_>>(), project.services.keys().collect::<Vec<_>>());
            for (name, service) in &project.services {
                let (read, path) = (&read.services[name], format!("{path}services.{name}."));
                assert_eq!(mode_of(read.mode, &format!("{path}mode"), lines), service.mode);
                check_part(&service.part, &path, &read.terms, &read.maintenance, lines);
                assert_eq!(read.expendable.map(|given| given.value), service.expendable);
            }
        }
        let protected: Vec<ServiceKey> = policy.protected.services.iter().map(|given| given.value.clone()).collect();
        assert_eq!(protected, meant.protected.iter().map(|(p, s)| key(p, s)).collect::<Vec<_>>());
        assert_eq!(policy.protected.images.iter().map(|given| given.value.clone()).collect::<Vec<_>>(), meant.images);
        let remedies = (policy.remedies.prune, policy.remedies.stop_expendables, policy.remedies.ballast);
        let allowed = |it: Option<bool>| it.unwrap_or_default();
        assert_eq!(remedies, (allowed(meant.prune), allowed(meant.stop_expendables), meant.ballast.unwrap_or_default()));

        // What holds for each that it names, and for one that it does not.
        let named = meant.projects.iter().flat_map(|(project, it)| it.services.keys().map(move |service| (project, service)));
        let (other, db) = ("other".to_owned(), "db".to_owned());
        let more = meant.projects.keys().map(|project| (project, &db)).chain([(&other, &db)]);
        let protected = meant.protected.iter().map(|(project, service)| (project, service));
        for (project, service) in named.chain(more).chain(protected) {
            check_service(&meant, &policy, project, service);
        }

        // And it is explained: each line is one of the file, and is one line.
        let explained = explain::lines(&policy);
        for line in &explained {
            assert!((1..=writer.line).contains(&line.line), "{line:?}");
            assert!(!format!("{} {}", line.key, line.means).contains(char::is_control), "{line:?}");
        }
        let told: BTreeSet<u64> = explained.iter().map(|line| line.line).collect();
        for (path, line) in lines.iter().filter(|(path, _)| !path.contains("maintenance[")) {
            assert!(told.contains(line), "nothing is told of {path}");
        }
        for gets in explain::who_gets_what(&policy) {
            assert!(!gets.who.contains(char::is_control) && !gets.what.is_empty(), "{gets:?}");
        }
    }

    #[test]
    fn each_mistake_is_told_on_its_line(
        meant in meant(),
        style in collection::vec(any::<u8>(), 1..64),
        spoiled in collection::btree_map(0..40_usize, sample::select(vec![Spoil::Value, Spoil::List, Spoil::UnknownKey, Spoil::Twice]), 1..4),
    ) {
        let writer = written(&meant, &style, &spoiled);
        prop_assume!(!writer.mistakes.is_empty());
        let told = Policy::check(&writer.text).expect_err(&writer.text);
        let found: BTreeSet<(u64, String)> = told.iter().map(|mistake| (mistake.line, mistake.key.clone())).collect();
        for mistake in &writer.mistakes {
            assert!(found.contains(mistake), "{mistake:?} is not among {told:?}\n{}", writer.text);
        }
        for mistake in &told {
            // Where another one has lost its value, what depends on it may be out of bounds.
            let follows = ["told_after", "max_delay"].iter().any(|term| mistake.key.ends_with(term));
            assert!(follows || writer.mistakes.contains(&(mistake.line, mistake.key.clone())), "{mistake:?}\n{}", writer.text);
            assert!(!mistake.to_string().contains(char::is_control), "{mistake}");
        }
    }

    #[test]
    fn any_text_is_a_policy_or_has_mistakes_within_it(text in "(\\PC|\\n|\\r|[a-z:\\[\\]{}#&*<>\" \\n-]){0,200}") {
        match Policy::check(&text) {
            Ok(policy) => drop(explain::lines(&policy)),
            Err(mistakes) => {
                assert!(!mistakes.is_empty());
                let lines = text.split(['\n', '\r']).count() as u64;
                for mistake in mistakes {
                    assert!((1..=lines).contains(&mistake.line), "{mistake:?} of {lines} lines");
                    assert!(!mistake.to_string().contains(char::is_control), "{mistake}");
                }
            }
        }
    }

    #[test]
    fn labels_of_strangers_are_left_out_or_within_bounds(all in collection::vec(collection::vec(label(), 0..40), 1..3)) {
        let replicas: Vec<BTreeMap<String, String>> = all.into_iter().map(|labels| labels.into_iter().collect()).collect();
        let (policy, key) = (Policy::default(), ServiceKey::new("shop", "web"));
        let terms = policy.terms(&key, replicas.iter().map(worn));
        for (term, amount, source) in terms.amounts() {
            let (least, most) = term.bounds();
            assert!((least..=most).contains(&amount), "{term:?} {amount} by {source:?}");
        }
        assert!(terms.healing.told_after <= terms.healing.attempts);
        assert!(terms.healing.max_delay >= terms.healing.base_delay);
        assert!(terms.wrong_labels.len() <= 20 * replicas.len());
        for wrong in &terms.wrong_labels {
            // A sign may be shown as ten others.
            assert!(wrong.name.len() <= 1100 && wrong.message.len() <= 1200, "{wrong:?}");
            assert!(!wrong.name.contains(char::is_control) && !wrong.message.contains(char::is_control), "{wrong:?}");
        }
        let now = "2026-07-04T12:00:00Z".parse().unwrap();
        policy.maintenance_until(&terms.windows, now);
        let explained = explain::service(&policy, &key, replicas.iter().map(worn), &Switches::default(), now);
        assert_eq!(explained.wrong_labels.len(), terms.wrong_labels.len());

        // A label that can't be understood is as good as none.
        let understood: Vec<BTreeMap<String, String>> = replicas
            .iter()
            .map(|labels| {
                let alone = |name: &String, text: &String| BTreeMap::from([(name.clone(), text.clone())]);
                let is_wrong = |name: &String, text: &String| {
                    !policy.terms(&key, [worn(&alone(name, text))]).wrong_labels.is_empty()
                };
                let right = labels.iter().filter(|(name, text)| !is_wrong(name, text));
                right.map(|(name, text)| (name.clone(), text.clone())).collect()
            })
            .collect();
        let again = policy.terms(&key, understood.iter().map(worn));
        assert_eq!(without_wrong(terms), without_wrong(again));
    }
}
