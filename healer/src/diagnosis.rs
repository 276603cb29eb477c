//! From evidence to a cause: pure, bounded, and the same answer to the same findings.
//!
//! What Docker and the kernel say comes first and alone can make a diagnosis certain; what a program says of itself
//! ([`log`]) makes it likely at most. A wrong cause sends its reader the wrong way, so where little speaks for one the answer
//! is [`Cause::Unknown`].

mod log;

use jiff::{SignedDuration, Timestamp};
use nexus_model::{Cause, Confidence, Diagnosis, ServiceKey};

use self::log::Said;
use crate::{
    findings::{Dependency, Findings},
    redact::cut,
};

/// Bytes of each text. The summary stands in a message on a phone.
pub const LONGEST_SUMMARY: usize = 160;
const LONGEST_FACT: usize = 200;
const MOST_FACTS: usize = 6;
const LONGEST_RECOMMENDATION: usize = 240;
/// A process that uses so much of what it may is busy: others want the processors as well, and one that waits uses next to
/// nothing.
const BUSY: f64 = 0.6;
/// An image this old is no news.
const NEW_IMAGE: SignedDuration = SignedDuration::from_hours(24);
/// Waiting for memory for such a share of a minute, in percent, or so little left of it, is a machine in distress.
const PRESSED: f64 = 10.0;
const SCARCE: f64 = 0.05;
/// A kill for want of memory that is longer ago, in seconds, is not what fails now.
const OOM_IS_NEWS: f64 = 600.0;
/// Docker cuts a probe off at its time-out, give or take.
const TIMED_OUT: f64 = 0.9;

/// What was found, before it is put into words.
struct Verdict {
    cause: Cause,
    confidence: Confidence,
    summary: String,
    because: Vec<String>,
}

/// What is behind an illness. `at` is when the findings were taken.
pub fn diagnose(findings: &Findings, at: Timestamp) -> Diagnosis {
    let verdict = refused_to_start(findings);
    let verdict = verdict.or_else(|| if has_ended(findings) { ended(findings) } else { unwell(findings) });
    in_words(findings, verdict.unwrap_or_else(|| unknown(findings)), at)
}

/// What Docker's answer to a restart says, which is the `error` of the findings. `None`: nothing that is known.
pub fn diagnose_refusal(findings: &Findings, at: Timestamp) -> Option<Diagnosis> {
    refused_to_start(findings).map(|verdict| in_words(findings, verdict, at))
}

/// It waits for a service that it needs, and Docker says what is the matter with that one.
pub fn of_need(needed: &ServiceKey, waits: &str, at: Timestamp) -> Diagnosis {
    let verdict = Verdict {
        cause: Cause::DependencyDown,
        confidence: Confidence::Likely,
        summary: format!("it needs {needed}, which is not well"),
        because: vec![format!("it {waits}")],
    };
    in_words(&Findings::default(), verdict, at)
}

fn in_words(findings: &Findings, mut verdict: Verdict, at: Timestamp) -> Diagnosis {
    verdict.because.extend(beside(findings, verdict.cause));
    verdict.because.retain(|fact| !fact.trim().is_empty());
    verdict.because.truncate(MOST_FACTS);
    Diagnosis {
        cause: verdict.cause,
        confidence: verdict.confidence,
        summary: cut(&verdict.summary, LONGEST_SUMMARY),
        because: verdict.because.iter().map(|fact| cut(fact, LONGEST_FACT)).collect(),
        recommendation: cut(&recommended(findings, verdict.cause), LONGEST_RECOMMENDATION),
        at,
    }
}

/// Which of two diagnoses of one incident is kept: the surer one, and of equals the later.
pub fn surer(before: Option<&Diagnosis>, later: Diagnosis) -> Diagnosis {
    match before {
        Some(before) if before.confidence > later.confidence => before.clone(),
        _ => later,
    }
}

/// For one line: "likely out_of_memory: it used …".
pub fn in_short(diagnosis: &Diagnosis) -> String {
    match diagnosis.cause {
        Cause::Unknown => format!("cause unknown: {}", diagnosis.summary),
        cause => format!("{} {cause}: {}", diagnosis.confidence, diagnosis.summary),
    }
}

