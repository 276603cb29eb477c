//! What an owner asks of the healer about one service, and tells it to do: `nexus why`, `heal now`, `heal plan`, `ack`, `pause`
//! and `resume`.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};
use jiff::Timestamp;
use nexus_model::api::{ContainerView as Seen, IncidentDetail, IncidentList};
use nexus_model::control::{
    Acknowledge, HealNow, HealNowAccepted, PAUSE_SECONDS_LIMIT, Pause, PauseList, PauseWanted, PlanList, ServiceDetail,
    ServiceLogs,
};
use nexus_model::{Attempt, AttemptOutcome, Incident, IncidentState, Mode, Refusal};

use crate::failure::mistake;
use crate::heal::{Target, source_words};
use crate::home::Home;
use crate::http::{HttpError, Part, segment};
use crate::incidents;
use crate::names::{self, ServiceName};
use crate::text::{Paint, ago, count, duration, local, plain, shorten, table};

/// How long `heal now --wait` looks on: longer than a stop time-out and a slow start take.
const WAIT: Duration = Duration::from_secs(15 * 60);
/// Between two looks at the incident.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// `PROJECT/SERVICE`, and nothing less.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OneService {
    pub project: String,
    pub service: String,
}

impl std::str::FromStr for OneService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<Target>() {
            Ok(Target { project, service: Some(service) }) => Ok(OneService { project, service }),
            _ => Err("must be PROJECT/SERVICE; `./nexus services` lists them".into()),
        }
    }
}

impl OneService {
    fn path(&self) -> String {
        format!("/api/v1/services/{}/{}", segment(&self.project), segment(&self.service))
    }

    fn name(&self) -> String {
        format!("{}/{}", self.project, self.service)
    }
}

/// The length of a pause: `90s`, `30m`, `2h` or `3d`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PauseLength(pub u64);

impl std::str::FromStr for PauseLength {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let units = [('s', 1), ('m', 60), ('h', 3600), ('d', 86_400)];
        let seconds = units.iter().find_map(|(unit, factor)| {
            let number: u64 = text.strip_suffix(*unit)?.parse().ok()?;
            number.checked_mul(*factor)
        });
        match seconds {
            Some(seconds) if (1..=PAUSE_SECONDS_LIMIT).contains(&seconds) => Ok(PauseLength(seconds)),
            _ => Err("must be a time such as 30m, 2h or 3d, and 30d at most".into()),
        }
    }
}

/// The service that is meant, as the healer sees it.
pub async fn detail(home: &Home, name: &ServiceName) -> Result<(OneService, ServiceDetail)> {
    let healer = Part::healer_to_read(home)?;
    let one = names::resolve(&healer, name).await?;
    let answer = healer.get(&one.path(), &[]).await;
    let detail = names::or_meant(&healer, &one.project, Some(&one.service), answer).await?;
    Ok((one, detail))
}

/// The pauses that cover a service beside the one that holds longest, which its story has: each has a reason of its own. Who can't
/// tell them has told that one.
pub async fn more_pauses(home: &Home, detail: &ServiceDetail) -> Vec<Pause> {
    let (Some(told), Ok(healer)) = (&detail.pause, Part::healer_to_read(home)) else { return Vec::new() };
    let list = healer.get::<PauseList>("/api/v1/pauses", &[]).await;
    let view = &detail.service;
    others(list.map(|list| list.pauses).unwrap_or_default(), told, &view.project, &view.service)
}

fn others(mut all: Vec<Pause>, told: &Pause, project: &str, service: &str) -> Vec<Pause> {
    all.retain(|pause| {
        pause.project.as_deref().is_none_or(|name| name == project)
            && pause.service.as_deref().is_none_or(|name| name == service)
            && pause.target() != told.target()
    });
    all
}

pub async fn logs(home: &Home, one: &OneService, lines: u32) -> Result<String> {
    let lines = lines.to_string();
    let path = format!("{}/logs", one.path());
    let logs: ServiceLogs = Part::healer_to_read(home)?.get(&path, &[("tail", &lines)]).await?;
    Ok(logs_text(&logs))
}

