//! Why a service is ill, as far as the evidence tells: a cause from a closed list, how sure it is, the facts that speak
//! for it, and what a person may do about it.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::incident::{NameOf, UnknownName, snake_case_name};

/// What is behind an illness. The list is closed, so that it can be counted; docs/healing.md explains each by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The evidence does not tell. An honest answer, and better than a wrong one.
    Unknown,
    /// It hit its own memory limit, or the limit of its own heap.
    OutOfMemory,
    /// The whole machine ran out of memory.
    HostOutOfMemory,
    /// SIGKILL, and nobody knows from whom.
    Killed,
    /// SIGTERM or SIGINT, and it obeyed.
    Terminated,
    /// A segmentation fault, an abort, or another deadly signal of its own making.
    Crashed,
    /// It gave up by itself because of an error of its own that is none of the others.
    ApplicationError,
    /// It ended well, though it was expected to run on.
    Ended,
    CommandNotFound,
    CommandNotExecutable,
    /// Made for another kind of processor.
    WrongArchitecture,
    ImageMissing,
    PortTaken,
    /// A folder or file of the host can't be mounted.
    MountFailed,
    /// A device that is passed to it is not there.
    DeviceMissing,
    /// The network, or the container whose network it shares, is not there.
    NetworkMissing,
    /// A run of it goes on that Docker does not know any more, and stands in the way of the next.
    LostRun,
    /// A service that it needs is down or does not take connections.
    DependencyDown,
    /// The name of another host could not be resolved.
    NameNotResolved,
    DiskFull,
    ReadOnly,
    PermissionDenied,
    /// A file, folder, module or library that it needs is not there.
    FileMissing,
    Configuration,
    /// Another service does not accept its name, password or token.
    CredentialsRefused,
    CertificateInvalid,
    /// Too many open files.
    TooManyFiles,
    /// Another process, or one that died, holds a lock on its data.
    DataLocked,
    DataDamaged,
    /// Its data was written by another version of it.
    DataOfOtherVersion,
    /// It is recovering, loading or migrating, and needs more time.
    SlowStart,
    /// Its health check times out while it uses all the CPU that it may.
    Busy,
    /// Its health check times out and it is not busy.
    Hangs,
    /// It runs, but nothing accepts connections where its health check asks.
    NotListening,
    /// It answers its health check, with an error.
    AnswersWithError,
    /// The command of its health check can't be run.
    ProbeBroken,
    /// It has ended again and again since it got another image.
    NewImage,
}

/// How far a diagnosis can be trusted. What a program says of itself is never more than `likely`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Confidence {
    /// Of [`Cause::Unknown`], and of nothing else.
    None,
    /// Something points there, and little speaks against it.
    Guess,
    /// The program says so where it ended, or Docker and the kernel show what usually means it.
    Likely,
    /// Docker or the kernel says so.
    Certain,
}

impl Cause {
    pub const ALL: [Cause; 37] = [
        Cause::Unknown,
        Cause::OutOfMemory,
        Cause::HostOutOfMemory,
        Cause::Killed,
        Cause::Terminated,
        Cause::Crashed,
        Cause::ApplicationError,
        Cause::Ended,
        Cause::CommandNotFound,
        Cause::CommandNotExecutable,
        Cause::WrongArchitecture,
        Cause::ImageMissing,
        Cause::PortTaken,
        Cause::MountFailed,
        Cause::DeviceMissing,
        Cause::NetworkMissing,
        Cause::LostRun,
        Cause::DependencyDown,
        Cause::NameNotResolved,
        Cause::DiskFull,
        Cause::ReadOnly,
        Cause::PermissionDenied,
        Cause::FileMissing,
        Cause::Configuration,
        Cause::CredentialsRefused,
        Cause::CertificateInvalid,
        Cause::TooManyFiles,
        Cause::DataLocked,
        Cause::DataDamaged,
        Cause::DataOfOtherVersion,
        Cause::SlowStart,
        Cause::Busy,
        Cause::Hangs,
        Cause::NotListening,
        Cause::AnswersWithError,
        Cause::ProbeBroken,
        Cause::NewImage,
    ];
}

impl Confidence {
    pub const ALL: [Confidence; 4] = [Confidence::None, Confidence::Guess, Confidence::Likely, Confidence::Certain];
}

impl NameOf for Cause {
    const EVERY: &'static [Self] = &Cause::ALL;
    fn name_of(self) -> &'static str {
        match self {
            Cause::Unknown => "unknown",
            Cause::OutOfMemory => "out_of_memory",
            Cause::HostOutOfMemory => "host_out_of_memory",
            Cause::Killed => "killed",
            Cause::Terminated => "terminated",
            Cause::Crashed => "crashed",
            Cause::ApplicationError => "application_error",
            Cause::Ended => "ended",
            Cause::CommandNotFound => "command_not_found",
            Cause::CommandNotExecutable => "command_not_executable",
            Cause::WrongArchitecture => "wrong_architecture",
            Cause::ImageMissing => "image_missing",
            Cause::PortTaken => "port_taken",
            Cause::MountFailed => "mount_failed",
            Cause::DeviceMissing => "device_missing",
            Cause::NetworkMissing => "network_missing",
            Cause::LostRun => "lost_run",
            Cause::DependencyDown => "dependency_down",
            Cause::NameNotResolved => "name_not_resolved",
            Cause::DiskFull => "disk_full",
            Cause::ReadOnly => "read_only",
            Cause::PermissionDenied => "permission_denied",
            Cause::FileMissing => "file_missing",
            Cause::Configuration => "configuration",
            Cause::CredentialsRefused => "credentials_refused",
            Cause::CertificateInvalid => "certificate_invalid",
            Cause::TooManyFiles => "too_many_files",
            Cause::DataLocked => "data_locked",
            Cause::DataDamaged => "data_damaged",
            Cause::DataOfOtherVersion => "data_of_other_version",
            Cause::SlowStart => "slow_start",
            Cause::Busy => "busy",
            Cause::Hangs => "hangs",
            Cause::NotListening => "not_listening",
            Cause::AnswersWithError => "answers_with_error",
            Cause::ProbeBroken => "probe_broken",
            Cause::NewImage => "new_image",
        }
    }
}

impl NameOf for Confidence {
    const EVERY: &'static [Self] = &Confidence::ALL;
    fn name_of(self) -> &'static str {
        match self {
            Confidence::None => "none",
            Confidence::Guess => "guess",
            Confidence::Likely => "likely",
            Confidence::Certain => "certain",
        }
    }
}

snake_case_name!(Cause, Confidence);

/// A diagnosis as it is kept with an incident: the column `diagnosis` of `incidents`. All of its text is bounded and
/// redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Diagnosis {
    pub cause: Cause,
    pub confidence: Confidence,
    /// One sentence for people, with the figures.
    pub summary: String,
    /// What speaks for it, the strongest first.
    pub because: Vec<String>,
    /// What a person may do; empty when there is nothing to say.
    pub recommendation: String,
    /// When the evidence for it was taken.
    pub at: Timestamp,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::incident::tests::names_agree;

    #[test]
    fn names_are_the_same_in_json_and_in_text() {
        names_agree::<Cause>();
        names_agree::<Confidence>();
        assert_eq!("gremlins".parse::<Cause>(), Err(UnknownName));
    }

    #[test]
    fn each_cause_is_in_the_list_once() {
        let all: BTreeSet<Cause> = Cause::ALL.into();
        assert_eq!(all.len(), Cause::ALL.len());
        assert_eq!(all.len(), Cause::NewImage as usize + 1);
    }
}
