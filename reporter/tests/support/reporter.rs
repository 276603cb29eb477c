//! The reporter as a child process.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{database::Database, eventually, prometheus::Fake};

pub struct Reporter {
    child: Child,
    address: Option<SocketAddr>,
    log: Arc<Mutex<String>>,
    _folder: tempfile::TempDir,
}

impl Reporter {
    /// Started with an interval of five minutes; when it answers it is returned.
    pub async fn start(database: &Database, prometheus: &Fake) -> Self {
        let mut reporter = Self::spawn(database, &prometheus.url, &[]);
        reporter.answers().await;
        reporter
    }

    pub fn spawn(database: &Database, prometheus: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let password = folder.path().join("password");
        std::fs::write(&password, "test-secret\n").unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_nexus-reporter"));
        command
            .env_clear()
            .envs(environment.iter().copied())
            .env("NEXUS_LOG", "debug")
            .args(["--web.listen-address", "127.0.0.1:0"])
            .args(["--database.url", &database.url()])
            .arg("--database.password-file")
            .arg(&password)
            .args(["--prometheus.url", prometheus])
            .args(["--history.interval", "5m"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let log = Arc::new(Mutex::new(String::new()));
        let writing = Arc::clone(&log);
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                let mut log = writing.lock().unwrap();
                log.push_str(&line);
                log.push('\n');
            }
        });
        Self { child, address: None, log, _folder: folder }
    }

    async fn answers(&mut self) {
        let log = Arc::clone(&self.log);
        let address = eventually("the address of the reporter", async || {
            let log = log.lock().unwrap();
            log.lines().find_map(|line| line.rsplit_once("started on ")?.1.parse().ok())
        })
        .await;
        self.address = Some(address);
    }

    pub fn log(&self) -> String {
        self.log.lock().unwrap().clone()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub async fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.address.unwrap()).await.unwrap();
        stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }

    pub async fn metric(&self, name: &str) -> Option<f64> {
        let text = self.metrics().await;
        text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok())
    }

    /// Waits until it is dead.
    pub async fn dies(mut self) -> ExitStatus {
        eventually("the end of the reporter", async || self.child.try_wait().unwrap()).await
    }

    /// Told to stop, as Docker does.
    pub async fn stop(self) -> ExitStatus {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
        self.dies().await
    }

    pub fn kill(mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }

    /// Resident memory in bytes.
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }
}

impl Drop for Reporter {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
