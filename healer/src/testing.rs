//! What the unit tests of several modules start from: a service that may be healed in every respect.

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Health, RestartPolicy, Snapshot, Status, StopCause, Watched};
use nexus_model::{Attempt, Incident, IncidentState, Mode, Now, ServiceKey, api::ModeSource, labels};
use uuid::Uuid;

use crate::{
    case::{Case, Memory, Try, TryMemory},
    facts::{ContainerFacts, Facts, HostFacts, Stops},
    modes::Effective,
    policy::Healing,
};

pub fn key() -> ServiceKey {
    ServiceKey::new("shop", "web")
}

/// `seconds` after the beginning of the test's time; wall and boot clock agree.
pub fn at(seconds: i64) -> Now {
    Now {
        wall: Timestamp::from_second(1_800_000_000 + seconds).unwrap(),
        boottime: SignedDuration::from_secs(1000 + seconds),
        boot_id: "boot".into(),
    }
}

pub fn wall(seconds: i64) -> Option<Timestamp> {
    Some(at(seconds).wall)
}

/// An unhealthy container of the service, started at -100 s.
pub fn container() -> Container {
    Container {
        id: "c1".into(),
        name: "shop-web-1".into(),
        image: "shop/web:1".into(),
        image_id: "sha256:aa".into(),
        labels: [(labels::COMPOSE_PROJECT, "shop"), (labels::COMPOSE_SERVICE, "web"), (labels::HEAL, "true")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into(),
        status: Status::Running,
        health: Health::Unhealthy,
        failing_streak: 3,
        probes: Vec::new(),
        healthcheck: Some(nexus_docker::Healthcheck {
            interval: SignedDuration::from_secs(5),
            timeout: SignedDuration::from_secs(2),
            start_period: SignedDuration::from_secs(10),
            retries: 3,
        }),
        exit_code: 0,
        oom_killed: false,
        error: String::new(),
        pid: 4711,
        restart_count: 0,
        created_at: wall(-200),
        started_at: wall(-100),
        finished_at: None,
        restart_policy: RestartPolicy::UnlessStopped,
        network_mode: "shop_default".into(),
        addresses: Vec::new(),
        published: Vec::new(),
        cgroup_parent: String::new(),
        memory_limit_bytes: None,
        memory_swap_limit_bytes: None,
        memory_reservation_bytes: None,
        cpu_shares: None,
        cpu_quota_micros: None,
        cpu_period_micros: None,
        stop_timeout: None,
        stop_signal: None,
        auto_remove: false,
        log_driver: "json-file".into(),
        log_path: String::new(),
        privileged: false,
    }
}

pub fn exited(code: i64) -> Container {
    Container {
        status: Status::Exited,
        health: Health::None,
        exit_code: code,
        pid: 0,
        finished_at: wall(-5),
        ..container()
    }
}

pub fn seen(container: Container) -> ContainerFacts {
    let watched =
        Watched { container: container.into(), stop: StopCause::Itself, has_been_healthy: true, oom_events: 0 };
    ContainerFacts::of(&watched, &Snapshot::default(), &Stops::new())
}

/// Everything speaks for a restart.
pub fn permitted() -> Facts {
    Facts {
        healing: Healing::default(),
        docker_up: true,
        own_stack: false,
        mode: Effective { mode: Mode::Heal, source: ModeSource::Label, protected: None },
        containers: vec![seen(container())],
        maintenance_until: None,
        host: HostFacts { restart_under_way: false, recent_restarts: 0, room_at: None, hold_until: None },
        spent_today: Default::default(),
        act_under_way: false,
        journal_writable: true,
        silenced: false,
        may_start: false,
        paused_until: None,
        needed: Vec::new(),
        says_it_is_starting: false,
        network_gone: false,
    }
}

/// An incident opened at 0 s, nothing done yet.
pub fn case() -> Case {
    Case {
        incident: Incident {
            id: Uuid::from_u128(1),
            host: "pi".into(),
            project: "shop".into(),
            service: "web".into(),
            container_name: "shop-web-1".into(),
            image: "shop/web:1".into(),
            alert: "ContainerUnhealthy".into(),
            mode: Mode::Heal,
            state: IncidentState::Suspect,
            outcome: None,
            problem: "unhealthy: 3 failed probes in a row".into(),
            refusal: None,
            diagnosis: None,
            opened_at: at(0).wall,
            last_alert_at: at(0).wall,
            closed_at: None,
            attempts: 0,
            failed_attempts: 0,
            next_attempt_at: None,
            acknowledged_at: None,
            revision: 1,
            recorded_at: None,
        },
        attempts: Vec::new(),
        memory: Memory { containers: ["c1".to_owned()].into(), ..Memory::default() },
    }
}

/// An attempt on a container that had started at -100 s, without an outcome.
pub fn attempt(number: u32, container_id: &str, intended: Now) -> Try {
    Try {
        attempt: Attempt {
            id: Uuid::from_u128(100 + u128::from(number)),
            incident_id: Uuid::from_u128(1),
            number,
            action: "restart".into(),
            container_id: container_id.into(),
            started_at_before: wall(-100),
            started_at_after: None,
            intended_at: intended.wall,
            finished_at: None,
            outcome: None,
            detail: None,
            revision: 1,
        },
        memory: TryMemory::of(&intended, SignedDuration::from_secs(10)),
    }
}