fn logs_text(logs: &ServiceLogs) -> String {
    let mut out = String::new();
    for log in &logs.containers {
        let more = if log.truncated { ", the end of it" } else { "" };
        out.push_str(&format!("\nLOG OF {}{more}\n", plain(&log.container.name)));
        if let Some(error) = &log.error {
            out.push_str(&format!("not to be had: {}\n", plain(error)));
        } else if log.lines.is_empty() {
            out.push_str("empty\n");
        }
        out.extend(log.lines.iter().map(|line| format!("{}\n", plain(line))));
    }
    out
}

/// The story of a service: how it is, why nothing or something is done, what comes next, what a person can do.
pub fn why_text(detail: &ServiceDetail, pauses: &[Pause], now: Timestamp, paint: Paint) -> String {
    let view = &detail.service;
    let name = format!("{}/{}", view.project, view.service);
    let mut out = format!("{}\n", paint.bold(&plain(&verdict(detail, &name))));
    let mut line = |label: &str, text: String| out.push_str(&format!("{label:<12}{}\n", plain(&text)));
    for container in &view.containers {
        let since = container.started_at.map_or_else(String::new, |at| format!(", started {}", ago(at, now)));
        let restarts = match container.restart_count {
            ..=0 => String::new(),
            1 => ", restarted once by Docker".to_owned(),
            times => format!(", restarted {times} times by Docker"),
        };
        let Seen { name, state, health, .. } = container;
        line("container", format!("{name}: {state}, health {health}{since}{restarts}"));
    }
    line("mode", format!("{} ({})", view.mode, source_words(view.mode_source)));
    if let Some(refusal) = view.refusal {
        line("note", refusal.words().to_owned());
    }
    if let Some(incident) = &detail.incident {
        let opened = ago(incident.opened_at, now);
        line("incident", format!("{} {}: {}", incidents::short_id(incident), opened, incident.problem));
        if let Some(diagnosis) = incident.diagnosis.as_ref().filter(|known| !known.summary.is_empty()) {
            line("cause", diagnosis.summary.clone());
        }
        if let Some(at) = incident.acknowledged_at {
            line("known", format!("acknowledged {}", ago(at, now)));
        }
    }
    if let Some(stuck) = view.stuck.as_ref().filter(|_| detail.incident.is_some()) {
        line("now", stuck.clone());
    }
    for obstacle in &detail.waits_for {
        line("needs", format!("{}/{}, which is not well: {}", obstacle.project, obstacle.service, obstacle.problem));
    }
    for budget in detail.budgets.iter().filter(|budget| budget.spent > 0) {
        let of = count(budget.of, "restart");
        line("budget", format!("{}: {} of {of} spent", budget.container, budget.spent));
    }
    for pause in detail.pause.iter().chain(pauses) {
        line("paused", pause_words(pause, now));
    }
    let due = detail
        .plan
        .until
        .map_or_else(String::new, |at| format!(" (in {} at the latest)", duration(at.duration_since(now))));
    line("next", format!("{}{due}", detail.plan.text));
    if let Some(last) = &detail.last {
        let outcome = last.outcome.map_or_else(String::new, |outcome| outcome.to_string().replace('_', " "));
        let closed = last.closed_at.map_or_else(String::new, |at| format!("{}, ", ago(at, now)));
        line("last time", format!("{closed}{outcome} ({})", last.problem));
    }
    if let Some(record) = &detail.shadow {
        line("watched", record.sentence.clone());
    }
    for command in commands(detail, &name) {
        line("to act", command);
    }
    out
}

