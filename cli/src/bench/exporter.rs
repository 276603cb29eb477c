//! `nexus bench exporter`: what a scrape costs, beside Debian's node_exporter, Docker's stats API and the bare reading of
//! the same files, all in one run, since a figure from another machine or hour says little.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::time::{ClockId, clock_gettime};

use super::machine;
use super::process::{Program, processor_time};
use crate::docker::{Project, docker};
use crate::home::Home;
use crate::text::{print, table};

const COMPOSE: &str = include_str!("../../bench/compose.yml");
const PROJECT: &str = "nexus-bench";

/// More at once makes one `docker compose up` fail by its own time-outs on a slow disk.
const CONTAINERS_A_STEP: u32 = 50;
/// Scrapes before anything counts: descriptors are opened, buffers grow.
const WARM_UP: u32 = 20;
/// Docker's stats of one container take up to two seconds when all are asked at once.
const STATS_TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug)]
pub struct Options {
    /// Numbers of containers, each measured in turn.
    pub containers: Vec<u32>,
    pub rounds: u32,
    /// Scrapes of each program in a round.
    pub scrapes: u32,
    pub node_exporter: Option<PathBuf>,
    /// Instead of the one in bin/.
    pub exporter: Option<PathBuf>,
}

/// What was measured of one way to get figures.
struct Row {
    name: String,
    containers: u32,
    /// Samples and bytes of a body, where there is one.
    size: Option<(usize, usize)>,
    processor: Spread,
    wall: Spread,
    resident: Option<u64>,
}

/// The least and the middle of several rounds: the least is what it costs, the middle what it costs here and now.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Spread {
    least: Duration,
    middle: Duration,
}

impl Spread {
    fn of(mut all: Vec<Duration>) -> Spread {
        all.sort_unstable();
        let at = |index: usize| all.get(index).copied().unwrap_or_default();
        Spread { least: at(0), middle: at(all.len() / 2) }
    }

