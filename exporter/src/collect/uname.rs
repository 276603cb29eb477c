//! `uname`: kernel and host name as labels.

use std::path::Path;

use super::{Access, CollectError};
use crate::exposition::Exposition;
use crate::family::{Family, Kind};

#[derive(Clone, Debug, PartialEq)]
pub struct Uname {
    pub sysname: String,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub nodename: String,
    pub domainname: String,
}

pub type Found = Uname;
pub type Kept = ();

pub fn read(access: &mut Access<'_>, (): &mut Kept) -> Result<Found, CollectError> {
    let Access { roots, reader, .. } = access;
    let mut kernel =
        |name: &str| Ok(reader.require(&roots.proc("sys/kernel").join(name))?.trim_end_matches('\n').to_owned());
    let (sysname, release, version) = (kernel("ostype")?, kernel("osrelease")?, kernel("version")?);
    let (own_name, domainname) = (kernel("hostname")?, kernel("domainname")?);
    // Kernels before 6.1 have no such file.
    let machine = kernel("arch").unwrap_or_else(|_| rustix::system::uname().machine().to_string_lossy().into_owned());
    // In a container the kernel answers with the container's name, whichever /proc is asked: the host's is in its files.
    let host_name = (roots.rootfs != Path::new("/"))
        .then(|| {
            reader
                .text(&roots.rootfs.join("etc/hostname"))
                .ok()?
                .lines()
                .map(str::trim)
                .find(is_name)
                .map(str::to_owned)
        })
        .flatten();
    Ok(Uname { sysname, release, version, machine, nodename: host_name.unwrap_or(own_name), domainname })
}

/// hostname(5): lines beginning with `#` are comments.
fn is_name(line: &&str) -> bool {
    !line.is_empty() && !line.starts_with('#')
}

const INFO: Family = Family {
    name: "node_uname_info",
    kind: Kind::Gauge,
    help: "Labeled system information as provided by the uname system call.",
    labels: &["domainname", "machine", "nodename", "release", "sysname", "version"],
    source: "/proc/sys/kernel; nodename from ROOTFS/etc/hostname where --path.rootfs is set",
};
pub const ABSENCE: Option<&str> = None;
pub const FAMILIES: &[Family] = &[INFO];

pub fn write(uname: &Uname, out: &mut Exposition) {
    out.family(&INFO).sample(
        &[
            ("domainname", &uname.domainname),
            ("machine", &uname.machine),
            ("nodename", &uname.nodename),
            ("release", &uname.release),
            ("sysname", &uname.sysname),
            ("version", &uname.version),
        ],
        1u64,
    );
}
