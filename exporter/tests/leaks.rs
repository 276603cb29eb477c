//! What scrapes leave behind: alone in its program, since it counts the descriptors and threads of all of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use jiff::Timestamp;
use nexus_docker::{Container, Docker, Snapshot, StopCause, Watched, Watcher};
use nexus_exporter::collect::{Calls, Collector, DockerState, Selection};
use nexus_exporter::exposition::Format;
use nexus_exporter::gather::Gatherer;
use nexus_exporter::settings::Settings;

const SCRAPES: u32 = 10_000;
const CONTAINERS: u32 = 4;

/// A container as the engine of a fixture tells it.
fn template() -> Container {
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

#[test]
fn containers_that_come_and_go_leave_no_descriptors_and_no_threads_behind() {
    let template = template();
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path();
    fs::create_dir_all(root.join("sys/fs/cgroup")).unwrap();
    fs::create_dir_all(root.join("proc")).unwrap();
    fs::write(root.join("sys/fs/cgroup/cgroup.controllers"), "cpu memory pids\n").unwrap();

    let now = Timestamp::from_second(1_767_326_400).unwrap();
    let docker = Arc::new(Mutex::new(Arc::new(Snapshot::default())));
    let view = Arc::clone(&docker);
    let mut gatherer = Gatherer::new(
        support::roots(root),
        Settings { mount_timeout: Duration::from_secs(1), ..Settings::defaults() },
        Calls::REAL,
        Box::new(move || DockerState { snapshot: Arc::clone(&view.lock().unwrap()), ..DockerState::default() }),
    );
    // What Docker says: each container with the process id of its run, 0 for none.
    let tell = |pids: &BTreeMap<u32, u32>| {
        let watched = |(&number, &pid): (&u32, &u32)| {
            let container = Container {
                id: id(number),
                name: format!("c{number}"),
                network_mode: "bridge".to_owned(),
                cgroup_parent: String::new(),
                pid,
                started_at: now.checked_add(jiff::SignedDuration::from_secs(pid.into())).ok(),
                ..template.clone()
            };
            (id(number), Watched { container: Arc::new(container), stop: StopCause::Unknown, oom_events: 0 })
        };
        *docker.lock().unwrap() =
            Arc::new(Snapshot { up: true, containers: pids.iter().map(watched).collect(), ..Snapshot::default() });
    };
    let mut scrape = || {
        let snapshot = gatherer.gather(Selection::NONE.with(Collector::Container), now);
        let body = snapshot.render(Format::Text);
        body.matches("\ncontainer_memory_rss{").count()
    };

    tell(&BTreeMap::new());
    assert_eq!(scrape(), 0);
    let (descriptors, threads) = (count("fd"), count("task"));
    let mut pids: BTreeMap<u32, u32> = BTreeMap::new();
    let mut next_pid = 100;
    for turn in 0..SCRAPES {
        let (number, step) = (turn / 7 % CONTAINERS, turn % 7);
        match step {
            // It starts.
            0 => {
                next_pid += 1;
                set(root, number, next_pid, true);
                pids.insert(number, next_pid);
                tell(&pids);
            }
            // It is restarted: another process, the same group.
            2 => {
                let pid = pids[&number];
                next_pid += 1;
                fs::rename(root.join(format!("proc/{pid}")), root.join(format!("proc/{next_pid}"))).unwrap();
                pids.insert(number, next_pid);
                tell(&pids);
            }
            // It ends. Now and then Docker tells so only after the next scrape, or it is removed at once.
            4 if number % 2 == 0 => {
                set(root, number, pids[&number], false);
                pids.insert(number, 0);
                tell(&pids);
            }
            4 => set(root, number, pids[&number], false),
            5 if number % 2 == 1 => {
                pids.remove(&number);
                tell(&pids);
            }
            _ => (),
        }
        let runs = usize::from(step < 4);
        let seen = scrape();
        // An ordinary file that was removed can still be read while it is open, where the kernel's can't.
        assert!(seen == runs || step == 4 && number % 2 == 1, "scrape {turn}: {seen} containers");
    }
    pids.clear();
    tell(&pids);
    scrape();
    assert_eq!((count("fd"), count("task")), (descriptors, threads));
}
