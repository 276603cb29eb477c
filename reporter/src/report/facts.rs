//! What is known at one moment, as plain data: what the parts of the stack answered, and what they could not say.
//!
//! Missing is never zero: what could not be asked is `Err` with the reason, what could not be read is `None`.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use nexus_model::Incident;
use nexus_model::api::{HealerStatus, ServiceView};
use nexus_model::shadow::ShadowReport;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::capacity::Outlook;

/// What a part answered, or for people why it did not.
pub type Answer<T> = Result<T, String>;

#[derive(Clone, Debug)]
pub struct Facts {
    /// When the parts were asked.
    pub at: Timestamp,
    /// What this machine is called in Prometheus and in the incidents.
    pub host: String,
    /// The Compose project that Nexus itself is.
    pub stack: String,
    /// Who reads this may ask Docker only with sudo.
    pub docker_wants_sudo: bool,
    /// Why Docker itself does not answer; only asked when nothing of the stack does.
    pub docker_silence: Option<String>,
    pub healer: Answer<HealerStatus>,
    /// `None` when the healer could not be asked.
    pub services: Option<Vec<ServiceView>>,
    /// The newest, open or not, at most [`INCIDENTS_ASKED`].
    pub incidents: Option<Vec<Incident>>,
    /// That they are those of the copy in Postgres, and why; `None` when the healer told them.
    pub incidents_note: Option<String>,
    /// What healing would have done for what is only watched; `None` when the healer could not be asked.
    pub shadow: Option<ShadowReport>,
    pub exporter: Answer<()>,
    pub prometheus: Answer<()>,
    pub alerts: Answer<Vec<Alert>>,
    /// `None` where Grafana is not part of the stack.
    pub grafana: Option<Answer<()>>,
    /// The service that keeps the history; `None` where it is not part of the stack.
    pub reporter: Option<Answer<()>>,
    /// `None` where nobody can be asked for it.
    pub history: Option<Answer<History>>,
    pub machine: Machine,
    /// `None` when the exporter could not be asked.
    pub containers: Option<Vec<Container>>,
    pub measured: Measured,
}

/// How many incidents the healer is asked for; the most that it gives.
pub const INCIDENTS_ASKED: u32 = 1000;

/// An alert that people are told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    pub name: String,
    /// `warning` or `critical`.
    pub severity: String,
    pub project: String,
    pub service: String,
    pub summary: String,
    pub since: Timestamp,
    pub silenced: bool,
}

/// The machine at this moment, from one scrape of the exporter and from the kernel.
#[derive(Clone, Debug, Default)]
pub struct Machine {
    pub cpus: Option<f64>,
    /// Averages of 1 and 5 minutes.
    pub load1: Option<f64>,
    pub load5: Option<f64>,
    pub memory_total: Option<f64>,
    pub memory_available: Option<f64>,
    pub swap_total: Option<f64>,
    pub swap_free: Option<f64>,
    /// `None`: the kernel could not be asked. Empty: there is no swap.
    pub swaps: Option<Vec<Swap>>,
    /// The hottest sensor with a plausible value, in °C.
    pub temperature: Option<f64>,
    /// Whether the kernel counts and limits the memory of containers.
    pub memory_cgroup: Option<bool>,
    /// Whether the kernel has pressure stall information.
    pub pressure_known: Option<bool>,
    /// What the Raspberry Pi calls itself; `None` on other machines.
    pub board: Option<String>,
    /// Reasons of the firmware to hold the processor back: those of this moment, and those since it booted.
    pub throttled_now: Vec<String>,
    pub throttled_before: Vec<String>,
    pub filesystems: Vec<Filesystem>,
    pub cards: Vec<Card>,
    pub docker_disk: Vec<DockerDisk>,
    pub backups: Vec<Backup>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Swap {
    /// `/dev/zram0`, `/dev/mmcblk0p3`, or a file.
    pub name: String,
    pub size: f64,
    pub used: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Filesystem {
    pub mountpoint: String,
    pub device: String,
    pub size: f64,
    pub free: f64,
    /// For who is not root.
    pub available: f64,
    pub read_only: bool,
}

impl Filesystem {
    /// As `df` counts: what is reserved for root is neither used nor free.
    pub fn used_ratio(&self) -> f64 {
        let used = self.size - self.free;
        let all = used + self.available;
        if all > 0.0 { used / all } else { 0.0 }
    }
}

/// An SD card or eMMC.
#[derive(Clone, Debug, PartialEq)]
pub struct Card {
    /// `mmcblk0`.
    pub device: String,
    /// The kernel's word: `SD` or `MMC`.
    pub kind: String,
    /// By an eMMC's own estimate.
    pub life_used: Option<f64>,
}

/// One kind of what Docker keeps on disk.
#[derive(Clone, Debug, PartialEq)]
pub struct DockerDisk {
    /// `images`, `containers`, `volumes` or `build_cache`.
    pub kind: String,
    pub bytes: f64,
    pub reclaimable: f64,
    pub objects: f64,
    pub active: f64,
}

/// The last good run of a backup that tells one by a textfile.
#[derive(Clone, Debug, PartialEq)]
pub struct Backup {
    /// The metric that tells it.
    pub name: String,
    pub at: Timestamp,
    /// How old it may be, where the script says so.
    pub max_age: Option<SignedDuration>,
}

/// A container at this moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Container {
    pub project: String,
    pub service: String,
    pub name: String,
    pub image: String,
    /// Docker's word, e.g. `running`.
    pub state: String,
    /// Docker's word: `none`, `starting`, `healthy`, `unhealthy`.
    pub health: String,
    pub restart_policy: Option<String>,
    pub log_driver: Option<String>,
    pub log_bytes: Option<f64>,
    /// Anonymous memory: what can't be given back.
    pub memory: Option<f64>,
    /// With the page cache that it used lately.
    pub working_set: Option<f64>,
    /// `Some(0.0)`: it has none.
    pub memory_limit: Option<f64>,
    /// When it was started, while it runs.
    pub started_at: Option<Timestamp>,
    /// By Docker's own restart policy since it was last started by hand.
    pub restarts: Option<f64>,
    /// Of its last run, while it does not run.
    pub exit_code: Option<i64>,
}

/// A service by project and name.
pub type ServiceName = (String, String);

/// A series with a value an hour, oldest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series(pub Vec<(Timestamp, f64)>);

impl Series {
    pub fn span(&self) -> SignedDuration {
        match (self.0.first(), self.0.last()) {
            (Some((first, _)), Some((last, _))) => last.duration_since(*first),
            _ => SignedDuration::ZERO,
        }
    }

