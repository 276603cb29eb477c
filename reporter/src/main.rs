//! Arguments → configuration → run. Exit codes: 2 for usage and configuration, 1 for the rest.

use std::process::ExitCode;

use clap::Parser;
use nexus_reporter::{
    config::{Command, CommandLine},
    run,
};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match &line.command {
        Some(Command::Healthcheck) => nexus_daemon::healthcheck(line.config.listen),
        Some(Command::Generate(generate)) => run::generate(&line.config, generate),
        None => run::run(&line.config),
    };
    nexus_daemon::end("nexus-reporter", outcome)
}