    fn milliseconds(self) -> String {
        format!("{:.2} / {:.2}", milliseconds(self.least), milliseconds(self.middle))
    }
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

pub async fn run(home: &Home, options: &Options) -> Result<()> {
    let image = home.get("NEXUS_IMAGE_NEXUS").to_owned();
    if image.is_empty() {
        bail!("there is no image to start containers from: run ./nexus up first");
    }
    let program = options.exporter.clone().unwrap_or_else(|| home.directory.join("bin/nexus-exporter"));
    if !program.exists() {
        bail!("{} is missing: run ./nexus up first", home.show(&program));
    }
    let project = Project {
        name: PROJECT.to_owned(),
        file: COMPOSE,
        variables: vec![("NEXUS_BENCH_IMAGE", image), ("NEXUS_BENCH_STACK", PROJECT.to_owned())],
    };
    let result = tokio::select! {
        result = measure(home, options, &program, &project) => result,
        signal = tokio::signal::ctrl_c() => match signal {
            Ok(()) => Err(anyhow::anyhow!("interrupted")),
            Err(error) => Err(error).context("cannot listen for Ctrl-C"),
        },
    };
    let ending = project.compose(&["down", "--timeout", "1"]).await.map(drop).context("cannot remove the containers");
    result.and(ending)
}

async fn measure(home: &Home, options: &Options, program: &Path, project: &Project) -> Result<()> {
    print(&machine().await?)?;
    let mut rows = Vec::new();
    let ending = measure_each(home, options, program, project, &mut rows).await;
    if ending.is_err() && rows.is_empty() {
        return ending;
    }
    // What was measured before it failed took minutes, and is as good as it would be otherwise.
    let head =
        ["WHAT", "CONTAINERS", "SAMPLES", "BODY kB", "CPU ms (min/median)", "WALL ms (min/median)", "RESIDENT MB"];
    let cells: Vec<Vec<String>> = rows.iter().map(Row::cells).collect();
    print(&format!("\n{}\n{}", table(&head, &cells), comparison(&rows)))?;
    ending
}

async fn measure_each(
    home: &Home,
    options: &Options,
    program: &Path,
    project: &Project,
    rows: &mut Vec<Row>,
) -> Result<()> {
    for &containers in &options.containers {
        print(&format!("starting {containers} containers …\n"))?;
        scale(project, containers).await?;
        rows.extend(measure_with(home, options, program, containers).await?);
    }
    Ok(())
}

/// Grows the project step by step.
async fn scale(project: &Project, containers: u32) -> Result<()> {
    let mut there = 0;
    while there < containers {
        there = (there + CONTAINERS_A_STEP).min(containers);
        let scale = format!("idle={there}");
        project.compose(&["up", "--detach", "--no-recreate", "--scale", &scale]).await?;
    }
    Ok(())
}

async fn measure_with(home: &Home, options: &Options, program: &Path, containers: u32) -> Result<Vec<Row>> {
    let socket = home.get("NEXUS_DOCKER_SOCKET").to_owned();
    let about_docker = [format!("--docker.stack={PROJECT}"), format!("--docker.socket={socket}")];
    let full = Program::start("nexus-exporter, everything", program, &about_docker).await?;
    wait_for_containers(&full, containers).await?;
    let collectors = host_collectors(&full.text().await?);
    let only = |names: &[String]| -> Vec<String> {
        std::iter::once("--collector.disable-defaults".to_owned())
            .chain(names.iter().map(|name| format!("--collector.{name}")))
            .collect()
    };
    let mut exporters = vec![full, Program::start("nexus-exporter, the host", program, &only(&collectors)).await?];
    if let Some(peer) = &options.node_exporter {
        // Families about the exporter itself are Go's there; without them both write the same.
        let arguments = [only(&collectors), vec!["--web.disable-exporter-metrics".to_owned()]].concat();
        exporters.push(Program::start("node_exporter, the host", peer, &arguments).await?);
    }
    let mut rows = scrape_in_turn(&exporters, options, containers).await?;
    let kept = kept_files(exporters[0].pid)?;
    if !kept.is_empty() {
        rows.push(bare_reading(&kept, options, containers)?);
    }
    drop(exporters);
    if let Some(row) = docker_stats(Path::new(&socket), containers, options.rounds.min(3)).await? {
        rows.push(row);
    }
    Ok(rows)
}

/// The exporter has seen all containers, and their control groups.
async fn wait_for_containers(exporter: &Program, wanted: u32) -> Result<()> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let body = exporter.text().await?;
        let seen = body.lines().filter(|line| line.starts_with("container_last_seen{")).count();
        if seen as u32 >= wanted {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("the exporter sees {seen} of {wanted} containers");
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

/// Those that found something here and that node_exporter has too.
fn host_collectors(body: &str) -> Vec<String> {
    const OURS: [&str; 5] = ["container", "docker", "machine", "rpi_", "storage"];
    let name = |line: &str| {
        let name = line.strip_prefix("node_scrape_collector_success{collector=\"")?.strip_suffix("\"} 1")?.to_owned();
        let ours = OURS.iter().any(|prefix| name.starts_with(prefix));
        (!ours).then_some(name)
    };
    body.lines().filter_map(name).collect()
}

/// All programs in each round, so that what else the machine does meets them alike.
async fn scrape_in_turn(exporters: &[Program], options: &Options, containers: u32) -> Result<Vec<Row>> {
    for exporter in exporters {
        for _ in 0..WARM_UP {
            exporter.scrape().await?;
        }
    }
    let mut processor: Vec<Vec<Duration>> = exporters.iter().map(|_| Vec::new()).collect();
    let mut wall = processor.clone();
    for _ in 0..options.rounds {
        for (at, exporter) in exporters.iter().enumerate() {
            let before = exporter.processor_time()?;
            for _ in 0..options.scrapes {
                let begin = Instant::now();
                exporter.scrape().await?;
                wall[at].push(begin.elapsed());
            }
            processor[at].push(exporter.processor_time()?.saturating_sub(before) / options.scrapes);
        }
    }
    let mut rows = Vec::new();
    for ((exporter, processor), wall) in exporters.iter().zip(processor).zip(wall) {
        let resident = Some(exporter.resident_bytes()?);
        let body = exporter.text().await?;
        let samples = body.lines().filter(|line| !line.starts_with('#')).count();
        rows.push(Row {
            name: exporter.name.clone(),
            containers,
            size: Some((samples, body.len())),
            processor: Spread::of(processor),
            wall: Spread::of(wall),
            resident,
        });
    }
    Ok(rows)
}

/// The files that a process keeps open below /proc and /sys: what it reads in each scrape.
fn kept_files(pid: u32) -> Result<Vec<PathBuf>> {
    let folder = format!("/proc/{pid}/fd");
    let entries = std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}: run as root"))?;
    let links = entries.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok());
    Ok(links.filter(|path| path.starts_with("/sys") || path.starts_with("/proc")).collect())
}

