//! `nexus tune`: the three changes that bring the most, with what each would do here; applied with consent, taken back, and measured
//! again.
//!
//! Judging is pure and in files of its own: `compose.rs`, `inspected.rs`, `overrides.rs`, `postgres.rs`, `redis.rs`, `zram.rs`,
//! `measure.rs`. Asking and doing are in `engine.rs`, `act.rs`, `databases.rs` and `machine.rs`; `planned.rs` leads from one to the
//! other, and `ledger.rs` keeps what is needed to take it all back. Written down first, then done.

mod act;
mod compose;
mod databases;
mod diff;
mod engine;
mod inspected;
mod ledger;
mod machine;
mod measure;
mod overrides;
mod planned;
mod postgres;
mod redis;
mod show;
mod zram;

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use clap::{Args, Subcommand};
use jiff::{SignedDuration, Timestamp};
use nexus_reporter::report::Recommendation;
use nexus_reporter::report::facts::{Answer, Facts};
use nexus_reporter::report::recommend::{Change, recommendations, with_sudo};
use nexus_reporter::sources::gather;
use serde::{Deserialize, Serialize};

use crate::docker;
use crate::failure::mistake;
use crate::files::read_text;
use crate::home::Home;
use crate::secrets::{invoking_user, is_root};
use crate::status::sources;
use crate::text::{Paint, print};
use ledger::{Book, Done, Ledger, Record, State};
use measure::{Measure, Outcome, RedisMeasure};
use planned::{plan, the_container};

