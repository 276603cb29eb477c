//! What the running healer does, a file for each trade, in one program: what they share is compiled once, and one case waits
//! while another works. `cargo test -p nexus-healer --test running ingress::` runs one file.
//!
//! Tests that may be left out at run time (they need Postgres, a mount or a real engine) are programs of their own in Cargo.toml.

mod api;
mod crash;
mod dependencies;
mod docker_faults;
mod fast_path;
mod faults;
mod healing;
mod hold;
mod ingress;
mod keep;
mod policy;
mod probes;
mod relief;
mod shadow;
mod support;
mod unscraped;
