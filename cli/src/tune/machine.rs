//! Swap in memory on this machine: a file and systemd.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail};
use tokio::process::Command;

use super::act::{interruptible, taken_back};
use super::engine::{LONG_PATIENCE, finish};
use super::zram::{Done, Facts, GENERATOR, GENERATOR_FILE, TOOLS, TOOLS_FILE, shown};
use crate::files::{Access, read_text, write_atomically};
use crate::home::TEXT_LIMIT;
use crate::secrets::is_root;

/// The host as it is found below a folder, `/` but in tests.
pub struct Host {
    pub root: PathBuf,
    /// Where programs are looked for first; `None`: where they always are.
    pub programs: Option<PathBuf>,
}

impl Host {
    pub fn real() -> Host {
        Host { root: "/".into(), programs: None }
    }

    pub fn facts(&self) -> Result<Facts> {
        let there = |path: &str| self.root.join(path).exists();
        let text = |path: &str| {
            let file = self.root.join(path);
            if file.is_symlink() {
                bail!("/{path} is a link, which would not be one any more");
            }
            read_text(&file, TEXT_LIMIT)
        };
        let swaps = read_text(&self.root.join("proc/swaps"), TEXT_LIMIT)?.unwrap_or_default();
        Ok(Facts {
            root: is_root(),
            systemd: there("run/systemd/system"),
            generator: there(GENERATOR),
            generator_file: text(GENERATOR_FILE)?,
            tools: there(TOOLS),
            tools_file: text(TOOLS_FILE)?,
            swaps: swaps.lines().skip(1).filter_map(|line| Some(line.split_whitespace().next()?.to_owned())).collect(),
        })
    }

    async fn run(&self, commands: &[Vec<String>]) -> Result<()> {
        for words in commands {
            let Some((program, rest)) = words.split_first() else { continue };
            // A ledger may have been written into: only what zram is started and stopped with.
            if program != "systemctl" {
                bail!("{program} is not to be run for swap");
            }
            let path = self.programs.as_ref().map_or_else(|| PathBuf::from(program), |folder| folder.join(program));
            let mut command = Command::new(path);
            command.args(rest);
            let said = finish(command, None, LONG_PATIENCE).await?;
            if !said.ok {
                bail!("{} failed: {}", words.join(" "), said.last());
            }
        }
        Ok(())
    }

    fn file(&self, done: &Done) -> Result<PathBuf> {
        if ![GENERATOR_FILE, TOOLS_FILE].iter().any(|known| done.file == Path::new(known)) {
            bail!("{} is no file of swap", done.file.display());
        }
        Ok(self.root.join(&done.file))
    }

    fn put(&self, done: &Done, text: Option<&str>) -> Result<()> {
        let file = self.file(done)?;
        match text {
            Some(text) => {
                // It stays as readable as it was.
                let found = std::fs::metadata(&file).ok();
                let mode = found.as_ref().map_or(0o644, |it| it.mode() & 0o7777);
                let owner = found.filter(|_| is_root()).map(|it| (it.uid(), it.gid()));
                write_atomically(&file, text.as_bytes(), Access { mode, owner })
            }
            None if file.exists() => Ok(std::fs::remove_file(&file)?),
            None => Ok(()),
        }
    }

    pub async fn apply(&self, done: &Done) -> Result<()> {
        let work = async {
            self.put(done, Some(&done.after))?;
            self.run(&done.start).await?;
            let swaps = self.facts()?.swaps;
            if !swaps.iter().any(|name| name.starts_with("/dev/zram")) {
                bail!("{} ran, and there is no swap in memory: has the kernel zram?", shown(&done.start));
            }
            Ok(())
        };
        match interruptible(work).await {
            Ok(()) => Ok(()),
            Err(error) => {
                let back = async {
                    // It may never have been started.
                    let _ = self.run(&done.stop).await;
                    self.put(done, done.before.as_deref())?;
                    self.run(&done.settle).await
                };
                Err(taken_back(error, back).await)
            }
        }
    }

