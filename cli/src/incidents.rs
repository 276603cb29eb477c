//! `nexus incidents`: the list, and one incident with its whole story.

use anyhow::{Result, anyhow, bail};
use jiff::Timestamp;
use nexus_model::api::{IncidentDetail, IncidentList};
use nexus_model::{Attempt, Confidence, Evidence, EvidenceKind, Incident, IncidentEvent, IncidentState};
use nexus_reporter::incidents::Told;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::failure::mistake;
use crate::home::Home;
use crate::http::{HttpError, Part};
use crate::names;
use crate::text::{Paint, ago, clock, duration, local, plain, shorten, table};

/// What `nexus incidents` without an ID is asked for.
#[derive(Debug, Default)]
pub struct Query {
    pub project: Option<String>,
    pub service: Option<String>,
    pub state: Option<IncidentState>,
    pub limit: u32,
}

pub async fn list(home: &Home, query: &Query) -> Result<Told<IncidentList>> {
    let limit = query.limit.to_string();
    let mut asked = vec![("limit", limit.as_str())];
    asked.extend(query.project.as_deref().map(|project| ("project", project)));
    asked.extend(query.service.as_deref().map(|service| ("service", service)));
    asked.extend(query.state.map(|state| ("state", state.as_str())));
    let healer = Part::healer_to_read(home)?;
    let by_the_healer = healer.get("/api/v1/incidents", &asked).await;
    let list: Told<IncidentList> = told(home, by_the_healer, "/api/v1/incidents", &asked).await?;
    if list.note.is_some() || !list.told.incidents.is_empty() {
        return Ok(list);
    }
    let Some(unknown) = names::unknown(&healer, query.project.as_deref(), query.service.as_deref()).await else {
        return Ok(list);
    };
    // It knows what is on record of what no longer runs.
    let Ok(reporter) = Part::reporter(home) else { bail!(unknown) };
    reporter.get("/api/v1/incidents", &asked).await.map_err(|_: HttpError| anyhow!(unknown))
}

/// The healer's answer; while it does not answer at all, or has forgotten what is long over, that of its copy in Postgres, which the
/// reporter reads.
async fn told<T: DeserializeOwned>(
    home: &Home,
    asked: Result<T, HttpError>,
    path: &str,
    query: &[(&str, &str)],
) -> Result<Told<T>> {
    match asked {
        Ok(told) => Ok(Told::by_the_healer(told)),
        Err(away @ (HttpError::Unreachable { .. } | HttpError::TimedOut { .. })) => {
            // Without a copy either, what is wrong is still that the healer is away.
            Part::reporter(home)?.get(path, query).await.map_err(|_| away.into())
        }
        Err(unknown) if unknown.status() == Some(404) => {
            let Ok(reporter) = Part::reporter(home) else { return Err(unknown.into()) };
            reporter.get(path, query).await.map_err(|_| unknown.into())
        }
        Err(error) => Err(error.into()),
    }
}

/// One incident by its id, or by the last characters of it that the list shows.
pub async fn detail(home: &Home, id: &str) -> Result<Told<IncidentDetail>> {
    let id = match id.parse::<uuid::Uuid>() {
        Ok(id) => id,
        Err(_) => pick(&list(home, &Query { limit: 1000, ..Query::default() }).await?.told.incidents, id)?,
    };
    let path = format!("/api/v1/incidents/{id}");
    told(home, Part::healer_to_read(home)?.get(&path, &[]).await, &path, &[]).await
}

/// Of a log, where not all of it is wanted: the last words say most.
const GIST_LINES: usize = 3;

/// The whole id of an incident that is named by it or by its end.
pub async fn find(healer: &Part, id: &str) -> Result<uuid::Uuid> {
    match id.parse::<uuid::Uuid>() {
        Ok(id) => Ok(id),
        Err(_) => {
            let known: IncidentList = healer.get("/api/v1/incidents", &[("limit", "1000")]).await?;
            pick(&known.incidents, id)
        }
    }
}

