//! The remedy `prune` with a real engine: a Docker daemon of the test's own on a file system that is nearly full. What nothing uses
//! and can be had again goes, as far as the file system itself says; volumes, containers, images with a tag and what a
//! container is made of stay.
//!
//! Once at the daemon's own socket, and once through the guard of Docker's socket with the configuration that the stack uses.
//!
//! It needs root, the programs of Docker, one of which builds with BuildKit, and for the second case the stack's HAProxy (its image
//! in NEXUS_IMAGE_HAPROXY); it runs when NEXUS_REAL_ENGINE is set (`./nexus test soak`). Otherwise its cases are reported as
//! ignored, with the reason in their names.

#![expect(clippy::unwrap_used, reason = "a test that can't go on has failed")]

mod support;

use std::{
    io::Read as _,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Trial};
use nexus_model::{AttemptOutcome, IncidentState, Outcome, api::IncidentDetail};
use support::{
    eventually,
    healer::{Healer, POLICY},
    mounted::{Mounted, available},
    real::{self, Daemon},
};

const MIB: u64 = 1 << 20;
const SIZE: u64 = 768 * MIB;
/// What is left when the disk is nearly full: less than 5 % of it.
const LEFT: u64 = 20 * MIB;
/// Of the image that lost its tag, and of the files that BuildKit keeps of what it was sent.
const DANGLING: u64 = 120 * MIB;
const CACHED: u64 = 80 * MIB;
/// What the engine, the journal and the file system write for themselves meanwhile.
const SLACK: u64 = 6 * MIB;

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let hindrance = hindrance().err();
    let folder = tempfile::tempdir().unwrap();
    let image = folder.path().join("image.tar");
    if hindrance.is_none() && !arguments.list {
        real::docker(&["save", "--output", image.to_str().unwrap(), &real::image().unwrap()]).unwrap();
    }
    let proxy = hindrance.clone().or_else(|| proxy_image().err());
    let mut trials = Vec::new();
    macro_rules! case {
        ($name:ident, $hindrance:expr) => {
            let (name, hindrance): (_, Option<String>) = (stringify!($name), $hindrance);
            let name = hindrance.as_ref().map_or_else(|| name.to_owned(), |reason| format!("{name} ({reason})"));
            let image = image.clone();
            let run = move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                runtime.block_on($name(&image));
                Ok(())
            };
            trials.push(Trial::test(name, run).with_ignored_flag(hindrance.is_some()));
        };
    }
    case!(what_nothing_uses_goes_from_a_disk_that_is_nearly_full_and_nothing_else, hindrance);
    case!(the_guard_of_dockers_socket_lets_both_prunes_through, proxy);
    libtest_mimic::run(&arguments, trials).exit_code()
}

async fn what_nothing_uses_goes_from_a_disk_that_is_nearly_full_and_nothing_else(image: &Path) {
    nearly_full(image, false).await;
}

async fn the_guard_of_dockers_socket_lets_both_prunes_through(image: &Path) {
    nearly_full(image, true).await;
}

fn hindrance() -> Result<(), String> {
    real::hindrance()?;
    real::program("dockerd", &["--version"])?;
    real::program("containerd", &["--version"])?;
    Mounted::new(16 * MIB).map(drop)
}

fn proxy_image() -> Result<String, String> {
    let image = std::env::var("NEXUS_IMAGE_HAPROXY").unwrap_or_else(|_| "nexus/haproxy:3.0-debian".to_owned());
    real::docker(&["image", "inspect", "--format", "{{.Id}}", &image])?;
    Ok(image)
}

