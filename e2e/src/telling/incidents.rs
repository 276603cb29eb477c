//! Ten incidents played to the shipped rules and routes, and how many messages each makes: at most three, and never none where
//! a person is needed. The table in docs/alerts.md is what comes out; `NEXUS_BLESS=1` writes it anew.
//!
//! Each incident happens on a host of its own, all at once, in a time that runs faster ([`FACTORS`]). A small server plays what
//! exporter and healer of each host would say ([`super::script`]); the healer's own alerts are posted as it posts them.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail, ensure};
use axum::Router;
use axum::extract::{Path as UrlPath, State as Shared};
use axum::http::StatusCode;
use axum::routing::get;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::played::{Played, lack, late, looks, metrics, started_at};
use super::scale::faster;
use super::script::{Container, Own, STACK, State};
use super::{Server, Telling};
use crate::command::docker;
use crate::telegram::Message;
use crate::wait::seconds;

/// So many times as fast as it is; slower in the second play and the third, which a machine that is busy all along can follow.
const FACTORS: [f64; 3] = [30.0, 15.0, 8.0];
/// At most so many messages for one incident.
const MOST: usize = 3;
/// All is well for so long before it begins: rules that look back see it.
pub(super) const LEAD: f64 = 4.0 * MINUTE;
/// Until then each incident is over, and so is what is told of it: the longest is told for an hour after its end.
pub(super) const END: f64 = 80.0 * MINUTE;
// A healer that gave up says so until the service has been well for ten minutes (`well_after_giving_up`).
/// How long Alertmanager believes the healer, as [healer/src/notify.rs].
const ALIVE: f64 = 5.0 * MINUTE;
/// How often the script posts what is true; the healer does so every minute and at each change.
const TURN: Duration = Duration::from_millis(500);
const MINUTE: f64 = 60.0;
/// Of the jobs those whose word any of the incidents changes.
const JOBS: [&str; 3] = ["node", "cadvisor", "nexus"];
/// A machine that stands still for longer than this, of the script's time, misses what the rules wait for: it is played again.
const STALL: f64 = 30.0;
/// In real time, since so is the restart that it must outlast: Alertmanager takes an alert for ended after four of them.
const RESEND: &str = "10s";
/// Half as often as it is: a second for a scrape is little enough on a busy machine, and one that fails is a target that is gone.
pub(super) const SCRAPE: f64 = 30.0;