/// Docker's own words on a start that failed. They are gone as soon as it has started.
fn refused_to_start(findings: &Findings) -> Option<Verdict> {
    // The special before the general: a mount that fails may fail for want of a permission.
    const WORDS: &[(Cause, &[&str])] = &[
        (Cause::WrongArchitecture, &["exec format error"]),
        (Cause::PortTaken, &["port is already allocated", "address already in use"]),
        (Cause::DiskFull, &["no space left on device"]),
        (Cause::DeviceMissing, &["error gathering device information"]),
        (
            Cause::NetworkMissing,
            &["cannot join network", "network not found", "could not find a network", "joining network namespace"],
        ),
        (
            Cause::MountFailed,
            &[
                "error mounting",
                "bind source path does not exist",
                "error while creating mount source",
                "mount through",
            ],
        ),
        (Cause::ImageMissing, &["no such image", "image not known", "unable to find image"]),
        // Docker's own, runc's, and containerd's of its task.
        (Cause::LostRun, &["id already in use", "container with given id already exists", "container with id exists"]),
    ];
    let error = findings.error.to_ascii_lowercase();
    if error.is_empty() || findings.state == "running" {
        return None;
    }
    let found = WORDS.iter().find(|(_, words)| words.iter().any(|word| error.contains(word)));
    let of_network = findings.network_mode.starts_with("container:") && error.contains("no such container");
    let cause = match found {
        Some((cause, _)) => *cause,
        None if of_network => Cause::NetworkMissing,
        None if error.contains("network") && error.contains("not found") => Cause::NetworkMissing,
        None if error.contains("task") && error.contains("already exists") => Cause::LostRun,
        None if error.contains("executable file not found") => Cause::CommandNotFound,
        None if error.contains("exec: ") && error.contains("permission denied") => Cause::CommandNotExecutable,
        None if error.contains("exec: ") && error.contains("no such file or directory") => Cause::CommandNotFound,
        None => return None,
    };
    let which = address(&findings.error).filter(|_| cause == Cause::PortTaken);
    let which = which.map(|address| format!(" ({address})")).unwrap_or_default();
    Some(Verdict {
        cause,
        confidence: Confidence::Certain,
        summary: format!("Docker could not start it: {}{which}", meaning(cause)),
        because: vec![format!("Docker says: {}", findings.error)],
    })
}

/// The first address with a port in Docker's words.
fn address(error: &str) -> Option<&str> {
    error.split_whitespace().map(|word| word.trim_matches(|sign: char| ":,;\"'()".contains(sign))).find(|word| {
        let port = word.rsplit_once(':').map_or("", |(_, port)| port);
        !port.is_empty() && port.len() <= 5 && port.bytes().all(|byte| byte.is_ascii_digit())
    })
}

fn has_ended(findings: &Findings) -> bool {
    findings.has_ended() || findings.state == "restarting"
}

/// It does not run.
fn ended(findings: &Findings) -> Option<Verdict> {
    let code = findings.exit_code;
    let exit = format!("exit code {code}");
    let certain = |cause, summary: &str, because: &str| verdict(cause, Confidence::Certain, summary, because);
    let likely = |cause, summary: &str, because: &str| Some(verdict(cause, Confidence::Likely, summary, because));
    if findings.oom_killed {
        return Some(killed_for_memory(findings));
    }
    // Whatever code it ended with: it was asked to.
    if findings.ended_by_docker {
        return Some(certain(Cause::Terminated, "Docker was down, and ended it on its return", &exit));
    }
    match code {
        0 => return Some(certain(Cause::Ended, "it ended by itself, without an error", &exit)),
        143 => return Some(certain(Cause::Terminated, "it was asked to stop with SIGTERM and did", &exit)),
        130 => return Some(certain(Cause::Terminated, "it was interrupted with SIGINT", &exit)),
        137 => return Some(killed(findings)),
        _ => (),
    }
    let said = log::said(findings);
    if let Some(said) = said.as_ref().filter(|said| said.is_clear && said.cause != Cause::ApplicationError) {
        return Some(from_words(findings, said, Confidence::Likely, exit));
    }
    match code {
        126 => return likely(Cause::CommandNotExecutable, "its command could not be executed", &exit),
        127 => return likely(Cause::CommandNotFound, "a command that it starts was not found", &exit),
        132 => return likely(Cause::Crashed, "it used an instruction that this processor lacks (SIGILL)", &exit),
        133 => return likely(Cause::Crashed, "it stopped itself at a fault that it found (SIGTRAP)", &exit),
        134 => return likely(Cause::Crashed, "it aborted itself (SIGABRT)", &exit),
        135 => return likely(Cause::Crashed, "it crashed with a bus error (SIGBUS)", &exit),
        136 => return likely(Cause::Crashed, "it crashed with an arithmetic error (SIGFPE)", &exit),
        139 => return likely(Cause::Crashed, "it crashed with a segmentation fault (SIGSEGV)", &exit),
        _ => (),
    }
    if let Some(changed) = new_image(findings) {
        return Some(changed);
    }
    if let Some(said) = said {
        let confidence = if said.is_clear { Confidence::Likely } else { Confidence::Guess };
        return Some(from_words(findings, &said, confidence, exit));
    }
    down_dependency(findings).map(|dependency| on_dependency(dependency, Confidence::Guess, exit))
}

