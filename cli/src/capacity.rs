//! `nexus capacity`: when this machine runs out of something, and what another would carry, asked of the reporter.

use anyhow::Result;
use clap::Args;
use nexus_reporter::capacity::machines::{self, Machine};
use nexus_reporter::capacity::{Capacity, render};

use crate::baseline::{Format, host, told};
use crate::home::Home;
use crate::http::Part;

#[derive(Debug, Args)]
pub struct Options {
    /// Another machine of the history than this one
    #[arg(long, value_name = "NAME")]
    pub host: Option<String>,
    /// Compare with this machine alone, such as pi5-8gb
    #[arg(long, value_name = "NAME", value_parser = machines::find, conflicts_with_all = ["cores", "memory", "disk", "speed"])]
    pub machine: Option<Machine>,
    /// Compare with a machine of so many processors
    #[arg(long, value_name = "NUMBER", requires = "memory", value_parser = number::<1024>)]
    pub cores: Option<f64>,
    /// Its memory in GB
    #[arg(long, value_name = "GB", requires = "cores", value_parser = number::<4096>)]
    pub memory: Option<f64>,
    /// Its disk in GB
    #[arg(long, value_name = "GB", requires = "cores", value_parser = number::<1_000_000>)]
    pub disk: Option<f64>,
    /// How fast one of its processors is; 1 is a Raspberry Pi 4's, 1.85 a Pi 5's
    #[arg(long, value_name = "FACTOR", requires = "cores", value_parser = number::<100>)]
    pub speed: Option<f64>,
    #[command(flatten)]
    pub format: Format,
}

/// A number above zero and up to `MOST`; `8G` and `8GB` are 8 as well.
fn number<const MOST: u32>(text: &str) -> Result<f64, String> {
    let bare = text.trim_end_matches(['B', 'b']).trim_end_matches(['G', 'g']);
    match bare.parse::<f64>() {
        Ok(number) if number > 0.0 && number <= f64::from(MOST) => Ok(number),
        _ => Err(format!("must be a number above 0 and up to {MOST}")),
    }
}

impl Options {
    fn machine(&self) -> Option<Machine> {
        let parts = self.cores.zip(self.memory);
        let custom = parts.map(|(cores, memory)| Machine::custom(cores, self.speed.unwrap_or(1.0), memory, self.disk));
        self.machine.clone().or(custom)
    }
}

pub async fn run(home: &Home, options: &Options) -> Result<String> {
    let host = host(home, options.host.as_deref());
    let asked = Part::reporter(home)?.get::<Capacity>("/api/v1/capacity", &[("host", host)]).await;
    let mut capacity = asked.map_err(told)?;
    if let Some(machine) = options.machine() {
        capacity = capacity.for_machine(&machine);
    }
    match options.format {
        Format { json: true, .. } => crate::as_json(&capacity),
        Format { markdown: true, .. } => Ok(render::markdown_page(&capacity)),
        _ => Ok(render::text(&capacity)),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Line {
        #[command(flatten)]
        options: Options,
    }

    fn machine(line: &str) -> Result<Option<Machine>, String> {
        let parsed = Line::try_parse_from(std::iter::once("capacity").chain(line.split_whitespace()));
        parsed.map(|line| line.options.machine()).map_err(|error| crate::args::one_line(&error))
    }

    #[test]
    fn a_machine_is_named_or_described() {
        assert_eq!(machine("").unwrap(), None);
        assert_eq!(machine("--machine pi5-8gb").unwrap().unwrap().title, "Raspberry Pi 5, 8 GB");
        let custom = machine("--cores 8 --memory 16G --disk 512 --speed 2.5").unwrap().unwrap();
        assert_eq!(custom.title, "8 processors of speed 2.5, 16 GB, 512 GB disk");
        assert_eq!(machine("--cores 8 --memory 16GB").unwrap().unwrap().speed, 1.0);
    }

    #[test]
    fn what_does_not_exist_is_refused_with_what_does() {
        let check = |line: &str, says: &str| {
            let error = machine(line).unwrap_err();
            assert!(error.contains(says), "{error}");
        };
        check("--machine pi9", "choose one of pi3b-plus, pi4-1gb, pi4-2gb");
        check("--machine pi5-8gb --cores 4 --memory 8", "cannot be used with");
        check("--cores 4", "--memory <GB>");
        check("--cores 0 --memory 4", "must be a number above 0 and up to 1024");
        check("--cores NaN --memory 4", "must be a number above 0");
        check("--cores 4 --memory inf", "must be a number above 0 and up to 4096");
        check("--json --markdown", "cannot be used with");
    }
}
