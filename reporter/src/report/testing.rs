//! Facts for tests: all is well, and each case changes one thing.

use jiff::{SignedDuration, Timestamp};
use nexus_model::api::{ContainerView, HealerStatus, HealingOnHold, ModeSource, PartStatus, ServiceView};
use nexus_model::control::Pause;
use nexus_model::shadow::{ShadowRecord, ShadowReport};
use nexus_model::{Incident, IncidentState, Mode, Outcome};

use super::facts::{Alert, Backup, Container, Facts, Filesystem, History, Machine, Measured, Series, ServiceName};
use super::{Question, Report, judge};
use crate::capacity::{Outlook, Resource};

pub const MIB: f64 = 1_048_576.0;
pub const GIB: f64 = 1024.0 * MIB;

pub fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

pub fn name(project: &str, service: &str) -> ServiceName {
    (project.to_owned(), service.to_owned())
}

/// So many values, the last of them of this moment.
pub fn hourly(count: usize, value: impl Fn(usize) -> f64) -> Series {
    let at = |hour: usize| now() - SignedDuration::from_hours((count - 1 - hour) as i64);
    Series((0..count).map(|hour| (at(hour), value(hour))).collect())
}

fn up() -> PartStatus {
    PartStatus { state: "up".into(), reason: None }
}

/// A service that has nothing to be recommended.
pub fn container(project: &str, service: &str) -> Container {
    Container {
        project: project.into(),
        service: service.into(),
        name: format!("{project}-{service}-1"),
        image: format!("registry.example/{service}:1"),
        state: "running".into(),
        health: "healthy".into(),
        restart_policy: Some("unless-stopped".into()),
        log_driver: Some("json-file".into()),
        log_bytes: Some(MIB),
        memory: Some(150.0 * MIB),
        working_set: Some(160.0 * MIB),
        memory_limit: Some(256.0 * MIB),
        started_at: Some(now() - SignedDuration::from_hours(24 * 20)),
        restarts: Some(0.0),
        exit_code: None,
    }
}

/// A Raspberry Pi of 4 GB with one project, everything answers and nothing is wrong.
pub fn well() -> Facts {
    let healer = HealerStatus {
        version: "1".into(),
        host: "pi".into(),
        stack: "nexus".into(),
        now: now(),
        docker: up(),
        postgres: up(),
        alertmanager: up(),
        policy: Some(up()),
        journal_pending_rows: 0,
        open_incidents: 0,
        gave_up_incidents: 0,
        pauses: Vec::new(),
        hold: None,
    };
    let root = Filesystem {
        mountpoint: "/".into(),
        device: "/dev/mmcblk0p2".into(),
        size: 32.0 * GIB,
        free: 20.0 * GIB,
        available: 20.0 * GIB,
        read_only: false,
    };
    let machine = Machine {
        cpus: Some(4.0),
        load1: Some(0.5),
        load5: Some(0.4),
        memory_total: Some(4.0 * GIB),
        memory_available: Some(2.5 * GIB),
        swap_total: Some(0.0),
        swap_free: Some(0.0),
        swaps: Some(Vec::new()),
        temperature: Some(50.0),
        memory_cgroup: Some(true),
        pressure_known: Some(true),
        board: Some("Raspberry Pi 4 Model B Rev 1.4".into()),
        filesystems: vec![root],
        ..Machine::default()
    };
    let measured = Measured { cpu: Some(0.1), pressure_memory: Some(0.0), swap_in: Some(0.0), ..Measured::default() };
    Facts {
        at: now(),
        host: "pi".into(),
        stack: "nexus".into(),
        docker_wants_sudo: false,
        docker_silence: None,
        healer: Ok(healer),
        services: Some(Vec::new()),
        incidents: Some(Vec::new()),
        incidents_note: None,
        shadow: Some(ShadowReport { since: now(), until: now(), services: Vec::new(), truncated: false }),
        exporter: Ok(()),
        prometheus: Ok(()),
        alerts: Ok(Vec::new()),
        grafana: None,
        reporter: None,
        history: None,
        machine,
        containers: Some(vec![container("photos", "web")]),
        measured,
    }
}

pub fn alert(name: &str, severity: &str, silenced: bool) -> Alert {
    Alert {
        name: name.into(),
        severity: severity.into(),
        project: String::new(),
        service: String::new(),
        summary: "s".into(),
        since: Timestamp::UNIX_EPOCH,
        silenced,
    }
}

