//! Serving HTTP/1.1 for the exporter, the healer and the reporter: time-outs against slow clients, a cap on connections,
//! bearer tokens and an orderly end. Routing is axum's, the protocol hyper's.
//!
//! What this crate does not do: TLS and basic auth (nothing listens beyond loopback or the compose network so far).

mod bearer;
mod healthcheck;
mod secret;
mod serve;

pub use bearer::require_bearer;
pub use healthcheck::{HealthcheckError, healthcheck};
pub use secret::{Secret, SecretError};
pub use serve::{BindError, Limits, bind, serve, shutdown_signal};
