//! `systemd`: the state of the host's services and other units, as its service manager tells over D-Bus. Off unless asked for:
//! it needs a socket of the host's, and costs the manager an answer for each service.
//!
//! A scrape makes a connection, asks in two turns (what there is, then what each unit has), and closes it: a connection that
//! stays would be sent all that happens on the machine.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::io;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::{Access, CollectError};
use crate::dbus::{Basic, Body, Call, Connection, Error, Peer};
use crate::exposition::{Exposition, Value};
use crate::family::{Family, Kind};
use crate::filter::Filter;

pub const ABSENCE: Option<&str> = Some(
    "success is 0 where there is no bus of a systemd. The exporter looks for the system bus at \
    ROOTFS/run/dbus/system_bus_socket, with `--collector.systemd.private` for systemd's own socket at \
    ROOTFS/run/systemd/private, which is for root alone and meant for tests. In a container both are hidden on purpose: give it \
    `/run/dbus:/host/run/dbus:ro` as a volume (the folder, since the socket is made anew with the bus), and \
    `security_opt: [apparmor=unconfined]` where AppArmor guards D-Bus. Weigh it: whoever reaches that socket as root, as the \
    exporter in its container is, may tell systemd to start, stop and run anything, `ro` or not; another user may only look.",
);

/// A collector must be done in two and a half seconds.
const BUDGET: Duration = Duration::from_secs(2);

/// Of those that the patterns take. A machine has some hundred.
const MOST_UNITS: usize = 4096;

/// Every unit is in one of these or in one of a few that pass quickly.
const STATES: [&str; 5] = ["active", "activating", "deactivating", "inactive", "failed"];

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Systemd {
    pub version: Option<String>,
    /// `none` on bare metal, `unknown` where systemd does not say.
    pub virtualization: String,
    pub is_running: Option<bool>,
    /// How many units of all kinds are in each state.
    pub states: BTreeMap<String, u64>,
    /// Those that the patterns take.
    pub units: Vec<Unit>,
}

/// What a kind of unit does not have, or what was not asked for, is `None`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Unit {
    pub name: String,
    /// Where its properties are.
    path: String,
    pub state: String,
    /// Of a service how it starts, of a mount its file system, else empty.
    pub kind: String,
    pub restarts: Option<u64>,
    /// Microseconds since epoch; so is `last_trigger`.
    pub start: Option<u64>,
    pub last_trigger: Option<u64>,
    pub tasks: Option<u64>,
    pub most_tasks: Option<u64>,
    pub accepted: Option<u64>,
    pub connections: Option<u64>,
    pub refused: Option<u64>,
}

/// What the flags of the collector say.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    pub units: Filter,
    pub is_private: bool,
    pub restarts: bool,
    pub start_times: bool,
    pub tasks: bool,
}

pub type Found = Systemd;

/// Which units the patterns take, by name: there are many, and a pattern costs more than a look here.
#[derive(Debug, Default)]
pub struct Kept {
    taken: HashMap<String, bool>,
}

pub fn read(access: &mut Access<'_>, kept: &mut Kept) -> Result<Found, CollectError> {
    let wanted = &access.settings.systemd;
    let (file, peer) = match wanted.is_private {
        true => ("run/systemd/private", Peer::Service),
        false => ("run/dbus/system_bus_socket", Peer::Bus),
    };
    let path = access.roots.root(file);
    let failed = |error: Error| failed(path.clone(), error);
    let mut connection = Connection::open(&path, peer, Instant::now() + BUDGET).map_err(failed)?;
    let mut answers = connection.call(&first_calls()).map_err(failed)?.into_iter();
    let mut text = || match answers.next()?.ok()?.variant()? {
        Basic::Text(text) => Some(text),
        _ => None,
    };
    let (version, virtualization, state) = (text(), text(), text());
    let list = answers.next().unwrap_or(Err(Error::Closed)).map_err(failed)?;
    let mut found = Systemd {
        version,
        virtualization: match virtualization.as_deref() {
            None => "unknown".to_owned(),
            Some("") => "none".to_owned(),
            Some(name) => name.to_owned(),
        },
        is_running: state.map(|state| state == "running"),
        states: STATES.iter().map(|state| ((*state).to_owned(), 0)).collect(),
        units: Vec::new(),
    };
    let units = parse(&list).map_err(failed)?;
    // Names that come and go (sessions, containers) must not add up.
    if kept.taken.len() > 2 * units.len() {
        kept.taken.clear();
    }
    for listed in units {
        *found.states.entry(listed.state.to_owned()).or_default() += 1;
        let is_taken = match kept.taken.get(listed.name) {
            Some(is_taken) => *is_taken,
            None => *kept.taken.entry(listed.name.to_owned()).or_insert(wanted.units.takes(listed.name)),
        };
        if is_taken && listed.load_state == "loaded" && found.units.len() < MOST_UNITS {
            found.units.push(listed.into());
        }
    }
    ask_units(&mut connection, wanted, &mut found.units).map_err(failed)?;
    Ok(found)
}

