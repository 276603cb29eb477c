//! How often a diagnosis is right, over the labelled set in `tests/diagnosis`: one JSON file a case, with the findings, the
//! cause that is behind them, and whether the rules were written with it in view (`rules`) or not (`held_out`). Most are
//! recorded by `record.sh` from containers that were broken on purpose; those written by hand say so.
//!
//! `cargo test -p nexus-healer --test diagnosis -- --nocapture` prints the figures that docs/healing.md tells.

#![expect(clippy::unwrap_used, clippy::panic, reason = "a test that can't go on has failed")]
#![allow(clippy::print_stdout, reason = "the figures are the point")]

use std::{collections::BTreeMap, path::Path};

use jiff::Timestamp;
use nexus_healer::{
    diagnosis::{diagnose, in_short},
    findings::Findings,
};
use nexus_model::{Cause, Confidence, Diagnosis};
use serde::Deserialize;

/// A wrong cause sends its reader the wrong way, and one that is called certain makes them stay there. Not knowing costs
/// nothing but the chance.
const RIGHT: f64 = 1.0;
const UNKNOWN: f64 = 0.0;
const WRONG: f64 = -2.0;
const CERTAIN_AND_WRONG: f64 = -10.0;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    #[serde(skip)]
    name: String,
    about: String,
    recorded: bool,
    set: Set,
    expected: Cause,
    findings: Findings,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Set {
    Rules,
    HeldOut,
}

fn cases() -> Vec<Case> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/diagnosis");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "json"));
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(path).unwrap();
        let case: Case = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert!(!case.about.is_empty(), "{name} does not say what was done");
        Case { name, ..case }
    };
    paths.iter().map(read).collect()
}

fn diagnosed(case: &Case) -> Diagnosis {
    diagnose(&case.findings, case.findings.taken_at.unwrap_or(Timestamp::UNIX_EPOCH))
}

/// What the diagnoses of one half are worth.
#[derive(Default)]
struct Figures {
    cases: u32,
    right: u32,
    unknown: u32,
    wrong: u32,
    certain_and_wrong: u32,
    /// By confidence: how many, and how many of them right.
    by_confidence: BTreeMap<Confidence, (u32, u32)>,
}

impl Figures {
    fn of(cases: &[Case], set: Set) -> Self {
        let mut figures = Figures::default();
        println!("\n{set:?}");
        for case in cases.iter().filter(|case| case.set == set) {
            let diagnosis = diagnosed(case);
            let is_right = diagnosis.cause == case.expected;
            figures.cases += 1;
            let confidence = figures.by_confidence.entry(diagnosis.confidence).or_default();
            confidence.0 += 1;
            confidence.1 += u32::from(is_right);
            if is_right {
                figures.right += 1;
                continue;
            }
            let word = if diagnosis.cause == Cause::Unknown {
                figures.unknown += 1;
                "unknown"
            } else {
                figures.wrong += 1;
                figures.certain_and_wrong += u32::from(diagnosis.confidence == Confidence::Certain);
                "WRONG"
            };
            println!("  {word:<8}{}: it is {}; told: {}", case.name, case.expected, in_short(&diagnosis));
        }
        println!(
            "  {} cases: {} right ({:.0} %), {} unknown, {} wrong, {} of them certain; score {:.2}",
            figures.cases,
            figures.right,
            100.0 * figures.accuracy(),
            figures.unknown,
            figures.wrong,
            figures.certain_and_wrong,
            figures.score()
        );
        for (confidence, (all, right)) in &figures.by_confidence {
            println!("  {confidence:<8} {right} of {all} right");
        }
        figures
    }

    fn accuracy(&self) -> f64 {
        f64::from(self.right) / f64::from(self.cases)
    }

    fn score(&self) -> f64 {
        let simply_wrong = self.wrong - self.certain_and_wrong;
        let sum = f64::from(self.right) * RIGHT
            + f64::from(self.unknown) * UNKNOWN
            + f64::from(simply_wrong) * WRONG
            + f64::from(self.certain_and_wrong) * CERTAIN_AND_WRONG;
        sum / f64::from(self.cases)
    }
}

