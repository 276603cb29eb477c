//! `nexus mcp`: tools for an AI agent, with what this machine's settings say.

use std::path::Path;

use anyhow::Result;
use nexus_reporter::mcp::{self, Agent};
use nexus_reporter::sources::Sources;

use crate::home::Home;
use crate::http::Part;
use crate::notify::notifier;
use crate::status;

/// Serves until the agent closes its end. A healer that can't be asked is told by the tools that ask it.
pub async fn serve(home: &Home, act: bool, token_file: Option<&Path>) -> Result<()> {
    let healer = Part::healer_with(home, token_file, act).map(Part::into_inner).map_err(|error| format!("{error:#}"));
    let sources = Sources { healer, ..status::sources(home)? };
    Ok(mcp::serve(Agent {
        sources,
        reporter: Part::reporter(home)?.into_inner(),
        act: act.then(|| notifier(home)).transpose()?,
    })
    .await?)
}
