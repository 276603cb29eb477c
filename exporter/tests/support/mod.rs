//! What the tests share.

#![allow(dead_code, reason = "each test uses its part")]

pub mod engine;
pub mod program;

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nexus_exporter::collect::Roots;
use nexus_exporter::collect::rpi_firmware::Message;

/// For what must happen soon; generous, since two cores are shared by all tests.
pub const SOON: Duration = Duration::from_secs(20);

pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub fn roots(fixture: &Path) -> Roots {
    Roots {
        procfs: fixture.join("proc"),
        sysfs: fixture.join("sys"),
        rootfs: fixture.join("root"),
        udev_data: fixture.join("udev"),
    }
}

/// Answers a command to a Raspberry Pi's firmware.
pub fn say(message: &mut Message, text: &str) {
    message.words[5..].fill(0);
    for (word, bytes) in message.words[6..].iter_mut().zip(text.as_bytes().chunks(4)) {
        let mut four = [0; 4];
        four[..bytes.len()].copy_from_slice(bytes);
        *word = u32::from_ne_bytes(four);
    }
    (message.words[4], message.passed) = (0x8000_0000 | message.words[3], Some(Ok(())));
}

/// Answers a property tag.
pub fn give(message: &mut Message, values: &[u32]) {
    message.words[5..5 + values.len()].copy_from_slice(values);
    (message.words[4], message.passed) = (0x8000_0000 | message.words[3], Some(Ok(())));
}

/// Waits until `condition` gives something.
pub fn wait_for<T>(what: &str, mut condition: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + SOON;
    loop {
        if let Some(found) = condition() {
            return found;
        }
        assert!(Instant::now() < deadline, "timed out waiting for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
