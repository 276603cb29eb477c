//! `NEXUS_E2E=1 cargo test -p nexus-e2e --test telling`, or `./nexus test e2e`: what a person is told, by the real Prometheus and
//! Alertmanager. Without NEXUS_E2E every case is reported as ignored.

use std::future::Future;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use libtest_mimic::{Arguments, Failed, Trial};
use nexus_e2e::telling::{cost, incidents, messages, quiet};

type Running = Pin<Box<dyn Future<Output = anyhow::Result<()>>>>;

/// With the most that it may take.
type Case = (&'static str, Duration, fn() -> Running);

const CASES: &[Case] = &[
    ("ten_incidents_make_few_messages", incidents::LIMIT, || Box::pin(incidents::ten_incidents_make_few_messages())),
    ("ten_thousand_random_alerts_are_taken", Duration::from_secs(600), || {
        Box::pin(messages::ten_thousand_random_alerts())
    }),
    ("at_night_only_what_is_critical_is_told", Duration::from_secs(300), || {
        Box::pin(quiet::at_night_only_what_is_critical_is_told())
    }),
];

/// With `--ignored`, and in `./nexus test soak`: a measurement, for docs/performance.md, and what mostly waits for a night to end.
const LONG: &[Case] = &[
    ("all_rules_cost_little", Duration::from_secs(900), || Box::pin(cost::all_rules_cost_little())),
    ("what_ends_at_night_is_not_told", Duration::from_secs(900), || Box::pin(quiet::what_ends_at_night_is_not_told())),
];

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    let left_out = std::env::var("NEXUS_E2E").unwrap_or_default().is_empty();
    if left_out && !arguments.list {
        eprintln!("left out: this needs Docker and the images; ./nexus test e2e runs it");
    }
    // The script of the incidents runs by the clock: nothing else may load the machine meanwhile.
    arguments.test_threads = Some(1);
    let trial = |(name, limit, run): &Case, left_out: bool| {
        let (limit, run) = (*limit, *run);
        Trial::test(*name, move || case(limit, run)).with_ignored_flag(left_out)
    };
    let trials = CASES.iter().map(|case| trial(case, left_out)).chain(LONG.iter().map(|case| trial(case, true)));
    libtest_mimic::run(&arguments, trials.collect()).exit_code()
}

fn case(limit: Duration, run: fn() -> Running) -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
    runtime.block_on(async {
        match tokio::time::timeout(limit, run()).await {
            Ok(done) => done.map_err(|error| format!("{error:#}").into()),
            Err(_) => Err(format!("took longer than {limit:?}").into()),
        }
    })
}