pub struct Incident {
    pub host: &'static str,
    pub title: &'static str,
    /// What happens, for the table.
    pub story: &'static str,
    /// Whether somebody must do something.
    pub needs_a_person: bool,
    /// How the host is, so many seconds after it began; before that it is well.
    state: fn(f64, &'static str) -> State,
    /// While Telegram can't be reached from there, from and to.
    cut_off: Option<(f64, f64)>,
}

pub const INCIDENTS: &[Incident] = &[
    Incident {
        host: "pi-crash-loop",
        title: "Crash loop",
        story: "a service crashes again and again; no restart helps, the healer gives up after 15 minutes, the owner mends it after 40",
        needs_a_person: true,
        state: crash_loop,
        cut_off: None,
    },
    Incident {
        host: "pi-oom",
        title: "Out of memory",
        story: "a service fills its memory limit for 10 minutes, the kernel kills it, Docker restarts it",
        needs_a_person: true,
        state: oom,
        cut_off: None,
    },
    Incident {
        host: "pi-disk",
        title: "Disk filling",
        story: "a log grows by a percent in 90 seconds, from 70 % to 95 %; the owner deletes it after 50 minutes",
        needs_a_person: true,
        state: disk,
        cut_off: None,
    },
    Incident {
        host: "pi-dependency",
        title: "Dependency down",
        story: "a database is down and does not come back; the two that need it are unhealthy; mended after 40 minutes",
        needs_a_person: true,
        state: dependency,
        cut_off: None,
    },
    Incident {
        host: "pi-reboot",
        title: "Reboot",
        story: "the machine is away for 90 seconds, and its services need another two minutes until they are well",
        needs_a_person: false,
        state: reboot,
        cut_off: None,
    },
    Incident {
        host: "pi-undervoltage",
        title: "Undervoltage",
        story: "the power supply is too weak for ten minutes, and the processor is held back",
        needs_a_person: true,
        state: undervoltage,
        cut_off: None,
    },
    Incident {
        host: "pi-prometheus-restart",
        title: "Prometheus restart",
        story: "a container outside healing is down, and Prometheus is restarted in between; mended after 40 minutes",
        needs_a_person: true,
        state: down_for_long,
        cut_off: None,
    },
    Incident {
        host: "pi-postgres",
        title: "Postgres down",
        story: "the incident database is down for 20 minutes",
        needs_a_person: true,
        state: postgres,
        cut_off: None,
    },
    Incident {
        host: "pi-flapping",
        title: "Flapping health",
        story: "a service is unhealthy for a minute, well for two, and so on; the healer gives up after 25 minutes, mended after 45",
        needs_a_person: true,
        state: flapping,
        cut_off: None,
    },
    Incident {
        host: "pi-network",
        title: "Network down",
        story: "nothing reaches the world for 15 minutes, Telegram neither; four services are unhealthy until 5 minutes after",
        needs_a_person: true,
        state: network,
        cut_off: Some((MINUTE, 16.0 * MINUTE)),
    },
];

fn between(t: f64, from: f64, to: f64) -> bool {
    (from * MINUTE..to * MINUTE).contains(&t)
}

fn change(state: &mut State, project: &str, service: &str, how: impl FnOnce(&mut Container)) {
    if let Some(container) = state.container(project, service) {
        how(container);
    }
}

fn crash_loop(t: f64, host: &'static str) -> State {
    let mut state = State::well();
    let crashes = (t.clamp(0.0, 40.0 * MINUTE) / 45.0).floor();
    change(&mut state, "shop", "api", |api| {
        api.restarts = crashes;
        if between(t, 0.0, 40.0) {
            // It runs for some seconds of each round.
            api.is(
                if t % 45.0 < 10.0 { "running" } else { "restarting" },
                if t % 45.0 < 10.0 { "starting" } else { "unhealthy" },
            );
        }
    });
    if between(t, 4.0, 15.0) {
        state.own.push(Own::of_service("HealingFailed", "api", host));
    }
    if between(t, 15.0, 51.0) {
        state.own.push(Own::of_service("HealerGaveUp", "api", host));
    }
    state
}

fn oom(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    change(&mut state, "shop", "web", |web| {
        web.memory = if between(t, 0.0, 10.0) { 0.97 } else { 0.3 };
        let killed = t >= 10.0 * MINUTE;
        (web.oom_events, web.restarts) = if killed { (1.0, 1.0) } else { (0.0, 0.0) };
    });
    state
}

fn disk(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    state.disk_used = if t > 50.0 * MINUTE { 0.6 } else { (0.7 + t.max(0.0) / 90.0 * 0.01).min(0.95) };
    state
}

fn dependency(t: f64, host: &'static str) -> State {
    let mut state = State::well();
    if between(t, 0.0, 40.0) {
        change(&mut state, "shop", "db", |db| db.is("exited", "unhealthy"));
        for service in ["api", "web"] {
            change(&mut state, "shop", service, |it| it.is("running", "unhealthy"));
        }
    }
    if between(t, 4.0, 20.0) {
        state.own.push(Own::of_service("HealingFailed", "db", host));
    }
    if between(t, 20.0, 51.0) {
        state.own.push(Own::of_service("HealerGaveUp", "db", host));
    }
    state
}

fn reboot(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    state.off = (0.0..90.0).contains(&t);
    if t >= 90.0 {
        state.uptime = t - 60.0;
    }
    if (90.0..210.0).contains(&t) {
        for container in &mut state.containers {
            container.is("running", "starting");
        }
        change(&mut state, "shop", "api", |api| api.is("running", "unhealthy"));
        state.postgres_up = t > 150.0;
    }
    state
}

fn undervoltage(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    state.under_voltage = between(t, 0.0, 10.0);
    state.throttled = state.under_voltage;
    state.under_voltage_occurred = t >= 0.0;
    state
}

fn down_for_long(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    if between(t, 0.0, 40.0) {
        change(&mut state, "blog", "web", |web| web.is("exited", "unhealthy"));
    }
    state
}

fn postgres(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    if between(t, 0.0, 20.0) {
        state.postgres_up = false;
        change(&mut state, STACK, "postgres", |postgres| postgres.is("exited", "unhealthy"));
    }
    state
}

fn flapping(t: f64, host: &'static str) -> State {
    let mut state = State::well();
    if between(t, 0.0, 45.0) && t % 180.0 < 60.0 {
        change(&mut state, "shop", "web", |web| web.is("running", "unhealthy"));
    }
    if between(t, 25.0, 56.0) {
        state.own.push(Own::of_service("HealerGaveUp", "web", host));
    }
    state
}

fn network(t: f64, _: &'static str) -> State {
    let mut state = State::well();
    if between(t, 1.0, 21.0) {
        for (project, service) in [("shop", "db"), ("shop", "api"), ("shop", "web"), ("blog", "web")] {
            change(&mut state, project, service, |it| it.is("running", "unhealthy"));
        }
    }
    if between(t, 2.0, 22.0) {
        state.own.push(Own {
            alert: "HealingOnHold",
            severity: "critical",
            project: "",
            service: "",
            summary: "Many services are ill at once: healing is on hold".to_owned(),
        });
    }
    state
}

/// How far the script is, and with it what a host is at a moment.
struct Clock {
    factor: f64,
    made: Instant,
    /// When the programs had started: what they need for it, on a busy machine a minute, is none of the script's time.
    began: OnceLock<Instant>,
}

impl Clock {
    /// Seconds of the script since the incidents began; negative before.
    fn now(&self) -> f64 {
        self.began.get().map_or(0.0, |began| began.elapsed().as_secs_f64()) * self.factor - LEAD
    }
}

pub(super) fn state_at(incident: &Incident, t: f64) -> State {
    if t < 0.0 { State::well() } else { (incident.state)(t, incident.host) }
}

/// Serves `/HOST/JOB` for Prometheus, and takes what goes to the healer.
async fn hosts(clock: Arc<Clock>) -> Result<u16> {
    let listener = tokio::net::TcpListener::bind(("127.0.0.1", 0)).await.context("no free port")?;
    let port = listener.local_addr().context("a port without a number")?.port();
    async fn answer(
        Shared(clock): Shared<Arc<Clock>>,
        UrlPath((host, job)): UrlPath<(String, String)>,
    ) -> Result<String, StatusCode> {
        let incident = INCIDENTS.iter().find(|incident| incident.host == host).ok_or(StatusCode::NOT_FOUND)?;
        let state = state_at(incident, clock.now());
        if state.off {
            return Err(StatusCode::SERVICE_UNAVAILABLE);
        }
        let now = Timestamp::now().as_millisecond() as f64 / 1e3;
        Ok(state.exposition(&job, now, clock.made.elapsed().as_secs_f64()))
    }
    let router = Router::new()
        .route("/{host}/{job}", get(answer))
        .route("/webhook", axum::routing::post(|| async { StatusCode::OK }))
        .with_state(clock);
    tokio::spawn(async move {
        // It ends with the test.
        let _ = axum::serve(listener, router).await;
    });
    Ok(port)
}

pub async fn ten_incidents_make_few_messages() -> Result<()> {
    let mut factors = FACTORS.iter().peekable();
    while let Some(factor) = factors.next() {
        let telling = Telling::prepare(&[("NEXUS_HOST", "noise"), ("NEXUS_STACK", STACK)]).await?;
        let played = play(&telling, *factor).await?;
        eprintln!(
            "played in {:.0} s; the longest stand-still was {:.0} s of the script's time",
            (LEAD + END) / factor,
            played.stalled
        );
        // What was not played is no proof of anything, however few messages it made.
        let whole = played.whole();
        let is_disturbed = played.stalled > STALL || whole.is_err();
        let judged = match whole {
            Ok(()) if is_disturbed && is_blessed() => Err(anyhow!("the machine was too busy for a table that holds")),
            Ok(()) => judge(&telling),
            Err(error) => Err(error),
        };
        match judged {
            Err(error) if is_disturbed && factors.peek().is_some() => {
                eprintln!(
                    "the machine stood still for {:.0} s of the script's time, so it is played again: {error:#}",
                    played.stalled
                );
            }
            judged => return judged,
        }
    }
    bail!("it was not played")
}

async fn play(telling: &Telling, factor: f64) -> Result<Played> {
    let clock = Arc::new(Clock { factor, made: Instant::now(), began: OnceLock::new() });
    let port = hosts(Arc::clone(&clock)).await?;
    let routes =
        telling.alertmanager_yml()?.replace("http://healer:10191/webhook", &format!("http://127.0.0.1:{port}/webhook"));
    let alertmanager = telling.alertmanager(&faster(&routes, factor)).await?;
    let restarted = "pi-prometheus-restart";
    let steady: Vec<&str> = INCIDENTS.iter().map(|incident| incident.host).filter(|host| *host != restarted).collect();
    let watching = prometheus(telling, "steady", factor, port, &alertmanager, &steady).await?;
    let other = prometheus(telling, "restarted", factor, port, &alertmanager, &[restarted]).await?;
    let first_start = started_at(telling, &other).await?;
    clock.began.get_or_init(Instant::now);

    let mut standing: BTreeMap<&str, BTreeSet<Own>> = BTreeMap::new();
    let mut restart = None;
    let (mut last, mut stalled) = (clock.now(), 0_f64);
    while clock.now() < END {
        let t = clock.now();
        for incident in INCIDENTS {
            let own: BTreeSet<Own> = state_at(incident, t).own.into_iter().collect();
            let before = standing.insert(incident.host, own.clone()).unwrap_or_default();
            let alerts: Vec<Value> = own
                .iter()
                .map(|own| wire(own, incident.host, ALIVE / factor))
                .chain(before.difference(&own).map(|own| wire(own, incident.host, 0.0)))
                .collect();
            if !alerts.is_empty() {
                telling.post(&alertmanager, &alerts).await?;
            }
            if let Some((from, to)) = incident.cut_off {
                telling.telegram.cut_off(incident.host, (from..to).contains(&t));
            }
        }
        // Of Prometheus as well: one that is late with its rules waits longer than they say.
        let late =
            late(&metrics(telling, &watching).await?, clock.began.get().map_or(0.0, |at| at.elapsed().as_secs_f64()))?;
        stalled = stalled.max(clock.now() - last).max(factor * late);
        last = clock.now();
        if restart.is_none() && t > 15.0 * MINUTE {
            // Beside the script, since a busy Docker takes longer for it than Alertmanager believes what is not said again.
            let name = other.name().to_owned();
            restart = Some(tokio::spawn(async move { docker(["restart", "--time", "20", &name]).await.map(drop) }));
        }
        tokio::time::sleep(TURN).await;
    }
    restart.context("Prometheus was not restarted")?.await.context("the restart of Prometheus broke down")??;
    telling.nothing_refused()?;

    let mut missing = Vec::new();
    let again = started_at(telling, &other).await?;
    if again <= first_start {
        missing.push("Prometheus runs since before its restart".to_owned());
    }
    for incident in INCIDENTS {
        let server = if incident.host == restarted { &other } else { &watching };
        let looks = looks(telling, server, incident.host, factor).await?;
        if let Some(lack) = lack(incident, looks) {
            missing.push(lack);
        }
        if incident.cut_off.is_some() && telling.telegram.held_back(incident.host) == 0 {
            missing.push(format!("{}: no message was cut off", incident.title));
        }
    }
    Ok(Played { stalled, missing })
}

/// As the healer writes it.
fn wire(own: &Own, host: &str, alive: f64) -> Value {
    let now = Timestamp::now();
    json!({
        "labels": own.labels(host),
        "annotations": {"summary": own.summary},
        "startsAt": now,
        "endsAt": now + SignedDuration::from_millis((alive * 1e3) as i64),
    })
}

async fn prometheus(
    telling: &Telling,
    name: &str,
    factor: f64,
    port: u16,
    alertmanager: &Server,
    hosts: &[&str],
) -> Result<Server> {
    let folder = telling.readable(name)?;
    let rules = telling.readable(&format!("{name}/rules"))?;
    let shipped = telling.root.join("prometheus/rules");
    for entry in std::fs::read_dir(&shipped).with_context(|| format!("cannot list {}", shipped.display()))? {
        let path = entry.context("cannot list the rules")?.path();
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = path.file_name().context("a file needs a name")?;
        // Prompts to the healer make no messages: they need not be looked at six times a second.
        let text = text.replace("    interval: 5s\n", "");
        std::fs::write(rules.join(file), faster(&text, factor)).context("cannot write a rule file")?;
    }
    let ours = alertmanager.url.trim_start_matches("http://");
    let mut text = format!(
        "global:\n  scrape_interval: {SCRAPE}s\n  scrape_timeout: {SCRAPE}s\n  evaluation_interval: 15s\nrule_files: [rules/*.yml]\n\
         alerting:\n  alertmanagers:\n    - static_configs: [targets: [\"{ours}\"]]\nscrape_configs:\n"
    );
    text = faster(&text, factor);
    for job in JOBS {
        for host in hosts {
            let _ = writeln!(
                text,
                "  - job_name: {job}-{host}\n    metrics_path: /{host}/{job}\n    static_configs:\n      - targets: [\"127.0.0.1:{port}\"]\n        \
                 labels: {{host: {host}, job: {job}, instance: {host}}}"
            );
        }
    }
    std::fs::write(folder.join("prometheus.yml"), text).context("cannot write prometheus.yml")?;
    let lookback = format!("--query.lookback-delta={}ms", 5.0 * MINUTE * 1e3 / factor);
    let resend = format!("--rules.alert.resend-delay={RESEND}");
    telling.prometheus(&folder, &[lookback, resend]).await
}

fn is_blessed() -> bool {
    std::env::var_os("NEXUS_BLESS").is_some()
}

fn judge(telling: &Telling) -> Result<()> {
    let mut table = String::from("| Incident | What happens | Messages | What they say |\n|---|---|---|---|\n");
    let mut complaints = Vec::new();
    for incident in INCIDENTS {
        let messages = telling.telegram.messages(incident.host);
        let said: Vec<String> = messages.iter().map(|message| headline(message, incident.host)).collect();
        let shown = if said.is_empty() { "-".to_owned() } else { said.join("<br>") };
        let _ = writeln!(table, "| {} | {} | {} | {shown} |", incident.title, incident.story, messages.len());
        if messages.len() > MOST {
            complaints.push(format!("{}: {} messages: {}", incident.title, messages.len(), said.join("; ")));
        }
        if incident.needs_a_person && messages.is_empty() {
            complaints.push(format!("{}: nobody was told", incident.title));
        }
    }
    let path = telling.root.join("alertmanager/tests/noise.md");
    if !complaints.is_empty() {
        bail!("{}\n{table}", complaints.join("\n"));
    }
    if is_blessed() {
        std::fs::write(&path, &table).context("cannot write the table")?;
    }
    compare(&path, &table)
}

fn compare(path: &Path, table: &str) -> Result<()> {
    let stands = std::fs::read_to_string(path).unwrap_or_default();
    ensure!(
        stands == table,
        "the table in {} is not what comes out now (NEXUS_BLESS=1 writes it):\n{table}",
        path.display()
    );
    Ok(())
}

/// The line that says it, or that it has ended; without the host, which is the incident's here.
fn headline(message: &Message, host: &str) -> String {
    let line = message.text.lines().next().unwrap_or_default();
    if line.starts_with('✅') {
        // How many of the alerts behind it have ended by then is chance.
        return "✅ no longer".to_owned();
    }
    line.replace(&format!(" {host}: "), " ").replace(&format!(" of {host}"), "")
}

/// The longest that it may take: all plays, and for each five minutes in which its programs start.
pub const LIMIT: Duration = {
    let script = LEAD + END;
    seconds((script / FACTORS[0] + script / FACTORS[1] + script / FACTORS[2]) as u64 + FACTORS.len() as u64 * 300)
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_tell_incidents_apart() {
        for incident in INCIDENTS {
            assert!(!INCIDENTS.iter().any(|other| other.host != incident.host && other.host.contains(incident.host)));
            // Each begins and ends well within the script.
            assert!(state_at(incident, END - 20.0 * MINUTE).own.is_empty(), "{}", incident.host);
        }
    }

    #[test]
    fn what_a_message_says_is_one_line() {
        let message = |text: &str| Message { at: Timestamp::UNIX_EPOCH, text: text.to_owned(), html: String::new() };
        let check = |text: &str, expected: &str| assert_eq!(headline(&message(text), "pi-oom"), expected);
        check("🔴 shop/web: It died\non pi-oom, since x", "🔴 shop/web: It died");
        check("🔴 pi-oom: It died\nsince x", "🔴 It died");
        check("✅ shop/web on pi-oom\nNo longer:\n• A\nMon\n• B (x)\nTue", "✅ no longer");
    }
}
