use jiff::{SignedDuration, Timestamp};
use nexus_model::{Evidence, EvidenceKind, IncidentEvent, IncidentState, Mode, Outcome};
use serde_json::json;
use uuid::Uuid;

use super::*;
use crate::{
    budget::Restart,
    case::Case,
    facts::Stopper,
    pauses::{Covers, Held, Pauses},
    prompts::DEPENDENCY_RESTARTED,
    testing::{at, attempt, case},
};

struct Opened {
    journal: Journal,
    thread: JournalThread,
    folder: tempfile::TempDir,
}

fn open() -> Opened {
    let folder = tempfile::tempdir().unwrap();
    let (journal, thread) = Journal::open(&folder.path().join("journal.db")).unwrap();
    Opened { journal, thread, folder }
}

/// What a power cut leaves: the files as they are on the disk now, opened as another journal.
fn after_a_cut(opened: &Opened) -> (tempfile::TempDir, Store) {
    let copy = tempfile::tempdir().unwrap();
    for name in ["journal.db", "journal.db-wal"] {
        std::fs::copy(opened.folder.path().join(name), copy.path().join(name)).unwrap();
    }
    let store = Store::open(&copy.path().join("journal.db")).unwrap();
    (copy, store)
}

fn of_service(service: &str, number: u128) -> Case {
    let mut case = case();
    case.incident.id = Uuid::from_u128(number);
    case.incident.service = service.into();
    case
}

fn put(case: &Case) -> Change {
    Change::Case(Box::new(case.clone()))
}

fn prompt(service: &str) -> Prompt {
    Prompt { project: "shop".into(), service: service.into(), alert: "A".into(), received_at: at(0).wall }
}

fn event(incident: Uuid, number: u128) -> IncidentEvent {
    IncidentEvent {
        id: Uuid::from_u128(1_000 + number),
        incident_id: incident,
        at: at(0).wall,
        kind: "opened".into(),
        detail: "x".into(),
    }
}

#[tokio::test]
async fn what_was_answered_survives_a_power_cut() {
    let opened = open();
    let mut case = case();
    case.attempts.push(attempt(1, "c1", at(3)));
    case.memory.well_since = Some(at(7));
    case.incident.state = IncidentState::Restarting;
    opened.journal.commit(vec![put(&case), Change::Event(event(case.incident.id, 1))]).await.unwrap();
    opened.journal.commit(vec![Change::Prompt(prompt("db"))]).await.unwrap();
    let stop = Change::Stop { container_id: "c9".into(), started_at: Some(at(1).wall), stopper: Stopper::Requested };
    let switch =
        Change::Switch { project: "shop".into(), service: None, mode: Some(Mode::Heal), at: Timestamp::UNIX_EPOCH };
    opened.journal.commit(vec![stop, switch]).await.unwrap();

    let (_copy, store) = after_a_cut(&opened);
    assert_eq!(store.open_cases().unwrap(), std::slice::from_ref(&case));
    assert_eq!(store.prompts().unwrap()[0].prompt, prompt("db"));
    assert_eq!(store.stops().unwrap()["c9"], (Some(at(1).wall), Stopper::Requested));
    assert_eq!(store.switches().unwrap().projects["shop"], Mode::Heal);
    let restart = Restart::new("c1", at(3));
    assert_eq!(store.recent_restarts(10, &at(600)).unwrap(), [restart]);
    assert_eq!(store.incident(case.incident.id).unwrap().unwrap().events.len(), 1);
}