async fn nearly_full(image: &Path, proxied: bool) {
    let mounted = Mounted::new(SIZE).unwrap();
    let disk = mounted.path();
    let daemon = Daemon::on(disk.join("docker"), image).await;
    let scratch = tempfile::tempdir().unwrap();

    // What nothing uses: an image that another has taken the tag from, and what BuildKit keeps of the files that it was sent.
    build(&daemon, scratch.path(), ("nexus-test/app:1", DANGLING));
    build(&daemon, scratch.path(), ("nexus-test/app:1", MIB));
    let clients = ["docker", "/usr/bin/docker"];
    let is_built = clients
        .iter()
        .any(|client| try_build(&daemon, scratch.path(), client, true, ("nexus-test/unused:1", CACHED)).is_ok());
    assert!(is_built, "none of {clients:?} builds with BuildKit: is docker-buildx installed?");
    assert_eq!(dangling(&daemon).len(), 1);
    // What looks like it and is to stay: an image without a tag that a container is made of, a container that has ended, volumes.
    build(&daemon, scratch.path(), ("nexus-test/used:1", MIB));
    let used = daemon.docker(&["create", "--network=none", "nexus-test/used:1", "/none"]).unwrap();
    build(&daemon, scratch.path(), ("nexus-test/used:1", MIB));
    let base = real::image().unwrap();
    let ended = ["run", "--name=ended", "--network=none", "--volume=kept:/kept", "--entrypoint=sh", &base, "-c"];
    daemon.docker(&[&ended[..], &["echo word > /kept/word"]].concat()).unwrap();
    daemon.docker(&["volume", "create", "unused"]).unwrap();
    let word = disk.join("docker/volumes/kept/_data/word");
    assert_eq!(std::fs::read_to_string(&word).unwrap(), "word\n");
    let containers = daemon.docker(&["ps", "--all", "--quiet", "--no-trunc"]).unwrap();
    let volumes = daemon.docker(&["volume", "ls", "--quiet"]).unwrap();
    assert_eq!((containers.lines().count(), volumes.lines().count()), (2, 2));

    let proxy = proxied.then(|| Proxy::start(&daemon.socket(), scratch.path()));
    let socket = proxy.as_ref().map_or_else(|| daemon.socket(), |proxy| proxy.socket.clone());
    eventually("the socket", async || socket.exists().then_some(())).await;
    let mut healer = Healer::at(socket, &disk);
    healer.policy(&format!("{POLICY}remedies: {{prune: true}}\n"));
    healer.start().await;
    eventually("docker is seen", async || healer.metric("nexus_healer_docker_up").await.filter(|up| *up == 1.0)).await;
    assert!(healer.incidents().await.incidents.is_empty());

    let filler = std::fs::File::create(disk.join("filler")).unwrap();
    rustix::fs::fallocate(&filler, rustix::fs::FallocateFlags::empty(), 0, available(&disk) - LEFT).unwrap();
    let before = available(&disk);
    let is_over = |detail: &IncidentDetail| detail.incident.state == IncidentState::Closed;
    let detail = healer.incident("disk", "a disk that has room again", is_over).await;
    let gained = available(&disk) - before;

    let attempts: Vec<_> = detail.attempts.iter().map(|it| (it.action.as_str(), it.outcome)).collect();
    let told = detail.attempts[0].detail.clone().unwrap_or_default();
    eprintln!("{} MiB were left, then {} MiB more: {told}", before / MIB, gained / MIB);
    assert_eq!(attempts, [("prune", Some(AttemptOutcome::Helped))], "{told}");
    assert_eq!(detail.incident.outcome, Some(Outcome::Recovered));
    assert!(gained + SLACK >= DANGLING + CACHED, "{gained} bytes more, by the file system");
    // Both figures that are told: Docker's own, and that of the file system.
    let [deleted, more] = told_mib(&told);
    assert!(more.abs_diff(gained / MIB) <= SLACK / MIB, "{more} MiB told, {} MiB are more", gained / MIB);
    assert!(deleted + SLACK / MIB >= (DANGLING + CACHED) / MIB, "{told}");

    assert_eq!(dangling(&daemon), [""; 0].map(str::to_owned), "images without a tag that nothing uses");
    for image in [base.as_str(), "nexus-test/app:1", "nexus-test/unused:1", "nexus-test/used:1"] {
        daemon.docker(&["image", "inspect", image]).unwrap();
    }
    assert_eq!(daemon.docker(&["ps", "--all", "--quiet", "--no-trunc"]).unwrap(), containers);
    assert_eq!(daemon.docker(&["volume", "ls", "--quiet"]).unwrap(), volumes);
    assert_eq!(std::fs::read_to_string(&word).unwrap(), "word\n");
    let untagged = daemon.docker(&["inspect", "--format", "{{.Image}}", &used]).unwrap();
    daemon.docker(&["image", "inspect", &untagged]).unwrap();
    // It runs as before.
    daemon.docker(&["start", "--attach", "ended"]).unwrap();
    let (status, log) = healer.stop();
    assert!(status.success(), "{log}");
}