fn failed(path: PathBuf, error: Error) -> CollectError {
    match error {
        Error::Connect(source) if source.kind() == io::ErrorKind::NotFound => {
            CollectError::Absent { what: format!("there is no bus at {}", path.display()) }
        }
        Error::Connect(source) => CollectError::Read { path, source },
        other => CollectError::Failed { what: format!("can't ask systemd over {}: {other}", path.display()) },
    }
}

const SYSTEMD: &str = "org.freedesktop.systemd1";
const MANAGER: &str = "/org/freedesktop/systemd1";
const MANAGER_INTERFACE: &str = "org.freedesktop.systemd1.Manager";

fn first_calls() -> [Call<'static>; 4] {
    let property = |names| Call::property(SYSTEMD, MANAGER, names);
    [
        property(&[MANAGER_INTERFACE, "Version"]),
        property(&[MANAGER_INTERFACE, "Virtualization"]),
        property(&[MANAGER_INTERFACE, "SystemState"]),
        Call { destination: SYSTEMD, path: MANAGER, interface: MANAGER_INTERFACE, member: "ListUnits", arguments: &[] },
    ]
}

/// A unit as `ListUnits` has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Listed<'a> {
    name: &'a str,
    load_state: &'a str,
    state: &'a str,
    path: &'a str,
}

impl From<Listed<'_>> for Unit {
    fn from(listed: Listed<'_>) -> Unit {
        Unit {
            name: listed.name.to_owned(),
            path: listed.path.to_owned(),
            state: listed.state.to_owned(),
            ..Unit::default()
        }
    }
}

fn parse(body: &Body) -> Result<Vec<Listed<'_>>, Error> {
    if body.signature != "a(ssssssouso)" {
        return Err(Error::Malformed("another list of units"));
    }
    let mut decoder = body.decoder();
    let end = decoder.array_of_structures()?;
    let mut units = Vec::new();
    while !decoder.is_at(end) {
        decoder.align(8)?;
        let (name, _description) = (decoder.text()?, decoder.text()?);
        let (load_state, state) = (decoder.text()?, decoder.text()?);
        let (_sub_state, _followed, path) = (decoder.text()?, decoder.text()?, decoder.text()?);
        let (_job, _job_type, _job_path) = (decoder.u32()?, decoder.text()?, decoder.text()?);
        units.push(Listed { name, load_state, state, path });
    }
    // A series must not be there twice, whatever the list says.
    let mut names = HashSet::with_capacity(units.len());
    units.retain(|unit| names.insert(unit.name));
    Ok(units)
}

/// A property of a unit: its interface and name, and what to do with its value.
type Property = (&'static [&'static str; 2], fn(&mut Unit, Basic));

fn number(field: &mut Option<u64>, value: Basic) {
    if let Basic::Unsigned(number) = value {
        *field = Some(number);
    }
}

/// All bits are what systemd says where it does not count, or has no limit.
fn limited(field: &mut Option<u64>, value: Basic) {
    number(field, value);
    *field = field.filter(|number| *number != u64::MAX);
}

fn kind(unit: &mut Unit, value: Basic) {
    if let Basic::Text(kind) = value {
        unit.kind = kind;
    }
}

