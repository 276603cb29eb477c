//! What scrapes leave behind: alone in its program, since it counts the descriptors and threads of all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};

use jiff::Timestamp;
use nexus_docker::{Container, Docker, Snapshot, StopCause, Watched, Watcher};
use nexus_exporter::collect::{Calls, Collector, DockerState, Selection};
use nexus_exporter::exposition::Format;
use nexus_exporter::gather::Gatherer;
use nexus_exporter::settings::Settings;

const SCRAPES: u32 = 10_000;
const CONTAINERS: u32 = 4;

/// A container as the engine of a fixture tells it. The engine's threads have ended but for the one that listens.
fn template() -> Container {
    let threads = count("task");
    let template = from_engine();
    support::wait_for("the end of the engine's threads", || (count("task") <= threads + 1).then_some(()));
    template
}

fn from_engine() -> Container {
    let engine = support::engine::Engine::start(&support::fixture("pi4").join("docker.json"));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let watcher = Watcher::spawn(Arc::new(Docker::connect(&engine.socket, support::SOON)), "nexus".to_owned());
        let mut changes = watcher.subscribe();
        let seen = changes.wait_for(|snapshot| snapshot.up);
        let seen = tokio::time::timeout(support::SOON, seen).await.expect("the recorded engine is up").unwrap().clone();
        (*seen.containers.values().next().unwrap().container).clone()
    })
}

fn id(number: u32) -> String {
    format!("{number:064x}")
}

/// Makes the group of a container and /proc of its first process, or takes them away.
fn set(root: &Path, number: u32, pid: u32, is_there: bool) {
    let group = root.join(format!("sys/fs/cgroup/docker/{}", id(number)));
    let process = root.join(format!("proc/{pid}"));
    if is_there {
        fs::create_dir_all(&group).unwrap();
        fs::create_dir_all(process.join("net")).unwrap();
        let files = [
            ("cgroup.procs", "1\n"),
            ("cpu.stat", "usage_usec 5\nuser_usec 3\nsystem_usec 2\n"),
            ("memory.current", "4096\n"),
            ("memory.stat", "anon 1\nfile 2\ninactive_file 1\n"),
            ("pids.current", "1\n"),
        ];
        files.iter().for_each(|(name, text)| fs::write(group.join(name), text).unwrap());
        fs::write(process.join("net/dev"), "eth0: 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\n").unwrap();
    } else {
        fs::remove_dir_all(&group).unwrap();
        fs::remove_dir_all(&process).unwrap();
    }
}

fn count(folder: &str) -> usize {
    fs::read_dir(Path::new("/proc/self").join(folder)).unwrap().count()
}

/// A host whose containers come and go, and what Docker says of them.
struct Host {
    folder: tempfile::TempDir,
    template: Container,
    docker: Arc<Mutex<Arc<Snapshot>>>,
    /// Containers with the process id of their run, 0 for none.
    pids: BTreeMap<u32, u32>,
    last_pid: u32,
    now: Timestamp,
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir_all(folder.path().join("sys/fs/cgroup")).unwrap();
        fs::create_dir_all(folder.path().join("proc")).unwrap();
        fs::write(folder.path().join("sys/fs/cgroup/cgroup.controllers"), "cpu memory pids\n").unwrap();
        let now = Timestamp::from_second(1_767_326_400).unwrap();
        let (docker, pids) = (Arc::default(), BTreeMap::new());
        Host { folder, template: template(), docker, pids, last_pid: 100, now }
    }

    fn tell(&self) {
        let watched = |(&number, &pid): (&u32, &u32)| {
            let container = Container {
                id: id(number),
                name: format!("c{number}"),
                network_mode: "bridge".to_owned(),
                cgroup_parent: String::new(),
                pid,
                started_at: self.now.checked_add(jiff::SignedDuration::from_secs(pid.into())).ok(),
                ..self.template.clone()
            };
            (
                id(number),
                Watched {
                    container: Arc::new(container),
                    stop: StopCause::Unknown,
                    has_been_healthy: false,
                    oom_events: 0,
                },
            )
        };
        let containers = self.pids.iter().map(watched).collect();
        *self.docker.lock().unwrap() = Arc::new(Snapshot { up: true, containers, ..Snapshot::default() });
    }

    /// One container after the other starts, is restarted, ends and is removed, with scrapes between. `scrape` says how
    /// many have figures.
    fn scrapes(&mut self, count: u32, mut scrape: impl FnMut() -> usize) {
        let root = self.folder.path().to_owned();
        for turn in 0..count {
            let (number, step) = (turn / 14 % CONTAINERS, turn % 14);
            match step {
                0 => {
                    self.last_pid += 1;
                    set(&root, number, self.last_pid, true);
                    self.pids.insert(number, self.last_pid);
                    self.tell();
                }
                // Another process, the same group.
                4 => {
                    let before = self.pids[&number];
                    self.last_pid += 1;
                    let process = |pid: u32| root.join(format!("proc/{pid}"));
                    fs::rename(process(before), process(self.last_pid)).unwrap();
                    self.pids.insert(number, self.last_pid);
                    self.tell();
                }
                8 if number % 2 == 0 => {
                    set(&root, number, self.pids[&number], false);
                    self.pids.insert(number, 0);
                    self.tell();
                }
                // Docker tells it after two scrapes only.
                8 => set(&root, number, self.pids[&number], false),
                10 => {
                    self.pids.remove(&number);
                    self.tell();
                }
                _ => (),
            }
            let (seen, runs) = (scrape(), usize::from(step < 8));
            // An ordinary file that was removed can still be read while it is open, where the kernel's can't.
            let is_not_told = number % 2 == 1 && (8..10).contains(&step);
            assert!(seen == runs || is_not_told, "scrape {turn}: {seen} containers");
        }
        for (number, pid) in std::mem::take(&mut self.pids) {
            if root.join(format!("proc/{pid}")).exists() {
                set(&root, number, pid, false);
            }
        }
        self.tell();
        assert_eq!(scrape(), 0);
    }
}

#[test]
fn containers_that_come_and_go_leave_no_descriptors_and_no_threads_behind() {
    let mut host = Host::new();
    let (docker, now) = (Arc::clone(&host.docker), host.now);
    let state = move || DockerState { snapshot: Arc::clone(&docker.lock().unwrap()), ..DockerState::default() };
    let roots = support::roots(host.folder.path());
    let mut gatherer = Gatherer::new(roots, Settings::defaults(), Calls::REAL, Box::new(state));
    let containers = Selection::NONE.with(Collector::Container);
    let mut scrape = || {
        let body = gatherer.gather(containers, now).render(Format::Text);
        body.matches("\ncontainer_memory_rss{").count()
    };
    assert_eq!(scrape(), 0);
    let (descriptors, threads) = (count("fd"), count("task"));
    host.scrapes(SCRAPES, scrape);
    assert_eq!((count("fd"), count("task")), (descriptors, threads));
}
