//! Against what this machine has: its kernel, a Docker Engine, promtool. What is not there is reported as ignored, with
//! the reason in brackets.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use libtest_mimic::{Arguments, Trial};
use nexus_docker::{Docker, Watcher};
use nexus_exporter::collect::{Calls, Collector, Roots, Selection};
use nexus_exporter::dbus::{Call, Connection, Error, Peer};
use nexus_exporter::exposition::Format;
use nexus_exporter::gather::{DockerView, Gatherer};
use nexus_exporter::settings::Settings;
use support::{fixture, wait_for};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = |name: &str, missing: Option<&'static str>, test: fn()| {
        let test = move || {
            test();
            Ok(())
        };
        Trial::test(name, test).with_kind(missing.unwrap_or_default()).with_ignored_flag(missing.is_some())
    };
    let no_promtool = promtool().is_none().then_some("no promtool on PATH or in NEXUS_PROMTOOL");
    let no_bus = on_path("dbus-daemon").is_none().then_some("no dbus-daemon on PATH");
    let trials = vec![
        trial("the_kernel_of_this_host_is_read", None, the_kernel_of_this_host_is_read),
        trial("promtool_takes_the_golden_scrapes", no_promtool, promtool_takes_the_golden_scrapes),
        trial("a_real_bus_answers", no_bus, a_real_bus_answers),
        trial("a_real_container_is_seen", no_container(), a_real_container_is_seen),
    ];
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn gatherer(docker: DockerView) -> Gatherer {
    let roots =
        Roots { procfs: "/proc".into(), sysfs: "/sys".into(), rootfs: "/".into(), udev_data: "/run/udev/data".into() };
    Gatherer::new(roots, Settings::defaults(), Calls::REAL, docker)
}

/// The value of the first series that begins with `prefix` and holds all `words`.
fn value(body: &str, prefix: &str, words: &[&str]) -> Option<f64> {
    let series = |line: &&str| line.starts_with(prefix) && words.iter().all(|word| line.contains(word));
    body.lines().find(series)?.rsplit(' ').next()?.parse().ok()
}

fn the_kernel_of_this_host_is_read() {
    let mut gatherer = gatherer(Box::new(Arc::default));
    // Which of the others a virtual machine has is not ours to say.
    let everywhere = Collector::ALL.iter().copied().filter(|collector| collector.absence().is_none());
    let surely = everywhere.fold(Selection::NONE, Selection::with).without(Collector::Container);
    let now = Timestamp::now();
    let body = gatherer.gather(surely, now).render(Format::Text);
    for collector in surely.iter() {
        let label = format!("{{collector=\"{}\"}}", collector.name());
        assert_eq!(value(&body, "node_scrape_collector_success", &[&label]), Some(1.0), "{collector:?}");
    }
    let memory = std::fs::read_to_string("/proc/meminfo").unwrap();
    let kilobytes: f64 = memory.lines().next().unwrap().split_whitespace().nth(1).unwrap().parse().unwrap();
    assert_eq!(value(&body, "node_memory_MemTotal_bytes ", &[]), Some(kilobytes * 1024.0));
    let boot = value(&body, "node_boot_time_seconds ", &[]).unwrap();
    assert!(boot > 0.0 && boot <= now.as_second() as f64);
    let idle = value(&body, "node_cpu_seconds_total{", &["mode=\"idle\""]).unwrap();
    assert!(idle <= now.as_second() as f64 - boot + 1.0, "a CPU is not longer idle than the machine is up");
    // Not always `/`: that of a container is an overlay, which is left out.
    let is_disk = |line: &&str| line.starts_with("node_filesystem_size_bytes{") && line.contains("device_error=\"\"");
    let disk = body.lines().filter(is_disk).find(|line| !line.ends_with(" 0")).expect("a file system with a size");
    let labels = disk["node_filesystem_size_bytes".len()..].split_inclusive('}').next().unwrap();
    let size: f64 = disk.rsplit(' ').next().unwrap().parse().unwrap();
    let used = size - value(&body, &format!("node_filesystem_avail_bytes{labels} "), &[]).unwrap();
    assert!((0.0..=size).contains(&used), "{disk}");
    assert!(value(&body, "node_network_receive_bytes_total{device=\"lo\"}", &[]).is_some());
    // Counters only grow.
    let later = gatherer.gather(surely, Timestamp::now()).render(Format::Text);
    for family in ["node_context_switches_total ", "node_intr_total ", "node_forks_total "] {
        assert!(value(&later, family, &[]) >= value(&body, family, &[]), "{family}");
    }
}

