//! Real engines: the host's, through the `docker` program, and daemons that a test starts for itself and may kill.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use super::{PATIENCE, eventually};

/// The cgroup that a test's own daemons put their containers in.
const CGROUP: &str = "nexus-test-dockerd";

/// Why real engines can't be used here.
pub fn hindrance() -> Result<(), String> {
    if std::env::var_os("NEXUS_REAL_ENGINE").is_none_or(|word| word.is_empty()) {
        return Err("NEXUS_REAL_ENGINE is not set".to_owned());
    }
    if !rustix::process::geteuid().is_root() {
        return Err("it needs root".to_owned());
    }
    image().map(drop)
}

/// An image that has Perl and a shell.
pub fn image() -> Result<String, String> {
    let image = std::env::var("NEXUS_E2E_BASE_IMAGE").unwrap_or_else(|_| "nexus/debian:trixie".to_owned());
    docker(&["image", "inspect", "--format", "{{.Id}}", &image])?;
    Ok(image)
}

pub fn docker(arguments: &[&str]) -> Result<String, String> {
    program("docker", arguments)
}

pub fn program(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name} {}: {}", arguments.first().unwrap_or(&""), said.lines().next().unwrap_or_default()))
}

/// The same command in a mount namespace of its own, in which `script` has its say first. The process stays the same.
pub fn in_a_mount_namespace(command: &Command, script: &str) -> Command {
    let mut wrapped = Command::new("/usr/bin/unshare");
    wrapped.args(["--mount", "--propagation", "private", "/bin/sh", "-c"]);
    wrapped.arg(format!("{script} && exec \"$@\"")).arg("sh").arg(command.get_program()).args(command.get_args());
    wrapped.env_clear().env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin");
    wrapped.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    wrapped
}

/// A Docker daemon of the test's own beside the host's, with containerd, data and socket of its own and without any network.
pub struct Daemon {
    folder: tempfile::TempDir,
    data: PathBuf,
    child: Option<Child>,
}

impl Daemon {
    /// Started, with the image of [`image`].
    pub async fn start(image: &Path) -> Self {
        let folder = tempfile::Builder::new().prefix("nexus-dockerd-").tempdir().unwrap();
        let data = folder.path().join("data");
        Self::with(folder, data, image).await
    }

    /// The same with images, containers and volumes below a folder of the test's.
    pub async fn on(data: PathBuf, image: &Path) -> Self {
        Self::with(tempfile::Builder::new().prefix("nexus-dockerd-").tempdir().unwrap(), data, image).await
    }

