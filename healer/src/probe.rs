//! Asking a container whether it works, as its owner says: [`way`] says where it can be reached from here and [`Probes`] what is
//! known of it (both pure), [`ask`] asks.
//!
//! From the healer's container others are reached in two ways, and a probe takes no third: at their own address where both are in
//! one network, and otherwise at a port that the host publishes for them. Docker keeps its bridges apart, so the address of a container
//! in another network leads nowhere, and a port that is published on 127.0.0.1 is open to the host's own processes alone. What can't be
//! reached is unknown, and never taken for an illness. A probe goes to the container that it is worn by and to nobody else: its text
//! has no place for a host, and no redirect is followed.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    time::Duration,
};

use jiff::{SignedDuration, Timestamp};
use nexus_docker::{Container, Snapshot};
use nexus_model::Now;
use nexus_policy::{Ask, ProbeTarget};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::dependencies;

/// For the whole of one probe, from the connection to the status.
pub const DEADLINE: Duration = Duration::from_secs(3);

/// A status line is shorter than this, whatever its reason says; nothing behind it is read.
const MOST_READ: usize = 4 * 1024;

/// Docker's own process takes a connection to a published port before it has one to the container, and closes it when it gets none.
/// One that lasts for this long has come through.
const LASTS: Duration = Duration::from_millis(300);

/// One failure may be a lost packet or a machine that was busy: it counts when the next one fails as well, after this.
const CONFIRMED_AFTER: SignedDuration = SignedDuration::from_secs(2);

/// Between two probes of what is well or can't be reached, while something hangs on it.
const AGAIN: SignedDuration = SignedDuration::from_secs(5);

/// Between two probes of what has not been reached yet, and that nothing hangs on.
const UNREACHED_AGAIN: SignedDuration = SignedDuration::from_mins(5);

/// An answer that came within this is one to an alert that comes now.
const JUST_NOW: SignedDuration = SignedDuration::from_secs(1);

/// What nobody has asked for this long is forgotten: it says nothing about now.
const FRESH: SignedDuration = SignedDuration::from_secs(15);

/// What a probe says of a run of a container, as a fact for decisions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Not known yet: it is being asked.
    Asking,
    Well,
    /// It has failed once, and is asked again.
    Doubtful {
        why: String,
    },
    /// It has failed twice in a row; and whether it has ever been well in this run.
    Failed {
        why: String,
        was_well: bool,
    },
    /// It can't be reached from here: that says nothing about it.
    Unknown {
        why: String,
    },
}

/// What came of one probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    Well,
    Failed(String),
    /// Nobody takes the connection, which is a failure only where it once was taken: it may be open elsewhere alone.
    Refused(String),
    Unknown(String),
}

/// Where a container is reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Way {
    pub to: Place,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Address(SocketAddr),
    /// A port of the host, wherever that is from here.
    Host(u16),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The container itself takes the connection.
    Direct,
    /// Docker passes it on.
    Published,
    /// It lives in the host's network, where a firewall may stand before it.
    HostNetwork,
}

/// The word for the host that means the gateway of the healer's own network: on a bridge of Docker's that is the host, whatever
/// else may have its address elsewhere.
pub const GATEWAY: &str = "gateway";

/// What this process is connected to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Networks {
    /// IPv4 networks that it is in: network and mask.
    own: Vec<(u32, u32)>,
    /// Where all else goes through.
    gateway: Option<Ipv4Addr>,
}

impl Networks {
    /// Of a file as /proc/net/route.
    pub fn parse(text: &str) -> Self {
        let mut networks = Self::default();
        for line in text.lines().skip(1) {
            let words: Vec<&str> = line.split_ascii_whitespace().collect();
            // The kernel prints the bytes of the network as a number of its own.
            let number = |index: usize| u32::from_str_radix(words.get(index)?, 16).ok().map(u32::from_be);
            match (number(1), number(2), number(7)) {
                (Some(0), Some(gateway), Some(0)) if gateway != 0 => networks.gateway = Some(Ipv4Addr::from(gateway)),
                (Some(network), Some(0), Some(mask)) if mask != 0 => networks.own.push((network, mask)),
                _ => (),
            }
        }
        networks
    }

