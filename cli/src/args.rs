//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use nexus_model::IncidentState;
use nexus_reporter::notify::Severity;

use crate::heal::Target;
use crate::init::Setting;
use crate::names::ServiceName;
use crate::owner::PauseLength;
use crate::status::Since;

/// Nexus: what runs here, how it is, and what was done about it.
#[derive(Debug, Parser)]
#[command(name = "nexus", version, disable_help_subcommand = true, max_term_width = 100)]
pub struct Cli {
    /// The checkout of Nexus: the folder with compose.yml. Without it, searched from the current folder upwards.
    #[arg(long, global = true, value_name = "DIR", env = "NEXUS_DIRECTORY", hide_env_values = true)]
    pub directory: Option<PathBuf>,
    /// The settings, when they are not in DIR/.env.
    #[arg(long, global = true, value_name = "FILE", env = "NEXUS_ENV_FILE", hide_env_values = true)]
    pub env_file: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show on one screen how everything is, the verdict first
    ///
    /// Exit code 0: healthy. 1: degraded, something is ill and being dealt with. 2: critical, a person is needed. 3: it could not be
    /// told, for a mistake in the flags or the settings. What does not answer is said, and the rest is shown.
    Status {
        /// Print everything as JSON (docs/status.schema.json)
        #[arg(long)]
        json: bool,
        /// Print everything as Markdown, with the lines and commands of all recommendations
        #[arg(long, conflicts_with = "json")]
        markdown: bool,
        /// Tell what was healed since then: 30m, 2h, 3d, a day or a moment; without it, since you last looked at the screen
        #[arg(long, value_name = "TIME")]
        since: Option<Since>,
        /// Only this project; the machine and the parts of Nexus are shown all the same
        #[arg(long)]
        project: Option<String>,
    },
    /// Show how busy this machine usually is, when it is busiest, what takes the most and what is nearest to its limit
    Baseline(crate::baseline::Options),
    /// Tell when disk, memory or CPU run out at the present trend, and what another machine would carry
    Capacity(crate::capacity::Options),
    /// Show the three changes that bring the most, apply those that are safe, take them back, and tell what they brought
    ///
    /// Without a command: shows them. Nothing is changed without your yes (docs/tune.md).
    Tune(crate::tune::Options),
    /// List the incidents, or tell the whole story of one
    Incidents {
        /// One incident: its id, or the end of it that the list shows
        #[arg(conflicts_with_all = ["project", "service", "state", "limit"])]
        id: Option<String>,
        /// Only those of this project
        #[arg(long)]
        project: Option<String>,
        /// Only those of this service
        #[arg(long)]
        service: Option<String>,
        /// Only those in this state: suspect, watching, backoff, restarting, verifying, stabilising, gave_up or closed
        #[arg(long)]
        state: Option<IncidentState>,
        /// At most so many, the newest first
        #[arg(long, default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..=1000))]
        limit: u32,
        /// Of one incident: all that was seen before each attempt, not only the gist of it
        #[arg(long, requires = "id")]
        evidence: bool,
        /// Print JSON, of one incident with all of its evidence
        #[arg(long)]
        json: bool,
    },
    /// Tell how a service is, why something or nothing is done about it, and what you can do
    Why {
        /// PROJECT/SERVICE, or SERVICE alone where only one is called so
        target: ServiceName,
        /// Print the end of its log as well, secrets hidden
        #[arg(long, value_name = "LINES", num_args = 0..=1, default_missing_value = "50", value_parser = clap::value_parser!(u32).range(1..=1000))]
        logs: Option<u32>,
        /// Print JSON, without the log
        #[arg(long, conflicts_with = "logs")]
        json: bool,
    },
    /// Acknowledge a service that was given up or that fails: nobody is told of it any more
    ///
    /// What was given up is left alone until it is well, was recreated, or --retry asks for another go.
    Ack {
        /// An incident's id, the end of it, or PROJECT/SERVICE
        what: String,
        /// Try again with a fresh budget
        #[arg(long)]
        retry: bool,
        /// Kept in the story of the incident
        #[arg(long, value_name = "TEXT")]
        note: Option<String>,
    },
    /// Pause healing of a service, a project or everything for a while
    Pause {
        /// PROJECT or PROJECT/SERVICE; without one everything
        target: Option<Target>,
        /// How long: 30m, 2h or 3d, 30d at most; an hour without it
        #[arg(long = "for", value_name = "TIME")]
        length: Option<PauseLength>,
        /// What for: shown to who asks why nothing happens
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        /// Only list the pauses that hold
        #[arg(long, conflicts_with_all = ["target", "length", "reason"])]
        list: bool,
    },
    /// End a pause before its time
    Resume {
        /// What was paused: PROJECT or PROJECT/SERVICE; without one the pause of everything
        target: Option<Target>,
    },
    /// Send a message to your phone: for scripts and cron jobs
    ///
    /// It goes through Alertmanager to Telegram; to Telegram directly when Alertmanager can't be reached. Exit code 0: one of
    /// them has it. 1: neither took it. 2: the message or the settings have to be mended.
    Notify {
        /// What it is about, in one line of 100 characters at most
        title: String,
        /// What there is to say; `-` reads it from stdin. The first 1700 characters are sent
        text: Option<String>,
        /// How grave it is: info, warning or critical
        #[arg(long, default_value = "info")]
        severity: Severity,
        /// The Compose project that it is about
        #[arg(long)]
        project: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Serve an AI agent on stdin and stdout, by the Model Context Protocol
    ///
    /// Not for typing: an agent starts it and gets tools that tell how everything is, what broke and why. docs/agents.md says how
    /// to add it. Without --act there is no tool that changes anything, and the token that is used can only read.
    Mcp {
        /// Give the agent tools that act too: heal now, pause, resume, acknowledge, notify
        #[arg(long)]
        act: bool,
        /// File with the token of the healer's API; without it secrets/cli/healer_api_read_token, and healer_api_token with --act
        #[arg(long, value_name = "FILE")]
        token_file: Option<PathBuf>,
    },
    /// Set up messages on Telegram
    #[command(subcommand)]
    Telegram(Telegram),
    /// List the services found and the command that switches healing on
    Services,
    /// Switch healing on or off, or list who decided what
    #[command(subcommand)]
    Heal(Heal),
    /// Break a small sample project on purpose and show how it is healed
    Demo {
        /// Leave the sample project running
        #[arg(long)]
        keep: bool,
    },
    /// Measure what Nexus costs here, each figure beside a peer in one run
    #[command(subcommand)]
    Bench(Bench),
    /// Send a test alert through Alertmanager to the healer
    Selftest {
        /// How long it may take
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },
    /// Make .env, the secrets and healer.yml, as far as they are missing (done by `./nexus up`)
    ///
    /// What is there stays, an owner's edits too; keys missing from .env are added at its end.
    Init {
        /// First value of a key of .env; a key that has a value keeps it
        #[arg(long, value_name = "KEY=VALUE")]
        set: Vec<Setting>,
        /// New value of a key of .env, whatever it holds
        #[arg(long, value_name = "KEY=VALUE")]
        replace: Vec<Setting>,
    },
    /// Check and explain what the healer may do, and how hard it tries
    #[command(subcommand)]
    Policy(Policy),
    /// Check or render the configuration (done by `./nexus up`)
    #[command(subcommand)]
    Config(Config),
    /// Bring the database's roles and schema up to date (done by the service `migrate`)
    Migrate(Migrate),
}

#[derive(Debug, Subcommand)]
pub enum Telegram {
    /// Find the chat that gets the messages, send a test message, and write token and chat into the settings
    ///
    /// Asks for the token that @BotFather gave, unless secrets/telegram_bot_token holds one, and waits until you have written to the bot.
    /// Nothing is changed before the test message has arrived.
    Setup {
        /// The chat's number, for who knows it; without it, those who have written to the bot are listed
        #[arg(long, value_name = "NUMBER", allow_negative_numbers = true, value_parser = chat)]
        chat: Option<i64>,
        /// How long to wait until you have written to the bot
        #[arg(long, value_name = "TIME", default_value = "120s", value_parser = duration)]
        wait: Duration,
        /// Ask for a token although there is one
        #[arg(long)]
        new_token: bool,
    },
}

#[derive(Debug, Subcommand)]
pub enum Heal {
    /// Restart it when it is ill
    On {
        /// PROJECT, or PROJECT/SERVICE for one of its services; `./nexus services` lists them
        target: Target,
    },
    /// Leave it alone: no incidents either
    Off {
        /// PROJECT, or PROJECT/SERVICE for one of its services; `./nexus services` lists them
        target: Target,
    },
    /// Watch it only, and write down what would have been done
    Shadow {
        /// PROJECT, or PROJECT/SERVICE for one of its services; `./nexus services` lists them
        target: Target,
    },
    /// Take the switch back, so that label and healer.yml decide again
    Clear {
        /// PROJECT or PROJECT/SERVICE, as it was switched
        target: Target,
    },
    /// Show each service's mode and who decided it
    List,
    /// Show what would have been done for services that are only watched, and whether it would have helped
    ///
    /// A restart would have helped where somebody else restarted the container after it and that proved itself; where nobody
    /// did, it is not known. docs/healing.md has the definition.
    Record {
        /// PROJECT or PROJECT/SERVICE; without one all services
        target: Option<Target>,
        /// How far back: 12h or 30d, 90d at most, or a moment; a week without it
        #[arg(long, value_name = "TIME")]
        since: Option<String>,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
    /// Have one attempt made now, whatever delay, budget, pause or mode says
    Now {
        /// PROJECT/SERVICE, or SERVICE alone where only one is called so
        target: ServiceName,
        /// Also when it is well or was stopped by somebody, or what it needs is not well
        #[arg(long)]
        force: bool,
        /// Wait for the outcome; exit code 1 when it did not help
        #[arg(long)]
        wait: bool,
    },
    /// Tell what would be done now, doing nothing
    Plan {
        /// PROJECT or PROJECT/SERVICE; without one all services
        target: Option<Target>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Bench {
    /// Measure how long it takes from Docker's "unhealthy" to the restart, beside a poller that looks every 5 seconds
    ///
    /// Breaks twins, small containers in projects of their own, with the running stack as it is configured: one is healed
    /// by Nexus, the other by the poller. The healer's brake is not loosened for it, so that 30 trials take over 20 minutes;
    /// the restarts count in it, and the incidents stay on record.
    ///
    /// With `--dependencies` the twins are three services that need each other, and their root stops answering: measured is the
    /// time from the first "unhealthy" of any of them to the restart of the root, and counted what else is restarted.
    Heal {
        /// How often the twins are broken: 30 times, or 12 with --dependencies, which take 12 minutes
        #[arg(long, value_parser = clap::value_parser!(u32).range(1..=1000))]
        trials: Option<u32>,
        /// Break what others need
        #[arg(long)]
        dependencies: bool,
        /// How often the health checks of the three look, in seconds
        #[arg(long, value_name = "SECONDS", requires = "dependencies", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=60))]
        interval: u32,
    },
    /// Measure a storm of alerts on a slow disk, beside a receiver that syncs each post by itself
    ///
    /// Starts a healer of its own with a journal of its own, which sees no containers. Run it through `./nexus bench`, which
    /// brings strace to slow its disk down; it wants root, to ask Docker.
    Ingest {
        /// Posts at once
        #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=10_000))]
        posts: u32,
        /// How many milliseconds longer each fsync takes
        #[arg(long, value_name = "MS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(0..=1000))]
        fsync_delay: u64,
        /// The program of strace, which slows the disk down
        #[arg(long, value_name = "FILE")]
        strace: Option<PathBuf>,
        /// Another healer than bin/nexus-healer
        #[arg(long, value_name = "FILE")]
        healer: Option<PathBuf>,
    },
    /// Measure a scrape of the exporter beside node_exporter, Docker's stats API and the bare reading of the same files
    ///
    /// Starts idle containers under the project nexus-bench, and removes them at the end. Run it through `./nexus bench`,
    /// which brings node_exporter from Debian's package; it wants root, as the exporter on the host does.
    Exporter {
        /// How many containers to start; several numbers, rising, are measured in turn
        #[arg(long, value_name = "N,…", value_delimiter = ',', default_value = "100", value_parser = clap::value_parser!(u32).range(1..=1000))]
        containers: Vec<u32>,
        /// How often each program has its turn
        #[arg(long, default_value_t = 7, value_parser = clap::value_parser!(u32).range(1..=1000))]
        rounds: u32,
        /// Scrapes of each program in a turn
        #[arg(long, default_value_t = 40, value_parser = clap::value_parser!(u32).range(1..=100_000))]
        scrapes: u32,
        /// The program of node_exporter; without it that row is left out
        #[arg(long, value_name = "FILE")]
        node_exporter: Option<PathBuf>,
        /// Another exporter than bin/nexus-exporter
        #[arg(long, value_name = "FILE")]
        exporter: Option<PathBuf>,
    },
}

#[derive(Debug, Subcommand)]
pub enum Config {
    /// Check .env, the secrets and healer.yml; each mistake is one line, and the exit code 2
    Check,
    /// Render the configuration of Alertmanager and the targets of Prometheus; prints the files that changed
    Render,
}

#[derive(Debug, Subcommand)]
pub enum Policy {
    /// Check healer.yml without a healer, and explain it line by line
    ///
    /// Exit code 0: it is right. 2: it is not; each mistake is one line with its line in the file, the key and the mend.
    Check {
        /// Another file than the healer's
        file: Option<PathBuf>,
    },
    /// Show every value that holds for a service and who says so: label, line of healer.yml, switch or default
    Explain {
        /// PROJECT/SERVICE, or the service's name alone where no other has it
        service: String,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub struct Migrate {
    /// The database and its superuser, without password
    #[arg(long = "database.url", value_name = "URL", default_value = "postgres://postgres@postgres/nexus")]
    pub url: String,
    /// File with the superuser's password
    #[arg(long = "database.password-file", value_name = "FILE", default_value = "/run/secrets/superuser_password")]
    pub password_file: PathBuf,
    /// File with the password that the role nexus_healer gets
    #[arg(long = "healer.password-file", value_name = "FILE", default_value = "/run/secrets/healer_password")]
    pub healer_password_file: PathBuf,
    /// File with the password that the role nexus_grafana gets
    #[arg(long = "grafana.password-file", value_name = "FILE", default_value = "/run/secrets/grafana_password")]
    pub grafana_password_file: PathBuf,
    /// File with the password that the role nexus_reporter gets
    #[arg(long = "reporter.password-file", value_name = "FILE", default_value = "/run/secrets/reporter_password")]
    pub reporter_password_file: PathBuf,
    /// File with the password that the role nexus_reader gets
    #[arg(long = "reader.password-file", value_name = "FILE", default_value = "/run/secrets/reader_password")]
    pub reader_password_file: PathBuf,
    /// How long to wait for Postgres
    #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
    pub timeout: Duration,
}

/// Which command was meant, however wrong the rest of the line is.
pub fn command_of(arguments: impl IntoIterator<Item = std::ffi::OsString>) -> Option<String> {
    let lenient = Cli::command().ignore_errors(true);
    lenient.try_get_matches_from(arguments).ok()?.subcommand_name().map(str::to_owned)
}

/// What clap says about a wrong command line, without the usage that it repeats below.
pub fn one_line(error: &clap::Error) -> String {
    let said = error.render().to_string();
    let lines = said.lines().map(str::trim);
    let told = lines.take_while(|line| !line.starts_with("Usage:") && !line.starts_with("For more"));
    // A line of its own there, a part of the sentence here.
    let message: Vec<String> =
        told.map(|line| if line.starts_with("tip:") { format!("({line})") } else { line.to_owned() }).collect();
    let message = message.join(" ");
    let message = message.split_whitespace().collect::<Vec<_>>().join(" ");
    format!("{}: --help tells what there is", message.trim_start_matches("error: "))
}

/// Telegram's number of a chat; groups have negative ones.
fn chat(text: &str) -> Result<i64, String> {
    text.parse().map_err(|_| {
        "must be the chat's number, such as 123456789 or -1001234567890; leave --chat out, and those who have written to the bot are listed".into()
    })
}

/// `90`, `90s` or `5m`.
fn duration(text: &str) -> Result<Duration, String> {
    let (number, factor) = match text.strip_suffix('m') {
        Some(minutes) => (minutes, 60),
        None => (text.strip_suffix('s').unwrap_or(text), 1),
    };
    match number.parse::<u32>() {
        Ok(number) if number > 0 => Ok(Duration::from_secs(u64::from(number) * factor)),
        _ => Err("must be a time such as 90s or 5m".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    /// Each command's help under a heading, in the order of the help.
    fn reference(command: &mut clap::Command, path: &str, out: &mut String) {
        let depth = "#".repeat(path.split(' ').count() + 1);
        let help = command.clone().bin_name(path).term_width(100).render_long_help().to_string();
        let help: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        out.push_str(&format!("\n{depth} {path}\n\n```text\n{}\n```\n", help.join("\n")));
        for inner in command.get_subcommands_mut() {
            // Said once at the top.
            let mut inner = inner.clone().mut_args(|argument| {
                let global = argument.is_global_set();
                argument.hide(global)
            });
            let path = format!("{path} {}", inner.get_name());
            reference(&mut inner, &path, out);
        }
    }

    #[test]
    fn the_reference_is_made_from_the_command_line() {
        let mut text = String::from(
            "# The command line\n\n\
             Made from cli/src/args.rs: `NEXUS_BLESS=1 cargo test -p nexus-cli reference` writes it anew.\n\n\
             `./nexus` itself knows `up`, `down`, `backup`, `restore`, `uninstall`, `logs`, `test` and `help`, and prepares `bench`; everything else it hands to the program described\n\
             here, with `--directory` set. Exit codes: 0 fine, 1 something failed, 2 a mistake in the flags, the settings or the\n\
             configuration; `status` has its own.\n",
        );
        let mut command = Cli::command().disable_help_flag(true).version(None::<&str>);
        command.build();
        reference(&mut command, "nexus", &mut text);
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md");
        if std::env::var_os("NEXUS_BLESS").is_some() {
            std::fs::write(path, &text).unwrap();
        }
        assert!(
            std::fs::read_to_string(path).unwrap() == text,
            "docs/cli.md is stale: run NEXUS_BLESS=1 cargo test -p nexus-cli reference"
        );
    }

    #[test]
    fn a_wrong_command_line_is_one_line() {
        let check = |arguments: &[&str], beginning: &str| {
            let error = Cli::try_parse_from(std::iter::once(&"nexus").chain(arguments)).unwrap_err();
            let line = one_line(&error);
            assert!(line.starts_with(beginning) && !line.contains('\n'), "{line}");
        };
        check(&["status", "--jsno"], "unexpected argument '--jsno' found");
        check(
            &["selftest", "--timeout", "x"],
            "invalid value 'x' for '--timeout <TIME>': must be a time such as 90s or 5m",
        );
        check(
            &["telegram", "setup", "--chat", "abc"],
            "invalid value 'abc' for '--chat <NUMBER>': must be the chat's number, such as 123456789 or -1001234567890;",
        );
        check(&["heal", "on"], "the following required arguments were not provided: <TARGET>");
        check(&["nonsense"], "unrecognized subcommand 'nonsense'");
        // What is mistyped is met with what may have been meant.
        check(&["statsu"], "unrecognized subcommand 'statsu' (tip: a similar subcommand exists: 'status'): ");
    }

    #[test]
    fn the_command_is_known_even_when_its_flags_are_wrong() {
        let check = |line: &str, expected: Option<&str>| {
            let arguments = line.split(' ').map(std::ffi::OsString::from);
            assert_eq!(command_of(arguments).as_deref(), expected, "{line}");
        };
        check("nexus status --jsno", Some("status"));
        check("nexus --directory /x status --since nonsense", Some("status"));
        check("nexus heal --x", Some("heal"));
        check("nexus nonsense", None);
    }

    #[test]
    fn times_are_seconds_or_minutes() {
        for (text, seconds) in [("90", 90), ("90s", 90), ("5m", 300)] {
            assert_eq!(duration(text), Ok(Duration::from_secs(seconds)));
        }
        for wrong in ["", "0", "1h", "-1s", "s"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }
}