pub fn incident(state: IncidentState) -> Incident {
    let closed = state == IncidentState::Closed;
    Incident {
        id: "0198c0de-0000-7000-8000-0000deadbeef".parse().unwrap(),
        host: "pi".into(),
        project: "photos".into(),
        service: "web".into(),
        container_name: "photos-web-1".into(),
        image: "web".into(),
        alert: "ContainerDown".into(),
        mode: Mode::Heal,
        state,
        outcome: closed.then_some(Outcome::Recovered),
        problem: "exited with code 1".into(),
        refusal: None,
        diagnosis: None,
        opened_at: now() - SignedDuration::from_mins(30),
        last_alert_at: now() - SignedDuration::from_mins(30),
        closed_at: closed.then(|| now() - SignedDuration::from_mins(20)),
        attempts: 2,
        failed_attempts: 1,
        next_attempt_at: None,
        acknowledged_at: None,
        revision: 1,
        recorded_at: None,
    }
}

/// A service that is watched and well.
pub fn view(project: &str, service: &str) -> ServiceView {
    ServiceView {
        project: project.into(),
        service: service.into(),
        mode: Mode::Shadow,
        mode_source: ModeSource::PolicyDefault,
        refusal: None,
        containers: vec![ContainerView {
            name: format!("{project}-{service}-1"),
            image: service.into(),
            state: "running".into(),
            health: "healthy".into(),
            started_at: None,
            restart_count: 3,
        }],
        incident: None,
        paused_until: None,
        today: None,
        stuck: None,
    }
}

/// The report on all projects, of what happened within a day.
pub fn judged(facts: &Facts) -> Report {
    let question = Question { since: facts.at - SignedDuration::from_hours(24), project: None };
    judge(facts, &question).unwrap()
}

/// About everything is wrong, with a service, a mount point and what they tell called so.
pub fn worst(called: &str) -> Facts {
    let mut facts = well();
    let mut ill = container(called, called);
    (ill.health, ill.restart_policy, ill.memory_limit) = ("none".into(), Some("no".into()), Some(0.0));
    (ill.log_bytes, ill.memory) = (Some(900.0 * MIB), Some(300.0 * MIB));
    ill.name = called.into();
    ill.image = called.into();
    facts.containers = Some(vec![container("photos", "web"), ill]);
    facts.services = Some(vec![view("photos", called), view(called, called)]);
    let named =
        |state| Incident { project: called.into(), service: called.into(), problem: called.into(), ..incident(state) };
    facts.incidents = Some(vec![named(IncidentState::GaveUp), named(IncidentState::Closed)]);
    let told = Alert { project: called.into(), summary: called.into(), ..alert(called, "critical", false) };
    facts.alerts = Ok(vec![told]);
    let record = ShadowRecord {
        project: called.into(),
        service: called.into(),
        would_be_restarts: 3,
        would_have_helped: 3,
        sentence: format!("would have restarted {called} 3 times"),
        ..ShadowRecord::default()
    };
    facts.shadow.as_mut().unwrap().services = vec![record];
    let status = facts.healer.as_mut().unwrap();
    status.pauses = vec![Pause {
        project: Some(called.into()),
        service: None,
        since: now(),
        until: now(),
        reason: Some(called.into()),
    }];
    status.hold = Some(HealingOnHold { since: now(), until: now(), services: Vec::new(), reason: called.into() });
    facts.grafana = Some(Err(called.into()));
    facts.machine.memory_cgroup = Some(true);
    facts.machine.pressure_known = Some(false);
    facts.machine.throttled_now = vec!["under_voltage".into()];
    facts.machine.filesystems[0].mountpoint = called.into();
    let full = Outlook {
        resource: Resource::Disk,
        subject: Some(called.into()),
        used: Some(GIB),
        total: GIB,
        limit: GIB,
        answer: crate::capacity::Answer::Reached,
    };
    facts.history = Some(Ok(History { outlooks: vec![full], ..History::default() }));
    facts.machine.backups = vec![Backup { name: called.into(), at: Timestamp::UNIX_EPOCH, max_age: None }];
    facts.measured.service_working_set = [(name(called, called), hourly(200, |_| 310.0 * MIB))].into();
    facts
}