fn promtool() -> Option<PathBuf> {
    let named = std::env::var_os("NEXUS_PROMTOOL").map(PathBuf::from);
    named.filter(|path| path.is_file()).or_else(|| on_path("promtool"))
}

fn on_path(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|path| path.is_file())
}

/// Ended when the test is.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        _ = self.0.kill();
        _ = self.0.wait();
    }
}

fn a_real_bus_answers() {
    let folder = tempfile::tempdir().unwrap();
    let socket = folder.path().join("bus");
    let child = Command::new(on_path("dbus-daemon").unwrap())
        .args(["--session", "--nofork", "--nopidfile", &format!("--address=unix:path={}", socket.display())])
        .stderr(Stdio::null())
        .spawn();
    let _running = Running(child.unwrap());
    let mut connection =
        wait_for("the bus", || Connection::open(&socket, Peer::Bus, Instant::now() + support::SOON).ok());
    let bus = "org.freedesktop.DBus";
    let call =
        |member, arguments| Call { destination: bus, path: "/org/freedesktop/DBus", interface: bus, member, arguments };
    // More than wait for an answer at once.
    let names = [bus];
    let owner = call("GetNameOwner", &names[..]);
    let nobody = call("GetNameOwner", &["a.b"][..]);
    let features = Call::property(bus, "/org/freedesktop/DBus", &["org.freedesktop.DBus", "Features"]);
    let calls = [vec![call("GetId", &[]), nobody, features], vec![owner; 200]].concat();
    let answers = connection.call(&calls).unwrap();
    let text = |at: usize| answers[at].as_ref().unwrap().decoder().text().unwrap().to_owned();
    assert_eq!(text(0).len(), 32);
    assert!(matches!(&answers[1], Err(Error::Refused(name)) if name == "org.freedesktop.DBus.Error.NameHasNoOwner"));
    let features = answers[2].as_ref().unwrap();
    assert_eq!((&*features.signature, features.variant()), ("v", None), "a list");
    assert!((3..203).all(|at| text(at) == bus));
}

/// Which promtool does not like, with what it says of them; most are the kernel's words.
const NAMES_OF_NODE_EXPORTER: [(&str, &str); 3] =
    [("node_memory_", "camelCase"), ("node_netstat_", "camelCase"), ("node_entropy_", "base unit \"bytes\"")];

fn promtool_takes_the_golden_scrapes() {
    let promtool = promtool().unwrap();
    let mut seen = 0;
    for entry in std::fs::read_dir(fixture("")).unwrap().flatten() {
        if entry.path().extension().is_none_or(|extension| extension != "prom") {
            continue;
        }
        seen += 1;
        let mut child = Command::new(&promtool)
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(&std::fs::read(entry.path()).unwrap()).unwrap();
        let output = child.wait_with_output().unwrap();
        let complaints = String::from_utf8_lossy(&output.stderr);
        // 3: it could be read, but a name is not to promtool's taste.
        assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {complaints}", entry.path().display());
        let is_node_exporters = |line: &&str| {
            NAMES_OF_NODE_EXPORTER.iter().any(|(name, words)| line.starts_with(name) && line.contains(words))
        };
        let ours = complaints.lines().filter(|line| !line.trim().is_empty());
        let ours: Vec<_> = ours.filter(|line| !is_node_exporters(line)).collect();
        assert!(ours.is_empty(), "{}: {ours:?}", entry.path().display());
    }
    assert_eq!(seen, 4);
}

const SOCKET: &str = "/var/run/docker.sock";
/// What other tests of this project build, where they ran; any static busybox of the host otherwise.
const IMAGE: &str = "nexus-test/busybox";

fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Why no container can be run here, if so.
fn no_container() -> Option<&'static str> {
    if !Path::new(SOCKET).exists() {
        return Some("no Docker socket");
    }
    if docker(&["version"]).is_none() {
        return Some("no Docker Engine answers");
    }
    if docker(&["image", "inspect", IMAGE]).is_none() && !import_busybox() {
        return Some("no image nexus-test/busybox, and no static busybox to make it of");
    }
    None
}