#[tokio::test]
async fn a_torn_end_of_the_log_costs_only_what_was_not_answered() {
    let opened = open();
    for number in 0..20 {
        opened.journal.commit(vec![Change::Prompt(prompt(&format!("s{number}")))]).await.unwrap();
    }
    let whole = std::fs::read(opened.folder.path().join("journal.db-wal")).unwrap();
    let file = std::fs::read(opened.folder.path().join("journal.db")).unwrap();
    // Cut anywhere, and once with garbage at the end: it opens, and holds an unbroken beginning of what was written.
    for end in [whole.len(), whole.len() - 1, whole.len() - 2_000, whole.len() / 2, 4_000, 10, 0] {
        let copy = tempfile::tempdir().unwrap();
        std::fs::write(copy.path().join("journal.db"), &file).unwrap();
        let mut torn = whole[..end].to_vec();
        torn.extend(vec![0xA5; 5_000]);
        std::fs::write(copy.path().join("journal.db-wal"), torn).unwrap();
        let store = Store::open(&copy.path().join("journal.db")).unwrap();
        let names: Vec<String> = store.prompts().unwrap().into_iter().map(|waiting| waiting.prompt.service).collect();
        let expected: Vec<String> = (0..names.len()).map(|number| format!("s{number}")).collect();
        assert_eq!(names, expected);
        assert!(end < whole.len() || names.len() == 20, "nothing that was answered is lost");
    }
}

#[tokio::test]
async fn a_change_is_made_whole_or_not_at_all_and_takes_no_other_with_it() {
    let opened = open();
    let good = opened.journal.commit(vec![Change::Prompt(prompt("good"))]);
    // An event of an incident that does not exist: the prompt beside it must go as well.
    let bad = opened.journal.commit(vec![Change::Prompt(prompt("bad")), Change::Event(event(Uuid::from_u128(7), 1))]);
    let also_good = opened.journal.commit(vec![Change::Prompt(prompt("also-good"))]);
    let (good, bad, also_good) = tokio::join!(good, bad, also_good);
    assert!(good.is_ok() && also_good.is_ok());
    assert!(matches!(bad, Err(JournalError::Write(_))), "{bad:?}");
    let names = opened.journal.read(|store| store.prompts()).await.unwrap();
    let names: Vec<_> = names.into_iter().map(|waiting| waiting.prompt.service).collect();
    assert_eq!(names, ["good", "also-good"]);
    assert!(opened.journal.is_writable(), "a bad change says nothing about the disk");
}

#[tokio::test]
async fn many_writers_share_a_commit_and_all_are_answered() {
    let opened = open();
    let writes = (0..400).map(|number| {
        let journal = opened.journal.clone();
        async move { journal.commit_or_refuse(vec![Change::Prompt(prompt(&format!("s{number}")))]).await }
    });
    let answers = futures_util::future::join_all(writes).await;
    assert!(answers.iter().all(Result::is_ok));
    let commits = *opened.journal.commits().borrow();
    assert!(commits < 100, "400 writes took {commits} commits");
    assert_eq!(opened.journal.read(|store| store.prompts()).await.unwrap().len(), 400);
}

