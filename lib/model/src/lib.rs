//! The words that the rooms of Nexus share: labels, incidents, outcomes, named refusals and the JSON of the APIs.
//!
//! Plain data and serde only. There is no I/O here, no clock and no decision; who needs one of those does not find it
//! in this crate on purpose.

pub mod api;
pub mod control;
pub mod diagnosis;
pub mod incident;
pub mod labels;
pub mod now;
pub mod refusal;
pub mod shadow;
pub mod words;

pub use diagnosis::{Cause, Confidence, Diagnosis};
pub use incident::{
    Attempt, AttemptOutcome, Evidence, EvidenceKind, Incident, IncidentEvent, IncidentState, Mode, Outcome,
};
pub use labels::ServiceKey;
pub use now::Now;
pub use refusal::Refusal;