/// Images without a tag that no container is made of.
fn dangling(daemon: &Daemon) -> Vec<String> {
    let all = daemon.docker(&["images", "--filter=dangling=true", "--quiet", "--no-trunc"]).unwrap();
    let containers = daemon.docker(&["ps", "--all", "--quiet"]).unwrap();
    let image = |id| daemon.docker(&["inspect", "--format", "{{.Image}}", id]).unwrap();
    let used: Vec<String> = containers.lines().map(image).collect();
    all.lines().filter(|id| !used.iter().any(|used| used == id)).map(str::to_owned).collect()
}

fn build(daemon: &Daemon, folder: &Path, what: (&str, u64)) {
    try_build(daemon, folder, "docker", false, what).unwrap();
}

/// An image of one file that nobody can press smaller or share.
fn try_build(
    daemon: &Daemon,
    folder: &Path,
    client: &str,
    with_kit: bool,
    (tag, bytes): (&str, u64),
) -> Result<(), String> {
    let context = tempfile::tempdir_in(folder).unwrap();
    let mut noise = std::fs::File::open("/dev/urandom").unwrap().take(bytes);
    std::io::copy(&mut noise, &mut std::fs::File::create(context.path().join("noise")).unwrap()).unwrap();
    std::fs::write(context.path().join("Dockerfile"), "FROM scratch\nCOPY noise /noise\n").unwrap();
    let context = context.path().to_str().unwrap();
    let host = format!("unix://{}", daemon.socket().display());
    let kit = format!("DOCKER_BUILDKIT={}", u8::from(with_kit));
    real::program("env", &[&kit, client, "--host", &host, "build", "--quiet", "--tag", tag, context]).map(drop)
}

/// What Docker says that it deleted, and how much more is free, in MiB.
fn told_mib(told: &str) -> [u64; 2] {
    let mib = |text: &str| -> u64 {
        let mut words = text.split_whitespace();
        let number: f64 = words.next().unwrap().parse().unwrap();
        assert!(words.next().unwrap().starts_with("MiB"), "{told}");
        number as u64
    };
    let (deleted, rest) = told.strip_prefix("docker deleted ").unwrap().split_once("; ").unwrap();
    [mib(deleted), mib(rest)]
}

/// The stack's guard of Docker's socket in front of another daemon. The host's engine runs it.
struct Proxy {
    name: String,
    socket: PathBuf,
}

impl Proxy {
    fn start(daemon: &Path, folder: &Path) -> Self {
        let name = format!("nexus-test-prune-proxy-{}", std::process::id());
        let configuration = Path::new(env!("CARGO_MANIFEST_DIR")).join("../images/haproxy/haproxy.cfg");
        let configuration = configuration.canonicalize().unwrap();
        let [read, heal] = ["read", "heal"].map(|name| folder.join(name));
        std::fs::create_dir(&read).unwrap();
        std::fs::create_dir(&heal).unwrap();
        real::docker(&[
            "run",
            "--detach",
            "--rm",
            &format!("--name={name}"),
            "--network=none",
            "--user=0:0",
            &format!("--volume={}:/etc/nexus/haproxy.cfg:ro", configuration.display()),
            &format!("--volume={}:/var/run/docker.sock", daemon.display()),
            &format!("--volume={}:/run/docker-read", read.display()),
            &format!("--volume={}:/run/docker-heal", heal.display()),
            "--entrypoint=haproxy",
            &proxy_image().unwrap(),
            "-db",
            "-f",
            "/etc/nexus/haproxy.cfg",
        ])
        .unwrap();
        Self { name, socket: heal.join("docker.sock") }
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        _ = real::docker(&["rm", "--force", &self.name]);
    }
}
