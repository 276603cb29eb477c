//! From a recommendation to what would be done for it here: asks what is to be asked, and leaves the judging to the pure parts.

use std::collections::BTreeSet;

use anyhow::{Result, anyhow, bail};
use nexus_reporter::report::Recommendation;
use nexus_reporter::report::recommend::Change;

use super::databases::{Psql, RedisCli};
use super::ledger::{Done, Ledger, PostgresDone, Record, RedisDone, State};
use super::machine::Host;
use super::overrides::settings;
use super::{act, compose, databases, diff, engine, postgres, redis, zram};

/// What would be done, and all that its owner has to see before.
#[derive(Clone, Debug, PartialEq)]
pub enum Planned {
    Compose(compose::Plan),
    Postgres(OfDatabase<PostgresDone>),
    Redis(OfDatabase<RedisDone>),
    Zram(zram::Plan),
}

#[derive(Clone, Debug, PartialEq)]
pub struct OfDatabase<T> {
    pub container: String,
    pub done: T,
    pub notes: Vec<String>,
}

/// `Err`: why it can't be done, or not safely. `policy`: the owner's word on what Redis may drop.
pub async fn plan(it: &Recommendation, ledger: &Ledger, policy: Option<&str>) -> Result<Planned> {
    let project = it.project.as_deref().unwrap_or_default();
    match it.changes.as_slice() {
        [] => bail!("only you can do this"),
        [Change::Zram] => zram::plan(&Host::real().facts()?).map(Planned::Zram).map_err(|why| anyhow!(why)),
        [Change::Postgres { service, memory_mib }] => {
            let container = the_container(project, service).await?;
            // A report may be older than its limit.
            let memory_mib = container.limit_mib.map_or(*memory_mib, |limit| limit.min(*memory_mib));
            let container = container.name;
            let plan = postgres::plan(&Psql::open(&container).await?.facts().await?, memory_mib);
            let plan = plan.map_err(|why| anyhow!(why))?;
            let mut notes = plan.notes;
            if postgres::needs_restart(&plan.sets) {
                notes
                    .insert(0, format!("restarts {container}, for shared_buffers: it answers nobody for some seconds"));
            }
            let done = PostgresDone { project: project.to_owned(), service: service.clone(), sets: plan.sets };
            Ok(Planned::Postgres(OfDatabase { container, done, notes }))
        }
        [Change::Redis { service, maxmemory_mib }] => {
            let container = the_container(project, service).await?.name;
            let facts = RedisCli::open(&container).await?.facts().await?;
            let plan = redis::plan(&facts, *maxmemory_mib, policy).map_err(|why| anyhow!(why))?;
            let done = RedisDone {
                project: project.to_owned(),
                service: service.clone(),
                before: plan.before,
                after: plan.after,
                kept: plan.kept,
            };
            Ok(Planned::Redis(OfDatabase { container, done, notes: plan.notes }))
        }
        changes => {
            let wanted = settings(changes);
            if wanted.len() != changes.iter().filter_map(Change::service).collect::<BTreeSet<_>>().len() {
                bail!("this kind of change is not known to this version");
            }
            let facts =
                engine::project(project, &wanted.keys().map(String::as_str).collect(), &ledger.files_of(project))
                    .await?;
            let plan = compose::plan(&facts, &wanted, &ledger.compose_without(None));
            plan.map(Planned::Compose).map_err(|why| anyhow!(why))
        }
    }
}

/// A container that can be asked.
pub struct Well {
    pub name: String,
    pub limit_mib: Option<u64>,
}

/// The one running container of a service.
pub async fn the_container(project: &str, service: &str) -> Result<Well> {
    let all = engine::containers().await?;
    match engine::of_service(&all, project, service).as_slice() {
        [one] => match one.ill() {
            None => Ok(Well {
                name: one.name().to_owned(),
                limit_mib: Some(one.host_config.memory >> 20).filter(|mib| *mib > 0),
            }),
            Some(ill) => bail!("{} is not well ({ill}): see to that first, ./nexus why tells more", one.name()),
        },
        [] => bail!("{project}/{service} has no container now"),
        many => bail!("{project}/{service} has {} containers, and each would have to be set by itself", many.len()),
    }
}

