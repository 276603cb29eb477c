//! The table of what both did, and what it must say.

use super::{
    healer::{play, play_out},
    *,
};

/// What came of all plays of one kind.
#[derive(Default)]
struct Row {
    plays: usize,
    /// Whose first restart was of the root, or that became well without any.
    right: usize,
    harmful: usize,
    useless: usize,
    restarts: usize,
    well: Vec<i64>,
}

impl Row {
    fn add(&mut self, played: &Played) {
        self.plays += 1;
        self.right += usize::from(played.is_right());
        self.harmful += played.harmful;
        self.useless += played.useless;
        self.restarts += played.restarts.len();
        self.well.extend(played.all_well_at);
    }

    fn cells(&mut self) -> String {
        self.well.sort_unstable();
        let median = match self.well.get(self.plays / 2) {
            Some(seconds) => format!("{seconds} s"),
            None => "never".to_owned(),
        };
        format!("{} of {} | {} | {} | {} | {median}", self.right, self.plays, self.harmful, self.useless, self.restarts)
    }
}

fn table(rows: &mut BTreeMap<Failure, (Row, Row)>) -> String {
    let mut text = String::from(
        "| failure | who | right first | harmful | useless | restarts | all well after (median) |\n|---|---|---|---|---|---|---|\n",
    );
    for (failure, (ours, pollers)) in rows {
        _ = writeln!(text, "| {} | healer | {} |", failure.as_str(), ours.cells());
        _ = writeln!(text, "| | poller | {} |", pollers.cells());
    }
    text
}

/// Writes the table to docs/healing.md with `NEXUS_BLESS=1`, or says that the one there is stale.
fn keep(name: &str, table: &str) {
    let (begin, end) = (format!("<!-- {name}: made by the test -->\n"), format!("<!-- end of {name} -->"));
    let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/healing.md");
    let page = std::fs::read_to_string(file).unwrap();
    let (before, rest) = page.split_once(&begin).expect("the mark before the table");
    let (_, after) = rest.split_once(&end).expect("the mark after the table");
    let fresh = format!("{before}{begin}{table}{end}{after}");
    if std::env::var_os("NEXUS_BLESS").is_some() {
        std::fs::write(file, fresh).unwrap();
    } else {
        assert!(page == fresh, "docs/healing.md is stale: NEXUS_BLESS=1 cargo test -p nexus-healer --lib scenarios");
    }
}

#[test]
fn a_hundred_failures_are_healed_at_the_root_and_nothing_is_harmed() {
    let first: Option<u64> = std::env::var("NEXUS_SEEDS").ok().map(|text| text.parse().expect("a number"));
    let mut rows: BTreeMap<Failure, (Row, Row)> = BTreeMap::new();
    let (mut right, mut well, mut harmful) = (0, 0, Vec::new());
    for seed in (first.unwrap_or_default()..).take(SCENARIOS) {
        let (failure, ours) = play(seed, true);
        let (_, pollers) = play(seed, false);
        let (our_row, pollers_row) = rows.entry(failure).or_default();
        our_row.add(&ours);
        pollers_row.add(&pollers);
        if !ours.is_right() {
            eprintln!("seed {seed}, {}: the first restart was wrong: {:?}", failure.as_str(), ours.restarts);
        } else {
            right += 1;
        }
        if ours.harmful > 0 {
            harmful.push(seed);
            eprintln!("seed {seed}, {}: {} harmful of {:?}", failure.as_str(), ours.harmful, ours.restarts);
        }
        well += usize::from(ours.all_well_at.is_some());
        if ours.all_well_at.is_none() {
            eprintln!("seed {seed}, {}: never well: {:?}", failure.as_str(), ours.restarts);
        }
    }
    let table = table(&mut rows);
    eprintln!("{table}the first action was right in {right} of {SCENARIOS}, {} were harmful", harmful.len());
    assert!(right * 100 >= 95 * SCENARIOS, "the first action was right in {right} of {SCENARIOS} only");
    assert!(well * 100 >= 95 * SCENARIOS, "all was well in the end in {well} of {SCENARIOS} only");
    assert!(harmful.is_empty(), "harmful with seeds {harmful:?}");
    if first.is_none() {
        keep("scenarios", &table);
    }
}

#[test]
fn what_befalls_the_whole_host_is_waited_out() {
    let first: Option<u64> = std::env::var("NEXUS_SEEDS").ok().map(|text| text.parse().expect("a number"));
    let mut rows = [(0, 0, Vec::new()), (0, 0, Vec::new())];
    for seed in (first.unwrap_or_default()..).take(HOST_TROUBLES) {
        for (row, healed) in rows.iter_mut().zip([true, false]) {
            let scenario = Scenario { failure: Failure::HostTrouble, ..Scenario::new(seed) };
            let (_, played) = play_out(scenario, seed, healed);
            row.0 += played.in_trouble;
            row.1 += played.restarts.len();
            row.2.extend(played.all_well_at);
            if healed {
                assert_eq!(played.harmful, 0, "seed {seed}: {:?}", played.restarts);
                assert!(played.all_well_at.is_some(), "seed {seed}: {:?}", played.restarts);
            }
        }
    }
    let mut table =
        String::from("| who | restarts while it lasted | restarts | all well after (median) |\n|---|---|---|---|\n");
    for (who, (in_trouble, restarts, well)) in ["healer", "poller"].iter().zip(&mut rows) {
        well.sort_unstable();
        let median = well.get(HOST_TROUBLES / 2).map_or("never".to_owned(), |seconds| format!("{seconds} s"));
        _ = writeln!(table, "| {who} | {in_trouble} | {restarts} | {median} |");
    }
    eprintln!("{table}");
    // Before the fifth has fallen ill nobody can know that it is the host.
    assert!(rows[0].0 <= 4 * HOST_TROUBLES, "{} restarts in trouble", rows[0].0);
    assert!(rows[0].0 * 5 < rows[1].0, "{} restarts in trouble, and {} of the poller", rows[0].0, rows[1].0);
    if first.is_none() {
        keep("host trouble", &table);
    }
}
