//! From what was written to the policy, with all the mistakes there are.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use nexus_model::{Mode, ServiceKey, labels::is_name};

use crate::{
    amount,
    policy::{Given, Mistake, Policy, ProjectPolicy, Protected, Remedies, ServicePolicy, TermsGiven},
    probe::ProbeTarget,
    term::{Amount, Healing, Term},
    tree::{Entry, Node, Value},
    window::{self, Days, Maintenance, Window},
};

/// More than a file of an owner can be meant to have; whoever generates one is not read them all.
const MOST_MISTAKES: usize = 100;

pub fn policy(node: &Node) -> Result<Policy, Vec<Mistake>> {
    let mut reader = Reader { mistakes: Vec::new() };
    let policy = reader.policy(node);
    let mut mistakes = reader.mistakes;
    if mistakes.is_empty() {
        return Ok(policy);
    }
    keep_first(&mut mistakes);
    Err(mistakes)
}

fn keep_first(mistakes: &mut Vec<Mistake>) {
    mistakes.sort_by(|a, b| (a.line, &a.key).cmp(&(b.line, &b.key)));
    mistakes.truncate(MOST_MISTAKES);
}

struct Reader {
    mistakes: Vec<Mistake>,
}

impl Reader {
    fn policy(&mut self, node: &Node) -> Policy {
        const KEYS: [&str; 7] = ["default", "projects", "healing", "maintenance", "timezone", "protected", "remedies"];
        let top = self.map("", node, &KEYS);
        let default = top.get("default").and_then(|entry| self.mode("default", &entry.node));
        let mut policy = Policy {
            default: default.map_or(Mode::Shadow, |given| given.value),
            default_line: default.map(|given| given.line),
            ..Policy::default()
        };
        if let Some(entry) = top.get("healing") {
            policy.terms = self.healing("healing", &entry.node, &Healing::default(), true);
        }
        policy.healing = with(&Healing::default(), &policy.terms);
        policy.maintenance = self.maintenance("maintenance", top.get("maintenance").copied());
        policy.timezone = top.get("timezone").and_then(|entry| self.timezone("timezone", &entry.node));
        if let Some(entry) = top.get("protected") {
            policy.protected = self.protected(&entry.node);
        }
        if let Some(entry) = top.get("remedies") {
            (policy.remedies, policy.remedy_lines) = self.remedies(&entry.node);
        }
        if let Some(entry) = top.get("projects") {
            for project in self.named("projects", &entry.node) {
                let read = self.project(&format!("projects.{}", project.key), &project.node, &policy.healing);
                policy.projects.insert(project.key.clone(), read);
            }
        }
        policy
    }

    fn project(&mut self, path: &str, node: &Node, inherited: &Healing) -> ProjectPolicy {
        let keys = self.map(path, node, &["mode", "services", "healing", "maintenance"]);
        let mode = keys.get("mode").and_then(|entry| self.mode(&format!("{path}.mode"), &entry.node));
        let terms = self.healing_of(path, &keys, inherited);
        let inherited = with(inherited, &terms);
        let maintenance = self.maintenance(&format!("{path}.maintenance"), keys.get("maintenance").copied());
        let mut services = BTreeMap::new();
        if let Some(entry) = keys.get("services") {
            let path = format!("{path}.services");
            for service in self.named(&path, &entry.node) {
                let read = self.service(&format!("{path}.{}", service.key), &service.node, &inherited);
                services.insert(service.key.clone(), read);
            }
        }
        ProjectPolicy { mode, terms, maintenance, services }
    }

    fn service(&mut self, path: &str, node: &Node, inherited: &Healing) -> ServicePolicy {
        let keys = self.map(path, node, &["mode", "healing", "maintenance", "expendable", "probe"]);
        ServicePolicy {
            mode: keys.get("mode").and_then(|entry| self.mode(&format!("{path}.mode"), &entry.node)),
            terms: self.healing_of(path, &keys, inherited),
            maintenance: self.maintenance(&format!("{path}.maintenance"), keys.get("maintenance").copied()),
            expendable: keys
                .get("expendable")
                .and_then(|entry| self.word(&format!("{path}.expendable"), &entry.node, amount::yes_or_no)),
            probe: keys
                .get("probe")
                .and_then(|entry| self.word(&format!("{path}.probe"), &entry.node, ProbeTarget::parse)),
        }
    }

