//! The real stack, broken on purpose.
//!
//! `tests/stack.rs` starts compose.yml once, as a second stack beside the owner's (other name, ports and folders), runs
//! every case of [`cases`] against it in parallel, and takes it down whatever happened. Nothing is mocked but
//! Telegram, which is a small strict server here ([`telegram`]).

pub mod agent;
pub mod boards;
pub mod cases;
pub mod command;
pub mod dashboard;
pub mod docker;
pub mod events;
pub mod html;
pub mod project;
pub mod promql;
pub mod stack;
pub mod telegram;
pub mod telling;
pub mod wait;
