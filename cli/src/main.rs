//! `nexus`, the command line: what an owner asks of the stack, and the plumbing that `./nexus up` needs.
//!
//! It talks to the healer's API, to Prometheus and to Alertmanager on their published ports, and to Docker only through
//! the `docker` program, for the demo and for `tune`. Exit codes: 0 fine, 1 something failed, 2 a mistake in the flags, the settings or the
//! configuration; `status` has 0 to 2 for its verdict, and 3 for anything else.

mod args;
mod baseline;
mod bench;
mod capacity;
mod config;
mod demo;
mod docker;
mod dotenv;
mod failure;
mod files;
mod heal;
mod home;
mod http;
mod incidents;
mod init;
mod keys;
mod mcp;
mod migrate;
mod names;
mod notify;
mod owner;
mod page;
mod policy;
mod record;
mod render;
mod secrets;
mod selftest;
mod status;
mod telegram;
mod text;
mod tune;

use std::io::IsTerminal;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::Parser;
use nexus_model::Mode;

use crate::args::{Bench, Cli, Command, Config, Heal, Policy, Telegram};
use crate::home::Home;
use crate::status::Format;
use crate::text::print;

/// The exit code of `status` when it can't give a verdict.
const NO_VERDICT: u8 = 3;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return usage(&error),
    };
    // reqwest asks for a provider even for plain HTTP. It can only fail when one is installed, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    // Its codes below 3 are verdicts.
    let of_status = matches!(cli.command, Command::Status { .. });
    match run(cli) {
        Ok(code) => code,
        Err(error) if of_status => {
            failure::report(&error);
            ExitCode::from(NO_VERDICT)
        }
        Err(error) => failure::report(&error),
    }
}

/// Help goes out as it is; a mistake becomes one line, like every other.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    let shown = matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    );
    if shown {
        // Nobody is left to tell when the output is closed.
        let _ = error.print();
        return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
    }
    let code = failure::report(&failure::mistake(args::one_line(error)));
    let of_status = args::command_of(std::env::args_os()).as_deref() == Some("status");
    if of_status { ExitCode::from(NO_VERDICT) } else { code }
}