    fn healing_of(&mut self, path: &str, keys: &Keys<'_>, inherited: &Healing) -> TermsGiven {
        match keys.get("healing") {
            Some(entry) => self.healing(&format!("{path}.healing"), &entry.node, inherited, false),
            None => TermsGiven::new(),
        }
    }

    /// `inherited` is what holds where this says nothing: some bounds depend on it.
    fn healing(&mut self, path: &str, node: &Node, inherited: &Healing, of_the_host: bool) -> TermsGiven {
        let known: Vec<&str> =
            Term::ALL.into_iter().filter(|term| of_the_host || !term.is_of_the_host()).map(Term::name).collect();
        let keys = self.map_explained(path, node, &known, |key| {
            let of_the_host = Term::of_name(key).is_some_and(Term::is_of_the_host);
            of_the_host.then(|| "is one for the whole machine: write it under healing at the top level".to_owned())
        });
        let mut given = TermsGiven::new();
        let mut holds = inherited.clone();
        for term in Term::ALL {
            let Some(entry) = keys.get(term.name()) else { continue };
            let path = format!("{path}.{}", term.name());
            let (least, most) = bounds_beside(term, &holds);
            let read = self.word(&path, &entry.node, |text| amount::between(text, least, most));
            if let Some(read) = read {
                given.insert(term, read);
                holds = with(&holds, &TermsGiven::from([(term, read)]));
            }
        }
        given
    }

    fn maintenance(&mut self, path: &str, entry: Option<&Entry>) -> Maintenance {
        let mut maintenance = Maintenance::default();
        let Some(entry) = entry else { return maintenance };
        match &entry.node.value {
            Value::Nothing => (),
            Value::List(nodes) => {
                for (index, node) in nodes.iter().enumerate() {
                    self.window(&format!("{path}[{index}]"), node, entry.line, &mut maintenance);
                }
            }
            _ => self.window(path, &entry.node, entry.line, &mut maintenance),
        }
        maintenance
    }

    fn window(&mut self, path: &str, node: &Node, line: u64, into: &mut Maintenance) {
        match &node.value {
            Value::Word(text) if text.trim().eq_ignore_ascii_case("none") => {
                into.alone = Some(Given { value: (), line: node.line });
            }
            Value::Word(_) => into.windows.extend(self.word(path, node, Window::parse)),
            Value::Map(_) => {
                let keys = self.map(path, node, &["days", "from", "to"]);
                let days = match keys.get("days") {
                    Some(entry) => self.days(&format!("{path}.days"), &entry.node),
                    None => Some(Days::ALL),
                };
                let mut clock = |name: &str| {
                    let path = format!("{path}.{name}");
                    match keys.get(name) {
                        Some(entry) => self.word(&path, &entry.node, window::time).map(|given| given.value),
                        None => {
                            self.wrong(&path, node.line, "is missing; write it as \"02:00\"".to_owned());
                            None
                        }
                    }
                };
                let (from, to) = (clock("from"), clock("to"));
                if let (Some(days), Some(from), Some(to)) = (days, from, to) {
                    match Window::new(days, from, to) {
                        Ok(value) => into.windows.push(Given { value, line: node.line }),
                        Err(message) => self.wrong(path, node.line, message),
                    }
                }
            }
            Value::Nothing | Value::List(_) => {
                let line = if node.line == 0 { line } else { node.line };
                let message = "is no window; write it as \"sat,sun 02:00-04:00\", or with days, from and to";
                self.wrong(path, line, message.to_owned());
            }
        }
    }

    fn days(&mut self, path: &str, node: &Node) -> Option<Days> {
        let Value::List(nodes) = &node.value else {
            return self.word(path, node, Days::parse).map(|given| given.value);
        };
        if nodes.is_empty() {
            self.wrong(path, node.line, "is empty; write days such as [sat, sun], or leave it out".to_owned());
            return None;
        }
        let read: Vec<Option<Given<Days>>> = nodes
            .iter()
            .map(|item| {
                let line = if item.line == 0 { node.line } else { item.line };
                self.word(path, &Node { line, value: item.value.clone() }, Days::parse)
            })
            .collect();
        read.into_iter().try_fold(Days::NONE, |days, given| Some(days.and(given?.value)))
    }