const SERVICE_TYPE: Property = (&["org.freedesktop.systemd1.Service", "Type"], kind);
const MOUNT_TYPE: Property = (&["org.freedesktop.systemd1.Mount", "Type"], kind);
const RESTARTS: Property =
    (&["org.freedesktop.systemd1.Service", "NRestarts"], |unit, value| number(&mut unit.restarts, value));
const TASKS: Property =
    (&["org.freedesktop.systemd1.Service", "TasksCurrent"], |unit, value| limited(&mut unit.tasks, value));
const MOST_TASKS: Property =
    (&["org.freedesktop.systemd1.Service", "TasksMax"], |unit, value| limited(&mut unit.most_tasks, value));
const START: Property =
    (&["org.freedesktop.systemd1.Unit", "ActiveEnterTimestamp"], |unit, value| number(&mut unit.start, value));
const LAST_TRIGGER: Property =
    (&["org.freedesktop.systemd1.Timer", "LastTriggerUSec"], |unit, value| number(&mut unit.last_trigger, value));
const ACCEPTED: Property =
    (&["org.freedesktop.systemd1.Socket", "NAccepted"], |unit, value| number(&mut unit.accepted, value));
const CONNECTIONS: Property =
    (&["org.freedesktop.systemd1.Socket", "NConnections"], |unit, value| number(&mut unit.connections, value));
const REFUSED: Property =
    (&["org.freedesktop.systemd1.Socket", "NRefused"], |unit, value| number(&mut unit.refused, value));

/// What a unit is asked, by what its name ends in.
fn properties(unit: &Unit, wanted: &Wanted) -> Vec<Property> {
    let mut asked = match unit.name.rsplit_once('.').map(|(_, kind)| kind) {
        Some("service") => {
            let mut asked = vec![SERVICE_TYPE];
            if wanted.restarts {
                asked.push(RESTARTS);
            }
            if wanted.tasks {
                asked.extend([TASKS, MOST_TASKS]);
            }
            asked
        }
        Some("mount") => vec![MOUNT_TYPE],
        Some("timer") => vec![LAST_TRIGGER],
        Some("socket") => vec![ACCEPTED, CONNECTIONS, REFUSED],
        _ => Vec::new(),
    };
    if wanted.start_times && unit.state == "active" {
        asked.push(START);
    }
    asked
}

/// Properties that a unit, or an older systemd, does not have stay missing.
fn ask_units(connection: &mut Connection, wanted: &Wanted, units: &mut [Unit]) -> Result<(), Error> {
    let mut asked = Vec::new();
    for (at, unit) in units.iter().enumerate() {
        asked.extend(properties(unit, wanted).into_iter().map(|property| (at, property)));
    }
    let calls: Vec<Call<'_>> =
        asked.iter().map(|(at, (names, _))| Call::property(SYSTEMD, &units[*at].path, names)).collect();
    let answers = connection.call(&calls)?;
    for ((at, (_, keep)), answer) in asked.into_iter().zip(answers) {
        if let Some(value) = answer.ok().and_then(|body| body.variant()) {
            keep(&mut units[at], value);
        }
    }
    if wanted.start_times {
        // node_exporter's value for what has not been started.
        units.iter_mut().filter(|unit| unit.state != "active").for_each(|unit| unit.start = Some(0));
    }
    Ok(())
}

/// The number in a version such as `252.38-1~deb12u1`: at least three digits, and what follows a dot.
fn version_number(text: &str) -> Option<f64> {
    let is_digit = |c: char| c.is_ascii_digit();
    let digits = |text: &str| text.find(|c| !is_digit(c)).unwrap_or(text.len());
    let mut rest = text;
    loop {
        rest = rest.get(rest.find(is_digit)?..)?;
        let major = digits(rest);
        if major < 3 {
            rest = rest.get(major..)?;
            continue;
        }
        let minor = rest.get(major..)?.strip_prefix('.').map_or(0, digits);
        let end = if minor == 0 { major } else { major + 1 + minor };
        return rest.get(..end)?.parse().ok();
    }
}

const SOURCE: &str = "D-Bus, org.freedesktop.systemd1";

