//! A year of vitals in Postgres. `migrations/V4__history.sql` is the schema, docs/history.md tells of it.
//!
//! Prometheus → [`prometheus`] asks the [`queries`] for a [`window`] → [`batch`] puts the answers together to rows →
//! [`store`] writes them, with how far they reach, in one transaction. Days that are complete are rolled up to hours and what is
//! too old is dropped ([`retention`] decides, [`maintain`] does it). [`collector`] is the loop. [`read`] reads, of a [`subject`]; with
//! what Prometheus knows [`lately`] it becomes [`series`] in [`steps`], and what is told of one [`service`]. And [`generate`]
//! makes up a year for tests and demonstrations.
//!
//! What this does not do: fill holes with guesses, change a row that is there, delete one, or write the future.

pub mod batch;
pub mod collector;
pub mod columns;
pub mod generate;
pub mod lately;
pub mod maintain;
pub mod metrics;
pub mod prometheus;
pub mod queries;
pub mod read;
pub mod retention;
pub mod series;
pub mod service;
pub mod steps;
pub mod store;
pub mod subject;
pub mod window;