#[tokio::test]
async fn when_too_much_waits_it_says_so() {
    let opened = open();
    let (release, held) = std::sync::mpsc::channel::<()>();
    let (began, begun) = oneshot::channel();
    let holding = opened.journal.clone();
    // The thread is held up, as by a disk that takes its time.
    let read = tokio::spawn(async move {
        let hold = move |_: &Store| {
            _ = began.send(());
            _ = held.recv();
            Ok(())
        };
        holding.read(hold).await
    });
    begun.await.unwrap();
    let mut waiting = Vec::new();
    for number in 0..QUEUE {
        let journal = opened.journal.clone();
        waiting.push(tokio::spawn(async move {
            journal.commit(vec![Change::SelfTest { nonce: number.to_string(), at: Timestamp::UNIX_EPOCH }]).await
        }));
    }
    tokio::task::yield_now().await;
    let refused = opened.journal.commit_or_refuse(vec![Change::Probe]).await;
    assert!(matches!(refused, Err(JournalError::Full)), "{refused:?}");
    release.send(()).unwrap();
    read.await.unwrap().unwrap();
    for write in waiting {
        write.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn a_full_disk_refuses_and_room_heals_it() {
    let opened = open();
    let limit = |pages: i64| {
        opened.journal.read(move |store| {
            store.connection.pragma_update(None, "max_page_count", pages).map_err(JournalError::Read)
        })
    };
    limit(1).await.unwrap(); // never below what it has
    let mut refused = false;
    for number in 0..2_000 {
        if opened.journal.commit(vec![Change::Prompt(prompt(&format!("s{number}")))]).await.is_err() {
            refused = true;
            break;
        }
    }
    assert!(refused && !opened.journal.is_writable());
    limit(100_000).await.unwrap();
    opened.journal.probe().await.unwrap();
    assert!(opened.journal.is_writable());
}

#[test]
fn a_disk_that_fills_up_within_a_commit_keeps_nothing_that_was_refused() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("journal.db")).unwrap();
    let incidents: Vec<Case> = (1..=3).map(|number| of_service(&format!("s{number}"), number)).collect();
    store.begin().unwrap();
    store.savepoint(|| store.apply(&put(&incidents[0]))).unwrap();
    store.commit().unwrap();
    let pages: i64 = store.connection.query_row("PRAGMA page_count", [], |row| row.get(0)).unwrap();
    store.connection.query_row(&format!("PRAGMA max_page_count = {}", pages + 1), [], |_| Ok(())).unwrap();
    let huge = IncidentEvent { detail: "x".repeat(200_000), ..event(incidents[0].incident.id, 9) };
    let done = || oneshot::channel().0;
    let writes = vec![
        (vec![put(&incidents[1])], done()),
        (vec![Change::Event(huge)], done()),
        (vec![put(&incidents[2])], done()),
    ];
    let Written { answers, well, damage } = write(&store, writes);
    assert_eq!(damage, None);
    assert!(!well && answers.iter().all(|(result, _)| result.is_err()), "the disk rolled all of it back");
    let kept: Vec<String> = store.open_cases().unwrap().into_iter().map(|case| case.incident.service).collect();
    assert_eq!(kept, ["s1"]);
    // And it goes on as if nothing had been.
    store.connection.query_row("PRAGMA max_page_count = 100000", [], |_| Ok(())).unwrap();
    let Written { answers, well, .. } = write(&store, vec![(vec![put(&incidents[2])], done())]);
    assert!(well && answers[0].0.is_ok());
}

#[tokio::test]
async fn a_file_that_is_damaged_while_it_is_open_ends_the_thread() {
    for by_reading in [false, true] {
        let opened = open();
        for number in 0..50 {
            opened.journal.commit(vec![Change::Prompt(prompt(&format!("s{number}")))]).await.unwrap();
        }
        // All of it in the one file, and none of it in memory.
        let fold = |store: &Store| {
            let fold = "PRAGMA wal_checkpoint(TRUNCATE); PRAGMA shrink_memory;";
            store.connection.execute_batch(fold).map_err(JournalError::Read)
        };
        opened.journal.read(fold).await.unwrap();
        let path = opened.folder.path().join("journal.db");
        let mut bytes = std::fs::read(&path).unwrap();
        bytes[4_096..].fill(0xFF);
        std::fs::write(&path, bytes).unwrap();
        let refused = if by_reading {
            opened.journal.read(|store| store.prompts()).await.map(drop)
        } else {
            opened.journal.commit(vec![Change::Prompt(prompt("more"))]).await
        };
        assert!(refused.as_ref().is_err_and(|error| error.damage().is_some()), "{refused:?}");
        let ended = tokio::time::timeout(std::time::Duration::from_secs(20), opened.journal.ended());
        assert!(ended.await.is_ok(), "the healer would go on without a journal");
        assert!(!opened.journal.is_writable());
        assert!(matches!(opened.journal.probe().await, Err(JournalError::Closed)));
        // Lets go of the file.
        opened.thread.close().await;
        assert!(matches!(Store::open(&path), Err(JournalError::Damaged { .. })));
    }
}

