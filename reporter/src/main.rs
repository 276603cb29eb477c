//! Arguments → configuration → run. Exit codes: 2 for usage and configuration, 1 for the rest.

use std::process::ExitCode;

use clap::Parser;
use nexus_reporter::{
    config::{Command, CommandLine},
    run::{self, Failure},
};

fn main() -> ExitCode {
    let line = CommandLine::parse();
    let outcome = match &line.command {
        Some(Command::Healthcheck) => run::healthcheck(&line.config),
        Some(Command::Generate(generate)) => run::generate(&line.config, generate),
        None => run::run(&line.config),
    };
    let (code, error) = match outcome {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Configuration(error)) => (2, error),
        Err(Failure::Other(error)) => (1, error),
    };
    eprintln!("nexus-reporter: {error:#}");
    ExitCode::from(code)
}
