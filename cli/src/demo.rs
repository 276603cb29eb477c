//! `nexus demo`: a small project is broken on purpose, and the way from there to the healed container is shown with times.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use jiff::Timestamp;
use nexus_model::api::{IncidentDetail, IncidentList, ServiceList};
use nexus_model::{IncidentState, Mode};
use serde::Deserialize;

use crate::docker::{self, Event, Events, Project, docker};
use crate::home::Home;
use crate::http::Part;
use crate::incidents::short_id;
use crate::text::{plain, print};

const COMPOSE: &str = include_str!("../demo/compose.yml");
const SERVICE: &str = "web";
const POLL: Duration = Duration::from_millis(200);
/// How long `--timeout`-less closing may take: the shipped policy watches for a minute.
const CLOSING: Duration = Duration::from_secs(150);

/// The way of an incident, in order. Each hop has to be seen within its time after the one before.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Hop {
    Unhealthy,
    Alert,
    Incident,
    Restart,
    Healthy,
    Recorded,
}

impl Hop {
    const ALL: [Hop; 6] = [Hop::Unhealthy, Hop::Alert, Hop::Incident, Hop::Restart, Hop::Healthy, Hop::Recorded];

    /// Twice what it takes on a Pi at worst, with the shipped intervals.
    fn limit(self) -> Duration {
        Duration::from_secs(match self {
            Hop::Unhealthy => 30,
            // At once by the healer's own; by the rule after a scrape every 15 s, then the rules every 5 s.
            Hop::Alert => 60,
            Hop::Incident => 20,
            Hop::Restart | Hop::Healthy | Hop::Recorded => 60,
        })
    }

    fn lost(self) -> &'static str {
        match self {
            Hop::Unhealthy => {
                "Docker never called the broken container unhealthy: docker inspect shows its health checks"
            }
            Hop::Alert => {
                "no alert reached Alertmanager: the healer posts one itself, see ./nexus logs healer; Prometheus does too, see \
                 ContainerUnhealthy under its /alerts, and whether the exporter's target is up"
            }
            Hop::Incident => {
                "Alertmanager has the alert, the healer opened no incident: is there a silence? see ./nexus logs alertmanager healer"
            }
            Hop::Restart => "the healer opened an incident and did not restart the container",
            Hop::Healthy => "the container was restarted and did not become healthy",
            Hop::Recorded => "the incident did not reach Postgres: ./nexus status shows how it is",
        }
    }
}

/// Something that happened on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Sight {
    at: Timestamp,
    what: String,
    hop: Option<Hop>,
}

/// What was seen so far of the broken service.
#[derive(Default)]
struct Seen {
    docker: Vec<Event>,
    /// Since when the rule fires in Prometheus.
    rule: Option<Timestamp>,
    /// Since when Alertmanager has an alert for the service.
    alert: Option<Timestamp>,
    incident: Option<IncidentDetail>,
}

pub async fn run(home: &Home, keep: bool) -> Result<()> {
    let stack = home.get("NEXUS_STACK").to_owned();
    let image = home.get("NEXUS_IMAGE_NEXUS").to_owned();
    if image.is_empty() {
        bail!("there is no image to start from: run ./nexus up first");
    }
    let project = Project {
        name: format!("{stack}-demo"),
        file: COMPOSE,
        variables: vec![("NEXUS_DEMO_IMAGE", image), ("NEXUS_DEMO_STACK", stack)],
    };
    // The stack must be there before anything is started.
    let _: ServiceList = Part::healer_to_read(home)?.get("/api/v1/services", &[]).await?;
    let result = tokio::select! {
        result = show(home, &project) => result,
        signal = tokio::signal::ctrl_c() => match signal {
            Ok(()) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error).context("cannot listen for Ctrl-C"),
        },
    };
    let ending = if keep && result.is_ok() {
        print(&format!("It keeps running. Remove it with: {} compose -p {} down\n", docker::word(), project.name))
    } else {
        // What went wrong before counts more than a failed clean-up.
        project
            .compose(&["down", "--timeout", "2", "--volumes"])
            .await
            .map(drop)
            .context("cannot remove the demo project")
    };
    result.and(ending)
}