#[tokio::test]
async fn closing_commits_what_waits_and_folds_the_log_in() {
    let Opened { journal, thread, folder } = open();
    let waiting = {
        let journal = journal.clone();
        tokio::spawn(async move { journal.commit(vec![Change::Prompt(prompt("last"))]).await })
    };
    tokio::task::yield_now().await;
    thread.close().await;
    waiting.await.unwrap().unwrap();
    assert!(matches!(journal.commit(vec![Change::Probe]).await, Err(JournalError::Closed)));
    assert!(matches!(journal.read(|store| store.prompts()).await, Err(JournalError::Closed)));
    assert!(!folder.path().join("journal.db-wal").exists(), "the one file is all of it");
    let store = Store::open(&folder.path().join("journal.db")).unwrap();
    assert_eq!(store.prompts().unwrap().len(), 1);
}

#[tokio::test]
async fn only_one_holds_it_and_only_what_is_a_journal_is_opened() {
    let opened = open();
    let path = opened.folder.path().join("journal.db");
    let check = |result: Result<Store, JournalError>, says: &str| {
        let error = result.err().map(|error| error.to_string()).unwrap_or_default();
        assert!(error.contains(says) && error.contains("journal.db") && !error.contains('\n'), "{error:?}");
    };
    check(Store::open(&path), "in use: another healer is running on it; stop it first");
    opened.thread.close().await;
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.pragma_update(None, "user_version", 99).unwrap();
    drop(connection);
    check(Store::open(&path), "schema version 99, this healer knows");
    let mut bytes = std::fs::read(&path).unwrap();
    let length = bytes.len();
    bytes[4_096..length.min(40_000)].fill(0xFF);
    std::fs::write(&path, bytes).unwrap();
    check(Store::open(&path), "damaged");
    std::fs::write(&path, "x".repeat(9_000)).unwrap();
    check(Store::open(&path), "damaged");
    check(Store::open(&opened.folder.path().join("none/journal.db")), "opening the journal");
}

#[tokio::test]
async fn an_old_journal_is_taken_over_with_all_that_it_holds() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let connection = rusqlite::Connection::open(&path).unwrap();
    connection.execute_batch(super::store::SCHEMA).unwrap();
    connection.pragma_update(None, "user_version", 1).unwrap();
    // As the first healer wrote them: without the fields that have come since.
    let (mut row, mut memory) =
        (serde_json::to_value(case().incident).unwrap(), serde_json::to_value(case().memory).unwrap());
    row.as_object_mut().unwrap().remove("acknowledged_at");
    for later in ["by_hand", "budget_from", "forgiven"] {
        memory.as_object_mut().unwrap().remove(later).unwrap();
    }
    connection
        .execute(
            "INSERT INTO incidents (id, project, service, state, opened_at, revision, row, memory)
             VALUES (?, 'shop', 'web', 'suspect', 0, 1, ?, ?)",
            rusqlite::params![case().incident.id.to_string(), row.to_string(), memory.to_string()],
        )
        .unwrap();
    drop(connection);
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        let version: i64 = store.connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap();
        assert_eq!(version, super::store::SCHEMA_VERSION);
        assert_eq!(store.open_cases().unwrap(), [case()]);
        assert_eq!(store.pauses().unwrap(), Pauses::default());
    }
}

#[tokio::test]
async fn a_pause_survives_until_it_is_taken_back() {
    let opened = open();
    let covers = |project: Option<&str>, service: Option<&str>| Covers {
        project: project.map(str::to_owned),
        service: service.map(str::to_owned),
    };
    let held = |seconds: u64| Held { since: at(0), seconds, reason: Some("moving the disk".into()) };
    let set = |covers: &Covers, seconds: u64| Change::Pause { covers: covers.clone(), held: held(seconds) };
    let (all, project, service) = (covers(None, None), covers(Some("shop"), None), covers(Some("shop"), Some("web")));
    opened.journal.commit(vec![set(&all, 60), set(&project, 60), set(&service, 60), set(&all, 90)]).await.unwrap();
    opened.journal.commit(vec![Change::EndPause { covers: project }]).await.unwrap();
    let (_copy, store) = after_a_cut(&opened);
    assert_eq!(store.pauses().unwrap(), Pauses([(all, held(90)), (service, held(60))].into()));
}

