//! The healer: looks where Alertmanager points, restarts what is ill, checks that it helped and writes it all down.
//!
//! The flow is one way: webhook → journal → facts → decide → journal (intent) → act → verify → journal (outcome) →
//! Postgres. Decisions are pure ([`decide`]); what they change is plain data ([`transition`]); I/O lives at the edges.
//! Read [`worker`] first: it is the loop; [`relief`] has one of its own, for the machine itself. What this crate does not do: serve pages, delete or create anything in Docker,
//! act on a timer without an incident, or act on anything that is not a Compose service.

pub mod acknowledge;
pub mod act;
pub mod alertmanager;
pub mod alone;
pub mod api;
pub mod asks;
pub mod backoff;
pub mod budget;
pub mod by_hand;
pub mod case;
pub mod cgroup;
pub mod clock;
pub mod config;
pub mod decide;
pub mod dependencies;
pub mod diagnosis;
pub mod direct;
pub mod durable;
pub mod evidence;
pub mod explain;
pub mod facts;
pub mod fault;
pub mod findings;
pub mod hold;
pub mod images;
pub mod journal;
pub mod keep;
pub mod metrics;
pub mod notify;
pub mod ooms;
pub mod pauses;
pub mod plan;
pub mod probe;
pub mod prompts;
pub mod record;
pub mod redact;
pub mod relief;
pub mod reload;
pub mod run;
pub mod scrapes;
pub mod server;
pub mod shadow;
pub mod sight;
pub mod silences;
pub mod stops;
pub mod stuck;
pub mod tell;
pub mod transition;
pub mod verify;
pub mod webhook;
pub mod worker;

pub use nexus_policy::{self as policy, modes};

#[cfg(test)]
mod testing;