fn run(cli: Cli) -> Result<ExitCode> {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    let open = || Home::open(cli.directory.as_deref(), cli.env_file.as_deref());
    let now = jiff::Timestamp::now();
    let paint = text::paint_for_stdout();
    let text = match cli.command {
        Command::Status { json, markdown, since, project } => {
            let home = open()?;
            let report = runtime.block_on(status::report(&home, since, project, now))?;
            let format = match (json, markdown) {
                (true, _) => Format::Json,
                (false, true) => Format::Markdown,
                (false, false) => Format::Screen,
            };
            print(&match format {
                Format::Json => nexus_reporter::render::json::json(&report).context("cannot write JSON")?,
                Format::Markdown => nexus_reporter::render::markdown::markdown(&report),
                Format::Screen => nexus_reporter::render::text::screen(&report, paint),
            })?;
            if status::is_a_look(format, since, std::io::stdout().is_terminal())
                && let Err(error) = status::remember_look(&home, now)
            {
                // The report is told; only the next one begins too early.
                eprintln!("nexus: {error:#}");
            }
            return Ok(ExitCode::from(report.exit_code()));
        }
        Command::Baseline(options) => runtime.block_on(baseline::run(&open()?, &options))?,
        Command::Tune(options) => return runtime.block_on(tune::run(&open()?, options, now, paint)),
        Command::Capacity(options) => runtime.block_on(capacity::run(&open()?, &options))?,
        Command::Incidents { id: Some(id), json, evidence, .. } => {
            let detail = runtime.block_on(incidents::detail(&open()?, &id))?;
            if json {
                as_json(&detail)?
            } else {
                let note = incidents::noted(detail.note.as_deref());
                format!("{note}{}", incidents::detail_text(&detail.told, evidence, now, paint))
            }
        }
        Command::Incidents { id: None, project, service, state, limit, json, .. } => {
            let query = incidents::Query { project, service, state, limit };
            let home = open()?;
            let list = runtime.block_on(incidents::list(&home, &query))?;
            if json { as_json(&list)? } else { incidents::list_text(&list, now) }
        }
        Command::Demo { keep } => {
            runtime.block_on(demo::run(&open()?, keep))?;
            String::new()
        }
        Command::Bench(Bench::Heal { trials, dependencies: true, interval }) => {
            let trials = trials.unwrap_or(bench::dependencies::TRIALS);
            runtime.block_on(bench::dependencies::run(&open()?, trials, interval))?;
            String::new()
        }
        Command::Bench(Bench::Heal { trials, dependencies: false, .. }) => {
            runtime.block_on(bench::heal::run(&open()?, trials.unwrap_or(bench::heal::TRIALS)))?;
            String::new()
        }
        Command::Bench(Bench::Ingest { posts, fsync_delay, strace, healer }) => {
            let fsync_delay = std::time::Duration::from_millis(fsync_delay);
            let options = bench::ingest::Options { posts, fsync_delay, strace, healer };
            runtime.block_on(bench::ingest::run(&open()?, &options))?;
            String::new()
        }
        Command::Bench(Bench::Exporter { containers, rounds, scrapes, node_exporter, exporter }) => {
            let options = bench::exporter::Options { containers, rounds, scrapes, node_exporter, exporter };
            runtime.block_on(bench::exporter::run(&open()?, &options))?;
            String::new()
        }
        Command::Init { set, replace } => {
            lines(&init::init(cli.directory.as_deref(), cli.env_file.as_deref(), &set, &replace)?)
        }
        Command::Policy(Policy::Check { file }) => {
            let (path, shown) = policy::file(open, file)?;
            let text = policy::check(&path, &shown)?;
            // Another file may be checked where there is no stack.
            let warnings = open().map(|home| runtime.block_on(policy::warnings(&home, &path))).unwrap_or_default();
            if warnings.is_empty() { text } else { format!("{text}\n{warnings}") }
        }
        Command::Policy(Policy::Explain { service, json }) => {
            let explained = runtime.block_on(policy::of_service(&open()?, &service))?;
            if json { as_json(&explained)? } else { policy::text(&explained) }
        }
        Command::Config(Config::Check) => {
            let complaints = config::complaints(&open()?);
            if !complaints.is_empty() {
                return Err(failure::mistake(complaints.join("\n")));
            }
            String::new()
        }
        Command::Config(Config::Render) => lines(&config::render_all(&open()?)?),
        Command::Migrate(migrate) => {
            let options = migrate::Options {
                url: migrate.url,
                password_file: migrate.password_file,
                healer_password_file: migrate.healer_password_file,
                grafana_password_file: migrate.grafana_password_file,
                reporter_password_file: migrate.reporter_password_file,
                reader_password_file: migrate.reader_password_file,
                timeout: migrate.timeout,
            };
            lines(&[runtime.block_on(migrate::migrate(&options))?])
        }
        Command::Selftest { timeout } => runtime.block_on(selftest::run(&open()?, timeout))?,
        Command::Why { target, logs, json } => {
            let home = open()?;
            let (one, detail) = runtime.block_on(owner::detail(&home, &target))?;
            let mut text = if json {
                as_json(&detail)?
            } else {
                let pauses = runtime.block_on(owner::more_pauses(&home, &detail));
                owner::why_text(&detail, &pauses, now, paint)
            };
            if let Some(lines) = logs {
                text.push_str(&runtime.block_on(owner::logs(&home, &one, lines))?);
            }
            text
        }
        Command::Ack { what, retry, note } => runtime.block_on(owner::acknowledge(&open()?, &what, retry, note))?,
        Command::Pause { list: true, .. } => runtime.block_on(owner::pauses(&open()?, now))?,
        Command::Pause { target, length, reason, list: false } => {
            runtime.block_on(owner::pause(&open()?, target, length, reason, now))?
        }
        Command::Resume { target } => runtime.block_on(owner::resume(&open()?, target.as_ref(), now))?,
        Command::Notify { title, text, severity, project, json } => {
            let wanted = notify::wanted(title, text, severity, project)?;
            let delivery = runtime.block_on(notify::send(&open()?, wanted))?;
            if json { as_json(&delivery)? } else { notify::told(&delivery) }
        }
        Command::Mcp { act, token_file } => {
            runtime.block_on(mcp::serve(&open()?, act, token_file.as_deref()))?;
            String::new()
        }
        Command::Telegram(Telegram::Setup { chat, wait, new_token }) => {
            let options = telegram::Options { chat, wait, new_token };
            let mut asked = telegram::Asked::here();
            // Each line as it comes: it says what to do while it waits.
            let tell = |line: &str| eprintln!("{line}");
            runtime.block_on(telegram::setup(&open()?, &options, &mut asked, tell))?;
            String::new()
        }
        Command::Services => runtime.block_on(heal::services(&open()?))?,
        Command::Heal(command) => {
            let home = open()?;
            runtime.block_on(async {
                match command {
                    Heal::On { target } => heal::switch(&home, &target, Some(Mode::Heal)).await,
                    Heal::Off { target } => heal::switch(&home, &target, Some(Mode::Off)).await,
                    Heal::Shadow { target } => heal::switch(&home, &target, Some(Mode::Shadow)).await,
                    Heal::Clear { target } => heal::switch(&home, &target, None).await,
                    Heal::List => heal::list(&home).await,
                    Heal::Record { target, since, json } => {
                        let report = record::report(&home, target.as_ref(), since.as_deref()).await?;
                        if json {
                            return as_json(&report);
                        }
                        let asked = target.filter(|_| report.services.is_empty());
                        let hint = match &asked {
                            Some(it) => names::hint(&home, Some(&it.project), it.service.as_deref()).await,
                            None => String::new(),
                        };
                        Ok(format!("{}{hint}", record::text(&report)))
                    }
                    Heal::Now { target, force, wait } => owner::heal_now(&home, &target, force, wait).await,
                    Heal::Plan { target } => owner::plan(&home, target.as_ref()).await,
                }
            })?
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn lines(all: &[String]) -> String {
    all.iter().map(|line| format!("{line}\n")).collect()
}

pub(crate) fn as_json(value: &impl serde::Serialize) -> Result<String> {
    Ok(format!("{}\n", serde_json::to_string_pretty(value).context("cannot write JSON")?))
}