/// Reads the files from their start with descriptors kept open, and does nothing with what they say: the floor.
fn bare_reading(paths: &[PathBuf], options: &Options, containers: u32) -> Result<Row> {
    let files: Vec<File> = paths.iter().filter_map(|path| File::open(path).ok()).collect();
    let mut buffer = vec![0; 16 * 1024];
    let (mut processor, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..options.rounds {
        let (begin, before) = (Instant::now(), thread_time());
        for _ in 0..options.scrapes {
            for file in &files {
                // A container may end meanwhile; then there is nothing to read.
                let _ = file.read_at(&mut buffer, 0);
            }
        }
        processor.push(thread_time().saturating_sub(before) / options.scrapes);
        wall.push(begin.elapsed() / options.scrapes);
    }
    Ok(Row {
        name: format!("only reading its {} kept files", files.len()),
        containers,
        size: None,
        processor: Spread::of(processor),
        wall: Spread::of(wall),
        resident: None,
    })
}

fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// What those do who ask the daemon: the statistics of all containers at once, each sampled once. `None` where the daemon's
/// process can't be found.
async fn docker_stats(socket: &Path, containers: u32, rounds: u32) -> Result<Option<Row>> {
    let ids = docker(&["ps", "--quiet", "--no-trunc", "--filter", &format!("label=nexus.stack={PROJECT}")]).await?;
    let ids: Vec<String> = ids.lines().map(str::to_owned).collect();
    let pid = std::fs::read_to_string("/var/run/docker.pid").ok().and_then(|text| text.trim().parse::<u32>().ok());
    let Some(pid) = pid else { return Ok(None) };
    let (mut processor, mut wall) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let (begin, before) = (Instant::now(), processor_time(pid)?);
        std::thread::scope(|scope| {
            let calls: Vec<_> = ids.iter().map(|id| scope.spawn(|| stats_of(socket, id))).collect();
            calls.into_iter().try_for_each(|call| call.join().unwrap_or_else(|_| bail!("asking Docker failed")))
        })?;
        processor.push(processor_time(pid)?.saturating_sub(before));
        wall.push(begin.elapsed());
    }
    Ok(Some(Row {
        name: "Docker stats API, the daemon".to_owned(),
        containers,
        size: None,
        processor: Spread::of(processor),
        wall: Spread::of(wall),
        resident: None,
    }))
}

fn stats_of(socket: &Path, id: &str) -> Result<()> {
    let mut stream = UnixStream::connect(socket).with_context(|| format!("no answer on {}", socket.display()))?;
    stream.set_read_timeout(Some(STATS_TIMEOUT)).context("cannot set a time-out")?;
    let request = format!("GET /containers/{id}/stats?stream=false&one-shot=true HTTP/1.0\r\nHost: docker\r\n\r\n");
    stream.write_all(request.as_bytes()).context("cannot ask Docker")?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).context("Docker does not answer")?;
    let ok = answer.starts_with(b"HTTP/1.0 200") || answer.starts_with(b"HTTP/1.1 200");
    if ok { Ok(()) } else { bail!("Docker refuses the statistics of {id}") }
}

