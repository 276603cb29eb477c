//! A bus, or systemd itself, says something else than it should. The input: which of them is asked, and for how much (one byte);
//! all that it says, whatever it was asked.

#![no_main]

use std::io::Write as _;
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use jiff::Timestamp;
use libfuzzer_sys::{Corpus, fuzz_target};
use nexus_exporter::collect::systemd::Wanted;
use nexus_exporter::collect::{Access, Calls, Collector, DockerState, Kept, Reader, Roots};
use nexus_exporter::settings::Settings;
use nexus_exporter::snapshot::{Outcome, Snapshot};
use nexus_fuzz::{render_and_check, scratch};

/// A host whose sockets say what they are given.
struct Host {
    root: PathBuf,
    says: Mutex<[SyncSender<Vec<u8>>; 2]>,
    /// By mode.
    settings: Vec<Settings>,
}

fn host() -> &'static Host {
    static HOST: OnceLock<Host> = OnceLock::new();
    HOST.get_or_init(|| {
        let root = scratch().keep();
        let says = ["run/dbus/system_bus_socket", "run/systemd/private"].map(|socket| {
            let path = root.join(socket);
            std::fs::create_dir_all(path.parent().expect("a socket is in a folder")).expect("a folder can be made");
            let listener = UnixListener::bind(path).expect("the socket can be made");
            let (sender, receiver) = sync_channel::<Vec<u8>>(1);
            std::thread::spawn(move || {
                // What is asked stays in the last connection unread, which takes more than all calls that an input can lead to.
                let mut _last: Option<UnixStream> = None;
                for input in receiver {
                    let (mut stream, _) = listener.accept().expect("the collector connects");
                    // It may have gone before the end.
                    _ = stream.write_all(&input);
                    _ = stream.shutdown(Shutdown::Write);
                    _last = Some(stream);
                }
            });
            sender
        });
        let settings = (0..16).map(|mode| {
            let defaults = Settings::defaults();
            let (is_private, restarts) = (mode & 1 == 1, mode & 2 == 2);
            let (start_times, tasks) = (mode & 4 == 4, mode & 8 == 8);
            Settings { systemd: Wanted { is_private, restarts, start_times, tasks, ..defaults.systemd }, ..defaults }
        });
        Host { root, says: Mutex::new(says), settings: settings.collect() }
    })
}

fuzz_target!(|input: &[u8]| -> Corpus {
    let Some((mode, said)) = input.split_first() else { return Corpus::Reject };
    let host = host();
    let mode = usize::from(mode % 16);
    let (is_private, settings) = (mode & 1 == 1, &host.settings[mode]);
    let nowhere = PathBuf::new;
    let roots = Roots { procfs: nowhere(), sysfs: nowhere(), rootfs: host.root.clone(), udev_data: nowhere() };
    let (mut reader, docker, collector) = (Reader::default(), DockerState::default(), Collector::Systemd);
    let now = Timestamp::UNIX_EPOCH;
    host.says.lock().expect("nobody panics meanwhile")[usize::from(is_private)]
        .send(said.to_owned())
        .expect("it goes on");
    let mut access = Access { roots: &roots, settings, calls: Calls::REAL, docker: &docker, now, reader: &mut reader };
    let (found, fault) = match collector.read(&mut access, &Kept::default()) {
        Ok(found) => (vec![found], None),
        Err(fault) => {
            let told = fault.to_string();
            assert!(!told.contains(char::is_control), "a fault is a line of the log: {told:?}");
            // A bus that closes has said all that it will.
            assert!(!told.contains("no answer in time"), "{told}");
            (Vec::new(), Some(fault))
        }
    };
    let outcomes = vec![Outcome { collector, took: Duration::ZERO, fault }];
    render_and_check(&Snapshot { outcomes, found, process: None, web_config_ok: None });
    Corpus::Keep
});