fn verdict(detail: &ServiceDetail, name: &str) -> String {
    match (&detail.incident, detail.waits_for.first()) {
        (Some(incident), Some(root)) if incident.state == IncidentState::Blocked => {
            format!("{name} is blocked: waits for {}/{} ({})", root.project, root.service, root.problem)
        }
        (Some(incident), _) => format!("{name} {}", standing(incident)),
        (None, _) => match (detail.plan.reason, &detail.service.stuck) {
            (_, Some(stuck)) => format!("{name} is not well: {stuck}"),
            (Some(Refusal::AlreadyWell), None) => format!("{name} is well"),
            (Some(why @ Refusal::DockerRestarting), None) => format!("{name} is not well: {}", why.words()),
            (Some(why), None) => format!("{name} has no incident: {}", why.words()),
            (None, None) => format!("{name} is ill, and no incident is open yet"),
        },
    }
}

/// How it stands with a service that has an incident, and why nothing is done, as far as the state does not say it.
fn standing(incident: &Incident) -> String {
    let state = match incident.state {
        IncidentState::Suspect => "is ill",
        IncidentState::Blocked => "is blocked",
        IncidentState::Watching if incident.refusal == Some(Refusal::AlreadyWell) => {
            "is watched, and well at the moment"
        }
        IncidentState::Watching => "is ill, and is only watched",
        IncidentState::Backoff => "is ill",
        IncidentState::Restarting => "is being restarted",
        IncidentState::Verifying => "was restarted: whether that helped is being judged",
        IncidentState::Stabilising => "is well again, and has to stay so for a while",
        IncidentState::GaveUp if incident.refusal == Some(Refusal::AlreadyWell) => {
            "was given up, and is well at the moment"
        }
        IncidentState::GaveUp => "was given up",
        IncidentState::Relieving => "is short of room, which is being made",
        IncidentState::Closed => "is no longer ill",
    };
    let said = [Refusal::AlreadyWell, Refusal::Verifying, Refusal::ShadowMode];
    let why = incident.refusal.filter(|why| !said.contains(why));
    // A state that is a sentence of its own already.
    let says_all =
        matches!(incident.state, IncidentState::Verifying | IncidentState::Stabilising | IncidentState::Closed);
    match why.filter(|_| !says_all) {
        Some(why) => format!("{state}: {}", why.words()),
        None => state.to_owned(),
    }
}

/// What a person can type.
fn commands(detail: &ServiceDetail, name: &str) -> Vec<String> {
    let mut commands = Vec::new();
    if detail.service.is_own() {
        return commands;
    }
    if let Some(incident) = &detail.incident {
        let id = incidents::short_id(incident);
        commands.push(format!("./nexus incidents {id}"));
        commands.push(format!("./nexus heal now {name}"));
        match (incident.state, incident.acknowledged_at) {
            (IncidentState::GaveUp, None) => {
                commands.push(format!("./nexus ack {id}, or with --retry for another go"));
            }
            // It is known already: what is left is another go.
            (IncidentState::GaveUp, Some(_)) => commands.push(format!("./nexus ack {id} --retry")),
            _ => {}
        }
    }
    if let Some(pause) = &detail.pause {
        let target = pause.project.as_ref().map_or_else(String::new, |_| format!(" {}", pause.target()));
        commands.push(format!("./nexus resume{target}"));
    }
    let stuck = detail.service.stuck.is_some();
    if stuck && detail.service.containers.iter().any(|container| container.state != "created") {
        commands.push(format!("./nexus why {name} --logs"));
    }
    // Healing does not act on what is only stuck: to switch it on would mend nothing.
    if detail.service.mode != Mode::Heal && (!stuck || detail.incident.is_some()) {
        commands.push(format!("./nexus heal on {name}"));
    }
    commands
}

