//! Asking the parts of the stack: the only place of a report that does I/O. Whatever does not answer is said so in the facts.

pub mod alertmanager;
pub mod docker;
pub mod exporter;
pub mod exposition;
pub mod http;
pub mod machine;
pub mod prometheus;

use std::path::Path;
use std::time::Duration;

use nexus_model::api::{HealerStatus, IncidentList, ServiceList};
use nexus_model::shadow::ShadowReport;

use crate::incidents::Told;
use crate::report::facts::{Answer, Facts, History, INCIDENTS_ASKED, Machine, Measured};
use http::{HttpError, Part};

/// Where the parts are. A part that can't even be asked, such as for want of its token, is the reason.
pub struct Sources {
    pub host: String,
    pub stack: String,
    pub healer: Answer<Part>,
    pub exporter: Part,
    pub prometheus: Part,
    pub alertmanager: Part,
    /// `None` where Grafana is not part of the stack.
    pub grafana: Option<Part>,
    /// `None` where it is not part of the stack, and in the service itself.
    pub reporter: Option<Part>,
    pub history: HistorySource,
    /// Whether who reads the commands of the report has to put sudo before docker, as far as is known.
    pub docker_wants_sudo: bool,
    /// Docker's socket, where it may be asked why nothing answers; `None` in the service, which runs in a container.
    pub docker_socket: Option<std::path::PathBuf>,
    /// The kernel's files: `/proc`, also in a container, where what is read of it is the host's.
    pub procfs: std::path::PathBuf,
}

/// Where the history comes from.
pub enum HistorySource {
    /// The stack keeps none.
    None,
    /// The reporter's service, whose database only it can reach.
    Service(Part),
    /// What the service itself read from the database.
    Known(Answer<History>),
}

/// Where the service gives away what [`HistorySource::Service`] asks for.
pub const HISTORY_PATH: &str = "/api/v1/history/now";

/// When the healer has been silent for so long, its copy of the incidents is asked for beside it: what waits for it in vain has waited for
/// both, and not for one after the other. That is less than a busy Pi may take, which costs one question more.
const HEALER_PATIENCE: Duration = Duration::from_secs(3);

/// Asks all parts at once.
pub async fn gather(sources: &Sources, now: jiff::Timestamp) -> Facts {
    let limit = INCIDENTS_ASKED.to_string();
    let newest = [("limit", limit.as_str())];
    let healer = async {
        let part = match &sources.healer {
            Ok(part) => part,
            Err(reason) => return (Err(reason.clone()), None, None, None),
        };
        let (status, services, incidents, shadow) = tokio::join!(
            part.get::<HealerStatus>("/api/v1/status", &[]),
            part.get::<ServiceList>("/api/v1/services", &[]),
            part.get::<IncidentList>("/api/v1/incidents", &newest),
            part.get::<ShadowReport>("/api/v1/shadow", &[]),
        );
        let services = services.ok().map(|list| list.services);
        (status.map_err(short), services, incidents.ok().map(|list| list.incidents), shadow.ok())
    };
    // What is wrong with the copy is said where it is asked about.
    let copy = async || {
        let reporter = sources.reporter.as_ref()?;
        reporter.get::<Told<IncidentList>>("/api/v1/incidents", &newest).await.ok()
    };
    let healer_or_copy = async {
        tokio::pin!(healer);
        match tokio::time::timeout(HEALER_PATIENCE, &mut healer).await {
            Ok(answer @ (Err(_), _, None, _)) => (answer, copy().await),
            Ok(answer) => (answer, None),
            Err(_) => tokio::join!(healer, copy()),
        }
    };
    let answers = async |part: &Option<Part>, path| match part {
        Some(part) => Some(part.ok(path).await.map_err(short)),
        None => None,
    };
    let history = async {
        match &sources.history {
            HistorySource::None => None,
            HistorySource::Known(known) => Some(known.clone()),
            HistorySource::Service(part) => Some(part.get::<History>(HISTORY_PATH, &[]).await.map_err(short)),
        }
    };
    let (healer, exporter, measured, alerts, grafana, reporter, history) = tokio::join!(
        healer_or_copy,
        exporter::ask(&sources.exporter),
        prometheus::ask(&sources.prometheus, &sources.host, now),
        alertmanager::ask(&sources.alertmanager),
        answers(&sources.grafana, "/api/health"),
        answers(&sources.reporter, "/healthz"),
        history,
    );
    let ((healer, services, incidents, shadow), copy) = healer;
    let (incidents, incidents_note) = match (incidents, &healer, copy) {
        (None, Err(_), Some(Told { told, note })) => (Some(told.incidents), note),
        (incidents, ..) => (incidents, None),
    };
    let (exporter, mut machine, containers) = match exporter {
        Ok(seen) => (Ok(()), seen.machine, Some(seen.containers)),
        Err(error) => (Err(short(error)), Machine::default(), None),
    };
    machine.swaps = machine::swaps(Path::new(&sources.procfs));
    let (prometheus, measured) = match measured {
        Ok(measured) => (Ok(()), measured),
        Err(error) => (Err(short(error)), Measured::default()),
    };
    let nothing_answers = healer.is_err() && exporter.is_err() && prometheus.is_err() && alerts.is_err();
    let docker_silence = match &sources.docker_socket {
        Some(socket) if nothing_answers => docker::silence(socket).await,
        _ => None,
    };
    Facts {
        at: now,
        host: sources.host.clone(),
        stack: sources.stack.clone(),
        docker_wants_sudo: sources.docker_wants_sudo,
        docker_silence,
        healer,
        services,
        incidents,
        incidents_note,
        shadow,
        exporter,
        prometheus,
        alerts: alerts.map_err(short),
        grafana,
        reporter,
        history,
        machine,
        containers,
        measured,
    }
}