async fn show(home: &Home, project: &Project) -> Result<()> {
    print(&format!("Starting the sample project {} …\n", project.name))?;
    // A fresh container, also after an earlier --keep.
    project.compose(&["up", "--detach", "--wait", "--wait-timeout", "60", "--force-recreate"]).await?;
    let container = project.compose(&["ps", "--quiet", SERVICE]).await?.trim().to_owned();
    healed_mode(home, &project.name).await?;
    let events = Events::follow(&container)?;

    let broken_at = Timestamp::now();
    docker(&["exec", &container, "touch", "/tmp/broken"]).await.context("cannot break the sample project")?;
    print(&format!("{}/{SERVICE} is healthy. Breaking it now.\n\n   0.0 s  broken on purpose\n", project.name))?;

    let mut printed = BTreeSet::new();
    let mut hops = Hop::ALL.into_iter().peekable();
    let mut since = Instant::now();
    let mut seen = Seen::default();
    loop {
        seen.docker = events.so_far();
        look(home, &project.name, broken_at, &mut seen).await?;
        let sights = sights(&seen, broken_at);
        for sight in &sights {
            if printed.insert(sight.what.clone()) {
                let after = sight.at.duration_since(broken_at).as_millis().max(0);
                print(&format!("{:>4}.{} s  {}\n", after / 1000, after % 1000 / 100, plain(&sight.what)))?;
            }
        }
        while hops.next_if(|hop| sights.iter().any(|sight| sight.hop == Some(*hop))).is_some() {
            since = Instant::now();
        }
        let closed = seen.incident.as_ref().is_some_and(|detail| detail.incident.state == IncidentState::Closed);
        match hops.peek() {
            Some(hop) if since.elapsed() > hop.limit() => bail!("{}", lost(*hop, &seen)),
            Some(_) => {}
            None if closed && recorded(&seen).is_some() || since.elapsed() > CLOSING => break,
            None => {}
        }
        tokio::time::sleep(POLL).await;
    }
    if let Some(detail) = &seen.incident {
        let still = if detail.incident.state == IncidentState::Closed { "" } else { " (still being watched)" };
        print(&format!("\nThe whole story{still}: ./nexus incidents {}\n", short_id(&detail.incident)))?;
    }
    Ok(())
}

/// Waits until the healer knows the project, and makes sure that it may act: an earlier switch would be in the way.
async fn healed_mode(home: &Home, project: &str) -> Result<()> {
    let healer = Part::healer_to_read(home)?;
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        let known: ServiceList = healer.get("/api/v1/services", &[]).await?;
        match known.services.iter().find(|service| service.project == project && service.service == SERVICE) {
            Some(service) if service.mode == Mode::Heal => return Ok(()),
            Some(service) => bail!(
                "healing is {} for {project}/{SERVICE}: take that back with ./nexus heal clear {project}/{SERVICE}",
                service.mode
            ),
            None if Instant::now() > deadline => {
                bail!("the healer does not see the sample project: ./nexus status tells why")
            }
            None => tokio::time::sleep(POLL).await,
        }
    }
}

/// Asks everybody once. A part that does not answer just now is asked again in the next round.
async fn look(home: &Home, project: &str, since: Timestamp, seen: &mut Seen) -> Result<()> {
    #[derive(Deserialize)]
    struct Rules {
        data: Alerts,
    }
    #[derive(Deserialize)]
    struct Alerts {
        alerts: Vec<Firing>,
    }
    #[derive(Deserialize)]
    struct Firing {
        labels: std::collections::BTreeMap<String, String>,
        #[serde(rename = "activeAt")]
        active_at: Timestamp,
        state: String,
    }
    #[derive(Deserialize)]
    struct Alert {
        #[serde(rename = "startsAt")]
        starts_at: Timestamp,
    }
    let (prometheus, alertmanager, healer) =
        (Part::prometheus(home)?, Part::alertmanager(home)?, Part::healer_to_read(home)?);
    if seen.rule.is_none() {
        let rules = prometheus.get::<Rules>("/api/v1/alerts", &[]).await;
        seen.rule = rules.ok().and_then(|rules| {
            let ours = |firing: &Firing| {
                firing.state == "firing"
                    && firing.labels.get("project").is_some_and(|found| found == project)
                    && firing.labels.contains_key("heal")
            };
            rules.data.alerts.into_iter().find(ours).map(|firing| firing.active_at)
        });
    }
    if seen.alert.is_none() {
        let filter = [("filter", format!("project=\"{project}\"")), ("filter", "heal=\"restart\"".to_owned())];
        let filter: Vec<(&str, &str)> = filter.iter().map(|(key, value)| (*key, value.as_str())).collect();
        let alerts = alertmanager.get::<Vec<Alert>>("/api/v2/alerts", &filter).await;
        seen.alert =
            alerts.ok().and_then(|alerts| alerts.into_iter().map(|alert| alert.starts_at).find(|at| *at >= since));
    }
    let id = match &seen.incident {
        Some(detail) => Some(detail.incident.id),
        None => {
            let asked = [("project", project), ("service", SERVICE), ("limit", "1")];
            let list = healer.get::<IncidentList>("/api/v1/incidents", &asked).await;
            list.ok().and_then(|list| list.incidents.into_iter().find(|one| one.opened_at >= since)).map(|one| one.id)
        }
    };
    if let Some(id) = id
        && let Ok(detail) = healer.get(&format!("/api/v1/incidents/{id}"), &[]).await
    {
        seen.incident = Some(detail);
    }
    Ok(())
}

