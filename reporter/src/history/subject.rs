//! Who a series is of: found by the names that people and agents know.

use tokio_postgres::GenericClient;

use super::{
    batch::stored,
    prometheus::Labels,
    read::{self, ReadError, Subject},
};
use crate::usage::{self, UsageError};

/// What somebody asks about: the machine itself, one of its file systems, or a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Of {
    Host,
    Mount(String),
    Service { project: String, service: String },
}

/// A subject that is there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Who {
    pub host: String,
    pub of: Of,
    pub key: Subject,
}

#[derive(Debug, thiserror::Error)]
pub enum SubjectError {
    #[error(transparent)]
    Host(#[from] UsageError),
    /// With what there is.
    #[error("{0}")]
    Unknown(String),
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// Fails for what is not there, naming what is.
pub async fn find(client: &tokio_postgres::Client, host: &str, of: Of) -> Result<Who, SubjectError> {
    let id = usage::host_id(client, host).await?;
    let key = match &of {
        Of::Host => Subject::Host(id),
        Of::Mount(mountpoint) => Subject::Mount(mount(client, host, mountpoint).await?),
        Of::Service { project, service } => Subject::Service(of_service(client, host, project, service).await?),
    };
    Ok(Who { host: host.to_owned(), of, key })
}

async fn mount(client: &impl GenericClient, host: &str, mountpoint: &str) -> Result<i32, SubjectError> {
    let all = read::mounts(client, Some(host)).await?;
    let found = all.iter().find(|mount| mount.mountpoint == mountpoint).map(|mount| mount.id);
    found.ok_or_else(|| {
        let known = all.iter().map(|mount| mount.mountpoint.as_str());
        SubjectError::Unknown(format!("the history of {host} has no file system at {mountpoint:?}; {}", list(known)))
    })
}

async fn of_service(
    client: &impl GenericClient,
    host: &str,
    project: &str,
    service: &str,
) -> Result<i32, SubjectError> {
    let all = read::services(client, Some(host)).await?;
    let all: Vec<(i32, &str, &str)> = all.iter().map(|it| (it.id, it.project.as_str(), it.service.as_str())).collect();
    pick(&all, project, service).map_err(SubjectError::Unknown)
}

/// The key of a service among those of a host; else what is there.
fn pick(all: &[(i32, &str, &str)], project: &str, service: &str) -> Result<i32, String> {
    // Written once an hour.
    const NEW: &str = "what is new is there within an hour";
    if let Some((id, ..)) = all.iter().find(|it| (it.1, it.2) == (project, service)) {
        return Ok(*id);
    }
    let of_project: Vec<&str> = all.iter().filter(|it| it.1 == project).map(|it| it.2).collect();
    Err(match (of_project.as_slice(), project) {
        ([], _) => {
            let mut projects: Vec<&str> = all.iter().map(|it| it.1).filter(|project| !project.is_empty()).collect();
            projects.dedup();
            format!("the history has no project {project:?}; {} ({NEW})", list(projects.into_iter()))
        }
        (known, _) => {
            format!("the history has no service {service:?} of {project}; {} ({NEW})", list(known.iter().copied()))
        }
    })
}

fn list<'a>(known: impl Iterator<Item = &'a str>) -> String {
    let known: Vec<&str> = known.collect();
    if known.is_empty() { "there is none".to_owned() } else { format!("there are {}", known.join(", ")) }
}

impl Who {
    /// Whether a series of Prometheus is of this subject. Names are compared as they are stored.
    pub fn is(&self, labels: &Labels) -> bool {
        stored(&labels.host) == self.host
            && match &self.of {
                Of::Host => true,
                Of::Mount(mountpoint) => stored(&labels.mountpoint) == *mountpoint,
                Of::Service { project, service } => {
                    stored(&labels.project) == *project && stored(&labels.service) == *service
                }
            }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_there_is_told_with_what_is() {
        let all = [(1, "", "pihole"), (2, "shop", "db"), (3, "shop", "web"), (4, "wiki", "app")];
        let check = |project: &str, service: &str, expected: Result<i32, &str>| {
            assert_eq!(pick(&all, project, service), expected.map_err(str::to_owned), "{project}/{service}");
        };
        check("shop", "web", Ok(3));
        check("", "pihole", Ok(1));
        check(
            "shop",
            "api",
            Err("the history has no service \"api\" of shop; there are db, web (what is new is there within an hour)"),
        );
        check(
            "sh\u{1b}",
            "api",
            Err("the history has no project \"sh\\u{1b}\"; there are shop, wiki (what is new is there within an hour)"),
        );
        assert!(pick(&[], "x", "y").unwrap_err().contains("there is none"));
    }
}
