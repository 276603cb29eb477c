//! Label names: Docker Compose's, our own, and the key of a service.

use serde::{Deserialize, Serialize};

/// Compose's project name, set by Compose on each container it creates.
pub const COMPOSE_PROJECT: &str = "com.docker.compose.project";
/// Compose's service name within the project.
pub const COMPOSE_SERVICE: &str = "com.docker.compose.service";
/// `True` on a container that `docker compose run` made: never expected to run, never healed.
pub const COMPOSE_ONEOFF: &str = "com.docker.compose.oneoff";
/// Which replica of its service a container is. One that takes the place of another has its number.
pub const COMPOSE_NUMBER: &str = "com.docker.compose.container-number";
/// `service:condition:restart,…`: what the service depends on.
pub const COMPOSE_DEPENDS_ON: &str = "com.docker.compose.depends_on";

/// The owner's word on healing: `true`, `false` or `shadow`.
pub const HEAL: &str = "nexus.heal";
/// `service,project/service,…`: what a service needs beyond what Compose was told; a name alone is of its own project.
pub const DEPENDS_ON: &str = "nexus.depends_on";
/// The Nexus stack that looks after the container; absent means [`DEFAULT_STACK`]. Two stacks on one engine (the
/// owner's and the one of the end-to-end test) never see each other's containers.
pub const STACK: &str = "nexus.stack";
/// `true` or `false`: whether the container is expected to run, where the restart policy does not say it.
pub const EXPECTED: &str = "nexus.expected";

/// Restarts of one container, in one incident or within an hour, before the healer gives up.
pub const ATTEMPTS: &str = "nexus.attempts";
/// Restarts of one container within a day.
pub const ATTEMPTS_PER_DAY: &str = "nexus.attempts_per_day";
/// How long the container has to stop before it is killed.
pub const STOP_TIMEOUT: &str = "nexus.stop_timeout";
/// How long it is left alone from its start on while it is not healthy yet.
pub const START_PATIENCE: &str = "nexus.start_patience";
/// How long it must stay well before an incident is closed.
pub const STABLE_FOR: &str = "nexus.stable_for";
/// Delay after the first failed attempt.
pub const BASE_DELAY: &str = "nexus.base_delay";
/// The delay grows no further.
pub const MAX_DELAY: &str = "nexus.max_delay";
/// Granted on top of what the health check allows for getting well.
pub const VERIFY_MARGIN: &str = "nexus.verify_margin";
/// `sat,sun 02:00-04:00; daily 12:00-12:30`: when its owner is at work on it and nothing is healed.
pub const MAINTENANCE: &str = "nexus.maintenance";
/// `true` or `false`: whether it may be stopped when disk or memory is about to run out.
pub const EXPENDABLE: &str = "nexus.expendable";
/// `http://:8080/healthz` or `tcp://:5432`: how the healer asks whether it works.
pub const PROBE: &str = "nexus.probe";

/// The name of a stack that was given none.
pub const DEFAULT_STACK: &str = "nexus";

/// What an incident is about: a Compose service on a host. Never a container id, which changes whenever Compose
/// recreates the container.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct ServiceKey {
    pub project: String,
    pub service: String,
}

impl ServiceKey {
    pub fn new(project: impl Into<String>, service: impl Into<String>) -> Self {
        Self { project: project.into(), service: service.into() }
    }
}

/// Longer ones are nobody's project or service.
const LONGEST_NAME: usize = 200;

/// Whether a text can be the name of a project or service. Compose itself allows less; this is what can be shown and kept.
pub fn is_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= LONGEST_NAME && !text.chars().any(char::is_control)
}

impl std::fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.project, self.service)
    }
}
