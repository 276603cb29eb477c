//! Serving HTTP/1.1 for the exporter, the healer and the reporter: time-outs against slow clients, a cap on connections,
//! bearer tokens and an orderly end; and, from a web configuration file in the format of Prometheus's exporters, TLS, basic
//! authentication, headers and a rate limit. Routing is axum's, the protocol hyper's, TLS rustls's with ring, passed on
//! explicitly: no process-wide provider is needed.
//!
//! What this crate does not do: HTTP/2 (a scrape is one request), listening on sockets handed over by systemd.

mod bearer;
mod config;
mod files;
mod gate;
mod healthcheck;
mod passwords;
mod places;
mod rate;
mod san;
mod scopes;
mod secret;
mod serve;
mod timed;
mod tls;

pub use bearer::{bearer_of, require_bearer};
pub use config::WebConfigError;
pub use gate::Gate;
pub use healthcheck::{HealthcheckError, healthcheck};
pub use passwords::{hash_password, is_password};
pub use scopes::{Tokens, require_scope};
pub use secret::{Secret, SecretError};
pub use serve::{BindError, Limits, bind, serve, serve_gated, shutdown_signal};
