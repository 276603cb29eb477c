//! What Docker says of each container: families of our own.

use nexus_docker::{Health, Probe, Status, StopCause};

use super::Reading;
use super::needs::needs;
use super::write::{Labelled, counter, each, gauge, seconds};
use crate::exposition::Exposition;
use crate::family::Family;

const IDENTITY_AND_HEALTH: &[&str] = &["id", "name", "image", "project", "service", "health"];
const IDENTITY_AND_STATE: &[&str] = &["id", "name", "image", "project", "service", "state"];

const STATE: Family = Family {
    labels: IDENTITY_AND_STATE,
    ..gauge(
        "docker_container_state",
        "The state Docker gives the container: 1 for that one, 0 for the others.",
        "inspect: State.Status",
    )
};
const HEALTH: Family = Family {
    labels: IDENTITY_AND_HEALTH,
    ..gauge(
        "docker_container_health",
        "What the health check says: 1 for that one, 0 for the others.",
        "inspect: State.Health.Status",
    )
};
const INFO: Family = Family {
    labels: &["id", "name", "image", "project", "service", "image_id", "restart_policy", "log_driver"],
    ..gauge(
        "docker_container_info",
        "What the container was made of and how Docker runs it, value is always 1.",
        "inspect: Image, HostConfig.RestartPolicy.Name, HostConfig.LogConfig.Type",
    )
};
const DEPENDS_ON: Family = Family {
    labels: &["id", "name", "image", "project", "service", "needed_project", "needed_service"],
    ..gauge(
        "docker_container_depends_on",
        "What its service needs: a series for each, value is always 1; absent without any.",
        "inspect: Config.Labels, Compose's depends_on and the label nexus.depends_on",
    )
};
const IMAGE_CREATED: Family = gauge(
    "docker_container_image_created_seconds",
    "When the image that it runs was made, in unixtime; absent when the image does not say.",
    "GET /images/json: Created, asked for when a container with another image appears",
);
const FAILING_STREAK: Family = gauge(
    "docker_container_health_failing_streak",
    "Failed health checks in a row, up to a minute old; absent without a health check.",
    "inspect: State.Health.FailingStreak",
);
const PROBE_DURATION: Family = gauge(
    "docker_container_health_probe_duration_seconds",
    "How long the last run of the health check took, up to a minute old; absent before the first.",
    "inspect: State.Health.Log, the last one's Start and End",
);
const PROBE_FINISHED: Family = gauge(
    "docker_container_health_probe_finished_at_seconds",
    "When the last run of the health check ended, in unixtime, up to a minute old; absent before the first.",
    "inspect: State.Health.Log, the last one's End",
);
const HEALTH_STATE: Family = gauge(
    "container_health_state",
    "The result of the container's health check: 1 healthy, 0 unhealthy, -1 starting; absent without a health check.",
    "inspect: State.Health.Status",
);
const RESTARTS: Family = counter(
    "docker_container_restarts_total",
    "Restarts by Docker's own restart policy since the container was last started by hand or by the API.",
    "inspect: RestartCount",
);
const EXIT_CODE: Family = gauge(
    "docker_container_exit_code",
    "Exit code of the last run; absent while it runs or has never exited.",
    "inspect: State.ExitCode",
);
const FINISHED_AT: Family = gauge(
    "docker_container_finished_at_seconds",
    "When the last run that ended did so, in unixtime; absent while none has.",
    "inspect: State.FinishedAt",
);
const OOM_KILLED: Family = gauge(
    "docker_container_oom_killed",
    "Whether the kernel killed a process of the last run for memory; Docker clears it at the next start.",
    "inspect: State.OOMKilled",
);
const EXPECTED_RUNNING: Family = gauge(
    "docker_container_expected_running",
    "Whether it should be running, by its restart policy or the label nexus.expected.",
    "inspect: HostConfig.RestartPolicy, Config.Labels",
);
const LOG_BYTES: Family = gauge(
    "docker_container_log_bytes",
    "Size of the container's log on disk with its rotated files; absent where the log driver keeps no file, and where the \
     file can't be seen.",
    "the files at inspect: LogPath (json-file), or in local-logs of Docker's folder for the container (local)",
);
const STOPPED_ON_PURPOSE: Family = gauge(
    "docker_container_stopped_on_purpose",
    "Whether somebody asked Docker to stop or pause it; absent when it was stopped before the watching began.",
    "events kill, stop, die, start; inspect: State.Status",
);

