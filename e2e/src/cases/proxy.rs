//! The guard of Docker's socket: images/haproxy/cases.tsv, row by row, on the real sockets, and every other call of Docker's API.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use crate::command::docker;
use crate::project::{Project, Service};
use crate::stack::Stack;
use crate::wait::seconds;

pub async fn each_socket_lets_through_what_is_listed_and_nothing_else(stack: &Stack) -> Result<()> {
    let project = Project::up(stack, "guarded", &[Service::new("web")]).await?;
    let id = project.container("web").await?.id;
    let table = stack.root().join("images/haproxy/cases.tsv");
    let table = std::fs::read_to_string(&table).with_context(|| format!("cannot read {}", table.display()))?;
    let mut wrong = Vec::new();
    let mut passed = 0;
    for row in table.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [socket, method, target, status] = columns.as_slice() else {
            bail!("cases.tsv: this row has not four columns: {row}");
        };
        let found = ask(&socket_of(stack, socket).await?, method, &target.replace("{id}", &id)).await?;
        if found.to_string() == *status {
            passed += 1;
        } else {
            wrong.push(format!("{row}: answered {found}"));
        }
    }
    ensure!(wrong.is_empty(), "{} of {} rows:\n{}", wrong.len(), wrong.len() + passed, wrong.join("\n"));
    ensure!(passed > 80, "only {passed} rows");
    let whole = stack.root().join("images/haproxy/docker-api.tsv");
    let whole = std::fs::read_to_string(&whole).with_context(|| format!("cannot read {}", whole.display()))?;
    all_else_is_refused(stack, &table, &whole, &id).await?;

    // Neither program has a way around it.
    for service in ["exporter", "healer"] {
        let container = stack.container(service).await?.id;
        let sockets = docker([
            "exec", &container, "sh", "-c",
            "for s in /var/run/docker.sock /run/docker.sock /host/run/docker.sock /host/var/run/docker.sock; do [ ! -e $s ] || echo $s; done",
        ])
        .await?;
        ensure!(sockets.trim().is_empty(), "{service} sees {sockets}");
    }
    // Nor does the exporter, which sees the whole file system as uid 0, get at the secrets of a stack that root owns.
    let folder = stack.folder().display();
    let look =
        format!("test -e /host{folder}/.env && echo sees; cat /host{folder}/secrets/cli/healer_api_token 2>&1 || :");
    let seen = docker(["exec", &stack.container("exporter").await?.id, "sh", "-c", &look]).await?;
    ensure!(seen.starts_with("sees\n") && seen.contains("Permission denied"), "the exporter got: {seen}");
    project.down().await
}

/// What `cases.tsv` lets through, by socket, method and path. HEAD is GET without a body.
fn let_through(cases: &str) -> BTreeSet<(String, String, String)> {
    let mut found = BTreeSet::new();
    for row in cases.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [socket, method, target, status] = columns.as_slice() else { continue };
        let path = target.split('?').next().unwrap_or_default();
        let path = path.strip_prefix("/v1.").and_then(|rest| Some(&rest[rest.find('/')?..])).unwrap_or(path);
        if *status != "403" {
            let mut add = |method: &str| found.insert(((*socket).to_owned(), method.to_owned(), path.to_owned()));
            add(method);
            if *method == "GET" {
                add("HEAD");
            }
        }
    }
    found
}

/// Each path of Docker's API with each method, but for what is let through.
async fn all_else_is_refused(stack: &Stack, cases: &str, whole: &str, id: &str) -> Result<()> {
    let passes = let_through(cases);
    let mut paths = BTreeSet::new();
    for row in whole.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (method, path) = row.split_once('\t').with_context(|| format!("docker-api.tsv: no two columns: {row}"))?;
        ensure!(METHODS.contains(&method), "docker-api.tsv: there is no method {method}");
        paths.insert(path);
    }
    ensure!(paths.len() > 90, "only {} paths", paths.len());
    for (_, _, path) in &passes {
        let known = paths.contains(path.as_str()) || path.contains("nosuchcontainer");
        ensure!(known, "docker-api.tsv lacks {path}, which cases.tsv lets through");
    }
    let mut wrong = Vec::new();
    for socket in ["read", "heal"] {
        let at = socket_of(stack, socket).await?;
        for path in &paths {
            for method in METHODS {
                if passes.contains(&(socket.to_owned(), method.to_owned(), (*path).to_owned())) {
                    continue;
                }
                for version in ["", "/v1.41", "/v1.51"] {
                    let target = format!("{version}{}", path.replace("{id}", id));
                    let found = ask(&at, method, &target).await?;
                    if found != 403 {
                        wrong.push(format!("{socket}\t{method}\t{target}: answered {found}"));
                    }
                }
            }
        }
    }
    ensure!(wrong.is_empty(), "{} calls got past the proxy:\n{}", wrong.len(), wrong.join("\n"));
    Ok(())
}

const METHODS: [&str; 7] = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];

/// Where the host finds the socket: in the volume that holds it.
async fn socket_of(stack: &Stack, socket: &str) -> Result<PathBuf> {
    let volume = format!("{}_docker-{socket}", stack.name);
    let mountpoint = docker(["volume", "inspect", "--format", "{{.Mountpoint}}", &volume]).await?;
    Ok(PathBuf::from(mountpoint.trim()).join("docker.sock"))
}

/// One raw request, since no HTTP client would send some of these; the status.
async fn ask(socket: &std::path::Path, method: &str, target: &str) -> Result<u16> {
    let asked = async {
        let mut stream =
            UnixStream::connect(socket).await.with_context(|| format!("cannot connect to {}", socket.display()))?;
        stream
            .write_all(format!("{method} {target} HTTP/1.1\r\nHost: docker\r\nConnection: close\r\n\r\n").as_bytes())
            .await?;
        let mut answer = Vec::new();
        let mut chunk = [0; 1024];
        while !answer.windows(2).any(|pair| pair == b"\r\n") {
            match stream.read(&mut chunk).await? {
                0 => break,
                length => answer.extend_from_slice(&chunk[..length]),
            }
        }
        let line = String::from_utf8_lossy(&answer).lines().next().unwrap_or_default().to_owned();
        line.split(' ').nth(1).and_then(|code| code.parse().ok()).with_context(|| format!("no status in {line:?}"))
    };
    tokio::time::timeout(seconds(30), asked).await.with_context(|| format!("{method} {target} hangs"))?
}