fn pick(known: &[Incident], ending: &str) -> Result<uuid::Uuid> {
    let ending = ending.to_ascii_lowercase();
    if !ending.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return Err(mistake(format!(
            "{ending} is no id of an incident: ./nexus incidents lists them, with --project and --service those of one"
        )));
    }
    let mut matching =
        known.iter().filter(|incident| incident.id.to_string().ends_with(&ending)).map(|incident| incident.id);
    match (ending.len() >= 4, matching.next(), matching.next()) {
        (true, Some(id), None) => Ok(id),
        (true, Some(_), Some(_)) => bail!("several incidents end in {ending}: give more of the id"),
        (false, ..) => Err(mistake(format!("{ending} is too short for an id: give at least its last four characters"))),
        (true, None, _) => {
            bail!("no incident ends in {ending} among the newest {}: ./nexus incidents lists them", known.len())
        }
    }
}

/// The random end of the id: its beginning is the time and much the same in neighbours.
pub fn short_id(incident: &Incident) -> String {
    let id = incident.id.to_string();
    id[id.len() - 8..].to_owned()
}

fn state_words(incident: &Incident) -> String {
    match (incident.state, incident.outcome) {
        (IncidentState::Closed, Some(outcome)) => outcome.to_string().replace('_', " "),
        (state, _) => state.to_string().replace('_', " "),
    }
}

/// A table, newest first; empty when there are none.
pub fn rows(incidents: &[Incident], now: Timestamp) -> String {
    let rows: Vec<Vec<String>> = incidents
        .iter()
        .map(|incident| {
            let until = incident.closed_at.unwrap_or(now);
            vec![
                short_id(incident),
                ago(incident.opened_at, now),
                duration(until.duration_since(incident.opened_at)),
                format!("{}/{}", incident.project, incident.service),
                incident.mode.to_string(),
                state_words(incident),
                incident.attempts.to_string(),
                shorten(&incident.problem, 60),
            ]
        })
        .collect();
    table(&["ID", "OPENED", "LASTED", "SERVICE", "MODE", "STATE", "ATTEMPTS", "PROBLEM"], &rows)
}

pub fn list_text(list: &Told<IncidentList>, now: Timestamp) -> String {
    let incidents = &list.told.incidents;
    let note = noted(list.note.as_deref());
    if incidents.is_empty() {
        return format!("{note}No incidents.\n");
    }
    format!("{note}{}One of them in full: ./nexus incidents ID\n", rows(incidents, now))
}

/// That it is the copy, before all else.
pub fn noted(note: Option<&str>) -> String {
    note.map_or_else(String::new, |note| format!("{}.\n\n", plain(note)))
}