/// It runs, and its health check fails.
fn unwell(findings: &Findings) -> Option<Verdict> {
    if !findings.is_unhealthy() {
        return None;
    }
    let failing = format!("{} of the last {} probes failed", failed_probes(findings), findings.probes.len());
    if let Some(broken) = broken_probe(findings) {
        return Some(broken);
    }
    let is_news = findings.last_oom_seconds.is_none_or(|seconds| seconds < OOM_IS_NEWS);
    if let Some(kills) = findings.usage.oom_kills.filter(|kills| *kills > 0 && is_news) {
        let because = format!("the kernel killed {kills} of its processes for want of memory since it started");
        let summary = format!("processes in it were killed for want of memory{}", of_limit(findings));
        return Some(verdict(Cause::OutOfMemory, Confidence::Likely, &summary, &because));
    }
    let said = log::said(findings);
    let recovering = said.as_ref().filter(|said| said.cause == Cause::SlowStart && said.is_clear);
    if let Some(said) = recovering {
        return Some(from_words(findings, said, Confidence::Likely, failing));
    }
    if let Some(dependency) = down_dependency(findings) {
        return Some(on_dependency(dependency, Confidence::Likely, failing));
    }
    let timed_out = times_out(findings);
    let busy = timed_out.then(|| busy(findings)).flatten();
    if let Some(share) = busy.filter(|share| *share >= BUSY) {
        let used = findings.usage.cpus.unwrap_or_default();
        let summary = format!("its health check times out while it is busy: it uses {used:.1} processors");
        let because = format!("it used {:.0} % of the CPU that it can", (share * 100.0).min(100.0));
        let mut verdict = verdict(Cause::Busy, Confidence::Likely, &summary, &because);
        verdict.because.push(time_out_fact(findings));
        return Some(verdict);
    }
    if let Some(said) = said.as_ref().filter(|said| said.is_clear) {
        return Some(from_words(findings, said, Confidence::Likely, failing));
    }
    if timed_out {
        let (confidence, summary) = match busy {
            Some(_) => {
                (Confidence::Likely, "its health check times out, and it is not busy: it hangs, or waits for something")
            }
            None => (Confidence::Guess, "its health check times out: it hangs, or waits for something"),
        };
        let mut verdict = verdict(Cause::Hangs, confidence, summary, &time_out_fact(findings));
        if let Some(share) = busy {
            verdict.because.push(format!("it used {:.0} % of the CPU that it can", (share * 100.0).min(100.0)));
        }
        return Some(verdict);
    }
    if let Some(said) = log::said_by_probe(findings) {
        return Some(from_probe(findings, &said));
    }
    said.map(|said| from_words(findings, &said, Confidence::Guess, failing))
}

fn unknown(findings: &Findings) -> Verdict {
    let (summary, because) = if has_ended(findings) {
        let summary = format!("it ended with exit code {}, and nothing says why", findings.exit_code);
        let words = log::last_words(findings).map(|words| format!("its last words: {words}"));
        (summary, words.unwrap_or_default())
    } else if findings.is_unhealthy() {
        match findings.probes.last().and_then(|probe| probe.output.last()) {
            Some(words) => {
                let summary = "its health check fails, and what that says names no cause that is known here";
                (summary.to_owned(), format!("its last probe said: {words}"))
            }
            None => ("its health check fails, and nothing says why".to_owned(), String::new()),
        }
    } else {
        (format!("it is {}, and nothing says why", findings.state), String::new())
    };
    let docker = Some(&findings.error).filter(|error| !error.is_empty());
    let docker = docker.map(|error| format!("Docker says: {error}"));
    Verdict {
        cause: Cause::Unknown,
        confidence: Confidence::None,
        summary,
        because: docker.into_iter().chain([because]).collect(),
    }
}

