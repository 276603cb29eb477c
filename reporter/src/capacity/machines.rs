//! Machines to compare with, and how fast they are. Pure.
//!
//! Speeds are of one processor with all of them busy, against a Raspberry Pi 4's at 1.8 GHz. They are from 7-Zip's benchmark, which
//! like most services works with integers and memory, as collected by sbc-bench (github.com/ThomasKaiser/sbc-bench, Results.md
//! and issue 65): Pi 4 B 5790 MIPS on four processors, Pi 3 B+ 3670, N100 14010. For the Pi 5 it has none by the same release of
//! 7-Zip that could be cited; its processor's relatives of the same design and clock there make 1.8 of a Pi 4 on one
//! processor, and sysbench on four (leoncode.co.uk/articles/raspberry-pi-benchmarks) 10945 against 5901 events a second.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::report::format::count;

/// Of the memory on the label, the kernel gets so much: the rest is the firmware's, the graphics' and its own.
pub const OF_LABEL: f64 = 0.95;

/// Bytes that a file system has for a GB on the disk's label, which counts in powers of 1000; a twentieth it keeps to itself.
pub const DISK_OF_LABEL: f64 = 1e9 * 0.95;

pub const GIB: f64 = 1024.0 * 1024.0 * 1024.0;

/// What is asked of a machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Machine {
    /// As `--machine` takes it; `custom` for one described by its parts.
    pub name: String,
    pub title: String,
    pub cores: f64,
    /// Of one processor; 1 is a Raspberry Pi 4's.
    pub speed: f64,
    /// What the kernel gets of it.
    pub memory_bytes: f64,
    /// `None` where any disk can be put in.
    pub disk_bytes: Option<f64>,
}

struct Board {
    name: &'static str,
    title: &'static str,
    /// What the firmware or the processor calls itself begins with or holds one of these.
    models: &'static [&'static str],
    speed: f64,
    /// GiB, for each size that is sold.
    memory: &'static [u32],
}

/// The smallest first.
const BOARDS: [Board; 4] = [
    Board {
        name: "pi3b-plus",
        title: "Raspberry Pi 3 B+",
        models: &["Raspberry Pi 3 Model B Plus"],
        speed: 0.63,
        memory: &[1],
    },
    Board {
        name: "pi4",
        title: "Raspberry Pi 4",
        models: &["Raspberry Pi 4", "Raspberry Pi 400", "Raspberry Pi Compute Module 4"],
        speed: 1.0,
        memory: &[1, 2, 4, 8],
    },
    Board {
        name: "pi5",
        title: "Raspberry Pi 5",
        models: &["Raspberry Pi 5", "Raspberry Pi 500", "Raspberry Pi Compute Module 5"],
        speed: 1.85,
        memory: &[2, 4, 8, 16],
    },
    Board { name: "n100", title: "mini PC with an Intel N100", models: &["N100"], speed: 2.42, memory: &[8, 16] },
];

impl Machine {
    /// One that is described by its parts; memory and disk in GB as on their labels.
    pub fn custom(cores: f64, speed: f64, memory_gb: f64, disk_gb: Option<f64>) -> Machine {
        let disk = disk_gb.map_or_else(String::new, |gb| format!(", {gb} GB disk"));
        Machine {
            name: "custom".to_owned(),
            title: format!("{} of speed {speed}, {memory_gb} GB{disk}", count(cores, "processor")),
            cores,
            speed,
            memory_bytes: memory_gb * GIB * OF_LABEL,
            disk_bytes: disk_gb.map(|gb| gb * DISK_OF_LABEL),
        }
    }
}

/// All machines that have a name, the smallest first.
pub fn known() -> Vec<Machine> {
    let machine = |board: &Board, gib: u32| Machine {
        // A board that comes in one size has no need to say it.
        name: if board.memory.len() > 1 { format!("{}-{gib}gb", board.name) } else { board.name.to_owned() },
        title: format!("{}, {gib} GB", board.title),
        cores: 4.0,
        speed: board.speed,
        memory_bytes: f64::from(gib) * GIB * OF_LABEL,
        disk_bytes: None,
    };
    BOARDS.iter().flat_map(|board| board.memory.iter().map(move |gib| machine(board, *gib))).collect()
}

/// A machine by its name. Fails with the names that exist.
pub fn find(name: &str) -> Result<Machine, String> {
    let known = known();
    let names: Vec<String> = known.iter().map(|machine| machine.name.clone()).collect();
    let found = known.into_iter().find(|machine| machine.name.eq_ignore_ascii_case(name));
    found.ok_or_else(|| format!("there is no machine {name:?}: choose one of {}", names.join(", ")))
}

/// The speed of a machine by what it calls itself: `Raspberry Pi 4 Model B Rev 1.4`, `Intel(R) N100`.
pub fn speed_of_model(model: &str) -> Option<f64> {
    let board = BOARDS.iter().find(|board| board.models.iter().any(|name| is_model(model, name)));
    board.map(|board| board.speed)
}

/// The whole word: an N1000 is no N100, and a Raspberry Pi 500 no 5.
fn is_model(model: &str, name: &str) -> bool {
    model.match_indices(name).any(|(at, found)| {
        let whole = |c: Option<char>| c.is_none_or(|c| !c.is_alphanumeric());
        whole(model[..at].chars().next_back()) && whole(model[at + found.len()..].chars().next())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn machines_are_found_by_name_and_by_what_they_call_themselves() {
        let pi5 = find("PI5-8gb").unwrap();
        assert_eq!((pi5.name.as_str(), pi5.title.as_str(), pi5.speed), ("pi5-8gb", "Raspberry Pi 5, 8 GB", 1.85));
        assert_eq!(
            find("pi6\u{1b}").unwrap_err(),
            "there is no machine \"pi6\\u{1b}\": choose one of pi3b-plus, pi4-1gb, pi4-2gb, pi4-4gb, pi4-8gb, pi5-2gb, \
             pi5-4gb, pi5-8gb, pi5-16gb, n100-8gb, n100-16gb"
        );
        let check = |model: &str, speed: Option<f64>| assert_eq!(speed_of_model(model), speed, "{model}");
        check("Raspberry Pi 4 Model B Rev 1.4", Some(1.0));
        check("Raspberry Pi 400 Rev 1.0", Some(1.0));
        check("Raspberry Pi 5 Model B Rev 1.0", Some(1.85));
        check("Raspberry Pi 500 Rev 1.0", Some(1.85));
        check("Raspberry Pi 3 Model B Plus Rev 1.3", Some(0.63));
        check("Raspberry Pi 3 Model B Rev 1.2", None);
        check("Intel(R) N100", Some(2.42));
        check("Intel(R) N1000", None);
        check("", None);
    }
}
