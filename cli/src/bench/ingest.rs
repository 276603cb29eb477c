//! `nexus bench ingest`: whether the healer takes a storm of alerts on a slow disk without losing one, how fast, and what memory
//! that costs; beside a receiver that syncs each post by itself, in one run and with the same delay.
//!
//! The healer is one of its own with a journal of its own: it belongs to a stack that has no containers, so that there is
//! nothing it could restart. The disk is made slow by strace, which holds up each fsync of the healer: an SD card takes 10 to
//! 30 ms for one. "Not lost" is judged after `kill -9`: a new healer on the
//! same journal, whose Docker answers, looks into each alert and counts what it did not know.

use std::fs::File;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::machine;
use super::process::Program;
use crate::home::Home;
use crate::text::{print, table};

/// The goals.
const ONE_POST_GOAL: Duration = Duration::from_secs(1);
const IDLE_GOAL: u64 = 15_000_000;
const STORM_GOAL: u64 = 40_000_000;

/// Its containers are those of no stack, so the healer under measurement sees none.
const STACK: &str = "nexus-bench-ingest";
/// Alerts of the one large post.
const ALERTS: u32 = 1000;
const TOKEN: &str = "bench";
/// For one answer: Alertmanager waits as long.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// For all that wait in the journal to be looked into.
const LOOK_TIMEOUT: Duration = Duration::from_secs(60);
const POLL: Duration = Duration::from_millis(100);
/// Alertmanager sends again what was answered with 503.
const SENT_AGAIN: u32 = 5;

#[derive(Debug)]
pub struct Options {
    pub posts: u32,
    /// Added to each fsync.
    pub fsync_delay: Duration,
    pub strace: Option<PathBuf>,
    /// Instead of the one in bin/.
    pub healer: Option<PathBuf>,
}

/// Files of the healer under measurement; removed with this.
struct Folder(PathBuf);

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left of a measurement is of no use, and a folder that can't be removed no reason to call it failed.
        _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Storm {
    took: Duration,
    /// Posts that had to be sent again, since they were answered with 503.
    again: u32,
}

pub async fn run(home: &Home, options: &Options) -> Result<()> {
    let program = options.healer.clone().unwrap_or_else(|| home.directory.join("bin/nexus-healer"));
    if !program.exists() {
        bail!("{} is missing: run ./nexus up first", home.show(&program));
    }
    if options.strace.is_none() && !options.fsync_delay.is_zero() {
        bail!(
            "a slow disk needs --strace FILE; run it through ./nexus bench, which brings it, or give --fsync-delay 0"
        );
    }
    print(&machine().await?)?;
    let folder = Folder(std::env::temp_dir().join(format!("nexus-bench-ingest-{}", std::process::id())));
    std::fs::create_dir(&folder.0).with_context(|| format!("cannot make {}", folder.0.display()))?;
    for (name, text) in [("webhook", TOKEN), ("api", TOKEN), ("healer.yml", "default: \"off\"\n")] {
        std::fs::write(folder.0.join(name), text).with_context(|| format!("cannot write {name}"))?;
    }
    let socket = home.get("NEXUS_DOCKER_SOCKET").to_owned();
    let start = |socket: String| start(&program, &folder.0, socket, options);
    let client = client()?;

    let healer = start(socket.clone()).await?;
    let idle = healer.resident_bytes()?;
    healer.kill().await?;
    // Alerts are looked into when Docker answers: where none does, all of them wait in the journal.
    let healer = start(folder.0.join("no-docker").display().to_string()).await?;
    let one_post = post_at_once(&client, &healer).await?;
    let storm = storm(&client, &healer, options.posts).await?;
    let storm_peak = healer.peak_bytes()?;
    healer.kill().await?;
    let healer = start(socket).await?;
    let kept = kept(&healer, options.posts + ALERTS).await?.saturating_sub(ALERTS);
    healer.kill().await?;
    let alone = sync_each(&folder.0, options.posts, options.fsync_delay)?;

    let seconds = |time: Duration| format!("{:.3}", time.as_secs_f64());
    let megabytes = |bytes: u64| format!("{:.1} MB", bytes as f64 / 1e6);
    let delay = options.fsync_delay.as_millis();
    let rows = [
        [format!("{ALERTS} alerts in one post, answered after"), format!("{} s", seconds(one_post))],
        [format!("{} posts at once, all answered after", options.posts), format!("{} s", seconds(storm.took))],
        ["  sent again after a 503, as Alertmanager does".to_owned(), storm.again.to_string()],
        ["  of these in the journal after kill -9".to_owned(), format!("{kept} of {}", options.posts)],
        [format!("{} posts, each synced by itself", options.posts), format!("{} s", seconds(alone))],
        ["resident, idle".to_owned(), megabytes(idle)],
        ["resident, the most of all that".to_owned(), megabytes(storm_peak)],
    ];
    let rows: Vec<Vec<String>> = rows.into_iter().map(Vec::from).collect();
    print(&format!("\nEach fsync takes {delay} ms longer.\n{}", table(&["WHAT", "MEASURED"], &rows)))?;
    let ratio = alone.as_secs_f64() / storm.took.as_secs_f64();
    let reached = |yes: bool| if yes { "reached" } else { "missed" };
    print(&format!(
        "\nsyncing each by itself, of nexus's: {ratio:.1}\n\
         goal, one post in less than {} s: {}\n\
         goal, none lost: {}\n\
         goal, at most {} idle: {}\n\
         goal, at most {} in the storm: {}\n",
        ONE_POST_GOAL.as_secs(),
        reached(one_post < ONE_POST_GOAL),
        reached(kept == options.posts),
        megabytes(IDLE_GOAL),
        reached(idle <= IDLE_GOAL),
        megabytes(STORM_GOAL),
        reached(storm_peak <= STORM_GOAL),
    ))?;
    if kept != options.posts {
        bail!("{} posts were answered with 200 and are lost", options.posts - kept);
    }
    Ok(())
}

