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
use nexus_docker::{DiskSchedule, DiskWatcher, Docker, ImageWatcher, WatchOptions, Watcher};
use nexus_exporter::collect::{Calls, Collector, DockerState, Roots, Selection};
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
        trial("disk_usage_is_as_docker_system_df_says", no_engine(), disk_usage_is_as_docker_system_df_says),
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
    let mut gatherer = gatherer(Box::new(DockerState::default));
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

/// Beginnings of names that node_exporter and cAdvisor chose, most of them the kernel's words; and what promtool may say of
/// such a name. Of ours it has nothing to say.
const NAMES_OF_OTHERS: [&str; 4] = ["node_", "container_", "cadvisor_", "machine_"];
const ABOUT_A_NAME: [&str; 3] = ["snake_case", "base unit", "suffix"];

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
        let is_theirs = |line: &&str| {
            NAMES_OF_OTHERS.iter().any(|start| line.starts_with(start))
                && ABOUT_A_NAME.iter().any(|words| line.contains(words))
        };
        let ours = complaints.lines().filter(|line| !line.trim().is_empty());
        let ours: Vec<_> = ours.filter(|line| !is_theirs(line)).collect();
        assert!(ours.is_empty(), "{}: {ours:?}", entry.path().display());
    }
    let trees = std::fs::read_dir(fixture("")).unwrap().flatten();
    assert_eq!(seen, trees.filter(|entry| entry.path().join("docker.json").exists()).count(), "one for each tree");
}

const SOCKET: &str = "/var/run/docker.sock";
/// What other tests of this project build, where they ran; any static busybox of the host otherwise.
const IMAGE: &str = "nexus-test/busybox";

fn docker(arguments: &[&str]) -> Option<String> {
    let output = Command::new("docker").args(arguments).stderr(Stdio::null()).output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

/// Why Docker can't be asked here, if so.
fn no_engine() -> Option<&'static str> {
    if !Path::new(SOCKET).exists() {
        return Some("no Docker socket");
    }
    docker(&["version"]).is_none().then_some("no Docker Engine answers")
}

/// Why no container can be run here, if so.
fn no_container() -> Option<&'static str> {
    if let Some(why) = no_engine() {
        return Some(why);
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
fn watch(stack: String) -> DockerView {
    let (sender, receiver) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let docker = Arc::new(Docker::connect(Path::new(SOCKET), Duration::from_secs(10)));
            let options =
                WatchOptions { list_every: Duration::from_secs(1), fresh_probes: true, ..WatchOptions::default() };
            let watcher = Watcher::spawn_with(Arc::clone(&docker), stack, options);
            let images = ImageWatcher::spawn(Arc::clone(&docker), watcher.subscribe());
            let second = Duration::from_secs(1);
            let schedule = DiskSchedule { first_after: Duration::ZERO, interval: second, timeout: 60 * second };
            let disk = DiskWatcher::spawn(docker, watcher.subscribe(), schedule);
            sender.send((watcher, images, disk)).unwrap();
            std::future::pending::<()>().await;
        });
    });
    let (watcher, images, disk) = receiver.recv().unwrap();
    Box::new(move || DockerState { snapshot: watcher.snapshot(), images: images.times(), disk: disk.report() })
}

/// `1.5MB` as Docker writes it, with four digits.
fn human(text: &str) -> f64 {
    let text = text.split(' ').next().unwrap();
    let at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap();
    let power = ["B", "kB", "MB", "GB", "TB"].iter().position(|unit| *unit == &text[at..]).unwrap();
    text[..at].parse::<f64>().unwrap() * 1000f64.powi(power as i32)
}