    /// The host as it was given in the configuration, with [`GATEWAY`] filled in.
    pub fn host(&self, given: Option<&str>) -> Option<String> {
        match given {
            Some(GATEWAY) => self.gateway.map(|gateway| gateway.to_string()),
            given => given.map(str::to_owned),
        }
    }

    fn contain(&self, address: Ipv4Addr) -> bool {
        let address = u32::from(address);
        self.own.iter().any(|(network, mask)| address & mask == network & mask)
    }
}

/// Where a container can be reached from here; otherwise why it can't.
pub fn way(port: u16, container: &Container, snapshot: &Snapshot, networks: &Networks) -> Result<Way, String> {
    let owner = match dependencies::network_parent(container) {
        Some(parent) => match snapshot.containers.get(parent) {
            Some(watched) => &*watched.container,
            None => return Err("it lives in the network of a container that is not known".to_owned()),
        },
        None => container,
    };
    if owner.network_mode == "host" {
        return Ok(Way { to: Place::Host(port), kind: Kind::HostNetwork });
    }
    let shared = owner.addresses.iter().find(|address| matches!(address, IpAddr::V4(v4) if networks.contain(*v4)));
    if let Some(address) = shared {
        return Ok(Way { to: Place::Address(SocketAddr::new(*address, port)), kind: Kind::Direct });
    }
    let published = || owner.published.iter().filter(|it| it.port == port);
    if let Some(open) = published().find(|it| it.host.is_unspecified()) {
        return Ok(Way { to: Place::Host(open.host_port), kind: Kind::Published });
    }
    if let Some(open) = published().find(|it| !it.host.is_loopback()) {
        return Ok(Way { to: Place::Address(SocketAddr::new(open.host, open.host_port)), kind: Kind::Published });
    }
    Err(match published().next() {
        Some(open) => {
            format!("its port {port} is published on {} alone, which only the host itself can reach", open.host)
        }
        None => format!("its port {port} is not published on the host, and it is in no network with Nexus"),
    })
}

/// Asks once. `host` is the host's name or address as seen from here.
pub async fn ask(target: &ProbeTarget, way: &Way, host: Option<&str>) -> Answer {
    let port = target.port;
    let within = DEADLINE.as_secs();
    let connecting = tokio::time::timeout(DEADLINE, connect(&way.to, host));
    let began = tokio::time::Instant::now();
    let stream = match connecting.await {
        Ok(Ok(stream)) => stream,
        Ok(Err(Cannot::NoHost(why))) => return Answer::Unknown(why),
        Ok(Err(Cannot::Connect(error))) => return not_connected(way, port, error.kind(), &error.to_string()),
        Err(_) => {
            return not_connected(way, port, io::ErrorKind::TimedOut, &format!("no connection within {within} s"));
        }
    };
    let left = DEADLINE.saturating_sub(began.elapsed());
    let asked = async {
        match &target.ask {
            Ask::Tcp => lasts(stream, way.kind).await,
            Ask::Http { path, .. } => status(stream, path).await.map(Some),
        }
    };
    match (tokio::time::timeout(left, asked).await, &target.ask) {
        (Err(_), _) => Answer::Failed(format!("no answer at port {port} within {within} s")),
        (Ok(Err(why)), _) => Answer::Failed(format!("port {port} {why}")),
        (Ok(Ok(Some(status))), Ask::Http { path, expect }) if !expect.contains(status) => {
            // A query may hold a token.
            let path = path.split('?').next().unwrap_or_default();
            Answer::Failed(format!("port {port} answers {path} with {status}, not {expect}"))
        }
        (Ok(Ok(_)), _) => Answer::Well,
    }
}

enum Cannot {
    NoHost(String),
    Connect(io::Error),
}

