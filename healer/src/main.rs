//! Arguments → configuration → run. Exit codes: 2 for usage and configuration, 1 for the rest.

use std::process::ExitCode;

use clap::Parser;
use nexus_healer::{
    config::{Command, CommandLine},
    keep, run,
};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match line.command {
        Some(Command::Healthcheck) => nexus_daemon::healthcheck(line.config.listen),
        Some(Command::Check) => run::check(&line.config),
        Some(Command::Journal(keep)) => keep::run(&keep, &line.config),
        None => run::run(&line.config),
    };
    nexus_daemon::end("nexus-healer", outcome)
}
