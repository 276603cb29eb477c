//! A program that is measured from outside: started, asked over HTTP, its processor time and memory read from /proc.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};

/// Until a program that was started answers.
const START_TIMEOUT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// What Prometheus 2.53 sends with a scrape.
const HEADERS: [(&str, &str); 4] = [
    (
        "accept",
        "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,\
         text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
    ),
    ("accept-encoding", "gzip"),
    ("user-agent", "Prometheus/2.53.3"),
    ("x-prometheus-scrape-timeout-seconds", "10"),
];

/// A program under measurement. It is killed when this is dropped.
pub struct Program {
    pub name: String,
    pub pid: u32,
    address: SocketAddr,
    client: reqwest::Client,
    child: Child,
}

impl Program {
    /// Starts `program` on a free port of loopback and waits until it answers.
    pub async fn start(name: &str, program: &Path, arguments: &[String]) -> Result<Program> {
        Program::start_under(&[], name, program, arguments).await
    }

    /// The same by way of `wrapper`, a command that becomes the program, or starts it, as our own child.
    pub async fn start_under(wrapper: &[String], name: &str, program: &Path, arguments: &[String]) -> Result<Program> {
        let address = free_address()?;
        let mut command = match wrapper {
            [] => Command::new(program),
            [first, more @ ..] => {
                let mut command = Command::new(first);
                command.args(more).arg(program);
                command
            }
        };
        command.arg(format!("--web.listen-address={address}")).args(arguments);
        command.process_group(0).kill_on_drop(true);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let child = command.spawn().with_context(|| format!("cannot run {}", program.display()))?;
        let pid = child.id().context("the program has ended at once")?;
        let client = reqwest::Client::builder()
            .no_proxy()
            .pool_max_idle_per_host(1)
            .build()
            .context("cannot set up the HTTP client")?;
        let mut started = Program { name: name.to_owned(), pid, address, client, child };
        let deadline = Instant::now() + START_TIMEOUT;
        while started.scrape().await.is_err() {
            if let Ok(Some(status)) = started.child.try_wait() {
                bail!("{} {} has ended: {status}", program.display(), arguments.join(" "));
            }
            if Instant::now() > deadline {
                bail!("{} does not answer on {address} within {} s", program.display(), START_TIMEOUT.as_secs());
            }
            tokio::time::sleep(POLL).await;
        }
        Ok(started)
    }

    /// One scrape as Prometheus makes it; gives the size of the body as it came.
    pub async fn scrape(&self) -> Result<usize> {
        let mut request = self.client.get(self.at("/metrics"));
        for (name, value) in HEADERS {
            request = request.header(name, value);
        }
        let answer = request.send().await?.error_for_status()?;
        Ok(answer.bytes().await?.len())
    }

    /// The body as text, not compressed.
    pub async fn text(&self) -> Result<String> {
        let answer = self.client.get(self.at("/metrics")).send().await?.error_for_status()?;
        Ok(answer.text().await?)
    }

    pub fn processor_time(&self) -> Result<Duration> {
        processor_time(self.pid)
    }

    pub fn at(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn resident_bytes(&self) -> Result<u64> {
        self.status("VmRSS:")
    }

    /// The most that was ever resident.
    pub fn peak_bytes(&self) -> Result<u64> {
        self.status("VmHWM:")
    }

    fn status(&self, name: &str) -> Result<u64> {
        let path = format!("/proc/{}/status", self.pid);
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        kilobytes(&text, name).with_context(|| format!("{path} has no {name}"))
    }

    /// `kill -9`.
    pub async fn kill(mut self) -> Result<()> {
        self.child.kill().await.with_context(|| format!("cannot kill {}", self.name))
    }
}

/// Of all threads that live, in nanoseconds by the scheduler's own count (Documentation/scheduler/sched-stats.rst).
pub fn processor_time(pid: u32) -> Result<Duration> {
    let folder = format!("/proc/{pid}/task");
    let mut nanoseconds = 0;
    for thread in std::fs::read_dir(&folder).with_context(|| format!("cannot read {folder}"))?.flatten() {
        // A thread may have ended meanwhile.
        let Ok(text) = std::fs::read_to_string(thread.path().join("schedstat")) else { continue };
        nanoseconds += first_number(&text).with_context(|| format!("{folder} holds no schedstat"))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

fn first_number(text: &str) -> Option<u64> {
    text.split_whitespace().next()?.parse().ok()
}

fn kilobytes(status: &str, name: &str) -> Option<u64> {
    let kilobytes: u64 = first_number(status.lines().find_map(|line| line.strip_prefix(name))?)?;
    Some(kilobytes * 1024)
}

/// Free when asked; another program could take it before ours does, which then says so.
fn free_address() -> Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("no free port on 127.0.0.1")?;
    listener.local_addr().context("cannot tell the free port")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_of_a_process_are_read() {
        assert_eq!(kilobytes("Name:\tx\nVmRSS:\t    5120 kB\nThreads:\t1\n", "VmRSS:"), Some(5 << 20));
        assert_eq!(kilobytes("Name:\tkthreadd\n", "VmRSS:"), None);
        assert_eq!(first_number("123456 78 9\n"), Some(123_456));
        assert!(processor_time(std::process::id()).unwrap() > Duration::ZERO);
        assert!(processor_time(u32::MAX).is_err());
    }
}