/// The story of one incident. Without `whole` only the gist of its evidence, which is a page for each attempt.
pub fn detail_text(detail: &IncidentDetail, whole: bool, now: Timestamp, paint: Paint) -> String {
    let incident = &detail.incident;
    let mut out = paint.bold(&plain(&format!("{}/{}: {}", incident.project, incident.service, incident.problem)));
    out.push('\n');
    let mut line = |name: &str, value: String| out.push_str(&format!("{name:<12}{}\n", plain(&value)));
    line("id", incident.id.to_string());
    line("state", state_words(incident));
    line("mode", incident.mode.to_string());
    // Those of the machine itself are about none.
    if !incident.container_name.is_empty() {
        line("container", format!("{} ({})", incident.container_name, incident.image));
    }
    line("host", incident.host.clone());
    line("alert", incident.alert.clone());
    line("opened", format!("{} ({})", local(incident.opened_at), ago(incident.opened_at, now)));
    if let Some(closed) = incident.closed_at {
        line("closed", format!("{} (after {})", local(closed), duration(closed.duration_since(incident.opened_at))));
    }
    if let Some(known) = incident.acknowledged_at {
        line("known", format!("acknowledged {}", local(known)));
    }
    if let Some(due) = incident.next_attempt_at {
        line("next", format!("attempt in {}", duration(due.duration_since(now))));
    }
    if let Some(refusal) = incident.refusal {
        line("not acting", refusal.words().to_owned());
    }
    if let Some(diagnosis) = &incident.diagnosis {
        let cause = match diagnosis.confidence {
            Confidence::None => "unknown".to_owned(),
            confidence => format!("{} ({confidence})", diagnosis.cause.to_string().replace('_', " ")),
        };
        line("cause", format!("{cause}: {}", diagnosis.summary));
        for fact in &diagnosis.because {
            line("  because", fact.clone());
        }
        if !diagnosis.recommendation.is_empty() {
            line("  to do", diagnosis.recommendation.clone());
        }
    }
    line(
        "Postgres",
        incident.recorded_at.map_or_else(|| "not copied yet".to_owned(), |at| format!("copied {}", local(at))),
    );

    out.push_str(&format!("\n{}\n", paint.bold("TIMELINE")));
    out.push_str(&timeline(&detail.events, incident.opened_at));
    out.push_str(&format!("\n{}\n", paint.bold("ATTEMPTS")));
    out.push_str(&attempts(&detail.attempts));
    out.push_str(&format!("\n{}\n", paint.bold("EVIDENCE")));
    if detail.evidence.is_empty() {
        out.push_str("none\n");
    }
    for evidence in &detail.evidence {
        let body = if whole { Some(indented(&evidence.body, 2)) } else { gist(evidence) };
        out.extend(body.map(|body| format!("{}{body}", evidence_title(evidence, &detail.attempts, paint))));
    }
    if !whole && !detail.evidence.is_empty() {
        out.push_str(&format!("all that was seen: ./nexus incidents {} --evidence\n", short_id(incident)));
    }
    out
}

fn timeline(events: &[IncidentEvent], opened_at: Timestamp) -> String {
    let after = |event: &IncidentEvent| {
        let after = event.at.duration_since(opened_at).as_millis() as f64 / 1000.0;
        format!("{after:+.3} s")
    };
    // Numbers stand under numbers.
    let width = events.iter().map(|event| after(event).len()).max().unwrap_or_default();
    let row = |event: &IncidentEvent| {
        vec![clock(event.at), format!("{:>width$}", after(event)), event.kind.clone(), event.detail.clone()]
    };
    table(&["AT", "AFTER", "EVENT", "DETAIL"], &events.iter().map(row).collect::<Vec<_>>())
}

fn attempts(attempts: &[Attempt]) -> String {
    if attempts.is_empty() {
        return "none\n".to_owned();
    }
    let rows: Vec<Vec<String>> = attempts
        .iter()
        .map(|attempt| {
            let took = attempt.finished_at.map(|finished| {
                let took = finished.duration_since(attempt.intended_at).as_millis();
                format!("{}.{} s", took / 1000, took % 1000 / 100)
            });
            vec![
                attempt.number.to_string(),
                attempt.action.clone(),
                clock(attempt.intended_at),
                took.unwrap_or_else(|| "…".to_owned()),
                attempt.outcome.map_or_else(|| "under way".to_owned(), |outcome| outcome.to_string().replace('_', " ")),
                attempt.detail.clone().unwrap_or_default(),
            ]
        })
        .collect();
    table(&["NO", "ACTION", "AT", "TOOK", "OUTCOME", "DETAIL"], &rows)
}

fn evidence_title(evidence: &Evidence, attempts: &[Attempt], paint: Paint) -> String {
    let title = match evidence.kind {
        EvidenceKind::Inspect => "what Docker said",
        EvidenceKind::HealthLog => "health checks",
        EvidenceKind::Logs => "last lines of the log",
        EvidenceKind::HostVitals => "the machine",
        EvidenceKind::ContainerVitals => "the container and what it needs",
    };
    let attempt = evidence
        .attempt_id
        .and_then(|id| attempts.iter().find(|attempt| attempt.id == id))
        .map(|attempt| format!(" before attempt {}", attempt.number))
        .unwrap_or_default();
    let mut out = paint.dim(&format!("{title}{attempt}, {}", clock(evidence.taken_at)));
    out.push('\n');
    out
}