    pub fn days(&self) -> f64 {
        self.span().as_secs_f64() / 86_400.0
    }

    pub fn max(&self) -> Option<f64> {
        self.0.iter().map(|(_, value)| *value).max_by(f64::total_cmp)
    }

    /// The value that the given part of all values does not exceed.
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let mut values: Vec<f64> = self.0.iter().map(|(_, value)| *value).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        values.get((part * last as f64).ceil() as usize).copied()
    }

    /// How much a counter grew; where it fell it began anew.
    pub fn increase(&self) -> f64 {
        let pairs = self.0.iter().zip(self.0.iter().skip(1));
        pairs.map(|((_, before), (_, after))| if after < before { *after } else { after - before }).sum()
    }

    /// Whether it ever became clearly smaller, by a tenth or more.
    pub fn ever_fell(&self) -> bool {
        self.0.iter().zip(self.0.iter().skip(1)).any(|((_, before), (_, after))| *after < before * 0.9)
    }
}

/// What takes more than one look: Prometheus computed or remembers it. Empty when it could not be asked.
#[derive(Clone, Debug, Default)]
pub struct Measured {
    /// Part of all CPU time of the last minutes.
    pub cpu: Option<f64>,
    /// Part of the last minutes in which something waited.
    pub pressure_cpu: Option<f64>,
    pub pressure_memory: Option<f64>,
    pub pressure_io: Option<f64>,
    /// Bytes a second that come back from swap.
    pub swap_in: Option<f64>,
    pub network_received: Option<f64>,
    pub network_sent: Option<f64>,
    /// How often Docker's restart policy restarted a container within ten minutes, by its name.
    pub restarts_lately: BTreeMap<String, f64>,
    /// What Docker had counted ten minutes ago.
    pub restarts_before: BTreeMap<String, f64>,
    /// Names of the containers that have been created for a minute, and never started.
    pub created: BTreeSet<String>,
    /// CPUs in use by each service.
    pub service_cpu: BTreeMap<ServiceName, f64>,
    /// Anonymous memory and working set of the largest container of each service.
    pub service_memory: BTreeMap<ServiceName, Series>,
    pub service_working_set: BTreeMap<ServiceName, Series>,
    /// Memory limit of the largest container of each service; 0 for none.
    pub service_limit: BTreeMap<ServiceName, Series>,
    /// Counter of processes killed for memory.
    pub service_oom: BTreeMap<ServiceName, Series>,
    /// The most that this counter was within the hour before, and how much it grew: a counter that begins anew shows neither
    /// at the full hour. Only values above zero.
    pub service_oom_most: BTreeMap<ServiceName, Series>,
    pub service_oom_grown: BTreeMap<ServiceName, Series>,
    /// Counter of bytes read from disk.
    pub service_reads: BTreeMap<ServiceName, Series>,
    /// Size of the log by container name.
    pub log_bytes: BTreeMap<String, Series>,
    /// Counter of bytes written to an ext4 file system since it was made, by device without `/dev/`.
    pub written: BTreeMap<String, Series>,
}

/// What the year's memory says of this hour and of the last month.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct History {
    /// Since when there is one.
    #[schemars(with = "Option<String>", extend("format" = "date-time"))]
    pub from: Option<Timestamp>,
    /// What is usual at this hour of the week.
    pub usual: BTreeMap<Vital, Usual>,
    pub memory: Vec<MemoryUse>,
    /// How disks, memory and processors go on: what `nexus capacity` tells.
    #[serde(default)]
    pub outlooks: Vec<Outlook>,
}

/// Working set of a service over the last month.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MemoryUse {
    pub project: String,
    pub service: String,
    /// Over how many days.
    pub days: f64,
    /// 99 of 100 values are not above it.
    pub p99: f64,
    pub max: f64,
}

/// What is measured of the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Vital {
    Cpu,
    Load,
    Memory,
    Swap,
    Temperature,
    PressureCpu,
    PressureMemory,
    PressureIo,
    NetworkReceived,
    NetworkSent,
}

/// What a vital is like at one hour of the week.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Usual {
    pub median: f64,
    /// How far the values usually are from it, as a standard deviation.
    pub spread: f64,
}
