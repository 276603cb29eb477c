//! Swap in memory on the host, by the program for it that is installed: systemd's zram-generator (Debian 13, Raspberry Pi OS) or
//! zram-tools. Pure: what is on the machine in, a file and commands out.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

pub const GENERATOR: &str = "usr/lib/systemd/system-generators/zram-generator";
pub const GENERATOR_FILE: &str = "etc/systemd/zram-generator.conf";
pub const TOOLS: &str = "usr/sbin/zramswap";
pub const TOOLS_FILE: &str = "etc/default/zramswap";
const SECTION: &str = "[zram0]";
/// Half of the memory, as its makers advise.
const SIZE: &str = "zram-size = ram / 2";
const PERCENT: &str = "PERCENT=50";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    pub root: bool,
    pub systemd: bool,
    pub generator: bool,
    pub generator_file: Option<String>,
    pub tools: bool,
    pub tools_file: Option<String>,
    /// The names in /proc/swaps.
    pub swaps: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    /// Below the root of the file system.
    pub file: PathBuf,
    pub before: Option<String>,
    pub after: String,
    pub start: Vec<Vec<String>>,
    /// Before the file is as it was again, and after.
    pub stop: Vec<Vec<String>>,
    pub settle: Vec<Vec<String>>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    pub done: Done,
    pub notes: Vec<String>,
}

fn command(words: &str) -> Vec<String> {
    words.split(' ').map(str::to_owned).collect()
}

pub fn plan(facts: &Facts) -> Result<Plan, String> {
    if facts.swaps.iter().any(|name| name.starts_with("/dev/zram")) {
        return Err("there is swap in memory already".into());
    }
    if !facts.systemd {
        return Err("this machine does not run systemd".into());
    }
    let done = if facts.generator {
        generator(facts.generator_file.as_deref())?
    } else if facts.tools {
        tools(facts.tools_file.as_deref())
    } else {
        return Err("neither systemd-zram-generator nor zram-tools is installed".into());
    };
    if !facts.root {
        return Err("that needs root: sudo ./nexus tune apply does it".into());
    }
    let mut notes = vec![format!("runs {}", shown(&done.start))];
    if let Some(other) = facts.swaps.first() {
        notes.push(format!("{other} stays as it is and is used when the memory for this is full"));
    }
    Ok(Plan { done, notes })
}

pub fn shown(commands: &[Vec<String>]) -> String {
    commands.iter().map(|words| words.join(" ")).collect::<Vec<_>>().join(", ")
}

fn generator(before: Option<&str>) -> Result<Done, String> {
    let text = before.unwrap_or_default();
    if text.lines().any(|line| line.trim() == SECTION) {
        return Err(format!(
            "/{GENERATOR_FILE} sets {SECTION} up already: systemctl status systemd-zram-setup@zram0 tells why it is not there"
        ));
    }
    Ok(Done {
        file: GENERATOR_FILE.into(),
        before: before.map(str::to_owned),
        after: format!("{}{SECTION}\n{SIZE}\n", whole_lines(text)),
        start: vec![command("systemctl daemon-reload"), command("systemctl start systemd-zram-setup@zram0.service")],
        stop: vec![command("systemctl stop systemd-zram-setup@zram0.service")],
        settle: vec![command("systemctl daemon-reload")],
    })
}

fn tools(before: Option<&str>) -> Done {
    let text = before.unwrap_or_default();
    // It is read as shell: of several lines the last one counts, so the owner's own goes.
    let kept: String =
        whole_lines(text).split_inclusive('\n').filter(|line| !line.trim_start().starts_with("PERCENT=")).collect();
    Done {
        file: TOOLS_FILE.into(),
        before: before.map(str::to_owned),
        after: format!("{kept}{PERCENT}\n"),
        // No zram is in use, so the service is off.
        start: vec![command("systemctl enable --now zramswap.service")],
        stop: vec![command("systemctl disable --now zramswap.service")],
        settle: Vec::new(),
    }
}

fn whole_lines(text: &str) -> String {
    if text.is_empty() || text.ends_with('\n') { text.to_owned() } else { format!("{text}\n") }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Root on a Pi with the generator and no swap.
    fn permitted() -> Facts {
        Facts { root: true, systemd: true, generator: true, ..Facts::default() }
    }

    #[test]
    fn the_program_that_is_there_is_used() {
        let done = plan(&permitted()).unwrap().done;
        assert_eq!(
            (done.file.to_str().unwrap(), done.after.as_str()),
            (GENERATOR_FILE, "[zram0]\nzram-size = ram / 2\n")
        );
        assert_eq!(done.start[1], ["systemctl", "start", "systemd-zram-setup@zram0.service"]);
        let file = Some("# mine\n[zram1]\nzram-size = 64".to_owned());
        let done = plan(&Facts { generator_file: file.clone(), ..permitted() }).unwrap().done;
        assert_eq!(done.after, "# mine\n[zram1]\nzram-size = 64\n[zram0]\nzram-size = ram / 2\n");
        assert_eq!(done.before, file);
        let file = Some("ALGO=lz4\n#PERCENT=10\nPERCENT=20\n".to_owned());
        let done = plan(&Facts { generator: false, tools: true, tools_file: file, ..permitted() }).unwrap().done;
        assert_eq!(
            (done.file.to_str().unwrap(), done.after.as_str()),
            (TOOLS_FILE, "ALGO=lz4\n#PERCENT=10\nPERCENT=50\n")
        );
    }

    #[test]
    fn what_speaks_against_it_is_said() {
        let check = |facts: Facts, reason: &str| {
            let refused = plan(&facts).unwrap_err();
            assert!(refused.contains(reason), "{refused}");
        };
        check(Facts { root: false, ..permitted() }, "needs root");
        check(Facts { systemd: false, ..permitted() }, "systemd");
        check(Facts { generator: false, ..permitted() }, "neither systemd-zram-generator nor zram-tools");
        check(Facts { swaps: vec!["/dev/zram0".into()], ..permitted() }, "already");
        check(Facts { generator_file: Some(" [zram0] \n".into()), ..permitted() }, "sets [zram0] up already");
        let other = plan(&Facts { swaps: vec!["/var/swap".into()], ..permitted() }).unwrap();
        assert!(other.notes[1].starts_with("/var/swap stays"), "{:?}", other.notes);
    }
}