pub const FAMILIES: &[Family] = &[
    STATE,
    INFO,
    DEPENDS_ON,
    IMAGE_CREATED,
    HEALTH,
    FAILING_STREAK,
    PROBE_DURATION,
    PROBE_FINISHED,
    HEALTH_STATE,
    RESTARTS,
    EXIT_CODE,
    FINISHED_AT,
    OOM_KILLED,
    EXPECTED_RUNNING,
    STOPPED_ON_PURPOSE,
    LOG_BYTES,
];

pub fn write(all: &[Labelled<'_>], out: &mut Exposition) {
    let mut family = out.family(&STATE);
    for (labels, reading) in all {
        for state in Status::ALL {
            family.sample_of(labels, &[("state", state.as_str())], reading.container.status == state);
        }
    }
    let mut family = out.family(&INFO);
    for (labels, Reading { container, .. }) in all {
        let more = [
            ("image_id", container.image_id.as_str()),
            ("restart_policy", container.restart_policy.as_str()),
            ("log_driver", &container.log_driver),
        ];
        family.sample_of(labels, &more, 1u64);
    }
    let mut family = out.family(&DEPENDS_ON);
    for (labels, Reading { container, .. }) in all {
        for needed in needs(&container.labels) {
            let more = [("needed_project", needed.project.as_str()), ("needed_service", needed.service.as_str())];
            family.sample_of(labels, &more, 1u64);
        }
    }
    each(out, &IMAGE_CREATED, all, |one| one.image_created.map(|at| at.as_second()));
    let mut family = out.family(&HEALTH);
    for (labels, reading) in all {
        for health in Health::ALL {
            family.sample_of(labels, &[("health", health.as_str())], reading.container.health == health);
        }
    }
    each(out, &FAILING_STREAK, all, |one| {
        (one.container.health != Health::None).then_some(one.container.failing_streak)
    });
    each(out, &PROBE_DURATION, all, |one| one.container.probes.last().and_then(took));
    each(out, &PROBE_FINISHED, all, |one| one.container.probes.last()?.end.map(seconds));
    each(out, &HEALTH_STATE, all, |one| match one.container.health {
        Health::None => None,
        Health::Starting => Some(-1i64),
        Health::Unhealthy => Some(0),
        Health::Healthy => Some(1),
    });
    each(out, &RESTARTS, all, |one| Some(one.container.restart_count));
    each(out, &EXIT_CODE, all, |one| {
        let ended = matches!(one.container.status, Status::Exited | Status::Dead | Status::Restarting);
        (ended && one.container.finished_at.is_some()).then_some(one.container.exit_code)
    });
    each(out, &FINISHED_AT, all, |one| one.container.finished_at.map(seconds));
    each(out, &OOM_KILLED, all, |one| Some(one.container.oom_killed));
    each(out, &EXPECTED_RUNNING, all, |one| Some(one.container.expected_to_run()));
    each(out, &STOPPED_ON_PURPOSE, all, stopped_on_purpose);
    each(out, &LOG_BYTES, all, |one| one.log_bytes);
}

/// `None` when the clock was set back while it ran.
fn took(probe: &Probe) -> Option<f64> {
    let took = probe.end?.duration_since(probe.start?);
    (!took.is_negative()).then(|| took.as_secs_f64())
}

fn stopped_on_purpose(one: &Reading) -> Option<bool> {
    match one.container.status {
        Status::Paused => Some(true),
        Status::Exited | Status::Dead => match one.stop {
            StopCause::Itself | StopCause::Engine => Some(false),
            StopCause::Requested { .. } => Some(true),
            StopCause::Unknown => None,
        },
        Status::Created | Status::Running | Status::Restarting | Status::Removing => Some(false),
    }
}