/// The mend is in the report once; here only what is wrong.
pub(crate) fn short(error: HttpError) -> String {
    match error {
        HttpError::Unreachable { base, .. } => format!("does not answer at {base}"),
        HttpError::TimedOut { base, .. } => format!("hangs at {base}"),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;
    use crate::report::testing::{judged, now};

    /// All parts behind one address: their paths differ.
    async fn stack() -> String {
        slow_stack(|_| Duration::ZERO).await
    }

    /// One that takes so long for what is asked.
    async fn slow_stack(takes: fn(&str) -> Duration) -> String {
        const STATUS: &str = r#"{"version":"1","host":"pi","stack":"nexus","now":"2026-01-01T00:00:00Z","docker":{"state":"up"},
            "postgres":{"state":"up"},"alertmanager":{"state":"up"},"journal_pending_rows":0,"open_incidents":0,"gave_up_incidents":0}"#;
        const VECTOR: &str = r#"{"status":"success","data":{"resultType":"vector","result":[{"metric":{"what":"cpu"},"value":[1,"0.5"]}]}}"#;
        const MATRIX: &str = r#"{"status":"success","data":{"resultType":"matrix","result":[]}}"#;
        const SHADOW: &str =
            r#"{"since":"2026-01-01T00:00:00Z","until":"2026-01-08T00:00:00Z","services":[],"truncated":false}"#;
        const HISTORY: &str = r#"{"from":null,"usual":{"load":{"median":0.2,"spread":0.1}},"memory":[]}"#;
        let answer = |path: &str| match path {
            "/api/v1/status" => Some(STATUS),
            "/api/v1/services" => Some(r#"{"services":[]}"#),
            "/api/v1/incidents" => Some(r#"{"incidents":[]}"#),
            "/api/v1/shadow" => Some(SHADOW),
            "/healthz" => Some("ok"),
            "/metrics" => Some("node_load5 0.25\n"),
            "/api/v1/query" => Some(VECTOR),
            "/api/v1/query_range" => Some(MATRIX),
            "/api/v2/alerts" => Some("[]"),
            HISTORY_PATH => Some(HISTORY),
            _ => None,
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut request = Vec::new();
                    while !request.ends_with(b"\r\n\r\n") {
                        request.push(stream.read_u8().await.unwrap());
                    }
                    let request = String::from_utf8(request).unwrap();
                    let path = request.split([' ', '?']).nth(1).unwrap();
                    tokio::time::sleep(takes(path)).await;
                    let (status, body) = answer(path).map_or(("502 Bad Gateway", ""), |body| ("200 OK", body));
                    let length = body.len();
                    let head = format!("HTTP/1.1 {status}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n");
                    // Who asked may have given up.
                    _ = stream.write_all(format!("{head}{body}").as_bytes()).await;
                });
            }
        });
        base
    }

    /// Nobody listens at port 1.
    const NOBODY: &str = "http://127.0.0.1:1";

    fn sources(base: &str) -> Sources {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let part = |name| Part::new(name, base.to_owned(), Vec::new()).unwrap();
        Sources {
            host: "pi".into(),
            stack: "nexus".into(),
            healer: Ok(part(http::HEALER)),
            exporter: part("the exporter"),
            prometheus: part("Prometheus"),
            alertmanager: part("Alertmanager"),
            grafana: Some(part("Grafana")),
            reporter: Some(part("the reporter")),
            history: HistorySource::Service(part("the reporter")),
            procfs: "/proc".into(),
            docker_wants_sudo: false,
            docker_socket: Some("/nonexistent/docker.sock".into()),
        }
    }

    #[tokio::test]
    async fn everything_is_asked() {
        let facts = gather(&sources(&stack().await), now()).await;
        let up = [facts.healer.is_ok(), facts.exporter.is_ok(), facts.prometheus.is_ok(), facts.alerts.is_ok()];
        assert_eq!((up, facts.machine.load5, facts.measured.cpu), ([true; 4], Some(0.25), Some(0.5)));
        assert_eq!((facts.services, facts.incidents), (Some(Vec::new()), Some(Vec::new())));
        assert!(facts.shadow.is_some());
        assert_eq!(facts.reporter, Some(Ok(())));
        assert_eq!(facts.history.unwrap().unwrap().usual.len(), 1);
        assert!(facts.grafana.unwrap().unwrap_err().contains("answers 502"));
        assert!(facts.machine.swaps.is_some());
    }

    #[tokio::test]
    async fn any_part_may_be_away() {
        type Away = fn(&mut Sources, Part);
        let cases: [(Away, &str); 5] = [
            (|sources, nobody| sources.healer = Ok(nobody), "modes, incidents and what was healed"),
            (|sources, nobody| sources.exporter = nobody, "vitals, disks, memory of services, most recommendations"),
            (|sources, nobody| sources.prometheus = nobody, "CPU, pressure, network, how memory of services grows"),
            (|sources, nobody| sources.alertmanager = nobody, "alerts"),
            (
                |sources, nobody| sources.history = HistorySource::Service(nobody),
                "what is usual at this hour, and when disk, memory or CPU run out",
            ),
        ];
        let base = stack().await;
        for (away, what) in cases {
            let mut sources = sources(&base);
            away(&mut sources, Part::new("it", NOBODY.into(), Vec::new()).unwrap());
            let report = judged(&gather(&sources, now()).await);
            let missing: Vec<&str> = report.missing.iter().map(|it| it.what.as_str()).collect();
            assert_eq!(missing, [what]);
            assert!(
                report.missing[0].because.ends_with(": does not answer at http://127.0.0.1:1"),
                "{:?}",
                report.missing
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_part_that_hangs_is_waited_for_once() {
        const HOUR: Duration = Duration::from_secs(3600);
        let gathered = async |change: &dyn Fn(&mut Sources, Part), base: &str, hanging: &str| {
            let mut sources = sources(base);
            change(&mut sources, Part::new("it", hanging.to_owned(), Vec::new()).unwrap());
            let began = tokio::time::Instant::now();
            (gather(&sources, now()).await, began.elapsed())
        };
        let hanging = slow_stack(|_| HOUR).await;
        // The copy comes as late as it may.
        let base = slow_stack(|path| Duration::from_secs(if path == "/api/v1/incidents" { 8 } else { 0 })).await;
        let (facts, took) = gathered(&|sources, it| sources.healer = Ok(it), &base, &hanging).await;
        assert_eq!((facts.healer.unwrap_err(), facts.incidents), (format!("hangs at {hanging}"), Some(Vec::new())));
        assert!(took < Duration::from_secs(12), "{took:?}");
        let (facts, took) = gathered(&|sources, it| sources.prometheus = it, &stack().await, &hanging).await;
        assert_eq!(facts.prometheus, Err(format!("hangs at {hanging}")));
        assert!(took < Duration::from_secs(12), "{took:?}");
        // Who is slow and answers is asked for nothing else.
        let slow = slow_stack(|_| Duration::from_secs(8)).await;
        let (facts, took) = gathered(&|_, _| (), &slow, &hanging).await;
        assert!(facts.healer.is_ok() && facts.incidents_note.is_none(), "{:?}", facts.healer);
        assert!(took < Duration::from_secs(12), "{took:?}");
    }

    #[test]
    fn what_a_healer_of_before_does_not_know_is_told() {
        let mut facts = crate::report::testing::well();
        facts.shadow = None;
        assert!(judged(&facts).missing.iter().any(|it| it.what == "what healing would have done"));
    }

    #[test]
    fn a_machine_that_prometheus_knows_by_another_name_is_told() {
        let mut facts = crate::report::testing::well();
        facts.host = "pi-of-today".into();
        let missing = |facts: &Facts| {
            let of = |it: crate::report::Missing| (it.what.starts_with("CPU, pressure")).then_some(it.because);
            judged(facts).missing.into_iter().find_map(of)
        };
        assert_eq!(missing(&facts), None);
        facts.measured = crate::report::facts::Measured::default();
        let nothing = "prometheus: it knows nothing yet of a machine called pi-of-today";
        assert_eq!(missing(&facts).as_deref(), Some(nothing));
        facts.prometheus = Err("does not answer".into());
        assert_eq!(missing(&facts).as_deref(), Some("prometheus: does not answer"));
    }

    #[tokio::test]
    async fn with_everything_away_there_still_is_a_report() {
        let facts = gather(&sources(NOBODY), now()).await;
        let report = judged(&facts);
        assert_eq!(report.missing.len(), 5);
        // Its six parts don't answer for one reason, which is told alone.
        let text =
            "Docker does not answer at /nonexistent/docker.sock; without it nothing of Nexus does: run ./nexus up";
        assert_eq!(report.reasons.iter().map(|it| it.text.as_str()).collect::<Vec<_>>(), [text]);
    }
}
