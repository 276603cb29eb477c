//! The journal on a file system of its own, of which images are taken while the healer writes, as a power cut would leave it: each
//! is mounted, so that the kernel mends what it has to, and the journal is opened. Whatever was answered or done before is there.
//!
//! The image is a file on an outer file system, and that one is frozen for the moment of the copy: no write gets half into it.
//! What the healer has not asked to be on the disk is still in the kernel's memory then, and lost as in a power cut. The same
//! file system is filled to the last block, and made read-only under the healer's feet.
//!
//! It needs root, loop devices, and the programs of util-linux and e2fsprogs; without them the cases are reported as ignored, with the
//! reason in their names. `NEXUS_POWER_CUTS` is how often the power is cut in each of the first two.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]

mod support;

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use jiff::Timestamp;
use libtest_mimic::{Arguments, Trial};
use nexus_healer::journal::{Filter, Store};
use nexus_model::{Outcome, api::IncidentDetail};
use support::{
    engine::{Engine, Fake},
    eventually,
    healer::{Healer, POLICY, WEBHOOK_TOKEN, firing, payload},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

const INNER_BYTES: u64 = 16 << 20;
const OUTER_BYTES: u64 = 48 << 20;
/// Alerts that the journal is given to keep, below the 10,000 that it takes.
const MOST_WAITING: u32 = 9_000;
/// Answers there must be before each cut.
const EACH_CUT: u32 = 20;

fn main() -> ExitCode {
    // One after the other: two that look for a free loop device at once may find the same.
    let arguments = Arguments { test_threads: Some(1), ..Arguments::from_args() };
    let hindrance = Disk::new().err();
    let cuts = std::env::var("NEXUS_POWER_CUTS").ok().and_then(|text| text.parse().ok()).unwrap_or(6);
    assert!((1..=MOST_WAITING / EACH_CUT).contains(&cuts), "NEXUS_POWER_CUTS is from 1 to {}", MOST_WAITING / EACH_CUT);
    let mut trials = Vec::new();
    macro_rules! case {
        ($name:ident($($argument:expr)?)) => {
            let name = stringify!($name);
            let name = hindrance.as_ref().map_or_else(|| name.to_owned(), |reason| format!("{name} ({reason})"));
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on($name($($argument)?));
                Ok(())
            };
            trials.push(Trial::test(name, run).with_ignored_flag(hindrance.is_some()));
        };
    }
    case!(every_alert_that_was_answered_is_there_after_a_power_cut(cuts));
    case!(every_restart_that_docker_was_asked_for_is_there_after_a_power_cut(cuts));
    case!(a_disk_that_is_full_to_the_last_block_holds_everything_back_until_there_is_room());
    case!(a_disk_that_becomes_read_only_holds_everything_back());
    libtest_mimic::run(&arguments, trials).exit_code()
}

fn program(name: &str, arguments: &[&str]) -> Result<String, String> {
    let output = Command::new(name).args(arguments).output().map_err(|error| format!("{name}: {error}"))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("{name}: {}", said.lines().next().unwrap_or_default()))
}

/// A file system in a file, mounted as long as this lives.
struct Mounted {
    at: PathBuf,
}

impl Mounted {
    fn make(image: &Path, bytes: u64, at: &Path) -> Result<Self, String> {
        let file = std::fs::File::create(image).map_err(|error| error.to_string())?;
        file.set_len(bytes).map_err(|error| error.to_string())?;
        program("mkfs.ext4", &["-q", "-F", image.to_str().unwrap()])?;
        Self::mount(image, at)
    }

    fn mount(image: &Path, at: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(at).map_err(|error| error.to_string())?;
        program("mount", &["-o", "loop,noatime", image.to_str().unwrap(), at.to_str().unwrap()])?;
        Ok(Self { at: at.to_owned() })
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        // Who still has a file open there is ending; the device goes with the last of them.
        if let Err(error) = program("umount", &["--lazy", self.at.to_str().unwrap()]) {
            eprintln!("{error}");
        }
    }
}

/// The disk of the journal. Fields are dropped in this order: the inner one first.
struct Disk {
    inner: Mounted,
    outer: Mounted,
    folder: tempfile::TempDir,
    copies: AtomicU32,
}

/// Frozen as long as this lives.
struct Frozen<'m>(&'m Mounted);

impl<'m> Frozen<'m> {
    fn freeze(mounted: &'m Mounted) -> Self {
        program("fsfreeze", &["--freeze", mounted.at.to_str().unwrap()]).unwrap();
        Self(mounted)
    }
}

impl Drop for Frozen<'_> {
    fn drop(&mut self) {
        if let Err(error) = program("fsfreeze", &["--unfreeze", self.0.at.to_str().unwrap()]) {
            eprintln!("{error}");
        }
    }
}