/// What a person looks at first; `None` where that is nothing. What is not as expected is shown as it is.
fn gist(evidence: &Evidence) -> Option<String> {
    let body = &evidence.body;
    match evidence.kind {
        EvidenceKind::Inspect => {
            let field = |name: &str| body.get(name).filter(|value| !value.is_null()).map(scalar);
            let state = field("state")?;
            let runs = state == "running";
            let mut words = vec![state];
            words.extend(field("health").filter(|health| health != "none"));
            // While it runs it has none yet.
            words.extend(field("exit_code").filter(|_| !runs).map(|code| format!("exit code {code}")));
            words.extend(field("oom_killed").filter(|killed| killed == "true").map(|_| "killed for memory".to_owned()));
            words.extend(field("restart_count").map(|times| format!("restarted by Docker: {times}")));
            words.extend(field("error").filter(|error| error != "-"));
            Some(format!("  {}\n", words.join(", ")))
        }
        EvidenceKind::HealthLog => {
            let last = body.get("probes")?.as_array()?.last()?.clone();
            Some(indented(&Value::Array(vec![last]), 2))
        }
        EvidenceKind::Logs => match body.get("lines").and_then(Value::as_array).map(Vec::as_slice) {
            Some([]) => Some("  empty\n".to_owned()),
            Some(lines) => {
                let last = lines.iter().skip(lines.len().saturating_sub(GIST_LINES));
                Some(last.map(|line| format!("  {}\n", scalar(line))).collect())
            }
            None => Some(indented(body, 2)),
        },
        EvidenceKind::HostVitals | EvidenceKind::ContainerVitals => None,
    }
}

/// JSON as indented lines for people: no quotes and braces, short things on one line. The API gives it exactly.
fn indented(value: &Value, depth: usize) -> String {
    let pad = " ".repeat(depth);
    match value {
        Value::Object(fields) => fields
            .iter()
            .map(|(key, value)| match one_line(value) {
                Some(line) => format!("{pad}{}: {line}\n", plain(key)),
                None => format!("{pad}{}:\n{}", plain(key), indented(value, depth + 2)),
            })
            .collect(),
        Value::Array(items) => items
            .iter()
            .map(|item| one_line(item).map_or_else(|| indented(item, depth), |line| format!("{pad}{line}\n")))
            .collect(),
        other => format!("{pad}{}\n", scalar(other)),
    }
}

/// What is short by nature: a single value, a list of numbers, a record of a few single values.
fn one_line(value: &Value) -> Option<String> {
    let is_single = |value: &Value| !value.is_object() && !value.is_array();
    match value {
        Value::Object(fields) if fields.len() > 4 => None,
        Value::Object(fields) => {
            let single = |(key, value): (&String, &Value)| {
                let lines: Option<Vec<String>> = match value {
                    Value::Array(lines) => lines.iter().map(|line| is_single(line).then(|| scalar(line))).collect(),
                    other => is_single(other).then(|| vec![scalar(other)]),
                };
                Some(format!("{}={}", plain(key), lines?.join(" / ")))
            };
            Some(fields.iter().map(single).collect::<Option<Vec<_>>>()?.join("  "))
        }
        Value::Array(items) => {
            items.iter().all(Value::is_number).then(|| items.iter().map(scalar).collect::<Vec<_>>().join(" "))
        }
        other => Some(scalar(other)),
    }
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) if text.is_empty() => "-".to_owned(),
        Value::String(text) => plain(text),
        Value::Null => "-".to_owned(),
        other => plain(&other.to_string()),
    }
}

#[cfg(test)]
pub mod tests {
    use nexus_model::{AttemptOutcome, Cause, Diagnosis, Mode, Outcome};
    use serde_json::json;

    use super::*;

