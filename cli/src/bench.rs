//! `nexus bench`: measurements that anyone can run, each beside a peer in one run.

pub mod exporter;
mod process;