impl Disk {
    /// Or why there can be none.
    fn new() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("needs root, to mount a disk of its own".to_owned());
        }
        program("fsfreeze", &["--version"])?;
        let memory = Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let folder = folder.map_err(|error| error.to_string())?;
        let outer = Mounted::make(&folder.path().join("outer.img"), OUTER_BYTES, &folder.path().join("outer"))?;
        let inner = Mounted::make(&outer.at.join("inner.img"), INNER_BYTES, &folder.path().join("inner"))?;
        Ok(Self { inner, outer, folder, copies: AtomicU32::new(0) })
    }

    fn journal(&self) -> PathBuf {
        self.inner.at.join("journal.db")
    }

    /// The power is cut, while everything goes on. `before` is called in the moment before it.
    async fn cut<T: Send + 'static>(self: &Arc<Self>, before: impl FnOnce() -> T + Send + 'static) -> (T, PathBuf) {
        let disk = Arc::clone(self);
        let cutting = tokio::task::spawn_blocking(move || {
            let number = disk.copies.fetch_add(1, Ordering::Relaxed);
            let image = disk.folder.path().join(format!("cut-{number}.img"));
            let known = before();
            let frozen = Frozen::freeze(&disk.outer);
            let copied = std::fs::copy(disk.outer.at.join("inner.img"), &image);
            drop(frozen);
            copied.unwrap();
            (known, image)
        });
        cutting.await.unwrap()
    }

    /// The machine boots again: the journal as it is found.
    fn boot<T>(&self, image: &Path, look: impl FnOnce(&Store) -> T) -> T {
        let mounted = Mounted::mount(image, &image.with_extension("mnt")).unwrap();
        let store = Store::open(&mounted.at.join("journal.db")).unwrap_or_else(|error| panic!("{error}"));
        let found = look(&store);
        drop(store);
        drop(mounted);
        std::fs::remove_file(image).unwrap();
        found
    }
}

/// A moment that has nothing to do with anything else, within a tenth of a second.
fn any_moment() -> Duration {
    Duration::from_micros(u64::from(getrandom::u32().unwrap()) % 100_000)
}

async fn every_alert_that_was_answered_is_there_after_a_power_cut(cuts: u32) {
    let disk = Arc::new(Disk::new().unwrap());
    let engine = Engine::start();
    // Docker hangs: whatever is answered waits in the journal.
    engine.hang(true);
    let mut healer = Healer::new(&engine);
    healer.journal = disk.journal();
    healer.start().await;
    let answered: Arc<Mutex<BTreeSet<String>>> = Arc::default();
    let (number, over) = (Arc::new(AtomicU32::new(0)), Arc::new(AtomicBool::new(false)));
    // How many may be sent by now: what waits is bounded, and none of these is to be refused.
    let share = MOST_WAITING / cuts;
    let may = Arc::new(AtomicU32::new(share));
    let posting: Vec<_> = (0..8)
        .map(|_| {
            let (answered, number, over) = (Arc::clone(&answered), Arc::clone(&number), Arc::clone(&over));
            let may = Arc::clone(&may);
            let address = healer.address();
            tokio::spawn(async move {
                while !over.load(Ordering::Relaxed) {
                    // Slow enough that there are some left for the moment of the cut.
                    tokio::time::sleep(Duration::from_millis(15)).await;
                    if number.load(Ordering::Relaxed) >= may.load(Ordering::Relaxed) {
                        continue;
                    }
                    let service = format!("s{}", number.fetch_add(1, Ordering::Relaxed));
                    let body = payload(&[firing("shop", &service)]).to_string();
                    let request = format!(
                        "POST /webhook HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {WEBHOOK_TOKEN}\r\n\
                         Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
                        body.len()
                    );
                    let mut stream = TcpStream::connect(address).await.unwrap();
                    stream.write_all(request.as_bytes()).await.unwrap();
                    let mut answer = String::new();
                    stream.read_to_string(&mut answer).await.unwrap();
                    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
                    answered.lock().unwrap().insert(service);
                }
            })
        })
        .collect();
    let mut most = 0;
    for cut in 0..cuts {
        let enough = ((cut + 1) * EACH_CUT) as usize;
        eventually("some more answers", async || (answered.lock().unwrap().len() >= enough).then_some(())).await;
        tokio::time::sleep(any_moment()).await;
        let answers = Arc::clone(&answered);
        let (known, image) = disk.cut(move || answers.lock().unwrap().clone()).await;
        let found: BTreeSet<String> =
            disk.boot(&image, |store| store.prompts().unwrap().into_iter().map(|it| it.prompt.service).collect());
        let lost: Vec<_> = known.difference(&found).collect();
        assert!(lost.is_empty(), "of {} answered alerts these are lost: {lost:?}", known.len());
        // And nothing is there that nobody has sent.
        assert!(found.iter().all(|service| service[1..].parse::<u32>().unwrap() < number.load(Ordering::Relaxed)));
        most = most.max(known.len());
        may.fetch_add(share, Ordering::Relaxed);
    }
    over.store(true, Ordering::Relaxed);
    for task in posting {
        task.await.unwrap();
    }
    eprintln!("{cuts} power cuts, with up to {most} answered alerts");
    healer.kill();
}