fn verdict(cause: Cause, confidence: Confidence, summary: &str, because: &str) -> Verdict {
    Verdict { cause, confidence, summary: summary.to_owned(), because: vec![because.to_owned()] }
}

/// Docker's flag says so.
fn killed_for_memory(findings: &Findings) -> Verdict {
    let because = "Docker says that the kernel killed it for want of memory";
    match findings.memory_limit_bytes {
        Some(limit) => {
            let peak = findings.usage.memory_peak_bytes.map(|peak| format!("; it had used {}", size(peak)));
            let summary = format!("it ran out of memory: its limit is {}{}", size(limit), peak.unwrap_or_default());
            // One that ended otherwise survived the death of a process in it.
            let confidence = if findings.exit_code == 137 { Confidence::Certain } else { Confidence::Likely };
            verdict(Cause::OutOfMemory, confidence, &summary, because)
        }
        None => {
            let summary = "it was killed because the whole machine ran out of memory; it has no limit of its own";
            verdict(Cause::HostOutOfMemory, Confidence::Likely, summary, because)
        }
    }
}

/// SIGKILL, and Docker does not know of a lack of memory.
fn killed(findings: &Findings) -> Verdict {
    let host = &findings.host;
    let pressed = host.memory_pressure.is_some_and(|pressure| pressure >= PRESSED);
    let scarce = host
        .memory_available_bytes
        .zip(host.memory_total_bytes)
        .is_some_and(|(available, total)| (available as f64) < total as f64 * SCARCE);
    if host.oom_kills.is_some_and(|kills| kills > 0) && (pressed || scarce) {
        let available = host.memory_available_bytes.map(size).unwrap_or_default();
        let summary =
            format!("it was killed, most likely because the machine ran out of memory ({available} are left)");
        let because = "the kernel has killed processes for want of memory since the machine was started";
        return verdict(Cause::HostOutOfMemory, Confidence::Likely, &summary, because);
    }
    let summary = "it was killed with SIGKILL, not for its memory limit; Docker does not know by whom";
    verdict(Cause::Killed, Confidence::Likely, summary, "exit code 137, and Docker does not say that memory ran out")
}

/// It ended soon after it had got another image.
fn new_image(findings: &Findings) -> Option<Verdict> {
    let change = findings.image_change.as_ref()?;
    let ended = findings.finished_at?;
    let age = ended.duration_since(change.at);
    if age.is_negative() || age > NEW_IMAGE || findings.image_id == change.image_id_before {
        return None;
    }
    // Once may be a coincidence.
    let confidence = if findings.restart_count > 0 { Confidence::Likely } else { Confidence::Guess };
    let before = short(&change.image_id_before);
    let summary = format!("it has been failing since it got the image {}", short(&findings.image_id));
    let because = format!("until {} it ran {} ({before})", moment(change.at), change.image_before);
    let mut verdict = verdict(Cause::NewImage, confidence, &summary, &because);
    let exits = format!("exit code {}, restarted {} times by Docker", findings.exit_code, findings.restart_count);
    verdict.because.push(exits);
    if let Some(words) = log::last_words(findings) {
        verdict.because.push(format!("its last words: {words}"));
    }
    Some(verdict)
}

/// What the program itself said.
fn from_words(findings: &Findings, said: &Said, confidence: Confidence, beside: String) -> Verdict {
    let words = format!("it said: {}", said.line);
    let down = down_dependency(findings);
    let (cause, summary) = match said.cause {
        Cause::DependencyDown | Cause::NameNotResolved if down.is_some() => {
            let name = down.map(|dependency| dependency.service.as_str()).unwrap_or_default();
            (Cause::DependencyDown, format!("it can't reach {name}, which it needs and which is down"))
        }
        cause => (cause, meaning(cause).to_owned()),
    };
    let mut because = vec![words];
    because.extend(down.map(state_of));
    because.push(beside);
    Verdict { cause, confidence, summary, because }
}

