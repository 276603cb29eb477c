//! The senses of Nexus: vitals of a host and of its containers, read from the kernel and from Docker's events, and
//! written as metrics under the names that node_exporter and cAdvisor made known.
//!
//! Flow goes one way: `kernel, Docker -> collect -> Snapshot -> exposition -> HTTP`. A scrape makes no call to the Docker
//! daemon. Between scrapes nothing is read but what it tells: its events, each minute the list of containers and the
//! probes of their health checks, each hour its disk usage.
//!
//! What this crate does not do: keep history (Prometheus), decide what is wrong (its rules), change anything.

pub mod cgroup;
pub mod collect;
pub mod config;
pub mod dbus;
pub mod docs;
pub mod exposition;
pub mod family;
pub mod filter;
pub mod gather;
pub mod guard;
pub mod manual;
pub mod negotiate;
pub mod parse;
pub mod process;
pub mod reader;
pub mod scrape;
pub mod server;
pub mod settings;
pub mod snapshot;