/// So many are shown: more at once nobody does.
const SHOWN: usize = 3;
/// A saved report with hundreds of services.
const REPORT_LIMIT: u64 = 16 << 20;
/// As long as Prometheus remembers, what was applied may still look as if it were needed.
const STILL_SEEN: SignedDuration = SignedDuration::from_hours(15 * 24);

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    /// All of them, not only the first three
    #[arg(long)]
    all: bool,
    /// Print JSON
    #[arg(long)]
    json: bool,
    /// Take the recommendations from a report that `nexus status --json` printed, instead of asking now
    #[arg(long, value_name = "FILE")]
    from: Option<PathBuf>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Apply one: shows what it does, asks, writes down how to take it back, does it, and takes it back itself if it does not work
    ///
    /// Exit code 0: it is done. 1: it is not, and all is as before. 2: there is no such recommendation, or nobody to ask.
    Apply {
        /// The id that `nexus tune` shows
        id: String,
        /// Don't ask: for who is not at a terminal
        #[arg(long)]
        yes: bool,
        /// What Redis may drop when it is full, such as allkeys-lru for a mere cache
        #[arg(long, value_name = "POLICY")]
        policy: Option<String>,
        /// Take the recommendation from a report that `nexus status --json` printed
        #[arg(long, value_name = "FILE")]
        from: Option<PathBuf>,
    },
    /// Take back what was applied, exactly as it was
    ///
    /// What somebody else has changed meanwhile stays as it is, and is named.
    Undo {
        /// A number of the history, the id of a recommendation, or `all`
        what: String,
        /// Don't ask
        #[arg(long)]
        yes: bool,
    },
    /// List what was applied and taken back
    History {
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Measure again, and tell what was gained by what is applied
    Result {
        /// A number of the history or the id of a recommendation; without it everything that is applied
        what: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

pub async fn run(home: &Home, options: Options, now: Timestamp, paint: Paint) -> Result<ExitCode> {
    let folder = home.state();
    let text = match options.command {
        None => {
            let (facts, all) = recommended(home, options.from.as_deref(), now).await?;
            if options.from.is_none() {
                somebody_knows(&facts.exporter, &facts.prometheus, facts.docker_silence.as_deref())?;
            }
            let ledger = Book::read(&folder)?.ledger;
            let overview = overview(&facts, all, &ledger, options.all, now).await;
            if options.json { crate::as_json(&overview)? } else { show::overview(&overview, paint) }
        }
        Some(Command::Apply { id, yes, policy, from }) => {
            return apply(home, &Asked { id, yes, policy, from }, now, paint).await;
        }
        Some(Command::Undo { what, yes }) => return undo(home, &what, yes, now).await,
        Some(Command::History { json }) => {
            let ledger = Book::read(&folder)?.ledger;
            if json { crate::as_json(&ledger)? } else { show::history(&ledger) }
        }
        Some(Command::Result { what, json }) => {
            let ledger = Book::read(&folder)?.ledger;
            let results = results(home, &ledger, what.as_deref(), now).await?;
            if json { crate::as_json(&results)? } else { show::results(&results, now, paint) }
        }
    };
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

/// Where nobody answers who knows anything, it is the stack that is amiss, and "nothing" would be no answer.
fn somebody_knows(exporter: &Answer<()>, prometheus: &Answer<()>, docker_silence: Option<&str>) -> Result<()> {
    let (Err(exporter), Err(prometheus)) = (exporter, prometheus) else { return Ok(()) };
    let why = match docker_silence {
        Some(silence) => silence.to_owned(),
        None => format!("the exporter {exporter}, and Prometheus {prometheus}"),
    };
    bail!("nothing is known of this machine: {why}; is the stack up? run ./nexus up")
}

/// What is known now, and what is recommended: by that, or by a report that was saved.
async fn recommended(home: &Home, from: Option<&Path>, now: Timestamp) -> Result<(Facts, Vec<Recommendation>)> {
    #[derive(Deserialize)]
    struct Saved {
        recommendations: Vec<Recommendation>,
    }
    let facts = gather(&sources(home)?, now).await;
    let all = match from {
        None => recommendations(&facts),
        Some(path) => {
            let text = read_text(path, REPORT_LIMIT)?;
            let text = text.ok_or_else(|| mistake(format!("there is no file {}", path.display())))?;
            let saved: Saved = serde_json::from_str(&text)
                .map_err(|error| mistake(format!("{} is no report of nexus status --json: {error}", path.display())))?;
            let mut all = saved.recommendations;
            // Who saved it may have been another one.
            if docker::wants_sudo() {
                all.iter_mut().for_each(with_sudo);
            }
            all
        }
    };
    Ok((facts, all))
}

/// One recommendation with what would be done for it here.
#[derive(Debug, Serialize)]
pub struct Shown {
    pub recommendation: Recommendation,
    /// Why Nexus does not do it; `None`: it can.
    pub why_not: Option<String>,
    /// Where it changes something, and what goes and comes there.
    pub place: Option<String>,
    pub lines: Vec<String>,
    pub notes: Vec<String>,
}

#[derive(Debug, Serialize)]
pub struct Overview {
    pub shown: Vec<Shown>,
    /// How many more there are.
    pub more: usize,
    /// Ids of what is applied, and was seen to be needed before that.
    pub applied: Vec<String>,
    /// Who could not be asked.
    pub missing: Vec<String>,
}

async fn overview(facts: &Facts, all: Vec<Recommendation>, ledger: &Ledger, whole: bool, now: Timestamp) -> Overview {
    let covered = |it: &Recommendation| ledger.standing().any(|record| covers(record, it, now));
    let (applied, open): (Vec<_>, Vec<_>) = all.into_iter().partition(covered);
    let many = if whole { open.len() } else { SHOWN };
    let more = open.len().saturating_sub(many);
    let mut shown = Vec::new();
    for it in open.into_iter().take(many) {
        shown.push(match plan(&it, ledger, None).await {
            Ok(planned) => Shown {
                why_not: None,
                place: Some(planned.place()),
                lines: planned.lines(),
                notes: planned.notes().to_vec(),
                recommendation: it,
            },
            Err(why) => Shown {
                why_not: Some(format!("{why:#}")),
                place: None,
                lines: Vec::new(),
                notes: Vec::new(),
                recommendation: it,
            },
        });
    }
    let answers = [("exporter", &facts.exporter), ("Prometheus", &facts.prometheus)];
    let missing = answers.iter().filter_map(|(name, answer)| Some(format!("{name}: {}", answer.as_ref().err()?)));
    Overview { shown, more, applied: applied.into_iter().map(|it| it.id).collect(), missing: missing.collect() }
}

/// Whether something is applied for it already, and what was seen may be from before that.
fn covers(record: &Record, it: &Recommendation, now: Timestamp) -> bool {
    let services = record.done.services();
    record.id == it.id
        && now.duration_since(record.applied_at) < STILL_SEEN
        && it.changes.iter().filter_map(Change::service).all(|service| services.contains(&service))
}

struct Asked {
    id: String,
    yes: bool,
    policy: Option<String>,
    from: Option<PathBuf>,
}

async fn apply(home: &Home, asked: &Asked, now: Timestamp, paint: Paint) -> Result<ExitCode> {
    let (facts, all) = recommended(home, asked.from.as_deref(), now).await?;
    let Some(it) = all.into_iter().find(|it| it.id == asked.id) else {
        let missing = facts.exporter.as_ref().err().map_or_else(String::new, |why| format!(" (exporter: {why})"));
        return Err(mistake(format!(
            "nothing is recommended by the id \"{}\" now{missing}: ./nexus tune --all lists what is",
            asked.id
        )));
    };
    let mut book = Book::open(&home.state(), is_root().then(invoking_user))?;
    let planned = plan(&it, &book.ledger, asked.policy.as_deref()).await;
    let planned = planned.with_context(|| show::by_hand(&it))?;
    print(&show::plan(&it, &planned, paint))?;
    if !consent("Do this?", asked.yes)? {
        print("Nothing was changed.\n")?;
        return Ok(ExitCode::FAILURE);
    }
    // Time may have passed at the question.
    if !asked.yes && plan(&it, &book.ledger, asked.policy.as_deref()).await?.done() != planned.done() {
        bail!("it is no longer as it was shown: look again with ./nexus tune");
    }
    let done = planned.done();
    let before = measured(&facts, it.project.as_deref(), &done, None).await;
    let record = Record {
        number: 0,
        id: it.id.clone(),
        title: it.title.clone(),
        project: it.project.clone(),
        applied_at: Timestamp::now(),
        state: State::Applying,
        ended_at: None,
        before,
        done,
    };
    print("Doing it …\n")?;
    let number = book.begin(record)?;
    if let Err(error) = planned.apply().await {
        // What could not be taken back stays in the books as something to take back.
        let state = if act::is_as_before(&error) { State::Failed } else { State::Applying };
        book.is_now(number, state, Timestamp::now())?;
        return Err(error);
    }
    book.is_now(number, State::Applied, Timestamp::now())?;
    print(&format!("Done. ./nexus tune undo {number} takes it back.\n"))?;
    let results = results(home, &book.ledger, Some(&number.to_string()), Timestamp::now()).await?;
    print(&show::results(&results, Timestamp::now(), paint))?;
    Ok(ExitCode::SUCCESS)
}

async fn undo(home: &Home, what: &str, yes: bool, now: Timestamp) -> Result<ExitCode> {
    let ledger = Book::read(&home.state())?.ledger;
    let records: Vec<Record> = match what {
        // The latest first: each is taken back from the state that it made.
        "all" => ledger.standing().rev().cloned().collect(),
        _ => match ledger.find(what) {
            Some(record) if record.stands() => vec![record.clone()],
            Some(record) => {
                bail!("{} is {} already", record.id, record.state.words());
            }
            None => {
                return Err(mistake(format!(
                    "nothing was applied by the name \"{what}\": ./nexus tune history lists what was"
                )));
            }
        },
    };
    if records.is_empty() {
        print("Nothing is applied, so there is nothing to take back.\n")?;
        return Ok(ExitCode::SUCCESS);
    }
    for record in &records {
        print(&format!(
            "{} {}: {}\n",
            record.number,
            crate::text::plain(&record.title),
            crate::text::plain(&planned::undo_told(&record.done))
        ))?;
    }
    if !consent("Take this back?", yes)? {
        print("Nothing was changed.\n")?;
        return Ok(ExitCode::FAILURE);
    }
    let mut book = Book::open(&home.state(), is_root().then(invoking_user))?;
    let mut failed = false;
    for record in records {
        match planned::undo(&record, &book.ledger).await {
            Ok(more) => {
                book.is_now(record.number, State::Undone, now)?;
                let more = more.map_or_else(String::new, |more| format!(" {}.", crate::text::plain(&more)));
                print(&format!("{} is taken back.{more}\n", record.number))?;
            }
            Err(error) => {
                failed = true;
                crate::failure::report(&error.context(format!("{} is not taken back", record.number)));
            }
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// The owner's yes. Without a terminal to ask at it takes `--yes`.
fn consent(question: &str, yes: bool) -> Result<bool> {
    if yes {
        return Ok(true);
    }
    if !std::io::stdin().is_terminal() {
        return Err(mistake("there is nobody to ask here: add --yes to do it without a question".to_owned()));
    }
    print(&format!("{question} [y/N] "))?;
    std::io::stdout().flush().context("cannot write the question")?;
    let mut answer = String::new();
    std::io::stdin().lock().read_line(&mut answer).context("cannot read the answer")?;
    Ok(is_yes(&answer))
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

/// What is measured of something, of all that is remembered or since a moment.
async fn measured(facts: &Facts, project: Option<&str>, done: &Done, since: Option<Timestamp>) -> Measure {
    let mut measure = measure::measure(facts, project, &done.services(), since);
    // A database that can't be asked just now is not known.
    match done {
        Done::Postgres(done) => {
            let blocks = async { databases::blocks(&the_container(&done.project, &done.service).await?.name).await };
            measure.blocks = blocks.await.ok().flatten();
        }
        Done::Redis(done) => {
            let facts = async {
                let container = the_container(&done.project, &done.service).await?.name;
                databases::RedisCli::open(&container).await?.facts().await
            };
            let of = |facts: redis::Facts| {
                Some(RedisMeasure { used: facts.used?, maxmemory: facts.maxmemory?, evicted: facts.evicted? })
            };
            measure.redis = facts.await.ok().and_then(of);
        }
        Done::Compose(_) | Done::Zram(_) => {}
    }
    measure
}

/// What something has brought.
#[derive(Debug, Serialize)]
pub struct Gained {
    pub number: u64,
    pub id: String,
    pub title: String,
    pub applied_at: Timestamp,
    pub outcome: Outcome,
}

async fn results(home: &Home, ledger: &Ledger, what: Option<&str>, now: Timestamp) -> Result<Vec<Gained>> {
    let records: Vec<&Record> = match what {
        None => ledger.standing().collect(),
        Some(what) => match ledger.find(what) {
            Some(record) if record.stands() => vec![record],
            Some(record) => bail!("{} is {}, so there is nothing to measure", record.id, record.state.words()),
            None => {
                return Err(mistake(format!(
                    "nothing was applied by the name \"{what}\": ./nexus tune history lists what was"
                )));
            }
        },
    };
    let facts = gather(&sources(home)?, now).await;
    let mut all = Vec::new();
    for record in records {
        let measure = measured(&facts, record.project.as_deref(), &record.done, Some(record.applied_at)).await;
        all.push(Gained {
            number: record.number,
            id: record.id.clone(),
            title: record.title.clone(),
            applied_at: record.applied_at,
            outcome: measure::outcome(record, &measure, now),
        });
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tune::ledger::tests::record;

    #[test]
    fn where_nobody_answers_the_stack_is_named_and_not_nothing() {
        let away = || Err("does not answer".to_owned());
        let told = |exporter, prometheus, docker| {
            somebody_knows(&exporter, &prometheus, docker).err().map(|error| error.to_string())
        };
        assert_eq!(told(Ok(()), away(), None), None);
        assert_eq!(told(away(), Ok(()), None), None);
        assert_eq!(
            told(away(), away(), None).unwrap(),
            "nothing is known of this machine: the exporter does not answer, and Prometheus does not answer; is the stack up? run ./nexus up"
        );
        let docker = told(away(), away(), Some("Docker hangs at /s")).unwrap();
        assert!(docker.starts_with("nothing is known of this machine: Docker hangs at /s; "), "{docker}");
    }

    fn recommendation(id: &str, services: &[&str]) -> Recommendation {
        let policy = |service: &&str| Change::RestartPolicy { service: (*service).into(), policy: "always".into() };
        Recommendation {
            id: id.into(),
            kind: nexus_reporter::report::recommend::Kind::RestartPolicy,
            urgency: nexus_reporter::report::recommend::Urgency::Soon,
            project: Some("p".into()),
            service: None,
            title: "t".into(),
            evidence: Vec::new(),
            gain: "g".into(),
            gain_bytes: None,
            check: None,
            compose: None,
            commands: vec!["docker compose up -d".into()],
            changes: services.iter().map(policy).collect(),
        }
    }

    #[test]
    fn what_was_applied_lately_is_not_shown_again_unless_there_is_more_of_it() {
        // Of the service db.
        let record = record(1, State::Applied);
        let at = |hours| Timestamp::UNIX_EPOCH + SignedDuration::from_hours(hours);
        assert!(covers(&record, &recommendation("restart-policy/p1", &["db"]), at(24)));
        assert!(!covers(&record, &recommendation("restart-policy/p1", &["db", "web"]), at(24)));
        assert!(!covers(&record, &recommendation("restart-policy/p0", &["db"]), at(24)));
        assert!(!covers(&record, &recommendation("restart-policy/p1", &["db"]), at(24 * 16)));
    }

    #[test]
    fn only_a_yes_is_a_yes() {
        for yes in ["y\n", "Yes\n", " YES "] {
            assert!(is_yes(yes), "{yes:?}");
        }
        for no in ["", "\n", "n\n", "yess\n", "y y\n"] {
            assert!(!is_yes(no), "{no:?}");
        }
    }
}
