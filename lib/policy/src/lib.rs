//! What the owner allows, and how hard the healer tries: healer.yml, the labels on containers, and the switches of `nexus heal`.
//!
//! Read by the healer, which acts on it, and by the command line, which checks and explains it without a healer. Everything is a
//! function of text and plain data: the file is read in [`Policy::read`], and nothing else here touches the outside but for the
//! host's time zone. Begin with [`policy`] (what the file says) and [`terms`] (what that means for one service).
//! What this does not do: look at containers (a caller hands over [`Worn`]), or decide about an illness.

pub mod amount;
pub mod explain;
pub mod images;
pub mod labels;
pub mod modes;
pub mod policy;
pub mod probe;
mod reader;
pub mod term;
pub mod terms;
mod tree;
pub mod window;

pub use policy::{Given, Mistake, Policy, PolicyError, ProjectPolicy, Protected, Remedies, ServicePolicy};
pub use probe::{Ask, Expect, ProbeTarget};
pub use term::{Amount, Healing, Term};
pub use terms::{Level, Source, Terms, Worn};
pub use window::{Maintenance, Window};
