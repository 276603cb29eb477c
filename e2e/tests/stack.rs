//! `NEXUS_E2E=1 cargo test -p nexus-e2e --test stack`, or `./nexus test e2e`, which builds what it needs first.
//!
//! Without NEXUS_E2E every case is reported as ignored. NEXUS_E2E_ROUNDS runs all cases so many times on the same stack, so that what fails
//! once in a while shows. The stack is started once and always taken down: after a failure, a panic, and Ctrl-C. NEXUS_E2E_KEEP=1 leaves it running, for a look.

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use libtest_mimic::{Arguments, Failed, Trial};
use nexus_e2e::cases::{ALONE, CASES, Case};
use nexus_e2e::stack::{Stack, keep};
use tokio::runtime::Runtime;

/// No case takes longer than a third of this.
const CASE_LIMIT: Duration = Duration::from_secs(300);

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    if arguments.list || std::env::var("NEXUS_E2E").unwrap_or_default() != "1" {
        if !arguments.list {
            eprintln!("the end-to-end test is left out: it needs Docker and the images; ./nexus test e2e runs it");
        }
        let ignored =
            CASES.iter().chain(ALONE).map(|case| Trial::test(case.name, || Ok(())).with_ignored_flag(true)).collect();
        return libtest_mimic::run(&arguments, ignored).exit_code();
    }
    // They wait for the stack nearly all of the time.
    arguments.test_threads.get_or_insert(CASES.len());
    match rounds().and_then(|rounds| run(&arguments, rounds)) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("the end-to-end test could not run: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn rounds() -> Result<u32> {
    let wanted = std::env::var("NEXUS_E2E_ROUNDS").unwrap_or_else(|_| "1".to_owned());
    let rounds = wanted.parse().ok().filter(|rounds| *rounds > 0);
    rounds.with_context(|| format!("NEXUS_E2E_ROUNDS is no number of rounds: \"{wanted}\""))
}

fn run(arguments: &Arguments, rounds: u32) -> Result<ExitCode> {
    let runtime = Arc::new(
        tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("no runtime")?,
    );
    let stack = Arc::new(runtime.block_on(Stack::prepare())?);
    take_down_when_interrupted(&runtime, &stack);
    let started = Instant::now();
    let code = match runtime.block_on(stack.start()) {
        Ok(()) => {
            eprintln!("the stack is up after {} s", started.elapsed().as_secs());
            let no_client = nexus_e2e::agent::python().err();
            if let Some(why) = &no_client {
                eprintln!("a client of the Model Context Protocol can't be had, so its case is left out: {why}");
            }
            let run = |arguments: &Arguments, cases: &[Case]| {
                let trials = cases.iter().map(|case| {
                    let (runtime, stack, run) = (Arc::clone(&runtime), Arc::clone(&stack), case.run);
                    let left_out = no_client.is_some() && case.name.contains("a_client_of_the_protocol");
                    Trial::test(case.name, move || trial(&runtime, run(stack))).with_ignored_flag(left_out)
                });
                libtest_mimic::run(arguments, trials.collect()).has_failed()
            };
            let one_at_a_time = Arguments { test_threads: Some(1), ..arguments.clone() };
            let failed = (0..rounds).any(|round| {
                stack.round.store(round, Ordering::Relaxed);
                run(arguments, CASES) | run(&one_at_a_time, ALONE)
            });
            if failed { Ok(ExitCode::from(101)) } else { Ok(ExitCode::SUCCESS) }
        }
        Err(error) => Err(error.context("the stack did not start")),
    };
    if !matches!(&code, Ok(code) if *code == ExitCode::SUCCESS) {
        match runtime.block_on(stack.save_logs()) {
            Ok(folder) => eprintln!("what every service has said is in {}", folder.display()),
            Err(error) => eprintln!("{error:#}"),
        }
    }
    if keep() {
        let folder = stack.folder().display();
        eprintln!("kept: nexus --directory {} --env-file {folder}/.env status", stack.root().display());
    } else {
        runtime.block_on(stack.remove_everything()).context("cannot take the stack down")?;
    }
    code
}

fn trial(runtime: &Runtime, case: impl Future<Output = Result<()>>) -> Result<(), Failed> {
    let started = Instant::now();
    let result = runtime.block_on(async {
        tokio::time::timeout(CASE_LIMIT, case)
            .await
            .unwrap_or_else(|_| Err(anyhow::anyhow!("took longer than {CASE_LIMIT:?}")))
    });
    result.map_err(|error| format!("after {} s: {error:#}", started.elapsed().as_secs()).into())
}

fn take_down_when_interrupted(runtime: &Runtime, stack: &Arc<Stack>) {
    let stack = Arc::clone(stack);
    runtime.spawn(async move {
        use tokio::signal::unix::{SignalKind, signal};
        let (Ok(mut interrupt), Ok(mut terminate)) = (signal(SignalKind::interrupt()), signal(SignalKind::terminate()))
        else {
            return;
        };
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        eprintln!("interrupted: taking the stack down");
        stack.abandon().await;
        std::process::exit(130);
    });
}