#[tokio::test]
async fn a_prompt_that_comes_while_another_is_looked_into_is_not_swallowed() {
    let opened = open();
    opened.journal.commit(vec![Change::Prompt(prompt("web"))]).await.unwrap();
    let first = opened.journal.read(|store| store.prompts()).await.unwrap().remove(0);
    opened.journal.commit(vec![Change::Prompt(prompt("web"))]).await.unwrap();
    opened.journal.commit(vec![Change::PromptDone(first)]).await.unwrap();
    let left = opened.journal.read(|store| store.prompts()).await.unwrap();
    assert_eq!(left.len(), 1);
    opened.journal.commit(vec![Change::PromptDone(left[0].clone())]).await.unwrap();
    assert_eq!(opened.journal.read(|store| store.prompts()).await.unwrap(), []);
}

#[tokio::test]
async fn there_is_one_open_incident_a_service_and_an_older_revision_changes_nothing() {
    let opened = open();
    let mut first = of_service("web", 1);
    opened.journal.commit(vec![put(&first)]).await.unwrap();
    assert!(opened.journal.commit(vec![put(&of_service("web", 2))]).await.is_err());
    first.incident.revision = 5;
    first.incident.state = IncidentState::Backoff;
    opened.journal.commit(vec![put(&first)]).await.unwrap();
    let mut older = first.clone();
    older.incident.revision = 4;
    older.incident.state = IncidentState::GaveUp;
    opened.journal.commit(vec![put(&older)]).await.unwrap();
    assert_eq!(opened.journal.read(|store| store.open_cases()).await.unwrap(), [first]);
}

#[tokio::test]
async fn rows_are_offered_to_postgres_after_those_they_point_to() {
    let opened = open();
    let mut case = case();
    case.attempts.push(attempt(1, "c1", at(0)));
    let (incident, attempt) = (case.incident.id, case.attempts[0].attempt.id);
    let evidence = Evidence {
        id: Uuid::from_u128(50),
        incident_id: incident,
        attempt_id: Some(attempt),
        kind: EvidenceKind::Logs,
        taken_at: at(0).wall,
        body: json!({}),
    };
    let changes = vec![put(&case), Change::Evidence(evidence), Change::Event(event(incident, 1))];
    opened.journal.commit(changes).await.unwrap();
    let pending = async |table| {
        let rows = opened.journal.read(move |store| store.pending(table, 10)).await.unwrap();
        rows.into_iter().map(|row| (row.id, row.revision)).collect::<Vec<_>>()
    };
    let copied = async |table, rows| {
        opened.journal.commit(vec![Change::Copied { table, rows, at: at(9).wall }]).await.unwrap();
    };
    assert_eq!(opened.journal.read(|store| store.pending_count()).await.unwrap(), 4);
    assert!(pending(Table::Attempts).await.is_empty() && pending(Table::Events).await.is_empty());
    let rows = pending(Table::Incidents).await;
    assert_eq!(rows, [(incident.to_string(), 1)]);
    copied(Table::Incidents, rows).await;
    assert!(pending(Table::Evidence).await.is_empty(), "its attempt is not there yet");
    copied(Table::Attempts, pending(Table::Attempts).await).await;
    copied(Table::Evidence, pending(Table::Evidence).await).await;
    copied(Table::Events, pending(Table::Events).await).await;
    assert_eq!(opened.journal.read(|store| store.pending_count()).await.unwrap(), 0);
    let shown = opened.journal.read(move |store| store.incident(incident)).await.unwrap().unwrap();
    assert_eq!(shown.incident.recorded_at, Some(at(9).wall));
    // A change while the copy of the revision before was under way is offered again.
    case.incident.revision = 2;
    opened.journal.commit(vec![put(&case)]).await.unwrap();
    copied(Table::Incidents, vec![(incident.to_string(), 1)]).await;
    assert_eq!(pending(Table::Incidents).await, [(incident.to_string(), 2)]);
}