    pub fn incident(state: IncidentState) -> Incident {
        let at = |second| Timestamp::from_second(second).unwrap();
        let closed = state == IncidentState::Closed;
        Incident {
            id: "01980000-0000-7000-8000-0000deadbeef".parse().unwrap(),
            host: "pi".into(),
            project: "photos".into(),
            service: "web".into(),
            container_name: "photos-web-1".into(),
            image: "nginx:1".into(),
            alert: "ContainerDown".into(),
            mode: Mode::Heal,
            state,
            outcome: closed.then_some(Outcome::Recovered),
            problem: "exited with code 1".into(),
            refusal: None,
            diagnosis: None,
            opened_at: at(1_000),
            last_alert_at: at(1_001),
            closed_at: closed.then(|| at(1_090)),
            attempts: 2,
            failed_attempts: 1,
            next_attempt_at: None,
            acknowledged_at: None,
            revision: 3,
            recorded_at: None,
        }
    }

    #[test]
    fn the_timeline_stands_in_columns() {
        let id: uuid::Uuid = "01980000-0000-7000-8000-0000deadbeef".parse().unwrap();
        let at = |millisecond| Timestamp::from_millisecond(millisecond).unwrap();
        let event = |millisecond, kind: &str, detail: &str| IncidentEvent {
            id,
            incident_id: id,
            at: at(millisecond),
            kind: kind.into(),
            detail: detail.into(),
        };
        let events = [
            event(0, "opened", "exited"),
            event(9_500, "would_have_restarted", "the first\nattempt"),
            event(7_200_250, "closed", "well again"),
        ];
        let told = timeline(&events, at(0));
        let lines: Vec<&str> = told.lines().collect();
        let column = |words: &str| lines.iter().find_map(|line| line.find(words)).unwrap();
        assert_eq!(lines.len(), 4, "{told}");
        assert_eq!(
            [column("DETAIL"), column("exited"), column("the first"), column("well again")],
            [column("DETAIL"); 4]
        );
        assert_eq!([column("opened"), column("would_"), column("closed")], [column("EVENT"); 3], "{told}");
        let seconds: Vec<usize> = lines[1..].iter().map(|line| line.find(" s  ").unwrap()).collect();
        assert_eq!(seconds, [seconds[0]; 3], "{told}");
        assert!(told.contains("+7200.250 s  closed"), "{told}");
    }

    #[test]
    fn ids_are_found_by_their_end() {
        let known = [incident(IncidentState::Closed)];
        assert_eq!(pick(&known, "DEADBEEF").unwrap(), known[0].id);
        assert!(pick(&known, "eef").unwrap_err().to_string().contains("too short"));
        assert!(pick(&known, "0000").unwrap_err().to_string().contains("no incident ends in 0000"));
        assert!(pick(&[known[0].clone(), known[0].clone()], "beef").unwrap_err().to_string().contains("several"));
        assert_eq!(short_id(&known[0]), "deadbeef");
    }

    #[test]
    fn the_list_is_a_table() {
        let now = Timestamp::from_second(1_200).unwrap();
        let list = |incidents| Told::by_the_healer(IncidentList { incidents });
        let two = list(vec![incident(IncidentState::Closed), incident(IncidentState::GaveUp)]);
        assert_eq!(
            list_text(&two, now),
            "ID        OPENED     LASTED  SERVICE     MODE  STATE      ATTEMPTS  PROBLEM\n\
             deadbeef  3 min ago  90 s    photos/web  heal  recovered  2         exited with code 1\n\
             deadbeef  3 min ago  3 min   photos/web  heal  gave up    2         exited with code 1\n\
             One of them in full: ./nexus incidents ID\n"
        );
        assert_eq!(list_text(&list(Vec::new()), now), "No incidents.\n");
        let copy = Told { note: Some("the healer does not answer\u{1b}; this is its copy".into()), ..list(Vec::new()) };
        assert_eq!(list_text(&copy, now), "the healer does not answer\u{fffd}; this is its copy.\n\nNo incidents.\n");
    }