const RESTART_TOTAL: Family = Family {
    name: "node_systemd_service_restart_total",
    kind: Kind::Counter,
    help: "How often systemd has restarted the service by itself.",
    labels: &["name"],
    source: "D-Bus, NRestarts of the service; only with --collector.systemd.enable-restarts-metrics",
};
const SOCKET_ACCEPTED: Family = Family {
    name: "node_systemd_socket_accepted_connections_total",
    kind: Kind::Counter,
    help: "Connections that the socket has accepted.",
    labels: &["name"],
    source: "D-Bus, NAccepted of the socket",
};
const SOCKET_CURRENT: Family = Family {
    name: "node_systemd_socket_current_connections",
    kind: Kind::Gauge,
    help: "Connections of the socket that are open.",
    labels: &["name"],
    source: "D-Bus, NConnections of the socket",
};
const SOCKET_REFUSED: Family = Family {
    name: "node_systemd_socket_refused_connections_total",
    // node_exporter's kind, though it counts.
    kind: Kind::Gauge,
    help: "Connections that the socket has refused.",
    labels: &["name"],
    source: "D-Bus, NRefused of the socket",
};
const RUNNING: Family = Family {
    name: "node_systemd_system_running",
    kind: Kind::Gauge,
    help: "Whether all has started and nothing has failed (`systemctl is-system-running`).",
    labels: &[],
    source: "D-Bus, SystemState of the manager",
};
const TIMER_LAST_TRIGGER: Family = Family {
    name: "node_systemd_timer_last_trigger_seconds",
    kind: Kind::Gauge,
    help: "When the timer last ran out, in seconds since epoch.",
    labels: &["name"],
    source: "D-Bus, LastTriggerUSec of the timer",
};
const START_TIME: Family = Family {
    name: "node_systemd_unit_start_time_seconds",
    kind: Kind::Gauge,
    help: "When the unit became active, in seconds since epoch; 0 while it is not.",
    labels: &["name"],
    source: "D-Bus, ActiveEnterTimestamp of the unit; only with --collector.systemd.enable-start-time-metrics",
};
const STATE: Family = Family {
    name: "node_systemd_unit_state",
    kind: Kind::Gauge,
    help: "The state that a unit is in has 1, the others 0.",
    labels: &["name", "state", "type"],
    source: "D-Bus, ListUnits of the manager; Type of services and mounts",
};
const TASKS_CURRENT: Family = Family {
    name: "node_systemd_unit_tasks_current",
    kind: Kind::Gauge,
    help: "Threads of the service.",
    labels: &["name"],
    source: "D-Bus, TasksCurrent of the service; only with --collector.systemd.enable-task-metrics",
};
const TASKS_MAX: Family = Family {
    name: "node_systemd_unit_tasks_max",
    kind: Kind::Gauge,
    help: "Threads that the service may have.",
    labels: &["name"],
    source: "D-Bus, TasksMax of the service; only with --collector.systemd.enable-task-metrics",
};
const UNITS: Family = Family {
    name: "node_systemd_units",
    kind: Kind::Gauge,
    help: "How many units, of all kinds, are in each state.",
    labels: &["state"],
    source: SOURCE,
};
const VERSION: Family = Family {
    name: "node_systemd_version",
    kind: Kind::Gauge,
    help: "The version of systemd, as a number and in full.",
    labels: &["version"],
    source: "D-Bus, Version of the manager",
};
const VIRTUALIZATION: Family = Family {
    name: "node_systemd_virtualization_info",
    kind: Kind::Gauge,
    help: "What the machine is virtualized by, as systemd sees it, value is always 1.",
    labels: &["virtualization_type"],
    source: "D-Bus, Virtualization of the manager",
};
pub const FAMILIES: &[Family] = &[
    RESTART_TOTAL,
    SOCKET_ACCEPTED,
    SOCKET_CURRENT,
    SOCKET_REFUSED,
    RUNNING,
    TIMER_LAST_TRIGGER,
    START_TIME,
    STATE,
    TASKS_CURRENT,
    TASKS_MAX,
    UNITS,
    VERSION,
    VIRTUALIZATION,
];