#[tokio::test]
async fn what_is_old_and_copied_is_forgotten() {
    let opened = open();
    let closed = |number: u128, days_ago: i64| {
        let mut case = of_service(&format!("s{number}"), number);
        case.incident.state = IncidentState::Closed;
        case.incident.outcome = Some(Outcome::Recovered);
        case.incident.closed_at = Some(at(0).wall - SignedDuration::from_hours(24 * days_ago));
        case
    };
    let old_open = {
        let mut case = of_service("open", 9);
        case.incident.opened_at = at(0).wall - SignedDuration::from_hours(24 * 400);
        case
    };
    let changes = [&closed(1, 91), &closed(2, 91), &closed(3, 89), &old_open].map(put).into();
    opened.journal.commit(changes).await.unwrap();
    let copied =
        Change::Copied { table: Table::Incidents, rows: vec![(Uuid::from_u128(1).to_string(), 1)], at: at(0).wall };
    opened.journal.commit(vec![copied]).await.unwrap();
    let left = async || {
        let list = opened.journal.read(|store| store.incidents(&Filter::default())).await.unwrap();
        let mut services: Vec<_> = list.into_iter().map(|incident| incident.service).collect();
        services.sort();
        services
    };
    opened.journal.commit(vec![Change::Prune { now: at(0).wall, copies_wanted: true }]).await.unwrap();
    assert_eq!(left().await, ["open", "s2", "s3"], "s2 has not been copied");
    opened.journal.commit(vec![Change::Prune { now: at(0).wall, copies_wanted: false }]).await.unwrap();
    assert_eq!(left().await, ["open", "s3"]);
}

#[test]
fn what_is_forgotten_is_bounded_and_so_is_what_waits_for_postgres() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(&folder.path().join("journal.db")).unwrap();
    for number in 1..=10 {
        let mut case = of_service(&format!("s{number}"), number);
        (case.incident.state, case.incident.outcome) = (IncidentState::Closed, Some(Outcome::Recovered));
        case.incident.closed_at = Some(at(number as i64).wall);
        store.apply(&put(&case)).unwrap();
    }
    let copied = |number: u128| Change::Copied {
        table: Table::Incidents,
        rows: vec![(Uuid::from_u128(number).to_string(), 1)],
        at: at(20).wall,
    };
    let keep = store::Keep { millis: 1_000_000, closed: 3, closed_at_all: 6, forgotten_at_once: 2 };
    let prune = |seconds: i64, copies_wanted: bool| {
        store.prune(&keep, at(seconds).wall, copies_wanted).unwrap();
        let mut left: Vec<u128> =
            store.incidents(&Filter::default()).unwrap().iter().map(|incident| incident.id.as_u128()).collect();
        left.sort();
        left
    };
    // What is copied goes first, and of the rest as many as there is no room for, two at once.
    for number in [2, 9] {
        store.apply(&copied(number)).unwrap();
    }
    assert_eq!(prune(20, true), [3, 4, 5, 6, 7, 8, 9, 10]);
    assert_eq!(prune(20, true), [5, 6, 7, 8, 9, 10]);
    assert_eq!(prune(20, true), [5, 6, 7, 8, 9, 10], "the others wait for Postgres");
    store.apply(&copied(6)).unwrap();
    assert_eq!(prune(20, true), [5, 7, 8, 9, 10]);
    assert_eq!(prune(20, false), [8, 9, 10]);
    // Old enough, and as many of them as there may be.
    assert_eq!(prune(1_009, false), [10]);
}