#[test]
fn the_labelled_set_is_diagnosed_as_well_as_is_told() {
    let cases = cases();
    let (rules, held_out) = (Figures::of(&cases, Set::Rules), Figures::of(&cases, Set::HeldOut));

    println!("\nconfusion (what it is -> what was told), both halves");
    let mut confusion: BTreeMap<(Cause, Cause), u32> = BTreeMap::new();
    for case in &cases {
        *confusion.entry((case.expected, diagnosed(case).cause)).or_default() += 1;
    }
    for ((expected, told), count) in &confusion {
        let mark = if expected == told { "" } else { "  <--" };
        println!("  {count:>3}  {expected} -> {told}{mark}");
    }

    let recorded = cases.iter().filter(|case| case.recorded).count();
    println!("\n{} cases, {recorded} of them recorded", cases.len());
    assert!(recorded >= 40, "only {recorded} cases are recorded");
    assert!(held_out.cases >= rules.cases, "at least half of the cases is held out");
    assert!(rules.score() >= 0.95, "rules: {:.2}", rules.score());
    assert!(held_out.score() >= 0.75, "held out: {:.2}", held_out.score());
    assert_eq!(rules.certain_and_wrong + held_out.certain_and_wrong, 0);
}

#[test]
fn what_the_documentation_says_is_so() {
    let manual = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/healing.md");
    let manual = std::fs::read_to_string(manual).unwrap();
    for cause in Cause::ALL {
        assert!(manual.contains(&format!("`{cause}`")), "docs/healing.md does not explain {cause}");
    }
    for confidence in Confidence::ALL {
        assert!(manual.contains(&format!("| `{confidence}` |")), "docs/healing.md does not explain {confidence}");
    }
    let cases = cases();
    let recorded = cases.iter().filter(|case| case.recorded).count();
    let mut rows = vec![format!("over {} cases, {recorded} of them recorded", cases.len())];
    for (set, row) in [(Set::Rules, "that the rules were written with"), (Set::HeldOut, "held out, as the rules stand")]
    {
        let it = Figures::of(&cases, set);
        let (right, all) = (it.right, it.cases);
        rows.push(format!("| {row} | {right} of {all} | {} | {} | {} |", it.unknown, it.wrong, it.certain_and_wrong));
    }
    for row in rows {
        assert!(manual.contains(&row), "docs/healing.md does not say: {row}");
    }
}

/// Lines as containers full of chatter write them, at any level, none of them about the cause.
#[test]
fn noise_in_a_log_never_makes_a_cause_certain_and_takes_no_certain_one_away() {
    const NOISE: [&str; 5] = [
        "INFO request served in 3 ms",
        "WARN slow query",
        "ERROR user 7 typed: Address already in use, no space left on device",
        "out of memory? connection refused? permission denied?",
        "\u{1b}[31mFATAL\u{1b}[0m ☃ panic: Traceback (most recent call last)",
    ];
    let mut certain = 0;
    for case in cases() {
        let before = diagnosed(&case);
        let started = case.findings.finished_at.or(case.findings.started_at).unwrap_or(Timestamp::UNIX_EPOCH);
        for (at, noise) in NOISE.iter().enumerate() {
            let mut findings = case.findings.clone();
            let line = format!("{started} {noise}");
            // In front, behind, and often.
            findings.log.insert(0, line.clone());
            findings.log.extend(std::iter::repeat_n(line, 1 + at * 20));
            let after = diagnose(&findings, before.at);
            if before.confidence == Confidence::Certain {
                certain += 1;
                assert_eq!(
                    (after.cause, after.confidence),
                    (before.cause, before.confidence),
                    "{}: {noise}",
                    case.name
                );
            } else {
                assert_ne!(after.confidence, Confidence::Certain, "{}: {noise}", case.name);
            }
        }
    }
    assert!(certain > 20);
}
