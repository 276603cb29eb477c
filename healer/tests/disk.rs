//! A runaway writer on a file system of its own: it must never be full. Needs root and a loop device; without them the case is
//! reported as ignored, with the reason in its name.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::{
    io::Write as _,
    path::{Path, PathBuf},
    process::ExitCode,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use libtest_mimic::{Arguments, Trial};
use nexus_model::{AttemptOutcome, Outcome, api::IncidentDetail};
use support::{
    engine::{Engine, Fake},
    eventually,
    healer::{Healer, POLICY},
    mounted::{Mounted, available},
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 128 * MIB;
const BALLAST: u64 = 16 * MIB;
/// Bytes a second: a fast SD card against the size of this file system.
const PACE: u64 = 4 * MIB;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let trial = match Mounted::new(SIZE) {
        Ok(mounted) => Trial::test("a_runaway_writer_never_fills_the_disk", move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(a_runaway_writer_never_fills_the_disk(&mounted));
            Ok(())
        }),
        Err(reason) => {
            Trial::test(format!("a_runaway_writer_never_fills_the_disk ({reason})"), || Ok(())).with_ignored_flag(true)
        }
    };
    libtest_mimic::run(&arguments, vec![trial]).exit_code()
}

/// Writes as long as its container runs, unless it is told to behave.
struct Writer {
    file: PathBuf,
    behaves: Arc<AtomicBool>,
    /// The least that was available, and how often a write failed.
    least: Arc<AtomicU64>,
    failed: Arc<AtomicU64>,
    over: Arc<AtomicBool>,
}

impl Writer {
    fn start(engine: &Engine, id: &'static str, folder: &Path) -> Self {
        let writer = Self {
            file: folder.join("runaway"),
            behaves: Arc::default(),
            least: Arc::new(AtomicU64::new(u64::MAX)),
            failed: Arc::default(),
            over: Arc::default(),
        };
        let (engine, folder, name) = (engine.clone(), folder.to_owned(), writer.file.clone());
        let (behaves, least) = (Arc::clone(&writer.behaves), Arc::clone(&writer.least));
        let (failed, over) = (Arc::clone(&writer.failed), Arc::clone(&writer.over));
        std::thread::spawn(move || {
            let piece = vec![7; (PACE / 10) as usize];
            while !over.load(Ordering::Relaxed) {
                if engine.container(id).status == "running" && !behaves.load(Ordering::Relaxed) {
                    let file = std::fs::OpenOptions::new().append(true).create(true).open(&name);
                    let written = file.and_then(|mut file| file.write_all(&piece).and_then(|()| file.sync_data()));
                    failed.fetch_add(u64::from(written.is_err()), Ordering::Relaxed);
                }
                least.fetch_min(available(&folder), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(100));
            }
        });
        writer
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

async fn a_runaway_writer_never_fills_the_disk(mounted: &Mounted) {
    let disk = mounted.path();
    let engine = Engine::start();
    let worker = Fake { stops_in: Duration::from_millis(500), ..Fake::service("photos", "worker") };
    engine.set("c1", worker.label("nexus.expendable", "true"));
    engine.set("c2", Fake::service("photos", "web"));
    engine.dangling(1);
    let mut healer = Healer::within(&engine, &disk);
    healer.policy(&format!(
        "{}remedies: {{prune: true, stop_expendables: true, ballast: {} MiB}}\n",
        // So that what the ballast gives is not the end of it.
        POLICY.replace("stable_for: 1s", "stable_for: 10s"),
        BALLAST / MIB
    ));
    healer.start().await;
    healer.sees("worker", "running", "healthy").await;
    let ballast = healer.folder.path().join("ballast");
    eventually("the ballast", async || std::fs::metadata(&ballast).ok().filter(|it| it.len() == BALLAST)).await;

    let writer = Writer::start(&engine, "c1", &disk);
    let stopped = |detail: &IncidentDetail| {
        let stop = detail.attempts.iter().find(|attempt| attempt.action == "stop");
        stop.is_some_and(|attempt| attempt.outcome == Some(AttemptOutcome::Helped))
    };
    let detail = healer.incident("disk", "the writer stopped", stopped).await;
    let actions: Vec<&str> = detail.attempts.iter().map(|attempt| attempt.action.as_str()).collect();
    assert_eq!(actions, ["ballast", "prune", "stop"]);
    assert!(!ballast.exists());
    let given_back = detail.attempts[0].detail.as_deref().unwrap();
    assert!(given_back.contains("more than before"), "{given_back}");
    let asked: Vec<&str> = engine.others().into_iter().map(|(what, _)| what).collect();
    assert_eq!(asked, ["prune images", "prune cache", "stop"]);
    assert_eq!(engine.container("c2").status, "running");
    let (least, failed) = (writer.least.load(Ordering::Relaxed), writer.failed.load(Ordering::Relaxed));
    assert!(least > MIB && failed == 0, "{least} bytes were left at the least, {failed} writes failed");

    // Its owner makes room, and it behaves from then on.
    writer.behaves.store(true, Ordering::Relaxed);
    std::fs::remove_file(&writer.file).unwrap();
    let detail = healer.incident("disk", "an incident that is over", |detail| !detail.incident.state.is_open()).await;
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert_eq!(engine.container("c1").status, "running");
    eventually("another ballast", async || std::fs::metadata(&ballast).ok().filter(|it| it.len() == BALLAST)).await;
    let (status, log) = healer.stop();
    assert!(status.success(), "{log}");
}
