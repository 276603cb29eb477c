//! `nexus mcp`: tools for an AI agent, with what this machine's settings say.

use std::path::Path;

use anyhow::Result;
use nexus_reporter::mcp::{self, Agent};

use crate::home::Home;
use crate::http::Part;
use crate::notify::notifier;

/// Serves until the agent closes its end. A healer that can't be asked is told by the tools that ask it.
pub async fn serve(home: &Home, act: bool, token_file: Option<&Path>) -> Result<()> {
    let usual = if act { "cli/healer_api_token" } else { "cli/healer_api_read_token" };
    let file = token_file.map_or_else(|| home.secrets().join(usual), Path::to_owned);
    let agent = Agent {
        host: home.get("NEXUS_HOST").to_owned(),
        healer: Part::healer_with(home, &file).map(Part::into_inner).map_err(|error| format!("{error:#}")),
        prometheus: Part::prometheus(home)?.into_inner(),
        alertmanager: Part::alertmanager(home)?.into_inner(),
        act: act.then(|| notifier(home)).transpose()?,
    };
    Ok(mcp::serve(agent).await?)
}
