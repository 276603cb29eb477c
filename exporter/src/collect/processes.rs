//! `processes`: how many processes and threads the host has, and in which state. Off unless asked for: it reads a file for
//! each thread.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::{Access, CollectError, Reader};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

pub const ABSENCE: Option<&str> =
    Some("success is 0 where counting takes longer than three seconds: half a count is none.");

/// A collector must be done in two and a half seconds.
const BUDGET: Duration = Duration::from_secs(2);

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Processes {
    pub processes: u64,
    pub threads: u64,
    /// By the kernel's letter: `R` runs, `S` sleeps, `D` waits for a device, `Z` has ended.
    pub states: BTreeMap<char, u64>,
    pub thread_states: BTreeMap<char, u64>,
    pub most_threads: Option<u64>,
    pub most_processes: Option<u64>,
}

pub type Found = Processes;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let mut found = count(&roots.procfs, reader, Instant::now() + BUDGET)?;
    if found.processes == 0 {
        return Err(CollectError::malformed(&roots.procfs, "no process found"));
    }
    found.most_threads = reader.number(&roots.proc("sys/kernel/threads-max"));
    let release = reader.text(&roots.proc("sys/kernel/osrelease")).ok().and_then(release);
    if is_the_hosts_limit(&roots.procfs, release) {
        found.most_processes = reader.number(&roots.proc("sys/kernel/pid_max"));
    }
    Ok(found)
}

/// Since then each PID namespace has a limit of its own, and the kernel answers with the reader's, whichever /proc is asked.
const LIMIT_PER_NAMESPACE: (u32, u32) = (6, 14);

/// In a container of its own, which is where /proc of the host is elsewhere, the exporter may not be able to tell.
fn is_the_hosts_limit(procfs: &Path, release: Option<(u32, u32)>) -> bool {
    procfs == Path::new("/proc") || release.is_some_and(|release| release < LIMIT_PER_NAMESPACE)
}

/// The first two numbers of the kernel's.
fn release(text: &str) -> Option<(u32, u32)> {
    let mut numbers = text.trim().split(|c: char| !c.is_ascii_digit());
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn count(procfs: &Path, reader: &mut Reader, deadline: Instant) -> Result<Processes, CollectError> {
    let mut found = Processes::default();
    let listed = |folder: &Path| fs::read_dir(folder).map(|entries| entries.flatten().filter_map(number_of));
    let processes = listed(procfs).map_err(|source| CollectError::Read { path: procfs.to_owned(), source })?;
    for (process, folder) in processes {
        if Instant::now() >= deadline {
            let what = format!("counting the processes takes longer than {} s", BUDGET.as_secs());
            return Err(CollectError::Failed { what });
        }
        // A process that has ended meanwhile is none; so is one that /proc hides from us.
        let Some(stat) = stat(&folder, reader)? else { continue };
        found.processes += 1;
        found.threads = found.threads.saturating_add(stat.threads);
        *found.states.entry(stat.state).or_default() += 1;
        *found.thread_states.entry(stat.state).or_default() += 1;
        // The first thread is the process, so that most processes need no list of their threads.
        if stat.threads < 2 {
            continue;
        }
        let Ok(threads) = listed(&folder.join("task")) else { continue };
        for (_, folder) in threads.filter(|(thread, _)| *thread != process) {
            if let Some(stat) = self::stat(&folder, reader)? {
                *found.thread_states.entry(stat.state).or_default() += 1;
            }
        }
    }
    Ok(found)
}

/// Of an entry whose name is a number.
fn number_of(entry: fs::DirEntry) -> Option<(u32, PathBuf)> {
    let number = entry.file_name().to_str()?.parse().ok()?;
    Some((number, entry.path()))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Stat {
    state: char,
    threads: u64,
}

/// `None` for what has ended or is hidden.
fn stat(folder: &Path, reader: &mut Reader) -> Result<Option<Stat>, CollectError> {
    use rustix::io::Errno;
    let path = folder.join("stat");
    match reader.text(&path) {
        Ok(text) => Ok(parse(text)),
        Err(error)
            if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied)
                || error.raw_os_error() == Some(Errno::SRCH.raw_os_error()) =>
        {
            Ok(None)
        }
        Err(source) => Err(CollectError::Read { path, source }),
    }
}

/// proc_pid_stat(5). The name in parentheses may hold anything, parentheses too.
fn parse(text: &str) -> Option<Stat> {
    let (_, fields) = text.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let threads = fields.nth(16)?.parse().ok()?;
    Some(Stat { state, threads })
}

const MOST_PROCESSES: Family = gauge(
    "node_processes_max_processes",
    "Largest process number, and so the limit of processes and threads.",
    &[],
    "/proc/sys/kernel/pid_max; absent in a container since Linux 6.14, which tells only that of one's own PID namespace",
);
const MOST_THREADS: Family =
    gauge("node_processes_max_threads", "Limit of the number of threads.", &[], "/proc/sys/kernel/threads-max");
const PROCESSES: Family = gauge("node_processes_pids", "Number of processes.", &[], "/proc/PID");
const STATE: Family = gauge("node_processes_state", "Number of processes in each state.", &["state"], "/proc/PID/stat");
const THREADS: Family = gauge("node_processes_threads", "Number of threads.", &[], "/proc/PID/stat");
const THREADS_STATE: Family = gauge(
    "node_processes_threads_state",
    "Number of threads in each state.",
    &["thread_state"],
    "/proc/PID/task/TID/stat",
);
pub const FAMILIES: &[Family] = &[MOST_PROCESSES, MOST_THREADS, PROCESSES, STATE, THREADS, THREADS_STATE];

const fn gauge(
    name: &'static str,
    help: &'static str,
    labels: &'static [&'static str],
    source: &'static str,
) -> Family {
    Family { name, kind: Kind::Gauge, help, labels, source }
}