/// What the last probe said.
fn from_probe(findings: &Findings, said: &Said) -> Verdict {
    let because = format!("its last probe said: {}", said.line);
    let cause = said.cause;
    let confidence = match cause {
        Cause::AnswersWithError | Cause::NotListening | Cause::SlowStart => Confidence::Likely,
        _ => Confidence::Guess,
    };
    let mut verdict = verdict(cause, confidence, meaning(cause), &because);
    let failed = failed_probes(findings);
    verdict.because.push(format!("{failed} of the last {} probes failed", findings.probes.len()));
    verdict
}

fn on_dependency(dependency: &Dependency, confidence: Confidence, beside: String) -> Verdict {
    let summary = format!("it needs {}, which is down", dependency.service);
    Verdict { cause: Cause::DependencyDown, confidence, summary, because: vec![state_of(dependency), beside] }
}

fn down_dependency(findings: &Findings) -> Option<&Dependency> {
    findings.dependencies.iter().find(|dependency| dependency.is_down())
}

fn state_of(dependency: &Dependency) -> String {
    let health = match dependency.health.as_str() {
        "" | "none" => String::new(),
        health => format!(", {health}"),
    };
    format!("Docker says that {} is {}{health}", dependency.service, dependency.state)
}

/// The shell and Docker say 126 or 127 when there is no such command; Docker also writes -1 and says so itself.
fn broken_probe(findings: &Findings) -> Option<Verdict> {
    let probes = &findings.probes;
    let last = probes.last()?;
    let summary = "the command of its health check can't be run";
    let words = last.output.last().map(|words| format!("its last probe said: {words}"));
    if probes.iter().all(|probe| matches!(probe.exit_code, 126 | 127)) {
        // One alone may be chance.
        let confidence = if probes.len() > 1 { Confidence::Certain } else { Confidence::Likely };
        let because = format!("each of the last {} probes ended with exit code {}", probes.len(), last.exit_code);
        let mut verdict = verdict(Cause::ProbeBroken, confidence, summary, &because);
        verdict.because.extend(words);
        return Some(verdict);
    }
    let docker_says = |words: &String| {
        let words = words.to_ascii_lowercase();
        words.contains("oci runtime exec failed") && !words.contains("cannot exec in a stopped")
    };
    if last.exit_code == -1 && !times_out(findings) && last.output.iter().any(docker_says) {
        return Some(verdict(Cause::ProbeBroken, Confidence::Likely, summary, &words.unwrap_or_default()));
    }
    None
}

/// Whether Docker has cut off the last probe.
fn times_out(findings: &Findings) -> bool {
    let Some((check, last)) = findings.healthcheck.as_ref().zip(findings.probes.last()) else { return false };
    let lasted = last.start.zip(last.end).map(|(start, end)| end.duration_since(start).as_secs_f64());
    last.exit_code == -1 && lasted.is_some_and(|lasted| lasted >= check.timeout_seconds * TIMED_OUT)
}

fn time_out_fact(findings: &Findings) -> String {
    let allowed = findings.healthcheck.as_ref().map_or(0.0, |check| check.timeout_seconds);
    format!("its last probe was cut off after {allowed} s")
}

/// How much of the CPU it uses that it can. Most programs can use one processor, whatever they may.
fn busy(findings: &Findings) -> Option<f64> {
    let most = findings.cpu_limit.filter(|limit| *limit > 0.0).map_or(1.0, |limit| limit.min(1.0));
    Some(findings.usage.cpus? / most)
}

fn failed_probes(findings: &Findings) -> usize {
    findings.probes.iter().filter(|probe| probe.exit_code != 0).count()
}

/// Facts that belong to any cause, or to this one.
fn beside(findings: &Findings, cause: Cause) -> Vec<String> {
    let mut facts = Vec::new();
    let host = &findings.host;
    if let Some((available, total)) = host.disk_available_bytes.zip(host.disk_total_bytes)
        && (cause == Cause::DiskFull || available < total / 100)
    {
        facts.push(format!("{} of {} are free where Docker keeps its containers", size(available), size(total)));
    }
    if host.disk_inodes_available == Some(0) {
        facts.push("the file system of Docker has no room for another file (inodes)".to_owned());
    }
    if let Some((peak, limit)) = findings.usage.memory_peak_bytes.zip(findings.memory_limit_bytes)
        && peak >= limit / 100 * 95
    {
        facts.push(format!("it has used up to {} of the {} that it may", size(peak), size(limit)));
    }
    if findings.restart_count > 0 && cause != Cause::NewImage {
        facts.push(format!("Docker has restarted it {} times", findings.restart_count));
    }
    if let Some(change) = &findings.image_change
        && cause != Cause::NewImage
        && findings.image_id != change.image_id_before
    {
        facts.push(format!("it got another image at {}", moment(change.at)));
    }
    facts
}