/// `nexus heal now`. With `wait`, until the attempt has an outcome: an error when it did not help.
pub async fn heal_now(home: &Home, name: &ServiceName, force: bool, wait: bool) -> Result<String> {
    let healer = Part::healer(home)?;
    let one = names::resolve(&healer, name).await?;
    let answer = healer.post_for(&format!("{}/heal", one.path()), &HealNow { force }).await;
    let accepted: HealNowAccepted = names::or_meant(&healer, &one.project, Some(&one.service), answer).await?;
    let containers = accepted.containers.join(", ");
    let id = accepted.incident;
    if !wait {
        return Ok(format!("{} is restarted next: ./nexus incidents {id}\n", plain(&containers)));
    }
    let began = Instant::now();
    while began.elapsed() < WAIT {
        let detail: IncidentDetail = healer.get(&format!("/api/v1/incidents/{id}"), &[]).await?;
        if let Some(end) = ended(&detail, &accepted) {
            return end.map(|text| format!("{}\n", plain(&text)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!("{}: no outcome within {} min; ./nexus incidents {id} tells how it goes", one.name(), WAIT.as_secs() / 60)
}

/// How the attempts that were asked for ended, once all have.
fn ended(detail: &IncidentDetail, accepted: &HealNowAccepted) -> Option<Result<String>> {
    let ours: Vec<&Attempt> =
        detail.attempts.iter().filter(|attempt| attempt.number > accepted.attempts_before).collect();
    let outcomes: Vec<AttemptOutcome> = ours.iter().filter_map(|attempt| attempt.outcome).collect();
    let closed = detail.incident.state == IncidentState::Closed;
    let over = detail.events.iter().rfind(|event| ["heal_now_over", "heal_now"].contains(&event.kind.as_str()));
    let lapsed = over.filter(|event| event.kind == "heal_now_over");
    if outcomes.len() < accepted.containers.len() && !closed && lapsed.is_none() {
        return None;
    }
    if let Some(bad) = ours.iter().find(|attempt| attempt.outcome.is_some_and(|it| it != AttemptOutcome::Helped)) {
        let why = bad.detail.as_deref().unwrap_or("nothing more is known");
        return Some(Err(anyhow::anyhow!("attempt {} did not help: {why}", bad.number)));
    }
    if let Some(event) = lapsed {
        return Some(Err(anyhow::anyhow!("{}", event.detail)));
    }
    if outcomes.is_empty() {
        return Some(Err(anyhow::anyhow!("the incident ended before an attempt was made")));
    }
    Some(Ok(format!("it helped: {} restarted, and well since", accepted.containers.join(", "))))
}

/// The answer to what was asked about a target, if about one.
async fn of_target<T>(healer: &Part, target: Option<&Target>, answer: Result<T, HttpError>) -> Result<T> {
    match target {
        Some(target) => names::or_meant(healer, &target.project, target.service.as_deref(), answer).await,
        None => Ok(answer?),
    }
}

pub async fn plan(home: &Home, target: Option<&Target>) -> Result<String> {
    let mut query = Vec::new();
    query.extend(target.map(|target| ("project", target.project.as_str())));
    query.extend(target.and_then(|target| target.service.as_deref()).map(|service| ("service", service)));
    let healer = Part::healer_to_read(home)?;
    let plans: PlanList = of_target(&healer, target, healer.get("/api/v1/plan", &query).await).await?;
    let rows: Vec<Vec<String>> = plans
        .plans
        .iter()
        .filter(|plan| plan.reason != Some(Refusal::OwnStack))
        .map(|plan| vec![format!("{}/{}", plan.project, plan.service), plan.text.clone()])
        .collect();
    let text = table(&["SERVICE", "WOULD NOW"], &rows);
    Ok(if text.is_empty() { "No service is looked after here.\n".to_owned() } else { text })
}

/// `nexus ack`: by the id of an incident, the end of it, or the service that it is about.
pub async fn acknowledge(home: &Home, what: &str, retry: bool, note: Option<String>) -> Result<String> {
    let healer = Part::healer(home)?;
    let id = match what.parse::<OneService>() {
        Ok(one) => {
            let query = [("project", one.project.as_str()), ("service", one.service.as_str()), ("limit", "1")];
            let list: IncidentList = healer.get("/api/v1/incidents", &query).await?;
            match list.incidents.into_iter().find(|incident| incident.state.is_open()) {
                Some(incident) => incident.id,
                None => return Err(mistake(format!("{what} has no open incident"))),
            }
        }
        Err(_) => incidents::find(&healer, what).await?,
    };
    let incident: Incident =
        healer.post_for(&format!("/api/v1/incidents/{id}/ack"), &Acknowledge { retry, note }).await?;
    let name = plain(&format!("{}/{}", incident.project, incident.service));
    Ok(match (retry, incident.state) {
        (true, _) => format!("{name} is tried again with a fresh budget\n"),
        (false, IncidentState::GaveUp) => {
            format!(
                "{name}: nobody is told any more, and it is left alone until it is well, recreated, or acknowledged with --retry\n"
            )
        }
        (false, _) => format!("{name}: nobody is told any more, unless the healer gives up\n"),
    })
}

pub async fn pause(
    home: &Home,
    target: Option<Target>,
    length: Option<PauseLength>,
    reason: Option<String>,
    now: Timestamp,
) -> Result<String> {
    let (project, service) = target.clone().map_or((None, None), |target| (Some(target.project), target.service));
    let wanted = PauseWanted { project, service, for_seconds: length.map(|length| length.0), reason };
    let healer = Part::healer(home)?;
    let list: PauseList = of_target(&healer, target.as_ref(), healer.put("/api/v1/pauses", &wanted).await).await?;
    Ok(pauses_text(&list, now))
}

pub async fn pauses(home: &Home, now: Timestamp) -> Result<String> {
    let list: PauseList = Part::healer_to_read(home)?.get("/api/v1/pauses", &[]).await?;
    Ok(pauses_text(&list, now))
}

pub async fn resume(home: &Home, target: Option<&Target>, now: Timestamp) -> Result<String> {
    let mut query = Vec::new();
    query.extend(target.map(|target| ("project", target.project.as_str())));
    query.extend(target.and_then(|target| target.service.as_deref()).map(|service| ("service", service)));
    let list: PauseList = Part::healer(home)?.delete("/api/v1/pauses", &query).await?;
    Ok(pauses_text(&list, now))
}

fn pauses_text(list: &PauseList, now: Timestamp) -> String {
    let row = |pause: &Pause| {
        let left = duration(pause.until.duration_since(now));
        vec![pause.target(), left, local(pause.until), shorten(pause.reason.as_deref().unwrap_or_default(), 60)]
    };
    let rows: Vec<Vec<String>> = list.pauses.iter().map(row).collect();
    let text = table(&["PAUSED", "FOR", "UNTIL", "REASON"], &rows);
    if text.is_empty() { "Nothing is paused.\n".to_owned() } else { text }
}

fn pause_words(pause: &Pause, now: Timestamp) -> String {
    let reason = pause.reason.as_ref().map_or_else(String::new, |reason| format!(": {reason}"));
    format!("{} for {}{reason}", pause.target(), duration(pause.until.duration_since(now)))
}

#[cfg(test)]
mod tests {
    use nexus_model::api::{ContainerView, ModeSource, ServiceView};
    use nexus_model::control::{Budget, Obstacle, Plan, Step};

    use super::*;
    use crate::incidents::tests::incident;

    fn blocked() -> ServiceDetail {
        let mut open = incident(IncidentState::Blocked);
        open.refusal = Some(Refusal::DependencyDown);
        ServiceDetail {
            service: ServiceView {
                project: "photos".into(),
                service: "web".into(),
                mode: Mode::Heal,
                mode_source: ModeSource::Label,
                refusal: None,
                containers: vec![ContainerView {
                    name: "photos-web-1".into(),
                    image: "web".into(),
                    state: "running".into(),
                    health: "unhealthy".into(),
                    started_at: None,
                    restart_count: 0,
                }],
                incident: Some(IncidentState::Blocked),
                paused_until: None,
                today: None,
                stuck: None,
            },
            incident: Some(open),
            waits_for: vec![Obstacle {
                project: "photos".into(),
                service: "db".into(),
                problem: "exited\u{1b}[2J with code 1".into(),
                reason: Refusal::DependencyDown,
            }],
            budgets: vec![Budget { container: "photos-web-1".into(), spent: 2, of: 6 }],
            plan: Plan {
                project: "photos".into(),
                service: "web".into(),
                step: Step::Block,
                reason: Some(Refusal::DependencyDown),
                until: None,
                container: None,
                text: "wait until photos/db is well".into(),
                incident: Some(IncidentState::Blocked),
            },
            pause: None,
            last: None,
            shadow: None,
        }
    }

    #[test]
    fn each_pause_that_covers_a_service_is_told() {
        let pause = |project: Option<&str>, service: Option<&str>, reason: &str| Pause {
            project: project.map(str::to_owned),
            service: service.map(str::to_owned),
            since: Timestamp::UNIX_EPOCH,
            until: Timestamp::from_second(60).unwrap(),
            reason: Some(reason.to_owned()),
        };
        let all = vec![
            pause(None, None, "a new router"),
            pause(Some("blog"), None, "not this"),
            pause(Some("photos"), Some("db"), "nor this"),
            pause(Some("photos"), Some("web"), "an upgrade"),
        ];
        let mut detail = blocked();
        detail.pause = Some(all[3].clone());
        let more = others(all.clone(), &all[3], "photos", "web");
        assert_eq!(more, all[..1]);
        let text = why_text(&detail, &more, Timestamp::UNIX_EPOCH, Paint::NONE);
        assert!(
            text.contains("photos/web for 60 s: an upgrade\npaused      everything for 60 s: a new router\n"),
            "{text}"
        );
    }

    #[test]
    fn what_is_acknowledged_is_not_offered_to_be_acknowledged_again() {
        let offered = |acknowledged_at| {
            let mut detail = blocked();
            let incident = detail.incident.as_mut().unwrap();
            (incident.state, incident.acknowledged_at) = (IncidentState::GaveUp, acknowledged_at);
            commands(&detail, "photos/web").into_iter().filter(|it| it.contains(" ack ")).collect::<Vec<_>>()
        };
        let id = incidents::short_id(blocked().incident.as_ref().unwrap());
        assert_eq!(offered(None), [format!("./nexus ack {id}, or with --retry for another go")]);
        assert_eq!(offered(Some(Timestamp::UNIX_EPOCH)), [format!("./nexus ack {id} --retry")]);
    }

    #[test]
    fn the_story_says_why_what_is_next_and_what_to_type() {
        let text = why_text(&blocked(), &[], Timestamp::UNIX_EPOCH, Paint::NONE);
        for part in [
            "photos/web is blocked: waits for photos/db (exited\u{fffd}[2J with code 1)\n",
            "container   photos-web-1: running, health unhealthy\n",
            "mode        heal (label nexus.heal)\n",
            "budget      photos-web-1: 2 of 6 restarts spent\n",
            "next        wait until photos/db is well\n",
            "to act      ./nexus heal now photos/web\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        let mut standing = blocked();
        standing.waits_for.clear();
        for (state, refusal, told) in [
            (IncidentState::GaveUp, Some(Refusal::BudgetSpent), "was given up: all attempts are spent"),
            (IncidentState::GaveUp, Some(Refusal::AlreadyWell), "was given up, and is well at the moment"),
            (IncidentState::Suspect, Some(Refusal::HostLimit), "is ill: too many restarts on this machine just now"),
            (IncidentState::Backoff, Some(Refusal::CoolingDown), "is ill: waiting before the next attempt"),
            (IncidentState::Watching, Some(Refusal::ShadowMode), "is ill, and is only watched"),
            (IncidentState::Restarting, Some(Refusal::Verifying), "is being restarted"),
            (IncidentState::Verifying, Some(Refusal::Verifying), "was restarted: whether that helped is being judged"),
            (IncidentState::Stabilising, Some(Refusal::AlreadyWell), "is well again, and has to stay so for a while"),
        ] {
            let incident = standing.incident.as_mut().unwrap();
            (incident.state, incident.refusal) = (state, refusal);
            let text = why_text(&standing, &[], Timestamp::UNIX_EPOCH, Paint::NONE);
            assert_eq!(text.lines().next(), Some(&*format!("photos/web {told}")));
        }
        let mut well = blocked();
        (well.incident, well.waits_for) = (None, Vec::new());
        well.plan.reason = Some(Refusal::AlreadyWell);
        let sentence = "would have restarted photos/web once this week, 1 would have helped".to_owned();
        well.shadow = Some(nexus_model::shadow::ShadowRecord { sentence, ..Default::default() });
        let told = why_text(&well, &[], Timestamp::UNIX_EPOCH, Paint::NONE);
        assert!(
            told.contains("\nwatched     would have restarted photos/web once this week, 1 would have helped\n"),
            "{told}"
        );
        assert!(why_text(&well, &[], Timestamp::UNIX_EPOCH, Paint::NONE).starts_with("photos/web is well\n"));
    }

    #[test]
    fn what_docker_restarts_again_and_again_is_told_and_heal_on_is_not_offered() {
        let mut detail = blocked();
        (detail.incident, detail.waits_for) = (None, Vec::new());
        detail.plan.reason = Some(Refusal::DockerRestarting);
        detail.service.mode = Mode::Shadow;
        detail.service.stuck = Some("Docker restarts it again and again: 22 times, last with exit code 3".into());
        let container = &mut detail.service.containers[0];
        (container.state, container.restart_count) = ("restarting".into(), 22);
        let text = why_text(&detail, &[], Timestamp::UNIX_EPOCH, Paint::NONE);
        for part in [
            "photos/web is not well: Docker restarts it again and again: 22 times, last with exit code 3\n",
            "container   photos-web-1: restarting, health unhealthy, restarted 22 times by Docker\n",
            "to act      ./nexus why photos/web --logs\n",
        ] {
            assert!(text.contains(part), "{part:?} is missing in\n{text}");
        }
        assert!(!text.contains("heal on"), "{text}");
        // What an incident is open for may be healed as well.
        detail.incident = blocked().incident;
        let text = why_text(&detail, &[], Timestamp::UNIX_EPOCH, Paint::NONE);
        assert!(text.contains("now         Docker restarts it again and again") && text.contains("heal on"), "{text}");
        // Without the sentence, as an older healer answers.
        (detail.incident, detail.service.stuck) = (None, None);
        let text = why_text(&detail, &[], Timestamp::UNIX_EPOCH, Paint::NONE);
        assert!(text.starts_with("photos/web is not well: Docker is restarting it\n"), "{text}");
    }

    #[test]
    fn lengths_and_services_are_read_strictly() {
        for (text, seconds) in [("90s", 90), ("30m", 1800), ("2h", 7200), ("30d", 2_592_000)] {
            assert_eq!(text.parse(), Ok(PauseLength(seconds)));
        }
        for wrong in ["", "0h", "2", "31d", "-1h", "h", "99999999999999999999d", "18446744073709551615d"] {
            assert!(wrong.parse::<PauseLength>().is_err(), "{wrong}");
        }
        assert_eq!("a/b".parse(), Ok(OneService { project: "a".into(), service: "b".into() }));
        for wrong in ["a", "a/", "/b", "a/b/c", ""] {
            assert!(wrong.parse::<OneService>().is_err(), "{wrong}");
        }
        let odd = OneService { project: "a b".into(), service: "c?d#%".into() };
        assert_eq!(odd.path(), "/api/v1/services/a%20b/c%3Fd%23%25");
    }

    #[test]
    fn pauses_are_listed_with_their_end() {
        let at = |seconds| Timestamp::from_second(seconds).unwrap();
        let (project, reason) = (Some("photos".to_owned()), Some("moving".to_owned()));
        let list = PauseList { pauses: vec![Pause { project, service: None, since: at(0), until: at(7260), reason }] };
        let text = pauses_text(&list, at(0));
        assert!(text.contains("photos  2 h") && text.trim_end().ends_with("moving"), "{text}");
        assert_eq!(pauses_text(&PauseList { pauses: Vec::new() }, at(0)), "Nothing is paused.\n");
    }
}