async fn every_restart_that_docker_was_asked_for_is_there_after_a_power_cut(cuts: u32) {
    let disk = Arc::new(Disk::new().unwrap());
    let engine = Engine::start();
    // Two restarts a cut, and less than a budget's for each.
    let names: Vec<String> = (0..6.max(cuts / 4)).map(|number| format!("s{number}")).collect();
    for name in &names {
        engine.set(name, Fake::service("shop", name).ill());
    }
    let mut healer = Healer::new(&engine);
    healer.journal = disk.journal();
    // Each falls ill again and again, and all of them together; none is to be given up, or to wait for the machine.
    healer.policy(&POLICY.replace("attempts: 3", "attempts: 20\n  attempts_per_day: 200\n  hold_when_ill: 1000"));
    healer.start().await;
    for cut in 0..cuts {
        for name in &names {
            engine.change(name, |it| it.health = Some("unhealthy"));
            healer.alert("shop", name).await;
        }
        let enough = (cut + 1) as usize * 2;
        eventually("some more restarts", async || (engine.all_restarts().len() >= enough).then_some(())).await;
        tokio::time::sleep(any_moment()).await;
        let docker = engine.clone();
        let (asked, image) = disk.cut(move || docker.all_restarts()).await;
        let mut intents: Vec<(String, Timestamp)> = disk.boot(&image, |store| {
            let incidents = store.incidents(&Filter { limit: Some(1000), ..Filter::default() }).unwrap();
            let details = incidents.into_iter().map(|it| store.incident(it.id).unwrap().unwrap());
            details.flat_map(|it| it.attempts).map(|it| (it.container_id, it.intended_at)).collect()
        });
        // Each takes the last one before it that none has taken.
        intents.sort_by_key(|(_, intended_at)| *intended_at);
        for (container, at) in asked.iter().rev() {
            let own = intents.iter().rposition(|(of, intended_at)| of == container && intended_at <= at);
            let own = own.unwrap_or_else(|| panic!("no intent: {container} at {at}"));
            intents.remove(own);
        }
    }
    eprintln!("{cuts} power cuts, with up to {} restarts", engine.all_restarts().len());
    healer.kill();
}

/// Fills a file system to the last block, and gives what fills it.
fn fill(mounted: &Mounted) -> PathBuf {
    use std::io::Write;
    let path = mounted.at.join("filler");
    let mut file = std::fs::File::create(&path).unwrap();
    for size in [1 << 16, 1 << 12, 1] {
        let block = vec![1; size];
        while file.write_all(&block).and_then(|()| file.sync_data()).is_ok() {}
    }
    path
}

fn closed(detail: &IncidentDetail) -> bool {
    detail.incident.outcome == Some(Outcome::Recovered)
}

async fn refuses(healer: &Healer, engine: &Engine) {
    // Of room that SQLite has already taken for its log it can still make use; then none is left.
    let refused = eventually("an alert that is refused", async || {
        let (status, answer) = healer.post(&payload(&[firing("shop", "other")])).await;
        (status == 503).then_some(answer)
    });
    assert!(refused.await.contains("the journal can't be written"));
    assert_eq!(healer.request("GET", "/readyz", None, "").await.0, 503);
    assert_eq!(healer.metric("nexus_healer_journal_writable").await, Some(0.0));
    engine.change("c1", |it| it.health = Some("unhealthy"));
    healer.sees("web", "running", "unhealthy").await;
    assert_eq!(healer.post(&payload(&[firing("shop", "web")])).await.0, 503);
    assert_eq!(engine.all_restarts(), []);
}

async fn a_disk_that_is_full_to_the_last_block_holds_everything_back_until_there_is_room() {
    let disk = Disk::new().unwrap();
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let mut healer = Healer::new(&engine);
    healer.journal = disk.journal();
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    let filler = fill(&disk.inner);
    refuses(&healer, &engine).await;
    std::fs::remove_file(filler).unwrap();
    healer.alert("shop", "web").await;
    healer.incident("web", "the end of the incident", closed).await;
    assert_eq!(engine.restarts("c1"), 1);
    healer.kill();
}

async fn a_disk_that_becomes_read_only_holds_everything_back() {
    let disk = Disk::new().unwrap();
    let engine = Engine::start();
    engine.set("c1", Fake::service("shop", "web"));
    let mut healer = Healer::new(&engine);
    healer.journal = disk.journal();
    healer.start().await;
    healer.sees("web", "running", "healthy").await;
    // What ext4 does when the disk below it fails.
    program("mount", &["-o", "remount,abort", disk.inner.at.to_str().unwrap()]).unwrap();
    refuses(&healer, &engine).await;
    healer.kill();
    // Nor does it start on such a disk as if nothing were the matter.
    let output = healer.command().output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("journal.db") && !said.contains("panicked"), "{said}");
}
