//! The real program on a fixture tree.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use super::{SOON, fixture, wait_for};

/// A socket that nobody has.
pub const NO_DOCKER: &str = "/nonexistent/docker.sock";

pub fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_nexus-exporter"));
    command.env_remove("NEXUS_STACK").env_remove("NEXUS_LOG");
    command
}

/// A running exporter of a fixture tree.
pub struct Program {
    pub child: Child,
    /// The first of them.
    pub address: SocketAddr,
    pub log: Arc<Mutex<Vec<String>>>,
}

impl Program {
    pub fn start(tree: &str, socket: &Path) -> Program {
        Program::start_with(&fixture(tree), socket, &[])
    }

    /// With so many open files and no more.
    pub fn start_with_files(files: u64, tree: &str, socket: &Path) -> Program {
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(format!("ulimit -n {files} && exec \"$0\" \"$@\"")).arg(command().get_program());
        Program::start_as(shell, &fixture(tree), socket, &[])
    }

    pub fn start_with(tree: &Path, socket: &Path, flags: &[&str]) -> Program {
        Program::start_as(command(), tree, socket, flags)
    }

    fn start_as(mut command: Command, tree: &Path, socket: &Path, flags: &[&str]) -> Program {
        let mut child = command
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("--path.rootfs={}", tree.join("root").display()))
            .arg(format!("--path.procfs={}", tree.join("proc").display()))
            .arg(format!("--path.sysfs={}", tree.join("sys").display()))
            .arg(format!("--docker.socket={}", socket.display()))
            .args(flags)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let log: Arc<Mutex<Vec<String>>> = Arc::default();
        let (lines, stderr) = (Arc::clone(&log), child.stderr.take().unwrap());
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                lines.lock().unwrap().push(line);
            }
        });
        let count = 1 + flags.iter().filter(|flag| flag.starts_with("--web.listen-address")).count();
        let address = wait_for("the addresses in the log", || {
            let addresses = addresses(&log.lock().unwrap());
            (addresses.len() == count).then(|| addresses[0])
        });
        Program { child, address, log }
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        addresses(&self.log.lock().unwrap())
    }

    pub fn raw(&self, request: &[u8]) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(SOON)).unwrap();
        stream.write_all(request).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8(answer).unwrap()
    }

    pub fn get(&self, target: &str, headers: &str) -> String {
        self.raw(format!("GET {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{headers}\r\n").as_bytes())
    }

    pub fn has_within_time(&self, line: &str) {
        wait_for(line, || self.get("/metrics", "").lines().any(|found| found == line).then_some(()));
    }

    pub fn logged(&self, words: &str) -> usize {
        self.log.lock().unwrap().iter().filter(|line| line.contains(words)).count()
    }

    pub fn pid(&self) -> rustix::process::Pid {
        rustix::process::Pid::from_child(&self.child)
    }

    /// The ports of the clients that it still holds a connection with: the rows of /proc/net/tcp with its own port and with
    /// an inode, which a socket no longer has when it is closed.
    pub fn connections(&self) -> Vec<u16> {
        let port = |address: &str| u16::from_str_radix(address.split_once(':').unwrap().1, 16).unwrap();
        let table = std::fs::read_to_string("/proc/net/tcp").unwrap();
        let rows = table.lines().skip(1).map(|row| row.split_ascii_whitespace().collect::<Vec<&str>>());
        rows.filter(|row| port(row[1]) == self.address.port() && port(row[2]) != 0 && row[9] != "0")
            .map(|row| port(row[2]))
            .collect()
    }

    pub fn count(&self, folder: &str) -> usize {
        std::fs::read_dir(format!("/proc/{}/{folder}", self.child.id())).unwrap().count()
    }
}

fn addresses(log: &[String]) -> Vec<SocketAddr> {
    log.iter().filter_map(|line| line.split_once("address=")?.1.trim().parse().ok()).collect()
}

impl Drop for Program {
    fn drop(&mut self) {
        _ = self.child.kill();
        _ = self.child.wait();
    }
}