fn disk_usage_is_as_docker_system_df_says() {
    let mut gatherer = gatherer(watch("nobody".to_owned()));
    let wanted = Selection::NONE.with(Collector::DockerDisk);
    // What others do on this host changes it at any moment, and before Docker 23.0 two can't ask at once.
    wait_for("the same figures from both", || {
        let told = docker(&["system", "df", "--format", "{{json .}}"])?;
        let body = gatherer.gather(wanted, Timestamp::now()).render(Format::Text);
        let mut rows = 0;
        for line in told.lines() {
            let row: serde_json::Value = serde_json::from_str(line).unwrap();
            let text = |name: &str| row[name].as_str().unwrap().to_owned();
            let name = match text("Type").as_str() {
                "Images" => "images",
                "Containers" => "containers",
                "Local Volumes" => "volumes",
                "Build Cache" => "build_cache",
                other => panic!("{other}"),
            };
            let ours = |family: &str| value(&body, &format!("{family}{{type=\"{name}\"}}"), &[]);
            let same = |ours: f64, theirs: f64| (ours - theirs).abs() <= theirs * 0.001;
            // Where the engine lists its images, those that Nexus built for itself are left out of what can be had back.
            let reclaimable = |ours: f64, theirs: f64| same(ours, theirs) || (name == "images" && ours < theirs);
            let agrees = same(ours("docker_disk_bytes")?, human(&text("Size")))
                && reclaimable(ours("docker_disk_reclaimable_bytes")?, human(&text("Reclaimable")))
                && ours("docker_disk_objects")? == text("TotalCount").parse::<f64>().unwrap()
                && ours("docker_disk_active_objects")? == text("Active").parse::<f64>().unwrap();
            if !agrees {
                return None;
            }
            rows += 1;
        }
        assert!(value(&body, "docker_disk_age_seconds ", &[]).unwrap() < 60.0);
        (rows == 4).then_some(())
    });
}