    fn timezone(&mut self, path: &str, node: &Node) -> Option<Given<TimeZone>> {
        self.word(path, node, |text| {
            TimeZone::get(text.trim()).map_err(|_| {
                format!("\"{}\" is no time zone; write one such as Europe/Berlin or UTC", amount::shown(text))
            })
        })
    }

    fn protected(&mut self, node: &Node) -> Protected {
        let keys = self.map("protected", node, &["services", "images"]);
        let mut protected = Protected::default();
        if let Some(entry) = keys.get("services") {
            protected.services = self.list("protected.services", entry, |text| match text.split_once('/') {
                Some((project, service)) if is_name(project) && is_name(service) && !service.contains('/') => {
                    Ok(ServiceKey::new(project, service))
                }
                _ => Err(format!(
                    "\"{}\" is no service; write project/service, or project/* for all of a project",
                    amount::shown(text)
                )),
            });
        }
        if let Some(entry) = keys.get("images") {
            protected.images = self.list("protected.images", entry, |text| match text.trim() {
                "" => Err("an image without a name; write its name, with * for anything".to_owned()),
                name if name.contains(char::is_whitespace) => {
                    Err(format!("\"{}\" is no image; write its name, with * for anything", amount::shown(name)))
                }
                name => Ok(name.to_owned()),
            });
        }
        protected
    }

    fn remedies(&mut self, node: &Node) -> (Remedies, BTreeMap<&'static str, u64>) {
        let keys = self.map("remedies", node, &["prune", "start", "stop_expendables", "ballast"]);
        let mut lines = BTreeMap::new();
        let mut allowed = |name: &'static str| {
            let given =
                keys.get(name).and_then(|entry| self.word(&format!("remedies.{name}"), &entry.node, amount::yes_or_no));
            given.is_some_and(|given| {
                lines.insert(name, given.line);
                given.value
            })
        };
        let (prune, start, stop_expendables) = (allowed("prune"), allowed("start"), allowed("stop_expendables"));
        let ballast = keys.get("ballast").and_then(|entry| self.word("remedies.ballast", &entry.node, amount::bytes));
        lines.extend(ballast.map(|given| ("ballast", given.line)));
        let ballast = ballast.map_or(0, |given| given.value);
        (Remedies { prune, start, stop_expendables, ballast }, lines)
    }

    fn mode(&mut self, path: &str, node: &Node) -> Option<Given<Mode>> {
        self.word(path, node, amount::mode)
    }

    /// One value; nothing counts as not written.
    fn word<T>(&mut self, path: &str, node: &Node, parse: impl FnOnce(&str) -> Result<T, String>) -> Option<Given<T>> {
        match &node.value {
            Value::Nothing => None,
            Value::Word(text) => match parse(text) {
                Ok(value) => Some(Given { value, line: node.line }),
                Err(message) => {
                    self.wrong(path, node.line, message);
                    None
                }
            },
            Value::List(_) | Value::Map(_) => {
                self.wrong(path, node.line, format!("is {}; write one value", node.kind()));
                None
            }
        }
    }

    fn list<T>(&mut self, path: &str, entry: &Entry, parse: impl Fn(&str) -> Result<T, String>) -> Vec<Given<T>> {
        match &entry.node.value {
            Value::Nothing => Vec::new(),
            Value::List(nodes) => {
                let mut all = Vec::new();
                for node in nodes {
                    if node.value == Value::Nothing {
                        let line = if node.line == 0 { entry.line } else { node.line };
                        self.wrong(path, line, "has an item without a value; write one or remove it".to_owned());
                    }
                    all.extend(self.word(path, node, &parse));
                }
                all
            }
            Value::Word(_) | Value::Map(_) => {
                self.wrong(path, entry.node.line, format!("is {}; write a list: [a, b]", entry.node.kind()));
                Vec::new()
            }
        }
    }

    /// A mapping whose keys are known beforehand.
    fn map<'n>(&mut self, path: &str, node: &'n Node, known: &[&str]) -> Keys<'n> {
        self.map_explained(path, node, known, |_| None)
    }

    fn map_explained<'n>(
        &mut self,
        path: &str,
        node: &'n Node,
        known: &[&str],
        explain: impl Fn(&str) -> Option<String>,
    ) -> Keys<'n> {
        let mut keys = Keys::new();
        for entry in self.names(path, node) {
            if known.contains(&entry.key.as_str()) {
                keys.insert(entry.key.as_str(), entry);
            } else {
                let message = explain(&entry.key).unwrap_or_else(|| match nearest(&entry.key, known) {
                    Some(near) => format!("there is no such key; {near} is meant, or it must go"),
                    None => format!("there is no such key; there are {}", known.join(", ")),
                });
                self.wrong(&below(path, &entry.key), entry.line, message);
            }
        }
        keys
    }

    /// A mapping of what the owner has called something.
    fn named<'n>(&mut self, path: &str, node: &'n Node) -> Vec<&'n Entry> {
        let mut entries = self.names(path, node);
        entries.retain(|entry| {
            let can_be = is_name(&entry.key);
            if !can_be {
                let message = "can't be a name; write that of a Compose project or service".to_owned();
                self.wrong(&below(path, &entry.key), entry.line, message);
            }
            can_be
        });
        entries
    }

    /// A mapping of whatever keys, each once.
    fn names<'n>(&mut self, path: &str, node: &'n Node) -> Vec<&'n Entry> {
        let entries = match &node.value {
            Value::Nothing => return Vec::new(),
            Value::Map(entries) => entries,
            Value::Word(_) | Value::List(_) => {
                self.wrong(path, node.line, format!("is {}; write a mapping of `key: value` lines", node.kind()));
                return Vec::new();
            }
        };
        let mut seen = BTreeSet::new();
        let mut first = Vec::new();
        for entry in entries {
            if seen.insert(&entry.key) {
                first.push(entry);
            } else {
                let message = "is there a second time; remove one of the two".to_owned();
                self.wrong(&below(path, &entry.key), entry.line, message);
            }
        }
        first
    }

    fn wrong(&mut self, path: &str, line: u64, message: String) {
        let key = if path.is_empty() { "the file".to_owned() } else { path.to_owned() };
        self.mistakes.push(Mistake { line, key, message });
        // They are not found by line, and a file of a megabyte may have hundreds of thousands.
        if self.mistakes.len() >= 10 * MOST_MISTAKES {
            keep_first(&mut self.mistakes);
        }
    }
}