#[tokio::test]
async fn restarts_of_the_last_day_are_found_again_with_what_was_forgiven() {
    let opened = open();
    let closed = |number: u32, container: &str, outcome, closed_at: i64| {
        let mut case = of_service(&format!("s{number}"), number.into());
        case.attempts.push(attempt(number, container, at(i64::from(number) * 1_000)));
        case.attempts[0].attempt.incident_id = case.incident.id;
        case.memory.containers = [container.to_owned()].into();
        (case.incident.state, case.incident.outcome) = (IncidentState::Closed, Some(outcome));
        case.incident.closed_at = Some(at(closed_at).wall);
        case
    };
    let cases = [
        closed(1, "old", Outcome::Recovered, 1_100),
        closed(2, "well", Outcome::Recovered, 2_100),
        closed(3, "stopped", Outcome::StoppedByHuman, 3_100),
    ];
    opened.journal.commit(cases.iter().map(put).collect()).await.unwrap();
    // Another incident of the container that was stopped, opened after it was started again.
    let mut again = closed(4, "stopped", Outcome::Recovered, 4_100);
    again.attempts[0].attempt.container_id = "stopped".into();
    opened.journal.commit(vec![put(&again)]).await.unwrap();
    let found = opened.journal.read(|store| store.recent_restarts(10, &at(87_400))).await.unwrap();
    let found: Vec<_> =
        found.iter().map(|it| (it.container_id.as_str(), it.forgiven, it.forgiven_for_the_day)).collect();
    assert_eq!(found, [("well", false, false), ("stopped", true, true), ("stopped", false, false)]);
}

#[tokio::test]
async fn a_journal_of_the_first_version_is_taken_over_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("journal.db");
    let old = rusqlite::Connection::open(&path).unwrap();
    old.execute_batch(super::store::SCHEMA).unwrap();
    old.pragma_update(None, "user_version", 1).unwrap();
    let case = case();
    let (row, memory) = (serde_json::to_string(&case.incident).unwrap(), r#"{"containers":["c1"]}"#);
    old.execute(
        "INSERT INTO incidents (id, project, service, state, opened_at, revision, row, memory)
         VALUES (?, 'shop', 'web', 'suspect', 0, 1, ?, ?)",
        rusqlite::params![case.incident.id.to_string(), row, memory],
    )
    .unwrap();
    old.close().unwrap();
    for _ in 0..2 {
        let store = Store::open(&path).unwrap();
        assert_eq!(store.open_cases().unwrap(), std::slice::from_ref(&case));
        store.apply(&Change::Memo { memo: Memo::Hold, body: Some("7".into()) }).unwrap();
        store.close().unwrap();
    }
    let version = |connection: &rusqlite::Connection| -> i64 {
        connection.query_row("PRAGMA user_version", [], |row| row.get(0)).unwrap()
    };
    assert_eq!(version(&rusqlite::Connection::open(&path).unwrap()), super::store::SCHEMA_VERSION);
}

#[tokio::test]
async fn what_is_noted_is_there_at_the_next_start() {
    let opened = open();
    let noted = |memo, body: Option<&str>| Change::Memo { memo, body: body.map(str::to_owned) };
    opened.journal.commit(vec![noted(Memo::Hold, Some("[1,2]")), noted(Memo::Silences, Some("{"))]).await.unwrap();
    let (_copy, store) = after_a_cut(&opened);
    assert_eq!(store.memo::<Vec<u8>>(Memo::Hold).unwrap(), Some(vec![1, 2]));
    assert_eq!(store.memo::<Vec<u8>>(Memo::Silences).unwrap(), None, "what nobody can read is nothing");
    opened.journal.commit(vec![noted(Memo::Hold, None)]).await.unwrap();
    assert_eq!(opened.journal.read(|store| store.memo::<Vec<u8>>(Memo::Hold)).await.unwrap(), None);
    let huge = noted(Memo::Hold, Some(&"x".repeat(300_000)));
    assert!(opened.journal.commit(vec![huge]).await.unwrap_err().to_string().contains("too large"));
}

