//! How the owner, who reads a command here, may call `docker`: as they are, or only with sudo.

use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use crate::secrets::{invoking_user, is_root};

const SOCKET: &str = "/var/run/docker.sock";
/// Of what the mode of a socket grants: to write is to connect.
const OWNER_WRITES: u32 = 0o200;
const GROUP_WRITES: u32 = 0o020;
const OTHERS_WRITE: u32 = 0o002;

/// `docker`, or `sudo docker`: what a command for the owner begins with.
pub fn word() -> &'static str {
    if wants_sudo() { "sudo docker" } else { "docker" }
}

/// Whether the owner may ask Docker with sudo only. What can't be told is taken for no: a `docker` that is refused says so itself.
pub fn wants_sudo() -> bool {
    static KNOWN: OnceLock<bool> = OnceLock::new();
    *KNOWN.get_or_init(|| {
        let Some(socket) = socket_here() else { return false };
        let user = invoking_user();
        if !is_root() {
            // Who was taken into the group since they logged in is not in it yet, whatever /etc/group says.
            return UnixStream::connect(socket).is_err_and(|error| error.kind() == ErrorKind::PermissionDenied);
        }
        let Ok(found) = fs::metadata(socket) else { return false };
        let groups = fs::read_to_string("/etc/group").unwrap_or_default();
        let name = std::env::var("SUDO_USER").unwrap_or_default();
        !may_connect((found.uid(), found.gid(), found.mode()), user, is_member(&groups, found.gid(), &name))
    })
}

/// Docker's socket on this machine.
pub fn socket_here() -> Option<PathBuf> {
    socket(std::env::var("DOCKER_HOST").ok().as_deref())
}

/// `None` where Docker is asked another way than by a socket of this machine.
fn socket(docker_host: Option<&str>) -> Option<PathBuf> {
    match docker_host.filter(|host| !host.is_empty()) {
        None => Some(SOCKET.into()),
        Some(host) => host.strip_prefix("unix://").map(|path| Path::new(path).to_owned()),
    }
}

/// Owner, group and mode of the socket; user and group of who asks, and whether they are in the socket's group besides.
fn may_connect((uid, gid, mode): (u32, u32, u32), (user, group): (u32, u32), is_member: bool) -> bool {
    user == 0
        || mode & OTHERS_WRITE != 0
        || (user == uid && mode & OWNER_WRITES != 0)
        || ((group == gid || is_member) && mode & GROUP_WRITES != 0)
}

/// By the lines of /etc/group, `NAME:x:GID:USER,USER`.
fn is_member(groups: &str, gid: u32, user: &str) -> bool {
    let lists_it = |line: &str| {
        let mut fields = line.split(':').skip(2);
        fields.next().and_then(|number| number.parse().ok()) == Some(gid)
            && fields.next().is_some_and(|users| users.split(',').any(|name| name == user))
    };
    !user.is_empty() && groups.lines().any(lists_it)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_ask_docker_is_told_by_its_socket() {
        let docker = (0, 990, 0o140_660);
        let check = |socket, user, is_member, expected: bool| {
            assert_eq!(may_connect(socket, user, is_member), expected, "{socket:?} {user:?} {is_member}");
        };
        check(docker, (0, 0), false, true);
        check(docker, (1000, 1000), false, false);
        check(docker, (1000, 1000), true, true);
        check(docker, (1000, 990), false, true);
        check((0, 990, 0o140_600), (1000, 1000), true, false);
        check((1000, 1000, 0o140_600), (1000, 1000), false, true);
        check((0, 0, 0o140_666), (1000, 1000), false, true);
    }

    #[test]
    fn members_of_a_group_are_read() {
        let groups = "root:x:0:\ndocker:x:990:pi,anna\npi:x:1000:\nbroken\n";
        assert!(is_member(groups, 990, "pi") && is_member(groups, 990, "anna"));
        assert!(!is_member(groups, 990, "an") && !is_member(groups, 1000, "pi") && !is_member(groups, 0, ""));
    }

    #[test]
    fn another_docker_is_not_judged() {
        assert_eq!(socket(None), Some(PathBuf::from(SOCKET)));
        assert_eq!(socket(Some("")), Some(PathBuf::from(SOCKET)));
        assert_eq!(
            socket(Some("unix:///run/user/1000/docker.sock")),
            Some(PathBuf::from("/run/user/1000/docker.sock"))
        );
        assert_eq!(socket(Some("ssh://pi@other")), None);
    }
}