type Keys<'n> = BTreeMap<&'n str, &'n Entry>;

fn below(path: &str, key: &str) -> String {
    let key = amount::cut(key);
    if path.is_empty() { key.into_owned() } else { format!("{path}.{key}") }
}

/// The bounds of a term beside those that it depends on.
fn bounds_beside(term: Term, holds: &Healing) -> (Amount, Amount) {
    let (least, most) = term.bounds();
    match term {
        Term::ToldAfter => (least, holds.get(Term::Attempts)),
        Term::MaxDelay => (holds.get(Term::BaseDelay), most),
        _ => (least, most),
    }
}

/// What holds when `given` is said over `inherited`. What depends on each other moves along.
pub(crate) fn with(inherited: &Healing, given: &TermsGiven) -> Healing {
    let mut healing = inherited.clone();
    for (&term, given) in given {
        healing.set(term, given.value);
    }
    move_along(&mut healing);
    healing
}

pub(crate) fn move_along(healing: &mut Healing) {
    healing.told_after = healing.told_after.min(healing.attempts);
    healing.max_delay = healing.max_delay.max(healing.base_delay);
}

/// A known key that differs by a slip of the finger or two.
fn nearest<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    known.iter().map(|near| (distance(key, near), *near)).min().filter(|(far, _)| *far <= 2).map(|(_, near)| near)
}

/// How many letters to change, add, remove or swap (Levenshtein, swaps counting as two).
fn distance(a: &str, b: &str) -> usize {
    // Whatever is longer than any key is far enough away.
    if a.len() > 40 {
        return usize::MAX;
    }
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, from) in a.chars().enumerate() {
        let mut before = row[0];
        row[0] = i + 1;
        for (j, to) in b.iter().enumerate() {
            let replaced = before + usize::from(from != *to);
            before = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(before + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}