async fn connect(to: &Place, host: Option<&str>) -> Result<TcpStream, Cannot> {
    let address = match to {
        Place::Address(address) => *address,
        Place::Host(port) => {
            let Some(host) = host else {
                return Err(Cannot::NoHost(
                    "ports of the host can't be asked: no --probe.host is set, or there is no gateway".to_owned(),
                ));
            };
            let found = tokio::net::lookup_host((host, *port)).await;
            let found = found.map(|mut all| all.next());
            found.ok().flatten().ok_or_else(|| Cannot::NoHost(format!("the host is not known here as {host}")))?
        }
    };
    TcpStream::connect(address).await.map_err(Cannot::Connect)
}

/// What no connection means depends on who would have taken it.
fn not_connected(way: &Way, port: u16, kind: io::ErrorKind, reason: &str) -> Answer {
    use io::ErrorKind::{ConnectionRefused, ConnectionReset, TimedOut};
    match (way.kind, kind) {
        (Kind::Direct, ConnectionRefused | ConnectionReset) => {
            Answer::Failed(format!("port {port} takes no connection: {reason}"))
        }
        // A container's own firewall drops what it does not know.
        (Kind::Direct, TimedOut) => Answer::Refused(format!("port {port} takes no connection from here: {reason}")),
        (Kind::HostNetwork, ConnectionRefused | ConnectionReset) => {
            Answer::Refused(format!("port {port} of the host takes no connection from here: {reason}"))
        }
        // Docker takes it as long as the container runs, so something stands in between.
        _ => Answer::Unknown(format!("port {port} can't be reached from here: {reason}")),
    }
}

/// Whether a connection lasts: one that the container itself has taken does.
async fn lasts(mut stream: TcpStream, kind: Kind) -> Result<Option<u16>, String> {
    if kind != Kind::Published {
        return Ok(None);
    }
    match tokio::time::timeout(LASTS, stream.read(&mut [0; 1])).await {
        Ok(Ok(0) | Err(_)) => Err("takes the connection and closes it at once: nothing listens there".to_owned()),
        // It says something first, or waits for us to.
        Ok(Ok(_)) | Err(_) => Ok(None),
    }
}