/// Makes an image of the host's busybox, if that runs without libraries.
fn import_busybox() -> bool {
    let script = "set -e; for busybox in /bin/busybox /usr/bin/busybox; do [ -x $busybox ] || continue; \
        if ldd $busybox >/dev/null 2>&1; then continue; fi; folder=$(mktemp -d); mkdir $folder/bin; cp $busybox $folder/bin/; \
        for name in sh sleep true; do ln -s busybox $folder/bin/$name; done; \
        tar -C $folder -c . | docker import -c 'ENV PATH=/bin' - nexus-test/busybox; rm -r $folder; exit 0; done; exit 1";
    let mut command = Command::new("sh");
    command.args(["-c", script]).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// Removed at the end, whatever the end is.
struct Container(String);

impl Drop for Container {
    fn drop(&mut self) {
        docker(&["rm", "-f", "-v", &self.0]);
    }
}

/// Watches on a thread of its own, as long as the test runs.
fn watch(stack: String) -> Watcher {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let docker = Docker::connect(Path::new(SOCKET), Duration::from_secs(10));
            sender.send(Watcher::spawn(Arc::new(docker), stack)).unwrap();
            std::future::pending::<()>().await;
        });
    });
    receiver.recv().unwrap()
}

fn a_real_container_is_seen() {
    // A stack of its own keeps other containers of this host out of sight, and this one out of theirs.
    let stack = format!("nexus-exporter-live-{}", std::process::id());
    let name = format!("{stack}-web");
    let label = format!("nexus.stack={stack}");
    let run = ["run", "--detach", "--name", &name, "--label", &label, "--memory=32m", "--restart=unless-stopped"];
    let labels = ["--label=com.docker.compose.project=live", "--label=com.docker.compose.service=web"];
    let health = ["--health-cmd=true", "--health-interval=1s"];
    let rest = [IMAGE, "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 0.1; done"];
    let arguments: Vec<&str> = [run.as_slice(), &labels, &health, &rest].concat();
    let _removed = Container(name.clone());
    docker(&arguments).expect("docker run");

    let watcher = watch(stack.clone());
    let view = watcher.clone();
    let mut gatherer = gatherer(Box::new(move || view.snapshot()));
    let containers = Selection::NONE.with(Collector::Container);
    let mut scrape = || gatherer.gather(containers, Timestamp::now()).render(Format::Text);
    let me = format!("name=\"{name}\"");
    let mut until = |family: &str, word: &str| {
        wait_for(&format!("{family} {word}"), || {
            let body = scrape();
            (value(&body, family, &[&me, word]) == Some(1.0)).then_some(body)
        })
    };

    let body = until("docker_container_health{", "health=\"healthy\"");
    let of = |family: &str| value(&body, &format!("{family}{{"), &[&me, "project=\"live\"", "service=\"web\""]);
    assert_eq!(value(&body, "docker_up ", &[]), Some(1.0));
    assert_eq!(value(&body, "node_scrape_collector_success{", &[]), Some(1.0));
    assert_eq!(value(&body, "docker_container_state{", &[&me, "state=\"running\""]), Some(1.0));
    assert_eq!(of("docker_container_expected_running"), Some(1.0));
    assert_eq!(of("container_health_state"), Some(1.0));
    assert!(of("container_cpu_usage_seconds_total").unwrap() > 0.0);
    assert!(of("container_threads").unwrap() >= 1.0);
    assert!(of("container_start_time_seconds").unwrap() > 1.7e9);
    assert!(value(&body, "container_network_receive_bytes_total{", &[&me, "interface=\"eth0\""]).is_some());
    if value(&body, "nexus_memory_cgroup_enabled ", &[]) == Some(1.0) {
        assert_eq!(of("container_spec_memory_limit_bytes"), Some(f64::from(32 << 20)));
        let (set, usage) =
            (of("container_memory_working_set_bytes").unwrap(), of("container_memory_usage_bytes").unwrap());
        assert!(set > 0.0 && set <= usage && usage <= f64::from(32 << 20));
        assert_eq!(of("container_oom_events_total"), Some(0.0));
    }
    let names: BTreeSet<&str> = body.split("name=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(names, BTreeSet::from([name.as_str()]), "nothing of other stacks");

    docker(&["stop", "--time=5", &name]).expect("docker stop");
    let body = until("docker_container_state{", "state=\"exited\"");
    let of = |family: &str| value(&body, &format!("{family}{{"), &[&me]);
    assert_eq!(of("docker_container_stopped_on_purpose"), Some(1.0));
    assert!(of("docker_container_exit_code").is_some() && of("docker_container_finished_at_seconds").unwrap() > 1.7e9);
    assert_eq!((of("container_last_seen"), of("container_cpu_usage_seconds_total")), (None, None));

    docker(&["start", &name]).expect("docker start");
    let body = until("docker_container_state{", "state=\"running\"");
    let of = |family: &str| value(&body, &format!("{family}{{"), &[&me]);
    assert_eq!(of("docker_container_stopped_on_purpose"), Some(0.0));
    assert_eq!(of("docker_container_exit_code"), None);
}
