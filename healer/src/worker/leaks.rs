//! Containers whose memory is about to reach its limit: ill, though Docker calls them well until the kernel kills them.

use nexus_docker::Snapshot;
use nexus_model::{Mode, Refusal, ServiceKey};

use super::Worker;
use crate::{
    case::RunsOut,
    decide::Admission,
    facts::{Facts, looks_well},
    relief::tell::{RUNS_OUT, Running},
    transition::Changed,
};

impl Worker {
    /// Opens an incident for each that is to be restarted now, and forgets it where the growth has stopped by itself.
    pub(super) async fn look_for_leaks(&mut self, snapshot: &Snapshot) {
        if !snapshot.up {
            return;
        }
        let shown = self.parts.relief.borrow().clone();
        let due = |id: &str| shown.running_out.get(id).is_some_and(|running| running.act);
        let over = self.cases.iter().filter(|(_, case)| {
            let runs_out = case.memory.runs_out.as_ref();
            runs_out.is_some_and(|it| !shown.running_out.contains_key(&it.container_id))
                && case.open_attempt().is_none()
        });
        for (key, case) in over.map(|(key, case)| (key.clone(), case.clone())).collect::<Vec<_>>() {
            let mut changed = Changed { case, events: Vec::new() };
            changed.case.memory.runs_out = None;
            self.make(&key, changed.revised(), Vec::new()).await;
        }
        for (id, running) in shown.running_out.iter().filter(|(id, _)| due(id)) {
            if !self.cases.contains_key(&running.key) {
                let facts = self.facts(&running.key, snapshot);
                match admit(&facts, id, running) {
                    Ok(found) => {
                        self.open_seen(&running.key, RUNS_OUT, found, &facts, snapshot).await;
                    }
                    Err(why) => {
                        tracing::debug!(
                            host = self.parts.host, project = running.key.project, service = running.key.service,
                            reason = %why, "no incident for want of memory"
                        );
                    }
                }
            }
            self.note_leak(&running.key, id, running).await;
        }
    }

    /// Makes it part of the incident that is open.
    async fn note_leak(&mut self, key: &ServiceKey, id: &str, running: &Running) {
        let Some(case) = self.cases.get(key).filter(|case| case.open_attempt().is_none()) else { return };
        let known = case.memory.runs_out.as_ref();
        if known.is_some_and(|known| known.container_id == id && known.run == running.run) {
            return;
        }
        let mut changed = Changed { case: case.clone(), events: Vec::new() };
        let problem = running.problem();
        changed.tell(&self.clock.now(), "runs_out", format!("{}: {problem}", running.name));
        changed.case.memory.containers.insert(id.to_owned());
        changed.case.memory.runs_out = Some(RunsOut { container_id: id.to_owned(), run: running.run, problem });
        self.make(key, changed.revised(), Vec::new()).await;
    }
}

/// Whether it becomes an incident, as [`crate::decide::admit`] asks of what Docker calls ill.
fn admit(facts: &Facts, id: &str, running: &Running) -> Result<Admission, Refusal> {
    if facts.own_stack {
        return Err(Refusal::OwnStack);
    }
    if facts.mode.mode == Mode::Off {
        return Err(Refusal::OptedOut);
    }
    let seen = facts.container(id).ok_or(Refusal::Gone)?;
    // One that is not well is an incident for that already; another run has another memory.
    if !looks_well(seen) || seen.container.started_at != running.run {
        return Err(Refusal::Starting);
    }
    Ok(Admission {
        container: seen.container.clone(),
        ill: vec![id.to_owned()],
        problem: running.problem(),
        mode: facts.mode.mode,
        follows: None,
        ended_by_docker: false,
    })
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use jiff::SignedDuration;
    use nexus_docker::{Container, Health};

    use super::*;
    use crate::testing::{at, container, key, permitted, seen, wall};

    fn leaking(run: i64) -> Running {
        Running {
            key: key(),
            name: "shop-web-1".into(),
            run: wall(run),
            limit: 256 << 20,
            pace: 2 << 20,
            left: SignedDuration::from_secs(40),
            since: at(0).wall,
            act: true,
        }
    }

    #[test]
    fn only_a_run_that_is_well_and_ours_to_heal_is_admitted() {
        let well = Container { health: Health::Healthy, ..container() };
        let facts = Facts { containers: vec![seen(well)], ..permitted() };
        let found = admit(&facts, "c1", &leaking(-100)).unwrap();
        assert_eq!(found.ill, ["c1"]);
        assert_eq!(found.problem, "its memory grows by 2.0 MiB a second and reaches its limit of 256.0 MiB in 40 s");
        let check = |change: fn(&mut Facts), expected| {
            let mut facts = facts.clone();
            change(&mut facts);
            assert_eq!(admit(&facts, "c1", &leaking(-100)).err(), Some(expected));
        };
        check(|facts| facts.own_stack = true, Refusal::OwnStack);
        check(|facts| facts.mode.mode = Mode::Off, Refusal::OptedOut);
        check(|facts| facts.containers.clear(), Refusal::Gone);
        check(|facts| Arc::make_mut(&mut facts.containers[0].container).health = Health::Unhealthy, Refusal::Starting);
        assert_eq!(admit(&facts, "c1", &leaking(-50)).err(), Some(Refusal::Starting));
    }
}