fn a_real_container_is_seen() {
    // A stack of its own keeps other containers of this host out of sight, and this one out of theirs.
    let stack = format!("nexus-exporter-live-{}", std::process::id());
    let name = format!("{stack}-web");
    let label = format!("nexus.stack={stack}");
    let run = ["run", "--detach", "--name", &name, "--label", &label, "--restart=unless-stopped"];
    let limits = ["--memory=32m", "--cpus=0.5", "--cpu-shares=512", "--pids-limit=50"];
    let labels = ["--label=com.docker.compose.project=live", "--label=com.docker.compose.service=web"];
    let log = ["--log-driver=json-file", "--log-opt=max-size=2k", "--log-opt=max-file=3"];
    let health = ["--health-cmd=true", "--health-interval=1s"];
    let rest = [IMAGE, "sh", "-c", "trap 'exit 0' TERM; echo hello; while :; do sleep 0.1; done"];
    let arguments: Vec<&str> = [run.as_slice(), &limits, &labels, &log, &health, &rest].concat();
    let _removed = Container(name.clone());
    docker(&arguments).expect("docker run");

    let mut gatherer = gatherer(watch(stack));
    let containers = Selection::NONE.with(Collector::Container).with(Collector::Docker);
    let mut scrape = || gatherer.gather(containers, Timestamp::now()).render(Format::Text);
    let me = format!("name=\"{name}\"");
    let mut until = |what: &str, wanted: &dyn Fn(&str) -> bool| {
        wait_for(what, || {
            let body = scrape();
            wanted(&body).then_some(body)
        })
    };
    let is = |family: &'static str, word: &'static str| {
        let me = me.as_str();
        move |body: &str| value(body, family, &[me, word]) == Some(1.0)
    };

    // The age of its image is asked for beside the scrapes.
    let is_healthy = is("docker_container_health{", "health=\"healthy\"");
    let has_image = |body: &str| value(body, "docker_container_image_created_seconds{", &[&me]).is_some();
    let body = until("health=\"healthy\" and the age of its image", &|body| is_healthy(body) && has_image(body));
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
    assert_eq!((of("container_spec_cpu_quota"), of("container_spec_cpu_period")), (Some(50_000.0), Some(100_000.0)));
    assert_eq!((of("container_spec_cpu_shares"), of("container_threads_max")), (Some(512.0), Some(50.0)));
    assert!(of("container_cpu_cfs_periods_total") >= of("container_cpu_cfs_throttled_periods_total"));
    assert_eq!(
        of("container_pressure_cpu_waiting_seconds_total").is_some(),
        of("container_pressure_memory_stalled_seconds_total").is_some()
    );
    assert!(value(&body, "docker_container_info{", &[&me, "image_id=\"sha256:", "log_driver=\"json-file\""]).is_some());
    let made = docker(&["image", "inspect", "--format={{.Created}}", IMAGE]).unwrap().parse::<Timestamp>().unwrap();
    assert_eq!(of("docker_container_image_created_seconds"), Some(made.as_second() as f64));
    assert_eq!(of("docker_container_health_failing_streak"), Some(0.0));
    let took = of("docker_container_health_probe_duration_seconds").unwrap();
    assert!(took > 0.0 && took < 30.0);
    let log_path = docker(&["inspect", "--format={{.LogPath}}", &name]).unwrap();
    // Only root may look there.
    if let Ok(file) = std::fs::metadata(&log_path) {
        assert_eq!(of("docker_container_log_bytes"), Some(file.len() as f64));
    }
    if value(&body, "nexus_memory_cgroup_enabled ", &[]) == Some(1.0) {
        assert_eq!(of("container_spec_memory_limit_bytes"), Some(f64::from(32 << 20)));
        let (set, usage) =
            (of("container_memory_working_set_bytes").unwrap(), of("container_memory_usage_bytes").unwrap());
        assert!(set > 0.0 && set <= usage && usage <= f64::from(32 << 20));
        assert!(of("container_memory_max_usage_bytes").is_none_or(|most| most > 0.0));
        let faults = value(&body, "container_memory_failures_total{", &[&me, "\"pgfault\"", "\"hierarchy\""]);
        assert!(faults.unwrap() > 0.0);
        assert_eq!(of("container_oom_events_total"), Some(0.0));
    }
    let names: BTreeSet<&str> = body.split("name=\"").skip(1).filter_map(|rest| rest.split('"').next()).collect();
    assert_eq!(names, BTreeSet::from([name.as_str()]), "nothing of other stacks");

    let probed_at = of("docker_container_health_probe_finished_at_seconds").unwrap();
    until("a later probe, of which no event tells", &|body| {
        value(body, "docker_container_health_probe_finished_at_seconds{", &[&me]) > Some(probed_at)
    });

    docker(&["update", "--cpus=0.75", "--pids-limit=60", &name]).expect("docker update");
    let body = until("the new limits", &|body| value(body, "container_spec_cpu_quota{", &[&me]) == Some(75_000.0));
    assert_eq!(value(&body, "container_threads_max{", &[&me]), Some(60.0));

    // What is kept open goes with the run: above all its network.
    let kept = || {
        let links = std::fs::read_dir("/proc/self/fd").unwrap().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).filter(|it| it.ends_with("net/dev")).count()
    };
    assert_eq!(kept(), 1);
    docker(&["stop", "--time=5", &name]).expect("docker stop");
    let body = until("state=\"exited\"", &is("docker_container_state{", "state=\"exited\""));
    let of = |family: &str| value(&body, &format!("{family}{{"), &[&me]);
    assert_eq!(of("docker_container_stopped_on_purpose"), Some(1.0));
    assert_eq!(value(&body, "docker_events_total{action=\"kill\"}", &[]), Some(1.0));
    assert_eq!(value(&body, "docker_containers{state=\"exited\"}", &[]), Some(1.0));
    assert!(of("docker_container_exit_code").is_some() && of("docker_container_finished_at_seconds").unwrap() > 1.7e9);
    assert_eq!((of("container_last_seen"), of("container_cpu_usage_seconds_total")), (None, None));
    assert_eq!(kept(), 0);

    docker(&["start", &name]).expect("docker start");
    let body = until("state=\"running\"", &is("docker_container_state{", "state=\"running\""));
    let of = |family: &str| value(&body, &format!("{family}{{"), &[&me]);
    assert_eq!(of("docker_container_stopped_on_purpose"), Some(0.0));
    assert_eq!(of("docker_container_exit_code"), None);
}