    async fn with(folder: tempfile::TempDir, data: PathBuf, image: &Path) -> Self {
        let mut daemon = Self { folder, data, child: None };
        daemon.come_back().await;
        daemon.docker(&["load", "--input", image.to_str().unwrap()]).unwrap();
        daemon
    }

    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("docker.sock")
    }

    /// The socket of its containerd.
    pub fn containerd(&self) -> PathBuf {
        self.folder.path().join("exec/containerd/containerd.sock")
    }

    pub fn docker(&self, arguments: &[&str]) -> Result<String, String> {
        self.docker_of("docker", arguments)
    }

    /// By another `docker` than the first on the path.
    pub fn docker_of(&self, docker: &str, arguments: &[&str]) -> Result<String, String> {
        let host = format!("unix://{}", self.socket().display());
        program(docker, &[&["--host", &host], arguments].concat())
    }

    /// Starts it, as the init system would.
    pub async fn come_back(&mut self) {
        let below = |name: &str| self.folder.path().join(name);
        let log = std::fs::File::options().create(true).append(true).open(below("log")).unwrap();
        // In a network of its own: `--bridge=none` takes the bridge docker0 away, which is the host's engine's.
        let mut command = Command::new("unshare");
        command.args(["--net", "dockerd"]);
        let option = |name: &str, value: &Path| format!("--{name}={}", value.display());
        command
            .arg(format!("--host=unix://{}", self.socket().display()))
            .arg(option("data-root", &self.data))
            .arg(option("exec-root", &below("exec")))
            .arg(option("pidfile", &below("pid")))
            // Not the host's settings.
            .arg(option("config-file", &below("daemon.json")))
            .arg(format!("--cgroup-parent=/{CGROUP}"))
            .args(["--bridge=none", "--iptables=false", "--ip-forward=false", "--ip-masq=false", "--ip6tables=false"])
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log);
        // What is built stays until it is asked to go.
        std::fs::write(below("daemon.json"), r#"{"builder": {"gc": {"enabled": false}}}"#).unwrap();
        // One that was killed leaves these behind, and they would be believed: its containerd, which ends with it, may not have been
        // buried yet.
        let containerd = below("exec/containerd/containerd.pid");
        if let Ok(pid) = std::fs::read_to_string(&containerd) {
            eventually("the end of containerd", async || has_ended(pid.trim()).then_some(())).await;
        }
        for file in [below("pid"), containerd] {
            _ = std::fs::remove_file(file);
        }
        self.child = Some(command.spawn().unwrap());
        eventually("the daemon answers", async || self.docker(&["version"]).ok()).await;
    }

    /// `kill -9`. Its containers go on, and its containerd goes with it.
    pub fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// SIGTERM, as the init system sends it; waits until it has ended.
    pub fn stop(&mut self) {
        let mut child = self.child.take().unwrap();
        rustix::process::kill_process(rustix::process::Pid::from_child(&child), rustix::process::Signal::TERM).unwrap();
        let began = Instant::now();
        while child.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < PATIENCE, "the daemon does not stop");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// What it has written down of a container.
    pub fn remembered(&self, id: &str) -> serde_json::Value {
        let text = std::fs::read_to_string(self.data.join("containers").join(id).join("config.v2.json")).unwrap();
        serde_json::from_str(&text).unwrap()
    }

    /// Changes some of the state that it has written down of a container, while it is away.
    pub fn remember(&self, id: &str, state: &serde_json::Value) {
        assert!(self.child.is_none(), "it would overwrite that");
        let mut remembered = self.remembered(id);
        let changes = state.as_object().unwrap().clone();
        remembered["State"].as_object_mut().unwrap().extend(changes);
        let file = self.data.join("containers").join(id).join("config.v2.json");
        std::fs::write(file, remembered.to_string()).unwrap();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the last that the daemon said:");
            self.log()
                .lines()
                .rev()
                .take(40)
                .collect::<Vec<_>>()
                .into_iter()
                .rev()
                .for_each(|line| eprintln!("{line}"));
        }
        if let Some(mut child) = self.child.take() {
            _ = child.kill();
            _ = child.wait();
        }
        // Its shims know their daemon by the folder, and their containers are theirs.
        let folder = self.folder.path().to_owned();
        for pid in processes_of(&folder) {
            let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
            for pid in children.split_whitespace().filter_map(|word| word.parse().ok()).chain([pid]) {
                if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                    _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
                }
            }
        }
        let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let is_ours = |at: &&str| {
            // A file system that a test has put the data on is the test's to unmount.
            Path::new(at).starts_with(&folder) || (Path::new(at).starts_with(&self.data) && Path::new(at) != self.data)
        };
        let mounted = mounts.lines().filter_map(|line| line.split(' ').nth(1)).filter(is_ours);
        for at in mounted.collect::<Vec<_>>().into_iter().rev() {
            _ = program("umount", &["--lazy", at]);
        }
    }
}

/// Also of one that nobody has asked for its exit code yet.
fn has_ended(pid: &str) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().find_map(|line| line.strip_prefix("State:")).is_none_or(|state| state.trim().starts_with('Z'))
}

/// Processes that were started with a path below a folder.
fn processes_of(folder: &Path) -> Vec<i32> {
    let folder = folder.as_os_str().as_encoded_bytes();
    let is_of = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(folder.len()).any(|part| part == folder)
    };
    let all = std::fs::read_dir("/proc").unwrap().flatten();
    let pids = all.filter_map(|entry| OsStr::to_str(&entry.file_name())?.parse().ok());
    pids.filter(|pid| *pid != std::process::id() as i32).filter(is_of).collect()
}