    #[test]
    fn the_story_is_whole_and_harmless() {
        let mut incident = incident(IncidentState::Closed);
        incident.diagnosis = Some(Diagnosis {
            cause: Cause::PortTaken,
            confidence: Confidence::Likely,
            summary: "its port is taken".into(),
            because: vec!["it said: bind\u{1b}".into(), "exit code 1".into()],
            recommendation: "Find who has it.".into(),
            at: incident.opened_at,
        });
        let attempt = Attempt {
            id: incident.id,
            incident_id: incident.id,
            number: 1,
            action: "restart".into(),
            container_id: "c".into(),
            started_at_before: None,
            started_at_after: None,
            intended_at: incident.opened_at,
            finished_at: Some(incident.last_alert_at),
            outcome: Some(AttemptOutcome::DidNotHelp),
            detail: Some("still unhealthy".into()),
            revision: 1,
        };
        let evidence = Evidence {
            id: incident.id,
            incident_id: incident.id,
            attempt_id: Some(attempt.id),
            kind: EvidenceKind::Logs,
            taken_at: incident.opened_at,
            body: json!({"lines": ["a\u{1b}[2Jb", "c"], "limits": {"memory": null}, "load": [1.5, 2.0], "probes": [{"exit": 1, "output": ["no", "way"]}]}),
        };
        let event = IncidentEvent {
            id: incident.id,
            incident_id: incident.id,
            at: incident.last_alert_at,
            kind: "closed".into(),
            detail: "well\nagain".into(),
        };
        let detail =
            IncidentDetail { incident, attempts: vec![attempt], evidence: vec![evidence], events: vec![event] };
        let now = Timestamp::from_second(1_200).unwrap();
        let text = detail_text(&detail, true, now, Paint::NONE);
        for wanted in [
            "photos/web: exited with code 1\n",
            "state       recovered\n",
            "cause       port taken (likely): its port is taken\n",
            "  because   it said: bind\u{fffd}\n  because   exit code 1\n  to do     Find who has it.\n",
            "(after 90 s)\n",
            "+1.000 s  closed  well\u{fffd}again\n",
            "1.0 s  did not help  still unhealthy\n",
            "last lines of the log before attempt 1, ",
            "  lines:\n    a\u{fffd}[2Jb\n    c\n",
            "  limits: memory=-\n  lines:\n",
            "  load: 1.5 2.0\n",
            "  probes:\n    exit=1  output=no / way\n",
        ] {
            assert!(text.contains(wanted), "{wanted:?} is not in\n{text}");
        }
        let gist = detail_text(&detail, false, now, Paint::NONE);
        let end = "\n  a\u{fffd}[2Jb\n  c\nall that was seen: ./nexus incidents deadbeef --evidence\n";
        assert!(gist.ends_with(end), "{gist}");
    }

    #[test]
    fn the_gist_of_evidence_is_a_few_lines() {
        let check = |kind, body, expected: Option<&str>| {
            let id = incident(IncidentState::Closed).id;
            let (taken_at, attempt_id) = (Timestamp::UNIX_EPOCH, None);
            let evidence = Evidence { id, incident_id: id, attempt_id, kind, taken_at, body };
            assert_eq!(gist(&evidence).as_deref(), expected, "{}", evidence.body);
        };
        check(
            EvidenceKind::Inspect,
            json!({"state": "exited", "health": "none", "exit_code": 137, "oom_killed": true, "restart_count": 2, "error": "", "id": "x"}),
            Some("  exited, exit code 137, killed for memory, restarted by Docker: 2\n"),
        );
        check(EvidenceKind::Inspect, json!({"state": "running", "exit_code": 0}), Some("  running\n"));
        check(EvidenceKind::Inspect, json!({"error": "gone"}), None);
        check(EvidenceKind::Logs, json!({"lines": []}), Some("  empty\n"));
        check(EvidenceKind::Logs, json!({"lines": ["a", "b", "c", "d"]}), Some("  b\n  c\n  d\n"));
        check(EvidenceKind::Logs, json!({"error": "no log"}), Some("  error: no log\n"));
        check(
            EvidenceKind::HealthLog,
            json!({"probes": [{"exit": 0}, {"exit": 1, "output": ["no"]}]}),
            Some("  exit=1  output=no\n"),
        );
        check(EvidenceKind::HealthLog, json!({"probes": []}), None);
        check(EvidenceKind::HostVitals, json!({"load": [1, 2, 3]}), None);
    }
}
