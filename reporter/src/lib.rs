//! The memory and the voice of Nexus: a year of history, and the answer to "how am I doing?".
//!
//! A library, linked by the command line too so that it answers when a service is down, and a server that serves the same
//! answers as API and page. Data flows one way: Prometheus → history in Postgres; Prometheus, Postgres, healer, Alertmanager →
//! facts → report → rendering. Reports are pure functions of facts and a time.

pub mod api;
pub mod baseline;
pub mod cache;
pub mod capacity;
pub mod charts;
pub mod config;
pub mod database;
#[cfg(test)]
mod dice;
pub mod errors;
mod fault;
pub mod history;
pub mod incidents;
pub mod mcp;
pub mod notify;
pub mod operations;
pub mod page;
pub mod recall;
pub mod render;
pub mod report;
pub mod run;
pub mod runbooks;
pub mod server;
pub mod site;
pub mod sources;
pub mod sql;
pub mod statistics;
pub mod usage;