pub fn write(found: &Processes, out: &mut Exposition) {
    if let Some(most) = found.most_processes {
        out.family(&MOST_PROCESSES).single(most);
    }
    if let Some(most) = found.most_threads {
        out.family(&MOST_THREADS).single(most);
    }
    out.family(&PROCESSES).single(found.processes);
    let mut states = |family: &Family, label: &str, states: &BTreeMap<char, u64>| {
        let mut family = out.family(family);
        for (state, count) in states {
            family.sample(&[(label, state.encode_utf8(&mut [0; 4]))], *count);
        }
    };
    states(&STATE, "state", &found.states);
    states(&THREADS_STATE, "thread_state", &found.thread_states);
    out.family(&THREADS).single(found.threads);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const STAT: &str = "4711 (a) b (c)) S 1 4711 4711 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 11 0 500 1000000 200 0\n";

    #[test]
    fn state_and_threads_after_a_name_that_holds_anything() {
        assert_eq!(parse(STAT), Some(Stat { state: 'S', threads: 11 }));
        assert_eq!(parse("1 (x) R 1 2"), None);
        assert_eq!(parse("1 (x) "), None);
        assert_eq!(parse(""), None);
    }

    #[test]
    fn the_limit_of_ones_own_namespace_is_not_the_hosts() {
        let check = |procfs: &str, text: &str, expected: bool| {
            assert_eq!(is_the_hosts_limit(Path::new(procfs), release(text)), expected, "{procfs} {text}");
        };
        check("/proc", "6.18.44\n", true);
        check("/proc", "", true);
        check("/host/proc", "6.12.25+rpt-rpi-v8\n", true);
        check("/host/proc", "5.15.0-1034-raspi\n", true);
        check("/host/proc", "6.14.0-rc1\n", false);
        check("/host/proc", "7.0\n", false);
        check("/host/proc", "nonsense", false);
    }

    #[test]
    fn threads_are_counted_where_there_are_several() {
        let folder = tempfile::tempdir().unwrap();
        let put = |path: &str, state: char, threads: u64| {
            let path = folder.path().join(path);
            fs::create_dir_all(&path).unwrap();
            fs::write(path.join("stat"), format!("1 (x) {state} 1 1 1 0 -1 0 0 0 0 0 1 1 0 0 20 0 {threads} 0\n"))
                .unwrap();
        };
        put("1", 'S', 1);
        put("7", 'S', 3);
        put("7/task/7", 'S', 3);
        put("7/task/8", 'R', 3);
        put("7/task/9", 'D', 3);
        put("99", 'Z', 0);
        put("self", 'R', 1);
        // Ended between the list and the look.
        fs::create_dir(folder.path().join("5")).unwrap();
        let found = count(folder.path(), &mut Reader::default(), Instant::now() + BUDGET).unwrap();
        assert_eq!((found.processes, found.threads), (3, 4));
        assert_eq!(found.states, BTreeMap::from([('S', 2), ('Z', 1)]));
        assert_eq!(found.thread_states, BTreeMap::from([('D', 1), ('R', 1), ('S', 2), ('Z', 1)]));
        let late = count(folder.path(), &mut Reader::default(), Instant::now());
        assert!(matches!(late, Err(CollectError::Failed { .. })));
    }

    proptest! {
        #[test]
        fn never_panics(text in any::<String>(), line in "[0-9]{1,5} \\([a-z)( ]{0,6}\\) [A-Z]( -?[0-9x]{0,12}){0,22}") {
            parse(&text);
            parse(&line);
            release(&text);
        }
    }
}