    pub async fn undo(&self, done: &Done) -> Result<Option<String>> {
        if !is_root() {
            bail!("that needs root: sudo ./nexus tune undo does it");
        }
        let now = read_text(&self.file(done)?, TEXT_LIMIT)?;
        if now != done.before && now.as_deref() != Some(done.after.as_str()) {
            bail!("/{} was changed since by somebody else: it stays as it is", done.file.display());
        }
        self.run(&done.stop).await?;
        self.put(done, done.before.as_deref())?;
        self.run(&done.settle).await?;
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::zram;
    use super::*;

    /// A machine with the generator, whose systemctl does to /proc/swaps what the real one has done to it.
    fn host(folder: &Path, kernel_has_zram: bool) -> Host {
        for made in ["run/systemd/system", "etc/systemd", "proc", "bin", "usr/lib/systemd/system-generators"] {
            std::fs::create_dir_all(folder.join(made)).unwrap();
        }
        std::fs::write(folder.join(GENERATOR), "").unwrap();
        let swaps = folder.join("proc/swaps");
        std::fs::write(&swaps, "Filename Type Size Used Priority\n").unwrap();
        let script = format!(
            "#!/bin/sh\necho \"$*\" >>{log}\ncase $1 in start) {has} echo '/dev/zram0 partition 1 0 100' >>{swaps} ;; stop) sed -i /zram/d {swaps} ;; esac\n",
            log = folder.join("log").display(),
            has = if kernel_has_zram { "" } else { "false &&" },
            swaps = swaps.display()
        );
        let program = folder.join("bin/systemctl");
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
        Host { root: folder.to_owned(), programs: Some(folder.join("bin")) }
    }

    fn planned(host: &Host) -> Done {
        zram::plan(&Facts { root: true, ..host.facts().unwrap() }).unwrap().done
    }

    #[tokio::test]
    async fn swap_comes_and_goes_and_the_file_is_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path(), true);
        let file = folder.path().join(GENERATOR_FILE);
        std::fs::write(&file, "# mine").unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
        let done = planned(&host);
        host.apply(&done).await.unwrap();
        assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), done.after);
        assert!(zram::plan(&host.facts().unwrap()).unwrap_err().contains("already"));
        if is_root() {
            host.undo(&done).await.unwrap();
            assert_eq!(std::fs::read_to_string(&file).unwrap(), "# mine");
            assert_eq!(host.facts().unwrap().swaps, [""; 0]);
            std::fs::write(&file, "[zram0]\nzram-size = 64\n").unwrap();
            assert!(host.undo(&done).await.unwrap_err().to_string().contains("changed since"));
        } else {
            assert!(host.undo(&done).await.unwrap_err().to_string().contains("needs root"));
        }
    }

    #[test]
    fn a_link_stays_a_link() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path(), true);
        std::os::unix::fs::symlink("/dev/null", folder.path().join(GENERATOR_FILE)).unwrap();
        assert!(host.facts().unwrap_err().to_string().contains("is a link"));
    }

    #[tokio::test]
    async fn what_has_no_effect_is_taken_back() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path(), false);
        let error = host.apply(&planned(&host)).await.unwrap_err();
        assert!(format!("{error:#}").contains("taken back"), "{error:#}");
        assert!(!folder.path().join(GENERATOR_FILE).exists());
        let log = std::fs::read_to_string(folder.path().join("log")).unwrap();
        assert!(log.ends_with("stop systemd-zram-setup@zram0.service\ndaemon-reload\n"), "{log}");
    }

    #[tokio::test]
    async fn a_record_that_somebody_wrote_into_runs_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let host = host(folder.path(), true);
        let mut done = planned(&host);
        done.start = vec![vec!["rm".into(), "-rf".into(), "x".into()]];
        assert!(host.run(&done.start).await.is_err());
        done.file = "etc/passwd".into();
        assert!(host.put(&done, None).is_err());
    }
}
