//! What the targets share: fixture trees that can be changed, and a reader of expositions that knows nothing of the code
//! which wrote them.

pub mod exposition;
pub mod tree;

#[path = "../../exporter/tests/support/engine.rs"]
#[allow(dead_code, clippy::unwrap_used, reason = "the tests' engine, which fails by panicking")]
mod engine;

use std::time::Duration;

use nexus_exporter::exposition::Format;
use nexus_exporter::snapshot::Snapshot;

/// How long the engine may take.
const SOON: Duration = Duration::from_secs(20);

/// Writes a snapshot in both formats and panics unless both can be read and have as many samples.
pub fn render_and_check(snapshot: &Snapshot) {
    let [text, openmetrics] = [Format::Text, Format::OpenMetrics].map(|format| {
        let body = snapshot.render(format);
        exposition::check(&body, format).unwrap_or_else(|mistake| panic!("{format:?}: {mistake}"))
    });
    assert_eq!(text, openmetrics, "the formats differ in the number of samples");
}

/// A folder for what a target writes in each run: with TMPDIR in memory (/dev/shm) they are many more in a second.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder for files can be made")
}