pub fn write(found: &Systemd, out: &mut Exposition) {
    let seconds = |microseconds: Option<u64>| microseconds.map(|number| Value::Float(number as f64 / 1e6));
    let mut of_units = |family: &Family, value: &dyn Fn(&Unit) -> Option<Value>| {
        let mut family = out.family(family);
        for unit in &found.units {
            if let Some(value) = value(unit) {
                family.sample(&[("name", &unit.name)], value);
            }
        }
    };
    of_units(&RESTART_TOTAL, &|unit| unit.restarts.map(Value::Unsigned));
    of_units(&SOCKET_ACCEPTED, &|unit| unit.accepted.map(Value::Unsigned));
    of_units(&SOCKET_CURRENT, &|unit| unit.connections.map(Value::Unsigned));
    of_units(&SOCKET_REFUSED, &|unit| unit.refused.map(Value::Unsigned));
    of_units(&TIMER_LAST_TRIGGER, &|unit| seconds(unit.last_trigger));
    of_units(&START_TIME, &|unit| seconds(unit.start));
    of_units(&TASKS_CURRENT, &|unit| unit.tasks.map(Value::Unsigned));
    of_units(&TASKS_MAX, &|unit| unit.most_tasks.map(Value::Unsigned));
    if let Some(is_running) = found.is_running {
        out.family(&RUNNING).single(is_running);
    }
    let mut family = out.family(&STATE);
    for unit in &found.units {
        for state in STATES {
            let labels = [("name", &*unit.name), ("state", state), ("type", &*unit.kind)];
            family.sample(&labels, state == unit.state);
        }
    }
    let mut family = out.family(&UNITS);
    for (state, count) in &found.states {
        family.sample(&[("state", state)], *count);
    }
    if let Some(version) = &found.version
        && let Some(number) = version_number(version)
    {
        out.family(&VERSION).sample(&[("version", version)], number);
    }
    out.family(&VIRTUALIZATION).sample(&[("virtualization_type", &found.virtualization)], 1u64);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_version_begins_with_three_digits() {
        let check = |text: &str, expected: Option<f64>| assert_eq!(version_number(text), expected, "{text}");
        check("252.38-1~deb12u1", Some(252.38));
        check("257.7-1", Some(257.7));
        check("systemd 249 (v249.11)", Some(249.0));
        check("v255", Some(255.0));
        check("219", Some(219.0));
        check("255.", Some(255.0));
        check("12.34", None);
        check("", None);
    }

    #[test]
    fn each_kind_of_unit_is_asked_what_it_has() {
        let check = |name: &str, wanted: &Wanted, expected: &[&str]| {
            let unit = Unit { name: name.to_owned(), state: "active".to_owned(), ..Unit::default() };
            let names: Vec<_> = properties(&unit, wanted).iter().map(|(names, _)| names[1]).collect();
            assert_eq!(names, expected, "{name}");
        };
        let plain = Wanted::default();
        check("a.service", &plain, &["Type"]);
        check("a.mount", &plain, &["Type"]);
        check("a.timer", &plain, &["LastTriggerUSec"]);
        check("a.socket", &plain, &["NAccepted", "NConnections", "NRefused"]);
        check("a.target", &plain, &[]);
        let all = Wanted { restarts: true, tasks: true, start_times: true, ..plain };
        check("a.service", &all, &["Type", "NRestarts", "TasksCurrent", "TasksMax", "ActiveEnterTimestamp"]);
        check("a.target", &all, &["ActiveEnterTimestamp"]);
        let inactive = Unit { name: "a.target".to_owned(), state: "inactive".to_owned(), ..Unit::default() };
        assert!(properties(&inactive, &all).is_empty());
    }

    #[test]
    fn no_count_and_no_limit_are_missing() {
        let mut unit = Unit::default();
        (TASKS.1)(&mut unit, Basic::Unsigned(7));
        (MOST_TASKS.1)(&mut unit, Basic::Unsigned(u64::MAX));
        (RESTARTS.1)(&mut unit, Basic::Text("x".to_owned()));
        (SERVICE_TYPE.1)(&mut unit, Basic::Bool(true));
        assert_eq!(unit, Unit { tasks: Some(7), ..Unit::default() });
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), near in "[v0-9.ä-]{0,10}") {
            version_number(&text);
            version_number(&near);
        }
    }
}