impl Planned {
    pub fn done(&self) -> Done {
        match self {
            Planned::Compose(plan) => Done::Compose(plan.done.clone()),
            Planned::Postgres(plan) => Done::Postgres(plan.done.clone()),
            Planned::Redis(plan) => Done::Redis(plan.done.clone()),
            Planned::Zram(plan) => Done::Zram(plan.done.clone()),
        }
    }

    /// Where it changes something.
    pub fn place(&self) -> String {
        let new = |before: &Option<String>| if before.is_none() { " (new)" } else { "" };
        match self {
            Planned::Compose(plan) => format!("{}{}", plan.done.file.display(), new(&plan.before)),
            Planned::Postgres(plan) => format!("PostgreSQL in {}, by ALTER SYSTEM", plan.container),
            Planned::Redis(plan) => {
                let file = if plan.done.kept { " and its own file, by CONFIG REWRITE" } else { "" };
                format!("Redis in {}, by CONFIG SET{file}", plan.container)
            }
            Planned::Zram(plan) => format!("/{}{}", plan.done.file.display(), new(&plan.done.before)),
        }
    }

    /// What goes and what comes there, a line each.
    pub fn lines(&self) -> Vec<String> {
        match self {
            Planned::Compose(plan) => diff::lines(plan.before.as_deref().unwrap_or_default(), &plan.after),
            Planned::Postgres(plan) => plan
                .done
                .sets
                .iter()
                .flat_map(|set| [format!("- {} = {}", set.name, set.before), format!("+ {} = {}", set.name, set.after)])
                .collect(),
            Planned::Redis(plan) => diff::lines(&plan.done.before.lines(), &plan.done.after.lines()),
            Planned::Zram(plan) => diff::lines(plan.done.before.as_deref().unwrap_or_default(), &plan.done.after),
        }
    }

    pub fn notes(&self) -> &[String] {
        match self {
            Planned::Compose(plan) => &plan.notes,
            Planned::Postgres(plan) => &plan.notes,
            Planned::Redis(plan) => &plan.notes,
            Planned::Zram(plan) => &plan.notes,
        }
    }

    pub async fn apply(&self) -> Result<()> {
        match self {
            Planned::Compose(plan) => act::apply(plan).await,
            Planned::Postgres(plan) => databases::apply_postgres(&plan.container, &plan.done).await,
            Planned::Redis(plan) => databases::apply_redis(&plan.container, &plan.done).await,
            Planned::Zram(plan) => Host::real().apply(&plan.done).await,
        }
    }
}

/// Takes back what a record tells. Returns what its owner has to know beyond that.
pub async fn undo(record: &Record, ledger: &Ledger) -> Result<Option<String>> {
    match &record.done {
        Done::Compose(done) => {
            let (standing, rest) = (ledger.compose_without(None), ledger.compose_without(Some(record.number)));
            let how = act::Undoing {
                standing: &standing,
                rest: &rest,
                ours: &ledger.files_of(&done.project),
                interrupted: record.state == State::Applying,
            };
            act::undo(done, &how).await
        }
        Done::Postgres(done) => {
            databases::undo_postgres(&the_container(&done.project, &done.service).await?.name, done).await
        }
        Done::Redis(done) => {
            databases::undo_redis(&the_container(&done.project, &done.service).await?.name, done).await
        }
        Done::Zram(done) => Host::real().undo(done).await,
    }
}

/// What undoing will do, to be shown before.
pub fn undo_told(done: &Done) -> String {
    match done {
        Done::Compose(done) => {
            format!("takes it out of {} and recreates {}", done.file.display(), done.service_names().join(", "))
        }
        Done::Postgres(done) => {
            let restart = if postgres::needs_restart(&done.sets) { ", and restarts it" } else { "" };
            let back: Vec<String> = done.sets.iter().map(|set| format!("{} = {}", set.name, set.before)).collect();
            format!("sets PostgreSQL of {}/{} back to {}{restart}", done.project, done.service, back.join(", "))
        }
        Done::Redis(done) => {
            let back = done.before.lines();
            format!("sets Redis of {}/{} back to {}", done.project, done.service, back.trim_end().replace('\n', ", "))
        }
        Done::Zram(done) => format!("runs {} and puts /{} back", zram::shown(&done.stop), done.file.display()),
    }
}
