//! The Docker Engine as the exporter and the healer see it: containers as plain data, a watcher that keeps the state of
//! all of them from one list and the event stream, and two tasks that ask rarely for what the events do not say: disk
//! usage, and when images were made.
//!
//! The only user of `bollard`; none of its types leave this crate. Every call has a deadline. What this crate does not
//! do: statistics (cgroup files are cheaper, see the exporter), and any change but `restart`.

mod client;
mod container;
mod disk;
mod events;
mod history;
mod images;
mod needs;
mod plain;
mod track;
mod watcher;

pub use client::{Docker, DockerError, EngineInfo, Event};
pub use container::{Container, Health, Healthcheck, Probe, Published, RestartPolicy, Status};
pub use disk::{DiskReport, DiskSchedule, DiskUsage, DiskWalk, DiskWatcher, Usage};
pub use events::EventCounts;
pub use images::{ImageTimes, ImageWatcher};
pub use needs::{Need, SaidBy, needs};
pub use track::{SIGNAL_WORKS_WITHIN, StopCause};
pub use watcher::{Earlier, Snapshot, WatchOptions, Watched, Watcher};