async fn start(program: &Path, folder: &Path, socket: String, options: &Options) -> Result<Program> {
    let file = |name: &str| folder.join(name).display().to_string();
    let arguments = [
        format!("--docker.socket={socket}"),
        format!("--stack.name={STACK}"),
        "--host.name=bench".to_owned(),
        format!("--journal.path={}", file("journal.db")),
        format!("--policy.file={}", file("healer.yml")),
        format!("--webhook.token-file={}", file("webhook")),
        format!("--api.token-file={}", file("api")),
    ];
    let mut wrapper = Vec::new();
    if let Some(strace) = options.strace.as_ref().filter(|_| !options.fsync_delay.is_zero()) {
        let delay = options.fsync_delay.as_micros();
        wrapper.push(strace.display().to_string());
        // A tracer that is nobody's parent, so that the process under measurement is our child; and only these calls stop.
        wrapper
            .extend(["-D", "-f", "--seccomp-bpf", "-qqq", "-o/dev/null", "-etrace=fsync,fdatasync"].map(str::to_owned));
        wrapper.push(format!("-einject=fsync,fdatasync:delay_exit={delay}"));
    }
    Program::start_under(&wrapper, "nexus-healer", program, &arguments).await
}

fn client() -> Result<reqwest::Client> {
    let client = reqwest::Client::builder().no_proxy().timeout(ANSWER_TIMEOUT).pool_max_idle_per_host(0).build();
    client.context("cannot set up the HTTP client")
}

async fn post(client: &reqwest::Client, url: &str, body: &Value) -> Result<u16> {
    let answer = client.post(url).bearer_auth(TOKEN).json(body).send().await.context("posting alerts")?;
    Ok(answer.status().as_u16())
}

async fn post_at_once(client: &reqwest::Client, healer: &Program) -> Result<Duration> {
    let alerts: Vec<Value> = (0..ALERTS).map(|number| alert(&format!("one-{number}"))).collect();
    let body = json!({ "version": "4", "alerts": alerts });
    let began = Instant::now();
    match post(client, &healer.at("/webhook"), &body).await? {
        200 => Ok(began.elapsed()),
        status => bail!("{ALERTS} alerts in one post were answered with {status}"),
    }
}

/// For a service of its own, so that none makes another superfluous.
fn alert(service: &str) -> Value {
    let labels =
        json!({ "alertname": "ContainerUnhealthy", "heal": "restart", "project": "bench", "service": service });
    json!({ "status": "firing", "labels": labels })
}

async fn storm(client: &reqwest::Client, healer: &Program, posts: u32) -> Result<Storm> {
    let began = Instant::now();
    let mut under_way = JoinSet::new();
    for number in 0..posts {
        let (client, url) = (client.clone(), healer.at("/webhook"));
        under_way.spawn(async move {
            let body = json!({ "version": "4", "alerts": [alert(&format!("many-{number}"))] });
            for sent in 0..=SENT_AGAIN {
                match post(&client, &url, &body).await? {
                    200 => return Ok(sent),
                    503 => (),
                    status => bail!("a post was answered with {status}"),
                }
            }
            bail!("a post was answered with 503 {} times", SENT_AGAIN + 1)
        });
    }
    let mut again = 0;
    while let Some(ended) = under_way.join_next().await {
        again += ended.context("a task broke down")??;
    }
    Ok(Storm { took: began.elapsed(), again })
}

/// How many alerts the journal holds: each is for a service that nobody has, and is counted as such when it is looked into.
async fn kept(healer: &Program, expected: u32) -> Result<u32> {
    let deadline = Instant::now() + LOOK_TIMEOUT;
    loop {
        let text = healer.text().await?;
        let gone = text.lines().find_map(|line| line.strip_prefix("nexus_healer_refusals_total{reason=\"gone\"} "));
        let looked_into: u32 =
            gone.context("the healer counts no refusals")?.trim().parse().context("reading a metric")?;
        if looked_into >= expected || Instant::now() > deadline {
            return Ok(looked_into);
        }
        tokio::time::sleep(POLL).await;
    }
}

/// The peer: a receiver that makes each post durable before it takes the next.
fn sync_each(folder: &Path, posts: u32, delay: Duration) -> Result<Duration> {
    let path = folder.join("each");
    let mut file = File::create(&path).with_context(|| format!("cannot make {}", path.display()))?;
    let began = Instant::now();
    for number in 0..posts {
        writeln!(file, "many-{number}").context("writing")?;
        file.sync_data().context("syncing")?;
        std::thread::sleep(delay);
    }
    Ok(began.elapsed())
}