/// The status of the answer to a GET. Nothing behind the first line is read.
async fn status(mut stream: TcpStream, path: &str) -> Result<u16, String> {
    let broken = |error: io::Error| format!("breaks the connection off: {error}");
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: localhost\r\nUser-Agent: nexus-healer\r\nAccept: */*\r\nConnection: close\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).await.map_err(broken)?;
    let mut read = Vec::with_capacity(MOST_READ);
    loop {
        if let Some(end) = read.iter().position(|byte| *byte == b'\n') {
            return parse_status(&read[..end]).ok_or_else(|| "answers with something that is no HTTP".to_owned());
        }
        if read.len() >= MOST_READ {
            return Err("answers with something that is no HTTP".to_owned());
        }
        if (&mut stream).take((MOST_READ - read.len()) as u64).read_buf(&mut read).await.map_err(broken)? == 0 {
            return Err("closes the connection without an answer".to_owned());
        }
    }
}

fn parse_status(line: &[u8]) -> Option<u16> {
    let mut words = std::str::from_utf8(line).ok()?.split_ascii_whitespace();
    words.next().filter(|version| version.starts_with("HTTP/1."))?;
    words.next()?.parse().ok().filter(|status| (100..=999).contains(status))
}

/// What is known of the containers that something hangs on, and of those that have yet to be reached, by id.
#[derive(Debug, Default)]
pub struct Probes {
    known: BTreeMap<String, Known>,
    /// Those that have answered well once, in whatever run: what takes no connection any more has failed.
    reached: BTreeSet<String>,
}

#[derive(Debug)]
struct Known {
    run: Option<Timestamp>,
    fact: Probe,
    was_well: bool,
    answered: Option<Now>,
    /// When it was wanted last, and for what.
    wanted: Now,
    purpose: Purpose,
}

/// What a container is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Something hangs on it.
    Trouble,
    /// To know whether it can be reached from here at all, which can't be known any more once it is ill.
    Reach,
}

impl Probes {
    /// Goes on with what an earlier process knew.
    pub fn resume(reached: BTreeSet<String>) -> Self {
        Self { known: BTreeMap::new(), reached }
    }

    /// Those that have answered well once.
    pub fn reached(&self) -> &BTreeSet<String> {
        &self.reached
    }

    /// What is known of a run, for those that something hangs on.
    pub fn fact(&self, id: &str, run: Option<Timestamp>) -> Probe {
        let known = self.known.get(id).filter(|known| known.run == run && known.purpose == Purpose::Trouble);
        known.map_or(Probe::Asking, |known| known.fact.clone())
    }

    /// Those that something hangs on.
    pub fn ids(&self) -> impl Iterator<Item = &String> {
        self.known.iter().filter(|(_, known)| known.purpose == Purpose::Trouble).map(|(id, _)| id)
    }

    /// Wanted for a purpose: how long until it is to be asked.
    pub fn want(&mut self, id: &str, run: Option<Timestamp>, purpose: Purpose, now: &Now) -> SignedDuration {
        let known = self.known.entry(id.to_owned()).or_insert_with(|| Known {
            run,
            fact: Probe::Asking,
            was_well: false,
            answered: None,
            wanted: now.clone(),
            purpose,
        });
        known.wanted = now.clone();
        // What was said before the trouble is no word on it.
        let is_trouble = purpose == Purpose::Trouble && known.purpose != purpose;
        known.purpose = purpose;
        if known.run != run || is_trouble {
            (known.run, known.fact, known.was_well, known.answered) = (run, Probe::Asking, false, None);
        }
        let every = match (known.purpose, &known.fact) {
            (_, Probe::Asking) => SignedDuration::ZERO,
            (Purpose::Reach, _) => UNREACHED_AGAIN,
            (_, Probe::Doubtful { .. } | Probe::Failed { .. }) => CONFIRMED_AFTER,
            (_, Probe::Well | Probe::Unknown { .. }) => AGAIN,
        };
        let passed = known.answered.as_ref().map_or(every, |answered| now.since(answered));
        (every - passed).max(SignedDuration::ZERO)
    }

    /// It is to be asked anew, unless it has answered just now: alerts come in bundles.
    pub fn outdate(&mut self, id: &str, now: &Now) {
        let Some(known) = self.known.get_mut(id) else { return };
        if known.answered.as_ref().is_some_and(|answered| now.since(answered) >= JUST_NOW) {
            (known.fact, known.answered) = (Probe::Asking, None);
        }
    }

    /// What came of a probe of a run. One of a run that is over says nothing.
    pub fn answered(&mut self, id: &str, run: Option<Timestamp>, answer: Answer, now: &Now) {
        let Some(known) = self.known.get_mut(id).filter(|known| known.run == run) else { return };
        let answer = match answer {
            Answer::Refused(why) if self.reached.contains(id) => Answer::Failed(why),
            Answer::Refused(why) => Answer::Unknown(why),
            other => other,
        };
        known.answered = Some(now.clone());
        known.fact = match (answer, &known.fact) {
            (Answer::Well, _) => {
                known.was_well = true;
                self.reached.insert(id.to_owned());
                Probe::Well
            }
            (Answer::Failed(why), Probe::Doubtful { .. } | Probe::Failed { .. }) => {
                Probe::Failed { why, was_well: known.was_well }
            }
            (Answer::Failed(why), _) => Probe::Doubtful { why },
            (Answer::Unknown(why) | Answer::Refused(why), _) => Probe::Unknown { why },
        };
    }

    /// Forgets what nothing hangs on any more, and who has gone.
    pub fn forget(&mut self, wanted: &BTreeSet<String>, exists: impl Fn(&str) -> bool, now: &Now) {
        self.known.retain(|id, known| wanted.contains(id) || now.since(&known.wanted) < FRESH);
        self.reached.retain(|id| exists(id));
    }
}

#[cfg(test)]
mod tests;