fn of_limit(findings: &Findings) -> String {
    findings.memory_limit_bytes.map(|limit| format!("; its limit is {}", size(limit))).unwrap_or_default()
}

fn size(bytes: u64) -> String {
    const MIB: f64 = 1024.0 * 1024.0;
    let mib = bytes as f64 / MIB;
    if mib >= 1024.0 { format!("{:.1} GiB", mib / 1024.0) } else { format!("{mib:.0} MiB") }
}

fn moment(at: Timestamp) -> String {
    at.strftime("%Y-%m-%d %H:%M UTC").to_string()
}

/// As Docker shows it.
fn short(image_id: &str) -> String {
    image_id.trim_start_matches("sha256:").chars().take(12).collect()
}

/// One sentence, as far as it needs no figures.
pub fn meaning(cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown => "nothing says why",
        Cause::OutOfMemory => "it ran out of memory",
        Cause::HostOutOfMemory => "the machine ran out of memory",
        Cause::Killed => "it was killed",
        Cause::Terminated => "it was asked to stop",
        Cause::Crashed => "it crashed",
        Cause::ApplicationError => "it ended by an error of its own",
        Cause::Ended => "it ended by itself",
        Cause::CommandNotFound => "its command was not found",
        Cause::CommandNotExecutable => "its command could not be executed",
        Cause::WrongArchitecture => "it is made for another kind of processor",
        Cause::ImageMissing => "its image is not there",
        Cause::PortTaken => "its port is taken by another process",
        Cause::MountFailed => "a folder or file can't be mounted into it",
        Cause::DeviceMissing => "a device that is passed to it is not there",
        Cause::NetworkMissing => "its network is not there",
        Cause::LostRun => "a run of it goes on that Docker has lost, as when it was killed right after a start",
        Cause::DependencyDown => "it can't connect to another service that it needs",
        Cause::NameNotResolved => "it can't resolve the name of another host",
        Cause::DiskFull => "it has no disk space left",
        Cause::ReadOnly => "it can't write: the file system is read-only",
        Cause::PermissionDenied => "it is not permitted to do what it needs to",
        Cause::FileMissing => "a file that it needs is missing",
        Cause::Configuration => "its configuration is wrong or incomplete",
        Cause::CredentialsRefused => "its password or token is not accepted",
        Cause::CertificateInvalid => "a certificate is not accepted",
        Cause::TooManyFiles => "it has reached the limit of open files",
        Cause::DataLocked => "its data is locked by another process, or by one that died",
        Cause::DataDamaged => "its data is damaged",
        Cause::DataOfOtherVersion => "its data was written by another version of it",
        Cause::SlowStart => "it is still recovering, loading or migrating its data",
        Cause::Busy => "it is too busy to answer its health check",
        Cause::Hangs => "it hangs",
        Cause::NotListening => "it runs, but nothing accepts connections where its health check asks",
        Cause::AnswersWithError => "it answers its health check with an error",
        Cause::ProbeBroken => "the command of its health check can't be run",
        Cause::NewImage => "it has been failing since it got another image",
    }
}

/// What a person may do, with what is known of this one.
fn recommended(findings: &Findings, cause: Cause) -> String {
    match cause {
        // Neither stop nor kill reaches it, and no start is possible beside it (seen with Docker 20.10).
        Cause::LostRun if !findings.container_id.is_empty() => {
            let (id, short) = (&findings.container_id, short(&findings.container_id));
            format!(
                "End that run, which Docker can't, or boot the machine: sudo ctr -n moby tasks kill -s SIGKILL {id} && docker start {short}"
            )
        }
        Cause::Terminated if findings.ended_by_docker => {
            "Nothing in the service: see why Docker ended (journalctl -u docker). With \"live-restore\": true in \
             /etc/docker/daemon.json containers outlive it."
                .to_owned()
        }
        _ => recommendation(cause).to_owned(),
    }
}

