//! Text files of other programs: the input is cut into files at each line that is `---`.

#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use nexus_exporter::collect::{Access, Calls, Collector, DockerState, Kept, Reader, Roots};
use nexus_exporter::settings::Settings;
use nexus_exporter::snapshot::{Outcome, Snapshot};
use nexus_fuzz::{render_and_check, scratch};

const MOST_FILES: usize = 3;

/// Where the files are, and the settings that say so.
fn folder() -> &'static (PathBuf, Settings) {
    static FOLDER: OnceLock<(PathBuf, Settings)> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = scratch().keep();
        let textfile_directories = vec![folder.to_string_lossy().into_owned()];
        (folder, Settings { textfile_directories, ..Settings::defaults() })
    })
}

fuzz_target!(|input: &[u8]| {
    let nowhere = PathBuf::new;
    let roots = Roots { procfs: nowhere(), sysfs: nowhere(), rootfs: nowhere(), udev_data: nowhere() };
    let (folder, settings) = folder();
    let mut rest = input;
    for at in 0..MOST_FILES {
        let cut = rest.windows(5).position(|bytes| bytes == b"\n---\n").filter(|_| at + 1 < MOST_FILES);
        let (content, after) = cut.map_or((rest, &b""[..]), |cut| (&rest[..cut + 1], &rest[cut + 5..]));
        fs::write(folder.join(format!("{at}.prom")), content).expect("the file can be written");
        rest = after;
    }
    let (mut reader, docker, collector) = (Reader::default(), DockerState::default(), Collector::Textfile);
    let now = Timestamp::UNIX_EPOCH;
    let mut access = Access { roots: &roots, settings, calls: Calls::REAL, docker: &docker, now, reader: &mut reader };
    let found = collector.read(&mut access, &Kept::default()).expect("whatever is in the files, it succeeds");
    let outcomes = vec![Outcome { collector, took: Duration::ZERO, fault: None }];
    render_and_check(&Snapshot { outcomes, found: vec![found], process: None, web_config_ok: None });
});