#[tokio::test]
async fn incidents_are_listed_by_what_is_asked_newest_first() {
    let opened = open();
    for number in 1..=5 {
        let mut case = of_service(&format!("s{number}"), number);
        case.incident.opened_at = at(number as i64).wall;
        opened.journal.commit(vec![put(&case)]).await.unwrap();
    }
    let list = async |filter: Filter| {
        let list = opened.journal.read(move |store| store.incidents(&filter)).await.unwrap();
        list.into_iter().map(|incident| incident.service).collect::<Vec<_>>()
    };
    assert_eq!(list(Filter { limit: Some(2), ..Filter::default() }).await, ["s5", "s4"]);
    assert_eq!(list(Filter { service: Some("s2".into()), ..Filter::default() }).await, ["s2"]);
    assert_eq!(list(Filter { project: Some("other".into()), ..Filter::default() }).await, [""; 0]);
    assert_eq!(list(Filter { state: Some(IncidentState::Closed), ..Filter::default() }).await, [""; 0]);
    assert_eq!(list(Filter { state: Some(IncidentState::Suspect), ..Filter::default() }).await.len(), 5);
}

#[tokio::test]
async fn a_fresh_budget_outlives_the_healer() {
    let opened = open();
    let mut first = of_service("web", 1);
    first.attempts.push(attempt(1, "c1", at(1_000)));
    first.attempts[0].attempt.incident_id = first.incident.id;
    first.memory.containers = ["c1".to_owned()].into();
    (first.incident.state, first.incident.outcome) = (IncidentState::Closed, Some(Outcome::Recovered));
    first.incident.closed_at = Some(at(1_100).wall);
    opened.journal.commit(vec![put(&first)]).await.unwrap();
    // The next one was given up, and its owner has asked for another go. Two attempts were made before, one was since.
    let mut second = of_service("web", 2);
    for (number, container_id) in [(2, "c1"), (3, "c1"), (4, "c1"), (5, "c2")] {
        let mut made = attempt(number, container_id, at(i64::from(number) * 1_000));
        made.attempt.incident_id = second.incident.id;
        second.attempts.push(made);
    }
    second.memory.containers = ["c1".to_owned()].into();
    (second.memory.forgiven, second.memory.budget_from) = (true, 3);
    opened.journal.commit(vec![put(&second)]).await.unwrap();
    let found = opened.journal.read(|store| store.recent_restarts(10, &at(6_000))).await.unwrap();
    let found: Vec<_> = found.iter().map(|it| (it.forgiven, it.forgiven_for_the_day)).collect();
    // As it is while the healer runs: all that was spent on its containers until then.
    assert_eq!(found, [(true, true), (true, true), (true, true), (false, false), (false, false)]);
}

#[tokio::test]
async fn an_alert_does_not_take_away_the_word_to_follow() {
    let opened = open();
    let follow = |service: &str| Prompt { alert: DEPENDENCY_RESTARTED.to_owned(), ..prompt(service) };
    let commit = |prompts: Vec<Prompt>| opened.journal.commit(prompts.into_iter().map(Change::Prompt).collect());
    commit(vec![follow("web"), prompt("api")]).await.unwrap();
    let first = opened.journal.read(|store| store.prompts()).await.unwrap().remove(0);
    commit(vec![prompt("web"), follow("api")]).await.unwrap();
    let left = opened.journal.read(|store| store.prompts()).await.unwrap();
    let told: Vec<&Prompt> = left.iter().map(|waiting| &waiting.prompt).collect();
    assert_eq!(told, [&follow("web"), &follow("api")]);
    // Looked into while another came, it is looked into once more.
    opened.journal.commit(vec![Change::PromptDone(first)]).await.unwrap();
    assert_eq!(opened.journal.read(|store| store.prompts()).await.unwrap().len(), 2);
    opened.journal.commit(left.into_iter().map(Change::PromptDone).collect()).await.unwrap();
    commit(vec![prompt("web")]).await.unwrap();
    let left = opened.journal.read(|store| store.prompts()).await.unwrap();
    assert_eq!(left[0].prompt, prompt("web"));
}