fn recorded(seen: &Seen) -> Option<Timestamp> {
    seen.incident.as_ref().and_then(|detail| detail.incident.recorded_at)
}

/// Everything that happened so far, in order of time. Pure.
fn sights(seen: &Seen, broken_at: Timestamp) -> Vec<Sight> {
    let mut all = Vec::new();
    let mut see = |at: Timestamp, what: &str, hop: Option<Hop>| all.push(Sight { at, what: what.to_owned(), hop });
    let mut restarted = false;
    for event in seen.docker.iter().filter(|event| event.at >= broken_at) {
        match event.action.as_str() {
            "health_status: unhealthy" => see(event.at, "Docker says unhealthy", Some(Hop::Unhealthy)),
            "restart" => {
                restarted = true;
                see(event.at, "Docker has restarted it", Some(Hop::Restart));
            }
            "health_status: healthy" if restarted => see(event.at, "Docker says healthy", Some(Hop::Healthy)),
            _ => {}
        }
    }
    if let Some(at) = seen.rule {
        see(at, "Prometheus: the alert ContainerUnhealthy fires", None);
    }
    if let Some(at) = seen.alert {
        see(at, "Alertmanager has the alert", Some(Hop::Alert));
    }
    if let Some(detail) = &seen.incident {
        // The healer was called, so the alert was there, even if it came and went between two looks.
        if seen.alert.is_none() {
            see(detail.incident.opened_at, "Alertmanager passed the alert on", Some(Hop::Alert));
        }
        see(detail.incident.opened_at, "the healer opens an incident", Some(Hop::Incident));
        for event in detail.events.iter().filter(|event| event.kind != "opened") {
            see(event.at, &format!("healer: {}", event.detail), None);
        }
        if let Some(at) = detail.incident.recorded_at {
            let state = if detail.incident.state == IncidentState::Closed { "closed incident" } else { "incident" };
            see(at, &format!("the {state} is in Postgres"), Some(Hop::Recorded));
        }
    }
    // Stable: what happens at the same moment stays in the order of the way.
    all.sort_by_key(|sight| sight.at);
    all
}

fn lost(hop: Hop, seen: &Seen) -> String {
    let refusal = seen.incident.as_ref().and_then(|detail| detail.incident.refusal);
    match refusal {
        Some(refusal) if hop == Hop::Restart => format!("{}: {}", hop.lost(), refusal.words()),
        _ => format!("not seen within {} s: {}", hop.limit().as_secs(), hop.lost()),
    }
}

#[cfg(test)]
mod tests {
    use nexus_model::Refusal;

    use super::*;
    use crate::incidents::tests::incident;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn event(second: i64, action: &str) -> Event {
        Event { at: at(second), action: action.into(), service: "web".into() }
    }

    #[test]
    fn the_way_is_told_in_order_and_each_hop_counts_once() {
        let mut incident = incident(IncidentState::Stabilising);
        incident.opened_at = at(1_003);
        incident.recorded_at = Some(at(1_006));
        let seen = Seen {
            docker: vec![
                event(990, "health_status: unhealthy"),
                event(1_001, "health_status: unhealthy"),
                event(1_002, "health_status: healthy"),
                event(1_004, "restart"),
                event(1_005, "health_status: healthy"),
            ],
            rule: None,
            alert: None,
            incident: Some(IncidentDetail { incident, attempts: Vec::new(), evidence: Vec::new(), events: Vec::new() }),
        };
        let hops: Vec<Hop> = sights(&seen, at(1_000)).into_iter().filter_map(|sight| sight.hop).collect();
        assert_eq!(hops, Hop::ALL);
    }

    #[test]
    fn a_refusal_explains_a_missing_restart() {
        let mut incident = incident(IncidentState::Suspect);
        incident.refusal = Some(Refusal::HostLimit);
        let detail = IncidentDetail { incident, attempts: Vec::new(), evidence: Vec::new(), events: Vec::new() };
        let seen = Seen { incident: Some(detail), ..Seen::default() };
        assert!(lost(Hop::Restart, &seen).ends_with("too many restarts on this machine just now"));
        assert!(lost(Hop::Alert, &Seen::default()).starts_with("not seen within 60 s: no alert reached Alertmanager"));
    }

    #[test]
    fn the_sample_project_is_healable_and_of_this_stack() {
        let file: serde_json::Value = serde_saphyr::from_str(COMPOSE).unwrap();
        let labels = &file["services"][SERVICE]["labels"];
        assert_eq!(labels[nexus_model::labels::HEAL], "true");
        assert_eq!(labels[nexus_model::labels::STACK], "${NEXUS_DEMO_STACK:?}");
    }
}
