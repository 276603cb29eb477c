//! Looking at containers. Acting on them goes through the `docker` program ([`crate::command`]).

use std::collections::HashMap;

use anyhow::{Context, Result};
use bollard::Docker;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};

/// What the cases ask about a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Container {
    pub id: String,
    pub name: String,
    pub status: String,
    /// `none` without a health check.
    pub health: String,
    pub started_at: String,
    pub exit_code: i64,
    pub pid: i64,
}

/// Compose's labels of a service.
pub fn service_labels(project: &str, service: &str) -> Vec<String> {
    vec![format!("com.docker.compose.project={project}"), format!("com.docker.compose.service={service}")]
}

pub async fn inspect(docker: &Docker, id: &str) -> Result<Container> {
    let found = docker
        .inspect_container(id, None::<InspectContainerOptions>)
        .await
        .with_context(|| format!("cannot inspect {id}"))?;
    let state = found.state.unwrap_or_default();
    Ok(Container {
        id: found.id.unwrap_or_default(),
        name: found.name.unwrap_or_default().trim_start_matches('/').to_owned(),
        status: state.status.map(|status| status.to_string()).unwrap_or_default(),
        health: state
            .health
            .and_then(|health| health.status)
            .map_or_else(|| "none".to_owned(), |word| word.to_string()),
        started_at: state.started_at.map(|at| at.to_string()).unwrap_or_default(),
        exit_code: state.exit_code.unwrap_or_default(),
        pid: state.pid.unwrap_or_default(),
    })
}

/// Ids of the containers with all these labels, running or not.
pub async fn with_labels(docker: &Docker, labels: Vec<String>) -> Result<Vec<String>> {
    let options =
        ListContainersOptionsBuilder::default().all(true).filters(&HashMap::from([("label", labels)])).build();
    let found = docker.list_containers(Some(options)).await.context("cannot list containers")?;
    Ok(found.into_iter().filter_map(|container| container.id).collect())
}

/// The one container of a service.
pub async fn of_service(docker: &Docker, project: &str, service: &str) -> Result<Container> {
    let ids = with_labels(docker, service_labels(project, service)).await?;
    let [id] = ids.as_slice() else {
        anyhow::bail!("{project}/{service} has {} containers", ids.len());
    };
    inspect(docker, id).await
}