impl Row {
    fn cells(&self) -> Vec<String> {
        let (samples, bytes) = match self.size {
            Some((samples, bytes)) => (samples.to_string(), (bytes / 1000).to_string()),
            None => (String::new(), String::new()),
        };
        let resident = self.resident.map(|bytes| format!("{:.1}", bytes as f64 / 1e6)).unwrap_or_default();
        vec![
            self.name.clone(),
            self.containers.to_string(),
            samples,
            bytes,
            self.processor.milliseconds(),
            self.wall.milliseconds(),
            resident,
        ]
    }
}

/// The same figures as ratios, which travel better than milliseconds.
fn comparison(rows: &[Row]) -> String {
    let mut out = String::new();
    let of = |name: &str, containers: u32| {
        rows.iter().find(|row| row.name.starts_with(name) && row.containers == containers)
    };
    let mut counts: Vec<u32> = rows.iter().map(|row| row.containers).collect();
    counts.dedup();
    for containers in counts {
        let mut compare = |what: &str, ours: &str, theirs: &str, value: fn(&Row) -> Option<f64>| {
            let pair = of(ours, containers).and_then(value).zip(of(theirs, containers).and_then(value));
            if let Some((ours, theirs)) = pair.filter(|(_, theirs)| *theirs > 0.0) {
                out.push_str(&format!("{containers} containers: {what}: {:.2}\n", ours / theirs));
            }
        };
        let processor: fn(&Row) -> Option<f64> = |row| Some(row.processor.least.as_secs_f64());
        let resident: fn(&Row) -> Option<f64> = |row| row.resident.map(|bytes| bytes as f64);
        let (full, host) = ("nexus-exporter, everything", "nexus-exporter, the host");
        compare("CPU of the host's families, of node_exporter's", host, "node_exporter", processor);
        compare("memory for the host's families, of node_exporter's", host, "node_exporter", resident);
        compare("CPU of everything, of only reading its kept files", full, "only reading", processor);
        compare("CPU of everything, of what the stats API costs the daemon", full, "Docker stats", processor);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn milliseconds(number: u64) -> Duration {
        Duration::from_millis(number)
    }

    fn row(name: &str, processor: u64, resident: Option<u64>) -> Row {
        let processor = Spread::of(vec![milliseconds(processor)]);
        Row { name: name.into(), containers: 100, size: Some((10, 2000)), processor, wall: processor, resident }
    }

    #[test]
    fn the_least_and_the_middle_of_rounds() {
        let spread = Spread::of([5, 1, 9].map(milliseconds).to_vec());
        assert_eq!(spread, Spread { least: milliseconds(1), middle: milliseconds(5) });
        assert_eq!(spread.milliseconds(), "1.00 / 5.00");
        assert_eq!(Spread::of(Vec::new()).least, Duration::ZERO);
    }

    #[test]
    fn collectors_to_compare_are_those_that_work_here_and_that_both_have() {
        let body = "node_scrape_collector_success{collector=\"cpu\"} 1\nnode_scrape_collector_success{collector=\"hwmon\"} 0\n\
            node_scrape_collector_success{collector=\"container\"} 1\nnode_scrape_collector_success{collector=\"docker_disk\"} 1\n\
            node_scrape_collector_success{collector=\"rpi_board\"} 1\nnode_load1 1\n";
        assert_eq!(host_collectors(body), ["cpu"]);
    }

    #[test]
    fn ratios_are_of_the_same_number_of_containers() {
        let rows = [
            row("nexus-exporter, everything", 4, Some(8_000_000)),
            row("nexus-exporter, the host", 1, Some(6_000_000)),
            row("node_exporter, the host", 5, Some(24_000_000)),
            Row { containers: 10, ..row("only reading its 9 kept files", 1, None) },
        ];
        assert_eq!(
            comparison(&rows),
            "100 containers: CPU of the host's families, of node_exporter's: 0.20\n\
             100 containers: memory for the host's families, of node_exporter's: 0.25\n"
        );
        assert_eq!(rows[0].cells()[2..], ["10", "2", "4.00 / 4.00", "4.00 / 4.00", "8.0"]);
    }
}