/// What a person may do. A restart is not among it: that is tried anyway.
fn recommendation(cause: Cause) -> &'static str {
    match cause {
        Cause::Unknown => "Look at its log from before the first failure.",
        Cause::OutOfMemory => "Raise its memory limit (mem_limit), or make it use less: caches, workers, heap size.",
        Cause::HostOutOfMemory => "Give the hungriest services memory limits, or move one to another machine.",
        Cause::Killed => "Look in the kernel's log (dmesg) for the one who killed it; a process inside may have, too.",
        Cause::Terminated => "Find out who stopped it; if nobody did, something inside the container did.",
        Cause::Crashed => {
            "Try another version of its image; if it happens with several, test the machine's memory and power supply."
        }
        Cause::ApplicationError => "Its own log says what went wrong; it may need another version or setting.",
        Cause::Ended => "If it is meant to run once, set restart: \"no\"; otherwise see why its command ends.",
        Cause::CommandNotFound => "Correct command or entrypoint in compose.yml, or use an image that has the program.",
        Cause::CommandNotExecutable => {
            "Make the file executable (chmod +x) and see that its file system is not mounted noexec."
        }
        Cause::WrongArchitecture => {
            "Use an image for this processor: docker compose pull, or set platform in compose.yml."
        }
        Cause::ImageMissing => "Pull or build the image: docker compose pull, docker compose build.",
        Cause::PortTaken => "Find who has the port (ss -ltnp), stop it, or publish another port in compose.yml.",
        Cause::MountFailed => {
            "See that the source of each volume exists and is of the right kind; a disk may not be mounted."
        }
        Cause::DeviceMissing => {
            "Plug the device in, or correct its path in compose.yml; /dev/serial/by-id does not change."
        }
        Cause::NetworkMissing => {
            "Recreate the service so that it joins the network there is now: docker compose up -d."
        }
        Cause::LostRun => {
            "End that run, which Docker can't, or boot the machine: sudo ctr -n moby tasks kill -s SIGKILL ID, then docker start ID, with \
             its whole id."
        }
        Cause::DependencyDown => "Mend the service that it depends on first.",
        Cause::NameNotResolved => {
            "See that the name is right and that both services share a network; for names of the Internet check DNS."
        }
        Cause::DiskFull => "Free space: docker system df shows what Docker holds, logs and old images are first.",
        Cause::ReadOnly => {
            "If its volume is meant to be writable, remove :ro; if the disk turned read-only, check it: it may be failing."
        }
        Cause::PermissionDenied => {
            "Give the files of its volume to the user that it runs as (chown), or grant what it asks for."
        }
        Cause::FileMissing => "Put the file where it looks for it, or mount the volume that has it.",
        Cause::Configuration => "Correct its settings: the line that it names, or the environment in compose.yml.",
        Cause::CredentialsRefused => "Give it the password or token that the other service knows, or change it there.",
        Cause::CertificateInvalid => "Renew the certificate, and check the machine's clock.",
        Cause::TooManyFiles => "Raise its limit (ulimits: nofile in compose.yml), or find what it never closes.",
        Cause::DataLocked => "See that only one container uses its data; then remove the stale lock file.",
        Cause::DataDamaged => "Don't restart it further. Save a copy of its data, then restore the last good backup.",
        Cause::DataOfOtherVersion => {
            "Go back to the image of the version that wrote the data, and upgrade as its manual says."
        }
        Cause::SlowStart => {
            "Give it time: a longer start_period in its health check. Restarting begins it all over again."
        }
        Cause::Busy => "Give it more CPU or less work, or its health check a longer timeout.",
        Cause::Hangs => {
            "A restart usually helps; if it comes back, look at what it waits for, such as disk or another service."
        }
        Cause::NotListening => "See that its health check asks the port and address that it listens on.",
        Cause::AnswersWithError => "Its own log says why it answers with an error.",
        Cause::ProbeBroken => "Correct the health check: its image may lack the program, such as curl.",
        Cause::NewImage => "Go back to the image from before, by its version or digest in compose.yml.",
    }
}

#[cfg(test)]
mod tests;
